//! A reader of one run's output. It keeps only its place, so a slow one costs nothing and is told what it has missed.

use std::{fmt, future::Future, pin::Pin, str::FromStr, sync::Arc, time::Duration};

use kanade_model::{Invalid, OutputChunk, OutputStream, RunState, api::OutputEvent};
use kanade_ports::{Output, Run, RunRecord};
use tokio::sync::watch;

use super::{Outputs, RunOf};
use crate::error::chain;

/// The longest text that stored output is told in, in bytes.
const PIECE: usize = 16 * 1024;
/// The store is asked whether the run has ended whenever that is heard, and this often: another server may have recorded
/// it.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long after the end of a run its last words are waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Up to where a reader has been told. As text it is for the reader to give back, and means nothing to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Whether it is a place in the stored output.
    is_stored: bool,
    /// The piece that was told last.
    seq: u64,
    /// Up to where each stream has been told or passed over.
    stdout: u64,
    stderr: u64,
}

/// What a reader is told, and where it is then; nowhere after the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What happened.
    pub event: OutputEvent,
    /// The place after it.
    pub place: Option<Place>,
}

/// A reader of one run's output.
pub struct Following {
    outputs: Outputs,
    /// As far as it is known.
    run: Run,
    of: RunOf,
    place: Option<Place>,
    /// Whether nothing is missing so far.
    complete: bool,
    phase: Phase,
}

enum Phase {
    /// It has not ended, as far as is known.
    Running(watch::Receiver<()>),
    /// It has ended, and its last words may be on their way.
    Ending(watch::Receiver<()>, Pin<Box<dyn Future<Output = ()> + Send>>),
    /// Nothing more is heard; what is stored is told.
    Stored(Output),
    End,
    Over,
}

impl Following {
    pub(super) fn new(outputs: Outputs, record: RunRecord, after: Option<Place>) -> Self {
        let RunRecord { run, output } = record;
        let of = (run.pc_id.clone(), run.result_id);
        let is_final = run.state != RunState::Running;
        let phase = match after {
            // Who has been told of live output goes on with that.
            Some(place) if is_final && !place.is_stored && outputs.heard().has_some(&of) => {
                Self::last_words(&outputs, &of)
            }
            Some(place) if is_final && !place.is_stored => Phase::End,
            _ if is_final => Phase::Stored(output),
            _ => Phase::Running(outputs.changes(&of)),
        };
        // Where it ends at once, nobody knows what came after that place.
        let complete = !matches!(phase, Phase::End);
        Self {
            outputs,
            run,
            of,
            place: after.filter(|place| is_final || !place.is_stored),
            complete,
            phase,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running(_))
    }

    /// What is told next; nothing after the end. Dropping the returned future loses nothing.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            let wanted = self.wanted();
            if let Phase::Running(_) | Phase::Ending(..) = &self.phase {
                let chunk = self.outputs.heard().next(&self.of, wanted);
                if let Some(chunk) = chunk {
                    if let Some(told) = self.tell(&chunk) {
                        return Some(told);
                    }
                    continue;
                }
            }
            match &mut self.phase {
                Phase::Running(changes) => {
                    let clock = &self.outputs.0.clock;
                    tokio::select! {
                        changed = changes.changed() => {
                            if changed.is_err() {
                                // What was kept had to give way. There may be more.
                                *changes = self.outputs.changes(&self.of);
                            } else if !self.outputs.heard().has_ended(&self.of) {
                                continue;
                            }
                        }
                        () = clock.sleep(LOOK_AGAIN) => {}
                    }
                    self.look().await;
                }
                Phase::Ending(changes, over) => {
                    let is_through = self.outputs.heard().is_through(&self.of, wanted);
                    let is_over = is_through || {
                        tokio::select! {
                            changed = changes.changed() => changed.is_err(),
                            () = over => true,
                        }
                    };
                    if is_over {
                        self.complete &= is_through;
                        self.phase = Phase::End;
                    }
                }
                Phase::Stored(output) => {
                    let piece = piece(output, self.place.unwrap_or_default());
                    let Some((stream, text)) = piece else {
                        self.phase = Phase::End;
                        continue;
                    };
                    let text = text.to_owned();
                    return Some(self.told(true, wanted, stream, text, 0));
                }
                Phase::End => {
                    self.phase = Phase::Over;
                    let event = OutputEvent::End {
                        result_id: self.run.result_id,
                        state: self.run.state,
                        exit_code: self.run.exit_code,
                        finished_at: self.run.finished_at,
                        complete: self.complete,
                    };
                    return Some(Told { event, place: None });
                }
                Phase::Over => return None,
            }
        }
    }

    /// The number of the next piece.
    fn wanted(&self) -> u64 {
        self.place.map_or(0, |place| place.seq.saturating_add(1))
    }

    /// Asks the store whether the run has ended.
    pub(super) async fn look(&mut self) {
        match self.outputs.0.store.run(&self.run.result_id).await {
            Ok(Some(RunRecord { run, .. })) if run.state == RunState::Running => {}
            Ok(Some(RunRecord { run, output })) => {
                self.run = run;
                let heard_nothing = self.place.is_none() && !self.outputs.heard().has_some(&self.of);
                self.phase = if heard_nothing {
                    Phase::Stored(output)
                } else {
                    Self::last_words(&self.outputs, &self.of)
                };
            }
            // It is too long ago.
            Ok(None) => self.phase = Phase::Over,
            Err(error) => {
                tracing::debug!(run = %self.run.result_id, error = %chain(&error), "cannot ask whether a run has ended");
            }
        }
    }

    fn last_words(outputs: &Outputs, of: &RunOf) -> Phase {
        let clock = Arc::clone(&outputs.0.clock);
        let over = async move { clock.sleep(LAST_WORDS).await };
        Phase::Ending(outputs.changes(of), Box::pin(over))
    }

    /// Tells a chunk; nothing where it says nothing.
    fn tell(&mut self, chunk: &OutputChunk) -> Option<Told> {
        let from = self.place.unwrap_or_default().of(chunk.stream);
        let dropped = chunk.offset.saturating_sub(from);
        self.complete &= dropped == 0;
        let told = self.told(false, chunk.seq, chunk.stream, chunk.text.clone(), dropped);
        (dropped > 0 || !chunk.text.is_empty()).then_some(told)
    }

    fn told(&mut self, is_stored: bool, seq: u64, stream: OutputStream, text: String, dropped: u64) -> Told {
        let mut place = self.place.unwrap_or_default();
        (place.is_stored, place.seq) = (is_stored, seq);
        let at = match stream {
            OutputStream::Stdout => &mut place.stdout,
            OutputStream::Stderr => &mut place.stderr,
        };
        *at = at.saturating_add(dropped).saturating_add(text.len() as u64);
        self.place = Some(place);
        Told {
            event: OutputEvent::Output {
                seq,
                stream,
                text,
                dropped,
            },
            place: self.place,
        }
    }
}

/// The next piece of what is stored.
fn piece(output: &Output, place: Place) -> Option<(OutputStream, &str)> {
    let texts = [
        (OutputStream::Stdout, &output.stdout),
        (OutputStream::Stderr, &output.stderr),
    ];
    texts.into_iter().find_map(|(stream, text)| {
        let from = usize::try_from(place.of(stream)).unwrap_or(usize::MAX);
        let rest = &text[text.floor_char_boundary(from)..];
        let piece = &rest[..rest.floor_char_boundary(PIECE)];
        (!piece.is_empty()).then_some((stream, piece))
    })
}

impl Place {
    fn of(self, stream: OutputStream) -> u64 {
        match stream {
            OutputStream::Stdout => self.stdout,
            OutputStream::Stderr => self.stderr,
        }
    }
}

const STORED: &str = "stored.";

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = if self.is_stored { STORED } else { "" };
        write!(f, "{source}{}.{}.{}", self.seq, self.stdout, self.stderr)
    }
}

impl FromStr for Place {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let stored = text.strip_prefix(STORED);
        let numbers: Option<Vec<u64>> = stored
            .unwrap_or(text)
            .split('.')
            .map(|number| number.parse().ok())
            .collect();
        match numbers.as_deref() {
            Some(&[seq, stdout, stderr]) => Ok(Self {
                is_stored: stored.is_some(),
                seq,
                stdout,
                stderr,
            }),
            _ => Err(Invalid::new(
                "Last-Event-ID",
                text,
                "the id of an event of this stream is wanted, as it came",
            )),
        }
    }
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following")
            .field("run", &self.run.result_id)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written_and_nothing_else_is() {
        for text in ["17.4096.0", "stored.0.16384.7"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in ["", "17", "1.2", "1.2.3.4", "a.2.3", "-1.2.3", "stored.", "end"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn stored_output_is_cut_between_characters_wherever_a_reader_is() {
        let output = Output {
            stdout: "€".repeat(PIECE),
            stderr: "why".into(),
        };
        for begin in [0, 1, 4, 7] {
            let mut place = Place {
                stdout: begin,
                ..Place::default()
            };
            let mut whole = String::new();
            while let Some((OutputStream::Stdout, text)) = piece(&output, place) {
                assert!(text.len() <= PIECE);
                whole.push_str(text);
                place.stdout = begin - begin % 3 + whole.len() as u64;
            }
            assert_eq!(whole.chars().count(), PIECE - usize::try_from(begin / 3).unwrap());
            assert_eq!(piece(&output, place), Some((OutputStream::Stderr, "why")));
            place.stderr = 3;
            assert_eq!(piece(&output, place), None);
            place.stderr = u64::MAX;
            assert_eq!(piece(&output, place), None);
        }
    }
}
