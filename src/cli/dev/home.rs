//! `./.codeq`: where a developer's broker lives, and the lock that makes it one at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::model::digest_text;

/// A Unix socket's path has 104 bytes on macOS and 108 on Linux, its final NUL included.
const LONGEST_SOCKET_PATH: usize = 103;

/// How long the server of a run that was killed may take to end before we give up on the lock.
const PREDECESSOR_ENDS: Duration = Duration::from_secs(15);

/// The directory, held by this process and, through it, by its server.
pub struct Home {
    data: PathBuf,
    socket: PathBuf,
    lock: File,
}

impl Home {
    /// Creates what is missing below `root` and takes the lock.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        let root = std::path::absolute(root).context("the current directory is gone")?;
        let data = root.join("redis");
        private_directory(&data)?;
        let lock = take_lock(&root.join("lock"))?;
        let socket = socket_in(&data)?;
        Ok(Self { data, socket, lock })
    }

    /// Where the server keeps its files.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where the server listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.data.join("redis.log")
    }

    /// The store as settings name it.
    pub fn url(&self) -> String {
        let path = url::Url::from_file_path(&self.socket).expect("the socket's path is absolute");
        format!("redis+unix://{}", path.path())
    }

    /// A second handle on the lock. The lock ends when the last one closes, so a server that
    /// inherits one keeps others away from its files until it is really gone.
    pub fn share_lock(&self) -> anyhow::Result<File> {
        self.lock.try_clone().context("no file descriptor is left")
    }
}

fn private_directory(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| {
        format!("{} cannot be created; `codeq dev` keeps its data there", path.display())
    })
}

fn take_lock(path: &Path) -> anyhow::Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    let patience = Instant::now() + PREDECESSOR_ENDS;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("{} cannot be locked", path.display()));
            }
            Err(TryLockError::WouldBlock) => {}
        }
        let owner = owner_of(&mut file);
        match owner.filter(|pid| is_alive(*pid)) {
            Some(pid) => bail!(
                "another `codeq dev` (process {pid}) runs in this directory; stop it, or start \
                 this one in another directory with another PORT"
            ),
            // Killed a moment ago: its guard is ending the server.
            None if Instant::now() < patience => sleep(Duration::from_millis(50)),
            None => bail!(
                "{} is still held by the redis-server of an earlier run; its process id is in {}",
                path.display(),
                path.with_file_name("redis").join("redis.pid").display(),
            ),
        }
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .with_context(|| format!("{} cannot be written; is the disk full?", path.display()))?;
    Ok(file)
}

fn owner_of(lock: &mut File) -> Option<libc::pid_t> {
    let mut text = String::new();
    lock.rewind().ok()?;
    lock.read_to_string(&mut text).ok()?;
    text.lines().next()?.parse().ok()
}

fn is_alive(pid: libc::pid_t) -> bool {
    // SAFETY: signal 0 only asks whether the process exists.
    pid > 0 && unsafe { libc::kill(pid, 0) } == 0
}

/// Beside the data, or below a short directory of this user's when that path would not fit.
fn socket_in(data: &Path) -> anyhow::Result<PathBuf> {
    let beside = data.join("redis.sock");
    if beside.as_os_str().len() <= LONGEST_SOCKET_PATH {
        return Ok(beside);
    }
    // SAFETY: getuid cannot fail and touches no memory.
    let user = unsafe { libc::getuid() };
    let name = digest_text::<9>(&[data.as_os_str().as_bytes()]);
    let short = Path::new("/tmp").join(format!("codeq-{user}-{name}"));
    private_directory(&short)?;
    own_and_private(&short, user)?;
    Ok(short.join("redis.sock"))
}

/// `/tmp` belongs to everybody: a directory somebody else made beforehand is not ours to trust.
fn own_and_private(path: &Path, user: libc::uid_t) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let of = fs::symlink_metadata(path)?;
    if of.is_dir() && of.uid() == user && of.mode() & 0o077 == 0 {
        return Ok(());
    }
    bail!("{} belongs to somebody else; use a directory with a shorter path", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_in_one_directory_names_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Home::open(&dir.path().join(".codeq")).unwrap();
        let refusal = Home::open(&dir.path().join(".codeq")).err().unwrap().to_string();
        assert!(refusal.contains(&format!("process {}", std::process::id())), "{refusal}");
    }

    #[test]
    fn the_lock_lives_as_long_as_the_server_that_inherited_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = Home::open(&dir.path().join(".codeq")).unwrap();
        let inherited = first.share_lock().unwrap();
        drop(first);
        assert!(Home::open(&dir.path().join(".codeq")).is_err());
        drop(inherited);
        assert!(Home::open(&dir.path().join(".codeq")).is_ok());
    }

    #[test]
    fn a_long_directory_still_gets_a_socket_that_fits() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(90)).join(".codeq");
        let home = Home::open(&deep).unwrap();
        assert!(home.socket().as_os_str().len() <= LONGEST_SOCKET_PATH);
        assert!(home.data().starts_with(&deep));
        fs::remove_dir(home.socket().parent().unwrap()).unwrap();
    }

    #[test]
    fn an_odd_directory_name_survives_the_url() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(&dir.path().join("a b%?#ü")).unwrap();
        let url = url::Url::parse(&home.url()).unwrap();
        assert_eq!(url.to_file_path().unwrap(), home.socket());
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".codeq"), "").unwrap();
        let refusal = Home::open(&dir.path().join(".codeq")).err().unwrap().to_string();
        assert!(refusal.contains(".codeq/redis cannot be created"), "{refusal}");
    }
}
