//! Why Entra is on for a connection, or off: the rows of the contract's table, for people.

use crate::policy::Rule;

pub(super) fn why(rule: Rule) -> &'static str {
    match rule {
        Rule::Off => "auth=off",
        Rule::Always => "auth names a credential, which counts for every connection",
        Rule::Azure => "an Azure server, and settings of pgaad's own name the identity",
        Rule::AzureByChain => "an Azure server, and no password is at hand: the first identity that is found",
        Rule::AzureWithPassword => "a password is at hand, and no settings of pgaad's own name an identity",
        Rule::ThisMachine => {
            "a server on this machine, settings name the identity, and no password is at hand"
        }
        Rule::ThisMachineWithPassword => "a server on this machine, and a password is at hand",
        Rule::ThisMachineWithoutIdentity => {
            "a server on this machine, and no settings of pgaad's own name an identity"
        }
        Rule::ThisMachineBySocket => "a Unix socket that neither requirepeer nor allow_plaintext vouches for",
        Rule::Unnamed => "no host is named: libpq's own local socket",
        Rule::Elsewhere => "server_hosts=*, and no password is at hand",
        Rule::ElsewhereWithPassword => "not one of Azure's servers, and a password is at hand",
        Rule::ElsewhereWithoutIdentity => {
            "not one of Azure's servers, and no settings of pgaad's own name an identity"
        }
        Rule::Several => "several servers, each of which may have a token",
        Rule::SeveralWithPassword => "several servers, and a password is at hand",
        Rule::SeveralWithoutIdentity => {
            "several servers, none of them Azure's, and no settings name an identity"
        }
    }
}
