//! The job over everything that is installed.

use std::path::Path;
use std::time::Duration;

use crate::promises::{Run, every_file_of};

#[tokio::test]
async fn every_file_that_is_installed_has_its_checksum_once_while_nodes_and_workers_die() {
    let tree = std::env::var("CODEQ_TEST_TREE").unwrap_or_else(|_| "/usr/share".to_owned());
    let run = Run {
        python_workers: 5,
        shell_workers: 3,
        node_dies: Duration::from_secs(2),
        worker_dies: Duration::from_secs(1),
        within: Duration::from_secs(3000),
    };
    every_file_of(Path::new(&tree), run).await;
}
