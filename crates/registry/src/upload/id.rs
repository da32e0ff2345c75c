//! The name of an upload session: it says which node owns it, so that any other node can forward to that one.

use std::fmt;
use std::str::FromStr;

use atoll_types::{NodeId, RegionId, RequestId};

/// `<region>.<node>.<32 hex>`. The random part is what makes it hard to guess.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    region: RegionId,
    node: NodeId,
    random: RequestId,
}

/// The string is not the name of an upload session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an upload session's name has the form <region>.<node>.<32 hex>")]
pub struct InvalidSessionId;

impl SessionId {
    /// A new one, of a session that this node will own.
    pub(crate) fn random(region: RegionId, node: NodeId) -> Self {
        Self { region, node, random: RequestId::random() }
    }

    /// The region of its owner.
    pub const fn region(&self) -> &RegionId {
        &self.region
    }

    /// The node that owns it.
    pub const fn node(&self) -> NodeId {
        self.node
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.region, self.node, self.random)
    }
}

impl FromStr for SessionId {
    type Err = InvalidSessionId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.');
        let (Some(region), Some(node), Some(random), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidSessionId);
        };
        let id = Self {
            region: region.parse().map_err(|_| InvalidSessionId)?,
            node: NodeId(node.parse().map_err(|_| InvalidSessionId)?),
            random: random.parse().map_err(|_| InvalidSessionId)?,
        };
        // Printing it again refuses second spellings of the node's number, such as "+1" and "01".
        if id.to_string() == text { Ok(id) } else { Err(InvalidSessionId) }
    }
}

/// Who owns an upload session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This node, if the session exists at all.
    Here(SessionId),
    /// Another node, of this or another region.
    Node {
        /// Its region.
        region: RegionId,
        /// The node.
        node: NodeId,
    },
    /// The string names no session.
    Invalid,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_session_has_one_spelling() {
        let hex = "0123456789abcdef0123456789abcdef";
        assert!(format!("us-east.1.{hex}").parse::<SessionId>().is_ok());
        for bad in ["", "unknown", "us-east.1", "us-east.1.", ".1.0", "us-east.01.HEX", "us-east.+1.HEX", "a.1.HEX.b"] {
            assert_eq!(bad.replace("HEX", hex).parse::<SessionId>(), Err(InvalidSessionId), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn session_ids_round_trip(region in "[a-z0-9]{1,20}", node: u64) {
            let id = SessionId::random(region.parse().unwrap(), NodeId(node));
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = text.parse::<SessionId>();
        }
    }
}
