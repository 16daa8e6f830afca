//! Connections anew with a fresh token, where PQreset would send one that has expired.

use emulator::{APP_ONE, APP_TWO, Emulator, Fault, Gate, LAPTOP_PASSWORD, LAPTOP_ROLE, Libpq, Postgres};

use crate::harness::{
    Driver, Line, Listener, Session, assert_refused, conninfo, ground, shim, signed_in, wait_until,
};

const WHO: &str = "select current_user || ' ' || ssl::text || ' ' || current_setting('application_name') \
                   from pg_stat_ssl where pid = pg_backend_pid()";

struct Place {
    emulator: Emulator,
    postgres: Postgres,
}

impl Place {
    fn start() -> Self {
        let emulator = Emulator::start();
        let postgres = Postgres::start(&emulator);
        Self { emulator, postgres }
    }

    fn driver(&self) -> Driver {
        signed_in(&self.emulator).envs(self.postgres.env(APP_ONE.role))
    }

    /// One that means the default client by "the client".
    fn session(&self) -> Session {
        session_of(self.driver())
    }

    /// Makes a session's token useless, as time would: the next is another.
    fn expire(&self, session: &mut Session) {
        self.postgres.revoke_all();
        assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_OK");
    }
}

fn session_of(driver: Driver) -> Session {
    let mut session = driver.session();
    session.ask(&["default"]);
    session
}

/// Settings of the second application.
fn settings_of_two(emulator: &Emulator) -> String {
    conninfo(&[
        ("tenant_id", APP_TWO.tenant.id),
        ("client_id", APP_TWO.client_id),
        ("client_secret", &emulator.entra().secret(&APP_TWO)),
    ])
}

/// What the call said, and what the connection then is.
#[track_caller]
fn reset(session: &mut Session, command: &str) -> (Line, Line) {
    let lines = session.ask(&[command]);
    let [call, conn] = lines.as_slice() else { panic!("{lines:?}") };
    (call.clone(), conn.clone())
}

/// It worked; whether it is the same connection.
#[track_caller]
fn reset_well(session: &mut Session, command: &str) -> bool {
    let (call, conn) = reset(session, command);
    assert_eq!((call.status(), call.errmsg()), ("PGAAD_OK", ""), "{call:?}");
    assert_eq!((conn.status(), conn.get("conn")), ("PGAAD_OK", "OK"), "{conn:?}");
    call.get("same") == "1"
}

fn who(session: &mut Session) -> String {
    session.one(&["query", WHO]).get("value").to_string()
}

fn backend(session: &mut Session) -> String {
    session.one(&["query", "select pg_backend_pid()"]).get("value").to_string()
}

#[test]
fn a_reset_brings_a_fresh_token_where_pqreset_sends_the_old_one() {
    let place = Place::start();
    let mut session = place.session();
    for open in ["connect", "start", "client_connect", "client_start"] {
        session.one(&[open, "application_name=mine"]);
        session.ask(&["poll"]);
        assert_eq!(who(&mut session), "app-one true mine", "{open}");
        for command in ["reset", "client_reset"] {
            let before = backend(&mut session);
            place.expire(&mut session);
            let line = session.one(&["pq_reset"]);
            assert_eq!(line.get("conn"), "BAD", "what this is for: {line:?}");
            reset_well(&mut session, command);
            assert_eq!(who(&mut session), "app-one true mine", "{open}");
            assert_ne!(backend(&mut session), before);
            let token = session.one(&["get_token"]).get("token").to_string();
            assert_eq!(session.one(&["conninfo"]).options()["password"], token);
        }
    }
}

#[test]
fn it_is_the_same_connection_where_the_token_fits() {
    let place = Place::start();
    let sized = |bytes| place.emulator.entra().faults().next(Fault::token_size(bytes));
    let mut session = place.session();
    for (open, first, next, same) in [
        // There is room for any.
        ("start", 2000, 4000, true),
        ("start", 4000, 2000, true),
        ("start", 2000, 17_000, false),
        // There is as much as the first took.
        ("connect", 4000, 2000, true),
        ("connect", 4000, 4000, true),
        ("connect", 2000, 2100, false),
    ] {
        sized(first);
        session.ask(&["invalidate"]);
        session.one(&[open, ""]);
        session.ask(&["poll"]);
        sized(next);
        place.expire(&mut session);
        assert_eq!(reset_well(&mut session, "reset"), same, "{open} {first} {next}");
        let held = session.one(&["conninfo"]).options()["password"].len();
        assert_eq!(held, next, "{open} {first} {next}");
        // And again, now that it stands there.
        place.expire(&mut session);
        reset_well(&mut session, "reset");
    }
}

#[test]
fn options_stay_what_they_were_wherever_they_came_from() {
    let place = Place::start();
    let folder = tempfile::tempdir().expect("a folder");
    let services = folder.path().join("services");
    std::fs::write(&services, "[mine]\noptions=-c search_path=a,b\n").expect("a file");
    let driver = place.driver().env("PGSERVICEFILE", &services).env("PGAPPNAME", "mine");
    let elsewhere = Listener::start();
    // In the same place, and in a new connection.
    for longer in [0, 100] {
        place.emulator.entra().faults().next(Fault::token_size(3000));
        let mut session = session_of(driver.clone());
        session.ask(&["params", "0", "service", "mine", "client_encoding", "LATIN1"]);
        let all = session.one(&["conninfo"]).options();
        for (name, value) in [
            ("PGHOSTADDR", "127.0.0.2"),
            ("PGHOST", "stranger.example"),
            ("PGPORT", &elsewhere.port()),
            ("PGUSER", "somebody"),
            ("PGSSLMODE", "disable"),
            ("PGAPPNAME", "other"),
            ("PGOPTIONS", "-c search_path=c"),
            ("PGCONNECT_TIMEOUT", "77"),
            ("PGCLIENTENCODING", "UTF8"),
            ("PGPASSWORD", "nonsense"),
            ("PGCHANNELBINDING", "require"),
            ("PGREQUIREPEER", "nobody"),
            ("PGTARGETSESSIONATTRS", "standby"),
        ] {
            session.ask(&["setenv", name, value]);
        }
        std::fs::write(&services, "[mine]\noptions=-c search_path=d\nport=1\n").expect("a file");
        place.emulator.entra().faults().next(Fault::token_size(3000 + longer));
        place.expire(&mut session);
        assert_eq!(reset_well(&mut session, "reset"), longer == 0);
        assert_eq!(who(&mut session), "app-one true mine");
        assert_eq!(session.one(&["query", "show search_path"]).get("value"), "a,b");
        let mut now = session.one(&["conninfo"]).options();
        // None is as good as an empty one.
        now.retain(|keyword, value| all.contains_key(keyword) || !(value.is_empty() || value == "0"));
        let but_password = |mut options: crate::harness::Options| {
            options.remove("password");
            options
        };
        assert_eq!(but_password(now), but_password(all));
        std::fs::write(&services, "[mine]\noptions=-c search_path=a,b\n").expect("a file");
    }
    assert!(!elsewhere.was_called());
}

#[test]
fn the_old_connection_is_never_lost_for_want_of_a_token() {
    let place = Place::start();
    let mut session = place.session();
    session.ask(&["connect", ""]);
    let before = backend(&mut session);
    place.expire(&mut session);
    place.emulator.entra().faults().next(Fault::status(401, "invalid_client", 7000215));
    let (call, conn) = reset(&mut session, "reset");
    assert_refused(&call, "PGAAD_DENIED", &["AADSTS7000215"]);
    assert_eq!((call.get("same"), conn.get("conn")), ("1", "OK"));
    assert_eq!(backend(&mut session), before, "it is open as ever");
}

#[test]
fn one_that_we_failed_to_open_is_opened_anew() {
    let place = Place::start();
    let mut session = place.driver().env("PGAAD_CLOUD", "mars").session();
    // Before there was a client.
    for (open, wrong, right) in [
        (&["connect", "application_name=mine"][..], ["setenv", "PGAAD_CLOUD", "mars"], "public"),
        (&["start", "application_name=mine"], ["setenv", "PGAAD_CLOUD", "mars"], "public"),
        (
            &["params", "0", "application_name", "mine", "user", "@NULL"],
            ["setenv", "PGAAD_CLOUD", "x"],
            "public",
        ),
    ] {
        session.ask(&wrong);
        session.ask(&["invalidate"]);
        let line = session.one(open);
        assert_refused(&line, "PGAAD_CONFIG", &["PGAAD_CLOUD"]);
        let (call, conn) = reset(&mut session, "reset");
        assert_refused(&call, "PGAAD_CONFIG", &["PGAAD_CLOUD"]);
        assert_refused(&conn, "PGAAD_CONFIG", &["PGAAD_CLOUD"]);
        session.ask(&["setenv", "PGAAD_CLOUD", right]);
        reset_well(&mut session, "reset");
        assert_eq!(who(&mut session), "app-one true mine");
        // Now it is one like any other.
        place.postgres.revoke_all();
        session.ask(&["default"]);
        session.ask(&["invalidate"]);
        reset_well(&mut session, "reset");
    }
    // For want of a token.
    session.ask(&["invalidate"]);
    place.emulator.entra().faults().next(Fault::status(401, "invalid_client", 7000215));
    assert_refused(&session.one(&["client_connect", "application_name=mine"]), "PGAAD_DENIED", &[]);
    session.ask(&["invalidate"]);
    reset_well(&mut session, "reset");
    assert_eq!(who(&mut session), "app-one true mine");
}

#[test]
fn a_server_that_was_down_is_called_again() {
    let place = Place::start();
    let mut session = place.session();
    let port = place.postgres.port().to_string();
    session.ask(&["setenv", "PGPORT", "1"]);
    assert_eq!(session.one(&["connect", ""]).get("conn"), "BAD");
    session.ask(&["setenv", "PGPORT", &port]);
    let (call, conn) = reset(&mut session, "reset");
    assert_eq!((call.status(), conn.get("conn")), ("PGAAD_OK", "BAD"), "it was tried where it was: {conn:?}");
    assert!(conn.errmsg().contains("refused") && !conn.errmsg().contains("pgaad"), "{conn:?}");
}

#[test]
fn it_is_the_identity_that_opened_it_unless_a_client_is_named() {
    let place = Place::start();
    let mut session = place.session();
    session.ask(&["new", &settings_of_two(&place.emulator)]);
    assert_eq!(session.one(&["client_connect", "user=app-two"]).get("conn"), "OK");
    place.expire(&mut session);
    session.ask(&["use", "1"]);
    session.ask(&["default"]);
    reset_well(&mut session, "reset");
    assert!(who(&mut session).starts_with("app-two "));
    // By another client: its token, for the same user, who is not it.
    let (call, conn) = reset(&mut session, "client_reset");
    assert_eq!((call.status(), conn.get("conn")), ("PGAAD_OK", "BAD"), "{conn:?}");
    // And by its own again.
    session.ask(&["use", "0"]);
    reset_well(&mut session, "client_reset");

    session.ask(&["free"]);
    let before = backend(&mut session);
    // Also where its memory is another client's by now.
    for remade in [false, true] {
        if remade {
            session.ask(&["new", ""]);
        }
        let (call, conn) = reset(&mut session, "reset");
        assert_refused(&call, "PGAAD_INVALID_ARGUMENT", &["pgaad_client_free"]);
        assert_eq!((call.get("same"), conn.get("conn")), ("1", "OK"));
        assert_eq!(backend(&mut session), before);
    }
}

#[test]
fn one_without_entra_is_reset_as_ever() {
    let ground = ground();
    let laptop = conninfo(&[("user", LAPTOP_ROLE), ("password", LAPTOP_PASSWORD)]);
    let mut session = ground.driver(&APP_ONE).session();
    session.ask(&["default"]);
    for open in ["connect", "pq", "start"] {
        session.ask(&[open, &laptop]);
        session.ask(&["poll"]);
        for command in ["reset", "client_reset"] {
            let before = backend(&mut session);
            assert!(reset_well(&mut session, command), "{open}");
            assert_eq!(who(&mut session), "laptop true ");
            assert_ne!(backend(&mut session), before);
        }
    }
    // What libpq could not read, it cannot reset.
    session.ask(&["connect", "bogus=1"]);
    let (call, conn) = reset(&mut session, "reset");
    assert_eq!((call.status(), call.get("same"), conn.get("conn")), ("PGAAD_OK", "1", "BAD"));
}

#[test]
fn one_of_a_connstring_is_signed_in_anew_by_a_client() {
    let place = Place::start();
    let mut session = place.session();
    session.ask(&["connstring", "application_name=mine"]);
    assert_eq!(session.one(&["pq", "@CONNSTRING"]).get("conn"), "OK");
    place.expire(&mut session);
    reset_well(&mut session, "client_reset");
    assert_eq!(who(&mut session), "app-one true mine");
}

#[test]
fn host_and_tls_are_judged_anew() {
    let place = Place::start();
    let mut session = place.session();
    session.ask(&["connect", ""]);
    let before = backend(&mut session);
    // This client may not send its token to that server.
    session.ask(&["new", "auth=off"]);
    let (call, _) = reset(&mut session, "client_reset");
    assert_refused(&call, "PGAAD_DISABLED", &["auth"]);
    assert_eq!(backend(&mut session), before);

    // What may go out without TLS for one client may not for another.
    let socket = place.postgres.socket_dir().display().to_string();
    session.ask(&["new", &conninfo(&[("allow_plaintext", &socket)])]);
    let line = session.one(&["client_connect", &conninfo(&[("host", &socket)])]);
    assert_eq!(line.get("conn"), "OK", "{line:?}");
    session.ask(&["use", "1"]);
    session.ask(&["default"]);
    let (call, conn) = reset(&mut session, "client_reset");
    assert_refused(&call, "PGAAD_INSECURE", &["allow_plaintext"]);
    assert_eq!(conn.get("conn"), "OK");
    reset_well(&mut session, "reset");
}

#[test]
fn a_refused_token_is_replaced_here_too() {
    let place = Place::start();
    let mut session = place.session();
    session.ask(&["connect", ""]);
    place.postgres.revoke_all();
    let before = place.postgres.binds().len();
    reset_well(&mut session, "reset");
    let logins: Vec<_> = place.postgres.binds()[before..].iter().map(|bind| bind.ok()).collect();
    assert_eq!((logins, place.emulator.entra().counters().requests), (vec![false, true], 2));
}

#[test]
fn while_it_waits_for_a_token_the_old_connection_is_open() {
    let place = Place::start();
    let mut session = place.session();
    session.ask(&["connect", ""]);
    place.expire(&mut session);
    let gate = Gate::new();
    place.emulator.entra().faults().next(Fault::gate(&gate));
    session.tell(&["reset"]);
    gate.wait_for_arrivals(1);
    let open = "select count(*) from pg_stat_activity where usename = 'app-one'";
    assert_eq!(place.postgres.psql(open).expect("an answer").trim(), "1");
    gate.open();
    assert_eq!(session.answer()[1].get("conn"), "OK");
    wait_until("the old one to end", || place.postgres.psql(open).expect("an answer").trim() == "1");
}

#[test]
fn nothing_is_no_connection() {
    let mut session = Driver::new().session();
    session.ask(&["default"]);
    for command in ["reset", "client_reset"] {
        let lines = session.ask(&[command]);
        assert_refused(&lines[0], "PGAAD_INVALID_ARGUMENT", &["conn", "NULL"]);
    }
    session.ask(&["null_arrays"]);
    let (call, conn) = reset(&mut session, "reset");
    assert_refused(&call, "PGAAD_INVALID_ARGUMENT", &["Connect again"]);
    assert_eq!(conn.get("conn"), "BAD");
}

#[test]
fn one_of_no_client_is_opened_by_another() {
    let place = Place::start();
    let mut session = place.session();
    session.ask(&["use", "1"]); // there is none
    assert_refused(&session.one(&["client_connect", "application_name=mine"]), "PGAAD_INVALID_ARGUMENT", &[]);
    let (call, _) = reset(&mut session, "reset");
    assert_refused(&call, "PGAAD_INVALID_ARGUMENT", &["Connect again"]);
    session.ask(&["use", "0"]);
    reset_well(&mut session, "client_reset");
    assert_eq!(who(&mut session), "app-one true mine");
}

#[test]
fn an_hour_later() {
    let place = Place::start();
    let mut session = place.driver().env("LD_PRELOAD", shim("clock")).session();
    session.ask(&["connect", ""]);
    let first = session.one(&["conninfo"]).options()["password"].clone();
    session.ask(&["suspend", "3600"]);
    place.postgres.revoke_all();
    reset_well(&mut session, "reset");
    assert_ne!(session.one(&["conninfo"]).options()["password"], first);
    assert_eq!(place.emulator.entra().counters().requests, 2);
}

#[test]
fn one_that_is_still_on_its_way_begins_anew() {
    let place = Place::start();
    let mut session = place.session();
    assert_eq!(session.one(&["start", "application_name=mine"]).get("conn"), "STARTED");
    place.expire(&mut session);
    assert!(reset_well(&mut session, "reset"));
    assert_eq!(who(&mut session), "app-one true mine");
}

#[test]
fn with_every_libpq() {
    let place = Place::start();
    let mut all = Libpq::all();
    all.sort_by_key(|libpq| libpq.version);
    for libpq in all {
        let mut session = session_of(place.driver().with_libpq(&libpq));
        for open in ["connect", "start"] {
            session.one(&[open, "application_name=mine"]);
            session.ask(&["poll"]);
            for (size, same) in [(1500, true), (4000, open == "start"), (17_000, false), (2000, true)] {
                place.emulator.entra().faults().next(Fault::token_size(size));
                place.expire(&mut session);
                assert_eq!(reset_well(&mut session, "reset"), same, "libpq {}: {open} {size}", libpq.version);
                assert_eq!(who(&mut session), "app-one true mine");
                assert_eq!(session.one(&["conninfo"]).options()["password"].len(), size);
            }
        }
        // The server is asked once more.
        session.ask(&["connect", ""]);
        place.postgres.revoke_all();
        assert_eq!(session.one(&["connect", ""]).get("conn"), "OK", "libpq {}", libpq.version);
    }
}

/// A connection under the first token, and one that is longer: it fits in no place of the old one.
fn with_a_longer_token_next(place: &Place, driver: Driver) -> Session {
    place.emulator.entra().faults().next(Fault::token_size(3000));
    let mut session = session_of(driver);
    let line = session.ask(&["connect", ""]).pop().expect("a line");
    assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "OK"), "{line:?}");
    place.emulator.entra().faults().next(Fault::token_size(3100));
    place.expire(&mut session);
    session
}

#[test]
fn a_service_that_says_something_else_now_has_no_part_in_it() {
    let place = Place::start();
    let folder = tempfile::tempdir().expect("a folder");
    let services = folder.path().join("services");
    let other = "[other]\noptions=-c search_path=elsewhere\n";
    std::fs::write(&services, format!("[mine]\napplication_name=mine\n{other}")).expect("a file");
    for (service, is_the_same) in [("mine", true), ("other", false), ("nosuch", false)] {
        let driver = place.driver().env("PGSERVICEFILE", &services).env("PGSERVICE", "mine");
        let mut session = with_a_longer_token_next(&place, driver);
        session.ask(&["setenv", "PGSERVICE", service]);
        if is_the_same {
            assert!(!reset_well(&mut session, "reset"));
        } else {
            let (call, _) = reset(&mut session, "reset");
            assert_refused(&call, "PGAAD_CONFIG", &["PGSERVICE"]);
        }
        // What was there is there.
        let names = "select current_setting('application_name') || current_setting('search_path')";
        assert_eq!(session.one(&["query", names]).get("value"), "mine\"$user\", public", "{service}");
    }
}

#[test]
fn a_role_that_may_connect_once_is_reset_too() {
    let place = Place::start();
    place.postgres.psql("alter role \"app-one\" connection limit 1").expect("altered");
    let mut session = with_a_longer_token_next(&place, place.driver());
    assert!(!reset_well(&mut session, "reset"));
}

#[test]
fn who_opened_it_resets_it_whoever_the_environment_names_now() {
    let place = Place::start();
    let mut session = place.session();
    session.ask(&["connect", "user=app-one"]);
    session.ask(&["setenv", "PGAAD_CLIENT_ID", APP_TWO.client_id]);
    session.ask(&["setenv", "PGAAD_CLIENT_SECRET", &place.emulator.entra().secret(&APP_TWO)]);
    session.ask(&["default"]);
    assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_OK");
    for _ in 0..2 {
        reset_well(&mut session, "reset");
        assert_eq!(session.one(&["query", "select current_user"]).get("value"), "app-one");
    }
    // Who connects now is the other one.
    session.ask(&["connect", "user=app-two"]);
    assert_eq!(session.one(&["query", "select current_user"]).get("value"), "app-two");
}
