//! The way to the replica: an address, certificates, and what it means when there is no way.

use crate::config::{MasterTls, ReplicaEndpoint};
use crate::engine::{EngineError, EngineResult};
use replication::stream::master::Dial;
use replication::stream::{StreamError, master};
use std::sync::Arc;
use wire::client::{TlsFiles, dial_tls};
use wire::stream::Reason;
use wire::{Endpoint, Failure, codes};

fn files(tls: &MasterTls) -> TlsFiles {
    TlsFiles { ca: Some(tls.ca.clone()), cert: Some(tls.certificate.clone()), key: Some(tls.key.clone()) }
}

/// A certificate is the operator's own business here: the texts for clients do not fit.
fn of_failure(failure: &Failure) -> EngineError {
    let code = codes::find(&failure.code).unwrap_or(&codes::INTERNAL);
    let error = EngineError::new(code, failure.message.to_string());
    match code.id {
        id if id == codes::BAD_CERTIFICATE.id => error.advise(
            "Check `replica-ca`, `certificate` and `key` in [master], their dates, and the host name in `replica`.",
        ),
        id if id == codes::UNREACHABLE.id => {
            error.advise("Start the replica's daemon, and check `replica` in [master] and the network.")
        }
        _ => error,
    }
}

/// Whether the files can be used.
///
/// # Errors
/// `BAD_CERTIFICATE` with the file at fault.
pub fn check(replica: &ReplicaEndpoint) -> EngineResult<()> {
    match &replica.tls {
        Some(tls) => wire::client::check_tls(&files(tls)).map_err(|failure| of_failure(&failure)),
        None => Ok(()),
    }
}

/// Makes channels that connect when they are needed.
///
/// # Errors
/// `BAD_CONFIG` for an address that is none.
pub fn dial(replica: &ReplicaEndpoint) -> EngineResult<Dial> {
    let bad = |what: String| EngineError::new(&codes::BAD_CONFIG, format!("replica {}: {what}", replica.url));
    let endpoint = |url: &str| master::endpoint(url, None).map_err(|error| bad(error.to_string()));
    match (replica.url.parse::<Endpoint>(), &replica.tls) {
        (Ok(Endpoint::Http(url)), _) => Ok(master::dial(endpoint(&url)?)),
        (Ok(Endpoint::Https(url)), Some(tls)) => {
            let authority = url.strip_prefix("https://").unwrap_or(&url).to_owned();
            let (endpoint, files) = (endpoint(&format!("http://{authority}"))?, files(tls));
            Ok(Arc::new(move || dial_tls(&endpoint, &authority, files.clone())))
        }
        _ => Err(bad("neither https:// with certificates nor http:// on loopback".to_owned())),
    }
}

/// Why there is no connection, for people.
pub fn explain(error: &StreamError) -> EngineError {
    match error {
        StreamError::Connection(status) => of_failure(&Failure::from_status(status)),
        StreamError::Refused(refused) => {
            let code = match refused.reason {
                Reason::NotAuthorized => &codes::NOT_PERMITTED,
                _ => &codes::CANNOT_ATTACH,
            };
            EngineError::new(code, format!("the replica refused: {}", refused.text))
        }
        other => EngineError::new(&codes::CANNOT_ATTACH, wire::failure::chain(other)),
    }
}
