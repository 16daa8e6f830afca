//! Refusals and bad settings: each its status and one clear line, no secret in it, and for settings nothing sent.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use emulator::serde_json::json;
use emulator::{
    APP_DISABLED, APP_EXPIRED, APP_ONE, APP_PUBLIC, APP_QUOTED, APP_THREE, App, Emulator, Fault, Separator,
    TENANT_ONE,
};

use crate::harness::{ask, assert_one_clear_line, conninfo, in_order, is_one_clear_line, signed_in};

const NOBODY: &str = "aaaaaaaa-0000-0000-0000-00000000dead";

fn without_ids(message: &str) -> &str {
    message.split(" (trace id").next().unwrap_or_default()
}

/// Settings, the application and tenant that they name, the code they bring, and words of its hint.
type Refused<'a> = (String, (&'a str, &'a str), &'a str, &'a [&'a str]);

#[test]
fn each_refusal_says_who_was_refused_why_and_what_to_do() {
    let emulator = Emulator::start();
    let entra = emulator.entra();
    let id = |key: &str, value: &str| format!("{key}={value}");
    let identity = |app: &App, tenant: &str| {
        format!(
            "client_id={} tenant_id={tenant} {}",
            app.client_id,
            conninfo(&[("client_secret", app.secret)])
        )
    };
    let one = (APP_ONE.client_id, TENANT_ONE.id);
    let own = |app: &App| identity(app, app.tenant.id);
    let rows: Vec<Refused> = vec![
        (id("client_secret", "wrong"), one, "7000215", &["value"]),
        (own(&APP_EXPIRED), (APP_EXPIRED.client_id, TENANT_ONE.id), "7000222", &["new secret"]),
        (
            own(&APP_DISABLED),
            (APP_DISABLED.client_id, TENANT_ONE.id),
            "7000112",
            &["administrator", "enable"],
        ),
        (own(&APP_PUBLIC), (APP_PUBLIC.client_id, TENANT_ONE.id), "700025", &["app registration"]),
        (
            format!("client_id={NOBODY} client_secret=x"),
            (NOBODY, TENANT_ONE.id),
            "700016",
            &["PGAAD_CLIENT_ID", "PGAAD_TENANT_ID"],
        ),
        (
            identity(&APP_THREE, TENANT_ONE.id),
            (APP_THREE.client_id, TENANT_ONE.id),
            "700016",
            &["PGAAD_CLIENT_ID", "PGAAD_TENANT_ID"],
        ),
        (id("tenant_id", NOBODY), (APP_ONE.client_id, NOBODY), "90002", &["PGAAD_TENANT_ID", "PGAAD_CLOUD"]),
        (
            id("tenant_id", "nowhere.example"),
            (APP_ONE.client_id, "nowhere.example"),
            "90002",
            &["PGAAD_TENANT_ID"],
        ),
        (id("tenant_id", "contoso"), (APP_ONE.client_id, "contoso"), "900023", &["PGAAD_TENANT_ID", "GUID"]),
        (
            id("tenant_id", "common"),
            (APP_ONE.client_id, "common"),
            "9001023",
            &["PGAAD_TENANT_ID", "one tenant"],
        ),
        (id("scope", "https://unknown.example/.default"), one, "500011", &["PGAAD_SCOPE"]),
    ];
    let mut session = signed_in(&emulator).session();
    for (settings, (client_id, tenant), code, hint) in &rows {
        let mut said = Vec::new();
        for separator in [Separator::Lines, Separator::Spaces] {
            entra.configure(|config| config.separator = separator);
            let line = ask(&mut session, settings);
            assert_one_clear_line(&line, "PGAAD_DENIED");
            let message = line.errmsg().to_string();
            let code = format!("AADSTS{code}: ");
            let application = format!("application {client_id}");
            let tenant = format!("tenant {tenant}");
            let words = [&["Entra refused", &application, &tenant, &code], *hint].concat();
            assert!(in_order(&message, &words), "{words:?}: {message}");
            let clutter = ["Trace ID", "Correlation ID", "Timestamp", "error_description", "\\r"];
            assert!(!clutter.iter().any(|word| message.contains(word)), "{message}");
            // Under which id the service logged it stands at the end: support asks for it.
            let seen = entra.requests().pop().expect("a request");
            let correlation = seen.http.header("client-request-id").expect("an id").to_string();
            assert!(message.contains(&correlation), "{correlation}: {message}");
            assert!(!without_ids(&message).contains(&correlation), "{message}");
            said.push(without_ids(&message).to_string());
        }
        assert_eq!(said[0], said[1], "both spellings of the answer read the same");
    }
    assert_eq!(entra.counters().requests, rows.len() * 2, "a refusal is not asked for again");
}

#[test]
fn each_known_code_has_its_hint() {
    let emulator = Emulator::start();
    let rows: &[(&[u32], &[&str])] = &[
        (&[7000215], &["PGAAD_CLIENT_SECRET", "value", "ID"]),
        (&[7000222], &["new secret", "managed identity"]),
        (&[7000218], &["PGAAD_CLIENT_SECRET"]),
        (&[700016], &["PGAAD_CLIENT_ID", "PGAAD_TENANT_ID", "cloud"]),
        (&[700025], &["app registration"]),
        (&[7000112, 70001], &["administrator", "enable"]),
        (&[90002], &["PGAAD_TENANT_ID", "PGAAD_AUTHORITY_HOST"]),
        (&[900023], &["PGAAD_TENANT_ID", "GUID", "domain"]),
        (&[9001023], &["PGAAD_TENANT_ID"]),
        (&[50049], &["PGAAD_AUTHORITY_HOST"]),
        (&[90038, 900382, 900432], &["PGAAD_CLOUD"]),
        (&[500011], &["PGAAD_SCOPE"]),
        (&[50001, 70011], &["PGAAD_SCOPE", "/.default"]),
        (&[900144, 9002313], &["report", "correlation id"]),
        (&[100007], &["AZURE_REGIONAL_AUTHORITY_NAME"]),
        (&[700027], &["certificate", "registered"]),
        (&[700021], &["PGAAD_CLIENT_ID"]),
        (&[700023], &["PGAAD_AUTHORITY_HOST", "PGAAD_SCOPE"]),
        (&[700024], &["clock"]),
        (&[700030], &["subject", "issuer"]),
        (&[50012, 50013, 50027, 500133], &["Renew", "clock"]),
        (&[70021, 700211, 700212, 700213], &["issuer, subject and audience"]),
        (&[700229], &["application's token"]),
        (&[53003, 530032, 530035, 53000, 53001], &["policy", "administrator", "trace id"]),
        (&[50034], &["directory"]),
        (&[50020], &["Invite"]),
        (&[65001], &["administrator", "consent"]),
        (&[50076, 50079], &["Sign in again"]),
        (&[50173, 70043, 700082], &["Sign in again"]),
        (&[50196], &["too often"]),
    ];
    let mut session = signed_in(&emulator).session();
    for (code, hint) in rows.iter().flat_map(|(codes, hint)| codes.iter().map(move |code| (code, hint))) {
        emulator.entra().faults().next(Fault::status(400, "invalid_request", *code));
        let line = ask(&mut session, "");
        assert_one_clear_line(&line, "PGAAD_DENIED");
        let said = format!("AADSTS{code}: This answer was made to order.");
        assert!(in_order(line.errmsg(), &[&[said.as_str()], *hint].concat()), "{hint:?}: {line:?}");
    }
}

#[test]
fn a_refusal_in_another_shape_is_a_refusal_all_the_same() {
    let emulator = Emulator::start();
    let body = |value: emulator::serde_json::Value| {
        Fault::body(401, "application/json; charset=utf-8", value.to_string())
    };
    let long = format!("AADSTS7000215: {}\r\nTrace ID: x", "a very long story ".repeat(5000));
    let rows: Vec<(&str, Fault, &[&str])> = vec![
        ("no code", Fault::status_without_code(403, "access_denied"), &["made to order", "administrator"]),
        ("no description", body(json!({"error": "invalid_client"})), &["invalid_client"]),
        (
            "an empty description",
            body(json!({"error": "invalid_client", "error_description": ""})),
            &["invalid_client"],
        ),
        (
            "the code in the text alone",
            body(
                json!({"error": "invalid_client", "error_description": "AADSTS7000222: Too old. Trace ID: x"}),
            ),
            &["AADSTS7000222: Too old. ", "new secret"],
        ),
        (
            "codes that are no numbers",
            body(
                json!({"error": "x", "error_description": "AADSTS7000222: Too old", "error_codes": ["a", null, -1]}),
            ),
            &["AADSTS7000222: Too old. ", "new secret"],
        ),
        (
            "control characters",
            body(json!({"error": "x", "error_description": "AADSTS700016: a\u{1b}[31m\u{7}\u{0}\tb\u{85}c"})),
            &["AADSTS700016: a", "PGAAD_CLIENT_ID"],
        ),
        (
            "a long story",
            body(json!({"error": "x", "error_description": long, "error_codes": [7000215]})),
            &["AADSTS7000215: a very long story", "PGAAD_CLIENT_SECRET"],
        ),
        (
            "not JSON by its type",
            Fault::body(400, "text/plain", "{\"error\":\"invalid_client\"}"),
            &["invalid_client"],
        ),
    ];
    let mut session = signed_in(&emulator).session();
    for (case, fault, words) in rows {
        emulator.entra().faults().next(fault);
        let line = ask(&mut session, "");
        assert_one_clear_line(&line, "PGAAD_DENIED");
        assert!(in_order(line.errmsg(), words), "{case}: {line:?}");
    }
}

#[test]
fn the_message_names_the_variable_that_holds_the_secret() {
    let emulator = Emulator::start();
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("secret");
    std::fs::write(&file, "wrong in a file").expect("a file");
    let by_family = |family: &str, secret: &str| {
        let driver = signed_in(&emulator).without("PGAAD_TENANT_ID").without("PGAAD_CLIENT_ID");
        let driver = driver.without("PGAAD_CLIENT_SECRET").env(format!("{family}_TENANT_ID"), TENANT_ONE.id);
        driver
            .env(format!("{family}_CLIENT_ID"), APP_ONE.client_id)
            .env(format!("{family}_{secret}"), "wrong")
    };
    for (driver, name) in [
        (by_family("PGAAD", "CLIENT_SECRET"), "PGAAD_CLIENT_SECRET"),
        (by_family("DB_SP", "CLIENT_SECRET"), "DB_SP_CLIENT_SECRET"),
        (by_family("AZURE", "CLIENT_SECRET"), "AZURE_CLIENT_SECRET"),
        (
            by_family("PGAAD", "CLIENT_SECRET_FILE").env("PGAAD_CLIENT_SECRET_FILE", &file),
            "PGAAD_CLIENT_SECRET_FILE",
        ),
    ] {
        let line = driver.one(&["get_token"]);
        assert_one_clear_line(&line, "PGAAD_DENIED");
        assert!(line.errmsg().contains(&format!("Check {name}")), "{line:?}");
    }
}

#[test]
fn a_service_that_repeats_the_secret_does_not_make_us_repeat_it() {
    let emulator = Emulator::start();
    // The last one would be another secret if its own percent signs were taken for an encoding.
    for secret in [APP_ONE.secret, APP_QUOTED.secret, "8Q~a%25b%2Bc%7e"] {
        let escape = |plain: &str, capitals: bool| -> String {
            let one = |byte: u8| match char::from(byte) {
                c if c.is_ascii_alphanumeric() || plain.contains(c) => c.to_string(),
                _ if capitals => format!("%{byte:02X}"),
                _ => format!("%{byte:02x}"),
            };
            secret.bytes().map(one).collect()
        };
        let spellings = [
            secret.to_string(),
            escape("-._~", true),
            escape("-._~", false),
            // As a form writes it: * for itself, ~ not, + for a blank.
            escape("-._* ", true).replace(' ', "+"),
            escape("-._* ", false).replace(' ', "+"),
        ];
        let mut session = signed_in(&emulator).env("PGAAD_CLIENT_SECRET", secret).session();
        let mut wrong = Vec::new();
        let mut check = |case: &str, fault: Fault, status: &str| {
            emulator.entra().faults().next(fault);
            let line = ask(&mut session, "");
            let repeated = spellings.iter().any(|spelling| line.errmsg().contains(spelling));
            if !is_one_clear_line(&line, status) || repeated || !line.errmsg().contains("***") {
                wrong.push(format!("{case}: {line:?}"));
            }
        };
        check("an ordinary refusal", Fault::echo_secret(), "PGAAD_DENIED");
        for spelling in &spellings {
            let answer = |before: &str, status| {
                let text = format!("AADSTS7000215: {before}'{spelling}' is wrong.\r\nTrace ID: x");
                let body =
                    json!({"error": "invalid_client", "error_description": text, "error_codes": [7000215]});
                Fault::body(status, "application/json", body.to_string())
            };
            check("alone", answer("", 401), "PGAAD_DENIED");
            // Where a long text is cut, the secret's beginning must not stay.
            check("late", answer(&"x".repeat(770), 401), "PGAAD_DENIED");
            check("503", answer("", 503).retry_after(60), "PGAAD_THROTTLED");
            check("429", answer("", 429).retry_after(60), "PGAAD_THROTTLED");
            let body = json!({"error": format!("the secret {spelling} is wrong")}).to_string();
            check("no description", Fault::body(400, "application/json", body), "PGAAD_DENIED");
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// What a row of bad settings starts from, and what it changes.
struct Bad<'a> {
    settings: &'a str,
    variables: &'a [(&'a str, &'a str)],
    words: &'a [&'a str],
}

const fn given<'a>(settings: &'a str, words: &'a [&'a str]) -> Bad<'a> {
    Bad { settings, variables: &[], words }
}

const fn set<'a>(variables: &'a [(&'a str, &'a str)], words: &'a [&'a str]) -> Bad<'a> {
    Bad { settings: "", variables, words }
}

/// Runs each row in the environment of an identity that works, and sees that nothing was sent.
fn assert_refused(rows: &[Bad], status: &str) {
    let emulator = Emulator::start();
    let mut wrong = Vec::new();
    for Bad { settings, variables, words } in rows {
        let pairs = variables.iter().map(|(name, value)| (name.to_string(), OsString::from(value)));
        let mut session = signed_in(&emulator).envs(pairs).session();
        let line = ask(&mut session, settings);
        let clear = is_one_clear_line(&line, status) && in_order(line.errmsg(), words);
        if !clear || line.errmsg().contains("hunter2") {
            wrong.push(format!("{settings} {variables:?}, {words:?}: {line:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(emulator.entra().counters().connections, 0, "nothing is sent");
}

#[test]
fn bad_settings_are_named() {
    let guid = "PGAAD_CLIENT_ID";
    assert_refused(
        &[
            given("clientid=x", &["clientid", "client_id"]),
            given("tennant_id=x", &["tennant_id", "tenant_id"]),
            given("refresh_before_minuts=7", &["refresh_before_minuts", "refresh_before_minutes"]),
            given("host=localhost", &["host"]),
            given("client_secret='hunter2", &["quote"]),
            given("client_secret='hunter2\\", &["quote"]),
            given("client_secret hunter2", &["missing \"=\""]),
            given("=hunter2", &[]),
            set(&[(guid, "app-one")], &["PGAAD_CLIENT_ID", "GUID"]),
            set(&[(guid, "aaaaaaaa-0000-0000-0000-00000000000")], &["PGAAD_CLIENT_ID", "GUID"]),
            set(&[(guid, "aaaaaaaa-0000-0000-0000-00000000000g")], &["PGAAD_CLIENT_ID", "GUID"]),
            set(&[(guid, "aaaaaaaa00000000000000000000000000001")], &["PGAAD_CLIENT_ID", "GUID"]),
            set(&[(guid, "{aaaaaaaa-0000-0000-0000-000000000001}")], &["PGAAD_CLIENT_ID", "GUID"]),
            set(&[("PGAAD_TENANT_ID", "a/b")], &["PGAAD_TENANT_ID"]),
            set(&[("PGAAD_TENANT_ID", "a?b")], &["PGAAD_TENANT_ID"]),
            set(&[("PGAAD_TENANT_ID", "a#b")], &["PGAAD_TENANT_ID"]),
            set(&[("PGAAD_TENANT_ID", "a%2fb")], &["PGAAD_TENANT_ID"]),
            set(&[("PGAAD_TENANT_ID", "..")], &["PGAAD_TENANT_ID"]),
            set(&[("PGAAD_TENANT_ID", "one pgaad.test")], &["PGAAD_TENANT_ID"]),
            set(&[("PGAAD_TENANT_ID", "one\r\nHost: x")], &["PGAAD_TENANT_ID"]),
            set(&[("PGAAD_AUTHORITY_HOST", "http://localhost:1")], &["PGAAD_AUTHORITY_HOST", "https"]),
            set(&[("PGAAD_AUTHORITY_HOST", "HTTP://127.0.0.1:1")], &["PGAAD_AUTHORITY_HOST", "https"]),
            set(&[("PGAAD_AUTHORITY_HOST", "ftp://localhost")], &["PGAAD_AUTHORITY_HOST", "https"]),
            set(&[("PGAAD_AUTHORITY_HOST", "https://u:hunter2@localhost")], &["PGAAD_AUTHORITY_HOST"]),
            set(&[("PGAAD_AUTHORITY_HOST", "https://localhost?x=1")], &["PGAAD_AUTHORITY_HOST"]),
            set(&[("PGAAD_AUTHORITY_HOST", "https://localhost:port")], &["PGAAD_AUTHORITY_HOST"]),
            set(&[("PGAAD_AUTHORITY_HOST", "https://localhost:99999")], &["PGAAD_AUTHORITY_HOST"]),
            set(&[("PGAAD_AUTHORITY_HOST", "https://")], &["PGAAD_AUTHORITY_HOST"]),
            set(
                &[("PGAAD_SCOPE", "https://ossrdbms-aad.database.windows.net")],
                &["PGAAD_SCOPE", "/.default"],
            ),
            set(&[("PGAAD_SCOPE", "https://a/.default offline_access")], &["PGAAD_SCOPE"]),
            set(&[("PGAAD_TIMEOUT_MS", "0")], &["PGAAD_TIMEOUT_MS", "1 to"]),
            set(&[("PGAAD_TIMEOUT_MS", "30s")], &["PGAAD_TIMEOUT_MS"]),
            set(&[("PGAAD_TIMEOUT_MS", "99999999999")], &["PGAAD_TIMEOUT_MS"]),
            set(&[("PGAAD_REFRESH_BEFORE_MINUTES", "1441")], &["PGAAD_REFRESH_BEFORE_MINUTES", "0 to 1440"]),
            set(&[("DB_REFRESH_BEFORE_MINUTES", "soon")], &["DB_REFRESH_BEFORE_MINUTES", "0 to 1440"]),
            set(&[("PGAAD_CLOUD", "germany")], &["PGAAD_CLOUD", "public, usgov, china"]),
            set(&[("PGAAD_AUTH", "magic")], &["PGAAD_AUTH"]),
            set(&[("PGAAD_LOG", "verbose")], &["PGAAD_LOG", "off, error, warn, info, debug"]),
            set(&[("PGAAD_CACHE", "disk")], &["PGAAD_CACHE", "memory"]),
            set(&[("PGAAD_CACHE_KEY", "aHVudGVyMg==")], &["PGAAD_CACHE_KEY", "32 bytes"]),
            set(&[("PGAAD_SERVER_HOSTS", "db*.example.com")], &["PGAAD_SERVER_HOSTS"]),
            set(&[("PGAAD_ALLOW_PLAINTEXT", "a.*")], &["PGAAD_ALLOW_PLAINTEXT"]),
            set(&[("PGAAD_IMDS_HOST", "ftp://127.0.0.1")], &["PGAAD_IMDS_HOST"]),
            set(&[("PGAAD_CALLBACK_THREAD", "none")], &["PGAAD_CALLBACK_THREAD", "caller, any"]),
            given("trust_environment=maybe", &["trust_environment", "off, on"]),
        ],
        "PGAAD_CONFIG",
    );
}

#[test]
fn settings_that_contradict_each_other_are_both_named() {
    let file = ("PGAAD_CLIENT_SECRET_FILE", "/nonexistent");
    assert_refused(
        &[
            set(&[file], &["PGAAD_CLIENT_SECRET", "PGAAD_CLIENT_SECRET_FILE"]),
            given("client_secret=hunter2 client_secret_file=/f", &["client_secret", "client_secret_file"]),
            set(&[("PGAAD_OBJECT_ID", NOBODY)], &["PGAAD_CLIENT_ID", "PGAAD_OBJECT_ID"]),
            given("object_id=o resource_id=r", &["object_id", "resource_id"]),
            given("object_id=o client_secret=hunter2", &["object_id", "client_secret"]),
            given("cache_key=k cache_key_file=/f", &["cache_key", "cache_key_file"]),
        ],
        "PGAAD_CONFIG",
    );
}

#[test]
fn missing_settings_are_each_named_with_their_variables() {
    let tenant = "tenant_id (PGAAD_TENANT_ID, DB_SP_TENANT_ID or AZURE_TENANT_ID)";
    let client = "client_id (PGAAD_CLIENT_ID, DB_SP_CLIENT_ID or AZURE_CLIENT_ID)";
    let secret = "client_secret (PGAAD_CLIENT_SECRET, DB_SP_CLIENT_SECRET or AZURE_CLIENT_SECRET)";
    let (no_tenant, no_client, no_secret) =
        (("PGAAD_TENANT_ID", ""), ("PGAAD_CLIENT_ID", ""), ("PGAAD_CLIENT_SECRET", ""));
    let all = [no_tenant, no_client, no_secret];
    assert_refused(
        &[
            // A set but empty variable is an unset one.
            set(&[no_tenant], &[tenant]),
            set(&[no_client], &[client]),
            set(&[no_tenant, no_client], &[tenant, client]),
            set(&[no_secret], &[secret]),
            Bad { settings: "client_secret=hunter2", variables: &all, words: &[tenant, client] },
            Bad { settings: "auth=client_secret", variables: &all, words: &[tenant, client, secret] },
            Bad {
                settings: "",
                variables: &[no_tenant, no_client, no_secret, ("DB_SP_CLIENT_SECRET", "hunter2")],
                words: &["DB_SP_CLIENT_SECRET", tenant, client],
            },
        ],
        "PGAAD_CONFIG",
    );
}

#[test]
fn secret_and_ca_files_that_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).expect("a file");
        path.to_str().expect("text").to_string()
    };
    let folder = dir.path().to_str().expect("text");
    let (missing, empty) = (format!("{folder}/missing"), file("empty", b""));
    let (blank, long) = (file("blank", b" \n\n"), file("long", &[b'x'; 100_000]));
    let not_text = file("not-text", b"\xff\xfe\xfd");
    let broken = file("broken.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let cut = file("cut.pem", b"-----BEGIN CERTIFICATE-----\nMIIB");
    let key = file("key.pem", b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n");

    let emulator = Emulator::start();
    let secrets =
        [&missing, &empty, &blank, &long, &not_text, folder].map(|path| ("PGAAD_CLIENT_SECRET_FILE", path));
    let roots = [&missing, &empty, &blank, &not_text, &broken, &cut, &key, folder]
        .map(|path| ("PGAAD_CA_FILE", path));
    for (variable, path) in secrets.into_iter().chain(roots) {
        let driver = signed_in(&emulator);
        let driver = if variable.contains("SECRET") { driver.without("PGAAD_CLIENT_SECRET") } else { driver };
        let line = ask(&mut driver.env(variable, path).session(), "");
        assert_one_clear_line(&line, "PGAAD_CONFIG");
        assert!(line.errmsg().contains(variable) && line.errmsg().contains(path), "{path}: {line:?}");
    }
    assert_eq!(emulator.entra().counters().connections, 0, "nothing is sent");
}

#[test]
fn caches_that_cannot_be_are_named() {
    let key = "cache_key='MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY='";
    let managed = format!("auth=managed_identity client_id={NOBODY} cache=redis://localhost");
    let shared = [key, "cache_key_file=/f cache=redis://localhost"].join(" ");
    assert_refused(
        &[
            given("cache=hunter2", &["cache", "memory, file, file:/path, redis://", "unix://"]),
            given("cache=FILE", &["cache", "memory, file"]),
            given("cache=file:relative", &["cache", "absolute path", "file:"]),
            set(&[("PGAAD_CACHE", "file:")], &["PGAAD_CACHE", "absolute path"]),
            given("cache=file:/dev/null/x", &["/dev/null/x", "PGAAD_CACHE"]),
            set(&[("PGAAD_CACHE", "redis://:hunter2@localhost:port")], &["PGAAD_CACHE", "port"]),
            given("cache=rediss://localhost/hunter2", &["cache", "database"]),
            given("cache=unix://hunter2", &["cache", "absolute path"]),
            // What seals entries there: an identity without a secret needs a key.
            given(&managed, &["PGAAD_CACHE", "Redis", "cache_key", "PGAAD_CACHE_KEY_FILE"]),
            given("cache=redis://localhost cache_key=hunter2", &["cache_key", "32 bytes"]),
            given("cache_key=hunter2", &["cache_key", "32 bytes"]),
            given(&shared, &["cache_key", "cache_key_file"]),
            given("cache=file:/dev/null/x cache_key_file=/nonexistent", &["/dev/null/x"]),
            given("cache=rediss://localhost cache_ca_file=/nonexistent", &["cache_ca_file"]),
        ],
        "PGAAD_CONFIG",
    );
}

#[test]
fn what_a_credential_needs_is_named() {
    let no = [("PGAAD_TENANT_ID", ""), ("PGAAD_CLIENT_ID", ""), ("PGAAD_CLIENT_SECRET", "")];
    let [_, no_client, no_secret] = no;
    assert_refused(
        &[
            set(&[("PGAAD_AUTH", "client_certificate")], &["PGAAD_CLIENT_CERTIFICATE_PATH", "missing"]),
            set(&[("PGAAD_AUTH", "workload_identity")], &["AZURE_FEDERATED_TOKEN_FILE", "missing"]),
            set(&[("PGAAD_AUTH", "azure_pipelines")], &["PGAAD_SERVICE_CONNECTION_ID", "missing"]),
            Bad { settings: "object_id=o", variables: &no, words: &["object_id", "GUID"] },
            Bad { settings: "resource_id=/r", variables: &no, words: &["resource_id", "/subscriptions/"] },
            set(
                &[no_secret, ("PGAAD_CLIENT_CERTIFICATE_PATH", "/c.pem")],
                &["PGAAD_CLIENT_CERTIFICATE_PATH", "/c.pem"],
            ),
            set(
                &[no_secret, no_client, ("AZURE_CLIENT_ID", NOBODY), ("PGAAD_FEDERATED_TOKEN_FILE", "/t")],
                &["PGAAD_FEDERATED_TOKEN_FILE", "/t"],
            ),
        ],
        "PGAAD_CONFIG",
    );
}

#[test]
fn without_entra_a_token_is_not_to_be_had() {
    let no = [("PGAAD_TENANT_ID", ""), ("PGAAD_CLIENT_ID", ""), ("PGAAD_CLIENT_SECRET", "")];
    assert_refused(
        &[set(&[("PGAAD_AUTH", "off")], &["auth=off"]), given("auth=off", &["auth=off"])],
        "PGAAD_DISABLED",
    );
    let variables = ["PGAAD_TENANT_ID", "PGAAD_CLIENT_ID", "PGAAD_CLIENT_SECRET"];
    assert_refused(
        &[
            set(&no, &variables),
            Bad { settings: "auth=default", variables: &no, words: &variables },
            // An incomplete set of the SDKs' variables is nothing here, and is listed.
            set(
                &[&no[..], &[("AZURE_CLIENT_ID", NOBODY), ("AZURE_TENANT_ID", "t")]].concat(),
                &["client_secret"],
            ),
        ],
        "PGAAD_UNAVAILABLE",
    );
}

#[test]
fn the_chain_of_the_azure_variables_can_be_narrowed() {
    let emulator = Emulator::start();
    let azure =
        ["TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"].into_iter().fold(signed_in(&emulator), |driver, key| {
            let ours = format!("PGAAD_{key}");
            let (_, value) =
                emulator.env(&APP_ONE).into_iter().find(|(name, _)| *name == ours).expect("a variable");
            driver.without(&ours).env(format!("AZURE_{key}"), value)
        });
    let filter = "AZURE_TOKEN_CREDENTIALS";
    for (value, status) in [
        ("", "PGAAD_OK"),
        ("prod", "PGAAD_OK"),
        ("EnvironmentCredential", "PGAAD_OK"),
        ("environmentcredential", "PGAAD_OK"),
        ("dev", "PGAAD_UNAVAILABLE"),
        ("ManagedIdentityCredential", "PGAAD_UNAVAILABLE"),
        ("nonsense", "PGAAD_CONFIG"),
    ] {
        let before = emulator.entra().counters().connections;
        for settings in ["", "auth=default"] {
            let line = ask(&mut azure.clone().env(filter, value).session(), settings);
            assert_eq!(line.status(), status, "{value} {settings}: {line:?}");
            assert!(line.status() == "PGAAD_OK" || line.errmsg().contains(filter), "{line:?}");
        }
        let sent = emulator.entra().counters().connections - before;
        assert_eq!(sent, if status == "PGAAD_OK" { 2 } else { 0 }, "{value}");
    }
    // An identity that is set on purpose is no part of the chain.
    assert_eq!(signed_in(&emulator).env(filter, "dev").one(&["get_token"]).status(), "PGAAD_OK");
}

#[test]
fn text_that_is_not_utf8_is_an_invalid_argument() {
    let emulator = Emulator::start();
    let mut session = signed_in(&emulator).session();
    // client_secret=<ff>
    let line = session.one(&["new_hex", "636c69656e745f7365637265743dff"]);
    assert_one_clear_line(&line, "PGAAD_INVALID_ARGUMENT");
    assert!(line.errmsg().contains("settings is not UTF-8"), "{line:?}");
    for name in ["PGAAD_CLIENT_SECRET", "PGAAD_TENANT_ID", "HTTPS_PROXY"] {
        let line = signed_in(&emulator).env(name, OsString::from_vec(vec![b'a', 0xff])).one(&["get_token"]);
        assert_one_clear_line(&line, "PGAAD_INVALID_ARGUMENT");
        assert!(in_order(line.errmsg(), &[name, "UTF-8"]), "{line:?}");
    }
    assert_eq!(emulator.entra().counters().connections, 0, "nothing is sent");
}
