//! Random numbers that can be had again, and how often a test does what it does.

/// A number that the environment may set.
pub(crate) fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// xorshift64*: repeatable by its seed.
pub(crate) struct Random {
    pub(crate) seed: u64,
    state: u64,
}

impl Random {
    /// Of the seed in `NABE_TEST_SEED`, or of any.
    pub(crate) fn new() -> Self {
        let seed = variable("NABE_TEST_SEED").unwrap_or_else(|| {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).unwrap();
            u64::from_le_bytes(bytes)
        });
        Self {
            seed,
            state: seed.max(1),
        }
    }

    /// 1 to `most`.
    pub(crate) fn up_to(&mut self, most: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let number = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        1 + usize::try_from(number).unwrap() % most
    }
}
