//! Files sealed by the client that sends them and opened by those that receive them; the server in between has only
//! ciphertext (decisions D-attachment-cipher and D-attachment-order of the message format).
//!
//! A file is one AES-256-GCM message with a key of its own, tag at the end, no additional data. SHA-256 of the ciphertext is in the
//! message, so what the server returns is checked before anything is decrypted. Key, nonce and hash travel inside the encrypted
//! event; see [`EncryptedFile`].
//!
//! ```
//! use nabe_content::attachment::{AcceptAll, FileSecret, Outgoing, open, seal};
//! use nabe_content::ContentUrl;
//!
//! let random = [7; FileSecret::RANDOM_BYTES]; // from the system's generator
//! let (ciphertext, sealed) = seal(Outgoing::new(b"a fish".to_vec()), FileSecret::from_random(random), &AcceptAll)?;
//! // Upload the ciphertext; the server says where it is.
//! let file = sealed.at(ContentUrl::parse("mxc://example.org/abcd1234").expect("a content URL"));
//! assert_eq!(open(ciphertext, &file).expect("as it was sealed"), b"a fish");
//! # Ok::<_, nabe_content::attachment::SealError>(())
//! ```

use std::fmt;

use aes_gcm::{AeadInPlace, Aes256Gcm, KeyInit};
use nabe_signing::sha256;

use crate::file::{ContentUrl, EncryptedFile};
use crate::label::Label;
use crate::media_type::MediaType;

/// Largest file in bytes, 100 MiB: a client holds it in memory, once. A server may allow less.
pub const MAX_FILE_BYTES: u64 = 100 << 20;

/// How much longer the ciphertext is, in bytes.
pub const TAG_BYTES: u64 = 16;

/// A file about to be sealed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outgoing {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its name, if it will be sent with one.
    pub name: Option<Label>,
    /// Its media type, if it will be sent with one.
    pub media_type: Option<MediaType>,
}

impl Outgoing {
    /// A file without name and media type.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            name: None,
            media_type: None,
        }
    }
}

/// A look at a file before it is sealed, the last moment when anything but the receivers can judge it. A vendor's client puts its
/// virus scanner or its policy here; a client without either says so with [`AcceptAll`].
///
/// Called once for each file, after its size was checked. May take its time: callers in asynchronous code seal on a thread that
/// may block.
pub trait Scan {
    /// Whether the file may be sent.
    fn scan(&self, file: &Outgoing) -> Result<(), Refused>;
}

/// A scanner's refusal.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the file may not be sent: {reason}")]
pub struct Refused {
    /// The scanner's own words, for the user who wanted to send the file.
    pub reason: String,
}

/// The scanner that refuses nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AcceptAll;

impl Scan for AcceptAll {
    fn scan(&self, _: &Outgoing) -> Result<(), Refused> {
        Ok(())
    }
}

/// The key and nonce of one file. Sealing consumes it, and it cannot be copied: used twice, neither file would be safe.
pub struct FileSecret {
    key: [u8; 32],
    nonce: [u8; 12],
}

impl FileSecret {
    /// How many random bytes make a secret.
    pub const RANDOM_BYTES: usize = 44;

    /// The secret made of these bytes, which must come from a cryptographic generator and be used for nothing else.
    #[must_use]
    pub fn from_random(random: [u8; Self::RANDOM_BYTES]) -> Self {
        let (mut key, mut nonce) = ([0; 32], [0; 12]);
        key.copy_from_slice(&random[..32]);
        nonce.copy_from_slice(&random[32..]);
        Self { key, nonce }
    }
}

/// Shows nothing of the secret.
impl fmt::Debug for FileSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileSecret")
    }
}

/// What is known of a sealed file before the server has said where it keeps it. `Debug` does not show the key.
pub struct SealedFile {
    secret: FileSecret,
    sha256: [u8; 32],
    size: u64,
}

impl SealedFile {
    /// SHA-256 of the ciphertext, by which a server may recognize a file it has already.
    #[must_use]
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Size of the file itself in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// What to send, now that the ciphertext lies at `url`.
    #[must_use]
    pub const fn at(self, url: ContentUrl) -> EncryptedFile {
        EncryptedFile {
            url,
            key: self.secret.key,
            nonce: self.secret.nonce,
            sha256: self.sha256,
            size: self.size,
        }
    }
}

impl fmt::Debug for SealedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedFile")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// Seals a file that `scan` lets pass: its ciphertext, which goes to the server, and what opens it, which does not.
pub fn seal(file: Outgoing, secret: FileSecret, scan: &dyn Scan) -> Result<(Vec<u8>, SealedFile), SealError> {
    let size = file.bytes.len() as u64;
    if size > MAX_FILE_BYTES {
        return Err(SealError::TooLarge { size });
    }
    scan.scan(&file)?;
    let mut buffer = file.bytes;
    Aes256Gcm::new((&secret.key).into())
        .encrypt_in_place((&secret.nonce).into(), b"", &mut buffer)
        .expect("AES-GCM takes 64 GiB, and a vector grows");
    let sealed = SealedFile {
        secret,
        sha256: sha256(&buffer),
        size,
    };
    Ok((buffer, sealed))
}

/// Opens what was fetched from the file's URL: first its size and hash must be the ones in the message, then it is decrypted.
pub fn open(ciphertext: Vec<u8>, file: &EncryptedFile) -> Result<Vec<u8>, OpenError> {
    let (expected, found) = (file.ciphertext_size(), ciphertext.len() as u64);
    if found != expected {
        return Err(OpenError::Size { expected, found });
    }
    if sha256(&ciphertext) != file.sha256 {
        return Err(OpenError::Hash);
    }
    let mut buffer = ciphertext;
    Aes256Gcm::new((&file.key).into())
        .decrypt_in_place((&file.nonce).into(), b"", &mut buffer)
        .map_err(|_| OpenError::Key)?;
    Ok(buffer)
}

/// Why a file was not sealed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealError {
    /// Over [`MAX_FILE_BYTES`].
    #[error("the file has {size} bytes, at most {MAX_FILE_BYTES} can be sent")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// The scanner refused it.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Why a file was not opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// The server returned more or less than there should be.
    #[error("{found} bytes where the message promises {expected}")]
    Size {
        /// Bytes by the message.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// The server returned something else.
    #[error("not the file that the message speaks of: its hash differs")]
    Hash,
    /// The message's sender named the right file and a wrong key or nonce.
    #[error("the key in the message does not open the file")]
    Key,
}

#[cfg(test)]
mod tests;
