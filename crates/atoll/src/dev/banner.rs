//! What `dev` prints once its nodes listen: where they are, and what to try first.

use std::fmt::Write;

use super::folder::DevFolder;
use crate::config::Topology;

/// The regions, a push and a pull to paste, and where things are.
pub(super) fn text(folder: &DevFolder, topology: &Topology) -> String {
    let mut text = String::from("\n");
    let width = topology.nodes.iter().map(|n| n.region.as_str().len()).max().unwrap_or_default();
    for node in &topology.nodes {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "  {:width$}  http://{}  (node {}, admin http://{})",
            node.region.as_str(),
            node.http,
            node.name,
            node.admin
        );
    }
    text.push_str(&examples(topology));
    let _ = write!(
        text,
        "\nDATA is {data}\n  logs in DATA/<node>/log; {command} stop {node}, or start, or restart\n  \
         {binary} --node http://{admin} cluster status\nCtrl-C ends all nodes; the data stays.\n",
        data = folder.path().display(),
        command = command(folder),
        node = topology.nodes.last().map_or("NODE", |n| n.name.as_str()),
        admin = topology.nodes.first().map_or_else(String::new, |n| n.admin.to_string()),
        binary = quote(&folder.binary().display().to_string()),
    );
    text
}

/// A push to the first region, and a pull from the last.
fn examples(topology: &Topology) -> String {
    let (Some(first), Some(last)) = (topology.nodes.first(), topology.nodes.last()) else { return String::new() };
    format!(
        "\npush to {}:\n  skopeo copy --preserve-digests --dest-tls-verify=false docker://docker.io/library/busybox \
         docker://{}/library/busybox:v1\npull from {}:\n  skopeo copy --src-tls-verify=false \
         docker://{}/library/busybox:v1 oci:busybox:v1\n",
        first.region, first.http, last.region, last.http
    )
}

/// How to reach this supervisor from another terminal.
pub(super) fn command(folder: &DevFolder) -> String {
    let default = DevFolder::new(None).is_ok_and(|own| own.path() == folder.path());
    let data = if default { String::new() } else { format!(" --data {}", quote(&folder.path().display().to_string())) };
    format!("{} dev{data}", quote(&folder.binary().display().to_string()))
}

/// For a shell.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_ports_a_push_and_a_pull_are_there() {
        let folder = DevFolder::new(Some("/tmp/some where".into())).unwrap();
        let text = text(&folder, &Topology::load(None).unwrap());
        for word in
            ["us-east", "eu-west", "ap-south", "5001", "5002", "5003", "push", "pull", "--data '/tmp/some where'"]
        {
            assert!(text.contains(word), "{word} in {text}");
        }
    }

    #[test]
    fn what_is_pasted_is_one_word_to_a_shell() {
        assert_eq!(quote("/a/b-1"), "/a/b-1");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }
}
