//! Each thing is said to hold by its name, and each change is noticed where it was made.

use nabe_wire::Encode as _;
use serde_json::Value;

use super::*;

/// Content, frank, and the rest of the vectors' frank of this number.
struct Case {
    content: Vec<u8>,
    application_data: Vec<u8>,
    frank: Vec<u8>,
    vector: Value,
}

fn case(index: usize) -> Case {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../drafts/mimi-content/vectors/content.json"
    );
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let vector = file["franking"][index].clone();
    let bytes = |member: &str| input_bytes(vector[member].as_str().unwrap()).unwrap();
    let content = bytes("cbor");
    let application_data = match vector["framed"].as_bool().unwrap() {
        true => application_framing(&content),
        false => content.clone(),
    };
    let frank = WireFrank {
        server_frank: bytes("server_frank").try_into().unwrap(),
        franking_signature_ciphersuite: mls::CipherSuite(vector["cipher_suite"].as_u64().unwrap().try_into().unwrap()),
        franking_integrity_signature: bytes("signature").into(),
    };
    Case {
        content,
        application_data,
        frank: frank.to_bytes(),
        vector,
    }
}

impl Case {
    fn text(&self, member: &str) -> String {
        self.vector[member].as_str().unwrap().to_owned()
    }

    fn arguments(&self) -> FrankVerify {
        FrankVerify {
            report: None,
            content: Some(hex(&self.application_data)),
            frank: Some(hex(&self.frank)),
            accepted: self.vector["accepted"].as_u64(),
            tag: Some(self.text("tag")),
            agent: Some(self.text("public")),
            hub_key: vec![self.text("hub_key")],
            sender: Some("mimi://b.example/u/bob".to_owned()),
            room: Some("mimi://a.example/r/fish".to_owned()),
            suite: Some(self.vector["cipher_suite"].as_u64().unwrap().try_into().unwrap()),
            json: false,
        }
    }
}

fn lines(arguments: &FrankVerify) -> String {
    findings(arguments).unwrap().to_text()
}

/// Why nothing was checked.
fn refused(arguments: &FrankVerify) -> String {
    format!("{:#}", verify(arguments).unwrap_err())
}

/// What is said of the thing with this name, after the mark before it.
fn said_of<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    text.lines().find_map(|line| {
        let (mark, rest) = line.split_at_checked(7)?;
        let detail = rest.strip_prefix(name)?.strip_prefix("  ")?;
        Some((mark.trim(), detail.trim()))
    })
}

/// The names of what does not hold.
fn false_in(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("FALSE  "));
    lines
        .map(|line| line.split("  ").next().unwrap().trim().to_owned())
        .collect()
}

#[test]
fn what_is_true_holds_with_and_without_framing() {
    for index in 0..2 {
        let text = lines(&case(index).arguments());
        assert_eq!(false_in(&text), Vec::<String>::new(), "{text}");
        for name in [
            "content",
            "sender",
            "room",
            "client tag",
            "server frank",
            "cipher suite",
            "integrity signature",
        ] {
            assert!(
                text.lines().any(|line| line.starts_with(&format!("ok     {name} "))),
                "{name}: {text}"
            );
        }
    }
    // The bare content of a framed message, as a reporter may have kept it.
    let case = case(1);
    let mut arguments = case.arguments();
    arguments.content = Some(hex(&case.content));
    let text = lines(&arguments);
    assert!(false_in(&text).is_empty() && text.contains("in its framing"), "{text}");
}

#[test]
fn each_change_is_noticed_where_it_was_made() {
    let case = case(0);
    let with = |change: &dyn Fn(&mut FrankVerify)| {
        let mut arguments = case.arguments();
        change(&mut arguments);
        false_in(&lines(&arguments))
    };
    let flipped = |text: &str, at: usize| {
        let mut bytes = input_bytes(text).unwrap();
        bytes[at] ^= 1;
        hex(&bytes)
    };
    let at_end = case.content.len() - 1;
    assert_eq!(
        with(&|it| it.content = Some(flipped(&hex(&case.content), at_end))),
        ["client tag"],
        "the frank is of the tag, and of the sender and room that the message names"
    );
    assert_eq!(
        with(&|it| it.tag = Some("00".repeat(32))),
        ["client tag", "server frank"]
    );
    assert_eq!(
        with(&|it| it.frank = Some(flipped(&hex(&case.frank), 0))),
        ["server frank", "integrity signature"]
    );
    let signature = case.frank.len() - 1;
    assert_eq!(
        with(&|it| it.frank = Some(flipped(&hex(&case.frank), signature))),
        ["integrity signature"]
    );
    assert_eq!(
        with(&|it| it.accepted = Some(1)),
        ["server frank", "integrity signature"]
    );
    assert_eq!(with(&|it| it.hub_key = vec!["00".repeat(32)]), ["server frank"]);
    assert_eq!(with(&|it| it.agent = Some("00".repeat(32))), ["integrity signature"]);
    assert_eq!(
        with(&|it| it.sender = Some("mimi://x.example/u/x".to_owned())),
        ["sender"]
    );
    assert_eq!(with(&|it| it.room = Some("mimi://x.example/r/x".to_owned())), ["room"]);
    assert_eq!(with(&|it| it.suite = Some(2)), ["cipher suite"]);
    assert_eq!(with(&|it| it.content = Some("00".to_owned())), ["content"]);
}

#[test]
fn what_cannot_be_checked_is_open_and_not_called_true() {
    let case = case(0);
    let mut arguments = case.arguments();
    (arguments.tag, arguments.agent, arguments.hub_key) = (None, None, Vec::new());
    let text = lines(&arguments);
    for name in ["client tag", "server frank", "integrity signature"] {
        assert_eq!(said_of(&text, name).unwrap().0, "?", "{text}");
    }
    assert!(
        said_of(&text, "client tag").unwrap().1.contains(&case.text("tag")),
        "{text}"
    );
    assert!(false_in(&text).is_empty());
    assert_eq!(said_of(&text, "sender").unwrap().0, "ok", "it was given: {text}");
}

#[test]
fn with_nothing_to_check_against_nothing_is_said() {
    let case = case(0);
    let mut arguments = case.arguments();
    (arguments.tag, arguments.agent, arguments.hub_key) = (None, None, Vec::new());
    (arguments.sender, arguments.room, arguments.suite) = (None, None, None);
    assert!(refused(&arguments).starts_with("nothing to check it against: "));
    (arguments.content, arguments.frank, arguments.accepted) = (None, None, None);
    arguments.report = Some(hex(&report(&case, "mimi://b.example/u/bob").to_bytes()));
    assert!(refused(&arguments).starts_with("nothing to check it against: "));
}

#[test]
fn an_old_key_of_the_hub_will_do() {
    let case = case(0);
    let mut arguments = case.arguments();
    arguments.hub_key = vec!["11".repeat(32), case.text("hub_key"), "22".repeat(32)];
    assert!(false_in(&lines(&arguments)).is_empty());
}

#[test]
fn the_tag_may_be_in_its_safe_aad_and_the_agent_in_its_data() {
    let case = case(0);
    let mut arguments = case.arguments();
    let aad = format!("27 0020 20 {} 8001 01 78", case.text("tag"));
    arguments.tag = Some(aad);
    let agent = |uri: &str| {
        let credential = Credential::Basic {
            identity: uri.as_bytes().into(),
        };
        let key = input_bytes(&case.text("public")).unwrap();
        let data = FrankingAgentData {
            franking_signature_key: key.into(),
            credential,
        };
        Some(hex(&data.to_bytes()))
    };
    arguments.agent = agent("mimi://a.example");
    let text = lines(&arguments);
    assert!(
        false_in(&text).is_empty() && text.contains("ok     franking agent is the hub"),
        "{text}"
    );
    arguments.agent = agent("mimi://elsewhere.example");
    assert_eq!(false_in(&lines(&arguments)), ["franking agent is the hub"]);
}

#[test]
fn an_agent_that_is_damaged_is_no_key() {
    let case = case(0);
    let data = FrankingAgentData {
        franking_signature_key: input_bytes(&case.text("public")).unwrap().into(),
        credential: Credential::Basic {
            identity: b"mimi://a.example"[..].into(),
        },
    };
    let bytes = data.to_bytes();
    let mut arguments = case.arguments();
    for length in (0..bytes.len()).filter(|length| *length != 32) {
        arguments.agent = Some(format!("{} #", hex(&bytes[..length])));
        let why = if length == 0 {
            "--agent"
        } else {
            "--agent: neither a public key nor FrankingAgentData: "
        };
        assert!(
            refused(&arguments).starts_with(why),
            "{length}: {}",
            refused(&arguments)
        );
    }
    arguments.agent = Some(hex(&[&bytes[..], &[0]].concat()));
    assert!(
        refused(&arguments).contains(" 1 bytes follow"),
        "{}",
        refused(&arguments)
    );
    // As long as a point of P-256, which begins otherwise.
    arguments.agent = Some("20".repeat(65));
    assert!(refused(&arguments).starts_with("--agent: neither"));
}

#[test]
fn whose_agent_it_is_stays_open_where_nobody_says() {
    let case = case(0);
    let mut arguments = case.arguments();
    let name = "franking agent is the hub";
    let text = lines(&arguments);
    assert_eq!(said_of(&text, name).unwrap().0, "?", "{text}");
    assert_eq!(
        said_of(&text, "integrity signature").unwrap(),
        ("ok", "by the key given, over frank, sender, room and time")
    );
    let certified = FrankingAgentData {
        franking_signature_key: input_bytes(&case.text("public")).unwrap().into(),
        credential: Credential::X509 {
            certificates: Vec::new(),
        },
    };
    arguments.agent = Some(hex(&certified.to_bytes()));
    let text = lines(&arguments);
    assert_eq!(said_of(&text, name).unwrap().0, "?", "{text}");
    // What is no text is nobody's URI.
    let unnamed = FrankingAgentData {
        credential: Credential::Basic {
            identity: vec![0xff; 20].into(),
        },
        ..certified
    };
    arguments.agent = Some(hex(&unnamed.to_bytes()));
    assert_eq!(false_in(&lines(&arguments)), [name]);
    arguments.agent = None;
    assert_eq!(said_of(&lines(&arguments), name), None);
}

/// A report of a message twice, the second time with another time.
fn report(case: &Case, abuser: &str) -> AbuseReport {
    let message = nabe_wire::report_abuse::AbusiveMessage {
        message_content: case.content.clone().into(),
        frank: WireFrank::from_bytes(&case.frank).unwrap(),
        accepted_timestamp: case.vector["accepted"].as_u64().unwrap(),
    };
    let mut late = message.clone();
    late.accepted_timestamp += 1;
    AbuseReport {
        reporting_user: nabe_wire::IdentifierUri::new("").unwrap(),
        alleged_abuser_uri: nabe_wire::IdentifierUri::new(abuser).unwrap(),
        reason_code: nabe_wire::report_abuse::AbuseType(0),
        note: "".into(),
        messages: vec![message, late],
        abuse_extensions: nabe_wire::app_data::AppDataDictionary::new(),
    }
}

#[test]
fn a_report_is_checked_message_by_message_and_against_the_one_it_accuses() {
    let case = case(0);
    let mut arguments = case.arguments();
    (arguments.content, arguments.frank, arguments.accepted, arguments.tag) = (None, None, None, None);
    arguments.report = Some(hex(&report(&case, "mimi://b.example/u/bob").to_bytes()));
    let text = lines(&arguments);
    assert_eq!(
        false_in(&text),
        ["message 1: server frank", "message 1: integrity signature"]
    );
    assert_eq!(said_of(&text, "message 0: alleged abuser").unwrap().0, "ok", "{text}");
    let (mark, detail) = said_of(&text, "message 0: client tag").unwrap();
    assert_eq!((mark, detail.contains("--tag")), ("?", false), "{detail}");
    arguments.report = Some(hex(&report(&case, "mimi://c.example/u/carol").to_bytes()));
    let found = false_in(&lines(&arguments));
    assert!(found.contains(&"message 0: alleged abuser".to_owned()), "{found:?}");
}

#[test]
fn nobody_is_said_to_have_sent_what_was_not_shown_to_be_genuine() {
    let case = case(0);
    let mut arguments = case.arguments();
    (arguments.content, arguments.frank, arguments.accepted, arguments.tag) = (None, None, None, None);
    arguments.report = Some(hex(&report(&case, "mimi://b.example/u/bob").to_bytes()));
    let marks = |arguments: &FrankVerify| {
        let text = lines(arguments);
        [0, 1].map(|index| {
            let (mark, _) = said_of(&text, &format!("message {index}: alleged abuser")).unwrap();
            mark.to_owned()
        })
    };
    // Message 1 has a time that the hub never stated.
    assert_eq!(marks(&arguments), ["ok", "?"]);
    // The agent signs the frank with sender, room and time; whether it is of this message, only the hub can tell.
    let keys = std::mem::take(&mut arguments.hub_key);
    assert_eq!(marks(&arguments), ["?", "?"]);
    arguments.agent = None;
    assert_eq!(marks(&arguments), ["?", "?"], "by --sender and --room alone");
    // The hub's own key is enough, unless something else is false.
    arguments.hub_key = keys;
    assert_eq!(marks(&arguments), ["ok", "?"]);
    arguments.agent = Some("00".repeat(32));
    assert_eq!(marks(&arguments), ["?", "?"]);
}
