//! Files and directories for the agent's user alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// Makes a directory unless it is there, and closes it to others if it is not closed.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(path)?;
    if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(DIR_MODE))?;
    }
    Ok(())
}

/// Opens a file for reading and writing, made if it is not there.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
    options.custom_flags(no_follow()).open(path)
}

/// Makes a file that must not be there.
pub(crate) fn new_private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(FILE_MODE);
    options.custom_flags(no_follow()).open(path)
}

/// Lets the names in a directory reach the disk.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Whether a disk, a quota or a limit on file sizes is used up.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

/// What the operating system says where a file system takes nothing any more, as one does after a
/// fault: to whoever asks for a nameless file, since the flags of the mount need not tell.
pub(crate) fn read_only(dir: &Path) -> Option<io::Error> {
    let nameless = i32::try_from(rustix::fs::OFlags::TMPFILE.bits()).unwrap_or(0);
    let opened = OpenOptions::new().write(true).mode(FILE_MODE).custom_flags(nameless).open(dir);
    opened.err().filter(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem)
}

fn no_follow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0)
}
