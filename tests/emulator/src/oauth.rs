//! What a PostgreSQL 18 asks through its validator, `validator.c`: role and token, each ended by NUL; the answer is `1`
//! or `0`, and the end.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ring::digest;

use crate::checker::Checker;
use crate::libpqs;
use crate::net::Server;
use crate::random;
use crate::sync::{LoginGate, Stop};

/// By which the validator knows whom to ask.
pub(crate) const PORT: &str = "PGAAD_VALIDATOR_PORT";

const SOURCE: &str = include_str!("../validator.c");
const LONGEST: usize = 1 << 20;

pub(crate) fn start(checker: Arc<Checker>, gate: LoginGate) -> io::Result<Server> {
    let stop = Stop::new();
    Server::start("oauth", stop.clone(), move |tcp, _| {
        let _ = serve(tcp, &checker, &gate, &stop); // a backend that is gone needs no answer
    })
}

fn serve(mut tcp: TcpStream, checker: &Checker, gate: &LoginGate, stop: &Stop) -> io::Result<()> {
    let mut asked = Vec::new();
    while asked.iter().filter(|byte| **byte == 0).count() < 2 {
        let mut chunk = [0; 16 << 10];
        match tcp.read(&mut chunk)? {
            0 => return Ok(()),
            n => asked.extend_from_slice(&chunk[..n]),
        }
        if asked.len() > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let parts: Vec<_> = asked.split(|byte| *byte == 0).collect();
    let [role, token, []] = parts[..] else { return Err(io::ErrorKind::InvalidData.into()) };
    gate.pass(stop);
    let ok = std::str::from_utf8(role).is_ok_and(|role| checker.check(role, token));
    tcp.write_all(if ok { b"1" } else { b"0" })
}

/// The validator, compiled for the PostgreSQL 18 that is there unless that was done before; without the suffix.
pub(crate) fn validator() -> io::Result<PathBuf> {
    let folder = libpqs::folder()?.join("18");
    let hash = random::hex(digest::digest(&digest::SHA256, SOURCE.as_bytes()).as_ref());
    let made = folder.join(format!("validator-{}", &hash[..16]));
    if !made.with_extension("so").exists() {
        compile(&folder.join("include/server"), &made)?;
    }
    Ok(made)
}

/// It gets its name once it is whole, for another process may do the same.
fn compile(headers: &Path, made: &Path) -> io::Result<()> {
    let own = |suffix: &str| made.with_extension(format!("{}.{suffix}", std::process::id()));
    let (source, library) = (own("c"), own("so"));
    std::fs::write(&source, SOURCE)?;
    let done = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".to_owned()))
        .args(["-O1", "-fPIC", "-shared", "-I"])
        .arg(headers)
        .arg(&source)
        .arg("-o")
        .arg(&library)
        .output();
    std::fs::remove_file(&source)?;
    let done = done?;
    if !done.status.success() {
        let why = String::from_utf8_lossy(&done.stderr);
        return Err(io::Error::other(format!("validator.c does not compile: {why}")));
    }
    std::fs::rename(library, made.with_extension("so"))
}
