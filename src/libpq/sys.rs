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

type Strings = *const *const c_char;

macro_rules! functions {
    ($($name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        $(#[allow(non_camel_case_types)]
        type $name = unsafe extern "C" fn($($argument),*) $(-> $result)?;)*

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

        /// The names, in the order of the table of the linker.
        const NAMES: &[&str] = &[$(stringify!($name),)*];

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
    PQlibVersion() -> c_int;
    PQisthreadsafe() -> c_int;
    PQconnectdb(*const c_char) -> *mut PgConn;
    PQconnectdbParams(Strings, Strings, c_int) -> *mut PgConn;
    PQconnectStartParams(Strings, Strings, c_int) -> *mut PgConn;
    PQfinish(*mut PgConn);
    PQstatus(*const PgConn) -> c_int;
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
