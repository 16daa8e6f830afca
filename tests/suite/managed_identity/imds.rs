//! The instance metadata service, what may answer in its place, and nobody.

use emulator::serde_json::json;
use emulator::{Emulator, Endpoint, Fault, IDENTITY_ONE, Imds, Nowhere, Proxy, SYSTEM_IDENTITY};

use super::{
    assert_is, assert_knows_the_end, assert_names, assert_no_other, assert_signs_in, beside_a_proxy,
    program_on,
};
use crate::harness::{ClosedPort, Driver, assert_fails, each, ground, shim};

fn program(imds: &Endpoint<Imds>) -> Driver {
    program_on(imds.env())
}

#[test]
fn a_machine_signs_in() {
    let imds = Endpoint::start(&ground().emulator, Imds);
    assert_signs_in(&program(&imds), &SYSTEM_IDENTITY);
    let named = program(&imds).env("PGAAD_CLIENT_ID", IDENTITY_ONE.client_id);
    assert_signs_in(&named, &IDENTITY_ONE);
    // The only one there is needs no name.
    imds.configure(|machine| (machine.system, machine.user_assigned) = (None, vec![&IDENTITY_ONE]));
    assert_signs_in(&program(&imds), &IDENTITY_ONE);
}

#[test]
fn the_request_is_what_the_service_wants() {
    let emulator = Emulator::start();
    let imds = Endpoint::start(&emulator, Imds);
    // Slashes at the end of the host are none of the path's.
    let host = format!("{}//", imds.origin());
    assert_is(&program(&imds).env("PGAAD_IMDS_HOST", host).one(&["get_token"]), &SYSTEM_IDENTITY);
    let seen = imds.front().requests().remove(0).http;
    let (path, _) = seen.target.split_once('?').expect("a query");
    assert_eq!((seen.method.as_str(), path), ("GET", "/metadata/identity/oauth2/token"));
    assert_eq!(seen.header("metadata"), Some("true"));
    assert_eq!(seen.query("resource").as_deref(), Some("https://ossrdbms-aad.database.windows.net"));
    assert!(seen.body.is_empty() && seen.header("authorization").is_none(), "{seen:?}");
}

#[test]
fn each_name_of_an_identity_has_its_parameter() {
    let emulator = Emulator::start();
    let imds = Endpoint::start(&emulator, Imds);
    assert_names(&program(&imds), imds.front(), ["client_id", "object_id", "msi_res_id"]);
    assert_no_other(&program(&imds), imds.front());
}

#[test]
fn it_is_asked_again_where_that_helps() {
    let emulator = Emulator::start();
    let rows = [
        Fault::status_without_code(404, "not_found"),
        Fault::body(404, "text/html", ""),
        Fault::status_without_code(410, "gone"),
        Fault::status_without_code(429, "too_many_requests"),
        Fault::status_without_code(429, "too_many_requests").retry_after(1),
        Fault::status_without_code(500, "unknown"),
        Fault::status_without_code(503, "unknown"),
        Fault::html(502),
        Fault::reset(),
    ];
    each(&rows, |fault| {
        let imds = Endpoint::start(&emulator, Imds);
        imds.front().faults().next(fault.clone());
        assert_is(&program(&imds).one(&["get_token"]), &SYSTEM_IDENTITY);
        assert_eq!(imds.front().counters().requests, 2);
    });
}

#[test]
fn what_lasts_longer_than_the_deadline_is_told_as_passing() {
    let emulator = Emulator::start();
    let rows = [
        (Fault::status_without_code(404, "not_found"), "PGAAD_NETWORK", &["404", "Try again"][..]),
        (Fault::status_without_code(410, "gone"), "PGAAD_NETWORK", &["410", "Try again"]),
        (Fault::status_without_code(500, "unknown"), "PGAAD_NETWORK", &["500", "made to order", "Try again"]),
        (Fault::status_without_code(429, "x"), "PGAAD_THROTTLED", &["429", "Try again"]),
        (Fault::status_without_code(429, "x").retry_after(600), "PGAAD_THROTTLED", &["429", "600 s"]),
        (Fault::status_without_code(410, "x").retry_after(70), "PGAAD_THROTTLED", &["410", "70 s"]),
        (Fault::hang(), "PGAAD_TIMEOUT", &["PGAAD_TIMEOUT_MS"]),
    ];
    each(&rows, |(fault, status, parts)| {
        let imds = Endpoint::start(&emulator, Imds);
        imds.front().faults().always(fault.clone());
        let line = program(&imds).env("PGAAD_TIMEOUT_MS", "2500").one(&["get_token"]);
        assert_fails(&line, status, &[&["instance metadata service", &imds.origin()], *parts].concat());
        if parts.iter().any(|part| part.ends_with(" s")) {
            assert_eq!(imds.front().counters().requests, 1, "it was told to come back later");
        }
    });
}

#[test]
fn each_refusal_names_its_cause() {
    let emulator = Emulator::start();
    let imds = Endpoint::start(&emulator, Imds);
    let faults = imds.front().faults();
    let program = program(&imds);
    for (fault, status, parts) in [
        // Somebody else answers.
        (Imds::unreachable(), "PGAAD_UNAVAILABLE", &["proxy", "cannot be reached"][..]),
        (
            Fault::body(403, "application/json", r#"{"error":"Host is Unreachable"}"#),
            "PGAAD_UNAVAILABLE",
            &["proxy"],
        ),
        (Fault::html(200), "PGAAD_PROTOCOL", &["text/html", "200"]),
        (Fault::html(400), "PGAAD_PROTOCOL", &["text/html", "400"]),
        (Fault::html(403), "PGAAD_PROTOCOL", &["text/html", "403"]),
        (Fault::body(200, "text/plain", "{token}"), "PGAAD_PROTOCOL", &["text/plain"]),
        (Fault::redirect(302), "PGAAD_PROTOCOL", &["302"]),
        (Fault::garbage(), "PGAAD_PROTOCOL", &["instance metadata service"]),
        (Fault::garbage_json(), "PGAAD_PROTOCOL", &["application/json"]),
        (Fault::empty_body(), "PGAAD_PROTOCOL", &["no token answer"]),
        (Fault::huge_body(), "PGAAD_PROTOCOL", &["bytes"]),
        // It answers, with something strange.
        (Fault::without("access_token"), "PGAAD_PROTOCOL", &["access_token"]),
        (Fault::field("access_token", 7), "PGAAD_PROTOCOL", &["access_token"]),
        (Fault::newline_in_token(), "PGAAD_PROTOCOL", &["access_token"]),
        (Fault::field("token_type", "pop"), "PGAAD_PROTOCOL", &["token_type"]),
        (Fault::field("expires_in", "soon"), "PGAAD_PROTOCOL", &["expires_in"]),
        (Fault::field("expires_in", "-1"), "PGAAD_PROTOCOL", &["expires_in"]),
        (Fault::expires_on_only("tomorrow"), "PGAAD_PROTOCOL", &["expires_on"]),
        (Fault::expired_token(), "PGAAD_PROTOCOL", &["expired"]),
        // It refuses.
        (Fault::status_without_code(401, "unknown_source"), "PGAAD_UNAVAILABLE", &["made to order"]),
        (Fault::status_without_code(400, "bad_request_102"), "PGAAD_PROTOCOL", &["Metadata"]),
        (Fault::status_without_code(400, "invalid_request"), "PGAAD_DENIED", &["400", "made to order"]),
        (Fault::status_without_code(403, "forbidden"), "PGAAD_DENIED", &["403", "made to order"]),
    ] {
        faults.next(fault);
        let line = program.one(&["get_token"]);
        assert_fails(&line, status, parts);
        assert!(!line.errmsg().contains("eyJ"), "{line:?}");
    }
    assert_eq!(faults.pending(), 0);
    assert_eq!(imds.front().counters().redirected, 0);

    let line = program.clone().env("PGAAD_SCOPE", "https://unknown.example/.default").one(&["get_token"]);
    assert_fails(&line, "PGAAD_DENIED", &["https://unknown.example", "PGAAD_SCOPE", "PGAAD_CLOUD"]);

    imds.configure(|machine| machine.system = None);
    let line = program.one(&["get_token"]);
    assert_fails(&line, "PGAAD_CONFIG", &["Multiple user assigned", "PGAAD_CLIENT_ID"]);

    imds.configure(|machine| machine.user_assigned = Vec::new());
    let line = program.one(&["get_token"]);
    assert_fails(&line, "PGAAD_UNAVAILABLE", &["no identity", "Identity not found", "PGAAD_CLIENT_ID"]);
}

#[test]
fn numbers_may_be_strings_and_strings_numbers() {
    let emulator = Emulator::start();
    let imds = Endpoint::start(&emulator, Imds);
    let program = program(&imds);
    let far = 4_102_444_800_i64;
    for fault in [
        Fault::none(),
        Fault::field("expires_in", 86400),
        Fault::field("expires_in", 86400.0).set("expires_on", "strange"),
        Fault::expires_on_only(far.to_string()),
        Fault::expires_on_only(far),
        Fault::field("expires_in", json!(null)),
    ] {
        imds.front().faults().next(fault);
        assert_knows_the_end(&program, imds.front());
    }
}

#[test]
fn where_nobody_is_there_is_no_identity() {
    if std::fs::read_to_string("/sys/class/dmi/id/chassis_asset_tag")
        .is_ok_and(|tag| tag.starts_with("7783-7084-"))
    {
        eprintln!("not tested: this is a machine of Azure's, which has a metadata service");
        return;
    }
    let closed = ClosedPort::new();
    let line = Driver::new()
        .env("PGAAD_AUTH", "managed_identity")
        .env("PGAAD_IMDS_HOST", format!("http://{}", closed.address()))
        .one(&["get_token"]);
    assert_fails(&line, "PGAAD_UNAVAILABLE", &[&closed.address(), "PGAAD_IMDS_HOST"]);

    // Its own patience is short: the hour that the caller has would be more than the driver gets.
    let nowhere = Nowhere::start();
    let line = Driver::new()
        .env("PGAAD_AUTH", "managed_identity")
        .env("PGAAD_TIMEOUT_MS", "3600000")
        .env("PGAAD_IMDS_HOST", nowhere.origin())
        .one(&["get_token"]);
    assert_fails(&line, "PGAAD_UNAVAILABLE", &[&nowhere.origin(), "no connection within"]);
}

#[test]
fn the_host_is_a_url_without_a_path() {
    for host in ["127.0.0.1", "ftp://127.0.0.1", "http://127.0.0.1/path", "http://a@127.0.0.1", "http://"] {
        let line = Driver::new()
            .env("PGAAD_AUTH", "managed_identity")
            .env("PGAAD_IMDS_HOST", host)
            .one(&["get_token"]);
        assert_fails(&line, "PGAAD_CONFIG", &["PGAAD_IMDS_HOST"]);
    }
}

/// Where a program connects to that has no endpoint in its environment.
fn destinations(program: Driver) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("log");
    let program = program.without("AZURE_POD_IDENTITY_AUTHORITY_HOST").without("PGAAD_IMDS_HOST");
    let preloaded = program.env("LD_PRELOAD", shim("no_connect")).env("CONNECT_LOG", &log);
    let line = preloaded.one(&["get_token"]);
    assert_ne!(line.status(), "PGAAD_OK", "{line:?}");
    let log = std::fs::read_to_string(log).unwrap_or_else(|_| panic!("it connects to nobody: {line:?}"));
    let mut all: Vec<_> = log.lines().map(str::to_string).collect();
    all.dedup();
    all
}

#[test]
fn without_a_host_it_is_the_address_that_all_of_azures_machines_have() {
    let proxy = Proxy::start();
    let program = || Driver::new().env("PGAAD_AUTH", "managed_identity");
    // The chain comes to it as well.
    for program in [program(), beside_a_proxy(program(), &proxy), Driver::new()] {
        assert_eq!(destinations(program), ["169.254.169.254 80"]);
    }
    assert_eq!(proxy.connects().len(), 0);
}
