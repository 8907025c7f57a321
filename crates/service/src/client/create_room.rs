//! A local user creates a room, which makes this server its hub (LM #int-hub-selection).

use nabe_auth::lm::{JoinRule, Membership};
use nabe_core::visibility::HistoryVisibility;
use nabe_core::{Ctx, RoomSpec, create_room};
use nabe_event::RoomVersionRules;
use nabe_mls::Suite;
use nabe_signing::json::{Json, Object};
use nabe_signing::{base64u, object, sha256};
use nabe_store::{Batch, StoredReply, Write};
use nabe_types::{LogPosition, RoomId, RoomVersionId, UserId};

use super::idempotency_key;
use super::send_event::MEMBER;
use crate::{Service, ServiceError};

/// What a new room should be like. Everything may be left out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NewRoom {
    /// Its name, at most 1024 bytes.
    pub name: Option<String>,
    /// Its topic, at most 8192 bytes.
    pub topic: Option<String>,
    /// `public`, `knock` or `invite`, which is the default.
    pub join_rule: Option<String>,
    /// `content` of `m.room.power_levels`; by default the creator has 100, moderation and state need 50.
    pub power_levels: Option<Object>,
    /// `invited`, `joined`, `shared` or `world_readable`; by default unset, which reads as `shared`.
    pub history_visibility: Option<String>,
    /// The room version; by default the configured one.
    pub version: Option<RoomVersionId>,
    /// The encryption algorithm, fixed forever (LM #int-mls-considerations); by default none.
    pub encryption: Option<String>,
    /// Further state: type, state key, content. No memberships.
    pub initial_state: Vec<(String, String, Object)>,
    /// Whom to invite at once, at most 100 users.
    pub invite: Vec<UserId>,
}

/// A room that was created.
#[derive(Clone, Debug)]
pub struct CreatedRoom {
    /// Its ID.
    pub room_id: RoomId,
    /// The invites that failed, and why. The room exists all the same.
    pub failed_invites: Vec<(UserId, ServiceError)>,
}

impl Service {
    /// Creates a room and invites users to it. With an idempotency key, the same request again returns the same room, and invites
    /// those who are not in it yet.
    ///
    /// # Errors
    ///
    /// [`ServiceError::InvalidParam`] naming the option that is not valid, [`ServiceError::ExperimentalSuite`],
    /// [`ServiceError::IncompatibleRoomVersion`],
    /// [`ServiceError::Refused`] when the room's own rules refuse its first events, [`ServiceError::KeyReused`].
    pub async fn create_room(
        &self,
        creator: &UserId,
        room: NewRoom,
        idempotency_key_text: Option<&str>,
    ) -> Result<CreatedRoom, ServiceError> {
        let invite = room.invite.clone();
        if invite.len() > MAX_INVITES {
            return Err(ServiceError::InvalidParam("invite"));
        }
        let room_id = match idempotency_key_text {
            None => self.create(creator, room, |_| None).await?,
            Some(text) if text.is_empty() || text.len() > 255 => {
                return Err(ServiceError::InvalidParam("idempotency key"));
            }
            Some(text) => self.create_once(creator, room, text).await?,
        };
        let mut failed_invites = Vec::new();
        for target in invite {
            let membership = self.read_room(&room_id, |view| view.membership(&target)).await?;
            if matches!(membership, Membership::Join | Membership::Invite) {
                continue;
            }
            if let Err(error) = self.invite_user(creator, &room_id, &target, None).await {
                failed_invites.push((target, error));
            }
        }
        Ok(CreatedRoom {
            room_id,
            failed_invites,
        })
    }

    async fn create_once(&self, creator: &UserId, room: NewRoom, text: &str) -> Result<RoomId, ServiceError> {
        let key = idempotency_key(creator, "create_room", text);
        let request_sha256 = sha256(&request_of(&room).to_canonical());
        let _only_one = self.lock_key(&key).await;
        if let Some(reply) = self.store().reply(&key).await? {
            if reply.request_sha256 != request_sha256 {
                return Err(ServiceError::KeyReused);
            }
            let body = Object::parse(&reply.body).unwrap_or_default();
            let room_id = body.get("room_id").and_then(Json::as_str).unwrap_or_default();
            return Ok(RoomId::parse(room_id)?);
        }
        let now = self.now();
        let keep = |room_id: &RoomId| {
            let body = object! { "room_id" => room_id.as_str() }.to_canonical().into();
            Some(Write::PutReply {
                key,
                reply: StoredReply {
                    status: 200,
                    body,
                    request_sha256,
                },
                now,
            })
        };
        self.create(creator, room, keep).await
    }

    async fn create(
        &self,
        creator: &UserId,
        room: NewRoom,
        keep_answer: impl FnOnce(&RoomId) -> Option<Write>,
    ) -> Result<RoomId, ServiceError> {
        let spec = self.spec_of(creator, room)?;
        let room_id = spec.room_id.clone();
        let now = self.authoring_time();
        let ctx = Ctx {
            now,
            server: self.server_name(),
            signer: self.signer(),
        };
        let (view, outcome) = create_room(spec, &ctx)?;
        let mut writes = vec![
            Write::CreateRoom {
                meta: view.meta().clone(),
                checkpoint: None,
                outliers: Vec::new(),
            },
            Write::Append {
                room: room_id.clone(),
                expected: LogPosition::ZERO,
                entries: outcome.append,
                followers: outcome.followers,
                now,
            },
        ];
        writes.extend(keep_answer(&room_id));
        self.commit(Batch(writes)).await?;
        self.notify_appended(&room_id, view.position());
        self.notify_inbox(creator);
        tracing::info!(room = %room_id, %creator, "created a room");
        Ok(room_id)
    }

    fn spec_of(&self, creator: &UserId, room: NewRoom) -> Result<RoomSpec, ServiceError> {
        let version = room
            .version
            .unwrap_or_else(|| self.settings().default_room_version.clone());
        if RoomVersionRules::for_id(&version).is_none() {
            return Err(ServiceError::IncompatibleRoomVersion { version });
        }
        if room.initial_state.iter().any(|(event_type, ..)| event_type == MEMBER) {
            return Err(ServiceError::InvalidParam("initial_state"));
        }
        let opaque = base64u::encode_url(&self.random::<18>());
        let room_id = RoomId::parse(&format!("!{opaque}:{}", self.server_name()))?;
        let mut spec = RoomSpec::new(room_id, version, creator.clone());
        spec.name = bounded("name", room.name, 1024)?;
        spec.topic = bounded("topic", room.topic, 8192)?;
        spec.join_rule = join_rule(room.join_rule.as_deref())?;
        spec.power_levels = room.power_levels;
        spec.history_visibility = history_visibility(room.history_visibility.as_deref())?;
        spec.encryption = encryption(room.encryption)?;
        if let Some(suite) = spec.encryption.as_deref().and_then(Suite::from_room_algorithm) {
            self.check_suite(suite)?;
        }
        spec.initial_state = room.initial_state;
        Ok(spec)
    }
}

fn bounded(name: &'static str, text: Option<String>, bytes: usize) -> Result<Option<String>, ServiceError> {
    match text {
        Some(text) if text.is_empty() || text.len() > bytes => Err(ServiceError::InvalidParam(name)),
        text => Ok(text),
    }
}

/// The draft's algorithms, or a name of somebody's own in reverse-DNS style (LM #int-mls-considerations).
fn encryption(algorithm: Option<String>) -> Result<Option<String>, ServiceError> {
    let algorithm = bounded("encryption", algorithm, 255)?;
    let is_named_well = |name: &str| match name.strip_prefix("m.") {
        Some(of_the_draft) => of_the_draft.starts_with("mls.v1."),
        None => name.split('.').count() > 1 && name.split('.').all(|label| !label.is_empty()),
    };
    match algorithm {
        Some(name) if !is_named_well(&name) => Err(ServiceError::InvalidParam("encryption")),
        algorithm => Ok(algorithm),
    }
}

fn join_rule(text: Option<&str>) -> Result<JoinRule, ServiceError> {
    match text {
        None | Some("invite") => Ok(JoinRule::Invite),
        Some("public") => Ok(JoinRule::Public),
        Some("knock") => Ok(JoinRule::Knock),
        Some(_) => Err(ServiceError::InvalidParam("join_rule")),
    }
}

fn history_visibility(text: Option<&str>) -> Result<Option<HistoryVisibility>, ServiceError> {
    Ok(Some(match text {
        None => return Ok(None),
        Some("invited") => HistoryVisibility::Invited,
        Some("joined") => HistoryVisibility::Joined,
        Some("shared") => HistoryVisibility::Shared,
        Some("world_readable") => HistoryVisibility::WorldReadable,
        Some(_) => return Err(ServiceError::InvalidParam("history_visibility")),
    }))
}

/// What must be equal for two requests to be the same.
fn request_of(room: &NewRoom) -> Object {
    let mut request = Object::new();
    let texts = [
        ("name", &room.name),
        ("topic", &room.topic),
        ("join_rule", &room.join_rule),
        ("history_visibility", &room.history_visibility),
        ("encryption", &room.encryption),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            request.insert(key, text.as_str());
        }
    }
    if let Some(version) = &room.version {
        request.insert("version", version.as_str());
    }
    if let Some(power_levels) = &room.power_levels {
        request.insert("power_levels", power_levels.clone());
    }
    let state = room.initial_state.iter().map(|(event_type, state_key, content)| {
        object! { "type" => event_type.as_str(), "state_key" => state_key.as_str(), "content" => content.clone() }
    });
    request.insert("initial_state", Json::from(state.collect::<Vec<_>>()));
    request.insert(
        "invite",
        Json::from(room.invite.iter().map(UserId::as_str).collect::<Vec<_>>()),
    );
    request
}

const MAX_INVITES: usize = 100;
