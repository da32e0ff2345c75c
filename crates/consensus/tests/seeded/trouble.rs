//! What goes wrong where no test would see it, on the nodes' own threads, and the story that is told of a run that
//! fails.

use std::fmt::{self, Write};
use std::panic;
use std::sync::{Arc, Once, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// All runs, for what is known by the name of a thread alone.
static RUNS: Mutex<Vec<Weak<Troubles>>> = Mutex::new(Vec::new());

/// What went wrong in one run, and the story of it.
pub(crate) struct Troubles {
    seed: u64,
    start: Instant,
    told: Mutex<Vec<String>>,
    story: Mutex<Vec<String>>,
}

impl Troubles {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        listen();
        let (told, story) = (Mutex::default(), Mutex::default());
        let troubles = Arc::new(Self { seed, start: Instant::now(), told, story });
        RUNS.lock().push(Arc::downgrade(&troubles));
        troubles
    }

    /// The name of a node's threads, by which their panics and what they log are known.
    pub(crate) fn thread_name(&self, index: usize) -> String {
        format!("seed-{}-node-{}", self.seed, index + 1)
    }

    /// The run that this thread is of, and its node.
    fn of_this_thread() -> Option<(Arc<Self>, String)> {
        let thread = std::thread::current();
        let (seed, node) = thread.name()?.strip_prefix("seed-")?.split_once('-')?;
        let seed: u64 = seed.parse().ok()?;
        let run = RUNS.lock().iter().filter_map(Weak::upgrade).find(|run| run.seed == seed)?;
        Some((run, node.to_owned()))
    }

    /// Something is wrong.
    pub(crate) fn tell(&self, what: String) {
        self.note(&what);
        self.told.lock().push(what);
    }

    /// Something happened.
    pub(crate) fn note(&self, what: &str) {
        let line = format!("{:8.3} s  {what}", self.start.elapsed().as_secs_f64());
        self.story.lock().push(line);
    }

    pub(crate) fn story(&self) -> String {
        self.story.lock().join("\n")
    }

    /// Fails the run when something is wrong.
    pub(crate) fn assert_none(&self) {
        let told = self.told.lock().join("; ");
        assert!(told.is_empty(), "{told}");
    }
}

/// Hears panics of tasks, which their runtime drops without a word, and what the nodes log.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if let Some((run, node)) = Troubles::of_this_thread() {
                run.tell(format!("{node} panicked: {panic}"));
            }
            others(panic);
        }));
        tracing::subscriber::set_global_default(Listener).expect("nobody else listens");
    });
}

/// Puts what nodes log into the story of their run.
struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let most = match metadata.target() {
            target if target.starts_with("atoll") => Level::INFO,
            "rocksdb" => Level::WARN,
            // A peer that does not answer is a warning each time.
            _ => Level::ERROR,
        };
        metadata.is_event() && *metadata.level() <= most
    }

    fn event(&self, event: &Event<'_>) {
        let Some((run, node)) = Troubles::of_this_thread() else { return };
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let mut line = Line(format!("    {node} {level} {target}:"));
        event.record(&mut line);
        run.note(&line.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// An event in one line.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
