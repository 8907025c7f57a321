//! The policy of rooms that this client makes (MRP #roles): one owner, and ordinary users, who add and remove each other.

use super::bytes::{put_vec, vec_of};
use super::dictionary::{Dictionary, PARTICIPANT_LIST, ROLES_LIST, encode_list};

/// The policy, and a first participant, the owner.
pub fn dictionary(owner: &str) -> Dictionary {
    let roles = [
        role(NOBODY, "no_role", &[], &[], Some(0)),
        role(
            ORDINARY,
            "ordinary_user",
            &TAKE_PART,
            &[(NOBODY, &[ORDINARY]), (ORDINARY, &[NOBODY])],
            None,
        ),
        role(
            OWNER,
            "owner",
            &[&TAKE_PART[..], &[CHANGE_ROLES]].concat(),
            &[
                (NOBODY, &[ORDINARY]),
                (ORDINARY, &[NOBODY, OWNER]),
                (OWNER, &[NOBODY, ORDINARY]),
            ],
            None,
        ),
    ];
    Dictionary::default()
        .with(PARTICIPANT_LIST, encode_list(&[(owner.to_owned(), OWNER)]))
        .with(ROLES_LIST, vec_of(&roles.concat()))
}

/// `Role`: without a description, of any number of participants, of whom `active` have clients.
fn role(index: u32, name: &str, capabilities: &[u16], changes: &[(u32, &[u32])], active: Option<u32>) -> Vec<u8> {
    let mut role = index.to_be_bytes().to_vec();
    put_vec(&mut role, name.as_bytes());
    put_vec(&mut role, &[]);
    put_vec(
        &mut role,
        &capabilities
            .iter()
            .flat_map(|one| one.to_be_bytes())
            .collect::<Vec<_>>(),
    );
    role.extend(0_u32.to_be_bytes());
    role.push(0);
    role.extend(0_u32.to_be_bytes());
    match active {
        Some(active) => {
            role.push(1);
            role.extend(active.to_be_bytes());
        }
        None => role.push(0),
    }
    let mut authorized = Vec::new();
    for (from, to) in changes {
        authorized.extend(from.to_be_bytes());
        put_vec(
            &mut authorized,
            &to.iter().flat_map(|role| role.to_be_bytes()).collect::<Vec<_>>(),
        );
    }
    put_vec(&mut role, &authorized);
    role
}

const NOBODY: u32 = 0;
const ORDINARY: u32 = 2;
const OWNER: u32 = 4;
/// Add and remove others, own clients and oneself; send, receive and report.
const TAKE_PART: [u16; 8] = [0x0000, 0x0001, 0x0002, 0x0003, 0x0006, 0x0100, 0x0101, 0x0103];
const CHANGE_ROLES: u16 = 0x000f;
