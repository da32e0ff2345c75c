//! Metrics of one node, in Prometheus' text format.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::names;

/// From a tenth of a millisecond to a minute and a half.
const DURATION_BUCKETS: [f64; 15] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 90.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DurationLabels {
    http_request_method: &'static str,
    http_route: &'static str,
    http_response_status_code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    route: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RegionLabels {
    region: String,
}

/// One answered HTTP request. All labels come from fixed sets, so that their number is bounded.
#[derive(Clone, Copy, Debug)]
pub struct RequestSample {
    /// The method, or `_OTHER`.
    pub method: &'static str,
    /// The route's template, never the path.
    pub route: &'static str,
    /// The status.
    pub status: u16,
    /// Time until the response's head was ready.
    pub duration: Duration,
}

impl RequestSample {
    /// `ok`, `client_error`, `unavailable` (429, 503, 504) or `server_error`.
    pub const fn outcome(&self) -> &'static str {
        match self.status {
            429 | 503 | 504 => "unavailable",
            400..500 => "client_error",
            500.. => "server_error",
            _ => "ok",
        }
    }
}

/// Whether a value can go down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleKind {
    /// Up and down.
    Gauge,
    /// Only up.
    Counter,
}

/// One value, read when metrics are scraped.
#[derive(Clone, Debug)]
pub struct Sample {
    /// One of [`names`].
    pub name: &'static str,
    /// What it is.
    pub help: &'static str,
    /// Gauge or counter.
    pub kind: SampleKind,
    /// Labels from a bounded set, such as regions.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// State that is read when metrics are scraped, rather than counted as things happen. Samples of one name stand
/// together.
pub trait Source: Send + Sync + 'static {
    /// The values now.
    fn samples(&self) -> Vec<Sample>;
}

/// Metrics of one node.
pub struct Metrics {
    registry: parking_lot::RwLock<Registry>,
    durations: Family<DurationLabels, Histogram>,
    requests: Family<OutcomeLabels, Counter>,
    response_bytes: Family<RouteLabels, Counter>,
    fetched_bytes: Family<RegionLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Metrics that count from zero.
    pub fn new() -> Self {
        let durations = Family::new_with_constructor((|| Histogram::new(DURATION_BUCKETS)) as fn() -> Histogram);
        let (requests, response_bytes, fetched_bytes) = (Family::default(), Family::default(), Family::default());
        let mut registry = Registry::default();
        registry.register_with_unit(
            names::HTTP_SERVER_REQUEST_DURATION,
            "Duration of HTTP requests until the response's head",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register(names::HTTP_REQUESTS, "HTTP requests by route and outcome", requests.clone());
        registry.register(names::HTTP_RESPONSE_BODY_BYTES, "Bytes of response bodies", response_bytes.clone());
        registry.register(
            names::REPLICATION_FETCHED_BYTES,
            "Bytes fetched from other regions, by source region",
            fetched_bytes.clone(),
        );
        Self { registry: registry.into(), durations, requests, response_bytes, fetched_bytes }
    }

    /// Adds state that is read at each scrape.
    pub fn watch(&self, source: Arc<dyn Source>) {
        self.registry.write().register_collector(Box::new(Scraped(source)));
    }

    /// Counts a request.
    pub fn record_request(&self, sample: RequestSample) {
        let labels = DurationLabels {
            http_request_method: sample.method,
            http_route: sample.route,
            http_response_status_code: sample.status,
        };
        self.durations.get_or_create(&labels).observe(sample.duration.as_secs_f64());
        self.requests.get_or_create(&OutcomeLabels { route: sample.route, outcome: sample.outcome() }).inc();
    }

    /// Counts bytes of a response's body.
    pub fn record_response_bytes(&self, route: &'static str, bytes: u64) {
        self.response_bytes.get_or_create(&RouteLabels { route }).inc_by(bytes);
    }

    /// Counts bytes that came from another region.
    pub fn record_fetched_bytes(&self, source_region: &str, bytes: u64) {
        self.fetched_bytes.get_or_create(&RegionLabels { region: source_region.to_owned() }).inc_by(bytes);
    }

    /// All of it, in Prometheus' text format.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        prometheus_client::encoding::text::encode(&mut out, &self.registry.read())?;
        Ok(out)
    }
}

struct Scraped(Arc<dyn Source>);

impl fmt::Debug for Scraped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scraped")
    }
}

impl Collector for Scraped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let samples = self.0.samples();
        for group in samples.chunk_by(|a, b| a.name == b.name) {
            let Some(first) = group.first() else { continue };
            let kind = match first.kind {
                SampleKind::Gauge => MetricType::Gauge,
                SampleKind::Counter => MetricType::Counter,
            };
            let mut metric = encoder.encode_descriptor(first.name, first.help, None, kind)?;
            for sample in group {
                let labels = sample.labels.as_slice();
                let family = metric.encode_family(&labels)?;
                match sample.kind {
                    SampleKind::Gauge => ConstGauge::new(sample.value).encode(family)?,
                    SampleKind::Counter => ConstCounter::new(sample.value).encode(family)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Source for Fixed {
        fn samples(&self) -> Vec<Sample> {
            ["eu-west", "us-east"]
                .map(|region| Sample {
                    name: names::REPLICATION_LAG_BLOBS,
                    help: "Blobs that a region wants",
                    kind: SampleKind::Gauge,
                    labels: vec![("region", region.to_owned())],
                    value: 3.0,
                })
                .to_vec()
        }
    }

    #[test]
    fn what_was_counted_is_rendered() {
        let metrics = Metrics::new();
        metrics.watch(Arc::new(Fixed));
        let sample = RequestSample { method: "GET", route: "/v2/", status: 503, duration: Duration::from_millis(2) };
        metrics.record_request(sample);
        metrics.record_fetched_bytes("eu-west", 7);
        let text = metrics.render().unwrap();
        for line in [
            "atoll_http_requests_total{route=\"/v2/\",outcome=\"unavailable\"} 1",
            "atoll_replication_lag_blobs{region=\"us-east\"} 3.0",
            "atoll_replication_fetched_bytes_total{region=\"eu-west\"} 7",
            "http_server_request_duration_seconds_count{http_request_method=\"GET\",http_route=\"/v2/\",http_response_status_code=\"503\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
