//! Many points reduced to fewer values. Where these are few, blocks share the points of one, and a
//! second launch adds up what they have.

use std::fmt::Write;

use backprop_core::{DType, Reduction, Register};

use crate::lowered::{Arg, Early, Launch, Lowered, Source, THREADS, blocks};
use crate::pack::Pack;
use crate::schedule::{Schedule, halves};
use crate::source::{BEGIN, head, index_type, reduce, signature, start, value};

/// Threads of a block in the second launch that add up one value, where there are many.
const SHARES: usize = 16;

/// Values that a thread can have on their way to it.
const AT_ONCE: usize = 32;

/// Blocks of such threads on a multiprocessor at a time.
const TOGETHER: usize = 3;

/// One reduced value.
pub(crate) struct Total {
    /// What makes its name.
    pub(crate) number: usize,
    /// What is reduced.
    pub(crate) register: Register,
    pub(crate) reduction: Reduction,
    pub(crate) dtype: DType,
}

impl Total {
    pub(crate) fn name(&self) -> String {
        format!("t{}", self.number)
    }

    /// The type in which it is added up.
    fn kept_in(&self) -> DType {
        self.dtype.accumulator()
    }

    fn type_name(&self) -> &'static str {
        value(self.kept_in())
    }

    fn add(&self, total: &str, next: &str) -> String {
        reduce(self.reduction, total, next, self.kept_in())
    }

    /// Declares it, of nothing yet.
    pub(crate) fn declared(&self) -> String {
        let start = start(self.reduction, self.kept_in());
        format!("{} {} = {start};\n", self.type_name(), self.name())
    }

    /// Adds the value at a point.
    pub(crate) fn taken(&self) -> String {
        let name = self.name();
        let next = self.add(&name, &format!("v{}", self.register.0));
        format!("{name} = {next};\n")
    }

    /// Adds it up over the lanes.
    pub(crate) fn exchanged(&self, schedule: &Schedule) -> String {
        let add = |a: &str, b: &str| self.add(a, b);
        schedule.exchange(&self.name(), self.type_name(), &add)
    }
}

/// A body over a space of which some axes are reduced.
pub(crate) struct Reducing<'a> {
    pub(crate) schedule: Schedule,
    pub(crate) totals: Vec<Total>,
    pub(crate) pack: Pack<'a>,
    /// Statements before anything else is done for `row`, which also `results` builds on.
    pub(crate) before: String,
    /// The registers that are computed at each point.
    pub(crate) each: &'a dyn Fn(Register) -> bool,
    /// Statements that make results of the totals of `row`.
    pub(crate) results: String,
}

impl Reducing<'_> {
    /// One launch, or two. The parameters and arguments are those of the primitive.
    pub(crate) fn lower(&self, mut parameters: Vec<String>, mut args: Vec<Arg>) -> Lowered {
        let (chunks, kept) = (self.schedule.chunks(), self.schedule.kept);
        let mut scratch = 0;
        if chunks > 1 {
            for total in &self.totals {
                parameters.push(format!("{}* p{}", total.type_name(), total.number));
                args.push(Arg::Scratch(scratch));
                scratch += (chunks * kept * total.kept_in().size()).next_multiple_of(16);
            }
        }
        let across = u32::try_from(chunks).unwrap_or(u32::MAX);
        let grid = [blocks(kept, self.schedule.rows()), across, 1];
        let first = match self.at_once() {
            Some(packs) => self.of_one_batch(packs, &parameters, (grid, args.clone())),
            None => Launch::of(&self.text(&parameters), grid, args.clone()),
        };
        let mut launches = vec![first];
        if chunks > 1 {
            launches.push(self.finish(&parameters, args));
        }
        Lowered::kernels(launches, scratch)
    }

    fn text(&self, parameters: &[String]) -> String {
        let (schedule, pack) = (self.schedule, &self.pack);
        let mut text = head(parameters, THREADS) + &schedule.place();
        text += &pack.fold.unravel("row", false, schedule.index());
        text += &self.ends();
        text += &pack.alignment();
        text += &pack.steady();
        text += &self.before;
        text += &self.starts();
        text += &self.walk();
        for total in &self.totals {
            text += &total.exchanged(&schedule);
        }
        text + &self.end()
    }

    /// What becomes of the totals of the block.
    fn end(&self) -> String {
        let results = match self.schedule.chunks() {
            1 => self.results.clone(),
            _ => self.shares(),
        };
        format!("if (lane == 0 && own) {{\n{results}}}\n}}\n")
    }

    /// The points of a thread, if there is a thread for each kept point, which can have all its points on
    /// their way at once.
    fn at_once(&self) -> Option<usize> {
        let (schedule, (moving, _)) = (self.schedule, self.pack.parted());
        let alone = schedule.lanes() * schedule.width() == 1 && schedule.chunks() > 1;
        let fits = schedule.chunk * moving.loaded().len() <= AT_ONCE;
        (alone && fits).then_some(schedule.chunk)
    }

    /// A block that asks for everything at once. What differs between kept points is most of what it
    /// reads; it may be asked for before the launch ahead is done. The rest is read where it is needed:
    /// ahead of that it would take as many registers, and shared memory takes a barrier.
    fn of_one_batch(
        &self,
        points: usize,
        parameters: &[String],
        (grid, args): ([u32; 3], Vec<Arg>),
    ) -> Launch {
        let (schedule, together) = (self.schedule, self.together(points));
        let (moving, others) = self.pack.parted();
        let index = schedule.index();
        let mut fetched = schedule.place();
        fetched += &self.pack.fold.unravel("row", false, index);
        fetched += &self.ends();
        let _ = writeln!(fetched, "const {index} base = begin;");
        fetched += &(self.pack.alignment() + &self.pack.steady() + &self.before);
        fetched += &(moving.room(&format!("[{points}]")) + &together);
        fetched += &(moving.loads("[u]") + "}\n}\n");
        let adds: String = self.totals.iter().map(Total::taken).collect();
        let mut rest = self.starts() + &together + &others.room("") + &others.loads("");
        rest += &(moving.compute("[u]", self.each, &adds) + "}\n}\n");
        rest += &self.end();
        let open = signature(parameters, format!("{THREADS}, {TOGETHER}"));
        let read = |arg: &&Arg| match arg {
            Arg::Read(i) => !others.loaded().contains(i),
            _ => false,
        };
        let early = Early {
            source: Source::new(&format!("{open}{fetched}{BEGIN}{rest}")),
            reads: args.iter().filter(read).copied().collect(),
        };
        Launch {
            early: Some(early),
            ..Launch::of(&format!("{open}{BEGIN}{fetched}{rest}"), grid, args)
        }
    }

    fn starts(&self) -> String {
        self.totals.iter().map(Total::declared).collect()
    }

    /// Where the points of this block begin and end.
    fn ends(&self) -> String {
        let Schedule { reduced, chunk, .. } = self.schedule;
        let index = self.schedule.index();
        format!(
            "const {index} begin = ({index})blockIdx.y * {chunk};\n\
             const {index} end = !own ? begin : begin + {chunk} < {reduced} ? begin + {chunk} : {reduced};\n"
        )
    }

    /// Opens the points that this lane loads together from `base` on.
    fn together(&self, packs: usize) -> String {
        let index = self.schedule.index();
        let step = self.schedule.lanes() * self.schedule.width();
        format!(
            "#pragma unroll\nfor (int u = 0; u < {packs}; ++u) {{\n\
             const {index} at = base + u * {step};\nif (at < end) {{\n{}",
            self.pack.fold.unravel("at", true, index)
        )
    }

    /// Goes over the points of this lane, some at once, whose inputs are all loaded before any is
    /// computed with.
    fn walk(&self) -> String {
        let (pack, schedule) = (&self.pack, self.schedule);
        let (index, width, ahead) = (schedule.index(), schedule.width(), pack.ahead());
        let adds: String = self.totals.iter().map(Total::taken).collect();
        let together = self.together(ahead);
        let (room, loads) = (pack.room(&format!("[{ahead}]")), pack.loads("[u]"));
        let compute = pack.compute("[u]", self.each, &adds);
        format!(
            "for ({index} base = begin + lane * {width}; base < end; base += {}) {{\n\
             {room}{together}{loads}}}\n}}\n{together}{compute}}}\n}}\n}}\n",
            ahead * schedule.lanes() * width,
        )
    }

    /// Leaves the totals of a chunk for the second launch.
    fn shares(&self) -> String {
        let kept = self.schedule.kept;
        let share = |total: &Total| {
            let (number, name) = (total.number, total.name());
            format!("p{number}[blockIdx.y * {kept} + row] = {name};\n")
        };
        self.totals.iter().map(share).collect()
    }

    /// Adds up the shares of chunks: some threads a value.
    fn finish(&self, parameters: &[String], args: Vec<Arg>) -> Launch {
        let (kept, chunks) = (self.schedule.kept, self.schedule.chunks());
        let index = index_type(kept * chunks);
        // Neighbours read neighbours if there are enough of them to fill the device.
        let many = kept >= 32 * SHARES;
        let lanes = if many { SHARES } else { 32 };
        let rows = THREADS / lanes;
        let (row, lane) = match many {
            true => (format!("% {rows}"), format!("/ {rows}")),
            false => (format!("/ {lanes}"), format!("% {lanes}")),
        };
        let mut text = head(parameters, THREADS);
        let _ = writeln!(
            text,
            "const int lane = threadIdx.x {lane};\n\
             const {index} asked = ({index})blockIdx.x * {rows} + threadIdx.x {row};\n\
             const bool own = asked < {kept};\n\
             const {index} row = own ? asked : {kept} - 1;"
        );
        text += &self.pack.fold.unravel("row", false, index);
        text += &self.before;
        text += &self.starts();
        for total in &self.totals {
            let (name, number) = (total.name(), total.number);
            let shares = Shares {
                at: format!("p{number}[({index})chunk * {kept} + row]"),
                chunks,
                lanes,
            };
            text += &shares.added(total);
            let add = |a: &str, b: &str| total.add(a, b);
            text += &match many {
                true => meet(total, rows),
                false => halves(&name, total.type_name(), (16, 1), &add),
            };
        }
        let _ = writeln!(text, "if (lane == 0 && own) {{\n{}}}\n}}", self.results);
        Launch::of(&text, [blocks(kept, rows), 1, 1], args)
    }
}

/// What the chunks have left of a total, for each lane every so many.
struct Shares {
    at: String,
    chunks: usize,
    lanes: usize,
}

impl Shares {
    /// Adds a lane's up, in order; all are on their way at once, if they are not too many.
    fn added(&self, total: &Total) -> String {
        let Shares { at, chunks, lanes } = self;
        let (name, of, own) = (total.name(), total.type_name(), chunks.div_ceil(*lanes));
        if own > AT_ONCE {
            let next = total.add(&name, at);
            return format!(
                "#pragma unroll 8\nfor (int chunk = lane; chunk < {chunks}; chunk += {lanes}) {name} = {next};\n"
            );
        }
        let next = total.add(&name, &format!("a{name}[u]"));
        let each = format!(
            "#pragma unroll\nfor (int u = 0; u < {own}; ++u) {{\n\
             const int chunk = lane + u * {lanes};\nif (chunk < {chunks})"
        );
        format!(
            "{of} a{name}[{own}];\n{each} a{name}[u] = {at};\n}}\n{each} {name} = {next};\n}}\n"
        )
    }
}

/// Adds up what the threads of each of so many values have, in their order.
fn meet(total: &Total, rows: usize) -> String {
    let (name, of) = (total.name(), total.type_name());
    let next = total.add(&name, &format!("s{name}[part * {rows} + threadIdx.x]"));
    format!(
        "__shared__ {of} s{name}[{THREADS}];\ns{name}[threadIdx.x] = {name};\n__syncthreads();\n\
         if (lane == 0) {{\n\
         for (int part = 1; part < {SHARES}; ++part) {name} = {next};\n}}\n"
    )
}
