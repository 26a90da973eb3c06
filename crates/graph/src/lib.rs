//! Builds, differentiates, optimises and runs static computation graphs over any
//! [`Backend`](backprop_core::Backend).
//!
//! A [`Graph`] is an append-only array of nodes; [`Tensor`] handles are `Copy` and operations on them
//! append nodes. [`Graph::grad`] appends the nodes of a gradient. [`Session::compile`] turns what is
//! needed for a step into one checked [`Plan`](backprop_core::Plan) and runs it, again and again.
#![forbid(unsafe_code)]

mod axes;
mod checkpoint;
mod composite;
mod distinct;
mod grad;
mod graph;
mod init;
mod ir;
mod jacobian;
mod jvp;
mod op;
mod operand;
pub mod optim;
mod page;
mod pass;
mod print;
mod scan;
mod session;
mod summary;
mod tensor;
mod unit;
mod updates;
mod vmap;

pub use axes::{AxisList, Keep};
pub use composite::{Composite, Sample, Vjp};
pub use graph::Graph;
pub use init::Init;
pub use op::*;
#[doc(hidden)]
pub use op::{Entry, catalogue};
pub use operand::Operand;
pub use page::Page;
pub use pass::CompileOptions;
pub use scan::{Iteration, Left, Scanned};
pub use session::{Finite, Inspected, LineTime, ParameterInfo, PlanId, Profile, Session};
pub use tensor::{Key, Param, Tensor};
pub use updates::Updates;
