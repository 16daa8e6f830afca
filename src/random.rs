//! Random numbers: ids, and pauses that differ.

use ring::rand::{SecureRandom, SystemRandom};

fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without randomness there is no TLS; the id and the pause may then be what they are.
    let _ = SystemRandom::new().fill(&mut bytes);
    bytes
}

/// From 0 to 1.
pub(crate) fn fraction() -> f64 {
    f64::from(u32::from_ne_bytes(bytes())) / f64::from(u32::MAX)
}

/// A random GUID (RFC 9562, version 4).
pub(crate) fn guid() -> String {
    let bits = u128::from_be_bytes(bytes());
    let bits = bits & !(0xf << 76) | 0x4 << 76;
    let bits = bits & !(0x3 << 62) | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
