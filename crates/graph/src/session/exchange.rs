//! Values to and from the host.

use std::panic::Location;

use backprop_core::plan::Span;
use backprop_core::{Backend, DType, Element, Error, ErrorKind, Place, Result, Shape};

use super::{Session, storage};
use crate::ir::{Input, NodeId, Op};
use crate::tensor::{Key, Param};

/// A parameter of a session.
#[derive(Clone, PartialEq, Debug)]
pub struct ParameterInfo {
    /// The handle.
    pub parameter: Param,
    /// The name, with scopes in front.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The shape.
    pub shape: Shape,
}

impl<B: Backend> Session<B> {
    /// Sets an input, in row-major order. It keeps its value until it is fed again.
    ///
    /// # Errors
    /// A key that is no input of this session's plans; values of another type or number; an index or
    /// a label out of range. Nothing changes then.
    #[track_caller]
    pub fn feed<T: Element>(&mut self, key: impl Into<Key>, values: &[T]) -> Result<&mut Self> {
        let place = Location::caller();
        let id = self.node(key.into(), "feed", place)?;
        let node = self.work.ir.node(id);
        let Op::Input(number) = node.op else {
            let what = format!("feed: {} is no input", self.work.ir.label(id));
            return Err(Error::new(ErrorKind::Unknown { what }).at(place));
        };
        let input = &self.work.ir.inputs[number as usize];
        if T::DTYPE != node.dtype || values.len() != node.shape.count() {
            let expected = format!("{}{}", node.dtype, node.shape);
            let found = format!("{} values of {}", values.len(), T::DTYPE);
            let name = input.name.to_string();
            let born = self.work.ir.origins[id.index()].place;
            let error = Error::new(ErrorKind::Mismatch {
                name,
                expected,
                found,
            })
            .at(place);
            return Err(error.note("input", "declared", Some(born)));
        }
        check_range(input, values).map_err(|error| error.at(place))?;
        let Some(span) = self.storage.input(number) else {
            // No plan reads it.
            self.storage.set_fed(number);
            return Ok(self);
        };
        self.backend
            .upload(&mut self.memory.io, span.offset, T::bytes(values))?;
        self.storage.set_fed(number);
        Ok(self)
    }

    /// A fetched value, in row-major order, as of the last run of a plan that computes it.
    ///
    /// # Errors
    /// A key that no plan fetches, or none that has run; another element type.
    #[track_caller]
    pub fn fetch<T: Element>(&self, key: impl Into<Key>) -> Result<Vec<T>> {
        let place = Location::caller();
        let (bytes, dtype) = self.fetch_bytes(key.into(), place)?;
        if T::DTYPE != dtype {
            return Err(mismatch("the fetched tensor", dtype, T::DTYPE).at(place));
        }
        Ok(elements(&bytes))
    }

    /// A fetched single number, whatever its type.
    ///
    /// # Errors
    /// As [`fetch`](Session::fetch); a tensor of several elements.
    #[track_caller]
    pub fn scalar(&self, key: impl Into<Key>) -> Result<f64> {
        let place = Location::caller();
        let (bytes, dtype) = self.fetch_bytes(key.into(), place)?;
        match storage::decode(&bytes, dtype).as_slice() {
            [value] => Ok(*value),
            values => {
                let what = format!("scalar: the tensor has {} elements", values.len());
                Err(Error::new(ErrorKind::Unknown { what }).at(place))
            }
        }
    }

    fn fetch_bytes(&self, key: Key, place: Place) -> Result<(Vec<u8>, DType)> {
        let id = self.node(key, "fetch", place)?;
        self.result_bytes(id, ("fetch", place))
    }

    /// Whether a plan that hands out a node has run.
    pub(super) fn has_run(&self, id: NodeId) -> bool {
        let mut ran = self.plans.iter().filter(|plan| plan.steps > 0);
        ran.any(|plan| plan.fetches.contains(&id))
    }

    /// A value that a plan hands out.
    pub(super) fn result_bytes(
        &self,
        id: NodeId,
        (operation, place): (&str, Place),
    ) -> Result<(Vec<u8>, DType)> {
        let label = || self.work.ir.label(id);
        let span = self.storage.result(id).ok_or_else(|| {
            let what = format!("{operation}: no plan of this session computes {}", label());
            let help = "name it when compiling, or in `session.plan(&[key], ..)`";
            Error::new(ErrorKind::Unknown { what }).at(place).help(help)
        })?;
        if !self.has_run(id) {
            let what = format!("{operation}: no plan that computes {} has run", label());
            return Err(Error::new(ErrorKind::Unknown { what }).at(place));
        }
        let mut bytes = vec![0; span.bytes];
        self.backend
            .download(&self.memory.io, span.offset, &mut bytes)?;
        Ok((bytes, self.work.ir.node(id).dtype))
    }

    /// All parameters, optimizer state included, in the order in which they were made.
    #[must_use]
    pub fn parameters(&self) -> Vec<ParameterInfo> {
        let describe = |(index, parameter): (usize, &crate::ir::Parameter)| {
            let node = self.work.ir.node(parameter.node);
            ParameterInfo {
                parameter: Param {
                    graph: self.graph,
                    index: index as u32,
                },
                name: parameter.name.to_string(),
                dtype: node.dtype,
                shape: *node.shape,
            }
        };
        self.work
            .ir
            .parameters
            .iter()
            .enumerate()
            .map(describe)
            .collect()
    }

    /// A parameter's value, in row-major order.
    ///
    /// # Errors
    /// A parameter of another graph; another element type.
    #[track_caller]
    pub fn parameter<T: Element>(&self, parameter: Param) -> Result<Vec<T>> {
        let place = Location::caller();
        let (name, dtype, _) = self.parameter_span(parameter, place)?;
        if dtype != T::DTYPE {
            return Err(mismatch(&name, dtype, T::DTYPE).at(place));
        }
        Ok(elements(&self.parameter_bytes(parameter)?))
    }

    /// Sets a parameter, in row-major order.
    ///
    /// # Errors
    /// A parameter of another graph; values of another type or number. Nothing changes then.
    #[track_caller]
    pub fn set_parameter<T: Element>(&mut self, parameter: Param, values: &[T]) -> Result<()> {
        let place = Location::caller();
        let (name, dtype, _) = self.parameter_span(parameter, place)?;
        if dtype != T::DTYPE {
            return Err(mismatch(&name, dtype, T::DTYPE).at(place));
        }
        self.set_parameter_bytes(parameter, T::bytes(values))
    }

    /// A parameter's value as bytes.
    ///
    /// # Errors
    /// A parameter of another graph.
    #[track_caller]
    pub fn parameter_bytes(&self, parameter: Param) -> Result<Vec<u8>> {
        let (_, _, span) = self.parameter_span(parameter, Location::caller())?;
        let mut bytes = vec![0; span.bytes];
        self.backend
            .download(&self.memory.state, span.offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Sets a parameter from bytes.
    ///
    /// # Errors
    /// A parameter of another graph; a wrong number of bytes; a truth value that is neither 0 nor 1.
    /// Nothing changes then.
    #[track_caller]
    pub fn set_parameter_bytes(&mut self, parameter: Param, bytes: &[u8]) -> Result<()> {
        let place = Location::caller();
        let (name, dtype, span) = self.parameter_span(parameter, place)?;
        if bytes.len() != span.bytes {
            let expected = format!("{} values of {dtype}", span.bytes / dtype.size());
            let found = format!("{} values of {dtype}", bytes.len() / dtype.size());
            return Err(Error::new(ErrorKind::Mismatch {
                name,
                expected,
                found,
            })
            .at(place));
        }
        if let Some(position) = bytes
            .iter()
            .position(|&byte| dtype == DType::Bool && byte > 1)
        {
            let expected = "of truth values, bytes that are 0 or 1".to_owned();
            let found = format!("{} at {position}", bytes[position]);
            let kind = ErrorKind::Mismatch {
                name,
                expected,
                found,
            };
            return Err(Error::new(kind).at(place));
        }
        self.backend
            .upload(&mut self.memory.state, span.offset, bytes)
    }

    fn parameter_span(&self, parameter: Param, place: Place) -> Result<(String, DType, Span)> {
        let known = self.work.ir.parameters.get(parameter.index as usize);
        let Some(known) = known.filter(|_| parameter.graph == self.graph) else {
            let operation = "parameter".to_owned();
            return Err(Error::new(ErrorKind::MixedGraphs { operation }).at(place));
        };
        let dtype = self.work.ir.node(known.node).dtype;
        let span = self.storage.parameters()[parameter.index as usize];
        Ok((known.name.to_string(), dtype, span))
    }
}

fn elements<T: Element>(bytes: &[u8]) -> Vec<T> {
    let mut values = vec![T::default(); bytes.len() / T::DTYPE.size()];
    T::copy_from_bytes(&mut values, bytes);
    values
}

fn mismatch(name: &str, expected: DType, found: DType) -> Error {
    Error::new(ErrorKind::Mismatch {
        name: name.to_owned(),
        expected: format!("of {expected}"),
        found: format!("{found}"),
    })
}

fn check_range<T: Element>(input: &Input, values: &[T]) -> Result<()> {
    let Some((low, high)) = input.range else {
        return Ok(());
    };
    let outside = |value: &T| {
        let value = value.to_f64() as i64;
        !(low..high).contains(&value) && input.except != Some(value)
    };
    match values.iter().position(outside) {
        None => Ok(()),
        Some(position) => Err(Error::new(ErrorKind::OutOfRange {
            name: input.name.to_string(),
            position,
            value: values[position].to_f64() as i64,
            low,
            high,
        })),
    }
}
