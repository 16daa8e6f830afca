//! Where tokens come from: one file for each source, and one table of them.
//!
//! A source is here or it is not; only where it is not, a chain goes on to the next one.

// What sources share.
mod redact; //    text without the secrets
mod answer; //    what any service may answer
mod file; //      files that settings and platforms name
mod place; //     a service, and how it is reached
mod retry; //     when to ask again
mod entra; //     the token endpoint of Entra
mod dates; //     dates in the spellings that occur
mod certificate; // a certificate and its key, read and checked
mod assertion; // a signed statement of who asks
mod oidc; //      a platform that vouches for its jobs
mod tool; //      a developer's command that prints a token

// The sources.
mod azure_cli;
mod azure_developer_cli;
mod azure_pipelines;
mod callback;
mod client_certificate;
mod client_secret;
mod github_actions;
mod managed_identity;
mod workload_identity;

mod chain; //     the first source that is here

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::{Duration, Instant};

pub(crate) use callback::{Callback, Supplied};
use chain::Chain;

use crate::error::{Error, ErrorKind};
use crate::log::Level;
use crate::secret::Secret;
use crate::settings::{Auth, Kind, Lack, Settings, Value};
use crate::token::Token;

/// The table of sources. The chain of `auth=default` asks those that have a place in it, in this order.
const SOURCES: &[Entry] = &[
    Entry {
        name: "environment",
        link: Some(Link { sdk_name: "EnvironmentCredential", group: Group::Production }),
        proofs: &[],
        make: chain::environment,
    },
    Entry { name: "client_secret", link: None, proofs: client_secret::PROOFS, make: client_secret::make },
    Entry {
        name: "client_certificate",
        link: None,
        proofs: client_certificate::PROOFS,
        make: client_certificate::make,
    },
    Entry {
        name: "workload_identity",
        link: Some(Link { sdk_name: "WorkloadIdentityCredential", group: Group::Production }),
        proofs: workload_identity::PROOFS,
        make: workload_identity::make,
    },
    Entry {
        name: "managed_identity",
        link: Some(Link { sdk_name: "ManagedIdentityCredential", group: Group::Production }),
        proofs: &[],
        make: managed_identity::make,
    },
    Entry {
        name: "azure_cli",
        link: Some(Link { sdk_name: "AzureCliCredential", group: Group::Development }),
        proofs: &[],
        make: azure_cli::make,
    },
    Entry {
        name: "azure_developer_cli",
        link: Some(Link { sdk_name: "AzureDeveloperCliCredential", group: Group::Development }),
        proofs: &[],
        make: azure_developer_cli::make,
    },
    Entry { name: "azure_pipelines", link: None, proofs: &[], make: azure_pipelines::make },
    Entry { name: "github_actions", link: None, proofs: &[], make: github_actions::make },
];

/// One line of the table.
struct Entry {
    /// What `auth` and messages call it.
    name: &'static str,
    /// Its place in the chain of `auth=default`.
    link: Option<Link>,
    /// The settings by which an identity proves itself to it.
    proofs: &'static [&'static str],
    make: fn(&Settings) -> Result<Box<dyn Source>, Lack>,
}

struct Link {
    /// What `AZURE_TOKEN_CREDENTIALS` calls it.
    sdk_name: &'static str,
    group: Group,
}

/// `prod` and `dev` in `AZURE_TOKEN_CREDENTIALS`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Production,
    Development,
}

/// One place that tokens come from.
trait Source: Send + Sync {
    /// Gets a token, or says why there is none. Everything is over by the deadline.
    fn fetch(&self, ask: &Ask<'_>) -> Result<Token, Failure>;

    /// Whether a proof in the settings says who it is, so that no server's name may choose the cloud.
    fn has_proof(&self) -> bool {
        false
    }

    /// Who it is, where the settings fix it: whoever has the same ones may share its tokens.
    fn fixed_identity(&self) -> Option<String> {
        None
    }

    /// A secret that lives as long as its proof does, and that only those who can prove it have.
    fn stable_secret(&self) -> Result<Option<Secret>, Error> {
        Ok(None)
    }

    /// Changes when a file that proves it does.
    fn mark_of_proof(&self) -> u64 {
        0
    }

    /// What messages call the one that answers.
    fn name(&self) -> &'static str;

    /// Whether no token of its holds its name: applications have none there.
    fn is_nameless(&self) -> bool {
        false
    }

    /// Whether its name stands in its tokens for Azure Resource Manager, where it stands in no other.
    fn is_named_in_management(&self) -> bool {
        false
    }
}

/// What is asked of a source.
struct Ask<'a> {
    settings: &'a Settings,
    scope: &'a str,
    deadline: Instant,
    /// Whether others may be asked after it: then it is to find out soon whether it is here at all.
    in_chain: bool,
}

impl Ask<'_> {
    /// The scope as endpoints of version 1 call it: `/.default` is version 2's.
    fn resource(&self) -> &str {
        self.scope.strip_suffix("/.default").unwrap_or(self.scope)
    }
}

/// A fetch that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// When another try may help.
    pub(crate) retry: Retry,
    /// Whether the source is here: it was configured, and failed or refused. No other may answer in its place.
    is_here: bool,
    /// Whether all who show the same proof are told the same, wherever they are.
    pub(crate) holds_everywhere: bool,
}

/// Whether, and when, the same request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// The answer would be the same.
    Never,
    /// After a pause that grows.
    Soon,
    /// Not before this time has passed: the service said so.
    After(Duration),
}

impl Failure {
    fn new(kind: ErrorKind, message: impl Into<String>, retry: Retry) -> Self {
        Self { retry, ..Error::new(kind, message).into() }
    }

    /// Nothing to ask is here.
    fn nothing_here(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Unavailable, message).into()
    }

    /// The same, where the source is here, or is not.
    fn here(self, is_here: bool) -> Self {
        Self { is_here, ..self }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            is_here: error.kind() != ErrorKind::Unavailable,
            error,
            retry: Retry::Never,
            holds_everywhere: false,
        }
    }
}

/// The credential of one client.
pub(crate) struct Credential(Choice);

enum Choice {
    Off,
    One(Box<dyn Source>),
    Callback(Callback),
}

impl Credential {
    /// The one that the settings ask for. Sends nothing.
    pub(crate) fn of(settings: &Settings) -> Result<Self, Error> {
        Ok(Self(match &settings.auth {
            Auth::Off => Choice::Off,
            Auth::Auto if settings.identities.is_deliberate() => Choice::One(by_identity(settings)?),
            Auth::Auto => Choice::One(Box::new(Chain::of(settings))),
            Auth::Chain => {
                // What is set on purpose must be whole; the chain then finds its source by itself.
                if settings.identities.is_deliberate() {
                    settings.identities.kind()?;
                }
                Choice::One(Box::new(Chain::of(settings)))
            }
            Auth::Named(name) => Choice::One(named(name)?(settings)?),
            Auth::Callback => {
                return Err(crate::settings::config(
                    "auth=callback is for clients that are made with a function (pgaad_client_new_callback).",
                ));
            }
        }))
    }

    /// The program's own function.
    pub(crate) fn of_callback(callback: Callback) -> Self {
        Self(Choice::Callback(callback))
    }

    /// The program's own function may not ask for the token that it is to supply.
    pub(crate) fn check_caller(&self) -> Result<(), Error> {
        match &self.0 {
            Choice::Callback(callback) => callback.check_caller(),
            _ => Ok(()),
        }
    }

    /// Whether a token may be asked for at all, now and from here.
    pub(crate) fn check(&self, settings: &Settings) -> Result<(), Error> {
        match &self.0 {
            Choice::Off => Err(Error::new(
                ErrorKind::Disabled,
                "A token was asked for, but auth=off. Set auth (PGAAD_AUTH) to auto or to a credential.",
            )),
            Choice::Callback(callback) => callback.check_caller(),
            Choice::One(_) => settings.trouble.clone().map_or(Ok(()), Err),
        }
    }

    /// Gets a token for `scope`; everything is over by the deadline, unless the program's own function is slower.
    pub(crate) fn fetch(
        &self,
        settings: &Settings,
        scope: &str,
        deadline: Instant,
    ) -> Result<Token, Failure> {
        self.check(settings)?;
        let ask = Ask { settings, scope, deadline, in_chain: false };
        let result = match &self.0 {
            Choice::Off => unreachable!("it was refused"),
            Choice::One(source) => source.fetch(&ask),
            Choice::Callback(callback) => callback.fetch(&ask),
        };
        if let Err(failure) = &result {
            Level::Error.log(settings.log, "no_token", &[("error", failure.error.message())]);
        }
        result
    }

    /// See [`Source::has_proof`].
    pub(crate) fn has_proof(&self) -> bool {
        matches!(&self.0, Choice::One(source) if source.has_proof())
    }

    /// See [`Source::fixed_identity`].
    pub(crate) fn fixed_identity(&self) -> Option<String> {
        match &self.0 {
            Choice::One(source) => source.fixed_identity(),
            Choice::Off | Choice::Callback(_) => None,
        }
    }

    /// See [`Source::stable_secret`].
    pub(crate) fn stable_secret(&self) -> Result<Option<Secret>, Error> {
        match &self.0 {
            Choice::One(source) => source.stable_secret(),
            Choice::Off | Choice::Callback(_) => Ok(None),
        }
    }

    /// See [`Source::mark_of_proof`].
    pub(crate) fn mark_of_proof(&self) -> u64 {
        match &self.0 {
            Choice::One(source) => source.mark_of_proof(),
            Choice::Off | Choice::Callback(_) => 0,
        }
    }

    /// What messages call it; of a chain, the source that answered.
    pub(crate) fn name(&self) -> &'static str {
        match &self.0 {
            Choice::Off => "off",
            Choice::One(source) => source.name(),
            Choice::Callback(_) => "callback",
        }
    }

    /// See [`Source::is_nameless`].
    pub(crate) fn is_nameless(&self) -> bool {
        matches!(&self.0, Choice::One(source) if source.is_nameless())
    }

    /// See [`Source::is_named_in_management`].
    pub(crate) fn is_named_in_management(&self) -> bool {
        matches!(&self.0, Choice::One(source) if source.is_named_in_management())
    }
}

type Make = fn(&Settings) -> Result<Box<dyn Source>, Lack>;

/// Of a file's bytes; 0 for one that can't be read.
fn mark_of(path: &std::path::Path) -> u64 {
    let bytes = crate::os::read_plain(path, 1024 * 1024).map(zeroize::Zeroizing::new);
    bytes.map_or(0, |bytes| BuildHasherDefault::<DefaultHasher>::default().hash_one(&*bytes))
}

/// The source that `auth` names.
fn named(name: &Value) -> Result<Make, Error> {
    let known = || SOURCES.iter().filter(|entry| entry.name != "environment");
    if name.as_str() == "callback" {
        return Err(name.bad(
            "is callback, which is for clients that are made with a function (pgaad_client_new_callback).",
        ));
    }
    known().find(|entry| entry.name == name.as_str()).map(|entry| entry.make).ok_or_else(|| {
        let names: Vec<&str> = known().map(|entry| entry.name).collect();
        name.bad(&format!("takes one of auto, off, default, {}.", names.join(", ")))
    })
}

/// The source that a deliberate identity asks for by what it has.
fn by_identity(settings: &Settings) -> Result<Box<dyn Source>, Lack> {
    let make = match settings.identities.kind()? {
        Kind::ManagedIdentity => managed_identity::make,
        Kind::By(proof) => {
            let takes = |entry: &&Entry| entry.proofs.contains(&proof);
            SOURCES.iter().find(takes).unwrap_or_else(|| unreachable!("no source takes {proof}")).make
        }
    };
    make(settings)
}

/// Logs one request and what became of it.
fn log_request(ask: &Ask<'_>, who: &[(&str, &str)], begun: Instant, result: &Result<Token, Failure>) {
    match result {
        Ok(token) => {
            let took = begun.elapsed().as_millis().to_string();
            let who = [who, &[("ms", took.as_str())]].concat();
            let life = token.life.as_secs().to_string();
            let life = [("expires_in", life.as_str())];
            Level::Info.log(ask.settings.log, "token_fetched", &[&who[..], &life].concat());
        }
        Err(failure) => log_failure(ask, who, begun, failure),
    }
}

fn log_failure(ask: &Ask<'_>, who: &[(&str, &str)], begun: Instant, failure: &Failure) {
    let took = begun.elapsed().as_millis().to_string();
    let error = [("ms", took.as_str()), ("error", failure.error.message())];
    Level::Warn.log(ask.settings.log, "token_request_failed", &[who, &error].concat());
}
