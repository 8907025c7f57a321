//! Text that is safe to print: bounded, without control characters, and without the invisible characters that reorder or
//! hide what follows them.

/// Longest text that rendering produces, in bytes. What is longer ends with a mark that says so.
pub const MAX_RENDERED_BYTES: usize = 65_536;

/// `text` on one line, safe to print and at most `max_bytes` long: for names that stand inside our own words.
///
/// Line ends and tabs become spaces. Characters that control a terminal or the direction of text become U+FFFD, invisible ones are
/// left out.
#[must_use]
pub fn clean_line(text: &str, max_bytes: usize) -> String {
    let mut out = Plain::with_limit(max_bytes);
    out.line(text);
    out.finish()
}

/// Collects text that is safe to print, up to a limit.
pub(crate) struct Plain {
    out: String,
    limit: usize,
    /// Most bytes as a string of canonical JSON, without its quotes, and how many there are.
    json_limit: usize,
    json: usize,
    full: bool,
    /// The last character was a carriage return, whose line feed is still to come.
    after_return: bool,
}

impl Plain {
    pub(crate) const fn new() -> Self {
        Self::with_limit(MAX_RENDERED_BYTES)
    }

    pub(crate) const fn with_limit(limit: usize) -> Self {
        Self {
            out: String::new(),
            limit,
            json_limit: usize::MAX,
            json: 0,
            full: false,
            after_return: false,
        }
    }

    /// For text of at most `limit` bytes as a string of canonical JSON, which escapes quotes and line ends.
    pub(crate) const fn with_json_limit(limit: usize) -> Self {
        let mut plain = Self::new();
        plain.json_limit = limit;
        plain
    }

    /// Appends a text of many lines. Marks that only say "this is written from right to left" stay: Arabic and Hebrew need them.
    pub(crate) fn text(&mut self, text: &str) {
        for c in text.chars() {
            if self.full {
                return;
            }
            self.push(c);
        }
    }

    /// Appends text that must not leave its line.
    pub(crate) fn line(&mut self, text: &str) {
        for c in text.chars() {
            if self.full {
                return;
            }
            self.push_in_line(c);
        }
    }

    /// Appends one character of a text of many lines.
    pub(crate) fn push(&mut self, c: char) {
        let after_return = std::mem::replace(&mut self.after_return, c == '\r');
        match c {
            '\n' if after_return => {}
            '\t' => self.raw('\t'),
            c if is_line_end(c) => self.raw('\n'),
            LEFT_MARK | RIGHT_MARK | ARABIC_MARK => self.raw(c),
            c => self.printable(c),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Length so far, in bytes; a place for [`Self::since`].
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// What was appended since the length was `start`.
    pub(crate) fn since(&self, start: usize) -> &str {
        self.out.get(start..).unwrap_or_default()
    }

    /// The text; with a mark at its end if not all of it had room.
    pub(crate) fn finish(mut self) -> String {
        if self.full {
            // Where not even the mark has room, what fits stands without it.
            let has_room = self.limit.min(self.json_limit) > CUT.len();
            let mark = if has_room { CUT } else { "" };
            while self.out.len() + mark.len() > self.limit || self.json + mark.len() > self.json_limit {
                let Some(c) = self.out.pop() else { break };
                self.json -= json_len(c);
            }
            self.out.push_str(mark);
        }
        self.out
    }

    fn push_in_line(&mut self, c: char) {
        match c {
            '\t' => self.raw(' '),
            c if is_line_end(c) => self.raw(' '),
            LEFT_MARK | RIGHT_MARK | ARABIC_MARK => self.raw(char::REPLACEMENT_CHARACTER),
            c => self.printable(c),
        }
    }

    fn printable(&mut self, c: char) {
        if is_invisible(c) {
            return;
        }
        let shown = if c.is_control() || controls_text(c) {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        };
        self.raw(shown);
    }

    fn raw(&mut self, c: char) {
        let json = self.json.saturating_add(json_len(c));
        if self.full || self.out.len() + c.len_utf8() > self.limit || json > self.json_limit {
            self.full = true;
        } else {
            self.out.push(c);
            self.json = json;
        }
    }
}

/// Length in bytes of a character in a string of canonical JSON (RFC 8785, 3.2.2.2).
const fn json_len(c: char) -> usize {
    match c {
        '"' | '\\' | '\u{8}' | '\t' | '\n' | '\u{c}' | '\r' => 2,
        '\0'..='\u{1f}' => 6,
        c => c.len_utf8(),
    }
}

/// Every character that some program takes for the end of a line.
pub(crate) const fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Whether rendering may produce this character.
pub(crate) fn is_safe(c: char) -> bool {
    matches!(c, '\n' | '\t') || !(c.is_control() || is_line_end(c) || controls_text(c) || is_invisible(c))
}

/// Embeddings, overrides and isolates of the bidirectional algorithm, deprecated format characters, annotations, and code points
/// that are no characters.
const fn controls_text(c: char) -> bool {
    matches!(
        c,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' | '\u{fdd0}'..='\u{fdef}'
    ) || (c as u32) & 0xfffe == 0xfffe
}

/// Characters without a width that carry no meaning for a reader, but can hide text or make two names look alike. The joiners
/// U+200C and U+200D stay: scripts and emoji need them.
const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
    )
}

const LEFT_MARK: char = '\u{200e}';
const RIGHT_MARK: char = '\u{200f}';
const ARABIC_MARK: char = '\u{61c}';
const CUT: &str = "… [cut]";

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> String {
        let mut out = Plain::new();
        out.text(text);
        out.finish()
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(
            text("a\u{1b}[31mred\u{7}\u{9b}0m\0\u{7f}"),
            "a\u{fffd}[31mred\u{fffd}\u{fffd}0m\u{fffd}\u{fffd}"
        );
        assert_eq!(text("a\r\nb\rc\u{2028}d\te"), "a\nb\nc\nd\te");
        assert_eq!(clean_line("a\r\nb\tc\u{1b}", 99), "a  b c\u{fffd}");
    }

    #[test]
    fn the_direction_of_text_cannot_be_overridden() {
        assert_eq!(
            text("\u{202e}gpj.exe\u{2066}x\u{2069}"),
            "\u{fffd}gpj.exe\u{fffd}x\u{fffd}"
        );
        assert_eq!(text("שלום\u{200f}!"), "שלום\u{200f}!");
        assert_eq!(clean_line("photo\u{200f}gpj.exe", 99), "photo\u{fffd}gpj.exe");
    }

    #[test]
    fn invisible_characters_are_left_out_and_joiners_stay() {
        assert_eq!(text("a\u{200b}d\u{ad}m\u{e0041}in\u{feff}"), "admin");
        assert_eq!(text("👩\u{200d}🚀 می\u{200c}خواهم"), "👩\u{200d}🚀 می\u{200c}خواهم");
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let shown = text(&"é".repeat(MAX_RENDERED_BYTES));
        assert!(shown.len() <= MAX_RENDERED_BYTES && shown.len() > MAX_RENDERED_BYTES - 16);
        assert!(shown.ends_with("é… [cut]"));
        assert_eq!(text(&"x".repeat(MAX_RENDERED_BYTES)).len(), MAX_RENDERED_BYTES);
        assert_eq!(clean_line("abcdef", 3), "abc");
        assert_eq!(clean_line("abcdefghijklm", 12), "abc… [cut]");
    }

    #[test]
    fn text_for_json_is_cut_where_its_escapes_are_too_long() {
        let json = |text: &str| nabe_signing::Json::from(text).to_canonical().len() - 2;
        for c in ('\0'..='\u{ff}').chain(['"', '\\', '\u{2028}', '🐟']) {
            assert_eq!(json_len(c), json(&c.to_string()), "{c:?}");
        }
        for unit in ["\"", "\n", "\\é", "🐟\"", "x"] {
            for limit in [0, 5, 9, 10, 11, 100, 101, 102, 103] {
                let mut out = Plain::with_json_limit(limit);
                out.text(&unit.repeat(200));
                let (cut, limit_is_tiny) = (out.finish(), limit <= CUT.len());
                assert!(json(&cut) <= limit && json(&cut) + 8 > limit, "{limit}: {cut}");
                assert!(limit_is_tiny || cut.ends_with(CUT), "{limit}: {cut}");
            }
        }
        let mut out = Plain::with_json_limit(20);
        out.text(&"\"".repeat(10));
        assert_eq!(out.finish(), "\"".repeat(10));
    }
}
