//! The composition root: the only place that names concrete parts together. [`run`] reads as the boot checklist.

mod disk;
mod faults;
mod gauges;
mod group;
mod health;
mod listeners;
mod lost_folder;
mod parts;
mod peer_stream;
mod peers;
mod registration;
mod servers;
mod signals;

use std::time::Duration;

use anyhow::Context;
use atoll_telemetry::TelemetryOptions;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::NodeConfig;
use parts::Node;

/// How long the parts may take to end, together.
const STOP_WAIT: Duration = Duration::from_secs(8);
/// How long the runtime may take to end its last blocking work.
const RUNTIME_END_WAIT: Duration = Duration::from_secs(1);

/// Runs a node until it is told to end.
pub(crate) fn run(config: NodeConfig) -> anyhow::Result<()> {
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let telemetry = {
        // The exporter's channel belongs to the runtime.
        let _in_runtime = runtime.enter();
        atoll_telemetry::init(&telemetry_options(&config))?
    };
    let ended = runtime.block_on(serve(config));
    if let Err(error) = &ended {
        tracing::error!(error = format!("{error:#}"), "the node ends");
    }
    telemetry.shutdown();
    runtime.shutdown_timeout(RUNTIME_END_WAIT);
    ended
}

/// Uploads, connections and databases take a descriptor each; the usual soft limit of 1,024 is for programs that use
/// `select`.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // A limit that cannot be raised is the operator's choice.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

async fn serve(config: NodeConfig) -> anyhow::Result<()> {
    faults::arm()?;
    let mut node = Node::start(config).await?;
    let ended = node.ended().await;
    if tokio::time::timeout(STOP_WAIT, node.stop()).await.is_err() {
        tracing::warn!("not all parts have ended in time; what was acknowledged is on the disk");
    }
    ended
}

fn telemetry_options(config: &NodeConfig) -> TelemetryOptions {
    TelemetryOptions {
        filter: config.telemetry.filter.clone(),
        format: config.telemetry.format,
        otlp_endpoint: config.telemetry.otlp_endpoint.clone(),
        instance: config.node.name.to_string(),
        region: config.node.region.to_string(),
    }
}
