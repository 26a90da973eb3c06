//! Times products and convolutions with every tile that might be the best, on a GPU. The model that
//! chooses tiles is set from what this prints.
//!
//! `BACKPROP_TUNE=2 cargo test --release -p backprop-cuda --lib -- tune --nocapture` takes a minute of a
//! GPU. The number is that of ways to take in each shape of tiles; `BACKPROP_TUNE_ONLY` names a part of
//! the problems' names.

#![allow(clippy::print_stdout, reason = "what is measured is printed")]

use std::sync::Arc;
use std::time::Instant;

use backprop_core::{
    Body, Conv, DType, Inst, MatMul, Operand, Output, Primitive, Program, Register, Result, Scalar,
    Shape, Sink, Source, TensorType, View, Window,
};

use crate::contraction::tune::{Choice, choices};
use crate::device::{Buffer, Device, Graph};
use crate::lowered::Arg;
use crate::{Cuda, Function};

/// Launches of a graph, and how often it is started: the best time counts.
const LAUNCHES: usize = 20;
const ROUNDS: usize = 6;

fn shape(sizes: &[usize]) -> Shape {
    Shape::new(sizes).unwrap()
}

fn tensor(sizes: &[usize]) -> TensorType {
    TensorType::dense(DType::F32, shape(sizes))
}

/// What becomes of the sums.
#[derive(Clone, Copy)]
enum Ending {
    Store,
    /// A bias along the last axis, and a maximum.
    Bias,
    /// Three tensors are read and written.
    Update,
}

fn epilogue(ending: Ending, space: Shape) -> Body {
    let mut program = Program::identity(DType::F32);
    let mut push = |inst| program.push(inst, DType::F32).unwrap();
    let whole = TensorType::dense(DType::F32, space);
    let store = |register| Output {
        register,
        sink: Sink::Store,
        tensor: whole.clone(),
    };
    let apply = |function, a, b| Inst::Apply(function, [a, b, a]);
    let sum = Register(0);
    let (inputs, outputs) = match ending {
        Ending::Store => (Vec::new(), vec![store(sum)]),
        Ending::Bias => {
            let last = space.rank() - 1;
            let mut view = View::splat(space);
            view.strides[last] = 1;
            let bias = push(Inst::Input(1));
            let added = push(apply(Scalar::Add, sum, bias));
            let raised = push(apply(Scalar::Max, added, bias));
            let tensor = tensor(&[space.size(last)]);
            (vec![Source { tensor, view }], vec![store(raised)])
        }
        Ending::Update => {
            let [a, b, c] = [1, 2, 3].map(|input| push(Inst::Input(input)));
            let first = push(apply(Scalar::Add, a, sum));
            let second = push(apply(Scalar::Add, b, sum));
            let quotient = push(apply(Scalar::Div, first, second));
            let third = push(apply(Scalar::Sub, c, quotient));
            let inputs = vec![Source::dense(whole.clone()); 3];
            (inputs, [first, second, third].map(store).to_vec())
        }
    };
    Body {
        inputs,
        program,
        outputs,
    }
}

/// The matrix that lies in memory as `sizes`, or as its transpose.
fn matrix(sizes: [usize; 2], transposed: bool) -> Operand {
    Operand::plain(match transposed {
        false => Source::dense(tensor(&sizes)),
        true => {
            let source = Source::dense(tensor(&[sizes[1], sizes[0]]));
            Source {
                view: source.view.permute(&[1, 0]),
                ..source
            }
        }
    })
}

/// `[m, k]` by `[k, n]`; which of them is transposed in memory.
fn product([m, k, n]: [usize; 3], transposed: [bool; 2], ending: Ending) -> Primitive {
    let space = shape(&[m, n]);
    let spec = MatMul {
        batch: shape(&[]),
        m,
        k,
        n,
        left: matrix([m, k], transposed[0]),
        right: matrix([k, n], transposed[1]),
        accumulator: DType::F32,
        space,
        epilogue: epilogue(ending, space),
    };
    Primitive::MatMul(spec)
}

/// Windows of 3 by 3 over square images: a convolution, by its input, by its filter.
fn convolutions([images, channels, outputs, side]: [usize; 4]) -> [Primitive; 3] {
    let input = [images, channels, side, side];
    let filter = [outputs, channels, 3, 3];
    let output = [images, outputs, side, side];
    let window = Window {
        size: 3,
        stride: 1,
        dilation: 1,
        padding: 1,
    };
    let spec = |left: &[usize], right: &[usize], result: &[usize]| {
        let operand = |sizes| Operand::plain(Source::dense(tensor(sizes)));
        Conv {
            input: shape(&input),
            filter: shape(&filter),
            output: shape(&output),
            windows: vec![window; 2],
            groups: 1,
            left: operand(left),
            right: operand(right),
            accumulator: DType::F32,
            space: shape(result),
            epilogue: epilogue(Ending::Store, shape(result)),
        }
    };
    [
        Primitive::Conv(spec(&input, &filter, &output)),
        Primitive::ConvVjpInput(spec(&output, &filter, &input)),
        Primitive::ConvVjpFilter(spec(&input, &output, &filter)),
    ]
}

fn problems() -> Vec<(String, Primitive)> {
    let (plain, left, right) = ([false, false], [true, false], [false, true]);
    let products = [
        ([256, 2048, 2048], plain, Ending::Bias),
        ([256, 2048, 2048], right, Ending::Store),
        ([2048, 256, 2048], left, Ending::Update),
        ([256, 2048, 1000], plain, Ending::Bias),
        ([128, 784, 512], plain, Ending::Bias),
        ([128, 512, 512], plain, Ending::Bias),
        ([128, 512, 512], right, Ending::Store),
        ([128, 512, 10], plain, Ending::Bias),
        ([512, 128, 512], left, Ending::Update),
        ([784, 128, 512], left, Ending::Update),
        ([512, 128, 784], left, Ending::Update),
        ([768, 128, 384], plain, Ending::Bias),
        ([768, 128, 512], plain, Ending::Bias),
        ([768, 512, 128], plain, Ending::Bias),
        ([768, 128, 128], plain, Ending::Bias),
        ([128, 768, 512], left, Ending::Update),
        ([512, 768, 128], left, Ending::Update),
        ([32, 128, 512], plain, Ending::Bias),
        ([32, 512, 128], right, Ending::Store),
        ([128, 32, 512], left, Ending::Store),
    ];
    let name = |[m, k, n]: [usize; 3], [left, right]: [bool; 2]| {
        let turned = |is: bool| if is { "^T" } else { "" };
        format!("[{m},{k}]{} x [{k},{n}]{}", turned(left), turned(right))
    };
    let mut problems: Vec<(String, Primitive)> = products
        .into_iter()
        .map(|(sizes, turned, ending)| (name(sizes, turned), product(sizes, turned, ending)))
        .collect();
    for sizes in [[64, 3, 32, 32], [64, 32, 64, 32], [64, 64, 128, 16]] {
        let kinds = ["conv", "conv by input", "conv by filter"];
        for (kind, primitive) in kinds.into_iter().zip(convolutions(sizes)) {
            problems.push((format!("{kind} {sizes:?}"), primitive));
        }
    }
    problems
}

/// Operands of a primitive, with numbers in them.
fn operands(device: &Arc<Device>, primitive: &Primitive) -> Result<Vec<Buffer>> {
    let tensors = primitive.reads().into_iter().chain(primitive.writes());
    let mut state = 1_u32;
    tensors
        .map(|tensor| {
            let mut buffer = Buffer::new(device, tensor.bytes())?;
            let bytes: Vec<u8> = (0..tensor.bytes() / 4)
                .flat_map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    ((state >> 8) as f32 / 16_777_216.0 + 0.5).to_le_bytes()
                })
                .collect();
            buffer.upload(device, 0, &bytes)?;
            Ok(buffer)
        })
        .collect()
}

/// Multiplications and additions.
fn work(primitive: &Primitive) -> f64 {
    let count = match primitive {
        Primitive::MatMul(spec) => spec.m * spec.k * spec.n,
        Primitive::Conv(spec) | Primitive::ConvVjpInput(spec) | Primitive::ConvVjpFilter(spec) => {
            spec.output.count() * spec.filter.count() / spec.filter.size(0)
        }
        _ => 0,
    };
    2.0 * count as f64
}

/// Microseconds of one run.
fn time(
    device: &Arc<Device>,
    primitive: &Primitive,
    (choice, functions): (&Choice, &[Function]),
    buffers: &[Buffer],
) -> Result<f64> {
    let scratch = Buffer::new(device, choice.lowered.scratch)?;
    let reads = primitive.reads().len();
    let run = || {
        for _ in 0..LAUNCHES {
            for (launch, &function) in choice.lowered.launches().zip(functions) {
                let address = |arg: &Arg| match *arg {
                    Arg::Read(i) => buffers[i].address(),
                    Arg::Write(i) => buffers[reads + i].address(),
                    Arg::Scratch(offset) => scratch.address() + offset as u64,
                };
                let mut pointers: Vec<_> = launch.args.iter().map(address).collect();
                // SAFETY: operands and scratch memory have the sizes that the kernel was made for.
                unsafe { device.launch(function.into(), launch, &mut pointers)? };
            }
        }
        Ok(())
    };
    let mut graph = Graph::record(device, run)?;
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        // Two in a row, less one: what starting a graph costs is not counted.
        let mut taken = [0.0; 2];
        for (launches, taken) in [1, 3].into_iter().zip(&mut taken) {
            device.wait()?;
            let start = Instant::now();
            for _ in 0..launches {
                graph.launch()?;
            }
            device.wait()?;
            *taken = start.elapsed().as_secs_f64();
        }
        best = best.min((taken[1] - taken[0]) / 2.0);
    }
    Ok(best * 1e6 / LAUNCHES as f64)
}

#[test]
fn tune() {
    let Ok(most) = std::env::var("BACKPROP_TUNE") else {
        println!("skipped: tuning is asked for by BACKPROP_TUNE");
        return;
    };
    let most = most.parse().unwrap_or(2);
    let cuda = Cuda::new(0).unwrap();
    let only = std::env::var("BACKPROP_TUNE_ONLY").unwrap_or_default();
    let mut problems = problems();
    problems.retain(|(name, _)| name.contains(&only));
    let all: Vec<Vec<Choice>> = problems
        .iter()
        .map(|(_, primitive)| choices(primitive, cuda.options, most))
        .collect();
    let launches = all
        .iter()
        .flatten()
        .flat_map(|choice| choice.lowered.launches());
    let sources: Vec<_> = launches.map(|launch| &launch.source).collect();
    let start = Instant::now();
    let functions = cuda.device.functions(&sources).unwrap();
    println!(
        "{} kernels compiled in {:.1} s",
        sources.len(),
        start.elapsed().as_secs_f64()
    );
    let mut functions = functions.as_slice();
    for ((name, primitive), choices) in problems.iter().zip(&all) {
        let buffers = operands(&cuda.device, primitive).unwrap();
        let mut lines: Vec<(f64, String)> = choices
            .iter()
            .map(|choice| {
                let (own, rest) = functions.split_at(choice.lowered.launches().count());
                functions = rest;
                match time(&cuda.device, primitive, (choice, own), &buffers) {
                    Ok(time) => (time, format!("{time:8.2} us  {}", choice.text)),
                    Err(error) => (f64::INFINITY, format!("{error}  {}", choice.text)),
                }
            })
            .collect();
        lines.sort_by(|a, b| a.0.total_cmp(&b.0));
        println!("{name}: {:.0} MFLOP", work(primitive) / 1e6);
        for (_, line) in lines {
            println!("  {line}");
        }
    }
    println!("all in {:.1} s", start.elapsed().as_secs_f64());
}
