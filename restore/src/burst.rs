//! Unusual bursts, and the last good version of each file that one touched.
//!
//! Ransomware, a script gone wrong, a wrong `chmod -R` of a converter: many files are rewritten or renamed within
//! minutes. The journal has seen each of these changes, so the question "which were they, and what stood there before"
//! is answered from its list of changes, without a sensor on the master and after the fact.
//!
//! [`find`] reads that list once ([`facts`]), watches how many different files are hit within a minute ([`detect`])
//! and, for what stands out, looks into a sample of the files ([`sample`]): contents that turned from text or a known
//! format into noise are what no honest mass work does. Memory is bounded by [`detect::Limits`].
//!
//! [`touched`] turns one burst into what a rewind needs: for each file the point just before it was hit, and the paths
//! it had then and has now. Files that were changed by people meanwhile and look sound are not among them. Most files
//! share one point, the one before the burst; those that were changed between its begin and their turn need later
//! ones, and as few points are used as do for all.
//!
//! What this cannot see, and says so in `docs/ransomware.md`: less than a few files a minute, copies under names that
//! share nothing with the original, and whether noise was meant to be noise.

mod back;
pub mod detect;
mod facts;
mod find;
pub mod sample;
mod touched;

#[cfg(test)]
mod tests;

pub use back::{master_to_groups, replica_to_groups};
pub use detect::{Limits, Span};
pub use find::{Burst, BurstKind, Confidence, Example, find};
pub use touched::{LastGood, LastGoodGroup, touched};
