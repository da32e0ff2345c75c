//! The command line: what people and scripts call.

mod admin;
mod failure;
mod output;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

pub(crate) use failure::Failure;

use crate::dev::{self, DevArgs};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it failed, or a check found a difference
  2  the command line is wrong
  3  the node, or the quorum that it needs, cannot be reached: try again, or ask another node";

/// An OCI container registry that spans regions as one.
#[derive(Debug, Parser)]
#[command(name = "atoll", version, about, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    /// The admin address of the node to ask [default: the first node of the running `atoll dev`, else
    /// http://127.0.0.1:9001]
    #[arg(long, global = true, value_name = "URL", env = "ATOLL_NODE")]
    node: Option<String>,
    /// How answers are written
    #[arg(long, global = true, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
    #[command(subcommand)]
    command: Command,
}

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// For people
    Table,
    /// For programs
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node
    Serve(serve::ServeArgs),
    /// Run a whole cluster on this machine
    Dev(DevArgs),
    /// The cluster and its nodes
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// How far each region lags
    #[command(subcommand)]
    Replication(ReplicationCommand),
    /// Become another program that ends with the process that started this one
    #[command(hide = true)]
    ExecWithParent(serve::ExecArgs),
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Make the cluster of the members that the node's configuration names
    Init,
    /// Show the nodes: leader, revision, mode
    Status,
    /// Compare the state of all nodes at one revision; fails when they differ
    Check {
        /// Recompute the hashes from the whole store of each node
        #[arg(long)]
        deep: bool,
    },
}

#[derive(Debug, Subcommand)]
enum ReplicationCommand {
    /// Show what each region lacks
    Status,
    /// Stop a region fetching; pulls still read through
    Pause {
        /// The region [default: all]
        region: Option<String>,
    },
    /// Let a region fetch again
    Resume {
        /// The region [default: all]
        region: Option<String>,
    },
}

/// Parses the command line, does what it asks and says how it went.
pub(crate) fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Dev(args) => dev::run(args),
        Command::ExecWithParent(args) => serve::exec(&args),
        Command::Cluster(command) => ask(cli.node, cluster_question(&command), cli.output),
        Command::Replication(command) => ask(cli.node, replication_question(command), cli.output),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "atoll", &mut std::io::stdout());
            Ok(())
        }
    }
}

const fn cluster_question(command: &ClusterCommand) -> admin::Question {
    match command {
        ClusterCommand::Init => admin::Question::Init,
        ClusterCommand::Status => admin::Question::ClusterStatus,
        ClusterCommand::Check { deep } => admin::Question::Check { deep: *deep },
    }
}

fn replication_question(command: ReplicationCommand) -> admin::Question {
    match command {
        ReplicationCommand::Status => admin::Question::ReplicationStatus,
        ReplicationCommand::Pause { region } => admin::Question::SetPaused { region, paused: true },
        ReplicationCommand::Resume { region } => admin::Question::SetPaused { region, paused: false },
    }
}

fn ask(node: Option<String>, question: admin::Question, format: OutputFormat) -> Result<(), Failure> {
    let node = node.or_else(dev::first_node_of_running).unwrap_or_else(|| "http://127.0.0.1:9001".into());
    let answer = admin::ask(&node, question)?;
    output::print(&match format {
        OutputFormat::Json => answer.json()?,
        OutputFormat::Table => answer.table(),
    })?;
    answer.verdict()
}

/// Where `dev` keeps its data when it is not told.
pub(crate) fn user_data_folder() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_and_after_the_command() {
        for line in [
            "atoll --node http://127.0.0.1:9002 --output json cluster check --deep",
            "atoll cluster check --deep --output json --node http://127.0.0.1:9002",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!((cli.node.as_deref(), cli.output), (Some("http://127.0.0.1:9002"), OutputFormat::Json));
            assert!(matches!(cli.command, Command::Cluster(ClusterCommand::Check { deep: true })));
        }
    }

    #[test]
    fn exit_codes_stand_in_the_help() {
        let help = Cli::command().render_help().to_string();
        for line in EXIT_CODES.lines() {
            assert!(help.contains(line), "{help}");
        }
    }
}
