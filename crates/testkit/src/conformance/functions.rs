//! Every function of the scalar table and every cast, one at a time.

use backprop_core::{DType, Primitive, Scalar};

use super::accuracy::Accuracy;
use super::code::{Code, dense};
use super::rig::Case;
use crate::draw::{Draw, encode};

/// One element, an odd number, a prime past one tile, and just past several.
const LENGTHS: [usize; 4] = [1, 17, 257, 1025];

/// The operand types that a function takes.
pub(crate) fn types_of(function: Scalar) -> impl Iterator<Item = Vec<DType>> {
    let types = move |dtype: DType| {
        let mut types = vec![dtype; function.arity()];
        if function == Scalar::Where {
            types[0] = DType::Bool;
        }
        types
    };
    let all = DType::ALL.into_iter().map(types);
    all.filter(move |types| function.result(types).is_some())
}

pub(crate) fn apply(function: Scalar, types: &[DType], count: usize) -> Primitive {
    let mut code = Code::default();
    let operands: Vec<_> = (0..types.len()).map(|i| code.input(i, types[i])).collect();
    let result = code.apply(function, &operands);
    code.store(result, &[count]);
    let inputs = types.iter().map(|&dtype| dense(dtype, &[count])).collect();
    code.sweep(&[count], inputs)
}

pub(super) fn ordinary() -> Vec<Case> {
    let mut cases = Vec::new();
    for (seed, &function) in Scalar::ALL.iter().enumerate() {
        for types in types_of(function) {
            for count in LENGTHS {
                let mut draw = Draw::new(seed as u64);
                let reads = types.iter().map(|&dtype| {
                    let interval = match dtype {
                        DType::U8 => (0.0, 256.0),
                        DType::Bool => (0.0, 2.0),
                        _ if dtype.is_float() => function.domain(),
                        _ => (-300.0, 300.0),
                    };
                    draw.bytes(dtype, count, interval)
                });
                let spec = apply(function, &types, count);
                let accuracy = Accuracy::Function(function);
                cases.push(Case::new(spec, reads.collect(), accuracy));
            }
        }
    }
    cases
}

/// Where functions have limits, poles and jumps, where `exp` leaves the range, and the ends of the
/// integers.
fn special(dtype: DType) -> &'static [f64] {
    match dtype {
        DType::U8 => &[0.0, 1.0, 2.0, 127.0, 128.0, 255.0],
        DType::Bool => &[0.0, 1.0],
        DType::I32 => &[
            0.0,
            1.0,
            -1.0,
            2.0,
            -7.0,
            46_341.0,
            -2_147_483_648.0,
            2_147_483_647.0,
        ],
        DType::I64 => &[0.0, 1.0, -1.0, 2.0, -7.0, 3e9, -9.3e18, 9.3e18],
        _ => &[
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            -0.5,
            2.0,
            -2.5,
            89.0,
            -104.0,
            710.0,
            3e4,
            3e38,
            -3e38,
            1e-30,
        ],
    }
}

/// All combinations of special values as operands.
pub(super) fn specials() -> Vec<Case> {
    let mut cases = Vec::new();
    for &function in Scalar::ALL {
        for types in types_of(function) {
            let values: Vec<&[f64]> = types.iter().map(|&dtype| special(dtype)).collect();
            let count: usize = values.iter().map(|values| values.len()).product();
            let mut every = count;
            let reads = values.iter().zip(&types).map(|(values, &dtype)| {
                every /= values.len();
                let pick = |i: usize| values[i / every % values.len()];
                encode(dtype, &(0..count).map(pick).collect::<Vec<_>>())
            });
            let reads = reads.collect();
            let spec = apply(function, &types, count);
            cases.push(Case::new(spec, reads, Accuracy::Function(function)));
        }
    }
    cases
}

pub(super) fn casts() -> Vec<Case> {
    let mut cases = Vec::new();
    for from in DType::ALL {
        for to in DType::ALL {
            let mut values = special(from).to_vec();
            values.extend(Draw::new(7).numbers(from, 300, (-4.0, 300.0)));
            let mut code = Code::default();
            let x = code.input(0, from);
            let y = code.cast(x, to);
            code.store(y, &[values.len()]);
            let spec = code.sweep(&[values.len()], vec![dense(from, &[values.len()])]);
            cases.push(Case::new(
                spec,
                vec![encode(from, &values)],
                Accuracy::Exact,
            ));
        }
    }
    cases
}
