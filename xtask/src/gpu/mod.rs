//! What the CUDA backend needs beside cargo: NVIDIA's compiler on machines without a GPU, and a bundle
//! that takes the tests and the measurements to a machine with one.

mod bundle;
mod tools;

pub(crate) use bundle::run as bundle;
pub(crate) use tools::run as tools;
