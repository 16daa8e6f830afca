//! Other versions of libpq than this machine's, and a PostgreSQL 18: what `make test-libpqs` got.

use std::io;
use std::path::{Path, PathBuf};

/// A libpq that a program linked with this machine's can be run with.
#[derive(Clone, Debug)]
pub struct Libpq {
    /// Its major version.
    pub version: u32,
    folder: PathBuf,
}

impl Libpq {
    /// Where `libpq.so.5` is, for `LD_LIBRARY_PATH`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The dynamic loader of the C library that this libpq needs, where it brings one: programs are run by it, for
    /// this machine's may be too old.
    pub fn loader(&self) -> Option<PathBuf> {
        Some(self.folder.join("ld-linux-x86-64.so.2")).filter(|loader| loader.exists())
    }

    /// All that are there, 16 to 18 at least; 19 where the machine's mirror has it.
    ///
    /// # Panics
    /// If one is missing.
    pub fn all() -> Vec<Self> {
        let root = folder().unwrap_or_else(|error| panic!("{error}"));
        let found = (16..=19).map(|version| Self { version, folder: root.join(format!("{version}/lib")) });
        let found: Vec<_> = found.filter(|libpq| libpq.folder.join("libpq.so.5").exists()).collect();
        assert!(found.len() >= 3, "{} holds {found:?} only: run make test-libpqs", root.display());
        found
    }
}

/// Where they are: in cargo's target directory, below which this program is.
pub(crate) fn folder() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let found =
        program.ancestors().map(|dir| dir.join("libpqs")).find(|dir| dir.join("18/made-from").exists());
    found.ok_or_else(|| io::Error::other("other libpqs are missing: run make test-libpqs"))
}
