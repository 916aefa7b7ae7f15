//! Masters that call: which scenario they may have, and which are theirs.
//!
//! The door lets in only certificates of the authority, and of those only the names that the configuration lists
//! ([`crate::auth::Policy`]). Here it is seen to that a master speaks for itself, whatever is listed: the host it calls
//! itself must be a name its certificate proves, so that one master cannot write another's history.

use super::Host;
use crate::auth::certificate_names;
use crate::definition::Definition;
use crate::engine::{EngineError, EngineResult};
use crate::registry::Entry;
use parking_lot::Mutex;
use replication::stream::ReplicaLink;
use replication::stream::replica::{Peer, Registry};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use tokio::sync::watch;
use wire::codes;
use wire::stream::{Assignment, Hello, Reason, Refused};

/// What masters ask for. It knows the host only as long as the host lives.
pub(super) struct Calls(pub Weak<Host>);

/// The lists of scenarios that masters follow, by host.
#[derive(Default)]
pub(super) struct Followed(Mutex<BTreeMap<String, watch::Sender<Vec<Assignment>>>>);

fn refused(reason: Reason, text: impl Into<String>) -> Refused {
    Refused { reason, text: text.into() }
}

impl Host {
    /// Whether the master of a scenario is in this process.
    pub(super) fn is_local(&self, definition: &Definition) -> bool {
        is_local(&self.context.options, definition)
    }

    /// A definition must say which master it means where there can be more than one.
    pub(super) fn check_master(&self, definition: &Definition) -> EngineResult<()> {
        let options = &self.context.options;
        let masters = options.replica.as_ref().map_or(0, |replica| replica.masters.len());
        if definition.master.is_none() && options.master.is_none() && masters > 1 {
            let message = format!("scenario \"{}\" does not say which master it is for", definition.name);
            return Err(EngineError::new(&codes::BAD_PARAMETERS, message)
                .because("This daemon is the replica of several masters.")
                .advise("Name the master with `--master HOST`."));
        }
        if definition.master.is_some() && !self.is_local(definition) && options.listen.is_none() {
            let message = format!(
                "master {} cannot reach this daemon",
                definition.master.as_deref().unwrap_or_default()
            );
            return Err(EngineError::new(&codes::NOT_SUPPORTED_THERE, message)
                .because("The daemon listens on no TCP address, and the host named is not its own.")
                .advise("Leave `--master` out, or give the daemon an address to listen on."));
        }
        Ok(())
    }

    fn assigned(&self, host: &str) -> Vec<Assignment> {
        let remote = |entry: &Entry| {
            let definition = &entry.definition;
            !self.is_local(definition) && definition.master.as_deref().is_none_or(|master| master == host)
        };
        let entries = self.context.registry.list().into_iter().filter(remote);
        entries
            .map(|entry| Assignment {
                scenario: entry.id,
                name: entry.definition.name,
                spool_bytes_max: entry.definition.spool_bytes_max,
            })
            .collect()
    }

    /// Tells masters that scenarios have changed.
    pub(super) fn announce(&self) {
        let mut followed = self.followed.0.lock();
        followed.retain(|_, list| list.receiver_count() > 0);
        for (host, list) in followed.iter() {
            let now = self.assigned(host);
            list.send_if_modified(|then| {
                let changed = *then != now;
                *then = now;
                changed
            });
        }
    }

    /// Whether the caller is who it says it is.
    fn admit(host: &str, peer: &Peer) -> Result<(), Refused> {
        let names = match (&peer.names, peer.certificates.first()) {
            (Some(names), _) => names.clone(),
            (None, Some(certificate)) => certificate_names(certificate),
            // Without TLS it is somebody on this machine, or the listener would not be there.
            (None, None) => return Ok(()),
        };
        speaks_for(&names, host).map_err(|text| refused(Reason::NotAuthorized, text))
    }
}

/// Whether a certificate of these names is one of this host.
fn speaks_for(names: &[String], host: &str) -> Result<(), String> {
    if names.iter().any(|name| name == host) {
        return Ok(());
    }
    Err(format!("a master with the certificate of {} calls itself {host}", names.join(", ")))
}

/// Whether masters of this daemon's own process look after the scenario.
pub(super) fn is_local(options: &crate::config::Options, definition: &Definition) -> bool {
    let own = options.master.as_ref().filter(|master| master.replica.is_none());
    own.is_some_and(|own| definition.master.as_ref().is_none_or(|master| *master == own.name))
}

impl Calls {
    fn host(&self) -> Result<Arc<Host>, Refused> {
        self.0.upgrade().ok_or_else(|| refused(Reason::Unavailable, "the replica is stopping"))
    }
}

impl Registry for Calls {
    fn scenario(&self, hello: &Hello, peer: &Peer) -> Result<Arc<dyn ReplicaLink>, Refused> {
        let host = self.host()?;
        Host::admit(&hello.host, peer)?;
        let unknown = |error: EngineError| refused(Reason::UnknownScenario, error.to_string());
        let scene = host.scene_of(hello.scenario).map_err(unknown)?;
        if host.is_local(&scene.definition()) {
            let text = format!("the master of scenario \"{}\" is the replica itself", hello.name);
            return Err(refused(Reason::NotAuthorized, text));
        }
        match scene.link() {
            Ok(link) => Ok(Arc::new(link)),
            Err(error) => {
                let failure = error.to_failure();
                Err(refused(Reason::Unavailable, format!("{}: {}", failure.code, failure.message)))
            }
        }
    }

    fn assignments(&self, host: &str, peer: &Peer) -> Result<watch::Receiver<Vec<Assignment>>, Refused> {
        let engine = self.host()?;
        Host::admit(host, peer)?;
        let mut followed = engine.followed.0.lock();
        followed.retain(|_, list| list.receiver_count() > 0);
        let list = followed.entry(host.to_owned());
        // Under the lock: a scenario made just now is either in this list or announced after it.
        let list = list.or_insert_with(|| watch::channel(engine.assigned(host)).0);
        Ok(list.subscribe())
    }
}

#[cfg(test)]
mod tests;
