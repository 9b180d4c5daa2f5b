//! The layers of the workspace and the decision whether a crate keeps to them. The tables say what is allowed;
//! whatever they do not name is refused, so a new dependency between crates is a decision made here.

/// The layers, lowest first. A crate may use those lower crates that its entry names.
const LAYERS: &[Layer] = &[
    layer(MODEL, &[], &[]),
    layer(PORTS, &[MODEL], &[]),
    layer(CORE, &[MODEL, PORTS], &[]),
    layer(CONFORMANCE, &[MODEL, PORTS], &[]),
    layer(MEMORY, &[MODEL, PORTS], &[]),
    layer(SQLITE, &[MODEL, PORTS], &["sqlx"]),
    layer(REDB, &[MODEL, PORTS], &["redb"]),
    layer(FILES, &[MODEL, PORTS], &[]),
    layer(NATS, &[MODEL, PORTS], &["async-nats"]),
    // Starts servers for the tests of others.
    layer(NATS_TESTING, &[NATS], &["async-nats"]),
    layer(POSTGRES, &[MODEL, PORTS], &["sqlx"]),
    layer(HTTP, &[MODEL, PORTS, CORE], &["axum"]),
    // Speaks only the HTTP API, as any other client does.
    layer(DASHBOARD, &[], &["axum"]),
    // The agent keeps its outbox in a file of its own.
    layer(AGENT, &[MODEL, PORTS], &["redb"]),
    layer(CLIENT, &[MODEL, PORTS], &[]),
    layer(
        BINARY,
        &[
            MODEL, PORTS, CORE, MEMORY, SQLITE, REDB, FILES, NATS, POSTGRES, HTTP, DASHBOARD, AGENT, CLIENT,
        ],
        &["axum"],
    ),
    layer("xtask", &[], &[]),
];

/// What the tests of a crate may use on top of its layer.
const DEV_EXCEPTIONS: &[(&str, &[&str])] = &[
    (CORE, &[MEMORY, CONFORMANCE]),
    (HTTP, &[MEMORY, CONFORMANCE]),
    (AGENT, &[MEMORY, CONFORMANCE]),
    // The link of an agent is tested against the gateway that it is made for.
    (CLIENT, &[MEMORY, CONFORMANCE, CORE, HTTP]),
    (MEMORY, &[CONFORMANCE]),
    (SQLITE, &[CONFORMANCE]),
    (REDB, &[CONFORMANCE]),
    (FILES, &[CONFORMANCE]),
    // What a server does on a broker is tested with a server.
    (NATS, &[CONFORMANCE, NATS_TESTING, CORE, MEMORY]),
    (POSTGRES, &[CONFORMANCE]),
    (BINARY, &[NATS_TESTING, CONFORMANCE]),
];

/// Libraries that tie a crate to a backend or to the web; only the layers that name them may use them.
const DRIVERS: &[&str] = &["sqlx", "redb", "async-nats", "axum"];

/// Crates whose files, comments included, do not even name a driver.
const DRIVERLESS: &[&str] = &[MODEL, PORTS, CORE];
const DRIVER_NAMES: &[&str] = &["sqlx", "redb", "async_nats", "axum"];

const MODEL: &str = "kanade-model";
const PORTS: &str = "kanade-ports";
const CORE: &str = "kanade-core";
const CONFORMANCE: &str = "kanade-conformance";
const MEMORY: &str = "kanade-memory";
const SQLITE: &str = "kanade-sqlite";
const REDB: &str = "kanade-redb";
const FILES: &str = "kanade-files";
const NATS: &str = "kanade-nats";
const NATS_TESTING: &str = "kanade-nats-testing";
const POSTGRES: &str = "kanade-postgres";
const HTTP: &str = "kanade-http";
const DASHBOARD: &str = "kanade-dashboard";
const AGENT: &str = "kanade-agent";
const CLIENT: &str = "kanade-client";
const BINARY: &str = "kanade";

struct Layer {
    name: &'static str,
    uses: &'static [&'static str],
    drivers: &'static [&'static str],
}

const fn layer(name: &'static str, uses: &'static [&'static str], drivers: &'static [&'static str]) -> Layer {
    Layer { name, uses, drivers }
}

/// A crate of the workspace as its manifest describes it.
#[derive(Debug, Clone)]
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) folder: String,
    pub(super) dependencies: Vec<Dependency>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dependency {
    pub(super) on: String,
    pub(super) for_tests: bool,
}

/// A file of a crate.
#[derive(Debug)]
pub(super) struct SourceText {
    pub(super) path: String,
    pub(super) text: String,
}

/// One way in which the workspace leaves its layers.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("`{name}` is in no layer: give it one in xtask/src/layers/rules.rs")]
    NoLayer { name: String },
    #[error("`{name}` lives in the folder `{folder}`: a folder is named like its crate")]
    Folder { name: String, folder: String },
    #[error("`{name}` must not depend on `{on}`: it may use {}", listed(.may_use))]
    Upward {
        name: String,
        on: String,
        may_use: &'static [&'static str],
    },
    #[error(
        "the tests of `{name}` must not depend on `{on}`: DEV_EXCEPTIONS in xtask/src/layers/rules.rs does not list it"
    )]
    UpwardInTests { name: String, on: String },
    #[error("`{name}` must not depend on the driver `{driver}`: reach it through a port")]
    Driver { name: String, driver: String },
    #[error("{path}:{line}: names `{driver}`, which this crate must not know")]
    DriverNamed {
        path: String,
        line: usize,
        driver: &'static str,
    },
}

/// Checks what the crates declare.
pub(super) fn dependencies(crates: &[Crate]) -> Vec<Violation> {
    let mut found = Vec::new();
    for krate in crates {
        let name = || krate.name.clone();
        if krate.folder != krate.name {
            found.push(Violation::Folder {
                name: name(),
                folder: krate.folder.clone(),
            });
        }
        let Some(layer) = LAYERS.iter().find(|layer| layer.name == krate.name) else {
            found.push(Violation::NoLayer { name: name() });
            continue;
        };
        for Dependency { on, for_tests } in &krate.dependencies {
            let internal = crates.iter().any(|other| other.name == *on);
            let allowed = layer.uses.contains(&on.as_str());
            if internal && *for_tests && !allowed && !dev_exception(layer.name, on) {
                found.push(Violation::UpwardInTests {
                    name: name(),
                    on: on.clone(),
                });
            } else if internal && !for_tests && !allowed {
                found.push(Violation::Upward {
                    name: name(),
                    on: on.clone(),
                    may_use: layer.uses,
                });
            } else if !for_tests && DRIVERS.contains(&on.as_str()) && !layer.drivers.contains(&on.as_str()) {
                found.push(Violation::Driver {
                    name: name(),
                    driver: on.clone(),
                });
            }
        }
    }
    found
}

/// Whether [`source`] applies to the files of this crate.
pub(super) fn names_no_driver(name: &str) -> bool {
    DRIVERLESS.contains(&name)
}

/// Checks the text of one file, as `git grep -nE 'sqlx|redb|async_nats|axum'` would.
pub(super) fn source(file: &SourceText) -> Vec<Violation> {
    let mut found = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for driver in DRIVER_NAMES.iter().filter(|driver| line.contains(**driver)) {
            found.push(Violation::DriverNamed {
                path: file.path.clone(),
                line: index + 1,
                driver,
            });
        }
    }
    found
}

fn dev_exception(name: &str, on: &str) -> bool {
    DEV_EXCEPTIONS
        .iter()
        .any(|(tested, allowed)| *tested == name && allowed.contains(&on))
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        "no crate of the workspace".into()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The workspace in small, with one more dependency of `name` on `on`.
    fn workspace_with(name: &str, on: &str, for_tests: bool) -> Vec<Crate> {
        let mut crates: Vec<Crate> = LAYERS
            .iter()
            .map(|layer| Crate {
                name: layer.name.into(),
                folder: layer.name.into(),
                dependencies: layer
                    .uses
                    .iter()
                    .chain(layer.drivers)
                    .map(|on| Dependency {
                        on: (*on).into(),
                        for_tests: false,
                    })
                    .collect(),
            })
            .collect();
        let krate = crates.iter_mut().find(|krate| krate.name == name).unwrap();
        krate.dependencies.push(Dependency {
            on: on.into(),
            for_tests,
        });
        crates
    }

    #[test]
    fn the_table_itself_points_down_only() {
        for (height, layer) in LAYERS.iter().enumerate() {
            for used in layer.uses {
                let below = LAYERS[..height].iter().any(|lower| lower.name == *used);
                assert!(below, "{} uses {used}, which is not below it", layer.name);
            }
        }
    }

    #[test]
    fn every_exception_is_for_crates_that_have_a_layer() {
        for (tested, allowed) in DEV_EXCEPTIONS {
            for name in std::iter::once(tested).chain(*allowed) {
                assert!(LAYERS.iter().any(|layer| layer.name == *name), "{name}");
            }
        }
    }

    #[test]
    fn what_the_table_names_is_allowed() {
        assert_eq!(dependencies(&workspace_with(BINARY, "serde", false)), []);
    }

    #[test]
    fn normal_dependencies_point_down_only() {
        for (name, on) in [
            (MODEL, PORTS),
            (PORTS, CORE),
            (CORE, HTTP),
            (CORE, MEMORY),
            (CORE, CONFORMANCE),
            (CONFORMANCE, CORE),
            (MEMORY, CONFORMANCE),
            (SQLITE, CORE),
            (SQLITE, REDB),
            (HTTP, SQLITE),
            (HTTP, MEMORY),
            (AGENT, CORE),
            (CLIENT, HTTP),
            (AGENT, BINARY),
        ] {
            let found = dependencies(&workspace_with(name, on, false));
            assert!(
                matches!(&found[..], [Violation::Upward { name: n, on: o, .. }] if n == name && o == on),
                "{name} -> {on}: {found:?}"
            );
        }
    }

    #[test]
    fn tests_may_use_only_the_listed_exceptions() {
        for (name, on) in [
            (CORE, MEMORY),
            (HTTP, MEMORY),
            (AGENT, MEMORY),
            (CLIENT, HTTP),
            (CLIENT, CONFORMANCE),
            (SQLITE, CONFORMANCE),
            (CORE, PORTS),
        ] {
            assert_eq!(
                dependencies(&workspace_with(name, on, true)),
                [],
                "{name} -> {on}"
            );
        }
        for (name, on) in [
            (CORE, SQLITE),
            (HTTP, REDB),
            (MODEL, MEMORY),
            (SQLITE, CORE),
            (CLIENT, SQLITE),
            (HTTP, CLIENT),
            (AGENT, BINARY),
        ] {
            let expected = Violation::UpwardInTests {
                name: name.into(),
                on: on.into(),
            };
            assert_eq!(
                dependencies(&workspace_with(name, on, true)),
                [expected],
                "{name} -> {on}"
            );
        }
    }

    #[test]
    fn a_driver_belongs_to_its_layer() {
        for (name, driver) in [
            (MODEL, "sqlx"),
            (PORTS, "async-nats"),
            (CORE, "redb"),
            (CORE, "axum"),
            (HTTP, "sqlx"),
            (SQLITE, "redb"),
            (CLIENT, "axum"),
        ] {
            let expected = Violation::Driver {
                name: name.into(),
                driver: driver.into(),
            };
            assert_eq!(
                dependencies(&workspace_with(name, driver, false)),
                [expected],
                "{name} -> {driver}"
            );
        }
    }

    #[test]
    fn a_crate_without_a_layer_is_refused() {
        let stray = Crate {
            name: "kanade-utils".into(),
            folder: "kanade-utils".into(),
            dependencies: vec![],
        };
        assert_eq!(
            dependencies(&[stray]),
            [Violation::NoLayer {
                name: "kanade-utils".into()
            }]
        );
    }

    #[test]
    fn a_folder_is_named_like_its_crate() {
        let moved = Crate {
            name: MODEL.into(),
            folder: "model".into(),
            dependencies: vec![],
        };
        let expected = Violation::Folder {
            name: MODEL.into(),
            folder: "model".into(),
        };
        assert_eq!(dependencies(&[moved]), [expected]);
    }

    #[test]
    fn a_driver_is_not_named_in_the_source_either() {
        let file = |text: &str| SourceText {
            path: "src/lib.rs".into(),
            text: text.into(),
        };
        assert_eq!(source(&file("use kanade_ports::Bus;\n")), []);
        assert_eq!(
            source(&file("//! First line.\n// as in sqlx and axum\n")),
            [
                Violation::DriverNamed {
                    path: "src/lib.rs".into(),
                    line: 2,
                    driver: "sqlx"
                },
                Violation::DriverNamed {
                    path: "src/lib.rs".into(),
                    line: 2,
                    driver: "axum"
                },
            ]
        );
        assert!(!source(&file("async_nats::connect()")).is_empty());
        assert!(names_no_driver(CORE) && !names_no_driver(HTTP));
    }

    #[test]
    fn a_violation_says_what_is_allowed_instead() {
        let found = dependencies(&workspace_with(CORE, HTTP, false));
        assert_eq!(
            found[0].to_string(),
            "`kanade-core` must not depend on `kanade-http`: it may use kanade-model, kanade-ports"
        );
    }
}
