//! Whether a Command may start: revoked, another version pinned, too late, or knowing too little.

use kanade_model::{Command, RequestId, SkipReason, Staleness, Timestamp, Version};

/// What the catalog says about a job, as far as the agent knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Known {
    pub(crate) revoked: bool,
    /// The version that was fired last; nothing is pinned without.
    pub(crate) pinned: Option<Version>,
    /// When the catalog last answered or told something.
    pub(crate) contact: Option<Timestamp>,
}

/// Why a Command is not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: SkipReason,
    /// The reason in words.
    pub(crate) detail: String,
}

impl Refusal {
    /// The exit code of a run that nobody but its caller hears of.
    pub(crate) fn exit_code(&self) -> i32 {
        match self.reason {
            SkipReason::Deadline => 125,
            SkipReason::Revoked | SkipReason::Superseded | SkipReason::Unsupported => 126,
            SkipReason::Staleness => 127,
        }
    }
}

/// Decides whether `command` may start at `now`.
pub(crate) fn judge(command: &Command, known: &Known, now: Timestamp) -> Result<(), Refusal> {
    let refuse = |reason, detail| Err(Refusal { reason, detail });
    if known.revoked {
        return refuse(SkipReason::Revoked, format!("job `{}` is revoked", command.id));
    }
    if let Some(pinned) = &known.pinned
        && *pinned != command.version
    {
        let detail = format!(
            "version {} is superseded: version {pinned} of job `{}` was fired since",
            command.version, command.id
        );
        return refuse(SkipReason::Superseded, detail);
    }
    if let Some(deadline) = command.deadline_at
        && now > deadline
    {
        return refuse(
            SkipReason::Deadline,
            format!("the deadline {deadline} has passed"),
        );
    }
    if let Staleness::Strict { max_cache_age } = command.staleness
        && !is_fresh(command, known.contact, now)
    {
        let last = known
            .contact
            .map_or_else(|| "never".to_owned(), |at| at.to_string());
        let detail =
            format!("the last contact with the catalog may be {max_cache_age} old at most; it was: {last}");
        return refuse(SkipReason::Staleness, detail);
    }
    Ok(())
}

/// Whether a contact at that time is recent enough for the Command.
pub(crate) fn is_fresh(command: &Command, contact: Option<Timestamp>, now: Timestamp) -> bool {
    match command.staleness {
        Staleness::Strict { max_cache_age } => contact.is_some_and(|at| now.since(at) <= max_cache_age.0),
        Staleness::Cached | Staleness::Unchecked => true,
    }
}

/// The part of its jitter that an agent waits: the same whenever it is asked, so that a restart begins no new wait, and
/// evenly spread over the agents of a fleet.
pub(crate) fn share_of_jitter(jitter_secs: u64, request: RequestId, agent: &str) -> std::time::Duration {
    let lot = uuid::Uuid::new_v5(&request.0, agent.as_bytes()).as_u128();
    let millis = u128::from(jitter_secs) * 1000;
    std::time::Duration::from_millis(u64::try_from(lot % (millis + 1)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanade_model::HumanDuration;
    use std::time::Duration;
    use uuid::Uuid;

    fn command(change: impl FnOnce(&mut Command)) -> Command {
        let mut command: Command = serde_json::from_value(serde_json::json!({
            "id": "backup", "version": "2", "request_id": Uuid::from_u128(7), "shell": "sh", "script": "",
            "timeout_secs": 1
        }))
        .unwrap();
        change(&mut command);
        command
    }

    fn noon() -> Timestamp {
        "2026-05-01T12:00:00Z".parse().unwrap()
    }

    fn strict(command: &mut Command) {
        command.staleness = Staleness::Strict {
            max_cache_age: HumanDuration(Duration::from_secs(60)),
        };
    }

    #[test]
    fn each_reason_is_found_and_the_first_one_told() {
        let now = noon();
        let second = Duration::from_secs(1);
        let late = |command: &mut Command| command.deadline_at = Some(now.minus(second));
        let known = |change: fn(&mut Known)| {
            let mut known = Known::default();
            change(&mut known);
            known
        };
        let revoked = known(|known| known.revoked = true);
        let other = known(|known| known.pinned = Some("3".parse().unwrap()));
        let same = known(|known| known.pinned = Some("2".parse().unwrap()));
        let both = known(|known| (known.revoked, known.pinned) = (true, Some("3".parse().unwrap())));
        for (case, command, known, expected) in [
            ("nothing known", command(|_| ()), Known::default(), None),
            ("the pinned version", command(|_| ()), same, None),
            ("revoked", command(|_| ()), revoked, Some(SkipReason::Revoked)),
            (
                "another version",
                command(|_| ()),
                other.clone(),
                Some(SkipReason::Superseded),
            ),
            (
                "revoked and another version",
                command(|_| ()),
                both,
                Some(SkipReason::Revoked),
            ),
            (
                "too late",
                command(late),
                Known::default(),
                Some(SkipReason::Deadline),
            ),
            (
                "at the deadline",
                command(|c| c.deadline_at = Some(now)),
                Known::default(),
                None,
            ),
            (
                "too late and another version",
                command(late),
                other,
                Some(SkipReason::Superseded),
            ),
            (
                "strict without contact",
                command(strict),
                Known::default(),
                Some(SkipReason::Staleness),
            ),
        ] {
            assert_eq!(
                judge(&command, &known, now).err().map(|refusal| refusal.reason),
                expected,
                "{case}"
            );
        }
    }

    #[test]
    fn strict_knowledge_may_be_as_old_as_it_says() {
        for (age, allowed) in [(0, true), (60, true), (61, false)] {
            let contact = Some(noon().minus(Duration::from_secs(age)));
            let known = Known {
                contact,
                ..Known::default()
            };
            assert_eq!(judge(&command(strict), &known, noon()).is_ok(), allowed, "{age}");
        }
    }

    #[test]
    fn jitter_is_spread_over_the_fleet_and_stays_the_same_for_an_agent() {
        let request = RequestId(Uuid::from_u128(99));
        let wait = |agent: u32| share_of_jitter(10, request, &format!("pc-{agent}"));
        assert_eq!(wait(1), wait(1));
        let waits: Vec<Duration> = (0..1000).map(wait).collect();
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(10)));
        for tenth in 0..10 {
            let from = Duration::from_secs(tenth);
            let here = waits
                .iter()
                .filter(|wait| (from..from + Duration::from_secs(1)).contains(*wait))
                .count();
            assert!((60..140).contains(&here), "{here} of 1000 within second {tenth}");
        }
        assert_eq!(share_of_jitter(0, request, "pc-1"), Duration::ZERO);
    }
}
