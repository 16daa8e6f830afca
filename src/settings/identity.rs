//! Whose token is asked for: the families of settings, and what each may fill in for another.

use std::path::PathBuf;

use super::keys::{Family, Key};
use super::{Sources, Value, config};
use crate::error::Error;

/// What proves an identity to Entra, in the order in which they count within a family.
const PROOFS: [&str; 4] =
    ["client_secret", "client_secret_file", "client_certificate_path", "federated_token_file"];

/// An application in a tenant, and what proves it, where that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Principal {
    pub(crate) tenant: String,
    pub(crate) client_id: String,
    /// For messages: the variables that name both, or ours.
    pub(crate) tenant_name: String,
    pub(crate) client_id_name: String,
    /// The setting that holds the proof.
    pub(crate) proof: Option<(&'static str, Value)>,
}

impl Principal {
    /// Checks both ids.
    pub(crate) fn new(
        tenant: &Value,
        client_id: &Value,
        proof: Option<(&'static str, &Value)>,
    ) -> Result<Self, Error> {
        Ok(Self {
            tenant: check_tenant(tenant)?,
            client_id: check_guid(client_id, "the application's client id")?,
            tenant_name: tenant.variable_or("PGAAD_TENANT_ID"),
            client_id_name: client_id.variable_or("PGAAD_CLIENT_ID"),
            proof: proof.map(|(key, value)| (key, value.clone())),
        })
    }

    /// For the names of shared entries: upper and lower case are the same to Entra.
    pub(crate) fn id(&self) -> String {
        format!("application {} {}", self.tenant, self.client_id).to_ascii_lowercase()
    }

    /// The file that the proof names, and the setting's name.
    pub(crate) fn proof_file(&self) -> (PathBuf, &str) {
        self.proof.as_ref().map_or_else(Default::default, |(_, value)| (value.as_str().into(), &*value.name))
    }
}

/// The id by which the endpoint knows a managed identity.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Selector {
    Client(String),
    Object(String),
    /// Its id in Azure Resource Manager.
    Resource(String),
}

/// A managed identity: the one that the machine has, or one by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Managed {
    pub(crate) selector: Option<Selector>,
    /// For messages: the setting that names it.
    pub(crate) name: String,
    /// Whether settings of ours name it, and not merely a variable of the Azure SDKs.
    pub(crate) is_deliberate: bool,
}

/// Why the settings make no identity.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Lack {
    /// These keys are missing beside what is set, if anything is.
    Keys {
        set: Option<String>,
        missing: Vec<&'static str>,
        /// A proof that belongs to another identity.
        unused: Option<String>,
    },
    /// What is there is wrong.
    Wrong(Error),
}

impl From<Error> for Lack {
    fn from(error: Error) -> Self {
        Self::Wrong(error)
    }
}

impl From<Lack> for Error {
    fn from(lack: Lack) -> Self {
        match lack {
            Lack::Wrong(error) => error,
            Lack::Keys { set, missing, unused } => {
                let named: Vec<String> = missing.iter().map(|key| Key::named(key).with_variables()).collect();
                let (verb, them) = if named.len() == 1 { ("is", "it") } else { ("are", "them") };
                let named = named.join(", ");
                let set = set
                    .as_deref()
                    .map_or("No identity is set".into(), |set| format!("{set} is not enough to sign in"));
                let unused = unused.map_or_else(String::new, |unused| {
                    format!(" {unused} is set, but beside another client id, so it is not used.")
                });
                config(format!("{set}: {named} {verb} missing. Set {them}.{unused}"))
            }
        }
    }
}

/// What each family says of identities. Credentials ask it for what they need.
#[derive(Debug, PartialEq)]
pub(crate) struct Identities(Vec<Member>);

/// One family's part.
#[derive(Debug, PartialEq)]
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

    /// The managed identity that its identity key names.
    fn managed(&self) -> Result<Managed, Error> {
        self.check()?;
        let (selector, value) = match (&self.client_id, &self.object_id, &self.resource_id) {
            (Some(id), ..) => (Selector::Client(check_guid(id, "the identity's client id")?), id),
            (_, Some(id), _) => (Selector::Object(check_guid(id, "the identity's object id")?), id),
            (.., Some(id)) => (Selector::Resource(check_resource_id(id)?), id),
            (None, None, None) => return Ok(Managed::default()),
        };
        let is_deliberate = self.family < Family::Azure;
        Ok(Managed { selector: Some(selector), name: value.name.clone(), is_deliberate })
    }
}

/// Which kind of credential an identity asks for by itself.
pub(crate) enum Kind {
    /// The one that takes this proof.
    By(&'static str),
    ManagedIdentity,
}

impl Identities {
    pub(super) fn read(sources: &Sources<'_>) -> Result<Self, Error> {
        Family::ALL
            .into_iter()
            .map(|family| Member::read(sources, family))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether the settings string names an identity, or proves one.
    pub(super) fn is_given(&self) -> bool {
        self.0.iter().any(|member| member.family == Family::Given && member.supplies())
    }

    /// The family that supplies the identity, and those that may fill in for it.
    fn supplier(&self) -> Option<&[Member]> {
        let position = self.0.iter().position(Member::supplies)?;
        Some(&self.0[position..])
    }

    /// Whether settings of ours supply the identity, and not merely variables of the Azure SDKs.
    pub(crate) fn is_deliberate(&self) -> bool {
        self.supplier().is_some_and(|members| members[0].family < Family::Azure)
    }

    /// What the identity that is supplied asks for. Wrong or incomplete is what can be no credential at all.
    pub(crate) fn kind(&self) -> Result<Kind, Lack> {
        let Some(members) = self.supplier() else { return Ok(Kind::ManagedIdentity) };
        let supplier = &members[0];
        supplier.check()?;
        if supplier.object_id.is_some() || supplier.resource_id.is_some() {
            return Ok(Kind::ManagedIdentity);
        }
        match fill_in(members, &PROOFS) {
            (Some(_), Some((key, _))) if self.tenant().is_some() => Ok(Kind::By(key)),
            (Some(_), None) if supplier.tenant.is_none() => Ok(Kind::ManagedIdentity),
            (client_id, proof) => Err(self.lack(client_id, proof.map(|(_, value)| value), &PROOFS)),
        }
    }

    /// The application that proves itself by one of these settings; with none of them, by something else.
    pub(crate) fn principal(&self, proofs: &[&'static str]) -> Result<Principal, Lack> {
        let members = self.supplier().ok_or_else(|| self.lack(None, None, proofs))?;
        members[0].check()?;
        let (client_id, proof) = match proofs {
            [] => (members.iter().find_map(|member| member.client_id.as_ref()), None),
            _ => fill_in(members, proofs),
        };
        let proven = proof.is_some() || proofs.is_empty();
        match (self.tenant(), client_id) {
            (Some(tenant), Some(client_id)) if proven => Ok(Principal::new(tenant, client_id, proof)?),
            _ => Err(self.lack(client_id, proof.map(|(_, value)| value), proofs)),
        }
    }

    /// The keys that are missing for an application.
    fn lack(&self, client_id: Option<&Value>, proof: Option<&Value>, proofs: &[&'static str]) -> Lack {
        let supplied = self.supplier().and_then(|members| members[0].identity_keys().next());
        let set = supplied.or(proof).or(client_id).or(self.tenant()).map(|value| value.name.clone());
        let parts = [Some(("tenant_id", self.tenant())), Some(("client_id", client_id))];
        let proof = proofs.first().map(|key| (*key, proof));
        let missing = parts.into_iter().chain([proof]).flatten().filter(|(_, value)| value.is_none());
        let missing: Vec<_> = missing.map(|(key, _)| key).collect();
        let lacks_proof = proofs.first().is_some_and(|key| missing.contains(key));
        let others = self.supplier().unwrap_or_default().iter().skip(1);
        let unused = others.filter_map(|member| member.proof(proofs)).find(|_| lacks_proof);
        Lack::Keys { set, missing, unused: unused.map(|(_, value)| value.name.clone()) }
    }

    fn tenant(&self) -> Option<&Value> {
        self.0.iter().find_map(|member| member.tenant.as_ref())
    }

    /// The directory, for credentials that need none.
    pub(crate) fn checked_tenant(&self) -> Result<Option<String>, Error> {
        self.tenant().map(check_tenant).transpose()
    }

    /// The managed identity to ask for. A client id that has a proof beside it is an application's.
    pub(crate) fn managed(&self) -> Result<Managed, Error> {
        let is_applications = |member: &Member| {
            matches!(member.family, Family::DbSp | Family::Azure) && member.proof(&PROOFS).is_some()
        };
        let named = |member: &&Member| member.identity_keys().next().is_some() && !is_applications(member);
        self.0.iter().find(named).map_or(Ok(Managed::default()), Member::managed)
    }
}

/// The client id and the proof of the first family, with what the later ones may fill in for it.
fn fill_in<'a>(
    members: &'a [Member],
    allowed: &[&'static str],
) -> (Option<&'a Value>, Option<(&'static str, &'a Value)>) {
    let (supplier, later) = (&members[0], &members[1..]);
    let own = supplier.proof(allowed);
    if supplier.object_id.is_some() || supplier.resource_id.is_some() {
        return (None, own);
    }
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

/// A GUID or a verified domain name. It becomes a part of a URL's path, or an argument.
fn check_tenant(value: &Value) -> Result<String, Error> {
    let tenant = value.as_str();
    let plain = tenant.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
    if plain && !tenant.starts_with(['.', '-']) {
        Ok(tenant.to_string())
    } else {
        Err(value.bad("must be the tenant's id (a GUID) or one of its domain names."))
    }
}

fn check_guid(value: &Value, what: &str) -> Result<String, Error> {
    if is_guid(value.as_str()) {
        Ok(value.as_str().to_string())
    } else {
        Err(value.bad(&format!(
            "must be a GUID, such as 00000000-0000-0000-0000-000000000000: {what}, not its name."
        )))
    }
}

fn is_guid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

fn check_resource_id(value: &Value) -> Result<String, Error> {
    let id = value.as_str();
    let plain = id.chars().all(|c| !c.is_whitespace() && !c.is_control());
    if plain && id.to_ascii_lowercase().starts_with("/subscriptions/") {
        Ok(id.to_string())
    } else {
        Err(value.bad(
            "must be the identity's id in Azure Resource Manager: \
             /subscriptions/.../providers/Microsoft.ManagedIdentity/userAssignedIdentities/NAME.",
        ))
    }
}
