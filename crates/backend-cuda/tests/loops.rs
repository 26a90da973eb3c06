//! Loops that run as one launch, beside the launches that they are made of, and beside the processor.

mod emulator;
mod gpu;

use backprop_core::{Backend, DType, Result};
use backprop_cpu::Cpu;
use backprop_cuda::Paper;
use backprop_graph::optim::{self, Adam};
use backprop_graph::{Cell, Graph, Init, Left, Recurrence, Recurrent, Session, Tensor, Updates};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

/// A recurrent layer and how much of it there is.
#[derive(Clone, Copy)]
struct Layer {
    cell: Cell,
    gates: usize,
    rows: usize,
    hidden: usize,
    time: usize,
}

const INPUT: usize = 3;

impl Layer {
    /// A session that trains the layer to give what it is given.
    fn session<B: Backend>(&self, backend: B) -> Result<Trained<B>> {
        let Layer {
            cell,
            gates,
            rows,
            hidden,
            time,
        } = *self;
        let g = Graph::new();
        let x = g.input("x", [time, rows, INPUT], DType::F32);
        let target = g.input("target", [time, rows, hidden], DType::F32);
        let parameters = [
            g.parameter("ih", [gates * hidden, INPUT], DType::F32, Init::Xavier),
            g.parameter("hh", [gates * hidden, hidden], DType::F32, Init::Xavier),
            g.parameter("b", [gates * hidden], DType::F32, Init::Zeros),
            g.parameter("c", [gates * hidden], DType::F32, Init::Zeros),
        ];
        let [weight_ih, weight_hh, bias_ih, bias_hh] = parameters.map(|p| g.read(p));
        let layer = Recurrent {
            weight_ih,
            weight_hh,
            bias_ih,
            bias_hh,
        };
        let outputs = layer.run(cell, x, Recurrence::default()).outputs;
        let loss = (outputs - target).square().mean([0, 1, 2]);
        let grads = g.grad(loss, &parameters)?;
        let updates = optim::adam(&g, &parameters, &grads, Adam::default());
        let (x, target, loss) = (x.key(), target.key(), loss.key());
        let mut session = Session::compile(&g, backend, &[loss], updates)?;
        let waves = |count: usize, pace: f32| -> Vec<f32> {
            (0..count).map(|i| (i as f32 * pace).sin()).collect()
        };
        session.feed(x, &waves(time * rows * INPUT, 0.7))?;
        session.feed(target, &waves(time * rows * hidden, 0.3))?;
        Ok(Trained { session, loss })
    }
}

struct Trained<B: Backend> {
    session: Session<B>,
    loss: backprop_graph::Key,
}

const LAYERS: [Layer; 4] = [
    Layer {
        cell: Cell::Lstm,
        gates: 4,
        rows: 3,
        hidden: 32,
        time: 5,
    },
    // Neither the sums nor the columns come out even.
    Layer {
        cell: Cell::Lstm,
        gates: 4,
        rows: 2,
        hidden: 37,
        time: 4,
    },
    Layer {
        cell: Cell::Gru,
        gates: 3,
        rows: 3,
        hidden: 24,
        time: 6,
    },
    Layer {
        cell: Cell::RnnTanh,
        gates: 1,
        rows: 5,
        hidden: 48,
        time: 4,
    },
];

#[test]
fn loops_are_one_launch() -> Outcome {
    for layer in LAYERS {
        let long = Layer { time: 40, ..layer };
        let trained = long.session(Paper)?;
        let plan = trained.session.step_plan();
        let commands = plan.commands().into_iter();
        let inside: usize = commands.map(|(_, times)| times).filter(|&t| t > 1).sum();
        let launches = Paper.launches(plan)?;
        assert!(
            launches < inside,
            "{:?}: {launches}, {inside} in loops",
            layer.cell
        );
    }
    Ok(())
}

#[test]
fn a_loop_in_one_launch_gives_the_bits_of_its_launches() -> Outcome {
    let Some(cuda) = gpu::device(module_path!())? else {
        return Ok(());
    };
    for layer in LAYERS {
        let mut whole = layer.session(cuda.clone())?;
        let mut apart = layer.session(cuda.clone())?;
        let mut cpu = layer.session(Cpu::new()?)?;
        for step in 0..3 {
            whole.session.step()?;
            apart.session.profile(1)?;
            cpu.session.step()?;
            let of = [
                whole.session.scalar(whole.loss)?,
                apart.session.scalar(apart.loss)?,
                cpu.session.scalar(cpu.loss)?,
            ];
            let what = format!("{:?}, step {step}: losses {of:?}", layer.cell);
            assert_eq!(of[0].to_bits(), of[1].to_bits(), "{what}");
            assert!((of[0] - of[2]).abs() < 1e-5 * of[2].abs(), "{what}");
        }
    }
    Ok(())
}

/// What an iteration makes of a state, a matrix and an element, and the next matrix.
type Body = for<'g> fn([Tensor<'g>; 3]) -> [Tensor<'g>; 2];

/// A loop that looks like those above, in which a matrix does not stay the same, or what is multiplied has
/// more rows than the state.
struct Other {
    name: &'static str,
    state: &'static [usize],
    /// Whether the matrix goes from one iteration to the next: 2, or does not: 1.
    carried: usize,
    body: Body,
}

const OTHERS: [Other; 4] = [
    Other {
        name: "a matrix for each iteration",
        state: &[5, 24],
        carried: 1,
        body: |[state, matrix, element]| [state.matmul(element).tanh(), matrix],
    },
    Other {
        name: "a matrix that changes",
        state: &[5, 24],
        carried: 2,
        body: |[state, matrix, element]| {
            [state.matmul(matrix).tanh(), matrix * 0.75 + element * 0.25]
        },
    },
    Other {
        name: "rows of rows",
        state: &[5, 3, 24],
        carried: 1,
        body: |[state, matrix, _]| [state.matmul(matrix).tanh(), matrix],
    },
    Other {
        name: "rows that see each other",
        state: &[24, 24],
        carried: 1,
        body: |[state, matrix, _]| [(state.matmul(matrix) + state.t()).tanh(), matrix],
    },
];

/// The last state and the gradient of the first.
fn last<B: Backend>(backend: B, other: &Other) -> Result<Vec<Vec<f32>>> {
    const TIMES: usize = 6;
    let g = Graph::new();
    let state = g.input("state", other.state, DType::F32);
    let matrix = g.input("matrix", [24, 24], DType::F32);
    let elements = g.input("elements", [TIMES, 24, 24], DType::F32);
    let initial = [state, matrix];
    let scanned = g.scan(TIMES, &initial[..other.carried], &[elements], |at| {
        let now = at.carried.get(1).copied().unwrap_or(matrix);
        let left = (other.body)([at.carried[0], now, at.elements[0]]);
        Left {
            carried: left[..other.carried].to_vec(),
            stacked: Vec::new(),
        }
    });
    let loss = scanned.carried[0].square().sum(..);
    let grads = g.grad(loss, &[state])?;
    let fetched = [scanned.carried[0].key(), grads[0].key()];
    let [state, matrix, elements] = [state, matrix, elements].map(|t| t.key());
    let mut session = Session::compile(&g, backend, &fetched, Updates::none())?;
    let noise = |count: u32, seed: u32| -> Vec<f32> {
        let bits = |i: u32| (i + seed * 0x0100_0193).wrapping_mul(0x9E37_79B9) >> 8;
        (0..count)
            .map(|i| bits(i) as f32 / (1 << 24) as f32 - 0.5)
            .collect()
    };
    session.feed(
        state,
        &noise(other.state.iter().product::<usize>() as u32, 1),
    )?;
    session.feed(matrix, &noise(24 * 24, 2))?;
    session.feed(elements, &noise(TIMES as u32 * 24 * 24, 3))?;
    session.step()?;
    fetched.iter().map(|&key| session.fetch(key)).collect()
}

#[test]
fn other_loops_give_what_they_gave() -> Outcome {
    let Some(cuda) = gpu::device(module_path!())? else {
        return Ok(());
    };
    for other in OTHERS {
        let got = last(cuda.clone(), &other)?;
        let expected = last(Cpu::new()?, &other)?;
        for (number, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let pairs = got.iter().zip(expected);
            let off = pairs.map(|(g, e)| (g - e).abs()).fold(0.0, f32::max);
            let size = expected.iter().fold(0.0, |size: f32, e| size.max(e.abs()));
            assert!(
                1e-3 < size && off < 1e-4 * size,
                "{}: result {number} is off by {off}",
                other.name
            );
        }
    }
    Ok(())
}
