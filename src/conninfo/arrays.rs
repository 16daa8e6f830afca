//! The keyword and value arrays of `PQconnectdbParams`.

use super::{Error, Options, ParseError, is_conninfo, parse_as_libpq};

/// Reads the arrays up to their NULL keyword, as pairs; a NULL value is `None`.
///
/// Empty values count as absent. With `expand_dbname`, the first `dbname` that has a value, if it is a
/// connection string, is replaced by its options: they beat what stands before and yield to what follows.
pub(crate) fn from_arrays(
    pairs: &[(&[u8], Option<&[u8]>)],
    expand_dbname: bool,
    version: i32,
) -> Result<Options, Error> {
    // libpq parses it before it looks at anything else. A first dbname that is empty stops the search, so a
    // connection string after it is a database's name.
    let first = pairs.iter().find_map(|&(keyword, value)| value.filter(|_| keyword == b"dbname"));
    let mut expanded = match first {
        Some(dbname) if expand_dbname && is_conninfo(dbname) => Some(parse_as_libpq(dbname, version)?),
        _ => None,
    };

    let mut options = Options::default();
    for &(keyword, value) in pairs {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        if value.contains(&0) {
            return Err(ParseError::Nul.into());
        }
        match expanded.take_if(|_| keyword == b"dbname") {
            // Its empty values are values: they empty an earlier entry.
            Some(expanded) => {
                for (keyword, value) in expanded.pairs {
                    options.set(keyword, value);
                }
            }
            None if options.store(keyword, value.to_vec()) => {}
            None => return Err(ParseError::UnknownKeyword(keyword.to_vec()).into()),
        }
    }
    Ok(options)
}
