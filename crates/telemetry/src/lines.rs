//! Log lines on their way to standard error: gathered, so that a request's line costs it no system call.
//!
//! Lines stay in order and none is dropped. A warning or an error is written at once, with all that came before it;
//! what is only information waits for [`GATHER`] at most. A process that is killed outright can lose that much.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line may wait for others.
const GATHER: Duration = Duration::from_millis(50);
/// With so many bytes gathered, whoever adds a line writes them.
const GATHERED_BYTES_MAX: usize = 64 << 10;

type Sink = Box<dyn Write + Send>;

/// Makes writers of log lines.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Shared>);

struct Shared {
    gathered: Mutex<Gathered>,
    /// Told of the first line that is gathered, and of the end.
    changed: Condvar,
}

struct Gathered {
    bytes: Vec<u8>,
    sink: Sink,
    ended: bool,
}

impl Gathered {
    /// Writes what was gathered. A sink that refuses it gets no second try: there is nowhere to say so.
    fn write(&mut self) {
        let _ = self.sink.write_all(&self.bytes).and_then(|()| self.sink.flush());
        self.bytes.clear();
    }
}

/// Writes gathered lines from time to time. Dropped, it writes the last ones; later lines are written one by one.
pub(crate) struct LineWriter {
    lines: Lines,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    /// Lines into a sink, and the thread that writes them.
    pub(crate) fn start(sink: impl Write + Send + 'static) -> io::Result<(Self, LineWriter)> {
        let gathered = Gathered { bytes: Vec::with_capacity(GATHERED_BYTES_MAX), sink: Box::new(sink), ended: false };
        let lines = Self(Arc::new(Shared { gathered: Mutex::new(gathered), changed: Condvar::new() }));
        let shared = lines.clone();
        let thread =
            std::thread::Builder::new().name("log-lines".into()).spawn(move || shared.write_from_time_to_time())?;
        Ok((lines.clone(), LineWriter { lines, thread: Some(thread) }))
    }

    fn write_from_time_to_time(&self) {
        let Shared { gathered, changed } = &*self.0;
        let mut gathered = gathered.lock();
        while !gathered.ended {
            if gathered.bytes.is_empty() {
                changed.wait(&mut gathered);
            } else {
                changed.wait_while_for(&mut gathered, |g| !g.ended, GATHER);
                gathered.write();
            }
        }
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        {
            let mut gathered = self.lines.0.gathered.lock();
            gathered.ended = true;
            gathered.write();
        }
        self.lines.0.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One line, or a part of it.
pub(crate) struct Line<'a> {
    lines: &'a Lines,
    urgent: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, urgent: true }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line { lines: self, urgent: *metadata.level() <= Level::WARN }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut gathered = self.lines.0.gathered.lock();
        let first = gathered.bytes.is_empty();
        gathered.bytes.extend_from_slice(bytes);
        if self.urgent || gathered.ended || gathered.bytes.len() >= GATHERED_BYTES_MAX {
            gathered.write();
        } else if first {
            self.lines.0.changed.notify_one();
        }
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

    fn logging(test: impl FnOnce(&Seen, LineWriter)) {
        let seen = Seen::default();
        let (lines, writer) = Lines::start(seen.clone()).unwrap();
        let layer = tracing_subscriber::fmt::layer().with_writer(lines).with_ansi(false).without_time();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || test(&seen, writer));
    }

    #[test]
    fn lines_come_in_order_and_all_of_them_however_they_are_written() {
        logging(|seen, writer| {
            for number in 0..20_000 {
                if number % 1000 == 999 {
                    tracing::warn!(number, "line");
                    assert!(seen.text().contains(&format!("number={number}\n")), "a warning does not wait");
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
            let start = Instant::now();
            tracing::info!("alone");
            while seen.text().is_empty() {
                assert!(start.elapsed() < Duration::from_secs(60), "never written");
                std::thread::sleep(Duration::from_millis(1));
            }
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
