//! Loss scales, which keep the gradients of 16-bit arithmetic within its range.

use std::panic::Location;

use backprop_core::{DType, Error, ErrorKind};

use crate::graph::Graph;
use crate::init::Init;
use crate::tensor::{Param, Tensor};
use crate::updates::Updates;

/// What a [`DynamicScale`] goes by; the meanings and defaults of PyTorch's `GradScaler`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LossScale {
    /// The scale of the first step.
    pub initial: f64,
    /// By what the scale is multiplied after `interval` good steps: more than 1.
    pub growth: f64,
    /// By what the scale is multiplied after a step with a gradient that is not finite: less than 1.
    pub backoff: f64,
    /// How many good steps in a row make the scale grow.
    pub interval: usize,
}

impl Default for LossScale {
    fn default() -> LossScale {
        LossScale {
            initial: 65_536.0,
            growth: 2.0,
            backoff: 0.5,
            interval: 2000,
        }
    }
}

/// A loss scale that adapts (Micikevicius et al., 2017, arXiv:1710.03740): the loss is multiplied by it,
/// so that small gradients are numbers of 16 bits too, and the gradients are divided by it before they
/// are used. A step with a gradient that is not finite changes nothing but the scale, which becomes
/// smaller; after many good steps it grows. Scale and count are state, as everything that steps change.
///
/// Parameters stay `f32` and are converted where they are used; so their gradients are `f32`, and the
/// optimizer's arithmetic is. The loss itself is better computed in `f32`:
///
/// ```
/// use backprop_core::{DType::{F16, F32}, Reference};
/// use backprop_graph::optim::{AdamW, DynamicScale, LossScale, adamw};
/// use backprop_graph::{Graph, Init, Session};
///
/// let g = Graph::new();
/// let x = g.input("x", [4, 3], F32);
/// let w = g.parameter("w", [3, 2], F32, Init::Ones);
/// let y = x.cast(F16).matmul(g.read(w).cast(F16)).cast(F32);
/// let loss = y.square().mean(..);
///
/// let scale = DynamicScale::new(&g, "loss_scale", LossScale::default());
/// let gradients = g.grad(scale.of(loss), &[w])?;
/// let updates = scale.updates(&gradients, |gradients| {
///     adamw(&g, &[w], gradients, AdamW::default())
/// });
///
/// let mut session = Session::compile(&g, Reference, &[loss.key()], updates)?;
/// // 65,536 times this gradient is too much for 16 bits: the step is left out.
/// session.feed(x, &[1f32; 12])?.step()?;
/// assert_eq!(session.parameter::<f32>(w)?, [1.0; 6]);
/// assert_eq!(session.parameter::<f32>(scale.scale)?, [32_768.0]);
/// for _ in 0..4 {
///     session.step()?;
/// }
/// assert_ne!(session.parameter::<f32>(w)?, [1.0; 6]);
/// # Ok::<(), backprop_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "a scale does nothing until a loss is multiplied by it"]
pub struct DynamicScale<'g> {
    graph: &'g Graph,
    options: LossScale,
    /// The parameter `name.scale`, `f32`.
    pub scale: Param,
    /// The parameter `name.good_steps`, `i64`: how many there were since the scale changed.
    pub good_steps: Param,
}

impl<'g> DynamicScale<'g> {
    /// A scale whose state has names that begin with `name`. Options without a meaning are recorded as
    /// an error: an initial scale that is not a positive number, a growth that is not above 1, a
    /// backoff that is not between 0 and 1, an interval of 0.
    #[track_caller]
    pub fn new(graph: &'g Graph, name: &str, options: LossScale) -> DynamicScale<'g> {
        let place = Location::caller();
        if let Err(what) = options.check() {
            let operation = "loss_scale".to_owned();
            let error = Error::new(ErrorKind::Attribute { operation, what });
            graph.fail(error, graph.origin(place));
        }
        graph.at(place, || {
            let state = |what: &str, dtype, start| {
                let name = format!("{name}.{what}");
                graph.parameter(&name, [0usize; 0], dtype, Init::Constant(start))
            };
            DynamicScale {
                graph,
                options,
                scale: state("scale", DType::F32, options.initial),
                good_steps: state("good_steps", DType::I64, 0.0),
            }
        })
    }

    /// A loss times the scale of this step, `f32` for 16 bits: what gradients are taken of.
    #[track_caller]
    #[must_use]
    pub fn of(&self, loss: Tensor<'g>) -> Tensor<'g> {
        let graph = self.graph;
        graph.within(graph.origin_of("loss_scale", Location::caller()), || {
            let wide = loss.widened();
            wide * graph.read(self.scale).cast(wide.dtype())
        })
    }

    /// What `apply` makes of the gradients of a scaled loss once they are divided by the scale, in
    /// steps in which all of them are finite; and in every step the next scale. Clipping belongs
    /// into `apply`, and so does everything else that must not see a step that is left out.
    #[track_caller]
    pub fn updates(
        &self,
        gradients: &[Tensor<'g>],
        apply: impl FnOnce(&[Tensor<'g>]) -> Updates,
    ) -> Updates {
        let graph = self.graph;
        let origin = graph.origin_of("loss_scale", Location::caller());
        let (unscaled, finite, next) = graph.within(origin, || {
            let inverse = graph.read(self.scale).cast(DType::F64).reciprocal();
            let (mut unscaled, mut finite) = (Vec::new(), None);
            for gradient in gradients {
                let wide = gradient.widened();
                let wide = wide * inverse.cast(wide.dtype());
                let good = wide.is_finite().all(..);
                finite = Some(finite.map_or(good, |all: Tensor<'g>| all.logical_and(good)));
                unscaled.push(wide.cast(gradient.dtype()));
            }
            let finite = finite.unwrap_or_else(|| graph.full([], 1.0, DType::Bool));
            (unscaled, finite, self.next(finite))
        });
        apply(&unscaled).when(finite).and(next)
    }

    /// The state after a step. Products are formed in `f64`, as PyTorch has them; the scale stays a
    /// normal number of `f32`.
    fn next(&self, finite: Tensor<'g>) -> Updates {
        let scale = self.graph.read(self.scale);
        let good = self.graph.read(self.good_steps) + 1;
        let times = |factor: f64| (scale.cast(DType::F64) * factor).cast(DType::F32);
        let larger = times(self.options.growth);
        let larger = larger.is_finite().select(larger, scale);
        let smaller = times(self.options.backoff).maximum(f64::from(f32::MIN_POSITIVE));
        let grows = good.ge(good.number(self.options.interval as f64));
        let next = finite.select(grows.select(larger, scale), smaller);
        let stays = finite.logical_and(grows.logical_not());
        Updates::set(self.scale, next).with(self.good_steps, stays.select(good, 0))
    }
}

impl LossScale {
    fn check(self) -> Result<(), String> {
        let (lowest, highest) = (f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX));
        if !(lowest..=highest).contains(&self.initial) {
            let scale = self.initial;
            return Err(format!(
                "the scale is {scale}; it must be a positive number of `f32`"
            ));
        }
        if !(self.growth > 1.0 && self.growth.is_finite()) {
            return Err(format!("growth is {}; it must be more than 1", self.growth));
        }
        if !(self.backoff > 0.0 && self.backoff < 1.0) {
            let backoff = self.backoff;
            return Err(format!("backoff is {backoff}; it must be between 0 and 1"));
        }
        match self.interval {
            0 => Err("interval is 0; it must be at least 1".to_owned()),
            _ => Ok(()),
        }
    }
}
