//! Inputs that nobody wrote: bytes made from a corpus by mutation, tried on a target until one breaks
//! it.
//!
//! No instrumentation is needed: a target says in a word what an input came to, and an input that
//! comes to something new joins those that are mutated. The same seed tries the same inputs, in the
//! same order, on every machine.
//!
//! ```
//! use backprop_testkit::fuzz::{Fuzz, Target};
//!
//! // Says of bytes that there are two of them, and is wrong about those that begin with a brace.
//! let target = Target {
//!     name: "pairs",
//!     corpus: vec![b"[]".to_vec()],
//!     run: &|bytes| match bytes {
//!         [b'{', _] => Err("an opening brace".to_owned()),
//!         [_, _] => Ok("a pair".to_owned()),
//!         _ => Ok("no pair".to_owned()),
//!     },
//! };
//! let found = Fuzz::new(1).run(&target, |tried| tried < 100_000).unwrap_err();
//! assert_eq!((found.what.as_str(), found.input[0]), ("an opening brace", b'{'));
//! ```

use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::draw::Draw;

/// What is fuzzed.
#[expect(missing_debug_implementations, reason = "a closure cannot be shown")]
pub struct Target<'a> {
    /// The name.
    pub name: &'a str,
    /// Inputs to begin with; tried as they are before any is mutated.
    pub corpus: Vec<Vec<u8>>,
    /// What an input came to, in a word or two; or what is wrong. A panic is a finding too.
    pub run: &'a dyn Fn(&[u8]) -> Result<String, String>,
}

/// An input that breaks a target.
#[derive(Clone, PartialEq, Debug)]
pub struct Finding {
    /// The input, as short as it could be made.
    pub input: Vec<u8>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, on {:?}",
            self.what,
            self.input.escape_ascii().to_string()
        )
    }
}

impl std::error::Error for Finding {}

/// What went well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tried {
    /// How many inputs were tried.
    pub inputs: u64,
    /// How many different things they came to.
    pub outcomes: usize,
}

/// A stream of inputs.
#[derive(Clone, Debug)]
pub struct Fuzz {
    draw: Draw,
}

/// Numbers near which sizes break.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 40,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Inputs are not made longer than this.
const LONGEST: usize = 1 << 12;

impl Fuzz {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Fuzz {
        Fuzz {
            draw: Draw::new(seed),
        }
    }

    /// Tries the corpus, and then mutations of it as long as `more` says of the number tried.
    ///
    /// # Errors
    /// The first input that the target has something against, made shorter.
    pub fn run(
        &mut self,
        target: &Target<'_>,
        mut more: impl FnMut(u64) -> bool,
    ) -> Result<Tried, Finding> {
        let mut pool = target.corpus.clone();
        let mut seen = HashSet::new();
        let mut inputs = 0;
        for input in &target.corpus {
            seen.insert(attempt(target, input).map_err(|what| shorter(target, input, what))?);
            inputs += 1;
        }
        pool.push(Vec::new());
        while more(inputs) {
            let input = self.mutated(&pool);
            inputs += 1;
            let outcome = attempt(target, &input);
            let outcome = outcome.map_err(|what| shorter(target, &input, what))?;
            if seen.insert(outcome) {
                pool.push(input);
            }
        }
        let outcomes = seen.len();
        Ok(Tried { inputs, outcomes })
    }

    /// One of the pool, changed in a few places.
    fn mutated(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.draw.of(pool).clone();
        for _ in 0..1 + self.draw.below(6) {
            self.mutate(&mut input, pool);
        }
        input.truncate(LONGEST);
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let at = self.draw.below(input.len() + 1);
        let end = (at + self.draw.below(17)).min(input.len());
        let byte = self.draw.below(256) as u8;
        match self.draw.below(9) {
            0 if at < input.len() => input[at] ^= 1 << self.draw.below(8),
            1 if at < input.len() => input[at] = byte,
            2 => input.insert(at, byte),
            3 => drop(input.drain(at..end)),
            4 => {
                let piece = input[at..end].to_vec();
                let to = self.draw.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            5 => self.number(input, at),
            6 => input.truncate(at),
            7 => {
                let other = self.draw.of(pool);
                let from = self.draw.below(other.len() + 1);
                input.truncate(at);
                input.extend(&other[from..]);
            }
            _ => {
                // A character that means something in most texts.
                let sign = *self.draw.of(b"0123456789-+.,:;\"'[](){}<> \n\\aijk");
                input.insert(at, sign);
            }
        }
    }

    /// Writes a number near an edge over some bytes, in one of the ways in which numbers are written.
    fn number(&mut self, input: &mut Vec<u8>, at: usize) {
        let near = self.draw.below(3) as u64;
        let number = self.draw.of(&EDGES).wrapping_add(near).wrapping_sub(1);
        let bytes = match self.draw.below(5) {
            0 => number.to_le_bytes().to_vec(),
            1 => (number as u32).to_le_bytes().to_vec(),
            2 => (number as u32).to_be_bytes().to_vec(),
            3 => number.to_string().into_bytes(),
            _ => (number as u16).to_be_bytes().to_vec(),
        };
        let end = (at + bytes.len()).min(input.len());
        input.splice(at..end, bytes);
    }
}

/// Runs the target on an input; a panic is something wrong.
fn attempt(target: &Target<'_>, input: &[u8]) -> Result<String, String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("a panic: {}", text.unwrap_or("without a message")))
    })
}

/// A finding without the bytes that it does without.
fn shorter(target: &Target<'_>, input: &[u8], what: String) -> Finding {
    let mut found = Finding {
        input: input.to_vec(),
        what,
    };
    let mut piece = input.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < found.input.len() {
            let mut less = found.input.clone();
            less.drain(at..(at + piece).min(less.len()));
            match attempt(target, &less) {
                Err(what) => found = Finding { input: less, what },
                Ok(_) => at += piece,
            }
        }
        piece /= 2;
    }
    found
}

/// Choices read off an input, one after the other; when it is used up, the first choice each time.
#[derive(Clone, Debug)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// The choices that an input makes.
    #[must_use]
    pub fn new(input: &'a [u8]) -> Choices<'a> {
        Choices(input)
    }

    /// Whether the input is used up.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left of the input.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        match self.0 {
            [byte, rest @ ..] => {
                self.0 = rest;
                *byte
            }
            [] => 0,
        }
    }

    /// A number below `end`, which is from 1 to 256.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// One of several; they are not empty.
    pub fn of<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[self.below(choices.len())]
    }

    /// A size: small as a rule, sometimes near an edge of what numbers hold.
    pub fn size(&mut self) -> usize {
        match self.byte() {
            small @ 0..=223 => usize::from(small) % 8,
            edge => (EDGES[usize::from(edge) % EDGES.len()] as usize).wrapping_sub(self.below(3)),
        }
    }

    /// An axis, a shift or an offset: small as a rule, of either sign.
    pub fn signed(&mut self) -> i64 {
        match self.byte() {
            small @ 0..=239 => i64::from(small) % 9 - 4,
            edge => EDGES[usize::from(edge) % EDGES.len()] as i64,
        }
    }
}
