//! Every promise made so far, checked from outside: C programs, a strict token service, a real PostgreSQL.

mod connect;
mod harness;
mod token;
