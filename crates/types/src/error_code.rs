//! The draft's error codes with their usual HTTP status and words (LM #int-transport-errors). An endpoint may
//! answer with another status or text; the code is what a caller acts on.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One line per code: variant, wire name, default HTTP status, default `error` text.
macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident $name:literal $status:literal $text:literal;)*) => {
        /// A value of `errcode` in an error body (LM #int-transport-errors).
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorCode {
            /// Every code, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The code on the wire, such as `M_FORBIDDEN`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The HTTP status where the endpoint names none.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The `error` text where nothing better is known.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl FromStr for ErrorCode {
            type Err = UnknownErrorCode;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                match name {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(UnknownErrorCode),
                }
            }
        }
    };
}

error_codes! {
    /// Something went wrong that no other code describes.
    Unknown "M_UNKNOWN" 500 "An unknown error occurred.";
    /// The caller may not do this, or did not prove who it is.
    Forbidden "M_FORBIDDEN" 403 "The caller may not do this.";
    /// The body is not JSON.
    NotJson "M_NOT_JSON" 400 "The request body is not JSON.";
    /// The body is JSON of the wrong shape.
    BadJson "M_BAD_JSON" 400 "The request body does not have the expected form.";
    /// Too many requests.
    LimitExceeded "M_LIMIT_EXCEEDED" 429 "Too many requests, try again later.";
    /// The request is larger than we read.
    TooLarge "M_TOO_LARGE" 413 "The request is too large.";
    /// No such endpoint, or no such method on it.
    Unrecognized "M_UNRECOGNIZED" 404 "There is no such endpoint.";
    /// The thing asked for is not known here.
    NotFound "M_NOT_FOUND" 404 "Not found.";
    /// The request does not fit what is going on, such as another transaction in progress.
    BadState "M_BAD_STATE" 400 "The request is not possible at this moment.";
    /// This server is not the room's hub.
    WrongServer "M_WRONG_SERVER" 400 "This server is not the hub of the room.";
    /// The room's version is not one the other side supports.
    IncompatibleRoomVersion "M_INCOMPATIBLE_ROOM_VERSION" 400 "The room's version is not supported.";
    /// A required query parameter is missing.
    MissingParam "M_MISSING_PARAM" 400 "A required parameter is missing.";
    /// A path or query parameter is malformed.
    InvalidParam "M_INVALID_PARAM" 400 "A parameter is malformed.";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// The text is none of the codes we know. Peers may use others; treat them as [`ErrorCode::Unknown`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown error code")]
pub struct UnknownErrorCode;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_from_its_name() {
        for &code in ErrorCode::ALL {
            assert_eq!(code.to_string().parse(), Ok(code));
            assert!(code.as_str().starts_with("M_"), "{code}");
            assert!((400..600).contains(&code.http_status()), "{code}");
            assert!(code.message().ends_with('.'), "{code}");
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<ErrorCode>(&json).unwrap(), code);
        }
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn foreign_code_is_unknown() {
        assert_eq!("M_FOO".parse::<ErrorCode>(), Err(UnknownErrorCode));
        assert_eq!("m_forbidden".parse::<ErrorCode>(), Err(UnknownErrorCode));
    }

    #[test]
    fn statuses_the_draft_requires() {
        assert_eq!(ErrorCode::Unknown.http_status(), 500);
        assert_eq!(ErrorCode::NotJson.http_status(), 400);
        assert_eq!(ErrorCode::BadJson.http_status(), 400);
        assert_eq!(ErrorCode::LimitExceeded.http_status(), 429);
        assert_eq!(ErrorCode::Unrecognized.http_status(), 404);
    }
}
