//! With the libpq of this machine.

use super::*;

fn libpq() -> &'static Libpq {
    get(|_| None).unwrap()
}

fn arguments(pairs: &[(&str, &str)]) -> Arguments<'static> {
    let mut arguments = Arguments::new();
    for (keyword, value) in pairs {
        arguments.push(keyword.as_bytes(), value.as_bytes()).unwrap();
    }
    arguments
}

#[test]
fn libpq_is_found_and_says_what_it_knows() {
    let libpq = libpq();
    assert!(libpq.version() >= 120_000, "{}", libpq.version());
    assert!(libpq.path().contains("libpq"), "{}", libpq.path());
    assert!(libpq.knows("target_session_attrs") && !libpq.knows("nonsense") && !libpq.knows(""));
    assert!(std::ptr::eq(loaded(|_| None).unwrap().unwrap(), libpq));
}

#[test]
fn a_libpq_in_use_cannot_be_replaced() {
    let used = libpq();
    let error = name(&|_| ptr::null_mut()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().contains(used.path()), "{error}");
}

#[test]
fn a_libpq_without_a_function_is_refused_by_its_name() {
    let error = Libpq::new(&|_| ptr::null_mut(), "x.so".into()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Libpq);
    assert!(error.message().contains("x.so") && error.message().contains("PQlibVersion"), "{error}");
}

#[test]
fn resolving_merges_everything() {
    let options = [
        ("user", "early"),
        ("dbname", "postgresql://late@db.example:5433/app?sslmode=require"),
        ("password", "p w"),
        ("hostaddr", "203.0.113.1"),
        ("target_session_attrs", "read-write"),
    ];
    let Some(resolved) = libpq().resolve(&arguments(&options), true, &|_| true) else {
        panic!("not resolved")
    };
    let get = |keyword| resolved.options.get(keyword).map(|value| std::str::from_utf8(value).unwrap());
    assert_eq!(get("user"), Some("late"));
    assert_eq!(get("host"), Some("db.example"));
    assert_eq!(get("port"), Some("5433"));
    assert_eq!(get("dbname"), Some("app"));
    assert_eq!(get("sslmode"), Some("require"));
    assert_eq!(get("password"), Some("p w"));
    assert_eq!(resolved.password.as_ref().map(|password| password.as_slice()), Some(&b"p w"[..]));
}

#[test]
fn resolving_contacts_nobody() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let port = server.local_addr().unwrap().port().to_string();
    let options = arguments(&[("host", "127.0.0.1"), ("port", &port), ("user", "u")]);
    assert!(libpq().resolve(&options, false, &|_| true).is_some());
    assert_eq!(server.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_password_from_the_passfile_is_seen() {
    let path = std::env::temp_dir().join(format!("pgaad-passfile-{}", std::process::id()));
    std::fs::write(&path, "h1:*:*:*:from the file\n").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let options = [("host", "h1"), ("user", "u"), ("passfile", path.to_str().unwrap())];
    let resolved = libpq().resolve(&arguments(&options), false, &|_| true);
    std::fs::remove_file(path).unwrap();
    let Some(resolved) = resolved else { panic!("not resolved") };
    assert_eq!(resolved.password.as_ref().map(|password| password.as_slice()), Some(&b"from the file"[..]));
    assert_eq!(resolved.options.get("password"), None);
}

#[test]
fn what_libpq_refuses_is_told_apart() {
    let refused = |options: &[(&str, &str)]| libpq().resolve(&arguments(options), true, &|_| true).is_none();
    assert!(refused(&[("sslmode", "nonsense"), ("host", "h")]));
    assert!(refused(&[("nonsense", "1")]));
    assert!(refused(&[("dbname", "host='a")]));
    assert!(!refused(&[("host", "h"), ("port", "not looked at yet")]));
}

#[test]
fn a_failed_connection_carries_our_text() {
    let libpq = libpq();
    for text in ["", "pgaad", "pgaad: \u{20ac} \u{fc}", &"\u{e9}".repeat(950), &"x".repeat(100_000)] {
        let conn = libpq.failed(text).unwrap();
        assert_eq!(libpq.error_message(&conn), format!("{text}\n"));
        assert_eq!(libpq.status(&conn), BAD);
        assert!(libpq.password(&conn).is_none());
        assert_eq!(libpq.values(&conn, &|_| true).iter().count(), 0);
        libpq.finish(conn);
    }
    let conn = libpq.failed("a\0b").unwrap();
    assert_eq!(libpq.error_message(&conn), "a b\n");
    libpq.finish(conn);
}

#[test]
fn the_next_connection_at_the_address_is_not_ours() {
    let libpq = libpq();
    let mut finished = std::collections::HashSet::new();
    let mut reused = false;
    for _ in 0..5000 {
        let conn = libpq.failed("pgaad: no token").unwrap();
        libpq.attach(&conn, 5_u8);
        assert_eq!(libpq.note(&conn), Some(&5_u8));
        finished.insert(conn.as_raw());
        libpq.finish(conn);
        let conn = libpq.open_string(Way::Connect, c"nonsense").unwrap();
        reused = finished.contains(&conn.as_raw());
        assert_eq!((libpq.status(&conn), libpq.note::<u8>(&conn)), (BAD, None));
        libpq.finish(conn);
        if reused {
            break; // mostly at once; valgrind waits for long before it gives an address out again
        }
    }
    assert!(reused);
}

#[test]
fn parsing_is_libpqs_own() {
    let values = libpq().parse(c"host=a password='' user = b\\ c").unwrap();
    let all: Vec<_> = values.iter().map(|option| (option.keyword, option.value)).collect();
    assert_eq!(all, [("user", &b"b c"[..]), ("password", b""), ("host", b"a")]);
    assert!(libpq().parse(c"host").err().unwrap().contains("host"));
}

#[test]
fn connecting_to_nobody_is_libpqs_failure() {
    let libpq = libpq();
    let options = arguments(&[("host", "/nowhere"), ("user", "u")]);
    for conn in [libpq.open(Way::Connect, &options, false), libpq.open_string(Way::Connect, c"host=/nowhere")]
    {
        let conn = conn.unwrap();
        assert_eq!(libpq.status(&conn), BAD);
        assert!(libpq.error_message(&conn).contains("/nowhere"));
        libpq.finish(conn);
    }
}

#[test]
fn a_note_ends_with_its_connection() {
    let libpq = libpq();
    let note = std::rc::Rc::new(());
    for (conn, attached) in [(libpq.failed("pgaad: no token"), true), (libpq.failed("x"), false)] {
        let conn = conn.unwrap();
        if attached {
            libpq.attach(&conn, note.clone());
        }
        assert_eq!(libpq.note::<std::rc::Rc<()>>(&conn).is_some(), attached);
        assert_eq!(libpq.note::<u8>(&conn), None);
        libpq.finish(conn);
        assert_eq!(std::rc::Rc::strong_count(&note), 1);
    }
}

#[test]
fn another_password_takes_the_place_of_the_first_where_it_fits() {
    let libpq = libpq();
    let held = |conn: &Connection| libpq.password(conn).map(|held| held.to_vec());
    let options = arguments(&[("host", "/nowhere"), ("user", "u"), ("password", "twelve bytes")]);
    let conn = libpq.open(Way::Start, &options, false).unwrap();
    assert!(!libpq.put_password(&conn, b"no note yet"));
    libpq.attach(&conn, ());
    for (password, fits) in [
        (&b"thirteen more"[..], false),
        (b"other twelve", true),
        (b"short", true),
        (b"", false),
        (b"a\0b", false),
        (b"twelve again", true),
    ] {
        let before = held(&conn);
        assert_eq!(libpq.put_password(&conn, password), fits, "{password:?}");
        assert_eq!(held(&conn), if fits { Some(password.to_vec()) } else { before });
    }
    libpq.finish(conn);
    // Without a password there is no place for one.
    let conn = libpq.failed("x").unwrap();
    libpq.attach(&conn, ());
    assert!(!libpq.put_password(&conn, b"") && !libpq.put_password(&conn, b"t"));
    libpq.finish(conn);
}
