//! Against a real server, and against what is none.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command as Program;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use emulator::{PATIENCE, Redis, RedisLogin};

use super::*;

const NAME: &str = "00ff";
const ENTRY: &[u8] = b"\0sealed\r\n\xff";
const LIFE: Duration = Duration::from_secs(3600);

/// Far away: no test takes so long, but what hangs ends.
fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn open(url: &str, ca_file: Option<&Path>) -> RedisStore {
    RedisStore::new(Url::parse(url).expect("a URL"), ca_file, None).expect("a store")
}

fn store(server: &Redis) -> RedisStore {
    open(&server.url(), None)
}

/// Each operation in a session of its own.
impl RedisStore {
    fn get(&self, name: &str, deadline: Instant) -> Result<Option<Vec<u8>>, Trouble> {
        self.begin(deadline).get(name)
    }

    fn put(&self, name: &str, entry: &[u8], life: Duration, deadline: Instant) -> Result<(), Trouble> {
        self.begin(deadline).put(name, entry, life)
    }

    fn remove(&self) {
        self.begin(deadline()).remove(NAME).expect("removed");
    }

    fn try_lease(&self, name: &str, deadline: Instant) -> Result<Option<RedisSession<'_>>, Trouble> {
        let mut session = self.begin(deadline);
        Ok(session.try_lease(name)?.then_some(session))
    }

    fn wait(&self, name: &str, until: Instant) -> Result<(), Trouble> {
        self.begin(deadline()).wait(name, None, until)
    }

    fn found(&self) -> Option<Vec<u8>> {
        self.get(NAME, deadline()).expect("an answer")
    }

    fn store(&self) {
        self.put(NAME, ENTRY, LIFE, deadline()).expect("put");
    }

    fn lease(&self) -> Option<RedisSession<'_>> {
        self.try_lease(NAME, deadline()).expect("an answer")
    }

    fn trouble(&self) -> String {
        let trouble = self.get(NAME, deadline()).expect_err("trouble");
        assert!(!trouble.is_of_settings(), "{trouble}");
        trouble.to_string()
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The server, left alone after a failure, is asked again.
fn wait_for_use(store: &RedisStore) {
    wait_until("Redis is used again", || store.get(NAME, deadline()).is_ok());
}

fn rests(store: &RedisStore) -> bool {
    store.state.with(|state| state.rest.is_some())
}

#[test]
fn every_way_in_serves_everything() {
    for login in [RedisLogin::Open, RedisLogin::Password, RedisLogin::User] {
        let server = Redis::start_with(login);
        for (number, url) in [server.url(), server.tls_url(), server.unix_url()].iter().enumerate() {
            for (database, suffix) in [(0, ""), (3, if number == 2 { "?db=3" } else { "/3" })] {
                let ca_file = Some(server.ca_file()).filter(|_| number == 1);
                let store = open(&format!("{url}{suffix}"), ca_file);
                let other = open(url, ca_file);
                assert_eq!(store.found(), None, "{url}{suffix}");
                let lease = store.lease().expect("the lease");
                assert!(store.lease().is_none());
                store.store();
                let keys = ["pgaad:1:00ff", "pgaad:1:00ff:lease"];
                assert_eq!(server.keys(), keys);
                for key in keys {
                    let left = server.cli(&["-n", &database.to_string(), "PTTL", key]);
                    assert!(left.trim().parse::<i64>().expect("a number") > 0, "{key} never ends: {left}");
                }
                assert_eq!(other.found().is_some(), database == 0);
                drop(lease);
                assert_eq!(server.keys(), keys[..1]);
                assert_eq!(store.found().as_deref(), Some(ENTRY));
                store.remove();
                assert_eq!((store.found(), server.keys()), (None, Vec::new()));
            }
        }
    }
}

#[test]
fn a_session_has_one_connection_and_no_longer_than_it_lasts() {
    let server = Redis::start();
    let (holding, waiting) = (store(&server), store(&server));
    let (mut holder, mut waiter) = (holding.begin(deadline()), waiting.begin(deadline()));
    for session in [&mut holder, &mut waiter] {
        assert_eq!((session.get(NAME), session.get("01ff")), (Ok(None), Ok(None)));
    }
    assert_eq!(holder.try_lease(NAME), Ok(true));
    assert_eq!(waiter.try_lease(NAME), Ok(false));
    holder.put(NAME, ENTRY, LIFE).expect("put");
    assert_eq!(server.clients(), 2);
    drop(holder);
    wait_until("the holder is gone", || server.clients() == 1);
    waiter.wait(NAME, None, deadline()).expect("waited");
    assert_eq!(waiter.get(NAME), Ok(Some(ENTRY.to_vec())));
    waiter.remove(NAME).expect("removed");
    drop(waiter);
    wait_until("the waiter is gone", || server.clients() == 0);
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_connection_that_was_silent_for_long_is_not_trusted() {
    let server = Redis::start();
    let store = store(&server);
    let mut session = store.begin(deadline());
    assert_eq!((session.get(NAME), session.get(NAME), server.connections()), (Ok(None), Ok(None), 1));
    session.connection.as_mut().expect("a connection").used -= Duration::from_secs(31);
    assert_eq!((session.get(NAME), server.connections()), (Ok(None), 2));
}

#[test]
fn a_slow_server_has_a_second_for_all_that_is_asked() {
    let server = Redis::start();
    let store = store(&server);
    let mut session = store.begin(deadline());
    assert_eq!(session.get(NAME), Ok(None));
    assert!(session.left < PATIENCE);
    // As if that had taken so long.
    session.left = Duration::ZERO;
    assert!(session.get(NAME).is_err() && rests(&store));
    let trouble = session.try_lease(NAME).expect_err("trouble").to_string();
    assert!(trouble.contains("it is left alone for"), "{trouble}");
    // What keeps nobody waiting has a second of its own, and is done all the same.
    session.extend(deadline());
    session.put(NAME, ENTRY, LIFE).expect("put");
}

/// The first command got through on a connection that then broke: the second one finds whose it is.
#[test]
fn a_lease_that_was_got_on_a_broken_connection_is_ours() {
    let server = Redis::start();
    let store = store(&server);
    let (key, holder) = (lease_key(NAME), "a number of ours");
    let set: wire::Command<'_> = &[b"SET", key.as_bytes(), holder.as_bytes(), b"NX", b"PX", b"10000"];
    let get: wire::Command<'_> = &[b"GET", key.as_bytes()];
    let mut session = store.begin(deadline());
    let [first, again] =
        [(); 2].map(|()| session.run(|connection| connection.ask_all([set, get])).expect("answers"));
    assert_eq!(first, [Reply::Said("OK".into()), Reply::Bytes(Some(holder.into()))]);
    assert_eq!(again, [Reply::Bytes(None), Reply::Bytes(Some(holder.into()))]);
    session.lease = Some(Lease { key: key.clone(), holder: holder.into(), generation: fork::generation() });
    assert_eq!(session.got(holder, again), Ok(true));
    let other = session.run(|connection| connection.ask_all([set, get])).expect("answers");
    assert_eq!((session.got("another's", other), session.lease.is_none()), (Ok(false), true));
}

#[test]
fn a_lease_that_could_not_be_freed_is_freed_at_the_end() {
    let server = Redis::start();
    let (first, second) = (store(&server), store(&server));
    let mut session = first.begin(deadline());
    assert_eq!(session.try_lease(NAME), Ok(true));
    session.left = Duration::ZERO;
    session.release();
    assert!(second.lease().is_none());
    session.extend(deadline());
    drop(session);
    assert!(second.lease().is_some());
    // Nor does one stay whose answer came too late.
    let mut session = first.begin(deadline());
    server.pause();
    session.left = Duration::from_millis(200);
    assert!(session.try_lease(NAME).is_err());
    server.resume();
    session.extend(deadline());
    drop(session);
    assert!(second.lease().is_some());
}

#[test]
fn a_slow_server_is_left_alone_for_longer_and_longer() {
    let server = Redis::start();
    let store = store(&server);
    for failures in 1..=3 {
        let mut session = store.begin(deadline());
        assert!(session.get(NAME).is_ok());
        session.left = Duration::ZERO;
        assert!(session.get(NAME).is_err());
        drop(session);
        store.state.with(|state| {
            assert_eq!(state.failures, failures);
            state.rest.as_mut().expect("a rest").until = Instant::now();
        });
    }
    // Until all goes well once.
    assert_eq!(store.found(), None);
    assert_eq!(store.state.with(|state| state.failures), 0);
}

#[test]
fn one_of_many_gets_the_lease() {
    let server = Redis::start();
    let stores: Vec<_> = (0..16).map(|_| store(&server)).collect();
    let (start, winners) = (Barrier::new(stores.len()), AtomicUsize::new(0));
    let leases: Vec<_> = thread::scope(|scope| {
        let race = |store| {
            let (start, winners) = (&start, &winners);
            move || {
                start.wait();
                let lease = RedisStore::lease(store);
                winners.fetch_add(lease.is_some().into(), SeqCst);
                lease
            }
        };
        let racers: Vec<_> = stores.iter().map(|store| scope.spawn(race(store))).collect();
        racers.into_iter().map(|racer| racer.join().expect("no panic")).collect()
    });
    assert_eq!(winners.load(SeqCst), 1);
    assert!(stores[0].lease().is_none());
    drop(leases);
    assert!(stores[0].lease().is_some());
}

#[test]
fn a_lease_is_given_back_by_its_holder_only() {
    let server = Redis::start();
    let (first, second, third) = (store(&server), store(&server), store(&server));
    let late = first.lease().expect("the lease");
    server.cli(&["DEL", "pgaad:1:00ff:lease"]); // its time is up
    let current = second.lease().expect("the lease");
    drop(late);
    assert!(third.lease().is_none());
    drop(current);
    assert!(third.lease().is_some());
}

#[test]
fn the_lease_of_a_dead_holder_ends() {
    let server = Redis::start();
    let (holder, waiter) = (store(&server), store(&server));
    let lease = holder.try_lease(NAME, Instant::now() + Duration::from_millis(900)).expect("an answer");
    std::mem::forget(lease.expect("the lease"));
    drop(holder);
    assert!(waiter.lease().is_none());
    let end = deadline();
    waiter.wait(NAME, end).expect("waited");
    assert!(Instant::now() < end);
    assert!(waiter.lease().is_some());
}

#[test]
fn a_lease_leaves_time_for_others() {
    for (left, life) in [(0, 1000), (1000, 1000), (5000, 2500), (30_000, 10_000), (3_600_000, 10_000)] {
        let [left, life] = [left, life].map(Duration::from_millis);
        assert_eq!(lease_life(left), life, "{left:?}");
    }
}

#[test]
fn those_who_wait_hear_when_the_lease_is_given_back_or_the_time_is_up() {
    let server = Redis::start();
    let (holder, waiter) = (store(&server), store(&server));
    let lease = holder.lease();
    waiter.wait(NAME, Instant::now() + Duration::from_millis(300)).expect("waited");
    assert!(waiter.lease().is_none());
    let end = deadline();
    thread::scope(|scope| {
        let looks = || server.commands().get("pttl").copied().unwrap_or_default();
        let before = looks();
        let waiting = scope.spawn(|| waiter.wait(NAME, end));
        wait_until("it has looked", || looks() > before);
        assert!(!waiting.is_finished());
        drop(lease);
        assert_eq!(waiting.join().expect("no panic"), Ok(()));
    });
    assert!(Instant::now() < end && waiter.lease().is_some());
}

#[test]
fn a_lease_that_does_not_end_is_waited_for_by_nobody() {
    let server = Redis::start();
    for more in [&[][..], &["EX", "3600"]] {
        server.cli(&[&["SET", "pgaad:1:00ff:lease", "x"], more].concat());
        let store = store(&server);
        assert!(store.lease().is_none());
        let trouble = store.wait(NAME, deadline()).expect_err("trouble").to_string();
        assert!(trouble.contains("would not end in time"), "{trouble}");
    }
}

#[test]
fn who_is_not_let_in_is_told_without_the_password() {
    let (open_to_all, password, user) =
        (Redis::start(), Redis::start_with(RedisLogin::Password), Redis::start_with(RedisLogin::User));
    let at = |server: &Redis, login: &str| format!("redis://{login}localhost:{}", server.port());
    for (url, why) in [
        (at(&open_to_all, ":hunter2@"), "it has no password, but one is set here"),
        (at(&open_to_all, "ann:hunter2@"), "it refused the user or password"),
        (at(&open_to_all, "") + "/16", "it refused database 16"),
        (at(&password, ""), "NOAUTH"),
        (at(&password, ":hunter2@"), "it refused the user or password"),
        (at(&user, ":hunter2@"), "it refused the user or password"),
        (at(&user, "pga%40d:hunter2@"), "it refused the user or password"),
    ] {
        let trouble = open(&url, None).trouble();
        assert!(trouble.contains(why) && trouble.starts_with("Redis at localhost:"), "{url}: {trouble}");
        assert!(!trouble.contains("hunter2"), "{trouble}");
    }
    // Servers whose AUTH has another name quote what follows it.
    let quotes =
        Stranger::that_answers(b"-ERR unknown command 'AUTH', with args beginning with: 'hunter2'\r\n");
    let trouble = open(&quotes.url(":hunter2@"), None).trouble();
    assert!(trouble.ends_with("it refused the login") && !trouble.contains("hunter2"), "{trouble}");
    // What it may not do.
    let store = store(&user);
    user.cli(&["ACL", "SETUSER", "pga@d", "-set", "-multi"]);
    assert_eq!(store.found(), None);
    let trouble = store.put(NAME, ENTRY, LIFE, deadline()).expect_err("trouble").to_string();
    assert!(trouble.contains("NOPERM") && !rests(&store), "{trouble}");
}

#[test]
fn tls_is_verified_by_the_roots_of_its_own_setting() {
    let server = Redis::start();
    let at = |host: &str, port| format!("rediss://{host}:{port}");
    let (tls_url, ours) = (server.tls_url(), Some(server.ca_file()));
    let untrusted = "its certificate ends in no root that is trusted here";
    for (url, ca_file, why) in [
        (tls_url.clone(), None, untrusted),
        (tls_url.clone(), Some(server.stranger_ca_file()), untrusted),
        (at("127.0.0.2", server.tls_port()), ours, "its certificate is not valid"),
        (at("localhost", server.port()), ours, "TLS"),
        (format!("redis://localhost:{}", server.tls_port()), None, "cannot be reached"),
    ] {
        let store = open(&url, ca_file);
        let trouble = store.trouble();
        assert!(trouble.contains(why) && rests(&store), "{url}: {trouble}");
    }
    assert_eq!(server.commands().get("getrange"), None);
    assert_eq!(open(&at("127.0.0.1", server.tls_port()), ours).found(), None);
    // The bundle of the system, where one is named.
    let url = Url::parse(&tls_url).expect("a URL");
    assert_eq!(RedisStore::new(url, None, ours).expect("a store").found(), None);
}

#[test]
fn roots_that_cannot_be_read_are_the_settings_fault() {
    let dir = tempfile::tempdir().expect("a directory");
    let [none, empty, broken] = ["none.pem", "empty.pem", "broken.pem"].map(|name| dir.path().join(name));
    std::fs::write(&empty, "no certificate").expect("written");
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&broken, pem).expect("written");
    for path in [none, empty, broken] {
        let url = Url::parse("rediss://localhost").expect("a URL");
        let error = RedisStore::new(url, Some(&path), None).err().expect("an error");
        assert_eq!(error.kind(), ErrorKind::Config);
        let begin = format!("cache_ca_file (PGAAD_CACHE_CA_FILE) names {}", path.display());
        assert!(error.message().starts_with(&begin), "{error}");
    }
    for host in ["a..b", "-a-"] {
        let url = Url::parse(&format!("rediss://{host}")).expect("a URL");
        let error = RedisStore::new(url, None, None).err().map(|error| error.kind());
        assert_eq!(error, Some(ErrorKind::Config), "{host}");
    }
}

/// Listens and is no Redis.
struct Stranger {
    address: std::net::SocketAddr,
    connections: std::sync::Arc<AtomicUsize>,
}

impl Stranger {
    /// Says this to everybody who asks something, and closes the connection. Ends with the test process.
    fn that_answers(answer: &'static [u8]) -> Self {
        Self::that(move |mut socket| {
            if socket.read(&mut [0; 1024]).is_ok() {
                let _ = socket.write_all(answer);
            }
        })
    }

    fn that(serve: impl Fn(std::net::TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = std::sync::Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                counter.fetch_add(1, SeqCst);
                serve(socket);
            }
        });
        Self { address, connections }
    }

    fn url(&self, login: &str) -> String {
        format!("redis://{login}{}", self.address)
    }
}

#[test]
fn what_is_no_redis_is_left_alone() {
    let no_redis = "what answers there is no Redis";
    let long: &'static [u8] = Vec::leak([b"$1048576\r\n".to_vec(), vec![b'x'; 1_100_000]].concat());
    for (answer, why) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], no_redis),
        (b"SSH-2.0-OpenSSH_9.2\r\n", no_redis),
        (b"\0\xff\r\n", no_redis),
        (b"", "it closed the connection"),
        (b"$5\r\nab", "it closed the connection"),
        (b"$0\r\n\r\n+OK\r\n", "it answered what nobody asked"),
        (long, "it answered with more than"),
    ] {
        let stranger = Stranger::that_answers(answer);
        let store = open(&stranger.url(""), None);
        let (first, second) = (store.trouble(), store.trouble());
        assert!(first.contains(why), "{first}");
        assert!(second.starts_with(&first) && second.contains("it is left alone for"), "{second}");
        assert_eq!(stranger.connections.load(SeqCst), 1, "{first}");
    }
    // In Redis's words, but not what was asked for: that costs nothing.
    for (answer, why) in [
        (&b":1\r\n"[..], "gave an answer to something else"),
        (b"*-1\r\n", "gave an answer to something else"),
        (b"-MOVED 3999 127.0.0.1:6381\r\n", "is one node of a cluster"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "refused: LOADING"),
    ] {
        let store = open(&Stranger::that_answers(answer).url(""), None);
        let trouble = store.trouble();
        assert!(trouble.contains(why) && !rests(&store), "{trouble}");
    }
    // Nobody at all.
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    for url in [format!("redis://{free}"), "unix:///nonexistent/redis".into()] {
        let trouble = open(&url, None).trouble();
        assert!(trouble.contains("cannot be reached"), "{trouble}");
    }
}

#[test]
fn a_server_that_hangs_costs_little_and_then_nothing() {
    let server = Redis::start();
    for url in [server.url(), server.tls_url(), server.unix_url()] {
        let [fresh, kept] = [(); 2].map(|()| open(&url, Some(server.ca_file())));
        let (mut without, mut with) = (fresh.begin(deadline()), kept.begin(deadline()));
        assert_eq!(with.get(NAME), Ok(None));
        let before = server.connections();
        server.pause();
        for (store, session, had_connection) in [(&fresh, &mut without, false), (&kept, &mut with, true)] {
            let begun = Instant::now();
            let trouble = session.get(NAME).expect_err("trouble").to_string();
            // A second, on a machine that is not busy.
            assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
            let doing = if url.starts_with("rediss") && !had_connection {
                "agreeing on TLS"
            } else {
                "waiting for its answer"
            };
            assert!(trouble.contains(&format!("did not answer in time, while {doing}")), "{trouble}");
            // Put off the next try, so that what follows does not depend on the machine's speed.
            store.state.with(|state| {
                let rest = state.rest.as_mut().expect("a rest");
                assert!(rest.until <= Instant::now() + FIRST_REST);
                rest.until += PATIENCE;
            });
            let again = store.put(NAME, ENTRY, LIFE, deadline()).expect_err("trouble").to_string();
            assert!(again.contains("it is left alone for"), "{again}");
            assert!(store.try_lease(NAME, deadline()).is_err() && store.wait(NAME, deadline()).is_err());
        }
        server.resume();
        // Nobody knocked again.
        assert!(server.connections() <= before + 1, "{} {before}", server.connections());
        for store in [&fresh, &kept] {
            store.state.with(|state| state.rest.as_mut().expect("a rest").until = Instant::now());
            wait_for_use(store);
            assert!(!rests(store));
        }
    }
}

#[test]
fn who_has_no_time_does_not_say_that_redis_is_slow() {
    let server = Redis::start();
    let store = store(&server);
    server.pause();
    for left in [Duration::ZERO, Duration::from_millis(30)] {
        assert!(store.get(NAME, Instant::now() + left).is_err());
        assert!(!rests(&store), "{left:?}");
    }
    server.resume();
    assert_eq!(store.found(), None);
}

#[test]
fn a_server_that_was_killed_is_used_again_when_it_is_back() {
    let server = Redis::start();
    for url in [server.url(), server.tls_url(), server.unix_url()] {
        let [kept, killed] = [(); 2].map(|()| open(&url, Some(server.ca_file())));
        let mut session = kept.begin(deadline());
        assert_eq!(session.get(NAME), Ok(None));
        let lease = killed.lease();
        server.crash();
        let trouble = killed.trouble();
        assert!(trouble.contains("cannot be reached"), "{trouble}");
        drop(lease);
        server.restart();
        wait_for_use(&killed);
        // Nobody notices that the connection had ended.
        session.put(NAME, ENTRY, LIFE).expect("put");
        assert_eq!(killed.found().as_deref(), Some(ENTRY));
        killed.remove();
    }
}

#[test]
fn a_full_server_still_gives_what_it_has() {
    let server = Redis::start();
    let store = store(&server);
    store.store();
    server.fill();
    for trouble in [
        store.put(NAME, b"new", LIFE, deadline()).expect_err("full"),
        store.try_lease(NAME, deadline()).map(|_| ()).expect_err("full"),
    ] {
        let trouble = trouble.to_string();
        assert!(trouble.contains("OOM"), "{trouble}");
    }
    assert_eq!(store.found().as_deref(), Some(ENTRY));
    server.make_room();
    store.put(NAME, b"new", LIFE, deadline()).expect("put");
    assert_eq!(store.found().as_deref(), Some(&b"new"[..]));
}

#[test]
fn what_others_put_there_is_replaced() {
    let server = Redis::start();
    let store = store(&server);
    server.cli(&["SETRANGE", "pgaad:1:00ff", "3000000", "x"]);
    assert!(store.found().expect("something").len() <= 65536);
    store.store();
    assert_eq!(store.found().as_deref(), Some(ENTRY));
    server.cli(&["DEL", "pgaad:1:00ff"]);
    server.cli(&["LPUSH", "pgaad:1:00ff", "x"]);
    assert_eq!(store.found(), None);
    store.store();
    assert_eq!(store.found().as_deref(), Some(ENTRY));
}

#[test]
fn an_entry_ends_with_its_life() {
    let server = Redis::start();
    let store = store(&server);
    store.put(NAME, ENTRY, Duration::ZERO, deadline()).expect("put");
    wait_until("it ended", || store.found().is_none());
    assert!(server.keys().is_empty());
}

#[test]
fn rests_grow_and_failures_together_are_one() {
    let seconds: Vec<_> = (0..9).map(|failures| rest_after(failures).as_secs()).collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(rest_after(u32::MAX), LONGEST_REST);
    let mut state = State::default();
    (0..5).for_each(|_| state.fail("x"));
    assert_eq!(state.failures, 1);
    state.rest.as_mut().expect("a rest").until = Instant::now();
    (0..5).for_each(|_| state.fail("x"));
    assert_eq!(state.failures, 2);
}

#[test]
fn threads_share_a_store() {
    let server = Redis::start();
    let store = store(&server);
    thread::scope(|scope| {
        for number in 0..8_u8 {
            let store = &store;
            scope.spawn(move || {
                let name = format!("{number:02x}");
                for turn in 0..50_u8 {
                    let entry = [number, turn];
                    store.put(&name, &entry, LIFE, deadline()).expect("put");
                    assert_eq!(store.get(&name, deadline()), Ok(Some(entry.to_vec())));
                }
            });
        }
    });
    assert!(!rests(&store));
}

/// Runs twice: as the test, and as the program that the test starts, with the server's URL.
#[test]
fn a_forked_child_leaves_its_parents_connection_and_lease_alone() {
    const URL: &str = "PGAAD_TEST_REDIS_URL";
    let name = "shared::redis::tests::a_forked_child_leaves_its_parents_connection_and_lease_alone";
    let Some(url) = std::env::var_os(URL) else {
        let server = Redis::start();
        for (url, ca_file) in [(server.url(), None), (server.tls_url(), Some(server.ca_file()))] {
            let before = server.connections();
            let done = Program::new(std::env::current_exe().expect("this program"))
                .args(["--exact", name, "--nocapture"])
                .env(URL, &url)
                .envs(ca_file.map(|path| ("PGAAD_TEST_REDIS_CA", path)))
                .output()
                .expect("it runs");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            // The parent's two, and the child's two.
            assert_eq!(server.connections() - before, 4, "{url}");
            wait_until("all are gone", || server.clients() == 0);
            server.cli(&["FLUSHALL"]);
        }
        return;
    };
    let ca_file = std::env::var_os("PGAAD_TEST_REDIS_CA").map(PathBuf::from);
    let store = open(url.to_str().expect("a URL"), ca_file.as_deref());
    let mut session = store.begin(deadline());
    assert_eq!((session.get(NAME), session.try_lease(NAME)), (Ok(None), Ok(true)));
    if fork::fork() {
        assert_eq!(session.get(NAME), Ok(None));
        drop(session);
        store.store();
        return;
    }
    wait_until("the child has put it there", || session.get(NAME) == Ok(Some(ENTRY.to_vec())));
    assert!(!store.begin(deadline()).try_lease(NAME).expect("an answer"));
}
