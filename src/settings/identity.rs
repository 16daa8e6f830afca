//! Whose token is asked for: the families of settings, and what each may fill in for another.

use std::path::PathBuf;

use super::keys::{Family, Key};
use super::{Auth, Sources, Value, config, not_yet};
use crate::error::Error;

/// A service principal and what proves it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Identity {
    /// The family that supplies it.
    pub(crate) family: Family,
    pub(crate) tenant: String,
    pub(crate) client_id: String,
    pub(crate) proof: Proof,
}

/// What proves an identity to Entra.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Proof {
    Secret(Value),
    /// Read at each fetch, since a mounted secret rotates.
    SecretFile {
        path: PathBuf,
        name: String,
    },
}

/// What the settings say of an identity.
pub(super) enum Reading {
    Nothing,
    Identity(Identity),
    /// What an incomplete set of `AZURE_*` variables lacks: nothing to stop for, but worth listing.
    Incomplete(String),
}

const PROOFS: [&str; 4] =
    ["client_secret", "client_secret_file", "client_certificate_path", "federated_token_file"];

/// One family's part of the identity settings.
struct Member {
    family: Family,
    tenant: Option<Value>,
    client_id: Option<Value>,
    object_id: Option<Value>,
    resource_id: Option<Value>,
    proofs: [Option<Value>; PROOFS.len()],
}

impl Member {
    fn read(sources: &Sources<'_>, family: Family) -> Result<Self, Error> {
        let get = |name| sources.get_from(family, Key::named(name));
        let [secret, secret_file, certificate, federated] = PROOFS;
        Ok(Self {
            family,
            tenant: get("tenant_id")?,
            client_id: get("client_id")?,
            object_id: get("object_id")?,
            resource_id: get("resource_id")?,
            proofs: [get(secret)?, get(secret_file)?, get(certificate)?, get(federated)?],
        })
    }

    fn identity_keys(&self) -> impl Iterator<Item = &Value> {
        [&self.client_id, &self.object_id, &self.resource_id].into_iter().flatten()
    }

    /// The first proof whose key is allowed, with the key.
    fn proof(&self, allowed: &[&'static str]) -> Option<(&'static str, &Value)> {
        let proofs = PROOFS.into_iter().zip(&self.proofs);
        proofs.filter(|(key, _)| allowed.contains(key)).find_map(|(key, value)| Some((key, value.as_ref()?)))
    }

    fn supplies(&self) -> bool {
        self.identity_keys().next().is_some() || self.proofs.iter().any(Option::is_some)
    }

    /// Two values in one family that can't both be meant.
    fn check(&self) -> Result<(), Error> {
        let both = |a: &Value, b: &Value, why: &str| {
            config(format!("{} and {} are both set: {why}", a.name, b.name))
        };
        let mut keys = self.identity_keys();
        if let (Some(a), Some(b)) = (keys.next(), keys.next()) {
            return Err(both(a, b, "each names an identity; set only one."));
        }
        if let [Some(secret), Some(file), ..] = &self.proofs {
            return Err(both(secret, file, "set only one."));
        }
        let managed = self.object_id.as_ref().or(self.resource_id.as_ref());
        if let (Some(managed), Some((_, proof))) = (managed, self.proof(&PROOFS)) {
            return Err(both(managed, proof, "the first names a managed identity, which needs no proof."));
        }
        Ok(())
    }
}

/// Reads `auth` and the identity. What is wrong with variables that other programs share is left for the time when
/// a token is wanted.
pub(super) fn read(sources: &Sources<'_>) -> Result<(Auth, Reading), Error> {
    let mut members = Vec::new();
    for family in Family::ALL {
        members.push(Member::read(sources, family)?);
    }
    let auth = auth(sources, members[0].supplies())?;
    let Some(position) = members.iter().position(Member::supplies).filter(|_| auth != Auth::Off) else {
        return match auth {
            Auth::ClientSecret => {
                Err(missing("auth=client_secret", &["tenant_id", "client_id", "client_secret"]))
            }
            _ => Ok((auth, Reading::Nothing)),
        };
    };
    let reading = resolve(&members, position, auth);
    let reading = match auth {
        Auth::ClientSecret => reading?,
        _ => sources.unless_shared(members[position].family, reading, || Reading::Nothing)?,
    };
    Ok((auth, reading))
}

/// The identity that the family at `position` supplies.
fn resolve(members: &[Member], position: usize, auth: Auth) -> Result<Reading, Error> {
    let supplier = &members[position];
    supplier.check()?;
    if let Some(managed) = supplier.object_id.as_ref().or(supplier.resource_id.as_ref()) {
        return Err(match auth {
            Auth::ClientSecret => missing("auth=client_secret", &["client_id", "client_secret"]),
            _ => not_yet(&format!("Managed identity ({})", managed.name)),
        });
    }
    let tenant = members.iter().find_map(|member| member.tenant.as_ref());
    let allowed: &[_] = if auth == Auth::ClientSecret { &PROOFS[..2] } else { &PROOFS };
    let (client_id, proof) = fill_in(&members[position..], allowed);

    let (Some(tenant), Some(client_id), Some((key, proof))) = (tenant, client_id, proof) else {
        return incomplete(supplier, auth, tenant, client_id, proof.map(|(_, value)| value));
    };
    let proof = match key {
        "client_secret" => Proof::Secret(proof.clone()),
        "client_secret_file" => Proof::SecretFile { path: proof.as_str().into(), name: proof.name.clone() },
        other => return Err(not_yet(&format!("{other} ({})", proof.name))),
    };
    let identity = Identity {
        family: supplier.family,
        tenant: check_tenant(tenant)?,
        client_id: check_guid(client_id)?,
        proof,
    };
    Ok(Reading::Identity(identity))
}

/// What it means that something is missing.
fn incomplete(
    supplier: &Member,
    auth: Auth,
    tenant: Option<&Value>,
    client_id: Option<&Value>,
    proof: Option<&Value>,
) -> Result<Reading, Error> {
    let parts = [("tenant_id", tenant), ("client_id", client_id), ("client_secret", proof)];
    let lacking: Vec<_> = parts.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| *key).collect();
    let set = supplier.identity_keys().next().or(proof);
    let error = missing(set.map_or("The identity", |value| &value.name), &lacking);
    match (supplier.family, client_id) {
        _ if auth == Auth::ClientSecret => Err(error),
        (Family::Azure, _) => Ok(Reading::Incomplete(error.message().to_string())),
        (_, Some(id)) if proof.is_none() && supplier.tenant.is_none() => {
            Err(not_yet(&format!("Managed identity ({} without a proof)", id.name)))
        }
        _ => Err(error),
    }
}

/// The client id and the proof of the first family, with what the later ones may fill in for it.
fn fill_in<'a>(
    members: &'a [Member],
    allowed: &[&'static str],
) -> (Option<&'a Value>, Option<(&'static str, &'a Value)>) {
    let (supplier, later) = (&members[0], &members[1..]);
    let own = supplier.proof(allowed);
    let Some(client_id) = &supplier.client_id else {
        return (later.iter().find_map(|member| member.client_id.as_ref()), own);
    };
    let same = |other: &Value| other.as_str().eq_ignore_ascii_case(client_id.as_str());
    let filled = || {
        later.iter().find_map(|member| {
            // A secret or certificate belongs to its family's application; a federated token to the workload.
            let theirs = member.client_id.as_ref().is_none_or(same);
            let allowed: Vec<_> =
                allowed.iter().copied().filter(|key| theirs || *key == "federated_token_file").collect();
            member.proof(&allowed)
        })
    };
    (Some(client_id), own.or_else(filled))
}

fn auth(sources: &Sources<'_>, given_identity: bool) -> Result<Auth, Error> {
    let key = Key::named("auth");
    let value = match sources.get_from(Family::Given, key)? {
        Some(value) => Some(value),
        None if given_identity => None,
        None => sources.get_from(Family::Pgaad, key)?,
    };
    let Some(value) = value else { return Ok(Auth::Auto) };
    match value.as_str() {
        "auto" => Ok(Auth::Auto),
        "off" => Ok(Auth::Off),
        "default" => Ok(Auth::Chain),
        "client_secret" => Ok(Auth::ClientSecret),
        "client_certificate"
        | "workload_identity"
        | "managed_identity"
        | "azure_cli"
        | "azure_developer_cli"
        | "azure_pipelines"
        | "github_actions"
        | "callback" => Err(not_yet(&format!("auth={}", value.as_str()))),
        _ => Err(value.bad(
            "takes one of auto, off, default, client_secret, client_certificate, workload_identity, \
             managed_identity, azure_cli, azure_developer_cli, azure_pipelines, github_actions.",
        )),
    }
}

fn missing(who: &str, keys: &[&str]) -> Error {
    let named: Vec<String> = keys.iter().map(|key| Key::named(key).with_variables()).collect();
    let (verb, them) = if named.len() == 1 { ("is", "it") } else { ("are", "them") };
    config(format!("{who} is not enough to sign in: {} {verb} missing. Set {them}.", named.join(", ")))
}

/// A GUID or a verified domain name. It becomes a part of a URL's path.
fn check_tenant(value: &Value) -> Result<String, Error> {
    let tenant = value.as_str();
    let plain = tenant.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
    if plain && !tenant.starts_with('.') {
        Ok(tenant.to_string())
    } else {
        Err(value.bad("must be the tenant's id (a GUID) or one of its domain names."))
    }
}

fn check_guid(value: &Value) -> Result<String, Error> {
    let groups: Vec<&str> = value.as_str().split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let hex = groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if hex && lengths == [8, 4, 4, 4, 12] {
        Ok(value.as_str().to_string())
    } else {
        Err(value.bad("must be a GUID, such as 00000000-0000-0000-0000-000000000000: the application's client id, not its name."))
    }
}
