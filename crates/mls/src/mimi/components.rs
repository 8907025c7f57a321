//! What updates make of the data of components (MLSX #appdataupdate, MIMI #participant-list, MIMI #room-metadata).
//!
//! OpenMLS hands this to the application, and checks of the rules about removing only those that concern what comes with
//! a GroupContextExtensions proposal; see decision D-app-data-rules.

use std::collections::{BTreeMap, BTreeSet};

use nabe_wire::mls::{AppDataUpdate, ComponentId};
use nabe_wire::participant_list::{ParticipantListData, ParticipantListUpdate, UserRolePair};
use nabe_wire::policy::{JoinLinksData, JoinLinksUpdate};
use nabe_wire::uri::MimiUri;
use nabe_wire::{Encode as _, Kind, Message};

use super::refusal::MimiRefusal;

/// What becomes of components: new data, or none.
pub(super) type Changes = BTreeMap<ComponentId, Option<Vec<u8>>>;

/// The components' data after these updates, in the order in which they are committed, for those that they name. `data` is
/// what there was at the beginning of the epoch; indices in updates refer to that, however many updates there are.
pub(super) fn resolve<'d, 'u>(
    data: impl Fn(ComponentId) -> Option<&'d [u8]>,
    updates: impl IntoIterator<Item = &'u AppDataUpdate>,
) -> Result<Changes, MimiRefusal> {
    let mut by_component: BTreeMap<ComponentId, Vec<Option<&[u8]>>> = BTreeMap::new();
    for update in updates {
        let operation = update.update.as_ref().map(|update| &update[..]);
        by_component.entry(update.component_id).or_default().push(operation);
    }
    let resolved = by_component.into_iter().map(|(component, operations)| {
        let new = resolve_one(component, data(component), &operations)?;
        Ok((component, new))
    });
    resolved.collect()
}

/// Whether a group's context may hold data of this component, as far as we know the component. Its data is in our formats.
pub(super) fn is_known(component: ComponentId) -> bool {
    // These put their data elsewhere: into a key package, a proposal, a message.
    !matches!(
        component,
        ComponentId::LAST_RESORT_KEY_PACKAGE | ComponentId::APP_ACK | ComponentId::FRANK_AAD
    ) && Kind::of_component_data(component).is_some()
}

/// Checks that a component's data is in its format. That of a component that we do not know can be anything.
pub(super) fn check_data(component: ComponentId, data: &[u8]) -> Result<(), MimiRefusal> {
    let Some(kind) = Kind::of_component_data(component) else {
        return Ok(());
    };
    match kind.read(data).encoded {
        Ok(_) => Ok(()),
        Err(error) => Err(MimiRefusal::ComponentData { component, error }),
    }
}

fn resolve_one(
    component: ComponentId,
    data: Option<&[u8]>,
    operations: &[Option<&[u8]>],
) -> Result<Option<Vec<u8>>, MimiRefusal> {
    if !is_known(component) {
        return Err(MimiRefusal::UnknownComponent { component });
    }
    let Some(updates) = operations.iter().copied().collect::<Option<Vec<_>>>() else {
        return match (operations, data) {
            ([_], Some(_)) => Ok(None),
            ([_], None) => Err(MimiRefusal::AbsentComponent { component }),
            _ => Err(MimiRefusal::RemovedAndChanged { component }),
        };
    };
    let new = match component {
        ComponentId::PARTICIPANT_LIST => {
            let list = read_or(
                data,
                component,
                ParticipantListData {
                    participants: Vec::new(),
                },
            )?;
            changed_participants(list, &read_all(&updates, component)?)?.to_bytes()
        }
        ComponentId::JOIN_LINKS => {
            let links = read_or(data, component, JoinLinksData { join_links: Vec::new() })?;
            changed_links(links, &read_all(&updates, component)?)?.to_bytes()
        }
        // "A single commit […] at most one": nothing but the last would be seen of several.
        ComponentId::ROOM_METADATA if updates.len() > 1 => return Err(MimiRefusal::MetadataTwice),
        _ => {
            for update in &updates {
                check_data(component, update)?;
            }
            updates.last().expect("an update brought us here").to_vec()
        }
    };
    // A list that grows beyond what can be read could not be changed any more.
    if Kind::of_component_data(component).is_some_and(|kind| new.len() > kind.max_len) {
        check_data(component, &new)?;
    }
    Ok(Some(new))
}

fn read<T: Message>(bytes: &[u8], component: ComponentId) -> Result<T, MimiRefusal> {
    T::from_bytes(bytes).map_err(|error| MimiRefusal::ComponentData { component, error })
}

fn read_or<T: Message>(data: Option<&[u8]>, component: ComponentId, absent: T) -> Result<T, MimiRefusal> {
    data.map_or(Ok(absent), |data| read(data, component))
}

fn read_all<T: Message>(updates: &[&[u8]], component: ComponentId) -> Result<Vec<T>, MimiRefusal> {
    updates.iter().map(|update| read(update, component)).collect()
}

/// Roles change, then users go, then users come; nobody is touched twice in a commit (MIMI #participant-list).
fn changed_participants(
    list: ParticipantListData,
    updates: &[ParticipantListUpdate],
) -> Result<ParticipantListData, MimiRefusal> {
    let mut participants = list.participants;
    let listed: BTreeSet<String> = participants.iter().map(key).collect();
    let mut touched = BTreeSet::new();
    let mut touch = |user: String| {
        if touched.insert(user.clone()) {
            Ok(())
        } else {
            Err(MimiRefusal::ParticipantTwice { user })
        }
    };
    let mut removed = BTreeSet::new();
    let mut added: Vec<UserRolePair> = Vec::new();
    for update in updates {
        for change in &update.changed_role_participants {
            let participant = at(&mut participants, change.user_index)?;
            touch(key(participant))?;
            participant.role_index = change.role_index;
        }
        for &index in &update.removed_indices {
            touch(key(at(&mut participants, index)?))?;
            removed.insert(index);
        }
        for newcomer in &update.added_participants {
            let user = key(newcomer);
            if listed.contains(&user) {
                return Err(MimiRefusal::ParticipantTwice { user });
            }
            touch(user)?;
            added.push(newcomer.clone());
        }
    }
    let mut indices = 0_u32..;
    participants.retain(|_| indices.next().is_some_and(|index| !removed.contains(&index)));
    participants.extend(added);
    Ok(ParticipantListData { participants })
}

fn changed_links(links: JoinLinksData, updates: &[JoinLinksUpdate]) -> Result<JoinLinksData, MimiRefusal> {
    let mut join_links = links.join_links;
    let count = join_links.len();
    let mut removed = BTreeSet::new();
    for update in updates {
        for &index in &update.removed_indices {
            let is_there = usize::try_from(index).is_ok_and(|index| index < count);
            if !is_there || !removed.insert(index) {
                return Err(MimiRefusal::JoinLinkIndex { index });
            }
        }
    }
    let mut indices = 0_u32..;
    join_links.retain(|_| indices.next().is_some_and(|index| !removed.contains(&index)));
    for update in updates {
        join_links.extend(update.added_links.iter().cloned());
    }
    Ok(JoinLinksData { join_links })
}

/// Whom an update of the participant list is about.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// All of them.
    pub(super) users: BTreeSet<String>,
    /// Those who are on the list, and get another role or go.
    pub(super) moved: BTreeSet<String>,
}

/// Whom an update is about, by the list of the epoch's beginning; nobody if it is not one of the list.
pub(super) fn touched(list: &ParticipantListData, update: &AppDataUpdate) -> Touched {
    let content = update
        .update
        .as_ref()
        .filter(|_| update.component_id == ComponentId::PARTICIPANT_LIST);
    let Some(content) = content.and_then(|content| ParticipantListUpdate::from_bytes(content).ok()) else {
        return Touched::default();
    };
    let changed = content.changed_role_participants.iter().map(|change| change.user_index);
    let indices = changed.chain(content.removed_indices.iter().copied());
    let at = |index| list.participants.get(usize::try_from(index).ok()?);
    let moved: BTreeSet<String> = indices.filter_map(at).map(key).collect();
    let added = content.added_participants.iter().map(key);
    Touched {
        users: moved.iter().cloned().chain(added).collect(),
        moved,
    }
}

fn at(participants: &mut [UserRolePair], index: u32) -> Result<&mut UserRolePair, MimiRefusal> {
    usize::try_from(index)
        .ok()
        .and_then(|place| participants.get_mut(place))
        .ok_or(MimiRefusal::ParticipantIndex { index })
}

/// A user as they are compared: hosts without case.
fn key(participant: &UserRolePair) -> String {
    let user = participant.user.as_str();
    MimiUri::parse(user).map_or_else(|_| user.to_owned(), |uri| uri.to_string())
}

#[cfg(test)]
mod tests {
    use nabe_wire::IdentifierUri;
    use nabe_wire::mls::ComponentId as Id;
    use nabe_wire::participant_list::UserIndexRolePair;
    use nabe_wire::policy::JoinLink;

    use super::*;

    fn user(name: &str, role_index: u32) -> UserRolePair {
        UserRolePair {
            user: IdentifierUri::new(format!("mimi://a.example/u/{name}")).unwrap(),
            role_index,
        }
    }

    fn list(names: &[(&str, u32)]) -> Vec<u8> {
        let participants = names.iter().map(|(name, role)| user(name, *role)).collect();
        ParticipantListData { participants }.to_bytes()
    }

    fn change(roles: &[(u32, u32)], removed: &[u32], added: &[(&str, u32)]) -> AppDataUpdate {
        let update = ParticipantListUpdate {
            changed_role_participants: roles
                .iter()
                .map(|&(user_index, role_index)| UserIndexRolePair { user_index, role_index })
                .collect(),
            removed_indices: removed.to_vec(),
            added_participants: added.iter().map(|(name, role)| user(name, *role)).collect(),
        };
        AppDataUpdate {
            component_id: Id::PARTICIPANT_LIST,
            update: Some(update.to_bytes().into()),
        }
    }

    fn participants(data: &[u8], updates: &[AppDataUpdate]) -> Result<Vec<u8>, MimiRefusal> {
        let changes = resolve(|id| (id == Id::PARTICIPANT_LIST).then_some(data), updates)?;
        Ok(changes[&Id::PARTICIPANT_LIST].clone().unwrap())
    }

    fn raw(component_id: Id, update: Option<&[u8]>) -> AppDataUpdate {
        AppDataUpdate {
            component_id,
            update: update.map(Into::into),
        }
    }

    #[test]
    fn roles_change_then_users_go_then_users_come() {
        let before = list(&[("alice", 4), ("bob", 2), ("carol", 2)]);
        let after = participants(&before, &[change(&[(2, 3)], &[1], &[("dave", 2)])]).unwrap();
        assert_eq!(after, list(&[("alice", 4), ("carol", 3), ("dave", 2)]));
    }

    #[test]
    fn all_updates_of_a_commit_count_by_the_list_of_the_epoch_s_beginning() {
        let before = list(&[("alice", 4), ("bob", 2), ("carol", 2)]);
        let updates = [
            change(&[], &[0], &[]),
            change(&[], &[1], &[("dave", 2)]),
            change(&[(2, 4)], &[], &[]),
        ];
        assert_eq!(
            participants(&before, &updates).unwrap(),
            list(&[("carol", 4), ("dave", 2)])
        );
    }

    #[test]
    fn nobody_is_touched_twice() {
        let before = list(&[("alice", 4), ("bob", 2)]);
        let bob = || MimiRefusal::ParticipantTwice {
            user: "mimi://a.example/u/bob".into(),
        };
        for updates in [
            vec![change(&[(1, 3)], &[1], &[])],
            vec![change(&[(1, 3), (1, 2)], &[], &[])],
            vec![change(&[], &[1, 1], &[])],
            vec![change(&[], &[1], &[]), change(&[], &[], &[("bob", 2)])],
            vec![change(&[], &[], &[("bob", 2)])],
        ] {
            assert_eq!(participants(&before, &updates), Err(bob()));
        }
        let twice = [change(&[], &[], &[("dave", 2)]), change(&[], &[], &[("dave", 3)])];
        assert!(matches!(
            participants(&before, &twice),
            Err(MimiRefusal::ParticipantTwice { .. })
        ));
    }

    #[test]
    fn an_index_beyond_the_list_is_refused() {
        let before = list(&[("alice", 4)]);
        for update in [change(&[(1, 2)], &[], &[]), change(&[], &[1], &[])] {
            assert_eq!(
                participants(&before, &[update]),
                Err(MimiRefusal::ParticipantIndex { index: 1 })
            );
        }
    }

    #[test]
    fn links_go_by_their_place_and_come_at_the_end() {
        let link = |name: &str| JoinLink {
            join_link: name.as_bytes().into(),
        };
        let before = JoinLinksData {
            join_links: vec![link("a"), link("b"), link("c")],
        }
        .to_bytes();
        let update = |removed: &[u32], added: &[&str]| {
            let update = JoinLinksUpdate {
                removed_indices: removed.to_vec(),
                added_links: added.iter().map(|name| link(name)).collect(),
            };
            raw(Id::JOIN_LINKS, Some(&update.to_bytes()))
        };
        let with = |updates: &[AppDataUpdate]| resolve(|_| Some(&before[..]), updates);
        let after = JoinLinksData {
            join_links: vec![link("b"), link("d")],
        };
        let changes = with(&[update(&[0], &["d"]), update(&[2], &[])]).unwrap();
        assert_eq!(changes[&Id::JOIN_LINKS], Some(after.to_bytes()));
        for (updates, index) in [
            (vec![update(&[3], &[])], 3),
            (vec![update(&[1], &[]), update(&[1], &[])], 1),
        ] {
            assert_eq!(with(&updates), Err(MimiRefusal::JoinLinkIndex { index }));
        }
    }

    #[test]
    fn no_component_grows_beyond_what_can_be_read() {
        let component = Id::JOIN_LINKS;
        let most = Kind::of_component_data(component).unwrap().max_len;
        let added_links = vec![JoinLink {
            join_link: vec![7; most - 16].into(),
        }];
        let update = JoinLinksUpdate {
            removed_indices: Vec::new(),
            added_links,
        };
        let update = raw(component, Some(&update.to_bytes()));
        let once = resolve(|_| None, [&update]).unwrap()[&component].clone().unwrap();
        assert!(matches!(
            resolve(|_| Some(&once[..]), [&update]),
            Err(MimiRefusal::ComponentData { .. })
        ));
    }

    #[test]
    fn a_component_is_removed_alone_and_if_it_is_there() {
        let component = Id::STATUS_NOTIFICATION_POLICY;
        let remove = || raw(component, None);
        let update = || raw(component, Some(&[1, 1]));
        let there = |_| Some(&[0, 0][..]);
        assert_eq!(resolve(there, &[remove()]).unwrap()[&component], None);
        assert_eq!(
            resolve(|_| None, &[remove()]),
            Err(MimiRefusal::AbsentComponent { component })
        );
        for updates in [
            vec![remove(), remove()],
            vec![remove(), update()],
            vec![update(), remove()],
        ] {
            assert_eq!(
                resolve(there, &updates),
                Err(MimiRefusal::RemovedAndChanged { component })
            );
        }
    }

    #[test]
    fn the_last_of_several_updates_stays() {
        let component = Id::STATUS_NOTIFICATION_POLICY;
        let updates = [raw(component, Some(&[1, 1])), raw(component, Some(&[2, 0]))];
        assert_eq!(resolve(|_| None, &updates).unwrap()[&component], Some(vec![2, 0]));
    }

    #[test]
    fn unknown_components_and_malformed_data_are_refused() {
        for component in [Id(0x8000), Id::FRANK_AAD, Id::APP_ACK, Id::LAST_RESORT_KEY_PACKAGE] {
            assert_eq!(
                resolve(|_| None, &[raw(component, Some(&[]))]),
                Err(MimiRefusal::UnknownComponent { component })
            );
        }
        for component in [Id::PARTICIPANT_LIST, Id::ROLES_LIST, Id::JOIN_LINKS, Id::ROOM_METADATA] {
            assert!(matches!(
                resolve(|_| None, &[raw(component, Some(&[0xff]))]),
                Err(MimiRefusal::ComponentData { .. })
            ));
        }
    }
}
