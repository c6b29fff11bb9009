//! `cargo xtask sample`: files for the benchmark's images that look like those of a busy machine.
//!
//! All bytes follow from the seed, so two machines make the same files.

use crate::Result;
use crate::image::create;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;

const PAGE_BYTES: usize = 8192;
const PAGE_HEADER_BYTES: usize = 32;
const MIB: u64 = 1 << 20;
const BLOCK_BYTES: u64 = 16 << 10;
const MIB_LENGTH: usize = 1 << 20;
const WORDS: [&str; 64] = [
    "account", "active", "address", "amount", "balance", "billing", "city", "closed", "comment", "company", "country",
    "created", "currency", "customer", "delivery", "discount", "email", "error", "first", "group", "invoice", "item",
    "language", "last", "level", "login", "message", "method", "mobile", "note", "number", "open", "order", "origin",
    "paid", "payment", "pending", "person", "phone", "price", "product", "quantity", "queue", "rate", "reason",
    "refund", "region", "remote", "request", "result", "sales", "server", "shipped", "state", "status", "street",
    "subject", "target", "ticket", "title", "total", "updated", "user", "version",
];

/// Writes a file that does not compress.
pub fn random(path: &str, size_mib: u64, seed: &str) -> Result<()> {
    let mut dice = Dice::new(seed);
    let mut file = create(path)?;
    let mut piece = vec![0; MIB_LENGTH];
    for _ in 0..size_mib {
        dice.fill(&mut piece);
        file.write_all(&piece)?;
    }
    Ok(())
}

/// Writes islands of 1 MiB into a sparse file, evenly scattered and not aligned to each other.
pub fn islands(path: &str, count: u64, seed: &str) -> Result<()> {
    let mut dice = Dice::new(seed);
    let file = OpenOptions::new().write(true).open(path).map_err(|error| format!("open {path}: {error}"))?;
    let distance_mib = file.metadata()?.len() / MIB / count.max(1);
    if distance_mib < 8 {
        return Err(format!("{path} is too small for {count} islands").into());
    }
    let mut piece = vec![0; MIB_LENGTH];
    for island in 0..count {
        dice.fill(&mut piece);
        file.write_all_at(&piece, (island * distance_mib + island % 5) * MIB)?;
    }
    Ok(())
}

/// Writes blocks of 16 KiB into a sparse file, evenly scattered, none beside another.
pub fn lone(path: &str, count: u64, seed: &str) -> Result<()> {
    let mut dice = Dice::new(seed);
    let file = OpenOptions::new().write(true).open(path).map_err(|error| format!("open {path}: {error}"))?;
    let distance = file.metadata()?.len() / BLOCK_BYTES / count.max(1);
    if distance < 2 {
        return Err(format!("{path} is too small for {count} blocks").into());
    }
    let mut block = vec![0; usize::try_from(BLOCK_BYTES)?];
    for number in 0..count {
        dice.fill(&mut block);
        file.write_all_at(&block, number * distance * BLOCK_BYTES)?;
    }
    Ok(())
}

/// Writes a database-like file: pages filled to 64 to 98 % with rows of words and random values, zstd -1 about 2:1.
pub fn database(path: &str, size_mib: u64, seed: &str) -> Result<()> {
    let mut dice = Dice::new(seed);
    let mut file = BufWriter::new(create(path)?);
    for number in 0..size_mib * MIB / PAGE_BYTES as u64 {
        file.write_all(&page(&mut dice, number, 1))?;
    }
    Ok(file.flush()?)
}

/// Writes random pages of such a file again: 70 % fall on a hot tenth, the others anywhere.
pub fn update(path: &str, pages: u64, seed: &str) -> Result<()> {
    let mut dice = Dice::new(seed);
    let file = OpenOptions::new().write(true).open(path).map_err(|error| format!("open {path}: {error}"))?;
    let total = file.metadata()?.len() / PAGE_BYTES as u64;
    if total < 10 {
        return Err(format!("{path} has less than ten pages").into());
    }
    let hot: Vec<u64> = (0..total / 10).map(|_| dice.below(total)).collect();
    for _ in 0..pages {
        let is_hot = dice.below(100) < 70;
        let chosen = if is_hot { hot.get(dice.pick(hot.len())).copied() } else { None };
        let number = chosen.unwrap_or_else(|| dice.below(total));
        file.write_all_at(&page(&mut dice, number, 2), number * PAGE_BYTES as u64)?;
    }
    Ok(())
}

/// Appends lines of a web server's log.
pub fn log(path: &str, lines: u64, seed: &str) -> Result<()> {
    let mut dice = Dice::new(seed);
    let file =
        OpenOptions::new().append(true).create(true).open(path).map_err(|error| format!("open {path}: {error}"))?;
    let mut file = BufWriter::new(file);
    let mut second = dice.below(20) * 86_400;
    for _ in 0..lines {
        second += dice.below(3);
        writeln!(
            file,
            "2026-11-{:02}T{:02}:{:02}:{:02}Z vm nginx[{}]: 10.{}.{}.{} \"GET /api/v1/{}/{} HTTP/1.1\" {} {} \"{:016x}{:016x}\"",
            1 + second / 86_400 % 28,
            second / 3600 % 24,
            second / 60 % 60,
            second % 60,
            900 + dice.below(90),
            dice.below(256),
            dice.below(256),
            dice.below(256),
            ["order", "user", "item", "cart"][dice.pick(4)],
            dice.below(1_000_000),
            [200, 200, 304, 404][dice.pick(4)],
            dice.below(90_000),
            dice.next(),
            dice.next(),
        )?;
    }
    Ok(file.flush()?)
}

fn page(dice: &mut Dice, number: u64, round: u64) -> Vec<u8> {
    let fill_bytes = 5200 + dice.pick(2800);
    let mut page = Vec::with_capacity(PAGE_BYTES + 256);
    page.extend_from_slice(&round.to_le_bytes());
    page.extend_from_slice(&number.to_le_bytes());
    page.resize(PAGE_HEADER_BYTES, 0);
    while page.len() < fill_bytes {
        page.extend_from_slice(&(dice.next() & 0xff_ffff_ffff).to_le_bytes());
        page.extend_from_slice(&dice.below(1 << 20).to_le_bytes()[..4]);
        for _ in 0..3 + dice.below(6) {
            page.extend_from_slice(WORDS[dice.pick(WORDS.len())].as_bytes());
            page.push(b'|');
        }
        let mut value = [0; 64];
        dice.fill(&mut value);
        page.extend(value.iter().take(16 + dice.pick(48)));
    }
    page.resize(PAGE_BYTES, 0);
    page
}

/// A stream of bytes that follows from a seed: BLAKE3 as an extendable output.
struct Dice {
    stream: blake3::OutputReader,
    buffer: [u8; 8192],
    used: usize,
}

impl Dice {
    fn new(seed: &str) -> Dice {
        let stream = blake3::Hasher::new().update(b"backy2 sample ").update(seed.as_bytes()).finalize_xof();
        Dice { stream, buffer: [0; 8192], used: 8192 }
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        self.stream.fill(bytes);
    }

    fn next(&mut self) -> u64 {
        if self.used == self.buffer.len() {
            self.stream.fill(&mut self.buffer);
            self.used = 0;
        }
        let mut number = [0; 8];
        number.copy_from_slice(&self.buffer[self.used..self.used + 8]);
        self.used += 8;
        u64::from_le_bytes(number)
    }

    /// A number below `limit`, which is small beside 2^64, so that the bias does not matter here.
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// The same for an index.
    fn pick(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        for name in ["one", "two"] {
            database(&path(name), 1, "seed").unwrap();
            update(&path(name), 20, "day").unwrap();
            log(&path(name), 10, "day").unwrap();
        }
        let one = std::fs::read(path("one")).unwrap();
        assert!(one.len() > 1 << 20);
        assert!(one == std::fs::read(path("two")).unwrap());
    }

    #[test]
    fn islands_need_room() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4 * MIB).unwrap();
        assert!(islands(file.path().to_str().unwrap(), 4, "seed").is_err());
    }
}
