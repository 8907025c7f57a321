//! Reading rows and writing values. A value that this program would not have written is
//! [`StoreError::Inconsistent`], never guessed around.

use std::str::FromStr;

use bytes::Bytes;
use nabe_event::RoomVersionRules;
use nabe_store::StoreError;
use nabe_types::{LogPosition, RoomVersionId, UnixMillis};
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

use crate::failure::Failure;

/// A row of a table. The query selects the table's row number as `row_key`.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'r> {
    table: &'static str,
    row: &'r SqliteRow,
}

impl<'r> Fields<'r> {
    pub(crate) const fn new(table: &'static str, row: &'r SqliteRow) -> Self {
        Self { table, row }
    }

    pub(crate) fn get<T: Decode<'r, Sqlite> + Type<Sqlite>>(self, column: &'static str) -> Result<T, Failure> {
        self.row.try_get(column).map_err(|_| self.bad(column))
    }

    /// An identifier or other text with a grammar.
    pub(crate) fn text<T: FromStr>(self, column: &'static str) -> Result<T, Failure> {
        self.word(column, |text| text.parse().ok())
    }

    pub(crate) fn text_or_null<T: FromStr>(self, column: &'static str) -> Result<Option<T>, Failure> {
        let text: Option<&str> = self.get(column)?;
        text.map(|text| text.parse().map_err(|_| self.bad(column))).transpose()
    }

    /// A word of an enum.
    pub(crate) fn word<T>(self, column: &'static str, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Failure> {
        read(self.get(column)?).ok_or_else(|| self.bad(column))
    }

    pub(crate) fn number<T: TryFrom<i64>>(self, column: &'static str) -> Result<T, Failure> {
        self.get::<i64>(column)?.try_into().map_err(|_| self.bad(column))
    }

    pub(crate) fn position(self, column: &'static str) -> Result<LogPosition, Failure> {
        Ok(LogPosition(self.get(column)?))
    }

    pub(crate) fn position_or_null(self, column: &'static str) -> Result<Option<LogPosition>, Failure> {
        Ok(self.get::<Option<i64>>(column)?.map(LogPosition))
    }

    pub(crate) fn moment(self, column: &'static str) -> Result<UnixMillis, Failure> {
        self.moment_or_null(column)?.ok_or_else(|| self.bad(column))
    }

    pub(crate) fn moment_or_null(self, column: &'static str) -> Result<Option<UnixMillis>, Failure> {
        match self.get::<Option<i64>>(column)? {
            None => Ok(None),
            Some(i64::MAX) => Ok(Some(UnixMillis::MAX)),
            Some(millis) => Ok(Some(UnixMillis::from_i64(millis).ok_or_else(|| self.bad(column))?)),
        }
    }

    pub(crate) fn bytes(self, column: &'static str) -> Result<Bytes, Failure> {
        Ok(Bytes::copy_from_slice(self.get(column)?))
    }

    pub(crate) fn hash(self, column: &'static str) -> Result<[u8; 32], Failure> {
        self.get::<&[u8]>(column)?.try_into().map_err(|_| self.bad(column))
    }

    /// The rules of the room version in a column.
    pub(crate) fn rules(self, column: &'static str) -> Result<&'static RoomVersionRules, Failure> {
        RoomVersionRules::for_id(&self.text::<RoomVersionId>(column)?).ok_or_else(|| self.bad(column))
    }

    pub(crate) fn bad(self, column: &'static str) -> Failure {
        let row = self
            .row
            .try_get::<i64, _>("row_key")
            .map_or_else(|_| "?".to_owned(), |key| key.to_string());
        Failure::Store(StoreError::Inconsistent {
            table: self.table,
            column,
            row,
        })
    }
}

/// A moment as the database keeps it; [`UnixMillis::MAX`] comes back as itself.
pub(crate) fn millis(moment: UnixMillis) -> i64 {
    i64::try_from(moment.as_u64()).unwrap_or(i64::MAX)
}

/// A limit as the database takes it. Statements say `LIMIT +?`: of a bare `LIMIT ?` SQLite looks at the value for its plan, and
/// so prepares the statement again each time.
pub(crate) fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A JSON array for `json_each`.
pub(crate) fn id_array<'a>(ids: impl IntoIterator<Item = &'a str>) -> String {
    array(ids.into_iter().map(quoted))
}

/// A JSON array for `json_each`.
pub(crate) fn number_array(numbers: impl IntoIterator<Item = i64>) -> String {
    array(numbers.into_iter().map(|number| number.to_string()))
}

/// A JSON array for `json_each`, whose values are blobs to `unhex`.
pub(crate) fn blob_array<'a>(blobs: impl IntoIterator<Item = &'a Bytes>) -> String {
    let hex = |blob: &Bytes| blob.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    array(blobs.into_iter().map(|blob| quoted(&hex(blob))))
}

/// A JSON array of what is JSON already.
pub(crate) fn array(items: impl IntoIterator<Item = String>) -> String {
    let mut array = String::from("[");
    for (index, item) in items.into_iter().enumerate() {
        array.push_str(if index == 0 { "" } else { "," });
        array.push_str(&item);
    }
    array.push(']');
    array
}

/// An identifier in JSON. It needs no escapes: the grammars have no quote and no backslash.
pub(crate) fn quoted(id: &str) -> String {
    format!("\"{id}\"")
}
