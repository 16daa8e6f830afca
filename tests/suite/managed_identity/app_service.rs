//! App Service and its relatives, by the contract of today and by that of before 2019.

use emulator::{AppService, Clock, Emulator, Endpoint, Fault, IDENTITY_ONE, OldAppService, SYSTEM_IDENTITY};

use super::{
    ask, assert_is, assert_keeps_secret, assert_knows_the_end, assert_names, assert_no_other,
    assert_signs_in, expires_on, program_on,
};
use crate::harness::{assert_fails, each, ground, unix_now};

const CLOCKS: [Clock; 3] = [Clock::Linux, Clock::Windows, Clock::Seconds];

#[test]
fn a_site_signs_in() {
    let emulator = &ground().emulator;
    let (new, old) = (Endpoint::start(emulator, AppService::new()), OldAppService::new(Clock::Windows));
    let old = Endpoint::start(emulator, old);
    for program in [program_on(new.env()), program_on(old.env())] {
        assert_signs_in(&program, &SYSTEM_IDENTITY);
        assert_signs_in(&program.env("AZURE_CLIENT_ID", IDENTITY_ONE.client_id), &IDENTITY_ONE);
    }
}

#[test]
fn each_name_of_an_identity_has_its_parameter() {
    let emulator = Emulator::start();
    let service = Endpoint::start(&emulator, AppService::new());
    let program = program_on(service.env());
    assert_names(&program, service.front(), ["client_id", "principal_id", "mi_res_id"]);
    assert_no_other(&program, service.front());
    let old = Endpoint::start(&emulator, OldAppService::new(Clock::Linux));
    let program = program_on(old.env());
    assert_names(&program, old.front(), ["clientid", "principal_id", "mi_res_id"]);
    assert_no_other(&program, old.front());
}

#[test]
fn the_header_changes_between_requests() {
    let emulator = Emulator::start();
    let service = Endpoint::start(&emulator, AppService::new());
    let mut session = program_on(service.env()).session();
    assert_eq!(session.one(&["new", ""]).status(), "PGAAD_OK");
    assert_is(&session.one(&["client_get_token", "-1"]), &SYSTEM_IDENTITY);
    for _ in 0..2 {
        let header = service.platform().rotate();
        session.ask(&["setenv", "IDENTITY_HEADER", &header]);
        session.ask(&["invalidate"]);
        assert_is(&session.one(&["client_get_token", "-1"]), &SYSTEM_IDENTITY);
    }
    let seen = service.front().requests();
    assert_eq!(seen.len(), 3);
    // Automation, which has the same variables, wants this too.
    assert!(seen.iter().all(|seen| seen.http.header("metadata") == Some("true")), "{seen:?}");
}

#[test]
fn a_header_of_yesterday_is_refused() {
    let emulator = Emulator::start();
    let service = Endpoint::start(&emulator, AppService::new());
    let program = program_on(service.env());
    let yesterdays = service.platform().rotate();
    service.platform().rotate();
    let line = program.clone().env("IDENTITY_HEADER", &yesterdays).one(&["get_token"]);
    assert_fails(&line, "PGAAD_DENIED", &["401", "IDENTITY_ENDPOINT", "variables"]);
    assert!(!line.errmsg().contains(&yesterdays), "{line:?}");
    assert_eq!(service.front().counters().requests, 1, "the answer would be the same");
}

#[test]
fn its_secret_is_not_repeated() {
    let emulator = Emulator::start();
    let service = Endpoint::start(&emulator, AppService::new());
    let secret = service.platform().rotate();
    assert_keeps_secret(&program_on(service.env()), service.front(), &secret);
    let old = Endpoint::start(&emulator, OldAppService::new(Clock::Linux));
    let (_, secret) = old.env().into_iter().find(|(name, _)| name == "MSI_SECRET").expect("a secret");
    assert_keeps_secret(&program_on(old.env()), old.front(), secret.to_str().expect("text"));
}

#[test]
fn the_end_is_told_as_a_time_alone() {
    let emulator = Emulator::start();
    let service = Endpoint::start(&emulator, AppService::new());
    let program = program_on(service.env());
    let far = 4_102_444_800_i64;
    for fault in [Fault::none(), Fault::field("expires_on", far), Fault::field("expires_on", far.to_string())]
    {
        service.front().faults().next(fault);
        assert_knows_the_end(&program, service.front());
    }
    for (fault, part) in [
        (Fault::without("expires_on"), "expires_on"),
        (Fault::field("expires_on", "tomorrow"), "expires_on"),
        (Fault::field("expires_on", "13/32/2030 25:00:00 +00:00"), "expires_on"),
        (Fault::field("expires_on", "1"), "expired"),
    ] {
        service.front().faults().next(fault);
        assert_fails(&program.one(&["get_token"]), "PGAAD_PROTOCOL", &[part]);
    }
}

#[test]
fn old_dates_are_utc_wherever_the_program_runs() {
    let emulator = Emulator::start();
    let rows: Vec<_> =
        CLOCKS.iter().flat_map(|clock| ["UTC0", "XXX-14", "YYY+11"].map(|zone| (*clock, zone))).collect();
    each(&rows, |(clock, zone)| {
        let old = Endpoint::start(&emulator, OldAppService::new(*clock));
        // A token that does not tell its end itself.
        old.front().faults().always(Fault::opaque_token());
        let before = unix_now();
        let got = expires_on(&program_on(old.env()).env("TZ", *zone));
        let lifetime = old.identities().lifetime;
        assert!(
            (before + lifetime - 2..=unix_now() + lifetime + 2).contains(&got),
            "{clock:?} {zone}: {got}"
        );
    });
}

#[test]
fn refusals_name_their_cause() {
    let emulator = Emulator::start();
    let service = Endpoint::start(&emulator, AppService::new());
    let program = program_on(service.env());
    // It fails, as the platform does, rather than refuse; several times, since other failures pass.
    let line = ask(&program, "scope=https://unknown.example/.default");
    assert_fails(&line, "PGAAD_NETWORK", &["500", "https://unknown.example", "IDENTITY_ENDPOINT"]);
    for (fault, status, parts) in [
        (Fault::status_without_code(400, ""), "PGAAD_DENIED", &["400", "made to order"][..]),
        (Fault::status_without_code(403, ""), "PGAAD_DENIED", &["403", "made to order"]),
        (Fault::html(200), "PGAAD_PROTOCOL", &["text/html"]),
        (Fault::html(404), "PGAAD_PROTOCOL", &["text/html"]),
        (Fault::garbage_json(), "PGAAD_PROTOCOL", &["application/json"]),
        (Fault::status_without_code(429, "").retry_after(600), "PGAAD_THROTTLED", &["600 s"]),
    ] {
        service.front().faults().next(fault);
        assert_fails(&program.one(&["get_token"]), status, &[parts, &["IDENTITY_ENDPOINT"]].concat());
    }
    service.front().faults().next(Fault::status_without_code(503, ""));
    assert_is(&program.one(&["get_token"]), &SYSTEM_IDENTITY);
    service.configure(|site| site.system = None);
    assert_fails(
        &program.one(&["get_token"]),
        "PGAAD_CONFIG",
        &["Multiple user assigned", "PGAAD_CLIENT_ID"],
    );
    service.configure(|site| site.user_assigned = Vec::new());
    assert_fails(&program.one(&["get_token"]), "PGAAD_UNAVAILABLE", &["no identity", "PGAAD_CLIENT_ID"]);
}

#[test]
fn an_endpoint_that_is_none_is_named() {
    let emulator = Emulator::start();
    let service = Endpoint::start(&emulator, AppService::new());
    for url in ["127.0.0.1:1", "ftp://127.0.0.1", "http://", "http://a@127.0.0.1:1/x"] {
        let line = program_on(service.env()).env("IDENTITY_ENDPOINT", url).one(&["get_token"]);
        assert_fails(&line, "PGAAD_CONFIG", &["IDENTITY_ENDPOINT"]);
    }
    // The platform says that it is there.
    let line = program_on(service.env())
        .env("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi/token")
        .one(&["get_token"]);
    assert_fails(&line, "PGAAD_NETWORK", &["http://127.0.0.1:1/msi/token", "IDENTITY_ENDPOINT"]);
}
