//! What must be true of the logs. The hub's log says who was owed what; nothing here trusts what a server says about itself.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail, ensure};
use nabe_event::{RawEvent, RoomVersionRules, event_id_of};
use nabe_service::ports::{Clock as _, PeerRequest, Peers, SystemClock};
use nabe_signing::{Json, KeySet, Object, ServerKeys};

use super::{
    client::{Follower, RoomEvent, TIMEOUT},
    provider::Provider,
    story::Said,
};

/// Positions in the hub's log, both inclusive, between which a server had a user in the room; without an end it still has.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Stay {
    from: i64,
    until: Option<i64>,
}

impl Stay {
    fn contains(self, position: i64) -> bool {
        self.from <= position && self.until.is_none_or(|until| position <= until)
    }
}

/// Read off joins and leaves in the hub's log (LM #int-transport-send-events).
#[derive(Debug, Default)]
struct Owed {
    stays: Vec<Stay>,
    /// Changes of memberships of the server's users while none of them was in the room: each is owed by itself.
    single: Vec<i64>,
}

fn owed(hub: &[RoomEvent], server: &str) -> Owed {
    let mut owed = Owed::default();
    let mut joined = BTreeSet::new();
    for event in hub {
        let (Some(position), Some((user, membership))) = (event.position, event.membership()) else {
            continue;
        };
        if user.split_once(':').is_none_or(|(_, of)| of != server) {
            continue;
        }
        let was_in = !joined.is_empty();
        if membership == "join" {
            joined.insert(user);
        } else {
            joined.remove(user);
        }
        match (was_in, !joined.is_empty()) {
            (false, true) => owed.stays.push(Stay {
                from: position,
                until: None,
            }),
            (true, false) => {
                if let Some(stay) = owed.stays.last_mut() {
                    stay.until = Some(position);
                }
            }
            // The invited user's server has signed the invite, and so has it already.
            (false, false) if membership != "invite" => owed.single.push(position),
            _ => {}
        }
    }
    owed
}

/// Checks the hub's own account of a server's intervals against the log. Returns the stays.
pub(super) fn check_followers(hub: &[RoomEvent], followers: &[Follower], server: &str) -> anyhow::Result<Vec<Stay>> {
    let Owed { stays, single } = owed(hub, server);
    let mut implied = stays.clone();
    implied.extend(single.into_iter().map(|at| Stay {
        from: at,
        until: Some(at),
    }));
    implied.sort();
    let of_server = followers.iter().filter(|follower| follower.server == server);
    let mut stated: Vec<Stay> = of_server
        .map(|follower| Stay {
            from: follower.from,
            until: follower.until,
        })
        .collect();
    stated.sort();
    ensure!(
        stated == implied,
        "{server}: the hub says it owes {stated:?}, its log implies {implied:?}"
    );
    Ok(stays)
}

pub(super) fn describe(stays: &[Stay]) -> String {
    let one = |stay: &Stay| match stay.until {
        Some(until) => format!("{} to {until}", stay.from),
        None => format!("{} on", stay.from),
    };
    stays.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Checks that a participant's log is the hub's, restricted to what it was owed. Returns how many events that are.
pub(super) fn compare(hub: &[RoomEvent], participant: &[RoomEvent], server: &str) -> anyhow::Result<usize> {
    let stays = owed(hub, server).stays;
    ensure!(!stays.is_empty(), "{server} never was in the room");
    let is_owed = |event: &&RoomEvent| {
        event
            .position
            .is_some_and(|position| stays.iter().any(|stay| stay.contains(position)))
    };
    let expected: Vec<&RoomEvent> = hub.iter().filter(is_owed).collect();
    // At 0 and below is history from before its time, which it asked for.
    let found: Vec<&RoomEvent> = participant
        .iter()
        .filter(|event| event.position.is_some_and(|position| position > 0))
        .collect();
    check_ascending(hub)?;
    check_ascending(participant)?;
    for (index, (expected, found)) in expected.iter().zip(&found).enumerate() {
        ensure!(
            expected.is_same_as(found),
            "{server}: event {} of its log is {} ({}), the hub's is {} ({})",
            index + 1,
            found.event_id,
            found.r#type,
            expected.event_id,
            expected.r#type,
        );
    }
    ensure!(
        expected.len() == found.len(),
        "{server} has {} events and was owed {}",
        found.len(),
        expected.len()
    );
    Ok(found.len())
}

/// Nothing twice, everything in order.
fn check_ascending(log: &[RoomEvent]) -> anyhow::Result<()> {
    let mut ids = BTreeSet::new();
    for pair in log.windows(2) {
        if let [before, after] = pair {
            ensure!(before.position < after.position, "{} is out of order", after.event_id);
        }
    }
    match log.iter().find(|event| !ids.insert(&event.event_id)) {
        Some(twice) => bail!("{} is in a log twice", twice.event_id),
        None => Ok(()),
    }
}

/// Checks that the hub's log has each acknowledged message once, under the ID that was acknowledged, and no other message.
pub(super) fn check_said(hub: &[RoomEvent], said: &[Said]) -> anyhow::Result<()> {
    let mut in_log: BTreeMap<&str, &RoomEvent> = BTreeMap::new();
    for event in hub.iter().filter(|event| event.r#type == "m.room.message") {
        let text = event
            .body()
            .with_context(|| format!("{} has no text", event.event_id))?;
        ensure!(in_log.insert(text, event).is_none(), "`{text}` is in the log twice");
    }
    for Said { event_id, sender, text } in said {
        let event = in_log
            .remove(text.as_str())
            .with_context(|| format!("`{text}` was acknowledged and is lost"))?;
        let same = event.event_id == *event_id && event.sender == *sender;
        ensure!(
            same,
            "`{text}` was acknowledged as {event_id} and is {}",
            event.event_id
        );
    }
    match in_log.keys().next() {
        Some(stray) => bail!("nobody's request was answered for `{stray}`"),
        None => Ok(()),
    }
}

/// What a user may read of the time before they joined.
pub(super) struct History<'a> {
    pub(super) visible: Vec<&'a RoomEvent>,
    pub(super) hidden: usize,
}

/// By the visibility in force at each event; `None` if the user never joined.
pub(super) fn history_for<'a>(hub: &'a [RoomEvent], user: &str) -> Option<History<'a>> {
    let join = hub
        .iter()
        .position(|event| event.membership() == Some((user, "join")))?;
    let mut history = History {
        visible: Vec::new(),
        hidden: 0,
    };
    let mut visibility = "shared";
    for event in hub.get(..join)? {
        let is_about_them = event.membership().is_some_and(|(about, _)| about == user);
        if is_about_them || matches!(visibility, "shared" | "world_readable") {
            history.visible.push(event);
        } else {
            history.hidden += 1;
        }
        if event.r#type == "m.room.history_visibility" {
            visibility = event
                .content
                .get("history_visibility")
                .and_then(|value| value.as_str())
                .unwrap_or("shared");
        }
    }
    Some(history)
}

/// How much [`check_raw`] looked at.
pub(super) struct Checked {
    /// Events of the hub.
    pub(super) events: usize,
    /// Their signatures.
    pub(super) signatures: usize,
    /// Events of participants, compared with the hub's.
    pub(super) copies: usize,
}

/// Takes the room's events as servers see them, `/backfill` being asked in the name of each, and checks them from their bytes:
/// event IDs, the chain, signatures, the second signature of invites; and that what participants hold is what the hub holds.
pub(super) async fn check_raw(hub: &[RoomEvent], room: &str, [a, b, c]: [&Provider; 3]) -> anyhow::Result<Checked> {
    let head = &hub.last().context("the hub's log is empty")?.event_id;
    let keys = key_set(a, &[a, b, c]).await?;
    let mut checked = Checked {
        events: 0,
        signatures: 0,
        copies: 0,
    };

    let stays = [b, c].map(|one| (one.server_name().as_str(), owed(hub, one.server_name().as_str()).stays));
    let as_b = backfill(b, a, room, head).await?;
    let as_c = backfill(c, a, room, head).await?;
    for (index, event) in hub.iter().enumerate() {
        // b was shown the room's beginning in full or redacted; which one does not change an event's ID.
        let raw = as_b.get(&event.event_id).or_else(|| as_c.get(&event.event_id));
        let raw = raw.with_context(|| format!("the hub does not show {} to b or c", event.event_id))?;
        let prev = index
            .checked_sub(1)
            .and_then(|before| hub.get(before))
            .map(|event| event.event_id.as_str());
        ensure!(
            prev_of(raw) == prev,
            "{} does not follow the event before it",
            event.event_id
        );
        checked.signatures += check_signatures(raw, &keys)?;
        check_invite(event, raw, &stays)?;
        checked.events += 1;
    }
    for participant in [b, c] {
        let server = participant.server_name();
        let copies = backfill(a, participant, room, head).await?;
        let stays = stays.iter().find(|(of, _)| *of == server.as_str());
        let current = stays
            .and_then(|(_, stays)| stays.last())
            .context("the participant never was in the room")?;
        let shown = if server == b.server_name() { &as_b } else { &as_c };
        for event in hub
            .iter()
            .filter(|event| event.position.is_some_and(|position| current.contains(position)))
        {
            let copy = copies.get(&event.event_id);
            let copy = copy.with_context(|| format!("{server} does not show {} to the hub", event.event_id))?;
            ensure!(
                shown.get(&event.event_id) == Some(copy),
                "{server} holds another {}",
                event.event_id
            );
            ensure!(
                content_of(copy)? == event.content,
                "the client API shows another {}",
                event.event_id
            );
            checked.copies += 1;
        }
    }
    Ok(checked)
}

/// The events up to `head` as `subject` shows them to `asker`, by the ID computed from each.
async fn backfill(
    asker: &Provider,
    subject: &Provider,
    room: &str,
    head: &str,
) -> anyhow::Result<BTreeMap<String, Object>> {
    let peers = asker.peers()?;
    let mut events = BTreeMap::new();
    let mut from = head.to_owned();
    loop {
        let path = format!("/_matrix/federation/v2/backfill/{room}?v={from}&limit=100");
        let answer = peers
            .call(subject.server_name(), PeerRequest::get(path, TIMEOUT))
            .await?;
        ensure!(
            answer.status == 200,
            "{} answers /backfill with {}",
            subject.server_name(),
            answer.status
        );
        let answer = Object::parse(&answer.body)?;
        let page = answer
            .get("pdus")
            .and_then(Json::as_array)
            .context("the answer lacks `pdus`")?;
        let page: Vec<&Object> = page.iter().filter_map(Json::as_object).collect();
        let before = events.len();
        events.extend(
            page.iter()
                .map(|event| (event_id_of(event).to_string(), (*event).clone())),
        );
        match page.first().and_then(|oldest| prev_of(oldest)) {
            Some(older) if events.len() > before => older.clone_into(&mut from),
            _ => return Ok(events),
        }
        if events.contains_key(&from) {
            return Ok(events);
        }
    }
}

fn prev_of(event: &Object) -> Option<&str> {
    event.get("prev_events").and_then(Json::as_array)?.first()?.as_str()
}

/// The keys each server publishes.
async fn key_set(asker: &Provider, servers: &[&Provider]) -> anyhow::Result<KeySet> {
    let peers = asker.peers()?;
    let mut keys = KeySet::new();
    for server in servers {
        let response = Object::parse(&peers.server_keys(server.server_name()).await?)?;
        keys.insert_server_keys(&ServerKeys::parse(response, server.server_name())?, SystemClock.now());
    }
    Ok(keys)
}

/// Every signature the room version asks for; returns how many signatures the event has.
fn check_signatures(raw: &Object, keys: &KeySet) -> anyhow::Result<usize> {
    let event = RawEvent::from_json(raw.clone(), &RoomVersionRules::I1)?;
    let event_id = event.event_id();
    event.verify_pdu(keys).with_context(|| format!("{event_id}"))?;
    Ok(signers(raw).map_or(0, Object::len))
}

/// An invite is signed by the invited user's server as well, unless that takes part already (LM #int-transport-invites).
fn check_invite(event: &RoomEvent, raw: &Object, stays: &[(&str, Vec<Stay>)]) -> anyhow::Result<()> {
    let (Some((user, "invite")), Some(position)) = (event.membership(), event.position) else {
        return Ok(());
    };
    let (_, server) = user.split_once(':').context("a user ID has a colon")?;
    let mut of_server = stays
        .iter()
        .filter(|(of, _)| *of == server)
        .flat_map(|(_, stays)| stays);
    let takes_part = of_server.any(|stay| stay.contains(position));
    let is_signed = signers(raw).is_some_and(|signers| signers.contains_key(server));
    ensure!(
        takes_part || is_signed,
        "the invite {} lacks the signature of {server}",
        event.event_id
    );
    Ok(())
}

fn signers(raw: &Object) -> Option<&Object> {
    raw.get("signatures").and_then(Json::as_object)
}

fn content_of(raw: &Object) -> anyhow::Result<serde_json::Value> {
    let content = raw.get("content").context("an event has content")?;
    Ok(serde_json::from_slice(&content.to_canonical())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const B: &str = "b.localhost";

    type Damage<'a> = &'a dyn Fn(&mut Vec<RoomEvent>);

    fn event(position: i64, r#type: &str, state_key: Option<&str>, content: Value) -> RoomEvent {
        RoomEvent {
            event_id: format!("${position}"),
            position: Some(position),
            r#type: r#type.into(),
            state_key: state_key.map(str::to_owned),
            sender: "@alice:a.localhost".into(),
            origin_server_ts: 1,
            content,
        }
    }

    fn member(position: i64, user: &str, membership: &str) -> RoomEvent {
        event(
            position,
            "m.room.member",
            Some(user),
            json!({ "membership": membership }),
        )
    }

    fn message(position: i64) -> RoomEvent {
        event(
            position,
            "m.room.message",
            None,
            json!({ "body": format!("message {position}") }),
        )
    }

    /// Bob of b is there from 2 to 5 and from 8 on; Mallory's ban at 7 concerns b while nobody of b is there.
    fn hub() -> Vec<RoomEvent> {
        vec![
            message(1),
            member(2, "@bob:b.localhost", "join"),
            message(3),
            message(4),
            member(5, "@bob:b.localhost", "leave"),
            message(6),
            member(7, "@mallory:b.localhost", "ban"),
            member(8, "@bob:b.localhost", "join"),
            message(9),
        ]
    }

    /// What b is owed of it, with history from before at 0, and places of its own.
    fn participant() -> Vec<RoomEvent> {
        let owed = [1, 2, 3, 4, 5, 8, 9].map(|position| hub().remove(position - 1));
        owed.into_iter()
            .zip(0..)
            .map(|(event, position)| RoomEvent {
                position: Some(position),
                ..event
            })
            .collect()
    }

    #[test]
    fn a_participant_that_has_what_it_was_owed_passes() {
        assert_eq!(compare(&hub(), &participant(), B).unwrap(), 6);
    }

    #[test]
    fn a_lost_a_doubled_a_foreign_or_a_changed_event_is_found() {
        let lost = |log: &mut Vec<RoomEvent>| drop(log.remove(3));
        let cut_off = |log: &mut Vec<RoomEvent>| drop(log.pop());
        let doubled = |log: &mut Vec<RoomEvent>| {
            let twice = RoomEvent {
                position: Some(99),
                ..log[3].clone()
            };
            log.push(twice);
        };
        let not_owed = |log: &mut Vec<RoomEvent>| {
            log.pop();
            log.push(RoomEvent {
                position: Some(99),
                ..message(6)
            });
        };
        let changed = |log: &mut Vec<RoomEvent>| log[3].content = json!({ "body": "something else" });
        let swapped = |log: &mut Vec<RoomEvent>| {
            let (third, fourth) = (log[2].position, log[3].position);
            log.swap(2, 3);
            (log[2].position, log[3].position) = (third, fourth);
        };
        let out_of_order = |log: &mut Vec<RoomEvent>| log.swap(2, 3);
        let damages: [(&str, Damage<'_>); 7] = [
            ("lost", &lost),
            ("cut off", &cut_off),
            ("doubled", &doubled),
            ("not owed", &not_owed),
            ("changed", &changed),
            ("swapped", &swapped),
            ("out of order", &out_of_order),
        ];
        for (name, damage) in damages {
            let mut log = participant();
            damage(&mut log);
            assert!(compare(&hub(), &log, B).is_err(), "{name} goes unnoticed");
        }
    }

    #[test]
    fn the_hubs_account_must_be_what_joins_and_leaves_imply() {
        let interval = |from, until| Follower {
            server: B.into(),
            from,
            until,
            lag: 0,
        };
        let stated = [interval(2, Some(5)), interval(7, Some(7)), interval(8, None)];
        let stays = check_followers(&hub(), &stated, B).unwrap();
        assert_eq!(describe(&stays), "2 to 5, 8 on");
        assert!(
            check_followers(&hub(), &stated[..2], B).is_err(),
            "an interval is missing"
        );
        let wrong = [interval(2, Some(6)), interval(7, Some(7)), interval(8, None)];
        assert!(check_followers(&hub(), &wrong, B).is_err(), "an interval is too long");
    }

    #[test]
    fn acknowledged_messages_must_be_there_once_and_alone() {
        let said = |position: i64| Said {
            event_id: format!("${position}"),
            sender: "@alice:a.localhost",
            text: format!("message {position}"),
        };
        let all = || [1, 3, 4, 6, 9].map(said);
        check_said(&hub(), &all()).unwrap();
        assert!(check_said(&hub(), &all()[1..]).is_err(), "a message nobody sent");
        let mut lost = hub();
        lost.remove(2);
        assert!(check_said(&lost, &all()).is_err(), "a lost message");
        let mut doubled = hub();
        doubled.push(RoomEvent {
            event_id: "$10".into(),
            position: Some(10),
            ..message(3)
        });
        assert!(check_said(&doubled, &all()).is_err(), "a doubled message");
    }

    #[test]
    fn history_is_judged_by_the_visibility_of_its_time() {
        let visibility = |position, value: &str| {
            event(
                position,
                "m.room.history_visibility",
                Some(""),
                json!({ "history_visibility": value }),
            )
        };
        let hub = [
            message(1),
            visibility(2, "joined"),
            message(3),
            member(4, "@cleo:c.localhost", "invite"),
            visibility(5, "shared"),
            message(6),
            member(7, "@cleo:c.localhost", "join"),
            message(8),
        ];
        let history = history_for(&hub, "@cleo:c.localhost").unwrap();
        let visible: Vec<_> = history.visible.iter().map(|event| event.position.unwrap()).collect();
        assert_eq!((visible, history.hidden), (vec![1, 2, 4, 6], 2));
    }
}
