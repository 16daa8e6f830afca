//! The endpoints where a pipeline's step gets an assertion about itself: what they share. Each runner has a file.

mod github;
mod pipelines;

use std::ffi::OsString;

use serde_json::{Value, json};

pub use github::GitHub;
pub use pipelines::Pipelines;

use crate::faults::{Act, Edit, Fault};
use crate::front::Desk;
use crate::http::{Request, Response, parse_form};

/// The answer to a request: what the runner decides, unless the fault says otherwise.
///
/// `decide` gets the life of the assertion, and `field` is the name by which an assertion goes out.
fn answer(
    desk: &Desk,
    request: &Request,
    fault: &Fault,
    field: &str,
    decide: impl FnOnce(i64) -> Result<String, Response>,
) -> Response {
    let ordinary = || {
        if let Act::Refuse { status, error, .. } = &fault.act {
            return json_response(*status, &json!({"message": format!("{error}: made to order")}));
        }
        let expired = fault.edits.iter().any(|edit| matches!(edit, Edit::Expired));
        let assertion = match decide(if expired { -60 } else { 300 }) {
            Ok(assertion) => assertion,
            Err(refusal) => return refusal,
        };
        desk.issued(&assertion);
        if let Act::Template(text) = &fault.act {
            return Response::new(200, JSON, text.replace("{token}", &assertion));
        }
        let mut body = json!({field: assertion});
        fault.change(&mut body, &assertion);
        json_response(200, &body)
    };
    fault.dress(fault.instead(request).unwrap_or_else(ordinary), 0)
}

const JSON: &str = "application/json; charset=utf-8";

fn json_response(status: u16, body: &Value) -> Response {
    Response::new(status, JSON, body.to_string())
}

/// The token of an `Authorization: Bearer`.
fn bearer(request: &Request) -> Option<&str> {
    let (scheme, token) = request.header("authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// Path and parameters of a request's target; None if there are no parameters, or one of them occurs twice.
fn parameters(request: &Request) -> Option<(&str, Vec<(String, String)>)> {
    let (path, query) = request.target.split_once('?')?;
    let list = parse_form(query.as_bytes())?;
    let twice = |(i, (name, _)): (usize, &(String, String))| list[..i].iter().any(|(n, _)| n == name);
    let doubled = list.iter().enumerate().any(twice);
    (!doubled).then_some((path, list))
}

/// Variables as a runner sets them.
fn variables<const N: usize>(list: [(&str, String); N]) -> Vec<(String, OsString)> {
    list.map(|(name, value)| (name.to_owned(), value.into())).into()
}
