//! The Go programs that are driven: by the tests real clients and the conformance suite, by the bench a peer. Each is
//! pinned, and installed once into `target/tools/bin`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::workspace;

/// (program, module, version).
type Tool = (&'static str, &'static str, &'static str);

/// For the tests.
pub(crate) const TEST: &[Tool] = &[
    ("conformance", "github.com/opencontainers/distribution-spec/conformance", "v0.0.0-20260831232431-97274622c111"),
    ("crane", "github.com/google/go-containerregistry/cmd/crane", "v0.22.1"),
    ("oras", "oras.land/oras/cmd/oras", "v1.3.6"),
    ("regctl", "github.com/regclient/regclient/cmd/regctl", "v0.11.7"),
];
/// For `dev --store s3`, and for the tests.
pub(crate) const S3: &[Tool] = &[("versitygw", "github.com/versity/versitygw/cmd/versitygw", "v1.8.0")];
/// For the bench.
pub(crate) const BENCH: &[Tool] = &[("registry", "github.com/distribution/distribution/v3/cmd/registry", "v3.1.2")];
const GO_MIN: (u32, u32) = (1, 24);

/// Where they are.
pub(crate) fn folder() -> anyhow::Result<PathBuf> {
    Ok(workspace::target()?.join("tools/bin"))
}

/// Sees to it that all are there, in the pinned versions. A missing Go is a failure: a test that is skipped for want
/// of its client proves nothing.
pub(crate) fn ensure(tools: &[Tool]) -> anyhow::Result<()> {
    let folder = folder()?;
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for tool in tools {
        if !is_installed(&folder, tool) {
            check_go()?;
            install(&folder, tool)?;
        }
    }
    Ok(())
}

/// `PATH` with that folder before all others.
pub(crate) fn path() -> anyhow::Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder()?).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).context("PATH cannot be extended")
}

fn is_installed(folder: &Path, (name, module, version): &Tool) -> bool {
    let stamp = std::fs::read_to_string(folder.join(format!("{name}.version"))).unwrap_or_default();
    stamp == format!("{module}@{version}") && folder.join(name).is_file()
}

fn install(folder: &Path, (name, module, version): &Tool) -> anyhow::Result<()> {
    let path = format!("{module}@{version}");
    println!("installing {path}");
    // GOFLAGS of a vendoring project around this would get in the way of a module of its own.
    let mut go = Command::new("go");
    go.args(["install", &path]).env("GOBIN", folder).env_remove("GOOS").env_remove("GOARCH").stdin(Stdio::null());
    workspace::succeed(&mut go)?;
    std::fs::write(folder.join(format!("{name}.version")), path).context("cannot note the version")
}

fn check_go() -> anyhow::Result<()> {
    let (major, minor) = GO_MIN;
    let advice = format!(
        "real clients and peers are built with Go {major}.{minor} or newer: install it (go.dev/dl) and put it on PATH"
    );
    let output = Command::new("go").args(["env", "GOVERSION"]).stdin(Stdio::null()).output();
    let Ok(output) = output else { bail!("go is not on PATH; {advice}") };
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match parse_version(&version) {
        Some(found) if found >= GO_MIN => Ok(()),
        _ => bail!("go is {version:?}; {advice}"),
    }
}

/// `go1.26.8` → (1, 26).
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.strip_prefix("go")?.split(['.', '-', ' ']);
    let minor = |part: &str| part.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    Some((parts.next()?.parse().ok()?, minor(parts.next()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_are_read() {
        assert_eq!(parse_version("go1.26.8"), Some((1, 26)));
        assert_eq!(parse_version("go1.19"), Some((1, 19)));
        assert_eq!(parse_version("go1.27rc1"), Some((1, 27)));
        assert_eq!(parse_version("go1.24-custom"), Some((1, 24)));
        assert_eq!(parse_version(""), None);
    }

    #[test]
    fn a_tool_of_another_version_is_installed_anew() {
        let temp = tempfile::tempdir().unwrap();
        let tool = ("crane", "example.org/crane", "v2");
        std::fs::write(temp.path().join("crane"), "").unwrap();
        std::fs::write(temp.path().join("crane.version"), "example.org/crane@v1").unwrap();
        assert!(!is_installed(temp.path(), &tool));
        std::fs::write(temp.path().join("crane.version"), "example.org/crane@v2").unwrap();
        assert!(is_installed(temp.path(), &tool));
    }
}
