//! What is known of the values of integers, and what has to be checked: an index or a label that is
//! fed is checked on the host before a step, one known when the graph is built at once, and a computed
//! one in the step, unless its computation keeps it inside.

use backprop_core::{DType, Element, Primitive, Reduction, Scalar, TensorType};

use crate::graph::bad_attribute;
use crate::ir::{Ir, NodeId, Op};
use crate::tensor::Tensor;

/// Integers from `low` to `high`, both included.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Interval {
    low: i64,
    high: i64,
}

const ANY: Interval = Interval {
    low: i64::MIN,
    high: i64::MAX,
};

impl Interval {
    fn hull(self, other: Interval) -> Interval {
        Interval {
            low: self.low.min(other.low),
            high: self.high.max(other.high),
        }
    }

    /// The values of a function of the table, as far as that is simple.
    fn apply(function: Scalar, x: &[Interval]) -> Interval {
        let ends = |combine: fn(i64, i64) -> Option<i64>| {
            let ends = combine(x[0].low, x[1].low).zip(combine(x[0].high, x[1].high));
            ends.map_or(ANY, |(low, high)| Interval { low, high })
        };
        match function {
            Scalar::Max => ends(|a, b| Some(a.max(b))),
            Scalar::Min => ends(|a, b| Some(a.min(b))),
            Scalar::Add => ends(i64::checked_add),
            Scalar::Sub => {
                let ends = x[0]
                    .low
                    .checked_sub(x[1].high)
                    .zip(x[0].high.checked_sub(x[1].low));
                ends.map_or(ANY, |(low, high)| Interval { low, high })
            }
            Scalar::Mul if x.iter().all(|x| x.low >= 0) => ends(i64::checked_mul),
            Scalar::Where => x[1].hull(x[2]),
            _ => ANY,
        }
    }
}

/// How many nodes are looked at before giving up.
const PATIENCE: usize = 64;

/// Values that a node is known to have.
fn interval(ir: &Ir, id: NodeId, patience: &mut usize) -> Interval {
    if *patience == 0 {
        return ANY;
    }
    *patience -= 1;
    let node = ir.node(id);
    let mut of = |k: usize| interval(ir, node.inputs[k], patience);
    match &node.op {
        Op::Constant(bits) => {
            let value = f64::from_bits(*bits) as i64;
            Interval {
                low: value,
                high: value,
            }
        }
        Op::Coordinate(axis) => Interval {
            low: 0,
            high: node.shape.size(usize::from(*axis)) as i64 - 1,
        },
        Op::Data(bytes) => extremes(node.dtype, bytes),
        Op::Input(i) => match ir.inputs[*i as usize].range {
            Some((low, high)) => Interval {
                low,
                high: high - 1,
            },
            None => ANY,
        },
        Op::Reshape | Op::Broadcast | Op::Permute(_) | Op::Slice(_) | Op::Stop | Op::Require(_) => {
            of(0)
        }
        Op::Cast if ir.node(node.inputs[0]).dtype.is_integer() => of(0),
        Op::Reduce(Reduction::Max | Reduction::Min, _) | Op::Gather(_) => of(0),
        Op::Concat(_) => (0..node.inputs.len())
            .map(of)
            .reduce(Interval::hull)
            .unwrap_or(ANY),
        Op::Scalar(function) => {
            let operands: Vec<Interval> = (0..node.inputs.len()).map(of).collect();
            Interval::apply(*function, &operands)
        }
        Op::Output(_) => positions(ir, node.inputs[0]).unwrap_or(ANY),
        _ => ANY,
    }
}

/// The values of a composite that a sort can compute.
fn positions(ir: &Ir, marker: NodeId) -> Option<Interval> {
    let marker = ir.node(marker);
    let Op::Custom(custom) = &marker.op else {
        return None;
    };
    let inputs = marker.inputs[..custom.inputs].iter();
    let types: Vec<TensorType> = inputs.map(|&id| ir.node(id).tensor()).collect();
    match custom.rule.primitive(&types)? {
        Primitive::Sort(sort) => Some(Interval {
            low: 0,
            high: sort.space.size(sort.axis) as i64 - 1,
        }),
        _ => None,
    }
}

fn extremes(dtype: DType, bytes: &[u8]) -> Interval {
    fn of<T: Element + Into<i64>>(bytes: &[u8]) -> Interval {
        let mut values = vec![T::default(); bytes.len() / size_of::<T>()];
        T::copy_from_bytes(&mut values, bytes);
        let values = values.into_iter().map(Into::into);
        let each = values.map(|value| Interval {
            low: value,
            high: value,
        });
        each.reduce(Interval::hull).unwrap_or(ANY)
    }
    match dtype {
        DType::I32 => of::<i32>(bytes),
        DType::I64 => of::<i64>(bytes),
        _ => ANY,
    }
}

/// What a node only rearranges.
fn origin(ir: &Ir, mut id: NodeId) -> NodeId {
    while let Op::Reshape | Op::Broadcast | Op::Permute(_) | Op::Slice(_) | Op::Stop =
        ir.node(id).op
    {
        id = ir.node(id).inputs[0];
    }
    id
}

impl<'g> Tensor<'g> {
    /// These integers, on condition that all of them lie in `0..end`.
    #[track_caller]
    pub(crate) fn limited(self, operation: &str, end: usize) -> Tensor<'g> {
        self.limited_except(operation, end, None)
    }

    /// These integers, on condition that all of them lie in `0..end` or equal `except`.
    #[track_caller]
    pub(crate) fn limited_except(
        self,
        operation: &str,
        end: usize,
        except: Option<i64>,
    ) -> Tensor<'g> {
        let end = end as i64;
        match self.known(end, except) {
            Known::Inside => self,
            Known::Outside => {
                let what = format!("an index is outside of 0..{end}");
                self.failed(operation, Some(bad_attribute(operation, what)))
            }
            Known::Nothing => self.limited_in_step(operation, end, except),
        }
    }

    /// Whether all of these integers lie in `0..end` or equal `except`. The values of an input do:
    /// that is checked when they are fed.
    fn known(self, end: i64, except: Option<i64>) -> Known {
        let mut ir = self.graph.ir.borrow_mut();
        let id = origin(&ir, self.id);
        if let Op::Input(i) = ir.node(id).op {
            let input = &mut ir.inputs[i as usize];
            let (low, high) = input.range.unwrap_or((i64::MIN, i64::MAX));
            input.range = Some((low.max(0), high.min(end)));
            input.except = except;
            return Known::Inside;
        }
        let node = ir.node(id);
        if node.op == Op::Poison || !node.dtype.is_integer() || node.shape.count() == 0 {
            return Known::Inside;
        }
        let Interval { low, high } = interval(&ir, self.id, &mut PATIENCE.clone());
        match node.op {
            _ if low >= 0 && high < end => Known::Inside,
            Op::Data(_) | Op::Constant(_) if except.is_none() => Known::Outside,
            _ => Known::Nothing,
        }
    }

    #[track_caller]
    fn limited_in_step(self, operation: &str, end: i64, except: Option<i64>) -> Tensor<'g> {
        let node = self.graph.node(self.id);
        let (values, required) = match (&node.op, node.inputs.as_slice()) {
            (Op::Require(_), &[values, violated]) => (self.graph.tensor(values), Some(violated)),
            _ => (self, None),
        };
        let wide = values.cast(DType::I64);
        let inside = wide.ge(0.0).logical_and(wide.lt(wide.number(end as f64)));
        let fits = match except {
            Some(except) => inside.logical_or(wide.eq(wide.number(except as f64))),
            None => inside,
        };
        let all = fits.all(..);
        if required == Some(all.logical_not().id) {
            return self;
        }
        self.require(
            all,
            &format!("{operation}: an index is outside of 0..{end}"),
        )
    }
}

/// What is known of indices before a step.
enum Known {
    Inside,
    Outside,
    Nothing,
}
