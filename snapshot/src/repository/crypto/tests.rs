//! The cipher and the authenticator against published vectors; every flipped bit is seen.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// The test vectors of the paper that defines Poly1305-AES.
#[test]
fn poly1305_aes_of_the_paper() {
    let cases = [
        (
            "ec074c835580741701425b623235add6",
            "851fc40c3467ac0be05cc20404f3f700",
            "fb447350c4e868c52ac3275cf9d4327e",
            "f3f6",
            "f4c633c3044fc145f84f335cb81953de",
        ),
        (
            "75deaa25c09f208e1dc4ce6b5cad3fbf",
            "a0f3080000f46400d0c7e9076c834403",
            "61ee09218d29b0aaed7e154a2c5509cc",
            "",
            "dd3fab2251f11ac759f0887129cc2ee7",
        ),
        (
            "6acb5f61a7176dd320c5c1eb2edcdc74",
            "48443d0bb0d21109c89a100b5ce2c208",
            "ae212a55399729595dea458bc621ff0e",
            "663cea190ffb83d89593f3f476b6bc24d7e679107ea26adb8caf6652d0656136",
            "0ee1c16bb73f0f4fd19881753c01cdbe",
        ),
        (
            "e1a5668a4d5b66a5f68cc5424ed5982d",
            "12976a08c4426d0ce8a82407c4f48207",
            "9ae831e743978d3a23527c7128149e3a",
            "ab0812724a7f1e342742cbed374d94d136c6b8795d45b3819830f2c04491faf0990c62e48b8018b2c3e4a0fa3134cb67fa83e158c994d961c4cb21095c1bf9",
            "5154ad0d2cb26e01274fc51148491f1b",
        ),
    ];
    for (k, r, nonce, message, tag) in cases {
        let key = SealKey {
            encrypt: [0; 32],
            mac_k: hex(k).try_into().unwrap(),
            mac_r: hex(r).try_into().unwrap(),
        };
        assert_eq!(key.mac(&hex(nonce).try_into().unwrap(), &hex(message)).as_slice(), hex(tag));
    }
}

/// Counter mode as NIST SP 800-38A, F.5.5 has it.
#[test]
fn cipher_of_the_standard() {
    let mut key = SealKey::from_bytes(&[1; 64]);
    key.encrypt = hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4").try_into().unwrap();
    let iv = hex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff").try_into().unwrap();
    let plain = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
    let mut sealed = Vec::new();
    key.seal_with(iv, &plain, &mut sealed);
    assert_eq!(sealed[16..48], hex("601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"));
    assert_eq!(key.open_in_place(&mut sealed).unwrap(), plain);
}

#[test]
fn any_change_is_noticed() {
    let key = SealKey::random().unwrap();
    for length in [0usize, 1, 15, 16, 17, 31, 32, 33, 1000] {
        let plain: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
        let sealed = key.seal(&plain).unwrap();
        assert_eq!(sealed.len(), length + OVERHEAD);
        assert_eq!(key.open_in_place(&mut sealed.clone()).unwrap(), plain);
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1 << (at % 8);
            let before = bad.clone();
            assert_eq!(key.open_in_place(&mut bad), Err(Forged));
            assert_eq!(bad, before);
        }
        for cut in 0..sealed.len() {
            assert_eq!(key.open_in_place(&mut sealed[..cut].to_vec()), Err(Forged));
        }
    }
    assert_ne!(key.seal(b"x").unwrap(), key.seal(b"x").unwrap());
    assert_eq!(SealKey::random().unwrap().open_in_place(&mut key.seal(b"x").unwrap()), Err(Forged));
}

/// Prints the speed; run with `--release --nocapture` to learn it.
#[test]
fn speed() {
    let key = SealKey::random().unwrap();
    let plain = vec![7; 8 << 20];
    let mut out = Vec::new();
    let started = std::time::Instant::now();
    for _ in 0..8 {
        out.clear();
        key.seal_into(&plain, &mut out).unwrap();
    }
    let seal = 64.0 / started.elapsed().as_secs_f64();
    let started = std::time::Instant::now();
    key.open_in_place(&mut out).unwrap();
    println!("seal {seal:.0} MiB/s, open {:.0} MiB/s", 8.0 / started.elapsed().as_secs_f64());
}
