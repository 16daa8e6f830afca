//! Tokens in memory: how often the service is asked, who waits for whom, and what is handed out when.

use emulator::{APP_ONE, APP_TWO, Emulator, Fault, Gate, PATIENCE};

use crate::harness::{Driver, Line, Session, shim, signed_in, wait_until};

/// For as long as the client's `timeout_ms`.
const NOW: &[&str] = &["client_get_token", "-1"];
/// Without waiting.
const HERE: &[&str] = &["client_get_token", "0"];

/// A session with one client, on a machine that can be suspended.
fn session(emulator: &Emulator) -> Session {
    session_with(emulator, "")
}

fn session_with(emulator: &Emulator, settings: &str) -> Session {
    let mut session = signed_in(emulator).env("LD_PRELOAD", shim("clock")).session();
    let made = session.one(&["new", settings]);
    assert_eq!(made.status(), "PGAAD_OK", "{made:?}");
    session
}

/// The token that a command brings, which must succeed.
#[track_caller]
fn token(session: &mut Session, command: &[&str]) -> String {
    let line = session.one(command);
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    line.get("token").to_string()
}

fn requests(emulator: &Emulator) -> usize {
    emulator.entra().counters().requests
}

/// The lines with a status that the threads of a session printed.
fn join(session: &mut Session) -> Vec<Line> {
    session.ask(&["join"]).into_iter().filter(|line| !line.status().is_empty()).collect()
}

/// The next request waits at this gate.
fn gate(emulator: &Emulator) -> Gate {
    let gate = Gate::new();
    emulator.entra().faults().next(Fault::gate(&gate));
    gate
}

fn refused() -> Fault {
    Fault::status(401, "invalid_client", 7000215)
}

#[test]
fn one_request_serves_however_many_threads_ask() {
    let emulator = Emulator::start();
    let mut session = signed_in(&emulator).session();
    for command in ["get_token", "client_get_token"] {
        let before = requests(&emulator);
        let gate = gate(&emulator);
        session.ask(&["new", ""]);
        session.tell(&["threads", "40", command, "-1"][..if command == "get_token" { 3 } else { 4 }]);
        gate.wait_for_arrivals(1);
        // All forty wait inside the call, and the main thread for them.
        session.running().wait_for_sleepers(41);
        gate.open();
        let lines: Vec<_> = session.answer().into_iter().filter(|line| !line.status().is_empty()).collect();
        assert_eq!(lines.len(), 40, "{command}");
        assert!(lines.iter().all(|line| line.status() == "PGAAD_OK"), "{command}: {lines:?}");
        assert!(lines.iter().all(|line| line.get("token") == lines[0].get("token")), "{command}");
        assert_eq!(requests(&emulator), before + 1, "{command}");
    }
}

#[test]
fn all_who_wait_share_a_failure() {
    let emulator = Emulator::start();
    let gate = Gate::new();
    emulator.entra().faults().next(refused().at_gate(&gate));
    let mut session = signed_in(&emulator).session();
    session.tell(&["threads", "20", "get_token"]);
    gate.wait_for_arrivals(1);
    session.running().wait_for_sleepers(21);
    gate.open();
    let lines = session.answer();
    assert!(
        lines.iter().all(|line| line.status() == "PGAAD_DENIED" && line.errmsg() == lines[0].errmsg()),
        "{lines:?}"
    );
    assert_eq!((lines.len(), requests(&emulator)), (20, 1));
}

#[test]
fn a_fetch_of_one_client_holds_up_no_other() {
    let emulator = Emulator::start();
    let mut session = session(&emulator);
    let two = format!("client_id={} client_secret={}", APP_TWO.client_id, APP_TWO.secret);
    session.ask(&["use", "1"]);
    session.ask(&["new", &two]);
    // Cold and warm, the other one is served while the first is at the gate.
    let gate = gate(&emulator);
    session.ask(&["use", "0"]);
    session.ask(&["thread", "client_get_token", "-1"]);
    gate.wait_for_arrivals(1);
    session.ask(&["use", "1"]);
    let cold = token(&mut session, NOW);
    assert_eq!(token(&mut session, NOW), cold);
    assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_OK");
    assert_ne!(token(&mut session, NOW), cold);
    // The first one's callers are served too, those who need not wait.
    session.ask(&["use", "0"]);
    assert_eq!(session.one(HERE).status(), "PGAAD_TIMEOUT");
    gate.open();
    let lines = join(&mut session);
    assert_eq!(lines[0].status(), "PGAAD_OK", "{lines:?}");
    assert_eq!(emulator::claims(lines[0].get("token")).expect("claims")["appid"], APP_ONE.client_id);
    assert_eq!(emulator::claims(&cold).expect("claims")["appid"], APP_TWO.client_id);
}

#[test]
fn clients_share_no_token() {
    let emulator = Emulator::start();
    let mut session = session(&emulator);
    let one = token(&mut session, NOW);
    // Another identity, the same identity for another scope, and the same identity.
    let two = format!("client_id={} client_secret={}", APP_TWO.client_id, APP_TWO.secret);
    let cosmos = "scope=https://token.postgres.cosmos.azure.com/.default";
    for (n, settings) in ["1", "2", "3"].into_iter().zip([two.as_str(), cosmos, ""]) {
        session.ask(&["use", n]);
        session.ask(&["new", settings]);
        assert_eq!(
            session.one(HERE).status(),
            "PGAAD_TIMEOUT",
            "{settings}: there is a token before the first fetch"
        );
        assert_ne!(token(&mut session, NOW), one, "{settings}");
    }
    // To invalidate one leaves the others alone.
    session.ask(&["invalidate"]);
    session.ask(&["use", "0"]);
    assert_eq!(token(&mut session, HERE), one);
    assert_eq!(requests(&emulator), 4);
}

#[test]
fn without_time_only_a_token_that_is_here_is_handed_out() {
    let emulator = Emulator::start();
    let mut session = session(&emulator);
    let line = session.one(HERE);
    assert_eq!(line.status(), "PGAAD_TIMEOUT", "{line:?}");
    assert_eq!(emulator.entra().counters().connections, 0, "nothing is begun");
    let first = token(&mut session, NOW);
    assert_eq!(token(&mut session, HERE), first);
    // Little life is left, but it lives; and then it does not.
    session.ask(&["suspend", "3400"]);
    assert_eq!(token(&mut session, HERE), first);
    session.ask(&["suspend", "200"]);
    assert_eq!(session.one(HERE).status(), "PGAAD_TIMEOUT");
    assert_eq!(requests(&emulator), 1);
}

#[test]
fn a_caller_who_gives_up_leaves_the_fetch_running_for_the_others() {
    let emulator = Emulator::start();
    let gate = gate(&emulator);
    let mut session = session(&emulator);
    session.ask(&["thread", "client_get_token", "-1"]);
    gate.wait_for_arrivals(1);
    for _ in 0..3 {
        let line = session.one(&["client_get_token", "20"]);
        assert_eq!(line.status(), "PGAAD_TIMEOUT", "{line:?}");
        assert!(line.errmsg().contains("20 ms"), "{line:?}");
    }
    gate.open();
    let first = token(&mut session, NOW);
    assert_eq!(join(&mut session)[0].get("token"), first);
    // Also if it was the one who began it.
    session.ask(&["invalidate"]);
    let gate = self::gate(&emulator);
    while session.one(&["client_get_token", "20"]).status() == "PGAAD_TIMEOUT" && gate.arrivals() == 0 {}
    gate.wait_for_arrivals(1);
    gate.open();
    assert_ne!(token(&mut session, NOW), first);
    assert_eq!(requests(&emulator), 2);
}

#[test]
fn a_fetch_has_the_clients_time_and_not_its_first_callers() {
    let emulator = Emulator::start();
    emulator.entra().faults().always(Fault::hang());
    let mut session = session_with(&emulator, "timeout_ms=3000");
    assert_eq!(session.one(&["client_get_token", "1"]).status(), "PGAAD_TIMEOUT");
    // Longer than the client's time is not waited, and then the fetch says what it waited for.
    let line = session.one(&["client_get_token", "600000"]);
    assert_eq!(line.status(), "PGAAD_TIMEOUT", "{line:?}");
    assert!(line.errmsg().contains("PGAAD_TIMEOUT_MS"), "{line:?}");
    assert_eq!(requests(&emulator), 1);
    // What hung is not remembered.
    emulator.entra().faults().clear();
    token(&mut session, NOW);
}

#[test]
fn a_token_is_renewed_when_it_has_little_life_left() {
    let emulator = Emulator::start();
    emulator.entra().configure(|config| config.lifetime = 4000);
    for (settings, fresh_for, stale_from) in [
        ("", 3690, 3710),
        ("refresh_before_minutes=10", 3390, 3410),
        // Never more than half of its life: otherwise each call would be a request.
        ("refresh_before_minutes=1440", 1990, 2010),
        // With 0, as long as it lives, less what clocks may differ.
        ("refresh_before_minutes=0", 3980, 4000),
    ] {
        let before = requests(&emulator);
        let mut session = session_with(&emulator, settings);
        let first = token(&mut session, NOW);
        session.ask(&["suspend", &fresh_for.to_string()]);
        assert_eq!(token(&mut session, NOW), first, "{settings}");
        assert_eq!(requests(&emulator), before + 1, "{settings}");
        session.ask(&["suspend", &(stale_from - fresh_for).to_string()]);
        assert_ne!(token(&mut session, NOW), first, "{settings}");
        assert_eq!(requests(&emulator), before + 2, "{settings}");
    }
}

#[test]
fn a_short_lived_token_is_used_all_the_same() {
    let emulator = Emulator::start();
    emulator.entra().configure(|config| config.lifetime = 600);
    let mut session = session_with(&emulator, "refresh_before_minutes=1440");
    let first = token(&mut session, NOW);
    for _ in 0..5 {
        assert_eq!(token(&mut session, NOW), first);
    }
    assert_eq!(requests(&emulator), 1);
}

#[test]
fn a_failed_refresh_hands_out_the_token_that_lives() {
    let busy = || Fault::status(503, "temporarily_unavailable", 90033);
    let failures = [
        ("refused", refused()),
        ("not now", busy().retry_after(3600)),
        ("no token answer", Fault::html(200)),
        ("an expired token", Fault::expired_token()),
        ("no answer", Fault::hang()),
        ("no handshake", Fault::hang().before_tls()),
    ];
    let emulator = Emulator::start();
    for (case, fault) in failures {
        // Long enough for the first fetch, and nothing is measured by it.
        let mut session = session_with(&emulator, "timeout_ms=3000");
        let first = token(&mut session, NOW);
        let connections = emulator.entra().counters().connections;
        emulator.entra().faults().always(fault);
        session.ask(&["suspend", "3400"]);
        assert_eq!(token(&mut session, NOW), first, "{case}");
        assert!(emulator.entra().counters().connections > connections, "{case}: it was not even tried");
        // It is not tried at each call now.
        let connections = emulator.entra().counters().connections;
        for _ in 0..5 {
            assert_eq!(token(&mut session, NOW), first, "{case}");
        }
        assert_eq!(emulator.entra().counters().connections, connections, "{case}: tried at each call");
        // Once it can be had again, it is; at the latest when the old one has ended.
        emulator.entra().faults().clear();
        session.ask(&["suspend", "190"]);
        if case != "not now" {
            assert_ne!(token(&mut session, NOW), first, "{case}");
        }
    }
}

#[test]
fn failed_refreshes_do_not_stand_in_the_way_once_the_token_has_ended() {
    let emulator = Emulator::start();
    let mut session = session(&emulator);
    let first = token(&mut session, NOW);
    emulator.entra().faults().always(Fault::html(200));
    // The pause after a failed refresh grows, and the last one reaches beyond the token's end.
    for seconds in [3480, 6, 11, 21, 41] {
        session.ask(&["suspend", &seconds.to_string()]);
        assert_eq!(token(&mut session, NOW), first, "{seconds}");
    }
    assert!(requests(&emulator) > 2, "it was not even tried");
    emulator.entra().faults().clear();
    session.ask(&["suspend", "41"]);
    assert_ne!(token(&mut session, NOW), first);
}

#[test]
fn a_caller_with_little_time_gets_the_living_token_meanwhile() {
    let emulator = Emulator::start();
    let mut session = session(&emulator);
    let first = token(&mut session, NOW);
    session.ask(&["suspend", "3400"]);
    let gate = gate(&emulator);
    assert_eq!(token(&mut session, &["client_get_token", "20"]), first);
    gate.wait_for_arrivals(1);
    gate.open();
    assert_ne!(token(&mut session, NOW), first);
    assert_eq!(requests(&emulator), 2);
}

#[test]
fn an_expired_token_is_never_handed_out() {
    let emulator = Emulator::start();
    for fault in [refused(), Fault::hang(), Fault::html(200)] {
        let mut session = session_with(&emulator, "timeout_ms=3000");
        let first = token(&mut session, NOW);
        emulator.entra().faults().always(fault);
        session.ask(&["suspend", "3600"]);
        for command in [NOW, HERE, &["client_get_token", "20"], NOW] {
            let line = session.one(command);
            assert_ne!(line.status(), "PGAAD_OK", "{command:?}: {line:?}");
        }
        emulator.entra().faults().clear();
        session.ask(&["suspend", "60"]);
        assert_ne!(token(&mut session, NOW), first);
    }
}

#[test]
fn a_token_ends_in_real_time_too() {
    let emulator = Emulator::start();
    emulator.entra().configure(|config| config.lifetime = 2);
    let mut session = signed_in(&emulator).session();
    session.ask(&["new", ""]);
    let first = token(&mut session, NOW);
    let service = || emulator.entra().now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let end = emulator::claims(&first).expect("claims")["exp"].as_u64().expect("a time");
    wait_until("another token", || {
        let asked = service().as_secs();
        let got = token(&mut session, NOW);
        assert!(got != first || asked <= end, "{asked}: handed out after its end at {end}");
        got != first
    });
    assert_eq!(requests(&emulator), 2);
}

#[test]
fn advice_starts_a_refresh_behind_the_callers() {
    let emulator = Emulator::start();
    emulator.entra().configure(|config| config.refresh_in = Some(1800));
    let mut session = session(&emulator);
    let first = token(&mut session, NOW);
    session.ask(&["suspend", "1790"]);
    assert_eq!(token(&mut session, NOW), first);
    assert_eq!(requests(&emulator), 1);
    session.ask(&["suspend", "20"]);
    // They go on with the old token while the new one is under way, and ask for it once.
    let gate = gate(&emulator);
    for _ in 0..5 {
        assert_eq!(token(&mut session, NOW), first);
    }
    gate.wait_for_arrivals(1);
    assert_eq!(token(&mut session, NOW), first);
    gate.open();
    wait_until("the new token", || token(&mut session, HERE) != first);
    assert_eq!(requests(&emulator), 2);
}

#[test]
fn advice_that_fails_is_not_taken_at_each_call() {
    let emulator = Emulator::start();
    emulator.entra().configure(|config| config.refresh_in = Some(1800));
    let mut session = session(&emulator);
    let first = token(&mut session, NOW);
    session.ask(&["suspend", "1810"]);
    emulator.entra().faults().always(refused());
    assert_eq!(token(&mut session, NOW), first);
    assert!(emulator.entra().wait_until(|c| c.requests == 2, PATIENCE));
    wait_until("the fetch has ended", || session.running().tasks().len() == 1);
    for _ in 0..5 {
        assert_eq!(token(&mut session, NOW), first);
    }
    assert_eq!(requests(&emulator), 2);
    // A while later it is tried again.
    emulator.entra().faults().clear();
    session.ask(&["suspend", "300"]);
    assert_eq!(token(&mut session, NOW), first);
    wait_until("the new token", || token(&mut session, HERE) != first);
    assert_eq!(requests(&emulator), 3);
}

#[test]
fn advice_later_than_our_own_limit_changes_nothing() {
    let emulator = Emulator::start();
    emulator.entra().configure(|config| config.refresh_in = Some(3500));
    let mut session = session(&emulator);
    let first = token(&mut session, NOW);
    session.ask(&["suspend", "3310"]);
    assert_ne!(token(&mut session, NOW), first);
}

#[test]
fn a_refused_secret_is_not_repeated() {
    let emulator = Emulator::start();
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("secret");
    std::fs::write(&file, "wrong").expect("a file");
    let driver = signed_in(&emulator).without("PGAAD_CLIENT_SECRET").env("PGAAD_CLIENT_SECRET_FILE", &file);
    let mut session = driver.env("LD_PRELOAD", shim("clock")).session();
    session.ask(&["new", ""]);
    let refusal = session.one(NOW);
    assert_eq!(refusal.status(), "PGAAD_DENIED", "{refusal:?}");
    let again = session.ask(&["threads", "20", "client_get_token", "-1"]);
    let again: Vec<_> = again.iter().filter(|line| !line.status().is_empty()).collect();
    assert!(again.iter().all(|line| line.errmsg() == refusal.errmsg()), "{again:?}");
    assert_eq!((again.len(), requests(&emulator)), (20, 1));
    // The secret is put right, which is seen at once; invalidate forgets the refusal too.
    std::fs::write(&file, APP_ONE.secret).expect("a file");
    token(&mut session, NOW);
    std::fs::write(&file, "wrong").expect("a file");
    session.ask(&["invalidate"]);
    assert_eq!(session.one(NOW).status(), "PGAAD_DENIED");
    std::fs::write(&file, APP_ONE.secret).expect("a file");
    session.ask(&["invalidate"]);
    token(&mut session, NOW);
    assert_eq!(requests(&emulator), 4);
}

#[test]
fn who_is_told_when_to_come_back_does_not_come_before() {
    let emulator = Emulator::start();
    emulator.entra().faults().next(Fault::status(429, "invalid_request", 90055).retry_after(3600));
    let mut session = session(&emulator);
    for _ in 0..3 {
        let line = session.one(NOW);
        assert_eq!(line.status(), "PGAAD_THROTTLED", "{line:?}");
    }
    session.ask(&["suspend", "3500"]);
    assert_eq!(session.one(NOW).status(), "PGAAD_THROTTLED");
    assert_eq!(requests(&emulator), 1);
    session.ask(&["suspend", "200"]);
    token(&mut session, NOW);
}

#[test]
fn what_failed_on_the_way_is_tried_again_by_the_next_caller() {
    let emulator = Emulator::start();
    let mut session = session(&emulator);
    for fault in [Fault::html(200), Fault::garbage_json(), Fault::without("access_token")] {
        emulator.entra().faults().next(fault);
        assert_eq!(session.one(NOW).status(), "PGAAD_PROTOCOL");
        session.ask(&["invalidate"]);
        token(&mut session, NOW);
        session.ask(&["invalidate"]);
    }
}

#[test]
fn invalidate_drops_the_token_and_what_was_under_way() {
    let emulator = Emulator::start();
    let mut session = session(&emulator);
    let first = token(&mut session, NOW);
    assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_OK");
    assert_eq!(session.one(HERE).status(), "PGAAD_TIMEOUT");
    let gate = gate(&emulator);
    session.ask(&["thread", "client_get_token", "-1"]);
    gate.wait_for_arrivals(1);
    session.ask(&["invalidate"]);
    // What is at the gate was asked for before: the next caller asks anew, and that is what is kept.
    let second = token(&mut session, NOW);
    gate.open();
    let under_way = join(&mut session);
    assert_eq!(under_way[0].status(), "PGAAD_OK", "{under_way:?}");
    assert_ne!(under_way[0].get("token"), second);
    assert_eq!(token(&mut session, NOW), second);
    assert_ne!(first, second);
    assert_eq!(requests(&emulator), 3);
}

#[test]
fn the_default_client_reads_its_environment_at_first_use_and_after_invalidate() {
    let emulator = Emulator::start();
    let appid =
        |token: &str| emulator::claims(token).expect("claims")["appid"].as_str().expect("text").to_string();
    let mut session = signed_in(&emulator).session();
    let first = token(&mut session, &["get_token"]);
    assert_eq!(appid(&first), APP_ONE.client_id);
    session.ask(&["setenv", "PGAAD_CLIENT_ID", APP_TWO.client_id]);
    session.ask(&["setenv", "PGAAD_CLIENT_SECRET", APP_TWO.secret]);
    assert_eq!(token(&mut session, &["get_token"]), first);
    // It is the one behind pgaad_client_default too, and freeing that does nothing.
    session.ask(&["default"]);
    assert_eq!(token(&mut session, HERE), first);
    session.ask(&["free"]);
    session.ask(&["default"]);
    assert_eq!(token(&mut session, HERE), first);
    assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_OK");
    assert_eq!(session.one(HERE).status(), "PGAAD_TIMEOUT");
    let second = token(&mut session, NOW);
    assert_eq!(appid(&second), APP_TWO.client_id);
    assert_eq!(token(&mut session, &["get_token"]), second);
    // Where the environment has gone wrong, it says so, until it is right again.
    session.ask(&["setenv", "PGAAD_CLIENT_ID", "nonsense"]);
    assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_CONFIG");
    assert_eq!(session.one(&["get_token"]).status(), "PGAAD_CONFIG");
    session.ask(&["setenv", "PGAAD_CLIENT_ID", APP_TWO.client_id]);
    assert_eq!(appid(&token(&mut session, &["get_token"])), APP_TWO.client_id);
    assert_eq!(requests(&emulator), 3);
}

#[test]
fn a_client_of_its_own_keeps_the_settings_it_was_made_with() {
    let emulator = Emulator::start();
    let mut session = session(&emulator);
    session.ask(&["unsetenv", "PGAAD_CLIENT_ID"]);
    session.ask(&["unsetenv", "PGAAD_CLIENT_SECRET"]);
    session.ask(&["setenv", "PGAAD_AUTHORITY_HOST", "https://localhost:1"]);
    let first = token(&mut session, NOW);
    session.ask(&["invalidate"]);
    assert_ne!(token(&mut session, NOW), first);
}

#[test]
fn a_failed_first_use_is_not_remembered() {
    let emulator = Emulator::start();
    for (variables, status) in [
        (&[][..], "PGAAD_UNAVAILABLE"),
        (&[("PGAAD_CLIENT_ID", "nonsense")], "PGAAD_CONFIG"),
        (&[("PGAAD_AUTH", "off")], "PGAAD_DISABLED"),
        (&[("PGAAD_CA_FILE", "/nonexistent")], "PGAAD_CONFIG"),
        (&[("PGAAD_CLIENT_SECRET", "wrong")], "PGAAD_DENIED"),
    ] {
        let identity = emulator.env(&APP_ONE);
        let driver = if variables.is_empty() { Driver::new() } else { signed_in(&emulator) };
        let driver = variables.iter().fold(driver, |driver, (name, value)| driver.env(*name, value));
        let mut session = driver.session();
        let requests_before = requests(&emulator);
        for _ in 0..3 {
            assert_eq!(session.one(&["get_token"]).status(), status);
        }
        assert!(requests(&emulator) <= requests_before + 1, "{status}: a refusal was repeated");
        for (name, _) in variables {
            session.ask(&["unsetenv", name]);
        }
        for (name, value) in &identity {
            session.ask(&["setenv", name, value.to_str().expect("text")]);
        }
        let line = session.one(&["get_token"]);
        assert_eq!(line.status(), "PGAAD_OK", "after {status}: {line:?}");
    }
}

#[test]
fn a_call_that_runs_when_its_client_is_freed_finishes() {
    let emulator = Emulator::start();
    let gate = gate(&emulator);
    let mut session = session(&emulator);
    session.ask(&["thread", "client_get_token", "-1"]);
    gate.wait_for_arrivals(1);
    session.running().wait_for_sleepers(2);
    session.ask(&["free"]);
    gate.open();
    let lines = join(&mut session);
    assert_eq!(lines[0].status(), "PGAAD_OK", "{lines:?}");
}

#[test]
fn the_warm_path_makes_no_system_call_but_the_clocks() {
    let emulator = Emulator::start();
    let mut session = session(&emulator);
    token(&mut session, NOW);
    assert_eq!(session.one(&["warm", "1000"]).0, "warm exit=0 signal=0");
    // What is not warm does more, and that ends the process: the ban is real.
    assert_eq!(session.one(&["warm", "-1"]).0, "warm exit=-1 signal=31");
}
