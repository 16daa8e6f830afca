//! The emulator by hand: `emulator` prints shell lines and runs until it is told to stop; `emulator run -- COMMAND`
//! runs a command with those variables in its environment.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use emulator::os::{self, Signals};
use emulator::{APP_ONE, App, Certificate, Emulator, Endpoint, IDENTITY_ONE, Imds, Postgres};

const USAGE: &str = "\
usage: emulator [OPTIONS]                     print variables, run until SIGINT or SIGTERM
       emulator [OPTIONS] run -- COMMAND...   run a command with the variables, exit as it does
  --app NAME       sign in as this application, by its role; app-one by default
  --managed-identity   sign in as the identity of a virtual machine, from its metadata service; no secret, no user
  --no-postgres    only the token service
  --plaintext      let roles in without TLS too
  --until-eof      end when standard input does as well
All variables by which pgaad, libpq or a proxy is told something else are taken away first.
";

/// How the names of variables begin by which pgaad or libpq would be told something else than ours, or would send it to
/// somebody else.
const IN_THE_WAY: [&str; 18] = [
    "PG", // PGAAD_ as well
    "DB_",
    "AZURE_",
    "AZURESUBSCRIPTION_",
    "IDENTITY_",
    "IMDS_",
    "MSI_",
    "SYSTEM_OIDC",
    "SYSTEM_ACCESSTOKEN",
    "ACTIONS_ID_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

struct Options {
    app: &'static App,
    managed_identity: bool,
    postgres: bool,
    plaintext: bool,
    until_eof: bool,
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprint!("{why}{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("emulator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Options, String> {
    let mut options = Options {
        app: &APP_ONE,
        managed_identity: false,
        postgres: true,
        plaintext: false,
        until_eof: false,
        command: Vec::new(),
    };
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--app") => {
                let role = args.next().ok_or("--app needs a name\n")?;
                let found = emulator::APPS.iter().find(|app| role == *app.role);
                options.app = found.ok_or_else(|| format!("there is no application {}\n", role.display()))?;
            }
            Some("--managed-identity") => options.managed_identity = true,
            Some("--no-postgres") => options.postgres = false,
            Some("--plaintext") => options.plaintext = true,
            Some("--until-eof") => options.until_eof = true,
            Some("run") => {
                options.command = args.by_ref().collect();
                if options.command.first().is_some_and(|first| first == "--") {
                    options.command.remove(0);
                }
                if options.command.is_empty() {
                    return Err("run needs a command\n".to_owned());
                }
            }
            Some("-h" | "--help") => return Err(String::new()),
            _ => return Err(format!("{} is unknown\n", arg.display())),
        }
    }
    Ok(options)
}

fn run(options: &Options) -> io::Result<u8> {
    let signals = Signals::block()?; // before there is any other thread
    let emulator = Emulator::try_start(Certificate::Good)?;
    let postgres = if options.postgres { Some(Postgres::try_start(&emulator)?) } else { None };
    if let (Some(postgres), true) = (&postgres, options.plaintext) {
        postgres.allow_plaintext(true)?;
    }
    let imds = options.managed_identity.then(|| virtual_machine(&emulator));
    let mut variables = match &imds {
        Some(imds) => [vec![("PGAAD_AUTH".to_owned(), "managed_identity".into())], imds.env()].concat(),
        // A program that asks one all the same is not to reach a real one.
        None => {
            [emulator.env(options.app), vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST".into(), Imds::NONE.into())]]
                .concat()
        }
    };
    if let Some(postgres) = &postgres {
        let env = postgres.env(options.app.role).into_iter();
        variables.extend(env.filter(|(name, _)| imds.is_none() || name != "PGUSER"));
        variables.push(("EMULATOR_SOCKET_DIR".to_owned(), postgres.socket_dir().into_os_string()));
        variables.push(("EMULATOR_SOCKET_OWNER".to_owned(), postgres.owner().into()));
    }
    variables.push(("EMULATOR_CONTROL".to_owned(), emulator.control_url().into()));
    match options.command.split_first() {
        Some((program, args)) => run_command(program, args, variables, signals),
        None => {
            print(&variables)?;
            wait(signals, options.until_eof);
            Ok(0)
        }
    }
}

/// The metadata service of a machine that has one identity, a user-assigned one.
fn virtual_machine(emulator: &Emulator) -> Endpoint<Imds> {
    let imds = Endpoint::start(emulator, Imds);
    imds.configure(|has| (has.system, has.user_assigned) = (None, vec![&IDENTITY_ONE]));
    imds
}

fn print(variables: &[(String, OsString)]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    // By a command, since only the shell that reads it knows what it has. Some shells want one name at least.
    let names = IN_THE_WAY.join("|");
    writeln!(
        out,
        "unset EMULATOR_CONTROL $(awk 'BEGIN {{ for (name in ENVIRON) if (name ~ /^({names})/) print name }}')"
    )?;
    for (name, value) in variables {
        let value = value.to_string_lossy().replace('\'', r"'\''");
        writeln!(out, "export {name}='{value}'")?;
    }
    writeln!(out, "# ready; curl $EMULATOR_CONTROL tells what can be done")?;
    out.flush()
}

fn wait(signals: Signals, until_eof: bool) {
    let (tell, told) = mpsc::channel();
    if until_eof {
        let tell = tell.clone();
        thread::spawn(move || {
            let mut sink = [0; 4096];
            while io::stdin().read(&mut sink).is_ok_and(|n| n > 0) {}
            let _ = tell.send(());
        });
    }
    thread::spawn(move || {
        signals.wait();
        let _ = tell.send(());
    });
    let _ = told.recv();
}

/// Runs the command; passes on the signals it would not get otherwise; returns its status as a shell would.
fn run_command(
    program: &OsStr,
    args: &[OsString],
    variables: Vec<(String, OsString)>,
    signals: Signals,
) -> io::Result<u8> {
    let mut command = Command::new(program);
    let in_the_way = |name: &OsString| {
        IN_THE_WAY.iter().any(|start| name.as_encoded_bytes().starts_with(start.as_bytes()))
    };
    std::env::vars_os().map(|(name, _)| name).filter(in_the_way).for_each(|name| {
        command.env_remove(name);
    });
    command.args(args).envs(variables);
    os::tie_to_us(&mut command);
    let mut child = command
        .spawn()
        .map_err(|error| io::Error::other(format!("cannot run {}: {error}", program.display())))?;
    let running = Arc::new(Mutex::new(Some(child.id())));
    let target = Arc::clone(&running);
    thread::spawn(move || {
        loop {
            let signal = signals.wait();
            let target = target.lock().unwrap_or_else(|poison| poison.into_inner());
            match *target {
                Some(pid) if signal.by_process => os::forward(pid, signal.number),
                _ => {} // the terminal has sent it to the command already
            }
        }
    });
    os::wait_without_reaping(child.id());
    *running.lock().unwrap_or_else(|poison| poison.into_inner()) = None;
    let status = child.wait()?;
    Ok(status.code().or(status.signal().map(|signal| 128 + signal)).map_or(1, |code| code as u8))
}
