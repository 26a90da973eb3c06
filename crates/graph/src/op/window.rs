//! What convolutions and pools share: how windows move, and windows laid out as tensors of their own,
//! which is what both are made of where a backend has no kernel for them.

use backprop_core::{Shape, Window};

use crate::graph::{Problem, bad_attribute, bad_shape};
use crate::ir::Stride;
use crate::tensor::Tensor;

/// A number for each spatial axis, or one for all of them.
///
/// ```
/// use backprop_graph::PerAxis;
///
/// let [both, each]: [PerAxis; 2] = [2.into(), [2, 1].into()];
/// assert_ne!(both, each);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PerAxis(Vec<usize>);

impl From<usize> for PerAxis {
    fn from(all: usize) -> PerAxis {
        PerAxis(vec![all])
    }
}

impl<const N: usize> From<[usize; N]> for PerAxis {
    fn from(each: [usize; N]) -> PerAxis {
        PerAxis(each.into())
    }
}

impl From<Vec<usize>> for PerAxis {
    fn from(each: Vec<usize>) -> PerAxis {
        PerAxis(each)
    }
}

impl PerAxis {
    /// The numbers for `axes` axes.
    pub(super) fn of(
        &self,
        operation: &str,
        what: &str,
        axes: usize,
    ) -> Result<Vec<usize>, Problem> {
        match self.0.as_slice() {
            [all] => Ok(vec![*all; axes]),
            each if each.len() == axes => Ok(each.to_vec()),
            each => {
                let what = format!("{what} {each:?} for {axes} spatial axes");
                let help = "one number for each of them, or one for all";
                Err(bad_attribute(operation, what).help(help))
            }
        }
    }
}

/// The largest number of a window, and the most windows or points along an axis whose indices a graph
/// holds: more are a mistake, and places stay far from where arithmetic overflows.
pub(super) const MOST: usize = 1 << 28;

/// The most elements of a window: each is a piece of the decomposition.
const MOST_TAPS: usize = 1 << 16;

/// Windows of these sizes, strides, paddings and dilations along `axes` axes.
pub(super) fn windows(
    operation: &str,
    sizes: &[usize],
    [stride, padding, dilation]: [&PerAxis; 3],
) -> Result<Vec<Window>, Problem> {
    let axes = sizes.len();
    let stride = stride.of(operation, "stride", axes)?;
    let padding = padding.of(operation, "padding", axes)?;
    let dilation = dilation.of(operation, "dilation", axes)?;
    let zero = |what: &str| Err(bad_attribute(operation, format!("{what} 0")));
    if stride.contains(&0) {
        return zero("stride");
    }
    if dilation.contains(&0) {
        return zero("dilation");
    }
    if sizes.contains(&0) {
        return zero("a window of size");
    }
    let numbers = [sizes, &stride, &padding, &dilation].concat();
    if let Some(number) = numbers.iter().find(|&&number| number > MOST) {
        let what = format!("windows with {number} for size, stride, padding or dilation");
        return Err(bad_attribute(operation, what).help(format!("at most {MOST}")));
    }
    let taps = sizes
        .iter()
        .try_fold(1usize, |n, &size| n.checked_mul(size));
    if taps.is_none_or(|taps| taps > MOST_TAPS) {
        let what = format!("windows of sizes {sizes:?}");
        return Err(bad_attribute(operation, what).help(format!("at most {MOST_TAPS} elements")));
    }
    let window = |axis: usize| Window {
        size: sizes[axis],
        stride: stride[axis],
        dilation: dilation[axis],
        padding: padding[axis],
    };
    Ok((0..axes).map(window).collect())
}

/// What is left over when a window has run as far as it can.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Rounding {
    /// It is not covered.
    #[default]
    Down,
    /// One more window covers it, as long as that starts inside of the axis or its padding.
    Up,
}

/// How many places a window has on an axis of `size` elements, padded on both sides.
pub(super) fn places(
    operation: &str,
    window: &Window,
    size: usize,
    rounding: Rounding,
) -> Result<usize, Problem> {
    let reach = (window.size - 1).saturating_mul(window.dilation);
    let padded = size.saturating_add(window.padding.saturating_mul(2));
    let Some(room) = padded.checked_sub(reach.saturating_add(1)) else {
        let Window {
            size: taps,
            dilation,
            padding,
            ..
        } = window;
        let what = format!(
            "a window of {taps} taps (dilation {dilation}) on {size} elements with padding {padding}"
        );
        return Err(bad_shape(operation, what).help("it needs more padding, or a smaller window"));
    };
    let down = room / window.stride + 1;
    let starts_inside = down.saturating_mul(window.stride) < size.saturating_add(window.padding);
    let one_more = rounding == Rounding::Up && !room.is_multiple_of(window.stride) && starts_inside;
    Ok(if one_more { down + 1 } else { down })
}

/// How windows lie on tensors `[leading.., axes..]`, giving `[leading.., places..]`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Windows {
    pub(super) each: Vec<Window>,
    /// The sizes of the axes.
    pub(super) axes: Vec<usize>,
    /// The places along each axis.
    pub(super) places: Vec<usize>,
}

impl Windows {
    /// The number of taps.
    pub(super) fn taps(&self) -> usize {
        self.each.iter().map(|window| window.size).product()
    }

    /// The number of places.
    pub(super) fn count(&self) -> usize {
        self.places
            .iter()
            .fold(1, |n, &places| n.saturating_mul(places))
    }

    /// The coordinates of every tap, in row-major order.
    fn tap_coordinates(&self) -> Vec<Vec<usize>> {
        let mut taps = vec![Vec::new()];
        for window in &self.each {
            let longer = |tap: &Vec<usize>| {
                let tap = tap.clone();
                (0..window.size).map(move |t| [tap.as_slice(), &[t]].concat())
            };
            taps = taps.iter().flat_map(longer).collect();
        }
        taps
    }

    /// The sizes of the axes with all padding that windows reach.
    fn padded(&self) -> Vec<usize> {
        let reach = |(window, (&size, &places)): (&Window, (&usize, &usize))| {
            let last = places.saturating_sub(1) * window.stride;
            let end = last + (window.size - 1) * window.dilation + 1;
            end.max(window.padding + size)
        };
        let axes = self.axes.iter().zip(&self.places);
        self.each.iter().zip(axes).map(reach).collect()
    }

    /// Where tap `tap` lies in the padded axes, one element a place.
    fn stride(&self, tap: &[usize]) -> Stride {
        let start = self.each.iter().zip(tap).map(|(w, &t)| t * w.dilation);
        Stride {
            start: [0].into_iter().chain(start).collect(),
            step: [1]
                .into_iter()
                .chain(self.each.iter().map(|w| w.stride as isize))
                .collect(),
        }
    }

    /// Where the axes lie in the padded ones.
    fn inside(&self) -> Stride {
        let start = self.each.iter().map(|window| window.padding);
        Stride {
            start: [0].into_iter().chain(start).collect(),
            step: vec![1; self.each.len() + 1].into(),
        }
    }

    /// If every element is in one window: the axes parted into places and taps, each axis by itself,
    /// and with all taps before all places. What visits every element needs no piece for each tap.
    fn tiled(&self, leading: usize) -> Option<[Shape; 2]> {
        let each = || self.each.iter().zip(self.axes.iter().zip(&self.places));
        let tiles = each().all(|(window, (&size, &places))| {
            let apart = window.stride == window.size && window.padding == 0;
            apart && window.dilation == 1 && places.checked_mul(window.size) == Some(size)
        });
        let both = each().flat_map(|(window, (_, &places))| [places, window.size]);
        let both: Vec<usize> = [leading].into_iter().chain(both).collect();
        let taps = self.each.iter().map(|window| window.size);
        let parted = [leading]
            .into_iter()
            .chain(taps)
            .chain(self.places.iter().copied());
        let parted: Vec<usize> = parted.collect();
        tiles.then_some([Shape::new(&both)?, Shape::new(&parted)?])
    }

    fn shape(leading: usize, sizes: &[usize]) -> Shape {
        [leading].into_iter().chain(sizes.iter().copied()).collect()
    }

    /// The elements that every window visits, `[leading, taps, places]`, of `x` with as many leading
    /// elements; `fill` where a window reaches outside.
    pub(super) fn unfold<'g>(&self, x: Tensor<'g>, leading: usize, fill: f64) -> Tensor<'g> {
        let columns = Shape::from_iter([leading, self.taps(), self.count()]);
        if let Some([tiled, _]) = self.tiled(leading) {
            let axes = self.each.len() as i32;
            let taps = (1..=axes).map(|axis| 2 * axis);
            let places = (1..=axes).map(|axis| 2 * axis - 1);
            let order: Vec<i32> = [0].into_iter().chain(taps).chain(places).collect();
            return x.reshape_to(tiled).permute(order).reshape_to(columns);
        }
        let flat = x.reshape_to(Self::shape(leading, &self.axes));
        let padded = flat.pad_by(&self.inside(), fill, Self::shape(leading, &self.padded()));
        let seen = self.tap_coordinates().into_iter().map(|tap| {
            let seen = padded.slice_by(&self.stride(&tap), Self::shape(leading, &self.places));
            seen.reshape_to(Shape::from_iter([leading, 1, self.count()]))
        });
        x.graph.concat(&seen.collect::<Vec<_>>(), 1)
    }

    /// The transpose of [`unfold`](Windows::unfold): `[leading, taps, places]` added up where windows
    /// visit, `[leading, axes..]`.
    pub(super) fn fold<'g>(&self, columns: Tensor<'g>, leading: usize) -> Tensor<'g> {
        if let Some([_, parted]) = self.tiled(leading) {
            let axes = self.each.len() as i32;
            let pairs = (1..=axes).flat_map(|axis| [axes + axis, axis]);
            let order: Vec<i32> = [0].into_iter().chain(pairs).collect();
            let tiles = columns.reshape_to(parted).permute(order);
            return tiles.reshape_to(Self::shape(leading, &self.axes));
        }
        let padded = Self::shape(leading, &self.padded());
        let taps = self.tap_coordinates();
        let parts = taps.iter().enumerate().map(|(t, tap)| {
            let places = Self::shape(leading, &self.places);
            let part = columns.narrow(1, t, t + 1).reshape_to(places);
            part.pad_by(&self.stride(tap), 0.0, padded)
        });
        let sum = parts.reduce(|sum, part| sum + part).unwrap_or(columns);
        sum.slice_by(&self.inside(), Self::shape(leading, &self.axes))
    }
}
