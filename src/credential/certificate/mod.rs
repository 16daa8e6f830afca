//! A certificate with its private key, read from a PEM or PKCS#12 file, checked, and signing.
//!
//! What can't be read is refused with the command that converts it. No input makes it panic or keeps it busy
//! for longer than seconds.

mod asn1; //   values in DER
mod unlock; // decryption by a password
mod key; //    a private key
mod x509; //   what a certificate says
mod pem; //    one kind of file
mod pkcs12; // the other

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{KeyPair, RSA_PSS_SHA256, RsaKeyPair};

use crate::secret::Secret;
use key::Key;
use x509::X509;

/// A certificate with its private key.
pub(super) struct Certificate {
    key: Box<RsaKeyPair>,
    /// DER: the certificate, and its issuers in order.
    chain: Vec<Vec<u8>>,
}

/// Why a file can't be used.
enum Trouble {
    /// The password doesn't open it, or there is none.
    Locked,
    /// It is not what it begins as.
    Damaged,
    /// It is sound, but uses what is not known here. Completes "FILE, which ...".
    Foreign(String),
}

/// What a file holds.
#[derive(Default)]
struct Contents {
    keys: Vec<Key>,
    certificates: Vec<X509>,
}

const DAMAGED: &str = "is damaged or cut off. Copy or export it again";
const NEITHER: &str =
    "is neither PEM nor PKCS#12. Give the file that holds the certificate and its private key";
/// What messages call the password.
pub(super) const PASSWORD_SETTING: &str = "client_certificate_password (PGAAD_CLIENT_CERTIFICATE_PASSWORD)";

impl Certificate {
    /// Reads a file's bytes; `now` is in Unix seconds. The error completes "FILE, which ..." up to the stop.
    pub(super) fn read(bytes: &[u8], password: Option<&Secret>, now: i64) -> Result<Self, String> {
        // An empty password and none differ in PKCS#12, and people can't tell which one their file has.
        let password = password.map(Secret::reveal).filter(|text| !text.is_empty());
        let (contents, convert) = if pem::is_pem(bytes) {
            (pem::read(bytes, password), pem::CONVERT)
        } else if pkcs12::is_pkcs12(bytes) {
            (pkcs12::read(bytes, password), pkcs12::CONVERT)
        } else {
            return Err(strange(bytes).into());
        };
        match contents {
            Ok(contents) => contents.identity(now),
            Err(Trouble::Damaged) => Err(DAMAGED.into()),
            Err(Trouble::Foreign(what)) => Err(format!("{what}. {convert}")),
            Err(Trouble::Locked) => Err(match password {
                Some(_) => {
                    format!("does not open with the password in {PASSWORD_SETTING}. Check the password")
                }
                None => format!("needs a password. Set {PASSWORD_SETTING}"),
            }),
        }
    }

    /// The certificate's SHA-256 as the header `x5t#S256` has it.
    pub(super) fn thumbprint(&self) -> String {
        let leaf = self.chain.first().map_or(&[][..], Vec::as_slice);
        URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, leaf))
    }

    /// The certificate and its issuers as the header `x5c` has them.
    pub(super) fn chain(&self) -> Vec<String> {
        self.chain.iter().map(|der| STANDARD.encode(der)).collect()
    }

    /// Signs by PS256: RSASSA-PSS with SHA-256, MGF1 with SHA-256, and a salt of 32 bytes.
    pub(super) fn sign_ps256(&self, message: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), message, &mut signature)?;
        Ok(signature)
    }
}

/// Shows which certificate it is, and nothing of the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.thumbprint())
    }
}

impl Contents {
    /// The key and the certificate that fit each other.
    fn identity(self, now: i64) -> Result<Certificate, String> {
        let Self { keys, certificates } = self;
        match (keys.is_empty(), certificates.is_empty()) {
            (false, false) => {}
            (true, true) => return Err("holds no certificate and no private key".into()),
            (true, false) => return Err("holds no private key. Add the certificate's key to the file".into()),
            (false, true) => return Err("holds no certificate. Add the key's certificate to the file".into()),
        }
        let mut unfit = None;
        let mut pairs = Vec::new();
        for key in keys {
            match key {
                Key::Unfit(why) => unfit = unfit.or(Some(why)),
                Key::Rsa(key) => {
                    let public = key.public_key().as_ref();
                    let fitting = certificates.iter().filter(|certificate| certificate.fits(public));
                    pairs.extend(
                        fitting.max_by_key(|certificate| certificate.rank(now)).map(|one| (key, one)),
                    );
                }
            }
        }
        // After a renewal there may be several.
        let Some((key, leaf)) = pairs.into_iter().max_by_key(|(_, certificate)| certificate.rank(now)) else {
            return Err(unfit.unwrap_or_else(|| {
                "holds no certificate that fits its private key. Put the two that belong together in the file"
                    .into()
            }));
        };
        leaf.check(now)?;
        let chain = x509::chain(leaf, &certificates).into_iter().map(|link| link.der.clone()).collect();
        let certificate = Certificate { key, chain };
        // The parts of a key that only signing uses are only checked by it.
        certificate.sign_ps256(b"").map_err(|_| DAMAGED)?;
        Ok(certificate)
    }
}

/// What a file is that is neither.
fn strange(bytes: &[u8]) -> &'static str {
    let text = bytes.trim_ascii();
    if text.is_empty() {
        "is empty"
    } else if bytes.starts_with(b"\xfe\xed\xfe\xed") || bytes.starts_with(b"\xce\xce\xce\xce") {
        "is a Java keystore. `keytool -importkeystore -srckeystore OLD.jks -destkeystore NEW.p12 \
         -deststoretype PKCS12` converts it"
    } else if bytes.starts_with(b"\x30\x80") {
        // A length that is left open.
        pkcs12::BER
    } else if bytes.starts_with(b"\x30") {
        asn1::kind(bytes)
    } else if text.starts_with(b"MII") {
        "is base64 without its header. If it is a PKCS#12 file's, `base64 -d OLD.txt >NEW.pfx` decodes it"
    } else {
        NEITHER
    }
}

#[cfg(test)]
mod tests;
