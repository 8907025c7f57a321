//! What was found out, line by line: facts, statements that hold or do not, and what could not be checked.

use nabe_signing::{Json, Object, object};

/// Lines in the order they are printed: a name and what was found.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<(String, Finding)>);

#[derive(Debug)]
enum Finding {
    /// A fact without a verdict.
    Fact(Json),
    /// Something the input states, and whether it is true.
    Statement { true_: bool, detail: String },
    /// Could not be checked, and why.
    Open(String),
}

impl Findings {
    /// Notes a fact.
    pub(crate) fn fact(&mut self, name: &str, value: impl Into<Json>) {
        self.0.push((name.to_owned(), Finding::Fact(value.into())));
    }

    /// Notes something that was stated, and whether it is true.
    pub(crate) fn statement(&mut self, name: impl Into<String>, true_: bool, detail: impl Into<String>) {
        self.0.push((
            name.into(),
            Finding::Statement {
                true_,
                detail: detail.into(),
            },
        ));
    }

    /// Adds the lines of others.
    pub(crate) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// Notes what could not be checked, and why.
    pub(crate) fn open(&mut self, name: impl Into<String>, why: impl Into<String>) {
        self.0.push((name.into(), Finding::Open(why.into())));
    }

    /// Nothing was found false.
    pub(crate) fn holds(&self) -> bool {
        self.0
            .iter()
            .all(|(_, finding)| !matches!(finding, Finding::Statement { true_: false, .. }))
    }

    /// A line for each.
    pub(crate) fn to_text(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let line = |(name, finding): &(String, Finding)| match finding {
            Finding::Fact(value) => match value.as_str() {
                Some(text) => format!("       {name:width$}  {text}\n"),
                None => format!("       {name:width$}  {value}\n"),
            },
            Finding::Statement { true_: true, detail } => format!("ok     {name:width$}  {detail}\n"),
            Finding::Statement { true_: false, detail } => format!("FALSE  {name:width$}  {detail}\n"),
            Finding::Open(why) => format!("?      {name:width$}  {why}\n"),
        };
        self.0.iter().map(line).collect()
    }

    /// A member for each.
    pub(crate) fn to_json(&self) -> Object {
        let finding = |finding: &Finding| -> Json {
            match finding {
                Finding::Fact(value) => value.clone(),
                Finding::Statement { true_, detail } => {
                    object! { "holds" => *true_, "detail" => detail.as_str() }.into()
                }
                Finding::Open(why) => object! { "open" => why.as_str() }.into(),
            }
        };
        self.0
            .iter()
            .map(|(name, found)| (name.clone(), finding(found)))
            .collect()
    }
}
