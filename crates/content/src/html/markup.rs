//! Tags, comments and character references of HTML, as far as text needs them.

use std::borrow::Cow;

/// What a `<` begins.
pub(super) enum Markup<'a> {
    /// A tag, and what follows it.
    Tag(Tag<'a>, &'a str),
    /// Something that is never shown, and what follows it.
    Ignored(&'a str),
    /// No markup: text, and what follows it.
    Text(&'a str, &'a str),
}

/// A start or end tag.
pub(super) struct Tag<'a> {
    /// The element's name in lower case.
    pub(super) name: String,
    /// Whether this is an end tag.
    pub(super) closing: bool,
    /// Between name and `>`.
    attributes: &'a str,
}

impl Tag<'_> {
    /// The value of an attribute, its character references resolved. Of several the first counts.
    pub(super) fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut rest = self.attributes;
        while let Some((attribute, after)) = attribute(rest) {
            if attribute.name.eq_ignore_ascii_case(name) {
                return Some(resolve(attribute.value));
            }
            rest = after;
        }
        None
    }
}

/// What the `<` at the start of `html` begins. Whatever would only end beyond the end of the text is text, all of it: so no part of the
/// text is searched twice for an end that is not there.
pub(super) fn markup(html: &str) -> Markup<'_> {
    let Some(rest) = html.strip_prefix('<') else {
        return Markup::Text(html, "");
    };
    if let Some(comment) = rest.strip_prefix("!--") {
        return Markup::Ignored(comment.split_once("-->").map_or("", |(_, after)| after));
    }
    if rest.starts_with('!') {
        return rest
            .split_once('>')
            .map_or(Markup::Text(html, ""), |(_, after)| Markup::Ignored(after));
    }
    let (closing, named) = rest.strip_prefix('/').map_or((false, rest), |named| (true, named));
    if !named.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Markup::Text(&html[..1], rest);
    }
    let name_end = named
        .find(|c: char| is_space(c) || c == '/' || c == '>')
        .unwrap_or(named.len());
    let (name, attributes) = named.split_at(name_end);
    let mut after = attributes;
    while let Some((_, next)) = attribute(after) {
        after = next;
    }
    let Some(behind) = skip_separators(after).strip_prefix('>') else {
        return Markup::Text(html, "");
    };
    let tag = Tag {
        name: name.to_ascii_lowercase(),
        closing,
        attributes: &attributes[..attributes.len() - after.len()],
    };
    Markup::Tag(tag, behind)
}

/// What follows the text inside an element whose text is no HTML: its end tag, or nothing.
pub(super) fn skip_raw<'a>(html: &'a str, name: &str) -> &'a str {
    let mut rest = html;
    while let Some(at) = rest.find("</") {
        let (end_tag, named) = (&rest[at..], &rest[at + 2..]);
        if named
            .get(..name.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(name))
        {
            return end_tag;
        }
        rest = named;
    }
    ""
}

/// The character that a reference at the start of `text` stands for, and the reference's length.
pub(super) fn entity(text: &str) -> Option<(char, usize)> {
    let reference = text.strip_prefix('&')?;
    let end = reference.bytes().take(MAX_REFERENCE_BYTES).position(|c| c == b';')?;
    let reference = &reference[..end];
    let c = match reference.strip_prefix('#') {
        None => NAMED.iter().find(|(name, _)| *name == reference)?.1,
        Some(number) => {
            let (digits, radix) = match number.strip_prefix(['x', 'X']) {
                Some(digits) => (digits, 16),
                None => (number, 10),
            };
            if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
                return None;
            }
            u32::from_str_radix(digits, radix)
                .ok()
                .and_then(char::from_u32)
                .unwrap_or(char::REPLACEMENT_CHARACTER)
        }
    };
    Some((c, end + 2))
}

struct Attribute<'a> {
    name: &'a str,
    value: &'a str,
}

/// The attribute at the start of `text`, and what follows it; `None` at the end of the tag, or if it has no end.
fn attribute(text: &str) -> Option<(Attribute<'_>, &str)> {
    let text = skip_separators(text);
    let first = text.chars().next().filter(|&c| c != '>')?;
    // Even a `=` is a name, if it comes first.
    let name_end = text[first.len_utf8()..]
        .find(|c: char| is_space(c) || matches!(c, '/' | '>' | '='))
        .map_or(text.len(), |at| first.len_utf8() + at);
    let (name, after_name) = text.split_at(name_end);
    let Some(value) = after_name.trim_start_matches(is_space).strip_prefix('=') else {
        return Some((Attribute { name, value: "" }, after_name));
    };
    let value = value.trim_start_matches(is_space);
    let (value, after) = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].split_once(quote)?,
        _ => value.split_at(value.find(|c: char| is_space(c) || c == '>').unwrap_or(value.len())),
    };
    Some((Attribute { name, value }, after))
}

fn skip_separators(text: &str) -> &str {
    text.trim_start_matches(|c: char| is_space(c) || c == '/')
}

fn resolve(value: &str) -> Cow<'_, str> {
    if !value.contains('&') {
        return Cow::Borrowed(value);
    }
    let mut resolved = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(c) = rest.chars().next() {
        let (c, length) = entity(rest).unwrap_or_else(|| (c, c.len_utf8()));
        resolved.push(c);
        rest = &rest[length..];
    }
    Cow::Owned(resolved)
}

const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}')
}

/// Longest character reference that is looked for, without `&`.
const MAX_REFERENCE_BYTES: usize = 16;

/// The names that messages use. Others stay as they are written.
const NAMED: [(&str, char); 40] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", '\u{a0}'),
    ("iexcl", '¡'),
    ("cent", '¢'),
    ("pound", '£'),
    ("yen", '¥'),
    ("sect", '§'),
    ("copy", '©'),
    ("laquo", '«'),
    ("raquo", '»'),
    ("reg", '®'),
    ("deg", '°'),
    ("plusmn", '±'),
    ("micro", 'µ'),
    ("para", '¶'),
    ("middot", '·'),
    ("frac12", '½'),
    ("iquest", '¿'),
    ("times", '×'),
    ("divide", '÷'),
    ("ndash", '–'),
    ("mdash", '—'),
    ("lsquo", '‘'),
    ("rsquo", '’'),
    ("sbquo", '‚'),
    ("ldquo", '“'),
    ("rdquo", '”'),
    ("bdquo", '„'),
    ("bull", '•'),
    ("hellip", '…'),
    ("euro", '€'),
    ("trade", '™'),
    ("larr", '←'),
    ("rarr", '→'),
    ("ne", '≠'),
    ("le", '≤'),
];
