//! Mutual TLS: who gets in, who does not, and what the errors name.

use super::super::tls::{self, TlsError, TlsFiles};
use super::super::*;
use super::net::Setup;
use super::support::{SOON, draft, until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use std::path::{Path, PathBuf};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes files for one side into `directory`.
    fn issue(&self, directory: &Path, name: &str, expired: bool) -> TlsFiles {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        if expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let file = |kind: &str, text: &str| -> PathBuf {
            let path = directory.join(format!("{name}.{kind}.pem"));
            std::fs::write(&path, text).unwrap();
            path
        };
        TlsFiles {
            ca: file("ca", &self.0.pem()),
            certificate: file("cert", &certificate.pem()),
            key: file("key", &key.serialize_pem()),
        }
    }
}

fn crypto() {
    // Another test may have been first.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

fn uri(setup: &Setup) -> String {
    format!("https://localhost:{}", setup.address().port())
}

#[test]
fn who_shows_a_certificate_of_the_authority_gets_in_and_nobody_else() {
    crypto();
    let directory = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new(), Authority::new());
    let server = ours.issue(directory.path(), "server", false);
    let setup = Setup::with_tls(Some(tls::server(&server).unwrap()));

    let good = ours.issue(directory.path(), "good", false);
    let stream = setup.connect_with(&uri(&setup), Some(tls::client(&good, "localhost").unwrap()));
    until(|| setup.link.connections() == 1 && setup.spool.status().captured.is_some());
    setup.spool.emit(draft(0, 10)).unwrap();
    setup.link.ingest.wait_for(Lsn::captured(1), SOON);
    stream.stop().unwrap();
    assert_eq!(setup.certificates.lock().as_slice(), [1]);

    let strange = TlsFiles { ca: good.ca.clone(), ..other.issue(directory.path(), "strange", false) };
    let expired = ours.issue(directory.path(), "expired", true);
    let distrusting = TlsFiles { ca: strange_ca(&other, directory.path()), ..good.clone() };
    let wrong_name = tls::client(&good, "elsewhere").unwrap();
    let configs = [
        ("strange", tls::client(&strange, "localhost").unwrap()),
        ("expired", tls::client(&expired, "localhost").unwrap()),
        ("distrusting", tls::client(&distrusting, "localhost").unwrap()),
        ("wrong name", wrong_name),
    ];
    for (what, config) in configs {
        let before = setup.agent.errors_seen();
        let stream = setup.connect_with(&uri(&setup), Some(config));
        until(|| setup.agent.errors_seen() > before + 2);
        assert_eq!(setup.link.connections(), 1, "{what}");
        stream.stop().unwrap();
    }
    // Without TLS nothing is said at all.
    let before = setup.agent.errors_seen();
    let stream = setup.connect(&setup.uri());
    until(|| setup.agent.errors_seen() > before + 2);
    assert_eq!(setup.link.connections(), 1);
    stream.stop().unwrap();
}

#[test]
fn a_server_with_an_expired_certificate_is_not_trusted() {
    crypto();
    let directory = tempfile::tempdir().unwrap();
    let ours = Authority::new();
    let server = ours.issue(directory.path(), "server", true);
    let setup = Setup::with_tls(Some(tls::server(&server).unwrap()));
    let good = ours.issue(directory.path(), "good", false);
    let stream = setup.connect_with(&uri(&setup), Some(tls::client(&good, "localhost").unwrap()));
    until(|| setup.agent.errors_seen() > 2);
    assert_eq!(setup.link.connections(), 0);
    stream.stop().unwrap();
}

fn strange_ca(authority: &Authority, directory: &Path) -> PathBuf {
    authority.issue(directory, "only-ca", false).ca
}

#[test]
fn errors_name_the_file() {
    crypto();
    let directory = tempfile::tempdir().unwrap();
    let files = Authority::new().issue(directory.path(), "x", false);
    let missing = TlsFiles { key: directory.path().join("none.pem"), ..files.clone() };
    let error = tls::server(&missing).unwrap_err();
    assert!(matches!(&error, TlsError::Read { path, .. } if path.ends_with("none.pem")), "{error}");
    assert!(error.to_string().contains("none.pem"));
    let swapped =
        TlsFiles { certificate: files.key.clone(), key: files.certificate.clone(), ..files.clone() };
    let error = tls::client(&swapped, "localhost").unwrap_err();
    assert_eq!(error.to_string(), format!("{} holds no certificate in PEM form", files.key.display()));
    std::fs::write(&files.ca, "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
    assert!(matches!(tls::server(&files), Err(TlsError::Content { path, .. }) if path == files.ca));
}
