//! libpq's connection strings, read and written as libpq does: options, their sources, the files behind them.
//!
//! All is bytes: libpq passes on whatever stands between the delimiters, UTF-8 or not.

#![forbid(unsafe_code)]

mod arrays;
pub(crate) mod defaults;
pub(crate) mod effective;
mod keyword_value;
pub(crate) mod passfile;
pub(crate) mod service;
#[cfg(test)]
mod tests;
mod uri;

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::error::{Error, ErrorKind};

pub(crate) use arrays::from_arrays;
#[cfg(feature = "command")]
pub(crate) use defaults::Keyword;
pub(crate) use defaults::{keyword, keywords};
pub(crate) use effective::{Effective, Host, Source, resolve};

/// A reader of environment variables; tests never touch the process's own.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<Vec<u8>>;

/// One set of options in the order in which they were first set, each keyword once.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// No libpq knows half as many keywords, so more can only end in a refusal. The bound keeps reading linear.
const MOST_OPTIONS: usize = 200;

impl Options {
    /// `Some(b"")` is an explicit empty value.
    pub(crate) fn get(&self, keyword: &str) -> Option<&[u8]> {
        self.position(keyword.as_bytes()).map(|at| self.pairs[at].1.as_slice())
    }

    pub(crate) fn contains(&self, keyword: &str) -> bool {
        self.position(keyword.as_bytes()).is_some()
    }

    /// Replaces the value in its place, or appends the option.
    pub(crate) fn set(&mut self, keyword: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        let keyword = keyword.into();
        match self.position(&keyword) {
            Some(at) => self.pairs[at].1 = value.into(),
            None => self.pairs.push((keyword, value.into())),
        }
    }

    /// Takes the option out, and returns its value.
    pub(crate) fn remove(&mut self, keyword: &str) -> Option<Vec<u8>> {
        self.position(keyword.as_bytes()).map(|at| self.pairs.remove(at).1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The options as (keyword, value).
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs.iter().map(|(keyword, value)| (keyword.as_slice(), value.as_slice()))
    }

    /// A key=value string that every libpq parses back to these options.
    pub(crate) fn to_conninfo(&self) -> Vec<u8> {
        // Sized for the usual case of nothing to escape: a token then is copied once.
        let size = self.pairs.iter().map(|(keyword, value)| keyword.len() + value.len() + 4).sum();
        let mut conninfo = Vec::with_capacity(size);
        for (keyword, value) in self.iter() {
            if !conninfo.is_empty() {
                conninfo.push(b' ');
            }
            conninfo.extend_from_slice(keyword);
            conninfo.extend_from_slice(b"='");
            for &byte in value {
                if matches!(byte, b'\\' | b'\'') {
                    conninfo.push(b'\\');
                }
                conninfo.push(byte);
            }
            conninfo.push(b'\'');
        }
        conninfo
    }

    fn position(&self, keyword: &[u8]) -> Option<usize> {
        self.pairs.iter().position(|(known, _)| known == keyword)
    }

    /// Sets an option that was read from outside; false if no libpq takes such a keyword.
    ///
    /// Keywords that we do not know may be a newer libpq's, so libpq judges them. Refused are those that
    /// would mean something else in `to_conninfo`: what is no word (decoded from a URI it can hold blanks and
    /// `=`), and `requiressl`, which only strings may hold and which there is `sslmode`.
    fn store(&mut self, keyword: &[u8], value: Vec<u8>) -> bool {
        match self.position(keyword) {
            Some(at) => self.pairs[at].1 = value,
            None => {
                if !is_word(keyword) || keyword == b"requiressl" || self.pairs.len() == MOST_OPTIONS {
                    return false;
                }
                self.pairs.push((keyword.to_vec(), value));
            }
        }
        true
    }

    /// `store` for strings, where libpq still takes the `requiressl` of long ago. It weakens as well as
    /// strengthens.
    fn store_from_string(&mut self, keyword: &[u8], value: Vec<u8>) -> bool {
        if keyword == b"requiressl" {
            let sslmode = if value.first() == Some(&b'1') { "require" } else { "prefer" };
            return self.store(b"sslmode", sslmode.into());
        }
        self.store(keyword, value)
    }
}

/// How many options; values may be passwords, and a mistyped keyword may be a piece of one.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Options({})", self.pairs.len())
    }
}

/// Reads a connection string of either form as the libpq of this version (150018) does, save for
/// keywords that it may not know: those are passed on, for libpq itself to judge.
pub(crate) fn parse(input: &[u8], version: i32) -> Result<Options, Error> {
    Ok(parse_as_libpq(input, version)?)
}

/// Reads a settings string, which has the grammar of the key=value form.
pub(crate) fn parse_settings(input: &[u8]) -> Result<Options, Error> {
    let cannot = |error: ParseError| {
        Error::new(ErrorKind::Config, format!("The settings string cannot be read: {}.", error.message()))
    };
    keyword_value::parse(input).map_err(cannot)
}

/// Whether libpq would expand this `dbname`: it has a `=` or a URI's prefix.
pub(crate) fn is_conninfo(dbname: &[u8]) -> bool {
    uri::without_prefix(dbname).is_some() || dbname.contains(&b'=')
}

/// The home directory where libpq looks for files: from 15 on HOME goes before `passwd`, the user database.
pub(crate) fn home(env: Env<'_>, passwd: &dyn Fn() -> Option<Vec<u8>>, version: i32) -> Option<PathBuf> {
    let variable = if version >= 150000 { env("HOME").filter(|home| !home.is_empty()) } else { None };
    variable.or_else(passwd).map(path)
}

fn parse_as_libpq(input: &[u8], version: i32) -> Result<Options, ParseError> {
    if input.contains(&0) {
        return Err(ParseError::Nul);
    }
    if uri::without_prefix(input).is_some() {
        uri::parse(input, version)
    } else {
        keyword_value::parse(input)
    }
}

fn is_word(keyword: &[u8]) -> bool {
    !keyword.is_empty() && keyword.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// C's `isspace` in the C locale; Rust's ASCII white space lacks the vertical tab.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == b'\x0b'
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&byte| !is_space(byte)).unwrap_or(bytes.len());
    &bytes[start..]
}

/// Splits before the first of these bytes; without one, nothing is left over.
fn split_before<'a>(bytes: &'a [u8], any_of: &[u8]) -> (&'a [u8], &'a [u8]) {
    let end = bytes.iter().position(|byte| any_of.contains(byte)).unwrap_or(bytes.len());
    bytes.split_at(end)
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// Why a string cannot be read. Holds the pieces that libpq quotes, which may be (of) a password:
/// `libpq_text` is libpq's sentence, for comparing with it; `Error` gets a sentence without them.
#[cfg_attr(not(test), allow(dead_code))] // the pieces: only the comparison with libpq reads them
enum ParseError {
    Nul,
    MissingEquals { word: Vec<u8>, at: usize },
    UnterminatedQuote,
    UnknownKeyword(Vec<u8>),
    UnknownParameter(Vec<u8>),
    UnclosedBracket { uri: Vec<u8> },
    EmptyBrackets { uri: Vec<u8> },
    AfterBracket { byte: u8, at: usize, uri: Vec<u8> },
    ParameterWithoutEquals(Vec<u8>),
    ParameterWithSecondEquals(Vec<u8>),
    Encoding { wrong: Encoding, token: Vec<u8>, part: Option<&'static str> },
}

/// What can be wrong with the percent-encoding of a part of a URI.
enum Encoding {
    Invalid,
    Nul,
    Spaces,
}

impl ParseError {
    /// libpq's own message, in the C locale and without its line break.
    #[cfg(test)]
    fn libpq_text(&self) -> String {
        let text = String::from_utf8_lossy;
        match self {
            Self::Nul => "NUL".to_owned(),
            Self::MissingEquals { word, .. } => {
                format!("missing \"=\" after \"{}\" in connection info string", text(word))
            }
            Self::UnterminatedQuote => "unterminated quoted string in connection info string".to_owned(),
            Self::UnknownKeyword(word) => format!("invalid connection option \"{}\"", text(word)),
            Self::UnknownParameter(word) => format!("invalid URI query parameter: \"{}\"", text(word)),
            Self::UnclosedBracket { uri } => format!(
                "end of string reached when looking for matching \"]\" in IPv6 host address in URI: \"{}\"",
                text(uri)
            ),
            Self::EmptyBrackets { uri } => {
                format!("IPv6 host address may not be empty in URI: \"{}\"", text(uri))
            }
            Self::AfterBracket { byte, at, uri } => format!(
                "unexpected character \"{}\" at position {at} in URI (expected \":\" or \"/\"): \"{}\"",
                text(&[*byte]),
                text(uri)
            ),
            Self::ParameterWithoutEquals(word) => {
                format!("missing key/value separator \"=\" in URI query parameter: \"{}\"", text(word))
            }
            Self::ParameterWithSecondEquals(word) => {
                format!("extra key/value separator \"=\" in URI query parameter: \"{}\"", text(word))
            }
            Self::Encoding { wrong, token, .. } => {
                let token = text(token);
                match wrong {
                    Encoding::Invalid => format!("invalid percent-encoded token: \"{token}\""),
                    Encoding::Nul => format!("forbidden value %00 in percent-encoded value: \"{token}\""),
                    Encoding::Spaces => format!(
                        "unexpected spaces found in \"{token}\", use percent-encoded spaces (%20) instead"
                    ),
                }
            }
        }
    }

    /// The message without a secret. Any piece of the input can be one: an unquoted password with blanks
    /// ends in words of its own, in a URI one with `/`, `&` or `@` ends up in any part, and a whole string
    /// can be a token by mistake. So only words of libpq's table are quoted; places are named by number.
    fn message(&self) -> String {
        let quoted = |word: &[u8]| {
            std::str::from_utf8(word).ok().and_then(keyword).map(|known| format!("\"{}\"", known.name))
        };
        match self {
            Self::Nul => "it holds a NUL byte".to_owned(),
            Self::MissingEquals { word, at } => match quoted(word) {
                Some(word) => format!("missing \"=\" after {word} in connection info string"),
                None => format!(
                    "missing \"=\" after the word at byte {at} in connection info string \
                     (a value with blanks needs single quotes)"
                ),
            },
            Self::UnterminatedQuote => "unterminated quoted string in connection info string".to_owned(),
            Self::UnknownKeyword(_) => {
                "invalid connection option (not shown, as it may be part of a password)".to_owned()
            }
            Self::UnknownParameter(_) => {
                "invalid URI query parameter (not shown, as it may be part of a password)".to_owned()
            }
            Self::UnclosedBracket { .. } => {
                "end of string reached when looking for matching \"]\" in IPv6 host address in URI".to_owned()
            }
            Self::EmptyBrackets { .. } => "IPv6 host address may not be empty in URI".to_owned(),
            Self::AfterBracket { at, .. } => {
                format!("unexpected character at position {at} in URI (expected \":\" or \"/\")")
            }
            Self::ParameterWithoutEquals(word) => format!(
                "missing key/value separator \"=\" in URI query parameter{}",
                quoted(word).map_or(String::new(), |word| format!(": {word}"))
            ),
            Self::ParameterWithSecondEquals(word) => format!(
                "extra key/value separator \"=\" in URI query parameter{} (inside a value write %3D)",
                quoted(word).map_or(String::new(), |word| format!(": {word}"))
            ),
            Self::Encoding { wrong, part, .. } => {
                let part = part.map_or("a query parameter".to_owned(), |part| format!("\"{part}\""));
                match wrong {
                    Encoding::Invalid => {
                        format!(
                            "invalid percent-encoded token in {part} (a percent sign itself is written %25)"
                        )
                    }
                    Encoding::Nul => format!("forbidden value %00 in percent-encoded value of {part}"),
                    Encoding::Spaces => {
                        format!("unexpected spaces found in {part}, use percent-encoded spaces (%20) instead")
                    }
                }
            }
        }
    }
}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        Self::new(ErrorKind::Config, format!("The connection string cannot be read: {}.", error.message()))
    }
}
