//! Which products are left to cuBLASLt, and that what it is told is what is meant: a host interprets
//! it as the library would.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panics"
)]

use backprop_core::{
    Body, DType, Inst, Layout, MAX_RANK, MatMul, Operand, Primitive, Program, Register, Scalar,
    Shape, TensorType, View,
};

use super::*;
use crate::contraction::{Options, Precision};
use crate::lowered::{Arg, Lowered, Source, Work};

fn shape(sizes: &[usize]) -> Shape {
    Shape::new(sizes).unwrap()
}

/// A plain product of dense operands.
fn dense(dtype: DType, batch: &[usize], [m, n, k]: [usize; 3]) -> MatMul {
    let operand = |rows, columns| {
        let tensor = TensorType::dense(dtype, shape(&[batch, &[rows, columns]].concat()));
        let view = View::dense(tensor.shape);
        Operand::plain(backprop_core::Source { tensor, view })
    };
    let accumulator = dtype.accumulator();
    let space = shape(&[batch, &[m, n]].concat());
    MatMul {
        batch: shape(batch),
        m,
        k,
        n,
        left: operand(m, k),
        right: operand(k, n),
        accumulator,
        space,
        epilogue: Body::store_rounded(accumulator, TensorType::dense(dtype, space)),
    }
}

const TF32: Options = Options {
    precision: Precision::Tf32,
    products: Products::Auto,
    shared: Options::SHARED,
};

fn lowered(spec: &MatMul, options: Options) -> Lowered {
    crate::lower(&Primitive::MatMul(spec.clone()), options).unwrap()
}

fn product(spec: &MatMul, options: Options) -> Option<Product> {
    lowered(spec, options).products().next().cloned()
}

/// Numbers that look random.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % end
    }

    /// A view of a space: its axes in some order of memory, with gaps, or repeated.
    fn view(&mut self, space: Shape) -> View {
        let mut order: Vec<usize> = (0..space.rank()).collect();
        if self.below(2) == 0 {
            let (a, b) = (self.below(space.rank()), self.below(space.rank()));
            order.swap(a, b);
        }
        let mut strides = [0; MAX_RANK];
        let mut next = if self.below(8) == 0 { 2 } else { 1 };
        for &axis in order.iter().rev() {
            if self.below(8) > 0 {
                strides[axis] = next as isize;
                next *= space.size(axis) + if self.below(3) == 0 { self.below(3) } else { 0 };
            }
        }
        View {
            shape: space,
            offset: self.below(5),
            strides,
        }
    }

    fn operand(&mut self, space: Shape) -> Operand {
        let view = self.view(space);
        let (_, last) = view.bounds().unwrap();
        let tensor = TensorType::dense(DType::F64, shape(&[last + 1]));
        Operand::plain(backprop_core::Source { tensor, view })
    }
}

/// All places of a shape.
fn places(shape: Shape) -> impl Iterator<Item = Vec<usize>> {
    (0..shape.count()).map(move |number| {
        let strides = shape.strides();
        let sizes = shape.sizes().iter().enumerate();
        sizes
            .map(|(axis, size)| number / strides[axis] as usize % size)
            .collect()
    })
}

/// The sums as the spec means them; an element's value follows from its number.
fn meant(spec: &MatMul) -> Vec<f64> {
    let (left, right) = spec.plain_operands().unwrap();
    let space = shape(&[spec.batch.sizes(), &[spec.m, spec.n]].concat());
    let sum = |place: Vec<usize>| {
        let (batch, matrix) = place.split_at(spec.batch.rank());
        let term = |k: usize| {
            let a = left.view.element(&[batch, &[matrix[0], k]].concat());
            let b = right.view.element(&[batch, &[k, matrix[1]]].concat());
            value(0, a) * value(1, b)
        };
        (0..spec.k).map(term).sum()
    };
    places(space).map(sum).collect()
}

fn value(operand: usize, element: usize) -> f64 {
    ((element * 7 + operand * 3) % 11) as f64 - 5.0
}

/// The sums as the library computes them: `D = op(B) op(A)`, by columns.
fn computed(product: &Product) -> Vec<f64> {
    let [first, second, result] = product.by_columns();
    let at = |side: &Side, matrix: ByColumns, batch: usize, place: [usize; 2]| {
        let [row, column] = match side.order {
            Order::Rows => place,
            Order::Columns => [place[1], place[0]],
        };
        assert!(row < matrix.rows && column < matrix.columns && matrix.rows <= matrix.leading);
        let Arg::Read(operand) = side.arg else {
            panic!("{side:?}")
        };
        let element = side.first + batch * matrix.batch + column * matrix.leading + row;
        value(operand, element)
    };
    let mut sums = vec![f64::NAN; product.batch * product.m * product.n];
    for batch in 0..product.batch {
        for (row, column) in (0..result.rows).flat_map(|r| (0..result.columns).map(move |c| (r, c)))
        {
            let term = |k: usize| {
                let a = at(&product.right, first, batch, [row, k]);
                a * at(&product.left, second, batch, [k, column])
            };
            let to = batch * result.batch + column * result.leading + row;
            sums[to] = (0..product.k).map(term).sum();
        }
    }
    sums
}

#[test]
fn what_the_library_computes_is_what_is_meant() {
    let mut draw = Draw(1);
    let mut orders = [0; 5];
    for _ in 0..4000 {
        let rank = draw.below(3);
        let batch: Vec<usize> = (0..rank).map(|_| 1 + draw.below(3)).collect();
        let [m, n, k] = [(); 3].map(|()| 1 + draw.below(4));
        let mut spec = dense(DType::F64, &batch, [m, n, k]);
        spec.left = draw.operand(shape(&[&batch[..], &[m, k]].concat()));
        spec.right = draw.operand(shape(&[&batch[..], &[k, n]].concat()));
        let Some(product) = Product::readable(&spec, Compute::Double) else {
            orders[4] += 1;
            continue;
        };
        assert_eq!(computed(&product), meant(&spec), "{spec:?}\n{product:?}");
        let side = |side: &Side| usize::from(side.order == Order::Columns);
        orders[side(&product.left) * 2 + side(&product.right)] += 1;
    }
    assert!(orders.iter().all(|&count| count > 20), "{orders:?}");
}

#[test]
fn dense_and_transposed_operands_are_always_read() {
    for batch in [&[][..], &[3], &[2, 3]] {
        for transposed in 0..4 {
            let mut spec = dense(DType::F32, batch, [4, 5, 6]);
            for (operand, bit) in [(&mut spec.left, 1), (&mut spec.right, 2)] {
                if transposed & bit == 0 {
                    continue;
                }
                let rank = batch.len();
                let mut order: Vec<usize> = (0..rank + 2).collect();
                order.swap(rank, rank + 1);
                let view = &mut operand.inputs[0].view;
                *view = View::dense(view.shape.permute(&order)).permute(&order);
            }
            let product = Product::readable(&spec, Compute::Strict).unwrap();
            assert_eq!(computed(&product), meant(&spec));
        }
    }
}

/// The shape with its axes in another order.
trait Permute {
    fn permute(&self, order: &[usize]) -> Shape;
}

impl Permute for Shape {
    fn permute(&self, order: &[usize]) -> Shape {
        order.iter().map(|&axis| self.size(axis)).collect()
    }
}

#[test]
fn a_batch_of_rows_times_one_matrix_is_one_product() {
    let mut spec = dense(DType::F32, &[4, 3], [5, 6, 7]);
    let right = &mut spec.right.inputs[0];
    right.tensor.shape = shape(&[7, 6]);
    right.view = View::dense(right.tensor.shape).broadcast(right.view.shape);
    let product = Product::readable(&spec, Compute::Tf32).unwrap();
    assert_eq!((product.batch, product.m), (1, 60));
    assert_eq!(computed(&product), meant(&spec));
}

#[test]
fn large_products_are_left_to_the_library() {
    let cube = |dtype, size| dense(dtype, &[], [size; 3]);
    let strict = |products| Options {
        precision: Precision::Strict,
        products,
        shared: Options::SHARED,
    };
    let auto = strict(Products::Auto);
    let all = strict(Products::CuBlas);
    for (spec, options, expected) in [
        (cube(DType::F32, 512), TF32, Some(Compute::Tf32)),
        (cube(DType::F32, 511), TF32, None),
        (cube(DType::F32, 1024), auto, None),
        (cube(DType::F32, 512), all, Some(Compute::Strict)),
        (cube(DType::F32, 511), all, None),
        (cube(DType::BF16, 256), auto, Some(Compute::Half)),
        (cube(DType::F16, 256), all, Some(Compute::Half)),
        (cube(DType::F16, 256), strict(Products::Own), None),
        (cube(DType::F64, 512), auto, Some(Compute::Double)),
        (cube(DType::F64, 256), auto, None),
        (cube(DType::I32, 512), all, None),
        // Many small ones are large together; a vector is not.
        (
            dense(DType::F32, &[1024], [64, 64, 32]),
            TF32,
            Some(Compute::Tf32),
        ),
        (dense(DType::F32, &[], [1, 4096, 4096]), TF32, None),
    ] {
        let found = product(&spec, options).map(|product| product.compute);
        assert_eq!(
            found, expected,
            "{spec} of {} {options:?}",
            spec.accumulator
        );
    }
}

#[test]
fn tensors_in_other_layouts_and_of_other_types_are_not() {
    let mut spec = dense(DType::F32, &[], [512; 3]);
    spec.left.inputs[0].tensor.layout = Layout {
        order: Vec::new(),
        tiles: vec![(0, 8)],
    };
    assert_eq!(product(&spec, TF32), None);
    let mut spec = dense(DType::BF16, &[], [512; 3]);
    spec.right = dense(DType::F16, &[], [512; 3]).right;
    assert_eq!(product(&spec, TF32), None);
}

/// Adds a row to the sums and stores what comes out.
fn with_bias(mut spec: MatMul) -> MatMul {
    let dtype = spec.epilogue.outputs[0].tensor.dtype;
    let row = TensorType::dense(spec.accumulator, shape(&[spec.n]));
    let view = View::dense(row.shape).broadcast(spec.space);
    spec.epilogue.inputs = vec![backprop_core::Source { tensor: row, view }];
    let mut program = Program::identity(spec.accumulator);
    let bias = program.push(Inst::Input(1), spec.accumulator).unwrap();
    let sum = Inst::Apply(Scalar::Add, [Register(0), bias, Register(0)]);
    let mut last = program.push(sum, spec.accumulator).unwrap();
    if dtype != spec.accumulator {
        last = program.push(Inst::Cast(last), dtype).unwrap();
    }
    spec.epilogue.program = program;
    spec.epilogue.outputs[0].register = last;
    spec
}

/// Kernels that go on with the sums of a product.
pub(crate) fn epilogues() -> Vec<Source> {
    let of = |dtype| lowered(&with_bias(dense(dtype, &[2], [1024, 1024, 64])), TF32);
    let all = [DType::F32, DType::BF16].map(of);
    let launches = all.iter().flat_map(Lowered::launches);
    launches.map(|launch| launch.source.clone()).collect()
}

#[test]
fn sums_come_from_the_same_product_whatever_becomes_of_them() {
    for dtype in [DType::F32, DType::BF16, DType::F64] {
        let plain = dense(dtype, &[], [512, 512, 512]);
        let fused = with_bias(plain.clone());
        let [plain, fused] = [plain, fused].map(|spec| lowered(&spec, TF32));
        let found = [&plain, &fused].map(|lowered| {
            let product = lowered.products().next().unwrap();
            Product {
                result: Arg::Write(0),
                workspace: Workspace {
                    at: 0,
                    ..product.workspace
                },
                ..product.clone()
            }
        });
        assert_eq!(found[0], found[1]);
        // Sums that are the result are written there.
        let own = usize::from(dtype == DType::BF16);
        assert_eq!(
            [&plain, &fused].map(|lowered| lowered.launches().count()),
            [own, 1]
        );
    }
}

#[test]
fn sums_and_workspace_lie_apart_in_scratch_memory() {
    let fused = lowered(&with_bias(dense(DType::F32, &[], [300, 2000, 300])), TF32);
    let [Work::Product(product), Work::Kernel(launch)] = &fused.works[..] else {
        panic!("{fused:?}");
    };
    assert_eq!(
        (product.result, launch.args.last()),
        (Arg::Scratch(0), Some(&Arg::Scratch(0)))
    );
    assert!(product.workspace.at >= 300 * 2000 * 4);
    let direct = lowered(&dense(DType::F32, &[], [300, 2000, 300]), TF32);
    let product = direct.products().next().unwrap();
    assert_eq!((product.result, product.workspace.at), (Arg::Write(0), 0));
    for (lowered, start) in [(&fused, 1 << 20), (&direct, 1 << 20 | 64)] {
        let product = lowered.products().next().unwrap();
        let addresses = Addresses::new(product, &|arg| match arg {
            Arg::Scratch(at) => start + at as u64,
            Arg::Read(_) | Arg::Write(_) => 4096,
        });
        let workspace = addresses.workspace();
        assert!(workspace.is_multiple_of(256) && workspace >= start);
        let end = start + lowered.scratch as u64;
        assert!(workspace + product.workspace.bytes as u64 <= end);
    }
}

/// Descriptors need no device, only the library.
#[test]
#[allow(clippy::print_stdout, reason = "a test that cannot run says so")]
fn the_library_takes_all_descriptors() {
    // SAFETY: loading NVIDIA's library runs its initialisers, which is what they are for.
    if !unsafe { cudarc::cublaslt::sys::is_culib_present() } {
        println!("skipped: descriptors are not made: no cuBLASLt");
        return;
    }
    let options = Options {
        precision: Precision::Strict,
        products: Products::CuBlas,
        shared: Options::SHARED,
    };
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        for options in [options, TF32] {
            let spec = dense(dtype, &[2], [512, 512, 512]);
            if let Some(product) = product(&spec, options) {
                plan::describe(&product).unwrap();
            }
        }
    }
}

#[test]
fn the_variable_has_two_values() {
    let named = |name: &str| Products::named(Some(OsStr::new(name))).ok().flatten();
    assert_eq!(named("own"), Some(Products::Own));
    assert_eq!(named("blas"), Some(Products::CuBlas));
    assert!(Products::named(Some(OsStr::new("both"))).is_err());
    assert_eq!(Products::named(None).ok(), Some(None));
}
