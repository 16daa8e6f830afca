//! The form `postgresql://user:password@host:port,host:port/dbname?keyword=value`.

use super::{Encoding, Options, ParseError, keyword, split_before};

/// What follows the prefix that makes a string a URI.
pub(super) fn without_prefix(input: &[u8]) -> Option<&[u8]> {
    input.strip_prefix(b"postgresql://").or_else(|| input.strip_prefix(b"postgres://"))
}

pub(super) fn parse(input: &[u8], version: i32) -> Result<Options, ParseError> {
    let mut options = Options::default();
    let grammar = Grammar { trims_spaces: version >= 180000 };
    let uri = || input.to_vec();
    let mut rest = without_prefix(input).unwrap_or(input);

    let (user_info, after) = split_before(rest, b"@/");
    if let Some(after) = after.strip_prefix(b"@") {
        let (user, password) = split_before(user_info, b":");
        grammar.store(&mut options, "user", user)?;
        grammar.store(&mut options, "password", password.strip_prefix(b":").unwrap_or_default())?;
        rest = after;
    }

    // Both lists get a comma for each further host, so that they stay aligned where ports are left out.
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    loop {
        if let Some(bracketed) = rest.strip_prefix(b"[") {
            let (address, after) = split_before(bracketed, b"]");
            rest = after.strip_prefix(b"]").ok_or_else(|| ParseError::UnclosedBracket { uri: uri() })?;
            if address.is_empty() {
                return Err(ParseError::EmptyBrackets { uri: uri() });
            }
            if let Some(&byte) = rest.first().filter(|byte| !b":/?,".contains(byte)) {
                let at = input.len() - rest.len() + 1;
                return Err(ParseError::AfterBracket { byte, at, uri: uri() });
            }
            hosts.extend_from_slice(address);
        } else {
            let (host, after) = split_before(rest, b":/?,");
            hosts.extend_from_slice(host);
            rest = after;
        }
        if let Some(after) = rest.strip_prefix(b":") {
            let (port, after) = split_before(after, b"/?,");
            ports.extend_from_slice(port);
            rest = after;
        }
        match rest.strip_prefix(b",") {
            Some(after) => rest = after,
            None => break,
        }
        hosts.push(b',');
        ports.push(b',');
    }
    grammar.store(&mut options, "host", &hosts)?;
    grammar.store(&mut options, "port", &ports)?;

    if let Some(path) = rest.strip_prefix(b"/") {
        let (dbname, after) = split_before(path, b"?");
        grammar.store(&mut options, "dbname", dbname)?;
        rest = after;
    }
    if let Some(query) = rest.strip_prefix(b"?") {
        grammar.query(&mut options, query)?;
    }
    Ok(options)
}

/// What differs between libpq's versions.
struct Grammar {
    /// From 18 on, spaces around a part are dropped and those inside it refused; before, they are data.
    trims_spaces: bool,
}

impl Grammar {
    /// Stores a part before the query. An empty one counts as left out, so that its default applies.
    fn store(&self, options: &mut Options, part: &'static str, encoded: &[u8]) -> Result<(), ParseError> {
        if !encoded.is_empty() {
            options.set(part, self.decode(encoded, Some(part))?);
        }
        Ok(())
    }

    fn query(&self, options: &mut Options, mut rest: &[u8]) -> Result<(), ParseError> {
        while !rest.is_empty() {
            let (pair, after) = split_before(rest, b"&");
            rest = after.strip_prefix(b"&").unwrap_or_default();

            let (name, value) = split_before(pair, b"=");
            let value =
                value.strip_prefix(b"=").ok_or_else(|| ParseError::ParameterWithoutEquals(name.to_vec()))?;
            if value.contains(&b'=') {
                return Err(ParseError::ParameterWithSecondEquals(name.to_vec()));
            }
            let name = self.decode(name, None)?;
            let known = std::str::from_utf8(&name).ok().and_then(keyword).map(|known| known.name);
            let value = self.decode(value, known)?;

            // What JDBC's URIs say for it.
            if name == b"ssl" && value == b"true" {
                options.set("sslmode", "require");
            } else if !options.store_from_string(&name, value) {
                return Err(ParseError::UnknownParameter(name));
            }
        }
        Ok(())
    }

    fn decode(&self, encoded: &[u8], part: Option<&'static str>) -> Result<Vec<u8>, ParseError> {
        let error = |wrong| ParseError::Encoding { wrong, token: encoded.to_vec(), part };
        let start =
            if self.trims_spaces { encoded.iter().take_while(|&&byte| byte == b' ').count() } else { 0 };
        let mut rest = &encoded[start..];
        let mut decoded = Vec::with_capacity(rest.len());
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'%' => {
                    let digits = rest.split_at_checked(2).and_then(|(pair, after)| {
                        rest = after;
                        Some(hex_digit(pair[0])? << 4 | hex_digit(pair[1])?)
                    });
                    match digits {
                        None => return Err(error(Encoding::Invalid)),
                        Some(0) => return Err(error(Encoding::Nul)),
                        Some(byte) => decoded.push(byte),
                    }
                }
                b' ' if self.trims_spaces => {
                    if rest.iter().any(|&byte| byte != b' ') {
                        return Err(error(Encoding::Spaces));
                    }
                    break;
                }
                _ => decoded.push(byte),
            }
        }
        Ok(decoded)
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}
