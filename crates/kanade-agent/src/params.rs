//! Parameters of a job on their way into the environment of its script. Secret ones stay in memory: they are neither in
//! the journal nor in the log.

use std::{collections::BTreeMap, fmt};

use kanade_model::{Command, ParamText, param};

/// The secret values of a Command, taken out of it.
#[derive(Debug, Default)]
pub(crate) struct Secrets(BTreeMap<String, ParamText>);

impl Secrets {
    /// What is left of the Command may be written down.
    pub(crate) fn take_from(command: &mut Command) -> Self {
        Self(std::mem::take(&mut command.secrets))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the script of the Command finds in its environment.
    pub(crate) fn variables(&self, command: &Command) -> Variables {
        let all = command.params.iter().chain(&self.0);
        // A server sends no name that cannot be one; what is left out must not keep the script from starting.
        let variable = |(name, text): (&String, &ParamText)| Some((param::variable(name)?, text.0.clone()));
        Variables(all.filter_map(variable).collect())
    }
}

/// Names and values for an environment. Their debug form does not tell the values.
pub(crate) struct Variables(pub(crate) BTreeMap<String, String>);

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
