//! Signs programs built on libpq in to Azure Database for PostgreSQL with Microsoft Entra ID.
//!
//! C programs use `include/pgaad.h`. Rust programs use [`Client`]: its token is the password of a connection.
//! This list is in dependency order: a module uses those above it.

mod bug; //         panics end here
mod bundle; //      the distribution's certificate authorities
mod cache; //       one fetch however many ask
mod client; //      settings, identity and tokens together
mod connection; //  resolve, judge, connect
mod conninfo; //    libpq's connection strings and files, read and written without libpq
mod credential; //  where tokens come from
mod environment; // variables, read through one place
mod error; //       what can go wrong, and the sentence for people
#[cfg(feature = "capi")]
pub mod ffi;
mod http; //        one request and its answer
mod libpq; //       the only room that calls libpq
mod log; //         lines on standard error
mod os; //          the operating system: fork, threads, clocks, freed memory
mod policy; //      who may get a token, and what must hold
mod secret; //      what can't be printed and wipes itself
mod settings; //    every setting, checked
mod token; //       a token and its life //     the C interface

pub use client::{AccessToken, Client};
pub use error::{Error, ErrorKind};
