//! Where a token may go, and what must hold on the way.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::thread;

use emulator::{APP_ONE, Emulator, POSTGRESQL, Postgres, Proxy};

use crate::harness::{Driver, Line, Listener, Pairs, Session, conninfo, ground, signed_in};

/// Debian's, from the package ca-certificates.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What a connstring says of TLS: mode, roots and GSS; or the status of its refusal.
fn tls(line: &Line) -> (String, String, String) {
    let option = |name: &str| line.options().get(name).cloned().unwrap_or_default();
    match line.status() {
        "PGAAD_OK" => (option("sslmode"), option("sslrootcert"), option("gssencmode")),
        status => (status.into(), String::new(), String::new()),
    }
}

fn set(session: &mut Session, environment: Pairs<'_>) {
    for (name, value) in environment {
        session.ask(&["setenv", name, value]);
    }
}

fn unset(session: &mut Session, environment: Pairs<'_>) {
    for (name, _) in environment {
        session.ask(&["unsetenv", name]);
    }
}

#[test]
fn every_sslmode_ends_in_a_verified_name_but_for_roots_of_ones_own() {
    let emulator = Emulator::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let own = file("own.pem");
    std::fs::copy(emulator.ca_file(), &own).expect("a file");
    let (link, link_to_own) = (file("link.pem"), file("link-to-own.pem"));
    symlink(BUNDLE, &link).expect("a link");
    symlink(&own, &link_to_own).expect("a link");
    let home = |name: &str, roots: &str| {
        let home = folder.path().join(name);
        std::fs::create_dir_all(home.join(".postgresql")).expect("a folder");
        symlink(roots, home.join(".postgresql/root.crt")).expect("a link");
        home.display().to_string()
    };
    let (own_home, bundle_home) = (home("own-home", &own), home("bundle-home", BUNDLE));
    let in_home = |home: &str| format!("{home}/.postgresql/root.crt");

    // Environment, conninfo, the roots that count, and whether they are the caller's own.
    let roots: &[(Pairs<'_>, String, String, bool)] = &[
        (&[], String::new(), BUNDLE.into(), false),
        (&[], format!("sslrootcert='{own}'"), own.clone(), true),
        (&[], format!("sslrootcert='{link_to_own}'"), link_to_own.clone(), true),
        // What connects may do so from another directory.
        (
            &[],
            "sslrootcert=Cargo.toml".into(),
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into(),
            true,
        ),
        (&[("PGSSLROOTCERT", &own)], String::new(), own.clone(), true),
        (&[("HOME", &own_home)], String::new(), in_home(&own_home), true),
        (&[("HOME", &own_home)], format!("sslrootcert='{BUNDLE}'"), BUNDLE.into(), false),
        (&[("HOME", &own_home), ("PGSSLROOTCERT", BUNDLE)], String::new(), BUNDLE.into(), false),
        (&[("HOME", &own_home)], "sslrootcert=''".into(), in_home(&own_home), true),
        (&[("HOME", &bundle_home)], String::new(), in_home(&bundle_home), false),
        (&[], format!("sslrootcert='{link}'"), link.clone(), false),
        (
            &[],
            "sslrootcert=/etc/ssl/certs/../certs/ca-certificates.crt".into(),
            "/etc/ssl/certs/../certs/ca-certificates.crt".into(),
            false,
        ),
        (&[], "sslrootcert=/nonexistent".into(), "/nonexistent".into(), false),
        (&[], "sslrootcert=/etc/ssl/certs".into(), "/etc/ssl/certs".into(), false),
        (&[], "sslrootcert=system".into(), "system".into(), false),
    ];
    let mut session = signed_in(&emulator).env("PGUSER", "app-one").session();
    for (environment, options, path, is_own) in roots {
        set(&mut session, environment);
        for mode in ["", "allow", "prefer", "require", "verify-ca", "verify-full", "disable"] {
            let kept = *is_own && ["require", "verify-ca"].contains(&mode);
            let wanted = match mode {
                "disable" => ("PGAAD_INSECURE".into(), String::new(), String::new()),
                _ => (if kept { mode } else { "verify-full" }.into(), path.clone(), "disable".into()),
            };
            let said = if mode.is_empty() { String::new() } else { format!("sslmode={mode}") };
            for host in ["x.postgres.database.azure.com", "localhost"] {
                let by_string = session.one(&["options", &format!("host={host} {options} {said}")]);
                assert_eq!(tls(&by_string), wanted, "{environment:?} {options} {said}: {by_string:?}");
                if !mode.is_empty() {
                    session.ask(&["setenv", "PGSSLMODE", mode]);
                    let by_variable = session.one(&["options", &format!("host={host} {options}")]);
                    assert_eq!(tls(&by_variable), wanted, "{environment:?} {options} PGSSLMODE={mode}");
                    session.ask(&["unsetenv", "PGSSLMODE"]);
                }
                if mode == "disable" {
                    for name in ["sslmode", "PGSSLMODE"] {
                        assert!(by_string.errmsg().contains(name), "{by_string:?}");
                    }
                }
            }
        }
        unset(&mut session, environment);
    }
    for (conninfo, mode) in [
        ("postgresql://localhost/?ssl=true", "verify-full"),
        ("host=localhost requiressl=1", "verify-full"),
        ("host=localhost sslmode=disable requiressl=0", "verify-full"), // prefer, the later one
        ("postgresql://localhost/?sslmode=disable", "PGAAD_INSECURE"),
        ("host=localhost sslmode=verify-full sslmode=disable", "PGAAD_INSECURE"),
    ] {
        assert_eq!(tls(&session.one(&["options", conninfo])).0, mode, "{conninfo}");
    }
}

/// A wrapper for a process in which the distribution has no roots, where this machine lets one be made.
fn without_bundle() -> Option<Vec<&'static str>> {
    const HIDE: &str =
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin mount -t tmpfs none /etc/ssl/certs && exec \"$0\" \"$@\"";
    [&["unshare", "-m"][..], &["unshare", "-r", "-m"]].into_iter().find_map(|unshare| {
        let wrapper = [unshare, &["/bin/sh", "-c", HIDE]].concat();
        let works = Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").output();
        works.is_ok_and(|output| output.status.success()).then_some(wrapper)
    })
}

#[test]
fn without_roots_of_the_distribution_libpqs_own_serve_where_it_has_any() {
    let Some(wrapper) = without_bundle() else {
        eprintln!("not tested: this machine lets nobody hide {BUNDLE} (unshare -m)");
        return;
    };
    let emulator = Emulator::start();
    let driver = signed_in(&emulator).env("PGUSER", "app-one").under(&wrapper);
    let own = emulator.ca_file().display();
    let own = format!("host=localhost sslrootcert={own}");
    let host = "host=localhost";
    let none = |line: Line| {
        assert_eq!(line.status(), "PGAAD_CONFIG", "{line:?}");
        for name in ["ca-certificates", "sslrootcert", "PGSSLROOTCERT"] {
            assert!(line.errmsg().contains(name), "{name}: {line:?}");
        }
    };
    none(driver.one(&["connect", host]));
    let mut session = driver.session();
    for version in ["", "150099", "160000"] {
        if !version.is_empty() {
            assert_eq!(session.one(&["libpq_version", version]).status(), "PGAAD_OK");
        }
        for conninfo in [host, "host=localhost sslmode=require"] {
            let line = session.one(&["options", conninfo]);
            match version {
                "160000" => {
                    let system = ("verify-full".into(), "system".into(), "disable".into());
                    assert_eq!(tls(&line), system, "{line:?}");
                }
                _ => none(line),
            }
        }
        assert_eq!(tls(&session.one(&["options", &own])).1, emulator.ca_file().display().to_string());
    }
    assert_eq!(session.one(&["options", "host=localhost sslmode=disable"]).status(), "PGAAD_INSECURE");
    // With a bundle it comes first, by path: system roots can be led astray by SSL_CERT_FILE.
    let lines = signed_in(&emulator)
        .env("PGUSER", "app-one")
        .run(&[&["libpq_version", "160000"], &["options", host]]);
    assert_eq!(tls(&lines[1]).1, BUNDLE);
}

#[test]
fn neither_kerberos_nor_channel_binding_stands_in_for_tls() {
    let emulator = Emulator::start();
    let mut session = signed_in(&emulator).env("PGUSER", "app-one").session();
    for (name, variable, value, wanted) in [
        ("gssencmode", "PGGSSENCMODE", "prefer", "PGAAD_OK"),
        ("gssencmode", "PGGSSENCMODE", "disable", "PGAAD_OK"),
        ("gssencmode", "PGGSSENCMODE", "require", "PGAAD_CONFIG"),
        ("channel_binding", "PGCHANNELBINDING", "require", "PGAAD_CONFIG"),
        ("channel_binding", "PGCHANNELBINDING", "prefer", "PGAAD_OK"),
        ("channel_binding", "PGCHANNELBINDING", "disable", "PGAAD_OK"),
    ] {
        for host in ["localhost", "x.postgres.database.azure.com"] {
            let by_string = session.one(&["options", &format!("host={host} {name}={value}")]);
            session.ask(&["setenv", variable, value]);
            let by_variable = session.one(&["options", &format!("host={host}")]);
            let connected = session.one(&["connect", &format!("host={host} hostaddr=127.0.0.1 port=1")]);
            session.ask(&["unsetenv", variable]);
            for line in [&by_string, &by_variable, &connected] {
                assert_eq!(line.status(), wanted, "{name}={value}: {line:?}");
                if wanted == "PGAAD_CONFIG" {
                    assert!(line.errmsg().contains(name) && line.errmsg().contains(variable), "{line:?}");
                }
            }
            if wanted == "PGAAD_OK" {
                assert_eq!(by_string.options()["gssencmode"], "disable");
                assert_eq!(by_variable.options()["gssencmode"], "disable");
            }
        }
    }
}

#[test]
fn plaintext_is_for_the_hosts_that_are_named_and_never_for_azures() {
    const PLAIN: &str = "";
    const TLS: &str = "verify-full";
    let emulator = Emulator::start();
    let mut session = signed_in(&emulator).env("PGUSER", "app-one").session();
    for (settings, hosts, wanted) in [
        ("allow_plaintext=localhost", "host=localhost", PLAIN),
        ("allow_plaintext=localhost", "host=LOCALHOST.", PLAIN),
        ("allow_plaintext=*", "host=localhost", PLAIN),
        ("allow_plaintext=localhost", "host=127.0.0.1", TLS),
        // Its name is this machine's, but not its address.
        ("allow_plaintext=localhost server_hosts=localhost", "host=localhost hostaddr=10.0.0.5", TLS),
        ("allow_plaintext='localhost, 127.0.0.1'", "host=localhost,127.0.0.1", PLAIN),
        ("allow_plaintext=localhost", "host=localhost,127.0.0.1", TLS),
        ("allow_plaintext=*.example server_hosts=*.example", "host=pgbouncer.example", PLAIN),
        ("server_hosts=*.example", "host=pgbouncer.example", TLS),
        ("allow_plaintext=other.example server_hosts=*.example", "host=pgbouncer.example", TLS),
        ("allow_plaintext=10.0.0.5 server_hosts=10.0.0.5", "hostaddr=10.0.0.5", PLAIN),
        ("allow_plaintext=/run/pg", "host=/run/pg", PLAIN),
        ("allow_plaintext=/run/pg/", "host=/run/pg", PLAIN),
        ("allow_plaintext=/run/pg", "host=/run/pg,localhost requirepeer=postgres", TLS),
        ("allow_plaintext=*", "host=x.postgres.database.azure.com", TLS),
        ("allow_plaintext=*", "host=x.postgres.database.azure.com hostaddr=127.0.0.1", TLS),
        ("allow_plaintext=x.postgres.database.azure.com", "host=x.postgres.database.azure.com", TLS),
        ("allow_plaintext=*.azure.com", "host=X.postgres.cosmos.azure.com.", TLS),
        ("allow_plaintext=*", "host=localhost,x.postgres.database.azure.com", TLS),
        ("allow_plaintext=* server_hosts=*", "host=x.postgres.database.chinacloudapi.cn", TLS),
        ("allow_plaintext=* server_hosts=*", "host=x.postgres.database.usgovcloudapi.net", TLS),
    ] {
        assert_eq!(session.one(&["new", settings]).status(), "PGAAD_OK");
        let line = session.one(&["client_options", hosts]);
        let gss = if wanted == PLAIN { "" } else { "disable" };
        let (mode, _, gssencmode) = tls(&line);
        assert_eq!((mode.as_str(), gssencmode.as_str()), (wanted, gss), "{settings}; {hosts}: {line:?}");
        // A token is on its way in any case.
        assert!(line.options()["password"].starts_with("eyJ"));
        for option in ["sslmode=disable", "gssencmode=require"] {
            let line = session.one(&["client_options", &format!("{hosts} {option}")]);
            let (name, value) = option.split_once('=').expect("an option");
            match wanted {
                PLAIN => assert_eq!(line.options()[name], value, "{line:?}"),
                _ if name == "sslmode" => assert_eq!(line.status(), "PGAAD_INSECURE", "{line:?}"),
                _ => assert_eq!(line.status(), "PGAAD_CONFIG", "{line:?}"),
            }
        }
    }
}

#[test]
fn a_token_travels_in_plaintext_only_where_that_is_allowed() {
    let emulator = Emulator::start();
    let postgres = Postgres::start(&emulator);
    postgres.allow_plaintext(true).expect("it reloads");
    let driver = signed_in(&emulator).envs(postgres.env("app-one"));
    for conninfo in ["sslmode=disable", "host=localhost,localhost sslmode=disable"] {
        let line = driver.one(&["connect", conninfo]);
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_INSECURE", "BAD"), "{line:?}");
        for name in ["sslmode", "allow_plaintext", "PGAAD_ALLOW_PLAINTEXT"] {
            assert!(line.errmsg().contains(name), "{name}: {line:?}");
        }
    }
    assert!(postgres.binds().is_empty());
    assert_eq!(emulator.entra().counters().connections, 0);

    const TLS: &str = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let allowed = driver.clone().env("PGAAD_ALLOW_PLAINTEXT", "localhost");
    let lines = allowed.run(&[&["connect", "sslmode=disable"], &["query", TLS]]);
    assert_eq!((lines[0].get("conn"), lines[1].get("value")), ("OK", "f"), "{lines:?}");
    let socket = postgres.socket_dir();
    let allowed = driver.clone().env("PGHOST", &socket).env("PGAAD_ALLOW_PLAINTEXT", &socket);
    let line = allowed.one(&["connect", ""]);
    assert_eq!(line.get("conn"), "OK", "{line:?}");
}

/// Answers a caller's first request with `reply`, and gives all that the caller sent.
fn impostor(listener: &Listener, reply: &[u8]) -> Vec<u8> {
    let mut socket = listener.accept();
    let mut sent = vec![0; 8];
    socket.read_exact(&mut sent).expect("a request");
    socket.write_all(reply).expect("a caller that listens");
    socket.shutdown(Shutdown::Write).expect("a socket");
    let _ = socket.read_to_end(&mut sent);
    sent
}

#[test]
fn a_server_that_declines_tls_never_sees_a_token() {
    // "No TLS"; an error of old, and a request for a password behind either.
    let password = b"R\0\0\0\x08\0\0\0\x03";
    let replies: [Vec<u8>; 4] = [
        b"N".to_vec(),
        [b"N", &password[..]].concat(),
        b"EFATAL\0".to_vec(),
        [b"E\0\0\0\x0cSFATAL\0\0", &password[..]].concat(),
    ];
    let emulator = Emulator::start();
    let listener = Listener::start();
    let own = emulator.ca_file().display().to_string();
    let mut session = signed_in(&emulator).env("PGUSER", "app-one").env("PGPORT", listener.port()).session();
    let ssl_request = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    for reply in &replies {
        for (environment, conninfo) in [
            ("", "host=localhost".to_string()),
            ("", "host=127.0.0.1 sslmode=allow".into()),
            ("prefer", "host=localhost".into()),
            ("allow", "host=x.postgres.database.azure.com hostaddr=127.0.0.1".into()),
            ("", format!("host=localhost sslmode=require sslrootcert={own}")),
            ("verify-ca", format!("host=localhost sslrootcert={own}")),
        ] {
            match environment {
                "" => session.ask(&["unsetenv", "PGSSLMODE"]),
                mode => session.ask(&["setenv", "PGSSLMODE", mode]),
            };
            // One caller each: no second try without TLS.
            let (sent, line) = thread::scope(|scope| {
                let impostor = scope.spawn(|| impostor(&listener, reply));
                let line = session.one(&["connect", &conninfo]);
                session.ask(&["finish"]); // a BAD one holds its socket until then
                (impostor.join().expect("what was sent"), line)
            });
            assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "BAD"), "{line:?}");
            assert_eq!(sent, ssl_request, "{conninfo}");
            assert!(!listener.was_called(), "{conninfo}");
        }
    }
}

#[test]
fn a_server_with_another_certificate_never_sees_a_token() {
    let ground = ground();
    let other_emulator = Emulator::start();
    let other = Postgres::start(&other_emulator);
    let mut session = ground.driver(&APP_ONE).session();
    let token = session.one(&["get_token"]).get("token").to_string();

    // Another authority's.
    session.ask(&["setenv", "PGPORT", &other.port().to_string()]);
    for mode in ["prefer", "require", "verify-ca", "verify-full"] {
        let line = session.one(&["connect", &format!("sslmode={mode}")]);
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "BAD"), "{line:?}");
        assert!(line.errmsg().contains("certificate verify failed"), "{line:?}");
    }
    // A public one would do for a name of its own only; this is none of the distribution's.
    session.ask(&["unsetenv", "PGSSLROOTCERT"]);
    let line = session.one(&["connect", ""]);
    assert!(line.errmsg().contains("certificate verify failed"), "{line:?}");
    assert!(other.binds().is_empty());

    // The right authority's, for another name.
    session.ask(&["setenv", "PGPORT", &ground.postgres.port().to_string()]);
    session.ask(&["setenv", "PGSSLROOTCERT", &ground.postgres.ca_file().display().to_string()]);
    for mode in ["", "sslmode=prefer", "sslmode=verify-full"] {
        let line = session.one(&["connect", &format!("host=db.example hostaddr=127.0.0.1 {mode}")]);
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "BAD"), "{line:?}");
        assert!(line.errmsg().contains("db.example"), "{line:?}");
    }
    // Without a name there is nothing to verify it by.
    let line = session.one(&["connect", "host='' hostaddr=127.0.0.1"]);
    assert!(line.errmsg().contains("host name must be specified"), "{line:?}");
    assert_eq!(ground.uses_of(&token), []);
    // With roots of their own, callers may leave the name out.
    for mode in ["require", "verify-ca"] {
        let line = session.one(&["connect", &format!("host=db.example hostaddr=127.0.0.1 sslmode={mode}")]);
        assert_eq!(line.get("conn"), "OK", "{line:?}");
    }
}

/// Signs in through a proxy that leads the names of Microsoft's authorities to the emulator, and nowhere else.
fn by_proxy(emulator: &Emulator, proxy: &Proxy) -> Driver {
    proxy.map_to(emulator);
    signed_in(emulator)
        .without("PGAAD_AUTHORITY_HOST")
        .env("PGAAD_PROXY", proxy.url())
        .env("PGUSER", "app-one")
}

#[test]
fn a_secret_is_asked_for_no_cloud_but_its_own() {
    let emulator = Emulator::start();
    let proxy = Proxy::start();
    let mut session = by_proxy(&emulator, &proxy).session();
    const USGOV: &str = "x.postgres.database.usgovcloudapi.net";
    const CHINA: &str = "x.postgres.database.chinacloudapi.cn";
    const PUBLIC: &str = "x.postgres.database.azure.com";
    for (settings, host, status, names) in [
        // The settings do not say where the application is.
        ("", USGOV, "PGAAD_CONFIG", &["cloud", "PGAAD_CLOUD", "usgov"][..]),
        ("", CHINA, "PGAAD_CONFIG", &["cloud", "PGAAD_CLOUD", "china"]),
        ("server_hosts=*", CHINA, "PGAAD_CONFIG", &["cloud"]),
        ("", "X.Postgres.Database.UsGovCloudApi.Net.", "PGAAD_CONFIG", &["cloud"]),
        ("", "localhost,x.postgres.database.chinacloudapi.cn", "PGAAD_INSECURE", &["cloud", "PGAAD_CLOUD"]),
        // They say another one.
        (
            "cloud=usgov",
            PUBLIC,
            "PGAAD_INSECURE",
            &["cloud", "PGAAD_CLOUD", "usgov", "public", "server_hosts"],
        ),
        ("cloud=usgov", CHINA, "PGAAD_INSECURE", &["cloud", "china"]),
        ("cloud=china", USGOV, "PGAAD_INSECURE", &["cloud"]),
        ("cloud=public", USGOV, "PGAAD_INSECURE", &["cloud"]),
        ("cloud=china", "x.postgres.cosmos.azure.com", "PGAAD_INSECURE", &["cloud"]),
        ("authority_host=login.microsoftonline.us", PUBLIC, "PGAAD_INSECURE", &["cloud"]),
        ("authority_host=https://login.microsoftonline.com/", CHINA, "PGAAD_INSECURE", &["cloud"]),
    ] {
        assert_eq!(session.one(&["new", settings]).status(), "PGAAD_OK");
        let conninfo = format!("host={host}");
        for function in ["client_options", "client_connect"] {
            let line = session.one(&[function, &conninfo]);
            assert_eq!(line.status(), status, "{settings} {host}: {line:?}");
            for name in names {
                assert!(line.errmsg().contains(name), "{name}: {line:?}");
            }
        }
    }
    assert!(proxy.connects().is_empty());
    assert_eq!(emulator.entra().counters().connections, 0);
}

#[test]
fn a_cloud_is_authority_scope_and_servers_together() {
    let emulator = Emulator::start();
    let postgres = Postgres::start(&emulator);
    let proxy = Proxy::start();
    let driver = by_proxy(&emulator, &proxy).envs(postgres.env("app-one")).without("PGHOST");
    for (settings, authority, resource, host) in [
        ("", "login.microsoftonline.com", POSTGRESQL, "pgaad-test.postgres.database.azure.com"),
        (
            "cloud=usgov",
            "login.microsoftonline.us",
            "https://ossrdbms-aad.database.usgovcloudapi.net",
            "x.postgres.database.usgovcloudapi.net",
        ),
        (
            "authority_host=login.partner.microsoftonline.cn",
            "login.partner.microsoftonline.cn",
            "https://ossrdbms-aad.database.chinacloudapi.cn",
            "x.postgres.database.chinacloudapi.cn",
        ),
        // Servers named by hand get the token of the application's cloud.
        (
            "cloud=usgov server_hosts=*.azure.com",
            "login.microsoftonline.us",
            "https://ossrdbms-aad.database.usgovcloudapi.net",
            "x.postgres.database.azure.com",
        ),
    ] {
        postgres.set_audience(resource);
        let conninfo = conninfo(&[("host", host), ("hostaddr", "127.0.0.1")]);
        let line = driver.run(&[&["new", settings], &["client_connect", &conninfo]]).remove(1);
        assert_eq!(line.get("conn"), "OK", "{settings}: {line:?}");
        let connect = proxy.connects().pop().expect("it went through the proxy");
        assert_eq!(connect.target(), format!("{authority}:443"));
        let request = emulator.entra().requests().pop().expect("a request");
        assert_eq!(request.field("scope"), Some(format!("{resource}/.default").as_str()));
    }
}

#[test]
fn cosmos_servers_get_a_token_of_their_own() {
    const COSMOS: &str = "https://token.postgres.cosmos.azure.com";
    let emulator = Emulator::start();
    let postgres = Postgres::start(&emulator);
    let driver = signed_in(&emulator).envs(postgres.env("app-one")).without("PGHOST");
    let scopes = || -> Vec<String> {
        let requests = emulator.entra().requests();
        requests.iter().map(|request| request.field("scope").unwrap_or_default().to_string()).collect()
    };
    let (database, cosmos) = (format!("{POSTGRESQL}/.default"), format!("{COSMOS}/.default"));
    let here = |host: &str| conninfo(&[("host", host), ("hostaddr", "127.0.0.1")]);
    let (theirs, azures) = (here("pgaad.postgres.cosmos.azure.com"), here("x.postgres.database.azure.com"));

    let mut session = driver.session();
    for (conninfo, audience) in [(&theirs, COSMOS), (&azures, POSTGRESQL), (&theirs, COSMOS)] {
        postgres.set_audience(audience);
        let line = session.one(&["connect", conninfo]);
        assert_eq!(line.get("conn"), "OK", "{line:?}");
    }
    assert_eq!(session.one(&["get_token"]).status(), "PGAAD_OK");
    // Each is kept: two requests in all.
    assert_eq!(scopes(), [cosmos, database.clone()]);

    for list in
        ["x.postgres.cosmos.azure.com,y.postgres.database.azure.com", "localhost,x.postgres.cosmos.azure.com"]
    {
        let line = session.one(&["options", &format!("host={list}")]);
        assert_eq!(line.status(), "PGAAD_CONFIG", "{line:?}");
        assert!(line.errmsg().contains("PGAAD_SCOPE"), "{line:?}");
    }
    assert_eq!(scopes().len(), 2);
    let line = session.one(&["options", "host=x.postgres.cosmos.azure.com,y.postgres.cosmos.azure.com"]);
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");

    // A scope that is set is every server's.
    session.ask(&["new", &format!("scope={database}")]);
    let both = "host=x.postgres.cosmos.azure.com,y.postgres.database.azure.com";
    assert_eq!(session.one(&["client_options", both]).status(), "PGAAD_OK");
    assert_eq!(scopes()[2..], [database]);
}
