//! The broker: what can be seen of it over a connection, and over its monitoring address.

use std::time::Duration;

use kanade_nats::{Inspection, Nats, State};
use serde_json::Value;

use super::{ANSWER, Check, Found as _};
use crate::config;

/// The least size of messages with which nothing of the contract is cut.
const PAYLOAD: usize = 1 << 20;
/// How far clocks may be apart: what is due, late and lost is told by them.
const SKEW: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A broker that writes this often to disk loses little when the power goes.
const OFTEN: Duration = Duration::from_secs(1);

pub(super) async fn examine(nats: &config::Nats, monitor: Option<&str>) -> Vec<Check> {
    let mut checks = match Nats::inspect(nats.settings("kanade doctor")).await {
        Ok(inspection) => inspected(&inspection),
        Err(error) => vec![Check::failed("broker", kanade_core::chain(&error))],
    };
    checks.push(match monitor {
        Some(url) => match varz(url).await {
            Ok(varz) => sync(&varz, nats.replicas),
            Err(error) => Check::failed("broker sync", format!("cannot ask {url}/varz: {error}")),
        },
        None => Check::warning(
            "broker sync",
            "not looked at: name the monitoring address with --nats-monitor http://host:8222. JetStream acknowledges \
             before it syncs to disk; with its default `sync_interval` of 2m, a machine that loses power loses up to two \
             minutes of what was acknowledged",
        ),
    });
    checks
}

fn inspected(inspection: &Inspection) -> Vec<Check> {
    let Inspection { servers, version, .. } = inspection;
    let mut checks = vec![match inspection.supported {
        true => Check::ok("broker", format!("{servers}, nats-server {version}")),
        false => Check::failed(
            "broker",
            format!("{servers} is {version}; 2.10 or newer is wanted"),
        ),
    }];
    let payload = format!("messages of {} KiB at most", inspection.max_payload >> 10);
    checks.push(if inspection.max_payload < PAYLOAD {
        Check::warning(
            "broker max_payload",
            format!("{payload}: larger results never arrive; set `max_payload: 1MB` or more"),
        )
    } else {
        Check::ok("broker max_payload", payload)
    });
    match &inspection.resources {
        Err(error) => checks.push(Check::failed("broker JetStream", error.clone())),
        Ok(resources) => {
            checks.push(Check::ok("broker JetStream", "it is on for this account"));
            checks.extend(resources.iter().map(|resource| match &resource.state {
                State::Sound => Check::ok(&resource.what, "as the contract has it, or wider"),
                State::Missing => {
                    Check::warning(&resource.what, "not there; the server creates it when it starts")
                }
                State::Narrow(settings) => Check::warning(
                    &resource.what,
                    format!(
                        "narrower than the contract: {}; the server widens it when it starts",
                        settings.join(", ")
                    ),
                ),
            }));
        }
    }
    checks.extend(inspection.clock_ahead.map(clock));
    checks
}

fn clock(ahead: i128) -> Check {
    let apart = Duration::from_nanos(u64::try_from(ahead.unsigned_abs()).unwrap_or(u64::MAX));
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    let text = format!("the broker's is {:.1}s {side} ours", apart.as_secs_f64());
    match apart {
        apart if apart > SKEW.1 => Check::failed("clock", format!("{text}; set both by NTP")),
        apart if apart > SKEW.0 => Check::warning("clock", format!("{text}; set both by NTP")),
        _ => Check::ok("clock", text),
    }
}

async fn varz(url: &str) -> Result<Value, reqwest::Error> {
    let client = reqwest::Client::builder().timeout(ANSWER).build()?;
    let answer = client
        .get(format!("{}/varz", url.trim_end_matches('/')))
        .send()
        .await?;
    answer.error_for_status()?.json().await
}

/// When the broker writes to disk what it has acknowledged, as its monitoring tells.
fn sync(varz: &Value, replicas: usize) -> Check {
    let config = &varz["jetstream"]["config"];
    if config["sync_always"] == true {
        return Check::ok("broker sync", "each message before it is acknowledged");
    }
    let Some(nanos) = config["sync_interval"].as_u64() else {
        return Check::warning("broker sync", "its monitoring does not tell the `sync_interval`");
    };
    let interval = Duration::from_nanos(nanos);
    let shown = kanade_model::HumanDuration(interval);
    let lost = format!(
        "every {shown}: when all its machines lose power, as much of what was acknowledged may be lost"
    );
    if replicas >= 3 || interval <= OFTEN {
        Check::ok("broker sync", lost)
    } else {
        Check::warning(
            "broker sync",
            format!("{lost}; on a single node set `jetstream {{ sync_interval: always }}`"),
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::Verdict, *};

    #[test]
    fn a_single_node_that_syncs_seldom_is_a_warning() {
        let seconds =
            |seconds: u64| json!({"jetstream": {"config": {"sync_interval": seconds * 1_000_000_000}}});
        for (varz, replicas, verdict) in [
            (seconds(120), 1, Verdict::Warning),
            (seconds(120), 3, Verdict::Ok),
            (seconds(1), 1, Verdict::Ok),
            (
                json!({"jetstream": {"config": {"sync_always": true, "sync_interval": 120_000_000_000_u64}}}),
                1,
                Verdict::Ok,
            ),
            (json!({}), 1, Verdict::Warning),
        ] {
            assert_eq!(sync(&varz, replicas).verdict, verdict, "{varz} with {replicas}");
        }
        assert!(
            sync(&seconds(120), 1).detail.contains("every 2m"),
            "the figure is told"
        );
    }

    #[test]
    fn clocks_that_are_apart_are_told_with_the_side() {
        for (ahead, verdict, text) in [
            (300_000_000, Verdict::Ok, "0.3s ahead of ours"),
            (-5_000_000_000, Verdict::Warning, "5.0s behind ours"),
            (3_600_000_000_000, Verdict::Failed, "3600.0s ahead of ours"),
        ] {
            let check = clock(ahead);
            assert_eq!(check.verdict, verdict);
            assert!(check.detail.contains(text), "{}", check.detail);
        }
    }
}
