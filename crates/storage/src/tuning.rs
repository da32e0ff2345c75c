//! How much memory and how many files RocksDB may use, and how each family is laid out.

use std::ffi::c_int;
use std::path::Path;

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    InfoLogger, LogLevel, LruCacheOptions, Options, WriteBufferManager,
};

use crate::error::{Result, StorageError};

/// Files that one database keeps open.
const OPEN_FILES_MAX: i32 = 256;
/// A family's write buffer in bytes: small, since all of them share one budget.
const FAMILY_BUFFER_BYTES: usize = 8 << 20;
/// Write-ahead log of one database in bytes, beyond which families that are seldom written are flushed.
const WAL_BYTES_MAX: u64 = 64 << 20;
const BLOCK_BYTES: usize = 16 << 10;
/// A part of an index or a filter.
const METADATA_BLOCK_BYTES: usize = 8 << 10;
/// 16 shards.
const CACHE_SHARD_BITS: c_int = 4;
const BLOOM_BITS_PER_KEY: f64 = 10.0;

/// The block cache and the write buffers that a node's two databases share. Cheap to clone.
#[derive(Clone)]
pub struct Resources {
    pub(crate) cache: Cache,
    pub(crate) buffers: WriteBufferManager,
    pub(crate) rows_bytes: u64,
}

impl Resources {
    /// Block cache of a node, in bytes.
    pub const CACHE_BYTES: usize = 96 << 20;
    /// Write buffers of a node, in bytes.
    pub const BUFFER_BYTES: usize = 32 << 20;
    /// Rows of the state that are kept in memory, in bytes: those of a million tags and two million blobs in repositories.
    /// Each that is found there saves a search in RocksDB, whose blocks hold more rows in a byte and take longer to give
    /// one.
    pub const ROWS_BYTES: u64 = 320 << 20;

    /// Resources of given sizes in bytes.
    pub fn new(cache_bytes: usize, buffer_bytes: usize) -> Self {
        Self {
            cache: cache(cache_bytes),
            // Without stalls: a stall that waits for the other database's flush can stand still for long. Over the
            // budget RocksDB flushes early, which is bound enough.
            buffers: WriteBufferManager::new_write_buffer_manager(buffer_bytes, false),
            rows_bytes: Self::ROWS_BYTES,
        }
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self::new(Self::CACHE_BYTES, Self::BUFFER_BYTES)
    }
}

/// Families of the log's database. `default` has the vote, the committed and the purged log id: apart from the
/// entries, so that files of entries never overlap and move down the levels without being rewritten.
pub(crate) const LOG_ENTRIES: &str = "entries";
/// The log's small things.
pub(crate) const LOG_META: &str = "default";

/// Families of the state's database.
pub(crate) const STATE: &str = "state";
/// The replication queue.
pub(crate) const STATE_WANTED: &str = "wanted";
/// Raft's own: last applied, membership, state hash. Outside the state hash.
pub(crate) const STATE_RAFT: &str = "default";

/// Opens the log's database.
pub(crate) fn open_log(path: &Path, resources: &Resources) -> Result<DB> {
    let mut options = database(path, resources)?;
    // Everything acknowledged was synced, so only a torn tail may be dropped; damage before it must not pass silently.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    let families = [(LOG_META, family(resources)), (LOG_ENTRIES, entries_family(resources))];
    open(&options, path, families.into())
}

/// Opens the state's database.
pub(crate) fn open_state(path: &Path, resources: &Resources) -> Result<DB> {
    let mut options = database(path, resources)?;
    // The write-ahead log is not synced: after a power loss the state may be older, but one point in time over all
    // families; it is caught up from the Raft log.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_atomic_flush(true);
    open(&options, path, state_families(resources))
}

/// Opens a checkpoint of the state without writing to it.
pub(crate) fn open_state_read_only(path: &Path, resources: &Resources) -> Result<DB> {
    let options = database(path, resources)?;
    let families = descriptors(state_families(resources));
    DB::open_cf_descriptors_read_only(&options, path, families, false).map_err(StorageError::database("open", path))
}

fn state_families(resources: &Resources) -> Vec<(&'static str, Options)> {
    vec![(STATE_RAFT, family(resources)), (STATE, family(resources)), (STATE_WANTED, wanted_family(resources))]
}

fn open(options: &Options, path: &Path, families: Vec<(&'static str, Options)>) -> Result<DB> {
    DB::open_cf_descriptors(options, path, descriptors(families)).map_err(StorageError::database("open", path))
}

fn descriptors(families: Vec<(&'static str, Options)>) -> Vec<ColumnFamilyDescriptor> {
    families.into_iter().map(|(name, options)| ColumnFamilyDescriptor::new(name, options)).collect()
}

fn database(path: &Path, resources: &Resources) -> Result<Options> {
    // No automatic resume: a flush or sync that failed once is never tried again.
    let mut options = Options::default()
        .get_options_from_string("max_bgerror_resume_count=0")
        .map_err(StorageError::database("configure", path))?;
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_background_jobs(2);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_write_buffer_manager(&resources.buffers);
    options.set_manual_wal_flush(false);
    options.set_bytes_per_sync(1 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_info_logger(logger());
    Ok(options)
}

/// RocksDB's own messages go where all others go, not into a file that grows.
fn logger() -> InfoLogger {
    InfoLogger::new_callback_logger(LogLevel::Warn, |level, message| match level {
        LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "rocksdb", "{}", message.trim_end()),
        LogLevel::Warn => tracing::warn!(target: "rocksdb", "{}", message.trim_end()),
        // The options at each start pass every level, and come as plain information.
        _ => tracing::debug!(target: "rocksdb", "{}", message.trim_end()),
    })
}

/// A cache whose shards hold many of the largest blocks: left to itself, RocksDB makes 64 shards of it, whatever its size.
fn cache(bytes: usize) -> Cache {
    let mut options = LruCacheOptions::default();
    options.set_capacity(bytes);
    options.set_num_shard_bits(CACHE_SHARD_BITS);
    Cache::new_lru_cache_opts(&options)
}

fn family(resources: &Resources) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&resources.cache);
    blocks.set_block_size(BLOCK_BYTES);
    blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    blocks.set_optimize_filters_for_memory(true);
    // Indexes and filters count against the one cache, or they would grow with the state.
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // In parts of some KiB: whole, those of a large file would not fit into a shard of the cache, and be read anew for
    // each look at a key.
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks.set_metadata_block_size(METADATA_BLOCK_BYTES);
    blocks.set_pin_top_level_index_and_filter(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(FAMILY_BUFFER_BYTES);
    options.set_max_write_buffer_number(3);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_target_file_size_base(16 << 20);
    options.set_max_bytes_for_level_base(64 << 20);
    options
}

/// Entries are written once, read in order, and removed from the front by whole files.
fn entries_family(resources: &Resources) -> Options {
    let mut options = family(resources);
    options.set_level_zero_file_num_compaction_trigger(2);
    options
}

/// Keys live for seconds and go in the order they came: files full of tombstones are compacted early.
fn wanted_family(resources: &Resources) -> Options {
    let mut options = family(resources);
    options.add_compact_on_deletion_collector_factory(512, 128, 0.5);
    options.set_level_zero_file_num_compaction_trigger(2);
    options
}
