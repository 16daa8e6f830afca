//! An LDAP server that knows one operation, the simple bind: so an unmodified PostgreSQL passes us its passwords.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use crate::checker::Checker;
use crate::net::Server;
use crate::sync::{LoginGate, Stop};

/// What PostgreSQL puts before the role to make a distinguished name.
pub(crate) const PREFIX: &str = "cn=";
/// What it puts behind.
pub(crate) const SUFFIX: &str = ",dc=pgaad,dc=test";

const LONGEST: usize = 1 << 20;

const SUCCESS: u8 = 0;
const PROTOCOL_ERROR: u8 = 2;
const INVALID_CREDENTIALS: u8 = 49;

pub(crate) fn start(checker: Arc<Checker>, gate: LoginGate) -> io::Result<Server> {
    let stop = Stop::new();
    Server::start("ldap", stop.clone(), move |tcp, _| {
        let _ = serve(tcp, &checker, &gate, &stop); // a backend that is gone needs no answer
    })
}

fn serve(mut tcp: TcpStream, checker: &Checker, gate: &LoginGate, stop: &Stop) -> io::Result<()> {
    let mut buffer = Vec::new();
    let mut chunk = [0; 16 << 10];
    loop {
        while let Some(length) = message_length(&buffer)? {
            let message: Vec<u8> = buffer.drain(..length).collect();
            let Some(bind) = parse(&message).ok_or(io::ErrorKind::InvalidData)? else {
                return Ok(()); // unbind
            };
            gate.pass(stop);
            let role = bind.name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
            let code = match role {
                Some(role) if bind.version == 3 && !bind.password.is_empty() => {
                    if checker.check(role, bind.password) { SUCCESS } else { INVALID_CREDENTIALS }
                }
                Some(_) => PROTOCOL_ERROR,
                None => INVALID_CREDENTIALS,
            };
            tcp.write_all(&response(bind.id, code))?;
        }
        match tcp.read(&mut chunk)? {
            0 => return Ok(()),
            n => buffer.extend_from_slice(&chunk[..n]),
        }
    }
}

struct BindRequest<'a> {
    id: &'a [u8],
    version: u8,
    name: &'a str,
    password: &'a [u8],
}

/// The length of the LDAPMessage at the start of the buffer, once it is there as a whole.
fn message_length(buffer: &[u8]) -> io::Result<Option<usize>> {
    match head(buffer) {
        Some((0x30, start, length)) if length <= LONGEST => {
            Ok((buffer.len() >= start + length).then_some(start + length))
        }
        None if buffer.len() < 6 => Ok(None),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Tag, start of the content and its length; None if malformed or not all there.
fn head(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (&tag, &first) = (bytes.first()?, bytes.get(1)?);
    if first < 0x80 {
        return Some((tag, 2, usize::from(first)));
    }
    let more = usize::from(first & 0x7f);
    if !(1..=4).contains(&more) {
        return None; // indefinite, or absurd
    }
    let length = bytes.get(2..2 + more)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    Some((tag, 2 + more, length))
}

/// Takes an element with this tag off the front.
fn take<'a>(bytes: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (found, start, length) = head(bytes)?;
    let content = bytes.get(start..start.checked_add(length)?)?;
    *bytes = &bytes[start + length..];
    (found == tag).then_some(content)
}

/// A bind request; Some(None) for an unbind; None for anything else.
fn parse(message: &[u8]) -> Option<Option<BindRequest<'_>>> {
    let mut rest = message;
    let mut message = take(&mut rest, 0x30).filter(|_| rest.is_empty())?;
    let id = take(&mut message, 0x02).filter(|id| (1..=4).contains(&id.len()) && id[0] < 0x80)?;
    if message == [0x42, 0] {
        return Some(None);
    }
    let mut bind = take(&mut message, 0x60).filter(|_| message.is_empty())?;
    let version = match take(&mut bind, 0x02)? {
        [version] => *version,
        _ => return None,
    };
    let name = std::str::from_utf8(take(&mut bind, 0x04)?).ok()?;
    let password = take(&mut bind, 0x80).filter(|_| bind.is_empty())?;
    Some(Some(BindRequest { id, version, name, password }))
}

fn response(id: &[u8], code: u8) -> Vec<u8> {
    let mut message = vec![0x02, id.len() as u8];
    message.extend_from_slice(id);
    message.extend_from_slice(&[0x61, 7, 0x0a, 1, code, 0x04, 0, 0x04, 0]);
    let mut response = vec![0x30, message.len() as u8];
    response.extend(message);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simple_bind_is_read_and_nothing_else() {
        let name = format!("{PREFIX}a,dc=b{SUFFIX}");
        let bind = |version: u8, method: u8| {
            let mut body = vec![0x02, 1, version, 0x04, name.len() as u8];
            body.extend_from_slice(name.as_bytes());
            body.extend_from_slice(&[method, 2, b'p', b'w']);
            let mut message = vec![0x02, 1, 7, 0x60, body.len() as u8];
            message.extend(body);
            let mut whole = vec![0x30, 0x81, message.len() as u8]; // the long form of a length is fine too
            whole.extend(message);
            whole
        };
        let whole = bind(3, 0x80);
        let parsed = parse(&whole).flatten().unwrap();
        assert_eq!(
            (parsed.id, parsed.version, parsed.name, parsed.password),
            (&[7][..], 3, &*name, &b"pw"[..])
        );
        assert!(parse(&bind(3, 0xa3)).is_none(), "SASL");
        assert!(parse(&whole[..whole.len() - 1]).is_none());
        assert!(parse(&[&whole[..], b"x"].concat()).is_none());
        assert_eq!(message_length(&whole).unwrap(), Some(whole.len()));
        assert_eq!(message_length(&whole[..9]).unwrap(), None);
        assert!(message_length(b"GET / HTTP/1.1").is_err());
        assert!(parse(&[0x30, 5, 0x02, 1, 8, 0x42, 0]).unwrap().is_none());
        assert_eq!(response(&[7], 49), [0x30, 12, 2, 1, 7, 0x61, 7, 0x0a, 1, 49, 4, 0, 4, 0]);
    }
}
