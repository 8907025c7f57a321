//! What people see of a room: MIMI #room-metadata.

use crate::codec::{Bytes, NulFreeText, Text, wire_struct};
use crate::uri::Uri;

wire_struct! {
    /// `RichDescription`
    pub struct RichDescription {
        /// Empty for `text/plain;charset=utf-8`.
        pub media_type: Text,
        /// Empty if it is not said.
        pub language_tag: Text,
        /// Of that media type.
        pub description_content: Bytes,
    }
}

wire_struct! {
    /// `RoomMetaData`, also `RoomMetaUpdate`: the data of the component `room_metadata`. An update replaces all of it.
    pub struct RoomMetaData {
        /// The room.
        pub room_uri: Uri,
        /// Its name.
        pub room_name: NulFreeText,
        /// What it is about, in several forms and languages.
        pub room_descriptions: Vec<RichDescription>,
        /// An `https` URL of a picture; empty if there is none.
        pub room_avatar: Uri,
        /// What is talked about.
        pub room_subject: NulFreeText,
        /// How it feels.
        pub room_mood: NulFreeText,
    }
}

#[cfg(test)]
mod tests;
