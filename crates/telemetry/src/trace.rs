//! W3C trace context (`traceparent`) across HTTP, gRPC and the log.

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACE_PARENT: &str = "traceparent";

/// The `traceparent` of the current span; empty when nothing is traced.
pub fn trace_parent() -> String {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&tracing::Span::current().context(), &mut carrier);
    carrier.remove(TRACE_PARENT).unwrap_or_default()
}

/// Makes a span the child of a `traceparent`; an empty or malformed one changes nothing. Call it before the span is
/// entered.
pub fn set_trace_parent(span: &tracing::Span, trace_parent: &str) {
    if trace_parent.is_empty() {
        return;
    }
    let carrier = HashMap::from([(TRACE_PARENT.to_owned(), trace_parent.to_owned())]);
    // A span that is not sampled, or that has begun already, keeps what it has.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&carrier));
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::TracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn a_trace_goes_on_over_a_hop() {
        let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
            let span = tracing::info_span!("hop");
            set_trace_parent(&span, given);
            let carried = span.in_scope(trace_parent);
            assert!(carried.contains("4bf92f3577b34da6a3ce929d0e0e4736"), "{carried}");
            let other = tracing::info_span!("malformed");
            set_trace_parent(&other, "nonsense\r\n");
            assert!(!other.in_scope(trace_parent).contains("nonsense"));
        });
    }

    #[test]
    fn without_a_subscriber_there_is_no_parent() {
        assert_eq!(trace_parent(), "");
    }
}
