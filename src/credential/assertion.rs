//! A signed statement of who asks, as a certificate's owner makes it (Microsoft Learn: "Microsoft identity platform
//! application authentication certificate credentials"; RFC 7515, RFC 7523).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::certificate::Certificate;
use crate::error::{Error, ErrorKind};
use crate::random;
use crate::secret::Secret;

/// How long it may be used, in seconds, and how far the service's clock may be behind ours.
const LIFE: i64 = 600;
const SLACK: i64 = 60;

/// Made for one request to `url`.
pub(super) fn make(
    certificate: &Certificate,
    with_chain: bool,
    client_id: &str,
    url: &str,
    now: i64,
) -> Result<Secret, Error> {
    let mut header = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": certificate.thumbprint() });
    if with_chain {
        header["x5c"] = certificate.chain().into();
    }
    let claims = json!({
        "aud": url,
        "iss": client_id,
        "sub": client_id,
        "jti": random::guid(),
        "iat": now,
        "nbf": now - SLACK,
        "exp": now + LIFE - SLACK,
    });
    let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = certificate
        .sign_ps256(signed.as_bytes())
        .map_err(|_| Error::new(ErrorKind::Internal, "The certificate's key cannot sign."))?;
    Ok(Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
}
