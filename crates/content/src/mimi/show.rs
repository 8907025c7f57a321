//! A message as text without markup, safe to print: there is one for every message.

use super::choose::{Preferences, Step, choose};
use super::content::{Intent, MimiContent};
use super::part::{Disposition, ExternalPart, Part, SinglePart};
use crate::html;
use crate::plain::{Plain, clean_line};

impl MimiContent {
    /// The message as text without markup, safe to print, of at most [`crate::MAX_RENDERED_BYTES`]. Markdown is shown as it was
    /// written, HTML reduced, and what is not text is named in brackets. Messages it refers to are not named.
    #[must_use]
    pub fn to_plain(&self) -> String {
        let mut out = Plain::new();
        match self.intent() {
            Intent::Delete { .. } => out.line("[deleted]"),
            Intent::Nothing => out.line("[empty message]"),
            intent => {
                let (before, after) = match intent {
                    Intent::Edit { .. } => ("[edit] ", ""),
                    Intent::Reply { .. } => ("[reply] ", ""),
                    Intent::Reaction { .. } => ("[reaction: ", "]"),
                    _ => ("", ""),
                };
                out.line(before);
                self.render(&mut out);
                out.line(after);
            }
        }
        out.finish()
    }

    fn render(&self, out: &mut Plain) {
        let everything = Preferences::new(&["text/plain", "text/markdown", "text/html", "text/*", "*"], &[]);
        let steps = choose(&self.body, &everything);
        if steps.is_empty() {
            out.line("[message that cannot be shown]");
        }
        for (at, step) in steps.iter().enumerate() {
            if at > 0 {
                let separator = if step.part.disposition == Disposition::REACTION {
                    " "
                } else {
                    "\n"
                };
                out.text(separator);
            }
            render_step(step, out);
        }
    }
}

fn render_step(step: &Step<'_>, out: &mut Plain) {
    match &step.part.part {
        Part::Single(single) => render_single(single, step.part.disposition, out),
        Part::External(external) => render_external(external, step.part.disposition, out),
        Part::Null | Part::Multi(_) => {}
    }
}

fn render_single(single: &SinglePart, disposition: Disposition, out: &mut Plain) {
    let essence = single.essence().unwrap_or_default();
    match single.as_text().filter(|_| essence.starts_with("text/")) {
        Some(text) if disposition == Disposition::REACTION => out.line(&clean_line(text, SHOWN_REACTION_BYTES)),
        Some(text) if essence == "text/html" => html::render(text, out),
        Some(text) => out.text(text),
        None => {
            out.line("[");
            out.line(&clean_line(&single.content_type, SHOWN_NAME_BYTES));
            out.line(&format!(", {} bytes]", single.content.len()));
        }
    }
}

fn render_external(external: &ExternalPart, disposition: Disposition, out: &mut Plain) {
    let shown = |text: &str| clean_line(text, SHOWN_NAME_BYTES);
    let mut facts = vec![
        shown(&external.filename),
        shown(&external.content_type),
        shown(&external.description),
    ];
    // Where a session is, and what has no other name, its URL is what there is to say.
    if disposition == Disposition::SESSION || facts.iter().all(String::is_empty) {
        facts.push(shown(&external.url));
    }
    facts.retain(|fact| !fact.is_empty());
    let noun = match disposition.effective() {
        Disposition::SESSION => "session",
        Disposition::ATTACHMENT => "attachment",
        _ => "external",
    };
    out.line("[");
    out.line(noun);
    out.line(": ");
    out.line(&facts.join(", "));
    out.line("]");
}

const SHOWN_NAME_BYTES: usize = 255;
const SHOWN_REACTION_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mimi::{MessageId, NestedPart, Origin, PartSemantics, Salt};

    fn content(body: NestedPart) -> MimiContent {
        let origin = Origin::new("mimi://a.example/u/alice", "mimi://a.example/r/fish").unwrap();
        MimiContent::new(Salt::from_random([1; 16]), &origin, body)
    }

    #[test]
    fn every_message_has_a_text() {
        let to = MessageId::from_bytes([1; 32]).unwrap();
        let origin = Origin::new("mimi://a.example/u/alice", "mimi://a.example/r/fish").unwrap();
        let salt = Salt::from_random([1; 16]);
        let first = content(NestedPart::text("a\u{1b}b\nc"));
        assert_eq!(first.to_plain(), "a\u{fffd}b\nc");
        assert_eq!(
            MimiContent::reply(salt, &origin, to, NestedPart::markdown("*x*")).to_plain(),
            "[reply] *x*"
        );
        let edit = MimiContent::edit(salt, &origin, to, &first, NestedPart::html("<p>x</p>"));
        assert_eq!(edit.to_plain(), "[edit] x");
        assert_eq!(MimiContent::delete(salt, &origin, to, &first).to_plain(), "[deleted]");
        let reaction = MimiContent::reaction(salt, &origin, to, &["👍", "❤"]).unwrap();
        assert_eq!(reaction.to_plain(), "[reaction: 👍 ❤]");
        assert_eq!(content(NestedPart::null()).to_plain(), "[empty message]");
        assert_eq!(
            content(NestedPart::single("image/gif", [1, 2])).to_plain(),
            "[image/gif, 2 bytes]"
        );
        assert_eq!(
            content(NestedPart::single("?", [1])).to_plain(),
            "[message that cannot be shown]"
        );
        let alternatives = NestedPart::multi(
            PartSemantics::ChooseOne,
            vec![NestedPart::html("<b>x</b>"), NestedPart::text("x as text")],
        );
        assert_eq!(content(alternatives).to_plain(), "x as text");
        let link = ExternalPart::link("https://example.com/join/1", "Join\nus");
        let session = NestedPart::new(Part::External(Box::new(link))).with_disposition(Disposition::SESSION);
        assert_eq!(
            content(session).to_plain(),
            "[session: Join us, https://example.com/join/1]"
        );
    }
}
