//! How a random graph grows by one operation.

use backprop_core::DType;
use backprop_graph::{Graph, Keep, Tensor};

use super::SIZES;
use crate::draw::Draw;

/// A graph while it grows: all tensors so far, with how often each is used.
pub(super) struct Growth<'g> {
    graph: &'g Graph,
    draw: Draw,
    /// Numbers between about -2 and 2.
    real: Vec<(Tensor<'g>, usize)>,
    /// Whole numbers of which each is 0 or 1.
    indices: Vec<(Tensor<'g>, usize)>,
}

impl<'g> Growth<'g> {
    pub(super) fn new(graph: &'g Graph, draw: Draw, inputs: &[Tensor<'g>]) -> Growth<'g> {
        let unused = inputs.iter().map(|&input| (input, 0));
        let (real, indices) = unused.partition(|(input, _)| input.dtype().is_float());
        Growth {
            graph,
            draw,
            real,
            indices,
        }
    }

    /// The tensors that nothing uses.
    pub(super) fn ends(&self) -> Vec<Tensor<'g>> {
        let all = self.real.iter().chain(&self.indices);
        let ends = all.filter(|(_, uses)| *uses == 0);
        ends.map(|&(tensor, _)| tensor).collect()
    }

    pub(super) fn grow(&mut self) {
        let x = self.real();
        let y = match self.draw.below(16) {
            0..=2 => self.elementwise(x),
            3..=6 => self.pair(x),
            7 | 8 => self.reduced(x),
            9 | 10 => self.moved(x),
            11 => self.cut(x),
            12 => self.product(x),
            13 => self.looked_up(x),
            14 => self.chosen(x),
            _ => return self.whole(x),
        };
        // What has become large is brought back.
        if y.shape().count() <= 2000 {
            self.real.push((y, 0));
        }
    }

    /// A tensor: often one of the latest, sometimes an old one.
    fn real(&mut self) -> Tensor<'g> {
        let count = self.real.len();
        let at = if self.draw.once_in(3) {
            self.draw.below(count)
        } else {
            count - 1 - self.draw.below(count.min(4))
        };
        self.real[at].1 += 1;
        self.real[at].0
    }

    fn index(&mut self) -> Tensor<'g> {
        let at = self.draw.below(self.indices.len());
        self.indices[at].1 += 1;
        self.indices[at].0
    }

    fn axis(&mut self, x: Tensor<'g>) -> i32 {
        let axis = self.draw.below(x.rank()) as i32;
        if self.draw.once_in(2) {
            axis
        } else {
            axis - x.rank() as i32
        }
    }

    fn elementwise(&mut self, x: Tensor<'g>) -> Tensor<'g> {
        match self.draw.below(14) {
            0 => x.tanh(),
            1 => x.sin(),
            2 => x.sigmoid(),
            3 => (x * 0.5).exp() * 0.4,
            4 => x.relu(),
            5 => -x,
            6 => x * 0.5 + 0.25,
            7 => (x.square() + 1.0).sqrt() - 1.0,
            8 => (x.square() + 0.5).log(),
            9 => 1.0 / (x.square() + 1.0),
            10 => x.erf(),
            11 => x.clamp(-1.25, 1.25),
            12 => x.abs(),
            // Differences that are 0 but for rounding are no whole numbers below 0.
            _ => (x - 0.0) * 1.0 + (x + 0.3).floor() * 0.25,
        }
    }

    /// Two tensors; the second one is made to fit by summing and unsqueezing what differs.
    fn pair(&mut self, x: Tensor<'g>) -> Tensor<'g> {
        let other = self.real();
        let y = self.fitted(other, x);
        let together = match self.draw.below(6) {
            0 => x + y,
            1 => x - y,
            2 => x * y,
            3 => x.maximum(y),
            4 => x.minimum(y),
            _ => x / (y.square() + 1.0),
        };
        together.tanh()
    }

    /// `y` in a shape that broadcasts with that of `x`.
    fn fitted(&mut self, y: Tensor<'g>, x: Tensor<'g>) -> Tensor<'g> {
        if x.shape().broadcast(&y.shape()).is_some() {
            return y;
        }
        let mut y = y;
        for back in 1..=y.rank().min(x.rank()) as i32 {
            let sizes = [x, y].map(|t| t.shape().size(t.rank() - back as usize));
            if sizes[0] != sizes[1] && !sizes.contains(&1) {
                y = y.mean(Keep(-back));
            }
        }
        y
    }

    fn reduced(&mut self, x: Tensor<'g>) -> Tensor<'g> {
        if x.rank() == 0 {
            return x.sum(..).cos();
        }
        let axis = self.axis(x);
        match self.draw.below(7) {
            0 => x.mean(axis),
            1 => x.sum(axis).tanh(),
            2 => x.max(axis),
            3 => x - x.mean(Keep(axis)),
            4 => x.softmax(axis),
            5 => x - x.max(Keep(axis)),
            _ => (x * 0.5).sum(..).tanh(),
        }
    }

    /// Other orders and shapes of the same elements.
    fn moved(&mut self, x: Tensor<'g>) -> Tensor<'g> {
        let rank = x.rank();
        match self.draw.below(6) {
            0 if rank >= 2 => {
                let (a, b) = (self.axis(x), self.axis(x));
                x.transpose(a, b)
            }
            1 => x.reshape([-1]),
            2 if rank < 5 => x.unsqueeze(0),
            3 if rank >= 1 => {
                let axis = self.axis(x);
                x.flip(axis)
            }
            4 if rank < 4 => {
                let mut shape = vec![*self.draw.of(&SIZES)];
                shape.extend(x.shape().sizes());
                x.broadcast_to(shape)
            }
            _ => x.reshape([x.shape().count() as isize, 1]),
        }
    }

    /// Parts and surroundings.
    fn cut(&mut self, x: Tensor<'g>) -> Tensor<'g> {
        if x.rank() == 0 {
            return x.cos();
        }
        let axis = self.axis(x);
        let at = if axis < 0 {
            (axis + x.rank() as i32) as usize
        } else {
            axis as usize
        };
        let size = x.shape().size(at);
        match self.draw.below(4) {
            0 => x.narrow(axis, self.draw.below(size), size),
            1 => {
                let (mut low, mut high) = (vec![0; x.rank()], vec![0; x.rank()]);
                (low[at], high[at]) = (self.draw.below(2), 1);
                x.pad(low, high, 0.5)
            }
            2 => self.graph.concat(&[x, x.sin()], axis),
            _ => {
                let mut steps = vec![1; x.rank()];
                steps[at] = 2;
                x.slice(vec![0; x.rank()], x.shape(), steps)
            }
        }
    }

    /// A product with a tensor, its own transpose, or a batch of itself.
    fn product(&mut self, x: Tensor<'g>) -> Tensor<'g> {
        let x = if x.rank() < 2 { x.reshape([-1, 1]) } else { x };
        let inner = x.shape().size(x.rank() - 1);
        let other = self.real();
        let right = if other.rank() == 2 && other.shape().size(0) == inner {
            other
        } else {
            x.transpose(-1, -2)
        };
        let product = x.matmul(right) * (1.0 / inner as f64);
        match self.draw.below(3) {
            0 => product.tanh(),
            1 => (product + 0.5).relu().tanh(),
            _ => {
                let bias = self.real();
                let bias = self.fitted(bias, product);
                (product + bias).tanh()
            }
        }
    }

    fn looked_up(&mut self, x: Tensor<'g>) -> Tensor<'g> {
        let wide = (0..x.rank()).find(|&axis| x.shape().size(axis) >= 2);
        let index = self.index();
        match wide {
            Some(axis) if x.rank() - 1 + index.rank() <= 4 => x.take(index, axis as i32),
            _ => x.cos(),
        }
    }

    fn chosen(&mut self, x: Tensor<'g>) -> Tensor<'g> {
        let other = self.real();
        let y = self.fitted(other, x);
        match self.draw.once_in(2) {
            // Where the two are equal but for rounding, either choice is as good.
            true => x.gt(y).select(x, y * 1.5 - x * 0.5),
            false => x.le(0.125).select(x, y * 0.5),
        }
    }

    /// Whole numbers from real ones, or from other whole ones, and back.
    fn whole(&mut self, x: Tensor<'g>) {
        let index = self.index();
        let new = match self.draw.below(3) {
            0 => x.gt(0.25).cast(DType::I64),
            1 => (index + 1) % 2,
            _ => index.maximum(1 - index),
        };
        if new.rank() <= 2 {
            self.indices.push((new, 0));
        }
        let mask = index.eq(1).cast(x.dtype());
        let mask = self.fitted(mask, x);
        self.real.push((x * mask, 0));
    }
}
