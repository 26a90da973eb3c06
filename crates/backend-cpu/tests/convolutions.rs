//! Convolutions large enough for their own algorithms, against plain sums in f64.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use backprop_core::{
    Body, Conv, DType, Operand, Primitive, Reference, Scalar, Source, View, Window,
};
use harness::program::{Code, dense, shape, stored};
use harness::{levels, random_bytes, run, tensor};

/// Images, channels of a group, output channels of a group, groups; rows, columns; padding.
type Layer = ([usize; 4], [usize; 2], [usize; 2]);

/// Odd sizes, images put together and cut, channels beside and just past groups of sixteen,
/// paddings on either side of what windows reach, rows of many tiles, and groups.
const LAYERS: [Layer; 9] = [
    ([3, 32, 64, 1], [8, 8], [1, 1]),
    ([2, 33, 40, 1], [17, 14], [1, 1]),
    ([5, 48, 32, 1], [4, 5], [1, 1]),
    ([1, 32, 31, 1], [36, 41], [0, 2]),
    ([1, 20, 32, 1], [6, 205], [1, 0]),
    ([2, 32, 32, 1], [9, 11], [2, 3]),
    ([2, 32, 36, 2], [12, 12], [1, 1]),
    ([7, 64, 128, 1], [8, 8], [1, 1]),
    ([1, 70, 70, 1], [28, 28], [1, 1]),
];

/// A primitive, and the sizes of its operands and its result.
type Case = (fn(Conv) -> Primitive, Conv, [Vec<usize>; 3]);

/// A convolution and its vjps.
fn cases(layer: &Layer) -> [Case; 3] {
    let ([images, channels, out, groups], sizes, padding) = *layer;
    let places = [0, 1].map(|axis| sizes[axis] + 2 * padding[axis] - 2);
    let x = vec![images, groups * channels, sizes[0], sizes[1]];
    let w = vec![groups * out, channels, 3, 3];
    let y = vec![images, groups * out, places[0], places[1]];
    let window = |padding| Window {
        size: 3,
        stride: 1,
        dilation: 1,
        padding,
    };
    let spec = |[left, right, result]: &[Vec<usize>; 3]| Conv {
        input: shape(&x),
        filter: shape(&w),
        output: shape(&y),
        windows: padding.map(window).to_vec(),
        groups,
        left: Operand::plain(dense(DType::F32, left)),
        right: Operand::plain(dense(DType::F32, right)),
        accumulator: DType::F32,
        space: shape(result),
        epilogue: Body::store(tensor(DType::F32, result)),
    };
    let output = [x.clone(), w.clone(), y.clone()];
    let input = [y.clone(), w.clone(), x.clone()];
    let filter = [x.clone(), y.clone(), w.clone()];
    [
        (Primitive::Conv, spec(&output), output),
        (Primitive::ConvVjpInput, spec(&input), input),
        (Primitive::ConvVjpFilter, spec(&filter), filter),
    ]
}

fn floats(bytes: &[u8]) -> Vec<f64> {
    let float = |bytes: &[u8]| f64::from(f32::from_ne_bytes(bytes.try_into().unwrap()));
    bytes.chunks_exact(4).map(float).collect()
}

fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}

/// Compares the norm of what is off with that of all, and every level and number of threads with
/// the first.
#[track_caller]
fn check(spec: &Primitive, reads: &[Vec<u8>]) {
    let expected = floats(&run(&Reference, spec, reads, &[])[0]);
    let mut first: Option<Vec<u8>> = None;
    for level in levels() {
        for threads in 1..=4 {
            let cpu = level(threads);
            let got = run(&cpu, spec, reads, &[]).swap_remove(0);
            let numbers = floats(&got);
            let off = norm(numbers.iter().zip(&expected).map(|(g, e)| g - e));
            let off = off / norm(expected.iter().copied());
            assert!(off < 3e-6, "{cpu:?}, {spec}: off by {off:e}");
            let first = first.get_or_insert_with(|| got.clone());
            assert!(*first == got, "{cpu:?}, {spec}: other bits");
        }
    }
}

fn operands(sizes: &[Vec<usize>; 3]) -> Vec<Vec<u8>> {
    let bytes = |(seed, sizes): (usize, &Vec<usize>)| {
        let count = sizes.iter().product();
        random_bytes(DType::F32, count, (-1.0, 1.0), seed as u64 + 1)
    };
    sizes[..2].iter().enumerate().map(bytes).collect()
}

#[test]
fn layers_and_their_vjps() {
    for layer in &LAYERS {
        for (primitive, spec, sizes) in cases(layer) {
            check(&primitive(spec), &operands(&sizes));
        }
    }
}

/// Results that pass through an epilogue, which gets them in pieces.
#[test]
fn epilogues() {
    for layer in &LAYERS[..5] {
        for (primitive, mut spec, sizes) in cases(layer) {
            let mut code = Code::default();
            let sum = code.input(0, DType::F32);
            let twice = code.apply(Scalar::Add, &[sum, sum]);
            spec.epilogue = Body {
                inputs: Vec::new(),
                program: code.0,
                outputs: vec![stored(twice, DType::F32, &sizes[2])],
            };
            check(&primitive(spec), &operands(&sizes));
        }
    }
}

/// Images whose channels lie apart, and filters that lie the other way round.
#[test]
fn views() {
    for (primitive, mut spec, sizes) in cases(&LAYERS[1]) {
        let turned = |sizes: &[usize]| {
            let stored = [sizes[1], sizes[0], sizes[2], sizes[3]];
            Operand::plain(Source {
                tensor: tensor(DType::F32, &stored),
                view: View::dense(shape(&stored)).permute(&[1, 0, 2, 3]),
            })
        };
        (spec.left, spec.right) = (turned(&sizes[0]), turned(&sizes[1]));
        check(&primitive(spec), &operands(&sizes));
    }
}
