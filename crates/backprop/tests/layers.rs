//! Layers against PyTorch's: a state dictionary that PyTorch saved is loaded by name, then outputs,
//! gradients and running statistics are compared (see the `README.md` in `tests/data/layers`).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;

use backprop::nn::{
    Activation, BatchNorm, Block, Cells, Conv, ConvTranspose, Embedding, Features, Filter,
    GroupNorm, Groups, Gru, Heads, Layer, LayerNorm, Linear, Lstm, MultiHeadAttention, RmsNorm,
    Rnn, Table, TransformerBlock,
};
use backprop::{
    Backend, Convolution, DType, Graph, Key, Mask, Param, Persist, Reference, Session, Tensor,
    Updates,
};
use safetensors::SafeTensors;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/layers");
const F64: DType = DType::F64;

/// Of a graph with every layer: what to feed by name, and what to compare.
struct Model<'g> {
    g: &'g Graph,
    values: &'g SafeTensors<'g>,
    feeds: Vec<(String, Tensor<'g>)>,
    results: Vec<(String, Tensor<'g>)>,
}

impl<'g> Model<'g> {
    fn input(&mut self, name: &str) -> Tensor<'g> {
        let stored = self.values.tensor(name).unwrap();
        let dtype = match stored.dtype() {
            safetensors::Dtype::F64 => F64,
            _ => DType::I64,
        };
        let input = self.g.input(&name.replace('/', "_"), stored.shape(), dtype);
        self.feeds.push((name.to_owned(), input));
        input
    }

    /// Compares an output with its gradients.
    fn output(&mut self, name: &str, x: Tensor<'g>, y: Tensor<'g>, parameters: &[Param]) {
        let cotangent = self.input(&format!("{name}/weight"));
        self.results.push((format!("{name}/y"), y));
        let layer = name.split('.').next().unwrap();
        let prefix = format!("{layer}.");
        let mut wrt = Vec::new();
        if x.dtype() == F64 {
            wrt.push(("x".to_owned(), x));
        }
        for &parameter in parameters {
            let name = self.g.name(parameter);
            let short = name.strip_prefix(&prefix).unwrap().to_owned();
            wrt.push((short, self.g.read(parameter)));
        }
        let tensors: Vec<Tensor<'g>> = wrt.iter().map(|&(_, x)| x).collect();
        let gradients = self.g.vjp(&[(y, cotangent)], &tensors).unwrap();
        for ((short, _), gradient) in wrt.into_iter().zip(gradients) {
            self.results.push((format!("{name}/d_{short}"), gradient));
        }
    }

    fn layer(&mut self, name: &str, layer: &impl Layer) {
        let x = self.input(&format!("{name}/x"));
        self.output(name, x, layer.forward(x), &layer.parameters());
    }

    fn dense(&mut self) {
        let g = self.g;
        let sizes = Features {
            input: 5,
            output: 4,
        };
        self.layer("linear", &Linear::new(g, "linear", sizes, F64));
        self.layer("plain", &Linear::without_bias(g, "plain", sizes, F64));
        let table = Table { rows: 7, width: 4 };
        self.layer("embedding", &Embedding::new(g, "embedding", table, F64));
    }

    fn convolutions(&mut self) {
        let g = self.g;
        let filter = Filter {
            input: 4,
            output: 6,
            taps: [3],
            how: Convolution {
                stride: 2.into(),
                padding: 1.into(),
                groups: 2,
                ..Convolution::default()
            },
        };
        self.layer("conv1", &Conv::new(g, "conv1", filter.clone(), F64));
        let up = ConvTranspose {
            further: 1.into(),
            ..ConvTranspose::new(g, "up1", filter, F64)
        };
        self.layer("up1", &up);
        let filter = |how: Convolution| Filter {
            input: 2,
            output: 3,
            taps: [3, 2],
            how,
        };
        let wide = filter(Convolution {
            dilation: [1, 2].into(),
            ..Convolution::default()
        });
        self.layer("conv2", &Conv::new(g, "conv2", wide, F64));
        let twice = filter(Convolution {
            stride: 2.into(),
            ..Convolution::default()
        });
        self.layer("up2", &ConvTranspose::new(g, "up2", twice, F64));
        let filter = Filter {
            input: 2,
            output: 3,
            taps: [2, 2, 2],
            how: Convolution::default(),
        };
        self.layer("conv3", &Conv::new(g, "conv3", filter, F64));
    }

    /// Gives what a training step does to the running statistics.
    fn norms(&mut self) -> Updates {
        let g = self.g;
        self.layer("layer_norm", &LayerNorm::new(g, "layer_norm", 5, F64));
        self.layer("rms_norm", &RmsNorm::new(g, "rms_norm", 5, F64));
        let groups = Groups {
            groups: 2,
            channels: 4,
        };
        self.layer("group_norm", &GroupNorm::new(g, "group_norm", groups, F64));
        let norm = BatchNorm::new(g, "batch_norm", 2, F64);
        let x = self.input("batch_norm.eval/x");
        self.output("batch_norm.eval", x, norm.eval(x), &norm.parameters());
        let x = self.input("batch_norm/x");
        let (y, moved) = norm.train(x);
        self.output("batch_norm", x, y, &norm.parameters());
        moved
    }

    fn sequences(&mut self) {
        let g = self.g;
        let heads = Heads { width: 6, heads: 2 };
        let attention = MultiHeadAttention::new(g, "attention", heads, F64);
        let x = self.input("attention/x");
        let y = attention.forward(x, Mask::Causal);
        self.output("attention", x, y, &attention.parameters());
        let x = self.input("attention.cross/x");
        let memory = self.input("attention.cross/memory");
        let y = attention.attend(x, memory, Mask::None);
        self.output("attention.cross", x, y, &attention.parameters());
        let sizes = Block {
            width: 6,
            heads: 2,
            hidden: 8,
            activation: Activation::Gelu,
        };
        let block = TransformerBlock::new(g, "block", sizes, F64);
        let x = self.input("block/x");
        let y = block.forward(x, Mask::Causal);
        self.output("block", x, y, &block.parameters());
        let cells = Cells {
            input: 3,
            hidden: 4,
            layers: 2,
        };
        self.layer("rnn", &Rnn::new(g, "rnn", cells, F64));
        self.layer("lstm", &Lstm::new(g, "lstm", cells, F64));
        self.layer("gru", &Gru::new(g, "gru", cells, F64));
    }
}

fn check(backend: impl Backend) {
    let bytes = fs::read(format!("{FOLDER}/values.safetensors")).unwrap();
    let values = SafeTensors::deserialize(&bytes).unwrap();
    let g = Graph::new();
    let mut model = Model {
        g: &g,
        values: &values,
        feeds: Vec::new(),
        results: Vec::new(),
    };
    model.dense();
    model.convolutions();
    let moved = model.norms();
    model.sequences();
    let keys: Vec<Key> = model.results.iter().map(|(_, t)| t.key()).collect();
    let mut session = Session::compile(&g, backend, &keys, moved).unwrap();
    session.load(format!("{FOLDER}/model.safetensors")).unwrap();
    let words = |name: &str| values.tensor(name).unwrap().data().as_chunks::<8>().0;
    let floats = |name: &str| words(name).iter().map(|&word| f64::from_le_bytes(word));
    for (name, input) in &model.feeds {
        if input.dtype() == DType::I64 {
            let indices = words(name).iter().map(|&word| i64::from_le_bytes(word));
            session.feed(*input, &indices.collect::<Vec<_>>()).unwrap();
        } else {
            session
                .feed(*input, &floats(name).collect::<Vec<_>>())
                .unwrap();
        }
    }
    session.step().unwrap();
    for (name, tensor) in &model.results {
        let expected: Vec<f64> = floats(name).collect();
        close(name, &session.fetch::<f64>(*tensor).unwrap(), &expected);
    }
    let mut compared = model.results.len();
    for info in session.parameters() {
        let Some(state) = info.name.strip_prefix("batch_norm.") else {
            continue;
        };
        let stored = format!("batch_norm/{state}");
        if state.starts_with("running_") {
            let expected: Vec<f64> = floats(&stored).collect();
            let moved = session.parameter::<f64>(info.parameter).unwrap();
            close(&info.name, &moved, &expected);
            compared += 1;
        } else if state == "num_batches_tracked" {
            assert_eq!(session.parameter::<i64>(info.parameter).unwrap(), [4]);
            compared += 1;
        }
    }
    // Every tensor of the file was fed or compared.
    assert_eq!(model.feeds.len() + compared, values.names().len());
}

#[track_caller]
fn close(name: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        // PyTorch's gradients by the biases of keys are rounding errors around 0.
        let allowed = 1e-9 * largest + 1e-13;
        assert!((g - e).abs() <= allowed, "{name}[{i}] is {g}, not {e}");
    }
}

#[test]
fn reference() {
    check(Reference);
}

#[cfg(feature = "cpu")]
#[test]
fn cpu() {
    check(backprop::Cpu::new().unwrap());
}

/// What a session saves is what PyTorch saved: the same names, types, shapes and bytes.
#[test]
fn a_state_dictionary_comes_back() {
    let g = Graph::new();
    let cells = Cells {
        input: 3,
        hidden: 4,
        layers: 2,
    };
    Gru::new(&g, "gru", cells, F64);
    BatchNorm::new(&g, "batch_norm", 2, F64);
    let model = g.parameters();
    let keep = g.full([1], 0.0, F64);
    let mut session = Session::compile(&g, Reference, &[keep.key()], Updates::none()).unwrap();
    let bytes = fs::read(format!("{FOLDER}/model.safetensors")).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    for &parameter in &model {
        let values = stored.tensor(&g.name(parameter)).unwrap();
        session
            .set_parameter_bytes(parameter, values.data())
            .unwrap();
    }
    let file = std::env::temp_dir().join(format!("backprop-layers-{}", std::process::id()));
    session.save_only(&model, &file).unwrap();
    let bytes = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let saved = SafeTensors::deserialize(&bytes).unwrap();
    let kept = |name: &&str| name.starts_with("gru.") || name.starts_with("batch_norm.");
    let mut names: Vec<&str> = stored.names().into_iter().filter(kept).collect();
    let mut found = saved.names();
    names.sort_unstable();
    found.sort_unstable();
    assert_eq!(names, found);
    for name in names {
        let [left, right] = [&stored, &saved].map(|file| file.tensor(name).unwrap());
        assert_eq!(left.dtype(), right.dtype(), "{name}");
        assert_eq!(left.shape(), right.shape(), "{name}");
        assert_eq!(left.data(), right.data(), "{name}");
    }
}

/// A weight of PyTorch's layout is trained by as many launches as one stored the other way round: its
/// gradient is a product, not the copy of one.
#[cfg(feature = "cpu")]
#[test]
fn a_weight_is_updated_where_its_gradient_is_computed() {
    use backprop::optim::{self, AdamW};

    let launches = |build: &dyn Fn(&Graph) -> (Key, Vec<Param>)| {
        let g = Graph::new();
        let (loss, parameters) = build(&g);
        let loss = g.lookup(loss).unwrap();
        let gradients = g.grad(loss, &parameters).unwrap();
        let updates = optim::adamw(&g, &parameters, &gradients, AdamW::default());
        let backend = backprop::Cpu::new().unwrap();
        let session = Session::compile(&g, backend, &[loss.key()], updates).unwrap();
        session.plan_text().lines().count()
    };
    let ours = launches(&|g| {
        let x = g.input("x", [4, 8, 16], DType::F32);
        let sizes = Features {
            input: 16,
            output: 32,
        };
        let fc = Linear::new(g, "fc", sizes, DType::F32);
        (fc.forward(x).square().mean(..).key(), fc.parameters())
    });
    let plain = launches(&|g| {
        let x = g.input("x", [4, 8, 16], DType::F32);
        let weight = g.parameter("w", [16, 32], DType::F32, backprop::Init::Kaiming);
        let bias = g.parameter("b", [32], DType::F32, backprop::Init::Zeros);
        let y = x.matmul(weight) + bias;
        (y.square().mean(..).key(), vec![weight, bias])
    });
    assert_eq!(ours, plain);
}
