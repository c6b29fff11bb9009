//! The output of `rbd diff --format=json`.
//!
//! ```text
//! [{"offset":0,"length":4194304,"exists":"true"}, ...]
//! ```
//!
//! `exists` is a boolean, or, from older releases of Ceph, the string `"true"` or `"false"`. All of the input is read,
//! however it is broken into lines, and all of it must be right: a hint that is lost would be a change that is not
//! backed up. Unknown fields are ignored. Order and overlaps are kept as they are; elements of length 0 are dropped.

use std::fmt;
use std::io::{BufReader, Read};

use backy_core::hint::{Hint, HintState};
use backy_core::units::ByteRange;
use backy_core::{Error, Result};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The longest input that is read, in bytes; about 20 million hints.
pub const INPUT_BYTES_MAX: u64 = 1 << 30;

/// Parses the whole input, and checks that no hint reaches beyond `volume_bytes` where that is known.
///
/// Memory grows with the hints, not with the input. Elements are counted from 1 in messages.
///
/// # Errors
/// `InvalidInput` for whatever is not such a list or is longer than [`INPUT_BYTES_MAX`]; the kind of the cause if the
/// input cannot be read.
pub fn parse(input: impl Read, volume_bytes: Option<u64>) -> Result<Vec<Hint>> {
    parse_bounded(input, volume_bytes, INPUT_BYTES_MAX)
}

fn parse_bounded(input: impl Read, volume_bytes: Option<u64>, input_bytes_max: u64) -> Result<Vec<Hint>> {
    let mut input = input.take(input_bytes_max.saturating_add(1));
    let mut progress = Progress { hints: Vec::new(), element: 0, volume_bytes };
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(&mut input));
    let result = List(&mut progress).deserialize(&mut json).and_then(|()| json.end());
    if input.limit() == 0 {
        return Err(Error::invalid(format!("read rbd diff: it is longer than {input_bytes_max} bytes")));
    }
    match result {
        Ok(()) => Ok(progress.hints),
        Err(error) if error.is_io() => Err(Error::io("read rbd diff", error.into())),
        Err(error) if progress.element > 0 => {
            let element = progress.element;
            Err(Error::invalid(format!("read rbd diff: element {element} is wrong: {error}")))
        }
        Err(error) => Err(Error::invalid(format!("read rbd diff: {error}"))),
    }
}

struct Progress {
    hints: Vec<Hint>,
    /// The element that is being read, from 1; 0 outside of the list.
    element: u64,
    volume_bytes: Option<u64>,
}

impl Progress {
    fn push(&mut self, hint: Hint) -> Result<(), String> {
        let ByteRange { offset_bytes, length_bytes } = hint.range;
        let end_bytes = offset_bytes
            .checked_add(length_bytes)
            .ok_or_else(|| format!("offset {offset_bytes} and length {length_bytes} do not fit 64 bits"))?;
        match self.volume_bytes {
            Some(volume_bytes) if end_bytes > volume_bytes => {
                Err(format!("it ends at {end_bytes}, beyond the end of the volume at {volume_bytes}"))
            }
            _ => {
                self.hints.extend((length_bytes > 0).then_some(hint));
                Ok(())
            }
        }
    }
}

/// The list, as serde sees it.
struct List<'a>(&'a mut Progress);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of {\"offset\", \"length\", \"exists\"}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        loop {
            self.0.element += 1;
            let Some(hint) = elements.next_element_seed(Element)? else {
                break;
            };
            self.0.push(hint).map_err(A::Error::custom)?;
        }
        self.0.element = 0;
        Ok(())
    }
}

/// One element of the list, as serde sees it: an object, and not, as serde derives it, an array as well.
struct Element;

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Offset,
    Length,
    Exists,
    #[serde(other)]
    Other,
}

impl<'de> DeserializeSeed<'de> for Element {
    type Value = Hint;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Hint, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Element {
    type Value = Hint;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with offset, length and exists")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Hint, A::Error> {
        let (mut offset_bytes, mut length_bytes, mut state) = (None, None, None);
        while let Some(field) = fields.next_key()? {
            let (name, is_repeated) = match field {
                Field::Offset => ("offset", offset_bytes.replace(fields.next_value::<u64>()?).is_some()),
                Field::Length => ("length", length_bytes.replace(fields.next_value::<u64>()?).is_some()),
                Field::Exists => ("exists", state.replace(fields.next_value_seed(Exists)?).is_some()),
                Field::Other => {
                    fields.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if is_repeated {
                return Err(A::Error::duplicate_field(name));
            }
        }
        let offset_bytes = offset_bytes.ok_or_else(|| A::Error::missing_field("offset"))?;
        let length_bytes = length_bytes.ok_or_else(|| A::Error::missing_field("length"))?;
        let state = state.ok_or_else(|| A::Error::missing_field("exists"))?;
        Ok(Hint { range: ByteRange { offset_bytes, length_bytes }, state })
    }
}

/// The value of `exists`, as serde sees it.
struct Exists;

impl<'de> DeserializeSeed<'de> for Exists {
    type Value = HintState;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<HintState, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Exists {
    type Value = HintState;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, \"true\" or \"false\"")
    }

    fn visit_bool<E: serde::de::Error>(self, exists: bool) -> Result<HintState, E> {
        Ok(if exists { HintState::Changed } else { HintState::Discarded })
    }

    fn visit_str<E: serde::de::Error>(self, exists: &str) -> Result<HintState, E> {
        match exists {
            "true" => Ok(HintState::Changed),
            "false" => Ok(HintState::Discarded),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(exists), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backy_core::ErrorKind;
    use proptest::prelude::*;

    fn hint(offset_bytes: u64, length_bytes: u64, state: HintState) -> Hint {
        Hint { range: ByteRange { offset_bytes, length_bytes }, state }
    }

    fn message(text: &str, volume_bytes: Option<u64>) -> String {
        let error = parse(text.as_bytes(), volume_bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        error.to_string()
    }

    #[test]
    fn both_spellings_of_exists_and_any_layout_are_read_to_the_end() {
        let text = r#"
            [
              {"offset": 4194304, "length": 4096, "exists": "true"},
              {"exists": false, "length": 8192, "offset": 0},
              {"offset": 0, "length": 0, "exists": true},

              {"offset": 16, "length": 5, "exists": true, "object": {"name": [1, null]}},
              {"offset": 17, "length": 1, "exists": "false"}
            ]
        "#;
        let expected = [
            hint(4 << 20, 4096, HintState::Changed),
            hint(0, 8192, HintState::Discarded),
            hint(16, 5, HintState::Changed),
            hint(17, 1, HintState::Discarded),
        ];
        assert_eq!(parse(text.as_bytes(), Some(5 << 20)).unwrap(), expected);
        assert_eq!(parse(&b"[]\n"[..], Some(0)).unwrap(), []);
    }

    #[test]
    fn wrong_elements_are_refused_by_their_number() {
        let wrong = [
            r#"{"offset":-1,"length":1,"exists":true}"#,
            r#"{"offset":1,"length":-1,"exists":true}"#,
            r#"{"offset":"1","length":1,"exists":true}"#,
            r#"{"offset":1.5,"length":1,"exists":true}"#,
            r#"{"offset":1e3,"length":1,"exists":true}"#,
            r#"{"offset":18446744073709551616,"length":1,"exists":true}"#,
            r#"{"offset":18446744073709551615,"length":1,"exists":true}"#,
            r#"{"offset":1,"length":1,"exists":"yes"}"#,
            r#"{"offset":1,"length":1,"exists":"True"}"#,
            r#"{"offset":1,"length":1,"exists":1}"#,
            r#"{"offset":1,"length":1,"exists":null}"#,
            r#"{"offset":1,"length":1}"#,
            r#"{"offset":1,"exists":true}"#,
            r#"{"length":1,"exists":true}"#,
            r#"{"offset":1,"offset":1,"length":1,"exists":true}"#,
            "[1,1,true]",
            "null",
            "7",
            "{",
        ];
        for element in wrong {
            let text = format!(r#"[{{"offset":0,"length":1,"exists":true}}, {element}]"#);
            assert!(message(&text, None).contains("element 2 is wrong"), "{element}: {}", message(&text, None));
        }
    }

    #[test]
    fn what_is_no_complete_list_is_refused() {
        let one = r#"{"offset":0,"length":1,"exists":true}"#;
        let wrong = [
            String::new(),
            " \n".into(),
            "{}".into(),
            "null".into(),
            one.into(),
            format!("[{one}"),
            format!("[{one},"),
            format!("[{one},]"),
            format!("[{one}] x"),
            format!("[{one}]\n[{one}]"),
        ];
        for text in wrong {
            message(&text, None);
        }
        assert!(!message("[] x", None).contains("element"));
    }

    #[test]
    fn hints_beyond_the_end_are_refused() {
        let text = r#"[{"offset":10,"length":10,"exists":false}]"#;
        assert_eq!(parse(text.as_bytes(), Some(20)).unwrap().len(), 1);
        assert!(message(text, Some(19)).contains("element 1 is wrong: it ends at 20, beyond"));
        message(r#"[{"offset":21,"length":0,"exists":false}]"#, Some(20));
    }

    #[test]
    fn too_long_an_input_is_refused() {
        let text = "[{\"offset\":0,\"length\":1,\"exists\":true}]";
        let length = text.len() as u64;
        assert_eq!(parse_bounded(text.as_bytes(), None, length).unwrap().len(), 1);
        let error = parse_bounded(text.as_bytes(), None, length - 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("longer than"), "{error}");
    }

    #[test]
    fn a_failing_reader_is_told_from_wrong_input() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::PermissionDenied.into())
            }
        }
        let error = parse(b"[".chain(Failing), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_printed_is_parsed(
            hints in prop::collection::vec((0..1u64 << 50, 1..1u64 << 40, any::<bool>(), any::<bool>()), 0..50),
        ) {
            let print = |(offset, length, exists, is_quoted): &(u64, u64, bool, bool)| {
                let exists = if *is_quoted { format!("\"{exists}\"") } else { exists.to_string() };
                format!("{{\"offset\":{offset},\"length\":{length},\"exists\":{exists}}}")
            };
            let text = format!("[{}]", hints.iter().map(print).collect::<Vec<_>>().join(",\n"));
            let expected: Vec<Hint> = hints
                .iter()
                .map(|(offset, length, exists, _)| {
                    hint(*offset, *length, if *exists { HintState::Changed } else { HintState::Discarded })
                })
                .collect();
            prop_assert_eq!(parse(text.as_bytes(), None).unwrap(), expected);
        }

        #[test]
        fn a_list_that_is_cut_short_is_refused(cut in 0usize..77) {
            let text = r#"[{"offset":12,"length":34,"exists":true},{"offset":5,"length":6,"exists":false}]"#;
            prop_assert!(parse(&text.as_bytes()[..cut], None).is_err());
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes[..], Some(1 << 40));
        }

        #[test]
        fn near_misses_do_no_harm(text in r#"[\[\]{},:"a-z0-9\\ .-]{0,80}"#) {
            let _ = parse(text.as_bytes(), Some(1 << 40));
        }
    }
}
