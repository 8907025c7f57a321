//! GFM-MIMI, the Markdown of MIMI (MC #gfm-mimi): what a sender does to it, and what a receiver reads from it besides its text.
//!
//! Rendering it as plain text is support enough by the draft, and what [`super::MimiContent::to_plain`] does. Two things matter all
//! the same: HTML is no part of it, so senders escape what looks like HTML; and a link to a user is a mention
//! (MC #mentions, #link-and-mention-handling). What is code, a link or HTML is for a parser of CommonMark to say.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use pulldown_cmark::{Event, LinkType, Options, Parser, Tag, TagEnd};

use super::part::{NestedPart, Part};

/// Escapes what Markdown would take for HTML: the `<` of any tag, comment, declaration or instruction becomes `&lt;`. Links in angle
/// brackets stay, as does code, where nothing is a tag.
///
/// A little more is escaped than must be, every `<` of a text before a letter, `/`, `!` or `?`: it reads the same.
///
/// ```
/// use nabe_content::mimi::markdown::no_html;
///
/// assert_eq!(no_html("a <b>fish</b>, 1 < 2"), "a &lt;b>fish&lt;/b>, 1 < 2");
/// assert_eq!(no_html("<mimi://a.example/u/alice> `<b>`"), "<mimi://a.example/u/alice> `<b>`");
/// ```
#[must_use]
pub fn no_html(markdown: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(markdown);
    // Where HTML ended a paragraph before, code may begin elsewhere now.
    for _ in 0..MAX_PASSES {
        match escape(&text, &tags(&text)) {
            Some(escaped) => text = Cow::Owned(escaped),
            None => return text,
        }
    }
    let all: Vec<usize> = tag_starts(&text, 0..text.len()).collect();
    escape(&text, &all).map_or(text, Cow::Owned)
}

/// How often a text is read anew after its HTML was escaped. What then still reads as HTML was made for that, and loses its links in
/// angle brackets, too.
const MAX_PASSES: usize = 8;

/// The text with `&lt;` in the places of the `<` that are named, in order; nothing if there are none.
fn escape(text: &str, places: &[usize]) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 3 * places.len());
    let mut copied = 0;
    for &at in places {
        out.push_str(text.get(copied..at)?);
        out.push_str("&lt;");
        copied = at + 1;
    }
    out.push_str(text.get(copied..)?);
    (!places.is_empty()).then_some(out)
}

/// Where in a Markdown text something begins that is a tag, or looks like one.
fn tags(markdown: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut code_blocks = 0_usize;
    let mut autolinks = 0_usize;
    for (event, range) in parse(markdown) {
        match event {
            Event::Start(Tag::CodeBlock(_)) => code_blocks += 1,
            Event::End(TagEnd::CodeBlock) => code_blocks = code_blocks.saturating_sub(1),
            Event::Start(Tag::Link { link_type, .. }) if is_autolink(link_type) => autolinks += 1,
            Event::End(TagEnd::Link) => autolinks = autolinks.saturating_sub(1),
            Event::Html(_) | Event::InlineHtml(_) => found.extend(tag_starts(markdown, range)),
            Event::Text(_) if code_blocks == 0 && autolinks == 0 => {
                let is_escaped =
                    |at: usize| at == range.start && markdown.get(..at).is_some_and(|it| it.ends_with('\\'));
                found.extend(tag_starts(markdown, range.clone()).filter(|&at| !is_escaped(at)));
            }
            _ => {}
        }
    }
    found.dedup();
    found
}

/// The places of `<` in this part of the text that could begin a tag.
fn tag_starts(text: &str, range: Range<usize>) -> impl Iterator<Item = usize> {
    let part = text.get(range.clone()).unwrap_or_default();
    part.match_indices('<').filter_map(move |(at, _)| {
        let at = range.start + at;
        looks_like_tag(text.get(at + 1..).unwrap_or_default()).then_some(at)
    })
}

/// What there is in a Markdown text, with the bytes that say it (MC #gfm-mimi: tables, task lists and strikethrough of GFM's extensions).
fn parse(markdown: &str) -> impl Iterator<Item = (Event<'_>, Range<usize>)> {
    let extensions = Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS | Options::ENABLE_STRIKETHROUGH;
    Parser::new_ext(markdown, extensions).into_offset_iter()
}

const fn is_autolink(link: LinkType) -> bool {
    matches!(link, LinkType::Autolink | LinkType::Email)
}

/// A link in a text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// The text that stands for it; the target itself for a link in angle brackets. Only a hint from the sender.
    pub text: String,
    /// Where it leads.
    pub target: String,
}

impl Link {
    /// The links of a Markdown text, in order: `[text](target)`, `<target>`, and those whose target is given elsewhere in the text.
    #[must_use]
    pub fn in_markdown(markdown: &str) -> Vec<Self> {
        let mut links = Vec::new();
        // No link holds another one.
        let mut open: Option<Self> = None;
        for (event, _) in parse(markdown) {
            match event {
                Event::Start(Tag::Link { dest_url, .. }) => {
                    open = Some(Self {
                        text: String::new(),
                        target: dest_url.into_string(),
                    });
                }
                Event::End(TagEnd::Link) => links.extend(open.take()),
                Event::Text(text) | Event::Code(text) => {
                    if let Some(link) = &mut open {
                        link.text.push_str(&text);
                    }
                }
                Event::SoftBreak | Event::HardBreak => {
                    if let Some(link) = &mut open {
                        link.text.push(' ');
                    }
                }
                _ => {}
            }
        }
        links
    }

    /// The links of an HTML text, in order.
    #[must_use]
    pub fn in_html(html: &str) -> Vec<Self> {
        let links = crate::html::links(html).into_iter();
        links.map(|(target, text)| Self { text, target }).collect()
    }

    /// The links of a part, if it is Markdown or HTML.
    #[must_use]
    pub fn in_part(part: &NestedPart) -> Vec<Self> {
        let Part::Single(single) = &part.part else {
            return Vec::new();
        };
        match (single.essence().as_deref(), single.as_text()) {
            (Some("text/markdown"), Some(text)) => Self::in_markdown(text),
            (Some("text/html"), Some(text)) => Self::in_html(text),
            _ => Vec::new(),
        }
    }

    /// What to tell somebody who is about to follow the link (MC #link-and-mention-handling). Mentions are another matter, see
    /// [`mentions`].
    #[must_use]
    pub fn warning(&self) -> Option<LinkWarning> {
        let target = self.target.trim();
        let text = self.text.trim();
        if text == target {
            return None;
        }
        let (text_scheme, text_rest) = scheme_and_rest(text);
        let (target_scheme, target_rest) = scheme_and_rest(target);
        // Who reads a place without a scheme expects it by https.
        let text_scheme = text_scheme.as_deref().unwrap_or("https");
        let target_scheme = target_scheme.as_deref().unwrap_or_default();
        match (text_scheme, target_scheme) {
            _ if canonical(text_scheme, text_rest) != canonical(target_scheme, target_rest) => {
                Some(LinkWarning::Differs)
            }
            ("https", "http") => Some(LinkWarning::Downgrade),
            (text, target) if text == target || (text, target) == ("http", "https") => None,
            _ => Some(LinkWarning::Differs),
        }
    }
}

/// Why a link deserves a question before it is followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkWarning {
    /// It leads elsewhere than its text says, or its text says nothing about it.
    Differs,
    /// Its text says `https`, or no scheme, and it is `http`.
    Downgrade,
}

/// The links of a part that are mentions: to users who are in the group by a member client, which `is_member` knows by URI. Each user
/// once. How a name is shown is for the receiver to decide; the text is a hint.
#[must_use]
pub fn mentions(part: &NestedPart, is_member: impl Fn(&str) -> bool) -> Vec<Link> {
    let mut mentioned = BTreeSet::new();
    let mut mentions = Link::in_part(part);
    mentions.retain(|link| is_member(&link.target) && mentioned.insert(link.target.clone()));
    mentions
}

/// Scheme in lower case, and what follows `://`; no scheme if there is none.
fn scheme_and_rest(url: &str) -> (Option<String>, &str) {
    match url.split_once("://") {
        Some((scheme, rest)) if !scheme.is_empty() && scheme.bytes().all(is_scheme_byte) => {
            (Some(scheme.to_ascii_lowercase()), rest)
        }
        _ => (None, url),
    }
}

/// Host in lower case, no default port, no empty path.
fn canonical(scheme: &str, rest: &str) -> String {
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let authority = authority.to_ascii_lowercase();
    let default_port = if scheme == "http" { ":80" } else { ":443" };
    let authority = authority.strip_suffix(default_port).unwrap_or(&authority);
    let path = if path.is_empty() { "/" } else { path };
    format!("{authority}{path}")
}

/// `rest` follows a `<`.
fn looks_like_tag(rest: &str) -> bool {
    rest.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?'))
}

const fn is_scheme_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'.' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(text: &str, target: &str) -> Link {
        Link {
            text: text.to_owned(),
            target: target.to_owned(),
        }
    }

    #[test]
    fn of_gfms_extensions_there_are_tables_task_lists_and_strikethrough_and_no_autolinks() {
        let is_there =
            |markdown: &str, wanted: fn(&Event<'_>) -> bool| parse(markdown).any(|(event, _)| wanted(&event));
        let is_table = |event: &Event<'_>| matches!(event, Event::Start(Tag::Table(_)));
        assert!(is_there("| a | b |\n|---|---|\n| 1 | 2 |", is_table));
        assert!(is_there("- [x] fish", |event| matches!(
            event,
            Event::TaskListMarker(true)
        )));
        assert!(is_there("~~fish~~", |event| matches!(
            event,
            Event::Start(Tag::Strikethrough)
        )));
        for text in [
            "https://a.example/",
            "www.a.example",
            "alice@a.example",
            "xmpp:alice@a.example",
        ] {
            assert_eq!(Link::in_markdown(text), [], "{text}");
        }
        let footnote = |event: &Event<'_>| matches!(event, Event::FootnoteReference(_));
        assert!(!is_there("fish[^1]\n\n[^1]: a kind of animal", footnote));
    }

    #[test]
    fn html_is_escaped_and_everything_else_stays() {
        for (markdown, escaped) in [
            ("plain", "plain"),
            ("<script>x</script>", "&lt;script>x&lt;/script>"),
            (
                "<!-- x --> <?php ?> <![CDATA[x]]>",
                "&lt;!-- x --> &lt;?php ?> &lt;![CDATA[x]]>",
            ),
            (r#"<a href="x">"#, r#"&lt;a href="x">"#),
            ("1 < 2 <- 3 <3", "1 < 2 <- 3 <3"),
            (r"\<b>", r"\<b>"),
            ("``a ` <b>`` <b>", "``a ` <b>`` &lt;b>"),
            ("```\n<b>\n\n</b>\n```\n<b>", "```\n<b>\n\n</b>\n```\n&lt;b>"),
            ("` <b>", "` &lt;b>"),
            (
                "<https://example.com/> <x@example.com>",
                "<https://example.com/> <x@example.com>",
            ),
            (
                "<mimi://a.example/u/alice onclick=x>",
                "&lt;mimi://a.example/u/alice onclick=x>",
            ),
            ("[a](<b c>) [d]\n\n[d]: <e f>", "[a](<b c>) [d]\n\n[d]: <e f>"),
            (r"\\<b>", r"\\&lt;b>"),
            // A code span ends with its paragraph, and a paragraph where a block of HTML begins.
            (
                "it`s\n\n<script>x</script>\n\nthat`s",
                "it`s\n\n&lt;script>x&lt;/script>\n\nthat`s",
            ),
            ("`a\n<div onclick=x>\n`", "`a\n&lt;div onclick=x>\n`"),
            ("- `a\n- <b>`", "- `a\n- &lt;b>`"),
            ("|a|b|\n|---|---|\n|`x|<b>`|", "|a|b|\n|---|---|\n|`x|&lt;b>`|"),
            // Code of other kinds than between backticks, and code that has no end.
            ("~~~\n<b>\n~~~\n<b>", "~~~\n<b>\n~~~\n&lt;b>"),
            ("    <b>\n\n<b>", "    <b>\n\n&lt;b>"),
            ("```\n<b>", "```\n<b>"),
            ("é <b> é", "é &lt;b> é"),
        ] {
            assert_eq!(no_html(markdown), escaped);
            assert_eq!(no_html(escaped), escaped, "nothing is escaped twice");
        }
    }

    #[test]
    fn links_are_found_outside_of_code() {
        let markdown =
            "[a](https://a.example/x_(y)) <mimi://a.example/u/b> `[no](x)` \\[no](y) ![[c]](<d e> \"t\") [no] (z)";
        assert_eq!(
            Link::in_markdown(markdown),
            [
                link("a", "https://a.example/x_(y)"),
                link("mimi://a.example/u/b", "mimi://a.example/u/b"),
            ],
            "a picture is no link"
        );
        assert_eq!(
            Link::in_markdown("[**a** `b`\nc][d], [![picture](p)](q)\n\n[d]: https://d.example \"t\""),
            [link("a b c", "https://d.example"), link("picture", "q")]
        );
        assert_eq!(
            Link::in_markdown("it`s [a](b)\n\nthat`s"),
            [link("a", "b")],
            "code ends with its paragraph"
        );
    }

    #[test]
    fn the_links_of_html_have_their_text() {
        let html = r#"<p>x <a href="mimi://a.example/u/alice">@Alice <b>Smith</b> &amp; Co</a> y</p><a name="z">z</a>"#;
        assert_eq!(
            Link::in_html(html),
            [link("@Alice Smith & Co", "mimi://a.example/u/alice")]
        );
    }

    #[test]
    fn only_links_to_members_are_mentions() {
        let alice = "mimi://a.example/u/alice";
        let text = format!("[A]({alice}), <{alice}>, [B](mimi://b.example/u/bob)");
        let part = NestedPart::markdown(&text);
        assert_eq!(mentions(&part, |uri| uri == alice), [link("A", alice)]);
        assert!(
            mentions(&NestedPart::text(&text), |_| true).is_empty(),
            "plain text has no links"
        );
    }

    #[test]
    fn a_link_that_says_where_it_leads_needs_no_question() {
        for text in [
            "example.com/foobar",
            "https://example.com/foobar",
            "https://example.com:443/foobar",
            "HTTPS://EXAMPLE.com/foobar",
        ] {
            assert_eq!(link(text, "https://example.com/foobar").warning(), None, "{text}");
        }
        assert_eq!(link("example.com", "https://example.com/").warning(), None);
    }

    #[test]
    fn a_link_that_says_something_else_deserves_a_question() {
        let differs = link("https://example.com/foobar", "https://spearphishers.example/foobar");
        assert_eq!(differs.warning(), Some(LinkWarning::Differs));
        assert_eq!(
            link("click here", "https://example.com/").warning(),
            Some(LinkWarning::Differs)
        );
        assert_eq!(
            link("https://example.com/Foobar", "https://example.com/foobar").warning(),
            Some(LinkWarning::Differs)
        );
        for (text, target) in [
            ("[example.com/%0aalert(1)", "javascript://example.com/%0aalert(1)"),
            ("example.com/%0aalert(1)", "javascript://example.com/%0aalert(1)"),
            ("example.com/x", "example.com/x/"),
            ("ftp://example.com/x", "https://example.com/x"),
        ] {
            assert_eq!(link(text, target).warning(), Some(LinkWarning::Differs), "{text}");
        }
        assert_eq!(
            link("example.com/x", "http://example.com/x").warning(),
            Some(LinkWarning::Downgrade)
        );
        let downgrade = link("https://example.com/foobar", "http://example.com/foobar");
        assert_eq!(downgrade.warning(), Some(LinkWarning::Downgrade));
    }

    #[test]
    fn hostile_text_takes_linear_time() {
        for unit in [
            "[", "`", "<", "](", "[](", "``` ", "<a:", "<b", "> ", "- ", "*_", "![", "<!--", "|", "&",
        ] {
            let text = unit.repeat(40_000);
            assert!(Link::in_markdown(&text).len() < 5_000);
            assert!(no_html(&text).len() >= text.len());
        }
        // 1 MiB of runs of all lengths, none of which ends another.
        let runs: String = (1..1448).map(|length| "`".repeat(length) + " ").collect();
        for text in [format!("{runs}<b>"), runs.repeat(2) + "<b>"] {
            assert!(Link::in_markdown(&text).is_empty());
            assert_eq!(no_html(&text).len(), text.len() + "&lt;".len() - "<".len());
        }
        let links: String = (0..40_000).map(|user| format!("<mimi://a/u/{user}>")).collect();
        assert_eq!(
            mentions(&NestedPart::markdown(&links.repeat(2)), |_| true).len(),
            40_000
        );
    }
}
