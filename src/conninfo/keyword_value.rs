//! The form `keyword = value keyword = 'value'`, the same in all versions of libpq.

use super::{Options, ParseError, is_space, trim_start};

pub(super) fn parse(input: &[u8]) -> Result<Options, ParseError> {
    let mut options = Options::default();
    let mut rest = trim_start(input);
    while !rest.is_empty() {
        let at = input.len() - rest.len() + 1;
        let end = rest.iter().position(|&byte| byte == b'=' || is_space(byte)).unwrap_or(rest.len());
        let (keyword, after) = rest.split_at(end);
        let Some(after) = trim_start(after).strip_prefix(b"=") else {
            return Err(ParseError::MissingEquals { word: keyword.to_vec(), at });
        };
        let (value, after) = value(trim_start(after))?;
        if !options.store_from_string(keyword, value) {
            return Err(ParseError::UnknownKeyword(keyword.to_vec()));
        }
        rest = trim_start(after);
    }
    Ok(options)
}

/// The value that the input begins with, and what follows it.
fn value(input: &[u8]) -> Result<(Vec<u8>, &[u8]), ParseError> {
    let (quoted, body) = match input.strip_prefix(b"'") {
        Some(body) => (true, body),
        None => (false, input),
    };
    let mut value = Vec::new();
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        at += 1;
        match byte {
            // A backslash stands for whatever follows it; at the very end it is dropped.
            b'\\' => {
                value.extend(body.get(at));
                at += 1;
            }
            b'\'' if quoted => return Ok((value, &body[at..])),
            _ if !quoted && is_space(byte) => return Ok((value, &body[at..])),
            _ => value.push(byte),
        }
    }
    if quoted { Err(ParseError::UnterminatedQuote) } else { Ok((value, &[])) }
}
