//! How large what we are given may be.

use nabe_types::limits::MAX_EVENT_BYTES;

/// Largest commit in bytes. An event caps it far below (LM #int-pdu); this bounds whoever calls us with something else.
pub const MAX_MESSAGE_BYTES: usize = 32 * MAX_EVENT_BYTES;

/// Largest public group state in bytes: the tree of some 15,000 members. An event caps it far below (LM #int-pdu).
pub const MAX_GROUP_STATE_BYTES: usize = 96 * MAX_EVENT_BYTES;
