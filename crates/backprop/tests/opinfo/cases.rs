//! Reads the cases and their tensors.

use std::collections::HashMap;
use std::fs;

use backprop::{Backend, DType, Element, Result, Session, Tensor};
use half::{bf16, f16};
use safetensors::SafeTensors;
use serde_json::{Map, Value};

/// Evaluates an expression in which `$T` is the Rust type of elements of `$dtype`.
macro_rules! of_type {
    ($dtype:expr, $T:ident => $body:expr) => {
        of_type!(@arms $dtype, $T => $body,
            F32 f32, F64 f64, F16 f16, BF16 bf16, I32 i32, I64 i64, U8 u8, Bool bool)
    };
    (@arms $dtype:expr, $T:ident => $body:expr, $($name:ident $type:ty),*) => {
        match $dtype {
            $(DType::$name => {
                type $T = $type;
                $body
            })*
            other => panic!("elements of {other}"),
        }
    };
}

/// A tensor that a case starts from.
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: String,
    /// The expected gradient.
    pub(crate) grad: Option<String>,
    /// The value that the call leaves in it.
    pub(crate) after: Option<String>,
}

/// A tensor that a case gives.
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: String,
    /// The cotangent, where it is differentiable.
    pub(crate) cot: Option<String>,
}

/// A call of an operation with what it gives.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) op: String,
    pub(crate) variant: String,
    pub(crate) args: Vec<Value>,
    pub(crate) kwargs: Map<String, Value>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) outputs: Vec<Output>,
}

/// Elements as bytes.
pub(crate) struct Array {
    dtype: DType,
    bytes: Vec<u8>,
}

/// All cases with their tensors.
pub(crate) struct Suite {
    pub(crate) cases: Vec<Case>,
    tensors: HashMap<String, Array>,
}

impl Suite {
    pub(crate) fn load() -> Suite {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/opinfo");
        let text = fs::read_to_string(format!("{folder}/cases.json")).unwrap();
        let all: Value = serde_json::from_str(&text).unwrap();
        let bytes = fs::read(format!("{folder}/tensors.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.iter().map(|(name, tensor)| {
            let dtype = dtype(&format!("{:?}", tensor.dtype()));
            let bytes = tensor.data().to_vec();
            (name.to_owned(), Array { dtype, bytes })
        });
        Suite {
            cases: list(&all["cases"], Case::new),
            tensors: tensors.collect(),
        }
    }

    #[track_caller]
    fn array(&self, key: &str) -> &Array {
        let found = self.tensors.get(key);
        found.unwrap_or_else(|| panic!("no tensor {key}"))
    }

    /// The elements of a stored tensor as numbers.
    #[track_caller]
    pub(crate) fn numbers(&self, key: &str) -> Vec<f64> {
        let array = self.array(key);
        of_type!(array.dtype, T => array.elements::<T>().into_iter().map(T::to_f64).collect())
    }

    /// Feeds a stored tensor.
    pub(crate) fn feed(
        &self,
        session: &mut Session<impl Backend>,
        key: &str,
        to: Tensor<'_>,
    ) -> Result<()> {
        let array = self.array(key);
        of_type!(array.dtype, T => session.feed(to, &array.elements::<T>())?);
        Ok(())
    }
}

impl Array {
    fn elements<T: Element>(&self) -> Vec<T> {
        let mut values = vec![T::default(); self.bytes.len() / T::DTYPE.size()];
        T::copy_from_bytes(&mut values, &self.bytes);
        values
    }
}

impl Case {
    fn new(value: &Value) -> Case {
        Case {
            name: text(value, "name"),
            op: text(value, "op"),
            variant: text(value, "variant"),
            args: value["args"].as_array().unwrap().clone(),
            kwargs: value["kwargs"].as_object().unwrap().clone(),
            inputs: list(&value["inputs"], Input::new),
            outputs: list(&value["outputs"], Output::new),
        }
    }

    /// An argument with its position or name, as Python binds it; `None` where it is absent.
    pub(crate) fn argument(&self, at: usize, name: &str) -> Option<(&Value, String)> {
        match self.args.get(at) {
            Some(value) => Some((value, at.to_string())),
            None => Some((self.kwargs.get(name)?, name.to_owned())),
        }
    }

    /// The operation with its variant, as reports name it.
    pub(crate) fn operation(&self) -> String {
        match self.variant.as_str() {
            "" => self.op.clone(),
            variant => format!("{}.{variant}", self.op),
        }
    }
}

impl Input {
    fn new(value: &Value) -> Input {
        Input {
            name: text(value, "name"),
            dtype: dtype(&text(value, "dtype")),
            shape: sizes(&value["shape"]),
            data: text(value, "data"),
            grad: value["grad"].as_str().map(str::to_owned),
            after: value["after"].as_str().map(str::to_owned),
        }
    }
}

impl Output {
    fn new(value: &Value) -> Output {
        Output {
            name: text(value, "name"),
            dtype: dtype(&text(value, "dtype")),
            shape: sizes(&value["shape"]),
            data: text(value, "data"),
            cot: value["cot"].as_str().map(str::to_owned),
        }
    }
}

/// The type that PyTorch or a file of tensors calls by this name.
pub(crate) fn dtype(name: &str) -> DType {
    match name {
        "float64" | "double" | "F64" => DType::F64,
        "float32" | "float" | "F32" => DType::F32,
        "float16" | "half" | "F16" => DType::F16,
        "bfloat16" | "BF16" => DType::BF16,
        "int64" | "long" | "I64" => DType::I64,
        "int32" | "int" | "I32" => DType::I32,
        "uint8" | "U8" => DType::U8,
        "bool" | "BOOL" => DType::Bool,
        other => panic!("element type {other}"),
    }
}

fn list<T>(value: &Value, read: fn(&Value) -> T) -> Vec<T> {
    value.as_array().unwrap().iter().map(read).collect()
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap().to_owned()
}

fn sizes(value: &Value) -> Vec<usize> {
    list(value, |size| size.as_u64().unwrap() as usize)
}
