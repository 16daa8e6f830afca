//! Programs that connect to the server themselves: by `pgaad exec`, or with a password file that stays fresh.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use emulator::{APP_ONE, Gate};

use super::page::block;
use super::stage::{JAVA, Script, Stage, Turn, staying};

/// A program of the page.
struct Row {
    /// The block with its command.
    block: &'static str,
    /// The program, where it is run twice to connect twice; others run `pause` themselves.
    twice: Option<&'static str>,
    /// The block that keeps its password file, where `pgaad exec` does not.
    watch: Option<&'static str>,
}

impl Row {
    const fn twice(block: &'static str, program: &'static str) -> Self {
        Self { block, twice: Some(program), watch: None }
    }

    const fn once(block: &'static str) -> Self {
        Self { block, twice: None, watch: None }
    }

    const fn watched(self, watch: &'static str) -> Self {
        Self { watch: Some(watch), ..self }
    }
}

const ROWS: &[Row] = &[
    Row::twice("psql", "psql"),
    Row::twice("psql_conninfo", "psql"),
    Row::twice("psql_passfile", "psql").watched("watch"),
    Row::twice("pg_dump", "pg_dump"),
    Row::twice("pg_restore", "pg_restore"),
    Row::twice("vacuumdb", "vacuumdb"),
    Row::twice("reindexdb", "reindexdb"),
    Row::once("pgbench"),
    Row::once("python"),
    Row::twice("odbc", "isql"),
    Row::once("jdbc").watched("watch"),
    Row::once("jdbc_exec"),
];

/// One of them under way.
struct Running {
    row: &'static Row,
    turn: Turn,
    /// What keeps its password file, and the program. The kernel ends them with the thread that started them.
    scripts: Vec<Script>,
    /// Where its passwords are, and the first of them.
    file: PathBuf,
    token: String,
}

impl Running {
    fn new(row: &'static Row, stage: &Stage) -> Self {
        let turn = row.twice.map_or_else(Turn::new, Turn::of);
        // Each has files of its own.
        for file in std::fs::read_dir(stage.dir()).expect("our own folder").flatten() {
            std::fs::copy(file.path(), turn.dir().join(file.file_name())).expect("a copy");
        }
        let file = turn.dir().join("pgpass");
        Self { row, turn, scripts: Vec::new(), file, token: String::new() }
    }

    fn run(&mut self, script: &str, stage: &Stage) {
        let dir = self.turn.dir().display().to_string();
        self.scripts.push(stage.run(&script.replace("/run/app", &dir), |command| {
            command
                .env("PATH", format!("{dir}:{}", stage.path()))
                .env("ODBCINI", "odbc.ini")
                .current_dir(&dir);
        }));
    }

    fn watch(&mut self, stage: &Stage) {
        if let Some(block) = self.row.watch {
            self.run(&staying(&stage.block(block)), stage);
        }
    }

    fn program(&mut self, stage: &Stage) {
        if let Some(watcher) = self.scripts.first_mut() {
            watcher.wait_for_token(&self.file, "");
        }
        self.run(&stage.command(self.row.block), stage);
    }

    /// Waits until it is between its two connections.
    fn first(&mut self, stage: &Stage) {
        let program = self.scripts.last_mut().expect("the program");
        let said = self.turn.wait(self.row.block, program);
        if self.row.watch.is_none() {
            self.file = said;
        }
        self.token = program.wait_for_token(&self.file, "");
        assert!(stage.uses(&self.token) > 0, "{}: {}", self.row.block, program.log());
    }

    /// Lets it connect once more, with another token.
    fn second(mut self, stage: &Stage) {
        let token = self.scripts[0].wait_for_token(&self.file, &self.token);
        let before = stage.uses(&self.token);
        self.turn.go();
        let program = self.scripts.last_mut().expect("the program");
        program.assert_ends_well(self.row.block);
        assert_eq!(stage.uses(&self.token), before, "{}", self.row.block);
        assert!(stage.uses(&token) > 0, "{}: {}", self.row.block, program.log());
        // A file of `pgaad exec` is gone with its program.
        assert_eq!(self.file.exists(), self.row.watch.is_some(), "{}", self.file.display());
    }
}

/// What the programs work on.
fn prepare(stage: &Stage) {
    let table = "\\connect app\nset role \"app-one\";\ncreate table word (text text primary key);\n";
    stage.postgres.psql(table).expect("a table");
    let dump = Command::new("/usr/bin/pg_dump")
        .env_clear()
        .args(["-Fc", "-t", "word", "-U", "postgres", "-d", "app", "-h"])
        .arg(stage.postgres.socket_dir())
        .args(["-p", &stage.postgres.port().to_string(), "-f"])
        .arg(stage.dir().join("app.dump"))
        .status();
    assert!(dump.is_ok_and(|status| status.success()), "no dump");
    let write = |name: &str, text: &str| std::fs::write(stage.dir().join(name), text).expect("a file");
    write("query.sql", "SELECT current_user;\n\\shell pause\n");
    write("report.py", include_str!("report.py"));
    write("odbc.ini", &stage.block("odbc_ini"));
    write("Connect.java", JAVA);
}

#[test]
fn each_signs_in_again_when_its_first_token_has_ended() {
    let stage = Stage::new(ROWS.len());
    prepare(&stage);
    let mut running: Vec<_> = ROWS.iter().map(|row| Running::new(row, &stage)).collect();
    running.iter_mut().for_each(|running| running.watch(&stage));
    running.iter_mut().for_each(|running| running.program(&stage));
    running.iter_mut().for_each(|running| running.first(&stage));
    let tokens: Vec<_> = running.iter().map(|running| running.token.clone()).collect();
    stage.outlive(&tokens);
    running.into_iter().for_each(|running| running.second(&stage));
}

/// What a program does whose password file changes while it logs in for the first time.
#[test]
fn some_keep_the_password_of_their_first_connection() {
    let stage = Stage::lasting();
    prepare(&stage);
    // The command, and whether its later connections have the new password.
    let rows = [
        ("psql -d app -c 'SELECT 1' -c '\\connect' -c 'SELECT 2'", true),
        ("pgbench --connect --no-vacuum --transactions=2 --file=one.sql app", true),
        ("vacuumdb --all --analyze-only", true),
        ("vacuumdb --jobs=2 --analyze-only app", true),
        ("pg_dump --jobs=2 --format=directory --file=dump app", false),
        ("pg_restore --jobs=2 --clean --if-exists --dbname=copy app.dump", false),
    ];
    std::fs::write(stage.dir().join("one.sql"), "SELECT 1\n").expect("a file");
    let file = stage.dir().join("pgpass");
    let [first, second] = [(); 2].map(|()| stage.emulator.entra().mint(&APP_ONE));
    let write = |token: &str| {
        let line = format!("*:*:*:*:{token}\n");
        std::fs::write(&file, line).expect("a file");
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("our own file");
    };
    for (command, is_read_again) in rows {
        write(&first);
        let (gate, before) = (Gate::new(), stage.postgres.binds().len());
        stage.postgres.hold_logins(Some(&gate));
        let mut script = stage.run(&(block("where") + command), |command| {
            command.env("PGPASSFILE", &file).env("PGSSLMODE", "verify-full");
        });
        gate.wait_for_arrivals(1);
        write(&second);
        gate.open();
        script.assert_ends_well(command);
        let binds = &stage.postgres.binds()[before..];
        let uses = |token: &str| {
            let uti = emulator::claims(token).expect("a token")["uti"].clone();
            binds.iter().filter(|bind| bind.uti.as_deref() == uti.as_str()).count()
        };
        let later = if is_read_again { uses(&second) } else { uses(&first) - 1 };
        assert_eq!((uses(&first) + uses(&second), later), (binds.len(), binds.len() - 1), "{command}");
        assert!(later > 0, "{command}");
        stage.postgres.hold_logins(None);
    }
}
