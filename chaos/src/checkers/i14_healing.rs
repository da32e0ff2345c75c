//! I14: soon after the last fault is healed there is one leader, equal state, no lag, and a fresh push pulls everywhere.

use super::HEALING_UNSEEN;
use crate::history::History;

/// The round waits for it, and writes down what was missing when it gave up.
pub(super) fn check(history: &History) -> Vec<String> {
    match &history.healing {
        None => vec![HEALING_UNSEEN.to_owned()],
        Some(healing) if healing.took.is_none() => vec![format!("not healed in time: {}", healing.missing.join("; "))],
        Some(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::history::Healing;

    #[test]
    fn a_cluster_that_does_not_heal_is_found() {
        let found = |healing| check(&History { healing, ..History::default() }).len();
        assert_eq!(found(Some(Healing { took: Some(Duration::from_secs(1)), missing: Vec::new() })), 0);
        assert_eq!(found(Some(Healing { took: None, missing: vec!["lag".into()] })), 1);
        assert_eq!(found(None), 1);
    }
}
