//! Client assertions: those of certificates and those of trusted issuers, and how each is refused.

mod common;

use std::process::Command;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use common::{Answer, JWT_BEARER, SCOPE, asserting, endpoint, login, post};
use emulator::serde_json::{Value, json};
use emulator::{
    APP_ONE, APP_PUBLIC, APP_ROTATING, APP_THREE, APP_TWO, App, CLUSTER_SUBJECT, Emulator, Fault,
    GITHUB_SUBJECT, IDENTITY_ONE, IDENTITY_TWO, Issuer, PIPELINES_SUBJECT, Postgres, TENANT_ONE, claims,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, PKCS_RSA_SHA256};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};
use time::{Duration, OffsetDateTime};

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// One of two RSA keys, made once.
fn key(number: usize) -> KeyPair {
    static KEYS: [OnceLock<String>; 2] = [const { OnceLock::new() }; 2];
    let pem = KEYS[number].get_or_init(|| {
        let made = Command::new("openssl")
            .args(["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
            .output()
            .expect("openssl runs");
        String::from_utf8(made.stdout).unwrap()
    });
    KeyPair::from_pem_and_sign_algo(pem, &PKCS_RSA_SHA256).unwrap()
}

fn params(name: &str, from: i64, to: i64) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::now_utc() + Duration::days(from);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(to);
    params
}

/// A self-signed certificate, valid between these days from now.
fn certificate(key: &KeyPair, from: i64, to: i64) -> Vec<u8> {
    params("app", from, to).self_signed(key).unwrap().der().to_vec()
}

fn thumbprint(der: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, der))
}

/// Header and claims of an assertion in order.
fn parts(emulator: &Emulator, app: &App, der: &[u8]) -> (Value, Value) {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    (
        json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint(der)}),
        json!({
            "aud": endpoint(emulator, app.tenant.id),
            "iss": app.client_id,
            "sub": app.client_id,
            "jti": format!("7d7d7d7d-0000-4000-8000-{count:012}"),
            "nbf": now() - 10,
            "iat": now() - 10,
            "exp": now() + 590,
        }),
    )
}

fn sign_as(key: &KeyPair, scheme: &'static dyn RsaEncoding, (header, claims): &(Value, Value)) -> String {
    let pair = RsaKeyPair::from_pkcs8(&key.serialize_der()).unwrap();
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let signed = format!("{header}.{claims}");
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(scheme, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn sign(key: &KeyPair, parts: &(Value, Value)) -> String {
    sign_as(key, &RSA_PSS_SHA256, parts)
}

/// Asks for a token with an assertion.
fn ask(emulator: &Emulator, tenant: &str, client_id: &str, assertion: &str) -> Answer {
    post(emulator, tenant, &asserting(client_id, assertion), &[])
}

/// The AADSTS code of a refusal, 0 for a token; and the status that goes with the code.
fn code(answer: &Answer) -> u64 {
    if answer.status == 200 {
        return 0;
    }
    let code = answer.code();
    let (status, error) = match code {
        50027 | 70021 | 900144 | 9002313 => (400, "invalid_request"),
        _ => (401, "invalid_client"),
    };
    assert_eq!((answer.status, answer.json()["error"].as_str()), (status, Some(error)), "{answer:?}");
    code
}

#[test]
fn a_registered_certificate_opens_the_database() {
    let emulator = Emulator::start();
    let server = Postgres::start(&emulator);
    let der = certificate(&key(0), -1, 30);
    emulator.entra().register_certificate(&APP_ONE, &der);
    for url in [endpoint(&emulator, TENANT_ONE.id), endpoint(&emulator, TENANT_ONE.domain)] {
        let mut parts = parts(&emulator, &APP_ONE, &der);
        parts.1["aud"] = json!(url);
        let tenant = if url.contains(TENANT_ONE.id) { TENANT_ONE.id } else { TENANT_ONE.domain };
        let answer = ask(&emulator, tenant, APP_ONE.client_id, &sign(&key(0), &parts));
        assert_eq!(claims(&answer.token()).unwrap()["appidacr"], "2");
        assert_eq!(login(&server, "app-one", &answer.token()).as_deref(), Ok("app-one"));
    }
}

#[test]
fn an_assertion_out_of_order_is_refused() {
    let emulator = Emulator::start();
    let entra = emulator.entra();
    let der = certificate(&key(0), -1, 30);
    let expired = certificate(&key(0), -30, -1);
    let early = certificate(&key(0), 1, 30);
    for der in [&der, &expired, &early] {
        entra.register_certificate(&APP_ONE, der);
    }
    type Change = fn(&mut Value, &mut Value);
    let changes: &[(u64, &str, Change)] = &[
        (0, "", |_, _| {}),
        (0, "", |_, c| drop(c.as_object_mut().unwrap().remove("iat"))),
        (0, "", |_, c| c["nbf"] = json!(now() + 290)),
        (700021, "doesn't match", |_, c| c["iss"] = json!(APP_TWO.client_id)),
        (700021, "doesn't match", |_, c| c["sub"] = json!(APP_TWO.client_id)),
        (700023, "audience", |_, c| c["aud"] = json!(format!("{}/", c["aud"].as_str().unwrap()))),
        (700023, "audience", |_, c| c["aud"] = json!("https://login.microsoftonline.com")),
        (700023, "audience", |_, c| c["aud"] = json!([c["aud"]])),
        (700024, "valid time range", |_, c| c["exp"] = json!(now() - 1)),
        (700024, "valid time range", |_, c| c["exp"] = json!(now() + 900)),
        (700024, "valid time range", |_, c| c["nbf"] = json!(now() + 400)),
        (700024, "valid time range", |_, c| c["iat"] = json!(now() + 400)),
        (50027, "nbf is not", |_, c| drop(c.as_object_mut().unwrap().remove("nbf"))),
        (50027, "exp is not", |_, c| c["exp"] = json!(now() as f64 + 60.0)),
        (50027, "exp is not", |_, c| c["exp"] = json!((now() + 60).to_string())),
        (50027, "iat is not", |_, c| c["iat"] = json!(now() as f64)),
        (50027, "jti is not", |_, c| c["jti"] = json!("1")),
        (50027, "jti is not", |_, c| drop(c.as_object_mut().unwrap().remove("jti"))),
        (50027, "no iss", |_, c| drop(c.as_object_mut().unwrap().remove("iss"))),
        (50027, "typ is not", |h, _| drop(h.as_object_mut().unwrap().remove("typ"))),
        (700027, "PS256", |h, _| h["alg"] = json!("RS256")),
        (700027, "x5t#S256", |h, _| {
            let name = h.as_object_mut().unwrap().remove("x5t#S256").unwrap();
            h["x5t"] = name;
        }),
        (700027, "key was not found", |h, _| h["x5t#S256"] = json!(thumbprint(b"another"))),
        (700027, "key was not found", |h, _| {
            h["x5t#S256"] = json!(format!("{}=", h["x5t#S256"].as_str().unwrap()));
        }),
        (50027, "x5c", |h, _| h["x5c"] = json!([])),
        (50027, "x5c", |h, _| h["x5c"] = json!("text")),
    ];
    for (i, (wanted, text, change)) in changes.iter().enumerate() {
        let mut parts = parts(&emulator, &APP_ONE, &der);
        change(&mut parts.0, &mut parts.1);
        let answer = ask(&emulator, TENANT_ONE.id, APP_ONE.client_id, &sign(&key(0), &parts));
        assert_eq!(code(&answer), *wanted, "{i}: {answer:?}");
        assert!(answer.body.contains(text), "{i}: {answer:?}");
    }

    let refused = |assertion: &str, wanted: u64, text: &str| {
        let answer = ask(&emulator, TENANT_ONE.id, APP_ONE.client_id, assertion);
        assert!(code(&answer) == wanted && answer.body.contains(text), "{wanted} {text}: {answer:?}");
    };
    let good = || parts(&emulator, &APP_ONE, &der);
    refused(&sign(&key(1), &good()), 700027, "Key was found, but");
    refused(&sign_as(&key(0), &RSA_PKCS1_SHA256, &good()), 700027, "Key was found, but");
    refused(&sign(&key(0), &parts(&emulator, &APP_ONE, &expired)), 700027, "expired");
    refused(&sign(&key(0), &parts(&emulator, &APP_ONE, &early)), 700027, "not yet valid");
    refused("garbage", 50027, "not three parts");
    let (body, signature) =
        sign(&key(0), &good()).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    refused(&format!("{body}.{signature}="), 50027, "base64url");
    let mut claims = good().1.to_string();
    while claims.len() % 3 == 0 {
        claims.push(' ');
    }
    let header = body.split('.').next().unwrap();
    refused(&format!("{header}.{}.{signature}", URL_SAFE.encode(claims)), 50027, "base64url");
    let once = sign(&key(0), &good());
    assert_eq!(ask(&emulator, TENANT_ONE.id, APP_ONE.client_id, &once).status, 200);
    refused(&once, 50027, "used before");

    // What others have registered is of no use.
    let mut theirs = good();
    for name in ["iss", "sub"] {
        theirs.1[name] = json!(APP_TWO.client_id);
    }
    let answer = ask(&emulator, TENANT_ONE.id, APP_TWO.client_id, &sign(&key(0), &theirs));
    assert_eq!(code(&answer), 700027);
    let answer = ask(&emulator, TENANT_ONE.id, APP_PUBLIC.client_id, &sign(&key(0), &good()));
    assert_eq!(code(&answer), 700025);

    // The form around it.
    let assertion = sign(&key(0), &good());
    let jwt = |kind: &str| {
        vec![("client_assertion_type", kind.to_owned()), ("client_assertion", assertion.clone())]
    };
    let secret = ("client_secret", APP_ONE.secret.to_owned());
    for (wanted, more) in [
        (900144, jwt(JWT_BEARER)[..1].to_vec()),
        (900144, jwt(JWT_BEARER)[1..].to_vec()),
        (9002313, jwt("jwt-bearer")),
        (9002313, jwt(&JWT_BEARER.to_uppercase())),
        (9002313, [jwt(JWT_BEARER), vec![secret]].concat()),
        (0, jwt(JWT_BEARER)),
    ] {
        let mut form =
            vec![("grant_type", "client_credentials"), ("client_id", APP_ONE.client_id), ("scope", SCOPE)];
        form.extend(more.iter().map(|(name, value)| (*name, value.as_str())));
        let answer = post(&emulator, TENANT_ONE.id, &form, &[]);
        assert_eq!(code(&answer), wanted, "{more:?}: {answer:?}");
    }
    assert_eq!(entra.requests().pop().unwrap().field("client_assertion"), Some(assertion.as_str()));

    let assertion = sign(&key(0), &good());
    entra.faults().next(Fault::echo_secret());
    let answer = ask(&emulator, TENANT_ONE.id, APP_ONE.client_id, &assertion);
    assert!(code(&answer) == 700027 && answer.body.contains(&assertion));
}

#[test]
fn the_service_tells_the_time_by_its_own_clock() {
    let emulator = Emulator::start();
    let der = certificate(&key(0), -1, 30);
    emulator.entra().register_certificate(&APP_ONE, &der);
    for (skew, wanted) in [(-7200, 700024), (7200, 700024), (0, 0)] {
        emulator.entra().configure(|config| config.clock_skew = skew);
        let assertion = sign(&key(0), &parts(&emulator, &APP_ONE, &der));
        assert_eq!(code(&ask(&emulator, TENANT_ONE.id, APP_ONE.client_id, &assertion)), wanted, "{skew}");
    }
}

#[test]
fn a_chain_is_as_good_as_the_authority_that_is_trusted() {
    let emulator = Emulator::start();
    let authority = |name: &str| {
        let mut params = params(name, -1, 30);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let (root_key, middle_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let root = authority("root").self_signed(&root_key).unwrap();
    let root_issuer = rcgen::Issuer::new(authority("root"), root_key);
    let middle = authority("middle").signed_by(&middle_key, &root_issuer).unwrap();
    let middle_issuer = rcgen::Issuer::new(authority("middle"), middle_key);
    let leaf = params("app-rotating", -1, 30).signed_by(&key(0), &middle_issuer).unwrap();
    let stranger = certificate(&key(0), -1, 30);
    emulator.entra().trust_issuer(&APP_ROTATING, root.der());

    let chain = |list: &[&[u8]]| -> Value { list.iter().map(|der| STANDARD.encode(der)).collect() };
    let (leaf, middle, root) = (leaf.der().as_ref(), middle.der().as_ref(), root.der().as_ref());
    for (i, (x5c, named, wanted)) in [
        (chain(&[leaf, middle]), leaf, 0),
        (chain(&[leaf, middle, root]), leaf, 0),
        (chain(&[leaf]), leaf, 700030),
        (chain(&[&stranger]), &stranger, 700030),
        (chain(&[leaf, root, middle]), leaf, 50027),
        (chain(&[middle, leaf]), leaf, 50027),
        (chain(&[leaf, middle]), middle, 50027),
        (json!([URL_SAFE_NO_PAD.encode(leaf)]), leaf, 50027),
        (json!([STANDARD.encode("-----BEGIN CERTIFICATE-----")]), leaf, 50027),
        (Value::Null, leaf, 50027),
    ]
    .into_iter()
    .enumerate()
    {
        let mut parts = parts(&emulator, &APP_ROTATING, named);
        parts.0["x5c"] = x5c;
        let answer = ask(&emulator, TENANT_ONE.id, APP_ROTATING.client_id, &sign(&key(0), &parts));
        assert_eq!(code(&answer), wanted, "{i}: {answer:?}");
    }
    let without = sign(&key(0), &parts(&emulator, &APP_ROTATING, leaf));
    assert_eq!(code(&ask(&emulator, TENANT_ONE.id, APP_ROTATING.client_id, &without)), 700027);
    let mut parts = parts(&emulator, &APP_TWO, leaf);
    parts.0["x5c"] = chain(&[leaf, middle]);
    assert_eq!(code(&ask(&emulator, TENANT_ONE.id, APP_TWO.client_id, &sign(&key(0), &parts))), 700027);
}

#[test]
fn federated_credentials_are_matched_to_the_letter() {
    let emulator = Emulator::start();
    let entra = emulator.entra();
    let (pod, github, pipelines) = (entra.cluster(), entra.github(), entra.pipelines());
    let one = APP_ONE.client_id;
    let with = |issuer: &Issuer, name: &str, value: Value| {
        issuer.assertion_with(CLUSTER_SUBJECT, 600, |claims| drop(claims.insert(name.into(), value)))
    };
    let forged = pod.assertion(CLUSTER_SUBJECT, 601);
    let forged = format!(
        "{}.{}",
        forged.rsplit_once('.').unwrap().0,
        pod.assertion(CLUSTER_SUBJECT, 600).rsplit('.').next().unwrap()
    );
    for (i, (client_id, assertion, wanted)) in [
        (one, pod.assertion(CLUSTER_SUBJECT, 3600), 0),
        (APP_TWO.client_id, pod.assertion(CLUSTER_SUBJECT, 3600), 0),
        (IDENTITY_ONE.client_id, pod.assertion(CLUSTER_SUBJECT, 3600), 0),
        (one, github.assertion(GITHUB_SUBJECT, 300), 0),
        (one, pipelines.assertion(PIPELINES_SUBJECT, 300), 0),
        (IDENTITY_TWO.client_id, pod.assertion(CLUSTER_SUBJECT, 3600), 70021),
        (APP_ROTATING.client_id, pod.assertion(CLUSTER_SUBJECT, 3600), 70021),
        (APP_TWO.client_id, github.assertion(GITHUB_SUBJECT, 300), 700211),
        (one, with(pod, "iss", json!("https://elsewhere.example/")), 700211),
        (one, with(pod, "iss", json!(pod.url().trim_end_matches('/'))), 700211),
        (one, with(pod, "iss", json!(github.url())), 50013),
        (one, with(pod, "aud", json!("https://kubernetes.default.svc")), 700212),
        (one, with(pod, "aud", json!(endpoint(&emulator, TENANT_ONE.id))), 700212),
        (one, pod.assertion("system:serviceaccount:shop:Web", 3600), 700213),
        (one, pod.assertion("system:serviceaccount:other:web", 3600), 700213),
        (one, github.assertion(PIPELINES_SUBJECT, 300), 700213),
        (one, pod.assertion(CLUSTER_SUBJECT, -5), 700024),
        (one, with(pod, "nbf", json!(now() + 400)), 700024),
        (one, with(pod, "exp", json!("soon")), 50027),
        (one, with(pod, "aud", json!(["a", "b"])), 50027),
        (one, with(pod, "sub", Value::Null), 50027),
        (one, forged, 50013),
        (one, "eyJh.e30.c2ln".to_owned(), 50027),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = ask(&emulator, TENANT_ONE.id, client_id, &assertion);
        assert_eq!(code(&answer), wanted, "{i}: {answer:?}");
    }

    entra.federate(IDENTITY_TWO.client_id, pod, "system:serviceaccount:shop:two");
    let answer = ask(
        &emulator,
        TENANT_ONE.id,
        IDENTITY_TWO.client_id,
        &pod.assertion("system:serviceaccount:shop:two", 60),
    );
    assert_eq!(answer.status, 200);

    // A pod's token serves often, a runner's once.
    for (assertion, second) in [
        (pod.assertion(CLUSTER_SUBJECT, 3600), 0),
        (github.assertion(GITHUB_SUBJECT, 300), 50027),
        (pipelines.assertion(PIPELINES_SUBJECT, 300), 50027),
    ] {
        assert_eq!(code(&ask(&emulator, TENANT_ONE.id, one, &assertion)), 0);
        assert_eq!(code(&ask(&emulator, TENANT_ONE.id, one, &assertion)), second);
    }
}

#[test]
fn a_managed_identity_has_no_secret_but_may_be_federated() {
    let emulator = Emulator::start();
    let server = Postgres::start(&emulator);
    let assertion = emulator.entra().cluster().assertion(CLUSTER_SUBJECT, 3600);
    let answer = ask(&emulator, TENANT_ONE.id, IDENTITY_ONE.client_id, &assertion);
    assert_eq!(login(&server, "identity-one", &answer.token()).as_deref(), Ok("identity-one"));
    let mine = claims(&answer.token()).unwrap();
    assert_eq!((&mine["appidacr"], mine.get("xms_mirid")), (&json!("2"), None));

    let form = |proof, scope: &'static str| {
        let id = IDENTITY_ONE.client_id;
        [("grant_type", "client_credentials"), ("client_id", id), ("scope", scope), proof]
    };
    let answer = post(&emulator, TENANT_ONE.id, &form(("client_secret", "anything"), SCOPE), &[]);
    assert_eq!(answer.code(), 7000215);
    let answer = post(&emulator, TENANT_ONE.id, &form(("x", "y"), SCOPE), &[]);
    assert_eq!(answer.code(), 7000218);
    let answer = ask(&emulator, APP_THREE.tenant.id, IDENTITY_ONE.client_id, &assertion);
    assert_eq!(answer.code(), 700016);
    let mut management =
        form(("client_assertion", assertion.as_str()), "https://management.azure.com/.default").to_vec();
    management.push(("client_assertion_type", JWT_BEARER));
    let token = post(&emulator, TENANT_ONE.id, &management, &[]).token();
    assert_eq!(claims(&token).unwrap()["xms_mirid"], IDENTITY_ONE.resource_id.unwrap());
}
