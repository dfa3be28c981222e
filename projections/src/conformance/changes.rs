//! What changed after a position.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tidewire_eventstore::GlobalPosition;
use tidewire_protocol::query::OrderDirection;

use super::{
    Nodes, at,
    model::{Dice, Model},
    writing::{Writer, document, text},
};
use crate::documents::{PAGE_BYTES_MAX, PAGE_MAX, Scan};

/// However often a document changed, it is told once, at its last change; a deleted one too.
pub async fn a_document_is_told_once_as_it_is_now(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    for number in 1..=5 {
        writer.put("a", &document("g", number)).await;
        writer.put("b", &document("g", number)).await;
    }
    writer.delete("a").await;
    writer.commit(20, Vec::new()).await.expect("the owner writes");
    let told = |position, data| (position, data);
    for (after, expected) in [
        (0, vec![told(10, Some(text(&document("g", 5)))), told(11, None)]),
        (9, vec![told(10, Some(text(&document("g", 5)))), told(11, None)]),
        (10, vec![told(11, None)]),
        (11, vec![]),
        (20, vec![]),
        (99, vec![]),
    ] {
        let page = writer.changes(after, 10).await;
        assert_eq!((page.through, page.checkpoint), (at(20), at(20)), "after {after}");
        assert!(page.complete && page.active && !page.more, "after {after}");
        let changes: Vec<_> =
            page.changes.into_iter().map(|(_, position, data)| (position.get(), data)).collect();
        assert_eq!(changes, expected, "after {after}");
    }
}

/// A page never ends within a position: whoever has read through it has seen all of it.
pub async fn changes_of_one_position_stand_in_one_page(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    let widths = [1_u64, 3, 1, 7, 2];
    for (position, width) in (1..).zip(widths) {
        let writes = (0..width)
            .map(|n| writer.change(position, &format!("{position}/{n}"), Some(&document("g", 1))))
            .collect();
        writer.commit(position, writes).await.expect("the owner writes");
    }
    for limit in 1..=15 {
        let mut after = 0;
        while after < 5 {
            let page = writer.changes(after, limit).await;
            let through = page.through.get();
            let width: u64 = widths[after as usize..through as usize].iter().sum();
            assert_eq!(page.changes.len() as u64, width, "({after}, {through}], limit {limit}");
            assert_eq!(page.more, through < 5);
            assert!(width < limit as u64 + 7, "about the limit");
            after = through;
        }
    }
}

/// Pages joined are everything, whatever their limit; a limit out of range is cut to it.
pub async fn changes_go_on_where_a_page_ended(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    let writes = (1..=1500_u64)
        .map(|n| writer.change(n, &format!("{n}"), Some(&document("g", 1))))
        .collect();
    writer.commit(2000, writes).await.expect("the owner writes");
    for limit in [7, 500, 1000] {
        let all = writer.changes_to_the_end(0, limit).await;
        let positions: Vec<_> = all.iter().map(|(_, position, _)| *position).collect();
        assert_eq!(positions, (1..=1500).collect::<Vec<_>>());
    }
    for (limit, count) in [(0, 1), (1, 1), (PAGE_MAX, PAGE_MAX), (usize::MAX, PAGE_MAX)] {
        let page = writer.changes(0, limit).await;
        assert_eq!((page.changes.len(), page.more), (count, true), "{limit}");
        assert_eq!((page.through, page.checkpoint), (at(count as u64), at(2000)));
    }
    assert_eq!(writer.changes_to_the_end(1400, 1000).await.len(), 100);
}

/// A page of changes ends before it grows too large, after a whole position.
pub async fn large_documents_cut_changes(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    let large = json!({"group": "g", "number": 1, "text": "x".repeat(200 << 10)});
    let fit = PAGE_BYTES_MAX.div_ceil(text(&large).len()) as u64;
    // Two at each position.
    for position in 1..=fit {
        let writes = ["a", "b"]
            .map(|side| writer.change(position, &format!("{position}{side}"), Some(&large)));
        writer.commit(position, writes.into()).await.expect("the owner writes");
    }
    let page = writer.changes(0, PAGE_MAX).await;
    assert!(page.more);
    assert_eq!(page.through, at(fit.div_ceil(2)));
    assert_eq!(page.changes.len() as u64, 2 * page.through.get());
    assert_eq!(writer.changes_to_the_end(0, PAGE_MAX).await.len() as u64, 2 * fit);
}

/// While somebody writes, a reader is told everything through the position that it is told, and
/// nothing later: two documents that always change together are always alike.
pub async fn everything_before_the_checkpoint_is_told(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    let reader = Writer { store: nodes.other.clone(), ..writer.clone() };
    let done = AtomicBool::new(false);
    let writing = async {
        for position in 1..=200_u64 {
            let value = document("g", position as i64);
            let writes = ["left", "right"].map(|of| writer.change(position, of, Some(&value)));
            writer.commit(position, writes.into()).await.expect("the owner writes");
        }
        done.store(true, Ordering::Relaxed);
    };
    let reading = async {
        let mut looks = 0;
        while !done.load(Ordering::Relaxed) || looks == 0 {
            looks += 1;
            let page = reader.changes(0, 10).await;
            let expected = document("g", page.through.get() as i64);
            for (of, position, data) in &page.changes {
                assert_eq!((*position, data), (page.through, &Some(text(&expected))), "{of}");
            }
            let both = if page.through == GlobalPosition::START { 0 } else { 2 };
            assert_eq!(page.changes.len(), both);

            let page = reader.page(&Scan::Keys(OrderDirection::Ascending), None, 10).await;
            for (_, document) in &page.documents {
                assert!(document.position >= page.position, "the position was read before");
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(writing, reading);
}

/// Whatever happened, whoever comes back is told the difference: applied to what it had at any
/// earlier position, the changes give what there is.
pub async fn random_histories_agree_with_a_model(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    let mut model = Model::default();
    let mut dice = Dice::new(5);
    let names: Vec<_> = (0..30).map(|number| format!("key-{number}")).collect();
    // What there was at each commit.
    let mut history = vec![(0, model.clone())];
    for step in 0..80 {
        let from = writer.at;
        let mut position = from;
        let mut writes = Vec::new();
        let first = dice.roll(30) as usize;
        for of in names.iter().skip(first).take(dice.roll(9) as usize) {
            position += dice.roll(2).max(u64::from(position == from));
            let value = (dice.roll(3) > 0).then(|| document("g", dice.roll(100) as i64));
            writes.push(writer.change(position, of, value.as_ref()));
            model.change(position, of, value);
        }
        position += dice.roll(3);
        writer.commit(position, writes).await.expect("the owner writes");
        if dice.roll(10) == 0 {
            let kept = dice.roll(12);
            let mut steps = 0;
            while writer.store.sweep(&writer.held, kept, 3).await.expect("the owner sweeps") {
                steps += 1;
                assert!(steps < 100, "a sweep ends");
            }
            model.sweep(kept as usize);
        }
        history.push((position, model.clone()));

        let (since, had) = &history[dice.roll(history.len() as u64) as usize];
        let page = writer.changes(*since, PAGE_MAX).await;
        assert_eq!(page.complete, *since >= model.changes_from, "step {step} since {since}");
        let seen = super::status(&*nodes.other, "board").await.active.changes_from;
        assert_eq!(seen, at(model.changes_from));
        let changes = writer.changes_to_the_end(*since, 1 + dice.roll(9) as usize).await;
        assert_eq!(changes, model.changes(*since), "step {step} since {since}");
        if page.complete {
            let there = |model: &Model| -> std::collections::BTreeMap<_, _> {
                let kept = model.documents.iter();
                kept.filter_map(|(of, (_, value))| Some((of.clone(), text(value.as_ref()?))))
                    .collect()
            };
            let mut have = there(had);
            for (of, _, data) in changes {
                match data {
                    Some(data) => have.insert(of, data),
                    None => have.remove(&of),
                };
            }
            assert_eq!(have, there(&model), "step {step} since {since}");
        }
    }
    assert!(model.changes_from > 0, "the history has sweeps");
}
