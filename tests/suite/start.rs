//! Connections that a program polls itself: as PQconnectStart, with a token.

use emulator::{APP_ONE, Emulator, Fault, Gate, LAPTOP_PASSWORD, LAPTOP_ROLE};

use crate::harness::{Driver, Line, Listener, Session, assert_refused, conninfo, ground, signed_in};

/// The four functions that start a connection, each with the arguments for the same conninfo.
pub fn four(conninfo: &str) -> [Vec<&str>; 4] {
    [
        vec!["start", conninfo],
        vec!["start_params", "1", "dbname", conninfo],
        vec!["client_start", conninfo],
        vec!["client_start_params", "1", "dbname", conninfo],
    ]
}

fn polled(session: &mut Session, command: &[&str]) -> Line {
    let line = session.one(command);
    assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "STARTED"), "{line:?}");
    session.one(&["poll"])
}

#[test]
fn each_function_signs_in_over_verified_tls_with_the_very_token() {
    let ground = ground();
    let mut session = ground.driver(&APP_ONE).session();
    let token = session.one(&["get_token"]).get("token").to_string();
    session.ask(&["default"]);
    for (done, command) in four("application_name=here").into_iter().enumerate() {
        let line = polled(&mut session, &command);
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "OK"), "{line:?}");
        let who = "select current_user || ' ' || ssl::text || ' ' || current_setting('application_name') \
                   from pg_stat_ssl where pid = pg_backend_pid()";
        assert_eq!(session.one(&["query", who]).get("value"), "app-one true here");
        let options = session.one(&["conninfo"]).options();
        assert_eq!((options["sslmode"].as_str(), &options["password"]), ("verify-full", &token));
        // To the byte: nothing stands behind it.
        assert_eq!(ground.uses_of(&token), vec![("app-one".to_string(), true); done + 1]);
    }
}

#[test]
fn with_a_token_at_hand_it_returns_though_the_server_says_nothing() {
    let emulator = Emulator::start();
    let database = Listener::start();
    let driver = signed_in(&emulator).env("PGPORT", database.port()).env("PGUSER", "app-one");
    let mut session = driver.session();
    session.ask(&["default"]);
    session.one(&["get_token"]);
    for command in four("host=127.0.0.1") {
        let line = session.one(&command);
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "STARTED"), "{line:?}");
        drop(database.accept());
        // Poll has nothing to poll any more, and says so in libpq's words.
        let line = session.one(&["poll"]);
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "BAD"), "{line:?}");
        assert!(!line.errmsg().contains("pgaad"), "{line:?}");
    }
    assert_eq!(emulator.entra().counters().requests, 1);
}

#[test]
fn without_a_token_it_waits_for_one_as_a_connect_does() {
    let emulator = Emulator::start();
    let database = Listener::start();
    let gate = Gate::new();
    emulator.entra().faults().next(Fault::gate(&gate));
    let driver = signed_in(&emulator).env("PGPORT", database.port()).env("PGUSER", "app-one");
    let mut session = driver.session();
    session.tell(&["start", "host=127.0.0.1"]);
    gate.wait_for_arrivals(1);
    assert!(!database.was_called(), "no host is called before there is a token");
    gate.open();
    let line = session.answer().pop().expect("a line");
    assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "STARTED"), "{line:?}");
}

#[test]
fn a_failure_of_ours_is_a_bad_connection_with_our_message() {
    let emulator = Emulator::start();
    let good = signed_in(&emulator);
    let wrong_secret = good.clone().env("PGAAD_CLIENT_SECRET", "wrong");
    for (driver, conninfo, status, part) in [
        (&wrong_secret, "host=localhost user=a", "PGAAD_DENIED", "AADSTS7000215"),
        (&good, "host=stranger.example user=a", "PGAAD_INSECURE", "stranger.example"),
        (&good, "host=localhost", "PGAAD_CONFIG", "PGUSER"),
    ] {
        let mut session = driver.session();
        session.ask(&["default"]);
        for command in four(conninfo) {
            for line in [session.one(&command), session.one(&["poll"])] {
                assert_eq!(line.get("conn"), "BAD", "{line:?}");
                assert_refused(&line, status, &[part]);
            }
        }
    }
}

#[test]
fn null_where_something_is_needed_is_a_bad_connection() {
    let mut session = Driver::new().session();
    let mut lines = session.ask(&["null_start_arrays"]); // of the client: there is none yet
    lines.extend(session.ask(&["client_start", "host=localhost"]));
    session.ask(&["default"]);
    lines.extend(session.ask(&["null_start_arrays"]));
    assert_eq!(lines.len(), 9);
    for line in lines {
        assert_refused(&line, "PGAAD_INVALID_ARGUMENT", &["NULL"]);
        assert_eq!(line.get("conn"), "BAD", "{line:?}");
    }
}

#[test]
fn what_libpq_refuses_is_refused_in_its_own_words() {
    let emulator = Emulator::start();
    let mut session = signed_in(&emulator).env("PGUSER", "app-one").session();
    for conninfo in ["host=localhost bogus=1", "host=localhost port=0", "localhost", "postgresql://[::1/"] {
        let libpqs = session.one(&["pq", conninfo]);
        let line = session.one(&["start", conninfo]);
        assert_eq!(
            (line.status(), line.get("conn"), line.errmsg()),
            ("PGAAD_OK", "BAD", libpqs.errmsg()),
            "{conninfo}"
        );
    }
}

#[test]
fn where_entra_is_off_libpq_starts_as_ever() {
    let ground = ground();
    let laptop = conninfo(&[("user", LAPTOP_ROLE), ("password", LAPTOP_PASSWORD)]);
    let mut session = ground.driver(&APP_ONE).session();
    session.ask(&["default"]);
    for command in four(&laptop) {
        let line = polled(&mut session, &command);
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "OK"), "{line:?}");
        assert_eq!(session.one(&["conninfo"]).options()["password"], LAPTOP_PASSWORD);
    }
}
