//! Socket addresses: copied once, made sense of, and used as the copy.
//!
//! The bytes come from the guest and mean what the kernel would take them to mean: an IPv4 address may be dressed up as
//! IPv6, an abstract name may contain NULs, a path may lack its NUL, and the length may lie.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    NetlinkAddr, SockaddrIn, SockaddrIn6, SockaddrLike, UnixAddr, bind as kernels_bind, connect as kernels_connect,
};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::args::{SockLen, UserPtr};
use crate::guest::Guest;

/// The longest address there is, `sizeof(struct sockaddr_storage)`.
const LONGEST: u32 = 128;
/// The longest Unix address, `sizeof(struct sockaddr_un)`.
const LONGEST_UNIX: usize = 110;

#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawV4 {
    family: u16,
    port: [u8; 2],
    address: [u8; 4],
}

/// As far as the kernel insists on it; the scope came later.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawV6 {
    family: u16,
    port: [u8; 2],
    flow: u32,
    address: [u8; 16],
}

#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawNetlink {
    family: u16,
    padding: u16,
    port: u32,
    groups: u32,
}

/// Where `sockaddr_in` ends: after eight bytes of padding.
const LENGTH_V4: usize = 16;
const LENGTH_V6_WITH_SCOPE: usize = 28;

/// An address, as the kernel understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// TCP or UDP; an IPv4 address in IPv6 dress stays dressed, as the socket wants it.
    Internet(SocketAddr),
    /// A socket file: its path, without the NUL.
    Path(Vec<u8>),
    /// A name in the abstract namespace, without the leading NUL; NULs in it count.
    Abstract(Vec<u8>),
    /// No name: `bind` chooses one.
    Unnamed,
    /// Netlink.
    Netlink(u32, u32),
    /// `AF_UNSPEC`: ends an association of a datagram socket.
    Unspecified(SocketAddrV4),
}

impl Address {
    /// Copies the guest's address.
    pub(super) fn copy(guest: &dyn Guest, at: UserPtr, length: SockLen) -> Result<Self, Errno> {
        if length.0 > LONGEST {
            return Err(Errno::EINVAL);
        }
        let mut bytes = vec![0; usize::try_from(length.0).map_err(|_| Errno::EINVAL)?];
        if !bytes.is_empty() {
            guest.read(at, &mut bytes)?;
        }
        Self::parse(&bytes)
    }

    /// Makes sense of the bytes of an address.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Errno> {
        let (family, rest) = bytes.split_first_chunk().ok_or(Errno::EINVAL)?;
        match i32::from(u16::from_ne_bytes(*family)) {
            libc::AF_UNIX => Self::unix(rest),
            libc::AF_INET => Ok(Self::Internet(v4(bytes)?.into())),
            libc::AF_INET6 => Ok(Self::Internet(v6(bytes)?.into())),
            libc::AF_NETLINK => {
                let (raw, _) = RawNetlink::read_from_prefix(bytes).map_err(|_| Errno::EINVAL)?;
                Ok(Self::Netlink(raw.port, raw.groups))
            }
            // `bind` takes this family for IPv4 if all else is zero; `connect` looks at the family only.
            libc::AF_UNSPEC => Ok(Self::Unspecified(v4(bytes).unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)))),
            _ => Err(Errno::EAFNOSUPPORT),
        }
    }

    fn unix(name: &[u8]) -> Result<Self, Errno> {
        if name.len() + size_of::<u16>() > LONGEST_UNIX {
            return Err(Errno::EINVAL);
        }
        Ok(match name {
            [] => Self::Unnamed,
            [0, name @ ..] => Self::Abstract(name.to_vec()),
            path => Self::Path(path.iter().copied().take_while(|byte| *byte != 0).collect()),
        })
    }

    /// Where on the Internet it leads: in its plain form, and only if that is not this machine.
    pub(super) fn elsewhere(&self) -> Option<SocketAddr> {
        let Self::Internet(address) = self else { return None };
        let plain = SocketAddr::new(address.ip().to_canonical(), address.port());
        // To the kernel "any address" as a destination means loopback.
        (!plain.ip().is_loopback() && !plain.ip().is_unspecified()).then_some(plain)
    }

    /// True for a name server on this machine, where none is: how programs look up names in an empty network.
    pub(super) fn is_name_server(&self) -> bool {
        matches!(self, Self::Internet(address) if address.port() == 53) && self.elsewhere().is_none()
    }

    /// Connects `socket` to this address. Not for socket files: they are judged as objects.
    pub(super) fn connect(&self, socket: &OwnedFd) -> Result<(), Errno> {
        self.with(|address| kernels_connect(socket.as_raw_fd(), address))
    }

    /// Binds `socket` to this address. Not for socket files: they are names that come into being.
    pub(super) fn bind(&self, socket: &OwnedFd) -> Result<(), Errno> {
        self.with(|address| kernels_bind(socket.as_raw_fd(), address))
    }

    fn with(&self, act: impl FnOnce(&dyn SockaddrLike) -> Result<(), Errno>) -> Result<(), Errno> {
        match self {
            Self::Internet(SocketAddr::V4(address)) => act(&SockaddrIn::from(*address)),
            Self::Internet(SocketAddr::V6(address)) => act(&SockaddrIn6::from(*address)),
            Self::Path(path) => act(&UnixAddr::new(path.as_slice())?),
            Self::Abstract(name) => act(&UnixAddr::new_abstract(name).map_err(|_| Errno::EINVAL)?),
            Self::Unnamed => act(&UnixAddr::new_unnamed()),
            Self::Netlink(port, groups) => act(&NetlinkAddr::new(*port, *groups)),
            Self::Unspecified(address) => {
                let mut raw = libc::sockaddr_in::from(SockaddrIn::from(*address));
                raw.sin_family = 0; // AF_UNSPEC
                act(&SockaddrIn::from(raw))
            }
        }
    }
}

fn v4(bytes: &[u8]) -> Result<SocketAddrV4, Errno> {
    if bytes.len() < LENGTH_V4 {
        return Err(Errno::EINVAL);
    }
    let (raw, _) = RawV4::read_from_prefix(bytes).map_err(|_| Errno::EINVAL)?;
    Ok(SocketAddrV4::new(Ipv4Addr::from(raw.address), u16::from_be_bytes(raw.port)))
}

fn v6(bytes: &[u8]) -> Result<SocketAddrV6, Errno> {
    let (raw, rest) = RawV6::read_from_prefix(bytes).map_err(|_| Errno::EINVAL)?;
    let scope = match rest.first_chunk() {
        Some(scope) if bytes.len() >= LENGTH_V6_WITH_SCOPE => u32::from_ne_bytes(*scope),
        _ => 0,
    };
    Ok(SocketAddrV6::new(Ipv6Addr::from(raw.address), u16::from_be_bytes(raw.port), raw.flow, scope))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
mod tests {
    use super::*;

    fn v4_bytes(ip: [u8; 4], port: u16) -> Vec<u8> {
        let mut bytes = (libc::AF_INET as u16).to_ne_bytes().to_vec();
        bytes.extend(port.to_be_bytes());
        bytes.extend(ip);
        bytes.extend([0; 8]);
        bytes
    }

    fn v6_bytes(ip: &str, port: u16) -> Vec<u8> {
        let mut bytes = (libc::AF_INET6 as u16).to_ne_bytes().to_vec();
        bytes.extend(port.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(ip.parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend(7_u32.to_ne_bytes());
        bytes
    }

    fn unix_bytes(name: &[u8]) -> Vec<u8> {
        [&(libc::AF_UNIX as u16).to_ne_bytes(), name].concat()
    }

    fn elsewhere(bytes: &[u8]) -> Option<String> {
        Address::parse(bytes).unwrap().elsewhere().map(|address| address.to_string())
    }

    #[test]
    fn addresses_are_shown_in_their_plain_form() {
        assert_eq!(elsewhere(&v4_bytes([93, 184, 216, 34], 443)).as_deref(), Some("93.184.216.34:443"));
        assert_eq!(elsewhere(&v6_bytes("::ffff:93.184.216.34", 443)).as_deref(), Some("93.184.216.34:443"));
        assert_eq!(elsewhere(&v6_bytes("2001:db8::1", 80)).as_deref(), Some("[2001:db8::1]:80"));
    }

    #[test]
    fn this_machine_has_many_names() {
        for bytes in [
            v4_bytes([127, 9, 9, 9], 1),
            v4_bytes([0, 0, 0, 0], 1),
            v6_bytes("::1", 1),
            v6_bytes("::", 1),
            v6_bytes("::ffff:127.0.0.1", 1),
            v6_bytes("::ffff:0.0.0.0", 1),
        ] {
            assert_eq!(elsewhere(&bytes), None);
        }
        assert!(Address::parse(&v6_bytes("::ffff:127.0.0.53", 53)).unwrap().is_name_server());
        assert!(!Address::parse(&v4_bytes([8, 8, 8, 8], 53)).unwrap().is_name_server());
    }

    #[test]
    fn short_addresses_are_refused_as_the_kernel_does() {
        let (v4, v6) = (v4_bytes([1, 2, 3, 4], 5), v6_bytes("2001:db8::1", 5));
        for bytes in [&[][..], &[1], &v4[..15], &v6[..23]] {
            assert_eq!(Address::parse(bytes), Err(Errno::EINVAL), "{bytes:?}");
        }
        // 24 bytes were the whole address before there were scopes.
        let Ok(Address::Internet(SocketAddr::V6(old))) = Address::parse(&v6[..24]) else { panic!("not IPv6") };
        let Ok(Address::Internet(SocketAddr::V6(new))) = Address::parse(&v6) else { panic!("not IPv6") };
        assert_eq!((old.scope_id(), new.scope_id()), (0, 7));
        assert_eq!(Address::parse(&[0xff, 0xff, 0, 0]), Err(Errno::EAFNOSUPPORT));
    }

    #[test]
    fn unix_names_end_where_the_kernel_says() {
        assert_eq!(Address::parse(&unix_bytes(b"")), Ok(Address::Unnamed));
        assert_eq!(Address::parse(&unix_bytes(b"/run/s\0junk")), Ok(Address::Path(b"/run/s".to_vec())));
        assert_eq!(Address::parse(&unix_bytes(&[b'a'; 108])), Ok(Address::Path(vec![b'a'; 108])), "no NUL at all");
        assert_eq!(Address::parse(&unix_bytes(&[b'a'; 109])), Err(Errno::EINVAL));
        assert_eq!(Address::parse(&unix_bytes(b"\0a\0b\0")), Ok(Address::Abstract(b"a\0b\0".to_vec())));
        assert_eq!(Address::parse(&unix_bytes(b"\0")), Ok(Address::Abstract(Vec::new())));
    }
}
