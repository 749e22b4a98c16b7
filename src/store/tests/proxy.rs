//! A TCP front of a test's Redis that loses answers on demand.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

pub struct Proxy {
    pub address: String,
    losses: Arc<AtomicUsize>,
}

impl Proxy {
    pub async fn before(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let losses = Arc::new(AtomicUsize::new(0));
        let shared = losses.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, socket.clone(), shared.clone()));
            }
        });
        Self { address, losses }
    }

    /// The next `count` script calls are executed, and their connection ends before the answer.
    pub fn lose_answers(&self, count: usize) {
        self.losses.store(count, Ordering::SeqCst);
    }
}

async fn carry(mut client: TcpStream, socket: PathBuf, losses: Arc<AtomicUsize>) {
    let Ok(mut server) = UnixStream::connect(socket).await else { return };
    let (mut asked, mut answered) = (vec![0; 65536], vec![0; 65536]);
    let mut losing = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => match read {
                Ok(n) if n > 0 => {
                    let script = asked[..n].windows(7).any(|word| word == b"EVALSHA");
                    let take = |left: usize| left.checked_sub(1);
                    losing |= script
                        && losses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok();
                    server.write_all(&asked[..n]).await.unwrap();
                }
                _ => return,
            },
            read = server.read(&mut answered) => match read {
                Ok(n) if n > 0 && !losing => {
                    if client.write_all(&answered[..n]).await.is_err() { return }
                }
                // The answer was here: the script has run.
                _ => return,
            },
        }
    }
}
