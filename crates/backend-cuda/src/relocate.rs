//! Strided copies: all boxes in one launch, and one before it that fills what no box covers.

use std::fmt::Write;

use backprop_core::{DType, Piece, Primitive, Relocate};

use crate::lowered::{Arg, Launch, Lowered, THREADS, arguments, blocks};
use crate::source::{
    Fold, Operand, cast, constant, head, index_type, load, parameters, storage, store,
};

pub(crate) fn lower(spec: &Relocate) -> Lowered {
    let primitive = Primitive::Relocate(spec.clone());
    let mut launches = Vec::new();
    let covered: usize = spec.pieces.iter().map(|p| p.into.shape.count()).sum();
    if let Some(bits) = spec.fill
        && covered < spec.output.shape.count()
    {
        launches.push(fill(spec, f64::from_bits(bits)));
    }
    if covered > 0 {
        launches.push(copy(spec, &primitive));
    }
    Lowered::kernels(launches, 0)
}

/// Writes a number everywhere.
fn fill(spec: &Relocate, number: f64) -> Launch {
    let count = spec.output.count();
    let (index, dtype) = (index_type(count), spec.output.dtype);
    let mut text = head(&[format!("{}* w0", storage(dtype))], THREADS);
    let value = store(dtype, &constant(number, dtype));
    let _ = writeln!(
        text,
        "const {index} number = ({index})blockIdx.x * {THREADS} + threadIdx.x;\n\
         if (number < {count}) w0[number] = {value};\n}}"
    );
    Launch::each(&text, count, vec![Arg::Write(0)])
}

/// Copies each box by blocks of its own.
fn copy(spec: &Relocate, primitive: &Primitive) -> Launch {
    let mut text = head(&parameters(primitive), THREADS);
    let mut first = 0;
    for (i, piece) in spec.pieces.iter().enumerate() {
        let count = piece.into.shape.count();
        if count == 0 {
            continue;
        }
        let (body, width) = move_box(i, piece, spec);
        let index = index_type(count);
        let last = first + blocks(count / width, THREADS);
        let _ = writeln!(
            text,
            "if (blockIdx.x >= {first} && blockIdx.x < {last}) {{\n\
             const {index} number = (({index})(blockIdx.x - {first}) * {THREADS} + threadIdx.x) * {width};\n\
             if (number >= {count}) return;\n{body}}}"
        );
        first = last;
    }
    text += "}\n";
    Launch::of(&text, [first, 1, 1], arguments(primitive))
}

/// The statements that move some neighbours of a box, and how many.
fn move_box(number: usize, piece: &Piece, spec: &Relocate) -> (String, usize) {
    let space = piece.into.shape;
    let target = Operand::placed(0, &spec.output, piece.into);
    let source = Operand::read(number, &piece.from);
    let (from, to) = (source.dtype(), spec.output.dtype);
    let fold = Fold::new(space, vec![source, target], &[], &|_| false);
    let width = width(&fold, from, to);
    let mut text = fold.unravel("number", false, index_type(space.count()));
    let (read, written) = (fold.address(0), fold.address(1));
    if width > 1 {
        let (read, written) = (read.number(), written.number());
        let _ = writeln!(
            text,
            "const bool aligned = bp_aligned(r{number}) && bp_aligned(w0);\n\
             bp_store<{width}>(w0 + ({written}), bp_load<{width}>(r{number} + ({read}), aligned), aligned);"
        );
    } else {
        let value = cast(&load(from, &read.element()), from, to);
        let _ = writeln!(text, "{} = {};", written.element(), store(to, &value));
    }
    (text, width)
}

/// How many elements lie side by side in both, at addresses that allow 16 bytes at once.
fn width(fold: &Fold, from: DType, to: DType) -> usize {
    let Some((inner, axis)) = fold.axes.iter().enumerate().next_back() else {
        return 1;
    };
    let width = 16 / from.size();
    let fits = |operand: usize| {
        let address = fold.address(operand);
        let outer = (0..inner).all(|axis| address.stride(axis) % width as isize == 0);
        let Operand { tensor, view, .. } = &fold.operands[operand];
        outer
            && address.stride(inner) == 1
            && view.offset.is_multiple_of(width)
            && tensor.layout.is_dense()
    };
    let whole = from == to && axis.size.is_multiple_of(width) && fits(0) && fits(1);
    if whole { width } else { 1 }
}
