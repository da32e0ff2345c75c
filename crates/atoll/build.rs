//! Makes the list of failpoints and planted bugs from the sources, so that a node refuses a name that it does not have.

use std::path::Path;
use std::{env, fs, io};

use atoll_fault::sources::{Kind, scan};

fn main() -> io::Result<()> {
    let crates = Path::new("..");
    let found = scan(crates)?;
    let names = |kind| -> Vec<&str> { found.iter().filter(|f| f.kind == kind).map(|f| f.name.as_str()).collect() };
    let text = format!(
        "const KNOWN: atoll_fault::Known<'static> = atoll_fault::Known {{ failpoints: &{:?}, failpoints_io: &{:?}, planted: \
         &{:?} }};\n",
        names(Kind::Failpoint),
        names(Kind::FailpointIo),
        names(Kind::Planted)
    );
    for folder in fs::read_dir(crates)? {
        println!("cargo::rerun-if-changed={}", folder?.path().join("src").display());
    }
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo names no OUT_DIR"))?;
    fs::write(Path::new(&out).join("fault_names.rs"), text)
}
