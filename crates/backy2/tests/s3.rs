//! A repository in a bucket, through the program: several hosts, a network that fails, and secrets that stay secret.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod buckets;
mod disks;
mod support;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Mutex;

use backy_device::null::Pattern;
use backy_testkit::proxy::{Proxy, Trouble};
use buckets::Bucket;
use disks::{fast_folder, is_long, listed, run_named, seed};
use support::{Place, run_of};

const IMAGE_BYTES: usize = 24 << 20;

fn image(seed: u64) -> Vec<u8> {
    let mut image = vec![0; IMAGE_BYTES];
    let (common, own) = image.split_at_mut(IMAGE_BYTES / 2);
    Pattern::Half.fill(1, 0, common);
    Pattern::Half.fill(seed, 0, own);
    image
}

/// Returns a place for a host of its own, with its own state.
fn host(bucket: &Bucket) -> Place {
    bucket.place_in(&fast_folder(1 << 30), &bucket.endpoint, "")
}

fn restores(place: &Place, uid: &str, image: &[u8]) {
    place.ok(&["restore", uid, "out"]);
    assert!(place.read("out") == image, "{uid} differs");
    std::fs::remove_file(place.path("out")).unwrap();
}

#[test]
fn hosts_at_work_at_once_in_one_bucket_find_what_the_others_have_stored() {
    let bucket = Bucket::new();
    let hosts = [host(&bucket), host(&bucket)];
    hosts[0].ok(&["init"]);
    for round in 0..if is_long() { 20 } else { 2 } {
        let images = [image(10 + 2 * round), image(11 + 2 * round)];
        let mut children = Vec::new();
        for (host, image) in hosts.iter().zip(&images) {
            host.write("disk", image);
            children.push(host.spawn(&["-m", "backup", "disk", "vm"]));
        }
        // While both write, a third one that knows nothing lists.
        while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
            listed(&host(&bucket));
        }
        for ((child, own), image) in children.into_iter().zip(0..).zip(&images) {
            let run = run_of(child.wait_with_output().unwrap());
            assert_eq!((run.code, run.stderr.as_str()), (0, ""), "round {round}: {run:#?}");
            let other: &Place = &hosts[1 - own];
            restores(other, run.stdout.trim(), image);
            restores(&host(&bucket), run.stdout.trim(), image);
        }
    }
    // The half that all have in common is stored once for each host that could not know better, and never again.
    let versions = listed(&hosts[0]);
    assert!(versions.iter().all(|(_, state)| state == "valid"), "{versions:?}");
    let new = hosts[0].ok(&["-ms", "stats", "-f", "bytes new"]);
    let new: Vec<usize> = new.lines().map(|line| line.parse().unwrap()).collect();
    let had_to_store_all = new.iter().filter(|bytes| **bytes > IMAGE_BYTES / 2 + (1 << 20)).count();
    assert!(had_to_store_all <= 2, "{new:?}");
}

/// What each of several hosts does in turn, at the same time as the others.
fn work(host: &Place, number: usize, rounds: u64, all: &Mutex<BTreeMap<String, Vec<u8>>>) {
    let run = |arguments: &[&str], allowed: &[i32]| {
        let run = host.run(arguments);
        assert!(allowed.contains(&run.code), "host {number}: {arguments:?}: {run:#?}");
        run
    };
    let name = format!("vm{number}");
    let mut own: Vec<String> = Vec::new();
    for round in 0..rounds {
        let disk = image(100 * number as u64 + round);
        host.write("disk", &disk);
        let uid = host.backup(&["disk", &name]);
        all.lock().unwrap().insert(uid.clone(), disk);
        own.push(uid);
        let others = || all.lock().unwrap().iter().next().map(|(uid, disk)| (uid.clone(), disk.clone()));
        if let Some((uid, disk)) = others() {
            let _ = std::fs::remove_file(host.path("out"));
            // The one that made it may have removed it by now.
            if run(&["restore", &uid, "out"], &[0, 4]).code == 0 {
                assert!(host.read("out") == disk, "host {number}: {uid} differs");
            }
        }
        if own.len() > 1 {
            let oldest = own.remove(0);
            // From here on nobody may rely on it; somebody may be at it, and then it stays.
            let kept = all.lock().unwrap().remove(&oldest);
            if run(&["rm", "-f", &oldest], &[0, 3]).code == 3 {
                all.lock().unwrap().extend(kept.map(|disk| (oldest, disk)));
            }
        }
        // Another one may be at it.
        run(&["cleanup", "--compact-below", "100"], &[0, 7]);
        // A version may go while it is read.
        run(&["scrub", "--all"], &[0, 4]);
        run(&["check"], &[0]);
    }
}

#[test]
fn hosts_do_all_that_there_is_in_one_bucket_at_once_and_nothing_is_lost() {
    let bucket = Bucket::new();
    let hosts: Vec<Place> = (0..3).map(|_| host(&bucket)).collect();
    hosts[0].ok(&["init"]);
    let all = Mutex::default();
    std::thread::scope(|scope| {
        for (number, host) in hosts.iter().enumerate() {
            let all = &all;
            scope.spawn(move || work(host, number, if is_long() { 20 } else { 2 }, all));
        }
    });
    let all = all.into_inner().unwrap();
    let fresh = host(&bucket);
    let listed: BTreeMap<String, String> = listed(&fresh).into_iter().collect();
    assert!(all.len() >= hosts.len());
    assert_eq!(listed.keys().collect::<Vec<_>>(), all.keys().collect::<Vec<_>>());
    assert!(listed.values().all(|state| state == "valid"), "{listed:?}");
    for (uid, disk) in &all {
        restores(&fresh, uid, disk);
        hosts[0].ok(&["rm", "-f", uid]);
    }
    hosts[1].ok(&["cleanup"]);
    fresh.ok(&["check"]);
    assert_eq!(bucket.objects("packs/"), Vec::<String>::new());
}

#[test]
fn an_outage_in_the_middle_of_a_backup_is_waited_out() {
    let bucket = Bucket::new();
    let proxy = Proxy::start(bucket.address(), 1).unwrap();
    let place = bucket.place_in(&fast_folder(1 << 30), &format!("http://{}", proxy.address()), "");
    place.ok(&["init"]);
    let disk = image(5);
    place.write("disk", &disk);
    let before = proxy.counts().0;
    let child = place.spawn(&["-m", "backup", "disk", "vm"]);
    while proxy.counts().0 == before {
        std::thread::yield_now();
    }
    proxy.set_down(true);
    let down = proxy.counts().0;
    while proxy.counts().0 < down + 3 {
        std::thread::yield_now();
    }
    proxy.set_down(false);
    let run = run_of(child.wait_with_output().unwrap());
    assert_eq!(run.code, 0, "{run:#?}");
    restores(&place, run.stdout.trim(), &disk);
}

#[test]
fn an_outage_that_lasts_ends_the_backup_so_that_it_can_be_continued() {
    let bucket = Bucket::new();
    let proxy = Proxy::start(bucket.address(), 1).unwrap();
    let more = "store_patience = \"1s\"\ncheckpoint_interval = \"1s\"\nbandwidth_write = \"2MiB\"\n";
    let place = bucket.place_in(&fast_folder(1 << 30), &format!("http://{}", proxy.address()), more);
    place.ok(&["init"]);
    let mut disk = vec![0; 80 << 20];
    Pattern::Random.fill(7, 0, &mut disk);
    place.write("disk", &disk);
    let child = place.spawn(&["-m", "backup", "disk", "vm"]);
    // Until there is something to continue.
    while place.run(&["-ms", "ls", "-f", "uid"]).stdout.is_empty() {
        std::thread::yield_now();
    }
    proxy.set_down(true);
    let run = run_of(child.wait_with_output().unwrap());
    assert_eq!(run.code, 7, "{run:#?}");
    proxy.set_down(false);
    let config = String::from_utf8(place.read("backy2.toml")).unwrap();
    place.write("backy2.toml", config.replace("bandwidth_write = \"2MiB\"\n", "").as_bytes());
    let again = run_named(&place, &run.stderr, "run: ");
    assert_eq!(again.code, 0, "{again:#?}");
    let versions = listed(&place);
    assert_eq!(versions.len(), 1, "{versions:?}");
    restores(&place, &versions[0].0, &disk);
}

#[test]
fn over_a_bad_network_everything_comes_back_right() {
    let bucket = Bucket::new();
    let proxy = Proxy::start(bucket.address(), seed()).unwrap();
    let endpoint = format!("http://{}", proxy.address());
    let place = bucket.place_in(&fast_folder(1 << 30), &endpoint, "s3_timeout = \"2s\"\n");
    place.ok(&["init"]);
    proxy.trouble(200, &[Trouble::Cut, Trouble::Reset, Trouble::Truncate, Trouble::Delay, Trouble::Stall]);
    for round in 0..if is_long() { 20 } else { 2 } {
        let disk = image(round);
        place.write("disk", &disk);
        let uid = place.backup(&["disk", "vm"]);
        restores(&place, &uid, &disk);
    }
    let (connections, troubled) = proxy.counts();
    println!("{troubled} of {connections} connections had trouble");
}

#[test]
fn what_is_wrong_with_a_bucket_is_said_with_its_code() {
    let bucket = Bucket::new();
    let place = host(&bucket);
    let message = place.fails(4, &["ls"]);
    assert!(message.contains(&bucket.url()), "{message}");
    place.ok(&["init"]);
    let message = place.fails(3, &["init"]);
    assert!(message.contains("not empty"), "{message}");
    let message = place.fails(4, &["--repository", "s3://no-such-bucket-here/x", "init"]);
    assert!(message.contains("bucket"), "{message}");
    place.fails(2, &["--repository", "s3://id:open-secret@bucket", "ls"]);
    let text = String::from_utf8(place.read("backy2.toml")).unwrap();
    place.write("backy2.toml", text.replace(&bucket.secret_access_key, "another").as_bytes());
    let message = place.fails(1, &["ls"]);
    assert!(message.contains("SignatureDoesNotMatch"), "{message}");
    place.write("backy2.toml", text.replace("s3_access_key_id", "#").as_bytes());
    let message = place.fails(2, &["ls"]);
    assert!(message.contains("belong together"), "{message}");
}

#[test]
fn the_secret_key_is_shown_nowhere() {
    let bucket = Bucket::new();
    let place = host(&bucket);
    place.write("disk", &image(1));
    for arguments in [
        &["-d", "init"][..],
        &["-d", "backup", "disk", "vm"],
        &["-d", "ls"],
        &["-d", "config", "show"],
        &["-d", "restore", "vm@latest", "out"],
        &["-d", "init"],
    ] {
        let run = place.run(arguments);
        let shown = format!("{}{}", run.stdout, run.stderr);
        assert!(!shown.contains(&bucket.secret_access_key), "{arguments:?}: {shown}");
        assert!(!shown.contains("Signature="), "{arguments:?}: {shown}");
    }
    let mut command = place.command(&["backup", "disk", "vm"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let line = std::fs::read(format!("/proc/{}/cmdline", child.id())).unwrap_or_default();
    assert!(!String::from_utf8_lossy(&line).contains(&bucket.secret_access_key));
    assert!(child.wait().unwrap().success());
}
