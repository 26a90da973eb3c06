//! Runs parts of the forward pass again in the backward pass, so that their results need not be kept.
//!
//! Works on launches in the order in which they run, after fusion and before placing: what runs again
//! is the very same launch on the very same values, so no bit can change, and it stands right before
//! the first launch that needs it.
//!
//! - [`program`]: what there is to know of each launch and value.
//! - [`replay`]: the order that follows from a choice of values that are not kept, with the bytes that
//!   it takes.
//! - [`segments`]: the choices that are tried, from one cut of the forward pass to the next (Chen et
//!   al., 2016, "Training deep nets with sublinear memory cost").
//!
//! The cheapest choice that fits is taken, by [`Plan::modelled_time`](backprop_core::Plan::modelled_time).
//! Loops are launches like all others, except that they never run again; their bodies stay as they are.

mod program;
mod replay;
mod segments;

use backprop_core::plan::{Buffer, Draft};

use super::Launches;
use program::Program;
use replay::Size;
use segments::{Choice, Segments};

/// The most choices that are placed.
const MOST_PLACED: usize = 8;

/// What a budget does not suffice for.
#[derive(Debug)]
pub(super) struct Exceeded {
    /// The plan that needs least.
    pub(super) smallest: Box<Draft>,
    /// The bytes of the arena without a budget.
    pub(super) without: usize,
}

/// How launches are placed.
pub(super) struct Placing<'p> {
    /// The bytes that the arena may take.
    pub(super) limit: Option<usize>,
    /// The scratch memory of each launch that stands in a list by itself.
    pub(super) scratch: &'p dyn Fn(&super::launches::Launch) -> usize,
    /// Gives each value its bytes.
    pub(super) place: &'p dyn Fn(&Launches) -> Draft,
}

/// Places ordered launches, within the limit if there is one.
pub(super) fn rematerialise(launches: &Launches, to: &Placing<'_>) -> Result<Draft, Exceeded> {
    let place = to.place;
    let is_marked = program::is_marked(launches);
    if !is_marked && to.limit.is_none() {
        return Ok(place(launches));
    }
    let program = Program::new(launches, to.scratch);
    let segments = Segments::new(&program);
    let without = match is_marked {
        true => place(
            &program
                .replay(&segments.dropped(Choice::NOTHING))
                .launches(&program),
        ),
        false => place(launches),
    };
    let limit = to.limit.unwrap_or(usize::MAX);
    if arena(&without) <= limit {
        return Ok(without);
    }
    let whole = arena(&without);
    let mut smallest = without;
    // What is looked for within a limit may not fit once there are gaps between values; then the
    // choices that take least are looked for, whatever the limit.
    for target in [limit, 0] {
        for choice in chosen(&program, &segments, target) {
            let replay = program.replay(&segments.dropped(choice));
            let draft = place(&replay.launches(&program));
            if arena(&draft) <= limit {
                return Ok(draft);
            }
            if arena(&draft) < arena(&smallest) {
                smallest = draft;
            }
        }
    }
    Err(Exceeded {
        smallest: Box::new(smallest),
        without: whole,
    })
}

/// The choices that are worth placing. First those that may fit, from the cheapest on, each of which
/// takes fewer bytes than those before it; then the one that takes least.
fn chosen(program: &Program<'_>, segments: &Segments, limit: usize) -> Vec<Choice> {
    let mut found = segments.search(limit, |dropped| program.replay(dropped).size(program));
    found.sort_by_key(|(_, size)| (size.bytes > limit, size.time));
    let mut chosen: Vec<&(Choice, Size)> = Vec::new();
    for candidate in &found {
        let is_smaller = |other: &&(Choice, Size)| candidate.1.bytes < other.1.bytes;
        if chosen.len() + 1 < MOST_PLACED && chosen.last().is_none_or(is_smaller) {
            chosen.push(candidate);
        }
    }
    chosen.extend(found.iter().min_by_key(|(_, size)| size.bytes));
    chosen.into_iter().map(|&(choice, _)| choice).collect()
}

fn arena(draft: &Draft) -> usize {
    draft.sizes[Buffer::Arena as usize]
}
