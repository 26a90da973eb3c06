//! How noise covers an image, and how it is taken away again.
//!
//! At time `t` between 0 and 1 an image `x`, of pixels between -1 and 1, has become
//! `z = signal x + noise e`, where `e` is normal, `signal = cos(t pi/2)` and `noise = sin(t pi/2)`: the
//! cosine schedule of Nichol and Dhariwal (arXiv:2102.09672) in continuous time, as of Salimans and Ho
//! (arXiv:2202.00512), whose `v = signal e - noise x` the network predicts. Then
//! `x = signal z - noise v`, for all times, and equally good.
//!
//! The way back goes in steps, from time `t` to an earlier `s`, by the distribution that `z` at `s` has
//! for given `z` at `t` and `x` (Kingma et al., arXiv:2107.00630, appendix A.4), with what the network
//! takes for `x`.

use std::f64::consts::FRAC_PI_2;

use backprop::Left;
use backprop::prelude::*;

/// How much of an image and of noise there is, at each of some times.
#[derive(Clone, Copy)]
pub(crate) struct Level<'g> {
    pub signal: Tensor<'g>,
    pub noise: Tensor<'g>,
}

impl<'g> Level<'g> {
    pub(crate) fn at(time: Tensor<'g>) -> Self {
        let angle = time * FRAC_PI_2;
        Self {
            signal: angle.cos(),
            noise: angle.sin(),
        }
    }

    /// An image on which noise lies.
    pub(crate) fn cover(self, image: Tensor<'g>, noise: Tensor<'g>) -> Tensor<'g> {
        self.signal * image + self.noise * noise
    }

    /// What the network shall predict.
    pub(crate) fn velocity(self, image: Tensor<'g>, noise: Tensor<'g>) -> Tensor<'g> {
        self.signal * noise - self.noise * image
    }

    /// The image that is seen in a covered one, if that is the velocity.
    pub(crate) fn uncover(self, covered: Tensor<'g>, velocity: Tensor<'g>) -> Tensor<'g> {
        self.signal * covered - self.noise * velocity
    }
}

/// The steps from pure noise to an image, all of them at once: `f32[steps]` each.
pub(crate) struct Descent<'g> {
    time: Tensor<'g>,
    level: Level<'g>,
    /// What the covered image, the uncovered one and fresh noise count for in the next.
    kept: Tensor<'g>,
    image: Tensor<'g>,
    fresh: Tensor<'g>,
}

impl<'g> Descent<'g> {
    /// Equal steps of time, from 1 to 0.
    pub(crate) fn new(g: &'g Graph, steps: usize) -> Self {
        let passed = g.coordinate([steps], 0).cast(F64);
        let time = (-passed + steps as f64) / steps as f64;
        let (now, next) = (Level::at(time), Level::at(time - 1.0 / steps as f64));
        let ratio = now.signal / next.signal;
        let share = (next.noise / now.noise).square();
        let gained = now.noise.square() - (ratio * next.noise).square();
        let level = Level {
            signal: now.signal.cast(F32),
            noise: now.noise.cast(F32),
        };
        Self {
            time: time.cast(F32),
            level,
            kept: (ratio * share).cast(F32),
            image: (next.signal * gained / now.noise.square()).cast(F32),
            fresh: (gained * share).sqrt().cast(F32),
        }
    }

    /// Images of a shape drawn by one loop, with noise from `key`. `predict` says the velocity of
    /// covered images at a time, `f32[]`.
    pub(crate) fn draw(
        &self,
        shape: &[usize],
        key: Tensor<'g>,
        predict: impl FnOnce(Tensor<'g>, Tensor<'g>) -> Tensor<'g>,
    ) -> Tensor<'g> {
        let g = key.graph();
        let [first, others] = key.split_key();
        let covered = g.standard_normal(first, shape, F32);
        let Level { signal, noise } = self.level;
        let steps = [self.time, signal, noise, self.kept, self.image, self.fresh];
        let count = self.time.shape().size(0);
        let drawn = g.scan(count, &[covered], &steps, |at| {
            let [covered, time] = [at.carried[0], at.elements[0]];
            let level = Level {
                signal: at.elements[1],
                noise: at.elements[2],
            };
            let image = level.uncover(covered, predict(covered, time));
            let noise = g.standard_normal(others.fold_in(at.index), shape, F32);
            let next = at.elements[3] * covered
                + at.elements[4] * image.clamp(-1.0, 1.0)
                + at.elements[5] * noise;
            Left {
                carried: vec![next],
                ..Left::default()
            }
        });
        drawn.carried[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: usize = 20;

    /// The values of tensors, each `f32[STEPS]`.
    fn values<const N: usize>(g: &Graph, tensors: [Tensor<'_>; N]) -> [Vec<f64>; N] {
        let keys = tensors.map(|x| x.cast(F64).key());
        let mut session = Session::compile(g, Cpu::new().unwrap(), &keys, Updates::none()).unwrap();
        session.step().unwrap();
        keys.map(|key| session.fetch(key).unwrap())
    }

    fn assert_close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6, "{a} and {b}");
    }

    #[test]
    fn noise_only_grows_and_never_adds_energy() {
        let g = Graph::new();
        let Descent { time, level, .. } = Descent::new(&g, STEPS);
        let [time, signal, noise] = values(&g, [time, level.signal, level.noise]);
        assert_close(time[0], 1.0);
        assert_close(time[STEPS - 1], 1.0 / STEPS as f64);
        assert_close(signal[0], 0.0);
        for i in 0..STEPS {
            assert_close(signal[i].powi(2) + noise[i].powi(2), 1.0);
        }
        assert!(signal.is_sorted() && noise.iter().rev().is_sorted());
    }

    /// A covered image of time `t` that takes a step is one of time `s`, if the network is right: as
    /// much image and as much noise.
    #[test]
    fn a_step_leads_to_the_noise_of_its_time() {
        let g = Graph::new();
        let Descent {
            level,
            kept,
            image,
            fresh,
            ..
        } = Descent::new(&g, STEPS);
        let [signal, noise, kept, image, fresh] =
            values(&g, [level.signal, level.noise, kept, image, fresh]);
        for i in 0..STEPS {
            let last = i + 1 == STEPS;
            let [s, n] = if last {
                [1.0, 0.0]
            } else {
                [signal[i + 1], noise[i + 1]]
            };
            assert_close(kept[i] * signal[i] + image[i], s);
            assert_close((kept[i] * noise[i]).hypot(fresh[i]), n);
            assert_eq!(fresh[i] > 1e-3, !last, "the last step adds no noise");
        }
    }

    /// A network that knows the only image there is: whatever the noise, it comes out.
    #[test]
    fn who_knows_the_image_draws_it() {
        let g = Graph::new();
        let known = g.data([1, 4], &[-1.0f32, -0.5, 0.25, 1.0]);
        let drawn = Descent::new(&g, STEPS).draw(&[3, 4], g.random_key(5), |covered, time| {
            let level = Level::at(time);
            let noise = (covered - level.signal * known) / level.noise;
            level.velocity(known, noise)
        });
        let [drawn] = values(&g, [drawn]);
        for image in drawn.chunks(4) {
            for (pixel, known) in image.iter().zip([-1.0, -0.5, 0.25, 1.0]) {
                assert!((pixel - known).abs() < 1e-5, "{drawn:?}");
            }
        }
    }

    #[test]
    fn velocity_and_cover_tell_the_image() {
        let g = Graph::new();
        let time = g.data([3], &[0.0f32, 0.4, 1.0]);
        let (image, noise) = (
            g.data([3], &[0.3f32, -1.0, 0.9]),
            g.data([3], &[2.0f32, 0.1, -0.7]),
        );
        let level = Level::at(time);
        let seen = level.uncover(level.cover(image, noise), level.velocity(image, noise));
        let [seen, image] = values(&g, [seen, image]);
        for (a, b) in seen.into_iter().zip(image) {
            assert_close(a, b);
        }
    }
}
