//! What is kept with a connection until it is finished.
//!
//! libpq uses the memory of a finished connection for the next one, so its address says nothing. An event procedure of
//! ours does: it goes with the connection, and is told of its end.
#![allow(unsafe_code)] // hands a box to libpq, and takes it back

use std::any::Any;
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use super::{Connection, Libpq};
use crate::bug;

struct Kept {
    /// libpq's copy of the password, how long it may be, and how long it is.
    password: *mut c_char,
    room: usize,
    length: Cell<usize>,
    note: Box<dyn Any>,
}

/// `PGEVT_CONNDESTROY` of libpq-events.h.
const END: c_int = 2;

#[inline(never)] // one address
extern "C" fn keep(event: c_int, _info: *mut c_void, kept: *mut c_void) -> c_int {
    if event == END {
        // SAFETY: `attach` gave libpq a box for this connection, which ends once.
        let kept = unsafe { Box::from_raw(kept.cast::<Kept>()) };
        let _ = bug::contain(|| drop(kept));
    }
    1
}

impl Libpq {
    /// Keeps a note with a connection that has none, until it is finished. Where memory is short, it goes without.
    pub(crate) fn attach(&self, conn: &Connection, note: impl Any) {
        // SAFETY: the connection is alive; its password is NULL or a string.
        let (password, length) = unsafe {
            let password = (self.pq.PQpass)(conn.as_raw());
            (password, if password.is_null() { 0 } else { libc::strlen(password) })
        };
        let kept = Kept { password, room: length, length: Cell::new(length), note: Box::new(note) };
        let kept = Box::into_raw(Box::new(kept));
        // SAFETY: the connection is alive, and `keep` stays as long as this library.
        unsafe {
            if (self.pq.PQregisterEventProc)(conn.as_raw(), keep, c"pgaad".as_ptr(), kept.cast()) != 0 {
                (self.pq.PQsetInstanceData)(conn.as_raw(), keep, kept.cast());
            } else {
                // SAFETY: libpq did not take it.
                drop(Box::from_raw(kept));
            }
        }
    }

    fn kept<'a>(&self, conn: &'a Connection) -> Option<&'a Kept> {
        // SAFETY: the connection is alive, and so is the box until it is finished; nobody else changes it.
        unsafe { (self.pq.PQinstanceData)(conn.as_raw(), keep).cast::<Kept>().as_ref() }
    }

    /// The note that was attached to the connection.
    pub(crate) fn note<'a, T: Any>(&self, conn: &'a Connection) -> Option<&'a T> {
        self.kept(conn)?.note.downcast_ref()
    }

    /// Puts another password into the place of the one that the connection was opened with, for libpq to send. False: it
    /// does not fit there, and nothing has changed.
    ///
    /// libpq has no call for this; `PQpass` says where its copy is, which is as long as what it was made of.
    pub(crate) fn put_password(&self, conn: &Connection, password: &[u8]) -> bool {
        let Some(kept) = self.kept(conn) else { return false };
        // SAFETY: the connection is alive; its password is NULL or a string.
        let is_there = unsafe {
            let held = (self.pq.PQpass)(conn.as_raw());
            !held.is_null() && held == kept.password && libc::strlen(held) == kept.length.get()
        };
        // Where there was none, what PQpass shows is no copy.
        if !is_there || password.is_empty() || password.len() > kept.room || password.contains(&0) {
            return false;
        }
        // SAFETY: it is the copy that was there when the connection was opened, and has room for what it was made of and
        // a NUL. What is left of a longer one is wiped.
        unsafe {
            ptr::copy_nonoverlapping(password.as_ptr().cast(), kept.password, password.len());
            ptr::write_bytes(kept.password.add(password.len()), 0, kept.room + 1 - password.len());
        }
        kept.length.set(password.len());
        true
    }
}
