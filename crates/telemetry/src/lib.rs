//! What the outside can watch: traces, logs and metrics. The names of all metrics stand in [`names`].
//!
//! Architecture invariant: known by almost everyone, knows nothing of Atoll.

mod init;
mod lines;
mod metrics;
pub mod names;
mod trace;

pub use init::{LogFormat, Telemetry, TelemetryError, TelemetryOptions, init};
pub use metrics::{Metrics, RequestSample, Sample, SampleKind, Source};
pub use trace::{set_trace_parent, trace_parent};
