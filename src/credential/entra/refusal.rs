//! What Entra says when there is no token. Pure: it sends nothing.

use serde_json::Value;

use super::{Application, aadsts};
use crate::credential::answer::{content_type, object, sentence};
use crate::credential::place::Place;
use crate::credential::redact::redact;
use crate::credential::{Failure, Retry};
use crate::error::ErrorKind;
use crate::http::Answer;
use crate::secret::Secret;

/// The assertion is outside the time for which it was made.
pub(in crate::credential) const STALE_ASSERTION: u32 = 700024;

/// What an answer other than a token means.
pub(super) fn read(
    answer: &Answer,
    json: Option<&Value>,
    place: &Place,
    application: &Application<'_>,
    secret: &Secret,
) -> Failure {
    let status = answer.status;
    let said = json.map(|json| said(json, secret)).unwrap_or_default();
    match (status, json) {
        (408 | 429 | 500.., _) => place.try_later(answer, &said),
        (_, Some(json)) if json.get("error").is_some_and(Value::is_string) => {
            let codes = codes(json);
            let transient = json["error"] == "temporarily_unavailable";
            if transient || codes.iter().any(|&code| aadsts::is_transient(code)) {
                return place.try_later(answer, &said);
            }
            let text = refusal(json, &codes, &said, application);
            let failure = Failure::new(ErrorKind::Denied, redact(&text, &[secret]), Retry::Never);
            let holds_everywhere =
                !codes.is_empty() && codes.iter().all(|&code| aadsts::holds_everywhere(code));
            Failure { holds_everywhere, ..failure }
        }
        _ => {
            let kind = content_type(answer, &[secret]);
            place.protocol(&format!("answered HTTP {status} with something that is no token answer ({kind})"))
        }
    }
}

fn refusal(json: &Value, codes: &[u32], said: &str, application: &Application<'_>) -> String {
    let principal = application.principal;
    let about_proof = codes.iter().any(|&code| aadsts::is_about_the_proof(code));
    let what = if about_proof { format!("the {} of ", application.proof) } else { String::new() };
    let hint = codes
        .iter()
        .find_map(|&code| aadsts::hint(code))
        .unwrap_or("Show the administrator of the tenant this message.");
    // By the names that the person gave them.
    let hint = hint
        .replace("{proof}", application.proof_name)
        .replace("PGAAD_CLIENT_ID", &principal.client_id_name)
        .replace("PGAAD_TENANT_ID", &principal.tenant_name);
    let ids: Vec<String> = ["trace_id", "correlation_id"]
        .iter()
        .filter_map(|name| Some(format!("{} {}", name.replace('_', " "), json.get(*name)?.as_str()?)))
        .collect();
    let ids = if ids.is_empty() { String::new() } else { format!(" ({})", ids.join(", ")) };
    format!(
        "Entra refused {what}application {} in tenant {}: {}. {hint}{ids}",
        principal.client_id,
        principal.tenant,
        said.trim_end_matches('.')
    )
}

/// The AADSTS codes of an error answer; where the list is missing, the one in the text.
fn codes(json: &Value) -> Vec<u32> {
    let listed = json.get("error_codes").and_then(Value::as_array);
    let listed =
        listed.map(|codes| codes.iter().filter_map(|code| u32::try_from(code.as_u64()?).ok()).collect());
    listed.filter(|codes: &Vec<u32>| !codes.is_empty()).unwrap_or_else(|| {
        let text = json.get("error_description").and_then(Value::as_str).unwrap_or_default();
        code_in(text).into_iter().collect()
    })
}

/// The first AADSTS code in a text.
pub(in crate::credential) fn code_in(text: &str) -> Option<u32> {
    let digits = text.split("AADSTS").nth(1)?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// Whether Entra refused with this code.
pub(in crate::credential) fn has_code(failure: &Failure, code: u32) -> bool {
    failure.error.kind() == ErrorKind::Denied && code_in(failure.error.message()) == Some(code)
}

/// What to do about a code.
pub(in crate::credential) fn hint(code: u32) -> Option<&'static str> {
    aadsts::hint(code).filter(|hint| !hint.contains("{proof}"))
}

/// The service's own sentence.
fn said(json: &Value, secret: &Secret) -> String {
    sentence(["error_description", "error"].iter().filter_map(|name| json.get(*name)), &[secret])
}

/// Under which id the service logged the request: the one sent, unless it says otherwise.
pub(super) fn correlation_id(answer: &Answer) -> Option<String> {
    let json = object(answer)?;
    let id = json.get("correlation_id").and_then(Value::as_str).or(answer.header("client-request-id"))?;
    let is_id = id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_id.then(|| id.to_string())
}
