//! What a room is and who may do what in it: its components, its metadata, and the links by which people join (MIMI #room-metadata, MRP
//! #join-link).

use std::{fs, path::PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use nabe_client::mimi::{MimiClient, MimiError};
use nabe_wire::{
    Encode as _, Message as _,
    codec::NulFreeText,
    mls::ComponentId,
    policy::{JoinLink, JoinLinksData, JoinLinksUpdate},
    room_metadata::{RichDescription, RoomMetaData},
    uri::{MimiUri, Uri},
};
use serde_json::json;

use crate::{
    client::{hex, result, show::Style},
    entropy,
};

/// What people see of a room. Without options it is shown
#[derive(Args, Debug)]
pub(crate) struct Metadata {
    /// The room
    #[arg(value_parser = MimiUri::parse)]
    room: MimiUri,
    /// Its new name
    #[arg(long)]
    name: Option<String>,
    /// What is talked about
    #[arg(long)]
    subject: Option<String>,
    /// How it feels
    #[arg(long)]
    mood: Option<String>,
    /// What it is about, in place of all descriptions; empty for none
    #[arg(long)]
    description: Option<String>,
    /// An https URL of a picture; empty for none
    #[arg(long)]
    avatar: Option<String>,
}

/// A component of a room, by its name or number: `room_metadata`, `status_notification_policy`, `0x0028`. `nabe decode` reads them
#[derive(Args, Debug)]
pub(crate) struct Component {
    /// The room
    #[arg(value_parser = MimiUri::parse)]
    room: MimiUri,
    /// Which; all are listed if absent
    #[arg(value_parser = component)]
    component: Option<ComponentId>,
    /// Change it by the update in this file
    #[arg(long, value_name = "FILE", requires = "component")]
    set: Option<PathBuf>,
    /// Remove it
    #[arg(long, requires = "component", conflicts_with = "set")]
    remove: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LinkCommand {
    /// Let people join with this link until it is removed or has expired
    Make {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// The link; one that nobody can guess if absent
        link: Option<String>,
    },
    /// The links that are good
    List {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
    },
    /// Let nobody join with a link any more
    Remove {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// The link
        link: String,
    },
    /// Join with a link
    Use {
        /// The room
        #[arg(value_parser = MimiUri::parse)]
        room: MimiUri,
        /// The link
        link: String,
    },
}

pub(super) async fn metadata(client: &mut MimiClient, asked: Metadata, style: Style) -> anyhow::Result<()> {
    let room = &asked.room;
    let data = data(client, room, ComponentId::ROOM_METADATA)?.context("the room has no metadata")?;
    let before = RoomMetaData::from_bytes(&data)?;
    let mut metadata = before.clone();
    let text = |text: &str| NulFreeText::new(text).context("there is a null character in it");
    if let Some(name) = &asked.name {
        metadata.room_name = text(name)?;
    }
    if let Some(subject) = &asked.subject {
        metadata.room_subject = text(subject)?;
    }
    if let Some(mood) = &asked.mood {
        metadata.room_mood = text(mood)?;
    }
    if let Some(avatar) = asked.avatar {
        metadata.room_avatar = Uri::new(avatar).context("the avatar's URL")?;
    }
    if let Some(description) = asked.description {
        metadata.room_descriptions.clear();
        if !description.is_empty() {
            metadata.room_descriptions.push(RichDescription {
                media_type: Default::default(),
                language_tag: Default::default(),
                description_content: description.into_bytes().into(),
            });
        }
    }
    if metadata != before {
        let update = Some(metadata.to_bytes());
        client.set_component(room, ComponentId::ROOM_METADATA, update).await?;
    }
    let descriptions = metadata.room_descriptions.iter();
    let descriptions: Vec<_> = descriptions
        .map(|one| String::from_utf8_lossy(&one.description_content).into_owned())
        .collect();
    let object = json!({
        "room": room.to_string(),
        "name": &*metadata.room_name,
        "subject": &*metadata.room_subject,
        "mood": &*metadata.room_mood,
        "avatar": &*metadata.room_avatar,
        "descriptions": descriptions,
    });
    let clean = |text: &str| nabe_content::clean_line(text, SHOWN_BYTES);
    result(style, object, || {
        format!(
            "{room}\n  name         {}\n  subject      {}\n  mood         {}\n  avatar       {}\n  description  {}",
            clean(&metadata.room_name),
            clean(&metadata.room_subject),
            clean(&metadata.room_mood),
            clean(&metadata.room_avatar),
            clean(&descriptions.join(" / ")),
        )
    });
    Ok(())
}

pub(super) async fn component_of(client: &mut MimiClient, asked: Component, style: Style) -> anyhow::Result<()> {
    let room = &asked.room;
    if let (Some(component), true) = (asked.component, asked.set.is_some() || asked.remove) {
        let update = asked
            .set
            .map(|file| fs::read(&file).with_context(|| file.display().to_string()));
        client.set_component(room, component, update.transpose()?).await?;
    }
    let group = client.group(room)?.ok_or_else(|| MimiError::NotInGroup(room.clone()))?;
    for entry in group.components.entries() {
        if asked.component.is_some_and(|wanted| wanted != entry.component_id) {
            continue;
        }
        let name = entry.component_id.name().unwrap_or("unknown");
        let (number, data) = (entry.component_id.0, hex(&entry.data));
        let object = json!({ "component": number, "name": name, "data": data });
        result(style, object, || match asked.component {
            Some(_) => data.clone(),
            None => format!("0x{number:04x}  {name}  {} bytes", entry.data.len()),
        });
    }
    Ok(())
}

pub(super) async fn link(client: &mut MimiClient, command: LinkCommand, style: Style) -> anyhow::Result<()> {
    match command {
        LinkCommand::Make { room, link } => {
            let link = match link {
                Some(link) => link,
                None => hex(&entropy::bytes()?[..16]),
            };
            let update = JoinLinksUpdate {
                removed_indices: Vec::new(),
                added_links: vec![JoinLink {
                    join_link: link.as_bytes().into(),
                }],
            };
            let update = Some(update.to_bytes());
            client.set_component(&room, ComponentId::JOIN_LINKS, update).await?;
            result(style, json!({ "room": room.to_string(), "link": link }), || {
                link.clone()
            });
        }
        LinkCommand::List { room } => {
            for link in links(client, &room)? {
                let link = String::from_utf8_lossy(&link.join_link).into_owned();
                let clean = nabe_content::clean_line(&link, SHOWN_BYTES);
                result(style, json!({ "room": room.to_string(), "link": link }), || clean);
            }
        }
        LinkCommand::Remove { room, link } => {
            let mut places = (0_u32..).zip(links(client, &room)?);
            let place = places.find(|(_, known)| *known.join_link == *link.as_bytes());
            let Some((place, _)) = place else {
                bail!("{room} has no such link");
            };
            let update = JoinLinksUpdate {
                removed_indices: vec![place],
                added_links: Vec::new(),
            };
            let update = Some(update.to_bytes());
            client.set_component(&room, ComponentId::JOIN_LINKS, update).await?;
        }
        LinkCommand::Use { room, link } => {
            client.join(&room, None, Some(link.as_bytes())).await?;
            super::show_group(client, &room, style)?;
        }
    }
    Ok(())
}

fn links(client: &MimiClient, room: &MimiUri) -> anyhow::Result<Vec<JoinLink>> {
    Ok(match data(client, room, ComponentId::JOIN_LINKS)? {
        Some(data) => JoinLinksData::from_bytes(&data)?.join_links,
        None => Vec::new(),
    })
}

fn data(client: &MimiClient, room: &MimiUri, component: ComponentId) -> Result<Option<Vec<u8>>, MimiError> {
    let group = client.group(room)?.ok_or_else(|| MimiError::NotInGroup(room.clone()))?;
    Ok(group.components.data(component).map(<[u8]>::to_vec))
}

fn component(text: &str) -> Result<ComponentId, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let named = || (0..=u16::MAX).map(ComponentId).find(|id| id.name() == Some(text));
    let found = number.map(ComponentId).or_else(named);
    found.ok_or_else(|| format!("there is no component `{text}`"))
}

const SHOWN_BYTES: usize = 255;
