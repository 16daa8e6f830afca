//! The chain of `auth=default`, and of `auth=auto` where no identity is named on purpose: who is asked, in which order,
//! what goes on to the next source and what ends there.

use std::ffi::OsString;
use std::process::Command;

use emulator::{
    APP_ONE, APP_TWO, APPS, AppService, CloudShell, Emulator, Endpoint, Fault, IDENTITY_ONE, IDENTITY_TWO,
    Imds, LAPTOP_PASSWORD, LAPTOP_ROLE, Nowhere, OldAppService, PRINCIPALS, Printed, Tool, claims,
};

use crate::harness::{
    ClosedPort, Driver, Line, Listener, NO_IMDS, NOW, ask, ask_again, assert_fails, each, ground, in_order,
};

const FILTER: &str = "AZURE_TOKEN_CREDENTIALS";
/// An id of nobody's.
const NOBODY: &str = "aaaaaaaa-0000-0000-0000-00000000dead";
const AZURE_HOST: &str = "host=pgaad-test.postgres.database.azure.com hostaddr=127.0.0.1";

/// A token service, a metadata service, `az` and `azd`.
struct Machine {
    emulator: Emulator,
    imds: Endpoint<Imds>,
    az: Tool,
    azd: Tool,
}

impl Machine {
    fn start() -> Self {
        let emulator = Emulator::start();
        let imds = Endpoint::start(&emulator, Imds);
        let (az, azd) = (Tool::az(&emulator), Tool::azd(&emulator));
        Self { emulator, imds, az, azd }
    }

    /// A driver that finds nothing of it but the token service.
    fn bare(&self) -> Driver {
        Driver::new()
            .env("AZURE_AUTHORITY_HOST", self.emulator.authority())
            .env("PGAAD_CA_FILE", self.emulator.ca_file())
    }

    /// A driver that finds `az` and `azd`, and no metadata service.
    fn with_tools(&self) -> Driver {
        self.bare().env("PATH", path(&[&self.az, &self.azd]))
    }

    /// A driver that finds all of it.
    fn whole(&self) -> Driver {
        self.with_tools().envs(self.imds.env())
    }

    /// How often each was asked: the token service, the metadata service, `az`, `azd`.
    fn asked(&self) -> [usize; 4] {
        let requests = |front: &emulator::Front| front.counters().requests;
        [
            self.emulator.entra().counters().requests,
            requests(self.imds.front()),
            self.az.calls().len(),
            self.azd.calls().len(),
        ]
    }
}

/// A PATH with these tools alone.
fn path(tools: &[&Tool]) -> OsString {
    std::env::join_paths(tools.iter().map(|tool| tool.dir())).expect("a PATH")
}

/// The variables of the Azure SDKs for this application.
fn secret_of(emulator: &Emulator, app: &emulator::App) -> Vec<(String, OsString)> {
    let ours = emulator.env(app).into_iter();
    ours.filter(|(name, _)| name != "PGAAD_CA_FILE")
        .map(|(name, value)| (name.replace("PGAAD_", "AZURE_"), value))
        .collect()
}

/// Whose token it is: the role.
#[track_caller]
fn owner(line: &Line) -> &'static str {
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    let claims = claims(line.get("token")).expect("a token");
    let oid = claims["oid"].as_str().expect("an object");
    let app = APPS.iter().find(|app| app.object_id == oid).map(|app| app.role);
    app.or(PRINCIPALS.iter().find(|who| who.object_id == oid).map(|who| who.role)).expect("somebody")
}

/// The first answer under `auth=default`.
fn chain(driver: &Driver) -> Line {
    ask(&mut driver.session(), "auth=default")
}

/// How often each was asked meanwhile.
fn asked_since(machine: &Machine, before: [usize; 4]) -> [usize; 4] {
    let now = machine.asked();
    std::array::from_fn(|at| now[at] - before[at])
}

/// A key and a certificate that this application has registered, in one file.
fn certificate_of(emulator: &Emulator, app: &emulator::App) -> (tempfile::TempDir, OsString) {
    let folder = tempfile::tempdir().expect("a folder");
    let openssl = |arguments: &str| {
        let mut openssl = Command::new("openssl");
        let done = openssl.args(arguments.split(' ')).current_dir(folder.path()).output().expect("openssl");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout both.pem -out both.pem -subj /CN=Shop");
    openssl("x509 -in both.pem -outform DER -out certificate.der");
    let der = std::fs::read(folder.path().join("certificate.der")).expect("a certificate");
    emulator.entra().register_certificate(app, &der);
    let file = folder.path().join("both.pem").into();
    (folder, file)
}

#[test]
fn the_first_source_that_is_here_answers_and_no_other_is_asked() {
    let machine = Machine::start();
    let (_folder, certificate) = certificate_of(&machine.emulator, &APP_TWO);
    let pod = machine.emulator.workload_env(IDENTITY_ONE.client_id);
    let service = secret_of(&machine.emulator, &APP_TWO);
    let all = machine.whole().envs(pod.clone()).envs(service);
    let by_certificate =
        all.clone().without("AZURE_CLIENT_SECRET").env("AZURE_CLIENT_CERTIFICATE_PATH", certificate);
    let pod = machine.whole().envs(pod);
    let named = pod.clone().without("AZURE_FEDERATED_TOKEN_FILE");
    let [secret, assertion] = ["client_secret", "client_assertion"];
    for (driver, role, asked, proof) in [
        (&all, "app-two", [1, 0, 0, 0], secret),
        (&by_certificate, "app-two", [1, 0, 0, 0], assertion),
        (&pod, "identity-one", [1, 0, 0, 0], assertion),
        // In a chain the metadata service is asked first whether it is there.
        (&named, "identity-one", [0, 2, 0, 0], ""),
        (&machine.whole(), "vm-one", [0, 2, 0, 0], ""),
        (&machine.with_tools(), "ann@one.pgaad.test", [0, 0, 1, 0], ""),
        (&machine.bare().env("PATH", path(&[&machine.azd])), "bob@one.pgaad.test", [0, 0, 0, 1], ""),
    ] {
        // Where no connection is judged, `auto` is the chain unless somebody is named on purpose.
        for settings in ["auth=default", "auth=auto", ""] {
            let before = machine.asked();
            assert_eq!(owner(&ask(&mut driver.session(), settings)), role, "{settings}");
            assert_eq!(asked_since(&machine, before), asked, "{role} {settings}");
            if asked[0] > 0 {
                let request = machine.emulator.entra().requests().pop().expect("a request");
                assert!(request.field(proof).is_some(), "{proof}: {request:?}");
            }
        }
        assert_eq!(owner(&driver.one(&["get_token"])), role);
    }
}

#[test]
fn each_source_of_the_chain_reaches_the_database() {
    let ground = ground();
    let emulator = &ground.emulator;
    let imds = Endpoint::start(emulator, Imds);
    let (az, azd) = (Tool::az(emulator), Tool::azd(emulator));
    let server = Driver::new()
        .envs(ground.postgres.env("nobody"))
        .without("PGHOST")
        .without("PGUSER")
        .env("PGAAD_CA_FILE", emulator.ca_file());
    let pod = emulator.workload_env(IDENTITY_ONE.client_id);
    for (driver, role) in [
        (server.clone().envs(secret_of(emulator, &APP_ONE)), "app-one"),
        (server.clone().envs(pod), "identity-one"),
        (server.clone().envs(imds.env()), "vm-one"),
        (server.clone().env("PATH", path(&[&az])), "ann@one.pgaad.test"),
        (server.clone().env("PATH", path(&[&azd])), "bob@one.pgaad.test"),
    ] {
        let connect = format!("{AZURE_HOST} user={role}");
        let lines = driver.run(&[&["connect", &connect], &["query", "select current_user"]]);
        assert_eq!((lines[0].status(), lines[0].get("conn")), ("PGAAD_OK", "OK"), "{lines:?}");
        assert_eq!(lines[1].get("value"), role);
    }
    // With a password at hand, or on this machine, the connection is libpq's.
    let before = (imds.front().counters(), az.calls().len());
    let driver = server.envs(imds.env()).env("PATH", path(&[&az]));
    let with_password = driver.clone().env("PGUSER", LAPTOP_ROLE).env("PGPASSWORD", LAPTOP_PASSWORD);
    for host in [AZURE_HOST, "host=localhost"] {
        let line = with_password.one(&["connect", host]);
        assert_eq!((line.get("conn"), line.get("user")), ("OK", LAPTOP_ROLE), "{line:?}");
    }
    let line = driver.env("PGUSER", "vm-one").one(&["connect", "host=localhost"]);
    assert_eq!((line.status(), line.get("conn")), ("PGAAD_OK", "BAD"), "{line:?}");
    assert_eq!((imds.front().counters(), az.calls().len()), before);
}

#[test]
fn the_variable_narrows_the_chain_to_groups_and_names_in_any_case() {
    let machine = Machine::start();
    let all = machine
        .whole()
        .envs(machine.emulator.workload_env(APP_TWO.client_id))
        .envs(secret_of(&machine.emulator, &APP_TWO));
    let azd = all.clone().env("PATH", path(&[&machine.azd]));
    // Of the machine only the identity that it knows answers.
    let known = all.clone().env("AZURE_CLIENT_ID", IDENTITY_ONE.client_id);
    let known = known.without("AZURE_CLIENT_SECRET").without("AZURE_FEDERATED_TOKEN_FILE");
    for (driver, value, asked, role) in [
        (&all, "", [1, 0, 0, 0], "app-two"),
        (&all, "prod", [1, 0, 0, 0], "app-two"),
        (&all, " PROD ", [1, 0, 0, 0], "app-two"),
        (&all, "dev", [0, 0, 1, 0], "ann@one.pgaad.test"),
        (&azd, "Dev", [0, 0, 0, 1], "bob@one.pgaad.test"),
        (&all, "EnvironmentCredential", [1, 0, 0, 0], "app-two"),
        (&all, "environmentcredential", [1, 0, 0, 0], "app-two"),
        (&all, "WorkloadIdentityCredential", [1, 0, 0, 0], "app-two"),
        (&all, "WORKLOADIDENTITYCREDENTIAL", [1, 0, 0, 0], "app-two"),
        // By itself it needs no look whether it is there.
        (&known, "ManagedIdentityCredential", [0, 1, 0, 0], "identity-one"),
        (&known, "managedIDENTITYcredential", [0, 1, 0, 0], "identity-one"),
        (&known, "prod", [0, 2, 0, 0], "identity-one"),
        (&all, "AzureCliCredential", [0, 0, 1, 0], "ann@one.pgaad.test"),
        (&all, "azureclicredential", [0, 0, 1, 0], "ann@one.pgaad.test"),
        (&all, "AzureDeveloperCliCredential", [0, 0, 0, 1], "bob@one.pgaad.test"),
        (&all, "\tazureDeveloperCLICredential\n", [0, 0, 0, 1], "bob@one.pgaad.test"),
    ] {
        let before = machine.asked();
        assert_eq!(owner(&chain(&driver.clone().env(FILTER, value))), role, "{value}");
        assert_eq!(asked_since(&machine, before), asked, "{value}");
        let by_assertion =
            machine.emulator.entra().requests().pop().is_some_and(|r| r.field("client_assertion").is_some());
        assert!(asked[0] == 0 || by_assertion == value.to_lowercase().contains("workload"), "{value}");
    }
    for value in ["nonsense", "VisualStudioCodeCredential", "prod,dev", "azure_cli"] {
        let before = machine.asked();
        for settings in ["auth=default", ""] {
            let line = ask(&mut all.clone().env(FILTER, value).session(), settings);
            let names = [FILTER, "prod", "dev", "EnvironmentCredential", "AzureDeveloperCliCredential"];
            assert_fails(&line, "PGAAD_CONFIG", &names);
        }
        assert_eq!(machine.asked(), before, "{value}");
    }
    // What is left out is not listed.
    for (value, left, out) in [
        (
            "prod",
            &["environment: ", "workload_identity: ", "managed_identity: "][..],
            &["azure_cli", "azure_dev"][..],
        ),
        ("dev", &["azure_cli: ", "azure_developer_cli: "], &["environment: ", "managed_identity: "]),
        ("AzureCliCredential", &["azure_cli: "], &["azure_developer_cli: ", "workload_identity: "]),
    ] {
        let line = chain(&machine.bare().env(FILTER, value));
        assert_fails(&line, "PGAAD_UNAVAILABLE", &[left, &[FILTER]].concat());
        assert!(out.iter().all(|name| !line.errmsg().contains(name)), "{line:?}");
    }
}

#[test]
fn configured_and_refused_ends_there() {
    let machine = Machine::start();
    let entra = machine.emulator.entra();
    let all = machine.whole();
    let service = all.clone().envs(secret_of(&machine.emulator, &APP_ONE));
    let pod = all.clone().envs(machine.emulator.workload_env(IDENTITY_ONE.client_id));
    let stray = entra.cluster().assertion("system:serviceaccount:shop:other", 3600);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, stray).expect("a file");
    let closed = ClosedPort::new();
    let unreachable = format!("https://{}", closed.address());
    let rows: [(Driver, &str, &[&str]); 7] = [
        (
            service.clone().env("AZURE_CLIENT_SECRET", "wr0ng-secret"),
            "PGAAD_DENIED",
            &["AADSTS7000215", "AZURE_CLIENT_SECRET"],
        ),
        (service.clone().env("AZURE_CLIENT_ID", NOBODY), "PGAAD_DENIED", &["AADSTS700016", NOBODY]),
        (service.clone().env("AZURE_TENANT_ID", NOBODY), "PGAAD_DENIED", &["AADSTS90002"]),
        (
            service.env("AZURE_AUTHORITY_HOST", &unreachable).env("PGAAD_TIMEOUT_MS", "2000"),
            "PGAAD_NETWORK",
            &[&closed.address()],
        ),
        (
            pod.clone().env("AZURE_FEDERATED_TOKEN_FILE", &file),
            "PGAAD_DENIED",
            &["AADSTS700213", "federated credential"],
        ),
        (
            pod.env("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent/token"),
            "PGAAD_CONFIG",
            &["AZURE_FEDERATED_TOKEN_FILE", "/nonexistent/token"],
        ),
        (all.env("PGAAD_SCOPE", "https://unknown.example/.default"), "PGAAD_DENIED", &["PGAAD_SCOPE"]),
    ];
    for (driver, status, parts) in &rows {
        let line = chain(driver);
        assert_fails(&line, status, parts);
        assert!(!line.errmsg().contains("wr0ng"), "{line:?}");
        assert_eq!(machine.asked()[2..], [0, 0], "no developer slips in: {line:?}");
    }
    // A token for nobody in particular, where it was to be for one of several.
    machine.imds.configure(|host| host.system = None);
    assert_fails(&chain(&machine.whole()), "PGAAD_CONFIG", &["several identities", "PGAAD_CLIENT_ID"]);
    // az is there, and Entra said no to it.
    machine.az.next(Printed::refused(50076, "You must use MFA."));
    assert_fails(&chain(&machine.with_tools()), "PGAAD_DENIED", &["AADSTS50076", "az login"]);
    assert_eq!(machine.asked()[2..], [1, 0]);
}

#[test]
fn nothing_here_moves_on() {
    let machine = Machine::start();
    machine.imds.configure(|host| (host.system, host.user_assigned) = (None, Vec::new()));
    let none = machine.bare();
    let rows: [(Driver, &[&str]); 4] = [
        // What is set is not enough for anything.
        (
            none.clone().env("AZURE_CLIENT_ID", NOBODY).env("AZURE_TENANT_ID", APP_ONE.tenant.id),
            &[
                "environment: AZURE_CLIENT_ID is not enough",
                "client_secret",
                "AZURE_CLIENT_SECRET",
                "is missing",
            ],
        ),
        (
            none.clone().env("AZURE_CLIENT_SECRET", "s3cret-text"),
            &[
                "environment: AZURE_CLIENT_SECRET is not enough",
                "AZURE_TENANT_ID",
                "AZURE_CLIENT_ID",
                "are missing",
            ],
        ),
        // A machine without identities.
        (none.clone().envs(machine.imds.env()), &["managed_identity: ", "no identity to give tokens for"]),
        // Variables of some platform, but not all of them.
        (
            none.env("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi/token"),
            &["managed_identity: IDENTITY_ENDPOINT is set, but neither IDENTITY_HEADER", "IMDS_ENDPOINT"],
        ),
    ];
    for (driver, parts) in &rows {
        let line = chain(driver);
        assert_fails(&line, "PGAAD_UNAVAILABLE", parts);
        assert!(!line.errmsg().contains("s3cret"), "{line:?}");
        let tools = driver.clone().env("PATH", path(&[&machine.az]));
        assert_eq!(owner(&chain(&tools)), "ann@one.pgaad.test", "{parts:?}");
    }
    // A tool that nobody signed in to, or that is broken.
    for printed in
        [Printed::garbage(), Printed::text(1, "", "ImportError: no module\n"), Printed::text(127, "", "")]
    {
        machine.az.always(printed);
        assert_eq!(owner(&chain(&machine.with_tools())), "bob@one.pgaad.test");
        let line = chain(&machine.bare().env("PATH", path(&[&machine.az])));
        assert_fails(&line, "PGAAD_UNAVAILABLE", &["azure_cli: ", "azure_developer_cli: "]);
        assert!(!line.errmsg().contains("eyJ"), "{line:?}");
    }
    machine.az.log_out();
    assert_eq!(owner(&chain(&machine.with_tools())), "bob@one.pgaad.test");
}

#[test]
fn what_is_malformed_ends_there() {
    let machine = Machine::start();
    let service = machine.whole().envs(secret_of(&machine.emulator, &APP_ONE));
    let alone = machine.whole();
    for (driver, name, value) in [
        (&service, "AZURE_CLIENT_ID", "shop"),
        (&alone, "AZURE_CLIENT_ID", "shop"),
        (&service, "AZURE_TENANT_ID", "../x"),
        (&service, "AZURE_AUTHORITY_HOST", "http://127.0.0.1:1"),
        (&alone, "AZURE_AUTHORITY_HOST", "ftp://127.0.0.1"),
        (&alone, "AZURE_POD_IDENTITY_AUTHORITY_HOST", "127.0.0.1"),
        (&alone, "AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1/path"),
        (&alone, "MSI_ENDPOINT", "127.0.0.1/msi/token"),
    ] {
        assert_fails(&chain(&driver.clone().env(name, value)), "PGAAD_CONFIG", &[name]);
    }
    let file =
        service.without("AZURE_CLIENT_SECRET").env("AZURE_CLIENT_CERTIFICATE_PATH", "/nonexistent.pem");
    assert_fails(&chain(&file), "PGAAD_CONFIG", &["AZURE_CLIENT_CERTIFICATE_PATH", "/nonexistent.pem"]);
    assert_eq!(machine.asked(), [0; 4]);
}

#[test]
fn an_unknown_identity_ends_there_only_if_it_was_named_on_purpose() {
    let machine = Machine::start();
    let site = Endpoint::start(&machine.emulator, AppService::new());
    for (platform, driver) in [("imds", machine.whole()), ("site", machine.with_tools().envs(site.env()))] {
        // The SDKs' variable names whatever the program is elsewhere.
        let shared = driver.clone().env("AZURE_CLIENT_ID", APP_TWO.client_id);
        assert_eq!(owner(&chain(&shared)), "ann@one.pgaad.test", "{platform}");
        let line = chain(&shared.env("PATH", "/nonexistent"));
        assert_fails(
            &line,
            "PGAAD_UNAVAILABLE",
            &["managed_identity: ", "knows no identity", APP_TWO.client_id, "AZURE_CLIENT_ID", "azure_cli: "],
        );
        let calls = machine.az.calls().len();
        let resource = "/subscriptions/x/providers/Microsoft.ManagedIdentity/userAssignedIdentities/nobody";
        for (variable, settings, name) in [
            ("PGAAD_CLIENT_ID", "auth=default", "PGAAD_CLIENT_ID"),
            ("DB_SP_CLIENT_ID", "auth=default", "DB_SP_CLIENT_ID"),
            ("", &format!("auth=default client_id={NOBODY}"), "client_id"),
            ("", &format!("auth=default object_id={NOBODY}"), "object_id"),
            ("", &format!("auth=default resource_id={resource}"), "resource_id"),
        ] {
            let named =
                if variable.is_empty() { driver.clone() } else { driver.clone().env(variable, NOBODY) };
            // By itself, a managed identity is what such a name asks for.
            for settings in [settings, &settings.replace("auth=default", "")] {
                let line = ask(&mut named.session(), settings);
                assert_fails(&line, "PGAAD_UNAVAILABLE", &["knows no identity", name]);
                assert!(!line.errmsg().contains("azure_cli"), "the chain ended before: {line:?}");
            }
        }
        assert_eq!(machine.az.calls().len(), calls, "{platform}");
    }
}

#[test]
fn an_identity_that_is_named_on_purpose_is_the_one_that_the_chain_looks_for() {
    let machine = Machine::start();
    let pod = machine.whole().envs(machine.emulator.workload_env(APP_TWO.client_id));
    let all = pod.clone().envs(secret_of(&machine.emulator, &APP_TWO));
    let ours = all.clone().envs(machine.emulator.env(&APP_ONE));
    for (driver, settings, role) in [
        (&ours, "auth=default", "app-one"),
        (&pod, &format!("auth=default client_id={}", APP_ONE.client_id), "app-one"),
        (&all, &format!("auth=default object_id={}", IDENTITY_TWO.object_id), "identity-two"),
    ] {
        assert_eq!(owner(&ask(&mut driver.session(), settings)), role, "{settings}");
    }
    // Half of one is a mistake, whatever else is here.
    let before = machine.asked();
    let bare = machine.whole();
    for (driver, parts) in [
        (
            bare.clone().env("PGAAD_CLIENT_SECRET", "x"),
            ["PGAAD_CLIENT_SECRET", "PGAAD_TENANT_ID", "PGAAD_CLIENT_ID"],
        ),
        (
            bare.env("PGAAD_CLIENT_ID", NOBODY).env("PGAAD_TENANT_ID", NOBODY),
            ["PGAAD_CLIENT_ID", "PGAAD_CLIENT_SECRET", "missing"],
        ),
    ] {
        for settings in ["auth=default", ""] {
            assert_fails(&ask(&mut driver.session(), settings), "PGAAD_CONFIG", &parts);
        }
    }
    assert_eq!(machine.asked(), before);
}

#[test]
fn on_an_azure_machine_what_is_slow_or_fails_ends_there() {
    let machine = Machine::start();
    let emulator = &machine.emulator;
    let (site, old) =
        (Endpoint::start(emulator, AppService::new()), OldAppService::new(emulator::Clock::Linux));
    let (old, shell) = (Endpoint::start(emulator, old), Endpoint::start(emulator, CloudShell));
    let closed = ClosedPort::new();
    let tools = machine.with_tools();
    let nobody = format!("http://{}/msi/token", closed.address());
    site.front().faults().always(Fault::hang());
    old.front().faults().always(Fault::status_without_code(500, "unknown"));
    shell.front().faults().always(Fault::status_without_code(429, "throttled").retry_after(600));
    let rows = [
        (tools.clone().envs(site.env()).env("PGAAD_TIMEOUT_MS", "1500"), "PGAAD_TIMEOUT", "PGAAD_TIMEOUT_MS"),
        (tools.clone().envs(old.env()), "PGAAD_NETWORK", "500"),
        (tools.clone().envs(shell.env()), "PGAAD_THROTTLED", "600 s"),
        (tools.clone().env("MSI_ENDPOINT", &nobody), "PGAAD_NETWORK", "MSI_ENDPOINT"),
        (
            tools.clone().env("IDENTITY_ENDPOINT", &nobody).env("IMDS_ENDPOINT", "x"),
            "PGAAD_NETWORK",
            "IDENTITY_ENDPOINT",
        ),
    ];
    each(&rows, |(driver, status, part)| {
        let line = chain(driver);
        assert_fails(&line, status, &[part]);
        assert!(!line.errmsg().contains("azure_cli"), "{line:?}");
    });
    // The same for what only looks like a metadata service.
    site.front().faults().clear();
    site.front().faults().always(Fault::html(200));
    assert_fails(&chain(&tools.envs(site.env())), "PGAAD_PROTOCOL", &["text/html"]);
    assert_eq!(machine.asked()[2..], [0, 0], "no developer slips in");
}

#[test]
fn elsewhere_a_metadata_service_that_is_none_moves_on() {
    let machine = Machine::start();
    let rows = [
        Imds::unreachable(),
        Fault::html(200),
        Fault::html(502),
        Fault::status_without_code(500, "unknown"),
        Fault::garbage(),
        Fault::reset(),
        Fault::close(),
    ];
    each(&rows, |fault| {
        let imds = Endpoint::start(&machine.emulator, Imds);
        imds.front().faults().always(fault.clone());
        let driver = machine.with_tools().envs(imds.env()).env("PGAAD_TIMEOUT_MS", "20000");
        assert_eq!(owner(&chain(&driver)), "ann@one.pgaad.test");
        let line = chain(&driver.env("PATH", "/nonexistent"));
        assert_fails(&line, "PGAAD_UNAVAILABLE", &["managed_identity: ", &imds.origin(), "azure_cli: "]);
    });
    assert_eq!(machine.azd.calls().len(), 0);
}

#[test]
fn a_silent_address_is_tried_once_and_not_for_long() {
    let machine = Machine::start();
    machine.az.log_out();
    let silent = Listener::start();
    let variable = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
    let driver = machine.bare().env("PATH", path(&[&machine.az]));
    let accepts = driver.clone().env(variable, format!("http://127.0.0.1:{}", silent.port()));
    let mut session = accepts.session();
    for line in [ask(&mut session, "auth=default"), session.one(NOW)] {
        assert_fails(&line, "PGAAD_UNAVAILABLE", &["managed_identity: ", "is not here", "did not answer"]);
    }
    machine.az.clear();
    assert_eq!(owner(&session.one(NOW)), "ann@one.pgaad.test");
    assert_eq!(machine.az.calls().len(), 3, "the whole chain was asked each time");
    assert!(silent.was_called() && !silent.was_called(), "the address was tried more than once");

    let nowhere = Nowhere::start();
    assert_eq!(owner(&chain(&driver.env(variable, nowhere.origin()))), "ann@one.pgaad.test");
}

#[test]
fn what_answered_once_is_kept() {
    let machine = Machine::start();
    machine.imds.front().faults().always(Imds::unreachable());
    let mut session = machine.whole().session();
    assert_eq!(owner(&ask(&mut session, "auth=default")), "ann@one.pgaad.test");
    // Now the machine has an identity, and this client keeps its own.
    machine.imds.front().faults().clear();
    let asked = machine.asked();
    for n in 1..3 {
        assert_eq!(owner(&ask_again(&mut session)), "ann@one.pgaad.test");
        assert_eq!(asked_since(&machine, asked), [0, 0, n, 0]);
    }
    machine.az.next(Printed::refused(700082, "The refresh token has expired."));
    assert_fails(&ask_again(&mut session), "PGAAD_DENIED", &["AADSTS700082"]);
    machine.az.log_out();
    let line = ask_again(&mut session);
    assert_fails(&line, "PGAAD_UNAVAILABLE", &["az login"]);
    assert_eq!(machine.asked()[1], asked[1], "the metadata service has been asked for this client");
    machine.az.clear();
    assert_eq!(owner(&ask_again(&mut session)), "ann@one.pgaad.test");

    // Another client finds its own; so does the machine's identity stay when it fails.
    assert_eq!(owner(&ask(&mut session, "auth=default")), "vm-one");
    let asked = machine.asked();
    machine.imds.front().faults().always(Fault::status_without_code(500, "unknown"));
    assert_fails(&ask_again(&mut session), "PGAAD_NETWORK", &["500"]);
    machine.imds.configure(|host| (host.system, host.user_assigned) = (None, Vec::new()));
    machine.imds.front().faults().clear();
    assert_fails(&ask_again(&mut session), "PGAAD_UNAVAILABLE", &["no identity"]);
    let [entra, _, az, azd] = asked_since(&machine, asked);
    assert_eq!([entra, az, azd], [0, 0, 0]);
}

#[test]
fn where_nothing_answers_one_message_lists_each_source_and_its_reason() {
    let machine = Machine::start();
    machine.az.log_out();
    machine.azd.log_out();
    for (driver, az, azd) in [
        (machine.bare().env("PATH", "/nonexistent"), "(az) is not installed", "(azd) is not installed"),
        (machine.with_tools(), "az login", "azd auth login"),
    ] {
        for settings in ["auth=default", ""] {
            let line = ask(&mut driver.session(), settings);
            let parts = [
                "environment: none of its variables are set; workload_identity: none of its variables are set; \
                 managed_identity: ",
                NO_IMDS,
                "; azure_cli: ",
                az,
                "; azure_developer_cli: ",
                azd,
                "PGAAD_CLIENT_ID",
            ];
            assert_fails(&line, "PGAAD_UNAVAILABLE", &parts);
            assert!(in_order(line.errmsg(), &parts), "{line:?}");
        }
        // A connection that gets the chain says the same.
        let line = driver.env("PGUSER", "x").one(&["connect", AZURE_HOST]);
        assert_eq!((line.status(), line.get("conn")), ("PGAAD_UNAVAILABLE", "BAD"), "{line:?}");
        assert!(in_order(line.errmsg(), &["pgaad: ", "environment: ", "azure_developer_cli: "]), "{line:?}");
    }
}
