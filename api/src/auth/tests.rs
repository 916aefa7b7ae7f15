//! Who is let in where.

use super::*;

fn tls(names: &[&str]) -> Peer {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Peer::Tls { address: "192.0.2.1:1".parse().unwrap(), names }
}

const API: &str = "/rewind.v1.Scenarios/List";
const STREAM: &str = "/rewind.stream.v1.Replication/Connect";

fn check(policy: &Policy, peer: Option<Peer>, path: &str, expected: bool) {
    let result = policy.permit(peer.as_ref(), path);
    assert_eq!(result.is_ok(), expected, "{peer:?} {path}");
    if let Err(failure) = result {
        assert_eq!((failure.code.as_ref(), failure.exit.number()), ("RW0459", 6));
    }
}

#[test]
fn users_of_the_socket() {
    let own = rustix::process::geteuid().as_raw();
    let policy = Policy::default();
    for (uid, expected) in [(0, true), (own, true), (own.wrapping_add(4711), false)] {
        check(&policy, Some(Peer::Unix { uid, pid: None }), API, expected);
    }
    check(&policy, None, API, false);
}

#[test]
fn names_of_certificates() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let policy = Policy { operators: set(&["ops"]), masters: set(&["prod"]) };
    check(&policy, Some(tls(&["ops"])), API, true);
    check(&policy, Some(tls(&["other", "ops"])), API, true);
    check(&policy, Some(tls(&["prod"])), API, false);
    check(&policy, Some(tls(&[])), API, false);
    check(&policy, Some(tls(&["prod"])), STREAM, true);
    check(&policy, Some(tls(&["ops"])), STREAM, false);
    check(&policy, Some(tls(&[])), "/grpc.health.v1.Health/Check", true);
    check(&policy, Some(tls(&["prod", "ops"])), API, true);
    // Whoever is not listed may do nothing, also where nobody is.
    for policy in [
        Policy::default(),
        Policy { masters: set(&["prod"]), ..Policy::default() },
        Policy { operators: set(&["ops"]), ..Policy::default() },
    ] {
        check(&policy, Some(tls(&["anybody"])), API, false);
        check(&policy, Some(tls(&["anybody"])), STREAM, false);
        check(&policy, Some(tls(&["prod"])), API, false);
        check(&policy, Some(tls(&["ops"])), STREAM, false);
    }
}

#[test]
fn names_are_read_from_certificates() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters =
        rcgen::CertificateParams::new(vec!["a.example".to_owned(), "b.example".to_owned()]).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "prod");
    let certificate = parameters.self_signed(&key).unwrap();
    assert_eq!(certificate_names(certificate.der()), ["prod", "a.example", "b.example"]);
    assert_eq!(certificate_names(b"rubbish"), Vec::<String>::new());
}
