//! Dates as the C library reads them: it knows the local time zone.

use super::fork::Lock;

/// A day and a time of it, as people write them: months and days count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) year: i32,
    pub(crate) month: i32,
    pub(crate) day: i32,
    pub(crate) hour: i32,
    pub(crate) minute: i32,
    pub(crate) second: i32,
}

/// mktime(3) holds a lock that a forked child could find held.
static LOCAL_TIME: Lock<()> = Lock::new(());

impl Date {
    /// Unix seconds, if this is a date in UTC.
    pub(crate) fn in_utc(self) -> Option<i64> {
        let mut fields = self.fields()?;
        // SAFETY: the fields are filled in, and in their ranges.
        let seconds = unsafe { libc::timegm(&mut fields) };
        self.checked(&fields, seconds)
    }

    /// Unix seconds, if this is a date in the local time zone. An hour that comes twice is one of the two.
    pub(crate) fn in_local_time(self) -> Option<i64> {
        let mut fields = self.fields()?;
        // SAFETY: as above.
        let seconds = LOCAL_TIME.with(|()| unsafe { libc::mktime(&mut fields) });
        self.checked(&fields, seconds)
    }

    /// Unless the day was none, such as 31 February, which they take for one in March.
    fn checked(self, fields: &libc::tm, seconds: i64) -> Option<i64> {
        (seconds >= 0 && fields.tm_mday == self.day).then_some(seconds)
    }

    fn fields(self) -> Option<libc::tm> {
        let ranges = [
            (self.year, 1970..=9999),
            (self.month, 1..=12),
            (self.day, 1..=31),
            (self.hour, 0..=23),
            (self.minute, 0..=59),
            (self.second, 0..=60),
        ];
        if !ranges.iter().all(|(value, range)| range.contains(value)) {
            return None;
        }
        // SAFETY: tm is plain data, for which zeroes are valid.
        let mut fields: libc::tm = unsafe { std::mem::zeroed() };
        (fields.tm_year, fields.tm_mon, fields.tm_mday) = (self.year - 1900, self.month - 1, self.day);
        (fields.tm_hour, fields.tm_min, fields.tm_sec) = (self.hour, self.minute, self.second);
        // Whether it is summer time is the zone's to know.
        fields.tm_isdst = -1;
        Some(fields)
    }
}
