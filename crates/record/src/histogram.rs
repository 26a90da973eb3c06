//! How many numbers are how large.

/// Intervals of a histogram.
const INTERVALS: usize = 64;

/// The distribution of numbers: counts in 64 intervals of one width from the smallest to the largest,
/// with exact sums. What is not finite is counted apart.
#[derive(Clone, PartialEq, Debug)]
pub struct Histogram {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) sum: f64,
    pub(crate) sum_of_squares: f64,
    /// The numbers in each interval, from low to high; one interval, if all numbers are equal.
    pub(crate) counts: Vec<u64>,
    pub(crate) not_finite: u64,
}

impl Histogram {
    /// The distribution of some numbers.
    ///
    /// ```
    /// use backprop_record::Histogram;
    ///
    /// let weights = Histogram::of([1.0f32, 2.0, 3.0, f32::NAN]);
    /// assert_eq!((weights.count(), weights.not_finite()), (3, 1));
    /// assert_eq!((weights.low(), weights.high()), (Some(1.0), Some(3.0)));
    /// assert_eq!(weights.mean(), Some(2.0));
    /// ```
    #[must_use]
    pub fn of<T: Into<f64>>(numbers: impl IntoIterator<Item = T>) -> Histogram {
        let all: Vec<f64> = numbers.into_iter().map(Into::into).collect();
        let finite = || all.iter().copied().filter(|x| x.is_finite());
        let (low, high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
            (low.min(x), high.max(x))
        });
        let intervals = match low < high {
            true => INTERVALS,
            false => usize::from(low == high),
        };
        let mut counts = vec![0; intervals];
        for x in finite() {
            // Halved, because the whole width may be more than the largest number.
            let part = (x / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
            let interval = (part * intervals as f64) as usize;
            counts[interval.min(intervals - 1)] += 1;
        }
        Histogram {
            low,
            high,
            sum: finite().sum(),
            sum_of_squares: finite().map(|x| x * x).sum(),
            not_finite: all.len() as u64 - counts.iter().sum::<u64>(),
            counts,
        }
    }

    /// How many numbers are finite.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many are infinite or NaN.
    #[must_use]
    pub fn not_finite(&self) -> u64 {
        self.not_finite
    }

    /// The smallest finite number, if there is one.
    #[must_use]
    pub fn low(&self) -> Option<f64> {
        (self.count() > 0).then_some(self.low)
    }

    /// The largest finite number, if there is one.
    #[must_use]
    pub fn high(&self) -> Option<f64> {
        (self.count() > 0).then_some(self.high)
    }

    /// The mean of the finite numbers, if there are any.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count() > 0).then(|| self.sum / self.count() as f64)
    }

    /// The upper end of each interval.
    pub(crate) fn limits(&self) -> impl Iterator<Item = f64> {
        let intervals = self.counts.len();
        (1..=intervals).map(move |i| match i == intervals {
            true => self.high,
            false => {
                let part = i as f64 / intervals as f64;
                self.low * (1.0 - part) + self.high * part
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fall_into_their_intervals() {
        let h = Histogram::of((0..64).map(f64::from));
        assert_eq!(h.counts, [1; 64]);
        let ends = h.limits().zip(h.limits().skip(1));
        assert!(ends.into_iter().all(|(a, b)| a < b));
        assert_eq!(h.limits().last(), Some(63.0));
        assert_eq!((h.sum, h.sum_of_squares), (2016.0, 85344.0));
    }

    #[test]
    fn degenerate_distributions() {
        let none = Histogram::of([0.0f64; 0]);
        assert_eq!((none.count(), none.low(), none.mean()), (0, None, None));
        let bad = Histogram::of([f64::NAN, f64::INFINITY]);
        assert_eq!(
            (bad.count(), bad.not_finite(), bad.limits().count()),
            (0, 2, 0)
        );
        let equal = Histogram::of([2.5f32; 3]);
        assert_eq!(equal.counts, [3]);
        assert_eq!(equal.limits().collect::<Vec<_>>(), [2.5]);
        let widest = Histogram::of([f64::MIN, 0.0, f64::MAX]);
        assert_eq!(widest.count(), 3);
        assert_eq!(
            (widest.counts[0], widest.counts[32], widest.counts[63]),
            (1, 1, 1)
        );
        let ends = widest.limits().zip(widest.limits().skip(1));
        assert!(ends.into_iter().all(|(a, b)| a < b && b.is_finite()));
    }
}
