//! SQL projections of the stock program: a statement from a file keeps rows of a table of ours.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use serde_json::json;
use support::{
    ledger::{Payer, Place, fold, head, pay},
    run_failing, wait_until,
};

const SETTINGS: &str = r#"
[[projections]]
name = "rows"
kind = "sql"
category = "payment"
apply_file = "apply.sql"
reset = """
    DELETE FROM balances AS b
     WHERE b.generation <> $2
       AND NOT EXISTS (SELECT FROM tidewire.projections AS p
                        WHERE b.generation IN (p.active, p.building))
"""
"#;

const APPLY: &str = "
    -- $1 is the events, $2 the generation that they are projected into.
    INSERT INTO balances AS b (generation, account, count, cents)
    SELECT $2, e.data ->> 'account', count(*), sum((e.data ->> 'cents')::bigint)
      FROM json_to_recordset($1) AS e (data json)
     GROUP BY e.data ->> 'account'
        ON CONFLICT (generation, account) DO UPDATE
       SET count = b.count + excluded.count, cents = b.cents + excluded.cents";

const TABLE: &str = "
    CREATE TABLE balances (
        generation bigint, account text, count bigint, cents bigint,
        PRIMARY KEY (generation, account)
    )";

#[test]
fn rows_are_kept_and_rebuilt_by_statements() {
    let place = Place::postgres(SETTINGS);
    fs::write(place.path().join("apply.sql"), APPLY).unwrap();
    place.database().execute(TABLE);
    let server = place.start();
    let api = &server.api;
    let payer = Payer::start(api, 0);
    let last = pay(api, 5, 0, 100).unwrap();
    let row = || api.get_json("/projections/rows");
    let has_reached = |position| {
        let row = row();
        assert!(row["stopped"].is_null() && row["building"]["stopped"].is_null(), "{row}");
        row["checkpoint"].as_u64() >= Some(position)
    };
    wait_until("it is projected", || has_reached(last));
    let before = row()["generation"].as_u64().unwrap();
    assert_eq!(api.post("/projections/rows/rebuild", &json!({})).0, 202);
    wait_until("it is rebuilt", || row()["generation"].as_u64() > Some(before));
    payer.stop();
    let last = head(api);
    wait_until("it is projected", || has_reached(last));

    let generation = row()["generation"].as_i64().unwrap();
    let number = |column: &str| {
        let sum =
            format!("SELECT sum({column})::bigint FROM balances WHERE generation = {generation}");
        place.database().number(&sum)
    };
    let balances = fold(api);
    assert_eq!(number("count"), balances.values().map(|(count, _)| *count as i64).sum::<i64>());
    assert_eq!(number("cents"), balances.values().map(|(_, sum)| sum).sum::<i64>());
}

#[test]
fn a_statement_that_fails_stops_its_projection_and_a_file_has_no_place_for_one() {
    let place = Place::postgres(SETTINGS);
    fs::write(place.path().join("apply.sql"), APPLY).unwrap();
    // There is no such table yet.
    let server = place.start();
    let last = pay(&server.api, 5, 0, 10).unwrap();
    let row = || server.api.get_json("/projections/rows");
    wait_until("it stops", || row()["state"] == "stopped");
    let reason = row()["stopped"]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("balances"), "{reason}");
    place.database().execute(TABLE);
    assert_eq!(server.api.post("/projections/rows/resume", &json!({})).0, 202);
    wait_until("it goes on", || row()["checkpoint"].as_u64() >= Some(last));

    let file = Place::sqlite(SETTINGS);
    fs::write(file.path().join("apply.sql"), APPLY).unwrap();
    let args = ["serve", "--address", "127.0.0.1:0", "--config", "tidewire.toml"];
    run_failing(file.path(), &args, 2, "projection \"rows\" of the settings: `kind`");
}
