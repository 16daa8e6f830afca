//! What a certificate says (RFC 5280): who issued it for which key, and for how long.

use der::DateTime;
use der::asn1::{BitStringRef, GeneralizedTime, UtcTime};

use super::Trouble;
use super::asn1::{self, AnyRef, Reader, Tag, Values};
use super::key::RSA;

pub(super) struct X509 {
    pub(super) der: Vec<u8>,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    /// The RSAPublicKey (RFC 8017), if it is for an RSA key.
    public: Option<Vec<u8>>,
    begins: DateTime,
    ends: DateTime,
}

impl X509 {
    /// Reads what the bytes begin with: OpenSSL's trusted certificates have more behind it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Trouble> {
        let der = Values::new(bytes)?.tlv_bytes()?;
        let mut signed = asn1::sequence(der)?;
        let mut fields = asn1::inside(&mut signed, Tag::Sequence)?;
        if asn1::next_is(&fields, asn1::context(0)) {
            fields.tlv_bytes()?; // version
        }
        fields.tlv_bytes()?; // serial number
        fields.tlv_bytes()?; // signature algorithm
        let issuer = fields.tlv_bytes()?.to_vec();
        let mut validity = asn1::inside(&mut fields, Tag::Sequence)?;
        let (begins, ends) = (time(&mut validity)?, time(&mut validity)?);
        let subject = fields.tlv_bytes()?.to_vec();
        let mut public = asn1::inside(&mut fields, Tag::Sequence)?;
        let algorithm = asn1::inside(&mut public, Tag::Sequence)?.decode()?;
        let key: BitStringRef = public.decode()?;
        let public = key.as_bytes().filter(|_| RSA == algorithm).map(<[u8]>::to_vec);
        Ok(Self { der: der.to_vec(), issuer, subject, public, begins, ends })
    }

    /// Whether it is for this key.
    pub(super) fn fits(&self, public: &[u8]) -> bool {
        self.public.as_deref() == Some(public)
    }

    /// Refuses what is not good now; completes "FILE, which ...".
    pub(super) fn check(&self, now: i64) -> Result<(), String> {
        let Self { begins, ends, .. } = self;
        if now > seconds(*ends) {
            Err(format!("holds a certificate that expired at {ends}. Renew it"))
        } else if now < seconds(*begins) {
            Err(format!("holds a certificate that is not valid before {begins}. Check this machine's clock"))
        } else {
            Ok(())
        }
    }

    /// More is better.
    pub(super) fn rank(&self, now: i64) -> (bool, i64) {
        (self.check(now).is_ok(), seconds(self.ends))
    }
}

/// The certificate, its issuer, that one's issuer and so on, as far as they are there.
pub(super) fn chain<'a>(leaf: &'a X509, all: &'a [X509]) -> Vec<&'a X509> {
    let mut chain = vec![leaf];
    let mut last = leaf;
    while let Some(issuer) = all.iter().find(|candidate| {
        candidate.subject == last.issuer && chain.iter().all(|link| link.subject != candidate.subject)
    }) {
        chain.push(issuer);
        last = issuer;
    }
    chain
}

fn time(values: &mut Values) -> Result<DateTime, Trouble> {
    let time: AnyRef = values.decode()?;
    Ok(match time.header().tag() {
        Tag::UtcTime => time.decode_as::<UtcTime>()?.to_date_time(),
        _ => time.decode_as::<GeneralizedTime>()?.to_date_time(),
    })
}

fn seconds(time: DateTime) -> i64 {
    i64::try_from(time.unix_duration().as_secs()).unwrap_or(i64::MAX)
}
