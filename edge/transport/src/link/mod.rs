//! A link that is up: its queue, its task and the list of all of them.

pub(crate) mod queue;
pub(crate) mod registry;
pub(crate) mod task;
