//! Starting and stopping of logs and traces.

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::lines::{LineWriter, Lines};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What to log and where to send traces.
#[derive(Clone, Debug)]
pub struct TelemetryOptions {
    /// A filter as `tracing_subscriber::EnvFilter` reads it, such as `info,atoll_consensus=debug`.
    pub filter: String,
    /// How log lines look.
    pub format: LogFormat,
    /// An OTLP gRPC endpoint such as `http://127.0.0.1:4317`; no traces are made without one.
    pub otlp_endpoint: Option<String>,
    /// `service.instance.id`: the node's name.
    pub instance: String,
    /// `cloud.region`: the node's region.
    pub region: String,
}

/// Why telemetry did not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("the log filter {filter:?} cannot be read: {reason}; write something like info,atoll_http=debug")]
    Filter {
        /// As configured.
        filter: String,
        /// Why.
        reason: String,
    },
    /// The exporter cannot be made.
    #[error("traces cannot be exported to {endpoint}: {reason}")]
    Exporter {
        /// As configured.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// The thread that writes log lines did not start.
    #[error("the thread that writes log lines cannot be started: {0}")]
    Lines(#[source] std::io::Error),
    /// Another subscriber is installed already.
    #[error("telemetry is started already: {0}")]
    Started(String),
}

/// Sends the last traces and writes the last lines when it is shut down.
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    lines: LineWriter,
}

impl Telemetry {
    /// Sends what is still buffered. Call it off the runtime's workers: the exporter waits for them.
    pub fn shutdown(self) {
        if let Some(provider) = self.traces
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces were not exported");
        }
        drop(self.lines);
    }
}

/// Starts logs on standard error and, where an endpoint is configured, the export of traces.
pub fn init(options: &TelemetryOptions) -> Result<Telemetry, TelemetryError> {
    let filter = EnvFilter::try_new(&options.filter)
        .map_err(|e| TelemetryError::Filter { filter: options.filter.clone(), reason: e.to_string() })?;
    let missing = match options.format {
        LogFormat::Text => missing_as_text,
        LogFormat::Json => missing_as_json,
    };
    let (lines, writer) = Lines::start(std::io::stderr(), missing).map_err(TelemetryError::Lines)?;
    let layer = tracing_subscriber::fmt::layer().with_writer(lines).with_ansi(false);
    let layer = match options.format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let provider = options.otlp_endpoint.as_deref().map(|e| exporter(e, options)).transpose()?;
    let traces = provider.as_ref().map(|p| tracing_opentelemetry::layer().with_tracer(p.tracer("atoll")));
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .with(traces)
        .try_init()
        .map_err(|e| TelemetryError::Started(e.to_string()))?;
    Ok(Telemetry { traces: provider, lines: writer })
}

/// Stands for lines that were dropped while nobody read standard error.
fn missing_as_text(lines: u64) -> String {
    format!("WARN {lines} log lines are missing here: standard error was not read\n")
}

fn missing_as_json(lines: u64) -> String {
    let message = format!("{lines} log lines are missing here: standard error was not read");
    format!("{{\"level\":\"WARN\",\"message\":\"{message}\",\"lines\":{lines}}}\n")
}

fn exporter(endpoint: &str, options: &TelemetryOptions) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|e| TelemetryError::Exporter { endpoint: endpoint.to_owned(), reason: e.to_string() })?;
    let resource = Resource::builder()
        .with_service_name("atoll")
        .with_attribute(opentelemetry::KeyValue::new("service.instance.id", options.instance.clone()))
        .with_attribute(opentelemetry::KeyValue::new("cloud.region", options.region.clone()))
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}
