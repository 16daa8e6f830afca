//! The numbers of `pgaad_status`, which never change, and which kind of failure each is.

use std::ffi::CStr;

use crate::error::ErrorKind;

/// How a call ended. 0 is success; a number that a program does not know is a failure.
pub type pgaad_status = i32;

/// Success.
pub const PGAAD_OK: pgaad_status = 0;
/// NULL where a pointer is required, or text that is not UTF-8.
pub const PGAAD_INVALID_ARGUMENT: pgaad_status = 1;
/// A setting is missing, malformed or contradicts another one.
pub const PGAAD_CONFIG: pgaad_status = 2;
/// A token was asked for, but auth=off.
pub const PGAAD_DISABLED: pgaad_status = 3;
/// No credential source is here.
pub const PGAAD_UNAVAILABLE: pgaad_status = 4;
/// Entra answered, and said no (AADSTS...): retrying will not help.
pub const PGAAD_DENIED: pgaad_status = 5;
/// Told to come back later (429, or Retry-After); the message says when.
pub const PGAAD_THROTTLED: pgaad_status = 6;
/// No connection to the token service (DNS, TCP, TLS, an untrusted certificate), or its 5xx, all tries used.
pub const PGAAD_NETWORK: pgaad_status = 7;
/// The deadline passed; or no token was there, and the call was not to wait.
pub const PGAAD_TIMEOUT: pgaad_status = 8;
/// An answer that is no token answer.
pub const PGAAD_PROTOCOL: pgaad_status = 9;
/// The token would have gone out without TLS or to a stranger: refused.
pub const PGAAD_INSECURE: pgaad_status = 10;
/// libpq could not be found in this process or loaded, is older than 12, or several are and none is chosen.
pub const PGAAD_LIBPQ: pgaad_status = 11;
/// A bug in pgaad, caught at the boundary.
pub const PGAAD_INTERNAL: pgaad_status = 12;

pub(crate) const fn of(kind: ErrorKind) -> pgaad_status {
    match kind {
        ErrorKind::InvalidArgument => PGAAD_INVALID_ARGUMENT,
        ErrorKind::Config => PGAAD_CONFIG,
        ErrorKind::Disabled => PGAAD_DISABLED,
        ErrorKind::Unavailable => PGAAD_UNAVAILABLE,
        ErrorKind::Denied => PGAAD_DENIED,
        ErrorKind::Throttled => PGAAD_THROTTLED,
        ErrorKind::Network => PGAAD_NETWORK,
        ErrorKind::Timeout => PGAAD_TIMEOUT,
        ErrorKind::Protocol => PGAAD_PROTOCOL,
        ErrorKind::Insecure => PGAAD_INSECURE,
        ErrorKind::Libpq => PGAAD_LIBPQ,
        ErrorKind::Internal => PGAAD_INTERNAL,
    }
}

/// What a status of a failure stands for.
pub(super) fn kind(status: pgaad_status) -> Option<ErrorKind> {
    ErrorKind::ALL.into_iter().find(|kind| of(*kind) == status)
}

/// The name of a status, such as `"PGAAD_DENIED"`.
pub(super) const fn name(status: pgaad_status) -> &'static CStr {
    match status {
        PGAAD_OK => c"PGAAD_OK",
        PGAAD_INVALID_ARGUMENT => c"PGAAD_INVALID_ARGUMENT",
        PGAAD_CONFIG => c"PGAAD_CONFIG",
        PGAAD_DISABLED => c"PGAAD_DISABLED",
        PGAAD_UNAVAILABLE => c"PGAAD_UNAVAILABLE",
        PGAAD_DENIED => c"PGAAD_DENIED",
        PGAAD_THROTTLED => c"PGAAD_THROTTLED",
        PGAAD_NETWORK => c"PGAAD_NETWORK",
        PGAAD_TIMEOUT => c"PGAAD_TIMEOUT",
        PGAAD_PROTOCOL => c"PGAAD_PROTOCOL",
        PGAAD_INSECURE => c"PGAAD_INSECURE",
        PGAAD_LIBPQ => c"PGAAD_LIBPQ",
        PGAAD_INTERNAL => c"PGAAD_INTERNAL",
        _ => c"PGAAD_UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_belong_together() {
        assert_eq!(name(5), c"PGAAD_DENIED");
        assert_eq!(name(0), c"PGAAD_OK");
        assert_eq!(name(-1), c"PGAAD_UNKNOWN");
        assert_eq!(ErrorKind::ALL.map(of), std::array::from_fn(|at| at as i32 + 1));
    }
}
