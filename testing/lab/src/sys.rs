//! The calls that nobody wraps: opening a TAP device and unplugging its cable. All of this crate's
//! `unsafe` is here.

#![expect(unsafe_code, reason = "TUNSETIFF and TUNSETCARRIER are ioctls without a safe wrapper")]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

/// `_IOW('T', 226, int)` of `linux/if_tun.h`; the libc crate does not name it.
const TUNSETCARRIER: libc::Ioctl = 0x4004_54e2_u32 as libc::Ioctl;

/// Opens a TAP device with the given name in the network namespace of the calling thread. The
/// device lives as long as the descriptor, wherever its holder is.
///
/// # Errors
/// What the kernel said: no `/dev/net/tun`, no permission, the name is taken.
pub(crate) fn open_tap(name: &str) -> io::Result<OwnedFd> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")?;
    // SAFETY: `ifreq` is plain old data, for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // IFF_TAP | IFF_NO_PI is 0x1002: far from the sign bit.
    let flags = libc::IFF_TAP | libc::IFF_NO_PI;
    request.ifr_ifru.ifru_flags = i16::try_from(flags).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open and the kernel reads and writes one `ifreq`, which outlives
    // the call.
    let done = unsafe {
        libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, std::ptr::from_mut(&mut request))
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(device.into())
}

/// Plugs the cable of a TAP device in or out.
///
/// # Errors
/// What the kernel said.
pub(crate) fn set_carrier(tap: BorrowedFd<'_>, up: bool) -> io::Result<()> {
    let value = libc::c_int::from(up);
    // SAFETY: the descriptor is open and the kernel reads one int, which outlives the call.
    let done = unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETCARRIER, std::ptr::from_ref(&value)) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
