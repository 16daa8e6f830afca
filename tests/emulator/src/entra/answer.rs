//! What goes back: tokens, answers and their faults.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::directory::{Kind, Principal, Subject};
use super::grant::{Grant, Ids, Refusal};
use super::{Config, Numbers, State};
use crate::clock::{shifted, unix};
use crate::faults::{Act, Edit, Fault};
use crate::http::{Request, Response, parse_form};
use crate::jwt::Claims;
use crate::random;

const JSON: &str = "application/json; charset=utf-8";

/// `appidacr`: how the client proved itself.
const PUBLIC: &str = "0";
const SECRET: &str = "1";
const ASSERTION: &str = "2";

/// The claims of a v1.0 token that was asked for at `now` and lives for `lifetime` seconds.
///
/// Managed identities have no name in it, but their ARM id where the audience is Azure's management.
pub(crate) fn claims(who: Subject<'_>, audience: &str, now: i64, lifetime: i64) -> Claims {
    let tenant = who.tenant().id;
    let issuer = format!("https://sts.windows.net/{tenant}/");
    let claims = json!({
        "aud": audience,
        "iss": issuer,
        "iat": now - 300,
        "nbf": now - 300,
        "exp": now + lifetime,
        "aio": random::text::<44>(),
        "appid": who.client_id(),
        "oid": who.object_id(),
        "rh": format!("1.{}.", random::text::<48>()),
        "tid": tenant,
        "uti": random::text::<16>(),
        "ver": "1.0",
        "xms_idrel": "7 24",
    });
    let more = match who {
        Subject::App(_) => json!({"appidacr": SECRET, "idp": issuer, "idtyp": "app", "sub": who.object_id()}),
        Subject::Principal(user) if user.kind == Kind::User => json!({
            "acr": "1",
            "amr": ["pwd", "mfa"],
            "appidacr": PUBLIC,
            "ipaddr": "192.0.2.7",
            "name": user.role.split('@').next(),
            "scp": "user_impersonation",
            "sub": format!("of-{}", user.object_id), // pairwise: neither the object nor the application
            "unique_name": user.role,
            "upn": user.role,
        }),
        Subject::Principal(identity) => {
            let mut more =
                json!({"appidacr": ASSERTION, "idp": issuer, "idtyp": "app", "sub": identity.object_id});
            if audience.trim_end_matches('/').starts_with("https://management.") {
                more["xms_mirid"] = json!(identity.resource_id);
            }
            more
        }
    };
    match (claims, more) {
        (Value::Object(mut claims), Value::Object(more)) => {
            claims.extend(more);
            claims
        }
        _ => unreachable!("json! made objects"),
    }
}

impl State {
    /// The response to a request for a token.
    pub(super) fn respond(
        &self,
        request: &Request,
        decision: Result<Grant, Refusal>,
        fault: &Fault,
    ) -> Response {
        let config = self.config();
        let now = shifted(config.clock_skew + fault.skew);
        let ids = Ids::of(request);
        let refuse = |refusal: &Refusal| {
            Response::new(
                refusal.status,
                JSON,
                refusal.body(&ids, now, self.break_lines(&config)).to_string(),
            )
        };
        let ordinary = || match (&fault.act, decision) {
            (Act::Refuse { status, error, code }, _) => {
                let text = "This answer was made to order.".to_owned();
                refuse(&Refusal { status: *status, error: error.clone(), code: *code, text })
            }
            (Act::EchoSecret, _) => refuse(&echo(request)),
            (Act::Template(text), Ok(grant)) => {
                let token = self.token(&grant, &config, fault, now);
                Response::new(200, JSON, text.replace("{token}", &token))
            }
            (_, Ok(grant)) => {
                let token = self.token(&grant, &config, fault, now);
                Response::new(200, JSON, granted(&token, &config, fault).to_string())
            }
            (_, Err(refusal)) => {
                let response = refuse(&refusal);
                if refusal.status == 405 { response.with("Allow", "POST") } else { response }
            }
        };
        let mut response = fault.instead(request).unwrap_or_else(ordinary);
        for (name, value) in [
            ("Cache-Control", "no-store, no-cache"),
            ("Pragma", "no-cache"),
            ("Expires", "-1"),
            ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
            ("X-Content-Type-Options", "nosniff"),
            ("P3P", "CP=\"DSP CUR OTPi IND OTRi ONL FIN\""),
            ("x-ms-request-id", ids.trace.as_str()),
            ("x-ms-ests-server", "2.1.0.0 - PGAAD ProdSlices"),
            ("x-ms-srs", "1.P"),
            ("Referrer-Policy", "strict-origin-when-cross-origin"),
            ("X-XSS-Protection", "0"),
            ("Set-Cookie", "fpc=AgAAAA; path=/; secure; HttpOnly; SameSite=None"),
            ("Set-Cookie", "x-ms-gateway-slice=estsfd; path=/; secure; httponly"),
        ] {
            response = response.with(name, value);
        }
        if request.header("return-client-request-id") == Some("true") {
            response = response.with("client-request-id", ids.correlation.as_str());
        }
        fault.dress(response, config.clock_skew)
    }

    /// A token of a managed identity or a user; the caller has checked that this resource exists.
    pub(crate) fn token_of(&self, who: &Principal, resource: &str, lifetime: i64) -> String {
        let config = self.config();
        let now = unix(shifted(config.clock_skew));
        self.sign(claims(who.into(), resource, now, lifetime), config.token_size)
    }

    fn token(&self, grant: &Grant, config: &Config, fault: &Fault, now: SystemTime) -> String {
        let token = self.make_token(grant, config, fault, now);
        self.desk.issued(&token);
        token
    }

    fn make_token(&self, grant: &Grant, config: &Config, fault: &Fault, now: SystemTime) -> String {
        let mut size = config.token_size;
        let mut lifetime = config.lifetime;
        for edit in &fault.edits {
            match edit {
                Edit::Size(bytes) => size = *bytes,
                Edit::Expired => lifetime = -3600,
                Edit::Opaque => return format!("1.{}.{}", random::text::<40>(), random::text::<40>()),
                _ => {}
            }
        }
        let mut claims = claims(grant.who, grant.resource.id, unix(now), lifetime);
        if grant.asserted {
            claims.insert("appidacr".to_owned(), json!(ASSERTION));
        }
        if lifetime < 0 {
            for name in ["iat", "nbf"] {
                claims.insert(name.to_owned(), json!(unix(now) + lifetime - 3900));
            }
        }
        self.sign(claims, size)
    }
}

/// The success answer's body.
fn granted(token: &str, config: &Config, fault: &Fault) -> Value {
    let number = |n: i64| match config.numbers {
        Numbers::Integers => json!(n),
        Numbers::Strings => json!(n.to_string()),
        Numbers::Floats => json!(n as f64),
    };
    let mut body = json!({
        "token_type": "Bearer",
        "expires_in": number(config.lifetime),
        "ext_expires_in": number(config.lifetime),
        "access_token": token,
    });
    if let Some(seconds) = config.refresh_in {
        body["refresh_in"] = number(seconds);
    }
    fault.change(&mut body, token);
    body
}

/// AADSTS7000215, or 700027, with the secret or assertion in it.
fn echo(request: &Request) -> Refusal {
    let form = parse_form(&request.body).unwrap_or_default();
    let body = String::from_utf8_lossy(&request.body);
    let named = |name: &str| {
        let (_, decoded) = form.iter().find(|(n, _)| n == name)?;
        let sent = body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
        Some(format!("'{decoded}' (sent as '{sent}')."))
    };
    let (code, proof) = match named("client_assertion") {
        Some(assertion) => (700027, format!("Client assertion contains an invalid signature: {assertion}")),
        None => {
            let secret = named("client_secret").unwrap_or_default();
            (7000215, format!("Invalid client secret provided: {secret}"))
        }
    };
    Refusal::new(401, "invalid_client", code, proof)
}
