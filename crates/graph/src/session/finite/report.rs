//! The error of a step that makes a NaN or an infinity.

use std::fmt;

use backprop_core::{Error, ErrorKind, Place, Scalar, Shape};

use super::Level;
use super::subjects::Subject;
use crate::ir::{Ir, NodeId, Op};
use crate::unit::Unit;

/// The most operands that are shown.
pub(super) const MOST_OPERANDS: usize = 6;

/// From where on an element of a parameter says that training has diverged.
pub(super) const GROWN: f64 = 1e6;

/// What was found.
pub(super) struct Finding<'s> {
    pub(super) subject: &'s Subject,
    /// The node of the operation that made it.
    pub(super) part: Option<&'s Subject>,
    pub(super) level: Level,
    pub(super) step: u64,
    /// Which of the iterations of the scans around it, all counted together.
    pub(super) at: usize,
    pub(super) run: Place,
    /// A parameter that has grown far beyond use, and its largest element.
    pub(super) grown: Option<(String, f64)>,
}

/// What the elements of a value are.
pub(in crate::session) struct Values {
    shape: Shape,
    /// The smallest and the largest finite one.
    range: Option<(f64, f64)>,
    nan: usize,
    infinite: usize,
    /// Where the first one is that is not finite.
    first: Option<usize>,
}

impl Values {
    pub(in crate::session) fn new(shape: Shape, values: &[f64]) -> Values {
        let finite = || values.iter().copied().filter(|x| x.is_finite());
        let (low, high) = (finite().reduce(f64::min), finite().reduce(f64::max));
        Values {
            shape,
            range: low.zip(high),
            nan: values.iter().filter(|x| x.is_nan()).count(),
            infinite: values.iter().filter(|x| x.is_infinite()).count(),
            first: values.iter().position(|x| !x.is_finite()),
        }
    }

    /// The position of the first element that is not finite.
    fn position(&self) -> Option<String> {
        let mut rest = self.first.filter(|_| self.shape.rank() > 0)?;
        let mut position: Vec<usize> = Vec::new();
        for &size in self.shape.sizes().iter().rev() {
            position.insert(0, rest % size.max(1));
            rest /= size.max(1);
        }
        Some(format!("{position:?}"))
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.range {
            Some((low, high)) if low == high => write!(f, "{}", Short(low))?,
            Some((low, high)) => write!(f, "{} to {}", Short(low), Short(high))?,
            None => f.write_str("nothing finite")?,
        }
        if self.nan > 0 {
            write!(f, ", {} NaN", self.nan)?;
        }
        if self.infinite > 0 {
            write!(f, ", {} infinite", self.infinite)?;
        }
        match self.position() {
            Some(position) => write!(f, ", first at {position}"),
            None => Ok(()),
        }
    }
}

/// A number with a few digits.
struct Short(f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.abs() {
            size if size != 0.0 && !(1e-3..1e5).contains(&size) => write!(f, "{:.2e}", self.0),
            _ => write!(f, "{}", (self.0 * 1e4).round() / 1e4),
        }
    }
}

/// Which iteration of each scan around a node, outermost first.
fn iteration(ir: &Ir, id: NodeId, mut at: usize) -> Option<String> {
    let mut iterations = Vec::new();
    let mut region = ir.region(ir.node(id).region);
    while let Some(scan) = region.scan {
        if let Op::Scan(scan) = &ir.node(scan).op
            && scan.times > 1
        {
            let times = scan.times;
            iterations.push(format!("{} of {times}", at % times + 1));
            at /= times;
        }
        region = ir.region(region.parent);
    }
    iterations.reverse();
    (!iterations.is_empty()).then(|| iterations.join(", "))
}

impl Finding<'_> {
    /// The error, given the values of the subject and then of its operands.
    pub(super) fn error(&self, ir: &Ir, values: &[Values]) -> Error {
        let node = self.subject.node;
        // A gradient is at fault where the operation is whose derivative it is.
        let of = ir.units.vjp_of(node);
        let origin = ir.origins[of.unwrap_or(node).index()];
        let what = match self.level {
            Level::Nan => "NaN",
            _ => "infinity",
        };
        let error = Error::new(ErrorKind::NotFinite {
            operation: self.operation(ir),
            what: format!("{} {what}", self.verb(ir)),
            step: self.step,
        });
        let scope = &ir.scopes[origin.scope as usize];
        let mut error = error.at(origin.place).within(scope);
        let count = self.subject.operands.len();
        let operands = self.subject.operands.iter().zip(values.iter().skip(1));
        for (k, (&id, values)) in operands.enumerate() {
            let label = match count {
                1 => "operand".to_owned(),
                _ => format!("operand {k}"),
            };
            error = error.note(&label, described(ir, id, values), Some(place(ir, id)));
        }
        if let Some(values) = values.first() {
            error = error.note("result", typed(ir, node, values), None);
        }
        if let Some(part) = self.part.filter(|part| part.node != self.subject.node) {
            error = error.note("inside", ir.label(part.node), None);
        }
        if count > MOST_OPERANDS {
            error = error.note("and", format!("{} operands", count - MOST_OPERANDS), None);
        }
        if let Some(iteration) = iteration(ir, node, self.at) {
            error = error.note("iteration", iteration, None);
        }
        error = error.note("run", "the step", Some(self.run));
        match (&self.grown, self.help(ir)) {
            (Some((name, size)), _) => error.help(format!(
                "`{name}` has grown to {}: a lower learning rate, or `optim::clip_by_norm`",
                Short(*size)
            )),
            (None, Some(help)) => error.help(help),
            (None, None) => error,
        }
    }

    /// The name of the operation at fault; of its part, if it has no name itself.
    fn operation(&self, ir: &Ir) -> String {
        let whole = ir.operation(self.subject.node);
        match self.part {
            Some(part) if is_unnamed(ir, self.subject.node) => ir.label(part.node),
            _ => whole,
        }
    }

    fn verb(&self, ir: &Ir) -> &'static str {
        match ir.node(self.subject.node).op {
            Op::Input(_) | Op::Parameter(_) => "holds",
            _ => "makes",
        }
    }

    /// What is usually meant instead.
    fn help(&self, ir: &Ir) -> Option<&'static str> {
        let node = self.part.unwrap_or(self.subject).node;
        let node = ir.node(ir.units.vjp_of(self.subject.node).unwrap_or(node));
        let is_gradient = ir.units.vjp_of(self.subject.node).is_some();
        match node.op {
            Op::Input(_) => Some("the data that is fed holds it"),
            Op::Scalar(Scalar::Sqrt) if is_gradient => {
                Some("the derivative of sqrt at 0 is infinite: add something small first")
            }
            Op::Scalar(Scalar::Log) => {
                Some("log wants positive numbers: `maximum` with something small, or `log1p`")
            }
            Op::Scalar(Scalar::Exp) => {
                Some("subtract the largest element first, as `softmax` and `logsumexp` do")
            }
            Op::Scalar(Scalar::Div) => Some("`select` another divisor where it is 0"),
            Op::Cast | Op::MatMul if node.dtype == backprop_core::DType::F16 => {
                Some("f16 ends at 65504: scale down, or use bf16 or f32")
            }
            _ => None,
        }
    }
}

/// Whether a node was built by an operation that has no name of its own.
fn is_unnamed(ir: &Ir, id: NodeId) -> bool {
    let owner = ir.units.owner(id);
    owner.is_some_and(|owner| matches!(ir.units.unit(owner), Unit::Operation(None)))
}

fn place(ir: &Ir, id: NodeId) -> Place {
    ir.origins[id.index()].place
}

fn typed(ir: &Ir, id: NodeId, values: &Values) -> String {
    let node = ir.node(id);
    format!("{}{}: {values}", node.dtype, node.shape)
}

fn described(ir: &Ir, id: NodeId, values: &Values) -> String {
    format!("{} {}", ir.operation(id), typed(ir, id, values))
}
