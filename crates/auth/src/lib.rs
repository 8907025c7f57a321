//! Who may do what in a room. Pure: the state comes in through a trait, the verdict goes out as a value.
//!
//! [`mimi`] decides by the policy of a MIMI room (draft-ietf-mimi-room-policy).
//!
//! [`lm`] holds the rules of Linearized Matrix (LM #int-auth-rules). Signatures are not its business: they were checked on the
//! way to the types of `nabe-event`.

pub mod fuzzing;
pub mod lm;
pub mod mimi;
