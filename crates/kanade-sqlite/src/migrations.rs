//! The migrations of the schema, embedded. Written out, because the macro of the driver that would list them compiles the
//! driver, and SQLite with it, a second time.

use std::{borrow::Cow, sync::LazyLock};

use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// The number of a migration, what it is about, its text.
type Embedded = (i64, &'static str, &'static str);

macro_rules! embedded {
    ($($number:literal $name:literal;)*) => {
        &[$((
            $number,
            $name,
            include_str!(concat!("../../../migrations/sqlite/000", $number, "_", $name, ".sql")),
        )),*]
    };
}

const EMBEDDED: &[Embedded] = embedded! {
    1 "initial";
    2 "marks";
    3 "slots";
    5 "course";
    6 "pace";
};

/// All of them, in order.
pub(crate) static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let migration = |(number, name, text): &Embedded| {
        Migration::new(
            *number,
            Cow::Borrowed(*name),
            MigrationType::Simple,
            SqlStr::from_static(text),
            false,
        )
    };
    Migrator::with_migrations(EMBEDDED.iter().map(migration).collect())
});

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn every_file_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations/sqlite");
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let embedded = EMBEDDED
            .iter()
            .map(|(number, name, _)| format!("{number:04}_{name}.sql"));
        assert_eq!(files, embedded.collect::<Vec<_>>());
    }
}
