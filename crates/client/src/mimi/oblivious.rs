//! Requests for files that the user's own provider hands on sealed (MIMI #download-using-oblivious-http, RFC 9458, RFC 9292): only the
//! hub's gateway can open them, and it does not learn whose they are.

use std::io::Cursor;

use bhttp::{Message, Mode};
use bytes::Bytes;
use ohttp::{ClientRequest, ClientResponse};

/// Why a file does not come by oblivious HTTP.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ObliviousError {
    /// The hub's keys cannot be used.
    #[error("the keys of the hub's gateway cannot be used")]
    Keys,
    /// The gateway has another key than the one it publishes.
    #[error("the hub's gateway does not know the key that it is said to have")]
    UnknownKey,
    /// A URL that is none of a file.
    #[error("not the https URL of a file")]
    Url,
    /// The answer is not one to what was asked.
    #[error("the answer is not sealed by the hub's gateway")]
    Answer,
    /// The gateway says no, in the sealed answer.
    #[error("the hub's gateway answers with status {status}: {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        text: String,
    },
}

/// A request that is sealed, and what opens its answer.
pub(super) struct Sealed {
    /// `message/ohttp-req`
    pub(super) request: Bytes,
    opener: ClientResponse,
}

/// Seals a request for a file to the first of the keys that can be used. All requests for URLs of a usual length are of one length.
pub(super) fn seal(keys: &[u8], url: &str) -> Result<Sealed, ObliviousError> {
    let (authority, path) = url
        .strip_prefix("https://")
        .and_then(|rest| rest.split_at_checked(rest.find('/')?))
        .ok_or(ObliviousError::Url)?;
    let [method, scheme, authority, path] = ["GET", "https", authority, path].map(|part| part.as_bytes().to_vec());
    let mut message = Vec::new();
    Message::request(method, scheme, authority, path)
        .write_bhttp(Mode::KnownLength, &mut message)
        .map_err(|_| ObliviousError::Url)?;
    // RFC 9292 section 3.8: zeros after the end are padding.
    message.resize(message.len().next_multiple_of(PADDED_TO), 0);
    let client = ClientRequest::from_encoded_config_list(keys).map_err(|_| ObliviousError::Keys)?;
    let (request, opener) = client.encapsulate(&message).map_err(|_| ObliviousError::Keys)?;
    Ok(Sealed {
        request: request.into(),
        opener,
    })
}

impl Sealed {
    /// The file in the gateway's answer, a `message/ohttp-res`.
    pub(super) fn open(self, answer: &[u8]) -> Result<Bytes, ObliviousError> {
        let message = self.opener.decapsulate(answer).map_err(|_| ObliviousError::Answer)?;
        let message = Message::read_bhttp(&mut Cursor::new(&message)).map_err(|_| ObliviousError::Answer)?;
        let status = message.control().status().ok_or(ObliviousError::Answer)?.code();
        match status {
            200 => Ok(Bytes::copy_from_slice(message.content())),
            status => Err(ObliviousError::Refused {
                status,
                text: String::from_utf8_lossy(message.content())
                    .chars()
                    .filter(|one| !one.is_control())
                    .take(MAX_TEXT)
                    .collect(),
            }),
        }
    }
}

const PADDED_TO: usize = 512;
/// Characters of what a gateway says that are shown.
const MAX_TEXT: usize = 200;

#[cfg(test)]
mod tests {
    use ohttp::hpke::{Aead, Kdf, Kem};
    use ohttp::{KeyConfig, Server, SymmetricSuite};

    use super::*;

    fn gateway(number: u8) -> Server {
        let suites = vec![SymmetricSuite::new(Kdf::HkdfSha256, Aead::Aes128Gcm)];
        Server::new(KeyConfig::derive(number, Kem::X25519Sha256, suites, &[number; 32]).unwrap()).unwrap()
    }

    fn keys(gateway: &Server) -> Vec<u8> {
        KeyConfig::encode_list(&[gateway.config()]).unwrap()
    }

    /// What the gateway reads, and its answer.
    fn answered(sealed: &Sealed, gateway: &Server, status: u16, content: &[u8]) -> (String, Vec<u8>) {
        let (request, sealer) = gateway.decapsulate(&sealed.request).unwrap();
        let request = Message::read_bhttp(&mut Cursor::new(&request)).unwrap();
        let control = request.control();
        let parts = [control.method(), control.scheme(), control.authority(), control.path()];
        let parts = parts.map(|part| String::from_utf8(part.unwrap().to_vec()).unwrap());
        let mut answer = Message::response(bhttp::StatusCode::try_from(status).unwrap());
        answer.write_content(content);
        let mut bytes = Vec::new();
        answer.write_bhttp(Mode::KnownLength, &mut bytes).unwrap();
        (parts.join(" "), sealer.encapsulate(&bytes).unwrap())
    }

    #[test]
    fn a_gateway_reads_what_is_asked_and_its_answer_is_opened() {
        let gateway = gateway(1);
        let sealed = seal(&keys(&gateway), "https://files.example/x/y?z=%20").unwrap();
        let (asked, answer) = answered(&sealed, &gateway, 200, b"a fish");
        assert_eq!(asked, "GET https files.example /x/y?z=%20");
        assert_eq!(sealed.open(&answer).unwrap(), "a fish");
    }

    #[test]
    fn what_a_relay_sees_does_not_depend_on_the_url() {
        let keys = keys(&gateway(1));
        let lengths = [
            "https://a.example/",
            "https://files.of.a.long.name.example/and/a/long/path?with=more",
        ]
        .map(|url| seal(&keys, url).unwrap().request.len());
        assert_eq!(lengths[0], lengths[1]);
    }

    #[test]
    fn an_answer_that_is_not_the_gateways_is_refused() {
        let (ours, other) = (gateway(1), gateway(2));
        let url = "https://files.example/x";
        let sealed = || seal(&keys(&ours), url).unwrap();
        let to_other = seal(&keys(&other), url).unwrap();
        let (_, of_another_request) = answered(&to_other, &other, 200, b"a fish");
        assert_eq!(sealed().open(&of_another_request), Err(ObliviousError::Answer));
        let one = sealed();
        let (_, mut changed) = answered(&one, &ours, 200, b"a fish");
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(one.open(&changed), Err(ObliviousError::Answer));
        for length in [0, 1, 16, 40] {
            assert_eq!(sealed().open(&vec![0; length]), Err(ObliviousError::Answer), "{length}");
        }
    }

    #[test]
    fn a_no_of_the_gateway_is_told_in_its_words() {
        let gateway = gateway(1);
        let sealed = seal(&keys(&gateway), "https://files.example/x").unwrap();
        let (_, answer) = answered(&sealed, &gateway, 403, "no\u{1b}[2J peer".as_bytes());
        let refused = ObliviousError::Refused {
            status: 403,
            text: "no[2J peer".to_owned(),
        };
        assert_eq!(sealed.open(&answer), Err(refused));
    }

    #[test]
    fn keys_and_urls_that_are_none_are_refused() {
        let is = |keys: &[u8], url| seal(keys, url).map(|_| ()).unwrap_err();
        let good = keys(&gateway(1));
        let url = "https://files.example/x";
        for bad in [&b""[..], b"\0", b"\0\x05hello", &good[..good.len() - 1]] {
            assert_eq!(is(bad, url), ObliviousError::Keys, "{bad:?}");
        }
        for bad in ["http://files.example/x", "https://files.example", "files.example/x"] {
            assert_eq!(is(&good, bad), ObliviousError::Url, "{bad}");
        }
    }
}
