//! The suite that proves a backend equal to [`Reference`]: one line in a test file,
//!
//! ```
//! backprop_testkit::conformance!(backprop_core::Reference);
//! # fn main() {}
//! ```
//!
//! makes a test of each [`Kind`]. A kind is a list of generated specs: single elements, odd and
//! prime sizes, just past a tile, enough for several threads; broadcast, permuted, cut out and
//! reversed views; every element type that the primitive takes. Each spec becomes a plan of one
//! launch, which runs through [`launch`](Backend::launch) and, twice, through
//! [`load`](Backend::load): all three have to give the same bits, close enough to the reference,
//! and to leave alone every byte beside the results.
//!
//! Plain forms have to work. Optional ones are asked for through [`supports`](Backend::supports);
//! what is declined is listed in the [`Report`], and is no failure.

mod accuracy;
mod attention;
mod code;
mod conv;
mod functions;
mod fusion;
mod matmul;
mod moves;
mod pools;
mod rig;
mod rows;
mod sort;
mod sweeps;
mod whole;

use std::fmt;

use backprop_core::{Backend, Primitive, Reference};

use fusion::Twin;
use rig::{Case, Way};

/// What a test of the suite is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Allocating, reading and writing memory.
    Buffers,
    /// Each function of the scalar table, of every type, on its usual domain.
    Functions,
    /// Each function where it has limits, poles and jumps, at infinities, NaN, and the ends of the
    /// integers.
    SpecialValues,
    /// Each element type to each other.
    Casts,
    /// Sweeps that store, through views of every kind, and in place.
    Sweep,
    /// Sweeps with one reduced result.
    Reduce,
    /// Sweeps with several results of which some are reduced. Optional.
    FusedSweep,
    /// Row programs. Optional.
    Rows,
    /// Plain matrix products.
    MatMul,
    /// Matrix products with prologues and epilogues. Optional.
    FusedMatMul,
    /// Convolutions. Optional.
    Conv,
    /// The vjps of convolutions by the input and by the filter. Optional.
    ConvVjps,
    /// Convolutions and their vjps with prologues and epilogues. Optional.
    FusedConv,
    /// Reduced windows and their vjps. Optional.
    Pool,
    /// Strided copies.
    Relocate,
    /// Rows picked by index.
    Gather,
    /// Rows added up by index.
    ScatterAdd,
    /// Random numbers.
    Random,
    /// Attention. Optional.
    Attention,
    /// The vjp of attention. Optional.
    AttentionVjp,
    /// Positions in sorted order. Optional.
    Sort,
    /// Whether fused launches have the bits of separate ones.
    Fusion,
    /// Plans with loops.
    Plans,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 23] = [
        Kind::Buffers,
        Kind::Functions,
        Kind::SpecialValues,
        Kind::Casts,
        Kind::Sweep,
        Kind::Reduce,
        Kind::FusedSweep,
        Kind::Rows,
        Kind::MatMul,
        Kind::FusedMatMul,
        Kind::Conv,
        Kind::ConvVjps,
        Kind::FusedConv,
        Kind::Pool,
        Kind::Relocate,
        Kind::Gather,
        Kind::ScatterAdd,
        Kind::Random,
        Kind::Attention,
        Kind::AttentionVjp,
        Kind::Sort,
        Kind::Fusion,
        Kind::Plans,
    ];

    /// Some of its specs: the first, and from there each with a number that `step` divides.
    #[must_use]
    pub fn every(self, step: usize) -> Sample {
        Sample {
            kind: self,
            step: step.max(1),
        }
    }

    fn cases(self) -> Vec<Case> {
        match self {
            Kind::Functions => functions::ordinary(),
            Kind::SpecialValues => functions::specials(),
            Kind::Casts => functions::casts(),
            Kind::Sweep => sweeps::seen_from_a_space(),
            Kind::Reduce => sweeps::reduced(),
            Kind::FusedSweep => sweeps::fused(),
            Kind::Rows => rows::cases(),
            Kind::MatMul => matmul::plain(),
            Kind::FusedMatMul => matmul::fused(),
            Kind::Conv => conv::forward(),
            Kind::ConvVjps => conv::vjps(),
            Kind::FusedConv => conv::fused(),
            Kind::Pool => pools::cases(),
            Kind::Relocate => moves::relocations(),
            Kind::Gather => moves::gathers(),
            Kind::ScatterAdd => moves::scatters(),
            Kind::Random => moves::random(),
            Kind::Attention => attention::forward(),
            Kind::AttentionVjp => attention::vjp(),
            Kind::Sort => sort::cases(),
            Kind::Fusion => fusion::twins().into_iter().map(|twin| twin.fused).collect(),
            Kind::Buffers | Kind::Plans => Vec::new(),
        }
    }
}

/// What became of the specs of a kind.
#[derive(Clone, Default)]
pub struct Report {
    name: String,
    passed: usize,
    declined: Vec<String>,
    failed: Vec<String>,
}

impl Report {
    /// How many specs ran and were right.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.passed
    }

    /// The optional forms that the backend declines.
    #[must_use]
    pub fn declined(&self) -> &[String] {
        &self.declined
    }

    /// What went wrong, one line a spec.
    #[must_use]
    pub fn failed(&self) -> &[String] {
        &self.failed
    }

    /// The report itself, as an error if anything went wrong.
    ///
    /// # Errors
    /// If any spec failed.
    pub fn result(self) -> Result<Report, Report> {
        if self.failed.is_empty() {
            Ok(self)
        } else {
            Err(self)
        }
    }

    fn add(&mut self, primitive: &Primitive, outcome: Result<(), String>) {
        self.gather(vec![(primitive.to_string(), outcome)]);
    }

    fn gather(&mut self, outcomes: Vec<(String, Result<(), String>)>) {
        for (name, outcome) in outcomes {
            match outcome {
                Ok(()) => self.passed += 1,
                Err(what) => self.failed.push(format!("{name}: {what}")),
            }
        }
    }

    fn decline(&mut self, primitive: &Primitive) {
        self.declined.push(primitive.to_string());
    }
}

impl std::error::Error for Report {}

/// As `Display`, because a test that fails prints this.
impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One line of totals, the forms declined, and the first failures.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, declined) = (self.passed, self.declined.len());
        let failed = self.failed.len();
        write!(
            f,
            "{}: {passed} passed, {failed} failed, {declined} declined",
            self.name
        )?;
        for (what, list) in [("failed", &self.failed), ("declined", &self.declined)] {
            // Specs that differ in what is not printed, as in element types, are one line.
            let mut lines = list.clone();
            lines.sort();
            lines.dedup();
            for line in lines.iter().take(SHOWN) {
                write!(f, "\n  {what}: {line}")?;
            }
            if lines.len() > SHOWN {
                write!(f, "\n  {what}: and {} more", lines.len() - SHOWN)?;
            }
        }
        Ok(())
    }
}

/// How many lines of each sort a report prints.
const SHOWN: usize = 12;

/// Runs the specs of a kind on a backend and compares with the reference.
#[must_use]
pub fn check<B: Backend>(backend: &B, kind: Kind) -> Report {
    kind.every(1).check(backend)
}

/// Some specs of a kind, for a device on which all of them would take long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    kind: Kind,
    step: usize,
}

impl Sample {
    /// The primitives that [`check`](Sample::check) runs, for a backend that would rather compile
    /// them together.
    #[must_use]
    pub fn primitives(self) -> Vec<Primitive> {
        match self.kind {
            Kind::Fusion => self.twins().flat_map(|twin| twin.primitives()).collect(),
            _ => self.cases().map(|case| case.primitive).collect(),
        }
    }

    /// Runs them on a backend and compares with the reference.
    #[must_use]
    pub fn check<B: Backend>(self, backend: &B) -> Report {
        let mut report = Report {
            name: format!("{:?} on {}", self.kind, backend.name()),
            ..Report::default()
        };
        match self.kind {
            Kind::Buffers => report.gather(whole::buffers(backend)),
            Kind::Plans => report.gather(whole::plans(backend)),
            Kind::Fusion => {
                for twin in self.twins() {
                    judge(backend, &mut report, &twin.fused, |_| {
                        Twin::check(&twin, backend)
                    });
                }
            }
            _ => {
                for case in self.cases() {
                    judge(backend, &mut report, &case, |case| agrees(backend, case));
                }
            }
        }
        report
    }

    fn cases(self) -> impl Iterator<Item = Case> {
        self.kind.cases().into_iter().step_by(self.step)
    }

    fn twins(self) -> impl Iterator<Item = Twin> {
        fusion::twins().into_iter().step_by(self.step)
    }
}

/// Runs a case unless the backend declines it, as it may do with what is not plain.
fn judge<B: Backend>(
    backend: &B,
    report: &mut Report,
    case: &Case,
    run: impl FnOnce(&Case) -> Result<(), String>,
) {
    let primitive = &case.primitive;
    if !primitive.is_plain() && !backend.supports(primitive) {
        report.decline(primitive);
    } else {
        report.add(primitive, run(case));
    }
}

fn agrees<B: Backend>(backend: &B, case: &Case) -> Result<(), String> {
    if !backend.supports(&case.primitive) {
        return Err("a plain form is declined".into());
    }
    let got = case.run(backend, Way::Launched)?;
    for time in ["", " again"] {
        if case.run(backend, Way::Loaded)? != got {
            return Err(format!("other bits when loaded as a plan{time}"));
        }
    }
    let expected = case.run(&Reference, Way::Launched)?;
    let types = case.primitive.writes();
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let same = case.accuracy.compare(types[i].dtype, got, expected);
        same.map_err(|what| format!("result {i}: {what}"))?;
    }
    Ok(())
}

/// Runs the specs of every kind on two backends, which have to give the same bits: as one backend
/// with different numbers of threads. What one declines, the other has to decline.
#[must_use]
pub fn same_bits<A: Backend, B: Backend>(a: &A, b: &B) -> Report {
    let mut report = Report {
        name: format!("same bits on {} and {}", a.name(), b.name()),
        ..Report::default()
    };
    for case in Kind::ALL.into_iter().flat_map(Kind::cases) {
        let primitive = &case.primitive;
        match (a.supports(primitive), b.supports(primitive)) {
            (true, true) => report.add(primitive, alike(a, b, &case)),
            (false, false) => report.decline(primitive),
            _ => report.add(primitive, Err("declined by one of the two".into())),
        }
    }
    report
}

fn alike<A: Backend, B: Backend>(a: &A, b: &B, case: &Case) -> Result<(), String> {
    let (one, other) = (case.run(a, Way::Loaded)?, case.run(b, Way::Loaded)?);
    let types = case.primitive.writes();
    for (i, (one, other)) in one.iter().zip(&other).enumerate() {
        let same = accuracy::Accuracy::Bits.compare(types[i].dtype, one, other);
        same.map_err(|what| format!("result {i}: {what}"))?;
    }
    Ok(())
}

/// Makes a test of each [`Kind`](crate::conformance::Kind) that checks a backend against the
/// reference.
///
/// The argument is an expression for the backend, which may use `?`. A name in front puts the tests
/// into a module, so that several backends fit one file.
///
/// ```
/// backprop_testkit::conformance!(backprop_core::Reference);
/// backprop_testkit::conformance!(again: backprop_core::Reference);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! conformance {
    ($name:ident: $backend:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "the expression may need what is around")]
            use super::*;
            $crate::conformance!($backend);
        }
    };
    ($backend:expr) => {
        $crate::conformance! { @tests $backend;
            buffers Buffers;
            functions Functions;
            special_values SpecialValues;
            casts Casts;
            sweep Sweep;
            reduce Reduce;
            fused_sweep FusedSweep;
            rows Rows;
            matmul MatMul;
            fused_matmul FusedMatMul;
            conv Conv;
            conv_vjps ConvVjps;
            fused_conv FusedConv;
            pool Pool;
            relocate Relocate;
            gather Gather;
            scatter_add ScatterAdd;
            random Random;
            attention Attention;
            attention_vjp AttentionVjp;
            sort Sort;
            fusion Fusion;
            plans Plans;
        }
    };
    (@tests $backend:expr; $($test:ident $Kind:ident;)*) => { $(
        #[test]
        #[allow(clippy::print_stdout, reason = "says what is declined")]
        fn $test() -> ::std::result::Result<(), ::std::boxed::Box<dyn ::std::error::Error>> {
            let backend = $backend;
            let report = $crate::conformance::check(&backend, $crate::conformance::Kind::$Kind);
            println!("{}", report.result()?);
            Ok(())
        }
    )* };
}
