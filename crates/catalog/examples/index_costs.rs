//! Measures what the fingerprint index costs: `cargo run --release --example index_costs -- <million keys> <folder>`.

use std::path::PathBuf;
use std::time::Instant;

use backy_catalog::{Catalog, Lookup, PackFact};
use backy_core::codec::fingerprint::Fingerprint;
use backy_core::ids::{EncryptionVersion, Generation, LeaseId, PackId, RepositoryId, SlotNumber};
use backy_core::names::PackName;

const VERSION: EncryptionVersion = EncryptionVersion(1);

fn main() -> backy_core::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let millions: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(4);
    let folder = arguments.next().map_or_else(|| std::env::temp_dir().join("index_costs"), PathBuf::from);
    let catalog = Catalog::open(&folder, RepositoryId::from_bytes([1; 16]))?;
    let pack_count = millions * 1_000_000 / 8192;
    println!("keys {} start {} KiB", pack_count * 8192, resident());
    let (begin, begin_cpu) = (Instant::now(), cpu_nanoseconds());
    let (mut slowest, mut fastest) = (0.0f64, f64::MAX);
    for pack in 0..pack_count {
        let fingerprints: Vec<_> = (0..8192).map(|slot| (SlotNumber(slot), fingerprint(pack, slot))).collect();
        let begin = Instant::now();
        catalog.insert_pack(&fact(pack), &fingerprints)?;
        let seconds = begin.elapsed().as_secs_f64();
        slowest = slowest.max(seconds);
        fastest = fastest.min(seconds);
    }
    let each = begin.elapsed().as_secs_f64() / (pack_count * 8192) as f64 * 1e6;
    let each_cpu = (cpu_nanoseconds() - begin_cpu) / (pack_count * 8192) as f64 / 1e3;
    println!(
        "insert {each:.3} us a key, of it {each_cpu:.3} us CPU, a pack {:.2} to {:.0} ms",
        fastest * 1e3,
        slowest * 1e3
    );
    println!("after inserts {} KiB, peak {} KiB", resident(), peak());
    drop(catalog);
    let begin = Instant::now();
    let catalog = Catalog::open(&folder, RepositoryId::from_bytes([1; 16]))?;
    println!("open {:.0} ms, {} KiB", begin.elapsed().as_secs_f64() * 1e3, resident());
    let segments = std::fs::read_dir(folder.join("segments")).map_or(0, Iterator::count);
    println!("{segments} segments");
    for (name, is_hit, range) in [
        ("hit", true, 0..pack_count),
        ("miss", false, 0..pack_count),
        ("hit newest 20 packs", true, pack_count - 20..pack_count),
    ] {
        let seconds = std::thread::scope(|scope| {
            let work = |thread: u64| measure(&catalog, range.clone(), is_hit, thread);
            let threads: Vec<_> = (0..2).map(|thread| scope.spawn(move || work(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(f64::NAN)).sum::<f64>() / 2.0
        });
        println!("{name}: {seconds:.3} us CPU a lookup in each of 2 threads");
        println!("{name}: {:.3} us CPU alone", measure(&catalog, range.clone(), is_hit, 7));
    }
    println!("at the end {} KiB, peak {} KiB", resident(), peak());
    Ok(())
}

fn measure(catalog: &Catalog, packs: std::ops::Range<u64>, is_hit: bool, seed: u64) -> f64 {
    let count = 300_000u64;
    let mut number = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let probes: Vec<Fingerprint> = (0..count)
        .map(|_| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pack = packs.start + (number >> 33) % (packs.end - packs.start);
            fingerprint(if is_hit { pack } else { pack + (1 << 40) }, u16::try_from((number >> 20) % 8192).unwrap_or(0))
        })
        .collect();
    let begin = cpu_nanoseconds();
    let found = probes.iter().filter(|probe| !matches!(catalog.lookup(VERSION, probe), Ok(Lookup::Unknown))).count();
    assert_eq!(found as u64, if is_hit { count } else { 0 });
    (cpu_nanoseconds() - begin) / count as f64 / 1e3
}

fn fingerprint(pack: u64, slot: u16) -> Fingerprint {
    Fingerprint(*blake3::hash(&[&pack.to_le_bytes()[..], &slot.to_le_bytes()].concat()).as_bytes())
}

fn fact(pack: u64) -> PackFact {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&pack.to_be_bytes());
    PackFact {
        name: PackName { id: PackId::from_bytes(id), generation: Generation(0), lease: LeaseId::from_bytes([1; 16]) },
        encryption_version: VERSION,
        slot_count: 8192,
        size_bytes: 32 << 20,
    }
}

/// The time that this thread was on a CPU: a loaded machine does not count.
fn cpu_nanoseconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(f64::NAN)
}

fn resident() -> String {
    status("VmRSS:")
}

fn peak() -> String {
    status("VmHWM:")
}

fn status(name: &str) -> String {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?");
    line.trim().trim_end_matches(" kB").to_owned()
}
