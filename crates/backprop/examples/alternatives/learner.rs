//! A method at work: its step and its reading compiled into plans, and the course of its training.

use std::time::{Duration, Instant};

use backprop::prelude::*;

use crate::method::{BATCH, Budget, Method, Task};
use crate::pupil::{Pupil, draw, unread};
use crate::support::data::Dataset;
use crate::support::progress;

/// A compiled method.
pub(crate) struct Learner<B: Backend> {
    pub pupil: Pupil<B>,
    name: &'static str,
    budget: Budget,
}

/// How a training went.
pub(crate) struct Course {
    pub name: &'static str,
    pub budget: Budget,
    /// Forward passes so far, and the percentage of the test images read correctly.
    pub points: Vec<(f64, f64)>,
    /// The time of all steps together.
    pub took: Duration,
    /// The time of a step, the median of all.
    pub step: Duration,
}

impl<B: Backend> Learner<B> {
    pub(crate) fn new(backend: B, method: &dyn Method, data: &Dataset, seed: u64) -> Result<Self> {
        let g = Graph::with_seed(seed);
        let random = g.random_state("random", seed);
        let budget = method.budget();
        let task = Task {
            batch: draw(&g, &random, BATCH, data),
            unread: unread(&g, data),
            key: random.next_key(),
            steps: budget.steps,
        };
        let mut lesson = method.build(&g, &task)?;
        lesson.updates = lesson.updates.and(random.updates());
        Ok(Self {
            pupil: Pupil::new(&g, backend, data, lesson)?,
            name: method.name(),
            budget,
        })
    }

    /// Trains until the budget is spent. Only the steps are timed.
    pub(crate) fn train(&mut self) -> Result<Course> {
        let Budget { steps, passes, .. } = self.budget;
        let bar = progress::bar(steps, "steps");
        let mut points = vec![];
        let mut times = Vec::with_capacity(steps);
        let mut done = 0;
        for stop in checkpoints(steps) {
            for _ in done..stop {
                let started = Instant::now();
                self.pupil.session.step()?;
                times.push(started.elapsed());
            }
            bar.inc((stop - done) as u64);
            done = stop;
            let accuracy = self.pupil.accuracy()?;
            bar.set_message(format!("{}: {accuracy:.1}%", self.name));
            points.push(((done * passes) as f64, accuracy));
        }
        bar.finish_and_clear();
        let took = times.iter().sum();
        times.sort_unstable();
        Ok(Course {
            name: self.name,
            budget: self.budget,
            points,
            took,
            step: times.get(steps / 2).copied().unwrap_or_default(),
        })
    }
}

impl Course {
    /// The test accuracy in the end, in percent.
    pub(crate) fn accuracy(&self) -> f64 {
        self.points.last().map_or(0.0, |&(_, accuracy)| accuracy)
    }

    /// What was reached, in a line.
    pub(crate) fn outcome(&self) -> String {
        format!(
            "{:<25}{:>5.1}% after {} forward passes in {:.1} s",
            self.name,
            self.accuracy(),
            self.passes(),
            self.took.as_secs_f64()
        )
    }

    pub(crate) fn passes(&self) -> usize {
        self.budget.steps * self.budget.passes
    }
}

/// After which steps to look: ever more of them lie between two looks, as on a logarithmic axis.
fn checkpoints(steps: usize) -> Vec<usize> {
    let mut all = vec![];
    let mut next = 1;
    while next < steps {
        all.push(next);
        next += next.div_ceil(5);
    }
    all.push(steps);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backpropagation::Backpropagation;

    #[test]
    fn looks_last_when_the_budget_is_spent() {
        assert_eq!(checkpoints(1), [1]);
        let looks = checkpoints(1000);
        assert!(looks.is_sorted_by(|a, b| a < b), "{looks:?}");
        assert_eq!((looks.first(), looks.last()), (Some(&1), Some(&1000)));
        assert!(looks.len() < 40);
    }

    #[test]
    fn learns_and_counts() {
        let data = Dataset::digits().unwrap();
        let course = || {
            let method = Backpropagation { steps: 150 };
            let cpu = Cpu::new().unwrap();
            Learner::new(cpu, &method, &data, 1)
                .unwrap()
                .train()
                .unwrap()
        };
        let first = course();
        assert!(first.accuracy() > 80.0, "{}", first.outcome());
        assert_eq!(first.passes(), 450);
        assert_eq!(first.points.last().map(|&(passes, _)| passes), Some(450.0));
        assert_eq!(first.points, course().points, "the seed decides all");
    }
}
