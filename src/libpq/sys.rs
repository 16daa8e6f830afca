//! libpq's types and functions as C declares them. Each function is named once, in the list at the end.
#![allow(unsafe_code)] // turns addresses that the loader found into functions

use std::ffi::{CStr, c_char, c_int, c_void};

/// libpq's `PGconn`.
#[repr(C)]
pub struct PgConn {
    _opaque: [u8; 0],
}

/// `PQconninfoOption`: an array of them ends with a NULL keyword. All but `val` are static strings.
#[repr(C)]
pub(super) struct ConninfoOption {
    pub(super) keyword: *const c_char,
    pub(super) envvar: *const c_char,
    pub(super) compiled: *const c_char,
    pub(super) val: *mut c_char,
    pub(super) label: *const c_char,
    pub(super) dispchar: *const c_char,
    pub(super) dispsize: c_int,
}

/// `PGEventProc` of libpq-events.h.
pub(super) type EventProc =
    extern "C" fn(event: c_int, info: *mut c_void, pass_through: *mut c_void) -> c_int;

/// `PQauthDataHook_type`: says > 0 for done, 0 for not ours, < 0 to end the connection.
pub(super) type AuthDataHook =
    unsafe extern "C" fn(kind: c_int, conn: *mut PgConn, data: *mut c_void) -> c_int;

/// `PGoauthBearerRequest` of libpq 18.
#[repr(C)]
pub(super) struct BearerRequest {
    _openid_configuration: *const c_char,
    _scope: *const c_char,
    /// `async`.
    pub(super) poll: Option<unsafe extern "C" fn(*mut PgConn, *mut BearerRequest, *mut c_int) -> c_int>,
    pub(super) cleanup: Option<unsafe extern "C" fn(*mut PgConn, *mut BearerRequest)>,
    pub(super) token: *mut c_char,
    pub(super) user: *mut c_void,
}

/// `PGoauthBearerRequestV2` of libpq 19.
#[repr(C)]
pub(super) struct BearerRequestV2 {
    _v1: BearerRequest,
    _issuer: *const c_char,
    pub(super) error: *const c_char,
}

type Strings = *const *const c_char;

macro_rules! functions {
    (
        all have { $($name:ident($($argument:ty),*) $(-> $result:ty)?;)* }
        new ones have { $($new:ident($($new_argument:ty),*) $(-> $new_result:ty)?;)* }
    ) => {
        $(#[allow(non_camel_case_types)]
        type $name = unsafe extern "C" fn($($argument),*) $(-> $result)?;)*
        $(#[allow(non_camel_case_types)]
        type $new = unsafe extern "C" fn($($new_argument),*) $(-> $new_result)?;)*

        /// The functions of one libpq.
        #[allow(non_snake_case)] // libpq's own names
        pub(super) struct Functions {
            $(pub(super) $name: $name,)*
        }

        impl Functions {
            /// Asks `resolve` for every function, and only here. The error is the name that it does not know.
            pub(super) fn take(resolve: &dyn Fn(&CStr) -> *mut c_void) -> Result<Self, &'static str> {
                Ok(Self {
                    $($name: {
                        let address = resolve(c_name(concat!(stringify!($name), "\0")));
                        if address.is_null() {
                            return Err(stringify!($name));
                        }
                        // SAFETY: libpq's function of this name has this type, in every version.
                        unsafe { std::mem::transmute::<*mut c_void, $name>(address) }
                    },)*
                })
            }
        }

        /// Those that only newer ones have.
        #[allow(non_snake_case)] // libpq's own names
        pub(super) struct Optional {
            $(pub(super) $new: Option<$new>,)*
        }

        impl Optional {
            /// Asks `resolve` for each of them, and only here.
            pub(super) fn take(resolve: &dyn Fn(&CStr) -> *mut c_void) -> Self {
                Self {
                    $($new: {
                        let address = resolve(c_name(concat!(stringify!($new), "\0")));
                        // SAFETY: libpq's function of this name has this type, in every version that has it; NULL is
                        // None.
                        unsafe { std::mem::transmute::<*mut c_void, Option<$new>>(address) }
                    },)*
                }
            }
        }

        /// The names, in the order of the table of the linker.
        const NAMES: &[&str] = &[$(stringify!($name),)* $(stringify!($new),)*];

        // For libpgaad.a: what the linker makes of libpq's names. They are weak, so that nothing needs to
        // have them and nothing is pulled in for them; where no libpq.a is linked, as in libpgaad.so, each is
        // NULL or elsewhere.
        std::arch::global_asm!(
            ".pushsection .data.rel.ro.pgaad_linked_libpq,\"aw\"",
            ".p2align 3",
            ".globl pgaad_linked_libpq",
            ".hidden pgaad_linked_libpq",
            "pgaad_linked_libpq:",
            $(concat!(".weak ", stringify!($name)), concat!(".quad ", stringify!($name)),)*
            $(concat!(".weak ", stringify!($new)), concat!(".quad ", stringify!($new)),)*
            ".popsection",
        );
    };
}

/// Where the linker found a function of libpq; NULL where it found none.
pub(super) fn linked(name: &CStr) -> *mut c_void {
    let known = NAMES.iter().position(|known| known.as_bytes() == name.to_bytes());
    // SAFETY: the table has one address for each name, and nobody writes to it.
    known.map_or(std::ptr::null_mut(), |index| unsafe { (&raw const pgaad_linked_libpq[index]).read() })
}

/// cbindgen:ignore
#[allow(missing_docs)]
mod table {
    use super::{NAMES, c_void};

    unsafe extern "C" {
        pub(super) static pgaad_linked_libpq: [*mut c_void; NAMES.len()];
    }
}
use table::pgaad_linked_libpq;

/// The macro's names end in their NUL.
fn c_name(name: &'static str) -> &'static CStr {
    CStr::from_bytes_with_nul(name.as_bytes()).unwrap_or_default()
}

functions! {
    all have {
        PQlibVersion() -> c_int;
        PQisthreadsafe() -> c_int;
        PQconnectdb(*const c_char) -> *mut PgConn;
        PQconnectdbParams(Strings, Strings, c_int) -> *mut PgConn;
        PQconnectStart(*const c_char) -> *mut PgConn;
        PQconnectStartParams(Strings, Strings, c_int) -> *mut PgConn;
        PQreset(*mut PgConn);
        PQfinish(*mut PgConn);
        PQstatus(*const PgConn) -> c_int;
        PQsocket(*const PgConn) -> c_int;
        PQconnectionUsedPassword(*const PgConn) -> c_int;
        PQerrorMessage(*const PgConn) -> *mut c_char;
        PQpass(*const PgConn) -> *mut c_char;
        PQconninfo(*mut PgConn) -> *mut ConninfoOption;
        PQconninfoParse(*const c_char, *mut *mut c_char) -> *mut ConninfoOption;
        PQconninfoFree(*mut ConninfoOption);
        PQfreemem(*mut c_void);
        PQregisterEventProc(*mut PgConn, EventProc, *const c_char, *mut c_void) -> c_int;
        PQsetInstanceData(*mut PgConn, EventProc, *mut c_void) -> c_int;
        PQinstanceData(*const PgConn, EventProc) -> *mut c_void;
    }
    new ones have {
        PQsetAuthDataHook(Option<AuthDataHook>);
        PQgetAuthDataHook() -> Option<AuthDataHook>;
    }
}
