//! MIMI's use cases, one file each: rooms whose hub we are, rooms that we follow, and what providers ask each other beside rooms.
//! A request of a local user and one of another provider take the same way; `from` is the provider that speaks for the user, and
//! for a local one that is our own domain.
//!
//! | Who calls | Where |
//! |---|---|
//! | another provider | `assets` |
//! | a hub | `inbox`: what happened in its rooms |
//! | a hub, or a local user | `key_material` |
//! | a user's provider, or a local user | `consent`, `identifier` |

mod assets;
mod consent;
mod error;
mod identifier;
mod inbox;
mod key_material;
mod users;

use std::fmt;
use std::sync::Arc;

use nabe_core::mimi::Franking;
use nabe_types::ServerName;
use nabe_wire::label::Signer;
use nabe_wire::mls::ExternalSender;

pub use assets::{Asset, AssetSettings};
pub use error::MimiError;
pub use key_material::OfferNotKept;
pub use users::{MimiNews, UserSettings};

use crate::Service;
use crate::ports::assets::Assets;
use crate::ports::mimi::MimiPeers;
use assets::Downloads;
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
#[derive(Clone, Debug, Default)]
pub struct MimiSettings {
    /// What we download for other providers.
    pub assets: AssetSettings,
    /// What other providers hear of our users.
    pub users: UserSettings,
}

/// What the use cases share.
#[expect(dead_code, reason = "the use cases that need the rest are on their way")]
pub(crate) struct MimiState {
    domain: ServerName,
    peers: Arc<dyn MimiPeers>,
    hub: HubKey,
    franking: Option<Arc<dyn Franking>>,
    assets: Option<Arc<dyn Assets>>,
    downloads: Downloads,
    settings: MimiSettings,
    news: News,
}

impl MimiState {
    pub(crate) fn new(deps: MimiDeps) -> Self {
        Self {
            domain: deps.domain,
            peers: deps.peers,
            hub: deps.hub,
            franking: deps.franking,
            assets: deps.assets,
            downloads: Downloads::new(&deps.settings.assets),
            settings: deps.settings,
            news: News::default(),
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

    /// The operator's choices.
    #[must_use]
    pub fn settings(&self) -> &MimiSettings {
        &self.state.settings
    }
}

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
