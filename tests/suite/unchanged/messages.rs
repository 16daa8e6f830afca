//! What people see when something is missing, and where the page explains it.

use super::page::says;
use super::stage::{JAVA, SERVER, Stage};

#[test]
fn the_page_explains_what_programs_say() {
    let stage = Stage::lasting();
    let ini = stage.block("odbc_ini");
    let plain: String =
        ini.lines().filter(|line| !line.starts_with("SSLmode")).map(|line| format!("{line}\n")).collect();
    std::fs::write(stage.dir().join("odbc.ini"), plain).expect("a file");
    std::fs::write(stage.dir().join("Connect.java"), JAVA).expect("a file");
    let rows = [
        // Another host than the one that was judged: no token for it.
        (stage.command("psql").replace(" -c ", " -w -h localhost -c "), "fe_sendauth: no password supplied"),
        (
            stage.command("jdbc_exec").replace(&format!("//{SERVER}"), "//localhost"),
            "no password was provided",
        ),
        // The data source says nothing of TLS, and PGSSLMODE does not count.
        (stage.command("odbc"), "no encryption"),
        (without_roots(&stage.command("jdbc_exec")), "Could not open SSL root certificate file"),
        (
            "psql -w 'host=localhost user=app-one dbname=app sslmode=verify-full' -c 'SELECT 1'".into(),
            "does not exist",
        ),
    ];
    let mut scripts: Vec<_> = rows
        .iter()
        .map(|(script, _)| {
            stage.run(script, |command| {
                command.env("ODBCINI", "odbc.ini");
                if script.starts_with("psql") {
                    command.env_remove("PGSSLROOTCERT");
                }
            })
        })
        .collect();
    for (script, (_, message)) in scripts.iter_mut().zip(&rows) {
        script.assert_fails(message);
        assert!(says(message), "the page does not explain {message}");
    }
    assert_eq!(stage.postgres.binds().len(), 0, "a token was sent");
}

/// pgJDBC verifies only where the URL says so.
#[test]
fn a_url_without_sslmode_verifies_nothing() {
    let stage = Stage::lasting();
    std::fs::write(stage.dir().join("Connect.java"), JAVA).expect("a file");
    let command = without_roots(&stage.command("jdbc_exec")).replace("&sslmode=verify-full", "");
    // There is no `pause` here: it ends after its first connection.
    let mut program = stage.run(&command, |_| {});
    program.assert_fails("signed in as app-one over TLSv1.3");
}

fn without_roots(command: &str) -> String {
    let (start, rest) = command.split_once("&sslrootcert=").expect("roots in the URL");
    let (_, end) = rest.split_once('"').expect("the end of the URL");
    format!("{start}\"{end}")
}
