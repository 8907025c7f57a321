//! The MLS working group's test vectors, followed the way a hub follows a room.
//!
//! `passive-client-*.json` are traces of groups recorded by other implementations: a Welcome, and for each epoch the proposals
//! and the commit that ended it. A hub starts from the Welcome's GroupInfo and sees public messages only, and a member with the
//! vector's keys sees the same. Their members have no users and devices and send proposals by themselves, which no room takes
//! ([`crate::GroupRefusal`]); nor does a group state come with their commits. All else is [`crate::HubGroup`]'s own code.

use nabe_signing::{Json, Object};
use openmls::framing::ProcessedMessageContent;
use openmls::group::{
    JoinBuilder, MIXED_PLAINTEXT_WIRE_FORMAT_POLICY, MlsGroup, MlsGroupJoinConfig, ProcessedWelcome, StagedCommit,
};
use openmls::key_packages::KeyPackageBundle;
use openmls::prelude::{KeyPackage, MlsMessageBodyIn, MlsMessageIn, ProtocolVersion};
use openmls::schedule::PreSharedKeyId;
use openmls::treesync::RatchetTreeIn;
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider as _;
use openmls_traits::storage::StorageProvider as _;
use openmls_traits::types::HpkePrivateKey;
use tls_codec::Deserialize as _;

use crate::group::recording::RecordedGroup;
use crate::refusal::GroupRefusal;
use crate::stored::{RestoreError, decode, encode};
use crate::suite::Suite;

/// How one entry of a `passive-client-*.json` went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PassiveClient {
    /// Hub and member agreed at the start and after each of so many commits.
    Agreed {
        /// The commits.
        epochs: usize,
    },
    /// The entry is for a cipher suite that we cannot compute with.
    UnknownSuite {
        /// The suite's code point.
        id: u64,
    },
}

/// Where an entry failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VectorError {
    /// A field is missing, or not what the format prescribes.
    #[error("`{0}` is missing or malformed")]
    Field(&'static str),
    /// The member cannot join by the Welcome.
    #[error("the member cannot join")]
    Join,
    /// The hub does not take the Welcome's GroupInfo.
    #[error("the hub refuses the group info: {0}")]
    GroupInfo(GroupRefusal),
    /// The member refuses a message.
    #[error("the member refuses a message of epoch {0}")]
    Member(usize),
    /// The hub refuses a message.
    #[error("the hub refuses a message of epoch {0}: {1}")]
    Hub(usize, GroupRefusal),
    /// The member's epoch authenticator is not the vector's.
    #[error("the epoch authenticator differs after epoch {0}")]
    Authenticator(usize),
    /// The hub's tree hash or transcript is not the member's.
    #[error("hub and member differ after epoch {0}")]
    Context(usize),
    /// The hub counts others as members than the member does.
    #[error("hub and member disagree who is a member after epoch {0}")]
    Members(usize),
    /// A change does not survive being stored.
    #[error("the change of epoch {0} does not survive being stored: {1}")]
    Stored(usize, RestoreError),
    /// A hub that was restored is not the one that was stored.
    #[error("the group after epoch {0} is another one when restored")]
    Restored(usize),
}

/// Follows one entry of `passive-client-welcome.json`, `passive-client-handling-commit.json` or `passive-client-random.json`.
///
/// There are two hubs. One goes on from its own checkpoint after each commit, the other one is only given what the first one stored, as after
/// a restart; they must be the same.
pub fn verify_passive_client(entry: &Json) -> Result<PassiveClient, VectorError> {
    let entry = entry.as_object().ok_or(VectorError::Field("entry"))?;
    let id = entry.get("cipher_suite").and_then(Json::as_i64);
    let id = id
        .and_then(|id| u64::try_from(id).ok())
        .ok_or(VectorError::Field("cipher_suite"))?;
    if u16::try_from(id).ok().and_then(Suite::from_id).is_none() {
        return Ok(PassiveClient::UnknownSuite { id });
    }
    let (mut member, mut hub) = join(entry)?;
    let mut restarted = hub.restored().map_err(|error| VectorError::Stored(0, error))?;
    let authenticator = bytes(entry, "initial_epoch_authenticator")?;
    if member.group.epoch_authenticator().as_slice() != authenticator {
        return Err(VectorError::Authenticator(0));
    }
    let epochs = array(entry, "epochs")?;
    for (number, epoch) in epochs.iter().enumerate() {
        let epoch = epoch.as_object().ok_or(VectorError::Field("epochs"))?;
        for proposal in array(epoch, "proposals")? {
            let proposal = from_hex(proposal).ok_or(VectorError::Field("proposals"))?;
            member.propose(&proposal).ok_or(VectorError::Member(number))?;
            hub.propose(&proposal)
                .map_err(|refusal| VectorError::Hub(number, refusal))?;
        }
        let commit = bytes(epoch, "commit")?;
        let by_member = member.stage(&commit).ok_or(VectorError::Member(number))?;
        let by_hub = hub
            .stage(&commit)
            .map_err(|refusal| VectorError::Hub(number, refusal))?;
        let context = by_member.group_context().clone();
        member.merge(by_member).ok_or(VectorError::Member(number))?;
        let stored = |error| VectorError::Stored(number, error);
        hub.replay(&by_hub.bytes).map_err(stored)?;
        restarted.replay(&by_hub.bytes).map_err(stored)?;
        if hub.context() != &context || by_hub.epoch != context.epoch().as_u64() {
            return Err(VectorError::Context(number));
        }
        let leaves = member.group.members().map(|member| member.index.u32());
        if !leaves.eq(hub.members().map(|member| member.leaf)) {
            return Err(VectorError::Members(number));
        }
        hub = hub.restored().map_err(stored)?;
        if hub != restarted {
            return Err(VectorError::Restored(number));
        }
        if member.group.epoch_authenticator().as_slice() != bytes(epoch, "epoch_authenticator")? {
            return Err(VectorError::Authenticator(number));
        }
    }
    Ok(PassiveClient::Agreed { epochs: epochs.len() })
}

/// A member with the vector's keys.
struct Member {
    provider: OpenMlsRustCrypto,
    group: MlsGroup,
}

impl Member {
    fn propose(&mut self, message: &[u8]) -> Option<()> {
        match self.process(message)? {
            ProcessedMessageContent::ProposalMessage(proposal)
            | ProcessedMessageContent::ExternalJoinProposalMessage(proposal) => {
                let storage = self.provider.storage();
                self.group.store_pending_proposal(storage, *proposal).ok()
            }
            _ => None,
        }
    }

    fn stage(&mut self, message: &[u8]) -> Option<StagedCommit> {
        match self.process(message)? {
            ProcessedMessageContent::StagedCommitMessage(staged) => Some(*staged),
            _ => None,
        }
    }

    fn merge(&mut self, staged: StagedCommit) -> Option<()> {
        self.group.merge_staged_commit(&self.provider, staged).ok()
    }

    fn process(&mut self, message: &[u8]) -> Option<ProcessedMessageContent> {
        let message = MlsMessageIn::tls_deserialize_exact(message).ok()?;
        let message = message.try_into_protocol_message().ok()?;
        let processed = self.group.process_message(&self.provider, message);
        processed.ok().map(openmls::framing::ProcessedMessage::into_content)
    }
}

fn join(entry: &Object) -> Result<(Member, RecordedGroup), VectorError> {
    let provider = OpenMlsRustCrypto::default();
    for psk in array(entry, "external_psks")? {
        let psk = psk.as_object().ok_or(VectorError::Field("external_psks"))?;
        PreSharedKeyId::external(bytes(psk, "psk_id")?, Vec::new())
            .store(&provider, &bytes(psk, "psk")?)
            .map_err(|_| VectorError::Join)?;
    }
    store_keys(&provider, entry)?;
    let tree = match entry.get("ratchet_tree") {
        None | Some(Json::Null) => None,
        Some(tree) => {
            let tree = from_hex(tree).ok_or(VectorError::Field("ratchet_tree"))?;
            Some(RatchetTreeIn::tls_deserialize_exact(&tree).map_err(|_| VectorError::Field("ratchet_tree"))?)
        }
    };
    let MlsMessageBodyIn::Welcome(welcome) = message(entry, "welcome")? else {
        return Err(VectorError::Field("welcome"));
    };
    let config = MlsGroupJoinConfig::builder()
        .use_ratchet_tree_extension(true)
        .wire_format_policy(MIXED_PLAINTEXT_WIRE_FORMAT_POLICY)
        .number_of_resumption_psks(RESUMPTION_PSKS)
        .build();
    let welcome = ProcessedWelcome::new_from_welcome(&provider, &config, welcome).map_err(|_| VectorError::Join)?;
    let info = welcome.unverified_group_info().clone();
    let mut builder = JoinBuilder::new(&provider, welcome).skip_lifetime_validation();
    if let Some(tree) = tree.clone() {
        builder = builder.with_ratchet_tree(tree);
    }
    let group = builder
        .build()
        .and_then(|staged| staged.into_group(&provider))
        .map_err(|_| VectorError::Join)?;
    let hub = RecordedGroup::begin(&info, tree).map_err(VectorError::GroupInfo)?;
    Ok((Member { provider, group }, hub))
}

/// Puts the key package with its private keys where OpenMLS looks for them. It has no constructor for that, but its types can be
/// decoded: a structure in postcard is its fields one after the other.
fn store_keys(provider: &OpenMlsRustCrypto, entry: &Object) -> Result<(), VectorError> {
    let malformed = |_| VectorError::Field("key_package");
    let MlsMessageBodyIn::KeyPackage(package) = message(entry, "key_package")? else {
        return Err(VectorError::Field("key_package"));
    };
    let package: KeyPackage = package
        .validate(provider.crypto(), ProtocolVersion::Mls10)
        .map_err(|_| VectorError::Field("key_package"))?;
    let init = HpkePrivateKey::from(bytes(entry, "init_priv")?);
    let encryption = HpkePrivateKey::from(bytes(entry, "encryption_priv")?);
    let bundle = [encode(&package), encode(&init), encode(&encryption)].concat();
    let bundle: KeyPackageBundle = decode(&bundle).map_err(malformed)?;
    let reference = package
        .hash_ref(provider.crypto())
        .map_err(|_| VectorError::Field("key_package"))?;
    let stored = provider.storage().write_key_package(&reference, &bundle);
    stored.map_err(|_| VectorError::Join)
}

fn message(object: &Object, name: &'static str) -> Result<MlsMessageBodyIn, VectorError> {
    let message = MlsMessageIn::tls_deserialize_exact(bytes(object, name)?);
    message.map(MlsMessageIn::extract).map_err(|_| VectorError::Field(name))
}

fn array<'o>(object: &'o Object, name: &'static str) -> Result<&'o [Json], VectorError> {
    object
        .get(name)
        .and_then(Json::as_array)
        .ok_or(VectorError::Field(name))
}

fn bytes(object: &Object, name: &'static str) -> Result<Vec<u8>, VectorError> {
    object.get(name).and_then(from_hex).ok_or(VectorError::Field(name))
}

fn from_hex(value: &Json) -> Option<Vec<u8>> {
    let digits = value.as_str()?.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// As many as the vectors reach back.
const RESUMPTION_PSKS: usize = 16;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::group::HubGroup;

    #[test]
    fn a_hub_follows_commits_of_other_implementations() {
        let Some(entries) = shared("passive-client-handling-commit.json") else {
            return;
        };
        let followed = follow_all(&entries);
        assert_eq!(followed, (3 * 13, 2 * 3 * 13));
    }

    #[test]
    fn a_hub_follows_two_hundred_epochs_of_random_commits() {
        let Some(entries) = shared("passive-client-random.json") else {
            return;
        };
        assert_eq!(follow_all(&entries), (1, 200));
    }

    #[test]
    fn a_recorded_group_is_no_rooms() {
        let Some(entries) = shared("passive-client-handling-commit.json") else {
            return;
        };
        let (_, hub) = join(entries[0].as_object().unwrap()).unwrap();
        assert_eq!(HubGroup::restore(&hub.checkpoint()), Err(RestoreError::Malformed));
        assert!(hub.members().len() > 0);
    }

    #[test]
    fn a_trace_that_was_tampered_with_is_noticed() {
        let Some(mut entries) = shared("passive-client-handling-commit.json") else {
            return;
        };
        let Json::Object(entry) = &mut entries[0] else {
            panic!("an entry is an object");
        };
        let Some(Json::Array(epochs)) = entry.get_mut("epochs") else {
            panic!("epochs are an array");
        };
        let Json::Object(second) = &mut epochs[1] else {
            panic!("an epoch is an object");
        };
        let commit = second.get("commit").unwrap().as_str().unwrap().to_owned();
        let at = commit.len() / 2;
        let flipped = if &commit[at..=at] == "0" { "1" } else { "0" };
        second.insert("commit", format!("{}{flipped}{}", &commit[..at], &commit[at + 1..]));
        assert_eq!(verify_passive_client(&entries[0]), Err(VectorError::Member(1)));

        let entry = entries[0].as_object().unwrap();
        let (_, mut hub) = join(entry).unwrap();
        let commits = array(entry, "epochs").unwrap().iter();
        let mut commits = commits.map(|epoch| bytes(epoch.as_object().unwrap(), "commit").unwrap());
        let change = hub.stage(&commits.next().unwrap()).unwrap();
        hub.replay(&change.bytes).unwrap();
        assert!(hub.stage(&commits.next().unwrap()).is_err(), "nor does a hub take it");
    }

    /// How many entries and commits were followed, of the suites that we have.
    fn follow_all(entries: &[Json]) -> (usize, usize) {
        let mut followed = (0, 0);
        for (number, entry) in entries.iter().enumerate() {
            match verify_passive_client(entry) {
                Ok(PassiveClient::Agreed { epochs }) => followed = (followed.0 + 1, followed.1 + epochs),
                Ok(PassiveClient::UnknownSuite { id }) => assert!((4..=7).contains(&id)),
                Err(error) => panic!("entry {number}: {error}"),
            }
        }
        followed
    }

    /// Reads a vector file of the shared folder; `None`, after saying why, when it is not there.
    fn shared(file: &str) -> Option<Vec<Json>> {
        let workspace = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let folder = std::env::var_os("NABE_SHARED")
            .map_or_else(|| workspace.join("../shared"), |folder| workspace.join(folder));
        let file = folder.join("vectors/mls").join(file);
        match std::fs::read(&file) {
            Ok(bytes) => Json::parse(&bytes).unwrap().into_array(),
            Err(error) => {
                let required = std::env::var_os("NABE_REQUIRE_ALL").is_some_and(|value| value == "1");
                assert!(
                    !required,
                    "{} is missing and NABE_REQUIRE_ALL=1: {error}",
                    file.display()
                );
                println!("SKIPPED: {}: {error}", file.display());
                None
            }
        }
    }
}
