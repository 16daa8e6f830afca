//! What a connection's options come to, once service, environment, defaults and files have had their say.

use std::cell::OnceCell;
use std::path::PathBuf;

use super::{Stop, as_arrays};
use crate::bundle;
use crate::conninfo::{self, Effective, Options, Source};
use crate::environment::Environment;
use crate::error::Error;
use crate::libpq::Libpq;
use crate::os;
use crate::policy::{self, Surroundings};

/// What libpq itself makes of the options, and where each comes from.
pub(super) fn effective(
    libpq: &Libpq,
    given: &Options,
    env: Environment<'_>,
    files: &Files<'_>,
) -> Result<Effective, Stop> {
    let (arguments, expand_dbname) = as_arrays(given)?;
    let resolved = libpq.resolve(&arguments, expand_dbname, &policy::is_judged).ok_or(Stop::Unresolved)?;
    let in_service = given.contains("service") || env.libpq("PGSERVICE").is_some();
    let mut effective = Effective::default();
    for option in resolved.options.iter() {
        let from_elsewhere = || match variable(option.keyword, env) {
            Some(name) => Source::Environment(name),
            None if in_service && !option.is_default => Source::Service,
            None => Source::Default,
        };
        let source = if given.contains(option.keyword) { Source::Given } else { from_elsewhere() };
        // libpq puts the operating system's user in for an absent one, and the user for an absent database.
        let stand_in = || match option.keyword {
            "user" => Some(files.os_user()),
            _ => resolved.options.get("user"),
        };
        let of_service =
            || stand_in() != Some(option.value) || service_names(option.keyword, given, env, files, libpq);
        let may_be_absent = matches!(option.keyword, "user" | "dbname");
        if !may_be_absent || is_named(option.keyword, given, env) || (in_service && of_service()) {
            effective.set(option.keyword, option.value, source);
        }
    }
    let password = match resolved.password {
        Some(password) => password.to_vec(),
        // libpq showed what it would send to the first host; the passfile may know the others.
        None if effective.hosts().len() > 1 => files.password_for(&effective).unwrap_or_default(),
        None => Vec::new(),
    };
    effective.set("password", password, Source::Given);
    Ok(effective)
}

/// The variable that an option is read from, if it is set.
fn variable(keyword: &str, env: Environment<'_>) -> Option<&'static str> {
    let own = conninfo::keyword(keyword).and_then(|known| known.env);
    let legacy = (keyword == "sslmode").then_some("PGREQUIRESSL");
    own.into_iter().chain(legacy).find(|name| env.libpq(name).is_some())
}

/// Whether the caller or the environment names a user or a database.
fn is_named(keyword: &str, given: &Options, env: Environment<'_>) -> bool {
    let variable = || variable(keyword, env).and_then(|name| env.libpq(name));
    let named = given.get(keyword).map(<[u8]>::to_vec).or_else(variable);
    named.is_some_and(|value| !value.is_empty())
}

/// Whether the service does, as far as we can read it: only asked where libpq's answer could be either.
fn service_names(
    keyword: &str,
    given: &Options,
    env: Environment<'_>,
    files: &Files<'_>,
    libpq: &Libpq,
) -> bool {
    let read = |name: &str| env.libpq(name);
    let service = conninfo::service::load(given, &read, files.home.as_deref(), libpq.version());
    let service = service.ok().flatten();
    let named = service.as_ref().and_then(|service| service.get(keyword));
    !given.contains(keyword) && named.is_some_and(|value| !value.is_empty())
}

/// The files that decide beside the options: the home directory's, the distribution's.
pub(super) struct Files<'a> {
    env: Environment<'a>,
    home: Option<PathBuf>,
    user: OnceCell<Vec<u8>>,
}

impl<'a> Files<'a> {
    pub(super) fn new(env: Environment<'a>, version: i32) -> Self {
        // A caller that may not be trusted chose HOME.
        let read = |name: &str| if env.is_suspect() { None } else { env.libpq(name) };
        let passwd = || os::home_directory().map(|home| home.into_os_string().into_encoded_bytes());
        Self { env, home: conninfo::home(&read, &passwd, version), user: OnceCell::new() }
    }

    /// Whom libpq takes where no user is named.
    fn os_user(&self) -> &[u8] {
        self.user.get_or_init(|| os::user_name().unwrap_or_default())
    }

    /// What a libpq of this version would make of the options, as far as we can tell without one.
    pub(super) fn effective(&self, given: &Options, version: i32) -> Result<Effective, Error> {
        let read = |name: &str| self.env.libpq(name);
        let service = conninfo::service::load(given, &read, self.home.as_deref(), version)?;
        let passfile = |effective: &Effective| self.password_for(effective);
        Ok(conninfo::resolve(given, service.as_ref(), &read, version, &passfile))
    }

    /// The first password that the passfile has for one of the hosts.
    pub(super) fn password_for(&self, effective: &Effective) -> Option<Vec<u8>> {
        conninfo::passfile::passwords(effective, self.os_user(), self.home.as_deref())
            .into_iter()
            .flatten()
            .next()
    }

    /// `~/.postgresql/root.crt`, which libpq checks servers by where it is there.
    fn user_roots(&self) -> Option<PathBuf> {
        let roots = self.home.as_ref()?.join(".postgresql/root.crt");
        roots.is_file().then_some(roots)
    }

    pub(super) fn surroundings<'s>(
        &'s self,
        knows: &'s dyn Fn(&str) -> bool,
        version: i32,
        connects_now: bool,
    ) -> Surroundings<'s> {
        Surroundings {
            default_roots: Box::new(|| self.user_roots().or_else(bundle::find)),
            is_own_bundle: bundle::is_own,
            knows,
            knows_system_roots: version >= 160_000,
            connects_now,
            is_suspect: self.env.is_suspect(),
        }
    }
}
