//! A server 18 that asks for OAUTHBEARER, with the libpqs that can answer it; and that the others say that they can't.

use emulator::{APP_ONE, APP_TWO, Emulator, Fault, Gate, Libpq, PASSWORDS, Postgres};

use crate::harness::{
    Driver, Line, Pairs, Session, assert_refused, conninfo, each, ground, postgres_18, signed_in,
};
use crate::start;

const WHO: &str = "select system_user || ' ' || ssl::text from pg_stat_ssl where pid = pg_backend_pid()";
const SIGNED_IN: &str = "oauth:app-one true";

/// Those that have a hook.
fn each_libpq(check: impl Fn(&Libpq) + Sync) {
    let mut all = Libpq::all();
    all.retain(|libpq| libpq.version >= 18);
    assert!(!all.is_empty());
    each(&all, check);
}

/// A session that has called `pgaad_use_oauth`.
fn hooked(driver: &Driver, libpq: &Libpq) -> Session {
    let mut session = driver.clone().with_libpq(libpq).session();
    let line = session.one(&["use_oauth"]);
    assert_eq!((line.status(), line.errmsg()), ("PGAAD_OK", ""), "libpq {}: {line:?}", libpq.version);
    session.ask(&["default"]);
    session
}

fn driver(emulator: &Emulator, server: &Postgres) -> Driver {
    signed_in(emulator).envs(server.env(APP_ONE.role))
}

fn shared() -> Driver {
    driver(&ground().emulator, postgres_18())
}

fn who(session: &mut Session) -> String {
    session.one(&["query", WHO]).get("value").to_string()
}

#[track_caller]
fn assert_in(session: &mut Session, line: &Line) {
    assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "OK"), "{line:?}");
    assert_eq!(who(session), SIGNED_IN);
}

#[test]
fn each_function_signs_in_over_verified_tls() {
    each_libpq(|libpq| {
        let mut session = hooked(&shared(), libpq);
        for command in [
            &["connect", ""][..],
            &["params", "0"],
            &["client_connect", "postgresql://localhost/postgres"],
            &["client_params", "1", "dbname", "user=app-one"],
        ] {
            let line = session.one(command);
            assert_in(&mut session, &line);
            let options = session.one(&["conninfo"]).options();
            assert_eq!(options["sslmode"], "verify-full");
            assert_eq!(Some(options["oauth_issuer"].as_str()), postgres_18().issuer());
            assert_eq!(options["oauth_client_id"], APP_ONE.client_id);
        }
        for command in start::four("") {
            let line = session.one(&command);
            assert_eq!(line.get("conn"), "STARTED", "{line:?}");
            let line = session.one(&["poll"]);
            assert_in(&mut session, &line);
        }
        assert_eq!(session.one(&["connstring", ""]).status(), "PGAAD_OK");
        let line = session.one(&["pq", "@CONNSTRING"]);
        assert_in(&mut session, &line);
    });
}

#[test]
fn the_same_program_serves_a_server_that_asks_for_a_password() {
    // Of an emulator of its own, so that the token that the role has for a password stays the last.
    let emulator = Emulator::start();
    let server = Postgres::start_18(&emulator);
    each_libpq(|libpq| {
        let mut session = hooked(&driver(&emulator, &server), libpq);
        let line = session.one(&["connect", ""]);
        assert_in(&mut session, &line);
    });
    let mut all = Libpq::all();
    all.retain(|libpq| libpq.version >= 18);
    for libpq in all {
        let mut session = hooked(&driver(&emulator, &server), &libpq);
        let token = session.one(&["get_token"]).get("token").to_string();
        server.set_password(APP_ONE.role, &token).expect("an answer");
        for command in ["connect", "start"] {
            session.ask(&[command, &format!("dbname={PASSWORDS}")]);
            let line = session.one(&["poll"]);
            assert_eq!(line.get("conn"), "OK", "{line:?}");
        }
    }
}

#[test]
fn an_older_libpq_is_refused_by_its_version() {
    let mut older = Libpq::all();
    older.retain(|libpq| libpq.version < 18);
    assert!(!older.is_empty());
    for libpq in older {
        let line = shared().with_libpq(&libpq).one(&["use_oauth"]);
        assert_refused(&line, "PGAAD_LIBPQ", &[&format!("version {}.", libpq.version), "18 or later"]);
    }
}

#[test]
fn without_it_libpq_is_left_alone() {
    each_libpq(|libpq| {
        let mut session = shared().with_libpq(libpq).session();
        let line = session.one(&["connect", ""]);
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "BAD"), "{line:?}");
        assert!(!session.one(&["conninfo"]).options().contains_key("oauth_issuer"));
    });
}

#[test]
fn hosts_and_ways_that_get_no_token_get_none_by_oauth() {
    each_libpq(|libpq| {
        let mut session = hooked(&shared(), libpq);
        for (conninfo, part) in
            [("host=stranger.example", "stranger.example"), ("sslmode=disable", "sslmode")]
        {
            for command in ["connect", "start"] {
                assert_refused(&session.one(&[command, conninfo]), "PGAAD_INSECURE", &[part]);
            }
        }
        // Nor does it go to a connection that is not ours, and be it one that sends a token of ours as its password,
        // unless that demands what ours do.
        let token = session.one(&["get_token"]).get("token").to_string();
        for (password, sslmode, is_in) in
            [("", "verify-full", false), (&token, "require", false), (&token, "verify-full", true)]
        {
            let line = session.one(&["pq", &theirs(&[("password", password), ("sslmode", sslmode)])]);
            assert_eq!(line.get("conn") == "OK", is_in, "{sslmode}: {line:?}");
        }
    });
}

/// A connection of somebody else's that can do OAuth.
fn theirs(more: Pairs<'_>) -> String {
    let issuer = postgres_18().issuer().expect("one");
    conninfo(&[&[("oauth_issuer", issuer), ("oauth_client_id", "somebody")], more].concat())
}

#[test]
fn the_hook_of_others_gets_what_is_not_ours() {
    each_libpq(|libpq| {
        let mut session = shared().with_libpq(libpq).session();
        session.ask(&["their_hook", &ground().emulator.entra().mint(&APP_ONE)]);
        for _ in 0..2 {
            assert_eq!(session.one(&["use_oauth"]).status(), "PGAAD_OK", "once and again");
        }
        let ours = session.one(&["connect", ""]);
        assert_in(&mut session, &ours);
        assert_eq!(session.one(&["their_calls"]).word(), "0");
        let line = session.one(&["pq", &theirs(&[("sslmode", "verify-full")])]);
        assert_in(&mut session, &line);
        assert_ne!(session.one(&["their_calls"]).word(), "0");
    });
}

#[test]
fn what_the_caller_says_of_oauth_stays() {
    each_libpq(|libpq| {
        let mut session = hooked(&shared(), libpq);
        let line = session.one(&["connect", "oauth_client_id=mine"]);
        assert_in(&mut session, &line);
        assert_eq!(session.one(&["conninfo"]).options()["oauth_client_id"], "mine");
        // Not whom the server trusts: libpq says so.
        let line = session.one(&["connect", "oauth_issuer=https://issuer.example/v2.0"]);
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "BAD"), "{line:?}");
        assert!(line.errmsg().contains("issuer.example"), "{line:?}");
    });
}

#[test]
fn a_reset_brings_a_fresh_token_by_oauth_too() {
    each_libpq(|libpq| {
        let emulator = Emulator::start();
        let server = Postgres::start_18(&emulator);
        let mut session = hooked(&driver(&emulator, &server), libpq);
        session.ask(&["connect", ""]);
        for command in ["reset", "client_reset", "pq_reset"] {
            server.revoke_all();
            assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_OK");
            let line = session.one(&[command]);
            assert_in(&mut session, &line);
        }
    });
}

/// A started connection whose token ends before it is polled.
fn ended(emulator: &Emulator, server: &Postgres, libpq: &Libpq) -> Session {
    let mut session = hooked(&driver(emulator, server), libpq);
    session.ask(&["client_start", ""]);
    assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_OK");
    session
}

#[test]
fn a_token_that_is_not_there_is_waited_for_without_blocking() {
    each_libpq(|libpq| {
        let emulator = Emulator::start();
        let server = Postgres::start_18(&emulator);
        let mut session = ended(&emulator, &server, libpq);
        let gate = Gate::new();
        emulator.entra().faults().next(Fault::gate(&gate));
        // One turn after the other, until libpq waits for our descriptor: no turn lasts as long as the fetch.
        session.tell(&["poll_while_waiting"]);
        gate.wait_for_arrivals(1);
        let line = session.answer().pop().expect("a line");
        assert_eq!(line.get("conn"), "STARTED", "{line:?}");
        gate.open();
        let line = session.one(&["poll"]);
        assert_in(&mut session, &line);
    });
}

#[test]
fn a_failure_on_the_way_ends_the_connection() {
    each_libpq(|libpq| {
        let emulator = Emulator::start();
        let server = Postgres::start_18(&emulator);
        let mut session = ended(&emulator, &server, libpq);
        emulator.entra().faults().always(Fault::status(401, "invalid_client", 7000215));
        let line = session.one(&["poll"]);
        assert_eq!(line.get("conn"), "BAD", "{line:?}");
        assert!(line.errmsg().contains("OAuth flow failed"), "{line:?}");
        // Only 19 has a place for our words.
        assert_eq!(line.errmsg().contains("AADSTS7000215"), libpq.version >= 19, "{line:?}");
        assert_eq!(server.binds().len(), 0);
    });
}

#[test]
fn a_plain_reset_gets_the_token_of_who_opened_it() {
    each_libpq(|libpq| {
        let mut session = hooked(&shared(), libpq);
        let line = session.one(&["connect", ""]);
        assert_in(&mut session, &line);
        session.ask(&["setenv", "PGAAD_CLIENT_ID", APP_TWO.client_id]);
        session.ask(&["setenv", "PGAAD_CLIENT_SECRET", &ground().emulator.entra().secret(&APP_TWO)]);
        assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_OK");
        // The default client is somebody else now.
        let line = session.one(&["pq_reset"]);
        assert_in(&mut session, &line);
    });
}
