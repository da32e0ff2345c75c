//! What must be on the machine and does not come by cargo. Looking takes milliseconds and changes nothing; what is
//! missing is installed as root on Debian, and told everywhere else.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::bail;

use crate::dev::on_path;
use crate::workspace;

/// Something that is needed, and how package managers call it.
#[derive(Debug)]
pub(crate) struct Prerequisite {
    /// What it is, and what for.
    what: &'static str,
    found: Found,
    debian: &'static str,
    fedora: &'static str,
    brew: &'static str,
}

/// How it is looked for.
#[derive(Debug)]
enum Found {
    /// On the path.
    Program(&'static str),
    By(fn() -> bool),
}

impl Prerequisite {
    /// A program in a package of its own name.
    const fn program(name: &'static str, what: &'static str) -> Self {
        Self { what, found: Found::Program(name), debian: name, fedora: name, brew: name }
    }

    fn is_there(&self) -> bool {
        match self.found {
            Found::Program(name) => on_path(name).is_some(),
            Found::By(look) => look(),
        }
    }
}

const CXX: Prerequisite = Prerequisite {
    what: "a C++20 compiler, for RocksDB",
    found: Found::By(has_cxx),
    debian: "g++",
    fedora: "gcc-c++",
    brew: "llvm",
};
const MAKE: Prerequisite = Prerequisite::program("make", "make, for jemalloc");
const LIBCLANG: Prerequisite = Prerequisite {
    what: "libclang with its headers, for RocksDB's bindings",
    found: Found::By(has_libclang),
    debian: "libclang-dev",
    fedora: "clang-devel",
    brew: "llvm",
};
const SKOPEO: Prerequisite = Prerequisite::program("skopeo", "skopeo, a client of the tests");

const WRK: Prerequisite = Prerequisite::program("wrk", "wrk, the load generator of the bench");
const STRACE: Prerequisite = Prerequisite::program("strace", "strace, which counts syncs and makes them fail");
const NGINX: Prerequisite = Prerequisite {
    found: Found::By(|| on_path("nginx").is_some() || Path::new("/usr/sbin/nginx").is_file()),
    ..Prerequisite::program("nginx", "nginx, the limit that the bench compares with")
};
const DOCKER_REGISTRY: Prerequisite = Prerequisite {
    fedora: "docker-distribution",
    ..Prerequisite::program("docker-registry", "Debian's docker-registry 2.8.2, a peer of the bench")
};

/// For building.
pub(crate) const BUILD: &[Prerequisite] = &[CXX, MAKE, LIBCLANG];
/// For chaos, beyond what is built.
pub(crate) const CHAOS: &[Prerequisite] = &[CXX, MAKE, LIBCLANG, STRACE];
/// For the tests, beyond what is built by Go.
pub(crate) const TEST: &[Prerequisite] = &[CXX, MAKE, LIBCLANG, SKOPEO];
/// For the bench, beyond what is built by Go.
pub(crate) const BENCH: &[Prerequisite] = &[CXX, MAKE, LIBCLANG, WRK, STRACE, NGINX, DOCKER_REGISTRY];

/// Sees to it that all are there.
pub(crate) fn ensure(needed: &[Prerequisite]) -> anyhow::Result<()> {
    let missing: Vec<&Prerequisite> = needed.iter().filter(|p| !p.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    match (on_path("apt-get"), as_root()) {
        (Some(_), Some(root)) => install(&root, &missing)?,
        _ => bail!("{}", instruction(&missing)),
    }
    let still: Vec<&str> = missing.iter().filter(|p| !p.is_there()).map(|p| p.what).collect();
    if !still.is_empty() {
        bail!("installed, and still not found: {}; see what the package manager said above", still.join("; "));
    }
    Ok(())
}

/// What has to be put before a command so that root runs it: nothing, or `sudo` where that asks for no password.
fn as_root() -> Option<Vec<&'static str>> {
    let answers = |command: &[&str], answer: &str| {
        let output = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).stderr(Stdio::null()).output();
        output.is_ok_and(|o| o.status.success() && o.stdout.trim_ascii() == answer.as_bytes())
    };
    if answers(&["id", "-u"], "0") {
        return Some(Vec::new());
    }
    answers(&["sudo", "-n", "id", "-u"], "0").then(|| vec!["sudo", "-n"])
}

fn install(root: &[&str], missing: &[&Prerequisite]) -> anyhow::Result<()> {
    for prerequisite in missing {
        println!("installing {} ({})", prerequisite.debian, prerequisite.what);
    }
    let packages: Vec<&str> = missing.iter().map(|p| p.debian).collect();
    if apt_install(root, &packages).is_err() {
        // The lists of a fresh machine may be empty or old.
        workspace::succeed(&mut apt(root, &["update"]))?;
        apt_install(root, &packages)?;
    }
    Ok(())
}

fn apt_install(root: &[&str], packages: &[&str]) -> anyhow::Result<()> {
    workspace::succeed(apt(root, &["install", "-y", "--no-install-recommends"]).args(packages))
}

fn apt(root: &[&str], arguments: &[&str]) -> Command {
    let environment = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"];
    let words: Vec<&str> = root.iter().chain(&environment).chain(arguments).copied().collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    command
}

/// The exact line for this machine.
fn instruction(missing: &[&Prerequisite]) -> String {
    let what: Vec<&str> = missing.iter().map(|p| p.what).collect();
    let (line, packages): (&str, fn(&Prerequisite) -> &'static str) = if on_path("dnf").is_some() {
        ("sudo dnf install -y", |p| p.fedora)
    } else if on_path("brew").is_some() {
        ("brew install", |p| p.brew)
    } else {
        ("sudo apt-get install -y", |p| p.debian)
    };
    let mut packages: Vec<&str> = missing.iter().map(|p| packages(p)).collect();
    packages.dedup();
    format!("missing: {}; install it with\n  {line} {}", what.join("; "), packages.join(" "))
}

/// As the `cc` crate looks for one.
fn has_cxx() -> bool {
    let named = std::env::var("CXX").ok().filter(|name| !name.is_empty());
    let compiler = named.unwrap_or_else(|| "c++".into());
    // GCC 10 and Clang 10 have what RocksDB uses of C++20.
    const MAJOR_MIN: u32 = 10;
    let output = Command::new(compiler).arg("-dumpversion").stdin(Stdio::null()).stderr(Stdio::null()).output();
    let version = output.ok().filter(|o| o.status.success()).map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    let major = version.and_then(|v| v.trim().split('.').next()?.parse::<u32>().ok());
    major.is_some_and(|major| major >= MAJOR_MIN)
}

/// As `clang-sys` looks for it; and bindgen needs the compiler's own headers beside the library.
fn has_libclang() -> bool {
    let named = std::env::var_os("LIBCLANG_PATH").map(PathBuf::from);
    let library = match &named {
        Some(path) => is_libclang(path) || holds_libclang(path),
        None => library_folders().iter().any(|folder| holds_libclang(folder)),
    };
    library && (on_path("clang").is_some() || library_folders().iter().any(|folder| has_headers(folder)))
}

/// `/usr/lib`, `/usr/lib/*`, `/usr/lib/*/*` and the same of `lib32`, `lib64` and `/usr/local`.
fn library_folders() -> Vec<PathBuf> {
    let mut level: Vec<PathBuf> = ["/usr", "/usr/local"]
        .iter()
        .flat_map(|base| folders_in(Path::new(base)))
        .filter(|folder| folder.file_name().is_some_and(|n| n.to_string_lossy().starts_with("lib")))
        .collect();
    level.extend(["/opt/homebrew/opt/llvm/lib", "/usr/local/opt/llvm/lib"].map(PathBuf::from));
    let second: Vec<PathBuf> = level.iter().flat_map(|folder| folders_in(folder)).collect();
    // The third level is only of interest where LLVM has a folder of its own.
    let llvm = second.iter().filter(|f| f.file_name().is_some_and(|n| n.to_string_lossy().starts_with("llvm")));
    let third: Vec<PathBuf> = llvm.flat_map(|folder| folders_in(folder)).collect();
    level.into_iter().chain(second).chain(third).collect()
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn holds_libclang(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| is_libclang(&path))
}

fn is_libclang(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let version = |rest: &str| rest.chars().all(|c| c.is_ascii_digit() || c == '.');
    let shared = match name.strip_prefix("libclang").and_then(|rest| rest.split_once(".so")) {
        Some((before, after)) => (before.is_empty() || before.strip_prefix('-').is_some_and(version)) && version(after),
        None => name == "libclang.dylib",
    };
    // A link to what was removed is none.
    shared && file.is_file()
}

/// `clang/<version>/include/stddef.h` below a library folder.
fn has_headers(folder: &Path) -> bool {
    folders_in(&folder.join("clang")).iter().any(|version| version.join("include/stddef.h").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shared_library_counts() {
        let temp = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            let file = temp.path().join(name);
            std::fs::write(&file, "").unwrap();
            file
        };
        for good in ["libclang.so", "libclang.so.1", "libclang-14.so", "libclang-14.so.14.0.6", "libclang.dylib"] {
            assert!(is_libclang(&made(good)), "{good}");
        }
        for bad in ["libclang-cpp.so.14", "libclangBasic.a", "libclang.a", "clang.so", "libclang.something"] {
            assert!(!is_libclang(&made(bad)), "{bad}");
        }
        std::os::unix::fs::symlink("/nowhere", temp.path().join("libclang.so.9")).unwrap();
        assert!(!is_libclang(&temp.path().join("libclang.so.9")));
    }

    #[test]
    fn headers_are_looked_for_beside_the_library() {
        let temp = tempfile::tempdir().unwrap();
        assert!(!has_headers(temp.path()));
        std::fs::create_dir_all(temp.path().join("clang/14/include")).unwrap();
        assert!(!has_headers(temp.path()));
        std::fs::write(temp.path().join("clang/14/include/stddef.h"), "").unwrap();
        assert!(has_headers(temp.path()));
    }

    #[test]
    fn what_is_missing_is_told_with_the_line_that_installs_it() {
        let told = instruction(&[&CXX, &LIBCLANG]);
        assert!(told.contains("install") && told.contains(LIBCLANG.what) && told.lines().count() == 2, "{told}");
    }

    #[test]
    fn the_machine_that_built_this_workspace_has_what_it_needs() {
        assert!(has_cxx());
        assert!(has_libclang());
    }
}
