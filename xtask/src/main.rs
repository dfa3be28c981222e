//! Chores of the workspace, run as `cargo xtask <verb>`.
//!
//! `test` runs every test there is and fetches what it needs; `ci` adds formatting, lints and
//! documentation; `bundle` rebuilds the browser bundle that the program serves; `cut-flights`
//! cuts the demo's data out of the full year; `chaos` breaks a running system from a seed. Nothing is skipped in silence: what cannot be run
//! counts as failed.

mod browser;
mod chaos;
mod check;
mod chromium;
mod command;
mod flights;
mod interrupt;
mod postgres;
mod python;
mod steps;
mod test;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask <verb>

  test              Run every test: Rust, PostgreSQL, TypeScript and a real browser
  ci                Formatting, lints and documentation, then everything that `test` runs
  bundle            Rebuild the browser bundle in server/assets
  chaos [OPTIONS]   Break a running system from a seed: `cargo xtask chaos --help`, docs/chaos.md
  cut-flights FILE  Cut the demo's two weeks out of the full year (flights.csv or a .zip of it)

What `test` needs it looks for, and otherwise fetches:
  TIDEWIRE_TEST_POSTGRES  URL of a PostgreSQL server that tests may create databases on
  TIDEWIRE_CHROMIUM       path of a Chromium or Chrome
  TIDEWIRE_TEST_PYTHON    path of a Python 3 with psycopg 3
";

fn main() -> ExitCode {
    interrupt::install();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let verb: Vec<&str> = args.iter().map(String::as_str).collect();
    match verb.as_slice() {
        ["test"] => finish(test::run),
        ["ci"] => finish(|steps| {
            check::run(steps);
            test::run(steps);
        }),
        ["chaos", options @ ..] => finish(|steps| chaos::run(steps, options)),
        ["bundle"] => finish(browser::bundle),
        ["cut-flights", file] => finish(|steps| {
            steps.run("cut the flights", || flights::cut(file.as_ref()));
        }),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn finish(chore: impl FnOnce(&mut steps::Steps)) -> ExitCode {
    let mut steps = steps::Steps::default();
    chore(&mut steps);
    steps.finish()
}
