//! Attention and its vjp. All optional.

use backprop_core::{
    Attention, AttentionVjp, Body, DType, Heads, KeyMask, Operand, Primitive, Reference, Scalar,
    Source, TensorType, View,
};

use super::accuracy::Accuracy;
use super::code::{Code, dense, seen, shape, tensor};
use super::rig::{Case, Way};
use crate::draw::{Draw, encode};

/// Batch, and queries, keys, depth and width: single ones, no keys, odd ones, more and fewer keys than
/// queries, just past tiles of queries and of keys, deep ones, and enough for several threads.
const SIZES: [(&[usize], [usize; 4]); 11] = [
    (&[], [1, 1, 1, 1]),
    (&[], [1, 9, 3, 2]),
    (&[1], [9, 1, 4, 5]),
    (&[2], [3, 0, 4, 5]),
    (&[2, 3], [7, 5, 3, 6]),
    (&[2], [13, 67, 17, 33]),
    (&[3], [67, 35, 64, 64]),
    (&[], [37, 259, 8, 6]),
    (&[], [133, 131, 4, 3]),
    (&[], [20, 17, 130, 70]),
    (&[5], [67, 67, 32, 32]),
];

const TYPES: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];

#[derive(Clone, Copy, Debug)]
enum Mask {
    None,
    Causal,
    /// Some keys are hidden, of some queries almost all.
    Where,
    /// The same by minus infinity, other scores are shifted.
    Add,
    /// As [`Mask::Where`], the first query sees nothing.
    Blind,
}

const MASKS: [Mask; 4] = [Mask::None, Mask::Causal, Mask::Where, Mask::Add];

/// How operands lie in memory.
#[derive(Clone, Copy, Debug)]
enum Arrangement {
    /// In order.
    Dense,
    /// Each one's last batch axis stands after its rows: `[examples, rows, heads, elements]`.
    Joined,
    /// Side by side in one row of three, which is as wide as the widest.
    Side,
    /// Keys and values, and the mask, are the same for the whole batch.
    Shared,
    /// Elements before rows, and these backwards.
    Turned,
}

/// Sizes, types and views of a spec.
#[derive(Clone, Copy, Debug)]
struct Setting {
    dtype: DType,
    batch: &'static [usize],
    sizes: [usize; 4],
    mask: Mask,
    arrangement: Arrangement,
}

impl Setting {
    fn space(&self, last: &[usize]) -> Vec<usize> {
        [self.batch, last].concat()
    }

    /// A stack of matrices as it is arranged; `part` is its place where several stand side by side.
    fn matrix(&self, part: usize, [rows, columns]: [usize; 2]) -> Source {
        let (rank, dtype) = (self.batch.len(), self.dtype);
        let order = |of: &dyn Fn(&mut Vec<usize>)| {
            let mut order: Vec<usize> = (0..rank + 2).collect();
            of(&mut order);
            order
        };
        let space = self.space(&[rows, columns]);
        match self.arrangement {
            Arrangement::Joined if rank > 0 => {
                let order = order(&|order| order.swap(rank - 1, rank));
                let stored: Vec<usize> = order.iter().map(|&axis| space[axis]).collect();
                seen(dtype, &stored, |v| v.permute(&order))
            }
            Arrangement::Side => {
                let widest = self.sizes[2].max(self.sizes[3]);
                let mut start = vec![0; rank + 2];
                start[rank + 1] = part * widest;
                let step = vec![1; rank + 2];
                let stored = self.space(&[rows, 3 * widest]);
                seen(dtype, &stored, |v| v.slice(&start, &step, shape(&space)))
            }
            Arrangement::Shared if part > 0 => {
                let shared = vec![1; rank];
                let stored = [&shared[..], &[rows, columns]].concat();
                seen(dtype, &stored, |v| v.broadcast(shape(&space)))
            }
            Arrangement::Turned => {
                let order = order(&|order| order.swap(rank, rank + 1));
                let stored = self.space(&[columns, rows]);
                let (mut start, mut step) = (vec![0; rank + 2], vec![1; rank + 2]);
                (start[rank], step[rank]) = (rows - 1, -1);
                seen(dtype, &stored, |v| {
                    v.permute(&order).slice(&start, &step, shape(&space))
                })
            }
            _ => dense(dtype, &space),
        }
    }

    fn mask(&self) -> KeyMask {
        let [queries, keys, ..] = self.sizes;
        let space = self.space(&[queries, keys]);
        let source = |dtype| match self.arrangement {
            Arrangement::Shared => seen(dtype, &[queries, keys], |v| v.broadcast(shape(&space))),
            _ => dense(dtype, &space),
        };
        match self.mask {
            Mask::None => KeyMask::None,
            Mask::Causal => KeyMask::Causal,
            Mask::Where | Mask::Blind => KeyMask::Where(source(DType::Bool)),
            Mask::Add => KeyMask::Add(source(self.dtype)),
        }
    }

    fn heads(&self) -> Heads {
        let [queries, keys, depth, width] = self.sizes;
        Heads {
            batch: shape(self.batch),
            queries,
            keys,
            depth,
            width,
            scale: (1.0 / (depth as f64).sqrt()).to_bits(),
            mask: self.mask(),
            query: Operand::plain(self.matrix(0, [queries, depth])),
            key: Operand::plain(self.matrix(1, [keys, depth])),
            value: Operand::plain(self.matrix(2, [keys, width])),
        }
    }

    /// Attention whose result is of the operands' type.
    fn spec(&self) -> Attention {
        let [queries, _, _, width] = self.sizes;
        let space = self.space(&[queries, width]);
        let accumulator = self.dtype.accumulator();
        Attention {
            heads: self.heads(),
            accumulator,
            space: shape(&space),
            epilogue: Body::store_rounded(accumulator, tensor(self.dtype, &space)),
            lse: tensor(accumulator, &self.space(&[queries])),
        }
    }

    fn vjp(&self) -> AttentionVjp {
        let [queries, keys, depth, width] = self.sizes;
        let space = self.space(&[queries, width]);
        let cotangent = match self.arrangement {
            // The gradient of a sum.
            Arrangement::Shared => Source {
                tensor: tensor(self.dtype, &[1]),
                view: View::splat(shape(&space)),
            },
            _ => self.matrix(0, [queries, width]),
        };
        let results = [[queries, depth], [keys, depth], [keys, width]];
        AttentionVjp {
            heads: self.heads(),
            out: dense(self.dtype, &space),
            lse: dense(self.dtype.accumulator(), &self.space(&[queries])),
            cotangent,
            results: results.map(|sizes| tensor(self.dtype, &self.space(&sizes))),
        }
    }

    /// The bytes of operand `i` of those of the heads.
    fn operand(&self, i: usize, tensor: &TensorType, draw: &mut Draw) -> Vec<u8> {
        let count = tensor.shape.count();
        if i < 3 {
            return draw.bytes(tensor.dtype, count, (-2.0, 2.0));
        }
        let keys = self.sizes[1];
        let masked = |at: usize, draw: &mut Draw| {
            let (query, key) = (at / keys, at % keys);
            let almost_blind = query % 3 == 1 && key + 1 < keys;
            let blind = matches!(self.mask, Mask::Blind) && query == 0;
            // The last key is there for all who are not blind.
            blind || almost_blind || (key + 1 < keys && draw.once_in(4))
        };
        let number = |at| match (masked(at, draw), self.mask) {
            (true, Mask::Add) => f64::NEG_INFINITY,
            (false, Mask::Add) => draw.between((-2.0, 2.0)),
            (hidden, _) => f64::from(u8::from(!hidden)),
        };
        let numbers: Vec<f64> = (0..count).map(number).collect();
        encode(tensor.dtype, &numbers)
    }

    fn accuracy(&self) -> Accuracy {
        Accuracy::Sum {
            terms: self.sizes.iter().sum(),
            scale: 4.0,
        }
    }

    /// A case of any form of attention; operands after those of the heads are of the epilogue.
    fn case(&self, spec: Attention, seed: u64) -> Case {
        let mut draw = Draw::new(seed);
        let own = if matches!(self.mask, Mask::None | Mask::Causal) {
            3
        } else {
            4
        };
        let spec = Primitive::Attention(Box::new(spec));
        let reads = spec.reads().into_iter().enumerate();
        let reads = reads.map(|(i, tensor)| {
            let i = if i < own { i } else { 0 };
            self.operand(i, tensor, &mut draw)
        });
        let reads = reads.collect();
        Case::new(spec, reads, self.accuracy())
    }

    /// The vjp at what attention gives; `None` if the reference fails, which the forward cases show.
    fn vjp_case(&self, seed: u64) -> Option<Case> {
        let forward = self.case(self.spec(), seed);
        let results = forward.run(&Reference, Way::Launched).ok()?;
        let spec = self.vjp();
        let cotangent = spec.cotangent.tensor.clone();
        let bytes =
            Draw::new(seed + 1).bytes(cotangent.dtype, cotangent.shape.count(), (-1.0, 1.0));
        let reads = [forward.reads, results, vec![bytes]].concat();
        let spec = Primitive::AttentionVjp(Box::new(spec));
        Some(Case::new(spec, reads, self.accuracy()))
    }
}

/// What both attention and its vjp are tried on.
fn settings() -> Vec<Setting> {
    let mut settings = Vec::new();
    for dtype in TYPES {
        for (batch, sizes) in SIZES {
            // Large ones take the reference long.
            let large = sizes.iter().product::<usize>() > 1 << 20;
            for mask in MASKS {
                let wanted = match mask {
                    Mask::Causal => !large || dtype == DType::F32,
                    Mask::None => !large || dtype != DType::F32,
                    _ => !large && dtype != DType::BF16,
                };
                if wanted {
                    settings.push(Setting {
                        dtype,
                        batch,
                        sizes,
                        mask,
                        arrangement: Arrangement::Dense,
                    });
                }
            }
        }
        settings.extend(arranged(dtype));
    }
    settings
}

/// Operands seen through views.
fn arranged(dtype: DType) -> impl Iterator<Item = Setting> {
    let arrangements = [
        (Arrangement::Joined, Mask::Causal),
        (Arrangement::Side, Mask::None),
        (Arrangement::Shared, Mask::Where),
        (Arrangement::Shared, Mask::Add),
        (Arrangement::Turned, Mask::Causal),
        (Arrangement::Dense, Mask::Blind),
    ];
    arrangements
        .into_iter()
        .map(move |(arrangement, mask)| Setting {
            dtype,
            batch: &[2, 3],
            sizes: [19, 21, 10, 18],
            mask,
            arrangement,
        })
}

pub(super) fn forward() -> Vec<Case> {
    let settings = settings().into_iter().zip(1..);
    let mut cases: Vec<Case> = settings
        .map(|(setting, seed)| setting.case(setting.spec(), seed))
        .collect();
    for dtype in TYPES {
        cases.extend(fused(dtype));
    }
    cases
}

pub(super) fn vjp() -> Vec<Case> {
    let settings = settings().into_iter().zip(1..);
    settings
        .filter_map(|(setting, seed)| setting.vjp_case(seed))
        .collect()
}

/// Queries that are scaled on their way in, results to which something is added, two of them.
fn fused(dtype: DType) -> Vec<Case> {
    let setting = Setting {
        dtype,
        batch: &[2],
        sizes: [21, 15, 6, 9],
        mask: Mask::None,
        arrangement: Arrangement::Dense,
    };
    let plain = setting.spec();
    let mut scaled = plain.clone();
    let mut code = Code::default();
    let (query, half) = (code.input(0, dtype), code.constant(0.5, dtype));
    code.apply(Scalar::Mul, &[query, half]);
    scaled.heads.query.program = code.program();

    let space = setting.space(&[21, 9]);
    let accumulator = dtype.accumulator();
    let mut code = Code::default();
    let (out, before) = (code.input(0, accumulator), code.input(1, accumulator));
    let after = code.apply(Scalar::Add, &[before, out]);
    code.store(after, &space).store(out, &space);
    let added = Attention {
        epilogue: code.body(vec![dense(accumulator, &space)]),
        ..plain
    };
    vec![
        setting.case(scaled, 1),
        setting.case(added.clone(), 2),
        setting.case(added, 3).in_place(&[(0, 3)]),
    ]
}
