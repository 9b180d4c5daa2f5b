//! Wires the services over the ports, starts the loops, and stops them in order.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use kanade_model::{PcId, api::BusRecord};
use kanade_ports::{
    Bucket, Bus, Catalog, Clock, Durable, ExecutionStore, Ids, KeyKeeper, Releases, Resources,
    RetainedCommands,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    AgentPorts, Agents, Audit, CatalogView, Committer, Counters, Dispatcher, Documents, Fires, Freezes, Jobs,
    Kills, Live, Observer, Outputs, Scheduler, Schedules, Settings, Steering,
    audit_stream::AuditStream,
    hold::History,
    presence::{Absences, Admissions, Alive, HeartbeatRecord, Presence},
    project::{Progress, Projector},
    retained::{Clearing, Retained},
    secrets::Secrets,
    steer::Wake,
    upkeep::{Surplus, Upkeep},
    view::ChangeObserver,
};

/// What a deployment is made of.
#[derive(Clone)]
pub struct Ports {
    /// Records what happened.
    pub store: Arc<dyn ExecutionStore>,
    /// Keeps what operators edit.
    pub catalog: Arc<dyn Catalog>,
    /// Moves messages.
    pub bus: Arc<dyn Bus>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Gives ids.
    pub ids: Arc<dyn Ids>,
    /// What only some deployments can do.
    pub abilities: Abilities,
}

/// What only some deployments can do.
#[derive(Clone, Default)]
pub struct Abilities {
    /// Commands are retained for agents that are away.
    pub retained: Option<Arc<dyn RetainedCommands>>,
    /// Releases of the agent are kept.
    pub releases: Option<Arc<dyn Releases>>,
    /// There is a broker that can be looked at.
    pub resources: Option<Arc<dyn Resources>>,
    /// There is a place for the key that seals secrets.
    pub secrets: Option<Arc<dyn KeyKeeper>>,
}

/// The services of a server. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// Jobs and their script status.
    pub jobs: Jobs,
    /// Schedules.
    pub schedules: Schedules,
    /// What fires by itself.
    pub scheduler: Scheduler,
    /// What keeps it from doing so.
    pub freezes: Freezes,
    /// Agents.
    pub agents: Agents,
    /// Fires.
    pub fires: Fires,
    /// Kills.
    pub kills: Kills,
    /// Pauses, resumptions, aborts, gates.
    pub steering: Steering,
    /// What this server has done.
    pub counters: Arc<Counters>,
    /// When agents have shown life.
    pub heartbeats: Arc<HeartbeatRecord>,
    /// Releases of the agent.
    pub releases: crate::Releases,
    /// The fleet as a whole.
    pub fleet: crate::Fleet,
    /// How executions and runs went over time.
    pub counts: crate::Counts,
    /// Live events.
    pub live: Live,
    /// What runs print.
    pub outputs: Outputs,
    /// Questions to the store.
    pub store: Arc<dyn ExecutionStore>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    bus: Arc<dyn Bus>,
    catalog: Arc<dyn Catalog>,
    committer: Committer,
    view: CatalogView,
}

/// The loops behind the services.
pub struct Running {
    stop: CancellationToken,
    loops: TaskTracker,
    commits: tokio::task::JoinHandle<()>,
}

impl Services {
    /// Starts the services and their loops; returns when the catalog has been read.
    pub async fn start(ports: Ports, settings: Settings) -> (Self, Running) {
        let Ports {
            store,
            catalog,
            bus,
            clock,
            ids,
            abilities,
        } = ports;
        let settings = Arc::new(settings);
        let (stop, loops) = (CancellationToken::new(), TaskTracker::new());
        let live = Live::default();
        let outputs = Outputs::new(Arc::clone(&store), Arc::clone(&clock));
        let retained = abilities
            .retained
            .as_ref()
            .map(|port| Retained::new(Arc::clone(port), Arc::clone(&clock)));

        let audit_stream = AuditStream::default();
        let (told, clears) = (live.clone(), retained.clone());
        let ended = outputs.clone();
        let wake = Arc::new(Wake::default());
        let surplus = Arc::new(Surplus::new(settings.keep_per_job));
        let counters = Arc::new(Counters::default());
        let (steered, fired, counted) = (Arc::clone(&wake), Arc::clone(&surplus), Arc::clone(&counters));
        let streamed = bus
            .durables()
            .contains(&Durable::Audit)
            .then(|| audit_stream.clone());
        let committed: Observer = Arc::new(move |set| {
            told.committed(set);
            ended.committed(set);
            steered.committed(set);
            fired.committed(set);
            counted.committed(set);
            if let Some(stream) = &streamed {
                stream.committed(set);
            }
            if let Some(retained) = &clears {
                retained.committed(set);
            }
        });
        let (committer, commits) = Committer::new(Arc::clone(&store), committed);
        let commits = tokio::spawn(commits);
        let (told, clears) = (live.clone(), retained.clone());
        let changes: ChangeObserver = Arc::new(move |bucket, key, deleted| {
            told.document_changed(bucket, key, deleted);
            if let Some(retained) = &clears {
                retained.document_changed(bucket);
            }
        });
        let view = CatalogView::start(&catalog, &clock, &changes, &loops, &stop);

        let documents = Documents::new(Arc::clone(&catalog), view.clone(), Arc::clone(&clock));
        let audit = Audit::new(committer.clone(), Arc::clone(&clock), Arc::clone(&ids));
        let secrets = Secrets::new(abilities.secrets.clone(), abilities.retained.is_some());
        let dispatcher = Dispatcher::new(
            Arc::clone(&store),
            Arc::clone(&bus),
            Arc::clone(&clock),
            committer.clone(),
            retained.clone(),
            secrets.clone(),
        );
        let references = Arc::default();
        let progress = Progress::default();
        let history = History {
            store: Arc::clone(&store),
            committer: committer.clone(),
            clock: Arc::clone(&clock),
            settings: Arc::clone(&settings),
        };
        let freezes = Freezes {
            documents: documents.clone(),
            audit: audit.clone(),
            clock: Arc::clone(&clock),
        };
        let fires = Fires {
            documents: documents.clone(),
            store: Arc::clone(&store),
            committer: committer.clone(),
            dispatcher: dispatcher.clone(),
            audit: audit.clone(),
            clock: Arc::clone(&clock),
            ids: Arc::clone(&ids),
            settings: Arc::clone(&settings),
            secrets,
        };
        let kills = Kills {
            store: Arc::clone(&store),
            bus: Arc::clone(&bus),
            clock: Arc::clone(&clock),
            committer: committer.clone(),
            dispatcher: dispatcher.clone(),
            retained: retained.clone(),
            audit: audit.clone(),
            documents: documents.clone(),
            settings: Arc::clone(&settings),
            repeating: Arc::default(),
        };
        let scheduler = Scheduler {
            documents: documents.clone(),
            view: view.clone(),
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            committer: committer.clone(),
            audit: audit.clone(),
            fires: fires.clone(),
            kills: kills.clone(),
            freezes: freezes.clone(),
            history: history.clone(),
        };
        let services = Self {
            jobs: Jobs::new(
                documents.clone(),
                Arc::clone(&store),
                audit.clone(),
                Arc::clone(&references),
                retained.clone(),
            ),
            schedules: Schedules::new(documents.clone(), audit.clone(), references, history),
            scheduler,
            freezes,
            agents: Agents {
                documents: documents.clone(),
                store: Arc::clone(&store),
                bus: Arc::clone(&bus),
                clock: Arc::clone(&clock),
                ids,
                audit: audit.clone(),
            },
            releases: crate::Releases::new(abilities.releases.clone(), documents, audit.clone()),
            fleet: crate::Fleet::new(
                Arc::clone(&store),
                abilities.resources.clone(),
                Arc::clone(&clock),
            ),
            fires,
            kills,
            steering: Steering {
                store: Arc::clone(&store),
                clock: Arc::clone(&clock),
                committer: committer.clone(),
                dispatcher: dispatcher.clone(),
                audit,
                settings: Arc::clone(&settings),
                wake,
            },
            counters: Arc::clone(&counters),
            heartbeats: Arc::new(HeartbeatRecord::new(clock.now())),
            counts: crate::Counts::new(Arc::clone(&store), Arc::clone(&clock)),
            live: live.clone(),
            outputs: outputs.clone(),
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            bus: Arc::clone(&bus),
            catalog,
            committer: committer.clone(),
            view,
        };

        let spawn = |work: futures::future::BoxFuture<'static, ()>| {
            loops.spawn(stop.clone().run_until_cancelled_owned(work));
        };
        for durable in bus.durables() {
            let (store, bus, clock) = (Arc::clone(&store), Arc::clone(&bus), Arc::clone(&clock));
            let (progress, audit_stream) = (progress.clone(), audit_stream.clone());
            let projector = Projector::new(
                *durable,
                bus,
                store,
                committer.clone(),
                clock,
                progress,
                audit_stream,
            );
            spawn(Box::pin(projector.run()));
        }
        spawn(Box::pin(audit_stream.run(Arc::clone(&bus), Arc::clone(&clock))));
        if let Some(retained) = retained {
            let (store, view) = (Arc::clone(&store), services.view.clone());
            let clearing = Clearing {
                retained,
                store,
                view,
            };
            spawn(Box::pin(clearing.run()));
        }
        let admissions = abilities
            .retained
            .map(|port| Admissions::new(port, Arc::clone(&bus)));
        spawn(Box::pin(outputs.run(Arc::clone(&bus))));
        let presence = Presence {
            store: Arc::clone(&store),
            bus,
            clock: Arc::clone(&clock),
            committer: committer.clone(),
            dispatcher: dispatcher.clone(),
            progress: progress.clone(),
            settings: Arc::clone(&settings),
            resends: Mutex::new(HashMap::new()),
            absences: Absences::default(),
            admissions,
            alive: Alive::default(),
            counters,
            record: Arc::clone(&services.heartbeats),
        };
        spawn(Box::pin(presence.run()));
        spawn(Box::pin(services.kills.clone().record_foreign()));
        spawn(Box::pin(services.kills.clone().repeat()));
        spawn(Box::pin(services.scheduler.clone().run()));
        spawn(Box::pin(services.steering.clone().run()));
        spawn(Box::pin(dispatcher.run()));
        spawn(Box::pin(live.run(Arc::clone(&store), Arc::clone(&clock))));
        spawn(Box::pin(
            Upkeep {
                store,
                committer,
                clock,
                progress,
                settings,
                surplus: Arc::clone(&surplus),
            }
            .run(),
        ));
        loops.close();

        services.view.wait_current().await;
        // What was fired before a restart, or while less was kept.
        let jobs = services.view.list(Bucket::Jobs);
        surplus.look_at(jobs.iter().filter_map(|job| job.key.as_str().parse().ok()));
        (services, Running { stop, loops, commits })
    }

    /// What the agent `pc` may use, for one connection of it.
    pub fn agent_ports(&self, pc: &PcId) -> AgentPorts {
        AgentPorts::new(
            pc,
            Arc::clone(&self.bus),
            Arc::clone(&self.catalog),
            self.view.clone(),
        )
    }

    /// Each part and what is wrong with it, if anything is.
    pub async fn check(&self) -> BTreeMap<&'static str, Result<(), String>> {
        let store = match (self.committer.trouble(), self.store.live_counts().await) {
            (Some(trouble), _) => Err(trouble),
            (None, Err(error)) => Err(crate::chain(&error)),
            (None, Ok(_)) => Ok(()),
        };
        let catalog = if self.view.is_current() {
            Ok(())
        } else {
            Err("the catalog is being read".to_owned())
        };
        let bus = self.bus.flush().await.map_err(|error| crate::chain(&error));
        BTreeMap::from([("store", store), ("catalog", catalog), ("bus", bus)])
    }

    /// What became of the bus since the start.
    pub fn bus_record(&self) -> BusRecord {
        BusRecord {
            outages: self.bus.outages(),
            dropped: self.bus.dropped(),
        }
    }
}

impl Running {
    /// Stops the loops, which get `wait` to finish what they do. What was committed stays; what was not acknowledged
    /// comes again.
    pub async fn stop(self, wait: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(wait, self.loops.wait()).await.is_err() {
            tracing::warn!("some loops did not stop in time");
        }
        // The committer ends by itself once every service is dropped; nothing waits in it that was answered.
        self.commits.abort();
        drop(self.commits.await);
    }
}
