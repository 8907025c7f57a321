//! What rooms have said, and how long it lasts.

use nabe_content::mimi::status::MessageStatus;
use nabe_content::mimi::{Disposition, Expiration, MessageId, MimiContent};
use nabe_wire::Encode as _;
use nabe_wire::app_data::{ApplicationFraming, MediaType, MediaTypeList};
use nabe_wire::policy::{
    Expiration as Bounds, LinkPreviewPolicy, MessageExpiration, Optionality, RoleData, UnlessForbidden,
};
use nabe_wire::submit_message::{Submission, SubmitMessageRequest};

use super::moderation::shout;
use super::*;
use crate::provider::Provider;

/// Alice's room as it is changed before it begins, with Bob in it.
fn of_two(hub: &MimiHub, change: impl FnOnce(&mut NewRoom)) -> [MimiClient; 2] {
    let (mut alice, mut bob) = (client(hub, A), client(hub, B));
    let mut new = new_room();
    change(&mut new);
    now(alice.create_room(&new)).unwrap();
    now(alice.add(&room(), &[(uri(BOB), MEMBER)])).unwrap();
    sync(&mut bob);
    [alice, bob]
}

/// A room with this policy about expiring messages.
fn expiring(hub: &MimiHub, expiring_messages: UnlessForbidden<Bounds>) -> [MimiClient; 2] {
    let policy = MessageExpiration { expiring_messages };
    let component = ComponentId::MESSAGE_EXPIRATION_POLICY;
    of_two(hub, |new| new.components.set(component, policy.to_bytes()))
}

const fn bounds(default_expiration_duration: Option<u32>) -> Bounds {
    Bounds {
        min_expiration_duration: HOUR,
        max_expiration_duration: DAY,
        default_expiration_duration,
    }
}

fn words(bob: &MimiClient, expires: Option<Expiration>) -> MimiContent {
    let content = bob.compose(&room(), NestedPart::text("Fish!")).unwrap();
    MimiContent { expires, ..content }
}

/// That another client of Bob's which says this all the same is not heard, and why.
fn unheard(alice: &mut MimiClient, bob: &mut MimiClient, content: &MimiContent) -> Unreadable {
    let id = shout(bob, content);
    sync(alice);
    assert!(alice.item_of(&room(), &id).unwrap().is_none());
    match alice.items(&room(), 1).unwrap().remove(0).body {
        MimiBody::Unreadable(reason) => reason,
        other => panic!("{other:?}"),
    }
}

/// When a message expires that Bob says and Alice hears.
fn heard(alice: &mut MimiClient, bob: &mut MimiClient, content: &MimiContent) -> Option<Expiration> {
    let id = now(bob.send(&room(), content)).unwrap();
    sync(alice);
    expiry_of(alice, &id)
}

fn expiry_of(client: &MimiClient, id: &MessageId) -> Option<Expiration> {
    match client.item_of(&room(), id).unwrap().expect("it is heard").body {
        MimiBody::Content(received) => received.content().expires,
        other => panic!("{other:?}"),
    }
}

fn after(hub: &MimiHub, seconds: u32) -> Option<Expiration> {
    let now = u32::try_from(hub.clock()().as_u64() / 1000).unwrap();
    let seconds = now + seconds;
    Some(Expiration::Absolute { seconds })
}

const fn once_read(seconds: u32) -> Option<Expiration> {
    Some(Expiration::Relative { seconds })
}

#[test]
fn a_message_that_expires_otherwise_than_the_policy_has_it_is_neither_sent_nor_shown() {
    use ExpiryFault::{Forbidden, Required, TooLong, TooShort};
    let (short, long) = (TooShort { min: HOUR }, TooLong { max: DAY });
    let hub = MimiHub::new();
    let [none, soon, late] = [None, after(&hub, HOUR / 2), after(&hub, DAY + HOUR)];
    let within = [
        (once_read(HOUR - 1), short),
        (once_read(DAY + 1), long),
        (soon, short),
        (late, long),
    ];
    for (policy, wrong) in [
        (
            UnlessForbidden::Forbidden,
            vec![(once_read(HOUR), Forbidden), (soon, Forbidden)],
        ),
        (UnlessForbidden::Optional(bounds(None)), within.to_vec()),
        (
            UnlessForbidden::Required(bounds(None)),
            [&within[..], &[(none, Required)]].concat(),
        ),
    ] {
        let hub = MimiHub::new();
        let [mut alice, mut bob] = expiring(&hub, policy.clone());
        for (expires, fault) in wrong {
            let content = words(&bob, expires);
            if fault != Required {
                let said = bob.enqueue_message(&room(), &content);
                assert!(
                    matches!(&said, Err(MimiError::Expiry(why)) if *why == fault),
                    "{policy:?} {expires:?}: {said:?}"
                );
            }
            let why = fault.to_string();
            assert_eq!(unheard(&mut alice, &mut bob, &content), Unreadable::Expiry { why });
        }
        if let UnlessForbidden::Forbidden = policy {
            let content = words(&bob, None);
            assert_eq!(heard(&mut alice, &mut bob, &content), None);
            continue;
        }
        for expires in [
            once_read(HOUR),
            once_read(DAY),
            after(&hub, HOUR + 60),
            after(&hub, DAY),
        ] {
            let content = words(&bob, expires);
            assert_eq!(heard(&mut alice, &mut bob, &content), expires);
        }
    }
}

#[test]
fn where_messages_have_to_expire_one_that_does_not_say_when_expires_after_the_preferred_time() {
    for (default, chosen) in [(Some(2 * HOUR), 2 * HOUR), (None, DAY), (Some(1), HOUR)] {
        let hub = MimiHub::new();
        let [mut alice, mut bob] = expiring(&hub, UnlessForbidden::Required(bounds(default)));
        let content = words(&bob, None);
        assert_eq!(heard(&mut alice, &mut bob, &content), once_read(chosen));
    }
    let hub = MimiHub::new();
    let [mut alice, mut bob] = expiring(&hub, UnlessForbidden::Optional(bounds(Some(HOUR))));
    let content = words(&bob, None);
    assert_eq!(heard(&mut alice, &mut bob, &content), None, "who need not, does not");
}

#[test]
fn a_version_of_a_message_ends_with_it_and_reports_are_no_messages() {
    let hub = MimiHub::new();
    let [mut alice, mut bob] = expiring(&hub, UnlessForbidden::Required(bounds(None)));
    let content = words(&bob, after(&hub, HOUR + 60));
    let first = now(bob.send(&room(), &content)).unwrap();
    hub.advance(Duration::from_mins(30));
    now(bob.edit(&room(), &first, NestedPart::text("Fish?"))).unwrap();
    sync(&mut alice);
    assert_eq!(read(&alice), ["Fish?"]);
    now(alice.report_status(&room(), &[(first, MessageStatus::READ)])).unwrap();
    sync(&mut bob);
    assert_eq!(bob.statuses(&room()).unwrap()[&first][ALICE], MessageStatus::READ);
    // Nobody goes round the policy by a version of nothing.
    let mut of_nothing = words(&bob, None);
    let mut bytes = *first.as_bytes();
    bytes[31] ^= 1;
    of_nothing.replaces = Some(MessageId::from_bytes(bytes).unwrap());
    let why = ExpiryFault::Required.to_string();
    assert_eq!(unheard(&mut alice, &mut bob, &of_nothing), Unreadable::Expiry { why });
}

#[test]
fn a_preview_of_a_link_is_neither_sent_nor_shown_where_the_policy_forbids_it() {
    for send_link_previews in [Optionality::Optional, Optionality::Forbidden] {
        let hub = MimiHub::new();
        let policy = LinkPreviewPolicy {
            autodetect_hyperlinks_in_text: Optionality::Optional,
            send_link_previews,
            automatic_link_previews: Optionality::Optional,
            link_preview_proxy_use: UnlessForbidden::Forbidden,
        };
        let component = ComponentId::LINK_PREVIEW_POLICY;
        let [mut alice, mut bob] = of_two(&hub, |new| new.components.set(component, policy.to_bytes()));
        let preview = NestedPart::text("A cat").with_disposition(Disposition::PREVIEW);
        let content = bob.compose(&room(), preview).unwrap();
        if send_link_previews == Optionality::Optional {
            assert_eq!(heard(&mut alice, &mut bob, &content), None);
            continue;
        }
        let said = bob.enqueue_message(&room(), &content);
        assert!(matches!(said, Err(MimiError::PreviewForbidden)), "{said:?}");
        assert_eq!(unheard(&mut alice, &mut bob, &content), Unreadable::PreviewForbidden);
    }
}

/// As a client sends it that has other media types than ours.
fn send_as(client: &mut MimiClient, media_type: &str, content: &str) {
    let framing = ApplicationFraming {
        media_type: MediaType::new(media_type),
        inner_application_content: content.as_bytes().to_vec().into(),
    };
    let app_message = client.in_transaction(|work, connection| {
        let known = KnownRoom::load(connection, &room())?.expect("it is known");
        let mut group = work.group(&known)?;
        let provider = Provider::new(connection);
        group::encrypt(&provider, work.device, &mut group, &framing.to_bytes(), None)
    });
    let request = SubmitMessageRequest::from(Submission {
        app_message: app_message.unwrap(),
        sending_uri: device::identifier(&client.device.user),
    });
    now(client.transport.submit(&room(), &request.to_bytes())).unwrap();
}

#[test]
fn what_is_of_another_media_type_than_the_rooms_is_not_shown_nor_is_what_the_role_does_not_allow() {
    let hub = MimiHub::new();
    let [mut alice, mut bob] = of_two(&hub, |new| {
        let types = [nabe_content::mimi::MEDIA_TYPE, "text/markdown"].map(MediaType::new);
        new.media_types = MediaTypeList::new(types.to_vec()).unwrap();
        let RoleData { roles } = &mut new.policy.roles;
        for role in roles.iter_mut().filter(|role| role.role_index == MEMBER) {
            role.role_capabilities
                .retain(|capability| *capability != nabe_wire::policy::Capability::CAN_SEND_LINK);
        }
    });
    let link = "look: <https://cats.example/>";
    for (media_type, content, refused) in [
        ("Text/Markdown", "hello", None),
        (
            "text/html",
            "hello",
            Some(Unreadable::OtherMediaType {
                media_type: "text/html".to_owned(),
            }),
        ),
        (
            "text/markdown",
            link,
            Some(Unreadable::NotPermitted {
                capability: "canSendLink".to_owned(),
            }),
        ),
    ] {
        send_as(&mut bob, media_type, content);
        sync(&mut alice);
        match (alice.items(&room(), 1).unwrap().remove(0).body, refused) {
            (MimiBody::Unreadable(reason), Some(refused)) => assert_eq!(reason, refused),
            (MimiBody::Other { .. }, None) => {}
            (body, refused) => panic!("{refused:?}: {body:?}"),
        }
    }
}

const HOUR: u32 = 60 * 60;
const DAY: u32 = 24 * HOUR;
