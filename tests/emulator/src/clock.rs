//! The time, as a server with a wrong clock tells it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time, this many seconds off.
pub(crate) fn shifted(seconds: i64) -> SystemTime {
    let shift = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { SystemTime::now() - shift } else { SystemTime::now() + shift }
}

/// Unix seconds.
pub(crate) fn unix(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
