//! `pgaad_client_stats`: what a client has, did and failed with, for people and monitors.

use std::collections::BTreeSet;

use emulator::serde_json::{Value, from_str};
use emulator::{APP_ONE, APP_TWO, Emulator, Fault, Gate, IDENTITY_ONE, Redis};

use crate::harness::{Driver, Session, ground, shim, signed_in, unix_now, wait_until};

const NOW: &[&str] = &["client_get_token", "-1"];
const HERE: &[&str] = &["client_get_token", "0"];

const MEMBERS: [&str; 20] = [
    "aud",
    "appid",
    "credential",
    "expires_on",
    "failing_since",
    "failures",
    "hits",
    "last_error",
    "last_good_fetch",
    "misses",
    "next_refresh",
    "oid",
    "origin",
    "refreshes",
    "scope",
    "settings",
    "tid",
    "user",
    "waits",
    // Room for what may be added: not a member.
    "",
];

fn session(driver: Driver, settings: &str) -> Session {
    let mut session = driver.env("LD_PRELOAD", shim("clock")).session();
    let made = session.one(&["new", settings]);
    assert_eq!(made.status(), "PGAAD_OK", "{made:?}");
    session
}

/// The text, which is one line.
#[track_caller]
fn text(session: &mut Session) -> String {
    let line = session.one(&["stats"]);
    let text =
        line.0.strip_prefix("stats status=PGAAD_OK stats=").and_then(|rest| rest.strip_suffix(" errmsg="));
    text.unwrap_or_else(|| panic!("{line:?}")).to_string()
}

#[track_caller]
fn stats(session: &mut Session) -> Value {
    from_str(&text(session)).expect("JSON")
}

/// Hits, misses, waits, refreshes, failures.
#[track_caller]
fn counts(session: &mut Session) -> [u64; 5] {
    let stats = stats(session);
    ["hits", "misses", "waits", "refreshes", "failures"].map(|name| stats[name].as_u64().expect("a number"))
}

#[track_caller]
fn token(session: &mut Session) -> String {
    let line = session.one(NOW);
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    line.get("token").to_string()
}

/// Within a few seconds of now.
#[track_caller]
fn assert_near(value: &Value, expected: i64) {
    let value = value.as_i64().expect("a time");
    assert!((expected - 30..=expected + 30).contains(&value), "{value}, expected about {expected}");
}

#[test]
fn it_is_an_object_of_known_members() {
    let emulator = Emulator::start();
    let mut session = session(signed_in(&emulator), "");
    let members = |stats: &Value| -> BTreeSet<String> {
        stats.as_object().expect("an object").keys().cloned().collect()
    };
    let expected: BTreeSet<_> =
        MEMBERS.into_iter().filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let before = stats(&mut session);
    assert_eq!(members(&before), expected);
    // Nothing was asked for to tell this.
    assert_eq!(emulator.entra().counters().connections, 0);
    for name in
        ["tid", "appid", "oid", "aud", "user", "origin", "expires_on", "last_good_fetch", "next_refresh"]
    {
        assert_eq!(before[name], Value::Null, "{name}");
    }
    assert_eq!((&before["failing_since"], &before["last_error"]), (&Value::Null, &Value::Null));
    token(&mut session);
    assert_eq!(members(&stats(&mut session)), expected);
}

#[test]
fn it_tells_whose_the_token_is_and_how_long_it_lives() {
    let emulator = Emulator::start();
    let mut session = session(signed_in(&emulator), "");
    let claims = emulator::claims(&token(&mut session)).expect("claims");
    let had = stats(&mut session);
    for name in ["tid", "appid", "oid", "aud"] {
        assert!(had[name].is_string());
        assert_eq!(had[name], claims[name], "{name}");
    }
    assert_eq!(had["credential"], "client_secret");
    assert_eq!(had["scope"], "https://ossrdbms-aad.database.windows.net/.default");
    assert_eq!(had["origin"], "entra");
    // An application's token names nobody.
    assert_eq!(had["user"], Value::Null);
    let now = unix_now();
    assert_near(&had["expires_on"], now + 3599);
    assert_near(&had["last_good_fetch"], now);
    assert_near(&had["next_refresh"], now + 3299);
    // When it has ended, there is none; what was, was.
    session.ask(&["suspend", "3600"]);
    let had = stats(&mut session);
    for name in ["tid", "appid", "oid", "aud", "origin", "expires_on", "next_refresh"] {
        assert_eq!(had[name], Value::Null, "{name}");
    }
    assert_near(&had["last_good_fetch"], now);
}

#[test]
fn it_tells_when_the_next_refresh_is_due() {
    let emulator = Emulator::start();
    for (settings, lifetime, refresh_in, due) in [
        ("", 3599, Some(1800), 1800),
        ("", 86_400, None, 43_200),
        ("refresh_before_minutes=0", 3599, None, 3589),
        ("refresh_before_minutes=10", 3599, None, 2999),
    ] {
        emulator.entra().configure(|config| (config.lifetime, config.refresh_in) = (lifetime, refresh_in));
        let mut session = session(signed_in(&emulator), settings);
        token(&mut session);
        assert_near(&stats(&mut session)["next_refresh"], unix_now() + due);
    }
}

#[test]
fn it_counts_what_happens() {
    let emulator = Emulator::start();
    emulator.entra().configure(|config| config.refresh_in = Some(1800));
    let mut session = session(signed_in(&emulator), "");
    let gate = |fault: Fault| {
        let gate = Gate::new();
        emulator.entra().faults().next(fault.at_gate(&gate));
        gate
    };
    assert_eq!(counts(&mut session), [0; 5]);
    // Without a token and without time nothing happens.
    session.ask(HERE);
    assert_eq!(counts(&mut session), [0; 5]);
    // One fetches, ten wait for it.
    let held = gate(Fault::none());
    session.tell(&[&["threads", "11"], NOW].concat());
    held.wait_for_arrivals(1);
    session.running().wait_for_sleepers(12);
    held.open();
    session.answer();
    assert_eq!(counts(&mut session), [0, 1, 10, 1, 0]);
    // They are there at once, from all threads.
    session.ask(&[&["threads", "20"], NOW].concat());
    session.ask(HERE);
    assert_eq!(counts(&mut session), [21, 1, 10, 1, 0]);
    // A refresh behind the callers is a fetch, and no miss.
    session.ask(&["suspend", "1810"]);
    let held = gate(Fault::none());
    for _ in 0..4 {
        token(&mut session);
    }
    held.wait_for_arrivals(1);
    assert_eq!(counts(&mut session), [25, 1, 10, 1, 0]);
    held.open();
    wait_until("the fetch's count", || counts(&mut session) == [25, 1, 10, 2, 0]);
    // A failure while callers have a token; the pause that follows needs none.
    session.ask(&["suspend", "3400"]);
    emulator.entra().faults().next(Fault::status(401, "invalid_client", 7000215));
    for _ in 0..3 {
        token(&mut session);
    }
    assert_eq!(counts(&mut session), [27, 2, 10, 2, 1]);
    // Other clients count for themselves.
    session.ask(&["use", "1"]);
    session.ask(&["new", ""]);
    assert_eq!(counts(&mut session), [0; 5]);
    // What was counted stays when the token is dropped.
    session.ask(&["use", "0"]);
    session.ask(&["invalidate"]);
    assert_eq!(counts(&mut session), [27, 2, 10, 2, 1]);
}

#[test]
fn it_tells_since_when_it_fails_and_with_what() {
    let emulator = Emulator::start();
    let mut session = session(signed_in(&emulator), "");
    let begun = unix_now();
    emulator.entra().faults().always(Fault::status(401, "invalid_client", 7000215));
    session.ask(NOW);
    session.ask(&["suspend", "1000"]);
    let refusal = session.one(NOW);
    let failing = stats(&mut session);
    assert_near(&failing["failing_since"], begun);
    let error = failing["last_error"].as_str().expect("a text");
    assert!(error.contains("AADSTS7000215"), "{error}");
    assert_eq!(format!("pgaad: {error}"), refusal.errmsg());
    assert_eq!(failing["last_good_fetch"], Value::Null);
    assert_eq!(failing["failures"], 2);
    // It works again.
    emulator.entra().faults().clear();
    session.ask(&["suspend", "6"]);
    token(&mut session);
    let good = stats(&mut session);
    assert_eq!(good["failing_since"], Value::Null);
    assert_near(&good["last_good_fetch"], unix_now() + 1006);
    assert_eq!(good["last_error"], failing["last_error"], "the last error stays the last one");
    // It fails while the token lives: the next try is put off.
    emulator.entra().faults().always(Fault::status(401, "invalid_client", 7000215));
    session.ask(&["suspend", "3400"]);
    token(&mut session);
    let failing = stats(&mut session);
    assert_near(&failing["failing_since"], unix_now() + 4406);
    assert_near(&failing["next_refresh"], unix_now() + 4406 + 5);
    assert_eq!(failing["origin"], "entra");
}

#[test]
fn it_tells_where_the_token_came_from() {
    let emulator = Emulator::start();
    let redis = Redis::start();
    let dir = tempfile::tempdir().expect("a folder");
    let file = format!("cache=file:{}", dir.path().join("tokens").display());
    for (settings, origin) in [(file, "file"), (format!("cache={}", redis.url()), "redis")] {
        let before = emulator.entra().counters().tokens;
        let mut first = session(signed_in(&emulator), &settings);
        let fetched = token(&mut first);
        let of_first = stats(&mut first);
        assert_eq!(of_first["origin"], "entra", "{origin}");
        // Another process finds it.
        let mut second = session(signed_in(&emulator), &settings);
        assert_eq!(token(&mut second), fetched, "{origin}");
        let of_second = stats(&mut second);
        assert_eq!(of_second["origin"], origin);
        for name in ["tid", "appid", "oid", "aud", "scope", "credential"] {
            assert_eq!(of_second[name], of_first[name], "{name}");
        }
        assert_near(&of_second["expires_on"], of_first["expires_on"].as_i64().expect("a time"));
        assert_eq!(emulator.entra().counters().tokens, before + 1, "{origin}");
    }
}

#[test]
fn it_names_the_user_where_there_is_one() {
    let emulator = Emulator::start();
    let mut session = session(Driver::new().envs(emulator.workload_env(IDENTITY_ONE.client_id)), "");
    token(&mut session);
    let before = stats(&mut session)["user"].clone();
    let user = session.one(&["get_user"]);
    assert_eq!(user.status(), "PGAAD_OK", "{user:?}");
    assert_eq!(stats(&mut session)["user"], user.get("user"), "before it was asked for: {before}");
}

#[test]
fn it_tells_where_each_setting_came_from() {
    let emulator = Emulator::start();
    let driver = signed_in(&emulator)
        .env("PGAAD_TIMEOUT_MS", "20000")
        .env("DB_REFRESH_BEFORE_MINUTES", "7")
        .env("PGAAD_CACHE", "memory");
    let two = format!("client_id={} client_secret={}", APP_TWO.client_id, APP_TWO.secret);
    let mut session = session(driver, &format!("{two} timeout_ms=10000"));
    let origins = stats(&mut session)["settings"].clone();
    for (name, origin) in [
        ("timeout_ms", "settings"),
        ("client_id", "settings"),
        ("client_secret", "settings"),
        ("refresh_before_minutes", "DB_REFRESH_BEFORE_MINUTES"),
        ("tenant_id", "PGAAD_TENANT_ID"),
        ("authority_host", "PGAAD_AUTHORITY_HOST"),
        ("ca_file", "PGAAD_CA_FILE"),
        ("cache", "PGAAD_CACHE"),
    ] {
        assert_eq!(origins[name], origin, "{name} in {origins}");
    }
    // What nobody set has no origin.
    assert_eq!(origins.get("cloud"), None, "{origins}");
}

#[test]
fn it_holds_no_secret() {
    let emulator = Emulator::start();
    emulator.entra().faults().next(Fault::echo_secret());
    let key = "c2VhbC1zZWFsLXNlYWwtc2VhbC1zZWFsLXNlYWwtc2VhbA==";
    let redis = Redis::start_with(emulator::RedisLogin::Password);
    let settings = format!("cache={} cache_key={key}", redis.url());
    let mut session = session(signed_in(&emulator), &settings);
    let mut seen = text(&mut session);
    session.ask(NOW);
    seen.push_str(&text(&mut session));
    session.ask(&["suspend", "6"]);
    let token = token(&mut session);
    seen.push_str(&text(&mut session));
    // Redis is gone, and what is said of that names no password.
    redis.crash();
    session.ask(&["invalidate"]);
    session.ask(NOW);
    seen.push_str(&text(&mut session));
    let password = redis.url().split([':', '@']).nth(2).expect("a password").to_string();
    for secret in [APP_ONE.secret, key, &token, token.rsplit('.').next().expect("a signature"), &password] {
        assert!(secret.len() > 5 && !seen.contains(secret), "{secret:?} in {seen}");
    }
}

#[test]
fn each_credential_goes_by_its_name() {
    let emulator = &ground().emulator;
    let callback = ["new_callback", "", "error 5 no"];
    let mut session = Driver::new().session();
    assert_eq!(session.one(&callback).status(), "PGAAD_OK");
    assert_eq!(stats(&mut session)["credential"], "callback");
    assert_eq!(session.one(&["new", "auth=off"]).status(), "PGAAD_OK");
    assert_eq!(stats(&mut session)["credential"], "off");
    let mut session = Driver::new().envs(emulator.workload_env(APP_ONE.client_id)).session();
    session.ask(&["new", ""]);
    // Of a chain, the one that answered.
    token(&mut session);
    assert_eq!(stats(&mut session)["credential"], "workload_identity");
}
