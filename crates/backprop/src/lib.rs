//! Backpropagation as a library: static computation graphs, exact gradients of any order, and whole
//! training steps compiled into one plan.
//!
//! A [`Graph`] is built with `Copy` handles; [`Graph::grad`] adds the nodes of a gradient to it;
//! optimizers add those of an update. [`Session::compile`] turns all of it into one checked plan for
//! a [`Backend`], in which every value has its place in memory before the first step, and runs it.
//!
//! ```
//! use backprop::prelude::*;
//!
//! let g = Graph::new();
//! let (x, labels) = (g.input("x", [32, 64], F32), g.input("labels", [32], I32));
//! let w = g.parameter("w", [64, 10], F32, Init::Kaiming);
//! let b = g.parameter("b", [10], F32, Init::Zeros);
//! let loss = (x.matmul(w) + b).cross_entropy(labels, CrossEntropy::default());
//! let grads = g.grad(loss, &[w, b])?;
//! let updates = optim::adamw(&g, &[w, b], &grads, AdamW { lr: 1e-3.into(), ..Default::default() });
//!
//! let mut session = Session::compile(&g, Cpu::new()?, &[loss.key()], updates)?;
//! session.feed(x, &[0.5f32; 32 * 64])?.feed(labels, &[3i32; 32])?.step()?;
//! println!("{}\nloss {}", session.plan_text(), session.scalar(loss)?);
//! # Ok::<(), Error>(())
//! ```
//!
//! Read on in the [`guide`].
//!
//! # Features
//! - `cpu` (default): the [`Cpu`] backend.
//! - `cuda`: the `Cuda` backend, for NVIDIA GPUs. Nothing of CUDA is needed to build; the driver and
//!   NVRTC are loaded at run time.
//! - `blas`: large matrix products on it by the system's BLAS (`libblas` with the C interface, or
//!   Accelerate), whose bits and threads are its own.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod guide;
pub mod idx;
pub mod loader;

pub use checkpoint::{Checkpoint, Persist};
pub use loader::{Batch, Batches, Loader, Partial, Position};

#[cfg(feature = "cpu")]
pub use backprop_cpu::{Cpu, Executor, Level, Programs};

#[cfg(feature = "cuda")]
pub use backprop_cuda as cuda;
#[cfg(feature = "cuda")]
pub use backprop_cuda::Cuda;

pub use backprop_core as core;
pub use backprop_core::{
    Backend, Calculus, DType, Element, Error, ErrorKind, Order, Plan, Reference, Result, Scalar,
    Shape, Warning, WarningKind,
};
pub use backprop_graph::*;
pub use backprop_nn as nn;
pub use backprop_record as record;

/// What most programs use, for `use backprop::prelude::*`.
pub mod prelude {
    #[cfg(feature = "cpu")]
    pub use crate::Cpu;
    #[cfg(feature = "cuda")]
    pub use crate::Cuda;
    pub use crate::DType::{self, BF16, Bool, F16, F32, F64, I32, I64, U8};
    pub use crate::optim::{self, Adam, AdamW, Rate, Sgd};
    pub use crate::{
        Backend, Checkpoint, Composite, CrossEntropy, Error, Graph, Init, Keep, Key, Loader,
        Operand, Param, Persist, Result, Sample, Session, Tensor, Updates, Vjp, nn,
    };
}
