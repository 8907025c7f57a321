//! The room's MLS group beside its state (LM #int-mls-considerations): a second fold over the same log, moved on by
//! `m.mls.commit` alone (LM #int-mls-add-remove).

use bytes::Bytes;
use nabe_auth::lm::{RoomState, authorize_group_change};
use nabe_event::Event;
use nabe_mls::{GroupRefusal, HubGroup, RestoreError, StagedChange, Suite};
use nabe_signing::base64u;
use nabe_signing::json::Json;
use nabe_types::LogPosition;

use super::RoomView;
use crate::{CommitRefusal, Ctx, Input, Refusal};

/// What one commit did to the room's group, stored along with its entry. About as large as the commit; the first that this
/// server followed is as large as the group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupChange {
    /// The commit's place in the log.
    pub position: LogPosition,
    /// For [`HubGroup::replay`].
    pub bytes: Bytes,
}

/// A room's group as stored: the newest checkpoint and the changes after it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StoredGroup {
    /// From [`HubGroup::checkpoint`]; `None` if the changes go back to the group's first.
    pub checkpoint: Option<Bytes>,
    /// Oldest first.
    pub changes: Vec<GroupChange>,
    /// The place of the newest commit in the log.
    pub newest: Option<LogPosition>,
}

/// How a room's messages are encrypted, fixed by `m.room.create` (LM #int-mls-considerations).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encryption<'a> {
    /// Not at all.
    None,
    /// With MLS; servers follow the group.
    Mls(Suite),
    /// With something we do not know, which we therefore neither check nor follow.
    Other(&'a str),
}

impl<'a> Encryption<'a> {
    /// What the room's state says.
    pub fn of(state: &'a impl RoomState) -> Self {
        let encryption = state
            .get("m.room.create", "")
            .and_then(|create| create.content().get("encryption"))
            .and_then(Json::as_object);
        let Some(encryption) = encryption else {
            return Self::None;
        };
        let algorithm = encryption.get("algorithm").and_then(Json::as_str).unwrap_or_default();
        Suite::from_room_algorithm(algorithm).map_or(Self::Other(algorithm), Self::Mls)
    }

    const fn suite(self) -> Option<Suite> {
        match self {
            Self::Mls(suite) => Some(suite),
            Self::None | Self::Other(_) => None,
        }
    }
}

impl RoomView {
    /// How the room's messages are encrypted.
    #[must_use]
    pub fn encryption(&self) -> Encryption<'_> {
        Encryption::of(&self.state)
    }

    /// The room's group. `None` before its first commit, and always in rooms without MLS.
    #[must_use]
    pub const fn group(&self) -> Option<&HubGroup> {
        self.group.as_ref()
    }

    /// Whether deciding on this input means checking a commit, which takes the longer the larger the group is: milliseconds at a
    /// thousand members.
    #[must_use]
    pub fn is_for_the_group(&self, input: &Input) -> bool {
        let event_type = match input {
            Input::Lpdu { event, .. } => event.event().event_type(),
            Input::Pdu { event, .. } => event.event().event_type(),
            Input::Draft { draft } => &draft.event_type,
            Input::InviteAnswer { .. } | Input::InvalidPdu { .. } => return false,
        };
        event_type == COMMIT && self.encryption().suite().is_some()
    }

    /// The view with its group, which is stored apart from the state.
    ///
    /// # Errors
    /// [`RestoreError::OtherVersion`] if another version of this program stored it; then [`RoomView::follow_from`] helps.
    /// Anything else means that the database is damaged.
    pub fn with_group(mut self, stored: &StoredGroup) -> Result<Self, RestoreError> {
        let checkpoint = stored.checkpoint.as_ref();
        self.group = checkpoint.map(|bytes| HubGroup::restore(bytes)).transpose()?;
        for change in &stored.changes {
            HubGroup::replay(&mut self.group, &change.bytes)?;
        }
        Ok(self)
    }

    /// Takes up the group at a commit of the log, because what is stored of it cannot be read any more. Membership was judged when
    /// the commit was appended.
    ///
    /// # Errors
    /// The commit's public group state is not sound.
    pub fn follow_from(&mut self, commit: &Event) -> Result<(), CommitRefusal> {
        if let Some(suite) = self.suite_if_commit(commit) {
            let change = self.take_up(suite, &CommitContent::read(commit)?)?;
            HubGroup::replay(&mut self.group, &change.bytes).map_err(|_| GroupRefusal::GroupStateMalformed)?;
        }
        Ok(())
    }

    /// As hub: what an event does to the group; `None` if it is no commit or the room has no MLS group. MLS comes before the draft's
    /// own checks, because only a sound commit says what it changes.
    pub(super) fn stage_as_hub(&self, event: &Event, ctx: &Ctx<'_>) -> Result<Option<GroupChange>, Refusal> {
        let Some(suite) = self.suite_if_commit(event) else {
            return Ok(None);
        };
        let content = CommitContent::read(event)?;
        let change = match &self.group {
            Some(group) => group
                .stage(&content.message, &content.public_group_state, ctx.now)
                .map_err(CommitRefusal::from)?,
            None => self.begin(suite, &content, ctx)?,
        };
        authorize_group_change(&change.delta, event.sender(), &self.state).map_err(CommitRefusal::from)?;
        Ok(Some(self.group_change(change)))
    }

    /// As participant: the hub's checks once more, to notice a hub that does not make them (LM #int-receiving-events). We follow from
    /// the first commit we see, and anew from one that shows that we missed some. Whether its leaves had enough time left we cannot
    /// judge then, as we may see them much later than the hub did.
    pub(super) fn stage_as_participant(
        &self,
        event: &Event,
        ctx: &Ctx<'_>,
    ) -> Result<Option<GroupChange>, CommitRefusal> {
        let Some(suite) = self.suite_if_commit(event) else {
            return Ok(None);
        };
        let content = CommitContent::read(event)?;
        let staged = self
            .group
            .as_ref()
            .map(|group| group.stage(&content.message, &content.public_group_state, ctx.now));
        let (change, is_anew) = match staged {
            Some(Err(GroupRefusal::WrongEpoch { epoch, current })) if epoch <= current => {
                return Err(GroupRefusal::WrongEpoch { epoch, current }.into());
            }
            None | Some(Err(GroupRefusal::WrongEpoch { .. })) => (self.take_up(suite, &content)?, true),
            Some(staged) => (staged?, false),
        };
        let mut delta = change.delta.clone();
        if is_anew && change.epoch > 1 {
            // The others were let in at their time, and may have left the room since without anybody having removed their devices.
            let committer = delta.committer.clone();
            delta.added.retain(|device| delta.external && *device == committer);
        }
        authorize_group_change(&delta, event.sender(), &self.state)?;
        Ok(Some(self.group_change(change)))
    }

    /// Takes in a change that was staged on this view.
    pub(super) fn apply_group(&mut self, change: &GroupChange) {
        HubGroup::replay(&mut self.group, &change.bytes).expect("staged on this very group, by this very program");
    }

    /// Whether an event moves the group on.
    pub(super) fn is_commit(&self, event: &Event) -> bool {
        self.suite_if_commit(event).is_some()
    }

    fn suite_if_commit(&self, event: &Event) -> Option<Suite> {
        if event.event_type() == COMMIT {
            self.encryption().suite()
        } else {
            None
        }
    }

    fn begin(&self, suite: Suite, content: &CommitContent, ctx: &Ctx<'_>) -> Result<StagedChange, CommitRefusal> {
        let (message, group_state) = (&content.message, &content.public_group_state);
        let (_, change) = HubGroup::bootstrap(&self.meta.room_id, suite, message, group_state, ctx.now)?;
        Ok(change)
    }

    fn take_up(&self, suite: Suite, content: &CommitContent) -> Result<StagedChange, CommitRefusal> {
        let (message, group_state) = (&content.message, &content.public_group_state);
        let (_, change) = HubGroup::take_up(&self.meta.room_id, suite, message, group_state)?;
        Ok(change)
    }

    fn group_change(&self, change: StagedChange) -> GroupChange {
        GroupChange {
            position: self.position.next(),
            bytes: change.bytes,
        }
    }
}

/// `content` of an `m.mls.commit` (LM #int-ev-mls-commit).
struct CommitContent {
    message: Vec<u8>,
    public_group_state: Vec<u8>,
}

impl CommitContent {
    fn read(event: &Event) -> Result<Self, CommitRefusal> {
        if event.state_key().is_some() {
            return Err(CommitRefusal::StateEvent);
        }
        let field = |field: &'static str| {
            let text = event.content().get(field).and_then(Json::as_str);
            let text = text.ok_or(CommitRefusal::NoString { field })?;
            base64u::decode(text).map_err(|_| CommitRefusal::NotBase64 { field })
        };
        let content = Self {
            message: field("message")?,
            public_group_state: field("public_group_state")?,
        };
        let previous = event.content().get("prev_commit_event_id");
        if previous.is_some_and(|id| id.as_str().is_none()) {
            return Err(CommitRefusal::NoString {
                field: "prev_commit_event_id",
            });
        }
        Ok(content)
    }
}

/// The event that carries a commit (LM #int-ev-mls-commit).
pub(crate) const COMMIT: &str = "m.mls.commit";
