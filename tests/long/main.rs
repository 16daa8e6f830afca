//! What takes minutes: `make test-long`.

mod debian;
mod fleet;
#[path = "../suite/harness.rs"]
#[allow(dead_code)] // the suite uses the rest
mod harness;
mod pooler;
mod python;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use emulator::{APP_ONE, Emulator, Fault, Postgres};

use harness::{Driver, Line, compile, program, signed_in, valgrind, valgrind_with};

/// Another one each time; shown, so that a failure can be had again.
fn seed() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
    let seed = since.as_micros().to_string();
    println!("seed {seed}");
    seed
}

/// A driver that is given the release where there is one.
fn released(driver: Driver) -> Driver {
    match std::env::var_os("PGAAD_STAGE") {
        Some(stage) => driver.env("LD_LIBRARY_PATH", Path::new(&stage).join("lib")),
        None => driver,
    }
}

fn assert_done(lines: &[Line]) {
    assert_eq!(lines.last().map(|line| line.0.as_str()), Some("done"), "{lines:#?}");
}

/// What a line of the soak's says.
fn numbers(line: &Line) -> Vec<usize> {
    line.0.split(' ').skip(1).map(|word| word.parse().expect("a number")).collect()
}

/// The most that any sample has of this.
fn most(samples: &[Vec<usize>], at: usize) -> usize {
    samples.iter().map(|sample| sample[at]).max().unwrap_or_default()
}

/// It did not grow from the second quarter to the last by more than a tenth and this.
fn assert_flat(samples: &[Vec<usize>], at: usize, and: usize) {
    let quarter = samples.len() / 4;
    let (before, after) = (most(&samples[quarter..2 * quarter], at), most(&samples[3 * quarter..], at));
    assert!(after <= before + before / 10 + and, "value {at} of the samples grew from {before} to {after}");
}

/// Queues faults of all sorts, one after the other, until the end.
fn trouble(emulator: &Emulator, over: &AtomicBool) {
    let kinds = [
        Fault::status_without_code(500, "server_error"),
        Fault::status(429, "invalid_request", 90055).retry_after_ms(50),
        Fault::reset(),
        Fault::reset().before_tls(),
        Fault::close(),
        Fault::garbage(),
        Fault::garbage_json(),
        Fault::cut_short(),
        Fault::chunked(),
        Fault::stale(),
        Fault::html(502),
        Fault::slow(Duration::from_millis(300)),
        Fault::status(401, "invalid_client", 7000215),
        Fault::huge_body(),
    ];
    for fault in kinds.iter().cycle() {
        while emulator.entra().faults().pending() > 0 {
            if over.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        emulator.entra().faults().next(fault.clone());
        // Faults are the exception.
        std::thread::sleep(Duration::from_millis(250));
    }
}

#[test]
fn a_busy_server_stays_as_it_was() {
    const THREADS: usize = 8;
    const SECONDS: usize = 180;
    let emulator = Emulator::start();
    emulator.entra().configure(|config| config.lifetime = 20);
    let postgres = Postgres::start(&emulator);
    let soak = signed_in(&emulator).envs(postgres.env(APP_ONE.role));
    let soak = released(soak).instead(program("soak", &["-lpq"]));
    let over = AtomicBool::new(false);
    let lines = std::thread::scope(|scope| {
        scope.spawn(|| trouble(&emulator, &over));
        // With the address given, no thread of libpq's is in the C library's resolver when the program forks.
        let output = soak
            .output(&[&[&THREADS.to_string(), &SECONDS.to_string(), "hostaddr=127.0.0.1"]].map(|a| &a[..]));
        over.store(true, Ordering::Relaxed);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}\n{err}");
        out.lines().map(|line| Line(line.to_string())).collect::<Vec<_>>()
    });
    println!(
        "{}",
        lines.iter().rev().take(12).rev().map(|line| line.0.as_str()).collect::<Vec<_>>().join("\n")
    );
    assert_done(&lines);

    let samples: Vec<_> = lines.iter().filter(|line| line.command() == "sample").map(numbers).collect();
    assert_eq!(samples.len(), SECONDS);
    assert_flat(&samples, 0, 1024);
    // Each thread has a connection; each client a fetch with its thread, its socket and its look-up.
    let fetches = THREADS + 3;
    assert!(most(&samples, 1) <= 16 + THREADS + 2 * fetches, "{} descriptors", most(&samples, 1));
    assert!(most(&samples, 2) <= 1 + THREADS + 2 * fetches, "{} threads", most(&samples, 2));
    let end = lines.iter().find(|line| line.command() == "end").map(numbers).expect("the end");
    assert!(end[1] <= 8 && end[2] == 1, "{end:?}");
    // It was busy, tokens were renewed, and none that was too old was used.
    let count = |name: &str| -> usize {
        let line = lines.iter().find(|line| line.command() == name);
        line.and_then(|line| line.word().parse().ok()).unwrap_or_default()
    };
    assert!(count("connected") > 10 * SECONDS, "{} connections", count("connected"));
    assert!(emulator.entra().counters().tokens > SECONDS, "{:?}", emulator.entra().counters());
    let refused: Vec<_> = postgres.binds().into_iter().filter(|bind| !bind.ok()).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn random_connection_strings_harm_no_memory() {
    let seed = seed();
    let off = Driver::new().env("PGAAD_AUTH", "off");
    let on = signed_in(&harness::ground().emulator).env("PGUSER", "x").env("PGPORT", "1");
    for (driver, mode, turns) in [(off, "parse", "3000"), (on, "arrays", "200")] {
        let lines = valgrind(driver).instead(program("agreement", &["-lpq"])).run(&[&[mode, &seed, turns]]);
        assert_eq!(lines.len(), 1, "a line of counts: {lines:?}");
    }
}

#[test]
fn garbage_harms_no_memory() {
    let driver =
        valgrind(Driver::new().env("PGHOST", "/nonexistent")).instead(program("null_args", &["-lpq"]));
    assert_done(&driver.run(&[&["10000"]]));
}

#[test]
fn storms_harm_no_memory() {
    let ground = harness::ground();
    let threads = valgrind(ground.driver(&APP_ONE)).instead(program("threads", &["-lpq"]));
    assert_done(&threads.run(&[&["storm", "8", "30", ""]]));
    let library = harness::c_dir().join("libpgaad.so");
    let dlopen = valgrind(ground.driver(&APP_ONE)).instead(compile("dlopen", &["-ldl"]));
    assert_done(&dlopen.run(&[&[library.to_str().expect("a path")]]));
}

#[test]
fn forks_amid_fetches_harm_no_memory() {
    let ground = harness::ground();
    // In a child, what its parent's other threads held is lost, and no fault of anybody's.
    let driver = valgrind_with("--leak-check=no", ground.driver(&APP_ONE));
    let lines = driver.run(&[
        &["use", "1"],
        &["new", ""],
        &["use", "0"],
        &["new", ""],
        &["fork_storm", "4", "20"],
        &["free"],
    ]);
    let storm = lines.iter().find(|line| line.command() == "fork_storm").expect("its line");
    assert_eq!((storm.get("children_lost"), storm.get("failures")), ("0", "0"));
}
