//! The distribution's bundle of certificate authorities.

use std::path::{Path, PathBuf};

/// Debian and Alpine, Fedora and Red Hat (two), openSUSE, and what most others link to.
const PLACES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The first that is there.
pub(crate) fn find() -> Option<PathBuf> {
    PLACES.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// Whether a path is a file of roots that somebody chose: not a distribution's bundle, by whatever name.
pub(crate) fn is_own(path: &Path) -> bool {
    let Ok(real) = path.canonicalize() else { return false };
    real.is_file()
        && !PLACES.iter().any(|place| Path::new(place).canonicalize().is_ok_and(|bundle| bundle == real))
}
