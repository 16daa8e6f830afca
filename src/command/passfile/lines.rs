//! The lines of a password file: ours are replaced, all others stay as they are.

use zeroize::Zeroizing;

use crate::command::pgpass;

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// libpq's.
    Pgpass,
    /// PgBouncer's `auth_file`.
    Userlist,
}

/// A line of ours: what it begins with, which says what it is for, and all of it, without its end.
pub(super) struct Line {
    pub(super) place: Vec<u8>,
    pub(super) text: Zeroizing<Vec<u8>>,
}

impl Format {
    /// What a line begins with, spelt as we do. None: it is no such line.
    fn place_of(self, line: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Pgpass => pgpass::place_of(line),
            Self::Userlist => user_of(line).map(|user| quoted(&user)),
        }
    }

    /// Before which of the file's lines a new one stands. For libpq the first that fits counts: at the top, but one for
    /// any user below those that are for one. PgBouncer may stop at a password that is too long for it: at the end.
    fn new_at(self, places: &[Option<Vec<u8>>], line: &Line) -> usize {
        let is_for_fewer = |place: &Option<Vec<u8>>| {
            place.as_ref().is_some_and(|place| pgpass::is_for_fewer(place, &line.place))
        };
        match self {
            Self::Pgpass => places.iter().rposition(is_for_fewer).map_or(0, |last| last + 1),
            Self::Userlist => places.len(),
        }
    }
}

/// A line of PgBouncer's file.
pub(super) fn userlist_line(user: &[u8], password: &[u8]) -> Line {
    let (place, password) = (quoted(user), Zeroizing::new(quoted(password)));
    let mut text = Zeroizing::new(Vec::with_capacity(place.len() + 1 + password.len()));
    text.extend_from_slice(&place);
    text.push(b' ');
    text.extend_from_slice(&password);
    Line { place, text }
}

fn quoted(text: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    quoted.push(b'"');
    for &byte in text {
        if byte == b'"' {
            quoted.push(byte);
        }
        quoted.push(byte);
    }
    quoted.push(b'"');
    quoted
}

fn user_of(line: &[u8]) -> Option<Vec<u8>> {
    let mut user = Vec::new();
    let mut bytes = line.trim_ascii_start().strip_prefix(b"\"")?.iter().peekable();
    while let Some(&byte) = bytes.next() {
        if byte == b'"' && bytes.next_if_eq(&&b'"').is_none() {
            return Some(user);
        }
        user.push(byte);
    }
    None
}

/// The file with these lines in it: where they were, else where `Format::new_at` says.
pub(super) fn edit(old: &[u8], format: Format, lines: &[Line]) -> Zeroizing<Vec<u8>> {
    let all: Vec<_> = old.split_inclusive(|&byte| byte == b'\n').map(without_end).collect();
    let places: Vec<_> = all.iter().map(|(text, _)| format.place_of(text)).collect();
    let end = match all.first() {
        Some((_, b"\r\n")) => &b"\r\n"[..],
        _ => b"\n",
    };
    let size = old.len() + lines.iter().map(|line| line.text.len() + 2).sum::<usize>() + 2;
    let mut new = Zeroizing::new(Vec::with_capacity(size));
    let is_there = |line: &Line| places.iter().flatten().any(|place| *place == line.place);
    for at in 0..=all.len() {
        for line in lines.iter().filter(|line| !is_there(line) && format.new_at(&places, line) == at) {
            if new.last().is_some_and(|&last| last != b'\n') {
                new.extend_from_slice(end);
            }
            new.extend_from_slice(&line.text);
            new.extend_from_slice(end);
        }
        let Some((text, end)) = all.get(at) else { break };
        let ours = lines.iter().find(|line| Some(&line.place) == places[at].as_ref());
        new.extend_from_slice(ours.map_or(text, |line| &line.text));
        new.extend_from_slice(end);
    }
    new
}

fn without_end(line: &[u8]) -> (&[u8], &[u8]) {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    line.split_at(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(places: &[&str]) -> Vec<Line> {
        let line = |place: &&str| {
            let place = place.as_bytes().to_vec();
            let text = pgpass::line(&place, b"new");
            Line { place, text }
        };
        places.iter().map(line).collect()
    }

    #[test]
    fn ours_are_replaced_in_their_place_and_the_others_kept_byte_by_byte() {
        let (a, both, any) = (&["a:1:*:u:"][..], &["a:1:*:u:", "b:1:*:u:"][..], &["a:1:*:*:"][..]);
        for (old, places, new) in [
            ("", a, "a:1:*:u:new\n"),
            ("x", a, "a:1:*:u:new\nx"),
            ("x\r\ny\n", a, "a:1:*:u:new\r\nx\r\ny\n"),
            ("a:1:*:u:old", a, "a:1:*:u:new"),
            ("a:1:*:u:old:more\r\n\n", a, "a:1:*:u:new\r\n\n"),
            ("# a:1:*:u:old\n\\a:1:*:u:old\n", a, "# a:1:*:u:old\na:1:*:u:new\n"),
            ("a:1:*:v:old\nb:1:*:u:old", both, "a:1:*:u:new\na:1:*:v:old\nb:1:*:u:new"),
            ("a:1:*:u:1\na:1:*:u:2\n", a, "a:1:*:u:new\na:1:*:u:new\n"),
            // Those of a user keep their passwords.
            (
                "x:1:*:u:1\na:1:d:u:1\n*:*:*:v:1\na:1:*:*:1",
                any,
                "x:1:*:u:1\na:1:d:u:1\n*:*:*:v:1\na:1:*:*:new",
            ),
            ("a:1:d:u:1\n*:*:*:v:1\n*:*:*:*:1", any, "a:1:d:u:1\n*:*:*:v:1\na:1:*:*:new\n*:*:*:*:1"),
            ("a:1:*:u:1", any, "a:1:*:u:1\na:1:*:*:new\n"),
            ("\\*:1:*:u:1\nb:1:*:u:1\n", any, "a:1:*:*:new\n\\*:1:*:u:1\nb:1:*:u:1\n"),
        ] {
            let edited = edit(old.as_bytes(), Format::Pgpass, &ours(places));
            assert_eq!(String::from_utf8_lossy(&edited), new, "{old:?}");
        }
        let odd = b"\xff\0\r\r\n\n\n:::\\";
        assert_eq!(edit(odd, Format::Pgpass, &ours(a))[..], [b"a:1:*:u:new\r\n", &odd[..]].concat());
    }

    #[test]
    fn the_users_of_pgbouncers_file_are_told_apart() {
        let lines = [userlist_line(b"a\"b", b"to\"ken")];
        for (old, new) in [
            ("", "\"a\"\"b\" \"to\"\"ken\"\n"),
            ("; \"a\"\"b\" \"old\"\r\n", "; \"a\"\"b\" \"old\"\r\n\"a\"\"b\" \"to\"\"ken\"\r\n"),
            ("\"a\" \"x\"\n  \"a\"\"b\"   \"old\"\n", "\"a\" \"x\"\n\"a\"\"b\" \"to\"\"ken\"\n"),
            ("\"a\"\"b", "\"a\"\"b\n\"a\"\"b\" \"to\"\"ken\"\n"),
        ] {
            let edited = edit(old.as_bytes(), Format::Userlist, &lines);
            assert_eq!(String::from_utf8_lossy(&edited), new, "{old:?}");
        }
    }
}
