//! The process environment, read through one place, so that tests can give another and a setuid program none.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::error::{Error, ErrorKind};
use crate::os;

/// Reads variables. Empty ones of ours count as unset; libpq's are handed on as they are.
#[derive(Clone, Copy)]
pub(crate) struct Environment<'a> {
    read: &'a dyn Fn(&str) -> Option<OsString>,
    secure: bool,
}

impl Environment<'static> {
    /// This process's environment; not to be trusted where the program has more rights than its caller.
    pub(crate) fn process() -> Self {
        Self { read: &|name| std::env::var_os(name), secure: os::secure_mode() }
    }
}

impl<'a> Environment<'a> {
    #[cfg(test)]
    pub(crate) fn of(read: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self { read, secure: false }
    }

    #[cfg(test)]
    pub(crate) fn secure(self) -> Self {
        Self { secure: true, ..self }
    }

    /// The caller vouches for the environment (`trust_environment=on`).
    pub(crate) fn trusted(self) -> Self {
        Self { secure: false, ..self }
    }

    /// Whether another user may have chosen the variables: `AT_SECURE`, and nobody vouched for them.
    pub(crate) fn is_suspect(&self) -> bool {
        self.secure
    }

    /// A variable that isn't libpq's own.
    pub(crate) fn var(&self, name: &str) -> Option<OsString> {
        if self.secure { None } else { (self.read)(name).filter(|value| !value.is_empty()) }
    }

    /// The same, for a setting, which is text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Error> {
        let not_utf8 = |_| {
            Error::new(ErrorKind::InvalidArgument, format!("The environment variable {name} is not UTF-8."))
        };
        self.var(name).map(|value| value.into_string().map_err(not_utf8)).transpose()
    }

    /// One of libpq's variables, which libpq reads whoever set it.
    pub(crate) fn libpq(&self, name: &str) -> Option<Vec<u8>> {
        (self.read)(name).map(OsString::into_vec)
    }
}
