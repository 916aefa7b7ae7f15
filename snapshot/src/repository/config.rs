//! The object `config`: which version the repository has, its id, and the polynomial that restic chunks with.
//!
//! We do not chunk with the polynomial, but restic refuses a repository without a valid one, so a random irreducible
//! polynomial of degree 53 over GF(2) is made, as restic itself does. Refused: versions other than 1 and 2.

use super::crypto::fill_random;
use super::error::RepositoryError;
use super::id::{CONFIG_NAME, Id};
use serde::{Deserialize, Serialize};

/// Largest config that is read, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 64 << 10;
const DEGREE: u32 = 53;

/// What the config says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// 1 (nothing is compressed) or 2.
    pub version: u32,
    /// Random id of the repository.
    pub id: Id,
    /// Polynomial in hexadecimal digits.
    pub chunker_polynomial: String,
}

impl Config {
    /// A config of version 2 with a random id and polynomial.
    ///
    /// # Errors
    /// `Random`.
    pub fn random() -> Result<Self, RepositoryError> {
        let mut id = [0; 32];
        fill_random(&mut id)?;
        loop {
            let mut bits = [0; 8];
            fill_random(&mut bits)?;
            // Degree 53, and not divisible by x. Some one in 26 of these is irreducible.
            let polynomial = u64::from_le_bytes(bits) & ((1 << DEGREE) - 1) | 1 << DEGREE | 1;
            if is_irreducible(polynomial) {
                return Ok(Self { version: 2, id: Id(id), chunker_polynomial: format!("{polynomial:x}") });
            }
        }
    }

    /// The JSON.
    ///
    /// # Errors
    /// `Json`, which does not happen.
    pub fn to_json(&self) -> Result<Vec<u8>, RepositoryError> {
        serde_json::to_vec(self)
            .map_err(|source| RepositoryError::Json { object: CONFIG_NAME.into(), source })
    }

    /// Reads the JSON. The version is looked at before the rest, which another version may have changed.
    ///
    /// # Errors
    /// `UnsupportedVersion`, `Json`, `Damaged` (a polynomial that is none).
    pub fn from_json(json: &[u8]) -> Result<Self, RepositoryError> {
        #[derive(Deserialize)]
        struct VersionOnly {
            version: u32,
        }
        let failed = |source| RepositoryError::Json { object: CONFIG_NAME.into(), source };
        let VersionOnly { version } = serde_json::from_slice(json).map_err(failed)?;
        if !matches!(version, 1 | 2) {
            return Err(RepositoryError::UnsupportedVersion { version });
        }
        let config: Self = serde_json::from_slice(json).map_err(failed)?;
        let valid = u64::from_str_radix(&config.chunker_polynomial, 16).is_ok_and(is_irreducible);
        if !valid {
            return Err(RepositoryError::damaged(
                CONFIG_NAME,
                0,
                "the chunker polynomial is not irreducible",
            ));
        }
        Ok(config)
    }

    /// Whether blobs and unpacked files may be compressed.
    #[must_use]
    pub fn compresses(&self) -> bool {
        self.version >= 2
    }
}

/// Whether a polynomial over GF(2), a bit a coefficient, has degree 53 and no divisors.
///
/// Rabin's test: f of prime degree p is irreducible if x^(2^p) = x modulo f and f has no roots. 53 is prime; the only
/// possible roots are 0 and 1.
#[must_use]
pub fn is_irreducible(f: u64) -> bool {
    if f >> DEGREE != 1 || f & 1 == 0 || f.count_ones().is_multiple_of(2) {
        return false;
    }
    let mut power = 2;
    for _ in 0..DEGREE {
        power = multiply(power, power, f);
    }
    power == 2
}

/// Product of two polynomials below degree 53, modulo f.
fn multiply(a: u64, b: u64, f: u64) -> u64 {
    let mut product = 0;
    for bit in (0..DEGREE).rev() {
        product <<= 1;
        if product >> DEGREE & 1 == 1 {
            product ^= f;
        }
        if b >> bit & 1 == 1 {
            product ^= a;
        }
    }
    product
}

#[cfg(test)]
mod tests;
