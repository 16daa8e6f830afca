//! Connect functions: who signs in, what a failure looks like, and that nothing else changes.

use std::thread;

use emulator::{APP_ONE, APP_QUOTED, APP_TWO, Emulator, Fault, Gate, LAPTOP_PASSWORD, LAPTOP_ROLE, Postgres};

use crate::harness::{Driver, Listener, Session, conninfo, ground, program, shim, signed_in};

const WHO: &str = "select current_user || ' ' || ssl::text from pg_stat_ssl where pid = pg_backend_pid()";

/// The four functions that connect, each with the arguments for the same conninfo.
fn four(conninfo: &str) -> [Vec<&str>; 4] {
    [
        vec!["connect", conninfo],
        vec!["params", "1", "dbname", conninfo],
        vec!["client_connect", conninfo],
        vec!["client_params", "1", "dbname", conninfo],
    ]
}

fn who(session: &mut Session) -> String {
    session.one(&["query", WHO]).get("value").to_string()
}

#[test]
fn each_function_signs_in_over_verified_tls_with_the_very_token() {
    let ground = ground();
    let mut session = ground.driver(&APP_ONE).session();
    let token = session.one(&["get_token"]).get("token").to_string();
    session.ask(&["default"]);
    for (done, command) in four("application_name=here").into_iter().enumerate() {
        let line = session.one(&command);
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "OK"), "{line:?}");
        assert_eq!(who(&mut session), "app-one true");
        let sslmode = session.one(&["conninfo"]).options()["sslmode"].clone();
        assert_eq!(sslmode, "verify-full", "{command:?}");
        assert_eq!(ground.uses_of(&token), vec![("app-one".to_string(), true); done + 1]);
    }
}

#[test]
fn a_server_of_azures_is_one_by_its_name() {
    let ground = ground();
    let mut session = ground.driver(&APP_ONE).without("PGHOST").session();
    for host in ["pgaad-test.postgres.database.azure.com", "Other.Postgres.Database.Azure.Com"] {
        let line = session.one(&["connect", &conninfo(&[("host", host), ("hostaddr", "127.0.0.1")])]);
        assert_eq!(line.get("conn"), "OK", "{line:?}");
        assert_eq!(who(&mut session), "app-one true");
    }
}

#[test]
fn two_identities_connect_in_one_process() {
    let ground = ground();
    let emulator = &ground.emulator;
    let mut session = ground.driver(&APP_ONE).session();
    let secret = emulator.entra().secret(&APP_TWO);
    let settings = conninfo(&[
        ("tenant_id", APP_TWO.tenant.id),
        ("client_id", APP_TWO.client_id),
        ("client_secret", &secret),
    ]);
    assert_eq!(session.one(&["new", &settings]).status(), "PGAAD_OK");
    for (command, role) in [
        ("connect", "app-one"),
        ("client_connect", "app-two"),
        ("connect", "app-one"),
        ("client_connect", "app-two"),
    ] {
        let line = session.one(&[command, &format!("user={role}")]);
        assert_eq!(line.get("conn"), "OK", "{line:?}");
        assert_eq!(who(&mut session), format!("{role} true"));
    }
}

#[test]
fn names_and_secrets_of_any_bytes_reach_both_services_unharmed() {
    let ground = ground();
    let mut session = ground.driver(&APP_QUOTED).session();
    session.ask(&["default"]);
    let by_name = conninfo(&[("user", APP_QUOTED.role)]);
    for command in four(&by_name).iter().chain([&vec!["connect", ""]]) {
        let line = session.one(command);
        assert_eq!(line.get("conn"), "OK", "{line:?}");
        let role = session.one(&["query", "select current_user"]);
        assert_eq!(role.get("value"), APP_QUOTED.role);
    }
}

#[test]
fn arrays_mean_what_they_mean_to_libpq() {
    let ground = ground();
    let mut session = ground.driver(&APP_ONE).without("PGHOST").without("PGUSER").session();
    session.ask(&["default"]);
    let here = "host=localhost user=app-one";
    for arguments in [
        // The later value counts; an empty one and NULL do not.
        &["0", "host", "nobody.example", "user", "app-two", "user", "app-one", "host", "localhost"][..],
        &["0", "host", "localhost", "user", "app-one", "user", "", "host", "@NULL", "hostaddr", ""],
        // Not even the keyword of such an entry counts.
        &["0", "host", "localhost", "nonsense", "@NULL", "nonsense", "", "user", "app-one"],
        // An expanded dbname beats what stands before, and yields to what follows.
        &["1", "host", "nobody.example", "user", "app-two", "dbname", here],
        &[
            "1",
            "dbname",
            "host=nobody.example user=app-two dbname=postgres",
            "user",
            "app-one",
            "host",
            "localhost",
        ],
        &["1", "dbname", "postgresql://app-one@localhost/postgres"],
        &["1", "dbname", "@NULL", "dbname", here],
        // So does an empty value inside it.
        &["1", "hostaddr", "127.0.0.9", "dbname", "host=localhost user=app-one hostaddr=''"],
    ] {
        for function in ["params", "client_params"] {
            let line = session.one(&[&[function], arguments].concat());
            assert_eq!(line.get("conn"), "OK", "{arguments:?}: {line:?}");
            assert_eq!(who(&mut session), "app-one true");
        }
    }
    // Not expanded, a conninfo is the name of a database; so is one behind an empty dbname.
    let named = "user=somebody sslmode=disable";
    for arguments in [
        &["0", "host", "localhost", "user", "app-one", "dbname", named][..],
        &["1", "dbname", "", "host", "localhost", "user", "app-one", "dbname", named],
    ] {
        let line = session.one(&[&["params"], arguments].concat());
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "BAD"));
        assert!(line.errmsg().contains(&format!("database \"{named}\" does not exist")), "{line:?}");
    }
}

#[test]
fn a_failure_of_ours_is_a_bad_connection_with_our_message() {
    let emulator = Emulator::start();
    let good = signed_in(&emulator);
    let wrong_secret = good.clone().env("PGAAD_CLIENT_SECRET", "wrong");
    let hanging = Emulator::start();
    hanging.entra().faults().always(Fault::hang());
    let late = signed_in(&hanging).env("PGAAD_TIMEOUT_MS", "200");
    let mistyped = good.clone().env("PGAAD_CLOUD", "mars");
    for (driver, conninfo, status, part) in [
        (&wrong_secret, "host=localhost user=a", "PGAAD_DENIED", "AADSTS7000215"),
        (&late, "host=localhost user=a", "PGAAD_TIMEOUT", &hanging.authority()),
        (&good, "host=stranger.example user=a", "PGAAD_INSECURE", "stranger.example"),
        (&good, "host=localhost", "PGAAD_CONFIG", "PGUSER"),
        (&good, "host=localhost user=a gssencmode=require", "PGAAD_CONFIG", "gssencmode"),
        (&mistyped, "host=localhost user=a", "PGAAD_CONFIG", "PGAAD_CLOUD"),
    ] {
        let mut session = driver.session();
        session.ask(&["default"]);
        for command in four(conninfo) {
            let line = session.one(&command);
            if line.command().starts_with("client") && part == "PGAAD_CLOUD" {
                continue; // there is no client
            }
            assert_eq!((line.status(), line.get("conn")), (status, "BAD"), "{line:?}");
            assert!(line.errmsg().starts_with("pgaad: ") && line.errmsg().contains(part), "{line:?}");
            let message = session.one(&["message"]).options()["encoded"].clone();
            assert_eq!(message, format!("{}\n", line.errmsg()), "one line, one line break");
            // Whatever a program asks of such a connection is answered as for any BAD one.
            let after = session.one(&["query", "select 1"]);
            assert!(after.get("error").contains("no connection to the server"), "{after:?}");
            session.ask(&["where"]);
            session.ask(&["finish"]);
        }
    }
    assert_eq!(emulator.entra().counters().tokens, 0);
}

#[test]
fn a_failed_connection_holds_no_descriptor_and_finish_frees_all_of_it() {
    let emulator = Emulator::start();
    let mut session = signed_in(&emulator).session();
    let connect = ["connect", "host=stranger.example user=a"];
    let descriptors = |session: &Session| {
        std::fs::read_dir(format!("/proc/{}/fd", session.running().id())).expect("its descriptors").count()
    };
    session.ask(&["libpq"]);
    let before = descriptors(&session);
    assert_eq!(session.one(&connect).status(), "PGAAD_INSECURE");
    assert_eq!(descriptors(&session), before);

    let valgrind = [
        "valgrind",
        "--quiet",
        "--leak-check=full",
        "--errors-for-leak-kinds=definite",
        "--undef-value-errors=no",
        "--error-exitcode=99",
    ];
    let lines = signed_in(&emulator).under(&valgrind).run(&[&connect, &connect, &["finish"]]);
    assert_eq!(lines.len(), 2);
    assert_eq!(emulator.entra().counters().connections, 0);
}

#[test]
fn the_status_is_ok_for_failures_of_libpq_and_of_the_server() {
    let ground = ground();
    let mut session = ground.driver(&APP_ONE).session();
    for (conninfo, part) in [
        ("bogus=1", "invalid connection option"),
        ("port=1", "Connection refused"),
        ("dbname=nothing-of-that-name", "does not exist"),
        ("sslrootcert=/nonexistent", "does not exist"),
    ] {
        let line = session.one(&["connect", conninfo]);
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "BAD"), "{line:?}");
        assert!(line.errmsg().contains(part) && !line.errmsg().contains("pgaad: "), "{line:?}");
    }
    // Of this minute's second attempts, the database of no such name had the one.
    let token = session.one(&["get_token"]).get("token").to_string();
    let before = ground.uses_of(&token).len();
    let line = session.one(&["connect", "user=app-two"]);
    assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "BAD"), "{line:?}");
    assert!(line.errmsg().contains("FATAL") && line.errmsg().contains("\"app-two\""), "{line:?}");
    assert_eq!(ground.uses_of(&token)[before..], [("app-two".to_string(), false)]);
}

#[test]
fn the_status_of_connections_of_others_is_ok() {
    let ground = ground();
    let mut session = ground.driver(&APP_ONE).session();
    let laptop = conninfo(&[("user", LAPTOP_ROLE), ("password", LAPTOP_PASSWORD)]);
    for before_ours in [true, false] {
        for (conninfo, conn) in [(laptop.as_str(), "OK"), ("host=/nonexistent", "BAD"), ("bogus=1", "BAD")] {
            let line = session.one(&["pq", conninfo]);
            assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", conn), "{line:?}");
        }
        if before_ours {
            assert_eq!(session.one(&["connect", "host=stranger.example"]).status(), "PGAAD_INSECURE");
        }
    }

    let foreign = program("status_of_foreign", &["-lpq"]);
    let output = std::process::Command::new(foreign).env_clear().output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let reused: usize = text.trim().strip_prefix("same address: ").expect(&text).parse().expect(&text);
    assert!(reused > 0, "no address was used twice, so nothing was shown");
}

#[test]
fn null_means_the_environment_alone() {
    let ground = ground();
    let mut session = ground.driver(&APP_ONE).session();
    session.ask(&["default"]);
    for command in [
        &["connect", "@NULL"][..],
        &["client_connect", "@NULL"],
        &["connect", ""],
        &["connect", "   "],
        &["params", "0"],
        &["params", "1", "dbname", "@NULL"],
        &["client_params", "1"],
    ] {
        let line = session.one(command);
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "OK"), "{command:?}: {line:?}");
        assert_eq!(who(&mut session), "app-one true");
    }
}

#[test]
fn null_where_something_is_needed_is_a_bad_connection() {
    let mut session = Driver::new().session();
    let mut lines = session.ask(&["null_arrays"]);
    lines.extend(session.ask(&["client_null_arrays"])); // there is no client yet: NULL
    lines.extend(session.ask(&["client_connect", "host=localhost"]));
    lines.extend(session.ask(&["client_params", "0", "host", "localhost"]));
    session.ask(&["default"]);
    lines.extend(session.ask(&["client_null_arrays"]));
    assert_eq!(lines.len(), 8);
    for line in lines {
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_INVALID_ARGUMENT", "BAD"), "{line:?}");
        assert!(line.errmsg().starts_with("pgaad: ") && line.errmsg().contains("NULL"), "{line:?}");
    }
}

#[test]
fn without_a_token_no_host_is_looked_up_or_called() {
    let emulator = Emulator::start();
    let database = Listener::start();
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("look-ups");
    let driver = signed_in(&emulator)
        .env("LD_PRELOAD", shim("slow_resolver"))
        .env("RESOLVER_LOG", &log)
        .env("PGAAD_SERVER_HOSTS", "db.pgaad.test")
        .env("PGHOST", "db.pgaad.test")
        .env("PGPORT", database.port())
        .env("PGUSER", "app-one");
    let looked_up = |name: &str| {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().any(|line| line == format!("enter {name}"))
    };

    emulator.entra().faults().next(Fault::status(400, "invalid_request", 90002));
    let denied = driver.one(&["connect", ""]);
    assert_eq!(denied.status(), "PGAAD_DENIED", "{denied:?}");
    emulator.entra().faults().next(Fault::gate(&Gate::new()));
    let late = driver.one(&["connect", "connect_timeout=1"]);
    assert_eq!(late.status(), "PGAAD_TIMEOUT", "{late:?}");
    assert!(looked_up("localhost"), "the shim sees the token service's name");
    let refused = driver.clone().without("PGAAD_SERVER_HOSTS").one(&["connect", ""]);
    assert_eq!(refused.status(), "PGAAD_INSECURE", "{refused:?}");
    assert!(!looked_up("db.pgaad.test") && !database.was_called());

    // With a token it is both.
    let line = thread::scope(|scope| {
        scope.spawn(|| drop(database.accept()));
        driver.one(&["connect", ""])
    });
    assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "BAD"), "{line:?}");
    assert!(looked_up("db.pgaad.test"));
}

#[test]
fn connect_timeout_bounds_the_wait_for_the_token() {
    for (name, value, conninfo) in [
        ("PGUSER", "app-one", "host=localhost connect_timeout=1"),
        ("PGCONNECT_TIMEOUT", "1", "host=localhost user=app-one"),
        ("PGCONNECT_TIMEOUT", "100000", "postgresql://app-one@localhost/?connect_timeout=1"),
    ] {
        let emulator = Emulator::start();
        let gate = Gate::new();
        emulator.entra().faults().next(Fault::gate(&gate));
        let mut session = signed_in(&emulator).env("PGAAD_TIMEOUT_MS", "1000000").env(name, value).session();
        let line = session.one(&["connect", conninfo]);
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_TIMEOUT", "BAD"), "{line:?}");
        // The fetch goes on, and serves the next who asks.
        gate.open();
        assert_eq!(session.one(&["get_token"]).status(), "PGAAD_OK");
        assert_eq!(emulator.entra().counters().requests, 1);
    }
}

#[test]
fn the_shorter_of_both_timeouts_counts_and_zero_is_none() {
    let emulator = Emulator::start();
    let driver = signed_in(&emulator).env("PGHOST", "localhost").env("PGUSER", "app-one").env("PGPORT", "1");
    emulator.entra().faults().next(Fault::gate(&Gate::new()));
    let line = driver.clone().env("PGAAD_TIMEOUT_MS", "300").one(&["connect", "connect_timeout=1000000"]);
    assert_eq!(line.status(), "PGAAD_TIMEOUT", "{line:?}");

    for conninfo in ["connect_timeout=0", "connect_timeout=-1", ""] {
        let gate = Gate::new();
        emulator.entra().faults().next(Fault::gate(&gate));
        let mut session = driver.session();
        session.tell(&["connect", conninfo]);
        gate.wait_for_arrivals(1);
        gate.open();
        // It got its token, and then found nobody at that port.
        let line = session.answer().pop().expect("a line");
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "BAD"), "{conninfo:?}: {line:?}");
    }
}

#[test]
fn what_libpq_refuses_is_refused_in_its_own_words() {
    let emulator = Emulator::start();
    let mut session = signed_in(&emulator).env("PGUSER", "app-one").session();
    for conninfo in [
        "host=localhost bogus=1",
        "host=localhost sslmode=sometimes",
        "host=localhost sslmode=",
        "host=localhost port=many",
        "host=localhost port=0",
        "host=localhost port=1,2",
        "host=a,localhost hostaddr=127.0.0.1",
        "host=localhost target_session_attrs=none",
        "host=localhost gssencmode=maybe",
        "host=localhost channel_binding=maybe",
        "host=localhost ssl_min_protocol_version=SSLv2",
        "host=localhost ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
        "service=nothing-of-that-name",
        "localhost",
        "host=localhost user='a",
        "host localhost",
        "postgresql://localhost/?bogus=1",
        "postgresql://[::1/",
        "postgresql://localhost:port/",
        "postgresql://localhost/?sslmode=sometimes",
        "postgresql://%zz/",
        "postgresql://localhost/?sslmode",
        // Any of these beside a server that would get a token.
        "host=x.postgres.database.azure.com bogus=1",
        "postgresql://x.postgres.database.azure.com/?sslmode=sometimes",
    ] {
        let (ours, libpqs) = (session.one(&["connect", conninfo]), session.one(&["pq", conninfo]));
        assert_eq!((ours.status(), ours.get("conn")), ("PGAAD_OK", "BAD"), "{conninfo}: {ours:?}");
        assert_eq!(ours.errmsg(), libpqs.errmsg(), "{conninfo}");
        let expanded = session.one(&["params", "1", "dbname", conninfo]);
        let libpqs = session.one(&["pq_params", "1", "dbname", conninfo]);
        // What is no conninfo is the name of a database here.
        if conninfo.contains('=') || conninfo.contains("://") {
            assert_eq!(expanded.errmsg(), libpqs.errmsg(), "{conninfo}");
            assert_eq!(expanded.status(), "PGAAD_OK", "{conninfo}: {expanded:?}");
        }
    }
    for arguments in [
        &["0", "host", "localhost", "bogus", "1"][..],
        &["0", "host", "localhost", "requiressl", "1"],
        &["1", "dbname", "host=localhost user='a"],
        &["0", "host", "localhost", "sslmode", "sometimes"],
    ] {
        let ours = session.one(&[&["params"], arguments].concat());
        let libpqs = session.one(&[&["pq_params"], arguments].concat());
        assert_eq!((ours.status(), ours.errmsg()), ("PGAAD_OK", libpqs.errmsg()), "{arguments:?}");
    }
    for (name, value) in
        [("PGSSLMODE", "sometimes"), ("PGSERVICE", "none"), ("PGPORT", "x"), ("PGSSLMODE", "")]
    {
        session.ask(&["setenv", name, value]);
        let (ours, libpqs) =
            (session.one(&["connect", "host=localhost"]), session.one(&["pq", "host=localhost"]));
        assert_eq!((ours.status(), ours.errmsg()), ("PGAAD_OK", libpqs.errmsg()), "{name}={value}");
        session.ask(&["unsetenv", name]);
    }
}

#[test]
fn a_connection_says_of_itself_what_it_says_without_us() {
    let ground = ground();
    let mut session = ground.driver(&APP_ONE).env("PGAPPNAME", "from outside").session();
    let given = conninfo(&[
        ("options", "-c search_path=a,b"),
        ("client_encoding", "LATIN1"),
        ("keepalives_idle", "77"),
        ("fallback_application_name", "it's \\ odd"),
        ("connect_timeout", "60"),
        ("dbname", "postgres"),
    ]);
    let mut seen = Vec::new();
    for command in ["connect", "pq"] {
        let line = session.one(&[command, &given]);
        assert_eq!(line.get("conn"), if command == "connect" { "OK" } else { "BAD" }, "{line:?}");
        let mut conninfo = session.one(&["conninfo"]).options();
        // These are what a token needs; and who has a password asks no password file.
        for ours in ["password", "passfile", "sslmode", "gssencmode", "hostaddr"] {
            conninfo.remove(ours);
        }
        seen.push((conninfo, session.one(&["where"]).options()));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].0["application_name"], "from outside");
    session.ask(&["connect", &given]);
    assert_eq!(session.one(&["query", "show search_path"]).get("value"), "a,b");
}

#[test]
fn a_socket_is_entered_only_where_its_owner_is_the_one_named() {
    let ground = ground();
    let socket = ground.postgres.socket_dir();
    let mut session = ground.driver(&APP_ONE).env("PGHOST", &socket).session();
    let token = session.one(&["get_token"]).get("token").to_string();
    let line = session.one(&["connect", "requirepeer=nobody-else"]);
    assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "BAD"), "{line:?}");
    assert!(line.errmsg().contains("requirepeer"), "{line:?}");
    assert_eq!(ground.uses_of(&token), []);
    let line = session.one(&["connect", &format!("requirepeer={}", ground.postgres.owner())]);
    assert_eq!(line.get("conn"), "OK", "{line:?}");
    assert_eq!(who(&mut session), "app-one false");
    assert_eq!(ground.uses_of(&token), [("app-one".to_string(), true)]);
}

/// Variables that would lead a connection elsewhere, to be set once it has been judged.
fn mislead(session: &mut Session, elsewhere: &Listener) {
    for (name, value) in [
        ("PGHOSTADDR", "127.0.0.2"),
        ("PGHOST", "stranger.example"),
        ("PGPORT", &elsewhere.port()),
        ("PGSSLMODE", "disable"),
        ("PGSSLROOTCERT", "/nonexistent"),
        ("PGREQUIREPEER", "nobody"),
        ("PGGSSENCMODE", "require"),
    ] {
        session.ask(&["setenv", name, value]);
    }
}

#[test]
fn what_was_judged_is_what_is_connected_to() {
    let emulator = Emulator::start();
    let postgres = Postgres::start(&emulator);
    let elsewhere = Listener::start();
    let gate = Gate::new();
    emulator.entra().faults().next(Fault::gate(&gate));
    let mut session = signed_in(&emulator).envs(postgres.env("app-one")).session();
    session.ask(&["thread", "connect", ""]);
    gate.wait_for_arrivals(1);
    mislead(&mut session, &elsewhere);
    gate.open();
    let line = session.one(&["join"]);
    assert_eq!(line.get("conn"), "OK", "{line:?}");
    assert_eq!(who(&mut session), "app-one true");
    assert!(!elsewhere.was_called());
}

#[test]
fn a_connstring_leads_where_it_was_judged_to_lead() {
    let ground = ground();
    let elsewhere = Listener::start();
    for (host, address) in [
        ("localhost", None),
        ("localhost", Some("127.0.0.1")),
        ("a.postgres.database.azure.com", Some("127.0.0.1")),
    ] {
        let mut driver = ground.driver(&APP_ONE).env("PGHOST", host);
        if let Some(address) = address {
            driver = driver.env("PGHOSTADDR", address);
        }
        let mut session = driver.session();
        assert_eq!(session.one(&["connstring", ""]).status(), "PGAAD_OK");
        mislead(&mut session, &elsewhere);
        let line = session.one(&["pq", "@CONNSTRING"]);
        assert_eq!(line.get("conn"), "OK", "{line:?}");
        assert_eq!(who(&mut session), "app-one true");
    }
    assert!(!elsewhere.was_called());
}

#[test]
fn where_entra_is_off_libpq_connects_as_ever() {
    let ground = ground();
    let laptop = conninfo(&[("user", LAPTOP_ROLE), ("password", LAPTOP_PASSWORD)]);
    // With an identity at hand, a password for a server of this machine; and with none at all.
    let none = Driver::new().envs(ground.postgres.env(LAPTOP_ROLE));
    for driver in [ground.driver(&APP_ONE), none, ground.driver(&APP_ONE).env("PGAAD_AUTH", "off")] {
        let mut session = driver.session();
        session.ask(&["default"]);
        for command in four(&laptop) {
            let line = session.one(&command);
            assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "OK"), "{line:?}");
            assert_eq!(who(&mut session), "laptop true");
            let ours = session.one(&["conninfo"]).options();
            session.ask(&["pq", &laptop]);
            assert_eq!(ours, session.one(&["conninfo"]).options());
            assert_eq!(ours["sslmode"], "prefer");
        }
    }
    let mut session = Driver::new().session();
    let line = session.one(&["connect", "host=/nonexistent user=a"]);
    let libpqs = session.one(&["pq", "host=/nonexistent user=a"]);
    assert_eq!((line.status(), line.errmsg()), ("PGAAD_OK", libpqs.errmsg()));
    assert_ne!(libpqs.errmsg(), "");
}
