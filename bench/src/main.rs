//! `cargo xtask bench`: Atoll and its peers under the same load, on one machine and in one run. It knows them as their
//! clients do: over HTTP and by their command lines.

mod args;
mod content;
mod fsyncs;
mod head;
mod http;
mod latency;
mod limits;
mod listing;
mod machine;
mod measure;
mod memory;
mod process;
mod push;
mod replicate;
mod report;
mod results;
mod rows;
mod run;
mod scale;
mod servers;
mod stats;
mod table;
mod verify;
mod wrk;

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use args::{Cli, Command};

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let Cli { command, run } = Cli::parse();
    let work = async {
        match &command {
            None => run::run(&run).await,
            Some(Command::Scale(scale)) => scale::run(scale).await,
            Some(Command::Report(report)) => report::run(report),
        }
    };
    // Given up in good order: what is dropped ends its servers and removes their data.
    let outcome = tokio::select! {
        outcome = work => outcome,
        signal = ended() => signal.and_then(|()| Err(anyhow::anyhow!("broken off; rows that were measured are kept"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns when this process is told to end.
async fn ended() -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        _ = terminated.recv() => Ok(()),
    }
}
