//! What fusion makes and scheduling orders: launches over values, before anything has an address.

use std::sync::Arc;

use backprop_core::plan::{Phase, Purpose};
use backprop_core::{Piece, Relocate, Source};
use backprop_core::{Primitive, TensorType, View};

use crate::ir::{Origin, Turn};

/// Where a value lives.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Home {
    /// In the arena.
    Temporary,
    /// A parameter's value before the step.
    Parameter(u32),
    /// A parameter's new value.
    Update(u32),
    /// Fed.
    Input(u32),
    /// Known when the graph is built.
    Data(Arc<[u8]>),
    /// Fetched; the position among the fetches.
    Result(usize),
    /// The element of another value that belongs to the iteration of the loop at a depth.
    Slice { of: usize, depth: usize },
    /// In the arena, taken over by what a loop leaves in its place.
    Enter,
    /// What a loop's body leaves in the place of a value that entered it.
    Leave(usize),
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) tensor: Arc<TensorType>,
    pub(crate) home: Home,
    pub(crate) purpose: Purpose,
    pub(crate) name: Arc<str>,
}

/// A launch.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// Equal launches share it.
    pub(crate) primitive: Arc<Primitive>,
    /// Positions in [`Launches::values`].
    pub(crate) reads: Vec<usize>,
    pub(crate) writes: Vec<usize>,
    pub(crate) origin: Option<Origin>,
}

impl Launch {
    /// The pass it belongs to: that of its first operation.
    pub(crate) fn phase(&self) -> Phase {
        self.origin.map(|origin| origin.phase).unwrap_or_default()
    }
}

/// A body that runs several times.
#[derive(Clone, Debug)]
pub(crate) struct Loop {
    pub(crate) times: usize,
    /// The value that says how often it runs.
    pub(crate) count: Option<usize>,
    pub(crate) turn: Turn,
    /// What enters an iteration, and what leaves it in the same place.
    pub(crate) carries: Vec<(usize, usize)>,
    /// What runs just before the first iteration: gives values to what iterations may leave out.
    pub(crate) before: Vec<Launch>,
    pub(crate) body: Vec<Step>,
    /// The values from outside that the body reads, and those that it leaves behind.
    pub(crate) reads: Vec<usize>,
    pub(crate) writes: Vec<usize>,
}

/// One step of a list.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Launch(Box<Launch>),
    Loop(Loop),
}

impl Step {
    pub(crate) fn reads(&self) -> &[usize] {
        match self {
            Step::Launch(launch) => &launch.reads,
            Step::Loop(body) => &body.reads,
        }
    }

    pub(crate) fn writes(&self) -> &[usize] {
        match self {
            Step::Launch(launch) => &launch.writes,
            Step::Loop(body) => &body.writes,
        }
    }

    /// The launch, if it is one.
    pub(crate) fn launch(&self) -> Option<&Launch> {
        match self {
            Step::Launch(launch) => Some(launch),
            Step::Loop(_) => None,
        }
    }

    /// The values that it touches, each once.
    pub(crate) fn touches(&self) -> Vec<usize> {
        let mut touched: Vec<usize> = self.reads().iter().chain(self.writes()).copied().collect();
        touched.sort_unstable();
        touched.dedup();
        touched
    }
}

/// All launches of a step, in some order that respects what each reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Launches {
    pub(crate) values: Vec<Value>,
    pub(crate) list: Vec<Step>,
    pub(crate) scopes: Vec<Arc<str>>,
}

/// Appends a value.
pub(crate) fn add_value(values: &mut Vec<Value>, value: Value) -> usize {
    values.push(value);
    values.len() - 1
}

/// A step that copies what `view` sees of a value into another one.
pub(crate) fn copy(
    values: &[Value],
    (from, view): (usize, View),
    to: usize,
    origin: Option<Origin>,
) -> Step {
    let source = Source {
        tensor: (*values[from].tensor).clone(),
        view,
    };
    let into = View::dense(view.shape);
    let primitive = Primitive::Relocate(Relocate {
        pieces: vec![Piece { from: source, into }],
        fill: None,
        output: (*values[to].tensor).clone(),
    });
    Step::Launch(Box::new(Launch {
        primitive: Arc::new(primitive),
        reads: vec![from],
        writes: vec![to],
        origin,
    }))
}

/// A launch that writes 0 everywhere.
pub(crate) fn zeros(values: &[Value], to: usize, origin: Option<Origin>) -> Launch {
    let primitive = Primitive::Relocate(Relocate {
        pieces: Vec::new(),
        fill: Some(0f64.to_bits()),
        output: (*values[to].tensor).clone(),
    });
    Launch {
        primitive: Arc::new(primitive),
        reads: Vec::new(),
        writes: vec![to],
        origin,
    }
}

/// The value of which another one is a moving slice, or itself.
pub(crate) fn whole(values: &[Value], mut v: usize) -> usize {
    while let Home::Slice { of, .. } = values[v].home {
        v = of;
    }
    v
}

/// All launches, those of bodies where these stand.
pub(crate) fn flat(steps: &[Step]) -> Vec<&Launch> {
    let mut all: Vec<&Launch> = Vec::new();
    for step in steps {
        match step {
            Step::Launch(launch) => all.push(launch),
            Step::Loop(inner) => {
                all.extend(&inner.before);
                all.extend(flat(&inner.body));
            }
        }
    }
    all
}
