//! `pgaad passfile`: files that others read, with tokens that are always fresh.

use std::fs::{self, Permissions};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use emulator::{APP_ONE, Emulator, Fault, PATIENCE, Postgres};

use crate::exec::{Home, at_server, end_of, short_lived};
use crate::harness::{Driver, Pairs, each, is_root, signed_in, unix_now, wait_until};
use crate::process::Process;

/// Starts the command for this file.
fn passfile(home: &Home, driver: &Driver, file: &Path, options: &[&str]) -> Process {
    let file = file.to_str().expect("a path");
    let driver = home.pgaad(driver.clone());
    Process::start(driver.command(&[&[&["passfile", file, "--conninfo", ""], options].concat()]))
}

fn file_in(home: &Home) -> PathBuf {
    let dir = home.path().join("files");
    fs::create_dir_all(&dir).expect("a folder");
    dir.join("pgpass")
}

/// Writes a file that is its user's alone.
fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("its mode");
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The names in the file's directory.
fn beside(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path.parent().expect("a folder")).expect("our own");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The line of the server that `at_server` names.
fn line(token: &str) -> String {
    format!("localhost:5433:*:app-one:{token}\n")
}

fn newest(emulator: &Emulator) -> String {
    emulator.entra().tokens().pop().expect("a token")
}

#[test]
fn psql_signs_in_by_the_file() {
    let emulator = Emulator::start();
    let postgres = Postgres::start(&emulator);
    let home = Home::new();
    let file = file_in(&home);
    let driver = signed_in(&emulator).envs(postgres.env(APP_ONE.role));
    assert_eq!(passfile(&home, &driver, &file, &[]).end().output(), "");
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o7777, 0o600);
    assert_eq!(beside(&file), ["pgpass"]);
    let psql =
        driver.env("PGPASSFILE", &file).env("PGSSLMODE", "verify-full").instead("/usr/bin/psql".into());
    let ended = Process::start(psql.command(&[&["-XwAtc", "select current_user"]])).end();
    assert_eq!(ended.output(), "app-one\n");
}

#[test]
fn only_our_lines_are_replaced() {
    let emulator = Emulator::start();
    let home = Home::new();
    let file = file_in(&home);
    let others = "# mine\r\n\\local\\host:5433:*:app-one:old\r\n*:*:*:*:secret";
    write(&file, others);
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("its mode");
    let two = ["--conninfo", "host=a.postgres.database.azure.com,127.0.0.1 port=1,2 user=x:y"];
    assert_eq!(passfile(&home, &at_server(&emulator), &file, &two).end().output(), "");
    let token = newest(&emulator);
    let new = format!(
        "a.postgres.database.azure.com:1:*:x\\:y:{token}\r\n127.0.0.1:2:*:x\\:y:{token}\r\n{}",
        others.replace("\\local\\host:5433:*:app-one:old", line(&token).trim_end())
    );
    assert_eq!(read(&file), new);
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o7777, 0o600);
    // One that nobody names is any: an application's token holds no name. Those who are named keep their lines.
    let nameless = at_server(&emulator).without("PGUSER");
    assert_eq!(passfile(&home, &nameless, &file, &[]).end().output(), "");
    let named = line(&token).replace('\n', "\r\n");
    let any = format!("{named}localhost:5433:*:*:{}\r\n", newest(&emulator));
    assert_eq!(read(&file), new.replace(&named, &any));
}

#[test]
fn a_file_that_others_could_have_a_hand_in_is_refused() {
    let emulator = Emulator::start();
    let old = "localhost:5433:*:app-one:old\n";
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
    type Prepare<'a> = Box<dyn Fn(&Path) -> PathBuf + Sync + 'a>;
    let with = |prepare: fn(&Path)| -> Prepare<'_> {
        Box::new(move |file| {
            write(file, old);
            prepare(file);
            file.to_path_buf()
        })
    };
    let mut rows: Vec<(&str, Prepare<'_>)> = vec![
        (
            "symbolic link",
            with(|file| {
                fs::rename(file, file.with_extension("real")).expect("a name");
                symlink(file.with_extension("real"), file).expect("a link");
            }),
        ),
        ("hard links", with(|file| fs::hard_link(file, file.with_extension("two")).expect("a link"))),
        (
            "directory",
            Box::new(|file| {
                fs::create_dir(file).expect("a folder");
                file.to_path_buf()
            }),
        ),
        ("directory", Box::new(|file| file.join(""))),
        (
            "no plain file",
            Box::new(|file| {
                assert!(Command::new("mkfifo").arg(file).status().is_ok_and(|status| status.success()));
                file.to_path_buf()
            }),
        ),
        (
            "chmod 600",
            Box::new(move |file| {
                write(file, old);
                mode(file, 0o620);
                file.to_path_buf()
            }),
        ),
        (
            "chmod 600",
            Box::new(move |file| {
                write(file, old);
                mode(file, 0o602);
                file.to_path_buf()
            }),
        ),
        (
            "chmod go-w",
            Box::new(move |file| {
                write(file, old);
                mode(file.parent().expect("a folder"), 0o777);
                file.to_path_buf()
            }),
        ),
        (
            "chmod go-w",
            Box::new(move |file| {
                mode(file.parent().expect("a folder"), 0o770);
                file.to_path_buf()
            }),
        ),
        ("No such file", Box::new(|file| file.with_extension("d").join("pgpass"))),
        (
            "Not a directory",
            Box::new(move |file| {
                write(file, old);
                file.join("pgpass")
            }),
        ),
    ];
    if is_root() {
        rows.push(("another user", with(|file| chown(file, Some(65534), None).expect("an owner"))));
        rows.push((
            "another user",
            with(|file| {
                chown(file.parent().expect("a folder"), Some(65534), None).expect("an owner");
            }),
        ));
    }
    each(&rows, |(words, prepare)| {
        let home = Home::new();
        let file = file_in(&home);
        let named = prepare(&file);
        // Not from a pipe, which would wait for somebody who writes.
        let about = || (beside(&file), file.is_file().then(|| read(&file)));
        let before = about();
        for options in [&[][..], &["--watch"][..]] {
            let ended = passfile(&home, &at_server(&emulator), &named, options).end();
            assert!(ended.message(2).contains(words), "{words}: {ended:?}");
        }
        assert_eq!(about(), before, "{words}");
    });
    assert_eq!(emulator.entra().requests().len(), 0);
    // In a directory for all, each has their own files.
    let home = Home::new();
    let file = file_in(&home);
    mode(file.parent().expect("a folder"), 0o1777);
    assert_eq!(passfile(&home, &at_server(&emulator), &file, &[]).end().output(), "");
    assert_eq!(read(&file), line(&newest(&emulator)));
}

#[test]
fn a_link_to_the_directory_is_followed() {
    let emulator = Emulator::start();
    let home = Home::new();
    let file = file_in(&home);
    let link = home.path().join("link");
    symlink(file.parent().expect("a folder"), &link).expect("a link");
    assert_eq!(passfile(&home, &at_server(&emulator), &link.join("pgpass"), &[]).end().output(), "");
    assert_eq!(read(&file), line(&newest(&emulator)));
    // And a name alone is one of the current directory.
    let driver = home.pgaad(at_server(&emulator)).in_dir(file.parent().expect("a folder"));
    let ended = Process::start(driver.command(&[&["passfile", "other", "--conninfo", ""]])).end();
    assert_eq!(ended.output(), "");
    assert_eq!(beside(&file), ["other", "pgpass"]);
}

#[test]
fn what_cannot_be_written_leaves_the_old_file() {
    let emulator = Emulator::start();
    let old = "localhost:5433:*:app-one:old\n";
    let mut rows = vec![("File too large", "ulimit -f 1; exec \"$@\"", false)];
    if is_root() {
        let full = "mount -t tmpfs -o size=8k,mode=700 full $DIR && cp $OLD $DIR/pgpass && \
                    { head -c 9000 /dev/zero >$DIR/x; \"$@\"; code=$?; cat $DIR/pgpass; ls -A $DIR; exit $code; }";
        let read_only = "mount -t tmpfs none $DIR && cp $OLD $DIR/pgpass && mount -o remount,ro $DIR && \
                         { \"$@\"; code=$?; cat $DIR/pgpass; ls -A $DIR; exit $code; }";
        rows.push(("No space left", full, true));
        rows.push(("Read-only file system", read_only, true));
    }
    each(&rows, |(words, script, is_mounted)| {
        let home = Home::new();
        let file = file_in(&home);
        write(&file, old);
        let kept = home.path().join("old");
        write(&kept, old);
        let driver = at_server(&emulator).env("DIR", file.parent().expect("a folder")).env("OLD", kept);
        let driver = match is_mounted {
            true => driver.under(&["unshare", "--mount", "sh", "-c", &format!("umask 077; {script}"), "sh"]),
            false => driver.under(&["sh", "-c", script, "sh"]),
        };
        let ended = passfile(&home, &driver, &file, &[]).end();
        let message = ended.err.lines().find(|line| line.starts_with("pgaad: ")).unwrap_or_default();
        assert!(ended.code() == Some(2) && message.contains(words), "{words}: {ended:?}");
        assert_eq!(read(&file), old);
        assert_eq!(beside(&file), ["pgpass"]);
        if *is_mounted {
            let names = if *words == "No space left" { "pgpass\nx\n" } else { "pgpass\n" };
            assert_eq!(ended.out, format!("{old}{names}"), "{words}");
        }
    });
}

/// Where systemd would listen.
struct Systemd(UnixDatagram);

impl Systemd {
    /// The next message with this beginning.
    #[track_caller]
    fn next(&self, beginning: &str) -> String {
        self.0.set_read_timeout(Some(PATIENCE)).expect("a socket");
        loop {
            let mut bytes = [0; 8192];
            let length = self.0.recv(&mut bytes).unwrap_or_else(|error| panic!("no {beginning}: {error}"));
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text.starts_with(beginning) {
                return text;
            }
        }
    }
}

#[test]
fn a_watched_file_is_renewed_and_what_others_wrote_meanwhile_kept() {
    let emulator = short_lived(4);
    let home = Home::new();
    let file = file_in(&home);
    let socket = home.path().join("notify");
    let systemd = Systemd(UnixDatagram::bind(&socket).expect("a socket"));
    let driver = at_server(&emulator).env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "100000");
    let watch = passfile(&home, &driver, &file, &["--watch"]);
    assert_eq!(systemd.next("READY"), "READY=1");
    let first = emulator.entra().tokens()[0].clone();
    assert!(read(&file).starts_with("localhost:5433:*:app-one:ey"));
    // As an editor does it.
    let new = file.with_extension("edited");
    write(&new, &format!("# theirs\n{}other:1:d:u:p", line(&first)));
    fs::rename(&new, &file).expect("its name");
    wait_until("a newer token", || !read(&file).contains(&first) && read(&file).contains(":ey"));
    let held = read(&file);
    assert!(
        held.starts_with("# theirs\nlocalhost:5433:*:app-one:ey") && held.ends_with("\nother:1:d:u:p"),
        "{held}"
    );
    wait_until("the first has ended", || unix_now() > end_of(&first));
    assert_eq!(systemd.next("WATCHDOG"), "WATCHDOG=1");
    let status = systemd.next("STATUS=");
    assert!(status.contains("good until") && !status.contains("ey"), "{status}");
    watch.signal(libc::SIGTERM);
    assert!(systemd.next("STOPPING").starts_with("STOPPING=1"));
    assert_eq!(watch.end().output(), "");
    assert_eq!(beside(&file), ["pgpass"]);
    assert!(emulator.entra().tokens().iter().any(|token| read(&file).contains(token)), "the file stays");
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o7777, 0o600);
}

#[test]
fn systemd_may_listen_at_an_abstract_name_and_is_told_nothing_early() {
    let emulator = Emulator::start();
    let home = Home::new();
    let file = file_in(&home);
    let name = format!("pgaad-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let systemd = Systemd(UnixDatagram::bind_addr(&address).expect("a socket"));
    let driver = at_server(&emulator).env("NOTIFY_SOCKET", format!("@{name}"));
    emulator.entra().faults().next(Fault::status(401, "invalid_client", 7000215));
    assert!(passfile(&home, &driver, &file, &["--watch"]).end().message(5).contains("AADSTS7000215"));
    systemd.0.set_nonblocking(true).expect("a socket");
    assert!(systemd.0.recv(&mut [0; 16]).is_err(), "nothing is ready");
    systemd.0.set_nonblocking(false).expect("a socket");
    let watch = passfile(&home, &driver, &file, &["--watch"]);
    systemd.next("READY=1");
    watch.signal(libc::SIGINT);
    assert_eq!(watch.end().output(), "");
}

#[test]
fn a_watch_that_never_had_a_token_touches_nothing() {
    let emulator = Emulator::start();
    emulator.entra().faults().always(Fault::status(401, "invalid_client", 7000215));
    let home = Home::new();
    let file = file_in(&home);
    write(&file, "mine");
    let about = || {
        let about = fs::metadata(&file).expect("a file");
        (about.ino(), about.mtime_nsec(), read(&file), beside(&file))
    };
    let before = about();
    for options in [&[][..], &["--watch"][..]] {
        assert!(
            passfile(&home, &at_server(&emulator), &file, options).end().message(5).contains("AADSTS7000215")
        );
        assert_eq!(about(), before);
    }
}

#[test]
fn a_file_that_somebody_removes_or_sets_back_is_put_right() {
    let emulator = Emulator::start();
    let home = Home::new();
    let file = file_in(&home);
    let watch = passfile(&home, &at_server(&emulator), &file, &["--watch"]);
    wait_until("the file is there", || file.exists());
    let held = line(&newest(&emulator));
    fs::remove_file(&file).expect("ours");
    wait_until("it is there again", || read(&file) == held);
    write(&file, "# theirs\nlocalhost:5433:*:app-one:old\n");
    wait_until("the token is there again", || read(&file) == format!("# theirs\n{held}"));
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("its mode");
    wait_until("it is its user's alone", || {
        fs::metadata(&file).is_ok_and(|found| found.mode() & 0o777 == 0o600)
    });
    watch.signal(libc::SIGTERM);
    assert_eq!(watch.end().output(), "");
    assert_eq!(emulator.entra().tokens().len(), 1);
}

#[test]
fn no_image_of_its_memory_is_left() {
    let emulator = Emulator::start();
    for signal in [libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS] {
        let home = Home::new();
        let file = file_in(&home);
        let driver = at_server(&emulator).env("HERE", home.path());
        let driver = driver.under(&["sh", "-c", "cd $HERE; ulimit -c unlimited; exec \"$@\"", "sh"]);
        let watch = passfile(&home, &driver, &file, &["--watch"]);
        wait_until("the file is there", || file.exists());
        watch.signal(signal);
        let ended = watch.end();
        assert_eq!((ended.signal(), ended.status.core_dumped()), (Some(signal), false));
    }
}

#[test]
fn one_file_has_one_watcher() {
    let emulator = Emulator::start();
    let home = Home::new();
    let file = file_in(&home);
    let driver = at_server(&emulator);
    let started = || {
        let _ = fs::remove_file(&file);
        let watch = passfile(&home, &driver, &file, &["--watch"]);
        wait_until("the file is there", || file.exists());
        watch
    };
    let first = started();
    let requests = emulator.entra().requests().len();
    let held = read(&file);
    for options in [&[][..], &["--watch"][..], &["--format", "userlist"][..]] {
        let ended = passfile(&home, &driver, &file, options).end();
        assert!(ended.message(2).contains(&format!("process {}", first.id())), "{ended:?}");
    }
    assert_eq!(emulator.entra().requests().len(), requests, "refused before anything is asked for");
    assert_eq!(read(&file), held);
    // Another file is another's.
    assert_eq!(passfile(&home, &driver, &file.with_extension("other"), &[]).end().output(), "");
    // One that was killed is in nobody's way.
    first.signal(libc::SIGKILL);
    first.end();
    let second = started();
    for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
        let watch = if signal == libc::SIGHUP { None } else { Some(started()) };
        let watch = watch.as_ref().unwrap_or(&second);
        watch.signal(signal);
        wait_until("it lets go of the file", || beside(&file) == ["pgpass", "pgpass.other"]);
    }
    assert_eq!(second.end().output(), "");
}

#[test]
fn a_watch_that_is_to_outlive_its_terminal_does() {
    let emulator = short_lived(4);
    let home = Home::new();
    let file = file_in(&home);
    let watch =
        passfile(&home, &at_server(&emulator).under(&["env", "--ignore-signal=HUP"]), &file, &["--watch"]);
    wait_until("the file is there", || file.exists());
    watch.signal(libc::SIGHUP);
    let before = read(&file);
    wait_until("it is renewed", || read(&file) != before);
    watch.signal(libc::SIGTERM);
    assert_eq!(watch.end().output(), "");
}

#[test]
fn an_outage_is_said_and_the_living_token_stays() {
    let emulator = short_lived(6);
    let home = Home::new();
    let file = file_in(&home);
    let socket = home.path().join("notify");
    let systemd = Systemd(UnixDatagram::bind(&socket).expect("a socket"));
    let driver = at_server(&emulator).env("NOTIFY_SOCKET", &socket);
    let watch = passfile(&home, &driver, &file, &["--watch"]);
    systemd.next("READY=1");
    let first = newest(&emulator);
    emulator.entra().faults().always(Fault::status(401, "invalid_client", 7000215));
    for words in ["could not be renewed", "has expired"] {
        let status = systemd.next("STATUS=The token ");
        assert!(status.contains(words) && status.contains("AADSTS7000215"), "{status}");
        assert_eq!(read(&file), line(&first));
    }
    emulator.entra().faults().clear();
    assert_eq!(systemd.next("STATUS=The token "), "STATUS=The token is renewed again.");
    assert_ne!(read(&file), line(&first));
    watch.signal(libc::SIGTERM);
    let ended = watch.end();
    assert_eq!(ended.err.lines().count(), 3, "{ended:?}");
    assert!(!emulator.entra().tokens().iter().any(|token| ended.err.contains(token)));
}

#[test]
fn a_file_that_becomes_unfit_is_said_and_taken_up_again() {
    let emulator = short_lived(4);
    let home = Home::new();
    let file = file_in(&home);
    let watch = passfile(&home, &at_server(&emulator), &file, &["--watch"]);
    wait_until("the file is there", || file.exists());
    fs::remove_file(&file).expect("our own file");
    fs::create_dir(&file).expect("a folder");
    watch.wait_for_err("could not be written");
    assert!(watch.err().contains("it is a directory"), "{}", watch.err());
    fs::remove_dir(&file).expect("our own folder");
    watch.wait_for_err("written again");
    assert!(read(&file).starts_with("localhost:5433:*:app-one:ey"));
    watch.signal(libc::SIGTERM);
    assert_eq!(watch.end().err.lines().count(), 2);
}

/// A program that says when it is to reload, and its pidfile.
fn reloader(home: &Home, pidfile: &Path) -> Process {
    let mut command = Command::new("sh");
    let script = "trap 'echo reload' HUP; echo $$ >\"$0.new\"; mv \"$0.new\" \"$0\"; while :; do sleep 0.05 & wait $!; done";
    command.args(["-c", script]).arg(pidfile).current_dir(home.path());
    let program = Process::start(command);
    wait_until("its pidfile", || pidfile.exists());
    program
}

#[test]
fn pgbouncers_file_is_written_and_its_program_told() {
    let emulator = short_lived(4);
    let home = Home::new();
    let file = file_in(&home);
    write(&file, "\"other\" \"md5x\"\n\"a \"\"b\" \"old\"\n");
    let pidfile = home.path().join("pid");
    let driver = at_server(&emulator).env("PGUSER", "a \"b");
    let options = ["--format=userlist", "--reload", pidfile.to_str().expect("a path")];
    // Nobody is there to be told: the file is written all the same.
    let ended = passfile(&home, &driver, &file, &options).end();
    assert!(ended.message(2).contains("pidfile cannot be read"), "{ended:?}");
    let held = |token: &str| format!("\"other\" \"md5x\"\n\"a \"\"b\" \"{token}\"\n");
    assert_eq!(read(&file), held(&newest(&emulator)));
    for (text, words) in [
        ("", "no process id"),
        ("0\n", "no process id"),
        ("-1\n", "no process id"),
        ("1\n", "no process id"),
        ("4194304\n", "cannot be signalled"),
    ] {
        fs::write(&pidfile, text).expect("a file");
        let ended = passfile(&home, &driver, &file, &options).end();
        assert!(ended.message(2).contains(words), "{text}: {ended:?}");
    }
    fs::set_permissions(&pidfile, Permissions::from_mode(0o666)).expect("its mode");
    let ended = passfile(&home, &driver, &file, &options).end();
    assert!(ended.message(2).contains("written to by others"), "{ended:?}");
    fs::remove_file(&pidfile).expect("our own file");
    let watch = passfile(&home, &driver, &file, &[&options[..], &["--watch"]].concat());
    watch.wait_for_err("was not told");
    let program = reloader(&home, &pidfile);
    for _ in 0..2 {
        let before = (read(&file), program.out().len());
        wait_until("it is told of a new token", || read(&file) != before.0 && program.out().len() > before.1);
    }
    assert!(emulator.entra().tokens().iter().any(|token| read(&file) == held(token)));
    watch.signal(libc::SIGTERM);
    assert_eq!(watch.end().err.lines().count(), 1);
    let before = program.out();
    let ended = passfile(&home, &driver, &file, &options).end();
    assert_eq!(ended.output(), "");
    wait_until("it is told once more", || program.out() == format!("{before}reload\n"));
}

#[test]
fn a_token_too_long_for_pgbouncer_is_said() {
    let emulator = Emulator::start();
    emulator.entra().configure(|config| config.token_size = 2048);
    let home = Home::new();
    let file = file_in(&home);
    write(&file, "\"other\" \"x\"");
    let ended = passfile(&home, &at_server(&emulator), &file, &["--format=userlist"]).end();
    assert!(ended.message(0).contains("2047"), "{ended:?}");
    // It may end the file for some, so that it is the last.
    assert_eq!(read(&file), format!("\"other\" \"x\"\n\"app-one\" \"{}\"\n", newest(&emulator)));
    assert_eq!(passfile(&home, &at_server(&emulator), &file_in(&home), &[]).end().output(), "");
}

#[test]
fn what_makes_no_line_is_refused() {
    let emulator = Emulator::start();
    let home = Home::new();
    let file = file_in(&home);
    type Row<'a> = (&'a [&'a str], Pairs<'a>, i32, &'a str);
    let rows: &[Row<'_>] = &[
        (&[], &[("PGAAD_AUTH", "off")], 2, "auth=off"),
        (&[], &[("PGPASSWORD", "p"), ("PGHOST", "127.0.0.1")], 2, "a password is at hand"),
        (&[], &[("PGHOST", "")], 2, "no host is named"),
        (&["--conninfo", "host=elsewhere.example"], &[], 10, "elsewhere.example"),
        (&["--conninfo", "sslmode=disable"], &[], 10, "sslmode=disable"),
        (&["--conninfo", "user='a\nb'"], &[], 2, "line break"),
        (&["--format=userlist", "--conninfo", "user='a\nb'"], &[], 2, "line break"),
        (&["--format=userlist"], &[("PGUSER", "")], 2, "PGUSER"),
    ];
    each(rows, |(options, variables, code, words)| {
        let driver =
            variables.iter().fold(at_server(&emulator), |driver, (name, value)| driver.env(*name, *value));
        let ended = passfile(&home, &driver, &file, options).end();
        assert!(ended.message(*code).contains(words), "{words}: {ended:?}");
    });
    assert_eq!(beside(&file), <[&str; 0]>::default());
}

#[test]
fn the_sample_unit_is_one_that_systemd_takes() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pgaad-passfile.service");
    let text = read(&unit);
    for words in ["Type=notify", "--watch", "NoNewPrivileges=yes", "ProtectSystem=strict"] {
        assert!(text.contains(words), "{words}");
    }
    // Without it there is nothing to ask.
    if let Ok(done) = Command::new("systemd-analyze").arg("--version").output()
        && done.status.success()
    {
        let home = Home::new();
        let here = home.path().join("pgaad-passfile.service");
        // The command is not installed while it is tested.
        fs::write(&here, text.replace("/usr/bin/pgaad", "/bin/true")).expect("a file");
        let verified = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&here)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&verified.stderr);
        let ours = said.lines().filter(|line| line.contains("pgaad-passfile")).count();
        assert!(verified.status.success() && ours == 0, "{said}");
    }
}
