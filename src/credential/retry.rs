//! Tries again while that may help and there is time.

use std::time::{Duration, Instant};

use super::{Failure, Retry};

/// Tries in all. With the pauses between them they span about four seconds.
const TRIES: u32 = 4;

/// The pause after the first try; it doubles from then on.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Calls `attempt` until it succeeds, or failed in a way that will not change, or too often, or the next try
/// would begin after the deadline. `random` gives numbers from 0 to 1.
pub(super) fn until<T>(
    deadline: Instant,
    random: impl Fn() -> f64,
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
            Retry::Soon => FIRST_PAUSE * 2_u32.pow(tried - 1),
            Retry::After(pause) => pause,
        };
        // Up to a quarter more, so that many machines that failed together do not come back together.
        let pause = pause.mul_f64(1.0 + random() / 4.0);
        if tried == TRIES || Instant::now() + pause >= deadline {
            return Err(failure);
        }
        std::thread::sleep(pause);
    }
}
