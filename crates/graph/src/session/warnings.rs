//! What works, and is probably not meant.

use std::collections::HashSet;
use std::sync::Arc;

use backprop_core::{Backend, Place, Scalar, Warning, WarningKind};

use super::Session;
use crate::ir::{Ir, NodeId, Op, Origin};
use crate::pass::Work;

impl<B: Backend> Session<B> {
    /// What is probably not meant in the graph, as this session's plans use it: parameters and inputs
    /// that are not used, parameters that training never updates or whose gradient is zero whatever
    /// is fed, and operations whose results reach nothing that is fetched or updated (the last one of
    /// each such branch). Plans that are added later may use more.
    ///
    /// ```
    /// use backprop_core::{DType::F32, Reference};
    /// use backprop_graph::{Graph, Init, Session, Updates, optim};
    ///
    /// let g = Graph::new();
    /// let (w, b) = (g.parameter("w", [2], F32, Init::Ones), g.parameter("b", [2], F32, Init::Zeros));
    /// let loss = (g.input("x", [2], F32) * w).sum(..);
    /// let gradients = g.grad(loss, &[w])?;
    /// let updates = optim::sgd(&g, &[w], &gradients, Default::default());
    /// let session = Session::compile(&g, Reference, &[loss.key()], updates)?;
    /// let warnings = session.warnings();
    /// assert_eq!(warnings.len(), 1);
    /// assert!(warnings[0].to_string().starts_with("warning: parameter `b` is not used"));
    /// # Ok::<(), backprop_core::Error>(())
    /// ```
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let ir = &self.work.ir;
        let all = || self.plans.iter();
        let work = Work {
            ir: Arc::clone(ir),
            fetches: all().flat_map(|plan| plan.fetches_of_graph(ir)).collect(),
            updates: all().flat_map(|plan| plan.updates.clone()).collect(),
        };
        let mut used = work.reachable();
        let updated: HashSet<u32> = work.updates.iter().map(|&(index, _)| index).collect();
        for &index in &updated {
            used[ir.parameters[index as usize].node.index()] = true;
        }
        let mut warnings = leaves(ir, &used);
        if !updated.is_empty() {
            warnings.extend(not_updated(ir, &used, &updated));
        }
        warnings.extend(zero_gradients(ir));
        warnings.extend(unused(ir, &used));
        warnings
    }
}

/// A warning with the place of a node.
fn of(ir: &Ir, id: NodeId, kind: WarningKind) -> Warning {
    let Origin { place, scope, .. } = ir.origins[id.index()];
    let scope = &ir.scopes[scope as usize];
    Warning::new(kind).at(place).within(scope)
}

/// Parameters and inputs that nothing reads.
fn leaves(ir: &Ir, used: &[bool]) -> Vec<Warning> {
    let parameters = ir.parameters.iter().filter(|p| !used[p.node.index()]);
    let parameters = parameters.map(|parameter| {
        let name = parameter.name.to_string();
        of(ir, parameter.node, WarningKind::UnusedParameter { name })
            .help("it takes memory, and no fetched value or update depends on it")
    });
    let inputs = ir.inputs.iter().filter(|input| !used[input.node.index()]);
    let inputs = inputs.map(|input| {
        let name = input.name.to_string();
        of(ir, input.node, WarningKind::UnusedInput { name })
            .help("what is fed to it changes nothing")
    });
    parameters.chain(inputs).collect()
}

/// Parameters that are read while others are trained.
fn not_updated(ir: &Ir, used: &[bool], updated: &HashSet<u32>) -> Vec<Warning> {
    let parameters = ir.parameters.iter().enumerate();
    let left = parameters.filter(|(index, parameter)| {
        let is_read = used[parameter.node.index()] && ir.node(parameter.node).dtype.is_float();
        is_read && !updated.contains(&(*index as u32))
    });
    left.map(|(_, parameter)| {
        let name = parameter.name.to_string();
        of(ir, parameter.node, WarningKind::NotUpdated { name })
            .help("give it and its gradient to the optimizer, unless it is frozen on purpose")
    })
    .collect()
}

/// Parameters whose gradients were taken and are zero.
fn zero_gradients(ir: &Ir) -> Vec<Warning> {
    if ir.gradients.is_empty() {
        return Vec::new();
    }
    let zeros = zeros(ir);
    let mut known: HashSet<NodeId> = HashSet::new();
    let mut warnings = Vec::new();
    for &(wrt, gradient) in &ir.gradients {
        let Op::Parameter(index) = ir.node(wrt).op else {
            continue;
        };
        let is_zero = zeros[gradient.index()] && ir.node(wrt).shape.count() > 0;
        if is_zero && known.insert(wrt) {
            let name = ir.parameters[index as usize].name.to_string();
            let warning = of(ir, wrt, WarningKind::ZeroGradient { name });
            let help = "it is multiplied by 0, rounded, compared, or behind `stop_gradient`";
            let made: Place = ir.origins[gradient.index()].place;
            let label = ir.operation(gradient);
            warnings.push(warning.note("gradient", label, Some(made)).help(help));
        }
    }
    warnings
}

/// Which nodes are zero whatever is fed, as long as that is finite.
fn zeros(ir: &Ir) -> Vec<bool> {
    let mut zeros = vec![false; ir.nodes.len()];
    for id in ir.ids() {
        let node = ir.node(id);
        let operand = |k: usize| node.inputs.get(k).is_some_and(|x| zeros[x.index()]);
        let all = || !node.inputs.is_empty() && node.inputs.iter().all(|x| zeros[x.index()]);
        zeros[id.index()] = match &node.op {
            Op::Constant(bits) => f64::from_bits(*bits) == 0.0,
            Op::Scalar(Scalar::Mul) | Op::MatMul => operand(0) || operand(1),
            Op::Scalar(Scalar::Div) => operand(0) && !operand(1),
            Op::Scalar(Scalar::Where) => operand(1) && operand(2),
            Op::Scalar(function) => {
                let result = function.eval(&vec![0.0; node.inputs.len()]);
                node.dtype.is_float() && all() && result == 0.0
            }
            Op::Pad(_, fill) => operand(0) && f64::from_bits(*fill) == 0.0,
            Op::Reduce(..) | Op::Broadcast | Op::Reshape | Op::Permute(_) | Op::Slice(_) => all(),
            Op::Cast | Op::Concat(_) => all(),
            Op::Gather(_) | Op::ScatterAdd(_) | Op::Stop | Op::Require(_) => operand(0),
            Op::Output(i) => marked(ir, node.inputs[0], *i).is_some_and(|x| zeros[x.index()]),
            _ => false,
        };
    }
    zeros
}

/// What output number `i` of a mark stands for.
fn marked(ir: &Ir, marker: NodeId, i: u32) -> Option<NodeId> {
    let marker = ir.node(marker);
    match &marker.op {
        Op::Custom(custom) => marker.inputs.get(custom.inputs + i as usize).copied(),
        _ => None,
    }
}

/// The ends of branches that nothing depends on, one for each place.
fn unused(ir: &Ir, used: &[bool]) -> Vec<Warning> {
    // Operations of which a part is used, as one of several results.
    let of_use = |id: NodeId| ir.units.owner(id).filter(|_| used[id.index()]);
    let in_use: HashSet<_> = ir.ids().filter_map(of_use).collect();
    let partly = |id: NodeId| {
        let owner = ir.units.owner(id);
        owner.is_some_and(|owner| in_use.contains(&owner))
    };
    let places: HashSet<Place> = ir
        .ids()
        .filter(|id| used[id.index()])
        .map(|id| ir.origins[id.index()].place)
        .collect();
    let mut has_user = vec![false; ir.nodes.len()];
    for id in ir.ids().filter(|id| ir.units.vjp_of(*id).is_none()) {
        for input in &ir.node(id).inputs {
            has_user[input.index()] = true;
        }
    }
    let mut known: HashSet<Place> = HashSet::new();
    let mut warnings = Vec::new();
    for id in ir.ids() {
        let place = ir.origins[id.index()].place;
        let is_end = !used[id.index()] && !has_user[id.index()] && is_operation(&ir.node(id).op);
        let is_derived = ir.units.vjp_of(id).is_some();
        if is_end && !is_derived && !partly(id) && !places.contains(&place) && known.insert(place) {
            let operation = ir.operation(id);
            let warning = of(ir, id, WarningKind::UnusedResult { operation });
            warnings.push(warning.help("no fetched value or update depends on it"));
        }
    }
    warnings
}

/// Whether a node stands for something that the user called.
fn is_operation(op: &Op) -> bool {
    !matches!(
        op,
        Op::Input(_)
            | Op::Parameter(_)
            | Op::Constant(_)
            | Op::Data(_)
            | Op::Coordinate(_)
            | Op::Argument(..)
            | Op::Reserved(_)
            | Op::Unchosen(_)
            | Op::Custom(_)
            | Op::Scan(_)
            | Op::Poison
    )
}
