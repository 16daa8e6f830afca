//! RS256-signed JSON web tokens.

use std::io;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey};
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

    /// Signs the claims.
    pub(crate) fn sign(&self, claims: &Claims) -> String {
        let header = json!({"typ": "JWT", "alg": "RS256", "x5t": self.id, "kid": self.id});
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
        let header = json!({"typ": "JWT", "alg": "RS256", "x5t": self.id, "kid": self.id}).to_string().len();
        encoded(header) + 1 + encoded(claims) + 1 + encoded(self.pair.public().modulus_len())
    }

    /// The claims of a token that this key signed, or what is wrong with it.
    pub(crate) fn verify(&self, token: &str) -> Result<Claims, String> {
        let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else {
            return Err("not three parts".to_owned());
        };
        let decode = |part: &str, name: &str| {
            URL_SAFE_NO_PAD.decode(part).map_err(|error| format!("{name}: not base64url: {error}"))
        };
        let object = |bytes: &[u8], name: &str| {
            serde_json::from_slice::<Claims>(bytes).map_err(|error| format!("{name}: not JSON: {error}"))
        };
        let header = object(&decode(header, "header")?, "header")?;
        for (name, value) in [("alg", "RS256"), ("typ", "JWT"), ("kid", &self.id)] {
            if header.get(name).and_then(Value::as_str) != Some(value) {
                return Err(format!("header: {name} is not {value}"));
            }
        }
        let signature = decode(signature, "signature")?;
        let signed = &token.as_bytes()[..token.rfind('.').unwrap_or_default()];
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.pair.public().as_ref())
            .verify(signed, &signature)
            .map_err(|_| "signature: wrong".to_owned())?;
        object(&decode(claims, "claims")?, "claims")
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
