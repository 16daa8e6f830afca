//! The one way out of every function: a result becomes a status and a message, a panic too.

use std::ffi::c_char;

use super::ptr::{self, Out};
use super::status::{self, PGAAD_OK, pgaad_status};
use crate::bug;
use crate::error::Error;

/// Runs `body`, and hands out what it says.
///
/// # Safety
/// `errmsg` is NULL or may be written to until this returns.
pub(super) unsafe fn call(
    errmsg: *mut *mut c_char,
    body: impl FnOnce() -> Result<(), Error>,
) -> pgaad_status {
    // SAFETY: the caller says so.
    let errmsg = unsafe { Out::optional(errmsg, std::ptr::null_mut()) };
    match bug::contain(body).and_then(|result| result) {
        Ok(()) => PGAAD_OK,
        Err(error) => {
            if let Some(place) = errmsg {
                place.put(ptr::give(ptr::message(&error).as_bytes()).unwrap_or(std::ptr::null_mut()));
            }
            status::of(error.kind())
        }
    }
}
