//! Programs over points alone, as the epilogue of a contraction has them: the
//! contraction's own kernel says when which points are computed.

use std::ops::Range;

use backprop_core::{Body, DType, Shape, Sink};

use super::{Residence, each_tile, request};
use crate::Level;
use crate::memory::Operands;
use crate::tile::{self, Code, Entry, Frame, TILE};

/// A prepared program over points.
#[derive(Debug)]
pub(crate) struct Elementwise {
    code: Code,
}

/// A program that a worker is about to run on several ranges of points.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    code: &'a Code,
    frame: &'a Frame,
}

impl Elementwise {
    /// Lowers `body` over `space`; its first `external` inputs (at most one) are
    /// handed over with each range of points.
    ///
    /// # Errors
    /// What tiles cannot do.
    pub(crate) fn new(
        body: &Body,
        space: Shape,
        external: usize,
        level: Level,
    ) -> Result<Elementwise, String> {
        if body.outputs.iter().any(|output| output.sink != Sink::Store) {
            return Err("a reduced output".into());
        }
        let code = tile::lower(&request(body, space, (external, level)))?;
        if code.scratch() > 0 {
            return Err("a program of too many values".into());
        }
        Ok(Elementwise { code })
    }

    /// The program.
    pub(crate) fn program(&mut self) -> &mut Code {
        &mut self.code
    }

    /// Calls `work` with what runs the program. The inputs that are not handed
    /// over are the launch's reads from `first_read` on. Constants are laid out
    /// once, for ranges of up to `points` points (longer ones are cut).
    ///
    /// # Safety
    /// The operands are those of a checked launch of the body's primitive.
    pub(crate) unsafe fn enter(
        &self,
        operands: &Operands<'_>,
        (first_read, points): (usize, usize),
        work: impl FnOnce(&Running<'_>),
    ) {
        let entry = Entry {
            operands,
            first_read,
            external: std::ptr::null(),
            scratch: std::ptr::null_mut(),
            points: points.min(TILE),
            width: 0,
        };
        let code = &self.code;
        // SAFETY: handed on.
        unsafe { code.run(&entry, |frame| work(&Running { code, frame })) }
    }
}

impl Running<'_> {
    /// Computes the points in `range`; input 0 is read from `external` on,
    /// where it is handed over.
    ///
    /// # Safety
    /// The range lies in the space, is no longer than was said (or said to be a
    /// tile or longer), no other worker runs on it, and `external` has an
    /// element for each of its points.
    pub(crate) unsafe fn run(&self, range: Range<usize>, external: Option<(*const u8, DType)>) {
        if let Some((start, dtype)) = external {
            let origin = start.wrapping_sub(range.start * dtype.size());
            self.code.hand_over(self.frame, origin);
        }
        // SAFETY: handed on.
        unsafe { each_tile(self.code, self.frame, range, Residence::Cache) }
    }
}
