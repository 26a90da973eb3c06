//! The first NaN or infinity of a step: which operation made it, and from what.
//!
//! Before a checked step, another plan computes the same values and, beside each, its [`Level`]: whether
//! all elements are finite, or some infinite, or some NaN. An operation has *made* what is not finite
//! if its result's level is above those of all its operands; so an infinity that is written down, as
//! in a mask, is nobody's fault, but the NaN that it becomes is. Only if nothing was made does the step
//! itself run, by its own plan. So parameters keep their values, and results are those of an
//! unchecked step to the bit.

mod levels;
mod report;
mod subjects;

use std::collections::HashMap;
use std::sync::Arc;

use backprop_core::{Backend, Error, Place, Result};

use super::storage::decode;
use super::{Loaded, PlanId, Session};
use crate::ir::{Ir, NodeId, Op};
use crate::pass::Work;
use levels::leveled;
use report::Finding;
pub(super) use report::Values;
use subjects::{Subject, passed_on, subjects};

/// Which values of a step may not appear.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Finite {
    /// All values may appear, and nothing is looked at.
    #[default]
    Unchecked,
    /// No operation may make a NaN; infinities may appear.
    NoNan,
    /// No operation may make a NaN or an infinity.
    Checked,
}

/// How far from finite the worst element of a value is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Level {
    Finite,
    Infinite,
    Nan,
}

impl Level {
    fn of(value: f64) -> Level {
        match value {
            value if value.is_nan() => Level::Nan,
            value if value.is_infinite() => Level::Infinite,
            _ => Level::Finite,
        }
    }

    /// As it is computed.
    fn number(self) -> f64 {
        f64::from(self as u8)
    }

    fn from_number(number: f64) -> Level {
        match number {
            number if number >= Level::Nan.number() => Level::Nan,
            number if number >= Level::Infinite.number() => Level::Infinite,
            _ => Level::Finite,
        }
    }
}

/// The plan that finds the levels of a plan's values.
pub(super) struct Watch<B: Backend> {
    loaded: Loaded<B>,
    subjects: Vec<Subject>,
    /// Whose levels the plan computes, in order.
    of: Vec<NodeId>,
}

/// The levels of values: one for each iteration of the scans around it.
struct Levels(HashMap<NodeId, Vec<Level>>);

impl Levels {
    /// The level of a value in iteration number `at` of `times`.
    fn at(&self, id: NodeId, at: usize, times: usize) -> Level {
        let levels = self.0.get(&id).map_or(&[][..], Vec::as_slice);
        let (start, end) = (at * levels.len(), (at + 1) * levels.len());
        // An outer value has one level for several iterations, an inner one several for one.
        let seen = start / times.max(1)..end.div_ceil(times.max(1));
        let seen = levels.get(seen).unwrap_or_default().iter().copied();
        seen.max().unwrap_or(Level::Finite)
    }

    /// The first iteration in which a subject makes something that is at least so far from finite.
    fn made(&self, subject: &Subject, least: Level) -> Option<(usize, Level)> {
        let levels = self.0.get(&subject.node)?;
        let times = levels.len();
        let mut made = levels.iter().copied().enumerate();
        made.find(|&(at, level)| {
            let operands = subject.operands.iter();
            let highest = operands.map(|&id| self.at(id, at, times)).max();
            level >= least && level > subject.floor.max(highest.unwrap_or(Level::Finite))
        })
    }
}

impl<B: Backend> Session<B> {
    /// Says what the values of a step may be, from the next one on: with [`Finite::Checked`], a step of
    /// any plan in which an operation makes a NaN or an infinity is an error that names the first such
    /// operation in the order of the graph, with the user's place, its operands and their ranges, and
    /// the number of the step. Parameters keep their values then. A gradient is named by the operation
    /// whose derivative made it.
    ///
    /// An operation makes what is not finite if its operands have nothing as bad: an infinity that is
    /// written down or fed is not reported (a mask of `-inf`, what a maximum begins with), and what is
    /// NaN or infinite already is reported once, where it began. A NaN in an input or a parameter is
    /// reported at once. An infinite parameter, or an infinite fetched number, that no operation
    /// made is reported with the value that was given.
    ///
    /// A checked step computes everything twice, and the first time without much of the fusion, in memory
    /// of its own: it takes several times as long. An unchecked one costs nothing.
    ///
    /// ```
    /// use backprop_core::{DType::F32, ErrorKind, Reference};
    /// use backprop_graph::{Finite, Graph, Session, Updates};
    ///
    /// let g = Graph::new();
    /// let x = g.input("x", [3], F32);
    /// let y = x.log().sum(..);
    /// let mut session = Session::compile(&g, Reference, &[y.key()], Updates::none())?;
    /// session.check_finite(Finite::Checked);
    /// let error = session.feed(x, &[1f32, -2.0, 3.0])?.step().unwrap_err();
    /// assert!(error.to_string().starts_with("error: log: makes NaN in step 1"));
    /// assert!(error.to_string().contains("operand: input x f32[3]: -2 to 3"));
    /// # Ok::<(), backprop_core::Error>(())
    /// ```
    pub fn check_finite(&mut self, finite: Finite) -> &mut Self {
        self.finite = finite;
        self
    }

    /// Whether a plan's next step makes only values that may appear.
    pub(super) fn check_values(&mut self, id: PlanId, place: Place) -> Result<()> {
        let least = match self.finite {
            Finite::Unchecked => return Ok(()),
            Finite::NoNan => Level::Nan,
            Finite::Checked => Level::Infinite,
        };
        if self.plans[id.0].watch.is_none() {
            let work = self.work_of(id);
            let watch = self.watch(&work, subjects(&work))?;
            self.plans[id.0].watch = Some(Box::new(watch));
        }
        let Some(mut watch) = self.plans[id.0].watch.take() else {
            return Ok(());
        };
        let levels = self.levels(&mut watch);
        let found = levels.map(|levels| {
            let made = watch.subjects.iter().find_map(|subject| {
                let (at, level) = levels.made(subject, least)?;
                Some((subject.clone(), at, level))
            });
            let given = || self.given(id, &levels).filter(|_| least == Level::Infinite);
            made.or_else(given)
        });
        self.plans[id.0].watch = Some(watch);
        match found? {
            None => Ok(()),
            Some(found) => Err(self.explain(found, (id, place))),
        }
    }

    /// What a plan computes.
    fn work_of(&self, id: PlanId) -> Work {
        let loaded = &self.plans[id.0];
        Work {
            ir: Arc::clone(&self.work.ir),
            fetches: loaded.asked.clone(),
            updates: loaded.updates.clone(),
        }
    }

    /// Makes the plan that finds the levels of subjects and of what they are made from.
    fn watch(&mut self, work: &Work, subjects: Vec<Subject>) -> Result<Watch<B>> {
        let mut wanted = vec![false; work.ir.nodes.len()];
        let made = subjects.iter().flat_map(|subject| {
            let operands = subject.operands.iter().copied();
            operands.chain([subject.node])
        });
        for id in made.chain(work.roots().map(|id| passed_on(&work.ir, id))) {
            wanted[id.index()] = true;
        }
        let leveled = leveled(work, &wanted);
        Ok(Watch {
            loaded: self.load_aside(leveled.work)?,
            subjects,
            of: leveled.of,
        })
    }

    fn levels(&mut self, watch: &mut Watch<B>) -> Result<Levels> {
        let loaded = &mut watch.loaded;
        loaded.executable.step(&self.backend, &mut self.memory)?;
        let numbers = self.values(loaded)?.into_iter();
        let levels = numbers.map(|numbers| numbers.into_iter().map(Level::from_number).collect());
        Ok(Levels(watch.of.iter().copied().zip(levels).collect()))
    }

    /// What a plan that has run hands out.
    fn values(&self, loaded: &Loaded<B>) -> Result<Vec<Vec<f64>>> {
        let results = loaded.results.iter();
        let read = results.map(|(span, dtype)| {
            let mut bytes = vec![0; span.bytes];
            let io = &self.memory.io;
            self.backend.download(io, span.offset, &mut bytes)?;
            Ok(decode(&bytes, *dtype))
        });
        read.collect()
    }

    /// What was given and reaches a new parameter or a fetched number as an infinity that nothing made.
    fn given(&self, id: PlanId, levels: &Levels) -> Option<(Subject, usize, Level)> {
        let (ir, plan) = (&self.work.ir, &self.plans[id.0]);
        let level = |id: NodeId| levels.at(passed_on(ir, id), 0, 1);
        let old = |parameter: u32| ir.parameters[parameter as usize].node;
        let mut updates = plan.updates.iter();
        let worse = updates.any(|&(parameter, new)| level(new) > level(old(parameter)));
        let mut numbers = plan
            .asked
            .iter()
            .filter(|id| ir.node(**id).shape.count() == 1);
        if !worse && !numbers.any(|&id| level(id) > Level::Finite) {
            return None;
        }
        let is_given = |id: &NodeId| matches!(ir.node(*id).op, Op::Input(_) | Op::Parameter(_));
        let mut given = ir.ids().filter(is_given);
        let node = given.find(|&id| level(id) > Level::Finite)?;
        let subject = Subject {
            node,
            operands: Vec::new(),
            floor: Level::Finite,
        };
        Some((subject, 0, level(node)))
    }

    /// The error that says what was made, where and from what.
    fn explain(
        &mut self,
        (subject, at, level): (Subject, usize, Level),
        (id, place): (PlanId, Place),
    ) -> Error {
        let work = &self.work_of(id);
        // The error is worth having without what cannot be found out.
        let part = self.part(work, &subject, level).unwrap_or_default();
        let shown = match &part {
            Some(part) if subject.operands.is_empty() => part,
            _ => &subject,
        };
        let mut ids = vec![shown.node];
        ids.extend(shown.operands.iter().take(report::MOST_OPERANDS));
        let values = self.look(work, &ids, at).unwrap_or_default();
        let finding = Finding {
            grown: self.grown(work).unwrap_or_default(),
            subject: shown,
            part: part.as_ref(),
            level,
            step: self.plans[id.0].steps + 1,
            at,
            run: place,
        };
        finding.error(&work.ir, &values)
    }

    /// The parameter that has grown far beyond use, and its largest element.
    fn grown(&self, work: &Work) -> Result<Option<(String, f64)>> {
        let mut grown: Option<(String, f64)> = None;
        for &(index, _) in &work.updates {
            let parameter = &work.ir.parameters[index as usize];
            let span = self.storage.parameters()[index as usize];
            let mut bytes = vec![0; span.bytes];
            let state = &self.memory.state;
            self.backend.download(state, span.offset, &mut bytes)?;
            let node = work.ir.node(parameter.node);
            let sizes = decode(&bytes, node.dtype).into_iter().map(f64::abs);
            let largest = sizes.filter(|x| x.is_finite()).fold(0.0, f64::max);
            let most = grown.as_ref().map_or(report::GROWN, |(_, most)| *most);
            if node.dtype.is_float() && largest > most {
                grown = Some((parameter.name.to_string(), largest));
            }
        }
        Ok(grown)
    }

    /// Which part of an operation made something.
    fn part(&mut self, work: &Work, whole: &Subject, level: Level) -> Result<Option<Subject>> {
        let parts = subjects::parts(work, whole.node);
        if parts.len() < 2 {
            return Ok(None);
        }
        let before = self.memory_aside();
        let mut watch = self.watch(work, parts)?;
        let levels = self.levels(&mut watch)?;
        self.forget_aside(before)?;
        let mut parts = watch.subjects.into_iter();
        Ok(parts.find(|part| levels.made(part, level).is_some()))
    }

    /// The values of nodes, those in scans of iteration number `at`.
    fn look(&mut self, work: &Work, ids: &[NodeId], at: usize) -> Result<Vec<Values>> {
        let mut ir = Arc::clone(&work.ir);
        let outside: Vec<NodeId> = ids.iter().map(|&id| stacked(&mut ir, id)).collect();
        let asked = Work {
            fetches: outside,
            updates: Vec::new(),
            ir,
        };
        let before = self.memory_aside();
        let mut loaded = self.load_aside(asked)?;
        loaded.executable.step(&self.backend, &mut self.memory)?;
        let values = self.values(&loaded)?;
        self.forget_aside(before)?;
        let shapes = ids.iter().map(|&id| *work.ir.node(id).shape);
        // Iterations are counted by the innermost value.
        let times = |values: &Vec<f64>, count: usize| values.len() / count.max(1);
        let most = values.iter().zip(shapes.clone());
        let most = most.map(|(values, shape)| times(values, shape.count()));
        let most = most.max().unwrap_or(1);
        let of = values.iter().zip(shapes).map(|(values, shape)| {
            let count = shape.count();
            let start = at * times(values, count) / most.max(1) * count;
            let end = (start + count).min(values.len());
            Values::new(shape, &values[start.min(end)..end])
        });
        Ok(of.collect())
    }
}

/// A value as it is seen outside of all scans.
fn stacked(ir: &mut Arc<Ir>, id: NodeId) -> NodeId {
    let mut id = id;
    while ir.node(id).region != Default::default() {
        match Arc::make_mut(ir).stacked(id) {
            Some(outside) => id = outside,
            None => break,
        }
    }
    id
}
