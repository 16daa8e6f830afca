//! What is remembered of a connection until it is finished.

use std::cell::{Ref, RefCell};

use super::Request;
use crate::client::{Home, Purpose};
use crate::error::ErrorKind;
use crate::libpq::{self, Connection, Libpq};

/// Changes where another client signs the same connection in.
pub(super) struct Note(RefCell<Remembered>);

pub(super) enum Remembered {
    /// We failed it: why, and of whom what was asked, as far as that was said.
    Failed(ErrorKind, Option<Home>, Option<Request<'static>>),
    Signed(Signed),
}

/// A connection that was given a token.
#[derive(Clone)]
pub(super) struct Signed {
    /// Of the client whose token it is.
    pub(super) home: Home,
    pub(super) purpose: Purpose,
    /// Whether the user was named, not taken from the token.
    pub(super) names_user: bool,
}

impl Note {
    pub(super) fn failed(kind: ErrorKind, home: Option<Home>, request: Option<Request<'static>>) -> Self {
        Self(RefCell::new(Remembered::Failed(kind, home, request)))
    }

    pub(super) fn signed(signed: Signed) -> Self {
        Self(RefCell::new(Remembered::Signed(signed)))
    }

    pub(super) fn of<'a>(libpq: &Libpq, conn: &'a Connection) -> Option<Ref<'a, Remembered>> {
        libpq.note::<Self>(conn).map(|note| note.0.borrow())
    }

    pub(super) fn sign(libpq: &Libpq, conn: &Connection, signed: Signed) {
        if let Some(note) = libpq.note::<Self>(conn) {
            note.0.replace(Remembered::Signed(signed));
        }
    }
}

/// `pgaad_connection_status`: the kind of our failure that a connection carries.
pub(crate) fn failure_of(conn: &Connection) -> Option<ErrorKind> {
    match *Note::of(libpq::settled()?, conn)? {
        Remembered::Failed(kind, ..) => Some(kind),
        Remembered::Signed(_) => None,
    }
}
