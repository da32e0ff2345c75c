//! Log lines on their way to standard error: gathered, so that a request's line costs it no system call.
//!
//! A thread writes them, in their order. A warning or an error is written at once, with all that came before it, and its
//! caller waits for that; what is only information waits for [`GATHER`] at most. A process that is killed outright can
//! lose that much. Where nobody reads standard error, nobody waits for it: callers go on, lines are kept as far as there
//! is room, and those that are dropped are counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line may wait for others.
const GATHER: Duration = Duration::from_millis(50);
/// So many bytes do not wait for more.
const GATHERED_BYTES_MAX: usize = 64 << 10;
/// So many are kept while nobody reads; what comes then is dropped.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// How long a warning's caller waits for it to be written: it may be one of few threads.
const WARNING_WAIT: Duration = Duration::from_millis(100);
/// How long the process waits at its end for what is left.
const END_WAIT: Duration = Duration::from_secs(2);

type Sink = Box<dyn Write + Send>;
/// The line that stands for so many that were dropped.
type Missing = fn(u64) -> String;

/// Makes writers of log lines.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Shared>);

struct Shared {
    gathered: Mutex<Gathered>,
    /// Told of the first line that is gathered, of what must not wait, and of the end.
    changed: Condvar,
    /// Told of what is written.
    written: Condvar,
    /// Held while it is written to, which lasts for as long as nobody reads.
    sink: Mutex<Sink>,
    missing: Missing,
}

#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// Lines since the last write for which there was no room.
    dropped: u64,
    /// Bytes that were ever gathered, and ever written.
    added: u64,
    done: u64,
    /// It must not wait for more.
    is_due: bool,
    /// Somebody has waited in vain.
    is_stuck: bool,
    ended: bool,
}

/// Writes gathered lines. Dropped, it writes the last ones; later lines are written one by one.
pub(crate) struct LineWriter {
    lines: Lines,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    /// Lines into a sink, and the thread that writes them.
    pub(crate) fn start(sink: impl Write + Send + 'static, missing: Missing) -> io::Result<(Self, LineWriter)> {
        let lines = Self(Arc::new(Shared {
            gathered: Mutex::default(),
            changed: Condvar::new(),
            written: Condvar::new(),
            sink: Mutex::new(Box::new(sink)),
            missing,
        }));
        let writing = lines.clone();
        let thread = std::thread::Builder::new().name("log-lines".into()).spawn(move || writing.write_all())?;
        Ok((lines.clone(), LineWriter { lines, thread: Some(thread) }))
    }

    fn write_all(&self) {
        let Shared { gathered, changed, written, missing, .. } = &*self.0;
        let mut taken = Vec::with_capacity(GATHERED_BYTES_MAX);
        let mut now = gathered.lock();
        loop {
            if now.bytes.is_empty() && now.dropped == 0 {
                if now.ended {
                    return;
                }
                changed.wait(&mut now);
                continue;
            }
            changed.wait_while_for(&mut now, |g| !g.ended && !g.is_due, GATHER);
            now.is_due = false;
            std::mem::swap(&mut now.bytes, &mut taken);
            let (length, dropped) = (taken.len() as u64, std::mem::take(&mut now.dropped));
            drop(now);
            if dropped > 0 {
                taken.extend_from_slice(missing(dropped).as_bytes());
            }
            write(&mut self.0.sink.lock(), &taken);
            taken.clear();
            now = gathered.lock();
            now.done += length;
            // One that only reads slowly is as good as none until it has caught up.
            now.is_stuck &= now.done < now.added;
            written.notify_all();
        }
    }

    /// Adds a line, and waits until an urgent one is written, unless nobody reads.
    fn add(&self, bytes: &[u8], is_urgent: bool) {
        let Shared { gathered, changed, written, .. } = &*self.0;
        let mut now = gathered.lock();
        if now.ended {
            drop(now);
            // The thread may hold it for ever.
            if let Some(mut sink) = self.0.sink.try_lock_for(END_WAIT) {
                write(&mut sink, bytes);
            }
            return;
        }
        if now.bytes.len() + bytes.len() > KEPT_BYTES_MAX {
            now.dropped += 1;
            return;
        }
        let is_first = now.bytes.is_empty();
        now.bytes.extend_from_slice(bytes);
        now.added += bytes.len() as u64;
        now.is_due |= is_urgent || now.bytes.len() >= GATHERED_BYTES_MAX;
        if is_first || now.is_due {
            changed.notify_one();
        }
        if is_urgent && !now.is_stuck {
            let (target, until) = (now.added, Instant::now() + WARNING_WAIT);
            let waited = written.wait_while_until(&mut now, |g| g.done < target, until);
            now.is_stuck |= waited.timed_out();
        }
    }
}

/// A sink that refuses it gets no second try: there is nowhere to say so.
fn write(sink: &mut Sink, bytes: &[u8]) {
    let _ = sink.write_all(bytes).and_then(|()| sink.flush());
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        let Shared { gathered, changed, written, .. } = &*self.lines.0;
        let mut now = gathered.lock();
        now.ended = true;
        changed.notify_all();
        let until = Instant::now() + END_WAIT;
        let waited = written.wait_while_until(&mut now, |g| g.done < g.added, until);
        drop(now);
        // One that cannot write ends with the process.
        if let Some(thread) = self.thread.take().filter(|_| !waited.timed_out()) {
            let _ = thread.join();
        }
    }
}

/// One line.
pub(crate) struct Line<'a> {
    lines: &'a Lines,
    is_urgent: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, is_urgent: true }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line { lines: self, is_urgent: *metadata.level() <= Level::WARN }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lines.add(bytes, self.is_urgent);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Seen {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().0.clone()).unwrap()
        }

        fn wait_for(&self, text: &str) {
            let start = Instant::now();
            while !self.text().contains(text) {
                assert!(start.elapsed() < Duration::from_secs(60), "never written: {text}");
                std::thread::sleep(Duration::from_millis(1));
            }
        }

        fn writes(&self) -> usize {
            self.0.lock().1
        }
    }

    impl Write for Seen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut seen = self.0.lock();
            seen.0.extend_from_slice(bytes);
            seen.1 += 1;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Nobody reads it until it is told so.
    #[derive(Clone, Default)]
    struct Stuck(Seen, Arc<(Mutex<bool>, Condvar)>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (reads, changed) = &*self.1;
            changed.wait_while(&mut reads.lock(), |reads| !*reads);
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read_and_what_is_dropped_is_counted() {
        let stuck = Stuck::default();
        let (lines, writer) = Lines::start(stuck.clone(), |lines| format!("{lines} are missing\n")).unwrap();
        let start = Instant::now();
        let line = [b'x'; 1023];
        for _ in 0..4_000 {
            lines.add(&line, true);
        }
        assert!(start.elapsed() < Duration::from_secs(60), "only the first one waits");
        *stuck.1.0.lock() = true;
        stuck.1.1.notify_all();
        drop(writer);
        stuck.0.wait_for(" are missing");
        let told = stuck.0.text();
        let missing: usize = told.split_once(" are missing").unwrap().0.rsplit('x').next().unwrap().parse().unwrap();
        let kept = told.matches('x').count() / line.len();
        assert_eq!(kept + missing, 4_000, "{kept} kept, {missing} missing");
        assert!(kept * line.len() <= 2 * KEPT_BYTES_MAX, "{kept}");
    }

    fn logging(test: impl FnOnce(&Seen, LineWriter)) {
        let seen = Seen::default();
        let (lines, writer) = Lines::start(seen.clone(), |lines| format!("{lines} lines are missing\n")).unwrap();
        let layer = tracing_subscriber::fmt::layer().with_writer(lines).with_ansi(false).without_time();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || test(&seen, writer));
    }

    #[test]
    fn lines_come_in_order_and_all_of_them_however_they_are_written() {
        logging(|seen, writer| {
            for number in 0..20_000 {
                if number % 1000 == 999 {
                    tracing::warn!(number, "line");
                    seen.wait_for(&format!("number={number}\n"));
                } else {
                    tracing::info!(number, "line");
                }
            }
            drop(writer);
            let numbers = seen.text();
            let numbers = numbers.lines().map(|line| line.rsplit_once('=').unwrap().1.parse::<usize>().unwrap());
            assert!(numbers.eq(0..20_000));
            assert!(seen.writes() < 1000, "{} writes of 20,000 lines", seen.writes());
        });
    }

    #[test]
    fn a_line_alone_is_written_soon() {
        logging(|seen, _writer| {
            tracing::info!("alone");
            seen.wait_for("alone");
        });
    }

    #[test]
    fn what_is_logged_after_the_end_is_written_too() {
        logging(|seen, writer| {
            drop(writer);
            tracing::info!("late");
            assert!(seen.text().contains("late"));
        });
    }
}
