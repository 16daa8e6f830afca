//! Issuers that applications trust instead of holding a secret: a Kubernetes cluster, GitHub, Azure Pipelines.

use std::io;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::clock::unix;
use crate::jwt::{Claims, Key, Parts};
use crate::random;

/// The audience that Entra wants in their tokens.
pub const EXCHANGE: &str = "api://AzureADTokenExchange";
/// The pod that federated identities trust.
pub const CLUSTER_SUBJECT: &str = "system:serviceaccount:shop:web";
/// The workflow that [`APP_ONE`](crate::APP_ONE) trusts.
pub const GITHUB_SUBJECT: &str = "repo:contoso/shop:ref:refs/heads/main";
/// The service connection that [`APP_ONE`](crate::APP_ONE) trusts.
pub const PIPELINES_SUBJECT: &str = "sc://contoso/shop/azure";

/// Something that signs assertions.
pub struct Issuer {
    url: &'static str,
    key: Key,
    cluster: bool,
}

impl Issuer {
    fn new(url: &'static str, cluster: bool) -> io::Result<Self> {
        Ok(Self { url, key: Key::of_this_process()?, cluster })
    }

    pub(crate) fn cluster() -> io::Result<Self> {
        Self::new("https://oidc.aks.pgaad.test/11111111-2222-3333-4444-555555555555/", true)
    }

    pub(crate) fn github() -> io::Result<Self> {
        Self::new("https://token.actions.pgaad.test", false)
    }

    pub(crate) fn pipelines() -> io::Result<Self> {
        Self::new("https://vstoken.pgaad.test/77777777-0000-0000-0000-000000000001", false)
    }

    /// Its name, which is the `iss` of its assertions.
    pub fn url(&self) -> &'static str {
        self.url
    }

    /// An assertion for Entra, that lives for so many seconds from now; a negative number: it ended so long ago.
    pub fn assertion(&self, subject: &str, lifetime: i64) -> String {
        self.assertion_with(subject, lifetime, |_| {})
    }

    /// The same, with its claims changed before it is signed.
    pub fn assertion_with(&self, subject: &str, lifetime: i64, change: impl FnOnce(&mut Claims)) -> String {
        let now = unix(SystemTime::now());
        let begin = now.min(now + lifetime - 600);
        let claims = json!({
            "aud": if self.cluster { json!([EXCHANGE]) } else { json!(EXCHANGE) },
            "exp": now + lifetime,
            "iat": begin,
            "iss": self.url,
            "jti": random::guid(),
            "nbf": begin,
            "sub": subject,
        });
        let Value::Object(mut claims) = claims else { unreachable!("json! made an object") };
        change(&mut claims);
        if self.cluster { self.key.sign_plainly(&claims) } else { self.key.sign(&claims) }
    }

    /// Whether it signed this, or why not.
    pub(crate) fn has_signed(&self, parts: &Parts<'_>) -> Result<(), String> {
        self.key.has_signed(parts)
    }

    /// Whether an assertion may be shown again. A pod's lies in a file, a runner's is made for one request.
    pub(crate) fn allows_reuse(&self) -> bool {
        self.cluster
    }
}
