//! What those who share a store are told beside the token, before it is sealed: how a fetch failed, or that the token was
//! dropped.

use std::time::Duration;

use crate::credential::{Failure, Retry};
use crate::error::{Error, ErrorKind};
use crate::os;

/// How long it is told to those who wait. Who comes later asks for itself: what one was told does not keep a fleet
/// without a token.
pub(super) const LIFE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) enum News {
    /// The token was dropped: one that is being fetched at that time, too.
    Dropped,
    /// A fetch failed, in a way that may be one machine's own.
    Failed,
    /// The service refused.
    Refused(Refusal),
}

#[derive(Debug)]
pub(super) struct Refusal {
    /// In Unix seconds.
    when: i64,
    failure: Failure,
    /// Of the proof that it was told; empty where the refusal is not about that.
    mark: String,
}

impl News {
    /// `mark`: of the proof that was shown. `is_for_all`: whether the service is the same for all.
    pub(super) fn of(failure: &Failure, mark: Option<String>, is_for_all: bool) -> Self {
        let refusal = |mark| Self::Refused(Refusal { when: os::unix_now(), failure: failure.clone(), mark });
        match (failure.error.kind(), mark) {
            (ErrorKind::Throttled, _) if is_for_all => refusal(String::new()),
            (ErrorKind::Denied, Some(mark)) => refusal(mark),
            _ => Self::Failed,
        }
    }

    /// `refused 1800000000 5 3600 mark message`: when, which kind, after how many seconds to ask again (0: the service
    /// does not say), and why.
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Dropped => "dropped".into(),
            Self::Failed => "failed".into(),
            Self::Refused(refusal) => {
                let (error, after) = (&refusal.failure.error, refusal.pause().as_secs());
                let (kind, why) = (error.kind() as u8, error.message());
                format!("refused {} {kind} {after} {} {why}", refusal.when, refusal.mark)
            }
        }
    }

    pub(super) fn from_text(text: &[u8]) -> Option<Self> {
        match text {
            b"dropped" => Some(Self::Dropped),
            b"failed" => Some(Self::Failed),
            _ => Refusal::from_text(str::from_utf8(text).ok()?.strip_prefix("refused ")?).map(Self::Refused),
        }
    }
}

impl Refusal {
    fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, ' ');
        let mut next = || parts.next();
        let (when, kind, after, mark, why) = (next()?, next()?, next()?, next()?, next()?);
        let when = when.parse().ok()?;
        let kind = ErrorKind::ALL.into_iter().find(|known| (*known as u8).to_string() == kind)?;
        let mut failure = Failure::from(Error::new(kind, why));
        if let after @ 1.. = after.parse().ok()? {
            failure.retry = Retry::After(Duration::from_secs(after));
        }
        // Clocks differ; one that is put there again much later is none of now.
        let age = os::unix_now().abs_diff(when);
        (age <= 2 * LIFE.as_secs()).then(|| Self { when, failure, mark: mark.into() })
    }

    fn pause(&self) -> Duration {
        if let Retry::After(pause) = self.failure.retry { pause } else { Duration::ZERO }
    }

    /// What it is to one who waited for it and has that proof.
    pub(super) fn for_proof(self, mark: Option<&str>) -> Option<Failure> {
        (self.mark.is_empty() || Some(&*self.mark) == mark).then_some(self.failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: ErrorKind, retry: Retry, mark: Option<&str>) -> News {
        let mut failure = Failure::from(Error::new(kind, "why, in words"));
        failure.retry = retry;
        News::of(&failure, mark.map(str::to_string), true)
    }

    fn told(news: &News) -> Option<News> {
        News::from_text(news.to_text().as_bytes())
    }

    fn failure_for(news: &News, mark: Option<&str>) -> Option<Failure> {
        let Some(News::Refused(refusal)) = told(news) else { return None };
        refusal.for_proof(mark)
    }

    #[test]
    fn only_what_the_service_says_of_all_is_told() {
        for kind in ErrorKind::ALL {
            let news = refused(kind, Retry::Never, Some("m"));
            let failure = failure_for(&news, Some("m"));
            let is_for_all = matches!(kind, ErrorKind::Throttled | ErrorKind::Denied);
            assert_eq!(failure.is_some(), is_for_all, "{kind:?}");
            if let Some(failure) = failure {
                assert_eq!((failure.error.kind(), failure.error.message()), (kind, "why, in words"));
            }
        }
        // A refusal is of one proof; without one, it is nobody else's.
        let denied = refused(ErrorKind::Denied, Retry::Never, Some("m"));
        assert!(failure_for(&denied, Some("n")).is_none() && failure_for(&denied, None).is_none());
        assert!(matches!(refused(ErrorKind::Denied, Retry::Never, None), News::Failed));
        assert!(failure_for(&refused(ErrorKind::Throttled, Retry::Never, None), Some("n")).is_some());
        // A machine's own service throttles that machine.
        let throttled = Failure::from(Error::new(ErrorKind::Throttled, "later"));
        assert!(matches!(News::of(&throttled, None, false), News::Failed));
    }

    #[test]
    fn those_who_wait_are_told_when_to_ask_again() {
        for retry in [Retry::Never, Retry::After(Duration::from_secs(3600))] {
            let failure =
                failure_for(&refused(ErrorKind::Throttled, retry, None), None).expect("it is for all");
            assert_eq!(failure.retry, retry);
        }
    }

    #[test]
    fn old_news_are_none() {
        let kind = ErrorKind::Throttled as u8;
        for (age, is_news) in [(-130, false), (-60, true), (0, true), (100, true), (130, false)] {
            let text = format!("refused {} {kind} 9000  why", os::unix_now() - age);
            assert_eq!(News::from_text(text.as_bytes()).is_some(), is_news, "{age} s old");
        }
        for text in
            ["", "refused", "refused 1", "refused x 5 0 m why", "refused 1 99 0 m why", "else", "dropped "]
        {
            assert!(News::from_text(text.as_bytes()).is_none(), "{text}");
        }
        assert!(matches!(told(&News::Dropped), Some(News::Dropped)));
    }
}
