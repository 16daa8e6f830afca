//! A server that refuses a token which was not fetched for the call is asked once more, with another.

use emulator::{APP_ONE, APP_TWO, Emulator, Fault, Postgres};

use crate::harness::{Driver, Line, Session, shim, signed_in};

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
        signed_in(&self.emulator).envs(self.postgres.env(APP_ONE.role)).env("LD_PRELOAD", shim("clock"))
    }

    /// A session whose first token is in memory, and is refused by the server from now on.
    fn refused(&self) -> Session {
        let mut session = self.driver().session();
        session.ask(&["default"]);
        assert_eq!(session.one(&["get_token"]).status(), "PGAAD_OK");
        self.postgres.revoke_all();
        session
    }

    fn requests(&self) -> usize {
        self.emulator.entra().counters().requests
    }

    /// How the logins went, in order.
    fn logins(&self) -> Vec<bool> {
        self.postgres.binds().iter().map(|bind| bind.ok()).collect()
    }
}

fn is_in(line: &Line) -> bool {
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    line.get("conn") == "OK"
}

#[test]
fn a_cached_token_that_is_refused_is_replaced_once_a_minute() {
    let place = Place::start();
    let mut session = place.refused();
    for command in [&["connect", ""][..], &["params", "0"], &["client_connect", ""], &["client_params", "0"]]
    {
        let (requests, before) = (place.requests(), place.logins().len());
        assert!(is_in(&session.one(command)), "{command:?}");
        assert_eq!(place.requests(), requests + 1);
        assert_eq!(place.logins()[before..], [false, true]);
        // The new one serves all others.
        assert!(is_in(&session.one(command)));
        assert_eq!(place.requests(), requests + 1);

        // Within the minute there is no other attempt, and the server's own words are the answer.
        place.postgres.revoke_all();
        let before = place.logins().len();
        let line = session.one(command);
        assert!(!is_in(&line) && line.errmsg().contains("FATAL"), "{line:?}");
        assert_eq!((place.requests(), &place.logins()[before..]), (requests + 1, &[false][..]));
        session.ask(&["suspend", "61"]);
    }
}

#[test]
fn a_fresh_token_is_not_replaced() {
    let place = Place::start();
    let mut session = place.driver().session();
    let line = session.one(&["connect", "user=app-two"]);
    assert!(!is_in(&line) && line.errmsg().contains("FATAL"), "{line:?}");
    assert_eq!((place.requests(), place.logins()), (1, vec![false]));
}

#[test]
fn the_same_token_is_not_sent_again() {
    let place = Place::start();
    let mut session = place.driver().session();
    let token = place.emulator.entra().mint(&APP_ONE);
    session.ask(&["new_callback", "", &format!("token 0 {token}")]);
    session.one(&["client_get_token", "-1"]);
    place.postgres.revoke_all();
    let line = session.one(&["client_connect", ""]);
    assert!(!is_in(&line), "{line:?}");
    assert_eq!(place.logins(), [false]);
    assert_eq!(session.one(&["supplier"]).get("calls"), "2", "it was asked, and had no other");
}

#[test]
fn a_failure_to_replace_it_leaves_the_servers_answer_and_the_token() {
    let place = Place::start();
    let mut session = place.refused();
    let token = session.one(&["get_token"]).get("token").to_string();
    place.emulator.entra().faults().always(Fault::status(400, "invalid_request", 90002));
    let line = session.one(&["connect", ""]);
    assert!(!is_in(&line) && line.errmsg().contains("FATAL"), "{line:?}");
    assert_eq!(place.logins(), [false]);
    assert_eq!(session.one(&["get_token"]).get("token"), token, "it is not known to be bad everywhere");
}

#[test]
fn a_server_that_asks_for_no_password_refuses_no_token() {
    let place = Place::start();
    let mut session = place.refused();
    for conninfo in ["sslrootcert=/nonexistent", "port=1"] {
        assert!(!is_in(&session.one(&["connect", conninfo])));
    }
    assert_eq!((place.requests(), place.logins()), (1, vec![]));
    assert!(is_in(&session.one(&["connect", ""])), "the minute's attempt is still there");
}

#[test]
fn a_start_makes_one_attempt() {
    let place = Place::start();
    let mut session = place.refused();
    session.one(&["start", ""]);
    assert!(!is_in(&session.one(&["poll"])));
    assert_eq!((place.requests(), place.logins()), (1, vec![false]));
}

#[test]
fn a_token_from_a_shared_file_is_replaced_there_too() {
    let place = Place::start();
    let folder = tempfile::tempdir().expect("a folder");
    let driver =
        place.driver().env("PGAAD_CACHE", format!("file:{}", folder.path().join("tokens").display()));
    assert_eq!(driver.one(&["get_token"]).status(), "PGAAD_OK");
    place.postgres.revoke_all();
    // Another process, which has never asked.
    let mut session = driver.session();
    assert!(is_in(&session.one(&["connect", ""])));
    assert_eq!((place.requests(), place.logins()), (2, vec![false, true]));
    // A third has the new one.
    assert!(is_in(&driver.one(&["connect", ""])));
    assert_eq!(place.requests(), 2);
}

#[test]
fn each_client_has_its_own_minute() {
    let place = Place::start();
    let mut session = place.refused();
    assert!(is_in(&session.one(&["connect", ""])));
    let settings = crate::harness::conninfo(&[
        ("tenant_id", APP_TWO.tenant.id),
        ("client_id", APP_TWO.client_id),
        ("client_secret", &place.emulator.entra().secret(&APP_TWO)),
    ]);
    assert_eq!(session.one(&["new", &settings]).status(), "PGAAD_OK");
    session.one(&["client_get_token", "-1"]);
    place.postgres.revoke_all();
    assert!(is_in(&session.one(&["client_connect", "user=app-two"])));
    assert!(!is_in(&session.one(&["connect", ""])));
}
