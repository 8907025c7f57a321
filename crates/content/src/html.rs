//! HTML reduced to text (MMF #matrix-events: bodies of type `text/html`).
//!
//! Nothing is interpreted that could run, load or hide: what is left is characters, cleaned like any other text. Lists, quotes,
//! tables and line breaks keep their meaning, a link shows where it leads, a spoiler stays covered. Every byte is looked at a bounded
//! number of times, and nothing recurses, however the tags are nested.

mod markup;

use markup::{Markup, Tag, entity, markup, skip_raw};

use crate::plain::{Plain, clean_line, is_line_end};

/// Appends `html` as text.
pub(crate) fn render(html: &str, out: &mut Plain) {
    let mut layout = Layout::new(out);
    let mut rest = html;
    while !rest.is_empty() && !layout.out.is_full() {
        let (text, tail) = rest.split_at(rest.find('<').unwrap_or(rest.len()));
        layout.text(text);
        rest = match markup(tail) {
            Markup::Tag(tag, after) => {
                layout.tag(&tag);
                if RAW.contains(&&*tag.name) && !tag.closing {
                    skip_raw(after, &tag.name)
                } else {
                    after
                }
            }
            Markup::Ignored(after) => after,
            Markup::Text(text, after) => {
                layout.text(text);
                after
            }
        };
    }
    layout.end_link();
}

/// The links of `html` in order: where each leads, and its text.
pub(crate) fn links(html: &str) -> Vec<(String, String)> {
    let mut links = Vec::new();
    let mut open: Option<(String, String)> = None;
    let mut rest = html;
    while !rest.is_empty() {
        let (text, tail) = rest.split_at(rest.find('<').unwrap_or(rest.len()));
        let (more, after) = match markup(tail) {
            Markup::Text(text, after) => (text, after),
            Markup::Ignored(after) => ("", after),
            Markup::Tag(tag, after) => {
                if let Some((_, shown)) = &mut open {
                    resolve_into(shown, text);
                }
                if tag.name == "a" {
                    links.extend(open.take());
                    if !tag.closing {
                        open = tag.attribute("href").map(|href| (href.into_owned(), String::new()));
                    }
                }
                let raw = RAW.contains(&&*tag.name) && !tag.closing;
                rest = if raw { skip_raw(after, &tag.name) } else { after };
                continue;
            }
        };
        if let Some((_, shown)) = &mut open {
            resolve_into(shown, text);
            resolve_into(shown, more);
        }
        rest = after;
    }
    links.extend(open);
    links
}

/// Appends text with its character references resolved.
fn resolve_into(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        let (before, reference) = rest.split_at(at);
        out.push_str(before);
        let (c, length) = entity(reference).unwrap_or(('&', 1));
        out.push(c);
        rest = reference.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
}

/// Where the next character goes.
struct Layout<'a> {
    out: &'a mut Plain,
    /// Something was written.
    started: bool,
    /// Nothing was written on this line.
    line_start: bool,
    /// Line ends to write before the next character.
    newlines: usize,
    /// A space to write before the next character.
    space: bool,
    /// What begins the next line: an item's bullet or number.
    marker: Option<String>,
    /// How many `pre` we are in.
    preformatted: usize,
    /// How many `blockquote` we are in.
    quotes: usize,
    /// The next number of each list we are in; `None` for bullets.
    lists: Vec<Option<u32>>,
    /// The element whose content is not shown, and how often it is open.
    hidden: Option<(String, usize)>,
    /// Where the link we are in leads, and where in `out` its text begins.
    link: Option<(String, usize)>,
}

impl<'a> Layout<'a> {
    const fn new(out: &'a mut Plain) -> Self {
        Self {
            out,
            started: false,
            line_start: true,
            newlines: 0,
            space: false,
            marker: None,
            preformatted: 0,
            quotes: 0,
            lists: Vec::new(),
            hidden: None,
            link: None,
        }
    }

    /// Text between tags, with its character references.
    fn text(&mut self, text: &str) {
        if self.hidden.is_some() {
            return;
        }
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if self.out.is_full() {
                return;
            }
            let (c, length) = entity(rest).unwrap_or_else(|| (c, c.len_utf8()));
            self.character(c);
            rest = &rest[length..];
        }
    }

    fn character(&mut self, c: char) {
        let space = c == ' ' || c == '\t' || is_line_end(c);
        if self.preformatted == 0 && space {
            self.space |= !self.line_start;
        } else if is_line_end(c) {
            // The other half of a pair; alone it is rare.
            if c != '\r' {
                self.break_line();
            }
        } else {
            self.flush();
            self.out.push(if c == NO_BREAK_SPACE { ' ' } else { c });
        }
    }

    /// Our own words in the middle of a line.
    fn words(&mut self, words: &str) {
        self.flush();
        self.out.line(words);
    }

    /// Writes what has to come before the next character.
    fn flush(&mut self) {
        if self.started {
            for _ in 0..self.newlines {
                self.out.push('\n');
            }
        }
        self.newlines = 0;
        if self.line_start {
            for _ in 0..self.quotes.min(MAX_SHOWN_DEPTH) {
                self.out.line("> ");
            }
            if let Some(marker) = self.marker.take() {
                self.out.line(&marker);
            }
        } else if self.space {
            self.out.push(' ');
        }
        self.space = false;
        self.line_start = false;
        self.started = true;
    }

    fn break_line(&mut self) {
        self.newlines = (self.newlines + 1).min(MAX_NEWLINES);
        self.line_start = true;
        self.space = false;
    }

    /// What follows begins `newlines` lines further down; there are no empty lines inside lists.
    fn block(&mut self, newlines: usize) {
        let newlines = if self.lists.is_empty() { newlines } else { 1 };
        self.newlines = self.newlines.max(newlines);
        self.line_start = true;
        self.space = false;
    }

    fn tag(&mut self, tag: &Tag<'_>) {
        if let Some((name, depth)) = &mut self.hidden {
            if *name == tag.name {
                *depth = if tag.closing { *depth - 1 } else { *depth + 1 };
            }
            if *depth == 0 {
                self.hidden = None;
            }
            return;
        }
        match &*tag.name {
            "br" => self.break_line(),
            "hr" => {
                self.block(1);
                self.words("---");
                self.block(1);
            }
            "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => self.block(2),
            "blockquote" => self.quote(tag),
            "pre" => {
                self.block(1);
                self.preformatted = step(self.preformatted, tag);
            }
            "ul" | "ol" => self.list(tag),
            "li" => self.item(tag),
            "td" | "th" => self.cell(tag),
            "a" => self.anchor(tag),
            "img" => self.image(tag),
            "span" => self.span(tag),
            "del" | "s" | "strike" => self.mark("~~", tag),
            "code" | "tt" if self.preformatted == 0 => self.mark("`", tag),
            "sup" if !tag.closing => self.words("^"),
            "sub" if !tag.closing => self.words("_"),
            "mx-reply" | "template" => self.hide(tag),
            name if BLOCKS.contains(&name) => self.block(1),
            _ => {}
        }
    }

    fn quote(&mut self, tag: &Tag<'_>) {
        self.block(1);
        self.quotes = step(self.quotes, tag);
    }

    fn list(&mut self, tag: &Tag<'_>) {
        self.block(1);
        if tag.closing {
            self.lists.pop();
            self.marker = None;
        } else if self.lists.len() < MAX_LISTS {
            let start = tag.attribute("start").and_then(|text| text.parse().ok()).unwrap_or(1);
            self.lists.push((tag.name == "ol").then_some(start));
        }
    }

    fn item(&mut self, tag: &Tag<'_>) {
        self.block(1);
        if tag.closing {
            self.marker = None;
            return;
        }
        let indent = "  ".repeat(self.lists.len().saturating_sub(1).min(MAX_SHOWN_DEPTH));
        self.marker = Some(match self.lists.last_mut() {
            Some(Some(number)) => {
                let marker = format!("{indent}{number}. ");
                *number = number.saturating_add(1);
                marker
            }
            _ => format!("{indent}- "),
        });
    }

    fn cell(&mut self, tag: &Tag<'_>) {
        if !tag.closing && !self.line_start {
            self.space = false;
            self.words(" | ");
        }
    }

    /// Who reads "bank.example" must see that it leads elsewhere.
    fn anchor(&mut self, tag: &Tag<'_>) {
        self.end_link();
        if !tag.closing {
            let target = tag.attribute("href").and_then(|href| shown_url(&href));
            self.link = target.map(|target| (target, self.out.len()));
        }
    }

    fn end_link(&mut self) {
        let Some((target, start)) = self.link.take() else {
            return;
        };
        let text = self.out.since(start).trim();
        if text == target || target.strip_prefix("mailto:") == Some(text) {
            return;
        }
        self.space |= !self.line_start;
        self.words(&format!("({target})"));
    }

    fn image(&mut self, tag: &Tag<'_>) {
        let alt = tag
            .attribute("alt")
            .or_else(|| tag.attribute("title"))
            .unwrap_or_default();
        let alt = clean_line(&alt, MAX_ATTRIBUTE_SHOWN);
        if alt.is_empty() {
            self.words("[image]");
        } else if tag.attribute("data-mx-emoticon").is_some() {
            self.words(&alt);
        } else {
            self.words(&format!("[image: {alt}]"));
        }
    }

    fn span(&mut self, tag: &Tag<'_>) {
        let Some(reason) = tag.attribute("data-mx-spoiler") else {
            return;
        };
        let reason = clean_line(&reason, MAX_ATTRIBUTE_SHOWN);
        if reason.is_empty() {
            self.words("[spoiler]");
        } else {
            self.words(&format!("[spoiler: {reason}]"));
        }
        self.hide(tag);
    }

    /// A mark on both sides of an element's text.
    fn mark(&mut self, mark: &str, tag: &Tag<'_>) {
        if tag.closing {
            self.out.line(mark);
        } else {
            self.words(mark);
        }
    }

    fn hide(&mut self, tag: &Tag<'_>) {
        if !tag.closing {
            self.hidden = Some((tag.name.clone(), 1));
        }
    }
}

/// One element deeper, or one less deep.
const fn step(depth: usize, tag: &Tag<'_>) -> usize {
    if tag.closing {
        depth.saturating_sub(1)
    } else {
        depth.saturating_add(1)
    }
}

/// A link's target as it is shown; `None` for schemes that lead nowhere a person could want to go. What is no letter, digit or
/// printable ASCII is percent-encoded, so that a target cannot pretend to end.
fn shown_url(href: &str) -> Option<String> {
    let href = href.trim();
    let known = |scheme: &&str| {
        href.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    SCHEMES.iter().find(|scheme| known(scheme))?;
    let mut shown = String::with_capacity(href.len());
    for c in href.chars() {
        if (c.is_ascii_graphic() && !matches!(c, '(' | ')')) || (!c.is_ascii() && c.is_alphanumeric()) {
            shown.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                shown.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    Some(clean_line(&shown, MAX_URL_SHOWN))
}

const NO_BREAK_SPACE: char = '\u{a0}';
const SCHEMES: [&str; 5] = ["https://", "http://", "mailto:", "matrix:", "ftp://"];
/// Elements that begin and end on lines of their own.
const BLOCKS: [&str; 21] = [
    "address",
    "article",
    "aside",
    "caption",
    "center",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "header",
    "main",
    "nav",
    "section",
    "summary",
    "table",
    "tr",
];
/// Elements whose content is no text at all, up to their end tag, whatever stands in it.
const RAW: [&str; 8] = [
    "iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp",
];
const MAX_NEWLINES: usize = 3;
const MAX_SHOWN_DEPTH: usize = 8;
const MAX_LISTS: usize = 64;
const MAX_ATTRIBUTE_SHOWN: usize = 255;
const MAX_URL_SHOWN: usize = 2048;

#[cfg(test)]
mod tests;
