//! What the server has done and what it has in hand, for Prometheus and whatever reads its format.

use axum::extract::State;
use http::header::CONTENT_TYPE;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};

use crate::{App, problem::Problem};

type Labels = Vec<(&'static str, &'static str)>;

/// The media type of the OpenMetrics text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Counts what happened since the start, and what goes on
///
/// In the text format of OpenMetrics, which Prometheus reads. Counters begin at zero with the server. Nothing here names
/// a job or an agent.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "health",
    responses(
        (status = 200, description = "One line each", body = String, content_type = "application/openmetrics-text"),
    )
)]
pub(super) async fn metrics(
    State(app): State<App>,
) -> Result<([(http::HeaderName, &'static str); 1], String), Problem> {
    let mut registry = Registry::with_prefix("kanade");
    let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The server", version);
    for family in app.services.counters.read() {
        let metric = Family::<Labels, Counter>::default();
        for (value, count) in family.counts {
            let labels = family.label.map(|label| (label, value));
            metric.get_or_create(&Vec::from_iter(labels)).inc_by(count);
        }
        registry.register(family.name, family.help, metric);
    }
    let bus = app.services.bus_record();
    for (name, help, count) in [
        ("bus_outages", "Times that the bus was lost", bus.outages),
        (
            "bus_messages_dropped",
            "Messages that came faster than they were taken",
            bus.dropped,
        ),
    ] {
        let counter = Counter::<u64>::default();
        counter.inc_by(count);
        registry.register(name, help, counter);
    }

    let live = app
        .services
        .store
        .live_counts()
        .await
        .map_err(kanade_core::Error::from)?;
    let executions = gauges(
        "status",
        &[
            ("running", live.values().map(|live| live.running).sum()),
            ("pending", live.values().map(|live| live.pending).sum()),
        ],
    );
    registry.register("executions", "Executions that are not at their end", executions);
    let agents = app.services.fleet.agents().await?;
    let agents = gauges("state", &[("active", agents.active), ("stale", agents.stale)]);
    registry.register("agents", "Agents that have ever shown life", agents);

    let mut text = String::new();
    encode(&mut text, &registry).expect("a String takes everything");
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], text))
}

fn gauges(label: &'static str, values: &[(&'static str, u64)]) -> Family<Labels, Gauge> {
    let metric = Family::<Labels, Gauge>::default();
    for (value, count) in values {
        metric
            .get_or_create(&vec![(label, *value)])
            .set(i64::try_from(*count).unwrap_or(i64::MAX));
    }
    metric
}
