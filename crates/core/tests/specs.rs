//! Specs that make no sense are refused, whatever a plan does with them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "every test file uses its part of the drafts")]

mod drafts;

use backprop_core::{
    Axes, Body, Conv, DType, ErrorKind, Indexing, Inst, MatMul, Operand, Output, Piece, Pool,
    Primitive, Program, Random, Reduction, Register, Relocate, Rows, Scalar, Shape, Sink, Source,
    Sweep, TensorType, View, Window,
};
use drafts::{ROW, floats, shape};

type Fault<S> = (&'static str, fn(&mut S));

#[track_caller]
fn check<S: Clone>(sound: S, wrap: fn(S) -> Primitive, faults: &[Fault<S>]) {
    wrap(sound.clone()).check().unwrap();
    for (what, plant) in faults {
        let mut spec = sound.clone();
        plant(&mut spec);
        match wrap(spec).check() {
            Err(ErrorKind::Plan { .. }) => {}
            outcome => panic!("{what}: {outcome:?}"),
        }
    }
}

fn sum() -> Sweep {
    match drafts::binary(Scalar::Add) {
        Primitive::Sweep(sweep) => sweep,
        other => panic!("{other} is no sweep"),
    }
}

#[test]
fn sweeps() {
    let faults: &[Fault<Sweep>] = &[
        ("a view of another space", |s| s.space = shape(&[ROW + 1])),
        ("a view that leaves its tensor", |s| {
            s.body.inputs[0].view.offset = 1;
        }),
        ("a view below its tensor", |s| {
            s.body.inputs[0].view.strides[0] = -1;
        }),
        ("a view beyond all numbers", |s| {
            s.body.inputs[0].view.strides[0] = isize::MAX;
        }),
        ("an input of another type", |s| {
            s.body.inputs[0].tensor.dtype = DType::F64;
        }),
        ("an input too few", |s| {
            s.body.inputs.pop();
        }),
        ("no output", |s| s.body.outputs.clear()),
        ("an output of another type", |s| {
            s.body.outputs[0].tensor.dtype = DType::F64;
        }),
        ("an output of another size", |s| {
            s.body.outputs[0].tensor = floats(&[ROW - 1]);
        }),
        ("an output of no register", |s| {
            s.body.outputs[0].register = Register(9);
        }),
        ("a reduction over no axis of the space", |s| {
            s.body.outputs[0].sink = Sink::Reduce(Reduction::Sum, Axes::NONE.with(1));
        }),
        ("a coordinate of no axis", |s| {
            s.body.program.push(Inst::Coordinate(1), DType::I64);
        }),
        ("a row reduction", |s| {
            let reduce = Inst::Reduce(Reduction::Sum, Register(0));
            s.body.program.push(reduce, DType::F32);
        }),
    ];
    check(sum(), Primitive::Sweep, faults);
}

#[test]
fn programs_take_only_what_fits() {
    let mut program = Program::default();
    let x = program.push(Inst::Input(0), DType::F32).unwrap();
    let i = program.push(Inst::Input(1), DType::I32).unwrap();
    let later = Register(9);
    for (inst, dtype) in [
        (Inst::Apply(Scalar::Add, [x, i, x]), DType::F32),
        (Inst::Apply(Scalar::Add, [x, later, x]), DType::F32),
        (Inst::Apply(Scalar::Add, [x, x, x]), DType::F64),
        (Inst::Apply(Scalar::Exp, [i, i, i]), DType::I32),
        (Inst::Apply(Scalar::Lt, [x, x, x]), DType::F32),
        (Inst::Reduce(Reduction::Sum, x), DType::F64),
        (Inst::Coordinate(0), DType::F32),
        (Inst::Cast(later), DType::F32),
    ] {
        assert_eq!(program.push(inst, dtype), None, "{inst:?}");
    }
}

fn softmax_sum() -> Rows {
    let space = shape(&[4, ROW]);
    let mut program = Program::default();
    let x = program.push(Inst::Input(0), DType::F32).unwrap();
    let exp = program
        .push(Inst::Apply(Scalar::Exp, [x; 3]), DType::F32)
        .unwrap();
    let sum = program
        .push(Inst::Reduce(Reduction::Sum, exp), DType::F32)
        .unwrap();
    let stored = |register, sizes: &[usize]| Output {
        register,
        sink: Sink::Store,
        tensor: floats(sizes),
    };
    Rows {
        space,
        axes: Axes::NONE.with(1),
        body: Body {
            inputs: vec![Source::dense(floats(&[4, ROW]))],
            program,
            outputs: vec![stored(exp, &[4, ROW]), stored(sum, &[4])],
        },
    }
}

#[test]
fn rows() {
    let faults: &[Fault<Rows>] = &[
        ("rows along no axis of the space", |s| {
            s.axes = s.axes.with(2)
        }),
        ("a reduced output", |s| {
            s.body.outputs[0].sink = Sink::Reduce(Reduction::Sum, s.axes);
        }),
        ("a value a point stored as one a row", |s| {
            s.body.outputs[0].tensor = floats(&[4]);
        }),
        ("a value a row stored as one a point", |s| {
            s.body.outputs[1].tensor = floats(&[4, ROW]);
        }),
        ("a reduction of one value a row", |s| {
            let reduce = Inst::Reduce(Reduction::Max, Register(2));
            s.body.program.push(reduce, DType::F32);
        }),
    ];
    check(softmax_sum(), Primitive::Rows, faults);
}

/// A plain product of two `[2, 2]` matrices.
fn product() -> MatMul {
    let operand = || Operand::plain(Source::dense(floats(&[2, 2])));
    MatMul {
        batch: Shape::SCALAR,
        m: 2,
        k: 2,
        n: 2,
        left: operand(),
        right: operand(),
        accumulator: DType::F32,
        space: shape(&[2, 2]),
        epilogue: Body::store(floats(&[2, 2])),
    }
}

#[test]
fn matmuls() {
    let faults: &[Fault<MatMul>] = &[
        ("another number of rows", |s| s.m = 3),
        ("another inner size", |s| s.k = 3),
        ("an epilogue of another space", |s| s.space = shape(&[2, 3])),
        ("more axes than there can be", |s| s.batch = shape(&[1; 7])),
        ("sums read as another type", |s| s.accumulator = DType::F64),
        ("an empty prologue", |s| s.left.program = Program::default()),
        ("a prologue without its input", |s| s.left.inputs.clear()),
        ("a prologue of another type", |s| {
            s.right.program = Program::identity(DType::F64);
        }),
        ("a row reduction in a prologue", |s| {
            let reduce = Inst::Reduce(Reduction::Sum, Register(0));
            s.left.program.push(reduce, DType::F32);
        }),
        ("a row reduction in the epilogue", |s| {
            let reduce = Inst::Reduce(Reduction::Sum, Register(0));
            s.epilogue.program.push(reduce, DType::F32);
        }),
        ("an epilogue without its input", |s| {
            s.epilogue.program.push(Inst::Input(1), DType::F32);
        }),
    ];
    check(product(), Primitive::MatMul, faults);
}

#[test]
fn only_plain_products_are_plain() {
    let plain = |change: fn(&mut MatMul)| {
        let mut spec = product();
        change(&mut spec);
        let spec = Primitive::MatMul(spec);
        spec.check().unwrap();
        spec.is_plain()
    };
    assert!(plain(|_| ()));
    let mixed = |s: &mut MatMul| {
        let half = TensorType::dense(DType::F16, shape(&[2, 2]));
        s.right = Operand::plain(Source::dense(half));
    };
    assert!(!plain(mixed), "two types of operands");
    let wide = |s: &mut MatMul| {
        s.accumulator = DType::F64;
        s.epilogue = Body::store(TensorType::dense(DType::F64, shape(&[2, 2])));
    };
    assert!(!plain(wide), "another accumulator");
}

/// Two rows one after the other.
fn concatenation() -> Relocate {
    let output = View::dense(shape(&[2, ROW]));
    let piece = |row: usize| Piece {
        from: Source::dense(floats(&[1, ROW])),
        into: output.slice(&[row, 0], &[1, 1], shape(&[1, ROW])),
    };
    Relocate {
        pieces: vec![piece(0), piece(1)],
        fill: None,
        output: floats(&[2, ROW]),
    }
}

#[test]
fn relocations() {
    let faults: &[Fault<Relocate>] = &[
        ("elements that nothing covers", |s| {
            s.pieces.pop();
        }),
        ("a box that leaves the output", |s| {
            s.pieces[1].into.offset += 1;
        }),
        ("a box twice", |s| s.pieces[1].into = s.pieces[0].into),
        ("a box onto one element", |s| {
            s.pieces[0].into.strides[1] = 0;
        }),
        ("a box across the axes", |s| {
            s.pieces[0].into.offset = 1;
            s.fill = Some(0);
        }),
        ("a view of another shape than its box", |s| {
            s.pieces[0].from = Source::dense(floats(&[ROW]));
        }),
    ];
    check(concatenation(), Primitive::Relocate, faults);
}

#[test]
fn lookups() {
    let sound = Indexing {
        table: floats(&[2, 5, 3]),
        indices: TensorType::dense(DType::I32, shape(&[4])),
        picked: floats(&[2, 4, 3]),
        outer: 2,
        rows: 5,
        inner: 3,
    };
    let faults: &[Fault<Indexing>] = &[
        ("another number of rows", |s| s.rows = 4),
        ("a number of rows beyond all", |s| s.rows = usize::MAX),
        ("another number picked", |s| {
            s.picked = floats(&[2, 5, 3]);
        }),
        ("two types", |s| s.table.dtype = DType::F64),
        ("rows numbered by bytes", |s| s.indices.dtype = DType::U8),
        ("rows numbered by reals", |s| s.indices.dtype = DType::F32),
        ("picked from nothing", |s| {
            (s.rows, s.table) = (0, floats(&[2, 0, 3]));
        }),
    ];
    check(sound.clone(), Primitive::Gather, faults);
    check(sound, Primitive::ScatterAdd, faults);
}

#[test]
fn random_numbers() {
    let sound = Random {
        key: TensorType::dense(DType::I64, shape(&[2])),
        output: TensorType::dense(DType::F64, Shape::SCALAR),
    };
    let faults: &[Fault<Random>] = &[
        ("a key of other integers", |s| s.key.dtype = DType::I32),
        ("a key of one number", |s| s.key.shape = shape(&[1])),
        ("whole random numbers", |s| s.output.dtype = DType::I64),
        ("halves", |s| s.output.dtype = DType::F16),
    ];
    check(sound, Primitive::Random, faults);
}

fn window(size: usize) -> Window {
    Window {
        size,
        stride: 1,
        dilation: 1,
        padding: 1,
    }
}

const INPUT: [usize; 3] = [2, 4, 9];
const FILTER: [usize; 3] = [6, 2, 3];
const OUTPUT: [usize; 3] = [2, 6, 9];

/// A convolution in two groups, as each of the three primitives computes it.
fn convolution([left, right, result]: [[usize; 3]; 3]) -> Conv {
    let plain = |sizes| Operand::plain(Source::dense(floats(sizes)));
    Conv {
        input: shape(&INPUT),
        filter: shape(&FILTER),
        output: shape(&OUTPUT),
        windows: vec![window(3)],
        groups: 2,
        left: plain(&left),
        right: plain(&right),
        accumulator: DType::F32,
        space: shape(&result),
        epilogue: Body::store(floats(&result)),
    }
}

#[test]
fn convolutions() {
    let faults: &[Fault<Conv>] = &[
        ("no group", |s| s.groups = 0),
        ("groups that do not divide the channels", |s| s.groups = 3),
        ("groups beyond all numbers", |s| s.groups = usize::MAX),
        ("an axis without a window", |s| s.windows.clear()),
        ("a window too many", |s| s.windows.push(window(3))),
        ("an axis too few", |s| s.output = shape(&[2, 6])),
        ("another batch", |s| s.output = shape(&[3, 6, 9])),
        ("another number of channels", |s| {
            s.input = shape(&[2, 5, 9]);
        }),
        ("other output channels", |s| s.output = shape(&[2, 7, 9])),
        ("other taps", |s| s.windows[0].size = 2),
        ("no stride", |s| s.windows[0].stride = 0),
        ("no dilation", |s| s.windows[0].dilation = 0),
        ("a reach beyond all numbers", |s| {
            s.windows[0].dilation = usize::MAX;
        }),
        ("padding beyond all numbers", |s| {
            s.windows[0].padding = usize::MAX;
        }),
        ("a filter of another shape", |s| {
            s.right = Operand::plain(Source::dense(floats(&[6, 2, 4])));
        }),
        ("a view that leaves its tensor", |s| {
            s.left.inputs[0].view.offset = 1;
        }),
        ("an empty prologue", |s| s.left.program = Program::default()),
        ("sums read as another type", |s| s.accumulator = DType::F64),
        ("an epilogue of another space", |s| s.space = shape(&[2, 6])),
        ("a result of another size", |s| {
            s.epilogue.outputs[0].tensor = floats(&[2, 6, 8]);
        }),
        ("a row reduction in the epilogue", |s| {
            let reduce = Inst::Reduce(Reduction::Sum, Register(0));
            s.epilogue.program.push(reduce, DType::F32);
        }),
    ];
    check(
        convolution([INPUT, FILTER, OUTPUT]),
        Primitive::Conv,
        faults,
    );
    let [input, filter] = [
        convolution([OUTPUT, FILTER, INPUT]),
        convolution([INPUT, OUTPUT, FILTER]),
    ];
    check(input.clone(), Primitive::ConvVjpInput, &faults[..14]);
    check(filter.clone(), Primitive::ConvVjpFilter, &faults[..14]);
    assert!(Primitive::Conv(input).check().is_err(), "an output read");
    assert!(Primitive::ConvVjpInput(filter).check().is_err());
}

/// Windows of three along the last axis.
fn pool(operands: &[&[usize]], result: &[usize]) -> Pool {
    let source = |sizes: &&[usize]| Source::dense(floats(sizes));
    Pool {
        reduction: Reduction::Max,
        input: shape(&[2, 9]),
        output: shape(&[2, 5]),
        windows: vec![window(3)],
        operands: operands.iter().map(source).collect(),
        result: floats(result),
    }
}

#[test]
fn pools() {
    let faults: &[Fault<Pool>] = &[
        ("an empty window", |s| s.windows[0].size = 0),
        ("no stride", |s| s.windows[0].stride = 0),
        ("no dilation", |s| s.windows[0].dilation = 0),
        ("places beyond all numbers", |s| {
            s.windows[0].stride = usize::MAX;
        }),
        ("windows along more axes than there are", |s| {
            s.windows = vec![window(3); 3];
        }),
        ("another size of an axis without a window", |s| {
            s.output = shape(&[3, 5]);
        }),
        ("an axis too few", |s| s.input = shape(&[9])),
        ("no operand", |s| s.operands.clear()),
        ("a view of another shape", |s| {
            s.operands[0] = Source::dense(floats(&[9, 2]));
        }),
        ("a view that leaves its tensor", |s| {
            s.operands[0].view.offset = 1;
        }),
        ("a result of another type", |s| {
            s.result.dtype = DType::F64;
        }),
        ("a result of another size", |s| {
            s.result = floats(&[2, 4]);
        }),
    ];
    check(pool(&[&[2, 9]], &[2, 5]), Primitive::Pool, faults);
    let vjp = pool(&[&[2, 9], &[2, 5]], &[2, 9]);
    check(vjp.clone(), Primitive::PoolVjp, faults);
    // The vjp of sums reads the cotangent alone.
    let mut sums = pool(&[&[2, 5]], &[2, 9]);
    assert!(Primitive::PoolVjp(sums.clone()).check().is_err());
    sums.reduction = Reduction::Sum;
    assert!(Primitive::PoolVjp(sums).check().is_ok());
    assert!(Primitive::Pool(vjp).check().is_err());
}
