//! `nabe decode`, `nabe frank verify` and `nabe vectors verify` as processes: what they print for MIMI's bytes, and the status they
//! exit with.

#![expect(clippy::unwrap_used, reason = "this is test code")]

mod common;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use common::{command, nabe, text};
use serde_json::Value;

fn drafts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../drafts")
}

fn vectors(file: &str) -> Value {
    serde_json::from_slice(&fs::read(drafts().join(file)).unwrap()).unwrap()
}

/// The hexadecimal digits of the struct with this name.
fn structure(name: &str) -> String {
    for file in ["endpoints", "mls", "components"] {
        let file = vectors(&format!("mimi-protocol/vectors/{file}.json"));
        for entry in file["structs"].as_array().unwrap() {
            if entry["name"] == name {
                return entry["hex"].as_str().unwrap().to_owned();
            }
        }
    }
    panic!("no struct is named {name}");
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn base64(bytes: &[u8], alphabet: &[u8; 2]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .enumerate()
            .fold(0_u32, |group, (at, byte)| group | u32::from(*byte) << (16 - 8 * at));
        for at in 0..=chunk.len() {
            let value = (group >> (18 - 6 * at) & 63) as u8;
            out.push(char::from(match value {
                0..26 => b'A' + value,
                26..52 => b'a' + value - 26,
                52..62 => b'0' + value - 52,
                _ => alphabet[usize::from(value - 62)],
            }));
        }
    }
    out
}

/// Runs `nabe decode` on standard input.
fn decode(input: &[u8], arguments: &[&str]) -> Output {
    let mut child = command()
        .arg("decode")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // Who finds the command line wrong reads nothing.
    let _ = writer.join().unwrap();
    output
}

#[test]
fn a_key_package_is_taken_apart_in_whatever_form_it_comes() {
    let hex = structure("a key package");
    let bytes = unhex(&hex);
    let spaced: Vec<String> = bytes
        .chunks(7)
        .map(|chunk| chunk.iter().map(|byte| format!("{byte:02X}:")).collect())
        .collect();
    let (standard, url) = (base64(&bytes, b"+/"), base64(&bytes, b"-_"));
    let paste = format!("-----BEGIN KEY PACKAGE-----\n{standard}\n-----END KEY PACKAGE-----\n");
    for (input, form) in [
        (hex.clone().into_bytes(), "hex"),
        (format!("0x{hex}\n").into_bytes(), "hex"),
        (
            spaced
                .join("\n")
                .replace(":\n", "\n")
                .trim_end_matches(':')
                .as_bytes()
                .to_vec(),
            "hex",
        ),
        (standard.clone().into_bytes(), "base64"),
        (
            format!("{standard}==\n")
                .replace("==", "=".repeat((4 - standard.len() % 4) % 4).as_str())
                .into_bytes(),
            "base64",
        ),
        (url.into_bytes(), "base64"),
        (paste.into_bytes(), "pem"),
        (bytes.clone(), "raw"),
    ] {
        let decoded = decode(&input, &[]);
        let said = text(&decoded.stdout);
        assert_eq!(decoded.status.code(), Some(0), "{said}{}", text(&decoded.stderr));
        let first = said.lines().next().unwrap();
        assert_eq!(first, format!("KeyPackage, {} bytes from {form}, guessed", bytes.len()));
        assert!(said.contains("      2       2  cipher_suite"), "{said}");
        assert!(said.contains("MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"), "{said}");
    }
}

#[test]
fn a_file_is_read_and_the_type_can_be_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("response.bin");
    fs::write(&file, unhex("010b7374616c652065706f63680000000000000007")).unwrap();
    let file = file.to_str().unwrap();
    for name in ["UpdateRoomResponse", "updateroomresponse", "update-room-response"] {
        let decoded = nabe(["decode", file, "--as", name]);
        assert_eq!(decoded.status.code(), Some(0));
        let said = text(&decoded.stdout);
        assert_eq!(said.lines().next(), Some("UpdateRoomResponse, 21 bytes from raw"));
        assert!(said.contains("     13       8  current_epoch      7"), "{said}");
    }
}

#[test]
fn what_else_it_may_be_is_said() {
    let decoded = decode(structure("a URI").as_bytes(), &[]);
    let said = text(&decoded.stdout);
    assert_eq!(decoded.status.code(), Some(0), "{said}");
    assert!(
        said.contains("also reads as Uri") && said.contains("choose with --as"),
        "{said}"
    );
}

#[test]
fn a_body_of_an_unknown_protocol_is_no_failure() {
    let decoded = decode(
        structure("submitMessage, request by an unknown protocol").as_bytes(),
        &[],
    );
    let said = text(&decoded.stdout);
    assert_eq!(decoded.status.code(), Some(0), "{said}");
    let first = said.lines().next().unwrap();
    assert!(first.contains("guessed: its protocol or code is unknown"), "{said}");
    assert!(said.contains("SubmitMessageRequest"), "{said}");
}

#[test]
fn malformed_input_is_shown_up_to_where_it_breaks() {
    let decoded = decode(b"01 0b 7374616c652065706f6368 000000", &["--as", "UpdateRoomResponse"]);
    let said = text(&decoded.stdout);
    assert_eq!(decoded.status.code(), Some(1), "{said}");
    assert!(
        said.contains("      1      12  error_description  stale epoch"),
        "{said}"
    );
    assert!(
        said.contains("FALSE  byte 13, current_epoch: needs 8 bytes, 3 are left"),
        "{said}"
    );

    let decoded = decode(
        b"01 0b 7374616c652065706f6368 000000",
        &["--as", "UpdateRoomResponse", "--json"],
    );
    let said: Value = serde_json::from_slice(&decoded.stdout).unwrap();
    assert_eq!(decoded.status.code(), Some(1));
    assert_eq!(said["holds"], false);
    assert_eq!(said["problems"][0]["offset"], 13);
    assert_eq!(said["problems"][0]["field"], "current_epoch");
    assert_eq!(said["problems"][0]["rule"], "truncated");
    assert_eq!(said["fields"][1]["field"], "error_description");
}

#[test]
fn a_message_has_its_id_and_every_field_its_place() {
    let message = &vectors("mimi-content/vectors/content.json")["messages"][0];
    let decoded = decode(message["cbor"].as_str().unwrap().as_bytes(), &[]);
    let said = text(&decoded.stdout);
    assert_eq!(decoded.status.code(), Some(0), "{said}");
    assert!(said.starts_with("MimiContent, 112 bytes from hex, guessed\n"), "{said}");
    assert!(said.contains(message["id"].as_str().unwrap()), "{said}");
    assert!(said.contains(message["id_draft_07"].as_str().unwrap()), "{said}");
    assert!(said.contains("      1      17  salt"), "{said}");
    assert!(
        said.lines()
            .any(|line| line.contains("nestedPart.contentType") && line.contains("text/plain")),
        "{said}"
    );

    for refused in vectors("mimi-content/vectors/content.json")["refused"]
        .as_array()
        .unwrap()
        .iter()
        .skip(1)
        .step_by(9)
    {
        let decoded = decode(
            refused["cbor"].as_str().unwrap().as_bytes(),
            &["--as", "content", "--from", "hex"],
        );
        let said = text(&decoded.stdout);
        let expected = format!(
            "FALSE  byte {}, {}: {}",
            refused["offset"],
            refused["field"].as_str().unwrap(),
            refused["rule"].as_str().unwrap()
        );
        assert!(said.contains(&expected), "{expected}: {said}");
        assert_eq!(decoded.status.code(), Some(1));
    }
}

#[test]
fn a_status_report_is_told_from_a_message() {
    let report = &vectors("mimi-message-status/vectors/status.json")["status"][1];
    let said = text(&decode(report["cbor"].as_str().unwrap().as_bytes(), &[]).stdout);
    assert!(said.starts_with("MessageStatusReport, "), "{said}");
    assert!(said.contains("2 (read)"), "{said}");
}

#[test]
fn json_has_every_field_in_full() {
    let hex = structure("a GroupContext");
    let decoded = decode(hex.as_bytes(), &["--json"]);
    let said: Value = serde_json::from_slice(&decoded.stdout).unwrap();
    assert_eq!((&said["type"], &said["holds"]), (&"GroupContext".into(), &true.into()));
    let fields = said["fields"].as_array().unwrap();
    let field = |name: &str| fields.iter().find(|field| field["field"] == name).unwrap();
    assert_eq!(field("version")["value"], "1 mls10");
    assert_eq!(field("extensions[0].extension_data")["struct"], "AppDataDictionary");
    let inner = field("extensions[0].extension_data.component_data[0].data");
    assert_eq!((&inner["offset"], &inner["value"]), (&114.into(), &"01".into()));
    assert_eq!(field("tree_hash")["value"].as_str().unwrap().len(), 64);
}

#[test]
fn types_are_listed_and_others_are_refused_by_name() {
    let listed = text(&nabe(["decode", "--as", "help"]).stdout);
    for name in [
        "KeyMaterialRequest",
        "notify",
        "MimiContent",
        "RatchetTree",
        "ParticipantListData",
    ] {
        assert!(listed.contains(name), "{name}: {listed}");
    }
    let refused = decode(b"00", &["--as", "KeyPackets"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("--as help"), "{}", text(&refused.stderr));
}

#[test]
fn what_is_no_text_of_bytes_is_an_input_that_cannot_be_read() {
    for (input, arguments, said) in [
        (&b"Hello, world!"[..], &[][..], "not base64: `,` in line 1, column 6"),
        (b"", &[], "the input is empty"),
        (b"012", &["--from", "hex"], "an odd number of hexadecimal digits: 3"),
        (b"00 0g", &["--from", "hex"], "`g` in line 1, column 5"),
        (b"{\"type\": }", &[], "JSON"),
    ] {
        let refused = decode(input, arguments);
        let stderr = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(3), "{stderr}{}", text(&refused.stdout));
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
    assert_eq!(nabe(["decode", "no such file"]).status.code(), Some(3));
}

#[test]
fn every_beginning_of_some_structs_is_refused_without_a_panic() {
    for (name, kind) in [("a key package", "KeyPackage"), ("a GroupContext", "GroupContext")] {
        let bytes = unhex(&structure(name));
        for length in (0..bytes.len()).step_by(13) {
            let decoded = decode(&bytes[..length], &["--as", kind, "--from", "raw"]);
            let (said, stderr) = (text(&decoded.stdout), text(&decoded.stderr));
            assert_eq!(decoded.status.code(), Some(1), "{name} cut at {length}: {said}{stderr}");
            assert!(said.contains("FALSE  byte ") && stderr.is_empty(), "{said}{stderr}");
        }
    }
}

#[test]
fn megabytes_and_garbage_are_answered() {
    for byte in [0x00, 0x01, 0x40, 0x87, 0xff] {
        let decoded = decode(&vec![byte; 2 << 20], &[]);
        let stderr = text(&decoded.stderr);
        assert!(
            matches!(decoded.status.code(), Some(0 | 1 | 3)),
            "{byte:02x}: {:?} {stderr}",
            decoded.status
        );
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
    // A tree of two million blank nodes.
    let mut tree = vec![0x80, 0x1f, 0xff, 0xfc];
    tree.resize((2 << 20) - 4 + 4, 0);
    let decoded = decode(&tree, &["--as", "RatchetTree"]);
    assert_eq!(decoded.status.code(), Some(0), "{}", text(&decoded.stderr));
}

#[test]
fn franks_are_verified_from_hexadecimal_base64_and_files() {
    let frank = &vectors("mimi-content/vectors/content.json")["franking"][0];
    let of = |member: &str| frank[member].as_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    fs::write(&content, unhex(&of("cbor"))).unwrap();
    let stamp = format!("{}0001{}{}", of("server_frank"), "4040", of("signature"));
    let content = format!("@{}", content.display());
    let (tag, public) = (base64(&unhex(&of("tag")), b"-_"), of("public"));
    let accepted = frank["accepted"].to_string();
    let arguments = |accepted: &str| {
        let accepted = accepted.to_owned();
        let mut arguments: Vec<String> = ["frank", "verify", "--content", &content, "--frank", &stamp]
            .map(Into::into)
            .into();
        arguments.extend(["--tag", &tag, "--agent", &public, "--accepted", &accepted].map(Into::into));
        arguments.extend(["--hub-key".to_owned(), of("hub_key")]);
        arguments
    };
    let verified = nabe(arguments(&accepted));
    let said = text(&verified.stdout);
    assert_eq!(verified.status.code(), Some(0), "{said}{}", text(&verified.stderr));
    for name in ["client tag", "server frank", "integrity signature"] {
        assert!(
            said.lines().any(|line| line.starts_with("ok ") && line.contains(name)),
            "{name}: {said}"
        );
    }
    let late = nabe(arguments("1790000000001").into_iter().chain(["--json".to_owned()]));
    assert_eq!(late.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&late.stdout).unwrap();
    assert_eq!(said["client tag"]["holds"], true);
    assert_eq!(said["server frank"]["holds"], false);
    assert_eq!(said["integrity signature"]["holds"], false);

    let unread = |changes: &[&str], said: &str| {
        let given = [
            "frank",
            "verify",
            "--content",
            &content,
            "--frank",
            &stamp,
            "--accepted",
            &accepted,
        ];
        let refused = nabe(given.into_iter().chain(changes.iter().copied()));
        let stderr = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(3), "{changes:?}: {}", text(&refused.stdout));
        assert!(stderr.contains(said), "{changes:?}: {stderr}");
    };
    unread(&[], "nothing to check it against");
    unread(&["--json"], "nothing to check it against");
    unread(&["--tag", "zz"], "--tag");
    unread(
        &["--agent", &public[..62]],
        "--agent: neither a public key nor FrankingAgentData",
    );
    assert_eq!(nabe(["frank", "verify", "--content", "00"]).status.code(), Some(2));
}

#[test]
fn the_vectors_of_every_draft_verify_with_a_line_each() {
    let files = [
        ("mimi-protocol/vectors/endpoints.json", "structs"),
        ("mimi-protocol/vectors/labels.json", "signatures"),
        ("mimi-content/vectors/content.json", "messages"),
        ("mimi-message-status/vectors/status.json", "status"),
        ("matrix-message-format/vectors/messages.json", "attachments"),
    ];
    for (file, list) in files {
        let path = drafts().join(file);
        let verified = nabe(["vectors".into(), "verify".into(), path]);
        let said = text(&verified.stdout);
        assert_eq!(verified.status.code(), Some(0), "{said}");
        let ok = |line: &&str| line.starts_with("ok ") && line.contains(&format!(": {list}/"));
        let stated = vectors(file)[list].as_array().unwrap().len();
        assert_eq!(said.lines().filter(ok).count(), stated, "{said}");
        assert!(said.lines().last().unwrap().ends_with(" passed, 0 failed"), "{said}");
    }
}

#[test]
fn a_struct_with_another_field_fails_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.json");
    let mut wrong = vectors("mimi-protocol/vectors/components.json");
    wrong["structs"][0]["fields"][0][1] = 1.into();
    fs::write(&file, wrong.to_string()).unwrap();
    let verified = nabe(["vectors".into(), "verify".into(), file]);
    assert_eq!(verified.status.code(), Some(1));
    let said = text(&verified.stdout);
    assert!(said.contains("FAIL") && said.contains("fields[0]"), "{said}");
    assert!(said.lines().last().unwrap().ends_with(" passed, 1 failed"), "{said}");
}
