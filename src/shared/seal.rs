//! Seals entries: only who has the key can read or make one, and each opens under its own name alone.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::Trouble;

/// Stands before what is sealed, and is authenticated with it.
const VERSION: u8 = 1;

/// What the key is derived for, so that the same secret gives other keys elsewhere.
const SALT: &[u8] = b"pgaad shared cache";
const SEALING: &[u8] = b"AES-256-GCM for entries, version 1";
const NAMING: &[u8] = b"HMAC-SHA256 for names, version 1";

/// A key for entries. As a random nonce of 96 bits asks for, it seals far fewer than 2^32: a few an hour for each name.
pub(crate) struct Key {
    sealing: LessSafeKey,
    naming: hmac::Key,
}

impl Key {
    /// Derived from a secret that cannot be guessed (HKDF, RFC 5869).
    pub(crate) fn of(secret: &[u8]) -> Self {
        let derived = Salt::new(HKDF_SHA256, SALT).extract(secret);
        Self {
            sealing: LessSafeKey::new(expand::<_, UnboundKey>(&derived, SEALING, &AES_256_GCM)),
            naming: expand(&derived, NAMING, hmac::HMAC_SHA256),
        }
    }

    /// A name that says nothing to those who don't have the key, and is another one with another key.
    pub(crate) fn name_of(&self, what: &[&str]) -> String {
        let mut context = hmac::Context::with_key(&self.naming);
        for part in what {
            context.update(&part.len().to_be_bytes());
            context.update(part.as_bytes());
        }
        context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Version, nonce, and the sealed bytes with their tag.
    pub(crate) fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, Trouble> {
        let nonce: [u8; NONCE_LEN] = random()?;
        // Of its full size from the start: a vector that grows leaves copies behind.
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        let head = sealed.len();
        sealed.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.sealing.seal_in_place_separate_tag(nonce, about(name), &mut sealed[head..]);
        let tag = tag.map_err(|_| Trouble::of_moment("the entry is too long to be sealed"))?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// None: it is damaged, or was sealed by another key, under another name or in another way.
    pub(crate) fn open(&self, name: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (&VERSION, rest) = sealed.split_first()? else { return None };
        let (nonce, sealed) = rest.split_first_chunk()?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.sealing.open_in_place(nonce, about(name), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

fn expand<T: ring::hkdf::KeyType, K: for<'a> From<ring::hkdf::Okm<'a, T>>>(
    derived: &Prk,
    purpose: &[u8],
    kind: T,
) -> K {
    let purpose = [purpose];
    let Ok(key) = derived.expand(&purpose, kind) else { unreachable!("32 bytes can be had") };
    K::from(key)
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What is authenticated beside the entry.
fn about(name: &str) -> Aad<Vec<u8>> {
    Aad::from([&[VERSION], name.as_bytes()].concat())
}

/// Random bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Trouble> {
    let mut bytes = [0; N];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(Trouble::of_moment("the operating system gives no random numbers")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "0123456789abcdef";

    fn key() -> Key {
        Key::of(b"a secret of thirty-two bytes ...")
    }

    #[test]
    fn what_is_sealed_opens() {
        for plain in [&b""[..], b"x", &[7; 60_000]] {
            let sealed = key().seal(NAME, plain).unwrap();
            assert_eq!(key().open(NAME, &sealed).as_deref().map(Vec::as_slice), Some(plain));
        }
    }

    #[test]
    fn it_opens_with_its_key_and_under_its_name_alone() {
        let sealed = key().seal(NAME, b"token").unwrap();
        assert_eq!(Key::of(b"another secret").open(NAME, &sealed), None);
        assert_eq!(Key::of(b"").open(NAME, &sealed), None);
        for name in ["", "0123456789abcdee", "0123456789abcdef0", "0123456789abcde"] {
            assert_eq!(key().open(name, &sealed), None, "{name}");
        }
    }

    #[test]
    fn whatever_is_changed_it_does_not_open() {
        let sealed = key().seal(NAME, b"token").unwrap();
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(key().open(NAME, &changed), None, "bit {bit} of byte {at}");
            }
        }
        for length in 0..sealed.len() {
            assert_eq!(key().open(NAME, &sealed[..length]), None, "{length} bytes");
        }
        assert_eq!(key().open(NAME, &[&sealed[..], b"\0"].concat()), None);
        assert_eq!(key().open(NAME, &[VERSION; 4096]), None);
    }

    #[test]
    fn the_same_is_never_sealed_the_same_way() {
        let sealed: Vec<_> = (0..1000).map(|_| key().seal(NAME, b"token").unwrap()).collect();
        let mut nonces: Vec<_> = sealed.iter().map(|sealed| &sealed[1..=NONCE_LEN]).collect();
        nonces.sort();
        nonces.dedup();
        assert_eq!(nonces.len(), sealed.len());
        assert!(sealed.iter().all(|sealed| !sealed.windows(5).any(|bytes| bytes == b"token")));
    }

    #[test]
    fn entries_of_the_first_version_open_for_ever() {
        // HKDF-SHA256 and AES-256-GCM as another implementation computes them: tests pin the format.
        let sealed = "01000102030405060708090a0b98c20765364d12bc937f0312c04635ff4f6cce23e8";
        let byte = |at| u8::from_str_radix(&sealed[at..at + 2], 16).unwrap();
        let bytes: Vec<_> = (0..sealed.len()).step_by(2).map(byte).collect();
        assert_eq!(key().open(NAME, &bytes).as_deref().map(Vec::as_slice), Some(&b"token"[..]));
    }

    #[test]
    fn names_are_the_keys_own() {
        let name = key().name_of(&["tenant", "client"]);
        assert_eq!(name, key().name_of(&["tenant", "client"]));
        assert_eq!((name.len(), name.bytes().all(|byte| byte.is_ascii_hexdigit())), (64, true));
        assert_ne!(name, key().name_of(&["tenantc", "lient"]));
        assert_ne!(name, Key::of(b"another secret").name_of(&["tenant", "client"]));
        // As another implementation computes it: tests pin the format.
        assert_eq!(key().name_of(&["x"]), "0cb1a5e432140a922a3c3cb396438c06cea075210c5ede6eebc0299f4b9a91ba");
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", key()), "Key(..)");
    }
}
