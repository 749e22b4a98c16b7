//! The health report and the probes.
