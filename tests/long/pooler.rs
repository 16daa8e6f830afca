//! A pool of connections that are opened, asked, reset and dropped at random.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use emulator::{APP_ONE, Emulator, Libpq, Postgres};

use super::fleet::{a_token_lived, begun_and_ended, ends, fail_some};
use super::{assert_done, assert_flat, numbers, released, seed};
use crate::harness::{Driver, Line, each, ground, program, signed_in, valgrind};

/// Of a token, in seconds. A twentieth of it before its end it is not used any more: enough for a busy machine to sign in.
const LIFE: i64 = 30;

/// What a pool of so many threads said in so many seconds, of which the token service is away for some. Otherwise a third
/// of the requests fail. No call failed while a token lived.
fn pool(wrapped: fn(Driver) -> Driver, threads: &str, seconds: usize, outage: Range<u64>) -> Vec<Line> {
    let emulator = Emulator::start();
    emulator.entra().configure(|config| {
        config.lifetime = LIFE;
        config.refresh_in = Some(2);
    });
    let postgres = Postgres::start(&emulator);
    let driver = signed_in(&emulator).envs(postgres.env(APP_ONE.role));
    let soak = wrapped(driver).instead(program("soak", &["-lpq"]));
    let (over, failures) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (random, begun) = (seed().parse().expect("a number"), Instant::now());
    let fails = |number: u64| number.is_multiple_of(3) || outage.contains(&begun.elapsed().as_secs());
    let lines = thread::scope(|scope| {
        scope.spawn(|| fail_some(&emulator, &over, &failures, random, fails));
        let output = soak.output(&[&[threads, &seconds.to_string(), "hostaddr=127.0.0.1", "pooler"]]);
        over.store(true, Ordering::Relaxed);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}\n{err}");
        out.lines().map(|line| Line(line.to_string())).collect::<Vec<_>>()
    });
    assert_done(&lines);

    let ends = ends(&emulator);
    let failed: Vec<_> = lines.iter().filter(|line| line.command() == "failed").collect();
    for line in &failed {
        let (begun, ended) = begun_and_ended(line);
        assert!(!a_token_lived(&ends, LIFE, begun, ended), "while a token lived: {line:?}");
    }
    let tokens = emulator.entra().counters().tokens;
    assert!(tokens > 3 && failures.load(Ordering::Relaxed) > 3, "{tokens} tokens, {failures:?} faults");
    let refused: Vec<_> = postgres.binds().into_iter().filter(|bind| !bind.ok()).collect();
    assert!(refused.is_empty(), "{refused:?}");
    println!(
        "{} connections, {} resets, {} in place, {} failed, {tokens} tokens, {failures:?} faults",
        count(&lines, "connected"),
        count(&lines, "resets"),
        count(&lines, "kept"),
        failed.len()
    );
    lines
}

fn count(lines: &[Line], name: &str) -> usize {
    let line = lines.iter().find(|line| line.command() == name).expect("its line");
    line.word().parse().expect("a number")
}

#[test]
fn a_pool_keeps_its_connections_while_tokens_expire_and_entra_fails() {
    const SECONDS: usize = 60;
    // Nobody has a token in the last part of it.
    let lines = pool(released, "16", SECONDS, 8..48);
    assert!(lines.iter().any(|line| line.command() == "failed"), "the outage was not long enough");
    let (connected, resets) = (count(&lines, "connected"), count(&lines, "resets"));
    assert!(connected > 20 * SECONDS && resets > 10 * SECONDS, "{connected} connections, {resets} resets");
    assert_eq!(count(&lines, "kept"), resets, "each in the place of the old one");
    let samples: Vec<_> = lines.iter().filter(|line| line.command() == "sample").map(numbers).collect();
    assert_flat(&samples, 0, 1024);
    assert_flat(&samples, 1, 8);
    let end = lines.iter().find(|line| line.command() == "end").map(numbers).expect("the end");
    assert!(end[1] <= 8 && end[2] == 1, "{end:?}");
}

#[test]
fn resets_in_place_harm_no_memory_of_any_libpq() {
    let ground = ground();
    // What brings a loader of its own is not valgrind's to start.
    let libpqs: Vec<_> = Libpq::all().into_iter().filter(|libpq| libpq.loader().is_none()).collect();
    each(&libpqs, |libpq| {
        let driver = valgrind(ground.driver(&APP_ONE)).with_libpq(libpq);
        let lines = driver.run(&[
            &["default"],
            &["connect", ""],
            &["invalidate"],
            &["reset"],
            &["query", "select 1"],
            &["invalidate"],
            &["client_reset"],
            &["query", "select 2"],
            &["finish"],
        ]);
        let reset: Vec<_> = lines.iter().filter(|line| line.command().ends_with("reset_call")).collect();
        assert!(reset.len() == 2 && reset.iter().all(|line| line.get("same") == "1"), "{libpq:?}: {lines:?}");
        assert_eq!(lines.last().map(|line| line.get("value")), Some("2"), "{libpq:?}: {lines:?}");
    });
}

#[test]
fn a_pool_harms_no_memory() {
    let lines = pool(valgrind, "4", 30, 0..0);
    assert!(count(&lines, "resets") > 10, "{lines:?}");
}
