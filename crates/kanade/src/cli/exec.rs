//! `kanade exec`: fires a job and, if asked to, stays until its runs have ended.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr, time::Duration};

use clap::Args;
use kanade_client::{Client, Error};
use kanade_model::{
    FanoutPlan, Gate, GroupName, HumanDuration, Invalid, JobId, ParamValue, PcId, Rollout, Strategy, Target,
    Timestamp, Wave, api,
};
use uuid::Uuid;

use super::{
    Context,
    failure::{Done, Failure},
    follow,
    output::Output,
    watch::{self, Watching},
    when,
};

/// The time a server that has just gone gets to come back.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Fire a job
///
/// With --watch it stays until every target has its end, tells failures as they come, and ends with exit code 0 if
/// all have succeeded. With --follow it also prints what the runs print, as it comes; of several, each line says whose it is.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kanade exec backup --all --watch\n  kanade exec backup --pc web-1 --follow\n  kanade exec backup --group servers --jitter 5m\n  \
                        kanade exec update --wave canary=0s --wave servers=2h\n  \
                        kanade exec update --wave canary=0s --wave servers=0s --proceed-if 0.9=30m\n  \
                        kanade exec deploy --all --param region=eu --param-file token=token.txt"
)]
pub(crate) struct Exec {
    /// The job
    job: JobId,
    #[command(flatten)]
    aim: Aim,
    /// Each agent waits a random time up to this before it starts
    #[arg(long, value_name = "DURATION")]
    jitter: Option<HumanDuration>,
    /// Agents do not start it after this moment (RFC 3339, or a duration from now)
    #[arg(long, value_name = "TIME", value_parser = when::future)]
    deadline_at: Option<Timestamp>,
    /// Give a parameter of the job a value; may be given several times
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<ParamArgument>,
    /// Give a parameter the content of a file, without the line end at its end; so that a secret is in no process list
    #[arg(long = "param-file", value_name = "NAME=PATH")]
    param_files: Vec<ParamFileArgument>,
    #[command(flatten)]
    watching: Watching,
    /// Stay until every target has its end, and print what the runs print
    #[arg(long, conflicts_with = "watch")]
    follow: bool,
}

/// At whom it is aimed.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Aim {
    /// Aim at every agent
    #[arg(long)]
    all: bool,
    /// Aim at the members of a group; may be given several times
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<GroupName>,
    /// Aim at an agent; may be given several times
    #[arg(long = "pc", value_name = "PC")]
    pcs: Vec<PcId>,
    /// Send to the members of a group that long after the fire; may be given several times
    #[arg(long = "wave", value_name = "GROUP=DELAY")]
    waves: Vec<WaveArgument>,
    /// Send to the next wave only once this share of a wave has succeeded within that time; else the execution is paused
    #[arg(long, value_name = "SHARE=DURATION", requires = "waves")]
    proceed_if: Option<GateArgument>,
}

/// `share=within`
#[derive(Debug, Clone, Copy)]
struct GateArgument(Gate);

impl FromStr for GateArgument {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (share, within) = text
            .split_once('=')
            .ok_or_else(|| Invalid::new("proceed-if", text, "a share and a time are wanted: `0.9=30m`"))?;
        Ok(Self(Gate {
            success_ratio: share.parse()?,
            within: within.parse()?,
        }))
    }
}

/// `group=delay`. Group names of old fleets may hold `=`, delays never do.
#[derive(Debug, Clone)]
struct WaveArgument(Wave);

impl FromStr for WaveArgument {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (group, delay) = text
            .rsplit_once('=')
            .ok_or_else(|| Invalid::new("wave", text, "a group and a delay are wanted: `canary=10m`"))?;
        Ok(Self(Wave {
            group: group.parse()?,
            delay: delay.parse()?,
            proceed_if: None,
        }))
    }
}

/// `name=value`; the value may hold `=`, and may be empty. It may be secret, so an error does not tell it.
#[derive(Debug, Clone)]
struct ParamArgument {
    name: String,
    value: ParamValue,
}

impl FromStr for ParamArgument {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (name, value) = named(text)
            .ok_or_else(|| Invalid::new("param", "•••", "a name and a value are wanted: `region=eu`"))?;
        Ok(Self {
            name: name.into(),
            value: value.into(),
        })
    }
}

/// `name=path`
#[derive(Debug, Clone)]
struct ParamFileArgument {
    name: String,
    path: PathBuf,
}

impl FromStr for ParamFileArgument {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (name, path) = named(text).ok_or_else(|| {
            Invalid::new(
                "param-file",
                text,
                "a name and a path are wanted: `token=token.txt`",
            )
        })?;
        Ok(Self {
            name: name.into(),
            path: path.into(),
        })
    }
}

fn named(text: &str) -> Option<(&str, &str)> {
    text.split_once('=').filter(|(name, _)| !name.is_empty())
}

impl Exec {
    /// The values of the parameters; files are read now.
    fn params(&self) -> Result<BTreeMap<String, ParamValue>, Failure> {
        let mut params = BTreeMap::new();
        for ParamArgument { name, value } in &self.params {
            if params.insert(name.clone(), value.clone()).is_some() {
                return Err(twice(name));
            }
        }
        for ParamFileArgument { name, path } in &self.param_files {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", path.display())))?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            if params.insert(name.clone(), text.into()).is_some() {
                return Err(twice(name));
            }
        }
        Ok(params)
    }

    fn plan(&self) -> Result<FanoutPlan, Failure> {
        let Aim {
            all,
            groups,
            pcs,
            waves,
            proceed_if,
        } = &self.aim;
        let mut waves: Vec<Wave> = waves.iter().map(|WaveArgument(wave)| wave.clone()).collect();
        // Nothing comes after the last one.
        if let Some((_, gated)) = waves.split_last_mut() {
            for wave in gated {
                wave.proceed_if = proceed_if.map(|GateArgument(gate)| gate);
            }
        }
        Ok(FanoutPlan {
            target: Target {
                all: *all,
                groups: groups.clone(),
                pcs: pcs.clone(),
            },
            rollout: (!waves.is_empty()).then_some(Rollout {
                strategy: Strategy::Wave,
                waves,
            }),
            jitter: self.jitter,
            deadline_at: self.deadline_at,
            params: self.params()?,
        })
    }
}

fn twice(name: &str) -> Failure {
    Failure::Usage(format!("the parameter `{name}` is given more than once"))
}

pub(super) async fn run(exec: Exec, context: &Context) -> Done {
    let fired = fire(&context.client, &context.out, &exec.job, &exec.plan()?).await?;
    if exec.follow {
        // Standard output is for what the runs print.
        context.out.note(&told(&fired));
        return follow::execution(&fired.exec_id, &exec.watching, context).await;
    }
    if !exec.watching.wanted() {
        return context.out.show(&fired, told);
    }
    context.out.say(&told(&fired))?;
    watch::execution(&fired.exec_id, &exec.watching, context).await
}

/// Fires; when the connection fails, once more with the same key: whether or not the server has seen the first
/// request, it fires once.
async fn fire(client: &Client, out: &Output, job: &JobId, plan: &FanoutPlan) -> Result<api::Fired, Error> {
    let key = Uuid::new_v4().to_string();
    match client.fire(job, plan, Some(&key)).await {
        Err(error) if error.is_connection() => {
            if !matches!(error, Error::Unreachable { .. }) {
                out.note("the connection broke before the answer came; asking once more, it fires only once");
            }
            tokio::time::sleep(RETRY_AFTER).await;
            client.fire(job, plan, Some(&key)).await
        }
        fired => fired,
    }
}

fn told(fired: &api::Fired) -> String {
    let api::Fired {
        exec_id,
        job_id,
        version,
        target_count,
        ..
    } = fired;
    let agents = if *target_count == 1 { "agent" } else { "agents" };
    format!("execution {exec_id} of {job_id} {version}, aimed at {target_count} {agents}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::json;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        exec: Exec,
    }

    fn plan(arguments: &[&str]) -> serde_json::Value {
        let line = Line::try_parse_from(["exec", "backup"].iter().chain(arguments)).unwrap();
        serde_json::to_value(line.exec.plan().unwrap_or_else(|_| panic!("a plan"))).unwrap()
    }

    #[test]
    fn options_become_a_plan() {
        assert_eq!(plan(&["--all"]), json!({"target": {"all": true}}));
        assert_eq!(
            plan(&["--group", "lab", "--pc", "a", "--pc", "b", "--jitter", "90s"]),
            json!({"target": {"groups": ["lab"], "pcs": ["a", "b"]}, "jitter": "1m 30s"})
        );
        assert_eq!(
            plan(&[
                "--wave",
                "canary=0s",
                "--wave",
                "a=b=1h",
                "--deadline-at",
                "2026-05-01T08:30:00Z"
            ]),
            json!({
                "target": {}, "deadline_at": "2026-05-01T08:30:00Z",
                "rollout": {"strategy": "wave", "waves": [
                    {"group": "canary", "delay": "0s"}, {"group": "a=b", "delay": "1h"}
                ]}
            })
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "a=b \n").unwrap();
        let file = format!("token={}", path.display());
        assert_eq!(
            plan(&[
                "--all",
                "--param",
                "region=eu=1",
                "--param",
                "empty=",
                "--param-file",
                &file
            ]),
            json!({"target": {"all": true}, "params": {"region": "eu=1", "empty": "", "token": "a=b "}})
        );
    }

    #[test]
    fn a_parameter_is_given_once_and_a_wrong_one_is_not_told() {
        let parse = |arguments: &[&str]| {
            Line::try_parse_from(["exec", "backup", "--all"].iter().chain(arguments)).map(|line| line.exec)
        };
        for arguments in [
            &["--param", "a=1", "--param", "a=2"][..],
            &["--param", "a=1", "--param-file", "a=/nowhere/at/all"],
        ] {
            assert!(parse(arguments).unwrap().plan().is_err(), "{arguments:?}");
        }
        let exec = parse(&["--param", "token=hunter2"]).unwrap();
        assert!(!format!("{exec:?}").contains("hunter2"));
        assert!(parse(&["--param", "=x"]).is_err());
    }

    #[test]
    fn every_wave_but_the_last_gets_the_gate() {
        assert_eq!(
            plan(&["--wave", "a=0s", "--wave", "b=1h", "--proceed-if", "0.9=30m"])["rollout"]["waves"],
            json!([
                {"group": "a", "delay": "0s", "proceed_if": {"success_ratio": 0.9, "within": "30m"}},
                {"group": "b", "delay": "1h"}
            ])
        );
    }

    #[test]
    fn a_fire_without_an_aim_or_with_a_wrong_value_is_refused() {
        for (arguments, told) in [
            (&[][..], "--all"),
            (&["--wave", "canary"], "canary=10m"),
            (&["--wave", "canary=soon"], "`30s`"),
            (&["--wave", "a=0s", "--proceed-if", "90=30m"], "0 to 1"),
            (&["--all", "--proceed-if", "0.9=30m"], "--wave"),
            (&["--pc", "a b"], "pc id"),
            (&["--all", "--jitter", "5"], "duration"),
            (&["--all", "--watch-timeout", "5m"], "--watch"),
            (&["--all", "--watch", "--follow"], "cannot be used with"),
        ] {
            let error = Line::try_parse_from(["exec", "backup"].iter().chain(arguments)).unwrap_err();
            assert!(error.to_string().contains(told), "{arguments:?}: {error}");
        }
    }
}
