//! A secret can't be printed, and wipes itself.

use std::fmt;
use zeroize::Zeroizing;

/// A token, client secret or password. `reveal` is its one exit.
#[derive(Clone, PartialEq)]
pub(crate) struct Secret {
    text: Zeroizing<String>,
    /// Blanks before and behind the text.
    margin: usize,
}

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: Zeroizing::new(text.into()), margin: 0 }
    }

    /// For a secret that many threads read at once: it shares no cache line with what stands beside it in memory, which
    /// others may write to (an allocator's own marks are enough to slow every reader down).
    pub(crate) fn apart(text: &str) -> Self {
        const LINES: usize = 128;
        Self { text: Zeroizing::new(format!("{:LINES$}{text}{:LINES$}", "", "")), margin: LINES }
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.text[self.margin..self.text.len() - self.margin]
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(..)");
    }

    #[test]
    fn a_secret_apart_is_the_same_text() {
        for text in ["hunter2", "", "\u{e9} "] {
            assert_eq!(Secret::apart(text).reveal(), text);
        }
    }
}
