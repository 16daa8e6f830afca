//! A service principal with a certificate: each form of file to a token, and what is refused before anything is sent.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use emulator::serde_json::{self, Value, json};
use emulator::{APP_ONE, APP_THREE, APP_TWO, App, CLUSTER_SUBJECT, Emulator, Fault, claims};
use tempfile::TempDir;

use crate::harness::{
    ClosedPort, Driver, Line, ask, ask_again, assert_refused, conninfo, each, ground, shim, signed_in,
    unix_now, unreadable,
};

const PASSWORD: &str = "p\u{e4}ss 'w\u{f6}rd' \\ \u{1f511}";

/// What messages call the password.
const PASSWORD_SETTING: &str = "client_certificate_password (PGAAD_CLIENT_CERTIFICATE_PASSWORD)";

/// What OpenSSL made, by name. `key` and `certificate` are ours, `mid` and `root` issued it; `other` is another
/// certificate with a key of its own.
static FILES: LazyLock<HashMap<String, Vec<u8>>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a folder");
    let openssl = |arguments: &str| {
        let arguments = arguments.split_whitespace().map(|word| word.replace("PASSWORD", PASSWORD));
        let done = Command::new("openssl").args(arguments).current_dir(dir.path()).output().expect("openssl");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    fs::write(dir.path().join("ca.ext"), "basicConstraints=critical,CA:TRUE").expect("a file");
    let ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    let sign = "-CAcreateserial -days 30";
    let export = "pkcs12 -export -inkey key -in certificate";
    for line in [
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key",
        &format!("req -x509 {ec} -keyout root.key -out root -subj /CN=Root"),
        &format!("req -new {ec} -keyout mid.key -out mid.csr -subj /CN=Mid"),
        &format!("x509 -req -in mid.csr -CA root -CAkey root.key {sign} -extfile ca.ext -out mid"),
        "req -new -key key -out certificate.csr -subj /CN=Shop",
        &format!("x509 -req -in certificate.csr -CA mid -CAkey mid.key {sign} -out certificate"),
        "req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other -subj /CN=Other",
        "rsa -in key -traditional -out key.pkcs1",
        "rsa -in key -traditional -aes128 -passout pass:PASSWORD -out key.old",
        "pkcs8 -topk8 -in key -passout pass:PASSWORD -out key.locked",
        "pkey -in key -outform DER -out key.der",
        &format!("{export} -certfile mid -passout pass:PASSWORD -out p12"),
        &format!("{export} -passout pass:PASSWORD -legacy -out p12.legacy"),
        &format!(
            "{export} -passout pass:PASSWORD -macalg sha1 -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -out p12.3des"
        ),
        &format!("{export} -passout pass:PASSWORD -legacy -keypbe PBE-SHA1-RC4-128 -out p12.rc4"),
        &format!("{export} -passout pass: -out p12.empty"),
        &format!("{export} -passout pass: -legacy -out p12.empty.legacy"),
        "pkcs12 -in p12 -passin pass:PASSWORD -nodes -out converted",
        "pkcs12 -export -inkey key -nocerts -passout pass:PASSWORD -out p12.nocerts",
        "req -x509 -newkey rsa:1024 -nodes -keyout 1024.key -out 1024 -subj /CN=1024",
        "req -x509 -newkey ed25519 -nodes -keyout ed25519.key -out ed25519 -subj /CN=Ed25519",
        "x509 -in certificate -outform DER -out certificate.der",
        "x509 -in other -outform DER -out other.der",
        "x509 -in mid -outform DER -out mid.der",
        "x509 -in root -outform DER -out root.der",
    ] {
        openssl(line);
    }
    fs::read_dir(dir.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            (entry.file_name().into_string().expect("a name"), fs::read(entry.path()).expect("a file"))
        })
        .collect()
});

/// These files' bytes, one after the other.
fn bytes(names: &[&str]) -> Vec<u8> {
    names.iter().flat_map(|name| FILES[*name].clone()).collect()
}

/// A token service where the first application has registered `certificate`, and a folder for files.
struct Place {
    emulator: Emulator,
    dir: TempDir,
}

impl Place {
    fn start() -> Self {
        let place = Self { emulator: Emulator::start(), dir: tempfile::tempdir().expect("a folder") };
        place.emulator.entra().register_certificate(&APP_ONE, &FILES["certificate.der"]);
        place
    }

    /// The application's tenant and client id, without any proof.
    fn driver(&self) -> Driver {
        signed_in(&self.emulator).without("PGAAD_CLIENT_SECRET")
    }

    /// Writes a file and returns its path.
    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path.into_os_string().into_string().expect("text")
    }

    fn connections(&self) -> usize {
        self.emulator.entra().counters().connections
    }

    /// The assertion of the last request.
    fn assertion(&self) -> String {
        let seen = self.emulator.entra().requests().pop().expect("a request");
        seen.field("client_assertion").expect("an assertion").to_string()
    }
}

fn settings(path: &str, password: &str) -> String {
    conninfo(&[("client_certificate_path", path), ("client_certificate_password", password)])
}

/// The first part of an assertion.
fn header(assertion: &str) -> Value {
    let first = assertion.split('.').next().expect("a part");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(first).expect("base64url")).expect("JSON")
}

fn thumbprint(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, &FILES[name]))
}

#[track_caller]
fn assert_signed_in(line: &Line) {
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    let claims = claims(line.get("token")).expect("a token");
    assert_eq!((&claims["appid"], &claims["appidacr"]), (&json!(APP_ONE.client_id), &json!("2")));
}

#[test]
fn each_form_of_file_signs_in() {
    let rows: &[(&str, &[&str], &str)] = &[
        ("PKCS#8 and the certificate", &["key", "certificate"], ""),
        ("the certificate and PKCS#1", &["certificate", "key.pkcs1"], ""),
        ("encrypted PKCS#8", &["certificate", "key.locked"], PASSWORD),
        ("the issuers first", &["root", "mid", "certificate", "key"], ""),
        ("a certificate beside it that fits another key", &["other", "key", "certificate"], ""),
        ("text around it", &["converted"], ""),
        ("a password that nothing needs", &["key", "certificate"], PASSWORD),
        ("PKCS#12 of today", &["p12"], PASSWORD),
        ("PKCS#12 as Windows and OpenSSL 1 have it", &["p12.legacy"], PASSWORD),
        ("PKCS#12 with triple DES", &["p12.3des"], PASSWORD),
        ("PKCS#12 with an empty password", &["p12.empty"], ""),
        ("the same of old", &["p12.empty.legacy"], ""),
    ];
    let place = Place::start();
    let mut session = place.driver().session();
    for (case, names, password) in rows {
        let path = place.write("identity", &bytes(names));
        let line = ask(&mut session, &settings(&path, password));
        assert_eq!(line.status(), "PGAAD_OK", "{case}: {line:?}");
        assert_signed_in(&line);
        assert_eq!(header(&place.assertion())["x5t#S256"], thumbprint("certificate.der"), "{case}");
    }
}

#[test]
fn a_certificate_opens_the_database() {
    let ground = ground();
    ground.emulator.entra().register_certificate(&APP_ONE, &FILES["certificate.der"]);
    let dir = tempfile::tempdir().expect("a folder");
    for names in [&["key.locked", "certificate"][..], &["p12.legacy"]] {
        let path = dir.path().join("identity");
        fs::write(&path, bytes(names)).expect("a file");
        let driver = ground.driver(&APP_ONE).without("PGAAD_CLIENT_SECRET");
        let driver = driver.env("PGAAD_CLIENT_CERTIFICATE_PATH", &path);
        let driver = driver.env("PGAAD_CLIENT_CERTIFICATE_PASSWORD", PASSWORD);
        let lines = driver.run(&[&["connect", ""], &["query", "select current_user"], &["get_token"]]);
        assert_eq!((lines[0].status(), lines[0].get("conn")), ("PGAAD_OK", "OK"), "{lines:?}");
        assert_eq!(lines[1].get("value"), "app-one");
        assert_eq!(ground.uses_of(lines[2].get("token")), [("app-one".to_string(), true)]);
    }
}

#[test]
fn the_assertion_is_what_microsoft_documents() {
    let place = Place::start();
    let entra = place.emulator.entra();
    entra.configure(|config| config.prefix = "/deep".into());
    let path = place.write("identity", &bytes(&["key", "certificate", "mid"]));
    let authority = format!("{}/", place.emulator.authority());
    let driver = place.driver().env("PGAAD_AUTHORITY_HOST", &authority);
    let begun = unix_now();
    assert_signed_in(&ask(&mut driver.session(), &settings(&path, "")));
    let ended = unix_now();

    let seen = entra.requests().remove(0);
    let mut names: Vec<_> = seen.form.iter().map(|(name, _)| name.as_str()).collect();
    names.sort();
    assert_eq!(names, ["client_assertion", "client_assertion_type", "client_id", "grant_type", "scope"]);
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    assert_eq!(seen.field("client_assertion_type"), Some(kind));

    let assertion = place.assertion();
    assert!(!assertion.contains('='), "padding: {assertion}");
    let wanted = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint("certificate.der")});
    assert_eq!(header(&assertion), wanted, "no chain that nobody asked for");
    let claims = claims(&assertion).expect("claims");
    let url = format!("{authority}{}/oauth2/v2.0/token", APP_ONE.tenant.id);
    assert_eq!(claims["aud"], url, "the URL that it was posted to, to the letter");
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!(APP_ONE.client_id), &json!(APP_ONE.client_id)));
    assert_eq!(claims["jti"].as_str().map(str::len), Some(36));
    let [nbf, iat, exp] = ["nbf", "iat", "exp"].map(|name| claims[name].as_i64().expect("an integer"));
    assert!((begun..=ended).contains(&iat) && nbf <= iat && begun - nbf < 300, "{nbf} {iat}");
    assert!(exp > ended + 60 && exp <= begun + 600, "{exp}");
}

#[test]
fn each_request_carries_an_assertion_of_its_own() {
    let place = Place::start();
    let path = place.write("identity", &bytes(&["key", "certificate"]));
    let busy = || Fault::status(503, "temporarily_unavailable", 90033).retry_after_ms(1);
    place.emulator.entra().faults().next_n(2, busy());
    let mut session = place.driver().session();
    assert_signed_in(&ask(&mut session, &settings(&path, "")));
    assert_signed_in(&ask_again(&mut session));
    let requests = place.emulator.entra().requests();
    let id = |seen: &emulator::Seen| {
        claims(seen.field("client_assertion").expect("one")).expect("claims")["jti"].clone()
    };
    let mut ids: Vec<_> = requests.iter().map(|seen| id(seen).to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((requests.len(), ids.len()), (4, 4));
}

#[test]
fn the_chain_is_sent_on_request_alone() {
    let place = Place::start();
    let entra = place.emulator.entra();
    // Whoever has a certificate of that authority may be the second application.
    entra.trust_issuer(&APP_TWO, &FILES["root.der"]);
    entra.trust_issuer(&APP_THREE, &FILES["other.der"]);
    let env = |app: &App| place.driver().envs(place.emulator.env(app)).without("PGAAD_CLIENT_SECRET");
    // The order in the file is not that of the chain, and what is no part of it stays at home.
    let path = place.write("identity", &bytes(&["other", "mid", "key", "certificate"]));
    let certificate = |driver: Driver| driver.env("PGAAD_CLIENT_CERTIFICATE_PATH", &path);
    let two = certificate(env(&APP_TWO));
    let line = two.one(&["get_token"]);
    assert_refused(
        &line,
        "PGAAD_DENIED",
        &["client certificate", APP_TWO.client_id, "AADSTS700027", "registered"],
    );

    let chain = [&FILES["certificate.der"], &FILES["mid.der"]].map(|der| json!(STANDARD.encode(der)));
    for (name, value, is_sent) in [
        ("PGAAD_SEND_CERTIFICATE_CHAIN", "on", true),
        ("PGAAD_SEND_CERTIFICATE_CHAIN", "true", true),
        ("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", "1", true),
        ("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", "true", true),
        ("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", "True", true),
        // Some SDKs take any text for a yes.
        ("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", "false", false),
        ("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", "0", false),
    ] {
        let line = two.clone().env(name, value).one(&["get_token"]);
        assert_eq!(line.status() == "PGAAD_OK", is_sent, "{name}={value}: {line:?}");
        let sent = &header(&place.assertion())["x5c"];
        assert_eq!(*sent, if is_sent { json!(chain) } else { Value::Null }, "{name}={value}");
    }
    let mut session = two.session();
    assert_eq!(ask(&mut session, "send_certificate_chain=on").status(), "PGAAD_OK");
    let line = ask(&mut session, "send_certificate_chain=perhaps");
    assert_refused(&line, "PGAAD_CONFIG", &["send_certificate_chain", "true or false"]);

    let three = certificate(env(&APP_THREE)).env("PGAAD_SEND_CERTIFICATE_CHAIN", "on");
    let line = three.one(&["get_token"]);
    assert_refused(&line, "PGAAD_DENIED", &[APP_THREE.client_id, "AADSTS700030", "subject or issuer"]);
}

#[test]
fn a_renewed_file_needs_no_restart() {
    let place = Place::start();
    place.emulator.entra().register_certificate(&APP_ONE, &FILES["other.der"]);
    let path = place.write("identity", &bytes(&["key", "certificate"]));
    let mut session = place.driver().session();
    assert_signed_in(&ask(&mut session, &settings(&path, "")));
    assert_eq!(header(&place.assertion())["x5t#S256"], thumbprint("certificate.der"));
    place.write("identity", &bytes(&["other.key", "other"]));
    assert_signed_in(&ask_again(&mut session));
    assert_eq!(header(&place.assertion())["x5t#S256"], thumbprint("other.der"));
    // While it is being replaced it may be half there: that is said, and passes.
    let before = place.connections();
    place.write("identity", &bytes(&["key"]));
    assert_refused(&ask_again(&mut session), "PGAAD_CONFIG", &[&path, "no certificate"]);
    assert_eq!(place.connections(), before);
    place.write("identity", &bytes(&["key", "certificate"]));
    assert_signed_in(&ask_again(&mut session));
    assert_eq!(header(&place.assertion())["x5t#S256"], thumbprint("certificate.der"));
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_what_to_do_and_nothing_is_sent() {
    let half = bytes(&["key", "certificate"]);
    let half = &half[..half.len() - 300];
    let rows: Vec<(&str, Vec<u8>, &str, &[&str])> = vec![
        (
            "PEM without its password",
            bytes(&["key.locked", "certificate"]),
            "",
            &["needs a password", PASSWORD_SETTING],
        ),
        (
            "PEM with a wrong one",
            bytes(&["key.locked", "certificate"]),
            "hunter2",
            &["does not open", PASSWORD_SETTING],
        ),
        ("PKCS#12 without its password", bytes(&["p12"]), "", &["needs a password", PASSWORD_SETTING]),
        ("PKCS#12 with a wrong one", bytes(&["p12"]), "hunter2", &["does not open", PASSWORD_SETTING]),
        ("the same of old", bytes(&["p12.legacy"]), "hunter2", &["does not open", PASSWORD_SETTING]),
        ("an EC key", bytes(&["mid.key", "mid"]), "", &["an EC key", "RSA"]),
        ("an Ed25519 key", bytes(&["ed25519.key", "ed25519"]), "", &["Ed25519", "RSA"]),
        ("a short key", bytes(&["1024.key", "1024"]), "", &["1024 bits", "2048"]),
        ("a key alone", bytes(&["key"]), "", &["no certificate", "Add"]),
        ("a key alone in PKCS#12", bytes(&["p12.nocerts"]), PASSWORD, &["no certificate", "Add"]),
        ("a certificate alone", bytes(&["certificate", "mid"]), "", &["no private key", "Add"]),
        ("another's certificate", bytes(&["key", "other"]), "", &["no certificate that fits", "together"]),
        (
            "a key encrypted in the old way",
            bytes(&["key.old", "certificate"]),
            PASSWORD,
            &["old way", "`openssl pkcs8 -topk8 -in OLD.pem -out NEW.pem`"],
        ),
        (
            "PKCS#12 with RC4",
            bytes(&["p12.rc4"]),
            PASSWORD,
            &["`openssl pkcs12 -in OLD.pfx -out NEW.pem -nodes`", "-legacy"],
        ),
        (
            "a key in DER",
            bytes(&["key.der"]),
            "",
            &["DER", "`openssl pkey -inform DER -in OLD.der -out NEW.pem`"],
        ),
        (
            "a certificate in DER",
            bytes(&["certificate.der"]),
            "",
            &["DER", "`openssl x509 -inform DER -in OLD.der -out NEW.pem`"],
        ),
        ("half of it", half.to_vec(), "", &["damaged"]),
        ("half of PKCS#12", bytes(&["p12"])[..900].to_vec(), PASSWORD, &["damaged"]),
        ("nothing", vec![], "", &["is empty"]),
        ("something else", b"Bring the certificate on Tuesday.\n".to_vec(), "", &["neither PEM nor PKCS#12"]),
        (
            "a Java keystore",
            b"\xfe\xed\xfe\xed\0\0\0\x02".to_vec(),
            "",
            &["Java keystore", "`keytool -importkeystore"],
        ),
        ("far too much", vec![b'x'; 2 << 20], "", &["cannot be read", "bytes"]),
    ];
    let place = Place::start();
    let mut session = place.driver().session();
    for (n, (case, bytes, password, words)) in rows.iter().enumerate() {
        let path = place.write(&n.to_string(), bytes);
        let line = ask(&mut session, &settings(&path, password));
        let words = [&["The setting client_certificate_path names ", &path, ", which "], *words].concat();
        assert_refused(&line, "PGAAD_CONFIG", &words);
        for secret in ["hunter2", PASSWORD, "BEGIN", "MII"] {
            assert!(!line.errmsg().contains(secret), "{case}: {line:?}");
        }
    }
    assert_eq!(place.connections(), 0);
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_nothing_is_sent() {
    let place = Place::start();
    let good = place.write("good", &bytes(&["key", "certificate"]));
    let path = |name: &str| place.dir.path().join(name).into_os_string().into_string().expect("text");
    fs::create_dir(path("folder")).expect("a folder");
    assert!(Command::new("mkfifo").arg(path("pipe")).status().expect("mkfifo").success());
    std::os::unix::fs::symlink(path("nothing"), path("link to nothing")).expect("a link");
    std::os::unix::fs::symlink(&good, path("link")).expect("a link");
    let by = |path: &str| place.driver().env("PGAAD_CLIENT_CERTIFICATE_PATH", path);
    for (name, why) in [
        ("nothing", "No such file"),
        ("link to nothing", "No such file"),
        ("folder", "no plain file"),
        ("pipe", "no plain file"),
    ] {
        let line = by(&path(name)).one(&["get_token"]);
        let words = ["PGAAD_CLIENT_CERTIFICATE_PATH names ", &path(name), "cannot be read", why];
        assert_refused(&line, "PGAAD_CONFIG", &words);
    }
    let line = unreadable(by(&good), &good).one(&["get_token"]);
    assert_refused(&line, "PGAAD_CONFIG", &[&good, "cannot be read", "Permission denied"]);
    assert_eq!(place.connections(), 0);
    // Mounted files are links.
    fs::write(path("good again"), bytes(&["key", "certificate"])).expect("a file");
    fs::rename(path("good again"), &good).expect("its name");
    assert_signed_in(&by(&path("link")).one(&["get_token"]));
}

#[test]
fn a_certificate_has_its_time() {
    let place = Place::start();
    let path = place.write("identity", &bytes(&["key", "certificate"]));
    let mut session = place.driver().env("LD_PRELOAD", shim("clock")).session();
    const DAY: i64 = 24 * 60 * 60;
    for (days, words) in [(40, ["expired at 20", "Renew"]), (-42, ["not valid before 20", "clock"])] {
        session.ask(&["set_clock", &(days * DAY).to_string()]);
        let line = ask(&mut session, &settings(&path, ""));
        assert_refused(&line, "PGAAD_CONFIG", &[&[path.as_str()], &words[..]].concat());
    }
    assert_eq!(place.connections(), 0);
    session.ask(&["set_clock", &(2 * DAY).to_string()]);
    assert_signed_in(&ask(&mut session, &settings(&path, "")));
}

#[test]
fn a_certificate_that_entra_does_not_know_is_refused() {
    let place = Place::start();
    let entra = place.emulator.entra();
    let path = place.write("identity", &bytes(&["other.key", "other"]));
    let driver = place.driver().env("PGAAD_CLIENT_CERTIFICATE_PATH", &path).env("PGAAD_LOG", "debug");
    let rows = [
        (Fault::none(), "AADSTS700027"),
        // The service repeats what it was sent.
        (Fault::echo_secret(), "AADSTS700027"),
        (Fault::status(401, "invalid_client", 700021), "AADSTS700021"),
        (Fault::status(401, "invalid_client", 700023), "AADSTS700023"),
        (Fault::status(401, "invalid_client", 700024), "AADSTS700024"),
        (Fault::status(400, "invalid_request", 50027), "AADSTS50027"),
    ];
    for (n, (fault, code)) in rows.into_iter().enumerate() {
        entra.faults().next(fault);
        let output = driver.output(&[&["get_token"]]);
        let line = Line(String::from_utf8_lossy(&output.stdout).trim_end().to_string());
        assert_refused(&line, "PGAAD_DENIED", &[APP_ONE.client_id, APP_ONE.tenant.id, code]);
        assert_eq!(entra.counters().requests, n + 1, "{code}: asked again");
        let said = format!("{}{}", line.errmsg(), String::from_utf8_lossy(&output.stderr));
        let assertion = place.assertion();
        let signature = assertion.rsplit('.').next().expect("a part");
        assert!(!said.contains("eyJ") && !said.contains(signature), "{said}");
        if code == "AADSTS700027" {
            let words = ["the client certificate of application", "belong together", "registered"];
            assert_refused(&line, "PGAAD_DENIED", &words);
        }
    }
}

/// A certificate as the Azure SDKs take it from the environment, and no other source within reach.
fn azure(place: &Place, path: &str, closed: &ClosedPort) -> Driver {
    Driver::new()
        .env("AZURE_TENANT_ID", APP_ONE.tenant.id)
        .env("AZURE_CLIENT_ID", APP_ONE.client_id)
        .env("AZURE_CLIENT_CERTIFICATE_PATH", path)
        .env("AZURE_AUTHORITY_HOST", place.emulator.authority())
        .env("AZURE_POD_IDENTITY_AUTHORITY_HOST", format!("http://{}", closed.address()))
        .env("PGAAD_CA_FILE", place.emulator.ca_file())
}

#[test]
fn the_environments_certificate_is_a_link_of_the_chain() {
    let (place, closed) = (Place::start(), ClosedPort::new());
    let locked = place.write("locked", &bytes(&["p12"]));
    let plain = place.write("plain", &bytes(&["key", "certificate"]));
    let with_password =
        |path: &str| azure(&place, path, &closed).env("AZURE_CLIENT_CERTIFICATE_PASSWORD", PASSWORD);
    for driver in [
        azure(&place, &plain, &closed),
        with_password(&locked),
        with_password(&locked).env("PGAAD_AUTH", "default"),
        with_password(&locked).env("PGAAD_AUTH", "client_certificate"),
        with_password(&locked).env("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential"),
    ] {
        assert_signed_in(&driver.one(&["get_token"]));
    }
    // What was set and can't be used is no reason to be somebody else.
    let before = place.connections();
    let line = azure(&place, &locked, &closed).one(&["get_token"]);
    assert_refused(&line, "PGAAD_CONFIG", &["AZURE_CLIENT_CERTIFICATE_PATH", &locked, "needs a password"]);
    let line = azure(&place, "/nonexistent/identity.pem", &closed).one(&["get_token"]);
    assert_refused(&line, "PGAAD_CONFIG", &["AZURE_CLIENT_CERTIFICATE_PATH", "cannot be read"]);
    assert_eq!(place.connections(), before);
    let unknown = place.write("unknown", &bytes(&["other.key", "other"]));
    let line = azure(&place, &unknown, &closed).one(&["get_token"]);
    assert_refused(&line, "PGAAD_DENIED", &["client certificate", "AADSTS700027"]);
}

/// What proved the identity in the last request.
fn proof(place: &Place) -> &'static str {
    let seen = place.emulator.entra().requests().pop().expect("a request");
    match (seen.field("client_secret"), seen.field("client_assertion")) {
        (Some(_), None) => "secret",
        (None, Some(assertion)) if header(assertion)["alg"] == "PS256" => "certificate",
        (None, Some(_)) => "federated",
        _ => "none, or two",
    }
}

#[test]
fn in_a_family_the_secret_comes_first_and_the_federated_file_last() {
    let (place, closed) = (Place::start(), ClosedPort::new());
    let path = place.write("identity", &bytes(&["key", "certificate"]));
    let pod = place.emulator.entra().cluster().assertion(CLUSTER_SUBJECT, 3600);
    let pod = place.write("pod", pod.as_bytes());
    let with = |prefix: &str, names: &[&str]| {
        let ids = azure(&place, &path, &closed).without("AZURE_CLIENT_CERTIFICATE_PATH");
        let ids = match prefix {
            "PGAAD" => ids.envs(place.emulator.env(&APP_ONE)).without("PGAAD_CLIENT_SECRET"),
            _ => ids,
        };
        names.iter().fold(ids, |driver, &name| {
            let value = match name {
                "CLIENT_SECRET" => APP_ONE.secret,
                "CLIENT_CERTIFICATE_PATH" => &path,
                _ => &pod,
            };
            driver.env(format!("{prefix}_{name}"), value)
        })
    };
    let all = ["FEDERATED_TOKEN_FILE", "CLIENT_CERTIFICATE_PATH", "CLIENT_SECRET"];
    for prefix in ["PGAAD", "AZURE"] {
        for (names, wanted) in [(&all[..], "secret"), (&all[..2], "certificate"), (&all[..1], "federated")] {
            let line = with(prefix, names).one(&["get_token"]);
            assert_eq!(line.status(), "PGAAD_OK", "{prefix} {names:?}: {line:?}");
            assert_eq!(proof(&place), wanted, "{prefix} {names:?}");
        }
        for (auth, wanted) in [("client_certificate", "certificate"), ("workload_identity", "federated")] {
            let line = with(prefix, &all).env("PGAAD_AUTH", auth).one(&["get_token"]);
            assert_eq!(line.status(), "PGAAD_OK", "{prefix} {auth}: {line:?}");
            assert_eq!(proof(&place), wanted, "{prefix} {auth}");
        }
    }
}

#[test]
fn a_certificate_is_filled_in_where_it_is_the_same_applications() {
    let (place, closed) = (Place::start(), ClosedPort::new());
    let path = place.write("identity", &bytes(&["key", "certificate"]));
    let of = |client_id: &str| azure(&place, &path, &closed).env("DB_SP_CLIENT_ID", client_id);
    assert_signed_in(&of(APP_ONE.client_id).one(&["get_token"]));
    assert_signed_in(&of(APP_ONE.client_id).without("AZURE_CLIENT_ID").one(&["get_token"]));
    let before = place.connections();
    // Another application's is not its own.
    let line = of(APP_TWO.client_id).env("DB_SP_TENANT_ID", APP_TWO.tenant.id).one(&["get_token"]);
    assert_refused(&line, "PGAAD_CONFIG", &["DB_SP_CLIENT_ID", "is missing"]);
    assert_eq!(place.connections(), before);
}

#[test]
fn what_is_missing_beside_a_certificate_is_named() {
    let (tenant, client) = ("tenant_id (PGAAD_TENANT_ID, ", "client_id (PGAAD_CLIENT_ID, ");
    let certificate =
        "client_certificate_path (PGAAD_CLIENT_CERTIFICATE_PATH or AZURE_CLIENT_CERTIFICATE_PATH)";
    let place = Place::start();
    let path = place.write("identity", &bytes(&["key", "certificate"]));
    let rows: &[(&[&str], &[&str])] = &[
        (&["PGAAD_TENANT_ID"], &["PGAAD_CLIENT_", tenant, "is missing"]),
        (&["PGAAD_CLIENT_ID"], &["PGAAD_CLIENT_CERTIFICATE_PATH", client, "is missing"]),
        (&["PGAAD_CLIENT_CERTIFICATE_PATH"], &["PGAAD_CLIENT_ID", certificate, "is missing"]),
        (
            &["PGAAD_TENANT_ID", "PGAAD_CLIENT_ID"],
            &["PGAAD_CLIENT_CERTIFICATE_PATH", tenant, client, "are missing"],
        ),
        (
            &["PGAAD_TENANT_ID", "PGAAD_CLIENT_ID", "PGAAD_CLIENT_CERTIFICATE_PATH"],
            &[tenant, client, certificate, "are missing"],
        ),
    ];
    each(rows, |(names, words)| {
        let whole = place.driver().env("PGAAD_CLIENT_CERTIFICATE_PATH", &path);
        let driver = names.iter().fold(whole, |driver, name| driver.without(name));
        let line = driver.env("PGAAD_AUTH", "client_certificate").one(&["get_token"]);
        assert_refused(&line, "PGAAD_CONFIG", words);
    });
    assert_eq!(place.connections(), 0);
}

#[test]
fn the_log_knows_no_password_and_no_assertion() {
    let place = Place::start();
    let path = place.write("identity", &bytes(&["p12"]));
    let driver = place.driver().env("PGAAD_CLIENT_CERTIFICATE_PATH", &path).env("PGAAD_LOG", "debug");
    for (password, event) in [(PASSWORD, "event=token_fetched"), ("hunter2", "event=no_token")] {
        let output =
            driver.clone().env("PGAAD_CLIENT_CERTIFICATE_PASSWORD", password).output(&[&["get_token"]]);
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains(event), "{log}");
        assert!(!log.contains(password) && !log.contains("eyJ"), "{log}");
    }
}
