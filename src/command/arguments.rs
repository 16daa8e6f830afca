//! What can be said on the command line.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind as Problem};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};

use crate::error::Error;
use crate::settings::config;

/// The whole of it, which help and completion are made from too.
pub(super) fn grammar() -> Command {
    let conninfo = |arg: Arg| arg.value_name("CONNINFO").value_parser(value_parser!(OsString));
    Command::new("pgaad")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Signs programs in to Azure Database for PostgreSQL with Microsoft Entra ID")
        .after_help("Settings come from PGAAD_* variables; pgaad settings shows them. The manual: man pgaad.")
        .subcommand_required(true)
        .arg(
            Arg::new("settings")
                .long("settings")
                .value_name("SETTINGS")
                .global(true)
                .help("Settings before those of the environment: \"auth=managed_identity client_id=...\""),
        )
        .arg(
            Arg::new("verbose")
                .short('v')
                .long("verbose")
                .global(true)
                .action(ArgAction::Count)
                .help("Say what is done, on standard error; -vv also why"),
        )
        .subcommand(
            Command::new("token")
                .about("Print a token for the database")
                .arg(json("Print a JSON object: token, expires_on (Unix seconds), scope, origin")),
        )
        .subcommand(Command::new("user").about("Print the database user that the identity's token names"))
        .subcommand(
            Command::new("connstring")
                .about("Print a connection string for libpq that holds a token")
                .arg(conninfo(Arg::new("conninfo")).help("Options to start from: key=value or a URI")),
        )
        .subcommand(
            Command::new("exec")
                .about("Run a program whose libpq signs in by itself, for as long as it runs")
                .override_usage("pgaad exec [OPTIONS] -- PROGRAM [ARGUMENT]...")
                .arg(
                    conninfo(Arg::new("conninfo").long("conninfo"))
                        .help("Where to, put into the program's PG* variables"),
                )
                .arg(
                    Arg::new("password-env")
                        .long("password-env")
                        .action(ArgAction::SetTrue)
                        .help("Also set PGPASSWORD, which is not renewed, and not bound to the server"),
                )
                .arg(
                    Arg::new("program")
                        .value_name("PROGRAM")
                        .required(true)
                        .num_args(1..)
                        .trailing_var_arg(true)
                        .allow_hyphen_values(true)
                        .value_parser(value_parser!(OsString))
                        .value_hint(ValueHint::CommandWithArguments)
                        .help("The program and its arguments"),
                ),
        )
        .subcommand(
            Command::new("passfile")
                .about("Write tokens into a password file")
                .arg(path("file", "FILE").required(true).help("The file; its other lines are kept"))
                .arg(
                    conninfo(Arg::new("conninfo").long("conninfo"))
                        .required(true)
                        .action(ArgAction::Append)
                        .help("A server to write a line for; may be given again"),
                )
                .arg(
                    Arg::new("watch")
                        .long("watch")
                        .action(ArgAction::SetTrue)
                        .help("Stay, and renew the tokens before they expire"),
                )
                .arg(
                    Arg::new("format")
                        .long("format")
                        .value_name("FORMAT")
                        .value_parser(["pgpass", "userlist"])
                        .default_value("pgpass")
                        .help("libpq's password file, or PgBouncer's auth_file"),
                )
                .arg(
                    path("reload", "PIDFILE")
                        .long("reload")
                        .help("Send SIGHUP, after each change, to the process whose id this file holds"),
                ),
        )
        .subcommand(
            Command::new("cache")
                .about("Look into the cache, or empty it")
                .subcommand_required(true)
                .disable_help_subcommand(true)
                .subcommand(
                    Command::new("show")
                        .about("Show which tokens the shared cache holds, but not the tokens"),
                )
                .subcommand(Command::new("clear").about("Drop the identity's tokens from the shared cache")),
        )
        .subcommand(
            Command::new("settings")
                .about("Show every setting, where it came from, and whether Entra is on")
                .arg(conninfo(Arg::new("conninfo")).help("A connection to judge"))
                .arg(json("Print a JSON object")),
        )
        .subcommand(
            Command::new("completion").about("Print a completion script for a shell").arg(
                Arg::new("shell")
                    .value_name("SHELL")
                    .required(true)
                    .value_parser(["bash", "zsh", "fish"])
                    .help("The shell"),
            ),
        )
}

fn json(help: &'static str) -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help(help)
}

fn path(id: &'static str, name: &'static str) -> Arg {
    Arg::new(id).value_name(name).value_parser(value_parser!(OsString)).value_hint(ValueHint::FilePath)
}

/// What the parser has to say, as one of our errors; None: help or version, which it prints.
pub(super) fn error(problem: &clap::Error) -> Option<Error> {
    let text = |kind| match problem.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    };
    let typed = text(ContextKind::InvalidArg).or_else(|| text(ContextKind::InvalidSubcommand));
    // Of `--format <FORMAT>` and `<PROGRAM>...` the name.
    let typed = typed.map(|typed| match typed.split_once(" <") {
        Some((option, _)) => option.to_string(),
        None => typed.trim_matches(['<', '>', '.']).to_string(),
    });
    let typed = typed.unwrap_or_default();
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let what = match problem.kind() {
        Problem::DisplayHelp | Problem::DisplayVersion => return None,
        Problem::UnknownArgument if typed.starts_with('-') => format!("Unknown option {typed}"),
        Problem::UnknownArgument => "An argument too many".into(),
        Problem::InvalidSubcommand => format!("Unknown command {typed}"),
        Problem::MissingSubcommand => "A command is missing".into(),
        Problem::MissingRequiredArgument => format!("{typed} is missing"),
        Problem::ArgumentConflict => format!("{typed} was given twice"),
        Problem::InvalidValue if value.is_empty() => format!("{typed} needs a value"),
        Problem::InvalidValue => match problem.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(known)) => format!("{typed} takes one of {}", known.join(", ")),
            _ => format!("{typed} has a value that it cannot take"),
        },
        Problem::InvalidUtf8 => "An argument is not UTF-8".into(),
        _ => "The arguments cannot be read".into(),
    };
    let meant = text(ContextKind::SuggestedArg)
        .or_else(|| text(ContextKind::SuggestedSubcommand))
        .or_else(|| text(ContextKind::SuggestedValue));
    Some(sentence(&what, meant.as_deref()))
}

/// What `exec` is to run, and its arguments. They are taken as they come, so an option before them that there is none of
/// would be the program.
pub(super) fn program(matches: &ArgMatches) -> Result<(&OsStr, impl Iterator<Item = &OsStr>), Error> {
    let mut words = matches.get_many::<OsString>("program").into_iter().flatten().map(OsString::as_os_str);
    let program = words.next().unwrap_or_default();
    let typed = program.to_string_lossy();
    let typed = typed.split('=').next().unwrap_or_default();
    if typed.starts_with('-') {
        let known = ["--conninfo", "--password-env", "--settings", "--verbose", "--help"];
        let nearest = known.into_iter().min_by_key(|known| strsim::osa_distance(known, typed));
        let nearest = nearest.filter(|known| strsim::osa_distance(known, typed) <= 3);
        return Err(sentence(&format!("Unknown option {typed}"), nearest));
    }
    Ok((program, words))
}

fn sentence(what: &str, meant: Option<&str>) -> Error {
    config(match meant {
        Some(meant) => format!("{what}: did you mean {meant}?"),
        None => format!("{what}. See pgaad{} --help.", command_typed()),
    })
}

/// Whose help has it, with a blank before it.
fn command_typed() -> String {
    let grammar = grammar();
    let is_command = |word: &String| grammar.find_subcommand(word).is_some();
    std::env::args_os()
        .filter_map(|word| word.into_string().ok())
        .find(is_command)
        .map_or_else(String::new, |word| format!(" {word}"))
}

/// The bytes of an argument that libpq is to read.
pub(super) fn bytes(argument: Option<&OsString>) -> &[u8] {
    argument.map_or(&[], |text| OsStr::as_encoded_bytes(text))
}
