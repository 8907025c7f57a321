//! The frank's signature against values computed by another implementation, and each thing it covers.

use openmls_traits::OpenMlsProvider;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::signatures::SignerError;
use openmls_traits::types::{HashType, SignatureScheme};

use super::*;
use crate::codec::Message;
use crate::testing::{SUITE, assert_wire, basic, hex, provider, unhex, uri};

/// Signs with the Ed25519 key whose seed is 00 01 … 1f.
struct FixedKey;

/// The public half of that key.
const PUBLIC: &str = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";

impl Signer for FixedKey {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        let key: Vec<u8> = (0..32).collect();
        let provider = provider();
        let signature = provider.crypto().sign(SignatureScheme::ED25519, payload, &key);
        signature.map_err(SignerError::CryptoError)
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

fn context() -> ServerFrankingContext {
    ServerFrankingContext {
        sender_uri: uri("mimi://example.com/u/alice-smith"),
        room_uri: uri("mimi://example.com/r/engineering_team"),
        accepted_timestamp: 1_644_387_225_019,
    }
}

/// The draft of the content format has an example message; franked with the hub key 00 01 … 1f it has these values.
const FRANKING_TAG: &str = "a9a69f1d2fe6f37984190c093ecb8a10d647093db735fb7ba926bfdccff4c2bf";
const SERVER_FRANK: &str = "395d272f8a11846200e6c5cece361210556ac6981b2f6462c29ad92bbcba8609";
const SIGNATURE: &str = concat!(
    "ed5e45b8f5e5827b6876d2e047b43f80b20a0df2c504afc67961dc3e006851bb",
    "f026a396ace8cc25fcd0363f471fd12cec05edffe018d7631d524c30a7c23e07",
);

fn integrity() -> FrankingIntegrityTbs {
    FrankingIntegrityTbs {
        server_frank: unhex(SERVER_FRANK).try_into().unwrap(),
        franking_signature_ciphersuite: SUITE,
        context: context(),
    }
}

#[test]
fn the_context_is_what_the_frank_is_computed_over() {
    let hub_key: Vec<u8> = (0..32).collect();
    let input = [unhex(FRANKING_TAG), context().to_bytes()].concat();
    let provider = provider();
    let frank = provider.crypto().hmac(HashType::Sha2_256, &hub_key, &input).unwrap();
    assert_eq!(hex(frank.as_slice()), SERVER_FRANK);
}

#[test]
fn the_signature_is_that_of_another_implementation() {
    let frank = integrity().sign(&FixedKey).unwrap();
    assert_eq!(hex(&frank.franking_integrity_signature), SIGNATURE);
    let provider = provider();
    assert_eq!(frank.verify(provider.crypto(), &unhex(PUBLIC), &context()), Ok(()));
}

#[test]
fn a_frank_vouches_for_all_of_its_context() {
    let frank = integrity().sign(&FixedKey).unwrap();
    let (provider, key) = (provider(), unhex(PUBLIC));
    let verify = |frank: &Frank, context: &ServerFrankingContext| frank.verify(provider.crypto(), &key, context);
    let changed = [
        ServerFrankingContext {
            sender_uri: uri("mimi://example.com/u/mallory"),
            ..context()
        },
        ServerFrankingContext {
            room_uri: uri("mimi://example.com/r/other"),
            ..context()
        },
        ServerFrankingContext {
            accepted_timestamp: 1_644_387_225_020,
            ..context()
        },
    ];
    for context in changed {
        assert_eq!(verify(&frank, &context), Err(SignatureError::Invalid));
    }
    let mut other = frank.clone();
    other.server_frank[0] ^= 1;
    assert_eq!(verify(&other, &context()), Err(SignatureError::Invalid));
    let suite = CipherSuite(3);
    let other = Frank {
        franking_signature_ciphersuite: suite,
        ..frank.clone()
    };
    assert_eq!(verify(&other, &context()), Err(SignatureError::Invalid));
    let suite = CipherSuite(0x7777);
    let other = Frank {
        franking_signature_ciphersuite: suite,
        ..frank
    };
    assert_eq!(verify(&other, &context()), Err(SignatureError::UnknownSuite { suite }));
}

#[test]
fn a_tag_is_32_bytes_without_a_length() {
    let tag = FrankAad {
        franking_tag: unhex(FRANKING_TAG).try_into().unwrap(),
    };
    assert_wire(&tag, FRANKING_TAG);
}

#[test]
fn an_agent() {
    let agent = FrankingAgentData {
        franking_signature_key: vec![1, 2].into(),
        credential: basic("mimi://a.example"),
    };
    assert_wire(&agent, "02 0102 0001 10 6d696d693a2f2f612e6578616d706c65");
}

#[test]
fn what_is_signed() {
    let tbs = FrankingIntegrityTbs {
        server_frank: [1; 32],
        franking_signature_ciphersuite: SUITE,
        context: ServerFrankingContext {
            sender_uri: uri("a"),
            room_uri: uri("r"),
            accepted_timestamp: 2,
        },
    };
    let frank = "01".repeat(32);
    assert_wire(&tbs, &format!("{frank} 0001 01 61 01 72 0000000000000002"));
    assert!(Frank::from_bytes(&tbs.to_bytes()).is_err());
}
