//! What an agent may say, tried one by one.

use super::*;

/// What an agent may and may not say: subject, payload, whether it may.
fn sayings() -> Vec<(&'static str, String, bool)> {
    let consumer = |stream: &str, name: &str, filter: &str| {
        json!({"stream_name": stream, "config": {
            "name": name, "deliver_subject": "kill.e-1", "filter_subject": filter, "mem_storage": true,
        }})
        .to_string()
    };
    let nothing = String::new;
    vec![
        ("heartbeat.web-1", "{}".into(), true),
        ("results.r-1", "{}".into(), true),
        ("events.started.e-1.web-1", "{}".into(), true),
        ("events.skipped.e-1.web-1", "{}".into(), true),
        ("events.kill.e-1.web-1", "{}".into(), true),
        ("output.e-1.web-1", "{}".into(), true),
        ("_REPLY.logs.fetch.web-1.x", nothing(), true),
        (
            "$JS.API.CONSUMER.MSG.NEXT.EXEC.agent_replay_web-1",
            "{\"batch\":1,\"no_wait\":true}".into(),
            true,
        ),
        // Others' Commands, kills and lives.
        ("commands.all", nothing(), false),
        ("commands.pc.web-1", nothing(), false),
        ("commands.pc.web-2", nothing(), false),
        ("commands.group.web", nothing(), false),
        ("kill.e-1", nothing(), false),
        ("heartbeat.web-2", "{}".into(), false),
        ("heartbeat.web-1.x", "{}".into(), false),
        ("events.started.e-1.web-2", "{}".into(), false),
        ("events.skipped.e-1.web-2", "{}".into(), false),
        ("events.kill.e-1.web-2", "{}".into(), false),
        ("output.e-1.web-2", "{}".into(), false),
        ("output.web-1", "{}".into(), false),
        ("events.started.e-1.x.web-1", "{}".into(), false),
        ("events.other.e-1.web-1", "{}".into(), false),
        ("audit.operator.exec", "{}".into(), false),
        ("inventory.web-1.os", "{}".into(), false),
        ("logs.fetch.web-2", nothing(), false),
        ("ping.web-2", nothing(), false),
        ("_REPLY.logs.fetch.web-2.x", nothing(), false),
        ("_INBOX.x", nothing(), false),
        ("_INBOX_web-2.x", nothing(), false),
        // Others' Commands that are kept.
        (
            "$JS.API.CONSUMER.MSG.NEXT.EXEC.agent_replay_web-2",
            "{\"batch\":1,\"no_wait\":true}".into(),
            false,
        ),
        ("$JS.ACK.EXEC.agent_replay_web-2.1.2.1.0.0", "+ACK".into(), false),
        (
            "$JS.API.STREAM.MSG.GET.EXEC",
            "{\"last_by_subj\":\"commands.pc.web-2\"}".into(),
            false,
        ),
        (
            "$JS.API.DIRECT.GET.EXEC",
            "{\"last_by_subj\":\"commands.pc.web-2\"}".into(),
            false,
        ),
        (
            "$JS.API.STREAM.PURGE.EXEC",
            "{\"filter\":\"nothing.of.the.kind\"}".into(),
            false,
        ),
        // Consumers and streams.
        (
            "$JS.API.CONSUMER.CREATE.EXEC",
            consumer("EXEC", "thief", "commands.>"),
            false,
        ),
        (
            "$JS.API.CONSUMER.CREATE.EXEC.thief",
            consumer("EXEC", "thief", "commands.>"),
            false,
        ),
        (
            "$JS.API.CONSUMER.CREATE.EXEC.agent_replay_web-1.commands.all",
            consumer("EXEC", "agent_replay_web-1", "commands.all"),
            false,
        ),
        (
            "$JS.API.CONSUMER.DURABLE.CREATE.EXEC.thief",
            consumer("EXEC", "thief", "commands.>"),
            false,
        ),
        (
            "$JS.API.CONSUMER.CREATE.KV_script_status.thief.$KV.script_status.>",
            consumer("KV_script_status", "thief", "$KV.script_status.>"),
            false,
        ),
        ("$JS.API.CONSUMER.DELETE.EXEC.thief", nothing(), false),
        (
            "$JS.API.CONSUMER.DELETE.EXEC.agent_replay_web-2",
            nothing(),
            false,
        ),
        ("$JS.API.CONSUMER.INFO.EXEC.agent_replay_web-2", nothing(), false),
        (
            "$JS.API.STREAM.CREATE.THIEF",
            json!({"name": "THIEF", "subjects": ["thief.>"]}).to_string(),
            false,
        ),
        (
            "$JS.API.STREAM.UPDATE.THIEF",
            json!({"name": "THIEF", "subjects": ["thief.*"]}).to_string(),
            false,
        ),
        ("$JS.API.STREAM.DELETE.THIEF", nothing(), false),
        ("$JS.API.STREAM.INFO.EXEC", nothing(), false),
        ("$JS.API.STREAM.NAMES", nothing(), false),
        // Documents.
        ("$KV.script_status.backup", "REVOKED".into(), false),
        ("$KV.script_current.backup", "9".into(), false),
        (
            "$KV.agent_groups.web-1",
            "{\"groups\":[\"admins\"]}".into(),
            false,
        ),
        ("$KV.agent_config.global", "{}".into(), false),
        ("$KV.jobs.backup", "{}".into(), false),
        ("$KV.schedules.nightly", "{}".into(), false),
        (
            "$JS.API.STREAM.MSG.GET.KV_jobs",
            "{\"last_by_subj\":\"$KV.jobs.backup\"}".into(),
            false,
        ),
        (
            "$JS.API.DIRECT.GET.KV_jobs",
            "{\"last_by_subj\":\"$KV.jobs.backup\"}".into(),
            false,
        ),
        (
            "$JS.API.DIRECT.GET.KV_agent_groups",
            "{\"last_by_subj\":\"$KV.agent_groups.web-2\"}".into(),
            false,
        ),
        (
            "$JS.API.DIRECT.GET.KV_agent_groups.$KV.agent_groups.web-2",
            nothing(),
            false,
        ),
        (
            "$JS.API.STREAM.MSG.GET.KV_agent_groups",
            "{\"last_by_subj\":\"$KV.agent_groups.web-2\"}".into(),
            false,
        ),
        // The programs that agents update themselves to.
        (
            "$JS.API.DIRECT.GET.OBJ_agent_releases",
            "{\"last_by_subj\":\"$O.agent_releases.M.MQ==\"}".into(),
            true,
        ),
        (
            "$JS.API.STREAM.MSG.GET.OBJ_agent_releases",
            "{\"last_by_subj\":\"$O.agent_releases.M.MQ==\"}".into(),
            false,
        ),
        ("$JS.API.STREAM.INFO.OBJ_agent_releases", nothing(), false),
        (
            "$JS.API.STREAM.PURGE.OBJ_agent_releases",
            "{\"filter\":\"$O.agent_releases.C.x\"}".into(),
            false,
        ),
        (
            "$JS.API.CONSUMER.CREATE.OBJ_agent_releases.thief",
            consumer("OBJ_agent_releases", "thief", "$O.agent_releases.C.>"),
            false,
        ),
        ("$O.agent_releases.M.MQ==", "{}".into(), false),
        ("$O.agent_releases.C.x", "a program".into(), false),
        // Reports of others.
        (
            "$JS.API.CONSUMER.MSG.NEXT.RESULTS.backend_results_projector",
            "{\"batch\":1,\"no_wait\":true}".into(),
            false,
        ),
        ("$JS.API.STREAM.MSG.GET.RESULTS", "{\"seq\":1}".into(), false),
        ("$JS.API.DIRECT.GET.RESULTS", "{\"seq\":1}".into(), false),
        ("somewhere.else", nothing(), false),
    ]
}

#[tokio::test]
async fn an_agent_says_what_is_its_own_to_say_and_nothing_else() {
    let world = World::new().await;
    world.keep_commands().await;
    let (agent, control) = (world.web_1().await, world.nobody_s_fool().await);
    for (subject, payload, allowed) in sayings() {
        assert_eq!(
            agent.can_say(&world, subject, &payload).await,
            allowed,
            "{subject}"
        );
    }
    for (subject, payload, _) in sayings() {
        assert!(
            control.can_say(&world, subject, &payload).await,
            "the server's role: {subject}"
        );
    }
}
