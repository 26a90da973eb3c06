//! Reads the cases and their tensors.

use std::collections::HashMap;
use std::fs;

use backprop::{Backend, DType, Result, Session, Tensor};
use safetensors::SafeTensors;
use serde_json::Value;

/// A tensor of a case.
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) integer: bool,
    pub(crate) grad: bool,
}

/// What to compute.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) op: String,
    pub(crate) inputs: Vec<Spec>,
    pub(crate) outputs: Vec<Spec>,
    pub(crate) hvp: bool,
    attributes: Value,
}

/// All cases with their tensors, as little-endian words of 64 bits.
pub(crate) struct Golden {
    pub(crate) cases: Vec<Case>,
    tensors: HashMap<String, Vec<[u8; 8]>>,
}

impl Golden {
    /// The cases in a folder beside this test.
    pub(crate) fn load(folder: &str) -> Golden {
        let folder = format!("{}/tests/data/{folder}", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(format!("{folder}/cases.json")).unwrap();
        let all: Value = serde_json::from_str(&text).unwrap();
        let cases = all["cases"].as_array().unwrap();
        let bytes = fs::read(format!("{folder}/tensors.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let words = |bytes: &[u8]| bytes.as_chunks::<8>().0.to_vec();
        let tensors = file
            .iter()
            .map(|(name, tensor)| (name.to_owned(), words(tensor.data())));
        Golden {
            cases: cases.iter().map(Case::new).collect(),
            tensors: tensors.collect(),
        }
    }

    /// The words of a tensor; panics if it is not there.
    #[track_caller]
    fn words(&self, case: &Case, name: &str) -> &[[u8; 8]] {
        let name = format!("{}/{name}", case.name);
        let words = self.tensors.get(&name);
        words.unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// A tensor of floats or integers.
    #[track_caller]
    pub(crate) fn numbers(&self, case: &Case, name: &str) -> Vec<f64> {
        match case.outputs.iter().find(|spec| spec.name == name) {
            Some(spec) if spec.integer => {
                let integers = self.integers(case, name).into_iter();
                integers.map(|v| v as f64).collect()
            }
            _ => {
                let words = self.words(case, name).iter();
                words.map(|&word| f64::from_le_bytes(word)).collect()
            }
        }
    }

    #[track_caller]
    fn integers(&self, case: &Case, name: &str) -> Vec<i64> {
        let words = self.words(case, name).iter();
        words.map(|&word| i64::from_le_bytes(word)).collect()
    }

    /// Feeds a tensor in the type of its input.
    pub(crate) fn feed(
        &self,
        session: &mut Session<impl Backend>,
        case: &Case,
        name: &str,
        to: Tensor<'_>,
    ) -> Result<()> {
        match to.dtype() {
            DType::I64 => session.feed(to, &self.integers(case, name))?,
            DType::F32 => {
                let narrow = self.numbers(case, name).into_iter().map(|v| v as f32);
                session.feed(to, &narrow.collect::<Vec<_>>())?
            }
            _ => session.feed(to, &self.numbers(case, name))?,
        };
        Ok(())
    }
}

/// A fetched tensor of any type that cases have.
pub(crate) fn fetch(session: &Session<impl Backend>, from: Tensor<'_>) -> Result<Vec<f64>> {
    Ok(match from.dtype() {
        DType::I64 => session
            .fetch::<i64>(from)?
            .into_iter()
            .map(|v| v as f64)
            .collect(),
        DType::F32 => session
            .fetch::<f32>(from)?
            .into_iter()
            .map(f64::from)
            .collect(),
        _ => session.fetch::<f64>(from)?,
    })
}

impl Case {
    fn new(value: &Value) -> Case {
        let text = |key: &str| value[key].as_str().unwrap().to_owned();
        let specs = |key: &str| -> Vec<Spec> {
            let list = value[key].as_array();
            list.into_iter().flatten().map(Spec::new).collect()
        };
        Case {
            name: text("name"),
            op: text("op"),
            inputs: specs("inputs"),
            outputs: specs("outputs"),
            hvp: value["hvp"].as_bool().unwrap_or(false),
            attributes: value["attrs"].clone(),
        }
    }

    #[track_caller]
    pub(crate) fn number(&self, key: &str) -> f64 {
        self.attributes[key].as_f64().unwrap()
    }

    #[track_caller]
    pub(crate) fn integer(&self, key: &str) -> i64 {
        self.attributes[key].as_i64().unwrap()
    }

    pub(crate) fn integer_or(&self, key: &str, default: i64) -> i64 {
        self.attributes[key].as_i64().unwrap_or(default)
    }

    pub(crate) fn truth(&self, key: &str) -> bool {
        self.attributes[key].as_bool().unwrap_or(false)
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        self.attributes[key].as_str().unwrap_or("")
    }

    /// A list of integers; `None` for `null`.
    pub(crate) fn list(&self, key: &str) -> Option<Vec<i64>> {
        let list = self.attributes[key].as_array()?;
        Some(list.iter().map(|v| v.as_i64().unwrap()).collect())
    }

    #[track_caller]
    pub(crate) fn sizes(&self, key: &str) -> Vec<usize> {
        let list = self.list(key).unwrap();
        list.into_iter().map(|size| size as usize).collect()
    }

    #[track_caller]
    pub(crate) fn pair(&self, key: &str) -> (f64, f64) {
        let pair = self.attributes[key].as_array().unwrap();
        (pair[0].as_f64().unwrap(), pair[1].as_f64().unwrap())
    }
}

impl Spec {
    fn new(value: &Value) -> Spec {
        let shape = value["shape"].as_array().unwrap().iter();
        Spec {
            name: value["name"].as_str().unwrap().to_owned(),
            shape: shape.map(|size| size.as_u64().unwrap() as usize).collect(),
            integer: value["dtype"] == "int64",
            grad: value["grad"].as_bool().unwrap_or(false),
        }
    }
}
