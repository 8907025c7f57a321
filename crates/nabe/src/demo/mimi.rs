//! The third act: the story that the draft of MIMI tells (MIMI #example-protocol-flow), by clients of three providers that speak MIMI to each
//! other over mutual TLS. The servers are those of the other acts.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use nabe_client::{
    ClientStore,
    mimi::{
        Franking, MimiBody, MimiClient, MimiError, MimiGroupState, MimiItem, MimiSettings, MimiStatus,
        MimiTransport as _, NewRoom, templates,
    },
};
use nabe_content::mimi::{MimiContent, NestedPart, Part, franking::unframe};
use nabe_mls::Suite;
use nabe_service::ports::{Clock as _, SystemClock};
use nabe_signing::base64u;
use nabe_types::{DeviceId, UserId};
use nabe_wire::{
    Encode as _, IdentifierUri, Message as _,
    consent::{ConsentAction, ConsentEntry, ConsentScope},
    key_material::KeyMaterialUserCode,
    mls::ComponentId,
    notify::{FanoutMessage, FanoutParts},
    uri::MimiUri,
};

use super::{
    client::wait_for,
    encrypted::{GroupRow, hex},
    provider::{At, Network, Provider},
    report::Report,
    search::OnDisk,
};
use crate::client::{
    account::{Account, Credential},
    mimi_http::{AbuseReported, Consent, MimiHttp},
};

/// What happens, in order. Each step needs the one before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Clients,
    Create,
    Consent,
    AddBob,
    AddCathy,
    Speak,
    RestartHub,
    Leave,
    LockedOut,
    AddDevice,
    Logs,
    BlindHub,
    Report,
}

impl Step {
    pub(super) const ALL: &[Self] = &[
        Self::Clients,
        Self::Create,
        Self::Consent,
        Self::AddBob,
        Self::AddCathy,
        Self::Speak,
        Self::RestartHub,
        Self::Leave,
        Self::LockedOut,
        Self::AddDevice,
        Self::Logs,
        Self::BlindHub,
        Self::Report,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Clients => "mimi clients",
            Self::Create => "mimi room",
            Self::Consent => "mimi consent",
            Self::AddBob => "mimi add",
            Self::AddCathy => "mimi add next",
            Self::Speak => "mimi frank",
            Self::RestartHub => "mimi restart",
            Self::Leave => "mimi leave",
            Self::LockedOut => "mimi locked out",
            Self::AddDevice => "mimi new device",
            Self::Logs => "mimi logs",
            Self::BlindHub => "mimi blind hub",
            Self::Report => "mimi report",
        }
    }
}

/// Which client: its index among the four.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Who {
    Alice,
    Bob,
    Cathy,
    Laptop,
}

impl Who {
    const fn at(self) -> At {
        match self {
            Self::Alice => At::A,
            Self::Bob => At::B,
            Self::Cathy | Self::Laptop => At::C,
        }
    }

    /// The user and the device.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Alice => ("alice", "phone"),
            Self::Bob => ("bob", "phone"),
            Self::Cathy => ("cathy", "phone"),
            Self::Laptop => ("cathy", "laptop"),
        }
    }
}

/// A client, with a line of its own for asking without it.
struct Device {
    who: Who,
    transport: Arc<MimiHttp>,
    client: MimiClient,
}

impl Device {
    /// Makes the client's keys and uploads key packages.
    async fn log_in(parent: &Path, provider: &Provider, who: Who) -> anyhow::Result<Self> {
        let domain = provider.server_name();
        let (user, device) = who.names();
        let account = Account {
            server: format!("https://localhost:{}", provider.address().port()),
            device: DeviceId::parse(device)?,
            credential: Credential::Provider {
                token: fs::read_to_string(provider.token_file())?.trim().to_owned(),
                user: UserId::parse(&format!("@{user}:{domain}"))?,
            },
            ca: Some(provider.ca_file()),
        };
        let folder = parent.join(format!("{user}-{device}"));
        account.save(&folder)?;
        let transport = Arc::new(MimiHttp::new(&account)?);
        let store = ClientStore::open(&Account::database(&folder))?;
        let uri = MimiUri::parse(&format!("mimi://{domain}/d/{user}/{device}"))?;
        let clock = Box::new(|| SystemClock.now());
        let client = MimiClient::log_in(transport.clone(), store, &uri, &[Suite::default()], settings(), clock)
            .await
            .with_context(|| format!("logging in as {uri}"))?;
        Ok(Self { who, transport, client })
    }

    /// The messages that the client could read: who wrote them, what they say, what the hub's frank is worth.
    fn texts(&self, room: &MimiUri) -> anyhow::Result<Vec<(MimiUri, String, Franking)>> {
        let items = self.client.items(room, 1_000)?;
        Ok(items.into_iter().filter_map(said).collect())
    }

    /// What the provider has of the room for this user: proposals, commits and messages, as their senders made them. Welcomes are for
    /// some providers only.
    async fn log(&self, room: &MimiUri) -> anyhow::Result<Vec<Bytes>> {
        let mut log = Vec::new();
        for (_, message) in self.transport.log(room, 0, 1_000).await? {
            let fanout = FanoutMessage::from_bytes(&message)?;
            if !matches!(fanout.with, FanoutParts::Welcome { .. }) {
                log.push(Bytes::copy_from_slice(fanout.message.as_bytes()));
            }
        }
        Ok(log)
    }
}

/// The act so far.
pub(super) struct Mimi {
    folder: PathBuf,
    devices: Vec<Device>,
    said: usize,
    groups: Vec<GroupRow>,
}

impl Mimi {
    /// The clients will have their folders in `folder`.
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            devices: Vec::new(),
            said: 0,
            groups: Vec::new(),
        }
    }

    /// Takes the steps until one fails, and accounts for the rest.
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
        self.devices.clear();
    }

    /// Epoch and tree hash at the providers that are in the room at the end.
    pub(super) fn groups(&self) -> &[GroupRow] {
        &self.groups
    }

    async fn take(&mut self, step: Step, network: &mut Network) -> anyhow::Result<String> {
        match step {
            Step::Clients => self.log_in(network).await,
            Step::Create => self.create().await,
            Step::Consent => self.consent().await,
            Step::AddBob => self.add_bob().await,
            Step::AddCathy => self.add_cathy().await,
            Step::Speak => self.speak().await,
            Step::RestartHub => self.restart_hub(network).await,
            Step::Leave => self.leave().await,
            Step::LockedOut => self.locked_out().await,
            Step::AddDevice => self.add_device(network).await,
            Step::Logs => self.logs().await,
            Step::BlindHub => self.blind_hub(network),
            Step::Report => self.report().await,
        }
    }

    async fn log_in(&mut self, network: &Network) -> anyhow::Result<String> {
        let folder = &self.folder;
        let logins = THREE.map(|who| Device::log_in(folder, network.at(who.at()), who));
        self.devices = try_join_all(logins).await?;
        Ok(format!(
            "{}, {} and {} each have a client with key packages at their provider.",
            user(Who::Alice)?,
            user(Who::Bob)?,
            user(Who::Cathy)?
        ))
    }

    async fn create(&mut self) -> anyhow::Result<String> {
        let room = room()?;
        let template = templates::cooperative(room.host());
        let new = NewRoom::new(&room, ROOM_NAME, template).context("the room's name and URI are good")?;
        self.client(Who::Alice).create_room(&new).await?;
        let group = self.agree(&[Who::Alice], 1).await?;
        ensure!(group.epoch == 0, "the room begins with epoch {}", group.epoch);
        let has = |component| group.components.data(component).is_some();
        ensure!(has(ComponentId::ROLES_LIST), "the room has no roles");
        Ok(format!(
            "Alice made {room}, administered cooperatively. Her provider is its hub and checks the policy in its group."
        ))
    }

    async fn consent(&mut self) -> anyhow::Result<String> {
        let early = self.add(Who::Alice, Who::Bob).await?;
        match early {
            Err(MimiError::KeyMaterial { status, .. }) if status == KeyMaterialUserCode::NO_CONSENT => {}
            Err(error) => return Err(error).context("adding Bob without his consent"),
            Ok(()) => bail!("Bob was added without his consent"),
        }
        self.agree_to(Who::Alice, Who::Bob).await?;
        Ok(
            "Without Bob's consent his provider gives Alice none of his keys. She asks for it, b tells Bob, he grants it, and a \
             knows."
                .into(),
        )
    }

    async fn add_bob(&mut self) -> anyhow::Result<String> {
        self.add(Who::Alice, Who::Bob).await??;
        let group = self.agree(&[Who::Alice, Who::Bob], 2).await?;
        ensure!(group.participants.participants.len() == 2, "Bob is not on the list");
        Ok(format!(
            "Alice fetched Bob's key package by way of the hub, and one commit put him on the participant list and his phone into \
             the group: it opened the Welcome, and both agree on epoch {} and its authenticator.",
            group.epoch
        ))
    }

    async fn add_cathy(&mut self) -> anyhow::Result<String> {
        self.agree_to(Who::Bob, Who::Cathy).await?;
        self.add(Who::Bob, Who::Cathy).await??;
        let group = self.agree(&THREE, 3).await?;
        ensure!(group.participants.participants.len() == 3, "Cathy is not on the list");
        Ok(format!(
            "Bob, an ordinary user, asked Cathy and added her: b sent the commit to the hub a, which sent it on. All three agree on \
             epoch {}.",
            group.epoch
        ))
    }

    async fn speak(&mut self) -> anyhow::Result<String> {
        let said = self.say(Who::Cathy).await?;
        self.wait_until_read(&THREE, Who::Cathy, &said).await?;
        Ok("Cathy wrote; Alice and Bob read it, from her, with a genuine frank of the hub over what she wrote and when.".into())
    }

    async fn restart_hub(&mut self, network: &mut Network) -> anyhow::Result<String> {
        let room = room()?;
        let before = self.agree(&THREE, 3).await?;
        network.at_mut(At::A).stop().await;
        let said = self.next_text(Who::Bob);
        let bob = self.client(Who::Bob);
        let content = bob.compose(&room, NestedPart::text(&said))?;
        let id = bob.enqueue_message(&room, &content)?;
        bob.sync(Duration::ZERO).await?;
        ensure!(
            bob.item_of(&room, &id)?.is_none() && bob.next_due()?.is_some(),
            "a hub that is down took a message"
        );
        network.at_mut(At::A).start().await?;
        self.wait_until_read(&THREE, Who::Bob, &said).await?;
        let after = self.agree(&THREE, 3).await?;
        ensure!(after == before, "the group is another one after a restart");
        Ok("Bob wrote while the hub was down. It came back with the same group, took his message once, and all three read it.".into())
    }

    async fn leave(&mut self) -> anyhow::Result<String> {
        let room = room()?;
        self.client(Who::Bob).leave(&room).await?;
        wait_for("Cathy to hear that Bob leaves", async || {
            self.sync(&[Who::Cathy]).await?;
            let group = self.client(Who::Cathy).group(&room)?;
            Ok(group.filter(|group| group.pending > 0).map(drop))
        })
        .await?;
        // Nothing may be encrypted while his proposals are pending, so she commits them first.
        let said = self.say(Who::Cathy).await?;
        self.wait_until_read(&[Who::Alice, Who::Cathy], Who::Cathy, &said)
            .await?;
        let group = self.agree(&[Who::Alice, Who::Cathy], 2).await?;
        let bob = user(Who::Bob)?.to_string();
        let list = &group.participants.participants;
        ensure!(
            list.iter().all(|pair| pair.user.as_str() != bob),
            "Bob is still on the list"
        );
        wait_for("Bob to be out", async || {
            self.sync(&[Who::Bob]).await?;
            let status = self.client(Who::Bob).room(&room)?.status;
            Ok((status == MimiStatus::Removed).then_some(()))
        })
        .await?;
        Ok(format!(
            "Bob proposed that he goes, which counts at once; Cathy's next commit took him off the list and out of the group, and a \
             and c agree on epoch {}.",
            group.epoch
        ))
    }

    async fn locked_out(&mut self) -> anyhow::Result<String> {
        let room = room()?;
        let (read, log) = (
            self.device(Who::Bob).texts(&room)?.len(),
            self.device(Who::Bob).log(&room).await?.len(),
        );
        let mut said = Vec::new();
        for by in [Who::Alice, Who::Cathy] {
            let text = self.say(by).await?;
            self.wait_until_read(&[Who::Alice, Who::Cathy], by, &text).await?;
            said.push(text);
        }
        self.sync(&[Who::Bob]).await?;
        let bob = self.device(Who::Bob);
        ensure!(bob.client.group(&room)?.is_none(), "Bob still has the group's keys");
        ensure!(bob.texts(&room)?.len() == read, "Bob read on");
        let more = bob.log(&room).await?.len();
        ensure!(
            more == log,
            "{} more messages came to Bob's provider for him",
            more - log
        );
        match self.client(Who::Bob).say(&room, NestedPart::text("Wait")).await {
            Err(MimiError::NotInGroup(_)) => {}
            Err(error) => return Err(error).context("writing to a room that was left"),
            Ok(_) => bail!("Bob wrote to a room that he left"),
        }
        Ok("Alice and Cathy went on. Nothing of it came to Bob, his client has forgotten the group's secrets, and he cannot write.".into())
    }

    async fn add_device(&mut self, network: &Network) -> anyhow::Result<String> {
        let room = room()?;
        let laptop = Device::log_in(&self.folder, network.at(Who::Laptop.at()), Who::Laptop).await?;
        self.devices.push(laptop);
        self.client(Who::Laptop).join(&room, None, None).await?;
        let group = self.agree(&REMAINING, 3).await?;
        ensure!(group.participants.participants.len() == 2, "a device is no participant");
        let mut said = 0;
        for by in REMAINING {
            let text = self.say(by).await?;
            self.wait_until_read(&REMAINING, by, &text).await?;
            said += 1;
        }
        let read = self.device(Who::Laptop).texts(&room)?.len();
        ensure!(read == said, "the new device reads {read} messages, not {said}");
        self.groups = [At::A, At::C]
            .map(|at| GroupRow {
                at,
                epoch: group.epoch,
                tree_hash: hex(&group.tree_hash),
            })
            .into();
        Ok(format!(
            "Cathy's laptop had the sealed GroupInfo from the hub and joined by an external commit, epoch {}: the three clients agree, \
             and it reads what came after.",
            group.epoch
        ))
    }

    async fn logs(&mut self) -> anyhow::Result<String> {
        let room = room()?;
        let hub = self.device(Who::Alice).log(&room).await?;
        let at_b = self.device(Who::Bob).log(&room).await?;
        let at_c = self.device(Who::Cathy).log(&room).await?;
        ensure!(!at_b.is_empty() && !at_c.is_empty(), "a follower has nothing");
        ensure!(
            hub.windows(at_b.len()).any(|part| part == at_b),
            "b has not what the hub has between Bob's Welcome and his removal"
        );
        ensure!(hub.ends_with(&at_c), "c has not what the hub has since Cathy's Welcome");
        Ok(format!(
            "The hub's log has {} entries. The followers have the same bytes in the same order, nothing doubled: b the {} between Bob's \
             Welcome and his removal, c all {} since Cathy's.",
            hub.len(),
            at_b.len(),
            at_c.len()
        ))
    }

    fn blind_hub(&self, network: &Network) -> anyhow::Result<String> {
        let mut searched = 0;
        for at in At::ALL {
            let provider = network.at(at);
            let file = provider.config_file();
            let folder = file.parent().context("the configuration is in a folder")?;
            let disk = OnDisk::read(folder)?;
            let name = provider.server_name();
            // What is not encrypted is found, so that not to find something means something.
            ensure!(disk.holds(ROOM), "{name} does not even have the room's URI on disk");
            ensure!(!disk.holds(SECRET), "{name} has plaintext on disk");
            searched += disk.bytes();
        }
        let disk = OnDisk::read(&self.folder)?;
        ensure!(disk.holds(SECRET), "not even the clients have the messages");
        Ok(format!(
            "None of the {} texts is in the {} KiB that the three providers have on disk, raw or in base64; the room's URI is.",
            self.said,
            searched / 1024
        ))
    }

    /// After the search: what is reported is shown to the hub.
    async fn report(&mut self) -> anyhow::Result<String> {
        let room = room()?;
        let text = self.next_text(Who::Alice);
        let id = self.client(Who::Alice).say(&room, NestedPart::text(&text)).await?;
        self.wait_until_read(&REMAINING, Who::Alice, &text).await?;
        self.client(Who::Cathy)
            .report_abuse(&room, &[id], "Not among clubmates")
            .await?;
        let operator = &self.device(Who::Alice).transport;
        let reports = operator.open_reports().await?;
        let [report] = &reports[..] else {
            bail!("{} reports are open, not one", reports.len());
        };
        let report = operator.report(report.number).await?;
        ensure!(
            report.verified,
            "the hub does not recognize what it franked: {report:?}"
        );
        ensure!(
            report.provider == At::C.server_name() && report.alleged_abuser == user(Who::Alice)?.to_string(),
            "the report is about somebody else: {report:?}"
        );
        let shown = report.messages.first().and_then(|message| message.content.as_deref());
        let shown = base64u::decode(shown.context("the report shows no message")?)?;
        let content = MimiContent::decode(unframe(&shown)?)?;
        ensure!(content.to_plain().contains(&text), "the hub was shown another message");
        operator.resolve_report(report.number, "talked to Alice").await?;

        // The same message, and somebody else is said to have sent it.
        let mut forged = self.client(Who::Cathy).abuse_report(&room, &[id], "")?;
        forged.alleged_abuser_uri = identifier(&user(Who::Cathy)?)?;
        self.device(Who::Cathy)
            .transport
            .report_abuse(&room, &forged.to_bytes())
            .await?;
        let reports = self.device(Who::Alice).transport.open_reports().await?;
        let evidence =
            |report: &AbuseReported| report.messages.iter().map(|it| it.evidence.clone()).collect::<Vec<_>>();
        ensure!(
            reports.len() == 1 && !reports[0].verified && evidence(&reports[0]) == ["other_sender"],
            "the hub believes a forged report: {reports:?}"
        );
        Ok(
            "Cathy showed the hub a message of Alice's, by way of c: by its frank the hub knows that Alice wrote it, in this room and at \
             that time, and its operator resolved the report. The same message as somebody else's was taken, too, and is no evidence."
                .into(),
        )
    }
}

/// What steps are made of.
impl Mimi {
    fn device(&self, who: Who) -> &Device {
        &self.devices[who as usize]
    }

    fn client(&mut self, who: Who) -> &mut MimiClient {
        &mut self.devices[who as usize].client
    }

    /// One asks another for consent in this room, who grants it.
    async fn agree_to(&self, requester: Who, target: Who) -> anyhow::Result<()> {
        let scope = ConsentScope {
            requester_uri: identifier(&user(requester)?)?,
            target_uri: identifier(&user(target)?)?,
            room_id: Some(identifier(&room()?)?),
        };
        let entry = |operation| ConsentEntry {
            operation,
            scope: scope.clone(),
            consent_extensions: Default::default(),
        };
        let (asking, asked) = (&self.device(requester).transport, &self.device(target).transport);
        let is_it = |consent: &Consent| {
            consent.requester == scope.requester_uri.as_str() && consent.target == scope.target_uri.as_str()
        };
        asking.put_consent(&entry(ConsentAction::Request)).await?;
        wait_for("the target to hear of the request", async || {
            let consents = asked.consents().await?;
            let mut requests = consents.iter().filter(|consent| consent.requested_at.is_some());
            Ok(requests.any(is_it).then_some(()))
        })
        .await?;
        let grant = ConsentAction::Grant {
            client_key_packages: Vec::new(),
        };
        asked.put_consent(&entry(grant)).await?;
        wait_for("the requester to hear of the grant", async || {
            let consents = asking.consents().await?;
            let mut granted = consents
                .iter()
                .filter(|consent| consent.decision.as_deref() == Some("granted"));
            Ok(granted.any(is_it).then_some(()))
        })
        .await
    }

    /// One adds another. The inner error is the client's.
    async fn add(&mut self, by: Who, new: Who) -> anyhow::Result<Result<(), MimiError>> {
        let (room, user) = (room()?, user(new)?);
        Ok(self.client(by).add(&room, &[(user, templates::ORDINARY_USER)]).await)
    }

    fn next_text(&mut self, by: Who) -> String {
        self.said += 1;
        format!("{SECRET}: {by:?} says {}", self.said)
    }

    async fn say(&mut self, by: Who) -> anyhow::Result<String> {
        let (room, text) = (room()?, self.next_text(by));
        self.client(by).say(&room, NestedPart::text(&text)).await?;
        Ok(text)
    }

    async fn sync(&mut self, who: &[Who]) -> anyhow::Result<()> {
        let devices = self.devices.iter_mut().filter(|device| who.contains(&device.who));
        let syncing = devices.map(|device| async move {
            device.client.sync(Duration::ZERO).await?;
            anyhow::Ok(())
        });
        try_join_all(syncing).await?;
        Ok(())
    }

    /// Waits until these clients, and nobody else, are in the same epoch of the same group.
    async fn agree(&mut self, who: &[Who], members: usize) -> anyhow::Result<MimiGroupState> {
        let room = room()?;
        wait_for("the clients to agree on the group", async || {
            self.sync(who).await?;
            let groups: Result<Vec<_>, _> = who.iter().map(|&who| self.device(who).client.group(&room)).collect();
            let groups = groups?;
            let first = groups.first().cloned().flatten();
            Ok(first.filter(|first| {
                first.members.len() == members
                    && first.pending == 0
                    && groups.iter().all(|group| group.as_ref() == Some(first))
            }))
        })
        .await
    }

    /// Waits until each of these clients has read a message, once, from who wrote it and with a genuine frank.
    async fn wait_until_read(&mut self, who: &[Who], by: Who, text: &str) -> anyhow::Result<()> {
        let (room, sender) = (room()?, user(by)?);
        wait_for("a message to be read", async || {
            self.sync(who).await?;
            for &who in who {
                let texts = self.device(who).texts(&room)?;
                let mut same = texts.iter().filter(|(_, read, _)| read == text);
                let Some((from, _, franking)) = same.next() else {
                    return Ok(None);
                };
                ensure!(*from == sender, "{who:?} reads it from {from}");
                ensure!(*franking == Franking::Genuine, "{who:?} has it franked as {franking:?}");
                ensure!(same.next().is_none(), "{who:?} reads it twice");
            }
            Ok(Some(()))
        })
        .await
    }
}

/// Who can be asked what a provider has of the room, as the client API names them.
pub(super) const fn user_at(at: At) -> &'static str {
    match at {
        At::A => "@alice:a.localhost",
        At::B => "@bob:b.localhost",
        At::C => "@cathy:c.localhost",
    }
}

/// Nothing by itself: the story says who does what.
fn settings() -> MimiSettings {
    MimiSettings {
        tend: false,
        key_package_stock: 5,
        rounds: 60,
        round: Duration::from_millis(300),
        ..MimiSettings::default()
    }
}

fn said(item: MimiItem) -> Option<(MimiUri, String, Franking)> {
    let MimiBody::Content(received) = item.body else {
        return None;
    };
    let Part::Single(single) = &received.content().body.part else {
        return None;
    };
    let text = String::from_utf8(single.content.clone()).ok()?;
    Some((item.sender?, text, item.franking))
}

fn room() -> anyhow::Result<MimiUri> {
    Ok(MimiUri::parse(ROOM)?)
}

fn user(who: Who) -> anyhow::Result<MimiUri> {
    let (user, _) = who.names();
    Ok(MimiUri::parse(&format!("mimi://{}/u/{user}", who.at().server_name()))?)
}

fn identifier(uri: &MimiUri) -> anyhow::Result<IdentifierUri> {
    IdentifierUri::new(uri.to_string()).context("a MIMI URI is an identifier")
}

const ROOM: &str = "mimi://a.localhost/r/clubhouse";
const ROOM_NAME: &str = "Clubhouse";
/// In every message, and nowhere else.
const SECRET: &str = "Among clubmates";

const THREE: [Who; 3] = [Who::Alice, Who::Bob, Who::Cathy];
/// After Bob has left and Cathy has another device.
const REMAINING: [Who; 3] = [Who::Alice, Who::Cathy, Who::Laptop];
