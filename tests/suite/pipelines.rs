//! Jobs of Azure Pipelines and GitHub Actions: the platform's assertion, then the token.

use std::ffi::OsString;
use std::net::SocketAddr;

use emulator::serde_json::{Value, json};
use emulator::{
    APP_ONE, Emulator, Fault, Front, GITHUB_SUBJECT, GitHub, PIPELINES_SUBJECT, Pipelines, Proxy, TENANT_ONE,
    claims,
};

use crate::harness::{ClosedPort, Driver, Line, NOW, ask, ask_again, assert_refused, conninfo, each, ground};

const GET: &[&str] = &["get_token"];

/// A platform, with a job of it that is [`APP_ONE`].
enum Platform {
    Azure(Pipelines),
    GitHub(GitHub),
}

impl Platform {
    /// One of each.
    fn both(emulator: &Emulator) -> [Self; 2] {
        [Self::Azure(Pipelines::start(emulator)), Self::GitHub(GitHub::start(emulator))]
    }

    fn front(&self) -> &Front {
        match self {
            Self::Azure(pipelines) => pipelines.front(),
            Self::GitHub(github) => github.front(),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Azure(_) => "Azure Pipelines",
            Self::GitHub(_) => "GitHub Actions",
        }
    }

    /// Its variables for the URL and for the job's secret, and where the token is in its answer.
    fn names(&self) -> [&'static str; 3] {
        match self {
            Self::Azure(_) => ["SYSTEM_OIDCREQUESTURI", "SYSTEM_ACCESSTOKEN", "oidcToken"],
            Self::GitHub(_) => ["ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "value"],
        }
    }

    fn env(&self) -> Vec<(String, OsString)> {
        match self {
            Self::Azure(pipelines) => pipelines.env(),
            Self::GitHub(github) => github.env(),
        }
    }

    fn value(&self, name: &str) -> String {
        let (_, value) = self.env().into_iter().find(|(known, _)| known == name).expect("it is set");
        value.into_string().expect("text")
    }

    /// What the job shows to the platform.
    fn bearer(&self) -> String {
        self.value(self.names()[1])
    }

    fn driver(&self, emulator: &Emulator) -> Driver {
        let driver = Driver::new()
            .envs(self.env())
            .env("PGAAD_AUTHORITY_HOST", emulator.authority())
            .env("PGAAD_CA_FILE", emulator.ca_file());
        match self {
            Self::Azure(_) => driver.env("PGAAD_AUTH", "azure_pipelines"),
            Self::GitHub(_) => driver
                .env("PGAAD_AUTH", "github_actions")
                .env("AZURE_TENANT_ID", TENANT_ONE.id)
                .env("AZURE_CLIENT_ID", APP_ONE.client_id),
        }
    }
}

/// Runs the test for one of each.
fn on_both(test: impl Fn(&Emulator, &Platform) + Sync) {
    let emulator = Emulator::start();
    for platform in Platform::both(&emulator) {
        test(&emulator, &platform);
    }
}

#[track_caller]
fn assert_signed_in(line: &Line) {
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    let claims = claims(line.get("token")).expect("a token");
    assert_eq!((&claims["appid"], &claims["appidacr"]), (&json!(APP_ONE.client_id), &json!("2")));
}

/// What the token service saw.
fn assertions(emulator: &Emulator) -> Vec<String> {
    let requests = emulator.entra().requests();
    requests.iter().map(|seen| seen.field("client_assertion").expect("one").to_string()).collect()
}

#[test]
fn a_job_opens_the_database() {
    let ground = ground();
    for platform in Platform::both(&ground.emulator) {
        let driver = platform.driver(&ground.emulator).envs(ground.postgres.env(APP_ONE.role));
        let lines = driver.run(&[&["connect", ""], &["query", "select current_user"], GET]);
        assert_eq!((lines[0].status(), lines[0].get("conn")), ("PGAAD_OK", "OK"), "{lines:?}");
        assert_eq!(lines[1].get("value"), APP_ONE.role);
        assert_signed_in(&lines[2]);
        assert_eq!(ground.uses_of(lines[2].get("token")), [(APP_ONE.role.to_string(), true)]);
    }
}

#[test]
fn azure_pipelines_is_asked_as_it_wants_to_be() {
    let emulator = Emulator::start();
    let platform = Platform::Azure(Pipelines::start(&emulator));
    assert_signed_in(&platform.driver(&emulator).one(GET));
    let seen = platform.front().requests().remove(0).http;
    let connection = platform.value("AZURESUBSCRIPTION_SERVICE_CONNECTION_ID");
    let (path, query) = seen.target.split_once('?').expect("a query");
    assert_eq!(query, format!("api-version=7.1&serviceConnectionId={connection}"));
    assert!(platform.value("SYSTEM_OIDCREQUESTURI").ends_with(path));
    let header = |name: &str| seen.header(name).unwrap_or_default();
    assert_eq!((seen.method.as_str(), seen.body.len(), header("content-length")), ("POST", 0, "0"));
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("x-tfs-fedauthredirect"), "Suppress");
    assert_eq!(header("authorization"), format!("Bearer {}", platform.bearer()));
    assert_eq!(claims(&assertions(&emulator)[0]).expect("claims")["sub"], PIPELINES_SUBJECT);
}

#[test]
fn github_is_asked_as_it_wants_to_be() {
    let emulator = Emulator::start();
    let platform = Platform::GitHub(GitHub::start(&emulator));
    assert_signed_in(&platform.driver(&emulator).one(GET));
    let seen = platform.front().requests().remove(0).http;
    let (_, query) = seen.target.split_once('?').expect("a query");
    let audience = query.strip_prefix("api-version=2.0&audience=").expect("what was there, and the audience");
    assert_eq!(
        audience.to_ascii_lowercase().replace("%3a", ":").replace("%2f", "/"),
        "api://azureadtokenexchange"
    );
    assert!(seen.method == "GET" && seen.body.is_empty());
    let header = |name: &str| seen.header(name).unwrap_or_default();
    assert_eq!(header("authorization"), format!("bearer {}", platform.bearer()));
    assert_eq!(claims(&assertions(&emulator)[0]).expect("claims")["sub"], GITHUB_SUBJECT);
}

#[test]
fn each_request_has_a_fresh_assertion() {
    on_both(|emulator, platform| {
        let before = assertions(emulator).len();
        let busy = || Fault::status(503, "temporarily_unavailable", 90033).retry_after_ms(1);
        emulator.entra().faults().next_n(2, busy());
        let mut session = platform.driver(emulator).session();
        assert_signed_in(&ask(&mut session, ""));
        assert_signed_in(&ask_again(&mut session));
        // A token in memory needs none.
        assert_signed_in(&session.one(NOW));
        let shown = assertions(emulator)[before..].to_vec();
        assert_eq!(shown, platform.front().tokens(), "{}", platform.name());
        let mut different = shown.clone();
        different.sort();
        different.dedup();
        assert_eq!((shown.len(), different.len()), (4, 4), "{}", platform.name());
    });
}

#[test]
fn a_platform_that_is_busy_is_asked_again() {
    on_both(|emulator, platform| {
        let requests = emulator.entra().counters().requests;
        let faults = platform.front().faults();
        faults.next(Fault::status_without_code(503, "busy").retry_after_ms(1));
        faults.next(Fault::status_without_code(429, "busy").retry_after_ms(1));
        faults.next(Fault::reset());
        assert_signed_in(&platform.driver(emulator).one(GET));
        assert_eq!(platform.front().counters().requests, 4, "{}", platform.name());
        assert_eq!(emulator.entra().counters().requests, requests + 1, "{}", platform.name());
    });
}

#[test]
fn a_pipeline_without_its_variables_is_told_which_and_what_to_do() {
    let emulator = Emulator::start();
    let platform = Platform::Azure(Pipelines::start(&emulator));
    let (url, token, id) =
        ("SYSTEM_OIDCREQUESTURI", "SYSTEM_ACCESSTOKEN", "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID");
    let (tenant, client) = ("AZURESUBSCRIPTION_TENANT_ID", "AZURESUBSCRIPTION_CLIENT_ID");
    let rows: &[(&[&str], &str, &[&str])] = &[
        (&[url], "PGAAD_UNAVAILABLE", &["no job of Azure Pipelines", url]),
        (&[url, token, id], "PGAAD_CONFIG", &["service_connection_id (", id, "is missing"]),
        (&[token], "PGAAD_CONFIG", &[token, "is not set", "map it into the step", "$(System.AccessToken)"]),
        (
            &[id],
            "PGAAD_CONFIG",
            &["service_connection_id (PGAAD_SERVICE_CONNECTION_ID or ", id, "is missing"],
        ),
        (&[tenant], "PGAAD_CONFIG", &[tenant]),
        (&[client], "PGAAD_CONFIG", &[client]),
        (&[tenant, client], "PGAAD_CONFIG", &["tenant_id (", "client_id (", "are missing"]),
    ];
    for (names, status, words) in rows {
        let driver = names.iter().fold(platform.driver(&emulator), |driver, name| driver.without(name));
        assert_refused(&driver.one(GET), status, words);
    }
    assert_eq!((platform.front().counters().connections, emulator.entra().counters().connections), (0, 0));
}

#[test]
fn a_github_job_without_its_variables_is_told_which_and_what_to_do() {
    let emulator = Emulator::start();
    let platform = Platform::GitHub(GitHub::start(&emulator));
    let [url, token, _] = platform.names();
    let permission = "id-token: write";
    let (tenant, client) = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID");
    let rows: &[(&[&str], &str, &[&str])] = &[
        (&[url], "PGAAD_UNAVAILABLE", &["GitHub Actions", url, permission]),
        (&[token], "PGAAD_UNAVAILABLE", &["GitHub Actions", token, permission]),
        (&[url, token], "PGAAD_UNAVAILABLE", &["GitHub Actions", url, token, permission]),
        (&[tenant], "PGAAD_CONFIG", &[client, "tenant_id (PGAAD_TENANT_ID, ", "is missing"]),
        (&[client], "PGAAD_CONFIG", &["client_id (PGAAD_CLIENT_ID, ", "is missing"]),
        (&[tenant, client], "PGAAD_CONFIG", &["tenant_id (", "client_id (", "are missing"]),
    ];
    for (names, status, words) in rows {
        let driver = names.iter().fold(platform.driver(&emulator), |driver, name| driver.without(name));
        assert_refused(&driver.one(GET), status, words);
    }
    assert_eq!((platform.front().counters().connections, emulator.entra().counters().connections), (0, 0));
}

#[test]
fn settings_come_before_the_runners_variables() {
    let emulator = Emulator::start();
    let nobody = "aaaaaaaa-0000-0000-0000-00000000dead";
    for platform in Platform::both(&emulator) {
        let wrong = ["AZURESUBSCRIPTION_CLIENT_ID", "AZURESUBSCRIPTION_TENANT_ID", "AZURE_CLIENT_ID"];
        let driver = wrong.iter().fold(platform.driver(&emulator), |driver, name| driver.env(*name, nobody));
        let own = driver
            .clone()
            .env("AZURE_TENANT_ID", nobody)
            .env("PGAAD_CLIENT_ID", APP_ONE.client_id)
            .env("PGAAD_TENANT_ID", TENANT_ONE.id);
        assert_signed_in(&own.one(GET));
        let mut session = driver.without("PGAAD_AUTH").session();
        let auth = if matches!(platform, Platform::Azure(_)) { "azure_pipelines" } else { "github_actions" };
        let identity =
            conninfo(&[("auth", auth), ("client_id", APP_ONE.client_id), ("tenant_id", TENANT_ONE.domain)]);
        assert_signed_in(&ask(&mut session, &identity));
    }
}

#[test]
fn an_identity_that_can_be_none_is_named_and_nothing_is_sent() {
    let emulator = Emulator::start();
    let platform = Platform::Azure(Pipelines::start(&emulator));
    for (name, value) in [
        ("AZURESUBSCRIPTION_TENANT_ID", "../../elsewhere"),
        ("AZURESUBSCRIPTION_TENANT_ID", "a b"),
        ("AZURESUBSCRIPTION_CLIENT_ID", "shop"),
    ] {
        let line = platform.driver(&emulator).env(name, value).one(GET);
        assert_refused(&line, "PGAAD_CONFIG", &[name, "GUID"]);
    }
    assert_eq!((platform.front().counters().connections, emulator.entra().counters().connections), (0, 0));
}

#[test]
fn a_platform_is_reached_through_the_proxy() {
    on_both(|emulator, platform| {
        let proxy = Proxy::start();
        let port = platform.front().port();
        proxy.map("login.pgaad.test", SocketAddr::from(([127, 0, 0, 1], port)));
        let [url, _, _] = platform.names();
        let named = platform.value(url).replace("localhost", "login.pgaad.test");
        let driver = platform.driver(emulator).env(url, named).env("HTTPS_PROXY", proxy.url());
        assert_signed_in(&driver.one(GET));
        let targets: Vec<_> = proxy.connects().iter().map(|connect| connect.target().to_string()).collect();
        assert_eq!(targets, [format!("login.pgaad.test:{port}")], "{}", platform.name());
        // A job of this machine's is not the proxy's business.
        assert_signed_in(&platform.driver(emulator).env("HTTPS_PROXY", proxy.url()).one(GET));
        assert_eq!(proxy.connects().len(), 1, "{}", platform.name());
    });
}

#[test]
fn a_job_that_the_platform_does_not_know_is_refused() {
    on_both(|emulator, platform| {
        let [_, token, _] = platform.names();
        let requests = emulator.entra().counters().requests;
        let line = platform.driver(emulator).env(token, "hunter2").env("PGAAD_LOG", "debug").one(GET);
        let words: &[&str] = match platform {
            Platform::Azure(_) => &["did not accept SYSTEM_ACCESSTOKEN", "HTTP 401", "$(System.AccessToken)"],
            Platform::GitHub(_) => &["HTTP 401", "Invalid or missing token", "id-token: write"],
        };
        assert_refused(&line, "PGAAD_DENIED", &[&[platform.name()], words].concat());
        assert!(!line.errmsg().contains("hunter2"), "{line:?}");
        assert_eq!(platform.front().counters().requests, 1, "asked again");
        assert_eq!(emulator.entra().counters().requests, requests);
    });
}

#[test]
fn a_connection_that_the_pipeline_does_not_have_is_named() {
    let emulator = Emulator::start();
    let platform = Platform::Azure(Pipelines::start(&emulator));
    let other = "5e5e5e5e-0000-0000-0000-000000000009";
    let rows = [
        platform.driver(&emulator).env("AZURESUBSCRIPTION_SERVICE_CONNECTION_ID", other),
        platform.driver(&emulator).env("PGAAD_SERVICE_CONNECTION_ID", other),
    ];
    for (n, driver) in rows.iter().enumerate() {
        let line = driver.one(GET);
        let words = [
            "Azure Pipelines",
            "service connection",
            other,
            "x-vss-e2eid ",
            "x-msedge-ref ",
            "HTTP 404",
            "The service connection was not found",
            "Check the connection's id",
        ];
        assert_refused(&line, "PGAAD_DENIED", &words);
        assert_eq!(platform.front().counters().requests, n + 1, "asked again");
    }
    // It goes into a query.
    let line = platform.driver(&emulator).env("PGAAD_SERVICE_CONNECTION_ID", "a&b=c d#e").one(GET);
    assert_eq!(line.status(), "PGAAD_DENIED", "{line:?}");
    let seen = platform.front().requests().pop().expect("a request").http;
    assert!(seen.target.ends_with("&serviceConnectionId=a%26b%3Dc%20d%23e"), "{}", seen.target);
    assert_eq!(emulator.entra().counters().connections, 0);
}

#[test]
fn a_redirect_is_not_followed() {
    on_both(|emulator, platform| {
        for status in [302, 307] {
            platform.front().faults().next(Fault::redirect(status));
            let line = platform.driver(emulator).one(GET);
            let status = format!("HTTP {status}");
            assert_refused(&line, "PGAAD_DENIED", &[platform.name(), &status]);
        }
        let counters = platform.front().counters();
        assert_eq!((counters.requests, counters.redirected), (2, 0), "{}", platform.name());
    });
}

#[test]
fn an_answer_without_an_assertion_is_none() {
    on_both(|emulator, platform| {
        let [_, _, member] = platform.names();
        let json = |value: Value| Fault::body(200, "application/json; charset=utf-8", value.to_string());
        let rows = [
            (Fault::html(200), "no JSON (text/html"),
            (Fault::garbage_json(), "no JSON"),
            (Fault::empty_body(), "no JSON"),
            (json(json!([])), "no JSON"),
            (json(json!({})), member),
            (json(json!({member: 7})), member),
            (json(json!({member: null, "secret": "eyJhunter2"})), member),
            (json(json!({member: ""})), "token"),
            (json(json!({member: "eyJ hunter2"})), "token"),
            (json(json!({member: "eyJ\nhunter2"})), "token"),
            (Fault::body(200, "text/plain", "eyJhunter2"), "no JSON (text/plain"),
            (Fault::garbage(), "did not answer"),
            (Fault::huge_body(), "more than"),
        ];
        let requests = emulator.entra().counters().requests;
        for (n, (fault, words)) in rows.into_iter().enumerate() {
            platform.front().faults().next(fault);
            let output = platform.driver(emulator).env("PGAAD_LOG", "debug").output(&[GET]);
            let line = Line(String::from_utf8_lossy(&output.stdout).trim_end().to_string());
            let place = format!("https://localhost:{}", platform.front().port());
            assert_refused(&line, "PGAAD_PROTOCOL", &[platform.name(), &place, words]);
            let said = format!("{}{}", line.errmsg(), String::from_utf8_lossy(&output.stderr));
            assert!(!said.contains("hunter2") && !said.contains("eyJ"), "{said}");
            assert_eq!(platform.front().counters().requests, n + 1, "asked again");
        }
        assert_eq!(emulator.entra().counters().requests, requests, "{}", platform.name());
    });
}

#[test]
fn a_platform_that_does_not_answer_is_said_to_be_the_one() {
    let closed = ClosedPort::new();
    let rows = [
        ("busy", Some(Fault::status_without_code(500, "oops")), "PGAAD_NETWORK", "HTTP 500"),
        ("later", Some(Fault::status_without_code(429, "x").retry_after(3600)), "PGAAD_THROTTLED", "3600 s"),
        ("hangs", Some(Fault::hang()), "PGAAD_TIMEOUT", "waiting for the answer"),
        ("resets", Some(Fault::reset()), "PGAAD_NETWORK", "reset"),
        ("gone", None, "PGAAD_NETWORK", "refused"),
    ];
    each(&rows, |(case, fault, status, words)| {
        on_both(|emulator, platform| {
            let mut driver = platform.driver(emulator);
            let mut place = format!("https://localhost:{}", platform.front().port());
            match fault {
                Some(fault) => platform.front().faults().always(fault.clone()),
                None => {
                    place = format!("https://{}", closed.address());
                    driver = driver.env(platform.names()[0], format!("{place}/job?api-version=2.0"));
                }
            }
            let limit = if *case == "hangs" { "1000" } else { "30000" };
            let line = driver.env("PGAAD_TIMEOUT_MS", limit).one(GET);
            assert_refused(&line, status, &[platform.name(), &place, words]);
            assert_eq!(emulator.entra().counters().connections, 0, "{case}");
        });
    });
}

#[test]
fn the_jobs_secret_goes_to_no_stranger() {
    on_both(|emulator, platform| {
        let [url, _, _] = platform.names();
        let right = platform.value(url);
        let path = right.splitn(4, '/').nth(3).expect("a path");
        let port = platform.front().port();
        for wrong in [
            format!("http://pipelines.pgaad.test:{port}/{path}"),
            format!("https://user:hunter2@localhost:{port}/{path}"),
            format!("https://localhost:{port}/{path}#fragment"),
            format!("ftp://localhost:{port}/{path}"),
            format!("localhost:{port}/{path}"),
            "https://".into(),
            "/job".into(),
        ] {
            let line = platform.driver(emulator).env(url, &wrong).one(GET);
            assert_refused(&line, "PGAAD_CONFIG", &[url, "must be an https URL", "secret"]);
            assert!(!line.errmsg().contains("hunter2"), "{line:?}");
        }
        assert_eq!(platform.front().counters().connections, 0, "{}", platform.name());
        let line = platform.driver(emulator).env("PGAAD_CA_FILE", emulator.stranger_ca_file()).one(GET);
        let place = format!("https://localhost:{port}");
        let words = [platform.name(), &place, "no root that is trusted", "PGAAD_CA_FILE"];
        assert_refused(&line, "PGAAD_NETWORK", &words);
        assert_eq!(platform.front().counters().requests, 0, "{}", platform.name());
    });
}

#[test]
fn what_is_secret_is_in_no_message_and_no_log() {
    on_both(|emulator, platform| {
        let bearer = platform.bearer();
        let repeated = json!({"message": format!("No access for '{bearer}'.\r\nSincerely")});
        let repeat = |status| Fault::body(status, "application/json", repeated.to_string());
        let rows = [
            (Fault::none(), Fault::none(), "PGAAD_OK"),
            (Fault::none(), Fault::echo_secret(), "PGAAD_DENIED"),
            (repeat(403), Fault::none(), "PGAAD_DENIED"),
            (repeat(400), Fault::none(), "PGAAD_DENIED"),
            (repeat(200), Fault::none(), "PGAAD_PROTOCOL"),
            (repeat(503).retry_after(3600), Fault::none(), "PGAAD_THROTTLED"),
            (Fault::expired_token(), Fault::none(), "PGAAD_DENIED"),
        ];
        for (theirs, entras, status) in rows {
            platform.front().faults().next(theirs);
            emulator.entra().faults().next(entras);
            let output = platform.driver(emulator).env("PGAAD_LOG", "debug").output(&[GET]);
            platform.front().faults().clear();
            emulator.entra().faults().clear();
            let line = Line(String::from_utf8_lossy(&output.stdout).trim_end().to_string());
            assert_eq!(line.status(), status, "{line:?}");
            let log = String::from_utf8_lossy(&output.stderr);
            assert!(log.contains("event="), "{log}");
            let said = format!("{}{log}", line.errmsg());
            assert!(!said.contains(&bearer) && !said.contains("eyJ"), "{said}");
        }
        let line = {
            platform.front().faults().next(repeat(403));
            platform.driver(emulator).one(GET)
        };
        assert!(!line.errmsg().contains("Sincerely"), "{line:?}");
    });
}

#[test]
fn an_assertion_that_entra_refuses_is_refused_for_its_reason() {
    on_both(|emulator, platform| {
        let entra = emulator.entra();
        let driver = platform.driver(emulator);
        for (fault, code, words) in [
            (Fault::status(401, "invalid_client", 700213), "AADSTS700213", "issuer, subject and audience"),
            (Fault::status(400, "invalid_request", 70021), "AADSTS70021", "minutes to spread"),
            (Fault::status(401, "invalid_client", 700016), "AADSTS700016", "_CLIENT_ID"),
        ] {
            let requests = entra.counters().requests;
            entra.faults().next(fault);
            let line = driver.one(GET);
            assert_refused(&line, "PGAAD_DENIED", &[APP_ONE.client_id, TENANT_ONE.id, code, words]);
            assert_eq!(entra.counters().requests, requests + 1, "{code}: asked again");
        }
        // Too late: the job's token lives for minutes.
        platform.front().faults().next(Fault::expired_token());
        let line = driver.one(GET);
        assert_refused(&line, "PGAAD_DENIED", &["federated token", "AADSTS700024", "clock"]);
    });
}
