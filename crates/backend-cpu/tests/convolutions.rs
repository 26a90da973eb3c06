//! Convolutions large enough for their own algorithms, against plain sums in f64.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use backprop_core::{Body, Conv, DType, Element, Operand, Primitive, Scalar, Source, View, Window};
use backprop_cpu::{Cpu, Level};
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
    ([1, 32, 31, 1], [20, 29], [0, 2]),
    ([1, 20, 32, 1], [6, 205], [1, 0]),
    ([2, 32, 32, 1], [9, 11], [2, 3]),
    ([2, 32, 36, 2], [12, 12], [1, 1]),
    ([7, 33, 48, 1], [8, 8], [1, 1]),
    ([1, 34, 32, 1], [20, 28], [1, 1]),
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

fn numbers<T: Element>(bytes: &[u8]) -> Vec<f64> {
    let mut values = vec![T::default(); bytes.len() / size_of::<T>()];
    T::copy_from_bytes(&mut values, bytes);
    values.into_iter().map(T::to_f64).collect()
}

fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}

/// Compares with so many times the plain sums in f64: the norm of what is off with that of all. Every
/// level and number of threads gives the same bits.
#[track_caller]
fn check(primitive: fn(Conv) -> Primitive, spec: &Conv, reads: &[Vec<u8>], times: f64) {
    let wide = primitive(Conv {
        accumulator: DType::F64,
        epilogue: Body::store(tensor(DType::F64, spec.space.sizes())),
        ..spec.clone()
    });
    let expected = numbers::<f64>(&run(&Cpu::new().unwrap(), &wide, reads, &[])[0]);
    let spec = primitive(spec.clone());
    let mut first: Option<Vec<u8>> = None;
    for level in levels() {
        for threads in [1, 4, 3, 2] {
            let cpu = level(threads);
            let bytes = run(&cpu, &spec, reads, &[]).swap_remove(0);
            let got = numbers::<f32>(&bytes);
            let off = norm(got.iter().zip(&expected).map(|(g, e)| g - times * e));
            let off = off / norm(expected.iter().map(|e| times * e));
            assert!(off < 3e-6, "{cpu:?}, {spec}: off by {off:e}");
            let first = first.get_or_insert_with(|| bytes.clone());
            assert!(*first == bytes, "{cpu:?}, {spec}: other bits");
            if cpu.level() == Level::Scalar {
                break;
            }
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
            check(primitive, &spec, &operands(&sizes), 1.0);
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
            check(primitive, &spec, &operands(&sizes), 2.0);
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
        check(primitive, &spec, &operands(&sizes), 1.0);
    }
}
