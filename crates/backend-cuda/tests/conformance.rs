//! The conformance suite: on a GPU where there is one, and otherwise on an emulated one.

mod emulator;
mod gpu;

use backprop_testkit::conformance::{Kind, check};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Runs the specs of a kind, whose kernels are compiled together.
#[allow(clippy::print_stdout, reason = "says what is declined")]
fn conforms(kind: Kind) -> Outcome {
    let Some(cuda) = gpu::device(module_path!())? else {
        return Ok(());
    };
    cuda.compile_ahead(&kind.primitives())?;
    println!("{}", check(&cuda, kind).result()?);
    Ok(())
}

macro_rules! kinds {
    ($($test:ident $Kind:ident;)*) => { $(
        #[test]
        fn $test() -> Outcome {
            conforms(Kind::$Kind)
        }
    )* };
}

kinds! {
    buffers Buffers;
    functions Functions;
    special_values SpecialValues;
    casts Casts;
    sweep Sweep;
    reduce Reduce;
    fused_sweep FusedSweep;
    rows Rows;
    matmul MatMul;
    fused_matmul FusedMatMul;
    conv Conv;
    conv_vjps ConvVjps;
    fused_conv FusedConv;
    pool Pool;
    relocate Relocate;
    gather Gather;
    scatter_add ScatterAdd;
    random Random;
    attention Attention;
    attention_vjp AttentionVjp;
    sort Sort;
    fusion Fusion;
    plans Plans;
}
