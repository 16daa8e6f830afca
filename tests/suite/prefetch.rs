//! Event loops: a token is fetched ahead, a descriptor says when, and nothing ever waits.

use emulator::{APP_ONE, Emulator, Fault, Gate};

use crate::harness::{Driver, Session, assert_refused, ground, signed_in, wait_until};

const HERE: &[&str] = &["client_get_token", "0"];

/// A session with one client, and the gate that its next fetch waits at.
fn at_gate(emulator: &Emulator, fault: Fault) -> (Session, Gate) {
    let gate = Gate::new();
    emulator.entra().faults().next(fault.at_gate(&gate));
    let mut session = signed_in(emulator).env("PGUSER", "app-one").env("PGPORT", "1").session();
    assert_eq!(session.one(&["new", ""]).status(), "PGAAD_OK");
    (session, gate)
}

fn prefetch(session: &mut Session) {
    let line = session.one(&["prefetch"]);
    assert_eq!((line.status(), line.get("fd"), line.errmsg()), ("PGAAD_OK", "yes", ""), "{line:?}");
}

fn is_readable(session: &mut Session) -> bool {
    session.one(&["readable"]).get("readable") == "yes"
}

fn descriptors(session: &Session) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", session.running().id())).expect("its descriptors").count()
}

/// On each thread of the driver's a descriptor that it can wait for in this way.
const WAYS: [&str; 5] = ["select", "poll", "epoll", "edge", "io_uring"];

#[test]
fn every_event_loop_hears_of_a_token_and_of_a_failure() {
    for (fault, status) in
        [(Fault::none(), "PGAAD_OK"), (Fault::status(401, "invalid_client", 7000215), "PGAAD_TIMEOUT")]
    {
        for way in WAYS {
            let emulator = Emulator::start();
            let (mut session, gate) = at_gate(&emulator, fault.clone());
            prefetch(&mut session);
            gate.wait_for_arrivals(1);
            assert!(!is_readable(&mut session));
            session.tell(&["await", way]);
            gate.open();
            let said = session.answer().pop().expect("a line");
            assert!(["yes", "unknown"].contains(&said.get("readable")), "{way}: {said:?}");
            wait_until("the descriptor", || is_readable(&mut session));
            // It stays so, also where somebody reads from it.
            assert_eq!(session.one(&["drain"]).get("bytes"), "8");
            assert!(is_readable(&mut session));
            assert_eq!(session.one(HERE).status(), status);
            assert_eq!(emulator.entra().counters().requests, 1);
        }
    }
}

#[test]
fn many_wait_for_one_fetch_and_each_closes_its_own() {
    let emulator = Emulator::start();
    let (mut session, gate) = at_gate(&emulator, Fault::none());
    let before = descriptors(&session);
    session.ask(&["client_get_token", "0"]);
    session.ask(&["thread", "client_get_token", "-1"]); // a call of another kind waits for the same
    gate.wait_for_arrivals(1);
    prefetch(&mut session);
    session.ask(&["close"]);
    for _ in 0..100 {
        prefetch(&mut session); // and closes the one before
        assert!(!is_readable(&mut session));
    }
    gate.open();
    assert_eq!(session.one(&["await", "poll"]).get("readable"), "yes");
    assert_eq!(session.one(&["join"]).status(), "PGAAD_OK");
    session.ask(&["close"]);
    wait_until("all threads to end", || session.running().tasks().len() == 1);
    assert_eq!(descriptors(&session), before);
    assert_eq!(emulator.entra().counters().requests, 1);
}

#[test]
fn with_a_token_at_hand_it_is_readable_at_once() {
    let emulator = Emulator::start();
    let (mut session, gate) = at_gate(&emulator, Fault::none());
    gate.open();
    assert_eq!(session.one(&["client_get_token", "-1"]).status(), "PGAAD_OK");
    prefetch(&mut session);
    assert!(is_readable(&mut session));
    assert_eq!(emulator.entra().counters().requests, 1);
}

#[test]
fn after_it_a_start_never_fetches_or_waits() {
    let ground = ground();
    let emulator = Emulator::start();
    let (mut session, gate) = at_gate(&emulator, Fault::none());
    let start = &["client_start", "host=localhost"];
    prefetch(&mut session);
    gate.wait_for_arrivals(1);
    let line = session.one(start);
    assert_refused(&line, "PGAAD_TIMEOUT", &["may not wait", "pgaad_client_prefetch"]);
    assert_eq!(line.get("conn"), "BAD");
    gate.open();
    session.ask(&["await", "poll"]);
    let line = session.one(start);
    assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "STARTED"), "{line:?}");

    // Without one held, and nothing under way: none is fetched.
    session.ask(&["invalidate"]);
    assert_refused(&session.one(start), "PGAAD_TIMEOUT", &["may not wait"]);
    // A failure is told until the next prefetch begins.
    emulator.entra().faults().next(Fault::status(401, "invalid_client", 7000215));
    prefetch(&mut session);
    session.ask(&["await", "poll"]);
    for _ in 0..2 {
        assert_refused(&session.one(start), "PGAAD_DENIED", &["AADSTS7000215"]);
    }
    assert_eq!(emulator.entra().counters().requests, 2);

    // Others wait as before.
    assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_OK");
    let line = session.one(&["client_connect", &format!("host=localhost port={}", ground.postgres.port())]);
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    assert_eq!(emulator.entra().counters().requests, 3);
}

#[test]
fn it_is_the_default_clients_too_and_outlives_its_renewal() {
    let emulator = Emulator::start();
    let (mut session, gate) = at_gate(&emulator, Fault::none());
    gate.open();
    session.ask(&["default"]);
    prefetch(&mut session);
    session.ask(&["await", "poll"]);
    assert_eq!(session.one(&["start", "host=localhost"]).get("conn"), "STARTED");
    assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_OK");
    assert_refused(&session.one(&["start", "host=localhost"]), "PGAAD_TIMEOUT", &["may not wait"]);
    // Another client has its own ways, also where the memory of a freed one is used again.
    for _ in 0..2 {
        session.ask(&["new", ""]);
        assert_eq!(session.one(&["client_start", "host=localhost"]).get("conn"), "STARTED");
        prefetch(&mut session);
        session.ask(&["free"]);
    }
}

#[test]
fn a_client_that_is_freed_meanwhile_still_makes_it_readable() {
    let emulator = Emulator::start();
    let (mut session, gate) = at_gate(&emulator, Fault::none());
    prefetch(&mut session);
    gate.wait_for_arrivals(1);
    session.ask(&["free"]);
    gate.open();
    assert_eq!(session.one(&["await", "poll"]).get("readable"), "yes");
}

#[test]
fn a_child_asks_for_itself() {
    let emulator = Emulator::start();
    let (mut session, gate) = at_gate(&emulator, Fault::none());
    prefetch(&mut session);
    gate.wait_for_arrivals(1);
    for command in [&["fork", "client_start", "host=localhost"][..], &["fork", "prefetch"]] {
        let lines = session.ask(command);
        assert_eq!(lines.last().expect("its end").0, "fork exit=0 signal=0", "{lines:?}");
        let said = if command[1] == "prefetch" { "PGAAD_OK" } else { "PGAAD_TIMEOUT" };
        assert_eq!(lines[0].status(), said, "{lines:?}");
    }
    gate.open();
    assert_eq!(session.one(&["await", "poll"]).get("readable"), "yes");
}

#[test]
fn a_callback_needs_leave_to_run_on_a_thread_of_ours() {
    let token = Emulator::start().entra().mint(&APP_ONE);
    let action = format!("token 0 {token}");
    let mut session = Driver::new().env("PGUSER", "app-one").env("PGPORT", "1").session();
    session.ask(&["new_callback", "", &action]);
    let line = session.one(&["prefetch"]);
    assert_refused(&line, "PGAAD_CONFIG", &["callback_thread=any"]);
    assert_eq!(line.get("fd"), "no");
    assert_eq!(
        session.one(&["client_start", "host=localhost"]).get("conn"),
        "STARTED",
        "it may fetch itself"
    );

    session.ask(&["new_callback", "callback_thread=any", &action]);
    prefetch(&mut session);
    session.ask(&["await", "poll"]);
    assert_eq!(session.one(HERE).status(), "PGAAD_OK");
}

#[test]
fn what_cannot_be_asked_for_is_refused_at_once() {
    let mut session = Driver::new().session();
    let line = session.one(&["prefetch"]);
    assert_refused(&line, "PGAAD_INVALID_ARGUMENT", &["client", "NULL"]);
    assert_eq!(line.get("fd"), "no");
    session.ask(&["new", "auth=off"]);
    assert_refused(&session.one(&["prefetch"]), "PGAAD_DISABLED", &["auth"]);
    session.ask(&["free"]);
}
