//! Azure Arc's agent on a machine elsewhere: it believes whoever can read a file that only few may read.

use std::collections::HashMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::ask::{Ask, By, Contract, Denial, metadata};
use super::{Grant, Platform, imds};
use crate::dir::{PrivateDir, Remover};
use crate::http::Request;
use crate::random;
use crate::sync::lock;

/// An agent that asks each client for the content of a new file.
pub struct ArcAgent {
    dir: PathBuf,
    /// The start of its files' names.
    prefix: String,
    keys: Mutex<HashMap<String, PathBuf>>,
    manner: Mutex<Manner>,
    elsewhere: PrivateDir,
    /// Taken away by drop.
    remover: Option<Remover>,
}

struct Manner {
    challenge: Challenge,
    old: bool,
}

/// How the first request is answered. The key is valid in any case: it is for the client to be careful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// As it should be.
    Good,
    /// The path in quotes.
    Quoted,
    /// A `=` in the file's name.
    EqualsInName,
    /// A key of so many bytes.
    Size(usize),
    /// No `WWW-Authenticate`.
    Missing,
    /// This `WWW-Authenticate`, in which `{path}` stands for the file.
    Header(String),
    /// A file in another directory.
    Elsewhere,
    /// A path that leads out of the directory by `..`.
    DotDot,
    /// A symbolic link to a file in another directory.
    Symlink,
    /// A file that does not end in `.key`.
    Suffix,
    /// No such file.
    NoFile,
    /// A directory.
    Directory,
    /// A pipe, which nobody writes to.
    Pipe,
}

const CONTRACT: Contract = Contract {
    method: "GET",
    path: imds::PATH,
    versions: &["2019-11-01", SELECTORS_SINCE, "2021-02-01"],
    selectors: &[("client_id", By::Client), ("object_id", By::Object), ("msi_res_id", By::Resource)],
};
const SELECTORS_SINCE: &str = "2020-06-01";
const HEADER: &str = "Authorization";

/// The mode of directories that agents made, of this process or of another: no other program gives it. So the last agent
/// to go removes them, whoever made them.
const OURS: u32 = 0o1755;

/// Held by an agent of this process while it makes or removes something in directories that others use too.
static DIRS: Mutex<()> = Mutex::new(());

impl ArcAgent {
    /// Where a real agent on Linux has its files.
    pub const TOKENS: &str = "/var/opt/azcmagent/tokens";

    /// One with its files in this directory, which it makes if need be.
    ///
    /// # Panics
    /// If it cannot.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self::try_new(dir.clone()).unwrap_or_else(|error| panic!("no keys in {}: {error}", dir.display()))
    }

    fn try_new(dir: PathBuf) -> io::Result<Self> {
        let prefix = random::guid();
        let elsewhere = PrivateDir::new("pgaad-arc-", 0o700)?;
        // Without a word, this process was killed, and nobody in it removes the directories.
        let script = format!(
            r#"rm -rf -- "$1/$2"*; dir=$1; [ "$word" ] ||
            while [ "$(stat -c %a -- "$dir")" = {OURS:o} ] && rmdir -- "$dir"; do dir=${{dir%/*}}; done"#
        );
        let remover = Some(Remover::new(&script, &[dir.as_os_str(), prefix.as_ref()])?);
        {
            let _alone = lock(&DIRS);
            make(&dir)?;
        }
        let (keys, manner) =
            (Mutex::default(), Mutex::new(Manner { challenge: Challenge::Good, old: false }));
        Ok(Self { dir, prefix, keys, manner, elsewhere, remover })
    }

    /// Answers first requests in this way from now on.
    pub fn challenge(&self, challenge: Challenge) {
        lock(&self.manner).challenge = challenge;
    }

    /// Is as old agents are from now on, which ignore what identity is named.
    pub fn grow_old(&self) {
        lock(&self.manner).old = true;
    }

    /// Makes a key, and the `WWW-Authenticate` that asks for it.
    fn make_challenge(&self) -> io::Result<Option<String>> {
        let challenge = lock(&self.manner).challenge.clone();
        let path = self.make_key(&challenge)?.display().to_string();
        Ok(match challenge {
            Challenge::Missing => None,
            Challenge::Quoted => Some(format!("Basic realm=\"{path}\"")),
            Challenge::Header(text) => Some(text.replace("{path}", &path)),
            _ => Some(format!("Basic realm={path}")),
        })
    }

    /// Makes a key and its file; returns the path to tell.
    fn make_key(&self, challenge: &Challenge) -> io::Result<PathBuf> {
        let size = if let Challenge::Size(size) = challenge { *size } else { 64 };
        let mut key = String::new();
        while key.len() < size {
            key.push_str(&random::text::<48>());
        }
        key.truncate(size);
        let extension = match challenge {
            Challenge::Suffix => "txt",
            Challenge::EqualsInName => "=.key",
            _ => "key",
        };
        let name = format!("{}-{}.{extension}", self.prefix, random::guid());
        let (inside, outside) = (self.dir.join(&name), self.elsewhere.path().join(&name));
        let _alone = lock(&DIRS);
        make(&self.dir)?; // another agent may have removed it
        let (file, told) = match challenge {
            Challenge::Elsewhere => (Some(&outside), outside.clone()),
            Challenge::DotDot => {
                let up = "../".repeat(self.dir.components().count());
                let below_root = outside.strip_prefix("/").map_err(io::Error::other)?;
                (Some(&outside), self.dir.join(up).join(below_root))
            }
            Challenge::Symlink => {
                symlink(&outside, &inside)?;
                (Some(&outside), inside.clone())
            }
            Challenge::Directory => {
                fs::create_dir(&inside)?;
                (None, inside.clone())
            }
            Challenge::Pipe => {
                let made = Command::new("/usr/bin/mkfifo").arg(&inside).status()?;
                made.success().then_some(()).ok_or_else(|| io::Error::other("mkfifo failed"))?;
                (None, inside.clone())
            }
            Challenge::NoFile => (None, inside.clone()),
            _ => (Some(&inside), inside.clone()),
        };
        if let Some(file) = file {
            let mut open = OpenOptions::new();
            open.write(true).create_new(true).mode(0o640).open(file)?.write_all(key.as_bytes())?;
        }
        lock(&self.keys).insert(key, told.clone());
        Ok(told)
    }

    /// Whether this is a key, which it is no more after that.
    fn use_key(&self, key: &str) -> bool {
        let file = lock(&self.keys).remove(key);
        file.as_ref().is_some_and(|file| fs::remove_file(file).is_ok())
    }
}

impl Drop for ArcAgent {
    fn drop(&mut self) {
        drop(self.remover.take());
        let _alone = lock(&DIRS);
        for dir in self.dir.ancestors().take_while(|dir| is_ours(dir)) {
            if fs::remove_dir(dir).is_err() {
                return; // others use it
            }
        }
    }
}

/// Makes the directory with those above it.
fn make(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.is_dir()).collect();
    for dir in missing.into_iter().rev() {
        match fs::create_dir(dir) {
            Ok(()) => fs::set_permissions(dir, Permissions::from_mode(OURS))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {} // another process was faster
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether an agent made this directory.
fn is_ours(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|about| about.permissions().mode() & 0o7777 == OURS)
}

impl Platform for ArcAgent {
    const SECRET: Option<&'static str> = Some(HEADER);

    fn env(&self, origin: &str) -> Vec<(&'static str, String)> {
        vec![
            ("IDENTITY_ENDPOINT", format!("{origin}{}", CONTRACT.path)),
            ("IMDS_ENDPOINT", origin.to_owned()),
        ]
    }

    fn read(&self, request: &Request) -> Result<Ask, Denial> {
        let mut ask = CONTRACT.read(request)?;
        metadata(request)?;
        if ask.selector.is_some() && ask.version.as_str() < SELECTORS_SINCE {
            return Err(Denial::Version);
        }
        if request.all(HEADER).next().is_none() {
            let challenge = self.make_challenge().map_err(|error| Denial::Broken(error.to_string()))?;
            return Err(Denial::Unproven(challenge));
        }
        let key = request.header(HEADER).and_then(|value| value.strip_prefix("Basic "));
        if !key.is_some_and(|key| self.use_key(key)) {
            return Err(Denial::Secret(HEADER));
        }
        if lock(&self.manner).old {
            ask.selector = None;
        }
        Ok(ask)
    }

    fn code(&self, denial: &Denial) -> (u16, &'static str) {
        match denial {
            Denial::Path => (404, "not_found"),
            Denial::Method(_) => (405, "method_not_allowed"),
            Denial::Header(_) => (400, "bad_request_102"),
            Denial::Unproven(_) => (401, "unauthorized_client"),
            Denial::Secret(_) => (403, "unauthorized_client"),
            Denial::Broken(_) => (500, "unknown"),
            Denial::UnknownResource(_) => (400, "invalid_resource"),
            _ => (400, "invalid_request"),
        }
    }

    fn error(&self, _: u16, error: &str, text: &str) -> Value {
        json!({"error": error, "error_description": text})
    }

    /// Repeats the name that the identity was asked for by, which shows that the agent went by it.
    fn answer(&self, grant: &Grant) -> Value {
        let mut body = grant.in_strings();
        match grant.selector.as_ref().map(|selector| selector.by) {
            Some(By::Object) => body["object_id"] = json!(grant.who.object_id),
            Some(By::Resource) => body["msi_res_id"] = json!(grant.who.resource_id),
            Some(By::Client) | None => {}
        }
        body
    }
}
