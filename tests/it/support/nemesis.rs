//! Trouble beside a test.

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Runs until it is told to stop; gives back what it was given.
pub struct Nemesis<T> {
    stop: CancellationToken,
    task: JoinHandle<T>,
}

impl<T: Send + 'static> Nemesis<T> {
    /// Starts it. It looks at the token between two blows.
    pub fn start<F>(run: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(run(stop.clone())), stop }
    }

    /// Ends it between two blows.
    pub async fn stop(mut self) -> T {
        self.stop.cancel();
        (&mut self.task).await.unwrap()
    }
}

impl<T> Drop for Nemesis<T> {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}
