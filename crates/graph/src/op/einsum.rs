//! Einstein's summation: an equation of axes, as in `bij,bjk->bik`.
//!
//! Axes that one operand alone has and the result does not are summed first; repeated ones become
//! diagonals. What is left of two operands is then a batched matrix product of three groups of
//! axes. More than two operands are contracted from left to right.

use std::panic::Location;

use backprop_core::Shape;

use crate::graph::{Graph, Problem, bad_attribute};
use crate::op::catalogue::{Entry, entries, reals};
use crate::tensor::Tensor;

const NAME: &str = "einsum";

impl Graph {
    /// The sum of products that `equation` says: the axes of each operand as letters, separated by
    /// commas, and after `->` those of the result. A letter that the result lacks is summed over; a
    /// letter twice in one operand walks its diagonal. Without `->`, the result has the letters that
    /// occur once, in alphabetic order. `...` stands for any further axes. An axis of size 1 is
    /// broadcast to the size that its letter has in other operands.
    #[track_caller]
    pub fn einsum<'g>(&'g self, equation: &str, operands: &[Tensor<'g>]) -> Tensor<'g> {
        self.compose(NAME, operands, Location::caller(), || {
            let equation = Equation::parse(equation, operands)?;
            let pairs = operands.iter().zip(&equation.operands);
            let term = |(&tensor, letters): (&Tensor<'g>, &Vec<Letter>)| Term {
                tensor,
                letters: letters.clone(),
            };
            let terms = pairs.map(|pair| term(pair).diagonal().squeezed(&equation));
            let terms: Vec<Term<'g>> = terms.collect();
            let Some((first, others)) = terms.split_first() else {
                return Err(bad_attribute(NAME, "no operands"));
            };
            let wanted = |from: usize, letter: Letter| {
                equation.result.contains(&letter) || terms[from..].iter().any(|t| t.has(letter))
            };
            let mut sum = first.clone().summed(|l| wanted(1, l));
            for (i, next) in others.iter().enumerate() {
                let needed = |letter| sum.has(letter) || wanted(i + 2, letter);
                let next = next.clone().summed(needed);
                sum = sum.times(&next, |letter| wanted(i + 2, letter));
                sum = sum.summed(|letter| wanted(i + 2, letter));
            }
            Ok(sum.ordered(&equation).tensor)
        })
    }
}

/// An axis: an ASCII letter, or one of those that `...` stands for, counted from the back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Letter {
    Further(usize),
    Named(u8),
}

struct Equation {
    operands: Vec<Vec<Letter>>,
    result: Vec<Letter>,
    sizes: Vec<(Letter, usize)>,
}

impl Equation {
    fn parse(text: &str, operands: &[Tensor<'_>]) -> Result<Equation, Problem> {
        let wrong = |what: String| bad_attribute(NAME, format!("`{text}`: {what}"));
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match compact.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (compact.as_str(), None),
        };
        let texts: Vec<&str> = left.split(',').collect();
        if texts.len() != operands.len() {
            let counts = format!("{} terms for {} operands", texts.len(), operands.len());
            return Err(wrong(counts));
        }
        let mut equation = Equation {
            operands: Vec::new(),
            result: Vec::new(),
            sizes: Vec::new(),
        };
        for (term, operand) in texts.iter().zip(operands) {
            let letters = letters(term, Some(operand.rank())).map_err(wrong)?;
            equation.measure(&letters, operand.shape()).map_err(wrong)?;
            equation.operands.push(letters);
        }
        let mut further: Vec<Letter> = equation.sizes.iter().map(|&(letter, _)| letter).collect();
        further.retain(|letter| matches!(letter, Letter::Further(_)));
        further.sort_by(|a, b| b.cmp(a));
        equation.result = match right {
            Some(right) => letters(right, None).map_err(wrong)?,
            None => equation.implied(),
        };
        // `...` in the result means all of them, and so does leaving `->` out.
        if right.is_none_or(|right| right.contains("...")) {
            let at = right.and_then(|right| right.find("...")).unwrap_or(0);
            equation.result.splice(at..at, further);
        }
        equation.check_result().map_err(wrong)?;
        Ok(equation)
    }

    /// Notes the sizes of an operand's letters.
    fn measure(&mut self, letters: &[Letter], shape: Shape) -> Result<(), String> {
        if letters.len() != shape.rank() {
            let (count, rank) = (letters.len(), shape.rank());
            return Err(format!("{count} letters for the {rank} axes of {shape}"));
        }
        for (axis, (&letter, &size)) in letters.iter().zip(shape.sizes()).enumerate() {
            let before = letters[..axis].iter().position(|&l| l == letter);
            let own = before.map(|first| shape.size(first));
            let differ = |known: usize| {
                let name = show(letter);
                Err(format!("{name} has the sizes {known} and {size}"))
            };
            if let Some(own) = own.filter(|&own| own != size) {
                return differ(own);
            }
            match self.sizes.iter_mut().find(|(known, _)| *known == letter) {
                None => self.sizes.push((letter, size)),
                Some((_, known)) if *known == size || size == 1 => {}
                Some((_, known)) if *known == 1 => *known = size,
                Some((_, known)) => return differ(*known),
            }
        }
        Ok(())
    }

    fn implied(&self) -> Vec<Letter> {
        let all: Vec<Letter> = self.operands.iter().flatten().copied().collect();
        let once = |letter: &Letter| all.iter().filter(|l| *l == letter).count() == 1;
        let named = |letter: &Letter| matches!(letter, Letter::Named(_));
        let mut result: Vec<Letter> = all
            .iter()
            .copied()
            .filter(|l| named(l) && once(l))
            .collect();
        result.sort();
        result
    }

    fn check_result(&self) -> Result<(), String> {
        for (i, &letter) in self.result.iter().enumerate() {
            if self.size(letter).is_none() {
                return Err(format!("{} of the result is in no operand", show(letter)));
            }
            if self.result[..i].contains(&letter) {
                return Err(format!("{} is twice in the result", show(letter)));
            }
        }
        Ok(())
    }

    fn size(&self, letter: Letter) -> Option<usize> {
        let found = self.sizes.iter().find(|(known, _)| *known == letter);
        found.map(|&(_, size)| size)
    }
}

fn show(letter: Letter) -> String {
    match letter {
        Letter::Named(name) => format!("`{}`", char::from(name)),
        Letter::Further(i) => format!("axis {i} (from the back) of `...`"),
    }
}

/// The letters of a term. `...` becomes as many as are left of `rank`; in a result (no rank), none.
fn letters(term: &str, rank: Option<usize>) -> Result<Vec<Letter>, String> {
    let (before, after) = match term.split_once("...") {
        Some((before, after)) => (before, Some(after)),
        None => (term, None),
    };
    let named = |text: &str| -> Result<Vec<Letter>, String> {
        let one = |c: char| match c.is_ascii_alphabetic() {
            true => Ok(Letter::Named(c as u8)),
            false => Err(format!("`{c}` is no letter")),
        };
        text.chars().map(one).collect()
    };
    let mut result = named(before)?;
    if let Some(after) = after {
        let after = named(after)?;
        let further = rank.map_or(0, |rank| rank.saturating_sub(result.len() + after.len()));
        result.extend((0..further).rev().map(Letter::Further));
        result.extend(after);
    }
    Ok(result)
}

/// A tensor with the letters of its axes.
#[derive(Clone)]
struct Term<'g> {
    tensor: Tensor<'g>,
    letters: Vec<Letter>,
}

impl<'g> Term<'g> {
    fn has(&self, letter: Letter) -> bool {
        self.letters.contains(&letter)
    }

    fn position(&self, letter: Letter) -> Option<usize> {
        self.letters.iter().position(|&l| l == letter)
    }

    fn size(&self, letter: Letter) -> usize {
        let axis = self.position(letter);
        axis.map_or(1, |axis| self.tensor.shape().size(axis))
    }

    /// With repeated letters merged into diagonals.
    fn diagonal(mut self) -> Term<'g> {
        while let Some((first, second)) = self.repeated() {
            self.tensor = self.tensor.diagonal(0, first as i32, second as i32);
            let letter = self.letters.remove(second);
            self.letters.remove(first);
            self.letters.push(letter);
        }
        self
    }

    fn repeated(&self) -> Option<(usize, usize)> {
        (0..self.letters.len()).find_map(|second| {
            let first = self.position(self.letters[second])?;
            (first < second).then_some((first, second))
        })
    }

    /// Without axes of size 1 that other operands broadcast.
    fn squeezed(mut self, equation: &Equation) -> Term<'g> {
        for axis in (0..self.letters.len()).rev() {
            let size = self.tensor.shape().size(axis);
            if equation.size(self.letters[axis]) != Some(size) {
                self.tensor = self.tensor.squeeze(axis as i32);
                self.letters.remove(axis);
            }
        }
        self
    }

    /// With the axes summed that nobody needs.
    fn summed(mut self, needed: impl Fn(Letter) -> bool) -> Term<'g> {
        let gone = |axis: &usize| !needed(self.letters[*axis]);
        let axes: Vec<i32> = (0..self.letters.len())
            .filter(gone)
            .map(|axis| axis as i32)
            .collect();
        if !axes.is_empty() {
            self.tensor = self.tensor.sum(axes.as_slice());
            self.letters.retain(|&letter| needed(letter));
        }
        self
    }

    /// The product with another term, summed over the letters of both that nobody needs.
    fn times(&self, other: &Term<'g>, needed: impl Fn(Letter) -> bool) -> Term<'g> {
        let shared: Vec<Letter> = own(&self.letters, |l| other.has(l));
        let (batch, inner): (Vec<Letter>, Vec<Letter>) = shared.iter().partition(|&&l| needed(l));
        let rows = own(&self.letters, |l| !other.has(l));
        let columns = own(&other.letters, |l| !self.has(l));
        let letters = [batch.as_slice(), &rows, &columns].concat();
        if inner.is_empty() || (rows.is_empty() && columns.is_empty()) {
            return self.multiplied(other, letters);
        }
        let left = self.grouped([&batch, &rows, &inner]);
        let right = other.grouped([&batch, &inner, &columns]);
        let term = |letter: Letter| if self.has(letter) { self } else { other };
        let shape: Vec<isize> = letters
            .iter()
            .map(|&letter| term(letter).size(letter) as isize)
            .collect();
        let tensor = left.matmul(right).reshape(shape);
        Term { tensor, letters }
    }

    /// The elementwise product; letters that `letters` lacks come last.
    fn multiplied(&self, other: &Term<'g>, mut letters: Vec<Letter>) -> Term<'g> {
        let inner = own(&self.letters, |letter| !letters.contains(&letter));
        letters.extend(inner);
        let tensor = self.spread(&letters) * other.spread(&letters);
        Term { tensor, letters }
    }

    /// With the axes in the order of `letters`, and size 1 where there is none.
    fn spread(&self, letters: &[Letter]) -> Tensor<'g> {
        let order = letters.iter().filter_map(|&l| self.position(l));
        let order: Vec<i32> = order.map(|axis| axis as i32).collect();
        let shape: Vec<isize> = letters.iter().map(|&l| self.size(l) as isize).collect();
        self.tensor.permute(order).reshape(shape)
    }

    /// As a batch of matrices of three groups of axes.
    fn grouped(&self, groups: [&Vec<Letter>; 3]) -> Tensor<'g> {
        let order: Vec<i32> = groups
            .iter()
            .flat_map(|group| group.iter())
            .filter_map(|&letter| self.position(letter))
            .map(|axis| axis as i32)
            .collect();
        let sizes = groups.map(|group| group.iter().map(|&l| self.size(l)).product::<usize>());
        self.tensor
            .permute(order)
            .reshape(sizes.map(|size| size as isize))
    }

    /// As the result wants it.
    fn ordered(self, equation: &Equation) -> Term<'g> {
        let tensor = self.spread(&equation.result);
        Term {
            tensor,
            letters: equation.result.clone(),
        }
    }
}

fn own(letters: &[Letter], keep: impl Fn(Letter) -> bool) -> Vec<Letter> {
    letters.iter().copied().filter(|&l| keep(l)).collect()
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    entries! {
        einsum_batched reals(&[&[2, 3, 4], &[2, 4, 2]]) => |x| {
            x[0].graph().einsum("bij,bjk->bik", x)
        };
        einsum_dot reals(&[&[3, 4], &[3, 4]]) => |x| x[0].graph().einsum("ij,ij->", x);
        einsum_outer reals(&[&[3], &[4]]) => |x| x[0].graph().einsum("i,j->ij", x);
        einsum_trace reals(&[&[3, 3]]) => |x| x[0].graph().einsum("ii", x);
        einsum_three reals(&[&[2, 3], &[3, 2], &[2, 2]]) => |x| {
            x[0].graph().einsum("ij,jk,kl->il", x)
        };
        einsum_diagonals reals(&[&[2, 3, 3], &[3, 2, 3]]) => |x| {
            x[0].graph().einsum("bii,ibi->ib", x)
        };
        einsum_broadcast reals(&[&[2, 1], &[3, 4], &[1, 4]]) => |x| {
            x[0].graph().einsum("ij,jk,ik->ki", x)
        };
        einsum_implied reals(&[&[3, 2, 3], &[2, 4]]) => |x| x[0].graph().einsum("iji,jk", x);
        einsum_alone reals(&[&[2, 3, 2]]) => |x| x[0].graph().einsum("iji->ij", x);
        einsum_further reals(&[&[2, 3, 2], &[1, 2, 3]]) => |x| {
            x[0].graph().einsum("...ij,...jk", x)
        };
    }
}
