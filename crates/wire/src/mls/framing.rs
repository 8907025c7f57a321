//! Messages: RFC 9420 section 6.

use super::group_info::{GroupInfo, Welcome};
use super::key_package::KeyPackage;
use super::names::{ContentType, ProtocolVersion, WireFormat};
use super::proposal::{Commit, Proposal};
use super::semi_private::SemiPrivateMessage;
use crate::codec::{Bytes, Decode, DecodeError, Encode, Kept, Reader, Rule, Value, open_enum};

/// `MLSMessage`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MlsMessage {
    /// What it holds; the version is always MLS 1.0.
    pub body: MlsMessageBody,
}

/// What an MLS message holds, by wire format.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MlsMessageBody {
    /// Readable for servers.
    Public(Box<PublicMessage>),
    /// For members alone.
    Private(PrivateMessage),
    /// Invites new members.
    Welcome(Box<Kept<Welcome>>),
    /// What an external joiner needs.
    GroupInfo(Box<Kept<GroupInfo>>),
    /// A client's offer to be added.
    KeyPackage(Box<Kept<KeyPackage>>),
    /// For members and external receivers.
    SemiPrivate(Box<SemiPrivateMessage>),
}

impl MlsMessage {
    /// Its wire format.
    pub fn wire_format(&self) -> WireFormat {
        match self.body {
            MlsMessageBody::Public(_) => WireFormat::PUBLIC_MESSAGE,
            MlsMessageBody::Private(_) => WireFormat::PRIVATE_MESSAGE,
            MlsMessageBody::Welcome(_) => WireFormat::WELCOME,
            MlsMessageBody::GroupInfo(_) => WireFormat::GROUP_INFO,
            MlsMessageBody::KeyPackage(_) => WireFormat::KEY_PACKAGE,
            MlsMessageBody::SemiPrivate(_) => WireFormat::SEMI_PRIVATE_MESSAGE,
        }
    }

    /// The type of its content, if it is a message within a group.
    pub fn content_type(&self) -> Option<ContentType> {
        match &self.body {
            MlsMessageBody::Public(message) => Some(message.content.body.content_type()),
            MlsMessageBody::Private(message) => Some(message.content_type),
            MlsMessageBody::SemiPrivate(message) => Some(message.content_type),
            _ => None,
        }
    }
}

impl Encode for MlsMessage {
    fn encode(&self, out: &mut Vec<u8>) {
        ProtocolVersion::MLS10.encode(out);
        self.wire_format().encode(out);
        match &self.body {
            MlsMessageBody::Public(message) => message.encode(out),
            MlsMessageBody::Private(message) => message.encode(out),
            MlsMessageBody::Welcome(welcome) => welcome.encode(out),
            MlsMessageBody::GroupInfo(group_info) => group_info.encode(out),
            MlsMessageBody::KeyPackage(key_package) => key_package.encode(out),
            MlsMessageBody::SemiPrivate(message) => message.encode(out),
        }
    }
}

impl Decode for MlsMessage {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.position();
        let version: ProtocolVersion = reader.read("version")?;
        if version != ProtocolVersion::MLS10 {
            return Err(DecodeError::unknown(start, "version", version.0));
        }
        let start = reader.position();
        let body = match reader.read("wire_format")? {
            WireFormat::PUBLIC_MESSAGE => MlsMessageBody::Public(reader.read("public_message")?),
            WireFormat::PRIVATE_MESSAGE => MlsMessageBody::Private(reader.read("private_message")?),
            WireFormat::WELCOME => MlsMessageBody::Welcome(reader.read("welcome")?),
            WireFormat::GROUP_INFO => MlsMessageBody::GroupInfo(reader.read("group_info")?),
            WireFormat::KEY_PACKAGE => MlsMessageBody::KeyPackage(reader.read("key_package")?),
            WireFormat::SEMI_PRIVATE_MESSAGE => MlsMessageBody::SemiPrivate(reader.read("semiprivate_message")?),
            other => {
                return Err(DecodeError::unknown(start, "wire_format", other.0));
            }
        };
        Ok(Self { body })
    }
}

/// `PublicMessage`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicMessage {
    /// What is said.
    pub content: FramedContent,
    /// By the sender.
    pub signature: Bytes,
    /// Of a commit.
    pub confirmation_tag: Option<Bytes>,
    /// Of a member.
    pub membership_tag: Option<Bytes>,
}

impl Encode for PublicMessage {
    /// The tags are written where the content and the sender ask for them; one that is missing is written empty, one too
    /// many is left out.
    fn encode(&self, out: &mut Vec<u8>) {
        let none = Bytes::default();
        self.content.encode(out);
        self.signature.encode(out);
        if self.content.body.content_type() == ContentType::COMMIT {
            self.confirmation_tag.as_ref().unwrap_or(&none).encode(out);
        }
        if matches!(self.content.sender, Sender::Member { .. }) {
            self.membership_tag.as_ref().unwrap_or(&none).encode(out);
        }
    }
}

impl Decode for PublicMessage {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let content: FramedContent = reader.read("content")?;
        let signature = reader.read("signature")?;
        let commit = content.body.content_type() == ContentType::COMMIT;
        let member = matches!(content.sender, Sender::Member { .. });
        Ok(Self {
            content,
            signature,
            confirmation_tag: commit.then(|| reader.read("confirmation_tag")).transpose()?,
            membership_tag: member.then(|| reader.read("membership_tag")).transpose()?,
        })
    }
}

/// `FramedContent`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FramedContent {
    /// In which group.
    pub group_id: Bytes,
    /// In which epoch.
    pub epoch: u64,
    /// By whom.
    pub sender: Sender,
    /// What goes along readable and authenticated; a [`crate::app_data::SafeAad`] in MIMI's groups.
    pub authenticated_data: Bytes,
    /// What.
    pub body: FramedContentBody,
}

impl Encode for FramedContent {
    fn encode(&self, out: &mut Vec<u8>) {
        self.group_id.encode(out);
        self.epoch.encode(out);
        self.sender.encode(out);
        self.authenticated_data.encode(out);
        self.body.encode(out);
    }
}

impl Decode for FramedContent {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            group_id: reader.read("group_id")?,
            epoch: reader.read("epoch")?,
            sender: reader.read("sender")?,
            authenticated_data: reader.read("authenticated_data")?,
            body: FramedContentBody::decode(reader)?,
        })
    }
}

/// `Sender`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sender {
    /// The member at this leaf.
    Member {
        /// Which.
        leaf_index: u32,
    },
    /// The external sender at this place of the group's list.
    External {
        /// Which.
        sender_index: u32,
    },
    /// Who proposes to be added.
    NewMemberProposal,
    /// Who joins by this commit.
    NewMemberCommit,
}

open_enum! {
    /// `SenderType`
    pub struct SenderType(u8) {
        /// A member.
        MEMBER = 1 "member",
        /// On the group's list of external senders.
        EXTERNAL = 2 "external",
        /// Proposes to be added.
        NEW_MEMBER_PROPOSAL = 3 "new_member_proposal",
        /// Joins.
        NEW_MEMBER_COMMIT = 4 "new_member_commit",
    }
}

impl Encode for Sender {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Member { leaf_index } => {
                SenderType::MEMBER.encode(out);
                leaf_index.encode(out);
            }
            Self::External { sender_index } => {
                SenderType::EXTERNAL.encode(out);
                sender_index.encode(out);
            }
            Self::NewMemberProposal => SenderType::NEW_MEMBER_PROPOSAL.encode(out),
            Self::NewMemberCommit => SenderType::NEW_MEMBER_COMMIT.encode(out),
        }
    }
}

impl Decode for Sender {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.position();
        match reader.read("sender_type")? {
            SenderType::MEMBER => Ok(Self::Member {
                leaf_index: reader.read("leaf_index")?,
            }),
            SenderType::EXTERNAL => Ok(Self::External {
                sender_index: reader.read("sender_index")?,
            }),
            SenderType::NEW_MEMBER_PROPOSAL => Ok(Self::NewMemberProposal),
            SenderType::NEW_MEMBER_COMMIT => Ok(Self::NewMemberCommit),
            other => Err(DecodeError::unknown(start, "sender_type", other.0)),
        }
    }
}

/// What a message says, by content type.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FramedContentBody {
    /// What users say, which MLS allows in private messages alone.
    Application(Bytes),
    /// A proposed change.
    Proposal(Box<Kept<Proposal>>),
    /// A change of epoch.
    Commit(Box<Commit>),
}

impl FramedContentBody {
    /// Its type.
    pub fn content_type(&self) -> ContentType {
        match self {
            Self::Application(_) => ContentType::APPLICATION,
            Self::Proposal(_) => ContentType::PROPOSAL,
            Self::Commit(_) => ContentType::COMMIT,
        }
    }
}

impl Encode for FramedContentBody {
    fn encode(&self, out: &mut Vec<u8>) {
        self.content_type().encode(out);
        match self {
            Self::Application(data) => data.encode(out),
            Self::Proposal(proposal) => proposal.encode(out),
            Self::Commit(commit) => commit.encode(out),
        }
    }
}

impl Decode for FramedContentBody {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match decode_content_type(reader)? {
            ContentType::PROPOSAL => Self::Proposal(reader.read("proposal")?),
            ContentType::COMMIT => Self::Commit(reader.read("commit")?),
            _ => Self::Application(reader.read("application_data")?),
        })
    }
}

/// One of the three content types there are: what follows or is inside depends on it.
pub(super) fn decode_content_type(reader: &mut Reader<'_>) -> Result<ContentType, DecodeError> {
    reader.field("content_type", |reader| {
        let start = reader.position();
        let content_type = ContentType(u8::from_be_bytes(reader.array()?));
        reader.note(|| Value::Named(content_type.0.into(), content_type.name()));
        match content_type.name() {
            Some(_) => Ok(content_type),
            None => {
                let value = content_type.0.into();
                Err(DecodeError::new(start, Rule::UnknownSelector { value }))
            }
        }
    })
}

/// `PrivateMessage`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PrivateMessage {
    /// In which group.
    pub group_id: Bytes,
    /// In which epoch.
    pub epoch: u64,
    /// Of which type.
    pub content_type: ContentType,
    /// What goes along readable and authenticated; a [`crate::app_data::SafeAad`] in MIMI's groups.
    pub authenticated_data: Bytes,
    /// Who sends, sealed.
    pub encrypted_sender_data: Bytes,
    /// What, sealed.
    pub ciphertext: Bytes,
}

impl Encode for PrivateMessage {
    fn encode(&self, out: &mut Vec<u8>) {
        self.group_id.encode(out);
        self.epoch.encode(out);
        self.content_type.encode(out);
        self.authenticated_data.encode(out);
        self.encrypted_sender_data.encode(out);
        self.ciphertext.encode(out);
    }
}

impl Decode for PrivateMessage {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            group_id: reader.read("group_id")?,
            epoch: reader.read("epoch")?,
            content_type: decode_content_type(reader)?,
            authenticated_data: reader.read("authenticated_data")?,
            encrypted_sender_data: reader.read("encrypted_sender_data")?,
            ciphertext: reader.read("ciphertext")?,
        })
    }
}
