//! The national clouds: authority, scopes and server domains belong together
//! (Microsoft Learn: "National clouds and Microsoft Entra ID").

/// One of Microsoft's clouds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cloud {
    Public,
    UsGov,
    China,
}

impl Cloud {
    pub(crate) const ALL: [Self; 3] = [Self::Public, Self::UsGov, Self::China];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cloud| cloud.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::UsGov => "usgov",
            Self::China => "china",
        }
    }

    /// The hosts of its token service; the first is the one that is used.
    fn authority_hosts(self) -> &'static [&'static str] {
        match self {
            Self::Public => &["login.microsoftonline.com", "login.microsoft.com", "login.windows.net"],
            Self::UsGov => &["login.microsoftonline.us"],
            Self::China => &["login.partner.microsoftonline.cn", "login.chinacloudapi.cn"],
        }
    }

    pub(crate) fn authority_host(self) -> &'static str {
        self.authority_hosts()[0]
    }

    /// The cloud whose token service has that host name.
    pub(crate) fn of_authority_host(host: &str) -> Option<Self> {
        let is = |cloud: &Self| cloud.authority_hosts().iter().any(|known| known.eq_ignore_ascii_case(host));
        Self::ALL.into_iter().find(is)
    }

    /// What a token for Azure Database for PostgreSQL is asked for.
    pub(crate) fn scope(self) -> &'static str {
        match self {
            Self::Public => "https://ossrdbms-aad.database.windows.net/.default",
            Self::UsGov => "https://ossrdbms-aad.database.usgovcloudapi.net/.default",
            Self::China => "https://ossrdbms-aad.database.chinacloudapi.cn/.default",
        }
    }

    /// What a token for Azure Resource Manager is asked for.
    pub(crate) fn management_scope(self) -> &'static str {
        match self {
            Self::Public => "https://management.azure.com/.default",
            Self::UsGov => "https://management.usgovcloudapi.net/.default",
            Self::China => "https://management.chinacloudapi.cn/.default",
        }
    }

    /// Patterns of its own servers.
    pub(crate) fn server_hosts(self) -> &'static [&'static str] {
        match self {
            Self::Public => &["*.postgres.database.azure.com", COSMOS_HOSTS],
            Self::UsGov => &["*.postgres.database.usgovcloudapi.net"],
            Self::China => &["*.postgres.database.chinacloudapi.cn"],
        }
    }
}

/// Servers of Azure Cosmos DB for PostgreSQL, which want tokens for a scope of their own.
pub(crate) const COSMOS_HOSTS: &str = "*.postgres.cosmos.azure.com";

/// That scope.
pub(crate) const COSMOS_SCOPE: &str = "https://token.postgres.cosmos.azure.com/.default";
