//! The agent: how it starts and stops, and what all its parts use.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kanade_model::{Pattern, Subject};
use kanade_ports::{Bucket, CatalogReader, Clock, Ids, PubSub};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::spawn_blocking,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    AgentConfig, StartError,
    in_hand::{Hold, InHand},
    inbox::Inbox,
    intake,
    journal::{Journal, OpenError, Outgoing, RunRecord},
    knowledge::{Knowledge, WATCHED},
    outbox::Outbox,
    params::Secrets,
    presence, process,
    report::Reporter,
    run::Run,
    schedules::{self, Memory, Ticking},
    update,
};

/// A running agent. Dropped, it stops by itself; [`stop`](Self::stop) also waits for the end.
pub struct Agent {
    pub(crate) shared: Arc<Shared>,
    services: TaskTracker,
}

/// What all parts of an agent use.
pub(crate) struct Shared {
    pub(crate) config: AgentConfig,
    pub(crate) bus: Arc<dyn PubSub>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) knowledge: Knowledge,
    pub(crate) outbox: Outbox,
    pub(crate) in_hand: InHand,
    /// The schedules that this agent ticks.
    pub(crate) ticking: Arc<Ticking>,
    /// One for each script that may run.
    pub(crate) slots: Arc<Semaphore>,
    /// Whether a heartbeat of this life has been sent.
    pub(crate) beaten: watch::Sender<bool>,
    /// Where the scripts that run are kept as files.
    pub(crate) scripts: PathBuf,
    /// Nothing is started any more, and what runs is ended.
    pub(crate) stopping: CancellationToken,
    /// Nothing is said any more.
    pub(crate) closing: CancellationToken,
    /// Runs, and what else has to be finished before the agent may close.
    pub(crate) work: TaskTracker,
}

impl Agent {
    /// Starts an agent: takes up what an earlier life left behind, listens, and says that it is there.
    ///
    /// When this returns, it listens on every bus that could be used by then. Neither bus nor catalog need be there:
    /// they are tried again for as long as the agent lives.
    ///
    /// # Errors
    /// When its folder or its journal cannot be used.
    pub async fn start(
        config: AgentConfig,
        bus: Arc<dyn PubSub>,
        catalog: Arc<dyn CatalogReader>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Self, StartError> {
        let folder = config.data_dir.clone();
        let (folder, journal) = spawn_blocking(move || open(&folder))
            .await
            .expect("opening a folder does not panic")?;
        Self::with_journal(config, folder, journal, bus, catalog, clock, ids).await
    }

    /// The same in a folder that is open.
    pub(crate) async fn with_journal(
        config: AgentConfig,
        folder: PathBuf,
        journal: Journal,
        bus: Arc<dyn PubSub>,
        catalog: Arc<dyn CatalogReader>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Self, StartError> {
        let journal = Arc::new(journal);
        let unreadable = |error| StartError::Journal {
            path: Journal::path(&folder),
            source: Box::new(error),
        };
        let outbox = Outbox::new(Arc::clone(&journal), Arc::clone(&bus), Arc::clone(&clock));
        let outbox = outbox.await.map_err(unreadable)?;
        journal.give_back().await.map_err(unreadable)?;
        let left_behind = journal.unreported().await.map_err(unreadable)?;
        let in_hand = InHand::default();
        in_hand.remember(journal.kills().await.map_err(unreadable)?);
        let first_contact = config.limits.first_contact_within;
        let at = folder.clone();
        let memory = spawn_blocking(move || Memory::open(&at))
            .await
            .expect("reading a file does not panic");
        let knowledge = Knowledge::new(config.pc_id.clone(), catalog, Arc::clone(&clock), first_contact);
        if config.ticks {
            knowledge.recall(&memory.documents());
        }
        let shared = Arc::new(Shared {
            knowledge,
            ticking: Arc::new(Ticking::new(memory)),
            slots: Arc::new(Semaphore::new(at_once(&config))),
            beaten: watch::Sender::new(false),
            scripts: scripts(&folder),
            config,
            bus,
            clock,
            ids,
            journal,
            outbox,
            in_hand,
            stopping: CancellationToken::new(),
            closing: CancellationToken::new(),
            work: TaskTracker::new(),
        });
        let agent = Self {
            shared,
            services: TaskTracker::new(),
        };
        agent.serve(left_behind).await;
        tracing::info!(pc_id = %agent.shared.config.pc_id, "the agent listens");
        Ok(agent)
    }

    async fn serve(&self, left_behind: Vec<RunRecord>) {
        let Self { shared, services } = self;
        let of_agent = Arc::clone(shared);
        services.spawn(async move { of_agent.close_after_stop().await });
        for bucket in WATCHED {
            self.until_closing(|shared| async move { shared.knowledge.follow(bucket).await });
        }
        if shared.config.ticks {
            self.until_closing(|shared| async move { shared.knowledge.follow(Bucket::Schedules).await });
            self.until_closing(schedules::keep);
        }
        self.until_closing(|shared| async move { shared.outbox.run().await });
        // Runs are in hand before kills are heard, and kills are heard before Commands: no kill slips past a run.
        for record in left_behind {
            let RunRecord { command, .. } = &record;
            if let Ok(hold) = shared
                .in_hand
                .take(command.request_id, command.exec_id.clone(), usize::MAX)
            {
                let settle_in = shared.config.limits.settle_in;
                shared.carry_out(record, Secrets::default(), hold, settle_in);
            }
        }
        let pc_id = &shared.config.pc_id;
        let kills = self.inbox("kill.>".parse().expect("a literal pattern")).await;
        self.until_closing(|shared| intake::kills(shared, kills));
        for subject in [Subject::commands_all(), Subject::commands_pc(pc_id)] {
            let commands = self.inbox(subject.into()).await;
            self.until_closing(|shared| intake::commands(shared, commands));
        }
        if shared.config.ticks {
            let since = shared.clock.now();
            self.until_closing(|shared| schedules::tick(shared, since));
        }
        self.until_closing(intake::groups);
        self.until_closing(intake::backlog);
        let requests = self.inbox(Subject::logs_fetch(pc_id).into()).await;
        self.until_closing(|shared| presence::answer_log_requests(shared, requests));
        let pings = self.inbox(Subject::ping(pc_id).into()).await;
        self.until_closing(|shared| presence::answer_pings(shared, pings));
        // The server may send Commands as soon as it sees the agent alive.
        self.until_closing(presence::beat);
    }

    /// Says once that it stays as it is, when it is to be of another version: the server's program is not an agent's to
    /// replace.
    pub fn leaves_updates_to_its_server(&self) {
        self.until_closing(update::stay);
    }

    /// Returns when the agent has sent a heartbeat and read its configuration: there is a server, and it answers.
    pub async fn shows_life(&self) {
        let mut beaten = self.shared.beaten.subscribe();
        // Its sender lives as long as the agent.
        let _ = beaten.wait_for(|beaten| *beaten).await;
        self.shared.knowledge.configured().await;
    }

    async fn inbox(&self, pattern: Pattern) -> Inbox {
        Inbox::open(
            Arc::clone(&self.shared.bus),
            Arc::clone(&self.shared.clock),
            pattern,
        )
        .await
    }

    fn until_closing<F: Future<Output = ()> + Send + 'static>(&self, service: impl FnOnce(Arc<Shared>) -> F) {
        let service = service(Arc::clone(&self.shared));
        self.services
            .spawn(self.shared.closing.clone().run_until_cancelled_owned(service));
    }

    /// Stops: starts nothing more, ends what runs and reports it as interrupted, and gives the bus some time to take
    /// what is in the outbox. What is only waiting, for its jitter or its turn, is started in the next life.
    pub async fn stop(self) {
        self.shared.stopping.cancel();
        self.services.close();
        self.services.wait().await;
        self.shared.journal.close().await;
        tracing::info!(pc_id = %self.shared.config.pc_id, "the agent has stopped");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.shared.stopping.cancel();
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("pc_id", &self.shared.config.pc_id)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Waits until no script runs. None is started while the permit is held.
    pub(crate) async fn quiet(&self) -> OwnedSemaphorePermit {
        let all = u32::try_from(at_once(&self.config)).expect("that many at most");
        Arc::clone(&self.slots)
            .acquire_many_owned(all)
            .await
            .expect("the slots are never closed")
    }

    pub(crate) fn reporter(&self) -> Reporter<'_> {
        Reporter {
            pc_id: &self.config.pc_id,
            ids: &*self.ids,
            message_bytes: self.config.limits.message_bytes,
        }
    }

    /// Carries out a run that is in the journal.
    pub(crate) fn carry_out(
        self: &Arc<Self>,
        record: RunRecord,
        secrets: Secrets,
        hold: Hold,
        settle_in: Duration,
    ) {
        self.work
            .spawn(Run::new(Arc::clone(self), record, secrets, hold, settle_in).carry_out());
    }

    /// One attempt to send what the journal could not keep. Whether the bus has it.
    pub(crate) async fn send_unkept(&self, message: &Outgoing) -> bool {
        match self
            .stopping
            .run_until_cancelled(self.outbox.send_unkept(message))
            .await
        {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                tracing::warn!(subject = %message.subject, %error, "cannot send what cannot be recorded either");
                false
            }
            None => false,
        }
    }

    async fn close_after_stop(&self) {
        self.stopping.cancelled().await;
        self.work.close();
        self.work.wait().await;
        let flushed = tokio::time::timeout(self.config.limits.flush_within, self.outbox.emptied()).await;
        if flushed.is_err() {
            tracing::warn!("the bus does not take everything now; the rest is sent when the agent is back");
        }
        self.closing.cancel();
    }
}

/// So many that all of them can be taken at once.
fn at_once(config: &AgentConfig) -> usize {
    config.limits.at_once.min(u32::MAX as usize >> 3)
}

/// Makes the folder what it has to be and opens the journal in it.
fn open(folder: &Path) -> Result<(PathBuf, Journal), StartError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |source| StartError::Folder { path, source }
    };
    // Scripts run in other working directories.
    let folder = std::path::absolute(folder).map_err(unusable(folder))?;
    std::fs::create_dir_all(&folder).map_err(unusable(&folder))?;
    let path = Journal::path(&folder);
    let journal = Journal::open(&path).map_err(|error| match error {
        OpenError::InUse => StartError::InUse { path },
        OpenError::TooNew { found, known } => StartError::TooNew { path, found, known },
        OpenError::Unusable(error) => StartError::Journal {
            path,
            source: Box::new(error),
        },
    })?;
    // Only now: before, the scripts may have been those of another agent that runs.
    let scripts = scripts(&folder);
    process::clear_scripts(&scripts).map_err(unusable(&scripts))?;
    Ok((folder, journal))
}

fn scripts(folder: &Path) -> PathBuf {
    folder.join("scripts")
}
