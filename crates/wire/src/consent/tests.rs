//! Each operation byte by byte.

use super::*;
use crate::codec::Rule;
use crate::mls::ComponentId;
use crate::testing::{KEY_PACKAGE_D, assert_wire, key_package, refused, unhex, uri};

fn entry(operation: ConsentAction, room_id: Option<&str>) -> ConsentEntry {
    ConsentEntry {
        operation,
        scope: ConsentScope {
            requester_uri: uri("a"),
            target_uri: uri("b"),
            room_id: room_id.map(uri),
        },
        consent_extensions: AppDataDictionary::new(),
    }
}

#[test]
fn operations_without_key_packages() {
    // consentOperation, requesterUri, targetUri, roomId, consent_extensions
    assert_wire(&entry(ConsentAction::Cancel, None), "00 01 61 01 62 00 00");
    assert_wire(&entry(ConsentAction::Request, Some("r")), "01 01 61 01 62 01 01 72 00");
    assert_wire(&entry(ConsentAction::Revoke, None), "03 01 61 01 62 00 00");
}

#[test]
fn a_grant_carries_key_packages() {
    let grant = |client_key_packages| ConsentAction::Grant { client_key_packages };
    assert_wire(&entry(grant(vec![]), None), "02 01 61 01 62 00 00 00");
    let length = unhex(KEY_PACKAGE_D).len();
    assert_wire(
        &entry(grant(vec![Kept::new(key_package("d"))]), None),
        &format!("02 01 61 01 62 00 {length:02x} {KEY_PACKAGE_D} 00"),
    );
}

#[test]
fn extensions_are_a_dictionary() {
    let mut entry = entry(ConsentAction::Request, None);
    entry.consent_extensions.set(ComponentId(0x8001), vec![5]);
    assert_wire(&entry, "01 01 61 01 62 00 04 8001 01 05");
    assert_eq!(
        refused::<ConsentEntry>("01 01 61 01 62 00 06 8001 00 8001 00"),
        (
            10,
            "consent_extensions.component_data[1]".to_owned(),
            Rule::Duplicate { value: 0x8001 }
        )
    );
}

#[test]
fn an_operation_that_is_not_known_survives() {
    assert_wire(
        &entry(ConsentAction::Other(ConsentOperation(9)), None),
        "09 01 61 01 62 00 00",
    );
}

#[test]
fn two_operations_are_requests() {
    let requests: Vec<u8> = (0..=9).filter(|&n| ConsentOperation(n).is_request()).collect();
    assert_eq!(requests, [0, 1]);
}

#[test]
fn a_scope() {
    assert_wire(&entry(ConsentAction::Request, Some("r")).scope, "01 61 01 62 01 01 72");
}
