//! burn, on its CPU backend.

use std::collections::HashMap;
use std::error::Error;

use backprop_benches::peer::{Call, Peer};
use backprop_benches::workload::{Slot, Values};
use burn::module::{Module, Param, ParamGroup};
use burn::optim::{
    AdamConfig, AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig, momentum::MomentumConfig,
};
use burn::tensor::module::{attention, avg_pool2d, conv2d, interpolate, layer_norm, linear, max_pool2d};
use burn::tensor::ops::{
    AttentionModuleOptions, AvgPoolOptions, ConvOptions, InterpolateMode, InterpolateOptions,
    MaxPoolOptions,
};
use burn::tensor::{Device, Int, Tensor, TensorData, activation};

const VERSION: &str = "0.23.0-pre.1";
/// What is fed; everything else is trained.
const DATA: [&str; 7] = ["x", "y", "labels", "tokens", "targets", "noise", "time"];
/// Of Adam; the default here is another one than elsewhere.
const EPSILON: f32 = 1e-8;

fn main() -> Result<(), Box<dyn Error>> {
    let call = Call::from_arguments()?;
    let mut network = Network::new(&call)?;
    println!("{}", call.measure("burn", VERSION, &mut network)?);
    Ok(())
}

/// All parameters, by the number of their axes.
#[derive(Module, Debug)]
struct Weights {
    vectors: Vec<Param<Tensor<1>>>,
    matrices: Vec<Param<Tensor<2>>>,
    filters: Vec<Param<Tensor<4>>>,
}

struct Network {
    workload: &'static str,
    weights: Weights,
    /// Where in its list of [`Weights`] a parameter is.
    places: HashMap<String, usize>,
    data: HashMap<String, (Vec<usize>, Tensor<1>)>,
    classes: HashMap<String, (Vec<usize>, Tensor<1, Int>)>,
    optimizer: ModuleOptimizer,
    rate: f64,
    last: Option<Tensor<1>>,
}

impl Network {
    fn new(call: &Call) -> Result<Network, Box<dyn Error>> {
        let device = Device::flex().autodiff();
        let mut weights = Weights::none();
        let (mut places, mut data, mut classes) = (HashMap::new(), HashMap::new(), HashMap::new());
        for (name, (slot, values)) in &call.values {
            let sizes = slot.shape.sizes().to_vec();
            if !DATA.contains(&name.as_str()) {
                places.insert(name.clone(), weights.add((slot, values), &device)?);
                continue;
            }
            let count = [slot.shape.count()];
            match values {
                Values::F32(values) => {
                    let values = TensorData::new(values.clone(), count);
                    data.insert(name.clone(), (sizes, Tensor::from_data(values, &device)));
                }
                Values::I32(values) => {
                    let values = TensorData::new(values.clone(), count);
                    classes.insert(name.clone(), (sizes, Tensor::from_data(values, &device)));
                }
            }
        }
        let workload = call.workload.id;
        let (optimizer, rate) = optimizer(workload, &weights);
        Ok(Network {
            workload,
            weights,
            places,
            data,
            classes,
            optimizer,
            rate,
            last: None,
        })
    }
}

impl Weights {
    fn none() -> Weights {
        Weights {
            vectors: Vec::new(),
            matrices: Vec::new(),
            filters: Vec::new(),
        }
    }

    /// Adds a parameter and tells its place. Matrices of products are `[in, out]` here.
    fn add(
        &mut self,
        (slot, values): (&Slot, &Values),
        device: &Device,
    ) -> Result<usize, Box<dyn Error>> {
        let Values::F32(values) = values else {
            return Err(format!("{} is no float", slot.name).into());
        };
        let data = TensorData::new(values.clone(), slot.shape.sizes().to_vec());
        let place = match slot.shape.sizes().len() {
            1 => {
                self.vectors.push(Param::from_data(data, device));
                self.vectors.len()
            }
            2 => {
                let matrix = Tensor::<2>::from_data(data, device);
                let is_table = ["tokens.weight", "positions.weight"].contains(&slot.name.as_str());
                let matrix = match is_table {
                    true => matrix,
                    false => Tensor::from_data(matrix.transpose().into_data(), device),
                };
                self.matrices.push(Param::from_tensor(matrix));
                self.matrices.len()
            }
            _ => {
                self.filters.push(Param::from_data(data, device));
                self.filters.len()
            }
        };
        Ok(place - 1)
    }
}

/// What moves the parameters, and how fast.
fn optimizer(workload: &str, weights: &Weights) -> (ModuleOptimizer, f64) {
    let adamw = |decay: f32| {
        let options = AdamWConfig::new().with_epsilon(EPSILON);
        options.with_weight_decay(decay)
    };
    match workload {
        "W0" | "W1" => (SgdConfig::new().init(), 0.1),
        "W3" | "W7" => (SgdConfig::new().init(), 0.01),
        "W4" => {
            let momentum = MomentumConfig::new().with_momentum(0.9).with_dampening(0.0);
            let options = SgdConfig::new().with_momentum(Some(momentum));
            (options.init(), 0.01)
        }
        "W2" | "W5" => (AdamConfig::new().with_epsilon(EPSILON).init(), 1e-3),
        "W8" => (adamw(0.01).init(), 1e-3),
        "W6" => {
            let vectors = weights.vectors.iter().map(|vector| vector.id);
            let vectors = ParamGroup::from_ids(vectors.collect::<Vec<_>>());
            let plain = adamw(0.0).build();
            (adamw(0.1).init().with_group(vectors, plain, None), 1e-3)
        }
        _ => (SgdConfig::new().init(), 1e-3),
    }
}

/// A network with weights that are trained, or that are not.
struct Forward<'a> {
    network: &'a Network,
    weights: &'a Weights,
}

impl Forward<'_> {
    fn vector(&self, name: &str) -> Tensor<1> {
        self.weights.vectors[self.network.places[name]].val()
    }

    fn matrix(&self, name: &str) -> Tensor<2> {
        self.weights.matrices[self.network.places[name]].val()
    }

    fn filter(&self, name: &str) -> Tensor<4> {
        self.weights.filters[self.network.places[name]].val()
    }

    fn has(&self, name: &str) -> bool {
        self.network.places.contains_key(name)
    }

    fn input<const D: usize>(&self, name: &str) -> Tensor<D> {
        self.network.input(name)
    }

    fn linear<const D: usize>(&self, name: &str, x: Tensor<D>) -> Tensor<D> {
        let bias = format!("{name}.bias");
        let bias = self.has(&bias).then(|| self.vector(&bias));
        linear(x, self.matrix(&format!("{name}.weight")), bias)
    }

    fn conv(&self, number: usize, x: Tensor<4>) -> Tensor<4> {
        let name = format!("convs.{number}");
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
        conv2d(x, self.filter(&weight), Some(self.vector(&bias)), options)
    }

    fn layer_norm(&self, name: &str, x: Tensor<3>) -> Tensor<3> {
        let [weight, bias] = ["weight", "bias"].map(|part| self.vector(&format!("{name}.{part}")));
        layer_norm(x, weight, Some(bias), 1e-5)
    }

    fn group_norm(&self, number: usize, x: Tensor<4>) -> Tensor<4> {
        let [rows, channels, height, width] = x.dims();
        let groups = x.reshape([rows, 8, channels / 8 * height * width]);
        let centred = groups.clone() - groups.mean_dim(2);
        let variance = centred.clone().square().mean_dim(2);
        let y = (centred / (variance + 1e-5).sqrt()).reshape([rows, channels, height, width]);
        let along = |part: &str| {
            let parameter = self.vector(&format!("norms.{number}.{part}"));
            parameter.reshape([1, channels, 1, 1])
        };
        y * along("weight") + along("bias")
    }

    /// Of `[rows, width]`, with everything but the last axis flattened.
    fn output(&self) -> Tensor<2> {
        match self.network.workload {
            "W0" => activation::sigmoid(self.perceptron(2)),
            "W1" | "W2" => self.perceptron(3),
            "W3" => self.perceptron(4),
            "W4" => self.cnn(),
            "W5" => self.lstm(),
            "W6" => self.transformer(),
            "W7" => self.elementwise().unsqueeze(),
            "W8" => self.unet().flatten(1, 3),
            _ => self.perceptron(100),
        }
    }

    fn perceptron(&self, layers: usize) -> Tensor<2> {
        (0..layers).fold(self.input("x"), |x, layer| {
            let x = if layer > 0 { activation::relu(x) } else { x };
            self.linear(&format!("layers.{layer}"), x)
        })
    }

    fn elementwise(&self) -> Tensor<1> {
        let x: Tensor<1> = self.input("x");
        let inner = x.clone() * self.vector("w") + self.vector("b");
        activation::gelu_approximate(inner) * activation::sigmoid(x)
    }

    fn cnn(&self) -> Tensor<2> {
        let pool = |x| max_pool2d(x, MaxPoolOptions::new([2, 2]));
        let x = activation::relu(self.conv(0, self.input("x")));
        let x = pool(activation::relu(self.conv(1, x)));
        let x = pool(activation::relu(self.conv(2, x)));
        let mean = x.flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2);
        self.linear("linear", mean)
    }

    fn lstm(&self) -> Tensor<2> {
        let x: Tensor<3> = self.input("x");
        let [time, rows, width] = x.dims();
        let (of_state, bias) = (self.matrix("lstm.weight_hh"), self.vector("lstm.bias"));
        let flat = x.reshape([time * rows, width]);
        let projected = linear(flat, self.matrix("lstm.weight_ih"), Some(bias));
        let mut h = Tensor::<2>::zeros([rows, 128], &projected.device());
        let mut c = h.clone();
        for part in projected.chunk(time, 0) {
            let z = part + h.clone().matmul(of_state.clone());
            let Ok([input, forget, cell, output]) = <[_; 4]>::try_from(z.chunk(4, 1)) else {
                break;
            };
            let sigmoid = activation::sigmoid::<2>;
            c = sigmoid(forget) * c + sigmoid(input) * cell.tanh();
            h = sigmoid(output) * c.clone().tanh();
        }
        self.linear("linear", h)
    }

    fn transformer(&self) -> Tensor<2> {
        let (sizes, tokens) = &self.network.classes["tokens"];
        let [rows, time] = [sizes[0], sizes[1]];
        let meanings = self.matrix("tokens.weight").select(0, tokens.clone());
        let positions = self.matrix("positions.weight").unsqueeze::<3>();
        let mut x = meanings.reshape([rows, time, 128]) + positions;
        let options = AttentionModuleOptions {
            is_causal: true,
            ..Default::default()
        };
        for block in 0..4 {
            let name = |part: &str| format!("blocks.{block}.{part}");
            let heads = self.linear(&name("attention"), self.layer_norm(&name("norm1"), x.clone()));
            let Ok(parts) = <[_; 3]>::try_from(heads.chunk(3, 2)) else {
                break;
            };
            let [q, k, v] = parts.map(|x: Tensor<3>| x.reshape([rows, time, 4, 32]).swap_dims(1, 2));
            let mixed = attention(q, k, v, None, None, options.clone());
            let mixed = mixed.swap_dims(1, 2).reshape([rows, time, 128]);
            x = x + self.linear(&name("projection"), mixed);
            let up = self.linear(&name("up"), self.layer_norm(&name("norm2"), x.clone()));
            x = x + self.linear(&name("down"), activation::gelu_approximate(up));
        }
        self.linear("head", self.layer_norm("norm", x)).flatten(0, 1)
    }

    fn unet(&self) -> Tensor<4> {
        let time = |number: usize| {
            let y: Tensor<2> = self.linear(&format!("times.{number}"), self.input("time"));
            let [rows, channels] = y.dims();
            y.reshape([rows, channels, 1, 1])
        };
        let block = |number: usize, x: Tensor<4>| {
            self.conv(number, activation::silu(self.group_norm(number, x)))
        };
        let skip = self.conv(0, self.input("x")) + time(0);
        let pooled = avg_pool2d(skip.clone(), AvgPoolOptions::new([2, 2]));
        let small = block(1, pooled) + time(1);
        let nearest = InterpolateOptions {
            output_size: Some([16, 16]),
            ..InterpolateOptions::new(InterpolateMode::Nearest)
        };
        let large = interpolate(small, nearest);
        let joined = Tensor::cat(vec![large, skip], 1);
        block(3, block(2, joined) + time(2))
    }

    fn loss(&self) -> Tensor<1> {
        let output = self.output();
        match self.network.workload {
            "W7" => output.square().mean(),
            "W0" | "W9" | "W9-3163" => (output - self.input("y")).square().mean(),
            "W8" => (output - self.input::<4>("noise").flatten(1, 3)).square().mean(),
            "W6" => entropy(output, &self.network.classes["targets"].1),
            _ => entropy(output, &self.network.classes["labels"].1),
        }
    }
}

fn entropy(logits: Tensor<2>, classes: &Tensor<1, Int>) -> Tensor<1> {
    let classes = classes.clone().unsqueeze_dim(1);
    activation::log_softmax(logits, 1).gather(1, classes).mean().neg()
}

impl Network {
    fn input<const D: usize>(&self, name: &str) -> Tensor<D> {
        let (sizes, values) = &self.data[name];
        let mut shape = [1; D];
        shape.copy_from_slice(sizes);
        values.clone().reshape(shape)
    }
}

impl Peer for Network {
    fn step(&mut self) -> Result<(), Box<dyn Error>> {
        let forward = Forward {
            network: self,
            weights: &self.weights,
        };
        let loss = forward.loss();
        let gradients = GradientsParams::from_grads(loss.backward(), &self.weights);
        let weights = std::mem::replace(&mut self.weights, Weights::none());
        self.weights = self.optimizer.step(self.rate, weights, gradients);
        self.last = Some(loss);
        Ok(())
    }

    fn loss(&self) -> Result<f64, Box<dyn Error>> {
        let last = self.last.clone().ok_or("no step was taken")?;
        Ok(f64::from(last.into_scalar::<f32>()))
    }

    fn infer(&mut self) -> Result<(), Box<dyn Error>> {
        let forward = Forward {
            network: self,
            weights: &self.weights.valid(),
        };
        drop(forward.output());
        Ok(())
    }
}
