//! Bounds on what a manifest or seal may claim, each checked before memory is taken.

/// Longest manifest: a few million entries. A seal that lists its chunks still fits one bulk frame.
pub const MAX_MANIFEST_BYTES: usize = 256 << 20;
/// Most entries of one manifest. An entry takes about ten times its shortest spelling in memory.
pub const MAX_ENTRIES: usize = 1 << 22;
/// Longest path in bytes: what the kernel takes, without its closing NUL.
pub const MAX_PATH_BYTES: usize = 4095;
/// Longest name of one component in bytes, as every Linux filesystem has it.
pub const MAX_NAME_BYTES: usize = 255;
/// Deepest path in components: every consumer that recurses or keeps one handle a level stays well
/// below its stack and its file limit.
pub const MAX_DEPTH: usize = 256;
/// Longest target of a symbolic link.
pub const MAX_TARGET_BYTES: usize = 4095;
/// Most extended attributes of one entry; the kernel's 64 KiB list of names holds fewer in
/// practice.
pub const MAX_XATTRS: usize = 1024;
/// Longest value of an extended attribute (the kernel's `XATTR_SIZE_MAX`).
pub const MAX_XATTR_BYTES: usize = 64 << 10;
/// Largest file: what a signed 64-bit offset reaches.
pub const MAX_FILE_BYTES: u64 = (1 << 63) - 1;
/// Most bytes an image may unfold to, holes included: sums of sizes stay far from overflow.
pub const MAX_IMAGE_BYTES: u64 = u64::MAX / 2;
/// Most holes of one file; each costs at least one block of data beside it.
pub const MAX_HOLES: usize = 1 << 20;
/// Largest major and minor device numbers of Linux (12 and 20 bits).
pub const MAX_DEVICE: (u32, u32) = ((1 << 12) - 1, (1 << 20) - 1);
/// Longest certificate a seal may carry.
pub const MAX_CERTIFICATE_BYTES: usize = 16 << 10;
/// Longest seal: the certificate and one chunk of at least the smallest size after another.
pub const MAX_SEAL_BYTES: usize = 768 << 10;
