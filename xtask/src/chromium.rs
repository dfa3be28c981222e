//! Finds a Chromium, or gets one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{
    browser,
    command::{apt_install, command, find_in_path, is_executable, output, run},
};

const NAMES: [&str; 5] =
    ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome"];

/// The path of a Chromium: `TIDEWIRE_CHROMIUM`, an installed one, Debian's package, or the build
/// that Playwright downloads. The browser's packages have to be installed before.
pub(crate) fn find_or_install() -> Result<PathBuf> {
    let found = given()?.or_else(|| find_in_path(&NAMES));
    let path = match found {
        Some(path) => path,
        None => install()?,
    };
    let version = output(command(&path).arg("--version"))?;
    println!("{}: {}", path.display(), version.trim());
    Ok(path)
}

fn given() -> Result<Option<PathBuf>> {
    let Some(given) = std::env::var_os("TIDEWIRE_CHROMIUM").filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let path = PathBuf::from(given);
    if !is_executable(&path) {
        bail!("TIDEWIRE_CHROMIUM names {}, which is not a program", path.display());
    }
    Ok(Some(path))
}

fn install() -> Result<PathBuf> {
    let from_debian = apt_install("chromium").and_then(|()| {
        find_in_path(&NAMES).context("the package chromium brought no program of that name")
    });
    let debian_error = match from_debian {
        Ok(path) => return Ok(path),
        Err(error) => error,
    };
    println!("{debian_error:#}; trying Playwright's own build");
    from_playwright().map_err(|error| {
        error.context(format!(
            "no Chromium: none in PATH; {debian_error:#}; Playwright could not bring one either. \
             Install chromium, or set TIDEWIRE_CHROMIUM to the path of one"
        ))
    })
}

fn from_playwright() -> Result<PathBuf> {
    let directory = browser::directory();
    let script = ["playwright", "playwright-core"]
        .into_iter()
        .find(|name| directory.join("node_modules/.bin").join(name).exists())
        .context("the browser's packages have no playwright")?;
    run(command("npx").current_dir(&directory).args([
        "--no-install",
        script,
        "install",
        "chromium",
    ]))?;
    let ask = "console.log(require('playwright-core').chromium.executablePath())";
    let path = output(command("node").current_dir(&directory).args(["-e", ask]))?;
    let path = Path::new(path.trim());
    if !is_executable(path) {
        bail!("Playwright names {}, which is not a program", path.display());
    }
    Ok(path.to_owned())
}
