//! Tokens from the program itself (`auth=callback`).

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::{Ask, Failure, Retry, answer, log_request};
use crate::error::{Error, ErrorKind};
use crate::flight::Flight;
use crate::os::fork::Lock;
use crate::secret::Secret;
use crate::token::{self, Moment, Token};

/// What the program's function answered.
pub(crate) struct Supplied {
    pub(crate) token: Secret,
    /// Unix seconds; None: the token says it.
    pub(crate) expires_on: Option<i64>,
}

/// The program's function: for this scope, within this time.
type Fetch = dyn Fn(&str, Duration) -> Result<Supplied, Error> + Send + Sync;

pub(crate) struct Callback {
    fetch: Box<Fetch>,
    /// Tells it from others on a thread.
    id: u64,
    /// Who is in the function: one at a time.
    turn: Lock<Option<Arc<Flight<()>>>>,
}

thread_local! {
    /// The callbacks that run on this thread, each called by the one before it.
    static RUNNING: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl Callback {
    pub(crate) fn new(
        fetch: impl Fn(&str, Duration) -> Result<Supplied, Error> + Send + Sync + 'static,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { fetch: Box::new(fetch), id: NEXT.fetch_add(1, Relaxed), turn: Lock::new(None) }
    }

    /// The function itself may not ask for the token that it is to supply.
    pub(super) fn check_caller(&self) -> Result<(), Error> {
        if RUNNING.with_borrow(|running| running.contains(&self.id)) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "A token callback called its own client. It may use other clients.",
            ));
        }
        Ok(())
    }

    pub(super) fn fetch(&self, ask: &Ask<'_>) -> Result<Token, Failure> {
        let _turn = self.take_turn(ask.deadline)?;
        let (begun, started) = (Instant::now(), Moment::now());
        let left = ask.deadline.saturating_duration_since(begun);
        let supplied = {
            let _running = Running::enter(self.id);
            (self.fetch)(ask.scope, left)
        };
        let result = supplied.map_err(Failure::from).and_then(|supplied| read(&supplied, started));
        log_request(ask, &[("source", "callback"), ("scope", ask.scope)], begun, &result);
        result
    }

    fn take_turn(&self, deadline: Instant) -> Result<Turn<'_>, Failure> {
        let mine = Arc::new(Flight::new());
        loop {
            let before = self.turn.with(|turn| match turn {
                Some(running) if running.is_of_this_process() => Some(running.clone()),
                _ => {
                    *turn = Some(mine.clone());
                    None
                }
            });
            let Some(running) = before else { return Ok(Turn { callback: self, mine }) };
            if running.wait(deadline).is_none() {
                let text = "The token callback was still busy for another call when the deadline (PGAAD_TIMEOUT_MS) passed.";
                return Err(Failure::new(ErrorKind::Timeout, text, Retry::Soon));
            }
        }
    }
}

/// While it lives, nobody else is in the function.
struct Turn<'a> {
    callback: &'a Callback,
    mine: Arc<Flight<()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.callback.turn.with(|turn| turn.take_if(|current| Arc::ptr_eq(current, &self.mine)));
        self.mine.land(());
    }
}

struct Running;

impl Running {
    fn enter(id: u64) -> Self {
        RUNNING.with_borrow_mut(|running| running.push(id));
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.with_borrow_mut(Vec::pop);
    }
}

fn read(supplied: &Supplied, started: Moment) -> Result<Token, Failure> {
    let bad = |why: &str| {
        let text = format!("The token callback answered with {why}.");
        Failure::new(ErrorKind::Protocol, text, Retry::Never)
    };
    let secret = answer::secret(supplied.token.reveal()).ok_or_else(|| {
        bad(match supplied.token.reveal() {
            "" => "no token. It must give pgaad_answer_token one, or call pgaad_answer_error",
            _ => "text that is no token: there is a blank, a line break or another character in it that no token has",
        })
    })?;
    let said = || token::claim(secret.reveal(), "exp");
    let end = supplied.expires_on.or_else(said).ok_or_else(|| {
        bad("a token that does not say when it expires. It must give expires_on, in Unix seconds")
    })?;
    answer::living(secret, started, end.saturating_sub(started.unix()), None, Some(started.unix())).map_err(
        |why| {
            bad(&format!(
                "a token that cannot be used: {why} (expires_on is in Unix seconds, 0: the token says it)"
            ))
        },
    )
}
