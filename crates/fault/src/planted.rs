//! Planted bugs: switched on by name, in a build that has them.

use std::sync::OnceLock;

use crate::{FaultError, Known, PLANTED_VARIABLE, variable};

/// Whether this build has planted bugs.
pub const PLANTED: bool = cfg!(feature = "planted");

/// Whether a planted bug is switched on. Use [`crate::planted!`].
pub fn is_planted(name: &str) -> bool {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    let names =
        NAMES.get_or_init(|| variable(PLANTED_VARIABLE).ok().flatten().map(|text| split(&text)).unwrap_or_default());
    names.iter().any(|switched_on| switched_on == name)
}

fn split(text: &str) -> Vec<String> {
    text.split(',').map(|name| name.trim().to_owned()).collect()
}

/// Checks what the environment asks for.
pub(crate) fn check(known: &Known<'_>) -> Result<Option<String>, FaultError> {
    let Some(text) = variable(PLANTED_VARIABLE)? else { return Ok(None) };
    if !PLANTED {
        return Err(FaultError::new(PLANTED_VARIABLE, "this build has no planted bugs: use the feature `planted`"));
    }
    match split(&text).iter().find(|name| !known.planted.contains(&name.as_str())) {
        Some(unknown) => Err(FaultError::new(PLANTED_VARIABLE, format!("there is no planted bug {unknown:?}"))),
        None => Ok(Some(format!("PLANTED BUGS: {text}"))),
    }
}
