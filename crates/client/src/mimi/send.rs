//! Messages that this client sends (MIMI #submit-a-message, MIMI #message-franking).
//!
//! A message is kept before anything is encrypted, and its ciphertext before anything is sent. Its salt, and so its ID, is the same
//! however often it has to be encrypted.

use nabe_content::mimi::franking::FrankingTag;
use nabe_content::mimi::timeline::State;
use nabe_content::mimi::{Intent, MEDIA_TYPE, MessageId, MimiContent, NestedPart, Origin, Received, Salt};
use nabe_types::UnixMillis;
use nabe_wire::app_data::{AppDataDictionary, ApplicationFraming, MediaType};
use nabe_wire::franking::Frank;
use nabe_wire::mls::MlsMessage;
use nabe_wire::protocol::Body;
use nabe_wire::report_abuse::{AbuseReport, AbuseType, AbusiveMessage};
use nabe_wire::submit_message::{Submission, SubmitMessageRequest, SubmitMessageResponse, SubmitVerdict};
use nabe_wire::uri::MimiUri;
use nabe_wire::{Encode as _, Kept, Message as _};
use openmls::group::MlsGroup;
use openmls_traits::random::OpenMlsRand as _;

use super::client::MimiClient;
use super::commit::is_silence;
use super::device::identifier;
use super::error::{Doing as _, MimiError};
use super::expiry::is_too_late;
use super::group;
use super::hear::Franking;
use super::intent::MimiIntent;
use super::lifetime::Sent;
use super::may;
use super::notice::MimiNotice;
use super::receive::{Work, epoch_of, hash_of};
use super::rules;
use super::status::{is_forbidden, is_report};
use super::store::{GroupPlace, KnownRoom, MimiItem, MimiStatus, Names, NewItem, Outgoing, Request, pending, tell};
use crate::error::StoreError;
use crate::provider::{Provider, crypto};
use crate::transport::TransportError;

impl MimiClient {
    /// A message that says `body` in a room, for [`MimiClient::send`]: with a new salt, and with the names of sender and room in it, as
    /// franking needs them.
    pub fn compose(&self, room: &MimiUri, body: NestedPart) -> Result<MimiContent, MimiError> {
        Ok(MimiContent::new(self.salt()?, &self.origin(room), body))
    }

    /// Sends a message and waits until the hub has taken it. Its ID.
    ///
    /// # Errors
    /// [`MimiError::NotConfirmed`] if the hub has not answered: the message stays, and goes out with the next
    /// [`MimiClient::sync`].
    pub async fn send(&mut self, room: &MimiUri, content: &MimiContent) -> Result<MessageId, MimiError> {
        let (n, id) = self.queue(room, content)?;
        self.lines.reopen(room);
        for round in 0..self.settings.rounds {
            let wait = if round == 0 {
                std::time::Duration::ZERO
            } else {
                self.settings.round
            };
            self.flush().await?;
            if Outgoing::load(self.store.read(), n)?.is_none() {
                return match self.item_of(room, &id)? {
                    Some(_) => Ok(id),
                    None => Err(MimiError::MessageRefused),
                };
            }
            self.sync(wait).await?;
        }
        Err(MimiError::NotConfirmed)
    }

    /// Says something.
    pub async fn say(&mut self, room: &MimiUri, body: NestedPart) -> Result<MessageId, MimiError> {
        let content = self.compose(room, body)?;
        self.send(room, &content).await
    }

    /// Answers the newest version of a message, in the topic that it is in.
    pub async fn reply(&mut self, room: &MimiUri, to: &MessageId, body: NestedPart) -> Result<MessageId, MimiError> {
        let content = self.compose_reply(room, to, body)?;
        self.send(room, &content).await
    }

    /// A reply, for [`MimiClient::send`].
    pub fn compose_reply(&self, room: &MimiUri, to: &MessageId, body: NestedPart) -> Result<MimiContent, MimiError> {
        let (timeline, moderation) = (self.timeline_about(room, to)?, self.moderation(room)?);
        let topic_id = timeline
            .post(to, moderation.policy())
            .map(|post| post.content.topic_id.clone());
        let to = timeline.reply_to(to, None, moderation.policy()).unwrap_or(*to);
        Ok(MimiContent {
            topic_id: topic_id.unwrap_or_default(),
            ..MimiContent::reply(self.salt()?, &self.origin(room), to, body)
        })
    }

    /// Begins a topic with a message: its `topicId` is like no other (MC #topics-threading). The message's ID, and the topic's.
    pub async fn begin_topic(&mut self, room: &MimiUri, body: NestedPart) -> Result<(MessageId, Vec<u8>), MimiError> {
        let topic_id: [u8; TOPIC_BYTES] = crypto().random_array().doing("making a topic")?;
        let id = self.say_in_topic(room, &topic_id, body).await?;
        Ok((id, topic_id.to_vec()))
    }

    /// The topic that a message belongs to; of one that belongs to none, the topic that begins with it: its own ID names it.
    pub fn topic_of(&self, room: &MimiUri, id: &MessageId) -> Result<Vec<u8>, MimiError> {
        let (timeline, moderation) = (self.timeline_about(room, id)?, self.moderation(room)?);
        let post = timeline.post(id, moderation.policy()).ok_or(MimiError::NoSuchMessage)?;
        Ok(match post.content.topic_id.is_empty() {
            true => post.id.as_bytes().to_vec(),
            false => post.content.topic_id.clone(),
        })
    }

    /// Says something in a topic.
    pub async fn say_in_topic(
        &mut self,
        room: &MimiUri,
        topic_id: &[u8],
        body: NestedPart,
    ) -> Result<MessageId, MimiError> {
        let content = MimiContent {
            topic_id: topic_id.to_vec(),
            ..self.compose(room, body)?
        };
        self.send(room, &content).await
    }

    /// Reacts to a message; with nothing at all it is [`MimiError::NoSuchMessage`].
    pub async fn react(&mut self, room: &MimiUri, to: &MessageId, with: &[&str]) -> Result<MessageId, MimiError> {
        let content = MimiContent::reaction(self.salt()?, &self.origin(room), *to, with);
        self.send(room, &content.ok_or(MimiError::NoSuchMessage)?).await
    }

    /// Takes back whatever this user reacted to a message with (MC #unlike). What was sent for it: nothing, if there was no reaction.
    pub async fn unreact(&mut self, room: &MimiUri, to: &MessageId) -> Result<Vec<MessageId>, MimiError> {
        let mut sent = Vec::new();
        for answer in MimiItem::answers_of(self.store.read(), room, to, &self.device.user)? {
            let (timeline, moderation) = (self.timeline_about(room, &answer)?, self.moderation(room)?);
            let is_there = timeline.post(&answer, moderation.policy()).is_some_and(|post| {
                matches!(post.content.intent(), Intent::Reaction { .. }) && matches!(post.state, State::Shown { .. })
            });
            if is_there {
                sent.push(self.delete(room, &answer).await?);
            }
        }
        Ok(sent)
    }

    /// Puts another body in the place of a message's.
    pub async fn edit(&mut self, room: &MimiUri, id: &MessageId, body: NestedPart) -> Result<MessageId, MimiError> {
        let (of, original) = self.original(room, id)?;
        let content = MimiContent::edit(self.salt()?, &self.origin(room), of, &original, body);
        self.send(room, &content).await
    }

    /// Takes a message, or a reaction, back.
    pub async fn delete(&mut self, room: &MimiUri, id: &MessageId) -> Result<MessageId, MimiError> {
        let (of, original) = self.original(room, id)?;
        let content = MimiContent::delete(self.salt()?, &self.origin(room), of, &original);
        self.send(room, &content).await
    }

    /// Keeps a message; it goes out with the next [`MimiClient::sync`]. Its ID.
    pub fn enqueue_message(&mut self, room: &MimiUri, content: &MimiContent) -> Result<MessageId, MimiError> {
        Ok(self.queue(room, content)?.1)
    }

    /// Reports messages with genuine franks to the hub (MIMI #report-abuse): their content is shown to it.
    pub async fn report_abuse(&mut self, room: &MimiUri, ids: &[MessageId], note: &str) -> Result<(), MimiError> {
        let report = self.abuse_report(room, ids, note)?;
        Ok(self.transport.report_abuse(room, &report.to_bytes()).await?)
    }

    /// The report that [`MimiClient::report_abuse`] makes.
    pub fn abuse_report(&self, room: &MimiUri, ids: &[MessageId], note: &str) -> Result<AbuseReport, MimiError> {
        let mut messages = Vec::new();
        let mut abuser = None;
        for id in ids {
            let item = self.item_of(room, id)?.ok_or(MimiError::NoSuchMessage)?;
            let genuine = item.franking == Franking::Genuine;
            let (message_content, frank) = item.evidence.filter(|_| genuine).ok_or(MimiError::NotFranked)?;
            if abuser.is_some() && abuser != item.sender {
                return Err(MimiError::SeveralSenders);
            }
            abuser = item.sender;
            messages.push(AbusiveMessage {
                message_content: message_content.into(),
                frank,
                accepted_timestamp: item.accepted.as_u64(),
            });
        }
        Ok(AbuseReport {
            reporting_user: identifier(&self.device.user),
            alleged_abuser_uri: identifier(&abuser.ok_or(MimiError::NoSuchMessage)?),
            reason_code: AbuseType::RESERVED,
            note: note.into(),
            messages,
            abuse_extensions: AppDataDictionary::new(),
        })
    }

    fn queue(&mut self, room: &MimiUri, content: &MimiContent) -> Result<(i64, MessageId), MimiError> {
        let origin = self.origin(room);
        if Origin::claimed(content).as_ref() != Some(&origin) {
            return Err(MimiError::OtherOrigin);
        }
        match self.room(room)?.status {
            MimiStatus::Active => {}
            MimiStatus::Leaving => return Err(MimiError::Leaving(room.clone())),
            _ => return Err(MimiError::NotInGroup(room.clone())),
        }
        if let Some(wrong) = content.body.wrong_references().first() {
            return Err((*wrong).into());
        }
        if let (Some(replaced), Some(to)) = (&content.replaces, &content.in_reply_to)
            && MimiItem::leads_back(self.store.read(), room, to, replaced)?
        {
            return Err(MimiError::ReplyLoop);
        }
        let content = self.by_rules(room, content)?;
        self.keep_message(room, &content)
    }

    /// Keeps a message, whatever it says.
    pub(super) fn keep_message(
        &mut self,
        room: &MimiUri,
        content: &MimiContent,
    ) -> Result<(i64, MessageId), MimiError> {
        let received = Received::decode(content.encode()?, self.origin(room))?;
        let id = received.id();
        self.worked = None;
        self.store.transaction(|connection| {
            let n = Outgoing::insert(connection, room, received.bytes(), &id)?;
            Ok((n, id))
        })
    }

    /// Encrypts and sends what waits, in its order within a room.
    pub(super) async fn flush_messages(&mut self) -> Result<(), MimiError> {
        let mut blocked = std::collections::BTreeSet::new();
        for outgoing in Outgoing::all(self.store.read())? {
            if blocked.contains(&outgoing.room) {
                continue;
            }
            let is_open = self.lines.is_open(&outgoing.room, self.now());
            let sent = match is_open {
                true => self.send_message(&outgoing).await,
                false => Ok(None),
            };
            let is_silent = is_silence(&sent);
            let now = self.now();
            // What was not sent says nothing about the line.
            let sent = match sent {
                Ok(None) => None,
                sent => self.lines.heard(&outgoing.room, sent, now)?.flatten(),
            };
            if is_silent {
                return Ok(());
            }
            if sent != Some(true) {
                blocked.insert(outgoing.room.clone());
            }
        }
        Ok(())
    }

    /// Whether a message is done with; `None` if it could not be sent now.
    async fn send_message(&mut self, outgoing: &Outgoing) -> Result<Option<bool>, MimiError> {
        let is_too_late = outgoing.message.is_none() && is_too_late(&outgoing.content, self.now());
        let next = self.in_transaction(|work, _| match &outgoing.message {
            None if is_too_late => work.over(outgoing),
            None => work.encrypt(outgoing),
            Some(message) if work.has_been_barred(outgoing, message)? => work.over(outgoing),
            Some(message) => Ok(Next::Submit(message.clone())),
        })?;
        match next {
            Next::Submit(message) => self.submit(outgoing, &message).await.map(Some),
            Next::Later => Ok(None),
            Next::Over => Ok(Some(true)),
        }
    }

    async fn submit(&mut self, outgoing: &Outgoing, message: &[u8]) -> Result<bool, MimiError> {
        let app_message = Kept::new(MlsMessage::from_bytes(message)?);
        let epoch = epoch_of(&app_message);
        let request = SubmitMessageRequest::from(Submission {
            app_message,
            sending_uri: identifier(&self.device.user),
        });
        let again = self.lines.sending(message);
        let verdict = match self.transport.submit(&outgoing.room, &request.to_bytes()).await {
            Ok(response) => match SubmitMessageResponse::from_bytes(&response) {
                Ok(response) => Some(response.body),
                Err(error) => return Err(TransportError::NotUnderstood(Box::new(error)).into()),
            },
            Err(error) if self.lines.keeps(&outgoing.room, &error, again, self.now()) => return Err(error.into()),
            Err(_) => None,
        };
        self.lines.done(message);
        match (verdict, epoch) {
            (Some(Body::Mls10(SubmitVerdict::Accepted(acceptance))), _) => {
                let accepted = UnixMillis::new(acceptance.accepted_timestamp);
                self.in_transaction(|work, _| {
                    work.sent(&outgoing.room, &hash_of(message), accepted, acceptance.frank.as_ref())
                })?;
                Ok(true)
            }
            // It is encrypted again once the commit has come in.
            (Some(Body::Mls10(SubmitVerdict::EpochTooOld { current_epoch })), Some(epoch))
                if current_epoch > epoch && outgoing.refusals < MAX_TOO_LATE =>
            {
                let now = self.now();
                self.lines.is_ahead(&outgoing.room, current_epoch, now);
                self.store
                    .transaction(|connection| Ok::<_, MimiError>(outgoing.again(connection, epoch)?))?;
                Ok(false)
            }
            _ => {
                self.in_transaction(|work, _| work.refused(outgoing))?;
                Ok(true)
            }
        }
    }

    pub(super) fn salt(&self) -> Result<Salt, MimiError> {
        Ok(Salt::from_random(crypto().random_array().doing("making a salt")?))
    }

    pub(super) fn origin(&self, room: &MimiUri) -> Origin {
        Origin::new(&self.device.user.to_string(), &room.to_string()).expect("mimi URIs are neither empty nor too long")
    }

    /// The first version of a message, and its ID.
    fn original(&self, room: &MimiUri, id: &MessageId) -> Result<(MessageId, MimiContent), MimiError> {
        let (timeline, moderation) = (self.timeline_about(room, id)?, self.moderation(room)?);
        let post = timeline.post(id, moderation.policy()).ok_or(MimiError::NoSuchMessage)?;
        Ok((post.id, post.content.clone()))
    }

    /// The item of a message.
    pub fn item_of(&self, room: &MimiUri, id: &MessageId) -> Result<Option<MimiItem>, MimiError> {
        Ok(MimiItem::of_message(self.store.read(), room, id)?)
    }
}

/// What becomes of a message that waits.
enum Next {
    Submit(Vec<u8>),
    Later,
    Over,
}

impl Work<'_> {
    /// Nothing comes of a message.
    fn over(&mut self, outgoing: &Outgoing) -> Result<Next, MimiError> {
        self.refused(outgoing)?;
        Ok(Next::Over)
    }

    /// Whether a message may not be sent: roles and policies may have changed since it was said.
    fn is_barred(&self, group: &MlsGroup, room: &MimiUri, content: &MimiContent) -> Result<bool, StoreError> {
        let (user, sent) = (&self.device.user, Sent::waiting(self.now));
        let breach = rules::breach(self.connection, group, room, user, content, sent)?;
        Ok(breach.is_some() || is_forbidden(group, content))
    }

    /// Whether a message may not be sent any more that was encrypted in an epoch which is over. Had the hub taken it before that, it would
    /// have come before what ended the epoch.
    fn has_been_barred(&self, outgoing: &Outgoing, message: &[u8]) -> Result<bool, MimiError> {
        let known = KnownRoom::load(self.connection, &outgoing.room)?;
        let Some(known) = known.filter(|known| known.status.is_in()) else {
            return Ok(false);
        };
        if epoch_of(&MlsMessage::from_bytes(message)?) >= Some(self.epoch_in(&known)?) {
            return Ok(false);
        }
        let content = MimiContent::decode(&outgoing.content)?;
        Ok(self.is_barred(&self.group(&known)?, &known.room, &content)?)
    }

    /// Encrypts a message, if it can be sent now. While proposals are pending nothing may be encrypted (RFC 9420 section 12.4), so
    /// they are committed first; and what is encrypted while a commit is under way comes late.
    fn encrypt(&mut self, outgoing: &Outgoing) -> Result<Next, MimiError> {
        let Some(room) = KnownRoom::load(self.connection, &outgoing.room)? else {
            return Ok(Next::Later);
        };
        if room.status == MimiStatus::Removed || room.status == MimiStatus::Leaving {
            return self.over(outgoing);
        }
        if room.status != MimiStatus::Active || Request::of_room(self.connection, &outgoing.room)?.is_some() {
            return Ok(Next::Later);
        }
        if outgoing.after_epoch.is_some() && outgoing.after_epoch >= Some(self.epoch_in(&room)?) {
            return Ok(Next::Later);
        }
        let mut group = self.group(&room)?;
        if !pending(self.connection, &outgoing.room)?.is_empty() {
            // Who is about to be removed cannot commit it.
            if !group::pending_removals(&group).contains(&group.own_leaf_index().u32()) {
                self.want(&outgoing.room, &MimiIntent::Tend)?;
            }
            return Ok(Next::Later);
        }
        let content = MimiContent::decode(&outgoing.content)?;
        if self.is_barred(&group, &room.room, &content)? {
            return self.over(outgoing);
        }
        Ok(Next::Submit(self.seal(outgoing, &mut group, &content)?))
    }

    /// Encrypts a message, whatever it says.
    pub(super) fn seal(
        &self,
        outgoing: &Outgoing,
        group: &mut MlsGroup,
        content: &MimiContent,
    ) -> Result<Vec<u8>, MimiError> {
        let data = match group::media_types(group) {
            Some(_) => ApplicationFraming {
                media_type: MediaType::new(MEDIA_TYPE),
                inner_application_content: outgoing.content.clone().into(),
            }
            .to_bytes(),
            None => outgoing.content.clone(),
        };
        let tag = group::franking_agent(group).map(|_| FrankingTag::compute(&content.salt, &data).0);
        let provider = Provider::new(self.connection);
        let message = group::encrypt(&provider, self.device, group, &data, tag)?;
        let message = message.as_bytes().to_vec();
        outgoing.encrypted(self.connection, &message, &data, &hash_of(&message))?;
        Ok(message)
    }

    /// The hub has taken a message of ours, by its own word or as its log shows. False if it is none that we made for this room: what is
    /// said in one room is not shown in another.
    pub(super) fn sent(
        &mut self,
        room: &MimiUri,
        hash: &[u8],
        accepted: UnixMillis,
        frank: Option<&Frank>,
    ) -> Result<bool, MimiError> {
        let Some((n, data)) = Outgoing::of_ciphertext(self.connection, room, hash)? else {
            return Ok(false);
        };
        // If it was taken in two epochs, the first counts here, too.
        let Some(outgoing) = Outgoing::load(self.connection, n)? else {
            return Ok(true);
        };
        let id = MessageId::from_bytes(outgoing.message_id).ok();
        if let Some(id) = &id
            && MimiItem::has_come(self.connection, room, id)?
        {
            // It was sent before, and is there once.
            Outgoing::finish(self.connection, n, self.now)?;
            return Ok(true);
        }
        let known = KnownRoom::load(self.connection, room)?;
        let mut place = None;
        let mut moderates = false;
        let franking = match known.filter(|known| known.status.is_in()) {
            Some(known) => {
                let group = self.group(&known)?;
                moderates = may::moderates(&group, &self.device.user, &MimiContent::decode(&outgoing.content)?);
                place = Some(GroupPlace {
                    group_id: group.group_id().as_slice().to_vec(),
                    leaf: group.own_leaf_index().u32(),
                });
                let tag = group::franking_agent(&group).map(|_| {
                    let salt = MimiContent::decode(&outgoing.content)?.salt;
                    Ok::<_, MimiError>(FrankingTag::compute(&salt, &data))
                });
                self.franking(
                    &group,
                    room,
                    &self.device.user,
                    accepted,
                    &data,
                    tag.transpose()?,
                    frank,
                )?
            }
            None => Franking::None,
        };
        let origin = Origin::new(&self.device.user.to_string(), &room.to_string());
        let received = origin
            .ok()
            .and_then(|origin| Received::decode(outgoing.content.clone(), origin).ok());
        let item = NewItem {
            room,
            hash,
            accepted,
            sender: Some(&self.device.user),
            client: Some(&self.device.client),
            content: Ok((MEDIA_TYPE, &outgoing.content, &data)),
            names: received.as_ref().map(Names::of),
            place: place.as_ref(),
            frank,
            franking: &franking,
            sent: true,
            read_at: Some(self.now),
            moderates,
        };
        if item.put(self.connection)?.is_some()
            && let Some(received) = &received
        {
            self.note_expiry(room, &received.id(), received.content(), Some(self.now))?;
        }
        Outgoing::finish(self.connection, n, self.now)?;
        Ok(true)
    }

    /// The hub does not take a message, or it is too late for it. Of a report the user knows nothing: what it told is told again later.
    pub(super) fn refused(&mut self, outgoing: &Outgoing) -> Result<(), MimiError> {
        Outgoing::finish(self.connection, outgoing.n, self.now)?;
        if is_report(&outgoing.content) {
            return self.tell_again(outgoing);
        }
        let notice = MimiNotice::NotSent {
            room: outgoing.room.to_string(),
            message: outgoing.message_id.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        Ok(tell(self.connection, &notice)?)
    }
}

/// So long that nobody makes up the same one.
const TOPIC_BYTES: usize = 16;
/// How often a message may come too late.
const MAX_TOO_LATE: u32 = 10;
