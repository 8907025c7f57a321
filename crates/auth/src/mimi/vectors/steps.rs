//! Rooms, and what happens in them, as JSON.

use nabe_signing::json::{Json, Object};
use nabe_wire::Encode;
use nabe_wire::IdentifierUri;
use nabe_wire::app_data::{AppDataDictionary, MediaType};
use nabe_wire::codec::Bytes;
use nabe_wire::mls::{AppDataUpdate, ComponentId, Credential, CredentialType, ProposalType, WireFormat};
use nabe_wire::participant_list::{ParticipantListData, ParticipantListUpdate, UserIndexRolePair, UserRolePair};
use nabe_wire::policy::{DownloadPrivacyType, JoinLinksUpdate};

use super::super::{
    Action, AssetKind, Bundle, Claims, Client, Commit, CommitProposal, Committer, JoinCode, MessageEpoch, Proposer,
    Rejection, Room, Upload,
};
use super::Read;
use super::components::{component, link, support};
use super::read::{bad, each, given, member, number, object, only, pairs, single, text, two, uri};

/// A room, or the name of one; why it cannot be loaded.
pub(super) fn room(rooms: &Object, json: &Json) -> Read<Result<Room, Rejection>> {
    let room = &like(rooms, json)?;
    only(room, &["uri", "components", "participants", "leaves"])?;
    let mut dictionary = AppDataDictionary::new();
    for (name, json) in object(member(room, "components")?, "components")? {
        if *json != Json::Null {
            let (id, data) = component(name, json)?;
            dictionary.set(id, data);
        }
    }
    if let Some(participants) = given(room, "participants", pairs)? {
        let pair = |(user, role_index)| UserRolePair { user, role_index };
        let participants = participants.into_iter().map(pair).collect();
        dictionary.set(
            ComponentId::PARTICIPANT_LIST,
            ParticipantListData { participants }.to_bytes(),
        );
    }
    let leaves = pairs(member(room, "leaves")?, "leaves")?;
    let leaves = leaves.into_iter().map(|(user, leaf)| (leaf, user));
    Ok(Room::load(uri(member(room, "uri")?, "uri")?, &dictionary, leaves))
}

/// A room by its name, or one that is like another but for some members.
fn like(rooms: &Object, json: &Json) -> Read<Object> {
    let named = |name: &Json| Ok(object(member(rooms, text(name, "room")?)?, "room")?.clone());
    let Some(stated) = json.as_object() else {
        return named(json);
    };
    let Some(name) = stated.get("like") else {
        return Ok(stated.clone());
    };
    let mut room = named(name)?;
    for (member, json) in stated {
        match (member, room.get_mut(member).and_then(Json::as_object_mut)) {
            ("like", _) => {}
            ("components", Some(components)) => {
                let others = object(json, member)?;
                components.extend(others.iter().map(|(name, json)| (name, json.clone())));
            }
            _ => {
                room.insert(member, json.clone());
            }
        }
    }
    Ok(room)
}

/// The decision is whether the room can be loaded.
pub(super) fn is_load(json: &Json) -> bool {
    matches!(single(json, "decide"), Ok(("load", Json::Bool(true))))
}

/// Decides, and puts what was allowed into effect.
pub(super) fn take(room: &mut Room, parent: Option<&Room>, json: &Json) -> Read<Result<(), Rejection>> {
    let (kind, step) = single(json, "step")?;
    if kind == "propose" {
        return propose(room, parent, object(step, kind)?);
    }
    if kind == "commit" {
        return commit(room, parent, object(step, kind)?);
    }
    let step = object(step, kind)?;
    let user = || uri(member(step, "user")?, "user");
    Ok(match kind {
        "send" => {
            only(step, &["user", "epochs_behind"])?;
            let epoch = match step.get("epochs_behind") {
                None => MessageEpoch::Behind(0),
                Some(behind) if behind.as_str() == Some("ahead") => MessageEpoch::Ahead,
                Some(behind) => MessageEpoch::Behind(number(behind, "epochs_behind")?),
            };
            room.send(&user()?, epoch)
        }
        "receive" => {
            only(step, &["user"])?;
            room.receive(&user()?)
        }
        "group_info" => {
            only(step, &["client", "code"])?;
            room.group_info(&client(member(step, "client")?, "client")?, code(step)?, parent)
        }
        "report" => {
            only(step, &["user"])?;
            room.report(given(step, "user", uri)?.as_ref())
        }
        "destroy" => {
            only(step, &["user", "external"])?;
            match given(step, "external", claims)? {
                Some(claims) => room.destroy_from_outside(&claims),
                None => room.destroy(&user()?),
            }
        }
        "upload" => {
            only(step, &["user", "kind", "media_type", "size", "host"])?;
            room.upload(&Upload {
                user: &user()?,
                kind: asset_kind(member(step, "kind")?, "kind")?,
                media_type: &MediaType::new(text(member(step, "media_type")?, "media_type")?),
                size: number(member(step, "size")?, "size")?,
                host: text(member(step, "host")?, "host")?,
            })
        }
        "download" => {
            only(step, &["user", "kind", "way"])?;
            let kind = given(step, "kind", asset_kind)?;
            let way = DownloadPrivacyType(number(member(step, "way")?, "way")?);
            room.download(&user()?, kind, way)
        }
        other => return Err(bad(other)),
    })
}

fn propose(room: &mut Room, parent: Option<&Room>, step: &Object) -> Read<Result<(), Rejection>> {
    only(step, &["by", "proposals", "wire_format"])?;
    let proposals = each(member(step, "proposals")?, "proposals", |json, name| {
        let (reference, action_json) = two(json, name)?;
        let reference = Bytes::from(text(reference, name)?.as_bytes());
        Ok((reference, action(room, action_json)?))
    })?;
    let by = object(member(step, "by")?, "by")?;
    let claims = given(by, "claims", claims)?.unwrap_or_else(nothing);
    let client = given(by, "new_member", client)?;
    let proposer = match (&client, by.get("leaf"), by.get("external")) {
        (Some(client), None, None) => Proposer::NewMember { client },
        (None, Some(leaf), None) => Proposer::Member {
            leaf: number(leaf, "leaf")?,
            claims: &claims,
        },
        (None, None, Some(index)) => Proposer::External {
            index: number(index, "external")?,
            claims: &claims,
        },
        _ => return Err(bad("by")),
    };
    only(by, &["claims", "new_member", "leaf", "external"])?;
    let bundle = Bundle {
        proposer,
        proposals: &proposals,
        wire_format: wire_format(step)?,
    };
    Ok(match room.propose(&bundle, parent) {
        Ok(proposed) => {
            room.accept(proposed).map_err(|_| bad("step"))?;
            Ok(())
        }
        Err(rejection) => Err(rejection),
    })
}

fn commit(room: &mut Room, parent: Option<&Room>, step: &Object) -> Read<Result<(), Rejection>> {
    only(step, &["by", "proposals", "expired", "wire_format"])?;
    let proposals = each(member(step, "proposals")?, "proposals", |json, _| match json.as_str() {
        Some(reference) => Ok(CommitProposal::Reference(reference.as_bytes())),
        None => Ok(CommitProposal::Inline(action(room, json)?)),
    })?;
    let by = object(member(step, "by")?, "by")?;
    only(by, &["leaf", "claims", "path", "new_member", "code"])?;
    let claims = given(by, "claims", claims)?.unwrap_or_else(nothing);
    let (path, joiner) = (given(by, "path", client)?, given(by, "new_member", client)?);
    let committer = match (&joiner, by.get("leaf")) {
        (Some(client), None) => Committer::NewMember {
            client,
            code: code(by)?,
        },
        (None, Some(leaf)) => Committer::Member {
            leaf: number(leaf, "leaf")?,
            claims: &claims,
            path: path.as_ref(),
        },
        _ => return Err(bad("by")),
    };
    let expired = given(step, "expired", |json, name| {
        each(json, name, |reference, name| Ok(text(reference, name)?.as_bytes()))
    })?;
    let commit = Commit {
        committer,
        proposals: &proposals,
        expired: &expired.unwrap_or_default(),
        wire_format: wire_format(step)?,
    };
    Ok(match room.commit(&commit, parent) {
        Ok(merge) => {
            room.merge(merge).map_err(|_| bad("step"))?;
            Ok(())
        }
        Err(rejection) => Err(rejection),
    })
}

/// A public message unless it is said.
fn wire_format(step: &Object) -> Read<WireFormat> {
    Ok(given(step, "wire_format", number)?.map_or(WireFormat::PUBLIC_MESSAGE, WireFormat))
}

fn action(room: &Room, json: &Json) -> Read<Action> {
    let (kind, json) = single(json, "proposal")?;
    Ok(match kind {
        "add" => Action::Add(Box::new(client(json, kind)?)),
        "update" => Action::Update(Box::new(client(json, kind)?)),
        "remove" => Action::Remove(number(json, kind)?),
        "self_remove" => Action::SelfRemove,
        "list" => Action::update(ComponentId::PARTICIPANT_LIST, &list_update(json)?),
        "change_links" => {
            let change = object(json, kind)?;
            only(change, &["remove", "add"])?;
            let update = JoinLinksUpdate {
                removed_indices: given(change, "remove", |json, name| each(json, name, number))?.unwrap_or_default(),
                added_links: given(change, "add", |json, name| each(json, name, link))?.unwrap_or_default(),
            };
            Action::update(ComponentId::JOIN_LINKS, &update)
        }
        "remove_component" => Action::AppData(AppDataUpdate {
            component_id: ComponentId(number(json, kind)?),
            update: None,
        }),
        "extensions" => {
            let mut dictionary = room.committed_policy().dictionary().clone();
            dictionary.set(ComponentId::PARTICIPANT_LIST, room.participants().to_data().to_bytes());
            match text(json, kind)? {
                "unchanged" => {}
                "changed" => dictionary.set(ComponentId::APP_ACK, Vec::new()),
                _ => return Err(bad(kind)),
            }
            Action::Extensions(dictionary)
        }
        "other" => Action::Other(ProposalType(number(json, kind)?)),
        name => {
            let (component_id, data) = component(name, json)?;
            Action::AppData(AppDataUpdate {
                component_id,
                update: Some(data.into()),
            })
        }
    })
}

fn list_update(json: &Json) -> Read<ParticipantListUpdate> {
    let update = object(json, "list")?;
    only(update, &["roles", "remove", "add"])?;
    let roles = |json, name: &str| {
        each(json, name, |pair, name| {
            let (user_index, role_index) = two(pair, name)?;
            Ok(UserIndexRolePair {
                user_index: number(user_index, name)?,
                role_index: number(role_index, name)?,
            })
        })
    };
    let added = given(update, "add", pairs)?.unwrap_or_default();
    Ok(ParticipantListUpdate {
        changed_role_participants: given(update, "roles", roles)?.unwrap_or_default(),
        removed_indices: given(update, "remove", |json, name| each(json, name, number))?.unwrap_or_default(),
        added_participants: added
            .into_iter()
            .map(|(user, role_index)| UserRolePair { user, role_index })
            .collect(),
    })
}

fn client(json: &Json, name: &str) -> Read<Client> {
    let client = object(json, name)?;
    only(client, &["user", "claims", "lifetime", "support"])?;
    let user = uri(member(client, "user")?, "user")?;
    let claims = match given(client, "claims", claims)? {
        Some(claims) => claims,
        None => Claims::of(&basic(&user)),
    };
    Ok(Client {
        claims,
        lifetime: given(client, "lifetime", number)?,
        support: given(client, "support", support)?,
        user,
    })
}

fn claims(json: &Json, name: &str) -> Read<Claims> {
    let claims = object(json, name)?;
    only(claims, &["identity", "type", "values"])?;
    if let Some(identity) = given(claims, "identity", uri)? {
        return Ok(Claims::of(&basic(&identity)));
    }
    let values = given(claims, "values", |json, name| {
        each(json, name, |pair, name| {
            let (id, value) = two(pair, name)?;
            Ok((text(id, name)?.as_bytes().into(), text(value, name)?.as_bytes().into()))
        })
    })?;
    let credential_type = CredentialType(number(member(claims, "type")?, "type")?);
    Ok(Claims::new(credential_type, values.unwrap_or_default()))
}

fn basic(identity: &IdentifierUri) -> Credential {
    Credential::Basic {
        identity: identity.as_bytes().into(),
    }
}

fn nothing() -> Claims {
    Claims::new(CredentialType::BASIC, Vec::new())
}

/// `unknown`, `expired`, or the role that it is for.
fn code(step: &Object) -> Read<JoinCode> {
    let Some(code) = step.get("code") else {
        return Ok(JoinCode::Absent);
    };
    match code.as_str() {
        None => Ok(JoinCode::For(number(code, "code")?)),
        Some("unknown") => Ok(JoinCode::Unknown),
        Some("expired") => Ok(JoinCode::Expired),
        Some(_) => Err(bad("code")),
    }
}

fn asset_kind(json: &Json, name: &str) -> Read<AssetKind> {
    Ok(match text(json, name)? {
        "image" => AssetKind::Image,
        "audio" => AssetKind::Audio,
        "video" => AssetKind::Video,
        "attachment" => AssetKind::Attachment,
        _ => return Err(bad(name)),
    })
}
