//! C++: `pgaad.hpp`, from an installed tree, as its users build with it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use emulator::{APP_ONE, DEVELOPER, Emulator, Fault, Libpq};

use crate::harness::{ClosedPort, Driver, each, ground, in_order, signed_in};
use crate::install::{env, env_but, installed, needed, said};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const HEADER: &str = include_str!("../../include/pgaad.hpp");

/// What no line of the header may be warned about.
const STRICT: [&str; 12] = [
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Werror",
    "-Wshadow",
    "-Wconversion",
    "-Wold-style-cast",
    "-Wzero-as-null-pointer-constant",
    "-Wnon-virtual-dtor",
    "-Woverloaded-virtual",
    "-Wredundant-decls",
    "-Wundef",
];

/// Runs the C++ compiler on these sources, with what pkg-config says of these packages.
fn cxx(standard: &str, sources: &[&str], packages: &[&str], flags: &[&str]) -> Output {
    let mut cxx = Command::new(std::env::var("CXX").unwrap_or_else(|_| "c++".into()));
    cxx.arg(format!("-std=c++{standard}")).args(STRICT).args(flags);
    cxx.args(sources.iter().map(|source| format!("{ROOT}/{source}")));
    cxx.args(installed().pkg_config(&[&["--cflags", "--libs"], packages].concat()));
    cxx.env("LC_ALL", "C").output().expect("a C++ compiler")
}

#[track_caller]
fn assert_compiled(done: &Output) {
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Compiles a program that finds the installed library wherever it is run.
fn program(name: &str, sources: &[&str], packages: &[&str], flags: &[&str]) -> PathBuf {
    let program = installed().0.join(name);
    let path = format!("-Wl,-rpath,{}", installed().lib().display());
    let output = ["-pthread", &path, "-o", program.to_str().expect("a path")];
    assert_compiled(&cxx("17", sources, packages, &[flags, &output].concat()));
    program
}

#[test]
fn options_that_would_not_last_are_refused_by_the_compiler() {
    let done = cxx("17", &["tests/cpp/dangling.cpp"], &["pgaad"], &["-fsyntax-only"]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains("would not last"), "{said}");
}

const COVER: [&str; 2] = ["tests/cpp/cover.cpp", "tests/cpp/second.cpp"];

fn cover() -> PathBuf {
    static COVERING: OnceLock<PathBuf> = OnceLock::new();
    COVERING.get_or_init(|| program("cover", &COVER, &["pgaad", "libpq"], &["-O1", "-g"])).clone()
}

// The header.

#[test]
fn the_header_is_clean_in_each_cxx_since_17() {
    let sources = [COVER[0], COVER[1], "tests/cpp/alone.cpp"];
    let rows: Vec<_> =
        ["17", "20", "2b"].into_iter().flat_map(|cxx| sources.map(|source| (cxx, source))).collect();
    each(&rows, |(standard, source)| {
        assert_compiled(&cxx(standard, &[source], &["pgaad", "libpq"], &["-fsyntax-only"]));
    });
    let old = cxx("14", &[sources[2]], &["pgaad"], &["-fsyntax-only"]);
    let why = String::from_utf8_lossy(&old.stderr);
    assert!(!old.status.success() && why.contains("pgaad.hpp needs C++17"), "{why}");
}

/// The names of C functions in a text.
fn functions(text: &str) -> BTreeSet<&str> {
    let symbols: BTreeSet<_> = include_str!("../symbols.txt").lines().collect();
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| symbols.contains(word)).collect()
}

#[test]
fn each_c_function_has_its_place_or_is_left_out_for_a_reason() {
    let (about, rest) = HEADER.split_once("*/").expect("a comment first");
    let (_, left) = about.split_once("Left to the C functions").expect("what is left out");
    let comments = |line: &&str| !["/*", "*", "//"].iter().any(|mark| line.trim().starts_with(mark));
    let code: String = rest.lines().filter(comments).flat_map(|line| [line, "\n"]).collect();
    let (used, left) = (functions(&code), functions(left));
    assert!(used.len() > 20 && used.is_disjoint(&left), "{:?}", used.intersection(&left));
    let all = functions(include_str!("../symbols.txt"));
    let placed: BTreeSet<_> = used.union(&left).copied().collect();
    assert!(all == placed, "nothing in pgaad.hpp about {:?}", all.difference(&placed));
}

// What it does.

#[track_caller]
fn assert_ends_well(driver: &Driver, case: &str) {
    let output = driver.output(&[&[case]]);
    assert!(output.status.success(), "{case}: {output:?}");
}

/// The cases of cover.cpp that need no argument.
fn cases() -> Vec<String> {
    let listed = Driver::new().instead(cover()).output(&[]);
    let listed = String::from_utf8(listed.stdout).expect("UTF-8");
    let cases: Vec<_> =
        listed.lines().filter(|case| !["get", "oauth", "user"].contains(case)).map(str::to_owned).collect();
    assert!(cases.len() > 10, "{cases:?}");
    cases
}

#[test]
fn all_of_it_does_what_it_says() {
    let driver = ground().driver(&APP_ONE).instead(cover());
    each(&cases(), |case| assert_ends_well(&driver, case));
}

#[test]
fn the_sanitizers_find_nothing() {
    let flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let program = program("cover-sanitized", &COVER, &["pgaad", "libpq"], &flags);
    let driver = ground().driver(&APP_ONE).instead(program);
    // Their own memory is more than can be looked through.
    let cases: Vec<_> = cases().into_iter().filter(|case| case != "wiping").collect();
    each(&cases, |case| assert_ends_well(&driver, case));
}

#[test]
fn failures_are_thrown_by_kind() {
    let emulator = Emulator::start();
    let signed_in = signed_in(&emulator).instead(cover());
    let nobody = Driver::new().instead(cover());
    let get = |driver: &Driver, settings: &str| {
        let output = driver.output(&[&["get", settings]]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(get(&signed_in, ""), "PGAAD_OK\n");
    let nowhere = format!("authority_host=https://{}", ClosedPort::new().address());
    let later = Fault::status_without_code(429, "x").retry_after(3600);
    for (driver, settings, fault, expected) in [
        (
            &signed_in,
            "client_secret=wrong",
            None,
            "denied PGAAD_DENIED pgaad: Entra refused the client secret",
        ),
        (&signed_in, "auth=off", None, "error PGAAD_DISABLED pgaad: "),
        (&signed_in, "clientid=x", None, "config PGAAD_CONFIG pgaad: Unknown setting"),
        (&signed_in, "", Some(later), "temporary PGAAD_THROTTLED pgaad: "),
        (&signed_in, "", Some(Fault::garbage_json()), "error PGAAD_PROTOCOL pgaad: "),
        (&signed_in, &nowhere, None, "temporary PGAAD_NETWORK pgaad: "),
        (&nobody, "auth=managed_identity", None, "unavailable PGAAD_UNAVAILABLE pgaad: "),
    ] {
        if let Some(fault) = fault {
            emulator.entra().faults().next(fault);
        }
        let line = get(driver, settings);
        assert!(line.starts_with(expected) && line.lines().count() == 1, "{settings}: {line}");
    }
}

#[test]
fn the_user_stands_in_the_token() {
    let token = ground().emulator.entra().token_of(&DEVELOPER, emulator::POSTGRESQL, 3600);
    let output = Driver::new().instead(cover()).output(&[&["user", &token]]);
    assert_eq!(said(&output), (Some(0), format!("{}\n", DEVELOPER.role), String::new()));
}

#[test]
fn oauth_is_for_libpq_18() {
    let driver = Driver::new().instead(cover());
    let version = |driver: &Driver| {
        let (code, out, err) = said(&driver.output(&[&["oauth"]]));
        assert_eq!((code, err.as_str()), (Some(0), ""));
        out.trim_end().parse::<u32>().expect("a version") / 10_000
    };
    version(&driver);
    let all = Libpq::all();
    let newer = all.iter().find(|libpq| libpq.version == 18).expect("libpq 18");
    assert_eq!(version(&driver.with_libpq(newer)), 18);
}

#[test]
fn programs_that_do_not_connect_need_no_libpq() {
    let emulator = Emulator::start();
    for (name, flags) in [("alone", vec!["-O0"]), ("alone-connects", vec!["-O0", "-DCONNECTS"])] {
        let alone = program(name, &["tests/cpp/alone.cpp"], &["pgaad"], &flags);
        assert!(needed(&alone).contains("pgaad") && !needed(&alone).contains("libpq"), "{}", needed(&alone));
        let driver = signed_in(&emulator).env("PGAAD_LIBPQ", "/nonexistent/libpq.so.5").instead(alone);
        let (code, out, err) = said(&driver.output(&[]));
        assert_eq!((code, err.as_str()), (Some(0), ""));
        let expected = ["a connstring with the token 1\n", "PGAAD_LIBPQ pgaad: ", "/nonexistent/libpq.so.5"];
        assert!(in_order(&out, &expected), "{name}: {out}");
    }
}

// The examples.

#[test]
fn the_examples_sign_in() {
    for (name, package) in [("raw_libpq.cpp", "libpq"), ("libpqxx.cpp", "libpqxx")] {
        let program = program(
            name.trim_end_matches(".cpp"),
            &[&format!("examples/{name}")],
            &["pgaad", package],
            &["-O2"],
        );
        let run = |arguments: &[&str], env: &[_]| said(&installed().run(&program, arguments, env));
        let signed_in = (Some(0), "signed in as app-one over TLSv1.3\n".to_owned(), String::new());
        assert_eq!(run(&[], &env()), signed_in);
        assert_eq!(run(&["application_name=example"], &env_but("PGAPPNAME", "other")), signed_in);

        let failed = |arguments: &[&str], env: &[_]| {
            let (code, out, err) = run(arguments, env);
            assert_eq!((code, out.as_str()), (Some(1), ""));
            err
        };
        let err = failed(&[], &env_but("PGAAD_CLIENT_SECRET", "wrong"));
        assert!(err.starts_with("PGAAD_DENIED: pgaad: Entra refused the client secret"), "{err}");
        let err = failed(&["sslmode=disable"], &env());
        assert!(err.starts_with("PGAAD_INSECURE: pgaad: "), "{err}");
        let err = failed(&["user=nobody"], &env());
        assert!(err.contains("authentication failed for user \"nobody\""), "{err}");
    }
}

#[test]
fn the_program_in_the_readme_is_the_example() {
    let readme = include_str!("../../README.md");
    let blocks: Vec<_> =
        readme.split("```cpp\n").skip(1).filter_map(|rest| rest.split("```\n").next()).collect();
    let example = include_str!("../../examples/raw_libpq.cpp");
    let (comment, code) = example.split_once("*/\n").expect("a comment first");
    assert!(comment.starts_with("/*"));
    assert_eq!(blocks, [code]);
}
