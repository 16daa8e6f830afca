//! The library under valgrind: no memory error, and nothing lost.

use emulator::{APP_ONE, APP_TWO, Emulator, Fault, Gate, Libpq, Postgres};

use crate::harness::{self, Driver, Line, Listener, conninfo, ground, signed_in, valgrind};

fn statuses(lines: &[Line]) -> Vec<(&str, &str)> {
    lines
        .iter()
        .filter(|line| !line.status().is_empty())
        .map(|line| (line.command(), line.status()))
        .collect()
}

#[test]
fn valgrind_would_see_a_leak() {
    let output = valgrind(Driver::new()).instead(harness::compile("leak", &[])).output(&[&[]]);
    assert_eq!(output.status.code(), Some(99), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn tokens_and_connections() {
    let driver = valgrind(ground().driver(&APP_ONE));
    let lines = driver.run(&[
        &["get_token"],
        &["get_token"],
        &["connstring", ""],
        &["connect", ""],
        &["query", "select 1"],
        &["finish"],
        &["params", "1", "dbname", "application_name=x"],
        &["new", "log=debug"],
        &["client_get_token", "-1"],
        &["client_get_token", "0"],
        &["client_connstring", "connect_timeout=9"],
        &["invalidate"],
        &["client_connect", ""],
        &["free"],
        &["default"],
        &["invalidate"],
        &["connect", ""],
        &["libpq"],
    ]);
    let statuses = statuses(&lines);
    assert_eq!(statuses.len(), 15, "{lines:?}");
    assert!(statuses.iter().all(|(_, status)| *status == "PGAAD_OK"), "{lines:?}");
}

#[test]
fn starts_and_resets() {
    let emulator = Emulator::start();
    let postgres = Postgres::start(&emulator);
    let mut session = valgrind(signed_in(&emulator).envs(postgres.env(APP_ONE.role))).session();
    let mut run = |commands: &[&[&str]]| {
        for command in commands {
            for line in session.ask(command).iter().filter(|line| !line.status().is_empty()) {
                assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
            }
        }
    };
    run(&[&["new", ""], &["prefetch"], &["await", "poll"], &["client_start", ""], &["poll"], &["prefetch"]]);
    // In the same place, shorter and longer; and in a new connection.
    for (open, sizes) in [("client_start", [2000, 4000, 17_000]), ("client_connect", [4000, 2000, 3000])] {
        emulator.entra().faults().next(Fault::token_size(sizes[0]));
        run(&[&["invalidate"], &["client_get_token", "-1"], &[open, ""], &["poll"]]);
        for size in &sizes[1..] {
            emulator.entra().faults().next(Fault::token_size(*size));
            run(&[&["invalidate"], &["client_reset"], &["query", "select 1"]]);
        }
        // A second attempt.
        postgres.revoke_all();
        run(&[&["reset"]]);
    }
    run(&[&["close"], &["free"]]);
    session.ask(&["setenv", "PGAAD_CLOUD", "mars"]);
    session.ask(&["connect", "application_name=x"]);
    session.ask(&["reset"]);
    session.ask(&["setenv", "PGAAD_CLOUD", "public"]);
    assert_eq!(session.ask(&["reset"])[1].get("conn"), "OK");
    let (said, code) = session.last(&["finish"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn oauth() {
    // With the libpq of 18, whose own doings are not looked at.
    let ground = ground();
    let mut all = Libpq::all();
    all.retain(|libpq| libpq.version == 18);
    let driver =
        Driver::new().envs(ground.emulator.env(&APP_ONE)).envs(harness::postgres_18().env(APP_ONE.role));
    let lines = valgrind(driver.with_libpq(&all[0])).run(&[
        &["use_oauth"],
        &["default"],
        &["connect", ""],
        &["reset"],
        &["start", ""],
        &["invalidate"],
        &["poll"],
        &["pq_reset"],
    ]);
    assert!(lines.iter().all(|line| line.status() == "PGAAD_OK"), "{lines:?}");
    assert_eq!(lines.last().map(|line| line.get("conn")), Some("OK"), "{lines:?}");
}

#[test]
fn failures() {
    let emulator = Emulator::start();
    let faults = emulator.entra().faults();
    faults.next(Fault::status(429, "invalid_request", 90055).retry_after(60));
    faults.next(Fault::garbage_json());
    faults.next(Fault::redirect(307));
    faults.next(Fault::huge_body());
    faults.next(Fault::cut_short());
    faults.next(Fault::nul_in_token());
    let nobody = Listener::start();
    let driver = valgrind(signed_in(&emulator));
    let wrong = conninfo(&[("client_secret", "wrong"), ("client_id", APP_TWO.client_id)]);
    let hung = conninfo(&[
        ("authority_host", &format!("https://localhost:{}", nobody.port())),
        ("timeout_ms", "300"),
    ]);
    let closed = conninfo(&[("authority_host", "https://localhost:1"), ("timeout_ms", "20000")]);
    let get: &[&str] = &["client_get_token", "-1"];
    let lines = driver.run(&[
        // Enough for a busy machine, and less than the 60 s that the service will ask for.
        &["new", "timeout_ms=50000"],
        get,
        &["free"],
        &["new", ""],
        get,
        &["free"],
        &["new", ""],
        get,
        &["free"],
        &["new", ""],
        get,
        &["free"],
        &["new", ""],
        get, // the short answer is tried again, and meets the token with NUL
        &["free"],
        &["new", &wrong],
        get,
        get,
        &["client_connect", "host=localhost user=x"],
        &["free"],
        &["new", &hung],
        get,
        &["free"],
        &["new", &closed],
        get,
        &["free"],
        &["new", "auth=off"],
        get,
        &["free"],
        &["new", "tenant=x"],
        &["new", "tenant_id=x/y"],
        &["connstring", "host=db.example user=x"],
        &["connect", "host=db.example user=x"],
        &["connstring", "host='"],
        &["connect", "host='"],
        &["connect", "host=localhost sslmode=disable user=x"],
        &["params", "0", "host", "localhost"],
        &["use_libpq", "none"],
    ]);
    let failed: Vec<_> = statuses(&lines).into_iter().filter(|(_, status)| *status != "PGAAD_OK").collect();
    let token = |status| ("client_get_token", status);
    assert_eq!(
        failed,
        [
            token("PGAAD_THROTTLED"),
            token("PGAAD_PROTOCOL"),
            token("PGAAD_PROTOCOL"),
            token("PGAAD_PROTOCOL"),
            token("PGAAD_PROTOCOL"),
            token("PGAAD_DENIED"),
            token("PGAAD_DENIED"),
            ("client_connect", "PGAAD_DENIED"),
            token("PGAAD_TIMEOUT"),
            token("PGAAD_NETWORK"),
            token("PGAAD_DISABLED"),
            ("new", "PGAAD_CONFIG"),
            ("new", "PGAAD_CONFIG"),
            ("connstring", "PGAAD_INSECURE"),
            ("connect", "PGAAD_INSECURE"),
            ("connstring", "PGAAD_CONFIG"),
            ("connect", "PGAAD_INSECURE"),
            ("params", "PGAAD_CONFIG"),
            ("use_libpq", "PGAAD_INVALID_ARGUMENT"),
        ],
        "{lines:#?}"
    );
    assert_eq!(emulator.entra().faults().pending(), 0);
}

#[test]
fn null_and_garbage() {
    let driver = valgrind(Driver::new().env("PGHOST", "/nonexistent"));
    let lines = driver.instead(harness::program("null_args", &["-lpq"])).run(&[&["300"]]);
    assert_eq!(lines.last().map(|line| line.0.as_str()), Some("done"), "{lines:?}");
}

#[test]
fn forks() {
    let driver = valgrind(ground().driver(&APP_ONE));
    // A child's complaint is its exit code.
    let lines =
        driver.run(&[&["fork", "get_token"], &["get_token"], &["fork", "connect", ""], &["connect", ""]]);
    let exits: Vec<_> =
        lines.iter().filter(|line| line.command() == "fork").map(|line| line.get("exit")).collect();
    assert_eq!(exits, ["0", "0"], "{lines:?}");
    assert_eq!(statuses(&lines).len(), 4, "{lines:?}");
    assert!(statuses(&lines).iter().all(|(_, status)| *status == "PGAAD_OK"), "{lines:?}");
}

#[test]
fn threads() {
    let driver = valgrind(ground().driver(&APP_ONE)).instead(harness::program("threads", &["-lpq"]));
    let lines = driver.run(&[&["storm", "4", "4", ""]]);
    assert_eq!(lines.last().map(|line| line.0.as_str()), Some("done"), "{lines:?}");
}

#[test]
fn clients_freed_under_their_calls() {
    const CALLS: usize = 4;
    let (emulator, gate) = (Emulator::start(), Gate::new());
    emulator.entra().faults().always(Fault::gate(&gate));
    let postgres = Postgres::start(&emulator);
    let driver = valgrind(signed_in(&emulator).envs(postgres.env(APP_ONE.role)));
    let threads = driver.instead(harness::program("threads", &["-lpq"]));
    let mut session = threads.session_of(&["free", &CALLS.to_string(), ""]);
    gate.wait_for_arrivals(CALLS);
    assert_eq!(session.one(&["free"]).0, "freed");
    gate.open();
    assert_eq!(session.last(&[]), ("done\n".to_owned(), Some(0)));
}

#[test]
fn loading_and_unloading() {
    let driver = valgrind(ground().driver(&APP_ONE)).instead(harness::compile("dlopen", &["-ldl"]));
    let library = harness::c_dir().join("libpgaad.so");
    let lines = driver.run(&[&[library.to_str().expect("a path")]]);
    assert_eq!(lines.last().map(|line| line.0.as_str()), Some("done"), "{lines:?}");
}
