//! The clouds: authority, scope and servers belong together, and what contradicts that is named.

use emulator::{APP_ONE, Emulator, Endpoint, IDENTITY_ONE, Imds, POSTGRESQL, Postgres, Proxy, Tool};

use crate::harness::{Driver, Line, NOW, Session, ask, assert_fails, each, signed_in};

const COSMOS: &str = "https://token.postgres.cosmos.azure.com";

/// What belongs together.
struct Cloud {
    name: &'static str,
    authority: &'static str,
    resource: &'static str,
    management: &'static str,
    domain: &'static str,
}

const CLOUDS: [Cloud; 3] = [
    Cloud {
        name: "public",
        authority: "login.microsoftonline.com",
        resource: POSTGRESQL,
        management: "https://management.azure.com",
        domain: "postgres.database.azure.com",
    },
    Cloud {
        name: "usgov",
        authority: "login.microsoftonline.us",
        resource: "https://ossrdbms-aad.database.usgovcloudapi.net",
        management: "https://management.usgovcloudapi.net",
        domain: "postgres.database.usgovcloudapi.net",
    },
    Cloud {
        name: "china",
        authority: "login.partner.microsoftonline.cn",
        resource: "https://ossrdbms-aad.database.chinacloudapi.cn",
        management: "https://management.chinacloudapi.cn",
        domain: "postgres.database.chinacloudapi.cn",
    },
];

impl Cloud {
    /// A connection to one of its servers.
    fn server(&self) -> String {
        format!("host=shop.{} hostaddr=127.0.0.1 user=x", self.domain)
    }
}

/// A token service, known by its name in each cloud to whoever comes through the proxy. Nothing gets past that.
struct World {
    emulator: Emulator,
    proxy: Proxy,
}

impl World {
    fn start() -> Self {
        let (emulator, proxy) = (Emulator::start(), Proxy::start());
        proxy.map_to(&emulator);
        Self { emulator, proxy }
    }

    /// A program with a secret, which goes to the token service of its cloud.
    fn driver(&self) -> Driver {
        signed_in(&self.emulator).without("PGAAD_AUTHORITY_HOST").env("PGAAD_PROXY", self.proxy.url())
    }

    /// The authorities that were called, in order.
    fn authorities(&self) -> Vec<String> {
        self.proxy.connects().iter().map(|connect| connect.target().to_ascii_lowercase()).collect()
    }
}

/// The scope of the last request.
fn scope(emulator: &Emulator) -> String {
    let seen = emulator.entra().requests().pop().expect("a request");
    seen.field("scope").expect("a scope").to_string()
}

/// The resources that the metadata service was asked for, in order.
fn resources(imds: &Endpoint<Imds>) -> Vec<String> {
    let requests = imds.front().requests().into_iter();
    requests.filter_map(|seen| seen.http.query("resource")).collect()
}

#[track_caller]
fn assert_has_token(line: &Line) {
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    assert!(line.options().get("password").is_some_and(|password| password.starts_with("eyJ")), "{line:?}");
}

#[test]
fn a_cloud_is_its_authority_its_scope_and_its_servers() {
    for (at, cloud) in CLOUDS.iter().enumerate() {
        let by_name = format!("cloud={}", cloud.name);
        let by_authority = format!("authority_host={}", cloud.authority);
        let both = format!("{by_name} authority_host=https://{}/", cloud.authority.to_uppercase());
        // Only one of them is what nothing says.
        let none = (cloud.name == "public").then_some("");
        for settings in [&by_name, &by_authority, &both].map(String::as_str).into_iter().chain(none) {
            let world = World::start();
            let mut session = world.driver().session();
            let line = ask(&mut session, settings);
            assert_eq!(line.status(), "PGAAD_OK", "{settings}: {line:?}");
            assert_eq!(world.authorities(), [format!("{}:443", cloud.authority)], "{settings}");
            assert_eq!(scope(&world.emulator), format!("{}/.default", cloud.resource), "{settings}");
            assert_has_token(&session.one(&["client_options", &cloud.server()]));
            for (n, other) in CLOUDS.iter().enumerate().filter(|(n, _)| *n != at) {
                let line = session.one(&["client_options", &other.server()]);
                // Where nothing is said, that is what is missing.
                let (status, names) = match settings {
                    "" => ("PGAAD_CONFIG", vec![CLOUDS[n].name]),
                    _ => ("PGAAD_INSECURE", vec![CLOUDS[n].name, cloud.name]),
                };
                assert_fails(&line, status, &["cloud (PGAAD_CLOUD)", other.domain]);
                assert_fails(&line, status, &names);
            }
            assert_eq!(world.emulator.entra().counters().requests, 1, "{settings}");
        }
    }
    // The SDKs' variable does the same; an authority that is no cloud's leaves the cloud to be named.
    let world = World::start();
    let government = &CLOUDS[1];
    let driver = world.driver().env("AZURE_AUTHORITY_HOST", format!("https://{}/", government.authority));
    assert_eq!(driver.one(&["get_token"]).status(), "PGAAD_OK");
    assert_eq!(world.authorities(), [format!("{}:443", government.authority)]);
    let private = signed_in(&world.emulator).env("PGAAD_CLOUD", "usgov");
    assert_eq!(private.one(&["get_token"]).status(), "PGAAD_OK");
    assert_eq!(scope(&world.emulator), format!("{}/.default", government.resource));
    assert_has_token(&private.one(&["options", &government.server()]));
}

#[test]
fn what_contradicts_itself_is_named() {
    let world = World::start();
    let mut session = world.driver().session();
    for (cloud, authority, other) in [
        ("china", "login.microsoftonline.us", "usgov"),
        ("usgov", "https://login.microsoftonline.com/", "public"),
        ("usgov", "login.windows.net", "public"),
        ("public", "LOGIN.chinacloudapi.CN", "china"),
        ("public", "login.partner.microsoftonline.cn", "china"),
    ] {
        let line = session.one(&["new", &format!("cloud={cloud} authority_host={authority}")]);
        assert_fails(&line, "PGAAD_CONFIG", &["cloud", cloud, "authority_host", other]);
        let driver = world.driver().env("PGAAD_CLOUD", cloud).env("AZURE_AUTHORITY_HOST", authority);
        assert_fails(
            &driver.one(&["get_token"]),
            "PGAAD_CONFIG",
            &["PGAAD_CLOUD", cloud, "AZURE_AUTHORITY_HOST"],
        );
    }
    for cloud in ["germany", "Public", "AzureUSGovernment", "usgov,china"] {
        let line = session.one(&["new", &format!("cloud={cloud}")]);
        assert_fails(&line, "PGAAD_CONFIG", &["cloud", "public, usgov, china"]);
    }
    // Each kind of server in one list belongs to one cloud.
    for settings in ["cloud=public", "cloud=usgov", "cloud=china"] {
        assert_eq!(session.one(&["new", settings]).status(), "PGAAD_OK");
        for (one, other) in [(0, 1), (1, 2), (2, 0)] {
            let host = format!("host=a.{},b.{} user=x", CLOUDS[one].domain, CLOUDS[other].domain);
            let line = session.one(&["client_options", &host]);
            assert_fails(&line, "PGAAD_INSECURE", &["cloud", "PGAAD_CLOUD", "PGAAD_SERVER_HOSTS"]);
        }
    }
    assert_eq!(world.authorities(), [""; 0], "nothing is sent");
}

#[test]
fn with_a_proof_no_servers_name_chooses_the_cloud() {
    let world = World::start();
    let renamed = world
        .emulator
        .env(&APP_ONE)
        .into_iter()
        .map(|(name, value)| (name.replace("PGAAD_", "AZURE_"), value));
    let azure = Driver::new().envs(renamed).without("AZURE_AUTHORITY_HOST").without("AZURE_CA_FILE");
    let azure = azure.env("PGAAD_CA_FILE", world.emulator.ca_file()).env("PGAAD_PROXY", world.proxy.url());
    let pod = world.emulator.workload_env(IDENTITY_ONE.client_id).into_iter();
    let pod = Driver::new()
        .envs(pod.filter(|(name, _)| name != "AZURE_AUTHORITY_HOST"))
        .env("PGAAD_PROXY", world.proxy.url());
    for driver in [world.driver(), azure.clone(), azure.env("PGAAD_AUTH", "default"), pod] {
        for cloud in &CLOUDS[1..] {
            for command in ["options", "connect"] {
                let line = driver.one(&[command, &cloud.server()]);
                assert_fails(&line, "PGAAD_CONFIG", &[cloud.domain, cloud.name, "cloud (PGAAD_CLOUD)"]);
            }
        }
        assert_has_token(&driver.one(&["options", &CLOUDS[0].server()]));
    }
    let public = format!("{}:443", CLOUDS[0].authority);
    assert!(world.authorities().iter().all(|authority| *authority == public), "{:?}", world.authorities());
}

#[test]
fn without_a_proof_an_identity_is_of_the_servers_cloud() {
    let emulator = Emulator::start();
    let (imds, az) = (Endpoint::start(&emulator, Imds), Tool::az(&emulator));
    let machine = Driver::new().envs(imds.env());
    for driver in [
        machine.clone(),
        machine.clone().env("PGAAD_AUTH", "managed_identity"),
        machine.clone().env("PGAAD_AUTH", "default"),
    ] {
        let mut session = driver.session();
        session.ask(&["new", ""]);
        for cloud in &CLOUDS {
            assert_has_token(&session.one(&["client_options", &cloud.server()]));
            let asked = imds.front().requests().pop().expect("a request").http;
            assert_eq!(asked.query("resource").as_deref(), Some(cloud.resource));
        }
        // Each is kept by itself; where no server is named, it is the public one.
        let requests = imds.front().counters().requests;
        let tokens: Vec<_> = CLOUDS
            .iter()
            .map(|cloud| session.one(&["client_options", &cloud.server()]).options()["password"].clone())
            .collect();
        assert!(tokens[0] != tokens[1] && tokens[1] != tokens[2] && tokens[0] != tokens[2]);
        assert_eq!(session.one(NOW).get("token"), tokens[0]);
        assert_eq!(imds.front().counters().requests, requests);
        // A list must be of one cloud all the same.
        let host = format!("host=a.{},b.{} user=x", CLOUDS[1].domain, CLOUDS[0].domain);
        assert_fails(
            &session.one(&["client_options", &host]),
            "PGAAD_INSECURE",
            &["usgov", "public", "PGAAD_CLOUD"],
        );
    }
    // What is set is not guessed.
    for (settings, name) in [
        ("cloud=public", "public"),
        ("cloud=china", "china"),
        ("authority_host=login.microsoftonline.com", "public"),
    ] {
        let mut session = machine.session();
        session.ask(&["new", &format!("auth=managed_identity {settings}")]);
        let line = session.one(&["client_options", &CLOUDS[1].server()]);
        assert_fails(&line, "PGAAD_INSECURE", &["usgov", name, "PGAAD_CLOUD"]);
    }
    // A scope that is set is the caller's, whatever the cloud.
    let mut session = machine.session();
    session.ask(&["new", &format!("auth=managed_identity scope={COSMOS}/.default")]);
    assert_has_token(&session.one(&["client_options", &CLOUDS[1].server()]));
    assert_eq!(resources(&imds).pop().as_deref(), Some(COSMOS));

    let driver = Driver::new().env("PATH", az.dir()).env("PGAAD_AUTH", "azure_cli");
    assert_has_token(&driver.one(&["options", &CLOUDS[2].server()]));
    let call = az.calls().pop().expect("a call");
    let asked = call.option("--resource").or(call.option("--scope")).expect("a resource").to_string();
    assert_eq!(asked.trim_end_matches("/.default"), CLOUDS[2].resource);
}

#[test]
fn the_name_of_an_identity_is_looked_for_in_the_same_cloud() {
    let emulator = Emulator::start();
    let rows: Vec<&Cloud> = CLOUDS.iter().collect();
    each(&rows, |cloud| {
        let imds = Endpoint::start(&emulator, Imds);
        let postgres = Postgres::start(&emulator);
        postgres.set_audience(cloud.resource);
        let driver =
            Driver::new().envs(imds.env()).envs(postgres.env("nobody")).without("PGUSER").without("PGHOST");
        let mut session = driver.env("PGAAD_CLIENT_ID", IDENTITY_ONE.client_id).session();
        session.ask(&["new", ""]);
        for _ in 0..2 {
            let server = format!("host=shop.{} hostaddr=127.0.0.1", cloud.domain);
            let line = session.one(&["client_connect", &server]);
            assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "OK"), "{line:?}");
            let user = session.one(&["query", "select current_user"]);
            assert_eq!(user.get("value"), IDENTITY_ONE.role);
        }
        assert_eq!(resources(&imds), [cloud.resource, cloud.management]);
        // The cloud that is set holds without a server, too.
        session.ask(&["new", &format!("cloud={} client_id={}", cloud.name, IDENTITY_ONE.client_id)]);
        assert_eq!(session.one(&["get_user"]).get("user"), IDENTITY_ONE.role);
        assert_eq!(resources(&imds)[2..], [cloud.resource, cloud.management]);
    });
}

#[test]
fn servers_of_cosmos_get_a_token_of_their_own() {
    let emulator = Emulator::start();
    let imds = Endpoint::start(&emulator, Imds);
    let secret = signed_in(&emulator);
    let machine = Driver::new().envs(imds.env()).env("PGAAD_AUTH", "managed_identity");
    let cosmos = "host=c-shop.postgres.cosmos.azure.com,c-other.POSTGRES.cosmos.azure.com user=x";
    let database = "host=shop.postgres.database.azure.com user=x";
    for driver in [secret.clone(), machine] {
        let mut session = driver.session();
        session.ask(&["new", ""]);
        let token = |session: &mut Session, conninfo| {
            let line = session.one(&["client_options", conninfo]);
            assert_has_token(&line);
            let token = line.options()["password"].clone();
            let audience =
                emulator::claims(&token).expect("claims")["aud"].as_str().expect("text").to_string();
            (token, audience)
        };
        let first = token(&mut session, cosmos);
        assert_eq!(first.1, COSMOS);
        let other = token(&mut session, database);
        assert_eq!(other.1, POSTGRESQL);
        // Both are kept.
        assert_eq!(
            (token(&mut session, cosmos), token(&mut session, database)),
            (first.clone(), other.clone())
        );
        assert_eq!(session.one(NOW).get("token"), other.0);
        // And dropped.
        session.ask(&["invalidate"]);
        let (new_cosmos, new_database) = (token(&mut session, cosmos), token(&mut session, database));
        assert!(new_cosmos.0 != first.0 && new_database.0 != other.0);
        // Of two kinds in one list no token would do.
        let mixed = "host=c-shop.postgres.cosmos.azure.com,shop.postgres.database.azure.com user=x";
        let line = session.one(&["client_options", mixed]);
        assert_fails(&line, "PGAAD_CONFIG", &["Cosmos", "one by one", "PGAAD_SCOPE"]);
        // A scope that is set is the caller's.
        session.ask(&["new", &format!("scope={POSTGRESQL}/.default")]);
        assert_eq!(token(&mut session, cosmos).1, POSTGRESQL);
        assert_eq!(token(&mut session, mixed).1, POSTGRESQL);
        // Where no server is named, the scope says it.
        session.ask(&["new", &format!("scope={COSMOS}/.default")]);
        assert_eq!(session.one(NOW).status(), "PGAAD_OK");
    }
    // It is a server of the public cloud.
    let line = secret.env("PGAAD_CLOUD", "usgov").one(&["options", cosmos]);
    assert_fails(&line, "PGAAD_INSECURE", &["public", "usgov", "PGAAD_CLOUD"]);

    let (postgres, ground) = (Postgres::start(&emulator), signed_in(&emulator));
    postgres.set_audience(COSMOS);
    let mut session = ground.envs(postgres.env(APP_ONE.role)).without("PGHOST").session();
    let line = session.one(&["connect", "host=pgaad.postgres.cosmos.azure.com hostaddr=127.0.0.1"]);
    assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "OK"), "{line:?}");
}
