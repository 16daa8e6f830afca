//! The log: lines of keys and values on standard error, never a secret in them.

use std::collections::BTreeMap;
use std::io::Read;

use emulator::{APP_ONE, APP_QUOTED, Emulator, Fault, Proxy};

use crate::harness::{Driver, Line, shim, signed_in};

const GET: &[&str] = &["get_token"];

type Entry = BTreeMap<String, String>;

/// A line of the log, which must be nothing but keys and values.
#[track_caller]
fn entry(line: &str) -> Entry {
    let mut rest = line.strip_prefix("pgaad: ").unwrap_or_else(|| panic!("no line of ours: {line}"));
    let mut entry = Entry::new();
    while !rest.is_empty() {
        let (key, value) = rest.split_once('=').unwrap_or_else(|| panic!("no key: {rest:?} in {line}"));
        assert!(key.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{key:?} in {line}");
        let end = match value.strip_prefix('"') {
            None => value.find(' ').unwrap_or(value.len()),
            Some(quoted) => {
                let mut escaped = false;
                let closing = quoted.find(|c| {
                    let closes = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    closes
                });
                closing.unwrap_or_else(|| panic!("an open quote in {line}")) + 2
            }
        };
        let text = value[..end].trim_matches('"').replace("\\\"", "\"").replace("\\\\", "\\");
        assert_eq!(entry.insert(key.to_string(), text), None, "{key} twice in {line}");
        rest = value[end..].strip_prefix(' ').unwrap_or(&value[end..]);
    }
    entry
}

/// What a first token brings: the answer, and the log.
fn logged(driver: &Driver, level: &str) -> (Line, Vec<Entry>) {
    let output = driver.clone().env("PGAAD_LOG", level).output(&[GET]);
    let err = String::from_utf8(output.stderr).expect("text");
    let out = String::from_utf8(output.stdout).expect("text");
    (Line(out.trim_end().to_string()), err.lines().map(entry).collect())
}

/// The service's ids of its requests so far.
fn correlation_ids(emulator: &Emulator) -> Vec<String> {
    let id = |seen: &emulator::Seen| seen.http.header("client-request-id").expect("an id").to_string();
    emulator.entra().requests().iter().map(id).collect()
}

#[test]
fn the_default_is_silence() {
    let emulator = Emulator::start();
    for fault in
        [Fault::none(), Fault::status(401, "invalid_client", 7000215), Fault::garbage(), Fault::html(200)]
    {
        for driver in [signed_in(&emulator), signed_in(&emulator).env("PGAAD_LOG", "off")] {
            emulator.entra().faults().next(fault.clone());
            let output = driver.output(&[GET]);
            assert!(output.stdout.starts_with(b"get_token status="));
            assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        }
    }
}

#[test]
fn a_token_is_an_info_with_the_services_id_of_the_request() {
    let emulator = Emulator::start();
    let (line, log) = logged(&signed_in(&emulator), "info");
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    assert_eq!(log.len(), 1, "{log:?}");
    let fields = [
        ("level", "info"),
        ("event", "token_fetched"),
        ("authority", &emulator.authority()),
        ("tenant", APP_ONE.tenant.id),
        ("client_id", APP_ONE.client_id),
        ("scope", "https://ossrdbms-aad.database.windows.net/.default"),
        ("correlation_id", &correlation_ids(&emulator)[0]),
        ("expires_in", "3599"),
    ];
    for (key, value) in fields {
        assert_eq!(log[0].get(key).map(String::as_str), Some(value), "{log:?}");
    }
    for level in ["error", "warn"] {
        assert!(logged(&signed_in(&emulator), level).1.is_empty(), "{level}: all is well");
    }
}

#[test]
fn each_try_that_failed_is_a_warning_and_the_end_of_it_an_error() {
    let emulator = Emulator::start();
    let busy = || Fault::status(503, "temporarily_unavailable", 90033).retry_after_ms(1);
    emulator.entra().faults().next_n(2, busy());
    let (line, log) = logged(&signed_in(&emulator), "info");
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    let levels: Vec<_> = log.iter().map(|entry| entry["level"].as_str()).collect();
    assert_eq!(levels, ["warn", "warn", "info"], "{log:?}");
    let ids: Vec<_> = log.iter().map(|entry| entry["correlation_id"].clone()).collect();
    assert_eq!(ids, correlation_ids(&emulator));
    assert!(log[0]["error"].contains("AADSTS90033"), "{log:?}");

    let refused = || Fault::status(401, "invalid_client", 7000215);
    emulator.entra().faults().next(refused());
    let (line, log) = logged(&signed_in(&emulator), "warn");
    assert_eq!(line.status(), "PGAAD_DENIED", "{line:?}");
    let warning = log.iter().find(|entry| entry["level"] == "warn").expect("a warning");
    assert_eq!(Some(&warning["correlation_id"]), correlation_ids(&emulator).last());
    assert!(warning["error"].contains("AADSTS7000215"), "{log:?}");
    // Alone, the error is as good as the message that the caller has.
    emulator.entra().faults().next(refused());
    let (line, log) = logged(&signed_in(&emulator), "error");
    assert_eq!(log.len(), 1, "{log:?}");
    assert_eq!(log[0]["level"], "error");
    assert_eq!(format!("pgaad: {}", log[0]["error"]), line.errmsg());
}

#[test]
fn a_failure_without_an_answer_has_the_id_that_was_sent() {
    let emulator = Emulator::start();
    emulator.entra().faults().next(Fault::reset());
    let (_, log) = logged(&signed_in(&emulator), "warn");
    assert_eq!(log[0]["correlation_id"], correlation_ids(&emulator)[0]);
}

#[test]
fn debug_shows_no_secret() {
    let emulator = Emulator::start();
    let proxy = Proxy::start();
    proxy.map_to(&emulator);
    proxy.require_auth("user", "hunter2");
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("secret");
    let answers = [
        Fault::none(),
        Fault::echo_secret(),
        Fault::expired_token(),
        Fault::field("token_type", "pop"),
        Fault::field("expires_in", "soon"),
        Fault::field("access_token", 1),
        Fault::newline_in_token(),
        Fault::garbage_json(),
        Fault::html(403),
        Fault::huge_body(),
        Fault::cut_short(),
        Fault::status(503, "temporarily_unavailable", 90033).retry_after(600),
        Fault::template(r#"{"error":"x","error_description":"{token}"}"#),
        Fault::template(r#"{"access_token":"{token}","expires_in":0}"#),
    ];
    for app in [&APP_ONE, &APP_QUOTED] {
        std::fs::write(&file, app.secret).expect("a file");
        let authority = format!("https://login.pgaad.test:{}", emulator.entra().port());
        let plain = Driver::new().envs(emulator.env(app)).env("PGAAD_LOG", "debug");
        let by_file = plain.clone().without("PGAAD_CLIENT_SECRET").env("PGAAD_CLIENT_SECRET_FILE", &file);
        let url = proxy.url().replace("://", "://user:hunter2@");
        let by_proxy = plain.clone().env("HTTPS_PROXY", url).env("PGAAD_AUTHORITY_HOST", authority);
        let by_proxy = by_proxy.env("LD_PRELOAD", shim("slow_resolver"));
        for driver in [plain, by_file, by_proxy] {
            for fault in &answers {
                emulator.entra().faults().next(fault.clone());
                let output = driver.output(&[GET]);
                emulator.entra().faults().clear();
                let (out, err) =
                    (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
                assert!(
                    err.lines().all(|line| entry(line).contains_key("event")) && !err.is_empty(),
                    "{err}"
                );
                // A token is the caller's, in its own place; elsewhere there is none.
                let message = Line(out.trim_end().to_string()).errmsg().to_string();
                let said = format!("{err}{message}");
                let body = emulator.entra().requests().pop().expect("a request").http.body;
                let body = String::from_utf8(body).expect("a form");
                let sent =
                    body.split("client_secret=").nth(1).expect("a secret").split('&').next().expect("it");
                for secret in [app.secret, sent, "hunter2", "eyJ", "grant_type"] {
                    assert!(!said.contains(secret), "{secret}: {said}");
                }
            }
        }
    }
}

#[test]
fn nobody_needs_to_read_the_log() {
    let emulator = Emulator::start();
    let driver = signed_in(&emulator).env("PGAAD_LOG", "debug");
    let mut session = driver.session_with_stderr();
    drop(session.stderr());
    // A write to a pipe without a reader is a SIGPIPE, which would end the program. A fetch logs on a thread of ours,
    // which blocks all signals; that a connection was judged is logged on the program's own.
    const JUDGED: &[&str] = &["connstring", "host=localhost sslmode=disable user=x"];
    for _ in 0..3 {
        assert_eq!(session.one(GET).status(), "PGAAD_OK");
        assert_eq!(session.one(JUDGED).status(), "PGAAD_INSECURE");
        session.ask(&["default"]);
        session.ask(&["invalidate"]);
    }
    // The program's own broken pipes are its own affair: its SIGPIPE is not touched.
    session.ask(&["catch", "13"]);
    assert_eq!(session.one(GET).status(), "PGAAD_OK");
    assert_eq!(session.one(JUDGED).status(), "PGAAD_INSECURE");
    assert_eq!(session.one(&["caught"]).get("count"), "0");
}

#[test]
fn the_log_goes_on_in_a_child() {
    let emulator = Emulator::start();
    let mut session = signed_in(&emulator).env("PGAAD_LOG", "info").session_with_stderr();
    let mut stderr = session.stderr().expect("standard error");
    assert_eq!(session.one(GET).status(), "PGAAD_OK");
    session.ask(&["default"]);
    session.ask(&["invalidate"]);
    session.ask(&["fork", "get_token"]);
    assert_eq!(session.last(&["exit", "0"]).1, Some(0));
    let mut log = String::new();
    stderr.read_to_string(&mut log).expect("text");
    let ids: Vec<_> = log.lines().map(|line| entry(line)["correlation_id"].clone()).collect();
    assert_eq!(ids, correlation_ids(&emulator));
}
