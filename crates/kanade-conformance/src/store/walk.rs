//! Walks lists to their end, page by page, in pages so small that most lists span some and that page ends fall between
//! equals. A walk also checks the order of the list and that each page makes progress.

use std::{fmt::Debug, future::Future};

use kanade_model::{ExecId, JobId, TargetState, Timestamp};
use kanade_ports::{
    Agent, AuditQuery, AuditRecord, DeadLetterRecord, Execution, ExecutionQuery, ExecutionStore, Facts, Page,
    Position, RunQuery, RunRecord, Send, StoreError, TargetQuery, TargetRecord,
};

const PAGE: usize = 3;

/// Walks a list to its end. `read` gets the place to go on from; `place` says where an item stands.
pub(crate) async fn walk<T: Debug, R>(
    limit: usize,
    place: impl Fn(&T) -> Position,
    order: Direction,
    mut read: impl FnMut(Option<Position>) -> R,
) -> Vec<T>
where
    R: Future<Output = Result<Page<T>, StoreError>>,
{
    let mut items: Vec<T> = Vec::new();
    let mut after: Option<Position> = None;
    loop {
        let page = read(after.clone()).await.expect("a healthy store answers");
        assert!(page.items.len() <= limit, "a page of {limit} has no more items");
        for item in page.items {
            if let Some(last) = items.last() {
                assert!(
                    order.goes(&place(last), &place(&item)),
                    "{last:?} stands before {item:?}"
                );
            }
            items.push(item);
        }
        let Some(next) = page.next else { return items };
        if let Some(after) = &after {
            assert!(
                order.goes(after, &next),
                "a page makes progress: {after:?} to {next:?}"
            );
        }
        after = Some(next);
    }
}

/// Which way a list goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    Up,
    Down,
}

impl Direction {
    fn goes(self, from: &Position, to: &Position) -> bool {
        match self {
            Self::Up => from < to,
            Self::Down => from > to,
        }
    }
}

pub(crate) fn at(at: Timestamp, id: &impl ToString) -> Position {
    Position {
        at: at.as_micros(),
        id: id.to_string(),
    }
}

fn by_id(id: &impl ToString) -> Position {
    Position {
        at: 0,
        id: id.to_string(),
    }
}

fn by_number(number: i64) -> Position {
    Position {
        at: number,
        id: String::new(),
    }
}

/// Every execution that a query asks for; its page size and place are not looked at.
pub(crate) async fn executions(store: &dyn ExecutionStore, query: &ExecutionQuery) -> Vec<Execution> {
    let place = |execution: &Execution| at(execution.initiated_at, &execution.exec_id);
    walk(PAGE, place, Direction::Down, |after| {
        let query = ExecutionQuery {
            limit: PAGE,
            after,
            ..query.clone()
        };
        async move { store.executions(&query).await }
    })
    .await
}

/// Every run that a query asks for.
pub(crate) async fn runs(store: &dyn ExecutionStore, query: &RunQuery) -> Vec<RunRecord> {
    let place = |record: &RunRecord| at(record.run.started_at, &record.run.result_id);
    walk(PAGE, place, Direction::Down, |after| {
        let query = RunQuery {
            limit: PAGE,
            after,
            ..query.clone()
        };
        async move { store.runs(&query).await }
    })
    .await
}

/// Every audit entry that a query asks for.
pub(crate) async fn audit(store: &dyn ExecutionStore, query: &AuditQuery) -> Vec<AuditRecord> {
    let place = |record: &AuditRecord| by_number(record.id);
    walk(PAGE, place, Direction::Down, |after| {
        let query = AuditQuery {
            limit: PAGE,
            after: after.map(|after| by_number(after.at)),
            ..query.clone()
        };
        async move {
            let mut page = store.audit(&query).await?;
            page.next = page.next.map(|next| by_number(next.at));
            Ok(page)
        }
    })
    .await
}

/// Every target of an execution, or those in one state.
pub(crate) async fn targets(
    store: &dyn ExecutionStore,
    exec: &ExecId,
    state: Option<TargetState>,
) -> Vec<TargetRecord> {
    let place = |target: &TargetRecord| by_id(&target.pc_id);
    walk(PAGE, place, Direction::Up, |after| {
        let query = TargetQuery {
            exec_id: exec.clone(),
            state,
            limit: PAGE,
            after,
        };
        async move { ids_only(store.targets(&query).await) }
    })
    .await
}

pub(crate) async fn agents(store: &dyn ExecutionStore) -> Vec<Agent> {
    let place = |agent: &Agent| by_id(&agent.pc_id);
    walk(PAGE, place, Direction::Up, |after| async move {
        ids_only(store.agents(after.as_ref(), PAGE).await)
    })
    .await
}

pub(crate) async fn facts_by(store: &dyn ExecutionStore, job: &JobId) -> Vec<Facts> {
    let place = |facts: &Facts| by_id(&facts.pc_id);
    walk(PAGE, place, Direction::Up, |after| async move {
        ids_only(store.facts_by(job, after.as_ref(), PAGE).await)
    })
    .await
}

pub(crate) async fn dead_letters(store: &dyn ExecutionStore) -> Vec<DeadLetterRecord> {
    let place = |record: &DeadLetterRecord| by_number(record.id);
    walk(PAGE, place, Direction::Down, |after| async move {
        let mut page = store.dead_letters(after.as_ref(), PAGE).await?;
        page.next = page.next.map(|next| by_number(next.at));
        Ok(page)
    })
    .await
}

pub(crate) async fn due_sends(store: &dyn ExecutionStore) -> Vec<Send> {
    let place = |send: &Send| at(send.due_at, &send.send_id);
    walk(PAGE, place, Direction::Up, |after| async move {
        let items = store.due_sends(after.as_ref(), PAGE).await?;
        let next = items.last().filter(|_| items.len() == PAGE).map(place);
        Ok(Page { items, next })
    })
    .await
}

/// Where only the id sorts, the rest of a place says nothing.
fn ids_only<T>(page: Result<Page<T>, StoreError>) -> Result<Page<T>, StoreError> {
    let mut page = page?;
    page.next = page.next.map(|next| by_id(&next.id));
    Ok(page)
}
