//! Links that nothing uses: condemned after a while, and dropped after another.

use super::{Run, Step, bounded, link};
use crate::keys::link::{LinkKey, LinkRecord, LinkUse};
use crate::{Command, Done, KvError, LinkItem};

/// CondemnLinks.
pub(super) fn condemn_links(step: &mut Step<'_>, links: &[LinkItem]) -> Run<Done> {
    bounded(links, Command::ITEMS_MAX)?;
    for item in links {
        if let Some((key, found)) = unchanged(step, item, LinkUse::Unused)? {
            link::set_use(step, &key, Some(&found), LinkUse::Condemned)?;
        }
    }
    Ok(Done::Empty)
}

/// DropLinks.
pub(super) fn drop_links(step: &mut Step<'_>, links: &[LinkItem]) -> Run<Done> {
    bounded(links, Command::ITEMS_MAX)?;
    for item in links {
        if let Some((key, found)) = unchanged(step, item, LinkUse::Condemned)? {
            link::unlink(step, &key, &found)?;
        }
    }
    Ok(Done::Empty)
}

/// The link, if the very change that the command saw is still its last.
fn unchanged(step: &Step<'_>, item: &LinkItem, state: LinkUse) -> Result<Option<(LinkKey, LinkRecord)>, KvError> {
    let key = LinkKey { repository: item.repository.clone(), digest: item.digest };
    let Some(found) = step.get(&key)? else { return Ok(None) };
    let same = found.revision == item.revision.0 && found.used()? == state;
    Ok(same.then_some((key, found)))
}
