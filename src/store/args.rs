//! How values become the arguments of a script.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::model::{Command, LeaseToken, Partition, Priority, QueueName, TaskId, TenantId, Time};

/// Arguments of one item, encoded once: first those given once per call, then its own.
#[derive(Clone, Debug, Default)]
pub struct Args {
    data: Vec<u8>,
    ends: SmallVec<[u32; 20]>,
    once: usize,
}

impl Args {
    /// None yet, with room for the usual item.
    pub fn new() -> Self {
        Self { data: Vec::with_capacity(256), ends: SmallVec::new(), once: 0 }
    }

    /// Adds one argument.
    pub fn push(&mut self, value: &[u8]) {
        self.data.extend_from_slice(value);
        self.end();
    }

    /// Adds one argument as its text.
    pub fn push_text(&mut self, value: impl std::fmt::Display) {
        use std::io::Write;
        write!(self.data, "{value}").expect("a Vec takes every write");
        self.end();
    }

    fn end(&mut self) {
        let end = u32::try_from(self.data.len()).expect("a request body is far below 4 GiB");
        self.ends.push(end);
    }

    /// The arguments of a script's item.
    pub(super) fn of<S: super::Script>(item: &S) -> Self {
        let mut args = Self::new();
        item.once(&mut args);
        args.once = args.ends.len();
        item.each(&mut args);
        args
    }

    fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.ends[index - 1] as usize }
    }

    /// The bytes of all arguments given once, and where each ends: two items with equal ones can
    /// share a call.
    pub(super) fn shared(&self) -> (&[u8], &[u32]) {
        (&self.data[..self.start(self.once)], &self.ends[..self.once])
    }

    /// The arguments given once.
    pub(super) fn once(&self) -> impl Iterator<Item = &[u8]> {
        self.range(0..self.once)
    }

    /// The item's own arguments.
    pub(super) fn each(&self) -> impl Iterator<Item = &[u8]> {
        self.range(self.once..self.ends.len())
    }

    fn range(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = &[u8]> {
        range.map(|index| &self.data[self.start(index)..self.ends[index] as usize])
    }

    /// How many bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        self.data.len()
    }

    /// How many arguments it holds.
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }
}

/// A value that a script takes as one argument.
pub trait Arg {
    /// Appends exactly one argument.
    fn write(&self, args: &mut Args);
}

macro_rules! as_number {
    ($($type:ty),*) => {$(
        impl Arg for $type {
            fn write(&self, args: &mut Args) {
                args.push_text(self);
            }
        }
    )*};
}
as_number!(u8, u16, u32, u64, usize, i32, i64, f64);

macro_rules! as_bytes {
    ($($type:ty: $this:ident => $bytes:expr),* $(,)?) => {$(
        impl Arg for $type {
            fn write(&self, args: &mut Args) {
                let $this = self;
                args.push($bytes);
            }
        }
    )*};
}
as_bytes! {
    bool: this => if *this { b"1" } else { b"0" },
    str: this => this.as_bytes(),
    String: this => this.as_bytes(),
    [u8]: this => this,
    Vec<u8>: this => this,
    Bytes: this => this,
    TaskId: this => this.short().as_bytes(),
    TenantId: this => this.tag().as_bytes(),
    QueueName: this => this.as_str().as_bytes(),
    LeaseToken: this => this.as_str().as_bytes(),
    Command: this => this.as_str().as_bytes(),
}

impl<const N: usize> Arg for [u8; N] {
    fn write(&self, args: &mut Args) {
        args.push(self);
    }
}

impl Arg for Priority {
    fn write(&self, args: &mut Args) {
        args.push_text(self.number());
    }
}

impl Arg for Partition {
    fn write(&self, args: &mut Args) {
        args.push_text(self.number());
    }
}

impl Arg for Time {
    fn write(&self, args: &mut Args) {
        args.push_text(self.ms());
    }
}

/// `None` is the empty argument.
impl<T: Arg> Arg for Option<T> {
    fn write(&self, args: &mut Args) {
        match self {
            Some(value) => value.write(args),
            None => args.push(b""),
        }
    }
}

impl<T: Arg + ?Sized> Arg for &T {
    fn write(&self, args: &mut Args) {
        (**self).write(args);
    }
}

impl<T: Arg + ?Sized> Arg for std::sync::Arc<T> {
    fn write(&self, args: &mut Args) {
        (**self).write(args);
    }
}

impl<T: Arg + ToOwned + ?Sized> Arg for std::borrow::Cow<'_, T> {
    fn write(&self, args: &mut Args) {
        (**self).write(args);
    }
}
