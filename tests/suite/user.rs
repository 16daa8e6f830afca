//! The user that an identity is to the database, where nobody names one: what its tokens say, and nothing else.

use std::ffi::OsString;

use emulator::{
    APP_ONE, CloudShell, DEVELOPER, DEVELOPER_TWO, Emulator, Endpoint, Fault, Gate, IDENTITY_ONE,
    IDENTITY_TWO, Imds, Principal, Printed, Tool,
};

use crate::harness::{Driver, Pairs, Session, assert_fails, conninfo, ground, shim, signed_in};

const MANAGEMENT: &str = "https://management.azure.com";
const DATABASE: &str = "https://ossrdbms-aad.database.windows.net";

/// A driver that signs in by `auth` at a local server, and names no user.
fn nameless(auth: &str) -> Driver {
    let ground = ground();
    let driver = Driver::new().envs(ground.postgres.env("nobody")).without("PGUSER");
    driver.env("PGAAD_AUTH", auth).env("PGAAD_CA_FILE", ground.emulator.ca_file())
}

fn with_tool(auth: &str, tool: &Tool) -> Driver {
    nameless(auth).env("PATH", tool.dir())
}

/// A machine's driver, signed in as this user-assigned identity, or as the machine.
fn on_machine(imds: &Endpoint<Imds>, who: Option<&Principal>) -> Driver {
    let driver = nameless("managed_identity").envs(imds.env());
    who.map_or(driver.clone(), |who| driver.env("PGAAD_CLIENT_ID", who.client_id))
}

/// The resources that the metadata service was asked for, in order.
fn resources(imds: &Endpoint<Imds>) -> Vec<String> {
    let requests = imds.front().requests().into_iter();
    requests.map(|seen| seen.http.query("resource").expect("a resource")).collect()
}

/// The scopes that the token service was asked for, in order.
fn scopes(emulator: &Emulator) -> Vec<String> {
    let requests = emulator.entra().requests().into_iter();
    requests.map(|seen| seen.field("scope").expect("a scope").to_string()).collect()
}

/// Connects, and is the user that was derived.
#[track_caller]
fn assert_connects(session: &mut Session, command: &[&str], role: &str) {
    let line = session.one(command);
    assert_eq!((line.status(), line.get("conn"), line.get("user")), ("PGAAD_OK", "OK", role), "{line:?}");
    assert_eq!(session.one(&["query", "select current_user"]).get("value"), role);
}

#[test]
fn a_token_with_a_name_needs_no_second_one() {
    let emulator = &ground().emulator;
    let (az, azd) = (Tool::az(emulator), Tool::azd(emulator));
    let shell = Endpoint::start(emulator, CloudShell);
    for (driver, role) in [
        (with_tool("azure_cli", &az), DEVELOPER.role),
        (with_tool("azure_developer_cli", &azd), DEVELOPER_TWO.role),
        (nameless("managed_identity").envs(shell.env()), DEVELOPER.role),
        (with_tool("default", &azd), DEVELOPER_TWO.role),
    ] {
        let mut session = driver.session();
        assert_connects(&mut session, &["connect", ""], role);
        session.ask(&["default"]);
        assert_connects(&mut session, &["client_params", "0", "application_name", "x"], role);
        assert_eq!(session.one(&["get_user"]).get("user"), role);
        assert_eq!(session.one(&["options", ""]).options()["user"], role);
    }
    let asked = [az.calls().len(), azd.calls().len(), shell.front().counters().requests];
    assert_eq!(asked, [1, 2, 1]);
}

#[test]
fn a_user_who_is_named_is_used_as_it_is_and_nobody_asks_for_another() {
    let ground = ground();
    let imds = Endpoint::start(&ground.emulator, Imds);
    let mut session = on_machine(&imds, Some(&IDENTITY_ONE)).session();
    session.ask(&["default"]);
    let role = IDENTITY_ONE.role;
    for command in [
        &["connect", "user=identity-one"][..],
        &["connect", "postgresql://identity-one@localhost/"],
        &["client_params", "0", "user", role],
        &["params", "1", "dbname", "user=identity-one"],
    ] {
        assert_connects(&mut session, command, role);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("services");
    std::fs::write(&file, "[shop]\nuser=identity-one\n").expect("a file");
    session.ask(&["setenv", "PGSERVICEFILE", &file.display().to_string()]);
    assert_connects(&mut session, &["connect", "service=shop"], role);
    session.ask(&["setenv", "PGUSER", role]);
    assert_connects(&mut session, &["connect", ""], role);
    assert_eq!(session.one(&["options", ""]).options()["user"], role);
    // Whoever is named wrong is refused by the server; nobody guesses another.
    let line = session.one(&["connect", "user=identity-two"]);
    assert_eq!((line.status(), line.get("conn"), line.get("user")), ("PGAAD_OK", "BAD", "identity-two"));
    // It is asked once more with a fresh token, of the same resource.
    assert_eq!(resources(&imds), [DATABASE, DATABASE]);
    // That variable says who connects, not who the identity is.
    session.ask(&["setenv", "PGUSER", "somebody"]);
    assert_eq!(session.one(&["get_user"]).get("user"), role);
    assert_eq!(resources(&imds), [DATABASE, DATABASE, MANAGEMENT]);

    // The original backend's variable is a name, too.
    let driver = signed_in(&ground.emulator);
    let renamed = ground.emulator.env(&APP_ONE).into_iter().map(|(name, value)| {
        let theirs = ["TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"].iter().any(|key| name.ends_with(key));
        (if theirs { name.replace("PGAAD_", "DB_SP_") } else { name }, value)
    });
    let without = ["PGAAD_TENANT_ID", "PGAAD_CLIENT_ID", "PGAAD_CLIENT_SECRET"];
    let driver = without.iter().fold(driver, |driver, name| driver.without(name)).envs(renamed);
    let variables: [(&str, OsString); 4] = [
        ("DB_HOST", "localhost".into()),
        ("DB_PORT", ground.postgres.port().to_string().into()),
        ("DB_USERNAME", APP_ONE.role.into()),
        ("PGSSLROOTCERT", ground.postgres.ca_file().into()),
    ];
    let driver = variables.into_iter().fold(driver, |driver, (name, value)| driver.env(name, value));
    assert_connects(&mut driver.session(), &["connect", "dbname=postgres"], APP_ONE.role);
}

#[test]
fn a_user_assigned_identity_is_named_by_a_second_token_that_is_kept() {
    let imds = Endpoint::start(&ground().emulator, Imds);
    let mut session = on_machine(&imds, Some(&IDENTITY_ONE)).session();
    session.ask(&["default"]);
    let role = IDENTITY_ONE.role;
    for command in
        [&["connect", ""][..], &["client_connect", ""], &["client_params", "0", "dbname", "postgres"]]
    {
        assert_connects(&mut session, command, role);
        assert_eq!(resources(&imds), [DATABASE, MANAGEMENT]);
    }
    assert_eq!(session.one(&["get_user"]).get("user"), role);
    assert_eq!(resources(&imds), [DATABASE, MANAGEMENT]);
    // The second token goes nowhere.
    let [database, management] = &imds.front().tokens()[..] else { panic!("two tokens") };
    assert_eq!(session.one(&["get_token"]).get("token"), database);
    assert_eq!(session.one(&["options", ""]).options()["password"], *database);
    assert!(ground().uses_of(management).is_empty() && ground().uses_of(database).len() == 3);

    session.ask(&["invalidate"]);
    assert_connects(&mut session, &["connect", ""], role);
    assert_eq!(resources(&imds), [DATABASE, MANAGEMENT, DATABASE, MANAGEMENT]);
    // For the default client that was another client's first use; for one of the program's own it is the same.
    session.ask(&["new", ""]);
    for n in 3..5 {
        assert_connects(&mut session, &["client_connect", ""], role);
        assert_connects(&mut session, &["client_connect", ""], role);
        assert_eq!(resources(&imds), [DATABASE, MANAGEMENT].repeat(n));
        session.ask(&["invalidate"]);
    }
    // Each identity has its own name.
    session.ask(&["new", &format!("client_id={}", IDENTITY_TWO.client_id)]);
    assert_connects(&mut session, &["client_connect", ""], IDENTITY_TWO.role);
    for (key, value) in
        [("object_id", IDENTITY_TWO.object_id), ("resource_id", IDENTITY_TWO.resource_id.expect("its id"))]
    {
        session.ask(&["new", &conninfo(&[(key, value)])]);
        assert_connects(&mut session, &["client_connect", ""], IDENTITY_TWO.role);
    }
    assert_connects(&mut session, &["connect", ""], role);
}

#[test]
fn the_only_identity_of_a_machine_is_named_in_the_chain_too() {
    let imds = Endpoint::start(&ground().emulator, Imds);
    imds.configure(|host| (host.system, host.user_assigned) = (None, vec![&IDENTITY_TWO]));
    let mut session = nameless("default").envs(imds.env()).session();
    assert_connects(&mut session, &["connect", ""], IDENTITY_TWO.role);
    assert_eq!(imds.front().tokens().len(), 2);
}

#[test]
fn a_workload_identity_is_named_by_a_second_token_of_entras() {
    let ground = ground();
    let emulator = Emulator::start();
    for auth in ["workload_identity", "default"] {
        let pod = nameless(auth).envs(emulator.workload_env(IDENTITY_ONE.client_id));
        let mut session = pod.env("PGAAD_CA_FILE", emulator.ca_file()).session();
        session.ask(&["default"]);
        let before = scopes(&emulator).len();
        for _ in 0..2 {
            assert_eq!(session.one(&["get_user"]).get("user"), IDENTITY_ONE.role);
            let new = &scopes(&emulator)[before..];
            assert_eq!(new, [DATABASE, MANAGEMENT].map(|resource| format!("{resource}/.default")), "{auth}");
        }
    }
    let requests = emulator.entra().requests();
    assert!(requests.iter().all(|seen| seen.field("client_id") == Some(IDENTITY_ONE.client_id)));
    let mut session = nameless("").envs(ground.emulator.workload_env(IDENTITY_ONE.client_id)).session();
    session.ask(&["new", "auth=workload_identity"]);
    assert_connects(&mut session, &["client_connect", ""], IDENTITY_ONE.role);
}

#[test]
fn who_has_no_name_is_told_what_to_set() {
    let emulator = Emulator::start();
    let imds = Endpoint::start(&emulator, Imds);
    let machine = on_machine(&imds, None);
    let pod = nameless("workload_identity").envs(emulator.workload_env(APP_ONE.client_id));
    let service = nameless("client_secret").envs(emulator.env(&APP_ONE));
    let asked = || (emulator.entra().counters().requests, imds.front().counters().requests);
    for (driver, reason, requests) in [
        (machine, "vm-one", (0, 2)),
        (pod.env("PGAAD_CA_FILE", emulator.ca_file()), "no name", (2, 0)),
        // Its tokens name it nowhere, so that none is asked for in vain.
        (service, "no name", (0, 0)),
    ] {
        let before = asked();
        let mut session = driver.session();
        session.ask(&["default"]);
        let commands: [&[&str]; 5] =
            [&["get_user"], &["connect", ""], &["client_connect", ""], &["connstring", ""], &["params", "0"]];
        for command in commands {
            let line = session.one(command);
            assert_fails(&line, "PGAAD_CONFIG", &["No user", reason, "Set user", "PGUSER"]);
            assert!(!line.errmsg().contains("eyJ"), "{line:?}");
        }
        let after = asked();
        assert_eq!((after.0 - before.0, after.1 - before.1), requests, "{reason}");
        // The identity itself is fine.
        assert_eq!(session.one(&["get_token"]).status(), "PGAAD_OK");
    }
}

#[test]
fn a_second_token_that_is_refused_says_why_there_is_no_user() {
    let emulator = Emulator::start();
    let imds = Endpoint::start(&emulator, Imds);
    let pod = nameless("workload_identity").envs(emulator.workload_env(IDENTITY_ONE.client_id));
    let pod = pod.env("PGAAD_CA_FILE", emulator.ca_file());
    let machine = on_machine(&imds, Some(&IDENTITY_ONE)).env("PGAAD_TIMEOUT_MS", "3000");
    type Row<'a> = (&'a Driver, Fault, &'a str, &'a [&'a str]);
    let rows: [Row<'_>; 6] = [
        (
            &pod,
            Fault::status(400, "invalid_grant", 65001),
            "PGAAD_CONFIG",
            &["No user", "AADSTS65001", "PGUSER"],
        ),
        (
            &pod,
            Fault::status(401, "invalid_client", 53003),
            "PGAAD_CONFIG",
            &["No user", "AADSTS53003", "PGUSER"],
        ),
        (&pod, Fault::html(200), "PGAAD_CONFIG", &["No user", "PGUSER"]),
        (
            &machine,
            Fault::status_without_code(400, "invalid_resource"),
            "PGAAD_CONFIG",
            &["No user", "made to order", "PGUSER"],
        ),
        // What may pass is told as what it is.
        (&machine, Fault::status_without_code(429, "x").retry_after(600), "PGAAD_THROTTLED", &["600 s"]),
        (
            &pod,
            Fault::status(429, "temporarily_unavailable", 90055).retry_after(60),
            "PGAAD_THROTTLED",
            &["60 s"],
        ),
    ];
    for (driver, fault, status, parts) in rows {
        for faults in [emulator.entra().faults(), imds.front().faults()] {
            faults.clear();
            faults.next(Fault::none());
            faults.always(fault.clone());
        }
        let mut session = driver.session();
        session.ask(&["default"]);
        let refused = session.one(&["get_user"]);
        assert_fails(&refused, status, parts);
        assert_fails(&session.one(&["connect", ""]), status, parts);
        // Whoever names the user needs no such token.
        assert_eq!(session.one(&["options", "user=x"]).status(), "PGAAD_OK");
    }
}

#[test]
fn names_are_found_in_the_claims_that_have_them_in_order() {
    let emulator = Emulator::start();
    let id =
        |provider: &str, name: &str| format!("/subscriptions/s/resourceGroups/g/providers/{provider}/{name}");
    let identity = id("Microsoft.ManagedIdentity/userAssignedIdentities", "shop-web");
    let shouted = id("MICROSOFT.MANAGEDIDENTITY/USERASSIGNEDIDENTITIES", "Shop-Web");
    let machine = id("Microsoft.Compute/virtualMachines", "vm-7");
    let foreign = id("Evil.ManagedIdentity/userAssignedIdentities", "admin");
    let rows: [(Pairs<'_>, Result<&str, &str>); 10] = [
        (&[("upn", "ann@x.test"), ("preferred_username", "b"), ("unique_name", "c")], Ok("ann@x.test")),
        (&[("preferred_username", "bob@x.test"), ("unique_name", "c")], Ok("bob@x.test")),
        (&[("unique_name", "live.com#cid@x.test")], Ok("live.com#cid@x.test")),
        (&[("upn", ""), ("unique_name", "dan@x.test")], Ok("dan@x.test")),
        (&[("xms_mirid", &identity)], Ok("shop-web")),
        (&[("xms_mirid", &shouted)], Ok("Shop-Web")),
        (&[("upn", "eve@x.test"), ("xms_mirid", &identity)], Ok("eve@x.test")),
        (&[("xms_mirid", &machine)], Err("vm-7")),
        (&[("xms_mirid", &foreign)], Err("No user")),
        (&[("name", "Ann"), ("email", "ann@x.test")], Err("no name")),
    ];
    for (claims, wanted) in rows {
        let token = emulator.entra().mint_with(&APP_ONE, |token| {
            token.extend(claims.iter().map(|&(name, value)| (name.into(), value.into())));
        });
        let mut session = Driver::new().session();
        session.ask(&["new_callback", "", &format!("token 0 {token}")]);
        let line = session.one(&["get_user"]);
        match wanted {
            Ok(user) => assert_eq!((line.status(), line.get("user")), ("PGAAD_OK", user), "{claims:?}"),
            Err(part) => assert_fails(&line, "PGAAD_CONFIG", &["No user", part, "PGUSER"]),
        }
    }
}

#[test]
fn nobody_waits_for_a_name_longer_than_for_a_token() {
    let emulator = Emulator::start();
    let imds = Endpoint::start(&emulator, Imds);
    let gate = Gate::new();
    imds.front().faults().next(Fault::none());
    imds.front().faults().next(Fault::gate(&gate));
    let mut session = on_machine(&imds, Some(&IDENTITY_ONE)).session();
    let line = session.one(&["connect", "connect_timeout=1"]);
    assert_fails(&line, "PGAAD_TIMEOUT", &["connect_timeout"]);
    // The fetch goes on, and a later call finds what it brings.
    gate.open();
    session.ask(&["default"]);
    assert_eq!(session.one(&["get_user"]).get("user"), IDENTITY_ONE.role);
    assert_eq!(resources(&imds), [DATABASE, MANAGEMENT]);
}

#[test]
fn the_name_lives_as_long_as_its_token() {
    let emulator = Emulator::start();
    let imds = Endpoint::start(&emulator, Imds);
    let driver = on_machine(&imds, Some(&IDENTITY_ONE)).env("LD_PRELOAD", shim("clock"));
    let mut session = driver.session();
    session.ask(&["default"]);
    for _ in 0..2 {
        assert_eq!(session.one(&["get_user"]).get("user"), IDENTITY_ONE.role);
    }
    assert_eq!(resources(&imds), [DATABASE, MANAGEMENT]);
    session.ask(&["suspend", "86200"]);
    assert_eq!(session.one(&["get_user"]).get("user"), IDENTITY_ONE.role);
    assert_eq!(resources(&imds), [DATABASE, MANAGEMENT, DATABASE, MANAGEMENT]);
}

#[test]
fn a_failure_to_get_the_first_token_is_told_as_what_it_is() {
    let az = Tool::az(&ground().emulator);
    az.next(Printed::refused(50076, "You must use MFA."));
    let mut session = with_tool("azure_cli", &az).session();
    session.ask(&["new", ""]);
    assert_fails(&session.one(&["get_user"]), "PGAAD_DENIED", &["AADSTS50076", "az login"]);
    session.ask(&["invalidate"]);
    assert_eq!(session.one(&["get_user"]).get("user"), DEVELOPER.role);
    session.ask(&["new", "auth=off"]);
    assert_fails(&session.one(&["get_user"]), "PGAAD_DISABLED", &["auth=off"]);
}
