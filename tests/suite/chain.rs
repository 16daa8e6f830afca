//! The chain of `auth=default`, and of `auth=auto` where no identity is named on purpose: who is asked, in which order,
//! what goes on to the next source and what ends there.

use std::ffi::OsString;

use emulator::{
    APP_ONE, APP_TWO, APPS, AppService, CloudShell, Emulator, Endpoint, Fault, IDENTITY_ONE, Imds,
    LAPTOP_PASSWORD, LAPTOP_ROLE, Nowhere, OldAppService, PRINCIPALS, Printed, SYSTEM_IDENTITY, Tool, claims,
};

use crate::harness::{ClosedPort, Driver, Line, Listener, Session, assert_fails, each, ground};

const NOW: &[&str] = &["client_get_token", "-1"];
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

/// The first answer of a new client with these settings.
fn ask(session: &mut Session, settings: &str) -> Line {
    let made = session.one(&["new", settings]);
    if made.status() == "PGAAD_OK" { session.one(NOW) } else { made }
}

/// The first answer under `auth=default`.
fn chain(driver: &Driver) -> Line {
    ask(&mut driver.session(), "auth=default")
}

#[test]
fn the_first_source_that_is_here_answers_and_no_other_is_asked() {
    let machine = Machine::start();
    let (cert, _) = crate::certificate::registered(&machine.emulator, &APP_TWO);
    let pod = machine.emulator.workload_env(IDENTITY_ONE.client_id);
    let service = secret_of(&machine.emulator, &APP_TWO);
    let [entra, imds, az, azd] = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]];
    // In a chain the metadata service is asked whether it is there, first.
    let probed = [0, 2, 0, 0];
    let all = machine.whole().envs(pod.clone()).envs(service);
    let certificate = all.clone().without("AZURE_CLIENT_SECRET").env("AZURE_CLIENT_CERTIFICATE_PATH", cert);
    let pod = machine.whole().envs(pod);
    let named = pod.clone().without("AZURE_FEDERATED_TOKEN_FILE");
    let nameless = machine.whole();
    let tools = machine.with_tools();
    let last = machine.bare().env("PATH", path(&[&machine.azd]));
    let _ = imds;
    for (driver, role, asked, proof) in [
        (&all, "app-two", entra, "client_secret"),
        (&certificate, "app-two", entra, "client_assertion"),
        (&pod, "identity-one", entra, "client_assertion"),
        (&named, "identity-one", probed, ""),
        (&nameless, "vm-one", probed, ""),
        (&tools, "ann@one.pgaad.test", az, ""),
        (&last, "bob@one.pgaad.test", azd, ""),
    ] {
        // With no deliberate identity, `auto` is the chain where no connection is judged.
        for settings in ["auth=default", "auth=auto", ""] {
            let before = machine.asked();
            assert_eq!(owner(&ask(&mut driver.session(), settings)), role, "{settings}");
            let after = machine.asked();
            let new: Vec<_> = after.iter().zip(before).map(|(after, before)| after - before).collect();
            assert_eq!(new, asked, "{role} {settings}");
            if asked == entra {
                let request = machine.emulator.entra().requests().pop().expect("a request");
                assert!(request.field(proof).is_some(), "{proof}: {request:?}");
            }
        }
        assert_eq!(owner(&driver.env_default().one(&["get_token"])), role);
    }
}
