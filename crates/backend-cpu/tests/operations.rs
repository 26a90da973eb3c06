//! Every operation of the catalogue, with its gradient: the values of the reference.

use backprop_cpu::Cpu;
use backprop_testkit::compare_all;

#[test]
fn every_operation_as_on_the_reference() {
    let backend = Cpu::builder().threads(2).build().unwrap();
    let compared = compare_all(&backend);
    let failed: Vec<String> = compared
        .iter()
        .flat_map(|checked| {
            checked
                .failed
                .iter()
                .map(|what| format!("{}: {what}", checked.name))
        })
        .collect();
    assert!(compared.len() > 100, "the catalogue is short");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
