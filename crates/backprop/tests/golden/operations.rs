//! What each case's operation is called here.

use backprop::{
    Align, CrossEntropy, Ctc, DType, Graph, Interpolate, Keep, Mask, NegativeLogLikelihood, Order,
    Pairing, Recurrent, Reduce, Resample, Rotary, Tensor,
};

use crate::cases::Case;
use crate::{algebra, models, windows};

/// The outputs of a case, or `None` if the engine lacks the operation.
pub(crate) fn build<'g>(g: &'g Graph, case: &Case, x: &[Tensor<'g>]) -> Option<Vec<Tensor<'g>>> {
    let output = match case.op.as_str() {
        "model" => return models::build(g, case, x),
        "slogdet" => {
            let (sign, log) = x[0].slogdet();
            return Some(vec![sign, log]);
        }
        "sort" => {
            let (values, positions) = x[0].sort(axis(case), order(case, "descending"));
            return Some(vec![values, positions]);
        }
        "topk" => {
            let (count, order) = (case.integer("k") as usize, order(case, "largest"));
            let (values, positions) = x[0].topk(count, axis(case), order);
            return Some(vec![values, positions]);
        }
        "batch_norm" if case.outputs.len() == 3 => return Some(running(case, x)),
        "seed_example" => models::seed(x),
        _ => scalar(case, x)
            .or_else(|| reduction(case, x))
            .or_else(|| arrangement(g, case, x))
            .or_else(|| loss(case, x))
            .or_else(|| layer(case, x))
            .or_else(|| windows::build(case, x))
            .or_else(|| algebra::build(case, x))?,
    };
    Some(vec![output])
}

fn scalar<'g>(case: &Case, x: &[Tensor<'g>]) -> Option<Tensor<'g>> {
    let a = x[0];
    Some(match case.op.as_str() {
        "neg" => -a,
        "abs" => a.abs(),
        "exp" => a.exp(),
        "expm1" => a.expm1(),
        "sin" => a.sin(),
        "cos" => a.cos(),
        "tan" => a.tan(),
        "tanh" => a.tanh(),
        "sinh" => a.sinh(),
        "cosh" => a.cosh(),
        "atan" => a.atan(),
        "sigmoid" => a.sigmoid(),
        "relu" => a.relu(),
        "square" => a.square(),
        "erf" => a.erf(),
        "softplus" => a.softplus(),
        "floor" => a.floor(),
        "ceil" => a.ceil(),
        "round" => a.round(),
        "sign" => a.sign(),
        "log" => a.log(),
        "log1p" => a.log1p(),
        "sqrt" => a.sqrt(),
        "rsqrt" => a.rsqrt(),
        "reciprocal" => a.reciprocal(),
        "gelu" => a.gelu(),
        "gelu_tanh" => a.gelu_tanh(),
        "silu" => a.silu(),
        "mish" => a.mish(),
        "hard_swish" => a.hard_swish(),
        "selu" => a.selu(),
        "elu" => a.elu(case.number("alpha")),
        "leaky_relu" => a.leaky_relu(case.number("negative_slope")),
        "log_sigmoid" => a.log_sigmoid(),
        "clamp" => a.clamp(case.number("min"), case.number("max")),
        "add" => a + x[1],
        "sub" => a - x[1],
        "mul" => a * x[1],
        "div" => a / x[1],
        "pow" => a.pow(x[1]),
        "maximum" => a.maximum(x[1]),
        "minimum" => a.minimum(x[1]),
        "atan2" => a.atan2(x[1]),
        "where" => a.gt(0.0).select(x[1], x[2]),
        "eq" => a.eq(x[1]).cast(DType::I64),
        "lt" => a.lt(x[1]).cast(DType::I64),
        "ge" => a.ge(x[1]).cast(DType::I64),
        _ => return None,
    })
}

fn reduction<'g>(case: &Case, x: &[Tensor<'g>]) -> Option<Tensor<'g>> {
    let a = x[0];
    let all: Vec<i32> = (0..a.rank() as i32).collect();
    let given = case.list("axes");
    let axes = given.map_or(all, |axes| axes.iter().map(|&axis| axis as i32).collect());
    let (axes, keeps) = (axes.as_slice(), case.truth("keepdims"));
    Some(match (case.op.as_str(), keeps) {
        ("sum", false) => a.sum(axes),
        ("sum", true) => a.sum(Keep(axes)),
        ("mean", false) => a.mean(axes),
        ("mean", true) => a.mean(Keep(axes)),
        ("max", false) => a.max(axes),
        ("max", true) => a.max(Keep(axes)),
        ("min", false) => a.min(axes),
        ("min", true) => a.min(Keep(axes)),
        ("logsumexp", false) => a.logsumexp(axes),
        ("logsumexp", true) => a.logsumexp(Keep(axes)),
        ("var", false) => a.var(axes),
        ("var", true) => a.var(Keep(axes)),
        ("prod", false) => a.prod(axes),
        ("norm", _) => a.norm(case.number("p"), axes),
        ("argmax", _) => a.argmax(axis(case)),
        ("cumsum", _) => a.cumsum(axis(case)),
        ("cumprod", _) => a.cumprod(axis(case)),
        ("softmax", _) => a.softmax(axis(case)),
        ("log_softmax", _) => a.log_softmax(axis(case)),
        _ => return None,
    })
}

fn order(case: &Case, descending: &str) -> Order {
    match case.truth(descending) {
        true => Order::Descending,
        false => Order::Ascending,
    }
}

pub(crate) fn axis(case: &Case) -> i32 {
    case.integer("axis") as i32
}

fn arrangement<'g>(g: &'g Graph, case: &Case, x: &[Tensor<'g>]) -> Option<Tensor<'g>> {
    let a = x[0];
    let numbers = |key: &str| -> Vec<i32> {
        let list = case.list(key).unwrap();
        list.into_iter().map(|v| v as i32).collect()
    };
    Some(match case.op.as_str() {
        "reshape" => {
            let shape = numbers("shape").into_iter().map(|size| size as isize);
            a.reshape(shape.collect::<Vec<_>>())
        }
        "permute" => a.permute(numbers("permutation")),
        "broadcast_to" => a.broadcast_to(case.sizes("shape")),
        "concat" => g.concat(x, axis(case)),
        "stack" => g.stack(x, axis(case)),
        "slice" => a.slice(
            case.sizes("starts"),
            case.sizes("ends"),
            case.sizes("steps"),
        ),
        "pad" => a.pad(case.sizes("low"), case.sizes("high"), case.number("value")),
        "roll" => a.roll(case.integer("shift") as isize, axis(case)),
        "one_hot" => a.one_hot(case.integer("classes") as usize, DType::I64),
        "flip" => a.flip(numbers("axes").as_slice()),
        "interpolate" => {
            let by = match case.text("mode") {
                "bicubic" => Resample::Cubic,
                _ => Resample::Linear,
            };
            let align = match case.truth("align_corners") {
                true => Align::Corners,
                false => Align::Edges,
            };
            let how = Interpolate {
                by,
                align,
                ..Interpolate::default()
            };
            a.interpolate(case.sizes("size"), how)
        }
        "tril" => a.tril(case.integer("diagonal")),
        "take" => a.take(x[1], axis(case)),
        "gather" => a.gather(axis(case), x[1]),
        "embedding" => a.embedding(x[1]),
        "scatter_add" => a.scatter_add(axis(case), x[1], x[2]),
        "matmul" => a.matmul(x[1]),
        "einsum" => g.einsum(case.text("equation"), x),
        "upsample_nearest2d" => a.interpolate(enlarged(case, a), Resample::Nearest),
        "upsample_bilinear2d" => {
            let align = match case.truth("align_corners") {
                true => Align::Corners,
                false => Align::Edges,
            };
            let by = Resample::Linear;
            let how = Interpolate {
                by,
                align,
                ..Interpolate::default()
            };
            a.interpolate(enlarged(case, a), how)
        }
        _ => return None,
    })
}

/// Height and width, times the case's factor.
fn enlarged(case: &Case, x: Tensor<'_>) -> [usize; 2] {
    let scale = case.integer("scale") as usize;
    [2, 1].map(|back| x.shape().size(x.rank() - back) * scale)
}

fn reduce(case: &Case) -> Reduce {
    match case.text("reduction") {
        "mean" => Reduce::Mean,
        "sum" => Reduce::Sum,
        "none" => Reduce::None,
        "batchmean" => Reduce::BatchMean,
        other => panic!("reduction {other}"),
    }
}

fn loss<'g>(case: &Case, x: &[Tensor<'g>]) -> Option<Tensor<'g>> {
    let a = x[0];
    Some(match case.op.as_str() {
        "cross_entropy" => {
            let ignored = case.integer_or("ignore_index", -100);
            let how = CrossEntropy {
                reduce: reduce(case),
                label_smoothing: match case.name.as_str() {
                    "cross_entropy_smooth" => case.number("label_smoothing"),
                    _ => 0.0,
                },
                ignore_index: (ignored != -100).then_some(ignored),
                ..CrossEntropy::default()
            };
            a.cross_entropy(x[1], how)
        }
        "nll_loss" => {
            let reduce = reduce(case);
            let how = NegativeLogLikelihood {
                reduce,
                ..NegativeLogLikelihood::default()
            };
            a.nll_loss(x[1], how)
        }
        "ctc_loss" => {
            let how = Ctc {
                blank: case.integer("blank") as usize,
                reduce: reduce(case),
                input_lengths: Some(x[2]),
                target_lengths: Some(x[3]),
                ..Ctc::default()
            };
            a.log_softmax(-1).ctc_loss(x[1], how)
        }
        "mse_loss" => a.mse_loss(x[1], reduce(case)),
        "l1_loss" => a.l1_loss(x[1], reduce(case)),
        "huber_loss" => a.huber_loss(x[1], case.number("delta"), reduce(case)),
        "bce_with_logits" => a.bce_with_logits(x[1], reduce(case)),
        "kl_div" => a.log_softmax(-1).kl_div(x[1].softmax(-1), reduce(case)),
        _ => return None,
    })
}

/// Normalised by the batch, and the statistics that follow it.
fn running<'g>(case: &Case, x: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
    let axes: Vec<i32> = (0..x[0].rank() as i32).filter(|&axis| axis != 1).collect();
    let axes = axes.as_slice();
    let y = x[0].batch_norm(case.number("eps")).affine(x[1], x[2], 1);
    let share = case.number("momentum");
    let follow = |old: Tensor<'g>, new: Tensor<'g>| old * (1.0 - share) + new * share;
    let mean = follow(x[3], x[0].mean(axes));
    vec![y, mean, follow(x[4], x[0].var_unbiased(axes))]
}

fn layer<'g>(case: &Case, x: &[Tensor<'g>]) -> Option<Tensor<'g>> {
    let a = x[0];
    let eps = || case.number("eps");
    let axes = || -> Vec<i32> {
        let list = case.list("axes").unwrap();
        list.into_iter().map(|axis| axis as i32).collect()
    };
    let recurrent = || Recurrent {
        weight_ih: x[1],
        weight_hh: x[2],
        bias_ih: x[3],
        bias_hh: x[4],
    };
    Some(match case.op.as_str() {
        "layer_norm" => a.layer_norm(axes().as_slice(), eps()) * x[1] + x[2],
        "rms_norm" => a.rms_norm(axes().as_slice(), eps()) * x[1],
        "batch_norm" if case.truth("training") => a.batch_norm(eps()).affine(x[1], x[2], 1),
        "batch_norm" => a.batch_norm_by(x[3], x[4], eps()).affine(x[1], x[2], 1),
        "group_norm" => {
            let groups = case.integer("groups") as usize;
            a.group_norm(groups, eps()).affine(x[1], x[2], 1)
        }
        "log_add_exp" => a.log_add_exp(x[1]),
        "cosine_similarity" => a.cosine_similarity(x[1], axis(case), eps()),
        "rotary" => {
            let pairing = match case.text("pairing") {
                "halves" => Pairing::Halves,
                _ => Pairing::Neighbours,
            };
            let how = Rotary {
                pairing,
                base: case.number("base"),
                ..Rotary::default()
            };
            a.rotary(how).square()
        }
        "instance_norm" => a.instance_norm(eps()),
        "attention" => {
            let mask = match x.get(3) {
                Some(mask) => Mask::Where(mask.gt(0.0)),
                None if case.truth("causal") => Mask::Causal,
                None => Mask::None,
            };
            a.attention(x[1], x[2], mask)
        }
        "rnn_tanh" => recurrent().rnn_tanh(a),
        "lstm" => recurrent().lstm(a),
        "gru" => recurrent().gru(a),
        _ => return None,
    })
}
