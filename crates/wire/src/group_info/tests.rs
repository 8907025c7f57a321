//! Requests, answers, and what is sealed in them.

use openmls_traits::OpenMlsProvider;
use openmls_traits::crypto::OpenMlsCrypto;

use super::*;
use crate::codec::{Message, Rule};
use crate::mls::{GroupContext, ProtocolVersion};
use crate::testing::{SUITE, assert_wire, basic, hex, keys, provider, refused, sealed, uri};

fn tbs(key: &[u8], joining_code: Option<&[u8]>) -> GroupInfoRequestTbs {
    GroupInfoRequestTbs {
        cipher_suite: SUITE,
        requesting_signature_key: key.into(),
        requesting_credential: basic("c"),
        group_info_public_key: vec![8].into(),
        joining_code: joining_code.map(Bytes::from),
    }
}

fn query(joining_code: &[u8]) -> GroupInfoQuery {
    GroupInfoQuery {
        cipher_suite: SUITE,
        requesting_signature_key: vec![9].into(),
        requesting_credential: basic("c"),
        group_info_public_key: vec![8].into(),
        joining_code: joining_code.into(),
        signature: vec![7].into(),
    }
}

#[test]
fn a_request() {
    assert_wire(
        &GroupInfoRequest::from(query(b"xyz")),
        concat!(
            "01",         // protocol: mls10
            "0001",       // cipher_suite
            "01 09",      // requestingSignatureKey
            "0001 01 63", // requestingCredential: basic
            "01 08",      // groupInfoPublicKey
            "03 78797a",  // joiningCode
            "01 07",      // signature
        ),
    );
}

#[test]
fn a_joining_code_is_optional_in_what_is_signed() {
    assert_eq!(
        hex(&query(b"xyz").to_be_signed()),
        "01000101090001016301080103".to_owned() + "78797a"
    );
    // Without a code what is signed is the request without its signature.
    let request = GroupInfoRequest::from(query(b"")).to_bytes();
    assert_eq!(query(b"").to_be_signed(), request[..request.len() - 2]);
    assert_eq!(tbs(&[9], None).to_bytes(), query(b"").to_be_signed());
}

#[test]
fn a_signed_request_verifies_and_a_changed_one_does_not() {
    let (provider, keys) = (provider(), keys());
    for code in [None, Some(b"xyz".as_slice()), Some(b"".as_slice())] {
        let request = tbs(keys.public(), code).sign(&keys).unwrap();
        let query = request.body.mls10().unwrap().clone();
        assert!(query.clone().verify(provider.crypto()).is_ok());
        let changed = GroupInfoQuery {
            joining_code: b"abc".as_slice().into(),
            ..query
        };
        assert_eq!(changed.verify(provider.crypto()), Err(SignatureError::Invalid));
    }
}

#[test]
fn not_authorized() {
    // version, room_id, status
    assert_wire(
        &GroupInfoResponse::refused(uri("mimi://a.example/r/clubhouse"), GroupInfoCode::NOT_AUTHORIZED),
        "01 1c 6d696d693a2f2f612e6578616d706c652f722f636c7562686f757365 02",
    );
}

#[test]
fn success() {
    let response = GroupInfoResponse {
        version: Protocol::MLS10,
        room_id: uri("r"),
        outcome: GroupInfoOutcome::Success(SealedGroupInfo {
            cipher_suite: SUITE,
            hub_sender: ExternalSender {
                signature_key: vec![9].into(),
                credential: basic("h"),
            },
            encrypted_groupinfo_and_tree: sealed(&[1], &[2, 3]),
            signature: vec![7].into(),
        }),
    };
    assert_wire(
        &response,
        concat!(
            "01",               // version
            "01 72",            // room_id
            "01",               // status: success
            "0001",             // cipher_suite
            "01 09 0001 01 68", // hub_sender
            "01 01 02 0203",    // encrypted_groupinfo_and_tree
            "01 07",            // signature
        ),
    );
}

#[test]
fn a_status_that_is_not_known_survives() {
    let response = GroupInfoResponse::from_bytes(&[1, 1, b'r', 9]).unwrap();
    assert_eq!(response.outcome, GroupInfoOutcome::Refused(GroupInfoCode(9)));
    assert_eq!(response.to_bytes(), [1, 1, b'r', 9]);
    assert_eq!(response.verify(provider().crypto()), Err(SignatureError::Invalid));
}

#[test]
fn success_by_another_protocol_cannot_be_read() {
    assert_eq!(
        refused::<GroupInfoResponse>("02 01 72 01 00"),
        (0, "version".to_owned(), Rule::UnknownSelector { value: 2 })
    );
}

fn group_info() -> GroupInfo {
    GroupInfo {
        group_context: GroupContext {
            version: ProtocolVersion::MLS10,
            cipher_suite: SUITE,
            group_id: b"g".as_slice().into(),
            epoch: 7,
            tree_hash: vec![].into(),
            confirmed_transcript_hash: vec![].into(),
            extensions: vec![],
        },
        extensions: vec![],
        confirmation_tag: vec![].into(),
        signer: 0,
        signature: vec![].into(),
    }
}

fn tbe() -> GroupInfoRatchetTreeTbe {
    let proposal = "0001 0001 00 0000000000000007 02 00000000 00 02 0003 00000005 00";
    GroupInfoRatchetTreeTbe {
        group_info: Kept::new(group_info()),
        ratchet_tree_option: RatchetTreeOption::DistributionService,
        pending_proposals: vec![PendingProposal {
            proposal: label::decode_all(&crate::testing::unhex(proposal)).unwrap(),
            hub_accepted_time: 5,
        }],
    }
}

#[test]
fn what_is_sealed() {
    assert_wire(
        &tbe(),
        concat!(
            "0001 0001 01 67 0000000000000007 00 00 00", // groupInfo.group_context
            "00 00 00000000 00",                         // extensions, confirmation_tag, signer, signature
            "04",                                        // ratchetTreeOption: distributionService
            "23",                                        // pending_proposals: length
            "0001 0001 00 0000000000000007 02 00000000 00 02 0003 00000005 00",
            "0000000000000005", // hub_accepted_time
        ),
    );
}

#[test]
fn an_answer_opens_for_whom_it_was_sealed_and_names_its_room() {
    let (provider, hub) = (provider(), keys());
    let crypto = provider.crypto();
    let config = SUITE.to_openmls().unwrap().hpke_config();
    let joiner = crypto
        .derive_hpke_keypair(config, b"seed of the joiner's key pair")
        .unwrap();
    let (room, public, private) = (uri("mimi://a.example/r/clubhouse"), &joiner.public, &joiner.private);

    let sealed = tbe().seal(crypto, SUITE, public, room.as_bytes()).unwrap();
    let hub_sender = ExternalSender {
        signature_key: hub.public().into(),
        credential: basic("mimi://a.example"),
    };
    let response = GroupInfoResponse::success(room, SUITE, hub_sender, sealed, &hub).unwrap();
    let read = GroupInfoResponse::from_bytes(&response.to_bytes()).unwrap();
    let granted = read.clone().verify(crypto).unwrap();
    assert_eq!(granted.open(crypto, private).unwrap(), tbe());

    let moved = GroupInfoResponse {
        room_id: uri("mimi://a.example/r/other"),
        ..read
    };
    assert_eq!(moved.clone().verify(crypto), Err(SignatureError::Invalid));
    let GroupInfoOutcome::Success(sealed) = moved.outcome else {
        panic!("it was a success");
    };
    let elsewhere = GrantedGroupInfo {
        room_id: moved.room_id,
        sealed,
    };
    assert_eq!(elsewhere.open(crypto, private), Err(SealError::Hpke));
}

#[test]
fn what_opens_and_does_not_read_says_where() {
    let provider = provider();
    let crypto = provider.crypto();
    let config = SUITE.to_openmls().unwrap().hpke_config();
    let keys = crypto
        .derive_hpke_keypair(config, b"seed of the joiner's key pair")
        .unwrap();
    let label = <GroupInfoRatchetTreeTbe as Sealed>::LABEL;
    let mut plaintext = tbe().to_bytes();
    plaintext.push(0);
    let sealed = label::encrypt_with_label(crypto, SUITE, &keys.public, label, b"r", &plaintext).unwrap();
    let opened = GroupInfoRatchetTreeTbe::open(crypto, SUITE, &keys.private, b"r", &sealed);
    let Err(SealError::Plaintext(error)) = opened else {
        panic!("{opened:?}");
    };
    assert_eq!(error.rule(), Rule::TrailingBytes { left: 1 });
    let suite = CipherSuite(0x7777);
    assert_eq!(
        tbe().seal(crypto, suite, &keys.public, b"r"),
        Err(SealError::UnknownSuite { suite })
    );
}
