//! A plan as text: what is read off it before the first step.

use std::fmt::{self, Write as _};

use super::{Access, Launch, Phase, Plan, Role, Step};

/// Bytes in the largest unit that leaves a number of at least 1, as in `12.5 KiB`.
#[must_use]
pub fn format_bytes(count: usize) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = count as f64;
    let mut unit = "B";
    for next in UNITS {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, next);
    }
    if unit == "B" {
        format!("{count} B")
    } else {
        format!("{size:.1} {unit}")
    }
}

impl Plan {
    fn name(&self, access: &Access) -> String {
        let value = &self.values()[access.value.index()];
        match value.role {
            Role::Temporary => format!("%{}", access.value.0),
            Role::Update { .. } => format!("{}'", value.name),
            _ => value.name.to_string(),
        }
    }

    fn names(&self, accesses: &[Access]) -> String {
        let names: Vec<String> = accesses.iter().map(|access| self.name(access)).collect();
        names.join(" ")
    }

    /// A launch as a line of the text: results, primitive, operands, place.
    #[must_use]
    pub fn describe(&self, launch: &Launch) -> String {
        let mut line = format!(
            "{} = {} ({})",
            self.names(&launch.writes),
            self.primitives()[launch.primitive],
            self.names(&launch.reads)
        );
        if launch.phase == Phase::Again {
            line.push_str(", again");
        }
        if let Some(place) = launch.place {
            let file = place.file().rsplit(['/', '\\']).next().unwrap_or("");
            let _ = write!(line, "  // {file}:{}", place.line());
            if !launch.scope.is_empty() {
                let _ = write!(line, " {}", launch.scope);
            }
        }
        line
    }

    fn write(
        &self,
        f: &mut fmt::Formatter<'_>,
        steps: &[Step<Launch>],
        indent: usize,
    ) -> fmt::Result {
        for step in steps {
            write!(f, "{:indent$}", "")?;
            match step {
                Step::Launch(launch) => writeln!(f, "{}", self.describe(launch))?,
                Step::Loop {
                    times,
                    count,
                    reverse,
                    body,
                    ..
                } => {
                    let order = if *reverse { " in reverse" } else { "" };
                    match count.map(|count| self.name(&Access::whole(count))) {
                        Some(count) => writeln!(f, "loop {count} of {times} times{order}")?,
                        None => writeln!(f, "loop {times} times{order}")?,
                    }
                    self.write(f, body, indent + 2)?;
                }
            }
        }
        Ok(())
    }
}

/// Totals, what the bytes are for, then one line a launch: results, primitive, operands, place.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.memory();
        let all = format_bytes(memory.total());
        write!(f, "{} launches a step, {all} in all", self.launches())?;
        let again = self.recomputation();
        if again.launches > 0 {
            let (launches, percent) = (again.launches, 100.0 * again.share);
            write!(f, "; {launches} run again, for {percent:.0}% more time")?;
        }
        writeln!(f, "\n{memory}")?;
        self.write(f, &self.draft.steps, 0)
    }
}
