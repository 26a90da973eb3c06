//! Matrix products by cuBLASLt, where that library is there.

mod library;
mod plan;
mod product;
#[cfg(test)]
mod tests;

pub(crate) use library::Library;
pub(crate) use plan::{Addresses, Plan};
pub(crate) use product::{ByColumns, Compute, Order, Product, Side, Workspace};

use std::ffi::OsStr;

use backprop_core::Result;

use crate::device::trouble;

/// Who computes matrix products.
///
/// cuBLASLt is never needed: where it cannot be loaded, own kernels compute all products. The last
/// bits of large products may differ between machines with and without it, and between versions of
/// it. On one machine they are the same at every run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Products {
    /// cuBLASLt computes large products of 16-bit and 64-bit floats and those in
    /// [`Precision::Tf32`](crate::Precision::Tf32); own kernels compute the others.
    #[default]
    Auto,
    /// Own kernels compute all.
    Own,
    /// cuBLASLt computes all large ones.
    CuBlas,
}

impl Products {
    /// The environment's variable, which takes precedence over what a program chooses.
    pub(crate) const VARIABLE: &str = "BACKPROP_CUDA_PRODUCTS";

    /// What the variable says, where it is set.
    pub(crate) fn named(name: Option<&OsStr>) -> Result<Option<Products>> {
        match name.map(OsStr::to_string_lossy).as_deref() {
            None | Some("") => Ok(None),
            Some("own") => Ok(Some(Products::Own)),
            Some("blas") => Ok(Some(Products::CuBlas)),
            Some(other) => Err(trouble(format!(
                "{} is `{other}`: it may be `own` or `blas`",
                Products::VARIABLE
            ))),
        }
    }
}
