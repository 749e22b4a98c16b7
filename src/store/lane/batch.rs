//! Jobs as one pipeline.

use std::collections::HashMap;
use std::sync::Arc;

use redis::{Cmd, Pipeline};

use super::job::{Called, Job, Work};
use crate::model::Partition;
use crate::store::Library;
use crate::store::bundle::Bundle;

/// A script that a lane has met.
pub(super) struct Known {
    pub bundle: Arc<Bundle>,
    /// How many times this lane sent `SCRIPT LOAD` for it. A job that failed with `NOSCRIPT` and
    /// saw fewer loads than there are now is behind one already: that makes loading single-flight.
    pub loads: u64,
    /// The next batch begins by loading it.
    pub load_wanted: bool,
    /// Why the last load failed.
    pub load_error: Option<String>,
}

/// Every script that a lane has met.
pub(super) struct Scripts {
    library: Library,
    known: HashMap<&'static str, Result<Known, String>>,
}

impl Scripts {
    pub fn new(library: Library) -> Self {
        Self { library, known: HashMap::new() }
    }

    /// The script, bundled when it is first met. The error says why it cannot be.
    pub fn know(&mut self, script: &'static Called) -> Result<&mut Known, String> {
        let known = self.known.entry(script.name).or_insert_with(|| {
            let bundle = Bundle::new(script.name, script.source, &self.library)?;
            let bundle = Arc::new(bundle);
            Ok(Known { bundle, loads: 0, load_wanted: false, load_error: None })
        });
        known.as_mut().map_err(|error| error.clone())
    }
}

/// One command of a pipeline, and the jobs that it answers.
pub(super) struct Call {
    pub what: What,
    pub jobs: Vec<Box<Job>>,
}

/// What a command of a pipeline is.
pub(super) enum What {
    /// `EVALSHA` with one item or more.
    Script { script: &'static Called, partition: Partition, alone: bool, bytes: usize },
    /// A job's own command.
    Command,
    /// `SCRIPT LOAD` ahead of the calls that need it; answers nobody.
    Load(&'static Called),
}

impl Call {
    fn takes(&self, job: &Job) -> bool {
        let Work::Item { script, partition, args } = &job.work else { return false };
        let What::Script { script: mine, partition: here, alone, .. } = &self.what else {
            return false;
        };
        let same_script = here == partition && mine.name == script.name;
        same_script && !alone && !job.alone && self.shared_with(args)
    }

    fn shared_with(&self, args: &crate::store::Args) -> bool {
        match &self.jobs[0].work {
            Work::Item { args: first, .. } => first.shared() == args.shared(),
            Work::Command { .. } => false,
        }
    }
}

/// Jobs that travel together.
#[derive(Default)]
pub(super) struct Batch {
    pub calls: Vec<Call>,
    pub items: usize,
    pub bytes: usize,
}

impl Batch {
    /// Adds a job to the call that it can share, or as a call of its own.
    pub fn add(&mut self, job: Box<Job>) {
        let size = job.work.bytes();
        self.items += 1;
        self.bytes += size;
        if let Some(call) = self.calls.iter_mut().find(|call| call.takes(&job)) {
            if let What::Script { bytes, .. } = &mut call.what {
                *bytes += size;
            }
            call.jobs.push(job);
            return;
        }
        let what = match &job.work {
            Work::Item { script, partition, .. } => {
                What::Script { script, partition: *partition, alone: job.alone, bytes: size }
            }
            Work::Command { .. } => What::Command,
        };
        self.calls.push(Call { what, jobs: vec![job] });
    }

    /// Puts the loads that its scripts need in front, and notes in each job which loads it is
    /// behind.
    pub fn prepare(&mut self, scripts: &mut Scripts) {
        let mut loads = Vec::new();
        for call in &mut self.calls {
            let What::Script { script, .. } = call.what else { continue };
            let Ok(known) = scripts.know(script) else { continue };
            if std::mem::take(&mut known.load_wanted) {
                known.loads += 1;
                loads.push(Call { what: What::Load(script), jobs: Vec::new() });
            }
            for job in &mut call.jobs {
                job.loads_seen = known.loads;
            }
        }
        if !loads.is_empty() {
            loads.append(&mut self.calls);
            self.calls = loads;
        }
    }

    /// The commands, in the order of the calls.
    pub fn pipeline(&self, scripts: &mut Scripts, roots: &[Box<str>]) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(self.calls.len());
        for call in &self.calls {
            pipeline.add_command(match &call.what {
                What::Script { script, partition, bytes, .. } => {
                    let bundle = &known(scripts, script).bundle;
                    evalsha(&bundle.sha, &roots[usize::from(partition.number())], call, *bytes)
                }
                What::Command => command(&call.jobs[0]),
                What::Load(script) => {
                    let mut load = redis::cmd("SCRIPT");
                    load.arg("LOAD").arg(&known(scripts, script).bundle.text);
                    load
                }
            });
        }
        pipeline
    }
}

fn known<'a>(scripts: &'a mut Scripts, script: &'static Called) -> &'a Known {
    scripts.know(script).expect("a job whose script cannot be bundled never joins a batch")
}

fn evalsha(sha: &str, root: &str, call: &Call, bytes: usize) -> Cmd {
    let arguments = call.jobs.iter().map(|job| match &job.work {
        Work::Item { args, .. } => args.count(),
        Work::Command { .. } => 0,
    });
    let count = 4 + arguments.sum::<usize>();
    let mut cmd = Cmd::with_capacity(count, 64 + root.len() + bytes);
    cmd.arg("EVALSHA").arg(sha).arg("1").arg(root);
    for (index, job) in call.jobs.iter().enumerate() {
        let Work::Item { args, .. } = &job.work else { continue };
        if index == 0 {
            for arg in args.once() {
                cmd.arg(arg);
            }
        }
        for arg in args.each() {
            cmd.arg(arg);
        }
    }
    cmd
}

fn command(job: &Job) -> Cmd {
    let mut cmd = Cmd::with_capacity(5, job.work.bytes());
    if let Work::Command { args, .. } = &job.work {
        for arg in args {
            cmd.arg(&arg[..]);
        }
    }
    cmd
}
