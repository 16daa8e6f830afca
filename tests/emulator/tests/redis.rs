//! A real Redis lets in whom it should, does what tests ask of it, and leaves nothing behind.

mod common;

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{private_dir, processes_of, wait_until_gone};
use emulator::{Redis, RedisLogin};

/// What redis-cli prints for a URL.
fn ask(url: &str, arguments: &[&str]) -> String {
    // redis-cli takes no name before the : for a user of that name.
    let url = url.replace("//:", "//default:");
    let (url, socket) = match url.split_once("unix://") {
        Some((_, rest)) => ("redis://localhost", Some(&rest[rest.rfind("@/").map_or(0, |at| at + 1)..])),
        None => (url.as_str(), None),
    };
    let mut command = Command::new("redis-cli");
    command.args(["--no-auth-warning", "-u", url]).args(socket.iter().flat_map(|socket| ["-s", socket]));
    let done = command.args(arguments).output().expect("redis-cli runs");
    let text = [done.stdout, done.stderr].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}

#[test]
fn it_lets_in_who_has_the_login() {
    let open = Redis::start();
    for (url, more) in [
        (open.url(), vec![]),
        (open.unix_url(), vec![]),
        (open.tls_url(), vec!["--cacert", open.ca_file().to_str().unwrap()]),
    ] {
        assert_eq!(ask(&url, &[&more[..], &["SET", "k", "v"]].concat()), "OK", "{url}");
    }
    assert_eq!(open.keys(), ["k"]);
    let stranger = open.stranger_ca_file().to_str().unwrap();
    assert!(ask(&open.tls_url(), &["--cacert", stranger, "GET", "k"]).contains("certificate verify failed"));

    let password = Redis::start_with(RedisLogin::Password);
    assert_eq!(ask(&password.url(), &["SET", "k", "v"]), "OK");
    let without = format!("redis://localhost:{}", password.port());
    assert!(ask(&without, &["GET", "k"]).contains("NOAUTH"));

    let user = Redis::start_with(RedisLogin::User);
    assert_eq!(ask(&user.url(), &["SET", "pgaad:1:k", "v"]), "OK");
    assert!(ask(&user.url(), &["SET", "k", "v"]).contains("NOPERM"));
    assert!(ask(&user.url(), &["EVAL", "return 1", "0"]).contains("NOPERM"));
    assert!(ask(&format!("redis://localhost:{}", user.port()), &["GET", "pgaad:1:k"]).contains("NOAUTH"));
}

#[test]
fn it_is_filled_killed_and_counted() {
    let server = Redis::start();
    server.fill();
    assert!(ask(&server.url(), &["SET", "k", "v"]).contains("OOM"));
    server.make_room();
    assert_eq!(ask(&server.url(), &["SET", "k", "v"]), "OK");
    assert_eq!((server.connections(), server.clients()), (2, 0));
    assert_eq!(server.commands()["set"], 1);
    server.crash();
    assert!(ask(&server.url(), &["GET", "k"]).contains("Connection refused"));
    server.restart();
    assert_eq!(ask(&server.url(), &["GET", "k"]), "");
    assert_eq!((server.connections(), server.keys()), (1, vec![]));
}

/// Runs twice: as the test, and as the program that the test kills.
#[test]
fn nothing_stays_behind() {
    const KILLED: &str = "PGAAD_TEST_KILLED";
    let server = Redis::start();
    let dir = private_dir(server.ca_file());
    assert!(!processes_of(&dir).is_empty());
    if env::var_os(KILLED).is_some() {
        server.pause();
        println!("\n{}", dir.display());
        std::thread::park();
    }
    server.pause();
    drop(server);
    assert!(!dir.exists() && processes_of(&dir).is_empty());

    let mut program = Command::new(env::current_exe().unwrap())
        .args(["--exact", "nothing_stays_behind", "--nocapture"])
        .env(KILLED, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(program.stdout.take().unwrap()).lines().map_while(Result::ok);
    let dir = lines.into_iter().find(|line| line.starts_with('/')).expect("its directory");
    assert!(!processes_of(Path::new(&dir)).is_empty());
    program.kill().unwrap();
    program.wait().unwrap();
    wait_until_gone(Path::new(&dir));
}
