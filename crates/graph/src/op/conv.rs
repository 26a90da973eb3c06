//! Convolution, transposed convolution, and their vjps.
//!
//! The input `x`, the filter `w` and the output `y` are the three sides of one trilinear form, and
//! each of the three operations computes a side from the other two. So the vjp of any of them by an
//! operand is again one of them, which settles every order.

use std::panic::Location;

use backprop_core::{Body, Conv, DType, Operand as Source, Primitive, Shape, TensorType};

use crate::composite::{Composite, Sample, Vjp};
use crate::graph::{Problem, bad_attribute, bad_dtype, bad_shape};
use crate::op::catalogue::{Entry, entries, reals};
use crate::op::window::{PerAxis, Rounding, Windows, places, windows};
use crate::operand::Operand;
use crate::tensor::Tensor;

/// How the filter of a [convolution](Tensor::conv) moves.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Convolution {
    /// Elements from one place to the next.
    pub stride: PerAxis,
    /// Zeros around the input, on both sides.
    pub padding: PerAxis,
    /// Elements from one tap to the next.
    pub dilation: PerAxis,
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Default for Convolution {
    fn default() -> Convolution {
        Convolution {
            stride: 1.into(),
            padding: 0.into(),
            dilation: 1.into(),
            groups: 1,
        }
    }
}

impl<'g> Tensor<'g> {
    /// The cross-correlation of `[batch, channels, ..axes]` with a filter
    /// `[out channels, channels / groups, ..taps]`, giving `[batch, out channels, ..places]`, over any
    /// number of spatial axes (Dumoulin and Visin, 2016, arXiv:1603.07285).
    /// [`bias`](Tensor::bias) adds a number for each channel.
    #[track_caller]
    #[must_use]
    pub fn conv(self, filter: impl Operand<'g>, how: Convolution) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "conv");
        let filter = filter.on(self.graph, Some(self.dtype()), place);
        self.graph.compose(name, &[self, filter], place, || {
            let form = how.form(name, [self, filter])?;
            Ok(self.graph.apply_one(
                Part {
                    form,
                    of: Side::Output,
                },
                &[self, filter],
            ))
        })
    }

    /// The transposed convolution, which is the vjp of [`conv`](Tensor::conv) by its input as an
    /// operation of its own: `[batch, channels, ..places]` with a filter
    /// `[channels, out channels / groups, ..taps]` gives `[batch, out channels, ..axes]`. Of the sizes
    /// that a convolution maps to `places` it gives the smallest, and `further` elements more.
    #[track_caller]
    #[must_use]
    pub fn conv_transpose(
        self,
        filter: impl Operand<'g>,
        how: Convolution,
        further: impl Into<PerAxis>,
    ) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "conv_transpose");
        let filter = filter.on(self.graph, Some(self.dtype()), place);
        let further = further.into();
        self.graph.compose(name, &[self, filter], place, || {
            let form = how.transposed(name, [self, filter], &further)?;
            Ok(self.graph.apply_one(
                Part {
                    form,
                    of: Side::Input,
                },
                &[self, filter],
            ))
        })
    }

    /// `self + b`, with the list `b` laid along `axis`: what follows a convolution (axis 1).
    #[track_caller]
    #[must_use]
    pub fn bias(self, b: impl Operand<'g>, axis: i32) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "bias");
        let b = b.on(self.graph, Some(self.dtype()), place);
        self.graph.compose(name, &[self, b], place, || {
            let axis = crate::axes::resolve(name, axis, self.rank())?;
            Ok(self + b.along(name, self, axis)?)
        })
    }
}

/// Checks ranks and types; gives the filter's taps.
fn taps<'g>(operation: &str, [x, w]: [Tensor<'g>; 2]) -> Result<Vec<usize>, Problem> {
    if x.dtype() != w.dtype() {
        return Err(bad_dtype(
            operation,
            format!("{} and {}", x.dtype(), w.dtype()),
        ));
    }
    if x.rank() < 3 || x.rank() != w.rank() {
        let what = format!("{} with a filter {}", x.shape(), w.shape());
        let help = "both have two axes of channels or examples, then the spatial ones";
        return Err(bad_shape(operation, what).help(help));
    }
    Ok(w.shape().sizes()[2..].to_vec())
}

impl Convolution {
    fn moving(
        &self,
        operation: &str,
        taps: &[usize],
    ) -> Result<Vec<backprop_core::Window>, Problem> {
        if self.groups == 0 {
            return Err(bad_attribute(operation, "0 groups"));
        }
        windows(
            operation,
            taps,
            [&self.stride, &self.padding, &self.dilation],
        )
    }

    /// The form whose input and filter are given.
    fn form(&self, operation: &str, [x, w]: [Tensor<'_>; 2]) -> Result<Form, Problem> {
        let each = self.moving(operation, &taps(operation, [x, w])?)?;
        let (input, filter) = (x.shape(), w.shape());
        let fits = filter.size(1).checked_mul(self.groups) == Some(input.size(1));
        if !fits || !filter.size(0).is_multiple_of(self.groups) {
            return Err(self.bad_channels(operation, input.size(1), filter));
        }
        let axes = input.sizes()[2..].to_vec();
        let moved = each.iter().zip(&axes);
        let moved = moved.map(|(window, &size)| places(operation, window, size, Rounding::Down));
        let places = moved.collect::<Result<Vec<usize>, Problem>>()?;
        let output = [input.size(0), filter.size(0)]
            .into_iter()
            .chain(places.iter().copied());
        Ok(Form {
            input,
            filter,
            output: output.collect(),
            groups: self.groups,
            windows: Windows { each, axes, places },
        })
    }

    /// The form whose output and filter are given.
    fn transposed(
        &self,
        operation: &str,
        [y, w]: [Tensor<'_>; 2],
        further: &PerAxis,
    ) -> Result<Form, Problem> {
        let each = self.moving(operation, &taps(operation, [y, w])?)?;
        let further = further.of(operation, "further", each.len())?;
        let (output, filter) = (y.shape(), w.shape());
        if filter.size(0) != output.size(1) || !filter.size(0).is_multiple_of(self.groups) {
            return Err(self.bad_channels(operation, output.size(1), filter));
        }
        let places = output.sizes()[2..].to_vec();
        let size = |axis: usize| {
            let (window, further) = (&each[axis], further[axis]);
            let last = places[axis].checked_sub(1)?.checked_mul(window.stride)?;
            let reach = (window.size - 1).checked_mul(window.dilation)?;
            let padded = last
                .checked_add(reach)?
                .checked_add(further)?
                .checked_add(1)?;
            padded.checked_sub(window.padding.checked_mul(2)?)
        };
        let axes: Option<Vec<usize>> = (0..each.len()).map(size).collect();
        let axes = axes.filter(|axes| !axes.contains(&0)).ok_or_else(|| {
            let what = format!("no element is left of {output} by {filter}");
            bad_shape(operation, what).help("less padding leaves more")
        })?;
        if (0..each.len()).any(|axis| further[axis] >= each[axis].stride.max(each[axis].dilation)) {
            let what = format!("{further:?} further elements");
            return Err(
                bad_attribute(operation, what).help("fewer than the stride or the dilation")
            );
        }
        let channels = filter.size(1).checked_mul(self.groups);
        let channels =
            channels.ok_or_else(|| self.bad_channels(operation, output.size(1), filter))?;
        let input = [output.size(0), channels]
            .into_iter()
            .chain(axes.iter().copied());
        Ok(Form {
            input: input.collect(),
            filter,
            output,
            groups: self.groups,
            windows: Windows { each, axes, places },
        })
    }

    fn bad_channels(&self, operation: &str, channels: usize, filter: Shape) -> Problem {
        let groups = self.groups;
        let what = format!("{channels} channels with a filter {filter} in {groups} groups");
        bad_shape(operation, what)
            .help("a filter is [out channels, channels / groups, ..taps], and groups divide both")
    }
}

/// The trilinear form.
#[derive(Clone, Debug)]
struct Form {
    input: Shape,
    filter: Shape,
    output: Shape,
    groups: usize,
    windows: Windows,
}

/// One of its three tensors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Input,
    Filter,
    Output,
}

/// One side, computed from the other two.
#[derive(Clone, Debug)]
struct Part {
    form: Form,
    of: Side,
}

impl Side {
    /// The sides from which this one is computed, in the order of operands.
    fn operands(self) -> [Side; 2] {
        match self {
            Side::Output => [Side::Input, Side::Filter],
            Side::Input => [Side::Output, Side::Filter],
            Side::Filter => [Side::Input, Side::Output],
        }
    }
}

impl Form {
    fn shape(&self, side: Side) -> Shape {
        match side {
            Side::Input => self.input,
            Side::Filter => self.filter,
            Side::Output => self.output,
        }
    }

    /// `[batch, groups, channels x taps, places]`: what the filter meets at each place.
    fn columns<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        let (batch, channels) = (self.input.size(0), self.input.size(1));
        let unfolded = self.windows.unfold(x, batch * channels, 0.0);
        let each = channels / self.groups * self.windows.taps();
        unfolded.reshape_to(Shape::from_iter([
            batch,
            self.groups,
            each,
            self.windows.count(),
        ]))
    }

    /// `[groups, out channels, channels x taps]`.
    fn rows<'g>(&self, w: Tensor<'g>) -> Tensor<'g> {
        let out = self.filter.size(0) / self.groups;
        let each = self.filter.size(1) * self.windows.taps();
        w.reshape_to(Shape::from_iter([self.groups, out, each]))
    }

    /// `[batch, groups, out channels, places]`.
    fn places<'g>(&self, y: Tensor<'g>) -> Tensor<'g> {
        let (batch, out) = (self.output.size(0), self.filter.size(0) / self.groups);
        y.reshape_to(Shape::from_iter([
            batch,
            self.groups,
            out,
            self.windows.count(),
        ]))
    }

    fn forward<'g>(&self, x: Tensor<'g>, w: Tensor<'g>) -> Tensor<'g> {
        let product = self.rows(w).matmul(self.columns(x));
        product.reshape_to(self.output)
    }

    fn vjp_input<'g>(&self, y: Tensor<'g>, w: Tensor<'g>) -> Tensor<'g> {
        let leading = self.input.size(0) * self.input.size(1);
        let columns = self.rows(w).t().matmul(self.places(y));
        let size = [leading, self.windows.taps(), self.windows.count()];
        let folded = self
            .windows
            .fold(columns.reshape_to(Shape::from_iter(size)), leading);
        folded.reshape_to(self.input)
    }

    fn vjp_filter<'g>(&self, x: Tensor<'g>, y: Tensor<'g>) -> Tensor<'g> {
        // Examples are summed over together with places.
        let joined = |x: Tensor<'g>, rows: usize| {
            let all = x.permute([1, 2, 0, 3]);
            let size = self.input.size(0) * self.windows.count();
            all.reshape_to(Shape::from_iter([self.groups, rows, size]))
        };
        let out = self.filter.size(0) / self.groups;
        let each = self.filter.size(1) * self.windows.taps();
        let product = joined(self.places(y), out).matmul(joined(self.columns(x), each).t());
        product.reshape_to(self.filter)
    }
}

impl Composite for Part {
    fn name(&self) -> &str {
        match self.of {
            Side::Output => "conv",
            Side::Input => "conv_vjp_input",
            Side::Filter => "conv_vjp_filter",
        }
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let (left, right) = (inputs[0], inputs[1]);
        vec![match self.of {
            Side::Output => self.form.forward(left, right),
            Side::Input => self.form.vjp_input(left, right),
            Side::Filter => self.form.vjp_filter(left, right),
        }]
    }

    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let g = cx.cotangents[0]?;
        let [left, right] = self.of.operands();
        let tensor = |side: Side| match side {
            _ if side == left => cx.inputs[0],
            _ if side == right => cx.inputs[1],
            _ => g,
        };
        let by = |of: Side| {
            let form = self.form.clone();
            g.graph
                .apply_one(Part { form, of }, &of.operands().map(tensor))
        };
        Some(vec![Some(by(left)), Some(by(right))])
    }

    fn primitive(&self, inputs: &[TensorType]) -> Option<Primitive> {
        let form = &self.form;
        let [left, right] =
            [0, 1].map(|k| Source::plain(backprop_core::Source::dense(inputs[k].clone())));
        let dtype = inputs[0].dtype;
        let result = form.shape(self.of);
        let accumulator = dtype.accumulator();
        let spec = Conv {
            input: form.input,
            filter: form.filter,
            output: form.output,
            windows: form.windows.each.clone(),
            groups: form.groups,
            left,
            right,
            accumulator,
            space: result,
            epilogue: Body::store_rounded(accumulator, TensorType::dense(dtype, result)),
        };
        let kind = match self.of {
            Side::Output => Primitive::Conv,
            Side::Input => Primitive::ConvVjpInput,
            Side::Filter => Primitive::ConvVjpFilter,
        };
        Some(kind(spec))
    }

    fn samples(&self) -> Vec<Sample> {
        let operands = self.of.operands().map(|side| self.form.shape(side));
        let shapes = operands.map(|shape| (DType::F64, shape.sizes().to_vec(), (-2.0, 2.0)));
        vec![Sample {
            inputs: shapes.to_vec(),
        }]
    }
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let grouped = || reals(&[&[2, 4, 7], &[6, 2, 3]]);
    entries! {
        conv reals(&[&[2, 3, 4, 5], &[4, 3, 3, 2]]) => |x| x[0].conv(x[1], Convolution::default());
        conv_moving grouped() => |x| {
            let how = Convolution {
                stride: 2.into(),
                padding: 2.into(),
                dilation: 2.into(),
                groups: 2,
            };
            x[0].conv(x[1], how)
        };
        conv_of_each_channel reals(&[&[1, 2, 3, 3, 2], &[4, 1, 2, 1, 2]]) => |x| {
            let how = Convolution { groups: 2, padding: [0, 1, 0].into(), ..Default::default() };
            x[0].conv(x[1], how)
        };
        conv_transpose reals(&[&[2, 3, 3], &[3, 2, 3]]) => |x| {
            let how = Convolution { stride: 2.into(), padding: 1.into(), ..Default::default() };
            x[0].conv_transpose(x[1], how, 1)
        };
        conv_transpose_in_groups reals(&[&[1, 4, 2, 3], &[4, 1, 2, 2]]) => |x| {
            let how = Convolution { groups: 2, dilation: [1, 2].into(), ..Default::default() };
            x[0].conv_transpose(x[1], how, 0)
        };
        bias reals(&[&[2, 3, 2], &[3]]) => |x| x[0].bias(x[1], 1);
    }
}
