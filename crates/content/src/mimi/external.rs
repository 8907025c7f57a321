//! Content that lies elsewhere (MC #external): sealed with AES-128-GCM before it is uploaded, with key, nonce and hash in the message.
//!
//! The hash is over the bytes at the URL, so it is checked before anything is decrypted. Whether `size` is that of those bytes or of
//! the content the draft leaves open: we write the former, and accept both.
//!
//! ```
//! use nabe_content::mimi::external::{Secret, open, seal};
//!
//! let secret = Secret::from_random([7; Secret::RANDOM_BYTES]); // from the system's generator
//! let (ciphertext, sealed) = seal(b"a fish".to_vec(), secret)?;
//! // Upload the ciphertext; then
//! let mut part = sealed.at("https://example.com/storage/8ksB4bSrrRE");
//! part.content_type = "text/plain;charset=utf-8".to_owned();
//! assert_eq!(open(ciphertext, &part).expect("as it was sealed"), b"a fish");
//! # Ok::<_, nabe_content::mimi::external::TooLarge>(())
//! ```

use std::fmt;

use aes_gcm::aead::generic_array::GenericArray;
use aes_gcm::{AeadInPlace, Aes128Gcm, Aes256Gcm, KeyInit};
use nabe_signing::sha256;

use super::part::{ContentHash, Encryption, ExternalPart};

/// Largest content in bytes, 100 MiB: a client holds it in memory, once.
pub const MAX_CONTENT_BYTES: u64 = 100 << 20;

/// How much longer the ciphertext is, in bytes.
pub const TAG_BYTES: u64 = 16;

/// The key and nonce of one external part. Sealing consumes it, and it cannot be copied: used twice, neither content would be safe.
pub struct Secret {
    key: [u8; 16],
    nonce: [u8; 12],
}

impl Secret {
    /// How many random bytes make a secret.
    pub const RANDOM_BYTES: usize = 28;

    /// The secret made of these bytes, which must come from a cryptographic generator and be used for nothing else.
    #[must_use]
    pub fn from_random(random: [u8; Self::RANDOM_BYTES]) -> Self {
        let (mut key, mut nonce) = ([0; 16], [0; 12]);
        key.copy_from_slice(&random[..16]);
        nonce.copy_from_slice(&random[16..]);
        Self { key, nonce }
    }
}

/// Shows nothing of the secret.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What is known of sealed content before it has a URL. `Debug` does not show the key.
#[derive(Debug)]
pub struct Sealed {
    encryption: Encryption,
    hash: ContentHash,
    size: u64,
}

impl Sealed {
    /// The part to send, now that the ciphertext lies at `url`: without media type, description, file name and expiry, which the
    /// sender adds.
    #[must_use]
    pub fn at(self, url: &str) -> ExternalPart {
        ExternalPart {
            size: self.size,
            encryption: self.encryption,
            hash: self.hash,
            ..ExternalPart::link(url, "")
        }
    }
}

/// Content that cannot be sealed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the content has {size} bytes, at most {MAX_CONTENT_BYTES} can be sent")]
pub struct TooLarge {
    /// Its size in bytes.
    pub size: u64,
}

/// Seals content with AES-128-GCM, no additional data: the ciphertext, which is uploaded, and what opens it, which is sent.
pub fn seal(content: Vec<u8>, secret: Secret) -> Result<(Vec<u8>, Sealed), TooLarge> {
    let size = content.len() as u64;
    if size > MAX_CONTENT_BYTES {
        return Err(TooLarge { size });
    }
    let Secret { key, nonce } = secret;
    let mut buffer = content;
    Aes128Gcm::new((&key).into())
        .encrypt_in_place((&nonce).into(), b"", &mut buffer)
        .expect("AES-GCM takes 64 GiB, and a vector grows");
    let sealed = Sealed {
        encryption: Encryption::new(Encryption::AES_128_GCM, key.to_vec(), nonce.to_vec(), Vec::new())
            .expect("key and nonce have their lengths"),
        hash: ContentHash::sha256(sha256(&buffer)),
        size: buffer.len() as u64,
    };
    Ok((buffer, sealed))
}

/// Opens what was fetched from the part's URL: its size and hash must be the ones in the message, where they are said, then it is
/// decrypted, if it is encrypted.
pub fn open(fetched: Vec<u8>, part: &ExternalPart) -> Result<Vec<u8>, OpenError> {
    let found = fetched.len() as u64;
    if found > MAX_CONTENT_BYTES + TAG_BYTES {
        return Err(OpenError::TooLarge { size: found });
    }
    let encryption = &part.encryption;
    let overhead = if encryption.algorithm() == 0 { 0 } else { TAG_BYTES };
    let of_content = part.size.checked_add(overhead);
    if part.size != 0 && found != part.size && Some(found) != of_content {
        return Err(OpenError::Size {
            expected: part.size,
            found,
        });
    }
    match part.hash.algorithm() {
        0 => {}
        ContentHash::SHA_256 if sha256(&fetched) == part.hash.hash() => {}
        ContentHash::SHA_256 => return Err(OpenError::Hash),
        other => return Err(OpenError::UnknownHash(other)),
    }
    let mut buffer = fetched;
    let nonce = GenericArray::from_slice;
    // `Encryption` has checked the lengths of both.
    let opened = match encryption.algorithm() {
        0 => Ok(()),
        Encryption::AES_128_GCM => Aes128Gcm::new(GenericArray::from_slice(encryption.key())).decrypt_in_place(
            nonce(encryption.nonce()),
            encryption.aad(),
            &mut buffer,
        ),
        Encryption::AES_256_GCM => Aes256Gcm::new(GenericArray::from_slice(encryption.key())).decrypt_in_place(
            nonce(encryption.nonce()),
            encryption.aad(),
            &mut buffer,
        ),
        other => return Err(OpenError::UnknownCipher(other)),
    };
    opened.map_err(|_| OpenError::Key)?;
    Ok(buffer)
}

/// Why external content was not opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// More than this implementation holds in memory.
    #[error("{size} bytes are more than can be opened")]
    TooLarge {
        /// Bytes there are.
        size: u64,
    },
    /// There is more or less at the URL than there should be.
    #[error("{found} bytes where the message promises {expected}")]
    Size {
        /// Bytes by the message.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// Something else is at the URL.
    #[error("not the content that the message speaks of: its hash differs")]
    Hash,
    /// The hash is of a kind we do not know, so nothing is known of the content.
    #[error("unknown hash algorithm {0}")]
    UnknownHash(u8),
    /// The content is encrypted in a way we do not know.
    #[error("unknown AEAD algorithm {0}")]
    UnknownCipher(u16),
    /// The message's sender named the right content and a wrong key, nonce or additional data.
    #[error("the key in the message does not open the content")]
    Key,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> (Vec<u8>, ExternalPart) {
        let (ciphertext, sealed) = seal(b"a fish".to_vec(), Secret::from_random([7; 28])).unwrap();
        (ciphertext, sealed.at("https://example.com/x"))
    }

    #[test]
    fn what_was_sealed_opens_and_says_what_it_is() {
        let (ciphertext, part) = sealed();
        assert_eq!((ciphertext.len(), part.size), (22, 22));
        assert_eq!(part.encryption.algorithm(), Encryption::AES_128_GCM);
        assert_eq!(
            (part.encryption.key(), part.encryption.nonce()),
            (&[7; 16][..], &[7; 12][..])
        );
        assert!(part.encryption.aad().is_empty());
        assert_eq!(part.hash, ContentHash::sha256(sha256(&ciphertext)));
        assert_eq!(open(ciphertext, &part).unwrap(), b"a fish");
        assert!(!format!("{part:?}").contains("[7,"), "no key in logs");
    }

    #[test]
    fn a_size_may_be_missing_or_that_of_the_content() {
        let (ciphertext, mut part) = sealed();
        for size in [0, 6, 22] {
            part.size = size;
            assert_eq!(open(ciphertext.clone(), &part).unwrap(), b"a fish");
        }
        part.size = 7;
        let expected = OpenError::Size { expected: 7, found: 22 };
        assert_eq!(open(ciphertext, &part), Err(expected));
    }

    #[test]
    fn other_bytes_are_noticed_before_anything_is_decrypted() {
        let (mut ciphertext, part) = sealed();
        ciphertext[3] ^= 1;
        assert_eq!(open(ciphertext, &part), Err(OpenError::Hash));
    }

    #[test]
    fn a_wrong_key_nonce_or_aad_opens_nothing() {
        let (ciphertext, mut part) = sealed();
        for (key, nonce, aad) in [(8, 7, vec![]), (7, 8, vec![]), (7, 7, vec![1])] {
            part.encryption = Encryption::new(1, vec![key; 16], vec![nonce; 12], aad).unwrap();
            assert_eq!(open(ciphertext.clone(), &part), Err(OpenError::Key));
        }
    }

    #[test]
    fn additional_data_takes_part() {
        let mut buffer = b"a fish".to_vec();
        Aes128Gcm::new((&[1; 16]).into())
            .encrypt_in_place((&[2; 12]).into(), b"extension", &mut buffer)
            .unwrap();
        let mut part = ExternalPart::link("https://example.com/x", "");
        part.encryption = Encryption::new(1, vec![1; 16], vec![2; 12], b"extension".to_vec()).unwrap();
        assert_eq!(open(buffer, &part).unwrap(), b"a fish");
    }

    #[test]
    fn what_is_not_encrypted_is_taken_as_it_is() {
        let mut part = ExternalPart::link("https://example.com/x", "");
        assert_eq!(open(b"a fish".to_vec(), &part).unwrap(), b"a fish");
        part.hash = ContentHash::sha256(sha256(b"a cat"));
        assert_eq!(open(b"a fish".to_vec(), &part), Err(OpenError::Hash));
    }

    #[test]
    fn unknown_algorithms_are_named() {
        let mut part = ExternalPart::link("https://example.com/x", "");
        part.encryption = Encryption::new(29, vec![1], vec![2], vec![]).unwrap();
        assert_eq!(open(vec![0], &part), Err(OpenError::UnknownCipher(29)));
        part.hash = ContentHash::new(8, vec![0; 64]).unwrap();
        assert_eq!(open(vec![0], &part), Err(OpenError::UnknownHash(8)));
    }
}
