//! A real server lets in whom it should, and nothing stays behind.

mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{ask, login, private_dir, processes_of, psql, wait_until_gone};
use emulator::serde_json::json;
use emulator::{
    APP_DISABLED, APP_ONE, APP_QUOTED, APP_THREE, APP_TWO, DEVELOPER, Emulator, Fault, Gate, LAPTOP_PASSWORD,
    LAPTOP_ROLE, POSTGRESQL, PRINCIPALS, Postgres, RESOURCES,
};

#[test]
fn tokens_open_the_database_and_nothing_else_does() {
    let emulator = Emulator::start();
    let server = Postgres::start(&emulator);
    let entra = emulator.entra();
    for app in [&APP_ONE, &APP_THREE, &APP_QUOTED] {
        let token = ask(&emulator, app, &[]).token();
        assert_eq!(login(&server, app.role, &token).as_deref(), Ok(app.role));
        let bind = server.binds().pop().unwrap();
        assert_eq!((bind.role.as_str(), bind.ok(), bind.length), (app.role, true, token.len()));
    }
    let sized = |size| {
        entra.faults().next(Fault::token_size(size));
        ask(&emulator, &APP_ONE, &[]).token()
    };
    for size in [1500, 4096] {
        assert_eq!(login(&server, "app-one", &sized(size)).as_deref(), Ok("app-one"));
    }

    let refused = |role: &str, token: &str, why: &str| {
        let complaint = login(&server, role, token).unwrap_err();
        assert!(complaint.contains("LDAP authentication failed for user"), "{complaint}");
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
    refused("app-one", "a password", "not three parts");
    refused("app-one", &Emulator::start().entra().mint(&APP_ONE), "kid");
    let (body, signature) = good.rsplit_once('.').unwrap();
    let changed = if signature.starts_with('A') { "B" } else { "A" };
    refused("app-one", &format!("{body}.{changed}{}", &signature[1..]), "signature");
    entra.faults().next(Fault::expired_token());
    refused("app-one", &ask(&emulator, &APP_ONE, &[]).token(), "exp is in the past");

    assert_eq!(login(&server, "app-one", &good).as_deref(), Ok("app-one"));
    server.revoke_all();
    refused("app-one", &good, "revoked");
    assert_eq!(login(&server, "app-one", &entra.mint(&APP_ONE)).as_deref(), Ok("app-one"));

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

/// The program, and the variables it prints.
fn program(args: &[&str]) -> (std::process::Child, HashMap<String, String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emulator"));
    let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let variables = lines.take_while(|line| !line.starts_with('#')).map(|line| {
        let (name, value) = line.strip_prefix("export ").unwrap().split_once('=').unwrap();
        (name.to_owned(), value.trim_matches('\'').to_owned())
    });
    let variables = variables.collect();
    (child, variables)
}

fn dirs(variables: &HashMap<String, String>) -> [PathBuf; 2] {
    ["PGAAD_CA_FILE", "PGSSLROOTCERT"].map(|name| private_dir(variables[name].as_ref()))
}

fn send(signal: &str, pid: u32) {
    assert!(Command::new("/bin/kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn the_program_leaves_nothing_however_it_ends() {
    for signal in ["-INT", "-TERM", "-KILL", "eof"] {
        let (mut child, variables) = program(&["--until-eof"]);
        assert_eq!(variables["PGUSER"], "app-one");
        assert_eq!(variables["PGAAD_CLIENT_ID"], APP_ONE.client_id);
        let dirs = dirs(&variables);
        assert!(dirs.iter().all(|dir| dir.exists()));
        assert!(processes_of(&dirs[1]).len() > 3);
        match signal {
            "eof" => drop(child.stdin.take()),
            _ => send(signal, child.id()),
        }
        let status = child.wait().unwrap();
        assert_eq!(status.success(), signal != "-KILL", "{signal}: {status}");
        dirs.iter().for_each(|dir| {
            if signal == "-KILL" {
                wait_until_gone(dir);
            }
            assert!(!dir.exists() && processes_of(dir).is_empty(), "{signal}: {}", dir.display());
        });
    }
}

#[test]
fn a_command_runs_with_the_variables() {
    let script = r#"
        test "$PGAAD_CLIENT_SECRET" = 'Two8Q~b.c_d-e1234567890abcdefghijklmnop' || exit 1
        PGPASSWORD=$(curl -sf "$EMULATOR_CONTROL/token/$PGAAD_CLIENT_ID") || exit 2
        export PGPASSWORD
        test "$(PGSSLMODE=verify-full psql -XAtc 'select current_user')" = app-two || exit 3
        exit 42"#;
    let run =
        |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_emulator")).args(args).status().unwrap().code();
    assert_eq!(run(&["--app", "app-two", "run", "--", "sh", "-c", script]), Some(42));
    assert_eq!(run(&["--no-postgres", "run", "--", "sh", "-c", "kill -TERM $$"]), Some(128 + 15));
    assert_eq!(run(&["--no-postgres", "run", "--", "/nonexistent"]), Some(1));
    assert_eq!(run(&["nonsense"]), Some(2));
}

#[test]
fn a_command_is_told_of_signals_and_of_our_death() {
    let script = r#"
        sleep 60 >/dev/null 2>&1 &
        trap "kill $!; exit 9" TERM
        echo "export PGAAD_CA_FILE='$PGAAD_CA_FILE'"; echo "export PID='$$'"; echo '#'
        wait"#;
    for signal in ["-TERM", "-KILL"] {
        let (mut child, variables) = program(&["--no-postgres", "run", "--", "sh", "-c", script]);
        send(signal, child.id());
        let status = child.wait().unwrap();
        assert_eq!(status.code(), (signal == "-TERM").then_some(9));
        wait_until_gone(&private_dir(variables["PGAAD_CA_FILE"].as_ref()));
        let command = PathBuf::from(format!("/proc/{}", variables["PID"]));
        let deadline = std::time::Instant::now() + emulator::PATIENCE;
        while command.join("exe").exists() {
            assert!(std::time::Instant::now() < deadline, "the command lives");
            thread::sleep(Duration::from_millis(10)); // nobody tells a stranger of the end of a process
        }
    }
}
