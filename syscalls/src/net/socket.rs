//! `socket(2)`: which families of sockets there are.
//!
//! Each family is a part of the host's kernel that an untrusted program could attack. Those that ordinary programs need
//! are allowed, the rest does not exist: `EAFNOSUPPORT`, after which programs fall back, where `EPERM` would break them.

use nix::errno::Errno;
use nix::libc;

use crate::table::Verdict::{Allow, Fail};
use crate::table::{Check, Op, Test};

crate::syscalls! {
    /// Makes a socket: Unix domain, TCP or UDP over IPv4 or IPv6, or netlink for routes.
    /// Fails with `EAFNOSUPPORT` for every other family and with `EPROTONOSUPPORT` for other protocols of these.
    /// In a container every protocol of IPv4, IPv6 and packets that its capabilities allow, and netlink for routes, sockets, packet filters, events and generic families.
    /// Limit: while sockets in grants are judged, Unix datagram sockets fail with `ESOCKTNOSUPPORT`, as each of their messages may name another receiver.
    socket(domain: Int, kind: Int, protocol: Int) Network Default Filter(SOCKET) {
        NoNetwork => Filter(LOCAL),
        SocketGrants => Filter(SOCKET_NO_DATAGRAMS),
        Container => Filter(CONTAINER),
    };
    /// Makes two connected sockets of the Unix domain.
    /// Limit: while sockets in grants are judged, datagram sockets fail with `ESOCKTNOSUPPORT`: connected ones may still send to any name.
    socketpair(domain: Int, kind: Int, protocol: Int, pair: UserPtr) Network Default Filter(SOCKETPAIR) {
        SocketGrants => Filter(SOCKETPAIR_NO_DATAGRAMS),
    };
}

const fn domain(domain: i32) -> Test {
    Test { arg: 0, op: Op::Equal(domain.cast_unsigned() as u64) }
}

/// The type without SOCK_CLOEXEC and SOCK_NONBLOCK, as the kernel masks it (`SOCK_TYPE_MASK`).
const fn kind(kind: i32) -> Test {
    Test { arg: 1, op: Op::Masked { mask: 0xf, value: kind.cast_unsigned() as u64 } }
}

const fn protocol(protocol: i32) -> Test {
    Test { arg: 2, op: Op::Equal(protocol.cast_unsigned() as u64) }
}

const fn internet(family: i32, transport: i32, number: i32) -> [Test; 3] {
    [domain(family), kind(transport), protocol(number)]
}

/// The kernel makes a datagram socket when asked for a raw one of this family.
const NO_DATAGRAMS: Check =
    Check { all: &[domain(libc::AF_UNIX), kind(libc::SOCK_DGRAM)], then: Fail(Errno::ESOCKTNOSUPPORT) };
const NO_RAW_DATAGRAMS: Check =
    Check { all: &[domain(libc::AF_UNIX), kind(libc::SOCK_RAW)], then: Fail(Errno::ESOCKTNOSUPPORT) };

macro_rules! families {
    ($($first:expr),*) => {
        &[
            $($first,)*
            Check { all: &[domain(libc::AF_UNIX)], then: Allow },
            Check { all: &internet(libc::AF_INET, libc::SOCK_STREAM, 0), then: Allow },
            Check { all: &internet(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP), then: Allow },
            Check { all: &internet(libc::AF_INET, libc::SOCK_DGRAM, 0), then: Allow },
            Check { all: &internet(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDP), then: Allow },
            Check { all: &[domain(libc::AF_INET)], then: Fail(Errno::EPROTONOSUPPORT) },
            Check { all: &internet(libc::AF_INET6, libc::SOCK_STREAM, 0), then: Allow },
            Check { all: &internet(libc::AF_INET6, libc::SOCK_STREAM, libc::IPPROTO_TCP), then: Allow },
            Check { all: &internet(libc::AF_INET6, libc::SOCK_DGRAM, 0), then: Allow },
            Check { all: &internet(libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDP), then: Allow },
            Check { all: &[domain(libc::AF_INET6)], then: Fail(Errno::EPROTONOSUPPORT) },
            Check { all: &[domain(libc::AF_NETLINK), protocol(libc::NETLINK_ROUTE)], then: Allow },
            Check { all: &[domain(libc::AF_NETLINK)], then: Fail(Errno::EPROTONOSUPPORT) },
            Check { all: &[], then: Fail(Errno::EAFNOSUPPORT) },
        ]
    };
}

const SOCKET: &[Check] = families!();
const SOCKET_NO_DATAGRAMS: &[Check] = families!(NO_DATAGRAMS, NO_RAW_DATAGRAMS);

/// A container's capabilities say which raw sockets and settings of its network it may have. Families beside those of
/// networks are as far away as ever, and so is the host's audit.
const CONTAINER: &[Check] = &[
    Check { all: &[domain(libc::AF_UNIX)], then: Allow },
    Check { all: &[domain(libc::AF_INET)], then: Allow },
    Check { all: &[domain(libc::AF_INET6)], then: Allow },
    Check { all: &[domain(libc::AF_NETLINK), protocol(libc::NETLINK_ROUTE)], then: Allow },
    Check { all: &[domain(libc::AF_NETLINK), protocol(libc::NETLINK_SOCK_DIAG)], then: Allow },
    Check { all: &[domain(libc::AF_NETLINK), protocol(libc::NETLINK_NETFILTER)], then: Allow },
    Check { all: &[domain(libc::AF_NETLINK), protocol(libc::NETLINK_KOBJECT_UEVENT)], then: Allow },
    Check { all: &[domain(libc::AF_NETLINK), protocol(libc::NETLINK_GENERIC)], then: Allow },
    Check { all: &[domain(libc::AF_NETLINK)], then: Fail(Errno::EPROTONOSUPPORT) },
    Check { all: &[domain(libc::AF_PACKET)], then: Allow },
    Check { all: &[], then: Fail(Errno::EAFNOSUPPORT) },
];

/// Without a network namespace an empty network is one without sockets for it.
const LOCAL: &[Check] =
    &[Check { all: &[domain(libc::AF_UNIX)], then: Allow }, Check { all: &[], then: Fail(Errno::EAFNOSUPPORT) }];

const SOCKETPAIR: &[Check] =
    &[Check { all: &[domain(libc::AF_UNIX)], then: Allow }, Check { all: &[], then: Fail(Errno::EAFNOSUPPORT) }];
const SOCKETPAIR_NO_DATAGRAMS: &[Check] = &[
    NO_DATAGRAMS,
    NO_RAW_DATAGRAMS,
    Check { all: &[domain(libc::AF_UNIX)], then: Allow },
    Check { all: &[], then: Fail(Errno::EAFNOSUPPORT) },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::trial::verdict;
    use crate::table::Feature::{self, SocketGrants};
    use crate::table::Verdict;

    fn ask(call: &str, features: &[Feature], args: [i32; 3]) -> Verdict {
        verdict(call, features, &args.map(|arg| u64::from(arg.cast_unsigned()) | 0xffff_ffff_0000_0000))
    }

    #[test]
    fn odd_families_and_protocols_do_not_exist() {
        let cloexec = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        for (family, kind, protocol, verdict) in [
            (libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, Allow),
            (libc::AF_INET, libc::SOCK_STREAM | cloexec, 0, Allow),
            (libc::AF_INET6, libc::SOCK_DGRAM | cloexec, libc::IPPROTO_UDP, Allow),
            (libc::AF_NETLINK, libc::SOCK_RAW | cloexec, libc::NETLINK_ROUTE, Allow),
            (libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP, Fail(Errno::EPROTONOSUPPORT)),
            (libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP, Fail(Errno::EPROTONOSUPPORT)),
            (libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP, Fail(Errno::EPROTONOSUPPORT)),
            (libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP, Fail(Errno::EPROTONOSUPPORT)),
            (libc::AF_INET6, libc::SOCK_SEQPACKET, 0, Fail(Errno::EPROTONOSUPPORT)),
            (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER, Fail(Errno::EPROTONOSUPPORT)),
            (libc::AF_PACKET, libc::SOCK_RAW, 0, Fail(Errno::EAFNOSUPPORT)),
            (libc::AF_VSOCK, libc::SOCK_STREAM, 0, Fail(Errno::EAFNOSUPPORT)),
            (libc::AF_ALG, libc::SOCK_SEQPACKET, 0, Fail(Errno::EAFNOSUPPORT)),
        ] {
            assert_eq!(ask("socket", &[], [family, kind, protocol]), verdict, "{family} {kind} {protocol}");
        }
        assert_eq!(ask("socketpair", &[], [libc::AF_INET, libc::SOCK_STREAM, 0]), Fail(Errno::EAFNOSUPPORT));
    }

    #[test]
    fn a_containers_capabilities_say_which_sockets_it_has() {
        for (family, kind, protocol, verdict) in [
            (libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP, Allow),
            (libc::AF_PACKET, libc::SOCK_RAW, 0, Allow),
            (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER, Allow),
            (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT, Fail(Errno::EPROTONOSUPPORT)),
            (libc::AF_ALG, libc::SOCK_SEQPACKET, 0, Fail(Errno::EAFNOSUPPORT)),
            (libc::AF_VSOCK, libc::SOCK_STREAM, 0, Fail(Errno::EAFNOSUPPORT)),
        ] {
            let asked = ask("socket", &[Feature::Container], [family, kind, protocol]);
            assert_eq!(asked, verdict, "{family} {kind} {protocol}");
        }
    }

    #[test]
    fn datagrams_to_names_are_refused_while_sockets_are_judged() {
        for kind in [libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC] {
            for call in ["socket", "socketpair"] {
                assert_eq!(ask(call, &[SocketGrants], [libc::AF_UNIX, kind, 0]), Fail(Errno::ESOCKTNOSUPPORT));
            }
        }
        for call in ["socket", "socketpair"] {
            assert_eq!(ask(call, &[], [libc::AF_UNIX, libc::SOCK_DGRAM, 0]), Allow);
            assert_eq!(ask(call, &[SocketGrants], [libc::AF_UNIX, libc::SOCK_STREAM, 0]), Allow);
        }
        assert_eq!(ask("socket", &[SocketGrants], [libc::AF_INET, libc::SOCK_DGRAM, 0]), Allow);
    }
}
