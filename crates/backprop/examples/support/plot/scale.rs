//! From values to places on an axis, and the round numbers written beside it.

/// How values are spread over an axis.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Scale {
    Linear,
    /// Equal factors take equal room; values up to zero are left out.
    Log,
    /// As `Log`, but that both of these are on the axis in any case: panels to be compared.
    LogOver(f64, f64),
}

/// The range of values that an axis shows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    /// The range of the values that can be shown; 1 to 2 where there are none.
    pub(crate) fn over(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let (scale, ends) = match scale {
            Scale::LogOver(low, high) => (Scale::Log, vec![low, high]),
            Scale::Linear | Scale::Log => (scale, vec![]),
        };
        let shown = values.chain(ends).filter(|&value| is_shown(scale, value));
        let (low, high) = shown.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let (low, high) = match low.partial_cmp(&high) {
            Some(std::cmp::Ordering::Less) => (low, high),
            Some(std::cmp::Ordering::Equal) if scale == Scale::Log => (low / 2.0, low * 2.0),
            Some(std::cmp::Ordering::Equal) => (low - 0.5, low + 0.5),
            _ => (1.0, 2.0),
        };
        Self { scale, low, high }
    }

    /// Widened on both sides by this part of its length.
    pub(crate) fn padded(self, part: f64) -> Self {
        let (low, high) = (self.mapped(self.low), self.mapped(self.high));
        let room = (high - low) * part;
        let (low, high) = (low - room, high + room);
        match self.scale {
            Scale::Linear => Self { low, high, ..self },
            Scale::Log | Scale::LogOver(..) => Self {
                low: low.exp(),
                high: high.exp(),
                ..self
            },
        }
    }

    /// Where a value lies, 0 at the low end and 1 at the high end; `None` for what cannot be shown.
    pub(crate) fn position(&self, value: f64) -> Option<f64> {
        let (low, high) = (self.mapped(self.low), self.mapped(self.high));
        is_shown(self.scale, value).then(|| (self.mapped(value) - low) / (high - low))
    }

    /// Round values within the range, at most about `most` of them, each with its text.
    pub(crate) fn ticks(&self, most: usize) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => decimal(linear_ticks(self.low, self.high, most)),
            Scale::Log | Scale::LogOver(..) => scientific(log_ticks(self.low, self.high, most)),
        }
    }

    fn mapped(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log | Scale::LogOver(..) => value.ln(),
        }
    }
}

fn is_shown(scale: Scale, value: f64) -> bool {
    value.is_finite() && (scale == Scale::Linear || value > 0.0)
}

/// Numbers at equal distances, all with the decimals that the distance needs.
fn decimal(values: Vec<f64>) -> Vec<(f64, String)> {
    let step = match values.as_slice() {
        [first, second, ..] => second - first,
        [only] if *only != 0.0 => only.abs(),
        _ => 1.0,
    };
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let numbered = values.into_iter();
    numbered
        .map(|value| (value, format!("{value:.decimals$}")))
        .collect()
}

/// Numbers each with the decimals that itself needs; if these were many for one, those far from 1
/// with an exponent.
fn scientific(values: Vec<f64>) -> Vec<(f64, String)> {
    let is_short = |value: &f64| (0.999e-6..0.999e6).contains(value);
    let near = match values.iter().all(is_short) {
        true => 0.0..f64::INFINITY,
        false => 0.999e-3..1.001e3,
    };
    let text = |value: f64| match near.contains(&value) {
        true => format!("{value:.*}", (-value.log10().floor()).max(0.0) as usize),
        false => format!("{value:.0e}"),
    };
    values
        .into_iter()
        .map(|value| (value, text(value)))
        .collect()
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn linear_ticks(low: f64, high: f64, most: usize) -> Vec<f64> {
    let least = (high - low) / most.max(1) as f64;
    let power = 10f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
    let step = step
        .into_iter()
        .find(|step| *step >= least * 0.999)
        .unwrap_or(10.0 * power);
    let (first, last) = (
        (low / step - 1e-9).ceil() as i64,
        (high / step + 1e-9).floor() as i64,
    );
    (first..=last).map(|i| i as f64 * step).collect()
}

/// As many of the digits 1, 2 and 5 of each decade as there is room for, or every so many decades.
fn log_ticks(low: f64, high: f64, most: usize) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let within = |value: &f64| (low..=high).contains(value);
    let values = |every: i32, digits: &[f64]| -> Vec<f64> {
        let decades = decades.clone().filter(|power| power % every == 0);
        let all = decades.flat_map(|power| {
            digits.iter().map(move |digit| {
                if power < 0 {
                    digit / 10f64.powi(-power)
                } else {
                    digit * 10f64.powi(power)
                }
            })
        });
        all.filter(within).collect()
    };
    let choices: [(i32, &[f64]); 7] = [
        (1, &[1.0, 2.0, 5.0]),
        (1, &[1.0, 3.0]),
        (1, &[1.0]),
        (2, &[1.0]),
        (5, &[1.0]),
        (10, &[1.0]),
        (20, &[1.0]),
    ];
    let fitting = choices
        .iter()
        .map(|(every, digits)| values(*every, digits))
        .find(|ticks| ticks.len() <= most);
    fitting.unwrap_or_else(|| values(50, &[1.0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        #[track_caller]
        fn check(scale: Scale, values: &[f64], most: usize, ticks: &[&str]) {
            let axis = Axis::over(scale, values.iter().copied());
            let found: Vec<String> = axis.ticks(most).into_iter().map(|(_, text)| text).collect();
            assert_eq!(found, ticks);
        }
        check(
            Scale::Linear,
            &[0.0, 30.0],
            6,
            &["0", "5", "10", "15", "20", "25", "30"],
        );
        check(
            Scale::Linear,
            &[0.13, 0.92],
            4,
            &["0.2", "0.4", "0.6", "0.8"],
        );
        check(
            Scale::Linear,
            &[-1.0, 1.0],
            4,
            &["-1.0", "-0.5", "0.0", "0.5", "1.0"],
        );
        check(
            Scale::Log,
            &[0.04, 2.4],
            6,
            &["0.05", "0.1", "0.2", "0.5", "1", "2"],
        );
        check(
            Scale::Log,
            &[0.004, 2.4],
            6,
            &["0.01", "0.03", "0.1", "0.3", "1"],
        );
        check(
            Scale::Log,
            &[1e-6, 1.0],
            8,
            &["0.000001", "0.00001", "0.0001", "0.001", "0.01", "0.1", "1"],
        );
        check(
            Scale::Log,
            &[2e-31, 3.0],
            7,
            &["1e-30", "1e-25", "1e-20", "1e-15", "1e-10", "1e-5", "1"],
        );
        check(Scale::Log, &[10.0, 1e7], 4, &["100", "1e4", "1e6"]);
    }

    #[test]
    fn a_range_is_never_empty() {
        #[track_caller]
        fn check(scale: Scale, values: &[f64], low: f64, high: f64) {
            assert_eq!(
                Axis::over(scale, values.iter().copied()),
                Axis { scale, low, high }
            );
        }
        check(Scale::Linear, &[], 1.0, 2.0);
        check(Scale::Linear, &[3.0], 2.5, 3.5);
        check(Scale::Log, &[3.0, 3.0], 1.5, 6.0);
        check(Scale::Log, &[0.0, f64::NAN, -1.0], 1.0, 2.0);
        let over = Scale::LogOver(0.5, 4.0);
        assert_eq!(
            Axis::over(over, [1.0, 8.0].into_iter()),
            Axis::over(Scale::Log, [0.5, 8.0].into_iter())
        );
        check(Scale::Linear, &[f64::INFINITY, 1.0, 4.0], 1.0, 4.0);
    }

    #[test]
    fn positions_follow_the_scale() {
        let linear = Axis::over(Scale::Linear, [0.0, 10.0].into_iter());
        assert_eq!(linear.position(2.5), Some(0.25));
        assert_eq!(linear.position(f64::NAN), None);
        assert_eq!(linear.padded(0.1).position(0.0), Some(1.0 / 12.0));
        let log = Axis::over(Scale::Log, [0.01, 1.0].into_iter());
        assert!((log.position(0.1).unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(log.position(0.0), None);
    }
}
