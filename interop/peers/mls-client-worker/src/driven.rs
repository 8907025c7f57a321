//! What the lab asks for, as calls.

use std::collections::BTreeMap;

use nabe_lab::cell::{Operation, Shape};
use nabe_lab::measure::Stopwatch;
use nabe_lab::protocol::{Hello, PROTOCOL, Witness};
use nabe_lab::worker::{BUILD, Failure, Implementation, Outcome, Wanted};

use crate::client::{CallError, Client};
use crate::group::{Group, Member, Names, Newcomer, adds, free};
use crate::messages::*;

/// A stack, and a group in it.
pub struct Driven {
    client: Client,
    name: String,
    stack: String,
    suites: Vec<u16>,
    names: Names,
    group: Option<Group>,
}

impl Driven {
    /// Asks who is there. `name` is what the lab calls it.
    ///
    /// # Errors
    /// If nobody answers as the interface says.
    pub fn new(mut client: Client, name: String) -> Result<Self, CallError> {
        let stack = client.name(NameRequest {})?.name;
        let suites = client.supported_ciphersuites(SupportedCiphersuitesRequest {})?;
        let suites = suites.ciphersuites.into_iter();
        Ok(Self {
            client,
            name,
            stack,
            suites: suites.filter_map(|suite| u16::try_from(suite).ok()).collect(),
            names: Names::default(),
            group: None,
        })
    }
}

impl Implementation for Driven {
    fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            implementation: self.name.clone(),
            versions: [("mls_client.proto".to_owned(), format!("to {}", self.stack))].into(),
            suites: self.suites.clone(),
            shapes: vec![Shape::Fresh, Shape::Full],
            operations: OPERATIONS.to_vec(),
            threads: 1,
            build: BUILD.to_owned(),
            note: Some(NOTE.to_owned()),
        }
    }

    fn prepare(&mut self, wanted: &Wanted) -> Result<BTreeMap<String, u64>, Failure> {
        for member in self.group.take().iter().flat_map(Group::live) {
            free(&mut self.client, member.state_id)?;
        }
        let group = Group::new(&mut self.client, &mut self.names, wanted)?;
        let (live, members) = group.counts();
        self.group = Some(group);
        Ok(sizes([("live-members", live), ("members", members)]))
    }

    fn sample(&mut self, operation: Operation, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let group = self.group.as_mut();
        let group = group.ok_or_else(|| Failure::Unsupported("no group has been prepared".to_owned()))?;
        let mut turn = Turn {
            client: &mut self.client,
            names: &mut self.names,
            group,
            watch,
        };
        let bytes = match operation {
            Operation::Create => turn.create(),
            Operation::AddOne => turn.add(1, 1),
            Operation::AddMany => turn.add(MANY, MANY),
            Operation::AddBatches => turn.add(MANY, BATCH),
            Operation::Remove => turn.remove(),
            Operation::Update => turn.update(),
            Operation::UpdateEveryone => turn.update_everyone(),
            Operation::ExternalJoin => turn.join_externally(),
            Operation::JoinWelcome => turn.join_by_welcome(),
            Operation::Process => turn.process(),
            Operation::Encrypt => turn.encrypt(),
            Operation::Decrypt => turn.decrypt(0),
            Operation::DecryptGap => turn.decrypt(GAP),
            Operation::DecryptUnordered => turn.decrypt_unordered(),
            Operation::Export => turn.export(),
            Operation::HubBare | Operation::Hub | Operation::Checkpoint | Operation::Restore => {
                Err(Failure::Unsupported("the interface has no such thing".to_owned()))
            }
        }?;
        Ok(Outcome {
            bytes,
            work: BTreeMap::new(),
        })
    }

    fn check(&mut self) -> Result<Vec<Witness>, Failure> {
        let group = self.group.as_ref();
        let group = group.ok_or_else(|| Failure::Unsupported("no group has been prepared".to_owned()))?;
        group.check(&mut self.client)
    }
}

type Sizes = BTreeMap<String, u64>;

/// One sample.
struct Turn<'a> {
    client: &'a mut Client,
    names: &'a mut Names,
    group: &'a mut Group,
    watch: &'a mut Stopwatch,
}

impl Turn<'_> {
    fn newcomers(&mut self, count: usize) -> Result<Vec<Newcomer>, Failure> {
        let suite = self.group.suite();
        let newcomer = |_| Newcomer::new(self.client, self.names, suite);
        (0..count).map(newcomer).collect()
    }

    fn create(&mut self) -> Result<Sizes, Failure> {
        let newcomers = self.newcomers(self.group.counts().1 - 1)?;
        let (client, names, suite) = (&mut *self.client, &mut *self.names, self.group.suite());
        let others = adds(&newcomers);
        let (founder, made) = self.watch.time(|| {
            let founder = Member::found(client, names, suite)?;
            let made = founder.commit(client, others)?;
            founder.merge(client)?;
            Ok::<_, Failure>((founder, made))
        })?;
        free(client, founder.state_id)?;
        Ok(added(&made, &newcomers))
    }

    /// So many at once until all are there; each time but for the last it is merged in the time as well.
    fn add(&mut self, count: usize, at_once: usize) -> Result<Sizes, Failure> {
        let newcomers = self.newcomers(count)?;
        let mut sum = Sizes::new();
        for batch in newcomers.chunks(at_once) {
            let (client, first) = (&mut *self.client, self.group.first());
            let made = self.watch.time(|| {
                let made = first.commit(client, adds(batch))?;
                if at_once < count {
                    first.merge(client)?;
                }
                Ok::<_, Failure>(made)
            })?;
            // Whoever has merged already does not mind to be asked again.
            self.group.follow(self.client, 0, &made.commit)?;
            for (name, bytes) in added(&made, batch) {
                let total = sum.entry(name.clone()).or_insert(0);
                *total = if name == "key-package" { bytes } else { *total + bytes };
            }
        }
        self.group.put_out(self.client, &newcomers)?;
        Ok(sum)
    }

    fn remove(&mut self) -> Result<Sizes, Failure> {
        let made = self.group.replace(self.client, self.names, self.watch)?;
        Ok(sizes([("commit", made.commit.len())]))
    }

    fn update(&mut self) -> Result<Sizes, Failure> {
        let (client, first) = (&mut *self.client, self.group.first());
        let made = self.watch.time(|| first.commit(client, Vec::new()))?;
        self.group.follow(self.client, 0, &made.commit)?;
        Ok(sizes([("commit", made.commit.len())]))
    }

    fn update_everyone(&mut self) -> Result<Sizes, Failure> {
        if !self.group.stays_as_it_is() {
            return Err(Failure::Unsupported(
                "the group would be another one afterwards".to_owned(),
            ));
        }
        let sent = self.group.update_everyone(self.client, self.watch)?;
        Ok([("commit".to_owned(), sent)].into())
    }

    fn join_externally(&mut self) -> Result<Sizes, Failure> {
        let group_info = self.group.first().group_info(self.client)?;
        let request = ExternalJoinRequest {
            group_info: group_info.clone(),
            ratchet_tree: Vec::new(),
            encrypt_handshake: false,
            identity: self.names.next(),
            remove_prior: false,
        };
        let client = &mut *self.client;
        let joined = self.watch.time(|| client.external_join(request));
        let joined = joined.map_err(Failure::at("joining by an external commit"))?;
        // Nobody hears of the commit.
        free(self.client, joined.state_id)?;
        Ok(sizes([
            ("commit", joined.commit.len()),
            ("group-info", group_info.len()),
        ]))
    }

    fn join_by_welcome(&mut self) -> Result<Sizes, Failure> {
        let newcomers = self.newcomers(1)?;
        let made = self.group.first().commit(self.client, adds(&newcomers))?;
        self.group.follow(self.client, 0, &made.commit)?;
        let client = &mut *self.client;
        let joined = self.watch.time(|| newcomers[0].join(client, &made.welcome))?;
        free(self.client, joined.state_id)?;
        self.group.put_out(self.client, &newcomers)?;
        Ok(sizes([("welcome", made.welcome.len())]))
    }

    fn process(&mut self) -> Result<Sizes, Failure> {
        let made = self.group.first().commit(self.client, Vec::new())?;
        self.group.follow_timed(self.client, &made.commit, self.watch)?;
        Ok(sizes([("commit", made.commit.len())]))
    }

    fn message(&mut self) -> Result<ProtectResponse, Failure> {
        let request = ProtectRequest {
            state_id: self.group.first().state_id,
            authenticated_data: Vec::new(),
            plaintext: PLAINTEXT.to_vec(),
        };
        self.client
            .protect(request)
            .map_err(Failure::at("encrypting a message"))
    }

    fn encrypt(&mut self) -> Result<Sizes, Failure> {
        let request = ProtectRequest {
            state_id: self.group.first().state_id,
            authenticated_data: Vec::new(),
            plaintext: PLAINTEXT.to_vec(),
        };
        let client = &mut *self.client;
        let message = self.watch.time(|| client.protect(request));
        let message = message.map_err(Failure::at("encrypting a message"))?;
        Ok(sizes([("message", message.ciphertext.len())]))
    }

    /// After so many messages that never come.
    fn decrypt(&mut self, gap: usize) -> Result<Sizes, Failure> {
        for _ in 0..gap {
            self.message()?;
        }
        let message = self.message()?.ciphertext;
        self.read(&message)?;
        Ok(sizes([("message", message.len())]))
    }

    fn decrypt_unordered(&mut self) -> Result<Sizes, Failure> {
        let messages = (0..UNORDERED).map(|_| self.message());
        let messages = messages.collect::<Result<Vec<_>, _>>()?;
        for message in messages.iter().rev() {
            self.read(&message.ciphertext)?;
        }
        self.watch.divide(UNORDERED);
        Ok(sizes([("message", messages[0].ciphertext.len())]))
    }

    fn read(&mut self, message: &[u8]) -> Result<(), Failure> {
        let failed = "decrypting a message";
        let request = UnprotectRequest {
            state_id: self.group.second().state_id,
            ciphertext: message.to_vec(),
        };
        let client = &mut *self.client;
        let read = self.watch.time(|| client.unprotect(request));
        match read.map_err(Failure::at(failed))?.plaintext == PLAINTEXT {
            true => Ok(()),
            false => Err(Failure::at(failed)("it reads otherwise")),
        }
    }

    fn export(&mut self) -> Result<Sizes, Failure> {
        for _ in 0..EXPORTS {
            let request = ExportRequest {
                state_id: self.group.first().state_id,
                label: "nabe lab".to_owned(),
                context: Vec::new(),
                key_length: 32,
            };
            let client = &mut *self.client;
            let secret = self.watch.time(|| client.export(request));
            let secret = secret.map_err(Failure::at("exporting a secret"))?.exported_secret;
            if secret.len() != 32 {
                return Err(Failure::at("exporting a secret")(secret.len()));
            }
        }
        self.watch.divide(EXPORTS);
        Ok(Sizes::new())
    }
}

fn added(made: &CommitResponse, newcomers: &[Newcomer]) -> Sizes {
    let mut bytes = sizes([("commit", made.commit.len()), ("welcome", made.welcome.len())]);
    if let Some(newcomer) = newcomers.first() {
        // Without what makes an `MLSMessage` of it, as others say it.
        bytes.insert(
            "key-package".to_owned(),
            newcomer.key_package.len().saturating_sub(4) as u64,
        );
    }
    bytes
}

fn sizes<const N: usize>(sizes: [(&str, usize); N]) -> Sizes {
    sizes.map(|(name, size)| (name.to_owned(), size as u64)).into()
}

/// What the interface has.
const OPERATIONS: [Operation; 15] = [
    Operation::Create,
    Operation::AddOne,
    Operation::AddMany,
    Operation::AddBatches,
    Operation::Remove,
    Operation::Update,
    Operation::UpdateEveryone,
    Operation::ExternalJoin,
    Operation::JoinWelcome,
    Operation::Process,
    Operation::Encrypt,
    Operation::Decrypt,
    Operation::DecryptUnordered,
    Operation::DecryptGap,
    Operation::Export,
];
const NOTE: &str = "driven by gRPC: its times begin with a request and end with the answer, so the call, both encodings and the way between two processes are \
                    inside; how the stack was built is not known";
const MANY: usize = 50;
const BATCH: usize = 10;
const GAP: usize = 100;
const UNORDERED: u32 = 4;
const EXPORTS: u32 = 10;
const PLAINTEXT: [u8; 100] = [b'x'; 100];
