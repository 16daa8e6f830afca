//! The two parallel arrays that libpq's `...Params` functions take.
#![allow(unsafe_code)] // borrows the arrays of a C caller

use crate::error::{Error, ErrorKind};
use std::ffi::{CStr, CString, c_char};
use std::marker::PhantomData;
use std::ptr;

/// Keywords and values: those of a C caller, untouched, and copies of ours, which the allocator wipes.
/// Later entries win over earlier ones; an empty value counts as absent.
pub(crate) struct Arguments<'a> {
    keywords: Vec<*const c_char>,
    values: Vec<*const c_char>,
    copies: Vec<CString>,
    caller: PhantomData<&'a CStr>,
}

impl<'a> Arguments<'a> {
    pub(crate) fn new() -> Self {
        Self { keywords: Vec::new(), values: Vec::new(), copies: Vec::new(), caller: PhantomData }
    }

    /// The arrays of a C caller: what they point to stays where it is.
    ///
    /// # Safety
    /// `keywords` ends with NULL and `values` is as long. Every entry of both is a string that outlives `'a`;
    /// a value may be NULL.
    pub(crate) unsafe fn borrow(keywords: *const *const c_char, values: *const *const c_char) -> Self {
        let mut arguments = Self::new();
        for at in 0.. {
            // SAFETY: the caller promises an array that ends with NULL, and we stop there.
            let keyword = unsafe { *keywords.add(at) };
            if keyword.is_null() {
                break;
            }
            arguments.keywords.push(keyword);
            // SAFETY: `values` is as long as `keywords`.
            arguments.values.push(unsafe { *values.add(at) });
        }
        arguments
    }

    /// Adds copies. A NUL inside is an error: libpq would see half of the text.
    pub(crate) fn push(&mut self, keyword: &[u8], value: &[u8]) -> Result<(), Error> {
        for (text, list) in [(keyword, &mut self.keywords), (value, &mut self.values)] {
            let copy = CString::new(text).map_err(|_| {
                let name = String::from_utf8_lossy(keyword);
                let message = format!("The connection option \"{name}\" holds a NUL byte.");
                Error::new(ErrorKind::InvalidArgument, message)
            })?;
            list.push(copy.as_ptr()); // the text stays where it is when the CString itself moves
            self.copies.push(copy);
        }
        Ok(())
    }

    /// Copies of all that counts: an entry whose value is NULL is none.
    pub(crate) fn to_owned(&self) -> Arguments<'static> {
        let mut copies = Arguments::new();
        for (keyword, value) in self.iter() {
            let Some(value) = value else { continue };
            for (text, list) in [(keyword, &mut copies.keywords), (value, &mut copies.values)] {
                let copy = text.to_owned();
                list.push(copy.as_ptr());
                copies.copies.push(copy);
            }
        }
        copies
    }

    /// The pairs, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&CStr, Option<&CStr>)> {
        self.keywords.iter().zip(&self.values).map(|(&keyword, &value)| {
            // SAFETY: every keyword is a string, the caller's or ours, that outlives `self`; none is NULL.
            let keyword = unsafe { CStr::from_ptr(keyword) };
            // SAFETY: so is every value that is not NULL.
            (keyword, (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) }))
        })
    }

    /// Both arrays with their closing NULL, and `last` before it.
    pub(super) fn arrays(&self, last: Option<(&CStr, &CStr)>) -> (Vec<*const c_char>, Vec<*const c_char>) {
        let (keyword, value) = last.map(|(keyword, value)| (keyword.as_ptr(), value.as_ptr())).unzip();
        let end = |list: &[*const c_char], last: Option<_>| {
            list.iter().copied().chain(last).chain([ptr::null()]).collect()
        };
        (end(&self.keywords, keyword), end(&self.values, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_arrays_come_first_and_unchanged() {
        let keywords = [c"host".as_ptr(), c"user".as_ptr(), ptr::null(), c"port".as_ptr()];
        let values = [c"a".as_ptr(), ptr::null(), c"b".as_ptr(), c"c".as_ptr()];
        // SAFETY: the arrays end with NULL and hold literals.
        let mut arguments = unsafe { Arguments::borrow(keywords.as_ptr(), values.as_ptr()) };
        arguments.push(b"password", b"t").unwrap();
        let (all, _) = arguments.arrays(None);
        assert_eq!(all[..2], keywords[..2]);
        assert_eq!(all.len(), 4);
        let pairs: Vec<_> = arguments.iter().collect();
        assert_eq!(pairs[1], (c"user", None));
        assert_eq!(pairs[2], (c"password", Some(c"t")));
    }

    #[test]
    fn a_nul_inside_is_refused() {
        let error = Arguments::new().push(b"user", b"a\0b").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains("user"));
    }
}
