//! `POST /reportAbuse/{roomId}`: MIMI #report-abuse.

use crate::app_data::AppDataDictionary;
use crate::codec::{Bytes, Text, open_enum, wire_struct};
use crate::franking::Frank;
use crate::uri::IdentifierUri;

wire_struct! {
    /// `AbusiveMessage`: a message that is complained about, with what proves it.
    pub struct AbusiveMessage {
        /// What was franked.
        pub message_content: Bytes,
        /// The hub's frank.
        pub frank: Frank,
        /// When the hub accepted it, in milliseconds since 1970.
        pub accepted_timestamp: u64,
    }
}

open_enum! {
    /// `AbuseType`: no kinds of abuse have numbers yet.
    pub struct AbuseType(u8) {
        /// The only value there is.
        RESERVED = 0 "reserved",
    }
}

wire_struct! {
    /// `AbuseReport`
    pub struct AbuseReport {
        /// Who complains; empty if they do not say.
        pub reporting_user: IdentifierUri,
        /// About whom.
        pub alleged_abuser_uri: IdentifierUri,
        /// Of what.
        pub reason_code: AbuseType,
        /// For people; may be empty.
        pub note: Text,
        /// A handful at most; may be empty.
        pub messages: Vec<AbusiveMessage>,
        /// More.
        pub abuse_extensions: AppDataDictionary,
    }
}

#[cfg(test)]
mod tests;
