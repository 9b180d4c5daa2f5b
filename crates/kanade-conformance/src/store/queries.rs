//! Queries for runs: each filter, all of them together, and how much work a page may be.

use kanade_model::{Ended, ExecResult};
use kanade_ports::{
    ChangeSet, Output, PAGE_BYTES, RunFilter, RunQuery, RunRecord, RunTally, SCAN_LIMIT, TextFilter,
};

use super::{
    walk::runs,
    world::{
        Firing, World, ad_hoc, ended, finished, fire, heard_of, id, lose, numbered, recorded, result, run,
        secs, started,
    },
};
use crate::StoreFactory;

pub(super) fn like(pattern: &str) -> Option<TextFilter> {
    Some(TextFilter::parse("text", pattern).unwrap())
}

/// The names that the runs of these cases print.
async fn printed<F: StoreFactory>(world: &World<F>, query: RunQuery) -> String {
    let query = RunQuery {
        with_output: true,
        ..query
    };
    let found = runs(&*world.store, &query).await;
    let names: Vec<_> = found
        .iter()
        .map(|record| record.output.stdout.trim().to_owned())
        .collect();
    names.join(" ")
}

/// Runs r-0, r-1, … one second apart, the newest last; each prints its name.
async fn some_runs<F: StoreFactory>() -> World<F> {
    let world = World::<F>::new().await;
    world
        .all([Firing::of("e-1")
            .job("job-a")
            .pcs(["pc-1", "pc-2", "pc-3"])
            .change()])
        .await;
    world
        .all([Firing::of("e-11").job("b").pcs(["pc-1", "pc-10"]).change()])
        .await;
    let attributes = [
        (Some("e-1"), "pc-1", Some("job-a"), Ended::Exited, 0, ""),
        (
            Some("e-1"),
            "pc-2",
            Some("job-a"),
            Ended::Exited,
            3,
            "error: disk full",
        ),
        (Some("e-11"), "pc-1", Some("b"), Ended::Killed, -1, "Error"),
        (Some("e-11"), "pc-10", Some("b"), Ended::TimedOut, -1, ""),
        (Some("foreign"), "pc-1", Some("job-b"), Ended::Exited, 0, "errör"),
        (
            Some("foreign"),
            "pc-9",
            None,
            Ended::Exited,
            0,
            "an error\nin the middle",
        ),
        (None, "pc-2", None, Ended::Exited, 0, ""),
    ];
    for (number, (exec, pc, job, ended, exit_code, stderr)) in (0..).zip(attributes) {
        let name = format!("r-{number}");
        let said = ExecResult {
            exec_id: exec.map(id),
            manifest_id: job.map(id),
            stdout: format!("{name}\n"),
            stderr: stderr.into(),
            exit_code,
            ended: Some(ended),
            started_at: secs(number),
            ..ad_hoc(&name, pc)
        };
        world.all([recorded(said)]).await;
    }
    let start = |pc: &str, at| {
        heard_of(kanade_model::EventStarted {
            started_at: secs(at),
            manifest_id: id("job-a"),
            ..super::world::start_event("e-1", pc)
        })
    };
    world
        .all([
            start("pc-3", 7),
            start("pc-1", 8),
            lose("e-1", "pc-1", secs(9999)),
        ])
        .await;
    world
}

pub async fn runs_of_one_moment_are_walked_without_a_miss_or_a_repeat<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let mut wanted = Vec::new();
    for number in 0..25 {
        let name = numbered("r", number);
        let at = secs(i64::try_from(number % 3).unwrap());
        let said = ExecResult {
            started_at: at,
            ..ad_hoc(&name, "pc-1")
        };
        wanted.push((at, run(&name, "pc-1")));
        world.all([recorded(said)]).await;
    }
    wanted.sort_by(|a, b| b.cmp(a));
    for limit in [1, 4, 24, 25, 26] {
        let mut query = RunQuery {
            limit,
            ..RunQuery::default()
        };
        let mut found = Vec::new();
        loop {
            let page = world.store.runs(&query).await.unwrap();
            found.extend(
                page.items
                    .into_iter()
                    .map(|record| (record.run.started_at, record.run.result_id)),
            );
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        assert_eq!(found, wanted, "pages of {limit}: newest first, then by id");
    }
}

pub async fn each_run_filter_finds_what_it_says<F: StoreFactory>() {
    let world = some_runs::<F>().await;
    let pc = |pattern| RunQuery {
        pc_id: like(pattern),
        ..RunQuery::default()
    };
    let job = |pattern| RunQuery {
        job_id: like(pattern),
        ..RunQuery::default()
    };
    let exec = |pattern| RunQuery {
        exec_id: like(pattern),
        ..RunQuery::default()
    };
    let stdout = |pattern| RunQuery {
        stdout: like(pattern),
        ..RunQuery::default()
    };
    let stderr = |pattern| RunQuery {
        stderr: like(pattern),
        ..RunQuery::default()
    };
    let status = |status| RunQuery {
        status: Some(status),
        ..RunQuery::default()
    };
    let since = |at| RunQuery {
        since: Some(secs(at)),
        ..RunQuery::default()
    };
    // The two that were only started print nothing, so they show as empty words.
    for (what, query, wanted) in [
        ("no filter", RunQuery::default(), "  r-6 r-5 r-4 r-3 r-2 r-1 r-0"),
        ("a pattern finds its text anywhere", pc("c-1"), " r-4 r-3 r-2 r-0"),
        ("an exact id is the whole id", pc("^pc-1$"), " r-4 r-2 r-0"),
        ("nobody is like this", pc("^nobody$"), ""),
        ("of a job", job("^b$"), "r-3 r-2"),
        ("of jobs like this", job("b"), "  r-4 r-3 r-2 r-1 r-0"),
        ("of no job", job("^$"), "r-6 r-5"),
        ("of an execution", exec("^e-1$"), "  r-1 r-0"),
        (
            "of executions like this",
            exec("e-1|foreign"),
            "  r-5 r-4 r-3 r-2 r-1 r-0",
        ),
        ("of no execution", exec("^$"), "r-6"),
        ("that printed this", stdout("r-[35]"), "r-5 r-3"),
        ("that printed nothing", stdout("^$"), " "),
        ("that complained of this", stderr("err.r"), "r-5 r-4 r-1"),
        ("that complained, in any case", stderr("(?i)ERROR"), "r-5 r-2 r-1"),
        ("in one line of several", stderr("(?m)^in"), "r-5"),
        ("succeeded", status(RunFilter::Success), "r-6 r-5 r-4 r-0"),
        (
            "failed in whatever way",
            status(RunFilter::Failure),
            " r-3 r-2 r-1",
        ),
        ("running", status(RunFilter::Running), ""),
        ("since a moment, with it", since(4), "  r-6 r-5 r-4"),
        ("since later than all", since(99), ""),
        ("since before all", since(-99), "  r-6 r-5 r-4 r-3 r-2 r-1 r-0"),
    ] {
        assert_eq!(printed(&world, query).await, wanted, "{what}");
    }
}

pub async fn run_filters_work_together<F: StoreFactory>() {
    let world = some_runs::<F>().await;
    let everything = RunQuery {
        with_output: true,
        ..RunQuery::default()
    };
    let all = runs(&*world.store, &everything).await;
    assert_eq!(all.len(), 9, "every run");
    let mut asked = 0;
    for pc in ["", "^pc-1$", "1"] {
        for job in ["", "^job-a$", "job", "^$"] {
            for exec in ["", "^e-1$", "^foreign$", "e-"] {
                for status in [
                    None,
                    Some(RunFilter::Success),
                    Some(RunFilter::Failure),
                    Some(RunFilter::Running),
                ] {
                    for (since, stdout, with_output) in [
                        (None, "", true),
                        (Some(secs(3)), "", false),
                        (None, "r-[0-4]", false),
                    ] {
                        let filter = |pattern: &str| like(pattern).filter(|_| !pattern.is_empty());
                        let query = RunQuery {
                            pc_id: filter(pc),
                            job_id: filter(job),
                            exec_id: filter(exec),
                            stdout: filter(stdout),
                            status,
                            since,
                            with_output,
                            ..RunQuery::default()
                        };
                        let mut wanted: Vec<RunRecord> = all
                            .iter()
                            .filter(|record| query.matches(record))
                            .cloned()
                            .collect();
                        if !with_output {
                            wanted
                                .iter_mut()
                                .for_each(|record| record.output = Output::default());
                        }
                        assert_eq!(runs(&*world.store, &query).await, wanted, "{query:?}");
                        asked += 1;
                    }
                }
            }
        }
    }
    assert_eq!(asked, 3 * 4 * 4 * 4 * 3, "every combination");
}

pub async fn output_comes_with_a_list_only_where_it_is_asked_for<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([fire("e-1", &["pc-1"]), finished("e-1", "pc-1", 0)])
        .await;
    for (with_output, stdout, printed) in [
        (false, None, ""),
        (true, None, "e-1 on pc-1\n"),
        (false, like("pc-1"), ""),
        (true, like("pc"), "e-1 on pc-1\n"),
    ] {
        let query = RunQuery {
            with_output,
            stdout,
            limit: 9,
            ..RunQuery::default()
        };
        let page = world.store.runs(&query).await.unwrap();
        assert_eq!(page.items.len(), 1, "{query:?} finds the run");
        assert_eq!(page.items[0].output.stdout, printed, "{query:?}");
    }
}

pub async fn a_page_of_outputs_ends_at_four_mebibytes<F: StoreFactory>() {
    const EACH: usize = 1_000_000;
    let world = World::<F>::new().await;
    for number in 0..9 {
        let name = numbered("r", number);
        let large = if number == 4 { 5 * EACH } else { EACH };
        let said = ExecResult {
            stdout: "x".repeat(large / 2),
            stderr: "y".repeat(large / 2),
            started_at: secs(i64::try_from(number).unwrap()),
            ..ad_hoc(&name, "pc-1")
        };
        world.all([recorded(said)]).await;
    }
    let mut query = RunQuery {
        with_output: true,
        limit: 1000,
        ..RunQuery::default()
    };
    let mut pages = Vec::new();
    loop {
        let page = world.store.runs(&query).await.unwrap();
        let bytes: usize = page
            .items
            .iter()
            .map(|record| record.output.stdout.len() + record.output.stderr.len())
            .sum();
        assert!(
            page.items.len() <= 1 || bytes <= PAGE_BYTES,
            "{} runs of {bytes} bytes are one too many",
            page.items.len()
        );
        pages.push(page.items.len());
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    pages.retain(|items| *items > 0);
    assert_eq!(
        pages,
        [4, 1, 4],
        "pages are filled, and one that is too large comes alone"
    );
    let without = RunQuery {
        limit: 1000,
        ..RunQuery::default()
    };
    let page = world.store.runs(&without).await.unwrap();
    assert_eq!(page.items.len(), 9, "what is not printed takes no room");
}

pub async fn a_text_filter_looks_at_a_bounded_number_of_runs<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let needle = ExecResult {
        stdout: "needle".into(),
        started_at: secs(-1),
        ..result("needle", "needle", 0)
    };
    world.all([recorded(needle)]).await;
    // One row less than two pages may look at, beside the one that is looked for.
    let hay = 2 * SCAN_LIMIT - 1;
    for chunk in (0..hay).collect::<Vec<_>>().chunks(2000) {
        let sets = chunk.iter().map(|number| {
            let said = ExecResult {
                started_at: secs(i64::try_from(*number).unwrap()),
                ..ad_hoc(&numbered("r", *number), "pc-1")
            };
            ChangeSet::of(recorded(said))
        });
        world.apply(sets).await;
    }
    for (what, mut query) in [
        (
            "pc",
            RunQuery {
                pc_id: like("needle"),
                ..RunQuery::default()
            },
        ),
        (
            "stdout",
            RunQuery {
                stdout: like("^needle"),
                ..RunQuery::default()
            },
        ),
    ] {
        query.limit = 5;
        let first = world.store.runs(&query).await.unwrap();
        assert!(
            first.items.is_empty(),
            "{what}: the newest {SCAN_LIMIT} hold no match"
        );
        let next = first
            .next
            .expect("a page that ran out of budget says where to go on");
        query.after = Some(next);
        let second = world.store.runs(&query).await.unwrap();
        assert_eq!(second.items.len(), 1, "{what}: the next {SCAN_LIMIT} do");
        assert_eq!(second.items[0].run.pc_id.as_str(), "needle");
    }
    for (what, mut query) in [
        (
            "pc",
            RunQuery {
                pc_id: like("^needle$"),
                ..RunQuery::default()
            },
        ),
        (
            "execution",
            RunQuery {
                exec_id: like("^needle$"),
                ..RunQuery::default()
            },
        ),
        (
            "job",
            RunQuery {
                job_id: like("^backup$"),
                ..RunQuery::default()
            },
        ),
    ] {
        query.limit = 5;
        let page = world.store.runs(&query).await.unwrap();
        assert_eq!(
            page.items.len(),
            1,
            "{what}: a whole id is found by an index, however old the run is"
        );
    }
}

pub async fn a_filter_by_outcome_finds_old_runs_at_once<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            fire("e-1", &["pc-1", "pc-2"]),
            started("e-1", "pc-1"),
            ended("e-1", "pc-2", Ended::TimedOut),
        ])
        .await;
    for chunk in 0..6 {
        let sets = (chunk * 2000..chunk * 2000 + 2000).map(|number| {
            let said = ExecResult {
                started_at: secs(100),
                ..ad_hoc(&numbered("r", number), "pc-3")
            };
            ChangeSet::of(recorded(said))
        });
        world.apply(sets).await;
    }
    for (status, pc) in [(RunFilter::Running, "pc-1"), (RunFilter::Failure, "pc-2")] {
        let query = RunQuery {
            status: Some(status),
            limit: 5,
            ..RunQuery::default()
        };
        let page = world.store.runs(&query).await.unwrap();
        let found: Vec<_> = page
            .items
            .iter()
            .map(|record| record.run.pc_id.as_str())
            .collect();
        assert_eq!(
            found,
            [pc],
            "{status:?}: more than {SCAN_LIMIT} newer runs of another outcome are not in its way"
        );
    }
}

pub async fn runs_of_a_time_are_counted_by_how_they_went<F: StoreFactory>() {
    let world = some_runs::<F>().await;
    for (since, until, at_most, ended, failed, what) in [
        (0, None, 100, 8, 4, "all that ended or are lost, none that runs"),
        (4, None, 100, 4, 1, "since a moment, with it"),
        (9, None, 100, 0, 0, "since later than all"),
        (0, Some(4), 100, 4, 3, "until a moment, without it"),
        (4, Some(9), 100, 4, 1, "between two"),
        (4, Some(4), 100, 0, 0, "in no time"),
        (
            0,
            None,
            2,
            4,
            2,
            "so many at most of those that went well and of those that did not",
        ),
        (0, None, 0, 0, 0, "none"),
    ] {
        let tally = world
            .store
            .tally(secs(since), until.map(secs), at_most)
            .await
            .unwrap();
        assert_eq!(tally, RunTally { ended, failed }, "{what}");
    }
}
