//! Operations where values can be worked out by hand: edges, conventions, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use backprop_core::{DType, ErrorKind, Reference};
use backprop_graph::optim::{self, Rate, Sgd};
use backprop_graph::{
    Between, Combine, CrossEntropy, Graph, Init, Keep, Mask, NegativeLogLikelihood, Padding,
    Reduce, Resample, Rotary, Scatter, Session, Tensor, Updates,
};

const F64: DType = DType::F64;

type Build = for<'g> fn(Tensor<'g>) -> Tensor<'g>;

fn values(fetched: Tensor<'_>) -> Vec<f64> {
    let fetched = fetched.cast(F64);
    let key = fetched.key();
    let graph = fetched.graph();
    let mut session = Session::compile(graph, Reference, &[key], Updates::none()).unwrap();
    session.step().unwrap();
    session.fetch::<f64>(key).unwrap()
}

#[track_caller]
fn check(build: Build, shape: &[usize], x: &[f64], expected: &[f64]) {
    let g = Graph::new();
    let got = values(build(g.data(shape, x)));
    assert_eq!(got.len(), expected.len(), "{got:?}");
    for (got, expected) in got.iter().zip(expected) {
        let close = got == expected || (got - expected).abs() <= 1e-14 * expected.abs();
        assert!(
            close || got.is_nan() && expected.is_nan(),
            "{got}, not {expected}"
        );
    }
}

/// The gradient of the sum.
#[track_caller]
fn check_gradient(build: Build, x: &[f64], expected: &[f64]) {
    let g = Graph::new();
    let x = g.data([x.len()], x);
    let gradient = g.grad(build(x).sum(..), &[x]).unwrap()[0];
    assert_eq!(values(gradient), expected);
}

#[test]
fn products_and_running_ones() {
    check(
        |x| x.cumsum(0),
        &[5],
        &[1., 2., 3., 4., 5.],
        &[1., 3., 6., 10., 15.],
    );
    check(
        |x| x.cumprod(1),
        &[1, 4],
        &[2., 3., 0., 5.],
        &[2., 6., 0., 0.],
    );
    check(|x| x.prod(..), &[5], &[1., 2., 3., 4., 5.], &[120.]);
    check(|x| x.prod(Keep(0)), &[0, 2], &[], &[1., 1.]);
    check(|x| x.any(0), &[0, 2], &[], &[0., 0.]);
    check(|x| x.all(1), &[2, 2], &[1., 0., 3., 4.], &[0., 1.]);
    // Nothing is divided: exact at zeros.
    check_gradient(|x| x.prod(..), &[0., 2., 3.], &[6., 0., 0.]);
    check_gradient(|x| x.prod(..), &[0., 2., 0.], &[0., 0., 0.]);
    check_gradient(|x| x.cumprod(0), &[0., 2., 3.], &[9., 0., 0.]);
}

#[test]
fn norms_and_spreads() {
    let x = [3., -4., 0., 0.];
    check(|x| x.norm(2.0, 1), &[2, 2], &x, &[5., 0.]);
    check(|x| x.norm(1.0, 1), &[2, 2], &x, &[7., 0.]);
    check(|x| x.norm(0.0, 1), &[2, 2], &x, &[2., 0.]);
    check(|x| x.norm(f64::INFINITY, 1), &[2, 2], &x, &[4., 0.]);
    check(|x| x.norm(f64::NEG_INFINITY, 1), &[2, 2], &x, &[3., 0.]);
    check(|x| x.norm(-1.0, 1), &[1, 2], &[1., 0.], &[0.]);
    check_gradient(|x| x.norm(2.0, ..), &[0., 0.], &[0., 0.]);
    check_gradient(|x| x.norm(0.5, ..), &[0., 0.], &[0., 0.]);
    check(|x| x.var(..), &[3], &[1., 2., 6.], &[14. / 3.]);
    check(|x| x.var_unbiased(..), &[3], &[1., 2., 6.], &[7.]);
    check(|x| x.var_unbiased(..), &[1], &[1.], &[f64::NAN]);
    check_gradient(|x| x.std(..), &[2., 2.], &[0., 0.]);
}

#[test]
fn arrangements() {
    let square: &[f64] = &[1., 2., 3., 4., 5., 6., 7., 8., 9.];
    check(|x| x.diagonal(0, 0, 1), &[3, 3], square, &[1., 5., 9.]);
    check(
        |x| x.tril(-1),
        &[3, 3],
        square,
        &[0., 0., 0., 4., 0., 0., 7., 8., 0.],
    );
    check(
        |x| x.triu(1),
        &[3, 3],
        square,
        &[0., 2., 3., 0., 0., 6., 0., 0., 0.],
    );
    check(|x| x.roll(1, 0), &[3], &[1., 2., 3.], &[3., 1., 2.]);
    check(|x| x.roll(-4, 0), &[3], &[1., 2., 3.], &[2., 3., 1.]);
    check(|x| x.repeat([1, 2]), &[2, 1], &[1., 2.], &[1., 1., 2., 2.]);
    check(|x| x.repeat([2, 1]), &[2, 1], &[1., 2.], &[1., 2., 1., 2.]);
    check(
        |x| x.repeat_interleave(2, 0),
        &[2],
        &[1., 2.],
        &[1., 1., 2., 2.],
    );
    check(|x| x.chunk(2, 0)[1], &[3], &[1., 2., 3.], &[3.]);
    check(
        |x| x.interpolate([2, 4], Resample::Linear),
        &[1, 2],
        &[0., 4.],
        &[0., 1., 3., 4., 0., 1., 3., 4.],
    );
    check(
        |x| x.cast(DType::I64).one_hot(3, F64),
        &[2],
        &[2., 0.],
        &[0., 0., 1., 1., 0., 0.],
    );
}

/// In a launch by rows, the coordinate along an axis of size 1 was that of the batch.
#[test]
fn coordinates_of_sums() {
    let g = Graph::new();
    let x = g.data([2, 3, 2], &[1i64, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0]);
    let sums = x.sum(1).unsqueeze(-1);
    let along = |axis| g.coordinate([2, 2, 1], axis);
    let moved = sums + along(0) * 10 + along(1) * 100 + along(2) * 1000;
    assert_eq!(values(moved), [1., 101., 11., 111.]);
}

#[test]
fn equations() {
    let square: &[f64] = &[1., 2., 3., 4.];
    check(|x| x.graph().einsum("ii", &[x]), &[2, 2], square, &[5.]);
    check(
        |x| x.graph().einsum("ii->i", &[x]),
        &[2, 2],
        square,
        &[1., 4.],
    );
    check(
        |x| x.graph().einsum("ba", &[x]),
        &[2, 2],
        square,
        &[1., 3., 2., 4.],
    );
    check(
        |x| x.graph().einsum("ij,jk,kl->il", &[x; 3]),
        &[2, 2],
        square,
        &[37., 54., 81., 118.],
    );
    check(
        |x| x.graph().einsum("...i->...", &[x]),
        &[2, 2],
        square,
        &[3., 7.],
    );
    check(
        |x| x.graph().einsum("ii,jj->", &[x; 2]),
        &[2, 2],
        square,
        &[25.],
    );
    check(
        |x| x.graph().einsum("...,i->i...", &[x; 2]),
        &[2],
        &[1., 2.],
        &[1., 2., 2., 4.],
    );
}

#[test]
fn bad_equations_say_what_is_wrong() {
    let cases = [
        ("ij,jk->ik", "2 terms for 1 operands"),
        ("ij->ik", "`k` of the result is in no operand"),
        ("ij->ii", "`i` is twice in the result"),
        ("ijk->i", "3 letters for the 2 axes of [2, 3]"),
        ("i->i", "1 letters for the 2 axes of [2, 3]"),
        ("ii->i", "`i` has the sizes 2 and 3"),
        ("i...i->i", "`i` has the sizes 2 and 3"),
        ("ij->...k", "`k` of the result is in no operand"),
        ("i...j->i......j", "`.` is no letter"),
        ("ij->i->j", "`-` is no letter"),
        ("i.j->ij", "`.` is no letter"),
        ("", "0 letters for the 2 axes of [2, 3]"),
        ("i1->i", "`1` is no letter"),
    ];
    for (equation, expected) in cases {
        let g = Graph::new();
        let _ = g.einsum(equation, &[g.input("x", [2, 3], F64)]);
        let error = g.check().unwrap_err();
        let text = format!("einsum: `{equation}`: {expected}");
        assert_eq!(error.kind().to_string(), text);
        assert_eq!(error.place().unwrap().file(), file!());
    }
}

#[test]
fn equations_with_sizes_that_differ() {
    let cases: [(&str, &str); 3] = [
        ("ij,jk->ik", "`j` has the sizes 3 and 4"),
        ("ij,ii->i", "`i` has the sizes 2 and 4"),
        (
            "...,...->...",
            "axis 1 (from the back) of `...` has the sizes 2 and 4",
        ),
    ];
    for (equation, expected) in cases {
        let g = Graph::new();
        let operands = [g.input("x", [2, 3], F64), g.input("y", [4, 5], F64)];
        let _ = g.einsum(equation, &operands);
        let error = g.check().unwrap_err();
        let text = format!("einsum: `{equation}`: {expected}");
        assert_eq!(error.kind().to_string(), text);
        assert_eq!(error.notes().len(), 2, "{error}");
    }
}

/// Neither the branch not taken nor an overflow makes a NaN of a gradient.
#[test]
fn gradients_at_the_edges() {
    check_gradient(|x| x.elu(0.5), &[-1e3, 0., 1e3], &[0., 0.5, 1.]);
    check_gradient(|x| x.celu(0.5), &[-1e3, 0., 1e3], &[0., 1., 1.]);
    check_gradient(|x| x.softplus(), &[-1e3, 0., 1e3], &[0., 0.5, 1.]);
    check_gradient(|x| x.log_sigmoid(), &[-1e3, 0., 1e3], &[1., 0.5, 0.]);
    check_gradient(|x| x.silu(), &[-1e3, 0., 1e3], &[0., 0.5, 1.]);
    check_gradient(
        |x| x.hard_swish(),
        &[-3., 3., -1e300, 1e300],
        &[0., 1., 0., 1.],
    );
    check_gradient(|x| x.relu6(), &[0., 3., 6.], &[0., 1., 0.]);
    check_gradient(|x| x.clamp(0.0, 6.0), &[0., 3., 6., 7.], &[1., 1., 1., 0.]);
    check_gradient(|x| x.leaky_relu(0.25), &[-1., 0., 1.], &[0.25, 0.25, 1.]);
    let inf = f64::INFINITY;
    check_gradient(
        |x| x.huber_loss(x.number_like(0.0), 1.0, Reduce::Sum),
        &[-inf, 0.5, 1e300],
        &[-1., 0.5, 1.],
    );
    // Elements of other places take no part, infinite or not.
    check_gradient(
        |x| {
            let how = Scatter {
                combine: Combine::Product,
                include_self: false,
            };
            let places = x.graph().data([3], &[0i64, 0, 1]);
            x.index_reduce(0, places, x, how).narrow(0, 0, 2)
        },
        &[2., 3., inf],
        &[3., 2., 1.],
    );
    check_gradient(
        |x| x.quantile(0.25, 0, Between::Linear),
        &[inf, 5., 1.],
        &[0., 0.5, 0.5],
    );
    check(|x| x.log_add_exp(x), &[2], &[-inf, inf], &[-inf, inf]);
    check(
        |x| x.logsumexp(1),
        &[3, 2],
        &[-inf, -inf, inf, 0., 1e4, 1e4],
        &[-inf, inf, 1e4 + 2f64.ln()],
    );
    check(|x| x.softmax(0), &[3], &[1e5, 1e5, -inf], &[0.5, 0.5, 0.]);
    check(
        |x| x.bce_loss(x.number_like(1.0), Reduce::None),
        &[2],
        &[0., 1.],
        &[100., 0.],
    );
    check(
        |x| x.kl_div(x.number_like(0.0), Reduce::Sum),
        &[1],
        &[-5.],
        &[0.],
    );
}

trait NumberLike<'g> {
    fn number_like(self, value: f64) -> Tensor<'g>;
}

impl<'g> NumberLike<'g> for Tensor<'g> {
    fn number_like(self, value: f64) -> Tensor<'g> {
        self.graph().full(self.shape(), value, self.dtype())
    }
}

/// Each of these is refused, by the name of the operation and at the caller's place.
#[test]
fn refusals() {
    let cases: &[(&str, Build)] = &[
        ("softmax", |x| x.softmax(2)),
        ("layer_norm", |x| x.layer_norm([0, 0], 1e-5)),
        ("group_norm", |x| x.group_norm(2, 1e-5)),
        ("batch_norm", |x| x.sum(0).batch_norm(1e-5)),
        ("affine", |x| x.affine(x, x, 0)),
        ("mse_loss", |x| x.mse_loss(x.sum(0), Reduce::Mean)),
        ("huber_loss", |x| x.huber_loss(x, 0.0, Reduce::Mean)),
        ("cross_entropy", |x| {
            x.cross_entropy(x.argmax(0), CrossEntropy::default())
        }),
        ("cross_entropy", |x| {
            x.cross_entropy(x.sum(1), CrossEntropy::default())
        }),
        ("cross_entropy", |x| {
            let label_smoothing = 1.5;
            let how = CrossEntropy {
                label_smoothing,
                ..CrossEntropy::default()
            };
            x.cross_entropy(x.argmax(1), how)
        }),
        ("nll_loss", |x| {
            x.nll_loss(x.argmax(0), NegativeLogLikelihood::default())
        }),
        ("one_hot", |x| x.one_hot(3, F64)),
        ("clamp", |x| x.clamp(1.0, 0.0)),
        ("glu", |x| x.glu(1)),
        ("gather", |x| x.gather(0, x)),
        ("scatter_add", |x| x.scatter_add(0, x.argmax(0), x)),
        ("scatter", |x| x.scatter(0, x.argmax(0), x)),
        ("index_copy", |x| x.index_copy(0, x.argmax(0), x)),
        ("index_add", |x| x.index_add(0, x, x)),
        ("index_fill", |x| x.index_fill(2, x.argmax(0), 1.0)),
        ("quantile", |x| x.quantile(1.5, 0, Between::Linear)),
        ("quantile", |x| x.quantile(x, 0, Between::Linear)),
        ("nanquantile", |x| x.nanquantile(-0.5, 0, Between::Linear)),
        ("median", |x| x.median(2)),
        ("median", |x| x.argmax(0).median(0)),
        ("nanquantile", |x| {
            x.argmax(0).nanquantile(0.5, 0, Between::Linear)
        }),
        ("mean", |x| x.argmax(0).mean(0)),
        ("var", |x| x.argmax(0).var(0)),
        ("cumsum", |x| x.ne(x).cumsum(0)),
        ("cummin", |x| x.ne(x).cummin(0).0),
        ("prod", |x| x.ne(x).prod(0)),
        ("index_add", |x| {
            x.ne(x).index_add(1, x.argmax(1), x.ne(x).narrow(1, 0, 2))
        }),
        ("any", |x| x.any(2).cast(F64)),
        ("all", |x| x.all(Keep(2)).cast(F64)),
        ("diagonal", |x| x.diagonal(0, 1, -1)),
        ("diag_embed", |x| x.sum(..).diag_embed(1)),
        ("diag_embed", |x| x.diag_embed(i64::MIN)),
        ("unstack", |x| x.unstack(2)[0]),
        ("move_axes", |x| x.move_axes([0], [0, 1])),
        ("rot90", |x| x.rot90(1, 0, -2)),
        ("windows", |x| x.windows(1, 4, 1)),
        ("windows", |x| x.windows(1, 2, 0)),
        ("slice_scatter", |x| {
            x.slice_scatter([0, 0], [1, 3], [1, 1], x)
        }),
        ("meshgrid", |x| x.graph().meshgrid(&[x])[0]),
        ("outer", |x| x.outer(x)),
        ("cdist", |x| x.cdist(x.t(), 2.0)),
        ("cummax", |x| x.cummax(2).0),
        ("logcumsumexp", |x| x.argmax(0).logcumsumexp(0)),
        ("nanmean", |x| x.nanmean(Keep(2))),
        ("tril", |x| x.sum(0).tril(0)),
        ("split", |x| x.split([1, 2], 0)[0]),
        ("chunk", |x| x.chunk(0, 0)[0]),
        ("repeat", |x| x.repeat([2])),
        ("interpolate", |x| x.interpolate([0], Resample::Nearest)),
        ("interpolate", |x| x.interpolate([2; 9], Resample::Area)),
        ("pad", |x| x.pad([0, 3], [0, 0], Padding::Reflect)),
        ("rotary", |x| x.rotary(Rotary::default())),
        ("pixel_shuffle", |x| x.pixel_shuffle(2)),
        ("attention", |x| x.attention(x, x.t(), Mask::Where(x))),
        ("attention", |x| {
            x.attention(x, x, Mask::Where(x.matmul(x.t())))
        }),
        ("slice", |x| x.narrow(0, 1, 9)),
        ("permute", |x| x.permute([0, 0])),
        ("transpose", |x| x.transpose(0, 2)),
        ("squeeze", |x| x.squeeze(0)),
        ("pad", |x| x.pad([0], [0], 0.0)),
        ("flip", |x| x.flip(2)),
        ("mean", |x| x.mean(Keep(2))),
    ];
    for (operation, build) in cases {
        let g = Graph::new();
        let _ = build(g.input("x", [2, 3], F64));
        let error = g.check().unwrap_err();
        let text = error.kind().to_string();
        assert!(
            text.starts_with(&format!("{operation}: ")),
            "{operation} says {text}"
        );
        assert_eq!(error.all().count(), 1, "{error}");
        assert_eq!(error.place().unwrap().file(), file!(), "{error}");
    }
}

#[test]
fn labels_are_checked_before_the_step() {
    let g = Graph::new();
    let (x, labels) = (
        g.input("x", [2, 3], F64),
        g.input("labels", [2], DType::I64),
    );
    let ignore_index = Some(-1);
    let how = CrossEntropy {
        ignore_index,
        ..CrossEntropy::default()
    };
    let loss = x.cross_entropy(labels, how).key();
    let mut session = Session::compile(&g, Reference, &[loss], Updates::none()).unwrap();
    session.feed(x, &[0., 0., 0., 9., 9., 9.]).unwrap();
    for bad in [3i64, -2] {
        let error = session.feed(labels, &[0, bad]).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::OutOfRange { position: 1, .. }),
            "{error}"
        );
    }
    session.feed(labels, &[0i64, -1]).unwrap().step().unwrap();
    assert!((session.scalar(loss).unwrap() - 3f64.ln()).abs() < 1e-15);
}

/// The rates of the first steps, read off a parameter whose gradient is -1.
#[track_caller]
fn rates(rate: Rate, count: usize) -> Vec<f64> {
    let g = Graph::new();
    let w = g.parameter("w", [], F64, Init::Zeros);
    let gradients = g.grad(-g.read(w), &[w]).unwrap();
    let options = Sgd {
        lr: rate,
        ..Sgd::default()
    };
    let updates = optim::sgd(&g, &[w], &gradients, options);
    let mut session = Session::compile(&g, Reference, &[], updates).unwrap();
    let mut last = 0.0;
    let step = |_| {
        session.step().unwrap();
        let now = session.parameter::<f64>(w).unwrap()[0];
        std::mem::replace(&mut last, now).mul_add(-1.0, now)
    };
    (0..count).map(step).collect()
}

#[test]
fn schedules() {
    let near = |got: Vec<f64>, expected: &[f64]| {
        let close = |(g, e): (&f64, &f64)| (g - e).abs() < 1e-12;
        assert!(
            got.iter().zip(expected).all(close),
            "{got:?}, not {expected:?}"
        );
    };
    near(rates(Rate::constant(0.5), 3), &[0.5, 0.5, 0.5]);
    near(
        rates(Rate::decay(1.0, 0.5, 2), 5),
        &[1.0, 1.0, 0.5, 0.5, 0.25],
    );
    // 10 steps: up to the top in step 2, down to the last in step 9, where it stays.
    let cycle = rates(Rate::one_cycle(1.0, 10), 12);
    near(cycle[..3].to_vec(), &[0.04, 0.52, 1.0]);
    near(cycle[9..].to_vec(), &[0.04e-4, 0.04e-4, 0.04e-4]);
    let middle = 0.04e-4 + (1.0 - 0.04e-4) / 2.0 * (1.0 + (std::f64::consts::PI * 3.0 / 7.0).cos());
    near(vec![cycle[5]], &[middle]);
    near(
        rates(Rate::cosine(1.0, 2, 6), 7),
        &[
            0.5,
            1.0,
            1.0,
            0.853_553_390_593_273_8,
            0.5,
            0.146_446_609_406_726_2,
            0.0,
        ],
    );
}

/// What has one element a row of `[2, 2]` lies along the columns of `[1, 2, 2]`: it is another value
/// in each of them, though both shapes have the same points.
#[test]
fn a_value_of_each_row_laid_along_columns() {
    let g = Graph::new();
    let x = g.input("x", [2, 2], F64);
    let y = x.exp().max(1) + x.exp().reshape([1, 2, 2]);
    let mut session = Session::compile(&g, Reference, &[y.key()], Updates::none()).unwrap();
    let numbers = [1.0f64, 2.0, 4.0, 3.0];
    session
        .feed(x, &numbers.map(f64::ln))
        .unwrap()
        .step()
        .unwrap();
    let rounded = session.fetch::<f64>(y).unwrap().into_iter().map(f64::round);
    assert_eq!(rounded.collect::<Vec<_>>(), [3.0, 6.0, 6.0, 7.0]);
}
