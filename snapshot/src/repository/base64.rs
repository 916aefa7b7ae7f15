//! Base64 with the standard alphabet and padding, as JSON written by Go programs holds bytes.
//!
//! Refused when decoding: other characters, a wrong length, padding inside. Spare bits of the last digit are ignored.

use zeroize::Zeroizing;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends the encoded bytes.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for group in bytes.chunks(3) {
        let at = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let symbol = ALPHABET.get((bits >> (18 - 6 * digit) & 63) as usize).copied().unwrap_or(b'=');
            out.push(if digit <= group.len() { symbol } else { b'=' });
        }
    }
}

/// The encoded bytes as text.
#[must_use]
pub fn encoded(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    encode(bytes, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// The bytes, which are wiped when dropped since keys come this way; `None` if it is not base64.
#[must_use]
pub fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let body = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3));
    for group in body.chunks(4) {
        let mut bits = 0u32;
        for i in 0..4 {
            bits = bits << 6 | group.get(i).map_or(Some(0), |digit| value(*digit))?;
        }
        let [_, a, b, c] = bits.to_be_bytes();
        out.extend([a, b, c].iter().take(group.len().checked_sub(1).filter(|n| *n > 0)?));
    }
    Some(out)
}

fn value(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests;
