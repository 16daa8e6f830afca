//! Tokens that are kept fresh where a program looks for them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::bug;
use crate::client::{AccessToken, Client};
use crate::connection::outside::Judged;
use crate::error::{Error, ErrorKind};
use crate::os;
use crate::os::thread::{self, Stack};
use crate::random;

/// A machine that was suspended may wake up with an old token, and a file may be gone: no pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// For what is under way behind the callers' backs.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);

/// A token for each connection.
pub(super) struct Fresh {
    client: Arc<Client>,
    judged: Vec<Judged>,
    tokens: Vec<AccessToken>,
    condition: Condition,
    /// How often in a row one was not there at all.
    failures: u32,
}

/// Where they are kept.
pub(super) trait Keeper {
    /// Sees that all of them are there.
    fn put(&mut self, tokens: &[AccessToken]) -> Result<(), Error>;

    /// What people are to know.
    fn say(&mut self, what: &str);

    /// Called again and again, for who watches over this.
    fn beat(&mut self) {}
}

/// How it is with the tokens that are kept; what is worse comes later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Condition {
    Good,
    Unwritten,
    Failing,
    Expired,
}

impl Fresh {
    /// With the first tokens: without them there is nothing to keep.
    pub(super) fn fetch(client: Arc<Client>, judged: Vec<Judged>) -> Result<Self, Error> {
        let tokens = judged.iter().filter_map(|judged| judged.token(&client)).collect::<Result<_, _>>()?;
        Ok(Self { client, judged, tokens, condition: Condition::Good, failures: 0 })
    }

    /// Each connection with its token.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Judged, &AccessToken)> {
        self.judged.iter().zip(&self.tokens)
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn tokens(&self) -> &[AccessToken] {
        &self.tokens
    }

    /// Keeps them on a thread of its own, which ends with the process; `found` gets a bug of ours that ended it before.
    pub(super) fn keep_on(
        self,
        mut keeper: impl Keeper + Send + 'static,
        found: impl FnOnce(Error) + Send + 'static,
    ) -> Result<(), Error> {
        let body = move || {
            let Err(bug) = bug::contain(|| self.keep(&mut keeper));
            found(bug);
        };
        thread::spawn("pgaad-keep", Stack::Ours, body).map_err(|error| no_system("start a thread", &error))
    }

    /// Renews them and sees that they are in their place, for ever.
    fn keep(mut self, keeper: &mut dyn Keeper) -> ! {
        loop {
            std::thread::sleep(self.pause());
            keeper.beat();
            let (mut condition, mut why) = self.renew();
            // Also where none is new: somebody may have changed the file, or removed it.
            let put = keeper.put(&self.tokens);
            if let (Err(error), Condition::Good) = (put, condition) {
                (condition, why) = (Condition::Unwritten, Some(error));
            }
            self.tell(condition, why.as_ref(), keeper);
        }
    }

    /// Asks for all of them, and why one is not new.
    fn renew(&mut self) -> (Condition, Option<Error>) {
        let (mut trouble, mut has_expired) = (None, false);
        for (judged, held) in self.judged.iter().zip(&mut self.tokens) {
            match judged.token(&self.client) {
                Some(Ok(token)) => *held = token,
                Some(Err(error)) => trouble = trouble.or(Some(error)),
                None => {}
            }
            if let Some(standing) = judged.standing(&self.client) {
                has_expired |= standing.next_refresh.is_none();
                trouble = trouble.or(standing.trouble);
            }
        }
        self.failures = if has_expired { self.failures + 1 } else { 0 };
        let condition = match &trouble {
            _ if has_expired => Condition::Expired,
            Some(_) => Condition::Failing,
            None => Condition::Good,
        };
        (condition, trouble)
    }

    /// Until something is to be done.
    fn pause(&self) -> Duration {
        let now = os::unix_now();
        let standings = self.judged.iter().filter_map(|judged| judged.standing(&self.client));
        let nexts = standings.map(|standing| standing.next_refresh);
        let left = nexts.map(|next| match next {
            Some(next) => Duration::from_secs(u64::try_from(next - now).unwrap_or(0)),
            // None is held, so soon; many may ask for the same reason, so not all at the same time.
            None => Duration::from_secs(1 << self.failures.min(3)).mul_f64(0.5 + random::fraction() / 2.0),
        });
        left.min().unwrap_or(LONGEST_PAUSE).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
    }

    /// Says what has changed, once.
    fn tell(&mut self, condition: Condition, why: Option<&Error>, keeper: &mut dyn Keeper) {
        let before = std::mem::replace(&mut self.condition, condition);
        if before == condition {
            return;
        }
        let why = why.map_or_else(String::new, |error| format!(" {error}"));
        match condition {
            Condition::Good if before == Condition::Unwritten => keeper.say("The token is written again."),
            Condition::Good => keeper.say("The token is renewed again."),
            // It did not get better by that.
            Condition::Failing if before == Condition::Expired => {}
            Condition::Failing => {
                let ends = self.tokens.iter().map(AccessToken::expires_on).min().unwrap_or_default();
                keeper.say(&format!(
                    "The token could not be renewed; the one that is there is good until {}, and a new one is tried \
                     for.{why}",
                    clock(ends)
                ));
            }
            Condition::Expired => {
                keeper.say(&format!("The token has expired; a new one is tried for.{why}"));
            }
            Condition::Unwritten => {
                keeper.say(&format!(
                    "There is a new token, which could not be written; it is tried again.{why}"
                ));
            }
        }
    }
}

/// The time of day.
pub(super) fn clock(unix: i64) -> String {
    let seconds = unix.rem_euclid(24 * 60 * 60);
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

pub(super) fn no_system(what: &str, error: &io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("The system does not let pgaad {what}: {error}."))
}
