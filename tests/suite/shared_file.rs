//! `cache=file`: one token for all processes of a user, which nobody else can read, and which nobody needs.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use emulator::serde_json::Value;
use emulator::{APP_ONE, APP_ROTATING, APP_TWO, App, Emulator, Endpoint, Fault, Gate, IDENTITY_ONE};
use emulator::{IDENTITY_TWO, Imds, PATIENCE, Tool};
use tempfile::TempDir;

use crate::at_secure::Raised;
use crate::harness::{
    Driver, Line, NOW, Running, Session, assert_fails, assert_one_clear_line, conninfo, is_root, shim,
    signed_in, wait_until,
};

/// For all who need no client.
const GET: &[&str] = &["get_token"];
/// Two keys for entries.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OTHER_KEY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
/// Another scope that the emulator knows.
const COSMOS: (&str, &str) = ("PGAAD_SCOPE", "https://token.postgres.cosmos.azure.com/.default");

/// A token service, and a directory for what it gives.
struct Machine {
    emulator: Emulator,
    temporary: TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { emulator: Emulator::start(), temporary: tempfile::tempdir().expect("a folder") }
    }

    fn dir(&self) -> PathBuf {
        self.temporary.path().join("pgaad")
    }

    fn cache(&self) -> String {
        cache(&self.dir())
    }

    /// A program of the first application.
    fn program(&self) -> Driver {
        signed_in(&self.emulator).env("PGAAD_CACHE", self.cache())
    }

    fn program_of(&self, app: &App) -> Driver {
        Driver::new().envs(self.emulator.env(app)).env("PGAAD_CACHE", self.cache())
    }

    /// A new process, so many seconds from now.
    fn later(&self, seconds: i64) -> Session {
        self.later_with(seconds, "")
    }

    fn later_with(&self, seconds: i64, settings: &str) -> Session {
        let mut session = self.program().env("LD_PRELOAD", shim("clock")).session();
        session.ask(&["suspend", &seconds.to_string()]);
        let made = session.one(&["new", settings]);
        assert_eq!(made.status(), "PGAAD_OK", "{made:?}");
        session
    }

    /// From now on the service's clock says that it is so many seconds from now.
    fn service_at(&self, seconds: i64) {
        self.emulator.entra().configure(|config| config.clock_skew = seconds);
    }

    fn requests(&self) -> usize {
        self.emulator.entra().counters().requests
    }

    /// The next request waits at this gate.
    fn gate(&self) -> Gate {
        let gate = Gate::new();
        self.emulator.entra().faults().next(Fault::gate(&gate));
        gate
    }

    /// The files in the cache whose names end so.
    fn files(&self, end: &str) -> Vec<PathBuf> {
        files(&self.dir(), end)
    }

    /// The tokens in the cache. The name of what says how a fetch failed is longer.
    fn entries(&self) -> Vec<PathBuf> {
        let mut found = self.files(".token");
        found.retain(|path| path.file_stem().is_some_and(|hash| hash.len() == 64));
        found
    }

    /// The only one.
    fn entry(&self) -> PathBuf {
        let mut entries = self.entries();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries.remove(0)
    }
}

fn cache(dir: &Path) -> String {
    format!("file:{}", dir.display())
}

fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = entries.filter(|path| path.display().to_string().ends_with(end)).collect();
    found.sort();
    found
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("its mode");
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").mode() & 0o7777
}

/// The token that a line brings.
#[track_caller]
fn token_in(line: &Line) -> String {
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    line.get("token").to_string()
}

/// The token that a new process gets.
#[track_caller]
fn token(program: &Driver) -> String {
    token_in(&program.one(GET))
}

/// What pgaad_client_stats says of this session's client.
#[track_caller]
fn stats(session: &mut Session) -> Value {
    let line = session.one(&["stats"]);
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    emulator::serde_json::from_str(line.get("stats")).expect("JSON")
}

/// Waits until the process is at its fetch, and as far as it gets.
fn wait_for_fetch(running: &Running) {
    wait_until("it fetches, or waits for who does", || {
        running.tasks().iter().any(|task| task.name == "pgaad-fetch" && task.state == 'S')
    });
}

fn signal(signal: &str, process: u32) {
    let sent = Command::new("kill").args([signal, &process.to_string()]).status().expect("kill");
    assert!(sent.success());
}

fn refused() -> Fault {
    Fault::status(401, "invalid_client", 7000215)
}

fn throttled() -> Fault {
    Fault::status(429, "temporarily_unavailable", 90055).retry_after(120)
}

fn busy() -> Fault {
    Fault::status(503, "temporarily_unavailable", 90033)
}

/// So many new processes that all wait for the one whose request is at the gate; then it opens.
fn together(machine: &Machine, n: usize, gate: &Gate) -> Vec<Line> {
    let program = machine.program();
    let mut sessions: Vec<_> = (0..n).map(|_| program.session()).collect();
    sessions.iter_mut().for_each(|session| session.tell(GET));
    sessions.iter().for_each(|session| wait_for_fetch(session.running()));
    gate.wait_for_arrivals(1);
    gate.open();
    sessions.iter_mut().map(|session| session.answer().pop().expect("a line")).collect()
}

#[test]
fn processes_that_start_together_make_one_request() {
    let machine = Machine::new();
    let lines = together(&machine, 32, &machine.gate());
    let tokens: Vec<_> = lines.iter().map(token_in).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]), "they have different tokens");
    let counters = machine.emulator.entra().counters();
    assert_eq!((counters.requests, counters.connections), (1, 1));
    // Who comes later asks nobody.
    assert_eq!(token(&machine.program()), tokens[0]);
    assert_eq!(machine.emulator.entra().counters(), counters);
}

#[test]
fn threads_of_several_processes_make_one_request() {
    let machine = Machine::new();
    let gate = machine.gate();
    let mut sessions: Vec<_> = (0..2).map(|_| machine.program().session()).collect();
    sessions.iter_mut().for_each(|session| session.tell(&["threads", "64", "get_token"]));
    for session in &sessions {
        wait_for_fetch(session.running());
        session.running().wait_for_sleepers(65);
    }
    gate.wait_for_arrivals(1);
    gate.open();
    let lines: Vec<_> = sessions.iter_mut().flat_map(Session::answer).collect();
    assert_eq!(lines.len(), 128);
    let first = token_in(&lines[0]);
    assert!(lines.iter().all(|line| line.get("token") == first), "they have different tokens");
    assert_eq!(machine.requests(), 1);
}

#[test]
fn stats_say_where_the_token_came_from() {
    let machine = Machine::new();
    for (origin, refreshes) in [("entra", 1), ("file", 1)] {
        let mut session = machine.later(0);
        let token = token_in(&session.one(NOW));
        let stats = stats(&mut session);
        assert_eq!(stats["origin"], origin, "{stats}");
        assert_eq!((&stats["misses"], &stats["refreshes"]), (&1.into(), &refreshes.into()), "{stats}");
        assert_eq!(stats["expires_on"], emulator::claims(&token).expect("claims")["exp"], "{stats}");
        assert_eq!((&stats["failures"], &stats["last_error"]), (&0.into(), &Value::Null), "{stats}");
    }
    assert_eq!(machine.requests(), 1);
}

#[test]
fn a_token_from_the_cache_has_the_rest_of_its_life() {
    let machine = Machine::new();
    let first = token(&machine.program());
    // Five minutes before its end it is renewed, by the clock of whoever finds it.
    assert_eq!(token_in(&machine.later(3200).one(NOW)), first);
    assert_eq!(machine.requests(), 1);
    machine.service_at(3400);
    let second = token_in(&machine.later(3400).one(NOW));
    assert_ne!(second, first);
    assert_eq!(token_in(&machine.later(3400).one(NOW)), second);
    assert_eq!(machine.requests(), 2);
}

#[test]
fn the_default_directory_is_where_caches_are() {
    let machine = Machine::new();
    let at = |name: &str| machine.temporary.path().join(name);
    for (xdg, home, dir) in [
        (at("x").display().to_string(), at("unused"), at("x/pgaad")),
        // The specification says to ignore a relative path, and an empty variable is an unset one.
        ("x".into(), at("h"), at("h/.cache/pgaad")),
        (String::new(), at("h2"), at("h2/.cache/pgaad")),
    ] {
        let program = signed_in(&machine.emulator)
            .env("PGAAD_CACHE", "file")
            .env("XDG_CACHE_HOME", xdg)
            .env("HOME", home)
            .in_dir(machine.temporary.path());
        let got = token(&program);
        assert_eq!(token(&program), got);
        assert_eq!(files(&dir, ".token").len(), 1, "{}", dir.display());
    }
    assert_eq!(machine.requests(), 3);
    assert!(!at("unused").exists());
    assert_eq!(files(machine.temporary.path(), "").len(), 3, "x, h, h2");
}

#[test]
fn a_relative_directory_is_refused() {
    let machine = Machine::new();
    for value in ["file:", "file:cache", "file:./cache", "file:../cache", "file:~/cache"] {
        let program = machine.program().in_dir(machine.temporary.path()).env("PGAAD_CACHE", value);
        assert_fails(&program.one(GET), "PGAAD_CONFIG", &["PGAAD_CACHE", "absolute path"]);
    }
    assert!(files(machine.temporary.path(), "").is_empty());
    assert_eq!(machine.requests(), 0);
}

#[test]
fn all_of_it_is_its_users_alone_whatever_the_umask() {
    for umask in ["000", "022", "077"] {
        let machine = Machine::new();
        let imds = Endpoint::start(&machine.emulator, Imds);
        let (outer, dir) = (machine.temporary.path().join("new"), machine.temporary.path().join("new/deep"));
        let script = format!("umask {umask} && exec \"$@\"");
        // With the directory's own key, too.
        let one = managed(&imds, &machine).env("PGAAD_CLIENT_ID", IDENTITY_ONE.client_id);
        for program in [machine.program(), one] {
            let program = program.env("PGAAD_CACHE", cache(&dir)).under(&["/bin/sh", "-c", &script, "sh"]);
            let first = token(&program);
            assert_eq!(token(&program), first, "umask {umask}");
        }
        for dir in [&outer, &dir] {
            assert_eq!(mode(dir), 0o700, "umask {umask}: {}", dir.display());
        }
        let files = files(&dir, "");
        assert!(files.len() >= 5, "umask {umask}: {files:?}");
        for file in files {
            assert_eq!(mode(&file), 0o600, "umask {umask}: {}", file.display());
        }
    }
}

#[test]
fn a_directory_that_is_not_its_users_alone_is_refused() {
    let machine = Machine::new();
    let at = |name: &str| machine.temporary.path().join(name);
    let make = |name: &str, mode: u32| {
        fs::create_dir_all(at(name)).expect("a folder");
        set_mode(&at(name), mode);
        at(name)
    };
    let good = make("good", 0o700);
    symlink(&good, at("link")).expect("a link");
    symlink(at("nothing"), at("dangling")).expect("a link");
    fs::write(at("plain"), "").expect("a file");
    make("open", 0o777);
    let mut rows = vec![
        (make("read", 0o750), "mode 0750"),
        (make("written", 0o702), "mode 0702"),
        (at("link"), "a link"),
        (at("dangling"), "a link"),
        (at("plain"), "no directory"),
        (at("open/below"), "may put another in its place"),
    ];
    if is_root() {
        let foreign = make("foreign", 0o700);
        chown(&foreign, Some(65534), None).expect("root gives it away");
        rows.push((foreign, "belongs to user 65534"));
    }
    for (dir, why) in &rows {
        for settings in ["", "client_secret=wrong"] {
            let program = machine.program().env("PGAAD_CACHE", cache(dir));
            let line = crate::harness::ask(&mut program.session(), settings);
            let shown = dir.display().to_string();
            assert_fails(&line, "PGAAD_CONFIG", &[&shown, why, "PGAAD_CACHE"]);
        }
        // Once it is set right, it is used.
        if dir.exists() && mode(dir) & 0o777 == 0o750 {
            let mut session = machine.program().env("PGAAD_CACHE", cache(dir)).session();
            assert_eq!(session.one(GET).status(), "PGAAD_CONFIG");
            set_mode(dir, 0o700);
            token_in(&session.one(GET));
            assert_eq!(files(dir, ".token").len(), 1);
        }
    }
    assert_eq!(machine.requests(), 1, "only where it was set right");
    assert!(files(&good, "").is_empty() && !at("nothing").exists());
    assert_eq!(fs::read(at("plain")).expect("a file"), b"");
}

#[test]
fn a_file_that_others_could_have_made_is_replaced_and_never_followed() {
    let machine = Machine::new();
    let program = machine.program();
    let target = machine.temporary.path().join("target");
    let mut last = token(&program);
    let good = machine.temporary.path().join("good");
    fs::copy(machine.entry(), &good).expect("a copy");
    fs::copy(&good, &target).expect("a copy");
    let entry = machine.entry();
    let whole = |mode: u32| {
        fs::copy(&good, &entry).expect("a copy");
        set_mode(&entry, mode);
    };
    type Row<'a> = (&'static str, Box<dyn Fn() + 'a>);
    let mut rows: Vec<Row<'_>> = vec![
        ("a symbolic link to the very entry", Box::new(|| symlink(&target, &entry).expect("a link"))),
        ("a dangling link", Box::new(|| symlink("nothing", &entry).expect("a link"))),
        ("a second name", Box::new(|| fs::hard_link(&target, &entry).expect("a link"))),
        ("readable for the group", Box::new(|| whole(0o640))),
        ("writable for others", Box::new(|| whole(0o602))),
    ];
    if is_root() {
        let foreign = || {
            whole(0o600);
            chown(&entry, Some(65534), None).expect("root gives it away");
        };
        rows.push(("another user's", Box::new(foreign)));
    }
    for (case, make) in rows {
        fs::remove_file(&entry).expect("the entry");
        make();
        let new = token(&program);
        assert_ne!(new, last, "{case}: it was used");
        assert_eq!(token(&program), new, "{case}: it was not replaced");
        assert!(fs::symlink_metadata(&entry).expect("an entry").is_file() && mode(&entry) == 0o600, "{case}");
        assert_eq!(fs::read(&target).expect("a file"), fs::read(&good).expect("a file"), "{case}");
        last = new;
    }
    assert!(!machine.dir().join("nothing").exists());
    // The lock's file is followed as little, and costs the cache at most.
    let [lock] = &machine.files(".lock")[..] else { panic!("one lock") };
    fs::remove_file(lock).expect("the lock");
    fs::remove_file(&entry).expect("the entry");
    let victim = machine.temporary.path().join("victim");
    symlink(&victim, lock).expect("a link");
    token(&program);
    assert!(!victim.exists());
}

#[test]
fn nothing_in_the_files_says_the_token_the_secret_or_whose_it_is() {
    let machine = Machine::new();
    let secret = machine.emulator.entra().secret(&APP_ONE);
    let mut tokens = vec![token(&machine.program()), token(&machine.program().env("PGAAD_CACHE_KEY", KEY))];
    let imds = Endpoint::start(&machine.emulator, Imds);
    let managed = Driver::new().envs(imds.env()).env("PGAAD_AUTH", "managed_identity");
    let managed = managed.env("PGAAD_CLIENT_ID", IDENTITY_ONE.client_id).env("PGAAD_CACHE", machine.cache());
    tokens.push(token(&managed));
    // A failure is kept for those who wait for it, with its words.
    machine.emulator.entra().faults().next(Fault::echo_secret());
    machine.program().env(COSMOS.0, COSMOS.1).one(GET);

    let files = machine.files("");
    assert!(files.len() >= 7, "{files:?}");
    let mut hidden: Vec<String> =
        tokens.iter().flat_map(|token| token.split('.')).map(String::from).collect();
    hidden.extend([secret, KEY.into(), "AADSTS".into(), "ossrdbms".into()]);
    hidden.extend([APP_ONE.client_id, APP_ONE.tenant.id, IDENTITY_ONE.client_id].map(String::from));
    for file in files {
        let text = fs::read(&file).expect("a file");
        let all = [&text[..], file.file_name().expect("a name").as_encoded_bytes()].concat();
        for word in &hidden {
            // A part of it would be too much, too.
            for part in word.as_bytes().chunks(16).filter(|part| part.len() >= 6) {
                let found = all.windows(part.len()).any(|window| window == part);
                assert!(!found, "{} holds a part of {word}", file.display());
            }
        }
    }
}

#[test]
fn identities_scopes_and_authorities_have_entries_of_their_own() {
    let other = Emulator::start();
    for key in [None, Some(KEY)] {
        let machine = Machine::new();
        let with_key = |program: Driver| match key {
            Some(key) => program.env("PGAAD_CACHE_KEY", key),
            None => program,
        };
        let programs = [
            machine.program(),
            machine.program_of(&APP_TWO),
            machine.program().env(COSMOS.0, COSMOS.1),
            signed_in(&other).env("PGAAD_CACHE", machine.cache()),
        ]
        .map(with_key);
        let asked = || machine.requests() + other.entra().counters().requests;
        let before = asked();
        let tokens: Vec<_> = programs.iter().map(token).collect();
        assert_eq!(asked(), before + 4, "somebody had another's token");
        let again: Vec<_> = programs.iter().map(token).collect();
        assert_eq!(again, tokens);
        assert_eq!(asked(), before + 4, "somebody had no entry");
        let entries = machine.entries();
        assert_eq!(entries.len(), 4, "{entries:?}");
        // In another's place it is nobody's.
        let whole: Vec<_> = entries.iter().map(|entry| fs::read(entry).expect("an entry")).collect();
        for (i, entry) in entries.iter().enumerate() {
            fs::write(entry, &whole[(i + 1) % whole.len()]).expect("another's entry");
        }
        let moved: Vec<_> = programs.iter().map(token).collect();
        assert!(moved.iter().all(|token| !tokens.contains(token)), "a moved entry was used");
        assert_eq!(asked(), before + 8);
    }
}

#[test]
fn who_has_another_secret_or_key_cannot_read_an_entry() {
    let machine = Machine::new();
    let old = machine.emulator.entra().secret(&APP_ROTATING);
    let first = token(&machine.program_of(&APP_ROTATING));
    // The old secret still counts at Entra, and the new one finds nothing.
    machine.emulator.entra().rotate_secret(&APP_ROTATING);
    let second = token(&machine.program_of(&APP_ROTATING));
    assert_ne!(second, first);
    assert_eq!(token(&machine.program_of(&APP_ROTATING)), second);
    assert_eq!(machine.requests(), 2);
    // While both are in use, neither takes the other's place.
    let with_old = machine.program_of(&APP_ROTATING).env("PGAAD_CLIENT_SECRET", &old);
    assert_eq!(token(&with_old), first);
    let entries = machine.entries();
    assert_eq!((entries.len(), machine.requests()), (2, 2));
    // Nor does a wrong one, which is refused as if there were no cache, and leaves all as it is.
    let wrong = machine.program_of(&APP_ROTATING).env("PGAAD_CLIENT_SECRET", format!("{old}x"));
    assert_eq!(wrong.one(GET).status(), "PGAAD_DENIED");
    assert_eq!(machine.entries(), entries);
    assert_eq!(token(&machine.program_of(&APP_ROTATING)), second);

    let keyed = |key: &str| machine.program().env("PGAAD_CACHE_KEY", key);
    let before = machine.requests();
    let one = token(&keyed(KEY));
    assert_eq!(token(&keyed(KEY)), one);
    let two = token(&keyed(OTHER_KEY));
    assert_ne!(one, two);
    assert_eq!(machine.requests(), before + 2);
    // With a key given, the secret may change.
    let rotated = machine.emulator.entra().rotate_secret(&APP_ONE);
    assert_eq!(token(&keyed(OTHER_KEY).env("PGAAD_CLIENT_SECRET", rotated)), two);
    assert_eq!(machine.requests(), before + 2);
}

#[test]
fn a_key_may_stand_in_a_file() {
    let machine = Machine::new();
    let file = machine.temporary.path().join("key");
    let program = machine.program().env("PGAAD_CACHE_KEY_FILE", &file);
    let name = file.display().to_string();
    assert_fails(&program.one(GET), "PGAAD_CONFIG", &["PGAAD_CACHE_KEY_FILE", &name, "cannot be read"]);
    for bad in ["", "hunter2", "aHVudGVyMg==", "!"] {
        fs::write(&file, bad).expect("a file");
        let line = program.one(GET);
        assert_fails(&line, "PGAAD_CONFIG", &["PGAAD_CACHE_KEY_FILE", "32 bytes"]);
        assert!(bad.len() < 2 || !line.errmsg().contains(bad), "{line:?}");
    }
    assert_eq!(machine.requests(), 0);
    fs::write(&file, format!("{KEY}\n")).expect("a file");
    let first = token(&program);
    assert_eq!(token(&program), first);
    // It is the same key as one that is given.
    assert_eq!(token(&machine.program().env("PGAAD_CACHE_KEY", KEY)), first);
    assert_eq!(machine.requests(), 1);
    assert!(machine.files("own.key").is_empty());
    // One that changed is another.
    fs::write(&file, OTHER_KEY).expect("a file");
    assert_ne!(token(&program), first);
}

#[test]
fn an_entry_that_cannot_be_used_is_replaced() {
    let machine = Machine::new();
    let program = machine.program();
    let mut last = token(&program);
    type Edit<'a> = &'a dyn Fn(&mut Vec<u8>);
    let edits: [(&str, Edit<'_>); 8] = [
        ("empty", &|bytes| bytes.clear()),
        ("cut short", &|bytes| bytes.truncate(bytes.len() - 1)),
        ("cut to its head", &|bytes| bytes.truncate(13)),
        ("longer", &|bytes| bytes.push(0)),
        ("of another version", &|bytes| bytes[0] += 1),
        ("with another nonce", &|bytes| bytes[5] ^= 1),
        ("damaged", &|bytes| bytes[100] ^= 0x80),
        ("garbage", &|bytes| bytes.fill(7)),
    ];
    for (case, edit) in edits {
        let mut bytes = fs::read(machine.entry()).expect("an entry");
        edit(&mut bytes);
        fs::write(machine.entry(), bytes).expect("the entry");
        let requests = machine.requests();
        let new = token(&program);
        assert_ne!(new, last, "{case}: it was used");
        assert_eq!(token(&program), new, "{case}: it was not replaced");
        assert_eq!(machine.requests(), requests + 1, "{case}");
        last = new;
    }
    // From another time: it has ended, or is yet to be asked for.
    for seconds in [3600, 100_000, -3600] {
        let requests = machine.requests();
        machine.service_at(seconds);
        let mut session = machine.program().env("LD_PRELOAD", shim("clock")).session();
        session.ask(&[if seconds > 0 { "suspend" } else { "set_clock" }, &seconds.to_string()]);
        let new = token_in(&session.one(GET));
        assert_ne!(new, last, "{seconds} s from now: it was used");
        assert_eq!(machine.requests(), requests + 1, "{seconds} s from now");
        last = new;
    }
}

#[test]
fn the_next_one_fetches_when_the_holder_is_killed() {
    let machine = Machine::new();
    for _ in 0..3 {
        let _ = fs::remove_dir_all(machine.dir());
        let gate = Gate::new();
        machine.emulator.entra().faults().always(Fault::gate(&gate));
        let mut holder = machine.program().session();
        holder.tell(GET);
        gate.wait_for_arrivals(1);
        let mut others: Vec<_> = (0..4).map(|_| machine.program().session()).collect();
        for other in &mut others {
            other.tell(GET);
            wait_for_fetch(other.running());
        }
        assert_eq!(gate.arrivals(), 1, "somebody did not wait");
        drop(holder); // by SIGKILL
        // Entra still hangs for the first one.
        gate.wait_for_arrivals(2);
        gate.open();
        let tokens: Vec<_> = others.iter_mut().map(|other| token_in(&other.answer()[0])).collect();
        assert!(tokens.iter().all(|token| *token == tokens[0]), "they have different tokens");
        assert_eq!(gate.arrivals(), 2, "the others waited for the next one");
    }
}

#[test]
fn a_holder_that_does_not_come_to_an_end_is_not_waited_for_for_ever() {
    let machine = Machine::new();
    for stopped in [false, true] {
        let _ = fs::remove_dir_all(machine.dir());
        machine.emulator.entra().faults().clear();
        let gate = machine.gate();
        let mut holder = machine.program().env("PGAAD_TIMEOUT_MS", "600000").session();
        holder.tell(GET);
        gate.wait_for_arrivals(1);
        if stopped {
            signal("-STOP", holder.running().id());
        }
        // Entra answers the others, so they have a token in time.
        let quick = machine.program().env("PGAAD_TIMEOUT_MS", "4000");
        let mine = token(&quick);
        assert_eq!(token(&quick), mine, "what was fetched alone is for all, too");
        // And where it does not, they have their time and no more.
        fs::remove_file(machine.entry()).expect("the entry");
        machine.emulator.entra().faults().always(Fault::hang());
        let line = machine.program().env("PGAAD_TIMEOUT_MS", "2000").one(GET);
        assert_one_clear_line(&line, "PGAAD_TIMEOUT");
        assert!(line.errmsg().contains("PGAAD_TIMEOUT_MS"), "{line:?}");
    }
}

#[test]
fn a_callers_own_time_ends_its_wait_for_the_holder() {
    let machine = Machine::new();
    let gate = machine.gate();
    let mut holder = machine.program().session();
    holder.tell(GET);
    gate.wait_for_arrivals(1);
    let mut other = machine.later(0);
    for _ in 0..3 {
        assert_eq!(other.one(&["client_get_token", "20"]).status(), "PGAAD_TIMEOUT");
    }
    assert_eq!(other.one(&["client_get_token", "0"]).status(), "PGAAD_TIMEOUT");
    gate.open();
    let first = token_in(&holder.answer()[0]);
    assert_eq!(token_in(&other.one(NOW)), first);
    assert_eq!(machine.requests(), 1);
}

#[test]
fn a_full_disk_costs_the_cache_and_not_the_token() {
    let machine = Machine::new();
    fs::create_dir(machine.dir()).expect("a folder");
    // A disk of its own, in a name space of its own: it goes with the process.
    let mut unshare = vec!["unshare", "--mount"];
    if !is_root() {
        unshare.push("--map-root-user");
    }
    let tried = Command::new(unshare[0]).args(&unshare[1..]).arg("true").status();
    if !tried.is_ok_and(|status| status.success()) {
        return eprintln!("not tested: this machine lets nobody mount a disk");
    }
    let dir = machine.dir().display().to_string();
    let disk = format!(
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin; mount -t tmpfs -o size=64k,nr_inodes=INODES,mode=700 none {dir} || exit 3; FIRST\n"
    );
    let fill = format!("head -c 100000 /dev/zero >{dir}/filler 2>/dev/null;");
    let run = "\"$@\" && exec \"$@\"";
    for (case, inodes, first) in [
        ("no byte", "99", fill.clone()),
        ("no file", "1", String::new()),
        // There is an entry, and it is used.
        ("an entry", "99", format!("\"$@\" || exit 4; {fill}")),
    ] {
        let requests = machine.requests();
        let script = disk.replace("INODES", inodes).replace("FIRST", &first) + run;
        let program = machine.program().env("PGAAD_LOG", "warn");
        let output =
            program.under(&[&unshare[..], &["/bin/sh", "-c", &script, "sh"]].concat()).output(&[GET]);
        let (out, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{case}: {out}{log}");
        let tokens: Vec<_> = out.lines().map(|line| token_in(&Line(line.into()))).collect();
        if case == "an entry" {
            assert!(tokens.len() == 3 && tokens.iter().all(|token| *token == tokens[0]), "{case}: {out}");
            assert_eq!((machine.requests(), log.as_ref()), (requests + 1, ""), "{case}");
        } else {
            assert_eq!((tokens.len(), machine.requests()), (2, requests + 2), "{case}: {out}");
            assert!(log.contains("shared_cache_failed") && log.contains(&dir), "{case}: {log}");
        }
    }
}

#[test]
fn a_living_entry_outlives_entra() {
    let rows = [
        ("refused", refused()),
        ("not now", busy().retry_after(3600)),
        ("overloaded", busy()),
        ("no token answer", Fault::html(200)),
        ("an expired token", Fault::expired_token()),
        ("no answer", Fault::hang()),
        ("no handshake", Fault::hang().before_tls()),
        ("reset", Fault::reset()),
    ];
    crate::harness::each(&rows, |(case, fault)| {
        let machine = Machine::new();
        let first = token(&machine.program());
        machine.service_at(3400);
        machine.emulator.entra().faults().always(fault.clone());
        // In the last five minutes callers wait for a newer one, and then go on with that.
        let connections = machine.emulator.entra().counters().connections;
        let mut session = machine.later_with(3400, "timeout_ms=3000");
        assert_eq!(token_in(&session.one(NOW)), first, "{case}");
        assert!(
            machine.emulator.entra().counters().connections > connections,
            "{case}: it was not even tried"
        );
        let stats = stats(&mut session);
        assert_eq!(stats["origin"], "file", "{case}: {stats}");
        assert!(stats["last_error"].is_string() && stats["failing_since"].is_i64(), "{case}: {stats}");
        // It is not tried at each call.
        let connections = machine.emulator.entra().counters().connections;
        for _ in 0..5 {
            assert_eq!(token_in(&session.one(NOW)), first, "{case}");
        }
        assert_eq!(
            machine.emulator.entra().counters().connections,
            connections,
            "{case}: tried at each call"
        );
        // Once it can be had again, all have the new one.
        machine.emulator.entra().faults().clear();
        let second = token_in(&machine.later(3400).one(NOW));
        assert_ne!(second, first, "{case}");
        if *case != "not now" {
            session.ask(&["suspend", "100"]);
            assert_eq!(token_in(&session.one(NOW)), second, "{case}");
        }
    });
}

#[test]
fn in_the_whole_refresh_window_no_call_fails() {
    let machine = Machine::new();
    machine.emulator.entra().configure(|config| config.refresh_in = Some(1800));
    let mut old = machine.later(0);
    let first = token_in(&old.one(NOW));
    machine.emulator.entra().faults().always(Fault::html(200));
    let mut passed = 0;
    for seconds in [1790, 1810, 2500, 3290, 3310, 3400, 3500, 3560, 3580] {
        machine.service_at(seconds);
        old.ask(&["suspend", &(seconds - passed).to_string()]);
        passed = seconds;
        let mut new = machine.later(seconds);
        for session in [&mut old, &mut new] {
            for command in [NOW, &["client_get_token", "10000"]] {
                assert_eq!(token_in(&session.one(command)), first, "{seconds} s later");
            }
        }
    }
    assert!(machine.requests() > 5, "it was not even tried");
    // When it has ended, it has ended.
    machine.service_at(3600);
    assert_eq!(machine.later(3600).one(NOW).status(), "PGAAD_PROTOCOL");
}

#[test]
fn a_new_process_does_not_wait_for_a_refresh_that_is_only_advised() {
    let machine = Machine::new();
    machine.emulator.entra().configure(|config| config.refresh_in = Some(1800));
    let first = token(&machine.program());
    machine.service_at(1900);
    // Entra answers when the callers have gone on: with the living token, and once however many they are.
    let gate = Gate::new();
    machine.emulator.entra().faults().always(Fault::gate(&gate));
    let mut sessions: Vec<_> = (0..4).map(|_| machine.later(1900)).collect();
    for session in &mut sessions {
        assert_eq!(token_in(&session.one(&["client_get_token", "5000"])), first);
    }
    gate.wait_for_arrivals(1);
    gate.open();
    let mut second = String::new();
    for session in &mut sessions {
        wait_until("the new token", || {
            second = token_in(&session.one(NOW));
            second != first
        });
    }
    assert_eq!(token_in(&machine.later(1900).one(NOW)), second);
    assert_eq!(machine.requests(), 2);
}

#[test]
fn one_process_refreshes_for_all() {
    let machine = Machine::new();
    let mut sessions: Vec<_> = (0..6).map(|_| machine.later(0)).collect();
    let first = token_in(&sessions[0].one(NOW));
    for session in &mut sessions {
        assert_eq!(token_in(&session.one(NOW)), first);
        session.ask(&["suspend", "3400"]);
    }
    machine.service_at(3400);
    let gate = machine.gate();
    sessions.iter_mut().for_each(|session| session.tell(NOW));
    sessions.iter().for_each(|session| wait_for_fetch(session.running()));
    gate.wait_for_arrivals(1);
    gate.open();
    let tokens: Vec<_> =
        sessions.iter_mut().map(|session| token_in(&session.answer().pop().expect("a line"))).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0] && *token != first));
    assert_eq!(machine.requests(), 2);
}

#[test]
fn who_waited_for_a_fetch_shares_its_failure() {
    for (fault, status) in [(refused(), "PGAAD_DENIED"), (throttled(), "PGAAD_THROTTLED")] {
        let machine = Machine::new();
        let gate = Gate::new();
        machine.emulator.entra().faults().always(fault.at_gate(&gate));
        let lines = together(&machine, 12, &gate);
        for line in &lines {
            assert_one_clear_line(line, status);
            assert_eq!(line.errmsg(), lines[0].errmsg(), "they are not of the same failure");
        }
        assert_eq!(machine.requests(), 1, "{status}");
        // It is told to those who waited, and to nobody else: the next one asks.
        machine.emulator.entra().faults().clear();
        token(&machine.program());
    }
}

#[test]
fn a_failure_of_one_is_not_the_others() {
    // What one process was answered, or its network did to it, says nothing of the others.
    let machine = Machine::new();
    let gate = Gate::new();
    machine.emulator.entra().faults().next(Fault::html(200).at_gate(&gate));
    let lines = together(&machine, 12, &gate);
    let failed: Vec<_> = lines.iter().filter(|line| line.status() != "PGAAD_OK").collect();
    assert_eq!(failed.len(), 1, "{lines:#?}");
    assert_one_clear_line(failed[0], "PGAAD_PROTOCOL");

    // Nor does the refusal of a secret that they don't have.
    let machine = Machine::new();
    let (gate, program) = (machine.gate(), machine.program().env("PGAAD_CACHE_KEY", KEY));
    let holder = program.clone().env("PGAAD_CLIENT_SECRET", "an old one");
    let mut sessions: Vec<_> = [&holder, &program, &program].map(Driver::session).into_iter().collect();
    sessions[0].tell(GET);
    gate.wait_for_arrivals(1);
    sessions[1..].iter_mut().for_each(|session| session.tell(GET));
    sessions[1..].iter().for_each(|session| wait_for_fetch(session.running()));
    gate.open();
    let lines: Vec<_> = sessions.iter_mut().map(|session| session.answer().pop().expect("a line")).collect();
    assert_one_clear_line(&lines[0], "PGAAD_DENIED");
    lines[1..].iter().for_each(|line| drop(token_in(line)));
}

#[test]
fn a_failure_before_the_call_is_not_its_answer() {
    let machine = Machine::new();
    let file = machine.temporary.path().join("secret");
    fs::write(&file, "wrong").expect("a file");
    let program = machine.program().env("PGAAD_CACHE_KEY", KEY).without("PGAAD_CLIENT_SECRET");
    let program = program.env("PGAAD_CLIENT_SECRET_FILE", &file);
    let mut session = program.session();
    session.ask(&["new", ""]);
    for _ in 0..4 {
        fs::write(&file, "wrong").expect("a file");
        session.ask(&["invalidate"]);
        assert_eq!(session.one(NOW).status(), "PGAAD_DENIED");
        // At once, and in another process too.
        fs::write(&file, APP_ONE.secret).expect("a file");
        let first = token_in(&session.one(NOW));
        assert_eq!(token(&program), first);
    }
    for _ in 0..4 {
        session.ask(&["invalidate"]);
        machine.emulator.entra().faults().next(Fault::html(200));
        assert_eq!(session.one(NOW).status(), "PGAAD_PROTOCOL");
        token_in(&session.one(NOW));
    }
}

#[test]
fn invalidate_drops_the_entry_for_all() {
    let machine = Machine::new();
    let first = token(&machine.program());
    let mut session = machine.later(0);
    assert_eq!(token_in(&session.one(NOW)), first);
    assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_OK");
    assert!(machine.entries().is_empty());
    let second = token(&machine.program());
    assert_ne!(second, first);
    assert_eq!(token_in(&session.one(NOW)), second, "it asks nobody where another process has it");
    assert_eq!(machine.requests(), 2);
    // The default client's as well, be it in use or not.
    for used in [true, false] {
        let before = token(&machine.program());
        let mut session = machine.program().session();
        if used {
            assert_eq!(token_in(&session.one(GET)), before);
        }
        session.ask(&["default"]);
        assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_OK");
        assert_ne!(token(&machine.program()), before, "used: {used}");
    }
    // Where there is nothing to drop, that is no failure.
    let mut session =
        machine.later_with(0, &format!("cache={}", cache(&machine.temporary.path().join("new"))));
    assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_OK");
    // Another's stays.
    let two = token(&machine.program_of(&APP_TWO));
    machine.later(0).ask(&["invalidate"]);
    assert_eq!(token(&machine.program_of(&APP_TWO)), two);
}

/// A program on a machine with identities.
fn managed(imds: &Endpoint<Imds>, machine: &Machine) -> Driver {
    let program = Driver::new().envs(imds.env()).env("PGAAD_AUTH", "managed_identity");
    program.env("PGAAD_CACHE", machine.cache())
}

#[test]
fn an_identity_that_is_named_is_shared_under_the_directorys_own_key() {
    let machine = Machine::new();
    let imds = Endpoint::start(&machine.emulator, Imds);
    let requests = || imds.front().counters().requests;
    let one = managed(&imds, &machine).env("PGAAD_CLIENT_ID", IDENTITY_ONE.client_id);
    let first = token(&one);
    assert_eq!(token(&one), first);
    assert_eq!(requests(), 1);
    let [key] = &machine.files("own.key")[..] else { panic!("one key: {:?}", machine.files("")) };
    assert_eq!((mode(key), fs::read(key).expect("a key").len()), (0o600, 32));
    // Another one, though it has the same key.
    let two = managed(&imds, &machine).env("PGAAD_CLIENT_ID", IDENTITY_TWO.client_id);
    let other = token(&two);
    assert_eq!(emulator::claims(&other).expect("claims")["oid"], IDENTITY_TWO.object_id);
    assert_eq!((token(&one), token(&two), requests()), (first.clone(), other, 2));
    // With another key, or none that is its user's alone, there is nothing to be read.
    let old = fs::read(key).expect("a key");
    set_mode(key, 0o644);
    assert_fails(&one.one(GET), "PGAAD_CONFIG", &["own.key"]);
    fs::remove_file(key).expect("the key");
    assert_ne!(token(&one), first);
    assert_ne!(fs::read(key).expect("a key"), old);
    assert_eq!(requests(), 3);
}

#[test]
fn processes_that_make_the_key_together_share_at_once() {
    let machine = Machine::new();
    let imds = Endpoint::start(&machine.emulator, Imds);
    let gate = Gate::new();
    imds.front().faults().always(Fault::gate(&gate));
    let program = managed(&imds, &machine).env("PGAAD_CLIENT_ID", IDENTITY_ONE.client_id);
    let mut sessions: Vec<_> = (0..16).map(|_| program.session()).collect();
    sessions.iter_mut().for_each(|session| session.tell(GET));
    sessions.iter().for_each(|session| wait_for_fetch(session.running()));
    gate.wait_for_arrivals(1);
    gate.open();
    let tokens: Vec<_> = sessions.iter_mut().map(|session| token_in(&session.answer()[0])).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert_eq!(imds.front().counters().requests, 1);
}

#[test]
fn the_name_of_an_identity_is_kept_with_its_token() {
    let machine = Machine::new();
    let imds = Endpoint::start(&machine.emulator, Imds);
    let program = managed(&imds, &machine).env("PGAAD_CLIENT_ID", IDENTITY_ONE.client_id);
    let ask = || {
        let mut session = program.session();
        session.ask(&["new", ""]);
        let line = session.one(&["get_user"]);
        assert_eq!((line.status(), line.get("user")), ("PGAAD_OK", IDENTITY_ONE.role), "{line:?}");
        imds.front().counters().requests
    };
    let asked = ask();
    assert_eq!((ask(), ask()), (asked, asked), "it was asked for anew");
    // A token for management is in no file: what is there is one entry.
    assert_eq!(machine.entries().len(), 1, "{:?}", machine.files(""));
}

#[test]
fn what_the_settings_do_not_name_stays_in_memory() {
    let machine = Machine::new();
    let imds = Endpoint::start(&machine.emulator, Imds);
    let az = Tool::az(&machine.emulator);
    let path = format!("{}:/usr/bin:/bin", az.dir().display());
    let tool = Driver::new().env("PGAAD_AUTH", "azure_cli").env("PATH", path);
    let rows = [
        ("the machine's own identity", managed(&imds, &machine)),
        ("a developer", tool.env("PGAAD_CACHE", machine.cache())),
    ];
    for (case, program) in rows {
        let (one, two) = (token(&program), token(&program));
        assert_ne!(one, two, "{case}: it is shared");
        assert!(machine.entries().is_empty(), "{case}: {:?}", machine.files(""));
        // With a name they are shared, and each under its own.
        for id in ["one", "two"] {
            let named = program.clone().env("PGAAD_CACHE_ID", format!("{case} {id}"));
            let first = token(&named);
            assert_eq!(token(&named), first, "{case}: it is not shared");
            assert!(![one.as_str(), two.as_str()].contains(&first.as_str()));
        }
        assert_eq!(machine.entries().len(), 2, "{case}");
        fs::remove_dir_all(machine.dir()).expect("the cache");
    }
}

#[test]
fn a_named_identity_may_be_a_chains() {
    let machine = Machine::new();
    // What the SDKs' variables hold is fixed by settings, too.
    let env = machine.emulator.env(&APP_ONE).into_iter();
    let env = env.map(|(name, value)| match name.as_str() {
        "PGAAD_AUTHORITY_HOST" | "PGAAD_CA_FILE" => (name, value),
        _ => (name.replace("PGAAD_", "AZURE_"), value),
    });
    let program = Driver::new().envs(env).env("PGAAD_CACHE", machine.cache());
    let first = token(&program);
    assert_eq!(token(&program), first);
    assert_eq!(machine.requests(), 1);
    // So is a pod's service account.
    let pod = Driver::new()
        .envs(machine.emulator.workload_env(IDENTITY_ONE.client_id))
        .env("PGAAD_AUTH", "workload_identity")
        .env("PGAAD_CACHE", machine.cache());
    let first = token(&pod);
    assert_eq!(token(&pod), first);
    assert_eq!(machine.requests(), 2);
    // Its file may change: whose it is stays the same.
    machine.emulator.workload_env(IDENTITY_ONE.client_id);
    assert_eq!(token(&pod), first);
}

#[test]
fn a_callbacks_token_is_shared_under_the_name_it_is_given() {
    let machine = Machine::new();
    let action = |token: &str| format!("token 0 {token}");
    let mint = || machine.emulator.entra().mint(&APP_ONE);
    let ask = |settings: &str, token: &str| {
        let mut session = Driver::new().session();
        let settings = format!("{} {settings}", conninfo(&[("cache", &machine.cache())]));
        let made = session.one(&["new_callback", &settings, &action(token)]);
        assert_eq!(made.status(), "PGAAD_OK", "{made:?}");
        (token_in(&session.one(NOW)), session.one(&["supplier"]).get("calls").to_string())
    };
    let own = |token: &str| (token.to_string(), "1".to_string());
    for _ in 0..2 {
        let token = mint();
        assert_eq!(ask("", &token), own(&token));
    }
    assert!(machine.entries().is_empty(), "{:?}", machine.files(""));
    let (one, two) = (mint(), mint());
    assert_eq!(ask("cache_id=one", &one), own(&one));
    assert_eq!(ask("cache_id=one", &mint()), (one.clone(), "0".into()));
    assert_eq!(ask("cache_id=two", &two), own(&two));
    let any = ask("cache_id=one callback_thread=any", &mint());
    assert_eq!(any, (one, "0".into()));
}

#[test]
fn a_token_that_lives_outlives_the_cache_itself() {
    if !is_root() {
        return eprintln!("not tested: only root can be another user");
    }
    let machine = Machine::new();
    chown(machine.temporary.path(), Some(65534), Some(65534)).expect("root gives it away");
    let ca_file = machine.temporary.path().join("ca.pem");
    fs::copy(machine.emulator.ca_file(), &ca_file).expect("a copy");
    set_mode(&ca_file, 0o644);
    let program = machine.program().env("PGAAD_CA_FILE", ca_file).by_nobody();
    let first = token(&program);
    // The lock's file is gone, and none can be made.
    for lock in machine.files(".lock") {
        fs::remove_file(lock).expect("the lock");
    }
    set_mode(&machine.dir(), 0o500);
    let mut session = program.env("LD_PRELOAD", shim("clock")).session();
    session.ask(&["suspend", "3400"]);
    machine.service_at(3400);
    machine.emulator.entra().faults().always(refused());
    assert_eq!(token_in(&session.one(GET)), first);
    assert_eq!(machine.requests(), 2, "a newer one was tried for");
    machine.emulator.entra().faults().clear();
    session.ask(&["suspend", "60"]);
    assert_ne!(token_in(&session.one(GET)), first);
}

#[test]
fn with_raised_rights_only_the_settings_string_names_a_cache() {
    let Some(raised) = Raised::new() else { return };
    let machine = Machine::new();
    let secret = machine.emulator.entra().secret(&APP_ONE);
    let settings = conninfo(&[
        ("tenant_id", APP_ONE.tenant.id),
        ("client_id", APP_ONE.client_id),
        ("client_secret", &secret),
        ("authority_host", &machine.emulator.authority()),
        ("ca_file", &machine.emulator.ca_file().display().to_string()),
    ]);
    let trap = machine.temporary.path().join("trap");
    let program = raised.driver(
        Driver::new()
            .env("PGAAD_CACHE", cache(&trap))
            .env("PGAAD_CACHE_KEY", "nonsense")
            .env("PGAAD_CACHE_ID", "x")
            .env("XDG_CACHE_HOME", &trap)
            .env("HOME", &trap),
    );
    let get = |more: &str| {
        let lines = program.run(&[&["new", &format!("{settings}{more}")], NOW]);
        token_in(lines.last().expect("a line"))
    };
    assert_ne!(get(""), get(""), "they share a cache that the caller named");
    let named = format!("cache={}", machine.cache());
    let first = get(&named);
    assert_eq!(get(&named), first);
    assert_eq!(machine.requests(), 3);
    assert!(!trap.exists());
    // It is the program's user's, and its caller can't have any of it.
    let found = fs::metadata(machine.entry()).expect("an entry");
    assert_eq!((found.uid(), found.mode() & 0o7777, mode(&machine.dir())), (0, 0o600, 0o700));
}

/// Waits for a child of this process that fetches, or waits for who does.
fn wait_for_childs_fetch(parent: &Running) {
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    wait_until("a child fetches", || {
        let children = read(format!("/proc/{0}/task/{0}/children", parent.id()));
        let fetches = |child: &str| {
            let tasks = fs::read_dir(format!("/proc/{child}/task")).into_iter().flatten().flatten();
            let status = tasks.map(|task| read(task.path().join("status").display().to_string()));
            let mut status = status.filter(|status| status.contains("Name:\tpgaad-fetch"));
            status.any(|status| status.contains("State:\tS"))
        };
        children.split_whitespace().any(fetches)
    });
}

#[test]
fn a_child_waits_for_its_parents_fetch_as_any_process() {
    let machine = Machine::new();
    let gate = machine.gate();
    let mut parent = machine.program().session();
    parent.ask(&["thread", "get_token"]);
    gate.wait_for_arrivals(1);
    parent.tell(&["fork", "get_token"]);
    wait_for_childs_fetch(parent.running());
    gate.open();
    let child = parent.answer();
    let line = child.iter().find(|line| !line.status().is_empty()).expect("the child's");
    let parents = parent.ask(&["join"]);
    assert_eq!(token_in(line), token_in(parents.last().expect("a line")));
    assert_eq!(machine.requests(), 1);
}

#[test]
fn a_child_does_not_free_its_parents_lock() {
    let machine = Machine::new();
    let gate = machine.gate();
    let mut parent = machine.program().session();
    parent.ask(&["new", ""]);
    parent.ask(&["thread", "client_get_token", "-1"]);
    gate.wait_for_arrivals(1);
    // Children that end in order, that use the cache, that free the client, and that become another program.
    let mut others = Vec::new();
    for command in [
        &["fork", "echo", "x"][..],
        &["fork", "client_get_token", "0"],
        &["fork", "client_get_token", "30"],
        &["fork", "free"],
        &["fork", "exec", "/bin/true"],
    ] {
        let lines = parent.ask(command);
        assert_eq!(lines.last().expect("a line").0, "fork exit=0 signal=0", "{lines:?}");
        let mut other = machine.program().session();
        other.tell(GET);
        wait_for_fetch(other.running());
        others.push(other);
    }
    gate.open();
    let first = token_in(parent.ask(&["join"]).last().expect("a line"));
    for mut other in others {
        assert_eq!(token_in(&other.answer()[0]), first);
    }
    assert_eq!(machine.requests(), 1);
}

#[test]
fn a_child_does_not_hold_its_dead_parents_lock() {
    let machine = Machine::new();
    let gate = Gate::new();
    machine.emulator.entra().faults().always(Fault::gate(&gate));
    let mut parent = machine.program().session();
    parent.ask(&["thread", "get_token"]);
    gate.wait_for_arrivals(1);
    // From here on the child answers.
    parent.tell(&["fork", "listen"]);
    assert_eq!(parent.one(&["echo", "x"]).0, "echo x");
    let mut other = machine.program().session();
    other.tell(GET);
    wait_for_fetch(other.running());
    assert_eq!(gate.arrivals(), 1);
    signal("-KILL", parent.running().id());
    gate.wait_for_arrivals(2);
    assert_eq!(parent.one(&["echo", "y"]).0, "echo y", "the child lives, with its copy of all that was open");
    gate.open();
    let first = token_in(&other.answer()[0]);
    assert_eq!(token_in(&parent.one(GET)), first);
    assert!(machine.emulator.entra().wait_until(|c| c.requests == 2, PATIENCE));
}

#[test]
fn a_cache_that_goes_away_is_made_anew() {
    let machine = Machine::new();
    let mut session = machine.later(0);
    let first = token_in(&session.one(NOW));
    fs::remove_dir_all(machine.dir()).expect("the cache");
    let second = token(&machine.program());
    assert_ne!(second, first);
    assert_eq!(token_in(&session.one(NOW)), first);
    fs::remove_dir_all(machine.dir()).expect("the cache");
    session.ask(&["invalidate"]);
    let third = token_in(&session.one(NOW));
    assert_eq!(token(&machine.program()), third);
    assert_eq!(machine.requests(), 3);
    // Opened to others while it is in use, it is left alone, and the token is had all the same.
    set_mode(&machine.dir(), 0o777);
    session.ask(&["invalidate"]);
    let fourth = token_in(&session.one(NOW));
    assert_ne!(fourth, third);
}
