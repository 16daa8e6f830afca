//! Where tokens are kept beside this process's memory, and what seals them there.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{Sources, Value, config};
use crate::error::Error;
use crate::os;

/// A cache that processes or machines share.
#[derive(Debug, PartialEq)]
pub(crate) struct SharedCache {
    pub(crate) place: Place,
    key: Option<Key>,
    /// Names the identity, where settings don't fix it.
    pub(crate) id: Option<String>,
    /// The roots that count for `rediss://`.
    pub(crate) ca_file: Option<PathBuf>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Place {
    /// A directory; None: the user's own.
    Directory(Option<PathBuf>),
    /// A Redis server, by its URL, which may hold a password.
    Redis(Value),
}

#[derive(Debug, PartialEq)]
enum Key {
    Given(Value),
    /// A file with the same, read when it is needed.
    File(Value),
}

/// Longer than any key.
const LONGEST_KEY_FILE: u64 = 64 * 1024;

const KEY: &str = "takes base64 of 32 bytes or more (openssl rand -base64 32 makes one).";

pub(super) fn read(sources: &Sources<'_>) -> Result<Option<SharedCache>, Error> {
    let key = match (sources.get("cache_key")?, sources.get("cache_key_file")?) {
        (Some(key), Some(file)) if key.family == file.family => {
            return Err(config(format!("{} and {} are both set: set only one.", key.name, file.name)));
        }
        (Some(key), Some(file)) if file.family < key.family => Some(Key::File(file)),
        (Some(key), _) => Some(Key::Given(key)),
        (None, file) => file.map(Key::File),
    };
    if let Some(Key::Given(key)) = &key {
        decode(key.as_str()).ok_or_else(|| key.bad(KEY))?;
    }
    let id = sources.get("cache_id")?.map(|value| value.as_str().to_string());
    let ca_file = sources.path("cache_ca_file")?;
    let Some(value) = sources.get("cache")? else { return Ok(None) };
    let place = match value.as_str() {
        "memory" => return Ok(None),
        "file" => Place::Directory(None),
        text => match text.strip_prefix("file:") {
            Some(path) if path.starts_with('/') => Place::Directory(Some(path.into())),
            Some(_) => return Err(value.bad("takes an absolute path after file:.")),
            None if ["redis://", "rediss://", "unix://"].iter().any(|scheme| text.starts_with(scheme)) => {
                Place::Redis(value)
            }
            None => {
                return Err(value
                    .bad("takes one of memory, file, file:/path, redis://..., rediss://..., unix:///path."));
            }
        },
    };
    Ok(Some(SharedCache { place, key, id, ca_file }))
}

impl SharedCache {
    pub(crate) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// The bytes that the settings seal entries with, if they say any.
    pub(crate) fn key(&self) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        match &self.key {
            None => Ok(None),
            Some(Key::Given(value)) => decode(value.as_str()).ok_or_else(|| value.bad(KEY)).map(Some),
            Some(Key::File(value)) => {
                let path = PathBuf::from(value.as_str());
                let unusable =
                    |why: &str| config(format!("{} names {}, which {why}.", value.name, path.display()));
                let bytes = os::read_plain(&path, LONGEST_KEY_FILE)
                    .map(Zeroizing::new)
                    .map_err(|error| unusable(&format!("cannot be read: {error}")))?;
                let text = str::from_utf8(&bytes).map_err(|_| unusable("is not text"))?;
                decode(text).ok_or_else(|| config(format!("{} {KEY}", value.name))).map(Some)
            }
        }
    }
}

fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = Zeroizing::new(STANDARD.decode(text.trim()).ok()?);
    (bytes.len() >= 32).then_some(bytes)
}
