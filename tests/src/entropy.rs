//! Randomness that is the same in every run.

use std::sync::atomic::{AtomicU64, Ordering};

use nabe_service::ports::Entropy;
use nabe_signing::sha256;

/// Bytes that look random, differ from call to call, and follow from the seed.
#[derive(Debug)]
pub struct Seeded {
    seed: [u8; 32],
    calls: AtomicU64,
}

impl Seeded {
    /// Randomness that follows from this text.
    #[must_use]
    pub fn new(seed: &str) -> Self {
        Self {
            seed: sha256(seed.as_bytes()),
            calls: AtomicU64::new(0),
        }
    }
}

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let mut input = self.seed.to_vec();
            input.extend(self.calls.fetch_add(1, Ordering::Relaxed).to_be_bytes());
            chunk.copy_from_slice(&sha256(&input)[..chunk.len()]);
        }
    }
}
