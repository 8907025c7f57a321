//! Unpadded base64 (LM #int-unpadded-base64): the standard alphabet without `=`, padding tolerated when reading.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Encodes with the standard alphabet, unpadded.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Encodes with the URL-safe alphabet, unpadded, as in event IDs (LM #int-reference-hashes).
#[must_use]
pub fn encode_url(bytes: &[u8]) -> String {
    URL_SAFE.encode(bytes)
}

/// Decodes the standard alphabet, padded or not. Fails on any other character (white space too), on an impossible
/// length, and on bits left over after the last byte, so that each value has one unpadded form.
pub fn decode(text: &str) -> Result<Vec<u8>, InvalidBase64> {
    STANDARD.decode(text).map_err(|_| InvalidBase64)
}

/// Decodes the URL-safe alphabet under the rules of [`decode`].
pub fn decode_url(text: &str) -> Result<Vec<u8>, InvalidBase64> {
    URL_SAFE.decode(text).map_err(|_| InvalidBase64)
}

/// Decodes exactly `N` bytes of the standard alphabet without allocating by the text's length.
pub(crate) fn decode_exact<const N: usize>(text: &str) -> Result<[u8; N], InvalidBase64> {
    // Padded text of N bytes is at most this long; do not decode a megabyte to find it is no key.
    if text.len() > N.div_ceil(3) * 4 {
        return Err(InvalidBase64);
    }
    decode(text)?.try_into().map_err(|_| InvalidBase64)
}

/// The text is not base64, or not of the length expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid base64")]
pub struct InvalidBase64;

const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values() {
        // RFC 4648, 10.
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("fooba", "Zm9vYmE"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(
            (encode(&[0xfb, 0xff]), encode_url(&[0xfb, 0xff])),
            ("+/8".to_owned(), "-_8".to_owned())
        );
    }

    #[test]
    fn padding_is_tolerated() {
        assert_eq!(decode("Zg==").unwrap(), b"f");
        assert_eq!(decode("Zm8=").unwrap(), b"fo");
        assert_eq!(decode_url("-_8=").unwrap(), [0xfb, 0xff]);
    }

    #[test]
    fn malformed_text_is_refused() {
        for text in ["Z", "Zg===", "Zh", "Zg\n", " Zg", "Z-_g", "=", "Zg=Zg", "é"] {
            assert_eq!(decode(text), Err(InvalidBase64), "{text:?}");
        }
    }

    #[test]
    fn exact_length_is_required() {
        assert_eq!(decode_exact::<2>("Zm8"), Ok(*b"fo"));
        assert_eq!(decode_exact::<2>("Zm8="), Ok(*b"fo"));
        for text in ["Zg", "Zm9v", "Zm9vYmFy"] {
            assert_eq!(decode_exact::<2>(text), Err(InvalidBase64), "{text}");
        }
    }

    proptest! {
        #[test]
        fn decoding_what_was_encoded_gives_the_same(bytes: Vec<u8>) {
            prop_assert_eq!(&decode(&encode(&bytes)).unwrap(), &bytes);
            prop_assert_eq!(&decode_url(&encode_url(&bytes)).unwrap(), &bytes);
        }

        #[test]
        fn each_value_has_one_unpadded_form(text in "[A-Za-z0-9+/=]{0,12}") {
            if let Ok(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text.trim_end_matches('='));
            }
        }
    }
}
