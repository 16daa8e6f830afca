//! Stands in for Entra, and starts the real PostgreSQL that trusts its tokens.
//!
//! ```no_run
//! let emulator = emulator::Emulator::start();
//! let server = emulator::Postgres::start(&emulator);
//! emulator.entra().faults().next(emulator::Fault::status(429, "invalid_request", 90055).retry_after(1));
//! // Run something with emulator.env(&emulator::APP_ONE) and server.env("app-one"), then look at
//! // emulator.entra().counters() and server.binds().
//! ```
//!
//! It shares no code with pgaad, so that a mistake there has no twin here. All of it listens on loopback only, all
//! keys and certificates are made for one run, and nothing stays behind: not after drop, and not after SIGKILL.

// What everything stands on.
mod clock; // the time, some seconds off
mod dir; // private directories that vanish
mod daemon; // servers of the system's
mod account; // whom some of them run as
mod net; // a listener and its threads
pub mod os; // signals, and children that die with us
mod random; // ids
mod sync; // waiting: Gate, conditions, the end

// The token service.
mod entra; // tenants, applications, the grant, its answers
mod faults; // what goes wrong on demand
mod front; // a server's connections, counts and records
mod http; // HTTP/1.1, strictly
mod issuer; // who vouches for pods and pipelines
mod jwt; // signed tokens
mod tls; // certificate authorities

// Where else a program gets tokens.
mod identity; // the platforms' managed identity endpoints
mod tools; // az and azd

// The database.
mod checker; // what it thinks of a token
mod ldap; // how it asks
mod oauth; // how a PostgreSQL 18 asks
mod libpqs; // that one, and other clients
mod postgres; // the server itself

// What stands between programs and the database.
mod pgbouncer; // a real one

// What processes and machines share.
mod redis; // a real one

// Around them.
mod control; // all of this for curl
mod oidc; // where pipelines get their assertions
mod proxy; // a forward proxy
mod token_proxy; // where a cluster's pods send their token requests

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub use checker::Bind;
pub use entra::{
    APP_DISABLED, APP_EXPIRED, APP_ONE, APP_PUBLIC, APP_QUOTED, APP_ROTATING, APP_THREE, APP_TWO, APPS,
    AZURE_CLI, App, Config, DEVELOPER, DEVELOPER_TWO, Entra, IDENTITY_ONE, IDENTITY_TWO, Kind, Numbers,
    POSTGRESQL, PRINCIPALS, Principal, RESOURCES, Resource, SYSTEM_IDENTITY, Separator, Standing, TENANT_ONE,
    TENANT_TWO, TENANTS, Tenant,
};
pub use faults::{Fault, Faults, REDIRECT_PREFIX};
pub use front::{Counters, Front, Seen};
pub use http::Request;
pub use identity::{
    AppService, ArcAgent, Challenge, Clock, CloudShell, Endpoint, Identities, Imds, Nowhere, OldAppService,
    ServiceFabric,
};
pub use issuer::{CLUSTER_SUBJECT, EXCHANGE, GITHUB_SUBJECT, Issuer, PIPELINES_SUBJECT};
pub use jwt::{Claims, claims};
pub use libpqs::Libpq;
pub use oidc::{GitHub, Pipelines};
pub use pgbouncer::PgBouncer;
pub use postgres::{LAPTOP_PASSWORD, LAPTOP_ROLE, PASSWORDS, Postgres};
pub use proxy::{Connect, Proxy};
pub use redis::{Redis, RedisLogin};
pub use serde_json;
pub use sync::{Gate, PATIENCE};
pub use tls::Certificate;
pub use token_proxy::TokenProxy;
pub use tools::{Call, Printed, Tool};

use dir::PrivateDir;
use net::Server;

/// A running token service with its certificate authority and control endpoint.
pub struct Emulator {
    // In the order in which they end.
    control: Server,
    entra: Arc<Entra>,
    checkers: control::Checkers,
    authority: tls::Authority,
    ca_file: PathBuf,
    stranger_ca_file: PathBuf,
    dir: PrivateDir,
}

impl Emulator {
    /// Starts one.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Self {
        Self::start_with(Certificate::Good)
    }

    /// Starts one that shows this certificate.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_with(certificate: Certificate) -> Self {
        Self::try_start(certificate).unwrap_or_else(|error| panic!("cannot start the emulator: {error}"))
    }

    /// Starts one that shows this certificate, or says why it does not start.
    pub fn try_start(certificate: Certificate) -> io::Result<Self> {
        let dir = PrivateDir::new("pgaad-emulator-", 0o700)?;
        let ours = tls::Authority::new("pgaad token service CA")?;
        let stranger = tls::Authority::new("pgaad stranger CA")?;
        let identity = match certificate {
            Certificate::Good => ours.sign(entra::NAMES, false),
            Certificate::Stranger => stranger.sign(entra::NAMES, false),
            Certificate::WrongName => ours.sign(&["elsewhere.example"], false),
            Certificate::Expired => ours.sign(entra::NAMES, true),
        }?;
        let entra = Arc::new(Entra::start(identity.server_config()?)?);
        let checkers = Arc::new(Mutex::default());
        Ok(Self {
            control: control::start(Arc::clone(&entra), Arc::clone(&checkers))?,
            entra,
            checkers,
            ca_file: dir.write("ca.pem", ours.pem())?,
            stranger_ca_file: dir.write("stranger-ca.pem", stranger.pem())?,
            authority: ours,
            dir,
        })
    }

    /// The token service.
    pub fn entra(&self) -> &Entra {
        &self.entra
    }

    /// The authority host, with the prefix if there is one: `https://localhost:PORT`.
    pub fn authority(&self) -> String {
        format!("https://localhost:{}{}", self.entra.port(), self.entra.config().prefix)
    }

    /// The authority that signs the service's certificate, unless that is to be a stranger's.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// The authority that signs a stranger's certificate.
    pub fn stranger_ca_file(&self) -> &Path {
        &self.stranger_ca_file
    }

    /// The URL of the control endpoint; `curl` it for help.
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control.address())
    }

    /// The settings that make pgaad sign in as this application.
    pub fn env(&self, app: &App) -> Vec<(String, OsString)> {
        [
            ("PGAAD_TENANT_ID", app.tenant.id.into()),
            ("PGAAD_CLIENT_ID", app.client_id.into()),
            ("PGAAD_CLIENT_SECRET", self.entra.secret(app).into()),
            ("PGAAD_AUTHORITY_HOST", self.authority().into()),
            ("PGAAD_CA_FILE", self.ca_file.clone().into_os_string()),
        ]
        .map(|(name, value): (&str, OsString)| (name.to_owned(), value))
        .into()
    }

    /// The settings that AKS gives a pod of the service account that is to be this application or user-assigned
    /// identity, and the authority. Its token is new, and lives for an hour.
    ///
    /// # Panics
    /// If the token can't be written.
    pub fn workload_env(&self, client_id: &str) -> Vec<(String, OsString)> {
        let tenant = entra::Subject::all().find(|who| who.client_id() == client_id).map(|who| who.tenant());
        let file = self.write_federated_token(&self.entra.cluster().assertion(CLUSTER_SUBJECT, 3600));
        [
            ("AZURE_CLIENT_ID", client_id.into()),
            ("AZURE_TENANT_ID", tenant.unwrap_or(&TENANT_ONE).id.into()),
            ("AZURE_FEDERATED_TOKEN_FILE", file.into_os_string()),
            ("AZURE_AUTHORITY_HOST", format!("{}/", self.authority()).into()),
            ("PGAAD_CA_FILE", self.ca_file.clone().into_os_string()),
        ]
        .map(|(name, value): (&str, OsString)| (name.to_owned(), value))
        .into()
    }

    /// Puts this in the pod's token file, at once and as a whole, and returns the file's path.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn write_federated_token(&self, token: &str) -> PathBuf {
        self.dir
            .replace("azure-identity-token", token)
            .unwrap_or_else(|error| panic!("cannot write the federated token: {error}"))
    }

    /// A certificate for the token service's names, of the same authority, for another server.
    fn certificate(&self) -> io::Result<Arc<rustls::ServerConfig>> {
        self.authority.sign(entra::NAMES, false)?.server_config()
    }

    fn register(&self, checker: &Arc<checker::Checker>) {
        sync::lock(&self.checkers).push(Arc::downgrade(checker));
    }
}
