//! The files are made by OpenSSL, as a user would make them; forms that it does not write are built by hand.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::sync::LazyLock;

use ring::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};

use super::asn1::{Reader, Tag, Values};
use super::unlock::{Password, Purpose};
use super::*;

const PASSWORD: &str = "p\u{e4}ss \u{1f511}";
const OURS: &str = "-inkey key -in certificate";

/// What OpenSSL made, by name. `key` and `certificate` are ours, `mid` and `root` issued it, `other` is not.
static FILES: LazyLock<HashMap<String, Vec<u8>>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let openssl = |arguments: &str| {
        let arguments = arguments.split_whitespace().map(|word| word.replace("PASSWORD", PASSWORD));
        let done = Command::new("openssl")
            .args(arguments.clone())
            .current_dir(folder.path())
            .output()
            .expect("openssl starts");
        let words: Vec<_> = arguments.collect();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("text")
    };
    let ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for line in [
        "genrsa -out key 2048".to_owned(),
        format!("req -x509 {ec} -keyout root.key -out root -subj /CN=Root"),
        format!("req -new {ec} -keyout mid.key -out mid.csr -subj /CN=Mid"),
        "x509 -req -in mid.csr -CA root -CAkey root.key -CAcreateserial -out mid".to_owned(),
        "req -new -key key -out certificate.csr -subj /CN=Leaf".to_owned(),
        "x509 -req -in certificate.csr -CA mid -CAkey mid.key -CAcreateserial -days 30 -out certificate"
            .to_owned(),
        "x509 -req -in certificate.csr -CA mid -CAkey mid.key -CAcreateserial -days 60 -out renewed"
            .to_owned(),
        "req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other -subj /CN=Other".to_owned(),
    ] {
        openssl(&line);
    }
    fs::write(folder.path().join("issuers"), [read(&folder, "root"), read(&folder, "mid")].concat())
        .expect("a file");
    for (options, name) in [
        ("", "default"),
        ("-v2 aes-128-cbc -v2prf hmacWithSHA1 -iter 10", "aes128-sha1"),
        ("-v2 aes-256-cbc -v2prf hmacWithSHA384 -iter 10", "aes256-sha384"),
        ("-v2 aes-256-cbc -v2prf hmacWithSHA512 -iter 10", "aes256-sha512"),
        ("-v2 des3 -v2prf hmacWithSHA1 -iter 10", "des3"),
        ("-scrypt -scrypt_N 1024", "scrypt"),
        ("-v1 PBE-SHA1-3DES", "pbe-3des"),
        ("-v2 aes-192-cbc", "aes192"),
        ("-v2 aes-256-cbc -v2prf hmacWithSHA224", "sha224"),
        ("-v1 PBE-MD5-DES -provider legacy -provider default", "md5-des"),
        ("-outform DER", "default.der"),
    ] {
        openssl(&format!("pkcs8 -topk8 -in key -passout pass:PASSWORD {options} -out key.{name}"));
    }
    for (parts, password, options, name) in [
        (OURS, "PASSWORD", "-certfile issuers -name Me", "default"),
        (OURS, "PASSWORD", "-certfile issuers -iter 10", "fast"),
        (OURS, "PASSWORD", "-legacy -iter 10", "legacy"),
        (OURS, "PASSWORD", "-keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1 -iter 10", "3des"),
        (OURS, "PASSWORD", "-legacy -keypbe PBE-SHA1-RC2-128 -certpbe PBE-SHA1-RC2-40 -iter 10", "rc2"),
        (OURS, "PASSWORD", "-macalg sha384 -iter 10", "sha384"),
        (OURS, "PASSWORD", "-macalg sha512 -nomaciter -iter 10", "sha512"),
        (OURS, "PASSWORD", "-nomac -iter 10", "nomac"),
        (OURS, "", "-iter 10", "empty"),
        (OURS, "", "-iter 10 -legacy", "empty-legacy"),
        (OURS, "", "-keypbe NONE -certpbe NONE -nomac", "open"),
        (OURS, "", "-keypbe NONE -certpbe NONE -iter 10", "mac-only"),
        (OURS, "PASSWORD", "-keypbe PBE-SHA1-RC4-128 -legacy", "rc4"),
        (OURS, "PASSWORD", "-macalg md5", "md5"),
        ("-inkey other.key -nocerts", "", "-keypbe NONE -nomac", "other"),
        ("-in certificate -nokeys", "PASSWORD", "", "nokeys"),
        ("-inkey key -nocerts", "PASSWORD", "", "nocerts"),
    ] {
        openssl(&format!("pkcs12 -export {parts} -passout pass:{password} {options} -out p12.{name}"));
    }
    for line in [
        "rsa -in key -traditional -out key.pkcs1",
        "rsa -in key -traditional -aes128 -passout pass:PASSWORD -out key.old",
        "x509 -in certificate -trustout -out certificate.trusted",
        "x509 -in certificate -outform DER -out certificate.der",
        "x509 -in mid -outform DER -out mid.der",
        "x509 -in root -outform DER -out root.der",
        "pkey -in key -outform DER -out key.der",
        "rsa -in key -traditional -outform DER -out key.pkcs1.der",
        "rsa -in key -RSAPublicKey_out -outform DER -out public.der",
        "crl2pkcs7 -nocrl -certfile certificate -outform DER -out p7b.der",
        "ec -in root.key -out ec.key",
        "req -x509 -newkey ed25519 -nodes -keyout ed25519.key -out ed25519 -subj /CN=Ed25519",
        "req -x509 -newkey rsa-pss -nodes -keyout pss.key -out pss -subj /CN=Pss",
        "req -x509 -newkey rsa:1024 -nodes -keyout 1024.key -out 1024 -subj /CN=1024",
        "req -x509 -newkey rsa:2560 -nodes -keyout 2560.key -out 2560 -subj /CN=2560",
        "req -x509 -newkey rsa:4096 -nodes -keyout 4096.key -out 4096 -subj /CN=4096",
        "req -x509 -newkey rsa:2048 -pkeyopt rsa_keygen_pubexp:3 -nodes -keyout e3.key -out e3 -subj /CN=e3",
    ] {
        openssl(line);
    }
    let mut files: HashMap<_, _> = fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .map(|name| (name.clone(), read(&folder, &name)))
        .collect();
    for (name, question) in [
        ("begins", "x509 -in certificate -noout -startdate -dateopt iso_8601"),
        ("ends", "x509 -in certificate -noout -enddate -dateopt iso_8601"),
        ("fingerprint", "x509 -in certificate -noout -fingerprint -sha256"),
    ] {
        let answer = openssl(question);
        files.insert(name.to_owned(), answer.split_once('=').expect("a value").1.trim().into());
    }
    // A MAC by no password, which is not an empty one. The command can't make it, but reads it.
    fs::write(folder.path().join("p12.null"), with_mac_of_none(&files["p12.mac-only"])).expect("a file");
    openssl("pkcs12 -in p12.null -passin pass: -noout");
    files.insert("p12.null".to_owned(), read(&folder, "p12.null"));
    files
});

fn read(folder: &tempfile::TempDir, name: &str) -> Vec<u8> {
    fs::read(folder.path().join(name)).expect("a file")
}

fn files(names: &[&str]) -> Vec<u8> {
    names.iter().flat_map(|name| FILES[*name].clone()).collect()
}

/// A moment at which the certificates are good.
fn now() -> i64 {
    crate::os::unix_now()
}

fn open(bytes: &[u8], password: &str) -> Result<Certificate, String> {
    Certificate::read(bytes, Some(&Secret::new(password)), now())
}

/// Replaces the MAC of an unencrypted file with an empty password by one of a file without a password.
fn with_mac_of_none(file: &[u8]) -> Vec<u8> {
    let parts = || -> Result<_, Trouble> {
        let mut fields = asn1::sequence(file)?;
        fields.tlv_bytes()?;
        let mut content = asn1::inside(&mut fields, Tag::Sequence)?;
        content.tlv_bytes()?;
        let safes = asn1::value(&mut asn1::inside(&mut content, asn1::context(0))?, Tag::OctetString)?;
        let mut mac = asn1::inside(&mut fields, Tag::Sequence)?;
        let mut digest = asn1::inside(&mut mac, Tag::Sequence)?;
        digest.tlv_bytes()?;
        let digest = asn1::value(&mut digest, Tag::OctetString)?;
        let salt = asn1::value(&mut mac, Tag::OctetString)?;
        let rounds = mac.decode()?;
        let key = Password::new(None).pkcs12_key(&ring::digest::SHA256, Purpose::Mac, salt, rounds, 32)?;
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
        Ok((digest, ring::hmac::sign(&key, safes)))
    };
    let Ok((old, new)) = parts() else { panic!("OpenSSL's file has all parts") };
    let at = file.windows(old.len()).position(|window| window == old).expect("it is there");
    [&file[..at], new.as_ref(), &file[at + old.len()..]].concat()
}

/// A value of ASN.1.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u32::try_from(content.len()).expect("a length").to_be_bytes();
    let length = match content.len() {
        0..128 => length[3..].to_vec(),
        _ => {
            let digits = &length[length.iter().take_while(|digit| **digit == 0).count()..];
            [&[0x80 | u8::try_from(digits.len()).expect("few")], digits].concat()
        }
    };
    [&[tag][..], &length, &content].concat()
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der)).into()
}

/// An OBJECT IDENTIFIER.
fn oid(text: &str) -> Vec<u8> {
    tlv(6, &[asn1::oid(text).as_bytes()])
}

/// An encrypted key that asks for this derivation.
fn key_by(derivation: &str, parameters: &[&[u8]]) -> Vec<u8> {
    let salt = tlv(4, &[b"saltsalt"]);
    let derivation = tlv(0x30, &[&oid(derivation), &tlv(0x30, &[&[&salt[..]], parameters].concat())]);
    let cipher = tlv(0x30, &[&oid("2.16.840.1.101.3.4.1.42"), &tlv(4, &[&[0; 16]])]);
    let algorithm = tlv(0x30, &[&oid("1.2.840.113549.1.5.13"), &tlv(0x30, &[&derivation, &cipher])]);
    pem("ENCRYPTED PRIVATE KEY", &tlv(0x30, &[&algorithm, &tlv(4, &[&[0; 32]])]))
}

/// A PKCS#12 file without a MAC, of these safes.
fn pkcs12_of(safes: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &[&[2, 1, 3], &data(&tlv(0x30, safes))])
}

/// ContentInfo of data.
fn data(content: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&oid("1.2.840.113549.1.7.1"), &tlv(0xa0, &[&tlv(4, &[content])])])
}

/// The safes of a file without a MAC.
fn safes(name: &str) -> Vec<u8> {
    let parts = || -> Result<_, Trouble> {
        let mut fields = asn1::sequence(&FILES[name])?;
        fields.tlv_bytes()?;
        let mut content = asn1::inside(&mut fields, Tag::Sequence)?;
        content.tlv_bytes()?;
        let safes = asn1::value(&mut asn1::inside(&mut content, asn1::context(0))?, Tag::OctetString)?;
        asn1::value(&mut Values::new(safes)?, Tag::Sequence)
    };
    parts().unwrap_or_else(|_| panic!("{name}")).to_vec()
}

/// PEM text that people's tools write around and between, in this order of names.
fn decorated(names: &[&str], line_end: &str) -> Vec<u8> {
    let mut text =
        b"\xef\xbb\xbfBag Attributes\n    friendlyName: M\xe9\nKey Attributes: <No Attributes>\n".to_vec();
    for name in names {
        text.extend(b"subject=CN = Leaf\n\n");
        text.extend(&FILES[*name]);
        text.extend(b"-----BEGIN X509 CRL-----\n!\n-----END X509 CRL-----\n");
    }
    String::from_utf8_lossy(&text).replace('\n', line_end).into()
}

/// Everything that can be read: a name, the bytes, and how many certificates there are in the chain.
fn readable() -> Vec<(&'static str, Vec<u8>, usize)> {
    let with_certificate = |name| (name, files(&[name, "certificate"]), 1);
    let file = |name, links| (name, files(&[name]), links);
    let mut rows = Vec::from([
        "key",
        "key.pkcs1",
        "key.default",
        "key.aes128-sha1",
        "key.aes256-sha384",
        "key.aes256-sha512",
        "key.des3",
        "key.scrypt",
        "key.pbe-3des",
    ])
    .into_iter()
    .map(with_certificate)
    .collect::<Vec<_>>();
    rows.extend([
        ("certificate first", files(&["certificate", "key"]), 1),
        ("trusted", files(&["certificate.trusted", "key"]), 1),
        ("issuers, any order", files(&["root", "certificate", "key", "mid"]), 3),
        ("issuers but the first", files(&["root", "certificate", "key"]), 1),
        ("issuer and no root", files(&["mid", "certificate", "key"]), 2),
        ("somebody else's first", files(&["other", "root", "mid", "key", "certificate"]), 3),
        ("somebody else's key", files(&["other.key", "key", "certificate"]), 1),
        ("a key that is not RSA", files(&["ec.key", "root.key", "certificate", "key"]), 1),
        ("all twice", files(&["key", "certificate", "mid", "key", "certificate", "mid"]), 2),
        ("text around", decorated(&["mid", "key", "certificate"], "\n"), 2),
        ("Windows", decorated(&["certificate", "key.default"], "\r\n"), 1),
        ("old Mac", decorated(&["certificate", "key"], "\r"), 1),
        file("p12.default", 3),
        file("p12.fast", 3),
        file("p12.legacy", 1),
        file("p12.3des", 1),
        file("p12.rc2", 1),
        file("p12.sha384", 1),
        file("p12.sha512", 1),
        file("p12.nomac", 1),
        file("p12.open", 1),
        ("p12, somebody else's key", pkcs12_of(&[&safes("p12.other"), &safes("p12.open")]), 1),
    ]);
    rows
}

#[test]
fn every_form_is_read() {
    for (name, bytes, links) in readable() {
        let certificate = open(&bytes, PASSWORD).unwrap_or_else(|error| panic!("{name}: {error}"));
        let chain = ["certificate.der", "mid.der", "root.der"].map(|name| STANDARD.encode(&FILES[name]));
        assert_eq!(certificate.chain(), chain[..links], "{name}");
        let thumbprint: String = URL_SAFE_NO_PAD
            .decode(certificate.thumbprint())
            .expect("base64")
            .iter()
            .map(|byte| format!("{byte:02X}:"))
            .collect();
        assert_eq!(thumbprint.trim_end_matches(':').as_bytes(), FILES["fingerprint"], "{name}");
        let signature = certificate.sign_ps256(b"message").expect("a signature");
        let public = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &FILES["public.der"]);
        public.verify(b"message", &signature).expect(name);
        public.verify(b"massage", &signature).expect_err(name);
        assert_ne!(signature, certificate.sign_ps256(b"message").expect("a signature"), "a salt each time");
        assert_eq!(format!("{certificate:?}"), format!("Certificate({})", certificate.thumbprint()));
    }
}

#[test]
fn a_password_may_be_empty_absent_or_not_needed() {
    for name in ["p12.empty", "p12.empty-legacy", "p12.open", "p12.mac-only", "p12.null"] {
        for password in [None, Some(Secret::new(""))] {
            let done = Certificate::read(&FILES[name], password.as_ref(), now());
            done.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
    for password in ["", "unused"] {
        open(&files(&["key", "certificate"]), password).expect("the key is not encrypted");
        open(&FILES["p12.open"], password).expect("nothing is encrypted");
    }
}

#[test]
fn a_wrong_password_is_told_from_none_and_from_damage() {
    let wrong = "does not open with the password in client_certificate_password \
                 (PGAAD_CLIENT_CERTIFICATE_PASSWORD). Check the password";
    let missing = "needs a password. Set client_certificate_password (PGAAD_CLIENT_CERTIFICATE_PASSWORD)";
    let mut locked = readable();
    locked.retain(|(_, bytes, _)| open(bytes, "unused").is_err());
    assert_eq!(locked.len(), 16, "{:?}", locked.iter().map(|row| row.0).collect::<Vec<_>>());
    for (name, bytes, _) in locked {
        for password in ["wrong", "pass", &PASSWORD.to_uppercase()] {
            assert_eq!(open(&bytes, password).unwrap_err(), wrong, "{name}");
        }
        assert_eq!(open(&bytes, "").unwrap_err(), missing, "{name}");
        assert_eq!(Certificate::read(&bytes, None, now()).unwrap_err(), missing, "{name}");
        let cut = &bytes[..bytes.len() * 3 / 4];
        assert_eq!(open(cut, PASSWORD).unwrap_err(), DAMAGED, "{name}");
    }
    assert_eq!(open(&FILES["p12.empty"], "unused").unwrap_err(), wrong);
}

/// One in 256 leaves an end that looks like padding.
#[test]
fn no_wrong_password_looks_like_damage() {
    let bytes = files(&["key.aes128-sha1", "certificate"]);
    for number in 0..1000 {
        let error = open(&bytes, &number.to_string()).unwrap_err();
        assert!(error.starts_with("does not open with the password"), "{number}: {error}");
    }
}

#[test]
fn what_can_not_be_used_is_refused_with_what_to_do() {
    const PKCS8: &str = "`openssl pkcs8 -topk8 -in OLD.pem -out NEW.pem`";
    const PKCS12: &str = "`openssl pkcs12 -in OLD.pfx -out NEW.pem -nodes`";
    let with_certificate = |key: &[u8]| [key, &FILES["certificate"]].concat();
    let long = tlv(0x30, &[&[2, 1, 0], &tlv(2, &[&[1; 1000]]), &[2, 3, 1, 0, 1]]);
    let pbkdf2 = "1.2.840.113549.1.5.12";
    let scrypt = "1.3.6.1.4.1.11591.4.11";
    let rows: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("nothing", vec![], &["is empty"]),
        ("blanks", b"\n \n".to_vec(), &["is empty"]),
        ("text", b"secret".to_vec(), &["is neither PEM nor PKCS#12"]),
        ("zeroes", vec![0; 4096], &["is neither PEM nor PKCS#12"]),
        ("PKCS#7", files(&["p7b.der"]), &["is neither PEM nor PKCS#12"]),
        ("JKS", b"\xfe\xed\xfe\xed\0\0\0\x02".to_vec(), &["is a Java keystore", "`keytool -importkeystore"]),
        (
            "JCEKS",
            b"\xce\xce\xce\xce\0\0\0\x02".to_vec(),
            &["is a Java keystore", "`keytool -importkeystore"],
        ),
        ("BER", b"\x30\x80\x02\x01\x03".to_vec(), &["is in BER form", PKCS12]),
        ("base64", STANDARD.encode(&FILES["p12.open"]).into(), &["is base64", "`base64 -d"]),
        (
            "certificate.der",
            files(&["certificate.der"]),
            &["is a certificate in DER form", "`openssl x509 -inform DER"],
        ),
        ("key.der", files(&["key.der"]), &["is a private key in DER form", "`openssl pkey -inform DER"]),
        ("key.pkcs1.der", files(&["key.pkcs1.der"]), &["is a private key in DER form"]),
        ("key.default.der", files(&["key.default.der"]), &["is a private key in DER form"]),
        ("PEM of nothing", files(&["mid.csr"]), &["holds no certificate and no private key"]),
        ("no key", files(&["certificate", "mid"]), &["holds no private key"]),
        ("no key in PKCS#12", files(&["p12.nokeys"]), &["holds no private key"]),
        ("no certificate", files(&["key"]), &["holds no certificate. Add"]),
        ("no certificate in PKCS#12", files(&["p12.nocerts"]), &["holds no certificate. Add"]),
        (
            "not ours",
            files(&["key", "other", "mid", "root"]),
            &["holds no certificate that fits its private key"],
        ),
        ("old encryption", files(&["key.old", "certificate"]), &["OpenSSL's old way", PKCS8]),
        (
            "AES-192",
            files(&["key.aes192", "certificate"]),
            &["does not know (2.16.840.1.101.3.4.1.22)", PKCS8],
        ),
        ("SHA-224", files(&["key.sha224", "certificate"]), &["does not know (1.2.840.113549.2.8)", PKCS8]),
        (
            "MD5 and DES",
            files(&["key.md5-des", "certificate"]),
            &["does not know (1.2.840.113549.1.5.3)", PKCS8],
        ),
        ("RC4", files(&["p12.rc4"]), &["does not know (1.2.840.113549.1.12.1.1)", PKCS12, "-legacy"]),
        ("MD5", files(&["p12.md5"]), &["does not know (1.2.840.113549.2.5)", PKCS12]),
        ("EC", files(&["root.key", "root"]), &["holds an EC key. Entra takes only RSA"]),
        ("EC, old", files(&["ec.key", "root"]), &["holds an EC key. Entra takes only RSA"]),
        ("Ed25519", files(&["ed25519.key", "ed25519"]), &["holds an Ed25519 key. Entra takes only RSA"]),
        ("PSS", files(&["pss.key", "pss"]), &["holds an RSA key for PSS only. Entra takes only RSA"]),
        ("1024 bits", files(&["1024.key", "1024"]), &["holds an RSA key of 1024 bits, which is too short"]),
        (
            "2560 bits",
            files(&["2560.key", "2560"]),
            &["holds an RSA key of 2560 bits", "2048, 3072 or 4096 bits"],
        ),
        (
            "7993 bits",
            with_certificate(&pem("RSA PRIVATE KEY", &long)),
            &["holds an RSA key of 7993 bits", "4096"],
        ),
        ("exponent 3", files(&["e3.key", "e3"]), &["holds an RSA key with a small public exponent", "65537"]),
        (
            "rounds",
            key_by(pbkdf2, &[&[2, 4, 0x7f, 0xff, 0xff, 0xff]]),
            &["more than 10 million rounds", PKCS8],
        ),
        ("no rounds", key_by(pbkdf2, &[&[2, 1, 0]]), &[DAMAGED]),
        ("negative rounds", key_by(pbkdf2, &[&[2, 1, 0xff]]), &[DAMAGED]),
        (
            "scrypt's work",
            key_by(scrypt, &[&[2, 2, 0x40, 0], &[2, 1, 8], &[2, 2, 1, 0]]),
            &["more than 10 million rounds"],
        ),
        (
            "scrypt's memory",
            key_by(scrypt, &[&[2, 3, 8, 0, 0], &[2, 1, 8], &[2, 1, 1]]),
            &["more than 32 MiB", PKCS8],
        ),
        ("scrypt of an odd N", key_by(scrypt, &[&[2, 1, 3], &[2, 1, 8], &[2, 1, 1]]), &[DAMAGED]),
        ("scrypt of nothing", key_by(scrypt, &[&[2, 1, 2], &[2, 1, 0], &[2, 1, 0]]), &[DAMAGED]),
        ("no end", b"-----BEGIN CERTIFICATE-----\nMII".to_vec(), &[DAMAGED]),
        ("no base64", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_vec(), &[DAMAGED]),
        ("no DER", pem("PRIVATE KEY", b"key"), &[DAMAGED]),
        ("a length that is not there", b"\x30\x84\xff\xff\xff\xff\x02\x01\x03".to_vec(), &[DAMAGED]),
    ];
    for (name, bytes, parts) in rows {
        let error = open(&bytes, PASSWORD).expect_err(name);
        for part in parts {
            assert!(error.contains(part), "{name}: {error}");
        }
        assert!(!error.ends_with('.') && !error.contains(PASSWORD), "{name}: {error}");
    }
}

#[test]
fn a_certificate_must_be_good_now() {
    let seconds = |name: &str| {
        let words = std::str::from_utf8(&FILES[name]).expect("text").replace(' ', "T");
        let date: der::DateTime = words.parse().expect("a date");
        (i64::try_from(date.unix_duration().as_secs()).expect("a time"), words)
    };
    let (begins, first) = seconds("begins");
    let (ends, last) = seconds("ends");
    let bytes = files(&["key", "certificate"]);
    let at = |now| Certificate::read(&bytes, None, now).map(|certificate| certificate.thumbprint());
    assert_eq!(at(begins), at(ends));
    assert_eq!(
        at(begins - 1).unwrap_err(),
        format!("holds a certificate that is not valid before {first}. Check this machine's clock")
    );
    assert_eq!(at(ends + 1).unwrap_err(), format!("holds a certificate that expired at {last}. Renew it"));
    // After a renewal with the same key, the newer one, wherever it stands.
    for names in [["key", "certificate", "renewed"], ["renewed", "certificate", "key"]] {
        let both = files(&names);
        for now in [ends - 1, ends + 1] {
            let certificate = Certificate::read(&both, None, now).expect("a certificate");
            assert_ne!(certificate.thumbprint(), at(begins).expect("a certificate"));
        }
    }
}

#[test]
fn keys_of_4096_bits_sign() {
    let certificate = open(&files(&["4096.key", "4096"]), "").expect("a certificate");
    assert_eq!(certificate.sign_ps256(b"").expect("a signature").len(), 512);
}

/// Whoever changes a file can make it unreadable, no more. What a MAC protects stays as it is.
#[test]
fn damage_never_panics_and_never_makes_another_identity() {
    let public = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &FILES["public.der"]);
    let check = |name: &str, bytes: &[u8], sound: &Certificate| {
        let Ok(certificate) = open(bytes, PASSWORD) else { return false };
        let signature = certificate.sign_ps256(b"message").expect("a signature");
        public.verify(b"message", &signature).expect(name);
        if name.starts_with("p12") && !["p12.nomac", "p12.open", "p12, somebody else's key"].contains(&name) {
            assert_eq!(certificate.chain(), sound.chain(), "{name}");
        }
        true
    };
    for (name, bytes, _) in readable() {
        // These take long to try, and differ from others only in that.
        if ["key.default", "Windows", "p12.default", "key.scrypt", "key.pbe-3des"].contains(&name) {
            continue;
        }
        let sound = open(&bytes, PASSWORD).expect(name);
        let mut refused = 0;
        for at in (0..bytes.len()).step_by(67) {
            refused += usize::from(!check(name, &bytes[..at], &sound));
            for flip in [1 << (at % 8), 0x80] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                refused += usize::from(!check(name, &changed, &sound));
            }
        }
        assert!(refused > bytes.len() / 67, "{name}: {refused}");
    }
}

#[test]
fn depth_and_size_cost_neither_stack_nor_time() {
    let bag =
        |value: &[u8]| tlv(0x30, &[&oid("1.2.840.113549.1.12.10.1.6"), &tlv(0xa0, &[&tlv(0x30, &[value])])]);
    let deep = (0..2000).fold(Vec::new(), |inner, _| bag(&inner));
    let safe = data(&tlv(0x30, &[&deep]));
    let empty = open(&pkcs12_of(&[&safe]), "").unwrap_err();
    assert_eq!(empty, "holds no certificate and no private key");
    let both = open(&pkcs12_of(&[&safe, &safes("p12.open")]), "").expect("the other safe has it all");
    assert_eq!(both.chain().len(), 1);
    let many = b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n".repeat(20_000);
    assert_eq!(open(&many, "").unwrap_err(), DAMAGED);
    // All parts of a file share one allowance.
    let password = Password::new(None);
    assert!(password.rounds(9_999_999).is_ok() && password.rounds(1).is_ok());
    assert!(matches!(password.rounds(1), Err(Trouble::Foreign(_))));
}
