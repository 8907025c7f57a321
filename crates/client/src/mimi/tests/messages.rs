//! What people say to each other, and what it is worth.

use std::collections::BTreeSet;

use bytes::Bytes;
use nabe_content::mimi::status::MessageStatus;
use nabe_content::mimi::{MimiContent, Origin, Salt};
use nabe_wire::app_data::{ComponentsList, MediaType, MediaTypeList};
use nabe_wire::mls::{ComponentId, Extension};
use nabe_wire::notify::FanoutParts;
use nabe_wire::{Decode as _, Encode as _, Message as _, Reader};
use openmls::extensions::AppDataDictionaryExtension;
use openmls_rust_crypto::RustCrypto;
use tls_codec::Serialize as _;

use super::*;
use crate::Undecryptable;
use crate::mimi::device::{Device, capabilities, leaf_extensions, media_types};
use crate::provider::Provider;

#[test]
fn messages_are_edited_deleted_answered_reacted_to_and_read() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    let first = say(&mut alice, "I am a fsh");
    let second = say(&mut alice, "nothing");
    now(alice.edit(&room(), &first, NestedPart::text("I am a fish"))).unwrap();
    now(alice.delete(&room(), &second)).unwrap();
    sync(&mut bob);
    assert_eq!(read(&bob), ["I am a fish", "(deleted)"]);
    now(bob.reply(&room(), &first, NestedPart::text("So am I"))).unwrap();
    now(bob.react(&room(), &first, &["\u{2764}"])).unwrap();
    now(bob.report_status(&room(), &[(first, MessageStatus::READ)])).unwrap();
    sync(&mut alice);
    assert_eq!(read(&alice), ["I am a fish", "(deleted)", "So am I"]);
    let timeline = alice.timeline(&room()).unwrap();
    let reactions = timeline.reactions(&first, authors_only);
    assert_eq!((reactions.len(), reactions[0].by), (1, BOB));
    assert_eq!(alice.statuses(&room()).unwrap()[&first][BOB], MessageStatus::READ);
    // Nobody edits what somebody else said: there is no role for that.
    now(bob.edit(&room(), &first, NestedPart::text("I am a bird"))).unwrap();
    sync(&mut alice);
    assert_eq!(read(&alice)[0], "I am a fish");
}

#[test]
fn a_frank_is_genuine_or_it_is_told_why_not() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    let id = say(&mut bob, "You fish!");
    sync(&mut alice);
    let item = alice.item_of(&room(), &id).unwrap().unwrap();
    assert_eq!(item.franking, Franking::Genuine);
    assert_eq!(bob.item_of(&room(), &id).unwrap().unwrap().franking, Franking::Genuine);
    now(alice.report_abuse(&room(), &[id], "rude")).unwrap();
    let [(report, genuine)] = &hub.reports()[..] else {
        panic!("one report");
    };
    assert_eq!(report.alleged_abuser_uri.as_str(), BOB);
    assert_eq!(genuine[..], [true]);

    // Somebody on the way says that it was accepted at another time.
    hub.alter_last(|fanout| fanout.timestamp -= 1);
    sync(&mut cathy);
    let item = cathy.item_of(&room(), &id).unwrap().unwrap();
    let Franking::NotGenuine { reason } = &item.franking else {
        panic!("{item:?}");
    };
    assert_eq!(reason, "the integrity signature is wrong");
    let refused = now(cathy.report_abuse(&room(), &[id], "")).unwrap_err();
    assert!(matches!(refused, MimiError::NotFranked), "{refused}");

    // Somebody takes it away.
    let id = say(&mut bob, "Still a fish");
    hub.alter_last(|fanout| fanout.with = FanoutParts::Application { frank: None });
    sync(&mut alice);
    let reason = "the hub's frank is missing".to_owned();
    let item = alice.item_of(&room(), &id).unwrap().unwrap();
    assert_eq!(item.franking, Franking::NotGenuine { reason });
}

#[test]
fn a_hub_without_an_agent_franks_nothing() {
    let hub = MimiHub::without_franking();
    let [mut alice, mut bob, _] = of_three(&hub);
    let id = say(&mut bob, "hello");
    sync(&mut alice);
    assert_eq!(alice.item_of(&room(), &id).unwrap().unwrap().franking, Franking::None);
}

#[test]
fn what_cannot_be_read_is_told_with_the_reason() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = of_three(&hub);
    // Her second device is not in the group yet.
    let mut second = client(&hub, C2);
    say(&mut bob, "early");
    sync(&mut second);
    let unreadable = |client: &MimiClient| -> Vec<Unreadable> {
        let items = client.items(&room(), 100).unwrap().into_iter();
        items
            .filter_map(|item| match item.body {
                MimiBody::Unreadable(reason) => Some(reason),
                _ => None,
            })
            .collect()
    };
    let reason = Undecryptable::NotInGroup;
    assert_eq!(unreadable(&second), [Unreadable::Undecryptable { reason }]);

    // A message that is changed on the way.
    say(&mut bob, "damaged");
    hub.alter_last(|fanout| {
        let mut message = fanout.message.clone().into_value();
        if let nabe_wire::mls::MlsMessageBody::Private(private) = &mut message.body {
            let last = private.ciphertext.0.last_mut().unwrap();
            *last ^= 1;
        }
        fanout.message = nabe_wire::Kept::new(message);
    });
    sync(&mut alice);
    let reason = Undecryptable::Corrupt;
    assert_eq!(unreadable(&alice), [Unreadable::Undecryptable { reason }]);

    // A message from the future.
    say(&mut bob, "in an hour");
    hub.alter_last(|fanout| fanout.timestamp += 3_600_000);
    sync(&mut cathy);
    let reasons = unreadable(&cathy);
    assert!(
        matches!(reasons.last(), Some(Unreadable::Suspicious { .. })),
        "{reasons:?}"
    );
    // Who comes later reads what comes later.
    now(second.join(&room(), None, None)).unwrap();
    sync(&mut bob);
    say(&mut bob, "now");
    sync(&mut second);
    assert_eq!(read(&second), ["now"]);
}

#[test]
fn nobody_speaks_for_somebody_else_or_into_another_room() {
    let hub = MimiHub::new();
    let [_, mut bob, _] = of_three(&hub);
    for (sender, to) in [(CATHY, ROOM), (BOB, "mimi://a.example/r/hall")] {
        let origin = Origin::new(sender, to).unwrap();
        let content = MimiContent::new(Salt::from_random([1; 16]), &origin, NestedPart::text("x"));
        assert!(matches!(now(bob.send(&room(), &content)), Err(MimiError::OtherOrigin)));
    }
}

#[test]
fn a_message_that_the_hub_refuses_is_told() {
    let hub = MimiHub::new();
    let mut alice = client(&hub, A);
    let mut bob = client(&hub, B);
    let lecture = NewRoom {
        role: 6,
        ..NewRoom::new(&room(), "Lecture", templates::moderated("a.example")).unwrap()
    };
    now(alice.create_room(&lecture)).unwrap();
    // A guest listens.
    now(alice.add(&room(), &[(uri(BOB), 2)])).unwrap();
    sync(&mut bob);
    let refused = now(bob.say(&room(), NestedPart::text("hello"))).unwrap_err();
    assert!(matches!(refused, MimiError::MessageRefused), "{refused}");
    assert!(
        notices(&mut bob)
            .iter()
            .any(|notice| matches!(notice, MimiNotice::NotSent { .. }))
    );
    say(&mut alice, "Welcome");
    sync(&mut bob);
    assert_eq!(read(&bob), ["Welcome"]);
}

/// Also if the words are the same: a message's ID is a hash of it.
#[test]
fn every_message_has_a_salt_of_its_own() {
    let hub = MimiHub::new();
    let [mut alice, ..] = of_three(&hub);
    let ids: Vec<_> = (0..20).map(|_| say(&mut alice, "Fish!")).collect();
    now(alice.reply(&room(), &ids[0], NestedPart::text("Fish!"))).unwrap();
    let timeline = alice.timeline(&room()).unwrap();
    let posts = timeline.posts(authors_only).into_iter();
    let salts: BTreeSet<_> = posts.map(|post| *post.content.salt.as_bytes()).collect();
    assert_eq!(salts.len(), 21);
}

/// Markdown is shown as the text that it is.
#[test]
fn a_client_says_that_it_reads_what_everybody_has_to_read_and_does() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    let leaf = leaf_extensions(&RustCrypto::default()).unwrap();
    let leaf = leaf.tls_serialize_detached().unwrap();
    let leaf = Reader::new(&leaf).vector(Extension::decode).unwrap();
    let dictionary = Extension::app_data_dictionary(&leaf).unwrap().unwrap();
    let said = MediaTypeList::from_bytes(dictionary.data(ComponentId::CONTENT_MEDIA_TYPES).unwrap()).unwrap();
    for required in [
        MediaType::new("application/mimi-content"),
        MediaType::new("text/plain").with_parameter("charset", "utf-8"),
        MediaType::new("text/markdown").with_parameter("variant", "GFM-MIMI"),
    ] {
        assert!(said.media_types().contains(&required), "{required:?}");
    }
    for (content_type, words) in [
        ("text/plain;charset=utf-8", "Fish!"),
        ("text/markdown;variant=GFM-MIMI", "**Fish!**"),
    ] {
        now(alice.say(&room(), NestedPart::single(content_type, words))).unwrap();
    }
    sync(&mut bob);
    assert_eq!(read(&bob), ["Fish!", "**Fish!**"]);
}

/// A key package of a client that does not read plain text.
fn without_text(client: &MimiClient) -> Bytes {
    let suite = Suite::default();
    let device = &client.device;
    let extensions = leaf_extensions(&device.grease(suite).unwrap()).unwrap();
    let mut dictionary = extensions.app_data_dictionary().unwrap().dictionary().clone();
    let types = media_types(&["application/mimi-content"]).to_bytes();
    dictionary.insert(ComponentId::CONTENT_MEDIA_TYPES.0, types);
    let extension = openmls::prelude::Extension::AppDataDictionary(AppDataDictionaryExtension::new(dictionary));
    let package = openmls::prelude::KeyPackage::builder()
        .leaf_node_capabilities(capabilities(suite, &device.grease(suite).unwrap()))
        .leaf_node_extensions(openmls::prelude::Extensions::single(extension).unwrap())
        .build(
            suite.ciphersuite(),
            &Provider::new(client.store.read()),
            device.signer(suite).unwrap(),
            device.credential_with_key(suite).unwrap(),
        );
    let package = package.unwrap().key_package().tls_serialize_detached().unwrap();
    package.into()
}

#[test]
fn a_client_that_does_not_read_what_the_room_requires_is_left_out_with_the_reason() {
    let hub = MimiHub::new();
    let (mut alice, mut bob) = (client(&hub, A), client(&hub, B));
    let second = client(&hub, B2);
    hub.drop_key_packages(B2);
    now(second
        .transport
        .upload_key_packages(second.client(), &[without_text(&second)]))
    .unwrap()
    .remove(0)
    .unwrap();
    let mut new = new_room();
    let text = MediaType::new("text/plain").with_parameter("charset", "utf-8");
    let required = MediaTypeList::new(vec![MediaType::new("application/mimi-content"), text]).unwrap();
    new.components
        .set(ComponentId::CONTENT_MEDIA_TYPES, required.to_bytes());
    now(alice.create_room(&new)).unwrap();
    now(alice.add(&room(), &[(uri(BOB), MEMBER)])).unwrap();
    sync(&mut bob);
    agree(&hub, &[&alice, &bob]);
    let left_out = notices(&mut alice).into_iter().filter_map(|notice| match notice {
        MimiNotice::CannotAdd { client, reason, .. } => Some((client, reason)),
        _ => None,
    });
    let reason = "it has no key package that fits the group".to_owned();
    assert_eq!(left_out.collect::<Vec<_>>(), [(B2.to_owned(), reason)]);
    assert_eq!(alice.group(&room()).unwrap().unwrap().members.len(), 2);
}

#[test]
fn what_a_client_says_of_itself_has_values_that_stand_for_nothing() {
    let suite = Suite::default();
    let device = Device::generate(MimiUri::parse(A).unwrap(), &[suite]).unwrap();
    let grease = || device.grease(suite).unwrap();
    let say = || capabilities(suite, &grease());
    let capabilities = say();
    assert_eq!(capabilities, say(), "the same each time");
    assert!(capabilities.ciphersuites().iter().any(|it| it.is_grease()));
    assert!(capabilities.extensions().iter().any(|it| it.is_grease()));
    assert!(capabilities.proposals().iter().any(|it| it.is_grease()));
    assert!(capabilities.credentials().iter().any(|it| it.is_grease()));
    let leaf = leaf_extensions(&grease()).unwrap().tls_serialize_detached().unwrap();
    let leaf = Reader::new(&leaf).vector(Extension::decode).unwrap();
    let dictionary = Extension::app_data_dictionary(&leaf).unwrap().unwrap();
    assert!(dictionary.entries().iter().any(|entry| entry.component_id.is_grease()));
    for list in [ComponentId::APP_COMPONENTS, ComponentId::SAFE_AAD] {
        let list = ComponentsList::from_bytes(dictionary.data(list).unwrap()).unwrap();
        assert!(list.component_ids.iter().any(|component| component.is_grease()));
    }
}
