//! Warnings, inspected values, and graphs as drawings and pages.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use backprop_core::DType::{F32, F64, I64};
use backprop_core::{ErrorKind, Reference, WarningKind};
use backprop_graph::{
    Composite, Convolution, CrossEntropy, Graph, Init, Left, Page, Pool, Sample, Session, Tensor,
    Updates, catalogue, optim,
};
use expect_test::expect;

/// The warnings of a session, without places.
fn said(session: &Session<Reference>) -> String {
    let lines = session.warnings().into_iter().map(|warning| {
        assert!(warning.place().is_some(), "{warning}");
        assert!(
            warning.notes().iter().any(|note| note.label == "help"),
            "{warning}"
        );
        warning.kind().to_string()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn warnings() {
    let g = Graph::new();
    let x = g.input("x", [4, 3], F32);
    let _weights = g.input("weights", [4], F32);
    let w = g.parameter("w", [3, 2], F32, Init::Kaiming);
    let b = g.parameter("b", [2], F32, Init::Zeros);
    let [rounded, stopped, frozen, forgotten] = ["rounded", "stopped", "frozen", "forgotten"]
        .map(|name| g.parameter(name, [2], F32, Init::Ones));
    let y = x.matmul(w) + b * g.read(stopped).stop_gradient() + g.read(rounded).round();
    let loss = (y * g.read(frozen)).square().mean(..);
    let hidden = y.tanh();
    let accuracy = g.scope("metrics", |_| (hidden * 2.0).exp().softmax(-1));
    let all = [w, b, rounded, stopped];
    let gradients = g.grad(loss, &all).unwrap();
    let updates = optim::sgd(&g, &all, &gradients, Default::default());
    let mut session = Session::compile(&g, Reference, &[loss.key()], updates).unwrap();
    expect![[r#"
        parameter `forgotten` is not used
        input `weights` is not used
        parameter `frozen` is never updated
        the gradient of parameter `rounded` is zero, whatever is fed
        the gradient of parameter `stopped` is zero, whatever is fed
        the result of softmax is not used"#]]
    .assert_eq(&said(&session));
    let unused = session.warnings().pop().unwrap();
    assert!(matches!(unused.kind(), WarningKind::UnusedResult { .. }));
    assert!(unused.to_string().contains(" in metrics"), "{unused}");
    assert!(
        unused.coloured().starts_with("\x1b[1;33mwarning\x1b[0m"),
        "{unused}"
    );
    // What another plan uses is used.
    session
        .plan(&[accuracy.key(), g.read(forgotten).key()], Updates::none())
        .unwrap();
    assert!(!said(&session).contains("softmax"));
    assert!(!said(&session).contains("`forgotten` is not used"));
}

#[test]
fn what_is_fine_is_not_warned_of() {
    let g = Graph::new();
    let (x, labels) = (g.input("x", [2, 1, 8, 8], F32), g.input("labels", [2], I64));
    let random = g.random_state("random", 1);
    let filter = g.parameter("filter", [4, 1, 3, 3], F32, Init::Kaiming);
    let w = g.parameter("w", [36, 5], F32, Init::Kaiming);
    let image = x.conv(g.read(filter), Convolution::default()).relu();
    let pooled = image.max_pool(Pool::default()).reshape([2, -1]);
    let (largest, _) = pooled.sort(-1, backprop_core::Order::Descending);
    let scanned = g.scan(2, &[largest.sum(..)], &[largest], |at| Left {
        carried: vec![at.carried[0] + at.elements[0].max(..)],
        stacked: vec![at.elements[0] * 2.0],
    });
    let scores = pooled.dropout(0.5, random.next_key()).matmul(w);
    let loss = scores.cross_entropy(labels, CrossEntropy::default()) + scanned.carried[0] * 0.1;
    let gradients = g.grad(loss, &[filter, w]).unwrap();
    let clipped = optim::clip_by_norm(&g, &gradients, 1.0);
    let updates = optim::adamw(&g, &[filter, w], &clipped.gradients, Default::default());
    let updates = updates.and(random.updates());
    let session = Session::compile(&g, Reference, &[loss.key()], updates).unwrap();
    assert_eq!(said(&session), "");
}

#[test]
fn no_operation_leaves_dead_ends() {
    let mut warned = Vec::new();
    for entry in catalogue() {
        let g = Graph::new();
        let inputs = entry.samples[0].inputs.iter().enumerate();
        let x: Vec<Tensor<'_>> = inputs
            .map(|(k, (dtype, shape, _))| g.input(&format!("x{k}"), shape, *dtype))
            .collect();
        let y = (entry.build)(&x);
        let session = Session::compile(&g, Reference, &[y.key()], Updates::none()).unwrap();
        let warnings = session.warnings().into_iter();
        let unused = warnings.filter(|w| matches!(w.kind(), WarningKind::UnusedResult { .. }));
        warned.extend(unused.map(|warning| format!("{}: {warning}", entry.name)));
    }
    assert!(warned.is_empty(), "{}", warned.join("\n"));
}

/// Squares its operand, and shows what it was.
#[derive(Debug)]
struct Shown;

impl Composite for Shown {
    fn name(&self) -> &str {
        "shown"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        vec![(inputs[0] + 1.0).inspect("moved").square()]
    }

    fn samples(&self) -> Vec<Sample> {
        vec![Sample::reals(&[&[2]])]
    }
}

#[test]
fn inspected_in_composites_and_scans() {
    let g = Graph::new();
    let x = g.input("x", [2], F64);
    let y = g.scope("block", |g| g.apply_one(Shown, &[x]));
    let scanned = g.scan(3, &[y], &[], |outer| {
        let inner = g.scan(2, &[outer.carried[0]], &[], |at| Left {
            carried: vec![(at.carried[0] * 2.0).inspect("twice")],
            stacked: vec![],
        });
        Left {
            carried: vec![inner.carried[0].inspect("after")],
            stacked: vec![],
        }
    });
    let _unused = x.exp().inspect("unused");
    let loss = scanned.carried[0].sum(..);
    let gradient = g.grad(loss, &[x]).unwrap()[0];
    let fetches = [loss.key(), gradient.key()];
    let mut session = Session::compile(&g, Reference, &fetches, Updates::none()).unwrap();
    let error = session.inspected("block.moved").unwrap_err();
    assert!(error.to_string().contains("has run"), "{error}");
    session.feed(x, &[0.0, 1.0]).unwrap().step().unwrap();
    assert_eq!(session.inspected("block.moved").unwrap().values, [1.0, 2.0]);
    let after = session.inspected("after").unwrap();
    assert_eq!(after.shape.sizes(), [3, 2]);
    assert_eq!(after.values, [4.0, 16.0, 16.0, 64.0, 64.0, 256.0]);
    let twice = session.inspected("twice").unwrap();
    assert_eq!(twice.shape.sizes(), [3, 2, 2]);
    assert_eq!(twice.values[..4], [2.0, 8.0, 4.0, 16.0]);
    // d/dx of 64 (x + 1)^2.
    assert_eq!(session.fetch::<f64>(gradient).unwrap(), [128.0, 256.0]);
    let error = session.inspected("unused").unwrap_err();
    assert!(
        error.to_string().contains("no plan of this session"),
        "{error}"
    );
    let error = session.inspected("typo").unwrap_err();
    assert!(error.to_string().contains("`block.moved`"), "{error}");
    let all = session.all_inspected().unwrap();
    let names: Vec<&str> = all.iter().map(|seen| seen.name.as_str()).collect();
    assert_eq!(names, ["block.moved", "twice", "after"]);
}

#[test]
fn a_name_is_inspected_once() {
    let g = Graph::new();
    let x = g.input("x", [], F32).inspect("seen");
    let _ = x.exp().inspect("seen");
    let error = g.check().unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::DuplicateName { .. }),
        "{error}"
    );
}

/// A layer with its gradient.
fn layer(g: &Graph) -> [Tensor<'_>; 2] {
    let x = g.input("x", [2, 3], F32);
    let y = g.scope("layer", |g| {
        let w = g.parameter("w", [3, 4], F32, Init::Kaiming);
        x.matmul(w).softmax(-1)
    });
    let loss = y.log().mean(..);
    g.grad(loss, &g.parameters()).unwrap();
    [x, loss]
}

#[test]
fn as_a_drawing() {
    let g = Graph::new();
    layer(&g);
    expect![[r#"
        digraph graph_of_operations {
        rankdir=LR; node [shape=box];
        n0 [label="input x\nf32[2, 3]", shape=ellipse];
        n4 [label="log\nf32[2, 4]"];
        n5 [label="mean\nf32[]"];
        n6 [label="gradient of mean\nf32[2, 4]", style=dashed];
        n7 [label="gradient of log\nf32[2, 4]", style=dashed];
        subgraph cluster_0 {
        label="layer";
        n1 [label="parameter layer.w\nf32[3, 4]", shape=ellipse, style=filled];
        n2 [label="matmul\nf32[2, 4]"];
        n3 [label="softmax\nf32[2, 4]"];
        n8 [label="gradient of softmax\nf32[2, 4]", style=dashed];
        n9 [label="gradient of matmul\nf32[3, 4]", style=dashed];
        }
        n0 -> n2;
        n1 -> n2;
        n2 -> n3;
        n3 -> n4;
        n4 -> n5;
        n5 -> n6;
        n3 -> n7;
        n6 -> n7;
        n3 -> n8;
        n7 -> n8;
        n0 -> n9;
        n1 -> n9;
        n8 -> n9;
        }
    "#]]
    .assert_eq(&g.dot());
}

#[test]
fn as_a_page() {
    let g = Graph::new();
    let [x, loss] = layer(&g);
    let mut session = Session::compile(&g, Reference, &[loss.key()], Updates::none()).unwrap();
    let title = "a < b & c";
    let bare = g.page(Page {
        title,
        profile: None,
    });
    assert!(bare.contains("<title>a &lt; b &amp; c</title>"));
    let data = bare.split("id=\"data\">").nth(1).unwrap();
    let data = data.split("</script>").next().unwrap();
    let rows = data.lines().filter(|line| line.starts_with('{'));
    let row = |name: &str| {
        let quoted = format!("\"name\":\"{name}\"");
        rows.clone()
            .position(|line| line.contains(&quoted))
            .unwrap()
    };
    let text = |at: usize| rows.clone().nth(at).unwrap();
    let forward = row("softmax");
    let backward = text(row("gradient of softmax"));
    assert!(
        backward.contains(&format!("\"of\":{forward}")),
        "{backward}"
    );
    assert!(text(forward).contains("\"type\":\"f32[2, 4]\",\"bytes\":32"));
    assert!(
        text(forward).contains("\"scope\":\"layer\""),
        "{}",
        text(forward)
    );
    assert!(text(forward).contains("tests/diagnostics.rs:"));
    // It needs nothing from elsewhere.
    for elsewhere in ["http://", "https://", "src=", "@import"] {
        let found = bare.matches(elsewhere).count();
        let namespace = usize::from(elsewhere == "http://");
        assert_eq!(found, namespace, "{elsewhere}");
    }
    session.feed(x, &[0.5f32; 6]).unwrap();
    let profile = session.profile(2).unwrap();
    let timed = g.page(Page {
        title,
        profile: Some(&profile),
    });
    assert!(!bare.contains("\"us\":") && timed.contains("\"us\":"));
}
