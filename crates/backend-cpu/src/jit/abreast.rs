//! Several registers' worth of points at a time.
//!
//! A function is a chain of operations that wait for each other, and a processor looks only so far
//! ahead: of a long chain it sees the next points too late. So the operations of several registers take
//! turns.

use super::emit::uses;
use super::tape::{Op, Value};

/// Operations from which on a processor does not look far enough ahead by itself.
const LONG: usize = 24;
/// Registers of a chain that is worth it, at most.
const MOST: usize = 4;

/// The operations of several registers' worth of points.
pub(super) struct Abreast {
    pub(super) ops: Vec<Op>,
    /// For each operation, whose turn it is.
    pub(super) turns: Vec<usize>,
}

impl Abreast {
    pub(super) fn new(ops: &[Op], count: usize) -> Abreast {
        let mut all = Abreast {
            ops: Vec::with_capacity(ops.len() * count),
            turns: Vec::with_capacity(ops.len() * count),
        };
        let mut values = vec![Vec::with_capacity(ops.len()); count];
        for op in ops {
            for (turn, values) in values.iter_mut().enumerate() {
                if turn == 0 || !op.is_level() {
                    let mut op = *op;
                    for operand in op.operands_mut().into_iter().flatten() {
                        *operand = values[operand.index()];
                    }
                    all.ops.push(op);
                    all.turns.push(turn);
                }
                values.push(Value::at(all.ops.len() - 1));
            }
        }
        all
    }
}

/// How many registers' worth of points to take at a time: as many as have room in the registers.
pub(super) fn most_abreast(ops: &[Op], registers: usize) -> usize {
    let computed = |op: &&Op| !op.is_level() && !matches!(op, Op::Nothing);
    if ops.iter().filter(computed).count() < LONG {
        return 1;
    }
    let fits = registers / most_alive(ops).max(1);
    1 << fits.clamp(1, MOST).ilog2()
}

/// The most values that are wanted at a time, other than those that lie in memory anyway.
fn most_alive(ops: &[Op]) -> usize {
    let mut ending = vec![0; ops.len()];
    let (mut alive, mut most) = (0, 0);
    let uses = uses(ops);
    for (at, op) in ops.iter().enumerate() {
        alive -= ending[at];
        if let Some(&last) = uses[at].first().filter(|_| !op.is_level()) {
            ending[last] += 1;
            alive += 1;
        }
        most = most.max(alive);
    }
    most
}
