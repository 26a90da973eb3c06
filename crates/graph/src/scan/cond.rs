//! One of two bodies. Each is a scan that runs once or not at all, and so is its derivative: what is
//! not chosen takes no time in either direction.

use std::panic::Location;

use backprop_core::{DType, Place, Shape};

use super::Left;
use crate::graph::{Graph, bad_attribute, bad_dtype, bad_shape};
use crate::ir::{Argument, Turn};
use crate::op::catalogue::{Entry, entries, reals};
use crate::tensor::Tensor;

impl Graph {
    /// What `then` builds if a condition (a single truth value) holds, and what `otherwise` builds if
    /// not: tensors of the same number, types and shapes. Only one of the two is computed, in a step
    /// and in its derivative. Both may use any tensor from outside.
    ///
    /// For a choice by element, and where both sides are cheap, see [`select`](Tensor::select).
    ///
    /// ```
    /// use backprop_core::{DType::F64, Reference};
    /// use backprop_graph::{Graph, Session, Updates};
    ///
    /// let g = Graph::new();
    /// let x = g.input("x", [2], F64);
    /// let y = g.cond(x.sum(..).gt(0.0), || vec![x.square()], || vec![x * 3.0])[0];
    /// let dx = g.grad(y.sum(..), &[x])?[0];
    /// let mut session = Session::compile(&g, Reference, &[dx.key()], Updates::none())?;
    /// session.feed(x, &[1.0, 4.0])?.step()?;
    /// assert_eq!(session.fetch::<f64>(dx)?, [2.0, 8.0]);
    /// session.feed(x, &[1.0, -4.0])?.step()?;
    /// assert_eq!(session.fetch::<f64>(dx)?, [3.0, 3.0]);
    /// # Ok::<(), backprop_core::Error>(())
    /// ```
    #[track_caller]
    pub fn cond<'g>(
        &'g self,
        condition: Tensor<'g>,
        then: impl FnOnce() -> Vec<Tensor<'g>>,
        otherwise: impl FnOnce() -> Vec<Tensor<'g>>,
    ) -> Vec<Tensor<'g>> {
        let place = Location::caller();
        let [yes, no] = self.at(place, || {
            let holds = self.truth("cond", condition, place);
            [holds, holds.logical_not()].map(|chosen| chosen.cast(DType::I64))
        });
        let first = self.once(yes, None, then, place);
        self.once(no, Some(&first), otherwise, place)
    }

    /// What `build` gives if it runs, which `count` (0 or 1) says; what was there `before` if not.
    fn once<'g>(
        &'g self,
        count: Tensor<'g>,
        before: Option<&[Tensor<'g>]>,
        build: impl FnOnce() -> Vec<Tensor<'g>>,
        place: Place,
    ) -> Vec<Tensor<'g>> {
        let sound = self.is_sound(count);
        let Some(local) = sound.then(|| self.localize(count.id)).flatten() else {
            self.apply("cond", &[count], place, |_| {
                Err(bad_attribute("cond", "its condition failed to build"))
            });
            let results = build().len();
            return vec![self.poison(self.origin(place)); results];
        };
        let count = self.tensor(local);
        self.open((1, Some(0)), Turn::Forward, None);
        let counted = self.argument(Argument::Carried, count);
        let results = build();
        let initial = match before {
            Some(before) => before.to_vec(),
            None => results.iter().map(|x| x.number(0.0)).collect(),
        };
        let fits = self.check_sides(&initial, &results, place);
        let arguments = [&[count], initial.as_slice()].concat();
        for &x in initial.iter().filter(|x| self.is_sound(**x)) {
            self.argument(Argument::Carried, x);
        }
        let left = Left {
            carried: [&[counted], results.as_slice()].concat(),
            stacked: Vec::new(),
        };
        let mut scanned = self.close(&arguments, left, place);
        match fits {
            true => scanned.carried.split_off(1),
            false => initial,
        }
    }

    /// Whether both sides give the same.
    fn check_sides(&self, then: &[Tensor<'_>], otherwise: &[Tensor<'_>], place: Place) -> bool {
        if then.len() != otherwise.len() {
            let (a, b) = (then.len(), otherwise.len());
            let problem =
                bad_attribute("cond", format!("one side gives {a} tensors, the other {b}"));
            self.refuse("cond", then, place, problem);
            return false;
        }
        let sound = |x: &Tensor<'_>| self.is_sound(*x);
        let ty = |x: &Tensor<'_>| -> (DType, Shape) { (x.dtype(), x.shape()) };
        let mut pairs = then.iter().zip(otherwise);
        let wrong = pairs.find(|&(a, b)| sound(a) && sound(b) && ty(a) != ty(b));
        if let Some((a, b)) = wrong {
            let [x, y] = [ty(a), ty(b)];
            let what = format!("one side gives {}{}, the other {}{}", x.0, x.1, y.0, y.1);
            let problem = match x.0 == y.0 {
                true => bad_shape("cond", what),
                false => bad_dtype("cond", what),
            };
            self.refuse("cond", &[*a, *b], place, problem);
        }
        wrong.is_none()
    }
}

/// Inputs to try conditionals on.
pub(super) fn entries() -> Vec<Entry> {
    let pair = || reals(&[&[2, 3], &[3]]);
    entries! {
        cond_that_holds pair() => |x| {
            let graph = x[0].graph();
            let wide = x[1].sin();
            let sides = graph.cond(
                x[0].lt(9.0).all(..),
                || vec![(x[0] * wide).exp(), x[0]],
                || vec![x[0].tanh(), x[0] + x[1]],
            );
            sides[0] * sides[1]
        };
        cond_that_does_not_hold pair() => |x| {
            let graph = x[0].graph();
            let y = graph.cond(x[0].gt(9.0).any(..), || vec![x[0].square()], || {
                vec![(x[0] * x[1]).sin() * x[1]]
            });
            y[0] * x[0]
        };
        cond_in_a_scan reals(&[&[4, 3], &[3]]) => |x| {
            let graph = x[0].graph();
            let scanned = graph.scan(4, &[x[1]], &[x[0]], |at| {
                let odd = at.index.remainder(2).eq(1);
                let next = graph.cond(odd, || vec![(at.carried[0] * at.elements[0]).sin()], || {
                    let power = graph.scan(2, &[at.carried[0]], &[], |inner| Left {
                        carried: vec![inner.carried[0] * x[1].cos()],
                        stacked: vec![],
                    });
                    vec![power.carried[0] + at.elements[0]]
                });
                Left { carried: next.clone(), stacked: next }
            });
            scanned.stacked[0] * scanned.carried[0]
        };
    }
}
