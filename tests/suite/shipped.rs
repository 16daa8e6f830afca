//! What users get: what it needs of their machine, what is in it and under which licences, and that all say the same
//! version.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness;
use crate::install::out;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn library() -> PathBuf {
    out().join("libpgaad.so")
}

/// What a program prints that ends well.
#[track_caller]
fn said(command: &mut Command) -> String {
    let done = command.env("LC_ALL", "C").output().expect("it starts");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn in_repository(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).expect("a file")
}

// What it needs.

/// The libraries that a file names for the loader, and the highest glibc that it has a symbol of.
fn needs(file: &Path) -> (Vec<String>, String) {
    let dynamic = said(Command::new("readelf").arg("-dW").arg(file));
    let named = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    let mut libraries: Vec<_> =
        named.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned())).collect();
    libraries.sort();
    let versions = said(Command::new("readelf").arg("-VW").arg(file));
    let number = |text: &str| text.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>();
    let words = versions.split_whitespace().filter_map(|word| number(word.strip_prefix("GLIBC_")?));
    let highest = words.max().expect("a version of glibc");
    (libraries, highest.iter().map(u32::to_string).collect::<Vec<_>>().join("."))
}

const BEGIN: &str = "<!-- needs: written by tests/suite/shipped.rs -->\n";
const END: &str = "<!-- end of needs -->\n";

#[test]
fn the_readme_says_what_the_machine_must_have() {
    let built_with = said(Command::new("getconf").arg("GNU_LIBC_VERSION"));
    let architecture = std::env::consts::ARCH;
    let mut rows = vec!["| built on | file | glibc | libraries |\n|---|---|---|---|\n".to_owned()];
    for file in ["libpgaad.so", "pgaad"] {
        let (libraries, glibc) = needs(&out().join(file));
        // Nothing that a Linux with glibc hasn't got.
        for library in &libraries {
            let known =
                ["libc.so.6", "libgcc_s.so.1"].contains(&&**library) || library.starts_with("ld-linux");
            assert!(known, "{file} needs {library}");
        }
        let libraries = libraries.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let built_on = format!("{architecture}, {}", built_with.trim());
        rows.push(format!("| {built_on} | `{file}` | {glibc} or later | {libraries} |\n"));
    }
    let readme = in_repository("README.md");
    let block =
        readme.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map_or("", |(text, _)| text);
    // What is made without optimisation, or by another machine's compiler, may need something else.
    let is_release = std::env::var_os("PGAAD_STAGE").is_some();
    let other = !is_release || built_with.trim() != "glibc 2.36" || architecture != "x86_64";
    let table = rows.concat();
    assert!(
        block == table || other && block.contains("| x86_64, glibc 2.36 |"),
        "the README's table is to be:\n{table}"
    );
}

// What is in it.

/// A program with all that isn't text spoilt.
fn text_of(file: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(file).expect("a file")).into_owned()
}

#[test]
fn the_library_holds_nothing_of_the_command() {
    let mut help = said(Command::new(harness::command()).arg("--help"));
    for command in ["token", "user", "connstring", "exec", "passfile", "cache", "settings", "completion"] {
        help += &said(Command::new(harness::command()).args([command, "--help"]));
    }
    let [command, library] = [harness::command(), &library()].map(text_of);
    // Rows of four words, for lines are broken where they get too long.
    let words: Vec<_> = help.split_whitespace().collect();
    let phrases: BTreeSet<_> =
        words.chunks(4).map(|four| four.join(" ")).filter(|four| four.len() > 15).collect();
    let of_command: Vec<_> = phrases.into_iter().filter(|phrase| command.contains(phrase)).collect();
    assert!(of_command.len() > 30, "the search works: {of_command:?}");
    let strangers: Vec<_> = of_command.iter().filter(|phrase| library.contains(*phrase)).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
    assert!(
        command.contains("/clap_builder-") && !library.contains("/clap"),
        "the crate that reads arguments"
    );
}

// Under which licences.

/// The crates whose sources a file names, as places where it may panic.
fn crates_in(file: &Path) -> BTreeSet<String> {
    let text = text_of(file);
    let mut found = BTreeSet::new();
    for (marker, skipped) in [("/registry/src/", 1), ("/rust/deps/", 0)] {
        for (at, _) in text.match_indices(marker) {
            let name = text[at + marker.len()..].split('/').nth(skipped).unwrap_or_default();
            let at = name
                .match_indices('-')
                .map(|(at, _)| at)
                .find(|at| name[at + 1..].starts_with(char::is_numeric));
            found.extend(at.map(|at| name[..at].to_owned()));
        }
    }
    found
}

#[test]
fn each_crate_inside_is_listed_with_its_texts() {
    let licenses = std::fs::read_to_string(out().join("third-party-licenses.txt")).expect("a file");
    let (list, texts) = licenses.split_once("\n====").expect("texts");
    let mut entries = list.lines().skip_while(|line| !line.starts_with("aes "));
    let mut listed = BTreeSet::new();
    while let (Some(part), Some(license)) = (entries.next(), entries.next()) {
        if part.is_empty() {
            break;
        }
        let (license, numbers) = license.trim().rsplit_once(": ").expect("a licence and its texts");
        assert!(!license.is_empty() && !numbers.is_empty(), "{part}");
        for number in numbers.split(", ") {
            assert!(texts.contains(&format!(" Text {number} =")), "{part}: text {number}");
        }
        listed.insert(part.split([' ', ',']).next().unwrap_or_default().to_owned());
    }
    let [library, command] = [&library(), harness::command()].map(crates_in);
    assert!(library.contains("rustls") && library.contains("gimli"), "{library:?}");
    assert!(command.contains("clap_builder"), "{command:?}");
    let missing: Vec<_> = library.union(&command).filter(|name| !listed.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?} of {list}");
    // Those of whom each copy must keep the name.
    for line in ["Brian Smith", "Isis Agora Lovecruft"] {
        assert!(texts.contains(line), "{line}");
    }
    let texts: Vec<_> = texts.split(" Text ").skip(1).filter_map(|text| text.split_once('\n')).collect();
    let different: BTreeSet<Vec<_>> =
        texts.iter().map(|(_, text)| text.split_whitespace().collect()).collect();
    assert!(texts.len() > 30 && different.len() == texts.len(), "equal texts are one");
}

#[test]
fn no_list_is_made_where_a_crate_has_no_text() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    let package = |name: &str| {
        format!("[package]\nname = \"{name}\"\nversion = \"1.2.3\"\nedition = \"2024\"\nlicense = \"MIT\"\n")
    };
    let rest = "[workspace]\n[features]\ncommand = []\n[dependencies]\nbare = { path = \"bare\" }\n";
    write("Cargo.toml", &(package("top") + rest));
    write("bare/Cargo.toml", &package("bare"));
    write("src/lib.rs", "");
    write("bare/src/lib.rs", "");
    let manifest = dir.path().join("Cargo.toml");
    said(
        Command::new(env!("CARGO"))
            .args(["generate-lockfile", "--offline", "--manifest-path"])
            .arg(&manifest),
    );
    let list = dir.path().join("list");
    let make_list = || -> Output {
        let mut script = Command::new(Path::new(ROOT).join("packaging/licenses.py"));
        script.arg(&list).arg("--manifest-path").arg(&manifest).output().expect("it starts")
    };
    let refused = make_list();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && !list.exists(), "{refused:?}");
    assert_eq!(why, "licenses.py: no licence text comes with bare 1.2.3\n");

    write("bare/LICENSE", "Do as you like.\n");
    assert!(make_list().status.success());
    let text = std::fs::read_to_string(list).expect("a list");
    assert!(text.contains("\nbare 1.2.3\n    MIT: 1\n") && text.contains("\nDo as you like.\n"), "{text}");
}

// The version.

#[test]
fn packages_and_changelogs_are_of_this_version() {
    let first = |path: &str, start: &str| {
        let text = in_repository(path);
        let line = text.lines().find(|line| line.starts_with(start)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{path} has no line with {start}"))
    };
    assert_eq!(first("CHANGELOG.md", "## ").trim_start_matches("## "), VERSION);
    assert!(first("debian/changelog", "pgaad (").starts_with(&format!("pgaad ({VERSION}) ")));
    assert!(first("README.md", "This is version").starts_with(&format!("This is version {VERSION}.")));
}

#[test]
fn the_package_of_the_library_lists_each_function() {
    let symbols = in_repository("debian/libpgaad0.symbols");
    let mut lines = symbols.lines();
    assert_eq!(lines.next(), Some("libpgaad.so.0 libpgaad0 #MINVER#"));
    let listed: BTreeSet<_> = lines.filter_map(|line| line.strip_prefix(' ')?.split('@').next()).collect();
    let exported = in_repository("tests/symbols.txt");
    assert_eq!(listed, exported.lines().collect());
}
