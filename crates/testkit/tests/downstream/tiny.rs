//! A backend in a page: the required primitives as plain loops over unpacked numbers. It declines
//! every fused form, which the compiler then puts together from plain ones.

use backprop_core::plan::{Iteration, Slot};
use backprop_core::random::{philox_block, uniform_f32, uniform_f64};
use backprop_core::{
    Args, Backend, DType, Element, Error, ErrorKind, Indexing, Inst, MatMul, Memory, Number,
    Program, Random, Reduction, Relocate, Result, Scalar, Shape, Sink, Source, Sweep, TensorType,
};

type Numbers = Vec<Number>;
type Compute = Box<dyn Fn(&[Numbers]) -> Vec<Numbers> + Send + Sync>;

/// A primitive, prepared: how to compute what it writes from what it reads.
pub(crate) struct Kernel {
    reads: Vec<TensorType>,
    writes: Vec<TensorType>,
    compute: Compute,
}

#[derive(Clone, Debug)]
pub(crate) struct Tiny;

fn kernel(primitive: &backprop_core::Primitive, compute: Compute) -> Result<Kernel> {
    let own = |types: Vec<&TensorType>| types.into_iter().cloned().collect();
    let (reads, writes) = (own(primitive.reads()), own(primitive.writes()));
    Ok(Kernel {
        reads,
        writes,
        compute,
    })
}

/// The coordinates of point number `p` of a shape.
fn coordinates(shape: Shape, mut p: usize) -> Vec<usize> {
    let mut at = vec![0; shape.rank()];
    for axis in (0..shape.rank()).rev() {
        at[axis] = p % shape.size(axis);
        p /= shape.size(axis);
    }
    at
}

fn seen(source: &Source, numbers: &[Number], at: &[usize]) -> Number {
    numbers[source.view.element(at)]
}

fn evaluate(program: &Program, at: &[usize], input: impl Fn(usize) -> Number) -> Numbers {
    let mut registers: Numbers = Vec::new();
    for &(inst, dtype) in program.code() {
        let value = match inst {
            Inst::Input(i) => input(usize::from(i)),
            Inst::Constant(bits) => Number::Real(f64::from_bits(bits)),
            Inst::Coordinate(axis) => Number::Whole(at[usize::from(axis)] as i64),
            Inst::Cast(x) | Inst::Reduce(_, x) => registers[x.index()],
            Inst::Apply(function, _) => {
                let x = inst.operands().iter().map(|x| registers[x.index()]);
                Number::apply(function, &x.collect::<Numbers>(), dtype)
            }
        };
        registers.push(value.round(dtype));
    }
    registers
}

fn add(a: Number, b: Number) -> Number {
    match (a, b) {
        (Number::Whole(a), Number::Whole(b)) => Number::Whole(a.wrapping_add(b)),
        (a, b) => Number::Real(a.real() + b.real()),
    }
}

fn combine(reduction: Reduction, total: Number, value: Number) -> Number {
    let extreme = |function| {
        let wide = match total {
            Number::Whole(_) => DType::I64,
            Number::Real(_) => DType::F64,
        };
        Number::apply(function, &[total, value], wide)
    };
    match reduction {
        Reduction::Sum => add(total, value),
        Reduction::Max => extreme(Scalar::Max),
        Reduction::Min => extreme(Scalar::Min),
    }
}

fn sweep(spec: &Sweep, reads: &[Numbers]) -> Vec<Numbers> {
    let mut results: Vec<Vec<Option<Number>>> = spec
        .body
        .outputs
        .iter()
        .map(|output| vec![None; output.tensor.shape.count()])
        .collect();
    for p in 0..spec.space.count() {
        let at = coordinates(spec.space, p);
        let registers = evaluate(&spec.body.program, &at, |i| {
            seen(&spec.body.inputs[i], &reads[i], &at)
        });
        for (output, result) in spec.body.outputs.iter().zip(&mut results) {
            let value = registers[output.register.index()];
            match output.sink {
                Sink::Store => result[p] = Some(value),
                Sink::Reduce(reduction, axes) => {
                    let kept = (0..spec.space.rank()).filter(|&axis| !axes.contains(axis));
                    let place = kept.fold(0, |q, axis| q * spec.space.size(axis) + at[axis]);
                    let total = result[place].map_or(value, |t| combine(reduction, t, value));
                    result[place] = Some(total);
                }
                // No plain form: nobody asks for it.
                Sink::Concat(_) => {}
            }
        }
    }
    let outputs = spec.body.outputs.iter().zip(results);
    outputs
        .map(|(output, result)| {
            let numbers = result.into_iter().flatten();
            numbers.map(|x| x.round(output.tensor.dtype)).collect()
        })
        .collect()
}

fn matmul(spec: &MatMul, reads: &[Numbers]) -> Vec<Numbers> {
    let Some((left, right)) = spec.plain_operands() else {
        return Vec::new();
    };
    let mut result = Vec::new();
    for p in 0..spec.batch.count() * spec.m * spec.n {
        let (b, i, j) = (p / spec.n / spec.m, p / spec.n % spec.m, p % spec.n);
        let batch = coordinates(spec.batch, b);
        let mut x = [&batch[..], &[i, 0]].concat();
        let mut y = [&batch[..], &[0, j]].concat();
        let rank = batch.len();
        let terms = (0..spec.k).map(|k| {
            (x[rank + 1], y[rank]) = (k, k);
            match (seen(left, &reads[0], &x), seen(right, &reads[1], &y)) {
                (Number::Whole(x), Number::Whole(y)) => Number::Whole(x.wrapping_mul(y)),
                (x, y) => Number::Real(x.real() * y.real()),
            }
        });
        let total = terms.reduce(add);
        let total = total.unwrap_or(Number::Whole(0));
        let sum = total.round(spec.accumulator);
        let registers = evaluate(&spec.epilogue.program, &[], |_| sum);
        result.push(registers[spec.epilogue.outputs[0].register.index()]);
    }
    vec![result]
}

fn relocate(spec: &Relocate, reads: &[Numbers]) -> Vec<Numbers> {
    let fill = Number::Real(spec.fill.map_or(0.0, f64::from_bits)).round(spec.output.dtype);
    let mut output = vec![fill; spec.output.shape.count()];
    for (piece, numbers) in spec.pieces.iter().zip(reads) {
        for p in 0..piece.into.shape.count() {
            let at = coordinates(piece.into.shape, p);
            let value = seen(&piece.from, numbers, &at);
            output[piece.into.element(&at)] = value.round(spec.output.dtype);
        }
    }
    vec![output]
}

/// The place in the table of each element that is picked.
fn places(spec: &Indexing, indices: &[Number]) -> Vec<usize> {
    let row = |i: &Number| i.whole().clamp(0, spec.rows as i64 - 1) as usize;
    let rows = |o: usize| indices.iter().map(move |i| o * spec.rows + row(i));
    let inner = |r: usize| (0..spec.inner).map(move |x| r * spec.inner + x);
    (0..spec.outer).flat_map(rows).flat_map(inner).collect()
}

fn scatter_add(spec: &Indexing, reads: &[Numbers]) -> Vec<Numbers> {
    let zero = if spec.table.dtype.is_float() {
        Number::Real(0.0)
    } else {
        Number::Whole(0)
    };
    let mut table = vec![zero; spec.table.shape.count()];
    for (place, &value) in places(spec, &reads[1]).into_iter().zip(&reads[0]) {
        table[place] = add(table[place], value);
    }
    vec![
        table
            .into_iter()
            .map(|x| x.round(spec.table.dtype))
            .collect(),
    ]
}

fn random(spec: &Random, reads: &[Numbers]) -> Vec<Numbers> {
    let words = |block: usize| philox_block(reads[0][0].whole(), reads[0][1].whole(), block as u64);
    let wide = spec.output.dtype == DType::F64;
    let draw = |i: usize| match wide {
        true => uniform_f64(words(i / 2)[i % 2 * 2], words(i / 2)[i % 2 * 2 + 1]),
        false => f64::from(uniform_f32(words(i / 4)[i % 4])),
    };
    vec![
        (0..spec.output.shape.count())
            .map(|i| Number::Real(draw(i)))
            .collect(),
    ]
}

fn unpack(tensor: &TensorType, bytes: &[u8]) -> Numbers {
    fn all<T: Element>(bytes: &[u8], number: fn(T) -> Number) -> Numbers {
        let mut values = vec![T::default(); bytes.len() / size_of::<T>()];
        T::copy_from_bytes(&mut values, bytes);
        values.into_iter().map(number).collect()
    }
    match tensor.dtype {
        DType::F32 => all::<f32>(bytes, |x| Number::Real(x.to_f64())),
        DType::F64 => all::<f64>(bytes, Number::Real),
        DType::F16 => all::<half::f16>(bytes, |x| Number::Real(x.to_f64())),
        DType::BF16 => all::<half::bf16>(bytes, |x| Number::Real(x.to_f64())),
        DType::I32 => all::<i32>(bytes, |i| Number::Whole(i64::from(i))),
        DType::I64 => all::<i64>(bytes, Number::Whole),
        _ => all::<u8>(bytes, |i| Number::Whole(i64::from(i))),
    }
}

fn pack(tensor: &TensorType, numbers: &[Number]) -> Vec<u8> {
    fn all<T: Element>(numbers: &[Number], value: fn(Number) -> T) -> Vec<u8> {
        T::bytes(&numbers.iter().map(|&x| value(x)).collect::<Vec<T>>()).to_vec()
    }
    match tensor.dtype {
        DType::F32 => all(numbers, |x| x.real() as f32),
        DType::F64 => all(numbers, Number::real),
        DType::F16 => all(numbers, |x| half::f16::from_f64(x.real())),
        DType::BF16 => all(numbers, |x| half::bf16::from_f64(x.real())),
        DType::I32 => all(numbers, |x| x.whole() as i32),
        DType::I64 => all(numbers, Number::whole),
        _ => all(numbers, |x| x.whole() as u8),
    }
}

fn outside() -> Error {
    let what = "a copy leaves its buffer".into();
    Error::new(ErrorKind::Device { what })
}

impl Backend for Tiny {
    type Buffer = Vec<u8>;
    type Kernel = Kernel;

    fn name(&self) -> String {
        "tiny".into()
    }
    fn alloc(&self, bytes: usize) -> Result<Vec<u8>> {
        let mut buffer = Vec::new();
        let reserved = buffer.try_reserve_exact(bytes);
        reserved.map_err(|_| Error::new(ErrorKind::OutOfMemory { bytes }))?;
        buffer.resize(bytes, 0);
        Ok(buffer)
    }
    fn upload(&self, to: &mut Vec<u8>, at: usize, bytes: &[u8]) -> Result<()> {
        let end = at.checked_add(bytes.len()).ok_or_else(outside)?;
        to.get_mut(at..end)
            .ok_or_else(outside)?
            .copy_from_slice(bytes);
        Ok(())
    }
    fn download(&self, from: &Vec<u8>, at: usize, bytes: &mut [u8]) -> Result<()> {
        let end = at.checked_add(bytes.len()).ok_or_else(outside)?;
        bytes.copy_from_slice(from.get(at..end).ok_or_else(outside)?);
        Ok(())
    }
    fn sweep(&self, spec: &Sweep) -> Result<Kernel> {
        let own = spec.clone();
        let compute = move |reads: &[Numbers]| sweep(&own, reads);
        kernel(
            &backprop_core::Primitive::Sweep(spec.clone()),
            Box::new(compute),
        )
    }
    fn matmul(&self, spec: &MatMul) -> Result<Kernel> {
        let own = spec.clone();
        let compute = move |reads: &[Numbers]| matmul(&own, reads);
        kernel(
            &backprop_core::Primitive::MatMul(spec.clone()),
            Box::new(compute),
        )
    }
    fn relocate(&self, spec: &Relocate) -> Result<Kernel> {
        let own = spec.clone();
        let compute = move |reads: &[Numbers]| relocate(&own, reads);
        kernel(
            &backprop_core::Primitive::Relocate(spec.clone()),
            Box::new(compute),
        )
    }
    fn gather(&self, spec: &Indexing) -> Result<Kernel> {
        let own = spec.clone();
        let compute = move |reads: &[Numbers]| {
            vec![
                places(&own, &reads[1])
                    .into_iter()
                    .map(|place| reads[0][place])
                    .collect(),
            ]
        };
        kernel(
            &backprop_core::Primitive::Gather(spec.clone()),
            Box::new(compute),
        )
    }
    fn scatter_add(&self, spec: &Indexing) -> Result<Kernel> {
        let own = spec.clone();
        let compute = move |reads: &[Numbers]| scatter_add(&own, reads);
        kernel(
            &backprop_core::Primitive::ScatterAdd(spec.clone()),
            Box::new(compute),
        )
    }
    fn random(&self, spec: &Random) -> Result<Kernel> {
        let own = spec.clone();
        let compute = move |reads: &[Numbers]| random(&own, reads);
        kernel(
            &backprop_core::Primitive::Random(spec.clone()),
            Box::new(compute),
        )
    }
    fn launch(
        &self,
        kernel: &Kernel,
        memory: &mut Memory<Vec<u8>>,
        args: &Args,
        at: Iteration,
    ) -> Result<()> {
        let range = |slot: &Slot| slot.offset(at)..slot.offset(at) + slot.bytes();
        let read = |(tensor, slot): (&TensorType, &Slot)| {
            unpack(tensor, &memory.buffer(slot.buffer())[range(slot)])
        };
        let reads: Vec<Numbers> = kernel.reads.iter().zip(args.reads()).map(read).collect();
        let results = (kernel.compute)(&reads);
        for ((tensor, slot), result) in kernel.writes.iter().zip(args.writes()).zip(results) {
            let bytes = pack(tensor, &result);
            memory.buffer_mut(slot.buffer())[range(slot)].copy_from_slice(&bytes);
        }
        Ok(())
    }
}
