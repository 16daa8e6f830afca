//! Which libpq: the one that is named, else the one that the program links, else the only one loaded, else one that is
//! loaded now.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use emulator::{APP_ONE, Emulator};
use tempfile::TempDir;

use crate::harness::{Driver, Line, ground, program, signed_in};

/// Fails before anything is contacted.
const NOWHERE: &str = "host=/nonexistent user=a";

/// This machine's libpq, and copies of it under names of their own.
struct Libraries {
    folder: TempDir,
    system: String,
    /// Named as Python's wheels name theirs.
    wheel: String,
    other: String,
}

impl Libraries {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let line = Driver::new().one(&["libpq"]);
        let system = line.get("path").to_string();
        let copy = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::copy(&system, &path).expect("a copy");
            path.display().to_string()
        };
        let (wheel, other) = (copy("libpq-a17e3caa.so.5.17"), copy("private/libpq.so.5"));
        Self { folder, system, wheel, other }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

/// A program that links no libpq.
fn unlinked() -> Driver {
    Driver::new().instead(program("find_libpq", &[]))
}

/// One that does.
fn linked() -> Driver {
    Driver::new().instead(program("linked_libpq", &["-lpq"]))
}

/// The file that `pgaad_libpq` named, which must be that of a libpq.
#[track_caller]
fn found(line: &Line) -> PathBuf {
    assert_eq!((line.command(), line.status()), ("libpq", "PGAAD_OK"), "{line:?}");
    let (version, path) = line.get("got").split_once(':').expect("a version and a path");
    assert!(version.parse::<i32>().is_ok_and(|version| version >= 120_000), "{line:?}");
    Path::new(path).canonicalize().expect("a file")
}

#[track_caller]
fn is(line: &Line, path: &str) {
    assert_eq!(found(line), Path::new(path).canonicalize().expect("a file"), "{line:?}");
}

/// A `PGAAD_LIBPQ` whose message names all of these.
#[track_caller]
fn fails(line: &Line, names: &[&str]) {
    assert_eq!(line.status(), "PGAAD_LIBPQ", "{line:?}");
    assert!(line.errmsg().starts_with("pgaad: "), "{line:?}");
    for name in names {
        assert!(line.errmsg().contains(name), "{name} is missing: {line:?}");
    }
}

#[test]
fn the_one_that_the_program_links() {
    let libraries = Libraries::new();
    is(&linked().one(&["libpq"]), &libraries.system);
    // So it is whatever else is loaded, and however.
    for how in ["local", "global"] {
        for copy in [&libraries.wheel, &libraries.other] {
            let lines = linked().run(&[&[how, copy], &["libpq"], &["connect", NOWHERE], &["libpq"]]);
            is(&lines[0], &libraries.system);
            assert_eq!(lines[1].get("got"), "BAD");
            is(&lines[3], &libraries.system);
        }
    }
    // Unless another one was put in its place before the program started.
    let preloaded = linked().env("LD_PRELOAD", &libraries.wheel).one(&["libpq"]);
    is(&preloaded, &libraries.wheel);
}

#[test]
fn else_the_only_one_loaded() {
    let libraries = Libraries::new();
    for how in ["local", "global"] {
        for path in [&libraries.system, &libraries.wheel, &libraries.other] {
            let lines = unlinked().run(&[&[how, path], &["libpq"], &["connect", NOWHERE], &["libpq"]]);
            is(&lines[0], path);
            assert_eq!(lines[1].status(), "PGAAD_OK", "{lines:?}");
            assert!(lines[2].0.contains("/nonexistent"), "libpq's own words: {lines:?}");
            is(&lines[3], path);
            // The variable does not take it away: a program's connections are those of its libpq.
            let named = unlinked().env("PGAAD_LIBPQ", "/nonexistent").run(&[&[how, path], &["libpq"]]);
            is(&named[0], path);
        }
    }
    // Also where it is a plug-in that links it, and was loaded for itself.
    let plugin = program("plugin", &["-shared", "-fPIC", "-lpq"]).display().to_string();
    let loader = Driver::new().instead(program("load_plugin", &[]));
    let line = loader.one(&[&plugin, NOWHERE]);
    assert_eq!(
        (line.status(), line.get("conn"), line.get("version")),
        ("PGAAD_OK", "BAD", "same"),
        "{line:?}"
    );
    let several = loader.one(&[&plugin, &libraries.wheel, NOWHERE]);
    assert_eq!(several.get("conn"), "NULL");
    fails(&several, &[&libraries.wheel, "libpq.so.5", "PGAAD_LIBPQ", "pgaad_use_libpq"]);
}

#[test]
fn else_one_is_loaded() {
    let libraries = Libraries::new();
    is(&unlinked().one(&["libpq"]), &libraries.system);
    let lines = unlinked().run(&[&["connect", NOWHERE], &["libpq"]]);
    assert_eq!(lines[0].get("got"), "BAD", "{lines:?}");
    is(&lines[2], &libraries.system);
    // The one that is named, by whatever name the loader knows.
    let by_variable = unlinked().env("PGAAD_LIBPQ", &libraries.wheel);
    is(&by_variable.one(&["libpq"]), &libraries.wheel);
    let by_name = unlinked()
        .env("LD_LIBRARY_PATH", libraries.folder.path())
        .env("PGAAD_LIBPQ", "libpq-a17e3caa.so.5.17");
    is(&by_name.one(&["libpq"]), &libraries.wheel);
    let empty = unlinked().env("PGAAD_LIBPQ", "");
    is(&empty.one(&["libpq"]), &libraries.system);
}

#[test]
fn a_program_without_libpq_signs_in_with_the_one_that_is_loaded() {
    let ground = ground();
    let lines = ground.driver(&APP_ONE).instead(program("find_libpq", &[])).run(&[&["connect", ""]]);
    assert_eq!((lines[0].status(), lines[0].get("got")), ("PGAAD_OK", "OK"), "{lines:?}");
}

#[test]
fn of_several_none_is_guessed() {
    let libraries = Libraries::new();
    let emulator = Emulator::start();
    let (system, wheel, other) = (&libraries.system, &libraries.wheel, &libraries.other);
    let both: [&[&str]; 2] = [&["local", system], &["local", wheel]];
    let after = |driver: &Driver, commands: &[&[&str]]| driver.run(&[&both, commands].concat());

    let lines = after(&unlinked(), &[&["libpq"], &["connect", NOWHERE], &["libpq"]]);
    for line in [&lines[0], &lines[2]] {
        fails(line, &[system, wheel, "PGAAD_LIBPQ", "pgaad_use_libpq"]);
    }
    assert_eq!(lines[1].word(), "NULL");
    // Not for a global one either, which was loaded by somebody as well.
    let lines = unlinked().run(&[&["global", wheel], &["local", other], &["libpq"]]);
    fails(&lines[0], &[wheel, other]);

    // What needs no libpq is not troubled.
    let alone = signed_in(&emulator).env("PGUSER", "a").instead(program("find_libpq", &[]));
    for line in after(&alone, &[&["get_token"], &["connstring", "host=localhost"]]) {
        assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    }

    // The variable picks: by path, by another path to the same file, by name.
    let link = libraries.path("a link");
    symlink(wheel, &link).expect("a link");
    for (name, path) in
        [(wheel, wheel), (system, system), (&link, wheel), (&"libpq-a17e3caa.so.5.17".to_string(), wheel)]
    {
        let lines =
            after(&unlinked().env("PGAAD_LIBPQ", name), &[&["libpq"], &["connect", NOWHERE], &["libpq"]]);
        is(&lines[0], path);
        assert_eq!(lines[1].get("got"), "BAD", "{lines:?}");
        is(&lines[3], path);
    }
    // None of them, or more than one.
    for name in ["/nonexistent/libpq.so.5", "libpq.so.5"] {
        let lines = after(&unlinked().env("PGAAD_LIBPQ", name), &[&["local", other], &["libpq"]]);
        fails(&lines[0], &[system, wheel, other, name]);
    }
    // A program that links one has chosen, unless the variable says otherwise.
    let lines = linked().env("PGAAD_LIBPQ", wheel).run(&[&["local", wheel], &["libpq"]]);
    is(&lines[0], wheel);
    let lines = linked().env("PGAAD_LIBPQ", "/nonexistent").run(&[&["local", wheel], &["libpq"]]);
    is(&lines[0], system);
}

#[test]
fn where_none_can_be_had_connect_gives_null_and_libpq_says_why() {
    let libraries = Libraries::new();
    let (missing, broken) = (libraries.path("missing.so"), libraries.path("broken/libpq.so.5"));
    std::fs::create_dir(libraries.folder.path().join("broken")).expect("a folder");
    std::fs::write(&broken, "no library at all").expect("a file");
    let broken_folder = libraries.path("broken");
    for (driver, names) in [
        (unlinked().env("PGAAD_LIBPQ", &missing), &[missing.as_str(), "PGAAD_LIBPQ"][..]),
        (unlinked().env("PGAAD_LIBPQ", &broken), &[&broken, "PGAAD_LIBPQ"]),
        (unlinked().env("PGAAD_LIBPQ", "libm.so.6"), &["libm.so.6"]),
        (unlinked().env("LD_LIBRARY_PATH", &broken_folder), &["libpq5", "PGAAD_LIBPQ"]),
    ] {
        let lines = driver.run(&[
            &["libpq"],
            &["connect", NOWHERE],
            &["libpq"],
            // What needs no libpq is not troubled.
            &["connstring", NOWHERE],
            // The failure is not remembered.
            &["local", &libraries.wheel],
            &["libpq"],
            &["connect", NOWHERE],
            &["libpq"],
        ]);
        fails(&lines[0], names);
        assert_eq!(lines[1].word(), "NULL");
        fails(&lines[2], names);
        assert_eq!(lines[3].status(), "PGAAD_OK", "{lines:?}");
        is(&lines[4], &libraries.wheel);
        assert_eq!(lines[5].get("got"), "BAD");
        is(&lines[7], &libraries.wheel);
    }
}

#[test]
fn the_one_that_is_named_comes_first_until_the_first_connect() {
    let libraries = Libraries::new();
    let (system, wheel, other) = (&libraries.system, &libraries.wheel, &libraries.other);
    for driver in [unlinked(), linked(), linked().env("PGAAD_LIBPQ", other)] {
        let lines = driver.run(&[
            &["local", other],
            // Asking which one it is settles nothing, nor does what needs none.
            &["libpq"],
            &["connstring", NOWHERE],
            &["use", system],
            &["use", wheel],
            &["asked"],
            &["libpq"],
            &["connect", NOWHERE],
            &["asked"],
            &["use", other],
            &["libpq"],
            &["connect", NOWHERE],
        ]);
        assert_eq!((lines[2].status(), lines[3].status()), ("PGAAD_OK", "PGAAD_OK"), "{lines:?}");
        is(&lines[5], wheel);
        assert_eq!(lines[6].get("got"), "BAD", "{lines:?}");
        // The resolver is asked before pgaad_use_libpq returns, and never again.
        assert_ne!(lines[4].word(), "0");
        assert_eq!(lines[4].word(), lines[8].word(), "{lines:?}");
        assert_eq!(lines[9].status(), "PGAAD_INVALID_ARGUMENT", "{lines:?}");
        assert!(lines[9].0.contains("before"), "{lines:?}");
        is(&lines[10], wheel);
        assert_eq!(lines[11].get("got"), "BAD");
    }
}

#[test]
fn a_libpq_that_will_not_do_is_refused_and_changes_nothing() {
    let libraries = Libraries::new();
    let system = &libraries.system;
    let lines = unlinked().run(&[
        &["local", &libraries.wheel],
        &["use_nothing"],
        &["use", "libm.so.6"],
        &["use", system, "PQconninfoParse"],
        &["use", system, "PQlibVersion"],
        &["use_version", "110022"],
        &["use_version", "90624"],
        &["connect", NOWHERE],
        &["libpq"],
    ]);
    assert_eq!(lines[0].status(), "PGAAD_INVALID_ARGUMENT", "{lines:?}");
    fails(&lines[1], &["PQlibVersion"]);
    fails(&lines[2], &["PQconninfoParse"]);
    fails(&lines[3], &["PQlibVersion"]);
    fails(&lines[4], &["11.22", "12"]);
    fails(&lines[5], &["12"]);
    // As libpq.so.5 was loaded by `use`, there are two by now, and none is named.
    assert_eq!(lines[6].word(), "NULL");
    fails(&lines[7], &[system, &libraries.wheel]);
}
