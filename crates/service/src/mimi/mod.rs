//! MIMI's use cases, one file each: rooms whose hub we are, rooms that we follow, and what providers ask each other beside rooms.
//! A request of a local user and one of another provider take the same way; `from` is the provider that speaks for the user, and
//! for a local one that is our own domain.
//!
//! | Who calls | Where |
//! |---|---|
//! | another provider, about a room whose hub we are | `update`, `submit`, `group_info`, `report` |
//! | another provider | `assets` |
//! | a hub | `inbox`: what happened in its rooms |
//! | a hub, or a local user | `key_material` |
//! | a user's provider, or a local user | `consent`, `identifier` |
//! | a local user | `create`, `forward`, `relay` |
//! | the operator | `report` |
//! | nobody: workers | `notify` (one task for each follower of each room that is owed something), `forward` (what has no verdict yet), `children` (who left the room that another depends on) |
//!
//! `recent` is what the workers need not read again. `order` is how what comes from hubs and what our users send become one log.

mod assets;
mod beside;
mod children;
mod consent;
mod create;
mod error;
mod forward;
mod group_info;
mod identifier;
mod inbox;
mod join_links;
mod key_material;
mod notify;
mod order;
mod rates;
mod recent;
mod relay;
mod report;
mod rooms;
mod submit;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod update;
mod urges;
mod users;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use nabe_core::mimi::Franking;
use nabe_store::{StoreError, StoredReply};
use nabe_types::ServerName;
use nabe_wire::Message;
use nabe_wire::franking::FrankingAgentData;
use nabe_wire::label::Signer;
use nabe_wire::mls::ExternalSender;

pub use assets::{ASSETS, Asset, AssetSettings};
pub use create::CreateRefused;
pub use error::MimiError;
pub use identifier::ProfileSource;
pub use key_material::OfferNotKept;
pub use nabe_store::{
    ConsentDecision, KeptConsent, KeptReport, ProfileEntry, ProfileFieldName, ReportState, Searchable,
};
pub use rates::RateSettings;
pub use relay::{MAX_SEALED_BYTES, Relayed, UNKNOWN_KEY};
pub use report::{Report, ReportSettings};
pub(crate) use users::removal_of;
pub use users::{MimiNews, UserSettings};

use crate::Service;
use crate::ports::assets::Assets;
use crate::ports::mimi::MimiPeers;
use crate::shares::Shares;
use assets::Reader;
use children::Children;
use forward::Forwarding;
use inbox::HeldRooms;
use key_material::PassingOn;
use notify::Woken;
use order::Turns;
use recent::Recent;
use rooms::MimiRooms;
use users::News;

/// What a server needs to be a MIMI provider.
pub struct MimiDeps {
    /// The provider's domain, by which users, rooms and certificates are named.
    pub domain: ServerName,
    /// Requests to other providers.
    pub peers: Arc<dyn MimiPeers>,
    /// The key that stands for us among the external senders of our rooms' groups.
    pub hub: HubKey,
    /// By which messages in rooms with a franking agent are franked; `None` franks nothing.
    pub franking: Option<Arc<dyn Franking>>,
    /// What a room whose messages are to be franked has of that.
    pub franking_agent: Option<FrankingAgentData>,
    /// Downloads for other providers; `None` for a hub that makes none.
    pub assets: Option<Arc<dyn Assets>>,
    /// The operator's choices.
    pub settings: MimiSettings,
}

/// A hub's key for what it proposes itself (MIMI #authenticating-proposals).
#[derive(Clone)]
pub struct HubKey {
    /// Its entry in the list of external senders, the first of a room's.
    pub sender: ExternalSender,
    /// The key.
    pub signer: Arc<dyn Signer + Send + Sync>,
}

/// The operator's choices about MIMI.
#[derive(Clone, Debug)]
pub struct MimiSettings {
    /// What we download for other providers.
    pub assets: AssetSettings,
    /// What other providers hear of our users.
    pub users: UserSettings,
    /// Reports of abuse that come.
    pub reports: ReportSettings,
    /// How often each provider may send what happens in rooms.
    pub rates: RateSettings,
    /// Memory for the rooms in use whose hub we are, in bytes, as they estimate themselves.
    pub room_memory_bytes: usize,
    /// How far apart requests are that notify a follower of one room, unless more is waiting than goes into one. Zero sends at once
    /// whatever there is.
    pub gather: Duration,
}

impl Default for MimiSettings {
    fn default() -> Self {
        Self {
            assets: AssetSettings::default(),
            users: UserSettings::default(),
            reports: ReportSettings::default(),
            rates: RateSettings::default(),
            room_memory_bytes: 256 * 1024 * 1024,
            gather: Duration::ZERO,
        }
    }
}

/// What the use cases share.
pub(crate) struct MimiState {
    domain: ServerName,
    peers: Arc<dyn MimiPeers>,
    hub: HubKey,
    franking: Option<Arc<dyn Franking>>,
    franking_agent: Option<FrankingAgentData>,
    assets: Option<Arc<dyn Assets>>,
    /// The downloads under way.
    downloads: Shares<Reader>,
    /// Makes the URLs of our users' files such that nobody guesses them.
    asset_secret: Option<[u8; 32]>,
    settings: MimiSettings,
    news: News,
    rooms: MimiRooms,
    children: Children,
    woken: Woken,
    recent: Recent,
    waiting: submit::Waiting,
    passing_on: PassingOn,
    forwarding: Forwarding,
    turns: Turns,
    held: HeldRooms,
}

impl MimiState {
    pub(crate) fn new(deps: MimiDeps) -> Self {
        Self {
            asset_secret: assets::secret_of(&*deps.hub.signer),
            domain: deps.domain,
            peers: deps.peers,
            hub: deps.hub,
            franking: deps.franking,
            franking_agent: deps.franking_agent,
            assets: deps.assets,
            downloads: Shares::default(),
            settings: deps.settings,
            news: News::default(),
            rooms: MimiRooms::default(),
            children: Children::default(),
            woken: Woken::default(),
            recent: Recent::default(),
            waiting: submit::Waiting::default(),
            passing_on: PassingOn::default(),
            forwarding: Forwarding::default(),
            turns: Turns::default(),
            held: HeldRooms::default(),
        }
    }
}

/// A server as a MIMI provider. Clones share everything.
#[derive(Clone)]
pub struct Mimi {
    service: Service,
    state: Arc<MimiState>,
}

impl Mimi {
    pub(crate) const fn new(service: Service, state: Arc<MimiState>) -> Self {
        Self { service, state }
    }

    /// The provider's domain.
    #[must_use]
    pub fn domain(&self) -> &ServerName {
        &self.state.domain
    }

    /// What stands first among the external senders of our rooms.
    #[must_use]
    pub fn external_sender(&self) -> &ExternalSender {
        &self.state.hub.sender
    }

    /// What our rooms have whose messages are to be franked.
    #[must_use]
    pub fn franking_agent(&self) -> Option<&FrankingAgentData> {
        self.state.franking_agent.as_ref()
    }

    /// The operator's choices.
    #[must_use]
    pub fn settings(&self) -> &MimiSettings {
        &self.state.settings
    }
}

/// The answer that was kept of a request, or would have been.
fn kept_answer<T: Message>(reply: &StoredReply) -> Result<T, MimiError> {
    T::from_bytes(&reply.body).map_err(|_| {
        MimiError::from(StoreError::Inconsistent {
            table: "replies",
            column: "body",
            row: T::NAME.to_owned(),
        })
    })
}

/// What an update hears of a room that is not there, or not here.
const NO_SUCH_ROOM: &str = "no such room";

impl fmt::Debug for Mimi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mimi")
            .field("domain", self.domain())
            .finish_non_exhaustive()
    }
}

/// Without the key.
impl fmt::Debug for HubKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubKey")
            .field("sender", &self.sender)
            .finish_non_exhaustive()
    }
}
