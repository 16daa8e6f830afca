//! What a request asks for, and why it gets nothing.

use crate::entra::RESOURCES;
use crate::http::{Request, parse_form};

/// What a request in order asks for.
pub struct Ask {
    pub(crate) version: String,
    pub(crate) resource: String,
    /// The identity it names.
    pub(crate) selector: Option<Selector>,
}

/// A name for an identity.
pub struct Selector {
    pub(crate) by: By,
    pub(crate) value: String,
}

/// The kinds of names that identities have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum By {
    Client,
    Object,
    Resource,
}

/// Why a request gets no token.
pub enum Denial {
    Path,
    /// It should have been this method.
    Method(&'static str),
    /// This header is missing or not what it must be.
    Header(&'static str),
    /// This header has a secret that is wrong.
    Secret(&'static str),
    /// It came through a proxy.
    Forwarded,
    Version,
    /// The parameters are not those of this endpoint.
    Parameters(String),
    NoResource,
    UnknownResource(String),
    UnknownIdentity,
    SeveralIdentities,
    /// It proves nothing yet; this `WWW-Authenticate`, if any, says what it takes.
    Unproven(Option<String>),
    /// Not the client's fault.
    Broken(String),
}

impl Denial {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Path => "Unknown Source".to_owned(),
            Self::Method(method) => format!("The method is not {method}"),
            Self::Header(name) => format!("Required header {name} not specified, or not as it must be"),
            Self::Secret(name) => format!("The value of header {name} is wrong"),
            Self::Forwarded => "A request with X-Forwarded-For is not served".to_owned(),
            Self::Version => "The api-version is missing or not supported".to_owned(),
            Self::Parameters(why) => why.clone(),
            Self::NoResource => "Required parameter resource not specified".to_owned(),
            Self::UnknownResource(resource) => {
                format!("AADSTS500011: The resource principal named {resource} was not found in the tenant")
            }
            Self::UnknownIdentity => "Identity not found".to_owned(),
            Self::SeveralIdentities => "Multiple user assigned identities exist, please specify the \
                                        clientId / resourceId of the identity in the token request"
                .to_owned(),
            Self::Unproven(_) => "Missing Basic Authorization header".to_owned(),
            Self::Broken(why) => why.clone(),
        }
    }
}

/// The form of a platform's requests.
pub(crate) struct Contract {
    /// `GET` has its parameters in the query, `POST` in a form.
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    /// None if there is no such parameter.
    pub(crate) versions: &'static [&'static str],
    pub(crate) selectors: &'static [(&'static str, By)],
}

impl Contract {
    /// Reads a request: each parameter known, none twice, at most one identity named.
    pub(crate) fn read(&self, request: &Request) -> Result<Ask, Denial> {
        let parameters = |why: &str| Denial::Parameters(why.to_owned());
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        if path != self.path {
            return Err(Denial::Path);
        }
        if request.method != self.method {
            return Err(Denial::Method(self.method));
        }
        let (text, stray) = if self.method == "GET" {
            (query.as_bytes(), request.body.as_slice())
        } else {
            if request.header("content-type") != Some("application/x-www-form-urlencoded") {
                return Err(Denial::Header("Content-Type"));
            }
            (request.body.as_slice(), query.as_bytes())
        };
        if !stray.is_empty() {
            return Err(parameters("There are parameters in the wrong place"));
        }
        let pairs = match text {
            [] => Vec::new(),
            _ => parse_form(text).ok_or_else(|| parameters("The parameters are malformed"))?,
        };
        let (mut version, mut resource, mut selector) = (None, None, None);
        for (i, (name, value)) in pairs.iter().enumerate() {
            if pairs[..i].iter().any(|(earlier, _)| earlier == name) {
                return Err(Denial::Parameters(format!("Parameter {name} occurs twice")));
            }
            match name.as_str() {
                "api-version" if !self.versions.is_empty() => version = Some(value.clone()),
                "resource" => resource = Some(value.clone()),
                _ => {
                    let known = self.selectors.iter().find(|(spelt, _)| spelt == name);
                    let (_, by) =
                        known.ok_or_else(|| Denial::Parameters(format!("Parameter {name} is unknown")))?;
                    if selector.replace(Selector { by: *by, value: value.clone() }).is_some() {
                        return Err(parameters("More than one identity is named"));
                    }
                }
            }
        }
        let version = version.unwrap_or_default();
        if !self.versions.is_empty() && !self.versions.contains(&version.as_str()) {
            return Err(Denial::Version);
        }
        let resource = resource.ok_or(Denial::NoResource)?;
        if !RESOURCES.iter().any(|known| known.id == resource) {
            return Err(Denial::UnknownResource(resource));
        }
        Ok(Ask { version, resource, selector })
    }
}

/// Wants `Metadata: true`, by which a request shows that its sender can set headers.
pub(crate) fn metadata(request: &Request) -> Result<(), Denial> {
    if request.header("metadata") == Some("true") { Ok(()) } else { Err(Denial::Header("Metadata")) }
}

/// Wants this secret in this header.
pub(crate) fn secret(request: &Request, name: &'static str, value: &str) -> Result<(), Denial> {
    match request.header(name) {
        Some(sent) if sent == value => Ok(()),
        Some(_) => Err(Denial::Secret(name)),
        None => Err(Denial::Header(name)),
    }
}
