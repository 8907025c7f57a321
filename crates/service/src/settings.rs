//! The operator's choices, as the service needs them. Reading them from a file is the binary's business.

use std::time::Duration;

use nabe_mls::SuiteSet;
use nabe_store::UploadLimits;
use nabe_types::{RoomVersionId, ServerName, ServerPattern, ServerPolicy};

use crate::media::MediaFolder;

/// Everything that can be chosen about a server's behavior.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our name, the only destination we accept and the only origin we sign for.
    pub server_name: ServerName,
    /// Whom we exchange anything with, in both directions.
    pub policy: ServerPolicy,
    /// Bounds on what others can make us do.
    pub limits: LimitSettings,
    /// How we send to others.
    pub delivery: DeliverySettings,
    /// Files that users send.
    pub media: MediaSettings,
    /// Servers asked for keys whose owner does not answer (LM #int-transport-get-server-keys).
    pub notaries: Vec<ServerName>,
    /// Deviations granted to single peers; the first matching pattern counts.
    pub compat: Vec<(ServerPattern, Compat)>,
    /// How far ahead `valid_until_ts` of our own keys lies; the draft says about 12 hours.
    pub key_validity: Duration,
    /// How long a transaction's reply is kept for repetitions.
    pub reply_retention: Duration,
    /// How long an event whose keys cannot be had waits before it is recorded as a hole.
    pub parked_retention: Duration,
    /// How long a local user's request waits for the hub's echo of an event before it is answered as queued.
    pub echo_wait: Duration,
    /// Room version of new rooms.
    pub default_room_version: RoomVersionId,
    /// The cipher suites that rooms can be made with here and key packages uploaded of. Rooms of other hubs are followed with every
    /// suite this build knows.
    pub suites: SuiteSet,
    /// Whether a user nobody has seen yet can be invited. A provider whose users appear on first use wants this.
    pub invites_for_unknown_users: bool,
}

/// Bounds on what others can make us do.
#[derive(Clone, Debug)]
pub struct LimitSettings {
    /// Rate of each rate-limited federation endpoint, per origin server.
    pub federation: RateLimit,
    /// Rate of the client API, per user.
    pub client: RateLimit,
    /// How many callers' rates are remembered at once. The least recent ones are forgotten first.
    pub rate_limited_callers: usize,
    /// Memory for the views of rooms in use, in bytes, as the views estimate themselves.
    pub room_memory_bytes: usize,
    /// Most direct items (EDUs, LPDUs) waiting for one destination.
    pub outbox_items: u64,
    /// Most events one `/backfill` answer has (LM #get-matrixfederationv2backfillroomid).
    pub backfill_events: u32,
    /// Most servers one notary query may name.
    pub notary_servers: usize,
    /// Most key IDs one notary query may name, over all its servers.
    pub notary_keys: usize,
    /// Most bytes of key responses in one answer of the notary, our signatures not counted.
    pub notary_answer_bytes: usize,
    /// Most events fetched to close one gap in a participant's log.
    pub gap_events: usize,
    /// Most events of one room that wait for a key or for our join. Beyond it only the newest is kept, and what it skips is fetched
    /// from the hub when its turn comes.
    pub parked_events: usize,
    /// Servers asked for their keys at once to verify events. As many more may be asked to authenticate requests, and a
    /// quarter of it for who asks us as a notary.
    pub key_requests: usize,
    /// Rate of the notary's endpoints, which need no authentication: servers asked about, per address that asks.
    pub notary_queries: RateLimit,
    /// The same over all callers.
    pub notary_queries_total: RateLimit,
    /// How often the notary queries of one address may make us ask other servers. Beyond it the notary answers from what it
    /// knows.
    pub notary_fetches: RateLimit,
    /// The same over all callers.
    pub notary_fetches_total: RateLimit,
    /// How often one server or local user gets key packages of one device. Beyond it they get the last-resort one.
    pub claims: RateLimit,
    /// The same over all who claim key packages of one device.
    pub claims_total: RateLimit,
    /// What the device updates of one other server may cost us: one for each device, and one for each local user to be told.
    /// Beyond it they are passed over.
    pub device_updates: RateLimit,
    /// State events that one other server may have us read and send at once.
    pub state_events: RateLimit,
    /// Messages that one other server may send to the devices of one user of ours. Beyond it they are passed over, so that nobody
    /// fills an inbox and others' messages fall out of it.
    pub to_device: RateLimit,
    /// Bytes by which the stored keys of other servers may grow, once for those whose events we verify and once for all others.
    /// What is beyond stays in memory for as long as there is room.
    pub key_storage: RateLimit,
    /// KiB of our users' files that one other server may fetch.
    pub media_kib: RateLimit,
}

/// A token bucket: `burst` calls at once, refilled at `per_second`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// Sustained calls per second.
    pub per_second: f64,
    /// Calls that can be made at once after a pause; at least 1.
    pub burst: f64,
}

/// How we send to others.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    /// First pause after a failure; doubles with each further one.
    pub backoff_base: Duration,
    /// Longest pause after failures.
    pub backoff_max: Duration,
    /// Share of a pause that is random, 0 to 1.
    pub jitter: f64,
    /// Bound on one transaction, from discovery to answer.
    pub request_timeout: Duration,
    /// Bound on one question asked while somebody waits, such as an invite.
    pub question_timeout: Duration,
    /// Transactions in progress at once, over all destinations.
    pub concurrency: usize,
}

/// Files that users send (LM #content-repository).
#[derive(Clone, Debug)]
pub struct MediaSettings {
    /// Where they lie; without a folder no files are taken in or handed out.
    pub folder: Option<MediaFolder>,
    /// Bytes of one file, ours or another server's.
    pub max_bytes: u64,
    /// What the files of one local user may take.
    pub user: UploadLimits,
    /// What is kept of other servers' files may take so many bytes; the oldest make room. At least `max_bytes`.
    pub cache_bytes: u64,
    /// How long another server may send nothing of a file before it is given up.
    pub stall: Duration,
    /// Bytes each second at which it must send, beyond `stall`.
    pub fetch_bytes_per_second: u32,
}

impl Default for MediaSettings {
    fn default() -> Self {
        Self {
            folder: None,
            max_bytes: 128 << 20,
            user: UploadLimits {
                bytes: 10 << 30,
                bytes_per_day: 1 << 30,
            },
            cache_bytes: 10 << 30,
            stall: Duration::from_secs(30),
            fetch_bytes_per_second: 32 * 1024,
        }
    }
}

/// Deviations from the draft we tolerate with a peer. All off by default.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Compat {
    /// The peer reuses transaction IDs for other bodies: two requests are the same only if the bodies are, too.
    pub body_in_txn_key: bool,
    /// Accept bodyless requests signed without `content`.
    pub accept_omitted_content: bool,
}

impl Settings {
    /// The defaults for a server of this name.
    #[must_use]
    pub fn new(server_name: ServerName) -> Self {
        Self {
            server_name,
            policy: ServerPolicy::default(),
            limits: LimitSettings::default(),
            delivery: DeliverySettings::default(),
            media: MediaSettings::default(),
            notaries: Vec::new(),
            compat: Vec::new(),
            key_validity: Duration::from_secs(12 * HOUR),
            reply_retention: Duration::from_secs(24 * HOUR),
            parked_retention: Duration::from_secs(24 * HOUR),
            echo_wait: Duration::from_secs(5),
            default_room_version: RoomVersionId::parse("I.1").expect("the draft's own version is well-formed"),
            suites: SuiteSet::default(),
            invites_for_unknown_users: true,
        }
    }

    /// What is tolerated with `server`.
    #[must_use]
    pub fn compat_for(&self, server: &ServerName) -> Compat {
        let found = self.compat.iter().find(|(pattern, _)| pattern.matches(server));
        found.map(|&(_, compat)| compat).unwrap_or_default()
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            federation: RateLimit {
                per_second: 20.0,
                burst: 100.0,
            },
            client: RateLimit {
                per_second: 50.0,
                burst: 500.0,
            },
            rate_limited_callers: 10_000,
            room_memory_bytes: 256 * 1024 * 1024,
            outbox_items: 100_000,
            backfill_events: 100,
            notary_servers: 100,
            notary_keys: 1_000,
            notary_answer_bytes: 768 * 1024,
            gap_events: 2_000,
            parked_events: 1_000,
            key_requests: 64,
            notary_queries: RateLimit {
                per_second: 10.0,
                burst: 100.0,
            },
            notary_queries_total: RateLimit {
                per_second: 100.0,
                burst: 1_000.0,
            },
            notary_fetches: RateLimit {
                per_second: 1.0,
                burst: 50.0,
            },
            notary_fetches_total: RateLimit {
                per_second: 5.0,
                burst: 200.0,
            },
            claims: RateLimit {
                per_second: 1.0 / 60.0,
                burst: 10.0,
            },
            claims_total: RateLimit {
                per_second: 0.1,
                burst: 100.0,
            },
            device_updates: RateLimit {
                per_second: 200.0,
                burst: 20_000.0,
            },
            state_events: RateLimit {
                per_second: 2_000.0,
                burst: 100_000.0,
            },
            to_device: RateLimit {
                per_second: 1_000.0 / 86_400.0,
                burst: 1_000.0,
            },
            key_storage: RateLimit {
                per_second: 16.0 * 1024.0 * 1024.0 / 86_400.0,
                burst: 16.0 * 1024.0 * 1024.0,
            },
            media_kib: RateLimit {
                per_second: 8.0 * 1024.0,
                burst: 1024.0 * 1024.0,
            },
        }
    }
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            backoff_base: Duration::from_secs(1),
            backoff_max: Duration::from_secs(HOUR),
            jitter: 0.2,
            request_timeout: Duration::from_secs(60),
            question_timeout: Duration::from_secs(10),
            concurrency: 64,
        }
    }
}

const HOUR: u64 = 60 * 60;
