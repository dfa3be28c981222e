//! What SQLite does by itself when it runs out of room, and what is left of it.

use super::*;
use crate::{EventStore, Sharing, SqliteOptions, SqliteStore, Target};

/// A COMMIT for which there is no room ends the transaction, and SQLite says so by an error; the
/// connection then takes itself to be in one for ever, because its own ROLLBACK fails.
#[tokio::test]
async fn a_transaction_that_sqlite_has_ended_by_itself_does_no_lasting_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let store = SqliteStore::open(path, SqliteOptions::tool()).await.unwrap();
    let consumers = &store.consumers;
    for pool in [&consumers.claims, &consumers.progress] {
        let mut connection = pool.acquire().await.unwrap();
        let Ok(mut writing) = consumers.write(&mut connection).await else {
            panic!("there is nothing in its way");
        };
        sqlx::query("ROLLBACK").execute(writing.connection()).await.unwrap();
    }
    let claim = Claim {
        name: ConsumerName::new("mail").unwrap(),
        sharing: Sharing::Exclusive,
        member: MemberId::generate(),
        node: "n".into(),
        target: Target::All,
        filter: None,
        after: GlobalPosition::START,
    };
    let held = Holding { name: claim.name.clone(), member: claim.member, partitions: Vec::new() };
    consumers.claim(claim).await.expect("it is claimed on a connection that is sound");
    consumers.keep(vec![held]).await.expect("it is kept on a connection that is sound");
    store.close().await;
}
