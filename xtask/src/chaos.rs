//! `cargo xtask chaos`: builds the program and what breaks it, and has it broken.
//!
//! `--release` is ours, the other options are those of `tidewire-chaos`. Without it the program is
//! built as for the tests, so that its own assertions take part.

use anyhow::{Context, Result};

use crate::{
    command::{self, cargo, command},
    postgres::binaries,
    steps::Steps,
    workspace,
};

/// Runs it with these options.
pub(crate) fn run(steps: &mut Steps, options: &[&str]) {
    let release = options.contains(&"--release");
    let options: Vec<&str> =
        options.iter().copied().filter(|option| *option != "--release").collect();
    if steps.run("build the program and chaos", || build(&options, release)).is_some() {
        steps.run("chaos", || chaos(&options, release));
    } else {
        steps.could_not_run("chaos", "a build");
    }
}

fn build(options: &[&str], release: bool) -> Result<()> {
    let profile: &[&str] = if release { &["--release"] } else { &[] };
    let is_planted = options.iter().any(|option| option.starts_with("--plant"));
    let plant: &[&str] = if is_planted { &["--features", "plant"] } else { &[] };
    command::run(cargo().args(["build", "--package", "tidewire"]).args(plant).args(profile))?;
    command::run(cargo().args(["build", "--package", "tidewire-chaos"]).args(profile))
}

fn chaos(options: &[&str], release: bool) -> Result<()> {
    let folder = workspace::target().join(if release { "release" } else { "debug" });
    let program = folder.join("tidewire-chaos");
    program.metadata().with_context(|| format!("{} was not built", program.display()))?;
    let mut chaos = command(program);
    // On SQLite alone no PostgreSQL is needed, and none is fetched.
    let needs_postgres = !options.windows(2).any(|pair| pair == ["--store", "sqlite"])
        && !options
            .iter()
            .any(|option| ["--store=sqlite", "--list-plants", "--help"].contains(option));
    if needs_postgres {
        chaos.env("TIDEWIRE_POSTGRES_BIN", binaries::find_or_install()?);
    }
    command::run(chaos.args(options))
}
