//! The command line of `nabe client mimi`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use nabe_client::mimi::MimiSettings;
use nabe_types::ServerName;
use nabe_wire::{policy::DownloadPrivacyType, uri::MimiUri};

use super::{
    components::{Component, LinkCommand, Metadata},
    create::Create,
    talk::TalkCommand,
};
use crate::client::args::Login;

/// `nabe client mimi`
#[derive(Args, Debug)]
pub(crate) struct MimiArgs {
    /// Where a room's policy leaves it open, tell nobody that their messages have come
    #[arg(long, global = true, env = "NABE_CLIENT_NO_DELIVERY_NOTIFICATIONS")]
    no_delivery_notifications: bool,
    /// Where a room's policy leaves it open, tell nobody that the user has read their messages
    #[arg(long, global = true, env = "NABE_CLIENT_NO_READ_RECEIPTS")]
    no_read_receipts: bool,
    #[command(subcommand)]
    pub(crate) command: MimiCommand,
}

impl MimiArgs {
    /// Whoever listens reports many messages at once; a command reports what it has seen before it ends.
    pub(super) fn settings(&self) -> MimiSettings {
        let usual = MimiSettings::default();
        MimiSettings {
            delivery_notifications: !self.no_delivery_notifications,
            read_receipts: !self.no_read_receipts,
            report_after: match self.command {
                MimiCommand::Listen => usual.report_after,
                _ => Duration::ZERO,
            },
            ..usual
        }
    }
}

/// Rooms, users and clients by their URIs, `mimi://example.org/r/club`, `mimi://example.org/u/alice`; messages by their IDs.
#[derive(Debug, Subcommand)]
pub(crate) enum MimiCommand {
    /// Make this folder a client: keys and key packages. A folder that `nabe client login` made needs no other login
    Login(Login),
    /// Who may add whom to rooms: users of different providers have to consent first
    #[command(subcommand)]
    Consent(ConsentCommand),
    /// What this user is found by
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Look for users of a provider who meet all conditions
    Find(Find),
    /// The rooms this client knows
    Rooms,
    /// Create a room at the user's own provider
    Create(Create),
    /// A room's group: epoch, authenticator, participants, clients
    Info {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
    },
    /// Take users into a room, with all their clients
    Add {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// Whom
        #[arg(required = true)]
        #[arg(value_parser = MimiUri::parse)]
        users: Vec<MimiUri>,
        /// Their role, by its number
        #[arg(long, default_value_t = nabe_client::mimi::templates::ORDINARY_USER)]
        role: u32,
    },
    /// Take a user out of a room, with all their clients
    Remove {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// Whom
        #[arg(value_parser = MimiUri::parse)]
        user: MimiUri,
    },
    /// Take clients out of a room, and nobody off its list: one's own others, or those of somebody who may be kicked
    Kick {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// Which
        #[arg(required = true)]
        #[arg(value_parser = MimiUri::parse)]
        clients: Vec<MimiUri>,
    },
    /// Take the user's own other clients into a room
    AddOwn {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
    },
    /// Ban a user from a room
    Ban {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// Whom
        #[arg(value_parser = MimiUri::parse)]
        user: MimiUri,
    },
    /// Give a participant another role; `2` lifts a ban in most rooms
    SetRole {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// Whose
        #[arg(value_parser = MimiUri::parse)]
        user: MimiUri,
        /// Which, by its number
        role: u32,
    },
    /// Leave a room with all the user's clients
    Leave {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// By which proposal this client goes
        #[arg(long, value_enum, default_value = "self-remove")]
        by: LeaveBy,
    },
    Metadata(Metadata),
    Component(Component),
    /// Links by which people join a room
    #[command(subcommand)]
    Link(LinkCommand),
    /// Join a room by oneself: a new client of a participant, an open room, a joining code; also when this client is stuck
    Join {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// The role to join with, by its number; the first that is open if absent
        #[arg(long)]
        role: Option<u32>,
        /// A joining code
        #[arg(long)]
        code: Option<String>,
    },
    /// Give this client new keys in a room's group, and commit what is pending
    Update {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
    },
    #[command(flatten)]
    Talk(TalkCommand),
    /// Encrypt, upload and send a file
    SendFile {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// The file
        file: PathBuf,
        /// Its media type, such as `image/png`; of common files the name tells
        #[arg(long)]
        media_type: Option<String>,
    },
    /// Fetch, check and open a file that came in a message
    GetFile {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// The message
        message: String,
        /// Where to write it, in place of what is there; if absent, here, under the name its sender gave it
        #[arg(long, short, visible_alias = "output", value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        way: Way,
    },
    /// Take in what has happened, print it, and end
    Sync,
    /// Print what happens, until Ctrl-C
    Listen,
    /// Report messages of one user to the room's hub, which is shown what they say
    Report {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// The messages
        #[arg(required = true)]
        messages: Vec<String>,
        /// What is wrong with them
        #[arg(long, default_value = "")]
        note: String,
    },
}

/// How a file is fetched
#[derive(Debug, Args)]
pub(crate) struct Way {
    /// In which way; as the room's policy suggests if absent
    #[arg(long, value_enum)]
    pub(crate) by: Option<By>,
    /// With `--by ohttp`: a file with the keys of the hub's gateway, from the hub itself, so that one's own provider cannot put another in
    /// their place
    #[arg(long, value_name = "FILE")]
    pub(crate) ohttp_keys: Option<PathBuf>,
    /// Also a file that is no longer valid by its sender's word: something else may lie there now
    #[arg(long)]
    pub(crate) expired: bool,
    /// With `--by direct`: the address of a server, instead of what DNS says
    #[arg(long, value_name = "NAME=ADDRESS:PORT", value_parser = resolved)]
    pub(crate) resolve: Vec<(ServerName, SocketAddr)>,
}

/// The ways of MIMI #download-files
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum By {
    /// Through the room's hub: whoever stores the file does not learn who fetches it
    Proxy,
    /// Sealed, through one's own provider to the hub: the one does not learn which file, the other not for whom
    Ohttp,
    /// From where it lies, which is told one's address
    Direct,
}

impl From<By> for DownloadPrivacyType {
    fn from(by: By) -> Self {
        match by {
            By::Proxy => Self::HUB_PROXY,
            By::Ohttp => Self::OHTTP,
            By::Direct => Self::DIRECT,
        }
    }
}

fn resolved(text: &str) -> Result<(ServerName, SocketAddr), String> {
    let (name, address) = text.split_once('=').ok_or("must be NAME=ADDRESS:PORT")?;
    let name = ServerName::parse(name).map_err(|error| error.to_string())?;
    let address = address.parse().map_err(|_| "must be NAME=ADDRESS:PORT")?;
    Ok((name, address))
}

/// How a client leaves (MIMI #bob-leaves-the-room)
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LeaveBy {
    /// SelfRemove, which no commit can pass over
    SelfRemove,
    /// Remove, as for other clients
    Remove,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Show it, as `put` takes it
    Show,
    /// Put a JSON document in place of the one before: `{"fields": [{"kind": "nick", "value": "al", "searchable": "exactly", "shown": true}]}`
    Put {
        /// The file
        file: PathBuf,
    },
}

/// At least one condition is needed.
#[derive(Args, Debug)]
pub(crate) struct Find {
    /// The provider's domain
    #[arg(value_parser = ServerName::parse)]
    pub(crate) provider: ServerName,
    #[command(flatten)]
    pub(crate) by: Known,
}

/// What is known of somebody.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub(crate) struct Known {
    /// The whole handle, a URI
    #[arg(long)]
    pub(crate) handle: Vec<String>,
    /// The nickname, or the user part of the handle
    #[arg(long)]
    pub(crate) nick: Vec<String>,
    /// The address of electronic mail
    #[arg(long)]
    pub(crate) email: Vec<String>,
    /// The telephone number, with `+`
    #[arg(long)]
    pub(crate) phone: Vec<String>,
    /// Part of a name, three letters or more
    #[arg(long)]
    pub(crate) name: Vec<String>,
    /// Part of anything that can be searched for, three letters or more
    #[arg(long)]
    pub(crate) anything: Vec<String>,
    /// A claim of OpenID Connect: `family_name=Smith`
    #[arg(long, value_parser = pair, value_name = "NAME=VALUE")]
    pub(crate) claim: Vec<(String, String)>,
    /// A property of a vCard: `ORG=Acme`
    #[arg(long, value_parser = pair, value_name = "NAME=VALUE")]
    pub(crate) property: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("needs a `=` between name and value")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConsentCommand {
    /// Ask a user for consent to be added by this one
    Ask(Between),
    /// Ask no longer
    Cancel(Between),
    /// Let a user add this one
    Grant {
        #[command(flatten)]
        between: Between,
        /// Send along a key package of each client, so that the user's provider need not ask for them
        #[arg(long)]
        key_packages: bool,
    },
    /// Let a user add this one no longer
    Revoke(Between),
    /// What was asked and decided
    List,
}

/// With whom, and about what.
#[derive(Args, Debug)]
pub(crate) struct Between {
    /// The other user
    #[arg(value_parser = MimiUri::parse)]
    pub(crate) user: MimiUri,
    /// For this room alone; for any if absent
    #[arg(long, value_parser = MimiUri::parse)]
    pub(crate) room: Option<MimiUri>,
}
