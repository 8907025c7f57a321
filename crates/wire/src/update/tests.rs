//! Bundles and verdicts byte by byte; what has no place in them.

use super::*;
use crate::codec::Message;
use crate::mls::{
    Commit, FramedContent, FramedContentBody, MlsMessageBody, PartialGroupInfo, Proposal, ProposalOrRef, PublicMessage,
    RatchetTreePresence, Sender,
};
use crate::testing::{APP_MESSAGE, SUITE, assert_wire, refused};

/// A proposal that is well-formed and means nothing, by the first external sender.
const PROPOSAL: &str = concat!(
    "0001 0001",        // version, wire_format: mls_public_message
    "01 67",            // group_id
    "0000000000000007", // epoch
    "02 00000000",      // sender: external, 0
    "01 00",            // authenticated_data
    "02",               // content_type: proposal
    "0003 00000005",    // remove leaf 5
    "01 aa",            // signature
);

fn message(sender: Sender, body: FramedContentBody) -> Kept<MlsMessage> {
    let commit = matches!(body, FramedContentBody::Commit(_));
    let member = matches!(sender, Sender::Member { .. });
    Kept::new(MlsMessage {
        body: MlsMessageBody::Public(Box::new(PublicMessage {
            content: FramedContent {
                group_id: b"g".as_slice().into(),
                epoch: 7,
                sender,
                authenticated_data: vec![0].into(),
                body,
            },
            signature: vec![0xaa].into(),
            confirmation_tag: commit.then(|| vec![0xbb].into()),
            membership_tag: member.then(|| vec![0xcc].into()),
        })),
    })
}

fn proposal() -> Kept<MlsMessage> {
    let remove = FramedContentBody::Proposal(Box::new(Kept::new(Proposal::Remove(5))));
    message(Sender::External { sender_index: 0 }, remove)
}

fn commit() -> Kept<MlsMessage> {
    let proposals = vec![ProposalOrRef::Reference(vec![0x11].into())];
    let commit = FramedContentBody::Commit(Box::new(Commit { proposals, path: None }));
    message(Sender::Member { leaf_index: 3 }, commit)
}

#[test]
fn a_bundle_of_proposals() {
    let bundle = HandshakeBundle {
        proposal_or_commit: proposal(),
        with: HandshakeParts::Proposal {
            more_proposals: vec![proposal()],
        },
    };
    assert_wire(&bundle, &format!("{PROPOSAL} 1e {PROPOSAL}"));
}

#[test]
fn a_bundle_with_a_commit() {
    let bundle = HandshakeBundle {
        proposal_or_commit: commit(),
        with: HandshakeParts::Commit(Box::new(CommitParts {
            welcome: Some(Kept::new(Welcome {
                cipher_suite: SUITE,
                secrets: vec![],
                encrypted_group_info: vec![0xdd].into(),
            })),
            group_info_option: GroupInfoOption::Partial(PartialGroupInfo {
                ratchet_tree_presence: RatchetTreePresence::NO_RATCHET_TREE,
                group_info_extensions: vec![],
                signature: vec![0xee].into(),
            }),
            ratchet_tree_option: RatchetTreeOption::DistributionService,
        })),
    };
    assert_wire(
        &bundle,
        concat!(
            "0001 0001",        // version, wire_format: mls_public_message
            "01 67",            // group_id
            "0000000000000007", // epoch
            "01 00000003",      // sender: member, 3
            "01 00",            // authenticated_data
            "03",               // content_type: commit
            "03 02 0111",       // proposals: a reference
            "00",               // path: none
            "01 aa",            // signature
            "01 bb",            // confirmation_tag
            "01 cc",            // membership_tag
            "01",               // welcome: there
            "0001 00 01 dd",    // cipher_suite, secrets, encrypted_group_info
            "02",               // groupInfoOption: partial
            "00 00 01 ee",      // ratchet_tree_presence, group_info_extensions, signature
            "04",               // ratchetTreeOption: distributionService
        ),
    );
}

#[test]
fn a_bundle_holds_handshake_messages_alone() {
    let place = |field: &str, rule| (0, field.to_owned(), rule);
    assert_eq!(
        refused::<HandshakeBundle>(&format!("{APP_MESSAGE} 00")),
        place("proposal_or_commit", Rule::WireFormat { found: 2 })
    );
    // A proposal in a private message, and application data in a public one.
    assert_eq!(
        refused::<HandshakeBundle>("0001 0002 00 0000000000000000 02 00 00 00 00"),
        place("proposal_or_commit", Rule::WireFormat { found: 2 })
    );
    assert_eq!(
        refused::<HandshakeBundle>("0001 0001 00 0000000000000000 04 00 01 00 00 00"),
        place("proposal_or_commit", Rule::ContentType { found: 1 })
    );
}

#[test]
fn more_proposals_are_proposals() {
    let commit = crate::testing::hex(commit().as_bytes());
    assert_eq!(
        refused::<HandshakeBundle>(&format!("{PROPOSAL} {:02x} {commit}", commit.len() / 2)),
        (31, "more_proposals[0]".to_owned(), Rule::ContentType { found: 3 })
    );
}

#[test]
fn a_semi_private_proposal_is_a_handshake_message() {
    let semi_private = concat!(
        "0001 f001",        // version, wire_format: mls_semiprivate_message
        "01 67",            // group_id
        "0000000000000007", // epoch
        "02",               // content_type: proposal
        "00 00",            // authenticated_data, partial_context_hash
        "00 00",            // keys_for_external_receivers, framed_content_tbs_hash
        "00 00",            // encrypted_sender_data, ciphertext
    );
    let bundle = HandshakeBundle::from_bytes(&crate::testing::unhex(&format!("{semi_private} 00"))).unwrap();
    assert_eq!(
        bundle.proposal_or_commit.wire_format(),
        WireFormat::SEMI_PRIVATE_MESSAGE
    );
    assert!(matches!(bundle.with, HandshakeParts::Proposal { more_proposals } if more_proposals.is_empty()));
}

#[test]
fn a_group_info_comes_without_the_tree() {
    let group_info = concat!(
        "0001 0001 00 0000000000000000 00 00 00", // group_context
        "03 0002 00",                             // extensions: ratchet_tree
        "00 00000000 00",                         // confirmation_tag, signer, signature
    );
    let commit = crate::testing::hex(commit().as_bytes());
    assert_eq!(
        refused::<HandshakeBundle>(&format!("{commit} 00 01 {group_info} 04")),
        (
            commit.len() / 2 + 2,
            "group_info_option.group_info".to_owned(),
            Rule::Extension { found: 2 }
        )
    );
}

#[test]
fn representations_that_are_not_known_are_refused() {
    let commit = crate::testing::hex(commit().as_bytes());
    let at = commit.len() / 2 + 1;
    for value in [0, 3, 255] {
        let (offset, field, rule) = refused::<HandshakeBundle>(&format!("{commit} 00 {value:02x}"));
        assert_eq!((offset, field.as_str()), (at, "group_info_option.representation"));
        assert_eq!(rule, Rule::UnknownSelector { value });
    }
    let (offset, field, rule) = refused::<HandshakeBundle>(&format!("{commit} 00 02 00 00 00 05"));
    assert_eq!((offset, field.as_str()), (at + 4, "ratchet_tree_option.representation"));
    assert_eq!(rule, Rule::UnknownSelector { value: 5 });
}

#[test]
fn success() {
    assert_wire(
        &UpdateRoomResponse::success(1_644_387_225_019),
        concat!(
            "00",               // responseCode: success
            "00",               // errorDescription
            "0000017edd1dcdbb", // accepted_timestamp
        ),
    );
}

#[test]
fn wrong_epoch() {
    assert_wire(
        &UpdateRoomResponse::wrong_epoch(7, "stale epoch"),
        concat!(
            "01",                        // responseCode: wrongEpoch
            "0b 7374616c652065706f6368", // errorDescription
            "0000000000000007",          // currentEpoch
        ),
    );
}

#[test]
fn not_allowed() {
    assert_wire(&UpdateRoomResponse::not_allowed("no"), "02 02 6e6f");
}

#[test]
fn invalid_proposal() {
    assert_wire(
        &UpdateRoomResponse::invalid_proposal(vec![vec![1, 2].into(), vec![3].into()], ""),
        concat!(
            "03",             // responseCode: invalidProposal
            "00",             // errorDescription
            "05 020102 0103", // invalidProposals
        ),
    );
}

#[test]
fn a_code_that_is_not_known_survives_with_what_follows() {
    let response = UpdateRoomResponse::from_bytes(&[9, 1, b'x', 1, 2, 3]).unwrap();
    assert_eq!(response.code(), UpdateResponseCode(9));
    assert_eq!(format!("{:?}", response.code()), "unknown(9)");
    assert_eq!(response.to_bytes(), [9, 1, b'x', 1, 2, 3]);
}
