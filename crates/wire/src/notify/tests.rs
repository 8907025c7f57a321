//! What goes with each kind of message, and batches.

use super::*;
use crate::codec::Message;
use crate::testing::{APP_MESSAGE, app_message, assert_wire, fault, refused, unhex};

const TIME: &str = "0000000000000001";
const PROPOSAL: &str = "0001 0001 00 0000000000000007 02 00000000 00 02 0003 00000005 00";
const COMMIT: &str = "0001 0001 00 0000000000000007 04 00 03 00 00 00 00";
const WELCOME: &str = "0001 0003 0001 00 00";

fn read(text: &str) -> FanoutMessage {
    let bytes = unhex(text);
    let message = FanoutMessage::from_bytes(&bytes).unwrap();
    assert_eq!(message.to_bytes(), bytes);
    message
}

#[test]
fn an_application_message() {
    let message = FanoutMessage {
        timestamp: 1,
        message: Kept::new(app_message()),
        with: FanoutParts::Application { frank: None },
    };
    assert_wire(&message, &format!("{TIME} {APP_MESSAGE} 00"));
    let frank = format!("01 {} 0001 00", "5f".repeat(32));
    let message = read(&format!("{TIME} {APP_MESSAGE} {frank}"));
    assert!(matches!(message.with, FanoutParts::Application { frank: Some(_) }));
}

#[test]
fn a_welcome_comes_with_the_tree() {
    let message = read(&format!("{TIME} {WELCOME} 01 02 00 00"));
    let FanoutParts::Welcome {
        ratchet_tree_option: RatchetTreeOption::Full(tree),
    } = message.with
    else {
        panic!("not with a tree");
    };
    assert_eq!(tree, [None, None]);
}

#[test]
fn a_proposal_comes_with_others() {
    let length = unhex(PROPOSAL).len();
    let message = read(&format!("{TIME} {PROPOSAL} {length:02x} {PROPOSAL}"));
    assert!(matches!(message.with, FanoutParts::Proposal { more_proposals } if more_proposals.len() == 1));
}

#[test]
fn a_commit_comes_with_what_the_hub_proposes_anew() {
    let length = unhex(PROPOSAL).len();
    let message = read(&format!("{TIME} {COMMIT} {length:02x} {PROPOSAL}"));
    assert!(matches!(message.with, FanoutParts::Commit { external_proposals } if external_proposals.len() == 1));
    read(&format!("{TIME} {COMMIT} 00"));
}

#[test]
fn other_messages_are_not_fanned_out() {
    let group_info = "0001 0004 0001 0001 00 0000000000000000 00 00 00 00 00 00000000 00";
    let private_commit = "0001 0002 00 0000000000000000 03 00 00 00";
    let public_application = "0001 0001 00 0000000000000000 04 00 01 00 00";
    for (message, rule) in [
        (group_info, Rule::WireFormat { found: 4 }),
        (private_commit, Rule::ContentType { found: 3 }),
        (public_application, Rule::ContentType { found: 1 }),
    ] {
        assert_eq!(
            refused::<FanoutMessage>(&format!("{TIME} {message} 00")),
            (8, "message".to_owned(), rule)
        );
    }
}

#[test]
fn a_batch_is_messages_one_after_the_other() {
    let one = format!("{TIME} {APP_MESSAGE} 00");
    let two = format!("{one} {TIME} {COMMIT} 00");
    let batch = FanoutBatch::from_bytes(&unhex(&two)).unwrap();
    assert_eq!(batch.messages().len(), 2);
    assert_eq!(batch.to_bytes(), unhex(&two));
    assert_wire(&FanoutBatch::new(batch.messages()[..1].to_vec()).unwrap(), &one);
    // Cut off within the second.
    let bytes = unhex(&two);
    let error = FanoutBatch::from_bytes(&bytes[..unhex(&one).len() + 4]).unwrap_err();
    let rule = Rule::Truncated { needed: 8, left: 4 };
    assert_eq!(fault(&error), (unhex(&one).len(), "[1].timestamp".to_owned(), rule));
}

#[test]
fn a_batch_is_not_empty() {
    assert_eq!(FanoutBatch::new(Vec::new()), None);
    assert_eq!(refused::<FanoutBatch>("").1, "[0].timestamp");
}
