//! Backpropagation where every number fits on the screen: a network of two inputs, two hidden
//! units and one output, its gradient step by step, and the same gradient by brute force.
//!
//! Done at once. The last line says how far the two are apart: `largest difference 1.7e-8`.
#![allow(clippy::print_stdout, reason = "an example talks to its terminal")]

use backprop::PlanId;
use backprop::prelude::*;

const X: [f64; 2] = [1.0, 0.5];
const TARGET: f64 = 1.0;
const W1: [f64; 4] = [0.5, -0.3, 0.2, 0.8];
const B1: [f64; 2] = [0.1, 0.05];
const W2: [f64; 2] = [0.4, -0.6];
/// Such that the network predicts 0.3 for `X`.
const B2: f64 = -1.037_297_860_387_203_4;
/// How far brute force moves a number: less drowns in rounding, more in curvature.
const NUDGE: f64 = 1e-8;

fn main() -> Result<()> {
    let mut network = Network::new(Cpu::new()?)?;
    network.session.step()?;
    print!("{}", network.passes()?);
    print!("{}", network.compared()?);
    Ok(())
}

/// The compiled network. Its step computes the loss and all gradients; a second plan over the same
/// parameters computes the loss alone.
struct Network<B: Backend> {
    session: Session<B>,
    loss_only: PlanId,
    loss: Key,
    /// Values of the forward pass, from the input to the prediction.
    values: [Key; 5],
    /// Gradients by the prediction, both sums, and the hidden activations.
    gradients: [Key; 4],
    parameters: [Parameter; 4],
}

struct Parameter {
    name: &'static str,
    value: Param,
    gradient: Key,
}

impl<B: Backend> Network<B> {
    fn new(backend: B) -> Result<Self> {
        let g = Graph::new();
        let x = g.data([1, 2], &X);
        let parameter = |name, shape: [usize; 2], values: &[f64]| {
            g.parameter(name, shape, F64, Init::Values(values.to_vec()))
        };
        let w1 = parameter("w1", [2, 2], &W1);
        let b1 = parameter("b1", [1, 2], &B1);
        let w2 = parameter("w2", [2, 1], &W2);
        let b2 = parameter("b2", [1, 1], &[B2]);

        let z1 = x.matmul(w1) + b1;
        let h = z1.relu();
        let z2 = h.matmul(w2) + b2;
        let p = z2.sigmoid();
        let loss = (p - TARGET).square().sum(..);

        let [p_grad, z2_grad, h_grad, z1_grad] = gradients(&g, loss, [p, z2, h, z1])?;
        let by_parameter = gradients(&g, loss, [w1, b1, w2, b2])?;

        let values = [x, z1, h, z2, p].map(Tensor::key);
        let gradients = [p_grad, z2_grad, h_grad, z1_grad].map(Tensor::key);
        let gradient_keys = by_parameter.map(Tensor::key);
        let fetched = [&[loss.key()][..], &values, &gradients, &gradient_keys].concat();
        let mut session = Session::compile(&g, backend, &fetched, Updates::none())?;
        let loss_only = session.plan(&[loss.key()], Updates::none())?;
        let [dw1, db1, dw2, db2] = gradient_keys;
        let parameters = [
            ("w1", w1, dw1),
            ("b1", b1, db1),
            ("w2", w2, dw2),
            ("b2", b2, db2),
        ];
        let parameters = parameters.map(|(name, value, gradient)| Parameter {
            name,
            value,
            gradient,
        });
        Ok(Self {
            session,
            loss_only,
            loss: loss.key(),
            values,
            gradients,
            parameters,
        })
    }

    fn numbers(&self, key: Key) -> Result<String> {
        let values = self.session.fetch::<f64>(key)?;
        let rounded: Vec<String> = values.iter().map(|value| format!("{value:>8.4}")).collect();
        Ok(rounded.join(" "))
    }

    /// What the step kept on the way forward, and the five steps of the way back.
    fn passes(&self) -> Result<String> {
        let [x, z1, h, z2, p] = self.values;
        let [p_grad, z2_grad, h_grad, z1_grad] = self.gradients;
        let [w1, b1, w2, b2] = [0, 1, 2, 3].map(|i: usize| self.parameters[i].gradient);
        let forward = [
            ("x", "the input", x),
            ("z1", "x w1 + b1", z1),
            ("h", "relu(z1)", h),
            ("z2", "h w2 + b2", z2),
            ("p", "sigmoid(z2)", p),
            ("loss", "(p - 1)^2", self.loss),
        ];
        let backward = [
            ("1 loss gradient", "dp", "2 (p - 1)", p_grad),
            ("2 output weights", "dz2", "dp p (1 - p)", z2_grad),
            ("", "dw2", "h^T dz2", w2),
            ("", "db2", "dz2", b2),
            ("3 hidden activations", "dh", "dz2 w2^T", h_grad),
            ("4 activation derivative", "dz1", "dh where z1 > 0", z1_grad),
            ("5 first layer", "dw1", "x^T dz1", w1),
            ("", "db1", "dz1", b1),
        ];
        let mut text = "forward, kept for the way back\n".to_owned();
        for (name, rule, key) in forward {
            text += &format!("  {:24}{name:>4} = {rule:<16}{}\n", "", self.numbers(key)?);
        }
        text += "\nbackward\n";
        for (step, name, rule, key) in backward {
            text += &format!("  {step:24}{name:>4} = {rule:<16}{}\n", self.numbers(key)?);
        }
        Ok(text)
    }

    /// The gradients beside those of brute force: nudge one number, and see how the loss moves.
    fn compared(&mut self) -> Result<String> {
        let mut text = format!(
            "\n{:10}{:>12}{:>14}{:>12}\n",
            "parameter", "backward", "brute force", "difference"
        );
        let (mut runs, mut largest) = (1, 0.0f64);
        self.session.run(self.loss_only)?;
        let loss = self.session.scalar(self.loss)?;
        for Parameter {
            name,
            value,
            gradient,
        } in &self.parameters
        {
            let backward = self.session.fetch::<f64>(*gradient)?;
            let values = self.session.parameter::<f64>(*value)?;
            for (i, exact) in backward.iter().enumerate() {
                let mut nudged = values.clone();
                nudged[i] += NUDGE;
                self.session.set_parameter(*value, &nudged)?;
                self.session.run(self.loss_only)?;
                let brute = (self.session.scalar(self.loss)? - loss) / NUDGE;
                runs += 1;
                largest = largest.max((brute - exact).abs());
                let label = format!("{name}[{i}]");
                text += &format!(
                    "{label:10}{exact:>12.6}{brute:>14.6}{:>12.1e}\n",
                    (brute - exact).abs()
                );
            }
            self.session.set_parameter(*value, &values)?;
        }
        let count = runs - 1;
        text += &format!(
            "\n{count} gradients: 1 forward and 1 backward pass, against {runs} forward passes by brute force\n\
             largest difference {largest:.1e}\n"
        );
        Ok(text)
    }
}

fn gradients<'g, W: Operand<'g> + Copy, const N: usize>(
    g: &'g Graph,
    loss: Tensor<'g>,
    by: [W; N],
) -> Result<[Tensor<'g>; N]> {
    let gradients = g.grad(loss, &by)?;
    Ok(std::array::from_fn(|i| gradients[i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_passes_show_what_paper_and_pencil_give() {
        let mut network = Network::new(Cpu::new().unwrap()).unwrap();
        network.session.step().unwrap();
        let passes = network.passes().unwrap();
        let words = passes.split_whitespace().collect::<Vec<_>>().join(" ");
        for line in [
            "loss = (p - 1)^2 0.4900",
            "dp = 2 (p - 1) -1.4000",
            "dz2 = dp p (1 - p) -0.2940",
        ] {
            assert!(words.contains(line), "{passes}");
        }
        let table = network.compared().unwrap();
        assert!(
            table.contains("9 gradients: 1 forward and 1 backward pass, against 10 forward passes"),
            "{table}"
        );
        let largest = table.trim_end().rsplit(' ').next().unwrap();
        assert!(largest.parse::<f64>().unwrap() < 1e-6, "{table}");
    }
}
