//! Scaled dot-product attention and its vjp.

use std::fmt;

use super::{Body, Check, Operand, Source, TensorType, ensure};
use crate::{DType, Shape};

/// Which keys a query sees.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum KeyMask {
    /// All.
    None,
    /// Those up to its own position.
    Causal,
    /// Those where this truth value holds; viewed from `batch x [queries, keys]`.
    Where(Source),
    /// All, with this number added to the score; viewed from `batch x [queries, keys]`.
    Add(Source),
}

impl KeyMask {
    fn source(&self) -> Option<&Source> {
        match self {
            KeyMask::Where(source) | KeyMask::Add(source) => Some(source),
            KeyMask::None | KeyMask::Causal => None,
        }
    }

    fn source_mut(&mut self) -> Option<&mut Source> {
        match self {
            KeyMask::Where(source) | KeyMask::Add(source) => Some(source),
            KeyMask::None | KeyMask::Causal => None,
        }
    }
}

/// What attention and its vjp have in common. With queries `q`, keys `k` and values `v`, the score
/// of query `i` and key `j` is `scale * sum of q[i, :] * k[j, :]`, plus what the mask adds, or minus
/// infinity where it hides the key; `lse[i]` is the logarithm of the sum of the exponentials of the
/// scores of query `i`, and `p[i, j] = exp(score[i, j] - lse[i])`. Of a query that sees nothing, by
/// scores that all are minus infinity, `lse` is infinite and `p` is 0. All operands are floats.
///
/// A key after a query that is causal has `p = 0`, and a backend may leave it out of the sums: then
/// it does not matter whether what it is multiplied by is finite.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Heads {
    /// The batch axes: examples and heads.
    pub batch: Shape,
    /// The number of queries.
    pub queries: usize,
    /// The number of keys and values.
    pub keys: usize,
    /// Elements of a query and of a key.
    pub depth: usize,
    /// Elements of a value.
    pub width: usize,
    /// The bits of the `f64` by which products are scaled.
    pub scale: u64,
    /// Which keys a query sees.
    pub mask: KeyMask,
    /// Viewed from `batch x [queries, depth]`.
    pub query: Operand,
    /// Viewed from `batch x [keys, depth]`.
    pub key: Operand,
    /// Viewed from `batch x [keys, width]`.
    pub value: Operand,
}

impl Heads {
    /// The factor of the products.
    #[must_use]
    pub fn scale(&self) -> f64 {
        f64::from_bits(self.scale)
    }

    /// The batch axes followed by two more; `None` if these are too many.
    #[must_use]
    pub fn space(&self, rows: usize, columns: usize) -> Option<Shape> {
        Shape::new(&[self.batch.sizes(), &[rows, columns]].concat())
    }

    /// Query, key and value as they are in memory, where none has a prologue.
    #[must_use]
    pub fn as_plain(&self) -> Option<[&Source; 3]> {
        Some([
            self.query.as_plain()?,
            self.key.as_plain()?,
            self.value.as_plain()?,
        ])
    }

    fn reads(&self) -> impl Iterator<Item = &Source> {
        let operands = [&self.query, &self.key, &self.value];
        let inputs = operands.into_iter().flat_map(|operand| &operand.inputs);
        inputs.chain(self.mask.source())
    }

    fn sources_mut(&mut self) -> impl Iterator<Item = &mut Source> {
        let operands = [&mut self.query, &mut self.key, &mut self.value];
        let inputs = operands.into_iter().flat_map(|operand| &mut operand.inputs);
        inputs.chain(self.mask.source_mut())
    }

    fn check(&self) -> Check {
        let space = |rows, columns| {
            let space = self.space(rows, columns);
            space.ok_or_else(|| "too many batch axes".to_owned())
        };
        for (operand, rows, columns) in [
            (&self.query, self.queries, self.depth),
            (&self.key, self.keys, self.depth),
            (&self.value, self.keys, self.width),
        ] {
            operand.check(space(rows, columns)?)?;
            let result = operand.program.code().last();
            ensure(result.is_some_and(|(_, dtype)| dtype.is_float()), || {
                format!("an operand that is no float, of {self}")
            })?;
        }
        if let Some(mask) = self.mask.source() {
            mask.check(space(self.queries, self.keys)?)?;
            let dtype = mask.tensor.dtype;
            let fits = match self.mask {
                KeyMask::Where(_) => dtype == DType::Bool,
                _ => dtype.is_float(),
            };
            ensure(fits, || format!("a mask of {}", mask.tensor))?;
        }
        Ok(())
    }
}

impl fmt::Display for Heads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Heads {
            batch,
            queries,
            keys,
            depth,
            ..
        } = self;
        write!(f, "{batch}x{queries} queries of {depth} to {keys} keys")?;
        f.write_str(match self.mask {
            KeyMask::None => "",
            KeyMask::Causal => ", causal",
            KeyMask::Where(_) | KeyMask::Add(_) => ", masked",
        })
    }
}

/// `out[i, :] = sum of p[i, j] * v[j, :]` over the keys `j` (see [`Heads`]), and `lse`.
///
/// Sums are kept in type `accumulator`; `out` becomes input 0 of the epilogue's program, whose own
/// inputs are numbered from 1 and whose index space `space` has the points of
/// `batch x [queries, width]` in order. Writes the epilogue's outputs, then `lse`. Optional.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Attention {
    /// The operands.
    pub heads: Heads,
    /// The type in which sums are kept.
    pub accumulator: DType,
    /// The index space of the epilogue.
    pub space: Shape,
    /// What becomes of the results.
    pub epilogue: Body,
    /// `batch x [queries]`, of the accumulator's type.
    pub lse: TensorType,
}

impl Attention {
    /// Whether no operand has a prologue and the epilogue only stores.
    #[must_use]
    pub fn is_unfused(&self) -> bool {
        self.heads.as_plain().is_some() && self.epilogue.is_store()
    }

    pub(super) fn reads(&self) -> impl Iterator<Item = &TensorType> {
        let operands = self.heads.reads().map(|source| &source.tensor);
        operands.chain(self.epilogue.reads())
    }

    pub(super) fn writes(&self) -> impl Iterator<Item = &TensorType> {
        self.epilogue.writes().chain([&self.lse])
    }

    pub(super) fn sources_mut(&mut self) -> impl Iterator<Item = &mut Source> {
        self.heads.sources_mut()
    }

    pub(super) fn may_overwrite(&self, write: usize, read: usize) -> bool {
        read.checked_sub(self.heads.reads().count())
            .is_some_and(|read| self.epilogue.may_overwrite(self.space, write, read))
    }

    pub(super) fn check(&self) -> Check {
        self.heads.check()?;
        ensure(self.accumulator.is_float(), || {
            format!("sums of type {}", self.accumulator)
        })?;
        let Heads { queries, width, .. } = self.heads;
        let points = self.heads.space(queries, width).map(|space| space.count());
        ensure(points == Some(self.space.count()), || {
            format!("{} in a space of {}", self.heads, self.space)
        })?;
        let lse = self.lse.dtype == self.accumulator
            && self.lse.shape.count() == self.heads.batch.count() * queries;
        ensure(lse, || format!("the log-sum-exp as {}", self.lse))?;
        self.epilogue
            .check_pointwise(self.space, Some(self.accumulator))
    }
}

impl fmt::Display for Attention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.heads)?;
        let says_nothing = self.epilogue.is_store() && self.epilogue.program.len() == 1;
        if !says_nothing {
            f.write_str(" then ")?;
        }
        fmt::Display::fmt(&self.epilogue, f)
    }
}

/// The vjp of [`Attention`] by queries, keys and values, from its results and the cotangent `g` of
/// `out`: with `ds[i, j] = p[i, j] * (g[i, :] . v[j, :] - g[i, :] . out[i, :])`,
/// `dq[i, :] = scale * sum of ds[i, j] * k[j, :]`, `dk[j, :] = scale * sum of ds[i, j] * q[i, :]` and
/// `dv[j, :] = sum of p[i, j] * g[i, :]` (Dao et al., 2022, arXiv:2205.14135). Where the operands are
/// broadcast views, results are those of the broadcast operands. Optional.
///
/// Reads the operands, `out`, `lse` and `g`; writes `dq`, `dk` and `dv`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AttentionVjp {
    /// The operands.
    pub heads: Heads,
    /// Viewed from `batch x [queries, width]`.
    pub out: Source,
    /// Viewed from `batch x [queries]`.
    pub lse: Source,
    /// Viewed from `batch x [queries, width]`.
    pub cotangent: Source,
    /// `dq`, `dk` and `dv`, each dense over its operand's space.
    pub results: [TensorType; 3],
}

impl AttentionVjp {
    pub(super) fn reads(&self) -> impl Iterator<Item = &TensorType> {
        let results = [&self.out, &self.lse, &self.cotangent];
        self.heads
            .reads()
            .chain(results)
            .map(|source| &source.tensor)
    }

    pub(super) fn sources_mut(&mut self) -> impl Iterator<Item = &mut Source> {
        let results = [&mut self.out, &mut self.lse, &mut self.cotangent];
        self.heads.sources_mut().chain(results)
    }

    pub(super) fn check(&self) -> Check {
        self.heads.check()?;
        let Heads {
            queries,
            keys,
            depth,
            width,
            batch,
            ..
        } = self.heads;
        let too_many = || "too many batch axes".to_owned();
        let space = |rows, columns| self.heads.space(rows, columns).ok_or_else(too_many);
        self.out.check(space(queries, width)?)?;
        self.cotangent.check(space(queries, width)?)?;
        let each = Shape::new(&[batch.sizes(), &[queries]].concat()).ok_or_else(too_many)?;
        self.lse.check(each)?;
        let spaces = [
            space(queries, depth)?,
            space(keys, depth)?,
            space(keys, width)?,
        ];
        let fit = self
            .results
            .iter()
            .zip(spaces)
            .all(|(result, space)| result.shape.count() == space.count());
        let given = [&self.out, &self.lse, &self.cotangent].map(|source| source.tensor.dtype);
        let floats = given
            .iter()
            .chain(self.results.iter().map(|result| &result.dtype));
        let fit = fit && floats.copied().all(DType::is_float);
        ensure(fit, || format!("{} into {:?}", self.heads, self.results))
    }
}

impl fmt::Display for AttentionVjp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.heads, f)
    }
}
