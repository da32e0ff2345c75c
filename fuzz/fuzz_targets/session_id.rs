//! The names that travel through clients and stores (upload sessions, objects, ids) have one spelling each.
#![no_main]

use std::fmt::Display;
use std::str::FromStr;
use std::sync::LazyLock;

use atoll_registry::SessionId;
use atoll_types::{ClusterId, Incarnation, ObjectName, RequestId, StoreId};
use libfuzzer_sys::fuzz_target;
use regex::Regex;

static SESSION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.(0|[1-9][0-9]{0,19})\.[0-9a-f]{32}$").unwrap());
static OBJECT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^objects/([0-9a-f]{2})/(0|[1-9][0-9]{0,19})-([0-9a-f]{32})$").unwrap());
static ID: LazyLock<Regex> = LazyLock::new(|| Regex::new("^[0-9a-f]{32}$").unwrap());

fuzz_target!(|text: &str| {
    let session = spelling::<SessionId>(text);
    assert_eq!(session, SESSION.is_match(text) && fits(text.split('.').nth(1)), "{text:?}");
    if session {
        assert!(!text.contains(['/', '%', '\0']), "it is one segment of a path");
    }
    let shard = OBJECT.captures(text).is_some_and(|parts| parts[3].starts_with(&parts[1]) && fits(Some(&parts[2])));
    assert_eq!(spelling::<ObjectName>(text), shard, "{text:?}");
    let id = ID.is_match(text);
    assert_eq!(spelling::<RequestId>(text), id);
    assert_eq!(spelling::<ClusterId>(text), id);
    assert_eq!(spelling::<StoreId>(text), id);
    assert_eq!(spelling::<Incarnation>(text), id);
});

/// Whether it parses; what does is printed as it was.
fn spelling<T: FromStr + Display>(text: &str) -> bool {
    let parsed = text.parse::<T>();
    if let Ok(value) = &parsed {
        assert_eq!(value.to_string(), text);
    }
    parsed.is_ok()
}

fn fits(number: Option<&str>) -> bool {
    number.is_some_and(|number| number.parse::<u64>().is_ok())
}
