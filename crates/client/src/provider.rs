//! OpenMLS's cryptography and storage, as the client uses them.

use std::sync::LazyLock;

use openmls_rust_crypto::RustCrypto;
use openmls_sqlite_storage::{Codec, SqliteStorageProvider};
use openmls_traits::OpenMlsProvider;
use rusqlite::Connection;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::compact::Compact;

/// Cryptography, and storage on a connection on which a transaction is open.
pub(crate) struct Provider<'c> {
    storage: SqliteStorageProvider<Cbor, &'c Connection>,
}

impl<'c> Provider<'c> {
    pub(crate) fn new(connection: &'c Connection) -> Self {
        Self {
            storage: SqliteStorageProvider::new(connection),
        }
    }
}

impl<'c> OpenMlsProvider for Provider<'c> {
    type CryptoProvider = RustCrypto;
    type RandProvider = RustCrypto;
    type StorageProvider = SqliteStorageProvider<Cbor, &'c Connection>;

    fn storage(&self) -> &Self::StorageProvider {
        &self.storage
    }

    fn crypto(&self) -> &RustCrypto {
        crypto()
    }

    fn rand(&self) -> &RustCrypto {
        crypto()
    }
}

/// The implementation of the suites, and the generator of random bytes.
pub(crate) fn crypto() -> &'static RustCrypto {
    static CRYPTO: LazyLock<RustCrypto> = LazyLock::new(RustCrypto::default);
    &CRYPTO
}

/// How OpenMLS's values are stored. CBOR names the fields: OpenMLS reads what its older versions wrote by the names, and some of
/// its types cannot be read from formats that do not describe themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cbor;

/// A stored value does not encode or decode.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CborError {
    #[error(transparent)]
    Encode(#[from] ciborium::ser::Error<std::io::Error>),
    #[error(transparent)]
    Decode(#[from] ciborium::de::Error<std::io::Error>),
}

impl Codec for Cbor {
    type Error = CborError;

    fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, CborError> {
        let mut bytes = Vec::new();
        ciborium::into_writer(&Compact(value), &mut bytes)?;
        Ok(bytes)
    }

    fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CborError> {
        Ok(ciborium::from_reader(bytes)?)
    }
}
