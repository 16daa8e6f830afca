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
use crate::shared::{LONGEST_ENTRY, Session, Trouble};
use crate::token::{Moment, Token};

/// How long it is told that a token was dropped: longer than any fetch.
const DROP_LIFE: Duration = Duration::from_secs(600);

/// Where each has to ask for itself, they do so within that time.
const SPREAD: Duration = Duration::from_secs(1);

pub(super) struct Round<'a> {
    sharing: &'a Sharing,
    session: Box<dyn Session + 'a>,
    key: Key,
    /// Of the entry.
    name: String,
    scope: &'a str,
    deadline: Instant,
    has_lease: bool,
    /// The entry as it was there last, sealed: never twice the same. So are the others.
    entry: Option<Vec<u8>>,
    /// The user that it names.
    user: Option<String>,
    /// How a fetch last failed.
    news: Option<Vec<u8>>,
    /// That the token was dropped.
    drop: Option<Vec<u8>>,
}

/// What a look at the store, and at what the others do, comes to.
enum Turn {
    Have(Token),
    Fail(Failure),
    /// To be fetched for all.
    Fetch,
    /// To be fetched without the store.
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
        let name = key.name_of(&["entry", &sharing.settings.authority.to_string(), &sharing.identity, scope]);
        Self {
            sharing,
            session,
            key,
            name,
            scope,
            deadline,
            has_lease: false,
            entry: None,
            user: None,
            news: None,
            drop: None,
        }
    }

    pub(super) fn token(mut self, desk: &Desk<'_, Token, Failure>) {
        let turn = self.turn(desk).unwrap_or_else(|trouble| {
            self.sharing.warn(&trouble);
            // Who has the right to fetch does it for those who wait.
            if self.has_lease { Turn::Fetch } else { Turn::Alone }
        });
        let fetch = || self.sharing.fetch(self.scope, self.deadline);
        match turn {
            Turn::Have(token) => (desk.done)(Ok(token)),
            Turn::Fail(failure) => (desk.done)(Err(failure)),
            Turn::Alone => (desk.done)(fetch()),
            Turn::Fetch => {
                let mark = self.mark_of_proof();
                let fetched = fetch();
                let told = fetched.as_ref().map(|token| (token.asked, self.entry_of(token)));
                let told = told.map_err(|failure| News::of(failure, mark, self.sharing.has_one_service()));
                // A process may end as soon as it has its token, so the others are told before; unless that takes long.
                let is_told = self.tell(&told).is_ok();
                self.session.release();
                (desk.done)(fetched);
                // What could not be done yet.
                self.session.extend(Instant::now() + TIME_TO_TELL);
                if !is_told {
                    self.tell(&told).unwrap_or_else(|trouble| self.sharing.warn(&trouble));
                }
            }
        }
    }

    fn turn(&mut self, desk: &Desk<'_, Token, Failure>) -> Result<Turn, Trouble> {
        if let Some(token) = self.look(desk)? {
            return Ok(Turn::Have(token));
        }
        self.latest_news()?;
        // Who waited as long as the others may asks without the right to, and at another time than they do.
        let left = self.deadline.saturating_duration_since(Instant::now());
        let patience = Instant::now() + left.mul_f64(0.6 + 0.3 * random::fraction());
        loop {
            self.has_lease = self.session.try_lease(&self.name)?;
            if !self.has_lease {
                self.session.wait(&self.name, self.entry.as_deref(), patience)?;
            }
            // Somebody may have fetched since, or failed.
            if let Some(token) = self.look(desk)? {
                return Ok(Turn::Have(token));
            }
            let before = self.news.take();
            let latest = self.latest_news()?.filter(|_| self.news != before);
            match latest.map(|news| news.for_proof(self.mark_of_proof().as_deref())) {
                Some(Ok(failure)) => return Ok(Turn::Fail(failure)),
                // There will be another try, after a pause.
                Some(Err(failure)) if (desk.can_wait)() => return Ok(Turn::Fail(failure)),
                Some(Err(_)) if !self.has_lease => {
                    std::thread::sleep(SPREAD.min(left / 10).mul_f64(random::fraction()));
                    return match self.look(desk)? {
                        Some(token) => Ok(Turn::Have(token)),
                        None => self.fetch(),
                    };
                }
                _ => {}
            }
            if self.has_lease || Instant::now() >= patience {
                return self.fetch();
            }
        }
    }

    fn fetch(&mut self) -> Result<Turn, Trouble> {
        self.drop = self.session.get(&self.name_of_drop())?;
        Ok(Turn::Fetch)
    }

    /// The token in the store, if it needs no newer one; else it is what there is meanwhile.
    fn look(&mut self, desk: &Desk<'_, Token, Failure>) -> Result<Option<Token>, Trouble> {
        let Some((token, _)) = self.held()? else { return Ok(None) };
        if self.sharing.schedule(&token).is_fresh() {
            return Ok(Some(token));
        }
        (desk.meanwhile)(token);
        Ok(None)
    }

    /// The token in the store, and the user that the entry names; what is none there, is none.
    pub(super) fn held(&mut self) -> Result<Option<(Token, Option<String>)>, Trouble> {
        self.entry = self.session.get(&self.name)?;
        self.sharing.has_worked.store(true, Relaxed);
        let now = Moment::now();
        let plain = self.entry.as_ref().and_then(|sealed| self.key.open(&self.name, sealed));
        let Some(entry) = plain.and_then(|plain| Entry::from_bytes(&plain, now.unix())) else {
            return Ok(None);
        };
        let (token, user) = entry.into_token(now);
        if !self.sharing.seen.with(|seen| seen.take(self.scope, token.asked)) {
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
        self.has_lease = self.session.try_lease(&self.name)?;
        if !self.has_lease {
            return Ok(());
        }
        self.fetch()?;
        let Some((token, _)) = self.held()? else { return Ok(()) };
        self.user = Some(user.into());
        self.share(token.asked, &self.entry_of(&token))
    }

    fn tell(&mut self, what: &Result<(Duration, Entry), News>) -> Result<(), Trouble> {
        match what {
            Ok((asked, entry)) => self.share(*asked, entry),
            Err(news) => self.put(&self.name_of_news(), news.to_text().as_bytes(), news::LIFE).map(drop),
        }
    }

    /// Puts a token there that was asked for then, unless it was dropped meanwhile, by whomever.
    fn share(&mut self, asked: Duration, entry: &Entry) -> Result<(), Trouble> {
        if self.was_dropped(asked)? {
            return Ok(());
        }
        let left = entry.expires_on.saturating_sub(os::unix_now() + 1).max(1);
        let life = Duration::from_secs(left.unsigned_abs());
        let sealed = self.put(&self.name.clone(), &entry.to_bytes(), life)?;
        // Who drops says so before it removes what is there; so what was put there after that is found here.
        if self.was_dropped(asked)? && self.session.get(&self.name)?.as_ref() == Some(&sealed) {
            self.session.remove(&self.name)?;
        }
        Ok(())
    }

    fn was_dropped(&mut self, asked: Duration) -> Result<bool, Trouble> {
        let here = self.sharing.seen.with(|seen| seen.dropped.is_some_and(|dropped| asked <= dropped));
        Ok(here || self.session.get(&self.name_of_drop())? != self.drop)
    }

    /// Removes the token that is there, and the one that somebody fetches now.
    pub(super) fn forget(&mut self) -> Result<(), Trouble> {
        self.session.extend(self.deadline);
        // Before it is said, too: who reads it after that knows that it may be removed.
        self.session.remove(&self.name)?;
        // Where there is no room for saying so, there is none for that token either.
        let _ = self.put(&self.name_of_drop(), b"dropped", DROP_LIFE);
        self.session.remove(&self.name)
    }

    /// Seals it, and puts it there.
    fn put(&mut self, name: &str, plain: &[u8], life: Duration) -> Result<Vec<u8>, Trouble> {
        let sealed = self.key.seal(name, plain)?;
        // Nobody would read it.
        if sealed.len() <= LONGEST_ENTRY {
            self.session.put(name, &sealed, life)?;
        }
        Ok(sealed)
    }

    fn name_of_news(&self) -> String {
        format!("{}n", self.name)
    }

    fn name_of_drop(&self) -> String {
        format!("{}d", self.name)
    }

    fn latest_news(&mut self) -> Result<Option<News>, Trouble> {
        let name = self.name_of_news();
        self.news = self.session.get(&name)?;
        let plain = self.news.as_ref().and_then(|sealed| self.key.open(&name, sealed));
        Ok(plain.and_then(|plain| News::from_text(&plain)))
    }

    /// Tells the proofs of those who share a key apart; None: this one is nobody else's, or can't be read.
    fn mark_of_proof(&self) -> Option<String> {
        let secret = self.sharing.credential.stable_secret().ok()??;
        Some(self.key.name_of(&["proof", secret.reveal()]))
    }
}
