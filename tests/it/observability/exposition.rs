//! How metrics are shown: formats, labels, exemplars, what a real Prometheus reads.
