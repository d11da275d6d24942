//! A histogram of latencies: buckets a hundredth and a half wide, whatever the magnitude.
//!
//! Values below 64 have a bucket each; above, every power of two is cut into 64 of equal width, so that what a bucket says is at
//! most 1/64 more than what was recorded. Recording is a shift and an addition.

/// Buckets of one power of two.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Values at or above this count as this: some eighteen minutes in nanoseconds.
const VALUE_MAX: u64 = (1 << 40) - 1;
const BUCKETS: usize = ((40 - STEP_BITS + 1) as usize) * STEPS as usize;

/// Counts of values.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            counts: vec![0; BUCKETS],
            count: 0,
            sum: 0,
            max: 0,
        }
    }
}

/// The bucket of a value.
fn bucket(value: u64) -> usize {
    let value = value.min(VALUE_MAX);
    let magnitude = (value | (STEPS - 1)).ilog2() - (STEP_BITS - 1);
    let shift = magnitude.saturating_sub(1);
    (u64::from(shift) * STEPS + (value >> shift)) as usize
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    let step = bucket % STEPS + STEPS;
    ((step + 1) << shift) - 1
}

impl Histogram {
    /// One more value.
    pub(super) fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.count += 1;
        self.sum += value;
        self.max = self.max.max(value);
    }

    /// Everything of another as well.
    pub(super) fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// How many values.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; zero of none.
    pub(super) fn mean(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.sum as f64 / self.count as f64
    }

    /// The largest, exactly.
    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// A value that so many of ten thousand do not exceed, at most 1/64 too large; zero of none.
    pub(super) fn percentile(&self, of_ten_thousand: u64) -> u64 {
        let rank = (self.count * of_ten_thousand).div_ceil(10_000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper(bucket).min(self.max);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_lie_side_by_side() {
        for index in 0..BUCKETS {
            assert_eq!(bucket(upper(index)), index);
            if index + 1 < BUCKETS {
                assert_eq!(bucket(upper(index) + 1), index + 1, "behind {}", upper(index));
            }
        }
        assert_eq!(upper(BUCKETS - 1), VALUE_MAX);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn buckets_are_narrow() {
        for shift in 0..40 {
            for step in 0..97 {
                let value = (1u64 << shift) + ((1u64 << shift) * step / 97);
                let above = upper(bucket(value));
                assert!(
                    above >= value && above - value <= value / 64,
                    "{value} is told as {above}"
                );
            }
        }
    }

    #[test]
    fn percentiles_against_sorted_values() {
        let mut state = 7u64;
        let mut values = Vec::new();
        let mut histogram = Histogram::default();
        for _ in 0..10_000 {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let value = (state >> 33) % 5_000_000;
            values.push(value);
            histogram.record(value);
        }
        values.sort_unstable();
        for of_ten_thousand in [1, 5000, 9000, 9900, 9990, 10_000] {
            let exact = values[of_ten_thousand as usize - 1];
            let told = histogram.percentile(of_ten_thousand);
            assert!(
                told >= exact && told - exact <= exact / 64 + 1,
                "{told} for {exact}"
            );
        }
        assert_eq!(histogram.max(), *values.last().unwrap());
        let sum: u64 = values.iter().sum();
        assert!((histogram.mean() - sum as f64 / 10_000.0).abs() < 1e-6);
    }

    #[test]
    fn sums_are_as_if_recorded_together() {
        let (mut one, mut other, mut both) = Default::default();
        let recorded: [(&mut Histogram, u64); 3] = [(&mut one, 5), (&mut other, 70_000), (&mut both, 5)];
        for (histogram, value) in recorded {
            histogram.record(value);
        }
        both.record(70_000);
        one.add(&other);
        assert_eq!((one.count(), one.max()), (2, 70_000));
        assert_eq!(one.counts, both.counts);
        assert_eq!(one.percentile(5000), 5);
        assert_eq!(Histogram::default().percentile(5000), 0);
    }
}
