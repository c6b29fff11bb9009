//! Filters: a binary fuse filter (Graf, Lemire: "Binary Fuse Filters", 2022) over the key prefixes of a group of pages.
//!
//! A filter says "not here" for all but 0.4 % of foreign keys, with some 9.4 bits a key. Filters are of groups of at most
//! 130,944 keys, because building one needs about 40 bytes a key for a moment.

use backy_core::Result;
use backy_core::wire::{Reader, Writer};
use xorf::{BinaryFuse8, Filter as _};

/// The longest filter that is read, in bytes: twice what a group can need.
const FILTER_SIZE_BYTES_MAX: u32 = 1 << 19;

/// A filter of one group; one that could not be built says yes to everything.
pub(crate) struct Filter(Option<BinaryFuse8>);

impl Filter {
    /// Builds the filter of sorted prefixes.
    pub fn build(prefixes: &mut Vec<u64>) -> Filter {
        prefixes.dedup();
        Filter(BinaryFuse8::try_from(&prefixes[..]).ok())
    }

    /// Returns false only if the prefix was not among those it was built of.
    pub fn may_contain(&self, prefix: u64) -> bool {
        self.0.as_ref().is_none_or(|filter| filter.contains(&prefix))
    }

    /// Appends the filter: seed u64, segment length u32, length of all segments u32, size u32, bytes.
    pub fn encode(&self, writer: &mut Writer) {
        let Some(filter) = &self.0 else {
            writer.bytes(&[0; 20]);
            return;
        };
        writer.u64(filter.descriptor.seed);
        writer.u32(filter.descriptor.segment_length);
        writer.u32(filter.descriptor.segment_count_length);
        writer.u32(u32::try_from(filter.fingerprints.len()).unwrap_or(u32::MAX));
        writer.bytes(&filter.fingerprints);
    }

    /// Reads a filter, and checks that no key can lead out of it.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Filter> {
        let seed = reader.u64()?;
        let segment_length = reader.u32()?;
        let segment_count_length = reader.u32()?;
        let size = reader.u32()?;
        if size == 0 {
            return Ok(Filter(None));
        }
        let is_sound = size <= FILTER_SIZE_BYTES_MAX
            && segment_length.is_power_of_two()
            && segment_length <= size
            && segment_count_length > 0
            && segment_count_length.is_multiple_of(segment_length)
            && u64::from(size) >= u64::from(segment_count_length) + 2 * u64::from(segment_length);
        if !is_sound {
            return Err(reader.error("has a filter that cannot be"));
        }
        let fingerprints = reader.bytes(usize::try_from(size).unwrap_or(usize::MAX))?.into();
        // The library has no constructor from parts: make one of nothing, and give it these.
        let Ok(mut filter) = BinaryFuse8::try_from(&[][..]) else { return Ok(Filter(None)) };
        filter.descriptor.seed = seed;
        filter.descriptor.segment_length = segment_length;
        filter.descriptor.segment_length_mask = segment_length - 1;
        filter.descriptor.segment_count_length = segment_count_length;
        filter.fingerprints = fingerprints;
        Ok(Filter(Some(filter)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_filter_survives_storage_and_knows_its_keys() {
        for count in [0u64, 1, 2, 3, 5, 22, 1000] {
            let keys: Vec<u64> = (0..count).map(|i| (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
            let mut sorted = keys.clone();
            sorted.sort_unstable();
            sorted.extend(sorted.last().copied());
            let mut writer = Writer::new();
            Filter::build(&mut sorted).encode(&mut writer);
            let bytes = writer.into_bytes();
            let mut reader = Reader::new(&bytes, "a segment");
            let filter = Filter::decode(&mut reader).unwrap();
            reader.finish().unwrap();
            assert!(keys.iter().all(|&key| filter.may_contain(key)));
            let wrong = (0..10_000u64).filter(|i| filter.may_contain(i.wrapping_mul(0x1234_5678_9abc_def1))).count();
            assert!(count < 22 || wrong < 150, "{count} keys: {wrong}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn a_filter_of_any_bytes_answers_without_a_panic(
            seed: u64, length in 0u32..12, all in 0u32..40, extra in 0u32..9, bytes in prop::collection::vec(any::<u8>(), 300),
            keys in prop::collection::vec(any::<u64>(), 50),
        ) {
            let mut writer = Writer::new();
            writer.u64(seed);
            writer.u32(length);
            writer.u32(all);
            writer.u32((all + 2 * length + extra).saturating_sub(4));
            writer.bytes(&bytes);
            let bytes = writer.into_bytes();
            if let Ok(filter) = Filter::decode(&mut Reader::new(&bytes, "a segment")) {
                keys.iter().for_each(|&key| { filter.may_contain(key); });
            }
        }
    }
}
