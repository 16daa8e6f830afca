//! The program's function that supplies tokens, and the place where it answers.

use std::ffi::{CStr, CString, c_int, c_void};
use std::sync::OnceLock;
use std::time::Duration;

use super::status::{self, pgaad_status};
use super::{pgaad_answer, pgaad_release_fn};
use crate::credential::Supplied;
use crate::error::{Error, ErrorKind};
use crate::os::fork::Lock;
use crate::secret::Secret;

type Fetch = unsafe extern "C" fn(*mut c_void, *const std::ffi::c_char, c_int, *mut pgaad_answer);

/// The function, and what belongs to it until the last fetch is over and the client is gone.
pub(super) struct Program {
    fetch: Fetch,
    userdata: *mut c_void,
    release: OnceLock<pgaad_release_fn>,
}

// SAFETY: the header says on which threads the functions are called; the pointer is theirs, and only handed on.
unsafe impl Send for Program {}
// SAFETY: as above; of fetches one runs at a time.
unsafe impl Sync for Program {}

impl Program {
    /// # Safety
    /// `fetch` may be called with `userdata` until this is dropped.
    pub(super) unsafe fn new(fetch: Fetch, userdata: *mut c_void) -> Self {
        Self { fetch, userdata, release: OnceLock::new() }
    }

    /// What is called when this is dropped.
    pub(super) fn release_with(&self, release: pgaad_release_fn) {
        let _ = self.release.set(release);
    }

    /// Asks the program.
    pub(super) fn fetch(&self, scope: &str, time: Duration) -> Result<Supplied, Error> {
        // Settings hold no NUL.
        let scope = CString::new(scope).unwrap_or_default();
        let time = c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX);
        let mut answer = pgaad_answer(Answer::default());
        // SAFETY: `new` was promised a function that takes these; they live until it returns.
        unsafe { (self.fetch)(self.userdata, scope.as_ptr(), time, &mut answer) };
        answer.0.read()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(Some(release)) = self.release.get() {
            // SAFETY: the header asks for a function of this type; nothing calls `fetch` any more.
            unsafe { release(self.userdata) };
        }
    }
}

/// What the function answered so far. It may do so on another thread than the one it was called on.
#[derive(Default)]
pub(super) struct Answer(Lock<Vec<Result<Supplied, Error>>>);

impl Answer {
    pub(super) fn token(&self, token: &CStr, expires_on: i64) {
        let token = Secret::new(String::from_utf8_lossy(token.to_bytes()));
        let expires_on = Some(expires_on).filter(|end| *end != 0);
        self.0.with(|answers| answers.push(Ok(Supplied { token, expires_on })));
    }

    pub(super) fn error(&self, status: pgaad_status, message: &CStr) {
        let message = message.to_string_lossy();
        let said = if message.is_empty() { "it gave no reason.".into() } else { message };
        let kind = status::kind(status).unwrap_or(ErrorKind::Protocol);
        let error = Error::new(kind, format!("The token callback failed: {said}"));
        self.0.with(|answers| answers.push(Err(error)));
    }

    fn read(self) -> Result<Supplied, Error> {
        let mut answers = self.0.with(std::mem::take);
        match (answers.pop(), answers.is_empty()) {
            (Some(answer), true) => answer,
            (None, _) => Err(wrong(
                "returned without an answer: it must call pgaad_answer_token or pgaad_answer_error before it returns",
            )),
            (Some(_), false) => Err(wrong("answered more than once")),
        }
    }
}

fn wrong(did: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("The token callback {did}."))
}
