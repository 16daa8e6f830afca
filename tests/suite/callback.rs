//! Tokens from the program itself: what its function is told, on which thread, how often, and what its answers make.
//! The functions are scripted; see tests/c/callback.h.

use emulator::{APP_ONE, DEVELOPER, Emulator, claims};

use crate::harness::{
    Driver, Line, NOW, Session, assert_fails, assert_one_clear_line, conninfo, ground, shim, valgrind,
    wait_until,
};

const SCOPE: &str = "https://ossrdbms-aad.database.windows.net/.default";
/// All that can be blocked.
const ALL_SIGNALS: &str = "fffffffe7ffbfeff";

/// An action that answers with a new token, which is valid for an hour.
fn token(emulator: &Emulator) -> String {
    format!("token 0 {}", emulator.entra().mint(&APP_ONE))
}

/// The token in such an action.
fn text(action: &str) -> &str {
    action.rsplit(' ').next().expect("a token")
}

fn expiry(token: &str) -> i64 {
    claims(token).expect("claims")["exp"].as_i64().expect("a time")
}

/// Makes a client of these actions.
#[track_caller]
fn new(session: &mut Session, settings: &str, actions: &[&str]) {
    let line = session.one(&[&["new_callback", settings], actions].concat());
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
}

fn supplier(session: &mut Session) -> Line {
    session.one(&["supplier"])
}

/// A number that is known of the function.
fn count(session: &mut Session, name: &str) -> u64 {
    supplier(session).get(name).parse().expect("a number")
}

/// Waits until so many functions are under way.
fn wait_inside(session: &mut Session, n: u64) {
    wait_until("the function was called", || count(session, "inside") == n);
}

#[track_caller]
fn assert_token(line: &Line, action: &str) {
    assert_eq!((line.status(), line.get("token")), ("PGAAD_OK", text(action)), "{line:?}");
}

#[test]
fn its_token_signs_in_is_kept_and_asked_for_anew_when_dropped() {
    let ground = ground();
    let (one, two) = (token(&ground.emulator), token(&ground.emulator));
    // The environment's switch is none of a callback's.
    let driver = Driver::new().envs(ground.postgres.env(APP_ONE.role)).env("PGAAD_AUTH", "off");
    let mut session = driver.session();
    new(&mut session, "", &[&one, &two]);
    for command in [&["client_connect", ""][..], &["client_params", "0", "dbname", "postgres"]] {
        let line = session.one(command);
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "OK"), "{line:?}");
        assert_eq!(session.one(&["query", "select current_user"]).get("value"), APP_ONE.role);
    }
    assert_eq!(ground.uses_of(text(&one)), vec![(APP_ONE.role.to_string(), true); 2]);
    let lines = session.ask(NOW);
    assert_eq!(lines[0].word(), expiry(text(&one)).to_string());
    assert_token(&lines[1], &one);
    assert_token(&session.one(&["client_get_token", "0"]), &one);
    assert_eq!(session.one(&["client_options", ""]).options()["password"], text(&one));
    assert_eq!(count(&mut session, "calls"), 1);
    assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_OK");
    assert_eq!(session.one(&["client_get_token", "0"]).status(), "PGAAD_TIMEOUT");
    assert_token(&session.one(NOW), &two);
    assert_eq!(count(&mut session, "calls"), 2);
    // A password at hand gives way, as to any credential that is named.
    session.ask(&["setenv", "PGPASSWORD", "hunter2"]);
    assert_eq!(session.one(&["client_options", ""]).options()["password"], text(&two));
}

#[test]
fn who_it_is_for_stands_in_the_token() {
    let ground = ground();
    let named =
        format!("token 0 {}", ground.emulator.entra().token_of(&DEVELOPER, emulator::POSTGRESQL, 3600));
    let mut session = Driver::new().envs(ground.postgres.env("nobody")).without("PGUSER").session();
    new(&mut session, "", &[&named]);
    let line = session.one(&["client_connect", ""]);
    assert_eq!((line.get("conn"), line.get("user")), ("OK", DEVELOPER.role), "{line:?}");
    assert_eq!(session.one(&["get_user"]).get("user"), DEVELOPER.role);
    assert_eq!(count(&mut session, "calls"), 1);
    new(&mut session, "", &[&token(&ground.emulator)]);
    for command in [&["get_user"][..], &["client_connect", ""]] {
        assert_fails(&session.one(command), "PGAAD_CONFIG", &["No user", "Set user", "PGUSER"]);
    }
    // Where Entra is on for every connection, a stranger is refused before anybody is asked for a token.
    new(&mut session, "", &[&named]);
    let line = session.one(&["client_options", "host=db.example"]);
    assert_fails(&line, "PGAAD_INSECURE", &["db.example", "server_hosts"]);
    assert_eq!(count(&mut session, "calls"), 0);
}

#[test]
fn it_is_told_the_scope_and_the_time() {
    let emulator = Emulator::start();
    let action = token(&emulator);
    let mut session = Driver::new().session();
    let cosmos = "https://token.postgres.cosmos.azure.com/.default";
    let government = "https://ossrdbms-aad.database.usgovcloudapi.net/.default";
    for (settings, host, scope, most) in [
        ("", "localhost", SCOPE, 30_000),
        ("timeout_ms=4321", "localhost", SCOPE, 4_321),
        ("timeout_ms=2147483647", "localhost", SCOPE, i32::MAX),
        ("scope=api://mine/.default", "x.postgres.cosmos.azure.com", "api://mine/.default", 30_000),
        ("cloud=usgov", "localhost", government, 30_000),
        ("", "x.postgres.cosmos.azure.com", cosmos, 30_000),
        // The function is of any cloud.
        ("", "x.postgres.database.usgovcloudapi.net", government, 30_000),
    ] {
        new(&mut session, settings, &[&action]);
        let line = session.one(&["client_options", &format!("host={host} user=x")]);
        assert_eq!(line.options().get("password").map(String::as_str), Some(text(&action)), "{line:?}");
        let told = supplier(&mut session);
        assert_eq!(told.get("scope"), scope, "{settings} {host}");
        let time: i32 = told.get("timeout").parse().expect("a number");
        // In milliseconds; some may have gone by.
        assert!(time > most / 1000 && time <= most, "{settings}: {told:?}");
    }
}

#[test]
fn it_runs_on_the_thread_of_the_call_or_on_one_of_ours() {
    let emulator = Emulator::start();
    let action = token(&emulator);
    let mut session = Driver::new().session();
    for settings in ["", "callback_thread=caller", "auth=callback"] {
        new(&mut session, settings, &[&action]);
        assert_token(&session.one(NOW), &action);
        let told = supplier(&mut session);
        let pid = session.running().id().to_string();
        assert_eq!((told.get("tid"), told.get("blocked")), (&*pid, "0000000000000000"), "{told:?}");
    }
    new(&mut session, "callback_thread=any", &[&action]);
    assert_token(&session.one(NOW), &action);
    let told = supplier(&mut session);
    assert!(told.get("thread").starts_with("pgaad"), "{told:?}");
    assert_eq!(told.get("blocked"), ALL_SIGNALS, "{told:?}");
    // A caller who gives up leaves it running there; here it has to return first.
    new(&mut session, "callback_thread=any", &[&format!("wait|{action}")]);
    assert_eq!(session.one(&["client_get_token", "10"]).status(), "PGAAD_TIMEOUT");
    wait_inside(&mut session, 1);
    session.ask(&["go"]);
    assert_token(&session.one(NOW), &action);
    assert_eq!(count(&mut session, "calls"), 1);
}

#[test]
fn near_its_end_a_token_is_replaced_or_while_that_fails_kept() {
    let emulator = Emulator::start();
    let (one, two) = (token(&emulator), token(&emulator));
    for settings in ["", "callback_thread=any"] {
        let mut session = Driver::new().env("LD_PRELOAD", shim("clock")).session();
        new(&mut session, settings, &[&one, "error 7 the vault is down", &two]);
        assert_token(&session.one(NOW), &one);
        session.ask(&["suspend", "3200"]);
        assert_token(&session.one(NOW), &one);
        assert_eq!(count(&mut session, "calls"), 1);
        session.ask(&["suspend", "200"]);
        assert_token(&session.one(NOW), &one);
        assert_eq!(count(&mut session, "calls"), 2, "it was asked for another");
        session.ask(&["suspend", "10"]);
        assert_token(&session.one(NOW), &two);
        assert_eq!(count(&mut session, "calls"), 3);
    }
}

#[test]
fn until_when_a_token_is_good_is_told_or_read() {
    let emulator = Emulator::start();
    let jwt = emulator.entra().mint(&APP_ONE);
    let end = expiry(&jwt);
    let mut session = Driver::new().session();
    for (action, expires_on) in [
        (format!("token 0 {jwt}"), end),
        (format!("token {} {jwt}", end - 600), end - 600),
        // A token says best when it ends.
        (format!("token {} {jwt}", end + 9999), end),
        (format!("token {} {jwt}", i64::MAX), end),
        // To us a token is any text without blanks.
        (format!("token {end} opaque"), end),
    ] {
        new(&mut session, "", &[&action]);
        let lines = session.ask(NOW);
        assert_token(&lines[1], &action);
        let told: i64 = lines[0].word().parse().expect("a time");
        assert_eq!(told, expires_on, "{action}");
    }
}

#[test]
fn an_answer_that_is_no_token_is_told_as_that() {
    let emulator = Emulator::start();
    let good = token(&emulator);
    let jwt = text(&good);
    let old = emulator.entra().mint_with(&APP_ONE, |claims| {
        claims.insert("exp".into(), 1_000_000_000.into());
    });
    let endless = emulator.entra().mint_with(&APP_ONE, |claims| {
        claims.remove("exp");
    });
    let expired = "has expired";
    for (action, part) in [
        ("null 0".to_string(), "no token"),
        ("null 99999999999".to_string(), "no token"),
        ("token 0 ".to_string(), "no token"),
        ("token 99999999999 two words".to_string(), "no token"),
        ("token 99999999999 caf\u{e9}".to_string(), "no token"),
        ("token 0 opaque".to_string(), "does not say when it expires"),
        (format!("token 0 {endless}"), "does not say when it expires"),
        (format!("token 0 {old}"), expired),
        (format!("token 99999999999 {old}"), expired),
        (format!("token 1 {jwt}"), expired),
        (format!("token -1 {jwt}"), expired),
        (format!("token {} {jwt}", i64::MIN), expired),
        ("nothing".to_string(), "without an answer"),
        (format!("{good}|{good}"), "more than once"),
        (format!("{good}|null 0"), "more than once"),
        (format!("error 7 x|{good}"), "more than once"),
        (format!("{good}|error 5 x"), "more than once"),
        ("error 5 x|error 5 x".to_string(), "more than once"),
    ] {
        for settings in ["", "callback_thread=any"] {
            let mut session = Driver::new().session();
            new(&mut session, settings, &[&action, &good]);
            let line = session.one(NOW);
            assert_fails(&line, "PGAAD_PROTOCOL", &["callback", part]);
            assert!(!line.errmsg().contains(jwt) && !line.errmsg().contains("opaque"), "{line:?}");
            // The next answer is better.
            assert_token(&session.one(NOW), &good);
        }
    }
    // What is in the text's bytes does not matter.
    let mut session = Driver::new();
    session = session.env("PGUSER", "x");
    for bytes in ["token 99999999999 a\nb", "token 99999999999 a\u{7f}b"] {
        let lines = session.run(&[&["new_callback", "", bytes], NOW]);
        assert_fails(lines.last().expect("a line"), "PGAAD_PROTOCOL", &["no token"]);
    }
}

#[test]
fn a_failure_is_handed_on_with_its_status_and_words() {
    let names = [
        "INVALID_ARGUMENT",
        "CONFIG",
        "DISABLED",
        "UNAVAILABLE",
        "DENIED",
        "THROTTLED",
        "NETWORK",
        "TIMEOUT",
        "PROTOCOL",
        "INSECURE",
        "LIBPQ",
        "INTERNAL",
    ];
    let known = names.into_iter().zip(1..).map(|(name, number)| (number, name));
    let unknown = [0, 13, -1, 99, i32::MAX, i32::MIN].map(|number| (number, "PROTOCOL"));
    for (number, name) in known.chain(unknown) {
        let name = format!("PGAAD_{name}");
        let mut session = Driver::new().session();
        new(&mut session, "", &[&format!("error {number} the vault said no to shop-7")]);
        assert_fails(&session.one(NOW), &name, &["callback", "the vault said no to shop-7"]);
        let line = session.one(&["client_connect", "host=localhost user=x"]);
        assert_eq!(line.get("conn"), "BAD");
        assert_fails(&line, &name, &["the vault said no to shop-7"]);
        new(&mut session, "", &[&format!("error {number}")]);
        assert_fails(&session.one(NOW), &name, &["callback"]);
    }
    // Whatever the message is, ours is one line for people.
    let long = "x".repeat(100_000);
    for message in ["two\nlines\r\n", "a\u{1b}[31mred", "pgaad: twice", "\u{202e}", &long, " ", "caf\u{e9}"] {
        let action = format!("error 5 {message}");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), action).expect("a file");
        let action = format!("@file {}", file.path().display());
        let lines = Driver::new().run(&[&["new_callback", "", &action], NOW]);
        assert_one_clear_line(&lines[2], "PGAAD_DENIED");
        assert_eq!(lines.len(), 3, "{lines:?}");
    }
}

#[test]
fn a_refusal_is_not_asked_for_again_at_once() {
    let emulator = Emulator::start();
    let good = token(&emulator);
    let mut session = Driver::new().session();
    new(&mut session, "", &["error 5 no", &good]);
    for _ in 0..3 {
        assert_fails(&session.one(NOW), "PGAAD_DENIED", &["no"]);
    }
    assert_eq!(count(&mut session, "calls"), 1);
    session.ask(&["invalidate"]);
    assert_token(&session.one(NOW), &good);
    // A failure that may pass is.
    new(&mut session, "", &["error 7 no", &good]);
    assert_fails(&session.one(NOW), "PGAAD_NETWORK", &["no"]);
    assert_token(&session.one(NOW), &good);
}

#[test]
fn one_call_at_a_time_however_many_want_a_token() {
    let emulator = Emulator::start();
    let good = token(&emulator);
    let action = format!("yield|{good}");
    for settings in ["", "callback_thread=any"] {
        let mut session = Driver::new().session();
        new(&mut session, settings, &[&format!("wait|{good}"), &action]);
        // Those who want the same token share the answer.
        for _ in 0..8 {
            session.ask(&["thread", "client_get_token", "-1"]);
        }
        wait_inside(&mut session, 1);
        // Those who want one for another scope wait for their turn.
        for _ in 0..2 {
            session.ask(&["thread", "client_options", "host=x.postgres.cosmos.azure.com user=x"]);
        }
        session.running().wait_for_sleepers(1 + 8 + 2);
        let told = supplier(&mut session);
        assert_eq!((told.get("calls"), told.get("most")), ("1", "1"), "{told:?}");
        session.ask(&["go"]);
        let lines = session.ask(&["join"]);
        let done = lines.iter().filter(|line| line.status() == "PGAAD_OK").count();
        assert_eq!(done, 10, "{lines:?}");
        let told = supplier(&mut session);
        assert_eq!((told.get("calls"), told.get("most"), told.get("inside")), ("2", "1", "0"), "{told:?}");
        // A storm in which nothing is kept.
        let lines = session.ask(&["threads", "8", "churn", "25"]);
        assert!(lines.iter().all(|line| line.0 == "churn failures=0"), "{lines:?}");
        let told = supplier(&mut session);
        assert_eq!((told.get("most"), told.get("inside")), ("1", "0"), "{told:?}");
    }
}

#[test]
fn it_may_not_call_its_own_client() {
    let emulator = Emulator::start();
    let good = token(&emulator);
    for settings in ["", "callback_thread=any"] {
        let mut session = Driver::new().session();
        new(&mut session, settings, &[&format!("own|{good}")]);
        let lines = session.ask(NOW);
        let own: Vec<_> = lines.iter().filter(|line| line.command().starts_with("own_")).collect();
        assert_eq!(own.len(), 9, "{lines:?}");
        for line in own {
            assert_fails(line, "PGAAD_INVALID_ARGUMENT", &["callback", "its own client"]);
        }
        // And its answer counts.
        assert_token(lines.last().expect("a line"), &good);
    }
}

#[test]
fn it_may_call_other_clients_even_those_of_other_callbacks() {
    let emulator = Emulator::start();
    let good = token(&emulator);
    let mut session = Driver::new().envs(emulator.env(&APP_ONE)).session();
    session.ask(&["use", "0"]);
    session.ask(&["new", ""]);
    for (place, relayed) in [("1", "0"), ("2", "1"), ("3", "2")] {
        session.ask(&["use", place]);
        new(&mut session, "", &[&format!("relay {relayed}")]);
    }
    let token = session.one(NOW).get("token").to_string();
    assert_eq!(emulator.entra().tokens(), [token]);
    for place in ["1", "2", "3"] {
        session.ask(&["use", place]);
        assert_eq!(count(&mut session, "calls"), 1);
    }
    // Two that want each other's: the inner one is told, and both go on.
    for (place, other) in [("4", "5"), ("5", "4")] {
        session.ask(&["use", place]);
        new(&mut session, "", &[&format!("other {other}|{good}")]);
    }
    let lines = session.ask(NOW);
    let statuses: Vec<_> = lines.iter().filter(|line| !line.status().is_empty()).collect();
    assert_fails(statuses[0], "PGAAD_INVALID_ARGUMENT", &["its own client"]);
    assert_eq!(statuses[1].status(), "PGAAD_OK", "{lines:?}");
    assert_token(statuses[2], &good);
}

#[test]
fn two_that_wait_for_each_other_on_threads_of_ours_end_with_their_time() {
    let emulator = Emulator::start();
    let good = token(&emulator);
    let mut session = Driver::new().session();
    for (place, other) in [("1", "2"), ("2", "1")] {
        session.ask(&["use", place]);
        new(&mut session, "callback_thread=any timeout_ms=500", &[&format!("other {other}|{good}"), &good]);
    }
    assert_fails(&session.one(NOW), "PGAAD_TIMEOUT", &["PGAAD_TIMEOUT_MS"]);
    for place in ["1", "2"] {
        session.ask(&["use", place]);
        wait_until("it has ended", || count(&mut session, "inside") == 0);
        // The client's own time is short.
        assert_token(&session.one(&["client_get_token", "30000"]), &good);
    }
}

#[test]
fn the_answer_may_come_from_another_thread() {
    let emulator = Emulator::start();
    let good = token(&emulator);
    let mut session = Driver::new().session();
    new(&mut session, "", &[&format!("thread|{good}")]);
    assert_token(&session.one(NOW), &good);
    new(&mut session, "", &["thread|error 6 later"]);
    assert_fails(&session.one(NOW), "PGAAD_THROTTLED", &["later"]);
    new(&mut session, "", &[&format!("{good}|thread|{good}")]);
    assert_fails(&session.one(NOW), "PGAAD_PROTOCOL", &["more than once"]);
}

#[test]
fn what_belongs_to_it_is_released_once_when_nobody_can_need_it_any_more() {
    let emulator = Emulator::start();
    let good = token(&emulator);
    let mut session = Driver::new().session();
    let released = |session: &mut Session| count(session, "released");

    // Never used, and used.
    for commands in [&[][..], &[NOW]] {
        new(&mut session, "", &[&good]);
        for command in commands {
            session.ask(command);
        }
        assert_eq!(released(&mut session), 0);
        session.ask(&["free"]);
        assert_eq!(released(&mut session), 1);
    }
    // Not before a call that runs has ended.
    for settings in ["", "callback_thread=any"] {
        new(&mut session, settings, &[&format!("wait|{good}")]);
        session.ask(&["thread", "client_get_token", "-1"]);
        wait_inside(&mut session, 1);
        session.ask(&["free"]);
        assert_eq!(released(&mut session), 0);
        session.ask(&["go"]);
        assert_token(session.ask(&["join"]).last().expect("a line"), &good);
        // A thread of ours may take a moment longer than its callers.
        wait_until("it is released", || released(&mut session) == 1);
        assert_eq!(supplier(&mut session).get("inside"), "0");
    }
    // By itself.
    for settings in ["", "callback_thread=any"] {
        new(&mut session, settings, &[&format!("free|{good}")]);
        assert_token(&session.one(NOW), &good);
        wait_until("it is released", || released(&mut session) == 1);
    }
    // Where there is nothing to release.
    let line = session.one(&["new_unreleased", "", &good]);
    assert_eq!(line.status(), "PGAAD_OK");
    assert_token(&session.one(NOW), &good);
    session.ask(&["free"]);
    assert_eq!(released(&mut session), 0);
    // A client that was not made never had it.
    for (settings, part) in [
        ("auth=off", "auth"),
        ("auth=managed_identity", "callback"),
        ("auth=default", "callback"),
        ("callback_thread=main", "callback_thread"),
        ("timeout_ms=soon", "timeout_ms"),
        ("tenant=x", "tenant_id"),
    ] {
        let line = session.one(&["new_callback", settings, &good]);
        assert_fails(&line, "PGAAD_CONFIG", &[part]);
        assert_eq!(released(&mut session), 0, "{settings}");
        assert_eq!(session.one(NOW).status(), "PGAAD_INVALID_ARGUMENT", "there is no client");
    }
}

#[test]
fn a_child_can_fetch_while_its_parents_other_thread_sits_in_the_function() {
    let emulator = Emulator::start();
    let (one, two) = (token(&emulator), token(&emulator));
    for settings in ["", "callback_thread=any"] {
        let mut session = Driver::new().session();
        new(&mut session, settings, &[&format!("wait|{one}"), &two]);
        session.ask(&["thread", "client_get_token", "-1"]);
        wait_inside(&mut session, 1);
        for command in [&["fork", "client_get_token", "-1"][..], &["fork", "fork", "client_get_token", "-1"]]
        {
            let lines = session.ask(command);
            assert!(lines.iter().any(|line| line.0 == "fork exit=0 signal=0"), "{lines:?}");
            let answer = lines.iter().find(|line| !line.status().is_empty()).expect("an answer");
            assert_token(answer, &two);
        }
        // A child may drop the client; that releases the child's part alone.
        session.ask(&["fork", "free"]);
        assert_eq!(count(&mut session, "released"), 0);
        session.ask(&["go"]);
        assert_token(session.ask(&["join"]).last().expect("a line"), &one);
        assert_eq!(count(&mut session, "calls"), 1, "children count for themselves");
    }
}

#[test]
fn auth_callback_is_for_clients_with_a_function() {
    let driver = Driver::new().env("PGAAD_AUTH", "callback");
    let parts = ["callback", "pgaad_client_new_callback"];
    assert_fails(&driver.one(&["get_token"]), "PGAAD_CONFIG", &[&parts[..], &["PGAAD_AUTH"]].concat());
    assert_fails(&driver.one(&["new", ""]), "PGAAD_CONFIG", &parts);
    assert_fails(&Driver::new().one(&["new", "auth=callback"]), "PGAAD_CONFIG", &parts);
    // Identities in the environment are no business of its.
    let emulator = Emulator::start();
    let good = token(&emulator);
    let mut session = driver.envs(emulator.env(&APP_ONE)).session();
    let same = conninfo(&[("tenant_id", APP_ONE.tenant.id), ("client_id", APP_ONE.client_id)]);
    for settings in ["", &same, "auth=callback"] {
        new(&mut session, settings, &[&good]);
        assert_token(&session.one(NOW), &good);
    }
    assert_eq!(emulator.entra().counters().connections, 0);
}

#[test]
fn without_a_memory_error_or_a_leak() {
    let ground = ground();
    let good = token(&ground.emulator);
    let mut session = valgrind(Driver::new().envs(ground.postgres.env(APP_ONE.role))).session();
    let (twice, own) = (format!("{good}|{good}"), format!("own|thread|{good}"));
    for settings in ["", "callback_thread=any"] {
        new(&mut session, settings, &["null 0", &twice, "error 7 no", &own]);
        for status in ["PROTOCOL", "PROTOCOL", "NETWORK", "OK", "OK"] {
            assert_eq!(session.one(NOW).status(), format!("PGAAD_{status}"));
        }
        assert_eq!(session.one(&["client_connect", ""]).get("conn"), "OK");
        let lines = session.ask(&["threads", "3", "churn", "3"]);
        assert_eq!(lines.iter().filter(|line| line.0 == "churn failures=0").count(), 3, "{lines:?}");
        session.ask(&["free"]);
        wait_until("it is released", || count(&mut session, "released") == 1);
        new(&mut session, settings, &[&format!("free|{good}")]);
        assert_token(&session.one(NOW), &good);
        wait_until("it is released", || count(&mut session, "released") == 1);
    }
    assert_eq!(session.one(&["new_callback", "auth=off", &good]).status(), "PGAAD_CONFIG");
    assert_eq!(session.one(&["new_unreleased", "", &good]).status(), "PGAAD_OK");
    session.ask(&["free"]);
    // valgrind says by the exit code whether it is content.
    assert_eq!(session.last(&["caught"]).1, Some(0));
}
