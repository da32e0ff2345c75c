//! Query strings, and the paging parameters `n` and `last`.

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Most entries of one page; who asks for more gets a `Link` to the rest.
pub(crate) const PAGE_ENTRIES_MAX: usize = 1000;

/// What stays as it is in a query's values.
const VALUE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b':');

/// Percent-encodes a value for a query.
pub(crate) fn encode(value: &str) -> String {
    utf8_percent_encode(value, VALUE).to_string()
}

/// The parameters of a query, decoded, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query; one that cannot be read at all has no parameters.
    pub(crate) fn of(uri: &Uri) -> Self {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
        Self(pairs.map(|axum::extract::Query(pairs)| pairs).unwrap_or_default())
    }

    /// The first value of a parameter; a parameter without a value is empty.
    pub(crate) fn get<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Why a page cannot be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPage {
    /// `n` is not a number.
    #[error("n is the number of entries wanted: digits only")]
    Number,
    /// `last` has control characters.
    #[error("last is the last entry of the page before, as it was listed")]
    Last,
}

/// A page that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageRequest {
    /// Entries after this one.
    pub last: Option<String>,
    /// At most so many; [`PAGE_ENTRIES_MAX`] unless fewer are asked for.
    pub entries: usize,
}

impl PageRequest {
    /// Reads `n` and `last`.
    pub(crate) fn parse(query: &Query) -> Result<Self, InvalidPage> {
        let entries = match query.get("n") {
            None => PAGE_ENTRIES_MAX,
            Some(n) if n.is_empty() || !n.bytes().all(|b| b.is_ascii_digit()) => return Err(InvalidPage::Number),
            Some(n) => n.parse().unwrap_or(PAGE_ENTRIES_MAX).min(PAGE_ENTRIES_MAX),
        };
        let last = query.get("last").filter(|last| !last.is_empty());
        if last.is_some_and(|last| last.contains(char::is_control)) {
            return Err(InvalidPage::Last);
        }
        Ok(Self { last: last.map(str::to_owned), entries })
    }

    /// The `Link` to the page that follows, relative to the host.
    pub(crate) fn next(&self, path: &str, last: &str) -> String {
        format!("<{path}?n={}&last={}>; rel=\"next\"", self.entries, encode(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(query: &str) -> Result<PageRequest, InvalidPage> {
        PageRequest::parse(&Query::of(&format!("/v2/_catalog?{query}").parse().unwrap()))
    }

    #[test]
    fn a_page_is_bounded_whatever_is_asked_for() {
        assert_eq!(page("").map(|p| p.entries), Ok(PAGE_ENTRIES_MAX));
        assert_eq!(page("n=0").map(|p| p.entries), Ok(0));
        assert_eq!(page("n=7&last=a%2Fb").map(|p| (p.entries, p.last)), Ok((7, Some("a/b".into()))));
        assert_eq!(page("n=99999999999999999999999").map(|p| p.entries), Ok(PAGE_ENTRIES_MAX));
        for bad in ["n=-1", "n=abc", "n=", "n=1e3", "n=%2B1"] {
            assert_eq!(page(bad), Err(InvalidPage::Number), "{bad}");
        }
        assert_eq!(page("last=%00%ff"), Err(InvalidPage::Last));
    }

    #[test]
    fn parameters_may_come_again() {
        let query = Query::of(&"/x?tag=a&tag=b&n=1".parse().unwrap());
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(query.get("none"), None);
    }

    proptest! {
        #[test]
        fn a_link_leads_to_the_page_after(last in "[a-z0-9/._:-]{1,40}", n in 0..PAGE_ENTRIES_MAX) {
            let link = PageRequest { last: None, entries: n }.next("/v2/_catalog", &last);
            let target = link.strip_prefix('<').and_then(|l| l.split_once('>')).map(|(t, _)| t.to_owned()).unwrap();
            let asked = PageRequest::parse(&Query::of(&target.parse().unwrap()));
            prop_assert_eq!(asked, Ok(PageRequest { last: Some(last), entries: n }));
        }
    }
}
