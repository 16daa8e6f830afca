//! Cloud Shell, whose tokens are its user's.

use emulator::{CloudShell, DEVELOPER, Emulator, Endpoint, Fault, IDENTITY_ONE};

use super::{ask, assert_is, assert_signs_in, program_on};
use crate::harness::{assert_fails, ground};

#[test]
fn its_user_signs_in() {
    let shell = Endpoint::start(&ground().emulator, CloudShell);
    assert_signs_in(&program_on(shell.env()), &DEVELOPER);
    let seen = shell.front().requests().remove(0);
    assert_eq!(seen.form, [("resource".into(), "https://ossrdbms-aad.database.windows.net".into())]);
}

#[test]
fn it_has_no_other_identity() {
    let emulator = Emulator::start();
    let shell = Endpoint::start(&emulator, CloudShell);
    for (key, id) in [("client_id", IDENTITY_ONE.client_id), ("object_id", IDENTITY_ONE.object_id)] {
        let line = ask(&program_on(shell.env()), &format!("{key}={id}"));
        assert_fails(&line, "PGAAD_UNAVAILABLE", &[key, id, "Cloud Shell"]);
    }
    assert_eq!(shell.front().counters().connections, 0);
}

#[test]
fn refusals_name_their_cause() {
    let emulator = Emulator::start();
    let shell = Endpoint::start(&emulator, CloudShell);
    let program = program_on(shell.env());
    for (fault, status, parts) in [
        (Fault::status_without_code(400, "invalid_request"), "PGAAD_DENIED", &["400", "made to order"][..]),
        (Fault::status_without_code(429, "x").retry_after(600), "PGAAD_THROTTLED", &["600 s"]),
        (Fault::html(200), "PGAAD_PROTOCOL", &["text/html"]),
        (Fault::garbage(), "PGAAD_PROTOCOL", &["did not answer as a token service"]),
    ] {
        shell.front().faults().next(fault);
        assert_fails(&program.one(&["get_token"]), status, &[parts, &["MSI_ENDPOINT"]].concat());
    }
    let line = ask(&program, "scope=https://unknown.example/.default");
    assert_fails(&line, "PGAAD_DENIED", &["https://unknown.example", "PGAAD_SCOPE"]);
    shell.front().faults().next(Fault::status_without_code(503, "unknown"));
    assert_is(&program.one(&["get_token"]), &DEVELOPER);
}
