//! The two questions that only raw system calls answer.

pub(crate) mod interfaces;
pub(crate) mod tcp_info;
