//! URLs as settings and platforms give them: only those that mean what they seem to mean.

use ureq::http::Uri;

/// Whether it is http's or https's, has a host, and no user, fragment or blank, nor a port that is none: what is no
/// number would quietly be the default port.
pub(crate) fn is_sound(url: &str) -> bool {
    let lower = url.get(..8).unwrap_or_default().to_ascii_lowercase();
    let known = lower.starts_with("http://") || lower.starts_with("https://");
    let strange = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '@' | '#' | '\\');
    known && !url.contains(strange) && url.parse().is_ok_and(|uri| has_host(&uri) && has_a_real_port(&uri))
}

fn has_host(uri: &Uri) -> bool {
    uri.host().is_some_and(|host| !host.is_empty())
}

/// Whether the port, if one is written, is one.
pub(crate) fn has_a_real_port(uri: &Uri) -> bool {
    let written = uri.authority().is_some_and(|authority| {
        authority
            .as_str()
            .rsplit('@')
            .next()
            .is_some_and(|place| place.trim_start_matches(authority.host()).starts_with(':'))
    });
    !written || uri.port_u16().is_some_and(|port| port > 0)
}

/// The host of a URL.
pub(crate) fn host_of(url: &str) -> String {
    url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_string)).unwrap_or_default()
}

/// Whether it is http's: no TLS.
pub(crate) fn is_plain(url: &str) -> bool {
    url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_url_means_what_it_seems_to() {
        for url in ["http://127.0.0.1", "https://a:1/b?c=d", "HTTP://[::1]:80/x", "https://a/b//c"] {
            assert!(is_sound(url), "{url}");
        }
        for url in [
            "",
            "a",
            "ftp://a",
            "http://",
            "http://:80",
            "http://a:99999/x",
            "http://a:0",
            "http://a:port",
            "http://a:",
            "http://u@a",
            "http://a/#f",
            "http://a/b c",
            "http://a\\b",
            "http://a/\r\nb",
            "https:/a",
        ] {
            assert!(!is_sound(url), "{url}");
        }
    }
}
