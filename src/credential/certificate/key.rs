//! A private key: PKCS#8 (RFC 5958) or PKCS#1 (RFC 8017).

use ring::signature::RsaKeyPair;

use super::Trouble;
use super::asn1::{self, ObjectIdentifier, Reader, Tag, UintRef};
use super::unlock::Password;

pub(super) const RSA: ObjectIdentifier = asn1::oid("1.2.840.113549.1.1.1");
const RSA_PSS: ObjectIdentifier = asn1::oid("1.2.840.113549.1.1.10");
const ELLIPTIC: ObjectIdentifier = asn1::oid("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = asn1::oid("1.3.101.112");

pub(super) enum Key {
    Rsa(Box<RsaKeyPair>),
    /// Not one that signs for Entra; completes "FILE, which ...".
    Unfit(String),
}

impl Key {
    /// Reads a PrivateKeyInfo.
    pub(super) fn pkcs8(der: &[u8]) -> Result<Self, Trouble> {
        let mut fields = asn1::sequence(der)?;
        fields.tlv_bytes()?; // version
        let algorithm = asn1::inside(&mut fields, Tag::Sequence)?.decode()?;
        let key = asn1::value(&mut fields, Tag::OctetString)?;
        Ok(match algorithm {
            RSA => Self::pkcs1(key)?,
            RSA_PSS => Self::not_rsa("an RSA key for PSS only"),
            ELLIPTIC => Self::not_rsa("an EC key"),
            ED25519 => Self::not_rsa("an Ed25519 key"),
            _ => Self::not_rsa("another kind of key"),
        })
    }

    /// Reads an EncryptedPrivateKeyInfo.
    pub(super) fn encrypted(der: &[u8], password: &Password) -> Result<Self, Trouble> {
        let mut fields = asn1::sequence(der)?;
        let algorithm = asn1::inside(&mut fields, Tag::Sequence)?;
        let data = asn1::value(&mut fields, Tag::OctetString)?;
        // One wrong password in 256 leaves an end that looks right.
        Self::pkcs8(&password.decrypt(algorithm, data)?).map_err(|_| Trouble::Locked)
    }

    /// Reads an RSAPrivateKey.
    pub(super) fn pkcs1(der: &[u8]) -> Result<Self, Trouble> {
        let mut fields = asn1::sequence(der)?;
        fields.tlv_bytes()?; // version
        let modulus: UintRef = fields.decode()?;
        let exponent: UintRef = fields.decode()?;
        let bits = modulus.as_bytes().first().map_or(0, |first| {
            8 * modulus.as_bytes().len() - usize::try_from(first.leading_zeros()).unwrap_or(0)
        });
        Ok(match RsaKeyPair::from_der(der) {
            _ if bits < 2048 => Self::unfit(format!(
                "holds an RSA key of {bits} bits, which is too short. Make one of 2048 bits or more and a \
                 certificate for it"
            )),
            Ok(key) => Self::Rsa(key.into()),
            // What the cryptography here leaves out.
            Err(_) if bits > 4096 || !bits.is_multiple_of(1024) => Self::unfit(format!(
                "holds an RSA key of {bits} bits, which pgaad can't sign with. Make one of 2048, 3072 or \
                 4096 bits and a certificate for it"
            )),
            Err(_) if exponent.as_bytes().len() < 3 => Self::unfit(
                "holds an RSA key with a small public exponent, which pgaad can't sign with. Make one with \
                 65537 and a certificate for it",
            ),
            Err(_) => return Err(Trouble::Damaged),
        })
    }

    pub(super) fn not_rsa(what: &str) -> Self {
        Self::unfit(format!("holds {what}. Entra takes only RSA: make an RSA key and a certificate for it"))
    }

    fn unfit(why: impl Into<String>) -> Self {
        Self::Unfit(why.into())
    }
}
