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
    let settings = read(settings, variables).unwrap();
    assert!(matches!(settings.identities.kind(), Ok(Kind::By(_))));
    let principal = settings.identities.principal(&["client_secret", "client_secret_file"]).unwrap();
    let (key, value) = principal.proof.expect("a proof");
    let file = if key == "client_secret_file" { "file " } else { "" };
    (principal.tenant, principal.client_id, format!("{file}{}", value.as_str()))
}

/// Why an identity cannot be made.
fn lacks(settings: &str, variables: &[(&str, &str)]) -> String {
    let lack = read(settings, variables).unwrap().identities.kind().err().expect("something is missing");
    let error = Error::from(lack);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error.message().to_string()
}

/// Whether it is a managed identity, and which.
fn managed(settings: &str, variables: &[(&str, &str)]) -> Option<Selector> {
    let settings = read(settings, variables).unwrap();
    assert!(matches!(settings.identities.kind(), Ok(Kind::ManagedIdentity)));
    settings.identities.managed().unwrap().selector
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
    assert!(!read("", &AZURE).unwrap().identities.is_deliberate());
    assert!(read("", &DB_SP).unwrap().identities.is_deliberate());
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
    assert!(lacks("", &other).contains("client_secret (PGAAD_CLIENT_SECRET"), "{}", lacks("", &other));
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
    let nothing = read("", &[]).unwrap().identities.principal(&["client_secret"]).unwrap_err();
    let message = Error::from(nothing).message().to_string();
    for name in
        ["PGAAD_TENANT_ID, DB_SP_TENANT_ID or AZURE_TENANT_ID", "PGAAD_CLIENT_ID", "PGAAD_CLIENT_SECRET"]
    {
        assert!(message.contains(name), "{message}");
    }
    let message = lacks("", &[("DB_SP_CLIENT_ID", A), ("DB_SP_TENANT_ID", "t")]);
    assert!(
        message.contains("client_secret (PGAAD_CLIENT_SECRET") && !message.contains("tenant_id"),
        "{message}"
    );
    let message = lacks("client_secret=hunter2", &[]);
    assert!(message.contains("tenant_id") && message.contains("client_id"), "{message}");
    assert!(!message.contains("hunter2"));
}

#[test]
fn an_incomplete_set_lacks_its_proof() {
    assert!(lacks("", &AZURE[..2]).contains("client_secret"));
}

#[test]
fn an_identity_without_a_proof_is_a_managed_one() {
    let file = [("AZURE_FEDERATED_TOKEN_FILE", "/t"), ("AZURE_TENANT_ID", "az")];
    assert_eq!(managed("", &[]), None);
    assert_eq!(managed("", &[("PGAAD_CLIENT_ID", A)]), Some(Selector::Client(A.into())));
    assert_eq!(managed(&format!("object_id={A}"), &AZURE), Some(Selector::Object(A.into())));
    let id = "/subscriptions/s/x";
    assert_eq!(managed(&format!("resource_id={id}"), &file), Some(Selector::Resource(id.into())));
    // The workload's token is for whichever client id is named.
    let named = read("", &[&file[..], &[("PGAAD_CLIENT_ID", A)]].concat()).unwrap();
    assert!(matches!(named.identities.kind(), Ok(Kind::By("federated_token_file"))));
}

#[test]
fn a_client_id_with_a_proof_beside_it_names_no_managed_identity() {
    let of = |variables: &[(&str, &str)]| read("", variables).unwrap().identities.managed().unwrap();
    assert_eq!(of(&AZURE).selector, None);
    assert_eq!(of(&DB_SP).selector, None);
    let mixed = of(&[&DB_SP[..], &AZURE[1..2]].concat());
    assert_eq!((mixed.selector, mixed.is_deliberate), (Some(Selector::Client(B.into())), false));
    assert_eq!(of(&[("PGAAD_CLIENT_ID", A), ("PGAAD_CLIENT_SECRET", "s")]).name, "PGAAD_CLIENT_ID");
}

#[test]
fn contradictions_name_both_settings() {
    for (settings, variables, names) in [
        ("cloud=usgov authority_host=login.microsoftonline.com", vec![], ["cloud", "authority_host"]),
        ("cache_key_file=f cache_key=k", vec![], ["cache_key", "cache_key_file"]),
    ] {
        let message = refused(settings, &variables);
        assert!(names.iter().all(|name| message.contains(name)), "{message}");
    }
}

#[test]
fn identities_that_contradict_each_other_name_both_settings() {
    for (settings, variables, names) in [
        (
            "client_secret=s client_secret_file=/f client_id=x",
            vec![],
            ["client_secret", "client_secret_file"],
        ),
        ("", vec![("PGAAD_CLIENT_ID", A), ("PGAAD_OBJECT_ID", B)], ["PGAAD_CLIENT_ID", "PGAAD_OBJECT_ID"]),
        ("object_id=o client_secret=s", vec![], ["object_id", "client_secret"]),
    ] {
        let message = lacks(settings, &variables);
        assert!(names.iter().all(|name| message.contains(name)), "{message}");
    }
}

#[test]
fn malformed_values_are_refused_by_name() {
    for (settings, name) in [
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
    ] {
        assert!(refused(settings, &[]).contains(name), "{settings}: {}", refused(settings, &[]));
    }
    assert!(refused("clientid=x", &[]).contains("did you mean client_id?"));
    refused("client_id='unterminated", &[]);
}

#[test]
fn malformed_ids_are_refused_by_name() {
    for (settings, name) in [
        ("client_id=not-a-guid tenant_id=t client_secret=s", "client_id"),
        (&format!("client_id={A}0 tenant_id=t client_secret=s"), "client_id"),
        (&format!("client_id={A} tenant_id=a/b client_secret=s"), "tenant_id"),
        (&format!("client_id={A} tenant_id=a?b client_secret=s"), "tenant_id"),
        (&format!("client_id={A} tenant_id=a#b client_secret=s"), "tenant_id"),
        (&format!("client_id={A} tenant_id=a%2fb client_secret=s"), "tenant_id"),
        (&format!("client_id={A} tenant_id=.. client_secret=s"), "tenant_id"),
        (&format!("client_id={A} tenant_id=--help client_secret=s"), "tenant_id"),
    ] {
        let identities = read(settings, &[]).unwrap().identities;
        let error = Error::from(identities.principal(&["client_secret"]).unwrap_err());
        assert!(error.kind() == ErrorKind::Config && error.message().contains(name), "{settings}: {error}");
    }
    for (settings, name) in
        [("client_id=vm", "client_id"), ("object_id=vm", "object_id"), ("resource_id=vm", "resource_id")]
    {
        let error = read(settings, &[]).unwrap().identities.managed().unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.message().contains(name), "{settings}: {error}");
    }
}

#[test]
fn a_shared_cache_is_a_directory_or_a_server() {
    let place = |settings: &str| read(settings, &[]).unwrap().cache.map(|cache| cache.place);
    assert_eq!(place("cache=memory"), None);
    assert_eq!(place(""), None);
    assert_eq!(place("cache=file"), Some(CachePlace::Directory(None)));
    assert_eq!(place("cache=file:/var/cache/x"), Some(CachePlace::Directory(Some("/var/cache/x".into()))));
    for url in ["redis://localhost", "rediss://a:1/2", "unix:///run/redis"] {
        assert!(matches!(place(&format!("cache={url}")), Some(CachePlace::Redis(_))), "{url}");
    }
    assert!(refused("cache=file:cache", &[]).contains("absolute"));
}

#[test]
fn the_key_of_the_first_family_counts() {
    let (long, bytes) = ("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", b"01234567890123456789012345678901");
    let key = |settings: &str, variables: &[(&str, &str)]| {
        let cache = read(&format!("cache=file {settings}"), variables).unwrap().cache.unwrap();
        cache.key().map(|key| key.map(|key| key.to_vec()))
    };
    assert_eq!(key("", &[]), Ok(None));
    assert_eq!(key("", &[("PGAAD_CACHE_KEY", long)]), Ok(Some(bytes.to_vec())));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{long}\n")).unwrap();
    let path = file.path().to_str().unwrap();
    let other = [("PGAAD_CACHE_KEY", "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=")];
    assert_eq!(key(&format!("cache_key_file={path}"), &other), Ok(Some(bytes.to_vec())));
    std::fs::write(file.path(), "c2hvcnQ=").unwrap();
    assert!(key(&format!("cache_key_file={path}"), &[]).unwrap_err().message().contains("32 bytes"));
    assert!(key("cache_key_file=/nonexistent", &[]).unwrap_err().message().contains("/nonexistent"));
}

#[test]
fn what_is_wrong_with_shared_variables_waits_until_a_token_is_wanted() {
    for (key, value) in [
        ("AZURE_AUTHORITY_HOST", "http://x"),
        ("HTTPS_PROXY", "socks5://p:1"),
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "x"),
        ("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", "perhaps"),
    ] {
        let settings = read("", &[(key, value)]).unwrap();
        let trouble = settings.trouble.as_ref().expect(key);
        assert!(trouble.message().contains(key), "{trouble}");
    }
}

#[test]
fn switches_are_read_as_other_sdks_spell_them() {
    for (value, on) in
        [("true", true), ("1", true), ("True", true), ("false", false), ("0", false), ("off", false)]
    {
        let settings = read("", &[("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", value)]).unwrap();
        assert_eq!((settings.send_certificate_chain, settings.trouble), (on, None), "{value}");
    }
    assert!(refused("send_certificate_chain=perhaps", &[]).contains("send_certificate_chain"));
}

#[test]
fn the_metadata_services_host_has_a_scheme_and_no_slash_at_the_end() {
    for (value, host) in [
        ("http://127.0.0.1:8080/", Some("http://127.0.0.1:8080")),
        ("http://[::1]:80", Some("http://[::1]:80")),
        ("127.0.0.1", None),
        ("http://a/b", None),
        ("http://a:99999", None),
        ("http://u@a", None),
    ] {
        let settings = read(&format!("imds_host={value}"), &[]);
        assert_eq!(settings.ok().and_then(|settings| settings.imds_host).as_deref(), host, "{value}");
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
    assert_eq!(
        Settings::read_for_callback(
            "",
            Environment::of(&|name| (name == "PGAAD_AUTH").then(|| "off".into()))
        )
        .unwrap()
        .auth,
        Auth::Callback
    );
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
    let reads = |settings: &str| {
        let identities = Settings::read(settings, env).unwrap().identities;
        identities.principal(&["client_secret"]).is_ok()
    };
    assert!(!reads("") && reads("trust_environment=on"));
    assert!(!read("", &[("PGAAD_TRUST_ENVIRONMENT", "on")]).unwrap().trust_environment);
}

#[test]
fn debug_shows_no_secret() {
    let settings = format!("tenant_id=t client_id={A} client_secret=hunter2 proxy=http://u:hunter2@p");
    assert!(!format!("{:?}", read(&settings, &[])).contains("hunter2"));
}
