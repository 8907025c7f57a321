//! A device's signature keys: one for each signature algorithm of the cipher suites it can be in groups of. They lie in the table
//! `meta`, for rooms of Linearized Matrix and of MIMI under names of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use nabe_mls::{CredentialAlgorithm, Suite};
use openmls_basic_credential::SignatureKeyPair;
use openmls_sqlite_storage::Codec as _;
use rusqlite::Connection;

use crate::error::{ClientError, NoKeyFor, StoreError};
use crate::provider::Cbor;
use crate::store::{meta, set_meta};

/// The keys.
pub(crate) struct SignatureKeys {
    pub(crate) suites: Vec<Suite>,
    pairs: BTreeMap<CredentialAlgorithm, SignatureKeyPair>,
}

/// Where keys lie in the table `meta`.
#[derive(Clone, Copy)]
pub(crate) struct KeyNames {
    /// The suites, by name.
    pub(crate) suites: &'static str,
    /// What the names of keys begin with.
    pub(crate) key: &'static str,
}

/// Why keys cannot be had.
pub(crate) enum KeysError {
    /// OpenMLS.
    Mls {
        doing: &'static str,
        source: Box<dyn Error + Send + Sync>,
    },
    /// The state on disk.
    Store(StoreError),
}

impl SignatureKeys {
    /// New keys.
    pub(crate) fn generate(suites: &[Suite]) -> Result<Self, KeysError> {
        let algorithms: BTreeSet<_> = suites.iter().map(|suite| suite.credential_algorithm()).collect();
        let pairs = algorithms.into_iter().map(|algorithm| {
            let pair = SignatureKeyPair::new(algorithm.scheme()).map_err(failed("making a signature key"))?;
            Ok((algorithm, pair))
        });
        Ok(Self {
            suites: suites.to_vec(),
            pairs: pairs.collect::<Result<_, KeysError>>()?,
        })
    }

    pub(crate) fn save(&self, connection: &Connection, names: KeyNames) -> Result<(), KeysError> {
        let suites: Vec<&str> = self.suites.iter().map(|suite| suite.name()).collect();
        set_meta(connection, names.suites, suites.join(",").as_bytes())?;
        for (algorithm, pair) in &self.pairs {
            let bytes = Cbor::to_vec(pair).map_err(failed("storing a signature key"))?;
            set_meta(connection, &format!("{}{algorithm}", names.key), &bytes)?;
        }
        Ok(())
    }

    pub(crate) fn load(connection: &Connection, names: KeyNames) -> Result<Self, KeysError> {
        let bad = || StoreError::Inconsistent {
            table: "meta",
            column: "value",
        };
        let suites = text(connection, names.suites)?
            .split(',')
            .map(|name| Suite::from_name(name).ok_or_else(bad))
            .collect::<Result<Vec<_>, _>>()?;
        let mut pairs = BTreeMap::new();
        for suite in &suites {
            let algorithm = suite.credential_algorithm();
            let bytes = meta(connection, &format!("{}{algorithm}", names.key))?.ok_or_else(bad)?;
            let pair = Cbor::from_slice(&bytes).map_err(failed("reading a signature key"))?;
            pairs.insert(algorithm, pair);
        }
        Ok(Self { suites, pairs })
    }

    /// What signs in groups of this suite.
    pub(crate) fn of(&self, suite: Suite) -> Result<&SignatureKeyPair, NoKeyFor> {
        let pair = self.by_algorithm(suite.credential_algorithm());
        pair.filter(|_| self.suites.contains(&suite)).ok_or(NoKeyFor(suite))
    }

    pub(crate) fn by_algorithm(&self, algorithm: CredentialAlgorithm) -> Option<&SignatureKeyPair> {
        self.pairs.get(&algorithm)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (CredentialAlgorithm, &SignatureKeyPair)> {
        self.pairs.iter().map(|(algorithm, pair)| (*algorithm, pair))
    }
}

/// Text in the table `meta`.
pub(crate) fn text(connection: &Connection, name: &str) -> Result<String, StoreError> {
    let bytes = meta(connection, name)?.ok_or(StoreError::Empty)?;
    String::from_utf8(bytes).map_err(|_| StoreError::Inconsistent {
        table: "meta",
        column: "value",
    })
}

fn failed<E: Error + Send + Sync + 'static>(doing: &'static str) -> impl FnOnce(E) -> KeysError {
    move |error| KeysError::Mls {
        doing,
        source: Box::new(error),
    }
}

impl From<StoreError> for KeysError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<KeysError> for ClientError {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Mls { doing, source } => Self::mls(doing)(source),
            KeysError::Store(error) => error.into(),
        }
    }
}
