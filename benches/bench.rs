//! What pgaad costs, beside what a program would do without it. Prints one table; both sides of each ratio are
//! measured in this run, by turns, and compared by their medians.
//!
//! Runs on the staged release library: `make bench`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use emulator::{APP_ONE, Emulator, Postgres, Redis};

const ROUNDS: &str = "400";
const COLD_PAIRS: usize = 200;
const CONNECTION_PAIRS: &str = "3000";
/// Processes of a storm.
const MANY: usize = 200;

fn main() {
    let stage = stage();
    let cold = compile(&stage, "benches/cold.c", &["pgaad"]);
    let warm = compile(&stage, "benches/warm.c", &["pgaad", "libpq"]);
    let emulator = Emulator::start();
    let postgres = Postgres::start(&emulator);
    let env = emulator.env(&APP_ONE);

    println!("{:<44}{:>11}{:>13}  {:<25}{:>8}   goal", "", "pgaad", "beside", "what stands beside", "ratio");
    for threads in [1, 2] {
        let samples = run(&warm, &["tokens", &threads.to_string(), ROUNDS], &env);
        let copy = median(&of(&samples, "copy"));
        for name in ["get_token", "client_get_token"] {
            let ours = median(&of(&samples, name));
            let what = format!("warm pgaad_{name}, {}", if threads == 1 { "1 thread" } else { "2 threads" });
            row(
                &what,
                &ns(ours),
                &ns(copy),
                "malloc, memcpy, free",
                &ratio(ours / copy),
                3.0 * copy - ours,
                "<= 3",
            );
        }
    }
    let (ours, curl) = cold_token(&cold, &env, &emulator);
    row(
        "cold pgaad_get_token, a new process",
        &ms(ours),
        &ms(curl),
        "curl, the same request",
        &ratio(ours / curl),
        0.9 * curl - ours,
        "<= 0.9",
    );
    let redis = Redis::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = format!("file:{}", folder.path().join("tokens").display());
    for (name, cache) in [("file", &file), ("Redis", &redis.url())] {
        let (hit, miss) = hit(&cold, &env, cache, &emulator);
        let what = format!("{name} hit, a new process");
        row(&what, &ms(hit), &ms(miss), "the same with a request", &ratio(hit / miss), miss - hit, "< 1");
    }
    storms(&cold, &env, &emulator, &redis);
    connections(&warm, &env, &postgres);
    loops(&stage, &env, &postgres);
    let library = fs::canonicalize(stage.join("lib/libpgaad.so")).expect("the staged library");
    let size = stripped_size(&library);
    row("library, stripped", &mb(size), "", "", "", 2.5e6 - size, "<= 2.5 MB");
    row("libraries needed", "", "", &needed(&library), "", 1.0, "libc, libgcc_s");
    let memory = |arguments: &[&str]| {
        let printed = output(Command::new(&cold).env_clear().envs(env.iter().cloned()).args(arguments));
        1024.0 * printed.trim().parse::<f64>().expect("a number of KiB")
    };
    let (one, none) = (memory(&["memory"]), memory(&["memory", "without"]));
    row(
        "peak memory after one token",
        &mb(one),
        &mb(none),
        "the program without one",
        "",
        8e6 - one,
        "<= 8 MB",
    );
}

/// Prints a line of the table; the goal is met where there is `room`.
fn row(what: &str, ours: &str, beside: &str, stands: &str, ratio: &str, room: f64, goal: &str) {
    let verdict = if room >= 0.0 { "" } else { "  MISSED" };
    print_row(what, ours, beside, stands, ratio, &format!("{goal}{verdict}"));
}

fn print_row(what: &str, ours: &str, beside: &str, stands: &str, ratio: &str, goal: &str) {
    println!("{what:<44}{ours:>11}{beside:>13}  {stands:<25}{ratio:>8}   {goal}");
}

fn ns(nanoseconds: f64) -> String {
    format!("{nanoseconds:.0} ns")
}

fn ms(nanoseconds: f64) -> String {
    format!("{:.2} ms", nanoseconds / 1e6)
}

fn mb(bytes: f64) -> String {
    format!("{:.2} MB", bytes / 1e6)
}

fn ratio(ratio: f64) -> String {
    format!("{ratio:.2}")
}

/// Where `make stage` puts the library: beside the profile's folder that this program was built into.
fn stage() -> PathBuf {
    let exe = std::env::current_exe().expect("our own path");
    let stage = exe.ancestors().nth(3).expect("target/release/deps").join("stage");
    assert!(stage.join("lib/libpgaad.so").exists(), "run make stage first, or make bench");
    stage
}

/// Compiles a source of ours as a user would.
fn compile(stage: &Path, source: &str, packages: &[&str]) -> PathBuf {
    let mut pkg_config = Command::new("pkg-config");
    pkg_config
        .env("PKG_CONFIG_PATH", stage.join("lib/pkgconfig"))
        .args(["--cflags", "--libs"])
        .args(packages);
    let flags = output(&mut pkg_config);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let program = stage.with_file_name("bench-c").join(source.file_stem().expect("a name"));
    fs::create_dir_all(program.parent().expect("bench-c")).expect("a folder in target");
    let mut cc = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    cc.args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"]).arg(&program).arg(source);
    cc.args(flags.split_whitespace()).arg(format!("-Wl,-rpath,{}", stage.join("lib").display()));
    output(&mut cc);
    program
}

/// What a command prints; it must end well.
fn output(command: &mut Command) -> String {
    let done = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("the program starts");
    assert!(done.status.success(), "{command:?}: {}", done.status);
    String::from_utf8(done.stdout).expect("text")
}

/// The samples that a program prints: a name and nanoseconds.
fn run(program: &Path, arguments: &[&str], env: &[(String, OsString)]) -> Vec<(String, f64)> {
    let printed = output(Command::new(program).args(arguments).env_clear().envs(env.iter().cloned()));
    let sample = |line: &str| {
        let (name, time) = line.split_once(' ').expect("a name and a number");
        (name.to_owned(), time.parse().expect("a number"))
    };
    printed.lines().map(sample).collect()
}

fn of(samples: &[(String, f64)], name: &str) -> Vec<f64> {
    samples.iter().filter(|(known, _)| known == name).map(|(_, time)| *time).collect()
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// A token in a new process beside curl that posts the same form with the same roots, from exec to exit.
fn cold_token(cold: &Path, env: &[(String, OsString)], emulator: &Emulator) -> (f64, f64) {
    let tenant = APP_ONE.tenant.id;
    let mut curl = Command::new("curl");
    curl.args(["-q", "--silent", "--show-error", "--fail", "--output", "/dev/null", "--cacert"]);
    curl.arg(emulator.ca_file()).args(["--header", "Accept: application/json"]);
    for (name, value) in [
        ("grant_type", "client_credentials"),
        ("client_id", APP_ONE.client_id),
        ("scope", "https://ossrdbms-aad.database.windows.net/.default"),
        ("client_secret", &emulator.entra().secret(&APP_ONE)),
    ] {
        curl.args(["--data-urlencode", &format!("{name}={value}")]);
    }
    curl.arg(format!("{}/{tenant}/oauth2/v2.0/token", emulator.authority()));
    curl.env_clear().env("PATH", OsStr::new("/usr/bin:/bin"));
    let mut ours = Command::new(cold);
    ours.env_clear().envs(env.iter().cloned());
    by_turns(&mut ours, &mut curl)
}

/// The medians of both, from exec to exit.
fn by_turns(one: &mut Command, other: &mut Command) -> (f64, f64) {
    let time = |command: &mut Command| {
        let start = Instant::now();
        let status = command.stdin(Stdio::null()).status().expect("the program starts");
        assert!(status.success(), "{command:?}: {status}");
        start.elapsed().as_nanos() as f64
    };
    let pairs: Vec<(f64, f64)> = (0..COLD_PAIRS).map(|_| (time(one), time(other))).collect();
    let (one, other): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
    (median(&one), median(&other))
}

/// A token in a new process that finds it in a shared cache, beside one that asks for it.
fn hit(cold: &Path, env: &[(String, OsString)], cache: &str, emulator: &Emulator) -> (f64, f64) {
    let mut asks = Command::new(cold);
    asks.env_clear().envs(env.iter().cloned());
    let mut finds = Command::new(cold);
    finds.env_clear().envs(env.iter().cloned()).env("PGAAD_CACHE", cache);
    output(&mut finds);
    let before = emulator.entra().counters().requests;
    let times = by_turns(&mut finds, &mut asks);
    assert_eq!(emulator.entra().counters().requests - before, COLD_PAIRS, "each second one asks");
    times
}

/// Many processes that start together: until the last one has its token and is gone.
fn storms(cold: &Path, env: &[(String, OsString)], emulator: &Emulator, redis: &Redis) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = format!("file:{}", folder.path().join("tokens").display());
    let storm = |cache: &str| {
        let before = emulator.entra().counters().requests;
        let start = Instant::now();
        let start_one = |_| {
            let mut command = Command::new(cold);
            command.env_clear().envs(env.iter().cloned()).env("PGAAD_CACHE", cache);
            command.stdin(Stdio::null()).spawn().expect("the program starts")
        };
        let processes: Vec<_> = (0..MANY).map(start_one).collect();
        for mut process in processes {
            assert!(process.wait().expect("its status").success(), "a process without a token");
        }
        (start.elapsed().as_nanos() as f64, emulator.entra().counters().requests - before)
    };
    let (alone, requests_alone) = storm("memory");
    redis.restart();
    for (name, cache) in [("file", file), ("Redis", redis.url())] {
        let (together, requests) = storm(&cache);
        row(
            &format!("{MANY} new processes, {name}: requests {requests}"),
            &ms(together),
            &ms(alone),
            &format!("no cache: requests {requests_alone}"),
            &ratio(together / alone),
            1.0 - requests as f64,
            "1 request",
        );
    }
}

fn connections(warm: &Path, env: &[(String, OsString)], postgres: &Postgres) {
    let options = format!(
        "host=localhost port={} user={} dbname=postgres sslmode=verify-full sslrootcert={} gssencmode=disable",
        postgres.port(),
        APP_ONE.role,
        postgres.ca_file().display()
    );
    let samples = run(warm, &["connections", &options, CONNECTION_PAIRS], env);
    let (ours, theirs) = (of(&samples, "pgaad_connectdb"), of(&samples, "PQconnectdb"));
    // Both of a pair met the same weather, so their differences are what is told apart best.
    let differences: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours - theirs).collect();
    let (more, base) = (median(&differences), median(&theirs));
    let deviations: Vec<f64> = differences.iter().map(|difference| (difference - more).abs()).collect();
    // The standard error of a median, with the deviation estimated from the median deviation.
    let error = 1.2533 * 1.4826 * median(&deviations) / (differences.len() as f64).sqrt();
    // Two standard errors: what chance alone does once in twenty runs. On a busy machine they are wide.
    let (room, noise) = (0.01 * base - more, 2.0 * error);
    let verdict =
        if room.abs() < noise { "too close to call" } else { ["MISSED", ""][usize::from(room > 0.0)] };
    print_row(
        &format!("warm pgaad_connectdb, +- {:.1} %", 100.0 * noise / base),
        &ms(median(&ours)),
        &ms(base),
        "PQconnectdb, ready token",
        &format!("{:+.1} %", 100.0 * more / base),
        &format!("<= +1 %  {verdict}"),
    );
}

/// What stops an event loop that opens many connections at once: the longest call of ours, beside libpq's own longest.
fn loops(stage: &Path, env: &[(String, OsString)], postgres: &Postgres) {
    let program = compile(stage, "tests/c/loops.c", &["pgaad", "libpq", "libevent_core", "libuv"]);
    for name in ["select", "poll", "epoll", "libevent", "libuv"] {
        let mut command = Command::new(&program);
        command.args([name, &MANY.to_string(), "hostaddr=127.0.0.1"]).env_clear().envs(env.iter().cloned());
        let printed = output(command.envs(postgres.env(APP_ONE.role)));
        let longest = |call: &str| -> f64 {
            let line = printed.lines().find(|line| line.starts_with("longest ")).expect("its line");
            let word = line.split(' ').find_map(|word| word.strip_prefix(call)?.strip_prefix('='));
            1e3 * word.expect("the call").parse::<f64>().expect("a number of microseconds")
        };
        assert!(printed.contains(&format!("made {MANY}\n")), "{printed}");
        let (ours, theirs) = (longest("prefetch").max(longest("start")), longest("poll"));
        row(
            &format!("{MANY} connections in {name}: longest call"),
            &ms(ours),
            &ms(theirs),
            "longest PQconnectPoll",
            &ratio(ours / theirs),
            theirs - ours,
            "<= 1",
        );
    }
}

fn stripped_size(library: &Path) -> f64 {
    let copy = library.with_file_name("stripped.so");
    output(Command::new("strip").arg("-o").arg(&copy).arg(library));
    let size = fs::metadata(&copy).expect("a stripped copy").len();
    fs::remove_file(copy).expect("the copy is ours");
    size as f64
}

/// What the library needs; the loader comes with libc.
fn needed(library: &Path) -> String {
    let dynamic = output(Command::new("readelf").arg("-d").arg(library));
    let needed = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    let names: Vec<_> = needed.filter_map(|line| line.split(['[', ']']).nth(1)).collect();
    names.join(" ")
}
