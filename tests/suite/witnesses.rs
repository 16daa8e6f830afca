//! Programs that know nothing of us sign in with what `pgaad_connstring` wrote.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use emulator::APP_ONE;

use crate::harness::{c_dir, ground};

const WHO: &str = "select current_user || ' ' || ssl::text from pg_stat_ssl where pid = pg_backend_pid()";
const DATABASE: &str = "witnesses";

/// A connstring for the database of the witnesses, which belongs to the role.
struct Ticket {
    connstring: String,
    token: String,
    used: usize,
}

impl Ticket {
    fn new() -> Self {
        let ground = ground();
        let database = format!("create database {DATABASE} owner \"{}\"", APP_ONE.role);
        ground.postgres.psql(&database).expect("a database");
        let mut session = ground.driver(&APP_ONE).session();
        let token = session.one(&["get_token"]).get("token").to_string();
        let line = session.one(&["connstring", &format!("dbname={DATABASE}")]);
        assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
        Self { connstring: line.get("connstring").to_string(), token, used: 0 }
    }

    /// Runs a program that signs in so many times, and gives what it prints. The environment would lead it elsewhere, and
    /// without TLS.
    fn run(&mut self, program: &Path, arguments: &[&str], logins: usize) -> String {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().stdin(Stdio::null());
        for (name, value) in [
            ("HOME", "/nonexistent"),
            ("PATH", "/usr/bin:/bin"),
            ("LC_ALL", "C.UTF-8"),
            ("PGHOST", "stranger.example"),
            ("PGHOSTADDR", "127.0.0.9"),
            ("PGPORT", "1"),
            ("PGUSER", "nobody"),
            ("PGPASSWORD", "nothing"),
            ("PGSSLMODE", "disable"),
            ("PGSSLROOTCERT", "/nonexistent"),
            ("PGGSSENCMODE", "prefer"),
        ] {
            command.env(name, value);
        }
        let done = command.output().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        assert!(done.status.success(), "{}: {}", program.display(), text(&done.stderr));
        let uses = ground().uses_of(&self.token);
        self.used += logins;
        assert_eq!(uses, vec![(APP_ONE.role.to_string(), true); self.used], "after {}", program.display());
        text(&done.stdout)
    }
}

/// The database's own clients; Debian puts a script before them that chooses one of several versions.
fn client(name: &str) -> PathBuf {
    let done = Command::new("pg_config").arg("--bindir").output().expect("pg_config");
    Path::new(String::from_utf8_lossy(&done.stdout).trim()).join(name)
}

#[test]
fn psql_dump_restore_bench_and_vacuum_and_the_libraries_of_other_languages() {
    let mut ticket = Ticket::new();
    let connstring = ticket.connstring.clone();
    let to = connstring.as_str();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("dump").display().to_string();

    let psql = client("psql");
    let sql = |statement| ["-XAtqd", to, "-c", statement];
    assert_eq!(ticket.run(&psql, &sql(WHO), 1), "app-one true\n");
    assert_eq!(ticket.run(&psql, &["-XAtq", to, "-c", "select 1"], 1), "1\n", "an argument as well");
    // On again from inside, psql hands over all options but empty ones, so an address of the environment's would count.
    let again =
        ["-u", "PGHOSTADDR", psql.to_str().expect("a path"), "-XAtq", to, "-c", "\\c", "-c", "select 2"];
    assert_eq!(ticket.run(Path::new("/usr/bin/env"), &again, 2), "2\n");

    ticket.run(&client("pgbench"), &["-i", "-q", "-s", "1", to], 1);
    // A connection for each client, and one to look at the tables first.
    let bench = ticket.run(&client("pgbench"), &["-n", "-c", "4", "-j", "2", "-t", "5", to], 5);
    assert!(bench.contains("transactions actually processed: 20/20"), "{bench}");

    ticket.run(&client("pg_dump"), &["-Fc", "-f", &file, "-d", to], 1);
    ticket.run(
        &psql,
        &sql("drop table pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers"),
        1,
    );
    ticket.run(&client("pg_restore"), &["-d", to, &file], 1);
    assert_eq!(ticket.run(&psql, &sql("select count(*) from pgbench_accounts"), 1), "100000\n");

    ticket.run(&client("vacuumdb"), &["--analyze-only", "-q", "-d", to], 1);
    assert_eq!(ticket.run(&client("pg_isready"), &["-q", "-d", to], 1), "");

    let pqxx = c_dir().join("witness");
    let compiled = Command::new(std::env::var("CXX").unwrap_or_else(|_| "c++".into()))
        .args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&pqxx)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c/witness.cpp"))
        .args(["-lpqxx", "-lpq"])
        .status();
    assert!(compiled.is_ok_and(|status| status.success()), "witness.cpp does not compile");
    assert_eq!(ticket.run(&pqxx, &[to], 1), "app-one true\n");

    let python = Path::new("/usr/bin/python3");
    for library in ["psycopg", "psycopg2"] {
        let script = format!(
            "import sys, {library}\n\
             connection = {library}.connect(sys.argv[1])\n\
             cursor = connection.cursor()\n\
             cursor.execute(\"{WHO}\")\n\
             print(cursor.fetchone()[0])\n"
        );
        assert_eq!(ticket.run(python, &["-I", "-c", &script, to], 1), "app-one true\n", "{library}");
    }
}
