//! Nothing that is given panics, everything is found again, and what breaks is said to break where it does.

use std::path::Path;

use nabe_wire::KINDS;
use serde_json::Value;

use super::*;
use guess::Reads;
use page::{Heading, Holds};

/// Type, name and bytes of every struct of the vectors.
fn structs() -> Vec<(String, String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../drafts/mimi-protocol/vectors");
    let mut structs = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let file: Value = serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap();
        for entry in file["structs"].as_array().into_iter().flatten() {
            let text = |member: &str| entry[member].as_str().unwrap().to_owned();
            structs.push((text("type"), text("name"), unhex(&text("hex"))));
        }
    }
    assert!(structs.len() > 100);
    structs
}

fn vector(name: &str) -> Vec<u8> {
    let found = structs().into_iter().find(|(_, of, _)| of == name);
    found.unwrap_or_else(|| panic!("{name}")).2
}

fn unhex(text: &str) -> Vec<u8> {
    input::forms(text.as_bytes().to_vec(), Some(Form::Hex))
        .unwrap()
        .remove(0)
        .bytes
}

fn raw(bytes: &[u8]) -> Vec<Input> {
    input::forms(bytes.to_vec(), Some(Form::Raw)).unwrap()
}

fn contents() -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../drafts/mimi-content/vectors/content.json");
    let file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let entries = file["messages"].as_array().unwrap();
    let entries = entries.iter().map(|entry| {
        let text = |member: &str| entry[member].as_str().unwrap();
        (text("id").to_owned(), unhex(text("cbor")))
    });
    entries.collect()
}

/// Prints it both ways, and looks whether what it says is inside the bytes.
fn check(page: &Page, bytes: &[u8]) {
    let heading = Heading {
        guessed: true,
        reads: Reads::All,
        form: "raw",
        bytes: bytes.len(),
        also: Vec::new(),
    };
    let text = page.to_text(&heading, false);
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    let json: Value = serde_json::from_str(&page.to_json(&heading).to_string()).unwrap();
    assert_eq!(json["fields"].as_array().unwrap().len(), page.rows.len());
    for row in &page.rows {
        assert!(row.offset + row.length <= bytes.len(), "{row:?}");
    }
    for problem in &page.problems {
        assert!(problem.offset <= bytes.len(), "{problem:?}");
        assert!(text.contains(&format!("FALSE  byte {}, ", problem.offset)), "{text}");
    }
}

/// Everything in the vectors of all drafts that stands for itself: type, name, bytes. Contents of events are not among it,
/// which are no events, nor what is refused.
fn everything() -> Vec<(String, String, Vec<u8>)> {
    let drafts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../drafts");
    let mut all = structs();
    let mut add = |kind: &str, entry: &Value, bytes: Vec<u8>| {
        let name = entry["name"].as_str().unwrap_or("one without a name");
        all.push((kind.to_owned(), name.to_owned(), bytes));
    };
    for folder in fs::read_dir(drafts).unwrap() {
        let Ok(files) = fs::read_dir(folder.unwrap().path().join("vectors")) else {
            continue;
        };
        for file in files {
            let file: Value = serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap();
            let entries = |list: &str| file[list].as_array().cloned().unwrap_or_default();
            let text = |entry: &Value, member: &str| entry[member].as_str().map(str::to_owned);
            for entry in ["messages", "franking"].into_iter().flat_map(entries) {
                for (kind, member) in [("MimiContent", "cbor"), ("ServerFrankingContext", "context")] {
                    if let Some(hex) = text(&entry, member) {
                        add(kind, &entry, unhex(&hex));
                    }
                }
            }
            for entry in entries("status") {
                add("MessageStatusReport", &entry, unhex(&text(&entry, "cbor").unwrap()));
            }
            for entry in entries("signatures") {
                match text(&entry, "struct") {
                    Some(hex) => add(&text(&entry, "type").unwrap(), &entry, unhex(&hex)),
                    None => add(
                        &text(&entry, "label").unwrap(),
                        &entry,
                        unhex(&text(&entry, "content").unwrap()),
                    ),
                }
            }
            for entry in entries("sealed") {
                add(
                    &text(&entry, "type").unwrap(),
                    &entry,
                    unhex(&text(&entry, "plaintext").unwrap()),
                );
            }
            for entry in entries("events") {
                add("event", &entry, entry["pdu"].to_string().into_bytes());
            }
            for entry in entries("request_auth") {
                add("event", &entry, entry["object"].to_string().into_bytes());
            }
        }
    }
    let kinds: std::collections::BTreeSet<&str> = all.iter().map(|(kind, ..)| kind.as_str()).collect();
    let known = KINDS.iter().map(|kind| kind.name);
    let missing: Vec<&str> = known.filter(|name| !kinds.contains(name)).collect();
    assert_eq!(missing, [""; 0]);
    assert!(kinds.contains("event") && kinds.contains("MessageStatusReport"));
    all
}

/// Everything in the vectors is guessed right, or its type is named among what else the bytes are, and decoding it finds nothing
/// wrong.
#[test]
fn everything_is_what_it_is_or_named_among_what_else_it_reads_as() {
    let (mut wrong, mut first, mut shown) = (Vec::new(), 0, 0);
    let all = everything();
    for (kind, name, bytes) in &all {
        // Raw text is JSON, or a slip.
        let form = if kind == "event" { Form::Raw } else { Form::Hex };
        let digits = if kind == "event" {
            bytes.clone()
        } else {
            hex(bytes).into_bytes()
        };
        let guess = guess::guess(input::forms(digits, Some(form)).unwrap()).unwrap();
        let at = guess.also.iter().position(|also| also.name() == kind);
        let is_first = guess.subject.name() == kind;
        let page = read_as(guess.subject, bytes);
        if guess.reads == Reads::Beginning || !(is_first || at.is_some()) || !page.holds() {
            wrong.push(format!("{name} ({kind}) is {guess:?}"));
        }
        first += usize::from(is_first);
        shown += usize::from(is_first || at.is_some_and(|at| at < 8));
        if guess.subject != Subject::Json {
            check(&page, bytes);
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        all.len(),
        wrong.join("\n")
    );
    assert!(
        first * 9 >= all.len() * 8,
        "{first} of {} are guessed at once",
        all.len()
    );
    assert!(
        shown * 50 >= all.len() * 49,
        "{shown} of {} are on the first line",
        all.len()
    );
}

#[test]
fn what_fits_outside_and_not_inside_is_guessed_after_what_fits_in_all() {
    // An AppDataUpdate of app_ack reads all of it, and its data is none.
    let guess = guess::guess(raw(&unhex("00050100"))).unwrap();
    assert_eq!((guess.subject.name(), guess.reads), ("AppEphemeral", Reads::All));
    assert!(
        guess.also.iter().all(|also| also.name() != "AppDataUpdate"),
        "{:?}",
        guess.also
    );
    // Where nothing fits in all, what fits outside.
    let mut bytes = vector("a GroupInfo with the tree inside");
    let page = read_as(Subject::named("GroupInfo").unwrap(), &bytes);
    let source = page.rows.iter().find(|row| row.label == "leaf_node_source").unwrap();
    bytes[source.offset] = 9;
    let guess = guess::guess(raw(&bytes)).unwrap();
    assert_eq!((guess.subject.name(), guess.reads), ("GroupInfo", Reads::All));
    assert_eq!(read_as(guess.subject, &bytes).problems.len(), 1);
}

#[test]
fn a_body_of_an_unknown_protocol_is_a_guess_and_no_failure() {
    let bytes = unhex("0777686f206b6e6f7773");
    let guess = guess::guess(raw(&bytes)).unwrap();
    let heading = Heading {
        guessed: true,
        reads: guess.reads,
        form: "raw",
        bytes: bytes.len(),
        also: Vec::new(),
    };
    let page = read_as(guess.subject, &bytes);
    assert!(page.holds(), "{:?}", page.problems);
    let text = page.to_text(&heading, false);
    let first = text.lines().next().unwrap();
    assert!(
        first.ends_with("guessed: its protocol or code is unknown, and what follows may be anything"),
        "{text}"
    );
    // What is cut off is no such body, though any bytes could be one.
    let bytes = vector("a commit by a member");
    let guess = guess::guess(raw(&bytes[..90])).unwrap();
    assert_eq!((guess.subject.name(), guess.reads), ("MLSMessage", Reads::Beginning));
}

#[test]
fn what_people_paste_most_is_guessed_at_once() {
    let often = [
        "MLSMessage",
        "KeyPackage",
        "GroupInfo",
        "Welcome",
        "RatchetTree",
        "LeafNode",
        "GroupContext",
        "KeyMaterialRequest",
        "UpdateRequest",
        "FanoutMessages",
        "GroupInfoRequest",
        "AbuseReport",
    ];
    for (kind, name, bytes) in structs() {
        // A body of an unknown protocol, or with an unknown code: what follows may be anything.
        let is_known = !leaves(&kind, &bytes).iter().any(|field| field == "rest");
        if often.contains(&kind.as_str()) && bytes.len() > 40 && is_known {
            assert_eq!(guess::guess(raw(&bytes)).unwrap().subject.name(), kind, "{name}");
        }
    }
    for (_, bytes) in contents() {
        assert_eq!(guess::guess(raw(&bytes)).unwrap().subject, Subject::Content);
    }
}

#[test]
fn every_beginning_of_every_struct_says_where_it_ends() {
    for (kind, name, bytes) in structs() {
        let subject = Subject::named(&kind).unwrap();
        for length in 0..bytes.len() {
            let page = read_as(subject, &bytes[..length]);
            assert!(
                !page.holds() || guess_is_whole(&kind, &bytes[..length]),
                "{name} cut at {length}"
            );
            for row in &page.rows {
                assert!(row.offset + row.length <= length, "{name} cut at {length}: {row:?}");
            }
            for problem in &page.problems {
                assert!(problem.offset <= length, "{name} cut at {length}: {problem:?}");
            }
            if length % 16 == 0 {
                check(&page, &bytes[..length]);
            }
        }
    }
}

/// The names of the fields with values.
fn leaves(kind: &str, bytes: &[u8]) -> Vec<String> {
    let kind = nabe_wire::Kind::named(kind).unwrap();
    kind.read(bytes)
        .trace
        .leaves()
        .into_iter()
        .map(|leaf| leaf.field)
        .collect()
}

/// Some bodies end where they please.
fn guess_is_whole(kind: &str, bytes: &[u8]) -> bool {
    KINDS
        .iter()
        .any(|known| known.name == kind && known.check(bytes).is_ok())
}

#[test]
fn every_beginning_of_a_message_says_where_it_ends() {
    for (_, bytes) in contents().into_iter().filter(|(_, bytes)| bytes.len() < 2000) {
        for length in 0..bytes.len() {
            let page = read_as(Subject::Content, &bytes[..length]);
            assert_eq!(page.problems.len(), 1);
            check(&page, &bytes[..length]);
        }
    }
}

#[test]
fn a_beginning_is_taken_for_what_it_is_the_beginning_of() {
    for (name, kind) in [
        ("a commit by a member", "MLSMessage"),
        ("a key package", "KeyPackage"),
        ("a GroupInfo", "GroupInfo"),
    ] {
        let bytes = vector(name);
        let guess = guess::guess(raw(&bytes[..bytes.len() * 2 / 3])).unwrap();
        assert_eq!(guess.subject.name(), kind, "{name}");
    }
    let (_, message) = contents().remove(0);
    let guess = guess::guess(raw(&message[..message.len() - 5])).unwrap();
    assert_eq!(guess.subject, Subject::Content);
}

#[test]
fn garbage_is_told_apart_without_a_panic() {
    // xorshift64*: the same bytes every time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    };
    for length in (0..120).chain([1000, 5000]) {
        for _ in 0..3 {
            let bytes: Vec<u8> = (0..length).map(|_| next()).collect();
            match guess::guess(raw(&bytes)) {
                Ok(guess) => check(&read_as(guess.subject, &bytes), &bytes),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
    for kind in KINDS {
        let bytes: Vec<u8> = (0..200).map(|_| next()).collect();
        check(&read_as(Subject::Struct(kind), &bytes), &bytes);
    }
}

#[test]
fn megabytes_of_anything_are_told_apart() {
    for byte in [0, 1, 0x40, 0x82, 0x87, 0xff] {
        let bytes = vec![byte; 2 << 20];
        // What is all `@` is a text that means nothing.
        match guess::guess(raw(&bytes)) {
            Ok(guess) => assert_eq!(guess.input.bytes.len(), bytes.len()),
            Err(error) => assert_eq!((byte, error.to_string().contains("`@`")), (0x40, true)),
        }
    }
}

#[test]
fn a_dictionary_inside_a_context_is_read_with_the_offsets_of_the_whole() {
    let bytes = vector("a GroupContext");
    let page = read_as(Subject::named("GroupContext").unwrap(), &bytes);
    let inner = page
        .rows
        .iter()
        .find(|row| row.field.ends_with("component_data[0].component_id"));
    let inner = inner.unwrap();
    assert_eq!(
        inner.field,
        "extensions[0].extension_data.component_data[0].component_id"
    );
    assert_eq!((inner.offset, inner.length), (112, 2));
    assert_eq!(bytes[inner.offset..inner.offset + 2], [0x80, 0x01]);
    let outer = page
        .rows
        .iter()
        .find(|row| row.field == "extensions[0].extension_data")
        .unwrap();
    assert!(matches!(outer.holds, Holds::Struct("AppDataDictionary")));
}

#[test]
fn what_breaks_inside_an_opaque_field_is_told_with_its_place_in_the_whole() {
    // A dictionary with participant_list, whose data ends too early.
    let page = read_as(Subject::named("AppDataDictionary").unwrap(), &unhex("05 0022 02 0805"));
    let problem = &page.problems[0];
    assert_eq!(
        (problem.offset, problem.field.as_str(), problem.rule.as_str()),
        (4, "component_data[0].data.participants", "truncated")
    );
    assert_eq!(page.problems.len(), 1);
}

#[test]
fn authenticated_data_that_is_no_safe_aad_stays_what_it_is() {
    let private = |aad: &str| unhex(&format!("0001 0002 01aa 0000000000000000 01 {aad} 01bb 01cc"));
    let message = Subject::named("MLSMessage").unwrap();
    let of = |aad: &str| {
        let page = read_as(message, &private(aad));
        assert!(page.holds());
        let row = page.rows.iter().find(|row| row.label == "authenticated_data").unwrap();
        matches!(row.holds, Holds::Struct("SafeAAD"))
    };
    assert!(of("05 04 8001 01 78"));
    assert!(!of("02 7878"));
    assert!(!of("00"));
}

#[test]
fn a_report_shows_the_message_in_it_and_its_id() {
    let (id, content) = contents().remove(0);
    let mut bytes = unhex("00 00 00 00");
    let mut message = Vec::new();
    message.extend([0x40 | (content.len() >> 8) as u8, content.len() as u8]);
    message.extend(&content);
    message.extend([7; 32]);
    message.extend([0, 1, 0]);
    message.extend([0; 8]);
    bytes.extend([0x40 | (message.len() >> 8) as u8, message.len() as u8]);
    bytes.extend(&message);
    bytes.push(0);
    let page = read_as(Subject::named("reportAbuse").unwrap(), &bytes);
    assert!(page.holds(), "{:?}", page.problems);
    let salt = page.rows.iter().find(|row| row.label == "salt").unwrap();
    assert_eq!(salt.field, "messages[0].message_content.salt");
    assert_eq!(bytes[salt.offset..salt.offset + salt.length], content[1..18]);
    assert!(
        page.facts
            .contains(&("messages[0].message_content.message ID".to_owned(), id))
    );
    check(&page, &bytes);
}

#[test]
fn a_status_report_in_a_message_is_read_with_the_offsets_of_the_whole() {
    use nabe_content::mimi::{MessageId, MimiContent, Origin, Salt, status};
    let mut id = [9; 32];
    id[0] = 1;
    let id = MessageId::from_bytes(id).unwrap();
    let report = status::StatusReport::new(vec![(id, status::MessageStatus::READ)]);
    let origin = Origin::new("mimi://a.example/u/alice", "mimi://a.example/r/fish").unwrap();
    let bytes = MimiContent::new(Salt::from_random([7; 16]), &origin, report.to_part())
        .encode()
        .unwrap();
    let page = read_as(Subject::Content, &bytes);
    let row = page.rows.iter().find(|row| row.label == "[0].messageId").unwrap();
    assert_eq!(bytes[row.offset..row.offset + 2], [0x58, 32]);
    assert_eq!(bytes[row.offset + 2..row.offset + row.length], *id.as_bytes());
}

#[test]
fn credentials_in_credentials_end_somewhere() {
    // weak-multi credentials, each the only binding of the one around it.
    let mut credential = unhex("0001 00");
    for _ in 0..300 {
        let mut binding = unhex("0001");
        binding.extend(&credential);
        binding.extend([0, 0]);
        let mut outer = unhex("0004");
        outer.extend(match binding.len() {
            length @ 0..0x40 => vec![length as u8],
            length => vec![0x40 | (length >> 8) as u8, length as u8],
        });
        outer.extend(binding);
        credential = outer;
    }
    let page = read_as(Subject::named("Credential").unwrap(), &credential);
    assert!(page.holds(), "{:?}", page.problems);
    assert!(page.rows.len() > 8 && page.rows.len() < 100);
    check(&page, &credential);
}

#[test]
fn json_has_all_of_a_message_and_the_text_cuts_it() {
    use nabe_content::mimi::{ExtensionKey, MimiContent, NestedPart, Origin, Salt, cbor::CborValue};
    let origin = Origin::new("mimi://a.example/u/alice", "mimi://a.example/r/fish").unwrap();
    let words = "fish ".repeat(50);
    let mut message = MimiContent::new(Salt::from_random([7; 16]), &origin, NestedPart::text(&words));
    // An array, a map, a tag, a float; short bytes, and long ones.
    let strings: Vec<u8> = [&[0x98, 40][..], &[0x61, b'x'].repeat(40)].concat();
    let others = [
        strings.clone(),
        [&[0xa1, 0x01][..], &strings].concat(),
        [&[0xc6][..], &strings].concat(),
        vec![0xfb, 0x40, 0x09, 0x21, 0xfb, 0x54, 0x44, 0x2d, 0x18],
        vec![0x42, 1, 2],
        [&[0x58, 100][..], &[7; 100]].concat(),
    ];
    for (at, cbor) in others.iter().enumerate() {
        let key = ExtensionKey::int(100 + at as i64).unwrap();
        message.extensions.insert(key, CborValue::parse(cbor).unwrap()).unwrap();
    }
    let bytes = message.encode().unwrap();
    let page = read_as(Subject::Content, &bytes);
    let heading = Heading {
        guessed: false,
        reads: Reads::All,
        form: "raw",
        bytes: bytes.len(),
        also: Vec::new(),
    };
    let json: Value = serde_json::from_str(&page.to_json(&heading).to_string()).unwrap();
    let value = |name: &str| {
        let fields = json["fields"].as_array().unwrap();
        let field = fields.iter().find(|field| field["field"] == name).unwrap();
        field["value"].as_str().unwrap().to_owned()
    };
    assert_eq!(value("nestedPart.content"), hex(words.as_bytes()));
    assert_eq!(value("nestedPart.contentType"), "text/plain;charset=utf-8");
    assert_eq!(value("salt"), "07".repeat(16));
    assert_eq!(value("mimiExtensions[1]"), "mimi://a.example/u/alice");
    assert_eq!(
        value("mimiExtensions[100]"),
        format!("an array: h'{}'", hex(&others[0]))
    );
    assert_eq!(value("mimiExtensions[101]"), format!("a map: h'{}'", hex(&others[1])));
    assert_eq!(value("mimiExtensions[102]"), format!("a tag: h'{}'", hex(&others[2])));
    assert!(value("mimiExtensions[103]").ends_with(": h'fb400921fb54442d18'"));
    assert_eq!(value("mimiExtensions[104]"), "0102");
    assert_eq!(value("mimiExtensions[105]"), "07".repeat(100));
    let (cut, full) = (page.to_text(&heading, false), page.to_text(&heading, true));
    assert!(full.contains(&hex(&others[0])) && full.contains(&hex(words.as_bytes())));
    assert!(!cut.contains(&"07".repeat(33)) && cut.contains("… (100 bytes)"));
}

#[test]
fn so_many_fields_are_not_all_shown_and_that_is_said() {
    let mut tree = vec![0x80, 0x1f, 0xff, 0xfc];
    tree.resize(2 << 20, 0);
    let page = read_as(Subject::named("RatchetTree").unwrap(), &tree);
    assert!(page.holds() && page.rows.len() <= 1 << 18, "{}", page.rows.len());
    let heading = Heading {
        guessed: false,
        reads: Reads::All,
        form: "raw",
        bytes: tree.len(),
        also: Vec::new(),
    };
    let nodes = tree.len() - 4;
    let left_out = nodes - page.rows.len();
    let json = page.to_json(&heading).to_string();
    assert!(
        json.contains(&format!("\"fields_left_out\":{left_out}")),
        "{}",
        json.len()
    );
    let text = page.to_text(&heading, false);
    assert!(text.contains(&format!("\n({left_out} more fields are not shown)\n")));
}

#[test]
fn a_paste_of_something_else_than_its_label_says_is_guessed() {
    let message = vector("a private message");
    let paste = |label: &str, bytes: &[u8]| format!("-----BEGIN {label}-----\n{}\n", hex(bytes)).into_bytes();
    let guessed = |label: &str, bytes: &[u8]| {
        let guess = guess::guess(input::forms(paste(label, bytes), None).unwrap()).unwrap();
        guess.subject.name()
    };
    assert_eq!(
        guessed("PRIVATE MESSAGE", &vector("a private message by itself")),
        "PrivateMessage"
    );
    assert_eq!(guessed("PRIVATE MESSAGE", &message), "MLSMessage");
    assert_eq!(guessed("MLS", &message), "MLSMessage");
    assert_eq!(guessed("PRIVATE MESSAGE", &[0; 4]), "PrivateMessage");
    // No letters are no name.
    assert_eq!(guessed("§§", &vector("a key package")), "KeyPackage");
}
