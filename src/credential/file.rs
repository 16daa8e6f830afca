//! Files that settings and platforms name.

use std::path::Path;

use zeroize::Zeroizing;

use crate::error::Error;
use crate::os;
use crate::secret::Secret;
use crate::settings::config;

/// Longer than any secret or token: a file that is more than this is not the file that was meant.
const LONGEST_SECRET: u64 = 64 * 1024;

/// What a file holds, up to `most` bytes; `name` is the setting that names it.
pub(super) fn read(name: &str, path: &Path, most: u64) -> Result<Zeroizing<Vec<u8>>, Error> {
    os::read_plain(path, most).map(Zeroizing::new).map_err(|error| {
        config(format!(
            "{name} names {}, which cannot be read: {error}. Check the path, and whether this program's user may read \
             it.",
            path.display()
        ))
    })
}

/// A secret in a file: its text without blanks around it, since editors and `echo` end files with a line break.
pub(super) fn read_secret(name: &str, path: &Path) -> Result<Secret, Error> {
    let bytes = read(name, path, LONGEST_SECRET)?;
    let unusable = |why: &str| config(format!("{name} names {}, which {why}.", path.display()));
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable("is not UTF-8"))?;
    match text.trim() {
        "" => Err(unusable("is empty")),
        secret => Ok(Secret::new(secret)),
    }
}
