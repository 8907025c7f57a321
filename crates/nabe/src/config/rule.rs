//! Rules that the types of options alone do not say.

/// Values that are well-formed and cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}: {rule}", options.join(", "))]
pub(crate) struct Broken {
    /// What the rule is about.
    pub(super) options: &'static [&'static str],
    rule: String,
}

impl Broken {
    pub(crate) fn new(options: &'static [&'static str], rule: String) -> Self {
        Self { options, rule }
    }
}

/// `Err` naming the options and the rule unless it holds.
pub(crate) fn hold(holds: bool, options: &'static [&'static str], rule: &str) -> Result<(), Broken> {
    match holds {
        true => Ok(()),
        false => Err(Broken {
            options,
            rule: rule.into(),
        }),
    }
}
