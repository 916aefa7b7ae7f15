//! Errors of the catalog, as errors of the engine.

use crate::engine::EngineError;
use crate::vault::repository_error;
use snapshot::catalog::{CatalogError, CatalogErrorKind};
use snapshot::listing::ListingError;
use wire::codes;

/// What the catalog says to a question or a load.
#[must_use]
pub fn catalog_error(error: CatalogError) -> EngineError {
    let code = match (&error, error.kind()) {
        (
            CatalogError::BadGlob { .. } | CatalogError::ComplexGlob { .. } | CatalogError::BadRegex { .. },
            _,
        ) => &codes::BAD_PATTERN,
        (CatalogError::Limit { what: "bytes of a pattern", .. }, _) => &codes::BAD_PATTERN,
        (_, CatalogErrorKind::NotFound) => &codes::NO_SUCH_SESSION,
        (_, CatalogErrorKind::Input | CatalogErrorKind::Limit) => &codes::BAD_PARAMETERS,
        (_, CatalogErrorKind::Conflict) => &codes::BUSY,
        (CatalogError::File { source, .. }, _) if source.kind() == std::io::ErrorKind::StorageFull => {
            &codes::DISK_FULL
        }
        _ => &codes::IO,
    };
    EngineError::new(code, "ask the catalog").caused_by(error)
}

/// What loading a session or reading its listing says.
pub(super) fn listing_error(error: ListingError) -> EngineError {
    match error {
        ListingError::Repository { source } => repository_error("read the session", source),
        ListingError::Catalog { source } => catalog_error(source),
        other => EngineError::new(&codes::BAD_PARAMETERS, "load the session").caused_by(other),
    }
}
