//! HTTP/1.1 as a server reads and writes it, by hand and strictly.

use std::io::{self, Read, Write};
use std::time::SystemTime;

/// A request, as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method, such as `POST`.
    pub method: String,
    /// The request target, such as `/tenant/oauth2/v2.0/token`.
    pub target: String,
    /// Names as they were spelt, and values.
    pub headers: Vec<(String, String)>,
    /// The body's bytes.
    pub body: Vec<u8>,
    /// Whether it came over TLS.
    pub secure: bool,
}

impl Request {
    /// The value of a header that occurs exactly once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        match (named.next(), named.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }

    /// All values of a header.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The value of a parameter in the query, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        parse_form(query.as_bytes())?.into_iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// Whether the client wants no further request on this connection.
    pub(crate) fn wants_close(&self) -> bool {
        self.all("connection").flat_map(|v| v.split(',')).any(|v| v.trim().eq_ignore_ascii_case("close"))
    }
}

/// Why no request could be read.
pub(crate) enum Unread {
    /// The client is done, or went away.
    Gone,
    /// What came is no request that this server serves.
    Bad(u16, &'static str),
}

impl From<io::Error> for Unread {
    fn from(_: io::Error) -> Self {
        Unread::Gone
    }
}

const LONGEST_HEAD: usize = 64 << 10;
const LONGEST_BODY: u64 = 64 << 10;

/// Reads requests from a connection; keeps what came too early for the next.
#[derive(Default)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    /// Reads the next request with its body.
    pub(crate) fn read(&mut self, from: &mut impl Read) -> Result<Request, Unread> {
        let mut request = self.read_head(from)?;
        request.body = self.read_body(from, &request)?;
        Ok(request)
    }

    /// Reads a request line and headers.
    pub(crate) fn read_head(&mut self, from: &mut impl Read) -> Result<Request, Unread> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break end;
            }
            if self.buffer.len() > LONGEST_HEAD {
                return Err(Unread::Bad(431, "the head is too long"));
            }
            self.fill(from)?;
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).take(end).collect();
        parse_head(&head)
    }

    /// Bytes that came after the head that was read last.
    pub(crate) fn rest(self) -> Vec<u8> {
        self.buffer
    }

    fn read_body(&mut self, from: &mut impl Read, request: &Request) -> Result<Vec<u8>, Unread> {
        if request.all("transfer-encoding").next().is_some() {
            return Err(Unread::Bad(411, "Content-Length is required, Transfer-Encoding is not served"));
        }
        if request.all("content-length").next().is_none() {
            return if matches!(request.method.as_str(), "POST" | "PUT" | "PATCH") {
                Err(Unread::Bad(411, "Content-Length is required"))
            } else {
                Ok(Vec::new())
            };
        }
        let length = request
            .header("content-length")
            .filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|text| text.parse::<u64>().ok())
            .ok_or(Unread::Bad(400, "Content-Length is not one number"))?;
        if length > LONGEST_BODY {
            return Err(Unread::Bad(413, "the body is too long"));
        }
        let length = length as usize;
        while self.buffer.len() < length {
            self.fill(from)?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    fn fill(&mut self, from: &mut impl Read) -> Result<(), Unread> {
        let mut chunk = [0; 16 << 10];
        match from.read(&mut chunk)? {
            0 => Err(Unread::Gone),
            n => {
                self.buffer.extend_from_slice(&chunk[..n]);
                Ok(())
            }
        }
    }
}

fn parse_head(head: &[u8]) -> Result<Request, Unread> {
    let head = std::str::from_utf8(head).map_err(|_| Unread::Bad(400, "the head is not text"))?;
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    if head.replace("\r\n", "").bytes().any(|b| b != b'\t' && b.is_ascii_control()) {
        return Err(Unread::Bad(400, "a control character in the head"));
    }
    let [method, target, version] = line.split(' ').collect::<Vec<_>>()[..] else {
        return Err(Unread::Bad(400, "the request line has not three parts"));
    };
    if version != "HTTP/1.1" {
        return Err(Unread::Bad(505, "the version is not HTTP/1.1"));
    }
    if !is_token(method) || target.is_empty() || !target.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Unread::Bad(400, "the request line is malformed"));
    }
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Unread::Bad(400, "a header without a colon"))?;
        if !is_token(name) {
            return Err(Unread::Bad(400, "a malformed header name"));
        }
        headers.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    let (method, target) = (method.to_owned(), target.to_owned());
    let request = Request { method, target, headers, body: Vec::new(), secure: false };
    if request.header("host").is_none_or(str::is_empty) {
        return Err(Unread::Bad(400, "not exactly one Host header"));
    }
    Ok(request)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// How a body is put on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Framing {
    /// Content-Length.
    Length,
    /// Content-Length, but the connection ends half way.
    CutShort,
    /// Transfer-Encoding: chunked, in small pieces.
    Chunked,
    /// The body goes on until the connection ends.
    UntilClose,
    /// Content-Length, one byte at a time with this many milliseconds between.
    Drip(u64),
}

/// A response.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) framing: Framing,
    /// The server's idea of the time.
    pub(crate) date: SystemTime,
    /// Answer first with `100 Continue`, which nobody asked for.
    pub(crate) interim: bool,
}

impl Response {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("Content-Type".to_owned(), content_type.to_owned())],
            body: body.into(),
            framing: Framing::Length,
            date: SystemTime::now(),
            interim: false,
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The head as it goes out.
    fn head(&self) -> Vec<u8> {
        let mut head = String::new();
        if self.interim {
            head.push_str("HTTP/1.1 100 Continue\r\n\r\n");
        }
        head.push_str(&format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status)));
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Date: {}\r\n", httpdate::fmt_http_date(self.date)));
        match self.framing {
            Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
            Framing::UntilClose => head.push_str("Connection: close\r\n"),
            _ => head.push_str(&format!("Content-Length: {}\r\n", self.body.len())),
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Writes it; false if the connection cannot carry another response.
    pub(crate) fn write(&self, to: &mut impl Write, mut pause: impl FnMut(u64)) -> io::Result<bool> {
        let mut out = self.head();
        let mut reusable = true;
        match self.framing {
            Framing::Length => out.extend_from_slice(&self.body),
            Framing::UntilClose => {
                out.extend_from_slice(&self.body);
                reusable = false;
            }
            Framing::CutShort => {
                out.extend_from_slice(&self.body[..self.body.len() / 2]);
                reusable = false;
            }
            Framing::Chunked => {
                for piece in self.body.chunks(100) {
                    out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    out.extend_from_slice(piece);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"0\r\n\r\n");
            }
            Framing::Drip(milliseconds) => {
                to.write_all(&out)?;
                to.flush()?;
                for byte in &self.body {
                    pause(milliseconds);
                    to.write_all(&[*byte])?;
                    to.flush()?;
                }
                return Ok(true);
            }
        }
        to.write_all(&out)?;
        to.flush()?;
        Ok(reusable)
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Other",
    }
}

/// A gzip file of stored (not compressed) blocks.
pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = data.chunks(0xffff).peekable();
    if data.is_empty() {
        out.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        out.push(u8::from(blocks.peek().is_none()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    let crc = !data.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    out
}

/// Undoes form encoding (`+` is a space) of one name or value; None if it is malformed or not UTF-8.
pub(crate) fn form_decode(text: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let (code, after) = rest.split_at_checked(2)?;
                if !code.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                out.push(u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()?);
                rest = after;
            }
            b if b.is_ascii_graphic() => out.push(b),
            _ => return None,
        }
    }
    String::from_utf8(out).ok()
}

/// Names and values of a form; None if it is malformed.
pub(crate) fn parse_form(body: &[u8]) -> Option<Vec<(String, String)>> {
    body.split(|b| *b == b'&')
        .map(|pair| {
            let at = pair.iter().position(|b| *b == b'=')?;
            let name = form_decode(&pair[..at]).filter(|name| !name.is_empty())?;
            Some((name, form_decode(&pair[at + 1..])?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded_as_forms_are() {
        let form = parse_form(b"client_secret=p%7Eq%2B%2F%3D+x&scope=a=b").unwrap();
        assert_eq!(form, [("client_secret".into(), "p~q+/= x".into()), ("scope".into(), "a=b".into())]);
        for bad in [&b""[..], b"a", b"a=1&", b"=1", b"a=%4", b"a=%+4", b"a=%zz", b"a=%ff", b"a=b c", b"a=\n"]
        {
            assert!(parse_form(bad).is_none(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn requests_are_read_strictly() {
        let read = |text: &str| Reader::default().read(&mut text.as_bytes());
        let good = read("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok").ok().unwrap();
        assert_eq!(
            (good.target.as_str(), good.header("HOST"), good.body.as_slice()),
            ("/x", Some("a"), &b"ok"[..])
        );
        for (text, status) in [
            ("POST /x HTTP/1.0\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 505),
            ("POST /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400),
            ("POST /x HTTP/1.1\r\nHost: a\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 400),
            ("POST /x HTTP/1.1\r\nHost: a\r\n\r\n", 411),
            ("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
            ("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", 400),
            ("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
            ("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413),
            ("POST /x HTTP/1.1\r\nHost: a\r\nA : b\r\nContent-Length: 0\r\n\r\n", 400),
            ("POST /x HTTP/1.1\r\nHost: a\nB: c\r\nContent-Length: 0\r\n\r\n", 400),
            ("POST  /x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ] {
            assert!(matches!(read(text), Err(Unread::Bad(got, _)) if got == status), "{text:?}");
        }
    }
}
