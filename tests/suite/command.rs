//! The program `pgaad`: tokens, settings and the cache, for people and for shells. `exec` and `passfile` have files of
//! their own.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::Duration;

use emulator::{APP_ONE, DEVELOPER, Emulator, Endpoint, Fault, IDENTITY_ONE, Imds, Tool};
use serde_json::Value;

use crate::harness::{self, ClosedPort, Driver, each, ground, signed_in, unix_now};

/// Runs `pgaad` in the driver's environment.
fn pgaad(driver: &Driver, arguments: &[&str]) -> Output {
    driver.clone().instead(harness::command().to_owned()).output(&[arguments])
}

/// Exit code, standard output and standard error.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What it prints; it must end well, and say nothing else.
#[track_caller]
fn prints(driver: &Driver, arguments: &[&str]) -> String {
    let (code, out, err) = said(&pgaad(driver, arguments));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}: {out}");
    out
}

/// The message of a command that fails with this exit code, and prints nothing.
#[track_caller]
fn fails(driver: &Driver, arguments: &[&str], status: i32) -> String {
    let (code, out, err) = said(&pgaad(driver, arguments));
    assert_eq!((code, out.as_str()), (Some(status), ""), "{arguments:?}: {err}");
    assert!(err.starts_with("pgaad: ") && err.lines().count() == 1, "{err}");
    err
}

#[test]
fn a_token_is_printed_as_it_is() {
    let emulator = Emulator::start();
    let driver = signed_in(&emulator);
    let out = prints(&driver, &["token"]);
    assert_eq!(out, format!("{}\n", emulator.entra().tokens()[0]));

    let about: Value = serde_json::from_str(&prints(&driver, &["token", "--json"])).expect("JSON");
    let token = &emulator.entra().tokens()[1];
    assert_eq!(about["token"], token.as_str());
    assert_eq!(about["origin"], "entra");
    assert_eq!(about["scope"], "https://ossrdbms-aad.database.windows.net/.default");
    let end = emulator::claims(token).expect("a token")["exp"].as_i64().expect("a time");
    assert!((about["expires_on"].as_i64().expect("a time") - end).abs() <= 2, "{}", about["expires_on"]);
}

#[test]
fn settings_of_the_command_line_go_before_the_environments() {
    let emulator = Emulator::start();
    let message = fails(&signed_in(&emulator), &["--settings", "auth=off", "token"], 3);
    assert!(message.contains("auth=off"), "{message}");
    // Behind the command as well.
    fails(&signed_in(&emulator), &["token", "--settings=auth=off"], 3);
    let message = fails(&signed_in(&emulator), &["token", "--settings", "clientid=x"], 2);
    assert_eq!(message, "pgaad: Unknown setting \"clientid\": did you mean client_id?\n");
    assert_eq!(emulator.entra().requests().len(), 0);
}

#[test]
fn each_status_is_its_exit_code() {
    let closed = ClosedPort::new();
    let unreachable = format!("https://{}", closed.address());
    let one = |fault: Fault| move |emulator: &Emulator| emulator.entra().faults().always(fault.clone());
    let none = |_: &Emulator| {};
    type Prepare<'a> = Box<dyn Fn(&Emulator) + Sync + 'a>;
    type Row<'a> = (&'a [&'a str], (&'a str, &'a str), Prepare<'a>, i32, &'a str);
    let rows: Vec<Row<'_>> = vec![
        (&["token"], ("PGAAD_CLIENT_ID", "\u{1}"), Box::new(none), 2, "PGAAD_CLIENT_ID must be a GUID"),
        (&["token"], ("PGAAD_AUTH", "off"), Box::new(none), 3, "auth=off"),
        (&["token"], ("PGAAD_AUTH", "azure_cli"), Box::new(none), 4, "az"),
        (&["token"], ("PGAAD_CLIENT_SECRET", "wrong"), Box::new(none), 5, "AADSTS7000215"),
        (
            &["token"],
            ("PGAAD_TIMEOUT_MS", "900"),
            Box::new(one(Fault::status(429, "throttled", 90055).retry_after(60))),
            6,
            "60",
        ),
        (&["token"], ("PGAAD_AUTHORITY_HOST", &unreachable), Box::new(none), 7, "127.0.0.1"),
        (&["token"], ("PGAAD_TIMEOUT_MS", "300"), Box::new(one(Fault::hang())), 8, "PGAAD_TIMEOUT_MS"),
        (&["token"], ("X", ""), Box::new(one(Fault::garbage_json())), 9, ""),
        (&["connstring", "host=db.example.com"], ("X", ""), Box::new(none), 10, "server_hosts"),
        (&["user"], ("X", ""), Box::new(none), 2, "or PGUSER, to the role"),
        (&["user"], ("PGUSER", "x"), Box::new(none), 2, "take the one in PGUSER"),
    ];
    each(&rows, |(arguments, (name, value), prepare, status, part)| {
        let emulator = Emulator::start();
        prepare(&emulator);
        let message = fails(&signed_in(&emulator).env(*name, value), arguments, *status);
        assert!(message.contains(part), "{message}");
        assert!(!message.contains(APP_ONE.secret), "{message}");
    });
}

#[test]
fn text_that_is_no_utf8_is_refused() {
    let driver = Driver::new().env("PGAAD_CLIENT_ID", OsStr::from_bytes(b"\xff"));
    assert!(fails(&driver, &["token"], 1).contains("PGAAD_CLIENT_ID"));
}

#[test]
fn the_user_is_the_one_that_the_token_names() {
    let emulator = &ground().emulator;
    let driver = Driver::new().env("PGAAD_CA_FILE", emulator.ca_file());
    let az = Tool::az(emulator);
    let by_az = driver.clone().env("PATH", az.dir()).env("PGAAD_AUTH", "azure_cli");
    assert_eq!(prints(&by_az, &["user"]), format!("{}\n", DEVELOPER.role));
    let imds = Endpoint::start(emulator, Imds);
    let on_machine = driver
        .envs(imds.env())
        .env("PGAAD_AUTH", "managed_identity")
        .env("PGAAD_CLIENT_ID", IDENTITY_ONE.client_id);
    assert_eq!(prints(&on_machine, &["user"]), format!("{}\n", IDENTITY_ONE.role));
}

#[test]
fn psql_takes_the_connection_string() {
    let ground = ground();
    let driver = ground.driver(&APP_ONE);
    let connstring = prints(&driver, &["connstring", r"application_name='it\'s'"]);
    let bare = Driver::new().env("PGDATABASE", "postgres").instead("/usr/bin/psql".into());
    let query = "select current_user || ' ' || current_setting('application_name')";
    let output = bare.output(&[&["-XAtc", query, "-d", connstring.trim_end()]]);
    assert_eq!(said(&output), (Some(0), format!("{} it's\n", APP_ONE.role), String::new()));
    // Without an argument, and with bytes that are no UTF-8.
    assert!(prints(&driver, &["connstring"]).contains("sslmode='verify-full'"));
    let latin = driver.instead(harness::command().to_owned());
    let line = &latin.run_bytes(&[OsStr::new("connstring"), OsStr::from_bytes(b"application_name=\xe9")])[0];
    assert!(line.0.contains("application_name='\u{fffd}'"), "{line:?}");
}

#[test]
fn what_is_mistyped_is_named_with_what_was_meant() {
    for (arguments, message) in [
        (&["tokn"][..], "Unknown command tokn: did you mean token?"),
        (&["passfile", "--formt", "pgpass"], "Unknown option --formt: did you mean --format?"),
        (&["settings", "--jsn"], "Unknown option --jsn: did you mean --json?"),
        (&["exec", "--conninf=x", "--", "true"], "Unknown option --conninf: did you mean --conninfo?"),
        (&["exec", "--password-evn", "true"], "Unknown option --password-evn: did you mean --password-env?"),
        (&["cache", "claer"], "Unknown command claer: did you mean clear?"),
        (&["token", "--zzzz"], "Unknown option --zzzz. See pgaad token --help."),
        (&["token", "hunter2"], "An argument too many. See pgaad token --help."),
        (&[], "A command is missing. See pgaad --help."),
        (&["cache"], "A command is missing. See pgaad cache --help."),
        (&["exec"], "PROGRAM is missing. See pgaad exec --help."),
        (&["passfile", "f"], "--conninfo is missing. See pgaad passfile --help."),
        (&["passfile", "f", "--conninfo"], "--conninfo needs a value. See pgaad passfile --help."),
        (
            &["passfile", "f", "--conninfo", "x", "--format", "pgpas"],
            "--format takes one of pgpass, userlist: did you mean pgpass?",
        ),
        (&["completion", "ksh88"], "SHELL takes one of bash, zsh, fish. See pgaad completion --help."),
        (
            &["token", "--settings", "a=1", "--settings", "b=2"],
            "--settings was given twice. See pgaad token --help.",
        ),
    ] {
        assert_eq!(fails(&Driver::new(), arguments, 2), format!("pgaad: {message}\n"), "{arguments:?}");
    }
}

#[test]
fn help_and_version_are_asked_for() {
    assert!(prints(&Driver::new(), &["help", "exec"]).contains("--password-env"));
    for command in ["token", "user", "connstring", "exec", "passfile", "cache", "settings", "completion"] {
        assert!(prints(&Driver::new(), &["--help"]).contains(&format!("\n  {command} ")), "{command}");
        assert!(prints(&Driver::new(), &[command, "--help"]).contains("Usage: pgaad "), "{command}");
    }
    assert_eq!(prints(&Driver::new(), &["--version"]), format!("pgaad {}\n", env!("CARGO_PKG_VERSION")));
}

/// The rows of the table: value and origin by key.
fn table(out: &str) -> std::collections::BTreeMap<String, (String, String)> {
    let rows = out.lines().skip(1).take_while(|line| !line.is_empty());
    let cells = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        let mut next = || words.next().unwrap_or_default();
        (next(), (next(), next()))
    };
    rows.map(cells).collect()
}

#[test]
fn settings_are_shown_with_where_they_came_from() {
    let driver = Driver::new()
        .env("PGAAD_TENANT_ID", "11111111-2222-3333-4444-555555555555")
        .env("AZURE_TENANT_ID", "contoso.com")
        .env("DB_SP_CLIENT_ID", "aaaaaaaa-0000-0000-0000-000000000001")
        .env("DB_SP_CLIENT_SECRET", "hunter2")
        .env("PGAAD_CLIENT_CERTIFICATE_PASSWORD", "hunter2")
        .env("PGAAD_CACHE", "redis://user:hunter2@cache.example:6379")
        .env("PGAAD_CACHE_KEY", "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnRlcjI=")
        .env("HTTPS_PROXY", "http://me:hunter2@proxy.example:3128")
        .env("PGAAD_LOG", "");
    let out = prints(&driver, &["settings", "--settings", "refresh_before_minutes=7"]);
    let rows = table(&out);
    let expected = [
        ("auth", "auto", "default"),
        ("tenant_id", "11111111-2222-3333-4444-555555555555", "PGAAD_TENANT_ID"),
        ("client_id", "aaaaaaaa-0000-0000-0000-000000000001", "DB_SP_CLIENT_ID"),
        ("client_secret", "set", "DB_SP_CLIENT_SECRET"),
        ("client_certificate_password", "set", "PGAAD_CLIENT_CERTIFICATE_PASSWORD"),
        ("object_id", "-", ""),
        ("authority_host", "https://login.microsoftonline.com", "default"),
        ("cache", "redis://...@cache.example:6379", "PGAAD_CACHE"),
        ("cache_key", "set", "PGAAD_CACHE_KEY"),
        ("proxy", "http://...@proxy.example:3128", "HTTPS_PROXY"),
        ("refresh_before_minutes", "7", "settings"),
        ("timeout_ms", "30000", "default"),
        ("log", "off", "default"),
    ];
    for (key, value, origin) in expected {
        assert_eq!(rows.get(key), Some(&(value.to_owned(), origin.to_owned())), "{key}");
    }
    assert!(!out.contains("hunter2") && !out.contains("aHVud"), "{out}");

    let json = prints(&driver, &["settings", "--json", "--settings", "refresh_before_minutes=7"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["settings"].as_object().expect("an object").len(), rows.len());
    assert!(json["settings"]["object_id"]["value"].is_null());
    for (key, value, origin) in expected.iter().filter(|row| row.0 != "object_id") {
        let row = &json["settings"][key];
        assert_eq!((row["value"].as_str(), row["origin"].as_str()), (Some(*value), Some(*origin)), "{key}");
    }
    assert_eq!(json["credential"], "client_secret");
    assert!(!json.to_string().contains("hunter2"));
}

#[test]
fn every_setting_of_the_readme_is_shown() {
    let rows = table(&prints(&Driver::new(), &["settings"]));
    let readme = include_str!("../../README.md");
    let named = rows.keys().filter(|key| !readme.contains(&format!("`{key}`"))).collect::<Vec<_>>();
    assert!(rows.len() > 25 && named.is_empty(), "{named:?} of {rows:?}");
}

/// What decides: whose settings they are, the connection, and the rule's words; None: refused.
const RULES: &[(&str, &str, Option<bool>, &str)] = &[
    ("auth=off", "host=a.postgres.database.azure.com", Some(false), "auth=off"),
    ("auth=azure_cli", "host=localhost password=x", Some(true), "auth names a credential"),
    ("own", "host=a.postgres.database.azure.com password=x", Some(true), "an Azure server, and settings"),
    ("none", "host=a.postgres.database.azure.com", Some(true), "an Azure server, and no password"),
    (
        "none",
        "host=a.postgres.database.azure.com password=x",
        Some(false),
        "a password is at hand, and no settings",
    ),
    ("own", "host=localhost", Some(true), "a server on this machine, settings name"),
    ("own", "host=localhost password=x", Some(false), "a server on this machine, and a password"),
    ("none", "host=localhost", Some(false), "a server on this machine, and no settings"),
    ("own", "host=/tmp", Some(false), "a Unix socket that neither"),
    ("own", "host=/tmp requirepeer=postgres", Some(true), "a server on this machine, settings name"),
    ("own", "", Some(false), "no host is named"),
    ("server_hosts=*", "host=db.example.com", Some(true), "server_hosts=*, and no password"),
    ("own", "host=db.example.com password=x", Some(false), "not one of Azure's servers, and a password"),
    ("none", "host=db.example.com", Some(false), "not one of Azure's servers, and no settings"),
    ("own", "host=db.example.com", None, "name it in server_hosts"),
    ("own", "host=localhost,a.postgres.database.azure.com", Some(true), "several servers, each of which"),
    ("own", "host=localhost,b.example password=x", Some(false), "several servers, and a password"),
    ("none", "host=localhost,b.example", Some(false), "several servers, none of them Azure's"),
    ("none", "host=b.example,a.postgres.database.azure.com", None, "of which some are Azure's"),
    ("own", "host=localhost sslmode=disable", None, "sslmode=disable"),
    ("own", "nonsense", None, "connection string cannot be read"),
];

#[test]
fn the_rule_for_a_connection_is_said() {
    let own = "tenant_id=11111111-2222-3333-4444-555555555555 client_id=aaaaaaaa-0000-0000-0000-000000000001 \
               client_secret=hunter2";
    each(RULES, |&(settings, conninfo, on, words)| {
        let settings = match settings {
            "own" => own.to_owned(),
            "none" => String::new(),
            "server_hosts=*" => format!("{own} server_hosts=*"),
            given => given.to_owned(),
        };
        let driver = Driver::new().env("PATH", "/nonexistent");
        let (code, out, err) = said(&pgaad(&driver, &["settings", "--settings", &settings, conninfo]));
        let (_, json, _) = said(&pgaad(&driver, &["settings", "--json", "--settings", &settings, conninfo]));
        let json: Value = serde_json::from_str(&json).expect("JSON");
        let entra = &json["connection"]["entra"];
        let Some(on) = on else {
            assert!(matches!(code, Some(2 | 10)) && err.contains(words), "{conninfo}: {code:?} {err}");
            assert!(entra.is_null() && json["connection"]["error"].as_str().expect("text").contains(words));
            return;
        };
        let line = out.lines().find(|line| line.starts_with("Entra ")).expect("a line");
        let state = if on { " on: " } else { " off: " };
        assert!(line.contains(state) && line.contains(words), "{conninfo}: {line}");
        assert_eq!(entra, on, "{conninfo}");
        assert!(json["connection"]["rule"].as_str().expect("text").contains(words), "{conninfo}: {json}");
        if on {
            // az is not there.
            let wanted = if settings == "auth=azure_cli" { Some(4) } else { Some(0) };
            assert!(code == Some(0) || code == wanted, "{conninfo}: {code:?} {err}");
            assert!(out.contains("\nhost ") && !out.contains("hunter2"), "{out}");
        } else {
            assert_eq!((code, err.as_str()), (Some(0), ""), "{conninfo}");
        }
    });
}

#[test]
fn a_password_is_not_shown_but_a_token_is_none() {
    let dir = tempfile::tempdir().expect("a folder");
    let passfile = dir.path().join("pgpass");
    let driver = ground().driver(&APP_ONE).env("PGPASSFILE", &passfile);
    let write = |password: &str| {
        std::fs::write(&passfile, format!("*:*:*:*:{password}\n")).expect("written");
        std::fs::set_permissions(&passfile, Permissions::from_mode(0o600)).expect("its mode");
    };
    write("hunter2");
    let out = prints(&driver, &["settings"]);
    assert!(
        out.contains(" off: a server on this machine, and a password is at hand") && !out.contains("hunter2")
    );
    // What another run of pgaad left there.
    write(&ground().emulator.entra().mint(&APP_ONE));
    assert!(prints(&driver, &["settings"]).contains(" on: a server on this machine"));
    let out = prints(&driver, &["settings", "password=hunter2 sslpassword=hunter3"]);
    assert!(out.contains("password ") && !out.contains("hunter"), "{out}");
    // A word that libpq may or may not know, after a value whose blanks were not quoted.
    for (conninfo, words) in
        [("hunter2=x password=a hunter3=b", "not shown"), ("hst=x", "did you mean host?")]
    {
        for arguments in [&["settings", conninfo][..], &["settings", "--json", conninfo]] {
            let (code, out, err) = said(&pgaad(&driver, arguments));
            assert!(code == Some(2) && err.contains(words), "{code:?} {err}");
            assert!(!out.contains("hunter") && !err.contains("hunter"), "{out}{err}");
        }
        for command in
            [&["exec", "--conninfo", conninfo, "true"], &["passfile", "/tmp/x/y", "--conninfo", conninfo]]
        {
            assert!(fails(&driver, command, 2).contains(words));
        }
    }
}

#[test]
fn the_cache_is_shown_without_its_tokens_and_cleared() {
    let emulator = Emulator::start();
    let dir = tempfile::tempdir().expect("a folder");
    let driver =
        signed_in(&emulator).env("PGAAD_CACHE", format!("file:{}", dir.path().join("cache").display()));
    // Who only looks leaves no directory behind.
    assert!(prints(&driver, &["cache", "show"]).starts_with("No token is there: /"));
    assert!(!dir.path().join("cache").exists());
    let token = prints(&driver, &["token"]);
    let json: Value = serde_json::from_str(&prints(&driver, &["token", "--json"])).expect("JSON");
    assert_eq!((json["origin"].as_str(), emulator.entra().requests().len()), (Some("file"), 1));
    let shown = prints(&driver, &["cache", "show"]);
    let end = std::time::UNIX_EPOCH + Duration::from_secs(json["expires_on"].as_u64().expect("a time"));
    let date = Driver::new().instead("/bin/date".into());
    let end = format!("@{}", end.duration_since(std::time::UNIX_EPOCH).expect("later").as_secs());
    let end = date.output(&[&["-u", "-d", &end, "+%a, %d %b %Y %H:%M:%S GMT"]]);
    let start =
        format!("https://ossrdbms-aad.database.windows.net/.default: until {} (", said(&end).1.trim());
    assert!(shown.starts_with(&start) && shown.lines().count() == 1, "{shown} is not {start}");
    let left: i64 = shown[start.len()..].split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    let expected = json["expires_on"].as_i64().expect("a time") - unix_now();
    assert!((left - expected).abs() <= 60, "{left} is not {expected}");
    assert!(!shown.contains(token.trim()), "{shown}");

    assert!(prints(&driver, &["cache", "clear"]).starts_with("Dropped. "));
    assert_eq!(prints(&driver, &["cache", "show"]), "No token is there.\n");
    prints(&driver, &["token"]);
    assert_eq!(emulator.entra().requests().len(), 2);
}

#[test]
fn a_cache_that_is_none_says_so() {
    let emulator = &ground().emulator;
    for command in ["show", "clear"] {
        let out = prints(&signed_in(emulator), &["cache", command]);
        assert!(out.contains("cache=memory"), "{out}");
        let nobody = Driver::new().env("PGAAD_AUTH", "azure_cli").env("PGAAD_CACHE", "file:/tmp");
        assert!(prints(&nobody, &["cache", command]).contains("cache_id"));
        let closed = ClosedPort::new();
        let redis = format!("redis://user:hunter2@{}", closed.address());
        let message = fails(&signed_in(emulator).env("PGAAD_CACHE", redis), &["cache", command], 7);
        assert!(!message.contains("hunter2"), "{message}");
    }
    let readable = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(readable.path(), Permissions::from_mode(0o755)).expect("its mode");
    let driver = signed_in(emulator).env("PGAAD_CACHE", format!("file:{}", readable.path().display()));
    assert!(fails(&driver, &["cache", "show"], 2).contains("0700"));
}

#[test]
fn what_is_done_is_said_only_when_asked() {
    let emulator = Emulator::start();
    let driver = signed_in(&emulator);
    for (flag, words) in [("-v", "event=token_fetched"), ("-vv", "event=token_fetched")] {
        let (code, _, err) = said(&pgaad(&driver, &["token", flag]));
        assert!(code == Some(0) && err.contains(words) && !err.contains(APP_ONE.secret), "{err}");
    }
    let (_, _, err) = said(&pgaad(&ground().driver(&APP_ONE), &["-vv", "connstring"]));
    assert!(err.contains("event=connection_judged entra=on"), "{err}");
    // The environment may ask for more.
    let (_, _, err) =
        said(&pgaad(&ground().driver(&APP_ONE).env("PGAAD_LOG", "debug"), &["-v", "connstring"]));
    assert!(err.contains("level=debug"), "{err}");
    let message = fails(&driver.clone().env("PGAAD_LOG", "loud"), &["-v", "token"], 2);
    assert!(message.contains("PGAAD_LOG"), "{message}");
    // Who asks for something else gets that.
    let (_, _, err) = said(&pgaad(&driver, &["-v", "--settings", "log=error", "token"]));
    assert_eq!(err, "");
}

#[test]
fn colours_are_for_terminals() {
    let bold = "\u{1b}[1m";
    let command = harness::command().display().to_string();
    let on_terminal = |driver: Driver, arguments: &str| {
        let script = driver.env("PATH", "/usr/bin:/bin").instead("/usr/bin/script".into());
        said(&script.output(&[&["-qec", &format!("{command} {arguments}"), "/dev/null"]])).1
    };
    assert!(on_terminal(Driver::new(), "settings").contains(bold));
    assert!(on_terminal(Driver::new(), "tokn").starts_with(&format!("{bold}pgaad:")));
    assert!(!on_terminal(Driver::new().env("NO_COLOR", "1"), "settings").contains('\u{1b}'));
    assert!(!on_terminal(Driver::new().env("NO_COLOR", "1"), "--help").contains('\u{1b}'));
    assert!(!prints(&Driver::new(), &["settings"]).contains('\u{1b}'));
    assert!(!prints(&Driver::new(), &["--help"]).contains('\u{1b}'));
}

#[test]
fn an_output_that_takes_nothing_is_an_error() {
    let emulator = &ground().emulator;
    let shell = signed_in(emulator).env("PATH", "/bin:/usr/bin").instead("/bin/sh".into());
    let command = harness::command().display();
    for arguments in ["token", "--help"] {
        let (code, out, err) = said(&shell.output(&[&["-c", &format!("{command} {arguments} >/dev/full")]]));
        assert_eq!((code, out.as_str()), (Some(1), ""), "{arguments}: {err}");
        assert!(err.starts_with("pgaad: Standard output cannot be written to"), "{arguments}: {err}");
    }
    // A reader that is gone: no panic, and no half a token elsewhere.
    let (_, out, err) = said(&shell.output(&[&["-c", &format!("{command} settings | true; echo done")]]));
    assert_eq!(out, "done\n");
    assert!(!err.contains("panicked"), "{err}");
}

#[test]
fn bash_completes_commands_and_options() {
    let command = harness::command().display();
    let complete = |words: &str, at: usize| {
        let script = format!(
            "eval \"$({command} completion bash)\"; COMP_WORDS=({words}); COMP_CWORD={at}; \
             _pgaad pgaad \"${{COMP_WORDS[{at}]}}\" \"${{COMP_WORDS[{at}-1]}}\"; echo \"${{COMPREPLY[*]}}\""
        );
        let bash = Driver::new().env("PATH", "/usr/bin:/bin").instead("/bin/bash".into());
        let (code, out, err) = said(&bash.output(&[&["--norc", "-c", &script]]));
        assert_eq!((code, err.as_str()), (Some(0), ""));
        out.trim().to_owned()
    };
    assert_eq!(complete("pgaad pa", 1), "passfile");
    assert_eq!(complete("pgaad passfile --wa", 2), "--watch");
    assert_eq!(complete("pgaad cache cl", 2), "clear");
    for (shell, start) in [("zsh", "#compdef pgaad"), ("fish", "#")] {
        let script = prints(&Driver::new(), &["completion", shell]);
        assert!(script.starts_with(start) && script.contains("password-env"), "{shell}: {script}");
    }
}
