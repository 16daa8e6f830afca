//! What binary and C programs rely on: the header, the symbols, how the library is linked, NULL and garbage, threads,
//! loading and unloading. And what the source promises of itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use emulator::{APP_ONE, Emulator, Fault, Gate, Postgres};

use crate::harness::{self, Driver, each, ground, signed_in};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What a program prints; it must end well.
fn output(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).env("LC_ALL", "C").output().expect("the program starts");
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

// The header.

const INCLUDES: [&str; 3] = ["-DALONE", "-DBEFORE", "-DAFTER"];

fn compile_header(compiler: &str, flags: &[&str], include: &str) {
    let strict =
        ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wshadow", "-Wconversion", "-Wundef", "-Wcast-qual"];
    // libpq's headers are not ours to check.
    let paths = ["-I", &format!("{ROOT}/include"), "-isystem", "/usr/include/postgresql"];
    let source = format!("{ROOT}/tests/c/header.c");
    output(compiler, &[flags, &strict, &paths, &["-fsyntax-only", include, &source]].concat());
}

#[test]
fn the_header_stands_alone_before_and_after_libpqs_in_every_c() {
    let of_c = ["-Wstrict-prototypes", "-Wmissing-prototypes", "-Wold-style-definition", "-Wwrite-strings"];
    let rows: Vec<_> = ["-std=c99", "-std=c11", "-std=c17"]
        .into_iter()
        .flat_map(|standard| INCLUDES.map(|include| (standard, include)))
        .collect();
    each(&rows, |(standard, include)| compile_header("cc", &[&of_c[..], &[standard]].concat(), include));
}

#[test]
fn the_header_stands_alone_before_and_after_libpqs_in_cxx() {
    let flags = ["-x", "c++", "-std=c++11", "-Wold-style-cast", "-Wuseless-cast"];
    each(&INCLUDES, |include| compile_header("c++", &flags, include));
}

/// What header.c prints: the header's version, the library's, and the names of all statuses.
#[test]
fn numbers_names_and_versions_are_those_of_the_contract() {
    let program = harness::program("header", &["-DBEFORE", "-lpq"]);
    let printed = output(program.to_str().expect("a path"), &[]);
    let parts: Vec<u32> =
        env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse().expect("a number")).collect();
    let [major, minor, patch] = parts[..] else { panic!("{parts:?}") };
    let version = format!("{} {}", env!("CARGO_PKG_VERSION"), major * 10_000 + minor * 100 + patch);
    // The header's, then the library's.
    let mut expected = vec![version.clone(), version];
    expected.extend(
        [
            "OK",
            "INVALID_ARGUMENT",
            "CONFIG",
            "DISABLED",
            "UNAVAILABLE",
            "DENIED",
            "THROTTLED",
            "NETWORK",
            "TIMEOUT",
            "PROTOCOL",
            "INSECURE",
            "LIBPQ",
            "INTERNAL",
            // 13, -1, INT_MAX and INT_MIN
            "UNKNOWN",
            "UNKNOWN",
            "UNKNOWN",
            "UNKNOWN",
        ]
        .map(|name| format!("PGAAD_{name}")),
    );
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_program_in_cxx_finds_the_functions() {
    let of_c = harness::program("header", &["-DBEFORE", "-lpq"]);
    let (of_c, of_cxx) = (of_c.to_str().expect("a path"), format!("{}-cxx", of_c.display()));
    let (source, include) = (format!("{ROOT}/tests/c/header.c"), format!("-I{ROOT}/include"));
    let folder = harness::c_dir().display();
    let (search, run) = (format!("-L{folder}"), format!("-Wl,-rpath,{folder}"));
    let inputs = ["-DBEFORE", "-x", "c++", &source, &include, "-isystem", "/usr/include/postgresql"];
    output("c++", &[&inputs[..], &["-o", &of_cxx, &search, &run, "-lpgaad", "-lpq"]].concat());
    assert_eq!(output(&of_cxx, &[]), output(of_c, &[]));
}

// The libraries.

fn symbols() -> BTreeSet<String> {
    include_str!("../symbols.txt").lines().map(str::to_owned).collect()
}

#[test]
fn the_exported_symbols_are_those_of_the_list() {
    for folder in harness::libraries() {
        let library = folder.join("libpgaad.so");
        let library = library.to_str().expect("a path");
        let exported = output("nm", &["-D", "--defined-only", "--format=just-symbols", library]);
        assert_eq!(exported.lines().map(str::to_owned).collect::<BTreeSet<_>>(), symbols(), "{library}");
    }
}

#[test]
fn the_archive_has_the_same_functions() {
    for folder in harness::libraries() {
        let archive = folder.join("libpgaad.a");
        let listed = output("nm", &["--defined-only", "--extern-only", archive.to_str().expect("a path")]);
        let functions = listed.lines().filter_map(|line| line.split_once(" T "));
        let ours = functions.map(|(_, name)| name.to_owned()).filter(|name| name.starts_with("pgaad_"));
        assert_eq!(ours.collect::<BTreeSet<_>>(), symbols(), "{}", archive.display());
    }
}

#[test]
fn the_header_declares_what_is_exported() {
    let header = include_str!("../../include/pgaad.h");
    let is_comment = |line: &&str| ["/*", "*", "#"].iter().any(|mark| line.trim().starts_with(mark));
    let code = header.lines().filter(|line| !is_comment(line)).collect::<Vec<_>>().join(" ");
    // A function's name stands right before its parenthesis, a function type's in parentheses of its own.
    let declared =
        code.split('(').filter_map(|before| words(before).last().filter(|name| before.ends_with(name)));
    let ours = declared.filter(|name| name.starts_with("pgaad_")).map(str::to_owned);
    assert_eq!(ours.collect::<BTreeSet<_>>(), symbols());
}

/// The library's imports, without the versions of the C library's symbols.
fn imports(library: &Path) -> BTreeSet<String> {
    let undefined =
        output("nm", &["-D", "--undefined-only", "--format=just-symbols", library.to_str().expect("a path")]);
    undefined.lines().map(|line| line.split('@').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn nothing_in_the_library_can_end_its_host() {
    for folder in harness::libraries() {
        let imports = imports(&folder.join("libpgaad.so"));
        // Rust's own runtime imports abort, for memory exhaustion and panics in panics; the next test sees to ours.
        assert!(imports.contains("abort") && imports.contains("malloc"), "nm works: {imports:?}");
        for name in
            ["exit", "_exit", "_Exit", "quick_exit", "at_quick_exit", "raise", "tgkill", "pthread_kill"]
        {
            assert!(!imports.contains(name), "{name} in {}", folder.display());
        }
        // Commands (az) are started by posix_spawn alone.
        for name in ["sigaction", "signal", "sigvec", "fork", "vfork", "execve", "system", "popen"] {
            assert!(!imports.contains(name), "{name} in {}", folder.display());
        }
        // libpq is looked for, never linked.
        assert!(!imports.iter().any(|name| name.starts_with("PQ")), "{imports:?}");
    }
}

#[test]
fn the_library_is_linked_as_promised() {
    for folder in harness::libraries() {
        let library = folder.join("libpgaad.so");
        let library = library.to_str().expect("a path");
        let dynamic = output("readelf", &["-dW", library]);
        let entries = |tag: &str| -> Vec<&str> {
            let lines = dynamic.lines().filter(|line| line.contains(&format!("({tag})")));
            lines.map(|line| line.split([')', ':']).next_back().unwrap_or_default().trim()).collect()
        };
        assert_eq!(entries("SONAME"), ["[libpgaad.so.0]"]);
        let needed: BTreeSet<_> = entries("NEEDED").into_iter().collect();
        assert!(needed.contains("[libc.so.6]"), "{needed:?}");
        // libc brings the loader, which is named for thread-local variables.
        let loader = |name: &str| name.starts_with("[ld-linux");
        let others: Vec<_> = needed
            .iter()
            .filter(|name| !loader(name) && !["[libc.so.6]", "[libgcc_s.so.1]"].contains(name))
            .collect();
        assert!(others.is_empty(), "{others:?}");
        let flags = entries("FLAGS_1").join(" ");
        let words: Vec<_> = flags.split_whitespace().collect();
        assert!(words.contains(&"NODELETE") && words.contains(&"NOW"), "{dynamic}");
        assert!(entries("FLAGS").join(" ").contains("BIND_NOW"), "{dynamic}");
        for tag in ["TEXTREL", "RPATH", "RUNPATH"] {
            assert!(entries(tag).is_empty(), "{tag}");
        }
        let segments = output("readelf", &["-lW", library]);
        let segment =
            |name: &str| segments.lines().find(|line| line.trim().starts_with(name)).unwrap_or_default();
        let flags = |name: &str| segment(name).split_whitespace().nth_back(1).unwrap_or_default().to_owned();
        assert_eq!(flags("GNU_STACK"), "RW", "{segments}");
        // With BIND_NOW, this covers the table of functions too.
        assert!(segment("GNU_RELRO").contains(" R "), "{segments}");
        let both = segments.lines().any(|line| line.contains("LOAD") && line.contains("RWE"));
        assert!(!both, "{segments}");
    }
}

// The source.

/// Each file below `src`, by its path there, without comments and the content of strings.
fn source() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            match entry.path() {
                path if path.is_dir() => walk(&path, found),
                path if path.extension().is_some_and(|end| end == "rs") => found.push(path),
                _ => {}
            }
        }
    }
    let root = Path::new(ROOT).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).expect("below src").to_str().expect("UTF-8").to_owned();
        (name, code(&std::fs::read_to_string(&path).expect("a file")))
    };
    found.into_iter().map(read).collect()
}

/// Rust without comments and the content of strings.
fn code(text: &str) -> String {
    let mut left = text;
    let mut code = String::new();
    while let Some(first) = left.chars().next() {
        let raw = left.trim_start_matches(['b', 'c']).strip_prefix('r').map(|rest| {
            let hashes = rest.len() - rest.trim_start_matches('#').len();
            (hashes, rest[hashes..].starts_with('"'))
        });
        let within_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let skipped = if left.starts_with("//") {
            left.find('\n').unwrap_or(left.len())
        } else if let (Some((hashes, true)), false) = (raw, within_word) {
            let start = left.find('"').expect("checked") + 1;
            let end = format!("\"{}", "#".repeat(hashes));
            start + left[start..].find(&end).expect("an end") + end.len()
        } else if first == '"' {
            let mut end = 1;
            while !left[end..].starts_with('"') {
                end += if left[end..].starts_with('\\') { 1 } else { 0 };
                end += left[end..].chars().next().expect("an end").len_utf8();
            }
            end + 1
        } else if left.starts_with("'\"'") || left.starts_with("b'\"'") {
            left.find("'\"'").expect("checked") + 3
        } else if left.starts_with("'\\\"'") || left.starts_with("'\\''") {
            4
        } else {
            0
        };
        let kept = if skipped == 0 { first.len_utf8() } else { 0 };
        code.push_str(&left[..kept]);
        left = &left[skipped.max(kept)..];
    }
    code
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

#[test]
fn comments_and_strings_are_no_code() {
    let text = "a(\"b \\\" c\"); // d\nr#\"e \" f\"# /// g\n'\"' h '\\'' br\"i\" for_r\"j\" b'\"' k";
    assert_eq!(words(&code(text)).collect::<Vec<_>>(), ["a", "h", "for_r", "k"]);
}

#[test]
fn unsafe_stays_in_its_rooms() {
    let source = source();
    let is_room = |name: &str| ["ffi/", "libpq/", "os/"].iter().any(|room| name.starts_with(room));
    let holders: Vec<_> =
        source.iter().filter(|(_, code)| words(code).any(|word| word == "unsafe")).collect();
    assert!(holders.iter().any(|(name, _)| is_room(name)), "the search works");
    let strangers: Vec<_> = holders.iter().map(|(name, _)| name).filter(|name| !is_room(name)).collect();
    assert!(strangers.is_empty(), "unsafe in {strangers:?}");
    let openers: Vec<_> = source.iter().filter(|(_, code)| code.contains("allow(unsafe_code)")).collect();
    assert!(openers.iter().all(|(name, _)| is_room(name)), "{openers:?}");
    // That each block says why it is sound is the compiler's to check.
    let manifest = include_str!("../../Cargo.toml");
    for lint in [
        "unsafe_code = \"deny\"",
        "unsafe_op_in_unsafe_fn = \"deny\"",
        "undocumented_unsafe_blocks = \"deny\"",
    ] {
        assert!(manifest.contains(lint), "{lint}");
    }
    let allowed = "undocumented_unsafe_blocks";
    assert!(source.iter().all(|(_, code)| !code.contains(allowed)), "somebody allows {allowed}");
}

#[test]
fn no_line_of_ours_ends_the_process() {
    for (name, code) in source() {
        for word in words(&code) {
            let ends = ["abort", "exit", "_exit", "_Exit", "quick_exit", "raise", "kill", "panic_nounwind"];
            // A command that does not end is ended.
            let is_commands = name == "os/child.rs" && word == "kill";
            // Of the program pgaad alone, which ends as the one does that it runs.
            let is_programs = name == "os/signals.rs" && ["kill", "raise"].contains(&word);
            assert!(is_commands || is_programs || !ends.contains(&word), "{word} in src/{name}");
        }
    }
    assert!(!include_str!("../../Cargo.toml").contains("panic ="), "panics must unwind, so as to be caught");
}

/// The modules that the file of one of them names by `crate::`.
fn uses(code: &str) -> Vec<String> {
    let first_word = |text: &str| words(text).next().unwrap_or_default().to_owned();
    let mut used = Vec::new();
    for (at, path) in code.match_indices("crate::") {
        let rest = code[at + path.len()..].trim_start();
        match rest.strip_prefix('{') {
            None => used.push(first_word(rest)),
            Some(group) => {
                let mut depth = 0;
                let end = |c: char| {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    depth < 0
                };
                let group = &group[..group.find(end).expect("a closing brace")];
                let mut depth = 0;
                let outer = group.split(|c: char| {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    c == ',' && depth == 0
                });
                used.extend(outer.map(first_word).filter(|word| !word.is_empty()));
            }
        }
    }
    used
}

#[test]
fn modules_use_only_what_stands_above_them() {
    let grouped = "use crate::{a::{b, c}, d}; crate::e::f(); use crate::g;";
    assert_eq!(uses(grouped), ["a", "d", "e", "g"]);
    let source = source();
    let (_, list) = source.iter().find(|(name, _)| name == "lib.rs").expect("lib.rs");
    let order: Vec<_> = list
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("pub ").strip_prefix("mod ")?.split(';').next())
        .collect();
    assert!(order.len() > 10 && order.contains(&"ffi"), "{order:?}");
    let mut trouble = Vec::new();
    for (name, code) in source.iter().filter(|(name, _)| name != "lib.rs" && name != "main.rs") {
        let module = name.split(['/', '.']).next().unwrap_or_default();
        let rank = order.iter().position(|known| *known == module).expect("lib.rs lists each module");
        for used in uses(code) {
            if !order[..=rank].contains(&used.as_str()) {
                trouble.push(format!("src/{name} uses {used}, which stands below {module}"));
            }
        }
    }
    assert!(trouble.is_empty(), "{trouble:#?}");
}

// C programs.

/// Runs a program of `tests/c` that says "done" when all was as it should be.
#[track_caller]
fn run_to_the_end(driver: &Driver, arguments: &[&str]) {
    let lines = driver.run(&[arguments]);
    assert_eq!(lines.last().map(|line| line.0.as_str()), Some("done"), "{lines:?}");
}

#[test]
fn null_and_garbage_are_refused_or_read_as_promised() {
    // No identity, no database, no file.
    let nowhere = Driver::new().env("PGHOST", "/nonexistent");
    run_to_the_end(&nowhere.instead(harness::program("null_args", &["-lpq"])), &["5000"]);
}

#[test]
fn many_threads_use_every_function_at_once() {
    let threads = harness::program("threads", &["-lpq"]);
    run_to_the_end(&ground().driver(&APP_ONE).instead(threads), &["storm", "8", "14", ""]);
}

#[test]
fn calls_outlive_the_free_of_their_client() {
    const CALLS: usize = 12;
    let (emulator, gate) = (Emulator::start(), Gate::new());
    emulator.entra().faults().always(Fault::gate(&gate));
    let postgres = Postgres::start(&emulator);
    let driver = signed_in(&emulator).envs(postgres.env(APP_ONE.role));
    let threads = driver.instead(harness::program("threads", &["-lpq"]));
    let mut session = threads.session_of(&["free", &CALLS.to_string(), ""]);
    gate.wait_for_arrivals(CALLS);
    assert_eq!(session.one(&["free"]).0, "freed");
    gate.open();
    let (said, code) = session.last(&[]);
    assert_eq!((said.as_str(), code), ("done\n", Some(0)));
    assert_eq!(
        postgres.binds().iter().filter(|bind| bind.ok()).count(),
        CALLS / 2,
        "connections are half of the calls"
    );
}

#[test]
fn loaded_and_unloaded_it_stays_and_needs_no_libpq() {
    let program = harness::compile("dlopen", &["-ldl"]);
    let library = harness::c_dir().join("libpgaad.so");
    run_to_the_end(&ground().driver(&APP_ONE).instead(program), &[library.to_str().expect("a path")]);
}
