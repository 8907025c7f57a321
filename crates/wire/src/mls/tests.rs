//! MLS as OpenMLS writes it, field by field; what extensions add.

use openmls_traits::OpenMlsProvider;
use openmls_traits::crypto::OpenMlsCrypto;

use super::*;
use crate::codec::{Encode, Kept, Message, Rule};
use crate::fuzzing::HONEST;
use crate::label::{self, Sealed, SignatureError};
use crate::testing::{
    KEY_PACKAGE_D, SUITE, assert_truncations_are_refused, assert_wire, basic, fault, key_package, keys, leaf_node,
    provider, refused, sealed, unhex,
};
use crate::update::{CommitParts, HandshakeBundle, HandshakeParts};

#[test]
fn what_openmls_writes_reads_and_writes_back_and_cannot_be_cut_off() {
    fn check<T: Message + std::fmt::Debug>(bytes: &[u8]) {
        assert_eq!(T::from_bytes(bytes).unwrap().to_bytes(), bytes);
        assert_truncations_are_refused::<T>(bytes);
    }
    check::<KeyPackage>(&HONEST.key_package);
    check::<MlsMessage>(&HONEST.commit);
    check::<Welcome>(&HONEST.welcome);
    check::<GroupInfo>(&HONEST.group_info);
    check::<RatchetTree>(&HONEST.tree);
}

#[test]
fn a_commit_says_what_it_does() {
    let message = MlsMessage::from_bytes(&HONEST.commit).unwrap();
    assert_eq!(message.content_type(), Some(ContentType::COMMIT));
    let MlsMessageBody::Public(message) = message.body else {
        panic!("handshakes are public");
    };
    assert_eq!(message.content.sender, Sender::Member { leaf_index: 0 });
    let FramedContentBody::Commit(commit) = message.content.body else {
        panic!("it is a commit");
    };
    let types: Vec<_> = commit
        .proposals
        .iter()
        .map(|proposal| match proposal {
            ProposalOrRef::Proposal(proposal) => proposal.proposal_type(),
            ProposalOrRef::Reference(_) => panic!("all were inline"),
        })
        .collect();
    assert!(types.contains(&ProposalType::ADD) && types.contains(&ProposalType::APP_DATA_UPDATE));
}

#[test]
fn the_kept_key_package_is_what_openmls_is_given() {
    let mut reader = crate::Reader::new(&HONEST.key_package);
    let kept: Kept<KeyPackage> = reader.read("key_package").unwrap();
    assert_eq!(kept.as_bytes(), HONEST.key_package);
    let dictionary = Extension::app_data_dictionary(&kept.leaf_node.extensions)
        .unwrap()
        .unwrap();
    assert!(dictionary.data(ComponentId::APP_COMPONENTS).is_some());
    assert!(Extension::app_data_dictionary(&kept.extensions).is_none());
}

#[test]
fn a_group_info_is_rebuilt_from_its_parts() {
    let provider = provider();
    let (crypto, key) = (provider.crypto(), &HONEST.committer_key);
    let whole = GroupInfo::from_bytes(&HONEST.group_info).unwrap();
    let partial = PartialGroupInfo::of(&whole);
    let partial = PartialGroupInfo::from_bytes(&partial.to_bytes()).unwrap();
    let (context, tag, signer) = (&whole.group_context, &whole.confirmation_tag, whole.signer);
    let rebuilt = partial.rebuild(context.clone(), tag, signer, crypto, key).unwrap();
    assert_eq!(rebuilt.to_bytes(), HONEST.group_info);

    let other_epoch = GroupContext {
        epoch: context.epoch + 1,
        ..context.clone()
    };
    let invalid = Err(RebuildError::Signature(SignatureError::Invalid));
    assert_eq!(partial.rebuild(other_epoch, tag, signer, crypto, key), invalid);
    assert_eq!(partial.rebuild(context.clone(), b"x", signer, crypto, key), invalid);
    assert_eq!(partial.rebuild(context.clone(), tag, signer + 1, crypto, key), invalid);
    assert_eq!(
        partial.rebuild(context.clone(), tag, signer, crypto, &key[1..]),
        invalid
    );
}

#[test]
fn a_group_info_with_the_tree_inside_is_not_rebuilt() {
    let provider = provider();
    let whole = GroupInfo::from_bytes(&HONEST.group_info).unwrap();
    let rebuild = |presence, extensions: Vec<Extension>| {
        let partial = PartialGroupInfo {
            ratchet_tree_presence: presence,
            group_info_extensions: extensions,
            signature: whole.signature.clone(),
        };
        let (context, tag) = (whole.group_context.clone(), &whole.confirmation_tag);
        partial.rebuild(context, tag, whole.signer, provider.crypto(), &HONEST.committer_key)
    };
    for presence in [1, 3, 9] {
        let rebuilt = rebuild(RatchetTreePresence(presence), whole.extensions.clone());
        assert_eq!(rebuilt, Err(RebuildError::TreeInside));
    }
    let tree = Extension {
        extension_type: ExtensionType::RATCHET_TREE,
        extension_data: HONEST.tree.as_slice().into(),
    };
    let rebuilt = rebuild(RatchetTreePresence::NO_RATCHET_TREE, vec![tree]);
    assert_eq!(rebuilt, Err(RebuildError::TreeAmongExtensions));
    assert!(rebuild(RatchetTreePresence::REMOVED, whole.extensions.clone()).is_ok());
}

#[test]
fn a_bundle_of_what_openmls_writes() {
    let parts = |group_info_option| {
        HandshakeParts::Commit(Box::new(CommitParts {
            welcome: Some(Kept::new(Welcome::from_bytes(&HONEST.welcome).unwrap())),
            group_info_option,
            ratchet_tree_option: RatchetTreeOption::Full(RatchetTree::from_bytes(&HONEST.tree).unwrap()),
        }))
    };
    let group_info = GroupInfo::from_bytes(&HONEST.group_info).unwrap();
    let partial = GroupInfoOption::Partial(PartialGroupInfo::of(&group_info));
    let full = GroupInfoOption::Full(Box::new(Kept::new(group_info)));
    for option in [full, partial] {
        let bundle = HandshakeBundle {
            proposal_or_commit: Kept::new(MlsMessage::from_bytes(&HONEST.commit).unwrap()),
            with: parts(option),
        };
        let bytes = bundle.to_bytes();
        assert_eq!(HandshakeBundle::from_bytes(&bytes).as_ref(), Ok(&bundle));
        assert_truncations_are_refused::<HandshakeBundle>(&bytes);
        assert_eq!(bundle.proposal_or_commit.as_bytes(), HONEST.commit);
    }
}

#[test]
fn a_key_package() {
    assert_wire(&key_package("d"), KEY_PACKAGE_D);
}

#[test]
fn leaves_by_source() {
    let start = "02 0202 02 0303 0001 01 64 02 0001 02 0001 00 00 00";
    let leaf = |source| LeafNode {
        source,
        ..leaf_node("d")
    };
    assert_wire(&leaf(LeafNodeSource::Update), &format!("{start} 02 00 02 0505"));
    let parent_hash = vec![7].into();
    assert_wire(
        &leaf(LeafNodeSource::Commit { parent_hash }),
        &format!("{start} 03 01 07 00 02 0505"),
    );
}

#[test]
fn credentials() {
    assert_wire(&basic("a"), "0001 01 61");
    let certificate = |byte| Certificate {
        cert_data: vec![byte].into(),
    };
    let chain = Credential::X509 {
        certificates: vec![certificate(1), certificate(2)],
    };
    assert_wire(&chain, "0002 04 0101 0102");
    let other = Credential::Other {
        credential_type: CredentialType(0x7777),
        content: vec![9].into(),
    };
    assert_wire(&other, "7777 01 09");
}

#[test]
fn proposals() {
    let psk = |psk| {
        Proposal::Psk(PreSharedKeyId {
            psk,
            psk_nonce: vec![9].into(),
        })
    };
    assert_wire(&Proposal::Remove(5), "0003 00000005");
    assert_wire(&psk(Psk::External { psk_id: vec![1].into() }), "0004 01 0101 0109");
    let resumption = Psk::Resumption {
        usage: 1,
        psk_group_id: b"g".as_slice().into(),
        psk_epoch: 7,
    };
    assert_wire(&psk(resumption), "0004 02 01 0167 0000000000000007 0109");
    let application = Psk::Application {
        component_id: ComponentId(0x8001),
        psk_id: vec![1].into(),
    };
    assert_wire(&psk(application), "0004 03 8001 0101 0109");
    let reinit = ReInit {
        group_id: b"g".as_slice().into(),
        version: ProtocolVersion::MLS10,
        cipher_suite: SUITE,
        extensions: vec![],
    };
    assert_wire(&Proposal::ReInit(reinit), "0005 0167 0001 0001 00");
    assert_wire(&Proposal::ExternalInit(vec![1].into()), "0006 0101");
    let extension = Extension {
        extension_type: ExtensionType(0x0a0a),
        extension_data: vec![1].into(),
    };
    assert_wire(&Proposal::GroupContextExtensions(vec![extension]), "0007 04 0a0a 0101");
    let remove = AppDataUpdate {
        component_id: ComponentId::JOIN_LINKS,
        update: None,
    };
    assert_wire(&Proposal::AppDataUpdate(remove), "0008 002a 02");
    let ephemeral = AppEphemeral {
        component_id: ComponentId::APP_ACK,
        data: vec![0].into(),
    };
    assert_wire(&Proposal::AppEphemeral(ephemeral), "0009 0005 0100");
    assert_wire(&Proposal::SelfRemove, "000a");
    let add = Proposal::Add(Box::new(Kept::new(key_package("d"))));
    assert_wire(&add, &format!("0001 {KEY_PACKAGE_D}"));
    let update = Proposal::Update(Box::new(LeafNode {
        source: LeafNodeSource::Update,
        ..leaf_node("d")
    }));
    assert_wire(
        &update,
        "0002 02 0202 02 0303 0001 01 64 02 0001 02 0001 00 00 00 02 00 02 0505",
    );
}

#[test]
fn a_proposal_that_is_not_known_survives() {
    let other = Proposal::Other {
        proposal_type: ProposalType(0x0a0a),
        content: vec![1, 2].into(),
    };
    assert_wire(&other, "0a0a 02 0102");
}

#[test]
fn what_is_done_with_data_is_known() {
    for value in [0, 3] {
        assert_eq!(
            refused::<AppDataUpdate>(&format!("0022 {value:02x} 00")),
            (2, "op".to_owned(), Rule::UnknownSelector { value })
        );
    }
}

#[test]
fn a_tree() {
    let tree: RatchetTree = vec![
        Some(Box::new(Node::Leaf(Box::new(LeafNode {
            source: LeafNodeSource::Update,
            ..leaf_node("d")
        })))),
        None,
        Some(Box::new(Node::Parent(ParentNode {
            encryption_key: vec![1].into(),
            parent_hash: vec![].into(),
            unmerged_leaves: vec![4],
        }))),
    ];
    let leaf = "02 0202 02 0303 0001 01 64 02 0001 02 0001 00 00 00 02 00 02 0505";
    let nodes = format!("01 01 {leaf} 00 01 02 01 01 00 04 00000004");
    let length = unhex(&nodes).len();
    assert_wire(&tree, &format!("{length:02x} {nodes}"));
    assert_wire(&RatchetTreeOption::Full(tree), &format!("01 {length:02x} {nodes}"));
    let elsewhere = RatchetTreeOption::HttpsUri {
        ratchet_tree_url: "https://t".into(),
        tree_signature: vec![1].into(),
    };
    assert_wire(&elsewhere, "02 09 68747470733a2f2f74 01 01");
    let other_way = RatchetTreeOption::OutOfBand {
        tree_signature: vec![1].into(),
    };
    assert_wire(&other_way, "03 01 01");
    assert_wire(&RatchetTreeOption::DistributionService, "04");
    assert_eq!(refused::<RatchetTree>("02 01 03").1, "[0].node_type");
}

#[test]
fn messages_of_other_versions_and_formats_are_refused() {
    assert_eq!(
        refused::<MlsMessage>("0002 0001"),
        (0, "version".to_owned(), Rule::UnknownSelector { value: 2 })
    );
    assert_eq!(
        refused::<MlsMessage>("0001 0006"),
        (2, "wire_format".to_owned(), Rule::UnknownSelector { value: 6 })
    );
    assert_eq!(
        refused::<MlsMessage>("0001 0001 00 0000000000000000 05 00"),
        (
            13,
            "public_message.content.sender.sender_type".to_owned(),
            Rule::UnknownSelector { value: 5 }
        )
    );
    assert_eq!(
        refused::<MlsMessage>("0001 0002 00 0000000000000000 00 00"),
        (
            13,
            "private_message.content_type".to_owned(),
            Rule::UnknownSelector { value: 0 }
        )
    );
}

fn semi_private(key: KeyForExternalReceiver) -> SemiPrivateMessage {
    SemiPrivateMessage {
        group_id: b"g".as_slice().into(),
        epoch: 7,
        content_type: ContentType::COMMIT,
        authenticated_data: vec![0].into(),
        partial_context_hash: vec![1].into(),
        keys_for_external_receivers: vec![key],
        framed_content_tbs_hash: vec![2].into(),
        encrypted_sender_data: vec![3].into(),
        ciphertext: vec![4].into(),
    }
}

#[test]
fn a_semi_private_message() {
    let key = KeyForExternalReceiver {
        external_receiver_ref: vec![5].into(),
        encrypted_keys_and_nonces: sealed(&[6], &[7]),
    };
    assert_wire(
        &semi_private(key),
        concat!(
            "01 67",                // group_id
            "0000000000000007",     // epoch
            "03",                   // content_type: commit
            "01 00",                // authenticated_data
            "01 01",                // partial_context_hash
            "06 01 05 01 06 01 07", // keys_for_external_receivers
            "01 02",                // framed_content_tbs_hash
            "01 03",                // encrypted_sender_data
            "01 04",                // ciphertext
        ),
    );
    assert_eq!(
        refused::<SemiPrivateMessage>("00 0000000000000000 01"),
        (9, "content_type".to_owned(), Rule::ContentType { found: 1 })
    );
}

#[test]
fn the_keys_of_a_semi_private_message_open_for_their_receiver_and_context() {
    let provider = provider();
    let crypto = provider.crypto();
    let config = SUITE.to_openmls().unwrap().hpke_config();
    let receiver = crypto
        .derive_hpke_keypair(config, b"seed of the hub's key pair")
        .unwrap();
    let keys = PerMessageKeyAndNonces {
        key: vec![1; 16].into(),
        nonce: vec![2; 12].into(),
        reuse_guard: [3; 4],
        sender_leaf_index: 4,
    };
    assert_eq!(keys.to_bytes().len(), 17 + 13 + 4 + 4);
    let empty = KeyForExternalReceiver {
        external_receiver_ref: vec![].into(),
        encrypted_keys_and_nonces: sealed(&[], &[]),
    };
    let context = semi_private(empty).context().to_bytes();
    let key = KeyForExternalReceiver {
        external_receiver_ref: vec![5].into(),
        encrypted_keys_and_nonces: keys.seal(crypto, SUITE, &receiver.public, &context).unwrap(),
    };
    let message = semi_private(key.clone());
    assert_eq!(message.open_keys(crypto, SUITE, &receiver.private, &key), Ok(keys));
    let elsewhere = SemiPrivateMessage { epoch: 8, ..message };
    let opened = elsewhere.open_keys(crypto, SUITE, &receiver.private, &key);
    assert_eq!(opened, Err(label::SealError::Hpke));
}

#[test]
fn an_external_receiver() {
    let receiver = ExternalReceiver {
        external_receiver_public_key: vec![1].into(),
        credential: basic("h"),
    };
    assert_wire(&receiver, "01 01 0001 01 68");
}

#[test]
fn a_binding_ties_a_credential_to_a_leafs_key() {
    let (provider, owner) = (provider(), keys());
    let tbs = CredentialBindingTbs {
        cipher_suite: SUITE,
        credential: basic("alice@corp.example"),
        credential_key: owner.public().into(),
        signature_key: b"the leaf's key".as_slice().into(),
    };
    let binding = tbs.clone().sign(&owner).unwrap();
    let verify = |binding: CredentialBinding, leaf: &[u8]| binding.verify(provider.crypto(), leaf).map(|_| ());
    assert_eq!(verify(binding.clone(), b"the leaf's key"), Ok(()));
    assert_eq!(verify(binding.clone(), b"another key"), Err(SignatureError::Invalid));

    let content = vec![binding.clone()].to_bytes();
    let length = usize::from(content[0] & 0x3f) << 8 | usize::from(content[1]);
    let credential = Credential::Other {
        credential_type: CredentialType::MULTI,
        content: content[content.len() - length..].into(),
    };
    assert_eq!(credential.bindings(), Some(Ok(vec![binding.clone()])));
    let multi = MultiCredential {
        bindings: vec![binding],
    };
    assert_eq!(MultiCredential::from_bytes(&multi.to_bytes()), Ok(multi));
    assert_eq!(basic("a").bindings(), None);
}

#[test]
fn components_sign_under_labels_of_their_own() {
    let (provider, keys) = (provider(), keys());
    let (mine, other) = (ComponentId(0x8001), ComponentId(0x8002));
    assert_eq!(
        label::component_operation_label(mine, "x"),
        unhex("0d 4d4c5320436f6d706f6e656e74 8001 01 78")
    );
    let signature = label::safe_sign_with_label(&keys, mine, "x", b"content").unwrap();
    let scheme = SUITE.signature_scheme().unwrap();
    let verify = |component, label, content: &[u8]| {
        label::safe_verify_with_label(
            provider.crypto(),
            scheme,
            keys.public(),
            (component, label),
            content,
            &signature,
        )
    };
    assert_eq!(verify(mine, "x", b"content"), Ok(()));
    assert_eq!(verify(other, "x", b"content"), Err(SignatureError::Invalid));
    assert_eq!(verify(mine, "y", b"content"), Err(SignatureError::Invalid));
    assert_eq!(verify(mine, "x", b"other"), Err(SignatureError::Invalid));
}

#[test]
fn a_length_that_lies_deep_in_a_tree_says_where() {
    let mut bytes = HONEST.tree.clone();
    // The first leaf's encryption key: two bytes of length, presence, node type, then its own length.
    let at = bytes.len() - content_length(&bytes) + 2;
    assert_eq!(bytes[at], 32);
    bytes[at] = 0x3f;
    let error = RatchetTree::from_bytes(&bytes).unwrap_err();
    // It swallows what follows, and what is read next is out of step.
    assert!(error.field().starts_with("[0].leaf_node."), "{error}");
    bytes[at] = 0xbf;
    let error = RatchetTree::from_bytes(&bytes).unwrap_err();
    assert_eq!(fault(&error).1, "[0].leaf_node.encryption_key");
    assert_eq!(error.offset(), at);
    assert!(matches!(error.rule(), Rule::Truncated { .. }), "{error}");
}

/// How many bytes follow the length prefix of a vector.
fn content_length(bytes: &[u8]) -> usize {
    crate::Reader::new(bytes).length().unwrap()
}
