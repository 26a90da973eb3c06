//! candle. Its fused layer norm, `max_pool2d` and `upsample_nearest2d` have no or wrong gradients in
//! this version, and are written out here.

use std::collections::HashMap;
use std::error::Error;

use backprop_benches::peer::{Call, Peer};
use backprop_benches::workload::{Slot, Values};
use candle_core::{D, Device, Result, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, SGD, loss, ops};

const VERSION: &str = "0.11.1";
/// What is fed; everything else is trained.
const DATA: [&str; 7] = ["x", "y", "labels", "tokens", "targets", "noise", "time"];

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let call = Call::from_arguments()?;
    let mut network = Network::new(&call)?;
    println!("{}", call.measure("candle", VERSION, &mut network)?);
    Ok(())
}

struct Network {
    workload: &'static str,
    trained: HashMap<String, Var>,
    data: HashMap<String, Tensor>,
    rules: Vec<Rule>,
    last: Option<Tensor>,
}

/// How parameters move.
enum Rule {
    Descent(SGD),
    Adam(AdamW),
    Momentum(Vec<(Var, Option<Tensor>)>),
}

impl Network {
    fn new(call: &Call) -> Result<Network> {
        let mut network = Network {
            workload: call.workload.id,
            trained: HashMap::new(),
            data: HashMap::new(),
            rules: Vec::new(),
            last: None,
        };
        for (name, (slot, values)) in &call.values {
            let tensor = tensor(slot, values)?;
            if DATA.contains(&name.as_str()) {
                network.data.insert(name.clone(), tensor);
            } else {
                let var = Var::from_tensor(&tensor)?;
                network.trained.insert(name.clone(), var);
            }
        }
        network.rules = network.rules()?;
        Ok(network)
    }

    fn rules(&self) -> Result<Vec<Rule>> {
        let all: Vec<Var> = self.trained.values().cloned().collect();
        let adam = |vars, weight_decay| {
            let options = ParamsAdamW {
                lr: 1e-3,
                weight_decay,
                ..ParamsAdamW::default()
            };
            AdamW::new(vars, options).map(Rule::Adam)
        };
        let rule = match self.workload {
            "W0" | "W1" => Rule::Descent(SGD::new(all, 0.1)?),
            "W3" | "W7" => Rule::Descent(SGD::new(all, 0.01)?),
            "W4" => Rule::Momentum(all.into_iter().map(|var| (var, None)).collect()),
            "W2" | "W5" => adam(all, 0.0)?,
            "W8" => adam(all, 0.01)?,
            "W6" => {
                let (matrices, vectors) = all.into_iter().partition(|var| var.rank() > 1);
                return Ok(vec![adam(matrices, 0.1)?, adam(vectors, 0.0)?]);
            }
            _ => Rule::Descent(SGD::new(all, 1e-3)?),
        };
        Ok(vec![rule])
    }

    fn parameter(&self, name: &str) -> Result<&Tensor> {
        let found = self.trained.get(name).map(Var::as_tensor);
        found.ok_or_else(|| candle_core::Error::Msg(format!("no parameter {name}")))
    }

    fn input(&self, name: &str) -> Result<&Tensor> {
        let found = self.data.get(name);
        found.ok_or_else(|| candle_core::Error::Msg(format!("no input {name}")))
    }

    fn linear(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let w = self.parameter(&format!("{name}.weight"))?;
        let rows = x.elem_count() / x.dim(D::Minus1)?;
        let flat = x.reshape((rows, x.dim(D::Minus1)?))?;
        let mut y = flat.matmul(&w.t()?)?;
        if let Ok(bias) = self.parameter(&format!("{name}.bias")) {
            y = y.broadcast_add(bias)?;
        }
        let mut sizes = x.dims().to_vec();
        if let Some(last) = sizes.last_mut() {
            *last = w.dim(0)?;
        }
        y.reshape(sizes)
    }

    fn conv(&self, number: usize, x: &Tensor) -> Result<Tensor> {
        let w = self.parameter(&format!("convs.{number}.weight"))?;
        let b = self.parameter(&format!("convs.{number}.bias"))?;
        let y = x.conv2d(w, 1, 1, 1, 1)?;
        y.broadcast_add(&b.reshape((1, b.elem_count(), 1, 1))?)
    }

    fn layer_norm(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let normed = normed(x)?.broadcast_mul(self.parameter(&format!("{name}.weight"))?)?;
        normed.broadcast_add(self.parameter(&format!("{name}.bias"))?)
    }

    fn group_norm(&self, number: usize, x: &Tensor) -> Result<Tensor> {
        let (rows, channels, height, width) = x.dims4()?;
        let groups = x.reshape((rows, 8, channels / 8 * height * width))?;
        let along = |part: &str| {
            let parameter = self.parameter(&format!("norms.{number}.{part}"))?;
            parameter.reshape((1, channels, 1, 1))
        };
        let y = normed(&groups)?.reshape(x.dims())?;
        y.broadcast_mul(&along("weight")?)?.broadcast_add(&along("bias")?)
    }

    fn forward(&self) -> Result<Tensor> {
        match self.workload {
            "W0" => ops::sigmoid(&self.perceptron(2)?),
            "W1" | "W2" => self.perceptron(3),
            "W3" => self.perceptron(4),
            "W4" => self.cnn(),
            "W5" => self.lstm(),
            "W6" => self.transformer(),
            "W7" => {
                let x = self.input("x")?;
                let inner = ((x * self.parameter("w")?)? + self.parameter("b")?)?;
                inner.gelu()? * ops::sigmoid(x)?
            }
            "W8" => self.unet(),
            _ => self.perceptron(100),
        }
    }

    fn perceptron(&self, layers: usize) -> Result<Tensor> {
        let mut x = self.input("x")?.clone();
        for layer in 0..layers {
            x = self.linear(&format!("layers.{layer}"), &x)?;
            if layer + 1 < layers {
                x = x.relu()?;
            }
        }
        Ok(x)
    }

    fn cnn(&self) -> Result<Tensor> {
        let x = self.conv(0, self.input("x")?)?.relu()?;
        let x = windows(&self.conv(1, &x)?.relu()?)?.max(5)?.max(3)?;
        let x = windows(&self.conv(2, &x)?.relu()?)?.max(5)?.max(3)?;
        self.linear("linear", &x.mean((2, 3))?)
    }

    fn lstm(&self) -> Result<Tensor> {
        let x = self.input("x")?;
        let (time, rows, _) = x.dims3()?;
        let of_input = self.parameter("lstm.weight_ih")?.t()?;
        let of_state = self.parameter("lstm.weight_hh")?.t()?;
        let bias = self.parameter("lstm.bias")?;
        let mut h = Tensor::zeros((rows, 128), x.dtype(), x.device())?;
        let mut c = h.clone();
        for t in 0..time {
            let z = x.get(t)?.matmul(&of_input)?.broadcast_add(bias)?;
            let z = (z + h.matmul(&of_state)?)?;
            let gates = z.chunk(4, 1)?;
            let [input, forget, output] = [0, 1, 3].map(|gate| ops::sigmoid(&gates[gate]));
            c = ((forget? * c)? + (input? * gates[2].tanh()?)?)?;
            h = (output? * c.tanh()?)?;
        }
        self.linear("linear", &h)
    }

    fn transformer(&self) -> Result<Tensor> {
        let tokens = self.input("tokens")?;
        let (rows, time) = tokens.dims2()?;
        let meanings = self.parameter("tokens.weight")?;
        let x = meanings.index_select(&tokens.flatten_all()?, 0)?;
        let x = x.reshape((rows, time, 128))?;
        let mut x = x.broadcast_add(self.parameter("positions.weight")?)?;
        let hidden = |i: usize| if i % time > i / time { f32::NEG_INFINITY } else { 0.0 };
        let mask: Vec<f32> = (0..time * time).map(hidden).collect();
        let mask = Tensor::from_vec(mask, (time, time), x.device())?;
        for block in 0..4 {
            let name = format!("blocks.{block}");
            let normed = self.layer_norm(&format!("{name}.norm1"), &x)?;
            let heads = self.linear(&format!("{name}.attention"), &normed)?;
            let heads = heads.reshape((rows, time, 3, 4, 32))?;
            let part = |i| heads.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
            let (q, k, v) = (part(0)?, part(1)?, part(2)?);
            let scores = (q.matmul(&k.t()?)? * (1.0 / 32f64.sqrt()))?;
            let weights = ops::softmax(&scores.broadcast_add(&mask)?, D::Minus1)?;
            let mixed = weights.matmul(&v)?.transpose(1, 2)?.reshape((rows, time, 128))?;
            x = (x + self.linear(&format!("{name}.projection"), &mixed)?)?;
            let normed = self.layer_norm(&format!("{name}.norm2"), &x)?;
            let up = self.linear(&format!("{name}.up"), &normed)?.gelu()?;
            x = (x + self.linear(&format!("{name}.down"), &up)?)?;
        }
        self.linear("head", &self.layer_norm("norm", &x)?)
    }

    fn unet(&self) -> Result<Tensor> {
        let time = |number: usize| {
            let y = self.linear(&format!("times.{number}"), self.input("time")?)?;
            y.unsqueeze(2)?.unsqueeze(3)
        };
        let block = |number: usize, x: &Tensor| {
            self.conv(number, &self.group_norm(number, x)?.silu()?)
        };
        let skip = self.conv(0, self.input("x")?)?.broadcast_add(&time(0)?)?;
        let pooled = windows(&skip)?.mean((3, 5))?;
        let small = block(1, &pooled)?.broadcast_add(&time(1)?)?;
        let (rows, channels, height, width) = small.dims4()?;
        let large = small.reshape((rows, channels, height, 1, width, 1))?;
        let large = large.broadcast_as((rows, channels, height, 2, width, 2))?;
        let large = large.contiguous()?;
        let large = large.reshape((rows, channels, 2 * height, 2 * width))?;
        let joined = Tensor::cat(&[&large, &skip], 1)?;
        block(3, &block(2, &joined)?.broadcast_add(&time(2)?)?)
    }

    fn loss_of(&self, output: &Tensor) -> Result<Tensor> {
        match self.workload {
            "W7" => output.sqr()?.mean_all(),
            "W8" => (output - self.input("noise")?)?.sqr()?.mean_all(),
            "W6" => {
                let targets = self.input("targets")?.flatten_all()?;
                loss::cross_entropy(&output.flatten(0, 1)?, &targets)
            }
            _ => match self.input("labels") {
                Ok(labels) => loss::cross_entropy(output, labels),
                Err(_) => (output - self.input("y")?)?.sqr()?.mean_all(),
            },
        }
    }

    fn train(&mut self) -> Result<()> {
        let loss = self.loss_of(&self.forward()?)?;
        let gradients = loss.backward()?;
        for rule in &mut self.rules {
            match rule {
                Rule::Descent(rule) => rule.step(&gradients)?,
                Rule::Adam(rule) => rule.step(&gradients)?,
                Rule::Momentum(vars) => {
                    for (var, direction) in vars {
                        let Some(gradient) = gradients.get(var) else {
                            continue;
                        };
                        let next = match direction.take() {
                            Some(direction) => ((direction * 0.9)? + gradient)?,
                            None => gradient.clone(),
                        };
                        var.set(&(var.as_tensor() - (&next * 0.01)?)?)?;
                        *direction = Some(next);
                    }
                }
            }
        }
        self.last = Some(loss);
        Ok(())
    }
}

impl Peer for Network {
    fn step(&mut self) -> std::result::Result<(), Box<dyn Error>> {
        Ok(self.train()?)
    }

    fn loss(&self) -> std::result::Result<f64, Box<dyn Error>> {
        let last = self.last.as_ref().ok_or("no step was taken")?;
        Ok(f64::from(last.to_scalar::<f32>()?))
    }

    fn infer(&mut self) -> std::result::Result<(), Box<dyn Error>> {
        let output = self.forward()?;
        drop(output);
        Ok(())
    }
}

/// Labels and tokens are unsigned here.
fn tensor(slot: &Slot, values: &Values) -> Result<Tensor> {
    let sizes = slot.shape.sizes();
    match values {
        Values::F32(values) => Tensor::from_slice(values, sizes, &Device::Cpu),
        Values::I32(values) => {
            let values: Vec<u32> = values.iter().map(|&value| value as u32).collect();
            Tensor::from_vec(values, sizes, &Device::Cpu)
        }
    }
}

/// Over the last axis.
fn normed(x: &Tensor) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + 1e-5)?.sqrt()?)
}

/// `[rows, channels, height, width]` as windows of two by two.
fn windows(x: &Tensor) -> Result<Tensor> {
    let (rows, channels, height, width) = x.dims4()?;
    x.reshape((rows, channels, height / 2, 2, width / 2, 2))
}
