//! The one place where backends are named: opens what the configuration asks for and closes it again.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use kanade_core::{Abilities, Ports};
use kanade_files::{FileReleases, KeyFile};
use kanade_memory::{EmbeddedBus, MemoryCatalog, MemoryStore};
use kanade_nats::Nats;
use kanade_ports::{Bus, Catalog, Clock, ExecutionStore, Ids, Releases, SystemClock, SystemIds};

use crate::config::{self, Config};

/// Opened backends.
pub(crate) struct Deployment {
    /// What they offer.
    pub(crate) ports: Ports,
    files: Vec<File>,
    nats: Option<Nats>,
}

/// A data file that stays open while the server runs.
enum File {
    Sqlite(kanade_sqlite::Database),
    Redb(kanade_redb::Database),
}

impl Deployment {
    /// Opens the backends of a configuration, creating what is not there.
    pub(crate) async fn open(config: &Config) -> Result<Self> {
        std::fs::create_dir_all(&config.data_dir)
            .with_context(|| format!("cannot create the data directory {}", config.data_dir.display()))?;
        // Before any file is touched: a broker that is away stops the start.
        let nats = match (&config.catalog, &config.bus) {
            (config::Catalog::Nats, _) | (_, config::Bus::Nats) => {
                Some(Nats::connect(config.nats.settings("kanade")).await?)
            }
            _ => None,
        };
        let mut files = Vec::new();
        let (store, shared): (Arc<dyn ExecutionStore>, Option<Arc<dyn Catalog>>) = match &config.store {
            config::Store::Sqlite { path } => {
                let file = kanade_sqlite::Database::open(&config.data_path(path)).await?;
                let shared = same_sqlite(config, path).then(|| file.catalog() as Arc<dyn Catalog>);
                let store = file.store();
                files.push(File::Sqlite(file));
                (store, shared)
            }
            config::Store::Redb { path } => {
                let file = kanade_redb::Database::open(&config.data_path(path))?;
                let shared = same_redb(config, path).then(|| file.catalog() as Arc<dyn Catalog>);
                let store = file.store();
                files.push(File::Redb(file));
                (store, shared)
            }
            config::Store::Memory => (Arc::new(MemoryStore::new()), None),
        };
        let catalog = match (&config.catalog, shared) {
            (_, Some(shared)) => shared,
            (config::Catalog::Sqlite { path }, None) => {
                let file = kanade_sqlite::Database::open(&config.data_path(path)).await?;
                let catalog = file.catalog();
                files.push(File::Sqlite(file));
                catalog
            }
            (config::Catalog::Redb { path }, None) => {
                let file = kanade_redb::Database::open(&config.data_path(path))?;
                let catalog = file.catalog();
                files.push(File::Redb(file));
                catalog
            }
            (config::Catalog::Nats, None) => connected(nats.as_ref()).catalog(),
            (config::Catalog::Memory, None) => Arc::new(MemoryCatalog::new()),
        };
        let bus: Arc<dyn Bus> = match &config.bus {
            config::Bus::Embedded => Arc::new(EmbeddedBus::new()),
            config::Bus::Nats => connected(nats.as_ref()).bus(),
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ids: Arc<dyn Ids> = Arc::new(SystemIds);
        let releases: Arc<dyn Releases> = match &config.bus {
            config::Bus::Embedded => {
                let folder = config.data_path(Path::new("releases"));
                Arc::new(FileReleases::open(&folder, Arc::clone(&clock))?)
            }
            config::Bus::Nats => connected(nats.as_ref()).releases(),
        };
        let abilities = Abilities {
            releases: Some(releases),
            secrets: Some(Arc::new(KeyFile::new(config.data_path(Path::new("secrets.key"))))),
            resources: nats.as_ref().map(Nats::resources),
            retained: matches!(config.bus, config::Bus::Nats).then(|| connected(nats.as_ref()).retained()),
        };
        Ok(Self {
            ports: Ports {
                store,
                catalog,
                bus,
                clock,
                ids,
                abilities,
            },
            files,
            nats,
        })
    }

    /// Says what is still to be said, writes out and closes the data files.
    pub(crate) async fn close(self) -> Result<()> {
        drop(self.ports);
        if let Some(nats) = self.nats {
            nats.close().await;
        }
        for file in self.files {
            match file {
                File::Sqlite(file) => file.close().await?,
                File::Redb(file) => file.close().await?,
            }
        }
        Ok(())
    }
}

fn connected(nats: Option<&Nats>) -> &Nats {
    nats.expect("it is connected to where the configuration names it")
}

fn same_sqlite(config: &Config, store: &Path) -> bool {
    matches!(&config.catalog, config::Catalog::Sqlite { path } if path == store)
}

fn same_redb(config: &Config, store: &Path) -> bool {
    matches!(&config.catalog, config::Catalog::Redb { path } if path == store)
}

#[cfg(test)]
mod secret_tests;
