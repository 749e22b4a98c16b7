//! What this process uses, as far as Linux says; elsewhere the fields are absent.

use std::fs;

/// Memory and file descriptors of this process and their limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Resources {
    pub(super) memory_bytes: Option<u64>,
    /// Of the control group; absent without a limit.
    pub(super) memory_limit_bytes: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
}

impl Resources {
    /// Reads a few small files; never waits.
    pub(super) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let group = fs::read_to_string("/sys/fs/cgroup/memory.max").unwrap_or_default();
        Self {
            memory_bytes: resident(&status),
            memory_limit_bytes: group.trim().parse().ok(),
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|open| open.count() as u64),
            max_fds: open_files(&limits),
        }
    }

    /// Whether memory or descriptors are nearly used up.
    pub(super) fn is_scarce(&self) -> bool {
        let nearly = |used: Option<u64>, most: Option<u64>| match (used, most) {
            (Some(used), Some(most)) => used as f64 > 0.9 * most as f64,
            _ => false,
        };
        nearly(self.memory_bytes, self.memory_limit_bytes) || nearly(self.open_fds, self.max_fds)
    }
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        assert_eq!(resident("Name:\tcodeq\nVmRSS:\t   20480 kB\n"), Some(20_971_520));
        assert_eq!(open_files("Max open files            1024    524288    files\n"), Some(1024));
        assert_eq!(open_files("Max open files            unlimited  unlimited  files\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory_and_files() {
        let now = Resources::now();
        assert!(now.memory_bytes > Some(1024 * 1024), "{now:?}");
        assert!(now.open_fds > Some(2), "{now:?}");
        assert!(!Resources { open_fds: Some(80), max_fds: Some(100), ..now }.is_scarce());
        assert!(Resources { open_fds: Some(95), max_fds: Some(100), ..now }.is_scarce());
    }
}
