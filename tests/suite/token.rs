//! The client credentials grant against the token service.

use emulator::{APP_ONE, Emulator};

use crate::harness::Driver;

#[test]
fn a_token_is_fetched_with_one_request_over_one_connection() {
    let emulator = Emulator::start();
    let line = Driver::new().envs(emulator.env(&APP_ONE)).one(&["get_token"]);
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    assert!(line.get("token").starts_with("eyJ"));
    let counters = emulator.entra().counters();
    assert_eq!((counters.connections, counters.requests, counters.tokens), (1, 1, 1));
}
