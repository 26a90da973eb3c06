//! Equal values that share memory.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// Values of which there are far fewer than places that hold one.
#[derive(Clone, Debug)]
pub(crate) struct Distinct<T: ?Sized>(HashSet<Arc<T>>);

impl<T: ?Sized> Default for Distinct<T> {
    fn default() -> Self {
        Distinct(HashSet::new())
    }
}

impl<T: ?Sized + Eq + Hash> Distinct<T> {
    /// The value that is equal to this one: itself, from now on, if there was none.
    pub(crate) fn one(&mut self, value: impl Borrow<T> + Into<Arc<T>>) -> Arc<T> {
        if let Some(known) = self.0.get(value.borrow()) {
            return Arc::clone(known);
        }
        let value = value.into();
        self.0.insert(Arc::clone(&value));
        value
    }
}
