//! Pods and pipelines get their assertions, and tokens for them, as on the real platforms.

mod common;

use std::fs;

use common::{Answer, asserting, curl, endpoint, login, post};
use emulator::serde_json::{Value, json};
use emulator::{
    APP_ONE, APP_THREE, CLUSTER_SUBJECT, EXCHANGE, Emulator, Fault, GITHUB_SUBJECT, GitHub, IDENTITY_ONE,
    PIPELINES_SUBJECT, Pipelines, Postgres, TENANT_ONE, TokenProxy, claims,
};

type Variables = Vec<(String, std::ffi::OsString)>;

fn get<'a>(env: &'a Variables, name: &str) -> &'a str {
    let (_, value) = env.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no {name}"));
    value.to_str().unwrap()
}

/// Exchanges an assertion for a token of [`APP_ONE`].
fn exchange(emulator: &Emulator, assertion: &str) -> Answer {
    post(emulator, TENANT_ONE.id, &asserting(APP_ONE.client_id, assertion), &[])
}

#[test]
fn a_pod_signs_in_with_its_file() {
    let emulator = Emulator::start();
    let server = Postgres::start(&emulator);
    for (client_id, role) in [(APP_ONE.client_id, "app-one"), (IDENTITY_ONE.client_id, "identity-one")] {
        let env = emulator.workload_env(client_id);
        assert_eq!(get(&env, "AZURE_CLIENT_ID"), client_id);
        assert_eq!(get(&env, "AZURE_AUTHORITY_HOST"), format!("{}/", emulator.authority()));
        let assertion = fs::read_to_string(get(&env, "AZURE_FEDERATED_TOKEN_FILE")).unwrap();
        let tenant = get(&env, "AZURE_TENANT_ID");
        let token = post(&emulator, tenant, &asserting(client_id, &assertion), &[]).token();
        assert_eq!(login(&server, role, &token).as_deref(), Ok(role));
    }
    assert_eq!(get(&emulator.workload_env(APP_THREE.client_id), "AZURE_TENANT_ID"), APP_THREE.tenant.id);

    let expired = emulator.entra().cluster().assertion(CLUSTER_SUBJECT, -60);
    let file = emulator.write_federated_token(&expired);
    assert_eq!(
        file.to_str().unwrap(),
        get(&emulator.workload_env(APP_ONE.client_id), "AZURE_FEDERATED_TOKEN_FILE")
    );
    emulator.write_federated_token(&expired);
    assert_eq!(exchange(&emulator, &fs::read_to_string(&file).unwrap()).code(), 700024);
}

#[test]
fn github_gives_a_job_its_assertion() {
    let emulator = Emulator::start();
    let github = GitHub::start(&emulator);
    let env = github.env();
    let (url, token) =
        (get(&env, "ACTIONS_ID_TOKEN_REQUEST_URL"), get(&env, "ACTIONS_ID_TOKEN_REQUEST_TOKEN"));
    let ca = emulator.ca_file().to_str().unwrap();
    let ask = |url: &str, authorization: &str, more: &[&str]| {
        let header = format!("Authorization: {authorization}");
        curl(&[&["--cacert", ca, "-H", &header, url][..], more].concat())
    };
    let right = format!("{url}&audience={EXCHANGE}");
    let good = format!("bearer {token}");
    let answer = ask(&right, &good, &[]);
    let assertion = answer.json()["value"].as_str().unwrap().to_owned();
    assert_eq!(claims(&assertion).unwrap()["sub"], GITHUB_SUBJECT);
    assert_eq!(exchange(&emulator, &assertion).status, 200);
    assert_eq!(ask(&right.replace("://Azure", "%3A%2F%2FAzure"), &good, &[]).status, 200);
    assert_eq!((github.front().counters().requests, github.front().tokens().len()), (2, 2));
    assert_eq!(github.front().tokens()[0], assertion);

    for (audience, code) in [(format!("{url}&audience=sts.amazonaws.com"), 700212), (url.to_owned(), 700212)]
    {
        let answer = ask(&audience, &good, &[]);
        assert_eq!(exchange(&emulator, answer.json()["value"].as_str().unwrap()).code(), code);
    }
    for (url, authorization, more, status) in [
        (right.as_str(), "bearer wrong", &[][..], 401),
        (&right, token, &[], 401),
        (&right, &format!("basic {token}"), &[], 401),
        (&right, &good, &["-X", "POST", "-d", ""], 405),
        (&format!("{right}&audience=again"), &good, &[], 404),
        (&format!("{right}&colour=red"), &good, &[], 400),
        (&right.replace("?api-version=2.0&", "?"), &good, &[], 400),
        (&right.replace("2.0", "1.0"), &good, &[], 400),
        (&right.replace("//idtoken", "/idtoken"), &good, &[], 404),
        (&right.replace("&audience", "?audience"), &good, &[], 400),
    ] {
        let answer = ask(url, authorization, more);
        assert_eq!(answer.status, status, "{url} {authorization}: {answer:?}");
        assert!(!answer.body.contains("eyJ"), "{answer:?}");
    }
    let faults = github.front().faults();
    let met = |fault: Fault| {
        faults.next(fault);
        ask(&right, &good, &[])
    };
    assert_eq!(met(Fault::status(503, "unavailable", 1).retry_after(3)).header("retry-after"), Some("3"));
    assert!(met(Fault::html(200)).body.starts_with("<!DOCTYPE"));
    assert_eq!(met(Fault::without("value")).json(), json!({}));
    assert_eq!(met(Fault::field("value", 7)).json(), json!({"value": 7}));
    let expired = met(Fault::expired_token()).json()["value"].as_str().unwrap().to_owned();
    assert_eq!(exchange(&emulator, &expired).code(), 700024);
    assert_eq!(met(Fault::close()).exit, 52);
}

#[test]
fn pipelines_gives_a_task_its_assertion() {
    let emulator = Emulator::start();
    let pipelines = Pipelines::start(&emulator);
    let env = pipelines.env();
    let ca = emulator.ca_file().to_str().unwrap();
    let (uri, token) = (get(&env, "SYSTEM_OIDCREQUESTURI"), get(&env, "SYSTEM_ACCESSTOKEN"));
    let connection = get(&env, "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID");
    let right = format!("{uri}?api-version=7.1&serviceConnectionId={connection}");
    let (bearer, suppress, json_type) = (
        format!("Authorization: Bearer {token}"),
        "X-TFS-FedAuthRedirect: Suppress",
        "Content-Type: application/json",
    );
    let ask = |url: &str, headers: &[&str], body: &str| {
        let mut args = vec!["--cacert", ca, "-d", body];
        headers.iter().for_each(|header| args.extend(["-H", header]));
        args.push(url);
        let answer = curl(&args);
        assert!(answer.header("x-vss-e2eid").is_some() && answer.header("x-msedge-ref").is_some());
        answer
    };
    let good = [bearer.as_str(), suppress, json_type];
    let assertion = ask(&right, &good, "").json()["oidcToken"].as_str().unwrap().to_owned();
    assert_eq!(claims(&assertion).unwrap()["sub"], PIPELINES_SUBJECT);
    assert_eq!(
        (get(&env, "AZURESUBSCRIPTION_TENANT_ID"), get(&env, "AZURESUBSCRIPTION_CLIENT_ID")),
        (TENANT_ONE.id, APP_ONE.client_id)
    );
    assert_eq!(exchange(&emulator, &assertion).status, 200);
    assert_eq!(exchange(&emulator, &assertion).code(), 50027);

    for (url, headers, body, status) in [
        (right.as_str(), &[bearer.as_str(), json_type][..], "", 302),
        (&right, &["Authorization: Bearer wrong", suppress, json_type], "", 401),
        (&right, &[suppress, json_type], "", 401),
        (&right, &[&bearer, suppress], "", 415),
        (&right, &good, "{}", 415),
        (&right.replace("7.1", "7.0"), &good, "", 400),
        (&right.replace("api-version=7.1&", ""), &good, "", 400),
        (&format!("{right}&colour=red"), &good, "", 400),
        (&format!("{right}&api-version=7.1"), &good, "", 400),
        (&right.replace(connection, "5e5e5e5e-0000-0000-0000-000000000009"), &good, "", 404),
        (&format!("{uri}?api-version=7.1"), &good, "", 404),
        (&right.replace("/oidctoken", "/oidctoken/"), &good, "", 404),
    ] {
        let answer = ask(url, headers, body);
        assert_eq!(answer.status, status, "{url} {headers:?}: {answer:?}");
        assert!(!answer.body.contains("oidcToken"), "{answer:?}");
        assert!(status != 401 || answer.body.is_empty(), "{answer:?}");
        assert!(!matches!(status, 400 | 404 | 415) || answer.json()["message"].is_string(), "{answer:?}");
    }
    assert_eq!(curl(&["--cacert", ca, "-H", &bearer, "-H", suppress, &right]).status, 405);
    assert_eq!((pipelines.front().counters().requests, pipelines.front().counters().tokens), (14, 1));
    pipelines.front().faults().next(Fault::template(r#"{"oidcToken":"{token}","x":1}"#));
    assert_eq!(ask(&right, &good, "").json()["x"], 1);
    pipelines.front().faults().next(Fault::status_without_code(500, "oops"));
    assert_eq!(ask(&right, &good, "").status, 500);
}

#[test]
fn the_token_proxy_takes_token_requests_under_one_name_only() {
    let emulator = Emulator::start();
    let server = Postgres::start(&emulator);
    let proxy = TokenProxy::start(&emulator);
    let env = proxy.env();
    let url = get(&env, "AZURE_KUBERNETES_TOKEN_PROXY").to_owned();
    let name = get(&env, "AZURE_KUBERNETES_SNI_NAME");
    assert_eq!(get(&env, "AZURE_KUBERNETES_CA_FILE"), proxy.ca_file().to_str().unwrap());
    let port = proxy.front().port();
    let assertion = emulator.entra().cluster().assertion(CLUSTER_SUBJECT, 3600);
    let pairs = asserting(IDENTITY_ONE.client_id, &assertion).map(|(name, value)| format!("{name}={value}"));
    let ask = |host: &str, path: &str, ca: &str| {
        let (to, url) = (format!("{host}:{port}:127.0.0.1"), format!("https://{host}:{port}{path}"));
        let mut args = vec!["--cacert", ca, "--resolve", &to];
        pairs.iter().for_each(|pair| args.extend(["--data-urlencode", pair]));
        args.push(&url);
        curl(&args)
    };
    let prefix = url.strip_prefix(&format!("https://127.0.0.1:{port}")).unwrap();
    let token_path =
        endpoint(&emulator, TENANT_ONE.id).strip_prefix(&emulator.authority()).unwrap().to_owned();
    let path = format!("{prefix}{token_path}");
    let ca = proxy.ca_file().to_str().unwrap();

    let answer = ask(name, &path, ca);
    assert_eq!(login(&server, "identity-one", &answer.token()).as_deref(), Ok("identity-one"));
    assert_eq!((emulator.entra().counters().requests, emulator.entra().tokens()), (0, vec![answer.token()]));
    assert_eq!(proxy.front().requests()[0].field("client_assertion"), Some(assertion.as_str()));
    for wrong in [token_path.clone(), format!("{prefix}{path}"), prefix.to_owned(), path.replace("/v2.0", "")]
    {
        assert_eq!(ask(name, &wrong, ca).status, 404, "{wrong}");
    }
    assert_eq!(proxy.front().counters().requests, 5);

    // Another name, no name, another authority: no request.
    for (host, ca, exit) in [
        ("127.0.0.1", ca, 35),
        ("localhost", ca, 35),
        ("other.aks.test", ca, 35),
        (name, emulator.ca_file().to_str().unwrap(), 60),
    ] {
        assert_eq!(ask(host, &path, ca).exit, exit, "{host} {ca}");
    }
    let counters = proxy.front().counters();
    assert_eq!((counters.requests, counters.connections), (5, 9));

    let old = fs::read_to_string(proxy.ca_file()).unwrap();
    proxy.rotate_ca();
    assert_ne!(fs::read_to_string(proxy.ca_file()).unwrap(), old);
    assert_eq!(ask(name, &path, ca).status, 200);
    let stale = emulator.write_federated_token(&old); // any file will do
    assert_eq!(ask(name, &path, stale.to_str().unwrap()).exit, 60);

    proxy.front().faults().next(Fault::status(429, "invalid_request", 90055));
    assert_eq!(ask(name, &path, ca).code(), 90055);
    emulator.entra().configure(|config| config.prefix = "/deep".to_owned());
    assert_eq!(ask(name, &path, ca).status, 404);
    assert_eq!(ask(name, &format!("{prefix}/deep{token_path}"), ca).status, 200);
    let refused: Value = ask(name, &format!("{prefix}/deep/nowhere.example/oauth2/v2.0/token"), ca).json();
    assert_eq!(refused["error_codes"][0], 90002);
}
