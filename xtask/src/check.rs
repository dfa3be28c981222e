//! What needs no running program: formatting, lints, documentation, and the rule that every
//! source file begins by saying what it is.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::{
    command::{cargo, command, output},
    steps::Steps,
    workspace,
};

/// Runs every check.
pub(crate) fn run(steps: &mut Steps) {
    steps.run("formatting", || run_cargo(&["fmt", "--all", "--check"]));
    steps.run("every source file says what it is", every_file_says_what_it_is);
    steps.run("lints", || {
        run_cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ])
    });
    steps.run("documentation", || {
        run_with_docs(&["doc", "--workspace", "--no-deps", "--all-features"])
    });
}

fn run_cargo(args: &[&str]) -> Result<()> {
    crate::command::run(cargo().args(args))
}

fn run_with_docs(args: &[&str]) -> Result<()> {
    crate::command::run(cargo().args(args).env("RUSTDOCFLAGS", "-D warnings"))
}

fn every_file_says_what_it_is() -> Result<()> {
    let files = output(command("git").args(["ls-files", "-co", "--exclude-standard", "*.rs"]))?;
    let mut silent = Vec::new();
    for file in files.lines() {
        let path = workspace::root().join(file);
        if !path.exists() {
            continue; // deleted, and the deletion not yet committed
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {file}"))?;
        if !text.starts_with("//!") {
            silent.push(file);
        }
    }
    if silent.is_empty() {
        Ok(())
    } else {
        bail!("these files do not begin with `//!`: {}", silent.join(", "))
    }
}
