//! Asking for what the next tiles need while the present ones keep the processor busy.
//!
//! A group of columns of B is many short pieces of memory, each in a page of its own, which no
//! hardware foresees.

use std::ops::Range;

use super::Strides;
use crate::memory::LINE;
use crate::simd::fetch_second;

/// Lines asked for at a time, at most: as many as a core can wait for, about.
const AT_ONCE: usize = 24;
/// Bytes of an operand that is still in the second-level cache when it is needed again.
const NEAR: usize = 192 << 10;

/// Pieces of memory to be fetched, some lines at a time.
#[derive(Debug)]
pub(super) struct Ahead {
    at: *const u8,
    /// Bytes from a piece to the next.
    stride: isize,
    pieces: usize,
    /// Bytes of a piece.
    bytes: usize,
    /// Bytes of the present piece that have been asked for.
    done: usize,
    /// Lines asked for at a time.
    lines: usize,
}

impl Ahead {
    /// Nothing to fetch.
    pub(super) const NOTHING: Ahead = Ahead {
        at: std::ptr::null(),
        stride: 0,
        pieces: 0,
        bytes: 0,
        done: 0,
        lines: 0,
    };

    /// What lies in these rows and columns of a matrix of elements of `size` bytes, spread over so
    /// many calls.
    pub(super) fn block<E>(
        from: *const E,
        (rows, columns): (&Range<usize>, &Range<usize>),
        strides: Strides,
        calls: usize,
    ) -> Ahead {
        let start = rows.start as isize * strides.row + columns.start as isize * strides.column;
        let (pieces, length, stride) = match strides {
            Strides { row, column: 1 } => (rows.len(), columns.len(), row),
            Strides { row: 1, column } => (columns.len(), rows.len(), column),
            _ => return Ahead::NOTHING,
        };
        let bytes = length * size_of::<E>();
        let lines = pieces * (bytes / LINE + 1);
        Ahead {
            at: from.wrapping_offset(start).cast(),
            stride: stride * size_of::<E>() as isize,
            pieces,
            bytes,
            done: 0,
            lines: lines.div_ceil(calls.max(1)).min(AT_ONCE),
        }
    }

    /// Asks for some more.
    #[inline]
    pub(super) fn fetch(&mut self) {
        for _ in 0..self.lines {
            if self.pieces == 0 {
                return;
            }
            fetch_second(self.at.wrapping_add(self.done));
            self.done += LINE;
            if self.done >= self.bytes {
                self.at = self.at.wrapping_offset(self.stride);
                (self.done, self.pieces) = (0, self.pieces - 1);
            }
        }
    }
}

/// Whether a matrix is too large to wait in a cache of its core.
pub(super) fn is_far<E>(rows: usize, columns: usize) -> bool {
    rows * columns * size_of::<E>() > NEAR
}
