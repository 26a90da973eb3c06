//! The small models among the cases.

use backprop::{Convolution, CrossEntropy, Divisor, Graph, Mask, Pool, Reduce, Tensor};

use crate::cases::Case;

const HEADS: isize = 2;

pub(crate) fn build<'g>(g: &'g Graph, case: &Case, x: &[Tensor<'g>]) -> Option<Vec<Tensor<'g>>> {
    let named = |name: &str| {
        let at = case.inputs.iter().position(|spec| spec.name == name);
        x[at.unwrap_or_else(|| panic!("no input {name}"))]
    };
    match case.name.as_str() {
        "model_gpt" => Some(vec![gpt(g, &named)]),
        "model_cnn" => Some(vec![cnn(&named)]),
        "model_unet" => Some(vec![unet(g, &named)]),
        _ => None,
    }
}

/// The 2-2-1 network with one ReLU and one sigmoid layer, squared error from 1.
pub(crate) fn seed<'g>(x: &[Tensor<'g>]) -> Tensor<'g> {
    let hidden = (x[0].matmul(x[1]) + x[2]).relu();
    let prediction = (hidden.matmul(x[3]) + x[4]).sigmoid();
    (prediction - 1.0).square().sum(..)
}

/// A decoder with learned positions and norms before its parts.
fn gpt<'g>(g: &'g Graph, p: &dyn Fn(&str) -> Tensor<'g>) -> Tensor<'g> {
    let linear = |x: Tensor<'g>, name: &str| {
        let [weight, bias] = ["weight", "bias"].map(|part| p(&format!("{name}.{part}")));
        x.matmul(weight.t()) + bias
    };
    let norm = |x: Tensor<'g>, name: &str| {
        let [weight, bias] = ["weight", "bias"].map(|part| p(&format!("{name}.{part}")));
        x.layer_norm(-1, 1e-5) * weight + bias
    };
    let tokens = p("tokens");
    let shape = tokens.shape();
    let (batch, time) = (shape.size(0) as isize, shape.size(1));
    let positions = g.coordinate([time], 0);
    let mut x = p("wte.weight").embedding(tokens) + p("wpe.weight").embedding(positions);
    let width = x.shape().size(2) as isize;
    for block in ["blocks.0", "blocks.1"] {
        let qkv = linear(norm(x, &format!("{block}.ln1")), &format!("{block}.qkv"));
        let heads = |part: Tensor<'g>| {
            let split = part.reshape([batch, time as isize, HEADS, width / HEADS]);
            split.transpose(1, 2)
        };
        let [q, k, v] = [0, 1, 2].map(|i| heads(qkv.chunk(3, -1)[i]));
        let mixed = q.attention(k, v, Mask::Causal).transpose(1, 2);
        let mixed = mixed.reshape([batch, time as isize, width]);
        x = x + linear(mixed, &format!("{block}.proj"));
        let wide = linear(norm(x, &format!("{block}.ln2")), &format!("{block}.fc"));
        x = x + linear(wide.gelu_tanh(), &format!("{block}.out"));
    }
    let logits = linear(norm(x, "lnf"), "head");
    logits.cross_entropy(p("targets"), CrossEntropy::default())
}

/// A convolution that keeps the size.
fn same<'g>(p: &dyn Fn(&str) -> Tensor<'g>, x: Tensor<'g>, name: &str) -> Tensor<'g> {
    let [weight, bias] = ["weight", "bias"].map(|part| p(&format!("{name}.{part}")));
    let how = Convolution {
        padding: 1.into(),
        ..Convolution::default()
    };
    x.conv(weight, how).bias(bias, 1)
}

/// Two convolutions with a pool between, and a linear layer.
fn cnn<'g>(p: &dyn Fn(&str) -> Tensor<'g>) -> Tensor<'g> {
    let x = same(p, p("x"), "c1").relu().max_pool(Pool::default());
    let x = same(p, x, "c2").relu().mean([2, 3]);
    let logits = x.matmul(p("fc.weight").t()) + p("fc.bias");
    logits.cross_entropy(p("y"), CrossEntropy::default())
}

/// A network that goes down one level and up again, with a skip; predicts noise.
fn unet<'g>(g: &'g Graph, p: &dyn Fn(&str) -> Tensor<'g>) -> Tensor<'g> {
    let block = |x: Tensor<'g>, norm: &str, name: &str| {
        let [weight, bias] = ["weight", "bias"].map(|part| p(&format!("{norm}.{part}")));
        same(
            p,
            x.group_norm(2, 1e-5).affine(weight, bias, 1).silu(),
            name,
        )
    };
    let time = p("temb").matmul(p("t1.weight").t()) + p("t1.bias");
    let x = same(p, p("x"), "cin");
    let skip = x + block(x, "g1", "c1") + time.unsqueeze(2).unsqueeze(3);
    let x = block(skip.avg_pool(Pool::default(), Divisor::Padded), "g2", "c2");
    let doubling = Convolution {
        stride: 2.into(),
        ..Convolution::default()
    };
    let x = x.conv_transpose(p("up.weight"), doubling, 0);
    let x = g.concat(&[x.bias(p("up.bias"), 1), skip], 1);
    block(x, "g3", "c3").mse_loss(p("noise"), Reduce::Mean)
}
