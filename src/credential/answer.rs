//! What the token endpoint says: a token, a refusal, or that it is to be asked later. Pure: it sends nothing.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use zeroize::Zeroizing;

use super::aadsts;
use super::entra::Application;
use super::redact::redact;
use super::{Failure, Retry};
use crate::error::{Error, ErrorKind};
use crate::http::Answer;
use crate::secret::Secret;
use crate::settings::Settings;
use crate::token::{self, Moment, Token};

/// What an answer says.
pub(super) fn read(
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
pub(super) const CHECK_AUTHORITY: &str =
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
    let secret = Secret::apart(&Zeroizing::new(text));
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
pub(super) fn correlation_id(answer: &Answer) -> Option<String> {
    let json: Value = serde_json::from_slice(&answer.body).ok()?;
    let id = json.get("correlation_id").and_then(Value::as_str).or(answer.header("client-request-id"))?;
    let is_id = id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_id.then(|| id.to_string())
}
