//! The order by itself, with messages that are nothing but their place.

use nabe_store::{OpenForward, WaitingMessage};
use nabe_types::LogPosition;
use nabe_wire::mls::{CipherSuite, PrivateMessage, RatchetTreeOption, Welcome};

use super::*;

const BOB: &str = "mimi://b.example/u/bob";

fn uri(text: &str) -> MimiUri {
    MimiUri::parse(text).unwrap()
}

/// A message of this kind and epoch; the number makes it another one.
fn message(kind: MessageKind, epoch: u64, number: u64) -> FanoutMessage {
    let (content_type, with) = match kind {
        MessageKind::Application => (ContentType::APPLICATION, FanoutParts::Application { frank: None }),
        MessageKind::Proposal => (
            ContentType::PROPOSAL,
            FanoutParts::Proposal {
                more_proposals: Vec::new(),
            },
        ),
        MessageKind::Commit => (
            ContentType::COMMIT,
            FanoutParts::Commit {
                external_proposals: Vec::new(),
            },
        ),
    };
    FanoutMessage {
        timestamp: number,
        message: Kept::new(MlsMessage {
            body: MlsMessageBody::Private(PrivateMessage {
                group_id: b"group".as_slice().into(),
                epoch,
                content_type,
                authenticated_data: b"".as_slice().into(),
                encrypted_sender_data: b"".as_slice().into(),
                ciphertext: number.to_be_bytes().as_slice().into(),
            }),
        }),
        with,
    }
}

fn text(epoch: u64, number: u64) -> FanoutMessage {
    message(MessageKind::Application, epoch, number)
}

fn commit(epoch: u64, number: u64) -> FanoutMessage {
    message(MessageKind::Commit, epoch, number)
}

fn open(kind: MessageKind, epoch: u64) -> OpenForward {
    OpenForward {
        room: uri("mimi://a.example/r/a"),
        request: [0; 32],
        hub: ServerName::parse("a.example").unwrap(),
        kind,
        epoch,
        joins_from: None,
        next_attempt: UnixMillis::ZERO,
    }
}

fn waiting(number: i64, message: &FanoutMessage) -> WaitingMessage {
    let place = Place::of(&message.message).unwrap();
    WaitingMessage {
        number,
        kind: place.kind,
        epoch: place.epoch,
        accepted: UnixMillis::new(message.timestamp),
        since: UnixMillis::ZERO,
        body: message.to_bytes().into(),
    }
}

fn order(epoch: Option<u64>) -> LocalOrder {
    LocalOrder {
        epoch,
        head: LogPosition(9),
        has_log: true,
        readers: BTreeSet::from([uri(BOB)]),
        waiting: Vec::new(),
        open: Vec::new(),
    }
}

fn sequence(order: LocalOrder) -> Sequence {
    Sequence::new(order, BTreeSet::new())
}

/// Numbers of what comes into the log, in its order.
fn numbers(sequence: &Sequence) -> Vec<u64> {
    // A `FanoutMessage` begins with its timestamp.
    let number = |message: &NewLocalMessage| u64::from_be_bytes(message.body[..8].try_into().unwrap());
    sequence.comes.iter().map(number).collect()
}

#[test]
fn what_is_notified_waits_for_an_open_commit_of_an_epoch_before_it() {
    for (kind, notified, is_held) in [
        (MessageKind::Commit, text(5, 1), false),
        (MessageKind::Commit, commit(5, 1), false),
        (MessageKind::Commit, text(6, 1), true),
        (MessageKind::Commit, commit(6, 1), true),
        (MessageKind::Proposal, text(5, 1), false),
        (MessageKind::Proposal, message(MessageKind::Proposal, 5, 1), false),
        (MessageKind::Proposal, commit(5, 1), true),
        (MessageKind::Proposal, text(6, 1), true),
        (MessageKind::Application, commit(5, 1), false),
        (MessageKind::Application, text(6, 1), false),
    ] {
        for reached in [None, Some(5)] {
            let mut order = order(reached);
            order.open.push(open(kind, 5));
            let held = sequence(order.clone()).notified(&notified, [], true);
            assert_eq!(held.is_err(), is_held, "{kind} {notified:?}");
            assert_eq!(sequence(order).notified(&notified, [], false), Ok(()));
        }
    }
}

#[test]
fn a_welcome_waits_for_an_open_commit_that_it_may_belong_to() {
    let welcome = |number| FanoutMessage {
        timestamp: number,
        message: Kept::new(MlsMessage {
            body: MlsMessageBody::Welcome(Box::new(Kept::new(Welcome {
                cipher_suite: CipherSuite(1),
                secrets: Vec::new(),
                encrypted_group_info: b"".as_slice().into(),
            }))),
        }),
        with: FanoutParts::Welcome {
            ratchet_tree_option: RatchetTreeOption::Full(Vec::new()),
        },
    };
    let with = |kind, epoch| {
        let mut order = order(Some(5));
        order.open.push(open(kind, epoch));
        order
    };
    for (kind, epoch, is_held) in [
        (MessageKind::Commit, 5, true),
        (MessageKind::Commit, 6, true),
        (MessageKind::Commit, 4, false),
        (MessageKind::Proposal, 5, false),
    ] {
        let notified = sequence(with(kind, epoch)).notified(&welcome(1), [], true);
        assert_eq!(notified.is_err(), is_held, "{kind:?} {epoch}");
    }
    let impatient = sequence(with(MessageKind::Commit, 5)).notified(&welcome(1), [], false);
    assert_eq!(impatient, Ok(()));
    let mut unread = with(MessageKind::Commit, 5);
    unread.readers.clear();
    assert_eq!(sequence(unread).notified(&welcome(1), [], true), Ok(()));
}

#[test]
fn an_open_commit_of_an_epoch_that_is_over_holds_nothing() {
    let mut order = order(Some(5));
    order.open.push(open(MessageKind::Commit, 5));
    let mut sequence = sequence(order);
    // Somebody else's commit came first, or ours came back.
    assert_eq!(sequence.notified(&commit(5, 1), [], true), Ok(()));
    assert_eq!(sequence.notified(&text(6, 2), [], true), Ok(()));
    assert_eq!(numbers(&sequence), [1, 2]);
}

#[test]
fn what_was_accepted_waits_for_its_epoch() {
    let mut ahead = sequence(order(Some(5)));
    ahead.accepted(&commit(6, 3), false);
    assert!(ahead.comes.is_empty() && ahead.waits.is_some());
    for at_once in [commit(5, 3), text(4, 3)] {
        let mut sequence = sequence(order(Some(5)));
        sequence.accepted(&at_once, false);
        assert_eq!(numbers(&sequence), [3]);
    }
    let mut unknown = sequence(order(None));
    unknown.accepted(&commit(6, 3), false);
    assert_eq!((numbers(&unknown), unknown.order.epoch), (vec![3], Some(7)));
}

#[test]
fn what_waits_comes_when_its_epoch_has_come() {
    let mut order = order(Some(5));
    order.waiting = vec![
        waiting(1, &commit(6, 30)),
        waiting(2, &text(7, 50)),
        waiting(3, &text(6, 20)),
        waiting(4, &text(9, 60)),
    ];
    let mut sequence = sequence(order);
    assert_eq!(sequence.notified(&commit(5, 10), [], true), Ok(()));
    // In its epoch the commit is last.
    assert_eq!(numbers(&sequence), [10, 20, 30, 50]);
    assert_eq!(sequence.order.epoch, Some(7));
    assert_eq!(sequence.ended, [3, 1, 2]);
}

#[test]
fn what_is_missing_when_something_later_is_notified_does_not_come() {
    let mut order = order(Some(5));
    order.waiting = vec![waiting(1, &commit(7, 30)), waiting(2, &commit(8, 50))];
    let mut sequence = sequence(order);
    assert_eq!(sequence.notified(&text(8, 40), [], true), Ok(()));
    assert_eq!(numbers(&sequence), [30, 40, 50]);
}

#[test]
fn whoever_comes_when_nobody_reads_the_room_waits_for_no_epoch() {
    let mut order = order(Some(5));
    order.readers.clear();
    order.waiting = vec![waiting(1, &text(6, 20))];
    let mut joins = sequence(order.clone());
    joins.accepted(&commit(20, 30), true);
    assert_eq!((numbers(&joins), joins.order.epoch), (vec![20, 30], Some(21)));
    // Of somebody else it is a commit like others.
    order.readers.insert(uri(BOB));
    let mut joins = sequence(order);
    joins.accepted(&commit(20, 30), true);
    assert!(joins.comes.is_empty());
}

#[test]
fn only_so_much_waits() {
    let mut order = order(Some(5));
    let number = |n: usize| i64::try_from(n).unwrap();
    order.waiting = (0..MAX_WAITING).map(|n| waiting(number(n), &text(7, 1))).collect();
    let mut sequence = sequence(order);
    sequence.accepted(&text(8, 2), false);
    assert!(sequence.waits.is_none());
    assert_eq!(sequence.comes.len(), MAX_WAITING + 1);
    assert_eq!(numbers(&sequence).last(), Some(&2));
}
