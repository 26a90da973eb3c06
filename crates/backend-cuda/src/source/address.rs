//! Where the elements of an operand lie, seen from an index space whose axes are folded.

use backprop_core::{DType, MAX_RANK, Shape, Source, TensorType, View};

/// A tensor in memory as a kernel sees it: a pointer's name, and strides from the index space.
#[derive(Clone, Debug)]
pub(crate) struct Operand {
    /// The parameter's name.
    pub(crate) name: String,
    pub(crate) tensor: TensorType,
    pub(crate) view: View,
}

impl Operand {
    pub(crate) fn read(number: usize, source: &Source) -> Operand {
        Operand {
            name: format!("r{number}"),
            tensor: source.tensor.clone(),
            view: source.view,
        }
    }

    /// A result that is stored at every point of a space, in order.
    pub(crate) fn write(number: usize, tensor: &TensorType, space: Shape) -> Operand {
        Operand::placed(number, tensor, View::dense(space))
    }

    /// A result that is stored where a view says.
    pub(crate) fn placed(number: usize, tensor: &TensorType, view: View) -> Operand {
        Operand {
            name: format!("w{number}"),
            tensor: tensor.clone(),
            view,
        }
    }

    pub(crate) fn dtype(&self) -> DType {
        self.tensor.dtype
    }
}

/// An axis of a folded space: its size, and the elements that each operand moves along it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    pub(crate) size: usize,
    pub(crate) strides: Vec<isize>,
    /// The axis of the space, where its coordinate is asked for.
    pub(crate) original: Option<usize>,
    /// Whether it is one of the reduced axes.
    pub(crate) reduced: bool,
}

/// An index space with as few axes as its operands allow: neighbours along which all of them move
/// alike are one axis, and axes of one point are none.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    pub(crate) operands: Vec<Operand>,
    pub(crate) axes: Vec<Axis>,
}

impl Fold {
    /// Folds `space`. Axes of `named` keep their coordinates; reduced axes stay apart from others.
    pub(crate) fn new(
        space: Shape,
        operands: Vec<Operand>,
        named: &[usize],
        reduced: &dyn Fn(usize) -> bool,
    ) -> Fold {
        let mut axes: Vec<Axis> = Vec::new();
        for axis in 0..space.rank() {
            let size = space.size(axis);
            let original = named.contains(&axis).then_some(axis);
            if size == 1 && original.is_none() {
                continue;
            }
            let strides = operands.iter().map(|o| o.view.strides[axis]).collect();
            let next = Axis {
                size,
                strides,
                original,
                reduced: reduced(axis),
            };
            match axes.last_mut() {
                Some(last) if follows(last, &next) => {
                    last.size *= next.size;
                    last.strides = next.strides;
                }
                _ => axes.push(next),
            }
        }
        Fold { operands, axes }
    }

    /// The axes that are reduced, or those that are not.
    pub(crate) fn part(&self, reduced: bool) -> impl Iterator<Item = (usize, &Axis)> {
        let axes = self.axes.iter().enumerate();
        axes.filter(move |(_, axis)| axis.reduced == reduced)
    }

    /// The name of a coordinate.
    pub(crate) fn coordinate(axis: usize) -> String {
        format!("c{axis}")
    }

    /// The name of the coordinate along an axis of the space that was named.
    pub(crate) fn original(&self, axis: usize) -> String {
        let found = self.axes.iter().position(|a| a.original == Some(axis));
        found.map_or_else(|| "0".to_owned(), Fold::coordinate)
    }

    /// Statements that take the number of a point among some axes apart into coordinates.
    pub(crate) fn unravel(&self, number: &str, reduced: bool, index: &str) -> String {
        let axes: Vec<_> = self.part(reduced).collect();
        let mut text = String::new();
        let mut inner: usize = axes.iter().map(|(_, axis)| axis.size).product();
        for (i, (axis, Axis { size, .. })) in axes.iter().enumerate() {
            inner /= (*size).max(1);
            let name = Fold::coordinate(*axis);
            let divided = match inner {
                1 => number.to_owned(),
                _ => format!("{number} / {inner}"),
            };
            let place = match i {
                0 => divided,
                _ => format!("({divided}) % {size}"),
            };
            text += &format!("const {index} {name} = {place};\n");
        }
        text
    }

    /// Where an operand's element lies at the coordinates of all axes.
    pub(crate) fn address(&self, operand: usize) -> Address<'_> {
        Address {
            fold: self,
            operand,
        }
    }
}

/// Whether going on along `next` after `last` is going on along `last`, for every operand.
fn follows(last: &Axis, next: &Axis) -> bool {
    let alike = last.strides.iter().zip(&next.strides);
    last.original.is_none()
        && next.original.is_none()
        && last.reduced == next.reduced
        && alike
            .into_iter()
            .all(|(outer, inner)| *outer == inner * next.size as isize)
}

/// The place of an operand's element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address<'a> {
    fold: &'a Fold,
    operand: usize,
}

impl Address<'_> {
    fn operand(&self) -> &Operand {
        &self.fold.operands[self.operand]
    }

    /// Elements to move along a folded axis.
    pub(crate) fn stride(&self, axis: usize) -> isize {
        self.fold.axes[axis].strides[self.operand]
    }

    /// The number of the element, counted in row-major order of the tensor.
    pub(crate) fn number(&self) -> String {
        let mut text = self.operand().view.offset.to_string();
        for axis in 0..self.fold.axes.len() {
            let name = Fold::coordinate(axis);
            match self.stride(axis) {
                0 => {}
                1 => text += &format!(" + {name}"),
                stride if stride < 0 => text += &format!(" - {name} * {}", -stride),
                stride => text += &format!(" + {name} * {stride}"),
            }
        }
        text.strip_prefix("0 + ")
            .map_or(text.clone(), str::to_owned)
    }

    /// The position of the element in memory.
    pub(crate) fn position(&self) -> String {
        position(&self.operand().tensor, &self.number())
    }

    /// The element itself.
    pub(crate) fn element(&self) -> String {
        format!("{}[{}]", self.operand().name, self.position())
    }
}

/// The position in memory of an element with this number.
pub(crate) fn position(tensor: &TensorType, number: &str) -> String {
    if tensor.layout.is_dense() {
        return number.to_owned();
    }
    let shape = tensor.shape;
    let strides: [isize; MAX_RANK] = shape.strides();
    let coordinate = |axis: usize| {
        let (stride, size) = (strides[axis].max(1), shape.size(axis));
        format!("((({number}) / {stride}) % {size})")
    };
    let tile = |axis: usize| {
        let mut tiles = tensor.layout.tiles.iter();
        let found = tiles.find(|(a, _)| usize::from(*a) == axis);
        found.map_or(1, |&(_, size)| (size as usize).max(1))
    };
    let order: Vec<usize> = match tensor.layout.order.is_empty() {
        true => (0..shape.rank()).collect(),
        false => tensor
            .layout
            .order
            .iter()
            .map(|&a| usize::from(a))
            .collect(),
    };
    let mut text = "0".to_owned();
    for axis in order {
        let pieces = shape.size(axis).div_ceil(tile(axis));
        text = format!(
            "({text} * {pieces} + {} / {})",
            coordinate(axis),
            tile(axis)
        );
    }
    for &(axis, size) in &tensor.layout.tiles {
        let (axis, size) = (usize::from(axis), (size as usize).max(1));
        text = format!("({text} * {size} + {} % {size})", coordinate(axis));
    }
    text
}
