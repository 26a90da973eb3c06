//! A launch of a loop's body as what a block does for its row: the text of one stage.

use std::fmt::Write;

use super::layout::Row;
use crate::contraction::{Places, Resident, Share};
use crate::pack::Pack;

/// One launch of the body.
pub(super) struct Stage<'a> {
    /// Its place among the stages, which ends its names.
    pub(super) number: usize,
    /// What happens at each point of a row.
    pub(super) pack: Pack<'a>,
    pub(super) points: usize,
    pub(super) product: Option<Multiplying<'a>>,
    /// Inputs of the pack that are in memory and may be fetched an iteration ahead; those among them that
    /// move with the iteration; and those that are in shared memory.
    pub(super) far: Vec<usize>,
    pub(super) moving: Vec<usize>,
    pub(super) near: Vec<usize>,
    /// Pointers to what is in memory at iteration `it`, and to the rest.
    pub(super) far_pointers: String,
    pub(super) near_pointers: String,
}

/// The product that a stage begins with.
pub(super) struct Multiplying<'a> {
    pub(super) resident: &'a Resident<'a>,
    pub(super) share: Share,
    pub(super) registers: usize,
    pub(super) row: Row,
}

impl Multiplying<'_> {
    fn places(&self, name: usize) -> Places<'_> {
        Places {
            name,
            registers: self.registers,
            row: &self.row.text,
            width: self.row.width,
        }
    }
}

impl Stage<'_> {
    /// Points that a thread has.
    pub(super) fn each(&self, threads: usize) -> usize {
        self.points.div_ceil(threads)
    }

    fn suffix(&self, at: &str) -> String {
        format!("_{}[{at}]", self.number)
    }

    /// `inside` at every point of a thread's.
    fn at_points(&self, threads: usize, inside: &str) -> String {
        let (points, each) = (self.points, self.each(threads));
        let unravel = self.pack.fold.unravel("number", false, "int");
        let guard = match points == each * threads {
            true => String::new(),
            false => format!("if (j >= {points}) break;\n"),
        };
        format!(
            "#pragma unroll\nfor (int e = 0; e < {each}; ++e) {{\n\
             const int j = threadIdx.x + e * {threads};\n{guard}\
             const int number = row * {points} + j;\n{unravel}{inside}}}\n"
        )
    }

    /// What is fetched once, and where what is fetched ahead is kept.
    pub(super) fn before(&self, threads: usize) -> String {
        let far = self.pack.clone().loading(self.far.clone());
        let mut text = far.room(&self.suffix(&self.each(threads).to_string()));
        if let Some(product) = &self.product {
            let (number, kept) = (self.number, product.registers.max(1));
            let fetch = product
                .resident
                .fetch(product.share, &product.places(number));
            let pointers = &self.far_pointers;
            let _ = writeln!(text, "float kept{number}[{kept}];\n{{\n{pointers}{fetch}}}");
        }
        text + &self.fetch(threads, &self.far)
    }

    /// Fetches inputs for iteration `it`.
    fn fetch(&self, threads: usize, inputs: &[usize]) -> String {
        if inputs.is_empty() {
            return String::new();
        }
        let pack = self.pack.clone().loading(inputs.to_vec());
        let loads = self.at_points(threads, &pack.loads(&self.suffix("e")));
        format!("{{\n{}{loads}}}\n", self.far_pointers)
    }

    /// One iteration, and what is fetched for the next.
    pub(super) fn text(&self, threads: usize) -> String {
        let mut text = format!("{{\n{}", self.near_pointers);
        let mut inside = String::new();
        if let Some(product) = &self.product {
            let multiply = product
                .resident
                .multiply(product.share, &product.places(self.number));
            let _ = writeln!(text, "{{\n{multiply}}}\n__syncthreads();");
            inside += &product.resident.added();
        }
        let near = self.pack.clone().loading(self.near.clone());
        inside += &near.room(&self.suffix(&self.each(threads).to_string()));
        inside += &near.loads(&self.suffix("e"));
        inside += &self.pack.compute(&self.suffix("e"), &|_| true, "");
        text += &self.at_points(threads, &inside);
        text += "}\n";
        let ahead = self.fetch(threads, &self.moving);
        if !ahead.is_empty() {
            let _ = writeln!(text, "if (!last) {{\nconst int it = next;\n{ahead}}}");
        }
        text + "__syncthreads();\n"
    }
}
