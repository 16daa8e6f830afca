//! The token endpoint of Microsoft Entra ID, v2.0: the request, the answer, and what it says when it refuses.

use std::time::{Duration, Instant, SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{Failure, Retry, aadsts, retry};
use crate::error::{Error, ErrorKind};
use crate::http::{self, Answer, Http, Roots};
use crate::log::Level;
use crate::secret::Secret;
use crate::settings::Settings;
use crate::token::{self, Moment, Token};

/// Who asks, and how the messages call the proof.
pub(super) struct Application<'a> {
    pub(super) tenant: &'a str,
    pub(super) client_id: &'a str,
    /// "client secret"
    pub(super) proof: &'static str,
    /// The setting or variable that holds it.
    pub(super) proof_name: &'a str,
    /// Never repeated, even where the service repeats it.
    pub(super) secret: &'a Secret,
}

/// Asks for a token, again where that helps.
pub(super) fn fetch(
    settings: &Settings,
    application: &Application<'_>,
    proof: &[(&str, &str)],
    scope: &str,
    deadline: Instant,
) -> Result<Token, Failure> {
    let url = settings.authority.token_url(application.tenant);
    let roots = Roots { extra: settings.ca_file.clone(), system: settings.system_roots.clone() };
    let http = Http::new(&http::host_of(&url), &roots, settings.proxy.as_ref())?;
    let mut fields =
        vec![("grant_type", "client_credentials"), ("client_id", application.client_id), ("scope", scope)];
    fields.extend(proof);
    let form = form(&fields);
    let result = retry::until(deadline, random, || {
        let request_id = request_id();
        let started = Moment::now();
        let headers = [("Accept", "application/json"), ("client-request-id", request_id.as_str())];
        let (result, correlation_id) = match http.post(&url, &headers, &form, deadline) {
            Ok(answer) => (read(&answer, started, application, settings), correlation_id(&answer)),
            Err(failure) => (Err(no_answer(failure, settings)), None),
        };
        log(settings, application, scope, &correlation_id.unwrap_or(request_id), started, &result);
        result
    });
    if let Err(failure) = &result {
        Level::Error.log(settings.log, "no_token", &[("error", failure.error.message())]);
    }
    result
}

/// The body of a form post.
fn form(fields: &[(&str, &str)]) -> zeroize::Zeroizing<String> {
    let mut body = zeroize::Zeroizing::new(String::new());
    for (name, value) in fields {
        if !body.is_empty() {
            body.push('&');
        }
        body.push_str(name);
        body.push('=');
        body.push_str(&encode(value));
    }
    body
}

/// RFC 3986's unreserved characters are the others.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn encode(value: &str) -> String {
    utf8_percent_encode(value, RESERVED).to_string()
}

fn no_answer(failure: http::Failure, settings: &Settings) -> Failure {
    let authority = &settings.authority;
    let proxy = settings.proxy.as_ref().filter(|proxy| proxy.url_for(authority.host()).is_some());
    let way = proxy.map(|proxy| format!(" through the proxy of {}", proxy.name)).unwrap_or_default();
    let network = |why: String, what_to_do: &str, retry| Failure {
        error: Error::new(ErrorKind::Network, format!("No token from {authority}{way}: {why}. {what_to_do}")),
        retry,
    };
    match failure {
        http::Failure::Timeout(doing) => Failure {
            error: Error::new(
                ErrorKind::Timeout,
                format!(
                    "No token from {authority}{way} in time: the deadline (PGAAD_TIMEOUT_MS) passed while {doing}."
                ),
            ),
            retry: Retry::Soon,
        },
        http::Failure::Network(why) => {
            network(why, "Check the network, PGAAD_PROXY and PGAAD_AUTHORITY_HOST.", Retry::Soon)
        }
        http::Failure::Proxy(why) => {
            network(format!("the proxy refused: {why}"), "Check the proxy's user and password.", Retry::Never)
        }
        http::Failure::Untrusted(why) => network(
            why,
            "If that is meant to be so (a proxy that opens TLS, a private cloud), name its root's PEM file in \
             PGAAD_CA_FILE.",
            Retry::Never,
        ),
        http::Failure::Protocol(why) => Error::new(
            ErrorKind::Protocol,
            format!("{authority}{way} did not answer as a token service does: {why}. {CHECK_AUTHORITY}"),
        )
        .into(),
    }
}

/// What an answer says.
fn read(
    answer: &Answer,
    started: Moment,
    application: &Application<'_>,
    settings: &Settings,
) -> Result<Token, Failure> {
    let json: Option<Value> = serde_json::from_slice(&answer.body).ok().filter(Value::is_object);
    match (answer.status, json) {
        (200, Some(json)) => token(json, started, server_time(answer))
            .map_err(|why| protocol(settings, &format!("answered with a token that cannot be used: {why}"))),
        (status @ (408 | 429 | 500..), json) => {
            Err(try_later(status, json.as_ref(), answer, application, settings))
        }
        (status @ 300..400, _) => Err(protocol(
            settings,
            &format!(
                "answered with a redirect (HTTP {status}), which is not followed: it would carry the secret elsewhere"
            ),
        )),
        (status, Some(json)) if json.get("error").is_some_and(Value::is_string) => {
            Err(refusal(status, &json, answer, application, settings))
        }
        (status, _) => {
            let kind = redact(answer.header("content-type").unwrap_or("no content type"), application.secret);
            Err(protocol(
                settings,
                &format!("answered HTTP {status} with something that is no token answer ({kind})"),
            ))
        }
    }
}

/// For answers that are none of a token service's.
const CHECK_AUTHORITY: &str =
    "Check PGAAD_AUTHORITY_HOST, and whether a proxy or login page answers in its place.";

fn protocol(settings: &Settings, what: &str) -> Failure {
    Error::new(ErrorKind::Protocol, format!("{} {what}. {CHECK_AUTHORITY}", settings.authority)).into()
}

/// The service's own time, by which its tokens end.
fn server_time(answer: &Answer) -> Option<i64> {
    let time = httpdate::parse_http_date(answer.header("date")?).ok()?;
    i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()).ok()
}

/// The token in a successful answer, or what is wrong with it.
fn token(mut json: Value, started: Moment, server_time: Option<i64>) -> Result<Token, String> {
    let Some(Value::String(text)) = json.get_mut("access_token").map(Value::take) else {
        return Err("there is no access_token".into());
    };
    let secret = Secret::new(text);
    if secret.reveal().is_empty() || !secret.reveal().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("access_token holds characters that no token has".into());
    }
    if let Some(kind) = json.get("token_type")
        && !kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"))
    {
        return Err("token_type is not Bearer".into());
    }
    let mut life = match seconds(&json, "expires_in")? {
        Some(life) => life,
        None => match seconds(&json, "expires_on")? {
            Some(expires_on) => expires_on - started.unix,
            None => return Err("neither expires_in nor expires_on says how long it lives".into()),
        },
    };
    // The service's clock against the service's expiry: right whatever this machine's clock says.
    if let (Some(now), Some(end)) = (server_time, token::claim(secret.reveal(), "exp")) {
        life = life.min(end.saturating_sub(now));
    }
    if life <= 0 {
        return Err("it has expired already".into());
    }
    let refresh_in = seconds(&json, "refresh_in").ok().flatten().filter(|after| (1..life).contains(after));
    Ok(Token {
        secret,
        expires_on: started.unix + life,
        asked: started.boot,
        life: Duration::from_secs(life.unsigned_abs()),
        refresh_in: refresh_in.map(|after| Duration::from_secs(after.unsigned_abs())),
    })
}

/// A time field: an integer, a float without fraction or a string of digits, from 1 to 2^31 (`expires_on`: to
/// the year 9999).
fn seconds(json: &Value, name: &str) -> Result<Option<i64>, String> {
    let most = if name == "expires_on" { 253_402_300_799.0 } else { 2_147_483_648.0 };
    let number = match json.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        Some(_) => None,
    };
    match number.filter(|number| number.fract() == 0.0 && (1.0..=most).contains(number)) {
        Some(number) => Ok(Some(number as i64)),
        None => Err(format!("{name} is no time that makes sense")),
    }
}

/// Statuses that mean: not now.
fn try_later(
    status: u16,
    json: Option<&Value>,
    answer: &Answer,
    application: &Application<'_>,
    settings: &Settings,
) -> Failure {
    let said = json.map(|json| said(json, application)).filter(|text| !text.is_empty());
    let said = said.map(|text| format!(": {}", text.trim_end_matches('.'))).unwrap_or_default();
    let after = retry_after(answer);
    let authority = &settings.authority;
    let error = match after {
        Some(after) => {
            let then = httpdate::fmt_http_date(SystemTime::now() + after);
            let seconds = after.as_millis().div_ceil(1000);
            let text = format!(
                "{authority} said to come back in {seconds} s, at {then} (HTTP {status}{said}). Until then nothing is \
                 asked of it."
            );
            Error::new(ErrorKind::Throttled, text)
        }
        None if status == 429 => Error::new(
            ErrorKind::Throttled,
            format!("{authority} had too many requests (HTTP 429{said}). Try again in a few seconds."),
        ),
        None => Error::new(
            ErrorKind::Network,
            format!(
                "No token from {authority}: it failed (HTTP {status}{said}), all tries used. Try again later."
            ),
        ),
    };
    Failure { error, retry: after.map_or(Retry::Soon, Retry::After) }
}

/// Nothing is put off for longer, whatever the service says.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// `Retry-After` in its three spellings; milliseconds are the more exact ones.
fn retry_after(answer: &Answer) -> Option<Duration> {
    pause(answer).map(|pause| pause.min(LONGEST_PAUSE))
}

fn pause(answer: &Answer) -> Option<Duration> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| *number >= 0.0);
    let of_seconds = |seconds: f64| Duration::from_secs_f64(seconds.min(LONGEST_PAUSE.as_secs_f64()));
    for name in ["x-ms-retry-after-ms", "retry-after-ms"] {
        if let Some(milliseconds) = answer.header(name).and_then(number) {
            return Some(of_seconds(milliseconds / 1000.0));
        }
    }
    let text = answer.header("retry-after")?.trim();
    if let Some(seconds) = number(text) {
        return Some(of_seconds(seconds));
    }
    let then = httpdate::parse_http_date(text).ok()?;
    // By the service's own clock where it says what time it has.
    let date = answer.header("date").and_then(|date| httpdate::parse_http_date(date).ok());
    Some(then.duration_since(date.unwrap_or_else(SystemTime::now)).unwrap_or_default())
}

/// Entra said no.
fn refusal(
    status: u16,
    json: &Value,
    answer: &Answer,
    application: &Application<'_>,
    settings: &Settings,
) -> Failure {
    let codes = codes(json);
    if json["error"] == "temporarily_unavailable" || codes.iter().any(|&code| aadsts::is_transient(code)) {
        return try_later(status, Some(json), answer, application, settings);
    }
    let about_proof = codes.iter().any(|&code| aadsts::is_about_the_proof(code));
    let what = if about_proof { format!("the {} of ", application.proof) } else { String::new() };
    let said = said(json, application);
    let said = said.trim_end_matches('.');
    let hint = codes
        .iter()
        .find_map(|&code| aadsts::hint(code))
        .unwrap_or("Show the administrator of the tenant this message.");
    let hint = hint.replace("{proof}", application.proof_name);
    let ids: Vec<String> = ["trace_id", "correlation_id"]
        .iter()
        .filter_map(|name| Some(format!("{} {}", name.replace('_', " "), json.get(*name)?.as_str()?)))
        .collect();
    let ids = if ids.is_empty() { String::new() } else { format!(" ({})", ids.join(", ")) };
    let text = format!(
        "Entra refused {what}application {} in tenant {}: {said}. {hint}{ids}",
        application.client_id, application.tenant
    );
    Error::new(ErrorKind::Denied, redact(&text, application.secret)).into()
}

/// The AADSTS codes of an error answer; where the list is missing, the one in the text.
fn codes(json: &Value) -> Vec<u32> {
    let listed = json.get("error_codes").and_then(Value::as_array);
    let listed =
        listed.map(|codes| codes.iter().filter_map(|code| u32::try_from(code.as_u64()?).ok()).collect());
    listed.filter(|codes: &Vec<u32>| !codes.is_empty()).unwrap_or_else(|| {
        let text = json.get("error_description").and_then(Value::as_str).unwrap_or_default();
        let digits = text.split("AADSTS").nth(1).unwrap_or_default();
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse().into_iter().collect()
    })
}

/// The service's own sentence, without the ids and times that follow it.
fn said(json: &Value, application: &Application<'_>) -> String {
    let text = |name| json.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let whole = text("error_description").or(text("error")).unwrap_or_default();
    let whole = redact(whole, application.secret);
    let end =
        ["\r", "\n", " Trace ID:"].iter().filter_map(|mark| whole.find(mark)).min().unwrap_or(whole.len());
    whole[..end.min(whole.floor_char_boundary(800))].to_string()
}

/// Under which id the service logged the request: the one sent, unless it says otherwise.
fn correlation_id(answer: &Answer) -> Option<String> {
    let json: Value = serde_json::from_slice(&answer.body).ok()?;
    let id = json.get("correlation_id").and_then(Value::as_str).or(answer.header("client-request-id"))?;
    let is_id = id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_id.then(|| id.to_string())
}

/// A service that repeats the secret must not make us repeat it, in whatever spelling of a form.
fn redact(text: &str, secret: &Secret) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        match spelled(rest.as_bytes(), secret.reveal().as_bytes()).filter(|length| *length > 0) {
            Some(length) => {
                clean.push_str("***");
                rest = &rest[length..];
            }
            None => {
                clean.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    clean
}

/// The length of the secret at the start of the text: each byte as itself, as `%XX`, or, a blank, as `+`. A percent
/// sign may stand for itself or begin an escape, so there can be several places to go on from.
fn spelled(text: &[u8], secret: &[u8]) -> Option<usize> {
    let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let mut places = vec![0];
    for &byte in secret {
        let mut next = Vec::new();
        for at in places {
            if text.get(at).is_some_and(|&first| first == byte || (first == b'+' && byte == b' ')) {
                next.push(at + 1);
            }
            if text.get(at) == Some(&b'%') && text.get(at + 1..at + 3).and_then(hex) == Some(byte) {
                next.push(at + 3);
            }
        }
        next.sort_unstable();
        next.dedup();
        places = next;
    }
    places.pop()
}

fn log(
    settings: &Settings,
    application: &Application<'_>,
    scope: &str,
    correlation_id: &str,
    started: Moment,
    result: &Result<Token, Failure>,
) {
    let took = Moment::now().boot.saturating_sub(started.boot).as_millis().to_string();
    let authority = settings.authority.to_string();
    let who = [
        ("authority", authority.as_str()),
        ("tenant", application.tenant),
        ("client_id", application.client_id),
        ("scope", scope),
        ("correlation_id", correlation_id),
        ("ms", took.as_str()),
    ];
    match result {
        Ok(token) => {
            let life = token.life.as_secs().to_string();
            Level::Info.log(
                settings.log,
                "token_fetched",
                &[&who[..], &[("expires_in", life.as_str())]].concat(),
            );
        }
        Err(failure) => {
            let error = [("error", failure.error.message())];
            Level::Warn.log(settings.log, "token_request_failed", &[&who[..], &error].concat());
        }
    }
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without randomness there would have been no TLS; the id and the jitter may then be what they are.
    let _ = rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes);
    bytes
}

fn random() -> f64 {
    f64::from(u32::from_ne_bytes(random_bytes())) / f64::from(u32::MAX)
}

/// A random GUID (RFC 9562, version 4), which the service repeats as its correlation id.
fn request_id() -> String {
    let bits = u128::from_be_bytes(random_bytes());
    let bits = bits & !(0xf << 76) | 0x4 << 76;
    let bits = bits & !(0x3 << 62) | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
