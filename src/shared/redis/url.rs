//! `redis://user:password@host:port/database`, `rediss://` with TLS, `unix://user:password@/path?db=database`.

use std::ffi::OsString;
use std::fmt;
use std::net::Ipv6Addr;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use crate::secret::Secret;

const PORT: u16 = 6379;

/// The longest path that a Unix socket's address has room for.
const LONGEST_PATH: usize = 107;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Url {
    pub(super) place: Place,
    pub(super) login: Option<Login>,
    pub(super) database: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Login {
    /// None: the default one.
    pub(super) user: Option<String>,
    pub(super) password: Secret,
}

const NOT_ENCODED: &str = "has a % without two hexadecimal digits behind it: in a user, a password and a path, % itself is written %25";
const NO_DATABASE: &str = "has a database that is no number";

impl Url {
    /// A failure says what is wrong with the setting, and holds none of the URL: its password may be anywhere in it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("has a blank or a control character in it: in a URL that is written %20 and so on");
        }
        let (scheme, rest) = text.split_once("://").ok_or("is no URL")?;
        if rest.contains('#') {
            return Err("has a # in it: in a password that is written %23");
        }
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        match scheme {
            "redis" => Self::tcp(authority, path, query, false),
            "rediss" => Self::tcp(authority, path, query, true),
            "unix" => Self::unix(authority, path, query),
            _ => Err("does not begin with redis://, rediss:// or unix://"),
        }
    }

    fn tcp(authority: &str, path: &str, query: Option<&str>, tls: bool) -> Result<Self, &'static str> {
        if path.contains('@') || query.is_some_and(|query| query.contains('@')) {
            return Err("has an @ behind a / or ?: in a password these are written %2F and %3F");
        }
        if query.is_some() {
            return Err("has parameters behind a ?, and there are none for redis:// and rediss://");
        }
        let (login, host) = login(authority)?;
        let (host, port) = host_and_port(host)?;
        let database = match path.strip_prefix('/').filter(|number| !number.is_empty()) {
            Some(number) => digits(number).ok_or(NO_DATABASE)?,
            None => 0,
        };
        Ok(Self { place: Place::Tcp { host, port, tls }, login, database })
    }

    fn unix(authority: &str, path: &str, query: Option<&str>) -> Result<Self, &'static str> {
        let (login, "") = login(authority)? else {
            return Err("names no absolute path, as unix:///path does; a / in a password is written %2F");
        };
        let path = decode(path)?;
        if path.iter().any(u8::is_ascii_control) {
            return Err("names a path with a control character in it");
        }
        if path.len() < 2 {
            return Err("names no absolute path, as unix:///path does");
        }
        if path.len() > LONGEST_PATH {
            return Err("names a path that is too long for a socket");
        }
        let database = match query {
            Some(query) => {
                let number = query.strip_prefix("db=").ok_or("has another parameter than db behind a ?")?;
                digits(number).ok_or(NO_DATABASE)?
            }
            None => 0,
        };
        Ok(Self { place: Place::Unix(OsString::from_vec(path).into()), login, database })
    }
}

/// The user and password, and what follows them.
fn login(authority: &str) -> Result<(Option<Login>, &str), &'static str> {
    let Some((login, host)) = authority.rsplit_once('@') else { return Ok((None, authority)) };
    if login.contains('@') {
        return Err("has more than one @: in a password that is written %40");
    }
    let Some((user, password)) = login.split_once(':') else {
        return Err("has a user without a password; a password alone is written :password@");
    };
    let login = match (user.is_empty(), password.is_empty()) {
        (true, true) => None,
        (false, true) => return Err("has a user with an empty password"),
        (is_default, false) => Some(Login {
            user: if is_default { None } else { Some(decode_text(user)?) },
            password: Secret::new(decode_text(password)?),
        }),
    };
    Ok((login, host))
}

fn host_and_port(text: &str) -> Result<(String, u16), &'static str> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("has a [ without a ]")?;
            host.parse::<Ipv6Addr>().map_err(|_| "has no IPv6 address between [ and ]")?;
            (host, rest)
        }
        None => {
            let (host, rest) = text.find(':').map_or((text, ""), |colon| text.split_at(colon));
            if host.is_empty() {
                return Err("names no host");
            }
            let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if !host.chars().all(is_of_name) {
                return Err("has a host that is neither a name nor an address");
            }
            (host, rest)
        }
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => digits(port)
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0)
            .ok_or("has a port that is no number from 1 to 65535; a / in a password is written %2F")?,
        None if rest.is_empty() => PORT,
        None => return Err("has something between ] and the port"),
    };
    Ok((host.to_string(), port))
}

/// Digits and nothing else.
fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn decode(text: &str) -> Result<Vec<u8>, &'static str> {
    let is_hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    for (at, _) in text.match_indices('%') {
        let digits = &text.as_bytes()[at + 1..];
        if !is_hex(digits.first()) || !is_hex(digits.get(1)) {
            return Err(NOT_ENCODED);
        }
    }
    Ok(percent_decode_str(text).collect())
}

fn decode_text(text: &str) -> Result<String, &'static str> {
    String::from_utf8(decode(text)?).map_err(|_| "has a user or password that is not UTF-8")
}

/// For messages: without the login.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { host, port, .. } if host.contains(':') => write!(f, "Redis at [{host}]:{port}"),
            Place::Tcp { host, port, .. } => write!(f, "Redis at {host}:{port}"),
            Place::Unix(path) => write!(f, "Redis at {}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let tcp = |host: &str, port, tls| Place::Tcp { host: host.into(), port, tls };
        let socket = |path: &str| Place::Unix(path.into());
        for (text, place, login, database) in [
            ("redis://cache", tcp("cache", 6379, false), None, 0),
            ("redis://cache/", tcp("cache", 6379, false), None, 0),
            ("redis://cache:1/12", tcp("cache", 1, false), None, 12),
            ("rediss://a-b.example.com:6380", tcp("a-b.example.com", 6380, true), None, 0),
            ("redis://127.0.0.1:65535", tcp("127.0.0.1", 65535, false), None, 0),
            ("rediss://[::1]", tcp("::1", 6379, true), None, 0),
            ("redis://:p@[fe80::1]:7/1", tcp("fe80::1", 7, false), Some((None, "p")), 1),
            ("redis://:@cache", tcp("cache", 6379, false), None, 0),
            (
                "redis://ann:p%40%2F%3a%25:+=@cache",
                tcp("cache", 6379, false),
                Some((Some("ann"), "p@/:%:+=")),
                0,
            ),
            ("rediss://%C3%A9:%C3%A8@c:2/3", tcp("c", 2, true), Some((Some("é"), "è")), 3),
            ("unix:///run/redis.sock", socket("/run/redis.sock"), None, 0),
            ("unix:///run/a%20b@c?db=4", socket("/run/a b@c"), None, 4),
            ("unix://ann:p@/s", socket("/s"), Some((Some("ann"), "p")), 0),
        ] {
            let login = login.map(|(user, password): (Option<&str>, _)| Login {
                user: user.map(Into::into),
                password: Secret::new(password),
            });
            assert_eq!(Url::parse(text), Ok(Url { place, login, database }), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_it() {
        for (text, why) in [
            ("", "no URL"),
            ("redis:cache", "no URL"),
            ("http://cache", "does not begin with"),
            ("redis://", "no host"),
            ("redis://:6379", "no host"),
            ("redis://:hunter2@", "no host"),
            ("redis://c a", "blank"),
            ("redis://cache\n", "blank"),
            ("redis://cache:", "no number from 1"),
            ("redis://cache:0", "no number from 1"),
            ("redis://cache:65536", "no number from 1"),
            ("redis://cache:+1", "no number from 1"),
            ("redis://a,b", "neither a name"),
            ("redis://caf\u{e9}", "neither a name"),
            ("redis://c%61che", "neither a name"),
            ("redis://[::1", "without a ]"),
            ("redis://[cache]", "no IPv6 address"),
            ("redis://[::1%25eth0]", "no IPv6 address"),
            ("redis://[::1]6379", "between ]"),
            ("redis://cache/one", "database"),
            ("redis://cache/-1", "database"),
            ("redis://cache/1/2", "database"),
            ("redis://cache/4294967296", "database"),
            ("redis://cache?db=1", "parameters"),
            ("redis://cache/#insecure", "%23"),
            ("redis://hunter2@cache", "without a password"),
            ("redis://ann:@cache", "empty password"),
            ("redis://:hunter2/x@cache", "%2F"),
            ("redis://:hunter2?x@cache", "%3F"),
            ("redis://:hunter2#x@cache", "%23"),
            ("redis://:hunter2@x@cache", "%40"),
            ("redis://:hunter2%@cache", "%25"),
            ("redis://:hunter2%4@cache", "%25"),
            ("redis://:hunter2%4g@cache", "%25"),
            ("redis://:hunter2%ff@cache", "not UTF-8"),
            ("redis://:hunter2/x", "no host"),
            ("redis://ann:hunter2/x", "no number from 1"),
            ("unix://", "no absolute path"),
            ("unix:///", "no absolute path"),
            ("unix://run/redis.sock", "no absolute path"),
            ("unix://:hunter2/x@/run/redis.sock", "%2F"),
            ("unix:///a%00b", "control character"),
            ("unix:///a%0ab", "control character"),
            ("unix:///a?db=", "database"),
            ("unix:///a?db=x", "database"),
            ("unix:///a?password=hunter2", "another parameter"),
            (&format!("unix:///{}", "a".repeat(107)), "too long"),
        ] {
            let said = Url::parse(text).expect_err(text);
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn no_url_is_too_strange() {
        let parts =
            ["redis:", "unix:", "//", "/", "@", ":", "[", "]", "%", "%4", "?", "db=", "#", "::1", "é", "9"];
        let mut texts = vec![String::new()];
        for _ in 0..4 {
            texts = texts.iter().flat_map(|text| parts.map(|part| format!("{text}{part}"))).collect();
            for text in &texts {
                let _ = (Url::parse(text), Url::parse(&format!("redis://{text}")), decode(text));
            }
        }
    }

    #[test]
    fn messages_show_no_password() {
        for (text, shown) in [
            ("rediss://ann:hunter2@cache:1", "Redis at cache:1"),
            ("redis://:hunter2@[::1]", "Redis at [::1]:6379"),
            ("unix://:hunter2@/run/redis", "Redis at /run/redis"),
        ] {
            let url = Url::parse(text).expect(text);
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("hunter2"), "{url:?}");
        }
    }
}
