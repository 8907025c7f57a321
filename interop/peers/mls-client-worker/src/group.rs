//! A group whose members the stack keeps. The interface copies no member and takes back no commit, so the group moves on with each, and whoever came or went is
//! put right by another one, outside of the time.

use nabe_lab::cell::Shape;
use nabe_lab::measure::Stopwatch;
use nabe_lab::protocol::Witness;
use nabe_lab::worker::{Failure, Wanted};
use nabe_wire::codec::Message as _;
use nabe_wire::mls::GroupInfo;

use crate::client::Client;
use crate::messages::*;

/// The group.
pub struct Group {
    suite: u32,
    shape: Shape,
    /// Who follows every commit. The first makes all that are measured; there are two at least.
    live: Vec<Member>,
    /// The names of those who are in the group and away.
    idle: Vec<Vec<u8>>,
}

/// Somebody in the group.
#[derive(Clone)]
pub struct Member {
    /// Their number with the stack.
    pub state_id: u32,
    identity: Vec<u8>,
}

/// Somebody who may join.
#[derive(Clone)]
pub struct Newcomer {
    identity: Vec<u8>,
    transaction_id: u32,
    /// An `MLSMessage`.
    pub key_package: Vec<u8>,
}

/// Names of groups and of people, each used once: stacks find what they keep by these.
#[derive(Default)]
pub struct Names(u64);

impl Names {
    /// Another one.
    pub fn next(&mut self) -> Vec<u8> {
        self.0 += 1;
        format!("{}@{}.lab.example", self.0, std::process::id()).into_bytes()
    }
}

impl Group {
    /// Makes it: one adds all others by one commit. In a `full` one everybody commits after that.
    ///
    /// # Errors
    /// If the stack fails, or the group is too large for its shape.
    pub fn new(client: &mut Client, names: &mut Names, wanted: &Wanted) -> Result<Self, Failure> {
        let size = usize::try_from(wanted.size).map_err(Failure::at("reading the size"))?;
        let live = match (wanted.shape, size) {
            (_, 0..=EVERYBODY) => size,
            (Shape::Fresh, 0..=1_000) => 16,
            (Shape::Fresh, _) => 4,
            _ => {
                return Err(Failure::Unsupported(format!(
                    "everybody has to be live in it, and is up to {EVERYBODY}"
                )));
            }
        };
        let suite = u32::from(wanted.suite);
        let newcomers = (1..size)
            .map(|_| Newcomer::new(client, names, suite))
            .collect::<Result<Vec<_>, _>>()?;
        let founder = Member::found(client, names, suite)?;
        let made = founder.commit(client, adds(&newcomers))?;
        founder.merge(client)?;
        let mut group = Self {
            suite,
            shape: wanted.shape,
            live: vec![founder],
            idle: Vec::new(),
        };
        // Whoever stays away is spread over the tree, and the same with every seed.
        for (place, newcomer) in newcomers.into_iter().enumerate() {
            let is_live = place * (live - 1) / (size - 1) != (place + 1) * (live - 1) / (size - 1);
            match is_live {
                true => group.live.push(newcomer.join(client, &made.welcome)?),
                false => group.idle.push(newcomer.identity),
            }
        }
        group.settle(client)?;
        Ok(group)
    }

    /// How many are live, and how many there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.live.len(), self.live.len() + self.idle.len())
    }

    /// Whose commits are measured.
    #[must_use]
    pub fn first(&self) -> &Member {
        &self.live[0]
    }

    /// Who follows.
    #[must_use]
    pub fn second(&self) -> &Member {
        &self.live[1]
    }

    /// The suite.
    #[must_use]
    pub const fn suite(&self) -> u32 {
        self.suite
    }

    /// The live members, in turn.
    #[must_use]
    pub fn live(&self) -> &[Member] {
        &self.live
    }

    /// Whether everybody is live and may commit, and the tree is of the same shape afterwards.
    #[must_use]
    pub fn stays_as_it_is(&self) -> bool {
        self.shape == Shape::Full && self.idle.is_empty()
    }

    /// All but the one who made it take in a commit; the maker merges it.
    ///
    /// # Errors
    /// Who does not.
    pub fn follow(&self, client: &mut Client, by: usize, commit: &[u8]) -> Result<(), Failure> {
        for (place, member) in self.live.iter().enumerate() {
            match place == by {
                true => member.merge(client)?,
                false => member.take(client, commit)?,
            }
        }
        Ok(())
    }

    /// The second member takes a commit of the first in, which is timed; then all others do.
    ///
    /// # Errors
    /// Who does not.
    pub fn follow_timed(&self, client: &mut Client, commit: &[u8], watch: &mut Stopwatch) -> Result<(), Failure> {
        watch.time(|| self.second().take(client, commit))?;
        self.first().merge(client)?;
        self.live[2..].iter().try_for_each(|member| member.take(client, commit))
    }

    /// The first member removes these, and the tree is as it was before they came.
    ///
    /// # Errors
    /// If the stack fails.
    pub fn put_out(&self, client: &mut Client, newcomers: &[Newcomer]) -> Result<(), Failure> {
        let leaving = newcomers.iter().map(|newcomer| remove(&newcomer.identity)).collect();
        let made = self.first().commit(client, leaving)?;
        self.follow(client, 0, &made.commit)?;
        self.settle(client)
    }

    /// Somebody goes, by a commit that is timed, and another comes to their place.
    ///
    /// # Errors
    /// If the stack fails.
    pub fn replace(
        &mut self,
        client: &mut Client,
        names: &mut Names,
        watch: &mut Stopwatch,
    ) -> Result<CommitResponse, Failure> {
        // Who is away, or else the last who follows.
        let (place, gone) = match self.idle.pop() {
            Some(identity) => (None, identity),
            None => {
                let last = self.live.pop().ok_or_else(|| Failure::at("removing")("nobody"))?;
                free(client, last.state_id)?;
                (Some(()), last.identity)
            }
        };
        let first = self.first().clone();
        let made = watch.time(|| first.commit(client, vec![remove(&gone)]))?;
        self.follow(client, 0, &made.commit)?;
        let newcomer = Newcomer::new(client, names, self.suite)?;
        let added = first.commit(client, adds(std::slice::from_ref(&newcomer)))?;
        self.follow(client, 0, &added.commit)?;
        match place {
            Some(()) => self.live.push(newcomer.join(client, &added.welcome)?),
            None => self.idle.push(newcomer.identity),
        }
        self.settle(client)?;
        Ok(made)
    }

    /// Each live member commits in turn, and the commits are timed.
    ///
    /// # Errors
    /// If the stack fails.
    pub fn update_everyone(&self, client: &mut Client, watch: &mut Stopwatch) -> Result<u64, Failure> {
        let mut sent = 0;
        for (by, member) in self.live.iter().enumerate() {
            let made = watch.time(|| member.commit(client, Vec::new()))?;
            self.follow(client, by, &made.commit)?;
            sent += made.commit.len() as u64;
        }
        Ok(sent)
    }

    /// The first member commits and all follow; then everyone says where they are.
    ///
    /// # Errors
    /// If the stack fails.
    pub fn check(&self, client: &mut Client) -> Result<Vec<Witness>, Failure> {
        let made = self.first().commit(client, Vec::new())?;
        self.follow(client, 0, &made.commit)?;
        let witness = |member: &Member| member.witness(client);
        self.live.iter().map(witness).collect()
    }

    /// What makes a `full` tree full again.
    fn settle(&self, client: &mut Client) -> Result<(), Failure> {
        match self.shape {
            Shape::Full => self.update_everyone(client, &mut Stopwatch::new(false)).map(drop),
            _ => Ok(()),
        }
    }
}

impl Member {
    /// Makes a group, as its only member.
    ///
    /// # Errors
    /// If the stack fails.
    pub fn found(client: &mut Client, names: &mut Names, suite: u32) -> Result<Self, Failure> {
        let identity = names.next();
        let request = CreateGroupRequest {
            group_id: names.next(),
            cipher_suite: suite,
            encrypt_handshake: false,
            identity: identity.clone(),
        };
        let made = client.create_group(request).map_err(Failure::at("making a group"))?;
        Ok(Self {
            state_id: made.state_id,
            identity,
        })
    }

    /// A commit with a path, as far as the stack does what it is asked.
    ///
    /// # Errors
    /// If the stack fails.
    pub fn commit(&self, client: &mut Client, by_value: Vec<ProposalDescription>) -> Result<CommitResponse, Failure> {
        let request = CommitRequest {
            state_id: self.state_id,
            by_reference: Vec::new(),
            by_value,
            force_path: true,
            external_tree: false,
        };
        client.commit(request).map_err(Failure::at("making a commit"))
    }

    /// Its own commit was accepted.
    ///
    /// # Errors
    /// If the stack fails.
    pub fn merge(&self, client: &mut Client) -> Result<(), Failure> {
        let request = HandlePendingCommitRequest {
            state_id: self.state_id,
        };
        let merged = client.handle_pending_commit(request);
        merged.map(drop).map_err(Failure::at("merging one's own commit"))
    }

    fn take(&self, client: &mut Client, commit: &[u8]) -> Result<(), Failure> {
        let request = HandleCommitRequest {
            state_id: self.state_id,
            proposal: Vec::new(),
            commit: commit.to_vec(),
        };
        let taken = client.handle_commit(request);
        taken.map(drop).map_err(Failure::at("taking in a commit"))
    }

    /// GroupInfo of its epoch, an `MLSMessage` with the tree.
    ///
    /// # Errors
    /// If the stack fails.
    pub fn group_info(&self, client: &mut Client) -> Result<Vec<u8>, Failure> {
        let request = GroupInfoRequest {
            state_id: self.state_id,
            external_tree: false,
        };
        let info = client
            .group_info(request)
            .map_err(Failure::at("asking for GroupInfo"))?;
        Ok(info.group_info)
    }

    fn witness(&self, client: &mut Client) -> Result<Witness, Failure> {
        let failed = "reading a GroupInfo";
        let bytes = self.group_info(client)?;
        // Version and wire format come before it.
        let info = GroupInfo::from_bytes(bytes.get(4..).unwrap_or_default()).map_err(Failure::at(failed))?;
        let request = StateAuthRequest {
            state_id: self.state_id,
        };
        let authenticator = client.state_auth(request);
        let authenticator = authenticator.map_err(Failure::at("asking for the epoch authenticator"))?;
        Ok(Witness {
            // It signs its own.
            leaf: Some(info.signer),
            epoch: info.group_context.epoch,
            tree_hash: hex(&info.group_context.tree_hash),
            authenticator: Some(hex(&authenticator.state_auth_secret)),
        })
    }
}

impl Newcomer {
    /// With a key package.
    ///
    /// # Errors
    /// If the stack fails.
    pub fn new(client: &mut Client, names: &mut Names, suite: u32) -> Result<Self, Failure> {
        let identity = names.next();
        let request = CreateKeyPackageRequest {
            cipher_suite: suite,
            identity: identity.clone(),
        };
        let made = client.create_key_package(request);
        let made = made.map_err(Failure::at("making a key package"))?;
        Ok(Self {
            identity,
            transaction_id: made.transaction_id,
            key_package: made.key_package,
        })
    }

    /// Joins by a Welcome.
    ///
    /// # Errors
    /// If the stack fails.
    pub fn join(&self, client: &mut Client, welcome: &[u8]) -> Result<Member, Failure> {
        let request = JoinGroupRequest {
            transaction_id: self.transaction_id,
            welcome: welcome.to_vec(),
            encrypt_handshake: false,
            identity: self.identity.clone(),
            ratchet_tree: Vec::new(),
        };
        let joined = client
            .join_group(request)
            .map_err(Failure::at("joining by a Welcome"))?;
        Ok(Member {
            state_id: joined.state_id,
            identity: self.identity.clone(),
        })
    }
}

/// Lets the stack forget somebody.
///
/// # Errors
/// If it does not.
pub fn free(client: &mut Client, state_id: u32) -> Result<(), Failure> {
    let freed = client.free(FreeRequest { state_id });
    freed.map(drop).map_err(Failure::at("forgetting a member"))
}

/// Proposals that add these.
#[must_use]
pub fn adds(newcomers: &[Newcomer]) -> Vec<ProposalDescription> {
    let add = |newcomer: &Newcomer| ProposalDescription {
        proposal_type: b"add".to_vec(),
        key_package: newcomer.key_package.clone(),
        removed_id: Vec::new(),
    };
    newcomers.iter().map(add).collect()
}

fn remove(identity: &[u8]) -> ProposalDescription {
    ProposalDescription {
        proposal_type: b"remove".to_vec(),
        key_package: Vec::new(),
        removed_id: identity.to_vec(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Up to this size all members follow.
const EVERYBODY: usize = 32;
