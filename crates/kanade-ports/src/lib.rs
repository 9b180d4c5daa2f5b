//! The ports of kanade: where state lives ([`ExecutionStore`], [`Catalog`]), how messages travel ([`Bus`]), what
//! time it is ([`Clock`]). No driver and no web framework is known here.
//!
//! What a change *means* is written once, in [`WorkingSet`]: a backend loads the rows that a batch of
//! [`ChangeSet`]s [needs](Needs), lets the working set apply them, and writes what changed, all in one durable
//! transaction of its own.

mod bus;
mod catalog;
mod change;
mod clock;
mod course;
mod error;
pub mod frame;
mod kill;
mod mailbox;
mod pace;
mod page;
mod query;
mod record;
mod releases;
mod resources;
mod retained;
mod run;
mod seal;
mod slot;
mod steering;
mod store;
mod transition;
mod working;

pub use bus::{
    Batch, Bus, BusError, BusErrorKind, Consumer, Durable, Message, MessageId, PubSub, Subscription,
};
pub use catalog::{
    Bucket, Catalog, CatalogEvent, CatalogReader, CatalogStream, Entry, Key, Precondition, Revision,
};
pub use change::{
    Change, ChangeSet, Forget, IdempotencyKey, NewExecution, NewTarget, Outcome, PastExecution, Standing,
};
pub use clock::{Clock, Ids, SystemClock, SystemIds};
pub use course::{Abort, Course, GateRecord, Hold, Pace, Pause, Retrying, Verdict, WaveRecord, judge};
pub use error::{ErrorKind, StoreError};
pub use mailbox::{Inbox, Mailbox, Put, mailbox};
pub use page::{Page, PageBuilder, Position, Progress};
pub use query::{
    AuditQuery, ExecutionQuery, MAX_LIMIT, PAGE_BYTES, RunFilter, RunQuery, SCAN_LIMIT, TargetQuery,
    TextFilter,
};
pub use record::{
    Addressee, Agent, AuditRecord, Counts, DeadLetter, DeadLetterRecord, Execution, Facts, KeyRecord, Kill,
    Limits, LiveCount, Order, Output, RetentionCut, Run, RunRecord, RunTally, Send, SendState, TargetRecord,
};
pub use releases::{Measure, Program, Release, ReleaseReader, Releases};
pub use resources::{Resource, ResourceKind, Resources};
pub use retained::{RetainedCommand, RetainedCommands, RetainedEvent, Sequence};
pub use seal::{KeyKeeper, OrderParams, SealingKey};
pub use slot::{ScheduleCursor, SlotQuery, SlotRecord, Success};
pub use store::ExecutionStore;
pub use working::{Needs, Row, Rows, WorkingSet};
