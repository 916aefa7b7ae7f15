//! Who may call what.
//!
//! On the Unix socket the kernel names the peer: root and the daemon's own user may do everything, nobody else
//! anything. Over TLS a client proves itself with a certificate of the configured authority, and its names (common
//! name, DNS names) decide: operators may use the API, masters the replication stream and nothing else, so that an
//! intruder on a master cannot touch history. Who is not listed may do nothing: an authority signs certificates for
//! more than this daemon, and a master's must not open the API because nobody thought of listing it. Plain TCP exists
//! on loopback only; whoever can reach it is an operator.

use parking_lot::RwLock;
use replication::stream::replica::Peer as Caller;
use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::codegen::http::{Request, Response};
use wire::{Failure, codes};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process of this machine.
    Unix {
        /// Its user.
        uid: u32,
        /// Its process, where the kernel tells.
        pid: Option<i32>,
    },
    /// Somebody on loopback.
    Tcp(SocketAddr),
    /// A client with a certificate our authority signed.
    Tls {
        /// Where from.
        address: SocketAddr,
        /// What the certificate calls it.
        names: Vec<String>,
    },
}

/// Which names may do what over TLS.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// May use the API.
    pub operators: BTreeSet<String>,
    /// May use the replication stream, each for the host that its certificate names.
    pub masters: BTreeSet<String>,
}

/// Services that operators call; all others belong to masters. Health and reflection tell nothing secret.
const OPERATOR_SERVICES: &str = "/rewind.v1.";
const PUBLIC_SERVICES: [&str; 2] = ["/grpc.health.", "/grpc.reflection."];

impl Policy {
    /// Whether the peer may call the method at `path`.
    ///
    /// # Errors
    /// `NOT_PERMITTED`.
    pub fn permit(&self, peer: Option<&Peer>, path: &str) -> Result<(), Failure> {
        let refused = |message: String| Err(Failure::new(&codes::NOT_PERMITTED, message));
        match peer {
            None => refused("the peer is not known".to_owned()),
            Some(Peer::Unix { uid, .. }) => {
                let own = rustix::process::geteuid().as_raw();
                if *uid == 0 || *uid == own {
                    Ok(())
                } else {
                    refused(format!("user {uid} is neither root nor the daemon's user ({own})"))
                }
            }
            // The listener was refused unless it is on loopback.
            Some(Peer::Tcp(_)) => Ok(()),
            Some(Peer::Tls { names, .. }) => {
                if PUBLIC_SERVICES.iter().any(|service| path.starts_with(service)) {
                    return Ok(());
                }
                let one_of = |set: &BTreeSet<String>| names.iter().any(|name| set.contains(name));
                let permitted = if path.starts_with(OPERATOR_SERVICES) {
                    one_of(&self.operators)
                } else {
                    one_of(&self.masters)
                };
                if permitted {
                    Ok(())
                } else {
                    refused(format!("the certificate of {} does not permit this call", names.join(", ")))
                }
            }
        }
    }
}

/// Common name and DNS names of a certificate; empty for bytes that are none.
#[must_use]
pub fn certificate_names(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let mut names: Vec<String> = certificate
        .subject()
        .iter_common_name()
        .filter_map(|name| name.as_str().ok())
        .map(str::to_owned)
        .collect();
    if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
        for name in &alternative.value.general_names {
            if let GeneralName::DNSName(name) = name
                && !names.iter().any(|known| known == name)
            {
                names.push((*name).to_owned());
            }
        }
    }
    names
}

/// The policy that counts for new calls.
pub type CurrentPolicy = Arc<RwLock<Policy>>;

/// Puts the policy before every service.
#[derive(Clone)]
pub struct GuardLayer(pub CurrentPolicy);

impl<S> tower::Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { inner, policy: Arc::clone(&self.0) }
    }
}

/// Who calls, for the service of masters: it cannot see through the listener's own transport.
fn caller(peer: &Peer) -> Option<Caller> {
    let (address, names) = match peer {
        Peer::Tls { address, names } => (*address, Some(names.clone())),
        Peer::Tcp(address) => (*address, None),
        Peer::Unix { .. } => return None,
    };
    Some(Caller { address: Some(address), certificates: Vec::new(), names })
}

/// A service behind the policy.
#[derive(Clone)]
pub struct Guard<S> {
    inner: S,
    policy: CurrentPolicy,
}

impl<S, B, R> tower::Service<Request<B>> for Guard<S>
where
    S: tower::Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let peer = request.extensions().get::<Peer>();
        let permitted = self.policy.read().permit(peer, request.uri().path());
        match permitted {
            Ok(()) => {
                if let Some(caller) = peer.and_then(caller) {
                    request.extensions_mut().insert(caller);
                }
                Box::pin(self.inner.call(request))
            }
            Err(failure) => {
                tracing::warn!(?peer, path = request.uri().path(), %failure, "refused a call");
                let response = failure.to_status().into_http();
                Box::pin(async move { Ok(response) })
            }
        }
    }
}

#[cfg(test)]
mod tests;
