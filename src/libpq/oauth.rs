//! libpq 18 and later: servers that ask for OAUTHBEARER get a token from a hook that libpq calls.
#![allow(unsafe_code)] // is called by libpq, and fills in its requests

use std::ffi::{CString, c_int, c_void};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

use once_cell::race::OnceBox;

use super::sys::{AuthDataHook, BearerRequest, BearerRequestV2};
use super::{Connection, Libpq, PgConn};
use crate::bug;
use crate::error::{Error, ErrorKind};
use crate::os::event;
use crate::secret::Secret;

/// The version that brought the hook.
const FIRST: i32 = 180_000;

/// What a connection gets.
pub(crate) enum Supply {
    Now(Result<Secret, Error>),
    /// When the descriptor is readable.
    Later(OwnedFd, Take),
}

/// Takes what is there then.
type Take = Box<dyn FnOnce() -> Result<Secret, Error>>;

/// Says what a connection gets; None: it is not ours.
type Supplier = fn(&'static Libpq, &Connection) -> Option<Supply>;

struct Installed {
    libpq: &'static Libpq,
    supply: Supplier,
    /// Whoever was there before gets what is not ours.
    before: Option<AuthDataHook>,
}

/// Once per process; of the libpq in use, which stays.
static INSTALLED: OnceBox<Installed> = OnceBox::new();

/// Puts our hook before the one that is there. A second time it does nothing.
pub(crate) fn install(libpq: &'static Libpq, supply: Supplier) -> Result<(), Error> {
    let (Some(get), Some(set)) = (libpq.optional.PQgetAuthDataHook, libpq.optional.PQsetAuthDataHook) else {
        let (major, minor) = (libpq.version / 10_000, libpq.version % 10_000);
        return Err(Error::new(
            ErrorKind::Libpq,
            format!(
                "The libpq in {} is version {major}.{minor}, and OAuth needs {} or later. Without it tokens go as \
                 passwords, for which nothing is to be called.",
                libpq.path,
                FIRST / 10_000
            ),
        ));
    };
    // SAFETY: it takes nothing.
    let before = unsafe { get() };
    let mine = Box::new(Installed { libpq, supply, before });
    // Of two at once, one is first.
    if INSTALLED.set(mine).is_ok() {
        // SAFETY: the hook has libpq's type, and stays as long as this library.
        unsafe { set(Some(hook)) };
    }
    Ok(())
}

impl Libpq {
    /// Whether it asks us for tokens.
    pub(crate) fn has_our_hook(&self) -> bool {
        INSTALLED.get().is_some_and(|installed| ptr::eq(installed.libpq, self))
    }
}

/// `PQAUTHDATA_OAUTH_BEARER_TOKEN` and, from 19 on, `..._V2`, which is asked for first.
const BEARER: c_int = 1;
const BEARER_V2: c_int = 2;

/// What a hook says.
const ABORT: c_int = -1;
const DONE: c_int = 1;

/// `PostgresPollingStatusType`.
const FAILED: c_int = 0;
const READING: c_int = 1;
const OK: c_int = 3;

/// What belongs to one request, until libpq cleans up.
struct Answer {
    is_v2: bool,
    later: Option<(OwnedFd, Take)>,
    token: CString,
    error: CString,
}

/// libpq calls this on the thread that connects, with a connection that nobody else uses meanwhile.
unsafe extern "C" fn hook(kind: c_int, conn: *mut PgConn, data: *mut c_void) -> c_int {
    let Some(installed) = INSTALLED.get() else { return 0 };
    if kind == BEARER || kind == BEARER_V2 {
        // SAFETY: libpq's own connection.
        let conn = unsafe { Connection::from_raw(conn) };
        let supply = || conn.and_then(|conn| (installed.supply)(installed.libpq, &conn));
        if let Some(supply) = bug::contain(supply).unwrap_or_else(|bug| Some(Supply::Now(Err(bug)))) {
            // SAFETY: a request of this kind.
            return unsafe { answer(kind == BEARER_V2, data.cast(), supply) };
        }
    }
    match installed.before {
        // SAFETY: as libpq would have called it.
        Some(before) => unsafe { before(kind, conn, data) },
        None => 0,
    }
}

/// # Safety
/// `request` is libpq's, and of the second version if that is said.
unsafe fn answer(is_v2: bool, request: *mut BearerRequest, supply: Supply) -> c_int {
    let mut answer =
        Box::new(Answer { is_v2, later: None, token: CString::default(), error: CString::default() });
    let result = match supply {
        Supply::Now(token) => Some(token),
        Supply::Later(event, take) => {
            answer.later = Some((event, take));
            None
        }
    };
    let answer = Box::into_raw(answer);
    // SAFETY: libpq's request, which it cleans up by `clean_up`, whatever comes of it.
    unsafe {
        (*request).user = answer.cast();
        (*request).cleanup = Some(clean_up);
        match result {
            None => {
                (*request).poll = Some(poll);
                DONE
            }
            Some(token) => match put(request, token) {
                true => DONE,
                false => ABORT,
            },
        }
    }
}

/// Writes the token into the request, or why there is none.
///
/// # Safety
/// `request` is one that [`answer`] took.
unsafe fn put(request: *mut BearerRequest, token: Result<Secret, Error>) -> bool {
    // SAFETY: it has its answer until `clean_up`.
    let answer = unsafe { &mut *(*request).user.cast::<Answer>() };
    let token = token.and_then(|token| {
        let odd = |_| Error::new(ErrorKind::Protocol, "The token holds a NUL byte.");
        CString::new(token.reveal()).map_err(odd)
    });
    match token {
        Ok(token) => {
            answer.token = token;
            // SAFETY: libpq copies it, and does not write to it.
            unsafe { (*request).token = answer.token.as_ptr().cast_mut() };
            true
        }
        Err(error) => {
            answer.error = CString::new(format!("pgaad: {error}")).unwrap_or_default();
            if answer.is_v2 {
                // SAFETY: the request is of the second version, of which the first is the beginning.
                unsafe { (*request.cast::<BearerRequestV2>()).error = answer.error.as_ptr() };
            }
            false
        }
    }
}

/// libpq calls this at once, and whenever the descriptor is readable.
unsafe extern "C" fn poll(_conn: *mut PgConn, request: *mut BearerRequest, altsock: *mut c_int) -> c_int {
    // SAFETY: it has its answer until `clean_up`.
    let answer = unsafe { &mut *(*request).user.cast::<Answer>() };
    match answer.later.take() {
        Some((event, take)) if event::is_given(&event) => {
            let token = bug::contain(take).and_then(|token| token);
            // SAFETY: the request that it belongs to.
            if unsafe { put(request, token) } { OK } else { FAILED }
        }
        Some((event, take)) => {
            // SAFETY: libpq's place for a descriptor that it waits for.
            unsafe { altsock.write(event.as_raw_fd()) };
            answer.later = Some((event, take));
            READING
        }
        None => FAILED,
    }
}

unsafe extern "C" fn clean_up(_conn: *mut PgConn, request: *mut BearerRequest) {
    // SAFETY: the answer was put there by `answer`, and is taken out once.
    let answer = unsafe { ptr::replace(&raw mut (*request).user, ptr::null_mut()) };
    if !answer.is_null() {
        // SAFETY: it is that box.
        let answer = unsafe { Box::from_raw(answer.cast::<Answer>()) };
        let _ = bug::contain(|| drop(answer));
    }
}
