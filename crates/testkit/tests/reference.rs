//! The conformance suite on the reference itself: every spec is sound, and runs.

backprop_testkit::conformance!(backprop_core::Reference);
