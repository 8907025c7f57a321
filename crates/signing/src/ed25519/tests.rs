use super::*;

fn key(byte: u8) -> SigningKey {
    SigningKey::from_seed(KeyId::parse("ed25519:1").unwrap(), [byte; 32])
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    assert_eq!(hex.len(), 2 * N);
    std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
}

#[test]
fn rfc_8032_example_verifies() {
    let seed = bytes("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    let key = SigningKey::generate(KeyId::parse("ed25519:a").unwrap(), seed);
    let public = bytes("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    let signature = bytes(concat!(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155",
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    ));
    assert_eq!(key.public().to_bytes(), public);
    assert_eq!(key.sign(b"").to_bytes(), signature);
    assert_eq!(
        PublicKey::from_bytes(public)
            .unwrap()
            .verify(b"", &Signature::from_bytes(signature)),
        Ok(())
    );
}

#[test]
fn public_keys_of_known_seeds() {
    assert_eq!(
        key(1).public().to_string(),
        "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w"
    );
    assert_eq!(
        key(2).public().to_string(),
        "gTl3Dqh9F19Wo1Rmw0x+zMuNipG07jeiXfYPW4/Js5Q"
    );
}

#[test]
fn tampering_is_noticed() {
    let signature = key(1).sign(b"message");
    let public = key(1).public();
    assert_eq!(public.verify(b"message", &signature), Ok(()));
    assert_eq!(public.verify(b"messagf", &signature), Err(SignatureError::Invalid));
    assert_eq!(
        key(2).public().verify(b"message", &signature),
        Err(SignatureError::Invalid)
    );
    for bit in 0..512 {
        let mut tampered = signature.to_bytes();
        tampered[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            public.verify(b"message", &Signature::from_bytes(tampered)),
            Err(SignatureError::Invalid),
            "{bit}"
        );
    }
}

#[test]
fn signature_with_s_not_reduced_is_refused() {
    // The group order, little-endian; S + order satisfies the equation as S does.
    let order: [u8; 32] = bytes("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut malleated = key(1).sign(b"message").to_bytes();
    let mut carry = 0_u16;
    for (s, l) in malleated[32..].iter_mut().zip(order) {
        let sum = u16::from(*s) + u16::from(l) + carry;
        *s = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    let verified = key(1).public().verify(b"message", &Signature::from_bytes(malleated));
    assert_eq!(verified, Err(SignatureError::Invalid));
}

#[test]
fn small_order_keys_are_refused() {
    for hex in [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ] {
        assert_eq!(
            PublicKey::from_bytes(bytes(hex)),
            Err(PublicKeyError::SmallOrder),
            "{hex}"
        );
    }
}

#[test]
fn non_canonical_points_are_refused() {
    let ff = "ff".repeat(30);
    for (first, last) in [
        ("ed", "7f"),
        ("ed", "ff"),
        ("ee", "7f"),
        ("ee", "ff"),
        ("f0", "7f"),
        ("ff", "ff"),
    ] {
        let point = bytes(&format!("{first}{ff}{last}"));
        assert_eq!(
            PublicKey::from_bytes(point),
            Err(PublicKeyError::NonCanonical),
            "{first}…{last}"
        );
    }
}

#[test]
fn bytes_that_are_no_point_are_refused() {
    let mut no_point = [0; 32];
    no_point[0] = 2;
    assert_eq!(PublicKey::from_bytes(no_point), Err(PublicKeyError::NotAPoint));
}

#[test]
fn base64_of_keys_and_signatures() {
    let public = key(1).public();
    assert_eq!(PublicKey::from_base64(&public.to_base64()), Ok(public));
    assert_eq!(PublicKey::from_base64(&format!("{public}=")), Ok(public));
    for text in ["", "AAAA", "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1wAA", "!"] {
        assert_eq!(
            PublicKey::from_base64(text),
            Err(PublicKeyError::Base64(InvalidBase64)),
            "{text}"
        );
    }
    let signature = key(1).sign(b"");
    assert_eq!(Signature::from_base64(&signature.to_base64()), Ok(signature));
    assert_eq!(Signature::from_base64(&format!("{signature}==")), Ok(signature));
    assert_eq!(Signature::from_base64(&public.to_base64()), Err(InvalidBase64));
}

#[test]
fn key_file_reads_back() {
    let key = SigningKey::from_seed(KeyId::parse("ed25519:a_1").unwrap(), [7; 32]);
    let file = key.to_file_string();
    assert_eq!(file, "ed25519 a_1 BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc\n");
    let read = SigningKey::parse_file(&file).unwrap();
    assert_eq!((read.key_id(), read.public()), (key.key_id(), key.public()));
    assert!(SigningKey::parse_file(&format!("\r\n  {}\r\n\n", file.trim_end().replace(' ', "\t"))).is_ok());
}

#[test]
fn malformed_key_files_are_refused() {
    let seed = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
    for (text, error) in [
        (String::new(), KeyFileError::Form),
        (format!("ed25519 {seed}"), KeyFileError::Form),
        (format!("ed25519 1 {seed} x"), KeyFileError::Form),
        (format!("ed25519 1 {seed}\ned25519 2 {seed}"), KeyFileError::Form),
        (format!("ed448 1 {seed}"), KeyFileError::Algorithm),
        (format!("ed25519 a-b {seed}"), KeyFileError::Version),
        ("ed25519 1 AAAA".to_owned(), KeyFileError::Seed),
        ("ed25519 1 ?".to_owned(), KeyFileError::Seed),
    ] {
        assert_eq!(SigningKey::parse_file(&text).unwrap_err(), error, "{text}");
    }
}

#[test]
fn debug_does_not_print_the_secret() {
    assert_eq!(format!("{:?}", key(1)), "SigningKey { key_id: \"ed25519:1\", .. }");
}

#[test]
fn signature_with_small_order_r_is_refused() {
    use ed25519_dalek::Verifier as _;
    // R is the neutral element and S = k·a, which only the key's owner can compute, for any number of messages.
    let mut signature = [0; 64];
    signature[0] = 1;
    signature[32..].copy_from_slice(&bytes::<32>(
        "95c0fdcc54fccad1f2b8bc9b96aa6837c82f86349e6576ad29ca3ece7b7ea905",
    ));
    let public = key(1).public();
    let lax = public
        .0
        .verify(b"message", &ed25519_dalek::Signature::from_bytes(&signature));
    assert!(lax.is_ok(), "it satisfies the equation");
    let strict = public.verify(b"message", &Signature::from_bytes(signature));
    assert_eq!(strict, Err(SignatureError::Invalid));
}
