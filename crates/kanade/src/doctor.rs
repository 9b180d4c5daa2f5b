//! What `kanade doctor` looks at: each check by itself, so that one that fails hides no other. Nothing is changed.

mod broker;

use std::{fs, path::Path, time::Duration};

use futures::TryStreamExt;
use kanade_client::Client;
use kanade_core::Services;
use kanade_model::api;

use crate::config::{self, Config};

/// Free space under which a store is in danger, and under which it should be looked at.
const FREE: (u64, u64) = (100 << 20, 1 << 30);
const ANSWER: Duration = Duration::from_secs(5);

pub(crate) use kanade_model::api::{Check, Verdict};

/// A check of this verdict.
trait Found: Sized {
    fn new(check: impl Into<String>, verdict: Verdict, detail: impl Into<String>) -> Self;

    fn ok(check: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, detail)
    }

    fn warning(check: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warning, detail)
    }

    fn failed(check: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(check, Verdict::Failed, detail)
    }
}

impl Found for Check {
    fn new(check: impl Into<String>, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            verdict,
            detail: detail.into(),
        }
    }
}

/// Where to look.
pub(crate) struct Places<'a> {
    pub(crate) config: Option<&'a Path>,
    /// A running server.
    pub(crate) server: Client,
    /// The monitoring address of the broker (`http://host:8222`).
    pub(crate) monitor: Option<&'a str>,
}

/// Looks at everything.
pub(crate) async fn examine(places: &Places<'_>) -> Vec<Check> {
    let config = match Config::load(places.config) {
        Ok(config) => config,
        Err(error) => return vec![Check::failed("configuration", error.to_string())],
    };
    let source = places.config.map_or("defaults and environment".into(), |path| {
        path.display().to_string()
    });
    let mut checks = vec![Check::ok("configuration", source)];
    checks.extend(data(&config));
    let server = server(&places.server).await;
    if server.verdict == Verdict::Ok {
        checks.push(schedules(&places.server).await);
    }
    checks.push(server);
    checks.extend(broker(&config, places.monitor).await);
    checks
}

/// Looks from within a running server, which knows its configuration and its parts.
pub(crate) async fn examine_own(config: Config, services: Services) -> Vec<Check> {
    let files = config.clone();
    let mut checks = tokio::task::spawn_blocking(move || data(&files))
        .await
        .unwrap_or_else(|error| vec![Check::failed("data directory", error.to_string())]);
    for (part, well) in services.check().await {
        checks.push(match well {
            Ok(()) => Check::ok(format!("server: {part}"), "it does its work"),
            Err(why) => Check::failed(format!("server: {part}"), why),
        });
    }
    checks.push(own_schedules(&services));
    checks.extend(broker(&config, None).await);
    checks
}

fn own_schedules(services: &Services) -> Check {
    let schedules = services.schedules.list();
    let invalid = schedules.iter().filter_map(|stored| {
        let problem = stored.document.check().err()?;
        Some((stored.document.id.to_string(), problem.to_string()))
    });
    let problems: Vec<_> = invalid.chain(services.schedules.unreadable()).collect();
    told_of_schedules(schedules.len(), &problems)
}

async fn broker(config: &Config, monitor: Option<&str>) -> Vec<Check> {
    if matches!(config.catalog, config::Catalog::Nats) || matches!(config.bus, config::Bus::Nats) {
        broker::examine(&config.nats, monitor).await
    } else {
        Vec::new()
    }
}

/// The folder of the data, the files in it, and the room they have.
fn data(config: &Config) -> Vec<Check> {
    let folder = &config.data_dir;
    let mut checks = Vec::new();
    if !folder.exists() {
        return vec![Check::ok(
            "data directory",
            format!(
                "{} is not there yet; the first start creates it",
                folder.display()
            ),
        )];
    }
    checks.push(match tempfile::NamedTempFile::new_in(folder) {
        Ok(_) => Check::ok("data directory", format!("{} can be written", folder.display())),
        Err(error) => Check::failed("data directory", format!("{}: {error}", folder.display())),
    });
    checks.push(match fs4::available_space(folder) {
        Ok(free) => space(free),
        Err(error) => Check::warning("disk space", format!("cannot be told: {error}")),
    });
    let file = |check: &str, path: &Path, magic: &[u8]| {
        let path = config.data_path(path);
        Some(data_file(check, &path, magic))
    };
    const SQLITE: &[u8] = b"SQLite format 3\0";
    const REDB: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
    checks.extend(match &config.store {
        config::Store::Sqlite { path } => file("store", path, SQLITE),
        config::Store::Redb { path } => file("store", path, REDB),
        config::Store::Memory => None,
    });
    checks.extend(match &config.catalog {
        config::Catalog::Sqlite { path } => file("catalog", path, SQLITE),
        config::Catalog::Redb { path } => file("catalog", path, REDB),
        config::Catalog::Nats | config::Catalog::Memory => None,
    });
    checks
}

fn space(free: u64) -> Check {
    let text = format!("{} MiB are free", free >> 20);
    match free {
        free if free < FREE.0 => Check::failed("disk space", format!("{text}; the store needs room")),
        free if free < FREE.1 => Check::warning("disk space", format!("{text}, which is little")),
        _ => Check::ok("disk space", text),
    }
}

/// A file is what it should be as far as its head tells; whoever has it open knows more.
fn data_file(check: &str, path: &Path, magic: &[u8]) -> Check {
    let shown = path.display();
    match fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Check::ok(
            check,
            format!("{shown} is not there yet; the first start creates it"),
        ),
        Err(error) => Check::failed(check, format!("{shown}: {error}")),
        Ok(mut file) => {
            let bytes = file.metadata().map_or(0, |metadata| metadata.len());
            let mut head = vec![0; magic.len()];
            match std::io::Read::read_exact(&mut file, &mut head) {
                Ok(()) if head == magic => Check::ok(check, format!("{shown}, {} KiB", bytes >> 10)),
                Ok(()) => Check::failed(check, format!("{shown} is a file of another kind")),
                // Created, and nothing written to it yet.
                Err(_) if bytes == 0 => Check::ok(check, format!("{shown} is empty")),
                Err(error) => Check::failed(check, format!("{shown}: {error}")),
            }
        }
    }
}

/// A running server knows more about its store, catalog and bus than anybody from outside.
async fn server(client: &Client) -> Check {
    let asked = tokio::time::timeout(ANSWER, client.ready()).await;
    match asked {
        Ok(Ok(ready)) if ready.ready => {
            let outages = ready.bus.map_or(0, |bus| bus.outages);
            let bus = if outages > 0 {
                format!("; its bus was lost {outages} times since it started")
            } else {
                String::new()
            };
            Check::ok("server", format!("it runs and can do its work{bus}"))
        }
        Ok(Ok(ready)) => {
            let wrong = ready.checks.iter().filter(|(_, state)| *state != "ok");
            let wrong: Vec<String> = wrong.map(|(part, state)| format!("{part}: {state}")).collect();
            Check::failed(
                "server",
                format!("it runs and cannot do its work: {}", wrong.join("; ")),
            )
        }
        Ok(Err(error)) => Check::warning("server", format!("it cannot be asked: {error}")),
        Err(_) => Check::failed(
            "server",
            format!("it does not answer within {}s", ANSWER.as_secs()),
        ),
    }
}

/// Schedules that do not fire because their documents are not valid.
async fn schedules(client: &Client) -> Check {
    let listed = client.schedules().try_collect::<Vec<_>>();
    let listed = match tokio::time::timeout(ANSWER, listed).await {
        Ok(Ok(listed)) => listed,
        Ok(Err(error)) => return Check::warning("schedules", format!("they cannot be listed: {error}")),
        Err(_) => return Check::warning("schedules", "they are not listed in time"),
    };
    let count = listed.len();
    let problems: Vec<(String, String)> = listed
        .into_iter()
        .filter_map(|listed| match listed {
            api::ScheduleListed::Schedule(shown) => Some((shown.schedule.id.to_string(), shown.problem?)),
            api::ScheduleListed::Unreadable(unreadable) => Some((unreadable.id, unreadable.problem)),
        })
        .collect();
    told_of_schedules(count, &problems)
}

/// Each problem is the id of a schedule and what is wrong with it.
fn told_of_schedules(count: usize, problems: &[(String, String)]) -> Check {
    if problems.is_empty() {
        return Check::ok("schedules", format!("{count} are valid"));
    }
    let told: Vec<String> = problems
        .iter()
        .map(|(id, problem)| format!("`{id}`: {problem}"))
        .collect();
    let text = format!("{} do not fire, being not valid: {}", told.len(), told.join("; "));
    Check::failed("schedules", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_a_warning_and_none_a_failure() {
        for (free, verdict) in [
            (0, Verdict::Failed),
            ((100 << 20) - 1, Verdict::Failed),
            (100 << 20, Verdict::Warning),
            (1 << 30, Verdict::Ok),
        ] {
            assert_eq!(space(free).verdict, verdict, "{free}");
        }
    }

    #[test]
    fn a_file_of_another_kind_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kanade.db");
        let look = || data_file("store", &path, b"SQLite format 3\0").verdict;
        assert_eq!(look(), Verdict::Ok, "not there yet");
        fs::write(&path, "").unwrap();
        assert_eq!(look(), Verdict::Ok, "just created");
        fs::write(&path, "SQLite format 3\0 and more").unwrap();
        assert_eq!(look(), Verdict::Ok);
        fs::write(&path, "an old shopping list").unwrap();
        assert_eq!(look(), Verdict::Failed);
    }
}
