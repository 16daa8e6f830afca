//! What Entra's error codes mean for the person who reads them
//! (Microsoft Learn: "Microsoft Entra authentication and authorization error codes").

/// Codes for which the service itself says: try again.
const TRANSIENT: [u32; 8] = [90033, 90006, 90012, 90024, 90090, 50033, 50087, 90055];

/// Whether another try may help.
pub(super) fn is_transient(code: u32) -> bool {
    TRANSIENT.contains(&code)
}

/// Codes that speak of the proof, not of the application as a whole.
pub(super) fn is_about_the_proof(code: u32) -> bool {
    matches!(code, 7000215 | 7000222 | 700024 | 700027 | 50012 | 50013 | 50027 | 500133)
}

/// Codes that are the same for all who show the same proof. Others may be one machine's own: its address, its clock.
pub(super) fn holds_everywhere(code: u32) -> bool {
    matches!(code, 7000215 | 7000222 | 7000218 | 700016 | 700025 | 7000112 | 90002 | 900023 | 700027 | 500011)
}

/// What to do. `{proof}` stands for the setting that holds the secret.
pub(super) fn hint(code: u32) -> Option<&'static str> {
    Some(match code {
        7000215 => {
            "Check {proof}: it takes the secret's value, not its ID, whole and without any re-encoding."
        }
        7000222 => {
            "Make a new secret for the application and put its value into {proof}; a managed identity needs none."
        }
        7000218 => "Set a client secret (PGAAD_CLIENT_SECRET).",
        700016 => {
            "Check PGAAD_CLIENT_ID and PGAAD_TENANT_ID: the application is not in this tenant, or is in another cloud."
        }
        700025 => "Use an app registration that has credentials: a public client may present no secret.",
        7000112 | 70001 => "An administrator must enable the application, or its id is wrong.",
        90002 => {
            "Check PGAAD_TENANT_ID, and PGAAD_CLOUD or PGAAD_AUTHORITY_HOST if the tenant is in another cloud."
        }
        900023 => "Check PGAAD_TENANT_ID: it takes a GUID or a domain name.",
        9001023 => "Set PGAAD_TENANT_ID to one tenant: its GUID or a domain name.",
        50049 => "Check PGAAD_AUTHORITY_HOST.",
        90038 | 900382 | 900432 => "The tenant is in another cloud: set PGAAD_CLOUD.",
        500011 => "Check PGAAD_SCOPE and PGAAD_CLOUD: the tenant does not know that resource in this cloud.",
        50001 | 70011 => "Check PGAAD_SCOPE: it takes <resource>/.default.",
        900144 | 9002313 => {
            "A setting is damaged, or this is a bug in pgaad: report it with the correlation id."
        }
        100007 => "Unset AZURE_REGIONAL_AUTHORITY_NAME: regional endpoints are not for this application.",
        700027 => {
            "Key and certificate must belong together, and the certificate must be registered with the application."
        }
        700021 => "The assertion was made for another application than PGAAD_CLIENT_ID.",
        700023 => "Check PGAAD_AUTHORITY_HOST and PGAAD_SCOPE.",
        700024 => "Check this machine's clock, and whether the token file is still renewed.",
        700030 => "The application trusts another certificate subject or issuer.",
        50012 | 50013 | 50027 | 500133 => {
            "Renew the certificate or token file, and check this machine's clock."
        }
        70021 | 700211 | 700212 | 700213 => {
            "Compare issuer, subject and audience of the token with the application's federated credential; \
             a new one takes minutes to spread."
        }
        700229 => "Use an application's token as federated credential, not a user's.",
        53003 | 530032 | 530035 | 53000 | 53001 => {
            "A Conditional Access policy of the tenant refuses this program: show its administrator the trace id."
        }
        50034 => "Check user and tenant: the account is not in this directory.",
        50020 => "Invite the account to this tenant, or set its own tenant.",
        65001 => "An administrator must consent to the application's permissions.",
        50076 | 50079 => "Sign in again with a second factor.",
        50173 | 70043 | 700082 => "Sign in again.",
        50196 => "The same token was asked for too often: share one client between the callers.",
        _ => return None,
    })
}
