//! The network and its three plans: a training step, the loss of other contexts, and drawing a
//! character.

use std::path::Path;

use backprop::nn::Dropout;
use backprop::optim::Rate;
use backprop::prelude::*;
use backprop::record::Histogram;
use backprop::{ErrorKind, ParameterInfo, PlanId, Reduce};

use crate::batches::{Batch, spread};
use crate::corpus::Vocabulary;
use crate::network::{Network, Sizes};

/// The highest learning rate.
const RATE: f64 = 3e-3;
/// Of gradients, all together.
const MAX_NORM: f64 = 1.0;
/// Of matrices; biases and norms keep what they learn.
const WEIGHT_DECAY: f64 = 0.1;

/// How a network is trained.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Training {
    pub steps: usize,
    /// Of the initial weights and of all that is drawn.
    pub seed: u64,
    pub dropout: Dropout,
}

/// A network with its session.
pub(crate) struct Model<B: Backend> {
    pub session: Session<B>,
    pub sizes: Sizes,
    /// How many numbers are learned.
    pub weights: usize,
    vocabulary: Param,
    codes: Vec<i32>,
    tokens: Key,
    targets: Key,
    loss: Key,
    norm: Key,
    evaluation: Evaluation,
    drawing: Drawing,
}

struct Evaluation {
    plan: PlanId,
    losses: Key,
}

struct Drawing {
    plan: PlanId,
    tokens: Key,
    last: Key,
    temperature: Key,
    number: Key,
    drawn: Key,
}

/// What a training step found out before it changed the weights.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    /// In nats per character.
    pub loss: f64,
    /// Of the gradient, before it was clipped.
    pub norm: f64,
}

/// How to continue a text.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Sampling {
    pub count: usize,
    /// What the logits are divided by: low ones make the likely likelier.
    pub temperature: f64,
}

impl<B: Backend> Model<B> {
    pub(crate) fn new(
        backend: B,
        vocabulary: &Vocabulary,
        sizes: Sizes,
        training: Training,
    ) -> Result<Self> {
        let g = Graph::with_seed(training.seed);
        let network = Network::new(&g, sizes, vocabulary.len(), training.dropout);
        let codes = vocabulary.codes();
        // What the numbers of the tokens stand for is saved with the weights.
        let values = codes.iter().map(|&code| f64::from(code)).collect();
        let meaning = g.parameter("vocabulary", [codes.len()], I32, Init::Values(values));

        let shape = [sizes.batch, sizes.context];
        let (tokens, targets) = (
            g.input("tokens", shape, I32),
            g.input("targets", shape, I32),
        );
        let random = g.random_state("dropout", training.seed);
        let logits = network.logits(network.train(tokens, random.next_key()));
        let loss = logits.cross_entropy(targets, CrossEntropy::default());
        let parameters = network.parameters();
        let counts = parameters.iter().map(|&p| g.read(p).shape().count());
        let weights = counts.sum();
        let (updates, norm) = updates(&g, loss, &parameters, training.steps)?;

        let each = CrossEntropy {
            reduce: Reduce::None,
            ..CrossEntropy::default()
        };
        let logits = network.logits(network.forward(tokens));
        let losses = logits.cross_entropy(targets, each).mean(1);

        let draw = Draw::new(&g, &network, sizes.context, training.seed);

        let fetches = [loss.key(), norm.key()];
        let mut session = Session::compile(&g, backend, &fetches, updates.and(random.updates()))?;
        let plan = session.plan(&[losses.key()], Updates::none())?;
        let drawing = draw.compile(&mut session)?;
        Ok(Self {
            session,
            sizes,
            weights,
            vocabulary: meaning,
            codes,
            tokens: tokens.key(),
            targets: targets.key(),
            loss: loss.key(),
            norm: norm.key(),
            evaluation: Evaluation {
                plan,
                losses: losses.key(),
            },
            drawing,
        })
    }

    /// What is learned, by names, and how it is distributed.
    pub(crate) fn distributions(&self) -> Result<Vec<(String, Histogram)>> {
        let all = self.session.parameters();
        let learned = all
            .iter()
            .take_while(|info| info.parameter != self.vocabulary);
        let distribution = |info: &ParameterInfo| {
            let numbers = self.session.parameter::<f32>(info.parameter)?;
            Ok((info.name.clone(), Histogram::of(numbers)))
        };
        learned.map(distribution).collect()
    }

    /// One step on a batch.
    pub(crate) fn step(&mut self, batch: &Batch) -> Result<Outcome> {
        self.session
            .feed(self.tokens, &batch.tokens)?
            .feed(self.targets, &batch.targets)?
            .step()?;
        Ok(Outcome {
            loss: self.session.scalar(self.loss)?,
            norm: self.session.scalar(self.norm)?,
        })
    }

    /// The mean loss, in nats per character, over at most so many contexts spread over a text.
    pub(crate) fn validate(&mut self, text: &[i32], contexts: usize) -> Result<f64> {
        let Sizes { batch, context, .. } = self.sizes;
        let starts = spread(text.len(), context, contexts);
        let mut sum = 0.0;
        for chunk in starts.chunks(batch) {
            // The last run may be short of contexts: what its other rows come to is dropped.
            let mut rows = chunk.to_vec();
            rows.resize(batch, 0);
            let Batch { tokens, targets } = Batch::gather(text, &rows, context);
            let session = self.session.feed(self.tokens, &tokens)?;
            session
                .feed(self.targets, &targets)?
                .run(self.evaluation.plan)?;
            let losses = self.session.fetch::<f32>(self.evaluation.losses)?;
            let counted = losses.iter().take(chunk.len());
            sum += counted.map(|&loss| f64::from(loss)).sum::<f64>();
        }
        Ok(sum / starts.len() as f64)
    }

    /// What the network writes after a token. The same weights and seed write the same.
    pub(crate) fn sample(&mut self, start: i32, sampling: Sampling) -> Result<Vec<i32>> {
        let mut written = vec![start];
        let mut window = vec![0; self.sizes.context];
        for number in 0..sampling.count {
            // What lies behind the last character is not seen by it.
            let seen = &written[written.len().saturating_sub(window.len())..];
            window[..seen.len()].copy_from_slice(seen);
            self.session
                .feed(self.drawing.tokens, &window)?
                .feed(self.drawing.last, &[seen.len() as i32 - 1])?
                .feed(self.drawing.temperature, &[sampling.temperature as f32])?
                .feed(self.drawing.number, &[number as i64])?
                .run(self.drawing.plan)?;
            let drawn = self.session.fetch::<i64>(self.drawing.drawn)?;
            written.extend(drawn.iter().map(|&token| token as i32));
        }
        written.remove(0);
        Ok(written)
    }

    /// The weights, and the state of the training, of a file.
    pub(crate) fn load(&mut self, file: &Path) -> Result<()> {
        self.session.load(file)?;
        if self.session.parameter::<i32>(self.vocabulary)? == self.codes {
            return Ok(());
        }
        let error = Error::new(ErrorKind::Format {
            file: file.display().to_string(),
            what: "the weights are for a text of other characters".to_owned(),
        });
        Err(error.help("give the text that they were trained on with `--text FILE`"))
    }
}

/// A step of AdamW along clipped gradients, and their norm before that.
fn updates<'g>(
    g: &'g Graph,
    loss: Tensor<'g>,
    parameters: &[Param],
    steps: usize,
) -> Result<(Updates, Tensor<'g>)> {
    let gradients = g.grad(loss, parameters)?;
    let clipped = optim::clip_by_norm(g, &gradients, MAX_NORM);
    let how = AdamW {
        lr: Rate::cosine(RATE, steps / 10, steps),
        betas: (0.9, 0.99),
        weight_decay: 0.0,
        ..AdamW::default()
    };
    let pairs = parameters.iter().copied().zip(clipped.gradients);
    let (decayed, kept): (Vec<_>, Vec<_>) = pairs.partition(|&(p, _)| g.read(p).rank() > 1);
    let group = |pairs: Vec<(Param, Tensor<'g>)>, weight_decay| {
        let (parameters, gradients): (Vec<Param>, Vec<Tensor<'g>>) = pairs.into_iter().unzip();
        let how = AdamW {
            weight_decay,
            ..how
        };
        optim::adamw(g, &parameters, &gradients, how)
    };
    let updates = group(decayed, WEIGHT_DECAY).and(group(kept, 0.0));
    Ok((updates, clipped.norm))
}

/// The graph of drawing a character after the first of a context.
struct Draw<'g> {
    tokens: Tensor<'g>,
    last: Tensor<'g>,
    temperature: Tensor<'g>,
    number: Tensor<'g>,
    drawn: Tensor<'g>,
}

impl<'g> Draw<'g> {
    fn new(g: &'g Graph, network: &Network, context: usize, seed: u64) -> Self {
        let tokens = g.input("written", [1, context], I32);
        let last = g.input("last", [1], I32);
        let temperature = g.input("temperature", [], F32);
        let number = g.input("number", [], I64);
        // Only the last character needs logits.
        let state = network.forward(tokens).take(last, 1);
        let logits = network.logits(state).flatten_from(1) / temperature;
        let [key] = g.random_key(seed).split_key();
        Self {
            tokens,
            last,
            temperature,
            number,
            drawn: logits.categorical(-1, key.fold_in(number)),
        }
    }

    fn compile<B: Backend>(self, session: &mut Session<B>) -> Result<Drawing> {
        Ok(Drawing {
            plan: session.plan(&[self.drawn.key()], Updates::none())?,
            tokens: self.tokens.key(),
            last: self.last.key(),
            temperature: self.temperature.key(),
            number: self.number.key(),
            drawn: self.drawn.key(),
        })
    }
}
