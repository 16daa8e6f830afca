//! Private directories that vanish, also when this process is killed.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// A directory below the system's temporary one.
pub(crate) struct PrivateDir {
    path: PathBuf,
    remover: Remover,
}

impl PrivateDir {
    /// `mode` is 0700 unless another user must look inside.
    pub(crate) fn new(prefix: &str, mode: u32) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix(prefix).tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode))?;
        let remover = Remover::new(r#"exec rm -rf -- "$1""#, &[dir.path()])?;
        Ok(Self { path: dir.keep(), remover })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A descriptor that keeps the directory for as long as a process holds it, even if this one is killed.
    pub(crate) fn keep(&self) -> io::Result<OwnedFd> {
        self.remover.keep()
    }

    /// Writes a file that others may read, and returns its path.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, content)?;
        Ok(path)
    }

    /// Puts a file in the place of another at once: no reader sees half of it.
    pub(crate) fn replace(&self, name: &str, content: impl AsRef<[u8]>) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        fs::rename(self.write(&format!(".{name}"), content)?, &path)?;
        Ok(path)
    }
}

/// A shell that removes something, at the word of `drop` or when nobody is left who could say it: its standard input
/// ends once this process and all holders of [`Remover::keep`] are gone.
pub(crate) struct Remover {
    shell: Child,
    word: Option<ChildStdin>,
}

impl Remover {
    /// `script` does the removing; it gets the arguments.
    pub(crate) fn new<A: AsRef<OsStr>>(script: &str, args: &[A]) -> io::Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", &format!("trap '' HUP INT TERM; read -r word; {script}"), "remover"])
            .args(args)
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // the terminal's Ctrl-C is not meant for it
            .spawn()?;
        let word = shell.stdin.take();
        Ok(Self { shell, word })
    }

    fn keep(&self) -> io::Result<OwnedFd> {
        let word = self.word.as_ref().ok_or_else(|| io::Error::other("the removal has begun"))?;
        word.as_fd().try_clone_to_owned()
    }
}

impl Drop for Remover {
    fn drop(&mut self) {
        if let Some(mut word) = self.word.take() {
            let _ = word.write_all(b"now\n");
        }
        let _ = self.shell.wait();
    }
}
