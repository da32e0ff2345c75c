//! Asking a node, over the admin service.

use std::time::Duration;

use atoll_proto::admin::v1::admin_client::AdminClient;
use atoll_proto::admin::v1::{
    ClusterCheckRequest, ClusterCheckResponse, ClusterStatusRequest, ClusterStatusResponse, InitClusterRequest,
    InitClusterResponse, ReplicationStatusRequest, ReplicationStatusResponse, SetReplicationPausedRequest,
    SetReplicationPausedResponse,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::Failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A deep check reads whole stores.
const DEEP_ANSWER_TIMEOUT: Duration = Duration::from_secs(3600);

/// What a node can be asked.
#[derive(Debug)]
pub(super) enum Question {
    ClusterStatus,
    Check { deep: bool },
    Init,
    ReplicationStatus,
    SetPaused { region: Option<String>, paused: bool },
}

/// What it answers.
#[derive(Debug)]
pub(super) enum Answer {
    ClusterStatus(ClusterStatusResponse),
    Check(ClusterCheckResponse),
    Init(InitClusterResponse),
    ReplicationStatus(ReplicationStatusResponse),
    SetPaused { paused: bool, answer: SetReplicationPausedResponse },
}

/// Asks the node whose admin service is at `url`, and waits for its answer.
pub(super) fn ask(url: &str, question: Question) -> Result<Answer, Failure> {
    let endpoint = Endpoint::from_shared(url.to_owned()).ok().filter(|e| e.uri().scheme_str() == Some("http"));
    let endpoint = endpoint
        .ok_or_else(|| Failure::Usage(format!("--node {url:?} is not an address such as http://127.0.0.1:9001")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(patience(&question));
    runtime.block_on(async {
        let channel = endpoint.connect().await.map_err(|error| unreachable(url, &error))?;
        put(AdminClient::new(channel), question).await.map_err(|status| failed(url, &status))
    })
}

const fn patience(question: &Question) -> Duration {
    match question {
        Question::Check { deep: true } => DEEP_ANSWER_TIMEOUT,
        _ => ANSWER_TIMEOUT,
    }
}

async fn put(mut node: AdminClient<Channel>, question: Question) -> Result<Answer, Status> {
    Ok(match question {
        Question::ClusterStatus => {
            Answer::ClusterStatus(node.cluster_status(ClusterStatusRequest {}).await?.into_inner())
        }
        Question::Check { deep } => Answer::Check(node.cluster_check(ClusterCheckRequest { deep }).await?.into_inner()),
        Question::Init => Answer::Init(node.init_cluster(InitClusterRequest {}).await?.into_inner()),
        Question::ReplicationStatus => {
            Answer::ReplicationStatus(node.replication_status(ReplicationStatusRequest {}).await?.into_inner())
        }
        Question::SetPaused { region, paused } => {
            let request = SetReplicationPausedRequest { region: region.unwrap_or_default(), paused };
            Answer::SetPaused { paused, answer: node.set_replication_paused(request).await?.into_inner() }
        }
    })
}

fn unreachable(url: &str, error: &dyn std::error::Error) -> Failure {
    let mut causes = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !causes.contains(&text) {
            causes = format!("{causes}: {text}");
        }
        source = cause.source();
    }
    Failure::Unreachable(format!("cannot reach {url}: {causes}; is the node up? Another can be asked with --node"))
}

/// A status that the node sent, or that stands for an answer that did not come.
fn failed(url: &str, status: &Status) -> Failure {
    let message = format!("{url}: {}", status.message());
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Failure::Unreachable(message),
        Code::InvalidArgument => Failure::Usage(message),
        _ => Failure::Failed(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_not_there_is_unreachable_and_named() {
        // Port 1 of loopback: nothing listens there, and nothing ever will by chance.
        let failure = ask("http://127.0.0.1:1", Question::ClusterStatus).unwrap_err();
        assert!(matches!(&failure, Failure::Unreachable(m) if m.contains("http://127.0.0.1:1")), "{failure}");
    }

    #[test]
    fn what_is_no_address_is_a_mistake_of_usage() {
        for url in ["", "127.0.0.1:x", "/x"] {
            let failure = ask(url, Question::ClusterStatus).unwrap_err();
            assert!(matches!(failure, Failure::Usage(_)), "{url:?}: {failure}");
        }
    }
}
