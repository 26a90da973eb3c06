//! Sums over so many points that memory is visited in another way.

mod emulator;
mod gpu;

use backprop_core::DType;
use backprop_graph::{Graph, Session, Updates};

/// Rows and columns: more than 2^22 elements, and no multiples of anything.
const SIZES: [usize; 2] = [4099, 1031];

#[test]
fn large_matrices_are_summed_along_either_axis() -> Result<(), Box<dyn std::error::Error>> {
    let Some(cuda) = gpu::device(module_path!())? else {
        return Ok(());
    };
    let g = Graph::new();
    let x = g.input("x", SIZES, DType::F32);
    let y = g.input("y", [SIZES[1], SIZES[0]], DType::F32);
    let sums = [x.sum([0]), x.sum([1]), (x + y.t()).sum([0])].map(|sum| sum.key());
    let (x, y) = (x.key(), y.key());
    let mut session = Session::compile(&g, cuda, &sums, Updates::none())?;
    let [rows, columns] = SIZES;
    // Sums of a few eighths are exact in any order.
    let value = |i: usize, j: usize| ((i * 7 + j * 13) % 17) as f32 / 8.0 - 1.0;
    let all: Vec<f32> = (0..rows * columns)
        .map(|k| value(k / columns, k % columns))
        .collect();
    session.feed(x, &all)?.feed(y, &all)?.step()?;
    let sum = |count: usize, of: &dyn Fn(usize) -> f32| (0..count).map(of).sum::<f32>();
    for (j, got) in session.fetch::<f32>(sums[0])?.into_iter().enumerate() {
        assert_eq!(got, sum(rows, &|i| value(i, j)), "column {j}");
    }
    for (j, got) in session.fetch::<f32>(sums[2])?.into_iter().enumerate() {
        let both = |i: usize| value(i, j) + all[j * rows + i];
        assert_eq!(got, sum(rows, &both), "column {j} of both");
    }
    for (i, got) in session.fetch::<f32>(sums[1])?.into_iter().enumerate() {
        assert_eq!(got, sum(columns, &|j| value(i, j)), "row {i}");
    }
    Ok(())
}

/// What follows a sum, and what is stored where it is summed, belong to the same launch: a layer of a
/// deep network on one example, whose weights are read once and updated.
#[test]
fn a_sum_shared_by_blocks_is_used_again() -> Result<(), Box<dyn std::error::Error>> {
    let Some(cuda) = gpu::device(module_path!())? else {
        return Ok(());
    };
    let g = Graph::new();
    let [rows, columns] = SIZES;
    let w = g.input("w", SIZES, DType::F32);
    let (a, b) = (
        g.input("a", [rows, 1], DType::F32),
        g.input("b", [columns], DType::F32),
    );
    let total = (w * a).sum([0]);
    let tail = (total * 0.5 + b).relu();
    let next = w - a * b * 0.25;
    // The matrix of another layer may be read before this one's launches are done.
    let v = g.input("v", [columns, rows], DType::F32);
    let after = (v * tail.reshape([columns as isize, 1])).sum([0]);
    let fetched = [tail.key(), next.key(), after.key()];
    let (w, a, b, v) = (w.key(), a.key(), b.key(), v.key());
    let mut session = Session::compile(&g, cuda, &fetched, Updates::none())?;
    let plan = session.step_plan();
    assert_eq!(plan.launches(), 2, "{plan}");
    let eighths = |k: usize, of: usize| (k * 7 % of) as f32 / 8.0 - 1.0;
    let all: Vec<f32> = (0..rows * columns).map(|k| eighths(k, 17)).collect();
    let (left, above): (Vec<f32>, Vec<f32>) = (
        (0..rows).map(|i| eighths(i, 13)).collect(),
        (0..columns).map(|j| eighths(j, 11)).collect(),
    );
    session
        .feed(w, &all)?
        .feed(a, &left)?
        .feed(b, &above)?
        .feed(v, &all)?
        .step()?;
    let tails = session.fetch::<f32>(fetched[0])?;
    for (j, &got) in tails.iter().enumerate() {
        let sum: f32 = (0..rows).map(|i| all[i * columns + j] * left[i]).sum();
        assert_eq!(got, (sum * 0.5 + above[j]).max(0.0), "column {j}");
    }
    for (k, got) in session.fetch::<f32>(fetched[1])?.into_iter().enumerate() {
        let expected = all[k] - left[k / columns] * above[k % columns] * 0.25;
        assert_eq!(got, expected, "element {k}");
    }
    for (i, got) in session.fetch::<f32>(fetched[2])?.into_iter().enumerate() {
        let terms = (0..columns).map(|j| f64::from(all[j * rows + i]) * f64::from(tails[j]));
        let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
        let off = (f64::from(got) - sum).abs();
        assert!(off < 1e-6 * size, "row {i}: {got}, not {sum}");
    }
    Ok(())
}
