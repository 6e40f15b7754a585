//! Sealed versions of images, which are never changed once they are there.

use std::io;

use rustix::fs::RenameFlags;
use rustix::io::Errno;
use skep_base::ImageName;

use super::{BlobError, Blobs, MAX_SEAL_BYTES};

const SUFFIX: &str = ".seal";

impl Blobs {
    /// Notes `seal` as version `version` of `name`. It is on disk when this returns, and so is
    /// every chunk that was put before.
    ///
    /// # Errors
    /// [`BlobError::VersionTaken`] when that version exists with other bytes: of two that build at
    /// once, one takes the next number.
    pub fn put_image(&self, name: &ImageName, version: u64, seal: &[u8]) -> Result<(), BlobError> {
        if seal.len() > MAX_SEAL_BYTES {
            return Err(BlobError::TooLong {
                what: "an image seal",
                bytes: seal.len(),
                limit: MAX_SEAL_BYTES,
            });
        }
        self.sync()?;
        let placed = self
            .place_image(name, version, seal)
            .map_err(self.failed(|| format!("write version {version} of image {name}")))?;
        if placed || self.image(name, version)?.as_deref() == Some(seal) {
            Ok(())
        } else {
            Err(BlobError::VersionTaken { name: name.clone(), version })
        }
    }

    /// The seal of one version, as it was put.
    ///
    /// # Errors
    /// [`BlobError::Io`] when the disk fails. A file that is too long for a seal is none.
    pub fn image(&self, name: &ImageName, version: u64) -> Result<Option<Vec<u8>>, BlobError> {
        match self.images.read(&format!("{name}/{version}{SUFFIX}"), MAX_SEAL_BYTES) {
            Ok(seal) => Ok(seal),
            Err(Errno::NOENT | Errno::LOOP) => Ok(None),
            Err(errno) => {
                Err(self.failed(|| format!("read version {version} of image {name}"))(errno.into()))
            }
        }
    }

    /// Every image and version, by name and ascending version. Files that are not named as a
    /// version is are not listed.
    ///
    /// # Errors
    /// [`BlobError::Io`] when the disk fails.
    pub fn images(&self) -> Result<Vec<(ImageName, u64)>, BlobError> {
        let mut images = Vec::new();
        for folder in self.names(&self.images, "the images")? {
            let Some(name) = ImageName::new(&folder).ok().filter(|name| name.as_str() == folder)
            else {
                continue;
            };
            let versions = self.versions(&name)?;
            images.extend(versions.into_iter().map(|version| (name.clone(), version)));
        }
        Ok(images)
    }

    /// The versions of one image, ascending.
    ///
    /// # Errors
    /// [`BlobError::Io`] when the disk fails.
    pub fn versions(&self, name: &ImageName) -> Result<Vec<u64>, BlobError> {
        let dir = match self.images.open_dir(name.as_str()) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
            Err(errno) => {
                return Err(self.failed(|| format!("list image {name}"))(errno.into()));
            }
        };
        let mut versions: Vec<u64> = self
            .names(&dir, name.as_str())?
            .iter()
            .filter_map(|file| parse_version(file))
            .collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// The highest version of one image.
    ///
    /// # Errors
    /// [`BlobError::Io`] when the disk fails.
    pub fn newest(&self, name: &ImageName) -> Result<Option<u64>, BlobError> {
        Ok(self.versions(name)?.pop())
    }

    /// Forgets one version; whether it was there. Its chunks go with the next collection.
    ///
    /// # Errors
    /// [`BlobError::Io`] when the disk fails.
    pub fn remove_image(&self, name: &ImageName, version: u64) -> Result<bool, BlobError> {
        let failed = self.failed(|| format!("remove version {version} of image {name}"));
        let file = format!("{name}/{version}{SUFFIX}");
        let there = self.images.file_size(&file).map_err(|errno| failed(errno.into()))?;
        self.images.remove_file(&file).map_err(&failed)?;
        // Gone for good before any of its chunks is: a power cut must not bring back a version that
        // can no longer be laid out.
        if let Ok(folder) = self.images.open_dir(name.as_str()) {
            folder.sync().map_err(&failed)?;
        }
        self.images.remove_empty_dir(name.as_str()).map_err(&failed)?;
        Ok(there.is_some())
    }

    /// Whether the seal took its place; not when a file of that name is there.
    fn place_image(&self, name: &ImageName, version: u64, seal: &[u8]) -> io::Result<bool> {
        let folder = self.images.make_dir(name.as_str())?;
        let staged = self.stage(&[seal], true)?;
        let to = format!("{version}{SUFFIX}");
        let renamed = self.tmp.rename(&staged, &folder, &to, RenameFlags::NOREPLACE);
        if renamed.is_err() {
            self.tmp.remove_file(&staged)?;
        }
        match renamed {
            Ok(()) => {
                folder.sync()?;
                self.images.sync()?;
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn parse_version(file: &str) -> Option<u64> {
    let digits = file.strip_suffix(SUFFIX)?;
    // One file a version: no padding, no sign.
    digits.parse().ok().filter(|version: &u64| version.to_string() == digits)
}
