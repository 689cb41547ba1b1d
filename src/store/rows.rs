//! Statements with a list of rows in them: few texts, so that each is prepared once, and few statements for any number.

use std::sync::Arc;

use sqlx::{AnyConnection, AssertSqlSafe, any::AnyArguments, any::AnyRow, query::Query};

pub(super) type AnyQuery<'q> = Query<'q, sqlx::Any, AnyArguments>;
/// Arguments are copied when they are bound.
pub(super) type Bound = AnyQuery<'static>;

/// Rows in one statement, largest first.
const CHUNKS: [usize; 7] = [MOST, 32, 16, 8, 4, 2, 1];
/// The most rows in one statement.
pub(super) const MOST: usize = 64;

/// One statement, for each size of chunk. Made of nothing but literals and counts.
pub(super) struct RowsSql {
    texts: [Arc<str>; CHUNKS.len()],
}

impl RowsSql {
    /// `before` and `after` stand around `($1, $2), ($3, $4), …` of so many columns; a `fixed` number of places comes
    /// first and is not part of the rows.
    pub(super) fn new(fixed: usize, before: &str, columns: usize, after: &str) -> Self {
        let text = |rows: usize| {
            let rows: Vec<String> = (0..rows)
                .map(|row| {
                    let places: Vec<String> =
                        (1..=columns).map(|c| format!("${}", fixed + row * columns + c)).collect();
                    format!("({})", places.join(", "))
                })
                .collect();
            format!("{before}{}{after}", rows.join(", ")).into()
        };
        Self { texts: CHUNKS.map(text) }
    }

    fn fitting(&self, rows: usize) -> (usize, &Arc<str>) {
        let [.., one] = &self.texts;
        let fits = CHUNKS.iter().zip(&self.texts).find(|(size, _)| **size <= rows);
        fits.map_or((1, one), |(size, text)| (*size, text))
    }

    /// The statement for at least so many rows, as far as there is one, and how many rows it has.
    pub(super) fn roomy(&self, rows: usize) -> (usize, Bound) {
        let roomy = CHUNKS.iter().zip(&self.texts).rev().find(|(size, _)| **size >= rows);
        let (size, text) = roomy.map_or_else(|| self.fitting(rows), |(size, text)| (*size, text));
        (size, sqlx::query(AssertSqlSafe(Arc::clone(text))))
    }

    fn chunks<'r, T>(&self, mut rest: &'r [T]) -> impl Iterator<Item = (&Arc<str>, &'r [T])> {
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (size, text) = self.fitting(rest.len());
            let (chunk, after) = rest.split_at(size);
            rest = after;
            Some((text, chunk))
        })
    }

    /// Run it for all rows.
    pub(super) async fn run<T>(
        &self,
        connection: &mut AnyConnection,
        rows: &[T],
        bind: impl Fn(Bound, &T) -> Bound,
    ) -> Result<(), sqlx::Error> {
        for (text, chunk) in self.chunks(rows) {
            let statement = chunk.iter().fold(sqlx::query(AssertSqlSafe(Arc::clone(text))), &bind);
            statement.execute(&mut *connection).await?;
        }
        Ok(())
    }

    /// Run it for all rows and collect what it answers.
    pub(super) async fn answers<T>(
        &self,
        connection: &mut AnyConnection,
        rows: &[T],
        bind: impl Fn(Bound, &T) -> Bound,
    ) -> Result<Vec<AnyRow>, sqlx::Error> {
        let mut answers = Vec::with_capacity(rows.len());
        for (text, chunk) in self.chunks(rows) {
            let statement = chunk.iter().fold(sqlx::query(AssertSqlSafe(Arc::clone(text))), &bind);
            answers.extend(statement.fetch_all(&mut *connection).await?);
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_rows_is_cut_into_few_statements() {
        let sql = RowsSql::new(0, "VALUES ", 2, "");
        let rows = [0_u8; 85];
        let sizes: Vec<usize> = sql.chunks(&rows).map(|(_, chunk)| chunk.len()).collect();
        assert_eq!(sizes, [64, 16, 4, 1]);
        assert_eq!(&**sql.fitting(3).1, "VALUES ($1, $2), ($3, $4)");
        assert_eq!(sql.chunks::<u8>(&[]).count(), 0);
        assert_eq!(sql.roomy(3).0, 4);
        assert_eq!(sql.roomy(64).0, 64);
    }
}
