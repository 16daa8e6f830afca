//! Which tokens this process was given, so that one that comes back as a password is known for what it is.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use once_cell::race::OnceBox;

use crate::os::fork::Lock;

/// Fingerprints, by a key that only this process has.
struct Issued {
    hasher: RandomState,
    fingerprints: Lock<VecDeque<u64>>,
}

/// Tokens live for an hour or more, so this many are a long time.
const MOST_ISSUED: usize = 4096;

static ISSUED: OnceBox<Issued> = OnceBox::new();

fn issued() -> &'static Issued {
    ISSUED.get_or_init(|| {
        Box::new(Issued { hasher: RandomState::new(), fingerprints: Lock::new(Default::default()) })
    })
}

pub(crate) fn remember(token: &[u8]) {
    let fingerprint = issued().hasher.hash_one(token);
    issued().fingerprints.with(|fingerprints| {
        if fingerprints.len() == MOST_ISSUED {
            fingerprints.pop_front();
        }
        fingerprints.push_back(fingerprint);
    });
}

/// Whether a password is a token that a client of this process was given.
pub(crate) fn is_issued(password: &[u8]) -> bool {
    let fingerprint = issued().hasher.hash_one(password);
    issued().fingerprints.with(|fingerprints| fingerprints.contains(&fingerprint))
}
