//! Every operation of the catalogue on a batch at once, against one element after the other.

use backprop_testkit::batched_all;

#[test]
fn every_operation_on_a_batch() {
    let checked = batched_all();
    let mut failed = Vec::new();
    for operation in &checked {
        let named = |what: &String| format!("{}: {what}", operation.name);
        failed.extend(operation.failed.iter().map(named));
    }
    assert!(checked.len() > 50, "the catalogue is short");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
