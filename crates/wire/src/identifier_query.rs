//! `POST /identifierQuery/{domain}`: MIMI #find-internal-address.

use crate::app_data::AppDataDictionary;
use crate::codec::{Bytes, Decode, DecodeError, Encode, Reader, Text, open_enum, wire_struct};
use crate::uri::IdentifierUri;

open_enum! {
    /// `SearchIdentifierType`
    pub struct SearchIdentifierType(u8) {
        /// The whole handle URI.
        HANDLE = 1 "handle",
        /// A nickname, or the user part of a handle.
        NICK = 2 "nick",
        /// An address as in RFC 5322.
        EMAIL = 3 "email",
        /// In international form, with `+`.
        PHONE = 4 "phone",
        /// Part of a name, without regard to case.
        PARTIAL_NAME = 5 "partialName",
        /// Part of any field that can be searched.
        WHOLE_PROFILE = 6 "wholeProfile",
        /// A claim of OpenID Connect.
        OIDC_STD_CLAIM = 7 "oidcStdClaim",
        /// A property of a vCard.
        VCARD_FIELD = 8 "vcardField",
    }
}

/// `QueryElement`: one condition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QueryElement {
    /// What is looked at.
    pub search: SearchField,
    /// What it has to be, or to contain.
    pub search_value: Text,
}

/// What is looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SearchField {
    /// A claim of OpenID Connect, by name.
    OidcStdClaim {
        /// The name.
        claim_name: Text,
    },
    /// A property of a vCard, by name.
    VcardField {
        /// The name.
        property_name: Text,
    },
    /// What needs no name, known or not.
    Other(SearchIdentifierType),
}

impl SearchField {
    /// The type.
    pub fn search_type(&self) -> SearchIdentifierType {
        match self {
            Self::OidcStdClaim { .. } => SearchIdentifierType::OIDC_STD_CLAIM,
            Self::VcardField { .. } => SearchIdentifierType::VCARD_FIELD,
            Self::Other(search_type) => *search_type,
        }
    }
}

impl Encode for QueryElement {
    fn encode(&self, out: &mut Vec<u8>) {
        self.search.search_type().encode(out);
        match &self.search {
            SearchField::OidcStdClaim { claim_name } => claim_name.encode(out),
            SearchField::VcardField { property_name } => property_name.encode(out),
            SearchField::Other(_) => {}
        }
        self.search_value.encode(out);
    }
}

impl Decode for QueryElement {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let search = match reader.read("search_type")? {
            SearchIdentifierType::OIDC_STD_CLAIM => SearchField::OidcStdClaim {
                claim_name: reader.read("claim_name")?,
            },
            SearchIdentifierType::VCARD_FIELD => SearchField::VcardField {
                property_name: reader.read("property_name")?,
            },
            other => SearchField::Other(other),
        };
        let search_value = reader.read("search_value")?;
        Ok(Self { search, search_value })
    }
}

wire_struct! {
    /// `IdentifierRequest`: who meets all of these conditions?
    pub struct IdentifierRequest {
        /// All of them.
        pub query_elements: Vec<QueryElement>,
        /// More.
        pub id_request_extensions: AppDataDictionary,
    }
}

open_enum! {
    /// `IdentifierQueryCode`
    pub struct IdentifierQueryCode(u8) {
        /// Here they are.
        SUCCESS = 0 "success",
        /// Nobody.
        NOT_FOUND = 1 "notFound",
        /// Too few conditions.
        AMBIGUOUS = 2 "ambiguous",
        /// Not to be asked, or not by these fields.
        FORBIDDEN = 3 "forbidden",
        /// One of the fields cannot be searched.
        UNSUPPORTED_FIELD = 4 "unsupportedField",
    }
}

open_enum! {
    /// `FieldSource`
    pub struct FieldSource(u8) {
        /// A claim of OpenID Connect.
        OIDC_STD_CLAIM = 7 "oidcStdClaim",
        /// A property of a vCard.
        VCARD_FIELD = 8 "vcardField",
    }
}

wire_struct! {
    /// `ProfileField`
    pub struct ProfileField {
        /// Where the name is from.
        pub field_source: FieldSource,
        /// The name.
        pub field_name: Text,
        /// The value, in whatever form the source has.
        pub field_value: Bytes,
    }
}

wire_struct! {
    /// `UserProfile`
    pub struct UserProfile {
        /// Whose.
        pub stable_uri: IdentifierUri,
        /// What they let be seen.
        pub fields: Vec<ProfileField>,
    }
}

wire_struct! {
    /// `IdentifierResponse`
    pub struct IdentifierResponse {
        /// How it went.
        pub response_code: IdentifierQueryCode,
        /// Who was found.
        pub uri: Vec<IdentifierUri>,
        /// What is known of them; how this list relates to the other is not said.
        pub found_profiles: Vec<UserProfile>,
        /// More.
        pub id_response_extensions: AppDataDictionary,
    }
}

#[cfg(test)]
mod tests;
