//! Values that were asked for by name, wherever they are computed.

use std::fmt;
use std::panic::Location;

use backprop_core::{Backend, DType, Error, ErrorKind, Place, Result, Shape};

use super::finite::Values;
use super::{Session, storage};
use crate::ir::Inspection;

/// A value that was [inspected](crate::Tensor::inspect). `Display` gives its type and range.
#[derive(Clone, PartialEq, Debug)]
pub struct Inspected {
    /// The name, with scopes in front.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The shape, with an axis of iterations for each scan around the value.
    pub shape: Shape,
    /// The elements in row-major order, as numbers; truth values are 0 and 1.
    pub values: Vec<f64>,
    /// Where it was inspected or built.
    pub place: Place,
}

impl fmt::Display for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inspected {
            name, dtype, shape, ..
        } = self;
        let values = Values::new(*shape, &self.values);
        write!(f, "{name} {dtype}{shape}: {values}")
    }
}

impl<B: Backend> Session<B> {
    /// A value that was [inspected](crate::Tensor::inspect), as of the last run of a plan that computes
    /// it.
    ///
    /// # Errors
    /// A name that nothing was inspected by; a value that no plan computes, or none that has run.
    #[track_caller]
    pub fn inspected(&self, name: &str) -> Result<Inspected> {
        let place = Location::caller();
        let mut known = self.work.ir.inspections.iter();
        let Some(inspection) = known.find(|inspection| inspection.name == name) else {
            let what = format!("inspected: nothing was inspected as `{name}`");
            let names = self.work.ir.inspections.iter().map(|other| &*other.name);
            let names = names.collect::<Vec<_>>().join("`, `");
            let error = Error::new(ErrorKind::Unknown { what }).at(place);
            return Err(match names.is_empty() {
                true => error,
                false => error.help(format!("there are `{names}`")),
            });
        };
        self.inspection(inspection, place)
    }

    /// All values that were [inspected](crate::Tensor::inspect) and that plans which have run compute, in
    /// the order in which they were inspected.
    ///
    /// # Errors
    /// Whatever the device reports.
    #[track_caller]
    pub fn all_inspected(&self) -> Result<Vec<Inspected>> {
        let place = Location::caller();
        let all = self.work.ir.inspections.iter();
        let has_run = |inspection: &&Inspection| self.has_run(inspection.outside);
        all.filter(has_run)
            .map(|inspection| self.inspection(inspection, place))
            .collect()
    }

    fn inspection(&self, inspection: &Inspection, place: Place) -> Result<Inspected> {
        let id = inspection.outside;
        let (bytes, dtype) = self.result_bytes(id, ("inspected", place))?;
        Ok(Inspected {
            name: inspection.name.clone(),
            dtype,
            shape: *self.work.ir.node(id).shape,
            values: storage::decode(&bytes, dtype),
            place: self.work.ir.origins[inspection.node.index()].place,
        })
    }
}
