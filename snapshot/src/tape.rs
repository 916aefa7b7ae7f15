//! Tape: sessions on cartridges that GNU tar reads without us.
//!
//! [`archive`] is a session as one logical pax tar stream; it knows nothing of drives and volumes.

pub mod archive;
