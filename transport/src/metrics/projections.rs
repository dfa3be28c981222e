//! What this node knows of its projections, told as Prometheus text. The label is the projection's
//! name: there are as many as the program was started with.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use tidewire_projections::{ProjectionState, ProjectionStats};

/// Every state, so that a change of state is a change of two values.
const STATES: [ProjectionState; 4] = [
    ProjectionState::Running,
    ProjectionState::Stopped,
    ProjectionState::Outdated,
    ProjectionState::Waiting,
];

/// Encodes what there is to say of each projection.
pub(super) fn encode(
    all: &[ProjectionStats],
    to: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    type Gauge = (&'static str, &'static str, fn(&ProjectionStats) -> f64);
    let gauges: [Gauge; 9] = [
        (
            "tidewire_projection_checkpoint_position",
            "Everything through here is in the projection's documents",
            |stats| stats.checkpoint.get() as f64,
        ),
        (
            "tidewire_projection_lag_events",
            "Positions from the projection's checkpoint to the head of the log",
            |stats| stats.lag.events as f64,
        ),
        (
            "tidewire_projection_lag_seconds",
            "The age of the first event that is not in the projection's documents",
            |stats| stats.lag.age.as_secs_f64(),
        ),
        ("tidewire_projection_owned", "Whether this node writes the projection", |stats| {
            f64::from(u8::from(stats.owned))
        }),
        (
            "tidewire_projection_parked_events",
            "Events that the projection has put aside",
            |stats| stats.parked as f64,
        ),
        (
            "tidewire_projection_followers",
            "Live queries and waiting readers of the projection on this node",
            |stats| stats.followers as f64,
        ),
        (
            "tidewire_projection_rebuild_position",
            "How far a rebuild has come; 0 without one",
            |stats| stats.rebuild.map_or(0.0, |rebuild| rebuild.position.get() as f64),
        ),
        (
            "tidewire_projection_rebuild_events_per_second",
            "How fast a rebuild goes; 0 without one",
            |stats| stats.rebuild.map_or(0.0, |rebuild| rebuild.events_per_second),
        ),
        (
            "tidewire_projection_rebuild_left_seconds",
            "How long a rebuild still takes at this pace; 0 without one",
            |stats| {
                let left = stats.rebuild.and_then(|rebuild| rebuild.left);
                left.unwrap_or_default().as_secs_f64()
            },
        ),
    ];
    for (name, help, value) in gauges {
        let mut metric = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for stats in all {
            let labels = [("projection", stats.name.as_str())];
            ConstGauge::new(value(stats)).encode(metric.encode_family(&labels)?)?;
        }
    }

    let mut metric = to.encode_descriptor(
        "tidewire_projection_state",
        "1 for the state that the projection is in",
        None,
        MetricType::Gauge,
    )?;
    for stats in all {
        for state in STATES {
            let labels = [("projection", stats.name.as_str()), ("state", state.as_str())];
            let is_in = i64::from(stats.state == state);
            ConstGauge::new(is_in).encode(metric.encode_family(&labels)?)?;
        }
    }

    type Counter = (&'static str, &'static str, fn(&ProjectionStats) -> u64);
    let counters: [Counter; 5] = [
        ("tidewire_projection_events", "Events projected by this node", |stats| stats.events_total),
        (
            "tidewire_projection_commits",
            "Transactions of documents committed by this node",
            |stats| stats.commits_total,
        ),
        ("tidewire_projection_writes", "Documents written by this node", |stats| {
            stats.writes_total
        }),
        (
            "tidewire_projection_failures",
            "Times that an event could not be projected by this node",
            |stats| stats.poison_total,
        ),
        (
            "tidewire_projection_claims",
            "Times that this node became the projection's owner",
            |stats| stats.claims_total,
        ),
    ];
    for (name, help, value) in counters {
        let mut metric = to.encode_descriptor(name, help, None, MetricType::Counter)?;
        for stats in all {
            let labels = [("projection", stats.name.as_str())];
            ConstCounter::new(value(stats)).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
