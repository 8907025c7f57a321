//! The order in which SRV targets are tried (RFC 2782).

use nabe_service::ports::Entropy;

/// One SRV record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SrvRecord {
    /// Lower is tried first.
    pub priority: u16,
    /// Share among records of the same priority.
    pub weight: u16,
    /// The port to connect to.
    pub port: u16,
    /// The host to connect to, without final dot; empty when the service is declared absent.
    pub target: String,
}

/// Sorts by priority and, within one, draws by weight. Records that say "no such service" or port 0 are left out.
pub(super) fn in_order(records: Vec<SrvRecord>, entropy: &dyn Entropy) -> Vec<SrvRecord> {
    let mut remaining: Vec<SrvRecord> = records
        .into_iter()
        .filter(|record| !record.target.is_empty() && record.port != 0)
        .collect();
    // Weight 0 comes first among equals, which gives it a small chance in the draw below.
    remaining.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(remaining.len());
    while let Some(first) = remaining.first() {
        let group = remaining
            .iter()
            .take_while(|record| record.priority == first.priority)
            .count();
        let drawn = draw(
            remaining.iter().take(group).map(|record| u64::from(record.weight)),
            entropy,
        );
        ordered.push(remaining.remove(drawn));
    }
    ordered
}

/// The index of a weight, chosen with a probability in proportion to it.
fn draw(weights: impl Iterator<Item = u64> + Clone, entropy: &dyn Entropy) -> usize {
    let total: u64 = weights.clone().sum();
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes);
    let mark = u64::from_le_bytes(bytes) % (total + 1);
    let mut sum = 0;
    weights
        .take_while(|weight| {
            sum += weight;
            sum < mark
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Always the same number.
    struct Fixed(u64);

    impl Entropy for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.copy_from_slice(&self.0.to_le_bytes());
        }
    }

    fn record(priority: u16, weight: u16, target: &str) -> SrvRecord {
        SrvRecord {
            priority,
            weight,
            port: 8448,
            target: target.to_owned(),
        }
    }

    fn targets(records: Vec<SrvRecord>, random: u64) -> Vec<String> {
        in_order(records, &Fixed(random))
            .into_iter()
            .map(|record| record.target)
            .collect()
    }

    #[test]
    fn a_lower_priority_comes_first_whatever_the_weights() {
        let records = vec![record(20, 100, "c"), record(10, 0, "a"), record(15, 1, "b")];
        assert_eq!(targets(records, 7), ["a", "b", "c"]);
    }

    #[test]
    fn weights_share_the_draw() {
        let records = || vec![record(1, 10, "light"), record(1, 30, "heavy")];
        assert_eq!(targets(records(), 10), ["light", "heavy"]);
        assert_eq!(targets(records(), 11), ["heavy", "light"]);
        assert_eq!(targets(records(), 40), ["heavy", "light"]);
    }

    #[test]
    fn the_root_as_target_and_port_zero_are_left_out() {
        let no_port = SrvRecord {
            port: 0,
            ..record(1, 1, "a")
        };
        assert_eq!(targets(vec![record(1, 1, ""), no_port], 0), Vec::<String>::new());
    }
}
