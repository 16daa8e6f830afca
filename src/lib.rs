//! Signs programs built on libpq in to Azure Database for PostgreSQL with Microsoft Entra ID.
//!
//! C programs use `include/pgaad.h`. Rust programs use [`Client`]: it gets an access token from Entra, or from wherever its
//! identity has its tokens, keeps it fresh, and hands it out as the password of each new connection.
//!
//! ```no_run
//! # fn connect(_: &str) -> Result<(), Box<dyn std::error::Error>> { Ok(()) }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The settings of the environment (PGAAD_CLIENT_ID and the like; on Azure often none), or a string of them.
//! let client = pgaad::Client::new("auth=managed_identity")?;
//! // For each connection: a token is checked when connecting, and only then.
//! let token = client.token()?;
//! connect(token.secret())?;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/rust` does this with tokio-postgres. The README has the settings.
//!
//! # Where a token may go
//!
//! Whoever has a token is its identity. A Rust driver knows nothing of pgaad, so two rules are the program's to keep:
//! connect to servers of your own only, and verify their certificates and names (`sslmode=verify-full`, or what the driver
//! has for it).
//!
//! # Waiting
//!
//! One client serves all threads, and fetches once however many ask. Its calls block: mostly not at all, but for
//! `timeout_ms` (30 s) at most when there is no token yet. Asynchronous programs call them where blocking is allowed, such
//! as in tokio's `spawn_blocking`. A fetch goes on when a caller gives up, for those who ask next.
//!
//! # Errors
//!
//! An [`Error`] has an [`ErrorKind`] to branch on, and a message of one line, which says what to do and never holds a
//! secret. [`ErrorKind::Denied`] and [`ErrorKind::Config`] do not go away by themselves; [`ErrorKind::Throttled`],
//! [`ErrorKind::Network`] and [`ErrorKind::Timeout`] may, and retries within `timeout_ms` have been made already.
//!
//! ```no_run
//! # fn look(client: &pgaad::Client) {
//! match client.token() {
//!     Ok(token) => println!("good until {}", token.expires_on()),
//!     Err(error) if error.kind() == pgaad::ErrorKind::Denied => panic!("{error}"),
//!     Err(error) => eprintln!("later, perhaps: {error}"),
//! }
//! # }
//! ```
//!
//! # Features
//!
//! `capi` (on by default): the C interface, and a global allocator that wipes what it frees. Rust programs leave it out,
//! with `default-features = false`, and keep their own allocator.

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
