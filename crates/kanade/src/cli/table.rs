//! Tables and lists of fields, fitted to the terminal; the colour of a text says how well things are.

use anstyle::{AnsiColor, Style};
use comfy_table::{Attribute, Color, ColumnConstraint, ContentArrangement, Width, presets};
use kanade_model::{ExecutionStatus, Receipt, RunState, TargetState};

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// As any text.
    Plain,
    /// As wished.
    Good,
    /// Not as wished.
    Bad,
    /// Under way.
    Busy,
    /// Neither, but to be looked at.
    Odd,
}

impl Tone {
    pub(super) fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Busy => AnsiColor::Cyan.on_default(),
            Self::Odd => AnsiColor::Yellow.on_default(),
        }
    }

    fn color(self) -> Option<Color> {
        match self {
            Self::Plain => None,
            Self::Good => Some(Color::Green),
            Self::Bad => Some(Color::Red),
            Self::Busy => Some(Color::Cyan),
            Self::Odd => Some(Color::Yellow),
        }
    }
}

impl From<TargetState> for Tone {
    fn from(state: TargetState) -> Self {
        match state {
            TargetState::Succeeded => Self::Good,
            TargetState::Waiting | TargetState::Running => Self::Busy,
            TargetState::Failed | TargetState::TimedOut | TargetState::Lost => Self::Bad,
            TargetState::Killed
            | TargetState::Refused
            | TargetState::Superseded
            | TargetState::Withdrawn
            | TargetState::Expired => Self::Odd,
        }
    }
}

impl From<RunState> for Tone {
    fn from(state: RunState) -> Self {
        TargetState::from(state).into()
    }
}

impl From<ExecutionStatus> for Tone {
    fn from(status: ExecutionStatus) -> Self {
        match status {
            ExecutionStatus::Pending | ExecutionStatus::Running => Self::Busy,
            ExecutionStatus::Completed => Self::Plain,
            ExecutionStatus::Killed | ExecutionStatus::Expired => Self::Odd,
        }
    }
}

impl From<Receipt> for Tone {
    fn from(receipt: Receipt) -> Self {
        match receipt {
            Receipt::Requested | Receipt::Delivered => Self::Busy,
            Receipt::Confirmed => Self::Good,
            Receipt::Finished => Self::Plain,
            Receipt::Unreachable => Self::Bad,
        }
    }
}

/// One field of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Tone,
}

impl Cell {
    pub(super) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: one_line(text.into()),
            tone,
        }
    }

    /// A state in its colour.
    pub(super) fn state<S: Copy + ToString + Into<Tone>>(state: S) -> Self {
        Self::toned(state.to_string(), state.into())
    }

    /// A value, or a dash where there is none.
    pub(super) fn maybe(value: Option<impl ToString>) -> Self {
        value.map_or_else(|| Self::from("-"), Self::from)
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text.to_string(), Tone::Plain)
    }
}

/// A text without anything that moves the cursor: what agents print must not reach the terminal as commands.
pub(super) fn one_line(text: String) -> String {
    if !text.chars().any(char::is_control) {
        return text;
    }
    let spaced: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The beginning of a text, with a sign that more follows.
pub(super) fn shortened(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The spaces between two columns.
const GAP: u16 = 2;
/// No column is made narrower than this.
const NARROW: u16 = 16;

/// A table as text, `width` columns wide at most where that is known and can be. What stands in the first column and
/// in narrow ones is never broken: ids are there to be copied.
pub(super) fn table(heads: &[&str], rows: Vec<Vec<Cell>>, colors: bool, width: Option<u16>) -> String {
    let mut table = comfy_table::Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(heads.iter().map(|head| {
            let head = comfy_table::Cell::new(head);
            if colors {
                head.add_attribute(Attribute::Bold)
            } else {
                head
            }
        }));
    for row in rows {
        table.add_row(
            row.into_iter()
                .map(|cell| match cell.tone.color().filter(|_| colors) {
                    Some(color) => comfy_table::Cell::new(cell.text).fg(color),
                    None => comfy_table::Cell::new(cell.text),
                }),
        );
    }
    if colors {
        table.enforce_styling().style_text_only();
    } else {
        table.force_no_tty();
    }
    table.set_content_arrangement(ContentArrangement::Disabled);
    let wanted = table.column_max_content_widths();
    let given = width.map_or_else(|| wanted.clone(), |width| fitted(&wanted, width));
    for (column, width) in table.column_iter_mut().zip(given) {
        column
            .set_padding((0, GAP))
            .set_constraint(ColumnConstraint::Absolute(Width::Fixed(width + GAP)));
    }
    table.trim_fmt()
}

/// The widths that columns get out of those they want, so that all fit into `width` if they can: the widest gives way
/// first.
fn fitted(wanted: &[u16], width: u16) -> Vec<u16> {
    let mut given = wanted.to_vec();
    let gaps = usize::from(GAP) * wanted.len().saturating_sub(1);
    loop {
        let taken = given.iter().map(|width| usize::from(*width)).sum::<usize>() + gaps;
        if taken <= usize::from(width) {
            return given;
        }
        match given.iter_mut().skip(1).filter(|width| **width > NARROW).max() {
            Some(widest) => *widest -= 1,
            None => return given,
        }
    }
}

/// Labels and values below each other; lines that belong together stay together.
pub(super) fn fields(fields: &[(&str, Cell)], colors: bool) -> String {
    let width = fields
        .iter()
        .map(|(label, _)| label.chars().count())
        .max()
        .unwrap_or(0);
    let lines: Vec<String> = fields
        .iter()
        .map(|(label, cell)| {
            let style = if colors { cell.tone.style() } else { Style::new() };
            format!("{label:width$}  {style}{}{style:#}", cell.text)
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec![
                Cell::from("pc-1"),
                Cell::state(TargetState::Failed),
                Cell::from("a b c d e f g h i j k l m n"),
            ],
            vec![
                Cell::from("a-longer-name"),
                Cell::state(TargetState::Succeeded),
                Cell::maybe(None::<u8>),
            ],
        ]
    }

    #[test]
    fn columns_line_up_and_no_line_ends_in_spaces() {
        let text = table(&["PC", "STATE", "SAID"], rows(), false, None);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "PC             STATE      SAID");
        assert_eq!(lines[1], "pc-1           failed     a b c d e f g h i j k l m n");
        assert_eq!(lines[2], "a-longer-name  succeeded  -");
    }

    #[test]
    fn a_narrow_terminal_gets_a_narrow_table() {
        let text = table(&["PC", "STATE", "SAID"], rows(), false, Some(44));
        assert!(text.lines().all(|line| line.chars().count() <= 44), "{text}");
        assert_eq!(text.lines().count(), 4, "what does not fit goes on below: {text}");
    }

    #[test]
    fn the_widest_column_gives_way_first_and_ids_never() {
        for (wanted, width, given) in [
            (&[36, 8, 60][..], 200, &[36, 8, 60][..]),
            (&[36, 8, 60], 80, &[36, 8, 32]),
            (&[36, 40, 60], 100, &[36, 30, 30]),
            (&[36, 8, 60], 40, &[36, 8, 16]),
            (&[36], 10, &[36]),
            (&[], 10, &[]),
        ] {
            assert_eq!(fitted(wanted, width), given, "{wanted:?} in {width}");
        }
    }

    #[test]
    fn colours_are_there_only_when_wanted() {
        assert!(table(&["PC", "STATE", "SAID"], rows(), true, None).contains("\u{1b}["));
        assert!(!table(&["PC", "STATE", "SAID"], rows(), false, None).contains('\u{1b}'));
        let lines = [("state", Cell::state(TargetState::Lost))];
        assert!(fields(&lines, true).contains("\u{1b}[31mlost"));
        assert_eq!(fields(&lines, false), "state  lost");
    }

    #[test]
    fn what_an_agent_prints_cannot_move_the_cursor() {
        assert_eq!(Cell::from("a\n\u{1b}[2Jb\tc\r").text, "a [2Jb c");
        assert_eq!(shortened("ünïcode", 3), "ünï…");
        assert_eq!(shortened("short", 5), "short");
    }
}
