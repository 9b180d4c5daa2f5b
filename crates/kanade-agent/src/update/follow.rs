//! Follows the configuration of an agent until there is something to do that the agent has to stop for.

use std::{path::Path, sync::Arc, time::Duration};

use futures::TryStreamExt;
use kanade_model::{EffectiveConfig, Version};
use kanade_ports::{Measure, Program, Release, ReleaseReader};
use tokio::{fs::File, io::AsyncWriteExt, sync::watch};

use super::{Candidate, Standing, Step, Updates, probe};
use crate::Agent;

/// Why an attempt came to nothing.
enum Trouble {
    /// It may go better next time.
    Passing(String),
    /// It stays so until somebody does something about it.
    Standing(String),
}

impl Updates {
    /// Returns when there is something to do that the agent has to stop for: at once or much later. It may be dropped at
    /// any time.
    pub async fn follow(&self, standing: Standing, agent: &Agent, releases: Arc<dyn ReleaseReader>) -> Step {
        match standing {
            Standing::Settled => {}
            Standing::OnProbation => {
                tokio::select! {
                    () = agent.shows_life() => self.confirm().await,
                    () = self.clock.sleep(self.timing.probation) => {
                        tracing::error!("this program has not reached its server in time");
                        // What runs may come to its end, within limits.
                        let _ = tokio::time::timeout(self.timing.quiet, agent.shared.quiet()).await;
                        return Step::GoBack;
                    }
                }
            }
            Standing::GivenUp => return Step::GoBack,
        }
        // Until then, its groups may be missing, and with them what they say.
        agent.shared.knowledge.configured().await;
        let mut config = agent.shared.knowledge.config();
        loop {
            let EffectiveConfig {
                target_version,
                target_version_jitter,
                ..
            } = config.borrow_and_update().clone();
            let wanted = target_version.filter(|wanted| *wanted != self.version);
            self.forget_others(wanted.as_ref()).await;
            let Some(wanted) = wanted else {
                // Its sender lives as long as the agent.
                let _ = config.changed().await;
                continue;
            };
            tracing::info!(version = %self.version, to = %wanted, "this agent is to be of another version");
            let updating = self.candidate(agent, &*releases, &wanted, target_version_jitter.0);
            tokio::select! {
                candidate = updating => return Step::Install(candidate),
                () = other_target(&mut config, &wanted) => {}
            }
        }
    }

    /// What failed may be tried again once another version was asked for.
    async fn forget_others(&self, wanted: Option<&Version>) {
        let wanted = wanted.cloned();
        let forgotten = self.blocking(move |_, record| {
            let mut noted = record.read();
            if noted
                .failed
                .as_ref()
                .is_none_or(|failed| Some(&failed.version) == wanted.as_ref())
            {
                return Ok(());
            }
            noted.failed = None;
            record.write(&noted)
        });
        if let Err(error) = forgotten.await {
            tracing::warn!(%error, "cannot forget about an update that failed");
        }
    }

    /// Gets a program, however long it takes, and then waits until no script runs.
    async fn candidate(
        &self,
        agent: &Agent,
        releases: &dyn ReleaseReader,
        wanted: &Version,
        jitter: Duration,
    ) -> Candidate {
        let mut wait = Some(jitter.mul_f64(fastrand::f64()));
        let mut pause = self.timing.pause;
        // Said once, however often it is looked at again.
        let mut told = String::new();
        loop {
            let trouble = match self.get(releases, wanted, &mut wait).await {
                Ok(mut candidate) => {
                    candidate.quiet = Some(self.quiet(agent).await);
                    match releases.find(wanted).await {
                        Ok(Some(release)) if release.digest == candidate.digest => return candidate,
                        Ok(_) => Trouble::Passing("the release was replaced meanwhile".into()),
                        Err(error) => Trouble::Passing(told_of(&error)),
                    }
                }
                Err(trouble) => trouble,
            };
            let (why, pause) = match trouble {
                Trouble::Standing(why) => (why, self.timing.recheck),
                Trouble::Passing(why) => {
                    let now = pause;
                    pause = (pause * 2).min(self.timing.recheck);
                    (why, now)
                }
            };
            if why != told {
                tracing::warn!(to = %wanted, why, "this agent does not update itself now");
                told = why;
            }
            self.clock.sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
    }

    /// Tries once to get a program that is what it should be beside the agent's.
    async fn get(
        &self,
        releases: &dyn ReleaseReader,
        wanted: &Version,
        wait: &mut Option<Duration>,
    ) -> Result<Candidate, Trouble> {
        let unread = |error: kanade_ports::StoreError| Trouble::Passing(told_of(&error));
        let none = || Trouble::Passing(format!("there is no release `{wanted}`"));
        let release = releases.find(wanted).await.map_err(unread)?.ok_or_else(none)?;
        self.may_be_tried(&release).await?;
        // So that not all agents read it at once.
        if let Some(wait) = wait.take() {
            self.clock.sleep(wait).await;
        }
        let (release, program) = releases.get(wanted).await.map_err(unread)?.ok_or_else(none)?;
        self.may_be_tried(&release).await?;
        download(&release, program, self.place.download())
            .await
            .map_err(Trouble::Passing)?;
        self.blocking(|place, _| place.lay_beside())
            .await
            .map_err(|error| Trouble::Passing(format!("the program cannot be written: {error}")))?;
        let next = self.place.next();
        if let Err(why) = probe::version(next, wanted, self.timing.answer, &*self.clock).await {
            let digest = release.digest.clone();
            let noted = self.note_failure(wanted.clone(), digest, why.clone()).await;
            return Err(match noted {
                Ok(()) => Trouble::Standing(given_up(&why)),
                Err(error) => Trouble::Passing(format!("a failure cannot be noted: {error}")),
            });
        }
        tracing::info!(version = %wanted, "another version is here");
        Ok(Candidate {
            version: release.version,
            digest: release.digest,
            quiet: None,
        })
    }

    async fn may_be_tried(&self, release: &Release) -> Result<(), Trouble> {
        if release.digest.is_empty() {
            return Err(Trouble::Standing(
                "the release has no digest to compare it with".into(),
            ));
        }
        let looked = self.blocking(|place, record| {
            place.clear();
            Ok((place.check(), record.read().failed))
        });
        let (replaceable, failed) = looked
            .await
            .map_err(|error| Trouble::Passing(error.to_string()))?;
        if let Some(failed) = failed.filter(|failed| failed.is(&release.version, &release.digest)) {
            return Err(Trouble::Standing(given_up(&failed.why)));
        }
        replaceable.map_err(Trouble::Standing)
    }

    /// Waits until no script runs, and keeps others from starting. Scripts that run long hold the others up only for a
    /// while.
    async fn quiet(&self, agent: &Agent) -> tokio::sync::OwnedSemaphorePermit {
        loop {
            tokio::select! {
                biased;
                quiet = agent.shared.quiet() => return quiet,
                () = self.clock.sleep(self.timing.quiet) => {}
            }
            tracing::info!("scripts run for long; the update waits");
            self.clock.sleep(self.timing.recovery).await;
        }
    }
}

/// Returns when the configuration asks for something else.
async fn other_target(config: &mut watch::Receiver<EffectiveConfig>, wanted: &Version) {
    // Its sender lives as long as the agent.
    let _ = config
        .wait_for(|config| config.target_version.as_ref() != Some(wanted))
        .await;
}

/// Writes a program to a file and compares it with what the release says of it.
async fn download(release: &Release, mut program: Program, to: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("the program cannot be downloaded: {error}");
    let mut file = File::create(to).await.map_err(failed)?;
    let mut measure = Measure::default();
    while let Some(piece) = program.try_next().await.map_err(failed)? {
        measure.take(&piece);
        if measure.size() > release.size {
            return Err("the program is larger than the release says".into());
        }
        file.write_all(&piece).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    if measure.digest() != release.digest {
        return Err("the program has not the digest of the release".into());
    }
    Ok(())
}

fn given_up(why: &str) -> String {
    format!(
        "this program was no good here ({why}); it is tried again when another version was asked for meanwhile, or when it \
         is another program"
    )
}

fn told_of(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut under = error.source();
    while let Some(cause) = under {
        told = format!("{told}: {cause}");
        under = cause.source();
    }
    told
}
