//! PEM (RFC 7468): base64 between lines of dashes, and any text around it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::key::Key;
use super::unlock::Password;
use super::x509::X509;
use super::{Contents, Trouble};

/// What to do where a key uses what is not known here.
pub(super) const CONVERT: &str = "`openssl pkcs8 -topk8 -in OLD.pem -out NEW.pem` writes the key in a way \
     that it does. Then add the certificates to NEW.pem";

const BEGIN: &[u8] = b"-----BEGIN ";

pub(super) fn is_pem(bytes: &[u8]) -> bool {
    split(bytes, BEGIN).is_some()
}

pub(super) fn read(mut text: &[u8], password: Option<&str>) -> Result<Contents, Trouble> {
    let password = Password::new(password);
    let mut contents = Contents::default();
    while let Some((_, section)) = split(text, BEGIN) {
        let (label, section) = split(section, b"-----").ok_or(Trouble::Damaged)?;
        let (body, rest) = split(section, b"-----END ").ok_or(Trouble::Damaged)?;
        text = rest;
        if body.trim_ascii_start().starts_with(b"Proc-Type:") {
            return Err(Trouble::Foreign(
                "holds a key encrypted in OpenSSL's old way, which pgaad does not know".into(),
            ));
        }
        match label {
            b"CERTIFICATE" | b"X509 CERTIFICATE" | b"TRUSTED CERTIFICATE" => {
                contents.certificates.push(X509::read(&decode(body)?)?);
            }
            b"PRIVATE KEY" => contents.keys.push(Key::pkcs8(&decode(body)?)?),
            b"RSA PRIVATE KEY" => contents.keys.push(Key::pkcs1(&decode(body)?)?),
            b"ENCRYPTED PRIVATE KEY" => contents.keys.push(Key::encrypted(&decode(body)?, &password)?),
            b"EC PRIVATE KEY" => contents.keys.push(Key::not_rsa("an EC key")),
            b"DSA PRIVATE KEY" => contents.keys.push(Key::not_rsa("a DSA key")),
            _ => {}
        }
    }
    Ok(contents)
}

/// What stands before the mark, and what behind it.
fn split<'a>(text: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(mark.len()).position(|window| window == mark)?;
    Some((&text[..at], &text[at + mark.len()..]))
}

fn decode(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let mut base64 = Zeroizing::new(Vec::with_capacity(body.len()));
    base64.extend(body.iter().filter(|byte| !byte.is_ascii_whitespace()));
    STANDARD.decode(&base64).map(Zeroizing::new).map_err(|_| Trouble::Damaged)
}
