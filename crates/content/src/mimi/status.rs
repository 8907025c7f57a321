//! Message status reports, `application/mimi-message-status` (draft-mahy-mimi-message-status-01): who got, read or lost which
//! messages. A report travels as the single part of a message like any other.
//!
//! ```
//! use nabe_content::mimi::status::{MessageStatus, StatusReport};
//! use nabe_content::mimi::MessageId;
//!
//! let read = MessageId::from_bytes([1; 32]).expect("the first octet is SHA-256's number");
//! let report = StatusReport::new(vec![(read, MessageStatus::READ)]);
//! let part = report.to_part();
//! assert_eq!(StatusReport::from_part(&part), Some(Ok(report)));
//! ```

use std::fmt;

use super::cbor::{ARRAY, Reader, UNSIGNED, write_bytes, write_head};
use super::error::{Malformed, Rule};
use super::id::MessageId;
use super::limits::MAX_BYTES;
use super::part::{Disposition, NestedPart, Part};

/// The media type of a report.
pub const MEDIA_TYPE: &str = "application/mimi-message-status";

/// Most messages in one report. Our own bound.
pub const MAX_ENTRIES: usize = 4096;

/// What became of a message at a recipient: a number of the draft, unknown ones kept.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct MessageStatus(pub u8);

impl MessageStatus {
    /// Not read yet, or marked so.
    pub const UNREAD: Self = Self(0);
    /// A client of the reporter received it.
    pub const DELIVERED: Self = Self(1);
    /// The reporter read it.
    pub const READ: Self = Self(2);
    /// It expired and cannot be read.
    pub const EXPIRED: Self = Self(3);
    /// It was deleted, here or by somebody who may.
    pub const DELETED: Self = Self(4);
    /// It was hidden here.
    pub const HIDDEN: Self = Self(5);
    /// Something went wrong with it.
    pub const ERROR: Self = Self(6);

    /// Whether the draft names it.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.0 <= Self::ERROR.0
    }

    /// Whether a later report of `self` makes sense after this one. The draft leaves transitions to implementations; we take what is
    /// gone for gone (expired, deleted), and let nothing read or hidden become merely delivered. What is unknown passes.
    #[must_use]
    pub const fn may_follow(self, before: Self) -> bool {
        match before {
            Self::EXPIRED => matches!(self, Self::EXPIRED | Self::DELETED) || !self.is_known(),
            Self::DELETED => matches!(self, Self::DELETED) || !self.is_known(),
            Self::READ | Self::HIDDEN => !matches!(self, Self::DELIVERED),
            _ => true,
        }
    }
}

/// The draft's name, or the number.
impl fmt::Display for MessageStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["unread", "delivered", "read", "expired", "deleted", "hidden", "error"];
        match names.get(usize::from(self.0)) {
            Some(name) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

/// A report on messages of one room.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StatusReport {
    /// The messages and their status, in the reporter's order.
    pub entries: Vec<(MessageId, MessageStatus)>,
}

impl StatusReport {
    /// A report on these messages.
    #[must_use]
    pub const fn new(entries: Vec<(MessageId, MessageStatus)>) -> Self {
        Self { entries }
    }

    /// Reads a report. As strict as for messages: the draft names no encoding, and its example is deterministic.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read(bytes).map_err(|error| error.of("MessageStatusReport"))
    }

    /// Writes the report.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(9 + 37 * self.entries.len());
        write_head(&mut out, ARRAY, self.entries.len() as u64);
        for (id, status) in &self.entries {
            write_head(&mut out, ARRAY, 2);
            write_bytes(&mut out, id.as_bytes());
            write_head(&mut out, UNSIGNED, status.0.into());
        }
        out
    }

    /// The part that carries the report. It is nothing to render.
    #[must_use]
    pub fn to_part(&self) -> NestedPart {
        NestedPart::single(MEDIA_TYPE, self.encode()).with_disposition(Disposition::UNSPECIFIED)
    }

    /// The report in a part; `None` if the part is something else.
    #[must_use]
    pub fn from_part(part: &NestedPart) -> Option<Result<Self, Malformed>> {
        let Part::Single(single) = &part.part else { return None };
        (single.essence()? == MEDIA_TYPE).then(|| Self::decode(&single.content))
    }

    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_BYTES {
            return Err(Malformed::new(0, Rule::TooLarge { max: MAX_BYTES }));
        }
        let mut reader = Reader::new(bytes);
        let length = reader.array()?;
        if length > MAX_ENTRIES as u64 {
            let max = MAX_ENTRIES as u64;
            return Err(Malformed::new(0, Rule::TooLargeNumber { max }));
        }
        let mut entries = Vec::new();
        for index in 0..length {
            let entry = reader.within(format_args!("[{index}]"), |reader| {
                reader.array_of(2)?;
                let id = reader.within("messageId", MessageId::read)?;
                let status = reader.within("status", |reader| reader.unsigned(u8::MAX.into()))? as u8;
                Ok((id, MessageStatus(status)))
            })?;
            entries.push(entry);
        }
        reader.end()?;
        Ok(Self { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8) -> MessageId {
        let mut bytes = [first; 32];
        bytes[0] = 1;
        MessageId::from_bytes(bytes).unwrap()
    }

    fn report() -> StatusReport {
        StatusReport::new(vec![
            (id(2), MessageStatus::READ),
            (id(3), MessageStatus::UNREAD),
            (id(4), MessageStatus(99)),
        ])
    }

    #[test]
    fn a_report_is_an_array_of_pairs() {
        let bytes = StatusReport::new(vec![(id(2), MessageStatus::READ)]).encode();
        let mut expected = vec![0x81, 0x82, 0x58, 32];
        expected.extend(id(2).as_bytes());
        expected.push(2);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn every_status_survives_even_one_nobody_knows() {
        assert_eq!(StatusReport::decode(&report().encode()), Ok(report()));
        assert_eq!(report().entries[2].1.to_string(), "99");
        assert_eq!(MessageStatus::HIDDEN.to_string(), "hidden");
        assert_eq!(StatusReport::decode(&[0x80]), Ok(StatusReport::default()));
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = report().encode();
        for length in 0..bytes.len() {
            let error = StatusReport::decode(&bytes[..length]).unwrap_err();
            assert!(matches!(error.rule, Rule::Truncated { .. }), "{length}: {error}");
        }
    }

    #[test]
    fn errors_name_entry_and_field() {
        let mut bytes = report().encode();
        bytes[4] = 9;
        let error = StatusReport::decode(&bytes).unwrap_err();
        assert_eq!(
            error.to_string(),
            "[0].messageId at byte 2: message ID with unknown hash algorithm 9"
        );
        assert_eq!(
            StatusReport::decode(&[0x80, 0]).unwrap_err().to_string(),
            "MessageStatusReport at byte 1: 1 bytes follow"
        );
        let error = StatusReport::decode(&[0x9a, 0, 1, 0, 0]).unwrap_err();
        assert_eq!(error.rule, Rule::TooLargeNumber { max: 4096 });
    }

    #[test]
    fn a_report_travels_as_a_single_part() {
        assert_eq!(StatusReport::from_part(&report().to_part()), Some(Ok(report())));
        assert_eq!(StatusReport::from_part(&NestedPart::text("x")), None);
        let broken = NestedPart::single("Application/Mimi-Message-Status", [0xff]);
        assert!(StatusReport::from_part(&broken).unwrap().is_err());
    }

    #[test]
    fn what_is_gone_is_not_delivered_again() {
        assert!(!MessageStatus::DELIVERED.may_follow(MessageStatus::DELETED));
        assert!(!MessageStatus::READ.may_follow(MessageStatus::EXPIRED));
        assert!(!MessageStatus::DELIVERED.may_follow(MessageStatus::READ));
        assert!(MessageStatus::UNREAD.may_follow(MessageStatus::READ));
        assert!(MessageStatus::READ.may_follow(MessageStatus::DELIVERED));
        assert!(MessageStatus(42).may_follow(MessageStatus::DELETED));
    }
}
