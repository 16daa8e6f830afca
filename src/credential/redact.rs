//! Text of a service's, without the secrets.

use crate::secret::Secret;

/// A service that repeats the secret must not make us repeat it, in whatever spelling of a form.
pub(super) fn redact(text: &str, secrets: &[&Secret]) -> String {
    secrets.iter().fold(text.to_string(), |text, secret| without(&text, secret))
}

fn without(text: &str, secret: &Secret) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        match spelled(rest.as_bytes(), secret.reveal().as_bytes()).filter(|length| *length > 0) {
            Some(length) => {
                clean.push_str("***");
                rest = &rest[length..];
            }
            None => {
                clean.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    clean
}

/// The length of the secret at the start of the text: each byte as itself, as `%XX`, or, a blank, as `+`. A percent
/// sign may stand for itself or begin an escape, so there can be several places to go on from.
fn spelled(text: &[u8], secret: &[u8]) -> Option<usize> {
    let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let mut places = vec![0];
    for &byte in secret {
        let mut next = Vec::new();
        for at in places {
            if text.get(at).is_some_and(|&first| first == byte || (first == b'+' && byte == b' ')) {
                next.push(at + 1);
            }
            if text.get(at) == Some(&b'%') && text.get(at + 1..at + 3).and_then(hex) == Some(byte) {
                next.push(at + 3);
            }
        }
        next.sort_unstable();
        next.dedup();
        places = next;
    }
    places.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_blotted_out_in_every_spelling() {
        let secret = Secret::new("p~q+/= %25");
        for text in ["p~q+/= %25", "p%7Eq%2B%2F%3D%20%2525", "p~q%2b%2f%3d+%25", "p~q+/=+%2525"] {
            assert_eq!(redact(&format!("a {text} b"), &[&secret]), "a *** b", "{text}");
        }
        for text in ["", "p~q", "p~q+/= %2", "\u{e9}%zz%"] {
            assert_eq!(redact(text, &[&secret]), text);
        }
        let long = "%".repeat(60_000);
        assert_eq!(redact(&long, &[&Secret::new(long.clone())]), "***");
    }
}
