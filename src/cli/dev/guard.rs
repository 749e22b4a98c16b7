//! `codeq __guard -- PROGRAM ARGS…`: a child that cannot outlive its parent.
//!
//! Nothing in a process runs when it is killed with SIGKILL, and only Linux can tie a child's life
//! to it. So this small process stands between: its standard input is a pipe of which the parent
//! holds the other end, and the kernel closes that end however the parent ends. Then the guard ends
//! the program, first politely.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{ErrorKind, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

/// Time for the program to write its data and go.
const POLITE: Duration = Duration::from_secs(10);

/// Runs `program` until it ends by itself or standard input does. Standard output and error are the
/// program's as well; its exit status becomes ours.
///
/// # Errors
/// When the program cannot be started.
pub fn run(program: &[OsString]) -> anyhow::Result<Infallible> {
    let (name, arguments) =
        program.split_first().context("usage: codeq __guard -- PROGRAM ARGS…")?;
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null());
    end_with_this_process(&mut command);
    let mut child =
        command.spawn().with_context(|| format!("{} cannot be started", name.display()))?;

    end_when_input_does(&child);
    let status = child.wait().context("the program cannot be waited for")?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    std::process::exit(code)
}

/// Even a guard can be killed; on Linux the kernel then ends the program. The signal comes when the
/// *thread* that started the program ends, and that is the main thread, which waits for it.
#[cfg(target_os = "linux")]
fn end_with_this_process(command: &mut Command) {
    let guard = std::process::id();
    // SAFETY: prctl and getppid may be called between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // The guard may have ended before the line above: then no signal will come.
            if u32::try_from(libc::getppid()) == Ok(guard) {
                Ok(())
            } else {
                Err(std::io::Error::from(ErrorKind::BrokenPipe))
            }
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with_this_process(_: &mut Command) {}

fn end_when_input_does(child: &Child) {
    let pid = libc::pid_t::try_from(child.id()).expect("the system's process ids are pid_t");
    thread::spawn(move || {
        let mut byte = [0];
        loop {
            match std::io::stdin().read(&mut byte) {
                Ok(0) => break,
                Err(error) if error.kind() != ErrorKind::Interrupted => break,
                _ => {}
            }
        }
        // SAFETY: `pid` is our child. The main thread reaps it and then ends this process, so until
        // then the number cannot belong to another.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        thread::sleep(POLITE);
        // SAFETY: as above.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    });
}
