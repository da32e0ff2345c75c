//! Atoll, as an operator runs it: `atoll serve` with the defaults of a real node. Metrics are always on; spans are made
//! for the log alone, since `otlp_endpoint`, which has no default, is not set: none are exported.

use std::fmt::Write as _;
use std::net::SocketAddr;

use rand::Rng;

use super::{Launch, Programs, Server, free_addresses, write};

const REGIONS: [&str; 3] = ["us-east", "eu-west", "ap-south"];
/// Addresses of a node: for clients, for nodes, for operators.
const ADDRESSES: usize = 3;
/// Keeps what a folder was made with: a cluster knows its nodes by their addresses.
const CLUSTER: &str = "cluster.toml";

pub(super) fn prepare(server: &mut Server, programs: &Programs, nodes: usize) -> anyhow::Result<Vec<Launch<'static>>> {
    let made_before = server.folder.join(CLUSTER);
    let (addresses, cluster) = if made_before.exists() {
        let cluster = std::fs::read_to_string(made_before)?;
        (listed(&cluster), cluster)
    } else {
        let addresses = free_addresses(nodes * ADDRESSES)?;
        let cluster = cluster(&addresses)?;
        write(&server.folder, CLUSTER, &cluster)?;
        (addresses, cluster)
    };
    let mut launches = Vec::new();
    for (number, node) in addresses.chunks(ADDRESSES).enumerate() {
        let data = server.folder.join(REGIONS[number]);
        let text = format!(
            "[node]\nname = \"{region}-1\"\nid = {id}\nregion = \"{region}\"\nrole = \"voter\"\ndata = \"{data}\"\n\n\
             [listen]\nhttp = \"{http}\"\ngrpc = \"{grpc}\"\nadmin = \"{admin}\"\n\n{cluster}",
            region = REGIONS[number],
            id = number + 1,
            data = data.display(),
            http = node[0],
            grpc = node[1],
            admin = node[2],
        );
        let config = write(&server.folder, &format!("{}.toml", REGIONS[number]), &text)?;
        let atoll = programs.atoll.display().to_string();
        let command = [&atoll, "serve", "--config", &config, "--die-with-parent"].map(str::to_owned).to_vec();
        launches.push(Launch { command, output: ["output.0", "output.1", "output.2"][number] });
        server.http.push(node[0]);
        server.admin.push(node[2]);
    }
    Ok(launches)
}

fn cluster(addresses: &[SocketAddr]) -> anyhow::Result<String> {
    let mut id = [0; 16];
    rand::rng().fill_bytes(&mut id);
    let mut text = format!("[cluster]\nid = \"{}\"\nbootstrap = true\n", const_hex::encode(id));
    for (number, node) in addresses.chunks(ADDRESSES).enumerate() {
        let (region, id) = (REGIONS[number], number + 1);
        let [http, grpc, admin] = [node[0], node[1], node[2]];
        write!(
            text,
            "\n[[cluster.members]]\nid = {id}\nname = \"{region}-1\"\nregion = \"{region}\"\n\
             http = \"{http}\"\ngrpc = \"{grpc}\"\nadmin = \"{admin}\"\n"
        )?;
    }
    Ok(text)
}

/// The addresses of a cluster that was made before, in the same order.
fn listed(cluster: &str) -> Vec<SocketAddr> {
    let keys = ["http = ", "grpc = ", "admin = "];
    let values = cluster.lines().filter_map(|line| keys.iter().find_map(|key| line.strip_prefix(key)));
    values.filter_map(|value| value.trim_matches('"').parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_a_cluster_are_found_again() {
        let addresses = free_addresses(9).unwrap();
        assert_eq!(listed(&cluster(&addresses).unwrap()), addresses);
    }
}
