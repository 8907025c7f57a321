//! What must hold once everything is mended and at rest.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail, ensure};
use nabe_auth::lm::Membership;
use nabe_core::Entry;
use nabe_event::Pdu;
use nabe_service::client::Direction;
use nabe_signing::json::Json;
use nabe_store::{Follower, Store as _};
use nabe_tests::server;
use nabe_types::{EventId, LogPosition, RoomId, UserId};

use super::run::{Reader, SERVERS, Simulation, Told, device};

/// All of them.
pub(crate) async fn check(simulation: &Simulation) -> anyhow::Result<()> {
    for hub in SERVERS {
        for room in simulation.cluster.store(hub).rooms().await? {
            if room.meta.is_hub() {
                let room = room.meta.room_id;
                check_room(simulation, hub, &room)
                    .await
                    .with_context(|| format!("room {room} of {hub}"))?;
            }
        }
    }
    check_messages(simulation).await?;
    check_to_device(simulation).await?;
    for reader in &simulation.readers {
        check_stream(simulation, reader)
            .await
            .with_context(|| format!("the stream of {}", reader.user))?;
    }
    Ok(())
}

async fn check_room(simulation: &Simulation, hub: &str, room: &RoomId) -> anyhow::Result<()> {
    let log = simulation.cluster.log(hub, room).await?;
    check_chain(&log)?;
    let followers = simulation.cluster.store(hub).followers(room).await?;
    for participant in SERVERS.into_iter().filter(|participant| *participant != hub) {
        let owed: Vec<&Follower> = followers
            .iter()
            .filter(|follower| follower.server == server(participant))
            .collect();
        let restricted = Restricted {
            simulation,
            room,
            log: &log,
            hub,
            participant,
        };
        restricted
            .check(&owed)
            .await
            .with_context(|| format!("the log of {participant}"))?;
    }
    Ok(())
}

/// The hub's log is one line of events, each naming the one before (LM #int-receiving-events).
fn check_chain(log: &[Entry]) -> anyhow::Result<()> {
    let mut before: Option<&Entry> = None;
    for entry in log {
        let pdu = entry.pdu().context("a hub's log has no holes")?;
        let expected: Vec<EventId> = before.iter().map(|before| before.event_id().clone()).collect();
        ensure!(
            pdu.prev_events() == expected,
            "{} does not name the event before it",
            pdu.event_id()
        );
        let position = before.map_or(LogPosition::FIRST, |before| before.position.next());
        ensure!(
            entry.position == position,
            "{:?} is not next after {:?}",
            entry.position,
            before.map(|b| b.position)
        );
        before = Some(entry);
    }
    let lpdus: Vec<_> = log.iter().filter_map(|entry| entry.lpdu_id.as_ref()).collect();
    ensure!(
        lpdus.iter().collect::<BTreeSet<_>>().len() == lpdus.len(),
        "an LPDU was appended twice"
    );
    Ok(())
}

/// A participant's log beside the hub's.
struct Restricted<'a> {
    simulation: &'a Simulation,
    room: &'a RoomId,
    log: &'a [Entry],
    hub: &'a str,
    participant: &'a str,
}

impl Restricted<'_> {
    /// The participant holds what it is owed, byte for byte, and nothing else after its first join.
    async fn check(&self, owed: &[&Follower]) -> anyhow::Result<()> {
        let cluster = &self.simulation.cluster;
        let store = cluster.store(self.participant);
        let ours = cluster.log(self.participant, self.room).await?;
        let doubtful = self
            .simulation
            .book
            .open()
            .is_doubtful(&server(self.participant), self.room);
        // An interval of one position is no stay: a ban or the like about a user who never joined.
        let stays: Vec<_> = owed
            .iter()
            .filter(|follower| follower.until != Some(follower.from))
            .collect();
        for follower in owed {
            let end = follower.until.unwrap_or_else(|| self.head());
            ensure!(
                follower.delivered == end,
                "delivered {:?} of {follower:?}",
                follower.delivered
            );
            ensure!(follower.dirty_since.is_none(), "still dirty: {follower:?}");
        }
        let mut unmatched = runs(&ours);
        self.check_history(&ours)?;
        for stay in &stays {
            let until = stay.until.unwrap_or_else(|| self.head());
            let inside = |run: &&[Entry]| {
                let at = self.position_of(run[0].event_id());
                at.is_some_and(|at| stay.from <= at && at <= until)
            };
            let Some(index) = unmatched.iter().position(|run| inside(&run.as_slice())) else {
                ensure!(doubtful, "nothing of the stay {:?} to {:?}", stay.from, stay.until);
                continue;
            };
            let run = unmatched.remove(index);
            let first = self.position_of(run[0].event_id()).context("found above")?;
            ensure!(
                doubtful || first == stay.from,
                "the stay from {:?} is known only from {first:?}",
                stay.from
            );
            ensure!(self.is_own_join(&run[0]), "the stay does not begin with a join of ours");
            self.check_run(&run, first, until)?;
        }
        ensure!(unmatched.is_empty(), "the hub never owed us {:?}", ids(&unmatched));
        let takes_part = stays.iter().any(|stay| stay.until.is_none());
        if takes_part && (!doubtful || ours.last().map(Entry::event_id) == self.log.last().map(Entry::event_id)) {
            let head = store
                .head(self.room)
                .await?
                .context("a room we take part in has a head")?;
            self.check_state(head).await?;
        }
        Ok(())
    }

    fn head(&self) -> LogPosition {
        self.log.last().map_or(LogPosition::ZERO, |entry| entry.position)
    }

    fn position_of(&self, event_id: &EventId) -> Option<LogPosition> {
        self.log
            .iter()
            .find(|entry| entry.event_id() == event_id)
            .map(|entry| entry.position)
    }

    fn is_own_join(&self, entry: &Entry) -> bool {
        entry
            .pdu()
            .is_some_and(|pdu| pdu.membership() == Some("join") && *pdu.sender_server() == server(self.participant))
    }

    fn check_run(&self, run: &[Entry], from: LogPosition, until: LogPosition) -> anyhow::Result<()> {
        let expected: Vec<&Entry> = self
            .log
            .iter()
            .filter(|entry| from <= entry.position && entry.position <= until)
            .collect();
        let (got, want): (Vec<_>, Vec<_>) = (
            run.iter().map(Entry::event_id).collect(),
            expected.iter().map(|entry| entry.event_id()).collect(),
        );
        ensure!(got == want, "holds {got:#?}\ninstead of {want:#?}");
        for (ours, theirs) in run.iter().zip(expected) {
            let (Some(ours), Some(theirs)) = (ours.pdu(), theirs.pdu()) else {
                bail!("a hole: {ours:?}")
            };
            ensure!(ours.bytes() == theirs.bytes(), "{} differs", ours.event_id());
        }
        Ok(())
    }

    /// What was fetched from before our first join: in the hub's order, without a gap, up to that join.
    fn check_history(&self, ours: &[Entry]) -> anyhow::Result<()> {
        let Some(first) = ours.iter().find(|entry| entry.position >= LogPosition::FIRST) else {
            ensure!(ours.is_empty(), "history without a join");
            return Ok(());
        };
        let mut next = self
            .position_of(first.event_id())
            .context("our first event is in the hub's log")?;
        for entry in ours.iter().rev().filter(|entry| entry.position < LogPosition::FIRST) {
            let at = self.position_of(entry.event_id());
            ensure!(
                at == Some(next.previous()),
                "history is out of order at {:?}",
                entry.position
            );
            next = next.previous();
        }
        Ok(())
    }

    /// Members of both servers see the same state.
    async fn check_state(&self, head: LogPosition) -> anyhow::Result<()> {
        let cluster = &self.simulation.cluster;
        let theirs = state(
            cluster
                .store(self.hub)
                .state_before(self.room, self.head().next())
                .await?,
        )?;
        let ours = state(
            cluster
                .store(self.participant)
                .state_before(self.room, head.next())
                .await?,
        )?;
        ensure!(ours == theirs, "the state differs:\n{ours:#?}\n{theirs:#?}");
        for reader in &self.simulation.readers {
            let service = cluster.service(reader.server);
            let is_joined = theirs.contains_key(&("m.room.member".to_owned(), reader.user.to_string()))
                && service
                    .room(&reader.user, self.room)
                    .await
                    .is_ok_and(|room| room.membership == Membership::Join);
            if is_joined && (reader.server == self.hub || reader.server == self.participant) {
                let seen = service.room_state(&reader.user, self.room).await?;
                let seen = state(Some(seen.into_iter().map(|event| event.pdu).collect()))?;
                ensure!(seen == theirs, "{} sees another state", reader.user);
                service
                    .history(&reader.user, self.room, None, Direction::Forward, 100)
                    .await?;
            }
        }
        Ok(())
    }
}

/// Event IDs by type and state key.
fn state(events: Option<Vec<Pdu>>) -> anyhow::Result<BTreeMap<(String, String), EventId>> {
    let events = events.context("the state is known")?;
    let key = |pdu: &Pdu| {
        (
            pdu.event_type().to_owned(),
            pdu.state_key().unwrap_or_default().to_owned(),
        )
    };
    Ok(events.iter().map(|pdu| (key(pdu), pdu.event_id().clone())).collect())
}

/// A participant's own log, cut where it was away.
fn runs(log: &[Entry]) -> Vec<Vec<Entry>> {
    let mut runs: Vec<Vec<Entry>> = Vec::new();
    for entry in log.iter().filter(|entry| entry.position >= LogPosition::FIRST) {
        match runs.last_mut() {
            Some(run) if run.last().is_some_and(|last| last.position.next() == entry.position) => {
                run.push(entry.clone());
            }
            _ => runs.push(vec![entry.clone()]),
        }
    }
    runs
}

fn ids(runs: &[Vec<Entry>]) -> Vec<Vec<&EventId>> {
    runs.iter()
        .map(|run| run.iter().map(Entry::event_id).collect())
        .collect()
}

/// What was acknowledged is there, once; what was refused is not; what was queued is there or its sender knows better.
async fn check_messages(simulation: &Simulation) -> anyhow::Result<()> {
    let (messages, appended) = {
        let entries = simulation.book.open();
        (entries.messages.clone(), entries.appended.clone())
    };
    for (room, event_id) in appended {
        let hub = hub_of(&room);
        let ids = simulation.cluster.ids(hub, &room).await?;
        ensure!(
            ids.contains(&event_id.to_string()),
            "acknowledged and lost: {event_id} in {room}"
        );
    }
    for (label, message) in messages {
        let hub = hub_of(&message.room);
        let log = simulation.cluster.log(hub, &message.room).await?;
        let said = |entry: &&Entry| {
            entry
                .pdu()
                .is_some_and(|pdu| pdu.content().get("body").and_then(Json::as_str) == Some(label.as_str()))
        };
        let found: Vec<&Entry> = log.iter().filter(said).collect();
        ensure!(found.len() <= 1, "{label} is there {} times", found.len());
        let found = found.first();
        match &message.told {
            Told::Appended(event_id) => {
                let found = found.with_context(|| format!("{label} was acknowledged and is lost"))?;
                ensure!(
                    found.event_id() == event_id,
                    "{label} was acknowledged under another ID"
                );
            }
            Told::Refused(why) => ensure!(found.is_none(), "{label} was refused ({why}) and is there"),
            Told::Queued(lpdu_id) => {
                let rejected = is_rejected(simulation, &message.sender, lpdu_id);
                ensure!(
                    found.is_some() != rejected,
                    "{label} was queued; it is there: {}; its sender was told of a refusal: {rejected}",
                    found.is_some()
                );
            }
            // Asked twice, and the answer was never clear.
            Told::Nothing | Told::Failed => {}
        }
    }
    Ok(())
}

fn is_rejected(simulation: &Simulation, sender: &UserId, lpdu_id: &EventId) -> bool {
    let reader = simulation.readers.iter().find(|reader| reader.user == *sender);
    let names_it = |body: &Json| {
        let named = body
            .as_object()
            .and_then(|body| body.get("lpdu_id"))
            .and_then(Json::as_str);
        named == Some(lpdu_id.as_str())
    };
    reader.is_some_and(|reader| reader.inbox.iter().any(|(_, body)| names_it(body)))
}

/// A to-device message its sender was told is on its way arrives once, any other at most once.
async fn check_to_device(simulation: &Simulation) -> anyhow::Result<()> {
    let to_device = simulation.book.open().to_device.clone();
    for (label, (_, target, told)) in to_device {
        let reader = simulation
            .readers
            .iter()
            .find(|reader| reader.user == target)
            .context("a user we know")?;
        let label_in = |body: &Json| {
            let message = body
                .as_object()
                .and_then(|body| body.get("message"))
                .and_then(Json::as_object);
            message.and_then(|message| message.get("label")).and_then(Json::as_str) == Some(label.as_str())
        };
        let count = reader.inbox.iter().filter(|(_, body)| label_in(body)).count();
        ensure!(
            count <= 1 && (count == 1 || !told),
            "to-device message {label} arrived {count} times"
        );
    }
    Ok(())
}

/// Over all its interruptions the stream has shown what the user may see, in order, once.
async fn check_stream(simulation: &Simulation, reader: &Reader) -> anyhow::Result<()> {
    let store = simulation.cluster.store(reader.server);
    let mut seen: BTreeMap<&RoomId, Vec<(LogPosition, EventId)>> = BTreeMap::new();
    for (room, position, event_id) in &reader.events {
        seen.entry(room).or_default().push((*position, event_id.clone()));
    }
    for room in store.rooms().await? {
        let room = room.meta.room_id;
        let visible = visible(simulation, reader, &room).await?;
        let seen = seen.remove(&room).unwrap_or_default();
        ensure!(
            seen == visible,
            "in {room} it showed {seen:#?}\ninstead of {visible:#?}"
        );
    }
    ensure!(seen.is_empty(), "it showed rooms we do not have: {seen:?}");
    let seen: Vec<i64> = reader.inbox.iter().map(|(seq, _)| *seq).collect();
    let inbox = store.inbox(&reader.user, Some(&device()), 0, usize::MAX).await?;
    let there: Vec<i64> = inbox.iter().map(|item| item.seq).collect();
    ensure!(seen == there, "of the inbox {there:?} it showed {seen:?}");
    Ok(())
}

/// While joined, and the event that ended it: told from the log alone.
async fn visible(
    simulation: &Simulation,
    reader: &Reader,
    room: &RoomId,
) -> anyhow::Result<Vec<(LogPosition, EventId)>> {
    let store = simulation.cluster.store(reader.server);
    let mut visible = Vec::new();
    for entry in simulation.cluster.log(reader.server, room).await? {
        if entry.position < LogPosition::FIRST {
            continue;
        }
        let before = store
            .state_before(room, entry.position)
            .await?
            .context("the state is known")?;
        let about = |pdu: &&Pdu| pdu.is_state_of("m.room.member", reader.user.as_str());
        let was_joined = before
            .iter()
            .find(about)
            .is_some_and(|pdu| pdu.membership() == Some("join"));
        let change = entry.state_event().filter(about);
        let is_joined = change.map_or(was_joined, |pdu| pdu.membership() == Some("join"));
        if (was_joined || is_joined) && entry.pdu().is_some() {
            visible.push((entry.position, entry.event_id().clone()));
        }
    }
    Ok(visible)
}

/// Rooms are named after the server that created them.
fn hub_of(room: &RoomId) -> &'static str {
    let hub = SERVERS.into_iter().find(|name| server(name) == *room.server_name());
    hub.expect("only these servers create rooms")
}
