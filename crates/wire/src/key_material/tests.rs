//! Requests and responses byte by byte; what is signed; what may not be listed.

use openmls_traits::OpenMlsProvider;

use super::*;
use crate::codec::Message;
use crate::mls::{CredentialType, ExtensionType, ProposalType, ProtocolVersion};
use crate::testing::{KEY_PACKAGE_D, SUITE, assert_wire, basic, hex, key_package, keys, provider, refused, uri};

fn query(key: &[u8]) -> KeyMaterialQuery {
    KeyMaterialQuery {
        acceptable_ciphersuites: vec![SUITE, CipherSuite(0x0a0a)],
        required_capabilities: RequiredCapabilities {
            extension_types: vec![ExtensionType::APP_DATA_DICTIONARY],
            proposal_types: vec![ProposalType::APP_DATA_UPDATE],
            credential_types: vec![CredentialType::BASIC],
        },
        requester_signature_key: key.into(),
        requester_credential: basic("c"),
    }
}

fn tbs(key: &[u8]) -> KeyMaterialRequestTbs {
    KeyMaterialRequestTbs {
        requesting_user: uri("a"),
        target_user: uri("b"),
        room_id: uri(""),
        query: query(key),
    }
}

const REQUEST: &str = concat!(
    "01",           // protocol: mls10
    "01 61",        // requestingUser
    "01 62",        // targetUser
    "00",           // roomId: none
    "04 0001 0a0a", // acceptableCiphersuites
    "02 0006",      // requiredCapabilities.extension_types
    "02 0008",      // proposal_types
    "02 0001",      // credential_types
    "02 0909",      // requesterSignatureKey
    "0001 01 63",   // requesterCredential: basic
);

#[test]
fn a_request() {
    let request = KeyMaterialRequest {
        requesting_user: uri("a"),
        target_user: uri("b"),
        room_id: uri(""),
        body: Body::Mls10(SignedKeyMaterialQuery {
            query: query(&[9, 9]),
            key_material_request_signature: vec![7].into(),
        }),
    };
    assert_wire(&request, &format!("{REQUEST} 01 07"));
    assert_eq!(hex(&tbs(&[9, 9]).to_bytes()), REQUEST.replace(' ', ""));
}

#[test]
fn a_request_needs_an_acceptable_suite() {
    assert_eq!(
        refused::<KeyMaterialRequest>("01 01 61 01 62 00 00 00 00 00 00 0001 00 00"),
        (6, "acceptable_ciphersuites".to_owned(), Rule::Empty)
    );
}

#[test]
fn a_request_by_another_protocol_still_says_who_asks() {
    let request = KeyMaterialRequest::from_bytes(b"\x02\x01a\x01b\x01rxyz").unwrap();
    assert_eq!((&*request.requesting_user, &*request.target_user), ("a", "b"));
    assert_eq!(request.body.protocol(), Protocol(2));
    assert_eq!(request.body.mls10(), None);
    assert_eq!(request.to_bytes(), b"\x02\x01a\x01b\x01rxyz");
    assert_eq!(request.verify(provider().crypto()), Err(SignatureError::Invalid));
}

#[test]
fn a_signed_request_verifies_and_a_changed_one_does_not() {
    let (provider, keys) = (provider(), keys());
    let request = tbs(keys.public()).sign(&keys).unwrap();
    let read = KeyMaterialRequest::from_bytes(&request.to_bytes()).unwrap();
    assert_eq!(read.verify(provider.crypto()).unwrap().tbs, tbs(keys.public()));

    let stolen = KeyMaterialRequest {
        requesting_user: uri("mallory"),
        ..request
    };
    assert_eq!(stolen.verify(provider.crypto()), Err(SignatureError::Invalid));
}

#[test]
fn the_algorithm_is_found_among_the_acceptable_suites() {
    let (provider, keys) = (provider(), keys());
    let mut tbs = tbs(keys.public());
    tbs.query.acceptable_ciphersuites = vec![SUITE, CipherSuite(2)];
    let request = tbs.clone().sign(&keys).unwrap();
    assert!(request.verify(provider.crypto()).is_ok());

    tbs.query.acceptable_ciphersuites = vec![CipherSuite(2), SUITE];
    let other = SigningError::OtherAlgorithm { suite: CipherSuite(2) };
    assert_eq!(tbs.clone().sign(&keys), Err(other));
    // As another implementation may sign it.
    let signature = label::sign_with_label(&keys, KeyMaterialRequestTbs::LABEL, &tbs.to_bytes()).unwrap();
    let request = KeyMaterialRequest {
        requesting_user: tbs.requesting_user,
        target_user: tbs.target_user,
        room_id: tbs.room_id,
        body: Body::Mls10(SignedKeyMaterialQuery {
            query: tbs.query,
            key_material_request_signature: signature,
        }),
    };
    assert!(request.verify(provider.crypto()).is_ok());
}

#[test]
fn a_response() {
    let client = |client_uri, material| ClientKeyMaterial {
        client_uri: uri(client_uri),
        material,
    };
    let response = KeyMaterialResponse {
        protocol: Protocol::MLS10,
        user_status: KeyMaterialUserCode::PARTIAL_SUCCESS,
        user_uri: uri("b"),
        clients: vec![
            client("d", ClientMaterial::KeyPackage(Box::new(Kept::new(key_package("d"))))),
            client("e", ClientMaterial::Exhausted),
            client("f", ClientMaterial::NothingCompatible(None)),
            client(
                "g",
                ClientMaterial::NothingCompatible(Some(Capabilities {
                    versions: vec![ProtocolVersion::MLS10],
                    cipher_suites: vec![],
                    extensions: vec![],
                    proposals: vec![],
                    credentials: vec![],
                })),
            ),
            client("h", ClientMaterial::Other(KeyMaterialClientCode(9))),
        ],
    };
    let clients = [
        "00 01 64", // success, clientUri
        KEY_PACKAGE_D,
        "01 01 65",                        // keyMaterialExhausted, clientUri
        "02 01 66 00",                     // nothingCompatible, clientUri, no capabilities
        "02 01 67 01 02 0001 00 00 00 00", // nothingCompatible, clientUri, capabilities
        "09 01 68",                        // an unknown status, clientUri
    ]
    .concat();
    let length = crate::testing::unhex(&clients).len();
    assert_wire(&response, &format!("01 01 01 62 {:04x} {clients}", 0x4000 | length));
}

#[test]
fn no_consent() {
    // protocol, userStatus, userUri, clients
    assert_wire(
        &KeyMaterialResponse::refused(KeyMaterialUserCode::NO_CONSENT, uri("mimi://b.example/u/bob")),
        "01 05 16 6d696d693a2f2f622e6578616d706c652f752f626f62 00",
    );
}

#[test]
fn clients_are_listed_only_with_the_codes_that_allow_it() {
    for code in 0..=9 {
        let listed = KeyMaterialResponse::from_bytes(&[1, code, 1, b'b', 3, 1, 1, b'e']).map_err(|error| error.rule());
        match code {
            0 | 1 | 3 | 8 | 9 => assert!(listed.is_ok(), "{code}"),
            status => assert_eq!(listed, Err(Rule::NotEmpty { status })),
        }
        assert!(KeyMaterialResponse::from_bytes(&[1, code, 1, b'b', 0]).is_ok());
    }
}

#[test]
fn clients_of_another_protocol_cannot_be_read() {
    assert_eq!(
        refused::<KeyMaterialResponse>("02 00 01 62 03 01 01 65"),
        (0, "clients[0]".to_owned(), Rule::UnknownSelector { value: 2 })
    );
    assert!(KeyMaterialResponse::from_bytes(&[2, 2, 1, b'b', 0]).is_ok());
}

#[test]
fn an_error_deep_in_a_key_package_names_the_field() {
    let mut client = crate::testing::unhex(&format!("00 01 64 {KEY_PACKAGE_D}"));
    let tail = crate::testing::unhex("01 0000000000000001 0000000000000002 00 020505 00 020404");
    let at = client.len() - tail.len();
    client[at] = 9; // leaf_node_source
    let mut bytes = vec![1, 0, 1, b'b', u8::try_from(client.len()).unwrap()];
    bytes.extend(client);
    let error = KeyMaterialResponse::from_bytes(&bytes).unwrap_err();
    assert_eq!(error.field(), "clients[0].key_package.leaf_node.leaf_node_source");
    assert_eq!(
        (error.offset(), error.rule()),
        (at + 5, Rule::UnknownSelector { value: 9 })
    );
}
