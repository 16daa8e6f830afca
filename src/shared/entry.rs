//! What an entry says, before it is sealed: a token, its times, and the user it names.

use std::time::Duration;

use zeroize::Zeroizing;

use super::{CLOCKS_DIFFER, LONGEST_LIFE};
use crate::os;
use crate::secret::Secret;
use crate::token::{Moment, Origin, Token};

/// Of the format, which a reader must know.
const VERSION: u8 = 1;

/// A token for whoever shares the cache. The times are the wall clock's, which is all that machines have in common.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) token: Secret,
    /// Unix seconds.
    pub(crate) expires_on: i64,
    /// When it was asked for, since 1970; whole milliseconds, so that what was asked for before it was dropped is told
    /// from what was asked for after.
    pub(crate) asked: Duration,
    /// When the service advises to ask for the next one, from then; whole seconds.
    pub(crate) refresh_in: Option<Duration>,
    /// What the database calls its owner, where that took a second token to find out.
    pub(crate) user: Option<String>,
}

impl Entry {
    pub(crate) fn of(token: &Token, user: Option<String>, now: Moment) -> Self {
        let age = now.boot.saturating_sub(token.asked);
        Self {
            token: token.secret.clone(),
            expires_on: token.expires_on,
            asked: Duration::from_millis(milliseconds(now.wall.saturating_sub(age)).unsigned_abs()),
            refresh_in: token.refresh_in,
            user,
        }
    }

    /// The token, and the user it names. The clock that tokens age by began when the machine was started: what is older
    /// counts as asked for then, and ends and is refreshed when it was to.
    pub(crate) fn into_token(self, now: Moment) -> (Token, Option<String>) {
        let on_boot_clock = |wall: Duration| match wall.checked_sub(now.wall) {
            Some(ahead) => now.boot + ahead,
            None => now.boot.saturating_sub(now.wall - wall),
        };
        let asked = on_boot_clock(self.asked).min(now.boot);
        let after = |wall: Duration| on_boot_clock(wall).saturating_sub(asked);
        let token = Token {
            life: after(Duration::from_secs(self.expires_on.unsigned_abs())),
            refresh_in: self.refresh_in.map(|advised| after(self.asked.saturating_add(advised))),
            secret: self.token,
            expires_on: self.expires_on,
            asked,
            origin: Origin::Entra,
        };
        (token, self.user)
    }

    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let (token, user) = (self.token.reveal(), self.user.as_deref().unwrap_or_default());
        let refresh_in = self.refresh_in.map_or(0, os::seconds);
        // Of its full size from the start: a vector that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + 4 * 8 + user.len() + token.len()));
        bytes.push(VERSION);
        for number in [milliseconds(self.asked), self.expires_on, refresh_in, user.len() as i64] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(user.as_bytes());
        bytes.extend_from_slice(token.as_bytes());
        bytes
    }

    /// None: it is no entry that can be used now. `now` is the wall clock's, in Unix seconds.
    pub(crate) fn from_bytes(bytes: &[u8], now: i64) -> Option<Self> {
        let (&VERSION, mut rest) = bytes.split_first()? else { return None };
        let mut numbers = [0; 4];
        for number in &mut numbers {
            let (bytes, behind) = rest.split_first_chunk()?;
            (*number, rest) = (i64::from_be_bytes(*bytes), behind);
        }
        let [asked, expires_on, refresh_in, user] = numbers;
        let (user, token) = rest.split_at_checked(usize::try_from(user).ok()?)?;
        let (user, token) = (str::from_utf8(user).ok()?, str::from_utf8(token).ok()?);
        let asked = Duration::from_millis(u64::try_from(asked).ok()?);
        let life = expires_on.checked_sub(os::seconds(asked))?;
        let is_usable = os::seconds(asked) <= now.saturating_add(os::seconds(CLOCKS_DIFFER))
            && now < expires_on
            && (1..=os::seconds(LONGEST_LIFE)).contains(&life)
            && (0..life).contains(&refresh_in)
            && !user.contains(char::is_control)
            && !token.is_empty()
            && token.bytes().all(|byte| byte.is_ascii_graphic());
        is_usable.then(|| Self {
            token: Secret::apart(token),
            expires_on,
            asked,
            refresh_in: (refresh_in > 0).then(|| Duration::from_secs(refresh_in.unsigned_abs())),
            user: (!user.is_empty()).then(|| user.into()),
        })
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Aging;

    const NOW: i64 = 1_800_000_000;

    /// That many seconds after now.
    fn at(after: i64) -> Duration {
        Duration::from_secs(NOW.saturating_add(after).unsigned_abs())
    }

    fn entry() -> Entry {
        Entry {
            token: Secret::apart("eyJ0.eyJ1.c2ln"),
            expires_on: NOW + 3500,
            asked: at(-100),
            refresh_in: Some(Duration::from_secs(1800)),
            user: Some("Zo\u{eb}@example.com".into()),
        }
    }

    fn moment(boot: u64) -> Moment {
        Moment { boot: Duration::from_secs(boot), wall: at(0) }
    }

    #[test]
    fn what_is_written_is_read() {
        for entry in [entry(), Entry { refresh_in: None, user: None, ..entry() }] {
            let read = Entry::from_bytes(&entry.to_bytes(), NOW).expect("it is usable");
            assert_eq!(read.token.reveal(), entry.token.reveal());
            assert_eq!(Entry { token: entry.token.clone(), ..read }, entry);
        }
    }

    #[test]
    fn what_cannot_be_used_is_no_entry() {
        let day = 24 * 60 * 60;
        for (case, entry, usable) in [
            ("just asked for", Entry { asked: at(0), ..entry() }, true),
            ("by a clock that is a little ahead", Entry { asked: at(60), ..entry() }, true),
            ("from the future", Entry { asked: at(61), ..entry() }, false),
            (
                "from the far future",
                Entry { asked: Duration::from_millis(u64::MAX), expires_on: i64::MAX, ..entry() },
                false,
            ),
            ("with a second to live", Entry { expires_on: NOW + 1, refresh_in: None, ..entry() }, true),
            ("expired", Entry { expires_on: NOW, refresh_in: None, ..entry() }, false),
            ("expired long ago", Entry { asked: Duration::ZERO, expires_on: 5000, ..entry() }, false),
            ("as long-lived as can be", Entry { asked: at(0), expires_on: NOW + 2 * day, ..entry() }, true),
            ("too long-lived", Entry { asked: at(0), expires_on: NOW + 2 * day + 1, ..entry() }, false),
            ("of endless life", Entry { asked: Duration::ZERO, expires_on: i64::MAX, ..entry() }, false),
            ("refreshed when it has ended", Entry { refresh_in: Some(Duration::MAX), ..entry() }, false),
            ("without a token", Entry { token: Secret::new(""), ..entry() }, false),
            ("with blanks in its token", Entry { token: Secret::new("a b"), ..entry() }, false),
            ("with a line break in its token", Entry { token: Secret::new("a\n"), ..entry() }, false),
            ("with a token that is not ASCII", Entry { token: Secret::new("\u{e9}"), ..entry() }, false),
            ("with a user of two lines", Entry { user: Some("a\nb".into()), ..entry() }, false),
        ] {
            assert_eq!(Entry::from_bytes(&entry.to_bytes(), NOW).is_some(), usable, "an entry {case}");
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm() {
        let whole = entry().to_bytes();
        let token = entry().token.reveal().len();
        for length in 0..whole.len() {
            // Cut within the token, it is shorter: that it is whole, the seal says.
            let is_entry = length > whole.len() - token;
            assert_eq!(Entry::from_bytes(&whole[..length], NOW).is_some(), is_entry, "{length} bytes");
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.to_vec();
                bytes[at] = byte;
                let _ = Entry::from_bytes(&bytes, NOW);
            }
        }
        let mut other_version = whole.to_vec();
        other_version[0] += 1;
        assert_eq!(Entry::from_bytes(&other_version, NOW), None);
    }

    #[test]
    fn a_token_is_the_same_after_its_way_through_an_entry() {
        let token = Token {
            secret: Secret::new("t"),
            expires_on: NOW + 3500,
            asked: Duration::from_secs(900),
            life: Duration::from_secs(3600),
            refresh_in: Some(Duration::from_secs(1800)),
            origin: Origin::Entra,
        };
        let entry = Entry::of(&token, Some("u".into()), moment(1000));
        assert_eq!((entry.asked, entry.expires_on), (at(-100), NOW + 3500));
        // Another machine, or this one started anew.
        for (boot, asked) in [(1000, 900), (100, 0), (50, 0), (0, 0)] {
            let entry = Entry { token: entry.token.clone(), user: entry.user.clone(), ..entry };
            let (token, user) = entry.into_token(moment(boot));
            let after = |seconds: u64| Duration::from_secs(boot + seconds);
            assert_eq!(token.asked, Duration::from_secs(asked), "{boot} s after the start");
            assert_eq!(token.asked + token.life(), after(3500), "{boot} s after the start");
            assert_eq!(token.refresh_in.map(|advised| token.asked + advised), Some(after(1700)));
            assert_eq!((token.secret.reveal(), user.as_deref()), ("t", Some("u")));
            assert_eq!(token.expires_on, NOW + 3500);
        }
    }

    #[test]
    fn what_another_clock_asked_for_later_than_now_was_asked_for_now() {
        let (token, _) = Entry { asked: at(60), ..entry() }.into_token(moment(1000));
        assert_eq!(token.asked, Duration::from_secs(1000));
        assert_eq!(token.life, Duration::from_secs(3500));
    }
}
