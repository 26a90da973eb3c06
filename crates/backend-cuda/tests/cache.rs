//! Compiled kernels on disk.

mod emulator;
mod gpu;

use std::fs;
use std::path::Path;

use backprop_core::DType;
use backprop_cuda::Cuda;
use backprop_graph::{Graph, Session, Updates};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// `2 x + 1`, of more values than one copy takes, fed while the step before may still run.
fn doubled(cuda: Cuda) -> Outcome {
    const COUNT: usize = 3 << 19;
    let g = Graph::new();
    let x = g.input("x", [COUNT], DType::F32);
    let y = (x * 2.0 + 1.0).key();
    let x = x.key();
    let mut session = Session::compile(&g, cuda, &[y], Updates::none())?;
    for round in 0..6 {
        let values: Vec<f32> = (0..COUNT).map(|i| ((i + round) % 1000) as f32).collect();
        session.feed(x, &values)?.step()?;
        let expected: Vec<f32> = values.iter().map(|x| x * 2.0 + 1.0).collect();
        assert!(session.fetch::<f32>(y)? == expected, "round {round}");
    }
    Ok(())
}

#[test]
fn a_damaged_image_is_compiled_anew() -> Outcome {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("damaged-cuda-cache");
    let _ = fs::remove_dir_all(&folder);
    let device = || gpu::device_with(module_path!(), |builder| builder.cache(&folder));
    let Some(cuda) = device()? else {
        return Ok(());
    };
    doubled(cuda)?;
    let images = || fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>();
    for image in images()? {
        fs::write(image.path(), b"no image\0")?;
    }
    if let Some(cuda) = device()? {
        doubled(cuda)?;
    }
    for image in images()? {
        assert_ne!(fs::read(image.path())?, b"no image\0");
    }
    Ok(())
}
