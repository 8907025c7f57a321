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
    let means = Means::read(arguments).unwrap();
    let mut findings = Findings::default();
    if let Some(report) = &arguments.report {
        verify_report(&input_bytes(report).unwrap(), &means, &mut findings).unwrap();
    } else {
        let content = input_bytes(arguments.content.as_ref().unwrap()).unwrap();
        let franked = Franked {
            content: &content,
            frank: &WireFrank::from_bytes(&input_bytes(arguments.frank.as_ref().unwrap()).unwrap()).unwrap(),
            accepted: UnixMillis(arguments.accepted.unwrap()),
            of: "",
        };
        franked.verify(&means, &mut findings);
    }
    findings.to_text()
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
    assert!(
        text.contains("?      client tag") && text.contains(&case.text("tag")),
        "{text}"
    );
    assert!(
        text.contains("?      server frank") && text.contains("?      integrity signature"),
        "{text}"
    );
    assert!(false_in(&text).is_empty());
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
fn a_report_is_checked_message_by_message_and_against_the_one_it_accuses() {
    let case = case(0);
    let report = |abuser: &str| {
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
    };
    let mut arguments = case.arguments();
    (arguments.content, arguments.frank, arguments.accepted, arguments.tag) = (None, None, None, None);
    arguments.report = Some(hex(&report("mimi://b.example/u/bob").to_bytes()));
    assert_eq!(
        false_in(&lines(&arguments)),
        ["message 1: server frank", "message 1: integrity signature"]
    );
    arguments.report = Some(hex(&report("mimi://c.example/u/carol").to_bytes()));
    let found = false_in(&lines(&arguments));
    assert!(found.contains(&"message 0: alleged abuser".to_owned()), "{found:?}");
}
