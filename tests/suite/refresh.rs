//! A token is renewed before it ends: behind the callers' backs while there is time, before their eyes when there is
//! little, never as a storm, and whatever clocks do.

use std::path::Path;

use emulator::{APP_ONE, CLUSTER_SUBJECT, Emulator, Fault, Gate, PATIENCE};

use crate::harness::{
    Driver, Line, Session, assert_refused, each, ground, in_order, shim, signed_in, wait_until,
};

/// For as long as the client's `timeout_ms`.
const NOW: &[&str] = &["client_get_token", "-1"];
/// Without waiting.
const HERE: &[&str] = &["client_get_token", "0"];

/// Threads that ask at the same time.
const MANY: usize = 16;

/// A session on a machine whose clocks can be moved, with one client.
fn session_of(driver: Driver, settings: &str) -> Session {
    let mut session = driver.env("LD_PRELOAD", shim("clock")).session();
    let made = session.one(&["new", settings]);
    assert_eq!(made.status(), "PGAAD_OK", "{made:?}");
    session
}

fn session(emulator: &Emulator, settings: &str) -> Session {
    session_of(signed_in(emulator), settings)
}

fn suspend(session: &mut Session, seconds: i64) {
    session.ask(&["suspend", &seconds.to_string()]);
}

/// The token that a command brings, which must succeed.
#[track_caller]
fn token(session: &mut Session, command: &[&str]) -> String {
    let line = session.one(command);
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    line.get("token").to_string()
}

/// What many threads are answered that ask at the same time.
fn tell_many(session: &mut Session) {
    session.tell(&[&["threads", &MANY.to_string()], NOW].concat());
}

fn answers(session: &mut Session) -> Vec<Line> {
    let lines: Vec<_> = session.answer().into_iter().filter(|line| !line.status().is_empty()).collect();
    assert_eq!(lines.len(), MANY, "{lines:?}");
    lines
}

/// All of them have this token.
#[track_caller]
fn assert_all_have(lines: &[Line], token: &str) {
    assert!(lines.iter().all(|line| line.status() == "PGAAD_OK" && line.get("token") == token), "{lines:?}");
}

fn requests(emulator: &Emulator) -> usize {
    emulator.entra().counters().requests
}

/// The next request waits at this gate, and then fares like this.
fn gated(emulator: &Emulator, fault: Fault) -> Gate {
    let gate = Gate::new();
    emulator.entra().faults().next(fault.at_gate(&gate));
    gate
}

fn refused() -> Fault {
    Fault::status(401, "invalid_client", 7000215)
}

/// Threads of ours.
fn fetches(session: &Session) -> usize {
    session.running().tasks().iter().filter(|task| task.name.starts_with("pgaad")).count()
}

/// A thread has its name a little after its beginning, so all are counted.
fn wait_for_no_fetch(session: &Session) {
    wait_until("one thread", || session.running().tasks().len() == 1);
}

#[test]
fn while_there_is_time_callers_go_on_with_the_token_they_have() {
    // Life, the service's advice, until when all is quiet, and when the refresh begins.
    let rows = [
        (3599, Some(1800), 1790, 1810),
        (86_400, Some(43_200), 43_190, 43_210),
        // Two hours and more: after half of it.
        (7200, None, 3590, 3610),
        (86_399, None, 43_180, 43_210),
        // The advice counts, also where it is later.
        (7200, Some(5000), 4990, 5010),
        // Less than two hours: not before its last minutes.
        (7199, None, 6890, 0),
    ];
    each(&rows, |&(lifetime, refresh_in, quiet, begins)| {
        let emulator = Emulator::start();
        emulator.entra().configure(|config| (config.lifetime, config.refresh_in) = (lifetime, refresh_in));
        let mut session = session(&emulator, "");
        let first = token(&mut session, NOW);
        wait_for_no_fetch(&session);
        suspend(&mut session, quiet);
        assert_eq!(token(&mut session, NOW), first);
        assert_eq!(session.running().tasks().len(), 1, "{lifetime} {refresh_in:?}");
        assert_eq!(requests(&emulator), 1, "{lifetime} {refresh_in:?}");
        if begins == 0 {
            return;
        }
        suspend(&mut session, begins - quiet);
        let gate = gated(&emulator, Fault::none());
        for _ in 0..3 {
            tell_many(&mut session);
            assert_all_have(&answers(&mut session), &first);
            assert_eq!(token(&mut session, HERE), first);
        }
        gate.wait_for_arrivals(1);
        assert_eq!((requests(&emulator), fetches(&session)), (2, 1), "{lifetime} {refresh_in:?}");
        gate.open();
        wait_until("the new token", || token(&mut session, HERE) != first);
        wait_for_no_fetch(&session);
        assert_eq!(requests(&emulator), 2, "{lifetime} {refresh_in:?}");
    });
}

#[test]
fn a_callback_on_the_callers_threads_is_not_asked_behind_their_backs() {
    let emulator = &ground().emulator;
    let [first, second] = [(); 2].map(|()| {
        let token = emulator.entra().mint_with(&APP_ONE, |claims| {
            claims.insert("exp".into(), (crate::harness::unix_now() + 10_800).into());
        });
        format!("token 0 {token}")
    });
    // Half of its life is over: where there is no thread of ours, nobody is to wait for a newer one yet.
    for (settings, renewed_from) in [("", 10_600), ("callback_thread=any", 5500)] {
        let mut session = Driver::new().env("LD_PRELOAD", shim("clock")).session();
        let made = session.one(&["new_callback", settings, &first, &second]);
        assert_eq!(made.status(), "PGAAD_OK", "{made:?}");
        let old = token(&mut session, NOW);
        suspend(&mut session, 5500);
        assert_eq!(token(&mut session, NOW), old);
        if renewed_from > 5500 {
            assert_eq!(session.one(&["supplier"]).get("calls"), "1");
            suspend(&mut session, renewed_from - 5500);
        }
        wait_until("the new token", || token(&mut session, NOW) != old);
        assert_eq!(session.one(&["supplier"]).get("calls"), "2", "{settings}");
    }
}

#[test]
fn with_little_life_left_callers_wait_for_the_fetch_or_keep_what_they_have() {
    let rows = [("", 3400), ("refresh_before_minutes=10", 3100), ("refresh_before_minutes=1440", 1900)];
    each(&rows, |&(settings, seconds)| {
        let emulator = Emulator::start();
        let mut session = session(&emulator, settings);
        let first = token(&mut session, NOW);
        suspend(&mut session, seconds);
        // It fails: nobody is without, and the fetch was one for all.
        let gate = gated(&emulator, refused());
        tell_many(&mut session);
        gate.wait_for_arrivals(1);
        session.running().wait_for_sleepers(MANY + 1);
        gate.open();
        assert_all_have(&answers(&mut session), &first);
        assert_eq!(requests(&emulator), 2, "{settings}");
        // Nor does anybody wait in the pause that follows.
        tell_many(&mut session);
        assert_all_have(&answers(&mut session), &first);
        assert_eq!(requests(&emulator), 2, "{settings}");
        // It succeeds: all have the new one.
        suspend(&mut session, 10);
        let gate = gated(&emulator, Fault::none());
        tell_many(&mut session);
        gate.wait_for_arrivals(1);
        session.running().wait_for_sleepers(MANY + 1);
        gate.open();
        let lines = answers(&mut session);
        assert_ne!(lines[0].get("token"), first);
        assert_all_have(&lines, lines[0].get("token"));
        assert_eq!(requests(&emulator), 3, "{settings}");
    });
}

#[test]
fn an_outage_as_long_as_the_refresh_window_fails_nobody() {
    let emulator = Emulator::start();
    emulator.entra().configure(|config| config.refresh_in = Some(1800));
    let mut session = session(&emulator, "");
    let first = token(&mut session, NOW);
    emulator.entra().faults().always(refused());
    suspend(&mut session, 1790);
    // Up to ten seconds before its end.
    for _ in 0..60 {
        suspend(&mut session, 29);
        assert_eq!(token(&mut session, NOW), first);
        assert_eq!(token(&mut session, HERE), first);
        wait_for_no_fetch(&session);
    }
    emulator.entra().faults().clear();
    suspend(&mut session, 60);
    assert_ne!(token(&mut session, NOW), first);
}

#[test]
fn after_failures_the_pauses_grow() {
    // In the time for refreshes behind the callers' backs, and in the one where they would wait.
    let rows = [(Some(600), 595, refused()), (None, 3295, refused()), (Some(600), 595, Fault::html(200))];
    each(&rows, |(refresh_in, begin, fault)| {
        let emulator = Emulator::start();
        emulator.entra().configure(|config| config.refresh_in = *refresh_in);
        let mut session = session(&emulator, "");
        let first = token(&mut session, NOW);
        emulator.entra().faults().always(fault.clone());
        suspend(&mut session, *begin);
        // A call each second, and when it made a request.
        let mut at = Vec::new();
        for second in 0..280 {
            suspend(&mut session, 1);
            let before = requests(&emulator);
            assert_eq!(token(&mut session, NOW), first, "after {second} s");
            wait_for_no_fetch(&session);
            at.extend((requests(&emulator) > before).then_some(second));
            assert!(requests(&emulator) <= before + 1, "after {second} s");
        }
        let pauses: Vec<_> = at.windows(2).map(|two| two[1] - two[0]).collect();
        // Real time passes too, so they seem a little shorter.
        let grow = pauses.windows(2).all(|two| two[1] + 3 >= two[0]);
        assert!((6..=9).contains(&at.len()) && grow && pauses[0] <= 10, "requests after {at:?} s");
        assert!(pauses.last().is_some_and(|last| (50..=61).contains(last)), "requests after {at:?} s");
        // Once it works again, the next failure is as the first.
        emulator.entra().faults().clear();
        suspend(&mut session, 61);
        if token(&mut session, NOW) == first {
            wait_until("the new token", || token(&mut session, HERE) != first);
        }
        wait_for_no_fetch(&session);
        let second = token(&mut session, HERE);
        emulator.entra().faults().always(fault.clone());
        suspend(&mut session, begin + 10);
        let before = requests(&emulator);
        for _ in 0..2 {
            assert_eq!(token(&mut session, NOW), second);
            wait_for_no_fetch(&session);
            suspend(&mut session, 11);
        }
        assert_eq!(requests(&emulator), before + 2);
    });
}

#[test]
fn with_zero_minutes_a_token_is_used_until_it_ends() {
    let emulator = Emulator::start();
    emulator.entra().configure(|config| config.lifetime = 600);
    let mut session = session(&emulator, "refresh_before_minutes=0");
    let first = token(&mut session, NOW);
    emulator.entra().faults().always(refused());
    suspend(&mut session, 580);
    assert_eq!(token(&mut session, NOW), first);
    assert_eq!(requests(&emulator), 1, "nobody asks before its end");
    // A little before the end, for clocks differ, it is no use any more.
    suspend(&mut session, 18);
    assert_refused(&session.one(NOW), "PGAAD_DENIED", &["AADSTS7000215"]);
    assert_eq!(session.one(HERE).status(), "PGAAD_TIMEOUT");
    emulator.entra().faults().clear();
    suspend(&mut session, 6);
    assert_ne!(token(&mut session, NOW), first);
}

#[test]
fn those_who_wait_share_a_failure_and_the_request() {
    let rows = [
        ("refused", refused(), "PGAAD_DENIED"),
        ("later", Fault::status(429, "invalid_request", 90055).retry_after(3600), "PGAAD_THROTTLED"),
        ("no token answer", Fault::html(200), "PGAAD_PROTOCOL"),
    ];
    each(&rows, |(case, fault, status)| {
        let emulator = Emulator::start();
        let gate = gated(&emulator, fault.clone());
        let mut session = session(&emulator, "");
        tell_many(&mut session);
        gate.wait_for_arrivals(1);
        session.running().wait_for_sleepers(MANY + 1);
        gate.open();
        let lines = answers(&mut session);
        let same = lines.iter().all(|line| line.status() == *status && line.errmsg() == lines[0].errmsg());
        assert!(same, "{case}: {lines:?}");
        assert_eq!(requests(&emulator), 1, "{case}");
    });
}

#[test]
fn a_clock_that_jumps_does_no_harm() {
    let emulator = Emulator::start();
    let mut session = session(&emulator, "");
    let first = token(&mut session, NOW);
    // Back: it lives as long as it lives.
    session.ask(&["set_clock", "-1000000"]);
    assert_eq!(token(&mut session, NOW), first);
    suspend(&mut session, 3000);
    assert_eq!(token(&mut session, NOW), first);
    assert_eq!(requests(&emulator), 1);
    // Forward: by this clock it has ended, so another is tried for; without success it is handed out.
    session.ask(&["set_clock", "2000000"]);
    emulator.entra().faults().always(refused());
    for _ in 0..20 {
        assert_eq!(token(&mut session, NOW), first);
        assert_eq!(token(&mut session, HERE), first);
    }
    assert_eq!(requests(&emulator), 2, "tried, and then left alone for a while");
    emulator.entra().faults().clear();
    suspend(&mut session, 6);
    let second = token(&mut session, NOW);
    assert_ne!(second, first);
    // The new one lives as long as it lives, until this clock says that it has ended too.
    for seconds in ["1000", "-1001000", "-1000000", "1000000"] {
        session.ask(&["set_clock", seconds]);
        assert_eq!(token(&mut session, NOW), second, "{seconds}");
    }
    assert_eq!(requests(&emulator), 3);
    // And it ends when it ends, though the wall clock says it has just begun.
    session.ask(&["set_clock", "-80000"]);
    suspend(&mut session, 3400);
    assert_ne!(token(&mut session, NOW), second);
    assert_eq!(requests(&emulator), 4);
}

#[test]
fn a_machine_that_slept_does_not_wake_up_with_an_old_token() {
    let emulator = Emulator::start();
    for (settings, seconds) in [("", 3400), ("", 3600), ("refresh_before_minutes=0", 3600), ("", 1_000_000)] {
        let mut session = session(&emulator, settings);
        let first = token(&mut session, NOW);
        let before = requests(&emulator);
        suspend(&mut session, seconds);
        let second = token(&mut session, NOW);
        assert_ne!(second, first, "{settings} {seconds}");
        assert_eq!(token(&mut session, NOW), second);
        assert_eq!(requests(&emulator), before + 1, "{settings} {seconds}");
    }
    // Nor with one that was asked for before it fell asleep.
    let mut session = session(&emulator, "");
    let gate = gated(&emulator, Fault::none());
    session.ask(&[&["thread"], NOW].concat());
    gate.wait_for_arrivals(1);
    let before = requests(&emulator);
    suspend(&mut session, 4000);
    gate.open();
    let lines: Vec<_> = session.ask(&["join"]).into_iter().filter(|line| !line.status().is_empty()).collect();
    assert_eq!(lines[0].status(), "PGAAD_OK", "{lines:?}");
    assert_eq!(requests(&emulator), before + 1, "what was asked for before was handed out");
    assert_eq!(token(&mut session, NOW), lines[0].get("token"));
    assert_eq!(requests(&emulator), before + 1);
}

/// A proof in a file: how it is named, what is refused and what is good.
struct Proof {
    name: &'static str,
    refused: [Vec<u8>; 2],
    good: Vec<u8>,
    driver: fn(&Emulator, &Path) -> Driver,
    words: &'static str,
}

fn application(emulator: &Emulator) -> Driver {
    signed_in(emulator).without("PGAAD_CLIENT_SECRET")
}

fn proofs(emulator: &Emulator) -> [Proof; 3] {
    let pem = |name: &str| {
        let done = std::process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "-", "-days", "30", "-subj"])
            .arg(format!("/CN={name}"))
            .output()
            .expect("openssl");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    let good = pem("good");
    let mut to_der = std::process::Command::new("openssl");
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("good.pem");
    std::fs::write(&file, &good).expect("a file");
    let der = to_der.args(["x509", "-outform", "DER", "-in"]).arg(&file).output().expect("openssl").stdout;
    emulator.entra().register_certificate(&APP_ONE, &der);
    let federated = |subject: &str| emulator.entra().cluster().assertion(subject, 3600).into_bytes();
    [
        Proof {
            name: "client_secret_file",
            refused: [b"wrong".to_vec(), b"wrong too".to_vec()],
            good: APP_ONE.secret.into(),
            driver: |emulator, file| application(emulator).env("PGAAD_CLIENT_SECRET_FILE", file),
            words: "AADSTS7000215",
        },
        Proof {
            name: "client_certificate_path",
            refused: [pem("unknown"), pem("another")],
            good,
            driver: |emulator, file| application(emulator).env("PGAAD_CLIENT_CERTIFICATE_PATH", file),
            words: "AADSTS700027",
        },
        Proof {
            name: "federated_token_file",
            refused: ["system:serviceaccount:a:b", "system:serviceaccount:c:d"].map(federated),
            good: federated(CLUSTER_SUBJECT),
            driver: |emulator, file| {
                Driver::new()
                    .envs(emulator.workload_env(APP_ONE.client_id))
                    .env("AZURE_FEDERATED_TOKEN_FILE", file)
            },
            words: "AADSTS",
        },
    ]
}

#[test]
fn a_proof_that_changed_is_tried_at_once_and_the_same_one_not_for_five_seconds() {
    let emulator = Emulator::start();
    let proofs = proofs(&emulator);
    for proof in &proofs {
        let case = proof.name;
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("proof");
        std::fs::write(&file, &proof.refused[0]).expect("a file");
        let mut session = session_of((proof.driver)(&emulator, &file), "");
        let mut seen = requests(&emulator);
        let mut more = |n: usize, what: &str| {
            let before = std::mem::replace(&mut seen, requests(&emulator));
            assert_eq!(seen - before, n, "{case}, {what}");
        };
        let refusal =
            |line: &Line| line.status() == "PGAAD_DENIED" && in_order(line.errmsg(), &[proof.words]);

        assert!(refusal(&session.one(NOW)), "{case}");
        more(1, "the first call");
        tell_many(&mut session);
        assert!(answers(&mut session).iter().all(refusal), "{case}");
        // Written anew, but the same.
        std::fs::write(&file, &proof.refused[0]).expect("a file");
        assert!(refusal(&session.one(NOW)), "{case}");
        more(0, "unchanged");
        suspend(&mut session, 6);
        assert!(refusal(&session.one(NOW)), "{case}");
        more(1, "unchanged, five seconds later");
        // Another one, no better: however many ask, it is tried once.
        std::fs::write(&file, &proof.refused[1]).expect("a file");
        tell_many(&mut session);
        assert!(answers(&mut session).iter().all(refusal), "{case}");
        more(1, "changed");
        assert!(refusal(&session.one(NOW)), "{case}");
        more(0, "changed and refused");
        std::fs::write(&file, &proof.good).expect("a file");
        let first = token(&mut session, NOW);
        more(1, "the good one");
        // While a token lives, what is wrong with the file harms nobody; and then it is seen at once.
        std::fs::write(&file, &proof.refused[0]).expect("a file");
        suspend(&mut session, 3400);
        assert_eq!(token(&mut session, NOW), first, "{case}");
        more(1, "refused while the old one lives");
    }
}

#[test]
fn a_thread_is_there_for_as_long_as_it_fetches() {
    let emulator = Emulator::start();
    emulator.entra().configure(|config| config.refresh_in = Some(1800));
    let mut session = session(&emulator, "");
    let tasks = |session: &Session| session.running().tasks().len();
    assert_eq!(tasks(&session), 1, "before anything is asked for");
    assert_eq!(session.one(HERE).status(), "PGAAD_TIMEOUT");
    assert_eq!(tasks(&session), 1, "nothing to do");
    let first = token(&mut session, NOW);
    wait_for_no_fetch(&session);
    for _ in 0..10 {
        assert_eq!(token(&mut session, NOW), first);
    }
    assert_eq!(tasks(&session), 1, "nothing to do with a fresh token");
    let gate = gated(&emulator, Fault::none());
    suspend(&mut session, 1810);
    token(&mut session, NOW);
    gate.wait_for_arrivals(1);
    let ours: Vec<_> =
        session.running().tasks().into_iter().filter(|task| task.name.starts_with("pgaad")).collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
    // All signals but those that nobody can block (9, 19) and that the C library keeps (32, 33).
    assert_eq!(ours[0].blocked, "fffffffe7ffbfeff", "{ours:?}");
    gate.open();
    wait_until("one thread", || tasks(&session) == 1);
}

#[test]
fn a_refresh_behind_the_callers_holds_up_no_exit() {
    let emulator = Emulator::start();
    emulator.entra().configure(|config| config.refresh_in = Some(1800));
    let mut session = session(&emulator, "");
    token(&mut session, NOW);
    suspend(&mut session, 1810);
    let gate = gated(&emulator, Fault::none());
    token(&mut session, NOW);
    gate.wait_for_arrivals(1);
    assert_eq!(session.last(&["exit", "7"]).1, Some(7));
    assert_eq!(gate.arrivals(), 1);
    gate.open();
}

#[test]
fn a_child_begins_the_refresh_anew() {
    let emulator = Emulator::start();
    emulator.entra().configure(|config| config.refresh_in = Some(1800));
    let mut session = session(&emulator, "");
    let first = token(&mut session, NOW);
    suspend(&mut session, 1810);
    let gate = gated(&emulator, Fault::none());
    token(&mut session, NOW);
    gate.wait_for_arrivals(1);
    // The child has the living token too, and its own fetch: the parent's thread is not there.
    let lines = session.ask(&[&["fork"], NOW].concat());
    let child = lines.iter().find(|line| !line.status().is_empty()).expect("the child's answer");
    assert_eq!((child.status(), child.get("token")), ("PGAAD_OK", first.as_str()), "{lines:?}");
    assert!(lines.iter().any(|line| line.0 == "fork exit=0 signal=0"), "{lines:?}");
    // One that waits gets its own token, while the parent's fetch is still at the gate.
    suspend(&mut session, 1600);
    let lines = session.ask(&[&["fork"], NOW].concat());
    let child = lines.iter().find(|line| !line.status().is_empty()).expect("the child's answer");
    assert_eq!(child.status(), "PGAAD_OK", "{lines:?}");
    assert_ne!(child.get("token"), first);
    gate.open();
    wait_until("the parent's new token", || token(&mut session, HERE) != first);
    assert!(emulator.entra().wait_until(|counters| counters.requests >= 3, PATIENCE));
}

#[test]
fn who_was_refused_takes_the_token_that_another_process_got() {
    let emulator = Emulator::start();
    let later = || Fault::status(429, "invalid_request", 90055).retry_after(3600);
    for (fault, status) in [(refused(), "PGAAD_DENIED"), (later(), "PGAAD_THROTTLED")] {
        let dir = tempfile::tempdir().expect("a folder");
        let cache = format!("cache=file:{}", dir.path().join("tokens").display());
        let mut first = session(&emulator, &cache);
        emulator.entra().faults().next(fault);
        assert_eq!(first.one(NOW).status(), status);
        let before = requests(&emulator);
        // One that begins later asks for itself.
        let fetched = token(&mut session(&emulator, &cache), NOW);
        assert_eq!(requests(&emulator), before + 1);
        // The pause is for requests; what is there already is had at once, or very soon.
        wait_until("the other's token", || first.one(NOW).status() == "PGAAD_OK");
        assert_eq!(token(&mut first, NOW), fetched);
        assert_eq!(requests(&emulator), before + 1);
    }
}
