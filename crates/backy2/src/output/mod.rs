//! Results on standard output: a table for people, lines or JSON for machines.
//!
//! ```text
//!  rows --columns--> cells --> table      for people: local time, short uids, yes and no
//!                          --> machine    one line per row, cells divided by |, UTC, 0 and 1
//!                          --> json       one list of objects, UTC by RFC 3339, true and false
//! ```

mod cell;

use std::io::Write as _;

use backy_core::Error;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

pub use self::cell::Cell;
use self::cell::{json, machine, text};
use crate::exit::Failure;

/// Whom results are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// People.
    Table,
    /// Scripts: `-m`.
    Machine,
    /// Programs: `--json`.
    Json,
}

/// How results are written.
#[derive(Clone, Debug)]
pub struct Output {
    /// Whom they are for.
    pub format: Format,
    /// Leave the line with the names of the columns away.
    pub skips_header: bool,
    /// Write sizes as `4.0 KiB` in tables and machine output.
    pub is_human_readable: bool,
    /// The time zone of tables.
    pub zone: TimeZone,
}

/// A column of rows of type `T`.
pub struct Column<T> {
    /// What `-f` calls it.
    pub name: &'static str,
    /// Takes its value from a row.
    pub value: fn(&T) -> Cell,
}

/// Finds the columns that `-f` names, or those of `defaults`.
pub fn select<'a, T>(
    columns: &'a [Column<T>],
    fields: Option<&str>,
    defaults: &[&str],
) -> Result<Vec<&'a Column<T>>, Failure> {
    let find = |name: &str| columns.iter().find(|column| column.name == name);
    let Some(fields) = fields else { return Ok(defaults.iter().filter_map(|name| find(name)).collect()) };
    let known = || columns.iter().map(|column| column.name).collect::<Vec<_>>().join(",");
    let chosen = fields.split(',').map(|name| {
        let name = name.trim();
        find(name).ok_or_else(|| {
            Failure::usage(format!("there is no field {name:?}")).hint(format!("fields are {}", known()))
        })
    });
    chosen.collect()
}

impl Output {
    /// Says whether messages for people are wanted besides the result.
    pub fn is_for_people(&self) -> bool {
        self.format == Format::Table
    }

    /// Writes rows as a table, lines or a list. JSON has all of `columns`, the others those of `chosen`.
    pub fn rows<T>(&self, columns: &[Column<T>], chosen: &[&Column<T>], rows: &[T]) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.table(chosen, rows),
            Format::Machine => self.lines(chosen, rows),
            Format::Json => {
                let list = rows.iter().map(|row| object(columns, row)).collect();
                self.json(&Value::Array(list))
            }
        }
    }

    /// Writes one JSON value.
    pub fn json(&self, value: &Value) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Error::with_source(backy_core::ErrorKind::Io, "write JSON", error))?;
        line(&text)
    }

    fn lines<T>(&self, chosen: &[&Column<T>], rows: &[T]) -> Result<(), Failure> {
        let mut lines = String::new();
        if !self.skips_header {
            lines.push_str(&chosen.iter().map(|column| column.name).collect::<Vec<_>>().join("|"));
            lines.push('\n');
        }
        for row in rows {
            let cells = chosen.iter().map(|column| machine(&(column.value)(row), self.is_human_readable));
            lines.push_str(&cells.collect::<Vec<_>>().join("|"));
            lines.push('\n');
        }
        write(&lines)
    }

    fn table<T>(&self, chosen: &[&Column<T>], rows: &[T]) -> Result<(), Failure> {
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if !self.skips_header {
            table.set_header(chosen.iter().map(|column| column.name));
        }
        let mut has_numbers = vec![false; chosen.len()];
        for row in rows {
            let cells: Vec<Cell> = chosen.iter().map(|column| (column.value)(row)).collect();
            for (cell, has_numbers) in cells.iter().zip(&mut has_numbers) {
                *has_numbers |= cell.is_number();
            }
            table.add_row(cells.iter().map(|cell| text(cell, self.is_human_readable, &self.zone)));
        }
        for (column, has_numbers) in table.column_iter_mut().zip(has_numbers) {
            if has_numbers {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        // Cells are padded on both sides; at the edges of a line that is of no use.
        let shown: String =
            table.lines().map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(&line).trim_end())).collect();
        if rows.is_empty() && self.skips_header { Ok(()) } else { write(&shown) }
    }
}

/// Makes an object of all columns of a row.
pub fn object<T>(columns: &[Column<T>], row: &T) -> Value {
    let field = |column: &Column<T>| (json_name(column.name), json(&(column.value)(row)));
    Value::Object(columns.iter().map(field).collect::<Map<String, Value>>())
}

/// `size bytes` is `size_bytes`, `duration (s)` is `duration_s`.
fn json_name(name: &str) -> String {
    name.chars()
        .filter(|letter| !"()".contains(*letter))
        .map(|letter| if letter == ' ' { '_' } else { letter })
        .collect()
}

/// Writes one line to standard output.
pub fn line(text: &str) -> Result<(), Failure> {
    write(&format!("{text}\n"))
}

/// Writes to standard output. A reader that has gone (`| head`) is no error.
fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::from(Error::io("write to standard output", error)).with_exit(crate::exit::Exit::Other))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column<u64>] = &[
        Column { name: "size bytes", value: |row| Cell::Bytes(*row) },
        Column { name: "duration (s)", value: |row| Cell::Seconds(*row) },
    ];

    #[test]
    fn fields_are_chosen_by_name_and_unknown_ones_refused() {
        let chosen = select(COLUMNS, Some("duration (s), size bytes"), &[]).unwrap();
        assert_eq!(chosen.iter().map(|column| column.name).collect::<Vec<_>>(), ["duration (s)", "size bytes"]);
        assert_eq!(select(COLUMNS, None, &["size bytes"]).unwrap().len(), 1);
        assert!(select(COLUMNS, Some("size"), &[]).is_err());
        assert!(select(COLUMNS, Some(""), &[]).is_err());
    }

    #[test]
    fn json_has_plain_names_and_numbers() {
        assert_eq!(object(COLUMNS, &1500).to_string(), r#"{"duration_s":1.5,"size_bytes":1500}"#);
    }
}
