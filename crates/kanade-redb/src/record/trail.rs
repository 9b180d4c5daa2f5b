//! Audit entries, dead letters, idempotency keys and marks.

use kanade_model::{AuditEvent, Timestamp};
use kanade_ports::{AuditRecord, DeadLetter, DeadLetterRecord, KeyRecord};
use redb::TableDefinition;
use uuid::Uuid;

use crate::{
    key::{Key, Parts},
    table::{Definition, List, Record},
};

impl Record for AuditRecord {
    const NAME: &'static str = "audit entry";
    const ROWS: Definition = TableDefinition::new("audit");
    const LISTS: Option<Definition> = Some(TableDefinition::new("audit_lists"));

    fn key(&self) -> Key {
        Key::new().number(self.id)
    }

    fn places(&self) -> Vec<Key> {
        let mut places = vec![
            audit_by(&self.event.actor).name(),
            old_audit().name().moment(self.event.occurred_at),
        ];
        places.extend(self.event.event_id.map(|id| audit_of_event(id).name()));
        places
    }

    fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&self.event)
    }

    fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        Some(Self {
            id: Parts(key).number()?,
            event: serde_json::from_slice::<AuditEvent>(value).ok()?,
        })
    }
}

/// Entries of an actor, by number.
pub(crate) fn audit_by(actor: &str) -> List {
    List::by_key(Key::list(0).text(actor))
}

/// Every entry, by the time it tells of.
pub(crate) fn old_audit() -> List {
    List::by_moment(Key::list(1))
}

/// The entry of an event.
pub(crate) fn audit_of_event(id: Uuid) -> List {
    List::by_key(Key::list(2).uuid(id))
}

impl Record for DeadLetterRecord {
    const NAME: &'static str = "dead letter";
    const ROWS: Definition = TableDefinition::new("dead_letters");
    const LISTS: Option<Definition> = Some(TableDefinition::new("dead_letter_lists"));

    fn key(&self) -> Key {
        Key::new().number(self.id)
    }

    fn places(&self) -> Vec<Key> {
        vec![old_letters().name().moment(self.letter.at)]
    }

    fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&self.letter)
    }

    fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        Some(Self {
            id: Parts(key).number()?,
            letter: serde_json::from_slice::<DeadLetter>(value).ok()?,
        })
    }
}

/// Every dead letter, by the time it was set aside.
pub(crate) fn old_letters() -> List {
    List::by_moment(Key::list(0))
}

/// An idempotency key and what it led to.
pub(crate) struct KeptKey {
    pub(crate) key: String,
    pub(crate) record: KeyRecord,
}

impl Record for KeptKey {
    const NAME: &'static str = "idempotency key";
    const ROWS: Definition = TableDefinition::new("keys");
    const LISTS: Option<Definition> = Some(TableDefinition::new("key_lists"));

    fn key(&self) -> Key {
        kept_key(&self.key)
    }

    fn places(&self) -> Vec<Key> {
        vec![old_keys().name().moment(self.record.at)]
    }

    fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&self.record)
    }

    fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        Some(Self {
            key: Parts(key).last()?.to_owned(),
            record: serde_json::from_slice(value).ok()?,
        })
    }
}

pub(crate) fn kept_key(key: &str) -> Key {
    Key::new().last(key)
}

/// Every idempotency key, by the time it was used.
pub(crate) fn old_keys() -> List {
    List::by_moment(Key::list(0))
}

/// Something that has happened, and when.
pub(crate) struct Mark {
    pub(crate) name: String,
    pub(crate) at: Timestamp,
}

impl Record for Mark {
    const NAME: &'static str = "mark";
    const ROWS: Definition = TableDefinition::new("marks");
    const LISTS: Option<Definition> = None;

    fn key(&self) -> Key {
        mark(&self.name)
    }

    fn places(&self) -> Vec<Key> {
        Vec::new()
    }

    fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&self.at)
    }

    fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        Some(Self {
            name: Parts(key).last()?.to_owned(),
            at: serde_json::from_slice(value).ok()?,
        })
    }
}

pub(crate) fn mark(name: &str) -> Key {
    Key::new().last(name)
}
