//! What the build needs beside Rust: cmake, make and a C++ compiler for llama.cpp, libclang for its bindings. Installs
//! it with apt-get or brew where that works without a password, else prints the exact command.

use crate::shell::{Step, exists, output, quiet, run};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// One thing that is needed, and what it is called elsewhere.
struct Need {
    what: &'static str,
    present: fn() -> bool,
    debian: &'static str,
    fedora: &'static str,
    arch: &'static str,
    brew: &'static str,
}

const NEEDS: [Need; 4] = [
    Need { what: "cmake", present: || exists("cmake"), debian: "cmake", fedora: "cmake", arch: "cmake", brew: "cmake" },
    Need {
        what: "a C++ compiler",
        present: || cfg!(windows) || ["c++", "g++", "clang++"].iter().any(|name| exists(name)),
        debian: "g++",
        fedora: "gcc-c++",
        arch: "gcc",
        brew: "llvm",
    },
    Need {
        what: "make",
        present: || cfg!(windows) || exists("make"),
        debian: "make",
        fedora: "make",
        arch: "make",
        brew: "make",
    },
    Need {
        what: "libclang",
        present: || libclang().is_some(),
        debian: "libclang-dev",
        fedora: "clang-devel",
        arch: "clang",
        brew: "llvm",
    },
];

/// Makes sure that the build can start.
pub(crate) fn install() -> Step {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|need| need.what).collect();
    eprintln!("the build needs {}", names.join(", "));
    let packages = |of: fn(&Need) -> &'static str| missing.iter().map(|need| of(need)).collect::<Vec<_>>();
    if exists("apt-get") {
        apt(&packages(|need| need.debian))?;
    } else if exists("brew") {
        run(Command::new("brew").arg("install").args(packages(|need| need.brew)))?;
    } else {
        let command = if exists("dnf") {
            format!("sudo dnf install {}", packages(|need| need.fedora).join(" "))
        } else if exists("pacman") {
            format!("sudo pacman -S {}", packages(|need| need.arch).join(" "))
        } else if cfg!(windows) {
            "winget install Kitware.CMake LLVM.LLVM".to_owned()
        } else {
            format!("your package manager, for: {}", names.join(", "))
        };
        return Err(format!("install them, then run this again:\n\n  {command}\n"));
    }
    match NEEDS.iter().find(|need| !(need.present)()) {
        None => Ok(()),
        Some(need) => Err(format!("{} is still missing after the installation; install it by hand", need.what)),
    }
}

/// Installs Debian packages as root, or through sudo when it asks for no password.
pub(crate) fn apt(packages: &[&str]) -> Step {
    let root = output(Command::new("id").arg("-u")).is_some_and(|id| id == "0");
    let by_hand = format!("sudo apt-get install {}", packages.join(" "));
    if !root && !quiet(Command::new("sudo").args(["-n", "true"])) {
        return Err(format!("install them, then run this again:\n\n  {by_hand}\n"));
    }
    let apt = |args: &[&str]| {
        let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
        if !root {
            command.args(["-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
        run(command)
    };
    let install = [&["install", "-y", "--no-install-recommends"], packages].concat();
    // The lists of a fresh machine are empty or old; one that is offline may have the packages all the same.
    apt(&["update"]).or_else(|_| apt(&install)).and_then(|()| apt(&install)).map_err(|e| format!("{e}; try: {by_hand}"))
}

/// The folder with libclang, looked for where bindgen looks.
fn libclang() -> Option<PathBuf> {
    let holds = |dir: &Path| {
        let files = fs::read_dir(dir).ok()?;
        files
            .flatten()
            .any(|file| {
                let name = file.file_name();
                let name = name.to_string_lossy();
                // `libclang-cpp` is another library, which Debian installs with other tools.
                let library = name.starts_with("libclang.") || name.starts_with("libclang-");
                let library = library && !name.starts_with("libclang-cpp");
                library && (name.contains(".so") || name.ends_with(".dylib")) || name == "libclang.dll"
            })
            .then(|| dir.to_owned())
    };
    let mut places: Vec<PathBuf> = env::var_os("LIBCLANG_PATH").map(PathBuf::from).into_iter().collect();
    places.extend(output(Command::new("llvm-config").arg("--libdir")).map(PathBuf::from));
    if let Some(prefix) = output(Command::new("brew").args(["--prefix", "llvm"])) {
        places.push(Path::new(&prefix).join("lib"));
    }
    let fixed = [
        "/usr/lib",
        "/usr/lib64",
        "/usr/local/lib",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/Library/Developer/CommandLineTools/usr/lib",
        "/Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib",
        "C:\\Program Files\\LLVM\\bin",
    ];
    places.extend(fixed.map(PathBuf::from));
    // /usr/lib/llvm-14/lib and /usr/lib64/llvm17/lib
    for base in ["/usr/lib", "/usr/lib64"] {
        let versions = fs::read_dir(base).into_iter().flatten().flatten();
        let versions = versions.filter(|item| item.file_name().to_string_lossy().starts_with("llvm"));
        places.extend(versions.map(|item| item.path().join("lib")));
    }
    places.iter().find_map(|dir| holds(dir))
}
