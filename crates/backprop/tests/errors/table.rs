//! What makes no sense, one row each: how it is tried, and what all rows have in common.

use std::fmt::Debug;
use std::panic::{Location, UnwindSafe, catch_unwind};

use backprop::prelude::*;
use backprop::{ErrorKind, Reference};

/// Builds something wrong of a graph and its input `x`, `f32[32, 64]`.
pub(crate) type Build = for<'g> fn(&'g Graph, Tensor<'g>) -> Tensor<'g>;

/// What is wrong, and the kind of error that it has to be.
pub(crate) struct Row<Attempt> {
    pub(crate) place: &'static Location<'static>,
    pub(crate) expected: &'static str,
    pub(crate) attempt: Attempt,
}

/// A row about building.
#[track_caller]
pub(crate) const fn row(expected: &'static str, attempt: Build) -> Row<Build> {
    Row {
        place: Location::caller(),
        expected,
        attempt,
    }
}

impl<Attempt> Row<Attempt> {
    /// The error in which the attempt, made by `run`, ends; what happened instead of an error of the
    /// expected kind.
    pub(crate) fn fails<T: Debug>(
        &self,
        run: impl FnOnce() -> Result<T> + UnwindSafe,
    ) -> Result<Error, String> {
        let (place, expected) = (self.place, self.expected);
        match catch_unwind(run) {
            Err(_) => Err(format!("{place}: a panic, not {expected}")),
            Ok(Ok(value)) => Err(format!("{place}: {value:?}, not {expected}")),
            Ok(Err(error)) if name(error.kind()) == expected => Ok(error),
            Ok(Err(error)) => Err(format!("{place}: not {expected} but {error}")),
        }
    }
}

/// The name of a kind of error.
fn name(kind: &ErrorKind) -> String {
    let shown = format!("{kind:?}");
    shown.chars().take_while(|c| c.is_alphanumeric()).collect()
}

/// Tries all rows of a table, and panics with all of them that do not hold.
pub(crate) fn hold<Attempt>(
    rows: &[Row<Attempt>],
    mut tried: impl FnMut(&Row<Attempt>) -> Result<(), String>,
) {
    let failed: Vec<String> = rows.iter().filter_map(|row| tried(row).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Everything that a row about building has to hold: one error of the right kind that names the
/// row's lines, silence in what follows, and the same error from compiling.
pub(crate) fn check(rows: &[Row<Build>]) {
    hold(rows, |row| {
        let error = row.fails(|| {
            let g = Graph::new();
            let x = g.input("x", [32, 64], F32);
            let bad = (row.attempt)(&g, x);
            // What is in order has a key and compiles; what is not, is silent from here on.
            let keys = match g.check() {
                Ok(()) => vec![bad.key()],
                Err(_) => vec![(bad.relu().exp() + x.sum(..)).key()],
            };
            Session::compile(&g, Reference, &keys, Updates::none())
        })?;
        let (at, place) = (error.place(), row.place);
        let lines = place.line()..=place.line() + LONGEST;
        let named = at.is_some_and(|at| at.file() == place.file() && lines.contains(&at.line()));
        let once = error.all().count() == 1;
        let holds = named && once;
        holds
            .then_some(())
            .ok_or_else(|| format!("{place}: more than one error, or elsewhere: {error}"))
    });
}

/// The lines that a row has at most.
const LONGEST: u32 = 18;
