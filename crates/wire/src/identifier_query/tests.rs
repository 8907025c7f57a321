//! Conditions and findings byte by byte.

use super::*;
use crate::codec::{Message, Rule};
use crate::testing::{assert_wire, refused, uri};

#[test]
fn a_request() {
    let element = |search, value: &str| QueryElement {
        search,
        search_value: value.into(),
    };
    let request = IdentifierRequest {
        query_elements: vec![
            element(SearchField::Other(SearchIdentifierType::HANDLE), "h"),
            element(
                SearchField::OidcStdClaim {
                    claim_name: "given_name".into(),
                },
                "Al",
            ),
            element(
                SearchField::VcardField {
                    property_name: "ORG".into(),
                },
                "X",
            ),
            element(SearchField::Other(SearchIdentifierType(9)), ""),
        ],
        id_request_extensions: AppDataDictionary::new(),
    };
    assert_wire(
        &request,
        concat!(
            "1b",                                 // query_elements: length
            "01 01 68",                           // handle
            "07 0a 676976656e5f6e616d65 02 416c", // oidcStdClaim, claimName, searchValue
            "08 03 4f5247 01 58",                 // vcardField, propertyName, searchValue
            "09 00",                              // an unknown type, searchValue
            "00",                                 // id_request_extensions
        ),
    );
}

#[test]
fn what_is_searched_for_is_utf8() {
    assert_eq!(
        refused::<IdentifierRequest>("03 01 01 ff 00"),
        (3, "query_elements[0].search_value".to_owned(), Rule::NotUtf8)
    );
}

#[test]
fn a_response() {
    let response = IdentifierResponse {
        response_code: IdentifierQueryCode::SUCCESS,
        uri: vec![uri("a"), uri("b")],
        found_profiles: vec![UserProfile {
            stable_uri: uri("a"),
            fields: vec![ProfileField {
                field_source: FieldSource::VCARD_FIELD,
                field_name: "FN".into(),
                field_value: vec![0xff].into(),
            }],
        }],
        id_response_extensions: AppDataDictionary::new(),
    };
    assert_wire(
        &response,
        concat!(
            "00",                           // responseCode: success
            "04 01 61 01 62",               // uri
            "09 01 61 06 08 02 464e 01 ff", // foundProfiles
            "00",                           // id_response_extensions
        ),
    );
}

#[test]
fn values_that_are_not_known_survive() {
    let bytes = [77, 0, 6, 1, b'a', 3, 200, 0, 0, 0];
    let response = IdentifierResponse::from_bytes(&bytes).unwrap();
    assert_eq!(response.response_code.name(), None);
    assert_eq!(response.found_profiles[0].fields[0].field_source, FieldSource(200));
    assert_eq!(response.to_bytes(), bytes);
}
