//! Stand-ins for `az` and `azd`: shell scripts for PATH that tell this process how they were called, and print what
//! it says. They check what the real ones would, and what a careful caller owes them.
//!
//! ```no_run
//! let emulator = emulator::Emulator::start();
//! let az = emulator::Tool::az(&emulator);
//! az.next(emulator::Printed::refused(50076, "You must use multi-factor authentication."));
//! // Run something with PATH set to az.dir(), then look at az.calls().
//! ```

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;

use crate::Emulator;
use crate::dir::PrivateDir;
use crate::entra::{DEVELOPER, DEVELOPER_TWO, Principal, RESOURCES, State};
use crate::http::{Reader, Request, Response, Unread, parse_form};
use crate::jwt::claims;
use crate::net::Server;
use crate::sync::{Stop, Watched, lock};

/// What a tool prints, and how it ends.
#[derive(Clone, Debug)]
pub struct Printed {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    exit: u8,
    hang: bool,
}

/// Stands for a token in what is printed.
const TOKEN: &str = "{token}";
/// Stands for the time at which it ends: Unix seconds; az's local time; in UTC as azd tells it.
const SECONDS: &str = "{expires_on}";
const LOCAL: &str = "{local}";
const UTC: &str = "{utc}";

impl Printed {
    /// Text, in which `{token}` stands for a token for what was asked for, and `{expires_on}`, `{local}` and `{utc}`
    /// for the time at which that ends.
    pub fn text(exit: u8, stdout: &str, stderr: &str) -> Self {
        Self { stdout: stdout.into(), stderr: stderr.into(), exit, hang: false }
    }

    /// A token, as az prints it since 2.54; `{tenant}` is there even where it was not asked for.
    fn az(tenant: &str, subscription: bool) -> Self {
        let mut body = json!({
            "accessToken": TOKEN,
            "expiresOn": LOCAL,
            "expires_on": 0,
            "tenant": tenant,
            "tokenType": "Bearer",
        });
        if subscription {
            body["subscription"] = json!("5b5b5b5b-1111-2222-3333-444444444444");
        }
        let text = format!("{body:#}\n").replace("\"expires_on\": 0", &format!("\"expires_on\": {SECONDS}"));
        Self::text(0, &text, "")
    }

    fn azd() -> Self {
        Self::text(0, &format!("{}\n", json!({"token": TOKEN, "expiresOn": UTC})), "")
    }

    /// A token as az printed it before 2.54: the time is local, and that of no zone.
    pub fn local_time_only() -> Self {
        let body = json!({"accessToken": TOKEN, "expiresOn": LOCAL, "tokenType": "Bearer"});
        Self::text(0, &format!("{body:#}\n"), "")
    }

    /// No JSON, with a token in it that must not be shown.
    pub fn garbage() -> Self {
        Self::text(0, "Here you are: {token}, enjoy!\n", "")
    }

    /// Entra's refusal, as the tools pass it on.
    pub fn refused(code: u32, text: &str) -> Self {
        let stderr = format!(
            "ERROR: AADSTS{code}: {text} Trace ID: 7a7a7a7a-0000-0000-0000-000000000001 Correlation ID: \
             7a7a7a7a-0000-0000-0000-000000000002 Timestamp: 2025-01-31 12:00:00Z\n\
             Interactive authentication is needed. Please run:\naz login\n"
        );
        Self::text(1, "", &stderr)
    }

    /// Nothing, for ever: a child of the tool holds its output open as well.
    pub fn hang() -> Self {
        Self { hang: true, ..Self::text(0, "", "") }
    }

    /// A token, and then blanks: so many bytes that no honest answer has.
    pub fn huge(bytes: usize) -> Self {
        let mut huge = Self::az(DEVELOPER.tenant.id, true);
        huge.stdout.resize(bytes, b' ');
        huge
    }
}

/// How a tool was called.
#[derive(Clone, Debug)]
pub struct Call {
    /// What came after its name.
    pub args: Vec<String>,
    /// The directory it ran in.
    pub cwd: PathBuf,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Where its standard input leads; empty if that is closed.
    pub stdin: String,
    /// Where its descriptors beyond the first three lead, but for the shell's own.
    pub descriptors: Vec<String>,
    /// The signals that it was started with blocked, one bit each.
    pub blocked_signals: u64,
    /// Why it was refused, in the words it printed.
    pub refused: Option<String>,
}

impl Call {
    /// The value of a variable.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The value after an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        let at = self.args.iter().position(|arg| arg == name)?;
        self.args.get(at + 1).map(String::as_str)
    }
}

/// Which tool it is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Az,
    Azd,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Az => "az",
            Self::Azd => "azd",
        }
    }

    /// What it says when nobody has signed in.
    fn logged_out(self) -> &'static str {
        match self {
            Self::Az => "ERROR: Please run 'az login' to setup account.\n",
            Self::Azd => "ERROR: not logged in, run `azd auth login` to login\n",
        }
    }

    /// Who is signed in.
    fn user(self) -> &'static Principal {
        match self {
            Self::Az => &DEVELOPER,
            Self::Azd => &DEVELOPER_TWO,
        }
    }
}

/// Directories where nobody plants programs.
const SAFE: [&str; 3] = ["/", "/bin", "/usr/bin"];

struct Shop {
    kind: Kind,
    entra: Arc<State>,
    script: Mutex<Script>,
    record: Watched<Record>,
}

struct Script {
    next: VecDeque<Printed>,
    standing: Option<Printed>,
    lifetime: i64,
}

#[derive(Default)]
struct Record {
    calls: Vec<Call>,
    /// What each call prints.
    answers: Vec<Printed>,
    tokens: Vec<String>,
    hanging: usize,
}

/// A tool in a directory of its own.
pub struct Tool {
    shop: Arc<Shop>,
    dir: PrivateDir,
    _server: Server,
}

impl Tool {
    /// Azure's command line, with [`DEVELOPER`] signed in.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn az(emulator: &Emulator) -> Self {
        Self::start(emulator, Kind::Az).unwrap_or_else(|error| panic!("cannot make az: {error}"))
    }

    /// Azure's developer command line, with [`DEVELOPER_TWO`] signed in.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn azd(emulator: &Emulator) -> Self {
        Self::start(emulator, Kind::Azd).unwrap_or_else(|error| panic!("cannot make azd: {error}"))
    }

    fn start(emulator: &Emulator, kind: Kind) -> io::Result<Self> {
        let stop = Stop::new();
        let shop = Arc::new(Shop {
            kind,
            entra: Arc::clone(emulator.entra().state()),
            script: Mutex::new(Script { next: VecDeque::new(), standing: None, lifetime: 3600 }),
            record: Watched::new(Record::default()),
        });
        let serving = Arc::clone(&shop);
        let server = Server::start(kind.name(), stop, move |tcp, _| {
            let _ = serving.serve(tcp); // the scripts come and go
        })?;
        let dir = PrivateDir::new("pgaad-tool-", 0o755)?;
        let script = SCRIPT.replace("{address}", &server.address().to_string());
        let source = dir.write("script", script)?;
        // Written by another process: what is open for writing in this one when a thread of it forks can't be executed
        // for a while ("Text file busy").
        let copied =
            Command::new("install").arg("-m755").arg(&source).arg(dir.path().join(kind.name())).status()?;
        fs::remove_file(source)?;
        if !copied.success() {
            return Err(io::Error::other("install(1) failed"));
        }
        Ok(Self { shop, dir, _server: server })
    }

    /// The directory for PATH. It holds nothing else, and the tool needs nothing else.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Prints this at the next call, or the next but those that are queued.
    pub fn next(&self, printed: Printed) {
        lock(&self.shop.script).next.push_back(printed);
    }

    /// Prints this from now on, once the queue is empty.
    pub fn always(&self, printed: Printed) {
        lock(&self.shop.script).standing = Some(printed);
    }

    /// Has nobody signed in from now on.
    pub fn log_out(&self) {
        self.always(Printed::text(1, "", self.shop.kind.logged_out()));
    }

    /// Prints tokens again, from the next call on.
    pub fn clear(&self) {
        let mut script = lock(&self.shop.script);
        script.next.clear();
        script.standing = None;
    }

    /// How long its tokens live from now on; an hour at first.
    pub fn set_lifetime(&self, seconds: i64) {
        lock(&self.shop.script).lifetime = seconds;
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shop.record.get().calls.clone()
    }

    /// The tokens it has printed so far.
    pub fn tokens(&self) -> Vec<String> {
        self.shop.record.get().tokens.clone()
    }

    /// Blocks until it was called `n` times in all; false if it was not within `patience`.
    #[must_use]
    pub fn called_within(&self, n: usize, patience: Duration) -> bool {
        self.shop.record.wait_until(patience, |record| record.calls.len() >= n)
    }

    /// Blocks until exactly `n` processes hang: a tool that hangs is two. False if they do not within `patience`.
    #[must_use]
    pub fn hanging_within(&self, n: usize, patience: Duration) -> bool {
        self.shop.record.wait_until(patience, |record| record.hanging == n)
    }
}

/// Tells first what the kernel knows of the call, then prints what comes back. All that it runs it runs by path, since
/// PATH is the caller's. Whoever hangs holds a connection open, and so ends with the emulator at the latest.
const SCRIPT: &str = r#"#!/bin/sh
ask() { /usr/bin/env -i /usr/bin/curl -q -sS --noproxy '*' "$@"; }
me=/proc/$$
fds=
for fd in "$me"/fd/*; do
    [ -e "$fd" ] && fds="$fds${fd##*/} $(/usr/bin/readlink "$fd")
"
done
/usr/bin/timeout 5 /usr/bin/cmp -s /dev/null -
stdin=$?
set -- $(ask --data-urlencode "cmdline@$me/cmdline" --data-urlencode "environ@$me/environ" \
    --data-urlencode "status@$me/status" --data-urlencode "fds=$fds" --data-urlencode "stdin=$stdin" \
    --data-urlencode "cwd=$(/usr/bin/readlink "$me/cwd")" "http://{address}/call")
ask "http://{address}/$1/stdout"
ask "http://{address}/$1/stderr" >&2
if [ "$3" = hang ]; then
    ask --no-show-error "http://{address}/$1/hang" &
    ask --no-show-error "http://{address}/$1/hang"
fi
exit "$2"
"#;

impl Shop {
    fn serve(&self, mut tcp: TcpStream) -> io::Result<()> {
        let mut reader = Reader::default();
        loop {
            let request = match reader.read(&mut tcp) {
                Ok(request) => request,
                Err(Unread::Gone) => return Ok(()),
                Err(Unread::Bad(status, why)) => {
                    return Response::new(status, "text/plain", why).write(&mut tcp, |_| {}).map(drop);
                }
            };
            let path: Vec<&str> = request.target.trim_start_matches('/').split('/').collect();
            let answer = |number: &str| {
                let number: usize = number.parse().ok()?;
                self.record.get().answers.get(number).cloned()
            };
            let body = match path[..] {
                ["call"] => self.called(&request)?.into_bytes(),
                [number, "stdout"] => answer(number).map(|printed| printed.stdout).unwrap_or_default(),
                [number, "stderr"] => answer(number).map(|printed| printed.stderr).unwrap_or_default(),
                _ => {
                    self.record.change(|record| record.hanging += 1);
                    let ended = tcp.read(&mut [0]);
                    self.record.change(|record| record.hanging -= 1);
                    return ended.map(drop);
                }
            };
            Response::new(200, "text/plain", body).write(&mut tcp, |_| {})?;
        }
    }

    /// Records a call, and decides what it prints: its number, its exit status, and whether it hangs.
    fn called(&self, request: &Request) -> io::Result<String> {
        let (mut call, stdin_ends) =
            self.read(request).ok_or_else(|| io::Error::other("a call that cannot be read"))?;
        let asked = self.judge(&call, stdin_ends);
        let (printed, token) = match asked {
            Ok(asked) => self.print(&call, &asked)?,
            Err((exit, why)) => {
                call.refused = Some(why.clone());
                (Printed::text(exit, "", &format!("ERROR: {why}\n")), None)
            }
        };
        let (exit, hang) = (printed.exit, if printed.hang { "hang" } else { "" });
        Ok(self.record.change(|record| {
            record.tokens.extend(token);
            record.calls.push(call);
            record.answers.push(printed);
            format!("{} {exit} {hang}", record.answers.len() - 1)
        }))
    }

    /// The call, and whether there is nothing to read from its standard input.
    fn read(&self, request: &Request) -> Option<(Call, bool)> {
        let form = parse_form(&request.body)?;
        let field = |name: &str| form.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let list = |text: &str| -> Vec<String> { text.split_terminator('\0').map(str::to_owned).collect() };
        let args = list(field("cmdline")?);
        let script = args.get(1)?.clone();
        let pair =
            |text: &String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let fds: Vec<(u32, &str)> = field("fds")?
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(number, target)| Some((number.parse().ok()?, target)))
            .collect();
        let blocked = field("status")?.lines().find_map(|line| line.strip_prefix("SigBlk:"))?;
        let call = Call {
            args: args[2..].to_vec(),
            cwd: field("cwd")?.into(),
            env: list(field("environ")?).iter().filter_map(pair).collect(),
            stdin: fds.iter().find(|(n, _)| *n == 0).map(|(_, to)| (*to).to_owned()).unwrap_or_default(),
            descriptors: fds
                .iter()
                .filter(|(number, target)| *number > 2 && *target != script)
                .map(|(_, target)| (*target).to_owned())
                .collect(),
            blocked_signals: u64::from_str_radix(blocked.trim(), 16).ok()?,
            refused: None,
        };
        Some((call, field("stdin")? == "0"))
    }

    /// What is asked for, or exit status and words of the refusal.
    fn judge(&self, call: &Call, stdin_ends: bool) -> Result<Asked, (u8, String)> {
        let careless = |why: &str| Err((3, why.to_owned()));
        if !SAFE.iter().any(|dir| call.cwd == Path::new(dir)) {
            return careless("called in a directory where anyone may have planted something");
        }
        if !stdin_ends {
            return careless("called with something on standard input");
        }
        let colours = match self.kind {
            Kind::Az => "AZURE_CORE_NO_COLOR",
            Kind::Azd => "NO_COLOR",
        };
        if call.var(colours) != Some("true") {
            return careless("called without a word on colours");
        }
        let asked = match self.kind {
            Kind::Az => az_arguments(&call.args),
            Kind::Azd => azd_arguments(&call.args),
        }
        .map_err(|why| (2, why))?;
        let tenant = self.kind.user().tenant;
        if asked.tenant.as_ref().is_some_and(|asked| ![tenant.id, tenant.domain].contains(&asked.as_str())) {
            return Err((
                1,
                format!("AADSTS90002: Tenant '{}' not found.", asked.tenant.unwrap_or_default()),
            ));
        }
        if !RESOURCES.iter().any(|known| known.id == asked.resource) {
            let why = "was not found in the tenant";
            return Err((1, format!("AADSTS500011: The resource principal named {} {why}.", asked.resource)));
        }
        Ok(asked)
    }

    /// What is printed, with the token in it, if any.
    fn print(&self, call: &Call, asked: &Asked) -> io::Result<(Printed, Option<String>)> {
        let (next, lifetime) = {
            let mut script = lock(&self.script);
            (script.next.pop_front().or_else(|| script.standing.clone()), script.lifetime)
        };
        let mut printed = next.unwrap_or_else(|| match self.kind {
            Kind::Az => Printed::az(DEVELOPER.tenant.id, asked.tenant.is_none()),
            Kind::Azd => Printed::azd(),
        });
        let token = self.entra.token_of(self.kind.user(), &asked.resource, lifetime);
        let expires_on = claims(&token).and_then(|claims| claims["exp"].as_i64()).expect("a token that ends");
        let values = [
            (TOKEN, token.clone()),
            (SECONDS, expires_on.to_string()),
            (LOCAL, local_time(expires_on, call.var("TZ"))?),
            (UTC, utc(expires_on)),
        ];
        let mut shown = false;
        for text in [&mut printed.stdout, &mut printed.stderr] {
            let Ok(mut filled) = String::from_utf8(text.clone()) else { continue };
            shown |= filled.contains(TOKEN);
            values.iter().for_each(|(name, value)| filled = filled.replace(name, value));
            *text = filled.into_bytes();
        }
        Ok((printed, shown.then_some(token)))
    }
}

/// What a tool is asked for.
struct Asked {
    resource: String,
    tenant: Option<String>,
}

/// Options with their values, each known and none twice, and flags.
fn options<'a>(
    args: &'a [String],
    known: &[&str],
    flags: &[&str],
    unknown: &str,
) -> Result<Vec<(&'a str, &'a str)>, String> {
    let mut given: Vec<(&str, &str)> = Vec::new();
    let mut args = args.iter().map(String::as_str);
    while let Some(name) = args.next() {
        let value = match name {
            _ if flags.contains(&name) => "",
            _ if known.contains(&name) => {
                args.next().ok_or_else(|| format!("argument {name}: expected one argument"))?
            }
            _ => return Err(format!("{unknown}: {name}")),
        };
        if given.iter().any(|(earlier, _)| *earlier == name) {
            return Err(format!("argument {name}: given twice"));
        }
        given.push((name, value));
    }
    Ok(given)
}

fn az_arguments(args: &[String]) -> Result<Asked, String> {
    let (command, rest) = args.split_at(args.len().min(2));
    if command != ["account", "get-access-token"] {
        return Err(format!("'{}' is misspelled or not recognized by the system.", command.join(" ")));
    }
    let known = ["--output", "-o", "--resource", "--scope", "--tenant", "--subscription"];
    let given = options(rest, &known, &[], "unrecognized arguments")?;
    let value = |name: &str| given.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
    if value("--output").or_else(|| value("-o")).as_deref() != Some("json") {
        return Err("the output is JSON only if --output json says so".to_owned());
    }
    let resource = match (value("--resource"), value("--scope")) {
        (Some(resource), None) => resource,
        (None, Some(scope)) => resource_of(&scope)?,
        _ => return Err("give either --resource or --scope".to_owned()),
    };
    let tenant = value("--tenant");
    if tenant.is_some() && value("--subscription").is_some() {
        return Err("Please specify only one of subscription and tenant, not both".to_owned());
    }
    Ok(Asked { resource, tenant })
}

fn azd_arguments(args: &[String]) -> Result<Asked, String> {
    let (command, rest) = args.split_at(args.len().min(2));
    if command != ["auth", "token"] {
        return Err(format!("unknown command \"{}\" for \"azd\"", command.join(" ")));
    }
    let known = ["--output", "--scope", "--tenant-id"];
    let given = options(rest, &known, &["--no-prompt"], "unknown flag")?;
    let value = |name: &str| given.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
    if value("--output").as_deref() != Some("json") || value("--no-prompt").is_none() {
        return Err("programs say --output json and --no-prompt".to_owned());
    }
    let scope = value("--scope").ok_or("give a --scope, or the token is for something else")?;
    Ok(Asked { resource: resource_of(&scope)?, tenant: value("--tenant-id") })
}

fn resource_of(scope: &str) -> Result<String, String> {
    let resource = scope.strip_suffix("/.default");
    resource.map(str::to_owned).ok_or_else(|| format!("AADSTS70011: The scope {scope} is not valid."))
}

/// The time as az spells it, in the caller's zone.
fn local_time(unix: i64, zone: Option<&str>) -> io::Result<String> {
    let mut date = Command::new("/usr/bin/date");
    date.args(["-d", &format!("@{unix}"), "+%Y-%m-%d %H:%M:%S.000000"]).env_clear();
    if let Some(zone) = zone {
        date.env("TZ", zone);
    }
    let text = String::from_utf8(date.output()?.stdout).map_err(io::Error::other)?;
    Ok(text.trim_end().to_owned())
}

/// The time as azd spells it.
fn utc(unix: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(unix).expect("a time near the present");
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    format!("{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", at.hour(), at.minute(), at.second())
}
