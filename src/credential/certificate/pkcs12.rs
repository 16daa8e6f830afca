//! PKCS#12 (RFC 7292): bags in safes, protected by a MAC.

use ring::{digest, hmac};

use super::asn1::{self, ObjectIdentifier, Reader, Tag, TagNumber, Values};
use super::key::Key;
use super::unlock::{Password, Purpose, foreign};
use super::x509::X509;
use super::{Contents, Trouble};

/// What to do where a file uses what is not known here.
pub(super) const CONVERT: &str = "`openssl pkcs12 -in OLD.pfx -out NEW.pem -nodes`, with -legacy if openssl \
     asks for it, writes a PEM file that it does";
pub(super) const BER: &str = "is in BER form, which pgaad does not know. If it is PKCS#12, `openssl pkcs12 \
     -in OLD.pfx -out NEW.pem -nodes` writes a PEM file that it does";

const DATA: ObjectIdentifier = asn1::oid("1.2.840.113549.1.7.1");
const ENCRYPTED: ObjectIdentifier = asn1::oid("1.2.840.113549.1.7.6");

/// Whether the bytes begin as a PFX does: with its version, 3, and a sequence.
pub(super) fn is_pkcs12(bytes: &[u8]) -> bool {
    asn1::sequence(bytes)
        .and_then(|mut fields| Ok(fields.decode::<u8>()? == 3 && asn1::next_is(&fields, Tag::Sequence)))
        .unwrap_or(false)
}

pub(super) fn read(bytes: &[u8], password: Option<&str>) -> Result<Contents, Trouble> {
    match password {
        Some(_) => open(bytes, &Password::new(password)),
        None => match open(bytes, &Password::new(Some(""))) {
            Err(Trouble::Locked) => open(bytes, &Password::new(None)),
            done => done,
        },
    }
}

fn open(bytes: &[u8], password: &Password) -> Result<Contents, Trouble> {
    let mut fields = asn1::sequence(bytes)?;
    fields.tlv_bytes()?; // version
    let (kind, mut content) = content(&mut fields)?;
    if kind != DATA {
        return Err(foreign(kind));
    }
    let safes = asn1::value(&mut content, Tag::OctetString)?;
    if !fields.is_finished() {
        check(asn1::inside(&mut fields, Tag::Sequence)?, safes, password)?;
    }
    let mut contents = Contents::default();
    let mut safes = asn1::sequence(safes)?;
    while !safes.is_finished() {
        let (kind, mut content) = self::content(&mut safes)?;
        match kind {
            DATA => bags(asn1::value(&mut content, Tag::OctetString)?, password, &mut contents)?,
            ENCRYPTED => {
                let mut fields = asn1::inside(&mut content, Tag::Sequence)?;
                fields.tlv_bytes()?; // version
                let mut fields = asn1::inside(&mut fields, Tag::Sequence)?;
                fields.tlv_bytes()?; // what is inside: always data
                let algorithm = asn1::inside(&mut fields, Tag::Sequence)?;
                let data = asn1::value(
                    &mut fields,
                    Tag::ContextSpecific { constructed: false, number: TagNumber(0) },
                )?;
                let safe = password.decrypt(algorithm, data)?;
                bags(&safe, password, &mut contents).map_err(locked)?;
            }
            // A safe for the holder of another key.
            _ => return Err(foreign(kind)),
        }
    }
    Ok(contents)
}

/// Reads a ContentInfo: what it is, and what is in it.
fn content<'a>(values: &mut Values<'a>) -> Result<(ObjectIdentifier, Values<'a>), Trouble> {
    let mut fields = asn1::inside(values, Tag::Sequence)?;
    Ok((fields.decode()?, asn1::inside(&mut fields, asn1::context(0))?))
}

/// Checks the MAC: with it, nothing else needs to be doubted.
fn check(mut mac: Values, safes: &[u8], password: &Password) -> Result<(), Trouble> {
    const SHA1: ObjectIdentifier = asn1::oid("1.3.14.3.2.26");
    const SHA256: ObjectIdentifier = asn1::oid("2.16.840.1.101.3.4.2.1");
    const SHA384: ObjectIdentifier = asn1::oid("2.16.840.1.101.3.4.2.2");
    const SHA512: ObjectIdentifier = asn1::oid("2.16.840.1.101.3.4.2.3");
    let mut digest = asn1::inside(&mut mac, Tag::Sequence)?;
    let name = asn1::inside(&mut digest, Tag::Sequence)?.decode()?;
    let (hash, hmac) = match name {
        SHA1 => (&digest::SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        SHA256 => (&digest::SHA256, hmac::HMAC_SHA256),
        SHA384 => (&digest::SHA384, hmac::HMAC_SHA384),
        SHA512 => (&digest::SHA512, hmac::HMAC_SHA512),
        _ => return Err(foreign(name)),
    };
    let expected = asn1::value(&mut digest, Tag::OctetString)?;
    let salt = asn1::value(&mut mac, Tag::OctetString)?;
    let rounds = if mac.is_finished() { 1 } else { mac.decode()? };
    let key = password.pkcs12_key(hash, Purpose::Mac, salt, rounds, hash.output_len())?;
    hmac::verify(&hmac::Key::new(hmac, &key), safes, expected).map_err(|_| Trouble::Locked)
}

/// Reads SafeContents.
fn bags(der: &[u8], password: &Password, contents: &mut Contents) -> Result<(), Trouble> {
    const KEY: ObjectIdentifier = asn1::oid("1.2.840.113549.1.12.10.1.1");
    const SHROUDED_KEY: ObjectIdentifier = asn1::oid("1.2.840.113549.1.12.10.1.2");
    const CERTIFICATE: ObjectIdentifier = asn1::oid("1.2.840.113549.1.12.10.1.3");
    const BAGS: ObjectIdentifier = asn1::oid("1.2.840.113549.1.12.10.1.6");
    const X509_CERTIFICATE: ObjectIdentifier = asn1::oid("1.2.840.113549.1.9.22.1");
    // Bags may hold bags: a list instead of recursion, so that depth costs no stack.
    let mut open = vec![asn1::sequence(der)?];
    while let Some(mut bags) = open.pop() {
        while !bags.is_finished() {
            let mut bag = asn1::inside(&mut bags, Tag::Sequence)?;
            let kind: ObjectIdentifier = bag.decode()?;
            let mut value = asn1::inside(&mut bag, asn1::context(0))?;
            match kind {
                KEY => contents.keys.push(Key::pkcs8(value.tlv_bytes()?)?),
                SHROUDED_KEY => contents.keys.push(Key::encrypted(value.tlv_bytes()?, password)?),
                CERTIFICATE => {
                    let mut value = asn1::inside(&mut value, Tag::Sequence)?;
                    if value.decode::<ObjectIdentifier>()? == X509_CERTIFICATE {
                        let mut certificate = asn1::inside(&mut value, asn1::context(0))?;
                        let certificate = asn1::value(&mut certificate, Tag::OctetString)?;
                        contents.certificates.push(X509::read(certificate)?);
                    }
                }
                BAGS => open.push(asn1::inside(&mut value, Tag::Sequence)?),
                _ => {}
            }
        }
    }
    Ok(())
}

/// What makes no sense was decrypted with the wrong password.
fn locked(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Damaged => Trouble::Locked,
        trouble => trouble,
    }
}
