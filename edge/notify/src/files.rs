//! Secrets and roots, from files.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::error::NotifyError;

/// Longest file with a password or a secret.
const MAX_SECRET_BYTES: u64 = 4096;
/// Longest file of certificate authorities: Debian's has 220 KiB.
const MAX_ROOTS_BYTES: u64 = 4 << 20;
/// Where systems keep those that they trust: Debian, Red Hat, SUSE, Alpine.
const ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What a file that only its owner may read holds, without the line end.
///
/// # Errors
/// When it cannot be read, is no plain file, is another's, or others may read it.
pub(crate) fn secret(path: &Path) -> Result<String, NotifyError> {
    let failed = |source| NotifyError::File { path: path.to_owned(), source };
    let content = |what| NotifyError::Content { path: path.to_owned(), what };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(content("is no plain file"));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(NotifyError::Open { path: path.to_owned(), mode });
    }
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own && metadata.uid() != 0 {
        return Err(content("belongs neither to root nor to the agent's user"));
    }
    let text = String::from_utf8(read(file, MAX_SECRET_BYTES).map_err(failed)?);
    let text = text.map_err(|_| content("is no text"))?;
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    if secret.is_empty() {
        return Err(content("is empty"));
    }
    if secret.contains(['\n', '\r', '\0']) {
        return Err(content("has more than one line"));
    }
    Ok(secret.to_owned())
}

/// The authorities in a file, or those that this system trusts.
///
/// # Errors
/// When there is no file, or nothing in it that can be read.
pub(crate) fn roots(path: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, NotifyError> {
    let usual = || ROOTS.iter().map(Path::new).find(|path| path.exists());
    let path = path.or_else(usual).ok_or(NotifyError::NoRoots)?;
    let failed = |source| NotifyError::File { path: path.to_owned(), source };
    let bytes = File::open(path).and_then(|file| read(file, MAX_ROOTS_BYTES)).map_err(failed)?;
    // A system's file may hold one that this library cannot read: the others count all the same.
    let usable = CertificateDer::pem_slice_iter(&bytes)
        .filter_map(Result::ok)
        .filter(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    let usable: Vec<CertificateDer<'static>> = usable.collect();
    if usable.is_empty() {
        let what = "holds no certificate of an authority";
        return Err(NotifyError::Content { path: path.to_owned(), what });
    }
    Ok(usable)
}

fn read(file: File, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("over {max} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::path::PathBuf;

    use super::*;

    fn file(dir: &tempfile::TempDir, text: &[u8], mode: u32) -> PathBuf {
        let path = dir.path().join("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_secret_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(secret(&file(&dir, b"hush hush\n", 0o600)).unwrap(), "hush hush");
        assert_eq!(secret(&file(&dir, b"hush", 0o400)).unwrap(), "hush");
        for mode in [0o640, 0o604, 0o660] {
            let error = secret(&file(&dir, b"hush", mode)).unwrap_err();
            assert!(matches!(error, NotifyError::Open { .. }), "{mode:o}: {error}");
            assert!(!error.in_full().contains("hush"));
        }
    }

    #[test]
    fn what_is_no_secret_is_said_to_be_none() {
        let dir = tempfile::tempdir().unwrap();
        for text in [&b""[..], b"\n", b"two\nlines\n", b"\xff", &[b'x'; 5000]] {
            secret(&file(&dir, text, 0o600)).unwrap_err();
        }
        let error = secret(dir.path()).unwrap_err();
        assert!(error.in_full().contains("no plain file"), "{}", error.in_full());
        secret(&dir.path().join("nowhere")).unwrap_err();
    }

    #[test]
    fn a_file_without_a_certificate_is_no_file_of_roots() {
        let dir = tempfile::tempdir().unwrap();
        let error = roots(Some(&file(&dir, b"nothing\n", 0o644))).unwrap_err();
        assert!(error.in_full().contains("no certificate"), "{}", error.in_full());
    }
}
