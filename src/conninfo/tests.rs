//! Cases measured with real libpqs (15 to 19), and what the measured cases leave out.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use super::*;

const V15: i32 = 150018;
const V18: i32 = 180006;

fn no_env(_: &str) -> Option<Vec<u8>> {
    None
}

fn given(conninfo: &str) -> Options {
    parse(conninfo.as_bytes(), V18).unwrap()
}

fn message(input: &str) -> String {
    parse(input.as_bytes(), V18).unwrap_err().message().to_owned()
}

/// The word that libpq refuses as unknown, where it is one that we leave to libpq.
fn unknown_word(error: &str) -> Option<&str> {
    let rest = error
        .strip_prefix("invalid connection option \"")
        .or_else(|| error.strip_prefix("invalid URI query parameter: \""))?;
    rest.strip_suffix('"').filter(|word| is_word(word.as_bytes()))
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn check(id: &str, input: &str, expected: &Value, version: i32) {
    let result = parse_as_libpq(input.as_bytes(), version);
    if let Some(error) = expected["error"].as_str() {
        match (unknown_word(error), result) {
            (Some(word), Ok(options)) => assert!(options.contains(word), "{id} {version}"),
            (None, Err(ours)) => assert_eq!(ours.libpq_text(), error, "{id} {version}"),
            _ => panic!("{id} {version}: libpq says {error}"),
        }
        return;
    }
    let options = result.unwrap_or_else(|error| panic!("{id} {version}: {}", error.libpq_text()));
    let text = expected["options"].as_object().unwrap().iter();
    let mut wanted: Vec<(&[u8], Vec<u8>)> =
        text.map(|(keyword, value)| (keyword.as_bytes(), value.as_str().unwrap().into())).collect();
    for (keyword, value) in expected["options_hex"].as_object().into_iter().flatten() {
        wanted.push((keyword.as_bytes(), hex(value.as_str().unwrap())));
    }
    let mut ours: Vec<(&[u8], Vec<u8>)> =
        options.iter().map(|(keyword, value)| (keyword, value.to_vec())).collect();
    wanted.sort();
    ours.sort();
    assert_eq!(ours, wanted, "{id} {version}");
    assert!(parse(&options.to_conninfo(), version).unwrap() == options, "{id} {version}");
}

#[test]
fn every_measured_case_in_every_version() {
    let file: Value = serde_json::from_str(include_str!("../../tests/data/conninfo_cases.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 195);
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let input = case["input"].as_str().unwrap();
        check(id, input, case, V18);
        for (major, version) in [("15", V15), ("16", 160002), ("17", 170012), ("19", 190000)] {
            let other = &case["other_versions"][major];
            // An entry can also differ in what is printed after the defaults are in, which is not parsing.
            let differs = other.get("options").or(other.get("error")).is_some();
            check(id, input, if differs { other } else { case }, version);
        }
    }
}

/// Seeded, so that a failure comes back (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    fn value(&mut self) -> Vec<u8> {
        const HOSTILE: &[u8] = b"''\\\\== \t\n\r\x0b\x0c%&?@:/,[]ax\x01\x7f\x80\xa0\xff";
        let length = if self.below(1000) == 0 { 65536 } else { self.below(12) };
        let any_byte = self.below(4) == 0;
        (0..length)
            .map(|_| if any_byte { self.below(255) as u8 + 1 } else { HOSTILE[self.below(HOSTILE.len())] })
            .collect()
    }
}

#[test]
fn what_is_written_is_read_back() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let names: Vec<&str> = keywords().map(|known| known.name).chain(["not_ours", "X9"]).collect();
    for _ in 0..20_000 {
        let mut options = Options::default();
        for _ in 0..random.below(4) {
            options.set(names[random.below(names.len())], random.value());
        }
        let conninfo = options.to_conninfo();
        let back = parse(&conninfo, V18).unwrap();
        assert!(back == options && back.iter().eq(options.iter()), "{}", conninfo.escape_ascii());
    }
}

#[test]
fn megabytes_are_read_in_linear_time() {
    let repeat = |unit: &str| unit.repeat(5_000_000 / unit.len());
    let distinct: String = (0..600_000).map(|n| format!("k{n}=1 ")).collect();
    let inputs = [
        format!("password='{}'", repeat("\\'")),
        format!("password={}", repeat("\\\\")),
        repeat("a=1 "),
        repeat("password='xyz' "),
        repeat(" "),
        repeat("a"),
        distinct,
        format!("postgresql://{}", repeat("h:1,")),
        format!("postgresql://{}", repeat("[::1],")),
        format!("postgresql://u:{}@h", repeat("%41")),
        format!("postgresql://h/?{}", repeat("host=%41&")),
        format!("postgresql://h/?{}", repeat("a= ")),
        format!("postgresql://{}", repeat("[")),
    ];
    let start = Instant::now();
    for input in &inputs {
        let _ = parse(input.as_bytes(), V18);
    }
    // Seconds even in a debug build under load; anything quadratic would take hours.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn setting_replaces_in_place() {
    let mut options = given("host=a user=b port=1");
    options.set("user", "c");
    options.set("dbname", "");
    assert_eq!(options.to_conninfo(), b"host='a' user='c' port='1' dbname=''");
    assert_eq!(options.remove("host").as_deref(), Some(&b"a"[..]));
    assert_eq!(options.get("host"), None);
    assert_eq!(options.get("dbname"), Some(&b""[..]));
    assert!(options.contains("dbname") && !options.is_empty() && Options::default().is_empty());
}

#[test]
fn debugging_prints_no_value() {
    let options = given("password=hunter2 user=u");
    assert_eq!(format!("{options:?}"), "Options(2)");
    let effective = resolve(&options, None, &no_env, V15, &|_| None);
    assert!(!format!("{effective:?}").contains("hunter2"));
}

#[test]
fn a_keyword_that_is_no_word_is_refused() {
    // Written to a string, this one would name another host.
    assert!(parse(b"postgresql://h/?x%3D1%20host=evil", V18).is_err());
    // And this one would turn the string into a URI.
    assert!(parse(b" postgresql://evil/?x=1", V18).is_err());
    assert!(from_arrays(&[(b"x=1 host", Some(b"evil"))], false, V18).is_err());
    assert!(from_arrays(&[(b"x=1 host", Some(b"")), (b"", None)], false, V18).unwrap().is_empty());
    assert!(parse(b"host=a\0b", V18).is_err());
}

#[test]
fn a_message_names_the_cause() {
    let read = |rest| format!("The connection string cannot be read: {rest}.");
    assert_eq!(message("user='a"), read("unterminated quoted string in connection info string"));
    assert_eq!(message("host=h port"), read("missing \"=\" after \"port\" in connection info string"));
    assert_eq!(
        message("host=h mydb"),
        read(
            "missing \"=\" after the word at byte 8 in connection info string \
             (a value with blanks needs single quotes)"
        )
    );
    assert_eq!(
        message("postgres://h/?password=a%2"),
        read("invalid percent-encoded token in \"password\" (a percent sign itself is written %25)")
    );
    assert_eq!(
        message("postgres://[::1]z"),
        read("unexpected character at position 17 in URI (expected \":\" or \"/\")")
    );
}

#[test]
fn a_message_holds_no_piece_of_a_password() {
    let inputs = [
        "SECRET",
        "host=h password=a SECRET",
        "host=h password=a SECRET=! b",
        "host=h password=a !SECRET=b",
        "password='a''SECRET'",
        "password=\"a SECRET\"",
        "password='SECRET",
        "postgresql://u:SECRET@[::1/db",
        "postgresql://u:SECRET@[]/db",
        "postgresql://u:SECRET@[::1]SECRET/db",
        "postgresql://u:SECRET%@h/db",
        "postgresql://u:SECRET%00@h/db",
        "postgresql://u:SECRET SECRET@h/db",
        "postgresql://u:a/SECRET%@h/db",
        "postgresql://u:a@SECRET%@h/db",
        "postgresql://h/?password=a&SECRET",
        "postgresql://h/?password=a&SECRET=b=c",
        "postgresql://h/?password=a&!SECRET=c",
        "postgresql://h/?password=a&SECRET%=c",
        "postgresql://h/?password=SECRET%zz",
        "Postgresql://u:SECRET@h/db",
    ];
    for input in inputs {
        let error = parse(input.as_bytes(), V18).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("SECRET"), "{input}: {error}");
    }
}

fn arrays(pairs: &[(&str, Option<&str>)], expand: bool) -> String {
    let pairs: Vec<(&[u8], Option<&[u8]>)> =
        pairs.iter().map(|(keyword, value)| (keyword.as_bytes(), value.map(str::as_bytes))).collect();
    match from_arrays(&pairs, expand, V15) {
        Ok(options) => String::from_utf8(options.to_conninfo()).unwrap(),
        Err(error) => error.message().to_owned(),
    }
}

#[test]
fn arrays_follow_the_rules_of_libpq() {
    assert_eq!(arrays(&[("host", Some("a")), ("host", None), ("host", Some(""))], false), "host='a'");
    assert_eq!(arrays(&[("bogus", Some("")), ("host", Some("a")), ("host", Some("b"))], true), "host='b'");
    assert_eq!(arrays(&[("dbname", Some("host=a"))], false), "dbname='host=a'");
    assert_eq!(arrays(&[("dbname", Some("mydb"))], true), "dbname='mydb'");
    assert_eq!(
        arrays(&[("user", Some("x")), ("dbname", Some("user=y port=1")), ("port", Some("2"))], true),
        "user='y' port='2'"
    );
    assert_eq!(arrays(&[("dbname", None), ("dbname", Some("postgres://h"))], true), "host='h'");
    assert_eq!(
        arrays(&[("dbname", Some("host=a")), ("dbname", Some("host=b"))], true),
        "host='a' dbname='host=b'"
    );
    assert_eq!(arrays(&[("dbname", Some("")), ("dbname", Some("host=b"))], true), "dbname='host=b'");
    assert_eq!(
        arrays(&[("password", Some("p")), ("dbname", Some("password='' x=1"))], true),
        "password='' x='1'"
    );
    assert!(arrays(&[("requiressl", Some("0"))], true).contains("invalid connection option"));
    assert!(arrays(&[("no word", Some("1")), ("dbname", Some("host='"))], true).contains("unterminated"));
}

#[test]
fn the_table_knows_each_version() {
    let count = |version| keywords().filter(|known| known.is_known_to(version)).count();
    assert_eq!([120000, 130000, 140000, 150018].map(count), [30, 34, 36, 36]);
    assert_eq!([160002, 170012, 180006, 190000].map(count), [40, 41, 50, 52]);
    assert_eq!(keyword("port").unwrap().default, Some("5432"));
    assert_eq!(keyword("application_name").unwrap().env, Some("PGAPPNAME"));
    assert!(keyword("Port").is_none());
}

fn env_of(variables: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<Vec<u8>> {
    |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes().into())
}

fn told(effective: &Effective, keyword: &str) -> (String, Source) {
    (String::from_utf8_lossy(effective.value(keyword)).into_owned(), effective.source(keyword))
}

#[test]
fn sources_have_libpqs_order() {
    let env = env_of(&[
        ("PGHOST", "env"),
        ("PGPORT", "1"),
        ("PGUSER", "env"),
        ("PGAPPNAME", ""),
        ("PGREQUIREAUTH", "none"),
    ]);
    let given = given("host=given newer=1");
    let service = service::read(b"[s]\nhost=service\nport=2\n", b"s", Path::new("f")).unwrap();
    let effective = resolve(&given, service.as_ref(), &env, V15, &|_| None);
    assert_eq!(told(&effective, "host"), ("given".into(), Source::Given));
    assert_eq!(told(&effective, "newer"), ("1".into(), Source::Given));
    assert_eq!(told(&effective, "port"), ("2".into(), Source::Service));
    assert_eq!(told(&effective, "user"), ("env".into(), Source::Environment("PGUSER")));
    assert_eq!(told(&effective, "application_name"), ("".into(), Source::Environment("PGAPPNAME")));
    assert_eq!(told(&effective, "sslmode"), ("prefer".into(), Source::Default));
    assert_eq!(told(&effective, "dbname"), ("".into(), Source::Default));
    // Newer than this libpq, so its variable is not looked at.
    assert_eq!(told(&effective, "require_auth"), ("".into(), Source::Default));
}

#[test]
fn sslmode_has_two_more_sources() {
    let sslmode = |conninfo, version, env: Env<'_>| {
        told(&resolve(&given(conninfo), None, env, version, &|_| None), "sslmode")
    };
    let old = env_of(&[("PGREQUIRESSL", "1")]);
    assert_eq!(sslmode("", V15, &old), ("require".into(), Source::Environment("PGREQUIRESSL")));
    assert_eq!(sslmode("", V15, &env_of(&[("PGREQUIRESSL", "0")])), ("prefer".into(), Source::Default));
    let both = env_of(&[("PGREQUIRESSL", "1"), ("PGSSLMODE", "allow")]);
    assert_eq!(sslmode("", V15, &both), ("allow".into(), Source::Environment("PGSSLMODE")));
    assert_eq!(sslmode("sslrootcert=system", V18, &no_env), ("verify-full".into(), Source::Default));
    assert_eq!(sslmode("sslrootcert=system", V15, &no_env), ("prefer".into(), Source::Default));
    assert_eq!(sslmode("sslrootcert=system sslmode=prefer", V18, &no_env), ("prefer".into(), Source::Given));
}

#[test]
fn the_passfile_is_asked_last() {
    let password = |conninfo, env: Env<'_>| {
        told(&resolve(&given(conninfo), None, env, V15, &|_| Some(b"file".into())), "password")
    };
    let env = env_of(&[("PGPASSWORD", "env")]);
    assert_eq!(password("", &env), ("env".into(), Source::Environment("PGPASSWORD")));
    assert_eq!(password("password=''", &env), ("file".into(), Source::Passfile));
    assert_eq!(password("password=p", &env), ("p".into(), Source::Given));
    assert_eq!(password("", &no_env), ("file".into(), Source::Passfile));
    assert_eq!(password("", &env_of(&[("PGPASSWORD", "")])), ("file".into(), Source::Passfile));
}

#[test]
fn hosts_are_taken_in_step() {
    let hosts = |conninfo| {
        let effective = resolve(&given(conninfo), None, &no_env, V15, &|_| None);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        effective
            .hosts()
            .iter()
            .map(|at| format!("{}|{}|{}", text(at.host), text(at.hostaddr), text(at.port)))
            .collect::<Vec<_>>()
    };
    assert_eq!(hosts(""), ["||5432"]);
    assert_eq!(hosts("host=a,b,"), ["a||5432", "b||5432", "||5432"]);
    assert_eq!(hosts("host=a,b port=1,2"), ["a||1", "b||2"]);
    assert_eq!(hosts("host=a,b port=,2"), ["a||", "b||2"]);
    assert_eq!(hosts("host=a hostaddr=1.1.1.1,2.2.2.2"), ["a|1.1.1.1|5432", "|2.2.2.2|5432"]);
}

fn in_passfile(contents: &str, host: &str, port: &str, dbname: &str, user: &str) -> Option<String> {
    let [host, port, dbname, user] = [host, port, dbname, user].map(str::as_bytes);
    passfile::password(contents.as_bytes(), host, port, dbname, user)
        .map(|password| String::from_utf8(password).unwrap())
}

#[test]
fn a_passfile_line_fits_as_libpq_fits_it() {
    let file = "#h:1:d:u:no\n\nh:1:d:u:first:rest\r\r\nh:*:*:u:second\n*:*:*:*:p\\:a\\\\ss\\";
    let find = |host, port, dbname, user| in_passfile(file, host, port, dbname, user);
    assert_eq!(find("h", "1", "d", "u").as_deref(), Some("first"));
    assert_eq!(find("h", "2", "d", "u").as_deref(), Some("second"));
    assert_eq!(find("x", "2", "d", "v").as_deref(), Some("p:a\\ss\\"));
    assert_eq!(find("x", "2", "", "v"), None);
    assert_eq!(find("x", "2", "d", ""), None);

    let find = |file, host| in_passfile(file, host, "", "d", "u").unwrap_or_default();
    assert_eq!(find("localhost:5432:d:u:p", ""), "p");
    assert_eq!(find("localhost:5432:d:u:p", "/var/run/postgresql"), "p");
    assert_eq!(find("/tmp:5432:d:u:p", "/tmp"), "p");
    assert_eq!(find("localhost:5432:d:u:p", "/other"), "");
    assert_eq!(find("\\:\\:1:5432:d:u:p", "::1"), "p");
    assert_eq!(find("::1:5432:d:u:p", "::1"), "p");
    assert_eq!(find("h:5432:d:u:", "h"), "");
    assert_eq!(find("h:5432:d:u", "h"), "");
    assert_eq!(find(&format!("h:5432:d:u:{}", "p".repeat(60_000)), "h").len(), 60_000);
}

/// A directory of its own, gone at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pgaad-conninfo-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, contents: &str, mode: u32) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let file = self.0.join(name);
        std::fs::write(&file, contents).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        file
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_passfile_that_others_can_read_is_ignored() {
    let directory = Directory::new("passfile");
    assert!(passfile::read(&directory.write("private", "x", 0o600)).is_some());
    assert!(passfile::read(&directory.write("shared", "x", 0o640)).is_none());
    assert!(passfile::read(&directory.write("others", "x", 0o601)).is_none());
    assert!(passfile::read(&directory.0).is_none());
    assert!(passfile::read(&directory.0.join("missing")).is_none());
}

#[test]
fn each_host_has_its_password() {
    let directory = Directory::new("passwords");
    let file = directory.write(".pgpass", "a:1:me:me:pa\n2.2.2.2:2:me:me:pb\nlocalhost:3:me:me:pc\n", 0o600);
    let find = |conninfo: &str, home: Option<&Path>| {
        let effective = resolve(&given(conninfo), None, &no_env, V15, &|_| None);
        passfile::passwords(&effective, b"me", home)
            .into_iter()
            .map(|password| password.map(|password| String::from_utf8(password).unwrap()))
            .collect::<Vec<_>>()
    };
    let lists = "host=a,, hostaddr=1.1.1.1,2.2.2.2, port=1,2,3";
    let all = ["pa", "pb", "pc"].map(|password| Some(password.to_owned()));
    assert_eq!(find(lists, Some(&directory.0)), all);
    assert_eq!(find(&format!("{lists} passfile={}", file.display()), None), all);
    assert_eq!(find(&format!("{lists} dbname=other"), Some(&directory.0)), [None, None, None]);
    assert_eq!(find(lists, None), [None, None, None]);
}

fn in_service(contents: &str) -> Result<Option<String>, String> {
    service::read(contents.as_bytes(), b"s", Path::new("the-file"))
        .map(|found| found.map(|options| String::from_utf8(options.to_conninfo()).unwrap()))
        .map_err(|error| error.message().to_owned())
}

#[test]
fn a_service_file_is_read_as_libpq_reads_it() {
    assert_eq!(
        in_service("# c\n[t]\nhost=t\n  [s] more\n\n  host=h  \r\n#x\nhost=i\nport= 5\n[s]\nuser=u\n"),
        Ok(Some("host='h' port=' 5'".into()))
    );
    assert_eq!(in_service("[t]\nnonsense\nldap://x\n[ s]\n[S]\n[sx]"), Ok(None));
    assert_eq!(in_service("[s]"), Ok(Some(String::new())));
    assert_eq!(in_service("[s]\npassword='a=b'"), Ok(Some("password='\\'a=b\\''".into())));
    assert_eq!(in_service(""), Ok(None));
    for (line, what) in [
        ("ldap://server/x", "LDAP"),
        ("service=t", "nested"),
        ("servicefile=t", "nested"),
        ("nonsense", "without \"=\""),
        ("host =h", "invalid keyword"),
        ("requiressl=0", "invalid keyword"),
    ] {
        let error = in_service(&format!("\n[s]\n{line}\n")).unwrap_err();
        assert!(error.contains(what) && error.ends_with("in service file the-file, line 3"), "{error}");
    }
}

#[test]
fn a_service_line_has_at_most_1021_bytes() {
    let line = |length: usize| format!("[s]\npassword={}\n", "x".repeat(length - 9));
    assert!(in_service(&line(1021)).is_ok());
    assert!(in_service(&line(1022)).unwrap_err().contains("longer than 1021 bytes"));
    // The last line needs no line break, and even a comment must fit.
    assert!(in_service(line(1022).trim_end()).is_ok());
    assert!(in_service(&format!("#{}\n[s]", "x".repeat(1022))).is_err());
    assert!(in_service(&format!("[s]\n[t]\n#{}", "x".repeat(1022))).is_ok());
}

#[test]
fn a_service_is_looked_for_in_libpqs_order() {
    let directory = Directory::new("service");
    let at = |name: &str| directory.0.join(name).display().to_string().into_bytes();
    std::fs::create_dir(directory.0.join("system")).unwrap();
    directory.write("named", "[a]\nhost=named\n", 0o644);
    directory.write(".pg_service.conf", "[a]\nhost=home\n", 0o644);
    directory.write("system/pg_service.conf", "[a]\nhost=system\n[b]\nhost=system\n", 0o644);

    let find = |conninfo: &str, file: Option<&str>, version| {
        let env = |name: &str| match name {
            "PGSERVICE" => Some(b"a".to_vec()),
            "PGSERVICEFILE" => file.map(at),
            "PGSYSCONFDIR" => Some(at("system")),
            _ => None,
        };
        match service::load(&given(conninfo), &env, Some(&directory.0), version) {
            Ok(options) => String::from_utf8(options.unwrap().to_conninfo()).unwrap(),
            Err(error) => error.message().to_owned(),
        }
    };
    assert_eq!(find("", Some("named"), V15), "host='named'");
    assert_eq!(find("service=a", None, V15), "host='home'");
    assert_eq!(find("service=b", Some("named"), V15), "host='system'");
    assert_eq!(find("service=b", Some("system"), V15), "host='system'");
    assert!(find("service=b", Some("missing"), V15).contains("cannot be read"));
    assert!(find("service=c", None, V15).contains("definition of service \"c\" not found"));
    assert!(find("service=''", None, V15).contains("definition of service \"\" not found"));
    let option = format!("servicefile={}/named", directory.0.display());
    assert_eq!(find(&option, Some("missing"), 190000), "host='named'");
    assert_eq!(find(&option, None, V18), "host='home'");
    assert!(matches!(service::load(&given("host=h"), &no_env, None, V18), Ok(None)));
}

#[test]
fn home_comes_from_the_environment_since_15() {
    let passwd = || Some(b"/passwd".to_vec());
    let env = env_of(&[("HOME", "/env")]);
    assert_eq!(home(&env, &passwd, V15), Some("/env".into()));
    assert_eq!(home(&env, &passwd, 140000), Some("/passwd".into()));
    assert_eq!(home(&env_of(&[("HOME", "")]), &passwd, V15), Some("/passwd".into()));
    assert_eq!(home(&no_env, &|| None, V15), None);
}
