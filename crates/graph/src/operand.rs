//! What may stand on the right-hand side of an operation, and Rust's operators.

use std::ops::{Add, Div, Mul, Neg, Rem, Sub};
use std::panic::Location;

use backprop_core::{Calculus, DType, Error, ErrorKind, Place, Scalar, Shape};

use crate::graph::Graph;
use crate::tensor::{Param, Tensor};

/// What can be used as a tensor: tensors, parameters and numbers.
pub trait Operand<'g> {
    /// The tensor in `graph`. A number takes the element type `like`, or `f32` where there is none.
    fn on(self, graph: &'g Graph, like: Option<DType>, place: Place) -> Tensor<'g>;
}

impl<'g> Operand<'g> for Tensor<'g> {
    fn on(self, _: &'g Graph, _: Option<DType>, _: Place) -> Tensor<'g> {
        self
    }
}

impl<'g> Operand<'g> for Param {
    fn on(self, graph: &'g Graph, _: Option<DType>, place: Place) -> Tensor<'g> {
        let node = graph
            .ir
            .borrow()
            .parameters
            .get(self.index as usize)
            .map(|p| p.node);
        match node.filter(|_| self.graph == graph.id) {
            Some(id) => graph.tensor(id),
            None => {
                let operation = "read of a parameter".to_owned();
                let error = Error::new(ErrorKind::MixedGraphs { operation });
                graph.fail(error, graph.origin(place))
            }
        }
    }
}

macro_rules! number {
    ($($type:ty),*) => { $(
        impl<'g> Operand<'g> for $type {
            fn on(self, graph: &'g Graph, like: Option<DType>, place: Place) -> Tensor<'g> {
                graph.constant(f64::from(self), like.unwrap_or(DType::F32), Shape::SCALAR, place)
            }
        }
    )* };
}
number!(f64, f32, i32);

macro_rules! operators {
    ($($Trait:ident $method:ident $function:ident;)*) => { $(
        impl<'g, R: Operand<'g>> $Trait<R> for Tensor<'g> {
            type Output = Tensor<'g>;
            #[track_caller]
            fn $method(self, right: R) -> Tensor<'g> {
                let place = Location::caller();
                let right = right.on(self.graph, Some(self.dtype()), place);
                self.graph.elementwise(Scalar::$function, &[self, right], place)
            }
        }
        operators!(@left $Trait $method $function: Param f64 f32 i32);
    )* };
    (@left $Trait:ident $method:ident $function:ident: $($Left:ty)*) => { $(
        impl<'g> $Trait<Tensor<'g>> for $Left {
            type Output = Tensor<'g>;
            #[track_caller]
            fn $method(self, right: Tensor<'g>) -> Tensor<'g> {
                let place = Location::caller();
                let left = self.on(right.graph, Some(right.dtype()), place);
                right.graph.elementwise(Scalar::$function, &[left, right], place)
            }
        }
    )* };
}
operators! {
    Add add Add;
    Sub sub Sub;
    Mul mul Mul;
    Div div Div;
    Rem rem Rem;
}

impl<'g> Neg for Tensor<'g> {
    type Output = Tensor<'g>;
    #[track_caller]
    fn neg(self) -> Tensor<'g> {
        self.graph
            .elementwise(Scalar::Neg, &[self], Location::caller())
    }
}

impl Calculus for Tensor<'_> {
    #[track_caller]
    fn apply(function: Scalar, operands: &[Self]) -> Self {
        operands[0]
            .graph
            .elementwise(function, operands, Location::caller())
    }

    #[track_caller]
    fn like(self, value: f64) -> Self {
        self.graph
            .constant(value, self.dtype(), self.shape(), Location::caller())
    }

    #[track_caller]
    fn stop(self) -> Self {
        self.stop_gradient()
    }
}
