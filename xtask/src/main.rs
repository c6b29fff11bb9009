//! The chores of the workspace: `cargo xtask CHORE`.
//!
//! Nothing here is part of the product, and nothing here uses the product's crates: the floors that the benchmark
//! compares with, and the hints that the demo backs up with, come from code that shares no mistake with it.

mod tidy;

mod floor;
mod hints;
mod image;
mod sample;
mod study;

use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "\
usage: cargo xtask CHORE

  tidy                              check the rules of STYLE.md and ARCHITECTURE.md that a program can check

  hints OLD NEW                     changed ranges of image NEW against OLD, as `rbd diff --format json` prints them;
                                    `-` as OLD: against nothing
  sample random FILE MIB SEED       write a file that does not compress
  sample islands FILE COUNT SEED    write COUNT islands of 1 MiB, evenly scattered over the sparse FILE that exists
  sample lone FILE COUNT SEED       write COUNT blocks of 16 KiB, evenly scattered over the sparse FILE that exists
  sample database FILE MIB SEED     write a file that looks like a database of 8 KiB pages
  sample update FILE PAGES SEED     write PAGES random pages of such a file again, 70 % of them in a hot tenth
  sample log FILE LINES SEED        append LINES lines that look like a web server's log

  floor dense IMAGE FILE            write the data ranges of a sparse image one after the other
  floor hash IMAGE                  read the data ranges and hash them with BLAKE3, on all cores
  floor zeros FILE                  read all of a file and look whether it is zero, on all cores
  floor compress IMAGE FILE [BYTES] compress the data ranges with zstd -1 in frames of 1 MiB, or of BYTES, on all cores
  floor decompress FILE IMAGE       write the image that FILE was made of, sparse, on all cores
  floor study IMAGE...              bytes of the unique non-zero 16 KiB blocks after zstd -1, one by one, per image
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("error: {error}.");
            ExitCode::FAILURE
        }
    }
}

/// Does the chore; returns false when there is none of that name.
fn run(words: &[&str]) -> Result<bool> {
    match words {
        ["tidy"] => tidy::run(&root())?,
        ["hints", old, new] => hints::run(old, new, &mut std::io::stdout().lock())?,
        ["sample", "random", file, mib, seed] => sample::random(file, mib.parse()?, seed)?,
        ["sample", "islands", file, count, seed] => sample::islands(file, count.parse()?, seed)?,
        ["sample", "lone", file, count, seed] => sample::lone(file, count.parse()?, seed)?,
        ["sample", "database", file, mib, seed] => sample::database(file, mib.parse()?, seed)?,
        ["sample", "update", file, pages, seed] => sample::update(file, pages.parse()?, seed)?,
        ["sample", "log", file, lines, seed] => sample::log(file, lines.parse()?, seed)?,
        ["floor", "dense", image, file] => floor::dense(image, file)?,
        ["floor", "hash", image] => floor::hash(image)?,
        ["floor", "zeros", file] => floor::zeros(file)?,
        ["floor", "compress", image, file] => floor::compress(image, file, None)?,
        ["floor", "compress", image, file, frame_bytes] => floor::compress(image, file, Some(frame_bytes.parse()?))?,
        ["floor", "decompress", file, image] => floor::decompress(file, image)?,
        ["floor", "study", images @ ..] if !images.is_empty() => study::run(images)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// The workspace's folder: the one above this crate's.
fn root() -> std::path::PathBuf {
    let mut path = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}
