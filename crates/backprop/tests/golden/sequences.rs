//! Recurrent layers between given states, and attention with dropout (see `tests/data/sequences`).
//! Parameters are the layers' own and found by their names.

use backprop::nn::{Cells, Course, Gru, Lstm, Rnn};
use backprop::{
    Backend, DType, Graph, Key, Mask, Param, Reference, Session, Tensor, Updates, WeightDropout,
};

use crate::cases::{self, Case, Golden};
use crate::compare;

const F64: DType = DType::F64;

/// A case as a graph.
struct Sequence<'g> {
    feeds: Vec<(String, Tensor<'g>)>,
    /// Parameters with their names in the case.
    parameters: Vec<(String, Param)>,
    /// What is compared.
    results: Vec<(String, Tensor<'g>)>,
}

impl<'g> Sequence<'g> {
    fn new(g: &'g Graph, case: &Case) -> Sequence<'g> {
        let is_data = |name: &str| !name.starts_with("weight") && !name.starts_with("bias");
        let data = case.inputs.iter().filter(|spec| is_data(&spec.name));
        let mut feeds: Vec<(String, Tensor<'g>)> = data
            .map(|spec| {
                let dtype = if spec.integer { DType::I64 } else { F64 };
                (spec.name.clone(), g.input(&spec.name, &spec.shape, dtype))
            })
            .collect();
        let find = |name: &str| feeds.iter().find(|feed| feed.0 == name).map(|feed| feed.1);
        let outputs = match case.op.as_str() {
            "attention_dropout" => vec![attention(case, find)],
            _ => recurrent(g, case, find),
        };
        let named = |parameter: Param| (g.name(parameter).replace("layer.", ""), parameter);
        let parameters: Vec<(String, Param)> = g.parameters().into_iter().map(named).collect();
        assert_eq!(feeds.len() + parameters.len(), case.inputs.len());
        let mut results = Vec::new();
        let mut sum = Vec::new();
        for (i, (spec, output)) in case.outputs.iter().zip(outputs).enumerate() {
            results.push((spec.name.clone(), output));
            let cotangent = g.input(&format!("cot{i}"), &spec.shape, F64);
            feeds.push((format!("cot{i}"), cotangent));
            sum.push((output, cotangent));
        }
        assert_eq!(sum.len(), case.outputs.len());
        let given = feeds.iter().map(|(name, input)| (name.clone(), *input));
        let read = parameters
            .iter()
            .map(|(name, p)| (name.clone(), g.read(*p)));
        let has_grad = |name: &str| case.inputs.iter().any(|s| s.grad && s.name == name);
        let wrt: Vec<(String, Tensor<'g>)> = given.chain(read).filter(|x| has_grad(&x.0)).collect();
        let tensors: Vec<Tensor<'g>> = wrt.iter().map(|&(_, x)| x).collect();
        let gradients = g.vjp(&sum, &tensors).unwrap();
        assert!(case.hvp);
        let mut directions = Vec::new();
        for ((name, x), &gradient) in wrt.iter().zip(&gradients) {
            results.push((format!("d_{name}"), gradient));
            let direction = g.input(&format!("v_{name}"), x.shape(), F64);
            feeds.push((format!("v_{name}"), direction));
            directions.push((gradient, direction));
        }
        let products = g.vjp(&directions, &tensors).unwrap();
        let named = wrt.iter().zip(products);
        results.extend(named.map(|((name, _), y)| (format!("hvp_{name}"), y)));
        Sequence {
            feeds,
            parameters,
            results,
        }
    }
}

/// The outputs of all steps, and the last states.
fn recurrent<'g>(
    g: &'g Graph,
    case: &Case,
    find: impl Fn(&str) -> Option<Tensor<'g>>,
) -> Vec<Tensor<'g>> {
    let size = |key: &str| case.integer(key) as usize;
    let cells = Cells {
        input: size("input"),
        hidden: size("hidden"),
        layers: size("layers"),
    };
    let course = Course {
        hidden: find("h0"),
        cell: find("c0"),
        lengths: find("lengths"),
    };
    let x = find("x").unwrap();
    let run = match (case.op.as_str(), case.truth("bidirectional")) {
        ("rnn", false) => Rnn::new(g, "layer", cells, F64).run(x, course),
        ("rnn", true) => Rnn::bidirectional(g, "layer", cells, F64).run(x, course),
        ("lstm", false) => Lstm::new(g, "layer", cells, F64).run(x, course),
        ("lstm", true) => Lstm::bidirectional(g, "layer", cells, F64).run(x, course),
        ("gru", false) => Gru::new(g, "layer", cells, F64).run(x, course),
        ("gru", true) => Gru::bidirectional(g, "layer", cells, F64).run(x, course),
        (name, _) => panic!("no layer {name}"),
    };
    [run.outputs, run.hidden]
        .into_iter()
        .chain(run.cell)
        .collect()
}

fn attention<'g>(case: &Case, find: impl Fn(&str) -> Option<Tensor<'g>>) -> Tensor<'g> {
    let [q, k, v] = ["q", "k", "v"].map(|name| find(name).unwrap());
    let mask = match case.truth("causal") {
        true => Mask::Causal,
        false => Mask::None,
    };
    let drop = WeightDropout {
        p: case.number("p"),
        key: q.graph().random_key(case.integer("seed") as u64),
    };
    q.attention_with_dropout(k, v, mask, drop)
}

fn check(backend: &impl Backend) {
    let golden = Golden::load("sequences");
    assert_eq!(golden.cases.len(), 14);
    for case in &golden.cases {
        let g = Graph::new();
        let sequence = Sequence::new(&g, case);
        let keys: Vec<Key> = sequence.results.iter().map(|(_, y)| y.key()).collect();
        let mut session = Session::compile(&g, backend.clone(), &keys, Updates::none()).unwrap();
        for (name, input) in &sequence.feeds {
            golden.feed(&mut session, case, name, *input).unwrap();
        }
        for (name, parameter) in &sequence.parameters {
            let values = golden.numbers(case, name);
            session.set_parameter(*parameter, &values).unwrap();
        }
        session.step().unwrap();
        for (name, y) in &sequence.results {
            let got = cases::fetch(&session, *y).unwrap();
            let outcome = compare(name, &got, &golden.numbers(case, name), 1e-9);
            outcome.unwrap_or_else(|what| panic!("{}: {what}", case.name));
        }
    }
}

#[test]
fn sequences_reference() {
    check(&Reference);
}

#[cfg(feature = "cpu")]
#[test]
fn sequences_cpu() {
    check(&backprop::Cpu::new().unwrap());
}
