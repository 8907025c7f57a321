//! Reports of abuse (MIMI #report-abuse): whose the hub takes, and what each of the messages in one is worth as evidence. What
//! follows from it is for people to decide.

use std::fmt;
use std::str::FromStr;

use nabe_auth::mimi::Rejection;
use nabe_types::ServerName;
use nabe_wire::IdentifierUri;
use nabe_wire::report_abuse::AbuseReport;
use nabe_wire::uri::{MimiKind, MimiUri};

use super::{Franking, MimiRoom, identifier};

/// Why a report is not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReportRefusal {
    /// A provider reports for its own users and nobody else.
    #[error("the reporter is not a user of the provider that sends")]
    OtherProvider,
    /// The provider has no clients in the room.
    #[error("the provider does not take part in the room")]
    NotInRoom,
    /// Whoever is accused is nobody's user.
    #[error("the alleged abuser is no user")]
    NoUser,
    /// "A handful" of messages, the draft says.
    #[error("{count} messages, at most {MAX_REPORTED_MESSAGES} are looked at")]
    TooManyMessages {
        /// How many there are.
        count: usize,
    },
    /// The room's policy.
    #[error("{rejection} (rule {})", rejection.rule())]
    Policy {
        /// The rule.
        rejection: Rejection,
    },
}

/// What a reported message is worth as evidence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Evidence {
    /// The hub franked this very message, of this sender, in this room, at this time.
    Genuine,
    /// The hub has no keys for franks.
    NoKeys,
    /// It is no MIMI content.
    NotContent,
    /// It does not say who sent it to which room.
    NoClaims,
    /// No key of the hub makes this frank of it: it, its time, its sender or its room was changed.
    OtherFrank,
    /// The franking agent's signature does not cover it.
    OtherSignature,
    /// It was sent by somebody else than who is accused.
    OtherSender,
    /// It was sent to another room.
    OtherRoom,
}

impl Evidence {
    const ALL: [Self; 8] = [
        Self::Genuine,
        Self::NoKeys,
        Self::NotContent,
        Self::NoClaims,
        Self::OtherFrank,
        Self::OtherSignature,
        Self::OtherSender,
        Self::OtherRoom,
    ];
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Genuine => "genuine",
            Self::NoKeys => "no_keys",
            Self::NotContent => "not_content",
            Self::NoClaims => "no_claims",
            Self::OtherFrank => "other_frank",
            Self::OtherSignature => "other_signature",
            Self::OtherSender => "other_sender",
            Self::OtherRoom => "other_room",
        })
    }
}

/// No evidence has this name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no kind of evidence")]
pub struct UnknownEvidence;

impl FromStr for Evidence {
    type Err = UnknownEvidence;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|evidence| evidence.to_string() == name);
        found.ok_or(UnknownEvidence)
    }
}

impl MimiRoom {
    /// Whether the hub takes a provider's report about the room. It does, whatever its messages are worth.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn report(&self, from: &ServerName, report: &AbuseReport) -> Result<(), ReportRefusal> {
        let count = report.messages.len();
        if count > MAX_REPORTED_MESSAGES {
            return Err(ReportRefusal::TooManyMessages { count });
        }
        let is_user = |uri: &MimiUri| uri.kind() == MimiKind::User;
        if !MimiUri::parse(&report.alleged_abuser_uri).is_ok_and(|uri| is_user(&uri)) {
            return Err(ReportRefusal::NoUser);
        }
        if !self.reach.active().any(|provider| provider == from) {
            return Err(ReportRefusal::NotInRoom);
        }
        let reporter = Some(&report.reporting_user).filter(|reporter| !reporter.is_empty());
        if let Some(reporter) = reporter {
            let uri = MimiUri::parse(reporter);
            if !uri.is_ok_and(|uri| is_user(&uri) && uri.host() == from.as_str()) {
                return Err(ReportRefusal::OtherProvider);
            }
        }
        let report = self.policy.report(reporter);
        report.map_err(|rejection| ReportRefusal::Policy { rejection })
    }

    /// What each message of a report about the room is worth, in their order. The hub recomputes its frank of what it is shown (MIMI
    /// #message-franking) and compares sender and room.
    #[must_use]
    pub fn evidence(&self, report: &AbuseReport, franking: Option<&dyn Franking>) -> Vec<Evidence> {
        let room = identifier(&self.uri);
        let worth = |message| {
            let franked = franking.ok_or(Evidence::NoKeys)?.recognize(message)?;
            match () {
                () if franked.room_uri != room => Err(Evidence::OtherRoom),
                () if !is_same(&franked.sender_uri, &report.alleged_abuser_uri) => Err(Evidence::OtherSender),
                () => Ok(Evidence::Genuine),
            }
        };
        let messages = report.messages.iter();
        messages
            .map(|message| worth(message).unwrap_or_else(|not| not))
            .collect()
    }
}

/// Whether two URIs name the same user, whatever the case of the host.
fn is_same(one: &IdentifierUri, other: &IdentifierUri) -> bool {
    match (MimiUri::parse(one), MimiUri::parse(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// Messages in one report.
pub const MAX_REPORTED_MESSAGES: usize = 32;
