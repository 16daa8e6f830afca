//! `pgaad settings`: what is set, and what it means for a connection.

use clap::ArgMatches;
use serde_json::{Map, Value, json};

use super::arguments::bytes;
use super::rule::why;
use super::{bold, print};
use crate::client::Client;
use crate::connection::outside::{self, Judged};
use crate::environment::Environment;
use crate::error::Error;
use crate::settings::report::{self, Row};

/// What is shown is all that can be known; what is wrong is the result.
pub(super) fn settings(given: &str, matches: &ArgMatches) -> Result<(), Error> {
    let client = Client::new(given);
    let known = client.as_ref().ok().map(Client::settings);
    let rows = report::rows(given, known, Environment::process())?;
    let judged = client
        .as_ref()
        .map_err(Clone::clone)
        .and_then(|client| outside::judge(client, bytes(matches.get_one("conninfo"))));
    let credential = client.as_ref().ok().map(Client::credential);
    match matches.get_flag("json") {
        true => {
            print(as_json(&rows, credential.as_ref().map(|(name, _)| *name), &judged).to_string().as_bytes())
        }
        false => show(&rows, credential.as_ref(), &judged),
    }?;
    let wanted = |judged: &Judged| judged.rule.is_on();
    match (credential, judged) {
        (Some((_, Err(lack))), Ok(judged)) if wanted(&judged) => Err(lack),
        (_, judged) => judged.map(drop),
    }
}

fn as_json(rows: &[Row], credential: Option<&str>, judged: &Result<Judged, Error>) -> Value {
    let settings: Map<_, _> = rows
        .iter()
        .map(|row| {
            let origin = row.origin.as_deref().or(row.value.as_ref().map(|_| "default"));
            (row.key.to_string(), json!({ "value": row.value, "origin": origin }))
        })
        .collect();
    let connection = match judged {
        Ok(judged) => {
            let options: Map<_, _> =
                options(judged).map(|(keyword, value)| (keyword, Value::String(value))).collect();
            json!({ "entra": judged.rule.is_on(), "rule": why(judged.rule), "options": options })
        }
        Err(error) => json!({ "entra": Value::Null, "error": error.message() }),
    };
    json!({ "settings": settings, "credential": credential, "connection": connection })
}

fn show(
    rows: &[Row],
    credential: Option<&(&'static str, Result<(), Error>)>,
    judged: &Result<Judged, Error>,
) -> Result<(), Error> {
    let width = rows.iter().filter_map(|row| row.value.as_ref()).map(|value| value.chars().count()).max();
    let width = width.unwrap_or_default().clamp(8, 60);
    print(bold(&format!("{:28} {:width$} FROM", "SETTING", "VALUE")).as_bytes())?;
    for Row { key, value, origin } in rows {
        let value = value.as_deref().unwrap_or("-");
        let origin = origin.as_deref().unwrap_or(if value == "-" { "" } else { "default" });
        print(format!("{key:28} {value:width$} {origin}").trim_end().as_bytes())?;
    }
    if let Some((name, _)) = credential {
        print(b"")?;
        print(format!("{:28} {name}", bold("credential")).as_bytes())?;
    }
    let Ok(judged) = judged else { return Ok(()) };
    let state = if judged.rule.is_on() { "on" } else { "off" };
    print(format!("{:28} {state}: {}", bold("Entra"), why(judged.rule)).as_bytes())?;
    for (keyword, value) in options(judged) {
        print(format!("{keyword:28} {value}").trim_end().as_bytes())?;
    }
    Ok(())
}

/// What the connection would be made with, save for its password.
fn options(judged: &Judged) -> impl Iterator<Item = (String, String)> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let shown = judged.options.iter().map(move |(keyword, value)| match text(keyword) {
        keyword
            if matches!(&*keyword, "password" | "sslpassword" | "oauth_client_secret")
                || keyword.starts_with("scram_") =>
        {
            (keyword, "set".into())
        }
        keyword => (keyword, text(value)),
    });
    shown.filter(|(_, value)| !value.is_empty())
}
