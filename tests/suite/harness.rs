//! Builds C programs as a user does, and runs them in an environment that holds only what the test names.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};

/// The folder of the libraries that this very build made.
fn built() -> PathBuf {
    let exe = std::env::current_exe().expect("the test's own path");
    exe.parent().expect("target/<profile>/deps").to_path_buf()
}

/// Where C programs and the library under its soname are put.
pub fn c_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = built().join("c-tests");
        std::fs::create_dir_all(&dir).expect("a folder in target");
        for name in ["libpgaad.so.0", "libpgaad.so"] {
            let link = dir.join(name);
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(built().join("libpgaad.so"), link).expect("a link in target");
        }
        dir
    })
}

/// Compiles `tests/c/<name>.c` against the header and the library, once, and gives the program's path.
pub fn program(name: &str, more: &[&str]) -> PathBuf {
    static DONE: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut done = DONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let done = done.get_or_insert_default();
    if let Some(path) = done.get(name) {
        return path.clone();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = c_dir().join(name);
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let status = Command::new(cc)
        .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .arg(&program)
        .arg(root.join(format!("tests/c/{name}.c")))
        .arg("-I")
        .arg(root.join("include"))
        .args(["-I", "/usr/include/postgresql", "-L"])
        .arg(c_dir())
        .arg(format!("-Wl,-rpath,{}", c_dir().display()))
        .args(["-lpgaad", "-ldl"])
        .args(more)
        .status()
        .expect("a C compiler");
    assert!(status.success(), "tests/c/{name}.c does not compile");
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

    /// A value; `errmsg`, `connstring` and `error` reach to the line's end or the next known key.
    pub fn get(&self, key: &str) -> &str {
        let Some(at) = self.0.find(&format!(" {key}=")) else { return "" };
        let rest = &self.0[at + key.len() + 2..];
        let end = match key {
            "errmsg" | "error" | "value" => None,
            "connstring" => rest.rfind(" errmsg="),
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

    /// The value of a command that prints its name and one word.
    pub fn word(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }
}

/// The driver, in an environment of its own.
#[derive(Clone, Default)]
pub struct Driver {
    env: Vec<(String, OsString)>,
    wrapper: Vec<String>,
}

impl Driver {
    pub fn new() -> Self {
        // HOME is a folder without files of libpq's.
        Self::default().env("HOME", "/nonexistent").env("PATH", "/usr/bin:/bin").env("LC_ALL", "C")
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

    /// Runs the driver under another program: `valgrind`, `setpriv ...`.
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(ToString::to_string).collect();
        self
    }

    fn command(&self, commands: &[&[&str]]) -> Command {
        let driver = program("driver", &["-lpq"]);
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
        let output = self.output(commands);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
        out.lines().map(|line| Line(line.to_string())).collect()
    }

    /// Runs one command that prints one line.
    #[track_caller]
    pub fn one(&self, command: &[&str]) -> Line {
        self.run(&[command]).pop().expect("one line")
    }

    /// Starts the commands, for a test that talks to them while they run (`wait`, [`Running::go_on`]).
    pub fn start(&self, commands: &[&[&str]]) -> Running {
        let mut command = self.command(commands);
        Running(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the driver starts"))
    }
}

/// A driver under way; killed if the test ends before it does.
pub struct Running(Child);

impl Running {
    pub fn go_on(&mut self) {
        self.0.stdin.as_mut().expect("a pipe").write_all(b"\n").expect("the driver reads");
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// What it printed, once it has ended.
    #[track_caller]
    pub fn finish(mut self) -> Vec<Line> {
        drop(self.0.stdin.take());
        let mut out = String::new();
        std::io::Read::read_to_string(self.0.stdout.as_mut().expect("a pipe"), &mut out).expect("text");
        let status = self.0.wait().expect("its status");
        assert!(status.success(), "{status}\n{out}");
        out.lines().map(|line| Line(line.to_string())).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
