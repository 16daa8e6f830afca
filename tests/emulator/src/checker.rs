//! Decides about a token as Azure Database for PostgreSQL would, and keeps a record.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use ring::digest;
use serde_json::Value;

use crate::clock::unix;
use crate::entra::{POSTGRESQL, Standing, State, Subject};
use crate::random;
use crate::sync::{Watched, lock};

/// One login that the server asked about.
#[derive(Clone, Debug)]
pub struct Bind {
    /// The role.
    pub role: String,
    /// Nothing, or why it was refused.
    pub refused: Option<String>,
    /// The token's `uti`, if its signature was right and it had one.
    pub uti: Option<String>,
    /// The token's length in bytes.
    pub length: usize,
    /// The token's SHA-256, in hexadecimal.
    pub sha256: String,
}

impl Bind {
    /// Whether the role was let in.
    pub fn ok(&self) -> bool {
        self.refused.is_none()
    }
}

pub(crate) struct Checker {
    entra: Arc<State>,
    audience: Mutex<String>,
    revoked: Mutex<HashSet<String>>,
    binds: Watched<Vec<Bind>>,
}

impl Checker {
    pub(crate) fn new(entra: Arc<State>) -> Self {
        Self {
            entra,
            audience: Mutex::new(POSTGRESQL.to_owned()),
            revoked: Mutex::default(),
            binds: Watched::new(Vec::new()),
        }
    }

    pub(crate) fn binds(&self) -> Vec<Bind> {
        self.binds.get().clone()
    }

    pub(crate) fn wait_until(&self, done: impl Fn(&[Bind]) -> bool, patience: Duration) -> bool {
        self.binds.wait_until(patience, |binds| done(binds))
    }

    pub(crate) fn revoke_all(&self) {
        lock(&self.revoked).extend(self.entra.signed());
    }

    pub(crate) fn set_audience(&self, audience: &str) {
        audience.clone_into(&mut lock(&self.audience));
    }

    /// Whether this password opens this role; recorded.
    pub(crate) fn check(&self, role: &str, password: &[u8]) -> bool {
        let mut uti = None;
        let refused = self.judge(role, password, &mut uti).err();
        let ok = refused.is_none();
        let sha256 = random::hex(digest::digest(&digest::SHA256, password).as_ref());
        self.binds.change(|binds| {
            binds.push(Bind { role: role.to_owned(), refused, uti, length: password.len(), sha256 });
        });
        ok
    }

    fn judge(&self, role: &str, password: &[u8], uti: &mut Option<String>) -> Result<(), String> {
        let token = std::str::from_utf8(password).map_err(|_| "not text")?;
        let claims = self.entra.verify(token)?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str).ok_or(format!("{name} is missing"));
        let time = |name: &str| claims.get(name).and_then(Value::as_i64).ok_or(format!("{name} is missing"));
        *uti = Some(text("uti")?.to_owned());
        let is = |name: &str, wanted: &str| match text(name)? {
            value if value == wanted => Ok(()),
            value => Err(format!("{name} is {value}, not {wanted}")),
        };
        is("aud", &lock(&self.audience))?;
        is("ver", "1.0")?;
        let now = unix(SystemTime::now());
        if time("exp")? <= now {
            return Err("exp is in the past".to_owned());
        }
        if time("nbf")? > now || time("iat")? > now {
            return Err("nbf or iat is in the future".to_owned());
        }
        let (id, object) = (text("appid")?, text("oid")?);
        if !Subject::all().any(|who| who.client_id() == id) {
            return Err(format!("appid {id} is unknown"));
        }
        let who = Subject::all()
            .find(|who| who.client_id() == id && who.object_id() == object)
            .ok_or(format!("oid is {object}, which is not one of appid {id}"))?;
        let tenant = who.tenant().id;
        is("tid", tenant)?;
        is("iss", &format!("https://sts.windows.net/{tenant}/"))?;
        match who.is_user() {
            true if claims.contains_key("idtyp") => return Err("a user's token with idtyp".to_owned()),
            true => is("upn", who.role())?,
            false => {
                is("idtyp", "app")?;
                is("sub", object)?;
            }
        }
        if who.standing() == Standing::Disabled {
            return Err(format!("application {id} is disabled"));
        }
        if who.role() != role {
            return Err(format!("the token is for role {}", who.role()));
        }
        if uti.as_ref().is_some_and(|uti| lock(&self.revoked).contains(uti)) {
            return Err("the token was revoked".to_owned());
        }
        Ok(())
    }
}
