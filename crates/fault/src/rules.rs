//! What `ATOLL_FAILPOINTS` says: `name=kill@N` and `name=error@N`, parted by commas.

/// What a failpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ends the process as SIGKILL does.
    Kill,
    /// Has the step fail.
    Error,
}

/// What one failpoint does, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) action: Action,
    /// At which visit, from 1 on.
    pub(crate) visit: u64,
}

/// Reads the value of the variable; else says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Vec<Rule>, String> {
    text.split(',').map(parse_one).collect()
}

fn parse_one(text: &str) -> Result<Rule, String> {
    let malformed = || format!("{text:?} is not of the form NAME=kill@N or NAME=error@N");
    let (name, what) = text.trim().split_once('=').ok_or_else(malformed)?;
    let (action, visit) = what.split_once('@').ok_or_else(malformed)?;
    let action = match action {
        "kill" => Action::Kill,
        "error" => Action::Error,
        _ => return Err(malformed()),
    };
    let visit: u64 = visit.parse().map_err(|_| malformed())?;
    if name.is_empty() || visit == 0 {
        return Err(malformed());
    }
    Ok(Rule { name: name.to_owned(), action, visit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_actions_and_visits_are_read() {
        let kill = Rule { name: "log.append.before".into(), action: Action::Kill, visit: 3 };
        let error = Rule { name: "object.sync.after".into(), action: Action::Error, visit: 1 };
        assert_eq!(parse("log.append.before=kill@3, object.sync.after=error@1"), Ok(vec![kill, error]));
    }

    #[test]
    fn what_is_malformed_is_named() {
        for bad in ["", "x", "x=", "x=kill", "x=kill@", "x=kill@0", "x=kill@-1", "x=panic@1", "=kill@1", "x=kill@1,"] {
            let problem = parse(bad).unwrap_err();
            assert!(problem.contains("NAME=kill@N"), "{bad:?}: {problem}");
        }
    }
}
