//! The graph under construction: nodes, names, and errors recorded for later.

mod problem;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};

use backprop_core::plan::{Phase, Purpose};
use backprop_core::{DType, Element, Error, ErrorKind, Place, Result, Shape};

use crate::init::Init;
use crate::ir::{Input, Inputs, Inspection, Node, NodeId, Op, Origin, Parameter, RegionId, Shared};
use crate::operand::Operand;
use crate::scan::Open;
use crate::tensor::{Key, Param, Tensor};

pub(crate) use problem::{Problem, bad_attribute, bad_dtype, bad_shape};

static GRAPHS: AtomicU64 = AtomicU64::new(1);

/// A static computation graph.
///
/// Building never fails: an operation that makes no sense records an error with the caller's place
/// and yields a tensor that stays silent afterwards; [`Graph::check`] and
/// [`Session::compile`](crate::Session::compile) report all of them at once.
#[derive(Debug)]
pub struct Graph {
    pub(crate) id: u64,
    pub(crate) seed: u64,
    pub(crate) ir: Shared,
    pub(crate) build: RefCell<Build>,
}

/// What is only needed while building.
#[derive(Debug, Default)]
pub(crate) struct Build {
    errors: Vec<Error>,
    /// Places to report instead of the caller's; the outermost wins.
    pub(crate) places: Vec<Origin>,
    scope: Vec<String>,
    pub(crate) scope_id: u32,
    /// The position of each scope's path in [`Ir::scopes`].
    scope_ids: HashMap<String, u32>,
    /// The names that are taken.
    inputs: HashSet<String>,
    parameters: HashSet<String>,
    inspections: HashSet<String>,
    derived: bool,
    /// How many checkpoints there are, and the outermost open one.
    pub(crate) checkpoints: u32,
    pub(crate) checkpoint: Option<u32>,
    /// The regions being built, outermost first.
    pub(crate) open: Vec<Open>,
}

impl Build {
    /// The origin of what is built now, by an operation of this origin: the outermost place, the
    /// pass, and the checkpoint.
    fn origin(&self, of: Origin) -> Origin {
        let outer = self.places.first().copied().unwrap_or(of);
        let is_backward = |origin: &Origin| origin.phase == Phase::Backward;
        if self.places.iter().any(is_backward) {
            return outer.backward();
        }
        let of_places = || self.places.iter().find_map(|origin| origin.checkpoint);
        Origin {
            checkpoint: self.checkpoint.or_else(of_places),
            ..outer
        }
    }
}

/// The type of an operand.
pub(crate) type Type = (DType, Shape);

impl Default for Graph {
    fn default() -> Graph {
        Graph::new()
    }
}

impl Graph {
    /// An empty graph; initial values of parameters are drawn under seed 0.
    #[must_use]
    pub fn new() -> Graph {
        Graph::with_seed(0)
    }

    /// An empty graph whose initial values are drawn under `seed` (and the parameters' names).
    #[must_use]
    pub fn with_seed(seed: u64) -> Graph {
        Graph {
            id: GRAPHS.fetch_add(1, Ordering::Relaxed),
            seed,
            ir: Shared::default(),
            build: RefCell::default(),
        }
    }

    /// An empty graph that ignores hand-written gradients and derives all of them from the
    /// decompositions: what hand-written ones are tested against.
    #[must_use]
    pub fn derived() -> Graph {
        let graph = Graph::new();
        graph.build.borrow_mut().derived = true;
        graph
    }

    pub(crate) fn is_derived(&self) -> bool {
        self.build.borrow().derived
    }

    /// A tensor that the host feeds before a step.
    #[track_caller]
    pub fn input(&self, name: &str, shape: impl AsRef<[usize]>, dtype: DType) -> Tensor<'_> {
        let origin = self.origin(Location::caller());
        let Some(shape) = self.shape_of("input", shape.as_ref(), dtype, origin) else {
            return self.poison(origin);
        };
        let name = self.scoped(name);
        if !self.build.borrow_mut().inputs.insert(name.clone()) {
            return self.fail(ErrorKind::DuplicateName { name }.into(), origin);
        }
        let mut ir = self.ir.borrow_mut();
        let op = Op::Input(ir.inputs.len() as u32);
        let node = ir.push(leaf(op, dtype, shape), origin);
        ir.inputs.push(Input {
            name: name.into(),
            node,
            range: None,
            except: None,
        });
        self.tensor(node)
    }

    /// A tensor that lives between steps, with its initial value. The name is prefixed by the open
    /// [scopes](Graph::scope).
    #[track_caller]
    pub fn parameter(
        &self,
        name: &str,
        shape: impl AsRef<[usize]>,
        dtype: DType,
        init: Init,
    ) -> Param {
        let origin = self.origin(Location::caller());
        let shape = self.shape_of("parameter", shape.as_ref(), dtype, origin);
        let shape = shape.unwrap_or(Shape::SCALAR);
        self.parameter_of(self.scoped(name), shape, dtype, init)
    }

    /// A parameter by its full name.
    #[track_caller]
    pub(crate) fn parameter_of(
        &self,
        name: String,
        shape: Shape,
        dtype: DType,
        init: Init,
    ) -> Param {
        let origin = self.origin(Location::caller());
        if !self.build.borrow_mut().parameters.insert(name.clone()) {
            self.fail(
                ErrorKind::DuplicateName { name: name.clone() }.into(),
                origin,
            );
        }
        if let Err(problem) = init.check(&name, (dtype, shape)) {
            self.fail(problem, origin);
        }
        let mut ir = self.ir.borrow_mut();
        let index = ir.parameters.len() as u32;
        let node = ir.push(leaf(Op::Parameter(index), dtype, shape), origin);
        ir.parameters.push(Parameter {
            name: name.into(),
            node,
            init,
            purpose: Purpose::Plain,
        });
        Param {
            graph: self.id,
            index,
        }
    }

    /// A parameter that an optimizer makes for itself, by its full name.
    #[track_caller]
    pub(crate) fn optimizer_state(
        &self,
        name: String,
        (shape, dtype): (Shape, DType),
        init: Init,
    ) -> Param {
        let state = self.parameter_of(name, shape, dtype, init);
        let known = &mut self.ir.borrow_mut().parameters;
        known[state.index as usize].purpose = Purpose::OptimizerState;
        state
    }

    /// The tensor of a parameter or a number.
    #[track_caller]
    pub fn read<'g>(&'g self, operand: impl Operand<'g>) -> Tensor<'g> {
        operand.on(self, None, Location::caller())
    }

    /// One number everywhere.
    #[track_caller]
    pub fn full(&self, shape: impl AsRef<[usize]>, value: f64, dtype: DType) -> Tensor<'_> {
        let origin = self.origin(Location::caller());
        match self.shape_of("full", shape.as_ref(), dtype, origin) {
            Some(shape) => self.constant(value, dtype, shape, origin.place),
            None => self.poison(origin),
        }
    }

    /// An array known now, in row-major order.
    #[track_caller]
    pub fn data<T: Element>(&self, shape: impl AsRef<[usize]>, values: &[T]) -> Tensor<'_> {
        let origin = self.origin(Location::caller());
        let Some(shape) = self.shape_of("data", shape.as_ref(), T::DTYPE, origin) else {
            return self.poison(origin);
        };
        if shape.count() != values.len() {
            let what = format!("{} values for shape {shape}", values.len());
            return self.fail(bad_shape("data", what).kind.into(), origin);
        }
        let op = Op::Data(T::bytes(values).into());
        self.tensor(self.ir.borrow_mut().push(leaf(op, T::DTYPE, shape), origin))
    }

    /// The coordinate along `axis` at every point of `shape`, as `i64`.
    #[track_caller]
    pub fn coordinate(&self, shape: impl AsRef<[usize]>, axis: usize) -> Tensor<'_> {
        let origin = self.origin(Location::caller());
        let Some(shape) = self.shape_of("coordinate", shape.as_ref(), DType::I64, origin) else {
            return self.poison(origin);
        };
        if axis >= shape.rank() {
            let (operation, rank) = ("coordinate".to_owned(), shape.rank());
            let axis = axis as isize;
            return self.fail(
                ErrorKind::Axis {
                    operation,
                    axis,
                    rank,
                }
                .into(),
                origin,
            );
        }
        let node = leaf(Op::Coordinate(axis as u8), DType::I64, shape);
        self.tensor(self.ir.borrow_mut().push(node, origin))
    }

    /// Has the session keep a tensor's value for after a step.
    pub(crate) fn inspect(&self, x: Tensor<'_>, name: &str, origin: Origin) {
        if !std::ptr::eq(x.graph, self) || !self.is_sound(x) {
            return;
        }
        let name = self.scoped(name);
        if !self.build.borrow_mut().inspections.insert(name.clone()) {
            self.fail(ErrorKind::DuplicateName { name }.into(), origin);
            return;
        }
        let (node, outside) = (x.id, x.id);
        self.ir.borrow_mut().inspections.push(Inspection {
            name,
            node,
            outside,
        });
    }

    /// Names everything built inside: parameters and inputs get `name.` in front, errors and plans
    /// say where they are.
    pub fn scope<'g, R>(&'g self, name: &str, build: impl FnOnce(&'g Graph) -> R) -> R {
        let outer = {
            let mut state = self.build.borrow_mut();
            state.scope.push(name.to_owned());
            let id = self.scope_id(&mut state, None);
            std::mem::replace(&mut state.scope_id, id)
        };
        let result = build(self);
        let mut state = self.build.borrow_mut();
        state.scope.pop();
        state.scope_id = outer;
        result
    }

    /// The number of the open scope, or of an operation in it.
    fn scope_id(&self, state: &mut Build, operation: Option<&str>) -> u32 {
        let parts = state.scope.iter().map(String::as_str).chain(operation);
        let path = parts.collect::<Vec<_>>().join(".");
        let mut ir = self.ir.borrow_mut();
        *state.scope_ids.entry(path).or_insert_with_key(|path| {
            ir.scopes.push(path.as_str().into());
            ir.scopes.len() as u32 - 1
        })
    }

    /// The origin of what an operation made of others builds: the outermost one's.
    pub(crate) fn origin_of(&self, operation: &str, place: Place) -> Origin {
        let mut state = self.build.borrow_mut();
        match state.places.is_empty() {
            true => {
                let scope = self.scope_id(&mut state, Some(operation));
                state.origin(Origin::new(place, scope))
            }
            false => state.origin(Origin::new(place, 0)),
        }
    }

    /// Everything built inside reports `place`, unless a place is set already: how an operation made
    /// of others lets errors name its caller.
    pub fn at<R>(&self, place: Place, build: impl FnOnce() -> R) -> R {
        let scope = self.build.borrow().scope_id;
        self.within(Origin::new(place, scope), build)
    }

    /// The name of a parameter.
    #[must_use]
    pub fn name(&self, parameter: Param) -> String {
        let ir = self.ir.borrow();
        let found = ir.parameters.get(parameter.index as usize);
        found
            .filter(|_| parameter.graph == self.id)
            .map_or_else(String::new, |p| p.name.to_string())
    }

    /// The tensor behind a key of this graph.
    #[must_use]
    pub fn lookup(&self, key: Key) -> Option<Tensor<'_>> {
        let known = key.graph == self.id && key.node.index() < self.ir.borrow().nodes.len();
        known.then(|| self.tensor(key.node))
    }

    /// All parameters, in the order in which they were made.
    #[must_use]
    pub fn parameters(&self) -> Vec<Param> {
        let count = self.ir.borrow().parameters.len() as u32;
        let graph = self.id;
        (0..count).map(|index| Param { graph, index }).collect()
    }

    /// The number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ir.borrow().nodes.len()
    }

    /// Whether there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn tensor(&self, id: NodeId) -> Tensor<'_> {
        Tensor { graph: self, id }
    }

    pub(crate) fn node(&self, id: NodeId) -> Node {
        self.ir.borrow().node(id).clone()
    }

    fn scoped(&self, name: &str) -> String {
        let state = self.build.borrow();
        let parts = state.scope.iter().map(String::as_str).chain([name]);
        parts.collect::<Vec<_>>().join(".")
    }

    pub(crate) fn origin(&self, place: Place) -> Origin {
        let state = self.build.borrow();
        state.origin(Origin::new(place, state.scope_id))
    }

    fn shape_of(
        &self,
        operation: &str,
        sizes: &[usize],
        dtype: DType,
        origin: Origin,
    ) -> Option<Shape> {
        match Shape::new(sizes).filter(|&shape| is_addressable((dtype, shape))) {
            Some(shape) => Some(shape),
            None => {
                let what = format!("{sizes:?} has too many axes or elements");
                self.fail(bad_shape(operation, what).kind.into(), origin);
                None
            }
        }
    }

    pub(crate) fn constant(
        &self,
        value: f64,
        dtype: DType,
        shape: Shape,
        place: Place,
    ) -> Tensor<'_> {
        let origin = self.origin(place);
        if !has_value(dtype, value) {
            let problem = bad_dtype("constant", format!("{value} is no {dtype}"));
            return self.fail(problem.kind.into(), origin);
        }
        let node = leaf(Op::Constant(value.to_bits()), dtype, shape);
        self.tensor(self.ir.borrow_mut().push(node, origin))
    }

    /// Whether a tensor belongs to this graph and did not fail to build.
    pub(crate) fn is_sound(&self, x: Tensor<'_>) -> bool {
        std::ptr::eq(x.graph, self) && self.ir.borrow().node(x.id).op != Op::Poison
    }

    /// Appends an operation: the one place where operands are checked for their graph and for
    /// poison, and where a problem becomes an error that shows the operands.
    pub(crate) fn apply<'g>(
        &'g self,
        operation: &str,
        inputs: &[Tensor<'g>],
        place: Place,
        infer: impl FnOnce(&[Type]) -> Result<(Op, Type), Problem>,
    ) -> Tensor<'g> {
        match self.types(operation, inputs, place) {
            Ok(types) => self.append((operation, inputs, place), infer(&types)),
            Err(failed) => failed,
        }
    }

    /// The types of operands that are in order; otherwise what the operation comes to.
    fn types<'g>(
        &'g self,
        operation: &str,
        inputs: &[Tensor<'g>],
        place: Place,
    ) -> Result<Vec<Type>, Tensor<'g>> {
        if inputs.iter().any(|x| !std::ptr::eq(x.graph, self)) {
            let operation = operation.to_owned();
            let error = Error::new(ErrorKind::MixedGraphs { operation });
            return Err(self.fail(self.show(error, inputs), self.origin(place)));
        }
        match inputs.iter().all(|x| self.is_sound(*x)) {
            true => Ok(inputs.iter().map(|x| (x.dtype(), x.shape())).collect()),
            false => Err(self.poison(self.origin(place))),
        }
    }

    fn append<'g>(
        &'g self,
        (operation, inputs, place): (&str, &[Tensor<'g>], Place),
        inferred: Result<(Op, Type), Problem>,
    ) -> Tensor<'g> {
        let origin = self.origin(place);
        let inferred = inferred.and_then(|(op, ty)| match is_addressable(ty) {
            true => Ok((op, ty)),
            false => Err(bad_shape(
                operation,
                format!("{} has too many elements", ty.1),
            )),
        });
        match inferred {
            Ok((op, (dtype, shape))) => {
                let local = inputs.iter().map(|x| self.localize(x.id)).collect();
                let Some(inputs): Option<Inputs> = local else {
                    self.leak(operation, inputs, place);
                    return self.poison(origin);
                };
                let region = self.ir.borrow().innermost(&inputs);
                let node = Node {
                    op,
                    inputs,
                    dtype,
                    shape: shape.into(),
                    region,
                };
                let node = self.kept_inside(node);
                self.tensor(self.ir.borrow_mut().push(node, origin))
            }
            Err(problem) => {
                let mut error = self.show(Error::new(problem.kind), inputs);
                if let Some(help) = problem.help {
                    error = error.help(help);
                }
                self.fail(error, origin)
            }
        }
    }
}

/// Whether a tensor of this type could be held in memory at all: an offset in bytes is an `isize`.
fn is_addressable((dtype, shape): Type) -> bool {
    let bytes = shape
        .checked_count()
        .and_then(|n| n.checked_mul(dtype.size()));
    bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok())
}

/// Whether a number is one of an element type, but for the rounding of fractions.
pub(crate) fn has_value(dtype: DType, value: f64) -> bool {
    let (low, high) = match dtype {
        DType::Bool => (0.0, 1.0),
        DType::U8 => (0.0, f64::from(u8::MAX)),
        DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        // Whole numbers further off are not all known as `f64`.
        _ => (-9e15, 9e15),
    };
    dtype.is_float() || value.fract() == 0.0 && (low..=high).contains(&value)
}

fn leaf(op: Op, dtype: DType, shape: Shape) -> Node {
    Node {
        op,
        inputs: Inputs::new(),
        dtype,
        shape: shape.into(),
        region: RegionId::default(),
    }
}
