//! The agent updates itself: when its configuration names another version, it gets that program, tries it out, puts it in
//! the place of its own, and goes back if it does not come up.
//!
//! Whoever runs the agent does the restarts, and this says when ([`Updates`]). The way of a program:
//!
//! 1. It is downloaded into the agent's folder and compared with the digest of the release, then laid beside the
//!    agent's program and asked for its version.
//! 2. When no script runs, the agent stops and the program is *tried out*: it starts as this agent, connects, sends a
//!    heartbeat, and ends, without having started a script ([`Updates::try_out`]).
//! 3. It takes the place of the agent's program, of which a copy stays beside it ([`Updates::install`]), and is started.
//! 4. Until it has shown life, its starts are counted. After too many, or when it is silent for too long, the copy comes
//!    back ([`Updates::go_back`]), and the version is not tried again.
//!
//! A file that takes another's place does so in one step, and what is noted is on the disk before it: so whenever the
//! machine stops, a program that can run is in the place, and the next start knows how things stand.

mod follow;
mod place;
mod probe;
mod record;
#[cfg(all(test, unix))]
#[expect(clippy::unwrap_used, reason = "a test fails where something is missing")]
mod tests;

use std::{ffi::OsString, fmt, io, path::PathBuf, sync::Arc, time::Duration};

use kanade_model::Version;
use kanade_ports::Clock;
use tokio::{sync::OwnedSemaphorePermit, task::spawn_blocking};

use crate::agent::Shared;
use place::Place;
#[cfg(test)]
use record::Steps;
use record::{Failed, Noted, Record, Trial};

/// What an agent updates, and from what.
#[derive(Debug, Clone)]
pub struct UpdateSettings {
    /// The program that is replaced.
    pub program: PathBuf,
    /// The agent's own folder.
    pub folder: PathBuf,
    /// The version that runs.
    pub version: Version,
    /// How long things may take.
    pub timing: UpdateTiming,
}

/// How long the steps of an update may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdateTiming {
    /// A program says within this time which version it is; 10 s by default.
    pub answer: Duration,
    /// A program that is tried out shows life within this time; 2 minutes by default.
    pub trial: Duration,
    /// A program that was installed shows life within this time; 5 minutes by default.
    pub probation: Duration,
    /// No script is started for so long while the running ones come to their end; 10 minutes by default.
    pub quiet: Duration,
    /// If one still runs then, scripts are started again for so long before the next attempt; 10 minutes by default.
    pub recovery: Duration,
    /// The pause after a failed download, which doubles up to `recheck`; 30 s by default.
    pub pause: Duration,
    /// How often what cannot be done is looked at again; 1 hour by default.
    pub recheck: Duration,
}

impl Default for UpdateTiming {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            trial: Duration::from_secs(120),
            probation: Duration::from_secs(300),
            quiet: Duration::from_secs(600),
            recovery: Duration::from_secs(600),
            pause: Duration::from_secs(30),
            recheck: Duration::from_secs(3600),
        }
    }
}

/// So often an installed program is started without having shown life.
const MOST_STARTS: u32 = 3;

/// How an agent's program stands when it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is under way.
    Settled,
    /// An update has installed it, and it has to show life.
    OnProbation,
    /// An update has installed it, and it was started too often without showing life: [`Updates::go_back`].
    GivenUp,
}

/// What is to be done next, once the agent has stopped.
#[derive(Debug)]
pub enum Step {
    /// [`Updates::try_out`] this, then [`Updates::install`] it or [`Updates::give_up`].
    Install(Candidate),
    /// [`Updates::go_back`].
    GoBack,
}

/// A program that lies beside the agent's, as good as can be told without its running as the agent.
#[derive(Debug)]
pub struct Candidate {
    version: Version,
    digest: String,
    /// No script is started before it is dropped.
    quiet: Option<OwnedSemaphorePermit>,
}

impl Candidate {
    /// Its version.
    pub fn version(&self) -> &Version {
        &self.version
    }
}

/// The updates of an agent in a process of its own.
pub struct Updates {
    version: Version,
    timing: UpdateTiming,
    place: Place,
    record: Record,
    clock: Arc<dyn Clock>,
}

impl Updates {
    /// Touches nothing yet.
    pub fn new(settings: UpdateSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            place: Place::new(settings.program, &settings.folder),
            record: Record::in_folder(&settings.folder),
            version: settings.version,
            timing: settings.timing,
            clock,
        }
    }

    /// The same, and the machine stops before the step on the disk of this number.
    #[cfg(test)]
    fn breaking(mut self, steps: usize) -> Self {
        let steps = Steps::breaking(steps);
        self.place.steps = steps.clone();
        self.record.steps = steps;
        self
    }

    /// The first thing that a program does: sees how it stands, and counts this start if it has not shown life yet.
    pub fn begin(&self) -> Standing {
        let mut noted = self.record.read();
        let Some(trial) = &mut noted.trial else {
            return Standing::Settled;
        };
        if trial.version != self.version {
            // The machine stopped before the program was in the place, or after it had left it again.
            tracing::info!(version = %trial.version, "an update was not finished");
            noted.trial = None;
            self.note(&noted);
            return Standing::Settled;
        }
        let given_up = noted
            .failed
            .as_ref()
            .is_some_and(|failed| failed.is(&trial.version, &trial.digest));
        if given_up || trial.starts >= MOST_STARTS {
            return Standing::GivenUp;
        }
        trial.starts += 1;
        tracing::info!(from = %trial.from, start = trial.starts, "an update has installed this program; it has to show life");
        self.note(&noted);
        Standing::OnProbation
    }

    /// A disk that is full keeps no agent from starting.
    fn note(&self, noted: &Noted) {
        if let Err(error) = self.record.write(noted) {
            tracing::error!(%error, "cannot note how an update stands");
        }
    }

    /// Starts a candidate as this agent, with `arguments`, which make it end when it has shown life
    /// ([`Agent::shows_life`](crate::Agent::shows_life)). The agent must have stopped.
    ///
    /// # Errors
    /// Why it is no good, in words.
    pub async fn try_out(&self, candidate: &Candidate, arguments: Vec<OsString>) -> Result<(), String> {
        tracing::info!(version = %candidate.version, "trying out another version");
        probe::try_out(self.place.next(), arguments, self.timing.trial, &*self.clock).await
    }

    /// Puts a candidate in the place of the agent's program, which is then to be started.
    ///
    /// # Errors
    /// When that cannot be done; the agent's program is where it was.
    pub async fn install(&self, candidate: &Candidate) -> io::Result<()> {
        let trial = Trial {
            version: candidate.version.clone(),
            digest: candidate.digest.clone(),
            from: self.version.clone(),
            starts: 0,
        };
        self.blocking(move |place, record| {
            place.keep_previous()?;
            // Before the program is in the place: whenever it is started, it must find this.
            record.write(&Noted {
                trial: Some(trial),
                failed: None,
            })?;
            place.install()
        })
        .await
    }

    /// Notes that a candidate is no good. It is not tried again until the configuration names another version, or the
    /// release is of another program.
    ///
    /// # Errors
    /// When it cannot be noted.
    pub async fn give_up(&self, candidate: &Candidate, why: String) -> io::Result<()> {
        self.note_failure(candidate.version.clone(), candidate.digest.clone(), why)
            .await
    }

    /// Puts the program from before the update back in its place, which is then to be started. The one that runs is not
    /// tried again, as with [`give_up`](Self::give_up).
    ///
    /// # Errors
    /// When that cannot be done. Then the next start comes to it again.
    pub async fn go_back(&self) -> io::Result<()> {
        self.blocking(|place, record| {
            let mut noted = record.read();
            let Some(trial) = noted.trial.clone() else {
                return Ok(());
            };
            tracing::error!(
                version = %trial.version, to = %trial.from,
                "this version does not come up; going back to the one before"
            );
            noted.failed = Some(Failed {
                version: trial.version,
                digest: trial.digest,
                why: "it did not come up".to_owned(),
            });
            // First, so that a start in between comes here again.
            record.write(&noted)?;
            place.restore()?;
            noted.trial = None;
            record.write(&noted)
        })
        .await
    }

    /// The program has shown life.
    async fn confirm(&self) {
        let confirmed = self.blocking(|_, record| {
            let trial = record.read().trial;
            record.write(&Noted::default())?;
            Ok(trial)
        });
        match confirmed.await {
            Ok(trial) => {
                let from = trial.map(|trial| trial.from);
                tracing::info!(version = %self.version, from = from.map(tracing::field::display), "updated");
            }
            Err(error) => tracing::error!(%error, "cannot note that the update has come up"),
        }
    }

    async fn note_failure(&self, version: Version, digest: String, why: String) -> io::Result<()> {
        tracing::error!(
            %version, why,
            "this version is no good here; it is not tried again until another one is asked for, or it is another program"
        );
        self.blocking(move |_, record| {
            record.write(&Noted {
                trial: None,
                failed: Some(Failed { version, digest, why }),
            })
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Place, &Record) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (place, record) = (self.place.clone(), self.record.clone());
        spawn_blocking(move || work(&place, &record))
            .await
            .unwrap_or_else(|ended| Err(io::Error::other(ended)))
    }
}

/// Says once, of an agent that lives in another program, that it is not updated.
pub(crate) async fn stay(shared: Arc<Shared>) {
    shared.knowledge.configured().await;
    let mut config = shared.knowledge.config();
    let own = shared.config.agent_version.as_str();
    let asked = |wanted: &Option<Version>| wanted.as_ref().is_some_and(|wanted| wanted.as_str() != own);
    // Its sender lives as long as the agent.
    if let Ok(config) = config.wait_for(|config| asked(&config.target_version)).await {
        let to = config.target_version.as_ref().map(tracing::field::display);
        tracing::warn!(
            pc_id = %shared.config.pc_id, version = own, to,
            "this agent is to be of another version, but it is part of its server, which is updated by hand"
        );
    }
}

impl fmt::Debug for Updates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Updates")
            .field("version", &self.version)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
