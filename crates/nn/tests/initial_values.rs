//! The distributions that parameters start from.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use backprop_core::{DType::F64, Reference};
use backprop_graph::{Convolution, Graph, Param, Session, Updates};
use backprop_nn::{
    Activation, BatchNorm, Block, Cells, Conv, ConvTranspose, Embedding, Features, Filter,
    GroupNorm, Groups, Gru, Layer, LayerNorm, Linear, Lstm, RmsNorm, Rnn, Table, TransformerBlock,
};

/// What a parameter is at first.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// One number everywhere.
    At(f64),
    /// Uniform this far around 0.
    Within(f64),
    /// Normal around 0 with variance 1.
    Normal,
}

/// Makes a layer, and compares the values of all parameters that it adds to the graph with what they
/// are to be, by name.
fn check(make: impl FnOnce(&Graph), expected: &[(&str, &[usize], Start)]) {
    let g = Graph::with_seed(5);
    make(&g);
    let keep = g.full([1], 0.0, F64);
    let session = Session::compile(&g, Reference, &[keep.key()], Updates::none()).unwrap();
    let found = session.parameters();
    let names: Vec<&str> = found.iter().map(|info| info.name.as_str()).collect();
    assert_eq!(names, expected.iter().map(|e| e.0).collect::<Vec<_>>());
    for (info, (name, shape, start)) in found.iter().zip(expected) {
        assert_eq!(info.shape.sizes(), *shape, "{name}");
        if info.dtype == F64 {
            check_values(&session, info.parameter, name, *start);
        }
    }
}

fn check_values(session: &Session<Reference>, parameter: Param, name: &str, start: Start) {
    let values = session.parameter::<f64>(parameter).unwrap();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let std = (values.iter().map(|v| v * v).sum::<f64>() / n).sqrt();
    let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    // Five standard errors, those of a variance being at most `sqrt(2 / n)` of it.
    let spread = |expected: f64| {
        assert!(
            mean.abs() < 5.0 * expected / n.sqrt(),
            "{name}: mean {mean}"
        );
        let off = (std / expected).powi(2) - 1.0;
        assert!(
            off.abs() < 5.0 * (2.0 / n).sqrt(),
            "{name}: deviation {std}"
        );
    };
    match start {
        Start::At(value) => assert!(values.iter().all(|&v| v == value), "{name}"),
        Start::Within(bound) => {
            assert!(largest <= bound, "{name}: {largest} is beyond {bound}");
            spread(bound / 3.0f64.sqrt());
        }
        Start::Normal => spread(1.0),
    }
}

#[test]
fn matrices() {
    let sizes = Features {
        input: 64,
        output: 100,
    };
    let within = Start::Within(1.0 / 8.0);
    check(
        |g| {
            Linear::new(g, "a", sizes, F64);
            g.scope("outer", |g| Linear::without_bias(g, "b", sizes, F64));
        },
        &[
            ("a.weight", &[100, 64], within),
            ("a.bias", &[100], within),
            ("outer.b.weight", &[100, 64], within),
        ],
    );
    check(
        |g| {
            let table = Table {
                rows: 300,
                width: 20,
            };
            Embedding::new(g, "e", table, F64);
        },
        &[("e.weight", &[300, 20], Start::Normal)],
    );
}

#[test]
fn convolutions() {
    let filter = Filter {
        input: 8,
        output: 40,
        taps: [3, 6],
        how: Convolution {
            groups: 4,
            ..Convolution::default()
        },
    };
    let within = Start::Within(1.0 / 6.0);
    let conv = filter.clone();
    check(
        |g| {
            Conv::new(g, "c", conv.clone(), F64);
            Conv::without_bias(g, "w", conv, F64);
        },
        &[
            ("c.weight", &[40, 2, 3, 6], within),
            ("c.bias", &[40], within),
            ("w.weight", &[40, 2, 3, 6], within),
        ],
    );
    // 10 channels and 18 taps.
    let within = Start::Within(1.0 / 180f64.sqrt());
    check(
        |g| {
            ConvTranspose::new(g, "c", filter.clone(), F64);
            ConvTranspose::without_bias(g, "w", filter, F64);
        },
        &[
            ("c.weight", &[8, 10, 3, 6], within),
            ("c.bias", &[40], within),
            ("w.weight", &[8, 10, 3, 6], within),
        ],
    );
}

#[test]
fn norms() {
    let (one, zero) = (Start::At(1.0), Start::At(0.0));
    check(
        |g| {
            LayerNorm::new(g, "l", 5, F64);
            RmsNorm::new(g, "r", 5, F64);
            let groups = Groups {
                groups: 2,
                channels: 6,
            };
            GroupNorm::new(g, "g", groups, F64);
            BatchNorm::new(g, "b", 3, F64);
        },
        &[
            ("l.weight", &[5], one),
            ("l.bias", &[5], zero),
            ("r.weight", &[5], one),
            ("g.weight", &[6], one),
            ("g.bias", &[6], zero),
            ("b.weight", &[3], one),
            ("b.bias", &[3], zero),
            ("b.running_mean", &[3], zero),
            ("b.running_var", &[3], one),
            ("b.num_batches_tracked", &[], zero),
        ],
    );
}

#[test]
fn attention() {
    let sizes = Block {
        width: 24,
        heads: 3,
        hidden: 49,
        activation: Activation::Relu,
    };
    let (one, zero) = (Start::At(1.0), Start::At(0.0));
    let [square, wide] = [24f64, 49.0].map(|fan_in| Start::Within(1.0 / fan_in.sqrt()));
    // Glorot's bound `sqrt(6 / (fan_in + fan_out))`.
    let in_proj = Start::Within((6.0 / (24.0 + 72.0f64)).sqrt());
    check(
        |g| {
            TransformerBlock::new(g, "b", sizes, F64);
        },
        &[
            ("b.self_attn.in_proj_weight", &[72, 24], in_proj),
            ("b.self_attn.in_proj_bias", &[72], zero),
            ("b.self_attn.out_proj.weight", &[24, 24], square),
            ("b.self_attn.out_proj.bias", &[24], zero),
            ("b.linear1.weight", &[49, 24], square),
            ("b.linear1.bias", &[49], square),
            ("b.linear2.weight", &[24, 49], wide),
            ("b.linear2.bias", &[24], wide),
            ("b.norm1.weight", &[24], one),
            ("b.norm1.bias", &[24], zero),
            ("b.norm2.weight", &[24], one),
            ("b.norm2.bias", &[24], zero),
        ],
    );
}

#[test]
fn recurrent() {
    let cells = Cells {
        input: 20,
        hidden: 25,
        layers: 2,
    };
    let rows = |gates: usize| 25 * gates;
    let layers = |make: &dyn Fn(&Graph), gates: usize| {
        let within = Start::Within(1.0 / 5.0);
        check(
            make,
            &[
                ("r.weight_ih_l0", &[rows(gates), 20], within),
                ("r.weight_hh_l0", &[rows(gates), 25], within),
                ("r.bias_ih_l0", &[rows(gates)], within),
                ("r.bias_hh_l0", &[rows(gates)], within),
                ("r.weight_ih_l1", &[rows(gates), 25], within),
                ("r.weight_hh_l1", &[rows(gates), 25], within),
                ("r.bias_ih_l1", &[rows(gates)], within),
                ("r.bias_hh_l1", &[rows(gates)], within),
            ],
        );
    };
    layers(
        &|g| assert_eq!(Rnn::new(g, "r", cells, F64).parameters(), g.parameters()),
        1,
    );
    layers(
        &|g| assert_eq!(Lstm::new(g, "r", cells, F64).parameters(), g.parameters()),
        4,
    );
    layers(
        &|g| assert_eq!(Gru::new(g, "r", cells, F64).parameters(), g.parameters()),
        3,
    );
}
