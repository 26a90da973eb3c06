//! The conformance suite: on a GPU where there is one, and otherwise on an emulated one.

mod emulator;
mod gpu;

use backprop_testkit::conformance::Kind;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Set to run all specs where the device is emulated: compiling their kernels takes minutes.
const ALL: &str = "BACKPROP_CUDA_ALL";

/// Runs the specs of a kind, whose kernels are compiled together: all on a GPU, and otherwise every
/// one whose number `step` divides.
#[allow(clippy::print_stdout, reason = "says what is declined")]
fn conforms(kind: Kind, step: usize) -> Outcome {
    let Some(cuda) = gpu::device(module_path!())? else {
        return Ok(());
    };
    let whole = gpu::is_required() || std::env::var_os(ALL).is_some();
    let sample = kind.every(if whole { 1 } else { step });
    cuda.compile_ahead(&sample.primitives())?;
    println!("{}", sample.check(&cuda).result()?);
    Ok(())
}

macro_rules! kinds {
    ($($test:ident $Kind:ident $step:literal;)*) => { $(
        #[test]
        fn $test() -> Outcome {
            conforms(Kind::$Kind, $step)
        }
    )* };
}

kinds! {
    buffers Buffers 1;
    functions Functions 13;
    special_values SpecialValues 7;
    casts Casts 3;
    sweep Sweep 7;
    reduce Reduce 17;
    fused_sweep FusedSweep 11;
    rows Rows 23;
    matmul MatMul 29;
    fused_matmul FusedMatMul 17;
    conv Conv 17;
    conv_vjps ConvVjps 29;
    fused_conv FusedConv 37;
    pool Pool 37;
    relocate Relocate 11;
    gather Gather 5;
    scatter_add ScatterAdd 7;
    random Random 7;
    attention Attention 23;
    attention_vjp AttentionVjp 29;
    sort Sort 37;
    fusion Fusion 59;
    plans Plans 1;
}
