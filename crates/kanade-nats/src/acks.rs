//! What JetStream says of a message in the subject that it is acknowledged on.

/// Where a message stands, from the subject of its acknowledgement:
/// `$JS.ACK.[domain.account.]stream.consumer.deliveries.stream_sequence.consumer_sequence.time.pending[.token]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its number in the stream, which is the same each time it is delivered.
    pub(crate) stream: u64,
    /// Its number among what this consumer was sent.
    pub(crate) consumer: u64,
    /// How many more there are for this consumer.
    pub(crate) pending: u64,
}

impl Place {
    /// Reads the subject; `None` when it is none of JetStream's.
    pub(crate) fn of(subject: &str) -> Option<Self> {
        let tokens: Vec<&str> = subject.strip_prefix("$JS.ACK.")?.split('.').collect();
        let numbers = match tokens.len() {
            7 => &tokens[3..],
            9.. => &tokens[5..],
            _ => return None,
        };
        Some(Self {
            stream: numbers[0].parse().ok()?,
            consumer: numbers[1].parse().ok()?,
            pending: numbers[3].parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let wanted = Some(Place {
            stream: 11,
            consumer: 22,
            pending: 33,
        });
        assert_eq!(Place::of("$JS.ACK.KV_jobs.c.1.11.22.1700000000000.33"), wanted);
        assert_eq!(
            Place::of("$JS.ACK._.hash.KV_jobs.c.1.11.22.1700000000000.33"),
            wanted
        );
        assert_eq!(
            Place::of("$JS.ACK.hub.hash.KV_jobs.c.1.11.22.1700000000000.33.token"),
            wanted
        );
        for other in ["", "_INBOX.x", "$JS.ACK.s.c.1.2", "$JS.ACK.s.c.1.x.2.3.4"] {
            assert_eq!(Place::of(other), None, "{other}");
        }
    }
}
