//! The keys of objects: `<tenant>/<task>/<attempt>/<artifact>`.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::model::{LeaseToken, TaskId, TenantId};

/// Longer names are cut and end in a digest: file systems take 255 bytes, and the library writes to
/// a longer name first.
const MAX_NAME: usize = 200;
/// Length of a task's id in its short form.
const SHORT: usize = 22;
/// What is left of a name that is cut.
const KEPT: usize = 150;

/// The folder of one submit. Every try has one of its own, so that a submit that was refused can
/// never touch the artifacts of the one that was accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folder {
    /// The task.
    pub task: TaskId,
    attempt: String,
    tenant: TenantId,
}

impl Folder {
    /// A fresh one.
    pub fn new(tenant: &TenantId, task: TaskId) -> Self {
        let attempt = LeaseToken::random().as_str().to_owned();
        Self { task, attempt, tenant: tenant.clone() }
    }

    /// What the store remembers of it beside the task's id: the attempt, then the tenant.
    pub fn name(&self) -> String {
        format!("{}{}", self.attempt, self.tenant)
    }

    /// Reads the short id of a task and, behind it, what [`name`](Self::name) gave.
    pub fn parse(text: &str) -> Option<Self> {
        let (task, name) = text.split_at_checked(SHORT)?;
        let (attempt, tenant) = name.split_at_checked(LeaseToken::LEN)?;
        Some(Self {
            task: TaskId::from_short(task)?,
            attempt: attempt.to_owned(),
            tenant: TenantId::parse(tenant)?,
        })
    }

    /// Its path below the place where artifacts go.
    pub fn path(&self) -> String {
        format!("{}/{}/{}", self.tenant, self.task, self.attempt)
    }

    /// The path of an artifact in it.
    pub fn object(&self, name: &str) -> String {
        format!("{}/{}", self.path(), escaped(name))
    }
}

/// A name in letters that mean the same in a key, a file name and a URL: whoever takes the URL apart
/// and whoever uses it as it stands find the same object. All others become `=` and two hex digits;
/// `%` in their place would be decoded by one reader and not by the next.
fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut cut = 0;
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "={byte:02X}").expect("a String takes every write");
        }
        if out.len() <= KEPT {
            cut = out.len();
        }
    }
    if out.len() > MAX_NAME {
        out.truncate(cut);
        out.push_str("==");
        out.push_str(&URL_SAFE_NO_PAD.encode(&Sha256::digest(name.as_bytes())[..16]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> Folder {
        let task = TaskId::parse("00000000-0000-7003-8000-000000000001").unwrap();
        Folder::new(&TenantId::parse("acme").unwrap(), task)
    }

    #[test]
    fn a_folder_comes_back_from_what_the_store_remembers() {
        let folder = folder();
        let text = format!("{}{}", folder.task.short(), folder.name());
        assert_eq!(Folder::parse(&text), Some(folder));
        for bad in ["", "x", &text[1..], &text[..text.len() - 4]] {
            assert_eq!(Folder::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_try_has_a_folder_of_its_own_below_tenant_and_task() {
        let (first, second) = (folder(), folder());
        assert_ne!(first.path(), second.path());
        assert!(first.path().starts_with("acme/00000000-0000-7003-8000-000000000001/"));
        assert!(first.object("a b.pdf").ends_with("/a=20b.pdf"));
    }

    #[test]
    fn names_stay_apart_and_short() {
        assert_eq!(escaped("report-1_final.pdf"), "report-1_final.pdf");
        assert_eq!(escaped("ü #1%?="), "=C3=BC=20=231=25=3F=3D");
        let (one, two) = ("ü".repeat(127) + "a", "ü".repeat(127) + "b");
        for name in [&one, &two] {
            assert!(escaped(name).len() <= MAX_NAME, "{}", escaped(name));
        }
        assert_ne!(escaped(&one), escaped(&two));
        assert_eq!(escaped(&"x".repeat(200)), "x".repeat(200));
        assert!(escaped(&"x".repeat(201)).starts_with(&("x".repeat(150) + "==")));
    }

    proptest::proptest! {
        #[test]
        fn no_name_leaves_its_folder(name in "\\PC{1,80}") {
            let escaped = escaped(&name);
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-=".contains(&b);
            proptest::prop_assert!(escaped.bytes().all(plain));
        }
    }
}
