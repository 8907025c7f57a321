//! What an update of the metadata does beside taking capabilities, which the vectors have.

use nabe_wire::codec::NulFreeText;
use nabe_wire::room_metadata::RoomMetaData;
use nabe_wire::uri::Uri;
use nabe_wire::{Encode, Message};

use super::super::templates::{self, SUPER_ADMIN};
use super::*;

fn metadata(name: &str, mood: &str) -> RoomMetaData {
    RoomMetaData {
        room_uri: Uri::new(ROOM).unwrap(),
        room_name: NulFreeText::new(name).unwrap(),
        room_descriptions: vec![],
        room_avatar: Uri::default(),
        room_subject: NulFreeText::default(),
        room_mood: NulFreeText::new(mood).unwrap(),
    }
}

#[test]
fn an_update_replaces_all_of_the_metadata() {
    let mut room = room(&templates::cooperative("hub.example"), &[("alice@a", SUPER_ADMIN)]);
    let alice = claims("mimi://a.example/u/alice");
    for data in [metadata("Club", "calm"), metadata("Pub", "")] {
        let update = Action::update(ComponentId::ROOM_METADATA, &data);
        let proposals = [CommitProposal::Inline(update)];
        let decided = Commit {
            committer: committer(0, &alice),
            proposals: &proposals,
            expired: &[],
            wire_format: WireFormat::PUBLIC_MESSAGE,
        };
        let merge = room.commit(&decided, None).unwrap();
        assert_eq!(
            room.component_changes(&merge),
            [(ComponentId::ROOM_METADATA, Some(data.to_bytes().into()))]
        );
        room.merge(merge).unwrap();
        assert_eq!(room.policy().metadata(), Some(&data));
        let stored = room.policy().dictionary().data(ComponentId::ROOM_METADATA).unwrap();
        assert_eq!(RoomMetaData::from_bytes(stored), Ok(data));
    }
}
