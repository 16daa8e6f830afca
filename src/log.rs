//! Log lines on standard error: `pgaad: level=info event=... key=value`. Off unless `log` is set; never a secret.

use crate::os;

/// How much is logged; each level holds those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
}

impl Level {
    pub(crate) const ALL: [(&str, Self); 5] = [
        ("off", Self::Off),
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }

    /// Writes one line, if this level is one that `wanted` asks for.
    pub(crate) fn log(self, wanted: Self, event: &str, fields: &[(&str, &str)]) {
        if self <= wanted {
            os::write_to_stderr(&line(self, event, fields));
        }
    }
}

fn line(level: Level, event: &str, fields: &[(&str, &str)]) -> String {
    let mut line = format!("pgaad: level={} event={event}", level.name());
    for (key, value) in fields {
        line.push_str(&format!(" {key}={}", quoted(value)));
    }
    line.push('\n');
    line
}

/// A value with blanks, quotes or control characters is quoted, so that a line stays one line.
fn quoted(value: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '\\' | '=');
    if !value.is_empty() && value.chars().all(plain) { value.into() } else { format!("{value:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_keys_and_values() {
        let line =
            line(Level::Warn, "token_failed", &[("status", "401"), ("error", "a \"b\"\nc"), ("none", "")]);
        assert_eq!(
            line,
            "pgaad: level=warn event=token_failed status=401 error=\"a \\\"b\\\"\\nc\" none=\"\"\n"
        );
    }
}
