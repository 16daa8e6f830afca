//! URLs as settings and platforms give them: only those that mean what they seem to mean.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::Uri;
use zeroize::Zeroizing;

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

/// The URL with something more to ask.
pub(crate) fn with_query(base: &str, fields: &[(&str, &str)]) -> String {
    let mark = if base.contains('?') { '&' } else { '?' };
    format!("{base}{mark}{}", *form(fields))
}

/// Names and values of a form or a query (WHATWG URL: "application/x-www-form-urlencoded serializing").
pub(crate) fn form(fields: &[(&str, &str)]) -> Zeroizing<String> {
    let mut body = Zeroizing::new(String::new());
    for (name, value) in fields {
        if !body.is_empty() {
            body.push('&');
        }
        body.push_str(name);
        body.push('=');
        body.push_str(&Zeroizing::new(utf8_percent_encode(value, RESERVED).to_string()));
    }
    body
}

/// RFC 3986's unreserved characters are the others.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

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
