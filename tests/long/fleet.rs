//! Many processes that share a cache: a soak, while the token service and Redis fail, and a storm.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use emulator::serde_json::{Value, from_str};
use emulator::{APP_ONE, Emulator, Fault, Gate, Postgres, Redis};

use super::{assert_done, assert_flat, numbers, released, seed};
use crate::harness::{Line, program, signed_in};

const PROCESSES: usize = 8;
const THREADS: usize = 4;
/// Of a token, in seconds.
const LIFE: i64 = 20;
/// A token may be handed out until so long before its end.
const MARGIN: i64 = 1;

/// Less by hand, to look at it.
fn seconds_of_soak() -> u64 {
    std::env::var("PGAAD_TEST_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

/// Lets the requests fail that a random number chooses, in ways of all sorts, and counts those.
pub(super) fn fail_some(
    emulator: &Emulator,
    over: &AtomicBool,
    failed: &AtomicUsize,
    mut random: u64,
    chooses: impl Fn(u64) -> bool,
) {
    let kinds = [
        Fault::status(401, "invalid_client", 7000215),
        Fault::status_without_code(500, "server_error"),
        Fault::status(429, "invalid_request", 90055).retry_after_ms(50),
        Fault::reset(),
        Fault::close(),
        Fault::html(502),
        Fault::garbage_json(),
        Fault::status(400, "unauthorized_client", 700016),
    ];
    let faults = emulator.entra().faults();
    while !over.load(Ordering::Relaxed) {
        if faults.pending() > 0 {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (fails, kind) = (chooses(random >> 33), (random >> 40) as usize % kinds.len());
        faults.next(if fails { kinds[kind].clone() } else { Fault::none() });
        failed.fetch_add(usize::from(fails), Ordering::Relaxed);
    }
    // The one that nobody met.
    faults.clear();
}

/// Whether a token of this life that may be handed out was there from the one to the other, in Unix milliseconds.
pub(super) fn a_token_lived(ends: &[i64], life: i64, begun: i64, ended: i64) -> bool {
    // It was issued within the second that its life begins with.
    ends.iter().any(|end| (end - life + 1) * 1000 <= begun && ended <= (end - MARGIN - 1) * 1000)
}

/// When the tokens that were issued end.
pub(super) fn ends(emulator: &Emulator) -> Vec<i64> {
    let claims = emulator.entra().tokens().into_iter().map(|token| emulator::claims(&token).expect("claims"));
    claims.filter_map(|claims| claims["exp"].as_i64()).collect()
}

/// The times of a line "failed BEGUN ENDED ...".
pub(super) fn begun_and_ended(line: &Line) -> (i64, i64) {
    let mut words = line.0.split(' ').skip(1).map(|word| word.parse().expect("a time"));
    (words.next().expect("a time"), words.next().expect("a time"))
}

#[test]
fn a_fleet_keeps_its_connections_while_entra_and_redis_fail() {
    let seconds = seconds_of_soak();
    let emulator = Emulator::start();
    emulator.entra().configure(|config| config.lifetime = LIFE);
    let postgres = Postgres::start(&emulator);
    let redis = Redis::start();
    let soak = signed_in(&emulator).envs(postgres.env(APP_ONE.role)).env("PGAAD_CACHE", redis.url());
    let soak = released(soak).instead(program("soak", &["-lpq"]));
    let (over, failures) = (AtomicBool::new(false), AtomicUsize::new(0));
    let random = seed().parse().expect("a number");
    let arguments = [THREADS.to_string(), seconds.to_string(), "hostaddr=127.0.0.1".into(), "steady".into()];
    let arguments = arguments.each_ref().map(String::as_str);
    let outputs = thread::scope(|scope| {
        scope.spawn(|| fail_some(&emulator, &over, &failures, random, |number| number.is_multiple_of(3)));
        let processes: Vec<_> = (0..PROCESSES).map(|_| scope.spawn(|| soak.output(&[&arguments]))).collect();
        // Twice it is gone for a while, and then has forgotten everything.
        for _ in 0..2 {
            thread::sleep(Duration::from_secs(seconds / 3));
            redis.crash();
            thread::sleep(Duration::from_secs(3));
            redis.restart();
        }
        let outputs: Vec<_> =
            processes.into_iter().map(|process| process.join().expect("its output")).collect();
        over.store(true, Ordering::Relaxed);
        outputs
    });

    let counters = emulator.entra().counters();
    let ends = ends(&emulator);
    let (mut connected, mut failed, mut got) = (0, 0, 0);
    for output in &outputs {
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        let lines: Vec<_> = text.lines().map(|line| Line(line.to_string())).collect();
        assert_done(&lines);
        for line in lines.iter().filter(|line| line.command() == "failed") {
            let (begun, ended) = begun_and_ended(line);
            assert!(!a_token_lived(&ends, LIFE, begun, ended), "while a token lived: {line:?}");
            failed += 1;
        }
        let samples: Vec<_> = lines.iter().filter(|line| line.command() == "sample").map(numbers).collect();
        assert_flat(&samples, 0, 1024);
        assert_flat(&samples, 1, 8);
        let of = |name: &str| lines.iter().find(|line| line.command() == name).expect("its line");
        let end = numbers(of("end"));
        assert!(end[1] <= 8 && end[2] == 1, "{end:?}");
        connected += of("connected").word().parse::<usize>().expect("a number");
        let stats: Value = from_str(of("stats").0.strip_prefix("stats ").expect("it")).expect("JSON");
        got += stats["refreshes"].as_u64().expect("a number") as usize;
    }
    println!("{connected} connections, {failed} failed, {counters:?}, {failures:?} faults, {got} times got");

    assert!(connected > 5 * seconds as usize * PROCESSES, "{connected} connections");
    // Each request brought a token or met a fault; the last of those may have met nobody.
    let met = counters.requests - counters.tokens;
    let faults = failures.load(Ordering::Relaxed);
    assert!(met == faults || met + 1 == faults, "{met} requests without a token, {faults} faults");
    // One token for all each time that half of the last one's life is over; and where Redis is gone, each process
    // gets its own: twice while it is away, and once more while it is left alone for what it did.
    let half = seconds as usize / (LIFE as usize / 2) + 1;
    assert!(counters.tokens <= half + 2 * 3 * PROCESSES, "{} tokens", counters.tokens);
    assert!(counters.tokens * 3 > half, "{} tokens: they were not renewed", counters.tokens);
    assert!(got > counters.tokens * PROCESSES / 3, "{got} times got, of {} tokens", counters.tokens);
    let refused: Vec<_> = postgres.binds().into_iter().filter(|bind| !bind.ok()).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

/// Many processes that start together, of which one fetches.
fn storm(name: &str, cache: &str) {
    const MANY: usize = 200;
    let emulator = Emulator::start();
    let driver = released(signed_in(&emulator)).env("PGAAD_CACHE", cache);
    let gate = Gate::new();
    emulator.entra().faults().next(Fault::gate(&gate));
    let mut sessions: Vec<_> = (0..MANY).map(|_| driver.session()).collect();
    for session in &mut sessions {
        session.tell(&["get_token"]);
    }
    gate.wait_for_arrivals(1);
    for session in &sessions {
        session.running().wait_for_sleepers(1);
    }
    let opened = Instant::now();
    gate.open();
    let answers: Vec<_> = sessions.iter_mut().map(|session| session.answer().remove(0)).collect();
    println!(
        "{name}: the last of {MANY} has its token {} ms after it is there",
        opened.elapsed().as_millis()
    );
    assert!(answers.iter().all(|line| line.status() == "PGAAD_OK"), "{answers:?}");
    assert!(answers.iter().all(|line| line.get("token") == answers[0].get("token")), "{answers:?}");
    assert_eq!(emulator.entra().counters().requests, 1, "{name}");
}

#[test]
fn two_hundred_processes_make_one_request() {
    let dir = tempfile::tempdir().expect("a folder");
    let redis = Redis::start();
    storm("file", &format!("file:{}", dir.path().join("tokens").display()));
    storm("Redis", &redis.url());
}
