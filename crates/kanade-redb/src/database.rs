//! A data file as its owner sees it: one handle that the store and the catalog share.

use std::{fmt, path::Path, sync::Arc};

use kanade_ports::StoreError;

use crate::{
    catalog::RedbCatalog,
    engine::{self, Engine, Writer},
    fault::Fault,
    feed::Feeds,
    file, maintenance,
    store::RedbStore,
    task,
};

/// An open data file. Its store and its catalog keep the file open too, until [`close`](Self::close).
pub struct Database {
    engine: Arc<Engine>,
    feeds: Arc<Feeds>,
    store: Arc<RedbStore>,
    catalog: Arc<RedbCatalog>,
}

impl Database {
    /// Opens the data file at `path`, or makes a new one where there is none. Compacts it when most of it is free.
    /// Blocks: a file that was not closed is verified as a whole, and so is any file up to 256 MiB.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be opened now: another process has it open, the folder is missing, the disk
    /// fails. `Corrupt` when it is no data file, belongs to another program, was cut off or is damaged; `Unsupported`
    /// when a newer kanade wrote it. In these cases it is left as it is. The source is a sentence for people.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        file::prepare(path)?;
        let name = path.display().to_string();
        let device = path.to_owned();
        let engine = Engine::start(
            name.clone(),
            Box::new(move || file::device(&device)),
            engine::CACHE,
        );
        engine
            .and_then(Self::on)
            .map_err(|fault| fault.of(format!("open the data file {name}")))
    }

    /// Everything on top of an engine.
    pub(crate) fn on(engine: Engine) -> Result<Self, Fault> {
        maintenance::complete(&engine)?;
        maintenance::at_start(&engine)?;
        let (engine, feeds) = (Arc::new(engine), Arc::new(Feeds::default()));
        Ok(Self {
            store: Arc::new(RedbStore::new(Arc::clone(&engine))),
            catalog: Arc::new(RedbCatalog::new(Arc::clone(&engine), Arc::clone(&feeds))),
            engine,
            feeds,
        })
    }

    #[cfg(test)]
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The store in it.
    pub fn store(&self) -> Arc<RedbStore> {
        Arc::clone(&self.store)
    }

    /// The catalog in it.
    pub fn catalog(&self) -> Arc<RedbCatalog> {
        Arc::clone(&self.catalog)
    }

    /// Gives free space in the file back to the disk; says whether there was any. Everybody else waits meanwhile, in
    /// the worst case for as long as it takes to write the file anew.
    ///
    /// # Errors
    /// `Unavailable` when the disk fails; nothing is lost then.
    pub async fn compact(&self) -> Result<bool, StoreError> {
        self.alone("compact", Engine::compact).await
    }

    /// Closes the file after what is under way, and ends every watch. Whoever uses the store or the catalog after that
    /// gets `Unavailable`.
    ///
    /// # Errors
    /// `Unavailable` when the disk fails. What was committed is in the file all the same.
    pub async fn close(&self) -> Result<(), StoreError> {
        let closed = self.alone("close", Engine::close).await;
        self.feeds.close();
        closed
    }

    async fn alone<T: Send + 'static>(
        &self,
        what: &str,
        work: fn(&Engine, &Writer) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        task::write(&self.engine, work)
            .await
            .map_err(|fault| fault.of(format!("{what} the data file {}", self.engine.name())))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({})", self.engine.name())
    }
}
