//! Pages of documents, in every order.

use serde_json::{Value, json};
use tidewire_protocol::query::{
    OrderDirection::{self, Ascending, Descending},
    SortKey,
};

use super::{
    Nodes, at,
    model::{Dice, Model},
    writing::{BY_GROUP, BY_NUMBER, Writer, by_key, document, entries, text},
};
use crate::documents::{PAGE_BYTES_MAX, PAGE_MAX, Place, Scan};

fn by(index: u16, prefix: &[Value], direction: OrderDirection) -> Scan {
    Scan::Index { index, prefix: SortKey::of(prefix.iter().map(Some)), direction }
}

/// The keys of a scan, page by page.
async fn joined(writer: &Writer, scan: Scan, limit: usize) -> Vec<String> {
    let pages = writer.pages(scan, limit).await;
    pages.into_iter().flatten().map(|(place, _)| place.key.to_string()).collect()
}

/// Keys stand in the order of their bytes, whatever language they are in.
pub async fn keys_are_in_the_order_of_their_bytes(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    let mut all = ["b", "B", "a", "ä", "a-", "a b", "aa", "_", "10", "9", "😀", "\u{ffff}", "Z"];
    for of in all {
        writer.put(of, &document("g", 1)).await;
    }
    all.sort_unstable();
    for limit in [1, 2, 5, 13, 14] {
        assert_eq!(joined(&writer, Scan::Keys(Ascending), limit).await, all);
        let mut down = joined(&writer, Scan::Keys(Descending), limit).await;
        down.reverse();
        assert_eq!(down, all);
    }
    let page = writer.page(&Scan::Keys(Ascending), None, 13).await;
    assert!(!page.more, "nothing is left");
    assert_eq!(page.position, at(13));
    assert!(writer.page(&Scan::Keys(Ascending), None, 12).await.more);
}

/// Documents with equal entries stand by ascending key in both directions, and a page may end
/// among them.
pub async fn equal_entries_are_in_the_order_of_keys_both_ways(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    for (of, number) in [("e", 2), ("a", 2), ("c", 2), ("d", 1), ("b", 1), ("f", 3)] {
        writer.put(of, &document("g", number)).await;
    }
    for limit in 1..=7 {
        let up = joined(&writer, by(BY_NUMBER, &[], Ascending), limit).await;
        assert_eq!(up, ["b", "d", "a", "c", "e", "f"], "limit {limit}");
        let down = joined(&writer, by(BY_NUMBER, &[], Descending), limit).await;
        assert_eq!(down, ["f", "a", "c", "e", "b", "d"], "limit {limit}");
    }
}

/// A prefix is one or more whole values: not what begins alike.
pub async fn a_prefix_selects_whole_values(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    let groups = [json!("a"), json!("ab"), json!("a\u{0}"), json!(""), json!(null), json!(true)];
    for (at, group) in groups.iter().enumerate() {
        for number in [10, 9, -1] {
            let of = format!("{at}/{number}");
            writer.put(&of, &json!({"group": group, "number": number})).await;
        }
    }
    for (at, group) in groups.iter().enumerate() {
        let expected: Vec<_> = [-1, 9, 10].iter().map(|number| format!("{at}/{number}")).collect();
        let up = joined(&writer, by(BY_GROUP, std::slice::from_ref(group), Ascending), 2).await;
        assert_eq!(up, expected, "{group}");
        let mut down =
            joined(&writer, by(BY_GROUP, std::slice::from_ref(group), Descending), 2).await;
        down.reverse();
        assert_eq!(down, expected, "{group}");
        let one = joined(&writer, by(BY_GROUP, &[group.clone(), json!(9)], Ascending), 2).await;
        assert_eq!(one, expected[1..2]);
    }
    assert!(joined(&writer, by(BY_GROUP, &[json!("b")], Ascending), 2).await.is_empty());
    assert!(joined(&writer, by(2, &[], Ascending), 2).await.is_empty(), "no such index");
    assert_eq!(joined(&writer, by(BY_GROUP, &[], Descending), 4).await.len(), 18);
}

/// A limit out of range is cut to it.
pub async fn a_page_has_at_least_one_and_at_most_1000_documents(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    let writes = (0..=1000)
        .map(|n| writer.change(1, &format!("key-{n:04}"), Some(&document("g", n))))
        .collect();
    writer.commit(1, writes).await.expect("the owner writes");
    for scan in [Scan::Keys(Ascending), by(BY_NUMBER, &[], Descending)] {
        for (limit, documents) in [(0, 1), (1, 1), (PAGE_MAX, PAGE_MAX), (usize::MAX, PAGE_MAX)] {
            let page = writer.page(&scan, None, limit).await;
            assert_eq!((page.documents.len(), page.more), (documents, true), "{limit}");
        }
        let pages = writer.pages(scan, PAGE_MAX).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [1000, 1]);
    }
}

/// A page ends before it grows too large, says so, and goes on.
pub async fn large_documents_cut_a_page(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    let large = json!({"group": "g", "number": 1, "text": "x".repeat(200 << 10)});
    let bytes = text(&large).len();
    let fit = PAGE_BYTES_MAX.div_ceil(bytes);
    let names: Vec<_> = (0..fit + 3).map(|n| format!("key-{n:03}")).collect();
    for of in &names {
        writer.put(of, &large).await;
    }
    for scan in [Scan::Keys(Ascending), by(BY_GROUP, &[json!("g")], Ascending)] {
        let page = writer.page(&scan, None, PAGE_MAX).await;
        assert_eq!((page.documents.len(), page.more), (fit, true));
        assert_eq!(joined(&writer, scan.clone(), PAGE_MAX).await, names);
        // One that is not cut does not say so.
        let last = page.documents.last().map(|(place, _)| place.clone());
        assert!(!writer.page(&scan, last, PAGE_MAX).await.more);
    }
}

/// A page begins after a place, whether a document is still there, ever was, or never could be.
pub async fn a_place_need_not_be_there(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    for (of, number) in [("a", 1), ("b", 2), ("c", 2), ("d", 3)] {
        writer.put(of, &document("g", number)).await;
    }
    writer.delete("b").await;
    let scan = by(BY_NUMBER, &[], Ascending);
    let place =
        |value: Value, of: &str| Place { entry: entries(&value)[0].clone(), key: super::key(of) };
    let keys = async |scan: &Scan, after| -> Vec<String> {
        let page = writer.page(scan, Some(after), 10).await;
        page.documents.into_iter().map(|(place, _)| place.key.to_string()).collect()
    };
    assert_eq!(keys(&scan, place(document("g", 2), "b")).await, ["c", "d"], "was there");
    assert_eq!(keys(&scan, place(document("g", 2), "x")).await, ["d"], "never was");
    assert_eq!(keys(&scan, place(json!({}), "x")).await, ["a", "c", "d"], "before everything");
    assert_eq!(keys(&scan, place(json!({"number": "x"}), "x")).await, [""; 0], "after everything");
    let down = by(BY_NUMBER, &[], Descending);
    assert_eq!(keys(&down, place(json!({"number": "x"}), "x")).await, ["d", "c", "a"]);
    assert_eq!(keys(&down, place(document("g", 2), "b")).await, ["c", "a"]);
    assert_eq!(keys(&Scan::Keys(Ascending), by_key("b")).await, ["c", "d"]);
    assert_eq!(keys(&Scan::Keys(Descending), by_key("b")).await, ["a"]);
    // One from outside of what a prefix selects.
    let two = by(BY_NUMBER, &[json!(2)], Ascending);
    assert_eq!(keys(&two, place(document("g", 1), "a")).await, ["c"]);
    assert_eq!(keys(&two, place(document("g", 9), "a")).await, [""; 0]);
    let two = by(BY_NUMBER, &[json!(2)], Descending);
    assert_eq!(keys(&two, place(document("g", 9), "a")).await, ["c"]);
    assert_eq!(keys(&two, place(document("g", 1), "a")).await, [""; 0]);
}

/// Whatever is asked, in whichever order, the answer is the model's.
pub async fn every_page_agrees_with_a_model(nodes: Nodes) {
    let mut writer = Writer::new(&nodes.one, "board").await;
    let mut model = Model::default();
    let mut dice = Dice::new(11);
    let names: Vec<_> = (0..40).map(|number| format!("key {number}")).collect();
    let groups = [json!("a"), json!("b"), json!("b\u{0}"), json!(3), json!([1]), json!(null)];
    let random = |dice: &mut Dice| {
        let group = &groups[dice.roll(6) as usize];
        json!({"group": group, "number": dice.roll(5) as i64 - 2})
    };
    for step in 0..60 {
        let position = writer.at + 1 + dice.roll(3);
        let mut writes = Vec::new();
        let first = dice.roll(40);
        for of in names.iter().skip(first as usize).take(dice.roll(8) as usize) {
            let value = (dice.roll(4) > 0).then(|| random(&mut dice));
            writes.push(writer.change(position, of, value.as_ref()));
            model.change(position, of, value);
        }
        writer.commit(position, writes).await.expect("the owner writes");
        for _ in 0..6 {
            let prefix = match dice.roll(3) {
                0 => SortKey::default(),
                1 => SortKey::of([Some(&groups[dice.roll(6) as usize])]),
                _ => entries(&random(&mut dice))[dice.roll(2) as usize].clone(),
            };
            let scan = match dice.roll(3) {
                0 => Scan::Keys(dice.direction()),
                _ => {
                    Scan::Index { index: dice.roll(2) as u16, prefix, direction: dice.direction() }
                }
            };
            let after = (dice.roll(2) == 0).then(|| {
                let entry = match &scan {
                    Scan::Keys(_) => SortKey::default(),
                    Scan::Index { index, .. } => {
                        entries(&random(&mut dice))[usize::from(*index)].clone()
                    }
                };
                let key = super::key(&names[dice.roll(40) as usize]);
                Place { entry, key }
            });
            let limit = 1 + dice.roll(12) as usize;
            let expected = model.scan(&scan, after.as_ref());
            let page = writer.page(&scan, after.clone(), limit).await;
            let places: Vec<_> = page.documents.iter().map(|(place, _)| place.clone()).collect();
            assert_eq!(
                places,
                expected[..limit.min(expected.len())],
                "step {step}: {scan:?} after {after:?}, {limit}"
            );
            assert_eq!(page.more, expected.len() > limit, "step {step}: {scan:?}");
            assert_eq!(page.position, at(position));
            for (place, document) in page.documents {
                let (position, value) = &model.documents[document.key.as_str()];
                assert_eq!((place.key, document.position), (document.key, at(*position)));
                assert_eq!(Some(document.data), value.as_ref().map(text));
            }
        }
    }
}
