//! One need for a token, met together with the others.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::news::{self, News};
use super::{Sharing, TIME_TO_TELL};
use crate::credential::Failure;
use crate::flight::Desk;
use crate::os;
use crate::random;
use crate::shared::entry::Entry;
use crate::shared::seal::Key;
use crate::shared::{Session, Trouble};
use crate::token::{Moment, Schedule, Token};

/// One need for a token.
pub(super) struct Round<'a> {
    sharing: &'a Sharing,
    session: Box<dyn Session + 'a>,
    key: Key,
    /// Of the entry.
    name: String,
    scope: &'a str,
    deadline: Instant,
    /// The entry as it was there last, sealed.
    seen: Option<Vec<u8>>,
    /// The user that it names.
    user: Option<String>,
    /// The news as they were there last, sealed: never twice the same.
    news: Option<Vec<u8>>,
}

/// What a look at the store, and at what the others do, comes to.
enum Turn {
    Have(Token),
    /// It failed for all, this one included.
    Fail(Failure),
    /// To be fetched for all.
    Fetch,
    /// To be fetched alone.
    Alone,
}

impl<'a> Round<'a> {
    pub(super) fn of(
        sharing: &'a Sharing,
        session: Box<dyn Session + 'a>,
        key: Key,
        scope: &'a str,
        deadline: Instant,
    ) -> Self {
        let name = key.name_of(&format!("{}\0{}\0{scope}", sharing.settings.authority, sharing.identity));
        Self { sharing, session, key, name, scope, deadline, seen: None, user: None, news: None }
    }

    pub(super) fn token(mut self, desk: &Desk<'_, Token, Failure>) {
        let turn = self.turn(desk.meanwhile).unwrap_or_else(|trouble| {
            self.sharing.warn(&trouble);
            Turn::Alone
        });
        let fetch = || self.sharing.fetch(self.scope, self.deadline);
        match turn {
            Turn::Have(token) => (desk.done)(Ok(token)),
            Turn::Fail(failure) => (desk.done)(Err(failure)),
            Turn::Alone => (desk.done)(fetch()),
            Turn::Fetch => {
                let mark = self.mark_of_proof();
                let is_for_all = self.sharing.has_one_service();
                let fetched = fetch();
                let told = fetched.as_ref().map(|token| (token.asked, self.entry_of(token)));
                let told = told.map_err(|failure| News::of(failure, mark, is_for_all));
                // A process may end as soon as it has its token, so the others are told before; unless that takes long.
                let is_told = self.tell(&told).is_ok();
                self.session.release();
                (desk.done)(fetched);
                self.session.extend(Instant::now() + TIME_TO_TELL);
                let result = if is_told { Ok(()) } else { self.tell(&told) };
                let result = result.and_then(|()| told.map_or(Ok(()), |(asked, _)| self.take_back(asked)));
                result.unwrap_or_else(|trouble| self.sharing.warn(&trouble));
            }
        }
    }

    fn turn(&mut self, meanwhile: &dyn Fn(Token)) -> Result<Turn, Trouble> {
        if let Some(token) = self.look(meanwhile)? {
            return Ok(Turn::Have(token));
        }
        self.latest()?;
        // Who waited as long as the others may asks without the right to, and not when they do.
        let left = self.deadline.saturating_duration_since(Instant::now());
        let patience = Instant::now() + left.mul_f64(0.6 + 0.3 * random::fraction());
        loop {
            let has_lease = self.session.try_lease(&self.name)?;
            if !has_lease {
                self.session.wait(&self.name, self.seen.as_deref(), patience)?;
            }
            // Somebody may have fetched since, or been refused.
            if let Some(token) = self.look(meanwhile)? {
                return Ok(Turn::Have(token));
            }
            let before = self.news.take();
            let latest = self.latest()?.filter(|_| self.news != before);
            match latest {
                Some(News::Refused(refusal)) => {
                    if let Some(failure) = refusal.for_proof(self.mark_of_proof().as_deref()) {
                        return Ok(Turn::Fail(failure));
                    }
                    if !has_lease {
                        return Ok(Turn::Alone);
                    }
                }
                Some(News::Failed) if !has_lease => return Ok(Turn::Alone),
                Some(News::Failed | News::Dropped) | None => {}
            }
            if has_lease || Instant::now() >= patience {
                return Ok(Turn::Fetch);
            }
        }
    }

    /// The token in the store, if it needs no newer one; else it is what there is meanwhile.
    fn look(&mut self, meanwhile: &dyn Fn(Token)) -> Result<Option<Token>, Trouble> {
        let Some((token, _)) = self.held()? else { return Ok(None) };
        if Schedule::of(&token, self.sharing.settings.refresh_before).is_fresh() {
            return Ok(Some(token));
        }
        meanwhile(token);
        Ok(None)
    }

    /// The token in the store, and the user that the entry names; what is none there, is none.
    pub(super) fn held(&mut self) -> Result<Option<(Token, Option<String>)>, Trouble> {
        self.seen = self.session.get(&self.name)?;
        self.sharing.has_worked.store(true, Relaxed);
        let now = Moment::now();
        let plain = self.seen.as_ref().and_then(|sealed| self.key.open(&self.name, sealed));
        let Some(entry) = plain.and_then(|plain| Entry::from_bytes(&plain, now.unix())) else {
            return Ok(None);
        };
        let (token, user) = entry.into_token(now);
        if !self.sharing.seen.with(|seen| seen.admits(self.scope, token.asked)) {
            return Ok(None);
        }
        self.user.clone_from(&user);
        Ok(Some((Token { origin: self.sharing.origin, ..token }, user)))
    }

    /// The identity is the same as that of the entry which was there, so its name is.
    fn entry_of(&self, token: &Token) -> Entry {
        Entry::of(token, self.user.clone(), Moment::now())
    }

    /// Keeps the user's name with the token that is there.
    pub(super) fn keep_user(&mut self, user: &str) -> Result<(), Trouble> {
        // Nobody puts a newer token there meanwhile.
        if !self.session.try_lease(&self.name)? {
            return Ok(());
        }
        self.latest()?;
        let Some((token, _)) = self.held()? else { return Ok(()) };
        self.user = Some(user.into());
        self.share(token.asked, &self.entry_of(&token))?;
        self.take_back(token.asked)
    }

    fn tell(&mut self, what: &Result<(Duration, Entry), News>) -> Result<(), Trouble> {
        match what {
            Ok((asked, entry)) => self.share(*asked, entry),
            Err(news) => self.publish(news),
        }
    }

    /// Puts a token there that was asked for then.
    fn share(&mut self, asked: Duration, entry: &Entry) -> Result<(), Trouble> {
        if self.was_dropped_here(asked) {
            return Ok(());
        }
        let left = entry.expires_on.saturating_sub(os::unix_now() + 1).max(1);
        let sealed = self.key.seal(&self.name, &entry.to_bytes())?;
        self.session.put(&self.name, &sealed, Duration::from_secs(left.unsigned_abs()))
    }

    fn was_dropped_here(&self, asked: Duration) -> bool {
        !self.sharing.seen.with(|seen| seen.admits(self.scope, asked))
    }

    /// Removes it again, if it was dropped while it was fetched, by whomever: who drops says so first, then removes what
    /// is there.
    fn take_back(&mut self, asked: Duration) -> Result<(), Trouble> {
        let before = self.news.take();
        let is_dropped = matches!(self.latest()?, Some(News::Dropped)) && self.news != before;
        match is_dropped || self.was_dropped_here(asked) {
            true => self.session.remove(&self.name),
            false => Ok(()),
        }
    }

    /// Removes the token that is there, and the one that somebody fetches now.
    pub(super) fn forget(&mut self) -> Result<(), Trouble> {
        self.session.extend(self.deadline);
        // Where there is no room for the news, there is none for that token either.
        let _ = self.publish(&News::Dropped);
        self.session.remove(&self.name)
    }

    fn name_of_news(&self) -> String {
        format!("{}f", self.name)
    }

    fn latest(&mut self) -> Result<Option<News>, Trouble> {
        let name = self.name_of_news();
        self.news = self.session.get(&name)?;
        let plain = self.news.as_ref().and_then(|sealed| self.key.open(&name, sealed));
        Ok(plain.and_then(|plain| News::from_text(&plain)))
    }

    fn publish(&mut self, news: &News) -> Result<(), Trouble> {
        let name = self.name_of_news();
        let sealed = self.key.seal(&name, news.to_text().as_bytes())?;
        self.session.put(&name, &sealed, news::LIFE)
    }

    /// Tells the proofs of those who share a key apart; None: this one is nobody else's, or can't be read.
    fn mark_of_proof(&self) -> Option<String> {
        let secret = self.sharing.credential.stable_secret().ok()??;
        Some(self.key.name_of(&format!("proof\0{}", secret.reveal())))
    }
}
