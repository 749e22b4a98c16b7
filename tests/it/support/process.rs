//! A child process that ends with its value, or with the test that started it, and what it says.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// A running program. Killed when dropped, and by the kernel when the test itself is killed.
pub struct Process(Child);

impl Process {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        #[cfg(target_os = "linux")]
        // SAFETY: `prctl` is a plain system call; nothing is allocated between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let program = command.get_program().to_owned();
        Self(command.spawn().unwrap_or_else(|error| panic!("cannot start {program:?}: {error}")))
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Sends a signal, as `libc::SIGTERM`, `libc::SIGSTOP`, `libc::SIGCONT`.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.0.id()).unwrap();
        // SAFETY: `kill` takes no pointers, and the process is our child and not yet waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Kills it as a crash would, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    /// Waits for its end. Panics after `within`.
    pub async fn exit(&mut self, within: Duration) -> ExitStatus {
        let patience = async {
            loop {
                if let Some(status) = self.ended() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let ended = tokio::time::timeout(within, patience).await;
        ended.unwrap_or_else(|_| panic!("the process did not end within {within:?}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lines of a process, as they come.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// What it writes to both its pipes.
    pub fn of(process: &mut Process) -> Self {
        let lines = Self::default();
        let (out, err) = (process.child().stdout.take(), process.child().stderr.take());
        lines.gather(out.unwrap());
        lines.gather(err.unwrap());
        lines
    }

    fn gather(&self, pipe: impl Read + Send + 'static) {
        let lines = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                lines.0.lock().unwrap().push(line);
            }
        });
    }

    /// Whether both pipes are read to their end.
    pub fn are_all(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// What it wrote so far.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Those that are JSON.
    pub fn json(&self) -> Vec<Value> {
        let lines = self.0.lock().unwrap();
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The first JSON line that is such.
    pub fn find(&self, such: impl Fn(&Value) -> bool) -> Option<Value> {
        let lines = self.0.lock().unwrap();
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).find(|line| such(line))
    }
}
