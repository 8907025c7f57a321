//! The command line of `nabe client`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nabe_types::{DeviceId, EventId, RoomId, ServerName, UserId};

use super::mimi::MimiArgs;

/// `nabe client`
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// The folder with the client's state: one for each device
    #[arg(long, env = "NABE_CLIENT_STATE", value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// Print one JSON object per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: ClientCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Make this folder a device: keys, device object, key packages
    Login(Login),
    /// Rooms and their members
    #[command(subcommand)]
    Room(RoomCommand),
    /// Devices in a room's group, and one's own
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Join a room's group without a Welcome
    JoinExternal {
        /// The room
        room: RoomId,
    },
    /// Give this device new keys in a room's group
    Update {
        /// The room
        room: RoomId,
    },
    /// Send a text
    Send {
        /// The room
        room: RoomId,
        /// The text
        text: String,
        /// The event it answers
        #[arg(long, value_name = "EVENT_ID")]
        reply_to: Option<EventId>,
    },
    /// Encrypt, upload and send a file
    SendFile(SendFile),
    /// Fetch, check and open a file that came in a message
    GetFile(GetFile),
    /// Take in what has happened, print it, and end
    Sync,
    /// Print what happens, until Ctrl-C
    Listen,
    /// Print the newest messages of a room
    Messages {
        /// The room
        room: RoomId,
        /// How many
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// The same for rooms of MIMI, which have URIs for everything
    Mimi(MimiArgs),
    /// Talk
    Chat {
        /// The room to begin in
        room: Option<RoomId>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// URL of the server's client API, such as `https://chat.example.org:8449`
    #[arg(long)]
    pub(crate) server: String,
    /// The device's name: letters, digits and underscores
    #[arg(long)]
    pub(crate) device: DeviceId,
    /// The user's token (`nabe user add`)
    #[arg(
        long,
        env = "NABE_TOKEN",
        hide_env_values = true,
        allow_hyphen_values = true,
        required_unless_present = "provider_token"
    )]
    pub(crate) token: Option<String>,
    /// A provider backend's credential, with --user
    #[arg(
        long,
        env = "NABE_PROVIDER_TOKEN",
        hide_env_values = true,
        allow_hyphen_values = true,
        requires = "user",
        conflicts_with = "token"
    )]
    pub(crate) provider_token: Option<String>,
    /// For whom the provider's credential speaks
    #[arg(long)]
    pub(crate) user: Option<UserId>,
    /// The authority (PEM) of the server's certificate; the system's if absent
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// A cipher suite to support, by name; may be repeated. The draft's own if absent
    #[arg(long, value_name = "SUITE")]
    pub(crate) suite: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SendFile {
    /// The room
    pub(crate) room: RoomId,
    /// The file
    pub(crate) file: PathBuf,
    /// Its media type, such as `image/png`; of common files the name tells
    #[arg(long)]
    pub(crate) media_type: Option<String>,
    /// A shell command that gets the file on standard input before it is encrypted, and refuses it by any exit status but 0
    #[arg(long, value_name = "CMD")]
    pub(crate) scan: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct GetFile {
    /// The room
    pub(crate) room: RoomId,
    /// The message's event
    pub(crate) event_id: EventId,
    /// Where to write it, in place of what is there; if absent, here, under the name its sender gave it
    #[arg(long, short, visible_alias = "output", value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoomCommand {
    /// The rooms this client knows, and invites
    List,
    /// Create an encrypted room
    Create {
        /// Its name
        #[arg(long)]
        name: Option<String>,
        /// Who may join: `invite`, `public` or `knock`
        #[arg(long, default_value = "invite")]
        join_rule: String,
        /// Whom to invite; may be repeated
        #[arg(long, value_name = "USER")]
        invite: Vec<UserId>,
        /// The cipher suite, by name
        #[arg(long)]
        suite: Option<String>,
    },
    /// Make the group of an encrypted room that has none: another program created the room, or this one died in between
    Found {
        /// The room
        room: RoomId,
    },
    /// Invite a user
    Invite {
        /// The room
        room: RoomId,
        /// Whom
        user: UserId,
    },
    /// Join a room
    Join {
        /// The room
        room: RoomId,
        /// A server that is in it; may be repeated
        #[arg(long)]
        via: Vec<ServerName>,
    },
    /// Leave a room and forget its keys
    Leave {
        /// The room
        room: RoomId,
    },
    /// Remove a user and their devices
    Kick {
        /// The room
        room: RoomId,
        /// Whom
        user: UserId,
    },
    /// Add all devices of a member to the group
    Add {
        /// The room
        room: RoomId,
        /// Whose; all members' if absent
        user: Vec<UserId>,
    },
    /// Who is in a room
    Members {
        /// The room
        room: RoomId,
    },
    /// A room's group: epoch, authenticator, tree hash, devices
    Info {
        /// The room
        room: RoomId,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// The devices in a room's group
    List {
        /// The room
        room: RoomId,
    },
    /// Add one device to a room's group
    Add {
        /// The room
        room: RoomId,
        /// Whose
        user: UserId,
        /// Which
        device: DeviceId,
    },
    /// Remove one's own device: from a room's group, or without --room from all of them and from the server
    Remove {
        /// Which
        device: DeviceId,
        /// Only from this room's group
        #[arg(long)]
        room: Option<RoomId>,
        /// Whose, if they have left the room
        #[arg(long, requires = "room")]
        user: Option<UserId>,
    },
}
