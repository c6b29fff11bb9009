//! `backy2 config show`: what is in force, and where it comes from.

use crate::app::App;
use crate::config::KEYS;
use crate::exit::{Exit, Failure};
use crate::output::{Cell, Column, select};

struct Row {
    key: &'static str,
    value: String,
    origin: String,
}

const COLUMNS: &[Column<Row>] = &[
    Column { name: "key", value: |row| Cell::Text(row.key.to_owned()) },
    Column { name: "value", value: |row| Cell::Text(row.value.clone()) },
    Column { name: "origin", value: |row| Cell::Text(row.origin.clone()) },
];

pub(super) fn run(app: &App) -> Result<Exit, Failure> {
    let row = |key: &crate::config::Key| Row {
        key: key.name,
        value: (key.show)(&app.config.values),
        origin: app.config.origin(key.name).to_string(),
    };
    let rows: Vec<Row> = KEYS.iter().map(row).collect();
    app.output.rows(COLUMNS, &select(COLUMNS, None, &["key", "value", "origin"])?, &rows)?;
    Ok(Exit::Success)
}
