//! The managed identity endpoints give and refuse what the real ones do, each in its own way.

mod common;

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Answer, curl, private_dir, wait_until_gone};
use emulator::serde_json::{Value, json};
use emulator::{
    AppService, ArcAgent, Challenge, Clock, CloudShell, DEVELOPER, Emulator, Endpoint, Fault, IDENTITY_ONE,
    IDENTITY_TWO, Imds, Nowhere, OldAppService, POSTGRESQL, PRINCIPALS, Principal, SYSTEM_IDENTITY,
    ServiceFabric, claims,
};

const MANAGEMENT: &str = "https://management.azure.com";

/// The value of a variable that the platform sets.
fn var(env: &[(String, std::ffi::OsString)], name: &str) -> String {
    let (_, value) = env.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no {name} in {env:?}"));
    value.to_str().unwrap().to_owned()
}

/// Asks an endpoint; `-k`, since one shows a certificate that nobody signed.
fn ask(url: &str, more: &[&str]) -> Answer {
    curl(&[&["-k", url][..], more].concat())
}

/// Whose token it is, after a look at what each has.
fn whose(answer: &Answer) -> &'static Principal {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["token_type"], "Bearer");
    let claims = claims(&answer.token()).unwrap();
    assert_eq!(answer.json()["resource"], claims["aud"]);
    PRINCIPALS.iter().find(|who| claims["oid"] == who.object_id).unwrap()
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// A directory for an agent's files.
fn tokens_dir() -> PathBuf {
    std::env::temp_dir().join(format!(
        "pgaad-arc-test-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ))
}

/// Asks as a client of Arc does; the second answer, or the first if there is no challenge in it.
fn ask_arc(url: &str) -> Answer {
    let first = ask(url, &["-H", "Metadata: true"]);
    let Some(path) = first.header("www-authenticate").and_then(|header| header.strip_prefix("Basic realm="))
    else {
        return first;
    };
    let key = fs::read_to_string(path).unwrap();
    ask(url, &["-H", "Metadata: true", "-H", &format!("Authorization: Basic {key}")])
}

#[test]
fn identities_are_named_in_each_platforms_spelling() {
    let emulator = Emulator::start();
    let imds = Endpoint::start(&emulator, Imds);
    let app_service = Endpoint::start(&emulator, AppService::new());
    let old = Endpoint::start(&emulator, OldAppService::new(Clock::Linux));
    let arc = Endpoint::start(&emulator, ArcAgent::new(tokens_dir()));
    let header = |env: &[_], name: &str, var_name: &str| format!("{name}: {}", var(env, var_name));
    let imds_url =
        format!("{}/metadata/identity/oauth2/token", var(&imds.env(), "AZURE_POD_IDENTITY_AUTHORITY_HOST"));
    let x_identity = header(&app_service.env(), "X-IDENTITY-HEADER", "IDENTITY_HEADER");
    let secret = header(&old.env(), "secret", "MSI_SECRET");
    for (url, version, header, names) in [
        (imds_url, "2018-02-01", "Metadata: true", ["client_id", "object_id", "msi_res_id"]),
        (
            var(&app_service.env(), "IDENTITY_ENDPOINT"),
            "2019-08-01",
            &x_identity,
            ["client_id", "principal_id", "mi_res_id"],
        ),
        (var(&old.env(), "MSI_ENDPOINT"), "2017-09-01", &secret, ["clientid", "principal_id", "mi_res_id"]),
        (var(&arc.env(), "IDENTITY_ENDPOINT"), "2020-06-01", "arc", ["client_id", "object_id", "msi_res_id"]),
    ] {
        let ask = |more: &str| {
            let url = format!("{url}?api-version={version}&resource={POSTGRESQL}{more}");
            if header == "arc" { ask_arc(&url) } else { ask(&url, &["-H", header]) }
        };
        assert_eq!(whose(&ask("")).role, SYSTEM_IDENTITY.role);
        for who in [&IDENTITY_ONE, &IDENTITY_TWO] {
            for (name, value) in names.iter().zip([who.client_id, who.object_id, who.resource_id.unwrap()]) {
                assert_eq!(whose(&ask(&format!("&{name}={value}"))).role, who.role);
                assert_eq!(whose(&ask(&format!("&{name}={}", value.to_uppercase()))).role, who.role);
            }
        }
        let own = &SYSTEM_IDENTITY;
        assert_eq!(whose(&ask(&format!("&{}={}", names[0], own.client_id))).role, own.role);
        for selector in [
            format!("&{}={}", names[0], DEVELOPER.client_id),
            format!("&{}=", names[0]),
            format!("&{}={}", names[2], own.resource_id.unwrap()),
            format!("&{}=a&{}=b", names[0], names[1]),
            format!("&{}=a&{0}=a", names[0]),
            "&resource_id=a".to_owned(),
        ] {
            assert_eq!(ask(&selector).status, 400, "{selector}");
        }
        let management =
            ask(&format!("&{}={}", names[0], IDENTITY_ONE.client_id).replace(POSTGRESQL, MANAGEMENT));
        assert_eq!(whose(&management).role, IDENTITY_ONE.role);
    }
}

#[test]
fn the_times_are_told_in_each_platforms_way() {
    let emulator = Emulator::start();
    let imds = Endpoint::start(&emulator, Imds);
    let url = format!(
        "{}/metadata/identity/oauth2/token?api-version=2018-02-01&resource={POSTGRESQL}",
        imds.origin()
    );
    let answer = ask(&url, &["-H", "Metadata: true"]).json();
    let number = |value: &Value| value.as_str().unwrap().parse::<i64>().unwrap();
    assert_eq!((number(&answer["expires_in"]), number(&answer["ext_expires_in"])), (86400, 86400));
    assert!((number(&answer["expires_on"]) - now() - 86400).abs() < 5);
    assert!(number(&answer["not_before"]) < now());

    let app_service = Endpoint::start(&emulator, AppService::new());
    app_service.configure(|host| host.lifetime = 7200);
    let env = app_service.env();
    let header = format!("X-IDENTITY-HEADER: {}", var(&env, "IDENTITY_HEADER"));
    let url = format!("{}?api-version=2019-08-01&resource={POSTGRESQL}", var(&env, "IDENTITY_ENDPOINT"));
    let answer = ask(&url, &["-H", &header]).json();
    assert!((number(&answer["expires_on"]) - now() - 7200).abs() < 5);
    assert_eq!(answer.get("expires_in"), None);

    let old = Endpoint::start(&emulator, OldAppService::new(Clock::Linux));
    let env = old.env();
    let header = format!("secret: {}", var(&env, "MSI_SECRET"));
    let url = format!("{}?api-version=2017-09-01&resource={POSTGRESQL}", var(&env, "MSI_ENDPOINT"));
    let told = || ask(&url, &["-H", &header]).json()["expires_on"].clone();
    let linux = told();
    assert!(linux.as_str().is_some_and(|text| text.len() == 26 && text.ends_with(" +00:00")), "{linux}");
    old.platform().tell_time(Clock::Windows);
    let windows = told();
    assert!(windows.as_str().unwrap().contains("M +00:00"), "{windows}");
    old.platform().tell_time(Clock::Seconds);
    assert!((told().as_i64().unwrap() - now() - 86400).abs() < 5);

    let fabric = Endpoint::start(&emulator, ServiceFabric::new());
    let env = fabric.env();
    let header = format!("Secret: {}", var(&env, "IDENTITY_HEADER"));
    let version = var(&env, "IDENTITY_API_VERSION");
    let url = format!("{}?api-version={version}&resource={POSTGRESQL}", var(&env, "IDENTITY_ENDPOINT"));
    let answer = ask(&url, &["-H", &header]);
    assert_eq!(whose(&answer).role, SYSTEM_IDENTITY.role);
    assert!((answer.json()["expires_on"].as_i64().unwrap() - now() - 86400).abs() < 5);

    let shell = Endpoint::start(&emulator, CloudShell);
    let form = format!("resource={POSTGRESQL}");
    let answer = ask(&var(&shell.env(), "MSI_ENDPOINT"), &["-H", "Metadata: true", "-d", &form]);
    assert_eq!(whose(&answer).role, DEVELOPER.role);
    assert!((number(&answer.json()["expires_on"]) - now() - 3599).abs() < 5);
}

#[test]
fn which_identity_there_is_decides_when_none_is_named() {
    let emulator = Emulator::start();
    let imds = Endpoint::start(&emulator, Imds);
    let url = format!(
        "{}/metadata/identity/oauth2/token?api-version=2018-02-01&resource={POSTGRESQL}",
        imds.origin()
    );
    let ask = || ask(&url, &["-H", "Metadata: true"]);
    imds.configure(|host| host.system = None);
    let several = ask();
    let text = several.json()["error_description"].as_str().unwrap().to_owned();
    assert_eq!(several.status, 400);
    assert!(
        text.starts_with("Multiple user assigned identities exist, please specify the clientId"),
        "{text}"
    );
    imds.configure(|host| host.user_assigned = vec![&IDENTITY_TWO]);
    assert_eq!(whose(&ask()).role, IDENTITY_TWO.role);
    imds.configure(|host| host.user_assigned.clear());
    let none = ask();
    assert_eq!(none.status, 400);
    assert_eq!(none.json(), json!({"error": "invalid_request", "error_description": "Identity not found"}));
    assert_eq!(imds.identities().user_assigned.len(), 0);
    assert_eq!((imds.front().counters().requests, imds.front().counters().tokens), (3, 1));
}

#[test]
fn the_metadata_service_refuses_in_its_words() {
    let emulator = Emulator::start();
    let imds = Endpoint::start(&emulator, Imds);
    let good = format!("/metadata/identity/oauth2/token?api-version=2018-02-01&resource={POSTGRESQL}");
    let metadata = ["-H", "Metadata: true"];
    let with = |more: &'static [&'static str]| [&metadata[..], more].concat();
    for (target, args, status, error) in [
        (good.clone(), vec![], 400, "bad_request_102"),
        (good.clone(), vec!["-H", "Metadata: True"], 400, "bad_request_102"),
        (good.clone(), with(&["-H", "Metadata: true"]), 400, "bad_request_102"),
        (good.clone(), with(&["-H", "X-Forwarded-For: 10.0.0.4"]), 400, "invalid_request"),
        (good.clone(), with(&["-X", "PUT", "-d", ""]), 405, "method_not_allowed"),
        (good.clone(), with(&["-X", "GET", "-d", "a=b"]), 400, "invalid_request"),
        (good.replace("/token", "/tokens"), metadata.to_vec(), 401, "unknown_source"),
        (format!("/{good}"), metadata.to_vec(), 401, "unknown_source"),
        (good.replace("2018-02-01", "2019-08-01"), metadata.to_vec(), 400, "invalid_request"),
        (good.replace("api-version=2018-02-01&", ""), metadata.to_vec(), 400, "invalid_request"),
        (good.replace("&resource=", "&scope="), metadata.to_vec(), 400, "invalid_request"),
        (format!("{good}&resource={POSTGRESQL}"), metadata.to_vec(), 400, "invalid_request"),
        (format!("{good}/.default"), metadata.to_vec(), 400, "invalid_resource"),
        (good.replace(POSTGRESQL, "https://a.example"), metadata.to_vec(), 400, "invalid_resource"),
        (format!("{good}&clientid={}", IDENTITY_ONE.client_id), metadata.to_vec(), 400, "invalid_request"),
        (format!("{good}&"), metadata.to_vec(), 400, "invalid_request"),
    ] {
        let answer = curl(&[&["--path-as-is", &format!("{}{target}", imds.origin())][..], &args].concat());
        let body = answer.json();
        assert_eq!((answer.status, &body["error"]), (status, &json!(error)), "{target} {args:?}");
        assert!(body["error_description"].is_string());
    }
    assert_eq!(imds.front().counters().tokens, 0);
    let seen = imds.front().requests().pop().unwrap();
    assert_eq!(seen.http.query("resource").as_deref(), None, "a query that is malformed has no parameters");
    assert_eq!(imds.front().requests()[0].http.query("resource").as_deref(), Some(POSTGRESQL));
}

#[test]
fn the_others_refuse_in_theirs() {
    let emulator = Emulator::start();
    let app_service = Endpoint::start(&emulator, AppService::new());
    let env = app_service.env();
    let good = format!("{}?api-version=2019-08-01&resource={POSTGRESQL}", var(&env, "IDENTITY_ENDPOINT"));
    let header = format!("X-IDENTITY-HEADER: {}", var(&env, "IDENTITY_HEADER"));
    let old_url = format!("{}?api-version=2017-09-01&resource={POSTGRESQL}", var(&env, "MSI_ENDPOINT"));
    for (url, header, status) in [
        (good.clone(), "", 401),
        (good.clone(), "X-IDENTITY-HEADER: wrong", 401),
        (good.clone(), "Metadata: true", 401),
        (good.replace("2019-08-01", "2017-09-01"), &header, 400),
        (good.replace(POSTGRESQL, "https://a.example"), &header, 500),
        (format!("{good}&msi_res_id={}", IDENTITY_ONE.resource_id.unwrap()), &header, 400),
        (old_url, &header, 404), // the older contract is another endpoint's
    ] {
        let answer = ask(&url, &["-H", header]);
        assert_eq!((answer.status, &answer.json()["statusCode"]), (status, &json!(status)), "{url} {header}");
        assert!(answer.json()["message"].is_string());
    }
    assert_eq!(ask(&good, &["-H", &header, "-H", "Metadata: true"]).status, 200);
    let new = app_service.platform().rotate();
    assert_eq!(ask(&good, &["-H", &header]).status, 401);
    assert_eq!(var(&app_service.env(), "IDENTITY_HEADER"), new);
    assert_eq!(ask(&good, &["-H", &format!("x-identity-header: {new}")]).status, 200);

    let fabric = Endpoint::start(&emulator, ServiceFabric::new());
    let env = fabric.env();
    let good =
        format!("{}?api-version=2019-07-01-preview&resource={POSTGRESQL}", var(&env, "IDENTITY_ENDPOINT"));
    let header = format!("Secret: {}", var(&env, "IDENTITY_HEADER"));
    for (url, header, status, code) in [
        (good.clone(), "", 400, "SecretHeaderNotFound"),
        (good.clone(), "Secret: wrong", 404, "ManagedIdentityNotFound"),
        (good.replace("-preview", ""), &header, 400, "InvalidApiVersion"),
        (good.replace("&resource=", "&a="), &header, 400, "BadRequest"),
        (good.split('&').next().unwrap().to_owned(), &header, 400, "ArgumentNullOrEmpty"),
        (good.replace(POSTGRESQL, "https://a.example"), &header, 500, "InternalServerError"),
        (format!("{good}&client_id={}", IDENTITY_ONE.client_id), &header, 400, "BadRequest"),
    ] {
        let answer = ask(&url, &["-H", header]);
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (status, &json!(code)),
            "{url} {header}"
        );
    }

    let shell = Endpoint::start(&emulator, CloudShell);
    let url = var(&shell.env(), "MSI_ENDPOINT");
    let form = format!("resource={POSTGRESQL}");
    let with_client = format!("{form}&client_id={}", IDENTITY_ONE.client_id);
    let json_type = "Content-Type: application/json";
    for (args, status) in [
        (vec!["-d", &form], 400),
        (vec!["-H", "Metadata: true", "-d", &with_client], 400),
        (vec!["-H", "Metadata: true", "-d", ""], 400),
        (vec!["-H", "Metadata: true", "-d", "resource=https://a.example"], 400),
        (vec!["-H", "Metadata: true", "-H", json_type, "-d", &form], 400),
        (vec!["-H", "Metadata: true"], 405),
    ] {
        let answer = ask(&url, &args);
        assert_eq!(answer.status, status, "{args:?}");
        assert!(answer.json()["error"]["message"].is_string());
    }
    assert_eq!(ask(&format!("{url}?a=b"), &["-H", "Metadata: true", "-d", &form]).status, 400);
}

#[test]
fn a_key_of_arc_is_new_each_time_and_good_once() {
    let emulator = Emulator::start();
    let dir = tokens_dir().join("tokens");
    let arc = Endpoint::start(&emulator, ArcAgent::new(&dir));
    let base = var(&arc.env(), "IDENTITY_ENDPOINT");
    assert_eq!(var(&arc.env(), "IMDS_ENDPOINT"), arc.origin());
    let url = format!("{base}?api-version=2020-06-01&resource={POSTGRESQL}");
    let challenge = |challenge| {
        arc.platform().challenge(challenge);
        let answer = ask(&url, &["-H", "Metadata: true"]);
        assert_eq!(answer.status, 401);
        answer.header("www-authenticate").map(str::to_owned)
    };
    let prove =
        |key: &str| ask(&url, &["-H", "Metadata: true", "-H", &format!("Authorization: Basic {key}")]);

    let paths = [challenge(Challenge::Good).unwrap(), challenge(Challenge::Good).unwrap()];
    let paths = paths.map(|header| PathBuf::from(header.strip_prefix("Basic realm=").unwrap()));
    assert!(paths.iter().all(|path| path.parent() == Some(&dir) && path.extension().unwrap() == "key"));
    let keys = [0, 1].map(|i| fs::read_to_string(&paths[i]).unwrap());
    assert_ne!(keys[0], keys[1]);
    assert_eq!(prove("wrong").status, 403);
    for key in &keys {
        assert_eq!(whose(&prove(key)).role, SYSTEM_IDENTITY.role);
        assert_eq!(prove(key).status, 403);
    }
    assert!(paths.iter().all(|path| !path.exists()));
    let bare = ask(&url, &["-H", "Metadata: true", "-H", &format!("Authorization: {}", keys[0])]);
    assert_eq!(bare.status, 403);
    for url in [
        url.replace("2020-06-01", "2018-02-01"),
        url.replace("oauth2/token", "oauth2"),
        format!("{url}&client_id={}", IDENTITY_ONE.client_id).replace("2020-06-01", "2019-11-01"),
        format!("{url}&mi_res_id=a"),
    ] {
        assert!(matches!(ask(&url, &["-H", "Metadata: true"]).status, 400 | 404), "{url}");
    }
    assert_eq!(ask(&url, &[]).status, 400);

    let path = |header: Option<String>| {
        let header = header.unwrap();
        PathBuf::from(header.strip_prefix("Basic realm=").unwrap_or_else(|| panic!("{header}")))
    };
    assert_eq!(challenge(Challenge::Missing), None);
    assert!(challenge(Challenge::Quoted).unwrap().ends_with(".key\""));
    assert!(challenge(Challenge::Header("Digest {path} x".into())).unwrap().starts_with("Digest /"));
    let named = path(challenge(Challenge::EqualsInName));
    assert!(named.to_str().unwrap().ends_with("=.key") && named.exists());
    for size in [0, 1, 4096, 4097] {
        let path = path(challenge(Challenge::Size(size)));
        assert_eq!(fs::metadata(path).unwrap().len(), size as u64);
    }
    let elsewhere = path(challenge(Challenge::Elsewhere));
    assert!(
        elsewhere.parent() != Some(&dir)
            && whose(&prove(&fs::read_to_string(&elsewhere).unwrap())).role == "vm-one"
    );
    let up = path(challenge(Challenge::DotDot));
    assert!(up.starts_with(&dir) && !up.canonicalize().unwrap().starts_with(&dir));
    let link = path(challenge(Challenge::Symlink));
    assert!(link.is_symlink() && link.parent() == Some(&dir));
    assert_eq!(prove(&fs::read_to_string(&link).unwrap()).status, 200);
    assert_eq!(path(challenge(Challenge::Suffix)).extension().unwrap(), "txt");
    assert!(!path(challenge(Challenge::NoFile)).exists());
    assert!(path(challenge(Challenge::Directory)).is_dir());
    let pipe = path(challenge(Challenge::Pipe));
    assert!(!pipe.is_file() && !pipe.is_dir() && pipe.exists());

    let private = private_dir(&elsewhere);
    drop(arc);
    wait_until_gone(&private);
    wait_until_gone(&dir);
}

#[test]
fn the_last_agent_removes_what_another_made() {
    let emulator = Emulator::start();
    let above = tokens_dir();
    let dir = above.join("tokens");
    let first = Endpoint::start(&emulator, ArcAgent::new(&dir));
    // As a key of another process's agent.
    let key = dir.join("key");
    fs::write(&key, "").unwrap();
    drop(first);
    assert!(key.exists());
    let last = Endpoint::start(&emulator, ArcAgent::new(&dir));
    fs::remove_file(key).unwrap();
    drop(last);
    assert!(!above.exists());
    // What was there before stays.
    fs::create_dir(&above).unwrap();
    drop(Endpoint::start(&emulator, ArcAgent::new(&dir)));
    assert!(!dir.exists() && above.exists());
    fs::remove_dir(above).unwrap();
}

#[test]
fn arc_repeats_the_name_it_went_by_unless_it_is_old() {
    let emulator = Emulator::start();
    let arc = Endpoint::start(&emulator, ArcAgent::new(tokens_dir()));
    let url =
        format!("{}?api-version=2020-06-01&resource={POSTGRESQL}", var(&arc.env(), "IDENTITY_ENDPOINT"));
    let who = &IDENTITY_ONE;
    let names = [
        ("client_id", who.client_id),
        ("object_id", who.object_id),
        ("msi_res_id", who.resource_id.unwrap()),
    ];
    for (name, value) in names {
        assert_eq!(ask_arc(&format!("{url}&{name}={value}")).json()[name], value);
    }
    arc.platform().grow_old();
    for (name, value) in names {
        let answer = ask_arc(&format!("{url}&{name}={value}"));
        assert_eq!(whose(&answer).role, SYSTEM_IDENTITY.role);
        assert_ne!(answer.json()[name], value);
    }
    assert!(arc.saw_secret());
}

#[test]
fn service_fabric_shows_the_announced_certificate_or_another() {
    let emulator = Emulator::start();
    let fabric = Endpoint::start(&emulator, ServiceFabric::new());
    let shown = || {
        let address = fabric.origin().replace("https://", "");
        let mut client = Command::new("openssl");
        let hello =
            client.args(["s_client", "-connect", &address]).stdin(Stdio::null()).stderr(Stdio::null());
        let mut reader = Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let text = hello.output().unwrap().stdout;
        std::io::Write::write_all(&mut reader.stdin.take().unwrap(), &text).unwrap();
        let text = String::from_utf8(reader.wait_with_output().unwrap().stdout).unwrap();
        text.trim().rsplit('=').next().unwrap().replace(':', "")
    };
    let announced = var(&fabric.env(), "IDENTITY_SERVER_THUMBPRINT");
    assert_eq!((shown(), announced.len()), (announced.clone(), 40));
    fabric.show_stranger(true);
    assert!(shown().len() == 40 && shown() != announced);
    fabric.show_stranger(false);
    assert_eq!(shown(), announced);
    assert!(!fabric.saw_secret());
    assert_eq!(ask(&fabric.origin(), &["-H", "secret: x"]).status, 404);
    assert!(fabric.saw_secret());
}

#[test]
fn faults_speak_as_the_platform_does() {
    let emulator = Emulator::start();
    let imds = Endpoint::start(&emulator, Imds);
    let url = format!(
        "{}/metadata/identity/oauth2/token?api-version=2018-02-01&resource={POSTGRESQL}",
        imds.origin()
    );
    let next = |fault: Fault| {
        imds.front().faults().next(fault);
        ask(&url, &["-H", "Metadata: true"])
    };
    let refused = next(Fault::status_without_code(410, "gone").retry_after(1));
    assert_eq!((refused.status, refused.header("retry-after")), (410, Some("1")));
    assert_eq!(refused.json()["error"], "gone");
    let denied = next(Fault::status(400, "invalid_request", 700016)).json();
    assert!(denied["error_description"].as_str().unwrap().starts_with("AADSTS700016: "));
    let unreachable = next(Imds::unreachable());
    assert!(unreachable.status == 403 && unreachable.body.contains("unreachable"));
    assert!(next(Fault::html(200)).body.starts_with("<!DOCTYPE"));
    assert_eq!(next(Fault::field("expires_on", 17)).json()["expires_on"], 17);
    assert_eq!(next(Fault::without("expires_in")).json().get("expires_in"), None);
    let expired = claims(&next(Fault::expired_token()).token()).unwrap();
    assert!(expired["exp"].as_i64().unwrap() < now());
    assert!(claims(&next(Fault::opaque_token()).token()).is_none());
    assert_eq!(next(Fault::template("[\"{token}\"]")).json().as_array().map(Vec::len), Some(1));
    let redirect = next(Fault::redirect(307));
    let to = redirect.header("location").unwrap();
    assert!(to.starts_with(&imds.origin()), "{to}");
    assert_eq!(ask(to, &["-H", "Metadata: true"]).status, 200);
    assert_eq!(imds.front().counters().redirected, 1);
    assert_eq!(next(Fault::close()).exit, 52);
    let app_service = Endpoint::start(&emulator, AppService::new());
    app_service.front().faults().next(Fault::echo_secret());
    app_service.front().faults().next(Fault::status_without_code(503, "busy"));
    let secret = var(&app_service.env(), "IDENTITY_HEADER");
    let header = format!("X-IDENTITY-HEADER: {secret}");
    let url = app_service.origin();
    assert!(ask(&url, &["-H", &header]).json()["message"].as_str().unwrap().contains(&secret));
    assert_eq!(ask(&url, &["-H", &header]).json()["statusCode"], 503);
}

#[test]
fn a_platform_has_only_its_own_variables() {
    let emulator = Emulator::start();
    let names = |env: Vec<(String, std::ffi::OsString)>| {
        env.into_iter().map(|(n, _)| n).collect::<Vec<_>>().join(" ")
    };
    let dir = tokens_dir();
    for (env, wanted) in [
        (Endpoint::start(&emulator, Imds).env(), "AZURE_POD_IDENTITY_AUTHORITY_HOST"),
        (
            Endpoint::start(&emulator, AppService::new()).env(),
            "IDENTITY_ENDPOINT IDENTITY_HEADER MSI_ENDPOINT MSI_SECRET",
        ),
        (Endpoint::start(&emulator, OldAppService::new(Clock::Seconds)).env(), "MSI_ENDPOINT MSI_SECRET"),
        (Endpoint::start(&emulator, ArcAgent::new(&dir)).env(), "IDENTITY_ENDPOINT IMDS_ENDPOINT"),
        (
            Endpoint::start(&emulator, ServiceFabric::new()).env(),
            "IDENTITY_ENDPOINT IDENTITY_HEADER IDENTITY_SERVER_THUMBPRINT IDENTITY_API_VERSION",
        ),
        (Endpoint::start(&emulator, CloudShell).env(), "MSI_ENDPOINT AZUREPS_HOST_ENVIRONMENT"),
    ] {
        assert_eq!(names(env), wanted);
    }
    assert!(Path::new(ArcAgent::TOKENS).is_absolute());
}

#[test]
fn nowhere_is_neither_there_nor_absent() {
    let nowhere = Nowhere::start();
    let address = nowhere.origin().replace("http://", "").parse().unwrap();
    let error = TcpStream::connect_timeout(&address, Duration::from_millis(300)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    drop(nowhere);
    let error = TcpStream::connect_timeout(&address, Duration::from_secs(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}
