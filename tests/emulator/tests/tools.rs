//! The stand-ins for `az` and `azd` are as picky as the real ones, and tell how they were called.

mod common;

use std::io::Read;
use std::process::{Command, Output, Stdio};

use common::wait_until_gone;
use emulator::serde_json::{self, Value};
use emulator::{DEVELOPER, DEVELOPER_TWO, Emulator, PATIENCE, POSTGRESQL, Printed, TENANT_ONE, Tool, claims};

const AZ: &str =
    "account get-access-token --output json --resource https://ossrdbms-aad.database.windows.net";
const AZD: &str =
    "auth token --output json --no-prompt --scope https://ossrdbms-aad.database.windows.net/.default";

/// The tool, called with care.
fn command(tool: &Tool, name: &str, args: &str) -> Command {
    let mut command = Command::new(tool.dir().join(name));
    command
        .args(args.split(' ').filter(|arg| !arg.is_empty()))
        .current_dir("/bin")
        .env_clear()
        .env("PATH", tool.dir())
        .env(if name == "az" { "AZURE_CORE_NO_COLOR" } else { "NO_COLOR" }, "true")
        .stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn json((exit, stdout, stderr): (Option<i32>, String, String)) -> Value {
    assert_eq!((exit, stderr.as_str()), (Some(0), ""));
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn a_tool_prints_a_token_of_who_is_signed_in() {
    let emulator = Emulator::start();
    let (az, azd) = (Tool::az(&emulator), Tool::azd(&emulator));
    let body = json(run(command(&az, "az", AZ).env("TZ", "XYZ-3")));
    let token = claims(body["accessToken"].as_str().unwrap()).unwrap();
    assert_eq!((&token["aud"], &token["upn"]), (&POSTGRESQL.into(), &DEVELOPER.role.into()));
    assert_eq!(token["exp"], body["expires_on"]);
    assert_eq!(body["tokenType"], "Bearer");
    assert!(body["subscription"].is_string());
    // Three hours east, and no zone in the text.
    let local = local(body["expires_on"].as_i64().unwrap(), "XYZ-3");
    assert_eq!(body["expiresOn"].as_str().unwrap(), local);
    let body = json(run(&mut command(&az, "az", &format!("{AZ} --tenant {}", TENANT_ONE.id))));
    assert_eq!((body.get("subscription"), &body["tenant"]), (None, &TENANT_ONE.id.into()));
    az.next(Printed::local_time_only());
    let body = json(run(&mut command(&az, "az", AZ)));
    assert!(body.get("expires_on").is_none() && body["expiresOn"].is_string());

    azd.set_lifetime(600);
    let body = json(run(&mut command(&azd, "azd", AZD)));
    let token = claims(body["token"].as_str().unwrap()).unwrap();
    assert_eq!((&token["aud"], &token["upn"]), (&POSTGRESQL.into(), &DEVELOPER_TWO.role.into()));
    let utc = local_as(token["exp"].as_i64().unwrap(), "UTC", "+%Y-%m-%dT%H:%M:%SZ");
    assert_eq!(body["expiresOn"].as_str().unwrap(), utc);
    assert_eq!((az.tokens().len(), azd.tokens().len()), (3, 1));
}

fn local(unix: i64, zone: &str) -> String {
    local_as(unix, zone, "+%Y-%m-%d %H:%M:%S.000000")
}

fn local_as(unix: i64, zone: &str, format: &str) -> String {
    let date =
        Command::new("date").args(["-d", &format!("@{unix}"), format]).env("TZ", zone).output().unwrap();
    String::from_utf8(date.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn arguments_that_the_real_ones_refuse_are_refused() {
    let emulator = Emulator::start();
    let (az, azd) = (Tool::az(&emulator), Tool::azd(&emulator));
    let tenant = TENANT_ONE.id;
    for (args, exit, why) in [
        (String::new(), 2, "misspelled"),
        (AZ.replace("get-access-token", "show"), 2, "misspelled"),
        (AZ.replace("--output json ", ""), 2, "--output json"),
        (AZ.replace("json", "table"), 2, "--output json"),
        (AZ.split(" --resource").next().unwrap().to_owned(), 2, "--scope"),
        (format!("{AZ} --scope {POSTGRESQL}/.default"), 2, "either"),
        (AZ.replace("--resource", "--scope"), 2, "AADSTS70011"),
        (format!("{AZ} --tenant {tenant} --subscription s"), 2, "not both"),
        (format!("{AZ} --claims x"), 2, "unrecognized arguments: --claims"),
        (format!("{AZ} --tenant"), 2, "expected one argument"),
        (format!("{AZ} --output json"), 2, "twice"),
        (format!("{AZ} --tenant nobody.example"), 1, "AADSTS90002"),
        (AZ.replace("ossrdbms-aad", "nothing"), 1, "AADSTS500011"),
        (format!("{AZ}/.default"), 1, "AADSTS500011"),
    ] {
        let (code, stdout, stderr) = run(&mut command(&az, "az", &args));
        assert!((code, stdout.as_str()) == (Some(exit), "") && stderr.contains(why), "{args}: {stderr}");
        assert!(az.calls().pop().unwrap().refused.is_some_and(|refused| refused.contains(why)));
    }
    for (args, exit, why) in [
        (AZD.replace("auth token", "auth login"), 2, "unknown command"),
        (AZD.replace("--no-prompt ", ""), 2, "--no-prompt"),
        (AZD.replace("--output json ", ""), 2, "--output json"),
        (AZD.replace("/.default", ""), 2, "AADSTS70011"),
        (AZD.split(" --scope").next().unwrap().to_owned(), 2, "--scope"),
        (format!("{AZD} --tenant {tenant}"), 2, "unknown flag: --tenant"),
        (format!("{AZD} --tenant-id nobody.example"), 1, "AADSTS90002"),
    ] {
        let (code, stdout, stderr) = run(&mut command(&azd, "azd", &args));
        assert!((code, stdout.as_str()) == (Some(exit), "") && stderr.contains(why), "{args}: {stderr}");
    }
    assert_eq!(run(&mut command(&azd, "azd", &format!("{AZD} --tenant-id {tenant}"))).0, Some(0));
    assert_eq!(run(&mut command(&az, "az", &format!("{AZ} --subscription s"))).0, Some(0));
    let scope = AZ.replace("--resource", "--scope") + "/.default";
    assert_eq!(run(&mut command(&az, "az", &scope)).0, Some(0));
}

#[test]
fn careless_callers_are_refused() {
    let emulator = Emulator::start();
    let az = Tool::az(&emulator);
    let here = std::env::temp_dir();
    let refused = |command: &mut Command, why: &str| {
        let (code, stdout, stderr) = run(command);
        assert!((code, stdout.as_str()) == (Some(3), "") && stderr.contains(why), "{stderr}");
    };
    refused(command(&az, "az", AZ).current_dir(here), "directory");
    refused(command(&az, "az", AZ).env_remove("AZURE_CORE_NO_COLOR"), "colours");
    refused(command(&az, "az", AZ).env("AZURE_CORE_NO_COLOR", "1"), "colours");
    let full = std::fs::File::open("/etc/passwd").unwrap();
    refused(command(&az, "az", AZ).stdin(full), "standard input");
    let (open, _writer) = std::io::pipe().unwrap();
    refused(command(&az, "az", AZ).stdin(open), "standard input"); // nothing comes, and no end either
    assert_eq!(az.tokens().len(), 0);
}

#[test]
fn a_call_is_recorded_in_full() {
    let emulator = Emulator::start();
    let az = Tool::az(&emulator);
    let odd = "a b\n=%&+é";
    run(command(&az, "az", AZ).args(["--subscription", odd]).env("ODD", odd).env("EMPTY", ""));
    let call = az.calls().pop().unwrap();
    let words: Vec<&str> = AZ.split(' ').chain(["--subscription", odd]).collect();
    assert_eq!(call.args, words);
    assert_eq!(call.option("--subscription"), Some(odd));
    assert_eq!((call.var("ODD"), call.var("EMPTY"), call.var("HOME")), (Some(odd), Some(""), None));
    assert_eq!((call.cwd.to_str().unwrap(), call.stdin.as_str()), ("/usr/bin", "/dev/null"));
    assert_eq!((call.blocked_signals, call.refused.as_deref()), (0, None));
    let mut inherited = call.descriptors.clone(); // by this test, from whoever runs it
    // A shell opens a descriptor in its child, which std never does.
    let leak = format!("exec 7</etc/passwd; exec {}/az {AZ}", az.dir().display());
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", &leak])
        .current_dir("/bin")
        .env_clear()
        .env("AZURE_CORE_NO_COLOR", "true")
        .stdin(Stdio::null());
    assert_eq!(run(&mut shell).0, Some(0));
    let mut seen = az.calls().pop().unwrap().descriptors;
    inherited.push("/etc/passwd".to_owned());
    inherited.sort();
    seen.sort();
    assert_eq!(seen, inherited);
    assert!(az.called_within(2, PATIENCE));
}

#[test]
fn a_tool_says_what_it_is_told_to() {
    let emulator = Emulator::start();
    let (az, azd) = (Tool::az(&emulator), Tool::azd(&emulator));
    az.next(Printed::garbage());
    az.next(Printed::refused(50076, "You must use multi-factor authentication."));
    az.next(Printed::text(7, "out {expires_on}", "err {token}"));
    az.next(Printed::huge(4 << 20));
    let call = || run(&mut command(&az, "az", AZ));
    let (exit, stdout, _) = call();
    assert!(exit == Some(0) && stdout.contains(&az.tokens()[0]), "{stdout}");
    let (exit, stdout, stderr) = call();
    assert_eq!((exit, stdout.as_str()), (Some(1), ""));
    assert!(stderr.starts_with("ERROR: AADSTS50076: You must"));
    let (exit, stdout, stderr) = call();
    assert!(exit == Some(7) && !stdout.contains('{') && stderr.contains(&az.tokens()[1]));
    assert!(call().1.len() >= 4 << 20);
    az.log_out();
    assert_eq!(call(), (Some(1), String::new(), "ERROR: Please run 'az login' to setup account.\n".into()));
    az.clear();
    assert_eq!(call().0, Some(0));
    azd.log_out();
    assert!(run(&mut command(&azd, "azd", AZD)).2.contains("azd auth login"));
}

#[test]
fn what_hangs_holds_the_pipe_and_ends_with_the_tool() {
    let emulator = Emulator::start();
    let az = Tool::az(&emulator);
    az.always(Printed::hang());
    let mut child = command(&az, "az", AZ).stdout(Stdio::piped()).spawn().unwrap();
    assert!(az.hanging_within(2, PATIENCE));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(az.hanging_within(2, PATIENCE), "the tool's children live on");
    let dir = az.dir().to_owned();
    drop(az);
    let mut rest = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut rest).unwrap(); // ends only when nobody holds the pipe
    assert!(rest.is_empty());
    wait_until_gone(&dir);
}
