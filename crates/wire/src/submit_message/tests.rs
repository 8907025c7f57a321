//! Submissions and verdicts byte by byte.

use super::*;
use crate::codec::Message;
use crate::mls::CipherSuite;
use crate::protocol::{Body, Protocol};
use crate::testing::{APP_MESSAGE, app_message, assert_wire, refused, uri};

#[test]
fn a_submission() {
    let request = SubmitMessageRequest::from(Submission {
        app_message: Kept::new(app_message()),
        sending_uri: uri("a"),
    });
    assert_wire(&request, &format!("01 {APP_MESSAGE} 01 61"));
    let submission = request.body.mls10().unwrap();
    assert_eq!(submission.private_message().map(|message| message.epoch), Some(7));
}

#[test]
fn only_private_application_messages_are_submitted() {
    // A key package's wire format with nothing behind it breaks there; a public message reads and is refused.
    assert_eq!(
        refused::<SubmitMessageRequest>("01 0001 0001 00 0000000000000000 04 00 01 00 00 00"),
        (1, "app_message".to_owned(), Rule::WireFormat { found: 1 })
    );
    assert_eq!(
        refused::<SubmitMessageRequest>("01 0001 0002 00 0000000000000000 03 00 00 00 00"),
        (1, "app_message".to_owned(), Rule::ContentType { found: 3 })
    );
}

#[test]
fn another_protocol_is_kept() {
    let request = SubmitMessageRequest::from_bytes(&[2, 1, 2, 3]).unwrap();
    assert_eq!(
        request.body,
        Body::Other {
            protocol: Protocol(2),
            rest: vec![1, 2, 3].into(),
        }
    );
    assert_eq!(request.to_bytes(), [2, 1, 2, 3]);
}

#[test]
fn accepted_with_a_frank() {
    let response = SubmitMessageResponse::from(SubmitVerdict::Accepted(Acceptance {
        accepted_timestamp: 1,
        frank: Some(Frank {
            server_frank: [0x5f; 32],
            franking_signature_ciphersuite: CipherSuite(1),
            franking_integrity_signature: vec![0xaa, 0xbb].into(),
        }),
    }));
    assert_wire(
        &response,
        concat!(
            "01 00",                                                            // protocol, statusCode: accepted
            "0000000000000001",                                                 // accepted_timestamp
            "01",                                                               // frank: there
            "5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f", // server_frank, without a length
            "0001",                                                             // franking_signature_ciphersuite
            "02 aabb",                                                          // franking_integrity_signature
        ),
    );
}

#[test]
fn accepted_without_a_frank() {
    let acceptance = Acceptance {
        accepted_timestamp: 1,
        frank: None,
    };
    assert_wire(
        &SubmitMessageResponse::from(SubmitVerdict::Accepted(acceptance)),
        "01 00 0000000000000001 00",
    );
}

#[test]
fn not_allowed() {
    assert_wire(&SubmitMessageResponse::from(SubmitVerdict::NotAllowed), "01 01");
}

#[test]
fn epoch_too_old() {
    let verdict = SubmitVerdict::EpochTooOld { current_epoch: 7 };
    assert_wire(&SubmitMessageResponse::from(verdict), "01 02 0000000000000007");
}

#[test]
fn a_code_that_is_not_known_survives_with_what_follows() {
    let response = SubmitMessageResponse::from_bytes(&[1, 3, 9, 9]).unwrap();
    let verdict = response.body.mls10().unwrap();
    assert_eq!(verdict.code(), SubmitResponseCode(3));
    assert_eq!(response.to_bytes(), [1, 3, 9, 9]);
}
