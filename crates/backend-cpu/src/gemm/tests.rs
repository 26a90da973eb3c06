//! Every product is compared bit for bit with the documented order of sums, written down in the
//! plainest way.

use std::fmt::Debug;
use std::ops::Range;

use half::{bf16, f16};

use super::*;
use crate::pool::{Pool, share};

/// Arithmetic of the oracle.
trait Exact: Number + Debug + PartialEq {
    fn fma(self, b: Self, c: Self) -> Self;
    fn plus(self, other: Self) -> Self;
    fn to_f64(self) -> f64;
    const EPSILON: f64;
    const TAINT: Self;
}

macro_rules! exact {
    ($t:ty) => {
        impl Exact for $t {
            fn fma(self, b: Self, c: Self) -> Self {
                self.mul_add(b, c)
            }
            fn plus(self, other: Self) -> Self {
                self + other
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            const EPSILON: f64 = <$t>::EPSILON as f64;
            const TAINT: Self = <$t>::NAN;
        }
    };
}
exact!(f32);
exact!(f64);

/// How an operand lies in memory.
#[derive(Debug, Clone, Copy)]
enum Lies {
    Rows,
    Columns,
    /// Rows with a gap between them.
    Padded,
    /// Columns with a gap between them.
    PaddedColumns,
    /// Every second element, from the last row to the first.
    Sparse,
}

const WAYS: [Lies; 5] = [
    Lies::Rows,
    Lies::Columns,
    Lies::Padded,
    Lies::PaddedColumns,
    Lies::Sparse,
];

/// A batch of matrices in memory.
struct Matrices<E> {
    elements: Vec<E>,
    origin: usize,
    strides: Strides,
    step: isize,
}

impl<E: Copy> Matrices<E> {
    fn new(
        count: usize,
        (rows, columns): (usize, usize),
        lies: Lies,
        make: impl Fn(f64) -> E,
    ) -> Self {
        let (r, c) = (rows as isize, columns as isize);
        let (row, column, size) = match lies {
            Lies::Rows => (c, 1, r * c),
            Lies::Columns => (1, r, r * c),
            Lies::Padded => (c + 3, 1, r * (c + 3)),
            Lies::PaddedColumns => (1, r + 5, c * (r + 5)),
            Lies::Sparse => (-2 * c, 2, 2 * r * c),
        };
        let origin = if row < 0 { (r - 1) * -row } else { 0 };
        let mut seed = (rows * 31 + columns) as u64;
        let mut next = || {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            make((seed >> 40) as f64 / (1u64 << 24) as f64 - 0.5)
        };
        Self {
            elements: (0..count * size as usize).map(|_| next()).collect(),
            origin: origin as usize,
            strides: Strides { row, column },
            step: size,
        }
    }

    fn at(&self, element: usize, row: usize, column: usize) -> E {
        let offset = element as isize * self.step
            + row as isize * self.strides.row
            + column as isize * self.strides.column;
        self.elements[(self.origin as isize + offset) as usize]
    }

    fn pointer(&self) -> *const E {
        self.elements[self.origin..].as_ptr()
    }
}

/// A shape: elements of the batch, and the sizes of the matrices.
#[derive(Debug, Clone, Copy)]
struct Shape(usize, [usize; 3]);

struct Operands<E> {
    shape: Shape,
    left: Matrices<E>,
    right: Matrices<E>,
}

impl<E: Copy> Operands<E> {
    fn new(shape: Shape, (left, right): (Lies, Lies), make: impl Fn(f64) -> E) -> Self {
        let Shape(batch, [m, k, n]) = shape;
        Self {
            shape,
            left: Matrices::new(batch, (m, k), left, &make),
            right: Matrices::new(batch, (k, n), right, &make),
        }
    }

    fn problem(&self, finish: Finish, level: Level, threads: usize) -> Problem {
        let Shape(batch, [m, k, n]) = self.shape;
        let axis = BatchAxis {
            size: batch,
            left: self.left.step,
            right: self.right.step,
        };
        Problem {
            batch: if batch == 1 { Vec::new() } else { vec![axis] },
            m,
            k,
            n,
            left: self.left.strides,
            right: self.right.strides,
            finish,
            level,
            threads,
        }
    }

    /// The product in the documented order, and the sum of the magnitudes of each element's terms.
    fn expected<T: Exact>(&self) -> Vec<(T, f64)>
    where
        E: Source<T>,
    {
        let Shape(batch, [m, k, n]) = self.shape;
        let problem = self.problem(Finish::Store, Level::Scalar, 1);
        let (blocks, parts) = (plan::blocks(k), plan::parts(&problem));
        let sum = |values: &mut dyn Iterator<Item = T>| values.reduce(T::plus).unwrap_or_default();
        let element = |e: usize, i: usize, j: usize| {
            let term = |k: usize| {
                (
                    self.left.at(e, i, k).widen(),
                    self.right.at(e, k, j).widen(),
                )
            };
            let block = |b: usize| {
                share(k, b, blocks).fold(T::default(), |sum, k| {
                    let (x, y) = term(k);
                    x.fma(y, sum)
                })
            };
            let part = |p: usize| sum(&mut share(blocks, p, parts).map(block));
            let size = (0..k)
                .map(term)
                .map(|(x, y)| (x.to_f64() * y.to_f64()).abs());
            (sum(&mut (0..parts).map(part)), size.sum())
        };
        (0..batch * m * n)
            .map(|at| element(at / (m * n), at / n % m, at % n))
            .collect()
    }

    /// The product by a prepared kernel; C and the scratch memory have sentinels behind them.
    #[track_caller]
    fn product<T: Exact>(&self, finish: Finish, level: Level, pool: &Pool) -> Vec<T>
    where
        E: Source<T>,
    {
        let Shape(batch, [m, _, n]) = self.shape;
        let size = batch * m * n;
        let gemm = Gemm::<T, E>::new(&self.problem(finish, level, pool.threads()));
        let elements = gemm.scratch() / size_of::<T>();
        let mut scratch = vec![T::TAINT; elements + 64];
        let start = scratch.as_ptr().align_offset(64);
        let mut c = vec![T::TAINT; size + 16];
        let out = Out(c.as_mut_ptr());
        let hand = |range: Range<usize>, sums: *const T| {
            for (i, at) in range.enumerate() {
                assert!(at < size);
                // SAFETY: ranges are disjoint and inside of C.
                unsafe { out.at(at).write(*sums.add(i)) };
            }
        };
        let memory = Out(scratch[start..].as_mut_ptr());
        let call = || Call {
            left: self.left.pointer(),
            right: self.right.pointer(),
            scratch: memory.at(0).cast(),
            sink: match finish {
                Finish::Store => Sink::Store(out.at(0)),
                Finish::Hand => Sink::Hand(&hand),
            },
        };
        // SAFETY: the memory is that of the problem.
        let job = |worker: crate::pool::Worker<'_>| unsafe { gemm.run(worker, &call()) };
        if gemm.workers() == 1 {
            job(crate::pool::Worker::alone());
        } else {
            pool.run(&job).unwrap();
        }
        let nan = |x: &T| x.to_f64().is_nan();
        assert!(c[size..].iter().all(nan), "wrote behind C");
        assert!(
            scratch[start + elements..].iter().all(nan),
            "wrote behind the scratch memory"
        );
        c.truncate(size);
        c
    }
}

struct Out<T>(*mut T);
// SAFETY: the tests write disjoint elements.
unsafe impl<T> Sync for Out<T> {}

impl<T> Out<T> {
    fn at(&self, i: usize) -> *mut T {
        self.0.wrapping_add(i)
    }
}

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.is_available())
}

/// All levels, numbers of threads and ways to finish give the documented bits, which are close to
/// the truth.
#[track_caller]
fn check<T: Exact, E: Source<T>>(shape: Shape, lies: (Lies, Lies), make: fn(f64) -> E) {
    let operands = Operands::new(shape, lies, make);
    let expected = operands.expected::<T>();
    let Shape(batch, [m, k, n]) = shape;
    for (at, (sum, size)) in expected.iter().enumerate() {
        let (e, i, j) = (at / (m * n), at / n % m, at % n);
        let exact: f64 = (0..k)
            .map(|k| {
                operands.left.at(e, i, k).widen().to_f64()
                    * operands.right.at(e, k, j).widen().to_f64()
            })
            .sum();
        let bound = (k as f64).sqrt().max(2.0) * T::EPSILON * size;
        assert!(
            (sum.to_f64() - exact).abs() <= bound,
            "{sum:?} is not {exact}"
        );
    }
    let expected: Vec<T> = expected.into_iter().map(|(sum, _)| sum).collect();
    for threads in [1, 2, 3] {
        let pool = Pool::new(threads);
        for level in levels() {
            for finish in [Finish::Store, Finish::Hand] {
                let got = operands.product::<T>(finish, level, &pool);
                let wrong = (0..batch * m * n).find(|&i| got[i] != expected[i]);
                let values = wrong.map(|i| (i, got[i], expected[i]));
                assert_eq!(
                    values, None,
                    "{shape:?} {lies:?} {finish:?} {level} {threads} threads"
                );
            }
        }
    }
}

/// Shapes of size one, odd, prime, past tiles, panels and blocks.
const SHAPES: [Shape; 20] = [
    Shape(1, [1, 1, 1]),
    Shape(1, [1, 0, 3]),
    Shape(1, [3, 5, 7]),
    Shape(1, [14, 16, 32]),
    Shape(1, [15, 17, 33]),
    Shape(1, [32, 64, 64]),
    Shape(1, [29, 385, 31]),
    Shape(1, [67, 101, 103]),
    Shape(1, [64, 64, 97]),
    Shape(1, [128, 97, 10]),
    Shape(1, [10, 97, 256]),
    Shape(1, [1, 50, 130]),
    Shape(1, [1, 900, 67]),
    Shape(1, [130, 50, 1]),
    Shape(1, [67, 900, 1]),
    Shape(1, [131, 401, 77]),
    Shape(3, [17, 13, 19]),
    Shape(5, [1, 40, 33]),
    Shape(4, [40, 70, 50]),
    Shape(1, [3, 6200, 5]),
];

#[test]
fn f32_of_every_shape_and_transpose() {
    for shape in SHAPES {
        for left in [Lies::Rows, Lies::Columns] {
            for right in [Lies::Rows, Lies::Columns] {
                check::<f32, f32>(shape, (left, right), |x| x as f32);
            }
        }
    }
}

#[test]
fn f32_of_any_strides() {
    for left in WAYS {
        for right in WAYS {
            check::<f32, f32>(Shape(2, [37, 50, 41]), (left, right), |x| x as f32);
            check::<f32, f32>(Shape(1, [1, 50, 41]), (left, right), |x| x as f32);
            check::<f32, f32>(Shape(1, [37, 50, 1]), (left, right), |x| x as f32);
        }
    }
}

#[test]
fn f64_of_every_shape() {
    for shape in SHAPES {
        check::<f64, f64>(shape, (Lies::Rows, Lies::Columns), |x| x);
        check::<f64, f64>(shape, (Lies::PaddedColumns, Lies::Padded), |x| x);
    }
}

#[test]
fn halves_are_summed_in_f32() {
    for shape in SHAPES {
        check::<f32, f16>(shape, (Lies::Rows, Lies::Columns), f16::from_f64);
        check::<f32, bf16>(shape, (Lies::Columns, Lies::Rows), bf16::from_f64);
    }
    for lies in WAYS {
        check::<f32, f16>(Shape(1, [1, 70, 45]), (lies, lies), f16::from_f64);
    }
}

/// Shapes that are cut into several cells, row blocks, chunks and parts; only the fastest level,
/// for time.
#[test]
fn large_products_agree_with_one_worker_and_with_matrixmultiply() {
    for [m, k, n] in [
        [700, 800, 300],
        [40, 3000, 900],
        [300, 130, 2500],
        [70, 20000, 60],
        [1, 5000, 3000],
    ] {
        let shape = Shape(1, [m, k, n]);
        let operands = Operands::new(shape, (Lies::Rows, Lies::Rows), |x| x as f32);
        let level = Level::detect();
        let alone = operands.product::<f32>(Finish::Store, level, &Pool::new(1));
        for (threads, finish) in [
            (1, Finish::Hand),
            (2, Finish::Store),
            (3, Finish::Hand),
            (5, Finish::Hand),
        ] {
            let got = operands.product::<f32>(finish, level, &Pool::new(threads));
            assert!(got == alone, "{shape:?} {finish:?} {threads} threads");
        }
        let mut yardstick = vec![0.0_f32; m * n];
        let (a, b) = (operands.left.pointer(), operands.right.pointer());
        let (k_, n_) = (k as isize, n as isize);
        // SAFETY: three dense matrices of these sizes.
        unsafe {
            let c = yardstick.as_mut_ptr();
            matrixmultiply::sgemm(m, k, n, 1.0, a, k_, 1, b, n_, 1, 0.0, c, n_, 1);
        }
        let bound = (k as f32).sqrt() * f32::EPSILON * (k as f32) / 16.0;
        let far = alone
            .iter()
            .zip(&yardstick)
            .find(|(x, y)| (*x - *y).abs() > bound);
        assert_eq!(far, None, "{shape:?}");
    }
}
