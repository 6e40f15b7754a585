//! What `skep config default` prints: every setting with its default and how to choose it.

/// The whole file. What is unset by default stands in a comment.
pub const TEXT: &str = include_str!("default.toml");
