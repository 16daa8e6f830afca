//! What goes back: tokens, answers and their faults.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::directory::App;
use super::grant::{Grant, Ids, Refusal};
use super::{Config, Numbers, State};
use crate::faults::{Act, Edit, Fault, Header, REDIRECT_PREFIX};
use crate::http::{Request, Response, parse_form};
use crate::jwt::Claims;
use crate::random;

const JSON: &str = "application/json; charset=utf-8";

/// The time, this many seconds off.
pub(crate) fn shifted(seconds: i64) -> SystemTime {
    let shift = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { SystemTime::now() - shift } else { SystemTime::now() + shift }
}

pub(crate) fn unix(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// The claims of an application's v1.0 token that was asked for at `now` and lives for `lifetime` seconds.
pub(crate) fn claims(app: &App, audience: &str, now: i64, lifetime: i64) -> Claims {
    let issuer = format!("https://sts.windows.net/{}/", app.tenant.id);
    let claims = json!({
        "aud": audience,
        "iss": issuer,
        "iat": now - 300,
        "nbf": now - 300,
        "exp": now + lifetime,
        "aio": random::text::<44>(),
        "appid": app.client_id,
        "appidacr": "1",
        "idp": issuer,
        "idtyp": "app",
        "oid": app.object_id,
        "rh": format!("1.{}.", random::text::<48>()),
        "sub": app.object_id,
        "tid": app.tenant.id,
        "uti": random::text::<16>(),
        "ver": "1.0",
        "xms_idrel": "7 24",
    });
    match claims {
        Value::Object(claims) => claims,
        _ => unreachable!("json! made an object"),
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
        let skew = config.clock_skew + fault.skew;
        let now = shifted(skew);
        let ids = Ids::of(request);
        let refuse = |refusal: &Refusal| {
            Response::new(
                refusal.status,
                JSON,
                refusal.body(&ids, now, self.break_lines(&config)).to_string(),
            )
        };
        let mut response = match (&fault.act, decision) {
            (Act::Refuse { status, error, code }, _) => {
                let text = "This answer was made to order.".to_owned();
                refuse(&Refusal { status: *status, error: error.clone(), code: *code, text })
            }
            (Act::EchoSecret, _) => refuse(&echo(request)),
            (Act::Body(status, content_type, body), _) => Response::new(*status, content_type, body.clone()),
            (Act::Redirect(status), _) => {
                let host = request.header("host").unwrap_or("localhost");
                Response::new(*status, "text/html", "")
                    .with("Location", format!("https://{host}{REDIRECT_PREFIX}{}", request.target))
            }
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
        response.date = now;
        response.framing = fault.framing;
        response.interim = fault.interim;
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
        for header in &fault.headers {
            response = match header {
                Header::Text(name, value) => response.with(name, value.as_str()),
                Header::Date(name, seconds) => {
                    response.with(name, httpdate::fmt_http_date(shifted(skew + seconds)))
                }
            };
        }
        if fault.gzip {
            response.body = gzip(&response.body);
            response = response.with("Content-Encoding", "gzip");
        }
        response
    }

    fn token(&self, grant: &Grant, config: &Config, fault: &Fault, now: SystemTime) -> String {
        let token = self.make_token(grant, config, fault, now);
        self.issued(&token);
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
        let mut claims = claims(grant.app, grant.resource.id, unix(now), lifetime);
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
    for edit in &fault.edits {
        match edit {
            Edit::Set(name, value) => body[name.as_str()] = value.clone(),
            Edit::Remove(name) => drop(body.as_object_mut().and_then(|body| body.remove(name))),
            Edit::InToken(text) => {
                let (start, end) = token.split_at(token.len() / 2);
                body["access_token"] = json!(format!("{start}{text}{end}"));
            }
            Edit::Huge => body["filler"] = json!("x".repeat(3 << 19)),
            Edit::Expired | Edit::Opaque | Edit::Size(_) => {}
        }
    }
    body
}

/// AADSTS7000215, with the secret in it.
fn echo(request: &Request) -> Refusal {
    let decoded = parse_form(&request.body)
        .and_then(|form| form.into_iter().find(|(name, _)| name == "client_secret"))
        .map_or_else(String::new, |(_, secret)| secret);
    let body = String::from_utf8_lossy(&request.body);
    let sent = body.split('&').find_map(|pair| pair.strip_prefix("client_secret=")).unwrap_or_default();
    let text = format!("Invalid client secret provided: '{decoded}' (sent as '{sent}').");
    Refusal::new(401, "invalid_client", 7000215, text)
}

/// A gzip file of stored (not compressed) blocks.
fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = data.chunks(0xffff).peekable();
    if data.is_empty() {
        out.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        out.push(u8::from(blocks.peek().is_none()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    let crc = !data.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    out
}
