//! Kernels compile for several generations of devices, without a device: a sample of what the
//! conformance suite asks for, of every kind.

mod loops;
mod text;
mod tune;

use std::path::Path;
use std::thread;

use backprop_core::DType;
use backprop_graph::optim::{self, Sgd};
use backprop_graph::{Graph, Init, Key, Mask, Session, Updates};
use backprop_testkit::conformance::Kind;

use crate::contraction::{Options, Precision};
use crate::device::{Usage, is_settled, usage};
use crate::lowered::Source;
use crate::paper::Paper;

/// Compute capabilities, times ten.
const GENERATIONS: [i32; 3] = [80, 90, 100];

/// Kernels of a kind that are compiled.
const SAMPLE: usize = 3;

/// Registers of a thread, beyond which a block of the usual size cannot start.
const REGISTERS: usize = 255;

/// Where `cargo xtask cuda-tools` puts NVRTC.
fn tools() -> Option<std::path::PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(std::path::PathBuf::from);
    let target =
        target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"));
    Some(target.join("cuda-tools/lib")).filter(|folder| folder.join("libnvrtc.so.13").exists())
}

/// Some distinct kernels of a kind, from all over its list.
fn sample(kind: Kind) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    let count = kind.every(1).primitives().len();
    for primitive in &kind.every(count / SAMPLE).primitives() {
        let lowered = crate::lower(primitive, Options::default());
        for launch in lowered.unwrap_or_default().launches() {
            if !sources.contains(&launch.source) {
                sources.push(launch.source.clone());
            }
        }
    }
    sources
}

/// The kernels of a deep network's layer, forward and backward, which is large enough to be read in
/// another way.
fn large() -> Vec<Source> {
    let g = Graph::new();
    let x = g.input("x", [1, 3163], DType::F32);
    let of = |name| g.parameter(name, [3163, 3163], DType::F32, Init::Xavier);
    let (v, w) = (of("v"), of("w"));
    let [a, b] = [v, w].map(|weight| g.read(weight).t());
    let loss = x.matmul(a).relu().matmul(b).square().mean([0, 1]);
    let grads = g.grad(loss, &[v, w]).unwrap();
    let updates = optim::sgd(&g, &[v, w], &grads, Sgd::default());
    all(&g, &[loss.key()], updates, Options::default())
}

/// Attention on tensor cores, forward and backward.
fn rounded() -> Vec<Source> {
    let g = Graph::new();
    let input = |name| g.input(name, [32, 512, 64], DType::F32);
    let [q, k, v] = ["q", "k", "v"].map(input);
    let loss = q.attention(k, v, Mask::Causal).square().sum([0, 1, 2]);
    let grads = g.grad(loss, &[q, k, v]).unwrap();
    let fetched: Vec<Key> = grads.iter().map(|t| t.key()).collect();
    let precision = Precision::Tf32;
    let options = Options {
        precision,
        ..Options::default()
    };
    all(&g, &fetched, Updates::none(), options)
}

/// All kernels of a step.
fn all(g: &Graph, fetched: &[Key], updates: Updates, options: Options) -> Vec<Source> {
    let session = Session::compile(g, Paper, fetched, updates).unwrap();
    let primitives = session.step_plan().primitives().iter();
    let lowered = primitives.map(|p| crate::lower(p, options).unwrap());
    let sources = lowered.flat_map(|lowered| lowered.sources().cloned().collect::<Vec<_>>());
    sources.collect()
}

#[test]
fn only_what_the_launch_ahead_leaves_alone_is_read_early() {
    let reads = [100..200, 400..500];
    assert!(is_settled(&reads, Some(&[0..100, 200..400])));
    assert!(!is_settled(&reads, Some(&[0..50, 199..200])));
    assert!(!is_settled(&reads, Some(&[300..310, 450..460])));
    assert!(!is_settled(&reads, None));
}

#[test]
#[allow(clippy::print_stdout, reason = "a test that cannot run says so")]
fn kernels_compile_for_every_generation_without_spills() {
    let Some(tools) = tools() else {
        println!("skipped: kernels are not compiled: no NVRTC (`cargo xtask cuda-tools`)");
        return;
    };
    let mut sources: Vec<Source> = Kind::ALL.into_iter().flat_map(sample).collect();
    sources.extend(crate::blas::tests::epilogues());
    sources.extend(loops::sources());
    sources.extend(large());
    sources.extend(rounded());
    assert!(sources.len() > 40, "{} kernels", sources.len());
    let of = |generation| usage(&tools, generation, &sources).unwrap();
    let used = thread::scope(|scope| {
        let each = GENERATIONS.map(|generation| scope.spawn(move || of(generation)));
        each.map(|thread| thread.join().unwrap())
    });
    for (generation, used) in GENERATIONS.into_iter().zip(used) {
        for (source, Usage { registers, spilled }) in sources.iter().zip(used) {
            let what = format!("sm_{generation}: {registers} registers, {spilled} bytes spilled");
            assert!(
                registers <= REGISTERS && spilled == 0,
                "{what}\n{}",
                source.text
            );
        }
    }
}
