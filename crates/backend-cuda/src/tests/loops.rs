//! Loops as they are printed when they become one launch.

use backprop_core::DType;
use backprop_graph::{Cell, Graph, Init, Recurrence, Recurrent, Session, Updates};
use expect_test::expect_file;

use crate::contraction::Options;
use crate::loops::{Fused, fuse};
use crate::lowered::Source;
use crate::paper::Paper;

/// The loops of a recurrent layer and of its gradients.
fn loops(cell: Cell, gates: usize, [time, rows, hidden]: [usize; 3]) -> Vec<Fused> {
    let g = Graph::new();
    let x = g.input("x", [time, rows, 8], DType::F32);
    let weight =
        |name, columns| g.parameter(name, [gates * hidden, columns], DType::F32, Init::Xavier);
    let (ih, hh) = (weight("ih", 8), weight("hh", hidden));
    let bias = || g.full([gates * hidden], 0.0, DType::F32);
    let layer = Recurrent {
        weight_ih: g.read(ih),
        weight_hh: g.read(hh),
        bias_ih: bias(),
        bias_hh: bias(),
    };
    let last = layer.run(cell, x, Recurrence::default()).hidden;
    let loss = last.square().mean([0, 1]);
    let grads = g.grad(loss, &[ih, hh]).unwrap();
    let fetched = [loss.key(), grads[0].key(), grads[1].key()];
    let session = Session::compile(&g, Paper, &fetched, Updates::none()).unwrap();
    fuse(session.step_plan(), Options::default())
}

/// The kernels of layers of a size that multiprocessors just hold.
pub(super) fn sources() -> Vec<Source> {
    let cells = [(Cell::Lstm, 4), (Cell::Gru, 3)];
    let loops = cells.map(|(cell, gates)| loops(cell, gates, [16, 32, 128]));
    let sources = loops.into_iter().flatten().map(|fused| fused.launch.source);
    sources.collect()
}

#[test]
fn a_layer_that_does_not_fit_stays_apart() {
    assert_eq!(loops(Cell::Lstm, 4, [16, 32, 128]).len(), 2);
    assert_eq!(loops(Cell::Lstm, 4, [16, 32, 256]).len(), 0);
    assert_eq!(loops(Cell::Lstm, 4, [16, 133, 128]).len(), 0);
    assert_eq!(loops(Cell::Lstm, 4, [3, 32, 128]).len(), 0);
}

#[test]
fn a_recurrent_layer() {
    let loops = loops(Cell::RnnTanh, 1, [16, 2, 16]);
    let launch = &loops[0].launch;
    let text = launch.source.text.replace(&*launch.source.entry, "kernel");
    let sizes = (launch.grid, launch.block, launch.shared);
    expect_file!["loop.txt"].assert_eq(&format!("{sizes:?}\n{text}"));
}
