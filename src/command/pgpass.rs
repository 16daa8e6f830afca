//! Lines of libpq's password file: `host:port:database:user:password`.

use zeroize::Zeroizing;

use crate::conninfo::Host;
use crate::conninfo::passfile::SOCKET_DIRECTORIES;
use crate::error::Error;
use crate::settings::config;

/// What a line begins with, up to the colon before the password: which connections it is for. Any database; any user
/// where none is named. A server has two where one libpq takes its socket's directory for the default one, another not;
/// the second, libpq's own name for it, is that of connections by TCP to this machine as well.
pub(super) fn places(server: &Host<'_>, user: Option<&[u8]>) -> Result<Vec<Vec<u8>>, Error> {
    let name = if server.host.is_empty() { server.hostaddr } else { server.host };
    let mut names = vec![name];
    if name.is_empty() {
        names = vec![b"localhost"];
    } else if SOCKET_DIRECTORIES.contains(&name) {
        names.push(b"localhost");
    }
    let port = if server.port.is_empty() { b"5432" } else { server.port };
    let user = match user {
        Some(user) => escaped(user),
        None => b"*".to_vec(),
    };
    if [name, port, &user].iter().any(|part| part.contains(&b'\n') || part.contains(&b'\r')) {
        return Err(config("A line break in host, port or user has no place in a password file."));
    }
    let place = |name: &&[u8]| [&escaped(name), &escaped(port), &b"*"[..], &user, b""].join(&b':');
    Ok(names.iter().map(place).collect())
}

/// A line without its end.
pub(super) fn line(place: &[u8], password: &[u8]) -> Zeroizing<Vec<u8>> {
    let password = Zeroizing::new(escaped(password));
    let mut line = Zeroizing::new(Vec::with_capacity(place.len() + password.len()));
    line.extend_from_slice(place);
    line.extend_from_slice(&password);
    line
}

/// What a line of a file begins with, as `places` would write it. None: it is a comment, or no line of five fields.
pub(super) fn place_of(line: &[u8]) -> Option<Vec<u8>> {
    if line.starts_with(b"#") {
        return None;
    }
    let (mut place, mut rest) = (Vec::new(), line);
    for _ in 0..4 {
        let (text, after) = field(rest)?;
        match raw_field(rest)?.0 {
            b"*" => place.push(b'*'),
            _ => place.extend(escaped(&text)),
        }
        place.push(b':');
        rest = after;
    }
    Some(place)
}

/// Whether a line of this place, above one of that place, leaves that one to others: it is for a named user, and perhaps
/// of the same server.
pub(super) fn is_for_fewer(place: &[u8], than: &[u8]) -> bool {
    let (Some(place), Some(than)) = (raw_fields(place), raw_fields(than)) else { return false };
    let meets = |at: usize| place[at] == than[at] || place[at] == b"*";
    meets(0) && meets(1) && place[3] != b"*" && than[3] == b"*"
}

fn raw_fields(mut place: &[u8]) -> Option<[&[u8]; 4]> {
    let mut fields = [&[][..]; 4];
    for field in &mut fields {
        (*field, place) = raw_field(place)?;
    }
    Some(fields)
}

fn raw_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, rest) = field(line)?;
    Some((&line[..line.len() - rest.len() - 1], rest))
}

/// The text of the first field, and what follows its colon.
fn field(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut text = Vec::new();
    let mut bytes = line.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        match byte {
            b':' => return Some((text, &line[at + 1..])),
            b'\\' => text.push(*bytes.next()?.1),
            _ => text.push(byte),
        }
    }
    None
}

/// So that libpq reads it as it is: no field ends in it, and it is neither "any" nor the beginning of a comment.
fn escaped(text: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len() + 1);
    for (at, &byte) in text.iter().enumerate() {
        if matches!(byte, b':' | b'\\') || at == 0 && matches!(byte, b'*' | b'#') {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conninfo::passfile::password;

    fn host<'a>(host: &'a str, hostaddr: &'a str, port: &'a str) -> Host<'a> {
        Host { host: host.as_bytes(), hostaddr: hostaddr.as_bytes(), port: port.as_bytes() }
    }

    #[test]
    fn libpq_finds_the_password_of_each_server_and_of_no_other() {
        let rows = [
            (host("a.example", "", "5433"), "a.example"),
            (host("a.example", "10.0.0.1", ""), "a.example"),
            (host("", "::1", "5433"), "::1"),
            (host("*", "", "5433"), "*"),
            (host("#a", "", "5433"), "#a"),
            (host("/run/a:b\\c", "", "5433"), "/run/a:b\\c"),
            (host("", "", "5433"), ""),
            (host("/tmp", "", "5433"), "/tmp"),
        ];
        for (server, name) in rows {
            let mut file = Vec::new();
            for place in places(&server, Some(b"a:b*")).expect("a place") {
                file.extend_from_slice(&line(&place, b"to:k\\en"));
                file.push(b'\n');
            }
            let port = if server.port.is_empty() { &b"5432"[..] } else { server.port };
            let found = |name: &str, port, user| password(&file, name.as_bytes(), port, b"any", user);
            assert_eq!(found(name, port, b"a:b*").as_deref(), Some(&b"to:k\\en"[..]), "{name}");
            assert_eq!(found("b.example", port, b"a:b*"), None, "{name}");
            assert_eq!(found(name, b"5434", b"a:b*"), None, "{name}");
            assert_eq!(found(name, port, b"b"), None, "{name}");
        }
    }

    #[test]
    fn a_place_is_found_again_however_it_is_spelt() {
        for (line, place) in [
            (&b"a:1:*:b:secret"[..], Some(&b"a:1:*:b:"[..])),
            (b"\\a:1:*:b:secret", Some(b"a:1:*:b:")),
            (b"\\:\\:1:1:d:b:secret", Some(b"\\:\\:1:1:d:b:")),
            (b"\\*:*:*:*:", Some(b"\\*:*:*:*:")),
            (b"*:*:*:*:\\", Some(b"*:*:*:*:")),
            (b"#a:1:*:b:secret", None),
            (b"a:1:*:b", None),
            (b"a:1:*:b\\", None),
            (b"", None),
        ] {
            assert_eq!(place_of(line).as_deref(), place, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn no_name_makes_a_second_line() {
        assert!(places(&host("a\nb", "", ""), None).is_err());
        assert!(places(&host("a", "", ""), Some(b"b\r")).is_err());
    }
}
