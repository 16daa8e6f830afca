use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::*;
use crate::error::ErrorKind;
use crate::os::fork;
use crate::secret::Secret;
use crate::shared::entry::Entry;
use crate::shared::seal::Key;

const NAME: &str = "0123456789abcdef";
const LIFE: Duration = Duration::from_secs(3600);

/// Nothing waits for so long unless it hangs.
fn late() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Each operation in a session of its own.
impl FileStore {
    fn at(dir: &Path) -> Result<Self, Trouble> {
        Self::open(Some(dir), Environment::of(&|_| None))
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Trouble> {
        self.session(late()).get(name)
    }

    fn put(&self, name: &str, entry: &[u8]) -> Result<(), Trouble> {
        self.session(late()).put(name, entry, LIFE)
    }

    fn remove(&self, name: &str) -> Result<(), Trouble> {
        self.session(late()).remove(name)
    }

    fn lease(&self, name: &str) -> Result<Option<Box<dyn Session + '_>>, Trouble> {
        let mut session = self.session(late());
        Ok(session.try_lease(name)?.then_some(session))
    }
}

struct Place {
    store: FileStore,
    dir: PathBuf,
    _temporary: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("pgaad");
        Self { store: FileStore::at(&dir).unwrap(), dir, _temporary: temporary }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn get(&self) -> Option<Vec<u8>> {
        self.store.get(NAME).unwrap()
    }

    fn put(&self, entry: &[u8]) -> Result<(), Trouble> {
        self.store.put(NAME, entry)
    }

    fn lease(&self) -> Option<Box<dyn Session + '_>> {
        self.store.lease(NAME).unwrap()
    }

    fn files(&self) -> Vec<String> {
        files(&self.dir)
    }
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn what_is_put_is_there_until_it_is_removed() {
    let place = Place::new();
    assert_eq!(place.get(), None);
    place.store.remove(NAME).unwrap();
    for entry in [&b"one"[..], b"another, which is longer", b"", &[9; LONGEST_ENTRY]] {
        place.put(entry).unwrap();
        assert_eq!(place.get().as_deref(), Some(entry));
        assert_eq!(place.store.get("other").unwrap(), None);
    }
    place.store.remove(NAME).unwrap();
    assert_eq!(place.get(), None);
    assert_eq!(place.files(), Vec::<String>::new());
}

#[test]
fn all_that_is_made_is_its_users_alone() {
    let temporary = tempfile::tempdir().unwrap();
    let place = |name: &str| temporary.path().join(name);
    let store = FileStore::at(&place("a/b/c")).unwrap();
    store.put(NAME, b"entry").unwrap();
    store.own_key(late()).unwrap();
    drop(store.lease(NAME).unwrap().unwrap());
    for dir in ["a", "a/b", "a/b/c"] {
        assert_eq!(mode(&place(dir)), 0o700, "{dir}");
    }
    let files = files(&place("a/b/c"));
    assert_eq!(files, ["0123456789abcdef.lock", "0123456789abcdef.token", "own.key", "own.key.lock"]);
    for file in files {
        assert_eq!(mode(&place("a/b/c").join(&file)), 0o600, "{file}");
    }
}

#[test]
fn a_directory_that_vanished_is_made_anew() {
    let place = Place::new();
    place.put(b"entry").unwrap();
    fs::remove_dir_all(&place.dir).unwrap();
    assert_eq!(place.get(), None);
    fs::remove_dir_all(&place.dir).unwrap();
    place.put(b"entry").unwrap();
    assert_eq!(place.get().as_deref(), Some(&b"entry"[..]));
}

#[test]
fn a_directory_that_others_can_use_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    let make = |name: &str, mode: u32| {
        let dir = root.join(name);
        fs::create_dir_all(&dir).unwrap();
        set_mode(&dir, mode);
        dir
    };
    let link = |name: &str, target: &Path| {
        symlink(target, root.join(name)).unwrap();
        root.join(name)
    };
    fs::write(root.join("file"), "").unwrap();
    let good = make("good", 0o700);
    for (name, mode) in [("open", 0o777), ("sticky", 0o1777), ("group", 0o775)] {
        make(name, mode);
    }
    let below_open = make("open/own", 0o700);
    // As root we give some away, else root has enough of them, and those lie in nobody's way.
    let anothers = |name: &str| {
        let dir = make(name, 0o755);
        chown(&dir, Some(12345), None).map_or("/usr/lib".into(), |()| dir)
    };
    for (dir, expected) in [
        (good.clone(), None),
        (make("read", 0o740), Some("others may use it (mode 0740)")),
        (make("entered", 0o710), Some("others may use it (mode 0710)")),
        (make("listed", 0o704), Some("others may use it (mode 0704)")),
        (make("written", 0o702), Some("others may use it (mode 0702)")),
        (make("all", 0o1777), Some("others may use it (mode 1777)")),
        (anothers("foreign"), Some("belongs to user")),
        (link("link", &good), Some("it is no directory, or a link")),
        (link("slashed", &good).join(""), Some("it is no directory, or a link")),
        (link("dangling", &root.join("nothing")), Some("it is no directory, or a link")),
        (link("circular", &root.join("circular")), Some("it is no directory, or a link")),
        (root.join("file"), Some("no directory")),
        (root.join("file/below"), Some("no directory")),
        (root.join("open/below"), Some("others may put another in its place")),
        (root.join("open/below/deeper"), Some("others may put another in its place")),
        (root.join("sticky/below"), None),
        (root.join("group/below"), None),
        (link("parent", &good).join("below"), None),
        (link("to_open", &root.join("open")).join("by_link"), Some("others may put another in its place")),
        (link("to_below", &below_open).join("by_link"), Some("others may put another in its place")),
        ("relative/path".into(), Some("not the absolute path")),
        ("".into(), Some("not the absolute path")),
        ("/".into(), Some("not the absolute path")),
    ] {
        match (FileStore::at(&dir), expected) {
            (Ok(_), None) => {}
            (Err(trouble), Some(expected)) => {
                let text = trouble.to_string();
                assert!(trouble.is_of_settings() && text.contains(expected), "{text}");
                assert!(text.contains("PGAAD_CACHE=file:/path") && text.lines().count() == 1, "{text}");
            }
            (opened, expected) => panic!("{}: {opened:?}, not {expected:?}", dir.display()),
        }
    }
    assert_eq!(files(&good), ["below"]);
}

#[test]
fn a_directory_is_checked_at_each_use() {
    let place = Place::new();
    place.put(b"entry").unwrap();
    let elsewhere = place.dir.with_file_name("elsewhere");
    let change: [(&str, &dyn Fn()); 2] = [
        ("opened to others", &|| set_mode(&place.dir, 0o755)),
        ("replaced by a link", &|| {
            set_mode(&place.dir, 0o700);
            fs::rename(&place.dir, &elsewhere).unwrap();
            symlink(&elsewhere, &place.dir).unwrap();
        }),
    ];
    for (case, change) in change {
        change();
        let store = &place.store;
        for trouble in [
            store.get(NAME).err(),
            store.put(NAME, b"other").err(),
            store.remove(NAME).err(),
            store.lease(NAME).err(),
            store.wait(NAME, late()).err(),
            store.own_key(late()).err(),
        ] {
            assert!(trouble.is_some_and(|trouble| trouble.is_of_settings()), "{case}");
        }
    }
    fs::remove_file(&place.dir).unwrap();
    fs::rename(&elsewhere, &place.dir).unwrap();
    assert_eq!(place.get().as_deref(), Some(&b"entry"[..]));
}

#[test]
fn a_file_that_is_not_ours_is_no_entry_and_is_replaced() {
    let place = Place::new();
    let path = place.path("0123456789abcdef.token");
    let target = place.dir.with_file_name("target");
    fs::write(&target, "target").unwrap();
    set_mode(&target, 0o600);
    let with_mode = |mode| {
        fs::write(&path, "entry").unwrap();
        set_mode(&path, mode);
    };
    let cases: [(&str, &dyn Fn()); 9] = [
        ("a symbolic link", &|| symlink(&target, &path).unwrap()),
        ("a dangling link", &|| symlink("nothing", &path).unwrap()),
        ("a second name of another file", &|| fs::hard_link(&target, &path).unwrap()),
        ("a pipe", &|| {
            let made = Command::new("mkfifo").arg("-m").arg("600").arg(&path).status().unwrap();
            assert!(made.success());
        }),
        ("a socket", &|| drop(UnixListener::bind(&path).unwrap())),
        ("readable for the group", &|| with_mode(0o640)),
        ("writable for others", &|| with_mode(0o602)),
        ("too long", &|| {
            with_mode(0o600);
            File::options().write(true).open(&path).unwrap().set_len(LONGEST_ENTRY as u64 + 1).unwrap();
        }),
        ("another user's, where this test may give files away", &|| {
            with_mode(0o600);
            if chown(&path, Some(12345), None).is_err() {
                set_mode(&path, 0o660);
            }
        }),
    ];
    for (case, make) in cases {
        make();
        assert_eq!(place.get(), None, "{case}");
        place.put(b"entry").unwrap();
        assert_eq!(place.get().as_deref(), Some(&b"entry"[..]), "{case}");
        assert_eq!(fs::read(&target).unwrap(), b"target", "{case}");
        fs::remove_file(&path).unwrap();
    }
    fs::create_dir(&path).unwrap();
    assert_eq!(place.get(), None);
    let trouble = place.put(b"entry").unwrap_err();
    assert!(!trouble.is_of_settings(), "{trouble}");
    assert_eq!(place.files(), ["0123456789abcdef.token"]);
}

#[test]
fn damaged_foreign_and_moved_entries_are_misses() {
    let now: i64 = 1_800_000_000;
    let (place, key) = (Place::new(), Key::of(b"a secret"));
    let entry = Entry {
        token: Secret::apart("token"),
        expires_on: now + 3600,
        asked: Duration::from_secs(now.unsigned_abs()),
        refresh_in: None,
        user: Some("ann".into()),
    };
    let find = |name: &str| {
        let sealed = place.store.get(name).unwrap()?;
        Entry::from_bytes(&key.open(name, &sealed)?, now)
    };
    let sealed = key.seal(NAME, &entry.to_bytes()).unwrap();
    let path = place.path("0123456789abcdef.token");
    for (case, bytes) in [
        ("empty", Vec::new()),
        ("truncated", sealed[..sealed.len() - 1].to_vec()),
        ("with something behind it", [&sealed[..], b"\n"].concat()),
        ("garbage", vec![1; sealed.len()]),
        ("sealed by another key", Key::of(b"another").seal(NAME, &entry.to_bytes()).unwrap()),
        ("sealed under another name", key.seal("fedcba9876543210", &entry.to_bytes()).unwrap()),
        ("sealed, but no entry", key.seal(NAME, b"entry").unwrap()),
        ("not sealed", entry.to_bytes().to_vec()),
    ] {
        fs::write(&path, &bytes).unwrap();
        set_mode(&path, 0o600);
        assert_eq!(find(NAME), None, "{case}");
        place.put(&sealed).unwrap();
        let found = find(NAME).expect("it was replaced");
        assert_eq!((found.token.reveal(), found.user.as_deref()), ("token", Some("ann")), "{case}");
    }
    fs::rename(&path, place.path("fedcba9876543210.token")).unwrap();
    assert_eq!(find("fedcba9876543210"), None, "moved");
}

#[test]
fn what_is_left_of_killed_writers_is_removed_and_nothing_else() {
    let place = Place::new();
    place.put(b"entry").unwrap();
    let written = |name: &str, when: SystemTime| {
        fs::write(place.path(name), "half").unwrap();
        File::options().write(true).open(place.path(name)).unwrap().set_modified(when).unwrap();
    };
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    let (hash, guid) = ("0123456789abcdef".repeat(4), "00000000-1111-2222-3333-444444444444");
    let news = format!("{hash}n");
    let other = hash.replace('0', "a");
    for (name, when) in [
        (format!("{hash}.token.{guid}.new"), now - hour),
        (format!("{news}.token.{guid}.new"), now + hour),
        (format!("own.key.{guid}.new"), now - hour),
        (format!("{hash}.token"), now - 49 * hour),
        (format!("{news}.token"), now - 49 * hour),
        (format!("{hash}d.token"), now - 49 * hour),
    ] {
        written(&name, when);
    }
    let stay = [
        (format!("{hash}.token.{}.new", guid.replace('0', "5")), now),
        (format!("{other}.token"), now - 47 * hour),
        (format!("{other}.lock"), now - 99 * hour),
        (format!("{hash}x.token"), now - 99 * hour),
        ("own.key".into(), now - 99 * hour),
        // The user's.
        ("thesis.new".into(), now - hour),
        (format!("thesis.token.{guid}.new"), now - hour),
        (format!("{hash}.thesis.{guid}.new"), now - hour),
        (format!("{hash}.token.new"), now - hour),
        ("my.token".into(), now - 99 * hour),
        (format!("{hash}.thesis"), now - 99 * hour),
    ];
    for (name, when) in &stay {
        written(name, *when);
    }
    FileStore::at(&place.dir).unwrap();
    let mut left: Vec<_> = stay.into_iter().map(|(name, _)| name).collect();
    left.push("0123456789abcdef.token".into());
    left.sort();
    assert_eq!(place.files(), left);
}

/// As root: a program that runs with another user's HOME.
#[test]
fn a_way_that_another_user_can_lay_is_not_taken() {
    let temporary = tempfile::tempdir().unwrap();
    let home = temporary.path().join("ann");
    fs::create_dir(&home).unwrap();
    if chown(&home, Some(12345), Some(12345)).is_err() {
        return;
    }
    let own = temporary.path().join("own");
    fs::create_dir(&own).unwrap();
    set_mode(&own, 0o700);
    symlink(&home, own.join("to_ann")).unwrap();
    symlink(&own, home.join("to_own")).unwrap();
    for dir in [home.join("below"), home.join("below/deeper"), own.join("to_ann/below")] {
        let trouble = FileStore::at(&dir).expect_err("refused");
        let text = trouble.to_string();
        assert!(trouble.is_of_settings() && text.contains("belongs to user 12345"), "{text}");
    }
    assert_eq!(files(&home), ["to_own"], "something was made");
    // Where nobody named it, it is no fault, but no cache.
    let read = |name: &str| (name == "HOME").then(|| home.clone().into_os_string());
    let trouble = FileStore::open(None, Environment::of(&read)).expect_err("refused");
    assert!(trouble.kind() == ErrorKind::Unavailable && trouble.to_string().contains("12345"), "{trouble}");
    assert_eq!(files(&home), ["to_own"], "something was made");
    // What counts is where it leads.
    FileStore::at(&home.join("to_own/below")).unwrap();
    assert_eq!(files(&own), ["below", "to_ann"]);
}

#[test]
fn a_reader_finds_one_whole_entry_while_others_write() {
    let place = Place::new();
    let entries = [vec![1; 10], vec![2; 40_000], vec![3; 9_000]];
    place.put(&entries[0]).unwrap();
    std::thread::scope(|scope| {
        for entry in &entries {
            scope.spawn(|| (0..200).for_each(|_| place.put(entry).unwrap()));
        }
        for _ in 0..1000 {
            let found = place.get().expect("there always is one");
            assert!(entries.contains(&found), "{} bytes", found.len());
        }
    });
    assert_eq!(place.files(), ["0123456789abcdef.token"]);
}

#[test]
fn one_thread_has_the_lease_and_the_others_do_not_end_it() {
    let (place, mut other) = (Place::new(), None);
    for _ in 0..3 {
        let lease = place.lease();
        assert!(lease.is_some());
        let elsewhere = FileStore::at(&place.dir).unwrap();
        for store in [&place.store, &elsewhere] {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    assert!(store.lease(NAME).unwrap().is_none());
                    wait_in_vain(store);
                });
            });
        }
        // Another name is another lease.
        assert!(place.store.lease("other").unwrap().is_some());
        let other = other.get_or_insert_with(|| Part::new(&place.dir));
        assert_eq!(other.ask("take 0123456789abcdef"), "none");
        drop(lease);
    }
    assert_eq!(other.unwrap().ask("take 0123456789abcdef"), "held");
}

/// Waits for somebody who does not come to an end.
fn wait_in_vain(store: &FileStore) {
    let deadline = Instant::now() + Duration::from_millis(20);
    store.wait(NAME, deadline).unwrap();
    assert!(Instant::now() >= deadline, "the wait was over while the lease was held");
}

#[test]
fn processes_take_turns() {
    let place = Place::new();
    let mut parts: Vec<_> = (0..4).map(|_| Part::new(&place.dir)).collect();
    fs::write(place.path("count"), "0").unwrap();
    parts.iter_mut().for_each(|part| part.tell("count"));
    parts.iter_mut().for_each(|part| assert_eq!(part.answer(), "counted"));
    assert_eq!(fs::read_to_string(place.path("count")).unwrap(), "100");
    assert!(place.lease().is_some());
}

#[test]
fn a_killed_holder_frees_the_lease() {
    let place = Place::new();
    let mut holder = Part::new(&place.dir);
    assert_eq!(holder.ask("take 0123456789abcdef"), "held");
    assert!(place.lease().is_none());
    wait_in_vain(&place.store);
    assert!(place.lease().is_none(), "a wait freed it");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let deadline = late();
            place.store.wait(NAME, deadline).unwrap();
            assert!(Instant::now() < deadline);
        });
        holder.end_at_once();
        waiter.join().unwrap();
    });
    let lease = place.lease();
    assert!(lease.is_some());
    let mut other = Part::new(&place.dir);
    assert_eq!(other.ask("take 0123456789abcdef"), "none");
    drop(lease);
    place.store.wait(NAME, late()).unwrap();
    assert_eq!(other.ask("take 0123456789abcdef"), "held");
    assert_eq!(other.ask("free"), "freed");
    assert!(place.lease().is_some());
}

#[test]
fn a_child_neither_holds_nor_ends_its_parents_lease() {
    let place = Place::new();
    let mut parent = Part::new(&place.dir);
    assert_eq!(parent.ask("take 0123456789abcdef"), "held");
    // From here on the child answers, and the parent sleeps.
    assert_eq!(parent.ask("fork"), "child");
    assert_eq!(parent.ask("free"), "freed");
    assert!(place.lease().is_none(), "a child ended its parent's lease");
    assert_eq!(parent.ask("take 0123456789abcdef"), "none");
    assert_eq!(parent.ask("take other"), "held");
    parent.end_at_once();
    assert!(place.lease().is_some(), "a child holds its dead parent's lease");
    assert_eq!(parent.ask("take 0123456789abcdef"), "held");
    assert!(place.lease().is_none());
}

#[test]
fn a_child_that_keeps_its_copy_of_the_lease_does_not_hold_it() {
    let place = Place::new();
    let mut parent = Part::new(&place.dir);
    assert_eq!(parent.ask("take 0123456789abcdef"), "held");
    assert_eq!(parent.ask("fork"), "child");
    parent.end_at_once();
    assert!(place.lease().is_some());
    assert_eq!(parent.ask("live"), "alive");
}

#[test]
fn writers_killed_at_any_moment_leave_a_whole_entry() {
    let place = Place::new();
    for pause in 0..8 {
        let mut writer = Part::new(&place.dir);
        writer.tell("write");
        assert_eq!(writer.answer(), "writing");
        // At another moment of its work each time.
        std::thread::sleep(Duration::from_millis(pause));
        writer.end_at_once();
        let found = place.get().expect("it had written one");
        assert!(found.len() == 50_000 && found.iter().all(|byte| *byte == found[0]));
    }
}

#[test]
fn processes_agree_on_the_key() {
    let place = Place::new();
    let mut parts: Vec<_> = (0..8).map(|_| Part::new(&place.dir)).collect();
    let path = place.path("own.key");
    let mut key = Zeroizing::default();
    for _ in 0..40 {
        parts.iter_mut().for_each(|part| part.tell("key"));
        let keys: Vec<_> = parts.iter_mut().map(Part::answer).collect();
        key = place.store.own_key(late()).unwrap();
        assert!(keys.iter().all(|found| *found == format!("{key:?}")), "{keys:?}");
        assert_eq!(fs::read(&path).unwrap(), *key);
        fs::remove_file(&path).unwrap();
    }
    fs::write(&path, &key).unwrap();
    set_mode(&path, 0o600);
    assert_ne!(*Place::new().store.own_key(late()).unwrap(), *key);
    // It lasts.
    assert_eq!(FileStore::at(&place.dir).unwrap().own_key(late()).unwrap(), key);
}

#[test]
fn a_key_is_made_when_its_maker_was_killed() {
    let place = Place::new();
    let mut maker = Part::new(&place.dir);
    assert_eq!(maker.ask("take own.key"), "held");
    std::thread::scope(|scope| {
        let key = scope.spawn(|| place.store.own_key(late()));
        maker.end_at_once();
        key.join().unwrap().unwrap();
    });
}

#[test]
fn a_damaged_key_is_replaced_and_one_that_others_can_read_refused() {
    let place = Place::new();
    let path = place.path("own.key");
    let key = place.store.own_key(late()).unwrap();
    for damaged in [&key[..31], b"", &[1; 33]] {
        fs::write(&path, damaged).unwrap();
        let key = place.store.own_key(late()).unwrap();
        assert_eq!(key.len(), 32);
        assert!(key[..31] != damaged[..damaged.len().min(31)]);
        assert_eq!(fs::read(&path).unwrap(), *key);
    }
    for mode in [0o640, 0o604, 0o666] {
        set_mode(&path, mode);
        let trouble = place.store.own_key(late()).unwrap_err();
        assert!(trouble.is_of_settings() && trouble.to_string().contains("own.key"), "{trouble}");
    }
    set_mode(&path, 0o600);
    fs::rename(&path, place.path("moved")).unwrap();
    symlink("moved", &path).unwrap();
    assert!(place.store.own_key(late()).unwrap_err().is_of_settings());
}

#[test]
fn a_full_disk_costs_the_new_entry_alone() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("pgaad");
    fs::create_dir(&dir).unwrap();
    // A disk of its own, in a name space of its own: it goes with the process.
    let more: &[&str] = if directory::user() == 0 { &[] } else { &["--map-root-user"] };
    let unshare = || {
        let mut command = Command::new("unshare");
        command.arg("--mount").args(more);
        command
    };
    if !unshare().arg("true").status().is_ok_and(|status| status.success()) {
        return eprintln!("not tested: this machine lets nobody mount a disk");
    }
    let mut shell = unshare();
    let script = r#"mount -t tmpfs -o size=64k,mode=700 none "$PGAAD_TEST_DIR" && exec "$@""#;
    shell.args(["sh", "-c", script, "sh"]);
    assert_eq!(Part::within(shell, &dir).ask("fill"), "filled");
}

#[test]
fn a_limit_on_files_does_not_end_the_program() {
    let place = Place::new();
    place.put(b"old").unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -f 0 && exec "$@""#, "sh"]);
    let mut part = Part::within(shell, &place.dir);
    assert!(part.ask("put").contains("File too large"));
    assert_eq!(part.ask("live"), "alive");
    assert_eq!(place.get().as_deref(), Some(&b"old"[..]));
    assert_eq!(place.files(), ["0123456789abcdef.token"]);
}

#[test]
fn the_default_directory_is_where_caches_are() {
    let directory = |variables: &[(&str, &str)]| {
        let read = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        (default_directory(Environment::of(&read)), default_directory(Environment::of(&read).secure()))
    };
    let known = os::home_directory().map(|home| home.join(".cache/pgaad"));
    for (variables, expected) in [
        (&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")][..], Some("/x/pgaad".into())),
        (&[("XDG_CACHE_HOME", "/x")], Some("/x/pgaad".into())),
        (&[("XDG_CACHE_HOME", ""), ("HOME", "/h")], Some("/h/.cache/pgaad".into())),
        (&[("XDG_CACHE_HOME", "x"), ("HOME", "/h")], Some("/h/.cache/pgaad".into())),
        (&[("HOME", "/h")], Some("/h/.cache/pgaad".into())),
        (&[("HOME", "h")], known.clone()),
        (&[], known.clone()),
    ] {
        let (found, in_setuid) = directory(variables);
        assert_eq!(found.ok(), expected, "{variables:?}");
        assert_eq!(in_setuid.ok(), known, "{variables:?} of a setuid program");
    }
}

/// Another process: this very program, which does as it is told.
struct Part {
    child: Child,
    tell: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Part {
    fn new(dir: &Path) -> Self {
        Self::within(Command::new("env"), dir)
    }

    /// As an argument of that command.
    fn within(mut command: Command, dir: &Path) -> Self {
        let mut child = command
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "shared::file::tests::a_part", "--ignored", "--nocapture"])
            .env("PGAAD_TEST_DIR", dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut part = Self { child, tell, answers };
        assert_eq!(part.answer(), "ready");
        part
    }

    fn tell(&mut self, what: &str) {
        writeln!(self.tell.as_mut().unwrap(), "{what}").unwrap();
    }

    fn answer(&mut self) -> String {
        for line in self.answers.by_ref().lines() {
            if let Some(answer) = line.unwrap().strip_prefix("> ") {
                return answer.into();
            }
        }
        panic!("the other process ended");
    }

    fn ask(&mut self, what: &str) -> String {
        self.tell(what);
        self.answer()
    }

    /// By SIGKILL.
    fn end_at_once(&mut self) {
        let signalled = Command::new("kill").args(["-9", &self.child.id().to_string()]).status().unwrap();
        assert!(signalled.success());
        self.child.wait().unwrap();
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It, or its child, reads to the end and stops; a parent of its own that sleeps does not.
        self.tell = None;
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = Command::new("kill").args(["-9", &self.child.id().to_string()]).status();
            let _ = self.child.wait();
        }
    }
}

fn say(what: &str) {
    // On a line of its own, whatever the test runner prints.
    println!("\n> {what}");
}

#[test]
#[ignore = "other tests run it in other processes"]
fn a_part() {
    let Some(dir) = std::env::var_os("PGAAD_TEST_DIR").map(PathBuf::from) else { return };
    let store = FileStore::at(&dir).unwrap();
    let mut lease: Option<Box<dyn Session + '_>> = None;
    let mut is_child = false;
    say("ready");
    for line in std::io::stdin().lines() {
        match line.unwrap().as_str() {
            "free" => {
                drop(lease.take());
                say("freed");
            }
            "fork" if fork::fork() => {
                is_child = true;
                say("child");
            }
            "fork" => loop {
                std::thread::park();
            },
            "live" => say("alive"),
            "key" => say(&format!("{:?}", store.own_key(late()).unwrap())),
            "count" => {
                (0..25).for_each(|_| count(&store, &dir.join("count")));
                say("counted");
            }
            "write" => {
                store.put(NAME, &[0; 50_000]).unwrap();
                say("writing");
                for byte in (1..=u8::MAX).cycle() {
                    store.put(NAME, &[byte; 50_000]).unwrap();
                }
            }
            "put" => say(&store.put(NAME, b"new").unwrap_err().to_string()),
            "fill" => {
                fill(&store, &dir);
                say("filled");
            }
            take => {
                let name = take.strip_prefix("take ").unwrap();
                lease = store.lease(name).unwrap();
                say(if lease.is_some() { "held" } else { "none" });
            }
        }
    }
    if is_child {
        // The thread that waits for this one stayed with the parent.
        drop(Command::new("true").exec());
    }
}

/// Adds one to the number in a file, which goes wrong unless one does it at a time.
fn count(store: &FileStore, file: &Path) {
    let deadline = late();
    let _lease = loop {
        assert!(Instant::now() < deadline);
        match store.lease(NAME).unwrap() {
            Some(lease) => break lease,
            None => store.wait(NAME, deadline).unwrap(),
        }
    };
    let number: u32 = fs::read_to_string(file).unwrap().parse().unwrap();
    std::thread::yield_now();
    fs::write(file, (number + 1).to_string()).unwrap();
}

/// Works on a disk of 64 KiB.
fn fill(store: &FileStore, dir: &Path) {
    let (old, room) = (vec![1; 1000], 4096);
    store.put(NAME, &old).unwrap();
    let filler = dir.join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 1024]).is_ok() {}
    assert!(fs::metadata(&filler).unwrap().len() < 64 * 1024);
    // Not a byte fits; or some, but not all.
    for free in [0, room] {
        file.set_len(file.metadata().unwrap().len() - free).unwrap();
        let trouble = store.put(NAME, &[2; 20_000]).unwrap_err();
        assert!(!trouble.is_of_settings() && trouble.to_string().contains("No space left"), "{trouble}");
        assert_eq!(store.get(NAME).unwrap().as_deref(), Some(&old[..]));
        assert_eq!(files(dir), ["0123456789abcdef.token", "filler"]);
    }
    file.set_len(0).unwrap();
    let new = [2; 20_000];
    store.put(NAME, &new).unwrap();
    assert_eq!(store.get(NAME).unwrap().as_deref(), Some(&new[..]));
}
