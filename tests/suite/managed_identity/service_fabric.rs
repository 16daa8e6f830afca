//! Service Fabric, whose endpoint is known by its certificate and by nothing else.

use emulator::{Emulator, Endpoint, Fault, IDENTITY_ONE, SYSTEM_IDENTITY, ServiceFabric};

use super::{ask, assert_is, assert_keeps_secret, assert_signs_in, expires_on, program_on};
use crate::harness::{assert_fails, each, ground};

const THUMBPRINT: &str = "IDENTITY_SERVER_THUMBPRINT";

#[test]
fn a_service_signs_in() {
    let fabric = Endpoint::start(&ground().emulator, ServiceFabric::new());
    assert_signs_in(&program_on(fabric.env()), &SYSTEM_IDENTITY);
    fabric.configure(|cluster| (cluster.system, cluster.user_assigned) = (None, vec![&IDENTITY_ONE]));
    assert_signs_in(&program_on(fabric.env()), &IDENTITY_ONE);
}

#[test]
fn a_stranger_gets_no_secret() {
    let emulator = Emulator::start();
    let fabric = Endpoint::start(&emulator, ServiceFabric::new());
    let program = program_on(fabric.env());
    fabric.show_stranger(true);
    let line = program.one(&["get_token"]);
    assert_fails(&line, "PGAAD_NETWORK", &["certificate", THUMBPRINT, "IDENTITY_ENDPOINT", "not sent"]);
    let counters = fabric.front().counters();
    assert_eq!((counters.connections, counters.requests), (1, 0), "once is enough, and nothing is sent");
    assert!(!fabric.saw_secret());
    // Whom it announced before counts, not whom the system or the caller trusts.
    let trusting = program.clone().env("PGAAD_CA_FILE", emulator.ca_file());
    assert_fails(&trusting.one(&["get_token"]), "PGAAD_NETWORK", &[THUMBPRINT]);
    fabric.show_stranger(false);
    assert_is(&program.one(&["get_token"]), &SYSTEM_IDENTITY);
    assert!(fabric.saw_secret());
}

#[test]
fn a_thumbprint_is_forty_digits() {
    let emulator = Emulator::start();
    let fabric = Endpoint::start(&emulator, ServiceFabric::new());
    let program = program_on(fabric.env());
    let good = fabric.platform().thumbprint();
    let pairs: Vec<&str> = (0..20).map(|at| &good[2 * at..2 * at + 2]).collect();
    let longer = format!("{good}00");
    for bad in
        ["x", &good[1..], &good[2..], &longer, &good.replace(|c: char| c.is_ascii_digit(), "g"), "é", "+1"]
    {
        let line = program.clone().env(THUMBPRINT, bad).one(&["get_token"]);
        assert_fails(&line, "PGAAD_CONFIG", &[THUMBPRINT, "SHA-1", "40"]);
    }
    let plain = format!("http://127.0.0.1:{}/metadata/identity/oauth2/token", fabric.front().port());
    let line = program.clone().env("IDENTITY_ENDPOINT", plain).one(&["get_token"]);
    assert_fails(&line, "PGAAD_CONFIG", &["IDENTITY_ENDPOINT", "https", THUMBPRINT]);
    assert_eq!(fabric.front().counters().connections, 0);
    for spelt in [pairs.join(":"), pairs.join(" ").to_lowercase(), format!(" {good} ")] {
        assert_is(&program.clone().env(THUMBPRINT, spelt).one(&["get_token"]), &SYSTEM_IDENTITY);
    }
}

#[test]
fn the_cluster_chooses_the_identity() {
    let emulator = Emulator::start();
    let fabric = Endpoint::start(&emulator, ServiceFabric::new());
    for (key, id) in [
        ("client_id", SYSTEM_IDENTITY.client_id),
        ("object_id", IDENTITY_ONE.object_id),
        ("resource_id", IDENTITY_ONE.resource_id.expect("it has one")),
    ] {
        let line = ask(&program_on(fabric.env()), &format!("{key}={id}"));
        assert_fails(&line, "PGAAD_UNAVAILABLE", &[key, id, "the cluster chooses"]);
    }
    assert_eq!(fabric.front().counters().connections, 0);
}

#[test]
fn refusals_name_their_cause() {
    let emulator = Emulator::start();
    let fabric = Endpoint::start(&emulator, ServiceFabric::new());
    let program = program_on(fabric.env());
    for (fault, status, parts) in [
        // Here this is final.
        (
            Fault::status_without_code(404, "ManagedIdentityNotFound"),
            "PGAAD_UNAVAILABLE",
            &["no identity", "made to order"][..],
        ),
        (Fault::status_without_code(400, "SecretHeaderNotFound"), "PGAAD_DENIED", &["400", "made to order"]),
        (Fault::status_without_code(400, "InvalidApiVersion"), "PGAAD_DENIED", &["400", "made to order"]),
        (Fault::status_without_code(429, "x").retry_after(600), "PGAAD_THROTTLED", &["600 s"]),
        (Fault::html(200), "PGAAD_PROTOCOL", &["text/html"]),
    ] {
        let before = fabric.front().counters().requests;
        fabric.front().faults().next(fault);
        let line = program.one(&["get_token"]);
        assert_fails(&line, status, parts);
        assert!(!line.errmsg().contains("PGAAD_CLIENT_ID"), "it would not help: {line:?}");
        assert_eq!(fabric.front().counters().requests, before + 1);
    }
    let line = program.clone().env("IDENTITY_HEADER", "not-this-one").one(&["get_token"]);
    assert_fails(&line, "PGAAD_UNAVAILABLE", &["header Secret is wrong"]);
    assert!(!line.errmsg().contains("not-this-one"), "{line:?}");
    let (_, secret) = fabric.env().into_iter().find(|(name, _)| name == "IDENTITY_HEADER").expect("a secret");
    assert_keeps_secret(&program, fabric.front(), secret.to_str().expect("text"));
}

#[test]
fn what_passes_is_waited_for() {
    let emulator = Emulator::start();
    each(&[429, 500, 503], |status| {
        let fabric = Endpoint::start(&emulator, ServiceFabric::new());
        fabric.front().faults().next(Fault::status_without_code(*status, "InternalServerError"));
        assert_is(&program_on(fabric.env()).one(&["get_token"]), &SYSTEM_IDENTITY);
    });
}

#[test]
fn the_end_may_be_a_number_or_a_string() {
    let emulator = Emulator::start();
    let fabric = Endpoint::start(&emulator, ServiceFabric::new());
    let far = 4_102_444_800_i64;
    for fault in [Fault::none(), Fault::field("expires_on", far), Fault::field("expires_on", far.to_string())]
    {
        fabric.front().faults().next(fault);
        let got = expires_on(&program_on(fabric.env()));
        let end = emulator::claims(fabric.front().tokens().last().expect("a token")).expect("claims")["exp"]
            .as_i64();
        assert!((0..=5).contains(&(end.expect("exp") - got)), "{got} {end:?}");
    }
}
