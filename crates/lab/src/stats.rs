//! What samples say: median, p90 and how sure the median is; and how fast something grows with the group.

/// Samples in a few numbers. Times are in the samples' unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How many samples.
    pub count: usize,
    /// The fastest.
    pub least: f64,
    /// Half of the samples are no greater.
    pub median: f64,
    /// Nine of ten samples are no greater.
    pub p90: f64,
    /// The median's confidence interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How likely the interval contains the true median: at least 0.95, or less if there are fewer than six samples.
    pub confidence: f64,
}

/// Summarizes samples in any order; `None` if there are none.
///
/// The interval is between two order statistics and assumes nothing of the distribution: with n samples, it goes from the k-th to the
/// (n+1-k)-th for the greatest k that leaves at least 95 % of a binomial distribution between them.
#[must_use]
pub fn summarize(samples: &[f64]) -> Option<Summary> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (&least, &greatest) = (sorted.first()?, sorted.last()?);
    let count = sorted.len();
    let median = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2.0;
    let p90 = sorted[(count * 90).div_ceil(100).max(1) - 1];
    let (rank, confidence) = interval_rank(count);
    let (low, high) = match rank {
        0 => (least, greatest),
        rank => (sorted[rank - 1], sorted[count - rank]),
    };
    Some(Summary {
        count,
        least,
        median,
        p90,
        low,
        high,
        confidence,
    })
}

/// The greatest k for which the k-th smallest and k-th greatest of `count` samples enclose the median in 95 of 100 cases, and in
/// how many they do. Rank 1 if none is good enough.
fn interval_rank(count: usize) -> (usize, f64) {
    // P(exactly i of n samples are below the median), begun at i = 0 and grown by the ratio of neighbors; in logarithms, since
    // 2^-n is nothing for a large n.
    let n = count as f64;
    let mut log_term = -n * std::f64::consts::LN_2;
    let mut below = 0.0;
    let (mut rank, mut confidence) = (1, 1.0 - 2.0 * log_term.exp());
    for i in 0..count / 2 {
        below += log_term.exp();
        let enclosed = 1.0 - 2.0 * below;
        if enclosed < 0.95 {
            break;
        }
        (rank, confidence) = (i + 1, enclosed);
        log_term += ((n - i as f64) / (i as f64 + 1.0)).ln();
    }
    (rank, confidence.max(0.0))
}

/// A power law through points: `factor` × size^`exponent`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// The slope on logarithmic axes.
    pub exponent: f64,
    /// The value at size 1.
    pub factor: f64,
    /// The share of the variance of the logarithms that the law explains.
    pub r_squared: f64,
    /// The smallest size that was looked at.
    pub from: u32,
    /// Points that were looked at.
    pub points: usize,
}

/// Least squares on logarithmic axes. Looks at sizes from 100 on if there are three, else at all; `None` if those are fewer than
/// three: what small groups cost is mostly what every group costs.
#[must_use]
pub fn growth(points: &[(u32, f64)]) -> Option<Growth> {
    let usable = |from: u32| {
        let points = points.iter().filter(move |(size, value)| *size >= from && *value > 0.0);
        points.copied().collect::<Vec<_>>()
    };
    let large = usable(LARGE);
    let chosen = if large.len() >= 3 { large } else { usable(1) };
    if chosen.len() < 3 {
        return None;
    }
    let n = chosen.len() as f64;
    let logs: Vec<(f64, f64)> = chosen
        .iter()
        .map(|&(size, value)| (f64::from(size).ln(), value.ln()))
        .collect();
    let mean_x = logs.iter().map(|(x, _)| x).sum::<f64>() / n;
    let mean_y = logs.iter().map(|(_, y)| y).sum::<f64>() / n;
    let xx: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let xy: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let yy: f64 = logs.iter().map(|(_, y)| (y - mean_y).powi(2)).sum();
    if xx == 0.0 {
        return None;
    }
    let exponent = xy / xx;
    Some(Growth {
        exponent,
        factor: (mean_y - exponent * mean_x).exp(),
        r_squared: if yy == 0.0 { 1.0 } else { xy * xy / (xx * yy) },
        from: chosen.iter().map(|(size, _)| *size).min()?,
        points: chosen.len(),
    })
}

const LARGE: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_p90_are_the_known_ones() {
        let samples: Vec<f64> = (1..=10).rev().map(f64::from).collect();
        let summary = summarize(&samples).unwrap();
        assert_eq!(
            (summary.least, summary.median, summary.p90, summary.count),
            (1.0, 5.5, 9.0, 10)
        );
        assert_eq!(summarize(&[7.0]).unwrap().median, 7.0);
        assert_eq!(summarize(&[]), None);
    }

    /// The ranks of the tables for the sign test: 10 samples, 2nd to 9th with 97.9 %; 20, 6th to 15th with 95.9 %; 50, 18th to 33rd
    /// with 96.7 %.
    #[test]
    fn the_interval_is_that_of_the_tables() {
        for (count, low, high, confidence) in [
            (10, 2.0, 9.0, 0.9785),
            (20, 6.0, 15.0, 0.9586),
            (50, 18.0, 33.0, 0.9672),
        ] {
            let samples: Vec<f64> = (1..=count).map(f64::from).collect();
            let summary = summarize(&samples).unwrap();
            assert_eq!((summary.low, summary.high), (low, high), "{count}");
            assert!(
                (summary.confidence - confidence).abs() < 1e-4,
                "{count}: {}",
                summary.confidence
            );
        }
    }

    #[test]
    fn few_samples_say_how_little_they_are_sure() {
        let summary = summarize(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((summary.low, summary.high), (1.0, 3.0));
        assert!((summary.confidence - 0.75).abs() < 1e-9);
        assert_eq!(summarize(&[3.0]).unwrap().confidence, 0.0);
    }

    #[test]
    fn many_samples_do_not_underflow() {
        let samples: Vec<f64> = (1..=5000).map(f64::from).collect();
        let summary = summarize(&samples).unwrap();
        // About 2500 ± 1.96 × √5000 / 2.
        assert!(
            (summary.low - 2431.0).abs() < 2.0 && summary.confidence >= 0.95,
            "{summary:?}"
        );
    }

    #[test]
    fn a_power_law_is_found_again() {
        let points: Vec<(u32, f64)> = [100, 300, 1000, 3000]
            .map(|n| (n, 5.0 * f64::from(n).powf(1.5)))
            .to_vec();
        let growth = growth(&points).unwrap();
        assert!((growth.exponent - 1.5).abs() < 1e-9 && (growth.factor - 5.0).abs() < 1e-6);
        assert!((growth.r_squared - 1.0).abs() < 1e-9 && growth.points == 4 && growth.from == 100);
    }

    #[test]
    fn small_groups_do_not_flatten_the_slope() {
        let cost = |n: u32| 1000.0 + f64::from(n);
        let points: Vec<(u32, f64)> = [2, 10, 100, 1000, 10_000].map(|n| (n, cost(n))).to_vec();
        assert_eq!(growth(&points).unwrap().from, 100);
        assert_eq!(growth(&points[..2]), None);
        assert_eq!(growth(&points[..3]).unwrap().from, 2);
    }
}
