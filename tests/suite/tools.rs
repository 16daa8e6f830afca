//! `az` and `azd`: run as a careful caller runs a program that prints a secret, read right wherever the clock stands,
//! and never repeated.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use emulator::{
    APP_ONE, Call, DEVELOPER, DEVELOPER_TWO, Emulator, POSTGRESQL, Principal, Printed, TENANT_ONE, Tool,
    claims,
};
use tempfile::TempDir;

use crate::at_secure::Raised;
use crate::harness::{Driver, Line, ask, assert_fails, compile, each, ground, install, is_root, wait_until};

/// One of the commands, and what its user is told.
#[derive(Clone, Copy)]
struct Kind {
    auth: &'static str,
    name: &'static str,
    title: &'static str,
    login: &'static str,
    who: &'static Principal,
    make: fn(&Emulator) -> Tool,
}

const AZ: Kind = Kind {
    auth: "azure_cli",
    name: "az",
    title: "Azure CLI",
    login: "az login",
    who: &DEVELOPER,
    make: Tool::az,
};
const AZD: Kind = Kind {
    auth: "azure_developer_cli",
    name: "azd",
    title: "Azure Developer CLI",
    login: "azd auth login",
    who: &DEVELOPER_TWO,
    make: Tool::azd,
};
const BOTH: [Kind; 2] = [AZ, AZD];

impl Kind {
    /// A program that asks it, found in this directory.
    fn program(&self, dir: &Path) -> Driver {
        Driver::new().env("PGAAD_AUTH", self.auth).env("PATH", dir)
    }

    /// A directory with a command of this name that does this.
    fn planted(&self, script: &str) -> TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).expect("its mode");
        let (written, path) = (dir.path().join("script"), dir.path().join(self.name));
        fs::write(&written, format!("#!/bin/sh\n{script}\n")).expect("a file");
        install("755", &written, &path);
        dir
    }
}

fn start(kind: &Kind) -> (Emulator, Tool) {
    let emulator = Emulator::start();
    let tool = (kind.make)(&emulator);
    (emulator, tool)
}

fn only_call(tool: &Tool) -> Call {
    let mut calls = tool.calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    calls.remove(0)
}

#[track_caller]
fn assert_ok(line: &Line, who: &Principal) {
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    assert_eq!(claims(line.get("token")).expect("claims")["oid"], who.object_id);
}

#[test]
fn who_is_signed_in_reaches_the_database() {
    let ground = ground();
    for kind in BOTH {
        let tool = (kind.make)(&ground.emulator);
        let given = kind.program(tool.dir()).envs(ground.postgres.env(kind.who.role));
        for driver in [given.clone(), given.without("PGUSER")] {
            let lines = driver.run(&[&["connect", ""], &["query", "select current_user"]]);
            assert_eq!((lines[0].get("conn"), lines[0].get("user")), ("OK", kind.who.role), "{lines:?}");
            assert_eq!(lines[1].get("value"), kind.who.role);
        }
        assert_eq!(tool.calls().len(), 2);
    }
}

#[test]
fn the_command_is_that_of_a_careful_caller() {
    let scope = format!("{POSTGRESQL}/.default");
    let arguments = [
        vec!["account", "get-access-token", "--output", "json", "--resource", POSTGRESQL],
        vec!["auth", "token", "--output", "json", "--no-prompt", "--scope", &scope],
    ];
    for ((kind, arguments), tenant) in BOTH.iter().zip(arguments).zip(["--tenant", "--tenant-id"]) {
        let (_emulator, tool) = start(kind);
        let program =
            kind.program(tool.dir()).env("HOME", "/home/of/ann").env("AZURE_CONFIG_DIR", "/else/where");
        assert_ok(&program.one(&["get_token"]), kind.who);
        let call = only_call(&tool);
        assert_eq!(
            (call.refused.as_deref(), &call.args),
            (None, &arguments.iter().map(ToString::to_string).collect())
        );
        assert_eq!(call.stdin, "/dev/null");
        assert_eq!(call.descriptors, [""; 0]);
        assert_eq!(
            (call.var("HOME"), call.var("AZURE_CONFIG_DIR")),
            (Some("/home/of/ann"), Some("/else/where"))
        );
        assert_eq!(call.var("PATH"), tool.dir().to_str());

        // The tenant, whichever family of settings names it.
        for (name, value) in [("PGAAD_TENANT_ID", TENANT_ONE.id), ("AZURE_TENANT_ID", TENANT_ONE.domain)] {
            assert_ok(&program.clone().env(name, value).one(&["get_token"]), kind.who);
            assert_eq!(tool.calls().pop().expect("a call").option(tenant), Some(value));
        }
        // What was got is kept.
        let calls = tool.calls().len();
        program.run(&[&["get_token"], &["get_token"], &["connstring", "host=localhost sslrootcert=system"]]);
        assert_eq!(tool.calls().len(), calls + 1);
    }
}

#[test]
fn no_shell_reads_the_arguments() {
    for kind in BOTH {
        let (_emulator, tool) = start(&kind);
        let dir = tempfile::tempdir().expect("a folder");
        let odd = format!(
            "https://x';$(/bin/touch${{IFS}}{0}/a)`/bin/touch${{IFS}}{0}/b`|\"&*?",
            dir.path().display()
        );
        let scope = format!("{odd}/.default");
        let line = kind.program(tool.dir()).env("PGAAD_SCOPE", &scope).one(&["get_token"]);
        assert_fails(&line, "PGAAD_DENIED", &["AADSTS500011", kind.title]);
        let given = if kind.name == "az" { &odd } else { &scope };
        assert_eq!(only_call(&tool).args.last(), Some(given));
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0);

        for tenant in ["-x", "--help", "a b", "a;b", "$(x)", "ténant", "."] {
            let line = kind.program(tool.dir()).env("PGAAD_TENANT_ID", tenant).one(&["get_token"]);
            assert_fails(&line, "PGAAD_CONFIG", &["PGAAD_TENANT_ID"]);
        }
        assert_eq!(tool.calls().len(), 1);
    }
}

#[test]
fn what_lies_about_in_the_callers_directory_is_not_run() {
    for kind in BOTH {
        let (_emulator, tool) = start(&kind);
        let planted = kind.planted("/bin/touch \"$0.ran\"");
        fs::create_dir(planted.path().join("bin")).expect("a folder");
        install("755", &planted.path().join(kind.name), &planted.path().join("bin").join(kind.name));
        let good = tool.dir().display().to_string();
        let program = kind.program(planted.path()).in_dir(planted.path());
        for path in
            [format!(".:{good}"), format!("bin:./bin:{good}"), format!(":{good}"), format!("::{good}:")]
        {
            assert_ok(&program.clone().env("PATH", path).one(&["get_token"]), kind.who);
        }
        for path in [".", "", ":", "bin", "/nonexistent", "/dev/null"] {
            let line = program.clone().env("PATH", path).one(&["get_token"]);
            assert_fails(&line, "PGAAD_UNAVAILABLE", &[kind.title, "not installed"]);
        }
        let line = program.clone().without("PATH").one(&["get_token"]);
        assert_fails(&line, "PGAAD_UNAVAILABLE", &[kind.title, "not installed"]);
        for ran in [planted.path().to_path_buf(), planted.path().join("bin")] {
            assert!(!ran.join(format!("{}.ran", kind.name)).exists());
        }
        // An absolute name is what the user chose. What can't be run there is passed over.
        let line = program.clone().env("PATH", planted.path()).one(&["get_token"]);
        assert_fails(&line, "PGAAD_PROTOCOL", &[kind.title]);
        assert!(planted.path().join(format!("{}.ran", kind.name)).exists());
        let other = tempfile::tempdir().expect("folders");
        fs::create_dir(other.path().join(kind.name)).expect("a folder");
        fs::set_permissions(planted.path().join(kind.name), Permissions::from_mode(0o644)).expect("its mode");
        let path = format!("{}:{}:{good}", other.path().display(), planted.path().display());
        assert_ok(&program.env("PATH", path).one(&["get_token"]), kind.who);
    }
}

/// Zones with summer time and without, far from UTC on either side.
const ZONES: [&str; 5] =
    ["UTC0", "XXX-14", "YYY+11:30", "CET-1CEST,M3.5.0,M10.5.0/3", "NZST-12NZDT,M9.5.0,M4.1.0/3"];

#[test]
fn the_end_is_read_right_in_every_zone() {
    // These tokens tell nothing themselves; the one beside them ends at the same time.
    let az_seconds = r#"{"accessToken":"opaque.token","x":"{token}","expires_on":{expires_on},"expiresOn":"1970-01-01 00:00:00.000000"}"#;
    let az_text = r#"{"accessToken":"opaque.token","x":"{token}","expires_on":"{expires_on}"}"#;
    let az_local = r#"{"accessToken":"opaque.token","x":"{token}","expiresOn":"{local}"}"#;
    let azd = r#"{"token":"opaque.token","x":"{token}","expiresOn":"{utc}"}"#;
    let printed = [(AZ, az_seconds), (AZ, az_text), (AZ, az_local), (AZD, azd)];
    let rows: Vec<_> = printed.iter().flat_map(|row| ZONES.map(|zone| (*row, zone))).collect();
    each(&rows, |((kind, printed), zone)| {
        let (_emulator, tool) = start(kind);
        tool.next(Printed::text(0, printed, ""));
        let program = kind.program(tool.dir()).env("TZ", *zone);
        let lines = program.run(&[&["new", ""], &["client_get_token", "-1"]]);
        assert_eq!((lines[2].status(), lines[2].get("token")), ("PGAAD_OK", "opaque.token"), "{lines:?}");
        let end = claims(&tool.tokens()[0]).expect("claims")["exp"].as_i64().expect("exp");
        assert_eq!(lines[1].word(), end.to_string(), "{zone}");
    });
    // As old versions really print it.
    let (_emulator, tool) = start(&AZ);
    for zone in ZONES {
        tool.next(Printed::local_time_only());
        assert_ok(&AZ.program(tool.dir()).env("TZ", zone).one(&["get_token"]), AZ.who);
    }
}

#[test]
fn a_token_with_noise_around_it_is_one() {
    let warning = "WARNING: You have 2 updates available.\nRun az upgrade, or az login, or azd auth login.\n";
    for (kind, printed) in [
        (AZ, r#"{"accessToken":"{token}","expires_on":{expires_on}}"#),
        (AZ, "\n  {\n \"expires_on\": {expires_on},\r\n\"accessToken\" : \"{token}\", \"new\": [1, {}]}\n\n"),
        (AZD, r#"{"token":"{token}","expiresOn":"{utc}"}"#),
    ] {
        let (_emulator, tool) = start(&kind);
        tool.next(Printed::text(0, printed, warning));
        assert_ok(&kind.program(tool.dir()).one(&["get_token"]), kind.who);
    }
}

/// What it prints, and what that comes to.
type Failing<'a> = (Printed, &'a str, &'a [&'a str]);

#[track_caller]
fn assert_each_fails(kind: &Kind, rows: Vec<Failing<'_>>) {
    let (_emulator, tool) = start(kind);
    for (i, (printed, status, parts)) in rows.into_iter().enumerate() {
        tool.next(printed);
        let output = kind.program(tool.dir()).env("PGAAD_LOG", "debug").output(&[&["get_token"]]);
        let (said, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{output:?}");
        assert_fails(&Line(said.trim_end().to_string()), status, &[&[kind.title], parts].concat());
        assert!(!log.is_empty() && !said.contains("eyJ") && !log.contains("eyJ"), "{said}{log}");
        assert_eq!(tool.calls().len(), i + 1, "it is not asked twice");
    }
}

#[test]
fn what_az_says_of_its_user_is_told() {
    let stderr = |text: &str| Printed::text(1, "", text);
    let mfa = "Due to a configuration change you must use multi-factor authentication to access 'x'.";
    assert_each_fails(
        &AZ,
        vec![
            (
                stderr("ERROR: Please run 'az login' to setup account.\n"),
                "PGAAD_UNAVAILABLE",
                &["Run: az login"],
            ),
            (stderr("ERROR: Run 'az account set' to choose one.\n"), "PGAAD_UNAVAILABLE", &["Run: az login"]),
            (Printed::refused(50076, mfa), "PGAAD_DENIED", &["AADSTS50076: ", mfa, "az login"]),
            (
                Printed::refused(700082, "The refresh token has expired."),
                "PGAAD_DENIED",
                &["AADSTS700082: The refresh"],
            ),
            (Printed::refused(53003, "Access has been blocked."), "PGAAD_DENIED", &["AADSTS53003: Access"]),
            (stderr("ERROR: AADSTS50076: {token} no more.\n"), "PGAAD_DENIED", &["AADSTS50076", "no more"]),
            (stderr("ERROR: AADSTS50076: \u{1b}[31mno\u{1b}[0m\tmore\n"), "PGAAD_DENIED", &["AADSTS50076"]),
            (
                Printed::text(1, "{token}", "ERROR: nobody knows why. {token}\n"),
                "PGAAD_UNAVAILABLE",
                &["exit status: 1"],
            ),
            (stderr(""), "PGAAD_UNAVAILABLE", &["exit status: 1"]),
            (Printed::text(127, "", "az: python3: not found\n"), "PGAAD_UNAVAILABLE", &["not installed"]),
        ],
    );
    let (_emulator, tool) = start(&AZ);
    tool.next(Printed::refused(50076, mfa));
    let line = AZ.program(tool.dir()).one(&["get_token"]);
    assert!(
        !["Trace ID", "Correlation", "Interactive"].iter().any(|part| line.errmsg().contains(part)),
        "{line:?}"
    );
}

#[test]
fn what_azd_says_of_its_user_is_told() {
    let stderr = |text: &str| Printed::text(1, "", text);
    let in_json = |text: &str| stderr(&format!("{{\"error\":\"{text}\"}}\n"));
    let message = |text: &str| {
        stderr(&format!(
            "{{\"type\":\"consoleMessage\",\"timestamp\":\"x\",\"data\":{{\"message\":\"{text}\"}}}}\n"
        ))
    };
    let login = "not logged in, run `azd auth login` to login";
    let denied = "fetching token: AADSTS50076: It\\u0027s you.\\r\\nTrace ID: 7a7a Correlation ID: 7a7a";
    let told = &["AADSTS50076: It's you", "azd auth login"][..];
    assert_each_fails(
        &AZD,
        vec![
            (stderr(&format!("ERROR: {login}\n")), "PGAAD_UNAVAILABLE", &["Run: azd auth login"]),
            (in_json(login), "PGAAD_UNAVAILABLE", &["Run: azd auth login"]),
            (message(&format!("ERROR: {login}\\n")), "PGAAD_UNAVAILABLE", &["Run: azd auth login"]),
            (
                stderr("ERROR: fetching token: AADSTS50076: It's you.\r\nTrace ID: 7a\r\n"),
                "PGAAD_DENIED",
                told,
            ),
            (in_json(denied), "PGAAD_DENIED", told),
            (message(denied), "PGAAD_DENIED", told),
            (stderr("unknown flag: --no-prompt\n"), "PGAAD_UNAVAILABLE", &["exit status: 1"]),
            (Printed::text(0, "", ""), "PGAAD_PROTOCOL", &["no token"]),
            (Printed::garbage(), "PGAAD_PROTOCOL", &["no token"]),
            (Printed::text(0, r#"{"token":"{token}"}"#, ""), "PGAAD_PROTOCOL", &["until when"]),
            (
                Printed::text(0, r#"{"token":"{token}","expiresOn":"2099-01-01T00:00:00"}"#, ""),
                "PGAAD_PROTOCOL",
                &["until when"],
            ),
        ],
    );
    let (_emulator, tool) = start(&AZD);
    tool.next(in_json(denied));
    let line = AZD.program(tool.dir()).one(&["get_token"]);
    assert!(!["\\", "Trace ID", "\"}"].iter().any(|part| line.errmsg().contains(part)), "{line:?}");
}

#[test]
fn what_is_no_token_is_not_shown() {
    let stdout = |text: &str| Printed::text(0, text, "");
    let end = r#""expires_on":{expires_on}}"#;
    assert_each_fails(
        &AZ,
        vec![
            (Printed::garbage(), "PGAAD_PROTOCOL", &["no token"]),
            (stdout(""), "PGAAD_PROTOCOL", &["no token"]),
            (stdout("{token}\n"), "PGAAD_PROTOCOL", &["no token"]),
            (stdout("\"{token}\"\n"), "PGAAD_PROTOCOL", &["no token"]),
            (stdout("[\"{token}\"]\n"), "PGAAD_PROTOCOL", &["no token"]),
            (stdout("{}"), "PGAAD_PROTOCOL", &["no token"]),
            (stdout("{\"accessToken\":\"{token}"), "PGAAD_PROTOCOL", &["no token"]),
            (stdout(r#"{"token":"{token}"}"#), "PGAAD_PROTOCOL", &["no token"]),
            (stdout(&format!("{{\"accessToken\":7,{end}")), "PGAAD_PROTOCOL", &["no token"]),
            (stdout(&format!("{{\"accessToken\":\"\",{end}")), "PGAAD_PROTOCOL", &["characters"]),
            (
                stdout(&format!("{{\"accessToken\":\"a\\u0000{{token}}\",{end}")),
                "PGAAD_PROTOCOL",
                &["characters"],
            ),
            (stdout(r#"{"accessToken":"{token}"}"#), "PGAAD_PROTOCOL", &["until when"]),
            (stdout(r#"{"accessToken":"{token}","expires_on":"soon"}"#), "PGAAD_PROTOCOL", &["until when"]),
            (stdout(r#"{"accessToken":"{token}","expiresOn":"soon"}"#), "PGAAD_PROTOCOL", &["until when"]),
            (stdout(r#"{"accessToken":"{token}","expires_on":1}"#), "PGAAD_PROTOCOL", &["expired"]),
            (
                stdout(r#"{"accessToken":"{token}","expiresOn":"2001-01-01 00:00:00.000000"}"#),
                "PGAAD_PROTOCOL",
                &["expired"],
            ),
            (Printed::huge(4 << 20), "PGAAD_PROTOCOL", &["more than a token"]),
        ],
    );
    let (_emulator, tool) = start(&AZ);
    tool.set_lifetime(-60);
    assert_fails(&AZ.program(tool.dir()).one(&["get_token"]), "PGAAD_PROTOCOL", &[AZ.title, "expired"]);
}

#[test]
fn whatever_hangs_is_ended_with_all_that_it_started() {
    each(&BOTH, |kind| {
        let (_emulator, tool) = start(kind);
        tool.always(Printed::hang());
        // On a busy machine the command is ended before it comes to that.
        let hung = ["3000", "14000"].iter().any(|time| {
            let mut session = kind.program(tool.dir()).env("PGAAD_TIMEOUT_MS", *time).session();
            session.tell(&["get_token"]);
            let hung = tool.hanging_within(2, Duration::from_millis(time.parse().expect("a number")));
            let line = session.answer().pop().expect("a line");
            let tool = format!(
                "{} --output json",
                if kind.name == "az" { "az account get-access-token" } else { "azd auth token" }
            );
            assert_fails(&line, "PGAAD_TIMEOUT", &[kind.title, "did not answer in", &tool]);
            hung
        });
        assert!(hung, "it never hung");
        assert!(tool.hanging_within(0, emulator::PATIENCE), "something still runs");
    });
}

/// Whether this process has ended, though nobody may have taken its status.
fn has_ended(id: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    !status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[test]
fn what_it_started_ends_with_it_where_it_printed_too_much() {
    // It ends with this process at the latest; with a pipe to write to it would end with the pipe.
    let child = format!("/usr/bin/tail --pid={} -f /dev/null >/dev/null 2>&1", std::process::id());
    let script = format!("{child} & echo $! >\"$0.child\"; exec /usr/bin/head -c 1100000 /dev/zero");
    let planted = AZ.planted(&script);
    let line = AZ.program(planted.path()).one(&["get_token"]);
    assert_fails(&line, "PGAAD_PROTOCOL", &[AZ.title, "more than a token"]);
    let child = fs::read_to_string(planted.path().join("az.child")).expect("it ran");
    wait_until("its child has ended", || has_ended(child.trim()));
}

#[test]
fn one_that_left_its_group_is_ended_and_one_that_may_not_be_is_not_waited_for() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).expect("its mode");
    let program = AZ.program(dir.path()).env("PGAAD_TIMEOUT_MS", "700");
    let az = compile("stubborn_az", &[]);
    for (mode, program) in [("755", program.clone()), ("4755", program.by_nobody())] {
        if mode == "4755" && !is_root() {
            eprintln!("not tested: only root can make a setuid program of root's");
            return;
        }
        install(mode, &az, &dir.path().join("az"));
        let mut session = program.session();
        // Its own message, not that of a caller who gave up.
        assert_fails(&session.one(&["get_token"]), "PGAAD_TIMEOUT", &[AZ.title, "did not answer in"]);
        let id = fs::read_to_string(dir.path().join("az.id")).expect("it ran");
        if mode == "755" {
            wait_until("it has ended", || has_ended(id.trim()));
        }
        drop(session);
        wait_until("it has ended with its host", || has_ended(id.trim()));
    }
}

#[test]
fn a_host_may_have_more_open_than_it_may_open_now() {
    let (_emulator, tool) = start(&AZ);
    // Not every sh knows descriptors of two digits.
    let shell = "exec 99</dev/null; ulimit -Sn 60; exec \"$@\"";
    let host = AZ.program(tool.dir()).under(&["bash", "-c", shell, "bash"]);
    assert_ok(&host.one(&["get_token"]), AZ.who);
}

#[test]
fn what_it_leaves_running_is_not_waited_for() {
    let printed = r#"{"accessToken":"opaque.token","expires_on":4102444800}"#;
    // That holds the output open, until the program has ended.
    let script = format!("echo '{printed}'; /usr/bin/tail -s 0.01 --pid=$PPID -f /dev/null &");
    let planted = AZ.planted(&script);
    let line = AZ.program(planted.path()).one(&["get_token"]);
    assert_eq!((line.status(), line.get("token")), ("PGAAD_OK", "opaque.token"), "{line:?}");
}

#[test]
fn one_that_a_signal_ends_or_that_cannot_be_run_is_named() {
    for (script, part) in [("kill -9 $$", "signal"), ("exit 3", "exit status: 3")] {
        let line = AZ.program(AZ.planted(script).path()).one(&["get_token"]);
        assert_fails(&line, "PGAAD_UNAVAILABLE", &[AZ.title, part]);
    }
    let planted = AZ.planted("");
    fs::write(planted.path().join("az"), "#!/nonexistent/python\n").expect("a file");
    assert_fails(&AZ.program(planted.path()).one(&["get_token"]), "PGAAD_UNAVAILABLE", &[AZ.title]);
    fs::write(planted.path().join("az"), "\u{7f}ELF").expect("a file");
    assert_fails(&AZ.program(planted.path()).one(&["get_token"]), "PGAAD_UNAVAILABLE", &[AZ.title]);
}

/// Programs that deal with their children in their own way: those that ignore SIGCHLD, and those whose thread takes
/// the status of all.
const HOSTS: [&[&str]; 3] = [&["echo", "nothing"], &["ignore", "17"], &["reap"]];

#[test]
fn a_host_may_do_with_its_children_as_it_likes() {
    let rows: Vec<_> = BOTH.iter().flat_map(|kind| HOSTS.map(|host| (*kind, host))).collect();
    each(&rows, |(kind, host)| {
        let (_emulator, tool) = start(kind);
        let mut session = kind.program(tool.dir()).session();
        session.ask(host);
        for _ in 0..3 {
            assert_ok(&ask(&mut session, ""), kind.who);
        }
        assert!(tool.calls().iter().all(|call| call.refused.is_none()), "{:?}", tool.calls());
        for (printed, status, part) in [
            (Printed::garbage(), "PGAAD_PROTOCOL", kind.title),
            (Printed::refused(50076, "It's you."), "PGAAD_DENIED", "AADSTS50076"),
            (Printed::huge(2 << 20), "PGAAD_PROTOCOL", kind.title),
        ] {
            tool.next(printed);
            assert_fails(&ask(&mut session, ""), status, &[part]);
        }
        tool.log_out();
        assert_fails(&ask(&mut session, ""), "PGAAD_UNAVAILABLE", &[kind.login]);
        // Nor does it find one that was left to it.
        let id = session.running().id();
        wait_until("no child is left", || {
            let children = |task: &Path| fs::read_to_string(task.join("children"));
            // A thread may end while it is looked at; the first one does not.
            let mut all = children(format!("/proc/{id}/task/{id}").as_ref()).expect("its children");
            let tasks = fs::read_dir(format!("/proc/{id}/task")).expect("a process").flatten();
            all.extend(tasks.filter_map(|task| children(&task.path()).ok()));
            all.is_empty()
        });
    });
}

#[test]
fn the_command_gets_its_signals_whatever_the_host_blocks() {
    for kind in BOTH {
        let (_emulator, tool) = start(&kind);
        let lines = kind.program(tool.dir()).run(&[&["block"], &["get_token"]]);
        assert_ok(&lines[0], kind.who);
        assert_eq!(only_call(&tool).blocked_signals, 0);
    }
}

#[test]
fn the_command_inherits_nothing_that_is_the_hosts() {
    // A shell would set its own signals right, so it is no script here.
    let dir = tempfile::tempdir().expect("a folder");
    install("755", &compile("az", &[]), &dir.path().join("az"));
    // The host holds a descriptor open across exec, ignores SIGCHLD and SIGTERM, and blocks what it can.
    let shell = "trap '' CHLD TERM; exec 9</dev/null; exec \"$@\"";
    let host = AZ.program(dir.path()).under(&["/bin/sh", "-c", shell, "sh"]);
    let lines = host.run(&[&["ignore", "17"], &["block"], &["get_token"]]);
    assert_fails(lines.last().expect("a line"), "PGAAD_UNAVAILABLE", &[AZ.title, "failed"]);
    let saw = fs::read_to_string(dir.path().join("az.saw")).expect("it ran");
    let (masks, descriptors) = saw.split_at(saw.find("descriptor").expect("its own"));
    for mask in masks.lines() {
        let signals = u64::from_str_radix(mask.rsplit(' ').next().expect("a mask"), 16).expect("a mask");
        // The C library keeps those from 32 on for itself.
        assert_eq!(signals & 0x7fff_ffff, 0, "{mask}");
    }
    // Three are its own.
    assert_eq!(descriptors, "descriptor 3\ndescriptor 4\ndescriptor 5\n");
    // An interpreter that is missing is no bug of ours.
    fs::write(dir.path().join("az"), "#!/nonexistent/interpreter\n").expect("written");
    let line = host.run(&[&["ignore", "17"], &["get_token"]]).pop().expect("a line");
    assert_fails(&line, "PGAAD_UNAVAILABLE", &[AZ.title]);
}

#[test]
fn a_program_with_more_rights_than_its_caller_starts_none() {
    let Some(raised) = Raised::new() else { return };
    for kind in BOTH {
        let planted = kind.planted("/bin/touch \"$0.ran\"");
        let ran = planted.path().join(format!("{}.ran", kind.name));
        let program = raised.driver(kind.program(planted.path()));
        let get = |settings: &str| {
            let settings = format!("auth={} {settings}", kind.auth);
            program.run(&[&["new", &settings], &["client_get_token", "-1"]]).pop().expect("a line")
        };
        assert_fails(&get(""), "PGAAD_UNAVAILABLE", &[kind.name, "raised rights", "trust_environment"]);
        assert!(!ran.exists());
        // Unless it vouches for its caller; this one prints nothing.
        assert_fails(&get("trust_environment=on"), "PGAAD_PROTOCOL", &[kind.title]);
        assert!(ran.exists());
    }
}

#[test]
fn an_applications_settings_are_none_of_its() {
    for kind in BOTH {
        let (_emulator, tool) = start(&kind);
        let program = kind.program(tool.dir()).env("AZURE_CLIENT_ID", APP_ONE.client_id);
        assert_ok(&program.env("PGAAD_CLIENT_SECRET", "x").one(&["get_token"]), kind.who);
    }
}
