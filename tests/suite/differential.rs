//! Against the libpq of this machine: whatever it reads, we read, and what it refuses, we refuse.
//!
//! The seeds are fixed, so that a failure can be had again; PGAAD_TEST_SEED sets another, and PGAAD_TEST_TURNS how often.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use emulator::serde_json::{Map, Value, from_str};
use emulator::{Emulator, Libpq};

use crate::harness::{Driver, Line, each, program, signed_in};

pub const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Runs the comparison with the libpq that the driver has, and gives its counts.
pub fn compare(driver: &Driver, mode: &str, seed: u64, turns: usize, more: &[&str]) -> Line {
    compare_by(program("agreement", &["-lpq"]), driver, mode, seed, turns, more)
}

/// The same for service and password files, which pgaad reads without libpq.
pub fn compare_files(driver: &Driver, mode: &str, seed: u64, turns: usize) -> Line {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let driver = driver.clone().env("PGSERVICEFILE", path("services")).env("PGPASSFILE", path("passwords"));
    compare_by(program("files", &[]), &driver, mode, seed, turns, &[])
}

fn compare_by(program: PathBuf, driver: &Driver, mode: &str, seed: u64, turns: usize, more: &[&str]) -> Line {
    let from_outside = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let seed = from_outside("PGAAD_TEST_SEED").unwrap_or_else(|| seed.to_string());
    let turns = from_outside("PGAAD_TEST_TURNS").unwrap_or_else(|| turns.to_string());
    let arguments = [&[mode, seed.as_str(), turns.as_str()], more].concat();
    let output = driver.clone().instead(program).output(&[&arguments]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    Line(format!("differential {}", said.trim()))
}

pub fn count(line: &Line, key: &str) -> usize {
    line.get(key).parse().unwrap_or_else(|_| panic!("no {key} in {line:?}"))
}

#[test]
fn conninfos_of_every_form_are_read_as_libpq_reads_them() {
    let driver = Driver::new().env("PGAAD_AUTH", "off");
    each(&[20260101, 20260102], |&seed| {
        let line = compare(&driver, "parse", seed, 60_000, &[]);
        // What libpq takes, what it refuses, and words that it does not know: all of them often.
        let all = ["accepted", "refused", "unknown"].map(|key| count(&line, key));
        let turns: usize = all.iter().sum();
        assert!(all[0] > turns / 3 && all[1] > turns / 10 && all[2] > turns / 50, "{line:?}");
    });
}

#[test]
fn a_connstring_with_a_token_holds_the_callers_options_and_ours() {
    let emulator = Emulator::start();
    let roots = emulator.ca_file().display().to_string();
    let line = compare(&signed_in(&emulator), "token", 20260103, 10_000, &[&roots, BUNDLE]);
    assert!(count(&line, "granted") > 500 && count(&line, "refused") > 500, "{line:?}");
    assert_eq!(emulator.entra().counters().tokens, 1);
}

#[test]
fn arrays_come_to_mean_what_they_mean_to_libpq() {
    let emulator = Emulator::start();
    let driver = signed_in(&emulator).env("PGUSER", "by-variable").env("PGPORT", "1");
    let line = compare(&driver, "arrays", 20260104, 4_000, &[]);
    assert!(count(&line, "compared") > 1000 && count(&line, "with_token") > 500, "{line:?}");
}

#[test]
fn services_and_password_files_are_read_as_libpq_reads_them() {
    let emulator = Emulator::start();
    let services = compare_files(&signed_in(&emulator).env("PGUSER", "a"), "services", 20260105, 10_000);
    assert!(count(&services, "read") > 1000 && count(&services, "refused") > 1000, "{services:?}");
    let passwords = compare_files(&signed_in(&emulator), "passfiles", 20260106, 5_000);
    assert!(count(&passwords, "with") > 1000 && count(&passwords, "without") > 1000, "{passwords:?}");
}

/// Reads a conninfo in the form that pgaad writes: `keyword='value'`, a backslash before `'` and `\`.
fn written(text: &[u8]) -> Bytes {
    let mut options = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|two| two == b"='").expect("a keyword and a quote");
        let keyword = rest[..end].to_vec();
        let mut bytes = rest[end + 2..].iter();
        let mut value = Vec::new();
        loop {
            match bytes.next().expect("a quote at the end") {
                b'\'' => break,
                b'\\' => value.push(*bytes.next().expect("a byte behind the backslash")),
                byte => value.push(*byte),
            }
        }
        assert_eq!(options.insert(keyword, value), None, "each keyword once");
        rest = bytes.as_slice();
        rest = rest.strip_prefix(b" ").unwrap_or(rest);
    }
    options
}

/// Options of any bytes.
type Bytes = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the version of libpq makes of a case: its options, or None for a refusal, and whether that is for a keyword.
fn measured(case: &Map<String, Value>, version: &str) -> (Option<Bytes>, bool) {
    let other = case.get("other_versions").and_then(|others| others.get(version)?.as_object());
    let differs = other.filter(|other| other.contains_key("options") || other.contains_key("error"));
    let outcome = differs.unwrap_or(case);
    if let Some(error) = outcome.get("error").and_then(Value::as_str) {
        let unknown = ["invalid connection option", "invalid URI query parameter"];
        return (None, unknown.iter().any(|text| error.starts_with(text)));
    }
    let mut options = BTreeMap::new();
    for (keyword, value) in outcome["options"].as_object().expect("options") {
        options.insert(keyword.clone().into_bytes(), value.as_str().expect("text").as_bytes().to_vec());
    }
    for (keyword, hex) in outcome.get("options_hex").and_then(Value::as_object).into_iter().flatten() {
        let hex = hex.as_str().expect("text");
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16));
        let value = bytes.collect::<Result<_, _>>().expect("hexadecimal");
        options.insert(keyword.clone().into_bytes(), value);
    }
    (Some(options), false)
}

#[test]
fn every_measured_case_is_read_as_it_was_measured() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/conninfo_cases.json");
    let data: Value = from_str(&std::fs::read_to_string(path).expect("the cases")).expect("JSON");
    let cases: Vec<_> = data["cases"]
        .as_array()
        .expect("cases")
        .iter()
        .map(|case| case.as_object().expect("a case"))
        .collect();
    assert!(cases.len() >= 195);
    let off = Driver::new().env("PGAAD_AUTH", "off");
    let inputs: Vec<_> = cases
        .iter()
        .map(|case| OsStr::from_bytes(case["input"].as_str().expect("text").as_bytes()))
        .collect();

    // Without libpq, with this machine's, which says in turn that it is another, and with those that are others.
    let here = off.run(&[&["libpq"]]).remove(0);
    let here = (here.word().parse::<u32>().expect("a version") / 10_000).to_string();
    let mut versions = vec!["18", "15", "16", "17", "19"];
    versions.retain(|version| *version != here);
    let mut readings = vec![("18", off.clone().instead(program("no_libpq", &[])))];
    let linked = off.instead(program("with_libpq", &["-lpq"]));
    readings.push((&here, linked.clone()));
    readings.extend(
        versions.iter().map(|version| (*version, linked.clone().env("PRETENDED", format!("{version}0000")))),
    );

    let others = Libpq::all();
    let others: Vec<_> =
        others.iter().map(|libpq| (libpq.version.to_string(), linked.clone().with_libpq(libpq))).collect();
    readings.extend(others.iter().map(|(version, driver)| (version.as_str(), driver.clone())));

    for (version, driver) in &readings {
        let lines = driver.run_bytes(&inputs);
        let lines: Vec<_> = lines.iter().filter(|line| line.command() == "connstring").collect();
        assert_eq!(lines.len(), cases.len(), "{lines:?}");
        for (case, line) in cases.iter().zip(lines) {
            let (wanted, for_a_keyword) = measured(case, version);
            match (line.status(), wanted) {
                ("PGAAD_OK", Some(wanted)) => {
                    assert_eq!(written(&line.bytes("encoded")), wanted, "{version}: {case:?}");
                }
                // A keyword that is not ours to judge is passed on.
                ("PGAAD_OK" | "PGAAD_CONFIG", None) if for_a_keyword => {}
                ("PGAAD_CONFIG", None) => {}
                (_, wanted) => panic!("{version}: {case:?}: {wanted:?} is wanted, got {line:?}"),
            }
        }
    }
}
