//! What any service that gives tokens may answer. Pure: it sends nothing.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use zeroize::Zeroizing;

use super::redact::redact;
use crate::http::Answer;
use crate::secret::Secret;
use crate::token::{self, Moment, Origin, Token};

/// The JSON object that an answer holds.
pub(super) fn object(answer: &Answer) -> Option<Value> {
    serde_json::from_slice(&answer.body).ok().filter(Value::is_object)
}

/// What kind of thing an answer is that is not what was asked for.
pub(super) fn content_type(answer: &Answer, secrets: &[&Secret]) -> String {
    short(answer.header("content-type").unwrap_or("no content type"), secrets)
}

/// The first text that is there, without the secrets, up to the ids and times that follow a sentence.
pub(super) fn sentence<'a>(texts: impl IntoIterator<Item = &'a Value>, secrets: &[&Secret]) -> String {
    let text = texts.into_iter().find_map(|text| text.as_str().filter(|text| !text.is_empty()));
    to_the_point(&redact(text.unwrap_or_default(), secrets)).to_string()
}

/// A text up to the ids and times that follow its sentence.
pub(super) fn to_the_point(text: &str) -> &str {
    let end =
        ["\r", "\n", " Trace ID:"].iter().filter_map(|mark| text.find(mark)).min().unwrap_or(text.len());
    &text[..end.min(text.floor_char_boundary(800))]
}

/// A value of a header, short and without the secrets.
pub(super) fn short(value: &str, secrets: &[&Secret]) -> String {
    let value = redact(value, secrets);
    value[..value.floor_char_boundary(100)].to_string()
}

/// A sentence of theirs, to stand behind ours.
pub(super) fn behind(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {}", said.trim_end_matches('.')) }
}

/// The service's own time, by which its tokens end.
fn server_time(answer: &Answer) -> Option<i64> {
    let time = httpdate::parse_http_date(answer.header("date")?).ok()?;
    i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()).ok()
}

/// The token in a successful answer, or what is wrong with it.
pub(super) fn token(mut json: Value, started: Moment, answer: &Answer) -> Result<Token, String> {
    let Some(Value::String(text)) = json.get_mut("access_token").map(Value::take) else {
        return Err("there is no access_token".into());
    };
    let secret = secret(&Zeroizing::new(text)).ok_or("access_token holds characters that no token has")?;
    if let Some(kind) = json.get("token_type")
        && !kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"))
    {
        return Err("token_type is not Bearer".into());
    }
    let now = server_time(answer);
    let life = match seconds(&json, "expires_in")? {
        Some(life) => life,
        None => match seconds(&json, "expires_on")? {
            Some(expires_on) => expires_on - now.unwrap_or(started.unix()),
            None => return Err("neither expires_in nor expires_on says how long it lives".into()),
        },
    };
    let refresh_in = seconds(&json, "refresh_in").ok().flatten();
    living(secret, started, life, refresh_in, now)
}

/// A token that lives so many seconds from when it was asked for, as far as that is true.
pub(super) fn living(
    secret: Secret,
    started: Moment,
    mut life: i64,
    refresh_in: Option<i64>,
    server_time: Option<i64>,
) -> Result<Token, String> {
    // The service's clock against the service's expiry: right whatever this machine's clock says.
    if let (Some(now), Some(end)) = (server_time, token::claim(secret.reveal(), "exp")) {
        life = life.min(end.saturating_sub(now));
    }
    if life <= 0 {
        return Err("it has expired already".into());
    }
    let refresh_in = refresh_in.filter(|after| (1..life).contains(after));
    Ok(Token {
        secret,
        expires_on: started.unix().saturating_add(life),
        asked: started.boot,
        life: Duration::from_secs(life.unsigned_abs()),
        refresh_in: refresh_in.map(|after| Duration::from_secs(after.unsigned_abs())),
        origin: Origin::Entra,
    })
}

/// The text of a token; None: no token looks like that.
pub(super) fn secret(text: &str) -> Option<Secret> {
    let plausible = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    plausible.then(|| Secret::apart(text))
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

/// Nothing is put off for longer, whatever the service says.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// `Retry-After` in its three spellings; milliseconds are the more exact ones.
pub(super) fn retry_after(answer: &Answer) -> Option<Duration> {
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
