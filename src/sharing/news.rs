//! What those who wait for a fetch are told when it failed, before it is sealed.

use std::time::Duration;

use crate::credential::{Failure, Retry};
use crate::error::{Error, ErrorKind};
use crate::os;

/// How long it is told to those who wait. Who comes later asks for itself: what one was told does not keep a fleet
/// without a token.
pub(super) const LIFE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct News {
    /// In Unix seconds.
    when: i64,
    failure: Failure,
    reach: Reach,
}

/// Whose failure it is.
#[derive(Debug, PartialEq)]
enum Reach {
    /// All who ask that service.
    All,
    /// All who show it that proof.
    Proof(String),
    /// Perhaps one machine's own.
    One,
}

impl News {
    /// `mark`: of the proof that was shown. `is_for_all`: whether the service is the same for all.
    pub(super) fn of(failure: &Failure, mark: Option<String>, is_for_all: bool) -> Self {
        let reach = match (failure.error.kind(), mark) {
            (ErrorKind::Throttled, _) if is_for_all => Reach::All,
            (ErrorKind::Denied, Some(mark)) if failure.holds_everywhere => Reach::Proof(mark),
            _ => Reach::One,
        };
        Self { when: os::unix_now(), failure: failure.clone(), reach }
    }

    /// `1800000000 5 3600 mark message`: when, which kind, after how many seconds to ask again (0: the service does not
    /// say), which proof (`*`: all, `-`: one machine's own), and why.
    pub(super) fn to_text(&self) -> String {
        let after = if let Retry::After(pause) = self.failure.retry { pause.as_secs() } else { 0 };
        let reach = match &self.reach {
            Reach::All => "*",
            Reach::Proof(mark) => mark,
            Reach::One => "-",
        };
        let error = &self.failure.error;
        format!("{} {} {after} {reach} {}", self.when, error.kind() as u8, error.message())
    }

    pub(super) fn from_text(text: &[u8]) -> Option<Self> {
        let mut parts = str::from_utf8(text).ok()?.splitn(5, ' ');
        let mut next = || parts.next();
        let (when, kind, after, reach, why) = (next()?, next()?, next()?, next()?, next()?);
        let when = when.parse().ok()?;
        let kind = ErrorKind::ALL.into_iter().find(|known| (*known as u8).to_string() == kind)?;
        let mut failure = Failure::from(Error::new(kind, why));
        if let after @ 1.. = after.parse().ok()? {
            failure.retry = Retry::After(Duration::from_secs(after));
        }
        let reach = match reach {
            "*" => Reach::All,
            "-" => Reach::One,
            mark => Reach::Proof(mark.into()),
        };
        // Clocks differ; one that is put there again much later is none of now.
        let age = os::unix_now().abs_diff(when);
        (age <= 2 * LIFE.as_secs()).then_some(Self { when, failure, reach })
    }

    /// The failure, if it is that of one who waited for it and has this proof; else what it is to others.
    pub(super) fn for_proof(self, mark: Option<&str>) -> Result<Failure, Failure> {
        match self.reach {
            Reach::All => Ok(self.failure),
            Reach::Proof(of) if Some(&*of) == mark => Ok(self.failure),
            Reach::Proof(_) | Reach::One => {
                let why = format!("Another process was to fetch for all, and failed: {}", self.failure.error);
                Err(Error::new(ErrorKind::Network, why).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Option<&str> = Some("m");

    fn failure(kind: ErrorKind, holds_everywhere: bool) -> Failure {
        let mut failure = Failure::from(Error::new(kind, "why, in words"));
        failure.holds_everywhere = holds_everywhere;
        failure
    }

    /// What it is to one who has this proof.
    fn told(news: &News, mark: Option<&str>) -> Result<Failure, Failure> {
        News::from_text(news.to_text().as_bytes()).expect("it was told").for_proof(mark)
    }

    #[test]
    fn only_what_the_service_says_to_all_is_theirs() {
        for kind in ErrorKind::ALL {
            for holds_everywhere in [false, true] {
                let news = News::of(&failure(kind, holds_everywhere), MARK.map(str::to_string), true);
                let is_for_all =
                    kind == ErrorKind::Throttled || kind == ErrorKind::Denied && holds_everywhere;
                match told(&news, MARK) {
                    Ok(failure) => {
                        assert!(is_for_all, "{kind:?}");
                        assert_eq!((failure.error.kind(), failure.error.message()), (kind, "why, in words"));
                    }
                    Err(others) => {
                        assert!(!is_for_all, "{kind:?}");
                        let text = others.error.message();
                        assert!(text.contains("Another process") && text.contains("why, in words"), "{text}");
                    }
                }
            }
        }
        // A refusal is of one proof; without one, it is nobody else's.
        let denied = failure(ErrorKind::Denied, true);
        let of_proof = News::of(&denied, MARK.map(str::to_string), true);
        assert!(told(&of_proof, Some("n")).is_err() && told(&of_proof, None).is_err());
        assert!(told(&News::of(&denied, None, true), MARK).is_err());
        // A machine's own service throttles that machine.
        let throttled = failure(ErrorKind::Throttled, false);
        assert!(told(&News::of(&throttled, None, true), None).is_ok());
        assert!(told(&News::of(&throttled, None, false), None).is_err());
    }

    #[test]
    fn those_who_wait_are_told_when_to_ask_again() {
        for retry in [Retry::Never, Retry::After(Duration::from_secs(3600))] {
            let mut failure = failure(ErrorKind::Throttled, false);
            failure.retry = retry;
            assert_eq!(told(&News::of(&failure, None, true), None).expect("it is for all").retry, retry);
        }
    }

    #[test]
    fn old_news_are_none() {
        let kind = ErrorKind::Throttled as u8;
        for (age, is_news) in [(-130, false), (-60, true), (0, true), (100, true), (130, false)] {
            let text = format!("{} {kind} 9000 * why", os::unix_now() - age);
            assert_eq!(News::from_text(text.as_bytes()).is_some(), is_news, "{age} s old");
        }
        for text in ["", "1", "x 5 0 m why", "1 99 0 m why", "1 5 0 m", "dropped"] {
            assert!(News::from_text(text.as_bytes()).is_none(), "{text}");
        }
    }
}
