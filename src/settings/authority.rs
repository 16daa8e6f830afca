//! Where the token service is, and through which proxy it is reached.

use ureq::http::Uri;

use super::cloud::Cloud;
use super::{Value, fits};
use crate::error::Error;
use crate::secret::Secret;
use crate::url::has_a_real_port;

/// The base URL of the token service: https, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    base: String,
    host: String,
}

impl Authority {
    pub(crate) fn of_cloud(cloud: Cloud) -> Self {
        let host = cloud.authority_host();
        Self { base: format!("https://{host}"), host: host.into() }
    }

    /// A host or an https URL. A path in it is kept, for a proxy that mounts the service somewhere.
    pub(crate) fn parse(value: &Value) -> Result<Self, Error> {
        let text = value.as_str().trim();
        let lower = text.to_ascii_lowercase();
        let rest = if lower.starts_with("https://") {
            &text["https://".len()..]
        } else if text.contains("://") {
            return Err(
                value.bad("must be an https URL: the secret and the token travel on this connection.")
            );
        } else {
            text
        };
        let rest = rest.trim_end_matches('/');
        let base = format!("https://{rest}");
        let plain = !rest.ends_with(':')
            && !rest.contains(['?', '#', '@', '\\'])
            && !rest.contains(|c: char| c.is_whitespace());
        let uri = base.parse::<Uri>().ok().filter(has_a_real_port);
        let host = uri.and_then(|uri| uri.host().map(str::to_string));
        match host.filter(|host| plain && !host.is_empty()) {
            Some(host) => Ok(Self { base, host }),
            None => {
                Err(value.bad("must be a host or an https URL, such as https://login.microsoftonline.com."))
            }
        }
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The token endpoint of a tenant (OAuth 2.0 client credentials grant, v2.0).
    pub(crate) fn token_url(&self, tenant: &str) -> String {
        format!("{}/{tenant}/oauth2/v2.0/token", self.base)
    }
}

impl std::fmt::Display for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.base)
    }
}

/// A forward proxy, and the hosts that are reached without it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Proxy {
    url: Secret,
    /// For messages: the setting or variable that named it.
    pub(crate) name: String,
    exceptions: Vec<String>,
}

impl Proxy {
    pub(crate) fn parse(value: Value, no_proxy: Option<Value>) -> Result<Self, Error> {
        let text = value.as_str().trim();
        let url = if text.contains("://") { text.to_string() } else { format!("http://{text}") };
        let known_scheme =
            ["http://", "https://"].iter().any(|scheme| url.to_ascii_lowercase().starts_with(scheme));
        let url = url.trim_end_matches('/');
        // The value may hold a password, so the message does not show it.
        let real = url.parse().is_ok_and(|uri| has_a_real_port(&uri));
        if !known_scheme || !real || ureq::Proxy::new(url).is_err() {
            return Err(value.bad("must be the URL of an HTTP proxy, such as http://proxy.example.com:3128."));
        }
        let list = no_proxy.as_ref().map_or("", Value::as_str);
        let exceptions =
            list.split([',', ' ']).filter(|entry| !entry.is_empty()).map(str::to_string).collect();
        Ok(Self { url: Secret::new(url), name: value.name, exceptions })
    }

    /// The proxy's URL, which may hold a password; None where `host` is reached without it.
    pub(crate) fn url_for(&self, host: &str) -> Option<&Secret> {
        let excepted = |entry: &String| {
            let domain = entry.trim_start_matches("*.").trim_start_matches('.');
            entry == "*" || fits(domain, host) || fits(&format!("*.{domain}"), host)
        };
        let direct = is_near(host) || self.exceptions.iter().any(excepted);
        if direct { None } else { Some(&self.url) }
    }
}

/// Loopback and link-local addresses are never reached through a proxy.
pub(crate) fn is_near(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = host.strip_suffix('.').unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || match host.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(v4)) => v4.is_loopback() || v4.is_link_local(),
            Ok(std::net::IpAddr::V6(v6)) => {
                let v4 = v6.to_ipv4_mapped();
                v6.is_loopback()
                    || v6.is_unicast_link_local()
                    || v4.is_some_and(|v4| v4.is_loopback() || v4.is_link_local())
            }
            Err(_) => false,
        }
}

#[cfg(test)]
mod tests {
    use super::super::Family;
    use super::*;

    fn value(text: &str) -> Value {
        Value { text: Secret::new(text), family: Family::Pgaad, name: "PGAAD_X".into() }
    }

    #[test]
    fn an_authority_is_a_host_or_an_https_url() {
        for (text, url) in [
            ("login.microsoftonline.us", "https://login.microsoftonline.us/t/oauth2/v2.0/token"),
            ("https://login.microsoftonline.com/", "https://login.microsoftonline.com/t/oauth2/v2.0/token"),
            ("HTTPS://localhost:8443", "https://localhost:8443/t/oauth2/v2.0/token"),
            ("https://proxy.example/entra//", "https://proxy.example/entra/t/oauth2/v2.0/token"),
        ] {
            assert_eq!(Authority::parse(&value(text)).unwrap().token_url("t"), url);
        }
        for text in [
            "http://login.microsoftonline.com",
            "http://localhost:1",
            "https://localhost:port",
            "https://localhost:99999",
            "localhost:0",
            "ftp://x",
            "https://",
            "https://a@b",
            "a?b",
            "a#b",
            "a b",
        ] {
            assert!(Authority::parse(&value(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn the_proxy_is_left_out_for_near_and_excepted_hosts() {
        let proxy =
            Proxy::parse(value("proxy:3128"), Some(value("example.com, .corp,*.net,10.0.0.1"))).unwrap();
        for host in [
            "localhost",
            "127.0.0.1",
            "[::1]",
            "169.254.169.254",
            "[fe80::1]",
            "[::ffff:127.0.0.1]",
            "example.com",
            "a.example.com",
            "x.corp",
            "y.net",
            "10.0.0.1",
        ] {
            assert!(proxy.url_for(host).is_none(), "{host}");
        }
        for host in ["login.microsoftonline.com", "notexample.com", "10.0.0.2"] {
            assert_eq!(proxy.url_for(host).unwrap().reveal(), "http://proxy:3128", "{host}");
        }
        assert!(Proxy::parse(value("socks5://p:1"), None).is_err());
        let hidden = Proxy::parse(value("gopher://u:hunter2@p"), None).unwrap_err();
        assert!(!hidden.message().contains("hunter2"));
    }
}
