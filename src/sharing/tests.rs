//! Against a store in memory that can be made to wait and to fail.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Condvar, Mutex};
use std::thread;

use super::*;
use crate::credential::{Callback, Supplied};
use crate::environment::Environment;
use crate::os::fake::World;
use crate::secret::Secret;
use crate::shared::Session;

/// Nothing waits for so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Shelf {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    entries: HashMap<String, Vec<u8>>,
    is_leased: bool,
    waiters: usize,
    /// How often a token was put there.
    tokens_put: usize,
    /// How many of the next puts fail.
    full: usize,
    /// What is wrong with the store as a whole.
    trouble: Option<Trouble>,
}

struct Visit {
    shelf: Arc<Shelf>,
    has_lease: bool,
}

impl Shelf {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let result = act(&mut self.state.lock().expect("no panic"));
        self.changed.notify_all();
        result
    }

    fn wait_until(&self, until: Instant, done: impl Fn(&State) -> bool) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        let state = self.state.lock().expect("no panic");
        let (_state, timeout) =
            self.changed.wait_timeout_while(state, left, |state| !done(state)).expect("no panic");
        !timeout.timed_out()
    }

    fn check(&self) -> Result<(), Trouble> {
        self.with(|state| state.trouble.clone().map_or(Ok(()), Err))
    }

    /// The names of tokens.
    fn names(&self) -> Vec<String> {
        self.with(|state| state.entries.keys().filter(|name| name.len() == 64).cloned().collect())
    }
}

struct Shared(Arc<Shelf>);

impl Store for Shared {
    fn session(&self, _: Instant) -> Box<dyn Session + '_> {
        Box::new(Visit { shelf: self.0.clone(), has_lease: false })
    }
}

impl Session for Visit {
    fn get(&mut self, name: &str) -> Result<Option<Vec<u8>>, Trouble> {
        self.shelf.check()?;
        Ok(self.shelf.with(|state| state.entries.get(name).cloned()))
    }

    fn put(&mut self, name: &str, entry: &[u8], _: Duration) -> Result<(), Trouble> {
        self.shelf.check()?;
        self.shelf.with(|state| {
            if let Some(full) = state.full.checked_sub(1) {
                state.full = full;
                return Err(Trouble::of_moment("full"));
            }
            state.tokens_put += usize::from(name.len() == 64);
            state.entries.insert(name.into(), entry.into());
            Ok(())
        })
    }

    fn remove(&mut self, name: &str) -> Result<(), Trouble> {
        self.shelf.check()?;
        self.shelf.with(|state| state.entries.remove(name));
        Ok(())
    }

    fn try_lease(&mut self, _: &str) -> Result<bool, Trouble> {
        self.shelf.check()?;
        self.has_lease = self.shelf.with(|state| !std::mem::replace(&mut state.is_leased, true));
        Ok(self.has_lease)
    }

    fn release(&mut self) {
        if std::mem::take(&mut self.has_lease) {
            self.shelf.with(|state| state.is_leased = false);
        }
    }

    fn wait(&mut self, _: &str, _: Option<&[u8]>, until: Instant) -> Result<(), Trouble> {
        self.shelf.with(|state| state.waiters += 1);
        self.shelf.wait_until(until, |state| !state.is_leased);
        self.shelf.with(|state| state.waiters -= 1);
        Ok(())
    }

    fn extend(&mut self, _: Instant) {}
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.release();
    }
}

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// One process of those that share the shelf. Its tokens are called after it.
fn process(
    shelf: &Arc<Shelf>,
    name: &str,
    fetch: impl Fn() -> Result<(), Error> + Send + Sync + 'static,
) -> Sharing {
    process_with(shelf, &format!("cache_key={KEY}"), name, fetch)
}

fn process_with(
    shelf: &Arc<Shelf>,
    key: &str,
    name: &str,
    fetch: impl Fn() -> Result<(), Error> + Send + Sync + 'static,
) -> Sharing {
    let settings = format!("cache=file cache_id=a {key}");
    let settings =
        Arc::new(Settings::read_for_callback(&settings, Environment::of(&|_| None)).expect("settings"));
    let name = name.to_string();
    let supply = move |_: &str, _: Duration| {
        let token = || Supplied { token: Secret::new(name.clone()), expires_on: Some(os::unix_now() + 3600) };
        fetch().map(|()| token())
    };
    let credential = Arc::new(Credential::of_callback(Callback::new(supply)));
    let sharing = Sharing::of(&settings, &credential).expect("settings").expect("it is shared");
    assert!(sharing.store.set(Box::new(Box::new(Shared(shelf.clone())))).is_ok());
    sharing
}

fn ask_by(sharing: &Sharing, deadline: Instant) -> Result<String, Failure> {
    ask_with(sharing, deadline, false)
}

/// `has_one`: whether those who ask have a token that will do for now.
fn ask_with(sharing: &Sharing, deadline: Instant, has_one: bool) -> Result<String, Failure> {
    let result = Mutex::new(None);
    let done = |fetched: Result<Token, Failure>| {
        let before = result.lock().expect("no panic").replace(fetched);
        assert!(before.is_none(), "two results");
    };
    sharing.token("scope", deadline, &Desk { can_wait: &|| has_one, meanwhile: &|_| {}, done: &done });
    let token = result.into_inner().expect("no panic").expect("a result")?;
    Ok(token.secret.reveal().into())
}

fn ask(sharing: &Sharing) -> Result<String, Failure> {
    ask_by(sharing, Instant::now() + PATIENCE)
}

fn good(shelf: &Arc<Shelf>, name: &str) -> Sharing {
    process(shelf, name, || Ok(()))
}

#[test]
fn who_has_little_time_waits_for_most_of_it() {
    let (shelf, fetches) = (Arc::<Shelf>::default(), Arc::new(AtomicUsize::new(0)));
    let processes: Vec<_> = (0..8)
        .map(|_| {
            let (shelf, fetches) = (shelf.clone(), fetches.clone());
            process(&shelf.clone(), "token", move || {
                fetches.fetch_add(1, SeqCst);
                assert!(shelf.wait_until(Instant::now() + PATIENCE, |state| state.waiters == 7));
                Ok(())
            })
        })
        .collect();
    // Less than a quarter of what the settings give a fetch.
    let deadline = Instant::now() + Duration::from_secs(6);
    thread::scope(|scope| {
        for process in &processes {
            scope.spawn(|| assert_eq!(ask_by(process, deadline).expect("a token"), "token"));
        }
    });
    assert_eq!(fetches.load(SeqCst), 1);
}

#[test]
fn a_holder_that_hangs_is_not_waited_for_to_the_end() {
    let shelf = Arc::<Shelf>::default();
    shelf.with(|state| state.is_leased = true);
    let deadline = Instant::now() + Duration::from_secs(1);
    assert_eq!(ask_by(&good(&shelf, "own"), deadline).expect("a token"), "own");
    assert!(Instant::now() < deadline + PATIENCE);
}

#[test]
fn a_failure_of_the_store_costs_no_token_and_is_tried_once_more_after_it() {
    for full in [1, 2] {
        let shelf = Arc::<Shelf>::default();
        shelf.with(|state| state.full = full);
        assert_eq!(ask(&good(&shelf, "first")).expect("a token"), "first");
        assert_eq!(shelf.names().len(), 2 - full);
        assert!(!shelf.with(|state| state.is_leased));
    }
}

#[test]
fn a_setting_that_is_wrong_is_said_at_first_and_later_costs_no_token() {
    let shelf = Arc::<Shelf>::default();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key");
    let process = process_with(&shelf, &format!("cache_key_file={}", file.display()), "own", || Ok(()));
    let error = ask(&process).expect_err("there is no key").error;
    assert!(error.kind() == ErrorKind::Config && error.message().contains("cache_key_file"), "{error}");
    std::fs::write(&file, KEY).expect("a file");
    assert_eq!(ask(&process).expect("a token"), "own");
    shelf.with(|state| state.entries.clear());
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(ask(&process).expect("a token"), "own");
    assert!(shelf.names().is_empty());
}

#[test]
fn who_dropped_takes_nothing_that_was_asked_for_before() {
    let shelf = Arc::<Shelf>::default();
    let (one, two) = (good(&shelf, "one"), good(&shelf, "two"));
    assert_eq!((ask(&one).expect("a token"), ask(&two).expect("a token")), ("one".into(), "one".into()));
    // The store can't be reached.
    shelf.with(|state| state.trouble = Some(Trouble::of_moment("down")));
    let error = two.forget(["scope"].into_iter()).expect_err("it is still there");
    assert_eq!(error.kind(), ErrorKind::Network);
    shelf.with(|state| state.trouble = None);
    assert_eq!(ask(&two).expect("a token"), "two");
    assert_eq!(ask(&one).expect("a token"), "two");
    two.forget(["scope"].into_iter()).expect("dropped");
    assert!(shelf.names().is_empty());
    assert_eq!(ask(&one).expect("a token"), "one");
}

#[test]
fn an_old_entry_that_is_put_back_is_not_taken_by_who_saw_a_newer_one() {
    let world = Arc::new(World::default());
    world.enter();
    let at = |seconds: u64| world.set(Duration::from_secs(9000 + seconds), 1_800_000_000 + seconds as i64);
    let shelf = Arc::<Shelf>::default();
    let (one, stranger) = (good(&shelf, "one"), good(&shelf, "stranger"));
    // What somebody puts there at that time.
    let sealed = |seconds: u64, name: &str| {
        at(seconds);
        shelf.with(|state| state.entries.clear());
        assert_eq!(ask(&good(&shelf, name)).expect("a token"), name);
        shelf.with(|state| state.entries.clone())
    };
    let put_back = |entries: &HashMap<String, Vec<u8>>| shelf.with(|state| state.entries.clone_from(entries));
    let (old, near, new) = (sealed(0, "old"), sealed(270, "near"), sealed(300, "new"));
    put_back(&old);
    assert_eq!(ask(&one).expect("a token"), "old");
    put_back(&new);
    assert_eq!(ask(&one).expect("a token"), "new");
    // A little older, by another machine's clock.
    put_back(&near);
    assert_eq!(ask(&one).expect("a token"), "near");
    put_back(&old);
    assert_eq!(ask(&stranger).expect("a token"), "old");
    assert_eq!(ask(&one).expect("a token"), "one");
    assert_eq!(ask(&stranger).expect("a token"), "one");
}

/// The holder fails once all the others wait for it; what each of them is told, or asked for.
fn after_a_failure(shelf: &Arc<Shelf>, has_one: bool) -> (Vec<Result<String, Failure>>, usize) {
    let requests = Arc::new(AtomicUsize::new(0));
    let processes: Vec<_> = (0..8)
        .map(|_| {
            let (shelf, requests) = (shelf.clone(), requests.clone());
            process(&shelf.clone(), "token", move || {
                if requests.fetch_add(1, SeqCst) > 0 {
                    return Ok(());
                }
                assert!(shelf.wait_until(Instant::now() + PATIENCE, |state| state.waiters == 7));
                Err(Error::new(ErrorKind::Protocol, "only here"))
            })
        })
        .collect();
    let deadline = Instant::now() + PATIENCE;
    let ask = |process| ask_with(process, deadline, has_one);
    let results = thread::scope(|scope| {
        let asking: Vec<_> = processes.iter().map(|process| scope.spawn(move || ask(process))).collect();
        asking.into_iter().map(|asking| asking.join().expect("no panic")).collect()
    });
    (results, requests.load(SeqCst))
}

#[test]
fn who_has_a_token_waits_after_a_failure_as_the_one_that_failed() {
    let shelf = Arc::<Shelf>::default();
    let (results, requests) = after_a_failure(&shelf, true);
    assert_eq!(requests, 1);
    let failures: Vec<_> = results.into_iter().map(|result| result.expect_err("it failed").error).collect();
    assert!(failures.iter().all(|error| error.message().contains("only here")), "{failures:?}");
    let own = failures.iter().filter(|error| error.kind() == ErrorKind::Protocol).count();
    assert_eq!((own, failures.len()), (1, 8));
}

#[test]
fn who_has_none_asks_for_itself_and_shares_what_it_gets() {
    let shelf = Arc::<Shelf>::default();
    let (results, requests) = after_a_failure(&shelf, false);
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1);
    // Out of step, so that the later ones find what the first of them got.
    assert!((2..=8).contains(&requests), "{requests}");
    assert_eq!(shelf.names().len(), 1);
    assert_eq!(ask(&process(&shelf, "another", || panic!("there is one"))).expect("a token"), "token");
}

#[test]
fn what_is_dropped_while_it_is_fetched_is_there_for_nobody() {
    for failure_after in [false, true] {
        let shelf = Arc::<Shelf>::default();
        let admin = Arc::new(good(&shelf, "admin"));
        let (dropping, failing) = (admin.clone(), shelf.clone());
        let holder = process(&shelf, "dropped", move || {
            dropping.forget(["scope"].into_iter()).expect("dropped");
            if failure_after {
                // Its time as the holder is over, and the next one fails.
                failing.with(|state| state.is_leased = false);
                let other = process(&failing, "", || Err(Error::new(ErrorKind::Protocol, "no")));
                assert!(ask(&other).is_err());
            }
            Ok(())
        });
        assert_eq!(ask(&holder).expect("a token"), "dropped");
        // Not even for a moment.
        assert_eq!((shelf.names().len(), shelf.with(|state| state.tokens_put)), (0, 0), "{failure_after}");
        assert_eq!(ask(&good(&shelf, "new")).expect("a token"), "new");
    }
}

#[test]
fn a_name_that_is_kept_brings_no_dropped_token_back() {
    let shelf = Arc::<Shelf>::default();
    let (one, admin) = (good(&shelf, "one"), good(&shelf, "admin"));
    assert_eq!(ask(&one).expect("a token"), "one");
    one.keep_user("scope", "ann", Instant::now() + PATIENCE);
    let held = |sharing: &Sharing| sharing.held("scope", Instant::now() + PATIENCE);
    assert_eq!(held(&admin).expect("a token").1.as_deref(), Some("ann"));
    // Nothing is there to keep it with.
    admin.forget(["scope"].into_iter()).expect("dropped");
    one.keep_user("scope", "ann", Instant::now() + PATIENCE);
    assert!(held(&one).is_none() && shelf.names().is_empty());
}
