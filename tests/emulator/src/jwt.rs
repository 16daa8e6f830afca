//! RS256-signed JSON web tokens.

use std::io;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::{Map, Value, json};

use crate::random;

/// The claims of a token.
pub type Claims = Map<String, Value>;

/// A key that signs tokens, with the name it goes by in their headers.
pub(crate) struct Key {
    pair: Arc<RsaKeyPair>,
    id: String,
}

impl Key {
    /// A new RSA key of 2048 bits. openssl makes it, since ring doesn't.
    pub(crate) fn generate() -> io::Result<Self> {
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-outform", "DER"])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| io::Error::other(format!("cannot run openssl: {error}")))?;
        // Which of the two it is depends on openssl's version.
        let pair = RsaKeyPair::from_pkcs8(&made.stdout).or_else(|_| RsaKeyPair::from_der(&made.stdout));
        let pair = pair.map_err(|error| {
            io::Error::other(format!("openssl genpkey: {error}: {}", String::from_utf8_lossy(&made.stderr)))
        })?;
        Ok(Self { pair: Arc::new(pair), id: random::text::<20>() })
    }

    /// The key of this process, under a name of its own: making one takes longer than most tests.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        static PAIR: Mutex<Option<Arc<RsaKeyPair>>> = Mutex::new(None);
        let mut pair = PAIR.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = match &*pair {
            Some(pair) => pair.clone(),
            None => pair.insert(Self::generate()?.pair).clone(),
        };
        Ok(Self { pair, id: random::text::<20>() })
    }

    /// Signs the claims, under the header that most services use.
    pub(crate) fn sign(&self, claims: &Claims) -> String {
        self.sign_under(&self.header(), claims)
    }

    /// Signs the claims under the header of a Kubernetes token, which has no `typ`.
    pub(crate) fn sign_plainly(&self, claims: &Claims) -> String {
        self.sign_under(&json!({"alg": "RS256", "kid": self.id}), claims)
    }

    fn header(&self) -> Value {
        json!({"typ": "JWT", "alg": "RS256", "x5t": self.id, "kid": self.id})
    }

    fn sign_under(&self, header: &Value, claims: &Claims) -> String {
        let mut token = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(Value::Object(claims.clone()).to_string())
        );
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature)
            .expect("an RSA key of 2048 bits signs anything");
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        token
    }

    /// Signs the claims, made believably longer until the token has at least `size` bytes and at most 2 more.
    pub(crate) fn sign_padded(&self, mut claims: Claims, size: usize) -> String {
        let length = |claims: &Claims| self.length(Value::Object(claims.clone()).to_string().len());
        let mut roles = Vec::new();
        loop {
            let mut longer = claims.clone();
            roles.push(Value::String(random::guid()));
            longer.insert("wids".to_owned(), Value::Array(roles.clone()));
            longer.insert("xms_ftd".to_owned(), Value::String(String::new()));
            if length(&longer) > size {
                break;
            }
            claims = longer;
        }
        if claims.contains_key("xms_ftd") {
            let mut filler: String = random::text::<48>();
            while length(&claims) < size {
                let next = filler.pop().unwrap_or('A');
                if let Some(Value::String(text)) = claims.get_mut("xms_ftd") {
                    text.push(next);
                }
            }
        }
        self.sign(&claims)
    }

    /// The length of a token whose claims take this many bytes.
    fn length(&self, claims: usize) -> usize {
        let encoded = |n: usize| (4 * n).div_ceil(3);
        encoded(self.header().to_string().len())
            + 1
            + encoded(claims)
            + 1
            + encoded(self.pair.public().modulus_len())
    }

    /// The claims of a token that this key signed, or what is wrong with it.
    pub(crate) fn verify(&self, token: &str) -> Result<Claims, String> {
        let parts = Parts::of(token)?;
        self.has_signed(&parts)?;
        Ok(parts.claims)
    }

    /// Whether this key signed a token, or why not.
    pub(crate) fn has_signed(&self, parts: &Parts<'_>) -> Result<(), String> {
        if parts.header.contains_key("typ") {
            parts.header_is("typ", "JWT")?;
        }
        parts.header_is("alg", "RS256")?;
        parts.header_is("kid", &self.id)?;
        match parts.signed_by(&RSA_PKCS1_2048_8192_SHA256, self.pair.public().as_ref()) {
            true => Ok(()),
            false => Err("signature: wrong".to_owned()),
        }
    }
}

/// A token taken apart. Nothing of it is verified.
pub(crate) struct Parts<'a> {
    pub(crate) header: Claims,
    pub(crate) claims: Claims,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    /// Takes one apart; three parts in base64url without padding, two of them JSON objects.
    pub(crate) fn of(token: &'a str) -> Result<Self, String> {
        let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else {
            return Err("not three parts".to_owned());
        };
        let decode = |part: &str, name: &str| {
            URL_SAFE_NO_PAD.decode(part).map_err(|error| format!("{name}: not base64url: {error}"))
        };
        let object = |part: &str, name: &str| {
            serde_json::from_slice::<Claims>(&decode(part, name)?)
                .map_err(|error| format!("{name}: not JSON: {error}"))
        };
        let signed = &token[..token.rfind('.').unwrap_or_default()];
        Ok(Self {
            header: object(header, "header")?,
            claims: object(claims, "claims")?,
            signed,
            signature: decode(signature, "signature")?,
        })
    }

    /// Whether a field of the header is as wanted.
    pub(crate) fn header_is(&self, name: &str, wanted: &str) -> Result<(), String> {
        match self.header.get(name).and_then(Value::as_str) == Some(wanted) {
            true => Ok(()),
            false => Err(format!("header: {name} is not {wanted}")),
        }
    }

    /// Whether the signature is this key's.
    pub(crate) fn signed_by(&self, algorithm: &'static dyn VerificationAlgorithm, key: &[u8]) -> bool {
        UnparsedPublicKey::new(algorithm, key).verify(self.signed.as_bytes(), &self.signature).is_ok()
    }
}

/// The claims of a token, whoever signed it; None if it has no such thing.
pub fn claims(token: &str) -> Option<Claims> {
    let part = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_verified_and_nothing_else() {
        let (key, other) = (Key::generate().unwrap(), Key::generate().unwrap());
        let Value::Object(set) = json!({"aud": "x", "exp": 1}) else { unreachable!() };
        let token = key.sign(&set);
        assert_eq!(key.verify(&token), Ok(set.clone()));
        assert_eq!(claims(&token), Some(set.clone()));
        assert!(other.verify(&token).unwrap_err().contains("kid"));
        assert!(key.verify(&other.sign(&set)).is_err());
        assert!(key.verify(&format!("{token}=")).is_err());
        assert!(key.verify(&token[..token.len() - 4]).unwrap_err().contains("signature"));
        let (head, signature) = (token.split('.').next().unwrap(), token.rsplit('.').next().unwrap());
        let forged = format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(r#"{"aud":"y"}"#));
        assert!(key.verify(&forged).unwrap_err().contains("signature"));
        for size in 1500..1510 {
            let length = key.sign_padded(set.clone(), size).len();
            assert!((size..=size + 2).contains(&length), "{length} for {size}");
        }
    }
}
