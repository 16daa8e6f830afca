//! Stands in for Entra, and starts the real PostgreSQL that trusts its tokens.
