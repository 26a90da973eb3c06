//! Plans written by hand: what the tests of the plan checker start from.

use std::sync::Arc;

use backprop_core::plan::{
    Access, Buffer, Carry, Draft, Launch, Phase, Purpose, Role, Span, Step, Value, ValueId,
};
use backprop_core::{
    Axes, Body, DType, Inst, Output, Piece, Primitive, Program, Reduction, Register, Relocate,
    Scalar, Shape, Sink, Source, Sweep, TensorType, View,
};

/// Elements of a row: 64 bytes of `f32`, so that rows of a stack are aligned.
pub(crate) const ROW: usize = 16;
/// Rows of a stack, and rounds of a loop over it.
pub(crate) const ROWS: usize = 4;

pub(crate) fn shape(sizes: &[usize]) -> Shape {
    Shape::new(sizes).unwrap()
}

pub(crate) fn floats(sizes: &[usize]) -> TensorType {
    TensorType::dense(DType::F32, shape(sizes))
}

/// `function` of two rows. Its result may take the place of either.
pub(crate) fn binary(function: Scalar) -> Primitive {
    let mut program = Program::default();
    let operands = [0, 1].map(|i| program.push(Inst::Input(i), DType::F32).unwrap());
    let [a, b] = operands;
    let register = program
        .push(Inst::Apply(function, [a, b, a]), DType::F32)
        .unwrap();
    let row = floats(&[ROW]);
    let output = Output {
        register,
        sink: Sink::Store,
        tensor: row.clone(),
    };
    Primitive::Sweep(Sweep {
        space: shape(&[ROW]),
        body: Body {
            inputs: vec![Source::dense(row.clone()), Source::dense(row)],
            program,
            outputs: vec![output],
        },
    })
}

/// A copy of a row. Its result may not take the place of its operand.
pub(crate) fn copy() -> Primitive {
    copy_of(floats(&[ROW]))
}

fn copy_of(tensor: TensorType) -> Primitive {
    let piece = Piece {
        from: Source::dense(tensor.clone()),
        into: View::dense(tensor.shape),
    };
    Primitive::Relocate(Relocate {
        pieces: vec![piece],
        fill: None,
        output: tensor,
    })
}

/// The sum of a stack over its rows.
pub(crate) fn total() -> Primitive {
    let space = shape(&[ROWS, ROW]);
    let output = Output {
        register: Register(0),
        sink: Sink::Reduce(Reduction::Sum, Axes::NONE.with(0)),
        tensor: floats(&[ROW]),
    };
    Primitive::Sweep(Sweep {
        space,
        body: Body {
            inputs: vec![Source::dense(floats(&[ROWS, ROW]))],
            program: Program::identity(DType::F32),
            outputs: vec![output],
        },
    })
}

/// A draft under construction. Values are named; buffers grow as values are placed.
#[derive(Default)]
pub(crate) struct Sketch(pub(crate) Draft);

impl Sketch {
    pub(crate) fn primitive(&mut self, primitive: Primitive) -> usize {
        self.0.primitives.push(primitive);
        self.0.scratch.push(0);
        self.0.primitives.len() - 1
    }

    /// A value at the end of its buffer.
    pub(crate) fn value(&mut self, name: &str, role: Role, tensor: TensorType) -> ValueId {
        let buffer = match role {
            Role::Temporary => Buffer::Arena,
            Role::Parameter | Role::Update { .. } => Buffer::State,
            Role::Input | Role::Constant | Role::Result => Buffer::Io,
        };
        let size = &mut self.0.sizes[buffer as usize];
        let (offset, bytes) = (*size, tensor.bytes());
        *size += bytes.next_multiple_of(64);
        let span = Span {
            buffer,
            offset,
            bytes,
        };
        self.at(name, role, tensor.into(), span)
    }

    pub(crate) fn row(&mut self, name: &str, role: Role) -> ValueId {
        self.value(name, role, floats(&[ROW]))
    }

    pub(crate) fn stack(&mut self, name: &str, role: Role) -> ValueId {
        self.value(name, role, floats(&[ROWS, ROW]))
    }

    /// A value in the place of another.
    pub(crate) fn over(&mut self, name: &str, role: Role, other: ValueId) -> ValueId {
        let Value { tensor, span, .. } = self.0.values[other.index()].clone();
        self.at(name, role, tensor, span)
    }

    fn at(&mut self, name: &str, role: Role, tensor: Arc<TensorType>, span: Span) -> ValueId {
        self.0.values.push(Value {
            tensor,
            role,
            purpose: Purpose::Plain,
            span,
            name: name.into(),
        });
        ValueId(self.0.values.len() as u32 - 1)
    }
}

pub(crate) fn whole(value: ValueId) -> Access {
    Access::whole(value)
}

/// Row `t` of a stack, where `t` is the round of the outermost loop.
pub(crate) fn slice(value: ValueId) -> Access {
    let mut access = Access::whole(value);
    access.strides.get_or_insert_default()[0] = ROW * 4;
    access
}

pub(crate) fn launch(primitive: usize, reads: &[Access], writes: &[Access]) -> Step<Launch> {
    Step::Launch(Launch {
        primitive,
        reads: reads.to_vec(),
        writes: writes.to_vec(),
        scratch: None,
        place: None,
        scope: "".into(),
        phase: Phase::Forward,
    })
}

/// `t = x + c`, `w' = w - t`, `r = t * w'`.
pub(crate) fn line() -> Draft {
    let mut s = Sketch::default();
    let (add, subtract, multiply) = (
        s.primitive(binary(Scalar::Add)),
        s.primitive(binary(Scalar::Sub)),
        s.primitive(binary(Scalar::Mul)),
    );
    let (x, c) = (s.row("x", Role::Input), s.row("c", Role::Constant));
    let w = s.row("w", Role::Parameter);
    let update = s.over("w'", Role::Update { of: w }, w);
    let (t, r) = (s.row("t", Role::Temporary), s.row("r", Role::Result));
    s.0.steps = vec![
        launch(add, &[whole(x), whole(c)], &[whole(t)]),
        launch(subtract, &[whole(w), whole(t)], &[whole(update)]),
        launch(multiply, &[whole(t), whole(update)], &[whole(r)]),
    ];
    s.0
}

/// Running sums of the rows of `xs`, stacked in `ys`, from `start` on; the last one is `last`.
/// In reverse, the sums run from the last row to the first.
pub(crate) fn scan(reverse: bool) -> Draft {
    let mut s = Sketch::default();
    let (add, copy) = (s.primitive(binary(Scalar::Add)), s.primitive(copy()));
    let (xs, start) = (s.stack("xs", Role::Input), s.row("start", Role::Input));
    let (ys, last) = (s.stack("ys", Role::Result), s.row("last", Role::Result));
    let enter = s.row("enter", Role::Temporary);
    let leave = s.over("leave", Role::Temporary, enter);
    s.0.steps = vec![
        launch(copy, &[whole(start)], &[whole(enter)]),
        Step::Loop {
            times: ROWS,
            count: None,
            reverse,
            carries: vec![Carry { enter, leave }],
            body: vec![
                launch(add, &[whole(enter), slice(xs)], &[whole(leave)]),
                launch(copy, &[whole(leave)], &[slice(ys)]),
            ],
        },
        launch(copy, &[whole(leave)], &[whole(last)]),
    ];
    s.0
}

/// The two directions of a scan: squares of the rows of `xs` are stacked in `squares`; a loop in
/// reverse multiplies them into `product`, and `total` is their sum.
pub(crate) fn there_and_back() -> Draft {
    let mut s = Sketch::default();
    let (multiply, copy, total) = (
        s.primitive(binary(Scalar::Mul)),
        s.primitive(copy()),
        s.primitive(total()),
    );
    let (xs, ones) = (s.stack("xs", Role::Input), s.row("ones", Role::Constant));
    let (product, sum) = (s.row("product", Role::Result), s.row("total", Role::Result));
    let squares = s.stack("squares", Role::Temporary);
    let enter = s.row("enter", Role::Temporary);
    let leave = s.over("leave", Role::Temporary, enter);
    s.0.steps = vec![
        Step::Loop {
            times: ROWS,
            count: None,
            reverse: false,
            carries: vec![],
            body: vec![launch(multiply, &[slice(xs), slice(xs)], &[slice(squares)])],
        },
        launch(total, &[whole(squares)], &[whole(sum)]),
        launch(copy, &[whole(ones)], &[whole(enter)]),
        Step::Loop {
            times: ROWS,
            count: None,
            reverse: true,
            carries: vec![Carry { enter, leave }],
            body: vec![launch(
                multiply,
                &[whole(enter), slice(squares)],
                &[whole(leave)],
            )],
        },
        launch(copy, &[whole(leave)], &[whole(product)]),
    ];
    s.0
}

/// As [`scan`], over as many rows as `count` says; rows of `ys` that are not run hold `filler`.
pub(crate) fn counted(reverse: bool) -> Draft {
    let mut draft = scan(reverse);
    let mut s = Sketch(std::mem::take(&mut draft));
    let one = TensorType::dense(DType::I64, Shape::SCALAR);
    let count = s.value("count", Role::Input, one);
    let filler = s.stack("filler", Role::Input);
    let fill = s.primitive(copy_of(floats(&[ROWS, ROW])));
    let named = |name: &str| s.0.values.iter().position(|value| &*value.name == name);
    let ys = ValueId(named("ys").unwrap() as u32);
    for step in &mut s.0.steps {
        if let Step::Loop { count: number, .. } = step {
            *number = Some(count);
        }
    }
    s.0.steps
        .insert(0, launch(fill, &[whole(filler)], &[whole(ys)]));
    s.0
}

/// Rounds of a loop that only one value passes through: `w' = w + x`, as often as it runs.
pub(crate) fn repeated_update() -> Draft {
    let mut s = Sketch::default();
    let add = s.primitive(binary(Scalar::Add));
    let (x, w) = (s.row("x", Role::Input), s.row("w", Role::Parameter));
    let update = s.over("w'", Role::Update { of: w }, w);
    s.0.steps = vec![Step::Loop {
        times: 100,
        count: None,
        reverse: false,
        carries: vec![Carry {
            enter: w,
            leave: update,
        }],
        body: vec![launch(add, &[whole(w), whole(x)], &[whole(update)])],
    }];
    s.0
}
