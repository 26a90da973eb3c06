//! Operations with attributes of all sorts: sizes, axes, strides and paddings from nothing to the
//! edge of what numbers hold. Building ends in one error that blames an attribute, or in a tensor
//! that compiles and runs, with its gradient.

use backprop::prelude::*;
use backprop::{
    Align, Convolution, Divisor, ErrorKind, Interpolate, Order, Padding, Patches, Pool, Reference,
    Resample, Rounding,
};
use backprop_testkit::fuzz::{Choices, Target};

pub(crate) fn with(tried: &mut dyn FnMut(&Target<'_>)) {
    // Each operation, on an input of rank 3 or so, with attributes that are 1.
    let of_each = (0..OPERATIONS).map(|operation| {
        let mut input = vec![3, 2, 3, 4];
        input.push(operation as u8);
        input.extend([1; 8]);
        input
    });
    // Repeated often along one axis, and not at all along another.
    let found = vec![
        b"\x84w5R\x84\xe9".to_vec(),
        // Pixels of an empty image in parts without number.
        b",7}66j\xef".to_vec(),
        // Windows that are further apart than a number of places can be.
        b",7}668\xc7j\xef".to_vec(),
        // Padding beyond all numbers on two sides.
        b".\x0b255\xef5\xef\xef".to_vec(),
        // An image with as many rows as there are numbers.
        b"2\x1f7}66j\xef".to_vec(),
    ];
    tried(&Target {
        name: "attributes",
        corpus: of_each.chain(found).collect(),
        run: &run,
    });
}

/// Results of more elements are not computed.
const LARGE: usize = 1 << 14;

fn run(input: &[u8]) -> Result<String, String> {
    let mut choices = Choices::new(input);
    let rank = choices.below(5);
    let shape: Vec<usize> = (0..rank).map(|_| choices.below(6)).collect();
    let graph = Graph::new();
    let x = graph.input("x", &shape, F64);
    let operation = choices.below(OPERATIONS);
    let y = built(x, operation, &mut choices);
    if let Err(error) = graph.check() {
        return refused(operation, &error);
    }
    if y.shape().count() > LARGE {
        return Ok(format!("{operation}: large"));
    }
    let ran = || -> Result<bool> {
        let gradient = match y.dtype().is_float() {
            true => graph.grad(y.square().sum(..) + x.sum(..), &[x])?[0],
            false => x,
        };
        let keys = [y.key(), gradient.key()];
        let mut session = Session::compile(&graph, Reference, &keys, Updates::none())?;
        let values: Vec<f64> = (0..x.shape().count())
            .map(|i| (i % 7) as f64 - 2.5)
            .collect();
        session.feed(x, &values)?.step()?;
        Ok(session.fetch::<f64>(gradient)?.len() == values.len())
    };
    match ran() {
        Ok(true) => Ok(format!("{operation}: rank {}", y.rank())),
        Ok(false) => Err("a gradient of another size".to_owned()),
        // An operation may need more room than its result.
        Err(error) if matches!(error.kind(), ErrorKind::OutOfMemory { .. }) => {
            Ok(format!("{operation}: out of memory"))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn refused(operation: usize, error: &Error) -> Result<String, String> {
    let kind = match error.kind() {
        ErrorKind::Shape { .. } => "shape",
        ErrorKind::Axis { .. } => "axis",
        ErrorKind::Attribute { .. } => "attribute",
        _ => return Err(error.to_string()),
    };
    match error.all().count() {
        1 => Ok(format!("{operation}: {kind}")),
        _ => Err(format!("more than one error: {error}")),
    }
}

const OPERATIONS: usize = 36;

fn built<'g>(x: Tensor<'g>, operation: usize, choices: &mut Choices<'_>) -> Tensor<'g> {
    match operation {
        0..12 => moved(x, operation, choices),
        12..24 => parted(x, operation, choices),
        _ => windowed(x, operation, choices),
    }
}

fn sizes(choices: &mut Choices<'_>) -> Vec<usize> {
    (0..choices.below(5)).map(|_| choices.size()).collect()
}

/// As many sizes as the tensor has axes, as a rule.
fn each(x: Tensor<'_>, choices: &mut Choices<'_>) -> Vec<usize> {
    match choices.byte() {
        250.. => sizes(choices),
        _ => (0..x.rank()).map(|_| choices.size()).collect(),
    }
}

fn axis(choices: &mut Choices<'_>) -> i32 {
    choices.signed() as i32
}

fn moved<'g>(x: Tensor<'g>, operation: usize, choices: &mut Choices<'_>) -> Tensor<'g> {
    match operation {
        0 => {
            let wanted: Vec<isize> = (0..choices.below(5))
                .map(|_| choices.signed() as isize)
                .collect();
            x.reshape(wanted)
        }
        1 => x.flatten_from(choices.size()),
        2 => x.unsqueeze(axis(choices)),
        3 => x.squeeze(axis(choices)),
        4 => {
            let order: Vec<i32> = (0..x.rank()).map(|_| axis(choices)).collect();
            x.permute(order)
        }
        5 => x.transpose(axis(choices), axis(choices)),
        6 => x.broadcast_to(sizes(choices)),
        7 => x.flip([axis(choices), axis(choices)]),
        8 => x.roll(choices.signed() as isize, axis(choices)),
        9 => x.rot90(axis(choices), axis(choices), axis(choices)),
        10 => x.repeat(each(x, choices)),
        _ => x.repeat_interleave(choices.size(), axis(choices)),
    }
}

fn parted<'g>(x: Tensor<'g>, operation: usize, choices: &mut Choices<'_>) -> Tensor<'g> {
    let last = |parts: Vec<Tensor<'g>>| parts.last().copied().unwrap_or(x);
    match operation {
        12 => x.narrow(axis(choices), choices.size(), choices.size()),
        13 => x.slice(each(x, choices), each(x, choices), each(x, choices)),
        14 => {
            let padding = match choices.below(4) {
                0 => Padding::Reflect,
                1 => Padding::Replicate,
                2 => Padding::Circular,
                _ => Padding::Constant(0.5),
            };
            x.pad(each(x, choices), each(x, choices), padding)
        }
        15 => x.graph().concat(&[x, x], axis(choices)),
        16 => x.graph().stack(&[x, x], axis(choices)),
        17 => last(x.split(sizes(choices), axis(choices))),
        18 => last(x.chunk(choices.size(), axis(choices))),
        19 => last(x.unstack(axis(choices))),
        20 => x.windows(axis(choices), choices.size(), choices.size()),
        21 => x.diagonal(choices.signed(), axis(choices), axis(choices)),
        22 => x.diag_embed(choices.signed()),
        _ => x.topk(choices.size(), axis(choices), Order::Descending).0,
    }
}

fn windowed<'g>(x: Tensor<'g>, operation: usize, choices: &mut Choices<'_>) -> Tensor<'g> {
    let mut pool = || Pool {
        size: choices.size().into(),
        stride: Some(choices.size().into()),
        padding: choices.size().into(),
        dilation: choices.size().into(),
        rounding: *choices.of(&[Rounding::Down, Rounding::Up]),
    };
    match operation {
        24 => x.max_pool(pool()),
        25 => x.avg_pool(pool(), Divisor::Fixed(2)),
        26 => x.adaptive_avg_pool(choices.size()),
        27 => x.adaptive_max_pool(choices.size()),
        28 | 29 => {
            let filter = x.graph().full(sizes(choices), 0.5, F64);
            let how = Convolution {
                stride: choices.size().into(),
                padding: choices.size().into(),
                dilation: choices.size().into(),
                groups: choices.size(),
            };
            match operation {
                28 => x.conv(filter, how),
                _ => x.conv_transpose(filter, how, choices.size()),
            }
        }
        30 | 31 => {
            let patches = Patches {
                size: choices.size().into(),
                stride: choices.size().into(),
                padding: choices.size().into(),
                dilation: choices.size().into(),
            };
            match operation {
                30 => x.im2col(patches),
                _ => x.col2im(sizes(choices), patches),
            }
        }
        32 => {
            let by = [
                Resample::Nearest,
                Resample::Linear,
                Resample::Cubic,
                Resample::Area,
            ];
            let how = Interpolate {
                by: *choices.of(&by),
                align: *choices.of(&[Align::Edges, Align::Corners]),
                scales: None,
            };
            x.interpolate(sizes(choices), how)
        }
        33 => x.pixel_shuffle(choices.size()),
        34 => x.pixel_unshuffle(choices.size()),
        _ => x.cumsum(axis(choices)),
    }
}
