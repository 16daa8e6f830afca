//! The numbers of `pgaad_status`, which never change, and which kind of failure each is.

use std::ffi::CStr;

use crate::error::ErrorKind;

/// How a call ended. 0 is success; a number that a program does not know is a failure.
#[allow(non_camel_case_types)]
pub type pgaad_status = i32;

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $number:literal $(=> $kind:ident)?;)*) => {
        $($(#[$doc])* pub const $name: pgaad_status = $number;)*

        /// The name of a status, such as `"PGAAD_DENIED"`.
        pub(super) fn name(status: pgaad_status) -> &'static CStr {
            match status {
                $($name => const {
                    match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                        Ok(name) => name,
                        Err(_) => c"",
                    }
                },)*
                _ => c"PGAAD_UNKNOWN",
            }
        }

        pub(super) const fn of(kind: ErrorKind) -> pgaad_status {
            match kind { $($(ErrorKind::$kind => $name,)?)* }
        }
    };
}

statuses! {
    /// Success.
    PGAAD_OK = 0;
    /// NULL where a pointer is required, or text that is not UTF-8.
    PGAAD_INVALID_ARGUMENT = 1 => InvalidArgument;
    /// A setting is missing, malformed or contradicts another one.
    PGAAD_CONFIG = 2 => Config;
    /// A token was asked for, but auth=off.
    PGAAD_DISABLED = 3 => Disabled;
    /// No credential source is here.
    PGAAD_UNAVAILABLE = 4 => Unavailable;
    /// Entra answered, and said no (AADSTS...): retrying will not help.
    PGAAD_DENIED = 5 => Denied;
    /// Told to come back later; the message says when.
    PGAAD_THROTTLED = 6 => Throttled;
    /// DNS, TCP or TLS to the token service, or its 5xx, all tries used.
    PGAAD_NETWORK = 7 => Network;
    /// The deadline passed.
    PGAAD_TIMEOUT = 8 => Timeout;
    /// An answer that is no token answer.
    PGAAD_PROTOCOL = 9 => Protocol;
    /// The token would have gone out without TLS or to a stranger: refused.
    PGAAD_INSECURE = 10 => Insecure;
    /// libpq could not be found in this process or loaded.
    PGAAD_LIBPQ = 11 => Libpq;
    /// A bug in pgaad, caught at the boundary.
    PGAAD_INTERNAL = 12 => Internal;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_belong_together() {
        assert_eq!(name(5), c"PGAAD_DENIED");
        assert_eq!(name(0), c"PGAAD_OK");
        assert_eq!(name(-1), c"PGAAD_UNKNOWN");
        let all = ErrorKind::ALL.map(of);
        assert_eq!(all, std::array::from_fn(|at| at as i32 + 1));
    }
}
