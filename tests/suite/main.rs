//! Every promise made so far, checked from outside: C programs, a strict token service, a real PostgreSQL.

mod abi;
mod at_secure;
mod cache;
mod certificate;
mod chain;
mod connect;
mod connstring;
mod differential;
mod errors;
mod finding_libpq;
mod fork;
mod harness;
mod install;
mod log;
mod managed_identity;
mod memory;
mod pipelines;
mod policy;
mod proxy;
mod retry;
mod security;
mod tls;
mod token;
mod tools;
mod valgrind;
mod workload;
