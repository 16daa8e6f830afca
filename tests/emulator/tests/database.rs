//! A real server lets in whom it should, and nothing of it stays behind.

mod common;

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{ask, login, login_by_oauth, private_dir, processes_of, psql};
use emulator::serde_json::json;
use emulator::{
    APP_DISABLED, APP_ONE, APP_QUOTED, APP_THREE, APP_TWO, DEVELOPER, Emulator, Fault, Gate, LAPTOP_PASSWORD,
    LAPTOP_ROLE, PASSWORDS, POSTGRESQL, PRINCIPALS, Postgres, RESOURCES, TENANT_TWO,
};

/// How a token is shown to a server, and what a client hears of one that is refused.
struct Way {
    login: fn(&Postgres, &str, &str) -> Result<String, String>,
    complaint: &'static str,
}

#[test]
fn tokens_open_the_database_and_nothing_else_does() {
    let emulator = Emulator::start();
    let way = Way { login, complaint: "LDAP authentication failed for user" };
    only_good_tokens_open(&emulator, &Postgres::start(&emulator), &way);
}

#[test]
fn tokens_open_a_postgresql_18_by_oauth_and_nothing_else_does() {
    let emulator = Emulator::start();
    let login = |server: &Postgres, role: &str, token: &str| {
        let user = login_by_oauth(server, role, token, "host=localhost sslmode=verify-full")?;
        Ok(user.strip_prefix("oauth:").expect(&user).to_owned())
    };
    let way = Way { login, complaint: "OAuth bearer authentication failed for user" };
    only_good_tokens_open(&emulator, &Postgres::start_18(&emulator), &way);
}

fn only_good_tokens_open(emulator: &Emulator, server: &Postgres, way: &Way) {
    let entra = emulator.entra();
    let login = way.login;
    for app in [&APP_ONE, &APP_THREE, &APP_QUOTED] {
        let token = ask(emulator, app, &[]).token();
        assert_eq!(login(server, app.role, &token).as_deref(), Ok(app.role));
        let bind = server.binds().pop().unwrap();
        assert_eq!((bind.role.as_str(), bind.ok(), bind.length), (app.role, true, token.len()));
    }
    let sized = |size| {
        entra.faults().next(Fault::token_size(size));
        ask(emulator, &APP_ONE, &[]).token()
    };
    for size in [1500, 4096] {
        assert_eq!(login(server, "app-one", &sized(size)).as_deref(), Ok("app-one"));
    }

    let refused = |role: &str, token: &str, why: &str| {
        let complaint = login(server, role, token).unwrap_err();
        assert!(complaint.contains(way.complaint), "{complaint}");
        let bind = server.binds().pop().unwrap();
        assert!(bind.refused.as_ref().is_some_and(|refused| refused.contains(why)), "{bind:?}");
    };
    let good = entra.mint(&APP_ONE);
    let with = |name: &'static str, value| {
        entra.mint_with(&APP_ONE, |claims| drop(claims.insert(name.into(), value)))
    };
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    refused("app-two", &good, "for role app-one");
    refused("app-two", &entra.mint(&APP_THREE), "for role app-three");
    refused("app-disabled", &entra.mint(&APP_DISABLED), "is disabled");
    refused("app-one", &with("exp", json!(now())), "exp is in the past");
    refused("app-one", &with("nbf", json!(now() + 60)), "in the future");
    refused("app-one", &with("aud", json!("https://management.azure.com")), "aud is");
    refused("app-one", &with("oid", json!(APP_TWO.object_id)), "oid is");
    refused("app-one", &with("tid", json!(APP_THREE.tenant.id)), "tid is");
    refused("app-one", &with("iss", json!("https://sts.windows.net/x/")), "iss is");
    refused("app-one", &with("idtyp", json!("user")), "idtyp is");
    refused("app-one", "a-password", "not three parts");
    refused("app-one", &Emulator::start().entra().mint(&APP_ONE), "kid");
    let (body, signature) = good.rsplit_once('.').unwrap();
    let changed = if signature.starts_with('A') { "B" } else { "A" };
    refused("app-one", &format!("{body}.{changed}{}", &signature[1..]), "signature");
    entra.faults().next(Fault::expired_token());
    refused("app-one", &ask(emulator, &APP_ONE, &[]).token(), "exp is in the past");

    assert_eq!(login(server, "app-one", &good).as_deref(), Ok("app-one"));
    server.revoke_all();
    refused("app-one", &good, "revoked");
    assert_eq!(login(server, "app-one", &entra.mint(&APP_ONE)).as_deref(), Ok("app-one"));

    server.set_audience(RESOURCES[1].id);
    refused("app-one", &entra.mint(&APP_ONE), "aud is");
}

#[test]
fn each_principal_opens_its_own_role_only() {
    let emulator = Emulator::start();
    let server = Postgres::start(&emulator);
    let token = |who| emulator.entra().token_of(who, POSTGRESQL, 3600);
    for who in PRINCIPALS {
        assert_eq!(login(&server, who.role, &token(who)).as_deref(), Ok(who.role));
        let other = PRINCIPALS.iter().find(|other| other.role != who.role).unwrap();
        for role in [other.role, APP_ONE.role] {
            assert!(login(&server, role, &token(who)).is_err(), "{} as {role}", who.role);
        }
    }
    let short = emulator.entra().token_of(&DEVELOPER, POSTGRESQL, -1);
    let management = emulator.entra().token_of(&DEVELOPER, "https://management.azure.com", 3600);
    for (token, why) in [(short, "exp is in the past"), (management, "aud is")] {
        assert!(login(&server, DEVELOPER.role, &token).is_err());
        let bind = server.binds().pop().unwrap();
        assert!(bind.refused.as_ref().is_some_and(|refused| refused.contains(why)), "{bind:?}");
    }
}

#[test]
fn the_doors_of_the_server() {
    let emulator = Emulator::start();
    let server = Postgres::start(&emulator);
    let token = emulator.entra().mint(&APP_ONE);
    let via = |conninfo: &str| psql(&server, "app-one", &token, conninfo);

    assert_eq!(login(&server, LAPTOP_ROLE, LAPTOP_PASSWORD).as_deref(), Ok(LAPTOP_ROLE));
    assert!(login(&server, LAPTOP_ROLE, &token).unwrap_err().contains("password authentication failed"));
    assert!(server.binds().is_empty());

    for name in ["db.pgaad.test", "anything.postgres.database.azure.com", "pgaad.postgres.cosmos.azure.com"] {
        let conninfo = format!("host={name} hostaddr=127.0.0.1 sslmode=verify-full");
        assert_eq!(via(&conninfo).as_deref(), Ok("app-one"), "{name}");
    }
    assert!(
        via("host=elsewhere.example hostaddr=127.0.0.1 sslmode=verify-full")
            .unwrap_err()
            .contains("elsewhere")
    );
    let theirs = emulator.ca_file().display();
    let complaint = via(&format!("host=localhost sslmode=verify-full sslrootcert={theirs}")).unwrap_err();
    assert!(complaint.contains("certificate verify failed"), "{complaint}");

    let socket = server.socket_dir();
    let local = |peer: &str| via(&format!("host={} requirepeer={peer}", socket.display()));
    assert_eq!(local(&server.owner()).as_deref(), Ok("app-one"));
    assert!(local("nobody-else").unwrap_err().contains("requirepeer"));

    assert!(via("host=localhost sslmode=disable").unwrap_err().contains("no encryption"));
    server.allow_plaintext(true).unwrap();
    assert_eq!(via("host=localhost sslmode=disable").as_deref(), Ok("app-one"));
    server.allow_plaintext(false).unwrap();
    assert!(via("host=localhost sslmode=disable").unwrap_err().contains("no encryption"));
    assert!(server.wait_for_log(|log| log.contains("no encryption"), emulator::PATIENCE));

    let gate = Gate::new();
    server.hold_logins(Some(&gate));
    let before = server.binds().len();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| via("host=localhost sslmode=verify-full"));
        gate.wait_for_arrivals(1);
        assert_eq!(server.binds().len(), before);
        gate.open();
        assert_eq!(waiting.join().unwrap().as_deref(), Ok("app-one"));
    });
    assert!(server.wait_for_binds(|binds| binds.len() == before + 1, Duration::ZERO));
}

#[test]
fn the_doors_of_a_postgresql_18() {
    let emulator = Emulator::start();
    let server = Postgres::start_18(&emulator);
    let token = emulator.entra().mint(&APP_ONE);
    let by_oauth = |conninfo: &str| login_by_oauth(&server, "app-one", &token, conninfo);
    let by_password = |conninfo: &str| psql(&server, "app-one", &token, conninfo);

    // As a password the token is nothing, but in the database that wants passwords.
    let complaint = by_password("host=localhost sslmode=verify-full").unwrap_err();
    assert!(complaint.contains("authentication method") || complaint.contains("SASL"), "{complaint}");
    let passwords = format!("host=localhost sslmode=verify-full dbname={PASSWORDS}");
    assert!(by_password(&passwords).unwrap_err().contains("password authentication failed"));
    server.set_password("app-one", &token).unwrap();
    assert_eq!(by_password(&passwords).as_deref(), Ok("app-one"));
    assert!(server.binds().is_empty());
    assert_eq!(login(&server, LAPTOP_ROLE, LAPTOP_PASSWORD).as_deref(), Ok(LAPTOP_ROLE));

    for name in ["db.pgaad.test", "anything.postgres.database.azure.com"] {
        let conninfo = format!("host={name} hostaddr=127.0.0.1 sslmode=verify-full");
        assert_eq!(by_oauth(&conninfo).as_deref(), Ok("oauth:app-one"), "{name}");
    }
    let of_another = format!("{}/{}/v2.0", emulator.authority(), TENANT_TWO.id);
    let complaint = by_oauth(&format!("host=localhost oauth_issuer={of_another}")).unwrap_err();
    assert!(complaint.contains("incompatible with oauth_issuer"), "{complaint}");
    assert!(by_oauth("host=localhost sslmode=disable").unwrap_err().contains("no encryption"));

    let gate = Gate::new();
    server.hold_logins(Some(&gate));
    let before = server.binds().len();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| by_oauth("host=localhost sslmode=verify-full"));
        gate.wait_for_arrivals(1);
        assert_eq!(server.binds().len(), before);
        gate.open();
        assert_eq!(waiting.join().unwrap().as_deref(), Ok("oauth:app-one"));
    });
    let dir = private_dir(server.ca_file());
    drop(server);
    assert!(!dir.exists() && processes_of(&dir).is_empty());
}

#[test]
fn nothing_is_left_after_drop() {
    let emulator = Emulator::start();
    let server = Postgres::start(&emulator);
    let (first, second) = (private_dir(emulator.ca_file()), private_dir(server.ca_file()));
    assert!(first.exists() && processes_of(&second).len() > 3);
    let gate = Gate::new();
    server.hold_logins(Some(&gate));
    let token = emulator.entra().mint(&APP_ONE);
    thread::scope(|scope| {
        // Not even a login in progress keeps it from ending.
        let (role, host) = (server.env("app-one"), server.socket_dir());
        let waiting = scope.spawn(move || {
            let mut psql = Command::new("/usr/bin/psql");
            psql.args(["-Xw", "-h"]).arg(host).args(["-c", "select 1"]).envs(role).env("PGPASSWORD", token);
            psql.stderr(Stdio::null()).status().unwrap().success()
        });
        gate.wait_for_arrivals(1);
        drop(server);
        assert!(!waiting.join().unwrap());
    });
    drop(emulator);
    for dir in [first, second] {
        assert!(!dir.exists(), "{}", dir.display());
        assert_eq!(processes_of(&dir), Default::default());
    }
}
