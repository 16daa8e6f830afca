//! What can go wrong, and the sentence a person reads.

use std::fmt;

/// The kind of a failure, for programs to branch on. Each has its `pgaad_status` number in the C interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument is NULL or not UTF-8.
    InvalidArgument,
    /// A setting is missing, malformed or contradicts another one.
    Config,
    /// A token was asked for, but `auth=off`.
    Disabled,
    /// No credential source is here.
    Unavailable,
    /// Entra answered, and said no: retrying will not help.
    Denied,
    /// Told to come back later (429, or Retry-After); the message says when.
    Throttled,
    /// No connection to the token service (DNS, TCP, TLS, an untrusted certificate), or its 5xx, all tries used.
    Network,
    /// The deadline passed; or no token was there, and the call was not to wait.
    Timeout,
    /// An answer that is no token answer.
    Protocol,
    /// The token would have gone out without TLS or to a stranger.
    Insecure,
    /// libpq could not be found in this process or loaded, is older than 12, or several are and none is chosen.
    Libpq,
    /// A bug in pgaad.
    Internal,
}

impl ErrorKind {
    pub(crate) const ALL: [Self; 12] = [
        Self::InvalidArgument,
        Self::Config,
        Self::Disabled,
        Self::Unavailable,
        Self::Denied,
        Self::Throttled,
        Self::Network,
        Self::Timeout,
        Self::Protocol,
        Self::Insecure,
        Self::Libpq,
        Self::Internal,
    ];
}

/// The longest message in bytes; libpq's callers print it as one line.
const LONGEST: usize = 1900;

/// A failure: its kind, and one line that says what failed, where, why and what to do. Never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// Text that came from elsewhere may hold line breaks and other control characters, and be of any length.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let mut message = message.into();
        // A sentence may begin with the name of a thing.
        if message.starts_with("the ") {
            message.replace_range(..1, "T");
        }
        if message.contains(|c: char| c.is_control()) {
            message = message.replace(|c: char| c.is_control(), " ");
        }
        if message.len() > LONGEST {
            let cut = message.floor_char_boundary(LONGEST);
            message.truncate(cut);
            message.push_str("...");
        }
        Self { kind, message }
    }

    /// The kind, to branch on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The line for people, without the `pgaad: ` that the C interface puts before it.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        let error = Error::new(ErrorKind::Denied, format!("a\r\nb\0c{}", "\u{e9}".repeat(4000)));
        assert!(error.message().starts_with("a  b c"));
        assert!(error.message().len() <= LONGEST + 3);
        assert!(!error.message().contains(|c: char| c.is_control()));
    }
}
