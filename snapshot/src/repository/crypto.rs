//! Encryption and authentication of everything in a repository.
//!
//! Sealed bytes are `IV (16) || ciphertext || MAC (16)`. The cipher is AES-256 in counter mode, the IV being the first
//! counter block, big endian. The MAC is Poly1305-AES over the ciphertext, with the IV as nonce: its one-time key is
//! `r` followed by AES-128 of the IV under `k`. IVs are random; two equal ones among 2^48 messages have odds of 2^-33.
//!
//! The MAC is compared, in constant time, before one byte is decrypted; bytes that were not sealed under the key never
//! reach a parser. Keys are wiped from memory when dropped.

use super::error::RepositoryError;
use aes::cipher::{BlockEncrypt, KeyInit, KeyIvInit, StreamCipher};
use aes::{Aes128, Aes256};
use poly1305::Poly1305;
use poly1305::universal_hash::UniversalHash;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes that sealing adds.
pub const OVERHEAD: usize = IV + MAC;
const IV: usize = 16;
const MAC: usize = 16;

/// Bits of `r` that Poly1305 keeps.
const R_MASK: [u8; 16] = [255, 255, 255, 15, 252, 255, 255, 15, 252, 255, 255, 15, 252, 255, 255, 15];

/// The bytes are not what somebody with this key sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forged;

/// A key for both encryption and authentication.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SealKey {
    pub(super) encrypt: [u8; 32],
    pub(super) mac_k: [u8; 16],
    pub(super) mac_r: [u8; 16],
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(..)")
    }
}

impl SealKey {
    /// A new random key.
    ///
    /// # Errors
    /// `Random`.
    pub fn random() -> Result<Self, RepositoryError> {
        let mut bytes = Zeroizing::new([0; 64]);
        fill_random(bytes.as_mut_slice())?;
        Ok(Self::from_bytes(&bytes))
    }

    /// From 64 bytes: 32 for the cipher, 16 of `k`, 16 of `r`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        let mut key = Self { encrypt: [0; 32], mac_k: [0; 16], mac_r: [0; 16] };
        let (encrypt, mac) = bytes.split_at(32);
        let (mac_k, mac_r) = mac.split_at(16);
        key.encrypt.copy_from_slice(encrypt);
        key.mac_k.copy_from_slice(mac_k);
        key.mac_r.copy_from_slice(mac_r);
        key.mask();
        key
    }

    pub(super) fn mask(&mut self) {
        for (byte, mask) in self.mac_r.iter_mut().zip(R_MASK) {
            *byte &= mask;
        }
    }

    fn mac(&self, iv: &[u8; IV], ciphertext: &[u8]) -> [u8; MAC] {
        let mut one_time = Zeroizing::new([0; 32]);
        let (r, s) = one_time.split_at_mut(16);
        r.copy_from_slice(&self.mac_r);
        s.copy_from_slice(iv);
        Aes128::new(&self.mac_k.into()).encrypt_block(s.into());
        let mut state = Poly1305::new(one_time.as_slice().into());
        // Whole blocks at once: many are then computed in parallel.
        let whole = ciphertext.len() - ciphertext.len() % 16;
        let (blocks, rest) = ciphertext.split_at(whole);
        state.update_padded(blocks);
        state.compute_unpadded(rest).into()
    }

    /// Appends the sealed form of `plain` to `out`.
    ///
    /// # Errors
    /// `Random`.
    pub fn seal_into(&self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), RepositoryError> {
        let mut iv = [0; IV];
        fill_random(&mut iv)?;
        self.seal_with(iv, plain, out);
        Ok(())
    }

    /// The sealed form of `plain`.
    ///
    /// # Errors
    /// `Random`.
    pub fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, RepositoryError> {
        let mut out = Vec::new();
        self.seal_into(plain, &mut out)?;
        Ok(out)
    }

    fn seal_with(&self, iv: [u8; IV], plain: &[u8], out: &mut Vec<u8>) {
        out.reserve_exact(plain.len() + OVERHEAD);
        out.extend_from_slice(&iv);
        let start = out.len();
        out.extend_from_slice(plain);
        let ciphertext = out.get_mut(start..).unwrap_or_default();
        ctr::Ctr128BE::<Aes256>::new(&self.encrypt.into(), &iv.into()).apply_keystream(ciphertext);
        let mac = self.mac(&iv, ciphertext);
        out.extend_from_slice(&mac);
    }

    /// Checks sealed bytes and decrypts them where they lie.
    ///
    /// # Errors
    /// [`Forged`], then nothing was changed.
    pub fn open_in_place<'a>(&self, sealed: &'a mut [u8]) -> Result<&'a mut [u8], Forged> {
        let (iv, rest) = sealed.split_first_chunk_mut::<IV>().ok_or(Forged)?;
        let (ciphertext, mac) = rest.split_last_chunk_mut::<MAC>().ok_or(Forged)?;
        let expected = self.mac(iv, ciphertext);
        // Looks at all bytes whatever they are, so that time tells nothing.
        let difference = expected.iter().zip(mac.iter()).fold(0, |all, (a, b)| all | (a ^ b));
        if std::hint::black_box(difference) != 0 {
            return Err(Forged);
        }
        ctr::Ctr128BE::<Aes256>::new(&self.encrypt.into(), (&*iv).into()).apply_keystream(ciphertext);
        Ok(ciphertext)
    }
}

/// Fills with random bytes of the system.
///
/// # Errors
/// `Random`.
pub fn fill_random(bytes: &mut [u8]) -> Result<(), RepositoryError> {
    getrandom::fill(bytes).map_err(|source| RepositoryError::Random { source })
}

#[cfg(test)]
mod tests;
