//! The first act: the story of one room and four users, told step by step. Each step does something through the client API and checks
//! what came of it.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::future::try_join_all;
use nabe_service::ports::{Clock as _, SystemClock};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    client::{CallError, Follower, Refused, RoomEvent, RoomSummary, Sent, TIMEOUT, wait_for},
    provider::{At, Network},
    report::{ProviderRow, Report},
    verify,
};

/// A user and their provider.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct User {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) at: At,
}

pub(super) const ALICE: User = User {
    id: "@alice:a.localhost",
    name: "Alice",
    at: At::A,
};
pub(super) const BOB: User = User {
    id: "@bob:b.localhost",
    name: "Bob",
    at: At::B,
};
pub(super) const MALLORY: User = User {
    id: "@mallory:b.localhost",
    name: "Mallory",
    at: At::B,
};
pub(super) const CLEO: User = User {
    id: "@cleo:c.localhost",
    name: "Cleo",
    at: At::C,
};

/// Through whose eyes each provider's log is read: users who are in the room whenever their server is.
const WITNESSES: [User; 3] = [ALICE, BOB, CLEO];

/// What happens, in order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Create,
    Invite,
    Join,
    FirstMessages,
    Knock,
    History,
    Messages,
    Forbidden,
    RestartHub,
    Kick,
    RefusedRejoin,
    Rejoin,
    Ban,
    Offline,
    Delivered,
    Owed,
    VerifyB,
    VerifyC,
    NothingLost,
    RawEvents,
}

impl Step {
    pub(super) const ALL: &[Self] = &[
        Self::Create,
        Self::Invite,
        Self::Join,
        Self::FirstMessages,
        Self::Knock,
        Self::History,
        Self::Messages,
        Self::Forbidden,
        Self::RestartHub,
        Self::Kick,
        Self::RefusedRejoin,
        Self::Rejoin,
        Self::Ban,
        Self::Offline,
        Self::Delivered,
        Self::Owed,
        Self::VerifyB,
        Self::VerifyC,
        Self::NothingLost,
        Self::RawEvents,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Create => "create room",
            Self::Invite => "invite",
            Self::Join => "join",
            Self::FirstMessages => "first messages",
            Self::Knock => "knock",
            Self::History => "history",
            Self::Messages => "messages",
            Self::Forbidden => "forbidden event",
            Self::RestartHub => "restart hub",
            Self::Kick => "kick",
            Self::RefusedRejoin => "refused rejoin",
            Self::Rejoin => "rejoin",
            Self::Ban => "ban",
            Self::Offline => "offline",
            Self::Delivered => "delivered",
            Self::Owed => "verify owed",
            Self::VerifyB => "verify b",
            Self::VerifyC => "verify c",
            Self::NothingLost => "nothing lost",
            Self::RawEvents => "verify events",
        }
    }

    /// The steps without which this one cannot be taken, or would prove nothing.
    const fn needs(self) -> &'static [Self] {
        match self {
            Self::Create => &[],
            Self::Invite => &[Self::Create],
            Self::Join => &[Self::Invite],
            Self::FirstMessages | Self::Knock | Self::Forbidden | Self::Ban => &[Self::Join],
            Self::History => &[Self::FirstMessages, Self::Knock],
            Self::Messages | Self::Kick => &[Self::Knock],
            Self::RestartHub => &[Self::Join],
            Self::RefusedRejoin => &[Self::Kick],
            Self::Rejoin => &[Self::Kick],
            Self::Offline => &[Self::Rejoin],
            Self::Delivered => &[Self::Create],
            Self::Owed => &[Self::Delivered, Self::Rejoin],
            Self::VerifyB => &[Self::Join, Self::Delivered],
            Self::VerifyC => &[Self::Rejoin, Self::Delivered],
            Self::NothingLost => &[Self::Messages, Self::Delivered],
            Self::RawEvents => &[Self::Rejoin, Self::Delivered],
        }
    }
}

/// A message somebody said, until the room has it.
struct Message {
    by: User,
    text: String,
    key: String,
}

/// A message whose place in the room was acknowledged.
pub(super) struct Said {
    pub(super) event_id: String,
    pub(super) sender: &'static str,
    pub(super) text: String,
}

/// The story so far.
pub(super) struct Story {
    network: Network,
    room: String,
    said: Vec<Said>,
    messages: usize,
}

impl Story {
    pub(super) const fn new(network: Network) -> Self {
        Self {
            network,
            room: String::new(),
            said: Vec::new(),
            messages: 0,
        }
    }

    /// Takes every step that can be taken, and accounts for those that cannot.
    pub(super) async fn tell(&mut self, report: &mut Report) {
        for &step in Step::ALL {
            match step.needs().iter().find(|needed| !report.holds(needed.name())) {
                Some(missing) => report.skip(step.name(), missing.name()),
                None => {
                    report
                        .step(step.name(), async { Ok(((), self.take(step).await?)) })
                        .await;
                }
            }
        }
    }

    /// The room's ID; empty if it was never created.
    pub(super) fn room(&self) -> &str {
        &self.room
    }

    /// The servers, for another act.
    pub(super) const fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    pub(super) async fn stop(&mut self) {
        self.network.stop().await;
    }

    async fn take(&mut self, step: Step) -> anyhow::Result<String> {
        match step {
            Step::Create => self.create().await,
            Step::Invite => self.invite().await,
            Step::Join => self.join().await,
            Step::FirstMessages => self.first_messages().await,
            Step::Knock => self.knock().await,
            Step::History => self.history().await,
            Step::Messages => self.messages().await,
            Step::Forbidden => self.forbidden().await,
            Step::RestartHub => self.restart_hub().await,
            Step::Kick => self.kick().await,
            Step::RefusedRejoin => self.refused_rejoin().await,
            Step::Rejoin => self.rejoin().await,
            Step::Ban => self.ban().await,
            Step::Offline => self.offline().await,
            Step::Delivered => self.delivered().await,
            Step::Owed => self.owed().await,
            Step::VerifyB => self.verify_log(BOB).await,
            Step::VerifyC => self.verify_log(CLEO).await,
            Step::NothingLost => self.nothing_lost().await,
            Step::RawEvents => self.raw_events().await,
        }
    }

    async fn create(&mut self) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct Created {
            room_id: String,
        }
        let wanted = json!({
            "name": "Three providers",
            "topic": "One room, one order of events",
            "join_rule": "knock",
            "history_visibility": "joined",
        });
        let created: Created = self
            .network
            .at(At::A)
            .backend()
            .post(ALICE.id, "/rooms", &wanted)
            .await?;
        self.room = created.room_id;
        let log = self.log(ALICE).await?;
        let types: Vec<&str> = log.iter().take(3).map(|event| event.r#type.as_str()).collect();
        ensure!(
            types == ["m.room.create", "m.room.member", "m.room.power_levels"],
            "the room begins with {types:?}"
        );
        Ok(format!(
            "Alice made {} on a.localhost, which is its hub from now on.",
            self.room
        ))
    }

    async fn invite(&mut self) -> anyhow::Result<String> {
        self.change(ALICE, "invite", BOB).await?;
        self.wait_for_invite(BOB).await?;
        Ok("The hub had Alice's invite signed by b.localhost, and Bob sees it.".into())
    }

    async fn join(&mut self) -> anyhow::Result<String> {
        self.enter(BOB).await?;
        let (hub, b) = (self.state(ALICE).await?, self.state(BOB).await?);
        ensure!(same_events(&hub, &b), "the room's state differs between a and b");
        Ok(format!(
            "Bob joined by make_join and send_join; both servers hold the same {} state events.",
            b.len()
        ))
    }

    async fn first_messages(&mut self) -> anyhow::Result<String> {
        self.say_together(&[(ALICE, 2), (BOB, 2)], &[ALICE, BOB]).await?;
        let shared = json!({
            "type": "m.room.history_visibility",
            "state_key": "",
            "content": { "history_visibility": "shared" },
        });
        let sent: Sent = self.post(ALICE, "events", &shared).await?;
        let changed = sent.event_id.context("the change has no event ID")?;
        self.wait_for_events(BOB, &[changed]).await?;
        self.say_together(&[(ALICE, 2), (BOB, 2)], &[ALICE, BOB]).await?;
        let detail = "Four messages for members of that moment, four for those of any time: same event IDs on a and b.";
        Ok(detail.into())
    }

    async fn knock(&mut self) -> anyhow::Result<String> {
        let path = format!("/rooms/{}/join", self.room);
        let refused = self.refusal(CLEO, &path, &json!({ "via": ["a.localhost"] })).await?;
        let rule = refused.rule().context("the refusal names no rule")?.to_owned();
        let _: Value = self
            .post(CLEO, "knock", &json!({ "via": ["a.localhost"], "reason": "May I?" }))
            .await?;
        self.wait_for_membership(ALICE, CLEO, "knock").await?;
        self.change(ALICE, "invite", CLEO).await?;
        self.wait_for_invite(CLEO).await?;
        self.enter(CLEO).await?;
        Ok(format!(
            "Cleo could not just join (rule {rule}); she knocked, Alice invited her, and she joined."
        ))
    }

    async fn history(&mut self) -> anyhow::Result<String> {
        let hub = self.log(ALICE).await?;
        let expected = verify::history_for(&hub, CLEO.id).context("Cleo's join is not in the hub's log")?;
        let mut found = self.newest_first(CLEO).await?;
        found.reverse();
        found.retain(|event| event.position.is_some_and(|position| position <= 0));
        let differs = || format!("{} events expected, {} found", expected.visible.len(), found.len());
        ensure!(
            same_in_order(&expected.visible, &found),
            "Cleo reads another history than she should: {}",
            differs()
        );
        Ok(format!(
            "Cleo reads {} of {} earlier events, fetched from the hub: all that was shared, nothing that was not.",
            found.len(),
            expected.visible.len() + expected.hidden
        ))
    }

    async fn messages(&mut self) -> anyhow::Result<String> {
        self.say_together(&[(ALICE, 5), (BOB, 5), (CLEO, 5)], &WITNESSES)
            .await?;
        Ok("Five messages from each provider at the same time: 15 event IDs, each the same on all three.".into())
    }

    async fn forbidden(&mut self) -> anyhow::Result<String> {
        let witnesses = self.present_witnesses().await?;
        let look = async |story: &Self| {
            let mut seen = Vec::new();
            for user in &witnesses {
                seen.push((
                    story.summary(*user).await?.position,
                    story.power_levels(*user).await?.event_id,
                ));
            }
            anyhow::Ok(seen)
        };
        let before = look(self).await?;
        let wish = json!({ "type": "m.room.power_levels", "state_key": "", "content": { "users": { BOB.id: 100 } } });
        let refused = self
            .refusal(BOB, &format!("/rooms/{}/events", self.room), &wish)
            .await?;
        let rule = refused.rule().context("the refusal names no rule")?.to_owned();
        ensure!(look(self).await? == before, "the refused event changed a room");
        Ok(format!(
            "Bob tried to make himself an administrator; the hub refused (rule {rule}), and no log has moved."
        ))
    }

    async fn restart_hub(&mut self) -> anyhow::Result<String> {
        self.network.at_mut(At::A).stop().await;
        let messages: Vec<Message> = (0..3).map(|_| self.message(BOB)).collect();
        let impatient = messages.iter().map(|message| self.ask_to_send(message, IMPATIENT));
        for answer in futures_util::future::join_all(impatient).await {
            match answer {
                Err(CallError::Transport(_)) => {}
                Ok(Sent { event_id: None }) => {}
                other => bail!("the hub is down, and yet: {other:?}"),
            }
        }
        let restarted = SystemClock.now();
        self.network.at_mut(At::A).start().await?;
        let said = try_join_all(messages.iter().map(|message| self.until_placed(message))).await?;
        let ids: Vec<String> = said.iter().map(|said| said.event_id.clone()).collect();
        for witness in self.present_witnesses().await? {
            for event in self.wait_for_events(witness, &ids).await? {
                ensure!(
                    event.origin_server_ts < restarted.as_u64(),
                    "{} was not sent while the hub was down",
                    event.event_id
                );
            }
        }
        self.said.extend(said);
        let detail = "The hub stopped, Bob sent three messages, the hub came back: they arrived, the same everywhere.";
        Ok(detail.into())
    }

    async fn kick(&mut self) -> anyhow::Result<String> {
        self.change(ALICE, "kick", CLEO).await?;
        wait_for("Cleo's server to hear of the kick", async || {
            Ok((self.summary(CLEO).await?.membership == "leave").then_some(()))
        })
        .await?;
        self.say_together(&[(ALICE, 3), (BOB, 3)], &[ALICE, BOB]).await?;
        Ok("Alice removed Cleo, the last user of c.localhost; six messages followed that c is not owed.".into())
    }

    async fn refused_rejoin(&mut self) -> anyhow::Result<String> {
        let path = format!("/rooms/{}/join", self.room);
        let refused = self.refusal(CLEO, &path, &json!({ "via": ["a.localhost"] })).await?;
        ensure!(
            refused.rule() == Some("5.2.6"),
            "refused for another reason: {}",
            refused.message
        );
        Ok("Cleo cannot come back uninvited: the hub refused her join (rule 5.2.6).".into())
    }

    async fn rejoin(&mut self) -> anyhow::Result<String> {
        self.change(ALICE, "invite", CLEO).await?;
        self.wait_for_invite(CLEO).await?;
        self.enter(CLEO).await?;
        self.say_together(&[(ALICE, 2), (BOB, 2), (CLEO, 2)], &WITNESSES)
            .await?;
        Ok("Invited again, Cleo is back, and what is said from here on reaches all three.".into())
    }

    async fn ban(&mut self) -> anyhow::Result<String> {
        self.change(ALICE, "invite", MALLORY).await?;
        self.wait_for_membership(BOB, MALLORY, "invite").await?;
        self.enter(MALLORY).await?;
        self.say_together(&[(MALLORY, 1)], &[ALICE, BOB]).await?;
        self.change(ALICE, "ban", MALLORY).await?;
        self.wait_for_membership(BOB, MALLORY, "ban").await?;
        let join = self
            .refusal(MALLORY, &format!("/rooms/{}/join", self.room), &json!({}))
            .await?;
        ensure!(
            join.rule() == Some("5.2.3"),
            "refused for another reason: {}",
            join.message
        );
        let knock = self
            .refusal(MALLORY, &format!("/rooms/{}/knock", self.room), &json!({}))
            .await?;
        ensure!(
            knock.rule() == Some("5.6.4"),
            "refused for another reason: {}",
            knock.message
        );
        Ok("Mallory of b was banned; the hub refuses her join (rule 5.2.3) and her knock (rule 5.6.4).".into())
    }

    async fn offline(&mut self) -> anyhow::Result<String> {
        self.network.at_mut(At::C).stop().await;
        let missed = self.say_together(&[(ALICE, 10), (BOB, 10)], &[ALICE, BOB]).await?;
        let lag = wait_for("the hub to count what c is behind", async || {
            let c = self
                .followers()
                .await?
                .into_iter()
                .find(|one| one.server == "c.localhost" && one.until.is_none());
            Ok(c.map(|follower| follower.lag).filter(|lag| *lag >= missed.len() as u64))
        })
        .await?;
        self.network.at_mut(At::C).start().await?;
        self.wait_for_events(CLEO, &missed).await?;
        Ok(format!(
            "c was stopped while 20 messages flowed and fell {lag} events behind; started again, it caught up."
        ))
    }

    async fn delivered(&mut self) -> anyhow::Result<String> {
        let followers = wait_for("everything to be delivered", async || {
            let followers = self.followers().await?;
            Ok(followers.iter().all(|follower| follower.lag == 0).then_some(followers))
        })
        .await?;
        let head = self.summary(ALICE).await?.position;
        Ok(format!(
            "The hub owes nobody anything: {} delivery intervals, all at lag 0, room head {head}.",
            followers.len()
        ))
    }

    async fn owed(&mut self) -> anyhow::Result<String> {
        let (hub, followers) = (self.log(ALICE).await?, self.followers().await?);
        let mut told = Vec::new();
        for at in [At::B, At::C] {
            let server = self.network.at(at).server_name().as_str();
            let stays = verify::check_followers(&hub, &followers, server)?;
            told.push(format!("{server} {}", verify::describe(&stays)));
        }
        Ok(format!(
            "What the hub says it owes is what joins and leaves imply: {}.",
            told.join("; ")
        ))
    }

    async fn verify_log(&mut self, witness: User) -> anyhow::Result<String> {
        let (hub, own) = (self.log(ALICE).await?, self.log(witness).await?);
        let server = self.network.at(witness.at).server_name().as_str();
        let compared = verify::compare(&hub, &own, server)?;
        ensure!(
            same_events(&self.state(ALICE).await?, &self.state(witness).await?),
            "the room's state on {server} differs"
        );
        Ok(format!(
            "{server} holds exactly the {} of the hub's {} events it was owed, in order, contents alike; same room state.",
            compared,
            hub.len()
        ))
    }

    async fn nothing_lost(&mut self) -> anyhow::Result<String> {
        let hub = self.log(ALICE).await?;
        verify::check_said(&hub, &self.said)?;
        Ok(format!(
            "All {} messages that were acknowledged are in the hub's log once each, and no other.",
            self.said.len()
        ))
    }

    async fn raw_events(&mut self) -> anyhow::Result<String> {
        let hub = self.log(ALICE).await?;
        let providers = At::ALL.map(|at| self.network.at(at));
        let checked = verify::check_raw(&hub, &self.room, providers).await?;
        Ok(format!(
            "{} events checked from their bytes: ID, place in the chain, {} signatures; {} copies on b and c are identical.",
            checked.events, checked.signatures, checked.copies
        ))
    }

    /// The closing table's rows, as far as they can still be had.
    pub(super) async fn providers(&self) -> Vec<ProviderRow> {
        let followers = if self.room.is_empty() {
            Vec::new()
        } else {
            self.followers().await.unwrap_or_default()
        };
        let mut rows = Vec::new();
        for user in WITNESSES {
            let provider = self.network.at(user.at);
            let name = provider.server_name().to_string();
            let log = if self.room.is_empty() {
                Vec::new()
            } else {
                self.log(user).await.unwrap_or_default()
            };
            let summary = self.summary(user).await.ok();
            let open = followers.iter().find(|one| one.server == name && one.until.is_none());
            rows.push(ProviderRow {
                role: if user.at == At::A { "hub" } else { "participant" },
                room_head: log.last().map(|event| event.event_id.clone()),
                events: log
                    .iter()
                    .filter(|event| event.position.is_some_and(|position| position > 0))
                    .count(),
                members: summary.map_or(0, |summary| summary.members),
                lag: open.map(|follower| follower.lag),
                url: provider.url(),
                address: provider.address(),
                config_file: provider.config_file(),
                token_file: provider.token_file(),
                ca_file: provider.ca_file(),
                user: user.id,
                epoch: None,
                tree_hash: None,
                provider: name,
            });
        }
        rows
    }
}

/// What steps are made of.
impl Story {
    /// Everyone says so many messages, all at the same time; then waits until each of `readers` has them all, and
    /// checks the texts.
    async fn say_together(&mut self, who: &[(User, usize)], readers: &[User]) -> anyhow::Result<Vec<String>> {
        let mut messages: Vec<Vec<Message>> = Vec::new();
        for &(user, count) in who {
            messages.push((0..count).map(|_| self.message(user)).collect());
        }
        let this = &*self;
        let everyone = messages.iter().map(|of_one| async move {
            let mut said = Vec::new();
            for message in of_one {
                said.push(this.until_placed(message).await?);
            }
            anyhow::Ok(said)
        });
        let said: Vec<Said> = try_join_all(everyone).await?.into_iter().flatten().collect();
        let ids: Vec<String> = said.iter().map(|said| said.event_id.clone()).collect();
        for &reader in readers {
            let found = self.wait_for_events(reader, &ids).await?;
            for (said, event) in said.iter().zip(found) {
                let same = event.body() == Some(&said.text) && event.sender == said.sender;
                ensure!(
                    same,
                    "{} reads {} otherwise than it was sent",
                    reader.name,
                    said.event_id
                );
            }
        }
        self.said.extend(said);
        Ok(ids)
    }

    fn message(&mut self, by: User) -> Message {
        self.messages += 1;
        Message {
            by,
            text: format!("{} says {}", by.name, self.messages),
            key: format!("demo-{}", self.messages),
        }
    }

    /// Sends with an idempotency key until the answer has the event's ID, as a backend that was cut off would.
    async fn until_placed(&self, message: &Message) -> anyhow::Result<Said> {
        let event_id = wait_for("a message to have its place in the room", async || {
            Ok(self.ask_to_send(message, TIMEOUT).await?.event_id)
        })
        .await?;
        Ok(Said {
            event_id,
            sender: message.by.id,
            text: message.text.clone(),
        })
    }

    async fn ask_to_send(&self, message: &Message, timeout: Duration) -> Result<Sent, CallError> {
        let Message { by, text, key } = message;
        let body = json!({ "type": "m.room.message", "content": { "msgtype": "m.text", "body": text } });
        let path = format!("/rooms/{}/events", self.room);
        self.network
            .at(by.at)
            .backend()
            .post_once(by.id, &path, &body, key, timeout)
            .await
    }

    /// Invite, kick or ban.
    async fn change(&self, by: User, what: &str, target: User) -> anyhow::Result<()> {
        let _: Sent = self.post(by, what, &json!({ "user_id": target.id })).await?;
        Ok(())
    }

    /// Joins, and waits until everybody in the room knows.
    async fn enter(&self, user: User) -> anyhow::Result<()> {
        let via = json!({ "via": ["a.localhost"] });
        let _: Sent = self.post(user, "join", &via).await?;
        for reader in self.present_witnesses().await? {
            self.wait_for_membership(reader, user, "join").await?;
        }
        Ok(())
    }

    async fn wait_for_invite(&self, user: User) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Rooms {
            invites: Vec<Invite>,
        }
        #[derive(Deserialize)]
        struct Invite {
            room_id: String,
            hub: String,
        }
        let invite = wait_for("an invite to arrive", async || {
            let rooms: Rooms = self.network.at(user.at).backend().get(user.id, "/rooms").await?;
            Ok(rooms.invites.into_iter().find(|invite| invite.room_id == self.room))
        })
        .await?;
        ensure!(
            invite.hub == "a.localhost",
            "the invite names {} as the hub",
            invite.hub
        );
        Ok(())
    }

    async fn wait_for_membership(&self, reader: User, user: User, membership: &str) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Members {
            members: Vec<Member>,
        }
        #[derive(Deserialize)]
        struct Member {
            user_id: String,
            membership: String,
        }
        wait_for("a membership to change", async || {
            let members: Members = self.read(reader, "/members").await?;
            let known = members.members.iter().find(|member| member.user_id == user.id);
            Ok(known.filter(|member| member.membership == membership).map(|_| ()))
        })
        .await
        .with_context(|| format!("{} should see {} as `{membership}`", reader.name, user.name))
    }

    /// The events with these IDs, in that order, once the reader's server has all of them.
    async fn wait_for_events(&self, reader: User, ids: &[String]) -> anyhow::Result<Vec<RoomEvent>> {
        wait_for("events to arrive", async || {
            let newest = self.page(reader, "dir=b&limit=100").await?.events;
            let found = ids
                .iter()
                .map(|id| newest.iter().find(|event| event.event_id == *id).cloned());
            Ok(found.collect::<Option<Vec<_>>>())
        })
        .await
        .with_context(|| format!("{} should see {} events", reader.name, ids.len()))
    }

    /// The witnesses who are in the room.
    async fn present_witnesses(&self) -> anyhow::Result<Vec<User>> {
        let mut present = Vec::new();
        for user in WITNESSES {
            match self.summary(user).await {
                Ok(summary) if summary.membership == "join" => present.push(user),
                Ok(_) | Err(CallError::Refused(Refused { status: 404, .. })) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(present)
    }

    /// What a request is refused with; that it is not refused is an error.
    async fn refusal(&self, user: User, path: &str, body: &Value) -> anyhow::Result<Refused> {
        match self
            .network
            .at(user.at)
            .backend()
            .post::<Value>(user.id, path, body)
            .await
        {
            Err(CallError::Refused(refused)) if refused.status == 403 => Ok(refused),
            Err(error) => Err(error).with_context(|| format!("{} should have been refused", user.name)),
            Ok(answer) => bail!("{} should have been refused: {answer}", user.name),
        }
    }

    /// The whole log of a user's server as the user sees it, oldest first.
    async fn log(&self, user: User) -> anyhow::Result<Vec<RoomEvent>> {
        let mut log = Vec::new();
        let mut query = "dir=f&limit=100".to_owned();
        loop {
            let page = self.page(user, &query).await?;
            log.extend(page.events);
            let Some(next) = page.next else { return Ok(log) };
            query = format!("dir=f&limit=100&from={next}");
        }
    }

    /// The same from the newest event back, as far as the hub shows more.
    async fn newest_first(&self, user: User) -> anyhow::Result<Vec<RoomEvent>> {
        let mut log = Vec::new();
        let mut query = "dir=b&limit=100".to_owned();
        loop {
            let page = self.page(user, &query).await?;
            log.extend(page.events);
            let next = page.next.map(|next| format!("dir=b&limit=100&from={next}"));
            match next {
                Some(next) if next != query => query = next,
                _ => return Ok(log),
            }
        }
    }

    async fn page(&self, user: User, query: &str) -> Result<Page, CallError> {
        self.read(user, &format!("/events?{query}")).await
    }

    async fn summary(&self, user: User) -> Result<RoomSummary, CallError> {
        self.read(user, "").await
    }

    async fn power_levels(&self, user: User) -> Result<RoomEvent, CallError> {
        self.read(user, "/state/m.room.power_levels").await
    }

    async fn state(&self, user: User) -> Result<Vec<RoomEvent>, CallError> {
        #[derive(Deserialize)]
        struct State {
            state: Vec<RoomEvent>,
        }
        Ok(self.read::<State>(user, "/state").await?.state)
    }

    async fn followers(&self) -> Result<Vec<Follower>, CallError> {
        #[derive(Deserialize)]
        struct Delivery {
            followers: Vec<Follower>,
        }
        Ok(self.read::<Delivery>(ALICE, "/delivery").await?.followers)
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, user: User, rest: &str) -> Result<T, CallError> {
        self.network
            .at(user.at)
            .backend()
            .get(user.id, &format!("/rooms/{}{rest}", self.room))
            .await
    }

    async fn post<T: serde::de::DeserializeOwned>(&self, user: User, rest: &str, body: &Value) -> Result<T, CallError> {
        self.network
            .at(user.at)
            .backend()
            .post(user.id, &format!("/rooms/{}/{rest}", self.room), body)
            .await
    }
}

/// A page of history.
#[derive(Deserialize)]
struct Page {
    events: Vec<RoomEvent>,
    next: Option<i64>,
}

/// Whether two states, both ordered by type and key, are the same.
fn same_events(some: &[RoomEvent], others: &[RoomEvent]) -> bool {
    some.len() == others.len() && some.iter().zip(others).all(|(one, other)| one.is_same_as(other))
}

fn same_in_order(expected: &[&RoomEvent], found: &[RoomEvent]) -> bool {
    expected.len() == found.len() && expected.iter().zip(found).all(|(one, other)| one.is_same_as(other))
}

/// How long a client waits that does not want to wait.
pub(super) const IMPATIENT: Duration = Duration::from_millis(400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_needs_earlier_ones_only_and_has_a_name_of_its_own() {
        let mut names = std::collections::BTreeSet::new();
        for (index, step) in Step::ALL.iter().enumerate() {
            assert!(names.insert(step.name()), "two steps are called {}", step.name());
            let earlier = &Step::ALL[..index];
            assert!(
                step.needs().iter().all(|needed| earlier.contains(needed)),
                "{step:?} needs a later step"
            );
        }
    }
}
