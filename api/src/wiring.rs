//! The product's wiring: which journal and which engine `rewindd` and the tour run on.

use crate::daemon::{EngineContext, Wired, Wiring};
use crate::engine::EngineError;
use crate::host::Host;
use crate::master::MasterEngine;
use crate::segment_journal::SegmentJournal;
use crate::server_journal::ServerJournal;
use std::path::Path;
use std::sync::Arc;

/// The wiring of the product.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProductWiring;

impl Wiring for ProductWiring {
    fn server_journal(&self, directory: &Path) -> Result<Arc<dyn ServerJournal>, EngineError> {
        crate::store::make_private(directory)?;
        Ok(Arc::new(SegmentJournal::open(directory)?))
    }

    fn engine(&self, context: EngineContext) -> Result<Wired, EngineError> {
        // Even if this is no master any more: what it held as one stays held.
        crate::host::thaw_left_over(&context);
        if context.options.replica.is_none() {
            return Ok(Wired { engine: MasterEngine::new(context)?, routes: None });
        }
        let host = Host::new(context);
        let routes = host.routes();
        Ok(Wired { engine: host, routes: Some(routes) })
    }
}
