//! Azure Pipelines: an empty `POST` that names the service connection.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;

use serde_json::json;

use super::{answer, bearer, json_response, parameters, variables};
use crate::Emulator;
use crate::entra::{APP_ONE, State};
use crate::front::{Desk, Front};
use crate::http::{Request, Response};
use crate::issuer::PIPELINES_SUBJECT;
use crate::random;

/// The endpoint of one job, whose service connection is [`PIPELINES_SUBJECT`] and signs in as [`APP_ONE`].
pub struct Pipelines {
    front: Front,
    token: String,
}

/// The id of the service connection.
const CONNECTION: &str = "5e5e5e5e-0000-0000-0000-000000000001";

const PATH: &str = "/contoso/8a8a8a8a-0000-0000-0000-000000000001/_apis/distributedtask/hubs/build/plans/\
                    8a8a8a8a-0000-0000-0000-000000000002/jobs/8a8a8a8a-0000-0000-0000-000000000003/oidctoken";

impl Pipelines {
    /// Starts one, with a certificate of the token service's authority.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(emulator: &Emulator) -> Self {
        Self::try_start(emulator)
            .unwrap_or_else(|error| panic!("cannot start the Pipelines endpoint: {error}"))
    }

    fn try_start(emulator: &Emulator) -> io::Result<Self> {
        let token = random::text::<300>();
        let desk = Desk::new(Some(emulator.certificate()?));
        let (entra, secret, serving) =
            (Arc::clone(emulator.entra().state()), token.clone(), Arc::clone(&desk));
        let front = Front::start("pipelines", desk, move |request, fault| {
            let decide = |lifetime| decide(request, &secret, &entra, lifetime);
            answer(&serving, request, fault, "oidcToken", decide)
                .with("x-vss-e2eid", random::guid())
                .with("x-msedge-ref", format!("Ref A: {} Ref B: PGAAD Ref C: 0", random::text::<12>()))
        })?;
        Ok(Self { front, token })
    }

    /// Its faults, and what it has seen.
    pub fn front(&self) -> &Front {
        &self.front
    }

    /// What the agent sets for a task with the service connection, and the token that the pipeline maps into its step.
    pub fn env(&self) -> Vec<(String, OsString)> {
        variables([
            ("SYSTEM_OIDCREQUESTURI", format!("https://localhost:{}{PATH}", self.front.port())),
            ("SYSTEM_ACCESSTOKEN", self.token.clone()),
            ("AZURESUBSCRIPTION_CLIENT_ID", APP_ONE.client_id.to_owned()),
            ("AZURESUBSCRIPTION_TENANT_ID", APP_ONE.tenant.id.to_owned()),
            ("AZURESUBSCRIPTION_SERVICE_CONNECTION_ID", CONNECTION.to_owned()),
        ])
    }
}

fn decide(request: &Request, token: &str, entra: &State, lifetime: i64) -> Result<String, Response> {
    let refuse = |status, kind: &str, text: &str| {
        json_response(
            status,
            &json!({
                "$id": "1",
                "innerException": null,
                "message": text,
                "typeKey": kind,
                "errorCode": 0,
                "eventId": 3000,
            }),
        )
    };
    if request.target.split('?').next() != Some(PATH) {
        return Err(refuse(404, "VssControllerNotFoundException", "The controller was not found"));
    }
    if request.method != "POST" {
        let text = format!("The requested resource does not support http method '{}'.", request.method);
        return Err(refuse(405, "VssHttpMethodException", &text).with("Allow", "POST"));
    }
    if request.header("x-tfs-fedauthredirect") != Some("Suppress") {
        let host = request.header("host").unwrap_or("localhost");
        return Err(Response::new(302, "text/html", "<html><body>Object moved to sign-in</body></html>")
            .with("Location", format!("https://{host}/_signin?realm=contoso")));
    }
    if bearer(request) != Some(token) {
        return Err(Response::new(401, "text/html", "").with("WWW-Authenticate", "Bearer"));
    }
    if request.header("content-type") != Some("application/json") || !request.body.is_empty() {
        let text = "The request must be empty, and of type application/json";
        return Err(refuse(415, "UnsupportedMediaTypeException", text));
    }
    let list = parameters(request).map(|(_, list)| list).unwrap_or_default();
    let is = |name: &str, wanted: &str| list.iter().any(|(n, value)| n == name && value == wanted);
    if !is("api-version", "7.1") || list.iter().any(|(n, _)| n != "api-version" && n != "serviceConnectionId")
    {
        let text = "The parameters are not api-version=7.1 and serviceConnectionId";
        return Err(refuse(400, "VssInvalidParameterException", text));
    }
    if !is("serviceConnectionId", CONNECTION) {
        return Err(refuse(404, "ServiceEndpointNotFoundException", "The service connection was not found"));
    }
    Ok(entra.pipelines().assertion(PIPELINES_SUBJECT, lifetime))
}
