//! Whether a connection gets a token, and what must hold where it does. Pure: it reads nothing and sends nothing.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::client::Purpose;
use crate::conninfo::{Effective, Host, Options, Source};
use crate::error::{Error, ErrorKind};
use crate::settings::{Auth, COSMOS_HOSTS, Cloud, Settings, config, fits};

/// What the machine and the libpq at hand offer.
pub(crate) struct Surroundings<'a> {
    /// The roots where none are named: `~/.postgresql/root.crt`, else the distribution's bundle.
    pub(crate) default_roots: Box<dyn Fn() -> Option<PathBuf> + 'a>,
    /// Whether a path is a file of roots that somebody chose, not a distribution's bundle.
    pub(crate) is_own_bundle: fn(&Path) -> bool,
    /// Whether the libpq at hand knows a keyword.
    pub(crate) knows: &'a dyn Fn(&str) -> bool,
    /// Whether it knows `sslrootcert=system`.
    pub(crate) knows_system_roots: bool,
    /// Whether the connection is made now, not by somebody else later.
    pub(crate) connects_now: bool,
    /// Whether another user may have chosen libpq's variables and files (`AT_SECURE`).
    pub(crate) is_suspect: bool,
}

/// What decides where a token would go, and how.
const DECIDING: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "requirepeer",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslcrl",
    "sslcrldir",
    "sslsni",
    "sslcertmode",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "gssencmode",
    "channel_binding",
    "sslkeylogfile",
];

/// What else is looked at.
const CONSIDERED: &[&str] =
    &["user", "dbname", "connect_timeout", "passfile", "oauth_issuer", "oauth_client_id"];

/// Whether an option is looked at before a connection is made.
pub(crate) fn is_judged(keyword: &str) -> bool {
    DECIDING.contains(&keyword) || CONSIDERED.contains(&keyword)
}

/// One of the servers that a connection may reach.
struct Server {
    /// The host, without one the address; without either empty: libpq's own local socket.
    name: String,
    kind: Kind,
    is_socket: bool,
    /// The cloud whose own server it is.
    own: Option<Cloud>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Azure,
    ThisMachine,
    Unnamed,
    Elsewhere,
}

/// A row of the contract's table: why Entra is on for a connection, or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Off,
    Always,
    Azure,
    AzureByChain,
    AzureWithPassword,
    ThisMachine,
    ThisMachineWithPassword,
    ThisMachineWithoutIdentity,
    ThisMachineBySocket,
    Unnamed,
    /// `server_hosts=*`.
    Elsewhere,
    ElsewhereWithPassword,
    ElsewhereWithoutIdentity,
    Several,
    SeveralWithPassword,
    SeveralWithoutIdentity,
}

impl Rule {
    /// Whether the connection gets a token.
    pub(crate) fn is_on(self) -> bool {
        matches!(
            self,
            Self::Always
                | Self::Azure
                | Self::AzureByChain
                | Self::ThisMachine
                | Self::Elsewhere
                | Self::Several
        )
    }
}

/// The servers of one connection, and what they mean under a client's settings.
pub(crate) struct Judge<'a> {
    settings: &'a Settings,
    effective: &'a Effective,
    servers: Vec<Server>,
    /// The cloud of the identity.
    cloud: Cloud,
    /// Whether nothing says that it is that cloud's.
    cloud_is_guessed: bool,
}

impl<'a> Judge<'a> {
    /// `has_proof`: the settings prove an identity, which is of one cloud.
    pub(crate) fn new(settings: &'a Settings, effective: &'a Effective, has_proof: bool) -> Self {
        let hosts = effective.hosts();
        let in_list = hosts.len() > 1;
        let servers: Vec<_> = hosts.iter().map(|host| Server::new(host, in_list, settings)).collect();
        // Without a proof it is whatever the machine is in the server's cloud.
        let of_server = || servers.iter().find_map(|server| server.own);
        let free = !settings.cloud_is_fixed && !has_proof;
        let cloud = of_server().filter(|_| free).unwrap_or(settings.cloud);
        let cloud_is_guessed = !settings.cloud_is_fixed && has_proof;
        Self { settings, effective, servers, cloud, cloud_is_guessed }
    }

    /// Their names, for the log.
    pub(crate) fn servers(&self) -> String {
        self.servers.iter().map(|server| shown(&server.name)).collect::<Vec<_>>().join(",")
    }

    /// The first fitting row of the contract's table, which says whether Entra is on for this connection.
    pub(crate) fn rule(&self, password_at_hand: bool) -> Result<Rule, Error> {
        match &self.settings.auth {
            Auth::Off => return Ok(Rule::Off),
            Auth::Named(_) | Auth::Chain | Auth::Callback => return Ok(Rule::Always),
            Auth::Auto => {}
        }
        let deliberate = self.settings.identities.is_deliberate();
        let first = self.servers[0].kind;
        let several = self.servers.iter().any(|server| server.kind != first);
        let any_azure = self.servers.iter().any(|server| server.kind == Kind::Azure);
        if several {
            return match (deliberate, password_at_hand) {
                (true, true) if !any_azure => Ok(Rule::SeveralWithPassword),
                (true, _) => self.check_destination().map(|()| Rule::Several),
                (false, false) if any_azure => Err(self.mixed()),
                (false, true) => Ok(Rule::SeveralWithPassword),
                (false, false) => Ok(Rule::SeveralWithoutIdentity),
            };
        }
        let reachable =
            || self.servers.iter().all(|server| !server.is_socket || self.is_known_socket(server));
        match first {
            Kind::Azure if deliberate => Ok(Rule::Azure),
            Kind::Azure if password_at_hand => Ok(Rule::AzureWithPassword),
            Kind::Azure => Ok(Rule::AzureByChain),
            Kind::Unnamed => Ok(Rule::Unnamed),
            Kind::ThisMachine if !deliberate => Ok(Rule::ThisMachineWithoutIdentity),
            Kind::ThisMachine if password_at_hand => Ok(Rule::ThisMachineWithPassword),
            Kind::ThisMachine if !reachable() => Ok(Rule::ThisMachineBySocket),
            Kind::ThisMachine => Ok(Rule::ThisMachine),
            Kind::Elsewhere if password_at_hand => Ok(Rule::ElsewhereWithPassword),
            Kind::Elsewhere if self.settings.server_hosts.has_any() => Ok(Rule::Elsewhere),
            Kind::Elsewhere if deliberate => Err(stranger(&self.servers[0])),
            Kind::Elsewhere => Ok(Rule::ElsewhereWithoutIdentity),
        }
    }

    fn mixed(&self) -> Error {
        let named = self.servers.iter().find(|server| server.kind != Kind::Azure);
        let name = named.map_or("", |server| &server.name);
        Error::new(
            ErrorKind::Insecure,
            format!(
                "No token for a list of servers of which some are Azure's and {} is not. Connect to them one by one, \
                 or set auth=off (PGAAD_AUTH).",
                shown(name)
            ),
        )
    }

    /// Whether every server may get a token.
    fn check_destination(&self) -> Result<(), Error> {
        for server in &self.servers {
            if server.kind == Kind::Unnamed {
                return Err(config(
                    "No token without a server: neither host nor hostaddr is set. Name the server in the connection \
                     string, or set auth=off (PGAAD_AUTH).",
                ));
            }
            if server.is_socket {
                if !self.is_known_socket(server) {
                    return Err(Error::new(
                        ErrorKind::Insecure,
                        format!(
                            "No token for the Unix socket in {}: whoever owns it would get the token. Say in requirepeer \
                             which user the server runs as, or name the directory in allow_plaintext \
                             (PGAAD_ALLOW_PLAINTEXT).",
                            shown(&server.name)
                        ),
                    ));
                }
                continue;
            }
            if self.settings.server_hosts.matches(&server.name) || server.kind == Kind::ThisMachine {
                continue;
            }
            match server.own {
                Some(cloud) if cloud == self.cloud => {}
                Some(cloud) => {
                    return Err(Error::new(
                        ErrorKind::Insecure,
                        format!(
                            "No token for {}: it belongs to the cloud {}, the token to the cloud {}. Set cloud \
                             (PGAAD_CLOUD), or name the server in server_hosts (PGAAD_SERVER_HOSTS).",
                            shown(&server.name),
                            cloud.name(),
                            self.cloud.name()
                        ),
                    ));
                }
                None => return Err(stranger(server)),
            }
        }
        Ok(())
    }

    fn is_known_socket(&self, server: &Server) -> bool {
        !self.effective.value("requirepeer").is_empty() || self.may_be_plain(server)
    }

    fn may_be_plain(&self, server: &Server) -> bool {
        // A host called localhost whose address is another machine's is not what was meant.
        let elsewhere = is_loopback(&server.name) && server.kind != Kind::ThisMachine;
        server.own.is_none() && !elsewhere && self.settings.allow_plaintext.matches(&server.name)
    }

    /// A token proves who the caller is in one cloud; with a secret of one cloud no other may be guessed.
    fn check_cloud(&self) -> Result<(), Error> {
        let foreign =
            self.servers.iter().find(|server| server.own.is_some_and(|cloud| cloud != Cloud::Public));
        match foreign {
            Some(server) if self.cloud_is_guessed => Err(config(format!(
                "{} belongs to the cloud {}, and the settings do not say in which cloud the application is. Set cloud \
                 (PGAAD_CLOUD).",
                shown(&server.name),
                server.own.map_or("", Cloud::name)
            ))),
            _ => Ok(()),
        }
    }

    /// Which token the servers want.
    fn purpose(&self) -> Result<Purpose, Error> {
        let cosmos = |server: &&Server| server.own.is_some() && fits(COSMOS_HOSTS, &server.name);
        match self.servers.iter().filter(cosmos).count() {
            _ if self.settings.scope.is_some() => Ok(Purpose::Database),
            0 if self.cloud != self.settings.cloud => Ok(Purpose::OtherCloud(self.cloud)),
            0 => Ok(Purpose::Database),
            count if count == self.servers.len() => Ok(Purpose::Cosmos),
            _ => Err(config(
                "The list of hosts mixes Azure Cosmos DB with other servers, which want different tokens. Connect to \
                 them one by one, or set scope (PGAAD_SCOPE).",
            )),
        }
    }

    /// For a connection with Entra on: checks where the token would go, and writes into `options`, which the
    /// connection is made with, what must hold.
    pub(crate) fn secure(&self, options: &mut Options, around: &Surroundings<'_>) -> Result<Purpose, Error> {
        self.check_cloud()?;
        self.check_destination()?;
        let purpose = self.purpose()?;
        if around.is_suspect {
            self.check_suspects()?;
        }
        if self.effective.value("channel_binding") == b"require" {
            return Err(config(
                "channel_binding=require cannot work with a token: the server asks for a password, which binds no \
                 channel. Leave channel_binding (PGCHANNELBINDING) out; TLS with a verified name takes its place.",
            ));
        }
        self.pin(options, around);
        if !self.servers.iter().all(|server| self.may_be_plain(server)) {
            self.require_tls(options, around)?;
        }
        Ok(purpose)
    }

    /// Another user chose what would decide where the token goes, or how.
    fn check_suspects(&self) -> Result<(), Error> {
        for keyword in DECIDING.iter().filter(|keyword| !self.effective.value(keyword).is_empty()) {
            let from = match self.effective.source(keyword) {
                Source::Environment(name) => format!("the environment variable {name}"),
                Source::Service => "the connection service".into(),
                _ => continue,
            };
            return Err(config(format!(
                "{keyword} comes from {from}, which the caller of this program with raised rights may have chosen. Set \
                 {keyword} in the connection string, or trust_environment=on in the settings."
            )));
        }
        Ok(())
    }

    /// Writes out what was judged though it stands elsewhere, so that nothing changes it in between.
    fn pin(&self, options: &mut Options, around: &Surroundings<'_>) {
        let pinned = [
            "host",
            "hostaddr",
            "port",
            "requirepeer",
            "sslrootcert",
            "user",
            "oauth_issuer",
            "oauth_client_id",
        ];
        for keyword in pinned {
            let value = self.effective.value(keyword);
            // An empty place is a place that counts, too: no other environment may fill it.
            let place = matches!(keyword, "host" | "hostaddr" | "port");
            if !options.contains(keyword) && (place || !value.is_empty()) {
                options.set(keyword, value);
            }
        }
        if around.is_suspect {
            // libpq reads the service file again when it connects.
            for keyword in DECIDING.iter().filter(|keyword| (around.knows)(keyword)) {
                if !options.contains(keyword) {
                    options.set(*keyword, self.effective.value(keyword));
                }
            }
        }
    }

    fn require_tls(&self, options: &mut Options, around: &Surroundings<'_>) -> Result<(), Error> {
        let given = self.effective.value("sslrootcert");
        let roots = if given.is_empty() {
            match (around.default_roots)() {
                Some(roots) => roots,
                None if around.knows_system_roots => PathBuf::from("system"),
                None => {
                    return Err(config(
                        "No certificate authorities to check the server's certificate with: install the package \
                         ca-certificates, or name a file in sslrootcert (PGSSLROOTCERT).",
                    ));
                }
            }
        } else {
            PathBuf::from(OsStr::from_bytes(given))
        };
        let own_roots = || (around.is_own_bundle)(&roots);
        let sslmode = match self.effective.value("sslmode") {
            b"disable" => {
                return Err(Error::new(
                    ErrorKind::Insecure,
                    "No token with sslmode=disable: it would travel readable by all. Leave sslmode (PGSSLMODE) out, or \
                     name the host in allow_plaintext (PGAAD_ALLOW_PLAINTEXT).",
                ));
            }
            // With a file of roots libpq takes require for verify-ca, but only while the file is there.
            b"require" if own_roots() && around.connects_now => b"verify-ca",
            kept @ (b"require" | b"verify-ca") if own_roots() => kept,
            b"" | b"allow" | b"prefer" | b"require" | b"verify-ca" | b"verify-full" => b"verify-full",
            _ => return Err(config("sslmode (PGSSLMODE) has a value that libpq does not know.")),
        };
        options.set("sslmode", sslmode);
        // Whoever connects may do so from another directory.
        let relative = roots.is_relative() && own_roots();
        let roots = if relative { std::path::absolute(&roots).unwrap_or(roots) } else { roots };
        options.set("sslrootcert", roots.as_os_str().as_bytes());
        match self.effective.value("gssencmode") {
            b"require" => {
                return Err(config(
                    "gssencmode=require would put Kerberos in the place of TLS, whose certificate says who gets the \
                     token. Leave gssencmode (PGGSSENCMODE) out.",
                ));
            }
            _ if (around.knows)("gssencmode") => options.set("gssencmode", "disable"),
            _ => {}
        }
        Ok(())
    }
}

impl Server {
    fn new(host: &Host<'_>, in_list: bool, settings: &Settings) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (host, address) = (text(host.host), text(host.hostaddr));
        let name = if host.is_empty() { address.clone() } else { host.clone() };
        let is_socket = address.is_empty() && (host.is_empty() || host.starts_with(['/', '@']));
        // A directory is nobody's server, whatever its name ends in.
        let owns =
            |cloud: &Cloud| !is_socket && cloud.server_hosts().iter().any(|pattern| fits(pattern, &name));
        let own = Cloud::ALL.into_iter().find(owns);
        let reached = if address.is_empty() { &host } else { &address };
        let kind = if own.is_some() || settings.server_hosts.names(&name) {
            Kind::Azure
        } else if name.is_empty() && !in_list {
            Kind::Unnamed
        } else if is_socket || is_loopback(reached) {
            Kind::ThisMachine
        } else {
            Kind::Elsewhere
        };
        Self { name, kind, is_socket, own }
    }
}

fn is_loopback(host: &str) -> bool {
    host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case("localhost")
        // An address with a dot behind it is no address, but a name that is looked up.
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn stranger(server: &Server) -> Error {
    Error::new(
        ErrorKind::Insecure,
        format!(
            "No token for {}, which is not one of Azure's servers. If it may have the token, name it in server_hosts \
             (PGAAD_SERVER_HOSTS); to connect without Entra, set auth=off (PGAAD_AUTH).",
            shown(&server.name)
        ),
    )
}

/// A name from a connection string, short enough for a message. In a URI whose password holds an `@` that is not
/// written %40, the rest of the password stands before the host.
fn shown(name: &str) -> String {
    let host = name.rsplit('@').next().unwrap_or_default();
    let (mark, name) = if host == name || name.starts_with(['/', '@']) { ("", name) } else { ("...@", host) };
    match &name[..name.floor_char_boundary(200)] {
        "" => "libpq's default directory".into(),
        name => format!("{mark}{name}"),
    }
}
