//! A step of a compiled plan allocates nothing on the heap, loops included. Alone in its file, because
//! it counts what the whole process allocates.
#![allow(
    unsafe_code,
    reason = "an allocator that counts hands on what the trait calls unsafe"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use backprop_core::{DType::F32, DType::I64, Result};
use backprop_cpu::Cpu;
use backprop_graph::{Graph, Init, Left, Session, optim};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as promised to this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as promised to this function.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A recurrence over sequences of several lengths, with a product and a reduction in each iteration,
/// and its training step.
fn session(threads: usize) -> Result<Session<Cpu>> {
    const TIMES: usize = 12;
    let g = Graph::new();
    let (x, lengths) = (g.input("x", [TIMES, 16, 8], F32), g.input("n", [16], I64));
    let w = g.parameter("w", [8, 8], F32, Init::Xavier);
    let b = g.parameter("b", [8], F32, Init::Zeros);
    let zeros = g.full([16, 8], 0.0, F32);
    let states = g.scan(TIMES, &[zeros], &[x], |at| {
        let next = (at.carried[0].matmul(w) + at.elements[0] + b).tanh();
        let next = next / (next.square().sum([-1]).unsqueeze(-1) + 1.0);
        let runs = at.index.broadcast_to([16]).lt(lengths).unsqueeze(-1);
        let next = runs.broadcast_to([16, 8]).select(next, at.carried[0]);
        Left {
            carried: vec![next],
            stacked: vec![next],
        }
    });
    let loss = states.stacked[0].square().mean(..);
    let gradients = g.grad(loss, &[w, b])?;
    let updates = optim::adam(&g, &[w, b], &gradients, optim::Adam::default());
    let cpu = Cpu::builder().threads(threads).build()?;
    let mut session = Session::compile(&g, cpu, &[loss.key()], updates)?;
    session.feed(x, &[0.5f32; TIMES * 16 * 8])?;
    session.feed(lengths, &std::array::from_fn::<i64, 16, _>(|i| i as i64))?;
    Ok(session)
}

#[test]
fn a_step_allocates_nothing() -> Result<()> {
    for threads in [1, 2] {
        let mut session = session(threads)?;
        // Threads start with the first step.
        session.step()?;
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..10 {
            session.step()?;
        }
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(allocations, 0, "with {threads} threads");
    }
    Ok(())
}
