//! How bytes are written down: as they are, in hexadecimal, in base64, in a PEM-like paste.
//!
//! A text can be several of these at once (`deadbeef` is hexadecimal and base64), so there may be several answers, the
//! likeliest first.

use nabe_signing::base64u;

/// How an input is written down.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Form {
    /// Hexadecimal digits, with or without spaces, colons, commas, `0x` and comments after `#`
    Hex,
    /// Base64 of either alphabet, with or without padding and line breaks
    Base64,
    /// Hexadecimal or base64 between lines of dashes
    Pem,
    /// The bytes themselves
    Raw,
}

impl Form {
    /// As on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Hex => "hex",
            Self::Base64 => "base64",
            Self::Pem => "pem",
            Self::Raw => "raw",
        }
    }
}

/// The bytes of an input.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Input {
    pub(super) form: Form,
    pub(super) bytes: Vec<u8>,
    /// What the first line of a PEM-like paste calls it, without spaces and hyphens.
    pub(super) label: Option<String>,
}

/// Why an input has no bytes. Places are counted from 1, as editors do.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum InputError {
    /// There is nothing.
    #[error("the input is empty")]
    Empty,
    /// Not text, and it was to be read as text.
    #[error("not text: byte {at} is no UTF-8")]
    NotText {
        /// The first byte that is none.
        at: usize,
    },
    /// A character that the form does not have.
    #[error("not {form}: `{}` in line {line}, column {column}", found.escape_debug())]
    Character {
        /// The form.
        form: &'static str,
        /// The character.
        found: char,
        /// Its line.
        line: usize,
        /// Its column, in characters.
        column: usize,
    },
    /// Half a byte is missing.
    #[error("an odd number of hexadecimal digits: {digits}")]
    Odd {
        /// How many there are.
        digits: usize,
    },
    /// No number of bytes has so many characters, or bits are left over.
    #[error("base64 that ends in the middle of a byte, after {characters} characters")]
    Unfinished {
        /// How many there are.
        characters: usize,
    },
    /// No line of dashes that begins something.
    #[error("no `-----BEGIN …-----`")]
    NoBegin,
}

/// The bytes in each form that the input may have, at least one; with `form` in that form alone.
pub(super) fn forms(raw: Vec<u8>, form: Option<Form>) -> Result<Vec<Input>, InputError> {
    let plain = |form, bytes| Input {
        form,
        bytes,
        label: None,
    };
    match form {
        Some(Form::Raw) => return Ok(vec![plain(Form::Raw, raw)]),
        Some(Form::Hex) => return Ok(vec![plain(Form::Hex, hex(text(&raw)?)?)]),
        Some(Form::Base64) => return Ok(vec![plain(Form::Base64, base64(text(&raw)?)?)]),
        Some(Form::Pem) => return Ok(vec![pem(text(&raw)?)?]),
        None => {}
    }
    let Ok(text) = text(&raw) else {
        return if raw.is_empty() {
            Err(InputError::Empty)
        } else {
            Ok(vec![plain(Form::Raw, raw)])
        };
    };
    if text.trim().is_empty() {
        return Err(InputError::Empty);
    }
    // What is begun by dashes is a paste and nothing else.
    match pem(text) {
        Err(InputError::NoBegin) => {}
        paste => return paste.map(|paste| vec![paste]),
    }
    // So many characters are not digits by chance, nor so many characters base64.
    let is_long = text.len() >= LONG;
    let mut inputs = Vec::new();
    match hex(text) {
        Ok(bytes) => inputs.push(plain(Form::Hex, bytes)),
        Err(odd @ InputError::Odd { .. }) if is_long => return Err(odd),
        Err(_) => {}
    }
    if inputs.is_empty() || !is_long {
        inputs.extend(base64(text).map(|bytes| plain(Form::Base64, bytes)));
    }
    if inputs.is_empty() || !is_long {
        inputs.push(plain(Form::Raw, raw));
    }
    Ok(inputs)
}

/// Characters of a text that can hardly be of two forms.
const LONG: usize = 32;

/// The bytes of an argument of the command line: hexadecimal if it can be, base64 otherwise. With `@`, those of a file, in any
/// form.
pub(crate) fn bytes_of(argument: &str) -> anyhow::Result<Vec<u8>> {
    if let Some(path) = argument.strip_prefix('@') {
        let raw = super::read(path.as_ref())?;
        return Ok(forms(raw, None)?.swap_remove(0).bytes);
    }
    match hex(argument) {
        Ok(bytes) => Ok(bytes),
        // Digits alone are no base64, of which so few characters make sense.
        Err(odd @ InputError::Odd { .. }) => Err(odd.into()),
        Err(not_hex) => base64(argument).map_err(|not_base64| anyhow::anyhow!("{not_hex}; {not_base64}")),
    }
}

/// Why a text is no text of bytes, in the form it comes closest to.
pub(super) fn complaint(text: &str) -> InputError {
    match (hex(text), base64(text)) {
        (Err(odd @ InputError::Odd { .. }), _) => odd,
        (_, Err(error)) | (Err(error), Ok(_)) => error,
        (Ok(_), Ok(_)) => InputError::Empty,
    }
}

fn text(raw: &[u8]) -> Result<&str, InputError> {
    std::str::from_utf8(raw).map_err(|error| InputError::NotText {
        at: error.valid_up_to(),
    })
}

/// Digits in groups of any size. `0x1` is a byte by itself, `h'…'` and quotation marks are left out, and the brackets of an array
/// of such bytes.
fn hex(text: &str) -> Result<Vec<u8>, InputError> {
    let is_array = text.contains("0x") || text.contains("0X");
    let is_between = |c: char| " \t:,;\r".contains(c) || (is_array && "{}[]".contains(c));
    let mut digits = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let (line, _comment) = line.split_once('#').unwrap_or((line, ""));
        let mut column = 0;
        for group in line.split(is_between) {
            let bare = group.trim_start_matches("h'").trim_matches(['\'', '"']);
            let prefixed = bare.strip_prefix("0x").or_else(|| bare.strip_prefix("0X"));
            let bare = prefixed.unwrap_or(bare);
            if prefixed.is_some() && bare.len() == 1 {
                digits.push(0);
            }
            for (at, found) in bare.chars().enumerate() {
                let Some(digit) = found.to_digit(16) else {
                    let before = group.chars().count() - bare.chars().count().min(group.chars().count());
                    return Err(InputError::Character {
                        form: "hexadecimal",
                        found,
                        line: index + 1,
                        column: column + before + at + 1,
                    });
                };
                digits.push(digit as u8);
            }
            column += group.chars().count() + 1;
        }
    }
    if digits.is_empty() {
        return Err(InputError::Empty);
    }
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(InputError::Odd { digits: digits.len() });
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Either alphabet, even mixed; white space anywhere, `=` at the end or not at all.
fn base64(text: &str) -> Result<Vec<u8>, InputError> {
    let mut characters = String::with_capacity(text.len());
    let mut padding = 0;
    for (index, line) in text.lines().enumerate() {
        for (at, found) in line.chars().enumerate() {
            match found {
                _ if found.is_ascii_whitespace() => {}
                '=' if padding < 2 => padding += 1,
                'A'..='Z' | 'a'..='z' | '0'..='9' | '+' | '/' | '-' | '_' if padding == 0 => {
                    characters.push(match found {
                        '-' => '+',
                        '_' => '/',
                        other => other,
                    });
                }
                _ => {
                    return Err(InputError::Character {
                        form: "base64",
                        found,
                        line: index + 1,
                        column: at + 1,
                    });
                }
            }
        }
    }
    if characters.is_empty() {
        return Err(InputError::Empty);
    }
    base64u::decode(&characters).map_err(|_| InputError::Unfinished {
        characters: characters.len(),
    })
}

/// The first block of `-----BEGIN X-----` to `-----END X-----`. The end may be missing, as pastes lose it; headers, which have a
/// name and a colon and a space, are passed over.
fn pem(text: &str) -> Result<Input, InputError> {
    let mut lines = text.lines().map(str::trim);
    let label = lines
        .find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .ok_or(InputError::NoBegin)?;
    let body: Vec<&str> = lines
        .take_while(|line| !line.starts_with("-----"))
        .filter(|line| {
            let name = line.split_once(": ").map(|(name, _)| name);
            !name.is_some_and(|name| name.len() > 2 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
        })
        .collect();
    let body = body.join("\n");
    let bytes = hex(&body).or_else(|_| base64(&body))?;
    let label = label.chars().filter(char::is_ascii_alphanumeric).collect();
    Ok(Input {
        form: Form::Pem,
        bytes,
        label: Some(label),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &str) -> (Form, Vec<u8>) {
        let input = forms(text.as_bytes().to_vec(), None).unwrap().swap_remove(0);
        (input.form, input.bytes)
    }

    #[test]
    fn hexadecimal_is_read_however_it_is_spaced() {
        for text in [
            "00ff10aa",
            "00FF10AA",
            "00 ff 10 aa",
            "00:ff:10:aa",
            "0x00ff10aa",
            "0x00, 0xff, 0x10, 0xaa",
            "0x0,0xff,0x10,0xaa",
            "00ff\n10aa\n",
            "  00 # nothing\r\n  ff10 # a comment\r\n\taa",
            "h'00ff10aa'",
            "\"00ff10aa\"",
            "{0x00, 0xff, 0x10, 0xaa}",
            "{ 0x0, 0xff,\n  0x10, 0xaa };",
            "[0x00, 0xff, 0x10, 0xaa]",
        ] {
            assert_eq!(first(text), (Form::Hex, vec![0, 0xff, 0x10, 0xaa]), "{text:?}");
        }
    }

    #[test]
    fn base64_is_read_in_both_alphabets_padded_or_not() {
        for text in ["+/+/AQ==", "-_-_AQ", "+_-/\nAQ", " +/+/ AQ== \n"] {
            assert_eq!(first(text), (Form::Base64, vec![0xfb, 0xff, 0xbf, 1]), "{text:?}");
        }
    }

    #[test]
    fn a_paste_has_a_label_and_may_have_lost_its_end() {
        for text in [
            "-----BEGIN MLS KEY-PACKAGE-----\nAAEC\nAw==\n-----END MLS KEY-PACKAGE-----\n",
            "Hello,\n\n  -----BEGIN MLS KEY PACKAGE-----\n  Comment: a test\n  AAECAw==\n",
            "-----BEGIN MLSKEYPACKAGE-----\r\n00 01 02 03\r\n-----END X-----\r\n",
        ] {
            let input = forms(text.as_bytes().to_vec(), None).unwrap().swap_remove(0);
            assert_eq!((input.form, input.bytes), (Form::Pem, vec![0, 1, 2, 3]), "{text:?}");
            assert_eq!(input.label.unwrap().to_lowercase(), "mlskeypackage");
        }
        let broken = forms(b"-----BEGIN X-----\n!!\n".to_vec(), None);
        assert!(
            matches!(broken, Err(InputError::Character { line: 1, .. })),
            "{broken:?}"
        );
    }

    #[test]
    fn a_text_of_two_forms_is_offered_in_both_and_as_it_is() {
        let inputs = forms(b"deadbeef".to_vec(), None).unwrap();
        let forms: Vec<_> = inputs.iter().map(|input| input.form).collect();
        assert_eq!(forms, [Form::Hex, Form::Base64, Form::Raw]);
    }

    #[test]
    fn a_long_text_of_digits_is_hexadecimal_and_nothing_else() {
        let long = "deadbeef".repeat(5);
        let only = |text: &str| forms(text.as_bytes().to_vec(), None).map(|inputs| inputs.len());
        assert_eq!((first(&long).0, only(&long)), (Form::Hex, Ok(1)));
        assert_eq!(only(&long[1..]), Err(InputError::Odd { digits: 39 }));
        let base64 = "AAECAwQF".repeat(5);
        assert_eq!((first(&base64).0, only(&base64)), (Form::Base64, Ok(1)));
    }

    #[test]
    fn what_is_no_text_is_taken_as_it_is() {
        assert_eq!(forms(vec![0x87, 0xff], None).unwrap()[0].form, Form::Raw);
        assert_eq!(forms(vec![], None), Err(InputError::Empty));
        assert_eq!(forms(b" \n".to_vec(), None), Err(InputError::Empty));
    }

    #[test]
    fn an_argument_that_lacks_a_digit_is_no_base64() {
        assert_eq!(bytes_of("0abc").unwrap(), [0x0a, 0xbc]);
        assert_eq!(bytes_of("-_-_AQ").unwrap(), [0xfb, 0xff, 0xbf, 1]);
        for argument in ["abc", &"0".repeat(63)] {
            let refused = bytes_of(argument).unwrap_err().to_string();
            assert_eq!(
                refused,
                format!("an odd number of hexadecimal digits: {}", argument.len())
            );
        }
        assert_eq!(bytes_of("abc=").unwrap(), [0x69, 0xb7]);
    }

    #[test]
    fn what_was_asked_for_is_refused_where_it_breaks() {
        let refused = |text: &str, form| forms(text.as_bytes().to_vec(), Some(form)).unwrap_err().to_string();
        assert_eq!(
            refused("00\nf0 0z", Form::Hex),
            "not hexadecimal: `z` in line 2, column 5"
        );
        assert_eq!(refused("0x0g", Form::Hex), "not hexadecimal: `g` in line 1, column 4");
        assert_eq!(refused("000", Form::Hex), "an odd number of hexadecimal digits: 3");
        assert_eq!(refused("AA=A", Form::Base64), "not base64: `A` in line 1, column 4");
        assert_eq!(
            refused("AAAAA", Form::Base64),
            "base64 that ends in the middle of a byte, after 5 characters"
        );
        assert_eq!(refused("AAAA", Form::Pem), "no `-----BEGIN …-----`");
        let not_text = forms(vec![b'0', 0xff], Some(Form::Hex));
        assert_eq!(not_text, Err(InputError::NotText { at: 1 }));
    }
}
