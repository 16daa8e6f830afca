//! The client credentials grant against the token service: what is sent, and which answers count.

use std::path::Path;
use std::time::Duration;

use emulator::serde_json::{Value, json};
use emulator::{APP_ONE, APP_QUOTED, APP_THREE, APP_TWO, App, Emulator, Fault, Numbers, TENANT_ONE};

use crate::harness::{Driver, Line, Session, conninfo, signed_in, unix_now};

const NOW: &[&str] = &["client_get_token", "-1"];

/// A new client's first token: the line with the status, and `expires_on`.
fn fetch(driver: &Driver) -> (Line, i64) {
    let lines = driver.run(&[&["new", ""], NOW]);
    (lines[2].clone(), lines[1].word().parse().expect("a number"))
}

#[test]
fn a_token_is_fetched_with_one_request_over_one_connection() {
    let emulator = Emulator::start();
    let line = signed_in(&emulator).one(&["get_token"]);
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    assert_eq!(line.get("token"), emulator.entra().tokens()[0]);
    let counters = emulator.entra().counters();
    assert_eq!((counters.connections, counters.requests, counters.tokens), (1, 1, 1));
}

#[test]
fn the_request_is_the_client_credentials_grant_and_nothing_else() {
    let emulator = Emulator::start();
    assert_eq!(signed_in(&emulator).one(&["get_token"]).status(), "PGAAD_OK");
    let seen = emulator.entra().requests().remove(0);
    assert_eq!(seen.http.method, "POST");
    assert_eq!(seen.http.target, format!("/{}/oauth2/v2.0/token", TENANT_ONE.id));

    let mut form = seen.form.clone();
    form.sort();
    let field = |name: &str, value: &str| (name.to_string(), value.to_string());
    let wanted = [
        field("client_id", APP_ONE.client_id),
        field("client_secret", APP_ONE.secret),
        field("grant_type", "client_credentials"),
        field("scope", "https://ossrdbms-aad.database.windows.net/.default"),
    ];
    assert_eq!(form, wanted);
    // Only what RFC 3986 calls unreserved stands for itself, so that no reader takes a + for a blank.
    let body = String::from_utf8(seen.http.body.clone()).expect("ASCII");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~%=&".contains(c);
    assert!(body.chars().all(plain), "{body}");
    assert!(body.contains("q%2B%2F%3D8Q%26one%2541%23_x"), "{body}");

    let mut names: Vec<_> = seen.http.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    names.retain(|name| name != "connection");
    let known = ["accept", "client-request-id", "content-length", "content-type", "host", "user-agent"];
    assert_eq!(names, known, "no cookies, no encodings, no authorization, each header once");
    let header = |name| seen.http.header(name).expect("a header");
    assert_eq!(header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(header("accept"), "application/json");
    assert_eq!(header("host"), format!("localhost:{}", emulator.entra().port()));
    assert!(header("user-agent").starts_with("pgaad/"));
    assert_eq!(header("client-request-id").len(), 36);
}

#[test]
fn a_request_id_is_never_used_twice() {
    let emulator = Emulator::start();
    signed_in(&emulator).run(&[&["new", ""], NOW, &["invalidate"], NOW]);
    let ids: Vec<_> = emulator
        .entra()
        .requests()
        .iter()
        .map(|seen| seen.http.header("client-request-id").expect("an id").to_string())
        .collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
}

#[test]
fn each_application_gets_its_own_token_whatever_its_secret_looks_like() {
    let emulator = Emulator::start();
    for app in [&APP_ONE, &APP_TWO, &APP_THREE, &APP_QUOTED] {
        let (line, _) = fetch(&Driver::new().envs(emulator.env(app)));
        assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
        assert_eq!(owner(line.get("token")), (app.client_id, app.tenant.id));
    }
    // The same by a settings string, where the secret's quotes and backslashes need escaping.
    let authority = [("PGAAD_AUTHORITY_HOST", emulator.authority().into())];
    let ca_file = [("PGAAD_CA_FILE", emulator.ca_file().as_os_str().to_owned())];
    let driver = Driver::new().envs(authority.into_iter().chain(ca_file).map(|(k, v)| (k.to_string(), v)));
    let line = driver.run(&[&["new", &settings(&APP_QUOTED)], NOW]).pop().expect("a line");
    assert_eq!(owner(line.get("token")), (APP_QUOTED.client_id, TENANT_ONE.id), "{line:?}");
}

/// A settings string with this application's identity.
fn settings(app: &App) -> String {
    conninfo(&[("tenant_id", app.tenant.id), ("client_id", app.client_id), ("client_secret", app.secret)])
}

/// The application and tenant of a token.
fn owner(token: &str) -> (&'static str, &'static str) {
    let claims = emulator::claims(token).expect("a token of the emulator's");
    let app = emulator::APPS.iter().find(|app| claims["appid"] == app.client_id).expect("an application");
    assert_eq!(claims["tid"], app.tenant.id);
    (app.client_id, app.tenant.id)
}

#[test]
fn tenant_scope_and_authority_make_the_request() {
    let emulator = Emulator::start();
    let port = emulator.entra().port();
    let scope = "https://token.postgres.cosmos.azure.com/.default";
    for (settings, target, scope_sent, host) in [
        (format!("tenant_id={}", TENANT_ONE.domain), TENANT_ONE.domain, None, "localhost"),
        (format!("scope={scope}"), TENANT_ONE.id, Some(scope), "localhost"),
        (format!("authority_host=127.0.0.1:{port}"), TENANT_ONE.id, None, "127.0.0.1"),
        (format!("authority_host=HTTPS://localhost:{port}//"), TENANT_ONE.id, None, "localhost"),
    ] {
        let line = signed_in(&emulator).run(&[&["new", &settings], NOW]).pop().expect("a line");
        assert_eq!(line.status(), "PGAAD_OK", "{settings}: {line:?}");
        let seen = emulator.entra().requests().pop().expect("a request");
        assert_eq!(seen.http.target, format!("/{target}/oauth2/v2.0/token"), "{settings}");
        assert_eq!(seen.http.header("host"), Some(format!("{host}:{port}").as_str()), "{settings}");
        let default = "https://ossrdbms-aad.database.windows.net/.default";
        assert_eq!(seen.field("scope"), Some(scope_sent.unwrap_or(default)), "{settings}");
    }
}

#[test]
fn the_secret_file_is_read_at_each_fetch() {
    let emulator = Emulator::start();
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("secret");
    let write = |text: String| std::fs::write(&file, text).expect("a file");
    write(format!("{}\n", APP_ONE.secret));
    let path = file.to_str().expect("text");
    let driver = signed_in(&emulator).without("PGAAD_CLIENT_SECRET").env("PGAAD_CLIENT_SECRET_FILE", path);
    let mut session = driver.session();
    session.ask(&["new", ""]);
    assert_eq!(session.one(NOW).status(), "PGAAD_OK");
    // The secret rotates: the file's new text is used, with the blanks that editors leave.
    write(format!("  {}\r\n", emulator.entra().rotate_secret(&APP_ONE)));
    session.ask(&["invalidate"]);
    assert_eq!(session.one(NOW).status(), "PGAAD_OK");
    std::fs::remove_file(&file).expect("it was there");
    session.ask(&["invalidate"]);
    let line = session.one(NOW);
    assert_eq!(line.status(), "PGAAD_CONFIG");
    assert!(line.errmsg().contains("PGAAD_CLIENT_SECRET_FILE") && line.errmsg().contains(path), "{line:?}");
    assert_eq!(emulator.entra().counters().requests, 2);
}

#[test]
fn all_shapes_of_a_good_answer_are_read() {
    let emulator = Emulator::start();
    let entra = emulator.entra();
    let later = unix_now() + 3599;
    let v1 = format!(
        r#"{{"token_type":"Bearer","expires_in":"3599","ext_expires_in":"3599","expires_on":"{later}",
             "not_before":"1500000000","resource":"https://ossrdbms-aad.database.windows.net","access_token":"{{token}}"}}"#
    );
    let escaped = r#" {"access_token":"{token}", "expires_in" : 3.599e3 , "token_type":"\u0042earer"} "#;
    let many = |n: usize| Fault::field("filler", "x".repeat(n));
    let rows: Vec<(&str, Numbers, Fault)> = vec![
        ("integers", Numbers::Integers, Fault::none()),
        ("strings", Numbers::Strings, Fault::none()),
        ("floats", Numbers::Floats, Fault::none()),
        ("a refresh_in as string", Numbers::Strings, Fault::field("refresh_in", "1800")),
        ("expires_on alone", Numbers::Integers, Fault::expires_on_only(later)),
        ("expires_on alone, a string", Numbers::Integers, Fault::expires_on_only(later.to_string())),
        ("expires_on alone, a float", Numbers::Integers, Fault::expires_on_only(later as f64)),
        ("a v1 answer", Numbers::Integers, Fault::template(&v1)),
        ("odd but valid JSON", Numbers::Integers, Fault::template(escaped)),
        ("unknown fields", Numbers::Integers, Fault::field("new_field", Value::Null)),
        ("a small bearer", Numbers::Integers, Fault::field("token_type", "bearer")),
        ("a large BEARER", Numbers::Integers, Fault::field("token_type", "BEARER")),
        ("an ext_expires_in that is no time", Numbers::Integers, Fault::field("ext_expires_in", "soon")),
        ("chunks", Numbers::Integers, Fault::chunked()),
        ("no length", Numbers::Integers, Fault::until_close()),
        ("one byte at a time", Numbers::Integers, Fault::drip(Duration::ZERO)),
        ("an interim answer first", Numbers::Integers, Fault::interim()),
        ("a close after the answer", Numbers::Integers, Fault::stale()),
        ("no JWT", Numbers::Integers, Fault::opaque_token()),
        ("a token of 4 KB", Numbers::Integers, Fault::token_size(4096)),
        ("a token of 64 KB", Numbers::Integers, Fault::token_size(65536)),
        ("an answer of nearly 1 MiB", Numbers::Integers, many((1 << 20) - 8192)),
        ("8 KB of headers", Numbers::Integers, Fault::none().header("X-Long", &"y".repeat(8 << 10))),
    ];
    for (n, (case, numbers, fault)) in rows.into_iter().enumerate() {
        entra.configure(|config| config.numbers = numbers);
        let asked = unix_now();
        entra.faults().next(fault);
        let (line, expires_on) = fetch(&signed_in(&emulator));
        assert_eq!(line.status(), "PGAAD_OK", "{case}: {line:?}");
        assert_eq!(line.get("token"), entra.tokens().pop().expect("a token"), "{case}");
        assert!((asked + 3590..=unix_now() + 3599).contains(&expires_on), "{case}: {expires_on}");
        assert_eq!(entra.counters().requests, n + 1, "{case}: at the first try");
    }
}

#[test]
fn an_answer_that_is_no_token_answer_is_refused_and_not_asked_for_again() {
    let emulator = Emulator::start();
    let entra = emulator.entra();
    let json_body = |status, text: &str| Fault::body(status, "application/json; charset=utf-8", text);
    let mut rows = vec![
        ("no access_token", Fault::without("access_token")),
        ("access_token is null", Fault::field("access_token", json!(null))),
        ("access_token is a number", Fault::field("access_token", 5)),
        ("access_token is a list", Fault::field("access_token", json!(["eyJ.eyJ.x"]))),
        ("access_token is empty", Fault::field("access_token", "")),
        ("access_token is not ASCII", Fault::field("access_token", "eyJhbGciOi\u{e9}")),
        ("access_token has a blank", Fault::field("access_token", "eyJ eyJ")),
        ("a NUL in the token", Fault::nul_in_token()),
        ("a newline in the token", Fault::newline_in_token()),
        ("neither expires_in nor expires_on", Fault::without("expires_in")),
        ("expires_on is past", Fault::expires_on_only(unix_now() - 10)),
        ("expires_on is 0", Fault::expires_on_only(0)),
        ("expires_on is after the year 9999", Fault::expires_on_only(253_402_300_800_i64)),
        ("the token itself has expired", Fault::expired_token()),
        ("another token_type", Fault::field("token_type", "pop")),
        ("token_type is no string", Fault::field("token_type", 1)),
        ("JSON that ends too soon", Fault::garbage_json()),
        ("a JSON list", json_body(200, "[1,2,3]")),
        ("a JSON string", json_body(200, "\"eyJ.eyJ.x\"")),
        ("not UTF-8", Fault::body(200, "application/json", b"{\"access_token\":\"\xff\xfe\"}".to_vec())),
        ("nested too deep", json_body(200, &"[".repeat(100_000))),
        ("HTML", Fault::html(200)),
        ("HTML with status 403", Fault::html(403)),
        ("HTML with status 404", Fault::html(404)),
        ("JSON with status 400 but no error", json_body(400, "{\"message\":\"no\"}")),
        ("an empty body", Fault::empty_body()),
        ("an empty body with status 400", json_body(400, "")),
        ("no content", json_body(204, "")),
        ("more than 1 MiB", Fault::huge_body()),
        ("a header of 256 KiB", Fault::huge_header()),
        ("bytes that are not HTTP", Fault::garbage()),
        ("gzip that nobody asked for", Fault::gzip()),
        ("a redirect (302)", Fault::redirect(302)),
        ("a redirect (303)", Fault::redirect(303)),
        ("a redirect (307)", Fault::redirect(307)),
        ("a redirect (308)", Fault::redirect(308)),
    ];
    let times =
        [json!(0), json!("0"), json!(-1), json!("-1"), json!(0.5), json!(-3599.0), json!(2_147_483_649_i64)];
    let times =
        times.into_iter().chain([json!("99999999999999999999"), json!(1e300), json!("soon"), json!("")]);
    let times = times.chain([json!("3599s"), json!(" 3599"), json!(true), json!([3599]), json!({})]);
    let times: Vec<_> = times.collect();
    rows.extend(
        times.iter().map(|time| ("a time that makes no sense", Fault::field("expires_in", time.clone()))),
    );
    let mut wrong = Vec::new();
    for (case, fault) in rows {
        let before = entra.counters().requests;
        entra.faults().next(fault);
        let (line, expires_on) = fetch(&signed_in(&emulator));
        let counters = entra.counters();
        let (asked, message) = (counters.requests - before, line.errmsg());
        let refused = line.status() == "PGAAD_PROTOCOL" && expires_on == 0 && asked == 1;
        // What the service sent may be a token: a message never quotes it.
        let plain = message.starts_with("pgaad: https://localhost:") && !message.contains("eyJ");
        if !refused || !plain || counters.redirected > 0 {
            wrong.push(format!("{case}: {asked} requests, {} {expires_on} {message}", line.status()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_wrong_clock_on_either_side_does_no_harm() {
    let emulator = Emulator::start();
    let entra = emulator.entra();
    let clock = crate::harness::shim("clock");
    for service_is_ahead in [7200, 86_400, -7200, -86_400] {
        // The service is not where we think: its clock is off, or ours is (by less, since certificates have a time too).
        entra.configure(|config| config.clock_skew = service_is_ahead);
        let requests = entra.counters().requests;
        let mut session = signed_in(&emulator).env("LD_PRELOAD", &clock).session();
        session.ask(&["new", ""]);
        let asked = unix_now();
        let lines = session.ask(NOW);
        assert_eq!(lines[1].status(), "PGAAD_OK", "{service_is_ahead}: {lines:?}");
        // By this machine's clock, which is the one that the caller compares it with.
        let expires_on: i64 = lines[0].word().parse().expect("a number");
        assert!((asked + 3590..=unix_now() + 3599).contains(&expires_on), "{service_is_ahead}: {expires_on}");
        session.ask(&["set_clock", "-80000"]);
        assert_eq!(session.one(NOW).get("token"), lines[1].get("token"), "{service_is_ahead}: set back");
        assert_eq!(entra.counters().requests, requests + 1, "{service_is_ahead}: one request serves both");
        // One that has ended by the wall clock is renewed, once.
        session.ask(&["set_clock", "200000"]);
        for _ in 0..2 {
            assert_eq!(session.one(NOW).status(), "PGAAD_OK", "{service_is_ahead}: set forward");
        }
        assert_eq!(entra.counters().requests, requests + 2, "{service_is_ahead}: once more");
    }
    // What counts is how long the token lives from now on; one that is over by the wall clock is renewed all the same.
    entra.configure(|config| config.clock_skew = 0);
    let mut session = signed_in(&emulator).env("LD_PRELOAD", clock).session();
    session.ask(&["set_clock", "-80000"]);
    session.ask(&["new", ""]);
    let mut before = session.one(NOW);
    session.ask(&["set_clock", "80000"]);
    let mut renewed = |session: &mut Session, why: &str| {
        let line = session.one(NOW);
        assert_eq!(line.status(), "PGAAD_OK", "{why}: {line:?}");
        assert_ne!(line.get("token"), before.get("token"), "{why}");
        before = line;
    };
    renewed(&mut session, "set forward");
    session.ask(&["suspend", "3000"]);
    let line = session.one(NOW);
    session.ask(&["suspend", "600"]);
    let next = session.one(NOW);
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    assert_ne!(next.get("token"), line.get("token"));
}

#[test]
fn the_request_goes_to_the_path_below_the_authority() {
    let emulator = Emulator::start();
    emulator.entra().configure(|config| config.prefix = "/sign/in".into());
    let line = signed_in(&emulator).one(&["get_token"]);
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    let seen = emulator.entra().requests().remove(0);
    assert_eq!(
        Path::new(&seen.http.target),
        Path::new("/sign/in").join(TENANT_ONE.id).join("oauth2/v2.0/token")
    );
}
