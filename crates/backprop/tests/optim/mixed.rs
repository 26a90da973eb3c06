//! Networks whose arithmetic has 16 bits and whose parameters have 32, under a loss scale.

use backprop::Reference;
#[cfg(feature = "cpu")]
use backprop::core::plan::Buffer;
use backprop::optim::{DynamicScale, LossScale};
use backprop::prelude::*;

/// Points on two rings, and which of them each is on.
fn rings() -> (Vec<f32>, Vec<i32>) {
    let class = |i: usize| i % 2;
    let point = |i: usize| {
        let (angle, radius) = (i as f32 * 0.8, 0.4 + 0.6 * class(i) as f32);
        [radius * angle.cos(), radius * angle.sin()]
    };
    let points = (0..32).flat_map(point).collect();
    (points, (0..32).map(|i| class(i) as i32).collect())
}

/// A network on them, and what to feed and watch.
struct Net<B: Backend> {
    session: Session<B>,
    x: Key,
    loss: Key,
    scale: [Param; 2],
}

impl<B: Backend> Net<B> {
    fn new(backend: B, dtype: DType, options: LossScale) -> Net<B> {
        let g = Graph::with_seed(3);
        let (x, labels) = (g.input("x", [32, 2], F32), g.input("labels", [32], I32));
        let master = |name: &str, shape: [usize; 2]| g.parameter(name, shape, F32, Init::Kaiming);
        let (w, v) = (master("w", [2, 16]), master("v", [16, 2]));
        let b = g.parameter("b", [16], F32, Init::Zeros);
        let narrow = |parameter: Param| g.read(parameter).cast(dtype);
        let hidden = (x.cast(dtype).matmul(narrow(w)) + narrow(b)).relu();
        let logits = hidden.matmul(narrow(v));
        assert_eq!(logits.dtype(), dtype);
        let loss = logits
            .cast(F32)
            .cross_entropy(labels, CrossEntropy::default());
        let scale = DynamicScale::new(&g, "loss_scale", options);
        let gradients = g.grad(scale.of(loss), &[w, b, v]).unwrap();
        let updates = scale.updates(&gradients, |gradients| {
            let how = AdamW {
                lr: 2e-2.into(),
                ..AdamW::default()
            };
            optim::adamw(&g, &[w, b, v], gradients, how)
        });
        let (points, classes) = rings();
        let mut session = Session::compile(&g, backend, &[loss.key()], updates).unwrap();
        session
            .feed(x, &points)
            .unwrap()
            .feed(labels, &classes)
            .unwrap();
        Net {
            session,
            x: x.key(),
            loss: loss.key(),
            scale: [scale.scale, scale.good_steps],
        }
    }

    fn step(&mut self) -> f64 {
        self.session.step().unwrap();
        self.session.scalar(self.loss).unwrap()
    }

    fn scale(&self) -> f32 {
        self.session.parameter::<f32>(self.scale[0]).unwrap()[0]
    }

    /// The bytes of all that steps change, but for the scale's.
    fn state(&self) -> Vec<Vec<u8>> {
        let all = self.session.parameters().into_iter();
        let others = all.filter(|info| !self.scale.contains(&info.parameter));
        others
            .map(|info| self.session.parameter_bytes(info.parameter).unwrap())
            .collect()
    }
}

fn learns(backend: &impl Backend) {
    for dtype in [F16, BF16] {
        let options = LossScale {
            interval: 40,
            initial: 1024.0,
            ..LossScale::default()
        };
        let mut net = Net::new(backend.clone(), dtype, options);
        let first = net.step();
        for _ in 0..119 {
            net.step();
        }
        let last = net.step();
        assert!(
            first > 0.5 && last < 0.05,
            "{dtype}: from {first} to {last}"
        );
        // Grown after 40, 80 and 120 good steps.
        assert_eq!(net.scale(), 8192.0, "{dtype}");
    }
}

#[test]
fn a_network_of_16_bits_learns_on_the_reference() {
    learns(&Reference);
}

#[cfg(feature = "cpu")]
#[test]
fn a_network_of_16_bits_learns_on_the_cpu() {
    learns(&Cpu::new().unwrap());
}

/// A step whose gradients overflow changes the scale and nothing else, and the next one is as if it had
/// not been.
#[test]
fn an_overflow_is_left_out() {
    let options = LossScale {
        initial: 256.0,
        interval: 3,
        ..LossScale::default()
    };
    let [mut net, mut other] = [(); 2].map(|()| Net::new(Reference, F16, options));
    let (points, _) = rings();
    // Beyond the largest number of 16 bits once multiplied by weights.
    let huge: Vec<f32> = points.iter().map(|x| x * 6e4).collect();
    for _ in 0..2 {
        net.step();
        other.step();
    }
    let before = net.state();
    net.session.feed(net.x, &huge).unwrap();
    for scale in [128.0, 64.0] {
        net.step();
        assert_eq!(net.scale(), scale);
        assert_eq!(net.state(), before);
    }
    net.session.feed(net.x, &points).unwrap();
    // The count of good steps began anew: growth after three more.
    for scale in [64.0, 64.0, 128.0, 128.0] {
        net.step();
        assert_eq!(net.scale(), scale);
    }
    for _ in 0..4 {
        other.step();
    }
    // Scales are powers of two: but for the smallest numbers of 16 bits, the gradients are the same.
    let [a, b] = [&mut net, &mut other].map(|net| net.step());
    assert!((a - b).abs() < 1e-3 * b, "{a}, not {b}");
}

/// Whether all gradients are finite is known before any of them is used: a step keeps them, and nothing
/// else of their size.
#[cfg(feature = "cpu")]
#[test]
fn a_scaled_step_keeps_its_gradients_and_no_more() {
    const WIDTH: usize = 256;
    let arena = |scaled: Option<LossScale>| {
        let g = Graph::new();
        let x = g.input("x", [8, WIDTH], F32);
        let w = g.parameter("w", [WIDTH, WIDTH], F32, Init::Kaiming);
        let loss = x.matmul(w).square().mean(..);
        let adamw = |gradients: &[Tensor<'_>]| optim::adamw(&g, &[w], gradients, AdamW::default());
        let updates = match scaled {
            None => adamw(&g.grad(loss, &[w]).unwrap()),
            Some(options) => {
                let scale = DynamicScale::new(&g, "loss_scale", options);
                let gradients = g.grad(scale.of(loss), &[w]).unwrap();
                scale.updates(&gradients, adamw)
            }
        };
        let session = Session::compile(&g, Cpu::new().unwrap(), &[], updates).unwrap();
        session.step_plan().bytes(Buffer::Arena)
    };
    let (plain, scaled) = (arena(None), arena(Some(LossScale::default())));
    let gradient = WIDTH * WIDTH * size_of::<f32>();
    assert!(scaled < plain + 2 * gradient, "{scaled}, without {plain}");
}
