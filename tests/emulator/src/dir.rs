//! Private directories that vanish, also when this process is killed.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// A directory below the system's temporary one.
///
/// A shell removes it, at the word of `drop` or when nobody is left who could say it: its standard input ends once
/// this process and all holders of [`PrivateDir::keep`] are gone.
pub(crate) struct PrivateDir {
    path: PathBuf,
    remover: Child,
    word: Option<ChildStdin>,
}

impl PrivateDir {
    /// `mode` is 0700 unless another user must look inside.
    pub(crate) fn new(prefix: &str, mode: u32) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix(prefix).tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode))?;
        let mut remover = Command::new("/bin/sh")
            .args(["-c", r#"trap '' HUP INT TERM; read -r word; exec rm -rf -- "$1""#, "remover"])
            .arg(dir.path())
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // the terminal's Ctrl-C is not meant for it
            .spawn()?;
        let word = remover.stdin.take();
        Ok(Self { path: dir.keep(), remover, word })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A descriptor that keeps the directory for as long as a process holds it, even if this one is killed.
    pub(crate) fn keep(&self) -> io::Result<OwnedFd> {
        let word = self.word.as_ref().ok_or_else(|| io::Error::other("the directory is being removed"))?;
        word.as_fd().try_clone_to_owned()
    }

    /// Writes a file that others may read, and returns its path.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, content)?;
        Ok(path)
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        if let Some(mut word) = self.word.take() {
            let _ = word.write_all(b"now\n");
        }
        let _ = self.remover.wait();
    }
}
