//! Dates in the spellings that occur.

use crate::os::calendar::Date;

/// `2025-02-01 12:00:00.000000`, in the local time zone.
pub(super) fn local(text: &str) -> Option<i64> {
    date(text)?.in_local_time()
}

/// `2025-02-01T12:00:00Z`, with or without fractions of seconds (RFC 3339).
pub(super) fn utc(text: &str) -> Option<i64> {
    date(text.strip_suffix(['Z', 'z'])?)?.in_utc()
}

fn date(text: &str) -> Option<Date> {
    let [year, month, day, hour, minute, second] =
        numbers(text.split('.').next()?, &['-', 'T', 't', ' ', ':'])?;
    Some(Date { year, month, day, hour, minute, second })
}

/// `06/20/2019 02:57:58 +00:00` and `1/16/2020 5:24:12 PM +00:00`: month first, always UTC.
pub(super) fn american(text: &str) -> Option<i64> {
    let text = text.trim().strip_suffix("+00:00")?.trim_end();
    let (text, afternoon) = match (text.strip_suffix("AM"), text.strip_suffix("PM")) {
        (Some(text), _) => (text, Some(false)),
        (_, Some(text)) => (text, Some(true)),
        (None, None) => (text, None),
    };
    let [month, day, year, hour, minute, second] = numbers(text.trim_end(), &['/', ' ', ':'])?;
    let hour = match afternoon {
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some(afternoon) => hour % 12 + if afternoon { 12 } else { 0 },
        None => hour,
    };
    Date { year, month, day, hour, minute, second }.in_utc()
}

/// Six numbers with such characters between them.
fn numbers(text: &str, between: &[char]) -> Option<[i32; 6]> {
    let parts: Vec<&str> = text.split(between).collect();
    let number = |part: &&str| {
        let plain = (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| part.parse().ok()).flatten()
    };
    let numbers: Vec<i32> = parts.iter().map(number).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_spelling_is_read() {
        for (read, text, time) in [
            (utc as fn(&str) -> Option<i64>, "2025-02-01T12:00:00Z", Some(1_738_411_200)),
            (utc, "2025-02-01T12:00:00.1234567Z", Some(1_738_411_200)),
            (utc, "2025-02-01T12:00:00", None),
            (utc, "2025-02-01T12:00:00+01:00", None),
            (utc, "2025-13-01T12:00:00Z", None),
            (utc, "2025-02-31T12:00:00Z", None),
            (utc, "2025-02-01T-1:00:00Z", None),
            (american, "06/20/2019 02:57:58 +00:00", Some(1_560_999_478)),
            (american, "1/16/2020 5:24:12 AM +00:00", Some(1_579_152_252)),
            (american, "1/16/2020 5:24:12 PM +00:00", Some(1_579_195_452)),
            (american, "1/16/2020 12:00:00 AM +00:00", Some(1_579_132_800)),
            (american, "1/16/2020 12:00:00 PM +00:00", Some(1_579_176_000)),
            (american, "1/16/2020 13:00:00 PM +00:00", None),
            (american, "16/1/2020 5:24:12 AM +00:00", None),
            (american, "06/20/2019 02:57:58", None),
            (american, "\u{e9}", None),
            (local, "tomorrow", None),
            (local, "99999-01-01 00:00:00", None),
        ] {
            assert_eq!(read(text), time, "{text}");
        }
    }
}
