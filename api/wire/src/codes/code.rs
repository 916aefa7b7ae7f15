//! One entry of the catalogue.

use super::Exit;
use tonic::Code as Grpc;

/// One entry of the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `RW` and four digits.
    pub id: &'static str,
    /// Part of the product that raises it: `scenario`, `journal`, `rewind`, `restore`,
    /// `job`, `tape`, `api`, `daemon`, `client` ...
    pub module: &'static str,
    /// What happened, in a few words.
    pub title: &'static str,
    /// Why it happens.
    pub reason: &'static str,
    /// What to do.
    pub action: &'static str,
    /// Exit status of a command that ends with it.
    pub exit: Exit,
    /// Status of a call that ends with it.
    pub grpc: Grpc,
}
