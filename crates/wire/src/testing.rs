//! What the tests of every struct do: annotated hex, each truncation, re-encoding.

use std::fmt::Debug;

use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;

use crate::codec::{DecodeError, Message, Rule};
use crate::mls::{
    Capabilities, CipherSuite, Credential, HpkeCiphertext, KeyPackage, LeafNode, LeafNodeSource, Lifetime, MlsMessage,
    MlsMessageBody, PrivateMessage, ProtocolVersion,
};
use crate::uri::IdentifierUri;

/// The suite that everyone implements.
pub(crate) const SUITE: CipherSuite = CipherSuite::X25519_AES128GCM_SHA256_ED25519;

/// `value` is encoded as these bytes and read from them; every shorter input is refused, and every longer one.
#[track_caller]
pub(crate) fn assert_wire<T: Message + Debug + PartialEq>(value: &T, hex_text: &str) {
    let bytes = unhex(hex_text);
    assert_eq!(hex(&value.to_bytes()), hex(&bytes), "encoding {}", T::NAME);
    assert_eq!(T::from_bytes(&bytes).as_ref(), Ok(value), "decoding {}", T::NAME);
    assert_truncations_are_refused::<T>(&bytes);
    let mut longer = bytes.clone();
    longer.push(0xff);
    assert!(T::from_bytes(&longer).is_err(), "a byte more than a {}", T::NAME);
}

/// Each strict beginning of `bytes` is refused, with an error at or before its end.
#[track_caller]
pub(crate) fn assert_truncations_are_refused<T: Message + Debug>(bytes: &[u8]) {
    for end in 0..bytes.len() {
        match T::from_bytes(&bytes[..end]) {
            Ok(value) => panic!("{end} of {} bytes read as {value:?}", bytes.len()),
            Err(error) => assert!(error.offset() <= end, "{error} lies beyond byte {end}"),
        }
    }
}

/// Where, in which field and by which rule these bytes break.
#[track_caller]
pub(crate) fn refused<T: Message + Debug>(hex_text: &str) -> (usize, String, Rule) {
    fault(&T::from_bytes(&unhex(hex_text)).unwrap_err())
}

pub(crate) fn fault(error: &DecodeError) -> (usize, String, Rule) {
    (error.offset(), error.field(), error.rule())
}

/// The bytes of hex digits; white space is for people.
#[track_caller]
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).unwrap())
        .collect();
    assert!(digits.len().is_multiple_of(2), "an odd number of digits");
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap())
        .collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn uri(text: &str) -> IdentifierUri {
    IdentifierUri::new(text).unwrap()
}

pub(crate) fn basic(identity: &str) -> Credential {
    Credential::Basic {
        identity: identity.as_bytes().into(),
    }
}

pub(crate) fn sealed(kem_output: &[u8], ciphertext: &[u8]) -> HpkeCiphertext {
    HpkeCiphertext {
        kem_output: kem_output.into(),
        ciphertext: ciphertext.into(),
    }
}

pub(crate) fn provider() -> OpenMlsRustCrypto {
    OpenMlsRustCrypto::default()
}

pub(crate) fn keys() -> SignatureKeyPair {
    SignatureKeyPair::new(SUITE.signature_scheme().unwrap()).unwrap()
}

/// A key package that is well-formed and means nothing.
pub(crate) fn key_package(identity: &str) -> KeyPackage {
    KeyPackage {
        version: ProtocolVersion::MLS10,
        cipher_suite: SUITE,
        init_key: [1; 2].as_slice().into(),
        leaf_node: leaf_node(identity),
        extensions: Vec::new(),
        signature: [4; 2].as_slice().into(),
    }
}

pub(crate) fn leaf_node(identity: &str) -> LeafNode {
    LeafNode {
        encryption_key: [2; 2].as_slice().into(),
        signature_key: [3; 2].as_slice().into(),
        credential: basic(identity),
        capabilities: Capabilities {
            versions: vec![ProtocolVersion::MLS10],
            cipher_suites: vec![SUITE],
            extensions: Vec::new(),
            proposals: Vec::new(),
            credentials: Vec::new(),
        },
        source: LeafNodeSource::KeyPackage(Lifetime {
            not_before: 1,
            not_after: 2,
        }),
        extensions: Vec::new(),
        signature: [5; 2].as_slice().into(),
    }
}

/// The encoding of [`key_package`] of `d`.
pub(crate) const KEY_PACKAGE_D: &str = concat!(
    "0001 0001",                // version, cipher_suite
    "02 0101",                  // init_key
    "02 0202",                  // leaf_node.encryption_key
    "02 0303",                  // signature_key
    "0001 01 64",               // credential: basic, `d`
    "02 0001 02 0001 00 00 00", // capabilities
    "01",                       // leaf_node_source: key_package
    "0000000000000001",         // not_before
    "0000000000000002",         // not_after
    "00",                       // leaf_node.extensions
    "02 0505",                  // leaf_node.signature
    "00",                       // extensions
    "02 0404",                  // signature
);

/// An application message that is well-formed and means nothing.
pub(crate) fn app_message() -> MlsMessage {
    MlsMessage {
        body: MlsMessageBody::Private(PrivateMessage {
            group_id: b"g".as_slice().into(),
            epoch: 7,
            content_type: crate::mls::ContentType::APPLICATION,
            authenticated_data: [0].as_slice().into(),
            encrypted_sender_data: [0xaa].as_slice().into(),
            ciphertext: [0xbb, 0xcc].as_slice().into(),
        }),
    }
}

/// The encoding of [`app_message`].
pub(crate) const APP_MESSAGE: &str = concat!(
    "0001 0002",        // version, wire_format: mls_private_message
    "01 67",            // group_id
    "0000000000000007", // epoch
    "01",               // content_type: application
    "01 00",            // authenticated_data
    "01 aa",            // encrypted_sender_data
    "02 bbcc",          // ciphertext
);
