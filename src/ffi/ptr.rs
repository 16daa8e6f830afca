//! What comes in and goes out by pointer; every check of one is here.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;

use crate::error::{Error, ErrorKind};

pub(super) fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

pub(super) fn is_null(name: &str) -> Error {
    invalid(format!("{name} must not be NULL."))
}

/// A conninfo or settings string; NULL stands for the empty one.
///
/// # Safety
/// `text` is NULL or a string that outlives `'a`.
pub(super) unsafe fn string<'a>(text: *const c_char) -> &'a CStr {
    if text.is_null() {
        return c"";
    }
    // SAFETY: the caller says so.
    unsafe { CStr::from_ptr(text) }
}

/// The same for text of ours, which is UTF-8.
///
/// # Safety
/// As for [`string`].
pub(super) unsafe fn utf8<'a>(text: *const c_char, name: &str) -> Result<&'a str, Error> {
    // SAFETY: the caller says so.
    unsafe { string(text) }.to_str().map_err(|_| invalid(format!("{name} is not UTF-8.")))
}

/// A place for a result: NULL or 0 from the moment it is known, written again when the call succeeds.
pub(super) struct Out<T>(NonNull<T>);

impl<T> Out<T> {
    /// # Safety
    /// `place` is NULL or may be written to until the call returns.
    pub(super) unsafe fn new(place: *mut T, nothing: T, name: &str) -> Result<Self, Error> {
        // SAFETY: the caller says so.
        unsafe { Self::optional(place, nothing) }.ok_or_else(|| is_null(name))
    }

    /// # Safety
    /// As for [`Out::new`].
    pub(super) unsafe fn optional(place: *mut T, nothing: T) -> Option<Self> {
        let place = NonNull::new(place)?;
        // SAFETY: the caller promises a place that can be written to; what it held is not read.
        unsafe { place.write(nothing) };
        Some(Self(place))
    }

    pub(super) fn put(self, value: T) {
        // SAFETY: `new` was promised a place that stays until the call returns, which is after this.
        unsafe { self.0.write(value) }
    }
}

/// A copy that the caller gives back with `pgaad_free`. Not Rust's allocator: `pgaad_free` knows no length.
pub(super) fn give(bytes: &[u8]) -> Result<*mut c_char, Error> {
    // SAFETY: malloc has no precondition.
    let copy = NonNull::new(unsafe { libc::malloc(bytes.len() + 1) }.cast::<u8>())
        .ok_or_else(|| Error::new(ErrorKind::Internal, "Out of memory."))?;
    // SAFETY: `copy` is new and has room for the bytes and a NUL.
    unsafe {
        copy.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
        copy.add(bytes.len()).write(0);
    }
    Ok(copy.as_ptr().cast())
}

/// Wipes all that the allocator set aside for the string, not only what stands before its first NUL: the caller
/// may have cut it.
///
/// # Safety
/// `text` is NULL or came from [`give`], once.
pub(super) unsafe fn take_back(text: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: the caller says that it is a block of malloc's.
    unsafe {
        libc::explicit_bzero(text, libc::malloc_usable_size(text));
        libc::free(text);
    }
}

/// A message as the header promises it.
pub(super) fn message(error: &Error) -> String {
    format!("pgaad: {error}")
}
