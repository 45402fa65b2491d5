//! Statements that take many rows at once.
//!
//! The driver hands every statement to the connection's own thread and back, which
//! costs more than a row does. So a batch should be few statements; but each text has
//! to be compiled, so there should be few texts too. Hence four lengths: rows that
//! are not there are null, and left out by the statement.

use std::sync::{Arc, OnceLock};

use ringback_store::StoreError;
use sqlx::{
    Arguments, AssertSqlSafe, SqliteConnection, error::BoxDynError, sqlite::SqliteArguments,
};

use crate::failure::failed;

const LENGTHS: [usize; 4] = [1, 16, 64, 256];
/// The most bytes that one statement should carry.
const MAX_BYTES: usize = 8 << 20;

/// A statement over `(values …)`, whose columns are called `column1`, `column2`, ….
/// It must leave out rows with a null in `column1`.
pub(crate) struct RowStatement {
    before: &'static str,
    columns: usize,
    after: &'static str,
    texts: OnceLock<[Arc<str>; LENGTHS.len()]>,
}

/// How a row is bound: adds as many arguments as the statement has columns.
type Bind<T> = fn(&T, &mut SqliteArguments) -> Result<(), BoxDynError>;

impl RowStatement {
    /// - `before`, `after`: the text around `(values …)`. A parameter in `after` comes
    ///   behind those of the rows.
    /// - `columns`: of each row.
    pub(crate) const fn new(before: &'static str, columns: usize, after: &'static str) -> Self {
        Self {
            before,
            columns,
            after,
            texts: OnceLock::new(),
        }
    }

    /// Runs it over all `rows`.
    pub(crate) async fn run<T>(
        &self,
        connection: &mut SqliteConnection,
        rows: &[T],
        bind: Bind<T>,
    ) -> Result<(), StoreError> {
        self.run_sized(connection, rows, |_| 0, bind).await
    }

    /// Like [`Self::run`], for rows that may be large.
    ///
    /// - `bytes`: the size of a row.
    pub(crate) async fn run_sized<T>(
        &self,
        connection: &mut SqliteConnection,
        mut rows: &[T],
        bytes: fn(&T) -> usize,
        bind: Bind<T>,
    ) -> Result<(), StoreError> {
        while !rows.is_empty() {
            let (now, later) = rows.split_at(fitting(rows, bytes));
            self.execute(connection, now, bind).await?;
            rows = later;
        }
        Ok(())
    }

    async fn execute<T>(
        &self,
        connection: &mut SqliteConnection,
        rows: &[T],
        bind: Bind<T>,
    ) -> Result<(), StoreError> {
        let mut arguments = SqliteArguments::default();
        arguments.reserve(rows.len() * self.columns, 0);
        for row in rows {
            bind(row, &mut arguments).map_err(|error| failed(sqlx::Error::Encode(error)))?;
        }
        // What is not bound is null.
        let text = AssertSqlSafe(Arc::clone(self.text(rows.len())));
        sqlx::query_with(text, arguments)
            .execute(connection)
            .await
            .map(drop)
            .map_err(failed)
    }

    fn text(&self, rows: usize) -> &Arc<str> {
        let texts = self
            .texts
            .get_or_init(|| LENGTHS.map(|length| self.write(length)));
        let index = LENGTHS.iter().position(|&length| length >= rows);
        &texts[index.unwrap_or(LENGTHS.len() - 1)]
    }

    fn write(&self, length: usize) -> Arc<str> {
        let row = format!("({})", vec!["?"; self.columns].join(", "));
        let rows = vec![row; length].join(", ");
        format!("{} (values {rows}) {}", self.before, self.after).into()
    }
}

/// How many rows the next statement takes: at least one.
fn fitting<T>(rows: &[T], bytes: fn(&T) -> usize) -> usize {
    let longest = LENGTHS[LENGTHS.len() - 1];
    let mut sum = 0;
    let fits = |row: &&T| {
        sum += bytes(row);
        sum <= MAX_BYTES
    };
    rows.iter().take(longest).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_split_by_number_and_by_size() {
        let cases = [
            (vec![1; 3], 3),
            (vec![1; 300], 256),
            (vec![MAX_BYTES / 2; 3], 2),
            (vec![MAX_BYTES + 1, 1], 1), // one goes alone, however large
        ];
        for (rows, expected) in cases {
            assert_eq!(fitting(&rows, |bytes| *bytes), expected);
        }
    }

    #[test]
    fn a_text_has_room_for_all_rows() {
        static STATEMENT: RowStatement = RowStatement::new("select * from", 2, "where true");
        for (rows, places) in [(1, 2), (2, 32), (16, 32), (17, 128), (256, 512)] {
            assert_eq!(
                STATEMENT.text(rows).matches('?').count(),
                places,
                "{rows} rows"
            );
        }
    }
}
