//! Bodies of the fuzz targets: each takes any bytes and panics when an invariant breaks. One is about this crate alone,
//! the other compares it with OpenMLS, which has its own types for the MLS that MIMI carries.

use std::cell::Cell;
use std::sync::LazyLock;

use openmls::component::{ComponentData, ComponentsList as TheirComponentsList};
use openmls::extensions::{AppDataDictionary as TheirDictionary, AppDataDictionaryExtension};
use openmls::messages::group_info::VerifiableGroupInfo;
use openmls::messages::proposals::{AppDataUpdateProposal, AppEphemeralProposal};
use openmls::messages::proposals_in::ProposalIn;
use openmls::prelude::{
    BasicCredential, Capabilities as TheirCapabilities, Ciphersuite, Credential as TheirCredential, CredentialWithKey,
    Extension as TheirExtension, ExtensionType as TheirExtensionType, Extensions,
    ExternalSender as TheirExternalSender, GroupContext as TheirGroupContext, KeyPackage as TheirKeyPackage,
    KeyPackageIn, LeafNode as TheirLeafNode, MlsGroup, MlsMessageIn, MlsMessageOut, PURE_PLAINTEXT_WIRE_FORMAT_POLICY,
    PrivateMessageIn, ProposalType as TheirProposalType, ProtocolVersion as TheirVersion, PublicMessageIn,
    RatchetTreeIn, RequiredCapabilitiesExtension, SafeAad as TheirSafeAad, Welcome as TheirWelcome,
};
use openmls::schedule::PreSharedKeyId as TheirPreSharedKeyId;
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider;
use openmls_traits::types::HpkeCiphertext as TheirHpkeCiphertext;
use tls_codec::{DeserializeBytes, Serialize};

use crate::KINDS;
use crate::codec::{Decode, Encode, Reader};
use crate::mls::{
    Capabilities, ComponentId, Credential, ExternalSender, GroupContext, GroupInfo, HpkeCiphertext, KeyPackage,
    MlsMessage, PreSharedKeyId, PrivateMessage, Proposal, PublicMessage, RatchetTree, RequiredCapabilities, Welcome,
};

/// Any bytes as any struct: the first byte says which. What reads writes the same bytes, and what does not says where
/// it breaks; every field that was read lies within its struct.
pub fn structs(data: &[u8]) {
    let Some((&which, bytes)) = data.split_first() else {
        return;
    };
    let kind = &KINDS[usize::from(which) % KINDS.len()];
    let reading = kind.read(bytes);
    for entry in reading.trace.entries() {
        assert!(entry.offset + entry.length <= bytes.len(), "{kind:?}: {entry:?}");
    }
    match reading.encoded {
        Ok(encoded) => assert_eq!(encoded, bytes, "{kind:?} writes what it read"),
        Err(error) => assert!(error.offset() <= bytes.len(), "{kind:?}: {error}"),
    }
}

/// Any bytes, and changes to honest ones, as each struct that OpenMLS knows too. What OpenMLS reads we read, as long
/// and with the same bytes. The other way round it reads less, since it looks at meanings as well.
pub fn against_openmls(data: &[u8]) {
    compare_all(data);
    let Some((&which, changes)) = data.split_first() else {
        return;
    };
    let seeds = &HONEST.seeds;
    let mut bytes = seeds[usize::from(which) % seeds.len()].clone();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] = change[2];
    }
    compare_all(&bytes);
}

/// Compares the two readers on `bytes` as every struct that both know.
pub(crate) fn compare_all(bytes: &[u8]) {
    compare::<MlsMessage, MlsMessageIn>(bytes);
    compare::<KeyPackage, KeyPackageIn>(bytes);
    compare::<GroupInfo, VerifiableGroupInfo>(bytes);
    compare::<Welcome, TheirWelcome>(bytes);
    compare::<RatchetTree, RatchetTreeIn>(bytes);
    compare::<Credential, TheirCredential>(bytes);
    compare::<crate::app_data::SafeAad, TheirSafeAad>(bytes);
    compare::<crate::app_data::AppDataDictionary, TheirDictionary>(bytes);
    compare::<crate::app_data::ComponentsList, TheirComponentsList>(bytes);
    compare::<crate::mls::AppDataUpdate, AppDataUpdateProposal>(bytes);
    compare::<crate::mls::AppEphemeral, AppEphemeralProposal>(bytes);
    compare::<Proposal, ProposalIn>(bytes);
    compare::<PublicMessage, PublicMessageIn>(bytes);
    compare::<PrivateMessage, PrivateMessageIn>(bytes);
    compare::<GroupContext, TheirGroupContext>(bytes);
    compare::<Capabilities, TheirCapabilities>(bytes);
    compare::<RequiredCapabilities, RequiredCapabilitiesExtension>(bytes);
    compare::<ExternalSender, TheirExternalSender>(bytes);
    compare::<PreSharedKeyId, TheirPreSharedKeyId>(bytes);
    compare::<HpkeCiphertext, TheirHpkeCiphertext>(bytes);
}

fn compare<Ours: Decode + Encode, Theirs: DeserializeBytes + Serialize>(bytes: &[u8]) {
    let Some(Ok((theirs, rest))) = undisturbed(|| Theirs::tls_deserialize_bytes(bytes)) else {
        return;
    };
    let read = bytes.len() - rest.len();
    let again = theirs.tls_serialize_detached().expect("what was read can be written");
    // OpenMLS reads some things more loosely than RFC 9420 and writes them otherwise; that is no encoding of anything.
    if again != bytes[..read] {
        return;
    }
    let mut reader = Reader::new(bytes);
    match Ours::decode(&mut reader) {
        Ok(ours) => {
            assert_eq!(reader.position(), read, "both end at the same byte");
            assert_eq!(ours.to_bytes(), again, "both write the same");
        }
        // OpenMLS takes the certificates of a credential for any bytes.
        Err(error) if error.field().contains("certificates") => {}
        Err(error) => panic!("{} reads and we do not: {error}", std::any::type_name::<Theirs>()),
    }
}

/// The outcome, or nothing if it panics: with debug assertions OpenMLS's codec panics where it would refuse an
/// input that ends too early.
fn undisturbed<T>(read: impl FnOnce() -> T) -> Option<T> {
    if !cfg!(debug_assertions) {
        return Some(read());
    }
    QUIET.with(|quiet| quiet.set(true));
    LazyLock::force(&HOOK);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
    QUIET.with(|quiet| quiet.set(false));
    outcome.ok()
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Says nothing about panics that are expected, and what is usual about others.
static HOOK: LazyLock<()> = LazyLock::new(|| {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !QUIET.with(Cell::get) {
            usual(info);
        }
    }));
});

/// Honest messages, as OpenMLS writes them: one member adds another and changes the data of a component.
pub struct Honest {
    /// Of the member that is added: a bare `KeyPackage`.
    pub key_package: Vec<u8>,
    /// An `MLSMessage`.
    pub commit: Vec<u8>,
    /// A bare `Welcome`.
    pub welcome: Vec<u8>,
    /// Of the epoch that the commit begins: a bare `GroupInfo` without the tree.
    pub group_info: Vec<u8>,
    /// Of a later epoch.
    pub tree: Vec<u8>,
    /// The key that signs `group_info`.
    pub committer_key: Vec<u8>,
    seeds: Vec<Vec<u8>>,
}

/// Made once.
pub static HONEST: LazyLock<Honest> = LazyLock::new(Honest::generate);

struct Client {
    provider: OpenMlsRustCrypto,
    keys: SignatureKeyPair,
    credential: CredentialWithKey,
}

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

impl Client {
    fn new(uri: &str) -> Self {
        let keys = SignatureKeyPair::new(SUITE.signature_algorithm()).expect("key generation works");
        let credential = CredentialWithKey {
            credential: BasicCredential::new(uri.into()).into(),
            signature_key: keys.public().into(),
        };
        Self {
            provider: OpenMlsRustCrypto::default(),
            keys,
            credential,
        }
    }

    fn key_package(&self) -> TheirKeyPackage {
        let bundle = TheirKeyPackage::builder()
            .leaf_node_capabilities(capabilities())
            .leaf_node_extensions(leaf_extensions())
            .build(SUITE, &self.provider, &self.keys, self.credential.clone());
        bundle.expect("the parts fit").key_package().clone()
    }
}

fn capabilities() -> TheirCapabilities {
    TheirCapabilities::new(
        None,
        Some(&[SUITE]),
        Some(&[TheirExtensionType::AppDataDictionary]),
        Some(&[TheirProposalType::AppDataUpdate, TheirProposalType::SelfRemove]),
        None,
    )
}

fn leaf_extensions() -> Extensions<TheirLeafNode> {
    Extensions::single(TheirExtension::AppDataDictionary(dictionary())).expect("a leaf may have a dictionary")
}

fn dictionary() -> AppDataDictionaryExtension {
    let components = [ComponentId::APP_COMPONENTS.0, ComponentId::PARTICIPANT_LIST.0];
    let list = TheirComponentsList::new(components.to_vec());
    let mut dictionary = TheirDictionary::new();
    dictionary.insert(
        ComponentId::APP_COMPONENTS.0,
        list.tls_serialize_detached().expect("a short list"),
    );
    AppDataDictionaryExtension::new(dictionary)
}

fn bytes_of(value: &impl Serialize) -> Vec<u8> {
    value.tls_serialize_detached().expect("an honest value can be written")
}

/// The bytes of the first struct in some.
fn beginning<T: Decode>(bytes: &[u8]) -> Vec<u8> {
    let mut reader = Reader::new(bytes);
    T::decode(&mut reader).expect("it begins with one");
    reader.since(0).to_vec()
}

impl Honest {
    fn generate() -> Self {
        let (alice, bob) = (
            Client::new("mimi://a.example/d/alice/1"),
            Client::new("mimi://b.example/d/bob/1"),
        );
        let context = Extensions::single(TheirExtension::AppDataDictionary(dictionary())).expect("so may a group");
        let mut group = MlsGroup::builder()
            .ciphersuite(SUITE)
            .with_capabilities(capabilities())
            .with_leaf_node_extensions(leaf_extensions())
            .expect("a founder may have a dictionary")
            .with_group_context_extensions(context)
            .use_ratchet_tree_extension(false)
            .with_wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
            .build(&alice.provider, &alice.keys, alice.credential.clone())
            .expect("a group of one");

        let key_package = bob.key_package();
        let update = AppDataUpdateProposal::update(ComponentId::PARTICIPANT_LIST.0, b"+bob".to_vec());
        let mut stage = group
            .commit_builder()
            .propose_adds([key_package.clone()])
            .add_proposal(openmls::prelude::Proposal::AppDataUpdate(Box::new(update)))
            .load_psks(alice.provider.storage())
            .expect("there are none");
        let mut updater = stage.app_data_dictionary_updater();
        updater.set(ComponentData::from_parts(
            ComponentId::PARTICIPANT_LIST.0,
            b"alice, bob".to_vec().into(),
        ));
        stage.with_app_data_dictionary_updates(updater.changes());
        let bundle = stage
            .create_group_info(true)
            .build(alice.provider.rand(), alice.provider.crypto(), &alice.keys, |_| true)
            .map(|stage| stage.stage_commit(&alice.provider))
            .expect("an honest commit")
            .expect("an honest commit");
        let (commit, welcome, group_info) = bundle.into_contents();
        group.merge_pending_commit(&alice.provider).expect("one's own commit");
        let (welcome, group_info) = (welcome.expect("bob is new"), group_info.expect("it was asked for"));
        let application = group.create_message(&alice.provider, &alice.keys, b"hello");
        let proposal = group.propose_self_update(
            &alice.provider,
            &alice.keys,
            openmls::prelude::LeafNodeParameters::default(),
        );

        let messages = [
            bytes_of(&commit),
            bytes_of(&MlsMessageOut::from_welcome(welcome.clone(), TheirVersion::Mls10)),
            bytes_of(&MlsMessageOut::from(key_package.clone())),
            bytes_of(&application.expect("a member may speak")),
            bytes_of(&proposal.expect("a member may propose").0),
            bytes_of(
                &group
                    .export_group_info(alice.provider.crypto(), &alice.keys, true)
                    .expect("a member may"),
            ),
        ];
        let parts = [
            bytes_of(&key_package),
            bytes_of(&welcome),
            bytes_of(&group_info),
            bytes_of(&group.export_ratchet_tree()),
            bytes_of(key_package.leaf_node()),
            beginning::<GroupContext>(&bytes_of(&group_info)),
            bytes_of(&openmls::prelude::Proposal::AppDataUpdate(Box::new(
                AppDataUpdateProposal::update(ComponentId::PARTICIPANT_LIST.0, b"-bob".to_vec()),
            ))),
        ];
        let [commit, ..] = messages.clone();
        let [key_package, welcome, group_info, tree, ..] = parts.clone();
        Self {
            key_package,
            commit,
            welcome,
            group_info,
            tree,
            committer_key: alice.keys.public().to_vec(),
            seeds: messages.into_iter().chain(parts).collect(),
        }
    }

    /// Everything above, an application message, a proposal, a GroupInfo with the tree; a leaf, a context and a proposal by themselves.
    pub fn seeds(&self) -> &[Vec<u8>] {
        &self.seeds
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_keep_the_word_of_every_struct(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for which in 0..KINDS.len() {
                let mut data = vec![u8::try_from(which).unwrap()];
                data.extend_from_slice(&bytes);
                structs(&data);
            }
        }

        #[test]
        fn any_changes_to_honest_messages_read_the_same(data in proptest::collection::vec(any::<u8>(), 1..20)) {
            against_openmls(&data);
        }
    }

    #[test]
    fn honest_messages_read_the_same() {
        for seed in HONEST.seeds() {
            compare_all(seed);
            let message = MlsMessageIn::tls_deserialize_exact_bytes(seed).is_ok();
            let ours = crate::label::decode_all::<MlsMessage>(seed).is_ok();
            assert!(ours || !message);
        }
        assert!(crate::label::decode_all::<MlsMessage>(&HONEST.commit).is_ok());
        assert!(crate::label::decode_all::<KeyPackage>(&HONEST.key_package).is_ok());
        assert!(crate::label::decode_all::<Welcome>(&HONEST.welcome).is_ok());
        assert!(crate::label::decode_all::<GroupInfo>(&HONEST.group_info).is_ok());
        assert!(crate::label::decode_all::<RatchetTree>(&HONEST.tree).is_ok());
    }

    #[test]
    fn honest_messages_with_any_one_byte_changed_read_the_same() {
        for seed in HONEST.seeds() {
            let mut bytes = seed.clone();
            for at in 0..bytes.len() {
                let honest = bytes[at];
                for other in [honest ^ 1, honest ^ 0x80, 0xff] {
                    bytes[at] = other;
                    compare_all(&bytes);
                }
                bytes[at] = honest;
            }
        }
    }

    #[test]
    fn every_struct_keeps_its_word_on_honest_messages() {
        for seed in HONEST.seeds() {
            for which in 0..KINDS.len() {
                let mut data = vec![u8::try_from(which).unwrap()];
                data.extend_from_slice(seed);
                structs(&data);
            }
        }
    }
}
