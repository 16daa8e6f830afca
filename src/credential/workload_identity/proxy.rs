//! The token proxy in the cluster (Microsoft Learn: "Identity bindings in Azure Kubernetes Service"): requests for
//! Entra go to it, with roots and a name of its own.

use rustls::RootCertStore;
use ureq::http::Uri;
use zeroize::Zeroizing;

use crate::credential::file;
use crate::credential::place::{Hints, Place, usual_roots};
use crate::environment::Environment;
use crate::error::Error;
use crate::http::{self, Trust};
use crate::os::fork::Lock;
use crate::settings::{Settings, config};
use crate::url;

const URL: &str = "AZURE_KUBERNETES_TOKEN_PROXY";
const SNI_NAME: &str = "AZURE_KUBERNETES_SNI_NAME";
const CA_FILE: &str = "AZURE_KUBERNETES_CA_FILE";
const CA_DATA: &str = "AZURE_KUBERNETES_CA_DATA";

const LONGEST_CA_FILE: u64 = 1024 * 1024;

/// The roots as they were last read: a file that is empty is being replaced.
#[derive(Default)]
pub(super) struct Roots(Lock<Option<RootCertStore>>);

/// The proxy in the place of the tenant's token endpoint, if there is one.
pub(super) fn place(settings: &Settings, tenant: &str, kept: &Roots) -> Result<Option<Place>, Error> {
    let env = settings.environment();
    let Some(proxy) = env.text(URL)? else {
        let lonely = [SNI_NAME, CA_FILE, CA_DATA].into_iter().find(|name| env.var(name).is_some());
        return lonely.map_or(Ok(None), |name| {
            Err(config(format!("{name} is set, but {URL} is not: set both, or none of AZURE_KUBERNETES_*.")))
        });
    };
    let proxy = base(&proxy)?;
    let (own, usual) = (own_roots(env, kept)?, usual_roots(settings));
    let name = env.text(SNI_NAME)?;
    let trust = match &own {
        Some(roots) => Trust::Only { roots, name: name.as_deref() },
        None => Trust::Roots { roots: &usual, name: name.as_deref() },
    };
    let endpoint = settings.authority.token_url(tenant);
    let path = endpoint.parse::<Uri>().ok().map(|uri| uri.path().to_string()).unwrap_or_default();
    let hints = Hints {
        network: "Check AZURE_KUBERNETES_TOKEN_PROXY and the cluster.",
        untrusted: "Check AZURE_KUBERNETES_CA_FILE and AZURE_KUBERNETES_SNI_NAME.",
        stranger: "Check AZURE_KUBERNETES_TOKEN_PROXY.",
    };
    let shown = format!("the token proxy {proxy}");
    Place::near(settings, format!("{proxy}{path}"), shown, Some(trust), hints).map(Some)
}

/// Checks the proxy's URL; without a slash at the end.
fn base(proxy: &str) -> Result<String, Error> {
    let base = proxy.trim().trim_end_matches('/');
    if url::is_sound(base) && !url::is_plain(base) && !base.contains('?') {
        Ok(base.to_string())
    } else {
        Err(config(format!("{URL} must be an https URL without user, query and fragment.")))
    }
}

/// The roots that count for the proxy alone, if it has any.
fn own_roots(env: Environment<'_>, kept: &Roots) -> Result<Option<RootCertStore>, Error> {
    let (name, pem) = match (env.var(CA_FILE), env.text(CA_DATA)?) {
        (Some(_), Some(_)) => {
            return Err(config(format!("{CA_FILE} and {CA_DATA} are both set: set only one.")));
        }
        (Some(path), None) => {
            let path = std::path::PathBuf::from(path);
            let pem = file::read(CA_FILE, &path, LONGEST_CA_FILE)?;
            (CA_FILE, pem)
        }
        (None, Some(data)) => (CA_DATA, Zeroizing::new(data.into_bytes())),
        (None, None) => return Ok(None),
    };
    if pem.trim_ascii().is_empty() {
        let before = kept.0.with(|roots| roots.clone());
        return before.map_or_else(|| Err(config(format!("{name} is empty."))), |roots| Ok(Some(roots)));
    }
    let roots = http::own_roots(&pem).map_err(|why| config(format!("{name} cannot be used: {why}.")))?;
    kept.0.with(|kept| *kept = Some(roots.clone()));
    Ok(Some(roots))
}
