//! The browser of the tests: Chromium and Node.js from the distribution, playwright-core through npm and the user's own
//! npm configuration. Without them the tests of reports in a browser are skipped, so nothing here fails the setup.

use crate::{
    prerequisites,
    shell::{exists, root, run},
};
use std::{fs, process::Command};

const CHROMIUM: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Installs what is missing where that works without a password, else says what is missing.
pub(crate) fn install() {
    let mut packages = Vec::new();
    if !CHROMIUM.iter().any(|name| exists(name)) {
        packages.push("chromium");
    }
    if !exists("node") || !exists("npm") {
        packages.extend(["nodejs", "npm"]);
    }
    if !packages.is_empty() {
        let installed = if exists("apt-get") { prerequisites::apt(&packages) } else { Err(String::new()) };
        if installed.is_err() {
            let missing = packages.join(", ");
            println!("skipped: reports in a browser need {missing}; install them to have these tests");
            return;
        }
    }
    // A stamp, because asking npm takes seconds even when there is nothing to do.
    let folder = root().join("tests/browser");
    let (lock, stamp) = (folder.join("package-lock.json"), folder.join("node_modules/installed.json"));
    let wanted = fs::read_to_string(lock).ok();
    if wanted.is_some() && fs::read_to_string(&stamp).ok() == wanted {
        return;
    }
    let mut npm = Command::new("npm");
    npm.current_dir(&folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    match (run(&mut npm), wanted) {
        (Ok(()), Some(wanted)) => drop(fs::write(stamp, wanted)),
        _ => println!("skipped: playwright-core could not be installed; reports are not opened in a browser"),
    }
}
