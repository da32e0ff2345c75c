//! Lists in pages, and the lag of all regions.

use std::collections::BTreeSet;

use atoll_auth::Pull;
use atoll_registry::Consistency;
use atoll_types::Tag;
use tokio::time::sleep;

use super::Client;
use crate::checkers::lag;
use crate::judge::Stopwatch;

impl Client {
    /// All tags of a repository, a page at a time: none that was there throughout may be missing.
    pub(super) async fn list_tags(&mut self) {
        let (Some(node), repository) = (self.some_node(), self.repository()) else { return };
        let Some(access) = self.access::<Pull>(&repository) else { return };
        let (from, read_only) = (node.metadata.freshness().applied, self.world.log.told_read_only(node.index));
        let (mut all, mut last) = (BTreeSet::<Tag>::new(), None::<String>);
        loop {
            let (options, n) = (self.reading(Consistency::Default), 1 + self.dice.below(2));
            let page = node.registry.list_tags(&access, last.as_deref(), n, &options);
            let page = match node.life.run_until_cancelled(page).await {
                Some(Ok(page)) => page,
                Some(Err(_)) => return self.world.judge.operation("list tags", 1),
                None => return,
            };
            let sorted = page.items.windows(2).all(|pair| pair[0] < pair[1]);
            if !sorted || page.items.iter().any(|tag| last.as_deref().is_some_and(|last| tag.as_str() <= last)) {
                self.world.judge.violated("I11", "a page is not in order");
            }
            last = page.items.last().map(|tag| tag.as_str().to_owned());
            all.extend(page.items);
            if !page.more || last.is_none() {
                break;
            }
            let pause = self.dice.millis(1, 300);
            sleep(pause).await;
        }
        self.world.judge.operation("list tags", 0);
        let watch = Stopwatch::start();
        // A node that died meanwhile may have gone back to what its disk kept.
        if self.world.log.told_read_only(node.index) == read_only {
            let to = self.world.log.revision();
            let throughout = self.world.log.truth(|truth| truth.tags_throughout(&repository, from.0, to.0));
            for tag in throughout.into_iter().filter(|tag| !all.contains(tag)) {
                self.world
                    .judge
                    .violated("I11", format!("the list of {repository} lacks {tag}, which was there throughout"));
            }
            self.world.judge.looked("I11", watch);
        }
    }

    /// The lag as a node tells it, against what the stores lack of what that node knows.
    pub(super) async fn ask_for_lag(&mut self) {
        let Some(node) = self.some_node() else { return };
        lag::look(&self.world, &node).await;
        self.world.judge.operation("ask for lag", 0);
    }
}
