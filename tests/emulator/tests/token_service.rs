//! The token service grants and refuses what the real one does, and misbehaves when told to.

mod common;

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{JWT_BEARER, SCOPE, ask, curl, endpoint, post};
use emulator::serde_json::{Value, json};
use emulator::{
    APP_DISABLED, APP_EXPIRED, APP_ONE, APP_PUBLIC, APP_QUOTED, APP_ROTATING, APP_THREE, APP_TWO, APPS,
    Certificate, Emulator, Fault, Gate, Numbers, Proxy, Separator, Standing, TENANT_ONE, TENANT_TWO, claims,
};

#[test]
fn the_right_secret_gets_a_token() {
    let emulator = Emulator::start();
    for app in APPS.iter().filter(|app| app.standing == Standing::Good) {
        let answer = ask(&emulator, app, &[]);
        assert_eq!((answer.exit, answer.status), (0, 200), "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
        assert!(answer.header("date").is_some() && answer.header("x-ms-request-id").is_some());
        let body = answer.json();
        assert_eq!(
            (&body["token_type"], &body["expires_in"], &body["ext_expires_in"]),
            (&json!("Bearer"), &json!(3599), &json!(3599))
        );
        let token = answer.token();
        assert!((1700..=1702).contains(&token.len()), "{}", token.len());
        let claims = claims(&token).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        assert_eq!(claims["appid"], app.client_id);
        assert_eq!(claims["tid"], app.tenant.id);
        assert_eq!(claims["oid"], app.object_id);
        assert_eq!(claims["iss"], format!("https://sts.windows.net/{}/", app.tenant.id));
        assert_eq!(claims["aud"], "https://ossrdbms-aad.database.windows.net");
        assert!((claims["exp"].as_i64().unwrap() - now - 3599).abs() <= 5);
        assert!((claims["iat"].as_i64().unwrap() - now + 300).abs() <= 5);
    }
    let tokens = emulator.entra().tokens();
    let mut unique = tokens.clone();
    unique.sort();
    unique.dedup();
    assert_eq!((tokens.len(), unique.len()), (5, 5));
}

#[test]
fn tenants_have_domains_and_letters_have_no_case() {
    let emulator = Emulator::start();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "AAAAAAAA-0000-0000-0000-000000000003"),
        ("client_secret", APP_THREE.secret),
        ("scope", SCOPE),
    ];
    assert_eq!(post(&emulator, TENANT_TWO.domain, &form, &[]).status, 200);
}

#[test]
fn refusals_carry_the_codes_of_the_real_one() {
    let emulator = Emulator::start();
    let form = |app: &emulator::App| {
        [
            ("grant_type", "client_credentials"),
            ("client_id", app.client_id),
            ("client_secret", app.secret),
            ("scope", SCOPE),
        ]
    };
    let with = |name: &'static str, value: &'static str| {
        let mut form: Vec<_> = form(&APP_ONE).into_iter().filter(|(n, _)| *n != name).collect();
        form.extend((value != "-").then_some((name, value)));
        form
    };
    let doubled = [&form(&APP_ONE)[..], &[("scope", SCOPE)]].concat();
    let assertion = [("client_assertion", "a.b.c"), ("client_assertion_type", JWT_BEARER)];
    let both = [&form(&APP_ONE)[..], &assertion].concat();
    let only_assertion = [&with("client_secret", "-")[..], &assertion].concat();
    let one = TENANT_ONE.id;
    let guid = "12345678-0000-0000-0000-000000000000";
    for (tenant, form, status, error, code) in [
        (one, with("client_secret", "wrong"), 401, "invalid_client", 7000215),
        (one, with("client_secret", "-"), 401, "invalid_client", 7000218),
        (one, form(&APP_EXPIRED).to_vec(), 401, "invalid_client", 7000222),
        (one, form(&APP_PUBLIC).to_vec(), 401, "invalid_client", 700025),
        (one, form(&APP_DISABLED).to_vec(), 400, "unauthorized_client", 7000112),
        (one, form(&APP_THREE).to_vec(), 400, "unauthorized_client", 700016),
        (TENANT_TWO.id, form(&APP_ONE).to_vec(), 400, "unauthorized_client", 700016),
        (one, with("client_id", guid), 400, "unauthorized_client", 700016),
        (guid, form(&APP_ONE).to_vec(), 400, "invalid_request", 90002),
        ("nobody.example", form(&APP_ONE).to_vec(), 400, "invalid_request", 90002),
        ("nobody", form(&APP_ONE).to_vec(), 400, "invalid_request", 900023),
        ("common", form(&APP_ONE).to_vec(), 400, "invalid_request", 9001023),
        (one, with("grant_type", "-"), 400, "invalid_request", 900144),
        (one, with("grant_type", "password"), 400, "unsupported_grant_type", 70003),
        (one, with("client_id", "-"), 400, "invalid_request", 900144),
        (one, with("scope", "-"), 400, "invalid_request", 900144),
        (one, with("scope", "https://ossrdbms-aad.database.windows.net"), 400, "invalid_scope", 70011),
        (one, with("scope", "https://a/.default https://b/.default"), 400, "invalid_scope", 70011),
        (one, with("scope", "https://a.example/.default"), 400, "invalid_resource", 500011),
        (one, doubled, 400, "invalid_request", 9002313),
        (one, both, 400, "invalid_request", 9002313),
        (one, only_assertion, 400, "invalid_request", 50027),
    ] {
        let answer = post(&emulator, tenant, &form, &[]);
        let body = answer.json();
        assert_eq!((answer.status, &body["error"], answer.code()), (status, &json!(error), code), "{form:?}");
        let described = body["error_description"].as_str().unwrap();
        assert!(described.starts_with(&format!("AADSTS{code}: ")), "{described}");
        assert_eq!(body["error_uri"], format!("https://login.microsoftonline.com/error?code={code}"));
        for name in ["trace_id", "correlation_id", "timestamp"] {
            assert!(body[name].is_string(), "{body}");
        }
    }
    assert_eq!(emulator.entra().counters().tokens, 0);
}

#[test]
fn malformed_requests_are_refused() {
    let emulator = Emulator::start();
    let url = endpoint(&emulator, TENANT_ONE.id);
    let ca = emulator.ca_file().to_str().unwrap();
    let raw = |args: &[&str]| curl(&[&["--cacert", ca], args].concat());
    let elsewhere = |path: &str| raw(&["-d", "a=b", &format!("{}{path}", emulator.authority())]).status;
    assert_eq!(raw(&[&url]).status, 405);
    assert_eq!(elsewhere("/"), 404);
    assert_eq!(elsewhere(&format!("/{}/oauth2/token", TENANT_ONE.id)), 404);
    assert_eq!(elsewhere(&format!("//{}/oauth2/v2.0/token", TENANT_ONE.id)), 404);
    assert_eq!(elsewhere(&format!("/{}/oauth2/v2.0/token?x=y", TENANT_ONE.id)), 404);
    assert_eq!(raw(&["-d", "a=b", "-H", "Host: elsewhere.example", &url]).status, 404);
    assert_eq!(raw(&["-d", "a=b", "-H", "Transfer-Encoding: chunked", &url]).status, 411);
    assert_eq!(raw(&["-d", "a=%zz", &url]).code(), 9002313);
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}&scope={SCOPE}",
        APP_TWO.client_id, APP_TWO.secret
    );
    for wrong in ["application/json", "application/x-www-form-urlencoded; charset=utf-8"] {
        assert_eq!(raw(&["-d", &form, "-H", &format!("Content-Type: {wrong}"), &url]).code(), 900144);
    }
    assert_eq!(raw(&["-d", &form, &url]).status, 200);
    // `+` is a space, so a secret that is not percent-encoded is another secret.
    let form = form.replace(APP_TWO.client_id, APP_ONE.client_id).replace(APP_TWO.secret, "p~q+/=8Q");
    assert_eq!(raw(&["-d", &form, &url]).code(), 7000215);
    assert_eq!(emulator.entra().requests().last().unwrap().field("client_secret"), Some("p~q /=8Q"));
}

#[test]
fn the_answers_are_as_configured() {
    let emulator = Emulator::start();
    let entra = emulator.entra();
    let guid = "01234567-89ab-cdef-0123-456789abcdef";
    let wrong = |more: &[&str]| {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", APP_ONE.client_id),
            ("client_secret", "x"),
            ("scope", SCOPE),
        ];
        post(&emulator, TENANT_ONE.id, &form, more).json()
    };
    let spelt = |body: Value, gap: &str| {
        let text = body["error_description"].as_str().unwrap().to_owned();
        assert!(
            text.contains(&format!("{gap}Trace ID: ")) && text.contains(&format!("{gap}Timestamp: ")),
            "{text:?}"
        );
    };
    spelt(wrong(&[]), "\r\n");
    spelt(wrong(&[]), " ");
    entra.configure(|c| c.separator = Separator::Lines);
    let body = wrong(&["-H", &format!("client-request-id: {guid}")]);
    assert_eq!(body["correlation_id"], guid);
    spelt(body, "\r\n");
    assert_ne!(wrong(&["-H", "client-request-id: me"])["correlation_id"], "me");

    entra.configure(|c| {
        c.prefix = "/a/b".to_owned();
        c.lifetime = 86399;
        c.refresh_in = Some(43199);
        c.numbers = Numbers::Strings;
        c.token_size = 4000;
    });
    assert!(emulator.authority().ends_with("/a/b"));
    let answer = ask(&emulator, &APP_ONE, &[]);
    let body = answer.json();
    assert_eq!((&body["expires_in"], &body["refresh_in"]), (&json!("86399"), &json!("43199")));
    assert!((4000..=4002).contains(&answer.token().len()));
    assert_eq!(
        entra.requests().last().unwrap().http.target,
        format!("/a/b/{}/oauth2/v2.0/token", TENANT_ONE.id)
    );

    let old = entra.secret(&APP_ROTATING);
    let new = entra.rotate_secret(&APP_ROTATING);
    assert_ne!(old, new);
    assert_eq!(ask(&emulator, &APP_ROTATING, &[]).status, 200);
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", APP_ROTATING.client_id),
        ("client_secret", APP_ROTATING.secret),
        ("scope", SCOPE),
    ];
    assert_eq!(post(&emulator, TENANT_ONE.id, &form, &[]).code(), 7000215);
}

#[test]
fn connections_are_kept_and_counted() {
    let emulator = Emulator::start();
    let url = endpoint(&emulator, TENANT_ONE.id);
    ask(&emulator, &APP_ONE, &[&url]); // the same twice
    let counters = emulator.entra().counters();
    assert_eq!((counters.connections, counters.handshakes, counters.requests, counters.tokens), (1, 1, 2, 2));
    let seen = emulator.entra().requests();
    assert_eq!((seen[0].connection, seen[1].connection), (1, 1));
    assert_eq!(seen[0].field("client_secret"), Some(APP_ONE.secret));
    assert_eq!(seen[0].http.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert!(emulator.entra().wait_until(|c| c.requests == 2, Duration::ZERO));
    assert!(!emulator.entra().wait_until(|c| c.requests == 3, Duration::from_millis(20)));
    // The server ends this one without a word; curl notices and makes another.
    emulator.entra().faults().next(Fault::stale());
    ask(&emulator, &APP_ONE, &[&url]);
    assert_eq!(emulator.entra().counters().connections, 3);
}

#[test]
fn faults_of_the_answer() {
    let emulator = Emulator::start();
    let faults = emulator.entra().faults();
    let meet = |fault: Fault, more: &[&str]| {
        faults.next(fault);
        ask(&emulator, &APP_ONE, more)
    };
    let answer = meet(Fault::status(429, "invalid_request", 90055).retry_after(7), &[]);
    assert_eq!((answer.status, answer.code(), answer.header("retry-after")), (429, 90055, Some("7")));
    let answer = meet(Fault::status_without_code(503, "temporarily_unavailable").retry_after_date(10), &[]);
    assert_eq!((answer.status, &answer.json()["error_codes"]), (503, &Value::Null));
    assert!(answer.header("retry-after").unwrap().ends_with(" GMT"));
    let answer = meet(Fault::status(503, "x", 90033).retry_after_ms(250).x_ms_retry_after_ms(300), &[]);
    assert_eq!(
        (answer.header("retry-after-ms"), answer.header("x-ms-retry-after-ms")),
        (Some("250"), Some("300"))
    );
    let answer = meet(Fault::echo_secret(), &[]);
    let text = answer.json()["error_description"].as_str().unwrap().to_owned();
    assert!(text.contains(APP_ONE.secret) && text.contains("p~q%2B%2F%3D"), "{text}");

    assert!(meet(Fault::html(502), &[]).body.starts_with("<!DOCTYPE html>"));
    assert_eq!(meet(Fault::html(200), &[]).status, 200);
    assert!(emulator::serde_json::from_str::<Value>(&meet(Fault::garbage_json(), &[]).body).is_err());
    assert_eq!(meet(Fault::empty_body(), &[]).body, "");
    assert!(meet(Fault::huge_body(), &[]).body.len() > 1 << 20);
    assert!(matches!(meet(Fault::huge_header(), &[]).exit, 27 | 56), "curl takes no more than 100 kB");
    assert!(meet(Fault::template(r#"{"access_token":"{token}","expires_in":1e400}"#), &[]).body.len() > 1700);

    assert!(meet(Fault::nul_in_token(), &[]).token().contains('\0'));
    assert!(meet(Fault::newline_in_token(), &[]).token().contains('\n'));
    assert_eq!(meet(Fault::field("access_token", 7), &[]).json()["access_token"], 7);
    assert_eq!(meet(Fault::without("access_token"), &[]).json()["access_token"], Value::Null);
    assert_eq!(meet(Fault::field("token_type", "pop"), &[]).json()["token_type"], "pop");
    assert_eq!(meet(Fault::field("expires_in", -1), &[]).json()["expires_in"], -1);
    let body = meet(Fault::expires_on_only("1738411200"), &[]).json();
    assert_eq!((&body["expires_in"], &body["expires_on"]), (&Value::Null, &json!("1738411200")));
    assert!(claims(&meet(Fault::opaque_token(), &[]).token()).is_none());
    assert!((3000..=3002).contains(&meet(Fault::token_size(3000), &[]).token().len()));
    let answer = meet(Fault::expired_token(), &[]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    assert!(claims(&answer.token()).unwrap()["exp"].as_i64().unwrap() < now);
    assert_eq!(answer.json()["expires_in"], 3599);
    let answer = meet(Fault::skew(-7200), &[]);
    assert!((claims(&answer.token()).unwrap()["exp"].as_i64().unwrap() - now + 3601).abs() < 10);
    let date = httpdate::parse_http_date(answer.header("date").unwrap()).unwrap();
    let late = SystemTime::now().duration_since(date).unwrap().as_secs();
    assert!((7190..7210).contains(&late), "{late}");

    let plain = meet(Fault::gzip(), &["--compressed"]);
    assert_eq!((plain.exit, plain.header("content-encoding")), (0, Some("gzip")));
    assert!(claims(&plain.token()).is_some());
    assert!(claims(&meet(Fault::chunked(), &[]).token()).is_some());
    assert!(claims(&meet(Fault::until_close(), &[]).token()).is_some());
    assert!(claims(&meet(Fault::interim(), &[]).token()).is_some());
    assert_eq!(meet(Fault::drip(Duration::from_millis(50)), &["--max-time", "1"]).exit, 28);
    assert_eq!(meet(Fault::cut_short(), &[]).exit, 18);
    assert_eq!(faults.pending(), 0);
    assert!(claims(&ask(&emulator, &APP_ONE, &[]).token()).is_some());
}

#[test]
fn faults_of_the_connection() {
    let emulator = Emulator::start();
    let faults = emulator.entra().faults();
    let meet = |fault: Fault| {
        faults.next(fault);
        ask(&emulator, &APP_ONE, &["--max-time", "1", "--retry", "0"]).exit
    };
    assert_eq!(meet(Fault::hang()), 28);
    assert_eq!(meet(Fault::hang().before_tls()), 28);
    assert_eq!(meet(Fault::reset()), 56);
    assert_eq!(meet(Fault::reset().before_tls()), 35);
    assert_eq!(meet(Fault::close()), 52);
    assert_eq!(meet(Fault::close().before_tls()), 35);
    assert_eq!(meet(Fault::garbage().before_tls()), 35);
    assert_ne!(meet(Fault::garbage()), 0);
    assert_eq!(faults.pending(), 0);
    let start = Instant::now();
    assert_eq!(meet(Fault::slow(Duration::from_millis(100)).before_tls()), 0);
    assert!(start.elapsed() >= Duration::from_millis(100));

    faults.always(Fault::status(500, "server_error", 50000));
    faults.next_n(2, Fault::none());
    let status = || ask(&emulator, &APP_ONE, &[]).status;
    assert_eq!([status(), status(), status(), status()], [200, 200, 500, 500]);
    faults.clear();
    assert_eq!(status(), 200);
}

#[test]
fn a_redirect_is_seen_when_it_is_followed() {
    let emulator = Emulator::start();
    for status in [302, 307, 308] {
        emulator.entra().faults().next(Fault::redirect(status));
        assert_eq!(ask(&emulator, &APP_ONE, &[]).status, status);
        assert_eq!(emulator.entra().counters().redirected, 0);
    }
    emulator.entra().faults().next(Fault::redirect(307));
    assert_eq!(ask(&emulator, &APP_ONE, &["-L"]).exit, 0);
    assert_eq!(emulator.entra().counters().redirected, 1);
    assert_eq!(emulator.entra().tokens().len(), 1);
}

#[test]
fn a_gate_forces_a_race() {
    let emulator = Emulator::start();
    let gate = Gate::new();
    emulator.entra().faults().always(Fault::gate(&gate));
    thread::scope(|scope| {
        let asking: Vec<_> = (0..3).map(|_| scope.spawn(|| ask(&emulator, &APP_ONE, &[]).status)).collect();
        gate.wait_for_arrivals(3);
        assert_eq!(emulator.entra().counters().tokens, 0);
        gate.open();
        assert!(asking.into_iter().all(|thread| thread.join().unwrap() == 200));
    });
    // The end of the emulator ends what waits.
    gate.close();
    let url = endpoint(&emulator, TENANT_ONE.id);
    let ca = emulator.ca_file().to_str().unwrap().to_owned();
    let waiting = thread::spawn(move || curl(&["--cacert", &ca, "-d", "a=b", &url]).exit);
    gate.wait_for_arrivals(4);
    drop(emulator);
    assert_ne!(waiting.join().unwrap(), 0);
}

#[test]
fn certificates_are_as_ordered() {
    for (certificate, exit) in [
        (Certificate::Good, 0),
        (Certificate::Stranger, 60),
        (Certificate::WrongName, 60),
        (Certificate::Expired, 60),
    ] {
        let emulator = Emulator::start_with(certificate);
        assert_eq!(ask(&emulator, &APP_ONE, &[]).exit, exit, "{certificate:?}");
        let counters = emulator.entra().counters();
        assert_eq!((counters.requests, counters.connections), (usize::from(exit == 0), 1), "{certificate:?}");
    }
    let emulator = Emulator::start_with(Certificate::Stranger);
    let stranger = emulator.stranger_ca_file().to_str().unwrap();
    assert_eq!(ask(&emulator, &APP_ONE, &["--cacert", stranger]).status, 200);
}

#[test]
fn the_proxy_leads_nowhere_else() {
    let emulator = Emulator::start();
    let proxy = Proxy::start();
    let via = |more: &[&str]| ask(&emulator, &APP_ONE, &[&["-p", "-x", &proxy.url()][..], more].concat());
    assert_eq!(via(&[]).status, 200);
    assert_eq!(proxy.connects()[0].target(), format!("localhost:{}", emulator.entra().port()));

    proxy.map_to(&emulator);
    let url = format!("https://login.microsoftonline.com/{}/oauth2/v2.0/token", TENANT_ONE.id);
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}&scope={SCOPE}",
        APP_TWO.client_id, APP_TWO.secret
    );
    let ca = emulator.ca_file().to_str().unwrap();
    let mapped = |form: &str| curl(&["-x", &proxy.url(), "--cacert", ca, "-d", form, &url]);
    assert_eq!(mapped(&form).status, 200);
    assert_eq!(mapped(&form.replace("windows.net", "usgovcloudapi.net")).code(), 500011);
    assert_eq!(proxy.connects().last().unwrap().target(), "login.microsoftonline.com:443");

    assert_eq!(curl(&["-x", &proxy.url(), "https://192.0.2.1/"]).exit, 56);
    assert_eq!(proxy.connects().last().unwrap().status, 403);
    proxy.require_auth("me", "p:w");
    assert_eq!(via(&[]).exit, 56);
    assert_eq!(proxy.connects().last().unwrap().status, 407);
    assert_eq!(via(&["--proxy-user", "me:p:w"]).status, 200);
    proxy.refuse(Some(502));
    assert_eq!(via(&[]).exit, 56);
    proxy.hang(true);
    assert_eq!(via(&["--max-time", "1"]).exit, 28);
    assert!(proxy.wait_until(|connects| connects.len() == 8, Duration::from_secs(5)));
}

#[test]
fn curl_controls_it_too() {
    let emulator = Emulator::start();
    let control = emulator.control_url();
    let call = |method: &str, path: &str, body: &str| {
        let url = format!("{control}{path}");
        let mut args = vec!["-X", method, &url];
        if !body.is_empty() {
            args.extend(["-d", body]);
        }
        curl(&args)
    };
    assert!(call("GET", "/", "").body.contains("/faults"));
    let faults =
        r#"[{"kind":"status","status":503,"code":90033,"retry_after":7},{"kind":"none"},{"kind":"gate"}]"#;
    assert_eq!(call("POST", "/faults", faults).body, "ok\n");
    let answer = ask(&emulator, &APP_ONE, &[]);
    assert_eq!((answer.status, answer.code(), answer.header("retry-after")), (503, 90033, Some("7")));
    assert_eq!(ask(&emulator, &APP_ONE, &[]).status, 200);
    thread::scope(|scope| {
        let held = scope.spawn(|| ask(&emulator, &APP_ONE, &[]).status);
        assert_eq!(call("GET", "/gate/1", "").status, 200);
        assert_eq!(call("GET", "/counters", "").json()["tokens"], 1);
        call("POST", "/gate/open", "-");
        assert_eq!(held.join().unwrap(), 200);
    });
    assert_eq!(call("GET", "/counters/tokens/2", "").status, 200);
    assert_eq!(call("GET", "/requests", "").json().as_array().unwrap().len(), 3);
    assert_eq!(call("PUT", "/faults", r#"{"kind":"without","name":"access_token"}"#).status, 200);
    assert_eq!(ask(&emulator, &APP_ONE, &[]).json()["access_token"], Value::Null);
    assert_eq!(call("DELETE", "/faults", "").status, 200);
    assert_eq!(call("PUT", "/config", r#"{"lifetime":600,"numbers":"strings"}"#).status, 200);
    assert_eq!(ask(&emulator, &APP_ONE, &[]).json()["expires_in"], "600");
    assert_eq!(call("GET", "/config", "").json()["lifetime"], 600);
    let secret = call("POST", &format!("/rotate-secret/{}", APP_QUOTED.client_id), "-").body;
    assert_eq!(secret, emulator.entra().secret(&APP_QUOTED));
    assert!(claims(&call("GET", &format!("/token/{}", APP_ONE.client_id), "").body).is_some());
    for wrong in
        [r#"{"kind":"nonsense"}"#, r#"{"kind":"hang","colour":1}"#, r#"{"kind":"status"}"#, "{", "[1]"]
    {
        assert_eq!(call("POST", "/faults", wrong).status, 400, "{wrong}");
    }
    // Each kind that the help names is known.
    for kind in [
        "slow",
        "echo_secret",
        "body",
        "template",
        "html",
        "garbage_json",
        "empty_body",
        "garbage",
        "redirect",
        "hang",
        "reset",
        "close",
        "cut_short",
        "chunked",
        "until_close",
        "gzip",
        "interim",
        "stale",
        "nul_in_token",
        "newline_in_token",
        "expired_token",
        "opaque_token",
        "huge_body",
        "huge_header",
    ] {
        assert_eq!(
            call("POST", "/faults", &json!({"kind": kind, "ms": 1}).to_string()).status,
            200,
            "{kind}"
        );
    }
    for more in [
        r#"{"kind":"drip","ms":1}"#,
        r#"{"kind":"field","name":"a","value":[1]}"#,
        r#"{"kind":"skew","seconds":-5}"#,
        r#"{"kind":"expires_on_only","unix":1}"#,
        r#"{"kind":"token_size","size":2000}"#,
        r#"{"kind":"hang","before_tls":true,"retry_after_date":3,"retry_after_ms":1,"x_ms_retry_after_ms":1,"headers":{"A":"b"}}"#,
    ] {
        assert_eq!(call("POST", "/faults", more).status, 200, "{more}");
    }
}
