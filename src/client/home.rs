//! Where a client is: replaced, dropped or gone while others use it.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwapOption, Guard};

use super::Client;
use crate::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::prefetch::Prefetch;
use crate::settings::Settings;

/// A place for a client that others use while it is replaced or dropped. Reading it takes no lock.
pub(crate) struct Shared {
    client: ArcSwapOption<Client>,
    /// Of the program's event loop, whichever client is here.
    prefetch: Prefetch,
}

impl Shared {
    pub(crate) const fn empty() -> Self {
        Self { client: ArcSwapOption::const_empty(), prefetch: Prefetch::new() }
    }

    /// What is there now. Counts no references, which threads would fight for.
    pub(crate) fn hold(&self) -> Held {
        Held(self.client.load())
    }

    /// The client; where there is none, one made from the environment. A first use that failed is not remembered:
    /// the environment is read anew, and where it has changed, another client is made.
    pub(crate) fn get_or_make(&self) -> Result<Arc<Client>, Error> {
        let current = self.client.load_full();
        if let Some(client) = current.as_ref().filter(|client| !client.is_doubtful()) {
            return Ok(client.clone());
        }
        let settings = Settings::read("", Environment::process())?;
        if let Some(client) = current.as_ref().filter(|client| *client.settings == settings) {
            return Ok(client.clone());
        }
        let made = Arc::new(Client::with(settings)?);
        // Of threads that come here together, one's client is kept and all use that.
        let before = self.client.compare_and_swap(&current, Some(made.clone()));
        let replaced = before.as_ref().map(Arc::as_ptr) == current.as_ref().map(Arc::as_ptr);
        Ok(if replaced { made } else { before.as_ref().cloned().unwrap_or(made) })
    }

    /// Drops the tokens of the client that is there, which may be another identity's than the environment now says, and
    /// makes one from that.
    pub(crate) fn renew(&self) -> Result<(), Error> {
        let before = self.client.swap(None);
        let dropped = before.as_ref().map_or(Ok(()), |before| before.invalidate());
        let client = self.get_or_make()?;
        // What one has dropped, its like need not drop again.
        if dropped.is_err() || before.is_none_or(|before| before.settings != client.settings) {
            client.invalidate()?;
        }
        // A cache that it could never use is none of now.
        dropped.or_else(|error| if error.kind() == ErrorKind::Config { Ok(()) } else { Err(error) })
    }

    pub(crate) fn put(&self, client: Client) {
        self.prefetch.forget();
        self.client.store(Some(Arc::new(client)));
    }

    /// Empties the place; false if it was empty. Calls that run on the client finish.
    pub(crate) fn clear(&self) -> bool {
        self.client.swap(None).is_some()
    }
}

/// A client as it was when it was looked at, or none.
pub(crate) struct Held(Guard<Option<Arc<Client>>>);

impl Held {
    /// See [`Client::warm_token`].
    pub(crate) fn warm_token<R>(&self, give: impl FnOnce(&str, i64) -> R) -> Option<R> {
        self.0.as_ref()?.warm_token(give)
    }

    /// The client, to stay with it whatever happens to the place.
    pub(crate) fn keep(self) -> Option<Arc<Client>> {
        Guard::into_inner(self.0)
    }
}

/// Where a client is, for what outlives the call: it may be gone by then.
#[derive(Clone)]
pub(crate) struct Home {
    place: &'static Shared,
    /// None: whichever is there, made from the environment if need be.
    client: Option<Weak<Client>>,
    /// Who signed in, where that was whichever was there: whoever is there later may be somebody else.
    signed_in: Option<Arc<Client>>,
}

impl Home {
    pub(crate) fn of_default(place: &'static Shared) -> Self {
        Self { place, client: None, signed_in: None }
    }

    /// Of the client that is there now.
    pub(crate) fn of(place: &'static Shared) -> Result<Self, Error> {
        let client = place.hold().keep().ok_or_else(gone)?;
        Ok(Self { place, client: Some(Arc::downgrade(&client)), signed_in: None })
    }

    pub(crate) fn client(&self) -> Result<Arc<Client>, Error> {
        let Some(client) = &self.client else {
            let there = self.place.get_or_make();
            let is_same =
                |signed_in: &Client| there.as_ref().is_ok_and(|now| now.settings == signed_in.settings);
            return match &self.signed_in {
                Some(signed_in) if !is_same(signed_in) => Ok(signed_in.clone()),
                _ => there,
            };
        };
        // A place may have been given to another client meanwhile.
        self.place
            .hold()
            .keep()
            .filter(|there| std::ptr::eq(Arc::as_ptr(there), client.as_ptr()))
            .ok_or_else(gone)
    }

    /// The same for as long as what this client signed in lives.
    pub(crate) fn of_signed_in(&self, client: &Arc<Client>) -> Self {
        let signed_in = self.client.is_none().then(|| client.clone());
        Self { signed_in, ..self.clone() }
    }

    /// Makes sure that a token is there or under way; what is returned becomes readable when that has come to an end.
    pub(crate) fn prefetch(&self) -> Result<OwnedFd, Error> {
        let client = self.client()?;
        client.check_prefetch()?;
        match client.is_ready() {
            true => self.place.prefetch.skip(),
            false => self.place.prefetch.run(move || client.fetch_ahead()),
        }
    }

    /// Whether an event loop calls, which has its tokens fetched ahead and never waits.
    pub(crate) fn is_prefetched(&self) -> bool {
        self.place.prefetch.was_asked()
    }

    /// Why the last token that was fetched ahead did not come.
    pub(crate) fn prefetch_failure(&self) -> Option<Error> {
        self.place.prefetch.failure()
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::InvalidArgument, "client was given back with pgaad_client_free.")
}
