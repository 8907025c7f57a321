//! What is refused, and by which name.

use openmls::component::ComponentType;
use openmls::credentials::{BasicCredential as MlsBasicCredential, Credential, CredentialType};
use openmls::extensions::{
    AppDataDictionary, AppDataDictionaryExtension, Extension, ExtensionType, Extensions, RequiredCapabilitiesExtension,
    UnknownExtension,
};

use super::*;
use crate::credential::{BasicCredential, CredentialError};
use crate::key_package::LifetimeFault;
use crate::limits::{MAX_GROUP_STATE_BYTES, MAX_MESSAGE_BYTES};
use crate::testing::{KeyPackageOptions, add_by_value, remove_by_value};

#[test]
fn a_truncated_commit() {
    let mut room = Room::of_three();
    let commit = room.member("alice").update();
    for len in 0..commit.message.len() {
        let refusal = room
            .hub
            .stage(&commit.message[..len], &commit.group_state, wall_clock());
        assert_eq!(refusal, Err(GroupRefusal::MessageMalformed), "{len} bytes");
    }
    let longer = [&commit.message[..], &[0]].concat();
    let refusal = room.hub.stage(&longer, &commit.group_state, wall_clock());
    assert_eq!(refusal, Err(GroupRefusal::MessageMalformed));
}

#[test]
fn a_commit_with_any_bit_flipped() {
    let mut room = Room::of_three();
    let before = room.hub.clone();
    let commit = room.member("alice").update();
    // The last 33 bytes are the membership tag, which only members can check.
    for at in 0..commit.message.len() - 33 {
        let mut flipped = commit.message.clone();
        flipped[at] ^= 1;
        let refusal = room.hub.stage(&flipped, &commit.group_state, wall_clock());
        assert!(refusal.is_err(), "byte {at}");
    }
    assert_eq!(room.hub, before);
    room.accept("alice", &commit);
}

#[test]
fn a_signature_that_does_not_verify() {
    let mut room = Room::of_three();
    let mut message = room.member("alice").forge_commit(&[remove_by_value(1)]);
    let at = message.len() - 33 - 33 - 8;
    message[at] ^= 1;
    assert_eq!(refusal(&mut room, &message), GroupRefusal::BadSignature);
}

#[test]
fn a_replayed_commit() {
    let mut room = Room::of_three();
    let commit = room.member("alice").update();
    room.accept("alice", &commit);
    let current = room.hub.epoch();
    let epoch = current - 1;
    assert_eq!(room.stage(&commit), Err(GroupRefusal::WrongEpoch { epoch, current }));
}

#[test]
fn a_commit_from_the_future() {
    let mut room = Room::of_three();
    let hub = room.hub.clone();
    let commit = room.member("alice").update();
    room.accept("alice", &commit);
    let next = room.member("alice").update();
    assert_eq!(
        hub.stage(&next.message, &next.group_state, wall_clock()),
        Err(GroupRefusal::WrongEpoch {
            epoch: hub.epoch() + 1,
            current: hub.epoch()
        })
    );
}

#[test]
fn a_commit_of_another_group() {
    let room = Room::of_three();
    let mut other = TestDevice::new("@alice:a.test", "A").create_group("!other:a.test");
    assert_eq!(room.stage(&other.update()), Err(GroupRefusal::WrongGroup));
}

#[test]
fn a_commit_of_a_fork_of_the_group() {
    let mut room = Room::of_three();
    let mut fork = TestDevice::new("@alice:a.test", "A").create_group(ROOM);
    while fork.epoch() < room.hub.epoch() {
        fork.update();
        fork.merge();
    }
    assert_eq!(room.stage(&fork.update()), Err(GroupRefusal::BadSignature));
    let commit = room.member("alice").update();
    room.accept("alice", &commit);
}

#[test]
fn a_private_commit() {
    let mut room = Room::of_three();
    let commit = room.member("alice").update_privately();
    assert_eq!(room.stage(&commit), Err(GroupRefusal::PrivateMessage));
}

#[test]
fn other_wire_formats() {
    let mut room = Room::of_three();
    let dave = TestDevice::new("@dave:d.test", "D");
    let commit = room.member("alice").add(&[dave.key_package()]);
    assert_eq!(refusal(&mut room, commit.welcome()), GroupRefusal::WrongWireFormat);
    assert_eq!(refusal(&mut room, &commit.group_state), GroupRefusal::WrongWireFormat);
}

#[test]
fn a_proposal_by_itself() {
    let mut room = Room::of_three();
    let proposal = room.member("alice").propose_remove(1);
    assert_eq!(refusal(&mut room, &proposal), GroupRefusal::StandaloneProposal);
}

#[test]
fn a_proposal_by_reference() {
    let mut room = Room::of_three();
    let _ = room.member("alice").propose_remove(1);
    let commit = room.member("alice").commit_proposals();
    assert_eq!(room.stage(&commit), Err(GroupRefusal::ByReferenceProposal));
}

#[test]
fn an_application_message() {
    let mut room = Room::of_three();
    let message = room.member("alice").forge_application(b"hello");
    assert_eq!(refusal(&mut room, &message), GroupRefusal::NotACommit);
    let encrypted = room.member("alice").encrypt(b"hello");
    assert_eq!(refusal(&mut room, &encrypted), GroupRefusal::PrivateMessage);
}

#[test]
fn a_commit_by_one_who_is_no_member() {
    let mut room = Room::of_three();
    let mut message = room.member("carol").forge_commit(&[remove_by_value(1)]);
    // struct { opaque group_id<V>; uint64 epoch; Sender { uint8 type; uint32 leaf } … }, after four bytes of MLSMessage
    let leaf = 4 + 1 + ROOM.len() + 8 + 1 + 3;
    assert_eq!(message[leaf], 2);
    message[leaf] = 9;
    assert_eq!(refusal(&mut room, &message), GroupRefusal::UnknownCommitter);
    message[leaf - 4] = 2; // an external sender, which has no membership tag
    message.truncate(message.len() - 33);
    assert_eq!(refusal(&mut room, &message), GroupRefusal::SenderNotAllowed);
}

#[test]
fn proposals_that_are_not_about_membership() {
    let mut room = Room::of_three();
    let capabilities = RequiredCapabilitiesExtension::new(&[], &[], &[CredentialType::Basic]);
    let extensions = Extensions::single(Extension::RequiredCapabilities(capabilities)).unwrap();
    let commit = room.member("alice").change_extensions(extensions);
    assert_eq!(
        room.stage(&commit),
        Err(GroupRefusal::ProposalNotAllowed { proposal_type: 7 })
    );
    room.member("alice").clear();
    // struct { opaque group_id<V>; ProtocolVersion version; CipherSuite cipher_suite; Extension extensions<V>; } ReInit
    let reinit = [&[1, 0, 5, 1, b'x'][..], &[0, 1, 0, 1, 0]].concat();
    let message = room.member("alice").forge_commit(&[reinit]);
    assert_eq!(
        refusal(&mut room, &message),
        GroupRefusal::ProposalNotAllowed { proposal_type: 5 }
    );
    // A type that nobody knows: its content is opaque.
    let custom = vec![1, 0xf0, 0x01, 1, 0];
    let message = room.member("alice").forge_commit(&[custom]);
    assert_eq!(refusal(&mut room, &message), GroupRefusal::UnsupportedProposal);
}

#[test]
fn removals_that_cannot_be() {
    let mut room = Room::of_three();
    let leaf = room.member("alice").leaf();
    for removals in [vec![remove_by_value(leaf)], vec![remove_by_value(7)]] {
        let message = room.member("alice").forge_commit(&removals);
        assert_eq!(
            refusal(&mut room, &message),
            GroupRefusal::InvalidRemoval,
            "{removals:?}"
        );
    }
    let message = room.member("alice").forge_commit(&[remove_by_value(1)]);
    assert_eq!(
        refusal(&mut room, &message),
        GroupRefusal::InvalidPath,
        "a removal needs a path"
    );
}

#[test]
fn a_key_package_that_does_not_support_the_group() {
    let mut room = Room::of_three();
    let dave = TestDevice::new("@dave:d.test", "D");
    let package = dave.key_package_with(&KeyPackageOptions {
        suites: Some(vec![Suite::P256_AES128]),
        ..KeyPackageOptions::default()
    });
    assert_eq!(added(&mut room, &package), GroupRefusal::UnsupportedCapabilities);
    let other = TestDevice::with_suite("@dave:d.test", "D", Suite::X25519_CHACHA20);
    assert_eq!(added(&mut room, &other.key_package()), GroupRefusal::WrongSuite);
}

#[test]
fn a_key_package_whose_signature_is_broken() {
    let mut room = Room::of_three();
    let mut package = TestDevice::new("@dave:d.test", "D").key_package();
    *package.last_mut().unwrap() ^= 1;
    assert_eq!(added(&mut room, &package), GroupRefusal::InvalidLeaf);
}

#[test]
fn a_key_that_is_in_use() {
    let mut room = Room::of_three();
    let bob = room.member("bob").device().clone();
    let renamed = BasicCredential {
        device_id: DeviceId::parse("B2").unwrap(),
        ..bob.credential().clone()
    };
    let package = bob.with_leaf_credential(renamed.to_mls()).key_package();
    assert_eq!(added(&mut room, &package), GroupRefusal::DuplicateKey);
}

/// Every step of this is allowed to an honest device, so only the hub can see that the tree at the end is one by which nobody joins.
#[test]
fn a_committer_that_takes_the_signature_key_of_another_leaf() {
    let mut room = Room::of_three();
    room.join("bob", &[("bob's other", "@bob:b.test", "B2")]);
    let first = room.member("bob").device().clone();
    let leaf = room.member("bob").leaf();
    let commit = room.member("bob's other").change_with_key_of(&first, &[], &[]);
    assert_eq!(
        bootstrap(&commit, Suite::default()).map(|_| ()),
        Err(GroupRefusal::DuplicateKey),
        "who joins by the tree"
    );
    assert_eq!(room.stage(&commit), Err(GroupRefusal::SignatureKeyInUse { leaf }));

    // It may do so if that leaf goes, and it may not take the key of one that comes.
    room.member("bob's other").clear();
    let commit = room.member("bob's other").change_with_key_of(&first, &[], &[leaf]);
    room.stage(&commit).unwrap();
    room.member("bob's other").clear();
    let dave = TestDevice::new("@dave:d.test", "D");
    let commit = room
        .member("bob's other")
        .change_with_key_of(&dave, &[dave.key_package()], &[]);
    assert_eq!(room.stage(&commit), Err(GroupRefusal::SignatureKeyInUse { leaf: 4 }));

    // OpenMLS takes the leaf with that key for the joiner's own, and replaces it.
    let state = room.member("alice").export_group_state(true, true);
    let third = BasicCredential {
        device_id: DeviceId::parse("B3").unwrap(),
        ..first.credential().clone()
    };
    let (_, commit) = first.with_leaf_credential(third.to_mls()).join_externally(&state);
    assert_eq!(room.stage(&commit).err(), Some(GroupRefusal::ExternalRemoval));
}

/// Whoever is added with the key of an inner node could not be told from it, and a joiner refuses the tree.
#[test]
fn a_leaf_with_the_encryption_key_of_an_inner_node() {
    let mut room = Room::of_three();
    let commit = room.member("bob").update();
    room.accept("bob", &commit);
    // Node 0 is above alice and bob, node 1 is the root.
    let [below, root] = [0, 1].map(|node| keys::of_inner_node(&room.hub.state.group, node));
    let dave = TestDevice::new("@dave:d.test", "D");
    let package = dave.key_package_with_encryption_key(&below);
    let commit = room.member("carol").add(std::slice::from_ref(&package));
    assert_eq!(
        bootstrap(&commit, Suite::default()).map(|_| ()),
        Err(GroupRefusal::DuplicateKey),
        "who joins by the tree"
    );
    assert_eq!(room.stage(&commit), Err(GroupRefusal::EncryptionKeyInUse));
    room.member("carol").clear();

    // Alice's commit replaces both.
    for key in [below, root] {
        let package = dave.key_package_with_encryption_key(&key);
        let commit = room.member("alice").add(std::slice::from_ref(&package));
        room.stage(&commit).unwrap();
        bootstrap(&commit, Suite::default()).unwrap();
        room.member("alice").clear();
    }
}

#[test]
fn a_device_that_is_a_member_already() {
    let mut room = Room::of_three();
    let again = TestDevice::new("@bob:b.test", "B").key_package();
    assert_eq!(added(&mut room, &again), GroupRefusal::DeviceTwice);
    let twice = [(); 2].map(|()| add_by_value(&TestDevice::new("@dave:d.test", "D").key_package()));
    let message = room.member("alice").forge_commit(&twice);
    assert_eq!(refusal(&mut room, &message), GroupRefusal::DeviceTwice);
}

#[test]
fn an_external_join_of_a_device_that_is_a_member_already() {
    let mut room = Room::of_three();
    let last = room.member("alice").update();
    room.accept("alice", &last);
    let (_, commit) = TestDevice::new("@bob:b.test", "B").join_externally(&last.group_state);
    assert_eq!(room.stage(&commit), Err(GroupRefusal::DeviceTwice));
}

#[test]
fn a_leaf_with_the_wrong_credential() {
    let mut room = Room::of_three();
    let dave = TestDevice::new("@dave:d.test", "D");
    let other_key = BasicCredential {
        signature_key: vec![1; 32],
        ..dave.credential().clone()
    };
    let plain = MlsBasicCredential::new(b"@dave:d.test".to_vec());
    let mut x509 = vec![];
    crate::codec::write_opaque(&mut x509, b"certificate");
    for (credential, reason) in [
        (other_key.to_mls(), CredentialError::OtherKey),
        (plain.into(), CredentialError::Malformed),
    ] {
        let package = dave.with_leaf_credential(credential).key_package();
        assert_eq!(
            added(&mut room, &package),
            GroupRefusal::LeafCredential { leaf: 3, reason }
        );
    }
    let package = dave
        .with_leaf_credential(Credential::new(CredentialType::Other(0x0a0a), x509))
        .key_package();
    assert_eq!(added(&mut room, &package), GroupRefusal::UnsupportedCapabilities);
}

#[test]
fn an_external_join_with_the_wrong_credential() {
    let mut room = Room::of_three();
    let last = room.member("alice").update();
    room.accept("alice", &last);
    let dave = TestDevice::new("@dave:d.test", "D");
    let plain = MlsBasicCredential::new(b"@dave:d.test".to_vec());
    let (_, commit) = dave
        .with_leaf_credential(plain.into())
        .join_externally(&last.group_state);
    assert_eq!(
        room.stage(&commit),
        Err(GroupRefusal::LeafCredential {
            leaf: 3,
            reason: CredentialError::Malformed
        })
    );
}

#[test]
fn an_update_to_another_identity() {
    let mut room = Room::of_three();
    let bob = room.member("bob").device().credential().clone();
    let mallory = BasicCredential {
        signature_key: room.member("alice").device().signature_key().to_vec(),
        ..bob
    };
    let commit = room.member("alice").update_credential(mallory.to_mls());
    assert_eq!(room.stage(&commit), Err(GroupRefusal::IdentityChanged));
}

#[test]
fn a_leaf_that_expires_too_soon_or_too_late() {
    let mut room = Room::of_three();
    let now = wall_clock().as_u64() / 1000;
    let day = 86_400;
    let mut judge = |not_before: u64, not_after: u64| {
        let package = TestDevice::new("@dave:d.test", "D").key_package_with(&KeyPackageOptions {
            lifetime: Some((not_before, not_after)),
            ..KeyPackageOptions::default()
        });
        added(&mut room, &package)
    };
    assert_eq!(
        judge(now - 1, now + 2 * day - 60),
        GroupRefusal::LeafLifetime(LifetimeFault::ExpiresSoon)
    );
    assert_eq!(
        judge(now - 9, now - 1),
        GroupRefusal::LeafLifetime(LifetimeFault::Expired)
    );
    assert_eq!(
        judge(now + day, now + 9 * day),
        GroupRefusal::LeafLifetime(LifetimeFault::NotYetValid)
    );
    assert_eq!(
        judge(now - day, now + 90 * day),
        GroupRefusal::LeafLifetime(LifetimeFault::TooLong)
    );
}

#[test]
fn blobs_over_the_limits() {
    let mut room = Room::of_three();
    let commit = room.member("alice").update();
    let blob = vec![0; MAX_MESSAGE_BYTES.max(MAX_GROUP_STATE_BYTES) + 1];
    assert_eq!(refusal(&mut room, &blob), GroupRefusal::MessageTooLarge);
    assert_eq!(
        room.hub.stage(&commit.message, &blob, wall_clock()),
        Err(GroupRefusal::GroupStateTooLarge)
    );
    assert_eq!(
        room.hub.stage(&blob[..4], &commit.group_state, wall_clock()),
        Err(GroupRefusal::MessageMalformed)
    );
}

#[test]
fn a_group_state_cut_short_or_changed() {
    let mut room = Room::of_three();
    let commit = room.member("alice").update();
    let stage = |state: &[u8]| room.hub.stage(&commit.message, state, wall_clock()).map(|_| ());
    for len in 0..commit.group_state.len() {
        assert_eq!(
            stage(&commit.group_state[..len]),
            Err(GroupRefusal::GroupStateMalformed),
            "{len}"
        );
    }
    for at in 4..commit.group_state.len() {
        let mut flipped = commit.group_state.clone();
        flipped[at] ^= 1;
        assert!(stage(&flipped).is_err(), "byte {at}");
    }
    let longer = [&commit.group_state[..], &[0]].concat();
    assert_eq!(stage(&longer), Err(GroupRefusal::GroupStateMalformed));
    let mut bad_signature = commit.group_state.clone();
    *bad_signature.last_mut().unwrap() ^= 1;
    assert_eq!(stage(&bad_signature), Err(GroupRefusal::GroupStateBadSignature));
    assert_eq!(stage(&commit.group_state), Ok(()));
}

#[test]
fn a_group_state_of_another_group_or_epoch() {
    let mut room = Room::of_three();
    let before = room.member("alice").update();
    room.accept("alice", &before);
    let commit = room.member("alice").update();
    let stage = |state: &[u8]| room.hub.stage(&commit.message, state, wall_clock());
    assert_eq!(
        stage(&before.group_state),
        Err(GroupRefusal::GroupStateWrongEpoch {
            epoch: room.hub.epoch(),
            expected: room.hub.epoch() + 1
        })
    );
    let mut other = TestDevice::new("@alice:a.test", "A").create_group("!other:a.test");
    assert_eq!(
        stage(&other.update().group_state),
        Err(GroupRefusal::GroupStateWrongGroup)
    );
    // The same group and epoch, but after another commit.
    let mut fork = TestDevice::new("@alice:a.test", "A").create_group(ROOM);
    while fork.epoch() < room.hub.epoch() {
        fork.update();
        fork.merge();
    }
    assert_eq!(stage(&fork.update().group_state), Err(GroupRefusal::GroupStateMismatch));
}

#[test]
fn a_group_state_without_tree_or_external_key() {
    let mut room = Room::of_three();
    let commit = room.member("alice").update();
    room.member("alice").merge();
    let alice = &room.members["alice"];
    let stage = |state: &[u8]| room.hub.stage(&commit.message, state, wall_clock());
    assert_eq!(
        stage(&alice.export_group_state(false, true)),
        Err(GroupRefusal::GroupStateWithoutTree)
    );
    assert_eq!(
        stage(&alice.export_group_state(true, false)),
        Err(GroupRefusal::GroupStateWithoutExternalPub)
    );
    assert!(stage(&alice.export_group_state(true, true)).is_ok());
}

#[test]
fn a_group_state_signed_by_another_member() {
    let mut room = Room::of_three();
    let commit = room.member("alice").update();
    room.member("bob").process(&commit.message);
    let by_bob = room.members["bob"].export_group_state(true, true);
    assert_eq!(
        room.hub.stage(&commit.message, &by_bob, wall_clock()),
        Err(GroupRefusal::GroupStateWrongSigner)
    );
}

#[test]
fn a_first_commit_that_is_not_what_it_seems() {
    let mut alice = TestDevice::new("@alice:a.test", "A").create_group(ROOM);
    let commit = alice.update();
    alice.clear();
    let other = alice.update();
    let begin = |message: &[u8], state: &[u8], suite| {
        let room = RoomId::parse(ROOM).unwrap();
        HubGroup::bootstrap(&room, suite, message, state, wall_clock()).map(|(_, change)| change.epoch)
    };
    let suite = Suite::default();
    assert_eq!(begin(&commit.message, &commit.group_state, suite), Ok(1));
    assert_eq!(
        begin(&commit.message, &commit.group_state, Suite::P256_AES128),
        Err(GroupRefusal::WrongSuite)
    );
    assert_eq!(
        begin(&commit.message, &other.group_state, suite),
        Err(GroupRefusal::GroupStateMismatch)
    );
    let mut bad_signature = commit.group_state.clone();
    *bad_signature.last_mut().unwrap() ^= 1;
    assert_eq!(
        begin(&commit.message, &bad_signature, suite),
        Err(GroupRefusal::GroupStateBadSignature)
    );
    let mut elsewhere = TestDevice::new("@alice:a.test", "A").create_group("!other:a.test");
    let elsewhere = elsewhere.update();
    assert_eq!(
        begin(&elsewhere.message, &elsewhere.group_state, suite),
        Err(GroupRefusal::WrongGroup)
    );
}

#[test]
fn a_first_commit_with_leaves_that_do_not_last() {
    let mut alice = TestDevice::new("@alice:a.test", "A").create_group(ROOM);
    let now = wall_clock().as_u64() / 1000;
    let package = TestDevice::new("@dave:d.test", "D").key_package_with(&KeyPackageOptions {
        lifetime: Some((now - 1, now + 86_400)),
        ..KeyPackageOptions::default()
    });
    let commit = alice.add(&[package]);
    assert_eq!(
        bootstrap(&commit, Suite::default()).map(|_| ()),
        Err(GroupRefusal::LeafLifetime(LifetimeFault::ExpiresSoon))
    );
    // Once the group exists, time runs out for every leaf that came with a key package; whoever begins to follow then
    // takes it as it is.
    alice.merge();
    assert!(bootstrap(&alice.update(), Suite::default()).is_ok());
}

#[test]
fn a_group_with_an_extension_that_nobody_knows() {
    let extension = Extension::Unknown(0xf042, UnknownExtension(vec![1]));
    let alice = TestDevice::new("@alice:a.test", "A").with_extension(ExtensionType::Unknown(0xf042));
    let mut group = alice.create_group_with(ROOM, Extensions::single(extension).unwrap());
    assert_eq!(
        bootstrap(&group.update(), Suite::default()).map(|_| ()),
        Err(GroupRefusal::UnknownExtension { extension_type: 0xf042 })
    );
}

#[test]
fn a_group_that_asks_for_safe_aads() {
    let mut dictionary = AppDataDictionary::new();
    dictionary.insert(ComponentType::SafeAad.into(), vec![0]);
    let extension = Extension::AppDataDictionary(AppDataDictionaryExtension::new(dictionary));
    let alice = TestDevice::new("@alice:a.test", "A").with_extension(ExtensionType::AppDataDictionary);
    let mut group = alice.create_group_with(ROOM, Extensions::single(extension).unwrap());
    assert_eq!(
        bootstrap(&group.update(), Suite::default()).map(|_| ()),
        Err(GroupRefusal::UnknownExtension { extension_type: 6 })
    );
}

#[test]
fn hostile_bytes_leave_the_group_as_it_was() {
    let mut room = Room::of_three();
    let before = room.hub.checkpoint();
    let commit = room.member("alice").update();
    for at in (0..commit.message.len()).step_by(3) {
        for bit in 0..8 {
            let mut flipped = commit.message.clone();
            flipped[at] ^= 1 << bit;
            let _ = room.hub.stage(&flipped, &commit.group_state, wall_clock());
        }
    }
    assert_eq!(room.hub.checkpoint(), before);
    room.accept("alice", &commit);
}

/// The refusal of a message, with a group state that would do.
fn refusal(room: &mut Room, message: &[u8]) -> GroupRefusal {
    room.member("bob").clear();
    let state = room.member("bob").update().group_state;
    room.member("bob").clear();
    room.hub.stage(message, &state, wall_clock()).unwrap_err()
}

/// The refusal of a commit that adds the owner of a key package which no honest member would add.
fn added(room: &mut Room, key_package: &[u8]) -> GroupRefusal {
    let message = room.member("alice").forge_commit(&[add_by_value(key_package)]);
    refusal(room, &message)
}
