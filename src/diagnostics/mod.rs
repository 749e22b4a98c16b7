//! What operators ask a node.
