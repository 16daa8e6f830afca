//! How Redis is spoken to: RESP, version 2, which every server understands (redis.io, "Redis serialization protocol").

use std::io::{self, BufRead, ErrorKind, Read, Take};

/// No reply that is read is longer.
const LONGEST: u64 = 1024 * 1024;

/// So much of what a server says goes into messages.
const LONGEST_WHY: usize = 200;

/// No reply that is asked for here holds as many others.
const MOST_PARTS: u64 = 16;

#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    /// "OK"
    Said(String),
    /// "WRONGPASS invalid ..."
    Refused(String),
    Number(i64),
    /// None: nothing is there.
    Bytes(Option<Vec<u8>>),
    /// None: nothing was done.
    Parts(Option<Vec<Reply>>),
}

/// A command's words.
pub(super) type Command<'a> = &'a [&'a [u8]];

pub(super) fn write(command: Command<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
    for word in command {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

pub(super) fn read(from: &mut impl BufRead) -> io::Result<Reply> {
    let mut bounded = from.take(LONGEST);
    match reply(&mut bounded, true) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof && bounded.limit() == 0 => Err(too_long()),
        result => result,
    }
}

fn reply(from: &mut Take<impl BufRead>, may_have_parts: bool) -> io::Result<Reply> {
    let line = line(from)?;
    let (kind, rest) = line.split_first().ok_or_else(stranger)?;
    let text = || String::from_utf8_lossy(rest).into_owned();
    match kind {
        b'+' => Ok(Reply::Said(text())),
        b'-' => Ok(Reply::Refused(text().chars().filter(|c| !c.is_control()).take(LONGEST_WHY).collect())),
        b':' => number(rest).map(Reply::Number),
        b'$' => Ok(Reply::Bytes(match length(rest)? {
            Some(length) => Some(bytes(from, length)?),
            None => None,
        })),
        b'*' if may_have_parts => Ok(Reply::Parts(match length(rest)? {
            Some(count) if count > MOST_PARTS => return Err(too_long()),
            Some(count) => Some((0..count).map(|_| reply(from, false)).collect::<io::Result<_>>()?),
            None => None,
        })),
        _ => Err(stranger()),
    }
}

fn line(from: &mut Take<impl BufRead>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\n") {
        None => Err(ErrorKind::UnexpectedEof.into()),
        Some(line) => Ok(line.strip_suffix(b"\r").ok_or_else(stranger)?.to_vec()),
    }
}

fn bytes(from: &mut Take<impl BufRead>, length: u64) -> io::Result<Vec<u8>> {
    if length > from.limit() {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    if (&mut *from).take(length).read_to_end(&mut bytes)? as u64 != length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    match line(from)?.is_empty() {
        true => Ok(bytes),
        false => Err(stranger()),
    }
}

fn number(digits: &[u8]) -> io::Result<i64> {
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.ok_or_else(stranger)
}

/// -1 stands for what is not there.
fn length(digits: &[u8]) -> io::Result<Option<u64>> {
    match number(digits)? {
        -1 => Ok(None),
        length => u64::try_from(length).map(Some).map_err(|_| stranger()),
    }
}

fn stranger() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "what answers there is no Redis")
}

fn too_long() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("it answered with more than {LONGEST} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_counted_words() {
        let mut out = Vec::new();
        write(&[b"SET", b"a", b"\r\n\0"], &mut out);
        write(&[b"PING"], &mut out);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3\r\n\r\n\0\r\n*1\r\n$4\r\nPING\r\n");
    }

    #[test]
    fn replies_are_read_one_after_the_other() {
        let mut wire =
            &b"+OK\r\n-ERR no\r\n:-7\r\n$3\r\n\r\na\r\n$-1\r\n$0\r\n\r\n*2\r\n:1\r\n$1\r\nx\r\n*-1\r\n*0\r\n"
                [..];
        for expected in [
            Reply::Said("OK".into()),
            Reply::Refused("ERR no".into()),
            Reply::Number(-7),
            Reply::Bytes(Some(b"\r\na".into())),
            Reply::Bytes(None),
            Reply::Bytes(Some(Vec::new())),
            Reply::Parts(Some(vec![Reply::Number(1), Reply::Bytes(Some(b"x".into()))])),
            Reply::Parts(None),
            Reply::Parts(Some(Vec::new())),
        ] {
            assert_eq!(read(&mut wire).expect("a reply"), expected);
        }
        assert!(wire.is_empty());
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        let long = vec![b'+'; LONGEST as usize + 9];
        let nearly =
            [&b"*2\r\n$1000000\r\n"[..], &[b'x'; 1_000_000], b"\r\n$1000000\r\n", &[b'x'; 1_000_000]]
                .concat();
        for (wire, kind) in [
            (&b""[..], ErrorKind::UnexpectedEof),
            (b"+OK", ErrorKind::UnexpectedEof),
            (b"+OK\r", ErrorKind::UnexpectedEof),
            (b"$3\r\nab", ErrorKind::UnexpectedEof),
            (b"$3\r\nabc", ErrorKind::UnexpectedEof),
            (b"*2\r\n:1\r\n", ErrorKind::UnexpectedEof),
            (b"\r\n", ErrorKind::InvalidData),
            (b"+OK\n", ErrorKind::InvalidData),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", ErrorKind::InvalidData),
            (b"\x15\x03\x03\0\x02\x02\n", ErrorKind::InvalidData),
            (b"$2\r\nabc\r\n", ErrorKind::InvalidData),
            (b"$-2\r\n", ErrorKind::InvalidData),
            (b"$x\r\n", ErrorKind::InvalidData),
            (b":\r\n", ErrorKind::InvalidData),
            (b":99999999999999999999\r\n", ErrorKind::InvalidData),
            (b"$1048577\r\n", ErrorKind::InvalidData),
            (b"$9223372036854775807\r\n", ErrorKind::InvalidData),
            (b"*17\r\n", ErrorKind::InvalidData),
            (b"*1\r\n*1\r\n:1\r\n", ErrorKind::InvalidData),
            (b"%1\r\n", ErrorKind::InvalidData),
            (&long, ErrorKind::InvalidData),
            (&nearly, ErrorKind::InvalidData),
        ] {
            let error = read(&mut &wire[..]).expect_err("no reply");
            let shown = String::from_utf8_lossy(&wire[..wire.len().min(40)]);
            assert_eq!(error.kind(), kind, "{shown}");
        }
    }

    #[test]
    fn no_answer_is_too_strange() {
        let parts = [&b"*2"[..], b"$", b"-", b"+", b":", b"1", b"\r", b"\n", b"\r\n", b"\xff"];
        let mut wires = vec![Vec::new()];
        for _ in 0..5 {
            wires = wires.iter().flat_map(|wire| parts.map(|part| [wire, part].concat())).collect();
            wires.iter().for_each(|wire| drop(read(&mut &wire[..])));
        }
    }
}
