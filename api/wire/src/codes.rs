//! The catalogue of errors: the one place where a code gets its meaning, its exit status and its gRPC status.
//!
//! RW0457 to RW0472 keep the meaning their numbers have had for decades; our own begin at RW1001. A code is stable:
//! its number is never given to something else. `docs/errors.md` shows this table to people and a test compares the
//! two. A code is here only if something can raise it.

/// Defines constants and the list of them in one go, so that none can be left out of the list.
macro_rules! catalogue {
    ($($(#[$doc:meta])* $name:ident = $id:literal $module:literal $exit:ident $grpc:ident
        $title:literal reason $reason:literal action $action:literal;)*) => {
        $($(#[$doc])* pub const $name: Code = Code {
            id: $id, module: $module, title: $title, reason: $reason, action: $action,
            exit: Exit::$exit, grpc: Grpc::$grpc,
        };)*
        /// All of them, in the order of their numbers.
        pub(super) const LIST: &[&Code] = &[$(&$name),*];
    };
}

mod code;
mod exit;
mod find;
mod first;
mod later;

pub use code::Code;
pub use exit::Exit;
pub use find::find;
pub use first::*;
pub use later::*;

use std::sync::LazyLock;
#[cfg(test)]
use tonic::Code as Grpc;

/// Every code, in the order of their numbers.
pub static CATALOGUE: LazyLock<Vec<&'static Code>> =
    LazyLock::new(|| first::LIST.iter().chain(later::LIST).copied().collect());

#[cfg(test)]
mod tests;
