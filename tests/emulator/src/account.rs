//! The user that PostgreSQL and PgBouncer run as: both refuse root.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::os;

/// Ourselves, or the user of PostgreSQL's package where we are root.
pub(crate) struct Account {
    name: String,
    /// User and group, if they are not ours.
    other: Option<(u32, u32)>,
}

impl Account {
    pub(crate) fn of_servers() -> io::Result<Self> {
        if os::is_root() {
            let missing =
                || io::Error::other("PostgreSQL does not run as root, and there is no user postgres");
            let (name, uid, gid) = users()?.find(|(name, ..)| name == "postgres").ok_or_else(missing)?;
            return Ok(Self { name, other: Some((uid, gid)) });
        }
        let own = fs::metadata("/proc/self")?.uid();
        let found = users()?.find(|(_, uid, _)| *uid == own);
        Ok(Self { name: found.map_or_else(String::new, |(name, ..)| name), other: None })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Gives it a file or directory.
    pub(crate) fn give(&self, path: &Path) -> io::Result<()> {
        self.other.map_or(Ok(()), |(uid, gid)| chown(path, Some(uid), Some(gid)))
    }

    /// Lets it run a program.
    pub(crate) fn run(&self, command: &mut Command) {
        if let Some((uid, gid)) = self.other {
            command.uid(uid).gid(gid);
        }
    }
}

/// Names, user ids and group ids of /etc/passwd.
fn users() -> io::Result<impl Iterator<Item = (String, u32, u32)>> {
    let parse = |line: String| {
        let [name, _, uid, gid, ..] = line.split(':').collect::<Vec<_>>()[..] else { return None };
        Some((name.to_owned(), uid.parse().ok()?, gid.parse().ok()?))
    };
    Ok(BufReader::new(fs::File::open("/etc/passwd")?).lines().map_while(Result::ok).filter_map(parse))
}
