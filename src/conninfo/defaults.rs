//! The keywords of libpq 12 to 19.

/// An option of libpq.
#[derive(Debug)]
pub(crate) struct Keyword {
    pub(crate) name: &'static str,
    /// The environment variable that stands in where the option is not given.
    pub(crate) env: Option<&'static str>,
    /// The value compiled into libpq, as upstream and Debian build it (with TLS and GSSAPI).
    pub(crate) default: Option<&'static str>,
    /// The major version of libpq that brought it; 12 for all that are older.
    pub(crate) since: i32,
}

impl Keyword {
    /// Whether a libpq of this version (150018) knows it.
    pub(crate) fn is_known_to(&self, version: i32) -> bool {
        version / 10000 >= self.since
    }
}

/// The option of this name.
pub(crate) fn keyword(name: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|known| known.name == name)
}

/// All options.
pub(crate) fn keywords() -> impl Iterator<Item = &'static Keyword> {
    KEYWORDS.iter()
}

const fn row(
    name: &'static str,
    env: Option<&'static str>,
    default: Option<&'static str>,
    since: i32,
) -> Keyword {
    Keyword { name, env, default, since }
}

/// 12 and 13 still took `authtype` and `tty`, without effect.
#[rustfmt::skip]
static KEYWORDS: [Keyword; 52] = [
    row("service",                   Some("PGSERVICE"),               None,             12),
    row("servicefile",               Some("PGSERVICEFILE"),           None,             19),
    row("user",                      Some("PGUSER"),                  None,             12),
    row("password",                  Some("PGPASSWORD"),              None,             12),
    row("passfile",                  Some("PGPASSFILE"),              None,             12),
    row("channel_binding",           Some("PGCHANNELBINDING"),        Some("prefer"),   13),
    row("connect_timeout",           Some("PGCONNECT_TIMEOUT"),       None,             12),
    row("dbname",                    Some("PGDATABASE"),              None,             12),
    row("host",                      Some("PGHOST"),                  None,             12),
    row("hostaddr",                  Some("PGHOSTADDR"),              None,             12),
    row("port",                      Some("PGPORT"),                  Some("5432"),     12),
    row("client_encoding",           Some("PGCLIENTENCODING"),        None,             12),
    row("options",                   Some("PGOPTIONS"),               Some(""),         12),
    row("application_name",          Some("PGAPPNAME"),               None,             12),
    row("fallback_application_name", None,                            None,             12),
    row("keepalives",                None,                            None,             12),
    row("keepalives_idle",           None,                            None,             12),
    row("keepalives_interval",       None,                            None,             12),
    row("keepalives_count",          None,                            None,             12),
    row("tcp_user_timeout",          None,                            None,             12),
    row("sslmode",                   Some("PGSSLMODE"),               Some("prefer"),   12),
    row("sslnegotiation",            Some("PGSSLNEGOTIATION"),        Some("postgres"), 17),
    row("sslcompression",            Some("PGSSLCOMPRESSION"),        Some("0"),        12),
    row("sslcert",                   Some("PGSSLCERT"),               None,             12),
    row("sslkey",                    Some("PGSSLKEY"),                None,             12),
    row("sslcertmode",               Some("PGSSLCERTMODE"),           None,             16),
    row("sslpassword",               None,                            None,             13),
    row("sslrootcert",               Some("PGSSLROOTCERT"),           None,             12),
    row("sslcrl",                    Some("PGSSLCRL"),                None,             12),
    row("sslcrldir",                 Some("PGSSLCRLDIR"),             None,             14),
    row("sslsni",                    Some("PGSSLSNI"),                Some("1"),        14),
    row("sslkeylogfile",             None,                            None,             18),
    row("requirepeer",               Some("PGREQUIREPEER"),           None,             12),
    row("require_auth",              Some("PGREQUIREAUTH"),           None,             16),
    row("min_protocol_version",      Some("PGMINPROTOCOLVERSION"),    None,             18),
    row("max_protocol_version",      Some("PGMAXPROTOCOLVERSION"),    None,             18),
    row("ssl_min_protocol_version",  Some("PGSSLMINPROTOCOLVERSION"), Some("TLSv1.2"),  13),
    row("ssl_max_protocol_version",  Some("PGSSLMAXPROTOCOLVERSION"), None,             13),
    row("gssencmode",                Some("PGGSSENCMODE"),            Some("prefer"),   12),
    row("krbsrvname",                Some("PGKRBSRVNAME"),            Some("postgres"), 12),
    row("gsslib",                    Some("PGGSSLIB"),                None,             12),
    row("gssdelegation",             Some("PGGSSDELEGATION"),         Some("0"),        16),
    row("replication",               None,                            None,             12),
    row("target_session_attrs",      Some("PGTARGETSESSIONATTRS"),    Some("any"),      12),
    row("load_balance_hosts",        Some("PGLOADBALANCEHOSTS"),      Some("disable"),  16),
    row("scram_client_key",          None,                            None,             18),
    row("scram_server_key",          None,                            None,             18),
    row("oauth_issuer",              None,                            None,             18),
    row("oauth_client_id",           None,                            None,             18),
    row("oauth_client_secret",       None,                            None,             18),
    row("oauth_scope",               None,                            None,             18),
    row("oauth_ca_file",             Some("PGOAUTHCAFILE"),           None,             19),
];
