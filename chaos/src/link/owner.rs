//! Which process holds the other end of a loopback connection (proc_pid_net(5), proc_pid_fd(5)).

use std::net::SocketAddr;

/// The process among these that has connected from `client` to `server`.
pub(crate) fn owner(pids: &[(usize, u32)], client: SocketAddr, server: SocketAddr) -> Option<usize> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = inode_of(&table, client, server)?;
    pids.iter().find(|(_, pid)| holds(*pid, &inode)).map(|(node, _)| *node)
}

/// The inode of the socket with these ends, from the text of `/proc/net/tcp`.
fn inode_of(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<String> {
    let (local, remote) = (encoded(local)?, encoded(remote)?);
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let matches = fields.get(1) == Some(&local.as_str()) && fields.get(2) == Some(&remote.as_str());
        matches.then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
    })
}

/// An address as the kernel prints it: the four bytes of the IP address as one number in the machine's order.
fn encoded(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port()))
}

fn holds(pid: u32, inode: &str) -> bool {
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
