//! Operations made of others, and hand-written rules of differentiation.

use std::fmt::Debug;
use std::panic::Location;
use std::sync::Arc;

use backprop_core::{DType, Place, Primitive, TensorType};

use crate::graph::{Graph, bad_shape};
use crate::ir::{Custom, Inputs, Node, Op};
use crate::tensor::Tensor;

/// An operation defined by others. Everything but the decomposition is derived from it, and may be
/// written by hand for speed or accuracy. Built-in softmax, norms and losses use this trait, and so
/// do those of downstream crates.
pub trait Composite: Debug + Send + Sync + 'static {
    /// The name, for plans and errors.
    fn name(&self) -> &str;

    /// The outputs in terms of other operations: what the operation means.
    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>>;

    /// The cotangent of each input (`None`: no gradient flows there), or `None` to differentiate
    /// the decomposition. Written with the same operations, so that higher orders follow.
    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let _ = cx;
        None
    }

    /// The primitive that computes all outputs in one launch from inputs of these types, each read
    /// by one of its [sources](Primitive::sources_mut), in order. A backend that does not support it
    /// gets the decomposition.
    fn primitive(&self, inputs: &[TensorType]) -> Option<Primitive> {
        let _ = inputs;
        None
    }

    /// Inputs on which tests try the operation: values, gradients of two orders, and a hand-written
    /// gradient against the derived one.
    fn samples(&self) -> Vec<Sample>;
}

/// What a hand-written gradient may use.
#[derive(Debug)]
pub struct Vjp<'g, 'a> {
    /// The operands.
    pub inputs: &'a [Tensor<'g>],
    /// The results.
    pub outputs: &'a [Tensor<'g>],
    /// What comes in from above; `None` for an output that the loss does not depend on.
    pub cotangents: &'a [Option<Tensor<'g>>],
}

/// Inputs of an operation for tests.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Element type, shape and the interval from which values are drawn.
    pub inputs: Vec<(DType, Vec<usize>, (f64, f64))>,
}

impl Sample {
    /// `f64` inputs of these shapes, with values between -2 and 2.
    #[must_use]
    pub fn reals(shapes: &[&[usize]]) -> Sample {
        let input = |shape: &&[usize]| (DType::F64, shape.to_vec(), (-2.0, 2.0));
        Sample {
            inputs: shapes.iter().map(input).collect(),
        }
    }

    /// With one more input, of `dtype` with values in `low..high`.
    #[must_use]
    pub fn with(mut self, dtype: DType, shape: &[usize], (low, high): (f64, f64)) -> Sample {
        self.inputs.push((dtype, shape.to_vec(), (low, high)));
        self
    }
}

/// A rule of differentiation: the cotangents of the inputs, or `None` to derive them.
pub(crate) trait Rule: Send + Sync {
    fn name(&self) -> &str;
    fn vjp<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>>;
    fn primitive(&self, inputs: &[TensorType]) -> Option<Primitive> {
        let _ = inputs;
        None
    }
}

impl<C: Composite> Rule for C {
    fn name(&self) -> &str {
        Composite::name(self)
    }
    fn vjp<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        self.gradient(cx)
    }
    fn primitive(&self, inputs: &[TensorType]) -> Option<Primitive> {
        Composite::primitive(self, inputs)
    }
}

struct Closure<F>(F);

impl<F> Rule for Closure<F>
where
    F: for<'g, 'a> Fn(&Vjp<'g, 'a>) -> Vec<Option<Tensor<'g>>> + Send + Sync,
{
    fn name(&self) -> &str {
        "custom_vjp"
    }
    fn vjp<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        Some((self.0)(cx))
    }
}

impl Graph {
    /// Applies a composite operation, giving its outputs. Errors inside of it name the caller.
    #[track_caller]
    pub fn apply_composite<'g>(
        &'g self,
        composite: impl Composite,
        inputs: &[Tensor<'g>],
    ) -> Vec<Tensor<'g>> {
        let origin = self.origin_of(composite.name(), Location::caller());
        let outputs = self.within(origin, || composite.decompose(inputs));
        if self.is_derived() {
            return outputs;
        }
        self.mark(Arc::new(composite), inputs, &outputs, origin.place)
    }

    /// Applies a composite operation that has one output.
    #[track_caller]
    pub fn apply_one<'g>(&'g self, composite: impl Composite, inputs: &[Tensor<'g>]) -> Tensor<'g> {
        let place = Location::caller();
        let origin = self.origin_of(composite.name(), place);
        let outputs = self.within(origin, || self.apply_composite(composite, inputs));
        match outputs.first() {
            Some(&output) => output,
            None => self.apply("composite", inputs, place, |_| {
                Err(crate::graph::bad_attribute("composite", "no output"))
            }),
        }
    }

    /// Records that operands do not fit an operation, as a built-in one does of its own, and stands in
    /// for the result: for layers and operations of other crates.
    ///
    /// ```
    /// use backprop_core::DType::F32;
    /// use backprop_graph::Graph;
    ///
    /// let g = Graph::new();
    /// let x = g.input("x", [2, 3], F32);
    /// let y = g.misfit("my_layer", &[x], "3 columns for a layer of 4");
    /// let _ = y.exp(); // Silent.
    /// let text = g.check().unwrap_err().to_string();
    /// assert!(text.starts_with("error: my_layer: 3 columns for a layer of 4"));
    /// ```
    #[track_caller]
    pub fn misfit<'g>(
        &'g self,
        operation: &str,
        operands: &[Tensor<'g>],
        what: &str,
    ) -> Tensor<'g> {
        let problem = bad_shape(operation, what);
        self.refuse(operation, operands, Location::caller(), problem)
    }

    /// Makes `outputs` of what was built from `inputs` go by a rule of differentiation.
    pub(crate) fn mark<'g>(
        &'g self,
        rule: Arc<dyn Rule>,
        inputs: &[Tensor<'g>],
        outputs: &[Tensor<'g>],
        place: Place,
    ) -> Vec<Tensor<'g>> {
        if !inputs.iter().chain(outputs).all(|x| self.is_sound(*x)) {
            return outputs.to_vec();
        }
        let origin = self.origin(place);
        let local = |x: &Tensor<'g>| self.localize(x.id);
        let operands: Option<Inputs> = inputs.iter().chain(outputs).map(local).collect();
        let Some(operands) = operands else {
            self.leak(rule.name(), inputs, place);
            return vec![self.poison(origin); outputs.len()];
        };
        let mut ir = self.ir.borrow_mut();
        let custom = Custom {
            rule,
            inputs: inputs.len(),
        };
        let results = operands[inputs.len()..].to_vec();
        let marker = Node {
            op: Op::Custom(custom.into()),
            region: ir.innermost(&operands),
            inputs: operands,
            dtype: DType::Bool,
            shape: backprop_core::Shape::SCALAR.into(),
        };
        let marker = ir.push(marker, origin);
        let taken = results.iter().enumerate().map(|(i, &output)| {
            let ty = (ir.node(output).dtype, *ir.node(output).shape);
            ir.push_output(marker, i, ty, origin)
        });
        let ids: Vec<_> = taken.collect();
        drop(ir);
        ids.into_iter().map(|id| self.tensor(id)).collect()
    }
}

impl<'g> Tensor<'g> {
    /// Replaces the derivative of what lies between `inputs` and this tensor: `rule` gives the
    /// cotangent of each input from [`Vjp`]. Applied whenever a gradient is taken, to any order (the
    /// rule's own operations are differentiated as they are).
    #[track_caller]
    #[must_use]
    pub fn custom_vjp<F>(self, inputs: &[Tensor<'g>], rule: F) -> Tensor<'g>
    where
        F: for<'a, 'b> Fn(&Vjp<'a, 'b>) -> Vec<Option<Tensor<'a>>> + Send + Sync + 'static,
    {
        let marked = self
            .graph
            .mark(Arc::new(Closure(rule)), inputs, &[self], Location::caller());
        marked.first().copied().unwrap_or(self)
    }
}
