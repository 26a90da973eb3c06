//! Random graphs: fused or not, on the reference or not, the same values, and gradients that agree
//! with differences. A failure names its seed.

use backprop_core::{DType, Reference};
use backprop_testkit::{GraphError, RandomGraph};

const GRAPHS: u64 = 120;

#[test]
fn fusion_changes_no_value() -> Result<(), GraphError> {
    for dtype in [DType::F64, DType::F32, DType::BF16] {
        for seed in 0..GRAPHS {
            let graph = RandomGraph {
                seed,
                dtype,
                operations: 10 + seed as usize % 30,
            };
            graph.check_values(Reference)?;
        }
    }
    Ok(())
}

#[test]
fn fusion_changes_no_step() -> Result<(), GraphError> {
    for dtype in [DType::F64, DType::F32] {
        for seed in 0..GRAPHS {
            let graph = RandomGraph {
                seed,
                dtype,
                operations: 4 + seed as usize % 20,
            };
            graph.check_training(Reference)?;
        }
    }
    Ok(())
}

/// What runs again gives the same bits, whatever the graph; and with some graphs it saves memory.
#[test]
fn a_budget_changes_no_step() -> Result<(), GraphError> {
    let mut smaller = 0;
    for dtype in [DType::F64, DType::F32] {
        for seed in 0..GRAPHS / 8 {
            let graph = RandomGraph {
                seed,
                dtype,
                operations: 4 + 3 * seed as usize,
            };
            let (smallest, without) = graph.check_budgets(Reference)?;
            smaller += usize::from(smallest < without);
        }
    }
    assert!(smaller > 5, "{smaller} take fewer bytes");
    Ok(())
}

#[test]
fn gradients_agree_with_differences() -> Result<(), GraphError> {
    for seed in 0..GRAPHS {
        let graph = RandomGraph {
            seed,
            operations: 4 + seed as usize % 12,
            ..RandomGraph::default()
        };
        graph.check_gradients()?;
    }
    Ok(())
}
