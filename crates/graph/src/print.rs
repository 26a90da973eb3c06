//! A graph as text: one line a node.

use std::fmt;

use crate::graph::Graph;
use crate::ir::Ir;

impl fmt::Display for Ir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for id in self.ids() {
            let node = self.node(id);
            write!(f, "%{} = {}", id.0, self.label(id))?;
            for input in &node.inputs {
                write!(f, " %{}", input.0)?;
            }
            let scope = &self.scopes[self.origins[id.index()].scope as usize];
            write!(f, " : {}{}", node.dtype, node.shape)?;
            if !scope.is_empty() {
                write!(f, "  // {scope}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ir.borrow())
    }
}
