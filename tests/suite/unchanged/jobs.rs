//! Programs that cron or systemd start, and those that read no password file.

use super::page::block;
use super::stage::{Script, Stage};
use crate::harness::install;

/// The page's file of variables, as a path, with what only this machine needs beside.
fn env_file(stage: &Stage) -> String {
    let secret = stage.dir().join("app.secret");
    std::fs::write(&secret, emulator::APP_ONE.secret).expect("a file");
    let file = stage.dir().join("app.env");
    let text = block("env_file").replace("/etc/pgaad/app.secret", &secret.display().to_string());
    std::fs::write(&file, text).expect("a file");
    file.display().to_string()
}

/// Runs a script that has its settings from that file.
fn run(stage: &Stage, script: &str, variables: &[(&str, &str)]) -> Script {
    stage.run(script, |command| {
        for name in ["PGAAD_TENANT_ID", "PGAAD_CLIENT_ID", "PGAAD_CLIENT_SECRET"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
    })
}

#[test]
fn a_job_of_cron_signs_in() {
    let stage = Stage::lasting();
    let table = block("crontab").replace("/etc/pgaad/app.env", &env_file(&stage));
    let table = table.replace("/var/backups", &stage.dir().display().to_string());
    // The variables of the table, then the job behind its five times.
    let (variables, jobs): (Vec<_>, Vec<_>) = table.lines().partition(|line| line.starts_with("PATH="));
    let path = variables[0].replace("PATH=/usr/local/bin:/usr/bin:/bin", &stage.path());
    let job = jobs[0].splitn(6, ' ').last().expect("a job");
    run(&stage, job, &[("PATH", &path)]).assert_ends_well("the job");
    assert!(stage.dir().join("app.dump").metadata().expect("a dump").len() > 0);
}

#[test]
fn a_service_of_systemd_signs_in() {
    let stage = Stage::lasting();
    let unit = block("unit");
    let value = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_else(|| panic!("no {key} in {unit}")).to_string()
    };
    assert_eq!(value("EnvironmentFile="), "/etc/pgaad/app.env");
    let text = std::fs::read_to_string(env_file(&stage)).expect("our own file");
    let variables: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let command = value("ExecStart=").replace("/usr/bin/pgaad", "pgaad");
    let mut service = run(&stage, &command, &variables);
    service.assert_ends_well("the service");
    assert!(service.log().contains("app-one"), "{}", service.log());
}

#[test]
fn a_program_that_reads_pgpassword_alone_signs_in() {
    let stage = Stage::lasting();
    let draft = stage.dir().join("draft");
    let report = "#!/bin/sh\nPGPASSFILE=/nonexistent exec psql -w -c 'SELECT current_user'\n";
    std::fs::write(&draft, report).expect("a file");
    install("755", &draft, &stage.dir().join("report"));
    let run = |script: &str| {
        stage.run(script, |command| {
            command.env("PATH", format!("{}:{}", stage.dir().display(), stage.path()));
        })
    };
    let command = stage.command("password_env");
    run(&command).assert_ends_well("the program");
    run(&command.replace("--password-env", "")).assert_fails("no password supplied");
}
