//! From the specification of a convolution to products of matrices.
//!
//! With the filter on the left, all three are products of which one operand is read through
//! windows: the output is `filter x patches of the input`, the vjp by the input is
//! `transposed filter x patches of the cotangent`, and the vjp by the filter `cotangent x transposed
//! patches of the input`. Where windows step over positions, the vjp by the input takes a product for
//! each of the residues of a position by the stride (a phase), as each of them sees taps of its own.

use backprop_core::{Conv as Spec, Source, View};

use super::patches::{Columns, Patches, Transposed};
use crate::Level;
use crate::gemm::{
    self, BatchAxis, Finish, Gather, Gathers, Gemm, Make, Number, Problem, Product, Runs, Strides,
};
use crate::windows::{Axis, Windows};

/// The most rows of a product that are few.
const FEW: usize = 2;

/// Which tensor of a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Output,
    Input,
    Filter,
}

/// A convolution with the way its tensors lie.
#[derive(Debug, Clone)]
pub(super) struct Geometry {
    pub(super) images: usize,
    pub(super) groups: usize,
    /// Channels of a group.
    pub(super) channels: usize,
    /// Output channels of a group.
    pub(super) out: usize,
    /// Sizes along each spatial axis.
    pub(super) windows: Vec<Sizes>,
    /// Elements per step along each axis, of the input, the filter and the output.
    pub(super) x: Vec<isize>,
    pub(super) w: Vec<isize>,
    pub(super) y: Vec<isize>,
}

/// What meets along a spatial axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) positions: usize,
    pub(super) places: usize,
    pub(super) taps: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    pub(super) padding: usize,
}

/// One product.
pub(super) struct Lowered {
    pub(super) problem: Problem,
    /// Elements before the first one of the left operand, and of the right one.
    pub(super) offsets: [isize; 2],
    left: Option<Vec<(usize, isize)>>,
    right: Right,
    /// Where the results of a row of the product go.
    pub(super) points: Points,
}

/// How the right operand is found.
enum Right {
    Strided,
    Runs(Vec<(usize, isize)>),
    Columns(Patches),
    Transposed(Patches),
}

/// Points of a spatial plane of the result.
#[derive(Debug, Clone)]
pub(super) struct Points {
    pub(super) first: usize,
    /// Sizes, and elements from one to the next, slowest first.
    pub(super) axes: Vec<(usize, usize)>,
}

impl Geometry {
    pub(super) fn new(spec: &Spec, (left, right): (&Source, &Source), wanted: Wanted) -> Self {
        let rank = spec.windows.len() + 2;
        let strides = |view: &View| view.strides[..rank].to_vec();
        let [input, filter, output] = [spec.input, spec.filter, spec.output].map(View::dense);
        let [x, w, y] = match wanted {
            Wanted::Output => [&left.view, &right.view, &output],
            Wanted::Input => [&input, &right.view, &left.view],
            Wanted::Filter => [&left.view, &filter, &right.view],
        };
        let sizes = |(axis, window): (usize, &backprop_core::Window)| Sizes {
            positions: spec.input.size(axis + 2),
            places: spec.output.size(axis + 2),
            taps: window.size,
            stride: window.stride,
            dilation: window.dilation,
            padding: window.padding,
        };
        Self {
            images: spec.input.size(0),
            groups: spec.groups,
            channels: spec.filter.size(1),
            out: spec.filter.size(0) / spec.groups,
            windows: spec.windows.iter().enumerate().map(sizes).collect(),
            x: strides(x),
            w: strides(w),
            y: strides(y),
        }
    }

    /// Whether the product of a group has too few rows to repay the packing of its columns.
    pub(super) fn has_few(&self, wanted: Wanted) -> bool {
        let rows = match wanted {
            Wanted::Input => self.channels,
            Wanted::Output | Wanted::Filter => self.out,
        };
        rows <= FEW
    }

    pub(super) fn taps(&self) -> usize {
        self.windows.iter().map(|window| window.taps).product()
    }

    pub(super) fn places(&self) -> usize {
        self.windows.iter().map(|window| window.places).product()
    }

    pub(super) fn positions(&self) -> usize {
        self.windows.iter().map(|window| window.positions).product()
    }

    /// The patches of the input.
    pub(super) fn patches(&self) -> Patches {
        let axis = |(i, sizes): (usize, &Sizes)| Axis {
            places: sizes.places,
            taps: sizes.taps,
            size: sizes.positions,
            stride: self.x[i + 2],
            origin: -(sizes.padding as isize),
            place: sizes.stride as isize,
            tap: sizes.dilation as isize,
        };
        let axes = self.windows.iter().enumerate().map(axis).collect();
        Patches {
            windows: Windows::new(axes),
            channel: self.x[1],
            image: self.x[0],
        }
    }

    /// The number of phases of the vjp by the input.
    pub(super) fn phases(&self) -> usize {
        let phases = self.windows.iter().map(|window| window.phases());
        phases.fold(1, usize::saturating_mul)
    }

    /// The axes of the filter's taps.
    pub(super) fn tap_axes(&self) -> impl Iterator<Item = (usize, isize)> {
        let taps = self.windows.iter().map(|window| window.taps);
        taps.zip(self.w[2..].iter().copied())
    }

    /// The axes of the output's places.
    pub(super) fn place_axes(&self) -> impl Iterator<Item = (usize, isize)> {
        let places = self.windows.iter().map(|window| window.places);
        places.zip(self.y[2..].iter().copied())
    }

    fn problem(&self, [m, k, n]: [usize; 3], batch: [(usize, isize, isize); 2]) -> Problem {
        let nothing = Strides { row: 0, column: 0 };
        let axes = batch.into_iter().filter(|&(size, ..)| size != 1);
        let axis = |(size, left, right)| BatchAxis { size, left, right };
        Problem {
            batch: axes.map(axis).collect(),
            m,
            k,
            n,
            left: nothing,
            right: nothing,
            finish: Finish::Store,
            level: Level::Scalar,
            threads: 1,
        }
    }

    /// The product of the output.
    pub(super) fn output(&self) -> Lowered {
        let (channels, out) = (self.channels as isize, self.out as isize);
        let sizes = [self.out, self.channels * self.taps(), self.places()];
        let groups = (self.groups, out * self.w[0], channels * self.x[1]);
        let problem = self.problem(sizes, [(self.images, 0, self.x[0]), groups]);
        let k = [(self.channels, self.w[1])]
            .into_iter()
            .chain(self.tap_axes());
        let mut lowered = Lowered::new(problem, Points::all(self.places()));
        lowered.left(self.w[0], k.collect());
        lowered.columns(self.patches());
        lowered
    }

    /// The product of the vjp by the filter.
    pub(super) fn filter(&self) -> Lowered {
        let (channels, out) = (self.channels as isize, self.out as isize);
        let sizes = [
            self.out,
            self.images * self.places(),
            self.channels * self.taps(),
        ];
        let groups = (self.groups, out * self.y[1], channels * self.x[1]);
        let problem = self.problem(sizes, [(1, 0, 0), groups]);
        let k = [(self.images, self.y[0])]
            .into_iter()
            .chain(self.place_axes());
        let mut lowered = Lowered::new(problem, Points::all(sizes[2]));
        lowered.left(self.y[1], k.collect());
        lowered.transposed(self.patches(), self.images);
        lowered
    }

    /// The product of a phase of the vjp by the input.
    pub(super) fn input(&self, mut phase: usize) -> Lowered {
        let out = self.out as isize;
        let mut points = Points {
            first: 0,
            axes: Vec::new(),
        };
        let (mut axes, mut taps, mut offset) = (Vec::new(), Vec::new(), 0);
        for (i, window) in self.windows.iter().enumerate().rev() {
            let residue = phase % window.phases();
            phase /= window.phases();
            let (axis, first, step) = window.phase(residue, self.y[i + 2]);
            points.first += residue * self.x[i + 2] as usize;
            points
                .axes
                .insert(0, (axis.places, window.stride * self.x[i + 2] as usize));
            taps.insert(0, (axis.taps, step as isize * self.w[i + 2]));
            offset += first as isize * self.w[i + 2];
            axes.insert(0, axis);
        }
        let patches = Patches {
            windows: Windows::new(axes),
            channel: self.y[1],
            image: self.y[0],
        };
        let sizes = [
            self.channels,
            self.out * patches.windows.taps(),
            patches.windows.places(),
        ];
        let groups = (self.groups, out * self.w[0], out * self.y[1]);
        let problem = self.problem(sizes, [(self.images, 0, self.y[0]), groups]);
        let k = [(self.out, self.w[0])].into_iter().chain(taps);
        let mut lowered = Lowered::new(problem, points);
        lowered.offsets[0] = offset;
        lowered.left(self.w[1], k.collect());
        lowered.columns(patches);
        lowered
    }
}

impl Sizes {
    /// Whether windows see three neighbours and move by single steps.
    pub(super) fn is_triple(&self) -> bool {
        (self.taps, self.stride, self.dilation) == (3, 1, 1)
    }

    /// Residues of positions by the stride.
    fn phases(&self) -> usize {
        self.stride.min(self.positions).max(1)
    }

    /// How the positions of a residue see the places of an axis with this stride in memory; the
    /// first tap that they see, and from there every so many.
    fn phase(&self, residue: usize, stride: isize) -> (Axis, usize, usize) {
        let step = self.stride / gcd(self.stride, self.dilation);
        let reach = |tap: usize| (residue + self.padding) as isize - (tap * self.dilation) as isize;
        let meets = |tap: &usize| reach(*tap).rem_euclid(self.stride as isize) == 0;
        let first = (0..self.taps.min(step)).find(meets);
        let axis = Axis {
            places: self.positions.saturating_sub(residue).div_ceil(self.stride),
            taps: first.map_or(0, |first| (self.taps - first).div_ceil(step)),
            size: self.places,
            stride,
            origin: first.map_or(0, |first| reach(first).div_euclid(self.stride as isize)),
            place: 1,
            tap: -((step * self.dilation / self.stride) as isize),
        };
        (axis, first.unwrap_or(0), step)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Points {
    fn all(count: usize) -> Self {
        Self {
            first: 0,
            axes: vec![(count, 1)],
        }
    }
}

/// The axes with those of one step left out, and neighbours put together where that is possible.
pub(super) fn merged(axes: impl IntoIterator<Item = (usize, isize)>) -> Vec<(usize, isize)> {
    let mut merged: Vec<(usize, isize)> = Vec::new();
    for (size, stride) in axes.into_iter().filter(|&(size, _)| size != 1) {
        match merged.last_mut() {
            Some(last) if last.1 == size as isize * stride => *last = (last.0 * size, stride),
            _ => merged.push((size, stride)),
        }
    }
    merged
}

/// The stride of what is a single axis.
fn single(axes: &[(usize, isize)]) -> Option<isize> {
    match axes {
        [] => Some(0),
        &[(_, stride)] => Some(stride),
        _ => None,
    }
}

impl Lowered {
    /// Whether an operand is read through windows.
    pub(super) fn is_gathered(&self) -> bool {
        matches!(self.right, Right::Columns(_) | Right::Transposed(_))
    }

    fn new(problem: Problem, points: Points) -> Self {
        Self {
            problem,
            offsets: [0; 2],
            left: None,
            right: Right::Strided,
            points,
        }
    }

    fn left(&mut self, row: isize, k: Vec<(usize, isize)>) {
        let k = merged(k);
        let column = single(&k);
        self.problem.left = Strides {
            row,
            column: column.unwrap_or(0),
        };
        self.left = column.is_none().then_some(k);
    }

    fn columns(&mut self, patches: Patches) {
        let strided = patches
            .windows
            .as_strided()
            .and_then(|(offset, places)| Some((offset, single(&merged(places))?)));
        match strided {
            Some((offset, column)) => {
                self.offsets[1] = offset;
                self.problem.right = Strides {
                    row: patches.channel,
                    column,
                };
            }
            None => self.right = Right::Columns(patches),
        }
    }

    fn transposed(&mut self, patches: Patches, images: usize) {
        let Some((offset, places)) = patches.windows.as_strided() else {
            self.right = Right::Transposed(patches);
            return;
        };
        self.offsets[1] = offset;
        let k = merged([(images, patches.image)].into_iter().chain(places));
        let row = single(&k);
        self.problem.right = Strides {
            row: row.unwrap_or(0),
            column: patches.channel,
        };
        if row.is_none() {
            self.right = Right::Runs(k);
        }
    }
}

impl Make for Lowered {
    fn make<T: Number + gemm::Source<T>, E: gemm::Source<T>>(self) -> Box<dyn Product> {
        let level = self.problem.level;
        let runs = |axes, line| -> Box<dyn Gather<E, T>> { Box::new(Runs::new(axes, line, level)) };
        let gathers = Gathers {
            left: self.left.map(|axes| runs(axes, self.problem.left.row)),
            right: match self.right {
                Right::Strided => None,
                Right::Runs(axes) => Some(runs(axes, self.problem.right.column)),
                Right::Columns(patches) => Some(Box::new(Columns::new(patches, level))),
                Right::Transposed(patches) => Some(Box::new(Transposed::new(patches, level))),
            },
        };
        Box::new(Gemm::<T, E>::gathering(&self.problem, gathers))
    }
}
