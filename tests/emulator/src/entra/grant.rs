//! The client credentials grant: who may have a token, and in which words the others are refused.

use serde_json::{Value, json};

use super::State;
use super::assertion::client;
use super::directory::{RESOURCES, Resource, Standing, Subject, TENANTS, Tenant};
use crate::http::{Request, parse_form};
use crate::random;

/// What a request earned.
pub(crate) struct Grant {
    pub(crate) who: Subject<'static>,
    pub(crate) resource: &'static Resource,
    /// Proved by an assertion, not by a secret.
    pub(crate) asserted: bool,
}

/// A refusal, before it has a time and ids.
#[derive(Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) error: String,
    /// The digits after AADSTS; none in some answers.
    pub(crate) code: Option<u32>,
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, error: &str, code: u32, text: impl Into<String>) -> Self {
        Self { status, error: error.to_owned(), code: Some(code), text: text.into() }
    }

    /// The answer's body. `lines` chooses between the two spellings of the description that occur.
    pub(crate) fn body(&self, ids: &Ids, time: std::time::SystemTime, lines: bool) -> Value {
        let time = timestamp(time);
        let Ids { trace, correlation } = ids;
        let gap = if lines { "\r\n" } else { " " };
        let code = self.code.map(|code| format!("AADSTS{code}: ")).unwrap_or_default();
        let mut body = json!({
            "error": self.error,
            "error_description": format!(
                "{code}{}{gap}Trace ID: {trace}{gap}Correlation ID: {correlation}{gap}Timestamp: {time}", self.text),
            "timestamp": time,
            "trace_id": trace,
            "correlation_id": correlation,
        });
        if let Some(code) = self.code {
            body["error_codes"] = json!([code]);
            body["error_uri"] = json!(format!("https://login.microsoftonline.com/error?code={code}"));
        }
        body
    }
}

/// The ids that name one exchange.
pub(crate) struct Ids {
    pub(crate) trace: String,
    pub(crate) correlation: String,
}

impl Ids {
    /// Takes over the client's id if it is one.
    pub(crate) fn of(request: &Request) -> Self {
        let theirs = request.header("client-request-id").filter(|id| random::is_guid(id));
        Self { trace: random::guid(), correlation: theirs.map_or_else(random::guid, str::to_owned) }
    }
}

/// `YYYY-MM-DD HH:MM:SSZ`.
pub(super) fn timestamp(time: std::time::SystemTime) -> String {
    let t = time::OffsetDateTime::from(time);
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}Z",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    )
}

/// The tenant part of a token endpoint's path below `prefix`; None for any other path.
pub(crate) fn tenant_of<'a>(target: &'a str, prefix: &str) -> Option<&'a str> {
    let tenant = target.strip_prefix(prefix)?.strip_prefix('/')?.strip_suffix("/oauth2/v2.0/token")?;
    (!tenant.is_empty() && !tenant.contains('/')).then_some(tenant)
}

/// Decides about a request whose path names this tenant.
pub(crate) fn decide(request: &Request, tenant: &str, state: &State) -> Result<Grant, Refusal> {
    if request.method != "POST" {
        let text = format!("The endpoint only accepts POST requests. Received a {} request.", request.method);
        return Err(Refusal::new(405, "invalid_request", 900561, text));
    }
    let form = form(request)?;
    let field = |name: &str| form.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let required = |name| field(name).filter(|value| !value.is_empty()).ok_or_else(|| missing(name));

    let grant_type = required("grant_type")?;
    if grant_type != "client_credentials" {
        let text = format!("The app requested an unsupported grant type '{grant_type}'.");
        return Err(Refusal::new(400, "unsupported_grant_type", 70003, text));
    }
    let client_id = required("client_id")?;
    let scope = required("scope")?;
    let tenant = find_tenant(tenant)?;
    let who = Subject::all()
        .find(|who| {
            who.client_id().eq_ignore_ascii_case(client_id) && who.tenant().id == tenant.id && !who.is_user()
        })
        .ok_or_else(|| {
            let text = format!(
                "Application with identifier '{client_id}' was not found in the directory '{}'. This can happen if \
                 the application has not been installed by the administrator of the tenant or consented to by any \
                 user in the tenant. You may have sent your authentication request to the wrong tenant.",
                tenant.id
            );
            Refusal::new(400, "unauthorized_client", 700016, text)
        })?;
    if who.standing() == Standing::Disabled {
        let text = format!("Application '{}'({}) is disabled.", who.client_id(), who.role());
        return Err(Refusal::new(400, "unauthorized_client", 7000112, text));
    }
    let resource = find_resource(scope, request, tenant)?;
    let url = format!("https://{}{}", request.header("host").unwrap_or_default(), request.target);
    let asserted = check_proof(&who, field, state, &url)?;
    Ok(Grant { who, resource, asserted })
}

fn form(request: &Request) -> Result<Vec<(String, String)>, Refusal> {
    let form_type = "application/x-www-form-urlencoded";
    if request.header("content-type").is_none_or(|value| !value.eq_ignore_ascii_case(form_type)) {
        return Err(missing("grant_type")); // without the type, the real service sees no fields
    }
    let malformed =
        || Refusal::new(400, "invalid_request", 9002313, "Invalid request. Request is malformed or invalid.");
    if request.body.is_empty() {
        return Err(missing("grant_type"));
    }
    let form = parse_form(&request.body).ok_or_else(malformed)?;
    let doubled =
        form.iter().enumerate().any(|(i, (name, _))| form[..i].iter().any(|(earlier, _)| earlier == name));
    if doubled { Err(malformed()) } else { Ok(form) }
}

pub(super) fn missing(name: &str) -> Refusal {
    let text = format!("The request body must contain the following parameter: '{name}'.");
    Refusal::new(400, "invalid_request", 900144, text)
}

fn find_tenant(name: &str) -> Result<&'static Tenant, Refusal> {
    if ["common", "consumers", "organizations"].iter().any(|alias| name.eq_ignore_ascii_case(alias)) {
        let text = "The grant type is not supported over the /common or /consumers endpoints. Please use the \
                    /organizations or tenant-specific endpoint.";
        return Err(Refusal::new(400, "invalid_request", 9001023, text));
    }
    let known = |t: &&&Tenant| t.id.eq_ignore_ascii_case(name) || t.domain.eq_ignore_ascii_case(name);
    if let Some(tenant) = TENANTS.iter().find(known) {
        return Ok(tenant);
    }
    if !random::is_guid(name) && !is_domain(name) {
        let text = format!(
            "Specified tenant identifier '{name}' is neither a valid DNS name, nor a valid external domain."
        );
        return Err(Refusal::new(400, "invalid_request", 900023, text));
    }
    let text = format!(
        "Tenant '{name}' not found. Check to make sure you have the correct tenant ID and are signing into the \
         correct cloud. Check with your subscription administrator, this may happen if there are no active \
         subscriptions for the tenant."
    );
    Err(Refusal::new(400, "invalid_request", 90002, text))
}

fn is_domain(name: &str) -> bool {
    name.contains('.')
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

fn find_resource(scope: &str, request: &Request, tenant: &Tenant) -> Result<&'static Resource, Refusal> {
    let id = scope.strip_suffix("/.default").filter(|id| !id.is_empty() && !id.contains(char::is_whitespace));
    let Some(id) = id else {
        let text = format!(
            "The provided request must include a 'scope' input parameter. The provided value for the input \
             parameter 'scope' is not valid. The scope {scope} is not valid."
        );
        return Err(Refusal::new(400, "invalid_scope", 70011, text));
    };
    // Reached by the name of a cloud's authority, only that cloud's resources are known.
    let host = request.header("host").unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default();
    let cloud = RESOURCES.iter().map(|r| r.authority).find(|authority| authority.eq_ignore_ascii_case(host));
    RESOURCES.iter().find(|r| r.id == id && cloud.is_none_or(|cloud| cloud == r.authority)).ok_or_else(|| {
        let text = format!(
            "The resource principal named {id} was not found in the tenant named {}. This can happen if the \
             application has not been installed by the administrator of the tenant or consented to by any user in \
             the tenant. You might have sent your authentication request to the wrong tenant.",
            tenant.domain
        );
        Refusal::new(400, "invalid_resource", 500011, text)
    })
}

/// Whether the client proved who it is: true if by an assertion, false if by a secret.
fn check_proof<'a>(
    who: &Subject<'_>,
    field: impl Fn(&str) -> Option<&'a str>,
    state: &State,
    url: &str,
) -> Result<bool, Refusal> {
    let given = field("client_secret");
    let (kind, assertion) = (field("client_assertion_type"), field("client_assertion"));
    let id = who.client_id();
    if who.standing() == Standing::Public && (given.is_some() || assertion.or(kind).is_some()) {
        let text = "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.";
        return Err(client(700025, text));
    }
    match (given.filter(|secret| !secret.is_empty()), assertion.or(kind)) {
        (None, None) => Err(client(
            7000218,
            "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
        )),
        (Some(_), Some(_)) => {
            let text = "Invalid request. Both 'client_secret' and 'client_assertion' were presented.";
            Err(Refusal::new(400, "invalid_request", 9002313, text))
        }
        (None, Some(_)) => state.check_assertion(id, kind, assertion, url).map(|()| true),
        (Some(given), None) if state.secret_of(who).is_none_or(|secret| secret != given) => {
            let text = format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret \
                 value, not the client secret ID, for a secret added to app '{id}'."
            );
            Err(client(7000215, text))
        }
        _ if who.standing() == Standing::SecretExpired => {
            let text = format!(
                "The provided client secret keys for app '{id}' are expired. Visit the Azure portal to create new keys \
                 for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added \
                 security: https://aka.ms/certCreds."
            );
            Err(client(7000222, text))
        }
        _ => Ok(false),
    }
}
