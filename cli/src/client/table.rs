//! Answers as tables for people or JSON for machines.

use crate::arguments::Format;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// Something that can be a row.
pub(crate) trait Row: Serialize {
    /// Headings.
    const HEADINGS: &'static [&'static str];
    /// Cells, as many as headings.
    fn cells(&self) -> Vec<String>;
}

/// Prints many.
pub(crate) fn print_rows<T: Row>(format: Format, rows: &[T]) {
    match format {
        Format::Json => print_json(&rows),
        Format::Table => println!("{}", table(rows)),
    }
}

/// Prints one.
pub(crate) fn print_row<T: Row>(format: Format, row: &T) {
    match format {
        Format::Json => print_json(row),
        Format::Table => println!("{}", table(std::slice::from_ref(row))),
    }
}

/// Prints anything as JSON.
pub(crate) fn print_json<T: Serialize>(value: &T) {
    println!(
        "{}",
        serde_json::to_string_pretty(value).expect("REST bodies can be written as JSON")
    );
}

/// The rows as a table.
pub(crate) fn table<T: Row>(rows: &[T]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(T::HEADINGS.iter().map(|heading| heading.to_uppercase()));
    for row in rows {
        table.add_row(row.cells());
    }
    table
}
