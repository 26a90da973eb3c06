//! Reductions and row programs against the reference, at every level of this machine.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use backprop_core::{
    Axes, Body, DType, Inst, MAX_RANK, Output, Primitive, Reduction, Rows, Scalar, Shape, Sink,
    Source, TensorType, View,
};
use harness::program::{Code, dense, reduced, shape, stored, sweep};
use harness::{check, levels, random_bytes, run, tensor};

/// Subsets of the axes of a space.
fn subsets(rank: usize) -> impl Iterator<Item = Axes> {
    (0..1usize << rank).map(move |bits| (0..rank).filter(|axis| bits >> axis & 1 == 1).collect())
}

#[test]
fn reductions_over_any_axes() {
    let spaces: [&[usize]; 8] = [
        &[1],
        &[7],
        &[3, 5],
        &[130, 9],
        &[9, 300],
        &[2, 70, 33],
        &[3, 1, 5, 4],
        &[70, 3, 70, 2],
    ];
    for dtype in DType::ALL {
        for sizes in spaces {
            let space = shape(sizes);
            for axes in subsets(sizes.len()) {
                for reduction in [Reduction::Sum, Reduction::Max, Reduction::Min] {
                    let mut code = Code::default();
                    let x = code.input(0, dtype);
                    let outputs = vec![reduced(x, dtype, reduction, (space, axes))];
                    let spec = sweep(space, vec![dense(dtype, sizes)], code, outputs);
                    check(&spec, &[random_bytes(dtype, space.count(), (-1.0, 3.0), 1)]);
                }
            }
        }
    }
}

#[test]
fn long_reductions_have_the_same_bits_for_any_number_of_threads_and_fused() {
    for (sizes, axes) in [
        (vec![100_003], Axes::all(1)),
        (vec![3, 40_000], [1].into_iter().collect()),
        (vec![500, 300], [0].into_iter().collect()),
        (vec![500, 300], [1].into_iter().collect()),
        (vec![70, 5000], [0].into_iter().collect()),
        (vec![131, 40], [0].into_iter().collect()),
        (vec![20, 30, 200], [0, 2].into_iter().collect()),
        (vec![30, 200, 20], [1].into_iter().collect()),
    ] {
        let space = shape(&sizes);
        let sum = |code: &mut Code| {
            let x = code.input(0, DType::F32);
            code.apply(Scalar::Exp, &[x])
        };
        let mut alone = Code::default();
        let y = sum(&mut alone);
        let out = reduced(y, DType::F32, Reduction::Sum, (space, axes));
        let alone = sweep(
            space,
            vec![dense(DType::F32, &sizes)],
            alone,
            vec![out.clone()],
        );
        let mut fused = Code::default();
        let y = sum(&mut fused);
        let bias = fused.input(1, DType::F32);
        let scale = fused.input(2, DType::F32);
        let z = fused.apply(Scalar::Mul, &[y, bias]);
        let z = fused.apply(Scalar::Sub, &[z, scale]);
        let (first, last) = (sizes[0], *sizes.last().unwrap());
        let bias = Source {
            tensor: tensor(DType::F32, &[last]),
            view: View::dense(shape(&[last])).broadcast(space),
        };
        // The same all along a row.
        let mut scale = Source {
            tensor: tensor(DType::F32, &[first]),
            view: View::splat(space),
        };
        scale.view.strides[0] = 1;
        let most = reduced(z, DType::F32, Reduction::Max, (space, axes));
        let outputs = vec![out, stored(z, DType::F32, &sizes), most];
        let fused = sweep(
            space,
            vec![dense(DType::F32, &sizes), bias, scale],
            fused,
            outputs,
        );
        let reads = [(space.count(), 3), (last, 4), (first, 5)]
            .map(|(count, seed)| random_bytes(DType::F32, count, (0.0, 1.0), seed));
        for cpu in levels() {
            let one = run(&cpu(1), &alone, &reads[..1], &[]);
            let both = run(&cpu(1), &fused, &reads, &[]);
            assert_eq!(one[0], both[0], "fused over {axes} of {space}");
            for threads in [2, 3] {
                assert_eq!(
                    run(&cpu(threads), &alone, &reads[..1], &[]),
                    one,
                    "{threads} threads"
                );
                assert_eq!(
                    run(&cpu(threads), &fused, &reads, &[]),
                    both,
                    "{threads} threads"
                );
            }
        }
        check(&fused, &reads);
    }
}

/// Softmax by rows with its largest value, and a scaled copy.
fn softmax(dtype: DType, space: Shape, axes: Axes) -> Primitive {
    let sizes = space.sizes();
    let mut code = Code::default();
    let x = code.input(0, dtype);
    let top = code.push(Inst::Reduce(Reduction::Max, x), dtype);
    let shifted = code.apply(Scalar::Sub, &[x, top]);
    let e = code.apply(Scalar::Exp, &[shifted]);
    let sum = code.push(Inst::Reduce(Reduction::Sum, e), dtype);
    let log = code.apply(Scalar::Log, &[sum]);
    let y = code.apply(Scalar::Div, &[e, sum]);
    let scale = code.input(1, dtype);
    let scaled = code.apply(Scalar::Mul, &[y, scale]);
    let rows = space.without(axes);
    let outputs = vec![
        stored(y, dtype, sizes),
        stored(log, dtype, rows.sizes()),
        stored(scaled, dtype, sizes),
        stored(sum, dtype, rows.sizes()),
    ];
    // One factor a row, in reverse order.
    let mut strides = [0; MAX_RANK];
    let mut stride = -1;
    for axis in (0..rows.rank()).rev() {
        strides[axis] = stride;
        stride *= rows.size(axis) as isize;
    }
    let view = View {
        shape: space,
        offset: rows.count() - 1,
        strides,
    };
    let factor = Source {
        tensor: TensorType::dense(dtype, rows),
        view,
    };
    let inputs = vec![dense(dtype, sizes), factor];
    let body = Body {
        inputs,
        program: code.0,
        outputs,
    };
    Primitive::Rows(Rows { space, axes, body })
}

#[test]
fn row_programs_of_every_width() {
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        for sizes in [
            &[3, 4, 10][..],
            &[5, 33],
            &[1, 256],
            &[40, 2],
            &[7, 257],
            &[2, 2, 3, 3000],
            &[3, 1, 9000],
        ] {
            let space = shape(sizes);
            for trailing in 1..sizes.len() {
                let axes: Axes = (trailing..sizes.len()).collect();
                if space.filter(|axis| axes.contains(axis)).count() == 1 {
                    continue;
                }
                let reads = [
                    random_bytes(dtype, space.count(), (-3.0, 3.0), 1),
                    random_bytes(dtype, space.without(axes).count(), (0.5, 2.0), 2),
                ];
                check(&softmax(dtype, space, axes), &reads);
            }
        }
    }
}

#[test]
fn a_row_is_summed_as_a_sweep_sums_it() {
    for width in [10, 300, 9001] {
        let (space, axes) = (shape(&[3, width]), Axes::NONE.with(1));
        let x = random_bytes(DType::F32, 3 * width, (-1.0, 1.0), 5);
        let out = |r| Output {
            sink: Sink::Store,
            ..reduced(r, DType::F32, Reduction::Sum, (space, axes))
        };
        let mut code = Code::default();
        let input = code.input(0, DType::F32);
        let sum = code.push(Inst::Reduce(Reduction::Sum, input), DType::F32);
        let body = Body {
            inputs: vec![dense(DType::F32, &[3, width])],
            program: code.0,
            outputs: vec![out(sum)],
        };
        let rows = Primitive::Rows(Rows { space, axes, body });
        let mut code = Code::default();
        let input = code.input(0, DType::F32);
        let outputs = vec![reduced(input, DType::F32, Reduction::Sum, (space, axes))];
        let spec = sweep(space, vec![dense(DType::F32, &[3, width])], code, outputs);
        for cpu in levels() {
            let reads = [x.clone()];
            assert_eq!(
                run(&cpu(2), &rows, &reads, &[]),
                run(&cpu(1), &spec, &reads, &[])
            );
        }
    }
}
