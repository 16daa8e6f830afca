//! A pod with a federated token: the file, what Entra says of it, and the token proxy of AKS.

use std::fs;
use std::path::PathBuf;

use emulator::serde_json::{Value, json};
use emulator::{
    APP_ONE, APP_THREE, APP_TWO, CLUSTER_SUBJECT, Emulator, Fault, Gate, IDENTITY_ONE, Issuer, PATIENCE,
    Proxy, TENANT_ONE, TokenProxy, claims,
};

use crate::harness::{
    ClosedPort, Driver, Line, ask, ask_again, assert_refused, conninfo, each, ground, shim, unreadable,
};

const GET: &[&str] = &["get_token"];
const AKS: [&str; 3] = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"];

/// A program in a pod that is [`APP_ONE`], with AKS's variables alone and told to use them.
fn pod(emulator: &Emulator) -> Driver {
    Driver::new().envs(emulator.workload_env(APP_ONE.client_id)).env("PGAAD_AUTH", "workload_identity")
}

/// Whose token it is.
#[track_caller]
fn owner(line: &Line) -> String {
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    let claims = claims(line.get("token")).expect("a token");
    assert_eq!(claims["appidacr"], "2", "it was not got by an assertion");
    claims["appid"].as_str().expect("an id").to_string()
}

#[track_caller]
fn assert_signed_in(line: &Line) {
    assert_eq!(owner(line), APP_ONE.client_id);
}

/// The assertions that the service saw.
fn assertions(emulator: &Emulator) -> Vec<String> {
    let requests = emulator.entra().requests();
    requests.iter().map(|seen| seen.field("client_assertion").expect("one").to_string()).collect()
}

#[test]
fn a_pod_signs_in_with_what_aks_injects() {
    let ground = ground();
    let env = ground.emulator.workload_env(IDENTITY_ONE.client_id);
    let authority = env.iter().find(|(name, _)| name == "AZURE_AUTHORITY_HOST").expect("it is set");
    assert!(authority.1.to_str().is_some_and(|url| url.ends_with('/')), "as AKS writes it: {authority:?}");
    let pod = Driver::new().envs(env).envs(ground.postgres.env(IDENTITY_ONE.role)).without("PGHOST");
    let azure = conninfo(&[("host", "shop.postgres.database.azure.com"), ("hostaddr", "127.0.0.1")]);
    // By the chain, which a server of Azure's gets unasked, and by name, for any server.
    for (driver, server) in [
        (pod.clone(), azure.as_str()),
        (pod.clone().env("PGAAD_AUTH", "default"), "host=localhost"),
        (pod.clone().env("PGAAD_AUTH", "workload_identity"), "host=localhost"),
        (pod.clone().env("AZURE_TOKEN_CREDENTIALS", "WorkloadIdentityCredential"), &azure),
        (pod.env("AZURE_TOKEN_CREDENTIALS", "prod"), &azure),
    ] {
        let lines = driver.run(&[&["connect", server], &["query", "select current_user"], GET]);
        assert_eq!((lines[0].status(), lines[0].get("conn")), ("PGAAD_OK", "OK"), "{lines:?}");
        assert_eq!(lines[1].get("value"), IDENTITY_ONE.role);
        assert_eq!(owner(&lines[2]), IDENTITY_ONE.client_id);
        assert_eq!(ground.uses_of(lines[2].get("token")), [(IDENTITY_ONE.role.to_string(), true)]);
    }
}

#[test]
fn the_request_carries_the_file_and_no_secret() {
    let emulator = Emulator::start();
    assert_signed_in(&pod(&emulator).one(GET));
    let seen = emulator.entra().requests().remove(0);
    assert_eq!(seen.http.target, format!("/{}/oauth2/v2.0/token", TENANT_ONE.id), "one slash");
    let mut form = seen.form.clone();
    form.sort();
    let names: Vec<_> = form.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["client_assertion", "client_assertion_type", "client_id", "grant_type", "scope"]);
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    assert_eq!(seen.field("client_assertion_type"), Some(kind));
}

#[test]
fn the_file_is_read_at_each_fetch_and_blanks_around_it_do_not_count() {
    let emulator = Emulator::start();
    let mut session = pod(&emulator).session();
    let mut written = Vec::new();
    for (before, after) in [("", ""), ("", "\n"), ("\r\n\t ", " \r\n"), ("\n", "")] {
        let token = emulator.entra().cluster().assertion(CLUSTER_SUBJECT, 3600);
        emulator.write_federated_token(&format!("{before}{token}{after}"));
        written.push(token);
        let line = if written.len() == 1 { ask(&mut session, "") } else { ask_again(&mut session) };
        assert_signed_in(&line);
    }
    assert_eq!(assertions(&emulator), written);
    // A token in memory needs no file.
    emulator.write_federated_token("");
    assert_signed_in(&session.one(crate::harness::NOW));
    assert_eq!(emulator.entra().counters().requests, written.len());
}

#[test]
fn a_file_that_is_no_use_is_named_and_nothing_is_sent() {
    let emulator = Emulator::start();
    let pod = pod(&emulator);
    let dir = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    };
    let good = emulator.entra().cluster().assertion(CLUSTER_SUBJECT, 3600);
    let rows: [(PathBuf, &str); 6] = [
        (dir.path().join("nothing"), "cannot be read: No such file"),
        (dir.path().to_path_buf(), "cannot be read: it is no plain file"),
        (file("empty", b""), "is empty"),
        (file("blank", b" \r\n\t\n"), "is empty"),
        (file("latin", b"\xe4\xf6\xfc"), "is not UTF-8"),
        (file("long", &vec![b'x'; 1 << 20]), "cannot be read: it has more than"),
    ];
    for (path, why) in &rows {
        let path_text = path.to_str().expect("text");
        let by_azure = pod.clone().env("AZURE_FEDERATED_TOKEN_FILE", path);
        let line = by_azure.one(GET);
        assert_refused(&line, "PGAAD_CONFIG", &["AZURE_FEDERATED_TOKEN_FILE names ", path_text, why]);
        // In a chain too: it is configured here, and no other identity may slip in.
        let line = by_azure.without("PGAAD_AUTH").one(GET);
        assert_refused(&line, "PGAAD_CONFIG", &["AZURE_FEDERATED_TOKEN_FILE names ", path_text, why]);
        let line = pod.clone().env("PGAAD_FEDERATED_TOKEN_FILE", path).one(GET);
        assert_refused(&line, "PGAAD_CONFIG", &["PGAAD_FEDERATED_TOKEN_FILE names ", path_text, why]);
    }
    let hidden = file("hidden", good.as_bytes());
    let line = unreadable(pod.env("AZURE_FEDERATED_TOKEN_FILE", &hidden), &hidden).one(GET);
    assert_refused(&line, "PGAAD_CONFIG", &[hidden.to_str().expect("text"), "Permission denied"]);
    assert_eq!(emulator.entra().counters().connections, 0);
}

#[test]
fn a_stale_token_is_read_once_more() {
    let emulator = Emulator::start();
    let (entra, cluster) = (emulator.entra(), emulator.entra().cluster());
    let mut session = pod(&emulator).session();
    let stale = cluster.assertion(CLUSTER_SUBJECT, -60);
    emulator.write_federated_token(&stale);
    // The kubelet renews the file while the request with the old one is under way.
    let gate = Gate::new();
    entra.faults().next(Fault::gate(&gate));
    session.ask(&["new", ""]);
    session.tell(crate::harness::NOW);
    gate.wait_for_arrivals(1);
    let good = cluster.assertion(CLUSTER_SUBJECT, 3600);
    emulator.write_federated_token(&good);
    gate.open();
    assert_signed_in(&session.answer().pop().expect("a line"));
    assert_eq!(assertions(&emulator), [stale.clone(), good]);

    // One that stays stale is refused at the second time.
    emulator.write_federated_token(&stale);
    let line = ask_again(&mut session);
    let words = ["federated token", APP_ONE.client_id, "AADSTS700024", "clock", "token file"];
    assert_refused(&line, "PGAAD_DENIED", &words);
    assert_eq!(assertions(&emulator)[2..], [stale.clone(), stale]);
    // Nobody renews what was refused for another reason.
    emulator.write_federated_token(&cluster.assertion("system:serviceaccount:shop:cron", 3600));
    assert_refused(&ask_again(&mut session), "PGAAD_DENIED", &["AADSTS700213"]);
    assert_eq!(entra.counters().requests, 5);
}

/// The pod's token with one claim changed.
fn with_claim(issuer: &Issuer, name: &str, value: Value) -> String {
    issuer.assertion_with(CLUSTER_SUBJECT, 3600, |claims| drop(claims.insert(name.into(), value)))
}

#[test]
fn a_token_that_is_not_trusted_is_refused_for_its_true_reason() {
    type Make = fn(&Issuer) -> String;
    let rows: &[(&str, &str, Make, &[&str])] = &[
        (
            "another issuer",
            "700211",
            |issuer| with_claim(issuer, "iss", json!("https://other.example/")),
            &["'https://other.example/'", "issuer, subject and audience"],
        ),
        (
            "another audience",
            "700212",
            |issuer| with_claim(issuer, "aud", json!(["https://kubernetes.default.svc"])),
            &["'https://kubernetes.default.svc'", "issuer, subject and audience"],
        ),
        (
            "another service account",
            "700213",
            |issuer| issuer.assertion("system:serviceaccount:shop:cron", 3600),
            &["'system:serviceaccount:shop:cron'", "issuer, subject and audience"],
        ),
        (
            "a signature of something else",
            "50013",
            |issuer| {
                let [token, other] = [(); 2].map(|()| issuer.assertion(CLUSTER_SUBJECT, 3600));
                let (Some((signed, _)), Some((_, signature))) =
                    (token.rsplit_once('.'), other.rsplit_once('.'))
                else {
                    panic!("three parts")
                };
                format!("{signed}.{signature}")
            },
            &["signature", "Renew"],
        ),
        ("no token at all", "50027", |_| "Bring the token on Tuesday.".into(), &["malformed"]),
        ("not yet", "700024", |issuer| with_claim(issuer, "nbf", json!(i64::from(u32::MAX))), &["clock"]),
    ];
    each(rows, |(case, code, make, words)| {
        let emulator = Emulator::start();
        let driver = pod(&emulator).env("PGAAD_LOG", "debug");
        let token = make(emulator.entra().cluster());
        emulator.write_federated_token(&token);
        let output = driver.output(&[GET]);
        let line = Line(String::from_utf8_lossy(&output.stdout).trim_end().to_string());
        let code = format!("AADSTS{code}");
        let all = [&[APP_ONE.client_id, TENANT_ONE.id, code.as_str()], *words].concat();
        assert_refused(&line, "PGAAD_DENIED", &all);
        let said = format!("{}{}", line.errmsg(), String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains(&token) && !said.contains("eyJ"), "{case}: {said}");
    });
}

#[test]
fn an_application_that_trusts_nobody_is_told_so() {
    let emulator = Emulator::start();
    let env = emulator.workload_env(APP_THREE.client_id);
    let line = Driver::new().envs(env).one(GET);
    let words = [APP_THREE.client_id, APP_THREE.tenant.id, "AADSTS70021: ", "takes minutes to spread"];
    assert_refused(&line, "PGAAD_DENIED", &words);
    assert_eq!(emulator.entra().counters().requests, 1);
}

#[test]
fn a_service_that_repeats_the_token_does_not_make_us_repeat_it() {
    let emulator = Emulator::start();
    let driver = pod(&emulator).env("PGAAD_LOG", "debug");
    emulator.entra().faults().next(Fault::echo_secret());
    let output = driver.output(&[GET]);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("AADSTS700027") && said.contains("***"), "{said}");
    assert!(!said.contains("eyJ"), "{said}");
}

#[test]
fn the_pods_token_is_filled_in_for_another_identity() {
    let emulator = Emulator::start();
    let pod = pod(&emulator).without("PGAAD_AUTH");
    // Its own client id comes first, and tenant and file are the pod's.
    for prefix in ["PGAAD", "DB_SP"] {
        let line = pod.clone().env(format!("{prefix}_CLIENT_ID"), APP_TWO.client_id).one(GET);
        assert_eq!(owner(&line), APP_TWO.client_id, "{prefix}");
    }
    let mut session = pod.clone().session();
    let settings = conninfo(&[("client_id", IDENTITY_ONE.client_id)]);
    assert_eq!(owner(&ask(&mut session, &settings)), IDENTITY_ONE.client_id);
    // An earlier family's tenant overrides.
    let line = pod.clone().env("PGAAD_TENANT_ID", TENANT_ONE.domain).one(GET);
    assert_signed_in(&line);
    let target = emulator.entra().requests().pop().expect("a request").http.target;
    assert_eq!(target, format!("/{}/oauth2/v2.0/token", TENANT_ONE.domain));
    // A file of ours goes with the pod's client id.
    let own = tempfile::NamedTempFile::new().expect("a file");
    let token = emulator.entra().cluster().assertion(CLUSTER_SUBJECT, 600);
    fs::write(own.path(), &token).expect("a file");
    assert_signed_in(&pod.env("PGAAD_FEDERATED_TOKEN_FILE", own.path()).one(GET));
    assert_eq!(assertions(&emulator).pop(), Some(token));
}

#[test]
fn each_variable_that_is_missing_is_named() {
    let keys = [
        "tenant_id (PGAAD_TENANT_ID, DB_SP_TENANT_ID or AZURE_TENANT_ID)",
        "client_id (PGAAD_CLIENT_ID, DB_SP_CLIENT_ID or AZURE_CLIENT_ID)",
        "federated_token_file (PGAAD_FEDERATED_TOKEN_FILE or AZURE_FEDERATED_TOKEN_FILE)",
    ];
    let (emulator, closed) = (Emulator::start(), ClosedPort::new());
    let pod = pod(&emulator);
    let imds = format!("http://{}", closed.address());
    for missing in 1..8_usize {
        let is_missing = |n: usize| missing & (1 << n) != 0;
        let driver = (0..3).filter(|n| is_missing(*n)).fold(pod.clone(), |driver, n| driver.without(AKS[n]));
        let verb = if missing.count_ones() == 1 { "is missing" } else { "are missing" };
        let mut words: Vec<&str> = (0..3).filter(|n| is_missing(*n)).map(|n| keys[n]).collect();
        words.push(verb);
        let line = driver.one(GET);
        assert_refused(&line, "PGAAD_CONFIG", &words);
        for n in (0..3).filter(|n| !is_missing(*n)) {
            assert!(!line.errmsg().contains(keys[n]), "{} is not missing: {line:?}", keys[n]);
        }
        // In the chain it is a source that is not here, listed with its reason.
        let in_chain = driver.env("PGAAD_AUTH", "default").env("AZURE_POD_IDENTITY_AUTHORITY_HOST", &imds);
        let line = in_chain.one(GET);
        match missing {
            7 => words = vec!["workload_identity: none of its variables"],
            _ => words.insert(0, "workload_identity: "),
        }
        words.extend(["managed_identity: ", "azure_cli: "]);
        assert_refused(&line, "PGAAD_UNAVAILABLE", &words);
    }
    assert_eq!(emulator.entra().counters().connections, 0);
}

/// The token proxy in front of a token service, and a pod with its variables.
struct Bound {
    emulator: Emulator,
    proxy: TokenProxy,
}

const PROXY: &str = "AZURE_KUBERNETES_TOKEN_PROXY";
const SNI_NAME: &str = "AZURE_KUBERNETES_SNI_NAME";
const CA_FILE: &str = "AZURE_KUBERNETES_CA_FILE";
const CA_DATA: &str = "AZURE_KUBERNETES_CA_DATA";

impl Bound {
    fn start() -> Self {
        let emulator = Emulator::start();
        Self { proxy: TokenProxy::start(&emulator), emulator }
    }

    fn pod(&self) -> Driver {
        pod(&self.emulator).envs(self.proxy.env())
    }

    fn url(&self) -> String {
        let (_, url) = self.proxy.env().into_iter().find(|(name, _)| name == PROXY).expect("it is set");
        url.into_string().expect("text")
    }

    /// Requests that came to the proxy, and connections to the token service itself.
    fn counts(&self) -> (usize, usize) {
        (self.proxy.front().counters().requests, self.emulator.entra().counters().connections)
    }
}

#[test]
fn the_token_proxy_stands_in_for_the_service() {
    let bound = Bound::start();
    let pod = bound.pod();
    let drivers = [
        pod.clone(),
        // Without being named, in the chain.
        pod.clone().without("PGAAD_AUTH"),
        // The roots as text.
        pod.clone().without(CA_FILE).env(CA_DATA, fs::read_to_string(bound.proxy.ca_file()).expect("PEM")),
        pod.env(PROXY, format!("{}/", bound.url())),
    ];
    for (n, driver) in drivers.iter().enumerate() {
        assert_signed_in(&driver.one(GET));
        assert_eq!(bound.counts(), (n + 1, 0));
        let seen = bound.proxy.front().requests().pop().expect("a request");
        let path = bound.url().splitn(4, '/').nth(3).expect("a path").to_string();
        assert_eq!(seen.http.target, format!("/{path}/{}/oauth2/v2.0/token", TENANT_ONE.id));
    }
}

#[test]
fn a_try_through_the_token_proxy_goes_where_the_first_one_went() {
    let bound = Bound::start();
    bound.emulator.entra().configure(|config| config.prefix = "/deep".into());
    let busy = || Fault::status(503, "temporarily_unavailable", 90033).retry_after_ms(1);
    bound.proxy.front().faults().next_n(2, busy());
    assert_signed_in(&bound.pod().one(GET));
    let targets: Vec<_> = bound.proxy.front().requests().into_iter().map(|seen| seen.http.target).collect();
    assert_eq!(targets.len(), 3);
    assert!(
        targets[0].contains("/deep/") && targets.iter().all(|target| *target == targets[0]),
        "{targets:?}"
    );
}

#[test]
fn the_token_proxys_roots_are_read_anew_and_an_empty_file_leaves_the_old_ones() {
    let bound = Bound::start();
    let mut session = bound.pod().session();
    assert_signed_in(&ask(&mut session, ""));
    bound.proxy.rotate_ca();
    assert_signed_in(&ask_again(&mut session));
    // A file that is being replaced may be empty for a moment.
    for text in ["", "\n"] {
        fs::write(bound.proxy.ca_file(), text).expect("its file");
        assert_signed_in(&ask_again(&mut session));
    }
    assert_eq!(bound.counts(), (4, 0));
    // Nothing was kept of another client's.
    let line = ask(&mut session, "");
    assert_refused(&line, "PGAAD_CONFIG", &[CA_FILE, "is empty"]);
    // The old roots are not the new certificate's.
    bound.proxy.rotate_ca();
    assert_signed_in(&ask(&mut session, ""));
    fs::write(bound.proxy.ca_file(), "").expect("its file");
    let kept = bound.proxy.front().counters().requests;
    assert_signed_in(&ask_again(&mut session));
    assert_eq!(bound.proxy.front().counters().requests, kept + 1);
}

#[test]
fn a_token_proxy_that_is_half_or_wrongly_set_is_said_and_nothing_is_sent() {
    let bound = Bound::start();
    let pod = bound.pod();
    let url = bound.url();
    let ca = fs::read_to_string(bound.proxy.ca_file()).expect("PEM");
    let plain = url.replace("https://", "http://");
    let with_user = url.replace("https://", "https://user:hunter2@");
    let (with_query, with_fragment) = (format!("{url}?a=b"), format!("{url}#a"));
    let file = |text: &str| {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("a file");
        file
    };
    let (empty, garbage) = (file(""), file("Bring the roots on Tuesday."));
    let path = |file: &tempfile::NamedTempFile| file.path().to_str().expect("text").to_string();
    let without = |names: &[&str]| names.iter().fold(pod.clone(), |driver, name| driver.without(name));
    let https = [PROXY, "must be an https URL without user, query and fragment"];
    let rows: Vec<(Driver, Vec<&str>)> = vec![
        (pod.clone().env(PROXY, &plain), https.to_vec()),
        (pod.clone().env(PROXY, &with_user), https.to_vec()),
        (pod.clone().env(PROXY, &with_query), https.to_vec()),
        (pod.clone().env(PROXY, &with_fragment), https.to_vec()),
        (pod.clone().env(PROXY, "token-proxy.aks.test"), https.to_vec()),
        (pod.clone().env(PROXY, "https://"), https.to_vec()),
        (without(&[PROXY, CA_FILE]), vec![SNI_NAME, "is set, but", PROXY, "is not"]),
        (without(&[PROXY, SNI_NAME]), vec![CA_FILE, "is set, but", PROXY, "is not"]),
        (without(&[PROXY, SNI_NAME, CA_FILE]).env(CA_DATA, &ca), vec![CA_DATA, "is set, but", PROXY]),
        (pod.clone().env(CA_DATA, &ca), vec![CA_FILE, CA_DATA, "both set"]),
        (pod.clone().env(CA_FILE, path(&empty)), vec![CA_FILE, "is empty"]),
        (pod.clone().env(CA_FILE, path(&garbage)), vec![CA_FILE, "cannot be used"]),
        (
            pod.clone().env(CA_FILE, "/nonexistent/ca.crt"),
            vec![CA_FILE, "/nonexistent/ca.crt", "cannot be read"],
        ),
        (without(&[CA_FILE]).env(CA_DATA, "garbage"), vec![CA_DATA, "cannot be used"]),
        (without(&[CA_FILE]).env(CA_DATA, " "), vec![CA_DATA, "is empty"]),
    ];
    for (driver, words) in &rows {
        for driver in [driver.clone(), driver.clone().without("PGAAD_AUTH")] {
            let line = driver.one(GET);
            assert_refused(&line, "PGAAD_CONFIG", words);
            assert!(!line.errmsg().contains("hunter2"), "{line:?}");
        }
    }
    assert_eq!(bound.counts(), (0, 0));
    assert_eq!(bound.proxy.front().counters().connections, 0);
}

#[test]
fn a_stranger_in_the_token_proxys_place_gets_nothing() {
    let bound = Bound::start();
    let other = TokenProxy::start(&bound.emulator);
    let pod = bound.pod();
    let ours = bound.emulator.ca_file();
    let closed = ClosedPort::new();
    let token_service = bound.emulator.authority();
    let rows: Vec<(&str, Driver, &[&str])> = vec![
        ("no certificate for that name", pod.clone().env(SNI_NAME, "other.aks.test"), &["TLS"]),
        ("no name of its own", pod.clone().without(SNI_NAME), &["TLS"]),
        (
            "another authority",
            pod.clone().env(CA_FILE, other.ca_file()),
            &["its certificate", CA_FILE, SNI_NAME],
        ),
        // Those of PGAAD_CA_FILE and of the system do not count here.
        ("the service's authority", pod.clone().env(CA_FILE, ours), &["no root", CA_FILE]),
        ("another name", pod.clone().env(PROXY, &token_service).env(CA_FILE, ours), &["not valid", SNI_NAME]),
        ("nobody", pod.clone().env(PROXY, format!("https://{}", closed.address())), &["refused", PROXY]),
    ];
    each(&rows, |(case, driver, words)| {
        let line = driver.clone().env("PGAAD_TIMEOUT_MS", "20000").one(GET);
        assert_refused(&line, "PGAAD_NETWORK", &[&["token proxy"], *words].concat());
        assert!(!line.errmsg().contains("eyJ"), "{case}: {line:?}");
    });
    assert_eq!(bound.counts().0 + bound.emulator.entra().counters().requests, 0);
}

#[test]
fn what_the_token_proxy_says_is_read_as_the_services_own() {
    let bound = Bound::start();
    let pod = bound.pod();
    let faults = bound.proxy.front().faults();
    let busy = || Fault::status(429, "invalid_request", 90055).retry_after(3600);
    let rows: &[(Fault, &str, &[&str])] = &[
        (Fault::status(401, "invalid_client", 700213), "PGAAD_DENIED", &["AADSTS700213"]),
        (busy(), "PGAAD_THROTTLED", &["token proxy", "3600 s"]),
        (Fault::html(200), "PGAAD_PROTOCOL", &["token proxy", PROXY]),
        (Fault::redirect(302), "PGAAD_PROTOCOL", &["token proxy", "redirect"]),
    ];
    for (fault, status, words) in rows {
        faults.next(fault.clone());
        assert_refused(&pod.one(GET), status, words);
    }
    assert_eq!(bound.proxy.front().counters().redirected, 0);
    let line = pod.env(PROXY, format!("{}/elsewhere", bound.url())).one(GET);
    assert_refused(&line, "PGAAD_PROTOCOL", &["token proxy", "HTTP 404", PROXY]);
    assert_eq!(bound.emulator.entra().counters().connections, 0);
}

#[test]
fn the_token_proxy_is_never_reached_through_another_one() {
    let bound = Bound::start();
    let forward = Proxy::start();
    // By a name that is this machine, so that it is not the address that keeps the other proxy away.
    let url = bound.url().replace("127.0.0.1", "token-proxy.pgaad.test");
    let driver = bound.pod().env(PROXY, url).env("LD_PRELOAD", shim("slow_resolver"));
    for name in ["HTTPS_PROXY", "https_proxy", "PGAAD_PROXY"] {
        assert_signed_in(&driver.clone().env(name, forward.url()).one(GET));
    }
    assert_eq!(bound.counts(), (3, 0));
    assert!(forward.connects().is_empty());
}

#[test]
fn a_refusal_at_the_token_proxy_reads_the_file_once_more_too() {
    let bound = Bound::start();
    let mut session = bound.pod().session();
    let cluster = bound.emulator.entra().cluster();
    bound.emulator.write_federated_token(&cluster.assertion(CLUSTER_SUBJECT, -60));
    let gate = Gate::new();
    bound.proxy.front().faults().next(Fault::gate(&gate));
    session.ask(&["new", ""]);
    session.tell(crate::harness::NOW);
    assert!(gate.arrived_within(1, PATIENCE));
    bound.emulator.write_federated_token(&cluster.assertion(CLUSTER_SUBJECT, 3600));
    gate.open();
    assert_signed_in(&session.answer().pop().expect("a line"));
    assert_eq!(bound.counts(), (2, 0));
}
