//! The models again, made of layers: parameters are the layers' own and found by their names.

use backprop::nn::{
    Conv, ConvTranspose, Embedding, Features, Filter, GroupNorm, Groups, Layer, LayerNorm, Linear,
    MultiHeadAttention, Table,
};
use backprop::{
    Backend, Convolution, CrossEntropy, DType, Divisor, Graph, Key, Mask, Pool, Reduce, Reference,
    Session, Tensor, Updates,
};

use crate::cases::{Case, Golden};
use crate::compare;

const F64: DType = DType::F64;

/// The inputs of a model, by name.
type Inputs<'a, 'g> = &'a dyn Fn(&str) -> Tensor<'g>;

fn linear(g: &Graph, name: &str, input: usize, output: usize) -> Linear {
    Linear::new(g, name, Features { input, output }, F64)
}

/// A convolution that keeps the size.
fn same(g: &Graph, name: &str, [input, output]: [usize; 2]) -> Conv {
    let filter = Filter {
        input,
        output,
        taps: [3, 3],
        how: Convolution {
            padding: 1.into(),
            ..Convolution::default()
        },
    };
    Conv::new(g, name, filter, F64)
}

fn gpt<'g>(g: &'g Graph, inputs: Inputs<'_, 'g>) -> Tensor<'g> {
    let width = 8;
    let wte = Embedding::new(g, "wte", Table { rows: 11, width }, F64);
    let wpe = Embedding::new(g, "wpe", Table { rows: 6, width }, F64);
    let mut x = wte.forward(inputs("tokens")) + wpe.forward(g.coordinate([6], 0));
    for name in ["blocks.0", "blocks.1"] {
        x = g.scope(name, |g| {
            let attention = MultiHeadAttention {
                in_proj: linear(g, "qkv", width, 3 * width),
                out_proj: linear(g, "proj", width, width),
                heads: 2,
            };
            let ln1 = LayerNorm::new(g, "ln1", width, F64);
            let ln2 = LayerNorm::new(g, "ln2", width, F64);
            let x = x + attention.forward(ln1.forward(x), Mask::Causal);
            let wide = linear(g, "fc", width, 4 * width).forward(ln2.forward(x));
            x + linear(g, "out", 4 * width, width).forward(wide.gelu_tanh())
        });
    }
    let x = LayerNorm::new(g, "lnf", width, F64).forward(x);
    let logits = linear(g, "head", width, 11).forward(x);
    logits.cross_entropy(inputs("targets"), CrossEntropy::default())
}

fn cnn<'g>(g: &'g Graph, inputs: Inputs<'_, 'g>) -> Tensor<'g> {
    let x = same(g, "c1", [2, 4]).forward(inputs("x")).relu();
    let x = same(g, "c2", [4, 6]).forward(x.max_pool(Pool::default()));
    let logits = linear(g, "fc", 6, 5).forward(x.relu().mean([2, 3]));
    logits.cross_entropy(inputs("y"), CrossEntropy::default())
}

fn unet<'g>(g: &'g Graph, inputs: Inputs<'_, 'g>) -> Tensor<'g> {
    let block = |x: Tensor<'g>, [norm, conv]: [&str; 2], [channels, output]: [usize; 2]| {
        let groups = Groups {
            groups: 2,
            channels,
        };
        let normed = GroupNorm::new(g, norm, groups, F64).forward(x);
        same(g, conv, [channels, output]).forward(normed.silu())
    };
    let time = linear(g, "t1", 3, 4).forward(inputs("temb"));
    let x = same(g, "cin", [1, 4]).forward(inputs("x"));
    let skip = x + block(x, ["g1", "c1"], [4, 4]) + time.unsqueeze(2).unsqueeze(3);
    let halved = skip.avg_pool(Pool::default(), Divisor::Padded);
    let doubling = Filter {
        input: 8,
        output: 4,
        taps: [2, 2],
        how: Convolution {
            stride: 2.into(),
            ..Convolution::default()
        },
    };
    let up =
        ConvTranspose::new(g, "up", doubling, F64).forward(block(halved, ["g2", "c2"], [4, 8]));
    block(g.concat(&[up, skip], 1), ["g3", "c3"], [8, 1]).mse_loss(inputs("noise"), Reduce::Mean)
}

fn check(backend: &impl Backend) {
    let golden = Golden::load("golden");
    let models: Vec<&Case> = golden.cases.iter().filter(|c| c.op == "model").collect();
    assert_eq!(models.len(), 3);
    for case in models {
        let g = Graph::new();
        let data = case.inputs.iter().filter(|spec| !spec.grad);
        let feeds: Vec<(&str, Tensor<'_>)> = data
            .map(|spec| {
                let dtype = if spec.integer { DType::I64 } else { F64 };
                let input = g.input(&spec.name, &spec.shape, dtype);
                (spec.name.as_str(), input)
            })
            .collect();
        let inputs = |name: &str| feeds.iter().find(|feed| feed.0 == name).unwrap().1;
        let loss = match case.name.as_str() {
            "model_gpt" => gpt(&g, &inputs),
            "model_cnn" => cnn(&g, &inputs),
            "model_unet" => unet(&g, &inputs),
            name => panic!("no model {name}"),
        };
        let parameters = g.parameters();
        let gradients = g.grad(loss, &parameters).unwrap();
        let keys: Vec<Key> = gradients.iter().chain([&loss]).map(|t| t.key()).collect();
        let mut session = Session::compile(&g, backend.clone(), &keys, Updates::none()).unwrap();
        for (name, input) in &feeds {
            golden.feed(&mut session, case, name, *input).unwrap();
        }
        assert_eq!(feeds.len() + parameters.len(), case.inputs.len());
        for &parameter in &parameters {
            let values = golden.numbers(case, &g.name(parameter));
            session.set_parameter(parameter, &values).unwrap();
        }
        session.step().unwrap();
        let check = |name: &str, tensor: Tensor<'_>| {
            let got = session.fetch::<f64>(tensor).unwrap();
            let outcome = compare(name, &got, &golden.numbers(case, name), 1e-9);
            outcome.unwrap_or_else(|what| panic!("{}: {what}", case.name));
        };
        check("loss", loss);
        for (&parameter, &gradient) in parameters.iter().zip(&gradients) {
            check(&format!("d_{}", g.name(parameter)), gradient);
        }
    }
}

#[test]
fn models_of_layers_reference() {
    check(&Reference);
}

#[cfg(feature = "cpu")]
#[test]
fn models_of_layers_cpu() {
    check(&backprop::Cpu::new().unwrap());
}
