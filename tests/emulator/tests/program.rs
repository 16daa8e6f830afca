//! The emulator as a program: what it prints, what it runs, and that nothing stays behind.

mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{private_dir, processes_of, wait_until_gone};
use emulator::{APP_ONE, Imds};

/// The program, and the variables it prints.
fn program(args: &[&str]) -> (std::process::Child, HashMap<String, String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emulator"));
    let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let variables = lines.take_while(|line| !line.starts_with('#')).filter_map(|line| {
        let (name, value) = line.strip_prefix("export ")?.split_once('=').unwrap();
        Some((name.to_owned(), value.trim_matches('\'').to_owned()))
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

#[test]
fn what_the_caller_has_set_does_not_count() {
    let names = [
        "PGAAD_AUTH",
        "PGAAD_IMDS_HOST",
        "PGAAD_CLIENT_SECRET_FILE",
        "PGAAD_PROXY",
        "PGUSER",
        "PGHOSTADDR",
        "PGPASSWORD",
        "PGSERVICE",
        "DB_SP_CLIENT_ID",
        "AZURE_CLIENT_ID",
        "AZURE_POD_IDENTITY_AUTHORITY_HOST",
        "AZURE_TOKEN_CREDENTIALS",
        "AZURESUBSCRIPTION_CLIENT_ID",
        "IDENTITY_ENDPOINT",
        "IMDS_ENDPOINT",
        "MSI_ENDPOINT",
        "SYSTEM_OIDCREQUESTURI",
        "SYSTEM_ACCESSTOKEN",
        "ACTIONS_ID_TOKEN_REQUEST_URL",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "no_proxy",
    ];
    let command = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).envs(names.map(|name| (name, "mine"))).env("EDITOR", "mine").stdin(Stdio::null());
        let done = command.output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    let emulator = env!("CARGO_BIN_EXE_emulator");
    for options in [&["--no-postgres"][..], &["--no-postgres", "--managed-identity"]] {
        let run = command(emulator, &[options, &["run", "--", "env"]].concat());
        // Standard input has ended already, and so does the program.
        let print = command(emulator, &[options, &["--until-eof"]].concat());
        // As in a second terminal: "set -eu" for a complaint to be seen.
        let pasted = command("sh", &["-c", &format!("set -eu\n{print}env")]);
        for env in [run, pasted] {
            let value = |name: &str| env.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            let mine: Vec<_> = env.lines().filter(|line| line.ends_with("=mine")).collect();
            assert_eq!(mine, ["EDITOR=mine"], "{options:?}");
            let imds = value("AZURE_POD_IDENTITY_AUTHORITY_HOST").unwrap();
            assert!(imds.starts_with("http://127.0.0.1:"), "{imds}");
            let is_managed = options.len() == 2;
            assert_eq!(imds != Imds::NONE, is_managed, "{imds}");
            assert_eq!(value("PGAAD_AUTH"), is_managed.then_some("managed_identity"));
        }
    }
}
