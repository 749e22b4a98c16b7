//! The second listener: profiles of CPU, heap and waits.
