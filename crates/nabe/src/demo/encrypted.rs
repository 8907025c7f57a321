//! The second act: a room whose messages are encrypted between the devices of its members (LM #int-mls-considerations). Four users, five
//! devices; the servers are those of the first act.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use futures_util::future::{join_all, try_join_all};
use nabe_client::{
    ClientError, GroupInfo, GroupStatus, Notice,
    transport::{NewRoom, RoomEvent, Transport as _},
};
use nabe_content::{
    Body, Label, Message, Post, Text,
    attachment::{AcceptAll, Outgoing},
};
use nabe_mls::{DeviceObject, HubGroup, Suite};
use nabe_service::ports::{Clock as _, SystemClock};
use nabe_signing::{Json, base64u};
use nabe_types::{EventId, RoomId, ServerName, UserId};
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    client::wait_for,
    device::{self, Device, Who, eavesdrop, unreadable},
    provider::{At, Network},
    report::Report,
    search::OnDisk,
    story::{ALICE, BOB, CLEO, IMPATIENT, MALLORY, User},
};

/// What happens, in order. Each step needs the one before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Devices,
    Create,
    Welcome,
    Speak,
    SendFile,
    JoinExternally,
    Race,
    Restart,
    Remove,
    LockedOut,
    Eavesdrop,
    Agree,
    BlindHub,
}

impl Step {
    pub(super) const ALL: &[Self] = &[
        Self::Devices,
        Self::Create,
        Self::Welcome,
        Self::Speak,
        Self::SendFile,
        Self::JoinExternally,
        Self::Race,
        Self::Restart,
        Self::Remove,
        Self::LockedOut,
        Self::Eavesdrop,
        Self::Agree,
        Self::BlindHub,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Devices => "devices",
            Self::Create => "encrypted room",
            Self::Welcome => "welcome",
            Self::Speak => "secrets",
            Self::SendFile => "file",
            Self::JoinExternally => "external join",
            Self::Race => "lost race",
            Self::Restart => "group restart",
            Self::Remove => "remove",
            Self::LockedOut => "locked out",
            Self::Eavesdrop => "eavesdrop",
            Self::Agree => "verify group",
            Self::BlindHub => "blind hub",
        }
    }
}

/// A provider's view of the group, for the closing table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct GroupRow {
    pub(super) at: At,
    pub(super) epoch: u64,
    pub(super) tree_hash: String,
}

/// The act so far.
pub(super) struct Encrypted {
    folder: PathBuf,
    devices: Vec<Device>,
    room: Option<RoomId>,
    /// How many messages were sent.
    said: usize,
    /// What is said to a member who is about to be removed, and still hers to read.
    last_for_mallory: String,
    /// The messages after her removal.
    not_for_mallory: Vec<String>,
    groups: Vec<GroupRow>,
    hub_view: Option<String>,
}

impl Encrypted {
    /// The devices will have their folders in `folder`.
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            devices: Vec::new(),
            room: None,
            said: 0,
            last_for_mallory: String::new(),
            not_for_mallory: Vec::new(),
            groups: Vec::new(),
            hub_view: None,
        }
    }

    /// Takes the steps until one fails, and accounts for the rest. The devices are switched off afterwards.
    pub(super) async fn tell(&mut self, network: &mut Network, report: &mut Report) {
        let mut failed: Option<Step> = None;
        for &step in Step::ALL {
            if let Some(failed) = failed {
                report.skip(step.name(), failed.name());
                continue;
            }
            let work = async { Ok(((), self.take(step, network).await?)) };
            if report.step(step.name(), work).await.is_none() {
                failed = Some(step);
            }
        }
        self.devices.iter_mut().for_each(Device::close);
    }

    /// Epoch and tree hash at each provider, once they were found to agree.
    pub(super) fn groups(&self) -> &[GroupRow] {
        &self.groups
    }

    /// What the hub could see and what not, once that was verified.
    pub(super) fn hub_view(&self) -> Option<&str> {
        self.hub_view.as_deref()
    }

    async fn take(&mut self, step: Step, network: &mut Network) -> anyhow::Result<String> {
        match step {
            Step::Devices => self.log_in(network).await,
            Step::Create => self.create().await,
            Step::Welcome => self.welcome().await,
            Step::Speak => self.speak().await,
            Step::SendFile => self.send_file(network).await,
            Step::JoinExternally => self.join_externally().await,
            Step::Race => self.race().await,
            Step::Restart => self.restart(network).await,
            Step::Remove => self.remove().await,
            Step::LockedOut => self.locked_out().await,
            Step::Eavesdrop => self.eavesdrop().await,
            Step::Agree => self.verify_group(network).await,
            Step::BlindHub => self.blind_hub(network).await,
        }
    }

    async fn log_in(&mut self, network: &Network) -> anyhow::Result<String> {
        let five = [
            (Who::Phone, ALICE, "Alice's phone"),
            (Who::Laptop, ALICE, "Alice's laptop"),
            (Who::Bob, BOB, "Bob"),
            (Who::Cleo, CLEO, "Cleo"),
            (Who::Mallory, MALLORY, "Mallory"),
        ];
        let folder = &self.folder;
        let logins = five.map(|(who, user, name)| Device::log_in(folder, network.at(user.at), who, user, name));
        self.devices = try_join_all(logins).await?;
        // Nobody takes a server's word for a device: the object is signed by the device's own key.
        for (asking, about, count) in [(Who::Phone, BOB, 1), (Who::Bob, ALICE, 2), (Who::Cleo, MALLORY, 1)] {
            let objects = self.device(asking).transport().devices(&user(about)?).await?;
            for object in &objects {
                let object = DeviceObject::parse(object.clone())?;
                ensure!(*object.user_id() == user(about)?, "a device of somebody else");
            }
            ensure!(
                objects.len() == count,
                "{} devices of {} are known to {asking:?}, not {count}",
                objects.len(),
                about.name
            );
        }
        Ok(
            "Five devices of four users made their keys and published them; other providers' users verified them."
                .into(),
        )
    }

    async fn create(&mut self) -> anyhow::Result<String> {
        let new = NewRoom {
            name: Some(ROOM_NAME.to_owned()),
            join_rule: Some("invite".to_owned()),
            ..NewRoom::default()
        };
        let suite = Suite::default();
        let room = self.device(Who::Phone).client()?.create_room(new, suite).await?;
        self.room = Some(room.clone());
        let group = self.agree(&[Who::Phone]).await?;
        ensure!(
            group.members.len() == 1,
            "the group has {} members",
            group.members.len()
        );
        Ok(format!(
            "Alice's phone made {room} and its MLS group ({suite}), epoch {}.",
            group.epoch
        ))
    }

    async fn welcome(&mut self) -> anyhow::Result<String> {
        let room = self.room()?;
        for (who, invited) in [(Who::Bob, BOB), (Who::Mallory, MALLORY)] {
            self.bring_in(&room, who, invited).await?;
        }
        let users = [user(ALICE)?, user(BOB)?, user(MALLORY)?];
        self.device(Who::Phone).client()?.add_users(&room, &users).await?;
        let group = self.agree(&FIRST_FOUR).await?;
        ensure!(
            group.members.len() == 4,
            "the group has {} members",
            group.members.len()
        );
        Ok(format!(
            "One commit added Alice's laptop, Bob and Mallory; each opened a Welcome, and all four agree on epoch {}.",
            group.epoch
        ))
    }

    async fn speak(&mut self) -> anyhow::Result<String> {
        let said = self.say_each(&FIRST_FOUR).await?;
        self.wait_until_read(&FIRST_FOUR, &said).await?;
        let room = self.room()?;
        let log = device::log(self.device(Who::Bob), &room).await?;
        ensure!(
            log.iter().all(|event| event.event_type != "m.room.message"),
            "something was not encrypted"
        );
        Ok("Each said something: every device reads all four, and the servers have passed on ciphertext only.".into())
    }

    /// The file and its name hold what the last step looks for on every server's disk.
    async fn send_file(&mut self, network: &Network) -> anyhow::Result<String> {
        let room = self.room()?;
        let file = Outgoing {
            name: Some(Label::new(self.next_text(Who::Phone)).context("the file's name")?),
            ..Outgoing::new(SECRET.repeat(4_096).into_bytes())
        };
        let plain = file.bytes.clone();
        self.device(Who::Phone)
            .client()?
            .send_file(&room, file, &AcceptAll)
            .await?;
        let bob = self.device(Who::Bob).client()?;
        let sealed = wait_for("the file's message to reach Bob", async || {
            bob.sync(Duration::ZERO).await?;
            device::newest_file(bob, &room)
        })
        .await?;
        ensure!(bob.fetch(&sealed).await? == plain, "Bob has another file");
        for at in [At::A, At::B] {
            let media = network.at(at).config_file().with_file_name("data").join("media");
            let kept = OnDisk::read(&media)?;
            let name = network.at(at).server_name();
            ensure!(kept.bytes() > plain.len(), "{name} does not have the file");
            ensure!(!kept.holds(SECRET), "{name} can read the file");
        }
        Ok(format!(
            "Alice sent a file of {} KiB: Bob's server fetched it from hers, Bob checked its hash and opened it; both \
             servers have ciphertext only.",
            plain.len() / 1024
        ))
    }

    async fn join_externally(&mut self) -> anyhow::Result<String> {
        let room = self.room()?;
        self.bring_in(&room, Who::Cleo, CLEO).await?;
        self.device(Who::Cleo).client()?.join_externally(&room).await?;
        let group = self.agree(&ALL_FIVE).await?;
        ensure!(
            group.members.len() == 5,
            "the group has {} members",
            group.members.len()
        );
        let said = self.say_each(&ALL_FIVE).await?;
        self.wait_until_read(&ALL_FIVE, &said).await?;
        Ok(format!(
            "Nobody added Cleo: from the group's public state, kept by the hub, she made her own way in, epoch {}. \
             All five read all five.",
            group.epoch
        ))
    }

    async fn race(&mut self) -> anyhow::Result<String> {
        let room = self.room()?;
        let before = self.agree(&ALL_FIVE).await?.epoch;
        for device in &mut self.devices {
            device.notices()?;
        }
        // Each makes its commit for the epoch it is in before it hears of the others'.
        let racing = self.some(&RACERS);
        let outcomes = racing.into_iter().map(|device| {
            let room = room.clone();
            async move { anyhow::Ok(device.client()?.update(&room).await?) }
        });
        for outcome in join_all(outcomes).await {
            outcome.context("a commit that lost a race should be made again")?;
        }
        let after = self.agree(&ALL_FIVE).await?.epoch;
        ensure!(after == before + 3, "three commits led from epoch {before} to {after}");
        let mut lost = Vec::new();
        for device in self.some(&RACERS) {
            let notices = device.notices()?;
            let is_loss = |notice: &Notice| matches!(notice, Notice::LostRace { epoch, .. } if *epoch == before);
            if notices.iter().any(is_loss) {
                lost.push(device.name);
            }
        }
        ensure!(lost.len() == 2, "lost the race for epoch {before}: {lost:?}");
        Ok(format!(
            "Alice's laptop, Bob and Cleo committed for epoch {before} at once: the hub took one; {} lost, followed, \
             committed again, and all agree on epoch {after}.",
            lost.join(" and ")
        ))
    }

    async fn restart(&mut self, network: &mut Network) -> anyhow::Result<String> {
        let room = self.room()?;
        let before = self.agree(&ALL_FIVE).await?;
        network.at_mut(At::A).stop().await;
        self.device(Who::Phone).close();
        let text = self.next_text(Who::Bob);
        // It stays with Bob's device or his server until the hub is back.
        let message = plain(&text)?;
        let sending = self.device(Who::Bob).client()?.send(&room, &message);
        if let Ok(sent) = timeout(IMPATIENT, sending).await {
            sent?;
        }
        network.at_mut(At::A).start().await?;
        self.device(Who::Phone).open()?;
        self.wait_until_read(&ALL_FIVE, &[(Who::Bob, text)]).await?;
        let kept = self.agree(&ALL_FIVE).await?;
        ensure!(kept == before, "the group is another after the restart");
        // The hub can judge the next commit only if it has the group.
        self.device(Who::Cleo).client()?.update(&room).await?;
        let after = self.agree(&ALL_FIVE).await?.epoch;
        ensure!(
            after == before.epoch + 1,
            "the hub took no commit for epoch {}",
            before.epoch
        );
        Ok(format!(
            "The hub and Alice's phone stopped in epoch {}, Bob sent a message, both came back from disk: it is read \
             by all, and the hub took Cleo's commit into epoch {after}.",
            before.epoch
        ))
    }

    async fn remove(&mut self) -> anyhow::Result<String> {
        let room = self.room()?;
        let before = self.agree(&ALL_FIVE).await?.epoch;
        // All she has: every key of the epoch in which she is removed.
        let mallory = self.device(Who::Mallory);
        mallory.close();
        let copies = COPIES.map(|copy| self.folder.join(copy));
        for copy in &copies {
            self.device(Who::Mallory).copy_to(copy)?;
        }
        let text = self.say(Who::Phone).await?;
        self.wait_until_read(&REMAINING, &[(Who::Phone, text.clone())]).await?;
        self.last_for_mallory = text;
        self.device(Who::Phone).client()?.kick(&room, &user(MALLORY)?).await?;
        let group = self.agree(&REMAINING).await?;
        let hers = user(MALLORY)?;
        ensure!(
            group.members.iter().all(|member| member.user != hers),
            "Mallory is in the group"
        );
        ensure!(group.epoch == before + 1, "one commit led to epoch {}", group.epoch);
        let said = self.say_each(&[Who::Phone, Who::Bob, Who::Cleo]).await?;
        self.wait_until_read(&REMAINING, &said).await?;
        self.not_for_mallory = said.into_iter().map(|(_, text)| text).collect();
        Ok(format!(
            "Alice removed Mallory from the room and her device from the group, epoch {}; the four devices left go on talking.",
            group.epoch
        ))
    }

    /// Mallory as the software has her: her server and her client know that she is out.
    async fn locked_out(&mut self) -> anyhow::Result<String> {
        let room = self.room()?;
        let mallory = self.device(Who::Mallory);
        mallory.open()?;
        wait_for("Mallory's client to hear that she is out", async || {
            let client = mallory.client()?;
            client.sync(Duration::ZERO).await?;
            let is_out = client.room(&room)?.group != GroupStatus::Active && client.group(&room)?.is_none();
            Ok(is_out.then_some(()))
        })
        .await?;
        let message = plain("may I?")?;
        let sent = mallory.client()?.send(&room, &message).await;
        ensure!(
            matches!(sent, Err(ClientError::NotInGroup(_))),
            "Mallory's client should not be able to send: {sent:?}"
        );
        // Her server shows a group to members of the room only, and without it there is nothing to join.
        let joined = mallory.client()?.join_externally(&room).await;
        ensure!(
            matches!(joined, Err(ClientError::NoGroup(_) | ClientError::UnknownRoom(_))),
            "Mallory should not be shown the group: {joined:?}"
        );
        let unread = self.not_for_mallory.clone();
        let read = self.device(Who::Mallory).texts(&room)?;
        ensure!(
            read.iter().all(|(_, text)| !unread.contains(text)),
            "Mallory was sent what is not for her"
        );
        let detail =
            "Mallory's client has dropped its keys: it cannot send, and her server shows her no group to join again.";
        Ok(detail.into())
    }

    /// Mallory as an attacker: she kept copies of all her keys, and somebody at her provider, where Bob's messages arrive, passes
    /// everything on to her.
    async fn eavesdrop(&mut self) -> anyhow::Result<String> {
        let room = self.room()?;
        let log = device::log(self.device(Who::Bob), &room).await?;
        let encrypted = |event: &&RoomEvent| event.event_type == "m.room.encrypted";
        let after: Vec<RoomEvent> = {
            let count = self.not_for_mallory.len() + 1;
            let mut newest: Vec<RoomEvent> = log.iter().rev().filter(encrypted).take(count).cloned().collect();
            newest.reverse();
            newest
        };
        let (still_hers, not_hers) = after.split_first().context("there are messages")?;
        let ids: Vec<EventId> = not_hers.iter().map(|event| event.event_id.clone()).collect();
        let between: Vec<RoomEvent> = log
            .iter()
            .filter(|event| event.position >= still_hers.position)
            .filter(|event| matches!(event.event_type.as_str(), "m.room.encrypted" | "m.mls.commit"))
            .cloned()
            .collect();
        ensure!(
            between.len() == after.len() + 1,
            "one commit is among {} events",
            between.len()
        );

        let mut reasons = BTreeSet::new();
        for copy in COPIES {
            let folder = self.folder.join(copy);
            let epoch = {
                let client = eavesdrop(&folder, &room, Vec::new())?;
                client.group(&room)?.context("the copy has its group")?.epoch
            };
            let events = match copy {
                FOLLOWING => between.clone(),
                IGNORING => after.clone(),
                // As if they were of the last epoch she has keys for.
                _ => {
                    let mut events = vec![still_hers.clone()];
                    for event in not_hers {
                        events.push(relabeled(event, &room, epoch)?);
                    }
                    events
                }
            };
            let mut client = eavesdrop(&folder, &room, events)?;
            client.catch_up().await?;
            let read: Vec<String> = device::texts(&client, &room)?
                .into_iter()
                .map(|(_, text)| text)
                .collect();
            ensure!(
                read.contains(&self.last_for_mallory),
                "the copy {copy} cannot even read what was still for her"
            );
            let failed = unreadable(&client, &room, &ids)?;
            ensure!(
                failed.len() == ids.len() && self.not_for_mallory.iter().all(|text| !read.contains(text)),
                "the copy {copy} read what is not for her: {read:?}"
            );
            reasons.extend(failed);
            if copy == IGNORING {
                let committed = client.update(&room).await;
                ensure!(
                    matches!(
                        committed,
                        Err(ClientError::CommitRefused(_)
                            | ClientError::Transport(nabe_client::TransportError::Refused(_)))
                    ),
                    "her commit should have been refused: {committed:?}"
                );
            }
            drop(client);
            let disk = OnDisk::read(&folder)?;
            let leaked = self.not_for_mallory.iter().find(|text| disk.holds(text));
            ensure!(leaked.is_none(), "{leaked:?} is in the copy {copy}");
            ensure!(
                disk.holds(&self.last_for_mallory),
                "nothing is found in the copy {copy}"
            );
        }
        Ok(format!(
            "Handed the {} later ciphertexts, three copies of Mallory's keys (following the commit, ignoring it, relabeling \
             the epoch) open none: {}.",
            ids.len(),
            reasons.into_iter().collect::<Vec<_>>().join("; ")
        ))
    }

    async fn verify_group(&mut self, network: &Network) -> anyhow::Result<String> {
        /// As the client API has it.
        #[derive(Deserialize)]
        struct Newest {
            event_id: String,
            message: String,
            public_group_state: String,
        }
        let room = self.room()?;
        let members = self.agree(&REMAINING).await?;
        let mut groups = Vec::new();
        let mut newest_commit = None;
        for witness in [ALICE, BOB, CLEO] {
            let provider = network.at(witness.at);
            let path = format!("/rooms/{room}/group");
            let newest = wait_for("a server to have the newest commit", async || {
                let newest: Newest = provider.backend().get(witness.id, &path).await?;
                let known = newest_commit.get_or_insert_with(|| newest.event_id.clone());
                Ok((*known == newest.event_id).then_some(newest))
            })
            .await?;
            let (message, state) = (
                base64u::decode(&newest.message)?,
                base64u::decode(&newest.public_group_state)?,
            );
            let (shown, _) = HubGroup::bootstrap(&room, members.suite, &message, &state, SystemClock.now())?;
            let who = match witness.at {
                At::A => Who::Phone,
                At::B => Who::Bob,
                At::C => Who::Cleo,
            };
            let own = self.device(who).client()?.group(&room)?;
            let own = own.context("a member's client has the group")?;
            for (whose, epoch, tree_hash) in [
                ("server", shown.epoch(), shown.tree_hash()),
                ("client", own.epoch, &own.tree_hash),
            ] {
                ensure!(
                    epoch == members.epoch && tree_hash == members.tree_hash,
                    "the {whose} at {} has another group, epoch {epoch}, {}",
                    provider.server_name(),
                    hex(tree_hash)
                );
            }
            groups.push(GroupRow {
                at: witness.at,
                epoch: own.epoch,
                tree_hash: hex(&own.tree_hash),
            });
        }
        self.groups = groups;
        Ok(format!(
            "Four devices agree on epoch {}, tree hash and epoch authenticator, and the public group on a, b and c has that \
             epoch and tree hash.",
            members.epoch
        ))
    }

    async fn blind_hub(&mut self, network: &Network) -> anyhow::Result<String> {
        let room = self.room()?;
        let mut searched = 0;
        for at in At::ALL {
            let provider = network.at(at);
            let file = provider.config_file();
            let folder = file.parent().context("the configuration is in a folder")?;
            let disk = OnDisk::read(folder)?;
            let name = provider.server_name();
            // What is not encrypted is found, so that not to find something means something.
            ensure!(
                disk.holds(ROOM_NAME),
                "{name} does not even have the room's name on disk"
            );
            ensure!(!disk.holds(SECRET), "{name} has plaintext on disk");
            searched += disk.bytes();
        }
        let disk = OnDisk::read(&self.folder)?;
        ensure!(disk.holds(SECRET), "not even the devices have the messages");
        let log = device::log(self.device(Who::Phone), &room).await?;
        let count = |kind: &str| log.iter().filter(|event| event.event_type == kind).count();
        let (messages, commits) = (count("m.room.encrypted"), count("m.mls.commit"));
        ensure!(
            messages == self.said,
            "{messages} messages of {} are in the log",
            self.said
        );
        self.hub_view = Some(format!(
            "The hub could see the room's name, its members and their devices, who wrote when and how much ({messages} \
             ciphertexts), and {commits} commits, each of which it checked. \
             It could not see what was written: no text is anywhere in its files."
        ));
        Ok(format!(
            "The hub saw {messages} ciphertexts and checked {commits} commits. None of the texts is in the {} KiB that the three servers have on disk, database and write-ahead \
             log, raw or in base64; the room's name, not encrypted, is.",
            searched / 1024
        ))
    }
}

/// What steps are made of.
impl Encrypted {
    fn room(&self) -> anyhow::Result<RoomId> {
        self.room.clone().context("there is no room")
    }

    fn device(&mut self, who: Who) -> &mut Device {
        &mut self.devices[who as usize]
    }

    fn some(&mut self, who: &[Who]) -> Vec<&mut Device> {
        let devices = self.devices.iter_mut();
        devices.filter(|device| who.contains(&device.who)).collect()
    }

    /// Alice invites a user, who joins the room and not the group yet.
    async fn bring_in(&mut self, room: &RoomId, who: Who, invited: User) -> anyhow::Result<()> {
        self.device(Who::Phone).client()?.invite(room, &user(invited)?).await?;
        let via = [ServerName::parse("a.localhost")?];
        let client = self.device(who).client()?;
        wait_for("an invited user to join", async || {
            Ok(Some(client.join(room, &via).await?))
        })
        .await
    }

    fn next_text(&mut self, by: Who) -> String {
        self.said += 1;
        let n = self.said;
        format!("{SECRET}: {} says {n}", self.device(by).name)
    }

    async fn say(&mut self, by: Who) -> anyhow::Result<String> {
        let (room, text) = (self.room()?, self.next_text(by));
        self.device(by).client()?.send(&room, &plain(&text)?).await?;
        Ok(text)
    }

    async fn say_each(&mut self, who: &[Who]) -> anyhow::Result<Vec<(Who, String)>> {
        let mut said = Vec::new();
        for &by in who {
            said.push((by, self.say(by).await?));
        }
        Ok(said)
    }

    async fn sync(&mut self, who: &[Who]) -> anyhow::Result<()> {
        let syncing = self.some(who).into_iter().map(|device| async move {
            device.client()?.sync(Duration::ZERO).await?;
            anyhow::Ok(())
        });
        try_join_all(syncing).await?;
        Ok(())
    }

    /// Waits until these devices are in the same epoch of the same group. That all of them are behind alike cannot be: whoever
    /// committed is among them.
    async fn agree(&mut self, who: &[Who]) -> anyhow::Result<GroupInfo> {
        let room = self.room()?;
        wait_for("the devices to agree on the group", async || {
            self.sync(who).await?;
            let mut groups = Vec::new();
            for device in self.some(who) {
                groups.push(device.client()?.group(&room)?);
            }
            let first = groups.first().cloned().flatten();
            Ok(first.filter(|first| groups.iter().all(|group| group.as_ref() == Some(first))))
        })
        .await
    }

    /// Waits until each of these devices has read these messages, each from the user who wrote it.
    async fn wait_until_read(&mut self, who: &[Who], said: &[(Who, String)]) -> anyhow::Result<()> {
        let room = self.room()?;
        let mut expected = Vec::new();
        for (by, text) in said {
            expected.push((user(self.device(*by).user)?, text.clone()));
        }
        wait_for("messages to be read", async || {
            self.sync(who).await?;
            let mut all = true;
            for device in self.some(who) {
                let read = device.texts(&room)?;
                all &= expected.iter().all(|message| read.contains(message));
            }
            Ok(all.then_some(()))
        })
        .await
    }
}

fn user(of: User) -> anyhow::Result<UserId> {
    Ok(UserId::parse(of.id)?)
}

fn plain(text: &str) -> anyhow::Result<Message> {
    let text = Text::plain(text).context("the text")?;
    Ok(Message::Post(Post::new(Body::Text(text))))
}

/// The event with a ciphertext that claims to be of another epoch. The epoch follows the group's ID, which is the room's.
fn relabeled(event: &RoomEvent, room: &RoomId, epoch: u64) -> anyhow::Result<RoomEvent> {
    let ciphertext = event.content.get("ciphertext").and_then(Json::as_str);
    let mut bytes = base64u::decode(ciphertext.context("the event has a ciphertext")?)?;
    let id = room.as_str().as_bytes();
    let at = bytes.windows(id.len()).position(|window| window == id);
    let at = at.context("the ciphertext names its group")? + id.len();
    let field = bytes.get_mut(at..at + 8).context("the ciphertext names its epoch")?;
    field.copy_from_slice(&epoch.to_be_bytes());
    let mut event = event.clone();
    event.content.insert("ciphertext", base64u::encode(&bytes));
    Ok(event)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// In every message, and nowhere else.
const SECRET: &str = "Between the five of us";
/// State is not encrypted.
const ROOM_NAME: &str = "Sealed letters";

const ALL_FIVE: [Who; 5] = [Who::Phone, Who::Laptop, Who::Bob, Who::Cleo, Who::Mallory];
/// Before Cleo came.
const FIRST_FOUR: [Who; 4] = [Who::Phone, Who::Laptop, Who::Bob, Who::Mallory];
/// After Mallory was removed.
const REMAINING: [Who; 4] = [Who::Phone, Who::Laptop, Who::Bob, Who::Cleo];
/// One at each provider.
const RACERS: [Who; 3] = [Who::Laptop, Who::Bob, Who::Cleo];

/// What the copies of Mallory's device do with the commit that removes her.
const COPIES: [&str; 3] = [FOLLOWING, IGNORING, "mallory-relabeling"];
const FOLLOWING: &str = "mallory-following";
const IGNORING: &str = "mallory-ignoring";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_names_of_their_own_in_all_acts() {
        let second = Step::ALL.iter().map(|step| step.name());
        let first = super::super::story::Step::ALL.iter().map(|step| step.name());
        let third = super::super::mimi::Step::ALL.iter().map(|step| step.name());
        let names: Vec<&str> = first.chain(second).chain(third).chain(["start"]).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn a_relabeled_ciphertext_differs_in_its_epoch_only() {
        let room = RoomId::parse("!r:a.localhost").unwrap();
        let mut bytes = vec![0, 1, 0, 2, 14];
        bytes.extend(room.as_str().as_bytes());
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3]);
        let event = RoomEvent {
            event_id: EventId::parse("$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap(),
            position: nabe_types::LogPosition(1),
            event_type: "m.room.encrypted".into(),
            state_key: None,
            sender: UserId::parse(ALICE.id).unwrap(),
            origin_server_ts: nabe_types::UnixMillis(1),
            content: nabe_signing::object! { "ciphertext" => base64u::encode(&bytes) },
        };
        let changed = relabeled(&event, &room, 8).unwrap();
        let text = changed.content.get("ciphertext").and_then(Json::as_str).unwrap();
        let at = bytes.len() - 4;
        bytes[at] = 8;
        assert_eq!(base64u::decode(text).unwrap(), bytes);
    }
}
