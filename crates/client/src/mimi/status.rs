//! What becomes of others' messages here, and who is told (MMS #reporting, MRP #status-notification).
//!
//! A client reports by itself what the room's policy requires, and of what it leaves open what its user wants; what the policy forbids it
//! does not report, even if it is asked to. Many messages are in one report, which the whole room reads: there is no other way to tell
//! anything in it.

use std::collections::BTreeMap;
use std::time::Duration;

use nabe_auth::mimi::MessageEpoch;
use nabe_content::mimi::status::{MAX_ENTRIES, MessageStatus, StatusReport};
use nabe_content::mimi::{Intent, MessageId, MimiContent, Received};
use nabe_types::UnixMillis;
use nabe_wire::Message as _;
use nabe_wire::mls::ComponentId;
use nabe_wire::policy::{Optionality, StatusNotificationPolicy};
use nabe_wire::uri::MimiUri;
use openmls::group::MlsGroup;

use super::client::MimiClient;
use super::device::identifier;
use super::error::MimiError;
use super::group;
use super::receive::Work;
use super::settings::MimiSettings;
use super::store::{KnownRoom, MimiBody, MimiItem, MimiStatus, Outgoing, Request, Unreported, pending};
use crate::error::StoreError;

/// What a room's policy says about a status. Where the room has no such policy, nothing is said (D-no-policy).
fn policy_on(policy: Option<&StatusNotificationPolicy>, status: MessageStatus) -> Option<Optionality> {
    policy.map(|policy| match is_about_reading(status) {
        true => policy.read_receipts,
        false => policy.delivery_notifications,
    })
}

/// Whether a status tells what the user did, and not what their client did (D-which-receipt).
const fn is_about_reading(status: MessageStatus) -> bool {
    matches!(
        status,
        MessageStatus::UNREAD | MessageStatus::READ | MessageStatus::HIDDEN
    )
}

impl MimiSettings {
    /// Whether a status is reported without being asked for.
    fn reports(&self, policy: Option<&StatusNotificationPolicy>, status: MessageStatus) -> bool {
        match policy_on(policy, status) {
            Some(Optionality::Required) => true,
            Some(Optionality::Optional) if is_about_reading(status) => self.read_receipts,
            Some(Optionality::Optional) => self.delivery_notifications,
            Some(Optionality::Forbidden) | None => false,
        }
    }
}

fn policy_of(group: &MlsGroup) -> Option<StatusNotificationPolicy> {
    let data = group::component(group, ComponentId::STATUS_NOTIFICATION_POLICY)?;
    StatusNotificationPolicy::from_bytes(data).ok()
}

/// The report in a message, if it is one that reads.
pub(super) fn report_in(received: &Received) -> Option<StatusReport> {
    StatusReport::from_part(&received.content().body)?.ok()
}

/// Whether a message is a report, read or not.
pub(super) fn is_report(content: &[u8]) -> bool {
    MimiContent::decode(content).is_ok_and(|content| StatusReport::from_part(&content.body).is_some())
}

/// Whether a room's policy forbids to tell a part of what a message tells.
pub(super) fn is_forbidden(group: &MlsGroup, content: &MimiContent) -> bool {
    let Some(Ok(report)) = StatusReport::from_part(&content.body) else {
        return false;
    };
    let policy = policy_of(group);
    let on = |status| policy_on(policy.as_ref(), status);
    report
        .entries
        .iter()
        .any(|(_, status)| on(*status) == Some(Optionality::Forbidden))
}

impl MimiClient {
    /// What participants reported of messages: for each message the newest word of each user, by URI. Clients of one user speak for the
    /// user, but for an error: it counts as long as no other client of the user got the message.
    pub fn statuses(&self, room: &MimiUri) -> Result<BTreeMap<MessageId, BTreeMap<String, MessageStatus>>, MimiError> {
        let mut known: BTreeMap<MessageId, BTreeMap<String, (MessageStatus, Option<MimiUri>)>> = BTreeMap::new();
        let reports = MimiItem::each(self.store.read(), room, |item| {
            let MimiBody::Content(received) = &item.body else {
                return None;
            };
            let report = report_in(received)?;
            Some((received.origin().sender().to_owned(), item.client, report))
        })?;
        for (sender, client, report) in reports {
            for (id, status) in report.entries {
                let of_message = known.entry(id).or_default();
                let counts = of_message.get(&*sender).is_none_or(|(before, by)| {
                    let is_others_error = status == MessageStatus::ERROR && *by != client;
                    status.may_follow(*before) && !is_others_error
                });
                if counts {
                    of_message.insert(sender.clone(), (status, client.clone()));
                }
            }
        }
        let without_clients = |users: BTreeMap<String, (MessageStatus, Option<MimiUri>)>| {
            users.into_iter().map(|(user, (status, _))| (user, status)).collect()
        };
        Ok(known
            .into_iter()
            .map(|(id, users)| (id, without_clients(users)))
            .collect())
    }

    /// Tells the others what became of their messages here, whatever the settings say.
    ///
    /// # Errors
    /// [`MimiError::StatusForbidden`] if the room's policy does not let it be told; [`MimiError::TooManyStatuses`] for more than 4,096
    /// messages; [`MimiError::NoSuchMessage`] if one is not of this room, as far as this client knows; and as for [`MimiClient::send`].
    pub async fn report_status(
        &mut self,
        room: &MimiUri,
        of: &[(MessageId, MessageStatus)],
    ) -> Result<MessageId, MimiError> {
        if of.len() > MAX_ENTRIES {
            return Err(MimiError::TooManyStatuses);
        }
        let known = self.room(room)?;
        let group = self.load(&known)?.ok_or_else(|| MimiError::NotInGroup(room.clone()))?;
        let policy = policy_of(&group);
        for (id, status) in of {
            if policy_on(policy.as_ref(), *status) == Some(Optionality::Forbidden) {
                return Err(MimiError::StatusForbidden { status: *status });
            }
            self.item_of(room, id)?.ok_or(MimiError::NoSuchMessage)?;
        }
        self.say(room, StatusReport::new(of.to_vec()).to_part()).await
    }

    /// When something is to be told next.
    pub(super) fn reports_due(&self) -> Result<impl Iterator<Item = UnixMillis>, StoreError> {
        let after = self.settings.report_after;
        let rooms = Unreported::rooms(self.store.read())?.into_iter();
        Ok(rooms.map(move |(_, since)| since.plus(after)))
    }

    /// Makes what is to be told into reports, one for each room. A report is no reason to commit what is pending.
    pub(super) fn make_reports(&mut self) -> Result<(), MimiError> {
        let now = self.now();
        for (room, since) in Unreported::rooms(self.store.read())? {
            if since.plus(self.settings.report_after) > now || !self.is_quiet(&room)? {
                continue;
            }
            let user = identifier(&self.device.user);
            let may_send = match self.policy_of(&room) {
                Ok(policy) => policy.send(&user, MessageEpoch::Behind(0)).is_ok(),
                Err(error @ MimiError::Store(_)) => return Err(error),
                // A policy that does not read concerns its own room alone.
                Err(_) => false,
            };
            let (salt, origin) = (self.salt()?, self.origin(&room));
            self.in_transaction(|work, connection| {
                let entries = work.reportable(&room, may_send)?;
                if entries.is_empty() {
                    return Ok(());
                }
                let content = MimiContent::new(salt, &origin, StatusReport::new(entries).to_part());
                let received = Received::decode(content.encode()?, origin)?;
                Outgoing::insert(connection, &room, received.bytes(), &received.id())?;
                Ok(())
            })?;
            self.advanced |= Unreported::rooms(self.store.read())?
                .iter()
                .any(|(other, _)| *other == room);
        }
        Ok(())
    }

    /// Whether something said in a room now would go out at once.
    fn is_quiet(&self, room: &MimiUri) -> Result<bool, MimiError> {
        let connection = self.store.read();
        let known = KnownRoom::load(connection, room)?;
        Ok(known.is_some_and(|known| known.status == MimiStatus::Active)
            && pending(connection, room)?.is_empty()
            && Request::of_room(connection, room)?.is_none())
    }
}

impl Work<'_> {
    /// What one report tells: at most so much as fits into one.
    fn reportable(&mut self, room: &MimiUri, may_send: bool) -> Result<Vec<(MessageId, MessageStatus)>, MimiError> {
        let Some(known) = KnownRoom::load(self.connection, room)? else {
            return Ok(Vec::new());
        };
        let policy = policy_of(&self.group(&known)?);
        let mut entries = Vec::new();
        for unreported in Unreported::of_room(self.connection, room, MAX_ENTRIES)? {
            // It may have changed since.
            if may_send && self.settings.reports(policy.as_ref(), unreported.status) {
                unreported.reported(self.connection)?;
                entries.push((unreported.id, unreported.status));
            } else {
                unreported.forget(self.connection)?;
            }
        }
        Ok(entries)
    }

    /// A message of somebody else's has come, or one whose ID is known and that cannot be shown.
    pub(super) fn note_arrival(
        &self,
        group: &MlsGroup,
        room: &MimiUri,
        id: &MessageId,
        status: MessageStatus,
    ) -> Result<(), StoreError> {
        if !self.settings.reports(policy_of(group).as_ref(), status) {
            return Ok(());
        }
        Unreported::note(self.connection, room, id, status, self.now)
    }

    /// The user has read a message.
    pub(super) fn note_read_status(&mut self, item: &MimiItem, id: &MessageId) -> Result<(), MimiError> {
        let MimiBody::Content(received) = &item.body else {
            return Ok(());
        };
        let is_own = item.sender.as_ref() == Some(&self.device.user);
        let known = KnownRoom::load(self.connection, &item.room)?.filter(|known| known.status.is_in());
        match known {
            Some(known) if !is_own && is_worth_telling(received) => {
                let group = self.group(&known)?;
                Ok(self.note_arrival(&group, &item.room, id, MessageStatus::READ)?)
            }
            _ => Ok(()),
        }
    }

    /// A report has not been sent: what it told is to be told after a while, if it is still to be told then.
    pub(super) fn tell_again(&self, outgoing: &Outgoing) -> Result<(), MimiError> {
        let content = MimiContent::decode(&outgoing.content)?;
        let Some(Ok(report)) = StatusReport::from_part(&content.body) else {
            return Ok(());
        };
        let since = self.now.plus(TOLD_AGAIN_AFTER);
        for (id, status) in &report.entries {
            Unreported::again(self.connection, &outgoing.room, id, *status, since)?;
        }
        Ok(())
    }

    /// A report of another client of the same user: what it told need not be told again, and what was read there was read.
    pub(super) fn told_elsewhere(&mut self, room: &MimiUri, report: &StatusReport) -> Result<(), MimiError> {
        let mut read = Vec::new();
        for (id, status) in &report.entries {
            Unreported::told_elsewhere(self.connection, room, id, *status)?;
            read.extend((*status == MessageStatus::READ).then_some(*id));
        }
        self.read_by_user(room, &read, false)
    }
}

/// Whether anybody wants to know what became of a message: not of a report, and not of what only takes another one back.
pub(super) fn is_worth_telling(received: &Received) -> bool {
    let takes_back = matches!(received.content().intent(), Intent::Delete { .. } | Intent::Nothing);
    !takes_back && StatusReport::from_part(&received.content().body).is_none()
}

/// When what a report told is told again that the hub did not take.
const TOLD_AGAIN_AFTER: Duration = Duration::from_mins(10);
