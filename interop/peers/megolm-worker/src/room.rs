//! A room as one of its members sees it who sends: a Megolm session, and an Olm session with the device of each of the others.

use std::collections::BTreeMap;

use nabe_lab::measure::Stopwatch;
use nabe_lab::protocol::Witness;
use nabe_lab::worker::{Failure, Outcome};
use vodozemac::megolm::{GroupSession, InboundGroupSession, MegolmMessage, SessionConfig, SessionKey};
use vodozemac::olm::{self, Account, OlmMessage, Session};
use vodozemac::{Curve25519PublicKey, base64_decode};

pub struct Room {
    sender: Account,
    session: GroupSession,
    devices: Vec<Device>,
    rotations: u64,
}

/// Another member's device.
struct Device {
    account: Account,
    one_time_key: Curve25519PublicKey,
    /// The sender's Olm session with it, and its with the sender, once there is one.
    sessions: Option<(Session, Session)>,
    /// What the sender writes, as this one reads it; only live ones do.
    inbound: Option<InboundGroupSession>,
}

impl Device {
    fn new() -> Result<Self, Failure> {
        let mut account = Account::new();
        let made = account.generate_one_time_keys(1).created;
        let one_time_key = made.first().copied();
        Ok(Self {
            one_time_key: one_time_key.ok_or_else(|| Failure::at("making a one-time key")("none"))?,
            account,
            sessions: None,
            inbound: None,
        })
    }

    fn begin(&self, sender: &Account) -> Result<Session, Failure> {
        let config = olm::SessionConfig::version_1();
        let session = sender.create_outbound_session(config, self.account.curve25519_key(), self.one_time_key);
        session.map_err(Failure::at("beginning an Olm session"))
    }

    /// The sender says something, and the device answers, so that both have a session that both have used.
    fn meet(&mut self, sender: &Account) -> Result<(), Failure> {
        let failed = "meeting over Olm";
        let mut ours = self.begin(sender)?;
        let OlmMessage::PreKey(first) = ours.encrypt("hello").map_err(Failure::at(failed))? else {
            return Err(Failure::at(failed)("no first message"));
        };
        let config = olm::SessionConfig::version_1();
        let met = self
            .account
            .create_inbound_session(config, sender.curve25519_key(), &first);
        let mut theirs = met.map_err(Failure::at(failed))?.session;
        let answer = theirs.encrypt("hello").map_err(Failure::at(failed))?;
        ours.decrypt(&answer).map_err(Failure::at(failed))?;
        self.sessions = Some((ours, theirs));
        Ok(())
    }
}

impl Room {
    /// `has_sessions`: whether the sender has an Olm session with every device already.
    pub fn new(size: usize, has_sessions: bool) -> Result<Self, Failure> {
        let sender = Account::new();
        let mut devices = (1..size).map(|_| Device::new()).collect::<Result<Vec<_>, _>>()?;
        if has_sessions {
            devices.iter_mut().try_for_each(|device| device.meet(&sender))?;
        }
        let session = GroupSession::new(SessionConfig::version_1());
        let mut room = Self {
            sender,
            session,
            devices,
            rotations: 0,
        };
        room.hand_out();
        Ok(room)
    }

    pub fn others(&self) -> usize {
        self.devices.len()
    }

    /// The live devices get the session's key, without a message.
    fn hand_out(&mut self) {
        let key = self.session.session_key();
        for device in self.devices.iter_mut().take(LIVE) {
            device.inbound = Some(InboundGroupSession::new(&key, SessionConfig::version_1()));
        }
    }

    /// A new Megolm session, and its key to so many devices; over new Olm sessions if there are none or `begins` says so.
    pub fn share_anew(&mut self, count: usize, begins: bool, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        // An Olm session moves on with each message, so the sending halves are copied and the copies dropped.
        let mut kept: Vec<Option<Session>> = self.devices[..count]
            .iter()
            .map(|device| {
                let kept = device.sessions.as_ref().filter(|_| !begins);
                kept.map(|(ours, _)| Session::from_pickle(ours.pickle()))
            })
            .collect();
        let (sender, devices) = (&self.sender, &self.devices);
        let bytes = watch.time(|| {
            let key = GroupSession::new(SessionConfig::version_1()).session_key().to_base64();
            let mut bytes = 0;
            for (device, kept) in devices.iter().zip(&mut kept) {
                let mut begun = match kept {
                    Some(_) => None,
                    None => Some(device.begin(sender)?),
                };
                let session = kept.as_mut().or(begun.as_mut());
                let session = session.ok_or_else(|| Failure::at("sharing a key")("no session"))?;
                bytes += size_of(&session.encrypt(&key).map_err(Failure::at("sharing a key"))?);
            }
            Ok::<_, Failure>(bytes)
        })?;
        Ok(shared(bytes, count))
    }

    /// The key of the session as it is, to devices that nobody has met.
    pub fn share_with_newcomers(&mut self, count: usize, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let newcomers = (0..count).map(|_| Device::new()).collect::<Result<Vec<_>, _>>()?;
        let (sender, group) = (&self.sender, &self.session);
        let bytes = watch.time(|| {
            let key = group.session_key().to_base64();
            let mut bytes = 0;
            for device in &newcomers {
                let message = device
                    .begin(sender)?
                    .encrypt(&key)
                    .map_err(Failure::at("sharing a key"))?;
                bytes += size_of(&message);
            }
            Ok::<_, Failure>(bytes)
        })?;
        Ok(shared(bytes, count))
    }

    /// A new device takes in the key, over an Olm session that begins with it.
    pub fn join(&mut self, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let failed = "taking in a key";
        let mut device = Device::new()?;
        let key = self.session.session_key().to_base64();
        let message = device.begin(&self.sender)?.encrypt(&key).map_err(Failure::at(failed))?;
        let sender = self.sender.curve25519_key();
        let bytes = size_of(&message);
        watch.time(|| {
            let OlmMessage::PreKey(first) = &message else {
                return Err(Failure::at(failed)("no first message"));
            };
            let config = olm::SessionConfig::version_1();
            let met = device.account.create_inbound_session(config, sender, first);
            read_key(&met.map_err(Failure::at(failed))?.plaintext).map(drop)
        })?;
        Ok(shared(bytes, 0))
    }

    /// A device takes in the key of the sender's next session.
    pub fn follow(&mut self, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let failed = "taking in a key";
        let Some((ours, theirs)) = self.devices[0].sessions.as_ref() else {
            return self.join(watch);
        };
        let (mut ours, mut theirs) = (
            Session::from_pickle(ours.pickle()),
            Session::from_pickle(theirs.pickle()),
        );
        let key = GroupSession::new(SessionConfig::version_1()).session_key().to_base64();
        let message = ours.encrypt(&key).map_err(Failure::at(failed))?;
        watch.time(|| {
            let plaintext = theirs.decrypt(&message).map_err(Failure::at(failed))?;
            read_key(&plaintext).map(drop)
        })?;
        Ok(shared(size_of(&message), 0))
    }

    pub fn encrypt(&mut self, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let message = watch.time(|| self.session.encrypt(PLAINTEXT).to_bytes());
        Ok(sent(&message))
    }

    /// After so many messages that never come.
    pub fn decrypt(&mut self, gap: usize, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        for _ in 0..gap {
            self.session.encrypt(PLAINTEXT);
        }
        let message = self.session.encrypt(PLAINTEXT).to_bytes();
        let inbound = self.reader()?;
        let plaintext = watch.time(|| open(inbound, &message))?;
        is_right(&plaintext)?;
        Ok(sent(&message))
    }

    pub fn decrypt_unordered(&mut self, watch: &mut Stopwatch) -> Result<Outcome, Failure> {
        let messages: Vec<_> = (0..UNORDERED)
            .map(|_| self.session.encrypt(PLAINTEXT).to_bytes())
            .collect();
        let inbound = self.reader()?;
        for message in messages.iter().rev() {
            is_right(&watch.time(|| open(inbound, message))?)?;
        }
        watch.divide(UNORDERED);
        Ok(sent(&messages[0]))
    }

    fn reader(&mut self) -> Result<&mut InboundGroupSession, Failure> {
        let device = self.devices.first_mut().and_then(|device| device.inbound.as_mut());
        device.ok_or_else(|| Failure::at("decrypting")("nobody is live"))
    }

    /// A new session, whose first message every live device reads.
    pub fn check(&mut self) -> Result<Vec<Witness>, Failure> {
        self.session = GroupSession::new(SessionConfig::version_1());
        self.rotations += 1;
        self.hand_out();
        let message = self.session.encrypt(PLAINTEXT).to_bytes();
        let mut witnesses = vec![self.witness(0, &self.session.session_id())?];
        for (index, device) in self.devices.iter_mut().take(LIVE).enumerate() {
            let inbound = device
                .inbound
                .as_mut()
                .ok_or_else(|| Failure::at("checking")("nobody is live"))?;
            is_right(&open(inbound, &message)?)?;
            let id = inbound.session_id();
            witnesses.push(witness(self.rotations, index as u32 + 1, &id)?);
        }
        Ok(witnesses)
    }

    fn witness(&self, leaf: u32, session_id: &str) -> Result<Witness, Failure> {
        witness(self.rotations, leaf, session_id)
    }
}

/// There is no tree, and what members agree on is which session it is, once they have read from it.
fn witness(rotations: u64, leaf: u32, session_id: &str) -> Result<Witness, Failure> {
    let id = base64_decode(session_id).map_err(Failure::at("reading a session's name"))?;
    Ok(Witness {
        leaf: Some(leaf),
        epoch: rotations,
        tree_hash: String::new(),
        authenticator: Some(id.iter().map(|byte| format!("{byte:02x}")).collect()),
    })
}

fn open(inbound: &mut InboundGroupSession, message: &[u8]) -> Result<Vec<u8>, Failure> {
    let message = MegolmMessage::from_bytes(message).map_err(Failure::at("decrypting"))?;
    Ok(inbound.decrypt(&message).map_err(Failure::at("decrypting"))?.plaintext)
}

fn read_key(plaintext: &[u8]) -> Result<InboundGroupSession, Failure> {
    let failed = "reading a key";
    let text = std::str::from_utf8(plaintext).map_err(Failure::at(failed))?;
    let key = SessionKey::from_base64(text).map_err(Failure::at(failed))?;
    Ok(InboundGroupSession::new(&key, SessionConfig::version_1()))
}

fn is_right(plaintext: &[u8]) -> Result<(), Failure> {
    match plaintext == PLAINTEXT {
        true => Ok(()),
        false => Err(Failure::at("decrypting")("it reads otherwise")),
    }
}

fn size_of(message: &OlmMessage) -> u64 {
    message.to_parts().1.len() as u64
}

/// `commit` is what has to be sent so that all have the key: nothing else compares with one.
fn shared(bytes: u64, seals: usize) -> Outcome {
    Outcome {
        bytes: sizes([("commit", bytes)]),
        work: sizes([("seals", seals as u64)]),
    }
}

fn sent(message: &[u8]) -> Outcome {
    Outcome {
        bytes: sizes([("message", message.len() as u64)]),
        ..Outcome::default()
    }
}

pub fn sizes<const N: usize>(sizes: [(&str, u64); N]) -> BTreeMap<String, u64> {
    sizes.map(|(name, size)| (name.to_owned(), size)).into()
}

/// Devices that read.
const LIVE: usize = 15;
const UNORDERED: u32 = 4;
const PLAINTEXT: &[u8] = &[b'x'; 100];
