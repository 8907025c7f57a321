//! What a client's user sees: lines of words, or lines of JSON.

use nabe_client::{Client, DeviceName, ItemBody, Notice, TimelineItem};
use nabe_content::show_payload;
use nabe_types::RoomId;
use serde_json::{Value, json};

/// How to print.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    pub(crate) json: bool,
}

/// Takes what the user has not been told, one line each. They count as told when `print` has returned.
pub(crate) fn drain(client: &mut Client, style: Style, mut print: impl FnMut(String)) -> anyhow::Result<()> {
    loop {
        let notices = client.notices(PAGE)?;
        let Some((last, _)) = notices.last() else {
            return Ok(());
        };
        let last = *last;
        for (_, notice) in &notices {
            if let Some(line) = line(client, style, notice)? {
                print(line);
            }
        }
        client.acknowledge(last)?;
    }
}

fn line(client: &Client, style: Style, notice: &Notice) -> anyhow::Result<Option<String>> {
    if let Notice::Item { item, .. } = notice {
        let item = client.item(*item)?;
        return Ok(item.map(|item| item_line(style, &item)));
    }
    if style.json {
        return Ok(Some(serde_json::to_string(notice)?));
    }
    Ok(Some(words(notice)))
}

/// An item of a timeline.
pub(crate) fn item_line(style: Style, item: &TimelineItem) -> String {
    let shown = match &item.body {
        ItemBody::Message(payload) => show_payload(payload).text,
        ItemBody::Undecryptable(reason) => format!("(cannot be read: {reason})"),
        ItemBody::Plain(content) => {
            let shown = nabe_content::show(&item.event_type, content);
            format!("(not encrypted) {}", shown.text)
        }
    };
    if !style.json {
        return format!("{}  {}: {shown}", short(&item.room_id), item.sender);
    }
    let mut object = json!({
        "room": item.room_id,
        "event_id": item.event_id,
        "position": item.position,
        "sender": item.sender,
        "origin_server_ts": item.origin_server_ts,
        "text": shown,
    });
    match &item.body {
        ItemBody::Message(payload) => {
            object["notice"] = json!("message");
            object["payload"] = serde_json::from_slice(payload).unwrap_or(Value::Null);
        }
        ItemBody::Undecryptable(reason) => {
            object["notice"] = json!("undecryptable");
            object["reason"] = json!(reason);
        }
        ItemBody::Plain(_) => {
            object["notice"] = json!("plain");
            object["type"] = json!(item.event_type);
        }
    }
    if let Some(sent) = item.sent {
        object["message"] = json!(sent);
    }
    object.to_string()
}

fn words(notice: &Notice) -> String {
    match notice {
        Notice::Item { room, item } => format!("{}  item {item}", short(room)),
        Notice::Epoch {
            room,
            epoch,
            by,
            added,
            removed,
            ..
        } => {
            let mut line = format!("{}  * epoch {epoch}, by {}", short(room), device(by));
            for (what, devices) in [("added", added), ("removed", removed)] {
                if !devices.is_empty() {
                    let names: Vec<String> = devices.iter().map(device).collect();
                    line.push_str(&format!("; {what} {}", names.join(", ")));
                }
            }
            line
        }
        Notice::Joined { room, epoch } => {
            format!("{}  * this device is in the group from epoch {epoch} on", short(room))
        }
        Notice::Removed { room, by } => {
            format!(
                "{}  * this device was removed from the group by {}",
                short(room),
                device(by)
            )
        }
        Notice::Stuck { room, reason } => format!(
            "{}  * this device cannot follow the group: {reason}; `join-external` joins anew",
            short(room)
        ),
        Notice::GaveUp { room, intent, reason } => {
            format!("{}  * given up ({}): {reason}", short(room), intent_word(intent))
        }
        Notice::LostRace { room, intent, epoch } => format!(
            "{}  * somebody else's commit ended epoch {epoch}; trying again ({})",
            short(room),
            intent_word(intent)
        ),
        Notice::CannotAdd {
            room,
            user,
            device,
            reason,
        } => format!(
            "{}  * {user}'s device {device} could not be added: {reason}",
            short(room)
        ),
        Notice::MessageRefused { room, reason, .. } => {
            format!("{}  * the hub refused your message: {reason}", short(room))
        }
        Notice::Invited { room, via } => match via {
            Some(via) => format!("* you are invited to {room}, via {via}"),
            None => format!("* you are invited to {room}"),
        },
        Notice::Membership { room, user, membership } => format!("{}  * {user}: {membership}", short(room)),
        Notice::DevicesChanged { user } => format!("* the devices of {user} changed"),
        Notice::KeyPackagesRefused { suite, count, reason } => {
            format!("* the server refused {count} key packages of this device ({suite}): {reason}")
        }
        Notice::WelcomeUnusable { sender, reason } => format!("* a Welcome from {sender} is of no use: {reason}"),
    }
}

fn intent_word(intent: &nabe_client::Intent) -> String {
    let json = serde_json::to_value(intent).unwrap_or_default();
    json["intent"].as_str().unwrap_or("change").replace('_', " ")
}

fn device(name: &DeviceName) -> String {
    format!("{} {}", name.user, name.device)
}

/// Rooms are told apart by the beginning of their ID.
fn short(room: &RoomId) -> String {
    let mut short: String = room.localpart().chars().take(8).collect();
    short.insert(0, '!');
    short
}

const PAGE: u32 = 200;
