//! The token proxy of AKS identity bindings: takes token requests in place of the token service, inside a cluster.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;

use crate::Emulator;
use crate::dir::PrivateDir;
use crate::entra::{State, tenant_of};
use crate::faults::Fault;
use crate::front::{Desk, Front};
use crate::http::{Request, Response};
use crate::tls::Authority;

/// The only name that it has.
const NAME: &str = "token-proxy.aks.test";

/// The path that it is reached below.
const PREFIX: &str = "/identity/v1";

/// A running proxy, with an authority of its own.
pub struct TokenProxy {
    front: Front,
    ca_file: PathBuf,
    dir: PrivateDir,
}

impl TokenProxy {
    /// Starts one that hands token requests on.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(emulator: &Emulator) -> Self {
        Self::try_start(emulator).unwrap_or_else(|error| panic!("cannot start the token proxy: {error}"))
    }

    fn try_start(emulator: &Emulator) -> io::Result<Self> {
        let dir = PrivateDir::new("pgaad-token-proxy-", 0o700)?;
        let (ca, tls) = certificate()?;
        let ca_file = dir.write("ca.crt", ca)?;
        let entra = Arc::clone(emulator.entra().state());
        let front = Front::start("token proxy", Desk::new(Some(tls)), move |request, fault| {
            answer(request, fault, &entra)
        })?;
        Ok(Self { front, ca_file, dir })
    }

    /// Its faults, and what it has seen.
    pub fn front(&self) -> &Front {
        &self.front
    }

    /// The authority that signs its certificate.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// What AKS sets for a pod, beside [`workload_env`](Emulator::workload_env).
    pub fn env(&self) -> Vec<(String, OsString)> {
        [
            (
                "AZURE_KUBERNETES_TOKEN_PROXY",
                format!("https://127.0.0.1:{}{PREFIX}", self.front.port()).into(),
            ),
            ("AZURE_KUBERNETES_SNI_NAME", NAME.into()),
            ("AZURE_KUBERNETES_CA_FILE", self.ca_file.clone().into_os_string()),
        ]
        .map(|(name, value): (&str, OsString)| (name.to_owned(), value))
        .into()
    }

    /// Changes to a new authority and certificate, from the next connection on. The file is replaced first.
    ///
    /// # Panics
    /// If the new ones cannot be made.
    pub fn rotate_ca(&self) {
        let rotate = || {
            let (ca, tls) = certificate()?;
            self.dir.replace("ca.crt", ca)?;
            self.front.set_tls(tls);
            io::Result::Ok(())
        };
        rotate().unwrap_or_else(|error| panic!("cannot rotate: {error}"));
    }
}

/// A new authority in PEM, and its certificate for [`NAME`], for clients that ask for that name.
fn certificate() -> io::Result<(String, Arc<ServerConfig>)> {
    let authority = Authority::new("pgaad token proxy CA")?;
    let tls = authority.sign(&[NAME], false)?.server_config_for(NAME)?;
    Ok((authority.pem().to_owned(), tls))
}

fn answer(request: &Request, fault: &Fault, entra: &State) -> Response {
    match tenant_of(&request.target, &format!("{PREFIX}{}", entra.config().prefix)) {
        Some(tenant) => entra.answer_for(tenant, request, fault),
        None => {
            let response = fault.instead(request);
            fault.dress(
                response.unwrap_or_else(|| Response::new(404, "text/plain", "404 page not found\n")),
                0,
            )
        }
    }
}
