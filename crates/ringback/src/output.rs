//! How commands print what they found: a table, JSON, or ids alone.

use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde_json::Value;

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// The API's own JSON, one document.
    Json,
    /// Ids alone, one a line.
    Id,
}

/// A column: its heading, and where in an item its value is.
pub type Column = (&'static str, &'static str);

/// Prints a list.
pub fn items(format: Format, items: &[Value], columns: &[Column]) {
    match format {
        Format::Json => println!("{:#}", Value::Array(items.to_vec())),
        Format::Id => items.iter().for_each(print_id),
        Format::Table if items.is_empty() => println!("none"),
        Format::Table => println!("{}", table(items, columns)),
    }
}

/// Prints one thing, all its fields.
pub fn item(format: Format, item: &Value) {
    match (format, item) {
        (Format::Id, _) => print_id(item),
        (Format::Table, Value::Object(fields)) => {
            let width = fields.keys().map(String::len).max().unwrap_or(0);
            for (name, value) in fields {
                println!("{name:width$}  {}", cell(value));
            }
        }
        _ => println!("{item:#}"),
    }
}

fn print_id(item: &Value) {
    println!("{}", cell(&item["id"]));
}

fn table(items: &[Value], columns: &[Column]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|(heading, _)| *heading));
    for item in items {
        let value = |(_, pointer): &Column| item.pointer(pointer).map_or_else(String::new, cell);
        table.add_row(columns.iter().map(value));
    }
    table
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().map(cell).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}
