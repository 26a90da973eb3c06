//! The shapes that most mappings have: functions of one tensor, of two with PyTorch's promotion of
//! types, and reductions.

use backprop::{DType, Tensor};

use crate::call::{Argument, Call, Outputs, Reduced, Unsupported};

/// A function of the first argument.
pub(crate) fn unary<'g>(
    c: &Call<'g, '_>,
    function: impl FnOnce(Tensor<'g>) -> Tensor<'g>,
) -> Outputs<'g> {
    Ok(vec![function(c.tensor(0, "input")?)])
}

/// A function of the first two arguments in one type.
pub(crate) fn binary<'g>(
    c: &Call<'g, '_>,
    function: impl FnOnce(Tensor<'g>, Tensor<'g>) -> Tensor<'g>,
) -> Outputs<'g> {
    let [a, b] = promoted(c, [c.argument(0, "input")?, c.argument(1, "other")?]);
    Ok(vec![function(a, b)])
}

/// A function of the first argument and an axis.
pub(crate) fn along<'g>(
    c: &Call<'g, '_>,
    default: i32,
    function: impl FnOnce(Tensor<'g>, i32) -> Tensor<'g>,
) -> Outputs<'g> {
    let axis = c.axis(1, "dim", default)?;
    Ok(vec![function(c.tensor(0, "input")?, axis)])
}

/// A function of lines of elements, of which a number is one.
pub(crate) fn lined<'g>(
    x: Tensor<'g>,
    function: impl FnOnce(Tensor<'g>) -> Vec<Tensor<'g>>,
) -> Vec<Tensor<'g>> {
    match x.rank() {
        0 => {
            let outputs = function(x.unsqueeze(0)).into_iter();
            outputs.map(|y| y.reshape([])).collect()
        }
        _ => function(x),
    }
}

/// A reduction of the first argument over axes that follow it, in the type that may be asked for.
pub(crate) fn reduction<'g>(
    c: &Call<'g, '_>,
    function: impl FnOnce(Tensor<'g>, Reduced) -> Tensor<'g>,
) -> Outputs<'g> {
    let x = in_dtype(c, c.tensor(0, "input")?)?;
    Ok(vec![function(x, c.reduced_of(x, 1)?)])
}

/// The tensor in the element type that `dtype=` asks for.
pub(crate) fn in_dtype<'g>(c: &Call<'g, '_>, x: Tensor<'g>) -> Result<Tensor<'g>, Unsupported> {
    let dtype = c.dtype(usize::MAX, "dtype")?;
    Ok(dtype.map_or(x, |dtype| x.cast(dtype)))
}

/// The arguments in their common type.
pub(crate) fn promoted<'g, const N: usize>(
    c: &Call<'g, '_>,
    arguments: [Argument<'g>; N],
) -> [Tensor<'g>; N] {
    let common = common_dtype(&arguments);
    arguments.map(|argument| match argument {
        Argument::Tensor(x) => x.cast(common),
        Argument::Number(value, _) => c.g.full([], value, common),
    })
}

/// The type that PyTorch promotes arguments to: the largest of the tensors with axes, unless one
/// without, or a number, is of a higher category (truth values, integers, floats).
pub(crate) fn common_dtype(arguments: &[Argument<'_>]) -> DType {
    let rank = |argument: &Argument<'_>| match argument {
        Argument::Tensor(x) if x.rank() > 0 => (0, x.dtype()),
        Argument::Tensor(x) => (1, x.dtype()),
        Argument::Number(_, dtype) => (2, *dtype),
    };
    let mut ranked = arguments.iter().map(rank).collect::<Vec<_>>();
    ranked.sort_by_key(|&(rank, _)| rank);
    let largest = |group: &[(i32, DType)]| {
        let types = group.iter().map(|&(_, dtype)| dtype);
        types.reduce(larger)
    };
    let groups = ranked.chunk_by(|a, b| a.0 == b.0).filter_map(largest);
    let higher = |a, b| if category(b) > category(a) { b } else { a };
    groups.reduce(higher).unwrap_or(DType::F64)
}

fn category(dtype: DType) -> usize {
    match dtype {
        DType::Bool => 0,
        dtype if dtype.is_integer() => 1,
        _ => 2,
    }
}

/// The larger of two types of one dimension category; 16-bit floats of both kinds meet in `f32`.
fn larger(a: DType, b: DType) -> DType {
    let key = |dtype: DType| (category(dtype), dtype.size());
    match key(a).cmp(&key(b)) {
        std::cmp::Ordering::Less => b,
        std::cmp::Ordering::Equal if a != b => DType::F32,
        _ => a,
    }
}
