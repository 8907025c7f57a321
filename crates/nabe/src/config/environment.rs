//! Environment variables as options.

use std::{collections::BTreeMap, ffi::OsString};

use super::{Config, ConfigError, rule::Broken};

/// The variables that are options, sorted: that of a table comes before those of the options in it. Others may hold anything.
pub(super) fn variables(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut variables = BTreeMap::new();
    for (name, value) in environment {
        if !name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let shown = name.to_string_lossy().into_owned();
        if RESERVED.contains(&shown.as_str()) || shown.starts_with(RESERVED_PREFIX) {
            continue;
        }
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => variables.insert(name, value),
            _ => return Err(ConfigError::NotUtf8 { name: shown }),
        };
    }
    Ok(variables)
}

/// Whether any configuration could have what this variable is named for.
pub(super) fn is_option(variable: &str) -> bool {
    let mut table = toml::Table::new();
    let alone = BTreeMap::from([(variable.to_owned(), "0".to_owned())]);
    let fault = overlay(&mut table, &alone).map(|()| table.try_into::<Config>());
    !matches!(fault, Ok(Err(fault)) if fault.message().starts_with(UNKNOWN_NAME))
}

/// Writes the variables into the table; what an empty one is for is taken out.
pub(super) fn overlay(table: &mut toml::Table, variables: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    for (name, value) in variables {
        let path = option_path(name);
        let Some((last, tables)) = path.split_last() else {
            continue;
        };
        let mut inner = &mut *table;
        for name_of_table in tables {
            inner = inner
                .entry(name_of_table.clone())
                .or_insert_with(|| toml::Table::new().into())
                .as_table_mut()
                .ok_or_else(|| ConfigError::NotATable {
                    name: name.clone(),
                    table: name_of_table.clone(),
                })?;
        }
        match value.is_empty() {
            true => inner.remove(last),
            false => inner.insert(last.clone(), parse_value(value)),
        };
    }
    Ok(())
}

/// The variable without which the fault would be another one or none.
pub(super) fn variable_at_fault(
    file: &toml::Table,
    variables: &BTreeMap<String, String>,
    fault: &toml::de::Error,
) -> Option<String> {
    let fault = Some(fault.to_string());
    let is_at_fault = |name: &&String| {
        let mut others = variables.clone();
        others.remove(*name);
        let mut table = file.clone();
        let fault_without = match overlay(&mut table, &others) {
            Ok(()) => table.try_into::<Config>().err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        fault_without != fault
    };
    variables.keys().find(is_at_fault).cloned()
}

/// The variables to blame for a broken rule: the one without which the file and the others would be fine or break another
/// rule; if there is none, although the file alone is not to blame, those that set what the rule is about.
pub(super) fn variables_that_break(
    file: &toml::Table,
    variables: &BTreeMap<String, String>,
    broken: &Broken,
) -> Vec<String> {
    let breaks_it = |variables: &BTreeMap<String, String>| {
        let mut table = file.clone();
        let config = overlay(&mut table, variables)
            .is_ok()
            .then(|| table.try_into::<Config>());
        // What cannot be read at all for want of a variable says nothing about the rule.
        !matches!(config, Some(Ok(config)) if config.check().as_ref() != Err(broken))
    };
    let decisive = variables.keys().find(|name| {
        let mut others = variables.clone();
        others.remove(*name);
        !breaks_it(&others)
    });
    if let Some(name) = decisive {
        return vec![name.clone()];
    }
    let sets_it = |name: &&String| {
        let path = option_path(name).join(".");
        broken
            .options
            .iter()
            .any(|option| *option == path || option.starts_with(&format!("{path}.")))
    };
    match toml::Table::try_into::<Config>(file.clone()) {
        Ok(config) if config.check().as_ref() == Err(broken) => Vec::new(),
        _ => variables.keys().filter(sets_it).cloned().collect(),
    }
}

/// `["listen", "address"]` for `NABE_LISTEN__ADDRESS`.
fn option_path(variable: &str) -> Vec<String> {
    let option = variable.strip_prefix(PREFIX).unwrap_or(variable);
    option.to_lowercase().split("__").map(str::to_owned).collect()
}

/// A number, boolean, list or quoted string as in TOML; anything else is taken as the string it is.
fn parse_value(text: &str) -> toml::Value {
    format!("v = {text}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| text.into())
}

/// What the name of an option's variable begins with.
const PREFIX: &str = "NABE_";
/// `NABE_…` variables that are not options.
const RESERVED: &[&str] = &["NABE_CONFIG", "NABE_SHARED", "NABE_REQUIRE_ALL"];
const RESERVED_PREFIX: &str = "NABE_TEST_";

/// How the message about the only option that every file needs begins.
pub(super) const MISSING_NAME: &str = "missing field `server_name`";
/// How the message about an option that does not exist begins.
const UNKNOWN_NAME: &str = "unknown field";
