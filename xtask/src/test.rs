//! `cargo xtask test`: everything that can fail, in one go.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{
    browser, chromium,
    command::{self, cargo, output},
    postgres, python,
    steps::Steps,
    workspace,
};

/// What the wire protocol must never come to depend on: it stays free of IO, async and actors.
const IMPURE: [&str; 5] = ["tokio ", "actix ", "actix-web ", "actix-rt ", "sqlx "];

/// Runs every test.
pub(crate) fn run(steps: &mut Steps) {
    let postgres = steps.run("PostgreSQL", postgres::find_or_start);
    let url = postgres.as_ref().map(postgres::Server::url);
    let python = steps.run("Python", python::find_or_make);
    let python = python.as_deref();

    steps.run("the protocol stays pure", protocol_is_pure);
    let built = steps.run("build the Rust tests", || run_tests(&["--no-run"], url, python));
    if built.is_some() {
        steps.run("Rust tests", || run_tests(&["--no-fail-fast"], url, python));
    } else {
        steps.could_not_run("Rust tests", "a build");
    }
    browser_tests(steps, built.is_some());
}

fn run_tests(args: &[&str], postgres: Option<&str>, python: Option<&Path>) -> Result<()> {
    let mut cargo = cargo();
    cargo.args(["test", "--workspace", "--all-features"]).args(args);
    if let Some(url) = postgres {
        cargo.env("TIDEWIRE_TEST_POSTGRES", url);
    }
    if let Some(python) = python {
        cargo.env("TIDEWIRE_TEST_PYTHON", python);
    }
    command::run(&mut cargo)
}

fn protocol_is_pure() -> Result<()> {
    let tree = output(cargo().args([
        "tree",
        "--package",
        "tidewire-protocol",
        "--edges",
        "normal",
        "--prefix",
        "none",
    ]))?;
    let impure: Vec<&str> =
        tree.lines().filter(|line| IMPURE.iter().any(|name| line.starts_with(name))).collect();
    if impure.is_empty() {
        Ok(())
    } else {
        bail!("tidewire-protocol depends on {}", impure.join(", "))
    }
}

fn browser_tests(steps: &mut Steps, built: bool) {
    if steps.run("browser packages", browser::install).is_none() {
        for name in ["browser check", "browser bundle is fresh", "browser tests"] {
            steps.could_not_run(name, "the browser's packages");
        }
        return;
    }
    steps.run("browser check", || command::run(&mut browser::npm_run("check")));
    steps.run("browser bundle is fresh", || command::run(&mut browser::npm_run("bundle:check")));
    let Some(chromium) = steps.run("Chromium", chromium::find_or_install) else {
        return steps.could_not_run("browser tests", "Chromium");
    };
    if !built {
        return steps.could_not_run("browser tests", "the program");
    }
    steps.run("browser tests", || {
        let program = workspace::target().join("debug/tidewire");
        program.metadata().with_context(|| format!("{} was not built", program.display()))?;
        command::run(
            browser::npm_run("test:browser")
                .env("TIDEWIRE_CHROMIUM", chromium)
                .env("TIDEWIRE_BIN", program),
        )
    });
}
