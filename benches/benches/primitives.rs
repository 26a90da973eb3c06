//! Plans of one operation, with one thread and with all of them: maps, reductions, rows, gathers and
//! scatters, and what a launch costs. Products, convolutions and attention are beside the backend.
//!
//! Criterion's "elements" are those read, or launches. What they could reach at best is told by
//! `cargo run --release -p backprop-benches --bin workload -- ceiling`.
//! `cargo bench -p backprop-benches --bench primitives -- softmax` picks some.
#![allow(missing_docs, reason = "criterion writes the entry point")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::time::Duration;

use backprop::Shape;
use backprop::prelude::*;
use backprop_benches::workload::{Fill, Values};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// An operation of a tensor of floats and one of indices.
type Operation = for<'g> fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>;

/// One operation, on a tensor of this shape.
struct Case {
    name: &'static str,
    shape: &'static [usize],
    operation: Operation,
}

const fn case(name: &'static str, shape: &'static [usize], operation: Operation) -> Case {
    Case {
        name,
        shape,
        operation,
    }
}

/// Rows that indices pick.
const PICKED: usize = 8192;
/// Rows of a table that is picked from.
const TABLE: usize = 4096;

const MAPS: [Case; 6] = [
    case("scale 1,024", &[1024], |x, _| x * 3.0),
    case("scale 65,536", &[65_536], |x, _| x * 3.0),
    case("scale 4,194,304", &[4_194_304], |x, _| x * 3.0),
    case("exp 65,536", &[65_536], |x, _| x.exp()),
    case("tanh 65,536", &[65_536], |x, _| x.tanh()),
    case("gelu 65,536", &[65_536], |x, _| x.gelu()),
];

const REDUCTIONS: [Case; 4] = [
    case("sum of all 1024x1024", &[1024, 1024], |x, _| x.sum(..)),
    case("sum of columns 1024x1024", &[1024, 1024], |x, _| x.sum(0)),
    case("sum of rows 1024x1024", &[1024, 1024], |x, _| x.sum(1)),
    case("max of rows 1024x1024", &[1024, 1024], |x, _| x.max(1)),
];

const ROWS: [Case; 4] = [
    case("softmax 768x64", &[768, 64], |x, _| x.softmax(-1)),
    case("softmax 256x1000", &[256, 1000], |x, _| x.softmax(-1)),
    case("layer norm 768x128", &[768, 128], |x, _| {
        x.layer_norm(-1, 1e-5)
    }),
    case("log softmax 256x1000", &[256, 1000], |x, _| {
        x.log_softmax(-1)
    }),
];

const INDEXED: [Case; 2] = [
    case("gather 8192 of 4096x128", &[TABLE, 128], |x, indices| {
        x.embedding(indices)
    }),
    case("scatter 8192x128 to 4096", &[PICKED, 128], |x, indices| {
        let zeros = x.graph().full([TABLE, 128], 0.0, F32);
        zeros.index_add(0, indices, x)
    }),
];

/// A plan of the operation, with random data.
fn compile(case: &Case, threads: usize) -> Session<Cpu> {
    let g = Graph::new();
    let x = g.input("x", case.shape, F32);
    let indices = g.input("indices", [PICKED], I32);
    let y = (case.operation)(x, indices);
    let cpu = Cpu::builder().threads(threads).build().unwrap();
    let (x, indices) = (x.key(), indices.key());
    let mut session = Session::compile(&g, cpu, &[y.key()], Updates::none()).unwrap();
    let drawn =
        |fill: Fill, name: &str, sizes: &[usize]| fill.draw(1, name, Shape::new(sizes).unwrap());
    if let Values::F32(values) = drawn(Fill::Normal(1.0), "x", case.shape) {
        session.feed(x, &values).unwrap();
    }
    if let Values::I32(values) = drawn(Fill::Below(TABLE as i32), "indices", &[PICKED]) {
        session.feed(indices, &values).unwrap();
    }
    session
}

fn operations(criterion: &mut Criterion) {
    let all = Cpu::new().unwrap().threads();
    let cases = MAPS.iter().chain(&REDUCTIONS).chain(&ROWS).chain(&INDEXED);
    for case in cases {
        let mut group = criterion.benchmark_group(case.name);
        let elements = case.shape.iter().product::<usize>();
        group.throughput(Throughput::Elements(elements as u64));
        for threads in [1, all] {
            let mut session = compile(case, threads);
            let name = format!("{threads} threads");
            group.bench_function(name, |bencher| bencher.iter(|| session.step().unwrap()));
        }
    }
}

/// A chain of products of single numbers, which no pass joins.
fn launches(criterion: &mut Criterion) {
    let g = Graph::new();
    let x = g.input("x", [1, 1], F32);
    let y = (0..100).fold(x, |y, _| y.matmul(x).tanh());
    let x = x.key();
    let mut session =
        Session::compile(&g, Cpu::new().unwrap(), &[y.key()], Updates::none()).unwrap();
    session.feed(x, &[0.5f32]).unwrap();
    let mut group = criterion.benchmark_group("launch");
    group.throughput(Throughput::Elements(session.step_plan().launches() as u64));
    group.bench_function("tiny products", |bencher| {
        bencher.iter(|| session.step().unwrap());
    });
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
}

criterion_group!(name = benches; config = config(); targets = operations, launches);
criterion_main!(benches);
