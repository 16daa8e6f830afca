//! The connection service file: sections `[service]` of `keyword=value` lines.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Env, Error, ErrorKind, Options, is_space, is_word, path, trim_start};

/// Where Debian's libpq looks, and most others that a distribution built are alike.
const SYSTEM_DIRECTORY: &str = "/etc/postgresql-common";

/// libpq reads lines into a buffer of 1024 bytes, and refuses those that fill it, their line break included.
const LINE_BUFFER: usize = 1023;

/// The options of the service that `service` or PGSERVICE names; None where neither does. To name one that
/// no file defines is an error.
pub(crate) fn load(
    given: &Options,
    env: Env<'_>,
    home: Option<&Path>,
    version: i32,
) -> Result<Option<Options>, Error> {
    let Some(service) = given.get("service").map(<[u8]>::to_vec).or_else(|| env("PGSERVICE")) else {
        return Ok(None);
    };
    for file in locate(given, env, home, version) {
        let mut opened = File::open(&file).map_err(|error| {
            config(format!("The service file {} cannot be read: {error}.", file.display()))
        })?;
        let mut contents = Vec::new();
        // What cannot be read ends the file, as it does for libpq: a directory is an empty file.
        let _ = opened.read_to_end(&mut contents);
        if let Some(options) = read(&contents, &service, &file)? {
            return Ok(Some(options));
        }
    }
    let service = String::from_utf8_lossy(&service);
    Err(config(format!(
        "definition of service \"{service}\" not found (PGSERVICEFILE names the file to look in)"
    )))
}

/// The files to look in, in this order. One that is named belongs to them whether it exists or not.
pub(crate) fn locate(given: &Options, env: Env<'_>, home: Option<&Path>, version: i32) -> Vec<PathBuf> {
    let option = given.get("servicefile").filter(|_| version >= 190000).map(<[u8]>::to_vec);
    let own = match option.or_else(|| env("PGSERVICEFILE")) {
        Some(named) => Some(path(named)),
        None => home.map(|home| home.join(".pg_service.conf")).filter(|file| file.exists()),
    };
    let directory = env("PGSYSCONFDIR").map_or_else(|| SYSTEM_DIRECTORY.into(), path);
    let system = Some(directory.join("pg_service.conf")).filter(|file| file.exists());
    own.into_iter().chain(system).collect()
}

/// The options of this service; None if the file lacks it. `file` is for messages.
///
/// As in connection strings, keywords that are words but not ours are passed on for libpq to judge.
pub(crate) fn read(contents: &[u8], service: &[u8], file: &Path) -> Result<Option<Options>, Error> {
    let mut found: Option<Options> = None;
    for (index, line) in lines(contents).enumerate() {
        let error =
            |what: &str| config(format!("{what} in service file {}, line {}", file.display(), index + 1));
        if line.len() == LINE_BUFFER {
            return Err(error("a line longer than 1021 bytes"));
        }
        let end = line.iter().rposition(|&byte| !is_space(byte)).map_or(0, |last| last + 1);
        let line = trim_start(&line[..end]);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if let Some(title) = line.strip_prefix(b"[") {
            if found.is_some() {
                break;
            }
            if title.strip_prefix(service).is_some_and(|rest| rest.starts_with(b"]")) {
                found = Some(Options::default());
            }
            continue;
        }
        let Some(options) = &mut found else { continue };
        if line.starts_with(b"ldap") {
            return Err(error("an LDAP address, which pgaad does not follow,"));
        }
        // No blanks are trimmed around the `=`.
        let Some((keyword, value)) = line.iter().position(|&byte| byte == b'=').map(|at| line.split_at(at))
        else {
            return Err(error("a line without \"=\""));
        };
        if keyword == b"service" || keyword == b"servicefile" {
            return Err(error("a nested service, which libpq does not support,"));
        }
        // The first of equal keywords counts, other than in connection strings.
        let is_new = !options.iter().any(|(known, _)| known == keyword);
        if !is_word(keyword) || is_new && !options.store(keyword, value[1..].to_vec()) {
            return Err(error("an invalid keyword"));
        }
    }
    Ok(found)
}

/// The file as `fgets` hands it to libpq: with line breaks, cut at the buffer's end and at a NUL.
fn lines(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1);
        let (line, after) = rest.split_at(end.min(LINE_BUFFER));
        rest = after;
        line.split(|&byte| byte == 0).next()
    })
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}
