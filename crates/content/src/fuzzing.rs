//! Bodies of fuzz targets: they take any bytes and panic when an invariant breaks.

use crate::message::Message;
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
