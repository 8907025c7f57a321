//! Reports byte by byte.

use super::*;
use crate::codec::{Encode, Message, Rule};
use crate::mls::CipherSuite;
use crate::testing::{assert_wire, refused, uri};

fn report(messages: Vec<AbusiveMessage>) -> AbuseReport {
    AbuseReport {
        reporting_user: uri(""),
        alleged_abuser_uri: uri("b"),
        reason_code: AbuseType::RESERVED,
        note: "no".into(),
        messages,
        abuse_extensions: AppDataDictionary::new(),
    }
}

#[test]
fn an_anonymous_report_without_messages() {
    // reportingUser, allegedAbuserUri, reasonCode, note, messages, abuse_extensions
    assert_wire(&report(vec![]), "00 01 62 00 02 6e6f 00 00");
}

#[test]
fn a_report_of_a_message() {
    let message = AbusiveMessage {
        message_content: vec![0x87].into(),
        frank: Frank {
            server_frank: [0x5f; 32],
            franking_signature_ciphersuite: CipherSuite(1),
            franking_integrity_signature: vec![0xaa].into(),
        },
        accepted_timestamp: 9,
    };
    let frank = "5f".repeat(32);
    assert_wire(
        &report(vec![message]),
        &format!("00 01 62 00 02 6e6f 2e 01 87 {frank} 0001 01 aa 0000000000000009 00"),
    );
}

#[test]
fn a_reason_that_is_not_known_survives() {
    let bytes = [0, 0, 42, 0, 0, 0];
    assert_eq!(AbuseReport::from_bytes(&bytes).unwrap().to_bytes(), bytes);
}

#[test]
fn a_note_is_utf8() {
    assert_eq!(
        refused::<AbuseReport>("00 00 00 01 80 00 00"),
        (4, "note".to_owned(), Rule::NotUtf8)
    );
}
