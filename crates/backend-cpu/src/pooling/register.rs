//! What windows combine: a register full of neighbours, or a single element.

use crate::simd::{Float, Mask, Simd, Vector};

/// An element in a tile.
pub(super) trait Item: Copy + PartialOrd + 'static {
    /// A register full of them at an instruction set.
    type In<S: Simd>: Register<Element = Self>;

    /// The nearest to a number.
    fn of(x: f64) -> Self;
    fn plus(self, other: Self) -> Self;
    fn is_nan(self) -> bool;
}

macro_rules! items {
    ($($t:ident in $register:ty: $plus:expr, $is_nan:expr;)*) => { $(
        impl Item for $t {
            type In<S: Simd> = $register;
            #[inline(always)]
            fn of(x: f64) -> Self { x as $t }
            #[inline(always)]
            fn plus(self, other: Self) -> Self { $plus(self, other) }
            #[inline(always)]
            fn is_nan(self) -> bool { $is_nan(self) }
        }
    )* };
}
items! {
    f32 in S::F32: |a, b| a + b, f32::is_nan;
    f64 in S::F64: |a, b| a + b, f64::is_nan;
    i32 in One<i32>: i32::wrapping_add, |_| false;
    i64 in One<i64>: i64::wrapping_add, |_| false;
    u8 in One<u8>: u8::wrapping_add, |_| false;
}

/// Elements that are taken together.
pub(super) trait Register: Copy {
    type Element: Item;
    /// The number of a tap for each element.
    type Tap: Copy;
    const LANES: usize;

    /// # Safety
    /// The instructions of the level must be available.
    unsafe fn all(x: Self::Element) -> Self;

    /// Elements `step` apart.
    ///
    /// # Safety
    /// The instructions must be available, and the elements readable.
    unsafe fn get(from: *const Self::Element, step: isize) -> Self;

    /// Writes elements `step` apart.
    ///
    /// # Safety
    /// The elements must be writable.
    unsafe fn put(self, to: *mut Self::Element, step: isize);

    /// Adds these elements to every other one from `to` on, and those of `next` to the others.
    ///
    /// # Safety
    /// `2 LANES` elements must be writable.
    unsafe fn add_pairs(self, next: Self, to: *mut Self::Element);

    fn plus(self, other: Self) -> Self;
    fn tap(self, tap: usize) -> Self::Tap;
    /// The better one of each pair; NaN if either is.
    fn best<R: Rank>(self, new: Self) -> Self;
    /// Takes in the values of a tap: they replace those that are worse than they are.
    fn choose<R: Rank>(chosen: (Self, Self::Tap), new: Self, tap: usize) -> (Self, Self::Tap);
    /// Where the tap was chosen, the element; elsewhere zero.
    fn where_chosen(self, chosen: Self::Tap, tap: usize) -> Self;
}

/// Which of two numbers a reduction keeps.
pub(super) trait Rank {
    fn is_better<T: PartialOrd>(new: T, old: T) -> bool;
    fn are_better<F: Float>(new: F, old: F) -> F::Mask;
    fn better<F: Float>(a: F, b: F) -> F;
}

/// Maxima.
pub(super) struct Largest;

impl Rank for Largest {
    #[inline(always)]
    fn is_better<T: PartialOrd>(new: T, old: T) -> bool {
        new > old
    }
    #[inline(always)]
    fn are_better<F: Float>(new: F, old: F) -> F::Mask {
        old.lt(new)
    }
    #[inline(always)]
    fn better<F: Float>(a: F, b: F) -> F {
        a.max(b)
    }
}

/// Minima.
pub(super) struct Smallest;

impl Rank for Smallest {
    #[inline(always)]
    fn is_better<T: PartialOrd>(new: T, old: T) -> bool {
        new < old
    }
    #[inline(always)]
    fn are_better<F: Float>(new: F, old: F) -> F::Mask {
        new.lt(old)
    }
    #[inline(always)]
    fn better<F: Float>(a: F, b: F) -> F {
        a.min(b)
    }
}

impl<V: Vector> Register for V
where
    V::Element: Item,
{
    type Element = V::Element;
    type Tap = V;
    const LANES: usize = <V as Vector>::LANES;

    #[inline(always)]
    unsafe fn all(x: V::Element) -> V {
        // SAFETY: the same contract.
        unsafe { V::splat(x) }
    }

    #[inline(always)]
    unsafe fn get(from: *const V::Element, step: isize) -> V {
        // SAFETY: the same contract; no register has more lanes than the array.
        unsafe {
            match step {
                1 => V::load(from),
                2 => V::load_every_other(from),
                _ => {
                    let mut lanes = [from.read(); 16];
                    for (i, lane) in lanes.iter_mut().enumerate().take(<V as Vector>::LANES) {
                        *lane = from.offset(i as isize * step).read();
                    }
                    V::load(lanes.as_ptr())
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn put(self, to: *mut V::Element, step: isize) {
        // SAFETY: the same contract; no register has more lanes than the array.
        unsafe {
            if step == 1 {
                return self.store(to);
            }
            let mut lanes = [self.first(); 16];
            self.store(lanes.as_mut_ptr());
            for (i, lane) in lanes.into_iter().enumerate().take(<V as Vector>::LANES) {
                to.offset(i as isize * step).write(lane);
            }
        }
    }

    #[inline(always)]
    unsafe fn add_pairs(self, next: V, to: *mut V::Element) {
        let (low, high) = self.interleave(next);
        let rest = to.wrapping_add(<V as Vector>::LANES);
        // SAFETY: the same contract.
        unsafe {
            V::load(to).add(low).store(to);
            V::load(rest).add(high).store(rest);
        }
    }

    #[inline(always)]
    fn plus(self, other: V) -> V {
        self.add(other)
    }

    #[inline(always)]
    fn tap(self, tap: usize) -> V {
        self.like(V::Element::of(tap as f64))
    }

    #[inline(always)]
    fn best<R: Rank>(self, new: V) -> V {
        R::better(self, new)
    }

    #[inline(always)]
    fn choose<R: Rank>((best, at): (V, V), new: V, tap: usize) -> (V, V) {
        let better = R::are_better(new, best);
        let taken = better.or(new.ne(new).and(best.equal(best)));
        let at = V::select(taken, Register::tap(new, tap), at);
        (V::select(taken, new, best), at)
    }

    #[inline(always)]
    fn where_chosen(self, chosen: V, tap: usize) -> V {
        let here = chosen.equal(Register::tap(self, tap));
        V::select(here, self, self.like(V::Element::of(0.0)))
    }
}

/// One element.
#[derive(Clone, Copy)]
pub(super) struct One<T>(pub(super) T);

impl<T: Item> Register for One<T> {
    type Element = T;
    type Tap = usize;
    const LANES: usize = 1;

    #[inline(always)]
    unsafe fn all(x: T) -> Self {
        One(x)
    }

    #[inline(always)]
    unsafe fn get(from: *const T, _: isize) -> Self {
        // SAFETY: the same contract.
        One(unsafe { from.read() })
    }

    #[inline(always)]
    unsafe fn put(self, to: *mut T, _: isize) {
        // SAFETY: the same contract.
        unsafe { to.write(self.0) };
    }

    #[inline(always)]
    unsafe fn add_pairs(self, next: Self, to: *mut T) {
        // SAFETY: the same contract.
        unsafe {
            to.write(to.read().plus(self.0));
            to.add(1).write(to.add(1).read().plus(next.0));
        }
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        One(self.0.plus(other.0))
    }

    #[inline(always)]
    fn tap(self, tap: usize) -> usize {
        tap
    }

    #[inline(always)]
    fn best<R: Rank>(self, new: Self) -> Self {
        let keep = self.0.is_nan() || R::is_better(self.0, new.0);
        if keep { self } else { new }
    }

    #[inline(always)]
    fn choose<R: Rank>((best, at): (Self, usize), new: Self, tap: usize) -> (Self, usize) {
        if R::is_better(new.0, best.0) || (new.0.is_nan() && !best.0.is_nan()) {
            (new, tap)
        } else {
            (best, at)
        }
    }

    #[inline(always)]
    fn where_chosen(self, chosen: usize, tap: usize) -> Self {
        if chosen == tap { self } else { One(T::of(0.0)) }
    }
}
