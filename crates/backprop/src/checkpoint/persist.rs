//! Saving and loading as methods of a session.

use std::path::Path;

use backprop_core::{Backend, Result};
use backprop_graph::{Param, Session};

use super::Checkpoint;

/// Saves and loads the parameters of a session; in the [prelude](crate::prelude).
///
/// ```no_run
/// # use backprop::prelude::*;
/// # fn example<B: Backend>(session: &mut Session<B>) -> Result<()> {
/// session.save("model.safetensors")?;
/// session.load("model.safetensors")?;
/// # Ok(())
/// # }
/// ```
pub trait Persist {
    /// Writes all parameters, optimizer state among them, in place of what is at `path`.
    ///
    /// # Errors
    /// As [`Checkpoint::write`].
    fn save(&self, path: impl AsRef<Path>) -> Result<()>;

    /// Sets all parameters from a file, which has to hold exactly those.
    ///
    /// # Errors
    /// As [`Checkpoint::read`] and [`Checkpoint::restore`]. Unless the device itself fails, nothing is
    /// changed then.
    fn load(&mut self, path: impl AsRef<Path>) -> Result<()>;

    /// Writes some parameters: those of a model, say, for files that other programs read.
    ///
    /// # Errors
    /// As [`Checkpoint::of_only`] and [`Checkpoint::write`].
    #[track_caller]
    fn save_only(&self, parameters: &[Param], path: impl AsRef<Path>) -> Result<()>;

    /// Sets some parameters from a file, which has to hold exactly those; the others keep their values.
    /// For weights that come without the state of this session's optimizer.
    ///
    /// ```no_run
    /// use backprop::nn::{Features, Layer, Linear};
    /// use backprop::prelude::*;
    ///
    /// let g = Graph::new();
    /// let fc = Linear::new(&g, "fc", Features { input: 64, output: 10 }, F32);
    /// let model = g.parameters();
    /// let loss = fc.forward(g.input("x", [32, 64], F32)).square().mean(..);
    /// let grads = g.grad(loss, &fc.parameters())?;
    /// let updates = optim::adamw(&g, &fc.parameters(), &grads, AdamW::default());
    /// let mut session = Session::compile(&g, Cpu::new()?, &[loss.key()], updates)?;
    /// session.load_only(&model, "pretrained.safetensors")?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Checkpoint::read`] and [`Checkpoint::restore_only`]. Unless the device itself fails, nothing
    /// is changed then.
    #[track_caller]
    fn load_only(&mut self, parameters: &[Param], path: impl AsRef<Path>) -> Result<()>;
}

impl<B: Backend> Persist for Session<B> {
    fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        Checkpoint::of(self)?.write(path)
    }

    fn load(&mut self, path: impl AsRef<Path>) -> Result<()> {
        Checkpoint::read(path)?.restore(self)
    }

    #[track_caller]
    fn save_only(&self, parameters: &[Param], path: impl AsRef<Path>) -> Result<()> {
        Checkpoint::of_only(self, parameters)?.write(path)
    }

    #[track_caller]
    fn load_only(&mut self, parameters: &[Param], path: impl AsRef<Path>) -> Result<()> {
        Checkpoint::read(path)?.restore_only(self, parameters)
    }
}
