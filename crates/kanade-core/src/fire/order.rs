//! What a job and a plan come to as an execution: what its agents are told, how long things may take, at what pace.

use std::collections::BTreeMap;

use kanade_model::{FanoutPlan, HumanDuration, Manifest, Retry};
use kanade_ports::{Limits, Order, OrderParams, Pace, Retrying};
use serde_json::Value;

use crate::Settings;

pub(super) fn order(manifest: &Manifest, plan: &FanoutPlan, params: OrderParams) -> Order {
    Order {
        job_id: manifest.id.clone(),
        version: manifest.version.clone(),
        shell: manifest.execute.shell,
        script: manifest.execute.script.clone(),
        timeout_secs: manifest.execute.timeout.as_secs_ceil(),
        jitter_secs: plan.jitter.map(HumanDuration::as_secs_ceil),
        run_as: manifest.execute.run_as,
        cwd: manifest.execute.cwd.clone(),
        deadline_at: plan.deadline_at,
        staleness: manifest.staleness,
        inventory: manifest.inventory.clone(),
        description: manifest.description.clone(),
        plan: FanoutPlan {
            params: BTreeMap::new(),
            ..plan.clone()
        },
        params,
    }
}

/// The parameters for the audit trail: null for what is secret, and the beginning of what is long.
pub(super) fn in_short(params: &OrderParams) -> Value {
    const SHOWN: usize = 200;
    let cut = |text: String| match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    };
    params
        .shown()
        .into_iter()
        .map(|(name, text)| (name, Value::from(text.map(cut))))
        .collect()
}

pub(super) fn pace(manifest: &Manifest, plan: &FanoutPlan) -> Pace {
    let retrying = |rule: &Retry| Retrying {
        rule: rule.clone(),
        until: plan.deadline_at,
    };
    Pace {
        max_parallel: manifest.execute.max_parallel,
        retry: manifest.execute.retry.as_ref().map(retrying),
    }
}

pub(super) fn limits(manifest: &Manifest, plan: &FanoutPlan, settings: &Settings) -> Limits {
    let jitter = plan.jitter.unwrap_or_default();
    Limits {
        start_within_secs: settings.command_ttl.as_secs(),
        run_within_secs: manifest.execute.timeout.as_secs_ceil()
            + jitter.as_secs_ceil()
            + settings.lost_grace.as_secs(),
    }
}
