//! Who is told what became of messages (MMS #reporting, MRP #status-notification).

use std::sync::Arc;

use nabe_content::mimi::status::{MAX_ENTRIES, MessageStatus, StatusReport};
use nabe_content::mimi::{MessageId, MimiContent};
use nabe_wire::Encode as _;
use nabe_wire::policy::{Capability, Optionality, StatusNotificationPolicy};
use nabe_wire::submit_message::{SubmitMessageResponse, SubmitVerdict};

use super::hub::Line;
use super::*;
use crate::mimi::store::Outgoing;

/// Alice's room with this policy, with Bob and Cathy in it.
fn with_policy(hub: &MimiHub, delivered: Optionality, read: Optionality, settings: &MimiSettings) -> [MimiClient; 3] {
    let open = |name| client_with(hub, name, ClientStore::in_memory().unwrap(), settings.clone());
    let [mut alice, mut bob, mut cathy] = [A, B, C].map(open);
    let policy = StatusNotificationPolicy {
        delivery_notifications: delivered,
        read_receipts: read,
    };
    let mut new = new_room();
    new.components
        .set(ComponentId::STATUS_NOTIFICATION_POLICY, policy.to_bytes());
    let roles = new.policy.roles.roles.iter_mut();
    for role in roles.filter(|role| role.role_index == templates::SUPER_ADMIN) {
        role.role_capabilities
            .push(Capability::CAN_CHANGE_OTHER_POLICY_ATTRIBUTE);
    }
    now(alice.create_room(&new)).unwrap();
    now(alice.add(&room(), &[(uri(BOB), MEMBER), (uri(CATHY), MEMBER)])).unwrap();
    sync(&mut bob);
    sync(&mut cathy);
    [alice, bob, cathy]
}

/// Who wants to tell nothing that they need not tell.
fn discreet() -> MimiSettings {
    MimiSettings {
        delivery_notifications: false,
        read_receipts: false,
        ..obedient()
    }
}

/// What a user reported of a message, as a client knows.
fn status(client: &MimiClient, of: &MessageId, user: &str) -> Option<MessageStatus> {
    let statuses = client.statuses(&room()).unwrap();
    statuses.get(of)?.get(user).copied()
}

/// The reports of a user, as a client has them.
fn reports(client: &MimiClient, user: &str) -> Vec<StatusReport> {
    let items = client.items(&room(), 1_000).unwrap().into_iter();
    items
        .filter(|item| item.sender == Some(uri(user)))
        .filter_map(|item| match item.body {
            MimiBody::Content(received) => StatusReport::from_part(&received.content().body),
            _ => None,
        })
        .map(Result::unwrap)
        .collect()
}

#[test]
fn what_is_required_is_told_even_by_the_discreet_to_the_whole_room_each_user_by_name() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, mut cathy] = with_policy(&hub, Optionality::Required, Optionality::Required, &discreet());
    let id = say(&mut alice, "hello");
    for client in [&mut bob, &mut cathy, &mut alice] {
        sync(client);
    }
    sync(&mut bob);
    for client in [&alice, &bob] {
        assert_eq!(status(client, &id, BOB), Some(MessageStatus::DELIVERED));
        assert_eq!(status(client, &id, CATHY), Some(MessageStatus::DELIVERED));
        assert_eq!(status(client, &id, ALICE), None, "nobody tells of what they said");
    }
    bob.mark_read(&room(), &[id]).unwrap();
    sync(&mut bob);
    sync(&mut alice);
    assert_eq!(status(&alice, &id, BOB), Some(MessageStatus::READ));
    assert_eq!(status(&alice, &id, CATHY), Some(MessageStatus::DELIVERED));
    // It is told once, and of a report nobody reports.
    bob.mark_read(&room(), &[id]).unwrap();
    for client in [&mut bob, &mut cathy, &mut alice] {
        sync(client);
    }
    sync(&mut bob);
    assert_eq!((reports(&alice, BOB).len(), reports(&alice, CATHY).len()), (2, 1));
    assert_eq!(reports(&cathy, ALICE), []);
    // Nothing of it is among what people say.
    assert_eq!(read(&alice), ["hello"]);
}

#[test]
fn what_is_left_open_is_for_the_settings_to_say_each_by_itself() {
    for (settings, expected) in [
        (obedient(), Some(MessageStatus::READ)),
        (discreet(), None),
        (
            MimiSettings {
                read_receipts: false,
                ..obedient()
            },
            Some(MessageStatus::DELIVERED),
        ),
    ] {
        let hub = MimiHub::new();
        let [mut alice, mut bob, _] = with_policy(&hub, Optionality::Optional, Optionality::Optional, &settings);
        let id = say(&mut alice, "hello");
        sync(&mut bob);
        bob.mark_read(&room(), &[id]).unwrap();
        sync(&mut bob);
        sync(&mut alice);
        assert_eq!(status(&alice, &id, BOB), expected, "{settings:?}");
    }
}

#[test]
fn what_is_forbidden_is_told_by_nobody_even_if_they_are_asked_to() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = with_policy(&hub, Optionality::Optional, Optionality::Forbidden, &obedient());
    let id = say(&mut alice, "hello");
    sync(&mut bob);
    bob.mark_read(&room(), &[id]).unwrap();
    sync(&mut bob);
    for status in [MessageStatus::READ, MessageStatus::UNREAD, MessageStatus::HIDDEN] {
        let refused = now(bob.report_status(&room(), &[(id, status)])).unwrap_err();
        assert!(matches!(refused, MimiError::StatusForbidden { .. }), "{refused}");
    }
    sync(&mut alice);
    assert_eq!(status(&alice, &id, BOB), Some(MessageStatus::DELIVERED));
    now(bob.report_status(&room(), &[(id, MessageStatus::DELETED)])).unwrap();
    sync(&mut alice);
    assert_eq!(status(&alice, &id, BOB), Some(MessageStatus::DELETED));
}

#[test]
fn a_room_that_says_nothing_about_receipts_is_told_none_unless_they_are_asked_for() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = of_three(&hub);
    let id = say(&mut alice, "hello");
    sync(&mut bob);
    bob.mark_read(&room(), &[id]).unwrap();
    sync(&mut bob);
    sync(&mut alice);
    assert_eq!(status(&alice, &id, BOB), None);
    now(bob.report_status(&room(), &[(id, MessageStatus::UNREAD)])).unwrap();
    sync(&mut alice);
    assert_eq!(status(&alice, &id, BOB), Some(MessageStatus::UNREAD));
}

/// The same client on a line of its own.
fn on_a_line(hub: &MimiHub, client: MimiClient) -> (MimiClient, Arc<Line>) {
    let line = hub.transport(B);
    let settings = client.settings.clone();
    let client = MimiClient::open(line.clone(), client.into_store(), settings, hub.clock()).unwrap();
    (client, line)
}

#[test]
fn a_receipt_that_waits_is_not_sent_if_the_policy_forbids_it_by_then() {
    let hub = MimiHub::new();
    let [mut alice, bob, _] = with_policy(&hub, Optionality::Required, Optionality::Optional, &obedient());
    let (mut bob, line) = on_a_line(&hub, bob);
    let id = say(&mut alice, "hello");
    sync(&mut bob);
    sync(&mut bob);
    bob.mark_read(&room(), &[id]).unwrap();
    let current_epoch = bob.group(&room()).unwrap().unwrap().epoch + 1;
    let late = SubmitMessageResponse::from(SubmitVerdict::EpochTooOld { current_epoch });
    line.answer(&late.to_bytes());
    sync(&mut bob);
    assert_eq!(Outgoing::all(bob.store.read()).unwrap().len(), 1);
    let forbids = StatusNotificationPolicy {
        delivery_notifications: Optionality::Required,
        read_receipts: Optionality::Forbidden,
    };
    let component = ComponentId::STATUS_NOTIFICATION_POLICY;
    now(alice.set_component(&room(), component, Some(forbids.to_bytes()))).unwrap();
    for _ in 0..3 {
        sync(&mut bob);
        hub.advance(Duration::from_mins(11));
    }
    assert!(Outgoing::all(bob.store.read()).unwrap().is_empty());
    assert_eq!(bob.next_due().unwrap(), None);
    sync(&mut alice);
    assert_eq!(status(&alice, &id, BOB), Some(MessageStatus::DELIVERED));
}

#[test]
fn a_receipt_that_the_hub_does_not_take_is_told_later() {
    let hub = MimiHub::new();
    let [mut alice, bob, _] = with_policy(&hub, Optionality::Required, Optionality::Required, &obedient());
    let (mut bob, line) = on_a_line(&hub, bob);
    let id = say(&mut alice, "hello");
    let refused = SubmitMessageResponse::from(SubmitVerdict::NotAllowed);
    for _ in 0..2 {
        line.answer(&refused.to_bytes());
        // It is tried once, and then after a while, as when the client is told to look.
        for _ in 0..5 {
            sync(&mut bob);
        }
        sync(&mut alice);
        assert_eq!(status(&alice, &id, BOB), None);
        let due = bob
            .next_due()
            .unwrap()
            .expect("it is to be told")
            .saturating_since(hub.clock()());
        assert!(due >= Duration::from_mins(5), "{due:?}");
        hub.advance(due);
    }
    sync(&mut bob);
    sync(&mut alice);
    assert_eq!(status(&alice, &id, BOB), Some(MessageStatus::DELIVERED));
    sync(&mut bob);
    assert_eq!(bob.next_due().unwrap(), None);
}

#[test]
fn what_another_client_told_leaves_nothing_behind_that_is_late() {
    let hub = MimiHub::new();
    let settings = MimiSettings {
        report_after: Duration::from_secs(60),
        ..obedient()
    };
    let [mut alice, mut bob, _] = with_policy(&hub, Optionality::Required, Optionality::Required, &settings);
    let mut second = client(&hub, B2);
    now(second.join(&room(), None, None)).unwrap();
    sync(&mut alice);
    sync(&mut bob);
    let id = say(&mut alice, "hello");
    sync(&mut bob);
    // The other one tells it at once, and this one has nothing to tell before it was read.
    sync(&mut second);
    sync(&mut bob);
    hub.advance(Duration::from_secs(59));
    bob.mark_read(&room(), &[id]).unwrap();
    sync(&mut bob);
    hub.advance(Duration::from_secs(2));
    sync(&mut bob);
    sync(&mut alice);
    assert_eq!(status(&alice, &id, BOB), Some(MessageStatus::DELIVERED));
    hub.advance(Duration::from_secs(59));
    sync(&mut bob);
    sync(&mut alice);
    assert_eq!(status(&alice, &id, BOB), Some(MessageStatus::READ));
}

#[test]
fn many_messages_are_in_one_report_and_one_waits_for_more() {
    let hub = MimiHub::new();
    let settings = MimiSettings {
        report_after: Duration::from_secs(2),
        ..obedient()
    };
    let [mut alice, mut bob, _] = with_policy(&hub, Optionality::Required, Optionality::Required, &settings);
    let mut ids = vec![say(&mut alice, "one")];
    sync(&mut bob);
    let due = bob.next_due().unwrap().expect("it is to be told");
    hub.advance(Duration::from_secs(1));
    ids.extend((2..20).map(|n| say(&mut alice, &n.to_string())));
    sync(&mut bob);
    bob.mark_read(&room(), &ids[..3]).unwrap();
    sync(&mut bob);
    sync(&mut alice);
    assert_eq!(reports(&alice, BOB), []);
    hub.advance(due.saturating_since(hub.clock()()));
    sync(&mut bob);
    sync(&mut alice);
    let mut told: Vec<_> = ids.iter().map(|id| (*id, MessageStatus::DELIVERED)).collect();
    for read in &mut told[..3] {
        read.1 = MessageStatus::READ;
    }
    assert_eq!(reports(&alice, BOB), [StatusReport::new(told)]);
    sync(&mut bob);
    assert_eq!(bob.next_due().unwrap(), None, "there is nothing more to tell");

    let too_many = vec![(ids[0], MessageStatus::READ); MAX_ENTRIES + 1];
    let refused = now(bob.report_status(&room(), &too_many)).unwrap_err();
    assert!(matches!(refused, MimiError::TooManyStatuses), "{refused}");
    let elsewhere = MessageId::from_bytes([1; 32]).unwrap();
    let refused = now(bob.report_status(&room(), &[(elsewhere, MessageStatus::READ)])).unwrap_err();
    assert!(matches!(refused, MimiError::NoSuchMessage), "{refused}");
}

#[test]
fn what_is_to_be_told_survives_a_restart_and_is_no_reason_to_commit_anything() {
    let hub = MimiHub::new();
    let settings = MimiSettings {
        report_after: Duration::from_secs(2),
        ..obedient()
    };
    let [mut alice, mut bob, mut cathy] = with_policy(&hub, Optionality::Required, Optionality::Required, &settings);
    let id = say(&mut alice, "hello");
    sync(&mut bob);
    let mut bob = MimiClient::open(hub.transport(B), bob.into_store(), settings, hub.clock()).unwrap();
    now(cathy.leave(&room())).unwrap();
    hub.advance(Duration::from_secs(3));
    sync(&mut bob);
    sync(&mut alice);
    assert_eq!(
        bob.group(&room()).unwrap().unwrap().pending,
        2,
        "it is for somebody else to commit"
    );
    assert_eq!(status(&alice, &id, BOB), None);
    now(alice.tend(&room())).unwrap();
    sync(&mut bob);
    sync(&mut alice);
    assert_eq!(status(&alice, &id, BOB), Some(MessageStatus::DELIVERED));
}

/// The user's clients speak for the user.
#[test]
fn what_one_client_has_told_and_read_the_user_s_others_need_not() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = with_policy(&hub, Optionality::Required, Optionality::Required, &obedient());
    let mut second = client(&hub, B2);
    now(second.join(&room(), None, None)).unwrap();
    for client in [&mut alice, &mut bob] {
        sync(client);
    }
    let id = say(&mut alice, "hello");
    sync(&mut bob);
    bob.mark_read(&room(), &[id]).unwrap();
    sync(&mut bob);
    sync(&mut second);
    assert!(second.item_of(&room(), &id).unwrap().unwrap().read_at.is_some());
    second.mark_read(&room(), &[id]).unwrap();
    sync(&mut second);
    sync(&mut alice);
    let told = reports(&alice, BOB);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(status(&alice, &id, BOB), Some(MessageStatus::READ));
    // What one of them could not read, another one has.
    now(second.report_status(&room(), &[(id, MessageStatus::ERROR)])).unwrap();
    sync(&mut alice);
    assert_eq!(status(&alice, &id, BOB), Some(MessageStatus::READ));
}

#[test]
fn a_message_that_was_decrypted_and_cannot_be_shown_is_an_error() {
    let hub = MimiHub::new();
    let [mut alice, mut bob, _] = with_policy(&hub, Optionality::Required, Optionality::Required, &obedient());
    let id = say(&mut alice, "in an hour");
    hub.alter_last(|fanout| fanout.timestamp += 3_600_000);
    sync(&mut bob);
    sync(&mut alice);
    assert_eq!(status(&alice, &id, BOB), Some(MessageStatus::ERROR));
}

#[test]
fn who_may_not_speak_reports_nothing_and_is_not_told_that_it_failed() {
    let hub = MimiHub::new();
    let [mut alice, mut bob] = [A, B].map(|name| client(&hub, name));
    let policy = StatusNotificationPolicy {
        delivery_notifications: Optionality::Required,
        read_receipts: Optionality::Required,
    };
    let mut lecture = NewRoom {
        role: 6,
        ..NewRoom::new(&room(), "Lecture", templates::moderated("a.example")).unwrap()
    };
    lecture
        .components
        .set(ComponentId::STATUS_NOTIFICATION_POLICY, policy.to_bytes());
    now(alice.create_room(&lecture)).unwrap();
    now(alice.add(&room(), &[(uri(BOB), 2)])).unwrap();
    sync(&mut bob);
    say(&mut alice, "Welcome");
    sync(&mut bob);
    sync(&mut bob);
    let failed = |notice: &MimiNotice| matches!(notice, MimiNotice::NotSent { .. });
    assert!(!notices(&mut bob).iter().any(failed));
    assert_eq!(bob.next_due().unwrap(), None);
    // If the hub does not take one, nobody has to know.
    let report = StatusReport::new(Vec::new()).to_part();
    let report: MimiContent = bob.compose(&room(), report).unwrap();
    bob.enqueue_message(&room(), &report).unwrap();
    sync(&mut bob);
    assert!(!notices(&mut bob).iter().any(failed));
}
