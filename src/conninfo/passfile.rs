//! The password file: lines of `host:port:dbname:user:password`.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Effective, path};
use crate::os;

/// The socket directories that builds of libpq have compiled in: Debian's and upstream's. A line for
/// `localhost` is theirs too. Which one it is cannot be asked, so a line that names it is taken as well.
pub(crate) const SOCKET_DIRECTORIES: [&[u8]; 2] = [b"/var/run/postgresql", b"/tmp"];

/// The password of the first line that fits. An empty host is `localhost`, an empty port the default one;
/// without a database or a user nothing fits.
pub(crate) fn password(
    contents: &[u8],
    host: &[u8],
    port: &[u8],
    dbname: &[u8],
    user: &[u8],
) -> Option<Vec<u8>> {
    if dbname.is_empty() || user.is_empty() {
        return None;
    }
    let port = if port.is_empty() { b"5432" } else { port };
    let is_local = host.is_empty() || SOCKET_DIRECTORIES.contains(&host);
    contents.split(|&byte| byte == b'\n').find_map(|line| {
        let end = line.iter().rposition(|&byte| byte != b'\r')? + 1;
        let line = &line[..end];
        if line.starts_with(b"#") {
            return None;
        }
        let local = if is_local { after_field(line, b"localhost") } else { None };
        let rest = local.or_else(|| after_field(line, host).filter(|_| !host.is_empty()))?;
        let rest = after_field(after_field(after_field(rest, port)?, dbname)?, user)?;
        Some(unescaped(rest))
    })
}

/// What follows the first field and its colon, if the field is this text or `*`.
fn after_field<'a>(line: &'a [u8], text: &[u8]) -> Option<&'a [u8]> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some(rest);
    }
    let mut rest = line;
    for &expected in text {
        rest = rest.strip_prefix(b"\\").unwrap_or(rest);
        rest = rest.strip_prefix(&[expected])?;
    }
    rest.strip_prefix(b":")
}

/// The password up to the line's end or an unescaped colon. A backslash at the very end is itself.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut password = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b':' => break,
            b'\\' => password.push(bytes.next().copied().unwrap_or(byte)),
            _ => password.push(byte),
        }
    }
    password
}

/// The password file's bytes. None where libpq ignores it: it cannot be read, is no plain file, or others may use it.
pub(crate) fn read(file: &Path) -> Option<Vec<u8>> {
    let mut file = os::open_plain(file).ok()?;
    if file.metadata().ok()?.permissions().mode() & 0o077 != 0 {
        return None;
    }
    let mut contents = Vec::new();
    file.read_to_end(&mut contents).ok()?;
    Some(contents)
}

/// Each host's password from the file of `passfile`, else `.pgpass` in `home`. `os_user` stands in for an
/// absent user. libpq asks for them only where there is no other password.
pub(crate) fn passwords(effective: &Effective, os_user: &[u8], home: Option<&Path>) -> Vec<Option<Vec<u8>>> {
    let or = |value, default| if <[u8]>::is_empty(value) { default } else { value };
    let user = or(effective.value("user"), os_user);
    let dbname = or(effective.value("dbname"), user);
    let file = match effective.value("passfile") {
        b"" => home.map(|home| home.join(".pgpass")),
        file => Some(path(file.to_vec())),
    };
    let contents = file.and_then(|file| read(&file)).unwrap_or_default();
    let hosts = effective.hosts();
    // A host goes by its name; by its address only where it has none.
    hosts.iter().map(|at| password(&contents, or(at.host, at.hostaddr), at.port, dbname, user)).collect()
}
