//! Several at once: one of them wins, and nothing is applied twice.

use std::time::Duration;

use serde_json::Value;
use tidewire_protocol::query::OrderDirection;

use super::{
    LONG, Nodes, at, name, status,
    writing::{BY_NUMBER, Writer, document, owner, text},
};
use crate::{
    StoreError,
    documents::{Held, Scan},
};

/// Of many who claim a free projection at once, one gets it.
pub async fn one_of_many_claims_wins(nodes: Nodes) {
    nodes.one.register(&name("board"), 1).await.expect("registered");
    for round in 0..10 {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..8 {
            let node = if number % 2 == 0 { nodes.one.clone() } else { nodes.other.clone() };
            tasks.spawn(async move {
                node.claim(&name("board"), owner("rival"), LONG).await.expect("it answers")
            });
        }
        let won: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(won.len(), 1, "round {round}: {won:?}");
        assert_eq!(status(&*nodes.one, "board").await.fence, won[0]);
        let held = Held { name: name("board"), fence: won[0] };
        nodes.one.release(&held).await.expect("released");
    }
}

/// Of two commits from the same checkpoint, one takes effect, whole.
pub async fn one_of_two_commits_wins(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    for round in 0..40_u64 {
        let mut tasks = tokio::task::JoinSet::new();
        for (side, node) in [("left", nodes.one.clone()), ("right", nodes.other.clone())] {
            let mut rival = writer.clone();
            let value = document(side, round as i64);
            let writes = ["a", "b"].map(|of| rival.change(round + 1, of, Some(&value)));
            let commit = rival.to(round + 1, writes.into());
            tasks.spawn(async move { (side, rival, node.commit(commit).await) });
        }
        let (won, lost): (Vec<_>, Vec<_>) =
            tasks.join_all().await.into_iter().partition(|(_, _, result)| result.is_ok());
        assert_eq!((won.len(), lost.len()), (1, 1), "round {round}");
        assert_eq!(lost[0].2, Err(StoreError::Conflict), "round {round}");
        for found in writer.documents(&["a", "b"]).await {
            assert_eq!(found.data, text(&document(won[0].0, round as i64)));
        }
        writer = won.into_iter().next().expect("one").1;
        writer.at = round + 1;
    }
}

/// While a projection changes hands, either the last commit of the old owner counts or it is
/// refused; the new owner goes on from what counts.
pub async fn one_of_two_owners_wins(nodes: Nodes) {
    let mut old = Writer::new(&nodes.one, "board").await;
    for round in 0..40_u64 {
        nodes.one.renew(&old.held, Duration::from_micros(1)).await.expect("nobody came yet");
        while status(&*nodes.other, "board").await.owner.is_some() {
            tokio::task::yield_now().await;
        }
        let from = old.at;
        let mut late = old.clone();
        let write = late.change(from + 1, "a", Some(&document("old", round as i64)));
        let commit = late.to(from + 1, vec![write]);
        let (last, fence) = tokio::join!(
            nodes.one.commit(commit),
            nodes.other.claim(&name("board"), owner("new"), LONG),
        );
        let fence = fence.expect("the store answers").expect("the lease had run out");
        let reached = status(&*nodes.one, "board").await.active.checkpoint;
        // Which of the two comes first is chance.
        let mut new = match last {
            Ok(()) => {
                assert_eq!(reached, at(from + 1), "round {round}");
                late.under(fence)
            }
            Err(error) => {
                assert_eq!((error, reached), (StoreError::Fenced, at(from)), "round {round}");
                old.under(fence)
            }
        };
        new.at = reached.get();
        new.put("a", &document("new", round as i64)).await;
        old = new;
    }
    let by_number = Scan::Index {
        index: BY_NUMBER,
        prefix: Default::default(),
        direction: OrderDirection::Ascending,
    };
    assert_eq!(old.page(&by_number, None, 10).await.documents.len(), 1, "one entry is left");
}

/// Counters that several owners raise in turns, each as fast as it can and with no regard for
/// the others, come out as the checkpoint says.
pub async fn everybody_counts_once(nodes: Nodes) {
    const EACH: u64 = 60;
    let first = Writer::new(&nodes.one, "board").await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..4 {
        let node = if number % 2 == 0 { nodes.one.clone() } else { nodes.other.clone() };
        let mut me = Writer { store: node, ..first.clone() };
        tasks.spawn(async move {
            let mut done = 0;
            while done < EACH {
                let reached = status(&*me.store, "board").await.active.checkpoint;
                let stood = me.documents(&["sum"]).await.pop();
                let count = stood.map_or(0, |found| {
                    let value: Value = serde_json::from_slice(&found.data).expect("a document");
                    value["number"].as_u64().expect("a number")
                });
                me.at = reached.get();
                let before = document("g", count as i64);
                if count > 0 {
                    me.change(0, "sum", Some(&before));
                }
                let write = me.change(me.at + 1, "sum", Some(&document("g", count as i64 + 1)));
                let commit = me.to(me.at + 1, vec![write]);
                match me.store.commit(commit).await {
                    Ok(()) => done += 1,
                    Err(error) => assert_eq!(error, StoreError::Conflict),
                }
                tokio::task::yield_now().await;
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(status(&*nodes.one, "board").await.active.checkpoint, at(4 * EACH));
    let sum = first.documents(&["sum"]).await.remove(0).data;
    assert_eq!(sum, text(&document("g", 4 * EACH as i64)));
    let by_number = Scan::Index {
        index: BY_NUMBER,
        prefix: Default::default(),
        direction: OrderDirection::Ascending,
    };
    assert_eq!(first.page(&by_number, None, 10).await.documents.len(), 1, "one entry is left");
}
