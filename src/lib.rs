//! Signs programs built on libpq in to Azure Database for PostgreSQL with Microsoft Entra ID.

mod error;

pub use error::{Error, ErrorKind};
