//! What a device makes of what comes by the event stream.

use mls_rs::WireFormat;
use mls_rs::client_builder::MlsConfig;
use mls_rs::group::{CommitEffect, ReceivedMessage};
use serde_json::{Value, json};

use crate::api::{decode, encode};
use crate::device::{DraftCredential, WELCOME};
use crate::error::{Error, Result, invalid};
use crate::member::{Member, new_key};
use crate::room::{Welcome, commit_content, devices_of, message_of};
use crate::say;

impl<C: MlsConfig> Member<C> {
    /// Takes in an item of the event stream.
    pub fn item(&mut self, kind: &str, data: &Value) -> Result<()> {
        let text = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default();
        match kind {
            "ready" => {
                self.ready = true;
                Ok(())
            }
            "room" => {
                let event = data
                    .get("event")
                    .ok_or_else(|| invalid("a room item without an event"))?;
                self.event(text("room_id"), event)
            }
            "invite" => {
                say(&json!({"notice": "invite", "room": text("room_id")}));
                Ok(())
            }
            "to_device" => self.direct(data),
            "event_rejected" => {
                let known = self.rooms.get_mut(text("room_id"));
                let known = known.filter(|known| {
                    let pending = known.pending.as_ref().and_then(|pending| pending.lpdu_id.as_deref());
                    pending.is_some_and(|id| id == text("lpdu_id"))
                });
                if let Some(known) = known {
                    // The commit that won is on its way.
                    let stale = data.get("current_epoch").is_some();
                    known.drop_pending();
                    known.outcome = Some(if stale {
                        Ok(false)
                    } else {
                        Err(Error::CannotDo(text("error").to_owned()))
                    });
                }
                Ok(())
            }
            "key_packages_low" if text("device_id") == self.own.device => self.stock_up(),
            _ => Ok(()),
        }
    }

    fn event(&mut self, room: &str, event: &Value) -> Result<()> {
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        match text("type") {
            "m.mls.commit" => self.commit_event(room, event),
            "m.room.encrypted" => {
                let known = self.rooms.entry(room.to_owned()).or_default();
                let notice = match known.open(event) {
                    Ok(None) => return Ok(()),
                    Ok(Some((sender, payload))) => json!({
                        "notice": "message", "room": room, "event": text("event_id"), "sender": text("sender"),
                        "device": sender.device(), "payload": payload,
                    }),
                    Err(error) => {
                        if known.group.is_none() {
                            known.held.push(event.clone());
                        }
                        json!({
                            "notice": "undecryptable", "room": room, "event": text("event_id"), "reason": error.to_string(),
                        })
                    }
                };
                say(&notice);
                Ok(())
            }
            "m.room.member" => {
                let membership = event.get("content").and_then(|content| content.get("membership"));
                say(&json!({
                    "notice": "membership", "room": room, "user": event.get("state_key"), "membership": membership,
                }));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn commit_event(&mut self, room: &str, event: &Value) -> Result<()> {
        let known = self.rooms.entry(room.to_owned()).or_default();
        let event_id = event.get("event_id").and_then(Value::as_str).unwrap_or_default();
        let (message, _) = commit_content(event)?;
        if known.pending.as_ref().is_some_and(|pending| pending.message == message) {
            return self.echo(room, event_id);
        }
        if known.group.is_none() || known.removed {
            known.held.push(event.clone());
            return match self.welcomes.remove(event_id) {
                Some(welcome) => self.welcome(room, event_id, &welcome),
                None => Ok(()),
            };
        }
        let parsed = message_of(WireFormat::PublicMessage, &decode(&message)?)?;
        let group = known.group()?;
        if parsed.epoch().is_some_and(|epoch| epoch < group.current_epoch()) {
            // It is part of the state that this device joined with.
            return Ok(());
        }
        group.clear_pending_commit();
        let before = devices_of(group)?;
        let ReceivedMessage::Commit(commit) = group.process_incoming_message(parsed)? else {
            return Err(invalid("an m.mls.commit that holds no commit"));
        };
        if let CommitEffect::Removed { .. } = commit.effect {
            known.removed = true;
            // mls-rs takes no gap between the epochs of a group that it keeps, and there is one if this device comes back.
            self.groups.delete_group(room.as_bytes());
            known.held = vec![event.clone()];
            known.drop_pending();
            say(&json!({"notice": "removed", "room": room, "commit": event_id}));
            return Ok(());
        }
        known.commit = event_id.to_owned();
        if known.pending.take().is_some() {
            known.outcome = Some(Ok(false));
        }
        let by = devices_of(known.group()?)?.into_iter().chain(before);
        let by = by
            .filter(|(leaf, _)| *leaf == commit.committer)
            .map(|(_, device)| device)
            .next();
        let sender = event.get("sender").and_then(Value::as_str).unwrap_or_default();
        if by.as_ref().is_none_or(|by| by.user() != sender) {
            return Err(invalid("a commit that its committer's user did not send"));
        }
        self.began(room, by.as_ref(), commit.is_external)
    }

    /// Our own commit is in the log: now it counts, and whom it added may be welcomed.
    fn echo(&mut self, room: &str, event_id: &str) -> Result<()> {
        let known = self.rooms.entry(room.to_owned()).or_default();
        let Some(pending) = known.pending.take() else {
            return Ok(());
        };
        let external = pending.joining.is_some();
        match pending.joining {
            Some(group) => known.group = Some(group),
            None => {
                known.group()?.apply_pending_commit()?;
            }
        }
        known.removed = false;
        known.commit = event_id.to_owned();
        if let Some(welcome) = pending.welcome {
            let content = json!({
                "algorithm": WELCOME, "ciphertext": encode(&welcome), "commit_event_id": event_id,
            });
            let messages: Vec<Value> = pending
                .recipients
                .iter()
                .map(|(user, device)| {
                    json!({"target": user, "target_device": device, "type": "m.room.encrypted", "content": content})
                })
                .collect();
            self.api
                .post("/to_device", &json!({"messages": messages}), Some(&new_key()))?;
        }
        let own = DraftCredential::of(&self.own.identity).map_err(|error| invalid(error.to_string()))?;
        self.began(room, Some(&own), external)?;
        let known = self.rooms.entry(room.to_owned()).or_default();
        known.outcome = Some(Ok(true));
        if external { self.release(room, event_id) } else { Ok(()) }
    }

    /// LM #int-mls-add-remove: Welcomes come by to-device messages.
    fn direct(&mut self, data: &Value) -> Result<()> {
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let message = data.get("message").cloned().unwrap_or_default();
        if text(data, "message_type") != "m.room.encrypted" || text(&message, "algorithm") != WELCOME {
            return Ok(());
        }
        let welcome = Welcome {
            sender: text(data, "sender"),
            message: decode(&text(&message, "ciphertext"))?,
        };
        let commit = text(&message, "commit_event_id");
        let is_it = |event: &Value| event.get("event_id").is_some_and(|id| *id == commit.as_str());
        let room = self.rooms.iter().find(|(_, known)| known.held.iter().any(is_it));
        match room.map(|(room, _)| room.clone()) {
            Some(room) => self.welcome(&room, &commit, &welcome),
            None => {
                self.welcomes.insert(commit, welcome);
                Ok(())
            }
        }
    }

    /// Joins by a Welcome, if it leads into the group that the commit in the room's log began.
    fn welcome(&mut self, room: &str, event_id: &str, welcome: &Welcome) -> Result<()> {
        let message = message_of(WireFormat::Welcome, &welcome.message)?;
        let (mut group, info) = self.client.join_group(None, &message, None)?;
        let known = self.rooms.entry(room.to_owned()).or_default();
        let event = known
            .held
            .iter()
            .find(|event| event.get("event_id").is_some_and(|id| *id == event_id));
        let event = event.ok_or_else(|| invalid("a Welcome without its commit"))?;
        let (_, announced) = commit_content(event)?;
        let announced = message_of(WireFormat::GroupInfo, &decode(&announced)?)?;
        if announced.as_group_info().map(|info| info.group_context()) != Some(group.context()) {
            return Err(invalid(
                "a Welcome into another group than the one that the commit began",
            ));
        }
        if group.group_id() != room.as_bytes() {
            return Err(invalid("a Welcome into another room's group"));
        }
        let by = devices_of(&group)?
            .into_iter()
            .find(|(leaf, _)| *leaf == info.sender)
            .map(|(_, device)| device);
        let sender = event.get("sender").and_then(Value::as_str);
        if by
            .as_ref()
            .is_none_or(|by| by.user() != welcome.sender || Some(by.user()) != sender)
        {
            return Err(invalid("a Welcome that was not sent by whoever made the commit"));
        }
        group.write_to_storage()?;
        known.group = Some(group);
        known.removed = false;
        known.commit = event_id.to_owned();
        say(&json!({"notice": "joined", "room": room, "commit": event_id}));
        self.began(room, by.as_ref(), false)?;
        self.release(room, event_id)
    }

    /// What was held of the room before this device joined by the commit in `joined`.
    fn release(&mut self, room: &str, joined: &str) -> Result<()> {
        let held = std::mem::take(&mut self.rooms.entry(room.to_owned()).or_default().held);
        let after = held
            .iter()
            .position(|event| event.get("event_id").is_some_and(|id| id == joined));
        for event in held.iter().skip(after.map_or(held.len(), |at| at + 1)) {
            self.event(room, event)?;
        }
        Ok(())
    }

    /// A new epoch: its secrets are kept for late messages, and everybody is told.
    fn began(&mut self, room: &str, by: Option<&DraftCredential>, external: bool) -> Result<()> {
        self.rooms
            .entry(room.to_owned())
            .or_default()
            .group()?
            .write_to_storage()?;
        let mut notice = self.state(room)?;
        notice["notice"] = "epoch".into();
        notice["by"] = by.map(|by| json!([by.user(), by.device()])).into();
        notice["external"] = external.into();
        say(&notice);
        Ok(())
    }
}
