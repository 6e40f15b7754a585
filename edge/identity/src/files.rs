//! Files that must not be half written or read by others.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::key::SigningKey;

/// Longest key or certificate file that is read: four CA certificates of the longest kind in PEM.
pub(crate) const MAX_FILE_BYTES: u64 = 32 * 1024;

const SECRET_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;

/// Why a file of an identity or a CA could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Missing, or not ours to read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The directory is full, missing or not ours to write.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A key that others on this machine can read is no key.
    #[error(
        "others may read {} (mode {mode:04o}); run `chmod 600 {}`, and if somebody had access, \
         throw the key away and join again", path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Who owns a file can change it under our feet.
    #[error(
        "{} belongs to user {owner}, but this process runs as user {us}; \
         run as that user, or `chown` the file", path.display()
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// The owner's number.
        owner: u32,
        /// Our effective number.
        us: u32,
    },
    /// Whoever can replace a CA certificate can make us believe anybody.
    #[error(
        "others may write {} (mode {mode:04o}); run `chmod go-w {}`",
        path.display(), path.display()
    )]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A directory, a fifo, a symbolic link in a key's place.
    #[error("{} is not a regular file", path.display())]
    Kind {
        /// The path.
        path: PathBuf,
    },
    /// Over what a key or certificate file may take.
    #[error(
        "{} is longer than {MAX_FILE_BYTES} bytes: not a key or certificate file",
        path.display()
    )]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Not the PEM that belongs there.
    #[error("{} holds no {expected} in PEM form", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What was expected.
        expected: &'static str,
    },
}

impl FileError {
    /// Whether the file is simply not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Makes `dir` for our eyes alone, with its parents, where it is missing.
pub(crate) fn create_private_dir(dir: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| write_error(dir, source))
}

/// Writes a key: 0600 from its first byte, and either whole or not there.
pub(crate) fn write_key(path: &Path, key: &SigningKey) -> Result<(), FileError> {
    let pem = to_pem("PRIVATE KEY", key.pkcs8().secret_pkcs8_der());
    write_atomically(path, pem.as_bytes(), SECRET_MODE)
}

/// Writes a secret that is no key: 0600 from its first byte, and either whole or not there.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_atomically(path, bytes, SECRET_MODE)
}

/// Reads a secret, or refuses one that others may read or own.
pub(crate) fn read_secret(path: &Path) -> Result<Vec<u8>, FileError> {
    read(path, judge_secret)
}

/// Writes certificates, readable by everybody.
pub(crate) fn write_certificates(
    path: &Path,
    certificates: &[CertificateDer<'_>],
) -> Result<(), FileError> {
    let pem: String = certificates.iter().map(|der| to_pem("CERTIFICATE", der)).collect();
    write_atomically(path, pem.as_bytes(), PUBLIC_MODE)
}

/// Reads a key, or refuses one that others may read or own.
pub(crate) fn read_key(path: &Path) -> Result<SigningKey, FileError> {
    let pem = read(path, judge_secret)?;
    PrivatePkcs8KeyDer::from_pem_slice(&pem)
        .ok()
        .and_then(|der| SigningKey::from_pkcs8(der.secret_pkcs8_der()).ok())
        .ok_or_else(|| not_pem(path, "Ed25519 private key"))
}

/// Reads one or more certificates that nobody else may write.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let pem = read(path, judge_public)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| not_pem(path, "certificate"))?;
    if certificates.is_empty() {
        return Err(not_pem(path, "certificate"));
    }
    Ok(certificates)
}

/// Writes `bytes` beside `path` and renames: after a crash at any moment the old file is there or
/// the new one, and after return the new one survives a loss of power.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let beside = with_suffix(path, ".tmp");
    let written = (|| {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()
    })();
    written.map_err(|source| write_error(&beside, source))?;
    rename(&beside, path)
}

/// Renames, and makes that durable.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).and_then(|()| sync_parent(to)).map_err(|source| write_error(to, source))
}

/// Removes a file that has served, durably.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => {
            removed.and_then(|()| sync_parent(path)).map_err(|source| write_error(path, source))
        }
    }
}

/// Makes what happened to the names in the file's directory durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// `name` becomes `name.suffix`.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = OsString::from(path);
    text.push(suffix);
    PathBuf::from(text)
}

/// Who may do what with a file, and who we are.
#[derive(Clone, Copy, Debug)]
struct Access {
    mode: u32,
    owner: u32,
    us: u32,
}

fn read(
    path: &Path,
    judge: fn(&Path, Access) -> Result<(), FileError>,
) -> Result<Vec<u8>, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    // A fifo in the file's place must not make us wait for a writer.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    if !facts.is_file() {
        return Err(FileError::Kind { path: path.to_owned() });
    }
    let access = Access {
        mode: facts.mode() & 0o7777,
        owner: facts.uid(),
        us: rustix::process::geteuid().as_raw(),
    };
    judge(path, access)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(FileError::TooLong { path: path.to_owned() });
    }
    Ok(bytes)
}

fn judge_secret(path: &Path, access: Access) -> Result<(), FileError> {
    let path = path.to_owned();
    let Access { mode, owner, us } = access;
    if owner != us {
        return Err(FileError::Owner { path, owner, us });
    }
    if mode & 0o077 != 0 {
        return Err(FileError::Exposed { path, mode });
    }
    Ok(())
}

fn judge_public(path: &Path, access: Access) -> Result<(), FileError> {
    let path = path.to_owned();
    let Access { mode, owner, us } = access;
    // Root may own what it installed for us.
    if owner != us && owner != 0 {
        return Err(FileError::Owner { path, owner, us });
    }
    if mode & 0o022 != 0 {
        return Err(FileError::Writable { path, mode });
    }
    Ok(())
}

fn to_pem(label: &str, der: &[u8]) -> String {
    let base64 = data_encoding::BASE64.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

fn write_error(path: &Path, source: io::Error) -> FileError {
    FileError::Write { path: path.to_owned(), source }
}

fn not_pem(path: &Path, expected: &'static str) -> FileError {
    FileError::NotPem { path: path.to_owned(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn key_file() -> (tempfile::TempDir, PathBuf, SigningKey) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        let key = SigningKey::generate().unwrap();
        write_key(&path, &key).unwrap();
        (dir, path, key)
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_is_written_for_its_owner_alone_and_read_back() {
        let (dir, path, key) = key_file();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(read_key(&path).unwrap().public(), key.public());
        let files = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files, 1, "nothing temporary is left");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_cure() {
        let (_dir, path, _) = key_file();
        for mode in [0o640, 0o604, 0o660, 0o610] {
            chmod(&path, mode);
            let error = read_key(&path).unwrap_err();
            assert!(matches!(error, FileError::Exposed { .. }), "{mode:o}");
            assert!(error.to_string().contains("chmod 600"));
        }
        chmod(&path, 0o400);
        assert!(read_key(&path).is_ok());
    }

    #[test]
    fn owners_are_judged() {
        let access = |owner, us, mode| Access { mode, owner, us };
        let path = Path::new("f");
        assert!(judge_secret(path, access(7, 7, 0o600)).is_ok());
        for owner in [0, 8] {
            let refused = judge_secret(path, access(owner, 7, 0o600));
            assert!(matches!(refused, Err(FileError::Owner { us: 7, .. })));
        }
        assert!(judge_public(path, access(0, 7, 0o644)).is_ok());
        assert!(matches!(
            judge_public(path, access(8, 7, 0o644)),
            Err(FileError::Owner { owner: 8, .. })
        ));
        assert!(matches!(judge_public(path, access(7, 7, 0o664)), Err(FileError::Writable { .. })));
    }

    #[test]
    fn what_is_no_key_file_is_refused_and_never_waited_for() {
        let (dir, path, _) = key_file();
        fs::write(&path, "-----BEGIN PRIVATE KEY-----\nAAAA\n").unwrap();
        assert!(matches!(read_key(&path), Err(FileError::NotPem { .. })));
        fs::write(&path, vec![b'x'; 40_000]).unwrap();
        assert!(matches!(read_key(&path), Err(FileError::TooLong { .. })));
        fs::remove_file(&path).unwrap();
        assert!(read_key(&path).unwrap_err().is_missing());
        assert!(matches!(read_key(dir.path()), Err(FileError::Kind { .. })));
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        assert!(matches!(read_key(&fifo), Err(FileError::Kind { .. })));
    }

    #[test]
    fn a_left_over_of_a_crash_does_not_stand_in_the_way() {
        let (_dir, path, _) = key_file();
        fs::write(with_suffix(&path, ".tmp"), "half").unwrap();
        let next = SigningKey::generate().unwrap();
        write_key(&path, &next).unwrap();
        assert_eq!(read_key(&path).unwrap().public(), next.public());
    }
}
