//! The main job on real input, as `examples/checksum` does it, under fire: nodes and workers are
//! killed and scripts forgotten until the last result is in.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::quick;
use crate::support::process::Process;
use crate::support::{Fleet, Nemesis, Redis};

/// How a run is done.
pub struct Run {
    pub python_workers: usize,
    pub shell_workers: usize,
    /// Between two deaths of a node, in turn.
    pub node_dies: Duration,
    /// Between two deaths of a worker, at random.
    pub worker_dies: Duration,
    pub within: Duration,
}

#[tokio::test]
async fn every_checksum_is_right_and_every_task_ends_once_while_nodes_and_workers_die() {
    let tree = tempfile::tempdir().unwrap();
    plant(tree.path(), 240);
    let run = Run {
        python_workers: 2,
        shell_workers: 2,
        node_dies: Duration::from_secs(2),
        worker_dies: Duration::from_millis(1500),
        within: Duration::from_secs(55),
    };
    every_file_of(tree.path(), run).await;
}

/// Files of all sizes with names that go wrong where somebody quotes by hand.
fn plant(root: &Path, count: usize) {
    let names: [&[u8]; 14] = [
        b"plain.txt",
        b"with space",
        b"-rf",
        b"--zero",
        b"quo\"te'",
        b"back\\slash",
        b"new\nline",
        b"ends with newline\n",
        b"not-utf8-\xff\xfe",
        "gr\u{fc}\u{df}e \u{1f41f}".as_bytes(),
        b"$(echo x)`id`",
        b"tab\tand\rreturn",
        b"{codeq:0}*?[a]",
        b" ",
    ];
    for n in 0..count {
        let folder = root.join(format!("d{}", n / 20));
        fs::create_dir_all(&folder).unwrap();
        let mut name = names[n % names.len()].to_vec();
        if n >= names.len() {
            let mut numbered = format!("{n}").into_bytes();
            numbered.append(&mut name);
            name = numbered;
        }
        let size = [0, 1, 4096, 70_001][n % 4];
        fs::write(folder.join(OsStr::from_bytes(&name)), vec![n as u8; size]).unwrap();
    }
    fs::write(root.join("large"), vec![7; 5 << 20]).unwrap();
}

/// Runs the whole job over a tree. Its checker decides; we say how it went.
pub async fn every_file_of(tree: &Path, run: Run) {
    let redis = Redis::start().await;
    let fleet = Fleet::start(quick(&redis), 3).await;
    let out = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let mut job = Job(start(&run, &fleet, tree, out.path()));
    let nodes = Nemesis::start(|stop| kill_nodes(fleet, run.node_dies, stop));
    let mut connection = redis.connection().await;
    let scripts = Nemesis::start(|stop| async move {
        while !stop.is_cancelled() {
            // A busy machine may be late with the answer; the scripts are gone all the same.
            let _ = ::redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut connection).await;
            sleep(Duration::from_secs(1)).await;
        }
    });
    let (folder, pause) = (out.path().to_owned(), run.worker_dies);
    let count = run.python_workers + run.shell_workers;
    let workers = Nemesis::start(|stop| kill_workers(folder, count, pause, stop));

    let status = job.0.exit(run.within).await;
    let seconds = begun.elapsed().as_secs_f64();
    let workers_died = workers.stop().await;
    let (nodes_died, fleet) = nodes.stop().await;
    scripts.stop().await;
    let said = fs::read_to_string(out.path().join("said")).unwrap();
    println!("{seconds:.1} s, {nodes_died} nodes and {workers_died} workers killed\n{said}");
    assert!(status.success(), "{status}");
    assert!(said.contains(" 0 findings"), "the checker said nothing");

    fleet.until_ready().await;
    for node in fleet.nodes() {
        assert_eq!(node.admin().counts("checksum").await, [0, 0, 0, 0]);
        assert_eq!(node.scrape().await.sum("codeq_queue_depth", ""), 0.0);
    }
}

/// The script that runs the job. Told to stop it ends its workers, killed it could not.
struct Job(Process);

impl Drop for Job {
    fn drop(&mut self) {
        if self.0.ended().is_none() {
            self.0.signal(libc::SIGTERM);
            let end = std::time::Instant::now() + Duration::from_secs(8);
            while self.0.ended().is_none() && std::time::Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn start(run: &Run, fleet: &Fleet, tree: &Path, out: &Path) -> Process {
    let said = File::create(out.join("said")).unwrap();
    let mut command = Command::new("examples/checksum/run.sh");
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["-p", &run.python_workers.to_string(), "-s", &run.shell_workers.to_string()])
        .arg("-o")
        .arg(out)
        .arg(tree)
        .args(fleet.origins())
        .env("CODEQ_PRODUCER_TOKEN", "admin")
        .env("CODEQ_WORKER_TOKEN", "worker")
        .env("CODEQ_LEASE_SECONDS", "3")
        .env("CODEQ_WAIT_SECONDS", "2")
        // A worker that is killed has used up an attempt.
        .env("CODEQ_MAX_ATTEMPTS", "100")
        .env("CODEQ_CHECK_SECONDS", run.within.as_secs().to_string())
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said);
    Process::start(&mut command)
}

async fn kill_nodes(
    mut fleet: Fleet,
    pause: Duration,
    stop: tokio_util::sync::CancellationToken,
) -> (usize, Fleet) {
    let mut killed = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return (killed, fleet),
            () = sleep(pause) => {}
        }
        fleet.crash(killed % 3).await;
        killed += 1;
    }
}

/// Kills a worker of the run, as its file tells who that is.
async fn kill_workers(
    out: PathBuf,
    count: usize,
    pause: Duration,
    stop: tokio_util::sync::CancellationToken,
) -> usize {
    let mut killed = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return killed,
            () = sleep(pause) => {}
        }
        let number = rand::random_range(0..count);
        let file = out.join(format!("worker.{number}.pid"));
        let Ok(text) = fs::read_to_string(file) else { continue };
        let Ok(pid) = text.trim().parse::<i32>() else { continue };
        // The number of a worker that has ended could be somebody else's by now.
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains("examples/checksum/worker") {
            // SAFETY: `kill` takes no pointers.
            killed += usize::from(unsafe { libc::kill(pid, libc::SIGKILL) } == 0);
        }
    }
}
