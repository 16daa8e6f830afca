//! Forward proxies: which one, for which hosts, and that its password stays where it is.

use std::path::Path;

use emulator::{Certificate, Emulator, PATIENCE, Proxy};
use tempfile::TempDir;

use crate::harness::{ClosedPort, Driver, each, shim, signed_in};

const GET: &[&str] = &["get_token"];

/// An emulator that is known by a name, a proxy that leads there, and a record of the names that we look up.
struct Ground {
    emulator: Emulator,
    proxy: Proxy,
    dir: TempDir,
}

impl Ground {
    fn start() -> Self {
        Self::with(Emulator::start())
    }

    fn with(emulator: Emulator) -> Self {
        Self { proxy: leading_to(&emulator), emulator, dir: tempfile::tempdir().expect("a folder") }
    }

    /// Signs in at `login.pgaad.test`. Without a proxy that is this machine, as the shim says.
    fn driver(&self) -> Driver {
        let authority = format!("https://login.pgaad.test:{}", self.emulator.entra().port());
        let driver = signed_in(&self.emulator).env("PGAAD_AUTHORITY_HOST", authority);
        driver.env("LD_PRELOAD", shim("slow_resolver")).env("RESOLVER_LOG", self.dir.path().join("log"))
    }

    fn names_looked_up(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        log.lines().filter_map(|line| line.strip_prefix("enter ")).map(str::to_string).collect()
    }
}

fn leading_to(emulator: &Emulator) -> Proxy {
    let proxy = Proxy::start();
    proxy.map_to(emulator);
    proxy
}

#[test]
fn the_service_is_reached_through_the_proxy_and_its_name_is_the_proxys_to_look_up() {
    let ground = Ground::start();
    let line = ground.driver().env("PGAAD_PROXY", ground.proxy.url()).one(GET);
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    let connects = ground.proxy.connects();
    assert_eq!(connects.len(), 1);
    assert_eq!(connects[0].http.method, "CONNECT");
    assert_eq!(connects[0].target(), format!("login.pgaad.test:{}", ground.emulator.entra().port()));
    assert!(connects[0].http.header("authorization").is_none());
    let counters = ground.emulator.entra().counters();
    assert_eq!((counters.connections, counters.requests), (1, 1));
    let seen = ground.emulator.entra().requests().remove(0);
    assert!(!seen.http.headers.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with("proxy-")));
    assert_eq!(ground.names_looked_up(), [""; 0], "the service's name was looked up here");
}

#[test]
fn the_proxy_is_the_first_that_is_set() {
    let ground = Ground::start();
    let names = ["PGAAD_PROXY", "HTTPS_PROXY", "https_proxy"];
    let proxies: Vec<Proxy> = names.iter().map(|_| leading_to(&ground.emulator)).collect();
    let set = |driver: Driver, from: usize| {
        (from..names.len()).fold(driver, |driver, n| driver.env(names[n], proxies[n].url()))
    };
    // The settings string comes before all variables.
    let settings = format!("proxy={}", ground.proxy.url());
    let driver = set(ground.driver(), 0);
    let line = driver.run(&[&["new", &settings], &["client_get_token", "-1"]]).pop().expect("a line");
    assert_eq!((line.status(), ground.proxy.connects().len()), ("PGAAD_OK", 1), "{line:?}");
    for (n, name) in names.iter().enumerate() {
        let line = set(ground.driver(), n).one(GET);
        assert_eq!(line.status(), "PGAAD_OK", "{name}: {line:?}");
        let used: Vec<_> = proxies.iter().map(|proxy| proxy.connects().len()).collect();
        assert_eq!(used.iter().sum::<usize>(), n + 1, "{name}: {used:?}");
        assert_eq!(used[n], 1, "{name}: {used:?}");
    }
    // Other names do not count, and an empty variable is unset.
    let driver = ground.driver().env("HTTP_PROXY", ground.proxy.url()).env("ALL_PROXY", ground.proxy.url());
    let line = driver.env("HTTPS_PROXY", "").env("https_proxy", "").one(GET);
    assert_eq!((line.status(), ground.proxy.connects().len()), ("PGAAD_OK", 1), "{line:?}");
}

#[test]
fn no_proxy_names_hosts_that_are_reached_without() {
    let ground = Ground::start();
    let driver = ground.driver().env("HTTPS_PROXY", ground.proxy.url());
    let direct = |variables: &[(&str, &str)]| {
        let before = ground.proxy.connects().len();
        let driver = variables.iter().fold(driver.clone(), |driver, (name, value)| driver.env(*name, value));
        let line = driver.one(GET);
        assert_eq!(line.status(), "PGAAD_OK", "{variables:?}: {line:?}");
        ground.proxy.connects().len() == before
    };
    for list in ["login.pgaad.test", "LOGIN.PGAAD.TEST", "pgaad.test", ".pgaad.test", "*.pgaad.test", "*"] {
        assert!(direct(&[("NO_PROXY", list)]), "{list}");
        assert!(direct(&[("no_proxy", list)]), "{list}");
        assert!(direct(&[("PGAAD_NO_PROXY", &format!("example.com, {list}"))]), "{list}");
    }
    for list in ["", "example.com", "in.pgaad.test", "gin.pgaad.test", "test.login.pgaad"] {
        assert!(!direct(&[("NO_PROXY", list)]), "{list}");
    }
    // The first that is set.
    assert!(direct(&[("PGAAD_NO_PROXY", "pgaad.test"), ("NO_PROXY", "x"), ("no_proxy", "y")]));
    assert!(!direct(&[("PGAAD_NO_PROXY", "x"), ("NO_PROXY", "pgaad.test")]));
    assert!(!direct(&[("NO_PROXY", "x"), ("no_proxy", "pgaad.test")]));
    // The other side of the first test: without the proxy, the name is looked up here.
    assert!(ground.names_looked_up().contains(&"login.pgaad.test".to_string()));
}

#[test]
fn this_machine_is_never_reached_through_a_proxy() {
    let ground = Ground::start();
    let port = ground.emulator.entra().port();
    let driver =
        ground.driver().env("PGAAD_PROXY", ground.proxy.url()).env("HTTPS_PROXY", ground.proxy.url());
    for host in ["localhost", "LocalHost", "127.0.0.1"] {
        let line = driver.clone().env("PGAAD_AUTHORITY_HOST", format!("https://{host}:{port}")).one(GET);
        assert_eq!(line.status(), "PGAAD_OK", "{host}: {line:?}");
    }
    // Nobody answers there, but the proxy would have been asked.
    for host in ["[::1]", "127.0.0.2", "[::ffff:127.0.0.1]", "localhost."] {
        let driver = driver.clone().env("PGAAD_TIMEOUT_MS", "300");
        let line = driver.env("PGAAD_AUTHORITY_HOST", format!("https://{host}:{port}")).one(GET);
        assert_ne!(line.status(), "PGAAD_CONFIG", "{host}: {line:?}");
    }
    assert!(ground.proxy.connects().is_empty());
}

#[test]
fn the_proxys_password_goes_to_the_proxy_alone() {
    let ground = Ground::start();
    ground.proxy.require_auth("user", "hunter2 %:é");
    let with = |user: &str| ground.proxy.url().replace("://", &format!("://{user}@"));
    let driver = ground.driver().env("PGAAD_LOG", "debug");
    let run = |url: &str| driver.clone().env("HTTPS_PROXY", url).output(&[GET]);
    let output = run(&with("user:hunter2%20%25%3A%C3%A9"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("get_token status=PGAAD_OK"), "{said}");
    let seen = ground.emulator.entra().requests().remove(0);
    assert!(!format!("{seen:?}").contains("hunter2"));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains("token_fetched") && !log.contains("hunter2"), "{log}");

    each(&[with("user:hunter2wrong"), with("user"), with(":hunter2"), ground.proxy.url()], |url| {
        let output = run(url);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.starts_with("get_token status=PGAAD_NETWORK"), "{said}");
        assert!(said.contains("407") && said.contains("proxy") && said.contains("HTTPS_PROXY"), "{said}");
        let all = said + &String::from_utf8_lossy(&output.stderr);
        assert!(!all.contains("hunter2"), "{all}");
        // Nor as the header has it: user:hunter2...
        assert!(!all.contains("dXNlcjpodW50ZXIy"), "{all}");
    });
    assert_eq!(ground.proxy.connects().len(), 1 + 4, "a wrong password is not repeated");
    assert_eq!(ground.emulator.entra().counters().requests, 1);
}

#[test]
fn a_proxy_that_does_not_help_is_named() {
    let ground = Ground::start();
    each(&[Some(403), Some(502), Some(503), None], |status| {
        let proxy = leading_to(&ground.emulator);
        proxy.refuse(*status);
        proxy.hang(status.is_none());
        let driver = ground.driver().env("PGAAD_PROXY", proxy.url());
        let (line, wanted) = match status {
            Some(_) => (driver.one(GET), "PGAAD_NETWORK"),
            None => (driver.env("PGAAD_TIMEOUT_MS", "500").one(GET), "PGAAD_TIMEOUT"),
        };
        assert_eq!(line.status(), wanted, "{line:?}");
        let number = status.map(|status| status.to_string()).unwrap_or_default();
        let words = ["PGAAD_PROXY", "login.pgaad.test", &number];
        assert!(words.iter().all(|word| line.errmsg().contains(word)), "{line:?}");
        // What the proxy forbids, it forbids again; what fails may pass.
        let again = status.is_some_and(|status| status >= 500);
        assert_eq!(proxy.connects().len() > 1, again, "{status:?}");
    });
    let closed = ClosedPort::new();
    let line =
        ground.driver().env("https_proxy", format!("http://user:hunter2@{}", closed.address())).one(GET);
    assert_eq!(line.status(), "PGAAD_NETWORK", "{line:?}");
    assert!(line.errmsg().contains("https_proxy") && !line.errmsg().contains("hunter2"), "{line:?}");
    // Never quietly without it.
    assert_eq!(ground.emulator.entra().counters().connections, 0);
}

#[test]
fn a_proxy_may_have_a_name() {
    let ground = Ground::start();
    let url = format!("proxy.pgaad.test:{}", ground.proxy.port());
    let line = ground.driver().env("HTTPS_PROXY", url).one(GET);
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    assert_eq!(ground.names_looked_up(), ["proxy.pgaad.test"]);
    assert_eq!(ground.proxy.connects().len(), 1);
}

#[test]
fn a_proxy_whose_name_is_never_answered_ends_at_the_deadline() {
    let ground = Ground::start();
    let driver = ground.driver().env("HTTPS_PROXY", "http://proxy.pgaad.test:3128");
    let line = driver.env("RESOLVER_HOLD", "proxy.pgaad.test").env("PGAAD_TIMEOUT_MS", "500").one(GET);
    assert_eq!(line.status(), "PGAAD_TIMEOUT", "{line:?}");
    assert!(line.errmsg().contains("HTTPS_PROXY"), "{line:?}");
}

#[test]
fn a_malformed_proxy_is_a_bad_setting() {
    let ground = Ground::start();
    for url in [
        "gopher://u:hunter2@proxy",
        "socks5://u:hunter2@proxy:1080",
        "http://",
        "http://u:hunter2@",
        "http://u:hunter2@proxy:port",
        "http://u:hunter2@proxy:99999",
        "http://u:hunter2 @proxy",
        "://u:hunter2@proxy",
    ] {
        for name in ["PGAAD_PROXY", "HTTPS_PROXY", "https_proxy"] {
            let line = ground.driver().env(name, url).one(GET);
            assert_eq!(line.status(), "PGAAD_CONFIG", "{name}={url}: {line:?}");
            assert!(line.errmsg().contains(name) && !line.errmsg().contains("hunter2"), "{url}: {line:?}");
        }
    }
    assert_eq!(ground.names_looked_up(), [""; 0]);
    assert_eq!(ground.emulator.entra().counters().connections, 0);
}

#[test]
fn the_services_certificate_is_checked_through_the_proxy_too() {
    for certificate in [Certificate::Stranger, Certificate::WrongName, Certificate::Expired] {
        let ground = Ground::with(Emulator::start_with(certificate));
        let line = ground.driver().env("HTTPS_PROXY", ground.proxy.url()).one(GET);
        assert_eq!(line.status(), "PGAAD_NETWORK", "{certificate:?}: {line:?}");
        assert!(line.errmsg().contains("certificate"), "{certificate:?}: {line:?}");
        let entra = ground.emulator.entra();
        assert!(entra.wait_until(|c| c.failed_handshakes > 0, PATIENCE), "{certificate:?}");
        assert_eq!((entra.counters().requests, ground.proxy.connects().len()), (0, 1), "{certificate:?}");
    }
}

#[test]
fn the_shim_answers_no_stranger() {
    // What the other tests stand on: a name that is not ours is not asked of any name server.
    let ground = Ground::start();
    let authority = format!("https://login.example:{}", ground.emulator.entra().port());
    let line = ground.driver().env("PGAAD_AUTHORITY_HOST", authority).one(GET);
    assert_eq!(line.status(), "PGAAD_NETWORK", "{line:?}");
    assert!(ground.names_looked_up().iter().all(|name| name == "login.example"));
    assert!(Path::new(&ground.dir.path().join("log")).exists());
}
