//! Which columns hold what: by the names that the API gives the fields, and those it is known to have had before.

/// A table of a 0.30 server, in the order they are to be read in: runs say more once their executions are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LegacyTable {
    /// Executions.
    Executions,
    /// Runs and what they printed.
    Results,
    /// Agents.
    Agents,
    /// What inventory jobs found out.
    Facts,
    /// The audit trail.
    Audit,
}

impl LegacyTable {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Executions,
        Self::Results,
        Self::Agents,
        Self::Facts,
        Self::Audit,
    ];

    /// What the old server calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Executions => "executions",
            Self::Results => "execution_results",
            Self::Agents => "agents",
            Self::Facts => "inventory_facts",
            Self::Audit => "audit_log",
        }
    }

    /// Whether nothing can be read without it: where jobs have succeeded is what an import is for.
    pub(super) fn is_needed(self) -> bool {
        matches!(self, Self::Executions | Self::Results)
    }

    /// Its fields in the order in which `record.rs` reads them.
    fn fields(self) -> &'static [Field] {
        match self {
            Self::Executions => EXECUTIONS,
            Self::Results => RESULTS,
            Self::Agents => AGENTS,
            Self::Facts => FACTS,
            Self::Audit => AUDIT,
        }
    }

    /// How many of its fields, from the first on, name a row.
    pub(super) fn key(self) -> usize {
        match self {
            Self::Executions | Self::Agents => 1,
            Self::Results | Self::Audit => 3,
            Self::Facts => 2,
        }
    }
}

/// One field of a row.
struct Field {
    name: &'static str,
    needed: bool,
    also: &'static [Also],
}

/// Another name for a field.
enum Also {
    /// A name by itself.
    Called(&'static str),
    /// A name that only means this beside another column.
    Beside(&'static str, &'static str),
}

const fn needed(name: &'static str) -> Field {
    Field {
        name,
        needed: true,
        also: &[],
    }
}

const fn optional(name: &'static str) -> Field {
    Field {
        name,
        needed: false,
        also: &[],
    }
}

impl Field {
    const fn also(self, also: &'static [Also]) -> Self {
        Self { also, ..self }
    }
}

/// Commands called an execution's id `job_id` once, and a job's id `manifest_id`; where both stand side by side, that is
/// what they mean.
const AN_EXECUTION: &[Also] = &[Also::Beside("job_id", "manifest_id")];
/// Results and inventory call a job's id so to this day.
const A_JOB: &[Also] = &[Also::Called("manifest_id")];

const EXECUTIONS: &[Field] = &[
    needed("exec_id").also(AN_EXECUTION),
    needed("job_id").also(A_JOB),
    needed("version"),
    needed("initiated_at"),
    optional("initiated_by"),
    optional("status"),
];

const RESULTS: &[Field] = &[
    optional("result_id"),
    needed("request_id"),
    needed("pc_id"),
    needed("exec_id").also(AN_EXECUTION),
    optional("job_id").also(A_JOB),
    optional("version"),
    needed("exit_code"),
    needed("started_at"),
    needed("finished_at"),
    optional("stdout"),
    optional("stderr"),
];

const AGENTS: &[Field] = &[
    needed("pc_id"),
    needed("last_heartbeat"),
    optional("hostname"),
    optional("os_family"),
    optional("agent_version"),
    optional("updated_at"),
];

// A column of JSON is often told from others by its ending.
const FACTS: &[Field] = &[
    needed("pc_id"),
    needed("job_id").also(A_JOB),
    needed("facts").also(&[Also::Called("facts_json")]),
    needed("collected_at"),
    optional("display").also(&[Also::Called("display_json")]),
    optional("summary").also(&[Also::Called("summary_json")]),
    optional("recorded_at"),
];

const AUDIT: &[Field] = &[
    needed("occurred_at"),
    needed("actor"),
    needed("action"),
    optional("target"),
    optional("payload").also(&[Also::Called("payload_json")]),
];

/// Where the fields of a table are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) table: LegacyTable,
    /// The column of each field, where it has one.
    columns: Vec<Option<String>>,
}

impl Layout {
    /// Finds the fields of a table among the columns it has.
    ///
    /// # Errors
    /// A sentence that names the table, the column that is missing and those that are there.
    pub(super) fn of(table: LegacyTable, found: &[String]) -> Result<Self, String> {
        let mut taken: Vec<&str> = Vec::new();
        let mut columns = Vec::new();
        for field in table.fields() {
            let column = |name: &str| found.iter().find(|column| column.eq_ignore_ascii_case(name));
            let mut names = vec![field.name];
            for also in field.also {
                match also {
                    Also::Called(name) => names.push(name),
                    Also::Beside(name, other) if column(other).is_some() => names.push(name),
                    Also::Beside(..) => {}
                }
            }
            let found_as = names
                .iter()
                .filter_map(|name| column(name))
                .find(|column| !taken.contains(&column.as_str()));
            match found_as {
                Some(column) => taken.push(column),
                None if field.needed => {
                    return Err(format!(
                        "its table `{}` has no column `{}`; its columns are: {}",
                        table.name(),
                        field.name,
                        listed(found)
                    ));
                }
                None => {}
            }
            columns.push(found_as.cloned());
        }
        Ok(Self { table, columns })
    }

    /// How many fields there are.
    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    /// The name of the field at a place.
    pub(super) fn field(&self, at: usize) -> &'static str {
        self.table.fields()[at].name
    }

    /// The statement that reads the fields in their order.
    pub(super) fn select(&self) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|column| column.as_deref().map_or_else(|| "NULL".to_owned(), quoted))
            .collect();
        format!("SELECT {} FROM {}", columns.join(", "), quoted(self.table.name()))
    }
}

/// A name as SQL has it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Names for people.
pub(super) fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(table: LegacyTable, columns: &[&str]) -> Result<String, String> {
        let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
        Layout::of(table, &columns).map(|layout| layout.select())
    }

    #[test]
    fn fields_are_found_by_any_name_they_are_known_by() {
        let plain = ["exec_id", "job_id", "version", "initiated_at", "status"];
        assert_eq!(
            layout(LegacyTable::Executions, &plain).unwrap(),
            r#"SELECT "exec_id", "job_id", "version", "initiated_at", NULL, "status" FROM "executions""#
        );
        // The names of before: `job_id` is the execution only where the job has a name of its own.
        let before = ["job_id", "MANIFEST_ID", "version", "initiated_at"];
        assert_eq!(
            layout(LegacyTable::Executions, &before).unwrap(),
            r#"SELECT "job_id", "MANIFEST_ID", "version", "initiated_at", NULL, NULL FROM "executions""#
        );
        let both = ["exec_id", "manifest_id", "job_id", "version", "initiated_at"];
        assert!(
            layout(LegacyTable::Executions, &both)
                .unwrap()
                .starts_with(r#"SELECT "exec_id", "job_id""#)
        );
        let facts = ["manifest_id", "pc_id", "facts_json", "collected_at", "od\"d"];
        assert_eq!(
            layout(LegacyTable::Facts, &facts).unwrap(),
            r#"SELECT "pc_id", "manifest_id", "facts_json", "collected_at", NULL, NULL, NULL FROM "inventory_facts""#
        );
    }

    #[test]
    fn a_missing_column_is_told_with_the_table_and_what_is_there() {
        let told = layout(LegacyTable::Executions, &["job_id", "version", "fired"]).unwrap_err();
        assert_eq!(
            told,
            "its table `executions` has no column `exec_id`; its columns are: `job_id`, `version`, `fired`"
        );
        for table in LegacyTable::ALL {
            for field in table.fields().iter().filter(|field| field.needed) {
                let others: Vec<&str> = table.fields().iter().map(|field| field.name).collect();
                let others: Vec<&str> = others.into_iter().filter(|name| *name != field.name).collect();
                let told = layout(table, &others).unwrap_err();
                let named = format!("`{}` has no column `{}`;", table.name(), field.name);
                assert!(told.contains(&named), "{told}");
            }
            let all: Vec<&str> = table.fields().iter().map(|field| field.name).collect();
            layout(table, &all).unwrap();
        }
    }
}
