//! A Python that can speak to PostgreSQL, for the Python example of `docs/sql.md`: the one that
//! `TIDEWIRE_TEST_PYTHON` names, or one of its own under `target/`, with psycopg from PyPI.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{
    command::{self, command, find_in_path, output},
    workspace,
};

/// What is installed: pinned, so that the example is tried with the same version everywhere.
const PSYCOPG: &str = "psycopg[binary]==3.2.13";

/// The interpreter; made where there is none yet.
pub(crate) fn find_or_make() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("TIDEWIRE_TEST_PYTHON").map(PathBuf::from) {
        return if has_psycopg(&given) {
            Ok(given)
        } else {
            bail!("TIDEWIRE_TEST_PYTHON names {}, which cannot import psycopg", given.display())
        };
    }
    let folder = workspace::target().join("python");
    let python = folder.join("bin/python");
    if has_psycopg(&python) {
        println!("{} has psycopg", python.display());
        return Ok(python);
    }
    let base = find_in_path(&["python3"]).context("python3 is not in PATH; install Python 3")?;
    let make = || command::run(command(&base).args(["-m", "venv", "--clear"]).arg(&folder));
    if make().is_err() {
        // Debian has it in a package of its own.
        command::apt_install("python3-venv")?;
        make()?;
    }
    command::run(command(&python).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        PSYCOPG,
    ]))?;
    if has_psycopg(&python) { Ok(python) } else { bail!("psycopg was installed and is not there") }
}

fn has_psycopg(python: &Path) -> bool {
    output(command(python).args(["-c", "import psycopg"])).is_ok()
}
