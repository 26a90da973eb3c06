//! A small U-Net (Ronneberger et al., arXiv:1505.04597) of residual blocks that know the time and the
//! class, as Ho et al. have them (arXiv:2006.11239).

use backprop::nn::{Conv, Embedding, Features, Filter, GroupNorm, Groups, Layer, Linear, Table};
use backprop::prelude::*;
use backprop::{Convolution, Divisor, Pool, Resample};

/// Channels at full and at half resolution.
const CHANNELS: [usize; 2] = [32, 64];
/// Numbers that stand for a time.
const WAVES: usize = 64;
/// Numbers that stand for time and class together.
const CONTEXT: usize = 128;
const GROUPS: usize = 8;

/// Predicts the velocity of covered images: full resolution, half resolution, and back, where what was
/// seen at full resolution is put beside.
#[derive(Clone)]
pub(crate) struct UNet {
    time: [Linear; 2],
    class: Embedding,
    stem: Conv,
    down: Block,
    middle: [Block; 2],
    up: Block,
    norm: GroupNorm,
    head: Conv,
}

impl UNet {
    pub(crate) fn new(g: &Graph, classes: usize) -> Self {
        let [fine, coarse] = CHANNELS;
        let linear = |name, input| {
            let features = Features {
                input,
                output: CONTEXT,
            };
            Linear::new(g, name, features, F32)
        };
        let table = Table {
            rows: classes,
            width: CONTEXT,
        };
        Self {
            time: [linear("time1", WAVES), linear("time2", CONTEXT)],
            class: Embedding::new(g, "class", table, F32),
            stem: conv(g, "stem", [1, fine], 3),
            down: Block::new(g, "down", [fine, fine]),
            middle: [
                Block::new(g, "middle1", [fine, coarse]),
                Block::new(g, "middle2", [coarse, coarse]),
            ],
            up: Block::new(g, "up", [coarse + fine, fine]),
            norm: norm(g, "norm", fine),
            head: conv(g, "head", [fine, 1], 3),
        }
    }

    /// The velocities of images `[batch, 1, rows, columns]` at times `f32[batch]`, for classes
    /// `[batch]`.
    pub(crate) fn predict<'g>(
        &self,
        x: Tensor<'g>,
        time: Tensor<'g>,
        class: Tensor<'g>,
    ) -> Tensor<'g> {
        let g = x.graph();
        let [first, second] = &self.time;
        let time = second.forward(first.forward(waves(time)).silu());
        let context = (time + self.class.forward(class)).silu();

        let seen = self.down.forward(self.stem.forward(x), context);
        let pooled = seen.avg_pool(Pool::default(), Divisor::default());
        let coarse = |x: Tensor<'g>, block: &Block| block.forward(x, context);
        let y = self.middle.iter().fold(pooled, coarse);
        let y = y.interpolate(&x.shape().sizes()[2..], Resample::Nearest);
        let y = self.up.forward(g.concat(&[y, seen], 1), context);
        self.head.forward(self.norm.forward(y).silu())
    }

    pub(crate) fn parameters(&self) -> Vec<Param> {
        self.clone().slots().into_iter().map(|slot| *slot).collect()
    }

    /// The same network with other parameters, in the order of [`parameters`](UNet::parameters).
    pub(crate) fn with(&self, parameters: &[Param]) -> Self {
        let mut network = self.clone();
        for (slot, parameter) in network.slots().into_iter().zip(parameters) {
            *slot = *parameter;
        }
        network
    }
}

/// Sines and cosines of the times `[batch]`, of wavelengths that grow by equal factors (Vaswani et al.,
/// arXiv:1706.03762, section 3.5, for a thousand steps of time): `[batch, WAVES]`.
fn waves(time: Tensor<'_>) -> Tensor<'_> {
    let g = time.graph();
    let half = WAVES / 2;
    let number = g.coordinate([half], 0).cast(F32);
    let rates = (number * (-(1e4f64.ln()) / (half - 1) as f64)).exp() * 1e3;
    let angles = time.unsqueeze(-1) * rates;
    g.concat(&[angles.sin(), angles.cos()], -1)
}

/// Two convolutions beside a shortcut, told of the context between them.
#[derive(Clone)]
struct Block {
    norms: [GroupNorm; 2],
    convs: [Conv; 2],
    context: Linear,
    /// Where the number of channels changes.
    shortcut: Option<Conv>,
}

impl Block {
    fn new(g: &Graph, name: &str, [input, output]: [usize; 2]) -> Self {
        let features = Features {
            input: CONTEXT,
            output,
        };
        g.scope(name, |g| Self {
            norms: [norm(g, "norm1", input), norm(g, "norm2", output)],
            convs: [
                conv(g, "conv1", [input, output], 3),
                conv(g, "conv2", [output, output], 3),
            ],
            context: Linear::new(g, "context", features, F32),
            shortcut: (input != output).then(|| conv(g, "shortcut", [input, output], 1)),
        })
    }

    fn forward<'g>(&self, x: Tensor<'g>, context: Tensor<'g>) -> Tensor<'g> {
        let part = |x, i: usize| self.convs[i].forward(self.norms[i].forward(x).silu());
        let told = self.context.forward(context).unsqueeze(-1).unsqueeze(-1);
        let y = part(part(x, 0) + told, 1);
        y + self.shortcut.as_ref().map_or(x, |conv| conv.forward(x))
    }
}

fn conv(g: &Graph, name: &str, [input, output]: [usize; 2], taps: usize) -> Conv {
    let how = Convolution {
        padding: (taps / 2).into(),
        ..Convolution::default()
    };
    let filter = Filter {
        input,
        output,
        taps: [taps, taps],
        how,
    };
    Conv::new(g, name, filter, F32)
}

fn norm(g: &Graph, name: &str, channels: usize) -> GroupNorm {
    let groups = Groups {
        groups: GROUPS,
        channels,
    };
    GroupNorm::new(g, name, groups, F32)
}

/// Something whose parameters can be exchanged.
trait Slots {
    fn slots(&mut self) -> Vec<&mut Param>;
}

impl Slots for Conv {
    fn slots(&mut self) -> Vec<&mut Param> {
        [&mut self.weight]
            .into_iter()
            .chain(&mut self.bias)
            .collect()
    }
}

impl Slots for Linear {
    fn slots(&mut self) -> Vec<&mut Param> {
        [&mut self.weight]
            .into_iter()
            .chain(&mut self.bias)
            .collect()
    }
}

impl Slots for Embedding {
    fn slots(&mut self) -> Vec<&mut Param> {
        vec![&mut self.weight]
    }
}

impl Slots for GroupNorm {
    fn slots(&mut self) -> Vec<&mut Param> {
        vec![&mut self.weight, &mut self.bias]
    }
}

impl Slots for Block {
    fn slots(&mut self) -> Vec<&mut Param> {
        let norms = self.norms.iter_mut().flat_map(Slots::slots);
        let convs = self.convs.iter_mut().chain(&mut self.shortcut);
        norms
            .chain(convs.flat_map(Slots::slots))
            .chain(self.context.slots())
            .collect()
    }
}

impl Slots for UNet {
    fn slots(&mut self) -> Vec<&mut Param> {
        let blocks = [&mut self.down].into_iter().chain(&mut self.middle);
        let convs = [&mut self.stem, &mut self.head];
        self.time
            .iter_mut()
            .flat_map(Slots::slots)
            .chain(self.class.slots())
            .chain(blocks.chain([&mut self.up]).flat_map(Slots::slots))
            .chain(convs.into_iter().flat_map(Slots::slots))
            .chain(self.norm.slots())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn exchanges_every_parameter_once() {
        let g = Graph::new();
        let network = UNet::new(&g, 3);
        let names = |network: &UNet| -> Vec<String> {
            let parameters = network.parameters();
            parameters.into_iter().map(|p| g.name(p)).collect()
        };
        let own: HashSet<String> = names(&network).into_iter().collect();
        let all: HashSet<String> = g.parameters().into_iter().map(|p| g.name(p)).collect();
        assert_eq!(own, all);
        assert_eq!(network.parameters().len(), all.len());

        let other = g.scope("other", |g| UNet::new(g, 3));
        let exchanged = network.with(&other.parameters());
        assert_eq!(names(&exchanged), names(&other));
    }

    #[test]
    fn gives_back_the_shape_of_any_image() {
        let g = Graph::new();
        let network = UNet::new(&g, 10);
        let (time, class) = (g.input("time", [2], F32), g.input("class", [2], I32));
        for size in [[8, 8], [7, 10]] {
            let x = g.full([2, 1, size[0], size[1]], 0.0, F32);
            let y = network.predict(x, time, class);
            assert_eq!(y.shape(), x.shape());
        }
        g.check().unwrap();
    }
}
