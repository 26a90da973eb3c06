//! The training that is killed: a network that learns to read digits, and saves itself after each step.

use std::path::Path;

use backprop::nn::{Features, Layer, Linear};
use backprop::optim::Rate;
use backprop::prelude::*;
use backprop::{Batches, ErrorKind, Position, idx};

const BATCH: usize = 32;
const WIDTHS: [usize; 3] = [64, 32, 10];
/// The name of the note that says where the loader stands.
const LOADER: &str = "loader";

/// Trains up to the end of an epoch, from what the file holds if it is there.
pub(crate) fn train(file: &Path, epochs: u64) -> Result<()> {
    let (pixels, labels) = digits()?;
    let g = Graph::with_seed(1);
    let x = g.input("x", [BATCH, WIDTHS[0]], F32);
    let y = g.input("y", [BATCH], I32);
    let (loss, updates) = step(&g, x, y)?;
    let mut loader = Loader::new(labels.len(), Batches::shuffled(BATCH, 1))?;
    let mut session = Session::compile(&g, Cpu::new()?, &[loss.key()], updates)?;
    if file.exists() {
        let saved = Checkpoint::read(file)?;
        loader.seek(saved.get(LOADER)?)?;
        saved.restore(&mut session)?;
    }
    let (mut xs, mut ys) = (Vec::new(), Vec::new());
    while loader.position().epoch < epochs {
        let batch = loader.next_batch();
        batch.gather(&pixels, &mut xs)?;
        batch.gather(&labels, &mut ys)?;
        session.feed(x, &xs)?.feed(y, &ys)?.step()?;
        let saved = Checkpoint::of(&session)?.with(LOADER, loader.position());
        saved.with("steps", loader.steps()).write(file)?;
    }
    Ok(())
}

fn step<'g>(g: &'g Graph, x: Tensor<'g>, y: Tensor<'g>) -> Result<(Tensor<'g>, Updates)> {
    let random = g.random_state("random", 1);
    let layer =
        |name, [input, output]: [usize; 2]| Linear::new(g, name, Features { input, output }, F32);
    let first = layer("first", [WIDTHS[0], WIDTHS[1]]);
    let last = layer("last", [WIDTHS[1], WIDTHS[2]]);
    let hidden = first.forward(x).relu().dropout(0.1, random.next_key());
    let loss = last
        .forward(hidden)
        .cross_entropy(y, CrossEntropy::default());
    let parameters = [first.parameters(), last.parameters()].concat();
    let gradients = g.grad(loss, &parameters)?;
    let options = AdamW {
        lr: Rate::cosine(1e-2, 20, 1320),
        ..AdamW::default()
    };
    let updates = optim::adamw(g, &parameters, &gradients, options);
    let averaged = optim::ema(g, &parameters, updates, 0.99);
    Ok((loss, averaged.updates.and(random.updates())))
}

/// How many steps a file has behind it; it has to be whole, if it is there.
pub(crate) fn steps(file: &Path) -> Result<u64> {
    if !file.exists() {
        return Ok(0);
    }
    let saved = Checkpoint::read(file)?;
    saved.get::<Position>(LOADER)?;
    saved.get("steps")
}

/// Pixels between 0 and 1, and labels.
fn digits() -> Result<(Vec<f32>, Vec<i32>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/digits");
    let bytes = |name: &str| -> Result<Vec<u8>> {
        let data = idx::read(folder.join(name))?;
        let unknown = || ErrorKind::Unknown {
            what: format!("{name}: {data} where bytes belong"),
        };
        Ok(data.as_u8().ok_or_else(unknown)?.to_vec())
    };
    let pixels = bytes("digits-images-idx3-ubyte")?;
    let labels = bytes("digits-labels-idx1-ubyte")?;
    Ok((
        pixels
            .iter()
            .map(|&pixel| f32::from(pixel) / 16.0)
            .collect(),
        labels.iter().map(|&label| i32::from(label)).collect(),
    ))
}
