//! Tokens that were verified before.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

use sha2::{Digest as _, Sha256};

use super::Principal;
use super::keys::Key;

/// Locks that readers of different tokens do not share.
const SHARDS: usize = 16;

/// The most tokens one validator remembers: about 10 MB of ordinary ones.
const MAX_TOKENS: usize = 16 * 1024;

/// SHA-256 of a token. Memory that leaks holds no token, and a comparison that stops at the first
/// difference tells nothing about one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest(pub [u8; 32]);

impl Digest {
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

impl std::hash::Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0[8..16]);
    }
}

/// A digest is a hash already: eight of its bytes do.
#[derive(Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(0, |hash, byte| hash << 8 | u64::from(*byte));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What a signature proved, and until when.
#[derive(Clone)]
pub(super) struct Proof {
    pub key: Arc<Key>,
    /// Unix time in milliseconds from which the token is refused, clock skew included.
    pub expires_ms: u64,
}

impl Proof {
    fn holds(&self, now_ms: u64) -> bool {
        now_ms < self.expires_ms && !self.key.is_withdrawn()
    }
}

type Shard = HashMap<Digest, (Proof, Arc<Principal>), BuildHasherDefault<AlreadyHashed>>;

/// Verified tokens until they expire or their key leaves its key set. Bounded; a hit takes a
/// read lock and no allocation.
#[derive(Default)]
pub(super) struct Remembered([RwLock<Shard>; SHARDS]);

impl Remembered {
    fn shard(&self, token: &Digest) -> &RwLock<Shard> {
        &self.0[usize::from(token.0[0]) % SHARDS]
    }

    pub fn get(&self, token: &Digest, now_ms: u64) -> Option<Arc<Principal>> {
        // A panic between two map operations cannot leave a half-written entry, so a poisoned
        // lock is as good as any.
        let shard = self.shard(token).read().unwrap_or_else(PoisonError::into_inner);
        let (proof, principal) = shard.get(token)?;
        proof.holds(now_ms).then(|| principal.clone())
    }

    pub fn put(&self, token: Digest, proof: Proof, principal: Arc<Principal>, now_ms: u64) {
        let mut shard = self.shard(&token).write().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= MAX_TOKENS / SHARDS && !shard.contains_key(&token) {
            shard.retain(|_, (proof, _)| proof.holds(now_ms));
            if shard.len() >= MAX_TOKENS / SHARDS {
                // Still full of good ones: the one with the least time left loses least.
                let first = shard.iter().min_by_key(|(_, (proof, _))| proof.expires_ms);
                let first = first.map(|(digest, _)| *digest);
                first.map(|digest| shard.remove(&digest));
            }
        }
        shard.insert(token, (proof, principal));
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.read().unwrap().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(expires_ms: u64) -> Proof {
        Proof { key: Arc::new(Key::for_tests()), expires_ms }
    }

    fn somebody() -> Arc<Principal> {
        Arc::new(Principal::of("somebody".to_owned(), &serde_json::Map::new()))
    }

    #[test]
    fn memory_is_bounded_and_the_newcomer_is_kept() {
        let remembered = Remembered::default();
        for token in 0..MAX_TOKENS as u64 * 2 {
            let digest = Digest::of(&token.to_string());
            remembered.put(digest, proof(1_000_000 + token), somebody(), 0);
            assert!(remembered.get(&digest, 0).is_some());
        }
        assert!(remembered.len() <= MAX_TOKENS);
    }

    #[test]
    fn a_full_memory_forgets_expired_tokens_before_good_ones() {
        let remembered = Remembered::default();
        let in_one_shard =
            (0..).map(|n: u64| Digest::of(&n.to_string())).filter(|digest| digest.0[0] == 0);
        let tokens: Vec<_> = in_one_shard.take(MAX_TOKENS / SHARDS + 1).collect();
        let (newcomer, others) = tokens.split_last().unwrap();
        for (n, digest) in others.iter().enumerate() {
            let expires_ms = if n % 2 == 0 { 10 } else { 1_000 };
            remembered.put(*digest, proof(expires_ms), somebody(), 0);
        }
        remembered.put(*newcomer, proof(1_000), somebody(), 10);
        let left = others.iter().filter(|digest| remembered.get(digest, 10).is_some()).count();
        assert_eq!(left, others.len() / 2);
        assert_eq!(remembered.len(), others.len() / 2 + 1);
    }
}
