//! A developer's command that prints a token: `az`, `azd`.

use std::ffi::OsStr;
use std::io::ErrorKind::{FileTooLarge, NotFound, TimedOut};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use zeroize::Zeroizing;

use super::entra::{code_in, hint};
use super::{Ask, Failure, Retry, answer, log_request};
use crate::error::{Error, ErrorKind};
use crate::os::child::{self, Command, Printed};
use crate::token::{Moment, Token};

/// How long it may take. az alone needs a second or more.
const PATIENCE: Duration = Duration::from_secs(15);

/// It can't answer in less.
const LEAST: Duration = Duration::from_millis(1);

/// No token fills this.
const LONGEST_OUTPUT: usize = 1024 * 1024;

/// Where it runs: modules and programs in the caller's directory are none of its own.
const DIRECTORY: &str = "/";

pub(super) struct Tool {
    /// The command.
    pub(super) name: &'static str,
    /// "the Azure CLI"
    pub(super) title: &'static str,
    /// Who is not signed in is told to run this.
    pub(super) login: &'static str,
    /// What keeps colours out of its output.
    pub(super) variable: (&'static str, &'static str),
    /// Pieces of what it says when nobody is signed in.
    pub(super) not_signed_in: &'static [&'static str],
    /// Where in its JSON the token is, and what time it ends (Unix seconds), if that can be read.
    pub(super) token: &'static str,
    pub(super) expires_on: fn(&Value) -> Option<i64>,
}

impl Tool {
    /// Runs it with these arguments, by no shell.
    pub(super) fn fetch(&self, ask: &Ask<'_>, arguments: &[&str]) -> Result<Token, Failure> {
        let (begun, started) = (Instant::now(), Moment::now());
        let result = self.run(ask, arguments).and_then(|printed| self.read(&printed, started));
        log_request(ask, &[("source", self.name), ("scope", ask.scope)], begun, &result);
        result
    }

    fn run(&self, ask: &Ask<'_>, arguments: &[&str]) -> Result<Printed, Failure> {
        let Self { name, title, .. } = self;
        let env = ask.settings.environment();
        if env.is_suspect() {
            return Err(Failure::nothing_here(format!(
                "{name} is not started by a program that runs with raised rights. Set trust_environment=on in its \
                 settings if its caller is trusted."
            )));
        }
        let path = env.var("PATH").and_then(|path| find(name, &path)).ok_or_else(|| self.not_installed())?;
        let time = PATIENCE.min(ask.deadline.saturating_duration_since(Instant::now()));
        if time < LEAST {
            let text =
                format!("No time was left to ask {title} ({name}): the deadline (PGAAD_TIMEOUT_MS) passed.");
            return Err(Failure::new(ErrorKind::Timeout, text, Retry::Never).here(false));
        }
        let command =
            Command { program: &path, arguments, directory: Path::new(DIRECTORY), variable: self.variable };
        child::run(&command, Instant::now() + time, LONGEST_OUTPUT).map_err(|error| match error.kind() {
            TimedOut => {
                let text = format!(
                    "{title} ({name}) did not answer in {} s, and was ended. Try it by hand: {name} {}.",
                    time.as_secs_f32().ceil(),
                    arguments.join(" ")
                );
                Failure::new(ErrorKind::Timeout, text, Retry::Never).here(false)
            }
            FileTooLarge => self.protocol("printed far more than a token"),
            NotFound => self.not_installed(),
            _ => Failure::nothing_here(format!("{title} ({name}) could not be run: {error}.")),
        })
    }

    fn not_installed(&self) -> Failure {
        Failure::nothing_here(format!(
            "{} ({}) is not installed, or not on PATH. Install it, then run: {}.",
            self.title, self.name, self.login
        ))
    }

    /// The token that it printed. Nothing of its output is ever shown but Entra's own words.
    fn read(&self, printed: &Printed, started: Moment) -> Result<Token, Failure> {
        let Self { name, title, login, .. } = self;
        let complaint = String::from_utf8_lossy(&printed.stderr);
        if printed.status.is_none_or(|status| status.success())
            && let Some(json) = serde_json::from_slice::<Value>(&printed.stdout).ok().filter(Value::is_object)
            && json.get(self.token).is_some_and(Value::is_string)
        {
            return self.token(json, started);
        }
        if let Some(said) = complaint.lines().find_map(|line| entras_words(&message(line))) {
            let code = code_in(&said);
            let what_to_do = code.and_then(hint).unwrap_or("Show your administrator this message.");
            let text = format!(
                "Entra refused the user of {title} ({name}): {}. {what_to_do} To sign in again: {login}.",
                said.trim_end_matches('.')
            );
            return Err(Error::new(ErrorKind::Denied, text).into());
        }
        let lower = complaint.to_ascii_lowercase();
        if self.not_signed_in.iter().any(|piece| lower.contains(piece)) {
            return Err(Failure::nothing_here(format!("Nobody is signed in to {title}. Run: {login}.")));
        }
        let how = match printed.status {
            Some(status) if status.code() == Some(127) => return Err(self.not_installed()),
            Some(status) if !status.success() => format!("failed ({status})"),
            None if printed.stdout.is_empty() => "failed".into(),
            _ => return Err(self.protocol("printed something that is no token")),
        };
        let text = format!("{title} ({name}) {how}. Try it by hand: {login}, then {name} --version.");
        Err(Failure::nothing_here(text))
    }

    fn protocol(&self, what: &str) -> Failure {
        let text = format!("{} ({}) {what}. Is it a recent version?", self.title, self.name);
        Failure::new(ErrorKind::Protocol, text, Retry::Never).here(false)
    }

    fn token(&self, mut json: Value, started: Moment) -> Result<Token, Failure> {
        let Some(Value::String(text)) = json.get_mut(self.token).map(Value::take) else {
            unreachable!("it was looked at")
        };
        let secret = answer::secret(&Zeroizing::new(text))
            .ok_or_else(|| self.protocol("printed characters that no token has"))?;
        let end = (self.expires_on)(&json)
            .ok_or_else(|| self.protocol("printed a token, but not until when it is good"))?;
        answer::living(secret, started, end.saturating_sub(started.unix()), None, Some(started.unix()))
            .map_err(|why| self.protocol(&format!("printed a token that cannot be used: {why}")))
    }
}

/// What a line of complaint says: azd writes them as JSON.
fn message(line: &str) -> String {
    let json: Option<Value> = serde_json::from_str(line).ok();
    let text = json.as_ref().and_then(|json| json["error"].as_str().or(json["data"]["message"].as_str()));
    text.unwrap_or(line).into()
}

/// From the code on, to the end of the line, without ids and times, and without what may be a token.
fn entras_words(text: &str) -> Option<String> {
    let words = text[text.find("AADSTS")?..].split(' ');
    let words: Vec<_> = words.map(|word| if word.contains("eyJ") { "***" } else { word }).collect();
    Some(answer::to_the_point(&words.join(" ")).to_string())
}

/// The first program of that name in an absolute directory of PATH: who runs a program in a directory does not mean
/// the programs that lie about in it.
fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    let runs = |file: &PathBuf| {
        file.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(runs)
}
