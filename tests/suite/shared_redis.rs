//! Tokens in Redis: what machines share, and that no trouble with the server costs anybody a token. A machine is a
//! process here: nothing is shared but the server.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use emulator::serde_json::{self, Value};
use emulator::{
    APP_ONE, APP_ROTATING, APP_TWO, App, Emulator, Endpoint, Fault, Gate, IDENTITY_ONE, Imds, Redis,
    RedisLogin, claims,
};

use crate::harness::{
    Driver, Line, NOW, Session, ask_again, assert_refused, conninfo, each, shim, signed_in, unix_now,
    wait_until,
};

/// Without waiting.
const HERE: &[&str] = &["client_get_token", "0"];

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const OTHER_KEY: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";

/// A token service and a server that machines share.
struct Place {
    emulator: Emulator,
    redis: Redis,
}

impl Place {
    fn start() -> Self {
        Self::start_with(RedisLogin::Open)
    }

    fn start_with(login: RedisLogin) -> Self {
        Self { emulator: Emulator::start(), redis: Redis::start_with(login) }
    }

    /// A machine that signs in as this application.
    fn machine_of(&self, app: &App) -> Driver {
        Driver::new().envs(self.emulator.env(app)).env("PGAAD_CACHE", self.redis.url())
    }

    fn machine(&self) -> Driver {
        self.machine_of(&APP_ONE)
    }

    fn requests(&self) -> usize {
        self.emulator.entra().counters().requests
    }

    /// How often Redis did what nobody but a process of pgaad's asks for.
    fn uses(&self) -> u64 {
        let commands = self.redis.commands();
        ["getrange", "set", "pttl"].iter().filter_map(|name| commands.get(*name)).sum()
    }

    /// The keys of tokens. That of what else the machines tell each other is longer.
    fn entries(&self) -> Vec<String> {
        let mut keys = self.redis.keys();
        keys.retain(|key| key.len() == "pgaad:1:".len() + 64);
        keys
    }

    /// The only one.
    #[track_caller]
    fn entry(&self) -> String {
        let mut keys = self.entries();
        assert_eq!(keys.len(), 1, "{keys:?}");
        keys.remove(0)
    }

    fn lease(&self) -> Option<String> {
        self.redis.keys().into_iter().find(|key| key.ends_with(":lease"))
    }

    /// Waits until so many processes in all have asked for the right to fetch, which each does once before it waits.
    fn wait_for_those_who_want_to_fetch(&self, n: u64) {
        wait_until("all asked for the lease", || self.redis.commands().get("set") >= Some(&n));
    }

    /// The next request waits at this gate.
    fn gate(&self) -> Gate {
        self.gate_that(Fault::none())
    }

    fn gate_that(&self, fault: Fault) -> Gate {
        let gate = Gate::new();
        self.emulator.entra().faults().next(fault.at_gate(&gate));
        gate
    }
}

/// A process with a client that has no token yet.
#[track_caller]
fn process(machine: &Driver) -> Session {
    process_with(machine, "")
}

#[track_caller]
fn process_with(machine: &Driver, settings: &str) -> Session {
    let mut session = machine.session();
    let made = session.one(&["new", settings]);
    assert_eq!(made.status(), "PGAAD_OK", "{made:?}");
    session
}

#[track_caller]
fn token_of(line: &Line) -> String {
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    line.get("token").to_string()
}

#[track_caller]
fn token(session: &mut Session) -> String {
    token_of(&session.one(NOW))
}

/// The token that a new process gets.
#[track_caller]
fn first_token(machine: &Driver) -> String {
    token(&mut process(machine))
}

#[track_caller]
fn answer(session: &mut Session) -> Line {
    session.answer().pop().expect("a line")
}

#[track_caller]
fn stats(session: &mut Session) -> Value {
    let line = session.one(&["stats"]);
    let (_, json) = line.0.split_once(" stats=").unwrap_or_else(|| panic!("no stats: {line:?}"));
    let (json, _) = json.rsplit_once(" errmsg=").expect("its end");
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// A machine whose clocks a test moves.
fn with_clock(machine: Driver) -> Driver {
    machine.env("LD_PRELOAD", shim("clock"))
}

/// A process on a machine that these commands have moved in time.
#[track_caller]
fn process_at(machine: &Driver, time: &[&str]) -> Session {
    let mut session = with_clock(machine.clone()).session();
    session.ask(time);
    assert_eq!(session.one(&["new", ""]).status(), "PGAAD_OK");
    session
}

/// What a first token brings: the answer, and the log.
fn logged(machine: &Driver) -> (Line, String) {
    let output = machine.clone().env("PGAAD_LOG", "warn").output(&[&["get_token"]]);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (Line(text(output.stdout).trim_end().to_string()), text(output.stderr))
}

/// So many processes need a token at once; returns each one's.
fn all_at_once(place: &Place, n: usize, while_they_wait: impl FnOnce()) -> Vec<String> {
    let machine = place.machine();
    let mut sessions: Vec<_> = (0..n).map(|_| process(&machine)).collect();
    let gate = place.gate();
    sessions.iter_mut().for_each(|session| session.tell(NOW));
    gate.wait_for_arrivals(1);
    place.wait_for_those_who_want_to_fetch(n as u64);
    while_they_wait();
    gate.open();
    sessions.iter_mut().map(|session| token_of(&answer(session))).collect()
}

#[test]
fn one_request_serves_all_who_start_together() {
    let place = Place::start();
    let tokens = all_at_once(&place, 32, || {});
    assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
    assert_eq!(place.requests(), 1);
    // Nothing is left but the entry, for whoever comes later; and no connection.
    place.entry();
    wait_until("they have hung up", || place.redis.clients() == 0);
    assert_eq!(first_token(&place.machine()), tokens[0]);
    assert_eq!(place.requests(), 1);
}

#[test]
fn two_hundred_processes_start_together() {
    let place = Place::start();
    let tokens = all_at_once(&place, 200, || {});
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert_eq!(place.requests(), 1);
}

#[test]
fn when_redis_dies_while_all_wait_all_get_a_token() {
    let place = Place::start();
    let tokens = all_at_once(&place, 32, || place.redis.crash());
    let issued = place.emulator.entra().tokens();
    assert!(tokens.iter().all(|token| issued.contains(token)));
    assert!(place.requests() <= 32, "{} requests", place.requests());
}

#[test]
fn when_redis_hangs_while_all_wait_all_get_a_token() {
    let place = Place::start();
    let tokens = all_at_once(&place, 8, || place.redis.pause());
    let issued = place.emulator.entra().tokens();
    assert!(tokens.iter().all(|token| issued.contains(token)));
    assert!(place.requests() <= 8, "{} requests", place.requests());
}

#[test]
fn every_way_to_the_server_is_shared() {
    type Way = (RedisLogin, fn(&Redis) -> String, &'static str, &'static str);
    let rows: [Way; 8] = [
        (RedisLogin::Open, Redis::url, "", "0"),
        (RedisLogin::Open, Redis::url, "/3", "3"),
        (RedisLogin::Password, Redis::url, "/15", "15"),
        (RedisLogin::User, Redis::url, "", "0"),
        (RedisLogin::User, Redis::tls_url, "/2", "2"),
        (RedisLogin::Password, Redis::tls_url, "", "0"),
        (RedisLogin::Open, Redis::unix_url, "", "0"),
        (RedisLogin::User, Redis::unix_url, "?db=7", "7"),
    ];
    each(&rows, |(login, url, suffix, database)| {
        let place = Place::start_with(*login);
        let url = format!("{}{suffix}", url(&place.redis));
        let machine = place
            .machine()
            .env("PGAAD_CACHE", &url)
            .env("PGAAD_CACHE_CA_FILE", place.redis.ca_file())
            .env("PGAAD_LOG", "warn");
        let mut one = machine.session_with_stderr();
        one.ask(&["new", ""]);
        let first = token(&mut one);
        assert_eq!(stats(&mut one)["origin"], "entra", "{url}");
        let mut other = process(&machine);
        assert_eq!(token(&mut other), first, "{url}");
        assert_eq!(stats(&mut other)["origin"], "redis", "{url}");
        assert_eq!(place.requests(), 1, "{url}");
        let keys = place.redis.cli(&["-n", database, "KEYS", "*"]);
        assert_eq!(keys.trim(), place.entry(), "{url}");
        // From the settings string as well as from the environment.
        let mut third = process_with(&machine.without("PGAAD_CACHE"), &conninfo(&[("cache", &url)]));
        assert_eq!(token(&mut third), first, "{url}");
        let mut log = String::new();
        let mut stderr = one.stderr().expect("a pipe");
        drop(one);
        stderr.read_to_string(&mut log).expect("text");
        assert_eq!(log, "", "{url}");
    });
}

#[test]
fn only_whom_the_caches_own_roots_vouch_for_is_asked() {
    let place = Place::start();
    let (redis, emulator) = (&place.redis, &place.emulator);
    // Roots for the token service that would vouch for Redis too.
    let dir = tempfile::tempdir().expect("a folder");
    let both = dir.path().join("both.pem");
    let pem = [emulator.ca_file(), redis.ca_file()].map(|path| std::fs::read_to_string(path).expect("PEM"));
    std::fs::write(&both, pem.concat()).expect("a file");
    let machine = place.machine().env("PGAAD_CACHE", redis.tls_url()).env("PGAAD_CA_FILE", &both);
    let other_name = redis.tls_url().replace("localhost", "127.0.0.2");
    for (case, machine, cause) in [
        ("no roots of its own", machine.clone(), "certificate"),
        ("a stranger's", machine.clone().env("PGAAD_CACHE_CA_FILE", redis.stranger_ca_file()), "certificate"),
        (
            "another name",
            machine.clone().env("PGAAD_CACHE", other_name).env("PGAAD_CACHE_CA_FILE", redis.ca_file()),
            "certificate",
        ),
    ] {
        let before = place.requests();
        for _ in 0..2 {
            let (line, log) = logged(&machine);
            assert_eq!(line.status(), "PGAAD_OK", "{case}: {line:?}");
            assert!(log.contains("level=warn") && log.contains(cause), "{case}: {log}");
            assert_eq!(log.lines().count(), 1, "{case}: {log}");
        }
        assert_eq!(place.requests(), before + 2, "{case}");
        assert_eq!((place.uses(), redis.keys().len()), (0, 0), "{case}");
    }
    // The certificate is good, and the right roots are all it takes.
    let machine = machine.env("PGAAD_CACHE_CA_FILE", redis.ca_file());
    let first = first_token(&machine);
    assert_eq!(first_token(&machine), first);
}

#[test]
fn roots_that_cannot_be_read_are_a_wrong_setting() {
    let place = Place::start();
    let machine = place.machine().env("PGAAD_CACHE", place.redis.tls_url());
    let mut session = machine.env("PGAAD_CACHE_CA_FILE", "/nonexistent/ca.pem").session();
    let made = session.one(&["new", ""]);
    let line = if made.status() == "PGAAD_OK" { session.one(NOW) } else { made };
    assert_refused(&line, "PGAAD_CONFIG", &["PGAAD_CACHE_CA_FILE", "/nonexistent/ca.pem"]);
}

/// A server that takes connections, and has this to say.
struct Impostor {
    port: u16,
    connections: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Impostor {
    fn start(says: &'static [u8]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (connections, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, ends) = (connections.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            while let Ok((mut caller, _)) = listener.accept() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let mut some = [0; 64];
                let _ = caller.read(&mut some);
                let _ = caller.write_all(says);
            }
        });
        Self { port, connections, over, thread: Some(thread) }
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = std::net::TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Many tokens, for each of which Redis would be asked; and how often it may have been tried meanwhile: it rests for a
/// second after the first failure, then for two, four and so on.
#[track_caller]
fn many_tokens(session: &mut Session) -> u64 {
    let begun = Instant::now();
    for _ in 0..20 {
        session.ask(&["suspend", "4000"]);
        token(session);
    }
    u64::from((begun.elapsed().as_secs() + 1).ilog2()) + 1
}

#[test]
fn who_is_no_redis_costs_no_token_and_is_left_alone() {
    let emulator = Emulator::start();
    let rows: [(&[u8], &str); 6] = [
        (b"", "cannot be reached"),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "cannot be used"),
        (b"\0\xff\r\n\r\n", "cannot be used"),
        (b"$99999999999\r\n", "cannot be used"),
        (b"*2\r\n$1\r\nx\r\n", ""),
        (b"+", "cannot be reached"),
    ];
    each(&rows, |(says, why)| {
        let impostor = Impostor::start(says);
        let url = format!("redis://localhost:{}", impostor.port);
        let machine = signed_in(&emulator).env("PGAAD_CACHE", url);
        let (line, log) = logged(&machine);
        assert_eq!(line.status(), "PGAAD_OK", "{says:?}: {line:?}");
        assert!(log.contains("level=warn") && log.contains("Redis at localhost"), "{says:?}: {log}");
        assert!(log.contains(why), "{says:?}: {log}");
        let mut session = process(&with_clock(machine));
        let before = impostor.connections.load(Ordering::SeqCst) as u64;
        assert!(before >= 1);
        let most = many_tokens(&mut session);
        let tried = impostor.connections.load(Ordering::SeqCst) as u64 - before;
        assert!((1..=most).contains(&tried), "{says:?}: {tried} connections, {most} at most");
    });
}

#[test]
fn who_is_not_let_in_goes_on_alone() {
    let place = Place::start_with(RedisLogin::User);
    let port = place.redis.port();
    for (login, why) in [
        ("pga%40d:wr0ng-passw0rd@", "refused the user or password"),
        ("nobody:wr0ng-passw0rd@", "refused the user or password"),
        (":wr0ng-passw0rd@", "refused the user or password"),
        ("", "NOAUTH"),
    ] {
        let machine = place.machine().env("PGAAD_CACHE", format!("redis://{login}localhost:{port}"));
        let (line, log) = logged(&machine);
        assert_eq!(line.status(), "PGAAD_OK", "{login}: {line:?}");
        assert!(log.contains("level=warn") && log.contains(why), "{login}: {log}");
        assert!(!log.contains("wr0ng"), "{login}: {log}");
        if !login.is_empty() {
            let mut session = process(&with_clock(machine));
            let before = place.redis.connections();
            let most = many_tokens(&mut session);
            let tried = place.redis.connections() - before;
            assert!((1..=most).contains(&tried), "{login}: {tried} connections, {most} at most");
        }
    }
    assert!(place.redis.keys().is_empty());
}

#[test]
fn a_server_that_hangs_costs_no_token_and_is_left_alone() {
    let place = Place::start();
    let before = place.redis.connections();
    let mut session = process(&with_clock(place.machine()));
    place.redis.pause();
    let most = many_tokens(&mut session);
    let (line, log) = logged(&place.machine());
    place.redis.resume();
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    assert!(log.contains("level=warn") && log.contains("in time"), "{log}");
    // Those of that last process are among them: one.
    let tried = place.redis.connections() - before - 1;
    assert!((1..=most).contains(&tried), "{tried} connections, {most} at most");
    let shared = first_token(&place.machine());
    assert_eq!(first_token(&place.machine()), shared);
}

#[test]
fn a_hanging_server_takes_little_of_a_calls_time() {
    let place = Place::start();
    place.redis.pause();
    // Waiting for Redis to the deadline would leave no time for the fetch.
    let mut session = process_with(&place.machine(), "timeout_ms=8000");
    token(&mut session);
    place.redis.resume();
}

#[test]
fn a_full_server_costs_no_token_and_serves_what_it_has() {
    let place = Place::start();
    let machine = place.machine();
    let first = first_token(&machine);
    place.redis.fill();
    assert_eq!(first_token(&machine), first);
    place.redis.make_room();
    place.redis.cli(&["FLUSHALL"]);
    place.redis.fill();
    let (line, log) = logged(&machine);
    assert_ne!(token_of(&line), first);
    assert!(log.contains("level=warn") && log.contains("OOM"), "{log}");
    let mut session = process(&machine);
    token(&mut session);
    assert_eq!(place.requests(), 3);
    // With room again it is used again, by the same process too.
    place.redis.make_room();
    let shared = token_of(&ask_again(&mut session));
    assert_eq!(first_token(&machine), shared);
    assert_eq!(place.requests(), 4);
}

#[test]
fn a_server_that_was_restarted_is_used_again() {
    let place = Place::start();
    let mut session = process(&place.machine());
    token(&mut session);
    place.redis.crash();
    assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_NETWORK");
    token(&mut session);
    place.redis.restart();
    assert!(place.redis.keys().is_empty());
    let mut last = String::new();
    wait_until("it is used again", || {
        last = token_of(&ask_again(&mut session));
        !place.entries().is_empty()
    });
    let before = place.requests();
    assert_eq!(first_token(&place.machine()), last);
    assert_eq!(place.requests(), before);
}

/// In milliseconds.
fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the end")
}

#[test]
fn an_entry_ends_with_its_token() {
    let place = Place::start();
    for lifetime in [3599, 90, 86_400] {
        place.emulator.entra().configure(|config| config.lifetime = lifetime);
        let mut session = process(&place.machine());
        let lines = session.ask(NOW);
        token_of(&lines[1]);
        let expires_on: i64 = lines[0].word().parse().expect("a time");
        let before = wall_clock();
        let left: i64 = place.redis.cli(&["PTTL", &place.entry()]).trim().parse().expect("a number");
        assert!(left > (lifetime - 60) * 1000, "{left} ms of {lifetime} s");
        assert!(before + left <= expires_on * 1000, "{} ms too late", before + left - expires_on * 1000);
        session.ask(&["invalidate"]);
    }
}

#[test]
fn while_somebody_fetches_the_lease_ends_by_itself() {
    let place = Place::start();
    let gate = place.gate();
    let mut session = process(&place.machine());
    session.tell(NOW);
    gate.wait_for_arrivals(1);
    let lease = place.lease().expect("one");
    let left: i64 = place.redis.cli(&["PTTL", &lease]).trim().parse().expect("a number");
    assert!((1..=10_000).contains(&left), "{left}");
    gate.open();
    token_of(&answer(&mut session));
    assert_eq!(place.lease(), None);
}

#[test]
fn nothing_in_redis_tells_a_token_a_secret_or_who_it_is() {
    let place = Place::start();
    for (key, app) in [(None, &APP_ONE), (Some(KEY), &APP_TWO)] {
        let machine = place.machine_of(app);
        let machine = key.into_iter().fold(machine, |machine, key| machine.env("PGAAD_CACHE_KEY", key));
        let gate = place.gate();
        let mut session = process(&machine);
        session.tell(NOW);
        gate.wait_for_arrivals(1);
        let lease = place.lease().expect("one");
        let holder = place.redis.cli(&["GET", &lease]);
        gate.open();
        let token = token_of(&answer(&mut session));
        // A failure is there as well.
        place.emulator.entra().faults().next(Fault::echo_secret());
        session.ask(&["invalidate"]);
        session.one(NOW);
        session.ask(&["free"]);
        let refilled = first_token(&machine);
        let keys = place.redis.keys();
        assert!(!keys.is_empty());
        let values: String = keys.iter().map(|key| place.redis.cli(&["GET", key])).collect();
        let all = format!("{lease}\n{holder}\n{keys:?}\n{values}");
        let owner = claims(&token).expect("claims");
        let secrets = token.split('.').chain(refilled.split('.'));
        let who = [app.client_id, app.tenant.id, app.secret, KEY, "eyJ", "AADSTS", "ossrdbms"];
        let who = who.into_iter().chain(owner["oid"].as_str());
        for secret in secrets.chain(who) {
            assert!(!all.contains(secret), "{secret} in {all}");
        }
        place.redis.cli(&["FLUSHALL"]);
    }
}

#[test]
fn the_client_secret_opens_what_it_sealed() {
    let place = Place::start();
    let old = place.machine_of(&APP_ROTATING);
    let first = first_token(&old);
    let entry = place.entry();
    let before = place.redis.cli(&["GET", &entry]);
    let secret = place.emulator.entra().rotate_secret(&APP_ROTATING);
    let new = place.machine_of(&APP_ROTATING);
    // Whoever still has the old secret has the old token as long as that lives, and no newer one.
    assert_eq!(first_token(&old), first);
    assert_eq!(place.requests(), 1);
    let second = first_token(&new);
    assert_ne!(second, first);
    assert_eq!(place.requests(), 2);
    // While both are in use, neither takes the other's place.
    assert_eq!(first_token(&old), first);
    assert_eq!(place.redis.cli(&["GET", &entry]), before);
    assert_eq!(place.entries().len(), 2);
    place.redis.cli(&["DEL", &entry]);
    let refused = process(&old).one(NOW);
    assert_eq!(refused.status(), "PGAAD_DENIED", "{refused:?}");
    assert!(!refused.0.contains(&secret));
    let before = place.requests();
    assert_eq!(first_token(&new), second);
    assert_eq!(place.requests(), before);
    // A secret in a file is the same secret.
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("secret");
    std::fs::write(&file, secret).expect("a file");
    let by_file = new.without("PGAAD_CLIENT_SECRET").env("PGAAD_CLIENT_SECRET_FILE", &file);
    assert_eq!(first_token(&by_file), second);
    assert_eq!(place.requests(), before);
}

#[test]
fn a_cache_key_opens_what_it_sealed() {
    let place = Place::start();
    let first = first_token(&place.machine().env("PGAAD_CACHE_KEY", KEY));
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("key");
    std::fs::write(&file, format!("{KEY}\n")).expect("a file");
    assert_eq!(first_token(&place.machine().env("PGAAD_CACHE_KEY_FILE", &file)), first);
    assert_eq!(place.requests(), 1);
    for (case, machine) in [
        ("another key", place.machine().env("PGAAD_CACHE_KEY", OTHER_KEY)),
        ("the secret instead", place.machine()),
    ] {
        let before = place.requests();
        let other = first_token(&machine);
        assert_ne!(other, first, "{case}");
        assert_eq!(first_token(&machine), other, "{case}: it was not replaced");
        assert_eq!(place.requests(), before + 1, "{case}");
    }
}

#[test]
fn who_has_no_secret_needs_a_cache_key() {
    let place = Place::start();
    let imds = Endpoint::start(&place.emulator, Imds);
    let managed = || {
        let identity = Driver::new().env("PGAAD_AUTH", "managed_identity").envs(imds.env());
        identity.env("PGAAD_CLIENT_ID", IDENTITY_ONE.client_id)
    };
    let pod = || {
        let env = place.emulator.workload_env(APP_ONE.client_id);
        Driver::new().envs(env).env("PGAAD_AUTH", "workload_identity")
    };
    let rows: [(&str, Driver); 2] = [("a managed identity", managed()), ("a pod", pod())];
    for (case, machine) in rows {
        let machine = machine.env("PGAAD_CACHE", place.redis.url());
        let mut session = machine.session();
        let made = session.one(&["new", ""]);
        let words = ["cache", "cache_key", "PGAAD_CACHE_KEY"];
        assert_refused(&made, "PGAAD_CONFIG", &words);
        let asked = || place.requests() + imds.front().counters().requests;
        let before = asked();
        assert_refused(&session.one(&["get_token"]), "PGAAD_CONFIG", &words);
        assert_eq!((asked(), place.uses()), (before, 0), "{case}");
        // With one, machines share.
        let machine = machine.env("PGAAD_CACHE_KEY", KEY);
        let first = first_token(&machine);
        assert_eq!(first_token(&machine), first, "{case}");
        assert_eq!(asked(), before + 1, "{case}");
        place.redis.cli(&["FLUSHALL"]);
        place.redis.cli(&["CONFIG", "RESETSTAT"]);
    }
}

#[test]
fn whose_the_token_is_must_be_fixed_to_share_it() {
    let place = Place::start();
    let imds = Endpoint::start(&place.emulator, Imds);
    // The machine's own identity: another one on the next machine.
    let machine = Driver::new().env("PGAAD_AUTH", "managed_identity").envs(imds.env());
    let machine = machine.env("PGAAD_CACHE", place.redis.url()).env("PGAAD_CACHE_KEY", KEY);
    let first = first_token(&machine);
    assert_ne!(first_token(&machine), first);
    assert_eq!((place.uses(), imds.front().counters().requests), (0, 2));
    // Unless somebody says that it is the same.
    let named = machine.env("PGAAD_CACHE_ID", "the web servers");
    let shared = first_token(&named);
    assert_eq!(first_token(&named), shared);
    assert_ne!(first_token(&named.clone().env("PGAAD_CACHE_ID", "the others")), shared);
    assert_eq!(imds.front().counters().requests, 4);
    assert_eq!(place.redis.keys().len(), 2);
}

#[test]
fn identities_and_scopes_are_apart() {
    let place = Place::start();
    let key = |machine: Driver| machine.env("PGAAD_CACHE_KEY", KEY);
    let other_scope = "https://token.postgres.cosmos.azure.com/.default";
    let machines = [
        key(place.machine()),
        key(place.machine_of(&APP_TWO)),
        key(place.machine()).env("PGAAD_SCOPE", other_scope),
    ];
    let tokens = machines.each_ref().map(first_token);
    assert_eq!((place.requests(), place.redis.keys().len()), (3, 3));
    // Each still finds its own, and nobody else's.
    assert_eq!(machines.each_ref().map(first_token), tokens);
    assert_eq!(place.requests(), 3);
    let [one, two, cosmos] = tokens.map(|token| claims(&token).expect("claims"));
    assert_eq!([&one["appid"], &two["appid"]], [APP_ONE.client_id, APP_TWO.client_id]);
    assert_eq!(cosmos["appid"], APP_ONE.client_id);
    assert_ne!(cosmos["aud"], one["aud"]);
}

#[test]
fn what_is_no_entry_is_a_miss_and_replaced() {
    let place = Place::start();
    let redis = &place.redis;
    let machine = |app| place.machine_of(app).env("PGAAD_CACHE_KEY", KEY);
    first_token(&machine(&APP_TWO));
    let foreign = place.entry();
    let mut last = first_token(&machine(&APP_ONE));
    let entry = redis.keys().into_iter().find(|key| *key != foreign).expect("two");
    let commands: [(&str, &[&str]); 10] = [
        ("damaged at its beginning", &["SETRANGE", &entry, "0", "xx"]),
        ("damaged in its nonce", &["SETRANGE", &entry, "5", "x"]),
        ("damaged in its text", &["SETRANGE", &entry, "100", "xyz"]),
        ("longer by a byte", &["APPEND", &entry, "x"]),
        ("longer than any", &["SETRANGE", &entry, "3000000", "x"]),
        ("empty", &["SET", &entry, ""]),
        ("somebody else's text", &["SET", &entry, "{\"access_token\":\"eyJhbGciOiJub25lIn0.e30.\"}"]),
        ("another identity's", &["COPY", &foreign, &entry, "REPLACE"]),
        ("a hash", &["HSET", &entry, "a", "b"]),
        ("a list", &["RPUSH", &entry, "a", "b"]),
    ];
    for (case, command) in commands {
        if matches!(command[0], "HSET" | "RPUSH") {
            redis.cli(&["DEL", &entry]);
        }
        redis.cli(command);
        let before = place.requests();
        let new = first_token(&machine(&APP_ONE));
        assert_ne!(new, last, "{case}");
        assert_eq!(claims(&new).expect("claims")["appid"], APP_ONE.client_id, "{case}");
        assert_eq!(first_token(&machine(&APP_ONE)), new, "{case}: it was not replaced");
        assert_eq!(place.requests(), before + 1, "{case}");
        last = new;
    }
}

#[test]
fn an_expired_entry_is_a_miss_and_replaced() {
    let place = Place::start();
    let first = first_token(&place.machine());
    // By the clock of this machine; the server's says that the entry lives.
    let mut later = process_at(&place.machine(), &["suspend", "4000"]);
    let second = token(&mut later);
    assert_ne!(second, first);
    assert_eq!(token(&mut process_at(&place.machine(), &["suspend", "4000"])), second);
    assert_eq!(place.requests(), 2);
}

#[test]
fn an_entry_from_the_future_is_a_miss_and_replaced() {
    let place = Place::start();
    let first = token(&mut process_at(&place.machine(), &["set_clock", "1000"]));
    let second = first_token(&place.machine());
    assert_ne!(second, first);
    assert_eq!(first_token(&place.machine()), second);
    assert_eq!(place.requests(), 2);
    // A clock that is a little ahead does no harm.
    place.redis.cli(&["FLUSHALL"]);
    let third = token(&mut process_at(&place.machine(), &["set_clock", "20"]));
    assert_eq!(first_token(&place.machine()), third);
}

#[test]
fn an_old_value_that_is_put_back_is_replaced() {
    let place = Place::start();
    let at_its_end = ["suspend", "3400"];
    let first = first_token(&place.machine());
    let entry = place.entry();
    let keep = |copy: &str| place.redis.cli(&["COPY", &entry, copy, "REPLACE"]);
    let put_back = |copy: &str| place.redis.cli(&["COPY", copy, &entry, "REPLACE"]);
    keep("old");
    let mut session = process_at(&place.machine(), &at_its_end);
    let second = token(&mut session);
    assert_ne!(second, first);
    put_back("old");
    // Who has a newer one stays with it.
    assert_eq!(token(&mut session), second);
    assert_eq!(place.requests(), 2);
    let third = token(&mut process_at(&place.machine(), &at_its_end));
    assert!(third != first && third != second);
    assert_eq!(token(&mut process_at(&place.machine(), &at_its_end)), third);
    assert_eq!(place.requests(), 3);
}

#[test]
fn who_dropped_a_token_does_not_get_it_again() {
    let place = Place::start();
    let mut session = process(&place.machine());
    let first = token(&mut session);
    let entry = place.entry();
    place.redis.cli(&["COPY", &entry, "old"]);
    session.ask(&["invalidate"]);
    place.redis.cli(&["COPY", "old", &entry]);
    let second = token(&mut session);
    assert_ne!(second, first, "an old value was put back");
    // Redis does not let it drop anything.
    place.redis.cli(&["ACL", "SETUSER", "default", "-del"]);
    assert_ne!(token_of(&ask_again(&mut session)), second, "the entry could not be dropped");
}

#[test]
fn a_lease_is_freed_by_its_holder_only() {
    let place = Place::start();
    let gate = place.gate();
    let mut session = process(&place.machine());
    session.tell(NOW);
    gate.wait_for_arrivals(1);
    let lease = place.lease().expect("one");
    // Meanwhile it ended, and another got it.
    place.redis.cli(&["SET", &lease, "another", "PX", "10000"]);
    gate.open();
    token_of(&answer(&mut session));
    assert_eq!(place.redis.cli(&["GET", &lease]).trim(), "another");
}

#[test]
fn when_the_holder_is_killed_the_others_go_on() {
    let place = Place::start();
    let gate = place.gate();
    // Its lease is short as its time is.
    let mut holder = process_with(&place.machine(), "timeout_ms=4000");
    holder.tell(NOW);
    gate.wait_for_arrivals(1);
    let mut others: Vec<_> = (0..4).map(|_| process(&place.machine())).collect();
    others.iter_mut().for_each(|session| session.tell(NOW));
    place.wait_for_those_who_want_to_fetch(5);
    assert!(place.lease().is_some(), "nobody holds it any more");
    drop(holder); // kill -9
    let tokens: Vec<_> = others.iter_mut().map(|session| token_of(&answer(session))).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
    assert_eq!(place.requests(), 2);
    place.entry();
    gate.open();
}

#[test]
fn a_lease_that_never_ends_costs_no_token() {
    let place = Place::start();
    first_token(&place.machine());
    let entry = place.entry();
    let lease = format!("{entry}:lease");
    // One that nobody frees, and one that somebody renews all the time.
    place.redis.cli(&["DEL", &entry]);
    place.redis.cli(&["SET", &lease, "foreign"]);
    let (line, log) = logged(&place.machine());
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    assert!(log.contains("level=warn") && log.contains(&lease), "{log}");
    let over = AtomicBool::new(false);
    let line = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                place.redis.cli(&["SET", &lease, "foreign", "PX", "9000"]);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let mut session = process_with(&place.machine(), "timeout_ms=4000");
        let line = session.one(NOW);
        over.store(true, Ordering::SeqCst);
        line
    });
    token_of(&line);
    assert_eq!(place.redis.cli(&["GET", &lease]).trim(), "foreign");
}

#[test]
fn a_failure_is_shared_by_all_who_waited() {
    let place = Place::start();
    // Sealed by a key of their own: the failure is a note in Redis like the token.
    for (n, machine) in [place.machine(), place.machine().env("PGAAD_CACHE_KEY", KEY)].iter().enumerate() {
        place.redis.cli(&["CONFIG", "RESETSTAT"]);
        let mut sessions: Vec<_> = (0..8).map(|_| process(machine)).collect();
        let gate = place.gate_that(Fault::status(401, "invalid_client", 7000215));
        sessions.iter_mut().for_each(|session| session.tell(NOW));
        gate.wait_for_arrivals(1);
        place.wait_for_those_who_want_to_fetch(8);
        gate.open();
        let lines: Vec<_> = sessions.iter_mut().map(answer).collect();
        assert_refused(&lines[0], "PGAAD_DENIED", &["AADSTS7000215"]);
        assert!(lines.iter().all(|line| line.0 == lines[0].0), "{lines:#?}");
        assert_eq!(place.requests(), 2 * n + 1);
        // Who comes later asks anew.
        first_token(machine);
        assert_eq!(place.requests(), 2 * n + 2);
        place.redis.cli(&["FLUSHALL"]);
    }
}

#[test]
fn who_comes_after_a_failure_asks_anew() {
    let place = Place::start();
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("secret");
    std::fs::write(&file, APP_ONE.secret).expect("a file");
    let machine = place.machine().env("PGAAD_CACHE_KEY", KEY).without("PGAAD_CLIENT_SECRET");
    let machine = machine.env("PGAAD_CLIENT_SECRET_FILE", &file);
    // Several times, so that some come within the same second.
    for turn in 0..4 {
        let mut session = process(&machine);
        place.emulator.entra().faults().next(Fault::html(200));
        assert_eq!(session.one(NOW).status(), "PGAAD_PROTOCOL", "{turn}");
        token(&mut session);
        session.ask(&["invalidate"]);
        // Another process.
        place.emulator.entra().faults().next(Fault::html(200));
        assert_eq!(session.one(NOW).status(), "PGAAD_PROTOCOL", "{turn}");
        first_token(&machine);
        session.ask(&["invalidate"]);
        // A refusal, and invalidate.
        place.emulator.entra().faults().next(Fault::status(401, "invalid_client", 7000215));
        assert_eq!(session.one(NOW).status(), "PGAAD_DENIED", "{turn}");
        token_of(&ask_again(&mut session));
        session.ask(&["invalidate"]);
        // A secret that is put right.
        std::fs::write(&file, "wrong").expect("a file");
        assert_eq!(session.one(NOW).status(), "PGAAD_DENIED", "{turn}");
        std::fs::write(&file, APP_ONE.secret).expect("a file");
        token(&mut session);
        session.ask(&["invalidate"]);
    }
}

#[test]
fn while_entra_is_down_a_new_process_gets_the_living_token() {
    let place = Place::start();
    let first = first_token(&place.machine());
    for fault in [
        Fault::status(503, "temporarily_unavailable", 90033).retry_after(3600),
        Fault::html(502),
        Fault::status(401, "invalid_client", 7000215),
        Fault::hang(),
    ] {
        let before = place.emulator.entra().counters().connections;
        place.emulator.entra().faults().always(fault);
        // It has 200 seconds left, and machines want 300.
        let machine = place.machine().env("PGAAD_TIMEOUT_MS", "4000");
        let mut session = process_at(&machine, &["suspend", "3400"]);
        assert_eq!(token(&mut session), first);
        assert!(place.emulator.entra().counters().connections > before, "it was not even tried");
        assert_eq!(stats(&mut session)["origin"], "redis");
        assert_eq!(token_of(&session.one(HERE)), first);
        // When it has ended, it is handed out by nobody.
        let mut session = process_at(&machine, &["suspend", "3700"]);
        assert_ne!(session.one(NOW).status(), "PGAAD_OK");
        place.emulator.entra().faults().clear();
    }
    let mut session = process_at(&place.machine(), &["suspend", "3400"]);
    assert_ne!(token(&mut session), first);
    assert_eq!(stats(&mut session)["origin"], "entra");
}

#[test]
fn an_entry_that_is_to_be_refreshed_is_refreshed_by_one() {
    let place = Place::start();
    let first = first_token(&place.machine());
    let mut sessions: Vec<_> = (0..8).map(|_| process_at(&place.machine(), &["suspend", "3400"])).collect();
    place.redis.cli(&["CONFIG", "RESETSTAT"]);
    let gate = place.gate();
    sessions.iter_mut().for_each(|session| session.tell(NOW));
    gate.wait_for_arrivals(1);
    place.wait_for_those_who_want_to_fetch(8);
    gate.open();
    let tokens: Vec<_> = sessions.iter_mut().map(|session| token_of(&answer(session))).collect();
    assert!(tokens[0] != first && tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
    assert_eq!(place.requests(), 2);
}

#[test]
fn a_dropped_token_is_dropped_for_all_machines() {
    let place = Place::start();
    for by_default_client in [false, true] {
        let mut session = process(&place.machine());
        if by_default_client {
            session.ask(&["default"]);
        }
        let first = token(&mut session);
        assert_eq!(first_token(&place.machine()), first);
        let before = place.requests();
        assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_OK");
        assert!(place.entries().is_empty(), "{:?}", place.redis.keys());
        let second = first_token(&place.machine());
        assert_ne!(second, first);
        assert_eq!(token(&mut session), second);
        assert_eq!(place.requests(), before + 1);
        session.ask(&["invalidate"]);
    }
}

#[test]
fn who_drops_a_token_is_told_where_it_may_still_be() {
    let place = Place::start();
    let mut session = process_with(&place.machine(), "timeout_ms=8000");
    let first = token(&mut session);
    let told = ["not in the shared cache", "Redis at localhost"];
    place.redis.pause();
    assert_refused(&session.one(&["invalidate"]), "PGAAD_NETWORK", &told);
    // Here it is dropped all the same, and while Redis is left alone, too.
    let second = token(&mut session);
    assert_ne!(second, first);
    assert_refused(&session.one(&["invalidate"]), "PGAAD_NETWORK", &told);
    place.redis.resume();
    // It is asked at once, so that nobody else takes what is there.
    assert_eq!(session.one(&["invalidate"]).status(), "PGAAD_OK");
    assert!(place.entries().is_empty());
    assert_ne!(first_token(&place.machine()), first);
}

#[test]
fn a_token_that_is_dropped_while_it_is_fetched_is_kept_by_nobody() {
    let place = Place::start();
    for by in ["another client", "another process", "its own client"] {
        let gate = place.gate();
        let mut holder = process(&place.machine());
        holder.ask(&["thread", "client_get_token", "-1"]);
        gate.wait_for_arrivals(1);
        let dropped = match by {
            "its own client" => holder.one(&["invalidate"]),
            "another client" => {
                holder.ask(&["use", "1"]);
                holder.ask(&["new", ""]);
                holder.one(&["invalidate"])
            }
            _ => process(&place.machine()).one(&["invalidate"]),
        };
        assert_eq!(dropped.status(), "PGAAD_OK", "{by}");
        gate.open();
        let lines = holder.ask(&["join"]);
        let fetched = token_of(lines.iter().rfind(|line| !line.status().is_empty()).expect("an answer"));
        wait_until("it was taken back", || place.entries().is_empty());
        assert_ne!(first_token(&place.machine()), fetched, "{by}");
        place.redis.cli(&["FLUSHALL"]);
    }
}

#[test]
fn warm_calls_ask_nobody() {
    let place = Place::start();
    first_token(&place.machine());
    let mut session = process(&place.machine());
    token(&mut session);
    let before = (place.uses(), place.redis.connections());
    for _ in 0..5 {
        token(&mut session);
        token_of(&session.one(HERE));
    }
    assert_eq!((place.uses(), place.redis.connections()), before);
    assert_eq!(session.one(&["warm", "100"]).0, "warm exit=0 signal=0");
}

#[test]
fn threads_of_one_process_ask_redis_once() {
    let place = Place::start();
    let first = first_token(&place.machine());
    let mut session = process(&place.machine());
    let before = place.redis.connections();
    let lines = session.ask(&["threads", "20", "client_get_token", "-1"]);
    let tokens: Vec<_> = lines.iter().filter(|line| !line.status().is_empty()).map(token_of).collect();
    assert!(tokens.len() == 20 && tokens.iter().all(|token| *token == first), "{tokens:?}");
    assert_eq!((place.redis.connections() - before, place.requests()), (1, 1));
}

#[test]
fn malformed_urls_are_wrong_settings_that_are_not_shown() {
    let emulator = Emulator::start();
    for url in [
        "redis://",
        "redis://:hunter2@",
        "redis://hunter2@localhost",
        "redis://user:hunter2/@localhost",
        "redis://user:hunter2@@localhost",
        "redis://user:hunter2#@localhost",
        "redis://user:hunter2?@localhost",
        "redis://user:hunter2%@localhost",
        "redis://user:hunter2%ff@localhost",
        "redis://user:hun ter2@localhost",
        "redis://user:hunter2@localhost:port",
        "redis://user:hunter2@localhost:0",
        "redis://user:hunter2@localhost:65536",
        "redis://user:hunter2@localhost:6379:1",
        "redis://user:hunter2@localhost/x",
        "redis://user:hunter2@localhost/-1",
        "redis://user:hunter2@localhost/1?ssl=true",
        "rediss://user:hunter2@local host",
        "rediss://user:hunter2@[::1",
        "rediss://user:hunter2@[hunter2]",
        "unix://user:hunter2@relative",
        "unix://user:hunter2@",
        "unix://user:hunter2@/path?database=1",
        "redis:hunter2@localhost",
        "redis+tls://user:hunter2@localhost",
        "http://user:hunter2@localhost",
        "REDIS//user:hunter2@localhost",
    ] {
        let driver = signed_in(&emulator).env("PGAAD_LOG", "debug");
        for (name, driver, settings) in [
            ("PGAAD_CACHE", driver.clone().env("PGAAD_CACHE", url), String::new()),
            ("cache", driver.clone(), conninfo(&[("cache", url)])),
        ] {
            let output = driver.output(&[&["new", &settings]]);
            let out = String::from_utf8(output.stdout).expect("text");
            let line = Line(out.trim_end().to_string());
            assert_refused(&line, "PGAAD_CONFIG", &[name]);
            let err = String::from_utf8_lossy(&output.stderr);
            for text in [&line.0, &*err] {
                assert!(!text.contains("hunter2") && !text.contains("ter2"), "{name}: {text}");
            }
        }
    }
    assert_eq!(emulator.entra().counters().connections, 0);
}

#[test]
fn a_password_is_nowhere_to_be_read() {
    let emulator = Emulator::start();
    let closed = crate::harness::ClosedPort::new();
    let url = format!("redis://user:hunter2@{}", closed.address());
    let machine = signed_in(&emulator).env("PGAAD_CACHE", url).env("PGAAD_LOG", "debug");
    let output = machine.output(&[&["new", ""], NOW, &["stats"], &["invalidate"]]);
    let all = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text")).concat();
    assert!(all.contains("Redis at 127.0.0.1") && all.contains("PGAAD_CACHE"), "{all}");
    assert!(!all.contains("hunter2"), "{all}");
}

#[test]
fn a_wrong_cache_key_is_a_wrong_setting_that_is_not_shown() {
    let place = Place::start();
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("key");
    std::fs::write(&file, "dG9vIHNob3J0").expect("a file");
    let text = |text: &str| OsString::from(text);
    for (name, value) in [
        ("PGAAD_CACHE_KEY", text("dG9vIHNob3J0")),
        ("PGAAD_CACHE_KEY", text("no base64 of anything, yet long enough")),
        ("PGAAD_CACHE_KEY_FILE", file.into_os_string()),
        ("PGAAD_CACHE_KEY_FILE", text("/nonexistent/key")),
    ] {
        let mut session = place.machine().env(name, &value).session();
        let made = session.one(&["new", ""]);
        let line = if made.status() == "PGAAD_OK" { session.one(NOW) } else { made };
        assert_refused(&line, "PGAAD_CONFIG", &[name]);
        assert!(!line.0.contains("dG9vIHNob3J0") && !line.0.contains("long enough"), "{line:?}");
    }
    assert_eq!(place.uses(), 0);
}

/// What the child of a command said, which must have ended well.
#[track_caller]
fn from_child(lines: &[Line]) -> String {
    let end = lines.iter().find(|line| line.command() == "fork").map(|line| line.0.as_str());
    assert_eq!(end, Some("fork exit=0 signal=0"), "{lines:?}");
    token_of(lines.iter().rfind(|line| !line.status().is_empty()).expect("an answer"))
}

#[test]
fn parent_and_child_have_connections_of_their_own() {
    let place = Place::start();
    // The parent has the lease, and an open connection.
    let gate = place.gate();
    let mut session = process(&place.machine());
    session.ask(&["thread", "client_get_token", "-1"]);
    gate.wait_for_arrivals(1);
    assert_eq!((place.redis.clients(), place.redis.connections()), (1, 1));
    let lease = place.lease().expect("one");
    let holder = place.redis.cli(&["GET", &lease]);
    // Children that end, and that give up what they have, take neither from it.
    for command in ["free", "get_user"] {
        let lines = session.ask(&["fork", command]);
        assert!(lines.iter().any(|line| line.0 == "fork exit=0 signal=0"), "{command}: {lines:?}");
        assert_eq!(place.redis.cli(&["GET", &lease]), holder, "{command}");
    }
    let before = place.redis.connections();
    let sets = place.redis.commands()["set"];
    // A child waits for its parent as any other process does, by a connection of its own.
    session.tell(&["fork", "client_get_token", "-1"]);
    place.wait_for_those_who_want_to_fetch(sets + 1);
    assert_eq!((place.redis.clients(), place.redis.connections()), (2, before + 1));
    gate.open();
    let childs = from_child(&session.answer());
    let lines = session.ask(&["join"]);
    let parents = token_of(lines.iter().rfind(|line| !line.status().is_empty()).expect("an answer"));
    assert_eq!(childs, parents);
    // The parent needed no other connection to the end.
    assert_eq!((place.requests(), place.redis.connections()), (1, before + 1));
    assert_eq!(place.lease(), None);
}

#[test]
fn forks_of_a_process_that_waits_mix_no_commands() {
    let place = Place::start();
    let gate = place.gate();
    let mut holder = process(&place.machine());
    holder.tell(NOW);
    gate.wait_for_arrivals(1);
    // It asks again and again while its children do the same.
    let mut session = process(&place.machine().env("PGAAD_LOG", "warn"));
    session.ask(&["thread", "client_get_token", "-1"]);
    place.wait_for_those_who_want_to_fetch(2);
    session.running().wait_for_sleepers(2);
    for n in 0..4 {
        session.ask(&["thread", "fork", "client_get_token", "-1"]);
        place.wait_for_those_who_want_to_fetch(3 + n);
    }
    assert_eq!(place.redis.connections(), 6);
    gate.open();
    let first = token_of(&answer(&mut holder));
    let lines = session.ask(&["join"]);
    let tokens: Vec<_> = lines.iter().filter(|line| !line.status().is_empty()).map(token_of).collect();
    assert!(tokens.iter().all(|token| *token == first), "{lines:?}");
    assert_eq!((place.requests(), place.redis.connections()), (1, 6));
}

#[test]
fn a_short_lived_process_finds_what_others_fetched() {
    let place = Place::start();
    let before = unix_now();
    let first = token_of(&place.machine().one(&["get_token"]));
    for _ in 0..4 {
        assert_eq!(token_of(&place.machine().one(&["get_token"])), first);
    }
    assert_eq!(place.requests(), 1);
    // It says when it ends as it did to the first.
    let lines = place.machine().run(&[&["new", ""], NOW]);
    let ends: i64 = lines[1].word().parse().expect("a time");
    assert_eq!(ends, claims(&first).expect("claims")["exp"].as_i64().expect("a time"));
    assert!(ends > before + 3000);
}
