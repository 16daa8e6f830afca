//! Tokens that are kept fresh where a program looks for them.

use std::sync::Arc;
use std::time::Duration;

use crate::client::{AccessToken, Client};
use crate::connection::outside::Judged;
use crate::error::Error;
use crate::os;
use crate::random;

/// A machine that was suspended may wake up with an old token: no pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// For what is under way behind the callers' backs.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);

/// A token for each connection.
pub(super) struct Fresh {
    client: Arc<Client>,
    judged: Vec<Judged>,
    tokens: Vec<AccessToken>,
    condition: Condition,
    /// How often in a row there was no token at all.
    failures: u32,
}

/// Where they are kept.
pub(super) trait Keeper {
    /// Puts all of them there.
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

    /// Renews them and puts them in their place, for ever.
    pub(super) fn keep(mut self, keeper: &mut dyn Keeper) -> ! {
        let mut is_put = true;
        loop {
            std::thread::sleep(self.pause());
            keeper.beat();
            let (is_new, trouble) = self.renew();
            is_put &= !is_new;
            let mut condition = match &trouble {
                _ if self.has_expired() => Condition::Expired,
                Some(_) => Condition::Failing,
                None => Condition::Good,
            };
            let mut why = trouble;
            if !is_put {
                match keeper.put(&self.tokens) {
                    Ok(()) => is_put = true,
                    Err(error) if condition == Condition::Good => {
                        (condition, why) = (Condition::Unwritten, Some(error));
                    }
                    Err(_) => {}
                }
            }
            self.tell(condition, why.as_ref(), keeper);
        }
    }

    /// Asks for all of them. Whether one is new, and why one is not.
    fn renew(&mut self) -> (bool, Option<Error>) {
        let (mut is_new, mut trouble) = (false, None);
        self.failures += 1;
        for (judged, held) in self.judged.iter().zip(&mut self.tokens) {
            match judged.token(&self.client) {
                Some(Ok(token)) => {
                    self.failures = 0;
                    is_new |= token.secret() != held.secret();
                    *held = token;
                }
                Some(Err(error)) => trouble = trouble.or(Some(error)),
                None => {}
            }
            let standing = judged.standing(&self.client);
            trouble = trouble.or(standing.and_then(|standing| standing.trouble));
        }
        (is_new, trouble)
    }

    fn has_expired(&self) -> bool {
        let now = os::unix_now();
        self.tokens.iter().any(|token| token.expires_on() <= now)
    }

    /// Until something is to be done.
    fn pause(&self) -> Duration {
        let now = os::unix_now();
        let standings = self.judged.iter().filter_map(|judged| judged.standing(&self.client));
        let nexts = standings.map(|standing| standing.next_refresh);
        let left = nexts.map(|next| match next {
            Some(next) => Duration::from_secs(u64::try_from(next - now).unwrap_or(0)),
            // None is held. Many may ask for the same reason, so not all at the same time.
            None => Duration::from_secs(1 << self.failures.min(5)).mul_f64(0.5 + random::fraction() / 2.0),
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
