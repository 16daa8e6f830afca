//! libpq's variables for the program, so that it connects as was judged.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::connection::outside::Judged;
use crate::conninfo;
use crate::error::Error;
use crate::settings::config;

/// Sets the variable of each option, and takes out those that would change what was judged.
pub(super) fn set(command: &mut Command, judged: &Judged) -> Result<(), Error> {
    let is_on = judged.rule.is_on();
    if is_on && conninfo::is_conninfo(judged.value("dbname")) {
        return Err(config(
            "dbname (PGDATABASE) is itself a connection string, by which the program could turn off what protects the \
             token. Write its options into --conninfo.",
        ));
    }
    // What the service says is among the options.
    command.env_remove("PGSERVICE");
    if judged.options.contains("sslmode") {
        command.env_remove("PGREQUIRESSL");
    }
    if is_on {
        command.env_remove("PGPASSWORD");
    }
    for (keyword, value) in judged.options.iter() {
        // Its place is taken by ours.
        if is_on && keyword == b"passfile" {
            continue;
        }
        let keyword = String::from_utf8_lossy(keyword);
        let Some(name) = conninfo::keyword(&keyword).and_then(|known| known.env) else {
            return Err(config(format!(
                "{keyword} has no environment variable, so pgaad exec cannot hand it on. Leave it out, and give it to the \
                 program itself."
            )));
        };
        match value {
            b"" => command.env_remove(name),
            value => command.env(name, OsStr::from_bytes(value)),
        };
    }
    Ok(())
}
