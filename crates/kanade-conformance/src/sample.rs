//! Records for tests and benchmarks that care for something else.

use kanade_model::{FanoutPlan, RunAs, Shell, Staleness};
use kanade_ports::{Order, OrderParams};

/// What an execution of `job` tells its agents that runs `script` for a minute at most, with nothing that can be left out.
///
/// # Panics
/// When `job` is no id.
pub fn order(job: &str, script: impl Into<String>) -> Order {
    Order {
        job_id: job.parse().expect("a job's id"),
        version: "1.0.0".parse().expect("a version"),
        shell: Shell::Sh,
        script: script.into(),
        timeout_secs: 60,
        jitter_secs: None,
        run_as: RunAs::System,
        cwd: None,
        deadline_at: None,
        staleness: Staleness::Cached,
        inventory: None,
        description: None,
        plan: FanoutPlan::default(),
        params: OrderParams::default(),
    }
}
