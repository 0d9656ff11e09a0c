//! The Python environment of the tests: `.venv` in the root, with the packages of `tests/requirements.txt` through the
//! user's own pip configuration.

use crate::{
    prerequisites,
    shell::{Step, exists, output, quiet, root, run},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Makes the environment of the client tests.
pub(crate) fn environment() -> Step {
    let python = with(&root().join("tests/requirements.txt"))?;
    confseq(&python)
}

/// Installs the package `confseq`, whose bounds ours are compared with. Its C++ extension asks for a pybind11 that no
/// Python from 3.11 on can be built with; a stand-in for its build tool (`tests/reference/confseq`) leaves it out, and
/// the rest is plain Python.
fn confseq(python: &Path) -> Step {
    if quiet(Command::new(python).args(["-c", "import importlib.util as u; exit(not u.find_spec('confseq'))"])) {
        return Ok(());
    }
    let args = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"];
    let mut command = Command::new(python);
    command.args(args).args(["--no-binary", "confseq", "confseq==0.0.11"]);
    run(command.env("PYTHONPATH", root().join("tests/reference/confseq")))
}

/// The interpreter of `.venv`, with the packages of `requirements` installed.
pub(crate) fn with(requirements: &Path) -> Result<PathBuf, String> {
    let python = interpreter();
    if !quiet(Command::new(&python).args(["-m", "pip", "--version"])) {
        create()?;
    }
    let wanted = fs::read_to_string(requirements).map_err(|e| format!("{}: {e}", requirements.display()))?;
    // A stamp, because asking pip takes seconds even when there is nothing to do.
    let folder = requirements.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let stamp = root().join(".venv").join(format!("installed-{folder}.txt"));
    if fs::read_to_string(&stamp).ok().as_ref() != Some(&wanted) {
        let args = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
        run(Command::new(&python).args(args).arg(requirements))?;
        fs::write(&stamp, wanted).map_err(|e| format!("{}: {e}", stamp.display()))?;
    }
    Ok(python)
}

/// The environment's interpreter.
pub(crate) fn interpreter() -> PathBuf {
    let venv = root().join(".venv");
    if cfg!(windows) { venv.join("Scripts").join("python.exe") } else { venv.join("bin").join("python") }
}

fn create() -> Step {
    let venv = root().join(".venv");
    let base = ["python3", "python"].into_iter().find(|name| exists(name));
    let base = base.ok_or("the tests need Python 3.9 or later with pip: install it, then run this again")?;
    let make = || run(Command::new(base).args(["-m", "venv", "--clear"]).arg(&venv));
    if make().is_ok() {
        return Ok(());
    }
    // Debian keeps the venv module's other half in a package of its own.
    if exists("apt-get") {
        let version = output(Command::new(base).args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]));
        let versioned = version.map_or_else(|| "python3-venv".to_owned(), |v| format!("python{v}-venv"));
        if prerequisites::apt(&["python3-venv"]).is_ok() && make().is_ok() {
            return Ok(());
        }
        prerequisites::apt(&[&versioned])?;
        if make().is_ok() {
            return Ok(());
        }
    }
    run(Command::new(base).args(["-m", "virtualenv"]).arg(&venv))
        .map_err(|_| format!("{base} can make no virtual environment: install its venv module, then run this again"))
}
