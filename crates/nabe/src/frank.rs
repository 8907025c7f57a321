//! `nabe frank verify`: what holds of a frank (MIMI #message-franking), each thing by its name. What nobody gave the means to
//! check stays open and is said to be.

use anyhow::{Context as _, ensure};
use nabe_content::mimi::franking::{
    CipherSuite, Frank, FrankingContext, FrankingTag, HubKey, KeyRing, application_framing, is_hub, unframe,
};
use nabe_content::mimi::{MimiContent, Origin};
use nabe_types::UnixMillis;
use nabe_wire::Message;
use nabe_wire::app_data::SafeAad;
use nabe_wire::franking::{Frank as WireFrank, FrankAad, FrankingAgentData};
use nabe_wire::mls::{self, ComponentId, Credential};
use nabe_wire::report_abuse::AbuseReport;
use openmls_rust_crypto::RustCrypto;
use openmls_traits::crypto::OpenMlsCrypto as _;

use crate::{
    cli::FrankVerify,
    decode::{Findings, hex, input_bytes},
    output::say,
};

/// Prints what holds of one frank, or of each in a report; `true` when nothing was found false.
pub(crate) fn verify(arguments: &FrankVerify) -> anyhow::Result<bool> {
    let findings = findings(arguments)?;
    if arguments.json {
        say!("{}", findings.to_json());
    } else {
        say!("{}", findings.to_text().trim_end());
    }
    Ok(findings.holds())
}

fn findings(arguments: &FrankVerify) -> anyhow::Result<Findings> {
    let means = Means::read(arguments)?;
    ensure!(
        means.are_any(),
        "nothing to check it against: give --tag, --agent, --hub-key, --sender, --room or --suite"
    );
    let mut findings = Findings::default();
    match &arguments.report {
        Some(report) => verify_report(&given("--report", report)?, &means, &mut findings)?,
        None => {
            let content = given("--content", arguments.content.as_deref().unwrap_or_default())?;
            let frank = given("--frank", arguments.frank.as_deref().unwrap_or_default())?;
            let franked = Franked {
                content: &content,
                frank: &WireFrank::from_bytes(&frank).context("--frank")?,
                accepted: UnixMillis(arguments.accepted.unwrap_or_default()),
                of: "",
            };
            franked.verify(&means, &mut findings);
        }
    }
    Ok(findings)
}

fn verify_report(bytes: &[u8], means: &Means, findings: &mut Findings) -> anyhow::Result<()> {
    let report = AbuseReport::from_bytes(bytes).context("--report")?;
    findings.fact("alleged abuser", &*report.alleged_abuser_uri);
    ensure!(!report.messages.is_empty(), "the report has no messages");
    for (index, message) in report.messages.iter().enumerate() {
        let of = format!("message {index}: ");
        let franked = Franked {
            content: &message.message_content,
            frank: &message.frank,
            accepted: UnixMillis(message.accepted_timestamp),
            of: &of,
        };
        let mut found = Findings::default();
        let Some(sent) = franked.verify(means, &mut found) else {
            findings.append(found);
            continue;
        };
        let name = format!("{of}alleged abuser");
        let holds = found.holds();
        findings.append(found);
        if sent.by != *report.alleged_abuser_uri {
            findings.statement(name, false, format!("the message names {}", sent.by));
        } else if !holds {
            findings.open(name, "is who the message names, and not everything about it holds");
        } else if !sent.is_genuine {
            // The signature of the agent is over the frank, which says nothing to those who cannot make it again.
            findings.open(
                name,
                "is who the message names; only the hub can tell that it was sent: give --hub-key",
            );
        } else {
            findings.statement(name, true, "is who sent it");
        }
    }
    Ok(())
}

/// What a message claims, and whether it was shown.
struct Sent {
    /// The sender that the message names.
    by: String,
    /// The hub made the frank of this message, this sender, room and time.
    is_genuine: bool,
}

/// What there is to check franks with.
struct Means {
    tag: Option<FrankingTag>,
    agent: Option<Agent>,
    hub_keys: Option<KeyRing>,
    sender: Option<String>,
    room: Option<String>,
    suite: Option<u16>,
}

/// The group's franking agent.
enum Agent {
    /// A public key.
    Bare(Vec<u8>),
    /// A public key, and whose it is.
    Data(FrankingAgentData),
}

impl Agent {
    fn read(bytes: Vec<u8>) -> anyhow::Result<Self> {
        match FrankingAgentData::from_bytes(&bytes) {
            Ok(data) => Ok(Self::Data(data)),
            Err(_) if is_public_key(&bytes) => Ok(Self::Bare(bytes)),
            Err(error) => Err(error).context("--agent: neither a public key nor FrankingAgentData"),
        }
    }

    fn key(&self) -> &[u8] {
        match self {
            Self::Bare(key) => key,
            Self::Data(data) => &data.franking_signature_key,
        }
    }
}

/// Of Ed25519 or Ed448; of P-256, P-384 or P-521, as points without compression.
fn is_public_key(bytes: &[u8]) -> bool {
    match bytes.len() {
        32 | 57 => true,
        65 | 97 | 133 => bytes.first() == Some(&4),
        _ => false,
    }
}

impl Means {
    const fn are_any(&self) -> bool {
        self.tag.is_some()
            || self.agent.is_some()
            || self.hub_keys.is_some()
            || self.sender.is_some()
            || self.room.is_some()
            || self.suite.is_some()
    }

    fn read(arguments: &FrankVerify) -> anyhow::Result<Self> {
        let tag = arguments.tag.as_deref().map(read_tag).transpose()?;
        let agent = arguments
            .agent
            .as_deref()
            .map(|agent| Agent::read(given("--agent", agent)?))
            .transpose()?;
        let mut hub_keys = KeyRing::new();
        for key in &arguments.hub_key {
            let key = <[u8; 32]>::try_from(given("--hub-key", key)?)
                .map_err(|other| anyhow::anyhow!("--hub-key: {} bytes, must be 32", other.len()))?;
            hub_keys.add(UnixMillis(0), HubKey::from_random(key));
        }
        Ok(Self {
            tag,
            agent,
            hub_keys: (!arguments.hub_key.is_empty()).then_some(hub_keys),
            sender: arguments.sender.clone(),
            room: arguments.room.clone(),
            suite: arguments.suite,
        })
    }
}

fn given(option: &'static str, argument: &str) -> anyhow::Result<Vec<u8>> {
    input_bytes(argument).context(option)
}

/// 32 bytes are a tag; anything else is the additional data that it travels in.
fn read_tag(argument: &str) -> anyhow::Result<FrankingTag> {
    let bytes = given("--tag", argument)?;
    if let Ok(tag) = <[u8; 32]>::try_from(bytes.as_slice()) {
        return Ok(FrankingTag(tag));
    }
    let aad = SafeAad::from_bytes(&bytes).context("--tag: neither 32 bytes nor a SafeAAD")?;
    let item = aad
        .item(ComponentId::FRANK_AAD)
        .context("--tag: a SafeAAD without a franking tag")?;
    Ok(FrankingTag(FrankAad::from_bytes(item).context("--tag")?.franking_tag))
}

/// A message and what the hub gave for it.
struct Franked<'a> {
    content: &'a [u8],
    frank: &'a WireFrank,
    accepted: UnixMillis,
    /// What stands before the names of its findings.
    of: &'a str,
}

impl Franked<'_> {
    /// Notes everything that holds and does not. Returns what the message claims, if it is a message.
    fn verify(&self, means: &Means, findings: &mut Findings) -> Option<Sent> {
        let of = self.of;
        let named = |name: &str| format!("{of}{name}");
        let content = match self.message() {
            Ok(content) => content,
            Err(error) => {
                findings.statement(named("content"), false, error);
                return None;
            }
        };
        findings.fact(&named("says"), content.to_plain());
        let Some(origin) = Origin::claimed(&content) else {
            let detail = "names no sender and room, which a franked message must";
            findings.statement(named("content"), false, detail);
            return None;
        };
        findings.statement(named("content"), true, "MIMI content that names its sender and room");
        for (name, known, said) in [
            ("sender", &means.sender, origin.sender()),
            ("room", &means.room, origin.room()),
        ] {
            match known {
                Some(known) if known == said => findings.statement(named(name), true, said),
                Some(known) => findings.statement(named(name), false, format!("names {said}, it is {known}")),
                None => findings.fact(&named(name), format!("{said}, by the message's own word")),
            }
        }
        let context = FrankingContext {
            origin: origin.clone(),
            accepted: self.accepted,
        };
        let tag = self.client_tag(&content, means, findings);
        let frank = Frank {
            server_frank: self.frank.server_frank,
            cipher_suite: CipherSuite(self.frank.franking_signature_ciphersuite.0),
            integrity_signature: self.frank.franking_integrity_signature.to_vec(),
        };
        let is_genuine = self.server_frank(&frank, &context, &tag, means, findings);
        self.integrity(&frank, &context, means, findings);
        Some(Sent {
            by: origin.sender().to_owned(),
            is_genuine,
        })
    }

    fn message(&self) -> Result<MimiContent, String> {
        let message = unframe(self.content).map_err(|error| error.to_string())?;
        MimiContent::decode(message).map_err(|error| error.to_string())
    }

    /// The tags that the sender may have sent: of what was given, and, if that was bare, of its framing.
    fn client_tag(&self, content: &MimiContent, means: &Means, findings: &mut Findings) -> Vec<FrankingTag> {
        let name = format!("{}client tag", self.of);
        let tag = FrankingTag::compute(&content.salt, self.content);
        let framed = FrankingTag::compute(&content.salt, &application_framing(self.content));
        match &means.tag {
            Some(stated) if *stated == tag => findings.statement(name, true, hex(&tag.0)),
            Some(stated) if *stated == framed => {
                findings.statement(name, true, format!("{}, of the message in its framing", hex(&framed.0)));
            }
            Some(stated) => {
                let detail = format!("stated {}, of this message it is {}", hex(&stated.0), hex(&tag.0));
                findings.statement(name, false, detail);
            }
            None => {
                // A report carries none: its server frank is checked with the tag of the content.
                let wanted = if self.of.is_empty() {
                    "give --tag"
                } else {
                    "a report has none"
                };
                findings.open(name, format!("{wanted}; of this message it is {}", hex(&tag.0)));
            }
        }
        vec![tag, framed]
    }

    fn server_frank(
        &self,
        frank: &Frank,
        context: &FrankingContext,
        tags: &[FrankingTag],
        means: &Means,
        findings: &mut Findings,
    ) -> bool {
        let name = format!("{}server frank", self.of);
        let Some(keys) = &means.hub_keys else {
            findings.open(name, "only the hub can check it: give --hub-key");
            return false;
        };
        // The tag that was stated is the one to check; without it, any that the message can have.
        let stated = means.tag.as_slice();
        let tags = if stated.is_empty() { tags } else { stated };
        let genuine = tags
            .iter()
            .any(|tag| frank.verify_server_frank(tag, context, keys).is_ok());
        let detail = if genuine {
            "made by the hub for this tag, sender, room and time"
        } else {
            "no key given makes it of this tag, sender, room and time"
        };
        findings.statement(name, genuine, detail);
        genuine
    }

    fn integrity(&self, frank: &Frank, context: &FrankingContext, means: &Means, findings: &mut Findings) {
        let of = self.of;
        let suite = mls::CipherSuite(frank.cipher_suite.0);
        match means.suite {
            Some(known) if known == suite.0 => findings.statement(format!("{of}cipher suite"), true, known.to_string()),
            Some(known) => {
                let detail = format!("made with {}, the group has {known}", suite.0);
                findings.statement(format!("{of}cipher suite"), false, detail);
            }
            None => findings.fact(&format!("{of}cipher suite"), i64::from(suite.0)),
        }
        let name = format!("{of}integrity signature");
        match (&means.agent, suite.signature_scheme()) {
            (None, _) => findings.open(name, "give --agent, the group's franking agent"),
            (Some(_), None) => findings.open(name, format!("the algorithm of cipher suite {} is not known", suite.0)),
            (Some(agent), Some(scheme)) => {
                let crypto = RustCrypto::default();
                let verify = |_, signed: &[u8], signature: &[u8]| {
                    crypto.verify_signature(scheme, signed, agent.key(), signature).is_ok()
                };
                let by = match agent {
                    Agent::Bare(_) => "key given",
                    Agent::Data(_) => "franking agent",
                };
                match frank.verify_integrity(context, verify) {
                    Ok(()) => {
                        let detail = format!("by the {by}, over frank, sender, room and time");
                        findings.statement(name, true, detail);
                    }
                    Err(error) => findings.statement(name, false, error.to_string()),
                }
            }
        }
        let name = format!("{of}franking agent is the hub");
        match &means.agent {
            None => {}
            Some(Agent::Bare(_)) => findings.open(name, "a bare key is nobody's: give FrankingAgentData"),
            Some(Agent::Data(data)) => match &data.credential {
                Credential::Basic { identity } => {
                    let (agent, room) = (String::from_utf8_lossy(identity), context.origin.room());
                    findings.statement(name, is_hub(&agent, room), format!("{agent}, room {room}"));
                }
                other => {
                    let detail = format!(
                        "who is meant by a credential of type {} is not looked at",
                        other.credential_type().0
                    );
                    findings.open(name, detail);
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
