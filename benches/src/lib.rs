//! Workloads and benchmarks of the backprop engine.
