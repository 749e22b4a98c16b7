//! `codeq dev` as a person meets it: a process, a terminal, a shell.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A `codeq dev` of its own, in a process group of its own as a shell would start it.
struct Dev {
    process: Child,
    /// What it printed up to the moment it was ready.
    printed: Vec<String>,
}

impl Dev {
    fn start(home: &Path) -> Self {
        let process = dev(home).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut dev = Self { process, printed: Vec::new() };
        for line in BufReader::new(dev.process.stdout.take().unwrap()).lines() {
            dev.printed.push(line.unwrap());
            if dev.printed.last().unwrap().starts_with("Stop with") {
                return dev;
            }
        }
        let said = dev.said();
        panic!("it ended: {:#?} {said}", dev.printed)
    }

    /// The lines to try, as they are printed.
    fn lines_to_try(&self) -> Vec<&str> {
        let is_line = |line: &&str| line.starts_with("curl ") || line.starts_with("ID=");
        self.printed.iter().map(|line| line.trim()).filter(is_line).collect()
    }

    fn signal(&self, signal: i32) {
        send(self.process.id(), signal);
    }

    /// All of its standard error, once it has ended.
    fn said(&mut self) -> String {
        let mut text = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn wait(&mut self) -> ExitStatus {
        eventually("codeq dev ends", || self.process.try_wait().unwrap())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn dev(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_codeq"));
    command.arg("dev").current_dir(home).process_group(0).env_remove("RUST_BACKTRACE");
    command.envs([("PORT", "0"), ("LOG_LEVEL", "warn"), ("SHUTDOWN_DELAY_SECONDS", "0")]);
    command
}

/// To a whole process group, as a terminal does it.
fn send(group: u32, signal: i32) {
    // SAFETY: the group is that of a process we started and have not waited for.
    assert_eq!(unsafe { libc::kill(-i32::try_from(group).unwrap(), signal) }, 0);
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < patience, "{what}: not within 20 s");
        sleep(Duration::from_millis(5));
    }
}

fn redis_pid(home: &Path) -> i32 {
    fs::read_to_string(home.join(".codeq/redis/redis.pid")).unwrap().trim().parse().unwrap()
}

fn is_gone(pid: i32) -> Option<()> {
    // SAFETY: signal 0 only asks.
    (unsafe { libc::kill(pid, 0) } != 0).then_some(())
}

fn bash(script: &str) -> String {
    let output = Command::new("bash").args(["-c", script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_printed_lines_work_when_pasted() {
    let home = TempDir::new().unwrap();
    let dev = Dev::start(home.path());
    let lines = dev.lines_to_try();
    assert_eq!(lines.len(), 3, "{:#?}", dev.printed);
    let said = bash(&lines.join("\n"));
    assert!(said.contains(r#""status":"PENDING""#), "{said}");
    assert!(said.contains(r#""status":"COMPLETED""#), "{said}");
}

#[test]
fn killed_with_sigkill_it_leaves_no_server_and_loses_no_task() {
    let home = TempDir::new().unwrap();
    let mut first = Dev::start(home.path());
    let create = first.lines_to_try()[0].to_owned();
    assert!(bash(&create).contains("PENDING"));
    let server = redis_pid(home.path());
    first.process.kill().unwrap();
    first.process.wait().unwrap();
    eventually("its redis-server ends", || is_gone(server));

    // The tokens are the same, and so is the data.
    let second = Dev::start(home.path());
    let claim = second.lines_to_try()[1];
    assert!(bash(&format!("{claim} $ID")).trim().len() > 30, "nothing to claim");
}

#[test]
fn ctrl_c_ends_it_in_order_and_its_server_after_it() {
    let home = TempDir::new().unwrap();
    let mut dev = Dev::start(home.path());
    let server = redis_pid(home.path());
    dev.signal(libc::SIGINT);
    assert!(dev.wait().success());
    assert!(is_gone(server).is_some(), "it ended before its server");
    let log = fs::read_to_string(home.path().join(".codeq/redis/redis.log")).unwrap();
    assert!(log.contains("SIGTERM"), "the server was not asked politely: {log}");
}

#[test]
fn when_its_server_dies_it_says_so() {
    let home = TempDir::new().unwrap();
    let mut dev = Dev::start(home.path());
    // SAFETY: the pid is that of this test's own server.
    unsafe { libc::kill(redis_pid(home.path()), libc::SIGKILL) };
    assert!(!dev.wait().success());
    let said = dev.said();
    assert!(said.contains("redis-server ended"), "{said}");
}

#[test]
fn a_second_one_in_the_same_directory_names_the_first() {
    let home = TempDir::new().unwrap();
    let first = Dev::start(home.path());
    let said = refusal(&mut dev(home.path()));
    assert!(said.contains(&format!("process {}", first.process.id())), "{said}");
}

#[test]
fn without_a_redis_server_it_says_how_to_get_one() {
    let home = TempDir::new().unwrap();
    let said = refusal(dev(home.path()).env("PATH", "/nonexistent"));
    assert!(said.contains("no redis-server on PATH; install it"), "{said}");
}

#[test]
fn a_server_too_old_is_refused_by_name() {
    let home = TempDir::new().unwrap();
    let fake = home.path().join("redis-server");
    fs::write(&fake, "#!/bin/sh\necho 'Redis server v=6.0.16 sha=0'\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&fake, executable).unwrap();
    let said = refusal(dev(home.path()).env("PATH", home.path()));
    assert!(said.contains("is 6.0.16, codeq needs 6.2 or newer"), "{said}");
}

#[test]
fn a_taken_port_is_told_with_a_way_out() {
    let home = TempDir::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = refusal(dev(home.path()).env("PORT", &port));
    assert!(said.contains(&format!("port {port} cannot be opened")), "{said}");
}

/// What it says when it does not start.
fn refusal(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}
