//! Specs of attention, its vjp and sorting that make no sense are refused.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use backprop_core::{
    Attention, AttentionVjp, Body, DType, ErrorKind, Heads, Inst, KeyMask, Operand, Order,
    Primitive, Program, Reduction, Register, Shape, Sink, Sort, Source, TensorType, View,
};

type Fault<S> = (&'static str, fn(&mut S));

#[track_caller]
fn check<S: Clone>(sound: &S, wrap: fn(S) -> Primitive, faults: &[Fault<S>]) {
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

fn shape(sizes: &[usize]) -> Shape {
    Shape::new(sizes).unwrap()
}

fn tensor(dtype: DType, sizes: &[usize]) -> TensorType {
    TensorType::dense(dtype, shape(sizes))
}

fn floats(sizes: &[usize]) -> Source {
    Source::dense(tensor(DType::F32, sizes))
}

/// Two heads of three queries to five keys.
fn heads(mask: KeyMask) -> Heads {
    Heads {
        batch: shape(&[2]),
        queries: 3,
        keys: 5,
        depth: 4,
        width: 6,
        scale: 0.5f64.to_bits(),
        mask,
        query: Operand::plain(floats(&[2, 3, 4])),
        key: Operand::plain(floats(&[2, 5, 4])),
        value: Operand::plain(floats(&[2, 5, 6])),
    }
}

/// Faults of the operands, planted by way of the function that finds them.
macro_rules! faults_of_heads {
    ($Spec:ty) => {{
        let faults: &[Fault<$Spec>] = &[
            ("another number of queries", |s| s.heads.queries = 2),
            ("another number of keys", |s| s.heads.keys = 4),
            ("keys of another depth", |s| {
                s.heads.key = Operand::plain(floats(&[2, 5, 3]));
            }),
            ("values of another width", |s| s.heads.width = 5),
            ("as many values as queries", |s| {
                s.heads.value = Operand::plain(floats(&[2, 3, 6]));
            }),
            ("another batch", |s| s.heads.batch = shape(&[3])),
            ("more axes than there can be", |s| {
                s.heads.batch = shape(&[1; 7]);
            }),
            ("a view that leaves the queries", |s| {
                s.heads.query.inputs[0].view.offset = 1;
            }),
            ("an empty prologue", |s| {
                s.heads.query.program = Program::default();
            }),
            ("a prologue without its input", |s| {
                s.heads.key.inputs.clear();
            }),
            ("a row reduction in a prologue", |s| {
                let reduce = Inst::Reduce(Reduction::Sum, Register(0));
                s.heads.value.program.push(reduce, DType::F32);
            }),
            ("whole queries", |s| {
                let whole = Source::dense(tensor(DType::I32, &[2, 3, 4]));
                s.heads.query = Operand::plain(whole);
            }),
            ("values made whole", |s| {
                let cast = Inst::Cast(Register(0));
                s.heads.value.program.push(cast, DType::I64);
            }),
            ("a mask of another space", |s| {
                s.heads.mask = KeyMask::Add(floats(&[2, 3, 4]));
            }),
            ("a condition that is a number", |s| {
                s.heads.mask = KeyMask::Where(floats(&[2, 3, 5]));
            }),
            ("truth values added", |s| {
                let truth = Source::dense(tensor(DType::Bool, &[2, 3, 5]));
                s.heads.mask = KeyMask::Add(truth);
            }),
            ("whole numbers added", |s| {
                let whole = Source::dense(tensor(DType::I32, &[2, 3, 5]));
                s.heads.mask = KeyMask::Add(whole);
            }),
        ];
        faults
    }};
}

/// Every mask there is.
fn masks() -> [KeyMask; 4] {
    let truth = Source::dense(tensor(DType::Bool, &[2, 3, 5]));
    [
        KeyMask::None,
        KeyMask::Causal,
        KeyMask::Where(truth),
        KeyMask::Add(floats(&[2, 3, 5])),
    ]
}

#[test]
fn attention() {
    let wrap = |spec| Primitive::Attention(Box::new(spec));
    let faults: &[Fault<Attention>] = &[
        ("whole sums", |s| {
            s.accumulator = DType::I32;
            s.lse.dtype = DType::I32;
            s.epilogue = Body::store(tensor(DType::I32, &[2, 3, 6]));
        }),
        ("sums read as another type", |s| s.accumulator = DType::F64),
        ("an epilogue of another space", |s| {
            s.space = shape(&[2, 3, 5])
        }),
        ("a result of another size", |s| {
            s.epilogue = Body::store(tensor(DType::F32, &[2, 3, 5]));
        }),
        ("an epilogue without its input", |s| {
            s.epilogue.program.push(Inst::Input(1), DType::F32);
        }),
        ("a row reduction in the epilogue", |s| {
            let reduce = Inst::Reduce(Reduction::Sum, Register(0));
            s.epilogue.program.push(reduce, DType::F32);
        }),
        ("a reduction over no axis of the space", |s| {
            s.epilogue.outputs[0].sink =
                Sink::Reduce(Reduction::Sum, backprop_core::Axes::NONE.with(3));
        }),
        ("a log-sum-exp of another type", |s| {
            s.lse.dtype = DType::F64;
        }),
        ("a log-sum-exp for every key", |s| {
            s.lse = tensor(DType::F32, &[2, 5]);
        }),
    ];
    for mask in masks() {
        let sound = Attention {
            heads: heads(mask),
            accumulator: DType::F32,
            space: shape(&[2, 3, 6]),
            epilogue: Body::store(tensor(DType::F32, &[2, 3, 6])),
            lse: tensor(DType::F32, &[2, 3]),
        };
        assert!(sound.is_unfused());
        check(&sound, wrap, faults);
        check(&sound, wrap, faults_of_heads!(Attention));
    }
}

#[test]
fn attention_vjp() {
    let wrap = |spec| Primitive::AttentionVjp(Box::new(spec));
    let faults: &[Fault<AttentionVjp>] = &[
        ("a result of another shape", |s| {
            s.out = floats(&[2, 3, 5]);
        }),
        ("a whole result", |s| s.out.tensor.dtype = DType::I32),
        ("a log-sum-exp for every key", |s| {
            s.lse = floats(&[2, 5]);
        }),
        ("a truth value as log-sum-exp", |s| {
            s.lse.tensor.dtype = DType::Bool;
        }),
        ("a view that leaves the cotangent", |s| {
            s.cotangent.view.offset = 1;
        }),
        ("a whole cotangent", |s| {
            s.cotangent.tensor.dtype = DType::I64;
        }),
        ("results in another order", |s| s.results.reverse()),
        ("whole gradients", |s| s.results[1].dtype = DType::I32),
    ];
    for mask in masks() {
        let sound = AttentionVjp {
            heads: heads(mask),
            out: floats(&[2, 3, 6]),
            lse: floats(&[2, 3]),
            cotangent: floats(&[2, 3, 6]),
            results: [[2, 3, 4], [2, 5, 4], [2, 5, 6]].map(|sizes| tensor(DType::F32, &sizes)),
        };
        check(&sound, wrap, faults);
        check(&sound, wrap, faults_of_heads!(AttentionVjp));
    }
}

#[test]
fn sorts() {
    let sound = Sort {
        space: shape(&[2, 5, 3]),
        axis: 1,
        order: Order::Descending,
        input: floats(&[2, 5, 3]),
        positions: tensor(DType::I64, &[2, 4, 3]),
    };
    assert_eq!(sound.count(), 4);
    let faults: &[Fault<Sort>] = &[
        ("no such axis", |s| s.axis = 3),
        ("more positions than elements", |s| {
            s.positions = tensor(DType::I64, &[2, 6, 3]);
        }),
        ("a part of a row", |s| {
            s.positions = tensor(DType::I64, &[25]);
        }),
        ("positions of another type", |s| {
            s.positions.dtype = DType::I32;
        }),
        ("a view of another space", |s| {
            s.input.view = View::dense(shape(&[2, 15]));
        }),
        ("a view that leaves its tensor", |s| s.input.view.offset = 1),
    ];
    check(&sound, Primitive::Sort, faults);
}
