//! The choice of a libpq is made once, at the first connect, and kept.
#![allow(unsafe_code)] // a pointer that also says whether it may still be changed

use super::{Libpq, find};
use crate::error::{Error, ErrorKind};
use crate::os::fork::in_resolver; // the loader's locks are like those of the resolver: a fork waits
use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// One word and no lock: a child that was forked in the middle of a choice finds it made or not made.
static CHOICE: Choice = Choice(AtomicPtr::new(ptr::null_mut()));

/// The libpq to connect with. The first success is kept; a failure is not.
pub(crate) fn get(env: impl Fn(&str) -> Option<String>) -> Result<&'static Libpq, Error> {
    CHOICE.settle(|| in_resolver(|| find::find(&env, true))?.ok_or_else(nothing_found))
}

/// The libpq at hand, if there is one. Loads none, and settles nothing.
pub(crate) fn loaded(env: impl Fn(&str) -> Option<String>) -> Result<Option<&'static Libpq>, Error> {
    match CHOICE.now() {
        State::Open => in_resolver(|| find::find(&env, false)),
        State::Named(libpq) | State::Settled(libpq) => Ok(Some(libpq)),
    }
}

/// The libpq that a connect would use; one is loaded if need be, but the choice stays open.
pub(crate) fn peek(env: impl Fn(&str) -> Option<String>) -> Result<&'static Libpq, Error> {
    match loaded(&env)? {
        Some(libpq) => Ok(libpq),
        None => in_resolver(|| find::find(&env, true))?.ok_or_else(nothing_found),
    }
}

/// The libpq that connections were made with, if any were.
pub(crate) fn settled() -> Option<&'static Libpq> {
    match CHOICE.now() {
        State::Settled(libpq) => Some(libpq),
        State::Open | State::Named(_) => None,
    }
}

fn nothing_found() -> Error {
    Error::new(ErrorKind::Internal, "No libpq was loaded, and no failure reported.")
}

/// Names the libpq, before the first connect; a second call before it replaces the first.
/// `resolve` finds functions of one libpq, which stay, and is asked for all of them before this returns.
pub(crate) fn name(resolve: &dyn Fn(&CStr) -> *mut c_void) -> Result<(), Error> {
    CHOICE.check()?;
    CHOICE.name(find::named(resolve)?)
}

struct Choice(AtomicPtr<Libpq>);

/// In the pointer's lowest bit, which its alignment leaves free: named, but nobody has connected yet.
const NAMED: usize = 1;

#[derive(Clone, Copy)]
enum State {
    Open,
    Named(&'static Libpq),
    Settled(&'static Libpq),
}

impl State {
    fn word(self) -> *mut Libpq {
        match self {
            Self::Open => ptr::null_mut(),
            Self::Named(libpq) => ptr::from_ref(libpq).cast_mut().map_addr(|address| address | NAMED),
            Self::Settled(libpq) => ptr::from_ref(libpq).cast_mut(),
        }
    }
}

impl Choice {
    fn now(&self) -> State {
        let word = self.0.load(Ordering::Acquire);
        // SAFETY: without its lowest bit it is NULL or came from `word()`.
        match unsafe { word.map_addr(|address| address & !NAMED).as_ref() } {
            None => State::Open,
            Some(libpq) if word.addr() & NAMED != 0 => State::Named(libpq),
            Some(libpq) => State::Settled(libpq),
        }
    }

    fn replace(&self, old: State, new: State) -> bool {
        self.0.compare_exchange(old.word(), new.word(), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn settle(&self, find: impl Fn() -> Result<&'static Libpq, Error>) -> Result<&'static Libpq, Error> {
        loop {
            let state = self.now();
            let libpq = match state {
                State::Settled(libpq) => return Ok(libpq),
                State::Named(libpq) => libpq,
                State::Open => find()?,
            };
            if self.replace(state, State::Settled(libpq)) {
                return Ok(libpq);
            }
        }
    }

    fn check(&self) -> Result<State, Error> {
        match self.now() {
            State::Settled(libpq) => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "The libpq in {} is in use since the first connect: call pgaad_use_libpq before it.",
                    libpq.path()
                ),
            )),
            state => Ok(state),
        }
    }

    fn name(&self, libpq: &'static Libpq) -> Result<(), Error> {
        loop {
            let state = self.check()?;
            if self.replace(state, State::Named(libpq)) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same libpq, as often as it is asked for, each time as if the program had named it.
    fn named() -> &'static Libpq {
        find::find(&|_| None, true).unwrap();
        // SAFETY: libpq is loaded now and stays; the handle is looked into, no more.
        let symbol = |name: &CStr| unsafe {
            let libpq = libc::dlopen(c"libpq.so.5".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            libc::dlsym(libpq, name.as_ptr())
        };
        find::named(&symbol).unwrap()
    }

    #[test]
    fn the_last_name_before_the_first_connect_counts() {
        let choice = Choice(AtomicPtr::new(ptr::null_mut()));
        choice.name(named()).unwrap();
        let last = named();
        assert!(last.path().contains("libpq"), "{}", last.path());
        choice.name(last).unwrap();
        let nothing = || Err(Error::new(ErrorKind::Libpq, "not to be looked for"));
        assert!(ptr::eq(choice.settle(nothing).unwrap(), last));
        assert_eq!(choice.name(named()).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert!(ptr::eq(choice.settle(nothing).unwrap(), last));
    }

    #[test]
    fn a_failure_is_not_kept() {
        let choice = Choice(AtomicPtr::new(ptr::null_mut()));
        assert!(choice.settle(|| Err(Error::new(ErrorKind::Libpq, "none"))).is_err());
        let libpq = named();
        assert!(ptr::eq(choice.settle(|| Ok(libpq)).unwrap(), libpq));
    }
}
