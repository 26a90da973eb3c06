//! The vocabulary of the backprop engine: element types, shapes and views, the table of elementwise
//! functions, the primitives a backend executes, the plan of a step, and the [`Backend`] trait.
//!
//! Everything here is plain data or a trait. This crate knows no graph, starts no thread, does no
//! I/O and contains no `unsafe`; a backend can be written against it alone (see [`Reference`] for a
//! complete one in safe Rust).
//!
//! | to read about | look in |
//! |---|---|
//! | element types and how bytes become numbers | [`DType`], [`Element`] |
//! | where an element of a tensor lies | [`Shape`], [`View`], [`Layout`] |
//! | every elementwise function with its derivative | [`Scalar`] |
//! | what a backend can be asked to do | [`Primitive`] |
//! | a whole step as ordered launches with memory offsets | [`Plan`] |
//! | what a backend has to implement | [`Backend`] |
#![forbid(unsafe_code)]

pub mod checksum;
pub mod plan;
pub mod random;

mod backend;
mod dtype;
mod error;
mod executable;
mod layout;
mod primitive;
mod program;
mod reference;
mod report;
mod scalar;
mod shape;
mod special;
mod view;
mod warning;

pub use backend::{Backend, Memory};
pub use dtype::{DType, Element};
pub use error::{Error, ErrorKind, Result};
pub use executable::{Executable, OneByOne, Watch};
pub use layout::Layout;
pub use plan::{Args, Plan};
pub use primitive::{
    Attention, AttentionVjp, Body, Concat, Conv, Heads, Indexing, KeyMask, MatMul, Operand, Order,
    Output, Piece, Pool, Primitive, Random, Reduction, Relocate, Rows, Sink, Sort, Source, Sweep,
    TensorType, Window,
};
pub use program::{Inst, Program, Register};
pub use random::philox;
pub use reference::{Number, Reference};
pub use report::{Note, Place};
pub use scalar::{Calculus, Class, Scalar};
pub use shape::{Axes, MAX_RANK, Shape};
pub use view::View;
pub use warning::{Warning, WarningKind};
