//! The two forms of a proposal, and content, without a server.

use mls_rs::MlsMessage;

use super::content::Text;
use super::dictionary::{Dictionary, Update, list_update};
use super::frame::{Form, MARK, message};

/// The head of a `PublicMessage` of member 1 in epoch 3 of the group `g`, with an empty SafeAAD.
const HEAD: [u8; 21] = [0, 1, 0, 1, 1, b'g', 0, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0, 0, 1, 1, 0];

fn with_tail(body: &[u8]) -> Vec<u8> {
    [&HEAD[..], body, b"signature and tags"].concat()
}

#[test]
fn a_proposal_of_new_type_has_no_length_on_the_wire_and_one_in_mls_rs() {
    let update = list_update(&[], &[1], &[]);
    let on_the_wire = with_tail(&[&[2, 0, 8], &update[..]].concat());
    let length = u8::try_from(MARK.len() + update.len()).unwrap();
    let in_mls_rs = with_tail(&[&[2, 0, 8, length], &MARK[..], &update].concat());
    assert_eq!(message(&on_the_wire, Form::MlsRs).unwrap(), in_mls_rs);
    assert_eq!(message(&in_mls_rs, Form::Draft).unwrap(), on_the_wire);
    assert!(message(&in_mls_rs, Form::MlsRs).is_err(), "the mark came from outside");
}

/// What `frame.rs` is for. If this does not hold any longer, a part of it is not needed any longer.
#[test]
fn mls_rs_by_itself_reads_no_app_data_update_and_no_self_remove() {
    let tags = [&[0x40, 64][..], &[1; 64], &[32], &[2; 32]].concat();
    let update = list_update(&[], &[1], &[]);
    let same = |bytes: &[u8]| {
        MlsMessage::from_bytes(bytes)
            .and_then(|read| read.to_bytes())
            .ok()
            .as_deref()
            == Some(bytes)
    };
    for proposal in [[&[2, 0, 8], &update[..]].concat(), vec![2, 0, 10]] {
        let on_the_wire = [&HEAD[..], &proposal, &tags].concat();
        assert!(!same(&on_the_wire));
        assert!(same(&message(&on_the_wire, Form::MlsRs).unwrap()));
    }
}

#[test]
fn a_commit_keeps_what_mls_rs_knows() {
    let reference = [&[2, 32][..], &[7; 32]].concat();
    let remove = [1, 0, 3, 0, 0, 0, 2];
    let self_remove = [1, 0, 10];
    let list = [&reference[..], &remove, &self_remove, &self_remove].concat();
    let length = u8::try_from(list.len()).unwrap();
    let on_the_wire = with_tail(&[&[3, length], &list[..]].concat());
    let in_mls_rs = message(&on_the_wire, Form::MlsRs).unwrap();
    let longer = 2 * (1 + MARK.len());
    assert_eq!(
        in_mls_rs.len(),
        on_the_wire.len() + longer + 1,
        "the list has a longer length, too"
    );
    assert_eq!(message(&in_mls_rs, Form::Draft).unwrap(), on_the_wire);
}

#[test]
fn roles_change_then_users_go_then_users_come() {
    let users =
        |list: &[(&str, u32)]| -> Vec<_> { list.iter().map(|(user, role)| ((*user).to_owned(), *role)).collect() };
    let list = |list: &[(&str, u32)]| list_update(&[], &[], &users(list));
    let mut dictionary = Dictionary::default().with(super::dictionary::PARTICIPANT_LIST, vec![0]);
    let apply = |dictionary: &mut Dictionary, updates: &[Vec<u8>]| {
        let updates: Vec<_> = updates.iter().map(|update| Update::read(update).unwrap()).collect();
        dictionary.apply(&updates)
    };
    apply(&mut dictionary, &[list(&[("a", 4), ("b", 2), ("c", 2)])]).unwrap();
    let changes = [list_update(&[(2, 3)], &[0], &[]), list(&[("d", 2)])];
    apply(&mut dictionary, &changes).unwrap();
    assert_eq!(
        dictionary.participants().unwrap(),
        users(&[("b", 2), ("c", 3), ("d", 2)])
    );
    assert!(apply(&mut dictionary, &[list_update(&[(1, 2)], &[1], &[])]).is_err());
}

#[test]
fn text_is_deterministic_cbor() {
    let text = Text {
        salt: vec![5; 16],
        sender: "mimi://b.example/u/bob".to_owned(),
        room: "mimi://a.example/r/clubhouse".to_owned(),
        text: "hello, everybody, this is longer than twenty-three bytes".to_owned(),
    };
    let bytes = text.encode();
    assert_eq!(bytes[..2], [0x87, 0x50]);
    assert_eq!(Text::decode(&bytes).unwrap(), text);
    assert!(Text::decode(&bytes[..bytes.len() - 1]).is_err());
}
