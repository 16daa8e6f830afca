//! The clients of these tests: curl and psql, as Debian ships them.
#![allow(dead_code)] // each test uses its part

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use emulator::serde_json::{self, Value};
use emulator::{App, Emulator, Libpq, PATIENCE, Postgres};
use tempfile::TempDir;

pub const SCOPE: &str = "https://ossrdbms-aad.database.windows.net/.default";
pub const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What curl made of an answer.
#[derive(Debug)]
pub struct Answer {
    /// curl's exit status: 0, or what it could not do.
    pub exit: i32,
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn token(&self) -> String {
        self.json()["access_token"].as_str().unwrap_or_else(|| panic!("no token: {self:?}")).to_owned()
    }

    /// The AADSTS code.
    pub fn code(&self) -> u64 {
        self.json()["error_codes"][0].as_u64().unwrap_or_else(|| panic!("no code: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| {
            line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
                && line[name.len()..].starts_with(':')
        })?;
        Some(line[name.len() + 1..].trim())
    }
}

pub fn curl(args: &[&str]) -> Answer {
    let mut command = Command::new("curl");
    command.args(["-q", "-sS", "-i", "--max-time", "20"]).args(args).env_clear().env("PATH", "/usr/bin:/bin");
    let Output { status, stdout, .. } = command.output().expect("curl runs");
    let text = String::from_utf8_lossy(&stdout).into_owned();
    let mut rest = text.as_str();
    let mut head = "";
    while rest.starts_with("HTTP/1.") {
        let (one, after) = rest.split_once("\r\n\r\n").unwrap_or((rest, ""));
        (head, rest) = (one, after);
        let interim = head.contains(" 100 ") || head.contains("onnection established");
        if !interim {
            break;
        }
    }
    Answer {
        exit: status.code().expect("curl exits"),
        status: head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0),
        head: head.to_owned(),
        body: rest.to_owned(),
    }
}

pub fn endpoint(emulator: &Emulator, tenant: &str) -> String {
    format!("{}/{tenant}/oauth2/v2.0/token", emulator.authority())
}

/// POSTs a form to the token endpoint of a tenant.
pub fn post(emulator: &Emulator, tenant: &str, form: &[(&str, &str)], more: &[&str]) -> Answer {
    let pairs: Vec<String> = form.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let ca = emulator.ca_file().to_str().unwrap().to_owned();
    let url = endpoint(emulator, tenant);
    let mut args = vec!["--cacert", &ca];
    pairs.iter().for_each(|pair| args.extend(["--data-urlencode", pair]));
    args.extend(more);
    args.push(&url);
    curl(&args)
}

/// Asks for a token as an application does that is set up well.
pub fn ask(emulator: &Emulator, app: &App, more: &[&str]) -> Answer {
    let secret = emulator.entra().secret(app);
    post(
        emulator,
        app.tenant.id,
        &[
            ("grant_type", "client_credentials"),
            ("client_id", app.client_id),
            ("client_secret", &secret),
            ("scope", SCOPE),
        ],
        more,
    )
}

/// The form of a client that proves itself by an assertion.
pub fn asserting<'a>(client_id: &'a str, assertion: &'a str) -> [(&'static str, &'a str); 5] {
    [
        ("grant_type", "client_credentials"),
        ("client_id", client_id),
        ("scope", SCOPE),
        ("client_assertion_type", JWT_BEARER),
        ("client_assertion", assertion),
    ]
}

/// Logs in over TLS and returns what `select current_user` says, or psql's complaint.
pub fn login(server: &Postgres, role: &str, password: &str) -> Result<String, String> {
    psql(server, role, password, "host=localhost sslmode=verify-full")
}

pub fn psql(server: &Postgres, role: &str, password: &str, conninfo: &str) -> Result<String, String> {
    let done = Command::new("/usr/bin/psql")
        .args(["-XAtqw", "-d", conninfo, "-c", "select current_user"])
        .env_clear()
        .envs(server.env(role))
        .env_remove("PGHOST")
        .env("PATH", "/usr/bin:/bin")
        .env("PGPASSWORD", password)
        .output()
        .expect("psql runs");
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
}

/// Logs in by OAUTHBEARER with a libpq 18, and returns what `select system_user` says, or the complaint.
pub fn login_by_oauth(server: &Postgres, role: &str, token: &str, conninfo: &str) -> Result<String, String> {
    static PROGRAM: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, program) = PROGRAM.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join("bearer");
        let done = Command::new("cc")
            .args(["-D_GNU_SOURCE", "-Wall", "-Werror", "-I/usr/include/postgresql", "-o"])
            .arg(&program)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bearer.c"))
            .args(["-lpq", "-ldl"])
            .status();
        assert!(done.is_ok_and(|status| status.success()), "bearer.c does not compile");
        (dir, program)
    });
    let libpq = Libpq::all().into_iter().find(|libpq| libpq.version == 18).expect("libpq 18");
    let issuer = server.issuer().expect("a server that wants tokens");
    let done = Command::new(program)
        .args([&format!("oauth_issuer={issuer} oauth_client_id=x {conninfo}"), token])
        .env_clear()
        .envs(server.env(role))
        .env("LD_LIBRARY_PATH", libpq.folder())
        .output()
        .expect("it runs");
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
}

/// Processes that work in this directory or name it on their command line.
pub fn processes_of(dir: &Path) -> BTreeSet<String> {
    let name = dir.to_str().unwrap();
    let all = fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(|entry| entry.path());
    all.filter(|proc| proc.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit()))
        .filter_map(|proc| {
            let line = fs::read(proc.join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let inside = fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
            (inside || line.contains(name)).then(|| format!("{}: {line}", proc.display()))
        })
        .collect()
}

/// Blocks until the directory and its processes are gone.
pub fn wait_until_gone(dir: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while dir.exists() || !processes_of(dir).is_empty() {
        assert!(Instant::now() < deadline, "left behind: {} {:?}", dir.display(), processes_of(dir));
        std::thread::sleep(Duration::from_millis(10)); // nobody tells a stranger of the end of a process
    }
}

/// The private directory that a path lies in.
pub fn private_dir(path: &Path) -> PathBuf {
    let private = |p: &&Path| p.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pgaad-"));
    path.ancestors().find(private).expect("a private directory").to_owned()
}
