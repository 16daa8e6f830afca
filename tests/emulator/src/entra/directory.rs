//! The tenants and applications that exist. All identifiers are invented.

/// A tenant.
#[derive(Debug)]
pub struct Tenant {
    /// Its id.
    pub id: &'static str,
    /// A domain that names it as well.
    pub domain: &'static str,
}

/// The tenant of most applications.
pub static TENANT_ONE: Tenant =
    Tenant { id: "11111111-2222-3333-4444-555555555555", domain: "one.pgaad.test" };
/// The tenant of [`APP_THREE`].
pub static TENANT_TWO: Tenant =
    Tenant { id: "66666666-7777-8888-9999-000000000000", domain: "two.pgaad.test" };

/// All tenants.
pub static TENANTS: [&Tenant; 2] = [&TENANT_ONE, &TENANT_TWO];

/// What is the matter with an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Good,
    /// An administrator switched it off: AADSTS7000112.
    Disabled,
    /// It is a public client, which has no secret: AADSTS700025.
    Public,
    /// Its secret has expired: AADSTS7000222.
    SecretExpired,
}

/// An application with its service principal.
#[derive(Debug)]
pub struct App {
    /// Its tenant.
    pub tenant: &'static Tenant,
    /// The application (client) id.
    pub client_id: &'static str,
    /// The client secret it starts with; see [`Entra::secret`](crate::Entra::secret) for that of the moment.
    pub secret: &'static str,
    /// The display name, which is the name of its PostgreSQL role.
    pub role: &'static str,
    /// The object id of its service principal.
    pub object_id: &'static str,
    /// What is the matter with it.
    pub standing: Standing,
}

macro_rules! apps {
    ($($(#[$doc:meta])* $name:ident = $tenant:ident $number:literal $role:literal $secret:literal $standing:ident;)*) => {
        $($(#[$doc])*
        pub static $name: App = App {
            tenant: &$tenant,
            client_id: concat!("aaaaaaaa-0000-0000-0000-", $number),
            secret: $secret,
            role: $role,
            object_id: concat!("0b0b0b0b-0000-0000-0000-", $number),
            standing: Standing::$standing,
        };)*
        /// All applications.
        pub static APPS: &[&App] = &[$(&$name),*];
    };
}

apps! {
    /// An application in order. Its secret needs percent-encoding.
    APP_ONE = TENANT_ONE "000000000001" "app-one" "p~q+/=8Q&one%41#_x" Good;
    /// Another one in the same tenant.
    APP_TWO = TENANT_ONE "000000000002" "app-two" "Two8Q~b.c_d-e1234567890abcdefghijklmnop" Good;
    /// One in the other tenant.
    APP_THREE = TENANT_TWO "000000000003" "app-three" "Thr8Q~three.three_three-three1234567890a" Good;
    /// One that is switched off.
    APP_DISABLED = TENANT_ONE "000000000004" "app-disabled" "Dis8Q~disabled.disabled" Disabled;
    /// A public client.
    APP_PUBLIC = TENANT_ONE "000000000005" "app-public" "Pub8Q~public.public" Public;
    /// One whose secret has expired.
    APP_EXPIRED = TENANT_ONE "000000000006" "app-expired" "Exp8Q~expired.expired" SecretExpired;
    /// One in order, for tests that rotate its secret.
    APP_ROTATING = TENANT_ONE "000000000007" "app-rotating" "Rot8Q~first.first" Good;
    /// One in order, whose role has a name that must be quoted everywhere.
    APP_QUOTED = TENANT_ONE "000000000008" "the app's \"eighth\" \\ role, @ Contoso" "Quo8Q~é 'quoted' \\ \"secret\"" Good;
}

/// A resource that tokens are for, with the host name of its cloud's authority.
#[derive(Debug)]
pub struct Resource {
    /// The scope without `/.default`, which is the audience.
    pub id: &'static str,
    /// The authority that knows it.
    pub authority: &'static str,
}

/// Azure Database for PostgreSQL.
pub const POSTGRESQL: &str = "https://ossrdbms-aad.database.windows.net";

/// All resources.
pub static RESOURCES: &[Resource] = &[
    Resource { id: POSTGRESQL, authority: "login.microsoftonline.com" },
    Resource { id: "https://token.postgres.cosmos.azure.com", authority: "login.microsoftonline.com" },
    Resource { id: "https://management.azure.com", authority: "login.microsoftonline.com" },
    Resource { id: "https://ossrdbms-aad.database.usgovcloudapi.net", authority: "login.microsoftonline.us" },
    Resource {
        id: "https://ossrdbms-aad.database.chinacloudapi.cn",
        authority: "login.partner.microsoftonline.cn",
    },
];

/// The host names that the token service answers to, in its certificate and in `Host`.
pub(crate) static NAMES: &[&str] = &[
    "localhost",
    "127.0.0.1",
    "::1",
    "login.pgaad.test",
    "login.microsoftonline.com",
    "login.microsoftonline.us",
    "login.partner.microsoftonline.cn",
];
