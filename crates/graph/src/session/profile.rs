//! Where the time of a step goes.

use std::fmt::{self, Write as _};
use std::panic::Location;
use std::time::{Duration, Instant};

use backprop_core::plan::Launch;
use backprop_core::{Backend, Place, Plan, Result, Watch};

use super::{PlanId, Session};

/// The time of one line of a plan.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct LineTime {
    /// The line as the plan prints it.
    pub text: String,
    /// The primitive's name, as in `matmul`.
    pub name: &'static str,
    /// The user's place of the operation that gave the launch its reason.
    pub place: Option<Place>,
    /// The named scope of that operation.
    pub scope: String,
    /// Launches, over all profiled steps.
    pub launches: u64,
    /// Their time together.
    pub time: Duration,
    /// The time of the shortest of them: on a busy machine, the one that was not disturbed.
    pub shortest: Duration,
    /// Floating-point operations of one launch ([`Primitive::operations`]).
    ///
    /// [`Primitive::operations`]: backprop_core::Primitive::operations
    pub operations: u64,
    /// Bytes that one launch reads and writes.
    pub bytes: u64,
}

impl LineTime {
    /// Floating-point operations a second.
    #[must_use]
    pub fn operations_per_second(&self) -> f64 {
        (self.operations * self.launches) as f64 / self.time.as_secs_f64()
    }

    /// Bytes read and written a second.
    #[must_use]
    pub fn bytes_per_second(&self) -> f64 {
        (self.bytes * self.launches) as f64 / self.time.as_secs_f64()
    }
}

/// Where the time of a step goes: made by [`Session::profile`], and printed as a table with one row
/// for each line of the plan.
#[derive(Clone, PartialEq, Debug)]
pub struct Profile {
    lines: Vec<LineTime>,
    steps: u32,
    time: Duration,
    /// The launches of the last step.
    events: Vec<Event>,
}

/// One launch, with its time from the step's beginning on.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Event {
    line: usize,
    begin: Duration,
    time: Duration,
}

impl Profile {
    /// The lines, in the order of the plan.
    #[must_use]
    pub fn lines(&self) -> &[LineTime] {
        &self.lines
    }

    /// The time of a step, with what it takes to watch it.
    #[must_use]
    pub fn step(&self) -> Duration {
        self.time / self.steps.max(1)
    }

    /// The time of a line in one step, in microseconds.
    pub(crate) fn micros_a_step(&self, line: &LineTime) -> f64 {
        micros(line.time) / f64::from(self.steps.max(1))
    }

    /// The last step in the trace event format (JSON), which <https://ui.perfetto.dev> draws.
    #[must_use]
    pub fn trace(&self) -> String {
        let mut text = "{\"traceEvents\":[".to_owned();
        for (i, event) in self.events.iter().enumerate() {
            let line = &self.lines[event.line];
            let comma = if i == 0 { "" } else { "," };
            let (begin, time) = (micros(event.begin), micros(event.time));
            let _ = write!(
                text,
                "{comma}\n{{\"name\":\"{}\",\"ph\":\"X\",\"pid\":1,\"tid\":1,\"ts\":{begin:.3},\"dur\":{time:.3},\
                 \"args\":{{\"line\":\"{}\"}}}}",
                line.name,
                escaped(&line.text)
            );
        }
        text.push_str("\n]}\n");
        text
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Text inside of the quotes of JSON.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = f64::from(self.steps.max(1));
        writeln!(f, "{:.1} us a step", micros(self.time) / steps)?;
        writeln!(
            f,
            "{:>10} {:>10} {:>6} {:>8} {:>8}  line",
            "us a step", "shortest", "share", "GFLOP/s", "GB/s"
        )?;
        for line in &self.lines {
            let share = 100.0 * line.time.as_secs_f64() / self.time.as_secs_f64();
            writeln!(
                f,
                "{:>10.1} {:>10.1} {share:>5.1}% {:>8.1} {:>8.1}  {}",
                micros(line.time) / steps,
                micros(line.shortest),
                line.operations_per_second() / 1e9,
                line.bytes_per_second() / 1e9,
                line.text
            )?;
        }
        Ok(())
    }
}

/// Takes the time of each launch.
struct Clock<'p> {
    profile: &'p mut Profile,
    begin: Instant,
}

impl Watch for Clock<'_> {
    fn launch(&mut self, line: usize, run: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let begin = Instant::now();
        run()?;
        let time = begin.elapsed();
        let begin = begin.duration_since(self.begin);
        let of_line = &mut self.profile.lines[line];
        of_line.launches += 1;
        of_line.time += time;
        of_line.shortest = match of_line.launches {
            1 => time,
            _ => of_line.shortest.min(time),
        };
        self.profile.events.push(Event { line, begin, time });
        Ok(())
    }
}

fn untimed(plan: &Plan, launch: &Launch) -> LineTime {
    let primitive = &plan.primitives()[launch.primitive];
    // The sizes of slices are those the primitive asks for, whatever they are slices of.
    let operands = primitive.reads().into_iter().chain(primitive.writes());
    LineTime {
        text: plan.describe(launch),
        name: primitive.name(),
        place: launch.place,
        scope: launch.scope.to_string(),
        launches: 0,
        time: Duration::ZERO,
        shortest: Duration::ZERO,
        operations: primitive.operations(),
        bytes: operands.map(|tensor| tensor.bytes() as u64).sum(),
    }
}

impl<B: Backend> Session<B> {
    /// Runs the first plan so many times, as [`step`](Session::step) does, and takes the time of
    /// every launch.
    ///
    /// # Errors
    /// As [`step`](Session::step); and if the backend does not tell launches apart.
    #[track_caller]
    pub fn profile(&mut self, steps: u32) -> Result<Profile> {
        self.profile_at(PlanId(0), steps, Location::caller())
    }

    /// Runs a plan so many times, and takes the time of every launch.
    ///
    /// # Errors
    /// As [`profile`](Session::profile).
    #[track_caller]
    pub fn profile_of(&mut self, plan: PlanId, steps: u32) -> Result<Profile> {
        self.profile_at(plan, steps, Location::caller())
    }

    fn profile_at(&mut self, id: PlanId, steps: u32, place: Place) -> Result<Profile> {
        self.check_ready(id, place)?;
        let plan = &self.plans[id.0].plan;
        let mut profile = Profile {
            lines: plan
                .lines()
                .into_iter()
                .map(|launch| untimed(plan, launch))
                .collect(),
            steps,
            time: Duration::ZERO,
            events: Vec::new(),
        };
        for _ in 0..steps {
            let begin = Instant::now();
            profile.events.clear();
            let mut clock = Clock {
                profile: &mut profile,
                begin,
            };
            let loaded = &mut self.plans[id.0];
            loaded
                .executable
                .watched(&self.backend, &mut self.memory, &mut clock)?;
            loaded.steps += 1;
            profile.time += begin.elapsed();
            self.check_requirements(id)?;
        }
        Ok(profile)
    }
}
