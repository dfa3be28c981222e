//! `tidewire projections rebuild --wait`: asks for a rebuild and shows how it goes.

use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use tidewire_eventstore::ProjectionName;
use tidewire_projections::documents::Wish;

use super::{
    place::Place,
    row::{BuildingRow, ProjectionRow},
};
use crate::exit::{Reason, failure};

/// Between two looks at the progress.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long an owner may take to begin before somebody is told that it has not.
const BEGIN_WITHIN: Duration = Duration::from_secs(10);

/// What one look at a projection says of a rebuild.
#[derive(Debug, PartialEq, Eq)]
enum Outlook {
    /// Nobody has begun.
    Waiting,
    /// So many of so many events.
    Building { position: u64, head: u64 },
    /// The new documents are in place.
    Done,
    /// It will not go on by itself.
    Stopped(String),
    /// It was given up.
    Cancelled,
}

/// Asks for a rebuild and waits until the new documents have taken the place of the old.
pub(super) async fn wait(place: &Place, name: &ProjectionName) -> Result<()> {
    let before = place.projection(name).await?;
    let began_at = Instant::now();
    place.wish(name, Wish::Rebuild).await?;
    let progress = progress_bar(before.head);
    let outcome = watch(place, name, &before, &progress).await;
    progress.finish_and_clear();
    let after = outcome?;
    println!(
        "rebuilt {name} through position {} in {:.1} s: generation {} is read now",
        HumanCount(after.checkpoint),
        began_at.elapsed().as_secs_f64(),
        after.generation
    );
    Ok(())
}

async fn watch(
    place: &Place,
    name: &ProjectionName,
    before: &ProjectionRow,
    progress: &ProgressBar,
) -> Result<ProjectionRow> {
    let mut has_begun = false;
    let mut look = tokio::time::interval(LOOK_EVERY);
    let asked_at = Instant::now();
    let mut is_told = false;
    loop {
        look.tick().await;
        let row = place.projection(name).await?;
        match outlook(before, &row, has_begun) {
            Outlook::Waiting => {
                if !is_told && asked_at.elapsed() > BEGIN_WITHIN {
                    is_told = true;
                    progress.suspend(|| {
                        eprintln!("no server that has {name} in its settings has begun yet");
                    });
                }
            }
            Outlook::Building { position, head } => {
                has_begun = true;
                show(progress, position, head);
            }
            Outlook::Done => return Ok(row),
            Outlook::Stopped(why) => {
                let text = format!("the rebuild of {name} {why}");
                return Err(failure(Reason::Failed, text));
            }
            Outlook::Cancelled => {
                let text = format!("the rebuild of {name} was given up");
                return Err(failure(Reason::Failed, text));
            }
        }
    }
}

fn outlook(before: &ProjectionRow, now: &ProjectionRow, has_begun: bool) -> Outlook {
    let is_older = |building: &BuildingRow| building.generation == now.generation;
    if now.generation != before.generation && !before.building.as_ref().is_some_and(is_older) {
        return Outlook::Done;
    }
    match &now.building {
        Some(building) => match &building.stopped {
            Some(stopped) => Outlook::Stopped(stopped.line()),
            None => Outlook::Building { position: building.position, head: building.head },
        },
        None if has_begun && now.wish.is_none() => Outlook::Cancelled,
        None => Outlook::Waiting,
    }
}

fn show(progress: &ProgressBar, position: u64, head: u64) {
    progress.set_length(head);
    progress.set_position(position);
    let rate = position as f64 / progress.elapsed().as_secs_f64().max(0.001);
    let left = Duration::try_from_secs_f64(head.saturating_sub(position) as f64 / rate.max(1.0));
    progress.set_message(format!(
        "{} of {} events, {}/s, {} left",
        HumanCount(position),
        HumanCount(head),
        HumanCount(rate as u64),
        HumanDuration(left.unwrap_or(Duration::MAX))
    ));
}

/// Drawn on standard error, and only if that is a terminal.
fn progress_bar(head: u64) -> ProgressBar {
    let bar = ProgressBar::new(head);
    let template = "{bar:32} {percent:>3}%  {msg}";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
    bar.set_message("waiting for the projection's owner");
    bar.enable_steady_tick(LOOK_EVERY);
    bar
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn row(generation: u64, building: Value, wish: Value) -> ProjectionRow {
        serde_json::from_value(json!({
            "name": "totals", "state": "live", "version": 1, "generation": generation,
            "checkpoint": 10, "head": 10, "lag_events": 0, "parked": 0,
            "building": building, "wish": wish,
        }))
        .unwrap()
    }

    #[test]
    fn a_rebuild_is_over_when_another_generation_is_read_and_not_before() {
        let building = |stopped: Value| {
            json!({"generation": 4, "version": 1, "position": 7, "head": 10, "parked": 0,
                   "stopped": stopped})
        };
        let before = row(3, Value::Null, Value::Null);
        let stopped = building(json!({"position": 8, "reason": "no\nnumber"}));
        let why = "stopped at position 8: no number".to_owned();
        for (now, has_begun, expected) in [
            (row(3, Value::Null, json!("rebuild")), false, Outlook::Waiting),
            (row(3, Value::Null, Value::Null), false, Outlook::Waiting),
            (
                row(3, building(Value::Null), json!("rebuild")),
                false,
                Outlook::Building { position: 7, head: 10 },
            ),
            (row(3, stopped, Value::Null), true, Outlook::Stopped(why)),
            (row(3, Value::Null, Value::Null), true, Outlook::Cancelled),
            (row(4, Value::Null, Value::Null), true, Outlook::Done),
            (row(4, Value::Null, Value::Null), false, Outlook::Done),
        ] {
            assert_eq!(outlook(&before, &now, has_begun), expected, "{now:?}");
        }

        let older = row(3, building(Value::Null), Value::Null);
        let swapped = row(4, Value::Null, json!("rebuild"));
        assert_eq!(outlook(&older, &swapped, false), Outlook::Waiting, "one that ran before");
    }
}
