//! ASN.1 in DER, a value at a time.

pub(super) use der::asn1::{AnyRef, ObjectIdentifier, UintRef};
pub(super) use der::{Reader, SliceReader as Values, Tag, TagNumber};

use super::{DAMAGED, NEITHER, Trouble};

/// Where a file is damaged helps nobody.
impl From<der::Error> for Trouble {
    fn from(_: der::Error) -> Self {
        Self::Damaged
    }
}

pub(super) const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// `[number]` around other values.
pub(super) const fn context(number: u32) -> Tag {
    Tag::ContextSpecific { constructed: true, number: TagNumber(number) }
}

/// The bytes of the next value, which has the tag.
pub(super) fn value<'a>(values: &mut Values<'a>, tag: Tag) -> Result<&'a [u8], Trouble> {
    let any: AnyRef = values.decode()?;
    any.header().tag().assert_eq(tag)?;
    Ok(any.value())
}

/// What is inside of the next value, which has the tag.
pub(super) fn inside<'a>(values: &mut Values<'a>, tag: Tag) -> Result<Values<'a>, Trouble> {
    Ok(Values::new(value(values, tag)?)?)
}

/// What is inside of the sequence that the bytes begin with.
pub(super) fn sequence(bytes: &[u8]) -> Result<Values<'_>, Trouble> {
    inside(&mut Values::new(bytes)?, Tag::Sequence)
}

/// Whether the next value has the tag.
pub(super) fn next_is(values: &Values, tag: Tag) -> bool {
    Tag::peek(values).is_ok_and(|next| next == tag)
}

/// What a file of DER is that is not PKCS#12: told by its first two parts.
pub(super) fn kind(bytes: &[u8]) -> &'static str {
    let parts = sequence(bytes).and_then(|mut values| {
        let first: AnyRef = values.decode()?;
        Ok((first.header().tag(), Tag::peek(&values).ok()))
    });
    match parts {
        Ok((Tag::Integer, _) | (Tag::Sequence, Some(Tag::OctetString))) => {
            "is a private key in DER form. `openssl pkey -inform DER -in OLD.der -out NEW.pem` converts it. \
             Then add the certificate to NEW.pem"
        }
        Ok((Tag::Sequence, Some(Tag::Sequence))) => {
            "is a certificate in DER form. `openssl x509 -inform DER -in OLD.der -out NEW.pem` converts it. \
             Then add the private key to NEW.pem"
        }
        Ok(_) => NEITHER,
        Err(_) => DAMAGED,
    }
}
