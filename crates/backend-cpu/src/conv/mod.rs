//! Convolution and its two vjps.
//!
//! All are products of matrices, one of which is gathered from a tensor while it is packed (see
//! [`lower`]), so that no matrix of patches is ever written. The order of a sum is that of a matrix
//! product. Windows of 3 x 3 neighbours over many channels take a quarter of the multiplications
//! ([`winograd`]); groups of hardly any channels are computed without packing anything ([`flat`],
//! [`direct`]).

mod direct;
mod flat;
mod lower;
mod patches;
mod winograd;

use std::ops::Range;

use backprop_core::{Conv as Spec, DType, Error, ErrorKind, Primitive, Result, Source};

use crate::Level;
use crate::contraction::{Contraction, Fate, Place};
use crate::gemm::{self, Call, Finish, Product, Sink};
use crate::memory::{LINE, Operands};
use crate::pool::{Pool, Worker};
use lower::{Geometry, Lowered, Points};

pub(crate) use lower::Wanted;

/// The most products that a vjp by the input may take.
const PHASES: usize = 1024;

/// A prepared convolution or vjp.
#[derive(Debug)]
pub(crate) enum Conv {
    Whole(Contraction),
    Phased(Phased),
}

/// A vjp by the input that takes several products.
#[derive(Debug)]
pub(crate) struct Phased {
    phases: Vec<Phase>,
    fate: Fate,
    /// Elements of the result, of one of its planes, and bytes of a sum.
    points: usize,
    plane: usize,
    size: usize,
}

/// One of them.
#[derive(Debug)]
struct Phase {
    product: Box<dyn Product>,
    operands: [Place; 2],
    /// Columns of the product, and where they go in a plane of the result.
    columns: usize,
    points: Points,
}

/// The operands, if this can be computed: both without a prologue, of one type, and with neighbours
/// along the last spatial axis that are neighbours in memory.
fn operands(spec: &Spec, wanted: Wanted) -> Option<(&Source, &Source)> {
    let (left, right) = (spec.left.as_plain()?, spec.right.as_plain()?);
    let dense = |source: &Source| source.tensor.layout.is_dense();
    let near = |source: &Source| {
        let last = source.view.shape.rank() - 1;
        last < 2 || source.view.shape.size(last) <= 1 || source.view.strides[last] == 1
    };
    let tensors = match wanted {
        Wanted::Filter => near(left) && near(right),
        _ => near(left),
    };
    let same = left.tensor.dtype == right.tensor.dtype;
    (same && tensors && dense(left) && dense(right)).then_some((left, right))
}

/// Whether [`Conv::new`] can prepare this.
pub(crate) fn supports(spec: &Spec, wanted: Wanted, level: Level) -> bool {
    let Some((left, right)) = operands(spec, wanted) else {
        return false;
    };
    let geometry = Geometry::new(spec, (left, right), wanted);
    let few =
        wanted != Wanted::Input || geometry.phases() <= PHASES || direct::Plan::can(&geometry);
    let fate = Fate::new(&spec.epilogue, (spec.space, spec.accumulator), level);
    few && gemm::sums_as(left.tensor.dtype, spec.accumulator) && fate.is_ok()
}

impl Conv {
    /// Prepares a convolution for at most so many threads.
    pub(crate) fn new(
        primitive: &Primitive,
        (spec, wanted): (&Spec, Wanted),
        (level, threads): (Level, usize),
    ) -> Result<Conv> {
        Conv::prepared((spec, wanted), (level, threads)).map_err(|what| {
            Error::new(ErrorKind::Unsupported {
                backend: format!("cpu ({what})"),
                primitive: primitive.to_string(),
            })
        })
    }

    fn prepared(
        (spec, wanted): (&Spec, Wanted),
        (level, threads): (Level, usize),
    ) -> Result<Conv, String> {
        let (left, right) = operands(spec, wanted).ok_or("a prologue, or operands of two types")?;
        let geometry = Geometry::new(spec, (left, right), wanted);
        let fate = Fate::new(&spec.epilogue, (spec.space, spec.accumulator), level)?;
        // The filter comes second among what is read, or the cotangent does.
        let places = [(1, right), (0, left)].map(Place::of);
        let types = (left.tensor.dtype, spec.accumulator);
        let made = |product: Option<_>| product.ok_or_else(|| format!("sums in {}", types.1));
        let prepare = |mut lowered: Lowered, finish| {
            lowered.problem.level = level;
            lowered.problem.threads = threads;
            lowered.problem.finish = finish;
            let mut operands = places;
            for (place, offset) in operands.iter_mut().zip(lowered.offsets) {
                let bytes = offset * types.0.size() as isize;
                place.offset = place.offset.wrapping_add_signed(bytes);
            }
            Ok::<_, String>((made(gemm::make(types.0, types.1, lowered))?, operands))
        };
        let phases = match wanted {
            Wanted::Input => geometry.phases(),
            _ => 1,
        };
        let lowered = match wanted {
            Wanted::Output => geometry.output(),
            Wanted::Filter => geometry.filter(),
            Wanted::Input => geometry.input(0),
        };
        if (lowered.is_gathered() || phases > PHASES)
            && let Some(product) = geometry.special((wanted, phases), types, (level, threads))
        {
            return Ok(Conv::Whole(Contraction {
                product,
                operands: places,
                fate,
            }));
        }
        if phases > 1 {
            let phase = |phase| {
                let lowered = geometry.input(phase);
                let (columns, points) = (lowered.problem.n, lowered.points.clone());
                let (product, operands) = prepare(lowered, Finish::Hand)?;
                Ok(Phase {
                    product,
                    operands,
                    columns,
                    points,
                })
            };
            return Ok(Conv::Phased(Phased {
                phases: (0..phases).map(phase).collect::<Result<_, String>>()?,
                fate,
                points: spec.space.count(),
                plane: geometry.positions(),
                size: spec.accumulator.size(),
            }));
        }
        let (product, operands) = prepare(lowered, fate.finish())?;
        Ok(Conv::Whole(Contraction {
            product,
            operands,
            fate,
        }))
    }

    /// The program of the epilogue, if there is one.
    pub(crate) fn program(&mut self) -> Option<&mut crate::tile::Code> {
        match self {
            Conv::Whole(contraction) => contraction.fate.program(),
            Conv::Phased(phased) => phased.fate.program(),
        }
    }

    /// Bytes of scratch.
    pub(crate) fn scratch(&self) -> usize {
        match self {
            Conv::Whole(contraction) => contraction.scratch(),
            Conv::Phased(phased) => phased.scratch(),
        }
    }

    /// # Safety
    /// The operands are those of a checked launch of the spec.
    pub(crate) unsafe fn run(&self, pool: &Pool, operands: &Operands<'_>) -> Result<()> {
        // SAFETY: handed on.
        unsafe {
            match self {
                Conv::Whole(contraction) => contraction.run(pool, operands),
                Conv::Phased(phased) => phased.run(pool, operands),
            }
        }
    }
}

impl Phased {
    /// Bytes of all sums, where they cannot be put into the result.
    fn stage(&self) -> usize {
        match self.fate.finish() {
            Finish::Store => 0,
            Finish::Hand => (self.points * self.size).next_multiple_of(LINE),
        }
    }

    fn scratch(&self) -> usize {
        let phases = self.phases.iter().map(|phase| phase.product.scratch());
        self.stage() + phases.max().unwrap_or(0)
    }

    unsafe fn run(&self, pool: &Pool, operands: &Operands<'_>) -> Result<()> {
        let workers = self.phases.iter().map(|phase| phase.product.workers());
        // SAFETY: handed on.
        let job = |worker: Worker<'_>| unsafe { self.share(worker, operands) };
        if workers.max() <= Some(1) {
            job(Worker::alone());
            Ok(())
        } else {
            pool.run(&job)
        }
    }

    /// One worker's share: of each product, then of what becomes of the sums.
    unsafe fn share(&self, worker: Worker<'_>, operands: &Operands<'_>) {
        let stage = match self.fate.finish() {
            Finish::Store => operands.write(0),
            Finish::Hand => operands.scratch(),
        };
        let scratch = operands.scratch().wrapping_add(self.stage());
        for phase in &self.phases {
            // SAFETY: every element of the result is one phase's, and handed over once.
            let put = |range, sums| unsafe { self.put(phase, range, (sums, stage)) };
            let [left, right] = phase.operands.map(|place| place.start(operands));
            let call = Call {
                left,
                right,
                scratch,
                sink: Sink::Hand(&put),
            };
            // SAFETY: by P1 and P4 views stay inside of the operands, and the scratch memory is as
            // large as asked for; by P3 nothing else touches it or the results. Phases share the
            // scratch memory one after the other.
            unsafe {
                if phase.product.workers() > 1 {
                    phase.product.run(worker, &call);
                } else if worker.id() == 0 {
                    phase.product.run(Worker::alone(), &call);
                }
            }
            worker.barrier();
        }
        if self.fate.finish() == Finish::Hand {
            let range = worker.share(self.points);
            let from = stage.wrapping_add(range.start * self.size);
            // SAFETY: ranges of the staged sums are shared out.
            unsafe {
                self.fate.take(operands, |sink| match sink {
                    Sink::Hand(hand) if !range.is_empty() => hand(range, from),
                    _ => {}
                });
            }
        }
    }

    /// Puts sums of a phase where they belong.
    unsafe fn put(&self, phase: &Phase, range: Range<usize>, (sums, stage): (*const u8, *mut u8)) {
        // SAFETY: handed on.
        unsafe {
            match self.size {
                4 => self.spread::<u32>(phase, range, (sums.cast(), stage.cast())),
                _ => self.spread::<u64>(phase, range, (sums.cast(), stage.cast())),
            }
        }
    }

    unsafe fn spread<T: Copy>(
        &self,
        phase: &Phase,
        range: Range<usize>,
        (mut sums, stage): (*const T, *mut T),
    ) {
        let mut at = range.start;
        let (size, step) = phase.points.axes.last().copied().unwrap_or((1, 0));
        while at < range.end {
            let (plane, column) = (at / phase.columns, at % phase.columns);
            let count = (size - column % size).min(range.end - at);
            let to = stage.wrapping_add(plane * self.plane + phase.points.element(column));
            for i in 0..count {
                // SAFETY: the point lies in its plane, and the range has so many sums.
                unsafe { to.add(i * step).write(sums.add(i).read()) };
            }
            sums = sums.wrapping_add(count);
            at += count;
        }
    }
}

impl Geometry {
    /// A product of some kind of its own, where that pays.
    fn special(
        &self,
        (wanted, phases): (Wanted, usize),
        types: (DType, DType),
        on: (Level, usize),
    ) -> Option<Box<dyn Product>> {
        if flat::Plan::suits(self, wanted) {
            let plan = flat::Plan::new(self, wanted, on);
            gemm::make(types.0, types.1, plan)
        } else if phases > PHASES || direct::Plan::suits(self, wanted) {
            let plan = direct::Plan::new(self.clone(), wanted, on);
            gemm::make(types.0, types.1, plan)
        } else if types == (DType::F32, DType::F32) {
            winograd::prepare(self, wanted, on)
        } else {
            None
        }
    }
}

impl Points {
    /// Elements of a plane before a point.
    fn element(&self, mut point: usize) -> usize {
        let mut element = self.first;
        for &(size, stride) in self.axes.iter().rev() {
            element += point % size * stride;
            point /= size;
        }
        element
    }
}
