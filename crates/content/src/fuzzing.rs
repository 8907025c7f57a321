//! Bodies of fuzz targets: they take any bytes and panic when an invariant breaks.

use crate::message::Message;
use crate::mimi::choose::{Preferences, choose};
use crate::mimi::matrix::{IdMap, to_matrix};
use crate::mimi::status::StatusReport;
use crate::mimi::{MimiContent, Origin, Received};
use crate::plain::{MAX_RENDERED_BYTES, Plain, is_safe};
use crate::show::show_payload;

/// Any bytes as what an encrypted event decrypts to. There is always a text to show, safe to print and bounded; what reads as a
/// message is written, and read again as the same.
pub fn message(data: &[u8]) {
    let shown = show_payload(data);
    check_shown(&shown.text);
    let read = Message::parse_payload(data);
    assert_eq!(
        read.as_ref().err(),
        shown.problem.as_ref(),
        "a problem is shown, and only a problem"
    );
    let Ok(message) = read else { return };
    let content = message.to_content();
    let again = Message::parse(message.kind(), &content).expect("what is written is a message");
    assert_eq!(again, message, "writing loses nothing");
    assert_eq!(again.to_content(), content, "writing is repeatable");
    if let Message::Post(post) = &message
        && let Some(file) = post.body.file()
    {
        check_file_name(&file.block.safe_name());
    }
}

/// Any text as HTML: what is left is safe to print and bounded.
pub fn html(data: &[u8]) {
    let Ok(html) = std::str::from_utf8(data) else { return };
    let mut out = Plain::new();
    crate::html::render(html, &mut out);
    check_shown(&out.finish());
}

/// Any bytes as MIMI content. What reads is written as the very same bytes, for there is only one encoding; whatever it is, there is a
/// text to show, a choice among its parts, and a conversion to Matrix.
pub fn mimi_content(data: &[u8]) {
    let (fields, problem) = crate::mimi::outline(data);
    let end = fields.last().map_or(0, |field| field.offset + field.length);
    assert!(end <= data.len(), "fields are inside the bytes");
    let content = match MimiContent::decode(data) {
        Ok(content) => content,
        Err(error) => {
            assert_eq!(problem.as_ref(), Some(&error), "the outline says what is wrong");
            assert!(error.offset <= data.len(), "an error is at a byte: {error}");
            assert!(!error.field.is_empty(), "and in a field: {error}");
            return;
        }
    };
    assert_eq!(content.encode().as_deref(), Ok(data), "there is one encoding");
    let origin = Origin::new("mimi://a.example/u/a", "mimi://a.example/r/r").expect("short enough");
    let received = Received::decode(data, origin.clone()).expect("it was read before");
    assert_eq!(
        received.id().formula(&origin, data, &content.salt),
        Some(crate::mimi::Formula::Draft08)
    );
    check_shown(&content.to_plain());
    let parts: Vec<_> = content.body.parts().map(|(_, part)| part).collect();
    for step in choose(&content.body, &Preferences::new(&["text/*", "*"], &["en"])) {
        assert_eq!(parts.get(step.index.0 as usize), Some(&step.part), "a step is a part");
    }
    for event in to_matrix(&content, &IdMap::new()).value {
        let read = Message::parse(&event.kind, &event.content).expect("what is converted is a message");
        check_shown(&read.to_plain());
    }
}

/// Any bytes as a message status report: what reads is written as the same bytes.
pub fn mimi_status(data: &[u8]) {
    if let Ok(report) = StatusReport::decode(data) {
        assert_eq!(report.encode(), data, "there is one encoding");
    }
}

fn check_shown(text: &str) {
    assert!(text.len() <= MAX_RENDERED_BYTES, "what is shown is bounded");
    assert!(text.chars().all(is_safe), "what is shown is safe to print: {text:?}");
}

fn check_file_name(name: &str) {
    assert!(
        !name.is_empty() && name.len() <= 200,
        "a file name has a length: {name:?}"
    );
    assert!(!name.starts_with('.'), "and hides nothing");
    assert!(
        !name.contains(|c: char| c.is_control() || r#"/\:*?"<>|"#.contains(c)),
        "and is one component"
    );
}
