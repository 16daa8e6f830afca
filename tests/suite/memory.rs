//! Nothing secret stays in memory that was freed: looked for from outside, in all of the process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use emulator::{APP_ONE, Emulator, Fault, Proxy};

use crate::harness::{Driver, Session, shim, signed_in, wait_until};

/// All that a process can write to, beside the strings that it was started with.
fn memory(pid: u32) -> Vec<(String, Vec<u8>)> {
    let read =
        |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).expect("a process of ours");
    let stat = read("stat");
    // The 48th to the 51st: arg_start, arg_end, env_start, env_end; the second may hold blanks.
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let number = |n: usize| fields[n - 3].parse::<u64>().expect("an address");
    let hosts = [number(48)..number(49), number(50)..number(51)];
    let mut mem = File::open(format!("/proc/{pid}/mem")).expect("we may read it");
    let mut areas = Vec::new();
    for line in
        read("maps").lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw")))
    {
        let (start, end) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let address = |text| u64::from_str_radix(text, 16).expect("an address");
        let (start, end) = (address(start), address(end));
        let mut bytes = vec![0; (end - start) as usize];
        mem.seek(SeekFrom::Start(start)).expect("an address");
        if mem.read_exact(&mut bytes).is_err() {
            continue; // [vvar] and the like
        }
        for host in hosts.iter().filter(|host| host.start < end && start < host.end) {
            bytes[(host.start.max(start) - start) as usize..(host.end.min(end) - start) as usize].fill(0);
        }
        areas.push((line.to_string(), bytes));
    }
    areas
}

/// What to look for, and by which name to report it.
struct Wanted(Vec<(String, Vec<u8>)>);

impl Wanted {
    /// The secret as it is and as it is sent, and the tokens in pieces, so that part of one is found as well.
    fn of(emulator: &Emulator) -> Self {
        let mut all = vec![("the secret".to_string(), APP_ONE.secret.as_bytes().to_vec())];
        for seen in emulator.entra().requests() {
            let body = String::from_utf8(seen.http.body).expect("a form");
            let sent =
                body.split('&').find_map(|pair| pair.strip_prefix("client_secret=")).expect("a secret");
            all.push(("the secret as it is sent".into(), sent.as_bytes().to_vec()));
            all.push(("the form".into(), body.as_bytes()[..40].to_vec()));
        }
        for token in emulator.entra().tokens() {
            let pieces = token.as_bytes().chunks_exact(24);
            all.extend(pieces.map(|piece| ("a piece of a token".to_string(), piece.to_vec())));
        }
        all.dedup();
        Self(all)
    }

    /// Where it is. A text of twice a piece's length holds a whole piece.
    fn find_in(&self, pid: u32) -> Vec<String> {
        let mut by_start: Vec<Vec<&(String, Vec<u8>)>> = vec![Vec::new(); 1 << 16];
        let start = |bytes: &[u8]| usize::from(bytes[0]) << 8 | usize::from(bytes[1]);
        for wanted in &self.0 {
            by_start[start(&wanted.1)].push(wanted);
        }
        let mut found = BTreeMap::new();
        for (area, bytes) in memory(pid) {
            for (at, pair) in bytes.windows(2).enumerate() {
                for (name, wanted) in &by_start[start(pair)] {
                    if bytes[at..].starts_with(wanted) {
                        found.entry((name, area.clone())).or_insert_with(Vec::new).push(at);
                    }
                }
            }
        }
        let describe = |((name, area), places): ((&String, String), Vec<usize>)| {
            format!("{name}, {} times, first {:#x} bytes into {area}", places.len(), places[0])
        };
        found.into_iter().map(describe).collect()
    }
}

/// A client whose secret is in a file, so that only pgaad ever holds it; what it gets is not printed.
fn session(driver: Driver, file: &std::path::Path) -> Session {
    std::fs::write(file, APP_ONE.secret).expect("a file");
    let driver = driver.without("PGAAD_CLIENT_SECRET").env("PGAAD_CLIENT_SECRET_FILE", file);
    // A program that is not linked with -z now finds each function at its first call, and the loader then puts all
    // registers on the stack, what memcpy left in them included.
    let mut session = driver.env("LD_BIND_NOW", "1").session();
    session.ask(&["hush"]);
    assert_eq!(session.one(&["new", ""]).status(), "PGAAD_OK");
    session
}

/// The threads of ours have ended, so what they freed is free.
fn settle(session: &Session) {
    wait_until("one thread", || session.running().tasks().len() == 1);
}

#[test]
fn no_secret_stays_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("secret");
    let again = || Fault::status(503, "temporarily_unavailable", 90033).retry_after_ms(1);
    let cases: Vec<(&str, &str, Vec<Fault>)> = vec![
        ("a token", "PGAAD_OK", vec![]),
        ("a token in chunks", "PGAAD_OK", vec![Fault::chunked()]),
        ("a token byte by byte", "PGAAD_OK", vec![Fault::drip(std::time::Duration::ZERO)]),
        ("a long token", "PGAAD_OK", vec![Fault::token_size(40_000)]),
        ("a token at the third try", "PGAAD_OK", vec![Fault::reset(), again()]),
        ("a secret that is repeated", "PGAAD_DENIED", vec![Fault::echo_secret()]),
        ("an answer that is cut short", "PGAAD_OK", vec![Fault::cut_short()]),
        ("a token that cannot be used", "PGAAD_PROTOCOL", vec![Fault::field("expires_in", "soon")]),
        ("a token in the wrong place", "PGAAD_PROTOCOL", vec![Fault::template(r#"{"id_token":"{token}"}"#)]),
        ("an answer in gzip", "PGAAD_PROTOCOL", vec![Fault::gzip()]),
    ];
    for (case, status, faults) in cases {
        let emulator = Emulator::start();
        faults.into_iter().for_each(|fault| emulator.entra().faults().next(fault));
        let mut session = session(signed_in(&emulator), &file);
        let line = session.one(&["client_get_token", "-1"]);
        assert_eq!(line.status(), status, "{case}: {line:?}");
        settle(&session);
        let pid = session.running().id();
        let held = Wanted::of(&emulator).find_in(pid);
        // The search sees what is there: the client holds its token, and nothing else.
        assert_eq!(held.is_empty(), status != "PGAAD_OK", "{case}: {held:#?}");
        assert!(held.iter().all(|place| place.starts_with("a piece of a token")), "{case}: {held:#?}");
        session.ask(&["free"]);
        let left = Wanted::of(&emulator).find_in(pid);
        assert!(left.is_empty(), "{case}: {left:#?}");
    }
}

#[test]
fn no_secret_stays_behind_a_proxy() {
    let emulator = Emulator::start();
    let proxy = Proxy::start();
    proxy.map_to(&emulator);
    let dir = tempfile::tempdir().expect("a folder");
    let authority = format!("https://login.pgaad.test:{}", emulator.entra().port());
    let driver = signed_in(&emulator).env("PGAAD_AUTHORITY_HOST", authority).env("HTTPS_PROXY", proxy.url());
    let mut session = session(driver.env("LD_PRELOAD", shim("slow_resolver")), &dir.path().join("secret"));
    assert_eq!(session.one(&["client_get_token", "-1"]).status(), "PGAAD_OK");
    session.ask(&["free"]);
    settle(&session);
    let left = Wanted::of(&emulator).find_in(session.running().id());
    assert!(left.is_empty() && proxy.connects().len() == 1, "{left:#?}");
}

#[test]
fn a_token_that_was_replaced_is_gone() {
    let emulator = Emulator::start();
    let dir = tempfile::tempdir().expect("a folder");
    let driver = signed_in(&emulator).env("LD_PRELOAD", shim("clock"));
    let mut session = session(driver, &dir.path().join("secret"));
    assert_eq!(session.one(&["client_get_token", "-1"]).status(), "PGAAD_OK");
    let mut old = Wanted::of(&emulator);
    let pid = session.running().id();
    assert!(!old.find_in(pid).is_empty());
    session.ask(&["suspend", "3400"]);
    assert_eq!(session.one(&["client_get_token", "-1"]).status(), "PGAAD_OK");
    settle(&session);
    // What both have in common, header and most claims, is in the one that is held.
    let new = emulator.entra().tokens().pop().expect("a token").into_bytes();
    old.0.retain(|(_, piece)| !new.windows(piece.len()).any(|window| window == piece));
    assert!(old.0.len() > 20 && emulator.entra().tokens().len() == 2);
    assert_eq!(old.find_in(pid), [""; 0], "renewed");
    session.ask(&["invalidate"]);
    assert_eq!(Wanted::of(&emulator).find_in(pid), [""; 0], "invalidated");
}

#[test]
fn what_the_caller_got_is_wiped_when_it_is_given_back() {
    let emulator = Emulator::start();
    let dir = tempfile::tempdir().expect("a folder");
    let mut session = session(signed_in(&emulator), &dir.path().join("secret"));
    session.ask(&["threads", "8", "client_get_token", "-1"]);
    let conninfo = "host=localhost user=app-one";
    assert_eq!(session.one(&["client_connstring", conninfo]).status(), "PGAAD_OK");
    session.ask(&["free"]);
    settle(&session);
    let left = Wanted::of(&emulator).find_in(session.running().id());
    assert!(left.is_empty(), "{left:#?}");
}
