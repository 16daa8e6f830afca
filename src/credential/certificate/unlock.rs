//! Decryption by a password: PBES2 (RFC 8018, RFC 7914) and the older ways of PKCS#12 (RFC 7292).

use std::cell::Cell;
use std::iter;
use std::num::NonZeroU32;

use aes::cipher::{Block, BlockCipherDecrypt, KeyInit};
use aes::{Aes128, Aes256};
use des::TdesEde3;
use rc2::Rc2;
use ring::{digest, pbkdf2};
use zeroize::Zeroizing;

use super::Trouble;
use super::asn1::{self, ObjectIdentifier, Reader, Tag, Values};

/// Seconds of work, for one file. What programs write takes thousands, at most a few million.
const MOST_ROUNDS: u64 = 10_000_000;
/// Of 128 bytes: 32 MiB, where OpenSSL stops too.
const MOST_SCRYPT_BLOCKS: u64 = 1 << 18;

/// A password that is tried.
pub(super) struct Password<'a> {
    /// None and an empty one differ in PKCS#12.
    text: Option<&'a str>,
    rounds: Cell<u64>,
}

impl<'a> Password<'a> {
    pub(super) fn new(text: Option<&'a str>) -> Self {
        Self { text, rounds: Cell::new(0) }
    }

    /// Checks a count of rounds against what is left.
    pub(super) fn rounds(&self, count: u64) -> Result<NonZeroU32, Trouble> {
        self.rounds.set(self.rounds.get().saturating_add(count));
        if self.rounds.get() > MOST_ROUNDS {
            return Err(Trouble::Foreign(format!(
                "takes more than {} million rounds of hashing to open, which pgaad does not do",
                MOST_ROUNDS / 1_000_000
            )));
        }
        u32::try_from(count).ok().and_then(NonZeroU32::new).ok_or(Trouble::Damaged)
    }

    fn bytes(&self) -> &[u8] {
        self.text.unwrap_or_default().as_bytes()
    }

    /// UTF-16 with a zero at the end, as PKCS#12 has it.
    fn utf16(&self) -> Zeroizing<Vec<u8>> {
        let Some(text) = self.text else { return Zeroizing::default() };
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * text.len() + 2));
        bytes.extend(text.encode_utf16().chain([0]).flat_map(u16::to_be_bytes));
        bytes
    }

    /// Decrypts by an AlgorithmIdentifier.
    pub(super) fn decrypt(&self, mut algorithm: Values, data: &[u8]) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        const PBES2: ObjectIdentifier = asn1::oid("1.2.840.113549.1.5.13");
        const SHA1_TRIPLE_DES: ObjectIdentifier = asn1::oid("1.2.840.113549.1.12.1.3");
        const SHA1_RC2_128: ObjectIdentifier = asn1::oid("1.2.840.113549.1.12.1.5");
        const SHA1_RC2_40: ObjectIdentifier = asn1::oid("1.2.840.113549.1.12.1.6");
        let method = algorithm.decode()?;
        match method {
            PBES2 => self.pbes2(asn1::inside(&mut algorithm, Tag::Sequence)?, data),
            SHA1_TRIPLE_DES => self.pkcs12::<TdesEde3>(24, algorithm, data),
            SHA1_RC2_128 => self.pkcs12::<Rc2>(16, algorithm, data),
            SHA1_RC2_40 => self.pkcs12::<Rc2>(5, algorithm, data),
            _ => Err(foreign(method)),
        }
    }

    fn pbes2(&self, mut parameters: Values, data: &[u8]) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        const AES_128: ObjectIdentifier = asn1::oid("2.16.840.1.101.3.4.1.2");
        const AES_256: ObjectIdentifier = asn1::oid("2.16.840.1.101.3.4.1.42");
        const TRIPLE_DES: ObjectIdentifier = asn1::oid("1.2.840.113549.3.7");
        let derivation = asn1::inside(&mut parameters, Tag::Sequence)?;
        let mut cipher = asn1::inside(&mut parameters, Tag::Sequence)?;
        let name = cipher.decode()?;
        let iv = asn1::value(&mut cipher, Tag::OctetString)?;
        let key = |length| self.derive(derivation, length);
        match name {
            AES_128 => cbc::<Aes128>(&key(16)?, iv, data),
            AES_256 => cbc::<Aes256>(&key(32)?, iv, data),
            TRIPLE_DES => cbc::<TdesEde3>(&key(24)?, iv, data),
            _ => Err(foreign(name)),
        }
    }

    /// The key that PBKDF2 or scrypt makes.
    fn derive(&self, mut derivation: Values, length: usize) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        const PBKDF2: ObjectIdentifier = asn1::oid("1.2.840.113549.1.5.12");
        const SCRYPT: ObjectIdentifier = asn1::oid("1.3.6.1.4.1.11591.4.11");
        let mut key = Zeroizing::new(vec![0; length]);
        let name = derivation.decode()?;
        let mut parameters = asn1::inside(&mut derivation, Tag::Sequence)?;
        let salt = asn1::value(&mut parameters, Tag::OctetString)?;
        match name {
            PBKDF2 => {
                let rounds = self.rounds(parameters.decode()?)?;
                if asn1::next_is(&parameters, Tag::Integer) {
                    parameters.tlv_bytes()?; // the key's length, which the cipher knows
                }
                pbkdf2::derive(hash(&mut parameters)?, rounds, salt, self.bytes(), &mut key);
            }
            SCRYPT => {
                let [n, r, p]: [u64; 3] = [parameters.decode()?, parameters.decode()?, parameters.decode()?];
                self.rounds(n.saturating_mul(r).saturating_mul(p))?;
                if n.saturating_mul(r) > MOST_SCRYPT_BLOCKS || p.saturating_mul(r) > MOST_SCRYPT_BLOCKS {
                    return Err(Trouble::Foreign("takes more than 32 MiB of memory to open".into()));
                }
                if n < 2 || !n.is_power_of_two() {
                    return Err(Trouble::Damaged);
                }
                let small = |value| u32::try_from(value).map_err(|_| Trouble::Damaged);
                let parameters = scrypt::Params::new(n.trailing_zeros() as u8, small(r)?, small(p)?);
                let parameters = parameters.map_err(|_| Trouble::Damaged)?;
                scrypt::scrypt(self.bytes(), salt, &parameters, &mut key).map_err(|_| Trouble::Damaged)?;
            }
            _ => return Err(foreign(name)),
        }
        Ok(key)
    }

    /// The ways of PKCS#12 that have the hash and the cipher in their name.
    fn pkcs12<C: BlockCipherDecrypt + KeyInit>(
        &self,
        length: usize,
        mut algorithm: Values,
        data: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let mut parameters = asn1::inside(&mut algorithm, Tag::Sequence)?;
        let salt = asn1::value(&mut parameters, Tag::OctetString)?;
        let rounds = parameters.decode()?;
        let derive = |purpose, length| {
            self.pkcs12_key(&digest::SHA1_FOR_LEGACY_USE_ONLY, purpose, salt, rounds, length)
        };
        cbc::<C>(&derive(Purpose::Key, length)?, &derive(Purpose::Iv, 8)?, data)
    }

    /// RFC 7292 appendix B.2.
    pub(super) fn pkcs12_key(
        &self,
        hash: &'static digest::Algorithm,
        purpose: Purpose,
        salt: &[u8],
        rounds: u64,
        length: usize,
    ) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let block = hash.block_len();
        // As often as fills whole blocks.
        let repeated = |part: &[u8], to: &mut Vec<u8>| {
            to.extend(part.iter().cycle().take(part.len().next_multiple_of(block)));
        };
        let mut input = Zeroizing::new(Vec::new());
        repeated(salt, &mut input);
        repeated(&self.utf16(), &mut input);
        let mut key = Zeroizing::new(Vec::new());
        while key.len() < length {
            let rounds = self.rounds(rounds)?.get();
            let mut context = digest::Context::new(hash);
            context.update(&vec![purpose as u8; block]);
            context.update(&input);
            let mut part = context.finish();
            for _ in 1..rounds {
                part = digest::digest(hash, part.as_ref());
            }
            key.extend_from_slice(part.as_ref());
            // Each block of the input is a number, to which the part, repeated, and 1 are added.
            let addend: Vec<u8> = part.as_ref().iter().copied().cycle().take(block).collect();
            for number in input.chunks_exact_mut(block) {
                let mut carry = 1;
                for (digit, addend) in number.iter_mut().zip(&addend).rev() {
                    carry += u16::from(*digit) + u16::from(*addend);
                    *digit = carry as u8;
                    carry >>= 8;
                }
            }
        }
        key.truncate(length);
        Ok(key)
    }
}

/// What a key of PKCS#12 is for (RFC 7292 appendix B.3).
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Key = 1,
    Iv = 2,
    Mac = 3,
}

/// The pseudo-random function of PBKDF2.
fn hash(parameters: &mut Values) -> Result<pbkdf2::Algorithm, Trouble> {
    const SHA1: ObjectIdentifier = asn1::oid("1.2.840.113549.2.7");
    const SHA256: ObjectIdentifier = asn1::oid("1.2.840.113549.2.9");
    const SHA384: ObjectIdentifier = asn1::oid("1.2.840.113549.2.10");
    const SHA512: ObjectIdentifier = asn1::oid("1.2.840.113549.2.11");
    if parameters.is_finished() {
        return Ok(pbkdf2::PBKDF2_HMAC_SHA1);
    }
    let name = asn1::inside(parameters, Tag::Sequence)?.decode()?;
    Ok(match name {
        SHA1 => pbkdf2::PBKDF2_HMAC_SHA1,
        SHA256 => pbkdf2::PBKDF2_HMAC_SHA256,
        SHA384 => pbkdf2::PBKDF2_HMAC_SHA384,
        SHA512 => pbkdf2::PBKDF2_HMAC_SHA512,
        _ => return Err(foreign(name)),
    })
}

/// Cipher block chaining. Block by block: what does many at a time is a hundred times the code.
fn cbc<C: BlockCipherDecrypt + KeyInit>(
    key: &[u8],
    iv: &[u8],
    data: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let cipher = C::new_from_slice(key).map_err(|_| Trouble::Damaged)?;
    let size = C::block_size();
    if iv.len() != size || !data.len().is_multiple_of(size) {
        return Err(Trouble::Damaged);
    }
    let mut text = Zeroizing::new(data.to_vec());
    for (block, before) in text.chunks_exact_mut(size).zip(iter::once(iv).chain(data.chunks_exact(size))) {
        let Ok(block): Result<&mut Block<C>, _> = block.try_into() else { return Err(Trouble::Damaged) };
        cipher.decrypt_block(block);
        block.iter_mut().zip(before).for_each(|(byte, before)| *byte ^= before);
    }
    // The last byte tells how many are no text, and all of those are like it. With another key there is no
    // such end, or what stands before it makes no sense.
    let padding = usize::from(text.last().copied().unwrap_or(0));
    let end = text.len().checked_sub(padding).ok_or(Trouble::Locked)?;
    if !(1..=size).contains(&padding) || text[end..].iter().any(|&byte| usize::from(byte) != padding) {
        return Err(Trouble::Locked);
    }
    text.truncate(end);
    Ok(text)
}

pub(super) fn foreign(name: ObjectIdentifier) -> Trouble {
    Trouble::Foreign(format!("is protected in a way that pgaad does not know ({name})"))
}
