//! Saves: a batch is one transaction of few statements, however many saves it has.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sqlx::{Row as _, SqliteConnection};

use super::{Failure, SqliteConsumers, hex, json};
use crate::{
    ConsumerError, GlobalPosition, Release, Save, Timestamp,
    consumer::{
        batch::{self, Parking, Verdict},
        text,
    },
    sqlite::append::unsigned,
};

/// A save, with its place in the batch.
type Placed = (usize, Save);

impl SqliteConsumers {
    pub(super) async fn save_now(
        &self,
        saves: Vec<Save>,
    ) -> Result<Vec<Result<(), ConsumerError>>, Failure> {
        let mut answers = vec![Err(ConsumerError::Fenced); saves.len()];
        if saves.is_empty() {
            return Ok(answers);
        }
        let rounds = batch::rounds(saves.into_iter().map(Save::tidied).collect());
        let mut connection = self.progress.acquire().await?;
        let mut writing = self.write(&mut connection).await?;
        let mut parking = self.count_parked(writing.connection(), &rounds).await?;
        for round in &rounds {
            write_round(writing.connection(), round, &mut parking, &mut answers).await?;
        }
        let counts: Vec<_> = parking.counts().collect();
        if !counts.is_empty() {
            sqlx::query(include_str!("../sql/set_parked.sql"))
                .bind(json(&counts))
                .execute(writing.connection())
                .await?;
        }
        writing.commit().await?;
        Ok(answers)
    }

    /// How many parked events those consumers have whose parked events change.
    async fn count_parked(
        &self,
        connection: &mut SqliteConnection,
        rounds: &[Vec<Placed>],
    ) -> Result<Parking, Failure> {
        let mut parking = Parking::new(self.limits.consumer_parked_max);
        let changing = rounds.iter().flatten().filter(|(_, save)| save.changes_parked());
        let names: BTreeSet<&str> = changing.map(|(_, save)| save.name.as_str()).collect();
        if !names.is_empty() {
            let rows = sqlx::query(include_str!("../sql/count_parked.sql"))
                .bind(json(&names))
                .fetch_all(connection)
                .await?;
            for row in rows {
                parking.begin(row.try_get(0)?, unsigned(row.try_get(1)?));
            }
        }
        Ok(parking)
    }
}

/// Writes saves of different partitions.
async fn write_round(
    connection: &mut SqliteConnection,
    round: &[Placed],
    parking: &mut Parking,
    answers: &mut [Result<(), ConsumerError>],
) -> Result<(), Failure> {
    let mut counts = vec![true; round.len()];
    let held: Vec<i64> = sqlx::query_scalar(include_str!("../sql/find_held.sql"))
        .bind(rows(round, &counts))
        .fetch_all(&mut *connection)
        .await?;
    let mut held: Vec<usize> =
        held.into_iter().filter_map(|key| usize::try_from(key).ok()).collect();
    held.sort_unstable();
    let parks = |place: &&usize| round[**place].1.changes_parked();
    let changing: Vec<&Save> = held.iter().filter(parks).map(|place| &round[*place].1).collect();
    let mut parked = find_parked(connection, &changing).await?;
    let mut changing = Vec::new();
    for place in held {
        let (at, save) = &round[place];
        answers[*at] = Ok(());
        if save.changes_parked() {
            let rows = parked.entry(save.name.as_str().to_owned()).or_default();
            match parking.judge(save, rows) {
                Verdict::Fits => changing.push(save),
                Verdict::TooMany(error) => {
                    counts[place] = false;
                    answers[*at] = Err(error);
                }
            }
        }
    }
    sqlx::query(include_str!("../sql/save_progress.sql"))
        .bind(rows(round, &counts))
        .execute(&mut *connection)
        .await?;
    write_parked(connection, &changing).await
}

/// The rows of a round, as the statements take them.
fn rows(round: &[Placed], counts: &[bool]) -> String {
    let row = |((_, save), counts): (&Placed, &bool)| {
        (
            save.name.clone(),
            save.partition.get(),
            hex(save.member),
            save.fence.get(),
            save.checkpoint,
            text::attempts(&save.attempts),
            save.release.map(|release| release == Release::Clean),
            *counts,
        )
    };
    json(&round.iter().zip(counts).map(row).collect::<Vec<_>>())
}

/// The positions of these saves that are parked, by consumer.
async fn find_parked(
    connection: &mut SqliteConnection,
    saves: &[&Save],
) -> Result<HashMap<String, HashSet<GlobalPosition>>, Failure> {
    let mut parked: HashMap<String, HashSet<GlobalPosition>> = HashMap::new();
    let mut pairs = Vec::new();
    for save in saves {
        let parks = save.parked.iter().map(|parked| &parked.position);
        pairs.extend(parks.chain(&save.replayed).map(|position| (&save.name, *position)));
    }
    if pairs.is_empty() {
        return Ok(parked);
    }
    let rows = sqlx::query(include_str!("../sql/find_parked.sql"))
        .bind(json(&pairs))
        .fetch_all(connection)
        .await?;
    for row in rows {
        let position = GlobalPosition::new(unsigned(row.try_get(1)?));
        parked.entry(row.try_get(0)?).or_default().insert(position);
    }
    Ok(parked)
}

async fn write_parked(connection: &mut SqliteConnection, saves: &[&Save]) -> Result<(), Failure> {
    let mut gone = Vec::new();
    for save in saves {
        gone.extend(save.replayed.iter().map(|position| (&save.name, *position)));
    }
    if !gone.is_empty() {
        sqlx::query(include_str!("../sql/unpark_events.sql"))
            .bind(json(&gone))
            .execute(&mut *connection)
            .await?;
    }
    // Of two partitions that claim an event, the last has it.
    let mut rows = BTreeMap::new();
    for save in saves {
        for parked in &save.parked {
            let row = (save.partition.get(), parked.attempts, parked.reason.as_str());
            rows.insert((&save.name, parked.position), row);
        }
    }
    if !rows.is_empty() {
        let rows: Vec<_> = rows
            .into_iter()
            .map(|((name, position), (partition, attempts, reason))| {
                (name, position, partition, attempts, reason)
            })
            .collect();
        sqlx::query(include_str!("../sql/park_events.sql"))
            .bind(json(&rows))
            .bind(Timestamp::now().as_micros())
            .execute(connection)
            .await?;
    }
    Ok(())
}
