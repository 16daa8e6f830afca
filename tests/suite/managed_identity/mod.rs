//! Managed identities: on each platform a program signs in with what the platform put into its environment, as the
//! identity that it names and as no other.

mod app_service;
mod arc;
mod cloud_shell;
mod imds;
mod service_fabric;

use std::ffi::OsString;

use emulator::{
    AppService, ArcAgent, Clock, CloudShell, Emulator, Endpoint, Fault, Front, IDENTITY_ONE, IDENTITY_TWO,
    Imds, Kind, OldAppService, Principal, Proxy, SYSTEM_IDENTITY, ServiceFabric, claims,
};

use crate::harness::{self, Driver, Line, assert_fails, conninfo, ground, shim, unix_now};

type Variables = Vec<(String, OsString)>;

/// A client id that nobody has.
const NOBODY: &str = "cccccccc-0000-0000-0000-00000000dead";

/// A program on a platform that sets these variables.
fn program_on(platform: Variables) -> Driver {
    Driver::new().env("PGAAD_AUTH", "managed_identity").envs(platform)
}

/// Asks for a token with these settings beside the environment.
#[track_caller]
fn ask(program: &Driver, settings: &str) -> Line {
    harness::ask(&mut program.session(), settings)
}

/// Until when the token is good, by the library.
#[track_caller]
fn expires_on(driver: &Driver) -> i64 {
    let lines = driver.run(&[&["new", ""], &["client_get_token", "-1"]]);
    assert_eq!(lines[2].status(), "PGAAD_OK", "{lines:?}");
    lines[1].word().parse().expect("a time")
}

/// By the library the token is good until its own end, or ends earlier by what went by until the answer was there.
#[track_caller]
fn assert_knows_the_end(program: &Driver, endpoint: &Front) {
    let asked = unix_now();
    let got = expires_on(program);
    let took = unix_now() + 1 - asked;
    let token = endpoint.tokens().pop().expect("a token");
    let end = claims(&token).expect("claims")["exp"].as_i64().expect("exp");
    assert!((end - took..=end).contains(&got), "{got}, not {end}");
}

/// The token is this one's, whom nobody confuses with another.
#[track_caller]
fn assert_is(line: &Line, who: &Principal) {
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    assert_eq!(claims(line.get("token")).expect("claims")["oid"], who.object_id);
}

/// The program is let into the database, where it gives its user and where it leaves that to its token.
#[track_caller]
fn assert_signs_in(program: &Driver, who: &Principal) {
    let postgres = &ground().postgres;
    let driver = program.clone().envs(postgres.env(who.role));
    let lines = driver.run(&[&["connect", ""], &["query", "select current_user"]]);
    assert_eq!(lines[0].get("conn"), "OK", "{lines:?}");
    assert_eq!(lines[1].get("value"), who.role);

    let line = driver.without("PGUSER").one(&["connect", ""]);
    if who.kind == Kind::SystemAssigned {
        assert_fails(&line, "PGAAD_CONFIG", &["No user", who.role, "PGUSER"]);
    } else {
        assert_eq!((line.get("conn"), line.get("user")), ("OK", who.role), "{line:?}");
    }
}

/// Each way to name an identity reaches the endpoint under the name that it has there: that of a client id, of an
/// object id and of a resource id.
#[track_caller]
fn assert_names(program: &Driver, endpoint: &Front, names: [&str; 3]) {
    let who = &IDENTITY_TWO;
    let resource_id = who.resource_id.expect("it has one");
    let given = [("client_id", who.client_id), ("object_id", who.object_id), ("resource_id", resource_id)];
    for ((key, id), name) in given.into_iter().zip(names) {
        assert_is(&ask(program, &conninfo(&[(key, id)])), who);
        let http = endpoint.requests().pop().expect("a request").http;
        assert_eq!(http.query(name).as_deref(), Some(id), "{http:?}");
        assert_eq!(http.target.matches('=').count(), 3, "more than version, resource and identity: {http:?}");
        assert!(
            http.target.contains("resource=https%3A%2F%2Fossrdbms-aad.database.windows.net&"),
            "{http:?}"
        );
    }
}

/// What the endpoint doesn't know, and what it answers for another, is no identity, however it is named.
#[track_caller]
fn assert_no_other(program: &Driver, endpoint: &Front) {
    let resource_id = "/subscriptions/x/providers/Microsoft.ManagedIdentity/userAssignedIdentities/none";
    for (key, id) in [("client_id", NOBODY), ("object_id", NOBODY), ("resource_id", resource_id)] {
        let line = ask(program, &conninfo(&[(key, id)]));
        assert_fails(&line, "PGAAD_UNAVAILABLE", &[id, key, "Assign"]);
    }
    // Of the SDKs' variables, too.
    let line = program.clone().env("AZURE_CLIENT_ID", NOBODY).one(&["get_token"]);
    assert_fails(&line, "PGAAD_UNAVAILABLE", &[NOBODY, "AZURE_CLIENT_ID"]);

    endpoint.faults().next(Fault::field("client_id", IDENTITY_ONE.client_id));
    let line = ask(program, &conninfo(&[("client_id", IDENTITY_TWO.client_id)]));
    assert_fails(&line, "PGAAD_UNAVAILABLE", &[IDENTITY_TWO.client_id, "another"]);
}

/// No secret of the endpoint's is in the message or in the log, be it repeated in an answer or not.
#[track_caller]
fn assert_keeps_secret(program: &Driver, endpoint: &Front, secret: &str) {
    endpoint.faults().next(Fault::echo_secret());
    let output = program.clone().env("PGAAD_LOG", "debug").output(&[&["get_token"]]);
    let (said, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("Your secret is '***'"), "{said}");
    assert!(!log.is_empty() && !said.contains(secret) && !log.contains(secret), "{said}{log}");
}

#[test]
fn the_platforms_variables_decide_in_order() {
    let emulator = Emulator::start();
    let keys = tempfile::tempdir().expect("a folder");
    let fabric = Endpoint::start(&emulator, ServiceFabric::new());
    let service = Endpoint::start(&emulator, AppService::new());
    let arc = Endpoint::start(&emulator, ArcAgent::new(keys.path()));
    let ml = Endpoint::start(&emulator, OldAppService::new(Clock::Seconds));
    let shell = Endpoint::start(&emulator, CloudShell);
    let imds = Endpoint::start(&emulator, Imds);
    let all = [fabric.front(), service.front(), arc.front(), ml.front(), shell.front(), imds.front()];

    // Each has all that those after it need, but for what would be another value of the same variable.
    let rest = |from: usize| -> Variables {
        let envs = [arc.env(), shell.env(), ml.env(), imds.env()];
        envs.into_iter().skip(from).flatten().collect()
    };
    let without = |variables: Variables, name: &str| -> Variables {
        variables.into_iter().filter(|(known, _)| known != name).collect()
    };
    let empty = |names: &[&str]| names.iter().map(|name| (name.to_string(), OsString::new())).collect();
    let rows: [(&Front, Variables); 7] = [
        (fabric.front(), [rest(0), fabric.env()].concat()),
        (service.front(), [rest(0), service.env()].concat()),
        (arc.front(), [rest(1), arc.env()].concat()),
        (ml.front(), rest(1)),
        (shell.front(), without([rest(2), shell.env()].concat(), "MSI_SECRET")),
        (imds.front(), rest(3)),
        (imds.front(), [rest(3), empty(&["IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT"])].concat()),
    ];
    let seen = || all.map(|front| front.counters().requests);
    for (front, variables) in rows {
        let before = seen();
        let line = program_on(variables.clone()).one(&["get_token"]);
        // These keys are not where Arc's are.
        let status = if std::ptr::eq(front, arc.front()) { "PGAAD_PROTOCOL" } else { "PGAAD_OK" };
        assert_eq!(line.status(), status, "{line:?} {variables:?}");
        let expected: Vec<usize> =
            all.iter().zip(before).map(|(f, n)| n + usize::from(std::ptr::eq(*f, front))).collect();
        assert_eq!(seen().to_vec(), expected, "{variables:?}");
    }

    // An endpoint of neither kind: nobody is asked, not even who stands behind it.
    let before = seen();
    let half = without([rest(1), arc.env()].concat(), "IMDS_ENDPOINT");
    let line = program_on(half).one(&["get_token"]);
    assert_fails(&line, "PGAAD_UNAVAILABLE", &["IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IMDS_ENDPOINT"]);
    assert_eq!(seen(), before);
}

#[test]
fn a_client_id_of_other_programs_counts_unless_it_is_an_applications() {
    let emulator = Emulator::start();
    let imds = Endpoint::start(&emulator, Imds);
    let (one, two) = (IDENTITY_ONE.client_id, IDENTITY_TWO.client_id);
    let app = emulator::APP_ONE.client_id;
    for (who, variables) in [
        (&SYSTEM_IDENTITY, &[][..]),
        (&IDENTITY_TWO, &[("AZURE_CLIENT_ID", two)]),
        (&IDENTITY_TWO, &[("AZURE_CLIENT_ID", two), ("AZURE_TENANT_ID", "t")]),
        (&SYSTEM_IDENTITY, &[("AZURE_CLIENT_ID", app), ("AZURE_CLIENT_SECRET", "x")]),
        (&SYSTEM_IDENTITY, &[("AZURE_CLIENT_ID", app), ("AZURE_CLIENT_CERTIFICATE_PATH", "/x")]),
        (&SYSTEM_IDENTITY, &[("AZURE_CLIENT_ID", app), ("AZURE_FEDERATED_TOKEN_FILE", "/x")]),
        (&IDENTITY_ONE, &[("DB_SP_CLIENT_ID", one), ("AZURE_CLIENT_ID", two)]),
        (&IDENTITY_TWO, &[("DB_SP_CLIENT_ID", app), ("DB_SP_CLIENT_SECRET", "x"), ("AZURE_CLIENT_ID", two)]),
        (&SYSTEM_IDENTITY, &[("DB_SP_CLIENT_ID", app), ("DB_SP_CLIENT_SECRET", "x")]),
        (&IDENTITY_ONE, &[("DB_SP_CLIENT_ID", one), ("AZURE_CLIENT_SECRET", "x")]),
        (&IDENTITY_ONE, &[("PGAAD_CLIENT_ID", one), ("AZURE_CLIENT_ID", two)]),
        (&IDENTITY_ONE, &[("PGAAD_CLIENT_ID", one), ("PGAAD_CLIENT_SECRET", "x"), ("AZURE_CLIENT_ID", two)]),
        (&IDENTITY_ONE, &[("PGAAD_OBJECT_ID", IDENTITY_ONE.object_id), ("AZURE_CLIENT_ID", two)]),
    ] {
        let named = variables.iter().map(|(name, value)| (name.to_string(), value.into()));
        assert_is(&program_on(imds.env()).envs(named).one(&["get_token"]), who);
    }
    let program = program_on(imds.env()).env("PGAAD_CLIENT_ID", one);
    assert_is(&ask(&program, &format!("auth=managed_identity client_id={two}")), &IDENTITY_TWO);
    // Under auto, a client id alone is a managed identity.
    let program = Driver::new().envs(imds.env());
    assert_is(&program.clone().env("PGAAD_CLIENT_ID", one).one(&["get_token"]), &IDENTITY_ONE);
    assert_is(&ask(&program, &format!("object_id={}", IDENTITY_TWO.object_id)), &IDENTITY_TWO);
}

#[test]
fn an_id_that_is_none_is_said_to_be_and_nothing_is_sent() {
    let emulator = Emulator::start();
    let imds = Endpoint::start(&emulator, Imds);
    let program = program_on(imds.env());
    let (one, two) = (IDENTITY_ONE.client_id, IDENTITY_TWO.object_id);
    for (settings, parts) in [
        ("client_id=identity-one".to_string(), &["client_id", "GUID"][..]),
        ("object_id=identity-one".to_string(), &["object_id", "GUID"]),
        ("resource_id=identity-one".to_string(), &["resource_id", "/subscriptions/"]),
        (format!("client_id={one} object_id={two}"), &["client_id", "object_id", "only one"]),
    ] {
        assert_fails(&ask(&program, &settings), "PGAAD_CONFIG", parts);
    }
    let line = program.env("AZURE_CLIENT_ID", "identity-one").one(&["get_token"]);
    assert_fails(&line, "PGAAD_CONFIG", &["AZURE_CLIENT_ID", "GUID"]);
    assert_eq!(imds.front().counters().connections, 0);
}

/// A program that is told of a proxy in each way there is, and finds this endpoint under a name that is not plainly
/// this machine's.
fn beside_a_proxy(program: Driver, proxy: &Proxy) -> Driver {
    let names =
        ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "PGAAD_PROXY"];
    let variables = names.map(|name| (name.to_string(), OsString::from(proxy.url())));
    program.envs(variables).env("LD_PRELOAD", shim("slow_resolver"))
}

#[test]
fn no_request_goes_through_a_proxy() {
    let emulator = Emulator::start();
    let imds = Endpoint::start(&emulator, Imds);
    let service = Endpoint::start(&emulator, AppService::new());
    let ml = Endpoint::start(&emulator, OldAppService::new(Clock::Linux));
    let fabric = Endpoint::start(&emulator, ServiceFabric::new());
    let shell = Endpoint::start(&emulator, CloudShell);
    let proxy = Proxy::start();
    for variables in [imds.env(), service.env(), ml.env(), fabric.env(), shell.env()] {
        let by_name = |(name, value): (String, OsString)| {
            let value = value.into_string().expect("text").replace("127.0.0.1", "identity.pgaad.test");
            (name, value.into())
        };
        let program = program_on(variables.into_iter().map(by_name).collect());
        let line = beside_a_proxy(program, &proxy).one(&["get_token"]);
        assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    }
    assert_eq!(proxy.connects().len(), 0);
    for front in [imds.front(), service.front(), ml.front(), fabric.front(), shell.front()] {
        let seen = front.requests();
        let forwarded =
            |name: &str| name.eq_ignore_ascii_case("x-forwarded-for") || name.eq_ignore_ascii_case("via");
        assert!(
            seen.iter().all(|seen| !seen.http.headers.iter().any(|(name, _)| forwarded(name))),
            "{seen:?}"
        );
    }
}
