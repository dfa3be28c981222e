//! The browser package: its dependencies, its scripts, and the bundle that the program serves.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Result, bail};

use crate::{
    command::{self, command, find_in_path},
    steps::Steps,
    workspace,
};

/// The browser package's directory.
pub(crate) fn directory() -> PathBuf {
    workspace::root().join("browser")
}

/// Installs exactly what the lock file names, unless that was done since it last changed.
pub(crate) fn install() -> Result<()> {
    if find_in_path(&["npm"]).is_none() {
        bail!("npm is not in PATH; install Node.js 20 or newer (https://nodejs.org)");
    }
    let directory = directory();
    if !directory.join("package-lock.json").exists() {
        bail!("{} has no package-lock.json", directory.display());
    }
    if is_installed(&directory) {
        println!("node_modules is up to date");
        return Ok(());
    }
    command::run(command("npm").current_dir(directory).args(["ci", "--no-audit", "--no-fund"]))
}

fn is_installed(directory: &Path) -> bool {
    let changed = |file: &str| -> Option<SystemTime> {
        directory.join(file).metadata().and_then(|meta| meta.modified()).ok()
    };
    let installed = changed("node_modules/.package-lock.json");
    installed.is_some()
        && installed >= changed("package-lock.json")
        && installed >= changed("package.json")
}

/// A command that runs one of the package's scripts.
pub(crate) fn npm_run(script: &str) -> Command {
    let mut npm = command("npm");
    npm.current_dir(directory()).args(["run", script]);
    npm
}

/// Rebuilds the bundle that the program serves.
pub(crate) fn bundle(steps: &mut Steps) {
    if steps.run("browser packages", install).is_some() {
        steps.run("bundle", || command::run(&mut npm_run("bundle")));
    } else {
        steps.could_not_run("bundle", "the browser's packages");
    }
}
