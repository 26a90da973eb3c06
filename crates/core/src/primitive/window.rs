//! How a window moves along a spatial axis.

use super::{Check, ensure};
use crate::Shape;

/// A window along one spatial axis: tap `t` at place `o` visits position
/// `o * stride + t * dilation - padding`. Positions outside of the axis hold nothing: they add 0 to a
/// sum and are passed over by a maximum. How far windows reach beyond the far end follows from the
/// number of places.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Window {
    /// The number of taps.
    pub size: usize,
    /// Positions from one place to the next.
    pub stride: usize,
    /// Positions from one tap to the next.
    pub dilation: usize,
    /// Positions before the axis at which the first place starts.
    pub padding: usize,
}

impl Window {
    /// The position that tap `tap` at place `place` visits on an axis of `size`, if it is inside.
    #[must_use]
    pub fn position(&self, place: usize, tap: usize, size: usize) -> Option<usize> {
        let reach = place * self.stride + tap * self.dilation;
        let position = reach.checked_sub(self.padding)?;
        (position < size).then_some(position)
    }

    fn check(&self, places: usize) -> Check {
        ensure(
            self.size > 0 && self.stride > 0 && self.dilation > 0,
            || format!("a window of {self:?}"),
        )?;
        let last = |count: usize, step: usize| count.saturating_sub(1).checked_mul(step);
        let reach = last(places, self.stride)
            .zip(last(self.size, self.dilation))
            .and_then(|(place, tap)| place.checked_add(tap));
        ensure(
            reach.is_some_and(|reach| reach.max(self.padding) < isize::MAX as usize),
            || format!("a window of {self:?} at {places} places"),
        )
    }
}

/// Checks windows along the trailing axes of `output`, which have as many places.
pub(super) fn check_windows(windows: &[Window], output: Shape) -> Check {
    let leading = output.rank().checked_sub(windows.len());
    let leading = leading.ok_or_else(|| format!("{} windows in {output}", windows.len()))?;
    let mut axes = windows.iter().enumerate();
    axes.try_for_each(|(axis, window)| window.check(output.size(leading + axis)))
}
