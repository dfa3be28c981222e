//! Saves: one statement for a batch that parks nothing, else a few in one transaction.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::{Connection as _, PgConnection, Row as _};

use super::{Failure, Shared, acquire, number, position};
use crate::{
    ConsumerError, GlobalPosition, Release, Save,
    consumer::{
        batch::{self, Parking, Verdict},
        text,
    },
};

const LOCK_CONSUMERS: &str = include_str!("../sql/lock_consumers.sql");
const LOCK_PARTITIONS: &str = include_str!("../sql/lock_partitions.sql");
const FIND_PARKED: &str = include_str!("../sql/find_parked.sql");
const SAVE_PROGRESS: &str = include_str!("../sql/save_progress.sql");
const UNPARK_EVENTS: &str = include_str!("../sql/unpark_events.sql");
const PARK_EVENTS: &str = include_str!("../sql/park_events.sql");
const COUNT_PARKED: &str = include_str!("../sql/count_parked.sql");

/// A save, with its place in the batch.
type Placed = (usize, Save);

pub(super) async fn save(
    shared: &Shared,
    saves: Vec<Save>,
) -> Result<Vec<Result<(), ConsumerError>>, Failure> {
    let mut answers = vec![Err(ConsumerError::Fenced); saves.len()];
    if saves.is_empty() {
        return Ok(answers);
    }
    let parks = saves.iter().any(Save::changes_parked);
    let rounds = batch::rounds(saves.into_iter().map(Save::tidied).collect());
    let mut connection = acquire(&shared.progress).await?;
    match rounds.as_slice() {
        [round] if !parks => {
            let counts = vec![true; round.len()];
            let writing = write_progress(&mut connection, round, &counts);
            for place in shared.server.within(writing).await? {
                answers[round[place].0] = Ok(());
            }
        }
        _ => {
            let work = async {
                let mut transaction = connection.begin().await?;
                let mut parking = lock_consumers(&mut transaction, shared, &rounds).await?;
                for round in &rounds {
                    write_round(&mut transaction, round, &mut parking, &mut answers).await?;
                }
                count_parked(&mut transaction, &parking).await?;
                transaction.commit().await
            };
            shared.server.within(work).await?;
        }
    }
    Ok(answers)
}

/// Locks the consumers whose parked events change.
async fn lock_consumers(
    connection: &mut PgConnection,
    shared: &Shared,
    rounds: &[Vec<Placed>],
) -> Result<Parking, sqlx::Error> {
    let mut parking = Parking::new(shared.limits.consumer_parked_max);
    let changing = rounds.iter().flatten().filter(|(_, save)| save.changes_parked());
    let names: HashSet<&str> = changing.map(|(_, save)| save.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    if !names.is_empty() {
        let rows = sqlx::query(LOCK_CONSUMERS).bind(names).fetch_all(connection).await?;
        for row in rows {
            let count: i64 = row.try_get(1)?;
            parking.begin(row.try_get(0)?, u64::try_from(count).unwrap_or_default());
        }
    }
    Ok(parking)
}

/// Writes saves of different partitions.
async fn write_round(
    connection: &mut PgConnection,
    round: &[Placed],
    parking: &mut Parking,
    answers: &mut [Result<(), ConsumerError>],
) -> Result<(), sqlx::Error> {
    let held = lock_partitions(connection, round).await?;
    let parks = |place: &&usize| round[**place].1.changes_parked();
    let changing: Vec<&Save> = held.iter().filter(parks).map(|place| &round[*place].1).collect();
    let mut parked = find_parked(connection, &changing).await?;
    let mut counts = vec![true; round.len()];
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
    write_progress(connection, round, &counts).await?;
    write_parked(connection, &changing).await
}

/// The places of the saves whose partitions are held as they say.
async fn lock_partitions(
    connection: &mut PgConnection,
    round: &[Placed],
) -> Result<Vec<usize>, sqlx::Error> {
    let keys = Keys::new(round);
    let rows = sqlx::query(LOCK_PARTITIONS)
        .bind(&keys.names)
        .bind(&keys.partitions)
        .bind(&keys.members)
        .bind(&keys.fences)
        .fetch_all(connection)
        .await?;
    let mut held = rows.iter().map(|row| place(row, 0)).collect::<Result<Vec<_>, _>>()?;
    held.sort_unstable();
    Ok(held)
}

/// Records checkpoints, attempts and releases; returns the places of the saves that were held.
/// Where `counts` says no, only a release is recorded.
async fn write_progress(
    connection: &mut PgConnection,
    round: &[Placed],
    counts: &[bool],
) -> Result<Vec<usize>, sqlx::Error> {
    let keys = Keys::new(round);
    let saves = || round.iter().map(|(_, save)| save);
    let checkpoints: Vec<i64> = saves().map(|save| number(save.checkpoint.get())).collect();
    let attempts: Vec<String> = saves().map(|save| text::attempts(&save.attempts)).collect();
    let clean: Vec<Option<bool>> =
        saves().map(|save| save.release.map(|release| release == Release::Clean)).collect();
    let rows = sqlx::query(SAVE_PROGRESS)
        .bind(&keys.names)
        .bind(&keys.partitions)
        .bind(&keys.members)
        .bind(&keys.fences)
        .bind(checkpoints)
        .bind(attempts)
        .bind(clean)
        .bind(counts)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| place(row, 0)).collect()
}

/// The positions of these saves that are parked, by consumer.
async fn find_parked(
    connection: &mut PgConnection,
    saves: &[&Save],
) -> Result<HashMap<String, HashSet<GlobalPosition>>, sqlx::Error> {
    let mut parked: HashMap<String, HashSet<GlobalPosition>> = HashMap::new();
    if saves.is_empty() {
        return Ok(parked);
    }
    let (mut names, mut positions) = (Vec::new(), Vec::new());
    for save in saves {
        let parks = save.parked.iter().map(|parked| &parked.position);
        for position in parks.chain(&save.replayed) {
            names.push(save.name.as_str());
            positions.push(number(position.get()));
        }
    }
    let rows = sqlx::query(FIND_PARKED).bind(names).bind(positions).fetch_all(connection).await?;
    for row in rows {
        parked.entry(row.try_get(0)?).or_default().insert(position(row.try_get(1)?));
    }
    Ok(parked)
}

async fn write_parked(connection: &mut PgConnection, saves: &[&Save]) -> Result<(), sqlx::Error> {
    let (mut names, mut positions) = (Vec::new(), Vec::new());
    for save in saves {
        for position in &save.replayed {
            names.push(save.name.as_str());
            positions.push(number(position.get()));
        }
    }
    if !names.is_empty() {
        sqlx::query(UNPARK_EVENTS).bind(names).bind(positions).execute(&mut *connection).await?;
    }
    // A statement may write a row once: of two partitions that claim an event, the last has it.
    let mut rows = BTreeMap::new();
    for save in saves {
        for parked in &save.parked {
            rows.insert((save.name.as_str(), parked.position), (save.partition, parked));
        }
    }
    let (mut names, mut positions, mut partitions) = (Vec::new(), Vec::new(), Vec::new());
    let (mut attempts, mut reasons) = (Vec::new(), Vec::new());
    for ((name, position), (partition, parked)) in rows {
        names.push(name);
        positions.push(number(position.get()));
        partitions.push(i16::from(partition.get()));
        attempts.push(i64::from(parked.attempts));
        reasons.push(parked.reason.as_str());
    }
    if !names.is_empty() {
        sqlx::query(PARK_EVENTS)
            .bind(names)
            .bind(positions)
            .bind(partitions)
            .bind(attempts)
            .bind(reasons)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn count_parked(connection: &mut PgConnection, parking: &Parking) -> Result<(), sqlx::Error> {
    let (names, counts): (Vec<&str>, Vec<i64>) =
        parking.counts().map(|(name, count)| (name, number(count))).unzip();
    if !names.is_empty() {
        sqlx::query(COUNT_PARKED).bind(names).bind(counts).execute(connection).await?;
    }
    Ok(())
}

/// What the partitions of a round are known by, in the order of the round.
struct Keys<'a> {
    names: Vec<&'a str>,
    partitions: Vec<i16>,
    members: Vec<uuid::Uuid>,
    fences: Vec<i64>,
}

impl<'a> Keys<'a> {
    fn new(round: &'a [Placed]) -> Self {
        let saves = || round.iter().map(|(_, save)| save);
        Self {
            names: saves().map(|save| save.name.as_str()).collect(),
            partitions: saves().map(|save| i16::from(save.partition.get())).collect(),
            members: saves().map(|save| save.member.as_uuid()).collect(),
            fences: saves().map(|save| number(save.fence.get())).collect(),
        }
    }
}

/// A place in a round, which the database counts from 1.
fn place(row: &sqlx::postgres::PgRow, column: usize) -> Result<usize, sqlx::Error> {
    let place: i64 = row.try_get(column)?;
    Ok(usize::try_from(place - 1).unwrap_or_default())
}
