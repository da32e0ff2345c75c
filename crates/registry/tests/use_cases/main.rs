//! The use cases, between two regions in one process: the real state machine, the real checked reader, stores in memory.

#[cfg(test)]
mod damage;
#[cfg(test)]
mod pull_push;
#[cfg(test)]
mod support;
#[cfg(test)]
mod uploads;
