//! The network interfaces of this host, with their addresses.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Interfaces looked at: hosts with containers have hundreds, and more than this nobody serves.
const MAX_INTERFACES: usize = 256;
/// Addresses of one interface looked at.
const MAX_ADDRESSES: usize = 32;

/// One network interface as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, as `eth0`.
    pub name: String,
    /// Its number, as in the scope of a link-local address.
    pub index: u32,
    /// Whether it is up and running.
    pub up: bool,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// Whether it carries multicast.
    pub multicast: bool,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// The interfaces of this host, by name.
///
/// # Errors
/// The system's, when it cannot list them.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut found: BTreeMap<String, Interface> = BTreeMap::new();
    for (name, flags, address) in list()? {
        if found.len() >= MAX_INTERFACES && !found.contains_key(&name) {
            continue;
        }
        let interface = found.entry(name.clone()).or_insert_with(|| Interface {
            index: number_of(&name),
            up: flags & libc::IFF_UP != 0 && flags & libc::IFF_RUNNING != 0,
            loopback: flags & libc::IFF_LOOPBACK != 0,
            multicast: flags & libc::IFF_MULTICAST != 0,
            addresses: Vec::new(),
            name,
        });
        if let Some(address) = address
            && interface.addresses.len() < MAX_ADDRESSES
        {
            interface.addresses.push(address);
        }
    }
    Ok(found.into_values().collect())
}

fn number_of(name: &str) -> u32 {
    let Ok(socket) =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)
    else {
        return 0;
    };
    // An interface that went away meanwhile has no number, and none is ever zero.
    rustix::net::netdevice::name_to_index(&socket, name).unwrap_or(0)
}

type Row = (String, libc::c_int, Option<IpAddr>);

#[expect(unsafe_code, reason = "getifaddrs is the only list of interfaces with addresses")]
fn list() -> io::Result<Vec<Row>> {
    let mut head = std::ptr::null_mut();
    // SAFETY: `head` is a valid place for the pointer that the call stores.
    if unsafe { libc::getifaddrs(&raw mut head) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut rows = Vec::new();
    let mut next = head;
    while !next.is_null() {
        // SAFETY: `next` points to an entry of the list, which stays until `freeifaddrs`.
        let entry = unsafe { &*next };
        // SAFETY: the name of an entry is a C string that lives as long as the list.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) };
        // SAFETY: the address of an entry is null or a socket address of its family, which lives as
        // long as the list.
        let address = unsafe { address_of(entry.ifa_addr) };
        // The flags' upper bits are none that we ask for.
        let flags = libc::c_int::try_from(entry.ifa_flags & 0xFFFF).unwrap_or(0);
        rows.push((name.to_string_lossy().into_owned(), flags, address));
        next = entry.ifa_next;
    }
    // SAFETY: `head` came from `getifaddrs` and nothing refers to the list any more.
    unsafe { libc::freeifaddrs(head) };
    Ok(rows)
}

/// The IP address at `raw`, if it is one.
///
/// # Safety
/// `raw` is null, or points to a socket address that is valid for its family.
#[expect(unsafe_code, reason = "socket addresses of the system are told apart by a field")]
unsafe fn address_of(raw: *const libc::sockaddr) -> Option<IpAddr> {
    if raw.is_null() {
        return None;
    }
    // SAFETY: not null, and every socket address begins with its family.
    match libc::c_int::from(unsafe { (*raw).sa_family }) {
        libc::AF_INET => {
            // SAFETY: of this family, so it is a `sockaddr_in`; read without regard to alignment.
            let address = unsafe { raw.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: of this family, so it is a `sockaddr_in6`; read without regard to alignment.
            let address = unsafe { raw.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_a_loopback_with_its_address() {
        let all = interfaces().unwrap();
        let loopback = all.iter().find(|interface| interface.loopback).unwrap();
        assert!(loopback.index > 0);
        assert!(loopback.addresses.contains(&Ipv4Addr::LOCALHOST.into()));
    }
}
