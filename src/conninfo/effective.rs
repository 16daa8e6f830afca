//! What libpq would make of the options, once service, environment, defaults and passfile have had their say.

use std::collections::BTreeMap;
use std::fmt;

use super::{Env, Options, keywords};

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The connection string or the arrays.
    Given,
    /// The service file.
    Service,
    /// This environment variable.
    Environment(&'static str),
    /// The password file.
    Passfile,
    /// Compiled into libpq, or not set at all.
    Default,
}

/// Each keyword's value and its source.
///
/// What libpq puts in at the very end is not filled in: the operating system's user for an absent `user`,
/// and the user's name for an absent `dbname`.
#[derive(Clone, Default)]
pub(crate) struct Effective {
    values: BTreeMap<String, (Vec<u8>, Source)>,
}

/// One of the servers that a connection may go to. A part that is not given is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host<'a> {
    pub(crate) host: &'a [u8],
    pub(crate) hostaddr: &'a [u8],
    pub(crate) port: &'a [u8],
}

impl Effective {
    /// Empty where nothing sets it; `source` tells that from an empty value.
    pub(crate) fn value(&self, keyword: &str) -> &[u8] {
        self.values.get(keyword).map_or(&[], |(value, _)| value)
    }

    pub(crate) fn source(&self, keyword: &str) -> Source {
        self.values.get(keyword).map_or(Source::Default, |&(_, source)| source)
    }

    /// Also for values that libpq itself reported.
    pub(crate) fn set(&mut self, keyword: &str, value: impl Into<Vec<u8>>, source: Source) {
        self.values.insert(keyword.to_owned(), (value.into(), source));
    }

    /// The servers in the order given: one at least, and every one that is named in `host` or `hostaddr`,
    /// also where the lists' lengths differ, which libpq refuses.
    pub(crate) fn hosts(&self) -> Vec<Host<'_>> {
        let list = |keyword| -> Vec<&[u8]> {
            let value = self.value(keyword);
            if value.is_empty() { Vec::new() } else { value.split(|&byte| byte == b',').collect() }
        };
        let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
        let count = hosts.len().max(addresses.len()).max(1);
        (0..count)
            .map(|at| Host {
                host: hosts.get(at).copied().unwrap_or_default(),
                hostaddr: addresses.get(at).copied().unwrap_or_default(),
                // A single port is every host's.
                port: match ports.as_slice() {
                    [port] => port,
                    ports => ports.get(at).copied().unwrap_or_default(),
                },
            })
            .collect()
    }

    fn contains(&self, keyword: &str) -> bool {
        self.values.contains_key(keyword)
    }
}

/// Keywords and sources only: values may be passwords.
impl fmt::Debug for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.values.iter().map(|(keyword, (_, source))| (keyword, source))).finish()
    }
}

/// Finds every value as the libpq of this version does. `passfile` is asked last, and only for want of a
/// password.
pub(crate) fn resolve(
    given: &Options,
    service: Option<&Options>,
    env: Env<'_>,
    version: i32,
    passfile: &dyn Fn(&Effective) -> Option<Vec<u8>>,
) -> Effective {
    let mut effective = Effective::default();
    let layers =
        service.map(|service| (service, Source::Service)).into_iter().chain([(given, Source::Given)]);
    for (options, source) in layers {
        for (keyword, value) in options.iter() {
            effective.set(&String::from_utf8_lossy(keyword), value, source);
        }
    }

    for known in keywords().filter(|known| known.is_known_to(version)) {
        if effective.contains(known.name) {
            continue;
        }
        // A variable that is set but empty counts.
        let variable = known.env.and_then(|name| Some((env(name)?, Source::Environment(name))));
        let requiressl = || {
            let is_on = known.name == "sslmode" && env("PGREQUIRESSL")?.starts_with(b"1");
            is_on.then(|| (b"require".to_vec(), Source::Environment("PGREQUIRESSL")))
        };
        let default = || Some((known.default?.into(), Source::Default));
        if let Some((value, source)) = variable.or_else(requiressl).or_else(default) {
            effective.set(known.name, value, source);
        }
    }

    // The system's roots vouch for any server on the Internet, so only a checked name makes sense with them.
    if version >= 160000
        && effective.value("sslrootcert") == b"system"
        && effective.source("sslmode") == Source::Default
    {
        effective.set("sslmode", "verify-full", Source::Default);
    }

    if effective.value("password").is_empty()
        && let Some(password) = passfile(&effective)
    {
        effective.set("password", password, Source::Passfile);
    }
    effective
}
