//! Disks that fill up, turn read-only, slow down or hang.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use skep_base::ByteSize;

use crate::process::Process;
use crate::tools;

/// The file that takes the room on a disk that was filled.
const BALLAST: &str = ".ballast";
/// How much of it is written at a time.
const BALLAST_STEP: usize = 64 * 1024;
/// Where the version-1 controller for block devices is mounted.
const BLKIO: &str = "/sys/fs/cgroup/blkio";

/// A disk in memory, of a size that can be changed while it is used. It is unmounted with its lab.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    pub(crate) fn mount(path: PathBuf, size: ByteSize) -> Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let options = format!("size={},mode=0755", size.0);
        let place = text(&path)?;
        tools::run("mount", &["-t", "tmpfs", "-o", &options, "disk", place])?;
        Ok(Self { path })
    }

    /// Where it is mounted, for the host and for the test.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it larger or smaller while it is used.
    ///
    /// # Errors
    /// When more is in use than would fit.
    pub fn resize(&self, size: ByteSize) -> Result<()> {
        let options = format!("remount,size={}", size.0);
        tools::run("mount", &["-o", &options, text(&self.path)?]).map(drop)
    }

    /// Makes every write fail, or lets them succeed again.
    ///
    /// # Errors
    /// When a file is open for writing.
    pub fn set_read_only(&self, read_only: bool) -> Result<()> {
        let options = if read_only { "remount,ro" } else { "remount,rw" };
        tools::run("mount", &["-o", options, text(&self.path)?]).map(drop)
    }

    /// Fills it to the last page, and returns how much that took.
    ///
    /// # Errors
    /// When a write fails for another reason.
    pub fn fill(&self) -> Result<ByteSize> {
        fill(&self.path)
    }

    /// Takes back what [`Disk::fill`] took.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.path.join(BALLAST))?)
    }
}

/// A disk with a block device of its own, of which the kernel can slow down or stop the writes.
#[derive(Debug)]
pub struct BlockDisk {
    path: PathBuf,
    /// Major and minor number, as the controller wants them.
    device: String,
    group: PathBuf,
}

impl BlockDisk {
    pub(crate) fn mount(path: PathBuf, size: ByteSize) -> Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let image = path.with_extension("image");
        File::create(&image)?.set_len(size.0)?;
        // As distributions set theirs up: after a fault nothing is written any more.
        tools::run("mkfs.ext4", &["-q", "-F", "-e", "remount-ro", text(&image)?])?;
        let mut disk = Self { path, device: String::new(), group: PathBuf::new() };
        disk.put_in()?;
        Ok(disk)
    }

    fn put_in(&mut self) -> Result<()> {
        let image = self.path.with_extension("image");
        tools::run("mount", &["-o", "loop", text(&image)?, text(&self.path)?])?;
        let device = rustix::fs::stat(&self.path)?.st_dev;
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        self.group = Path::new(BLKIO).join(format!("skep-lab.{}.{minor}", std::process::id()));
        self.device = format!("{major}:{minor}");
        Ok(())
    }

    /// Whether this kernel can let it have a fault.
    ///
    /// # Errors
    /// Why not, in one line.
    pub fn can_fail(&self) -> Result<(), String> {
        let switch = self.fault_switch().map_err(|error| format!("{error:#}"))?;
        let opened = File::options().write(true).open(&switch);
        opened.map(drop).map_err(|error| format!("cannot open {}: {error}", switch.display()))
    }

    /// It has a fault, as the kernel sees it: the file system turns read-only under all that have
    /// files open on it, which no mount command does.
    ///
    /// # Errors
    /// When the kernel has no switch for that.
    pub fn fail(&self) -> Result<()> {
        let switch = self.fault_switch()?;
        fs::write(&switch, "a fault of the lab's")
            .with_context(|| format!("cannot write to {}", switch.display()))
    }

    fn fault_switch(&self) -> Result<PathBuf> {
        let device = self.device()?;
        let name = device.file_name().context("a device without a name")?;
        Ok(Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error"))
    }

    /// Takes it out, has it checked and puts it in again. Machines must have unmounted it, and
    /// mount it anew.
    ///
    /// # Errors
    /// When it is still in use, or cannot be mended.
    pub fn repair(&mut self) -> Result<()> {
        tools::run("umount", &[text(&self.path)?])?;
        let image = self.path.with_extension("image");
        // 1 means that there was something to mend.
        let check = format!("fsck.ext4 -y {} || [ $? -eq 1 ]", text(&image)?);
        tools::run("sh", &["-c", &check])?;
        self.put_in()
    }

    /// Whether this kernel can slow block devices down.
    ///
    /// # Errors
    /// Why not, in one line.
    pub fn can_throttle() -> Result<(), String> {
        if Path::new(BLKIO).join("blkio.throttle.write_bps_device").exists() {
            Ok(())
        } else {
            Err(format!("no blkio controller is mounted at {BLKIO}"))
        }
    }

    /// Where it is mounted, for the host and for the test.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The device itself, such as `/dev/loop3`: a machine may mount it at a place of its own.
    ///
    /// # Errors
    /// When the kernel does not name it.
    pub fn device(&self) -> Result<PathBuf> {
        let place = Path::new("/sys/dev/block").join(&self.device);
        let target = fs::read_link(&place).with_context(|| format!("no {}", place.display()))?;
        let name = target.file_name().context("a device without a name")?;
        Ok(Path::new("/dev").join(name))
    }

    /// Lets `process` write at most so many bytes a second to this disk. What stays in the page
    /// cache is not slowed; what is synced is.
    ///
    /// # Errors
    /// When the controller refuses.
    pub fn throttle(&self, process: &Process, rate: ByteSize) -> Result<()> {
        Self::can_throttle().map_err(|why| anyhow!(why))?;
        fs::create_dir_all(&self.group)?;
        let limit = format!("{} {}", self.device, rate.0);
        fs::write(self.group.join("blkio.throttle.write_bps_device"), limit)?;
        fs::write(self.group.join("cgroup.procs"), process.pid().to_string())
            .with_context(|| format!("cannot slow {} down", process.name()))
    }

    /// Hangs it: whoever writes waits until it is thawed.
    ///
    /// # Errors
    /// When the tool refuses.
    pub fn freeze(&self) -> Result<()> {
        tools::run("fsfreeze", &["-f", text(&self.path)?]).map(drop)
    }

    /// Lets writes go on.
    ///
    /// # Errors
    /// When it was not frozen.
    pub fn thaw(&self) -> Result<()> {
        tools::run("fsfreeze", &["-u", text(&self.path)?]).map(drop)
    }
}

impl Drop for BlockDisk {
    fn drop(&mut self) {
        // Thaw it first: what hangs on it could not be killed. Each step may have nothing to do.
        drop(self.thaw());
        if let Ok(pids) = fs::read_to_string(self.group.join("cgroup.procs")) {
            for pid in pids.lines() {
                drop(fs::write(Path::new(BLKIO).join("cgroup.procs"), pid));
            }
            drop(fs::remove_dir(&self.group));
        }
    }
}

fn fill(path: &Path) -> Result<ByteSize> {
    let mut file = OpenOptions::new().create(true).append(true).open(path.join(BALLAST))?;
    let zeros = vec![0; BALLAST_STEP];
    let mut step = zeros.as_slice();
    let mut taken = 0;
    loop {
        match file.write(step) {
            Ok(written) => taken += u64::try_from(written)?,
            Err(error) if error.kind() == ErrorKind::StorageFull => {
                if step.len() == 1 {
                    return Ok(ByteSize(taken));
                }
                // Down to the last byte: half pages count.
                step = &step[..step.len() / 2];
            }
            Err(error) => return Err(error).context("cannot fill the disk"),
        }
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
