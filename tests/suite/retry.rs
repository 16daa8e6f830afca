//! What is tried again, when, and for how long: everything ends at the deadline.

use std::path::Path;
use std::time::Duration;

use emulator::{Emulator, Fault};

use crate::harness::{ClosedPort, Driver, each, shim, signed_in};

const GET: &[&str] = &["get_token"];

/// A driver whose look-ups go through the shim: `*.pgaad.test` is this machine, nothing is asked of a name server.
fn named_authority(emulator: &Emulator) -> Driver {
    let authority = format!("https://login.pgaad.test:{}", emulator.entra().port());
    signed_in(emulator).env("PGAAD_AUTHORITY_HOST", authority).env("LD_PRELOAD", shim("slow_resolver"))
}

#[test]
fn what_may_pass_is_tried_again() {
    let status = |status| Fault::status_without_code(status, "server_error");
    let aadsts = |status, code| Fault::status(status, "invalid_request", code);
    let mut rows = vec![
        ("408", status(408)),
        ("429", status(429)),
        ("500", status(500)),
        ("502", status(502)),
        ("503", status(503)),
        ("504", status(504)),
        ("599", status(599)),
        ("a gateway's page", Fault::html(502)),
        ("429 without a body", Fault::body(429, "text/plain", "")),
        ("temporarily_unavailable", Fault::status_without_code(400, "temporarily_unavailable")),
        ("a reset", Fault::reset()),
        ("an end without an answer", Fault::close()),
        ("an answer cut short", Fault::cut_short()),
        ("a reset before TLS", Fault::reset().before_tls()),
        ("an end before TLS", Fault::close().before_tls()),
    ];
    for code in [90033, 90006, 90012, 90024, 90090, 50033, 50087, 90055] {
        rows.push(("a transient code", aadsts(400, code)));
    }
    rows.push(("a transient code with 401", aadsts(401, 90033)));
    each(&rows, |(case, fault)| {
        let emulator = Emulator::start();
        emulator.entra().faults().next(fault.clone());
        let line = signed_in(&emulator).one(GET);
        assert_eq!(line.status(), "PGAAD_OK", "{case}: {line:?}");
        assert_eq!(line.get("token"), emulator.entra().tokens().pop().expect("a token"), "{case}");
        assert_eq!(emulator.entra().faults().pending(), 0, "{case}");
        let counters = emulator.entra().counters();
        let tries = if case.ends_with("before TLS") { counters.connections } else { counters.requests };
        assert_eq!(tries, 2, "{case}: once more, and no more than once");
    });
}

#[test]
fn what_will_not_pass_is_not_tried_again() {
    let rows = [
        Fault::status(400, "invalid_request", 900144),
        Fault::status(401, "invalid_client", 7000215),
        Fault::status(403, "access_denied", 53003),
        Fault::status_without_code(400, "invalid_request"),
        Fault::status_without_code(401, "invalid_client"),
        Fault::status_without_code(403, "access_denied"),
        Fault::status_without_code(404, "not_found"),
        // Not even where it is said when.
        Fault::status(401, "invalid_client", 7000215).retry_after(0),
    ];
    let emulator = Emulator::start();
    for (n, fault) in rows.into_iter().enumerate() {
        emulator.entra().faults().next(fault);
        let line = signed_in(&emulator).one(GET);
        assert_eq!(line.status(), "PGAAD_DENIED", "{n}: {line:?}");
        assert_eq!(emulator.entra().counters().requests, n + 1, "{n}: asked again");
    }
}

#[test]
fn a_try_is_a_request_of_its_own() {
    let emulator = Emulator::start();
    emulator.entra().faults().next(Fault::status(503, "temporarily_unavailable", 90033).retry_after_ms(1));
    assert_eq!(signed_in(&emulator).one(GET).status(), "PGAAD_OK");
    let requests = emulator.entra().requests();
    assert_eq!(requests[0].form, requests[1].form);
    let id = |n: usize| requests[n].http.header("client-request-id").expect("an id").to_string();
    assert_ne!(id(0), id(1), "support must be able to tell them apart");
}

#[test]
fn a_retry_after_is_obeyed_in_each_spelling() {
    let busy = || Fault::status_without_code(503, "temporarily_unavailable");
    let rows = [
        ("seconds", busy().retry_after(0)),
        ("seconds, as no browser sends them", busy().header("retry-after", " 0 ")),
        ("a date", busy().retry_after_date(0)),
        ("a date that has passed", busy().retry_after_date(-3600)),
        ("milliseconds", busy().retry_after_ms(1)),
        ("Microsoft's milliseconds", busy().x_ms_retry_after_ms(1)),
        ("with 429", Fault::status(429, "invalid_request", 90055).retry_after_ms(1)),
        ("with 400", Fault::status(400, "invalid_request", 90033).retry_after_ms(1)),
        // What cannot be read is as if it were not there.
        ("nonsense", busy().header("Retry-After", "soon")),
        ("below zero", busy().header("Retry-After", "-5")),
        ("no number", busy().header("Retry-After", "NaN")),
        ("nonsense in milliseconds", busy().header("retry-after-ms", "-")),
    ];
    each(&rows, |(case, fault)| {
        let emulator = Emulator::start();
        emulator.entra().faults().next(fault.clone());
        let line = signed_in(&emulator).one(GET);
        assert_eq!(line.status(), "PGAAD_OK", "{case}: {line:?}");
        assert_eq!(emulator.entra().counters().requests, 2, "{case}");
    });
}

#[test]
fn a_retry_after_beyond_the_deadline_ends_the_call_at_once() {
    let busy = |status| Fault::status_without_code(status, "temporarily_unavailable");
    let emulator = Emulator::start();
    // The driver ends itself long before the deadline of ten minutes, so that a call that sleeps fails the test.
    let driver = signed_in(&emulator).env("PGAAD_TIMEOUT_MS", "600000");
    for (n, (fault, seconds)) in [
        (busy(503).retry_after(3600), 3600),
        (busy(429).retry_after(3600), 3600),
        (busy(503).retry_after_date(7200), 7200),
        (busy(503).retry_after_ms(3_600_000), 3600),
        (busy(429).x_ms_retry_after_ms(3_600_001), 3601),
        (Fault::status(429, "invalid_request", 90055).retry_after(601), 601),
        (busy(503).header("Retry-After", "99999999999999999999"), 86_400),
        (busy(503).header("retry-after-ms", "18446744073709551615"), 86_400),
    ]
    .into_iter()
    .enumerate()
    {
        emulator.entra().faults().next(fault);
        let line = driver.one(GET);
        assert_eq!(line.status(), "PGAAD_THROTTLED", "{n}: {line:?}");
        assert!(line.errmsg().contains(&format!("in {seconds} s")), "{n}: it does not say when: {line:?}");
        assert_eq!(emulator.entra().counters().requests, n + 1, "{n}: asked again");
    }
}

#[test]
fn the_date_to_come_back_at_counts_by_the_services_clock() {
    let emulator = Emulator::start();
    let driver = signed_in(&emulator).env("PGAAD_TIMEOUT_MS", "60000");
    let busy = || Fault::status_without_code(503, "temporarily_unavailable");
    // By our clock the date is two hours away, or long past.
    emulator.entra().configure(|config| config.clock_skew = 7200);
    emulator.entra().faults().next(busy().retry_after_date(0));
    assert_eq!(driver.one(GET).status(), "PGAAD_OK");
    emulator.entra().configure(|config| config.clock_skew = -7200);
    emulator.entra().faults().next(busy().retry_after_date(3600));
    let line = driver.one(GET);
    assert_eq!(line.status(), "PGAAD_THROTTLED", "{line:?}");
    assert!(line.errmsg().contains("in 3600 s"), "{line:?}");
}

#[test]
fn when_all_tries_are_used_it_says_so() {
    let closed = ClosedPort::new();
    let busy = |status| Fault::status_without_code(status, "server_error");
    let rows: &[(&str, Option<Fault>, &str, &[&str])] = &[
        ("503", Some(busy(503)), "PGAAD_NETWORK", &["HTTP 503"]),
        ("500", Some(busy(500)), "PGAAD_NETWORK", &["HTTP 500"]),
        ("408", Some(busy(408)), "PGAAD_NETWORK", &["HTTP 408"]),
        ("a gateway's page", Some(Fault::html(502)), "PGAAD_NETWORK", &["HTTP 502"]),
        ("a transient code", Some(Fault::status(400, "x", 90033)), "PGAAD_NETWORK", &["AADSTS90033"]),
        ("429", Some(busy(429)), "PGAAD_THROTTLED", &["429", "seconds"]),
        ("reset", Some(Fault::reset()), "PGAAD_NETWORK", &["reset", "Check"]),
        ("reset before TLS", Some(Fault::reset().before_tls()), "PGAAD_NETWORK", &["reset", "Check"]),
        ("closed", Some(Fault::close()), "PGAAD_NETWORK", &["Check"]),
        ("cut short", Some(Fault::cut_short()), "PGAAD_NETWORK", &["Check"]),
        ("nobody listens", None, "PGAAD_NETWORK", &["refused", "Check"]),
    ];
    each(rows, |(case, fault, status, words)| {
        let emulator = Emulator::start();
        let mut driver = signed_in(&emulator);
        match fault {
            Some(fault) => emulator.entra().faults().always(fault.clone()),
            None => driver = driver.env("PGAAD_AUTHORITY_HOST", format!("https://{}", closed.address())),
        }
        let line = driver.one(GET);
        assert_eq!(line.status(), *status, "{case}: {line:?}");
        assert!(line.errmsg().contains("https://"), "{case}: it does not say where: {line:?}");
        assert!(words.iter().all(|word| line.errmsg().contains(word)), "{case}: {words:?}: {line:?}");
        if fault.is_some() {
            let counters = emulator.entra().counters();
            let tries = counters.connections.max(counters.requests);
            assert!((2..10).contains(&tries), "{case}: {tries} tries");
        }
    });
}

#[test]
fn whatever_hangs_ends_at_the_deadline() {
    let rows = [
        ("no answer", Fault::hang(), "waiting for the answer"),
        ("no handshake", Fault::hang().before_tls(), "passed while"),
        ("an answer that goes on and on", Fault::drip(Duration::from_secs(1)), "waiting for the answer"),
    ];
    each(&rows, |(case, fault, doing)| {
        let emulator = Emulator::start();
        emulator.entra().faults().always(fault.clone());
        let line = signed_in(&emulator).env("PGAAD_TIMEOUT_MS", "1000").one(GET);
        assert_eq!(line.status(), "PGAAD_TIMEOUT", "{case}: {line:?}");
        assert!(
            line.errmsg().contains("PGAAD_TIMEOUT_MS") && line.errmsg().contains(doing),
            "{case}: {line:?}"
        );
        assert_eq!(emulator.entra().counters().connections, 1, "{case}");
    });
}

#[test]
fn a_name_that_is_never_answered_ends_at_the_deadline_too() {
    let emulator = Emulator::start();
    let driver = named_authority(&emulator).env("RESOLVER_HOLD", "login.pgaad.test");
    // The program ends, although the look-up never does.
    let line = driver.env("PGAAD_TIMEOUT_MS", "500").one(GET);
    assert_eq!(line.status(), "PGAAD_TIMEOUT", "{line:?}");
    assert!(line.errmsg().contains("login.pgaad.test") && line.errmsg().contains("looking up"), "{line:?}");
    assert_eq!(emulator.entra().counters().connections, 0);
}

#[test]
fn a_name_server_that_is_busy_is_asked_again() {
    let emulator = Emulator::start();
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("log");
    let driver = named_authority(&emulator).env("RESOLVER_LOG", &log);
    let line = driver.clone().env("RESOLVER_FAILS", "1").one(GET);
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    assert_eq!(look_ups(&log), 2);
    let unknown = format!("https://nowhere.example:{}", emulator.entra().port());
    let line = driver.env("PGAAD_AUTHORITY_HOST", unknown).one(GET);
    assert_eq!(line.status(), "PGAAD_NETWORK", "{line:?}");
    assert!(line.errmsg().contains("look up nowhere.example") && line.errmsg().contains("Check"), "{line:?}");
}

fn look_ups(log: &Path) -> usize {
    std::fs::read_to_string(log).expect("a log").lines().filter(|line| line.starts_with("enter ")).count()
}

#[test]
fn the_deadline_holds_across_tries() {
    // The first try takes its time and fails; the second never ends.
    let emulator = Emulator::start();
    emulator.entra().faults().next(Fault::reset());
    emulator.entra().faults().always(Fault::hang());
    let line = signed_in(&emulator).env("PGAAD_TIMEOUT_MS", "5000").one(GET);
    assert_eq!(line.status(), "PGAAD_TIMEOUT", "{line:?}");
    assert_eq!(emulator.entra().counters().requests, 2);
}
