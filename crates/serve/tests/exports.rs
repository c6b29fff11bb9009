//! The versions of a repository as exports of NBD.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use backy_core::Error;
use backy_serve::nbd::export::Exports;
use backy_serve::nbd::versions::{VersionExports, Writes};
use backy_serve::{ViewCache, ViewSettings};
use backy_testkit::device::MemoryDevice;
use backy_testkit::gate::Gate;
use support::{BLOCK, Scene, noise};

#[test]
fn an_export_that_is_open_is_had_while_another_one_waits_for_the_store() {
    let mut scene = Scene::new(1);
    let [a, b] =
        ["a", "b"].map(|name| (name.to_owned(), scene.backup(&MemoryDevice::with_bytes(&noise(1, BLOCK)), name).uid));
    let gate = Gate::default();
    let gated = gate.store(Arc::new(scene.store.clone()));
    let cache = ViewCache::new(scene.repository_in(Arc::new(gated.clone())), ViewSettings::default()).unwrap();
    let no_other = Box::new(|name: &str| Err(Error::invalid(name)));
    let exports = Arc::new(VersionExports::new(cache, vec![a, b], Writes::Refused, no_other));
    let open = exports.open("a").unwrap();

    let presence = gate.enter();
    gated.act_for(Some(presence.actor()));
    let others = exports.clone();
    let opening = std::thread::spawn(move || others.open("b").map(drop));
    assert_eq!(gate.waiting().len(), 1, "it stands before its first call");
    assert!(Arc::ptr_eq(&open, &exports.open("a").unwrap()));
    gated.act_for(None);
    gate.let_pass(presence.actor());
    opening.join().unwrap().unwrap();
}
