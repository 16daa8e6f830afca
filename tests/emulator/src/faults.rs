//! Faults on demand: what the next request meets instead of an ordinary answer.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;

use crate::clock::shifted;
use crate::http::{Framing, Request, Response, gzip};
use crate::sync::{Gate, Stop, lock};

/// What happens to one request, or one connection. Made by one of the functions without `self`, and refined by
/// those with it, which can be combined: `Fault::status(503, "temporarily_unavailable", 90033).retry_after(7)`.
#[derive(Clone)]
pub struct Fault {
    pub(crate) before_tls: bool,
    pub(crate) delay: Duration,
    pub(crate) gate: Option<Gate>,
    pub(crate) act: Act,
    pub(crate) edits: Vec<Edit>,
    pub(crate) headers: Vec<Header>,
    pub(crate) framing: Framing,
    pub(crate) gzip: bool,
    pub(crate) interim: bool,
    pub(crate) then_close: bool,
    pub(crate) skew: i64,
}

#[derive(Clone)]
pub(crate) enum Act {
    /// Answer as if nothing were wrong.
    Answer,
    /// Refuse with this status, `error` and AADSTS code.
    Refuse { status: u16, error: String, code: Option<u32> },
    /// Refuse, with the secret as it was sent in the description.
    EchoSecret,
    /// This status, content type and body.
    Body(u16, String, Vec<u8>),
    /// An ordinary token in this text, in place of `{token}`.
    Template(String),
    /// Point to [`REDIRECT_PREFIX`] at the same server.
    Redirect(u16),
    /// Never answer.
    Hang,
    /// End the connection by RST.
    Reset,
    /// End the connection in order.
    Close,
    /// Send bytes that are not HTTP.
    Garbage,
}

/// A change of an answer that grants a token.
#[derive(Clone)]
pub(crate) enum Edit {
    Set(String, Value),
    Remove(String),
    /// Put this text in the middle of the token.
    InToken(&'static str),
    /// A token that ended an hour ago, although the answer says nothing of it.
    Expired,
    /// Something that is no JWT.
    Opaque,
    /// A token of this many bytes.
    Size(usize),
    /// More than 1 MiB of JSON.
    Huge,
}

#[derive(Clone)]
pub(crate) enum Header {
    Text(String, String),
    /// A date this many seconds from now, by the service's clock.
    Date(String, i64),
}

/// The path below which redirects lead; a request there counts as [`redirected`](crate::Counters::redirected).
pub const REDIRECT_PREFIX: &str = "/redirected";

impl Fault {
    fn new(act: Act) -> Self {
        Self {
            before_tls: false,
            delay: Duration::ZERO,
            gate: None,
            act,
            edits: Vec::new(),
            headers: Vec::new(),
            framing: Framing::Length,
            gzip: false,
            interim: false,
            then_close: false,
            skew: 0,
        }
    }

    /// An ordinary answer; something to refine, or a place holder in a script.
    pub fn none() -> Self {
        Self::new(Act::Answer)
    }

    /// An error answer with an AADSTS code.
    pub fn status(status: u16, error: &str, code: u32) -> Self {
        Self::new(Act::Refuse { status, error: error.to_owned(), code: Some(code) })
    }

    /// An error answer without an AADSTS code.
    pub fn status_without_code(status: u16, error: &str) -> Self {
        Self::new(Act::Refuse { status, error: error.to_owned(), code: None })
    }

    /// Refuses the secret as wrong, and repeats it in the description: as the client knew it and as it sent it.
    pub fn echo_secret() -> Self {
        Self::new(Act::EchoSecret)
    }

    /// An answer with this body.
    pub fn body(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new(Act::Body(status, content_type.to_owned(), body.into()))
    }

    /// A 200 with this JSON text, in which `{token}` stands for an ordinary token.
    pub fn template(json: &str) -> Self {
        Self::new(Act::Template(json.to_owned()))
    }

    /// A page for people, as captive portals (200) and broken gateways (502) send it.
    pub fn html(status: u16) -> Self {
        let page = "<!DOCTYPE html>\r\n<html><head><title>Sign in to the network</title></head>\r\n<body><h1>Welcome</h1>\r\n\
                    <p>Please accept the terms.</p></body></html>\r\n";
        Self::body(status, "text/html; charset=utf-8", page)
    }

    /// A 200 that says it is JSON and is not.
    pub fn garbage_json() -> Self {
        Self::body(
            200,
            "application/json; charset=utf-8",
            r#"{"token_type":"Bearer","expires_in":3599,"access_tok"#,
        )
    }

    /// A 200 without a body.
    pub fn empty_body() -> Self {
        Self::body(200, "application/json; charset=utf-8", "")
    }

    /// Bytes that are not HTTP at all.
    pub fn garbage() -> Self {
        Self::new(Act::Garbage)
    }

    /// A redirect to the same server, where a token would be granted.
    pub fn redirect(status: u16) -> Self {
        Self::new(Act::Redirect(status))
    }

    /// No answer, ever.
    pub fn hang() -> Self {
        Self::new(Act::Hang)
    }

    /// A connection reset.
    pub fn reset() -> Self {
        Self::new(Act::Reset)
    }

    /// The connection ends without an answer.
    pub fn close() -> Self {
        Self::new(Act::Close)
    }

    /// Waits at a gate before anything else happens.
    pub fn gate(gate: &Gate) -> Self {
        Self::none().at_gate(gate)
    }

    /// Answers, but late.
    pub fn slow(delay: Duration) -> Self {
        Self::none().after(delay)
    }

    /// Answers, but the body ends half way through what Content-Length says.
    pub fn cut_short() -> Self {
        Self { framing: Framing::CutShort, ..Self::none() }
    }

    /// Answers in chunks.
    pub fn chunked() -> Self {
        Self { framing: Framing::Chunked, ..Self::none() }
    }

    /// Answers without a length: the body ends with the connection.
    pub fn until_close() -> Self {
        Self { framing: Framing::UntilClose, ..Self::none() }
    }

    /// Answers one byte at a time.
    pub fn drip(pause: Duration) -> Self {
        Self { framing: Framing::Drip(pause.as_millis() as u64), ..Self::none() }
    }

    /// Answers in gzip, which nobody asked for.
    pub fn gzip() -> Self {
        Self { gzip: true, ..Self::none() }
    }

    /// Answers first with 100 Continue, which nobody asked for.
    pub fn interim() -> Self {
        Self { interim: true, ..Self::none() }
    }

    /// Answers, then closes the connection without having said so.
    pub fn stale() -> Self {
        Self { then_close: true, ..Self::none() }
    }

    /// Grants, with a field of the answer changed or added.
    pub fn field(name: &str, value: impl Into<Value>) -> Self {
        Self::none().set(name, value)
    }

    /// Grants, with a field of the answer left out.
    pub fn without(name: &str) -> Self {
        Self::none().edit(Edit::Remove(name.to_owned()))
    }

    /// Grants, and says when the token ends in `expires_on` only: Unix seconds.
    pub fn expires_on_only(unix: impl Into<Value>) -> Self {
        Self::without("expires_in").edit(Edit::Remove("ext_expires_in".to_owned())).set("expires_on", unix)
    }

    /// Grants a token with U+0000 in it.
    pub fn nul_in_token() -> Self {
        Self::none().edit(Edit::InToken("\0"))
    }

    /// Grants a token with a line break in it.
    pub fn newline_in_token() -> Self {
        Self::none().edit(Edit::InToken("\n"))
    }

    /// Grants a token that ended an hour ago, with an `expires_in` that knows nothing of it.
    pub fn expired_token() -> Self {
        Self::none().edit(Edit::Expired)
    }

    /// Grants something that is no JWT.
    pub fn opaque_token() -> Self {
        Self::none().edit(Edit::Opaque)
    }

    /// Grants a token of at least this many bytes and at most two more.
    pub fn token_size(bytes: usize) -> Self {
        Self::none().edit(Edit::Size(bytes))
    }

    /// Grants in more than 1 MiB of JSON.
    pub fn huge_body() -> Self {
        Self::none().edit(Edit::Huge)
    }

    /// Answers with 256 KiB of headers.
    pub fn huge_header() -> Self {
        Self::none().header("X-Filler", &"x".repeat(256 << 10))
    }

    /// Answers with all times, `Date` included, this many seconds off.
    pub fn skew(seconds: i64) -> Self {
        Self { skew: seconds, ..Self::none() }
    }

    /// Makes it happen to a connection before its TLS handshake, rather than to a request: hang, reset, close,
    /// garbage, a delay or a gate.
    pub fn before_tls(self) -> Self {
        Self { before_tls: true, ..self }
    }

    /// Waits at a gate first.
    pub fn at_gate(self, gate: &Gate) -> Self {
        Self { gate: Some(gate.clone()), ..self }
    }

    /// Lets time pass first.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Adds `Retry-After` in seconds.
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header("Retry-After", &seconds.to_string())
    }

    /// Adds `Retry-After` as a date this many seconds from now.
    pub fn retry_after_date(mut self, seconds: i64) -> Self {
        self.headers.push(Header::Date("Retry-After".to_owned(), seconds));
        self
    }

    /// Adds `retry-after-ms`.
    pub fn retry_after_ms(self, milliseconds: u64) -> Self {
        self.header("retry-after-ms", &milliseconds.to_string())
    }

    /// Adds `x-ms-retry-after-ms`.
    pub fn x_ms_retry_after_ms(self, milliseconds: u64) -> Self {
        self.header("x-ms-retry-after-ms", &milliseconds.to_string())
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(Header::Text(name.to_owned(), value.to_owned()));
        self
    }

    /// Changes or adds a field of an answer that grants.
    pub fn set(self, name: &str, value: impl Into<Value>) -> Self {
        self.edit(Edit::Set(name.to_owned(), value.into()))
    }

    fn edit(mut self, edit: Edit) -> Self {
        self.edits.push(edit);
        self
    }

    /// Reads the control endpoint's notation: `{"kind": ...}` and what goes with it. `gate` is its gate.
    pub(crate) fn from_json(json: &Value, gate: &Gate) -> Result<Self, String> {
        let object = json.as_object().ok_or("a fault is a JSON object")?;
        let kind = object.get("kind").and_then(Value::as_str).ok_or("a fault has a kind")?;
        let mut read = Vec::from(["kind"]);
        let mut number = |name: &'static str| {
            read.push(name);
            match object.get(name) {
                None => Ok(None),
                Some(value) => value.as_i64().map(Some).ok_or_else(|| format!("{name} is not an integer")),
            }
        };
        let status = number("status")?.map(|n| n as u16);
        let code = number("code")?.map(|n| n as u32);
        let (delay, seconds, size) = (number("ms")?, number("seconds")?, number("size")?);
        let unix = number("unix")?;
        let retry = [number("retry_after")?, number("retry_after_date")?, number("retry_after_ms")?];
        let x_ms_retry = number("x_ms_retry_after_ms")?;
        read.extend(["error", "name", "value", "body", "content_type", "before_tls", "headers"]);
        if let Some(stranger) = object.keys().find(|key| !read.contains(&key.as_str())) {
            return Err(format!("{stranger} is unknown"));
        }
        let text = |name: &str, default: &str| {
            object.get(name).and_then(Value::as_str).unwrap_or(default).to_owned()
        };
        let named = || object.get("name").and_then(Value::as_str).ok_or("name is missing");
        let delay = delay.map(|ms| Duration::from_millis(ms.unsigned_abs()));
        let mut fault = match kind {
            "none" | "slow" => Self::none(),
            "status" => {
                let status = status.ok_or("status is missing")?;
                let error =
                    text("error", if status >= 500 { "temporarily_unavailable" } else { "invalid_request" });
                Self::new(Act::Refuse { status, error, code })
            }
            "echo_secret" => Self::echo_secret(),
            "body" => {
                Self::body(status.unwrap_or(200), &text("content_type", "application/json"), text("body", ""))
            }
            "template" => Self::template(&text("body", "")),
            "html" => Self::html(status.unwrap_or(200)),
            "garbage_json" => Self::garbage_json(),
            "empty_body" => Self::empty_body(),
            "garbage" => Self::garbage(),
            "redirect" => Self::redirect(status.unwrap_or(307)),
            "hang" => Self::hang(),
            "reset" => Self::reset(),
            "close" => Self::close(),
            "gate" => Self::gate(gate),
            "cut_short" => Self::cut_short(),
            "chunked" => Self::chunked(),
            "until_close" => Self::until_close(),
            "drip" => Self::drip(delay.ok_or("ms is missing")?),
            "gzip" => Self::gzip(),
            "interim" => Self::interim(),
            "stale" => Self::stale(),
            "field" => Self::field(named()?, object.get("value").cloned().ok_or("value is missing")?),
            "without" => Self::without(named()?),
            "expires_on_only" => Self::expires_on_only(unix.ok_or("unix is missing")?),
            "nul_in_token" => Self::nul_in_token(),
            "newline_in_token" => Self::newline_in_token(),
            "expired_token" => Self::expired_token(),
            "opaque_token" => Self::opaque_token(),
            "token_size" => Self::token_size(size.ok_or("size is missing")? as usize),
            "huge_body" => Self::huge_body(),
            "huge_header" => Self::huge_header(),
            "skew" => Self::skew(seconds.ok_or("seconds is missing")?),
            _ => return Err(format!("kind {kind} is unknown")),
        };
        if let (Some(delay), false) = (delay, kind == "drip") {
            fault = fault.after(delay);
        }
        for (name, value) in ["Retry-After", "", "retry-after-ms"].iter().zip(retry) {
            fault = match value {
                Some(seconds) if name.is_empty() => fault.retry_after_date(seconds),
                Some(value) => fault.header(name, &value.to_string()),
                None => fault,
            };
        }
        if let Some(value) = x_ms_retry {
            fault = fault.header("x-ms-retry-after-ms", &value.to_string());
        }
        if let Some(headers) = object.get("headers") {
            for (name, value) in headers.as_object().ok_or("headers is not an object")? {
                fault = fault.header(name, value.as_str().ok_or("a header is not a string")?);
            }
        }
        fault.before_tls = object.get("before_tls").and_then(Value::as_bool).unwrap_or(false);
        Ok(fault)
    }

    /// The answer that takes the place of whatever the server would say, if the fault is of that kind.
    pub(crate) fn instead(&self, request: &Request) -> Option<Response> {
        match &self.act {
            Act::Body(status, content_type, body) => Some(Response::new(*status, content_type, body.clone())),
            Act::Redirect(status) => {
                let host = request.header("host").unwrap_or("localhost");
                let scheme = if request.secure { "https" } else { "http" };
                let to = format!("{scheme}://{host}{REDIRECT_PREFIX}{}", request.target);
                Some(Response::new(*status, "text/html", "").with("Location", to))
            }
            _ => None,
        }
    }

    /// Puts on an answer what the fault says of its headers, its framing and the server's clock, which is
    /// `clock_skew` seconds ahead in any case.
    pub(crate) fn dress(&self, mut response: Response, clock_skew: i64) -> Response {
        let skew = clock_skew + self.skew;
        response.date = shifted(skew);
        response.framing = self.framing;
        response.interim = self.interim;
        for header in &self.headers {
            response = match header {
                Header::Text(name, value) => response.with(name, value.as_str()),
                Header::Date(name, seconds) => {
                    response.with(name, httpdate::fmt_http_date(shifted(skew + seconds)))
                }
            };
        }
        if self.gzip {
            response.body = gzip(&response.body);
            response = response.with("Content-Encoding", "gzip");
        }
        response
    }

    /// Changes the body of an answer that grants this token.
    pub(crate) fn change(&self, body: &mut Value, token: &str) {
        for edit in &self.edits {
            match edit {
                Edit::Set(name, value) => body[name.as_str()] = value.clone(),
                Edit::Remove(name) => drop(body.as_object_mut().and_then(|body| body.remove(name))),
                Edit::InToken(text) => {
                    let (start, end) = token.split_at(token.len() / 2);
                    let whole = |value: &&mut Value| value.as_str() == Some(token);
                    if let Some(value) = body.as_object_mut().and_then(|b| b.values_mut().find(whole)) {
                        *value = Value::String(format!("{start}{text}{end}"));
                    }
                }
                Edit::Huge => body["filler"] = Value::String("x".repeat(3 << 19)),
                Edit::Expired | Edit::Opaque | Edit::Size(_) => {}
            }
        }
    }

    /// Waits as the fault says.
    pub(crate) fn wait(&self, stop: &Stop) {
        if let Some(gate) = &self.gate {
            gate.pass(stop);
        }
        if !self.delay.is_zero() {
            stop.pause(self.delay);
        }
    }
}

/// The script of faults: first those for the next requests, one each, then the standing one, if any.
///
/// A fault [`before_tls`](Fault::before_tls) meets a new connection, any other a request. A connection passes by a
/// queue that begins with a request's fault; a request on an old connection takes whatever the queue begins with.
#[derive(Default)]
pub struct Faults(Mutex<Script>);

#[derive(Default)]
struct Script {
    next: VecDeque<Fault>,
    standing: Option<Fault>,
}

impl Faults {
    /// Queues a fault for one request, behind those that wait already.
    pub fn next(&self, fault: Fault) {
        lock(&self.0).next.push_back(fault);
    }

    /// Queues a fault for `n` requests.
    pub fn next_n(&self, n: usize, fault: Fault) {
        lock(&self.0).next.extend(std::iter::repeat_n(fault, n));
    }

    /// Lets each request meet this fault, once the queue is empty and until it is cleared.
    pub fn always(&self, fault: Fault) {
        lock(&self.0).standing = Some(fault);
    }

    /// Forgets all faults.
    pub fn clear(&self) {
        *lock(&self.0) = Script::default();
    }

    /// How many faults wait for a request.
    pub fn pending(&self) -> usize {
        lock(&self.0).next.len()
    }

    pub(crate) fn for_connection(&self) -> Option<Fault> {
        let mut script = lock(&self.0);
        match script.next.front() {
            Some(fault) if fault.before_tls => script.next.pop_front(),
            Some(_) => None,
            None => script.standing.clone().filter(|fault| fault.before_tls),
        }
    }

    pub(crate) fn for_request(&self) -> Fault {
        let mut script = lock(&self.0);
        let standing = |script: &Script| script.standing.clone().filter(|fault| !fault.before_tls);
        script.next.pop_front().or_else(|| standing(&script)).unwrap_or_else(Fault::none)
    }
}
