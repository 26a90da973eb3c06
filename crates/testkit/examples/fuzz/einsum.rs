//! Equations of `einsum`, on operands whose axes follow the equation more or less, against a sum
//! over all letters.

use std::collections::BTreeMap;

use backprop::prelude::*;
use backprop::{ErrorKind, Reference};
use backprop_testkit::fuzz::{Choices, Target};

/// An operand: sizes, and whole numbers.
struct Array {
    sizes: Vec<usize>,
    values: Vec<f64>,
}

pub(crate) fn with(tried: &mut dyn FnMut(&Target<'_>)) {
    let corpus: [&[u8]; 11] = [
        b"ij,jk->ik\n\x01\x02\x02",
        b"ij,ij->\n\x02\x01",
        b"ii->i\n\x02",
        b"bij,bjk\n\x01\x02\x02\x00",
        b"i,j,k->kji\n\x01\x02\x00",
        b"...ij,...jk->...ik\n\x01\x02\x02\x02\x02",
        b"iji->j\n\x02\x01",
        b" a b -> b a \n\x02\x01",
        b"ij,j\n\x01\x02",
        b"->\n",
        // An axis of size 1 that the other operand has not been squeezed of.
        b"jaixc,apbzk\nws\xff\xff",
    ];
    tried(&Target {
        name: "einsum",
        corpus: corpus.map(<[u8]>::to_vec).to_vec(),
        run: &run,
    });
}

fn run(input: &[u8]) -> Result<String, String> {
    let end = input
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap_or(input.len());
    let equation = String::from_utf8_lossy(&input[..end]);
    let mut choices = Choices::new(input.get(end + 1..).unwrap_or_default());
    let operands = operands(&equation, &mut choices);
    let (expected, graph) = (summed(&equation, &operands), Graph::new());
    let tensors: Vec<Tensor<'_>> = operands
        .iter()
        .map(|operand| graph.data(&operand.sizes, &operand.values))
        .collect();
    let y = graph.einsum(&equation, &tensors);
    if let Err(error) = graph.check() {
        // Products of operands may need more axes than there can be.
        let mut letters: Vec<char> = equation.chars().filter(char::is_ascii_alphabetic).collect();
        letters.sort_unstable();
        letters.dedup();
        return refused(&error, expected.is_some() && letters.len() <= 8);
    }
    let outcome = || -> Result<Vec<f64>> {
        let mut session = Session::compile(&graph, Reference, &[y.key()], Updates::none())?;
        session.step()?;
        session.fetch(y)
    };
    let found = outcome().map_err(|error| error.to_string())?;
    match expected {
        Some(expected) if expected.values != found || expected.sizes != y.shape().sizes() => {
            let (sizes, shape) = (expected.sizes, y.shape());
            Err(format!(
                "{found:?} of {shape}, not {:?} of {sizes:?}",
                expected.values
            ))
        }
        Some(expected) => Ok(format!(
            "{} operands, {}",
            operands.len(),
            expected.sizes.len()
        )),
        None => Ok(format!("further axes, rank {}", y.rank())),
    }
}

/// An error that blames the equation or a shape, of an equation that is none.
fn refused(error: &Error, has_value: bool) -> Result<String, String> {
    let fits = matches!(
        error.kind(),
        ErrorKind::Attribute { .. } | ErrorKind::Shape { .. }
    );
    match fits && error.all().count() == 1 && !has_value {
        true => Ok(format!("{:?}", error.kind())
            .split(['`', '['])
            .next()
            .unwrap_or_default()
            .to_owned()),
        false => Err(error.to_string()),
    }
}

/// An operand for each term of the left side, with an axis for each letter.
fn operands(equation: &str, choices: &mut Choices<'_>) -> Vec<Array> {
    let left = equation.split("->").next().unwrap_or_default();
    let mut of_letters = BTreeMap::new();
    let terms = left.split(',').take(4);
    let operand = |term: &str| {
        let mut sizes: Vec<usize> = Vec::new();
        for letter in term.chars().filter(char::is_ascii_alphabetic).take(8) {
            let size = of_letters
                .entry(letter)
                .or_insert_with(|| 1 + choices.below(3));
            // Now and then a size of its own.
            sizes.push(match choices.byte() {
                250.. => choices.below(4),
                240.. => 1,
                _ => *size,
            });
        }
        if term.contains("...") {
            let further = choices.below(3);
            sizes.splice(0..0, [2, 3].into_iter().take(further));
            sizes.truncate(8);
        }
        let count = sizes.iter().product();
        let values = (0..count).map(|i| ((i * 7 + sizes.len()) % 5) as f64 - 2.0);
        Array {
            values: values.collect(),
            sizes: sizes.clone(),
        }
    };
    terms.map(operand).collect()
}

/// What a plain equation means: `None` where it has further axes or makes no sense.
fn summed(equation: &str, operands: &[Array]) -> Option<Array> {
    let compact: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match compact.split_once("->") {
        Some((left, right)) => (left, Some(right.to_owned())),
        None => (compact.as_str(), None),
    };
    let terms: Vec<Vec<char>> = left.split(',').map(|term| term.chars().collect()).collect();
    let letters: Vec<char> = terms.concat();
    let once = || {
        let mut once = letters.clone();
        once.retain(|letter| letters.iter().filter(|l| *l == letter).count() == 1);
        once.sort_unstable();
        once.into_iter().collect()
    };
    let result: Vec<char> = right.unwrap_or_else(once).chars().collect();
    let plain = letters.iter().chain(&result).all(char::is_ascii_alphabetic);
    let given = result.iter().all(|letter| letters.contains(letter));
    let repeated = (1..result.len()).any(|i| result[..i].contains(&result[i]));
    if !plain || !given || repeated || result.len() > 8 || terms.len() != operands.len() {
        return None;
    }
    let mut sizes: BTreeMap<char, usize> = BTreeMap::new();
    for (term, operand) in terms.iter().zip(operands) {
        if term.len() != operand.sizes.len() {
            return None;
        }
        let axes = || term.iter().zip(&operand.sizes);
        // A diagonal is of equal axes.
        if axes().any(|(a, m)| axes().any(|(b, n)| a == b && m != n)) {
            return None;
        }
        for (&letter, &size) in axes() {
            let common = sizes.entry(letter).or_insert(size);
            if *common == 1 {
                *common = size;
            }
            if size != 1 && size != *common {
                return None;
            }
        }
    }
    (sizes.values().product::<usize>() <= 20_000).then(|| walk(&sizes, (&terms, operands), &result))
}

/// The sum over all values of all letters.
fn walk(
    sizes: &BTreeMap<char, usize>,
    (terms, operands): (&[Vec<char>], &[Array]),
    result: &[char],
) -> Array {
    let of_result: Vec<usize> = result.iter().map(|letter| sizes[letter]).collect();
    let mut sum = vec![0.0; of_result.iter().product()];
    for point in 0..sizes.values().product::<usize>() {
        let mut rest = point;
        let at: BTreeMap<char, usize> = sizes
            .iter()
            .map(|(&letter, &size)| {
                let here = rest % size;
                rest /= size;
                (letter, here)
            })
            .collect();
        // An axis of size 1 is broadcast.
        let index = |letters: &[char], sizes: &[usize]| {
            let pairs = letters.iter().zip(sizes);
            pairs.fold(0, |index, (letter, &size)| index * size + at[letter] % size)
        };
        let factors = terms.iter().zip(operands);
        let product: f64 = factors
            .map(|(term, operand)| operand.values[index(term, &operand.sizes)])
            .product();
        sum[index(result, &of_result)] += product;
    }
    Array {
        sizes: of_result,
        values: sum,
    }
}
