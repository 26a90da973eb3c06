//! Which classes a classifier takes for which.

use std::fmt;

/// Counts of examples by their true class and the class predicted for them.
pub(crate) struct Confusion {
    classes: usize,
    counts: Vec<usize>,
}

impl Confusion {
    /// The counts for classes `0..classes`; `pairs` are (truth, prediction).
    pub(crate) fn new(classes: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut counts = vec![0; classes * classes];
        for (truth, prediction) in pairs {
            counts[truth * classes + prediction] += 1;
        }
        Self { classes, counts }
    }

    fn total(&self) -> usize {
        self.counts.iter().sum()
    }

    fn correct(&self) -> usize {
        (0..self.classes).map(|class| self.row(class)[class]).sum()
    }

    /// The part that is right, of all.
    pub(crate) fn accuracy(&self) -> f64 {
        self.correct() as f64 / self.total() as f64
    }

    /// The table, and a last line that says what part is right and what that is called.
    pub(crate) fn report(&self, name: &str) {
        let (correct, total) = (self.correct(), self.total());
        let percent = 100.0 * self.accuracy();
        println!("{self}\n\n{name}: {percent:.1}% ({correct}/{total})");
    }

    /// The most frequent confusions, worst first: how often, truth, prediction.
    fn worst(&self) -> Vec<(usize, usize, usize)> {
        let cells = self.counts.iter().enumerate();
        let cells = cells.map(|(i, &count)| (count, i / self.classes, i % self.classes));
        let mut wrong: Vec<_> = cells
            .filter(|&(n, truth, taken)| n > 0 && truth != taken)
            .collect();
        // A stable sort: equally frequent ones stay in the order of the table.
        wrong.sort_by_key(|&(count, ..)| std::cmp::Reverse(count));
        wrong
    }

    fn row(&self, truth: usize) -> &[usize] {
        &self.counts[truth * self.classes..][..self.classes]
    }
}

impl fmt::Display for Confusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self
            .counts
            .iter()
            .max()
            .unwrap_or(&0)
            .max(&self.classes)
            .to_string();
        let width = widest.len() + 2;
        let header: String = (0..self.classes)
            .map(|class| format!("{class:>width$}"))
            .collect();
        writeln!(f, "truth \\ predicted\n{:>5} │{header} │ recall", "")?;
        writeln!(
            f,
            "{:─>6}┼{:─>2$}┼───────",
            "",
            "",
            self.classes * width + 1
        )?;
        for truth in 0..self.classes {
            let row = self.row(truth);
            let cell = |&count: &usize| match count {
                0 => format!("{:>width$}", "·"),
                count => format!("{count:>width$}"),
            };
            let cells: String = row.iter().map(cell).collect();
            let recall = match row.iter().sum::<usize>() {
                0 => "-".to_owned(),
                all => format!("{:.1}%", 100.0 * row[truth] as f64 / all as f64),
            };
            writeln!(f, "{truth:>5} │{cells} │ {recall:>6}")?;
        }
        let named = |&(count, truth, taken): &(usize, usize, usize)| {
            format!("{truth} taken for {taken} ({count}x)")
        };
        let worst: Vec<String> = self.worst().iter().take(3).map(named).collect();
        match worst.as_slice() {
            [] => write!(f, "nothing was confused"),
            worst => write!(f, "most confused: {}", worst.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_an_aligned_table() {
        let pairs = [
            (0, 0),
            (0, 0),
            (0, 1),
            (1, 1),
            (1, 0),
            (1, 0),
            (1, 0),
            (0, 0),
        ];
        let confusion = Confusion::new(3, pairs);
        let expected = "\
truth \\ predicted
      │  0  1  2 │ recall
──────┼──────────┼───────
    0 │  3  1  · │  75.0%
    1 │  3  1  · │  25.0%
    2 │  ·  ·  · │      -
most confused: 1 taken for 0 (3x), 0 taken for 1 (1x)";
        assert_eq!(confusion.to_string(), expected);
        assert_eq!((confusion.correct(), confusion.total()), (4, 8));
        assert_eq!(confusion.accuracy(), 0.5);
    }

    #[test]
    fn says_when_nothing_was_confused() {
        let table = Confusion::new(2, [(0, 0), (1, 1)]).to_string();
        assert!(table.ends_with("nothing was confused"), "{table}");
    }
}
