//! How commands print what they found: a table, JSON, or ids alone.
//!
//! `println!` panics when whoever reads has gone away (`ringback deliveries list | head`):
//! everything that a command finds is printed here instead.

use std::{
    fmt::Display,
    io::{self, Write},
};

use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde_json::Value;

/// Why something could not be printed.
#[derive(Debug, thiserror::Error)]
pub enum PrintError {
    /// Whoever read has seen enough. It is no fault, and the process ends without a word.
    #[error("nobody reads the output any more")]
    Cut,
    /// A full disk, perhaps.
    #[error("the output cannot be written")]
    Failed(#[source] io::Error),
}

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
///
/// # Errors
///
/// See [`line`].
pub fn items(format: Format, items: &[Value], columns: &[Column]) -> Result<(), PrintError> {
    match format {
        Format::Json => line(format_args!("{:#}", Value::Array(items.to_vec()))),
        Format::Id => items.iter().try_for_each(print_id),
        Format::Table if items.is_empty() => line("none"),
        Format::Table => line(table(items, columns)),
    }
}

/// Prints one thing, all its fields.
///
/// # Errors
///
/// See [`line`].
pub fn item(format: Format, item: &Value) -> Result<(), PrintError> {
    match (format, item) {
        (Format::Id, _) => print_id(item),
        (Format::Table, Value::Object(fields)) => {
            let width = fields.keys().map(String::len).max().unwrap_or(0);
            fields
                .iter()
                .try_for_each(|(name, value)| line(format_args!("{name:width$}  {}", cell(value))))
        }
        _ => line(format_args!("{item:#}")),
    }
}

/// Prints a line, or several.
///
/// # Errors
///
/// [`PrintError::Cut`] if nobody reads it; [`PrintError::Failed`] if it cannot be written.
pub fn line(text: impl Display) -> Result<(), PrintError> {
    write_line(io::stdout().lock(), text)
}

fn write_line(mut to: impl Write, text: impl Display) -> Result<(), PrintError> {
    // Flushed, or the fault would show only after the last word on success.
    let written = writeln!(to, "{text}").and_then(|()| to.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => PrintError::Cut,
        _ => PrintError::Failed(error),
    })
}

fn print_id(item: &Value) -> Result<(), PrintError> {
    line(cell(&item["id"]))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails every write.
    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn only_a_reader_that_went_away_is_no_fault() {
        let cut = write_line(Broken(io::ErrorKind::BrokenPipe), "x");
        assert!(matches!(cut, Err(PrintError::Cut)), "{cut:?}");
        let full = write_line(Broken(io::ErrorKind::StorageFull), "x");
        assert!(matches!(full, Err(PrintError::Failed(_))), "{full:?}");
    }
}
