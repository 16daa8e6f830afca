//! Each rule of "Whose identity" and of the single settings; the environment is a table, never the process's.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::*;

const A: &str = "aaaaaaaa-0000-0000-0000-000000000001";
const B: &str = "aaaaaaaa-0000-0000-0000-000000000002";

fn read(settings: &str, variables: &[(&str, &str)]) -> Result<Settings, Error> {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    let lookup = |name: &str| variables.get(name).map(OsString::from);
    Settings::read(settings, Environment::of(&lookup))
}

fn refused(settings: &str, variables: &[(&str, &str)]) -> String {
    let error = read(settings, variables).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error.message().to_string()
}

/// Tenant, client id and secret.
fn identity(settings: &str, variables: &[(&str, &str)]) -> (String, String, String) {
    let identity = read(settings, variables).unwrap().identity.expect("an identity");
    let proof = match &identity.proof {
        Proof::Secret(value) => value.as_str().to_string(),
        Proof::SecretFile { path, .. } => format!("file {}", path.display()),
    };
    (identity.tenant, identity.client_id, proof)
}

fn three(tenant: &str, client_id: &str, secret: &str) -> (String, String, String) {
    (tenant.into(), client_id.into(), secret.into())
}

const AZURE: [(&str, &str); 3] =
    [("AZURE_TENANT_ID", "az"), ("AZURE_CLIENT_ID", B), ("AZURE_CLIENT_SECRET", "az-s")];
const DB_SP: [(&str, &str); 3] =
    [("DB_SP_TENANT_ID", "sp"), ("DB_SP_CLIENT_ID", A), ("DB_SP_CLIENT_SECRET", "sp-s")];

#[test]
fn the_first_family_with_a_key_or_a_proof_supplies_the_identity() {
    let both = [AZURE, DB_SP].concat();
    assert_eq!(identity("", &AZURE), three("az", B, "az-s"));
    assert_eq!(identity("", &both), three("sp", A, "sp-s"));
    let given = format!("tenant_id=t client_id={B} client_secret=s");
    assert_eq!(identity(&given, &both), three("t", B, "s"));
    assert!(read("", &AZURE).unwrap().identity.unwrap().family == Family::Azure);
    assert!(!read("", &AZURE).unwrap().is_deliberate());
    assert!(read("", &DB_SP).unwrap().is_deliberate());
}

#[test]
fn later_families_fill_in_what_the_rules_allow() {
    // A tenant for anything.
    let no_tenant = [("PGAAD_CLIENT_ID", A), ("PGAAD_CLIENT_SECRET", "s")];
    assert_eq!(identity("", &[&AZURE[..1], &no_tenant].concat()), three("az", A, "s"));
    // A client id for a proof.
    assert_eq!(identity("", &[&AZURE[..2], &[("PGAAD_CLIENT_SECRET", "s")]].concat()), three("az", B, "s"));
    // A secret for a client id, from a family with the same client id or none.
    let own = [("PGAAD_CLIENT_ID", B)];
    assert_eq!(identity("", &[&AZURE[..], &own].concat()), three("az", B, "az-s"));
    let nameless = [("PGAAD_CLIENT_ID", A), ("AZURE_TENANT_ID", "az"), ("AZURE_CLIENT_SECRET", "s")];
    assert_eq!(identity("", &nameless), three("az", A, "s"));
    // Not another application's secret.
    let other = [&AZURE[..], &[("PGAAD_CLIENT_ID", A), ("PGAAD_TENANT_ID", "t")]].concat();
    assert!(refused("", &other).contains("client_secret (PGAAD_CLIENT_SECRET"), "{}", refused("", &other));
    // An earlier family's tenant overrides.
    assert_eq!(identity("tenant_id=mine", &AZURE), three("mine", B, "az-s"));
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    let empty =
        [("PGAAD_CLIENT_ID", ""), ("PGAAD_CLIENT_SECRET", ""), ("PGAAD_AUTH", ""), ("PGAAD_TIMEOUT_MS", "")];
    assert_eq!(identity("", &[&AZURE[..], &empty].concat()), three("az", B, "az-s"));
}

#[test]
fn each_missing_key_is_named_with_its_variables() {
    let message = refused("auth=client_secret", &[]);
    for name in
        ["PGAAD_TENANT_ID, DB_SP_TENANT_ID or AZURE_TENANT_ID", "PGAAD_CLIENT_ID", "PGAAD_CLIENT_SECRET"]
    {
        assert!(message.contains(name), "{message}");
    }
    let message = refused("", &[("DB_SP_CLIENT_ID", A), ("DB_SP_TENANT_ID", "t")]);
    assert!(
        message.contains("client_secret (PGAAD_CLIENT_SECRET") && !message.contains("tenant_id"),
        "{message}"
    );
    let message = refused("client_secret=hunter2", &[]);
    assert!(message.contains("tenant_id") && message.contains("client_id"), "{message}");
    assert!(!message.contains("hunter2"));
}

#[test]
fn an_incomplete_set_of_azure_variables_is_nothing_here() {
    let settings = read("", &AZURE[..2]).unwrap();
    assert!(settings.identity.is_none());
    assert!(settings.incomplete.unwrap().contains("client_secret"));
    assert!(refused("auth=client_secret", &AZURE[..2]).contains("client_secret"));
}

#[test]
fn contradictions_name_both_settings() {
    for (settings, variables, names) in [
        (
            "client_secret=s client_secret_file=/f client_id=x",
            vec![],
            ["client_secret", "client_secret_file"],
        ),
        ("", vec![("PGAAD_CLIENT_ID", A), ("PGAAD_OBJECT_ID", B)], ["PGAAD_CLIENT_ID", "PGAAD_OBJECT_ID"]),
        ("object_id=o client_secret=s", vec![], ["object_id", "client_secret"]),
        ("cloud=usgov authority_host=login.microsoftonline.com", vec![], ["cloud", "authority_host"]),
        ("cache_key_file=f cache_key=k", vec![], ["cache_key", "cache_key_file"]),
    ] {
        let message = refused(settings, &variables);
        assert!(names.iter().all(|name| message.contains(name)), "{message}");
    }
}

#[test]
fn malformed_values_are_refused_by_name() {
    for (settings, name) in [
        ("client_id=not-a-guid tenant_id=t client_secret=s", "client_id"),
        (&format!("client_id={A}0 tenant_id=t client_secret=s"), "client_id"),
        (&format!("client_id={A} tenant_id=a/b client_secret=s"), "tenant_id"),
        (&format!("client_id={A} tenant_id=a?b client_secret=s"), "tenant_id"),
        (&format!("client_id={A} tenant_id=a#b client_secret=s"), "tenant_id"),
        (&format!("client_id={A} tenant_id=a%2fb client_secret=s"), "tenant_id"),
        (&format!("client_id={A} tenant_id=.. client_secret=s"), "tenant_id"),
        ("authority_host=http://login.microsoftonline.com", "authority_host"),
        ("authority_host=http://localhost:8080", "authority_host"),
        ("cloud=germany", "cloud"),
        ("scope=https://x", "scope"),
        ("scope='https://x/.default openid'", "scope"),
        ("refresh_before_minutes=1441", "refresh_before_minutes"),
        ("refresh_before_minutes=-1", "refresh_before_minutes"),
        ("timeout_ms=0", "timeout_ms"),
        ("timeout_ms=1s", "timeout_ms"),
        ("cache=disk", "cache"),
        ("cache_key=c2hvcnQ=", "cache_key"),
        ("imds_host=169.254.169.254", "imds_host"),
        ("server_hosts=db.*.com", "server_hosts"),
        ("allow_plaintext=a*b", "allow_plaintext"),
        ("proxy=socks5://p:1", "proxy"),
        ("log=verbose", "log"),
        ("callback_thread=none", "callback_thread"),
        ("trust_environment=yes", "trust_environment"),
        ("auth=magic", "auth"),
    ] {
        assert!(refused(settings, &[]).contains(name), "{settings}: {}", refused(settings, &[]));
    }
    assert!(refused("clientid=x", &[]).contains("did you mean client_id?"));
    refused("client_id='unterminated", &[]);
}

#[test]
fn what_a_later_version_brings_says_so() {
    for (settings, variables) in [
        ("auth=managed_identity", vec![]),
        ("auth=client_certificate", vec![]),
        ("auth=workload_identity", vec![]),
        ("auth=azure_cli", vec![]),
        ("auth=azure_developer_cli", vec![]),
        ("auth=azure_pipelines", vec![]),
        ("auth=github_actions", vec![]),
        ("auth=callback", vec![]),
        ("cache=file", vec![]),
        ("cache=file:/var/cache/x", vec![]),
        ("cache=redis://localhost", vec![]),
        ("cache=rediss://localhost", vec![]),
        ("callback_thread=any", vec![]),
        ("client_certificate_password=p", vec![]),
        ("send_certificate_chain=true", vec![]),
        ("service_connection_id=s", vec![]),
        ("cache_key=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", vec![]),
        ("cache_key_file=/k", vec![]),
        ("cache_ca_file=/c", vec![]),
        ("", vec![("PGAAD_CACHE_ID", "i")]),
        ("object_id=o", vec![]),
        ("resource_id=/subscriptions/x", vec![]),
        ("", vec![("PGAAD_CLIENT_ID", A)]),
    ] {
        assert!(refused(settings, &variables).contains("later version"), "{}", refused(settings, &variables));
    }
}

#[test]
fn what_is_wrong_with_shared_variables_waits_until_a_token_is_wanted() {
    for (key, value, part) in [
        ("AZURE_CLIENT_CERTIFICATE_PATH", "/c.pem", "later version"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/t", "later version"),
        ("AZURE_CLIENT_SECRET", "s", "AZURE_TENANT_ID"),
        ("AZURE_AUTHORITY_HOST", "http://x", "AZURE_AUTHORITY_HOST"),
        ("HTTPS_PROXY", "socks5://p:1", "HTTPS_PROXY"),
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "x", "AZURE_POD_IDENTITY_AUTHORITY_HOST"),
    ] {
        let tenant = if part == "AZURE_TENANT_ID" { "a/b" } else { "t" };
        let variables = [("AZURE_TENANT_ID", tenant), ("AZURE_CLIENT_ID", A), (key, value)];
        let settings = read("", &variables).unwrap();
        let trouble = settings.trouble.as_ref().expect(key);
        assert!(trouble.message().contains(part), "{trouble}");
    }
}

#[test]
fn the_authority_and_the_cloud_go_together() {
    let of = |settings: &str| {
        let settings = read(settings, &[]).unwrap();
        (settings.cloud, settings.authority.to_string(), settings.cloud_is_fixed)
    };
    assert_eq!(of(""), (Cloud::Public, "https://login.microsoftonline.com".into(), false));
    assert_eq!(of("cloud=usgov"), (Cloud::UsGov, "https://login.microsoftonline.us".into(), true));
    assert_eq!(of("cloud=china"), (Cloud::China, "https://login.partner.microsoftonline.cn".into(), true));
    let chosen = of("authority_host=https://login.microsoftonline.us/");
    assert_eq!(chosen, (Cloud::UsGov, "https://login.microsoftonline.us".into(), true));
    assert_eq!(of("authority_host=login.chinacloudapi.cn cloud=china").0, Cloud::China);
    assert_eq!(of("authority_host=localhost:8443 cloud=usgov").1, "https://localhost:8443");
}

#[test]
fn a_named_auth_yields_to_an_identity_in_the_settings_string() {
    let off = [("PGAAD_AUTH", "off")];
    assert_eq!(read("", &off).unwrap().auth, Auth::Off);
    let given = format!("tenant_id=t client_id={A} client_secret=s");
    assert_eq!(read(&given, &off).unwrap().auth, Auth::Auto);
    assert_eq!(read("auth=default", &off).unwrap().auth, Auth::Chain);
}

#[test]
fn defaults_and_the_originals_names() {
    let settings = read("", &[]).unwrap();
    assert_eq!(settings.refresh_before, Duration::from_secs(300));
    assert_eq!(settings.timeout, Duration::from_secs(30));
    assert_eq!(settings.auth, Auth::Auto);
    let settings =
        read("", &[("DB_REFRESH_BEFORE_MINUTES", "7"), ("HTTPS_PROXY", "p:1"), ("NO_PROXY", "x")]).unwrap();
    assert_eq!(settings.refresh_before, Duration::from_secs(420));
    assert!(settings.proxy.as_ref().unwrap().url_for("x").is_none());
    assert!(settings.proxy.unwrap().url_for("y").is_some());
    assert_eq!(read("refresh_before_minutes=1440", &[]).unwrap().refresh_before, Duration::from_secs(86_400));
}

#[test]
fn the_secret_file_is_a_proof_like_the_secret() {
    let file = [("PGAAD_TENANT_ID", "t"), ("PGAAD_CLIENT_ID", A), ("PGAAD_CLIENT_SECRET_FILE", "/run/s")];
    assert_eq!(identity("", &[&AZURE[..], &file].concat()), three("t", A, "file /run/s"));
}

#[test]
fn text_that_is_not_utf8_is_an_invalid_argument() {
    let lookup = |name: &str| (name == "PGAAD_SCOPE").then(|| OsString::from_vec(vec![0xff]));
    let error = Settings::read("", Environment::of(&lookup)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().contains("PGAAD_SCOPE"));
}

#[test]
fn a_suspect_environment_is_not_read_unless_the_settings_vouch_for_it() {
    let lookup =
        |name: &str| AZURE.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
    let env = Environment::of(&lookup).secure();
    assert!(Settings::read("", env).unwrap().identity.is_none());
    assert!(Settings::read("trust_environment=on", env).unwrap().identity.is_some());
    assert!(!read("", &[("PGAAD_TRUST_ENVIRONMENT", "on")]).unwrap().trust_environment);
}

#[test]
fn debug_shows_no_secret() {
    let settings = format!("tenant_id=t client_id={A} client_secret=hunter2 proxy=http://u:hunter2@p");
    assert!(!format!("{:?}", read(&settings, &[])).contains("hunter2"));
}
