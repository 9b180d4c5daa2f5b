//! A server with a fleet of simulated agents, and what happens to them in one world: everything follows from its seed.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use kanade_core::{Abilities, Ports, Running, Services, Settings};
use kanade_memory::{
    EmbeddedBus, MemoryCatalog, SeededIds,
    simulation::{
        Conduct, Diary, Kind, Network, SimulatedAgent, SimulatedClock, Surroundings, Temper, Weather,
    },
};
use kanade_model::{
    Command, ExecId, FanoutPlan, Gate, HumanDuration, PcId, Rollout, Strategy, Subject, Target, Timestamp,
    Wave,
};
use kanade_ports::{Clock, ExecutionStore, Precondition, PubSub};
use serde_json::json;

use crate::world::{FaultyStore, id, operator};

/// The name of the server's line.
const SERVER: &str = "server";
/// How long everything may go wrong.
const STORM: Duration = Duration::from_secs(120);
/// How long it may take after that until nothing is open.
const PATIENCE: Duration = Duration::from_secs(1200);
/// How much longer nothing may change.
const QUIET: Duration = Duration::from_secs(90);
/// The number of the execution whose kill is missed.
const MISSED: usize = 4;
/// The job that may be tried again, and run by a few at once.
const PACED: &str = "second";
/// The job whose scripts run for minutes.
const LONG: &str = "long";

pub(super) struct World {
    pub(super) store: Arc<FaultyStore>,
    pub(super) diary: Diary,
    pub(super) agents: Vec<SimulatedAgent>,
    /// Agents that never came back.
    pub(super) gone: BTreeSet<PcId>,
    /// What was fired, at whom.
    pub(super) fired: Vec<ExecId>,
    /// Commands as they left the server, and when.
    pub(super) left: Arc<Mutex<Vec<(Timestamp, ExecId)>>>,
    /// Kills that were answered, and when.
    pub(super) killed: Vec<(Timestamp, ExecId)>,
    pub(super) healed_at: Timestamp,
    /// Agents that come back from a crash when it heals.
    pub(super) back: BTreeSet<PcId>,
    clock: SimulatedClock,
    catalog: Arc<MemoryCatalog>,
    bus: Arc<EmbeddedBus>,
    network: Network,
    server: Option<(Services, Running)>,
    random: fastrand::Rng,
    is_told: bool,
}

/// What may happen in a world.
#[derive(Debug, Clone)]
enum Event {
    Fire(usize),
    Kill(usize, Way),
    Weather(Weather),
    Cut(String),
    Mend(String),
    Crash(usize),
    Return(usize),
    Restart,
}

/// How a kill is asked for.
#[derive(Debug, Clone, Copy)]
enum Way {
    Execution,
    Job,
    /// By a command line of 0.30, which publishes it itself.
    Bus,
}

fn settings() -> Settings {
    Settings {
        command_ttl: Duration::from_secs(300),
        steer_every: Duration::from_secs(5),
        ..Settings::default()
    }
}

fn millis(random: &mut fastrand::Rng, most: u64) -> Duration {
    Duration::from_millis(random.u64(0..=most))
}

impl World {
    pub(super) async fn begin(seed: u64, is_told: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let clock = SimulatedClock::new("2026-05-01T08:00:00Z".parse().unwrap());
        let bus = Arc::new(EmbeddedBus::new());
        let network = Network::new(bus.clone(), random.u64(..));
        let diary = Diary::default();
        let mut world = Self {
            store: Arc::default(),
            agents: Vec::new(),
            gone: BTreeSet::new(),
            fired: Vec::new(),
            left: Arc::default(),
            killed: Vec::new(),
            back: BTreeSet::new(),
            healed_at: clock.now(),
            catalog: Arc::new(MemoryCatalog::new()),
            server: None,
            diary,
            clock,
            bus,
            network,
            random,
            is_told,
        };
        let slow = world.random.choice([0, 5, 50]).unwrap();
        world.store.slow.store(slow, Ordering::SeqCst);
        world.watch_what_leaves().await;
        world.start_server(seed).await;
        world.prepare().await;
        world
    }

    async fn start_server(&mut self, seed: u64) {
        let ports = Ports {
            store: self.store.clone(),
            catalog: self.catalog.clone(),
            bus: Arc::new(self.network.server(SERVER)),
            clock: Arc::new(self.clock),
            ids: Arc::new(SeededIds::new(seed)),
            abilities: Abilities::default(),
        };
        self.server = Some(Services::start(ports, settings()).await);
    }

    async fn watch_what_leaves(&self) {
        let mut commands = self.bus.subscribe(&"commands.>".parse().unwrap()).await.unwrap();
        let (left, clock) = (Arc::clone(&self.left), self.clock);
        tokio::spawn(async move {
            while let Some(message) = commands.next().await {
                let command: Command = serde_json::from_slice(&message.payload).unwrap();
                left.lock().unwrap().push((clock.now(), command.exec_id.unwrap()));
            }
        });
    }

    /// Jobs, and agents of both kinds, each in a group of its own and in one with all the others.
    async fn prepare(&mut self) {
        let services = self.services();
        for job in ["first", PACED, LONG] {
            let timeout = match job {
                LONG => 300,
                _ => self.random.choice([20, 60, 200]).unwrap(),
            };
            let mut manifest = json!({
                "id": job, "version": "1.0.0",
                "execute": {"shell": "powershell", "script": "true", "timeout": format!("{timeout}s")},
            });
            if job == PACED {
                if self.random.bool() {
                    let backoff = self.random.choice(["0s", "2s", "20s"]).unwrap();
                    manifest["execute"]["retry"] = json!({
                        "max_attempts": self.random.u32(2..=3), "backoff": backoff,
                    });
                }
                if self.random.bool() {
                    manifest["execute"]["max_parallel"] = json!(self.random.u32(1..=2));
                }
            }
            let manifest = serde_json::from_value(manifest).unwrap();
            services
                .jobs
                .put(&manifest, Precondition::Any, &operator())
                .await
                .unwrap();
        }
        for number in 0..self.random.usize(2..=5) {
            let pc = format!("pc-{number}");
            let kind = if self.random.bool() { Kind::Ours } else { Kind::Old };
            let temper = Temper {
                beats_every: Duration::from_secs(self.random.u64(5..=30)),
                dies_within: millis(&mut self.random, 2500),
                reports_within: millis(&mut self.random, 4000),
            };
            let mut chance = self.random.fork();
            let script = move |command: &Command| match chance.u8(0..20) {
                _ if command.id.as_str() == LONG => {
                    Conduct::Runs(Duration::from_secs(chance.u64(100..300)), 0)
                }
                0 => Conduct::Refuses,
                1 => Conduct::Breaks,
                2 => Conduct::Runs(Duration::from_secs(9999), 0),
                3..=9 => Conduct::Runs(millis(&mut chance, 2000), i32::from(chance.u8(0..3) == 0)),
                _ => Conduct::Runs(millis(&mut chance, 150_000), i32::from(chance.u8(0..3) == 0)),
            };
            let around = Surroundings {
                bus: Arc::new(self.network.line(&pc)),
                clock: Arc::new(self.clock),
                diary: self.diary.clone(),
            };
            let seed = self.random.u64(..);
            let agent = SimulatedAgent::new(id(&pc), kind, temper, around, seed, script);
            agent.start().await;
            services
                .agents
                .join(agent.pc(), &id(&pc), &operator())
                .await
                .unwrap();
            self.agents.push(agent);
        }
        self.clock.sleep(Duration::from_secs(1)).await;
    }

    /// Everything that is to happen, and when.
    fn plan(&mut self) -> Vec<(Duration, Event)> {
        let random = &mut self.random;
        let mut plan = Vec::new();
        let storm = u64::try_from(STORM.as_millis()).unwrap();
        for number in 0..random.usize(2..=4) {
            // Often so late that much is under way when it heals.
            let late = if random.bool() { storm } else { 40_000 };
            let at = STORM - millis(random, late);
            plan.push((at, Event::Fire(number)));
            let kills = random.choice([0, 1, 1, 1, 2, 3]).unwrap();
            let most = random
                .choice([0, 5, 500, 5_000, 20_000, 60_000, 150_000])
                .unwrap();
            for _ in 0..kills {
                let way = random
                    .choice([Way::Execution, Way::Execution, Way::Job, Way::Bus])
                    .unwrap();
                let kill_at = STORM.min(at + millis(random, most));
                plan.push((kill_at, Event::Kill(number, way)));
            }
        }
        let begins = millis(random, storm / 2);
        for _ in 0..random.usize(0..=2) {
            let weather = Weather {
                delay: Duration::from_millis(random.choice([0, 50, 2_000, 10_000]).unwrap()),
                lost: random.choice([0.0, 0.1, 0.5, 0.9]).unwrap(),
                twice: random.choice([0.0, 0.1, 0.5]).unwrap(),
                unsure: random.choice([0.0, 0.1, 0.5]).unwrap(),
            };
            plan.push((begins + millis(random, storm / 4), Event::Weather(weather)));
        }
        for (number, agent) in self.agents.iter().enumerate() {
            if random.bool() {
                let at = millis(random, storm);
                let name = agent.pc().to_string();
                plan.push((at, Event::Cut(name.clone())));
                plan.push((at + millis(random, storm), Event::Mend(name)));
            }
            if random.u8(0..3) == 0 {
                let at = millis(random, storm);
                plan.push((at, Event::Crash(number)));
                plan.push((at + millis(random, storm), Event::Return(number)));
            }
            if random.u8(0..10) == 0 {
                plan.push((millis(random, storm), Event::Crash(number)));
                self.gone.insert(agent.pc().clone());
            }
        }
        if random.u8(0..4) == 0 {
            let at = millis(random, storm);
            plan.push((at, Event::Cut(SERVER.into())));
            plan.push((at + millis(random, 20_000), Event::Mend(SERVER.into())));
        }
        if random.bool() {
            plan.extend(Self::missed(random, &self.agents));
        }
        if random.u8(0..5) == 0 {
            plan.push((millis(random, storm), Event::Restart));
        }
        plan.sort_by_key(|(at, _)| *at);
        plan
    }

    /// A kill that an agent misses from beginning to end, with what it has in hand.
    fn missed(random: &mut fastrand::Rng, agents: &[SimulatedAgent]) -> [(Duration, Event); 3] {
        let number = random.usize(0..agents.len());
        let away_at = STORM - Duration::from_secs(40) - millis(random, 30_000);
        let leave = if random.bool() {
            Event::Crash(number)
        } else {
            Event::Cut(agents[number].pc().to_string())
        };
        let (before, after) = (millis(random, 12_000), millis(random, 5_000));
        let kill = Event::Kill(MISSED, Way::Execution);
        [
            (away_at - before, Event::Fire(MISSED)),
            (away_at, leave),
            (away_at + after, kill),
        ]
    }

    pub(super) async fn go_through_the_storm(&mut self) {
        let begin = self.clock.now();
        let mut down = BTreeSet::new();
        let mut executions: Vec<Option<ExecId>> = vec![None; MISSED + 1];
        for (at, event) in self.plan() {
            if at > STORM {
                break;
            }
            self.clock.sleep_until(begin.plus(at)).await;
            if self.is_told {
                println!("{} {event:?}", self.clock.now());
            }
            match event {
                Event::Fire(number) => {
                    let job = match number {
                        MISSED => LONG,
                        _ => self.random.choice(["first", PACED]).unwrap(),
                    };
                    executions[number] = Some(self.fire(job).await);
                }
                Event::Kill(number, way) => {
                    if let Some(exec) = executions[number].clone() {
                        self.kill(&exec, way).await;
                    }
                }
                Event::Weather(weather) => self.network.set(weather),
                Event::Cut(name) => self.network.cut(&name),
                Event::Mend(name) => self.network.mend(&name),
                Event::Crash(number) => {
                    self.agents[number].crash();
                    down.insert(number);
                }
                Event::Return(number) => {
                    if !self.gone.contains(self.agents[number].pc()) && down.remove(&number) {
                        self.agents[number].start().await;
                    }
                }
                Event::Restart => self.restart().await,
            }
        }
        self.clock.sleep_until(begin.plus(STORM)).await;
        for number in down {
            let pc = self.agents[number].pc().clone();
            if !self.gone.contains(&pc) {
                self.agents[number].start().await;
                self.back.insert(pc);
            }
        }
    }

    async fn fire(&mut self, job: &str) -> ExecId {
        let jitter = self.random.choice([0, 5, 40]).unwrap();
        let mut plan = FanoutPlan {
            jitter: (jitter > 0).then(|| HumanDuration(Duration::from_secs(jitter))),
            ..FanoutPlan::default()
        };
        let pcs: Vec<PcId> = self.agents.iter().map(|agent| agent.pc().clone()).collect();
        match self.random.u8(0..4) {
            0 => {
                plan.target = Target {
                    all: true,
                    ..Target::default()
                }
            }
            1 => {
                let mut delay = 0;
                let last = pcs.len() - 1;
                let waves = pcs.iter().enumerate().map(|(number, pc)| {
                    let gated = number < last && self.random.u8(0..4) == 0;
                    let wave = Wave {
                        group: id(pc.as_str()),
                        delay: HumanDuration(Duration::from_secs(delay)),
                        proceed_if: gated.then(|| Gate {
                            success_ratio: "1".parse().unwrap(),
                            within: "30s".parse().unwrap(),
                        }),
                    };
                    delay += self.random.u64(0..30);
                    wave
                });
                plan.rollout = Some(Rollout {
                    strategy: Strategy::Wave,
                    waves: waves.collect(),
                });
            }
            _ => {
                let mut some = pcs;
                some.retain(|_| self.random.u8(0..3) > 0);
                if some.is_empty() {
                    some.push(self.agents[0].pc().clone());
                }
                plan.target = Target {
                    pcs: some,
                    ..Target::default()
                };
            }
        }
        let services = self.services();
        let fired = services
            .fires
            .fire(&id(job), &plan, &operator(), None)
            .await
            .unwrap();
        self.fired.push(fired.exec_id.clone());
        fired.exec_id
    }

    /// Kills, and does not give up before it is answered.
    async fn kill(&mut self, exec: &ExecId, way: Way) {
        let services = self.services();
        let job = self.store.execution(exec).await.unwrap().unwrap().job_id;
        loop {
            let answered = match way {
                Way::Execution => services.kills.execution(exec, &operator()).await.is_ok(),
                Way::Job => services.kills.job(&job, &operator()).await.is_ok(),
                Way::Bus => self.bus.publish(&Subject::kill(exec), Bytes::new()).await.is_ok(),
            };
            if answered {
                break;
            }
            // Nothing can be sent while the server's line is cut.
            self.clock.sleep(Duration::from_millis(700)).await;
            self.network.mend(SERVER);
        }
        match way {
            Way::Execution => self.killed.push((self.clock.now(), exec.clone())),
            Way::Job => {
                let now = self.clock.now();
                for exec in &self.fired {
                    let execution = self.store.execution(exec).await.unwrap().unwrap();
                    if execution.job_id == job {
                        self.killed.push((now, exec.clone()));
                    }
                }
            }
            // Nobody answers that.
            Way::Bus => {}
        }
    }

    async fn restart(&mut self) {
        if let Some((services, running)) = self.server.take() {
            drop(services);
            running.stop(Duration::from_secs(5)).await;
        }
        let seed = self.random.u64(1 << 40..1 << 50);
        self.start_server(seed).await;
    }

    pub(super) fn heal(&mut self) {
        self.network.set(Weather::CALM);
        self.network.mend(SERVER);
        for agent in &self.agents {
            self.network.mend(agent.pc().as_str());
        }
        self.healed_at = self.clock.now();
    }

    /// Waits until nothing is open, and says what is after all; then that nothing changes any more.
    pub(super) async fn wait_for_the_end(&self) -> Vec<String> {
        // What is only presumed may still turn out otherwise.
        self.clock.sleep(QUIET).await;
        let until = self.clock.now().plus(PATIENCE);
        while !self.open().await.is_empty() && self.clock.now() < until {
            self.resume_what_waits().await;
            self.clock.sleep(Duration::from_secs(5)).await;
        }
        let open = self.open().await;
        let before = self.everything().await;
        self.clock.sleep(QUIET).await;
        let mut failed: Vec<String> = open.iter().map(|exec| format!("{exec} does not end")).collect();
        let after = self.everything().await;
        if open.is_empty() && before != after {
            failed.push(format!(
                "what had ended has changed, from {before:#?} to {after:#?}"
            ));
        }
        failed
    }

    /// A gate that has failed waits for somebody.
    async fn resume_what_waits(&self) {
        for exec in self.open().await {
            let execution = self.store.execution(&exec).await.unwrap().unwrap();
            if execution.course.pause.is_some() {
                self.services().steering.resume(&exec, &operator()).await.unwrap();
            }
        }
    }

    async fn open(&self) -> Vec<ExecId> {
        let mut open = Vec::new();
        for exec in &self.fired {
            let execution = self.store.execution(exec).await.unwrap().unwrap();
            if !execution.is_final() {
                open.push(exec.clone());
            }
        }
        open
    }

    async fn everything(&self) -> Vec<String> {
        let mut all = Vec::new();
        for exec in &self.fired {
            for target in super::verdict::targets(self, exec).await {
                all.push(format!(
                    "{exec} on {}: {} {:?}",
                    target.pc_id, target.state, target.receipt
                ));
            }
        }
        all
    }

    fn services(&self) -> Services {
        let (services, _) = self.server.as_ref().expect("the server runs");
        services.clone()
    }

    /// Prints what the agents did.
    pub(super) fn tell(&self) {
        for agent in &self.agents {
            let is_gone = self.gone.contains(agent.pc());
            println!(
                "{} is {:?}{}",
                agent.pc(),
                agent.kind(),
                if is_gone { ", gone" } else { "" }
            );
        }
        for entry in self.diary.read() {
            println!("{} {} {} {:?}", entry.at, entry.pc, entry.exec, entry.deed);
        }
        println!("healed at {}", self.healed_at);
    }
}
