//! The routes, one module per resource, in groups that are guarded alike.

mod agents;
mod audit;
mod config;
mod dead_letters;
mod document;
mod events;
mod executions;
mod fleet;
mod groups;
mod health;
mod inventory;
mod jobs;
mod metrics;
mod output;
mod overview;
mod releases;
mod results;
mod run;
mod schedules;
mod scripts;
mod slots;
mod steering;

use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) use releases::release_response;

use crate::{App, gateway};

/// Every route of the API. A route that is not listed here does not exist, and one that is listed is described.
pub(crate) struct Routes {
    /// For anybody.
    pub(crate) open: OpenApiRouter<App>,
    /// Answer at once.
    pub(crate) ordinary: OpenApiRouter<App>,
    /// Wait for an agent, for as long as the caller says.
    pub(crate) waiting: OpenApiRouter<App>,
    /// Take in what is large, for as long as it comes.
    pub(crate) uploads: OpenApiRouter<App>,
    /// Do not end by themselves.
    pub(crate) streams: OpenApiRouter<App>,
    /// For agents, which show themselves in another way than operators.
    pub(crate) gateway: OpenApiRouter<App>,
}

impl Routes {
    pub(crate) fn new() -> Self {
        Self {
            open: OpenApiRouter::default()
                .routes(routes!(health::health))
                .routes(routes!(health::live))
                .routes(routes!(health::ready_to_work)),
            ordinary: OpenApiRouter::default()
                .routes(routes!(jobs::list, jobs::put))
                .routes(routes!(jobs::get, jobs::delete))
                .routes(routes!(jobs::history))
                .routes(routes!(jobs::kill))
                .routes(routes!(executions::fire))
                .routes(routes!(executions::list))
                .routes(routes!(executions::get))
                .routes(routes!(executions::kill))
                .routes(routes!(executions::targets))
                .routes(routes!(executions::kill_many))
                .routes(routes!(steering::pause))
                .routes(routes!(steering::resume))
                .routes(routes!(steering::abort))
                .routes(routes!(results::list))
                .routes(routes!(results::get))
                .routes(routes!(schedules::list, schedules::put))
                .routes(routes!(schedules::get, schedules::delete))
                .routes(routes!(schedules::disable))
                .routes(routes!(slots::upcoming))
                .routes(routes!(slots::list))
                .routes(routes!(slots::preview))
                .routes(routes!(slots::enable))
                .routes(routes!(slots::trigger))
                .routes(routes!(slots::backfill))
                .routes(routes!(slots::freeze, slots::set_freeze, slots::clear_freeze))
                .routes(routes!(scripts::status))
                .routes(routes!(scripts::revoke))
                .routes(routes!(scripts::unrevoke))
                .routes(routes!(agents::list))
                .routes(routes!(agents::get))
                .routes(routes!(agents::heartbeats))
                .routes(routes!(groups::get, groups::put, groups::join))
                .routes(routes!(groups::leave))
                .routes(routes!(groups::list))
                .routes(routes!(groups::members))
                .routes(routes!(config::effective))
                .routes(routes!(config::get_global, config::put_global))
                .routes(routes!(
                    config::get_group,
                    config::put_group,
                    config::delete_group
                ))
                .routes(routes!(config::get_pc, config::put_pc, config::delete_pc))
                .routes(routes!(inventory::jobs))
                .routes(routes!(inventory::by_job))
                .routes(routes!(inventory::of_agent))
                .routes(routes!(releases::list))
                .routes(routes!(releases::get, releases::delete))
                .routes(routes!(releases::rollout))
                .routes(routes!(overview::statistics))
                .routes(routes!(overview::resolve))
                .routes(routes!(overview::who_am_i))
                .routes(routes!(overview::deployment))
                .routes(routes!(overview::doctor))
                .routes(routes!(metrics::metrics))
                .routes(routes!(fleet::health))
                .routes(routes!(fleet::broker))
                .routes(routes!(audit::list))
                .routes(routes!(dead_letters::list))
                .routes(routes!(document::openapi)),
            waiting: OpenApiRouter::default()
                .routes(routes!(run::run))
                .routes(routes!(agents::ping))
                .routes(routes!(agents::logs)),
            uploads: OpenApiRouter::default().routes(routes!(releases::publish)),
            streams: OpenApiRouter::default()
                .routes(routes!(events::events))
                .routes(routes!(output::follow)),
            gateway: OpenApiRouter::default()
                .routes(routes!(gateway::connect))
                .routes(routes!(gateway::release)),
        }
    }
}
