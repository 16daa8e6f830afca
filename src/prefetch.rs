//! Tokens for event loops: fetched ahead on a thread of ours, with a descriptor that says when that is over.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::bug;
use crate::error::{Error, ErrorKind};
use crate::os::event::{self, Signal};
use crate::os::fork::{self, Lock};
use crate::os::thread::{self, Stack};

/// One client's.
pub(crate) struct Prefetch(Lock<State>);

struct State {
    was_asked: bool,
    run: Option<Arc<Run>>,
    /// What the last run ended with.
    failure: Option<Error>,
}

/// One for all who ask while it lasts.
struct Run {
    generation: u64,
    /// None: it is over.
    waiting: Lock<Option<Vec<Signal>>>,
}

impl Prefetch {
    pub(crate) const fn new() -> Self {
        Self(Lock::new(State { was_asked: false, run: None, failure: None }))
    }

    /// For another client in the same place.
    pub(crate) fn forget(&self) {
        self.0.with(|state| (state.was_asked, state.run, state.failure) = (false, None, None));
    }

    pub(crate) fn was_asked(&self) -> bool {
        self.0.with(|state| state.was_asked)
    }

    pub(crate) fn failure(&self) -> Option<Error> {
        self.0.with(|state| state.failure.clone())
    }

    /// For want of anything to do: a descriptor that is readable at once.
    pub(crate) fn skip(&self) -> Result<OwnedFd, Error> {
        self.0.with(|state| (state.was_asked, state.failure) = (true, None));
        event::given().map_err(no_descriptor)
    }

    /// Runs `work` on a thread of ours, unless that is under way. The descriptor becomes readable when it is over.
    pub(crate) fn run(
        &'static self,
        work: impl FnOnce() -> Result<(), Error> + Send + 'static,
    ) -> Result<OwnedFd, Error> {
        let (event, signal) = Signal::new().map_err(no_descriptor)?;
        let new = Arc::new(Run { generation: fork::generation(), waiting: Lock::new(Some(Vec::new())) });
        let (run, before) = self.0.with(|state| {
            state.was_asked = true;
            match &state.run {
                Some(run) if run.generation == fork::generation() => (run.clone(), None),
                _ => {
                    state.failure = None;
                    (new.clone(), state.run.replace(new.clone()))
                }
            }
        });
        // A parent's: its thread is not here.
        if let Some(parents) = before {
            drop(parents.waiting.with(Option::take));
        }
        let is_new = Arc::ptr_eq(&run, &new);
        let left = run.waiting.with(|waiting| match waiting {
            Some(waiting) => {
                waiting.push(signal);
                None
            }
            None => Some(signal),
        });
        if let Some(signal) = left {
            signal.give();
        }
        if is_new {
            let running = run.clone();
            let body = move || {
                let result = bug::contain(work).and_then(|result| result);
                self.end(&running, result);
            };
            if let Err(error) = thread::spawn("pgaad-prefetch", Stack::Ours, body) {
                self.end(&run, Err(no_thread(error)));
            }
        }
        Ok(event)
    }

    fn end(&self, run: &Arc<Run>, result: Result<(), Error>) {
        self.0.with(|state| {
            // Not one that was given up.
            if state.run.take_if(|current| Arc::ptr_eq(current, run)).is_some() {
                state.failure = result.err();
            }
        });
        let waiting = run.waiting.with(Option::take);
        waiting.into_iter().flatten().for_each(Signal::give);
    }
}

/// What a thread of ours finds out.
pub(crate) struct Ahead<T>(Arc<Lock<Option<Result<T, Error>>>>);

impl<T: Send + 'static> Ahead<T> {
    /// Starts it; it is known when the descriptor is readable.
    pub(crate) fn start(
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<(OwnedFd, Self), Error> {
        let (event, signal) = Signal::new().map_err(no_descriptor)?;
        let result = Arc::new(Lock::new(None));
        let place = result.clone();
        let body = move || {
            let found = bug::contain(work).and_then(|found| found);
            place.with(|place| *place = Some(found));
            signal.give();
        };
        thread::spawn("pgaad-ahead", Stack::Ours, body).map_err(no_thread)?;
        Ok((event, Self(result)))
    }

    /// Once.
    pub(crate) fn take(self) -> Result<T, Error> {
        let nothing = || Err(Error::new(ErrorKind::Internal, "The token was asked for before it was there."));
        self.0.with(Option::take).unwrap_or_else(nothing)
    }
}

fn no_thread(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Internal, format!("No thread to fetch a token on: {error}."))
}

fn no_descriptor(error: std::io::Error) -> Error {
    let why = format!(
        "No descriptor to be had for pgaad_client_prefetch: {error}. Close some, or raise the limit."
    );
    Error::new(ErrorKind::Internal, why)
}
