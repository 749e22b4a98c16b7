//! What is counted of the life of tasks, and the gauges over the queues.
