//! The tenants, applications, managed identities and users that exist. All identifiers are invented.

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

/// What a principal that is no application of its own is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The identity of one resource, such as a machine.
    SystemAssigned,
    /// An identity that resources share.
    UserAssigned,
    /// A person, signed in to a public client.
    User,
}

/// A managed identity or a user.
#[derive(Debug)]
pub struct Principal {
    /// Which of them.
    pub kind: Kind,
    /// Its tenant.
    pub tenant: &'static Tenant,
    /// The `appid` of its tokens: a managed identity's own, for a user that of the program signed in to.
    pub client_id: &'static str,
    /// Its object id.
    pub object_id: &'static str,
    /// The ARM id: of a user-assigned identity itself, of a system-assigned one's resource.
    pub resource_id: Option<&'static str>,
    /// Its PostgreSQL role: the name of the identity, of the resource, of the user.
    pub role: &'static str,
}

/// The client id of Azure's command line tools.
pub const AZURE_CLI: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";

macro_rules! group {
    ($provider:literal) => {
        concat!(
            "/subscriptions/5b5b5b5b-1111-2222-3333-444444444444/resourcegroups/shop/providers/",
            $provider
        )
    };
}

macro_rules! principals {
    ($($(#[$doc:meta])* $name:ident = $kind:ident $client:expr, $number:literal $resource:expr, $role:literal;)*) => {
        $($(#[$doc])*
        pub static $name: Principal = Principal {
            kind: Kind::$kind,
            tenant: &TENANT_ONE,
            client_id: $client,
            object_id: concat!("0c0c0c0c-0000-0000-0000-", $number),
            resource_id: $resource,
            role: $role,
        };)*
        /// All managed identities and users.
        pub static PRINCIPALS: &[&Principal] = &[$(&$name),*];
    };
}

principals! {
    /// The identity of a virtual machine.
    SYSTEM_IDENTITY = SystemAssigned "cccccccc-0000-0000-0000-000000000001", "000000000001"
        Some(group!("Microsoft.Compute/virtualMachines/vm-one")), "vm-one";
    /// A user-assigned identity.
    IDENTITY_ONE = UserAssigned "cccccccc-0000-0000-0000-000000000002", "000000000002"
        Some(group!("Microsoft.ManagedIdentity/userAssignedIdentities/identity-one")), "identity-one";
    /// Another one.
    IDENTITY_TWO = UserAssigned "cccccccc-0000-0000-0000-000000000003", "000000000003"
        Some(group!("Microsoft.ManagedIdentity/userAssignedIdentities/identity-two")), "identity-two";
    /// Who is signed in to `az`.
    DEVELOPER = User AZURE_CLI, "000000000004" None, "ann@one.pgaad.test";
    /// Who is signed in to `azd`.
    DEVELOPER_TWO = User AZURE_CLI, "000000000005" None, "bob@one.pgaad.test";
}

/// Whoever a token can be about.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    App(&'a App),
    Principal(&'a Principal),
}

impl<'a> From<&'a App> for Subject<'a> {
    fn from(app: &'a App) -> Self {
        Self::App(app)
    }
}

impl<'a> From<&'a Principal> for Subject<'a> {
    fn from(principal: &'a Principal) -> Self {
        Self::Principal(principal)
    }
}

impl Subject<'_> {
    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Subject<'static>> {
        let apps = APPS.iter().map(|app| Subject::App(app));
        apps.chain(PRINCIPALS.iter().map(|principal| Subject::Principal(principal)))
    }

    pub(crate) fn tenant(&self) -> &'static Tenant {
        match self {
            Self::App(app) => app.tenant,
            Self::Principal(principal) => principal.tenant,
        }
    }

    pub(crate) fn client_id(&self) -> &'static str {
        match self {
            Self::App(app) => app.client_id,
            Self::Principal(principal) => principal.client_id,
        }
    }

    pub(crate) fn object_id(&self) -> &'static str {
        match self {
            Self::App(app) => app.object_id,
            Self::Principal(principal) => principal.object_id,
        }
    }

    pub(crate) fn role(&self) -> &'static str {
        match self {
            Self::App(app) => app.role,
            Self::Principal(principal) => principal.role,
        }
    }

    /// A person rather than a program.
    pub(crate) fn is_user(&self) -> bool {
        matches!(self, Self::Principal(Principal { kind: Kind::User, .. }))
    }

    pub(crate) fn standing(&self) -> Standing {
        match self {
            Self::App(app) => app.standing,
            Self::Principal(_) => Standing::Good,
        }
    }
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
    Resource { id: "https://management.usgovcloudapi.net", authority: "login.microsoftonline.us" },
    Resource {
        id: "https://ossrdbms-aad.database.chinacloudapi.cn",
        authority: "login.partner.microsoftonline.cn",
    },
    Resource { id: "https://management.chinacloudapi.cn", authority: "login.partner.microsoftonline.cn" },
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
