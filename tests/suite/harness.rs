//! Builds C programs as a user does, and runs them in an environment that holds only what the test names.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use emulator::{App, Emulator, Imds, Libpq, PATIENCE, Postgres};

/// The folder of the libraries that this very build made.
fn built() -> PathBuf {
    let exe = std::env::current_exe().expect("the test's own path");
    exe.parent().expect("target/<profile>/deps").to_path_buf()
}

/// The folders of the libraries to look at: what cargo built for the tests and, where `make test` names it, what users
/// install.
pub fn libraries() -> Vec<PathBuf> {
    let staged = std::env::var_os("PGAAD_STAGE").map(|stage| PathBuf::from(stage).join("lib"));
    [built()].into_iter().chain(staged).collect()
}

/// The program `pgaad`: the installed one where `make test` names it, else built for this run, apart from the library, which
/// holds nothing of it.
pub fn command() -> &'static Path {
    static COMMAND: OnceLock<PathBuf> = OnceLock::new();
    COMMAND.get_or_init(|| {
        if let Some(stage) = std::env::var_os("PGAAD_STAGE") {
            return PathBuf::from(stage).join("bin/pgaad");
        }
        let dir = built().join("command");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--bin", "pgaad", "--features", "command", "--target-dir"])
            .arg(&dir)
            .arg("--manifest-path")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
            .status();
        assert!(status.expect("cargo").success(), "the command does not build");
        dir.join("debug/pgaad")
    })
}

/// What gets its name once it is complete, for another process may run these tests, and these programs, as well.
fn being_made(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.{}", std::process::id()))
}

/// Where C programs and the library under its soname are put.
pub fn c_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = built().join("c-tests");
        std::fs::create_dir_all(&dir).expect("a folder in target");
        for name in ["libpgaad.so.0", "libpgaad.so"] {
            let link = being_made(&dir, name);
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(built().join("libpgaad.so"), &link).expect("a link in target");
            std::fs::rename(link, dir.join(name)).expect("its name");
        }
        dir
    })
}

/// Compiles `tests/c/<name>.c` against the header and the library, once, and gives the program's path.
pub fn program(name: &str, more: &[&str]) -> PathBuf {
    let libraries = ["-lpgaad", "-ldl"];
    compile(name, &[&libraries, more].concat())
}

/// Compiles `tests/c/<name>.c` to a library that stands before the C library's functions (`LD_PRELOAD`).
pub fn shim(name: &str) -> PathBuf {
    compile(name, &["-shared", "-fPIC", "-ldl"])
}

/// Compiles `tests/c/<name>.c` with no other libraries than those that `more` names.
pub fn compile(name: &str, more: &[&str]) -> PathBuf {
    static DONE: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut done = DONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let done = done.get_or_insert_default();
    if let Some(path) = done.get(name) {
        return path.clone();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (unnamed, program) = (being_made(c_dir(), name), c_dir().join(name));
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let status = Command::new(cc)
        .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .arg(&unnamed)
        .arg(root.join(format!("tests/c/{name}.c")))
        .arg("-I")
        .arg(root.join("include"))
        .args(["-I", "/usr/include/postgresql", "-L"])
        .arg(c_dir())
        .arg(format!("-Wl,-rpath,{}", c_dir().display()))
        .args(more)
        .status()
        .expect("a C compiler");
    assert!(status.success(), "tests/c/{name}.c does not compile");
    std::fs::rename(unnamed, &program).expect("its name");
    done.insert(name.into(), program.clone());
    program
}

/// One line that the driver printed: the command's name, `status=`, and what else there is.
#[derive(Clone, Debug)]
pub struct Line(pub String);

impl Line {
    pub fn command(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }

    /// A value; `errmsg`, `connstring`, `stats` and `error` reach to the line's end or the next known key.
    pub fn get(&self, key: &str) -> &str {
        let Some(at) = self.0.find(&format!(" {key}=")) else { return "" };
        let rest = &self.0[at + key.len() + 2..];
        let end = match key {
            "errmsg" | "error" | "value" => None,
            "connstring" | "stats" => rest.rfind(" errmsg="),
            _ => rest.find(' '),
        };
        &rest[..end.unwrap_or(rest.len())]
    }

    pub fn status(&self) -> &str {
        self.get("status")
    }

    pub fn errmsg(&self) -> &str {
        self.get("errmsg")
    }

    /// The options of a line that lists them, decoded.
    pub fn options(&self) -> Options {
        let text = self.0.split(" errmsg=").next().unwrap_or_default();
        let pairs = text.split(' ').skip(1).filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(name, _)| *name != "status")
            .map(|(name, value)| (name.into(), String::from_utf8_lossy(&decoded(value)).into_owned()))
            .collect()
    }

    /// A value that was printed with `%XX`.
    pub fn bytes(&self, key: &str) -> Vec<u8> {
        decoded(self.get(key))
    }

    /// The value of a command that prints its name and one word.
    pub fn word(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }
}

/// Connection options by keyword.
pub type Options = BTreeMap<String, String>;

/// Names and values: options, variables.
pub type Pairs<'a> = &'a [(&'a str, &'a str)];

pub fn options(pairs: Pairs<'_>) -> Options {
    pairs.iter().map(|&(name, value)| (name.into(), value.into())).collect()
}

/// What the driver printed with `%XX`.
fn decoded(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).expect("two digits"));
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}

/// A conninfo or settings string that libpq's grammar reads as these options.
pub fn conninfo(pairs: Pairs<'_>) -> String {
    let quoted = |value: &str| value.replace('\\', r"\\").replace('\'', r"\'");
    pairs.iter().map(|(name, value)| format!("{name}='{}' ", quoted(value))).collect()
}

/// A token service and a database for all tests that leave both as they are.
pub struct Ground {
    pub emulator: Emulator,
    pub postgres: Postgres,
}

/// Starts it at first use. It is never dropped, and ends with this process, however that ends.
pub fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(|| {
        let emulator = Emulator::start();
        let postgres = Postgres::start(&emulator);
        Ground { emulator, postgres }
    })
}

/// A PostgreSQL 18 that wants tokens by OAUTHBEARER, beside the other, for all tests that leave it as it is.
pub fn postgres_18() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| Postgres::start_18(&ground().emulator))
}

impl Ground {
    /// A driver that signs in as this application, by its role.
    pub fn driver(&self, app: &App) -> Driver {
        Driver::new().envs(self.emulator.env(app)).envs(self.postgres.env(app.role))
    }

    /// The roles that a token was used for, in order, and whether they were let in.
    pub fn uses_of(&self, token: &str) -> Vec<(String, bool)> {
        let claims = emulator::claims(token).expect("a token");
        let binds = self.postgres.binds();
        let uses = binds.iter().filter(|bind| bind.uti.as_deref() == claims["uti"].as_str());
        uses.map(|bind| (bind.role.clone(), bind.ok())).collect()
    }
}

/// A port of this machine that nobody is to call.
pub struct Listener(TcpListener);

impl Listener {
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        Self(listener)
    }

    pub fn port(&self) -> String {
        self.0.local_addr().expect("an address").port().to_string()
    }

    /// Waits for a call.
    pub fn accept(&self) -> TcpStream {
        let mut caller = None;
        wait_until("a call", || {
            caller = self.next();
            caller.is_some()
        });
        caller.expect("a caller")
    }

    fn next(&self) -> Option<TcpStream> {
        let (caller, _) = self.0.accept().ok()?;
        caller.set_nonblocking(false).expect("a socket");
        Some(caller)
    }

    /// Whether anybody called since the last time. A connection is there once the caller has it.
    pub fn was_called(&self) -> bool {
        self.next().is_some()
    }
}

/// A port that refuses connections: it belongs to a connection's other end, so that nobody else gets it meanwhile.
pub struct ClosedPort(TcpStream, #[allow(dead_code)] Listener);

impl ClosedPort {
    pub fn new() -> Self {
        let listener = Listener::start();
        let address = listener.0.local_addr().expect("an address");
        Self(TcpStream::connect(address).expect("a connection"), listener)
    }

    /// As a host and port.
    pub fn address(&self) -> String {
        self.0.local_addr().expect("an address").to_string()
    }
}

/// Where no metadata service is.
pub const NO_IMDS: &str = Imds::NONE;

/// The driver, in an environment of its own.
#[derive(Clone, Default)]
pub struct Driver {
    env: Vec<(String, OsString)>,
    wrapper: Vec<String>,
    program: Option<PathBuf>,
}

impl Driver {
    pub fn new() -> Self {
        // HOME is a folder without files of libpq's; no metadata service is asked, and no az run, but one that a test
        // names.
        Self::default()
            .env("HOME", "/nonexistent")
            .env("PATH", "/nonexistent")
            .env("LC_ALL", "C")
            .env("AZURE_POD_IDENTITY_AUTHORITY_HOST", NO_IMDS)
    }

    pub fn env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        let name = name.into();
        self.env.retain(|(known, _)| *known != name);
        self.env.push((name, value.into()));
        self
    }

    pub fn envs(self, pairs: impl IntoIterator<Item = (String, OsString)>) -> Self {
        pairs.into_iter().fold(self, |driver, (name, value)| driver.env(name, value))
    }

    pub fn without(mut self, name: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self
    }

    /// Runs the driver under another program: `valgrind`, `setpriv ...`. It is found on the test's own PATH.
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(ToString::to_string).collect();
        self.wrapper[0] = on_path(wrapper[0]);
        self
    }

    /// Runs it with this libpq in the place of the machine's.
    pub fn with_libpq(self, libpq: &Libpq) -> Self {
        let folder = libpq.folder().display().to_string();
        match libpq.loader() {
            Some(loader) => self.under(&[&loader.display().to_string(), "--library-path", &folder]),
            None => self.env("LD_LIBRARY_PATH", folder),
        }
    }

    /// Runs it as nobody, which only root can do.
    pub fn by_nobody(self) -> Self {
        self.under(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
    }

    /// Runs it in this directory.
    pub fn in_dir(self, dir: &Path) -> Self {
        self.under(&["env", "-C", &dir.display().to_string()])
    }

    /// Runs another program in the driver's place; its arguments are the first command's.
    pub fn instead(mut self, program: PathBuf) -> Self {
        self.program = Some(program);
        self
    }

    /// What is run, for a test that runs it in its own way.
    pub fn command(&self, commands: &[&[&str]]) -> Command {
        let driver = self.program.clone().unwrap_or_else(|| program("driver", &["-lpq"]));
        let mut command = match self.wrapper.split_first() {
            Some((wrapper, arguments)) => {
                let mut command = Command::new(wrapper);
                command.args(arguments).arg(driver);
                command
            }
            None => Command::new(driver),
        };
        command.env_clear().envs(self.env.iter().cloned());
        command.args(commands.join(&";"));
        command
    }

    pub fn output(&self, commands: &[&[&str]]) -> Output {
        self.command(commands).stdin(Stdio::null()).output().expect("the driver starts")
    }

    /// Runs the commands, and gives the lines they printed. The driver must end well.
    #[track_caller]
    pub fn run(&self, commands: &[&[&str]]) -> Vec<Line> {
        lines_of(&self.output(commands))
    }

    /// The same for one command whose arguments need not be text.
    #[track_caller]
    pub fn run_bytes(&self, arguments: &[&OsStr]) -> Vec<Line> {
        let output = self.command(&[]).args(arguments).stdin(Stdio::null()).output().expect("it starts");
        lines_of(&output)
    }

    /// Runs one command that prints one line.
    #[track_caller]
    pub fn one(&self, command: &[&str]) -> Line {
        self.run(&[command]).pop().expect("one line")
    }

    /// Starts the commands, for a test that looks at them while they run.
    pub fn start(&self, commands: &[&[&str]]) -> Running {
        let mut command = self.command(commands);
        Running(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the driver starts"))
    }

    /// Starts a driver that takes one command after the other.
    pub fn session(&self) -> Session {
        self.session_of(&["listen"])
    }

    /// Starts a program that answers as the driver does.
    pub fn session_of(&self, command: &[&str]) -> Session {
        Session::new(self.start(&[command]))
    }

    /// The same, with standard error for the test to read, or to close.
    pub fn session_with_stderr(&self) -> Session {
        let mut command = self.command(&[&["listen"]]);
        let all = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Session::new(Running(all.spawn().expect("the driver starts")))
    }
}

/// The lines that a program printed that ended well.
#[track_caller]
fn lines_of(output: &Output) -> Vec<Line> {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out.lines().map(|line| Line(line.to_string())).collect()
}

/// A driver under way; killed if the test ends before it does.
pub struct Running(Child);

/// What the kernel says of one thread.
#[derive(Debug)]
pub struct Task {
    pub name: String,
    /// `S` while it waits for something.
    pub state: char,
    /// Signals that it blocks, in hexadecimal.
    pub blocked: String,
}

impl Running {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// What it prints, for a test to read.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }

    /// Its threads.
    pub fn tasks(&self) -> Vec<Task> {
        let folder = std::fs::read_dir(format!("/proc/{}/task", self.id()));
        // A thread may end while it is looked at.
        let statuses = folder
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
        let read = |status: String| {
            let field = |key: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(key));
                line.unwrap_or_default().trim().to_string()
            };
            let state = field("State:").chars().next().unwrap_or('?');
            Task { name: field("Name:"), state, blocked: field("SigBlk:") }
        };
        statuses.map(read).collect()
    }

    /// Waits until there are so many threads beside the library's own, and all of them wait for something.
    pub fn wait_for_sleepers(&self, n: usize) {
        wait_until(&format!("{n} threads sleep"), || {
            let tasks = self.tasks();
            let theirs: Vec<_> = tasks.iter().filter(|task| !task.name.starts_with("pgaad-")).collect();
            theirs.len() == n && theirs.iter().all(|task| task.state == 'S')
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A driver that takes its commands one at a time.
pub struct Session {
    running: Running,
    said: BufReader<ChildStdout>,
}

impl Session {
    fn new(mut running: Running) -> Self {
        let said = BufReader::new(running.0.stdout.take().expect("a pipe"));
        Self { running, said }
    }

    /// Gives it a command, and does not wait for the answer: [`Session::answer`] does.
    pub fn tell(&mut self, command: &[&str]) {
        let stdin = self.running.0.stdin.as_mut().expect("a pipe");
        stdin.write_all(format!("{}\n", command.join("\t")).as_bytes()).expect("the driver reads");
    }

    /// The lines that the command printed.
    #[track_caller]
    pub fn answer(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let length = self.said.read_line(&mut line).expect("text");
            match line.trim_end_matches('\n') {
                _ if length == 0 => panic!("the driver ended: {:?}, after {lines:?}", self.running.0.wait()),
                "." => return lines,
                text => lines.push(Line(text.to_string())),
            }
        }
    }

    /// Gives it a command, and waits for all that it prints.
    #[track_caller]
    pub fn ask(&mut self, command: &[&str]) -> Vec<Line> {
        self.tell(command);
        self.answer()
    }

    /// The same for a command whose last line says it all.
    #[track_caller]
    pub fn one(&mut self, command: &[&str]) -> Line {
        self.ask(command).pop().expect("a line")
    }

    /// For a command that does not end with an answer: what it printed until it was gone, and its exit code.
    pub fn last(mut self, command: &[&str]) -> (String, Option<i32>) {
        self.tell(command);
        drop(self.running.0.stdin.take());
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.said, &mut text).expect("text");
        (text, self.running.0.wait().expect("its status").code())
    }

    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Its standard error, where the session was made with it.
    pub fn stderr(&mut self) -> Option<std::process::ChildStderr> {
        self.running.0.stderr.take()
    }
}

/// Where this program is, by the test's own PATH.
fn on_path(program: &str) -> String {
    let path = std::env::var_os("PATH").expect("a PATH");
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no {program} on PATH")).display().to_string()
}

/// Copies a program, with this mode. This process does not write it: a child of another test's could still hold it open,
/// and then it cannot run.
pub fn install(mode: &str, program: &Path, copy: &Path) {
    let mut install = Command::new("install");
    install.args(["-m", mode]).arg(program).arg(copy);
    assert!(install.status().is_ok_and(|status| status.success()), "no copy as {}", copy.display());
}

/// Whether these tests run as root, who may do more than they need at times.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0)
}

/// Blocks until `done` holds.
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs the same for each row at the same time, and fails with all rows that failed.
pub fn each<T: Sync>(rows: &[T], check: impl Fn(&T) + Sync) {
    let failed = std::thread::scope(|scope| {
        let threads: Vec<_> = rows.iter().map(|row| scope.spawn(|| check(row))).collect();
        threads.into_iter().filter_map(|thread| thread.join().err()).count()
    });
    assert_eq!(failed, 0, "{failed} of {} rows failed, see above", rows.len());
}

/// The command that gets a token from the client of the moment.
pub const NOW: &[&str] = &["client_get_token", "-1"];

/// A new client with these settings beside the environment, and its first answer.
pub fn ask(session: &mut Session, settings: &str) -> Line {
    let made = session.one(&["new", settings]);
    if made.status() == "PGAAD_OK" { session.one(NOW) } else { made }
}

/// What the same client answers when it must ask again.
pub fn ask_again(session: &mut Session) -> Line {
    session.ask(&["invalidate"]);
    session.one(NOW)
}

/// Whether the words stand in the text, in this order.
pub fn in_order(text: &str, words: &[&str]) -> bool {
    words.iter().try_fold(text, |rest, word| rest.split_once(word).map(|(_, rest)| rest)).is_some()
}

/// What holds for every message. A line break would have made two lines of it, the last of them without a status.
pub fn is_one_clear_line(line: &Line, status: &str) -> bool {
    let message = line.errmsg();
    let plain = message.starts_with("pgaad: ") && !message.contains(|c: char| c.is_control());
    line.status() == status && plain && message.len() < 2048
}

#[track_caller]
pub fn assert_one_clear_line(line: &Line, status: &str) {
    assert!(is_one_clear_line(line, status), "not {status}, or no clear line: {line:?}");
}

/// A failure with this status, whose one clear line has these words in this order.
#[track_caller]
pub fn assert_refused(line: &Line, status: &str, words: &[&str]) {
    assert_one_clear_line(line, status);
    assert!(in_order(line.errmsg(), words), "{words:?}: {line:?}");
}

/// A failure with this status, whose one clear line has all of these parts, wherever they stand.
#[track_caller]
pub fn assert_fails(line: &Line, status: &str, parts: &[&str]) {
    assert_one_clear_line(line, status);
    for part in parts {
        assert!(line.errmsg().contains(part), "nothing of {part:?} in {line:?}");
    }
}

/// The time in Unix seconds.
pub fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    since.as_secs().try_into().expect("a time before the end")
}

/// Takes a file's readers away, and the driver's right to read it all the same, which root has.
pub fn unreadable(driver: Driver, path: impl AsRef<Path>) -> Driver {
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).expect("our own file");
    match std::fs::read(path) {
        Ok(_) => driver.under(&["setpriv", "--bounding-set=-dac_override,-dac_read_search"]),
        Err(_) => driver,
    }
}

/// A driver whose environment makes it sign in to the emulator as the first application.
pub fn signed_in(emulator: &Emulator) -> Driver {
    Driver::new().envs(emulator.env(&emulator::APP_ONE))
}

/// Runs it under valgrind, whose complaints of memory errors and of lost blocks make it fail.
pub fn valgrind(driver: Driver) -> Driver {
    valgrind_with("--leak-check=full", driver)
}

pub fn valgrind_with(leak_check: &str, driver: Driver) -> Driver {
    let suppressions = concat!("--suppressions=", env!("CARGO_MANIFEST_DIR"), "/tests/c/valgrind.supp");
    driver.under(&[
        "valgrind",
        leak_check,
        "--quiet",
        "--error-exitcode=99",
        "--show-leak-kinds=definite",
        "--errors-for-leak-kinds=definite",
        "--num-callers=40",
        "--gen-suppressions=all",
        suppressions,
    ])
}

/// The blocks of README that are marked with this word.
pub fn readme_blocks(fence: &str) -> Vec<&'static str> {
    let blocks = include_str!("../../README.md").split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(fence)?.strip_prefix('\n')).collect()
}
