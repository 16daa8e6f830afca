//! Signs programs built on libpq in to Azure Database for PostgreSQL with Microsoft Entra ID.
//!
//! C programs use `include/pgaad.h`. Rust programs use [`Client`]: its token is the password of a connection.

// Without the C interface, what only it uses lies idle.
#![cfg_attr(not(feature = "capi"), allow(dead_code))]

// In dependency order: a module uses those above it. tests/suite/abi.rs holds it to that.
mod error; //       what can go wrong, and the sentence for people
mod os; //          the operating system: fork, threads, clocks, freed memory
mod bug; //         panics end here
mod random; //      ids, and pauses that differ
mod secret; //      what can't be printed and wipes itself
mod log; //         lines on standard error
mod environment; // variables, read through one place
mod bundle; //      the distribution's certificate authorities
mod url; //         URLs that mean what they seem to
mod conninfo; //    libpq's connection strings and files, read and written without libpq
mod settings; //    every setting, checked
mod token; //       a token and its life
mod issued; //      which tokens this process was given
mod http; //        one request and its answer
mod shared; //      caches that processes and machines share
mod flight; //      something under way, for all who wait
mod credential; //  where tokens come from
mod sharing; //     one fetch for all processes and machines
mod counters; //    what happened how often
mod cache; //       one fetch however many ask
mod prefetch; //    tokens for event loops, which never wait
mod client; //      settings, identity and tokens together
mod policy; //      who may get a token, and what must hold
mod libpq; //       the only room that calls libpq
mod connection; //  resolve, judge, connect
#[cfg(feature = "capi")]
mod ffi; //         the C interface
#[cfg(feature = "command")]
#[doc(hidden)]
pub mod command; // the program pgaad

pub use client::{AccessToken, Client};
pub use error::{Error, ErrorKind};
