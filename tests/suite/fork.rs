//! A child after fork(2) can use everything at once, whatever the parent's threads were doing.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Command;

use emulator::{Emulator, Fault, Gate, PATIENCE};

use crate::harness::{Driver, Line, Session, Task, shim, signed_in, wait_until};

const GET: &[&str] = &["get_token"];
/// A mask of 1 to 64 but for those that nobody can block (9, 19) and those that the C library keeps (32, 33).
const ALL_SIGNALS: &str = "fffffffe7ffbfeff";

/// What a command's child printed, which must have ended well, and how it ended.
#[track_caller]
fn from_child(lines: Vec<Line>) -> Line {
    let ends: Vec<_> = lines.iter().filter(|line| line.command() == "fork").collect();
    assert!(!ends.is_empty() && ends.iter().all(|line| line.0 == "fork exit=0 signal=0"), "{lines:?}");
    let mut answers = lines.iter().filter(|line| !line.status().is_empty());
    answers.next_back().cloned().unwrap_or_else(|| panic!("no answer: {lines:?}"))
}

#[track_caller]
fn assert_token(line: &Line, emulator: &Emulator) {
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    assert!(emulator.entra().tokens().contains(&line.get("token").to_string()), "{line:?}");
}

fn requests(emulator: &Emulator) -> usize {
    emulator.entra().counters().requests
}

/// The next request waits at this gate.
fn gate(emulator: &Emulator) -> Gate {
    let gate = Gate::new();
    emulator.entra().faults().next(Fault::gate(&gate));
    gate
}

#[test]
fn a_child_goes_on_with_the_parents_token() {
    let emulator = Emulator::start();
    let mut session = signed_in(&emulator).session();
    let parents = session.one(GET);
    for command in
        [&["fork", "get_token"][..], &["fork", "fork", "get_token"], &["fork", "fork", "fork", "get_token"]]
    {
        assert_eq!(from_child(session.ask(command)).get("token"), parents.get("token"));
    }
    assert_eq!(requests(&emulator), 1);
    // And it can get one of its own.
    session.ask(&["default"]);
    assert_eq!(from_child(session.ask(&["fork", "invalidate"])).status(), "PGAAD_OK");
    let lines = signed_in(&emulator).run(&[GET, &["default"], &["fork"], &["invalidate"], GET]);
    let tokens: Vec<_> =
        lines.iter().map(|line| line.get("token")).filter(|token| !token.is_empty()).collect();
    assert!(tokens.len() == 2 && tokens[0] != tokens[1], "{lines:?}");
    assert_eq!(session.one(GET).get("token"), parents.get("token"), "a child's invalidate is the child's");
}

#[test]
fn a_child_gets_a_token_before_its_parent_has_one() {
    let emulator = Emulator::start();
    let mut session = signed_in(&emulator).session();
    let child = from_child(session.ask(&["fork", "get_token"]));
    assert_token(&child, &emulator);
    let grandchild = from_child(session.ask(&["fork", "fork", "get_token"]));
    assert_token(&grandchild, &emulator);
    let parent = session.one(GET);
    assert_token(&parent, &emulator);
    assert!(child.get("token") != parent.get("token") && child.get("token") != grandchild.get("token"));
    assert_eq!(requests(&emulator), 3);
}

#[test]
fn a_child_does_not_wait_for_a_fetch_of_its_parents() {
    let emulator = Emulator::start();
    let gate = gate(&emulator);
    let mut session = signed_in(&emulator).session();
    session.ask(&["new", ""]);
    session.ask(&["thread", "client_get_token", "-1"]);
    gate.wait_for_arrivals(1);
    for _ in 0..3 {
        assert_token(&from_child(session.ask(&["fork", "client_get_token", "-1"])), &emulator);
    }
    // Many threads in the child, and a child of the child.
    let lines = session.ask(&["fork", "threads", "8", "client_get_token", "-1"]);
    assert_eq!(lines.iter().filter(|line| line.status() == "PGAAD_OK").count(), 8, "{lines:?}");
    assert_token(&from_child(session.ask(&["fork", "fork", "client_get_token", "-1"])), &emulator);
    assert_eq!(requests(&emulator), 1 + 5);
    // Without time it gets none, rather than the parent's to come.
    assert_eq!(from_child(session.ask(&["fork", "client_get_token", "0"])).status(), "PGAAD_TIMEOUT");
    // Meanwhile nothing happened to the parent's.
    gate.open();
    let lines = session.ask(&["join"]);
    assert_token(lines.last().expect("a line"), &emulator);
    assert_eq!(requests(&emulator), 6);
}

#[test]
fn a_child_can_refresh_while_its_parent_does() {
    let emulator = Emulator::start();
    let mut session = signed_in(&emulator).env("LD_PRELOAD", shim("clock")).session();
    session.ask(&["new", ""]);
    let old = session.one(&["client_get_token", "-1"]);
    session.ask(&["suspend", "3400"]);
    let gate = gate(&emulator);
    session.ask(&["thread", "client_get_token", "-1"]);
    gate.wait_for_arrivals(1);
    let child = from_child(session.ask(&["fork", "client_get_token", "-1"]));
    assert_token(&child, &emulator);
    assert_ne!(child.get("token"), old.get("token"));
    gate.open();
    let lines = session.ask(&["join"]);
    assert_token(lines.last().expect("a line"), &emulator);
}

#[test]
fn a_child_of_a_storm_gets_its_token() {
    let emulator = Emulator::start();
    let mut session = signed_in(&emulator).session();
    for client in ["1", "0"] {
        session.ask(&["use", client]);
        session.ask(&["new", ""]);
    }
    let line = session.one(&["fork_storm", "4", "100"]);
    assert_eq!(line.0, "fork_storm children_lost=0 failures=0");
    let counters = emulator.entra().counters();
    assert!(counters.requests > 50, "each second child fetched: {counters:?}");
}

#[test]
fn threads_may_fork_at_the_same_time() {
    let emulator = Emulator::start();
    let mut session = signed_in(&emulator).session();
    for _ in 0..5 {
        session.ask(&["new", ""]);
        let lines = session.ask(&["threads", "8", "fork", "client_get_token", "-1"]);
        let ends = lines.iter().filter(|line| line.0 == "fork exit=0 signal=0").count();
        let tokens: Vec<_> = lines.iter().filter(|line| line.status() == "PGAAD_OK").collect();
        assert_eq!((ends, tokens.len()), (8, 8), "{lines:?}");
        tokens.into_iter().for_each(|line| assert_token(line, &emulator));
    }
}

/// A session that signs in at a name whose look-up is held, with the shim's log.
fn held(emulator: &Emulator, dir: &Path, until: &str) -> (Session, PathBuf) {
    let log = dir.join("log");
    let authority = format!("https://login.pgaad.test:{}", emulator.entra().port());
    let driver = signed_in(emulator).env("PGAAD_AUTHORITY_HOST", authority);
    let driver = driver.env("LD_PRELOAD", shim("slow_resolver")).env("RESOLVER_LOG", &log);
    (driver.env("RESOLVER_HOLD", "login.pgaad.test").env("RESOLVER_UNTIL", until).session(), log)
}

fn said(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().map(str::to_string).collect()
}

#[test]
fn a_fork_does_not_wait_for_ever_for_a_look_up() {
    let emulator = Emulator::start();
    let dir = tempfile::tempdir().expect("a folder");
    let fifo = dir.path().join("until");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    let (mut session, log) = held(&emulator, dir.path(), fifo.to_str().expect("text"));
    session.ask(&["new", ""]);
    session.ask(&["thread", "client_get_token", "-1"]);
    wait_until("the look-up", || said(&log) == ["enter login.pgaad.test"]);
    // The fork goes on although the look-up does not end, and the child looks the name up for itself.
    let child = from_child(session.ask(&["fork", "client_get_token", "-1"]));
    assert_token(&child, &emulator);
    let child = from_child(session.ask(&["fork", "fork", "client_get_token", "-1"]));
    assert_token(&child, &emulator);
    // The parent's look-up is none the worse for it.
    OpenOptions::new().write(true).open(&fifo).expect("the other end");
    let lines = session.ask(&["join"]);
    assert_token(lines.last().expect("a line"), &emulator);
    // And once it is over, forks are as before.
    assert_token(&from_child(session.ask(&["fork", "client_get_token", "-1"])), &emulator);
}

#[test]
fn a_fork_waits_for_a_look_up_that_is_about_to_end() {
    let emulator = Emulator::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (mut session, log) = held(&emulator, dir.path(), "fork");
    session.ask(&["new", ""]);
    session.ask(&["thread", "client_get_token", "-1"]);
    wait_until("the look-up", || said(&log) == ["enter login.pgaad.test"]);
    assert_token(&from_child(session.ask(&["fork", "client_get_token", "-1"])), &emulator);
    // The C library's locks are free in the child: the look-up had ended when it was made.
    assert_eq!(said(&log)[..3], ["enter login.pgaad.test", "leave login.pgaad.test", "forked"]);
    session.ask(&["join"]);
}

#[test]
fn no_descriptor_stays_open_across_exec() {
    let emulator = Emulator::start();
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("secret");
    std::fs::write(&file, emulator::APP_ONE.secret).expect("a file");
    let driver = signed_in(&emulator).without("PGAAD_CLIENT_SECRET").env("PGAAD_CLIENT_SECRET_FILE", &file);
    let list = &["exec", "/bin/ls", "/proc/self/fd"];
    // What the driver was started with, and the folder that ls reads.
    let (before, _) = driver.session().last(list);
    assert!(before.starts_with("0\n1\n"), "{before}");
    let mut session = driver.session();
    session.one(GET);
    assert_eq!(session.last(list), (before.clone(), Some(0)), "after a token");
    for (case, fault) in [("in a request", Fault::hang()), ("in a handshake", Fault::hang().before_tls())] {
        let connections = emulator.entra().counters().connections;
        emulator.entra().faults().next(fault);
        let mut session = driver.session();
        session.ask(&["thread", "get_token"]);
        assert!(emulator.entra().wait_until(|c| c.connections > connections, PATIENCE), "{case}");
        assert_eq!(session.last(list), (before.clone(), Some(0)), "{case}");
    }
}

#[test]
fn a_host_that_ignores_sigchld_is_served_as_any_other() {
    let emulator = Emulator::start();
    let mut session = signed_in(&emulator).session();
    session.ask(&["ignore", "17"]);
    assert_token(&session.one(GET), &emulator);
    let lines = session.ask(&["fork", "get_token"]);
    assert_eq!(lines[1].0, "fork gone", "nobody can reap it");
    assert_token(&lines[0], &emulator);
}

#[test]
fn threads_of_ours_block_all_signals() {
    let emulator = Emulator::start();
    let gate = gate(&emulator);
    let mut session = signed_in(&emulator).session();
    session.ask(&["catch", "10"]);
    session.ask(&["new", ""]);
    // The caller gives up, so that no other thread is there.
    while gate.arrivals() == 0 {
        assert_eq!(session.one(&["client_get_token", "20"]).status(), "PGAAD_TIMEOUT");
    }
    // The look-up's thread has done its work, and is gone in a moment.
    let settled = |tasks: &[Task]| tasks.len() == 2 && tasks.iter().all(|task| task.state == 'S');
    wait_until("two threads that wait", || settled(&session.running().tasks()));
    let tasks = session.running().tasks();
    let (ours, theirs): (Vec<_>, Vec<_>) = tasks.iter().partition(|task| task.name.starts_with("pgaad-"));
    assert_eq!((ours.len(), theirs.len()), (1, 1), "{tasks:?}");
    assert_eq!(ours[0].blocked, ALL_SIGNALS, "{tasks:?}");
    assert_eq!(theirs[0].blocked, "0000000000000000", "the caller's own mask is as it was: {tasks:?}");
    for n in 1..=20 {
        let pid = session.running().id().to_string();
        assert!(Command::new("kill").args(["-USR1", &pid]).status().expect("kill").success());
        // One at a time: the kernel merges equal signals that are pending.
        wait_until("the signal", || session.one(&["caught"]).get("count") == n.to_string());
    }
    assert_eq!(session.one(&["caught"]).get("ours"), "0");
    gate.open();
    assert_token(&session.one(&["client_get_token", "-1"]), &emulator);
    assert_eq!(requests(&emulator), 1, "no signal disturbed the fetch");
}

#[test]
fn threads_that_look_names_up_block_all_signals_too() {
    let emulator = Emulator::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (mut session, log) = held(&emulator, dir.path(), "fork");
    session.ask(&["thread", "get_token"]);
    wait_until("the look-up", || said(&log) == ["enter login.pgaad.test"]);
    // Who has just made a thread still blocks what only the C library blocks.
    wait_until("all wait", || session.running().tasks().iter().all(|task| task.state == 'S'));
    let tasks = session.running().tasks();
    let ours: Vec<_> = tasks.iter().filter(|task| task.name.starts_with("pgaad-")).collect();
    assert!(ours.len() >= 2, "one fetches, one looks up: {tasks:?}");
    assert!(ours.iter().all(|task| task.blocked == ALL_SIGNALS), "{tasks:?}");
}

#[test]
fn threads_of_ours_do_not_keep_the_process_from_ending() {
    let emulator = Emulator::start();
    emulator.entra().faults().always(Fault::hang());
    let driver = signed_in(&emulator).env("PGAAD_TIMEOUT_MS", "600000");
    let fetching = |driver: &Driver| {
        let connections = emulator.entra().counters().connections;
        let mut session = driver.session();
        session.ask(&["new", ""]);
        session.ask(&["client_get_token", "1"]);
        assert!(emulator.entra().wait_until(|c| c.connections > connections, PATIENCE));
        session
    };
    assert_eq!(fetching(&driver).last(&["exit", "7"]), (String::new(), Some(7)), "by exit");
    // By a return from main, which is what the end of its input leads to.
    let (answer, code) = fetching(&driver).last(&["caught"]);
    assert_eq!((answer.as_str(), code), ("caught count=0 ours=0\n.\n", Some(0)));
    // With the client freed, and from a child.
    let mut session = fetching(&driver);
    session.ask(&["free"]);
    assert_eq!(session.ask(&["fork", "exit", "5"])[0].0, "fork exit=5 signal=0");
    assert_eq!(session.last(&["exit", "7"]).1, Some(7));

    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("log");
    let driver = driver.env("LD_PRELOAD", shim("slow_resolver")).env("RESOLVER_LOG", &log);
    let driver = driver.env("RESOLVER_HOLD", "login.pgaad.test");
    let mut session = driver.env("PGAAD_AUTHORITY_HOST", "https://login.pgaad.test").session();
    session.ask(&["thread", "get_token"]);
    wait_until("the look-up", || said(&log) == ["enter login.pgaad.test"]);
    assert_eq!(session.last(&["exit", "7"]).1, Some(7), "in a look-up");
}
