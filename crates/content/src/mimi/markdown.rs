//! GFM-MIMI, the Markdown of MIMI (MC #gfm-mimi): what a sender does to it, and what a receiver reads from it besides its text.
//!
//! Rendering it as plain text is support enough by the draft, and what [`super::MimiContent::to_plain`] does. Two things matter all
//! the same: HTML is no part of it, so senders escape what looks like HTML; and a link to a user is a mention
//! (MC #mentions, #link-and-mention-handling).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::part::{NestedPart, Part};

/// Escapes what Markdown would take for HTML: the `<` of any tag, comment, declaration or instruction becomes `&lt;`. Links in angle
/// brackets stay, as does code, where nothing is a tag.
///
/// A little more is escaped than must be, every `<` before a letter, `/`, `!` or `?`: it reads the same.
///
/// ```
/// use nabe_content::mimi::markdown::no_html;
///
/// assert_eq!(no_html("a <b>fish</b>, 1 < 2"), "a &lt;b>fish&lt;/b>, 1 < 2");
/// assert_eq!(no_html("<mimi://a.example/u/alice> `<b>`"), "<mimi://a.example/u/alice> `<b>`");
/// ```
#[must_use]
pub fn no_html(markdown: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut copied = 0;
    let mut scan = Scan::new(markdown);
    while let Some(piece) = scan.next() {
        if let Piece::Angle(at) = piece
            && looks_like_tag(scan.from(at + 1))
            && autolink(scan.from(at)).is_none()
        {
            out.push_str(markdown.get(copied..at).unwrap_or_default());
            out.push_str("&lt;");
            copied = at + 1;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(markdown);
    }
    out.push_str(markdown.get(copied..).unwrap_or_default());
    Cow::Owned(out)
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
    /// The links of a Markdown text, in order: `[text](target)` and `<target>`.
    #[must_use]
    pub fn in_markdown(markdown: &str) -> Vec<Self> {
        let mut links = Vec::new();
        // Where the texts begin that may turn out to be a link's, the innermost last.
        let mut open = Vec::new();
        let mut scan = Scan::new(markdown);
        while let Some(piece) = scan.next() {
            match piece {
                Piece::Angle(at) => {
                    if let Some(target) = autolink(scan.from(at)) {
                        links.push(Self {
                            text: target.to_owned(),
                            target: target.to_owned(),
                        });
                        scan.at = at + target.len() + 2;
                    }
                }
                Piece::Open(at) => open.push(at + 1),
                Piece::Close(at) => {
                    let Some(start) = open.pop() else { continue };
                    if let Some((target, length)) = destination(scan.from(at + 1)) {
                        links.push(Self {
                            text: markdown.get(start..at).unwrap_or_default().to_owned(),
                            target: target.to_owned(),
                        });
                        scan.at = at + 1 + length;
                        // No link holds another one.
                        open.clear();
                    }
                }
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
        let scheme = text_scheme.as_deref().or(target_scheme.as_deref()).unwrap_or_default();
        let same_place =
            canonical(scheme, text_rest) == canonical(target_scheme.as_deref().unwrap_or_default(), target_rest);
        match (text_scheme.as_deref(), target_scheme.as_deref()) {
            _ if !same_place => Some(LinkWarning::Differs),
            (Some("https"), Some("http")) => Some(LinkWarning::Downgrade),
            (Some(text), Some(target)) if text != target && (text, target) != ("http", "https") => {
                Some(LinkWarning::Differs)
            }
            _ => None,
        }
    }
}

/// Why a link deserves a question before it is followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkWarning {
    /// It leads elsewhere than its text says, or its text says nothing about it.
    Differs,
    /// Its text says `https` and it is `http`.
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

/// What the scan stops at.
enum Piece {
    Angle(usize),
    Open(usize),
    Close(usize),
}

/// Walks over Markdown, past code and escaped characters. Every byte is looked at a bounded number of times.
struct Scan<'a> {
    text: &'a str,
    at: usize,
    /// Where the runs of backticks begin, by their length; made for the first one.
    runs: Option<BTreeMap<usize, Vec<usize>>>,
}

impl<'a> Scan<'a> {
    const fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            runs: None,
        }
    }

    fn from(&self, at: usize) -> &'a str {
        self.text.get(at..).unwrap_or_default()
    }

    fn next(&mut self) -> Option<Piece> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            let at = self.at;
            self.at += 1;
            match byte {
                b'\\' if bytes.get(self.at).is_some_and(u8::is_ascii_punctuation) => self.at += 1,
                b'`' => self.code(at),
                b'<' => return Some(Piece::Angle(at)),
                b'[' => return Some(Piece::Open(at)),
                b']' => return Some(Piece::Close(at)),
                _ => {}
            }
        }
        None
    }

    /// Past a code span or a block between backtick fences; past the backticks only, if they have no end.
    fn code(&mut self, start: usize) {
        let length = run(self.from(start));
        let after = start + length;
        self.at = after;
        let text = self.text;
        let runs = self.runs.get_or_insert_with(|| backtick_runs(text));
        let same = runs.get(&length).map(Vec::as_slice).unwrap_or_default();
        if let Some(closing) = same.get(same.partition_point(|&at| at < after)) {
            self.at = closing + length;
        }
    }
}

/// Length of the run of backticks that `text` begins with.
fn run(text: &str) -> usize {
    text.len() - text.trim_start_matches('`').len()
}

/// Where the runs of backticks in `text` begin, in order, by their length.
fn backtick_runs(text: &str) -> BTreeMap<usize, Vec<usize>> {
    let mut runs: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let (mut at, mut rest) = (0, text);
    while let Some(found) = rest.find('`') {
        let (_, from) = rest.split_at(found);
        let length = run(from);
        runs.entry(length).or_default().push(at + found);
        at += found + length;
        rest = from.get(length..).unwrap_or_default();
    }
    runs
}

/// `rest` follows a `<`.
fn looks_like_tag(rest: &str) -> bool {
    rest.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?'))
}

/// The URI or mail address of `<…>` at the beginning of `text` (CommonMark, autolinks).
fn autolink(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('<')?;
    let end = inside.find(['<', '>', ' ', '\n', '\t'])?;
    let target = inside.get(..end)?;
    if !inside.get(end..)?.starts_with('>') || target.chars().any(char::is_control) {
        return None;
    }
    let is_uri = target.split_once(':').is_some_and(|(scheme, _)| {
        (2..=32).contains(&scheme.len())
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(is_scheme_byte)
    });
    let is_mail = target.split_once('@').is_some_and(|(local, host)| {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&c);
        let label = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.';
        !local.is_empty() && local.bytes().all(allowed) && !host.is_empty() && host.bytes().all(label)
    });
    (is_uri || is_mail).then_some(target)
}

/// The target of `(target "title")` at the beginning of `text`, and the length of it all.
fn destination(text: &str) -> Option<(&str, usize)> {
    // However many brackets there are, each looks only so far.
    let text = text.get(..text.floor_char_boundary(MAX_DESTINATION_BYTES))?;
    let inside = text.strip_prefix('(')?;
    let space = inside.len() - inside.trim_start_matches([' ', '\n']).len();
    let rest = inside.get(space..)?;
    let (target, used) = if let Some(bracketed) = rest.strip_prefix('<') {
        let end = bracketed.find(['>', '<', '\n'])?;
        bracketed.get(end..)?.starts_with('>').then_some(())?;
        (bracketed.get(..end)?, end + 2)
    } else {
        let mut depth = 0_usize;
        let end = rest.find(|c: char| match c {
            '(' => {
                depth += 1;
                depth > MAX_PARENTHESES
            }
            ')' if depth > 0 => {
                depth -= 1;
                false
            }
            c => c == ')' || c.is_ascii_whitespace(),
        })?;
        (depth <= MAX_PARENTHESES).then_some(())?;
        (rest.get(..end)?, end)
    };
    // A title, or only space, up to the closing parenthesis on the same line.
    let tail = rest.get(used..)?;
    let close = tail.find([')', '\n'])?;
    tail.get(close..)?.starts_with(')').then_some(())?;
    Some((target, 1 + space + used + close + 1))
}

/// Longest target and title of a link that are found.
const MAX_DESTINATION_BYTES: usize = 2048;
/// Levels of parentheses in a target, as in the reference implementation of CommonMark.
const MAX_PARENTHESES: usize = 32;

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
                link("[c]", "d e"),
            ]
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
        let downgrade = link("https://example.com/foobar", "http://example.com/foobar");
        assert_eq!(downgrade.warning(), Some(LinkWarning::Downgrade));
    }

    #[test]
    fn hostile_text_takes_linear_time() {
        for unit in ["[", "`", "<", "](", "[](", "``` ", "<a:"] {
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
