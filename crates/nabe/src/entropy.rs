//! Randomness from the operating system.

use anyhow::Context as _;

/// 32 random bytes.
pub(crate) fn bytes() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("the operating system gave no randomness")?;
    Ok(bytes)
}

/// A bearer token of 256 random bits, safe in a header and a URL.
pub(crate) fn token() -> anyhow::Result<String> {
    Ok(nabe_signing::base64u::encode_url(&bytes()?))
}
