//! Names of all metrics: OpenTelemetry's semantic conventions where they have one, as Prometheus spells them.

/// Duration of HTTP requests by method, route and status: `http.server.request.duration`.
pub const HTTP_SERVER_REQUEST_DURATION: &str = "http_server_request_duration";
/// HTTP requests by route and outcome.
pub const HTTP_REQUESTS: &str = "atoll_http_requests";
/// Bytes of response bodies by route: `http.server.response.body.size`, summed.
pub const HTTP_RESPONSE_BODY_BYTES: &str = "atoll_http_response_body_bytes";

/// 1 if the node is read-write, 0 if it is read-only.
pub const MODE_READ_WRITE: &str = "atoll_mode_read_write";
/// How old this node's view may be, in seconds; absent while unknown.
pub const STALENESS_SECONDS: &str = "atoll_staleness_seconds";
/// The newest revision applied at this node.
pub const APPLIED_REVISION: &str = "atoll_applied_revision";
/// 1 if this node leads the metadata group.
pub const RAFT_LEADER: &str = "atoll_raft_leader";
/// The Raft term.
pub const RAFT_TERM: &str = "atoll_raft_term";
/// The newest entry in this node's log.
pub const RAFT_LAST_LOG_INDEX: &str = "atoll_raft_last_log_index";

/// 1 if the node's disks have room for pushes and fetches.
pub const DISK_HAS_ROOM: &str = "atoll_disk_has_room";
/// What is free on the disk of a folder (`data`, `store`), in bytes.
pub const DISK_FREE_BYTES: &str = "atoll_disk_free_bytes";
/// What that disk has in all, in bytes.
pub const DISK_SIZE_BYTES: &str = "atoll_disk_size_bytes";

/// Blobs that a region wants and does not have.
pub const REPLICATION_LAG_BLOBS: &str = "atoll_replication_lag_blobs";
/// Their bytes.
pub const REPLICATION_LAG_BYTES: &str = "atoll_replication_lag_bytes";
/// Age of the oldest of them, in seconds.
pub const REPLICATION_LAG_OLDEST_SECONDS: &str = "atoll_replication_lag_oldest_age_seconds";
/// 1 if the lag is exact, 0 if this node is cut off and it may be more by now.
pub const REPLICATION_LAG_KNOWN: &str = "atoll_replication_lag_known";
/// Bytes fetched from other regions, by source region.
pub const REPLICATION_FETCHED_BYTES: &str = "atoll_replication_fetched_bytes";
