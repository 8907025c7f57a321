//! Table `profile_entries`.

use nabe_core::mimi::MimiUri;
use nabe_store::{ProfileEntry, ProfileFieldName, Searchable, StoreError};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::failure::Failure;
use crate::fields::{Fields, rows};
use crate::mimi::uri;

const fn words(name: &ProfileFieldName) -> (&'static str, &str) {
    match name {
        ProfileFieldName::Handle => ("handle", ""),
        ProfileFieldName::Nick => ("nick", ""),
        ProfileFieldName::Email => ("email", ""),
        ProfileFieldName::Phone => ("phone", ""),
        ProfileFieldName::Claim(name) => ("claim", name.as_str()),
        ProfileFieldName::Property(name) => ("property", name.as_str()),
    }
}

fn named(kind: &str, name: &str) -> Option<ProfileFieldName> {
    Some(match kind {
        "handle" => ProfileFieldName::Handle,
        "nick" => ProfileFieldName::Nick,
        "email" => ProfileFieldName::Email,
        "phone" => ProfileFieldName::Phone,
        "claim" => ProfileFieldName::Claim(name.to_owned()),
        "property" => ProfileFieldName::Property(name.to_owned()),
        _ => return None,
    })
}

const fn word(searchable: Searchable) -> &'static str {
    match searchable {
        Searchable::Never => "never",
        Searchable::Exactly => "exactly",
        Searchable::InPart => "in_part",
    }
}

fn searchable(word: &str) -> Option<Searchable> {
    Some(match word {
        "never" => Searchable::Never,
        "exactly" => Searchable::Exactly,
        "in_part" => Searchable::InPart,
        _ => return None,
    })
}

pub(crate) async fn put(
    db: &mut SqliteConnection,
    user: &MimiUri,
    entries: &[ProfileEntry],
    instead_of: Option<&[ProfileEntry]>,
) -> Result<(), Failure> {
    if let Some(expected) = instead_of
        && of_user(db, user).await? != expected
    {
        return Err(StoreError::ProfileChanged { user: user.clone() }.into());
    }
    sqlx::query(
        "-- profiles: replaced
         DELETE FROM profile_entries WHERE user_uri = ?",
    )
    .bind(user.to_string())
    .execute(&mut *db)
    .await?;
    for entry in entries {
        let (kind, name) = words(&entry.name);
        sqlx::query(
            "-- profiles: put
             INSERT INTO profile_entries (user_uri, kind, name, value, folded, searchable, shown, user_part)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(user.to_string())
        .bind(kind)
        .bind(name)
        .bind(&entry.value)
        .bind(entry.value.to_lowercase())
        .bind(word(entry.searchable))
        .bind(entry.shown)
        .bind(entry.user_part())
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

pub(crate) async fn of_user(db: &mut SqliteConnection, user: &MimiUri) -> Result<Vec<ProfileEntry>, Failure> {
    let found = sqlx::query(
        "-- profiles: of user
         SELECT entry_no AS row_key, kind, name, value, searchable, shown FROM profile_entries
         WHERE user_uri = ? ORDER BY entry_no",
    )
    .bind(user.to_string())
    .fetch_all(db)
    .await?;
    let entry = |row: &SqliteRow| {
        let row = Fields::new("profile_entries", row);
        let name: &str = row.get("name")?;
        Ok(ProfileEntry {
            name: row.word("kind", |kind| named(kind, name))?,
            value: row.get("value")?,
            searchable: row.word("searchable", searchable)?,
            shown: row.get::<i64>("shown")? != 0,
        })
    };
    found.iter().map(entry).collect()
}

pub(crate) async fn by_value(db: &mut SqliteConnection, value: &str, limit: usize) -> Result<Vec<MimiUri>, Failure> {
    let found = sqlx::query(
        "-- profiles: by value
         SELECT MIN(entry_no) AS row_key, user_uri FROM profile_entries WHERE value = ? AND searchable <> 'never'
         GROUP BY user_uri ORDER BY user_uri LIMIT +?",
    )
    .bind(value)
    .bind(rows(limit))
    .fetch_all(db)
    .await?;
    found.iter().map(user).collect()
}

pub(crate) async fn by_nick(db: &mut SqliteConnection, nick: &str, limit: usize) -> Result<Vec<MimiUri>, Failure> {
    let found = sqlx::query(
        "-- profiles: by nick
         SELECT MIN(entry_no) AS row_key, user_uri FROM profile_entries
         WHERE (value = ?1 OR user_part = ?1) AND searchable <> 'never'
         GROUP BY user_uri ORDER BY user_uri LIMIT +?2",
    )
    .bind(nick)
    .bind(rows(limit))
    .fetch_all(db)
    .await?;
    found.iter().map(user).collect()
}

pub(crate) async fn by_part(db: &mut SqliteConnection, part: &str, limit: usize) -> Result<Vec<MimiUri>, Failure> {
    let found = sqlx::query(
        "-- profiles: by part
         SELECT MIN(entry_no) AS row_key, user_uri FROM profile_entries
         WHERE instr(folded, ?) > 0 AND searchable = 'in_part' GROUP BY user_uri ORDER BY user_uri LIMIT +?",
    )
    .bind(part.to_lowercase())
    .bind(rows(limit))
    .fetch_all(db)
    .await?;
    found.iter().map(user).collect()
}

fn user(row: &SqliteRow) -> Result<MimiUri, Failure> {
    uri(Fields::new("profile_entries", row), "user_uri")
}
