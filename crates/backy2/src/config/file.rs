//! Reading a configuration file: TOML with plain keys, each with the line that it stands in.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::keys::{KEYS, Key};
use super::values::Given;
use crate::exit::Failure;

/// What is wrong with a file.
pub(super) enum Problem {
    /// The file itself: the line, if it is known, and what is wrong there.
    Text(Option<usize>, String),
    /// A value; the failure says all.
    Value(Failure),
}

impl Problem {
    /// Returns what the user sees.
    pub(super) fn failure(self, path: &Path) -> Failure {
        match self {
            Problem::Text(Some(line), text) => Failure::usage(format!("{}:{line}: {text}", path.display())),
            Problem::Text(None, text) => Failure::usage(format!("{}: {text}", path.display())),
            Problem::Value(failure) => failure,
        }
    }
}

/// Hands each key, its value and its line, from 1, to `take`.
pub(super) fn read(
    text: &str,
    take: &mut dyn FnMut(&'static Key, &Given<'_>, usize) -> Result<(), Failure>,
) -> Result<(), Problem> {
    let line_of = |offset: usize| text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map(|span| line_of(span.start));
        Problem::Text(line, error.message().to_owned())
    })?;
    for (name, value) in table.get_ref() {
        let line = line_of(name.span().start);
        let name: &str = name.get_ref();
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            return Err(Problem::Text(Some(line), unknown(name)));
        };
        let number;
        let given = match value.get_ref() {
            DeValue::String(text) => Given::Text(text),
            DeValue::Integer(integer) => {
                number = i64::from_str_radix(integer.as_str(), integer.radix());
                number.map_or(Given::Other("a number of that size"), Given::Integer)
            }
            DeValue::Float(float) => float.as_str().parse().map_or(Given::Other("that number"), Given::Float),
            DeValue::Boolean(true) => Given::Other("true"),
            DeValue::Boolean(false) => Given::Other("false"),
            DeValue::Datetime(_) => Given::Other("a date"),
            DeValue::Array(_) => Given::Other("a list"),
            DeValue::Table(_) => Given::Other("a table"),
        };
        take(key, &given, line).map_err(Problem::Value)?;
    }
    Ok(())
}

fn unknown(name: &str) -> String {
    let nearest = KEYS.iter().map(|key| (distance(name, key.name), key.name)).min();
    match nearest {
        Some((distance, key)) if distance <= name.chars().count() / 3 + 1 => {
            format!("there is no key {name:?}; did you mean {key}?")
        }
        _ => format!("there is no key {name:?}; `backy2 config show` lists all"),
    }
}

/// How many letters must be put in, taken out or changed to make one word of the other (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, letter) in left.chars().take(64).enumerate() {
        let mut diagonal = line;
        let mut before = line + 1;
        for (other, cell) in right.iter().zip(row.iter_mut().skip(1)) {
            let changed = diagonal + usize::from(*other != letter);
            diagonal = *cell;
            before = changed.min(diagonal + 1).min(before + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_typing_mistakes() {
        for (left, right, count) in
            [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("repositry", "repository", 1)]
        {
            assert_eq!(distance(left, right), count, "{left} {right}");
        }
    }
}
