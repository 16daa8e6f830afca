//! Tries again while that may help and there is time.

use std::time::{Duration, Instant};

use super::{Failure, Retry};
use crate::random;

/// How often, and how long after one another.
pub(super) struct Patience {
    pub(super) tries: u32,
    /// The pause after the first try; it doubles from then on.
    pub(super) first_pause: Duration,
}

/// With the pauses between them these tries span about four seconds.
pub(super) const USUAL: Patience = Patience { tries: 4, first_pause: Duration::from_millis(500) };

/// Calls `attempt` until it succeeds, or failed in a way that will not change, or too often, or the next try
/// would begin after the deadline.
pub(super) fn until<T>(
    patience: &Patience,
    deadline: Instant,
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut tried = 0;
    loop {
        tried += 1;
        let failure = match attempt() {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        let pause = match failure.retry {
            Retry::Never => return Err(failure),
            Retry::Soon => patience.first_pause * 2_u32.pow(tried - 1),
            Retry::After(pause) => pause,
        };
        // Up to a quarter more, so that many machines that failed together do not come back together.
        let pause = pause.mul_f64(1.0 + random::fraction() / 4.0);
        if tried == patience.tries || Instant::now() + pause >= deadline {
            return Err(failure);
        }
        std::thread::sleep(pause);
    }
}
