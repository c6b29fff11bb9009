//! Slots: arbitrary bytes in place of a sealed slot, and arbitrary bodies as if their seal had opened.
#![no_main]

use std::sync::LazyLock;

use backy_core::codec::compression::{Codec, Decompressor};
use backy_core::ids::SlotNumber;
use backy_core::keys::{KeySet, Suite};
use backy_core::pack::{Directory, NewSlot, PackWriter, SlotKind, SlotOpener, SuffixRead, read_directory};
use libfuzzer_sys::fuzz_target;

static PACKS: LazyLock<[(KeySet, Directory); 2]> = LazyLock::new(|| [Suite::None, Suite::Aes256Gcm].map(pack));

fn pack(suite: Suite) -> (KeySet, Directory) {
    let (keys, environment) = (backy_fuzz::keys(suite), backy_fuzz::environment());
    let mut writer = PackWriter::new(&keys, backy_fuzz::PACK, Vec::new()).unwrap();
    let body = [5; 20];
    let fingerprint = Some(keys.fingerprint_key().fingerprint(&body));
    let slot = NewSlot { kind: SlotKind::Data, plain_length: 20, codec: Codec::Raw, body: &body, fingerprint };
    writer.append(slot, &environment).unwrap();
    let slot = NewSlot { kind: SlotKind::MapPage, plain_length: 500, codec: Codec::Zstd, fingerprint: None, ..slot };
    writer.append(slot, &environment).unwrap();
    let bytes = writer.finish(&environment).unwrap().bytes;
    match read_directory(&keys, backy_fuzz::PACK, None, &bytes).unwrap() {
        SuffixRead::Directory(directory) => (keys, directory),
        SuffixRead::NeedMore { .. } => unreachable!("the whole object was given"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut opener = SlotOpener::new().unwrap();
    let mut output = Vec::new();
    for (keys, directory) in PACKS.iter() {
        for (slot, locator) in directory.slots() {
            let mut sealed = bytes.to_vec();
            sealed.resize(locator.stored_length as usize, 0);
            assert!(opener.open(keys, directory, slot, &mut sealed, &mut output).is_err());
            assert!(output.is_empty());
        }
        assert!(opener.open(keys, directory, SlotNumber(2), &mut bytes.to_vec(), &mut output).is_err());
    }
    let Some((&length, body)) = bytes.split_first() else { return };
    let _ = Decompressor::new().unwrap().decompress(Codec::Zstd, body, &mut vec![0; usize::from(length) * 64]);
});
