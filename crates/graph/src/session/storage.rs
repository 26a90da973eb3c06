//! Where parameters, inputs, constants and results lie.

use std::collections::HashMap;

use backprop_core::plan::{ALIGNMENT, Buffer, Span};
use backprop_core::{DType, Element};
use half::{bf16, f16};

use crate::ir::{Ir, NodeId};
use crate::pass::{Home, Homes, Launches};

/// The layout of the buffers that outlive a step. Io only grows, so that what has been placed stays.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    parameters: Vec<Span>,
    inputs: HashMap<u32, Span>,
    results: HashMap<NodeId, Span>,
    fed: Vec<bool>,
    state_bytes: usize,
    io_bytes: usize,
}

/// The next span of a buffer that has grown to `size`.
fn append(buffer: Buffer, size: &mut usize, bytes: usize) -> Span {
    let offset = *size;
    let end = offset.saturating_add(bytes);
    // As much as no backend allocates, rather than a number that has gone round.
    *size = end
        .checked_next_multiple_of(ALIGNMENT)
        .unwrap_or(usize::MAX);
    Span {
        buffer,
        offset,
        bytes,
    }
}

impl Storage {
    pub(super) fn new(ir: &Ir) -> Storage {
        let mut state_bytes = 0;
        let nodes = ir
            .parameters
            .iter()
            .map(|parameter| ir.node(parameter.node));
        let parameters = nodes
            .map(|node| append(Buffer::State, &mut state_bytes, node.tensor().bytes()))
            .collect();
        Storage {
            parameters,
            inputs: HashMap::new(),
            results: HashMap::new(),
            fed: vec![false; ir.inputs.len()],
            state_bytes,
            io_bytes: 0,
        }
    }

    /// Finds places for what a plan reads and hands out.
    pub(super) fn place(&mut self, ir: &Ir, launches: &Launches, fetches: &[NodeId]) -> Homes {
        let mut data = HashMap::new();
        for (v, value) in launches.values.iter().enumerate() {
            let bytes = value.tensor.bytes();
            match &value.home {
                Home::Input(i) => {
                    let size = &mut self.io_bytes;
                    let place = || append(Buffer::Io, size, bytes);
                    self.inputs.entry(*i).or_insert_with(place);
                }
                Home::Data(_) => {
                    data.insert(v, append(Buffer::Io, &mut self.io_bytes, bytes));
                }
                _ => {}
            }
        }
        let mut results = Vec::with_capacity(fetches.len());
        for &fetch in fetches {
            let size = &mut self.io_bytes;
            let bytes = ir.node(fetch).tensor().bytes();
            let place = || append(Buffer::Io, size, bytes);
            results.push(*self.results.entry(fetch).or_insert_with(place));
        }
        Homes {
            parameters: self.parameters.clone(),
            inputs: self.inputs.clone(),
            data,
            results,
            state_bytes: self.state_bytes,
            io_bytes: self.io_bytes,
        }
    }

    /// The same for a plan whose results nobody else asks for.
    pub(super) fn without_results(&self) -> Storage {
        Storage {
            results: HashMap::new(),
            ..self.clone()
        }
    }

    /// Leaves alone what such a plan has placed.
    pub(super) fn keep_apart(&mut self, aside: &Storage) {
        self.io_bytes = aside.io_bytes;
        self.inputs.clone_from(&aside.inputs);
    }

    pub(super) fn parameters(&self) -> &[Span] {
        &self.parameters
    }

    pub(super) fn input(&self, input: u32) -> Option<Span> {
        self.inputs.get(&input).copied()
    }

    /// The place of a fetched value.
    pub(super) fn result(&self, id: NodeId) -> Option<Span> {
        self.results.get(&id).copied()
    }

    pub(super) fn set_fed(&mut self, input: u32) {
        self.fed[input as usize] = true;
    }

    pub(super) fn is_fed(&self, input: u32) -> bool {
        self.fed[input as usize]
    }

    pub(super) fn state_bytes(&self) -> usize {
        self.state_bytes
    }

    pub(super) fn io_bytes(&self) -> usize {
        self.io_bytes
    }
}

/// Numbers as bytes of an element type.
pub(super) fn encode(values: &[f64], dtype: DType) -> Vec<u8> {
    fn bytes<T: Element>(values: &[f64]) -> Vec<u8> {
        let values: Vec<T> = values.iter().map(|&value| T::from_f64(value)).collect();
        T::bytes(&values).to_vec()
    }
    match dtype {
        DType::F32 => bytes::<f32>(values),
        DType::F64 => bytes::<f64>(values),
        DType::F16 => bytes::<f16>(values),
        DType::BF16 => bytes::<bf16>(values),
        DType::I32 => bytes::<i32>(values),
        DType::I64 => bytes::<i64>(values),
        DType::Bool => bytes::<bool>(values),
        _ => bytes::<u8>(values),
    }
}

/// Bytes of an element type as numbers.
pub(super) fn decode(bytes: &[u8], dtype: DType) -> Vec<f64> {
    fn values<T: Element>(bytes: &[u8]) -> Vec<f64> {
        let mut values = vec![T::default(); bytes.len() / size_of::<T>()];
        T::copy_from_bytes(&mut values, bytes);
        values.into_iter().map(T::to_f64).collect()
    }
    match dtype {
        DType::F32 => values::<f32>(bytes),
        DType::F64 => values::<f64>(bytes),
        DType::F16 => values::<f16>(bytes),
        DType::BF16 => values::<bf16>(bytes),
        DType::I32 => values::<i32>(bytes),
        DType::I64 => values::<i64>(bytes),
        DType::Bool => values::<bool>(bytes),
        _ => values::<u8>(bytes),
    }
}
