//! A room's components (MLSX #appdataupdate), and the one of them that this client changes: the participant list (MIMI #participant-list).

use std::collections::BTreeMap;

use super::bytes::{Reader, put_vec, vec_of};
use crate::error::{Result, invalid};

/// `participant_list`
pub const PARTICIPANT_LIST: u16 = 0x22;
/// `franking_agent`
pub const FRANKING_AGENT: u16 = 0x21;
/// `room_metadata`
pub const ROOM_METADATA: u16 = 0x23;
/// `roles_list`
pub const ROLES_LIST: u16 = 0x25;
/// `frank_aad`
pub const FRANK_AAD: u16 = 0x20;
/// `app_components`
pub const APP_COMPONENTS: u16 = 1;
/// `safe_aad`
pub const SAFE_AAD: u16 = 2;
/// `content_media_types`
pub const CONTENT_MEDIA_TYPES: u16 = 3;
const JOIN_LINKS: u16 = 0x2a;

/// Data by component.
#[derive(Clone, Debug, Default)]
pub struct Dictionary(BTreeMap<u16, Vec<u8>>);

/// `AppDataUpdate`: new data, or none.
pub struct Update {
    component: u16,
    content: Option<Vec<u8>>,
}

/// A user and their role.
pub type Participant = (String, u32);

impl Dictionary {
    /// From an extension's data.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let entries = Reader::new(bytes).items(|entry| Ok((entry.u16()?, entry.vec()?.to_vec())))?;
        Ok(Self(entries.into_iter().collect()))
    }

    /// As an extension's data.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut entries = Vec::new();
        for (component, data) in &self.0 {
            entries.extend(component.to_be_bytes());
            put_vec(&mut entries, data);
        }
        vec_of(&entries)
    }

    /// The data of a component.
    pub fn get(&self, component: u16) -> Option<&[u8]> {
        self.0.get(&component).map(Vec::as_slice)
    }

    /// With this data of a component.
    pub fn with(mut self, component: u16, data: Vec<u8>) -> Self {
        self.0.insert(component, data);
        self
    }

    /// The participants, in their order.
    pub fn participants(&self) -> Result<Vec<Participant>> {
        let list = self
            .get(PARTICIPANT_LIST)
            .ok_or_else(|| invalid("a room without participants"))?;
        Reader::new(list).items(participant)
    }

    /// What a commit's updates do, in its order. Indices are those of the list at the beginning of the epoch.
    pub fn apply(&mut self, updates: &[Update]) -> Result<()> {
        let mut by_component: BTreeMap<u16, Vec<&Option<Vec<u8>>>> = BTreeMap::new();
        for update in updates {
            by_component.entry(update.component).or_default().push(&update.content);
        }
        for (component, contents) in by_component {
            let new: Option<Vec<_>> = contents.iter().map(|content| content.as_deref()).collect();
            match (component, new) {
                (_, None) if contents.len() > 1 => return Err(invalid("a component removed and changed")),
                (_, None) => {
                    let removed = self.0.remove(&component);
                    removed.ok_or_else(|| invalid("a removal of a component that is not there"))?;
                }
                (PARTICIPANT_LIST, Some(changes)) => {
                    let list = changed(self.participants()?, &changes)?;
                    self.0.insert(component, list);
                }
                (JOIN_LINKS, Some(_)) => return Err(invalid("join links, which this client does not know")),
                (_, Some(contents)) => {
                    let last = contents.last().copied().unwrap_or_default();
                    self.0.insert(component, last.to_vec());
                }
            }
        }
        Ok(())
    }
}

impl Update {
    /// From the proposal's struct.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let mut from = Reader::new(bytes);
        let component = from.u16()?;
        let content = (from.u8()? == 1).then(|| from.vec().map(<[u8]>::to_vec)).transpose()?;
        Ok(Self { component, content })
    }
}

/// The struct of an AppDataUpdate of the participant list: new roles and removals by index, and who comes.
pub fn list_update(roles: &[(u32, u32)], removed: &[u32], added: &[Participant]) -> Vec<u8> {
    let numbers = |numbers: Vec<u32>| {
        vec_of(
            &numbers
                .iter()
                .flat_map(|number| number.to_be_bytes())
                .collect::<Vec<_>>(),
        )
    };
    let mut update = numbers(roles.iter().flat_map(|(index, role)| [*index, *role]).collect());
    update.extend(numbers(removed.to_vec()));
    update.extend(encode_list(added));
    let mut proposal = PARTICIPANT_LIST.to_be_bytes().to_vec();
    proposal.push(1);
    put_vec(&mut proposal, &update);
    proposal
}

fn changed(list: Vec<Participant>, changes: &[&[u8]]) -> Result<Vec<u8>> {
    let mut list: Vec<_> = list.into_iter().map(Some).collect();
    let mut touched = vec![false; list.len()];
    let mut touch = |index: u32| {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let fresh = touched
            .get_mut(index)
            .is_some_and(|touched| !std::mem::replace(touched, true));
        fresh
            .then_some(index)
            .ok_or_else(|| invalid("an index that is none, or comes twice"))
    };
    let mut added = Vec::new();
    for change in changes {
        let mut from = Reader::new(change);
        for (index, role) in from.items(|pair| Ok((pair.u32()?, pair.u32()?)))? {
            if let Some(Some(participant)) = list.get_mut(touch(index)?) {
                participant.1 = role;
            }
        }
        for index in from.items(Reader::u32)? {
            list[touch(index)?] = None;
        }
        added.extend(from.items(participant)?);
    }
    let list: Vec<_> = list.into_iter().flatten().chain(added).collect();
    Ok(encode_list(&list))
}

fn participant(from: &mut Reader<'_>) -> Result<Participant> {
    Ok((from.text()?.to_owned(), from.u32()?))
}

/// A participant list.
pub fn encode_list(list: &[Participant]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (user, role) in list {
        put_vec(&mut bytes, user.as_bytes());
        bytes.extend(role.to_be_bytes());
    }
    vec_of(&bytes)
}
