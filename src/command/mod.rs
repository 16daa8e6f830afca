//! The program `pgaad`: tokens for shells, and for programs that nobody can change.

mod arguments;
mod cache;
mod exec;
mod fresh;
mod passfile;
mod pgpass;
mod rule;
mod settings;
mod token;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::ArgMatches;

use crate::bug;
use crate::client::Client;
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::ffi;
use crate::log::Level;

/// Runs the command. Its exit code is the number of the failure's status, or the program's that `exec` ran.
pub fn main() -> ExitCode {
    // It holds secrets and tokens.
    crate::os::signals::hide_memory();
    let matches = match arguments::grammar().try_get_matches() {
        Ok(matches) => matches,
        Err(problem) => {
            return match arguments::error(&problem) {
                Some(error) => failed(&error),
                None => {
                    problem.print().map_or_else(|error| failed(&unwritten(error)), |()| ExitCode::SUCCESS)
                }
            };
        }
    };
    bug::contain(|| run(&matches)).and_then(|result| result).unwrap_or_else(|error| failed(&error))
}

fn run(matches: &ArgMatches) -> Result<ExitCode, Error> {
    let (name, matches) = matches.subcommand().unwrap_or_else(|| unreachable!("the grammar wants one"));
    let settings = settings_string(matches);
    let client = || Client::new(&settings);
    match name {
        "token" => token::token(&client()?, matches),
        "user" => token::user(&client()?),
        "connstring" => token::connstring(&client()?, matches),
        "exec" => return exec::exec(client()?, matches),
        "passfile" => passfile::passfile(client()?, matches),
        "cache" => cache::cache(&client()?, matches),
        "settings" => settings::settings(&settings, matches),
        "completion" => completion(matches),
        _ => unreachable!("the grammar has no other"),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// What a client is made of: with -v more is logged than the environment says, unless the settings say how much.
fn settings_string(matches: &ArgMatches) -> String {
    let given = matches.get_one::<String>("settings").map_or("", String::as_str);
    let wanted = match matches.get_count("verbose") {
        0 => Level::Off,
        1 => Level::Info,
        _ => Level::Debug,
    };
    let set = Environment::process().text("PGAAD_LOG").ok().flatten();
    match set.map(|set| Level::ALL.iter().find(|(name, _)| *name == set)) {
        // A word that is no level is an error, to be said.
        Some(None) => given.into(),
        Some(Some((_, set))) if *set >= wanted => given.into(),
        _ if wanted == Level::Off => given.into(),
        _ => format!("log={} {given}", wanted.name()),
    }
}

/// Says on standard error what failed.
fn failed(error: &Error) -> ExitCode {
    say(error);
    let status = ffi::status_of(error.kind());
    ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
}

/// One line for people.
fn say(what: &dyn std::fmt::Display) {
    let mark = emphasis("pgaad:", io::stderr().is_terminal());
    crate::os::write_to_stderr(&format!("{mark} {what}\n"));
}

/// For standard output.
fn bold(text: &str) -> String {
    emphasis(text, io::stdout().is_terminal())
}

/// Only where people look at it, and don't mind (no-color.org).
fn emphasis(text: &str, on_terminal: bool) -> String {
    let is_wanted = on_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if is_wanted { format!("\x1b[1m{text}\x1b[0m") } else { text.into() }
}

/// Prints one line for programs.
fn print(line: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(line).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()).map_err(unwritten)
}

fn unwritten(error: io::Error) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("Standard output cannot be written to: {error}."))
}

fn completion(matches: &ArgMatches) -> Result<(), Error> {
    use clap_complete::aot::{Shell, generate};
    let shell = match matches.get_one::<String>("shell").map(String::as_str) {
        Some("bash") => Shell::Bash,
        Some("zsh") => Shell::Zsh,
        _ => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut arguments::grammar(), "pgaad", &mut script);
    print(script.trim_ascii_end())
}
