//! TLS to the token service: whom the secret is sent to.

use std::path::Path;

use emulator::{Certificate, Emulator, Fault, PATIENCE};

use crate::harness::signed_in;

const GET: &[&str] = &["get_token"];

/// No request was sent, and nothing was tried a second time.
#[track_caller]
fn assert_nothing_sent(emulator: &Emulator) {
    assert!(emulator.entra().wait_until(|c| c.failed_handshakes > 0, PATIENCE), "the handshake did not fail");
    let counters = emulator.entra().counters();
    assert_eq!((counters.connections, counters.requests), (1, 0));
}

#[test]
fn a_certificate_that_does_not_fit_is_refused_before_anything_is_sent() {
    for (certificate, words) in [
        (Certificate::Stranger, &["certificate", "root", "PGAAD_CA_FILE"][..]),
        (Certificate::WrongName, &["certificate", "localhost", "elsewhere.example"]),
        (Certificate::Expired, &["certificate", "expired"]),
    ] {
        let emulator = Emulator::start_with(certificate);
        let line = signed_in(&emulator).one(GET);
        assert_eq!(line.status(), "PGAAD_NETWORK", "{certificate:?}: {line:?}");
        assert!(line.errmsg().contains(&emulator.authority()), "{certificate:?}: {line:?}");
        assert!(
            words.iter().all(|word| line.errmsg().contains(word)),
            "{certificate:?}, {words:?}: {line:?}"
        );
        assert_nothing_sent(&emulator);
    }
}

#[test]
fn without_a_root_for_it_the_service_is_a_stranger() {
    let emulator = Emulator::start();
    let line = signed_in(&emulator).without("PGAAD_CA_FILE").one(GET);
    assert_eq!(line.status(), "PGAAD_NETWORK", "{line:?}");
    assert!(line.errmsg().contains("PGAAD_CA_FILE"), "{line:?}");
    assert_nothing_sent(&emulator);
}

#[test]
fn the_roots_of_a_file_count_beside_the_others() {
    let dir = tempfile::tempdir().expect("a folder");
    let emulator = Emulator::start_with(Certificate::Stranger);
    // Two roots in one file, with text around them as bundles have it.
    let read = |path: &Path| std::fs::read_to_string(path).expect("a file");
    let both = dir.path().join("both.pem");
    let text =
        format!("# ours\n{}\nand theirs\n{}", read(emulator.ca_file()), read(emulator.stranger_ca_file()));
    std::fs::write(&both, text).expect("a file");
    for path in [emulator.stranger_ca_file(), &both] {
        let line = signed_in(&emulator).env("PGAAD_CA_FILE", path).one(GET);
        assert_eq!(line.status(), "PGAAD_OK", "{}: {line:?}", path.display());
    }
    // By a settings string as well.
    let settings = format!("ca_file='{}'", both.display());
    let driver = signed_in(&emulator).without("PGAAD_CA_FILE");
    let line = driver.run(&[&["new", &settings], &["client_get_token", "-1"]]).pop().expect("a line");
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
}

#[test]
fn the_systems_bundle_counts_where_the_other_roots_do_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let emulator = Emulator::start();
    let driver = signed_in(&emulator).without("PGAAD_CA_FILE");
    // As bundles may, this one holds something that cannot be read.
    let bundle = dir.path().join("bundle.pem");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let good = std::fs::read_to_string(emulator.ca_file()).expect("a file");
    std::fs::write(&bundle, format!("{broken}{good}")).expect("a file");
    for path in [emulator.ca_file(), &bundle] {
        let line = driver.clone().env("SSL_CERT_FILE", path).one(GET);
        assert_eq!(line.status(), "PGAAD_OK", "{}: {line:?}", path.display());
    }
    // The bundle does not take the place of ca_file, nor the other way round.
    let both = driver.clone().env("SSL_CERT_FILE", emulator.stranger_ca_file());
    let line = both.clone().env("PGAAD_CA_FILE", emulator.ca_file()).one(GET);
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    let swapped = driver.clone().env("SSL_CERT_FILE", emulator.ca_file());
    let line = swapped.env("PGAAD_CA_FILE", emulator.stranger_ca_file()).one(GET);
    assert_eq!(line.status(), "PGAAD_OK", "{line:?}");
    let requests = emulator.entra().counters().requests;
    for path in [emulator.stranger_ca_file(), Path::new("/nonexistent/bundle.pem")] {
        let line = driver.clone().env("SSL_CERT_FILE", path).one(GET);
        assert_eq!(line.status(), "PGAAD_NETWORK", "{}: {line:?}", path.display());
    }
    assert_eq!(emulator.entra().counters().requests, requests);
}

#[test]
fn ca_file_does_not_excuse_a_wrong_name() {
    let emulator = Emulator::start_with(Certificate::WrongName);
    let driver = signed_in(&emulator).env("SSL_CERT_FILE", emulator.ca_file());
    assert_eq!(driver.one(GET).status(), "PGAAD_NETWORK");
    assert_eq!(emulator.entra().counters().requests, 0);
}

#[test]
fn what_does_not_speak_tls_gets_no_secret() {
    let emulator = Emulator::start();
    emulator.entra().faults().always(Fault::garbage().before_tls());
    let line = signed_in(&emulator).one(GET);
    assert!(["PGAAD_NETWORK", "PGAAD_PROTOCOL"].contains(&line.status()), "{line:?}");
    assert!(line.errmsg().contains("TLS"), "{line:?}");
    assert_eq!(emulator.entra().counters().requests, 0);
}
