//! The plan checker on plans written by hand: sound ones are accepted and run, and a fault of every
//! kind is refused by the property it breaks.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod drafts;

use std::sync::Arc;

use backprop_core::plan::{Buffer, Carry, Draft, Launch, Role, Span, Step, ValueId};
use backprop_core::{Backend, DType, Element, Memory, Plan, Primitive, Reference, Scalar, View};
use drafts::{ROW, ROWS, binary, copy, floats, launch, shape, slice, whole};

/// Runs a plan once on the reference, and reads a value by name.
struct Run {
    plan: Arc<Plan>,
    memory: Memory<Vec<u64>>,
}

impl Run {
    fn new(draft: Draft) -> Run {
        let plan = Arc::new(Plan::check(draft).unwrap());
        let alloc = |buffer| Reference.alloc(plan.bytes(buffer)).unwrap();
        let memory = Memory {
            arena: alloc(Buffer::Arena),
            state: alloc(Buffer::State),
            io: alloc(Buffer::Io),
        };
        Run { plan, memory }
    }

    fn span(&self, name: &str) -> Span {
        let mut values = self.plan.values().iter();
        values.find(|value| &*value.name == name).unwrap().span
    }

    fn set<T: Element>(mut self, name: &str, values: &[T]) -> Run {
        let span = self.span(name);
        let buffer = self.memory.buffer_mut(span.buffer);
        Reference
            .upload(buffer, span.offset, T::bytes(values))
            .unwrap();
        self
    }

    fn step(mut self) -> Run {
        let kernels = Plan::prepare(self.plan.primitives(), &Reference).unwrap();
        let mut executable = Reference.load(Arc::clone(&self.plan), kernels).unwrap();
        executable.step(&Reference, &mut self.memory).unwrap();
        self
    }

    #[track_caller]
    fn holds(self, name: &str, expected: &[f32]) -> Run {
        let span = self.span(name);
        let mut bytes = vec![0; span.bytes];
        let buffer = self.memory.buffer(span.buffer);
        Reference.download(buffer, span.offset, &mut bytes).unwrap();
        let mut values = vec![0f32; span.bytes / 4];
        f32::copy_from_bytes(&mut values, &bytes);
        assert_eq!(values, expected, "{name} of\n{}", self.plan);
        self
    }
}

/// A stack whose row `t` holds `values[t]` everywhere.
fn rows(values: [f32; ROWS]) -> Vec<f32> {
    values.into_iter().flat_map(|value| [value; ROW]).collect()
}

#[test]
fn launches_run_in_order() {
    Run::new(drafts::line())
        .set("x", &[1f32; ROW])
        .set("c", &[2f32; ROW])
        .set("w", &[10f32; ROW])
        .step()
        .holds("w'", &[7.0; ROW])
        .holds("r", &[21.0; ROW])
        .step()
        .holds("w'", &[4.0; ROW]);
}

#[test]
fn loops_carry_and_stack() {
    let run = |reverse: bool| {
        Run::new(drafts::scan(reverse))
            .set("xs", &rows([1.0, 2.0, 3.0, 4.0]))
            .set("start", &[10f32; ROW])
            .step()
            .holds("last", &[20.0; ROW])
    };
    run(false).holds("ys", &rows([11.0, 13.0, 16.0, 20.0]));
    run(true).holds("ys", &rows([20.0, 19.0, 17.0, 14.0]));
}

#[test]
fn a_reverse_loop_reads_what_a_loop_stacked() {
    Run::new(drafts::there_and_back())
        .set("xs", &rows([1.0, 2.0, 3.0, 4.0]))
        .set("ones", &[1f32; ROW])
        .step()
        .holds("total", &[30.0; ROW])
        .holds("product", &[576.0; ROW]);
}

#[test]
fn a_loop_runs_as_often_as_its_count_says() {
    let run = |reverse: bool, count: i64| {
        Run::new(drafts::counted(reverse))
            .set("xs", &rows([1.0, 2.0, 3.0, 4.0]))
            .set("start", &[10f32; ROW])
            .set("filler", &rows([0.5; ROWS]))
            .set("count", &[count])
            .step()
    };
    for (count, last, ys) in [
        (-1, 10.0, [0.5; ROWS]),
        (0, 10.0, [0.5; ROWS]),
        (1, 11.0, [11.0, 0.5, 0.5, 0.5]),
        (3, 16.0, [11.0, 13.0, 16.0, 0.5]),
        (4, 20.0, [11.0, 13.0, 16.0, 20.0]),
        (i64::MAX, 20.0, [11.0, 13.0, 16.0, 20.0]),
    ] {
        run(false, count)
            .holds("last", &[last; ROW])
            .holds("ys", &rows(ys));
    }
    // Backwards from the last iteration that there is.
    run(true, 3)
        .holds("last", &[16.0; ROW])
        .holds("ys", &rows([16.0, 15.0, 13.0, 0.5]));
}

#[test]
fn a_parameter_may_be_carried() {
    Run::new(drafts::repeated_update())
        .set("x", &[0.5f32; ROW])
        .set("w", &[1f32; ROW])
        .step()
        .holds("w'", &[51.0; ROW]);
}

#[test]
fn sound_plans_print() {
    let text = Plan::check(drafts::there_and_back()).unwrap().to_string();
    for part in [
        "11 launches a step",
        "loop 4 times\n",
        "loop 4 times in reverse",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
}

#[track_caller]
fn refused(property: &str, draft: Draft) {
    match Plan::check(draft) {
        Ok(plan) => panic!("{property} does not hold of\n{plan}"),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(property), "{property} is not why:\n{text}");
        }
    }
}

/// The launch at a position of the outermost steps.
fn at(draft: &mut Draft, step: usize) -> &mut Launch {
    match &mut draft.steps[step] {
        Step::Launch(launch) => launch,
        step => panic!("{step:?} is no launch"),
    }
}

/// Changes the loop among the outermost steps.
fn body(draft: &mut Draft) -> (&mut usize, &mut Vec<Carry>, &mut Vec<Step<Launch>>) {
    let mut steps = draft.steps.iter_mut();
    let found = steps.find_map(|step| match step {
        Step::Loop {
            times,
            carries,
            body,
            ..
        } => Some((times, carries, body)),
        _ => None,
    });
    found.unwrap()
}

fn in_body(draft: &mut Draft, step: usize) -> &mut Launch {
    match &mut body(draft).2[step] {
        Step::Launch(launch) => launch,
        step => panic!("{step:?} is no launch"),
    }
}

fn value(draft: &Draft, name: &str) -> ValueId {
    let found = draft.values.iter().position(|value| &*value.name == name);
    ValueId(found.unwrap() as u32)
}

fn span<'d>(draft: &'d mut Draft, name: &str) -> &'d mut Span {
    let id = value(draft, name);
    &mut draft.values[id.index()].span
}

type Fault = (&'static str, &'static str, fn(&mut Draft));

/// Another temporary of the type of `like`, in its place.
fn twin(draft: &mut Draft, like: &str, name: &str) -> ValueId {
    let mut copy = draft.values[value(draft, like).index()].clone();
    (copy.name, copy.role) = (name.into(), Role::Temporary);
    draft.values.push(copy);
    value(draft, name)
}

fn arena(offset: usize) -> Span {
    Span {
        buffer: Buffer::Arena,
        offset,
        bytes: ROW * 4,
    }
}

#[track_caller]
fn check(sound: fn() -> Draft, faults: &[Fault]) {
    Plan::check(sound()).unwrap();
    for (property, what, plant) in faults {
        let mut draft = sound();
        plant(&mut draft);
        refused(property, draft.clone());
        assert_ne!(draft, sound(), "{what}: nothing is planted");
    }
}

#[test]
fn faults_of_places_and_sizes() {
    let faults: &[Fault] = &[
        ("P1", "beyond the buffer", |d| d.sizes[0] = 32),
        ("P1", "not aligned", |d| {
            d.sizes[0] = 256;
            span(d, "t").offset = 32;
        }),
        ("P1", "an offset beyond all numbers", |d| {
            span(d, "t").offset = usize::MAX - 63;
        }),
        ("P1", "fewer bytes than the type has", |d| {
            span(d, "t").bytes = 32;
        }),
        ("P1", "a slice that leaves its value", |d| {
            at(d, 0).reads[0].offset = 4;
        }),
        ("P1", "a slice beyond all numbers", |d| {
            at(d, 0).reads[0].offset = usize::MAX;
        }),
        ("P1", "a slice that moves without a loop", |d| {
            at(d, 0).reads[0].strides.get_or_insert_default()[0] = 4;
        }),
        ("P1", "scratch beyond the arena", |d| {
            at(d, 0).scratch = Some(arena(64));
        }),
    ];
    check(drafts::line, faults);
}

#[test]
fn faults_of_order() {
    let faults: &[Fault] = &[
        ("P2", "read before it is written", |d| d.steps.swap(0, 1)),
        ("P2", "an old value after its update", |d| {
            at(d, 2).reads[1] = whole(value(d, "w"));
        }),
        ("P2", "overwritten by another value", |d| {
            let (x, u) = (value(d, "x"), twin(d, "t", "u"));
            let clobber = launch(0, &[whole(x), whole(x)], &[whole(u)]);
            d.steps.insert(1, clobber);
        }),
        ("P2", "overwritten by scratch", |d| {
            let (x, r) = (value(d, "x"), value(d, "r"));
            let clobber = launch(0, &[whole(x), whole(x)], &[whole(r)]);
            d.steps.insert(1, clobber);
            at(d, 1).scratch = Some(arena(0));
        }),
        ("P3", "a result over an operand seen backwards", |d| {
            *span(d, "t") = *span(d, "c");
            d.primitives[0] = backwards();
        }),
        ("P3", "a copy over its operand", |d| {
            let (t, u) = (value(d, "t"), twin(d, "t", "u"));
            d.primitives.push(copy());
            d.scratch.push(0);
            d.steps.insert(1, launch(3, &[whole(t)], &[whole(u)]));
        }),
        ("P3", "two results in one place", |d| {
            let Primitive::Sweep(sweep) = &mut d.primitives[0] else {
                panic!("a sum is a sweep")
            };
            let output = sweep.body.outputs[0].clone();
            sweep.body.outputs.push(output);
            let u = twin(d, "t", "u");
            at(d, 0).writes.push(whole(u));
        }),
        ("P3", "scratch over an operand", |d| {
            at(d, 1).scratch = Some(arena(0));
        }),
        ("P3", "scratch over a result", |d| {
            at(d, 0).scratch = Some(arena(0));
        }),
    ];
    check(drafts::line, faults);
}

/// A sum whose second operand is read from its end to its beginning.
fn backwards() -> Primitive {
    let Primitive::Sweep(mut sweep) = binary(Scalar::Add) else {
        panic!("a sum is a sweep")
    };
    let row = shape(&[ROW]);
    sweep.body.inputs[1].view = View::dense(row).slice(&[ROW - 1], &[-1], row);
    Primitive::Sweep(sweep)
}

#[test]
fn faults_of_operands() {
    let faults: &[Fault] = &[
        ("P4", "an operand too few", |d| {
            at(d, 0).reads.pop();
        }),
        ("P4", "an operand too many", |d| {
            let first = at(d, 0).reads[0].clone();
            at(d, 0).reads.push(first);
        }),
        ("P4", "another type", |d| {
            let x = value(d, "x");
            Arc::make_mut(&mut d.values[x.index()].tensor).dtype = DType::I32;
        }),
        ("P4", "another size", |d| {
            let x = value(d, "x");
            d.values[x.index()].tensor = floats(&[ROW / 2]).into();
            span(d, "x").bytes = ROW * 2;
        }),
        ("P4", "a primitive that is not there", |d| {
            at(d, 0).primitive = 7;
        }),
        ("P4", "a value that is not there", |d| {
            at(d, 0).reads[0] = whole(ValueId(99));
        }),
        ("P4", "an update of what is not there", |d| {
            let update = value(d, "w'");
            d.values[update.index()].role = Role::Update { of: ValueId(99) };
        }),
        ("P4", "no scratch where some is needed", |d| {
            d.scratch[0] = 64;
        }),
        ("P4", "too little scratch", |d| {
            (d.sizes[0], d.scratch[0]) = (256, 128);
            at(d, 0).scratch = Some(arena(64));
        }),
        ("P4", "scratch of unknown size", |d| d.scratch.clear()),
        ("P4", "scratch outside of the arena", |d| {
            d.sizes[2] = 1024;
            let buffer = Buffer::Io;
            at(d, 0).scratch = Some(Span {
                buffer,
                ..arena(512)
            });
        }),
    ];
    check(drafts::line, faults);
}

#[test]
fn faults_of_roles() {
    let faults: &[Fault] = &[
        ("P5", "an input written", |d| {
            at(d, 0).writes[0] = whole(value(d, "x"));
        }),
        ("P5", "a constant written", |d| {
            at(d, 0).writes[0] = whole(value(d, "c"));
        }),
        ("P5", "a parameter written twice", |d| {
            let (t, update) = (value(d, "t"), value(d, "w'"));
            let again = launch(1, &[whole(update), whole(t)], &[whole(update)]);
            d.steps.push(again);
        }),
        ("P5", "two updates of a parameter", |d| {
            let again = d.values[value(d, "w'").index()].clone();
            d.values.push(again);
        }),
        ("P5", "an update never written", |d| d.steps.truncate(1)),
        ("P5", "an update beside its parameter", |d| {
            d.sizes[1] = 128;
            span(d, "w'").offset = 64;
        }),
        ("P5", "an update of an input", |d| {
            let (x, update) = (value(d, "x"), value(d, "w'"));
            d.values[update.index()].role = Role::Update { of: x };
        }),
        ("P5", "a temporary among the parameters", |d| {
            *span(d, "t") = *span(d, "w");
        }),
        ("P5", "a parameter among the temporaries", |d| {
            *span(d, "w") = arena(0);
        }),
        ("P5", "two inputs in one place", |d| {
            *span(d, "x") = *span(d, "c");
        }),
        ("P5", "a result over an input", |d| {
            *span(d, "r") = *span(d, "x");
        }),
        ("P5", "a temporary over a constant", |d| {
            *span(d, "t") = *span(d, "c");
        }),
        ("P5", "a result not there at the end", |d| {
            d.steps.truncate(2);
        }),
    ];
    check(drafts::line, faults);
}

#[test]
fn faults_of_loops() {
    let faults: &[Fault] = &[
        ("P1", "one round too many for the slices", |d| {
            *body(d).0 = ROWS + 1;
        }),
        ("P1", "slices that cut elements", |d| {
            in_body(d, 0).reads[1].strides.get_or_insert_default()[0] = 2;
        }),
        ("P1", "slices beyond all numbers", |d| {
            in_body(d, 0).reads[1].strides.get_or_insert_default()[0] = usize::MAX - 3;
        }),
        ("P2", "an old carry after the new one", |d| {
            in_body(d, 1).reads[0] = whole(value(d, "enter"));
        }),
        ("P2", "an old carry after the loop", |d| {
            at(d, 2).reads[0] = whole(value(d, "enter"));
        }),
        ("P2", "a value of the last round that nobody carries", |d| {
            body(d).1.clear();
        }),
        ("P2", "a row that a later round stacks", |d| {
            let ys = value(d, "ys");
            body(d).2.swap(0, 1);
            in_body(d, 0).reads[0] = slice(ys);
        }),
        (
            "P3",
            "a stack that reaches the carry in the third round",
            |d| {
                let ys = value(d, "ys");
                d.values[ys.index()].role = Role::Temporary;
                d.sizes[0] = 1024;
                (*span(d, "enter"), *span(d, "leave")) = (arena(192), arena(192));
                let span = span(d, "ys");
                (span.buffer, span.offset) = (Buffer::Arena, 64);
            },
        ),
        ("P5", "a stack with a row missing", |d| {
            *body(d).0 = ROWS - 1
        }),
        ("P6", "no round", |d| *body(d).0 = 0),
        ("P6", "a carry that nothing enters", |d| {
            d.steps.remove(0);
        }),
        ("P6", "a carry that nothing leaves", |d| {
            let (xs, ys) = (value(d, "xs"), value(d, "ys"));
            *body(d).2 = vec![launch(1, &[slice(xs)], &[slice(ys)])];
        }),
        ("P6", "a carry in two places", |d| {
            d.sizes[0] = 256;
            span(d, "leave").offset = 64;
        }),
        ("P6", "loops too deep", |d| {
            for _ in 0..4 {
                let (times, reverse, carries) = (1, false, vec![]);
                let body = std::mem::take(&mut d.steps);
                d.steps = vec![Step::Loop {
                    times,
                    count: None,
                    reverse,
                    carries,
                    body,
                }];
            }
        }),
    ];
    check(|| drafts::scan(false), faults);
    check(|| drafts::scan(true), &faults[1..6]);
}

#[test]
fn faults_of_stacks() {
    let faults: &[Fault] = &[
        ("P2", "a stack used with a row missing", |d| {
            *body(d).0 = ROWS - 1;
        }),
        ("P2", "a row that is missing only in the third round", |d| {
            *body(d).0 = 2;
            d.steps.remove(1);
            let total = value(d, "total");
            d.values[total.index()].role = Role::Temporary;
            let Some(Step::Loop { reverse, .. }) = d.steps.get_mut(2) else {
                panic!("the second loop stands there")
            };
            *reverse = false;
        }),
        ("P3", "a total over a row of its stack", |d| {
            let total = value(d, "total");
            d.values[total.index()].role = Role::Temporary;
            *span(d, "total") = arena(64);
        }),
    ];
    check(drafts::there_and_back, faults);
}

#[test]
fn faults_of_carried_parameters() {
    let faults: &[Fault] = &[
        ("P2", "a parameter that is not carried", |d| {
            body(d).1.clear();
        }),
        ("P5", "a parameter written twice a round", |d| {
            let (x, update) = (value(d, "x"), value(d, "w'"));
            let again = launch(0, &[whole(update), whole(x)], &[whole(update)]);
            body(d).2.push(again);
        }),
    ];
    check(drafts::repeated_update, faults);
}

#[test]
fn faults_of_counts() {
    fn count(draft: &mut Draft) -> &mut Option<ValueId> {
        let mut steps = draft.steps.iter_mut();
        let found = steps.find_map(|step| match step {
            Step::Loop { count, .. } => Some(count),
            _ => None,
        });
        found.unwrap()
    }
    let faults: &[Fault] = &[
        ("P7", "a count of another type", |d| {
            let id = value(d, "count");
            Arc::make_mut(&mut d.values[id.index()].tensor).dtype = DType::F64;
        }),
        ("P7", "a count that nobody wrote", |d| {
            let id = value(d, "count");
            d.values[id.index()].role = Role::Temporary;
        }),
        ("P4", "a count that is not there", |d| {
            *count(d) = Some(ValueId(99))
        }),
        ("P5", "a stack of which rows may be missing", |d| {
            d.steps.remove(0);
        }),
        (
            "P2",
            "what is read after a body that may not have run",
            |d| {
                let (x, t) = (value(d, "start"), twin(d, "start", "t"));
                let last = value(d, "last");
                d.sizes[0] = 128;
                *span(d, "t") = arena(64);
                body(d)
                    .2
                    .push(launch(0, &[whole(x), whole(x)], &[whole(t)]));
                d.steps
                    .push(launch(0, &[whole(t), whole(t)], &[whole(last)]));
            },
        ),
    ];
    check(|| drafts::counted(false), faults);
    check(|| drafts::counted(true), &faults[2..]);
}
