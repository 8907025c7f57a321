//! What may be allowed, required or forbidden: MRP #status-notification, MRP #link-preview, MRP #logging, MRP #history,
//! MRP #bots, MRP #message-expiration.

use crate::codec::{Decode, DecodeError, Encode, Reader, Rule, Step, Text, Value, wire_struct};
use crate::uri::Uri;

/// `Optionality`. The enumeration is closed: no other value is read. Its second value is `mandatory` wherever the
/// drafts select on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Optionality {
    /// As one likes.
    Optional,
    /// Always.
    Required,
    /// Never.
    Forbidden,
}

impl Encode for Optionality {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Optional => 0,
            Self::Required => 1,
            Self::Forbidden => 2,
        });
    }
}

impl Decode for Optionality {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.position();
        let [number] = reader.array()?;
        let (value, name) = match number {
            0 => (Self::Optional, "optional"),
            1 => (Self::Required, "required"),
            2 => (Self::Forbidden, "forbidden"),
            _ => {
                let value = number.into();
                return Err(DecodeError::new(start, Rule::NotInEnumeration { value }));
            }
        };
        reader.note(|| Value::Named(number.into(), Some(name)));
        Ok(value)
    }
}

/// An [`Optionality`] and what follows it unless it forbids.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UnlessForbidden<T> {
    /// As one likes, in this way.
    Optional(T),
    /// Always, in this way.
    Required(T),
    /// Never.
    Forbidden,
}

impl<T> UnlessForbidden<T> {
    /// Without what follows.
    pub fn optionality(&self) -> Optionality {
        match self {
            Self::Optional(_) => Optionality::Optional,
            Self::Required(_) => Optionality::Required,
            Self::Forbidden => Optionality::Forbidden,
        }
    }

    /// What follows.
    pub fn details(&self) -> Option<&T> {
        match self {
            Self::Optional(details) | Self::Required(details) => Some(details),
            Self::Forbidden => None,
        }
    }
}

impl<T: Encode> Encode for UnlessForbidden<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.optionality().encode(out);
        if let Some(details) = self.details() {
            details.encode(out);
        }
    }
}

impl<T: Decode> UnlessForbidden<T> {
    fn decode_as(name: &'static str, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.read(name)? {
            Optionality::Optional => Self::Optional(T::decode(reader)?),
            Optionality::Required => Self::Required(T::decode(reader)?),
            Optionality::Forbidden => Self::Forbidden,
        })
    }
}

/// A struct that is nothing but one [`UnlessForbidden`].
macro_rules! unless_forbidden_struct {
    ($(#[$meta:meta])* pub struct $name:ident { $(#[$field_meta:meta])* pub $field:ident: $details:ty }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct $name {
            $(#[$field_meta])*
            pub $field: UnlessForbidden<$details>,
        }

        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                self.$field.encode(out);
            }
        }

        impl Decode for $name {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let $field = UnlessForbidden::decode_as(stringify!($field), reader)?;
                Ok(Self { $field })
            }
        }
    };
}

wire_struct! {
    /// `StatusNotificationPolicy`: the data of the component `status_notification_policy`.
    pub struct StatusNotificationPolicy {
        /// That a message has arrived.
        pub delivery_notifications: Optionality,
        /// That it was read.
        pub read_receipts: Optionality,
    }
}

/// `LinkPreviewPolicy`: the data of the component `link_preview_policy`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LinkPreviewPolicy {
    /// Whether writing something like a link makes it one. Never required.
    pub autodetect_hyperlinks_in_text: Optionality,
    /// Whether senders add previews.
    pub send_link_previews: Optionality,
    /// Whether receivers make previews.
    pub automatic_link_previews: Optionality,
    /// Whether previews are made through a proxy.
    pub link_preview_proxy_use: UnlessForbidden<LinkPreviewProxy>,
}

wire_struct! {
    /// Where previews are made.
    pub struct LinkPreviewProxy {
        /// At least one.
        pub link_preview_proxy: Vec<Uri>,
    }
}

impl Encode for LinkPreviewPolicy {
    fn encode(&self, out: &mut Vec<u8>) {
        self.autodetect_hyperlinks_in_text.encode(out);
        self.send_link_previews.encode(out);
        self.automatic_link_previews.encode(out);
        self.link_preview_proxy_use.encode(out);
    }
}

impl Decode for LinkPreviewPolicy {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.position();
        let autodetect_hyperlinks_in_text = reader.read("autodetect_hyperlinks_in_text")?;
        if autodetect_hyperlinks_in_text == Optionality::Required {
            let error = DecodeError::new(start, Rule::NotInEnumeration { value: 1 });
            return Err(error.within(Step::Field("autodetect_hyperlinks_in_text")));
        }
        let send_link_previews = reader.read("send_link_previews")?;
        let automatic_link_previews = reader.read("automatic_link_previews")?;
        let before = reader.position();
        let link_preview_proxy_use: UnlessForbidden<LinkPreviewProxy> =
            UnlessForbidden::decode_as("link_preview_proxy_use", reader)?;
        let proxies = link_preview_proxy_use.details();
        if proxies.is_some_and(|proxies| proxies.link_preview_proxy.is_empty()) {
            // The list follows the octet that asks for it.
            let error = DecodeError::new(before + 1, Rule::Empty);
            return Err(error.within(Step::Field("link_preview_proxy")));
        }
        Ok(Self {
            autodetect_hyperlinks_in_text,
            send_link_previews,
            automatic_link_previews,
            link_preview_proxy_use,
        })
    }
}

unless_forbidden_struct! {
    /// `LoggingPolicy`: the data of the component `logging_policy`.
    pub struct LoggingPolicy {
        /// Whether someone keeps a record, and who.
        pub logging: Logging
    }
}

wire_struct! {
    /// Who keeps a record.
    pub struct Logging {
        /// Clients that do.
        pub logging_clients: Vec<Uri>,
        /// Their owner's policy, for machines; may be empty.
        pub machine_readable_policy: Uri,
        /// Their owner's policy, for people; may be empty.
        pub human_readable_policy: Uri,
    }
}

unless_forbidden_struct! {
    /// `HistoryPolicy`: the data of the component `chat_history_policy`.
    pub struct HistoryPolicy {
        /// Whether new members are shown the past, and how.
        pub history_sharing: History
    }
}

wire_struct! {
    /// How new members are shown the past.
    pub struct History {
        /// By these roles.
        pub roles_that_can_share: Vec<u32>,
        /// Without anybody's doing.
        pub automatically_share: bool,
        /// How far back, in seconds.
        pub max_time_period: u32,
    }
}

wire_struct! {
    /// `Bot`
    pub struct Bot {
        /// Its name.
        pub name: Text,
        /// What it does.
        pub description: Text,
        /// More about it.
        pub homepage: Uri,
        /// It sees the room through someone's client alone.
        pub local_client_bot: bool,
        /// Its role; 0 if it takes no part.
        pub bot_role_index: u32,
        /// It may speak to one person alone.
        pub can_target_message_in_group: bool,
        /// It may say other things to other people.
        pub per_user_content: bool,
    }
}

wire_struct! {
    /// `BotPolicy`: the data of the component `bot_policy`.
    pub struct BotPolicy {
        /// Those that may be there.
        pub allowed_bots: Vec<Bot>,
    }
}

unless_forbidden_struct! {
    /// `MessageExpiration`: the data of the component `message_expiration_policy`.
    pub struct MessageExpiration {
        /// Whether messages expire, and when.
        pub expiring_messages: Expiration
    }
}

wire_struct! {
    /// When messages expire, in seconds.
    pub struct Expiration {
        /// At the earliest.
        pub min_expiration_duration: u32,
        /// At the latest.
        pub max_expiration_duration: u32,
        /// Usually.
        pub default_expiration_duration: Option<u32>,
    }
}
