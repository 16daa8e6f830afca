//! pgaad_connstring: what it reads, and that it writes the caller's options, what a token needs, and nothing else.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use emulator::{APP_ONE, Emulator, LAPTOP_PASSWORD, LAPTOP_ROLE};

use crate::harness::{Driver, Line, Options, Pairs, Session, conninfo, ground, options, program, signed_in};

const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What a token needs beside itself, where the caller says nothing of it.
const NEEDED: [(&str, &str); 5] = [
    ("hostaddr", ""),
    ("port", "5432"),
    ("sslmode", "verify-full"),
    ("sslrootcert", BUNDLE),
    ("gssencmode", "disable"),
];

/// The options of a line, with a word in the token's place.
fn without_token(line: &Line) -> Options {
    let mut options = line.options();
    if let Some(password) = options.get_mut("password").filter(|password| password.starts_with("eyJ")) {
        *password = "TOKEN".into();
    }
    options
}

/// The same conninfos read where there is no libpq. What comes out goes through libpq elsewhere.
fn without_libpq(driver: &Driver, conninfos: &[&str]) -> Vec<Line> {
    let bytes: Vec<_> = conninfos.iter().map(OsStr::new).collect();
    without_libpq_of_bytes(driver, &bytes)
}

fn without_libpq_of_bytes(driver: &Driver, conninfos: &[&OsStr]) -> Vec<Line> {
    let lines = driver.clone().instead(program("no_libpq", &[])).run_bytes(conninfos);
    assert_eq!(lines.len(), conninfos.len() + 2, "{lines:?}");
    assert_eq!(lines.last().map(Line::word), Some("no"), "a libpq was loaded");
    let folder = tempfile::tempdir().expect("a folder");
    let mut reader = Driver::new().session();
    let read = |line: &Line| {
        if line.status() != "PGAAD_OK" {
            return line.clone();
        }
        let file = folder.path().join("connstring");
        std::fs::write(&file, line.bytes("encoded")).expect("a file");
        let parsed = reader.one(&["parse", &format!("@file {}", file.display())]);
        assert_eq!(parsed.errmsg(), "", "libpq reads it");
        Line(parsed.0.replacen("parse", "connstring status=PGAAD_OK", 1))
    };
    lines[1..=conninfos.len()].iter().map(read).collect()
}

#[test]
fn what_comes_out_is_what_went_in_and_what_a_token_needs() {
    let emulator = Emulator::start();
    let own = emulator.ca_file().display().to_string();
    // Environment, conninfo, and the options that come out beside or instead of those that are always needed.
    let rows: &[(Pairs<'_>, &str, Pairs<'_>)] = &[
        (&[], "host=localhost user=a", &[("host", "localhost"), ("user", "a")]),
        (&[], "postgresql://a@localhost", &[("host", "localhost"), ("user", "a")]),
        (
            &[],
            "postgresql://a%40b@x.postgres.database.azure.com:6432/d%2Fb?application_name=&connect_timeout=5",
            &[
                ("host", "x.postgres.database.azure.com"),
                ("user", "a@b"),
                ("port", "6432"),
                ("dbname", "d/b"),
                ("application_name", ""),
                ("connect_timeout", "5"),
            ],
        ),
        (
            &[],
            r"host = localhost user='it\'s' dbname= 'a\'b\\c' options=-c\ a=b user = 'x y' keepalives=0",
            &[
                ("host", "localhost"),
                ("user", "x y"),
                ("dbname", r"a'b\c"),
                ("options", "-c a=b"),
                ("keepalives", "0"),
            ],
        ),
        // A password gives way, wherever it stands.
        (
            &[],
            "host=x.postgres.database.azure.com user=a password=b",
            &[("host", "x.postgres.database.azure.com"), ("user", "a")],
        ),
        // From the environment comes what was judged, and the user; not what matters to nobody's safety.
        (
            &[
                ("PGHOST", "localhost"),
                ("PGPORT", "6432"),
                ("PGHOSTADDR", "127.0.0.1"),
                ("PGUSER", "a"),
                ("PGSSLROOTCERT", &own),
                ("PGREQUIREPEER", "postgres"),
                ("PGSSLMODE", "require"),
                ("PGDATABASE", "db"),
                ("PGAPPNAME", "app"),
                ("PGCONNECT_TIMEOUT", "9"),
            ],
            "",
            &[
                ("host", "localhost"),
                ("port", "6432"),
                ("hostaddr", "127.0.0.1"),
                ("user", "a"),
                ("sslrootcert", &own),
                ("requirepeer", "postgres"),
                ("sslmode", "require"),
            ],
        ),
        // What the string says hides it, empty or not.
        (
            &[
                ("PGHOST", "elsewhere.example"),
                ("PGPORT", "6432"),
                ("PGUSER", "b"),
                ("PGHOSTADDR", "10.0.0.1"),
            ],
            "host=localhost port=7 user=a hostaddr=''",
            &[("host", "localhost"), ("port", "7"), ("user", "a")],
        ),
        (&[], "hostaddr=127.0.0.1 user=a", &[("host", ""), ("hostaddr", "127.0.0.1"), ("user", "a")]),
        (
            &[],
            "host=localhost,x.postgres.database.azure.com port=1,2 hostaddr=,10.0.0.1 user=a",
            &[
                ("host", "localhost,x.postgres.database.azure.com"),
                ("port", "1,2"),
                ("hostaddr", ",10.0.0.1"),
                ("user", "a"),
            ],
        ),
        (
            &[],
            "host=/run/pg requirepeer=postgres user=a",
            &[("host", "/run/pg"), ("requirepeer", "postgres"), ("user", "a")],
        ),
        (
            &[],
            "host=localhost user=a sslmode=prefer gssencmode=prefer channel_binding=prefer sslcompression=0",
            &[("host", "localhost"), ("user", "a"), ("channel_binding", "prefer"), ("sslcompression", "0")],
        ),
    ];
    for (environment, conninfo, wanted) in rows {
        let mut all = options(&NEEDED);
        all.insert("password".into(), "TOKEN".into());
        all.extend(options(wanted));
        let owned = |(name, value): &(&str, &str)| (name.to_string(), OsString::from(value));
        let driver = signed_in(&emulator).envs(environment.iter().map(owned));
        let lines = [driver.one(&["options", conninfo]), without_libpq(&driver, &[conninfo]).remove(0)];
        for line in lines {
            assert_eq!(line.status(), "PGAAD_OK", "{conninfo}: {line:?}");
            assert_eq!(without_token(&line), all, "{environment:?} {conninfo}");
        }
    }
}

#[test]
fn no_environment_leads_a_connstring_elsewhere() {
    let emulator = Emulator::start();
    let own = emulator.ca_file().display().to_string();
    // Fails at the very end of what libpq reads, so that nothing is contacted.
    let conninfo = "user=a target_session_attrs=nonsense";
    let deciding =
        ["host", "hostaddr", "port", "requirepeer", "sslmode", "sslrootcert", "gssencmode", "user"];
    let rows: &[Pairs<'_>] = &[
        &[("PGHOST", "localhost")],
        &[("PGHOST", "x.postgres.database.azure.com"), ("PGHOSTADDR", ""), ("PGPORT", "")],
        &[("PGHOST", "localhost"), ("PGHOSTADDR", "127.0.0.1"), ("PGPORT", "6432"), ("PGSSLROOTCERT", &own)],
        &[("PGHOST", "/run/pg"), ("PGREQUIREPEER", "postgres")],
        &[("PGHOSTADDR", "127.0.0.1"), ("PGSSLROOTCERT", "")],
    ];
    for row in rows {
        let mut session = signed_in(&emulator).session();
        for (name, value) in *row {
            session.ask(&["setenv", name, value]);
        }
        assert_eq!(session.one(&["connstring", conninfo]).status(), "PGAAD_OK", "{row:?}");
        let read = |session: &mut Session| {
            let line = session.one(&["pq", "@CONNSTRING"]);
            assert!(line.errmsg().contains("target_session_attrs"), "{line:?}");
            let effective = session.one(&["conninfo"]).options();
            deciding.map(|keyword| effective.get(keyword).cloned().unwrap_or_default())
        };
        let before = read(&mut session);
        for (name, value) in [
            ("PGHOST", "elsewhere.example"),
            ("PGHOSTADDR", "10.9.9.9"),
            ("PGPORT", "9"),
            ("PGSSLMODE", "disable"),
            ("PGSSLROOTCERT", "/elsewhere"),
            ("PGGSSENCMODE", "require"),
            ("PGREQUIREPEER", "nobody"),
            ("PGUSER", "somebody"),
        ] {
            session.ask(&["setenv", name, value]);
        }
        let after = read(&mut session);
        // An empty port is the default one, and who asks for an owner only asks for more.
        let normal = |mut values: [String; 8]| {
            if values[2].is_empty() {
                values[2] = "5432".into();
            }
            if before[3].is_empty() {
                values[3].clear();
            }
            values
        };
        assert_eq!(normal(after), normal(before.clone()), "{row:?}");
    }
}

#[test]
fn where_entra_is_off_the_options_come_out_as_they_went_in() {
    let emulator = Emulator::start();
    let off = signed_in(&emulator).env("PGAAD_AUTH", "off").env("PGPASSWORD", "x").env("PGPORT", "99");
    let conninfos = [
        "",
        "   ",
        "host=localhost user=a password='it\\'s \\\\ a \"secret\"' sslmode=disable",
        "postgresql://a:p%25w@h1:1,h2:2/db?sslmode=allow&application_name=%F0%9F%90%98",
        "host=a host=b user=u user='' dbname=''",
        "service=a host=b",
        "dbname=postgresql://not/expanded",
        "postgres://",
        "passfile=/x hostaddr=10.0.0.1 requirepeer=z channel_binding=require gssencmode=require",
        "requiressl=1",
        "user=\u{e9}\u{a0}\u{1f418} dbname='line\nbreak\tand tab'",
    ];
    for conninfo in &conninfos {
        let lines = off.run(&[&["options", conninfo], &["parse", conninfo]]);
        assert_eq!(lines[0].status(), "PGAAD_OK", "{lines:?}");
        assert_eq!(lines[0].options(), lines[1].options(), "{conninfo}");
        assert_eq!(without_libpq(&off, &[conninfo])[0].options(), lines[1].options(), "{conninfo}");
    }
    // So they do without any identity.
    let nobody = Driver::new();
    let with_password = "host=db.example user=a password=b sslmode=disable";
    let lines = nobody.run(&[&["options", with_password], &["parse", with_password], &["libpq"]]);
    assert_eq!(lines[0].options(), lines[1].options());
    assert_eq!(emulator.entra().counters().connections, 0);
}

#[test]
fn it_needs_no_libpq_and_then_reads_as_version_18_does() {
    let emulator = Emulator::start();
    let driver = signed_in(&emulator).env("PGUSER", "app-one");
    let lines =
        driver.clone().instead(program("no_libpq", &[])).run(&[&["host=localhost", "@NULL", "host='"]]);
    assert_eq!(lines[0].status(), "PGAAD_OK", "{lines:?}");
    assert_ne!(lines[0].get("length"), "0");
    let statuses: Vec<_> = lines[1..4].iter().map(Line::status).collect();
    assert_eq!(statuses, ["PGAAD_OK", "PGAAD_OK", "PGAAD_CONFIG"]);
    assert_eq!(lines[4].word(), "no");

    // 18 drops spaces around the parts of a URI; for those before, they are data.
    let off = driver.env("PGAAD_AUTH", "off");
    let spaced = "postgresql://a@ localhost /db";
    let trimmed = options(&[("user", "a"), ("host", "localhost"), ("dbname", "db")]);
    assert_eq!(without_libpq(&off, &[spaced])[0].options(), trimmed);
    let by_version =
        |version: &str| off.run(&[&["libpq_version", version], &["options", spaced]]).remove(1).options();
    assert_eq!(by_version("180000"), trimmed);
    assert_eq!(by_version("170099")["host"], " localhost ");
    // What is added is what 12 knows.
    let on = signed_in(&emulator).env("PGUSER", "app-one");
    let old = on.run(&[&["libpq_version", "120000"], &["options", "host=localhost"]]).remove(1);
    let mut all = options(&NEEDED);
    all.extend(options(&[("host", "localhost"), ("user", "app-one"), ("password", "TOKEN")]));
    assert_eq!(without_token(&old), all);
}

#[test]
fn unknown_keywords_are_passed_on_for_libpq_to_judge() {
    let emulator = Emulator::start();
    for (auth, token) in [("auto", true), ("off", false)] {
        let mut session = signed_in(&emulator).env("PGAAD_AUTH", auth).env("PGUSER", "a").session();
        for conninfo in ["host=localhost frobnicate=1", "postgresql://localhost/?frobnicate=1"] {
            let line = session.one(&["connstring", conninfo]);
            assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
            let text = line.get("connstring");
            assert!(text.contains("frobnicate='1'") && text.contains("eyJ") == token, "{line:?}");
            let line = session.one(&["parse", "@CONNSTRING"]);
            assert!(line.errmsg().contains("invalid connection option \"frobnicate\""), "{line:?}");
        }
    }
}

/// A file whose content is a conninfo that no argument could carry.
fn file(folder: &Path, name: &str, content: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("a file");
    format!("@file {}", path.display())
}

#[test]
fn bytes_that_are_no_text_are_passed_on_unchanged() {
    let emulator = Emulator::start();
    let folder = tempfile::tempdir().expect("a folder");
    let key_value = file(folder.path(), "kv", b"host=localhost user=\xff\xfe'a application_name='\x80 \xc3'");
    let uri = file(folder.path(), "uri", b"postgresql://%FF%FE'a@localhost/?application_name=%80%20\xc3");
    for auth in ["auto", "off"] {
        let mut session = signed_in(&emulator).env("PGAAD_AUTH", auth).session();
        for conninfo in [&key_value, &uri] {
            let line = session.one(&["options", conninfo]);
            assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
            assert_eq!(
                (line.get("user"), line.get("application_name")),
                ("%FF%FE%27a", "%80%20%C3"),
                "{line:?}"
            );
            assert_eq!(line.options().contains_key("password"), auth == "auto");
        }
    }
    // So they are in a name of the environment's, and where there is no libpq.
    let user = OsStr::from_bytes(b"\xff\xfe'a");
    let driver = signed_in(&emulator).env("PGUSER", user);
    let line = driver.one(&["options", "host=localhost"]);
    assert_eq!(line.get("user"), "%FF%FE%27a", "{line:?}");
    let bytes = OsStr::from_bytes(b"host=localhost dbname=\xff\xfe");
    let line = without_libpq_of_bytes(&driver, &[bytes]).remove(0);
    assert_eq!((line.get("user"), line.get("dbname")), ("%FF%FE%27a", "%FF%FE"), "{line:?}");
}

#[test]
fn five_megabytes_are_read_like_five_bytes() {
    let emulator = Emulator::start();
    let folder = tempfile::tempdir().expect("a folder");
    const SIZE: usize = 5 << 20;
    let long = "x' \\".repeat(SIZE / 4);
    let quoted = long.replace('\\', r"\\").replace('\'', r"\'");
    let written = file(folder.path(), "long", format!("host=localhost dbname='{quoted}'").as_bytes());
    let percent = format!("postgresql://localhost/{}", "%41".repeat(SIZE / 3));
    let percent = file(folder.path(), "percent", percent.as_bytes());
    let repeated = file(folder.path(), "repeated", "host=localhost ".repeat(SIZE / 15).as_bytes());
    for auth in ["auto", "off"] {
        let mut session = signed_in(&emulator).env("PGAAD_AUTH", auth).env("PGUSER", "a").session();
        for (conninfo, dbname) in
            [(&written, Some(long.clone())), (&percent, Some("A".repeat(SIZE / 3))), (&repeated, None)]
        {
            let line = session.one(&["options", conninfo]);
            assert_eq!(line.status(), "PGAAD_OK");
            let options = line.options();
            assert_eq!(options["host"], "localhost");
            assert!(options.get("dbname") == dbname.as_ref(), "{auth} {conninfo}");
            assert_eq!(options.contains_key("password"), auth == "auto");
        }
    }
    let mut session = signed_in(&emulator).env("PGUSER", "a").session();
    for (name, content) in [
        ("unterminated", format!("host=localhost password='{}", "hunter2".repeat(SIZE / 7))),
        ("no-equals", "hunter2".repeat(SIZE / 7)),
        ("no-bracket", format!("postgresql://[{}", "hunter2".repeat(SIZE / 7))),
        ("many", (0..SIZE / 14).map(|n| format!("hunter{n}=1 ")).collect()),
        ("slashes", format!("postgresql://{}", "/hunter2?".repeat(SIZE / 9))),
    ] {
        let line = session.one(&["options", &file(folder.path(), name, content.as_bytes())]);
        assert_eq!(line.status(), "PGAAD_CONFIG", "{name}");
        assert!(line.errmsg().len() < 2000 && !line.errmsg().contains("hunter"), "{name}: {line:?}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_without_showing_a_secret() {
    let emulator = Emulator::start();
    let driver = signed_in(&emulator).env("PGUSER", "a");
    let conninfos = [
        "host=localhost password='hunter2",
        "host=localhost password=hunter2 'hunter2'",
        "host=localhost password=not hunter2 at all",
        "host=localhost password= 'a'hunter2",
        "host=localhost password='a''hunter2'",
        "hunter2",
        "host=localhost hunter2-x=1",
        "postgresql://a:%hunter2@localhost/",
        "postgresql://a:hunter2%@localhost/",
        "postgresql://a:hunter2%00@localhost/",
        "postgresql://a:hun/ter2@localhost?hunter2",
        "postgresql://localhost/?password=hunter2=hunter2",
        "postgresql://localhost/?hunter2",
        "postgresql://localhost/?hunter%32%20=1",
        "postgresql://a:hunter2@[::1/",
        "postgresql://a:hunter2@[]/",
        "postgresql://a:b@[::1]hunter2/",
        "postgresql://localhost/?password=hun ter2",
    ];
    let mut session = driver.env("PGAAD_LOG", "debug").session_with_stderr();
    session.ask(&["libpq_version", "180000"]);
    for conninfo in conninfos {
        let line = session.one(&["connstring", conninfo]);
        assert_eq!(line.status(), "PGAAD_CONFIG", "{conninfo}: {line:?}");
        assert!(line.errmsg().starts_with("pgaad: ") && line.errmsg().len() > 20, "{line:?}");
        assert!(!line.errmsg().contains("hunter2") && !line.errmsg().contains("ter2"), "{line:?}");
    }
    let mut log = String::new();
    let mut stderr = session.stderr().expect("its standard error");
    drop(session);
    std::io::Read::read_to_string(&mut stderr, &mut log).expect("text");
    assert!(!log.contains("ter2"), "{log}");
    assert_eq!(emulator.entra().counters().connections, 0);
}

/// What it makes of services: where libpq is at hand, and where there is none.
#[track_caller]
fn with_and_without_libpq(driver: &Driver, conninfo: &str) -> [(String, Options, String); 2] {
    let here = driver.one(&["options", conninfo]);
    let alone = driver.clone().instead(program("no_libpq", &[])).run(&[&[conninfo]]);
    let alone = &alone[1];
    let text = String::from_utf8(alone.bytes("encoded")).expect("text");
    let parsed = driver.one(&["parse", &text]);
    [
        (here.status().into(), here.options(), here.errmsg().into()),
        (alone.status().into(), parsed.options(), alone.errmsg().into()),
    ]
}

#[test]
fn services_are_found_where_libpq_finds_them_with_or_without_one() {
    let emulator = Emulator::start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let service = |port: &str| {
        format!("# ours\n[other]\nhost=stranger.example\n\n[mine]\nhost=localhost\nport={port}\nuser=a\n")
    };
    for (name, port) in [("named", "1"), (".pg_service.conf", "2"), ("pg_service.conf", "3")] {
        std::fs::write(path(name), service(port)).expect("a file");
    }
    let home = || signed_in(&emulator).env("HOME", folder.path());
    for (driver, conninfo, port) in [
        (home().env("PGSERVICEFILE", path("named")), "service=mine", "1"),
        (home().env("PGSERVICEFILE", path("named")).env("PGSERVICE", "mine"), "", "1"),
        (home(), "service=mine", "2"),
        (home(), "postgresql:///?service=mine", "2"),
        (signed_in(&emulator).env("PGSYSCONFDIR", folder.path()), "service=mine", "3"),
        // What is given goes before it.
        (home(), "service=mine port=4", "4"),
        (home().env("PGPORT", "5"), "service=mine", "2"),
    ] {
        for (status, options, errmsg) in with_and_without_libpq(&driver, conninfo) {
            assert_eq!(status, "PGAAD_OK", "{conninfo}: {errmsg}");
            let seen = ["host", "port", "user", "sslmode"].map(|keyword| options[keyword].as_str());
            assert_eq!(seen, ["localhost", port, "a", "verify-full"], "{conninfo}");
            assert!(options["password"].starts_with("eyJ"));
        }
    }
}

#[test]
fn a_service_decides_as_if_its_options_had_been_given() {
    let emulator = Emulator::start();
    let folder = tempfile::tempdir().expect("a folder");
    let services = folder.path().join("services");
    let text = "[laptop]\nhost=localhost\nuser=a\npassword=p\n[stranger]\nhost=evil.example\nuser=a\n\
                [plain]\nhost=localhost\nuser=a\nsslmode=disable\n[broken]\nhost\n[nested]\nservice=laptop\n";
    std::fs::write(&services, text).expect("a file");
    let driver = signed_in(&emulator).env("PGSERVICEFILE", &services);
    for (service, status, part) in [
        ("laptop", "PGAAD_OK", ""),
        ("stranger", "PGAAD_INSECURE", "evil.example"),
        ("plain", "PGAAD_INSECURE", "sslmode"),
        ("missing", "PGAAD_CONFIG", "\"missing\" not found"),
        ("broken", "PGAAD_CONFIG", "services, line 13"),
        ("nested", "PGAAD_CONFIG", "nested"),
    ] {
        for (got, written, errmsg) in with_and_without_libpq(&driver, &format!("service={service}")) {
            assert_eq!(got, status, "{service}: {errmsg}");
            assert!(errmsg.contains(part), "{service}: {errmsg}");
            if status == "PGAAD_OK" {
                assert_eq!(written, options(&[("service", service)]), "a password is at hand");
            }
        }
    }
    // Without Entra it is libpq's to complain of.
    let off = driver.env("PGAAD_AUTH", "off");
    for (status, written, _) in with_and_without_libpq(&off, "service=missing") {
        assert_eq!((status.as_str(), &written), ("PGAAD_OK", &options(&[("service", "missing")])));
    }
    // Each program without libpq gets a token beside; the last may not.
    assert_eq!(emulator.entra().counters().tokens, 6);
}

#[test]
fn without_libpq_a_service_file_is_named_as_in_version_19() {
    let emulator = Emulator::start();
    let folder = tempfile::tempdir().expect("a folder");
    let services = folder.path().join("services");
    std::fs::write(&services, "[mine]\nhost=localhost\nport=7\nuser=a\n").expect("a file");
    let given = conninfo(&[("service", "mine"), ("servicefile", services.to_str().expect("text"))]);
    let lines = signed_in(&emulator).instead(program("no_libpq", &[])).run(&[&[&given]]);
    assert_eq!(lines[1].status(), "PGAAD_OK", "{lines:?}");
    let text = String::from_utf8(lines[1].bytes("encoded")).expect("text");
    assert!(text.contains("host='localhost'") && text.contains("port='7'"), "{text}");
}

#[test]
fn a_password_of_the_passfile_counts_with_or_without_libpq() {
    let emulator = Emulator::start();
    let folder = tempfile::tempdir().expect("a folder");
    let passfile = folder.path().join(".pgpass");
    let write = |mode: u32| {
        std::fs::write(&passfile, "localhost:*:*:a:from the file\n").expect("a file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&passfile, mode).expect("our own file");
    };
    let driver = signed_in(&emulator).env("HOME", folder.path());
    // For another user there is none; and one that others may read is no passfile.
    for (conninfo, mode, is_on) in [
        ("host=localhost user=a", 0o600, false),
        ("host=localhost user=b", 0o600, true),
        ("host=localhost user=a", 0o640, true),
    ] {
        write(mode);
        for (status, options, errmsg) in with_and_without_libpq(&driver, conninfo) {
            assert_eq!(status, "PGAAD_OK", "{errmsg}");
            assert_eq!(options.contains_key("password"), is_on, "{conninfo} {mode:o}");
        }
    }
}

/// An environment of the original backend's.
fn original(emulator: &Emulator) -> Driver {
    Driver::new()
        .env("PGAAD_AUTHORITY_HOST", emulator.authority())
        .env("PGAAD_CA_FILE", emulator.ca_file())
        .env("DB_SP_TENANT_ID", APP_ONE.tenant.id)
        .env("DB_SP_CLIENT_ID", APP_ONE.client_id)
        .env("DB_SP_CLIENT_SECRET", APP_ONE.secret)
        .env("DB_HOST", "db.postgres.database.azure.com")
        .env("DB_PORT", "6432")
        .env("DB_NAME", "theirs")
        .env("DB_USERNAME", "app-one")
}

#[test]
fn the_originals_variables_name_the_server_where_nothing_else_does() {
    let emulator = Emulator::start();
    let all = ["db.postgres.database.azure.com", "6432", "theirs", "app-one"];
    let none = ["", "", "", ""];
    let rows: &[(Pairs<'_>, &str, &str, [&str; 4])] = &[
        (&[], "", "token", all),
        (&[], "connect_timeout=5", "token", all),
        (&[("DB_HOST", "localhost")], "", "token", ["localhost", "6432", "theirs", "app-one"]),
        (&[("DB_PORT", ""), ("DB_NAME", "")], "", "token", [all[0], "5432", "", all[3]]),
        // What is given is not replaced, wherever it is given.
        (&[], "port=1 dbname=a user=b", "token", [all[0], "1", "a", "b"]),
        (&[], "postgresql://b@:1/a", "token", [all[0], "1", "a", "b"]),
        (&[("PGPORT", "1"), ("PGUSER", "b")], "", "token", [all[0], "1", all[2], "b"]),
        (&[("PGHOST", "")], "", "token", all),
        // A host that is named elsewhere ends it, for all four.
        (&[], "host=localhost", "PGAAD_CONFIG", none),
        (&[("PGHOST", "localhost")], "", "PGAAD_CONFIG", none),
        (&[("PGHOSTADDR", "127.0.0.1")], "", "PGAAD_CONFIG", none),
        (&[], "hostaddr=127.0.0.1", "PGAAD_CONFIG", none),
        (&[], "host=localhost user=b", "token", ["localhost", "5432", "", "b"]),
        // One of the DB_SP_* is enough to be asked, and one is needed.
        (
            &[
                ("DB_SP_CLIENT_SECRET", ""),
                ("DB_SP_CLIENT_ID", ""),
                ("PGAAD_CLIENT_ID", APP_ONE.client_id),
                ("PGAAD_CLIENT_SECRET", APP_ONE.secret),
            ],
            "",
            "token",
            all,
        ),
        (
            &[("DB_SP_TENANT_ID", ""), ("DB_SP_CLIENT_SECRET", ""), ("DB_SP_CLIENT_ID", "")],
            "",
            "nothing",
            none,
        ),
        (&[("DB_HOST", "")], "", "nothing", none),
        // Without Entra they count as well.
        (&[("PGAAD_AUTH", "off")], "", "nothing", all),
        (
            &[("DB_HOST", "db.example"), ("PGPASSWORD", "x")],
            "",
            "nothing",
            ["db.example", all[1], all[2], all[3]],
        ),
        (&[("DB_HOST", "db.example")], "", "PGAAD_INSECURE", none),
        (&[("DB_HOST", "/run/pg")], "", "nothing", ["/run/pg", all[1], all[2], all[3]]),
        (&[("DB_HOST", "db.postgres.database.azure.com,db.example")], "", "PGAAD_INSECURE", none),
    ];
    for (environment, conninfo, wanted, values) in rows {
        let owned = |(name, value): &(&str, &str)| (name.to_string(), OsString::from(value));
        let driver = original(&emulator).envs(environment.iter().map(owned));
        for line in [driver.one(&["options", conninfo]), without_libpq(&driver, &[conninfo]).remove(0)] {
            let options = without_token(&line);
            let got = match (line.status(), options.get("password").map(String::as_str)) {
                ("PGAAD_OK", Some("TOKEN")) => "token",
                ("PGAAD_OK", None) => "nothing",
                (status, _) => status,
            };
            assert_eq!(got, *wanted, "{environment:?} {conninfo}: {line:?}");
            let names = ["host", "port", "dbname", "user"];
            let got = names.map(|name| options.get(name).map_or("", String::as_str));
            assert_eq!(got, *values, "{environment:?} {conninfo}: {line:?}");
        }
    }
    // They are no rule of any other family's.
    let azure = original(&emulator)
        .without("DB_SP_TENANT_ID")
        .without("DB_SP_CLIENT_ID")
        .without("DB_SP_CLIENT_SECRET")
        .env("AZURE_TENANT_ID", APP_ONE.tenant.id)
        .env("AZURE_CLIENT_ID", APP_ONE.client_id)
        .env("AZURE_CLIENT_SECRET", APP_ONE.secret);
    assert_eq!(azure.one(&["options", ""]).options(), Options::new());
}

#[test]
fn the_originals_variables_sign_in_as_they_did() {
    let ground = ground();
    let port = ground.postgres.port().to_string();
    let driver = original(&ground.emulator)
        .env("DB_HOST", "localhost")
        .env("DB_PORT", &port)
        .env("DB_NAME", "postgres")
        .env("PGSSLROOTCERT", ground.postgres.ca_file());
    const WHO: &[&str] = &["query", "select current_user || ' ' || current_database()"];
    for command in [&["connect", ""][..], &["params", "0"], &["params", "1", "dbname", "connect_timeout=9"]] {
        let lines = driver.run(&[command, WHO]);
        assert_eq!(lines[0].get("conn"), "OK", "{lines:?}");
        assert_eq!(lines[1].get("value"), "app-one postgres");
    }
    // Without Entra too; and not where a service or PGHOST names the server.
    let laptop = driver
        .clone()
        .env("PGAAD_AUTH", "off")
        .env("DB_USERNAME", LAPTOP_ROLE)
        .env("PGPASSWORD", LAPTOP_PASSWORD);
    let lines = laptop.run(&[&["connect", ""], WHO]);
    assert_eq!(lines[1].get("value"), "laptop postgres", "{lines:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let services = folder.path().join("services");
    let service = format!("[mine]\nhost=localhost\nport={port}\nuser=app-one\ndbname=template1\n");
    std::fs::write(&services, service).expect("a file");
    let elsewhere = driver.env("DB_HOST", "db.example").env("PGSERVICEFILE", &services);
    let lines = elsewhere.run(&[&["connect", "service=mine"], WHO]);
    assert_eq!(lines[1].get("value"), "app-one template1", "{lines:?}");
    let line = elsewhere.one(&["connect", ""]);
    assert_eq!((line.status(), line.get("conn")), ("PGAAD_INSECURE", "BAD"), "{line:?}");
}

#[test]
fn without_a_user_the_message_says_what_to_set() {
    let emulator = Emulator::start();
    let driver = signed_in(&emulator).env("DB_USERNAME", "app-one"); // sees no rule without DB_SP_*
    for conninfo in ["host=localhost", "host=x.postgres.database.azure.com", "host=localhost user=''"] {
        let lines = [
            driver.one(&["options", conninfo]),
            driver.one(&["connect", conninfo]),
            without_libpq(&driver, &[conninfo]).remove(0),
        ];
        for line in lines {
            assert_eq!(line.status(), "PGAAD_CONFIG", "{line:?}");
            for name in ["user", "PGUSER", "role"] {
                assert!(line.errmsg().contains(name), "{name}: {line:?}");
            }
        }
    }
    // without_libpq fetched tokens; a connection string that cannot be used asks for none.
    let tokens = emulator.entra().counters().tokens;
    assert_eq!(driver.one(&["options", "host=localhost"]).status(), "PGAAD_CONFIG");
    assert_eq!(emulator.entra().counters().tokens, tokens);
    let line = driver.clone().env("PGUSER", "by variable").one(&["options", "host=localhost"]);
    assert_eq!(line.options()["user"], "by variable");
    let line = driver.env("PGUSER", "by variable").one(&["options", "host=localhost user=given"]);
    assert_eq!(line.options()["user"], "given");
}

#[test]
fn nothing_is_the_environment_alone() {
    let emulator = Emulator::start();
    let driver = signed_in(&emulator).env("PGHOST", "localhost").env("PGUSER", "app-one");
    let mut all = options(&NEEDED);
    all.extend(options(&[("host", "localhost"), ("user", "app-one"), ("password", "TOKEN")]));
    for conninfo in ["@NULL", "", "  ", "postgresql://"] {
        assert_eq!(without_token(&driver.one(&["options", conninfo])), all, "{conninfo:?}");
        assert_eq!(without_token(&without_libpq(&driver, &[conninfo])[0]), all, "{conninfo:?}");
    }
    let lines = driver.run(&[&["default"], &["client_options", "@NULL"]]);
    assert_eq!(without_token(&lines[1]), all);
}
