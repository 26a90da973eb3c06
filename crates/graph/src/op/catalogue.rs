//! Every operation with inputs to try it on: what the tests of gradients walk over.

use backprop_core::DType;

use crate::axes::Keep;
use crate::composite::Sample;
use crate::op::{CrossEntropy, Mask, NegativeLogLikelihood, Recurrent, Reduce};
use crate::tensor::Tensor;

/// An operation with inputs to try it on.
#[derive(Debug)]
pub struct Entry {
    /// The name.
    pub name: &'static str,
    /// Types, shapes and intervals of the inputs; integers are labels, indices or masks.
    pub samples: Vec<Sample>,
    /// Builds the operation.
    pub build: for<'g> fn(&[Tensor<'g>]) -> Tensor<'g>,
}

macro_rules! entries {
    ($($name:ident $samples:expr => |$x:ident| $build:expr;)*) => {
        vec![$(Entry { name: stringify!($name), samples: $samples, build: |$x| $build },)*]
    };
}

/// Every operation that gives one tensor, with inputs on which derivatives of two orders exist
/// (besides kinks that random numbers do not meet).
#[must_use]
pub fn catalogue() -> Vec<Entry> {
    let mut all = scalars();
    for family in [
        activations(),
        reductions(),
        softmax_and_norms(),
        losses(),
        shapes(),
        indices(),
        products(),
        layers(),
    ] {
        all.extend(family);
    }
    all
}

/// Inputs of these shapes, with values between -2 and 2.
fn reals(shapes: &[&[usize]]) -> Vec<Sample> {
    vec![Sample::reals(shapes)]
}

/// Inputs of these shapes, with values in an interval.
fn within(range: (f64, f64), shapes: &[&[usize]]) -> Vec<Sample> {
    let none = Sample::reals(&[]);
    let add = |sample: Sample, shape: &&[usize]| sample.with(DType::F64, shape, range);
    vec![shapes.iter().fold(none, add)]
}

/// Real inputs, then whole numbers below `high`.
fn labelled(shapes: &[&[usize]], labels: &[usize], high: usize) -> Vec<Sample> {
    let sample = Sample::reals(shapes).with(DType::I64, labels, (0.0, high as f64));
    vec![sample]
}

/// One input of more than one shape.
fn unary() -> Vec<Sample> {
    vec![Sample::reals(&[&[3, 5]]), Sample::reals(&[&[]])]
}

/// Two inputs, alike and broadcast.
fn pairs(range: (f64, f64)) -> Vec<Sample> {
    let shapes: [[&[usize]; 2]; 3] = [[&[2, 3], &[2, 3]], [&[2, 1, 4], &[3, 1]], [&[], &[5]]];
    shapes.iter().flat_map(|pair| within(range, pair)).collect()
}

const POSITIVE: (f64, f64) = (0.2, 3.0);
const ALL: (f64, f64) = (-2.0, 2.0);

fn scalars() -> Vec<Entry> {
    let positive = || within(POSITIVE, &[&[3, 5]]);
    let open = || within((-0.8, 0.8), &[&[3, 5]]);
    entries! {
        neg unary() => |x| -x[0];
        abs unary() => |x| x[0].abs();
        sign unary() => |x| x[0].sign() * x[0];
        floor unary() => |x| x[0].floor() * x[0];
        ceil unary() => |x| x[0].ceil() * x[0];
        round unary() => |x| x[0].round() * x[0];
        trunc unary() => |x| x[0].trunc() * x[0];
        exp unary() => |x| x[0].exp();
        expm1 unary() => |x| x[0].expm1();
        log positive() => |x| x[0].log();
        log1p open() => |x| x[0].log1p();
        sqrt positive() => |x| x[0].sqrt();
        rsqrt positive() => |x| x[0].rsqrt();
        reciprocal positive() => |x| x[0].reciprocal();
        square unary() => |x| x[0].square();
        sin unary() => |x| x[0].sin();
        cos unary() => |x| x[0].cos();
        tan open() => |x| x[0].tan();
        asin open() => |x| x[0].asin();
        acos open() => |x| x[0].acos();
        atan unary() => |x| x[0].atan();
        sinh unary() => |x| x[0].sinh();
        cosh unary() => |x| x[0].cosh();
        tanh unary() => |x| x[0].tanh();
        asinh unary() => |x| x[0].asinh();
        acosh within((1.2, 3.0), &[&[3, 5]]) => |x| x[0].acosh();
        atanh open() => |x| x[0].atanh();
        erf unary() => |x| x[0].erf();
        erfc unary() => |x| x[0].erfc();
        sigmoid unary() => |x| x[0].sigmoid();
        softplus unary() => |x| x[0].softplus();
        relu unary() => |x| x[0].relu();
        add pairs(ALL) => |x| x[0] + x[1];
        sub pairs(ALL) => |x| x[0] - x[1];
        mul pairs(ALL) => |x| x[0] * x[1];
        div pairs(POSITIVE) => |x| x[0] / x[1];
        rem pairs(POSITIVE) => |x| x[0] % x[1];
        pow pairs(POSITIVE) => |x| x[0].pow(x[1]);
        maximum pairs(ALL) => |x| x[0].maximum(x[1]);
        minimum pairs(ALL) => |x| x[0].minimum(x[1]);
        atan2 pairs(POSITIVE) => |x| x[0].atan2(x[1]);
        select reals(&[&[2, 3], &[2, 3]]) => |x| x[0].gt(x[1]).select(x[0].exp(), x[1]);
        clamp unary() => |x| x[0].clamp(-0.5, 0.8);
        cast unary() => |x| x[0].cast(DType::F64);
    }
}

fn activations() -> Vec<Entry> {
    entries! {
        gelu unary() => |x| x[0].gelu();
        gelu_tanh unary() => |x| x[0].gelu_tanh();
        silu unary() => |x| x[0].silu();
        mish unary() => |x| x[0].mish();
        hard_swish within((-4.0, 4.0), &[&[3, 5]]) => |x| x[0].hard_swish();
        hard_sigmoid within((-4.0, 4.0), &[&[3, 5]]) => |x| x[0].hard_sigmoid();
        hard_tanh unary() => |x| x[0].hard_tanh();
        relu6 within((-2.0, 8.0), &[&[3, 5]]) => |x| x[0].relu6();
        elu unary() => |x| x[0].elu(0.7);
        celu unary() => |x| x[0].celu(0.7);
        selu unary() => |x| x[0].selu();
        leaky_relu unary() => |x| x[0].leaky_relu(0.02);
        log_sigmoid unary() => |x| x[0].log_sigmoid();
        softsign unary() => |x| x[0].softsign();
        tanh_shrink unary() => |x| x[0].tanh_shrink();
        soft_shrink unary() => |x| x[0].soft_shrink(0.5);
        hard_shrink unary() => |x| x[0].hard_shrink(0.5);
        prelu pairs(ALL) => |x| x[0].prelu(x[1]);
        glu reals(&[&[3, 4]]) => |x| x[0].glu(-1);
    }
}

fn reductions() -> Vec<Entry> {
    let cube = || reals(&[&[2, 3, 4]]);
    entries! {
        sum cube() => |x| x[0].sum([0, -1]);
        sum_keep cube() => |x| x[0].sum(Keep(1));
        mean cube() => |x| x[0].mean([0, 2]);
        max cube() => |x| x[0].max(1);
        min cube() => |x| x[0].min(..);
        var cube() => |x| x[0].var([1, 2]);
        var_unbiased cube() => |x| x[0].var_unbiased(-1);
        std cube() => |x| x[0].std(0);
        std_unbiased cube() => |x| x[0].std_unbiased(..);
        norm_1 cube() => |x| x[0].norm(1.0, -1);
        norm_2 cube() => |x| x[0].norm(2.0, Keep(-1));
        norm_3 cube() => |x| x[0].norm(3.0, [0, 1]);
        norm_inf cube() => |x| x[0].norm(f64::INFINITY, ..);
        prod cube() => |x| x[0].prod(1);
        prod_of_two cube() => |x| x[0].prod(Keep([0, 2]));
        cumsum reals(&[&[2, 5]]) => |x| x[0].cumsum(1);
        cumprod reals(&[&[5, 2]]) => |x| x[0].cumprod(0);
        argmax cube() => |x| x[0].argmax(1);
        argmin cube() => |x| x[0].argmin(-1);
        any labelled(&[], &[2, 3], 2) => |x| x[0].any(1);
        all labelled(&[], &[2, 3], 2) => |x| x[0].all(..);
    }
}

fn softmax_and_norms() -> Vec<Entry> {
    let cube = || reals(&[&[2, 3, 4]]);
    let image = || reals(&[&[2, 4, 3]]);
    entries! {
        softmax cube() => |x| x[0].softmax(-1);
        softmax_over_first cube() => |x| x[0].softmax(0);
        log_softmax cube() => |x| x[0].log_softmax(1);
        logsumexp cube() => |x| x[0].logsumexp([0, 2]);
        logsumexp_keep cube() => |x| x[0].logsumexp(Keep(-1));
        log_add_exp pairs(ALL) => |x| x[0].log_add_exp(x[1]);
        layer_norm cube() => |x| x[0].layer_norm(-1, 1e-5);
        layer_norm_of_two cube() => |x| x[0].layer_norm([1, 2], 1e-5);
        rms_norm cube() => |x| x[0].rms_norm(-1, 1e-6);
        batch_norm image() => |x| x[0].batch_norm(1e-5);
        batch_norm_by {
            let [mut sample] = [Sample::reals(&[&[2, 3, 2], &[3]])];
            sample = sample.with(DType::F64, &[3], POSITIVE);
            vec![sample]
        } => |x| x[0].batch_norm_by(x[1], x[2], 1e-5);
        group_norm image() => |x| x[0].group_norm(2, 1e-5);
        instance_norm image() => |x| x[0].instance_norm(1e-5);
        affine reals(&[&[2, 3, 2], &[3], &[3]]) => |x| x[0].affine(x[1], x[2], 1);
    }
}

fn losses() -> Vec<Entry> {
    let two = || reals(&[&[3, 4], &[3, 4]]);
    let unit = || within((0.1, 0.9), &[&[3, 4], &[3, 4]]);
    let rows = || labelled(&[&[4, 5]], &[4], 5);
    entries! {
        mse_loss two() => |x| x[0].mse_loss(x[1], Reduce::Mean);
        l1_loss two() => |x| x[0].l1_loss(x[1], Reduce::Sum);
        huber_loss two() => |x| x[0].huber_loss(x[1], 0.6, Reduce::Mean);
        smooth_l1_loss two() => |x| x[0].smooth_l1_loss(x[1], 0.6, Reduce::None);
        bce_loss unit() => |x| x[0].bce_loss(x[1], Reduce::Mean);
        bce_with_logits two() => |x| x[0].bce_with_logits(x[1], Reduce::BatchMean);
        kl_div unit() => |x| x[0].kl_div(x[1], Reduce::BatchMean);
        cross_entropy rows() => |x| x[0].cross_entropy(x[1], CrossEntropy::default());
        cross_entropy_sum rows() => |x| {
            let how = CrossEntropy { reduce: Reduce::Sum, label_smoothing: 0.1, ..Default::default() };
            x[0].cross_entropy(x[1], how)
        };
        cross_entropy_ignoring rows() => |x| {
            let how = CrossEntropy { ignore_index: Some(2), ..Default::default() };
            x[0].cross_entropy(x[1], how)
        };
        cross_entropy_each labelled(&[&[2, 4, 3]], &[2, 3], 4) => |x| {
            let how = CrossEntropy { reduce: Reduce::None, axis: 1, ..Default::default() };
            x[0].cross_entropy(x[1], how)
        };
        nll_loss rows() => |x| x[0].nll_loss(x[1], NegativeLogLikelihood::default());
    }
}

fn shapes() -> Vec<Entry> {
    let matrix = || reals(&[&[3, 4]]);
    let square = || reals(&[&[2, 3, 3]]);
    entries! {
        reshape matrix() => |x| x[0].reshape([2, -1]);
        permute square() => |x| x[0].permute([2, 0, 1]);
        transpose matrix() => |x| x[0].t();
        broadcast_to reals(&[&[3, 1]]) => |x| x[0].broadcast_to([2, 3, 4]);
        narrow matrix() => |x| x[0].narrow(1, 1, 3);
        slice matrix() => |x| x[0].slice([1, 0], [3, 4], [1, 2]);
        pad matrix() => |x| x[0].pad([0, 1], [2, 0], 0.5);
        flip matrix() => |x| x[0].flip([0, 1]);
        concat reals(&[&[2, 3], &[2, 1]]) => |x| x[0].graph().concat(x, 1);
        stack reals(&[&[2, 3], &[2, 3]]) => |x| x[0].graph().stack(x, 1);
        tril matrix() => |x| x[0].tril(0);
        triu square() => |x| x[0].triu(-1);
        diagonal square() => |x| x[0].diagonal(1, 2);
        split matrix() => |x| x[0].split([1, 3], 1)[1];
        chunk matrix() => |x| x[0].chunk(3, 1)[1];
        repeat matrix() => |x| x[0].repeat([2, 3]);
        repeat_interleave matrix() => |x| x[0].repeat_interleave(2, 0);
        roll matrix() => |x| x[0].roll(-1, 1);
        upsample_nearest2d square() => |x| x[0].upsample_nearest2d(2);
        upsample_bilinear2d square() => |x| x[0].upsample_bilinear2d(3);
    }
}

fn indices() -> Vec<Entry> {
    entries! {
        take labelled(&[&[3, 5, 2]], &[2, 4], 5) => |x| x[0].take(x[1], 1);
        scatter_rows labelled(&[&[4, 2]], &[4], 3) => |x| x[0].scatter_rows(x[1], 0, 3);
        embedding labelled(&[&[5, 2]], &[2, 3], 5) => |x| x[0].embedding(x[1]);
        gather labelled(&[&[3, 5]], &[2, 4], 5) => |x| x[0].gather(1, x[1]);
        scatter_add labelled(&[&[3, 4], &[5, 4]], &[5, 4], 3) => |x| x[0].scatter_add(0, x[2], x[1]);
        one_hot labelled(&[], &[2, 3], 4) => |x| x[0].one_hot(4, DType::F64);
    }
}

fn products() -> Vec<Entry> {
    entries! {
        matmul reals(&[&[3, 4], &[4, 2]]) => |x| x[0].matmul(x[1]);
        matmul_broadcast reals(&[&[2, 1, 2, 3], &[3, 3, 2]]) => |x| x[0].matmul(x[1]);
        matmul_of_vectors reals(&[&[4], &[4]]) => |x| x[0].matmul(x[1]);
        einsum_batched reals(&[&[2, 3, 4], &[2, 4, 2]]) => |x| {
            x[0].graph().einsum("bij,bjk->bik", x)
        };
        einsum_dot reals(&[&[3, 4], &[3, 4]]) => |x| x[0].graph().einsum("ij,ij->", x);
        einsum_outer reals(&[&[3], &[4]]) => |x| x[0].graph().einsum("i,j->ij", x);
        einsum_trace reals(&[&[3, 3]]) => |x| x[0].graph().einsum("ii", x);
        einsum_three reals(&[&[2, 3], &[3, 2], &[2, 2]]) => |x| {
            x[0].graph().einsum("ij,jk,kl->il", x)
        };
        einsum_further reals(&[&[2, 3, 2], &[1, 2, 3]]) => |x| {
            x[0].graph().einsum("...ij,...jk", x)
        };
    }
}

fn layers() -> Vec<Entry> {
    fn weights(gates: usize) -> Vec<Sample> {
        let rows = 2 * gates;
        reals(&[&[3, 2, 3], &[rows, 3], &[rows, 2], &[rows], &[rows]])
    }
    fn layer<'g>(x: &[Tensor<'g>]) -> Recurrent<'g> {
        Recurrent {
            weight_ih: x[1],
            weight_hh: x[2],
            bias_ih: x[3],
            bias_hh: x[4],
        }
    }
    let three = || reals(&[&[2, 3, 2], &[2, 4, 2], &[2, 4, 3]]);
    entries! {
        attention three() => |x| x[0].attention(x[1], x[2], Mask::None);
        attention_causal three() => |x| x[0].attention(x[1], x[2], Mask::Causal);
        attention_where three() => |x| {
            let scores = x[0].matmul(x[1].t()).stop_gradient();
            let mask = scores.ge(scores.mean(Keep(-1)));
            x[0].attention(x[1], x[2], Mask::Where(mask))
        };
        attention_add reals(&[&[2, 3, 2], &[2, 4, 2], &[2, 4, 3], &[3, 4]]) => |x| {
            x[0].attention(x[1], x[2], Mask::Add(x[3]))
        };
        rnn_tanh weights(1) => |x| layer(x).rnn_tanh(x[0]);
        lstm weights(4) => |x| layer(x).lstm(x[0]);
        gru weights(3) => |x| layer(x).gru(x[0]);
    }
}
