//! The settings of one client: read from the settings string and the environment, checked, and never read again.

mod authority;
mod cache;
mod cloud;
mod identity;
mod keys;
mod patterns;
#[cfg(feature = "command")]
pub(crate) mod report;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use authority::{Authority, Proxy, is_near};
pub(crate) use cache::{Place as CachePlace, SharedCache};
pub(crate) use cloud::{COSMOS_HOSTS, COSMOS_SCOPE, Cloud};
pub(crate) use identity::{Identities, Kind, Lack, Managed, Principal, Selector};
pub(crate) use keys::{Family, Key};
pub(crate) use patterns::{Patterns, fits};

use crate::conninfo;
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::log::Level;
use crate::secret::Secret;
use crate::url;

/// Which credential the settings ask for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Auth {
    /// Decided for each connection.
    Auto,
    Off,
    /// The chain of what the environment offers.
    Chain,
    /// One credential, by name.
    Named(Value),
    /// The program's own function.
    Callback,
}

/// Everything that can be set, as one client uses it.
#[derive(Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) auth: Auth,
    /// Who to be, where the settings or the environment say.
    pub(crate) identities: Identities,
    pub(crate) certificate_password: Option<Value>,
    pub(crate) send_certificate_chain: bool,
    /// The service connection of Azure Pipelines.
    pub(crate) service_connection: Option<Value>,
    /// Stands for `http://169.254.169.254`, without a slash at the end.
    pub(crate) imds_host: Option<String>,
    /// The cache that is shared with other processes, if there is one.
    pub(crate) cache: Option<SharedCache>,
    /// Whether a callback may run on a thread of ours.
    pub(crate) callback_on_any_thread: bool,
    /// What is wrong with a variable that other programs share (`AZURE_*`, `HTTPS_PROXY`): it must not stop
    /// connections that need no token, so it counts when one is wanted.
    pub(crate) trouble: Option<Error>,
    /// `AZURE_TOKEN_CREDENTIALS`, which narrows the chain.
    pub(crate) chain_filter: Option<String>,
    pub(crate) authority: Authority,
    pub(crate) cloud: Cloud,
    /// Whether `cloud` or the authority host fixes the cloud, so that a server's name may not.
    pub(crate) cloud_is_fixed: bool,
    pub(crate) scope: Option<String>,
    pub(crate) server_hosts: Patterns,
    pub(crate) allow_plaintext: Patterns,
    pub(crate) refresh_before: Duration,
    pub(crate) timeout: Duration,
    pub(crate) ca_file: Option<PathBuf>,
    /// The system's bundle, where `SSL_CERT_FILE` names another.
    pub(crate) system_roots: Option<PathBuf>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) log: Level,
    /// Whether the environment is this client's to trust (`trust_environment=on`).
    pub(crate) trust_environment: bool,
    /// Where each setting came from: "settings", or a variable.
    pub(crate) origins: BTreeMap<&'static str, String>,
}

/// A value that was set, and where.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Value {
    pub(crate) text: Secret,
    pub(crate) family: Family,
    /// For messages: the variable's name, or the key in the settings string.
    pub(crate) name: String,
}

impl Value {
    pub(crate) fn as_str(&self) -> &str {
        self.text.reveal()
    }

    /// The variable that it came from; for a value of the settings string, the one that stands for it.
    pub(crate) fn variable_or(&self, ours: &str) -> String {
        if self.family == Family::Given { ours.into() } else { self.name.clone() }
    }

    pub(crate) fn bad(&self, what: &str) -> Error {
        config(format!("{} {what}", self.name))
    }
}

pub(crate) fn config(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message)
}

/// The settings string and the environment, before anything is made of them.
struct Sources<'a> {
    given: conninfo::Options,
    env: Environment<'a>,
    trouble: RefCell<Option<Error>>,
    /// Where each setting came from.
    origins: RefCell<BTreeMap<&'static str, String>>,
}

impl<'a> Sources<'a> {
    /// The settings string is parsed, and its keys are known ones.
    fn open(settings: &str, env: Environment<'a>) -> Result<Self, Error> {
        let given = conninfo::parse_settings(settings.as_bytes())?;
        for (keyword, _) in given.iter() {
            keys::check(&String::from_utf8_lossy(keyword))?;
        }
        let trust = given.get("trust_environment").is_some_and(|value| value == b"on");
        let env = if trust { env.trusted() } else { env };
        Ok(Self { given, env, trouble: RefCell::default(), origins: RefCell::default() })
    }

    fn get_from(&self, family: Family, key: &Key) -> Result<Option<Value>, Error> {
        if family == Family::Given {
            let Some(text) = self.given.get(key.name).filter(|text| !text.is_empty()) else {
                return Ok(None);
            };
            // The whole string was UTF-8.
            let text = Secret::new(String::from_utf8_lossy(text));
            self.origins.borrow_mut().entry(key.name).or_insert_with(|| "settings".into());
            return Ok(Some(Value { text, family, name: format!("the setting {}", key.name) }));
        }
        for (_, name) in key.variables().filter(|&(of, _)| of == family) {
            if let Some(text) = self.unless_shared(family, self.env.text(&name), || None)? {
                self.origins.borrow_mut().entry(key.name).or_insert_with(|| name.clone());
                return Ok(Some(Value { text: Secret::new(text), family, name }));
            }
        }
        Ok(None)
    }

    fn get(&self, name: &str) -> Result<Option<Value>, Error> {
        for family in Family::ALL {
            if let Some(value) = self.get_from(family, Key::named(name))? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The result, or, where it is an error in a variable that other programs share, something else and the error
    /// kept for later.
    fn unless_shared<T>(
        &self,
        family: Family,
        result: Result<T, Error>,
        otherwise: impl FnOnce() -> T,
    ) -> Result<T, Error> {
        result.or_else(|error| match family {
            Family::Azure => {
                self.trouble.borrow_mut().get_or_insert(error);
                Ok(otherwise())
            }
            _ => Err(error),
        })
    }

    /// A value out of a fixed set; the first is the default.
    fn one_of<T: Copy>(&self, name: &str, allowed: &[(&str, T)]) -> Result<T, Error> {
        let Some(value) = self.get(name)? else { return Ok(allowed[0].1) };
        let found = allowed.iter().find(|(word, _)| *word == value.as_str());
        found.map(|&(_, meaning)| meaning).ok_or_else(|| {
            let words: Vec<&str> = allowed.iter().map(|&(word, _)| word).collect();
            value.bad(&format!("takes one of {}.", words.join(", ")))
        })
    }

    /// On or off, in the spellings of the Azure SDKs too.
    fn shared_switch(&self, name: &str) -> Result<bool, Error> {
        let Some(value) = self.get(name)? else { return Ok(false) };
        let meaning = match value.as_str().trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "on" | "yes" => Ok(true),
            "0" | "false" | "off" | "no" => Ok(false),
            _ => Err(value.bad("takes true or false.")),
        };
        self.unless_shared(value.family, meaning, || false)
    }

    fn number(&self, name: &str, default: u32, allowed: std::ops::RangeInclusive<u32>) -> Result<u32, Error> {
        let Some(value) = self.get(name)? else { return Ok(default) };
        value.as_str().parse().ok().filter(|number| allowed.contains(number)).ok_or_else(|| {
            value.bad(&format!("takes a whole number from {} to {}.", allowed.start(), allowed.end()))
        })
    }

    fn path(&self, name: &str) -> Result<Option<PathBuf>, Error> {
        Ok(self.get(name)?.map(|value| PathBuf::from(value.as_str())))
    }

    fn patterns(&self, name: &str) -> Result<Patterns, Error> {
        let Some(value) = self.get(name)? else { return Ok(Patterns::default()) };
        Patterns::parse(value.as_str()).map_err(|pattern| {
            value.bad(&format!(
                "has the pattern {pattern}: a * stands alone or as the whole first label (*.example.com)."
            ))
        })
    }
}

impl Settings {
    /// Whether tokens come from the program's own function, on the threads of the calls that need them.
    pub(crate) fn is_fetched_by_callers(&self) -> bool {
        self.auth == Auth::Callback && !self.callback_on_any_thread
    }

    /// Reads the settings string, which has the grammar of a conninfo string, and what it leaves out from `env`.
    pub(crate) fn read(settings: &str, env: Environment<'_>) -> Result<Self, Error> {
        Self::read_for(settings, env, auth)
    }

    /// The same for a client whose tokens the program itself supplies.
    pub(crate) fn read_for_callback(settings: &str, env: Environment<'_>) -> Result<Self, Error> {
        Self::read_for(settings, env, auth_of_callback)
    }

    fn read_for(
        settings: &str,
        env: Environment<'_>,
        auth: impl Fn(&Sources<'_>, &Identities) -> Result<Auth, Error>,
    ) -> Result<Self, Error> {
        let sources = Sources::open(settings, env)?;
        let env = sources.env;
        let trust_environment = sources.one_of("trust_environment", &[("off", false), ("on", true)])?;
        let log = sources.one_of("log", &Level::ALL)?;
        let refresh_before = sources.number("refresh_before_minutes", 5, 0..=1440)?;
        let timeout = sources.number("timeout_ms", 30_000, 1..=i32::MAX as u32)?;
        let (cloud, authority, cloud_is_fixed) = cloud_and_authority(&sources)?;
        let cache = cache::read(&sources)?;
        let server_hosts = sources.patterns("server_hosts")?;
        let allow_plaintext = sources.patterns("allow_plaintext")?;
        let proxy = proxy(&sources)?;
        let identities = Identities::read(&sources)?;
        let auth = auth(&sources, &identities)?;
        let chain_filter = env.text("AZURE_TOKEN_CREDENTIALS");
        let chain_filter = sources.unless_shared(Family::Azure, chain_filter, || None)?;
        let settings = Self {
            auth,
            identities,
            trouble: None,
            certificate_password: sources.get("client_certificate_password")?,
            send_certificate_chain: sources.shared_switch("send_certificate_chain")?,
            service_connection: sources.get("service_connection_id")?,
            imds_host: imds_host(&sources)?,
            cache,
            callback_on_any_thread: sources.one_of("callback_thread", &[("caller", false), ("any", true)])?,
            chain_filter,
            authority,
            cloud,
            cloud_is_fixed,
            scope: scope(&sources)?,
            server_hosts,
            allow_plaintext,
            refresh_before: Duration::from_secs(u64::from(refresh_before) * 60),
            timeout: Duration::from_millis(timeout.into()),
            ca_file: sources.path("ca_file")?,
            system_roots: env.var("SSL_CERT_FILE").map(PathBuf::from),
            proxy,
            log,
            trust_environment,
            origins: BTreeMap::new(),
        };
        // When all is read.
        Ok(Self { trouble: sources.trouble.take(), origins: sources.origins.take(), ..settings })
    }

    /// The environment as this client may see it.
    pub(crate) fn environment(&self) -> Environment<'static> {
        let process = Environment::process();
        if self.trust_environment { process.trusted() } else { process }
    }
}

fn auth(sources: &Sources<'_>, identities: &Identities) -> Result<Auth, Error> {
    let key = Key::named("auth");
    let value = match sources.get_from(Family::Given, key)? {
        // A variable does not decide about an identity that the settings string names.
        None if !identities.is_given() => sources.get_from(Family::Pgaad, key)?,
        given => given,
    };
    let Some(value) = value else { return Ok(Auth::Auto) };
    Ok(match value.as_str() {
        "auto" => Auth::Auto,
        "off" => Auth::Off,
        "default" => Auth::Chain,
        _ => Auth::Named(value),
    })
}

fn auth_of_callback(sources: &Sources<'_>, _: &Identities) -> Result<Auth, Error> {
    match sources.get_from(Family::Given, Key::named("auth"))? {
        Some(value) if value.as_str() != "callback" => {
            Err(value.bad("must be callback, or left out, for a client whose tokens come from a callback."))
        }
        _ => Ok(Auth::Callback),
    }
}

/// The cloud, its token service, and whether either was set.
fn cloud_and_authority(sources: &Sources<'_>) -> Result<(Cloud, Authority, bool), Error> {
    let named = sources.get("cloud")?;
    let cloud = named
        .as_ref()
        .map(|value| {
            Cloud::named(value.as_str()).ok_or_else(|| value.bad("takes one of public, usgov, china."))
        })
        .transpose()?;
    let Some(host) = sources.get("authority_host")? else {
        let fixed = cloud.is_some();
        let cloud = cloud.unwrap_or(Cloud::Public);
        return Ok((cloud, Authority::of_cloud(cloud), fixed));
    };
    let parsed = Authority::parse(&host).map(Some);
    let Some(authority) = sources.unless_shared(host.family, parsed, || None)? else {
        let cloud = cloud.unwrap_or(Cloud::Public);
        return Ok((cloud, Authority::of_cloud(cloud), true));
    };
    let known = Cloud::of_authority_host(authority.host());
    match (cloud, known, named) {
        (Some(set), Some(known), Some(named)) if set != known => Err(config(format!(
            "{} is {}, but {} belongs to the cloud {}: set only one of them, or both to the same cloud.",
            named.name,
            set.name(),
            host.name,
            known.name()
        ))),
        _ => Ok((cloud.or(known).unwrap_or(Cloud::Public), authority, true)),
    }
}

fn proxy(sources: &Sources<'_>) -> Result<Option<Proxy>, Error> {
    let Some(value) = sources.get("proxy")? else { return Ok(None) };
    let family = value.family;
    sources.unless_shared(family, Proxy::parse(value, sources.get("no_proxy")?).map(Some), || None)
}

fn scope(sources: &Sources<'_>) -> Result<Option<String>, Error> {
    let Some(value) = sources.get("scope")? else { return Ok(None) };
    let scope = value.as_str();
    let one_word = !scope.contains(|c: char| c.is_whitespace() || c.is_control());
    let resource = scope.strip_suffix("/.default").filter(|resource| !resource.is_empty());
    if one_word && resource.is_some() {
        Ok(Some(scope.to_string()))
    } else {
        Err(value.bad("takes one scope that ends in /.default, such as https://ossrdbms-aad.database.windows.net/.default."))
    }
}

fn imds_host(sources: &Sources<'_>) -> Result<Option<String>, Error> {
    let Some(value) = sources.get("imds_host")? else { return Ok(None) };
    sources.unless_shared(value.family, parse_imds_host(&value).map(Some), || None)
}

fn parse_imds_host(value: &Value) -> Result<String, Error> {
    let url = value.as_str().trim().trim_end_matches('/');
    let is_origin = url::is_sound(url) && url.matches('/').count() == 2 && !url.contains('?');
    match is_origin {
        true => Ok(url.into()),
        false => Err(value.bad("takes a scheme and a host, such as http://169.254.169.254.")),
    }
}

#[cfg(test)]
mod tests;
