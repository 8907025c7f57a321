//! A room's MLS group as its servers see it (LM #int-mls-considerations): devices and their credentials
//! (LM #int-mls-credentials), key packages (LM #int-mls-key-packages), and the group's public side, which follows every
//! commit and holds no secret (LM #int-mls-add-remove). For the rooms of MIMI, whose groups are asked for more, there is [`mimi`].
//!
//! Nothing here knows a room's members, fetches or stores. A commit that passes [`HubGroup::stage`] is sound MLS and
//! says which devices it adds and removes; whether those may come and go is a question for the authorization rules.
//! The one thing not passed in as an argument is the clock that OpenMLS reads for itself when it looks at the lifetime of a
//! leaf; [`HubGroup`] says where.

mod codec;
mod credential;
mod device;
#[cfg(any(test, feature = "testing"))]
pub mod fuzzing;
mod group;
mod group_info;
mod key_package;
mod keys;
mod limits;
mod meanwhile;
pub mod mimi;
mod overdue;
mod provider;
mod refusal;
mod signatures;
mod stored;
mod suite;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod vectors;

pub use credential::{BasicCredential, CredentialError};
pub use device::{DeviceDraft, DeviceObject, DeviceObjectError, MAX_DEVICE_OBJECT_BYTES};
pub use group::{HubGroup, StagedChange};
pub use group_info::epoch_of_group_state;
pub use key_package::{
    KeyPackageError, KeyPackageInfo, LifetimeFault, MAX_KEY_PACKAGE_BYTES, MAX_LIFETIME, MIN_REMAINING_LIFETIME,
    check_key_package,
};
pub use limits::{MAX_GROUP_STATE_BYTES, MAX_MESSAGE_BYTES};
pub use meanwhile::Meanwhile;
pub use refusal::GroupRefusal;
pub use stored::RestoreError;
pub use suite::{CredentialAlgorithm, Suite, SuiteSet};
