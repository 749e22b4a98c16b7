use std::fmt;
use std::sync::Arc;

use super::{TenantId, digest_text};

/// A command: the name and routing key of a queue, as a producer spelled it.
///
/// Not blank, at most 256 bytes of UTF-8, no control characters. Case is kept; queues are keyed by
/// the Unicode lower-case form.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Command(Arc<str>);

impl Command {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// Checks a name from outside. The error is the rule it broke, a sentence for a client.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.trim().is_empty() {
            return Err("command must not be blank");
        }
        if text.len() > Self::MAX_BYTES {
            return Err("command must be at most 256 bytes");
        }
        if text.chars().any(char::is_control) {
            return Err("command must not hold control characters");
        }
        Ok(Self(text.into()))
    }

    /// A name that was checked when it was stored.
    pub(crate) fn trusted(text: &str) -> Self {
        Self(text.into())
    }

    /// As the producer spelled it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Twelve characters that stand for the command in Redis, whatever its case: 72 bits of SHA-256.
    pub fn tag(&self) -> String {
        digest_text::<9>(&[b"command", self.lower().as_bytes()])
    }

    /// The Unicode lower-case form, by which queues are told apart.
    pub fn lower(&self) -> String {
        self.0.to_lowercase()
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a queue (tenant and lower-cased command) in Redis keys: 24 characters, of which the
/// first twelve are the tenant's tag, so that a script can tell whose queue it holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName([u8; Self::LEN]);

impl QueueName {
    /// Length in bytes of the text.
    pub const LEN: usize = 24;

    /// The queue of `command` in `tenant`.
    pub fn of(tenant: &TenantId, command: &Command) -> Self {
        let mut name = [0; Self::LEN];
        name[..12].copy_from_slice(tenant.tag().as_bytes());
        name[12..].copy_from_slice(command.tag().as_bytes());
        Self(name)
    }

    /// Stands for any queue of the tenant with this tag; no command has such a tag.
    pub fn any_of(tenant_tag: &str) -> Self {
        let mut name = [b':'; Self::LEN];
        name[..12].copy_from_slice(tenant_tag.as_bytes());
        Self(name)
    }

    /// Reads a name that a script answered.
    pub fn from_text(text: &str) -> Option<Self> {
        text.as_bytes().try_into().ok().filter(|name: &[u8; 24]| name.is_ascii()).map(Self)
    }

    /// As it stands in keys.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("built from ASCII text only")
    }

    /// The part that names the tenant, [`TenantId::tag`].
    pub fn tenant_tag(&self) -> &str {
        &self.as_str()[..12]
    }

    /// The part that names the command within its tenant.
    pub fn command_tag(&self) -> &str {
        &self.as_str()[12..]
    }
}

impl fmt::Debug for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
