//! Azure Arc: the agent names a file, which only the agent's friends may read, and only the agent may name.

use emulator::{ArcAgent, Challenge, Emulator, Endpoint, Fault, IDENTITY_ONE, IDENTITY_TWO, SYSTEM_IDENTITY};

use super::{NOBODY, ask, assert_is, assert_names, assert_signs_in, program_on};
use crate::harness::{Driver, assert_fails, ground, is_root, shim};

/// An agent with its files where they belong; none, and a line that says so, where these tests may not put any there.
fn agent(emulator: &Emulator) -> Option<Endpoint<ArcAgent>> {
    if is_root() {
        return Some(Endpoint::start(emulator, ArcAgent::new(ArcAgent::TOKENS)));
    }
    eprintln!("not tested: only root can make {}", ArcAgent::TOKENS);
    None
}

#[test]
fn a_machine_elsewhere_signs_in() {
    let Some(arc) = agent(&ground().emulator) else { return };
    let program = program_on(arc.env());
    assert_signs_in(&program, &SYSTEM_IDENTITY);
    assert_signs_in(&program.env("PGAAD_CLIENT_ID", IDENTITY_ONE.client_id), &IDENTITY_ONE);
}

#[test]
fn it_proves_itself_by_the_file_alone() {
    let emulator = Emulator::start();
    let Some(arc) = agent(&emulator) else { return };
    assert_is(&program_on(arc.env()).one(&["get_token"]), &SYSTEM_IDENTITY);
    let seen = arc.front().requests();
    let proofs: Vec<_> = seen.iter().map(|seen| seen.http.header("authorization").is_some()).collect();
    assert_eq!(proofs, [false, true]);
    assert!(seen.iter().all(|seen| seen.http.header("metadata") == Some("true")), "{seen:?}");
    assert_eq!(seen[0].http.target, seen[1].http.target);
}

#[test]
fn each_name_of_an_identity_has_its_parameter_and_its_echo() {
    let emulator = Emulator::start();
    let Some(arc) = agent(&emulator) else { return };
    let program = program_on(arc.env());
    assert_names(&program, arc.front(), ["client_id", "object_id", "msi_res_id"]);

    let who = &IDENTITY_TWO;
    let by_client = format!("client_id={}", who.client_id);
    let by_object = format!("object_id={}", who.object_id);
    let by_resource = format!("resource_id={}", who.resource_id.expect("it has one"));
    let mut shouted = by_client.to_uppercase();
    shouted.replace_range(..9, "client_id");
    assert_is(&ask(&program, &shouted), who);
    // Some agents spell this one as App Service does.
    arc.front().faults().next(Fault::none());
    arc.front()
        .faults()
        .next(Fault::without("msi_res_id").set("mi_res_id", who.resource_id.expect("it has one")));
    assert_is(&ask(&program, &by_resource), who);

    for (settings, fault) in [
        (&by_client, Fault::without("client_id")),
        (&by_client, Fault::field("client_id", "")),
        (&by_object, Fault::without("object_id")),
        (&by_object, Fault::field("object_id", IDENTITY_ONE.object_id)),
        (&by_resource, Fault::without("msi_res_id")),
    ] {
        arc.front().faults().next(Fault::none()); // the challenge
        arc.front().faults().next(fault);
        let (key, id) = settings.split_once('=').expect("a setting");
        assert_fails(&ask(&program, settings), "PGAAD_UNAVAILABLE", &[key, id]);
    }
}

#[test]
fn an_old_agent_answers_for_the_machine_alone() {
    let emulator = Emulator::start();
    let Some(arc) = agent(&emulator) else { return };
    let program = program_on(arc.env());
    arc.platform().grow_old();
    assert_is(&program.one(&["get_token"]), &SYSTEM_IDENTITY);
    for (key, id) in [
        ("client_id", IDENTITY_ONE.client_id),
        ("object_id", IDENTITY_ONE.object_id),
        ("resource_id", IDENTITY_ONE.resource_id.expect("it has one")),
    ] {
        assert_fails(&ask(&program, &format!("{key}={id}")), "PGAAD_UNAVAILABLE", &[key, id]);
    }
}

#[test]
fn a_file_of_the_agents_is_read_however_it_is_named() {
    let emulator = Emulator::start();
    let Some(arc) = agent(&emulator) else { return };
    let header = |text: &str| Challenge::Header(text.to_string());
    for challenge in [
        Challenge::Good,
        Challenge::Quoted,
        Challenge::EqualsInName,
        Challenge::Size(1),
        Challenge::Size(4096),
        header("basic Realm={path}"),
        header("Basic  realm = {path} "),
    ] {
        arc.platform().challenge(challenge.clone());
        let line = program_on(arc.env()).one(&["get_token"]);
        assert_eq!(line.status(), "PGAAD_OK", "{challenge:?} {line:?}");
    }
}

#[test]
fn no_other_file_is_read_and_sent() {
    let emulator = Emulator::start();
    let Some(arc) = agent(&emulator) else { return };
    let header = |text: &str| Challenge::Header(text.to_string());
    let agents = ArcAgent::TOKENS;
    for (challenge, part) in [
        (Challenge::Elsewhere, agents),
        (Challenge::DotDot, agents),
        (Challenge::Symlink, "link"),
        (Challenge::Suffix, ".key"),
        (Challenge::Size(4097), "4096"),
        (Challenge::Size(1 << 20), "4096"),
        (Challenge::Size(0), "no key"),
        (Challenge::NoFile, "No such file"),
        (Challenge::Directory, "no plain file"),
        (Challenge::Pipe, "no plain file"),
        (Challenge::Missing, "none"),
        (header("Basic"), "none"),
        (header("Basic {path}"), "none"),
        (header("Basic realm="), ".key"),
        (header("Basic realm=\"\""), ".key"),
        (header("Bearer realm={path}"), "none"),
        (header("Basic realm=x.key"), agents),
        (header("Basic realm=.{path}"), agents),
        (header("Basic realm=/var/opt/azcmagent/tokens/.."), ".key"),
        (header("Basic realm=/var/opt/azcmagent/tokens"), ".key"),
        (header("Basic realm=/var/opt/azcmagent/tokens/.key/x.key"), agents),
        (header("Basic realm={path}/"), ".key"),
    ] {
        arc.platform().challenge(challenge.clone());
        let line = program_on(arc.env()).one(&["get_token"]);
        assert_eq!(line.status(), "PGAAD_PROTOCOL", "{challenge:?} {line:?}");
        assert_fails(&line, "PGAAD_PROTOCOL", &["IDENTITY_ENDPOINT", part]);
        assert_eq!(arc.front().counters().tokens, 0);
    }
    assert!(!arc.saw_secret());
}

#[test]
fn who_may_not_read_the_file_is_told_the_group() {
    let emulator = Emulator::start();
    let Some(arc) = agent(&emulator) else { return };
    let line = program_on(arc.env()).by_nobody().one(&["get_token"]);
    assert_fails(&line, "PGAAD_UNAVAILABLE", &[ArcAgent::TOKENS, "group himds"]);
    assert!(!arc.saw_secret());
}

#[test]
fn an_answer_of_the_agents_is_judged_as_any() {
    let emulator = Emulator::start();
    let Some(arc) = agent(&emulator) else { return };
    let program = program_on(arc.env());
    let faults = arc.front().faults();
    // A token for nothing: whoever listens there is not the agent.
    faults.next(Fault::body(200, "application/json", r#"{"access_token":"a.b.c","expires_in":"3600"}"#));
    assert_fails(&program.one(&["get_token"]), "PGAAD_PROTOCOL", &["without asking"]);
    for (fault, status, parts) in [
        (
            Fault::status_without_code(403, "unauthorized_client"),
            "PGAAD_DENIED",
            &["403", "made to order"][..],
        ),
        (Fault::html(200), "PGAAD_PROTOCOL", &["text/html"]),
        (Fault::status_without_code(429, "x").retry_after(600), "PGAAD_THROTTLED", &["600 s"]),
    ] {
        for before in 0..2 {
            (0..before).for_each(|_| faults.next(Fault::none())); // the challenge
            faults.next(fault.clone());
            assert_fails(&program.one(&["get_token"]), status, parts);
        }
    }
    // Asked again, it names another file.
    faults.next(Fault::none());
    faults.next(Fault::status_without_code(503, "unknown"));
    assert_is(&program.one(&["get_token"]), &SYSTEM_IDENTITY);
    let line = ask(&program, "scope=https://unknown.example/.default");
    assert_fails(&line, "PGAAD_DENIED", &["https://unknown.example", "PGAAD_SCOPE"]);
    let line = ask(&program, &format!("client_id={NOBODY}"));
    assert_fails(&line, "PGAAD_UNAVAILABLE", &[NOBODY, "client_id", "Assign"]);
}

/// A service has no variables of a log-in shell's; that the agent is installed is enough.
#[test]
fn an_installed_agent_is_asked_without_variables() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("log");
    let made = "(PATH=/usr/sbin:/usr/bin:/sbin:/bin; mount -t tmpfs none /opt && mkdir -p /opt/azcmagent/bin && \
                : >/opt/azcmagent/bin/himds) && exec \"$@\"";
    let flag = if is_root() { "-m" } else { "-rm" };
    let can_mount =
        std::process::Command::new("unshare").args([flag, "mount", "-t", "tmpfs", "none", "/opt"]).output();
    if !can_mount.is_ok_and(|output| output.status.success()) {
        eprintln!("not tested: no agent can be installed for one program here");
        return;
    }
    let line = Driver::new()
        .env("PGAAD_AUTH", "managed_identity")
        .without("AZURE_POD_IDENTITY_AUTHORITY_HOST")
        .env("LD_PRELOAD", shim("no_connect"))
        .env("CONNECT_LOG", &log)
        .under(&["unshare", flag, "/bin/sh", "-c", made, "sh"])
        .one(&["get_token"]);
    assert_fails(&line, "PGAAD_NETWORK", &["localhost:40342"]);
    let log = std::fs::read_to_string(log).expect("a connection");
    assert!(log.lines().all(|line| ["127.0.0.1 40342", "::1 40342"].contains(&line)), "{log}");
}
