//! Lists of host patterns: `db.example.com, *.example.net, 10.0.0.5, /run/pgbouncer, *`.

/// Whole host names, without case; a leading `*.` stands for one or more labels, `*` alone for every host.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Patterns(Vec<String>);

impl Patterns {
    /// Refuses, and gives back, a pattern with a `*` in another place, which would match nothing.
    pub(crate) fn parse(list: &str) -> Result<Self, &str> {
        let patterns = list.split(',').map(str::trim).filter(|pattern| !pattern.is_empty());
        let well_formed = |pattern: &str| {
            let rest =
                pattern.strip_prefix("*.").or(pattern.strip_prefix('*').filter(|rest| rest.is_empty()));
            !rest.unwrap_or(pattern).contains('*')
        };
        let checked =
            patterns.map(|pattern| if well_formed(pattern) { Ok(normal(pattern)) } else { Err(pattern) });
        checked.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn matches(&self, host: &str) -> bool {
        self.has_any() || self.names(host)
    }

    /// As [`Self::matches`], but `*` alone names nothing.
    pub(crate) fn names(&self, host: &str) -> bool {
        let host = normal(host);
        self.0.iter().any(|pattern| match pattern.strip_prefix('*') {
            Some("") => false,
            Some(suffix) if suffix.starts_with('.') => host.len() > suffix.len() && host.ends_with(suffix),
            _ => *pattern == host,
        })
    }

    /// Whether `*` alone is among them.
    pub(crate) fn has_any(&self) -> bool {
        self.0.iter().any(|pattern| pattern == "*")
    }
}

/// Whether a host name fits one pattern.
pub(crate) fn fits(pattern: &str, host: &str) -> bool {
    Patterns(vec![normal(pattern)]).matches(host)
}

/// Host names have no case and may end in a dot; directories keep theirs.
fn normal(host: &str) -> String {
    if host.starts_with(['/', '@']) {
        let trimmed = host.trim_end_matches('/');
        return if trimmed.is_empty() { "/".into() } else { trimmed.into() };
    }
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        let patterns = Patterns::parse("*.Example.com, db.internal.,10.0.0.5 , /run/pgbouncer/").unwrap();
        for host in ["a.example.com", "a.b.EXAMPLE.com.", "db.internal", "10.0.0.5", "/run/pgbouncer"] {
            assert!(patterns.matches(host), "{host}");
        }
        for host in [
            "example.com",
            ".example.com",
            "evilexample.com",
            "a.example.com.evil.net",
            "xdb.internal",
            "/run",
            "",
        ] {
            assert!(!patterns.matches(host), "{host}");
        }
        assert!(Patterns::parse("*").unwrap().matches("anything"));
        assert!(!Patterns::parse("*").unwrap().names("anything"));
        assert!(!Patterns::parse("").unwrap().matches("anything"));
        assert_eq!(Patterns::parse("a, *b.com").unwrap_err(), "*b.com");
        assert_eq!(Patterns::parse("db.*.com").unwrap_err(), "db.*.com");
    }
}
