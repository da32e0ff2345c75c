//! Which process holds the other end of a loopback connection (sock_diag(7), proc_pid_fd(5)).
//!
//! The kernel is asked for the one socket: its table of all connections (`/proc/net/tcp`) takes longer to read than an
//! election lasts, once clients that are refused have left tens of thousands behind.

use std::net::{SocketAddr, SocketAddrV4};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// `SOCK_DIAG_BY_FAMILY` of linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` of linux/netlink.h.
const REQUEST: u16 = 1;
const HEADER_BYTES: usize = 16;
/// `struct inet_diag_req_v2` of linux/inet_diag.h: 8 bytes, and an id.
const REQUEST_BYTES: usize = HEADER_BYTES + 8 + ID_BYTES;
const ID_BYTES: usize = 48;
/// Of the inode, in an answer: behind header, 4 bytes, the id, and four numbers.
const INODE_AT: usize = HEADER_BYTES + 4 + ID_BYTES + 16;
const AF_INET: u8 = 2;
const IPPROTO_TCP: u8 = 6;

/// The process among these that has connected from `client` to `server`.
pub(super) fn owner(pids: &[(usize, u32)], client: SocketAddr, server: SocketAddr) -> Option<usize> {
    let (SocketAddr::V4(client), SocketAddr::V4(server)) = (client, server) else { return None };
    let inode = inode_of(client, server)?;
    pids.iter().find(|(_, pid)| holds(*pid, inode)).map(|(node, _)| *node)
}

/// The inode of the socket with these ends.
fn inode_of(local: SocketAddrV4, remote: SocketAddrV4) -> Option<u32> {
    let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG)).ok()?;
    let kernel = netlink::SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(&socket, &question(local, remote), SendFlags::empty(), &kernel).ok()?;
    let mut answer = [0; 512];
    let (length, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty()).ok()?;
    inode_in(answer.get(..length)?)
}

fn question(local: SocketAddrV4, remote: SocketAddrV4) -> [u8; REQUEST_BYTES] {
    let mut question = Vec::with_capacity(REQUEST_BYTES);
    question.extend((REQUEST_BYTES as u32).to_ne_bytes());
    question.extend(BY_FAMILY.to_ne_bytes());
    question.extend(REQUEST.to_ne_bytes());
    question.extend([0; 8]);
    question.extend([AF_INET, IPPROTO_TCP, 0, 0]);
    // In whatever state.
    question.extend(u32::MAX.to_ne_bytes());
    question.extend(local.port().to_be_bytes());
    question.extend(remote.port().to_be_bytes());
    for address in [local, remote] {
        question.extend(address.ip().octets());
        question.extend([0; 12]);
    }
    // On any interface, whatever its cookie.
    question.extend([0; 4]);
    question.extend([0xff; 8]);
    let mut all = [0; REQUEST_BYTES];
    all.copy_from_slice(&question);
    all
}

/// Nothing in an answer that says that there is no such socket.
fn inode_in(answer: &[u8]) -> Option<u32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let inode = u32::from_ne_bytes(answer.get(INODE_AT..INODE_AT + 4)?.try_into().ok()?);
    (kind == BY_FAMILY && inode != 0).then_some(inode)
}

fn holds(pid: u32, inode: u32) -> bool {
    let wanted = format!("socket:[{inode}]");
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|link| link.as_os_str() == wanted.as_str())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn this_process_is_found_by_its_connection_and_another_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let client = TcpStream::connect(server).unwrap().local_addr();
        let kept = TcpStream::connect(server).unwrap();
        let pids = [(4, 1), (7, std::process::id())];
        assert_eq!(owner(&pids, kept.local_addr().unwrap(), server), Some(7));
        assert_eq!(owner(&pids[..1], kept.local_addr().unwrap(), server), None);
        assert_eq!(owner(&pids, "127.0.0.1:1".parse().unwrap(), server), None);
        drop(client);
    }
}
