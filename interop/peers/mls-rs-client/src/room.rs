//! A room's group on this device, and how what is in events becomes MLS.

use std::collections::BTreeSet;

use mls_rs::client_builder::MlsConfig;
use mls_rs::group::ReceivedMessage;
use mls_rs::{Group, MlsMessage, WireFormat};
use serde_json::{Value, json};

use crate::api::decode;
use crate::device::{ALGORITHM, DraftCredential};
use crate::error::{Error, Result, invalid};

/// A room and its group.
pub struct Room<C: MlsConfig> {
    /// The group, if this device is or was in it.
    pub group: Option<Group<C>>,
    /// The event of the commit that began the epoch.
    pub commit: String,
    /// Removed: the group is kept as it was, to see that it opens nothing any longer.
    pub removed: bool,
    /// Our commit without an outcome.
    pub pending: Option<Pending<C>>,
    /// What became of the last one: whether it won, or why it never can.
    pub outcome: Option<Result<bool>>,
    /// Events of the time before this device was in the group.
    pub held: Vec<Value>,
    /// Ciphertexts of our own messages, which MLS does not let their sender open.
    pub sent: BTreeSet<String>,
}

/// A commit on its way.
pub struct Pending<C: MlsConfig> {
    /// `message` of the event, by which its echo is known.
    pub message: String,
    /// The ID under which it went to another server's hub.
    pub lpdu_id: Option<String>,
    /// The group after an external commit.
    pub joining: Option<Group<C>>,
    /// For whomever it adds.
    pub welcome: Option<Vec<u8>>,
    /// Users and devices it adds.
    pub recipients: Vec<(String, String)>,
}

/// A Welcome that waits for its commit.
pub struct Welcome {
    /// Who sent it.
    pub sender: String,
    /// The message.
    pub message: Vec<u8>,
}

impl<C: MlsConfig> Default for Room<C> {
    fn default() -> Self {
        Self {
            group: None,
            commit: String::new(),
            removed: false,
            pending: None,
            outcome: None,
            held: Vec::new(),
            sent: BTreeSet::new(),
        }
    }
}

impl<C: MlsConfig> Room<C> {
    /// The group, as long as this device is in it.
    pub fn group(&mut self) -> Result<&mut Group<C>> {
        let group = self.group.as_mut().filter(|_| !self.removed);
        group.ok_or_else(|| Error::CannotDo("this device is not in the room's group".to_owned()))
    }

    /// Forgets our commit. Returns whether it was an external one.
    pub fn drop_pending(&mut self) -> bool {
        if let Some(group) = &mut self.group {
            group.clear_pending_commit();
        }
        self.pending.take().is_some_and(|pending| pending.joining.is_some())
    }

    /// Opens `m.room.encrypted`; `None` if it is our own.
    pub fn open(&mut self, event: &Value) -> Result<Option<(DraftCredential, Value)>> {
        let content = event.get("content").cloned().unwrap_or_default();
        let text = |name: &str| {
            let value = content.get(name).and_then(Value::as_str);
            value.ok_or_else(|| invalid(format!("m.room.encrypted without `{name}`")))
        };
        let ciphertext = text("ciphertext")?;
        if self.sent.remove(ciphertext) {
            return Ok(None);
        }
        if text("algorithm")? != ALGORITHM {
            return Err(invalid("another algorithm than the room's"));
        }
        let message = message_of(WireFormat::PrivateMessage, &decode(ciphertext)?)?;
        // After a removal, too: to see that it fails.
        let not_in = || Error::CannotDo("this device is not in the room's group".to_owned());
        let group = self.group.as_mut().ok_or_else(not_in)?;
        // Whoever sent it may be gone by the time it is read.
        let before = devices_of(group)?;
        let ReceivedMessage::ApplicationMessage(message) = group.process_incoming_message(message)? else {
            return Err(invalid("m.room.encrypted that holds no message"));
        };
        let by = before.into_iter().find(|(leaf, _)| *leaf == message.sender_index);
        let (_, by) = by.ok_or_else(|| invalid("its sender is not in the group"))?;
        if event.get("sender").and_then(Value::as_str) != Some(by.user()) {
            return Err(invalid(format!("it was encrypted by a device of {}", by.user())));
        }
        let payload = serde_json::from_slice(message.data()).map_err(|error| invalid(error.to_string()))?;
        Ok(Some((by, payload)))
    }
}

/// `message` and `public_group_state` of `m.mls.commit`.
pub fn commit_content(event: &Value) -> Result<(String, String)> {
    let text = |name: &str| {
        let value = event.get("content").and_then(|content| content.get(name)?.as_str());
        value
            .map(str::to_owned)
            .ok_or_else(|| invalid(format!("m.mls.commit without `{name}`")))
    };
    Ok((text("message")?, text("public_group_state")?))
}

/// What both sides must agree on, and who is in it.
pub fn describe<C: MlsConfig>(group: &Group<C>) -> Result<Value> {
    let members: Vec<Value> = devices_of(group)?
        .iter()
        .map(|(_, member)| json!([member.user(), member.device()]))
        .collect();
    Ok(json!({
        "epoch": group.current_epoch(),
        "epoch_authenticator": hex(group.epoch_authenticator()?.as_bytes()),
        "tree_hash": hex(&group.context().tree_hash),
        "members": members,
    }))
}

/// The members and their leaves.
pub fn devices_of<C: MlsConfig>(group: &Group<C>) -> Result<Vec<(u32, DraftCredential)>> {
    let members = group.roster().members_iter().map(|member| {
        let device = DraftCredential::of(&member.signing_identity).map_err(|error| invalid(error.to_string()))?;
        Ok((member.index, device))
    });
    members.collect()
}

/// An `MLSMessage`, or the structure of that wire format without its header: the draft's wording allows both.
pub fn message_of(expected: WireFormat, bytes: &[u8]) -> Result<MlsMessage> {
    let header = [0, 1, 0, expected as u8];
    let message = match bytes.starts_with(&header) {
        true => MlsMessage::from_bytes(bytes)?,
        false => MlsMessage::from_bytes(&[&header[..], bytes].concat())?,
    };
    Ok(message)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
