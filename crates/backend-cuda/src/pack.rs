//! A body at a few neighbouring points at once: what a thread loads, computes and stores.

use std::fmt::Write;

use backprop_core::{Body, Register, Shape, Sink};

use crate::schedule::Facing;
use crate::source::{
    Fold, Operand, Point, coordinates, load, position, statements, storage, store,
};

/// How the elements of an operand lie at the points of a pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// One element for all.
    Splat,
    /// Neighbours, whose first may be loaded with the others.
    Whole,
    /// Apart from each other.
    Apart,
}

/// A body over a folded space, of which a thread takes `width` neighbours along the last axis.
#[derive(Clone, Debug)]
pub(crate) struct Pack<'a> {
    pub(crate) fold: Fold,
    pub(crate) width: usize,
    body: &'a Body,
    inputs: usize,
    /// What is stored at each point: the registers of the operands after the inputs.
    stored: Vec<Register>,
    /// The inputs that are loaded at each pack.
    loaded: Vec<usize>,
    /// Those that are loaded once for all reduced points, or for one after the other.
    steady: Vec<usize>,
    /// Inputs whose value is not read from memory, as the sums of a contraction.
    given: usize,
}

impl<'a> Pack<'a> {
    /// Folds the space of a body with its inputs and stored outputs.
    pub(crate) fn new(space: Shape, body: &'a Body, reduced: &dyn Fn(usize) -> bool) -> Pack<'a> {
        let inputs = body.inputs.iter().enumerate();
        let mut operands: Vec<Operand> = inputs.map(|(i, s)| Operand::read(i, s)).collect();
        let mut stored = Vec::new();
        for (i, output) in body.outputs.iter().enumerate() {
            let at_points = match output.sink {
                Sink::Store => output.tensor.shape.count() == space.count(),
                Sink::Concat(_) => true,
                Sink::Reduce(..) => false,
            };
            for (piece, register) in output.registers().enumerate().filter(|_| at_points) {
                let place = output.place(space, piece);
                operands.push(Operand::placed(i, &output.tensor, place));
                stored.push(register);
            }
        }
        Pack {
            fold: Fold::new(space, operands, &coordinates(body), reduced),
            width: 1,
            body,
            inputs: body.inputs.len(),
            stored,
            loaded: (0..body.inputs.len()).collect(),
            steady: Vec::new(),
            given: 0,
        }
    }

    /// As many neighbours as one access of 16 bytes holds, if all operands can be had so.
    pub(crate) fn widest(mut self) -> Pack<'a> {
        let sizes = self.fold.operands.iter().map(|o| o.dtype().size());
        let mut width = 16 / sizes.max().unwrap_or(16);
        let inner = self.fold.axes.last().map_or(1, |axis| axis.size);
        let apart =
            |pack: &Pack<'_>| (0..pack.fold.operands.len()).any(|i| pack.way(i) == Way::Apart);
        while width > 1 {
            self.width = width;
            if inner.is_multiple_of(width) && !apart(&self) {
                return self;
            }
            width /= 2;
        }
        self.width = 1;
        self
    }

    pub(crate) fn of_width(mut self, width: usize) -> Pack<'a> {
        self.width = width;
        self
    }

    /// The same where the first `given` inputs of the program are no tensors (the pack of number `i`
    /// stands in `gi`), and the body's own inputs come after `reads` others.
    pub(crate) fn after(mut self, given: usize, reads: usize) -> Pack<'a> {
        self.given = given;
        for (i, operand) in self.fold.operands.iter_mut().take(self.inputs).enumerate() {
            operand.name = format!("r{}", reads + i);
        }
        self
    }

    /// Loads these inputs only.
    pub(crate) fn loading(mut self, inputs: Vec<usize>) -> Pack<'a> {
        self.loaded = inputs;
        self
    }

    /// Loads what is the same at all reduced points apart from what is not.
    pub(crate) fn hoisting(mut self) -> Pack<'a> {
        let moves = |&i: &usize| self.fold.part(true).any(|(_, axis)| axis.strides[i] != 0);
        (self.loaded, self.steady) = self.loaded.iter().partition(|i| moves(i));
        self
    }

    /// The same with only those inputs loaded at each pack whose elements are not the same for all kept
    /// points, and the others, which are loaded apart for each pack.
    pub(crate) fn parted(&self) -> (Pack<'a>, Pack<'a>) {
        let moves = |&i: &usize| self.fold.part(false).any(|(_, axis)| axis.strides[i] != 0);
        let (moving, others): (Vec<_>, Vec<_>) = self.loaded.iter().partition(|i| moves(i));
        let mut pack = self.clone().loading(moving);
        pack.steady.extend(&others);
        (pack, self.clone().loading(others))
    }

    pub(crate) fn loaded(&self) -> &[usize] {
        &self.loaded
    }

    /// Along which points most operands have their elements side by side.
    pub(crate) fn facing(&self) -> Facing {
        let last = |reduced: bool| self.fold.part(reduced).last().map(|(axis, _)| axis);
        let dense = |axis: Option<usize>| {
            let at = |i: usize| axis.map(|axis| self.fold.axes[axis].strides[i]);
            let stored = self.inputs..self.fold.operands.len();
            let moved = self.loaded.iter().copied().chain(stored);
            moved.filter(|&i| at(i) == Some(1)).count()
        };
        match dense(last(true)) > dense(last(false)) {
            true => Facing::Reduced,
            false => Facing::Kept,
        }
    }

    /// Packs that a thread loads ahead: about as many as registers hold.
    pub(crate) fn ahead(&self) -> usize {
        (32 / (self.loaded.len().max(1) * self.width)).clamp(1, 16)
    }

    /// Declares and loads what is the same at all reduced points.
    pub(crate) fn steady(&self) -> String {
        let steady = self.clone().loading(self.steady.clone());
        steady.room("") + &steady.loads("")
    }

    fn inner(&self) -> usize {
        self.fold.axes.len().saturating_sub(1)
    }

    fn stride(&self, operand: usize) -> isize {
        match self.fold.axes.is_empty() {
            true => 0,
            false => self.fold.address(operand).stride(self.inner()),
        }
    }

    fn way(&self, operand: usize) -> Way {
        let Operand { tensor, view, .. } = &self.fold.operands[operand];
        let width = self.width as isize;
        let multiples =
            (0..self.inner()).all(|axis| self.fold.address(operand).stride(axis) % width == 0);
        match self.stride(operand) {
            0 => Way::Splat,
            _ if width == 1 => Way::Apart,
            1 if multiples && view.offset % self.width == 0 && tensor.layout.is_dense() => {
                Way::Whole
            }
            _ => Way::Apart,
        }
    }

    /// Defines `aligned`: whether what is loaded whole lies at addresses that allow it.
    pub(crate) fn alignment(&self) -> String {
        let whole = (0..self.fold.operands.len()).filter(|&i| self.way(i) == Way::Whole);
        let tests: Vec<String> = whole
            .map(|i| format!("bp_aligned({})", self.fold.operands[i].name))
            .collect();
        match tests.is_empty() {
            true => String::new(),
            false => format!("const bool aligned = {};\n", tests.join(" && ")),
        }
    }

    /// Declares where the inputs of packs are kept: `suffix` as in `[2]`.
    pub(crate) fn room(&self, suffix: &str) -> String {
        let mut text = String::new();
        for &i in &self.loaded {
            let element = storage(self.fold.operands[i].dtype());
            let _ = writeln!(text, "bp_pack<{element}, {}> x{i}{suffix};", self.slots(i));
        }
        text
    }

    fn slots(&self, operand: usize) -> usize {
        match self.way(operand) {
            Way::Splat => 1,
            Way::Whole | Way::Apart => self.width,
        }
    }

    /// Loads the inputs of the pack at the coordinates.
    pub(crate) fn loads(&self, suffix: &str) -> String {
        let mut text = String::new();
        for &i in &self.loaded {
            let Operand { name, tensor, .. } = &self.fold.operands[i];
            let number = self.fold.address(i).number();
            let _ = match self.way(i) {
                Way::Splat => {
                    let at = position(tensor, &number);
                    writeln!(text, "x{i}{suffix}.at[0] = {name}[{at}];")
                }
                Way::Whole => writeln!(
                    text,
                    "x{i}{suffix} = bp_load<{}>({name} + ({number}), aligned);",
                    self.width
                ),
                Way::Apart => {
                    let at = position(tensor, &self.beside(&number, i, "i"));
                    let each = format!("x{i}{suffix}.at[i] = {name}[{at}];");
                    writeln!(text, "{}", self.each(&each))
                }
            };
        }
        text
    }

    /// The number of an element, `step` points on.
    fn beside(&self, number: &str, operand: usize, step: &str) -> String {
        match (self.width, self.stride(operand)) {
            (1, _) => number.to_owned(),
            (_, stride) => format!("{number} + {step} * ({stride})"),
        }
    }

    /// A statement for each point `i` of a pack.
    pub(crate) fn each(&self, statement: &str) -> String {
        let width = self.width;
        format!("#pragma unroll\nfor (int i = 0; i < {width}; ++i) {{ {statement} }}")
    }

    /// Computes the registers that are `wanted` at each point of a pack, runs `then` there, and stores
    /// what is stored.
    pub(crate) fn compute(
        &self,
        suffix: &str,
        wanted: &dyn Fn(Register) -> bool,
        then: &str,
    ) -> String {
        let statements = statements(&self.body.program, &self.here(suffix), wanted);
        self.store(&format!("{statements}{then}"))
    }

    /// What a program finds at point `i` of a pack.
    pub(crate) fn here<'p>(&'p self, suffix: &'p str) -> Here<'p, 'a> {
        Here { pack: self, suffix }
    }

    /// Runs `each` at every point, which defines the registers, and stores what is stored.
    pub(crate) fn store(&self, each: &str) -> String {
        let mut text = String::new();
        let mut set = String::new();
        let stored = self.fold.operands.iter().skip(self.inputs);
        for (y, (Operand { tensor, .. }, register)) in stored.zip(&self.stored).enumerate() {
            let (element, width) = (storage(tensor.dtype), self.width);
            let _ = writeln!(text, "bp_pack<{element}, {width}> y{y};");
            let value = store(tensor.dtype, &format!("v{}", register.0));
            let _ = writeln!(set, "y{y}.at[i] = {value};");
        }
        let _ = writeln!(text, "{}", self.each(&format!("\n{each}{set}")));
        for operand in self.inputs..self.fold.operands.len() {
            let Operand { name, tensor, .. } = &self.fold.operands[operand];
            let y = operand - self.inputs;
            let number = self.fold.address(operand).number();
            let _ = match self.way(operand) {
                Way::Whole => writeln!(
                    text,
                    "bp_store<{}>({name} + ({number}), y{y}, aligned);",
                    self.width
                ),
                Way::Splat | Way::Apart => {
                    let at = position(tensor, &self.beside(&number, operand, "i"));
                    let each = self.each(&format!("{name}[{at}] = y{y}.at[i];"));
                    writeln!(text, "{each}")
                }
            };
        }
        text
    }
}

/// A point of a pack, number `i`.
pub(crate) struct Here<'p, 'a> {
    pack: &'p Pack<'a>,
    suffix: &'p str,
}

impl Point for Here<'_, '_> {
    fn input(&self, input: usize) -> String {
        let Some(operand) = input.checked_sub(self.pack.given) else {
            return format!("g{input}.at[i]");
        };
        let at = match self.pack.way(operand) {
            Way::Splat => "0",
            Way::Whole | Way::Apart => "i",
        };
        let dtype = self.pack.fold.operands[operand].dtype();
        let suffix = match self.pack.steady.contains(&operand) {
            true => "",
            false => self.suffix,
        };
        load(dtype, &format!("x{operand}{suffix}.at[{at}]"))
    }

    fn coordinate(&self, axis: usize) -> String {
        let name = self.pack.fold.original(axis);
        match name == Fold::coordinate(self.pack.inner()) {
            true => format!("{name} + i"),
            false => name,
        }
    }
}
