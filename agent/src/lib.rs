//! The agent: where all parts meet. The binary `skep` is a thin layer over this library.

pub mod config;
