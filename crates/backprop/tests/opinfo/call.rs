//! What a mapping sees of a case: the arguments, bound by position and name as Python binds them.

use std::cell::RefCell;
use std::collections::HashSet;

use backprop::{AxisList, DType, Graph, Tensor};
use serde_json::Value;

use crate::cases::{self, Case, Suite};

/// Why the engine cannot run a case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unsupported(pub(crate) String);

/// What a mapping gives: the outputs in PyTorch's order, then the new value of each input that the
/// call changes.
pub(crate) type Outputs<'g> = Result<Vec<Tensor<'g>>, Unsupported>;

/// What PyTorch's operation is called here.
pub(crate) type Mapping = for<'g> fn(&Call<'g, '_>) -> Outputs<'g>;

/// `Unsupported`, to return from a mapping.
pub(crate) fn unsupported<T>(why: impl Into<String>) -> Result<T, Unsupported> {
    Err(Unsupported(why.into()))
}

/// A call of an operation. Every argument has its position and its name; one that is absent or `None`
/// has the default that is passed along. An argument that nobody reads makes a case unsupported.
pub(crate) struct Call<'g, 'a> {
    pub(crate) g: &'g Graph,
    suite: &'a Suite,
    case: &'a Case,
    inputs: &'a [Tensor<'g>],
    read: RefCell<HashSet<String>>,
}

/// A tensor or a number, which PyTorch promotes differently.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument<'g> {
    Tensor(Tensor<'g>),
    Number(f64, DType),
}

/// Axes to reduce over, and whether they stay.
#[derive(Clone, Debug)]
pub(crate) struct Reduced {
    pub(crate) axes: Option<Vec<i32>>,
    pub(crate) keeps: bool,
}

impl AxisList for Reduced {
    fn given(&self) -> Option<Vec<i32>> {
        self.axes.clone()
    }
    fn keeps(&self) -> bool {
        self.keeps
    }
}

impl<'g, 'a> Call<'g, 'a> {
    pub(crate) fn new(
        g: &'g Graph,
        suite: &'a Suite,
        case: &'a Case,
        inputs: &'a [Tensor<'g>],
    ) -> Call<'g, 'a> {
        let read = RefCell::default();
        Call {
            g,
            suite,
            case,
            inputs,
            read,
        }
    }

    /// An argument as it stands in the case; `None` where it is absent or `None`.
    pub(crate) fn value(&self, at: usize, name: &str) -> Option<&'a Value> {
        let (value, key) = self.case.argument(at, name)?;
        self.read.borrow_mut().insert(key);
        (!value.is_null()).then_some(value)
    }

    /// Whether an argument is given, and not `None`.
    pub(crate) fn has(&self, at: usize, name: &str) -> bool {
        self.value(at, name).is_some()
    }

    /// The arguments from position `at` on.
    pub(crate) fn rest(&self, at: usize) -> &'a [Value] {
        let mut read = self.read.borrow_mut();
        read.extend((at..self.case.args.len()).map(|i| i.to_string()));
        self.case.args.get(at..).unwrap_or(&[])
    }

    /// An argument that was given and that nobody has read.
    pub(crate) fn unread(&self) -> Option<String> {
        let read = self.read.borrow();
        let positions = (0..self.case.args.len()).map(|at| (at.to_string(), &self.case.args[at]));
        let names = self.case.kwargs.iter().map(|(k, v)| (k.clone(), v));
        let mut given = positions.chain(names);
        let idle = |value: &Value| value.is_null() || value.get("memory_format").is_some();
        let (name, value) = given.find(|(name, value)| !idle(value) && !read.contains(name))?;
        Some(format!("argument {name} = {value}"))
    }

    /// A tensor argument that must be there.
    pub(crate) fn tensor(&self, at: usize, name: &str) -> Result<Tensor<'g>, Unsupported> {
        match self.optional(at, name)? {
            Some(tensor) => Ok(tensor),
            None => unsupported(format!("no argument {name}")),
        }
    }

    /// A tensor argument that may be absent.
    pub(crate) fn optional(
        &self,
        at: usize,
        name: &str,
    ) -> Result<Option<Tensor<'g>>, Unsupported> {
        let value = self.value(at, name);
        value.map(|value| self.tensor_of(value, name)).transpose()
    }

    /// A list of tensors, which may also be all positional arguments from there on.
    pub(crate) fn tensors(&self, at: usize, name: &str) -> Result<Vec<Tensor<'g>>, Unsupported> {
        let of = |value: &Value| self.tensor_of(value, name);
        match self.value(at, name).and_then(items) {
            Some(items) => items.iter().map(of).collect(),
            None => self.rest(at).iter().map(of).collect(),
        }
    }

    /// The tensor that a value names.
    pub(crate) fn tensor_of(&self, value: &Value, what: &str) -> Result<Tensor<'g>, Unsupported> {
        match self.position(value) {
            Some(i) => Ok(self.inputs[i]),
            None => misread(what, value, "a tensor"),
        }
    }

    fn position(&self, value: &Value) -> Option<usize> {
        let name = value.get("tensor")?.as_str()?;
        self.case.inputs.iter().position(|input| input.name == name)
    }

    /// A tensor or a number that must be there.
    pub(crate) fn argument(&self, at: usize, name: &str) -> Result<Argument<'g>, Unsupported> {
        let Some(value) = self.value(at, name) else {
            return unsupported(format!("no argument {name}"));
        };
        match (value, number(value)) {
            (Value::Bool(value), _) => Ok(Argument::Number(f64::from(*value), DType::Bool)),
            (_, Some(number)) if value.is_i64() => Ok(Argument::Number(number, DType::I64)),
            // PyTorch's default type.
            (_, Some(number)) => Ok(Argument::Number(number, DType::F32)),
            _ => Ok(Argument::Tensor(self.tensor_of(value, name)?)),
        }
    }

    /// The values of a tensor argument, for what the engine has to know while building. The tensor
    /// takes no part in the graph then.
    pub(crate) fn known(&self, at: usize, name: &str) -> Result<Option<Vec<f64>>, Unsupported> {
        let value = self.value(at, name);
        value.map(|value| self.known_of(value, name)).transpose()
    }

    /// The values of the tensor that a value names, as [`Call::known`].
    pub(crate) fn known_of(&self, value: &Value, what: &str) -> Result<Vec<f64>, Unsupported> {
        match self.position(value) {
            Some(i) => Ok(self.suite.numbers(&self.case.inputs[i].data)),
            None => misread(what, value, "a tensor"),
        }
    }

    pub(crate) fn int(&self, at: usize, name: &str, default: i64) -> Result<i64, Unsupported> {
        let value = self.value(at, name);
        value.map_or(Ok(default), |value| int(name, value))
    }

    /// An axis.
    pub(crate) fn axis(&self, at: usize, name: &str, default: i32) -> Result<i32, Unsupported> {
        Ok(self.int(at, name, i64::from(default))? as i32)
    }

    /// A list of integers, in which one number counts as a list; `None` where it is absent.
    pub(crate) fn ints(&self, at: usize, name: &str) -> Result<Option<Vec<i64>>, Unsupported> {
        let Some(value) = self.value(at, name) else {
            return Ok(None);
        };
        let list = items(value).unwrap_or(std::slice::from_ref(value));
        let ints: Result<Vec<i64>, _> = list.iter().map(|value| int(name, value)).collect();
        Ok(Some(ints?))
    }

    /// A list of integers, which may also be all positional arguments from there on, as in
    /// `x.permute(0, 2, 1)`.
    pub(crate) fn ints_from(&self, at: usize, name: &str) -> Result<Vec<i64>, Unsupported> {
        match self.rest(at) {
            [first, ..] if first.is_i64() => {
                let rest = self.rest(at).iter();
                rest.map(|value| int(name, value)).collect()
            }
            _ => Ok(self.ints(at, name)?.unwrap_or_default()),
        }
    }

    /// Axes to reduce over: `None` for all, as PyTorch also takes an empty list.
    pub(crate) fn axes(&self, at: usize, name: &str) -> Result<Option<Vec<i32>>, Unsupported> {
        let axes = self.ints(at, name)?.filter(|axes| !axes.is_empty());
        Ok(axes.map(|axes| axes.into_iter().map(|axis| axis as i32).collect()))
    }

    /// Axes to reduce over, and whether they stay.
    pub(crate) fn reduced(&self, at: usize) -> Result<Reduced, Unsupported> {
        let axes = self.axes(at, "dim")?;
        let keeps = self.flag(at + 1, "keepdim", false)?;
        Ok(Reduced { axes, keeps })
    }

    /// As [`Call::reduced`], of a tensor that may be a number: that has none of the axes 0 and -1 that
    /// PyTorch lets it have.
    pub(crate) fn reduced_of(&self, x: Tensor<'_>, at: usize) -> Result<Reduced, Unsupported> {
        let reduced = self.reduced(at)?;
        let axes = reduced.axes.filter(|_| x.rank() > 0);
        Ok(Reduced { axes, ..reduced })
    }

    pub(crate) fn float(&self, at: usize, name: &str, default: f64) -> Result<f64, Unsupported> {
        let value = self.value(at, name);
        let read = |value| number(value).map_or_else(|| misread(name, value, "a number"), Ok);
        value.map_or(Ok(default), read)
    }

    /// A list of numbers; `None` where it is absent.
    pub(crate) fn floats(&self, at: usize, name: &str) -> Result<Option<Vec<f64>>, Unsupported> {
        let Some(value) = self.value(at, name) else {
            return Ok(None);
        };
        let list = items(value).unwrap_or(std::slice::from_ref(value)).iter();
        let read = |value| number(value).map_or_else(|| misread(name, value, "a number"), Ok);
        list.map(read).collect::<Result<_, _>>().map(Some)
    }

    pub(crate) fn flag(&self, at: usize, name: &str, default: bool) -> Result<bool, Unsupported> {
        match self.value(at, name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => misread(name, value, "a truth value"),
        }
    }

    pub(crate) fn text(
        &self,
        at: usize,
        name: &str,
        default: &'static str,
    ) -> Result<&'a str, Unsupported> {
        match self.value(at, name) {
            None => Ok(default),
            Some(Value::String(text)) => Ok(text),
            Some(value) => misread(name, value, "a text"),
        }
    }

    /// An element type; `None` where it is absent.
    pub(crate) fn dtype(&self, at: usize, name: &str) -> Result<Option<DType>, Unsupported> {
        let Some(value) = self.value(at, name) else {
            return Ok(None);
        };
        match value.get("dtype").and_then(Value::as_str) {
            Some(name) => Ok(Some(cases::dtype(name))),
            None => misread(name, value, "an element type"),
        }
    }
}

/// The items of a list or a tuple.
pub(crate) fn items(value: &Value) -> Option<&[Value]> {
    let list = value.get("tuple").unwrap_or(value).as_array()?;
    Some(list)
}

/// A number, which JSON cannot write where it is not finite.
fn number(value: &Value) -> Option<f64> {
    match value.get("float").and_then(Value::as_str) {
        Some(text) => text.parse().ok(),
        None => value.as_f64(),
    }
}

fn int(name: &str, value: &Value) -> Result<i64, Unsupported> {
    match value.as_i64() {
        Some(int) => Ok(int),
        None => misread(name, value, "an integer"),
    }
}

fn misread<T>(name: &str, value: &Value, what: &str) -> Result<T, Unsupported> {
    unsupported(format!("{name} = {value} where {what} is expected"))
}
